"""Staged payloads and rejects: what was received, and what could not be used.

All functions take the session first and never commit. Connections and scopes stand in `connections.py`, windows and
watermarks in `windows.py`.
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
