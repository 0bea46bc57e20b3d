"""Backfills: shared windows, newest first, cut again where they hold much, no hindrance to what is new, pausable."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from factories.snapshots import count, snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.rules.windows import MOST_ROWS
from models.store import connections, jobs, watermarks, windows
from models.store.session import Database
from workers.settings import Settings
from workers.task import TURN_SECONDS, enqueue


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


@contextmanager
def gitlab(worker: InProcessWorker, objects: int, **options: Any) -> Iterator[tuple[GitLabSimulator, int]]:
    simulator = GitLabSimulator(merge_requests=objects, seed=1, **options)
    with simulator.serve() as server:
        yield simulator, worker.add_scope("gitlab", server.base_url, "101", token="sim-token")


def run_next(worker: InProcessWorker, task: str) -> None:
    """Run the job of a task that was asked for first."""
    with worker.database.transaction() as session:
        job_id = session.execute(
            text("SELECT min(id) FROM job_runs WHERE task = :task AND status = 'queued'"), {"task": task}
        ).scalar_one()
    worker._app.tasks[task](job_id=job_id)


def ask(worker: InProcessWorker, task: str, **args: Any) -> None:
    enqueue(worker.database, task, trigger="cli", **args)
    run_next(worker, task)


def windows_of(worker: InProcessWorker, stream: str) -> list[Any]:
    with worker.database.transaction() as session:
        return list(
            session.execute(
                text("SELECT * FROM sync_windows WHERE resource = :stream ORDER BY until DESC, id"), {"stream": stream}
            )
        )


def near(one: datetime | None, other: datetime) -> bool:
    """A server's clock is known to the second."""
    return one is not None and abs(one - other) < timedelta(seconds=5)


def status_of_jobs(worker: InProcessWorker) -> dict[str, int]:
    with worker.database.transaction() as session:
        return dict(session.execute(text("SELECT status::text, count(*) FROM job_runs GROUP BY status")).all())


def test_a_first_sync_is_windows_that_are_collected_newest_first(worker: InProcessWorker) -> None:
    with gitlab(worker, 120) as (_, scope_id):
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        planned = windows_of(worker, "merge_requests")
        assert len(planned) > 5
        assert {window.state for window in planned} == {"pending"}
        for done_count in (1, 2, 3):
            run_next(worker, "collect.window")
            states = [window.state for window in windows_of(worker, "merge_requests")]
            assert states == ["done"] * done_count + ["pending"] * (len(planned) - done_count)


def test_a_window_that_failed_lets_the_others_go_first(worker: InProcessWorker) -> None:
    with gitlab(worker, 60) as (simulator, scope_id):
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        simulator.set_faults("500:1:path=*/notes*")
        run_next(worker, "collect.window")
        simulator.set_faults("")
        run_next(worker, "collect.window")
        first, second, *_ = windows_of(worker, "merge_requests")
        assert (first.state, first.attempts, second.state) == ("running", 1, "done")
        worker.run_jobs()
        assert {window.state for window in windows_of(worker, "merge_requests")} == {"done"}


def test_what_changes_during_a_backfill_is_there_before_it_ends_and_the_end_is_complete(
    worker: InProcessWorker,
) -> None:
    database = worker.database
    with gitlab(worker, 120) as (simulator, scope_id):
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        run_next(worker, "collect.window")
        for minutes in (5, 10):
            simulator.clock.advance(timedelta(minutes=minutes))
            simulator.update_merge_request(1, project=101, title=f"Renamed after {minutes}")
            simulator.clock.advance(timedelta(minutes=1))
            ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
            with database.transaction() as session:
                titles = session.execute(text("SELECT title FROM gitlab_mr_lead_times")).scalars().all()
                assert f"Renamed after {minutes}" in titles
                assert watermarks.watermark(session, scope_id, "merge_requests") is None
                backlog = windows.unfinished(session, scope_id, "merge_requests", is_backfill=True)
                assert windows.missing_jobs(session, scope_id, "merge_requests") == 0
            assert len(backlog) > 3
        now = simulator.clock.now()
        worker.run_jobs()
        with database.transaction() as session:
            assert near(watermarks.watermark(session, scope_id, "merge_requests"), now)
        assert count(database, "gitlab_mr_lead_times") == 120


