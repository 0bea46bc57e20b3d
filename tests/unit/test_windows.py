"""Windows cover the whole span, newest first, without a gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from models.rules.windows import MOST_WINDOWS, SHORTEST_WINDOW, cut

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_nothing_and_little_are_one_open_window() -> None:
    assert cut(None, NOW) == [(None, NOW)]
    assert cut(NOW - SHORTEST_WINDOW, NOW) == [(None, NOW)]


@given(st.timedeltas(timedelta(0), timedelta(days=9_000)))
def test_windows_cover_the_span_newest_first_without_gap_or_overlap(age: timedelta) -> None:
    windows = cut(NOW - age, NOW)
    assert 1 <= len(windows) <= MOST_WINDOWS
    assert windows[0][1] == NOW
    assert windows[-1][0] is None
    for newer, older in pairwise(windows):
        assert newer[0] == older[1]
        assert newer[0] is not None
        assert newer[0] < NOW
