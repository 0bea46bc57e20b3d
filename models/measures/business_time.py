"""Business time: how long people were at work between two instants, and when a number of working seconds is over.

A working day is written in local wall time and turned into UTC date by date, so that it keeps its hours when clocks
are changed. Intervals are half-open. Which calendar a project has is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

from models.errors import UsageError
from models.measures.definition import Measure

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ONE_DAY = timedelta(days=1)
LONGEST_SEARCH_DAYS = 3_660
"""Ten years: a calendar with so long a gap has no working hours."""

MEASURES = (
    Measure(
        name="business_seconds",
        unit="seconds",
        definition="Time between two instants that falls into the working hours of a calendar, holidays left out.",
    ),
)

Hours = tuple[tuple[time, time], ...]


class Calendar(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """When people work.

    `hours` are the working spans of Monday to Sunday in local time, in order and apart; one whose end is not after its
    start ends on the next day.
    """

    timezone: str
    hours: tuple[Hours, Hours, Hours, Hours, Hours, Hours, Hours]
    holidays: frozenset[date] = frozenset()
    version: int = 1

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the hours."""
        return ZoneInfo(self.timezone)

    def spans_of(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """The working spans that begin on a local day, in UTC."""
        if day in self.holidays:
            return
        for opens, closes in self.hours[day.weekday()]:
            last_day = day if closes > opens else day + ONE_DAY
            start, end = self._instant(day, opens), self._instant(last_day, closes)
            if start < end:  # a span inside the hour that clocks skip is empty
                yield start, end

    def _instant(self, day: date, wall: time) -> datetime:
        return datetime.combine(day, wall, self.zone).astimezone(UTC)


ALWAYS = Calendar(timezone="UTC", hours=(((time(0), time(0)),),) * 7)
"""Every second counts."""


def calendar_of(
    timezone: str,
    working_hours: Mapping[str, list[list[str]]],
    holidays: frozenset[date] = frozenset(),
    *,
    version: int = 1,
) -> Calendar:
    """A calendar from its row.

    Args:
        timezone: IANA name.
        working_hours: `{"mon": [["09:00", "17:00"]], …}`; days that are missing are free.
        holidays: local dates.
        version: of the row.

    Raises:
        UsageError: a day or a time cannot be read, or two spans overlap.
    """
    unknown = working_hours.keys() - set(WEEKDAYS)
    if unknown:
        raise UsageError(f"A business calendar knows no day {min(unknown)!r}; its days are {', '.join(WEEKDAYS)}.")
    hours = tuple(_hours(day, working_hours.get(day, [])) for day in WEEKDAYS)
    return Calendar(timezone=timezone, hours=hours, holidays=holidays, version=version)  # type: ignore[arg-type]  # seven


def _hours(day: str, spans: list[list[str]]) -> Hours:
    try:
        parsed = tuple(sorted((time.fromisoformat(opens), time.fromisoformat(closes)) for opens, closes in spans))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f'The working hours of {day!r} cannot be read ({error}); write them as [["09:00", "17:00"]].'
        ) from error
    for (_, closes), (opens, _) in pairwise(parsed):
        if closes > opens:
            raise UsageError(f"The working hours of {day!r} overlap; write them apart and in order.")
    return parsed


def business_seconds(start: datetime, end: datetime, calendar: Calendar = ALWAYS) -> int:
    """Working seconds in [start, end).

    Source: metrics 2.1.

    Args:
        start: aware.
        end: aware.
        calendar: whose hours count.

    Returns:
        Whole seconds, 0 where the end is not after the start.
    """
    if end <= start:
        return 0
    if calendar is ALWAYS:
        return int((end - start).total_seconds())
    return int(sum((closes - opens).total_seconds() for opens, closes in working_spans(start, end, calendar)))


def working_spans(start: datetime, end: datetime, calendar: Calendar) -> Iterator[tuple[datetime, datetime]]:
    """The parts of [start, end) in which people work, in order, apart from each other, in UTC."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    last_day = end.astimezone(calendar.zone).date()
    day = start.astimezone(calendar.zone).date() - ONE_DAY  # a night shift that began the day before
    worked_until = start
    while day <= last_day:
        for opens, closes in calendar.spans_of(day):
            opens, closes = max(opens, worked_until), min(closes, end)  # noqa: PLW2901  # cut to what is asked for
            if opens < closes:
                yield opens, closes
                worked_until = closes
        day += ONE_DAY


def add_business_seconds(start: datetime, seconds: int, calendar: Calendar = ALWAYS) -> datetime:
    """The earliest instant at which that much business time has passed.

    A full day's target therefore ends when the day closes, not when the next one opens.

    Source: metrics 2.1.

    Args:
        start: aware.
        seconds: of business time, 0 or more.
        calendar: whose hours count.

    Returns:
        UTC.

    Raises:
        UsageError: the calendar has no working hours within ten years.
    """
    start = start.astimezone(UTC)
    remaining = timedelta(seconds=seconds)
    if not remaining:
        return start
    if calendar is ALWAYS:
        return start + remaining
    for opens, closes in working_spans(start, start + timedelta(days=LONGEST_SEARCH_DAYS), calendar):
        if closes - opens >= remaining:
            return opens + remaining
        remaining -= closes - opens
    raise UsageError("The business calendar has too few working hours to ever reach the target; check its days.")
