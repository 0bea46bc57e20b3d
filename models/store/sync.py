"""Windows, watermarks, staged payloads and rejects: the bookkeeping of syncing.

All functions take the session first and never commit. Connections and scopes stand in `connections.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import zstandard
from sqlalchemy import Row, Table, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError
from models.rules.bugs import DEFAULT_BUG_TYPES
from models.store.copy import Written, upsert
from models.tables import METADATA

STAGED: Table = METADATA.tables["staged_payloads"]
REJECTS: Table = METADATA.tables["sync_rejects"]

COMPRESSION_LEVEL = 1
"""Level 3 saves a tenth of the space and costs twice the time (benchmarks/sync.py)."""
REJECT_PAYLOAD_CHARACTERS = 100_000
REJECT_REASON_CHARACTERS = 2_000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records of a scope go: the ids that every row of theirs carries."""

    tenant_id: int
    connection_id: int
    source: str
    """The connection's kind."""
    base_url: str
    sync_scope_id: int
    external_key: str
    project_id: int
    repository_id: int | None
    bug_types: tuple[str, ...] = DEFAULT_BUG_TYPES

    def account_key(self, external_id: str | None) -> str | None:
        """An account's id that is unique over instances: host and id there."""
        return None if external_id is None else f"{urlsplit(self.base_url).netloc}/{external_id}"

    def projects_by_key(self, session: Session) -> dict[str, int]:
        """Our project of each scope of the connection, by the scope's key."""
        rows = session.execute(
            text("SELECT external_key, project_id FROM sync_scopes WHERE connection_id = :id"),
            {"id": self.connection_id},
        )
        return dict(rows.all())


