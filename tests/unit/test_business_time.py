"""Business time keeps its laws on every calendar, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UsageError
from models.measures.business_time import ALWAYS, Calendar, add_business_seconds, business_seconds, calendar_of

HOUR = 3_600
OFFICE = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
BERLIN = calendar_of("Europe/Berlin", OFFICE, frozenset({date(2025, 5, 1)}))
OFFICE_UTC = calendar_of("UTC", OFFICE)
ALL_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def around_the_clock(timezone: str) -> Calendar:
    return calendar_of(timezone, {day: [["00:00", "00:00"]] for day in ALL_DAYS})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


CALENDARS = (
    ALWAYS,
    BERLIN,
    OFFICE_UTC,
    around_the_clock("America/New_York"),
    calendar_of("Europe/Berlin", {"sat": [["22:00", "06:00"]], "sun": [["05:00", "07:00"], ["12:00", "13:30"]]}),
    calendar_of("America/Havana", {day: [["00:00", "00:00"]] for day in ("sat", "sun")}),
    calendar_of("Australia/Lord_Howe", {day: [["01:30", "02:15"]] for day in ALL_DAYS}),
)

FOURTEEN_MONTHS_SECONDS = 426 * 24 * HOUR
instants = st.integers(0, FOURTEEN_MONTHS_SECONDS).map(lambda seconds: utc("2024-12-01") + timedelta(seconds=seconds))


def test_a_holiday_and_a_weekend_do_not_count() -> None:
    assert business_seconds(utc("2025-04-30T14:00"), utc("2025-05-05T08:30"), BERLIN) == 10.5 * HOUR
    assert business_seconds(utc("2025-04-30T14:00"), utc("2025-05-05T08:30")) == 114.5 * HOUR


def test_eight_hours_over_a_weekend_on_which_clocks_change_end_on_monday_at_the_same_wall_time() -> None:
    start = datetime(2025, 3, 28, 16, tzinfo=BERLIN.zone)
    due = add_business_seconds(start, 8 * HOUR, BERLIN)
    assert due == utc("2025-03-31T14:00")
    assert due - start.astimezone(UTC) == timedelta(hours=71)  # not 72: clocks were set forward


@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [("Europe/Berlin", date(2025, 3, 30), 23), ("America/New_York", date(2025, 11, 2), 25)],
)
def test_a_day_on_which_clocks_change_has_the_hours_that_it_has(timezone: str, day: date, hours: int) -> None:
    calendar = around_the_clock(timezone)
    start = datetime.combine(day, time(0), calendar.zone)
    end = datetime.combine(day + timedelta(days=1), time(0), calendar.zone)
    assert business_seconds(start, end, calendar) == hours * HOUR


def test_a_weekend_is_no_business_time() -> None:
    assert business_seconds(utc("2025-06-07T10:00"), utc("2025-06-08T18:00"), OFFICE_UTC) == 0


def test_a_night_shift_loses_the_hour_that_clocks_skip() -> None:
    night = calendar_of("Europe/Berlin", {"sat": [["22:00", "06:00"]]})
    assert business_seconds(utc("2025-03-29T12:00"), utc("2025-03-30T12:00"), night) == 7 * HOUR


def test_a_night_shift_that_began_before_the_start_counts_from_the_start() -> None:
    night = calendar_of("UTC", {"sat": [["22:00", "06:00"]]})
    assert business_seconds(utc("2025-06-08T03:00"), utc("2025-06-08T12:00"), night) == 3 * HOUR


def test_a_full_days_target_ends_when_the_day_closes() -> None:
    assert add_business_seconds(utc("2025-06-02T09:00"), 8 * HOUR, OFFICE_UTC) == utc("2025-06-02T17:00")


def test_an_end_before_the_start_is_nothing() -> None:
    assert business_seconds(utc("2025-06-03T09:00"), utc("2025-06-02T09:00"), OFFICE_UTC) == 0


def test_a_calendar_without_hours_says_so_instead_of_searching_for_ever() -> None:
    with pytest.raises(UsageError, match="too few working hours"):
        add_business_seconds(utc("2025-06-02T09:00"), 1, calendar_of("UTC", {}))


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ({"monday": [["09:00", "17:00"]]}, "knows no day 'monday'"),
        ({"mon": [["9 o'clock", "17:00"]]}, "cannot be read"),
        ({"mon": [["09:00"]]}, "cannot be read"),
        ({"mon": [["09:00", "13:00"], ["12:00", "17:00"]]}, "overlap"),
    ],
)
def test_hours_that_make_no_sense_are_refused(hours: dict[str, list[list[str]]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calendar_of("UTC", hours)


@given(st.sampled_from(CALENDARS), st.lists(instants, min_size=3, max_size=3).map(sorted))
def test_parts_add_up_and_never_exceed_the_clock(calendar: Calendar, points: list[datetime]) -> None:
    first, second, third = points
    whole = business_seconds(first, third, calendar)
    assert business_seconds(first, second, calendar) + business_seconds(second, third, calendar) == whole
    assert 0 <= whole <= (third - first).total_seconds()


@given(st.sampled_from(CALENDARS), instants, st.integers(0, 60 * HOUR))
def test_adding_and_measuring_are_each_others_inverse_and_the_end_is_the_earliest(
    calendar: Calendar, start: datetime, seconds: int
) -> None:
    end = add_business_seconds(start, seconds, calendar)
    assert business_seconds(start, end, calendar) == seconds
    if seconds:
        assert business_seconds(start, end - timedelta(seconds=1), calendar) == seconds - 1
