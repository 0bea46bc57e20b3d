"""The task decorator: what stands between a broker's message and a task's body.

A message carries a job's id and nothing else. The decorator claims the job's row, holds its locks, runs the body,
writes how it ended, and turns an error into its verdict. A body says first this, then that, in which transaction.
"""

from __future__ import annotations

import inspect
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from celery import Task, shared_task
from sqlalchemy.orm import Session

from models.errors import PlumblineError, UsageError, Verdict
from models.store import jobs
from models.store.session import Database, assert_no_transaction, commit_without_waiting
from workers import runtime
from workers.enqueue import publish
from workers.queues import BEFORE_BACKFILL, Queue
from workers.retry import RetryPolicy, decide
from workers.settings import Settings

LOCK_WAIT_SECONDS = 3.0
"""How soon a job whose lock is held is tried again."""
TURN_SECONDS = 2.0
"""How long a job that yields to others goes on at least."""

QUIET = {Verdict.RESCHEDULE, Verdict.CANCEL}
"""Hundreds of windows may meet the same closed gate or paused connection; what closed it was told once."""

logger = structlog.get_logger("plumbline.jobs")


class JobCancelledError(PlumblineError):
    """The job was cancelled."""


class JobYieldedError(PlumblineError):
    """The job lets more urgent work go first, and goes on after it."""


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of a task."""

    name: str
    queue: Queue
    soft_limit_seconds: int
    hard_limit_seconds: int
    retry: RetryPolicy
    lock: str | None
    """Never two running with the same, e.g. `window:{window_id}`; filled from the job's arguments."""
    queueing_lock: str | None
    """Never two waiting with the same."""
    arguments: Mapping[str, bool] = {}
    """Each argument that the body knows, and whether it must be given."""

    def check(self, args: Mapping[str, Any]) -> None:
        """Raise `UsageError` where an argument is missing or unknown: a person mistypes, and old code does not."""
        unknown = args.keys() - self.arguments.keys()
        missing = {name for name, is_required in self.arguments.items() if is_required} - args.keys()
        known = ", ".join(self.arguments) or "none"
        if unknown:
            raise UsageError(f"{self.name} knows no argument {min(unknown)!r}; it takes: {known}.")
        if missing:
            raise UsageError(f"{self.name} needs the argument {min(missing)!r}; it takes: {known}.")

    def key(self, template: str | None, args: Mapping[str, Any]) -> str | None:
        """A lock's name for a job's arguments; arguments that are missing are empty."""
        return None if template is None else template.format_map(_Blank(args))


