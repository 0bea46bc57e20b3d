"""Launches from a watched directory and from a server: in once, again when they grow, kept when they are gone there."""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from factories.scenes import Scene, scene
from factories.snapshots import SUMMARY_TABLES, count, snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.allure.server import AllureServer
from connectors.allure.simulator import AllureServerSimulator, made_results
from connectors.base import ConnectionSpec, OpenGate, ScopeSpec
from connectors.simulator import DEFAULT_NOW
from models.errors import AccessDeniedError
from models.store.session import Database
from workers.settings import Settings

TABLES = ("allure_report", "allure_scenarios", "allure_steps", "test_runs", "test_run_results")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def rows(worker: InProcessWorker, statement: str) -> list[Any]:
    with worker.database.transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def counts(worker: InProcessWorker) -> dict[str, int]:
    return {table: count(worker.database, table) for table in TABLES}


def jobs(worker: InProcessWorker, task: str) -> int:
    return int(rows(worker, f"SELECT count(*) FROM job_runs WHERE task = '{task}'")[0][0])


class Nightly:
    """A watched directory with one scope."""

    def __init__(self, worker: InProcessWorker, root: Path) -> None:
        self.worker = worker
        self.folder = root / "nightly"
        self.folder.mkdir()
        self.scope_id = worker.add_scope(
            "allure", root.as_uri(), "nightly", token="", options={"finish_marker": "finished"}
        )

    def write(self, name: str, results: list[dict[str, Any]], *, is_finished: bool = True) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for each in results:
            (folder / f"{each['uuid']}-result.json").write_text(json.dumps(each))
        if is_finished:
            (folder / "finished").touch()
        return folder

    def sync(self) -> Any:
        return self.worker.run("collect.sync_scope", scope_id=self.scope_id)


@pytest.fixture
def nightly(worker: InProcessWorker, tmp_path: Path) -> Nightly:
    return Nightly(worker, tmp_path)


def test_a_launch_in_a_directory_is_read_when_it_is_finished_and_once(nightly: Nightly) -> None:
    worker = nightly.worker
    folder = nightly.write("run-1", made_results("shop", 10, DEFAULT_NOW), is_finished=False)
    nightly.sync()
    assert counts(worker) == dict.fromkeys(TABLES, 0)
    (folder / "finished").touch()
    nightly.sync()
    assert counts(worker) == {
        "allure_report": 1,
        "allure_scenarios": 11,
        "allure_steps": 11,
        "test_runs": 1,
        "test_run_results": 10,
    }
    before = snapshot(worker.database, (*TABLES, *SUMMARY_TABLES))
    read = jobs(worker, "ingest.launch")
    for path in folder.iterdir():
        os.utime(path)
    nightly.sync()
    assert jobs(worker, "ingest.launch") == read == 1
    assert snapshot(worker.database, (*TABLES, *SUMMARY_TABLES)) == before


def test_a_launch_that_grows_takes_its_own_place_and_keeps_what_people_wrote(nightly: Nightly) -> None:
    worker = nightly.worker
    results = made_results("shop", 10, DEFAULT_NOW)
    nightly.write("run-1", results[:4])
    nightly.sync()
    [(run_id,)] = rows(worker, "SELECT id FROM test_runs")
    with worker.database.transaction() as session:
        session.execute(text('UPDATE test_runs SET data = \'{"verdict": "known trouble"}\''))
    nightly.write("run-1", results)
    nightly.sync()
    assert counts(worker) == {
        "allure_report": 1,
        "allure_scenarios": 11,
        "allure_steps": 11,
        "test_runs": 1,
        "test_run_results": 10,
    }
    assert rows(worker, "SELECT id, data ->> 'verdict' FROM test_runs") == [(run_id, "known trouble")]
    shown = rows(worker, "SELECT total_runs, results_count FROM test_execution_summary")
    assert shown == [(1, 10)]


