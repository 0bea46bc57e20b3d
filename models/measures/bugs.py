"""How old bugs are, how long they take, where they are found: age, resolution time, leakage, escapes. Pure.

How many bugs are open on each day is folded from events in `store.summaries.bug_analytics_daily`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import fmean

import msgspec

from models.measures.definition import Measure
from models.measures.statistics import kaplan_meier_median, percentile

AGE_BUCKETS_DAYS = (0, 7, 30, 90, 180)
"""Where each bucket of age begins; the last has no end."""
ESCAPE_WINDOW = timedelta(days=90)
SECONDS_A_DAY = 86_400

MEASURES = (
    Measure(
        name="age_bucket",
        unit="days",
        source="metrics 2.4",
        definition="Age of an open bug, as the half-open bucket that it falls into: from 0, 7, 30, 90 or 180 days.",
    ),
    Measure(
        name="mean_time_to_resolve",
        unit="days",
        source="metrics 2.4",
        definition="Creation to resolution of the bugs resolved in the period; biased low while old bugs stay open.",
    ),
    Measure(
        name="kaplan_meier_median",
        unit="days",
        source="Kaplan and Meier 1958",
        definition="Time by which half of all bugs are resolved, open ones counted as lasting at least until now.",
    ),
    Measure(
        name="leakage",
        unit="ratio",
        source="metrics 2.5",
        definition="Of the bugs that a stage could have found, those that a later stage found.",
    ),
    Measure(
        name="escape_rate",
        unit="ratio",
        source="metrics 2.5",
        definition="Bugs found in production within 90 days of a release over those and the ones found before it.",
    ),
    Measure(name="defect_removal_efficiency", unit="ratio", source="Jones 1996", definition="1 less the escape rate."),
)


class ResolutionTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long bugs take, in days, with how many each figure stands on."""

    resolved_count: int
    open_count: int
    mean_days: float | None
    median_days: float | None
    kaplan_meier_median_days: float | None


class Escapes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bugs of a release were found."""

    escaped_count: int
    found_before_count: int
    unknown_count: int
    escape_rate: float | None
    defect_removal_efficiency: float | None
    is_provisional: bool
    """The release is not 90 days old yet."""


def age_bucket(created_at: datetime, as_of: datetime) -> int:
    """In which bucket a bug's age falls: the day at which that bucket begins."""
    age_days = (as_of - created_at) / timedelta(days=1)
    return max((start for start in AGE_BUCKETS_DAYS if start <= age_days), default=0)


def resolution_times(bugs: Sequence[tuple[datetime, datetime | None]], *, as_of: datetime) -> ResolutionTimes:
    """How long bugs take to be resolved.

    Source: metrics 2.4.

    Args:
        bugs: when each was created, and resolved.
        as_of: how long open ones have lasted.
    """
    resolved = [
        (ended - created).total_seconds() / SECONDS_A_DAY
        for created, ended in bugs
        if ended is not None and ended >= created
    ]
    still_open = [(as_of - created).total_seconds() / SECONDS_A_DAY for created, ended in bugs if ended is None]
    return ResolutionTimes(
        resolved_count=len(resolved),
        open_count=len(still_open),
        mean_days=fmean(resolved) if resolved else None,
        median_days=percentile(resolved, 0.5),
        kaplan_meier_median_days=kaplan_meier_median(
            [(days, True) for days in resolved] + [(days, False) for days in still_open]
        ),
    )


def leakage(found: Sequence[int]) -> list[float | None]:
    """Of each stage but the last, how many bugs it let through of those that it could have found.

    Args:
        found: how many bugs each stage found, in the order of the stages; duplicates and rejected ones left out.

    Returns:
        A ratio for each stage but the last, None where nothing was left to find.
    """
    rates: list[float | None] = []
    for stage in range(len(found) - 1):
        findable = sum(found[stage:])
        rates.append(sum(found[stage + 1 :]) / findable if findable else None)
    return rates


def escapes(
    stages: Sequence[tuple[str | None, datetime]], *, released_at: datetime, as_of: datetime, production: str
) -> Escapes:
    """How many bugs of a release were found in production.

    Source: metrics 2.5.

    Args:
        stages: of each bug of the release, where it was found (None: nobody knows, and it is shown as such), and when.
        released_at: production counts for 90 days from here.
        as_of: a release that is younger is provisional.
        production: what the stage is called.
    """
    escaped = sum(stage == production and released_at <= found < released_at + ESCAPE_WINDOW for stage, found in stages)
    before = sum(stage not in (production, None) for stage, _ in stages)
    total = escaped + before
    rate = escaped / total if total else None
    return Escapes(
        escaped_count=escaped,
        found_before_count=before,
        unknown_count=sum(stage is None for stage, _ in stages),
        escape_rate=rate,
        defect_removal_efficiency=None if rate is None else 1 - rate,
        is_provisional=as_of < released_at + ESCAPE_WINDOW,
    )
