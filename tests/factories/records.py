"""Records with sensible values; tests name only what matters to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.records import Account, Issue, IssueChange, MergeRequest, MergeRequestActivity
from models.store import connections, sync

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def at(hours: float) -> datetime:
    """So many hours after a Monday morning."""
    return MONDAY + timedelta(hours=hours)


def account(name: str = "ann", **values: Any) -> Account:
    return Account(**{"external_id": f"id-{name}", "username": name, "display_name": name.title(), **values})


def change(field: str, before: str | None, after: str | None, **values: Any) -> IssueChange:
    defaults = {
        "change_id": "1",
        "item_index": 0,
        "author_id": "id-ann",
        "author_name": "Ann",
        "field": field,
        "field_name": field,
        "from_value": before,
        "from_text": before,
        "to_value": after,
        "to_text": after,
        "changed_at": at(1),
    }
    return IssueChange(**{**defaults, **values})


def issue(issue_id: str = "1001", **values: Any) -> Issue:
    defaults: dict[str, Any] = {
        "issue_id": issue_id,
        "key": f"SHOP-{issue_id}",
        "project_key": "SHOP",
        "issue_type": "Bug",
        "summary": "The basket forgets",
        "description": None,
        "status_id": "1",
        "status": "To Do",
        "status_category": "new",
        "status_category_changed_at": None,
        "priority": "High",
        "severity": None,
        "resolution": None,
        "labels": (),
        "components": (),
        "fix_versions": (),
        "assignee": account("ann"),
        "reporter": account("bob"),
        "creator": account("bob"),
        "parent_key": None,
        "epic_key": None,
        "epic_name": None,
        "sprint_id": None,
        "sprint": None,
        "sprint_state": None,
        "sprint_start_at": None,
        "sprint_end_at": None,
        "sprint_complete_at": None,
        "story_points": None,
        "original_estimate_seconds": None,
        "time_spent_seconds": None,
        "subtasks": (),
        "linked_issues": (),
        "comments_count": 0,
        "created_at": at(0),
        "updated_at": at(1),
        "resolved_at": None,
        "due_on": None,
        "changes": (),
    }
    return Issue(**{**defaults, **values})


def activity(kind: str, who: str, hours: float, external_id: str) -> MergeRequestActivity:
    return MergeRequestActivity(
        account_id=f"id-{who}", username=who, activity=kind, occurred_at=at(hours), external_id=external_id
    )


def merge_request(iid: int = 1, **values: Any) -> MergeRequest:
    defaults: dict[str, Any] = {
        "external_id": str(9000 + iid),
        "external_project_id": "101",
        "iid": iid,
        "project_path": "acme/shop",
        "title": "Remember the basket",
        "author": account("ann"),
        "state": "opened",
        "draft": False,
        "source_branch": "basket",
        "target_branch": "main",
        "web_url": None,
        "labels": (),
        "sha": "a" * 40,
        "merge_commit_sha": None,
        "squash_commit_sha": None,
        "created_at": at(0),
        "updated_at": at(1),
        "ready_at": at(0),
        "merged_at": None,
        "merged_at_is_estimated": False,
        "closed_at": None,
        "merged_by": None,
        "first_commit_at": at(-2),
        "first_review_at": None,
        "first_approved_at": None,
        "approved_at": None,
        "commits_count": 1,
        "notes_count": 0,
        "changes_count": 1,
        "is_truncated": False,
        "activities": (activity("authored", "ann", 0, "authored"),),
        "accounts": (account("ann"),),
    }
    return MergeRequest(**{**defaults, **values})


def scope(
    session: Session, *, kind: str = "jira", key: str = "SHOP", project: str = "Shop", name: str = ""
) -> sync.Target:
    """A connection with one scope and its project; returns where its records go."""
    tenant_id = connections.default_tenant(session)
    name = name or f"{kind} {key}"
    connection_id = session.execute(text("SELECT id FROM connections WHERE name = :name"), {"name": name}).scalar()
    if connection_id is None:
        connection_id = connections.add_connection(
            session, tenant_id, kind=kind, name=name, base_url=f"https://{kind}.example.com", auth="-", options={}
        )
    project_id = connections.ensure_project(session, tenant_id, project, timezone="UTC")
    repository_id = connections.ensure_repository(
        session, tenant_id, project_id, provider=kind, external_id=key, title=key
    )
    scope_id = connections.add_scope(
        session, connection_id, external_key=key, project_id=project_id, repository_id=repository_id, options={}
    )
    return sync.target(session, scope_id)
