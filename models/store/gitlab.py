"""Merge requests, what people did to them, and projects' activity: from records into tables.

All functions take the session first and never commit. Older copies never overwrite newer ones, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import MergeRequest, ProjectEvent
from models.store.copy import Landing, Written, upsert
from models.store.sync import Target
from models.tables import METADATA

MERGE_REQUESTS: Table = METADATA.tables["gitlab_mr_lead_times"]
ACTIVITIES: Table = METADATA.tables["gitlab_mr_activities"]
EVENTS: Table = METADATA.tables["gitlab_events"]

MERGE_REQUEST_KEY = ("tenant_id", "connection_id", "external_project_id", "mr_id")
ACTIVITY_KEY = ("connection_id", "external_project_id", "mr_id", "external_id")
EVENT_KEY = ("connection_id", "external_id")
# fmt: off
MERGE_REQUEST_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "project_name",
    "external_project_id", "external_id", "mr_id", "title", "author", "author_id", "state", "draft", "source_branch",
    "target_branch", "web_url", "labels", "sha", "merge_commit_sha", "squash_commit_sha", "mr_created_at",
    "first_commit_at", "ready_at", "first_review_at", "first_approved_at", "approved_at", "merged_at",
    "merged_at_is_estimated", "closed_at", "merged_by", "commits_count", "notes_count", "changes_count",
    "is_truncated", "source_updated_at", "synced_at", "deleted_at",
)
ACTIVITY_COLUMNS = (
    "tenant_id", "connection_id", "external_project_id", "mr_id", "external_id", "project_id", "account_id",
    "username", "activity", "occurred_at",
)
EVENT_COLUMNS = (
    "tenant_id", "connection_id", "external_id", "project_id", "external_project_id", "author", "author_id", "action",
    "target_type", "target_iid", "push_action", "push_ref_type", "push_commits", "occurred_at",
)
# fmt: on

# Approvals can be taken back and notes deleted: what is landed replaces what is stored, where it is not older.
DELETE_MISSING_ACTIVITIES = text(
    """
    DELETE FROM gitlab_mr_activities a
    USING gitlab_mr_lead_times t
    JOIN landing_gitlab_mr_lead_times l USING (tenant_id, connection_id, external_project_id, mr_id)
    WHERE (t.source_updated_at, t.synced_at) <= (l.source_updated_at, l.synced_at)
      AND a.connection_id = t.connection_id AND a.external_project_id = t.external_project_id AND a.mr_id = t.mr_id
      AND NOT EXISTS (
        SELECT FROM landing_gitlab_mr_activities n
        WHERE n.external_project_id = a.external_project_id AND n.mr_id = a.mr_id AND n.external_id = a.external_id)
    """
)

DROP_STALE_ACTIVITIES = text(
    """
    DELETE FROM landing_gitlab_mr_activities n
    USING gitlab_mr_lead_times t
    JOIN landing_gitlab_mr_lead_times l USING (tenant_id, connection_id, external_project_id, mr_id)
    WHERE (t.source_updated_at, t.synced_at) > (l.source_updated_at, l.synced_at)
      AND n.external_project_id = t.external_project_id AND n.mr_id = t.mr_id
    """
)


def merge_request_rows(
    target: Target, merge_requests: Sequence[MergeRequest], fetched_at: datetime
) -> Iterator[Sequence[Any]]:
    """One row a merge request, in the order of `MERGE_REQUEST_COLUMNS`."""
    for each in merge_requests:
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, target.project_id, target.repository_id,
            each.project_path, each.external_project_id, each.external_id, each.iid, each.title,
            each.author.username if each.author else None, each.author.external_id if each.author else None,
            each.state, each.draft, each.source_branch, each.target_branch, each.web_url, each.labels, each.sha,
            each.merge_commit_sha, each.squash_commit_sha, each.created_at, each.first_commit_at, each.ready_at,
            each.first_review_at, each.first_approved_at, each.approved_at, each.merged_at,
            each.merged_at_is_estimated, each.closed_at, each.merged_by.username if each.merged_by else None,
            each.commits_count, each.notes_count, each.changes_count, each.is_truncated, each.updated_at, fetched_at,
            None,
        )  # fmt: skip


def activity_rows(target: Target, merge_requests: Sequence[MergeRequest]) -> Iterator[Sequence[Any]]:
    """One row a thing that somebody did to them, in the order of `ACTIVITY_COLUMNS`."""
    for each in merge_requests:
        for activity in each.activities:
            yield (
                target.tenant_id, target.connection_id, each.external_project_id, each.iid, activity.external_id,
                target.project_id, target.account_key(activity.account_id), activity.username, activity.activity,
                activity.occurred_at,
            )  # fmt: skip


def write_merge_requests(
    session: Session, target: Target, merge_requests: Sequence[MergeRequest], *, fetched_at: datetime
) -> Written:
    """Write merge requests with everything that people did to them.

    Transaction: the caller's; all of it or nothing.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        merge_requests: complete; the activities of each replace the stored ones.
        fetched_at: when, so that of two copies with one update time the later fetched wins: GitLab leaves
            `updated_at` as it is for a minute while notes and approvals arrive.

    Returns:
        Rows of merge requests and activities.
    """
    if not merge_requests:
        return Written()
    landed = Landing(session, MERGE_REQUESTS, MERGE_REQUEST_COLUMNS)
    landed.fill(merge_request_rows(target, merge_requests, fetched_at))
    written = landed.upsert(MERGE_REQUEST_KEY, newer=("source_updated_at", "synced_at"))
    landed_activities = Landing(session, ACTIVITIES, ACTIVITY_COLUMNS)
    landed_activities.fill(activity_rows(target, merge_requests))
    session.execute(DROP_STALE_ACTIVITIES)
    deleted = session.execute(DELETE_MISSING_ACTIVITIES).rowcount  # type: ignore[attr-defined]  # a DELETE has a row count
    return written.plus(landed_activities.upsert(ACTIVITY_KEY)).plus(Written(deleted=deleted))


def event_rows(target: Target, events: Sequence[ProjectEvent]) -> Iterator[Sequence[Any]]:
    """One row an event, in the order of `EVENT_COLUMNS`."""
    for event in events:
        yield (
            target.tenant_id, target.connection_id, event.external_id, target.project_id, event.external_project_id,
            event.author.username if event.author else None,
            target.account_key(event.author.external_id if event.author else None), event.action, event.target_type,
            event.target_iid, event.push_action, event.push_ref_type, event.push_commits, event.occurred_at,
        )  # fmt: skip


def write_events(session: Session, target: Target, events: Sequence[ProjectEvent]) -> Written:
    """Write lines of activity; they never change at the source, and stay when GitLab forgets them.

    Transaction: the caller's.
    """
    if not events:
        return Written()
    return upsert(session, EVENTS, EVENT_COLUMNS, event_rows(target, events), EVENT_KEY)
