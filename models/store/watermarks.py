"""Watermarks: how far each stream of a scope is complete, and whether its source refuses it.

All functions take the session first and never commit. Windows move the watermarks of what they read (`windows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session


def watermark(session: Session, scope_id: int, resource: str) -> datetime | None:
    """How far a stream is known to be complete, by the vendor's clock; None before the first sync is."""
    return session.execute(
        text("SELECT complete_until FROM watermarks WHERE sync_scope_id = :scope AND resource = :resource"),
        {"scope": scope_id, "resource": resource},
    ).scalar_one_or_none()


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
                last_full_at = excluded.last_full_at, refused_at = NULL, refusal = NULL, updated_at = now()
            """
        ),
        {"scope": scope_id, "resource": resource, "at": run_started_at, "job_id": job_id},
    )


def refuse(session: Session, scope_id: int, resource: str, error: str) -> None:
    """Remember that the source refuses a stream of a scope that it shows otherwise; nothing is deleted for it."""
    session.execute(
        text(
            """
            INSERT INTO watermarks (sync_scope_id, resource, refused_at, refusal)
            VALUES (:scope, :resource, now(), :error)
            ON CONFLICT (sync_scope_id, resource) DO UPDATE SET refused_at = now(), refusal = excluded.refusal
            """
        ),
        {"scope": scope_id, "resource": resource, "error": error},
    )


def refused(session: Session, scope_id: int) -> set[str]:
    """Streams of a scope that the source refused within a day; after that it is asked again."""
    rows = session.execute(
        text("SELECT resource FROM watermarks WHERE sync_scope_id = :scope AND refused_at > now() - interval '1 day'"),
        {"scope": scope_id},
    )
    return set(rows.scalars())


def forget_refusals(session: Session, scope_ids: Sequence[int], resource: str | None = None) -> None:
    """Ask for streams again that were refused: all of some scopes, or one."""
    session.execute(
        text(
            """
            UPDATE watermarks SET refused_at = NULL, refusal = NULL
            WHERE refused_at IS NOT NULL AND sync_scope_id = ANY(:scopes)
              AND (CAST(:resource AS text) IS NULL OR resource = :resource)
            """
        ),
        {"scopes": list(scope_ids), "resource": resource},
    )
