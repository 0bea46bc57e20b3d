"""Issues, their changes, the bugs among them: from records into tables. Dictionaries are in jira_dictionaries.py.

All functions take the session first and never commit. Older copies never overwrite newer ones, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import Account, Issue
from models.store.copy import Landing, Written
from models.store.sync import Target
from models.tables import METADATA

ISSUES: Table = METADATA.tables["jira_table_history"]
CHANGES: Table = METADATA.tables["jira_issue_changes"]

ISSUE_KEY = ("tenant_id", "connection_id", "issue_id")
CHANGE_KEY = ("connection_id", "issue_id", "change_id", "item_index")
# fmt: off
ISSUE_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "issue_id", "issuekey", "project", "issuetype",
    "summary", "description", "components", "epic_link", "epic_name", "fix_versions", "priority", "severity_issue",
    "comment", "comments_count", "log_work", "worklogs_count", "time_to_first_response",
    "subtasks", "parent", "labels", "linked_issues", "created", "due_date", "sprint", "sprint_id",
    "sprint_state", "sprint_start_date", "sprint_end_date", "sprint_complete_date", "status_id", "status",
    "status_category", "status_category_changed", "assignee", "assignee_id", "reporter", "reporter_id", "creator",
    "creator_id", "story_points", "original_estimate", "time_spent", "updated", "resolution", "resolved", "synced_at",
    "deleted_at",
)
CHANGE_COLUMNS = (
    "tenant_id", "connection_id", "issue_id", "change_id", "item_index", "author_id", "author", "field", "field_name",
    "from_value", "from_text", "to_value", "to_text", "changed_at",
)
BUG_COLUMNS = (
    "project", "project_id", "summary", "status", "issue_type", "final_issue_type", "priority", "severity_issue",
    "sprint", "status_category", "assignee_final", "assignee_id", "reporter", "reporter_id", "creator", "creator_id",
    "labels", "is_open", "created_date", "updated_date", "resolved_date", "due_date", "description", "linked_issues",
    "first_response_at", "is_blocker", "deleted_at",
)
# fmt: on

# The landed issues that the table now holds in this copy; one that lost against a newer copy is not among them.
CURRENT = """
    SELECT t.* FROM jira_table_history t JOIN landing_jira_table_history l USING (tenant_id, connection_id, issue_id)
    WHERE (t.updated, t.synced_at) <= (l.updated, l.synced_at)
