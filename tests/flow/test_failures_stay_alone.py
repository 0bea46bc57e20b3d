"""A bad record, a bad stream, a bad scope, a bad connection: each fails alone, and tells so once."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from factories.snapshots import count
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.store import connections, watermarks
from models.store.session import Database
from workers.settings import Settings
from workers.task import enqueue


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def rows(worker: InProcessWorker, sql: str, **values: Any) -> list[Any]:
    with worker.database.transaction() as session:
        return list(session.execute(text(sql), values).all())


def run_all(worker: InProcessWorker, task: str, **args: Any) -> dict[str, int]:
    """Run a job and all that follows from it; how many ended how."""
    job_id = enqueue(worker.database, task, trigger="cli", **args)
    worker.run_jobs(deadline_seconds=90)
    return dict(
        rows(
            worker,
            "SELECT status::text, count(*) FROM job_runs WHERE (id = :id OR root_id = :id) GROUP BY status",
            id=job_id,
        )
    )


@pytest.mark.parametrize("fault", ["401:1", "401:1:after=40"])
def test_a_refused_credential_denies_the_connection_with_one_notice_and_no_storm(
    worker: InProcessWorker, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = GitLabSimulator(merge_requests=120, seed=1)
    with simulator.serve() as server:
        worker.add_scope("gitlab", server.base_url, "101", token="sim-token")
        simulator.set_faults(fault)
        ended = run_all(worker, "collect.sync_all")
        assert ended["failed"] == 1, ended
        assert set(ended) <= {"failed", "cancelled", "succeeded"}
        refused = [entry for entry in simulator.requests if entry.status == 401]
        assert len(refused) <= 20  # what was under way at once
        ((status, error),) = rows(worker, "SELECT status::text, last_error FROM connections")
        assert status == "denied"
        assert "check the token" in error
        said = [line for line in capsys.readouterr().out.splitlines() if "job_error" in line and "[debug" not in line]
        assert len([line for line in said if "refuses our credentials" in line]) == 1
        requests_count = len(simulator.requests)
        for _ in range(3):  # schedules go on
            assert set(run_all(worker, "collect.sync_all")) == {"succeeded"}
        assert len(simulator.requests) == requests_count
        simulator.set_faults("")
        with worker.database.transaction() as session:
            connections.set_connection_status(session, connections.connection(session, "gitlab-101").id, "active")
        assert set(run_all(worker, "collect.sync_all")) == {"succeeded"}
        assert count(worker.database, "gitlab_mr_lead_times") == 120


def test_the_windows_that_wait_when_a_connection_is_denied_end_quietly(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=120, seed=1)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token="sim-token")
        enqueue(worker.database, "collect.sync_scope", trigger="cli", scope_id=scope_id)
        worker._app.tasks["collect.sync_scope"](job_id=rows(worker, "SELECT max(id) FROM job_runs")[0][0])
        waiting = rows(worker, "SELECT count(*) FROM job_runs WHERE status = 'queued'")[0][0]
        assert waiting > 10
        simulator.set_faults("401:1")
        worker.run_jobs()
        ended = dict(rows(worker, "SELECT status::text, count(*) FROM job_runs GROUP BY status"))
        assert ended == {"succeeded": 1, "failed": 1, "cancelled": waiting - 1}
        assert {state for (state,) in rows(worker, "SELECT state::text FROM sync_windows")} <= {"pending", "running"}
        assert {attempts for (attempts,) in rows(worker, "SELECT attempts FROM sync_windows")} == {0}


def test_a_hidden_project_is_marked_and_the_others_go_on(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=60, seed=1, projects=2)
    with simulator.serve() as server:
        worker.add_scope("gitlab", server.base_url, "999", token="sim-token")
        with worker.database.transaction() as session:
            connection = connections.connection(session, "gitlab-999")
            project_id = connections.ensure_project(session, connection.tenant_id, "Other", timezone="UTC")
            connections.add_scope(
                session, connection.id, external_key="101", project_id=project_id, repository_id=None, options={}
            )
        ended = run_all(worker, "collect.sync_all")
        assert ended["failed"] == 1
        errors = dict(rows(worker, "SELECT external_key, last_error FROM sync_scopes"))
        assert "hides it from our token" in errors["999"]
        assert errors["101"] is None
        assert count(worker.database, "gitlab_mr_lead_times") == 30
        assert rows(worker, "SELECT status::text FROM connections") == [("active",)]
        # Schedules ask for it again in an hour, people at once.
        with worker.database.transaction() as session:
            resting = {each.external_key: each.is_resting for each in connections.scopes(session)}
        assert resting == {"999": True, "101": False}
        assert run_all(worker, "collect.sync_all")["failed"] == 1


def test_a_project_that_is_hidden_during_its_backfill_stops_it_with_one_failure(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=120, seed=1)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token="sim-token")
        simulator.set_faults("404:1:path=*/projects/101*:after=30")
        ended = run_all(worker, "collect.sync_scope", scope_id=scope_id)
        assert ended["failed"] == 1, ended
        stored = count(worker.database, "gitlab_mr_lead_times")
        simulator.set_faults("")
        assert set(run_all(worker, "collect.sync_scope", scope_id=scope_id)) == {"succeeded"}
        assert count(worker.database, "gitlab_mr_lead_times") == 120 > stored
        assert rows(worker, "SELECT last_error FROM sync_scopes") == [(None,)]


@pytest.mark.parametrize("status", [403, 404])
def test_a_stream_that_is_switched_off_is_remembered_and_the_others_go_on(worker: InProcessWorker, status: int) -> None:
    simulator = GitLabSimulator(merge_requests=60, seed=1)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token="sim-token")
        worker.run("collect.sync_scope", scope_id=scope_id)
        events = count(worker.database, "gitlab_events")
        assert events
        simulator.set_faults(f"{status}:1:path=*/events*")
        assert set(run_all(worker, "collect.sync_scope", scope_id=scope_id)) == {"succeeded"}
        with worker.database.transaction() as session:
            assert watermarks.refused(session, scope_id) == {"events"}
        assert count(worker.database, "gitlab_events") == events
        asked = len(simulator.requests.matching("*/events"))
        run_all(worker, "collect.sync_scope", scope_id=scope_id)
        assert len(simulator.requests.matching("*/events")) == asked  # not again before tomorrow
        with worker.database.transaction() as session:
            session.execute(text("UPDATE watermarks SET refused_at = refused_at - interval '25 hours'"))
        simulator.set_faults("")
        assert set(run_all(worker, "collect.sync_scope", scope_id=scope_id)) == {"succeeded"}
        assert len(simulator.requests.matching("*/events")) > asked
        assert rows(worker, "SELECT refused_at, refusal FROM watermarks WHERE resource = 'events'") == [(None, None)]
        assert rows(worker, "SELECT last_error FROM sync_scopes") == [(None,)]


def test_a_host_that_is_not_there_is_trouble_that_passes(worker: InProcessWorker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        scope_id = worker.add_scope("gitlab", url, "101", token="sim-token")
        job_id = enqueue(worker.database, "collect.sync_scope", trigger="cli", scope_id=scope_id)
        worker._app.tasks["collect.sync_scope"](job_id=job_id)
    ((status, attempts, error),) = rows(worker, "SELECT status::text, attempts, error FROM job_runs")
    assert (status, attempts) == ("retrying", 1)
    assert "refused" in error
    assert rows(worker, "SELECT status::text, last_error FROM connections") == [("active", error)]


def test_records_that_postgresql_refuses_or_nobody_can_read_are_set_aside_one_by_one(worker: InProcessWorker) -> None:
    simulator = JiraSimulator(issues=60, seed=1, deployment="server")
    with simulator.serve() as server:
        key = str(next(iter(simulator.world.projects)))
        scope_id = worker.add_scope("jira", server.base_url, key, token="sim-token")
        worker.run("collect.sync_scope", scope_id=scope_id)
        whole = count(worker.database, "jira_table_history")
        with worker.database.transaction() as session:
            session.execute(
                text(
                    "ALTER TABLE jira_table_history ADD CHECK (summary NOT LIKE 'REFUSED%'), "
                    "ADD CHECK (deleted_at IS NULL)"
                )
            )
        issues = [issue.issue_id for issue in simulator.expected_issues() if issue.project_key == key]
        for issue_id in issues[3:5]:
            simulator.edit_issue(issue_id, summary="REFUSED by a constraint")
        simulator.edit_issue(issues[7], summary="odd \x01 bytes \x00 here")
        assert set(run_all(worker, "collect.sync_scope", scope_id=scope_id, full=True)) == {"succeeded"}
        set_aside = rows(worker, "SELECT external_id, reason, payload FROM sync_rejects WHERE resolved_at IS NULL")
        assert {external_id for external_id, _, _ in set_aside} == {str(each) for each in issues[3:5]}
        assert all("database refuses" in reason and json.loads(payload["text"]) for _, reason, payload in set_aside)
        assert count(worker.database, "jira_table_history") == whole
        (summary,) = rows(worker, "SELECT summary FROM jira_table_history WHERE issue_id = :id", id=str(issues[7]))[0]
        assert summary.startswith("odd ")


def test_one_merge_request_that_cannot_be_fetched_is_set_aside_and_its_window_ends(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=30, seed=1)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token="sim-token")
        simulator.set_faults("500:1:path=*/merge_requests/7/notes")
        ended = run_all(worker, "collect.sync_scope", scope_id=scope_id, stream="merge_requests")
        assert set(ended) == {"succeeded"}
        assert count(worker.database, "gitlab_mr_lead_times") == 29
        ((external_id, reason),) = rows(worker, "SELECT external_id, reason FROM sync_rejects")
        assert external_id == "101!7"
        assert "again and again" in reason
        with worker.database.transaction() as session:
            assert watermarks.watermark(session, scope_id, "merge_requests") is not None
        simulator.set_faults("")
        worker.run("collect.sync_scope", scope_id=scope_id, stream="merge_requests", full=True)
        assert count(worker.database, "gitlab_mr_lead_times") == 30
        assert rows(worker, "SELECT count(*) FROM sync_rejects WHERE resolved_at IS NULL") == [(0,)]
