"""When people work: days, hours, holidays and time zones, and how long things take.

What belongs here: moments. They are seconds since 1970 in UTC, because a million of them are made. What does not: who
does what at them.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from zoneinfo import ZoneInfo

DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
HOLIDAYS = {(1, 1): "New Year", (5, 1): "Labour Day", (12, 24): "Winter break", (12, 25): "Winter break",
            (12, 26): "Winter break", (12, 31): "Winter break"}  # fmt: skip
WEEKEND_WEIGHT = 0.03
HOLIDAY_WEIGHT = 0.02
# How much is done in each local hour; a dip at noon, and a few who work at night.
HOUR_WEIGHTS = (1, 0, 0, 0, 0, 0, 1, 5, 25, 70, 95, 90, 45, 70, 95, 95, 80, 55, 20, 8, 6, 6, 4, 2)
FIRST_HOUR, LAST_HOUR = 8, 19


def at(seconds: int) -> datetime:
    """A moment as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)


def day_of(moment: int) -> date:
    """The day of UTC of a moment."""
    return at(moment).date()


def seconds_of(day: date) -> int:
    """The moment at which a day of UTC begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


class Workdays:
    """The days of a span, and when on them people of a time zone do something."""

    def __init__(self, first: date, end: date, *, growth_ratio: float = 1.5) -> None:
        """Weigh the days.

        Args:
            first: the first day.
            end: the day after the last; nothing happens at its beginning or later.
            growth_ratio: how much more is done at the end than at the beginning.
        """
        self.first = first
        self.start = seconds_of(first)
        self.end = seconds_of(end)
        self.days = [first + timedelta(days=number) for number in range((end - first).days)]
        last = max(len(self.days) - 1, 1)
        self.weights = [self._weight(day) * (1 + (growth_ratio - 1) * n / last) for n, day in enumerate(self.days)]
        self._offsets: dict[tuple[str, int], int] = {}

    def _weight(self, day: date) -> float:
        if (day.month, day.day) in HOLIDAYS:
            return HOLIDAY_WEIGHT
        if day.weekday() >= 5:
            return WEEKEND_WEIGHT
        return 0.7 if day.month in {7, 8} else 1.0

    def weights_after(self, moments: list[int], factor: float, days: int) -> list[float]:
        """Weights in which the days after some moments count more: a release is followed by bugs."""
        weights = list(self.weights)
        for moment in moments:
            number = (moment - self.start) // DAY_SECONDS
            for day in range(number, min(number + days, len(weights))):
                weights[day] *= factor
        return weights

    def moments(self, random: Random, count: int, zone: str, weights: list[float] | None = None) -> list[int]:
        """Moments at which people of a zone work, in their order."""
        cumulative = list(accumulate(weights or self.weights))
        numbers = random.choices(range(len(self.days)), cum_weights=cumulative, k=count)
        hours = random.choices(range(24), HOUR_WEIGHTS, k=count)
        return sorted(
            self.within(self.start + number * DAY_SECONDS + hour * HOUR_SECONDS + random.randrange(HOUR_SECONDS)
                        - self.offset(zone, number))
            for number, hour in zip(numbers, hours, strict=True)
        )  # fmt: skip

    def within(self, moment: int) -> int:
        """A moment of the span: what a zone moves out of it is moved back by a day."""
        if moment >= self.end:
            return moment - DAY_SECONDS
        return moment if moment >= self.start else moment + DAY_SECONDS

    def offset(self, zone: str, number: int) -> int:
        """How far a zone is ahead of UTC on a day of the span, in seconds."""
        known = self._offsets.get((zone, number))
        if known is None:
            noon = at(self.start + number * DAY_SECONDS + DAY_SECONDS // 2).astimezone(ZoneInfo(zone))
            shift = noon.utcoffset()
            known = self._offsets[zone, number] = int(shift.total_seconds()) if shift else 0
        return known

    def later(self, random: Random, moment: int, hours: float, sigma: float, zone: str) -> int:
        """When something is done that takes about so many hours: lognormal, and only at times when people work.

        Returns:
            A later moment, which may lie after the span.
        """
        moment += max(60, int(random.lognormvariate(math.log(hours), sigma) * HOUR_SECONDS))
        number = (moment - self.start) // DAY_SECONDS
        offset = self.offset(zone, number)
        local = moment + offset
        day, second = divmod(local, DAY_SECONDS)
        hour = second // HOUR_SECONDS
        if FIRST_HOUR <= hour < LAST_HOUR and self.is_workday(day):
            return moment
        if random.random() < 0.02:  # somebody cannot let go
            return moment
        day += hour >= FIRST_HOUR
        while not self.is_workday(day):
            day += 1
        return day * DAY_SECONDS + FIRST_HOUR * HOUR_SECONDS + random.randrange(4 * HOUR_SECONDS) - offset

    @staticmethod
    def is_workday(day: int) -> bool:
        """Whether people work on a day, counted from 1970."""
        if (day + 3) % 7 >= 5:
            return False
        known = at(day * DAY_SECONDS)
        return (known.month, known.day) not in HOLIDAYS
