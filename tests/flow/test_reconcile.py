"""What was deleted, moved, hidden or missed at a source is found, and believed only when it is asked for twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from factories.scenes import Scene, scene
from factories.snapshots import count
from fakes.worker import InProcessWorker
from sqlalchemy import text

from models.store.session import Database
from workers.settings import Settings
from workers.task import enqueue

SOURCES = ("gitlab", "jira cloud", "jira server")
TABLES = {"gitlab": ("gitlab_mr_lead_times", "mr_id"), "jira": ("jira_table_history", "issue_id")}


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def sql(worker: InProcessWorker, statement: str, **values: object) -> list[object]:
    with worker.database.transaction() as session:
        result = session.execute(text(statement), values)
        return list(result.scalars()) if result.returns_rows else []


def synced(its: Scene) -> None:
    """Sync, an hour ago as far as the rows say."""
    its.sync()
    for table, _ in TABLES.values():
        sql(its.worker, f"UPDATE {table} SET synced_at = synced_at - interval '1 hour'")
    its.simulator.clock.advance(timedelta(hours=1))


def confirm(its: Scene) -> None:
    """The second look, five minutes later."""
    sql(its.worker, "UPDATE doubtful_objects SET doubted_at = doubted_at - interval '5 minutes'")
    its.worker.run("reconcile.confirm")


def objects_of(its: Scene, source: str) -> list[str]:
    table, key = TABLES[source.split(maxsplit=1)[0]]
    return sorted(str(each) for each in sql(its.worker, f"SELECT {key} FROM {table} WHERE deleted_at IS NULL"))


def delete(its: Scene, source: str, name: str) -> None:
    if source == "gitlab":
        its.simulator.delete_merge_request(int(name))
    else:
        its.simulator.delete_issue(name)


@pytest.mark.parametrize("source", SOURCES)
def test_a_deleted_object_gets_a_tombstone_when_it_is_missing_twice(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=60) as its:
        synced(its)
        before = objects_of(its, source)
        gone = before[3:6]
        for name in gone:
            delete(its, source, name)
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert objects_of(its, source) == before  # once is not enough
        assert count(worker.database, "doubtful_objects") == 3
        worker.run("reconcile.confirm")
        assert objects_of(its, source) == before  # nor is twice at once
        confirm(its)
        assert objects_of(its, source) == [name for name in before if name not in gone]
        assert count(worker.database, "doubtful_objects") == 0
        assert its.differences() == {}
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert count(worker.database, "doubtful_objects") == 0


def test_the_bug_of_a_deleted_issue_is_open_no_more(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        synced(its)
        (issue_id,) = sql(worker, "SELECT issue_id FROM bug_budget WHERE is_open ORDER BY id LIMIT 1")
        its.simulator.delete_issue(str(issue_id))
        worker.run("reconcile.scope", scope_id=its.scope_id)
        confirm(its)
        bug = "SELECT is_open OR deleted_at IS NULL FROM bug_budget WHERE issue_id = :id"
        assert sql(worker, bug, id=issue_id) == [False]


def test_a_hidden_issue_comes_back_when_it_is_shown_again(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        synced(its)
        before = objects_of(its, "jira")
        its.simulator.hide_issue(before[0])
        worker.run("reconcile.scope", scope_id=its.scope_id)
        confirm(its)
        assert objects_of(its, "jira") == before[1:]
        its.simulator.hide_issue(before[0], is_hidden=False)
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert objects_of(its, "jira") == before
        assert its.differences() == {}


def test_an_issue_that_is_hidden_for_a_moment_is_not_touched(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        synced(its)
        before = objects_of(its, "jira")
        its.simulator.hide_issue(before[0])
        worker.run("reconcile.scope", scope_id=its.scope_id)
        its.simulator.hide_issue(before[0], is_hidden=False)
        confirm(its)
        assert objects_of(its, "jira") == before
        assert count(worker.database, "doubtful_objects") == 0


@pytest.mark.parametrize("source", ["jira cloud", "jira server"])
def test_an_issue_that_moved_keeps_its_row_under_its_new_key(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=60, projects=2) as its:
        synced(its)
        before = objects_of(its, source)
        here, there = list(its.simulator.world.projects)[:2]
        key = its.simulator.move_issue(before[0], there)
        assert not key.startswith(f"{here}-")
        for _ in range(2):  # the second time nobody asks for it again
            requests = len(its.simulator.requests)
            worker.run("reconcile.scope", scope_id=its.scope_id)
            confirm(its)
        assert objects_of(its, source) == before
        assert sql(worker, "SELECT issuekey FROM jira_table_history WHERE issue_id = :id", id=before[0]) == [key]
        assert not any(before[0] in str(request) for request in list(its.simulator.requests.entries)[requests:])
        assert its.differences() == {}


@pytest.mark.parametrize("source", SOURCES)
def test_what_was_missed_is_repaired(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=60) as its:
        synced(its)
        before = objects_of(its, source)
        table, key = TABLES[source.split(maxsplit=1)[0]]
        sql(worker, f"DELETE FROM {table} WHERE {key}::text = ANY(:names)", names=before[:4])
        assert its.differences()
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert objects_of(its, source) == before
        assert its.differences() == {}


@pytest.mark.parametrize("source", SOURCES)
def test_when_many_vanish_at_once_nothing_is_deleted_but_somebody_is_told(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=80) as its:
        synced(its)
        before = objects_of(its, source)
        for name in before[:30]:
            delete(its, source, name)
        job_id = enqueue(worker.database, "reconcile.scope", trigger="cli", scope_id=its.scope_id)
        worker.run_jobs()
        assert objects_of(its, source) == before
        assert count(worker.database, "doubtful_objects") == 0
        (status,) = sql(worker, "SELECT status || ': ' || error FROM job_runs WHERE id = :id", id=job_id)
        assert str(status).startswith("failed: 30 of ")
        assert "--allow-mass" in str(status)
        worker.run("reconcile.scope", scope_id=its.scope_id, allow_mass=True)
        confirm(its)
        assert objects_of(its, source) == before[30:]


@pytest.mark.parametrize("source", SOURCES)
def test_a_project_that_is_hidden_as_a_whole_loses_nothing(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=60) as its:
        synced(its)
        before = objects_of(its, source)
        delete(its, source, before[0])
        worker.run("reconcile.scope", scope_id=its.scope_id)
        key = next(iter(its.simulator.world.projects))
        its.simulator.hide_project(key)
        for task in ("reconcile.scope", "reconcile.confirm"):
            sql(worker, "UPDATE doubtful_objects SET doubted_at = now() - interval '1 hour'")
            arguments = {"scope_id": its.scope_id} if task == "reconcile.scope" else {}
            enqueue(worker.database, task, trigger="cli", **arguments)
            worker.run_jobs()
        assert objects_of(its, source) == before
        assert sql(worker, "SELECT last_error IS NOT NULL FROM sync_scopes") == [True]


def test_before_the_first_sync_nothing_is_missing(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab", objects=30) as its:
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert objects_of(its, "gitlab") == []


def test_an_object_that_is_written_while_it_is_believed_missing_lives(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab", objects=40) as its:
        synced(its)
        before = objects_of(its, "gitlab")
        delete(its, "gitlab", before[0])
        worker.run("reconcile.scope", scope_id=its.scope_id)
        sql(worker, "UPDATE gitlab_mr_lead_times SET synced_at = now() + interval '1 second'")
        confirm(its)
        assert objects_of(its, "gitlab") == before


def test_every_scope_is_asked_for_once(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab", objects=20) as its:
        synced(its)
        before = len(its.simulator.requests)
        worker.run("reconcile.all")
        assert len(its.simulator.requests) > before
        names = sql(worker, "SELECT task FROM job_runs WHERE task LIKE 'reconcile%' ORDER BY id")
        assert names == ["reconcile.all", "reconcile.scope"]
