"""Telling people apart: which accounts of the sources are one person's."""

from __future__ import annotations

from typing import Any

from models.store import people
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task


@task(
    name="identify.people",
    queue=Queue.UPKEEP,
    soft_limit_seconds=300,
    hard_limit_seconds=360,
    retry=RetryPolicy(),
    lock="identify.people",
    queueing_lock="identify.people",
)
def tell_people_apart(job: Job, **_later: Any) -> None:
    """Give each account its person, tenant by tenant.

    Idempotent: the same accounts and decisions give the same people.
    """
    with job.transaction() as session:
        tenants = people.tenants(session)
    for tenant_id in tenants:
        with job.transaction() as session:
            job.report(session, rows_written=people.tell_apart(session, tenant_id))
