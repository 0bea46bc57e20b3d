"""What samples say: percentiles, Wilson intervals, medians of durations of which some are not over yet. Pure.

Nothing here knows what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, sqrt

Z_95 = 1.959964
"""Two-sided 95 % of the normal distribution."""
HALF = 0.5 + 1e-12
"""A product of ratios that is a half may miss it by a rounding."""


def percentile(values: Sequence[float], ratio: float) -> float | None:
    """The value below which `ratio` of the sample lies, by linear interpolation, as PERCENTILE_CONT has it.

    Args:
        values: in any order.
        ratio: 0 to 1.

    Returns:
        None of an empty sample.
    """
    if not values:
        return None
    ordered = sorted(values)
    position = ratio * (len(ordered) - 1)
    below, above = ordered[floor(position)], ordered[ceil(position)]
    return below + (above - below) * (position - floor(position))


def wilson_interval(hits: int, trials: int, z: float = Z_95) -> tuple[float, float] | None:
    """Between which bounds a rate lies.

    Returns:
        Lower and upper bound, or None without trials.
    """
    if trials <= 0:
        return None
    rate = hits / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def kaplan_meier_median(durations: Sequence[tuple[float, bool]]) -> float | None:
    """The median duration where some have not ended yet.

    Args:
        durations: how long, and whether it has ended; one that has not is known to last at least that long.

    Returns:
        The shortest duration by which half have ended, or None where fewer have.
    """
    surviving = 1.0
    for duration in sorted({each for each, has_ended in durations if has_ended}):
        at_risk = sum(each >= duration for each, _ in durations)
        ended = sum(has_ended and each == duration for each, has_ended in durations)
        surviving *= 1 - ended / at_risk
        if surviving <= HALF:
            return duration
    return None
