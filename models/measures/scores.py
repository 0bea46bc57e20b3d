"""Weighted scores: a bug's priority and revenue at risk, a project's health. Pure.

What is not known drops out of the sum and lowers the confidence; it never counts as nothing. Every score keeps its
components, so that it can be explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import log10

import msgspec

from models.measures.definition import Measure

DAYS_A_MONTH = Decimal("30.4375")
BLOCKER_SCORE = 90.0
CAPPED_HEALTH = 69.0
LEAST_WEIGHT = 0.6
"""With less of the weight known, there is no health score."""

SEVERITY_SCORES = {"critical": 1.0, "high": 0.7, "medium": 0.4, "low": 0.1}
REVENUE_FACTORS = {"critical": Decimal(1), "high": Decimal("0.5"), "medium": Decimal("0.2"), "low": Decimal("0.05")}
PRIORITY_WEIGHTS = {"severity": 0.40, "sla": 0.20, "revenue": 0.15, "reach": 0.10, "age": 0.10, "reopens": 0.05}

MEASURES = (
    Measure(
        name="priority_score",
        unit="points, 0 to 100",
        source="metrics 2.8",
        definition="Weighted mean of severity, "
        "SLA consumed, revenue, reach, age and reopens; a blocker has at least 90.",
    ),
    Measure(
        name="revenue_impact_daily",
        unit="money a day",
        source="metrics 2.8",
        definition="Monthly revenue of the customers affected, times a factor by severity, over the days of a month.",
    ),
    Measure(
        name="health_score",
        unit="points, 0 to 100",
        source="metrics 2.17",
        definition="Weighted mean of what a "
        "project's measures score between bad and good; at most 69 where one scores 0, NULL where less than 60 % "
        "of the weight is known.",
    ),
)


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A score, what it is made of, and how much of it is known."""

    value: float | None
    confidence: float
    """The part of the weight that is known, 0 to 1."""
    components: Mapping[str, float | None]
    capped_by: tuple[str, ...] = ()


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What is good and what is bad of a component, and how much it counts."""

    good: float
    bad: float
    weight: float


HEALTH_SCALES = {
    "pass_rate": Scale(good=0.98, bad=0.85, weight=0.20),
    "flaky_ratio": Scale(good=0.005, bad=0.05, weight=0.15),
    "sla_compliance": Scale(good=0.95, bad=0.70, weight=0.20),
    "budget_remaining_ratio": Scale(good=0.5, bad=0.0, weight=0.15),
    "mr_lead_time_p50_hours": Scale(good=24, bad=120, weight=0.10),
    "change_fail_rate": Scale(good=0.05, bad=0.30, weight=0.10),
    "old_critical_bugs": Scale(good=0, bad=5, weight=0.10),
}


def weighted_mean(components: Mapping[str, float | None], weights: Mapping[str, float]) -> tuple[float | None, float]:
    """100 times the weighted mean of the components that are known, and the part of the weight that is."""
    known = {name: value for name, value in components.items() if value is not None and weights.get(name)}
    weight = sum(weights[name] for name in known)
    if not weight:
        return None, 0.0
    return 100 * sum(weights[name] * value for name, value in known.items()) / weight, weight / sum(weights.values())


def priority_score(
    *,
    severity: str | None,
    sla_consumed_ratio: float | None = None,
    monthly_revenue: float | None = None,
    customers: int | None = None,
    age_days: float | None = None,
    reopens: int | None = None,
    is_blocker: bool = False,
    weights: Mapping[str, float] = PRIORITY_WEIGHTS,
) -> Score:
    """How urgent a bug is.

    Source: metrics 2.8.

    Args:
        severity: critical, high, medium or low.
        sla_consumed_ratio: consumed over target; over 1 is overdue.
        monthly_revenue: of the customers that are affected.
        customers: how many are affected.
        age_days: since its creation.
        reopens: how often it came back.
        is_blocker: then at least 90.
        weights: by component.
    """
    components = {
        "severity": SEVERITY_SCORES.get(severity or ""),
        "sla": None if sla_consumed_ratio is None else min(1.0, sla_consumed_ratio),
        "revenue": None if monthly_revenue is None else min(1.0, log10(1 + monthly_revenue) / 6),
        "reach": None if customers is None else min(1.0, log10(1 + customers) / 3),
        "age": None if age_days is None else min(1.0, age_days / 90),
        "reopens": None if reopens is None else min(1.0, reopens / 3),
    }
    value, confidence = weighted_mean(components, weights)
    if is_blocker:
        value = max(value or 0.0, BLOCKER_SCORE)
    return Score(value=value, confidence=confidence, components=components)


def monthly_revenue_at_risk(monthly_revenue: Decimal, severity: str) -> Decimal:
    """What the customers affected pay a month, times the factor of the severity."""
    return monthly_revenue * REVENUE_FACTORS[severity]


def revenue_accrued(monthly_at_risk: Decimal, days_open: Decimal) -> Decimal:
    """What was at risk over so many days."""
    return monthly_at_risk * days_open / DAYS_A_MONTH


def health_score(values: Mapping[str, float | None], scales: Mapping[str, Scale] = HEALTH_SCALES) -> Score:
    """How well a project is.

    Source: metrics 2.17.

    Args:
        values: by component; None where it is not known or its source is stale.
        scales: what is good and bad of each.
    """
    components: dict[str, float | None] = {}
    for name, scale in scales.items():
        value = values.get(name)
        components[name] = None if value is None else min(1.0, max(0.0, (value - scale.bad) / (scale.good - scale.bad)))
    score, confidence = weighted_mean(components, {name: scale.weight for name, scale in scales.items()})
    failing = tuple(name for name, component in components.items() if component == 0)
    if score is None or confidence < LEAST_WEIGHT:
        return Score(value=None, confidence=confidence, components=components, capped_by=failing)
    return Score(
        value=min(score, CAPPED_HEALTH) if failing else score,
        confidence=confidence,
        components=components,
        capped_by=failing,
    )