"""

DELETE_MISSING_CHANGES = text(
    f"""
    DELETE FROM jira_issue_changes c USING ({CURRENT}) AS i
    WHERE c.connection_id = i.connection_id AND c.issue_id = i.issue_id AND NOT EXISTS (
        SELECT FROM landing_jira_issue_changes l
        WHERE l.issue_id = c.issue_id AND l.change_id = c.change_id AND l.item_index = c.item_index)
    """
)

# An issue's payload says of its sprint what was true when it was fetched, and a sprint changes without its issues.
FOLLOW_SPRINTS = text(
    """
    UPDATE jira_table_history i SET sprint = s.name, sprint_state = s.state, sprint_start_date = s.start_at,
        sprint_end_date = s.end_at, sprint_complete_date = s.complete_at
    FROM landing_jira_table_history l
    JOIN jira_sprints s USING (connection_id, sprint_id)
    WHERE i.tenant_id = l.tenant_id AND i.connection_id = l.connection_id AND i.issue_id = l.issue_id
      AND i.sprint_id = s.sprint_id AND s.deleted_at IS NULL AND s.synced_at >= i.synced_at
      AND (i.sprint, i.sprint_state, i.sprint_start_date, i.sprint_end_date, i.sprint_complete_date)
          IS DISTINCT FROM (s.name, s.state, s.start_at, s.end_at, s.complete_at)
    """
)

# Which of the landed issues are, or ever were, bugs: asked once, because four statements need it.
LANDING_BUGS = text(
    """
    CREATE TEMP TABLE IF NOT EXISTS landing_bugs (tenant_id bigint, connection_id bigint, issue_id text, is_bug boolean)
    ON COMMIT DELETE ROWS
    """
)
CLEAR_BUGS = text("DELETE FROM landing_bugs")
FIND_BUGS = text(
    f"""
    INSERT INTO landing_bugs (tenant_id, connection_id, issue_id, is_bug)
    SELECT i.tenant_id, i.connection_id, i.issue_id, lower(i.issuetype) = ANY(:bug_types) FROM ({CURRENT}) AS i
    WHERE lower(i.issuetype) = ANY(:bug_types) OR i.issue_id IN (
        SELECT c.issue_id FROM landing_jira_issue_changes c
        WHERE c.field = 'issuetype'
          AND (lower(c.from_text) = ANY(:bug_types) OR lower(c.to_text) = ANY(:bug_types)))
    """
)

# A bug that a file brought in gives way to an issue that takes its key and has a row of its own.
DELETE_IMPORTED_TWINS = text(
    """
    DELETE FROM bug_budget f
    USING landing_bugs l
    JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
    JOIN bug_budget b USING (connection_id, issue_id)
    WHERE f.tenant_id = i.tenant_id AND f.jira_key = i.issuekey AND f.connection_id IS NULL AND f.id <> b.id
    """
)

# A moved issue keeps its row under its new key.
RENAME_BUGS = text(
    """
    UPDATE bug_budget b SET jira_key = i.issuekey, updated_at = now()
    FROM landing_bugs l JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
    WHERE b.connection_id = l.connection_id AND b.issue_id = l.issue_id AND b.jira_key <> i.issuekey
    """
)

# An issue that ever was a bug stays one in this table, closed, when it becomes something else. A bug that a file
# brought in becomes the connection's.
UPSERT_BUGS = text(
    f"""
    WITH severities AS (
        SELECT DISTINCT ON (source_name) source_name, severity FROM severity_mappings
        WHERE tenant_id = :tenant_id OR tenant_id IS NULL ORDER BY source_name, tenant_id NULLS LAST
    )
    INSERT INTO bug_budget AS b
        (tenant_id, connection_id, issue_id, jira_key, last_synced_at, {", ".join(BUG_COLUMNS)})
    SELECT i.tenant_id, i.connection_id, i.issue_id, i.issuekey, i.synced_at,
        i.project, i.project_id, i.summary, i.status, i.issuetype, i.issuetype, i.priority,
        COALESCE(s.severity, p.severity, 'medium'), i.sprint, i.status_category, i.assignee, i.assignee_id,
        i.reporter, i.reporter_id, i.creator, i.creator_id, i.labels,
        l.is_bug AND i.status_category IS DISTINCT FROM 'done' AND i.deleted_at IS NULL,
        i.created, i.updated, i.resolved, i.due_date, i.description, i.linked_issues,
        i.time_to_first_response, COALESCE(lower(COALESCE(i.severity_issue, i.priority)) = 'blocker', false),
        i.deleted_at
    FROM landing_bugs l
    JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
    LEFT JOIN severities s ON s.source_name = lower(i.severity_issue)
    LEFT JOIN severities p ON p.source_name = lower(i.priority)
    ORDER BY i.tenant_id, i.issuekey
    ON CONFLICT (tenant_id, jira_key) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in BUG_COLUMNS)},
        connection_id = COALESCE(b.connection_id, excluded.connection_id),
        issue_id = COALESCE(b.issue_id, excluded.issue_id),
        last_synced_at = excluded.last_synced_at, updated_at = now()
    WHERE b.connection_id IS NULL OR ({", ".join(f"b.{name}" for name in BUG_COLUMNS)})
        IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in BUG_COLUMNS)})
    """
)

UPSERT_BUG_METADATA = text(
    """
    INSERT INTO bug_budget_metadata AS m (bug_budget_id, epic_hierarchy, assignee_details, date_fields,
        classification_fields, story_points_data, version_fields)
    SELECT b.id,
        jsonb_build_object('epic_link', i.epic_link, 'epic_name', i.epic_name, 'parent', i.parent),
        jsonb_build_object('assignee', i.assignee, 'assignee_id', i.assignee_id),
        jsonb_build_object('created', i.created, 'updated', i.updated, 'resolved', i.resolved, 'due', i.due_date),
        jsonb_build_object('labels', i.labels, 'components', i.components, 'severity', i.severity_issue,
                           'resolution', i.resolution),
        jsonb_build_object('story_points', i.story_points),
        jsonb_build_object('fix_versions', i.fix_versions)
    FROM landing_bugs l
    JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
    JOIN bug_budget b USING (tenant_id, connection_id, issue_id)
    ON CONFLICT (bug_budget_id) DO UPDATE SET
        epic_hierarchy = excluded.epic_hierarchy, assignee_details = excluded.assignee_details,
        date_fields = excluded.date_fields, classification_fields = excluded.classification_fields,
        story_points_data = excluded.story_points_data, version_fields = excluded.version_fields
    WHERE (m.epic_hierarchy, m.assignee_details, m.date_fields, m.classification_fields, m.story_points_data,
           m.version_fields)
        IS DISTINCT FROM (excluded.epic_hierarchy, excluded.assignee_details, excluded.date_fields,
                          excluded.classification_fields, excluded.story_points_data, excluded.version_fields)
    """
)

DELETE_MISSING_BUG_HISTORY = text(
    """
    DELETE FROM bug_history h
    USING bug_budget b JOIN landing_bugs l USING (connection_id, issue_id)
    WHERE h.bug_budget_id = b.id AND NOT EXISTS (
        SELECT FROM jira_issue_changes c
        WHERE c.connection_id = b.connection_id AND c.issue_id = b.issue_id
          AND c.change_id = h.change_id AND c.item_index = h.item_index)
    """
)

INSERT_BUG_HISTORY = text(
    """
    INSERT INTO bug_history (tenant_id, bug_budget_id, change_id, item_index, field, old_value, new_value, changed_by,
                             changed_at)
    SELECT b.tenant_id, b.id, c.change_id, c.item_index, c.field_name,
        COALESCE(c.from_text, c.from_value), COALESCE(c.to_text, c.to_value), c.author, c.changed_at
    FROM landing_bugs l
    JOIN bug_budget b USING (connection_id, issue_id)
    JOIN landing_jira_issue_changes c USING (connection_id, issue_id)
    ON CONFLICT DO NOTHING
    """
)


# Issues name others by key and epics by title, and are not updated at the source when those move, are renamed or go, so
# that no window of update time would bring them.
NAMING = """
    (t.issuekey IN (o.parent, o.epic_link) OR o.subtasks @> to_jsonb(t.issuekey)
     OR o.linked_issues @> jsonb_build_array(jsonb_build_object('key', t.issuekey)))
