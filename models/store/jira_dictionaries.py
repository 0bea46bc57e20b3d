"""Jira's dictionaries: fields, statuses, priorities, versions, boards, sprints; and the issues that name them.

No change of a dictionary bumps an issue. What an issue's row says of its sprint follows the sprint's row at once, in
one statement, because the row knows the sprint's id. Where a status, priority or version gets another name, the issues
that name it are put in doubt, as those that name a moved issue are, and read again.

All functions take the session first and never commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import Board, Field, Priority, Sprint, Status, Version
from models.store.copy import Landing, Written, upsert
from models.store.sync import Target
from models.tables import METADATA

FIELDS: Table = METADATA.tables["jira_fields"]
STATUSES: Table = METADATA.tables["jira_statuses"]
PRIORITIES: Table = METADATA.tables["jira_priorities"]
VERSIONS: Table = METADATA.tables["jira_versions"]
BOARDS: Table = METADATA.tables["jira_boards"]
SPRINTS: Table = METADATA.tables["jira_sprints"]

MOST_UNLISTED = 500
"""So many are asked for by id in one run; the next one goes on."""


class _Held(msgspec.Struct, frozen=True):
    """The rows of a stream that its listing has to show."""

    table: Table
    key: str
    condition: str
    """SQL: which of its rows."""
    named: str = ""
    """SQL over an issue `i` and an entry `t`: that the issue names it; empty where its row does not."""


HELD = {
    "priorities": _Held(PRIORITIES, "priority_id", "true", "i.priority = t.name"),
    "versions": _Held(VERSIONS, "version_id", "sync_scope_id = :scope", "i.fix_versions @> to_jsonb(t.name)"),
    "boards": _Held(BOARDS, "board_id", "sync_scope_id = :scope"),
    # The listing of each run is of open sprints; those that were closed have to be asked for.
    "sprints": _Held(SPRINTS, "sprint_id", "sync_scope_id = :scope AND state <> 'closed'", "i.sprint_id = t.sprint_id"),
}

# What each issue that names an entry says is its name of then.
DOUBT_WHO_NAMES = """
    INSERT INTO doubtful_objects (sync_scope_id, resource, external_id)
    SELECT i.sync_scope_id, 'issues', i.issue_id
    FROM {table} t
    JOIN jira_table_history i ON i.connection_id = t.connection_id AND i.deleted_at IS NULL AND {named}
    WHERE {which}
    ON CONFLICT DO NOTHING
"""
RENAMED = """
    EXISTS (SELECT FROM landing_{table} l
            WHERE l.connection_id = t.connection_id AND l.{key} = t.{key} AND l.name <> t.name)
