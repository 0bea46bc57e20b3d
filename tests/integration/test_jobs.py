"""Jobs as rows: asked for once, claimed once, tried again, cancelled, and found again when their message is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.worker import InProcessWorker
from sqlalchemy import Row, text

from models.errors import RateLimitedError, TransientSourceError
from models.store import jobs
from models.store.session import Database, TransactionOpenError
from workers.beat import send_again, send_due
from workers.enqueue import publish
from workers.queues import Queue
from workers.retry import MOST_SPREAD_SECONDS, RetryPolicy
from workers.settings import Settings
from workers.task import SPECS, Job, enqueue, insert, run_job, task

calls: list[dict[str, Any]] = []
behaviour: dict[str, Any] = {}


@task(
    name="probe.run",
    queue=Queue.URGENT,
    soft_limit_seconds=10,
    hard_limit_seconds=20,
    retry=RetryPolicy(max_attempts=3, base_seconds=0.1, cap_seconds=0.1),
    lock="probe:{thing}",
    queueing_lock="probe:{thing}:{wish}",
)
def probe(job: Job, *, thing: str = "a", wish: str = "", **_later: Any) -> None:
    """Do what the test says.

    Idempotent: the test's business.
    """
    calls.append({"id": job.id, "thing": thing, "wish": wish, "attempts": job.attempts})
    behaviour.get("do", lambda _job: None)(job)


@task(
    name="probe.tick", queue=Queue.URGENT, soft_limit_seconds=10, hard_limit_seconds=20, retry=RetryPolicy(), lock=None
)
def tick(_job: Job, **_later: Any) -> None:
    """Do nothing, and let any number of itself wait.

    Idempotent: it does nothing.
    """


@pytest.fixture(autouse=True)
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    calls.clear()
    behaviour.clear()
    with InProcessWorker(database, settings) as running:
        yield running


def get(database: Database, job_id: int) -> Row[Any]:
    with database.transaction() as session:
        return jobs.get(session, job_id)


def run(job_id: int) -> None:
    run_job(SPECS["probe.run"], probe_body, job_id, celery_task_id=None)


def probe_body(job: Job, **args: Any) -> None:
    calls.append({"id": job.id, **args, "attempts": job.attempts})
    behaviour.get("do", lambda _job: None)(job)


def make_due(database: Database, job_id: int) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE job_runs SET run_after = now() WHERE id = :id"), {"id": job_id})


def test_a_job_runs_once_however_often_its_message_comes(database: Database) -> None:
    job_id = enqueue(database, "probe.run", trigger="cli", thing="a")
    for _ in range(3):
        run(job_id)
    assert len(calls) == 1
    row = get(database, job_id)
    assert (row.status, row.attempts, row.trigger, row.error) == ("succeeded", 1, "cli", None)
    assert row.started_at <= row.finished_at


def test_two_messages_of_one_job_at_once_run_it_once(database: Database) -> None:
    both_there = threading.Barrier(2, timeout=10)
    behaviour["do"] = lambda _job: both_there.wait()
    job_id = enqueue(database, "probe.run", trigger="cli")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, job_id)
        while not calls:
            pass
        pool.submit(run, job_id).result(10)  # comes back at once: the first one holds the job
        both_there.wait()
        first.result(10)
    assert len(calls) == 1


def test_never_two_waiting_with_the_same_queueing_lock(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda _: enqueue(database, "probe.run", trigger="api", thing="a"), range(8)))
    assert len(ids) == 1
    assert enqueue(database, "probe.run", trigger="api", thing="b") not in ids
    run(ids.pop())
    assert enqueue(database, "probe.run", trigger="api", thing="a") > 0


def test_never_two_running_with_the_same_lock(database: Database) -> None:
    first = enqueue(database, "probe.run", trigger="cli", thing="a", wish="1")
    second = enqueue(database, "probe.run", trigger="cli", thing="a", wish="2")
    behaviour["do"] = lambda job: run(second) if job.id == first else None
    run(first)
    assert [call["id"] for call in calls] == [first]
    waiting = get(database, second)
    assert (waiting.status, waiting.attempts, waiting.error) == ("retrying", 0, "Waits for probe:a.")
    make_due(database, second)
    run(second)
    assert get(database, second).status == "succeeded"


def test_passing_trouble_is_tried_again_and_then_given_up(database: Database) -> None:
    def fail(_job: Job) -> None:
        raise TransientSourceError("The source is down.")

    behaviour["do"] = fail
    job_id = enqueue(database, "probe.run", trigger="cli")
    for attempt in (1, 2):
        run(job_id)
        assert (get(database, job_id).status, get(database, job_id).attempts) == ("retrying", attempt)
        make_due(database, job_id)
    run(job_id)
    assert (get(database, job_id).status, get(database, job_id).error) == ("failed", "The source is down.")
    run(job_id)
    assert len(calls) == 3


def test_a_server_that_asks_for_patience_is_asked_again_at_its_time_and_not_before(database: Database) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)

    def wait(_job: Job) -> None:
        raise RateLimitedError(retry_at=until)

    behaviour["do"] = wait
    job_id = enqueue(database, "probe.run", trigger="cli")
    run(job_id)
    row = get(database, job_id)
    assert row.status == "retrying"
    assert until <= row.run_after < until + timedelta(seconds=MOST_SPREAD_SECONDS + 1)
    assert row.attempts == 0
    run(job_id)  # somebody sends it too early
    assert len(calls) == 1
    with database.transaction() as session:
        assert jobs.due_unsent(session) == []


def test_a_bug_fails_at_once_with_its_name_and_leaves_nothing_written(database: Database) -> None:
    def fail_half_way(job: Job) -> None:
        with job.transaction() as session:
            session.execute(text("INSERT INTO tenants (name, slug) VALUES ('half', 'half')"))
            raise ZeroDivisionError("division by zero")

    behaviour["do"] = fail_half_way
    job_id = enqueue(database, "probe.run", trigger="cli")
    run(job_id)
    assert get(database, job_id).error == "ZeroDivisionError: division by zero"
    assert get(database, job_id).status == "failed"
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 1


def test_a_job_whose_worker_dies_each_time_is_given_up_visibly(database: Database) -> None:
    job_id = enqueue(database, "probe.run", trigger="cli")
    with database.transaction() as session:
        session.execute(text("UPDATE job_runs SET status = 'running', attempts = 3"))
    run(job_id)
    assert calls == []
    assert (get(database, job_id).status, get(database, job_id).error) == (
        "lost",
        "Its worker died 3 times while it ran; gave up.",
    )


def test_a_cancelled_job_stops_at_its_next_report_and_stays_cancelled(database: Database) -> None:
    steps: list[int] = []

    def long_work(job: Job) -> None:
        for step in range(5):
            with job.transaction() as session:
                job.report(session, rows_read=1)
                steps.append(step)
            if step == 1:
                with database.transaction() as session:
                    assert jobs.cancel(session, job.id)

    behaviour["do"] = long_work
    job_id = enqueue(database, "probe.run", trigger="cli")
    run(job_id)
    assert steps == [0, 1]
    assert (get(database, job_id).status, get(database, job_id).rows_read) == ("cancelled", 2)


def test_what_was_enqueued_in_a_transaction_that_failed_is_not_asked_for(database: Database) -> None:
    def enqueue_and_fail(job: Job) -> None:
        with job.transaction() as session:
            job.enqueue(session, "probe.run", thing="child")
            raise ValueError("no")

    behaviour["do"] = enqueue_and_fail
    run(enqueue(database, "probe.run", trigger="cli"))
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM job_runs")).scalar_one() == 1


def test_children_belong_to_the_family_of_the_first(database: Database) -> None:
    def enqueue_one(job: Job) -> None:
        if len(calls) < 3:
            with job.transaction() as session:
                job.enqueue(session, "probe.run", thing=f"child {len(calls)}")

    behaviour["do"] = enqueue_one
    first = enqueue(database, "probe.run", trigger="cli")
    run(first)
    for job_id in (first + 1, first + 2):
        run(job_id)
    with database.transaction() as session:
        family = jobs.family(session, first)
    assert (family.total, family.finished, family.failed) == (3, 3, 0)


def test_nothing_is_sent_inside_a_transaction(database: Database) -> None:
    with pytest.raises(TransactionOpenError), database.transaction():
        publish(database, [1])


def test_a_message_that_was_lost_is_sent_again_and_one_that_waits_is_not(database: Database) -> None:
    job_id = enqueue(database, "probe.run", trigger="cli")
    assert send_again(database) == 0
    with database.transaction() as session:
        session.execute(text("UPDATE job_runs SET sent_at = now() - make_interval(secs => 16)"))
    assert send_again(database) == 1
    assert get(database, job_id).sent_count == 2
    assert send_again(database) == 0


def test_a_running_job_is_sent_again_only_when_its_owner_is_dead(database: Database) -> None:
    job_id = enqueue(database, "probe.run", trigger="cli")
    with database.transaction() as session:
        session.execute(
            text("UPDATE job_runs SET status = 'running', attempts = 1, sent_at = now() - make_interval(secs => 60)")
        )
    with database.advisory_lock(f"job:{job_id}") as is_ours:
        assert is_ours
        assert send_again(database) == 0
    with database.transaction() as session:
        session.execute(text("UPDATE job_runs SET sent_at = now() - make_interval(hours => 1)"))
    assert send_again(database) == 1
    run(job_id)
    assert (get(database, job_id).status, get(database, job_id).attempts) == ("succeeded", 2)


def add_schedule(database: Database, *, catch_up: str = "last", last: datetime) -> None:
    with database.transaction() as session:
        session.execute(text("DELETE FROM job_schedules"))
        session.execute(
            text(
                "INSERT INTO job_schedules (name, task, cron, args, catch_up, last_scheduled_for) VALUES "
                "('probe', 'probe.tick', '0 * * * *', '{\"thing\": \"tick\"}', CAST(:rule AS catch_up_rule), :last)"
            ),
            {"rule": catch_up, "last": last},
        )


def test_many_beats_at_once_run_a_tick_once(database: Database) -> None:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    add_schedule(database, last=start)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: send_due(database, now=start + timedelta(hours=1)), range(8)))
    assert sorted(taken) == [0] * 7 + [1]
    with database.transaction() as session:
        row = session.execute(text("SELECT schedule_id, scheduled_for, trigger, args FROM job_runs")).one()
    assert row.scheduled_for == start + timedelta(hours=1)
    assert (row.trigger, row.args) == ("schedule", {"thing": "tick"})


@pytest.mark.parametrize(("rule", "expected"), [("none", 0), ("last", 1), ("all", 3)])
def test_ticks_that_nobody_sent_are_caught_up_by_the_rule(database: Database, rule: str, expected: int) -> None:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    add_schedule(database, catch_up=rule, last=start)
    assert send_due(database, now=start + timedelta(hours=3, minutes=30)) == expected
    assert send_due(database, now=start + timedelta(hours=3, minutes=40)) == 0


def test_a_tick_is_not_lost_when_the_beat_dies_before_sending(database: Database) -> None:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    add_schedule(database, last=start)
    with database.transaction() as session:  # written, and then the beat was killed
        schedule = jobs.enabled_schedules(session)[0]
        insert(
            session,
            "probe.run",
            {},
            trigger="schedule",
            schedule_id=schedule.id,
            scheduled_for=start + timedelta(hours=1),
        )
    assert send_due(database, now=start + timedelta(hours=1)) == 0
    assert send_again(database) == 1
