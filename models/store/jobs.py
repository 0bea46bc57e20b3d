"""Jobs and schedules: the truth about what was asked for, what runs and how it ended.

All functions take the session first and never commit. What one job only may have is kept by job_keys.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError
from models.store import job_keys

ERROR_CHARACTERS = 4_000
RESEND_SECONDS = 15
"""How long a job may be due before its message is taken for lost and sent again; doubles with each sending."""
RESEND_DOUBLINGS = 5
EARLY_SECONDS = 0.5
"""How much before its time a message may wake a job: clocks of workers and database differ a little."""

UNFINISHED = "('queued', 'running', 'retrying')"


def insert(
    session: Session,
    *,
    task: str,
    queue: str,
    args: Mapping[str, Any],
    trigger: str,
    queueing_lock: str | None = None,
    parent_id: int | None = None,
    schedule_id: int | None = None,
    scheduled_for: datetime | None = None,
    tenant_id: int | None = None,
) -> int | None:
    """Write a job that is to be run.

    Args:
        session: inside the transaction of what causes it.
        task: its name.
        queue: where it runs.
        args: of the task, as plain JSON.
        trigger: schedule, webhook, api, cli or event.
        queueing_lock: never two waiting with the same.
        parent_id: the job that asks for it.
        schedule_id: with `scheduled_for`, the tick that it is; a tick becomes one job, whoever asks.
        scheduled_for: see `schedule_id`.
        tenant_id: whose job it is; None: the platform's.

    Returns:
        Its id, or None where the tick has a job already or a job with the queueing lock is waiting.
    """
    asked = {
        "task": task,
        "queue": queue,
        "args": json.dumps(dict(args)),
        "trigger": trigger,
        "queueing_lock": queueing_lock,
        "parent": parent_id,
        "schedule": schedule_id,
        "scheduled_for": scheduled_for,
        "tenant": tenant_id,
    }
    job_id = job_keys.insert_job(session, asked)
    if job_id is None and queueing_lock is not None and job_keys.free_idle(session, key=f"waiting:{queueing_lock}"):
        return job_keys.insert_job(session, asked)
    return job_id


def waiting(session: Session, queueing_lock: str) -> int | None:
    """The job that waits with a queueing lock."""
    return session.execute(
        text(
            "SELECT j.id FROM job_keys k JOIN job_runs j ON j.id = k.job_id WHERE k.key = :key AND j.status = 'queued'"
        ),
        {"key": f"waiting:{queueing_lock}"},
    ).scalar_one_or_none()


def messages(session: Session, job_ids: Sequence[int]) -> list[Row[Any]]:
    """What the messages of these jobs say: id, task, queue, and how often they were sent."""
    return list(
        session.execute(
            text("SELECT id, task, queue, sent_count FROM job_runs WHERE id = ANY(:ids)"), {"ids": list(job_ids)}
        )
    )


def mark_sent(session: Session, job_ids: Sequence[int]) -> None:
    """Remember that the broker was given the messages of these jobs."""
    session.execute(
        text("UPDATE job_runs SET sent_at = clock_timestamp(), sent_count = sent_count + 1 WHERE id = ANY(:ids)"),
        {"ids": list(job_ids)},
    )


def claim(session: Session, job_id: int, *, worker: str, celery_task_id: str | None) -> Row[Any] | None:
    """Take a job for this process. The caller holds its advisory lock, so a running job here has lost its owner.

    Returns:
        The job with its attempt counted, or None where it is finished, cancelled or not due.
    """
    return session.execute(
        text(
            f"""
            WITH changed AS (
                UPDATE job_runs SET status = 'running', attempts = attempts + 1, worker = :worker,
                    celery_task_id = :celery_task_id, started_at = COALESCE(started_at, clock_timestamp()),
                    error = NULL, updated_at = now()
                WHERE id = :id AND status IN {UNFINISHED}
                  AND run_after <= clock_timestamp() + make_interval(secs => {EARLY_SECONDS})
                RETURNING *),
            freed AS ({job_keys.FREE_WAITING})
            SELECT * FROM changed
            """
        ),
        {"id": job_id, "worker": worker, "celery_task_id": celery_task_id},
    ).one_or_none()


def report_progress(
    session: Session, job_id: int, *, progress: Mapping[str, Any], rows_read: int = 0, rows_written: int = 0
) -> bool:
    """Write how far a job is; returns False where it was cancelled meanwhile.

    Args:
        session: inside a transaction.
        job_id: the job.
        progress: laid over what it said before.
        rows_read: since the last report.
        rows_written: since the last report.
    """
    status = session.execute(
        text(
            """
            UPDATE job_runs SET progress = progress || CAST(:progress AS jsonb), rows_read = rows_read + :read,
                rows_written = rows_written + :written, updated_at = now()
            WHERE id = :id RETURNING status
            """
        ),
        {"id": job_id, "progress": json.dumps(dict(progress)), "read": rows_read, "written": rows_written},
    ).scalar_one_or_none()
    return status != "cancelled"


def finish(session: Session, job_id: int, status: str, *, error: str | None = None) -> None:
    """End a job: succeeded, failed or lost. A cancelled one stays cancelled."""
    session.execute(
        text(
            f"""
            WITH changed AS (
                UPDATE job_runs SET status = CAST(:status AS job_status), error = :error,
                    finished_at = clock_timestamp(), updated_at = now()
                WHERE id = :id AND status <> 'cancelled' RETURNING id, queueing_lock)
            {job_keys.FREE_WAITING}
            """
        ),
        {"id": job_id, "status": status, "error": error[:ERROR_CHARACTERS] if error else None},
    )


def postpone(session: Session, job_id: int, *, run_after: datetime, error: str, counts_as_attempt: bool = True) -> None:
    """Let a job run again later.

    Args:
        session: inside a transaction.
        job_id: the job.
        run_after: not before.
        error: why, in a sentence.
        counts_as_attempt: False where it only waited, for a lock or for a server's patience.
    """
    session.execute(
        text(
            """
            UPDATE job_runs SET status = 'retrying', run_after = :run_after, error = :error, sent_at = NULL,
                sent_count = 0, attempts = attempts - :uncounted, updated_at = now()
            WHERE id = :id AND status <> 'cancelled'
            """
        ),
        {
            "id": job_id,
            "run_after": run_after,
            "error": error[:ERROR_CHARACTERS],
            "uncounted": 0 if counts_as_attempt else 1,
        },
    )


def due_unsent(session: Session, *, limit: int = 500) -> list[Row[Any]]:
    """Jobs that are due and whose message was never sent, or so long ago that it may be lost.

    Returns:
        Id, task, queue, status and owner of each; running ones among them, whose owner may be dead.
    """
    return list(
        session.execute(
            text(
                f"""
                SELECT id, task, queue, status FROM job_runs
                WHERE status IN {UNFINISHED} AND run_after <= clock_timestamp()
                  AND (sent_at IS NULL OR sent_at < clock_timestamp()
                       - make_interval(secs => {RESEND_SECONDS} * power(2, LEAST(sent_count - 1, {RESEND_DOUBLINGS}))))
                ORDER BY run_after LIMIT :limit
                """
            ),
            {"limit": limit},
        )
    )


def is_any_waiting(session: Session, queues: Sequence[str]) -> bool:
    """Whether a job of these queues has been due for over a second, so that no idle worker can be there for it."""
    return bool(
        session.execute(
            text(
                """
                SELECT EXISTS (SELECT FROM job_runs WHERE status IN ('queued', 'retrying') AND queue = ANY(:queues)
                               AND run_after < clock_timestamp() - interval '1 second')
                """
            ),
            {"queues": list(queues)},
        ).scalar_one()
    )


def cancel(session: Session, job_id: int) -> bool:
    """Cancel a job and what it asked for; returns False where it was finished already."""
    cancelled = session.execute(
        text(
            f"""
            WITH changed AS (
                UPDATE job_runs SET status = 'cancelled', finished_at = clock_timestamp(), updated_at = now()
                WHERE (id = :id OR root_id = :id) AND status IN {UNFINISHED} RETURNING id, queueing_lock),
            freed AS ({job_keys.FREE_WAITING})
            SELECT id FROM changed
            """
        ),
        {"id": job_id},
    )
    return bool(cancelled.scalars().all())


def get(session: Session, job_id: int) -> Row[Any]:
    """One job.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = session.execute(text("SELECT * FROM job_runs WHERE id = :id"), {"id": job_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no job {job_id}; see `plumbline jobs list`.")
    return row


def listing(session: Session, *, status: str | None = None, task: str | None = None, limit: int = 50) -> list[Row[Any]]:
    """The latest jobs, newest first."""
    return list(
        session.execute(
            text(
                """
                SELECT id, task, args, trigger, status, attempts, progress, rows_read, rows_written, created_at,
                       started_at, finished_at, error
                FROM job_runs
                WHERE (CAST(:status AS text) IS NULL OR status = CAST(:status AS job_status))
                  AND (CAST(:task AS text) IS NULL OR task = :task)
                ORDER BY id DESC LIMIT :limit
                """
            ),
            {"status": status, "task": task, "limit": limit},
        )
    )


def family(session: Session, *root_ids: int) -> Row[Any]:
    """Some jobs and all that they asked for, added up; what a follower shows.

    Returns:
        One row: total, finished, failed, running, windows and windows_finished (jobs of backfills), done (finished
        ones, and the done part of running ones), rows_read, rows_written, errors (the distinct ones of all), failures
        (of the failed).
    """
    return session.execute(
        text(
            f"""
            SELECT count(*) AS total, count(*) FILTER (WHERE status NOT IN {UNFINISHED}) AS finished,
                   count(*) FILTER (WHERE status IN ('failed', 'lost', 'cancelled')) AS failed,
                   count(*) FILTER (WHERE status = 'running') AS running,
                   count(*) FILTER (WHERE task = 'collect.window') AS windows,
                   count(*) FILTER (WHERE task = 'collect.window' AND status NOT IN {UNFINISHED}) AS windows_finished,
                   sum(CASE WHEN status NOT IN {UNFINISHED} THEN 1
                       ELSE COALESCE(CAST(progress ->> 'done_ratio' AS double precision), 0) END) AS done,
                   COALESCE(sum(rows_read), 0)::bigint AS rows_read,
                   COALESCE(sum(rows_written), 0)::bigint AS rows_written,
                   COALESCE(array_agg(DISTINCT error) FILTER (WHERE error IS NOT NULL), '{{}}') AS errors,
                   COALESCE(array_agg(DISTINCT error) FILTER (WHERE status IN ('failed', 'lost')), '{{}}') AS failures
            FROM job_runs WHERE id = ANY(:ids) OR root_id = ANY(:ids)
            """
        ),
        {"ids": list(root_ids)},
    ).one()


def counts(session: Session) -> Row[Any]:
    """How many jobs wait and run now, and how many failed or got lost in the last hour.

    Returns:
        One row: waiting, running, failed.
    """
    return session.execute(
        text(
            """
            SELECT (SELECT count(*) FROM job_runs WHERE status IN ('queued', 'retrying')) AS waiting,
                   (SELECT count(*) FROM job_runs WHERE status = 'running') AS running,
                   (SELECT count(*) FROM job_runs WHERE status IN ('failed', 'lost')
                    AND finished_at > now() - interval '1 hour') AS failed
            """
        )
    ).one()


def prune(session: Session, *, finished_before: datetime, limit: int = 10_000) -> int:
    """Delete old finished jobs with their keys, a bounded number at a time; returns how many.

    A job whose tick its schedule could ask for again stays: its key is what keeps the tick from running twice.
    """
    deleted: int = session.execute(
        text(
            f"""
            WITH old AS (
                SELECT id, created_at FROM job_runs r
                WHERE status NOT IN {UNFINISHED} AND finished_at < :before AND created_at < :before
                  AND NOT EXISTS (
                    SELECT FROM job_schedules s WHERE s.id = r.schedule_id
                      AND COALESCE(s.last_scheduled_for, '-infinity') < r.scheduled_for)
                ORDER BY created_at, id LIMIT :limit),
            changed AS (
                DELETE FROM job_runs r USING old WHERE r.id = old.id AND r.created_at = old.created_at
                RETURNING r.id, {job_keys.TICK_KEY_STORED} AS tick_key),
            freed AS (DELETE FROM job_keys k USING changed c WHERE k.key = c.tick_key AND k.job_id = c.id)
            SELECT count(*) FROM changed
            """
        ),
        {"before": finished_before, "limit": limit},
    ).scalar_one()
    return deleted


# --- schedules --------------------------------------------------------------------------------------------------


def schedules(session: Session) -> list[Row[Any]]:
    """All schedules by name, with the number of seconds that each is late by the database's clock.

    Returns:
        The columns of the table, and late_seconds: None where it is disabled or no beat has looked at it yet.
    """
    return list(
        session.execute(
            text(
                """
                SELECT s.*, CASE WHEN is_enabled THEN CAST(GREATEST(
                    extract(epoch FROM clock_timestamp() - next_run_at), 0) AS double precision) END AS late_seconds
                FROM job_schedules s ORDER BY name
                """
            )
        )
    )


def enabled_schedules(session: Session) -> list[Row[Any]]:
    """Schedules that run, locked against other beats until the transaction ends; rows that they hold are skipped."""
    return list(
        session.execute(text("SELECT * FROM job_schedules WHERE is_enabled ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"))
    )


def advance_schedule(
    session: Session, schedule_id: int, *, last_scheduled_for: datetime | None, next_run_at: datetime
) -> None:
    """Remember the last tick that was taken and when the next one is due."""
    session.execute(
        text(
            """
            UPDATE job_schedules SET last_scheduled_for = COALESCE(:last, last_scheduled_for), next_run_at = :next,
                updated_at = now()
            WHERE id = :id
              AND (next_run_at, last_scheduled_for) IS DISTINCT FROM (:next, COALESCE(:last, last_scheduled_for))
            """
        ),
        {"id": schedule_id, "last": last_scheduled_for, "next": next_run_at},
    )
