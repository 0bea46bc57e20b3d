"""Windows: which spans of update time are to be read, who reads them, and how far each has come.

All functions take the session first and never commit.

Two kinds of windows. A first sync, and whatever else reads old things again, is a **backfill**: many windows, shared by
all workers, newest first. What changes meanwhile is **followed** by windows of its own, from the start of the backfill
on, so that nothing new waits for the history. A stream is complete once both are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError

SPAN = tuple[datetime | None, datetime | None]


def followed_until(session: Session, scope_id: int, resource: str) -> datetime | None:
    """Where the next window that follows a stream begins, by the vendor's clock, its overlap not taken off.

    That is where the last one ended; where there was none, where the first backfill did. None before that is planned.
    """
    return session.execute(
        text(
            """
            SELECT GREATEST(m.complete_until, (
                SELECT max(w.run_started_at) FROM sync_windows w
                WHERE w.sync_scope_id = :scope AND w.resource = :resource
                  AND (NOT w.is_backfill OR m.complete_until IS NULL)))
            FROM (SELECT) AS one
            LEFT JOIN watermarks m ON m.sync_scope_id = :scope AND m.resource = :resource
            """
        ),
        {"scope": scope_id, "resource": resource},
    ).scalar_one_or_none()


def unfinished(session: Session, scope_id: int, resource: str, *, is_backfill: bool) -> list[int]:
    """Ids of the windows of a stream that are not done, newest span first."""
    rows = session.execute(
        text(
            """
            SELECT id FROM sync_windows
            WHERE sync_scope_id = :scope AND resource = :resource AND state <> 'done' AND is_backfill = :is_backfill
            ORDER BY until DESC NULLS FIRST, id
            """
        ),
        {"scope": scope_id, "resource": resource, "is_backfill": is_backfill},
    )
    return list(rows.scalars())


def next_of_backfill(session: Session, scope_id: int, resource: str) -> list[int]:
    """Windows that a worker may take, the best first: those that never failed before others, then the newest.

    None where the source hides the scope or refuses the stream; the next sync that finds them again asks for more jobs.
    """
    rows = session.execute(
        text(
            """
            SELECT id FROM sync_windows
            WHERE sync_scope_id = :scope AND resource = :resource AND is_backfill AND state IN ('pending', 'running')
              AND NOT EXISTS (SELECT FROM watermarks m WHERE m.sync_scope_id = :scope AND m.resource = :resource
                              AND m.refused_at > now() - interval '1 day')
              AND NOT EXISTS (SELECT FROM sync_scopes s WHERE s.id = :scope AND s.last_error IS NOT NULL)
            ORDER BY attempts, until DESC NULLS FIRST, id
            """
        ),
        {"scope": scope_id, "resource": resource},
    )
    return list(rows.scalars())


def plan(
    session: Session,
    scope_id: int,
    resource: str,
    spans: Sequence[SPAN],
    *,
    run_started_at: datetime,
    is_backfill: bool,
    rows_expected: int | None = None,
) -> list[int]:
    """Write the windows of a run.

    Args:
        session: inside a transaction.
        scope_id: the scope.
        resource: the stream.
        spans: half-open, by the vendor's clock, in the order in which they are to be collected.
        run_started_at: by the vendor's clock.
        is_backfill: shared by all workers, and no hindrance to what is followed meanwhile.
        rows_expected: in each of them, where that is known.

    Returns:
        Their ids in that order.
    """
    rows = session.execute(
        text(
            """
            INSERT INTO sync_windows (sync_scope_id, resource, since, until, run_started_at, is_backfill, rows_expected)
            SELECT :scope, :resource, since, until, :run_started_at, :is_backfill, :rows_expected
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
            "is_backfill": is_backfill,
            "rows_expected": rows_expected,
        },
    )
    return sorted(rows.scalars())


def abandon_backfill(session: Session, scope_id: int, resource: str) -> None:
    """Forget the windows that a backfill has not begun; another takes its place."""
    session.execute(
        text(
            """
            DELETE FROM sync_windows
            WHERE sync_scope_id = :scope AND resource = :resource AND is_backfill AND state IN ('pending', 'failed')
            """
        ),
        {"scope": scope_id, "resource": resource},
    )


