"""What pipelines, jobs, deployments, environments and projects of GitLab become, gaps and all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.base import ParseContext
from connectors.gitlab.parse import parse
from models.errors import BadRecordError
from models.records import Batch

ANN = {"id": 5, "username": "ann", "name": "Ann"}
AT = "2026-03-02T09:00:00.000Z"
LATER = "2026-03-02T09:10:00.000Z"


def parsed(stream: str, payload: Any) -> Batch:
    return parse(stream, msgspec.json.encode(payload), ParseContext())


def pipeline(**values: Any) -> dict[str, Any]:
    return {
        "id": 1, "iid": 1, "project_id": 7, "status": "success", "source": "push", "ref": "main", "sha": "a",
        "created_at": AT, "updated_at": LATER, "started_at": AT, "finished_at": LATER, "duration": 600,
        "queued_duration": 3, "coverage": "81.5", "user": ANN, **values,
    }  # fmt: skip


def test_a_pipeline_that_has_ended_says_everything() -> None:
    (found,) = parsed("pipelines", pipeline()).pipelines
    assert (found.duration_seconds, found.queued_seconds, found.coverage) == (600, 3, 81.5)
    assert found.started_by is not None
    assert found.started_by.username == "ann"


def test_a_running_pipeline_says_the_same_in_a_list_and_by_itself() -> None:
    row = {
        key: pipeline()[key] for key in ("id", "iid", "project_id", "ref", "sha", "source", "created_at", "updated_at")
    }
    alone = parsed("pipelines", pipeline(status="running", finished_at=None, duration=77))
    assert parsed("pipelines", {**row, "status": "running"}) == alone


@pytest.mark.parametrize(("coverage", "expected"), [(None, None), ("", None), ("0.00", 0.0), (55.5, 55.5)])
def test_coverage_is_text_or_missing(coverage: Any, expected: float | None) -> None:
    (found,) = parsed("pipelines", pipeline(coverage=coverage)).pipelines
    assert found.coverage == expected


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (pipeline(coverage="much"), "coverage"),
        ({"id": 1, "project_id": 7, "status": "failed", "created_at": AT}, "updated_at: missing"),
        (pipeline(created_at="yesterday"), "created_at"),
    ],
)
def test_a_pipeline_that_makes_no_sense_says_which_field(payload: Any, message: str) -> None:
    with pytest.raises(BadRecordError, match=message):
        parsed("pipelines", payload)


def job(**values: Any) -> dict[str, Any]:
    return {
        "id": 9, "name": "unit", "stage": "test", "status": "failed", "created_at": AT, "allow_failure": True,
        "pipeline": {"id": 1, "project_id": 7}, "started_at": AT, "finished_at": LATER, "duration": 600.25,
        "failure_reason": "script_failure", "user": None, **values,
    }  # fmt: skip


def test_a_job_belongs_to_the_pipeline_and_project_that_it_names() -> None:
    (found,) = parsed("jobs", job()).jobs
    assert (found.external_project_id, found.external_pipeline_id, found.is_allowed_to_fail) == ("7", "1", True)
    assert (found.duration_seconds, found.failure_reason, found.started_by) == (600.25, "script_failure", None)
    assert found.updated_at == found.finished_at


def test_a_running_job_has_no_duration_and_a_waiting_one_no_queue_time() -> None:
    (running,) = parsed("jobs", job(status="running", finished_at=None)).jobs
    assert running.duration_seconds is None
    (waiting,) = parsed("jobs", job(status="pending", started_at=None, finished_at=None, queued_duration=55)).jobs
    assert waiting.queued_seconds is None
    assert waiting.updated_at == waiting.created_at


def deployment(**values: Any) -> dict[str, Any]:
    shown = {
        "id": 3, "iid": 2, "status": "success", "created_at": AT, "updated_at": LATER, "ref": "main", "sha": "a",
        "user": ANN, "environment": {"id": 1, "name": "live"},
        "deployable": {"finished_at": "2026-03-02T09:05:00Z", "pipeline": {"id": 1}}, **values,
    }  # fmt: skip
    return {"deployment": shown, "project_id": 7, "merge_request_iids": [4, 5]}


def test_a_deployment_was_out_when_its_job_ended() -> None:
    (found,) = parsed("deployments", deployment()).deployments
    assert found.finished_at is not None
    assert found.finished_at.minute == 5
    assert (found.external_pipeline_id, found.merge_requests) == ("1", (4, 5))


def test_a_deployment_without_a_job_has_no_end_and_never_takes_its_update_time_for_it() -> None:
    (found,) = parsed("deployments", deployment(deployable=None)).deployments
    assert found.finished_at is None
    assert found.external_pipeline_id is None


def test_merge_requests_that_were_not_asked_for_are_unknown_and_not_none() -> None:
    (found,) = parsed("deployments", deployment() | {"merge_request_iids": None}).deployments
    assert found.merge_requests is None


@pytest.mark.parametrize(
    ("name", "tier", "expected"),
    [
        ("live", "staging", "staging"),
        ("live", None, "production"),
        ("prod-eu", None, "production"),
        ("PRD", None, "production"),
        ("pre-production", None, "staging"),
        ("stg", None, "staging"),
        ("qa", None, "testing"),
        ("review/change-1", None, "development"),
        ("blue", None, "other"),
    ],
)
def test_a_tier_that_an_old_server_does_not_show_is_guessed_as_gitlab_does(
    name: str, tier: str | None, expected: str
) -> None:
    shown = {"environment": {"id": 1, "name": name, "tier": tier, "state": "available"}, "project_id": 7}
    (found,) = parsed("environments", shown).environments
    assert found.tier == expected


def test_a_project_without_a_branch_or_a_description() -> None:
    shown = {"id": 7, "path_with_namespace": "acme/new", "description": "", "default_branch": None, "archived": None}
    (found,) = parsed("project", shown).repositories
    assert (found.external_id, found.path, found.description, found.default_branch) == ("7", "acme/new", None, None)
    assert found.is_archived is False
