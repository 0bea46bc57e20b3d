"""Launches of tests at their sources: which there are, which state of each was read, and what stands in the way.

The results themselves are written by `testing.py`. All functions take the session first and never commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, text
from sqlalchemy.orm import Session

from models.records import TestLaunch
from models.store.copy import Written, upsert
from models.store.sync import Target
from models.tables import METADATA

LAUNCHES: Table = METADATA.tables["allure_launches"]

KEY = ("tenant_id", "connection_id", "external_id")
# fmt: off
COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "external_id", "launch_key", "name",
    "fingerprint", "commit_sha", "branch", "build_name", "ci_url", "results_path", "summary", "started_at",
    "source_updated_at", "synced_at", "deleted_at",
)
# fmt: on

MOST_AT_ONCE = 1_000
"""How many launches one sync asks for; the next one asks for the rest."""

STILL_RUNNING = "('created', 'waiting_for_resource', 'preparing', 'waiting_for_callback', 'pending', 'running')"


def launch_rows(target: Target, launches: Sequence[TestLaunch], fetched_at: datetime) -> Iterator[Sequence[Any]]:
    """One row a part of a launch, in the order of `COLUMNS`."""
    for each in launches:
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, target.project_id, target.repository_id,
            each.external_id, each.launch_key, each.name, each.fingerprint, each.commit_sha, each.branch,
            each.build_name, each.ci_url, each.results_path, each.summary, each.started_at, each.updated_at,
            fetched_at, None,
        )  # fmt: skip


def write_launches(
    session: Session, target: Target, launches: Sequence[TestLaunch], *, fetched_at: datetime
) -> Written:
    """Write what sources show of launches; what was read of them stays.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        launches: any number.
        fetched_at: when; of two copies with one update time the later fetched wins.
    """
    if not launches:
        return Written()
    rows = launch_rows(target, launches, fetched_at)
    return upsert(session, LAUNCHES, COLUMNS, rows, KEY, newer=("source_updated_at", "synced_at"))


def due(session: Session, scope_id: int) -> list[str]:
    """Keys of the launches with something to read, the latest first; a pipeline that still runs is waited for."""
    rows = session.execute(
        text(
            f"""
            SELECT l.launch_key FROM allure_launches l
            WHERE l.sync_scope_id = :scope AND l.deleted_at IS NULL
              AND l.fingerprint IS DISTINCT FROM l.read_fingerprint
              AND NOT EXISTS (
                SELECT FROM gitlab_pipelines p
                WHERE p.sync_scope_id = l.sync_scope_id AND p.external_id = l.launch_key
                  AND p.deleted_at IS NULL AND p.status IN {STILL_RUNNING})
            GROUP BY l.launch_key ORDER BY max(l.source_updated_at) DESC, l.launch_key LIMIT :limit
            """
        ),
        {"scope": scope_id, "limit": MOST_AT_ONCE},
    )
    return list(rows.scalars())


def parts(session: Session, scope_id: int, launch_key: str) -> list[Row[Any]]:
    """The parts of a launch in the order in which they were made."""
    return list(
        session.execute(
            text(
                """
                SELECT id, external_id, name, fingerprint, read_fingerprint, commit_sha, branch, build_name, ci_url,
                       results_path, summary, started_at, allure_report_id, trouble,
                       fingerprint IS DISTINCT FROM read_fingerprint AS is_due
                FROM allure_launches WHERE sync_scope_id = :scope AND launch_key = :key AND deleted_at IS NULL
                ORDER BY started_at NULLS FIRST, length(external_id), external_id
                """
            ),
            {"scope": scope_id, "key": launch_key},
        )
    )


def set_read(session: Session, read: Sequence[Row[Any]], report_id: int | None) -> None:
    """Remember of parts which state of them was read, and into which report."""
    session.execute(
        text(
            """
            UPDATE allure_launches SET read_fingerprint = CAST(:fingerprint AS text), allure_report_id = :report,
                trouble = NULL
            WHERE id = :id
            """
        ),
        [{"id": each.id, "fingerprint": each.fingerprint, "report": report_id} for each in read],
    )


def set_trouble(session: Session, part: Row[Any], trouble: str) -> None:
    """Remember why a part is not read; it is not tried again until it changes."""
    session.execute(
        text("UPDATE allure_launches SET read_fingerprint = :fingerprint, trouble = :trouble WHERE id = :id"),
        {"id": part.id, "fingerprint": part.fingerprint, "trouble": trouble},
    )


def replaced_report(session: Session, launch_key: str, scope_id: int, report_id: int) -> int | None:
    """The report that a new report of the same launch takes the place of.

    A name that is used again for another launch, which began after the one before had ended, replaces nothing; nor
    does a report give way that another launch names.
    """
    return session.execute(
        text(
            """
            SELECT old.id FROM allure_report old JOIN allure_report new ON new.id = :report
            WHERE old.id <> new.id
              AND old.id IN (SELECT allure_report_id FROM allure_launches WHERE sync_scope_id = :scope
                             AND launch_key = :key)
              AND NOT EXISTS (SELECT FROM allure_launches o WHERE o.allure_report_id = old.id
                              AND (o.sync_scope_id, o.launch_key) <> (:scope, :key))
              AND coalesce(old.execution_stopped_at >= new.execution_started_at, true)
            ORDER BY old.id DESC LIMIT 1
            """
        ),
        {"report": report_id, "scope": scope_id, "key": launch_key},
    ).scalar_one_or_none()


def write_summary(session: Session, target: Target, part: Row[Any]) -> int:
    """A report that is nothing but the source's own counts, where it shows no more; returns its id."""
    return int(
        session.execute(
            text(
                """
                INSERT INTO allure_report AS r (tenant_id, project_id, repository_id, name, content_hash, status,
                    execution_started_at, build_name, commit_sha, branch, summary)
                VALUES (:tenant, :project, :repository, :name, :content_hash, 'completed', :started_at, :build_name,
                        :commit_sha, :branch, CAST(:summary AS jsonb))
                ON CONFLICT (project_id, content_hash) DO UPDATE SET updated_at = now()
                RETURNING id
                """
            ),
            {
                "tenant": target.tenant_id,
                "project": target.project_id,
                "repository": target.repository_id,
                "name": part.name,
                "content_hash": f"summary {part.external_id} {part.fingerprint}",
                "started_at": part.started_at,
                "build_name": part.build_name,
                "commit_sha": part.commit_sha,
                "branch": part.branch,
                "summary": json.dumps(part.summary),
            },
        ).scalar_one()
    )