"""

FOLLOW_SPRINTS = text(
    """
    UPDATE jira_table_history i SET sprint = s.name, sprint_state = s.state, sprint_start_date = s.start_at,
        sprint_end_date = s.end_at, sprint_complete_date = s.complete_at
    FROM landing_jira_sprints l
    JOIN jira_sprints s USING (connection_id, sprint_id)
    WHERE i.connection_id = s.connection_id AND i.sprint_id = s.sprint_id AND i.synced_at <= l.synced_at
      AND (i.sprint, i.sprint_state, i.sprint_start_date, i.sprint_end_date, i.sprint_complete_date)
          IS DISTINCT FROM (s.name, s.state, s.start_at, s.end_at, s.complete_at)
    """
)
FOLLOW_SPRINTS_OF_BUGS = text(
    """
    UPDATE bug_budget b SET sprint = i.sprint, updated_at = now()
    FROM landing_jira_sprints s
    JOIN jira_table_history i USING (connection_id, sprint_id)
    WHERE b.connection_id = i.connection_id AND b.issue_id = i.issue_id AND b.sprint IS DISTINCT FROM i.sprint
    """
)


def write_fields(session: Session, target: Target, fields: Sequence[Field]) -> Written:
    """Write what the instance's fields are and mean.

    Transaction: the caller's.
    """
    if not fields:
        return Written()
    columns = ("tenant_id", "connection_id", "field_id", "name", "field_type", "is_custom", "role")
    rows = (
        (target.tenant_id, target.connection_id, each.field_id, each.name, each.field_type, each.is_custom, each.role)
        for each in fields
    )
    return upsert(session, FIELDS, columns, rows, ("connection_id", "field_id"), is_mostly_same=True)


def write_statuses(session: Session, target: Target, statuses: Sequence[Status]) -> Written:
    """Write the instance's statuses with their categories.

    Transaction: the caller's.
    """
    if not statuses:
        return Written()
    columns = ("tenant_id", "connection_id", "status_id", "name", "category")
    rows = ((target.tenant_id, target.connection_id, each.status_id, each.name, each.category) for each in statuses)
    return _write_named(session, STATUSES, "status_id", columns, rows, named="i.status_id = t.status_id")


def write_priorities(session: Session, target: Target, priorities: Sequence[Priority]) -> Written:
    """Write the instance's priorities.

    Transaction: the caller's.
    """
    columns = ("tenant_id", "connection_id", "priority_id", "name", "description", "deleted_at")
    rows = (
        (target.tenant_id, target.connection_id, each.priority_id, each.name, each.description, None)
        for each in priorities
    )
    if not priorities:
        return Written()
    return _write_named(session, PRIORITIES, "priority_id", columns, rows, named=HELD["priorities"].named)


def write_versions(session: Session, target: Target, versions: Sequence[Version], *, fetched_at: datetime) -> Written:
    """Write the versions of a project.

    Transaction: the caller's.
    """
    if not versions:
        return Written()
    columns = (
        "tenant_id", "connection_id", "sync_scope_id", "synced_at", "deleted_at", "version_id", "external_project_id",
        "name", "description", "is_archived", "is_released", "start_on", "release_on",
    )  # fmt: skip
    rows = (
        (*_origin(target, fetched_at), each.version_id, each.external_project_id, each.name, each.description,
         each.is_archived, each.is_released, each.start_on, each.release_on)
        for each in versions
    )  # fmt: skip
    return _write_named(session, VERSIONS, "version_id", columns, rows, named=HELD["versions"].named)


def write_boards(session: Session, target: Target, boards: Sequence[Board], *, fetched_at: datetime) -> Written:
    """Write the boards that show a project.

    Transaction: the caller's.
    """
    if not boards:
        return Written()
    columns = (
        "tenant_id", "connection_id", "sync_scope_id", "synced_at", "deleted_at", "board_id", "name", "kind",
        "project_key",
    )  # fmt: skip
    rows = ((*_origin(target, fetched_at), each.board_id, each.name, each.kind, each.project_key) for each in boards)
    return upsert(session, BOARDS, columns, rows, ("connection_id", "board_id"), keep=_WHERE_FROM, is_mostly_same=True)


def write_sprints(session: Session, target: Target, sprints: Sequence[Sprint], *, fetched_at: datetime) -> Written:
    """Write sprints, and what the issues in them say of them.

    Transaction: the caller's.
    """
    if not sprints:
        return Written()
    columns = (
        "tenant_id", "connection_id", "sync_scope_id", "synced_at", "deleted_at", "sprint_id", "board_id", "name",
        "state", "goal", "start_at", "end_at", "activated_at", "complete_at",
    )  # fmt: skip
    landing = Landing(session, SPRINTS, columns)
    landing.fill(
        (*_origin(target, fetched_at), each.sprint_id, each.board_id, each.name, each.state, each.goal, each.start_at,
         each.end_at, each.activated_at, each.complete_at)
        for each in sprints
    )  # fmt: skip
    written = landing.upsert(
        ("connection_id", "sprint_id"), keep=_WHERE_FROM, stored_filter="jira_sprints.synced_at <= excluded.synced_at",
        is_mostly_same=True,
    )  # fmt: skip
    followed = session.execute(FOLLOW_SPRINTS).rowcount  # type: ignore[attr-defined]  # an UPDATE has a row count
    session.execute(FOLLOW_SPRINTS_OF_BUGS)
    return written.plus(Written(updated=followed))


_WHERE_FROM = ("sync_scope_id", "synced_at")
"""Scopes of one instance may show the same entry; that alone is no change of it."""


def _origin(target: Target, fetched_at: datetime) -> tuple[Any, ...]:
    return target.tenant_id, target.connection_id, target.sync_scope_id, fetched_at, None


def _write_named(
    session: Session, table: Table, key: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, named: str
) -> Written:
    """Write entries that issues name, and put those issues in doubt that name one by a name that it had."""
    landing = Landing(session, table, columns)
    landing.fill(rows)
    renamed = RENAMED.format(table=table.name, key=key)
    session.execute(text(DOUBT_WHO_NAMES.format(table=table.name, named=named, which=renamed)))
    keep = [name for name in _WHERE_FROM if name in columns]
    return landing.upsert(("connection_id", key), keep=keep, is_mostly_same=True)


def unlisted(session: Session, target: Target, stream: str, listed: Iterable[str]) -> tuple[str, ...]:
    """What is held of a stream that was read whole and is not among what was read.

    Args:
        session: inside a transaction.
        target: the scope.
        stream: any; of those that are not looked after in this way nothing is unlisted.
        listed: the ids that came.

    Returns:
        Ids at the source, at most `MOST_UNLISTED`.
    """
    if stream not in HELD:
        return ()
    held = HELD[stream]
    rows = session.execute(
        text(
            f"""
            SELECT {held.key} FROM {held.table.name}
            WHERE connection_id = :connection AND deleted_at IS NULL AND {held.condition}
              AND NOT {held.key} = ANY(:listed)
            ORDER BY {held.key} LIMIT :limit
            """
        ),
        {
            "connection": target.connection_id,
            "scope": target.sync_scope_id,
            "listed": list(listed),
            "limit": MOST_UNLISTED,
        },
    )
    return tuple(rows.scalars())


def tombstone(session: Session, target: Target, stream: str, external_ids: Sequence[str], *, at: datetime) -> int:
    """Mark entries as deleted at their source, and put in doubt which issues name them.

    Being read again takes the mark away.

    Transaction: the caller's.
    """
    held = HELD[stream]
    parameters = {"connection": target.connection_id, "ids": list(external_ids), "at": at}
    which = f"t.connection_id = :connection AND t.deleted_at IS NULL AND t.{held.key} = ANY(:ids)"
    if held.named:
        session.execute(text(DOUBT_WHO_NAMES.format(table=held.table.name, named=held.named, which=which)), parameters)
    marked = session.execute(
        text(
            f"""
            UPDATE {held.table.name} t SET deleted_at = :at WHERE {which}
            """
        ),
        parameters,
    )
    return int(marked.rowcount)  # type: ignore[attr-defined]  # an UPDATE has a row count


def field_ids_by_role(session: Session, connection_id: int) -> dict[str, str]:
    """Which custom field has which role at an instance, as parsing needs it.

    Returns:
        Role to field id; empty before the fields were read.
    """
    rows = session.execute(
        text(
            """
            SELECT DISTINCT ON (role) role, field_id FROM jira_fields
            WHERE connection_id = :id AND role IS NOT NULL AND is_active ORDER BY role, length(field_id), field_id
            """
        ),
        {"id": connection_id},
    )
    return dict(rows.all())


def field_ids_by_name(session: Session, connection_id: int) -> dict[str, str]:
    """Custom fields by name, for the histories of old servers, which give names only.

    Returns:
        Name to field id; a name that several fields share is left out, because it says nothing.
    """
    rows = session.execute(
        text(
            """
            SELECT name, min(field_id) FROM jira_fields
            WHERE connection_id = :id AND is_custom AND is_active GROUP BY name HAVING count(*) = 1
            """
        ),
        {"id": connection_id},
    )
    return dict(rows.all())
