"""Reconciling: which objects we hold and the source does not list, and the other way round; tombstones.

What belongs here: comparing ids, and remembering what is in doubt. What does not: asking the source
(tasks/reconcile.py), and comparing whole rows (verify.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import msgspec
from psycopg import sql
from sqlalchemy import Column, Row, Text, text
from sqlalchemy.orm import Session

from models.store import jira
from models.store.copy import copy_rows
from models.store.session import Database
from models.store.sync import Target
from models.store.verify import SUBJECTS

MOST_OBJECTS = 5_000
"""So many of each kind are looked after in one run; the next one goes on."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """How the ids of one stream of a scope compare."""

    listed_count: int
    held_count: int
    gone_count: int
    gone: tuple[str, ...]
    """Held and not listed; at most `MOST_OBJECTS`."""
    missed: tuple[str, ...]
    """Listed and not held, or only as a tombstone; at most `MOST_OBJECTS`."""


def can_be_listed(stream: str) -> bool:
    """Whether the absence of an object of this stream means anything."""
    return stream in SUBJECTS and not SUBJECTS[stream].is_forgotten_there


class Listing:
    """The ids that a source lists, gathered batch by batch in a temporary table.

    It keeps one connection for itself, and no transaction open between its methods.
    """

    def __init__(self, database: Database, target: Target, stream: str) -> None:
        """Take a stream whose ids are to come."""
        self._database = database
        self._target = target
        self._stream = stream
        self._connection = database.engine.connect()

    def __enter__(self) -> Self:
        with self._database.transaction(self._connection) as session:
            session.execute(text("CREATE TEMP TABLE listed (external_id text)"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.invalidate()  # its temporary table ends with it, whatever state it is in
        self._connection.close()

    def add(self, external_ids: Iterable[str]) -> int:
        """Take a batch; one that is listed twice counts once. Returns how many came.

        Transaction: one of its own.
        """
        with self._database.transaction(self._connection) as session:
            return copy_rows(
                session, sql.Identifier("listed"), [Column("external_id", Text)], ((each,) for each in external_ids)
            )

    def compare(self, *, listed_from: datetime) -> Findings:
        """Hold the ids against our rows.

        Transaction: one of its own.

        Args:
            listed_from: when the listing began; a row that was written later is newer than the list.
        """
        subject = SUBJECTS[self._stream]
        objects = subject.objects
        held = f"""
            SELECT {objects.reference.format("t")} AS external_id, t.synced_at FROM {objects.name} t
            WHERE t.sync_scope_id = :scope AND t.deleted_at IS NULL AND NOT ({subject.is_elsewhere})
        """
        gone = f"""
            SELECT h.external_id FROM ({held}) AS h
            WHERE h.synced_at < :listed_from AND NOT EXISTS (SELECT FROM listed l WHERE l.external_id = h.external_id)
        """
        # One that is set aside is no miss: the next change of it, or a replay, tries it again.
        missed = f"""
            SELECT DISTINCT l.external_id FROM listed l
            WHERE NOT EXISTS (
                SELECT FROM {objects.name} t
                WHERE t.connection_id = :connection AND t.deleted_at IS NULL
                  AND {objects.reference.format("t")} = l.external_id)
              AND NOT EXISTS (
                SELECT FROM sync_rejects r
                WHERE r.sync_scope_id = :scope AND r.resource = :stream AND r.resolved_at IS NULL
                  AND r.external_id = l.external_id)
        """
        parameters = {
            "scope": self._target.sync_scope_id,
            "connection": self._target.connection_id,
            "stream": self._stream,
            "key": self._target.external_key,
            "listed_from": listed_from,
            "limit": MOST_OBJECTS,
        }

        def number(statement: str) -> int:
            return int(session.execute(text(f"SELECT count(*) FROM ({statement}) AS rows"), parameters).scalar_one())

        def some(statement: str) -> tuple[str, ...]:
            return tuple(session.execute(text(f"{statement} ORDER BY 1 LIMIT :limit"), parameters).scalars())

        with self._database.transaction(self._connection) as session:
            session.execute(text("ANALYZE listed"))
            return Findings(
                listed_count=number("SELECT DISTINCT external_id FROM listed"),
                held_count=number(held),
                gone_count=number(gone),
                gone=some(gone),
                missed=some(missed),
            )


def doubt(session: Session, scope_id: int, stream: str, external_ids: Sequence[str]) -> None:
    """Remember objects to be asked for again; one that is remembered already keeps its time.

    Transaction: the caller's.
    """
    session.execute(
        text(
            """
            INSERT INTO doubtful_objects (sync_scope_id, resource, external_id)
            SELECT :scope, :stream, id FROM unnest(CAST(:ids AS text[])) AS id ON CONFLICT DO NOTHING
            """
        ),
        {"scope": scope_id, "stream": stream, "ids": list(external_ids)},
    )


def trust(session: Session, scope_id: int, stream: str, external_ids: Sequence[str]) -> None:
    """Forget objects that were in doubt: they are there, or are tombstoned."""
    session.execute(
        text(
            """
            DELETE FROM doubtful_objects
            WHERE sync_scope_id = :scope AND resource = :stream AND external_id = ANY(:ids)
            """
        ),
        {"scope": scope_id, "stream": stream, "ids": list(external_ids)},
    )


def scopes_in_doubt(session: Session, *, doubted_for: timedelta) -> list[int]:
    """Active scopes with objects that have been in doubt for so long."""
    return list(
        session.execute(
            text(
                """
                SELECT DISTINCT m.sync_scope_id FROM doubtful_objects m
                JOIN sync_scopes s ON s.id = m.sync_scope_id AND s.is_active
                JOIN connections c ON c.id = s.connection_id AND c.status = 'active'
                WHERE m.doubted_at <= now() - :age ORDER BY 1
                """
            ),
            {"age": doubted_for},
        ).scalars()
    )


def doubtful(session: Session, scope_id: int, *, doubted_for: timedelta) -> list[Row[Any]]:
    """Objects of a scope that have been in doubt for so long, at most `MOST_OBJECTS`: resource and external_id."""
    return list(
        session.execute(
            text(
                """
                SELECT resource, external_id FROM doubtful_objects
                WHERE sync_scope_id = :scope AND doubted_at <= now() - :age
                ORDER BY resource, external_id LIMIT :limit
                """
            ),
            {"scope": scope_id, "age": doubted_for, "limit": MOST_OBJECTS},
        )
    )


def tombstone(session: Session, target: Target, stream: str, external_ids: Sequence[str]) -> int:
    """Mark objects as deleted at their source, from the time at which they were first in doubt.

    One that was written since is alive. A copy that was fetched before that time no longer wins, however late it comes.

    Transaction: the caller's.

    Returns:
        How many rows were marked.
    """
    objects = SUBJECTS[stream].objects
    marked = session.execute(
        text(
            f"""
            UPDATE {objects.name} t SET deleted_at = m.doubted_at, synced_at = m.doubted_at
            FROM doubtful_objects m
            WHERE m.sync_scope_id = :scope AND m.resource = :stream AND m.external_id = ANY(:ids)
              AND t.sync_scope_id = :scope AND {objects.reference.format("t")} = m.external_id
              AND t.deleted_at IS NULL AND t.synced_at < m.doubted_at
            """
        ),
        {"scope": target.sync_scope_id, "stream": stream, "ids": list(external_ids)},
    )
    if objects.table is jira.ISSUES:
        jira.bury(session, target, external_ids)
    trust(session, target.sync_scope_id, stream, external_ids)
    return int(marked.rowcount)  # type: ignore[attr-defined]  # an UPDATE has a row count
