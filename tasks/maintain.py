"""Upkeep of our own tables: what is finished and old goes, and the months to come are made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from models.store import job_keys, jobs, partitions, webhooks, windows
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

KEEP_JOBS = timedelta(days=90)
KEEP_WINDOWS = timedelta(days=30)
KEEP_DELIVERIES = timedelta(days=7)
"""Of webhooks, with their keys; senders try again for hours at most."""
MONTHS_AHEAD = timedelta(days=92)
"""Three months, in which nobody needs to notice that the job does not run."""

logger = structlog.get_logger("plumbline.upkeep")


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
        job_keys.free_idle(session)
        job.report(session, rows_written=windows.prune(session, finished_before=now - KEEP_WINDOWS))
    while True:
        with job.transaction() as session:
            deleted = webhooks.prune(session, received_before=now - KEEP_DELIVERIES)
            job.report(session, rows_written=deleted)
        if not deleted:
            break


@task(
    name="maintain.create_partitions",
    queue=Queue.UPKEEP,
    soft_limit_seconds=600,
    hard_limit_seconds=660,
    retry=RetryPolicy(cap_seconds=60),
    lock="partitions",
    queueing_lock="partitions",
)
def create_partitions(job: Job, **_later: Any) -> None:
    """Make the months ahead, and those that rows in a default partition wait for; each is a transaction of its own.

    Idempotent: what is there is not made again, and rows move in the transaction that makes their month.
    """
    now = datetime.now(UTC)
    with job.transaction() as session:
        strays = partitions.default_rows(session)
    if strays:
        logger.warning("default_partition_not_empty", rows=strays)
    while True:
        with job.transaction() as session:
            made = partitions.ensure_months(session, now=now, until=now + MONTHS_AHEAD, limit=1)
        if not made:
            break
        logger.info("partition_made", name=made[0])
