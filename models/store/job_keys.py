"""What one job only may have: its tick, and its queueing lock while it waits.

job_runs is partitioned by month and can therefore not see to it that a tick becomes one job and that never two wait
with one queueing lock; the plain table job_keys does. Who writes a job writes its keys first, in the same statement,
and waits there for another writer of the same key, as at any unique index. The key of a queueing lock goes with the
status `queued`, that of a tick with the job itself. What belongs here: keys. What does not: what becomes of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

TICK_KEY = """'tick:' || {schedule_id} || ':'
    || to_char({scheduled_for} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
TICK_KEY_ASKED = TICK_KEY.format(
    schedule_id="CAST(:schedule AS bigint)", scheduled_for="CAST(:scheduled_for AS timestamptz)"
)
TICK_KEY_STORED = TICK_KEY.format(schedule_id="schedule_id", scheduled_for="scheduled_for")
FREE_WAITING = """
    DELETE FROM job_keys k USING changed c WHERE k.key = 'waiting:' || c.queueing_lock AND k.job_id = c.id
"""
"""For jobs that are no longer queued; never the key of another one, which waits by now with the same lock."""

INSERT = f"""
    WITH wanted AS MATERIALIZED (
        SELECT nextval('job_runs_id_seq') AS id, array_remove(
            ARRAY[{TICK_KEY_ASKED}, 'waiting:' || CAST(:queueing_lock AS text)], NULL) AS keys),
    taken AS (
        INSERT INTO job_keys (key, job_id, tenant_id)
        SELECT key, id, CAST(:tenant AS bigint) FROM wanted, unnest(keys) AS key
        ON CONFLICT DO NOTHING RETURNING key),
    written AS (
        INSERT INTO job_runs (id, task, queue, args, trigger, queueing_lock, parent_id, root_id, schedule_id,
                              scheduled_for, tenant_id)
        SELECT id, :task, :queue, CAST(:args AS jsonb), CAST(:trigger AS job_trigger), CAST(:queueing_lock AS text),
               CAST(:parent AS bigint),
               (SELECT COALESCE(root_id, id) FROM job_runs WHERE id = CAST(:parent AS bigint)),
               CAST(:schedule AS bigint), CAST(:scheduled_for AS timestamptz), CAST(:tenant AS bigint)
        FROM wanted WHERE cardinality(keys) = (SELECT count(*) FROM taken)
        RETURNING id)
    SELECT (SELECT id FROM written) AS job_id, (SELECT array_agg(key) FROM taken) AS taken
"""


def insert_job(session: Session, asked: Mapping[str, Any]) -> int | None:
    """Write a job with its keys, in one statement.

    Args:
        session: inside a transaction.
        asked: what `models.store.jobs.insert` was asked for.

    Returns:
        Its id, or None where another job has one of its keys.
    """
    written = session.execute(text(INSERT), asked).one()
    if written.job_id is None and written.taken:  # of two keys the one was free, and the other was not
        session.execute(text("DELETE FROM job_keys WHERE key = ANY(:keys)"), {"keys": written.taken})
    job_id: int | None = written.job_id
    return job_id


def free_idle(session: Session, *, key: str | None = None) -> int:
    """Free queueing locks of jobs that wait no more, as when somebody changed a row by hand.

    Args:
        session: inside a transaction.
        key: only this one of job_keys; None looks at all.

    Returns:
        How many were freed.
    """
    which = "LIKE 'waiting:%'" if key is None else "= :key"
    result = session.execute(
        text(
            f"""
            DELETE FROM job_keys k
            WHERE k.key {which}
              AND NOT EXISTS (SELECT FROM job_runs j WHERE j.id = k.job_id AND j.status = 'queued')
            """
        ),
        {} if key is None else {"key": key},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE has a row count