class _Blank(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return ""


SPECS: dict[str, TaskSpec] = {}
"""Every task that is imported, by name."""


def spec(name: str) -> TaskSpec:
    """What is declared of a task.

    Raises:
        UsageError: there is none of that name; the message lists those that there are.
    """
    try:
        return SPECS[name]
    except KeyError:
        raise UsageError(f"There is no task {name!r}; choose one of {', '.join(sorted(SPECS))}.") from None


class Job:
    """One run of a task, as its body sees it."""

    def __init__(self, *, job_id: int, attempts: int, trigger: str, database: Database, settings: Settings) -> None:
        """Made by the decorator."""
        self.id = job_id
        self.attempts = attempts
        self.trigger = trigger
        self.database = database
        self.settings = settings
        self.rows_read = 0
        self.rows_written = 0
        self._unpublished: list[int] = []
        self._started = time.monotonic()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One short transaction; jobs that were enqueued in it are sent once it is committed."""
        self._unpublished.clear()
        with self.database.transaction() as session:
            yield session
        publish(self.database, self._unpublished)
        self._unpublished.clear()

    def enqueue(self, session: Session, task: str, **args: Any) -> int | None:
        """Ask for another job, in this transaction.

        Returns:
            Its id, or None where one with the same queueing lock is waiting already.
        """
        job_id = insert(session, task, args, trigger="event", parent_id=self.id)
        if job_id is not None:
            self._unpublished.append(job_id)
        return job_id

    def report(
        self, session: Session, *, rows_read: int = 0, rows_written: int = 0, **progress: str | float | None
    ) -> None:
        """Write how far the job is, in the transaction that did the work.

        Raises:
            JobCancelledError: somebody cancelled it; the transaction is rolled back.
        """
        self.rows_read += rows_read
        self.rows_written += rows_written
        if not jobs.report_progress(
            session, self.id, progress=progress, rows_read=rows_read, rows_written=rows_written
        ):
            raise JobCancelledError

    def is_in_the_way(self, session: Session) -> bool:
        """Whether work of better queues waits while this job has had its turn; it may then raise `JobYieldedError`."""
        has_had_its_turn = time.monotonic() - self._started > TURN_SECONDS
        return has_had_its_turn and jobs.is_any_waiting(session, BEFORE_BACKFILL)


def insert(
    session: Session,
    task: str,
    args: Mapping[str, Any],
    *,
    trigger: str,
    parent_id: int | None = None,
    schedule_id: int | None = None,
    scheduled_for: datetime | None = None,
) -> int | None:
    """Write a job in the caller's transaction; `publish` it after the commit.

    Returns:
        Its id, or None where the tick or the queueing lock has one already.

    Raises:
        UsageError: there is no such task.
    """
    declared = spec(task)
    return jobs.insert(
        session,
        task=task,
        queue=declared.queue,
        args=args,
        trigger=trigger,
        queueing_lock=declared.key(declared.queueing_lock, args),
        parent_id=parent_id,
        schedule_id=schedule_id,
        scheduled_for=scheduled_for,
    )


def enqueue(database: Database, task: str, *, trigger: str, **args: Any) -> int:
    """Ask for a job and send it; what the command line and the API do.

    Returns:
        Its id, or that of the one that waits already with the same queueing lock.
    """
    with database.transaction() as session:
        job_id = insert(session, task, args, trigger=trigger)
        if job_id is None:
            declared = spec(task)
            job_id = jobs.waiting(session, declared.key(declared.queueing_lock, args) or "")
    if job_id is None:  # the one that waited was taken in between
        return enqueue(database, task, trigger=trigger, **args)
    publish(database, [job_id])
    return job_id


def task(
    *,
    name: str,
    queue: Queue,
    soft_limit_seconds: int,
    hard_limit_seconds: int,
    retry: RetryPolicy,
    lock: str | None = None,
    queueing_lock: str | None = None,
) -> Callable[[Callable[..., None]], Task]:
    """Declare a task. Every option is explicit; an unknown one raises.

    The body takes the `Job` and keyword arguments of plain JSON, and tolerates arguments that it does not know, because
    old and new code run side by side during an upgrade.

    Args:
        name: `<module>.<verb>`; what Flower shows and schedules say.
        queue: where it waits.
        soft_limit_seconds: then it is asked to stop; it goes on later where it stopped.
        hard_limit_seconds: then its process is killed.
        retry: how often and how patiently it is tried.
        lock: never two running with the same; a job that finds it held waits a few seconds.
        queueing_lock: never two waiting with the same.
    """

    def register(body: Callable[..., None]) -> Task:
        declared = TaskSpec(
            name=name,
            queue=queue,
            soft_limit_seconds=soft_limit_seconds,
            hard_limit_seconds=hard_limit_seconds,
            retry=retry,
            lock=lock,
            queueing_lock=queueing_lock,
            arguments=_arguments(body),
        )

        def run(celery_task: Task, *, job_id: int, **_later: Any) -> None:
            run_job(declared, body, job_id, celery_task_id=celery_task.request.id)

        run.__doc__ = body.__doc__
        SPECS[name] = declared
        return shared_task(
            run,
            bind=True,
            name=name,
            soft_time_limit=soft_limit_seconds,
            time_limit=hard_limit_seconds,
        )

    return register


def _arguments(body: Callable[..., None]) -> dict[str, bool]:
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(body).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def run_job(declared: TaskSpec, body: Callable[..., None], job_id: int, *, celery_task_id: str | None) -> None:
    """Run one job to its end, whatever that is. Safe to call twice: the second finds nothing to do.

    Args:
        declared: of its task.
        body: of its task.
        job_id: the row.
        celery_task_id: for the row.
    """
    process = runtime.current("worker")
    database = process.database
    with database.advisory_lock(f"job:{job_id}") as is_ours:
        if not is_ours:
            return  # another process runs it; this message came twice
        with database.transaction() as session:
            commit_without_waiting(session)
            row = jobs.claim(
                session, job_id, worker=f"{socket.gethostname()}:{os.getpid()}", celery_task_id=celery_task_id
            )
        if row is None:
            return  # finished, cancelled, or not due; whoever sent this was late
        with structlog.contextvars.bound_contextvars(job_id=job_id, task=declared.name):
            if row.attempts > declared.retry.max_attempts:
                _end(database, job_id, "lost", f"Its worker died {row.attempts - 1} times while it ran; gave up.")
                return
            job = Job(
                job_id=job_id,
                attempts=row.attempts,
                trigger=row.trigger,
                database=database,
                settings=process.settings,
            )
            _run_body(declared, body, job, row.args)


def _run_body(declared: TaskSpec, body: Callable[..., None], job: Job, args: Mapping[str, Any]) -> None:
    started = time.monotonic()
    status = "succeeded"
    lock = declared.key(declared.lock, args)
    try:
        if lock is None:
            body(job, **args)
        else:
            with job.database.advisory_lock(lock) as is_ours:
                if not is_ours:
                    _postpone(job, timedelta(seconds=LOCK_WAIT_SECONDS), f"Waits for {lock}.")
                    return
                body(job, **args)
        _end(job.database, job.id, "succeeded", None)
    except JobCancelledError:
        status = "cancelled"
    except JobYieldedError as error:
        status = "yielded"
        _postpone(job, timedelta(), error.message)
    except Exception as error:  # noqa: BLE001  # the boundary of all tasks: every error gets its verdict here and nowhere else
        status = _judge(declared, job, error)
    logger.info(
        "job_finished",
        status=status,
        attempts=job.attempts,
        rows_read=job.rows_read,
        rows_written=job.rows_written,
        duration_seconds=round(time.monotonic() - started, 3),
    )


def _judge(declared: TaskSpec, job: Job, error: Exception) -> str:
    decision = decide(
        error,
        attempts=job.attempts,
        policy=declared.retry,
        now=datetime.now(UTC),
        chance=random.random(),  # noqa: S311  # jitter
    )
    sentence = error.message if isinstance(error, PlumblineError) else f"{type(error).__name__}: {error}"
    if decision.verdict is Verdict.FAIL and not isinstance(error, PlumblineError):
        logger.error("job_error", error=sentence, exc_info=error)
    elif decision.verdict in QUIET:
        logger.debug("job_error", error=sentence, verdict=decision.verdict)
    else:
        logger.warning("job_error", error=sentence, verdict=decision.verdict)
    if decision.run_after is None:
        status = "cancelled" if decision.verdict is Verdict.CANCEL else "failed"
        _end(job.database, job.id, status, sentence)
        return status
    with job.database.transaction() as session:
        jobs.postpone(
            session,
            job.id,
            run_after=decision.run_after,
            error=sentence,
            counts_as_attempt=decision.counts_as_attempt,
        )
    publish(job.database, [job.id], not_before=decision.run_after)
    return "retrying"


def _postpone(job: Job, wait: timedelta, reason: str) -> None:
    run_after = datetime.now(UTC) + wait
    with job.database.transaction() as session:
        jobs.postpone(session, job.id, run_after=run_after, error=reason, counts_as_attempt=False)
    publish(job.database, [job.id], not_before=run_after)


def _end(database: Database, job_id: int, status: str, error: str | None) -> None:
    with database.transaction() as session:
        commit_without_waiting(session)  # a job whose end is forgotten runs again and finds nothing to do
        jobs.finish(session, job_id, status, error=error)


__all__ = [
    "SPECS",
    "Job",
    "JobCancelledError",
    "JobYieldedError",
    "TaskSpec",
    "assert_no_transaction",
    "enqueue",
    "insert",
    "spec",
    "task",
]