def test_reading_all_again_does_not_hold_the_watermark(worker: InProcessWorker) -> None:
    with gitlab(worker, 60) as (simulator, scope_id):
        worker.run("collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        first_at = simulator.clock.now()
        simulator.clock.advance(timedelta(hours=1))
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests", full=True)
        simulator.clock.advance(timedelta(hours=1))
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        with worker.database.transaction() as session:
            assert near(watermarks.watermark(session, scope_id, "merge_requests"), simulator.clock.now())
            newest = windows_of(worker, "merge_requests")[0]
            assert newest.since < first_at  # it follows from the watermark, and not from where the second reading began
        # Asked again, the second reading takes the place of what was not begun.
        pending = [window for window in windows_of(worker, "merge_requests") if window.state == "pending"]
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests", full=True)
        assert len([each for each in windows_of(worker, "merge_requests") if each.state == "pending"]) == len(pending)
        worker.run_jobs()
        assert {window.state for window in windows_of(worker, "merge_requests")} == {"done"}


def test_a_window_that_holds_much_is_cut_again_and_covers_the_same(worker: InProcessWorker) -> None:
    simulator = JiraSimulator(issues=MOST_ROWS + 500, seed=1, deployment="server")
    with simulator.serve() as server:
        key = str(next(iter(simulator.world.projects)))
        scope_id = worker.add_scope("jira", server.base_url, key, token="sim-token")
        worker.run("collect.sync_scope", scope_id=scope_id, stream="fields")
        since = (simulator.clock.now() - timedelta(days=1_000)).isoformat()
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="issues", since=since)
        (whole,) = windows_of(worker, "issues")
        run_next(worker, "collect.window")
        parts = windows_of(worker, "issues")
        assert len(parts) >= 3
        assert (parts[0].until, parts[-1].since) == (whole.until, whole.since)
        assert all(newer.since == older.until for newer, older in pairwise(parts))
        assert [part.state for part in parts] == ["done"] + ["pending"] * (len(parts) - 1)
        worker.run_jobs(deadline_seconds=120)
        expected = [issue for issue in simulator.expected_issues() if issue.project_key == key]
        assert count(worker.database, "jira_table_history") == len(expected)


def test_a_backfill_tells_its_pace_and_what_is_left(worker: InProcessWorker) -> None:
    with gitlab(worker, 240) as (_, scope_id):
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        with worker.database.transaction() as session:
            (before,) = windows.backfills(session)
        assert before.windows_done == 0
        assert before.seconds_left is None
        for _ in range(4):
            run_next(worker, "collect.window")
        with worker.database.transaction() as session:
            (after,) = windows.backfills(session)
        assert after.windows_done == 4
        assert after.rows_per_second > 0
        left = (240 - after.rows_seen) / after.rows_per_second
        assert left / 4 < after.seconds_left < left * 4  # as far as windows are alike
        worker.run_jobs()
        with worker.database.transaction() as session:
            assert windows.backfills(session) == []


def test_urgent_work_that_waits_goes_first_and_the_window_goes_on_where_it_was(worker: InProcessWorker) -> None:
    # Bound by latency on any machine: far more than a turn, whoever else is busy.
    with gitlab(worker, 1_500, latency_ms=8) as (simulator, scope_id):
        since = (simulator.clock.now() - timedelta(days=1_000)).isoformat()
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests", since=since)
        with worker.database.transaction() as session:
            waiting = jobs.insert(session, task="collect.sync_all", queue="urgent", args={}, trigger="cli")
            session.execute(text("UPDATE job_runs SET run_after = now() - interval '5 seconds' WHERE id = :id"),
                            {"id": waiting})  # fmt: skip
        began = time.monotonic()
        run_next(worker, "collect.window")
        (window,) = windows_of(worker, "merge_requests")
        if window.state == "done":
            pytest.fail(f"1,500 merge requests took {time.monotonic() - began:.1f} s, less than {TURN_SECONDS} s")
        assert 0 < window.rows_seen < 1_500
        assert window.attempts == 0
        assert status_of_jobs(worker)["retrying"] == 1
        notes = len(simulator.requests.matching("*/notes"))
        worker.run_jobs()
        (window,) = windows_of(worker, "merge_requests")[-1:]
        assert window.state == "done"
        assert count(worker.database, "gitlab_mr_lead_times") == 1_500
        # Only what was fetched ahead of the page that was kept is fetched twice.
        assert len(simulator.requests.matching("*/notes")) <= 1_500 + 220, notes


def test_a_paused_connection_stops_within_two_seconds_and_goes_on_where_it_was(
    worker: InProcessWorker, database: Database
) -> None:
    with gitlab(worker, 600, latency_ms=10) as (simulator, scope_id):
        since = (simulator.clock.now() - timedelta(days=1_000)).isoformat()
        ask(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests", since=since)
        with database.transaction() as session:
            connection = connections.connection(session, "gitlab-101")
        running = threading.Thread(target=run_next, args=(worker, "collect.window"))
        running.start()
        deadline = time.monotonic() + 30
        while windows_of(worker, "merge_requests")[0].rows_seen == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with database.transaction() as session:
            connections.set_connection_status(session, connection.id, "paused")
        paused_at = time.monotonic()
        running.join(10)
        assert not running.is_alive()
        assert time.monotonic() - paused_at < 5  # two seconds, and room for a busy machine
        (window,) = windows_of(worker, "merge_requests")
        assert 0 < window.rows_seen < 600
        assert window.attempts == 0
        assert "failed" not in status_of_jobs(worker)
        requests_count = len(simulator.requests)
        ask(worker, "collect.sync_all")  # as schedules do: nothing is asked of it
        assert len(simulator.requests) == requests_count
        with database.transaction() as session:
            connections.set_connection_status(session, connection.id, "active")
        worker.run("collect.sync_all")
        assert count(database, "gitlab_mr_lead_times") == 600
        assert len(simulator.requests.matching("*/merge_requests/*/notes")) <= 600 + 220


def test_two_backfills_end_as_one(worker: InProcessWorker) -> None:
    with gitlab(worker, 60) as (_, scope_id):
        worker.run("collect.sync_scope", scope_id=scope_id)
        once = snapshot(worker.database)
        worker.run("collect.sync_scope", scope_id=scope_id, full=True)
        assert snapshot(worker.database) == once
