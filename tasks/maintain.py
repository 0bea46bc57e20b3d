"""Upkeep of our own tables: what is finished and old goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from models.store import jobs, webhooks, windows
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

KEEP_JOBS = timedelta(days=90)
KEEP_WINDOWS = timedelta(days=30)
KEEP_DELIVERIES = timedelta(days=7)
"""Of webhooks, with their keys; senders try again for hours at most."""


@task(
    name="maintain.prune",
    queue=Queue.UPKEEP,
    soft_limit_seconds=600,
    hard_limit_seconds=660,
    retry=RetryPolicy(),
    lock="prune",
    queueing_lock="prune",
)
def prune(job: Job, **_later: Any) -> None:
    """Delete finished jobs, windows and webhooks that nobody needs any more, a bounded number at a time.

    Idempotent: what is gone stays gone.
    """
    now = datetime.now(UTC)
    while True:
        with job.transaction() as session:
            deleted = jobs.prune(session, finished_before=now - KEEP_JOBS)
            job.report(session, rows_written=deleted)
        if not deleted:
            break
    with job.transaction() as session:
        job.report(session, rows_written=windows.prune(session, finished_before=now - KEEP_WINDOWS))
    while True:
        with job.transaction() as session:
            deleted = webhooks.prune(session, received_before=now - KEEP_DELIVERIES)
            job.report(session, rows_written=deleted)
        if not deleted:
            break
