"""Paging by position while the result changes under the reader, on a model of a search."""

from __future__ import annotations

import bisect
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.jira.api import OVERLAP_ROWS_COUNT, Row, Rows
from connectors.jira.positions import joined_pages
from models.errors import TransientSourceError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Result:
    """The result of a search: numbers in order, of which some leave and others come in between two reads."""

    def __init__(self, size: int, rows_count: int, seed: int, leave_ratio: float, join_ratio: float) -> None:
        self.rows = [2 * number for number in range(size)]
        self.untouched = set(self.rows)
        self.reads_count = 0
        self._rows_count = rows_count
        self._dice = random.Random(seed)
        self._leave_ratio, self._join_ratio = leave_ratio, join_ratio
        self._lock = threading.Lock()

    def read(self, start: int) -> Rows:
        with self._lock:
            self.reads_count += 1
            page = self.rows[start : start + self._rows_count]
            rows = [Row(str(number), b"", None) for number in page]
            found = Rows(asked_at=NOW, rows=rows, start=start, total=len(self.rows))
            self._change()
            return found

    def _change(self) -> None:
        while self.rows and self._dice.random() < self._leave_ratio:
            gone = self.rows.pop(self._dice.randrange(len(self.rows)))
            self.untouched.discard(gone)
        while self._dice.random() < self._join_ratio:
            bisect.insort(self.rows, self._dice.randrange(4000) * 2 + 1)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def read_all(result: Result, pool: ThreadPoolExecutor) -> list[int]:
    return [int(one) for _, new in joined_pages(result.read, pool) for one in new]


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 17, 18, 300])
def test_a_result_that_stands_still_is_read_once(size: int, pool: ThreadPoolExecutor) -> None:
    result = Result(size, rows_count=10, seed=1, leave_ratio=0, join_ratio=0)

    read = read_all(result, pool)

    assert sorted(read) == result.rows
    assert result.reads_count == max(1, -(-(size - OVERLAP_ROWS_COUNT) // (10 - OVERLAP_ROWS_COUNT)))


@settings(max_examples=300, deadline=None)
@given(
    size=st.integers(0, 400),
    rows_count=st.integers(OVERLAP_ROWS_COUNT + 1, 40),
    seed=st.integers(0, 2**32),
    leave_ratio=st.floats(0, 0.9),
    join_ratio=st.floats(0, 0.9),
)
def test_nothing_that_is_there_all_along_is_missed_and_nothing_comes_twice(
    size: int, rows_count: int, seed: int, leave_ratio: float, join_ratio: float
) -> None:
    result = Result(size, rows_count, seed, leave_ratio, join_ratio)
    with ThreadPoolExecutor(4) as pool:
        try:
            read = read_all(result, pool)
        except TransientSourceError:
            return  # it says that it cannot; what it must not do is to fall short in silence

    assert len(read) == len(set(read))
    assert result.untouched <= set(read)


def test_five_changes_in_three_reads_are_kept_up_with(pool: ThreadPoolExecutor) -> None:
    for seed in range(50):
        result = Result(2000, rows_count=100, seed=seed, leave_ratio=0.62, join_ratio=0.62)

        assert result.untouched <= set(read_all(result, pool))


def test_a_thousand_rows_that_leave_at_once_in_front_of_the_reader_hide_none_behind_them(
    pool: ThreadPoolExecutor,
) -> None:
    result = Result(3000, rows_count=100, seed=1, leave_ratio=0, join_ratio=0)
    pages = joined_pages(result.read, pool)
    read = {int(one) for _, new in (next(pages) for _ in range(15)) for one in new}

    del result.rows[200:1200]
    read |= {int(one) for _, new in pages for one in new}

    assert set(result.rows) <= read


def test_what_was_interrupted_goes_on_where_it_was_though_rows_have_left_since(pool: ThreadPoolExecutor) -> None:
    result = Result(1000, rows_count=100, seed=1, leave_ratio=0, join_ratio=0)
    page, _ = next(joined_pages(result.read, pool, start=400, anchors=("800",)))
    anchors = tuple(row.external_id for row in page.rows[-OVERLAP_ROWS_COUNT:])
    del result.rows[100:350]
    result.reads_count = 0

    resumed = joined_pages(result.read, pool, start=page.end - OVERLAP_ROWS_COUNT, anchors=anchors)
    read = {int(one) for _, new in resumed for one in new}

    assert {number for number in result.rows if number > int(anchors[-1])} <= read
    assert result.reads_count < 15


def test_a_result_that_never_stands_still_is_given_up(pool: ThreadPoolExecutor) -> None:
    def read(start: int) -> Rows:
        return Rows(asked_at=NOW, rows=[Row(str(random.random()), b"", None)] * 10, start=start, total=1000)

    with pytest.raises(TransientSourceError, match="changes faster than it can be read"):
        list(joined_pages(read, pool))


def test_a_server_that_gives_fewer_rows_than_asked_for_is_followed(pool: ThreadPoolExecutor) -> None:
    result = Result(1000, rows_count=50, seed=1, leave_ratio=0, join_ratio=0)  # asked for 100 or 5,000, gives 50

    assert sorted(read_all(result, pool)) == result.rows
