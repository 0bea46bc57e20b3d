"""Allure results from artifacts of GitLab jobs: one run a pipeline, no token elsewhere, nothing asked for twice."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from factories.snapshots import count
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.allure.simulator import made_results
from connectors.base import OpenGate
from connectors.download import Downloads
from connectors.gitlab.simulator import GitLabSimulator
from connectors.limits import Limits
from connectors.simulator import DEFAULT_NOW
from models.errors import BadRecordError, GoneError
from models.store.session import Database
from workers.settings import Settings


def archive(results: list[dict[str, Any]], folder: str = "allure-results") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("coverage/index.html", "<html></html>")
        for each in results:
            zipped.writestr(f"{folder}/{each['uuid']}-result.json", json.dumps(each))
    return buffer.getvalue()


class Forge:
    """A GitLab whose pipelines leave results behind, and a scope of it."""

    def __init__(self, worker: InProcessWorker, simulator: GitLabSimulator, base_url: str) -> None:
        self.worker = worker
        self.simulator = simulator
        self.key = str(next(iter(simulator.world.projects)))
        self.scope_id = worker.add_scope(
            "gitlab", base_url, self.key, token="sim-token", scope_options={"allure_artifacts": "allure-results"}
        )

    def pipeline(self, *archives: bytes) -> Any:
        """A pipeline that has ended, whose first jobs left these archives."""
        simulator = self.simulator
        pipeline = simulator.start_pipeline(project=self.key)
        simulator.clock.advance(timedelta(minutes=9))
        simulator.end_pipeline(pipeline)
        for job, content in zip(pipeline.jobs, archives, strict=False):
            simulator.artifacts.archives[job.id] = content
        simulator.clock.advance(timedelta(minutes=9))
        return pipeline

    def sync(self) -> None:
        self.worker.run("collect.sync_scope", scope_id=self.scope_id)

    def rows(self, statement: str) -> list[Any]:
        with self.worker.database.transaction() as session:
            return [tuple(row) for row in session.execute(text(statement))]

    def downloads(self) -> int:
        return len(self.simulator.requests.matching("/object-storage/*"))


@pytest.fixture
def forge(database: Database, settings: Settings) -> Iterator[Forge]:
    simulator = GitLabSimulator(merge_requests=0)
    with InProcessWorker(database, settings) as worker, simulator.serve() as running:
        yield Forge(worker, simulator, running.base_url)


def test_the_jobs_of_a_pipeline_become_one_run_of_its_commit_and_branch(forge: Forge) -> None:
    results = made_results("shop", 10, DEFAULT_NOW)
    pipeline = forge.pipeline(archive(results[:5]), archive(results[5:]))
    forge.sync()
    assert forge.rows("SELECT commit_sha, branch, build_version FROM test_runs") == [
        (pipeline.sha, "main", str(pipeline.id))
    ]
    assert count(forge.worker.database, "allure_scenarios") == 11
    assert count(forge.worker.database, "test_run_results") == 10
    stored = forge.simulator.requests.matching("/object-storage/*")
    assert len(stored) == 2
    assert {entry.host.split(":")[0] for entry in stored} == {"localhost"}
    assert not any(entry.has_credentials for entry in stored)
    forge.sync()
    assert forge.downloads() == 2


def test_a_pipeline_that_still_runs_is_waited_for(forge: Forge) -> None:
    simulator = forge.simulator
    forge.sync()
    pipeline = simulator.start_pipeline(project=forge.key)
    job = pipeline.jobs[0]
    job.status, job.started_at, job.finished_at = "success", simulator.clock.now(), simulator.clock.now()
    simulator.artifacts.archives[job.id] = archive(made_results("shop", 3, DEFAULT_NOW))
    simulator.clock.advance(timedelta(minutes=1))
    forge.sync()
    assert forge.downloads() == 0
    assert count(forge.worker.database, "allure_launches") == 1
    simulator.end_pipeline(pipeline)
    simulator.clock.advance(timedelta(minutes=1))
    forge.sync()
    assert forge.downloads() == 1
    assert count(forge.worker.database, "test_runs") == 1


def test_artifacts_that_have_expired_are_remembered_and_not_asked_for_again(forge: Forge) -> None:
    forge.pipeline(archive(made_results("shop", 3, DEFAULT_NOW)))
    simulator = forge.simulator
    simulator.on_request(
        lambda exchange: simulator.artifacts.archives.clear() if exchange.path.endswith("/artifacts") else None
    )
    forge.sync()
    [(trouble,)] = forge.rows("SELECT trouble FROM allure_launches")
    assert "404" in trouble
    asked = len(simulator.requests.matching("*/artifacts"))
    forge.sync()
    assert len(simulator.requests.matching("*/artifacts")) == asked == 1
    assert forge.rows("SELECT last_error FROM sync_scopes") == [(None,)]


def test_an_archive_without_results_and_a_hostile_one_are_set_aside(forge: Forge) -> None:
    hostile = io.BytesIO()
    with zipfile.ZipFile(hostile, "w") as zipped:
        zipped.writestr("../../1-result.json", "{}")
    forge.pipeline(archive([]))
    forge.pipeline(hostile.getvalue())
    forge.sync()
    reasons = sorted(reason for (reason,) in forge.rows("SELECT trouble FROM allure_launches"))
    assert len(reasons) == 2
    assert "leads out of it" in reasons[0] + reasons[1]
    assert count(forge.worker.database, "test_runs") == 0


def test_a_download_is_cut_off_at_its_limit_and_a_missing_one_says_so(tmp_path: Path) -> None:
    simulator = GitLabSimulator(merge_requests=0)
    with simulator.serve() as running:
        project = next(iter(simulator.world.projects))
        pipeline = simulator.start_pipeline()
        simulator.artifacts.archives[pipeline.jobs[0].id] = b"x" * 1_000_000
        downloads = Downloads({"PRIVATE-TOKEN": "sim-token"}, OpenGate(), "key", Limits(), True)
        jobs = f"{running.base_url}/api/v4/projects/{project}/jobs"
        with pytest.raises(BadRecordError, match="larger than 1000 bytes"):
            downloads.fetch(f"{jobs}/{pipeline.jobs[0].id}/artifacts", tmp_path / "one", largest_bytes=1_000)
        with pytest.raises(GoneError):
            downloads.fetch(f"{jobs}/999999/artifacts", tmp_path / "two", largest_bytes=1_000)
