"""Rebuilding: compute a summary or read model from nothing, while its readers go on seeing the old one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from models.store import summaries
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task


@task(
    name="rebuild.one",
    queue=Queue.COMPUTE,
    soft_limit_seconds=3_000,
    hard_limit_seconds=3_060,
    retry=RetryPolicy(),
    lock="summarise:{summary}",
    queueing_lock="rebuild:{summary}:{project_id}",
)
def rebuild_one(job: Job, *, summary: str, project_id: int | None = None, **_later: Any) -> None:
    """Compute one summary from nothing.

    Idempotent: what is equal already is not written.
    """
    with job.transaction() as session:
        counts = summaries.rebuild(session, summary, as_of=datetime.now(UTC), project_id=project_id)
        job.report(session, rows_written=counts.rows_written, summary=summary)
