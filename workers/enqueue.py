"""Messages: giving the broker the ids of jobs that are written and committed.

The broker is only a wake-up call. Where it does not answer, nothing is lost: beat sends what is due again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from celery import current_app
from kombu.exceptions import OperationalError

from models.store import jobs
from models.store.session import Database, assert_no_transaction

LONGEST_COUNTDOWN_SECONDS = 30
"""A job that is due later waits as a row: a message that waits long is delivered again at each visibility timeout."""

logger = structlog.get_logger("plumbline.jobs")


def publish(database: Database, job_ids: Sequence[int], *, not_before: datetime | None = None) -> None:
    """Send the messages of committed jobs.

    Args:
        database: where the jobs are.
        job_ids: in the order in which they should run.
        not_before: when they are due, where that is later than now.
    """
    assert_no_transaction()
    if not job_ids:
        return
    countdown = 0.0 if not_before is None else max(0.0, (not_before - datetime.now(UTC)).total_seconds())
    if countdown > LONGEST_COUNTDOWN_SECONDS:
        return
    with database.transaction() as session:
        by_id = {row.id: row for row in jobs.messages(session, job_ids)}
    sent: list[int] = []
    try:
        for job_id in job_ids:
            row = by_id.get(job_id)
            if row is None:
                continue  # it was pruned meanwhile
            current_app.send_task(
                row.task,
                kwargs={"job_id": job_id},
                queue=row.queue,
                task_id=f"{row.task}-{job_id}-{row.sent_count}",
                countdown=countdown or None,
                retry=False,
            )
            sent.append(job_id)
    except OperationalError as error:
        logger.warning("broker_unreachable", unsent=len(job_ids) - len(sent), error=str(error))
    if sent:
        with database.transaction() as session:
            jobs.mark_sent(session, sent)
