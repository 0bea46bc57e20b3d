"""The beat scheduler: sends what is due, by the rows of job_schedules, and sends again what got lost.

Any number of beats may run: a tick is a unique row, and whoever writes it sends it. One that is killed between writing
and sending loses nothing, because every beat also sends due jobs whose message seems lost.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog
from celery.beat import Scheduler

from models.errors import PlumblineError
from models.rules.schedule import due_ticks, next_tick
from models.store import jobs
from models.store.session import Database
from workers import runtime
from workers.enqueue import publish
from workers.task import insert

TICK_SECONDS = 1.0

logger = structlog.get_logger("plumbline.beat")


def send_due(database: Database, *, now: datetime) -> int:
    """Write and send the ticks that are due; returns how many this beat took.

    Args:
        database: where schedules and jobs are.
        now: aware.
    """
    taken: list[int] = []
    with database.transaction() as session:
        for schedule in jobs.enabled_schedules(session):
            since = schedule.last_scheduled_for or schedule.updated_at
            ticks = due_ticks(schedule.cron, schedule.timezone, last=since, now=now, catch_up=schedule.catch_up)
            for tick in ticks:
                job_id = insert(
                    session,
                    schedule.task,
                    schedule.args,
                    trigger="schedule",
                    schedule_id=schedule.id,
                    scheduled_for=tick,
                )
                if job_id is not None:
                    taken.append(job_id)
            last = ticks[-1] if ticks else None
            following = next_tick(schedule.cron, schedule.timezone, now)
            if last is not None or schedule.next_run_at != following:
                jobs.advance_schedule(session, schedule.id, last_scheduled_for=last or since, next_run_at=following)
    publish(database, taken)
    return len(taken)


def send_again(database: Database) -> int:
    """Send due jobs whose message seems lost, among them running ones whose owner is dead; returns how many."""
    with database.transaction() as session:
        candidates = jobs.due_unsent(session)
    alive: list[int] = []
    lost: list[int] = []
    for row in candidates:
        if row.status == "running" and _has_owner(database, row.id):
            alive.append(row.id)
        else:
            lost.append(row.id)
    if alive:
        with database.transaction() as session:
            jobs.mark_sent(session, alive)  # look again later, and later still
    publish(database, lost)
    return len(lost)


def _has_owner(database: Database, job_id: int) -> bool:
    """Whether a process holds the job's advisory lock; the lock dies with its process."""
    with database.advisory_lock(f"job:{job_id}") as is_free:
        return not is_free


class RowScheduler(Scheduler):  # type: ignore[misc]  # celery ships no types
    """Celery's beat over rows; runs in `celery -A workers.app beat`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_interval"] = TICK_SECONDS
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing to read ahead: the rows are read at every tick."""

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Send what is due; returns the seconds to the next look."""
        database = runtime.current("beat").database
        try:
            sent = send_due(database, now=datetime.now(UTC))
            resent = send_again(database)
        except PlumblineError as error:
            logger.warning("beat_waits", error=error.message)
        else:
            if sent or resent:
                logger.info("beat_sent", due=sent, again=resent)
        return TICK_SECONDS
