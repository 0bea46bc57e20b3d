"""What one job only may have, its tick and its queueing lock, under races, rollbacks and killed connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factories.stack import wait_until
from fakes.worker import InProcessWorker
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import job_keys, jobs
from models.store.session import Database
from workers.settings import Settings
from workers.task import enqueue

TICK = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SCHEDULE = 1
LATER = datetime(2099, 1, 1, tzinfo=UTC)

Ask = Callable[[Session], int | None]


def ask(session: Session, **options: Any) -> int | None:
    return jobs.insert(session, task="maintain.prune", queue="upkeep", args={}, trigger="api", **options)


def ask_for_tick(session: Session) -> int | None:
    return ask(session, schedule_id=SCHEDULE, scheduled_for=TICK)


def ask_with_lock(session: Session) -> int | None:
    return ask(session, queueing_lock="prune")


def ask_for_both(session: Session) -> int | None:
    return ask(session, schedule_id=SCHEDULE, scheduled_for=TICK, queueing_lock="prune")


def keys(database: Database) -> list[str]:
    with database.transaction() as session:
        return list(session.execute(text("SELECT key FROM job_keys ORDER BY key")).scalars())


def count(database: Database) -> int:
    with database.transaction() as session:
        return int(session.execute(text("SELECT count(*) FROM job_runs")).scalar_one())


def asked_for(database: Database, wish: Ask) -> int | None:
    with database.transaction() as session:
        return wish(session)


@contextmanager
def rolled_back(database: Database) -> Iterator[Session]:
    """A transaction that comes to nothing."""
    with database.transaction() as session:
        yield session
        session.rollback()


def backend(session: Session) -> int:
    return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def second_asker(database: Database, pool: ThreadPoolExecutor, wish: Ask, first: Session) -> Future[int | None]:
    """Somebody who asks for the same on another connection, and has met the first, who has not committed yet."""
    blocker = backend(first)
    asked = pool.submit(asked_for, database, wish)
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")

    def is_met() -> bool:
        with database.transaction() as session:
            return bool(session.execute(waits, {"pid": blocker}).scalar_one())

    wait_until(is_met, seconds=20, what="the second waits for the first")
    return asked


every_wish = pytest.mark.parametrize("wish", [ask_for_tick, ask_with_lock, ask_for_both])


@every_wish
def test_of_two_who_ask_at_once_the_second_waits_and_gets_none(
    database: Database, pool: ThreadPoolExecutor, wish: Ask
) -> None:
    with database.transaction() as session:
        first = wish(session)
        asked = second_asker(database, pool, wish, session)
    assert first is not None
    assert asked.result(20) is None
    assert count(database) == 1
    assert all(key.startswith(("tick:1:2026-03-02T09:30:00.000000Z", "waiting:prune")) for key in keys(database))


def test_a_first_who_rolls_back_or_is_killed_leaves_the_key_to_the_second(
    database: Database, pool: ThreadPoolExecutor
) -> None:
    with rolled_back(database) as session:
        ask_for_both(session)
        asked = second_asker(database, pool, ask_for_both, session)
    assert asked.result(20) is not None
    with database.transaction() as session:
        session.execute(text("TRUNCATE job_runs, job_keys"))

    with database.engine.connect() as connection:
        session = Session(connection)
        ask_for_both(session)
        asked = second_asker(database, pool, ask_for_both, session)
        with database.transaction() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend(session)})
        assert asked.result(20) is not None
        connection.invalidate()
    assert (count(database), len(keys(database))) == (1, 2)


def test_a_tick_whose_lock_is_waited_for_leaves_nothing_and_may_be_asked_for_again(database: Database) -> None:
    waiting = asked_for(database, ask_with_lock)
    assert waiting is not None
    assert asked_for(database, ask_for_both) is None
    assert keys(database) == ["waiting:prune"]
    with database.transaction() as session:
        assert jobs.claim(session, waiting, worker="w", celery_task_id=None)
    assert asked_for(database, ask_for_both) is not None
    assert asked_for(database, ask_for_both) is None


def test_a_queueing_lock_is_free_once_its_job_is_claimed_and_not_before(
    database: Database, pool: ThreadPoolExecutor
) -> None:
    first = asked_for(database, ask_with_lock)
    assert first is not None
    with rolled_back(database) as session:
        assert jobs.claim(session, first, worker="w", celery_task_id=None)
        asked = second_asker(database, pool, ask_with_lock, session)
    assert asked.result(20) is None  # the claim came to nothing, so the first one waits still
    with database.transaction() as session:
        assert jobs.claim(session, first, worker="w", celery_task_id=None)
        asked = second_asker(database, pool, ask_with_lock, session)
    second = asked.result(20)
    assert second is not None
    with database.transaction() as session:
        jobs.postpone(session, first, run_after=TICK, error="busy")
        assert jobs.claim(session, first, worker="w", celery_task_id=None)
        jobs.finish(session, first, "succeeded")
        assert jobs.waiting(session, "prune") == second, "the end of the first must not free the lock of the second"
    assert asked_for(database, ask_with_lock) is None


def test_a_cancelled_family_frees_all_its_locks(database: Database) -> None:
    with database.transaction() as session:
        root = ask(session, queueing_lock="root")
        assert root is not None
        for number in range(3):
            ask(session, queueing_lock=f"child {number}", parent_id=root)
        ask(session, queueing_lock="stranger")
    with database.transaction() as session:
        assert jobs.cancel(session, root)
    assert keys(database) == ["waiting:stranger"]


def test_a_lock_of_a_row_that_somebody_changed_by_hand_stops_nobody(database: Database, settings: Settings) -> None:
    by_hand = ("UPDATE job_runs SET status = 'cancelled'", "DELETE FROM job_runs")
    with InProcessWorker(database, settings):
        for statement in by_hand:
            first = enqueue(database, "maintain.prune", trigger="cli")
            with database.transaction() as session:
                session.execute(text(statement))
            assert enqueue(database, "maintain.prune", trigger="cli") > first
    for number, statement in enumerate(by_hand):
        with database.transaction() as session:
            session.execute(text(statement))
        tick = {"schedule_id": SCHEDULE, "scheduled_for": TICK + timedelta(days=number), "queueing_lock": "prune"}
        assert asked_for(database, lambda session, tick=tick: ask(session, **tick)) is not None
        assert asked_for(database, lambda session, tick=tick: ask(session, **tick)) is None
    with database.transaction() as session:
        session.execute(text("UPDATE job_runs SET status = 'cancelled'"))
        assert job_keys.free_idle(session) == 1
    assert [key for key in keys(database) if key.startswith("waiting:")] == []


def test_a_tick_is_pruned_with_its_job_and_only_when_nobody_can_ask_for_it_again(database: Database) -> None:
    job_id = asked_for(database, ask_for_tick)
    assert job_id is not None
    with database.transaction() as session:
        session.execute(text("UPDATE job_schedules SET last_scheduled_for = NULL"))
        assert jobs.prune(session, finished_before=LATER) == 0, "it is not finished"
        jobs.finish(session, job_id, "succeeded")
    for last, pruned in ((None, 0), (TICK - timedelta(microseconds=1), 0), (TICK, 1)):
        with database.transaction() as session:
            session.execute(text("UPDATE job_schedules SET last_scheduled_for = :last"), {"last": last})
            assert jobs.prune(session, finished_before=LATER) == pruned
        assert (count(database), len(keys(database))) == (1 - pruned, 1 - pruned)


def test_pruning_is_bounded_and_leaves_what_is_younger(database: Database) -> None:
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO job_runs (task, queue, trigger, status, created_at, finished_at) "
                "SELECT 'x', 'urgent', 'api', 'succeeded', t, t FROM generate_series("
                "now() - interval '100 days', now(), interval '1 day') AS t"
            )
        )
    pruned = []
    for _ in range(3):
        with database.transaction() as session:
            pruned.append(jobs.prune(session, finished_before=database.now() - timedelta(days=90), limit=6))
    assert pruned == [6, 5, 0]
    assert count(database) == 90


def test_a_key_means_the_same_instant_in_every_time_zone(database: Database) -> None:
    given = []
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles", "UTC"):
        with database.transaction() as session:
            session.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
            given.append(ask_for_tick(session))
    assert [job_id is None for job_id in given] == [False, True, True]


def test_a_tenant_asks_and_cancels_with_its_own_keys_and_meets_those_of_others(database: Database) -> None:
    with database.transaction() as session:
        tenants = [
            session.execute(
                text("INSERT INTO tenants (name, slug) VALUES (:name, :name) RETURNING id"), {"name": name}
            ).scalar_one()
            for name in ("ours", "theirs")
        ]
    ours, theirs = tenants
    with database.tenant_transaction(ours) as session:
        job_id = ask(session, queueing_lock="prune", tenant_id=ours)
        assert job_id is not None
        assert jobs.waiting(session, "prune") == job_id
    with database.tenant_transaction(theirs) as session:
        assert ask(session, queueing_lock="prune", tenant_id=theirs) is None
        assert not jobs.cancel(session, job_id)
        assert job_keys.free_idle(session) == 0
        assert session.execute(text("SELECT count(*) FROM job_keys")).scalar_one() == 0
    assert asked_for(database, ask_with_lock) is None
    with database.tenant_transaction(ours) as session:
        assert jobs.cancel(session, job_id)
    assert keys(database) == []