"""
NAMES_THAT_CHANGED = text(
    """
    SELECT t.id, l.issuekey <> t.issuekey AS has_moved
    FROM landing_jira_table_history l JOIN jira_table_history t USING (tenant_id, connection_id, issue_id)
    WHERE (l.issuekey, l.summary) <> (t.issuekey, t.summary) AND l.updated >= t.updated
    """
)
DOUBT_WHO_NAMES_WHAT_CHANGED = text(
    f"""
    INSERT INTO doubtful_objects (sync_scope_id, resource, external_id)
    SELECT o.sync_scope_id, 'issues', o.issue_id
    FROM jira_table_history t
    JOIN jira_table_history o ON o.connection_id = t.connection_id AND o.issue_id <> t.issue_id AND (
        (t.id = ANY(:moved) AND {NAMING}) OR t.issuekey IN (o.parent, o.epic_link))
    WHERE t.id = ANY(:changed) AND o.deleted_at IS NULL
    ON CONFLICT DO NOTHING
    """
)
DOUBT_WHO_NAMES_THE_DEAD = text(
    f"""
    INSERT INTO doubtful_objects (sync_scope_id, resource, external_id)
    SELECT o.sync_scope_id, 'issues', o.issue_id
    FROM jira_table_history t
    JOIN jira_table_history o ON o.connection_id = t.connection_id AND {NAMING}
    WHERE t.connection_id = :connection AND t.issue_id = ANY(:ids) AND t.deleted_at IS NOT NULL AND o.deleted_at IS NULL
    ON CONFLICT DO NOTHING
    """
)


def _person(account: Account | None) -> tuple[str | None, str | None]:
    if account is None:
        return None, None
    return account.display_name or account.username, account.external_id


def issue_rows(
    target: Target, issues: Sequence[Issue], projects: dict[str, int], fetched_at: datetime
) -> Iterator[Sequence[Any]]:
    """One row an issue, in the order of `ISSUE_COLUMNS`."""
    for issue in issues:
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, projects.get(issue.project_key),
            issue.issue_id, issue.key, issue.project_key, issue.issue_type, issue.summary, issue.description,
            issue.components, issue.epic_key, issue.epic_name, issue.fix_versions, issue.priority, issue.severity,
            issue.comments, issue.comments_count, issue.worklogs, issue.worklogs_count, issue.first_response_at,
            issue.subtasks, issue.parent_key, issue.labels, issue.linked_issues,
            issue.created_at, issue.due_on, issue.sprint, issue.sprint_id, issue.sprint_state, issue.sprint_start_at,
            issue.sprint_end_at, issue.sprint_complete_at, issue.status_id, issue.status, issue.status_category,
            issue.status_category_changed_at, *_person(issue.assignee), *_person(issue.reporter),
            *_person(issue.creator), issue.story_points, issue.original_estimate_seconds, issue.time_spent_seconds,
            issue.updated_at, issue.resolution, issue.resolved_at, fetched_at, None,
        )  # fmt: skip


def change_rows(target: Target, issues: Sequence[Issue]) -> Iterator[Sequence[Any]]:
    """One row an item of their histories, in the order of `CHANGE_COLUMNS`."""
    tenant_id, connection_id = target.tenant_id, target.connection_id
    for issue in issues:
        for change in issue.changes:
            yield (
                tenant_id, connection_id, issue.issue_id, change.change_id, change.item_index, change.author_id,
                change.author_name, change.field, change.field_name, change.from_value, change.from_text,
                change.to_value, change.to_text, change.changed_at,
            )  # fmt: skip


def write_issues(session: Session, target: Target, issues: Sequence[Issue], *, fetched_at: datetime) -> Written:
    """Write issues with their whole history, and what follows from them for bugs.

    Transaction: the caller's; all of it or nothing.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        issues: complete, each with its whole changelog; a set of changes replaces the stored one.
        fetched_at: when, so that of two copies with one update time the later fetched wins.

    Returns:
        Rows of the mirror and of its changes.
    """
    if not issues:
        return Written()
    projects = target.projects_by_key(session)
    landed_issues = Landing(session, ISSUES, ISSUE_COLUMNS)
    landed_issues.fill(issue_rows(target, issues, projects, fetched_at))
    changed = session.execute(NAMES_THAT_CHANGED).all()
    if changed:  # rarely; who names them is looked for in the whole mirror
        moved = [row.id for row in changed if row.has_moved]
        session.execute(DOUBT_WHO_NAMES_WHAT_CHANGED, {"changed": [row.id for row in changed], "moved": moved})
    written = landed_issues.upsert(ISSUE_KEY, newer=("updated", "synced_at"))
    session.execute(FOLLOW_SPRINTS)
    landed_changes = Landing(session, CHANGES, CHANGE_COLUMNS)
    landed_changes.fill(change_rows(target, issues))
    deleted = session.execute(DELETE_MISSING_CHANGES).rowcount  # type: ignore[attr-defined]  # a DELETE has a row count
    written = written.plus(landed_changes.upsert(CHANGE_KEY)).plus(Written(deleted=deleted))
    _write_bugs(session, target, is_history_shorter=deleted > 0)
    return written


def bury(session: Session, target: Target, issue_ids: Sequence[str]) -> None:
    """Let bugs follow the tombstones of their issues, and put those that name the dead in doubt.

    Transaction: the caller's.
    """
    session.execute(
        text(
            """
            UPDATE bug_budget b SET deleted_at = i.deleted_at, is_open = false, updated_at = now()
            FROM jira_table_history i
            WHERE i.connection_id = :connection AND i.issue_id = ANY(:ids) AND i.deleted_at IS NOT NULL
              AND b.connection_id = i.connection_id AND b.issue_id = i.issue_id AND b.deleted_at IS NULL
            """
        ),
        {"connection": target.connection_id, "ids": list(issue_ids)},
    )
    session.execute(DOUBT_WHO_NAMES_THE_DEAD, {"connection": target.connection_id, "ids": list(issue_ids)})


def _write_bugs(session: Session, target: Target, *, is_history_shorter: bool) -> None:
    """Write what follows for bugs from the issues and changes that are landed."""
    session.execute(LANDING_BUGS)
    session.execute(CLEAR_BUGS)
    session.execute(FIND_BUGS, {"bug_types": list(target.bug_types)})
    session.execute(DELETE_IMPORTED_TWINS)
    session.execute(RENAME_BUGS)
    session.execute(UPSERT_BUGS, {"tenant_id": target.tenant_id})
    session.execute(UPSERT_BUG_METADATA)
    if is_history_shorter:
        session.execute(DELETE_MISSING_BUG_HISTORY)
    session.execute(INSERT_BUG_HISTORY)
