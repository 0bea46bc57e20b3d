"""What a sync promises, against simulated sources: complete under change, cheap when nothing changed, forgiving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from factories.scenes import scene
from factories.snapshots import SUMMARY_TABLES, SYNCED_TABLES, count, snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.registry import KINDS
from models.store.session import Database
from workers.settings import Settings

SOURCES = ("github", "gitlab", "jira cloud", "jira server")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def rows_of(database: Database) -> dict[str, int]:
    return {table: count(database, table) for table in SYNCED_TABLES}


@pytest.mark.parametrize("source", SOURCES)
def test_a_first_sync_holds_everything(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=120) as its:
        its.sync()
        assert its.differences() == {}
        assert sum(rows_of(worker.database).values()) > 500
    assert count(worker.database, "sync_rejects") == 0


@pytest.mark.parametrize("source", SOURCES)
def test_a_second_sync_of_an_unchanged_source_is_cheap_and_writes_nothing(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=120) as its:
        its.sync()
        its.simulator.clock.advance(timedelta(hours=2))
        before = snapshot(worker.database)
        counted = getattr(its.simulator, "counted_count", 0)
        family, requests_count = its.sync()
        if source == "github":  # which does not count the requests that it answers by saying that nothing has changed
            assert requests_count <= 40
            requests_count = its.simulator.counted_count - counted
        assert requests_count <= 12
        assert family.rows_written == 0
        assert snapshot(worker.database) == before


def test_one_changed_issue_costs_one_window_one_page_one_row(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=120) as its:
        its.sync()
        its.simulator.clock.advance(timedelta(hours=2))
        issue_id = its.simulator.expected_issues()[7].issue_id
        its.simulator.edit_issue(issue_id, summary="A new name for it")
        its.simulator.clock.advance(timedelta(minutes=1))
        windows = count(worker.database, "sync_windows")
        _, requests_count = its.sync()
        assert requests_count <= 12
        assert count(worker.database, "sync_windows") == windows + 1
        with worker.database.transaction() as session:
            window = session.execute(text("SELECT * FROM sync_windows ORDER BY id DESC LIMIT 1")).one()
            stored = session.execute(
                text("SELECT summary FROM jira_table_history WHERE issue_id = :id"), {"id": str(issue_id)}
            ).scalar_one()
        assert window.rows_seen == 1
        assert window.rows_written == 2  # the issue, and the item of its history that says so
        assert stored == "A new name for it"
        assert its.differences() == {}


def test_the_log_tells_what_a_backfill_brought_from_what_just_happened(worker: InProcessWorker) -> None:
    def logged() -> set[tuple[str, bool]]:
        with worker.database.transaction() as session:
            found = session.execute(
                text(
                    "WITH seen AS (DELETE FROM change_log WHERE table_name = 'bug_budget' RETURNING *) "
                    "SELECT DISTINCT change_type, right(source, 9) = '\\:backfill' FROM seen"
                )
            )
            return {tuple(row) for row in found}

    with scene(worker, "jira cloud", objects=60) as its:
        its.sync()
        assert logged() == {("insert", True)}
        its.simulator.clock.advance(timedelta(hours=2))
        with worker.database.transaction() as session:
            issue_id = session.execute(text("SELECT min(issue_id) FROM bug_budget")).scalar_one()
        its.simulator.edit_issue(int(issue_id), summary="A new name for it")
        its.simulator.clock.advance(timedelta(minutes=1))
        its.sync()
        assert logged() == {("update", False)}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_records_that_change_while_their_pages_are_read_end_right(
    worker: InProcessWorker, source: str, seed: int
) -> None:
    with scene(worker, source, objects=260, seed=seed) as its:
        its.simulator.mutate_every(requests=3, updates=5)
        its.sync()
        its.simulator.mutate_every(requests=0, updates=0)
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        assert its.differences() == {}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_fails_now_and_then_is_read_to_the_end(worker: InProcessWorker, source: str) -> None:
    faults = "500:0.06,502:0.05,truncate:0.02,html:0.01,reset:0.02"
    with scene(worker, source, objects=60, faults=faults) as its:
        its.worker.run("collect.sync_scope", scope_id=its.scope_id, deadline_seconds=160)
        its.simulator.set_faults("")
        assert its.differences() == {}


@pytest.mark.parametrize("source", ["github", "gitlab", "jira server"])
def test_replay_gives_the_same_rows_without_a_request(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=60) as its:
        its.sync()
        before = snapshot(worker.database)
        with worker.database.transaction() as session:
            for table in ("jira_issue_changes", "gitlab_mr_activities", "gitlab_events", "bug_history"):
                session.execute(text(f"DELETE FROM {table}"))
            session.execute(text("UPDATE gitlab_mr_lead_times SET title = 'lost'"))
            session.execute(text("UPDATE jira_table_history SET summary = 'lost'"))
        requests_count = len(its.simulator.requests)
        worker.run("replay.scope", scope_id=its.scope_id)
        assert len(its.simulator.requests) == requests_count
        assert snapshot(worker.database) == before


def test_a_record_that_cannot_be_understood_is_set_aside_and_the_rest_goes_on(worker: InProcessWorker) -> None:
    with scene(worker, "jira server", objects=60) as its:
        its.sync()
        database = worker.database
        with database.transaction() as session:
            session.execute(
                text(
                    "UPDATE staged_payloads SET payload = "
                    "(SELECT payload FROM staged_payloads WHERE resource = 'statuses' LIMIT 1) "
                    "WHERE resource = 'issues' AND external_id IN "
                    "(SELECT external_id FROM staged_payloads WHERE resource = 'issues' ORDER BY external_id LIMIT 2)"
                )
            )
        issues = count(database, "jira_table_history")
        worker.run("replay.scope", scope_id=its.scope_id)
        assert count(database, "jira_table_history") == issues
        with database.transaction() as session:
            rejects = session.execute(text("SELECT reason, payload FROM sync_rejects WHERE resolved_at IS NULL")).all()
        assert len(rejects) == 2
        assert all(reason and json.loads(payload["text"]) for reason, payload in rejects)
        its.simulator.clock.advance(timedelta(minutes=1))
        its.sync(full=True)
        with database.transaction() as session:
            assert (
                session.execute(text("SELECT count(*) FROM sync_rejects WHERE resolved_at IS NULL")).scalar_one() == 0
            )


def test_summaries_follow_a_sync_and_equal_a_rebuild(worker: InProcessWorker) -> None:
    database = worker.database
    with scene(worker, "jira server", objects=80) as jira, scene(worker, "gitlab", objects=40) as gitlab:
        for _ in range(2):
            jira.sync()
            gitlab.sync()
            for its in (jira, gitlab):
                its.simulator.clock.advance(timedelta(hours=1))
                its.simulator.mutate(15)
        jira.sync()
        gitlab.sync()
    assert count(database, "dirty_keys") == 0
    followed = snapshot(database, SUMMARY_TABLES)
    assert followed["bug_analytics_daily"]
    assert followed["jira_lead_times"]
    assert followed["gitlab_mr_contributors"]
    for summary in SUMMARY_TABLES:
        worker.run("rebuild.one", summary=summary)
    assert snapshot(database, SUMMARY_TABLES) == followed


def test_windows_in_any_order_end_the_same(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab", objects=120) as its:
        its.sync()
        whole = snapshot(worker.database)
        with worker.database.transaction() as session:
            for table in (*SYNCED_TABLES, "watermarks", "staged_payloads"):
                session.execute(text(f"TRUNCATE {table} CASCADE"))
            count_of = dict(
                session.execute(
                    text(
                        "WITH undone AS (UPDATE sync_windows SET state = 'pending', page_token = NULL, "
                        "attempts = (random() * 1000)::int RETURNING resource) "  # the fewest attempts come first
                        "SELECT resource, count(*) FROM undone GROUP BY resource"
                    )
                ).all()
            )
        for stream, windows_count in count_of.items():
            for _ in range(windows_count):
                worker.run("collect.window", scope_id=its.scope_id, stream=stream)
        streams = KINDS["gitlab"].streams.values()
        for each in streams:
            if not each.is_incremental:  # these have no windows
                its.sync(stream=each.name)
        assert snapshot(worker.database) == whole
        assert count(worker.database, "watermarks") == len(streams)


def test_the_summaries_count_github_as_they_count_gitlab_and_jira(worker: InProcessWorker) -> None:
    database = worker.database
    with scene(worker, "github", objects=120) as its:
        its.sync()
        pull_requests, issues = its.simulator.expected_pull_requests(), its.simulator.expected_issues()
        people = {person.login: person for person in its.simulator.world.people.values()}
    with database.transaction() as session:
        contributors = session.execute(text("SELECT * FROM gitlab_mr_contributors")).all()
        months = session.execute(text("SELECT sum(mr_created), sum(mr_approved) FROM monthly_contributions")).one()
        lead_times = session.execute(text("SELECT * FROM jira_lead_times")).all()
        open_bugs = session.execute(text("SELECT count(*) FROM bug_budget WHERE is_open")).scalar_one()
        days = session.execute(
            text("SELECT open_bugs FROM bug_analytics_daily ORDER BY date DESC LIMIT 1")
        ).scalar_one()
    assert sum(each.authored for each in contributors) == len(pull_requests)
    assert {each.username for each in contributors if each.is_bot} >= {"renovate[bot]", "ghost"}
    assert not any(each.is_bot for each in contributors if people[each.username].id in range(2_000, 3_000))
    assert months[0] == len(pull_requests)
    assert months[1] == sum(
        len({who for who, _, what in each.approvals if what == "approved"}) for each in pull_requests
    )
    reopened = {each.issue_key: each.reopen_count for each in lead_times if each.reopen_count}
    assert reopened == {
        f"{each.repository_name}#{each.number}": count
        for each in issues
        if (count := sum(name == "reopened" for name, _ in each.states))
    }
    assert sum(each.resolved_at is not None for each in lead_times) == sum(not each.is_open for each in issues) > 5
    assert open_bugs == days == sum(each.is_bug and each.is_open for each in issues) > 0