def test_a_name_that_is_used_again_for_a_later_launch_replaces_nothing(nightly: Nightly) -> None:
    archive = nightly.folder / "latest.tar"

    def hand_over(days: int) -> None:
        folder = nightly.folder.parent / f"made-{days}"
        folder.mkdir()
        for each in made_results("shop", 10, DEFAULT_NOW + timedelta(days=days)):
            (folder / f"{each['uuid']}-result.json").write_text(json.dumps(each))
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, arcname="allure-results")

    worker = nightly.worker
    with worker.database.transaction() as session:
        session.execute(text("UPDATE connections SET options = '{\"quiet_seconds\": 1}'"))
    for days in (0, 1):
        hand_over(days)
        deadline = time.monotonic() + 20
        while counts(worker)["test_runs"] < days + 1 and time.monotonic() < deadline:
            nightly.sync()
    assert counts(worker)["test_runs"] == 2
    assert counts(worker)["allure_scenarios"] == 22


def test_an_archive_that_is_not_safe_is_set_aside_once_and_the_rest_goes_on(nightly: Nightly) -> None:
    worker = nightly.worker
    with worker.database.transaction() as session:
        session.execute(text("UPDATE connections SET options = '{\"quiet_seconds\": 1}'"))
    with tarfile.open(nightly.folder / "hostile.tar", "w") as tar:
        member = tarfile.TarInfo("1-result.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    nightly.write("run-1", made_results("shop", 3, DEFAULT_NOW))
    deadline = time.monotonic() + 20
    while count(worker.database, "sync_rejects") == 0 or counts(worker)["test_runs"] == 0:
        assert time.monotonic() < deadline
        nightly.sync()
    [(reason,)] = rows(worker, "SELECT reason FROM sync_rejects")
    assert "no plain file" in reason
    read = jobs(worker, "ingest.launch")
    nightly.sync()
    assert jobs(worker, "ingest.launch") == read


def test_a_folder_that_is_gone_leaves_what_was_read(nightly: Nightly) -> None:
    folder = nightly.write("run-1", made_results("shop", 3, DEFAULT_NOW))
    nightly.sync()
    before = counts(nightly.worker)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    nightly.sync()
    nightly.worker.run("reconcile.scope", scope_id=nightly.scope_id)
    assert counts(nightly.worker) == before


@pytest.fixture
def server(worker: InProcessWorker) -> Iterator[Scene]:
    with scene(worker, "allure", objects=10, runs=3) as its:
        yield its


def test_the_reports_of_a_secured_server_become_runs_as_their_results_would(server: Scene) -> None:
    server.sync()
    worker = server.worker
    assert counts(worker) == {
        "allure_report": 3,
        "allure_scenarios": 33,
        "allure_steps": 33,
        "test_runs": 3,
        "test_run_results": 30,
    }
    assert rows(worker, "SELECT DISTINCT summary ->> 'passed', summary ->> 'failed' FROM allure_report") == [("7", "1")]
    assert rows(worker, "SELECT build_version, ci_url, environment FROM test_runs ORDER BY 1")[0] == (
        "shop-1",
        "https://ci.example.test/shop/1",
        "staging",
    )
    assert rows(worker, "SELECT count(*) FROM allure_scenarios WHERE is_retry") == [(3,)]
    assert server.differences() == {}
    assert server.simulator.requests.unknown == []


def test_an_unchanged_server_costs_few_requests_and_no_row(server: Scene) -> None:
    server.sync()
    server.simulator.clock.advance(timedelta(hours=2))
    before = snapshot(server.worker.database, (*TABLES, *SUMMARY_TABLES))
    family, requests_count = server.sync()
    assert requests_count <= 5
    assert family.rows_written == 0
    assert snapshot(server.worker.database, (*TABLES, *SUMMARY_TABLES)) == before


def test_a_new_report_is_read_and_nothing_else(server: Scene) -> None:
    server.sync()
    server.simulator.clock.advance(timedelta(hours=20))
    server.simulator.run_tests("shop")
    server.simulator.clock.advance(timedelta(minutes=10))
    server.simulator.requests.clear()
    server.sync()
    assert counts(server.worker)["test_runs"] == 4
    assert {each.path.split("/")[5] for each in server.simulator.requests if "test-cases" in each.path} == {"4"}


def test_numbers_that_begin_again_are_other_launches_and_pruned_reports_are_kept(server: Scene) -> None:
    server.sync()
    server.simulator.clock.advance(timedelta(hours=20))
    server.simulator.clean_history("shop")
    server.simulator.run_tests("shop", build=4)
    server.simulator.clock.advance(timedelta(minutes=10))
    server.sync()
    server.worker.run("reconcile.scope", scope_id=server.scope_id)
    assert counts(server.worker)["test_runs"] == 4
    assert rows(server.worker, "SELECT count(*) FROM allure_launches WHERE deleted_at IS NULL") == [(4,)]
    assert server.differences() == {}


def test_a_report_that_is_generated_again_with_more_is_the_same_launch(server: Scene) -> None:
    server.sync()
    simulator = server.simulator
    simulator.clock.advance(timedelta(hours=20))
    started_at = simulator.clock.now()
    simulator.run_tests("shop", build=9)
    simulator.clock.advance(timedelta(minutes=10))
    server.sync()
    assert counts(server.worker)["allure_scenarios"] == 44
    simulator.send_results("shop", made_results("shop", 14, started_at, salt="1/9")[11:])
    assert simulator.generate("shop", build=9) == 5
    simulator.clock.advance(timedelta(minutes=10))
    server.sync()
    assert counts(server.worker)["test_runs"] == 4
    assert counts(server.worker)["allure_scenarios"] == 48
    assert rows(server.worker, "SELECT max(started_at) FROM test_runs") == [(started_at + timedelta(milliseconds=500),)]


def test_where_only_the_summary_is_kept_its_counts_are(worker: InProcessWorker) -> None:
    with scene(worker, "allure", objects=10, runs=1) as its:
        its.simulator.drop_data("shop", 1)
        its.sync()
        assert rows(worker, "SELECT status, summary ->> 'total', summary ->> 'failed' FROM allure_report") == [
            ("completed", "10", "1")
        ]
        assert count(worker.database, "test_runs") == 0
        read = jobs(worker, "ingest.launch")
        its.sync()
        assert jobs(worker, "ingest.launch") == read


def test_a_report_that_is_pruned_before_it_is_read_is_remembered_and_not_asked_for_again(
    worker: InProcessWorker,
) -> None:
    with scene(worker, "allure", objects=10, runs=2) as its:
        its.simulator.on_request(
            lambda exchange: its.simulator.clean_history("shop") if exchange.path.endswith("/suites.json") else None
        )
        its.sync()
        assert rows(worker, "SELECT count(*) FROM allure_launches WHERE trouble IS NOT NULL") == [(2,)]
        its.sync()
        assert jobs(worker, "ingest.launch") == 2


def test_a_wrong_password_is_refused_and_an_open_server_needs_none() -> None:
    simulator = AllureServerSimulator(runs=1)
    with simulator.serve() as running:
        wrong = {"user": "viewer", "token": "wrong"}
        with (
            closing(AllureServer(_spec(running.base_url, wrong), OpenGate())) as connector,
            pytest.raises(AccessDeniedError),
        ):
            connector.check_scope(ScopeSpec(id=1, external_key="shop"))
        simulator.is_secured = False
        with closing(AllureServer(_spec(running.base_url, {}), OpenGate())) as connector:
            assert connector.check_scope(ScopeSpec(id=1, external_key="shop")) == "shop"


def _spec(base_url: str, auth: dict[str, str]) -> ConnectionSpec:
    return ConnectionSpec(id=1, kind="allure", name="ci", base_url=base_url, auth=auth)
