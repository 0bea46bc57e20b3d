"""Runs, jobs, deployments and environments of GitHub to records: what each status means, and what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.base import ParseContext
from connectors.github.parse import parse
from models.errors import BadRecordError
from models.records import Deployment, Pipeline, PipelineJob

CREATED = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
REPOSITORY = {"id": 77, "full_name": "acme/pay", "key": "acme/pay"}
ANN = {"id": 1, "login": "ann", "type": "User"}


def at(minutes: float) -> datetime:
    return CREATED + timedelta(minutes=minutes)


def text(minutes: float | None) -> str | None:
    return None if minutes is None else at(minutes).isoformat().replace("+00:00", "Z")


def job(**fields: Any) -> dict[str, Any]:
    return {
        "id": 31,
        "run_id": 21,
        "run_attempt": 1,
        "name": "build",
        "workflow_name": "CI",
        "status": "completed",
        "conclusion": "success",
        "created_at": text(0),
        "started_at": text(1),
        "completed_at": text(4),
    } | fields


def parsed(stream: str, **payload: Any) -> Any:
    batch = parse(stream, json.dumps({"repository": REPOSITORY, **payload}).encode(), ParseContext())
    (record,) = getattr(batch, stream)
    return record


def run(jobs: list[Any] | None = None, **fields: Any) -> Pipeline:
    shown = {
        "id": 21,
        "run_number": 5,
        "run_attempt": 1,
        "event": "push",
        "status": "completed",
        "conclusion": "success",
        "head_branch": "main",
        "head_sha": "abc",
        "created_at": text(0),
        "updated_at": text(90),
        "run_started_at": text(0),
        "actor": ANN,
    } | fields
    record: Pipeline = parsed("pipelines", run=shown, jobs=jobs)
    return record


def job_of(**fields: Any) -> PipelineJob:
    record: PipelineJob = parsed("jobs", job=job(**fields))
    return record


def deployment(statuses: list[tuple[str, float]] | None, url: str | None = None, **fields: Any) -> Deployment:
    shown = {
        "id": 41,
        "environment": "production",
        "ref": "main",
        "sha": "abc",
        "creator": ANN,
        "created_at": text(0),
        "updated_at": text(0),
    } | fields
    told = statuses and [{"state": state, "created_at": text(minutes), "log_url": url} for state, minutes in statuses]
    record: Deployment = parsed("deployments", deployment=shown, statuses=told)
    return record


STATUSES = [
    ("queued", None, "pending"), ("in_progress", None, "running"), ("waiting", None, "waiting_for_resource"),
    ("requested", None, "created"), ("pending", None, "pending"), ("completed", "success", "success"),
    ("completed", "neutral", "success"), ("completed", "failure", "failed"), ("completed", "timed_out", "failed"),
    ("completed", "startup_failure", "failed"), ("completed", "cancelled", "canceled"),
    ("completed", "skipped", "skipped"), ("completed", "stale", "skipped"), ("completed", "action_required", "manual"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "conclusion", "meant"), STATUSES)
def test_statuses_become_ours(status: str, conclusion: str | None, meant: str) -> None:
    assert run(status=status, conclusion=conclusion).status == meant
    assert job_of(status=status, conclusion=conclusion).status == meant


@pytest.mark.parametrize(
    ("status", "conclusion"), [("completed", None), ("completed", "new"), ("odd", None), (None, None)]
)
def test_a_status_that_there_is_not_is_set_aside(status: str | None, conclusion: str | None) -> None:
    with pytest.raises(BadRecordError, match=r"run\.status"):
        run(status=status, conclusion=conclusion)


def test_a_run_ends_with_its_last_job_and_not_when_it_was_updated() -> None:
    record = run([job(completed_at=text(4)), job(id=32, started_at=text(2), completed_at=text(7))])
    assert (record.started_at, record.finished_at) == (at(0), at(7))
    assert (record.duration_seconds, record.queued_seconds) == (420, 60)
    assert record.updated_at == at(90)
    assert (record.external_id, record.external_project_id, record.iid, record.source) == ("21", "77", 5, "push")
    assert record.started_by is not None
    assert record.started_by.username == "ann"


def test_a_run_that_was_run_again_is_told_by_its_last_attempt() -> None:
    first, again = job(completed_at=text(4)), job(id=32, run_attempt=2, started_at=text(61), completed_at=text(65))
    record = run([first, again], run_attempt=2, run_started_at=text(60))
    assert (record.created_at, record.started_at, record.finished_at) == (at(0), at(60), at(65))
    assert (record.duration_seconds, record.queued_seconds) == (300, 60)


@pytest.mark.parametrize(
    ("status", "jobs"),
    [("in_progress", [job()]), ("completed", None), ("completed", []), ("completed", [job(conclusion="skipped")])],
)
def test_an_end_that_nothing_tells_is_not_known(status: str, jobs: list[Any] | None) -> None:
    record = run(jobs, status=status, conclusion="success" if status == "completed" else None)
    assert (record.finished_at, record.duration_seconds) == (None, None)


def test_a_job_has_its_times() -> None:
    record = job_of()
    assert (record.created_at, record.started_at, record.finished_at) == (at(0), at(1), at(4))
    assert (record.duration_seconds, record.queued_seconds) == (180, 60)
    assert (record.external_pipeline_id, record.stage, record.name) == ("21", "CI", "build")
    assert record.updated_at == at(4)


def test_a_job_that_never_ran_has_no_duration_although_it_shows_times() -> None:
    record = job_of(conclusion="skipped", started_at=text(1), completed_at=text(0))
    assert (record.status, record.started_at, record.finished_at, record.duration_seconds) == ("skipped",) + (None,) * 3
    cancelled = job_of(conclusion="cancelled", started_at=text(3), completed_at=text(2))
    assert cancelled.duration_seconds is None


def test_a_job_without_a_time_of_creation_was_made_when_it_began_and_without_any_is_set_aside() -> None:
    assert job_of(created_at=None).created_at == at(1)
    with pytest.raises(BadRecordError, match=r"job\.created_at"):
        job_of(created_at=None, started_at=None)


def test_a_job_that_timed_out_says_why_it_failed() -> None:
    assert job_of(conclusion="timed_out").failure_reason == "timed_out"
    assert job_of(conclusion="failure").failure_reason is None


@pytest.mark.parametrize(
    ("statuses", "status", "finished"),
    [
        ([], "created", None),
        (None, "created", None),
        ([("queued", 1)], "created", None),
        ([("waiting", 1)], "blocked", None),
        ([("in_progress", 1)], "running", None),
        ([("in_progress", 1), ("success", 3)], "success", 3),
        ([("inactive", 60), ("success", 3), ("in_progress", 1)], "success", 3),
        ([("inactive", 60)], "success", None),
        ([("in_progress", 1), ("failure", 5), ("error", 6)], "failed", 5),
        ([("failure", 2), ("success", 9)], "success", 9),
        ([("something new", 2)], "created", None),
    ],
)
def test_a_deployment_stands_as_its_last_status_says_and_ended_with_the_first_of_that(
    statuses: list[tuple[str, float]] | None, status: str, finished: float | None
) -> None:
    record = deployment(statuses)
    assert record.status == status
    assert record.finished_at == (None if finished is None else at(finished))
    assert record.updated_at == max([at(0), *(at(minutes) for _, minutes in statuses or ())])


def test_the_run_that_deployed_is_in_the_address_of_its_log() -> None:
    url = "https://github.com/acme/pay/actions/runs/21/job/31"
    assert deployment([("success", 3)], url).external_pipeline_id == "21"
    assert deployment([("success", 3)], "https://deploy.example/21").external_pipeline_id is None
    assert deployment([("success", 3)]).external_pipeline_id is None


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("production", "production"), ("Prod-EU", "production"), ("live", "production"), ("staging", "staging"),
        ("pre/stage", "staging"), ("qa-eu", "testing"), ("uat", "testing"), ("dev", "development"),
        ("review/12", "development"), ("github-pages", "other"), ("products", "other"), ("delivery", "other"),
    ],
)  # fmt: skip
def test_the_tier_of_an_environment_is_read_from_its_name(name: str, tier: str) -> None:
    assert parsed("environments", environment={"id": 5, "name": name}).tier == tier


def test_nulls_are_gaps() -> None:
    record = run(None, actor=None, event=None, head_branch=None, head_sha=None, run_number=None, run_started_at=None)
    assert (record.started_by, record.source, record.ref, record.sha, record.iid) == (None,) * 5
    assert record.started_at == at(0)
    assert deployment([], creator=None, ref=None, sha=None).deployed_by is None
