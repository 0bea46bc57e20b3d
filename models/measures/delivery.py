"""DORA's five: how often deployments happen, how long changes wait, how often they fail and for how long. Pure.

A deployment is one of a service to production by one pipeline; which of them caused an incident is stored once and
never judged again because a window moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from models.measures.definition import Measure
from models.measures.statistics import percentile

SOURCE = "DORA 2024, metrics 2.10"
CAUSE_WINDOW = timedelta(hours=72)
"""An incident that nobody links belongs to the last deployment before it, if it is not older than that."""
DAILY_DEPLOY_DAYS, WEEKLY_DEPLOY_DAYS = 3, 1

MEASURES = (
    Measure(
        name="deployment_frequency",
        unit="days a week",
        source=SOURCE,
        definition="Median number of days with a production deployment per week, empty weeks included.",
    ),
    Measure(
        name="change_lead_time",
        unit="hours",
        source=SOURCE,
        definition="Median, over the changes deployed in the period, of first commit to deployment.",
    ),
    Measure(
        name="change_fail_rate",
        unit="ratio",
        source=SOURCE,
        definition="Deployments that caused at least one failure over all deployments; never above 1.",
    ),
    Measure(
        name="failed_deployment_recovery_time",
        unit="minutes",
        source=SOURCE,
        definition="Median, over failed "
        "deployments, of the deployment to the end of all its incidents; open ones are shown apart.",
    ),
    Measure(
        name="deployment_rework_rate",
        unit="ratio",
        source=SOURCE,
        definition="Unplanned deployments that fix production over all deployments.",
    ),
)


class ProductionDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A successful production deployment; several jobs of one pipeline are one, with the last end."""

    id: str
    service: str
    finished_at: datetime
    is_rework: bool = False
    """A hotfix, a revert, or nothing but fixes of production bugs."""
    is_failed: bool = False
    """Rolled back, reverted or fixed at once, whatever incidents say."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A failure in production."""

    id: str
    service: str
    started_at: datetime
    resolved_at: datetime | None = None
    caused_by: str | None = None
    """The deployment that somebody named."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """How long failed deployments were failed."""

    median_seconds: float | None
    recovered_count: int
    open_count: int


def deployment_frequency(days: Sequence[date], *, since: date, weeks: int) -> tuple[float, str]:
    """How often a service is deployed.

    Args:
        days: local dates of its production deployments, repeated or not.
        since: the first day of the first week.
        weeks: how many, at least one.

    Returns:
        The median number of deploy days per week, and the bucket: daily, weekly or monthly.
    """
    counts = [0] * weeks
    for day in set(days):
        week = (day - since).days // 7
        if 0 <= week < weeks:
            counts[week] += 1
    median = percentile(counts, 0.5) or 0.0
    bucket = "daily" if median >= DAILY_DEPLOY_DAYS else "weekly" if median >= WEEKLY_DEPLOY_DAYS else "monthly"
    return median, bucket


def causes(deployments: Sequence[ProductionDeployment], incidents: Sequence[Incident]) -> dict[str, str]:
    """Which deployment caused each incident: the one that is named, else the last of the service before it.

    Args:
        deployments: of the services, in any order.
        incidents: in any order.

    Returns:
        Deployment by incident; one without a cause is missing.
    """
    known = {each.id for each in deployments}
    ordered = sorted(deployments, key=lambda each: (each.finished_at, each.id))
    found: dict[str, str] = {}
    for incident in incidents:
        if incident.caused_by is not None:
            if incident.caused_by in known:
                found[incident.id] = incident.caused_by
            continue
        before = [
            each.id
            for each in ordered
            if each.service == incident.service
            and incident.started_at - CAUSE_WINDOW <= each.finished_at <= incident.started_at
        ]
        if before:
            found[incident.id] = before[-1]
    return found


def change_fail_rate(
    deployments: Sequence[ProductionDeployment], causes_by_incident: Mapping[str, str]
) -> float | None:
    """Failed deployments over all; None without deployments."""
    if not deployments:
        return None
    failed = set(causes_by_incident.values()) | {each.id for each in deployments if each.is_failed}
    return sum(each.id in failed for each in deployments) / len(deployments)


def recovery(
    deployments: Sequence[ProductionDeployment],
    incidents: Sequence[Incident],
    causes_by_incident: Mapping[str, str],
    *,
    is_per_incident: bool = False,
) -> Recovery:
    """How long failed deployments took to recover.

    Args:
        deployments: of the period.
        incidents: that they caused, and others.
        causes_by_incident: see `causes`.
        is_per_incident: count each incident instead of the last one of each deployment.

    Returns:
        The median over those that recovered; those with an open incident are only counted.
    """
    finished = {each.id: each.finished_at for each in deployments}
    seconds: list[float] = []
    by_deployment: dict[str, list[Incident]] = {}
    for incident in incidents:
        cause = causes_by_incident.get(incident.id)
        if cause in finished:
            by_deployment.setdefault(cause, []).append(incident)
    open_count = 0
    for deployment, caused in by_deployment.items():
        ends = [each.resolved_at for each in caused]
        closed = [each for each in ends if each is not None]
        if is_per_incident:
            seconds += [(each - finished[deployment]).total_seconds() for each in closed]
            open_count += len(ends) - len(closed)
        elif len(closed) == len(ends):
            seconds.append((max(closed) - finished[deployment]).total_seconds())
        else:
            open_count += 1
    return Recovery(median_seconds=percentile(seconds, 0.5), recovered_count=len(seconds), open_count=open_count)


def rework_rate(deployments: Sequence[ProductionDeployment]) -> float | None:
    """Unplanned fixes over all deployments; None without deployments."""
    return sum(each.is_rework for each in deployments) / len(deployments) if deployments else None