def target(session: Session, scope_id: int) -> Target:
    """The target of a scope.

    Raises:
        NotFoundError: there is no such scope.
    """
    row = session.execute(
        text(
            """
            SELECT c.tenant_id, c.id AS connection_id, c.kind AS source, c.base_url, s.id AS sync_scope_id,
                   s.external_key, s.project_id, s.repository_id, c.options -> 'bug_types' AS bug_types
            FROM sync_scopes s JOIN connections c ON c.id = s.connection_id WHERE s.id = :id
            """
        ),
        {"id": scope_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no scope {scope_id}.")
    facts = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented way to a dictionary
    bug_types = facts.pop("bug_types") or DEFAULT_BUG_TYPES
    return Target(**facts, bug_types=tuple(str(name).lower() for name in bug_types))


# --- windows and watermarks -------------------------------------------------------------------------------------


def watermark(session: Session, scope_id: int, resource: str) -> datetime | None:
    """How far a stream is known to be complete, by the vendor's clock; None before the first sync is."""
    return session.execute(
        text("SELECT complete_until FROM watermarks WHERE sync_scope_id = :scope AND resource = :resource"),
        {"scope": scope_id, "resource": resource},
    ).scalar_one_or_none()


def unfinished_windows(session: Session, scope_id: int, resource: str) -> list[int]:
    """Ids of the windows of a stream that are not done, newest span first."""
    rows = session.execute(
        text(
            """
            SELECT id FROM sync_windows WHERE sync_scope_id = :scope AND resource = :resource AND state <> 'done'
            ORDER BY until DESC NULLS FIRST, id
            """
        ),
        {"scope": scope_id, "resource": resource},
    )
    return list(rows.scalars())


def plan_windows(
    session: Session,
    scope_id: int,
    resource: str,
    spans: Sequence[tuple[datetime | None, datetime | None]],
    *,
    run_started_at: datetime,
) -> list[int]:
    """Write the windows of a run; the watermark moves to `run_started_at` once all of them are done.

    Args:
        session: inside a transaction.
        scope_id: the scope.
        resource: the stream.
        spans: half-open, by the vendor's clock, in the order in which they are to be collected.
        run_started_at: by the vendor's clock.

    Returns:
        Their ids in that order.
    """
    rows = session.execute(
        text(
            """
            INSERT INTO sync_windows (sync_scope_id, resource, since, until, run_started_at)
            SELECT :scope, :resource, since, until, :run_started_at
            FROM unnest(CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[])) WITH ORDINALITY
                AS span (since, until, position)
            ORDER BY position
            RETURNING id
            """
        ),
        {
            "scope": scope_id,
            "resource": resource,
            "since": [since for since, _ in spans],
            "until": [until for _, until in spans],
            "run_started_at": run_started_at,
        },
    )
    return sorted(rows.scalars())


def window(session: Session, window_id: int) -> Row[Any]:
    """A window with its scope's id, stream, span, state and where to resume.

    Raises:
        NotFoundError: there is no such window.
    """
    row = session.execute(text("SELECT * FROM sync_windows WHERE id = :id"), {"id": window_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no window {window_id}.")
    return row


def start_window(session: Session, window_id: int) -> None:
    """Count an attempt at a window."""
    session.execute(
        text("UPDATE sync_windows SET state = 'running', attempts = attempts + 1, last_error = NULL WHERE id = :id"),
        {"id": window_id},
    )


def advance_window(session: Session, window_id: int, *, page_token: str | None, rows_seen: int, written: int) -> None:
    """Remember how far a window is read, in the transaction that wrote the page."""
    session.execute(
        text(
            """
            UPDATE sync_windows SET page_token = :page_token, rows_seen = rows_seen + :seen,
                rows_written = rows_written + :written
            WHERE id = :id
            """
        ),
        {"id": window_id, "page_token": page_token, "seen": rows_seen, "written": written},
    )


def fail_window(session: Session, window_id: int, error: str) -> None:
    """Mark a window as failed; the next sync of its scope tries it again from where it stopped."""
    session.execute(
        text("UPDATE sync_windows SET state = 'failed', last_error = :error WHERE id = :id"),
        {"id": window_id, "error": error},
    )


def finish_window(session: Session, window_id: int, *, job_id: int | None = None) -> bool:
    """Mark a window as done and, when it was the last one of its stream, move the watermark.

    Returns:
        Whether the watermark moved.
    """
    row = session.execute(
        text(
            """
            UPDATE sync_windows SET state = 'done', finished_at = clock_timestamp(), last_error = NULL WHERE id = :id
            RETURNING sync_scope_id, resource
            """
        ),
        {"id": window_id},
    ).one()
    # Two last windows that finish at once would each see the other as unfinished, and the watermark would stay.
    session.execute(text("SELECT FROM sync_scopes WHERE id = :id FOR NO KEY UPDATE"), {"id": row.sync_scope_id})
    moved = session.execute(
        text(
            """
            INSERT INTO watermarks AS w (sync_scope_id, resource, complete_until, last_run_id, last_full_at)
            SELECT sync_scope_id, resource, max(run_started_at), :job_id,
                   max(run_started_at) FILTER (WHERE since IS NULL)
            FROM sync_windows WHERE sync_scope_id = :scope AND resource = :resource
            GROUP BY sync_scope_id, resource HAVING bool_and(state = 'done')
            ON CONFLICT (sync_scope_id, resource) DO UPDATE SET
                complete_until = GREATEST(w.complete_until, excluded.complete_until),
                last_run_id = excluded.last_run_id,
                last_full_at = GREATEST(w.last_full_at, excluded.last_full_at), updated_at = now()
            RETURNING 1
            """
        ),
        {"scope": row.sync_scope_id, "resource": row.resource, "job_id": job_id},
    ).scalar_one_or_none()
    return moved is not None


def finish_dictionary(
    session: Session, scope_id: int, resource: str, *, run_started_at: datetime, job_id: int | None = None
) -> None:
    """Set the watermark of a stream that is read whole each time."""
    session.execute(
        text(
            """
            INSERT INTO watermarks (sync_scope_id, resource, complete_until, last_run_id, last_full_at)
            VALUES (:scope, :resource, :at, :job_id, :at)
            ON CONFLICT (sync_scope_id, resource) DO UPDATE SET
                complete_until = excluded.complete_until, last_run_id = excluded.last_run_id,
                last_full_at = excluded.last_full_at, updated_at = now()
            """
        ),
        {"scope": scope_id, "resource": resource, "at": run_started_at, "job_id": job_id},
    )


def forget_watermark(session: Session, scope_id: int, resource: str) -> None:
    """Make the next sync of a stream a full one."""
    session.execute(
        text("DELETE FROM watermarks WHERE sync_scope_id = :scope AND resource = :resource"),
        {"scope": scope_id, "resource": resource},
    )


def prune_windows(session: Session, *, finished_before: datetime) -> int:
    """Delete old windows that are done, never the last run's of a stream.

    Returns:
        How many.
    """
    result = session.execute(
        text(
            """
            DELETE FROM sync_windows w USING watermarks m
            WHERE m.sync_scope_id = w.sync_scope_id AND m.resource = w.resource AND w.state = 'done'
              AND w.finished_at < :before AND w.run_started_at < m.complete_until
            """
        ),
        {"before": finished_before},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE has a row count


# --- staged payloads --------------------------------------------------------------------------------------------


def stage(
    session: Session,
    scope_id: int,
    resource: str,
    items: Iterable[tuple[str, bytes]],
    *,
    fetched_at: datetime,
    window_id: int | None,
    parser_version: int,
) -> Written:
    """Keep payloads as received, compressed, each object once.

    Args:
        session: inside a transaction.
        scope_id: the scope that they were fetched for.
        resource: the stream.
        items: external id and the bytes of the JSON.
        fetched_at: when.
        window_id: by which window.
        parser_version: of the parser that promotes them in the same transaction.
    """
    compress = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress
    rows = (
        (
            scope_id, resource, external_id, compress(payload), hashlib.sha256(payload).digest(), fetched_at, window_id,
            parser_version,
        )
        for external_id, payload in items
    )  # fmt: skip
    columns = (
        "sync_scope_id", "resource", "external_id", "payload", "sha256", "fetched_at", "window_id", "parser_version",
    )  # fmt: skip
    return upsert(
        session,
        STAGED,
        columns,
        rows,
        ("sync_scope_id", "resource", "external_id"),
        newer=("fetched_at",),
        keep=("payload", "fetched_at", "window_id"),
    )


def staged_payloads(
    session: Session, scope_id: int, resource: str, *, after: str = "", limit: int = 500
) -> list[tuple[str, bytes, datetime]]:
    """A page of staged payloads in the order of their ids, for replay.

    Args:
        session: inside a transaction.
        scope_id: the scope.
        resource: the stream.
        after: the last id of the page before.
        limit: how many at most.

    Returns:
        External id, JSON and when it was fetched; empty at the end.
    """
    decompress = zstandard.ZstdDecompressor().decompress
    rows = session.execute(
        text(
            """
            SELECT external_id, payload, fetched_at FROM staged_payloads
            WHERE sync_scope_id = :scope AND resource = :resource AND external_id > :after
            ORDER BY external_id LIMIT :limit
            """
        ),
        {"scope": scope_id, "resource": resource, "after": after, "limit": limit},
    )
    return [(external_id, decompress(payload), fetched_at) for external_id, payload, fetched_at in rows]


def mark_replayed(session: Session, scope_id: int, resource: str, external_ids: Sequence[str], version: int) -> None:
    """Remember which parser last promoted these payloads."""
    session.execute(
        text(
            """
            UPDATE staged_payloads SET parser_version = :version
            WHERE sync_scope_id = :scope AND resource = :resource AND external_id = ANY(:ids)
              AND parser_version <> :version
            """
        ),
        {"scope": scope_id, "resource": resource, "ids": list(external_ids), "version": version},
    )


# --- rejects ----------------------------------------------------------------------------------------------------


def _readable(payload: bytes) -> dict[str, str]:
    received = payload[:REJECT_PAYLOAD_CHARACTERS].decode("utf-8", errors="replace")
    return {"text": received.replace("\x00", "")}


def reject(session: Session, scope_id: int, resource: str, rejects: Sequence[tuple[str, str, bytes]]) -> None:
    """Set records aside with their reason and what was received.

    Args:
        session: inside a transaction.
        scope_id: the scope.
        resource: the stream.
        rejects: external id (or what stands for it), reason, payload.
    """
    if not rejects:
        return
    now = session.execute(text("SELECT now()")).scalar_one()
    rows = (
        (scope_id, resource, external_id, reason[:REJECT_REASON_CHARACTERS], _readable(payload), now, None)
        for external_id, reason, payload in rejects
    )
    columns = ("sync_scope_id", "resource", "external_id", "reason", "payload", "last_seen_at", "resolved_at")
    upsert(session, REJECTS, columns, rows, ("sync_scope_id", "resource", "external_id"))


def resolve_rejects(session: Session, scope_id: int, resource: str, external_ids: Sequence[str]) -> None:
    """Close the rejects of records that went through after all."""
    session.execute(
        text(
            """
            UPDATE sync_rejects SET resolved_at = now()
            WHERE sync_scope_id = :scope AND resource = :resource AND resolved_at IS NULL AND external_id = ANY(:ids)
            """
        ),
        {"scope": scope_id, "resource": resource, "ids": list(external_ids)},
    )


def open_rejects(session: Session, *, limit: int = 100) -> Iterator[Row[Any]]:
    """Records that are set aside, the latest first."""
    yield from session.execute(
        text(
            """
            SELECT r.id, c.name AS connection, s.external_key AS scope, r.resource, r.external_id, r.reason,
                   r.first_seen_at, r.last_seen_at
            FROM sync_rejects r
            JOIN sync_scopes s ON s.id = r.sync_scope_id
            JOIN connections c ON c.id = s.connection_id
            WHERE r.resolved_at IS NULL ORDER BY r.last_seen_at DESC, r.id DESC LIMIT :limit
            """
        ),
        {"limit": limit},
    )
