"""Lead time, cycle time, time in each status and reopens of an issue, from its status changes. Pure.

The SQL of `store.summaries.jira_lead_times` computes the same over all issues at once in calendar time; a test holds
the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from models.measures.business_time import ALWAYS, Calendar, business_seconds
from models.measures.definition import Measure

SOURCE = "metrics 2.3"
DONE, ACTIVE = "done", "indeterminate"
MISCLICK = timedelta(minutes=5)
"""A reopen so soon after, by the person who resolved, was a slip of the hand."""

MEASURES = (
    Measure(
        name="lead_time_hours",
        unit="hours",
        source=SOURCE,
        definition="Creation to the last entry into a done "
        "status that was not left again; NULL while the issue is open.",
    ),
    Measure(
        name="first_lead_time_hours",
        unit="hours",
        source=SOURCE,
        definition="Creation to the first entry into a done status.",
    ),
    Measure(
        name="cycle_time_hours",
        unit="hours",
        source=SOURCE,
        definition="First entry into an active status to the "
        "last entry into a done one; NULL where it never was active.",
    ),
    Measure(
        name="active_time_hours",
        unit="hours",
        source=SOURCE,
        definition="Sum of the time in active statuses, reopened time added.",
    ),
    Measure(
        name="time_in_status",
        unit="hours",
        source=SOURCE,
        definition="Time in each status; adds up to the whole life of the issue.",
    ),
    Measure(name="flow_efficiency", unit="ratio", source=SOURCE, definition="Active time over lead time."),
    Measure(name="reopen_count", unit="count", source=SOURCE, definition="How often it left a done status."),
    Measure(
        name="reopen_rate",
        unit="ratio",
        source=SOURCE,
        definition="Resolutions that were reopened within so many days, of those that are at least so old.",
    ),
)


class Transition(msgspec.Struct, frozen=True):
    """One change of status."""

    at: datetime
    from_status: str
    to_status: str
    by: str | None = None


class IssueTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What an issue's history comes to; seconds, None where it is not known or has not happened."""

    started_at: datetime | None
    resolved_at: datetime | None
    lead_seconds: int | None
    first_lead_seconds: int | None
    cycle_seconds: int | None
    active_seconds: int
    seconds_in_status: Mapping[str, int]
    flow_efficiency: float | None
    reopen_count: int
    misclick_count: int
    """Of the reopens, those taken back at once by who resolved; they do not count in the rate."""
    skipped_workflow: bool
    """Done without ever having been active."""


def issue_times(
    created_at: datetime,
    first_status: str,
    transitions: Sequence[Transition],
    categories: Mapping[str, str],
    *,
    as_of: datetime,
    calendar: Calendar = ALWAYS,
) -> IssueTimes:
    """Measure an issue.

    Source: metrics 2.3.

    Args:
        created_at: of the issue.
        first_status: at its creation.
        transitions: in the order of time, history and item.
        categories: of each status: new, indeterminate or done; one that is missing is neither active nor done.
        as_of: up to when an open issue is measured.
        calendar: whose hours count.
    """
    steps = [(created_at, first_status), *((each.at, each.to_status) for each in transitions)]
    last_status = steps[-1][1]
    is_done = categories.get(last_status) == DONE
    entries = [
        at
        for (_, before), (at, after) in pairwise(steps)
        if categories.get(after) == DONE and categories.get(before) != DONE
    ]
    if categories.get(first_status) == DONE:
        entries.insert(0, created_at)
    resolved_at = entries[-1] if is_done and entries else None
    end = resolved_at or as_of
    started_at = next((at for at, status in steps if categories.get(status) == ACTIVE), None)
    seconds_in_status: dict[str, int] = {}
    for (since, status), (until, _) in pairwise([*steps, (max(end, steps[-1][0]), "")]):
        seconds_in_status[status] = seconds_in_status.get(status, 0) + business_seconds(since, until, calendar)
    if is_done and not seconds_in_status.get(last_status):
        seconds_in_status.pop(last_status, None)
    active = sum(seconds for status, seconds in seconds_in_status.items() if categories.get(status) == ACTIVE)
    reopens = [
        (each, earlier)
        for earlier, each in pairwise([None, *transitions])
        if each is not None and categories.get(each.from_status) == DONE and categories.get(each.to_status) != DONE
    ]
    lead = business_seconds(created_at, resolved_at, calendar) if resolved_at else None
    return IssueTimes(
        started_at=started_at,
        resolved_at=resolved_at,
        lead_seconds=lead,
        first_lead_seconds=business_seconds(created_at, entries[0], calendar) if entries else None,
        cycle_seconds=(
            business_seconds(started_at, resolved_at, calendar)
            if started_at and resolved_at and resolved_at >= started_at
            else None
        ),
        active_seconds=active,
        seconds_in_status=seconds_in_status,
        flow_efficiency=active / lead if lead else None,
        reopen_count=len(reopens),
        misclick_count=sum(_is_misclick(each, earlier) for each, earlier in reopens),
        skipped_workflow=is_done and started_at is None,
    )


def _is_misclick(reopen: Transition, resolution: Transition | None) -> bool:
    return (
        resolution is not None
        and reopen.by is not None
        and reopen.by == resolution.by
        and reopen.at - resolution.at <= MISCLICK
    )


def reopen_rate(
    resolutions: Sequence[tuple[datetime, datetime | None]], *, within: timedelta, as_of: datetime
) -> float | None:
    """How many resolutions did not last.

    Args:
        resolutions: when each was made, and when it was first reopened.
        within: how long a resolution has to last.
        as_of: younger resolutions than `within` are not judged yet.

    Returns:
        A ratio, or None where no resolution is old enough.
    """
    judged = [(resolved, reopened) for resolved, reopened in resolutions if as_of - resolved >= within]
    if not judged:
        return None
    return sum(reopened is not None and reopened - resolved <= within for resolved, reopened in judged) / len(judged)
