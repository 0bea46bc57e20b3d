"""The bug budget: points that a project may spend on bugs in a rolling window, and how fast it spends them. Pure.

The ledger of what was spent, and when, is made of events; it is only ever added to, so that a replay agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from models.measures.definition import Measure

SOURCE = "metrics 2.7, after the SRE workbook's multi-window alerts"
FEWEST_BUGS = 3
FEWEST_POINTS = 10.0
"""Less in the long window never fires: a single small bug is no trend."""
CLEARING_RATIO = 0.9

MEASURES = (
    Measure(
        name="budget_remaining_ratio",
        unit="ratio",
        source=SOURCE,
        definition="1 less the points spent in the window over the budget; below 0 where it is overspent.",
    ),
    Measure(
        name="burn_rate",
        unit="ratio",
        source=SOURCE,
        definition="Points spent a day in a shorter window over those "
        "that the budget allows a day; at 1 it is just used up.",
    ),
    Measure(
        name="budget_exhausted_in_days",
        unit="days",
        source=SOURCE,
        definition="How long the rest lasts at the present rate.",
    ),
)


class Spend(msgspec.Struct, frozen=True):
    """One entry of the ledger: a bug's weight, a part of it for a reopen, or less than 0 for a refund."""

    at: datetime
    points: float


class BurnPair(msgspec.Struct, frozen=True, kw_only=True):
    """An alert: it fires where both windows burn at `threshold` or faster."""

    name: str
    long: timedelta
    short: timedelta
    threshold: float


PAIRS = (
    BurnPair(name="fast", long=timedelta(days=2), short=timedelta(hours=12), threshold=3.5),
    BurnPair(name="medium", long=timedelta(days=7), short=timedelta(days=2), threshold=1.6),
    BurnPair(name="slow", long=timedelta(days=28), short=timedelta(days=7), threshold=1.0),
)
"""A quarter of the budget in two days, two fifths in a week, all of it in the window."""


def spent(ledger: Sequence[Spend], *, as_of: datetime, window: timedelta) -> float:
    """Points spent in [as_of - window, as_of)."""
    return sum(each.points for each in ledger if as_of - window <= each.at < as_of)


def remaining_ratio(ledger: Sequence[Spend], *, budget_points: float, window: timedelta, as_of: datetime) -> float:
    """What is left of the budget; below 0 where it is overspent."""
    return 1 - spent(ledger, as_of=as_of, window=window) / budget_points


def burn_rate(
    ledger: Sequence[Spend], *, budget_points: float, window: timedelta, as_of: datetime, over: timedelta
) -> float:
    """How many times faster than allowed the points of the last `over` were spent."""
    return spent(ledger, as_of=as_of, window=over) / budget_points * (window / over)


def exhausted_in_days(
    ledger: Sequence[Spend], *, budget_points: float, window: timedelta, as_of: datetime, over: timedelta
) -> float | None:
    """In how many days the rest is spent at the rate of the last `over`; None where nothing is being spent."""
    points_a_day = spent(ledger, as_of=as_of, window=over) / (over / timedelta(days=1))
    if points_a_day <= 0:
        return None
    return max(0.0, (budget_points - spent(ledger, as_of=as_of, window=window)) / points_a_day)


def is_burning(
    pair: BurnPair,
    ledger: Sequence[Spend],
    *,
    budget_points: float,
    window: timedelta,
    as_of: datetime,
    was_burning: bool = False,
) -> bool:
    """Whether an alert fires; one that fired goes on until the short window burns well below the threshold.

    Source: metrics 2.7.
    """

    def burn(over: timedelta) -> float:
        return burn_rate(ledger, budget_points=budget_points, window=window, as_of=as_of, over=over)

    if was_burning:
        return burn(pair.short) >= CLEARING_RATIO * pair.threshold
    recent = [each for each in ledger if as_of - pair.long <= each.at < as_of and each.points > 0]
    is_enough = len(recent) >= FEWEST_BUGS or sum(each.points for each in recent) >= FEWEST_POINTS
    return is_enough and burn(pair.long) >= pair.threshold and burn(pair.short) >= pair.threshold
