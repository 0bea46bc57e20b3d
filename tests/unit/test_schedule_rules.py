"""Ticks of schedules: time zones, missed ones, and the days on which daylight saving skips or repeats an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UsageError
from models.rules.schedule import MOST_TICKS, check_cron, due_ticks, next_tick


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # parts of a date


def test_cron_is_read_in_its_time_zone() -> None:
    assert next_tick("0 9 * * *", "Europe/Berlin", utc(2026, 1, 10, 0)) == utc(2026, 1, 10, 8)
    assert next_tick("0 9 * * *", "Europe/Berlin", utc(2026, 7, 10, 0)) == utc(2026, 7, 10, 7)


def test_an_hour_that_is_skipped_runs_once_that_day_and_one_that_is_repeated_runs_once() -> None:
    spring = due_ticks(
        "30 2 * * *", "Europe/Berlin", last=utc(2026, 3, 28, 1, 30), now=utc(2026, 3, 30, 12), catch_up="all"
    )
    assert [tick.date().isoformat() for tick in spring] == ["2026-03-29", "2026-03-30"]
    autumn = due_ticks(
        "30 2 * * *", "Europe/Berlin", last=utc(2026, 10, 24, 12), now=utc(2026, 10, 25, 12), catch_up="all"
    )
    assert autumn == [utc(2026, 10, 25, 0, 30)]


def test_every_hour_is_every_hour_also_when_the_clocks_change() -> None:
    for start in (utc(2026, 3, 28, 22), utc(2026, 10, 24, 22)):
        ticks = due_ticks("0 * * * *", "Europe/Berlin", last=start, now=start + timedelta(hours=10), catch_up="all")
        assert ticks == [start + timedelta(hours=hour) for hour in range(1, 11)]


def test_missed_ticks_follow_the_rule() -> None:
    last, now = utc(2026, 1, 1), utc(2026, 1, 1, 3, 30)
    run = {rule: due_ticks("0 * * * *", "UTC", last=last, now=now, catch_up=rule) for rule in ("none", "last", "all")}
    assert run == {
        "none": [],
        "last": [utc(2026, 1, 1, 3)],
        "all": [utc(2026, 1, 1, 1), utc(2026, 1, 1, 2), utc(2026, 1, 1, 3)],
    }
    on_time = due_ticks("0 * * * *", "UTC", last=last, now=utc(2026, 1, 1, 1, 0, 2), catch_up="none")
    assert on_time == [utc(2026, 1, 1, 1)]


def test_a_year_of_missed_minutes_is_bounded() -> None:
    ticks = due_ticks("* * * * *", "UTC", last=utc(2026, 1, 1), now=utc(2026, 1, 3), catch_up="all")
    assert len(ticks) == MOST_TICKS
    assert ticks[-1] == utc(2026, 1, 3)


@given(
    st.datetimes(utc(2025, 1, 1).replace(tzinfo=None), utc(2027, 1, 1).replace(tzinfo=None)),
    st.sampled_from(["*/7 * * * *", "15 3 * * 1-5"]),
)
def test_the_next_tick_is_always_later(moment: datetime, cron: str) -> None:
    after = moment.replace(tzinfo=UTC)
    assert next_tick(cron, "America/New_York", after) > after


@pytest.mark.parametrize(("cron", "zone"), [("61 * * * *", "UTC"), ("often", "UTC"), ("* * * * *", "Mars/Base")])
def test_nonsense_is_refused_with_a_sentence(cron: str, zone: str) -> None:
    with pytest.raises(UsageError, match="is no"):
        check_cron(cron, zone)
