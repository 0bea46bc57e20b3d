"""How long the stages of a merge request took: coding, draft, pickup, review, deploy. Pure.

The stages meet end to end, so that they sum to the lead time exactly. Who counts as a reviewer, and which deployment
brought the merge request out, is decided before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from models.measures.business_time import ALWAYS, Calendar, business_seconds
from models.measures.definition import Measure

SOURCE = "metrics 2.2"

MEASURES = (
    Measure(
        name="coding_seconds",
        unit="seconds",
        source=SOURCE,
        definition="First commit to creation; 0 where the merge request was created first.",
    ),
    Measure(
        name="draft_seconds",
        unit="seconds",
        source=SOURCE,
        definition="Creation to the first instant at which it was not a draft.",
    ),
    Measure(
        name="pickup_seconds",
        unit="seconds",
        source=SOURCE,
        definition="Ready to the first review by a person who is not an author; NULL where nobody reviewed.",
    ),
    Measure(
        name="review_seconds",
        unit="seconds",
        source=SOURCE,
        definition="First review to merge; NULL where nobody reviewed.",
    ),
    Measure(
        name="deploy_seconds",
        unit="seconds",
        source=SOURCE,
        definition="Merge to the end of the first successful "
        "production deployment that holds it; NULL until there is one.",
    ),
    Measure(
        name="lead_time_for_change_seconds",
        unit="seconds",
        source=SOURCE,
        definition="First commit, or creation "
        "where that was earlier, to that deployment; NULL until there is one, never a shorter sum.",
    ),
    Measure(name="lead_time_hours", unit="hours", source=SOURCE, definition="Creation to merge."),
    Measure(
        name="first_commit_to_merge_hours",
        unit="hours",
        source=SOURCE,
        definition="First commit, or creation where that was earlier, to merge.",
    ),
    Measure(name="time_to_first_review_hours", unit="hours", source=SOURCE, definition="Creation to first review."),
    Measure(
        name="rework_cycles",
        unit="count",
        source=SOURCE,
        definition="How often commits followed a review before the approval.",
    ),
)


class MergeRequestTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a merge request, and when."""

    created_at: datetime
    first_commit_at: datetime | None = None
    ready_at: datetime | None = None
    """The first instant at which it was not a draft; None: it never was one."""
    first_review_at: datetime | None = None
    first_approved_at: datetime | None = None
    merged_at: datetime | None = None
    deployed_at: datetime | None = None


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of each stage; None where it has not happened, or the clocks say that it ended before it began."""

    coding_seconds: int | None = None
    draft_seconds: int | None = None
    pickup_seconds: int | None = None
    review_seconds: int | None = None
    deploy_seconds: int | None = None
    created_to_merged_seconds: int | None = None
    first_commit_to_merged_seconds: int | None = None
    lead_time_for_change_seconds: int | None = None
    time_to_first_review_seconds: int | None = None
    time_to_first_approval_seconds: int | None = None
    rework_seconds: int | None = None
    merge_wait_seconds: int | None = None
    unreviewed_wait_seconds: int | None = None
    """Ready to merge where nobody reviewed."""
    is_provisional: bool = True
    """No production deployment holds it yet."""
    backward: tuple[str, ...] = ()
    """Stages whose clocks ran backwards."""


def stages(times: MergeRequestTimes, calendar: Calendar = ALWAYS) -> Stages:
    """Measure the stages of a merge request.

    Source: metrics 2.2.

    Args:
        times: what happened.
        calendar: whose hours count.

    Returns:
        coding + draft + pickup + review + deploy = lead time for change, wherever all are known.
    """
    backward: list[str] = []

    def between(name: str, start: datetime | None, end: datetime | None) -> int | None:
        if start is None or end is None:
            return None
        if end < start:
            backward.append(name)
            return None
        return business_seconds(start, end, calendar)

    created, merged = times.created_at, times.merged_at
    began = min(times.first_commit_at or created, created)
    ready = max(times.ready_at or created, created)
    if merged is not None and merged >= created:
        ready = min(ready, merged)
    review = times.first_review_at
    if review is not None:
        review = max(review, ready)
        if merged is not None and merged >= ready:
            review = min(review, merged)
    approval = times.first_approved_at
    was_approved_in_time = approval is not None and (merged is None or approval <= merged)
    return Stages(
        coding_seconds=between("coding", began, created),
        draft_seconds=between("draft", created, ready),
        pickup_seconds=between("pickup", ready, review),
        review_seconds=between("review", review, merged),
        deploy_seconds=between("deploy", merged, times.deployed_at),
        created_to_merged_seconds=between("created_to_merged", created, merged),
        first_commit_to_merged_seconds=between("first_commit_to_merged", began, merged),
        lead_time_for_change_seconds=between("lead_time_for_change", began, times.deployed_at),
        time_to_first_review_seconds=between("time_to_first_review", created, times.first_review_at),
        time_to_first_approval_seconds=(
            between("time_to_first_approval", ready, max(approval, ready))
            if approval is not None and was_approved_in_time
            else None
        ),
        rework_seconds=(between("rework", times.first_review_at, approval) if was_approved_in_time else None),
        merge_wait_seconds=between("merge_wait", approval, merged) if was_approved_in_time else None,
        unreviewed_wait_seconds=between("unreviewed_wait", ready, merged) if review is None else None,
        is_provisional=times.deployed_at is None,
        backward=tuple(backward),
    )


def rework_cycles(reviews: Sequence[datetime], commits: Sequence[datetime], approved_at: datetime | None = None) -> int:
    """How often the author's commits followed a review, before the approval.

    Args:
        reviews: instants of reviews by others, the approval not among them.
        commits: instants of the author's commits.
        approved_at: of the first approval; None: there was none yet.

    Returns:
        Alternations from review to commits; commits without a review in between are one.
    """
    acts = sorted([(at, False) for at in reviews] + [(at, True) for at in commits])
    cycles, awaits_commit = 0, False
    for at, is_commit in acts:
        if approved_at is not None and at >= approved_at:
            break
        if is_commit and awaits_commit:
            cycles += 1
        awaits_commit = not is_commit
    return cycles
