"""Imports of files: their log, and the bugs and test cases that they bring.

All functions take the session first and never commit. A bug that a sync brought in stays the sync's: a file never
changes it, and a sync that meets a file's bug takes it over (jira.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, Table, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError
from models.records import ImportedBug, ImportedTestCase
from models.store import connections
from models.store.copy import Landing, Written
from models.tables import METADATA

BUGS: Table = METADATA.tables["bug_budget"]
CASES: Table = METADATA.tables["test_cases"]

ERRORS_KEPT = 1_000
"""How many bad rows a log names; it counts all."""
ERROR_CHARACTERS = 1_000

CASE_KEY = ("repository_id", "path", "name", "framework")
# fmt: off
BUG_COLUMNS = (
    "tenant_id", "jira_key", "project", "project_id", "summary", "status", "issue_type", "final_issue_type",
    "priority", "severity_issue", "sprint", "status_category", "assignee_final", "reporter", "creator", "labels",
    "is_open", "created_date", "updated_date", "resolved_date", "due_date", "description", "linked_issues",
)
CASE_COLUMNS = (
    "tenant_id", "repository_id", "path", "name", "framework", "title", "suite_id", "description", "automated",
    "priority", "severity", "regression", "labels", "epic_link", "jira_key", "platform", "release_version",
    "defect_stage",
)
# fmt: on

# Of the landed bugs those that the table holds in another writer's, or in a newer, version.
REFUSED_BUGS = text(
    """
    SELECT l.jira_key, c.name AS connection, b.updated_date
    FROM landing_bug_budget l
    JOIN bug_budget b USING (tenant_id, jira_key)
    LEFT JOIN connections c ON c.id = b.connection_id
    WHERE b.connection_id IS NOT NULL OR (:has_updates AND b.updated_date > l.updated_date)
    """
)


class RowError(NamedTuple):
    """What was wrong with a row of a file. Line 0 stands for the whole file."""

    line: int
    columns: str
    error: str


class ImportTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The project that an import belongs to, and the repository of its test cases."""

    tenant_id: int
    project_id: int
    title: str
    timezone: str
    repository_id: int