def split(session: Session, window: Row[Any], spans: Sequence[SPAN], *, rows_expected: int) -> None:
    """Cut a window that holds too much: it keeps the first of the spans, the others become windows of their own."""
    session.execute(
        text("UPDATE sync_windows SET since = :since, until = :until, rows_expected = :rows WHERE id = :id"),
        {"id": window.id, "since": spans[0][0], "until": spans[0][1], "rows": rows_expected},
    )
    plan(
        session,
        window.sync_scope_id,
        window.resource,
        spans[1:],
        run_started_at=window.run_started_at,
        is_backfill=window.is_backfill,
        rows_expected=rows_expected,
    )


def expect(session: Session, window_id: int, rows: int) -> None:
    """Remember how many rows the source says a window holds."""
    session.execute(
        text("UPDATE sync_windows SET rows_expected = :rows WHERE id = :id"), {"id": window_id, "rows": rows}
    )


def missing_jobs(session: Session, scope_id: int, resource: str) -> int:
    """How many jobs a backfill lacks: each unfinished window needs one. Failed windows are tried again."""
    session.execute(
        text(
            """
            UPDATE sync_windows SET state = 'pending', attempts = 0
            WHERE sync_scope_id = :scope AND resource = :resource AND is_backfill AND state = 'failed'
            """
        ),
        {"scope": scope_id, "resource": resource},
    )
    missing = session.execute(
        text(
            """
            SELECT (SELECT count(*) FROM sync_windows
                    WHERE sync_scope_id = :scope AND resource = :resource AND is_backfill AND state <> 'done')
                 - (SELECT count(*) FROM job_runs
                    WHERE status IN ('queued', 'running', 'retrying') AND task = 'collect.window'
                      AND args @> jsonb_build_object('scope_id', CAST(:scope AS bigint),
                                                     'stream', CAST(:resource AS text)))
            """
        ),
        {"scope": scope_id, "resource": resource},
    ).scalar_one()
    return max(0, int(missing))


def window(session: Session, window_id: int) -> Row[Any]:
    """A window with its scope's id, stream, span, state and where to resume.

    Raises:
        NotFoundError: there is no such window.
    """
    row = session.execute(text("SELECT * FROM sync_windows WHERE id = :id"), {"id": window_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no window {window_id}.")
    return row


def start(session: Session, window_id: int) -> None:
    """Count an attempt at a window."""
    session.execute(
        text("UPDATE sync_windows SET state = 'running', attempts = attempts + 1, last_error = NULL WHERE id = :id"),
        {"id": window_id},
    )


def advance(session: Session, window_id: int, *, page_token: str | None, rows_seen: int, written: int) -> None:
    """Remember how far a window is read, in the transaction that wrote the page."""
    session.execute(
        text(
            """
            UPDATE sync_windows SET page_token = :page_token, rows_seen = rows_seen + :seen,
                rows_written = rows_written + :written, updated_at = now()
            WHERE id = :id
            """
        ),
        {"id": window_id, "page_token": page_token, "seen": rows_seen, "written": written},
    )


def give_back(session: Session, window_id: int) -> None:
    """Lay a window down that nothing is wrong with; the attempt does not count."""
    session.execute(
        text("UPDATE sync_windows SET attempts = GREATEST(attempts - 1, 0) WHERE id = :id"), {"id": window_id}
    )


def fail(session: Session, window_id: int, error: str) -> None:
    """Mark a window as failed; the next sync of its scope tries it again from where it stopped."""
    session.execute(
        text("UPDATE sync_windows SET state = 'failed', last_error = :error, updated_at = now() WHERE id = :id"),
        {"id": window_id, "error": error},
    )


def finish(session: Session, window_id: int, *, job_id: int | None = None) -> bool:
    """Mark a window as done, and move the watermark where its stream is complete now.

    The first backfill and all that was followed meanwhile must be done before there is a watermark. Later ones move it
    by themselves: what is read again was complete before.

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
            INSERT INTO watermarks AS m (sync_scope_id, resource, complete_until, last_run_id, last_full_at)
            SELECT :scope, :resource, GREATEST(followed_until, CASE WHEN is_backfilled THEN backfilled_until END),
                   :job_id, CASE WHEN is_backfilled THEN full_at END
            FROM (
                SELECT COALESCE(bool_and(state = 'done') FILTER (WHERE is_backfill), true) AS is_backfilled,
                       COALESCE(bool_and(state = 'done') FILTER (WHERE NOT is_backfill), true) AS is_followed,
                       max(run_started_at) FILTER (WHERE NOT is_backfill) AS followed_until,
                       max(run_started_at) FILTER (WHERE is_backfill) AS backfilled_until,
                       max(run_started_at) FILTER (WHERE is_backfill AND since IS NULL) AS full_at
                FROM sync_windows WHERE sync_scope_id = :scope AND resource = :resource
            ) AS w
            WHERE is_followed AND (is_backfilled OR EXISTS (
                SELECT FROM watermarks
                WHERE sync_scope_id = :scope AND resource = :resource AND complete_until IS NOT NULL))
            ON CONFLICT (sync_scope_id, resource) DO UPDATE SET
                complete_until = GREATEST(m.complete_until, excluded.complete_until),
                last_run_id = excluded.last_run_id, refused_at = NULL, refusal = NULL,
                last_full_at = GREATEST(m.last_full_at, excluded.last_full_at), updated_at = now()
            RETURNING 1
            """
        ),
        {"scope": row.sync_scope_id, "resource": row.resource, "job_id": job_id},
    ).scalar_one_or_none()
    return moved is not None


