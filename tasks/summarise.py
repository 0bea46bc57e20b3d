"""Summarising: recompute the keys of each summary and read model whose inputs changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from models.store import summaries
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

KEYS_A_TRANSACTION = 2_000


@task(
    name="summarise.all",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="summarise_all",
)
def summarise_all(job: Job, **_later: Any) -> None:
    """Ask for every summary that has dirty keys.

    Idempotent: summaries whose job is waiting already are not asked twice.
    """
    with job.transaction() as session:
        for name in summaries.dirty_summaries(session, as_of=datetime.now(UTC)):
            job.enqueue(session, "summarise.one", summary=name)


@task(
    name="summarise.one",
    queue=Queue.COMPUTE,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="summarise:{summary}",
    queueing_lock="summarise:{summary}",
)
def summarise_one(job: Job, *, summary: str, **_later: Any) -> None:
    """Recompute the dirty keys of one summary until none is left.

    Idempotent: each key is replaced by what its inputs say now.
    """
    while True:
        with job.transaction() as session:
            counts = summaries.take_and_recompute(session, summary, as_of=datetime.now(UTC), limit=KEYS_A_TRANSACTION)
            job.report(session, rows_read=counts.keys, rows_written=counts.rows_written, summary=summary)
        if not counts.keys:
            return