def target(session: Session, project_id: int) -> ImportTarget:
    """Where the rows of a file for a project go: test cases, where uploaded test results of it go.

    Raises:
        NotFoundError: there is no such project.
    """
    row = session.execute(
        text("SELECT tenant_id, title, timezone FROM projects WHERE id = :id"), {"id": project_id}
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no project {project_id}.")
    return ImportTarget(
        tenant_id=row.tenant_id,
        project_id=project_id,
        title=row.title,
        timezone=row.timezone,
        repository_id=connections.ensure_upload_repository(session, row.tenant_id, project_id, row.title),
    )


def begin(session: Session, tenant_id: int, *, source: str, file_name: str) -> int:
    """Write the log of an import that is asked for; returns its id."""
    return int(
        session.execute(
            text(
                """
                INSERT INTO import_logs (tenant_id, source, file_name)
                VALUES (:tenant, CAST(:source AS import_source), :name) RETURNING id
                """
            ),
            {"tenant": tenant_id, "source": source, "name": file_name},
        ).scalar_one()
    )


def restart(session: Session, import_id: int) -> Row[Any]:
    """Set an import's log to its beginning: it starts, or starts again after it was interrupted.

    Returns:
        Its row.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = session.execute(
        text(
            """
            UPDATE import_logs SET status = 'processing', rows_total = 0, rows_imported = 0, rows_failed = 0,
                errors = '[]', updated_at = clock_timestamp()
            WHERE id = :id RETURNING *
            """
        ),
        {"id": import_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no import {import_id}.")
    return row


def advance(session: Session, import_id: int, *, imported_count: int, errors: Sequence[RowError]) -> None:
    """Count the rows of a batch, in the transaction that writes them."""
    session.execute(
        text(
            f"""
            UPDATE import_logs SET rows_total = rows_total + :imported + :failed,
                rows_imported = rows_imported + :imported, rows_failed = rows_failed + :failed,
                errors = CASE WHEN :failed = 0 OR jsonb_array_length(errors) >= {ERRORS_KEPT} THEN errors
                    ELSE jsonb_path_query_array(errors || CAST(:errors AS jsonb), '$[0 to {ERRORS_KEPT - 1}]') END,
                updated_at = clock_timestamp()
            WHERE id = :id
            """
        ),
        {
            "id": import_id,
            "imported": imported_count,
            "failed": len(errors),
            "errors": _json(errors[:ERRORS_KEPT]),
        },
    )


def end(session: Session, import_id: int, status: str, *, error: str | None = None) -> None:
    """End an import: completed, or failed with the reason why it did not come to the file's end."""
    session.execute(
        text(
            """
            UPDATE import_logs SET status = CAST(:status AS import_status), errors = errors || CAST(:errors AS jsonb),
                updated_at = clock_timestamp()
            WHERE id = :id
            """
        ),
        {"id": import_id, "status": status, "errors": _json([RowError(0, "", error)] if error else [])},
    )


def get(session: Session, import_id: int) -> Row[Any]:
    """The log of an import.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = session.execute(text("SELECT * FROM import_logs WHERE id = :id"), {"id": import_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no import {import_id}.")
    return row


def _json(errors: Sequence[RowError]) -> str:
    return json.dumps(
        [{"row": each.line, "column": each.columns, "error": each.error[:ERROR_CHARACTERS]} for each in errors]
    ).replace("\\u0000", "")


def write(
    session: Session, target: ImportTarget, records: Sequence[Any], *, columns: frozenset[str]
) -> tuple[Written, list[RowError]]:
    """Write a batch of bugs or of test cases, each by its natural key; what is stored as it came is not touched.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: where they belong.
        records: of one class, in the order of the file.
        columns: what the file says of them; with `updated`, an older bug never overwrites a newer one.

    Returns:
        What was written, and the rows that were left out because a sync or a newer copy owns the bug.
    """
    bugs = [each for each in records if isinstance(each, ImportedBug)]
    cases = [each for each in records if isinstance(each, ImportedTestCase)]
    written, errors = Written(), list[RowError]()
    if bugs:
        written, errors = _write_bugs(session, target, bugs, has_updates="updated" in columns)
    if cases:
        written = written.plus(_write_test_cases(session, target, cases, columns=columns))
    return written, errors


# --- bugs ---------------------------------------------------------------------------------------------------------


def _write_bugs(
    session: Session, target: ImportTarget, bugs: Sequence[ImportedBug], *, has_updates: bool
) -> tuple[Written, list[RowError]]:
    """Write bugs by their keys; of two with one key the later wins, or the one that was updated later."""
    latest: dict[str, ImportedBug] = {}
    lines: dict[str, list[int]] = {}
    errors: dict[int, RowError] = {}
    for bug in bugs:
        other = latest.get(bug.key)
        lines.setdefault(bug.key, []).append(bug.line)
        if has_updates and other and other.updated_at > bug.updated_at:
            errors[bug.line] = _older(bug.line, bug.key, other.updated_at)
        else:
            latest[bug.key] = bug
    landed = Landing(session, BUGS, BUG_COLUMNS)
    landed.fill(_bug_rows(target, latest.values()))
    written = landed.upsert(
        ("tenant_id", "jira_key"),
        newer=("updated_date",) if has_updates else (),
        stored_filter="bug_budget.connection_id IS NULL",
    )
    for key, connection, updated_at in session.execute(REFUSED_BUGS, {"has_updates": has_updates}):
        for line in lines[key]:
            errors[line] = (
                RowError(line, "key", f"key: {key} is kept in step with Jira by connection {connection}")
                if connection
                else _older(line, key, updated_at)
            )
    return written, list(errors.values())


def _older(line: int, key: str, updated_at: datetime) -> RowError:
    return RowError(line, "updated", f"updated: {key} is known as of {updated_at:%Y-%m-%dT%H:%M:%SZ}, this is older")


def _bug_rows(target: ImportTarget, bugs: Iterable[ImportedBug]) -> Iterator[Sequence[Any]]:
    for each in bugs:
        yield (
            target.tenant_id, each.key, each.key.rpartition("-")[0] or target.title, target.project_id,
            each.summary, each.status, each.issue_type, each.issue_type, each.priority, each.severity, each.sprint,
            each.status_category, each.assignee, each.reporter, each.creator, each.labels,
            each.status_category != "done", each.created_at, each.updated_at, each.resolved_at, each.due_on,
            each.description, (),
        )  # fmt: skip


# --- test cases ---------------------------------------------------------------------------------------------------


def _write_test_cases(
    session: Session, target: ImportTarget, cases: Sequence[ImportedTestCase], *, columns: frozenset[str]
) -> Written:
    """Write test cases by path, name and framework within the repository; of two with one key the later wins.

    Of a case that is stored, only what the file has a column for is written: people and test results say the rest.
    """
    latest = {(each.path, each.name, each.framework): each for each in cases}
    suites = _ensure_suites(session, target, sorted({each.suite for each in latest.values() if each.suite}))
    landed = Landing(session, CASES, CASE_COLUMNS)
    landed.fill(_case_rows(target, latest.values(), suites))
    names = {"suite_id" if name == "suite" else name for name in columns}
    return landed.upsert(
        CASE_KEY,
        key_filter="path IS NOT NULL",
        columns=[name for name in CASE_COLUMNS if name in {"tenant_id", "title", *CASE_KEY, *names}],
    )


def _ensure_suites(session: Session, target: ImportTarget, titles: Sequence[str]) -> dict[str, int]:
    if not titles:
        return {}
    parameters = {"repository": target.repository_id, "titles": list(titles)}
    session.execute(
        text(
            """
            INSERT INTO suites (repository_id, title) SELECT :repository, t FROM unnest(CAST(:titles AS text[])) AS t
            ORDER BY t ON CONFLICT (repository_id, parent_id, title) DO NOTHING
            """
        ),
        parameters,
    )
    rows = session.execute(
        text(
            "SELECT title, id FROM suites "
            "WHERE repository_id = :repository AND parent_id IS NULL AND title = ANY(:titles)"
        ),
        parameters,
    )
    return dict(rows.all())


def _case_rows(
    target: ImportTarget, cases: Iterable[ImportedTestCase], suites: dict[str, int]
) -> Iterator[Sequence[Any]]:
    for each in cases:
        yield (
            target.tenant_id, target.repository_id, each.path, each.name, each.framework, each.title,
            suites[each.suite] if each.suite else None, each.description, each.automated, each.priority,
            each.severity, each.regression, each.labels, each.epic_link, each.jira_key, each.platform,
            each.release_version, each.defect_stage,
        )  # fmt: skip