def backfills(session: Session) -> list[Row[Any]]:
    """How far each backfill that is under way has come.

    The pace is that of the last minute: what its jobs read, each taken as even over its time. What is left is what the
    source said that the unfinished windows hold, or where it said nothing what the finished ones held on average.

    Returns:
        sync_scope_id, resource, windows_done, windows_total, rows_seen, rows_per_second, and seconds_left, which is
        None while the pace or what is left is not known.
    """
    return list(
        session.execute(
            text(
                """
                WITH began AS (
                    SELECT sync_scope_id, resource, min(run_started_at) AS run_started_at FROM sync_windows
                    WHERE is_backfill AND state <> 'done' GROUP BY sync_scope_id, resource
                ), windows AS (
                    SELECT w.*, avg(w.rows_seen) FILTER (WHERE w.state = 'done')
                                OVER (PARTITION BY w.sync_scope_id, w.resource) AS typical
                    FROM sync_windows w JOIN began b USING (sync_scope_id, resource)
                    WHERE w.is_backfill AND w.run_started_at >= b.run_started_at
                ), counts AS (
                    SELECT sync_scope_id, resource, count(*) FILTER (WHERE state = 'done') AS windows_done,
                           count(*) AS windows_total, sum(rows_seen)::bigint AS rows_seen,
                           CASE WHEN bool_and(state = 'done' OR COALESCE(rows_expected, typical) IS NOT NULL)
                           THEN sum(GREATEST(COALESCE(rows_expected, typical) - rows_seen, 0))
                                FILTER (WHERE state <> 'done') END AS rows_left
                    FROM windows GROUP BY sync_scope_id, resource
                ), runs AS (
                    SELECT CAST(args ->> 'scope_id' AS bigint) AS sync_scope_id, args ->> 'stream' AS resource,
                           rows_read,
                           extract(epoch FROM started_at) AS began, extract(epoch FROM clock_timestamp()) AS now,
                           extract(epoch FROM CASE WHEN status = 'running' THEN clock_timestamp()
                                              ELSE COALESCE(finished_at, updated_at) END) AS ended
                    FROM job_runs
                    WHERE task = 'collect.window' AND started_at IS NOT NULL
                      AND (finished_at IS NULL OR finished_at > clock_timestamp() - interval '1 minute')
                ), pace AS (
                    SELECT sync_scope_id, resource,
                           sum(rows_read
                               * LEAST(1, (ended - GREATEST(began, now - 60)) / GREATEST(ended - began, 0.001)))
                           / LEAST(60, max(now) - min(began)) AS rows_per_second
                    FROM runs WHERE ended > now - 60 GROUP BY sync_scope_id, resource
                )
                SELECT c.sync_scope_id, c.resource, c.windows_done, c.windows_total, c.rows_seen,
                       CAST(COALESCE(p.rows_per_second, 0) AS double precision) AS rows_per_second,
                       CAST(c.rows_left / NULLIF(p.rows_per_second, 0) AS double precision) AS seconds_left
                FROM counts c LEFT JOIN pace p USING (sync_scope_id, resource)
                ORDER BY c.sync_scope_id, c.resource
                """
            )
        )
    )


def prune(session: Session, *, finished_before: datetime) -> int:
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
