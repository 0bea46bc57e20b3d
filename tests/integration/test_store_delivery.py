"""Writing pipelines, jobs, environments, deployments, repositories and owner rules: twice, late, and in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from factories.records import account, at, merge_request, scope
from factories.snapshots import snapshot
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.records import (
    Batch,
    Deployment,
    Environment,
    OwnerFile,
    OwnerRule,
    Pipeline,
    PipelineJob,
    Repository,
)
from models.store import records
from models.store.session import Database
from models.store.sync import Target

HOME = {"external_project_id": "101"}


def pipeline(number: int = 1, **values: Any) -> Pipeline:
    defaults: dict[str, Any] = {
        "external_id": str(number), **HOME, "iid": number, "status": "running", "source": "push", "ref": "main",
        "sha": "a" * 40, "web_url": None, "started_by": account("ann"), "created_at": at(0), "updated_at": at(1),
        "started_at": at(0.1), "finished_at": None, "duration_seconds": None, "queued_seconds": 12.5, "coverage": None,
    }  # fmt: skip
    return Pipeline(**defaults | values)


def job(number: int = 1, **values: Any) -> PipelineJob:
    defaults: dict[str, Any] = {
        "external_id": str(number), **HOME, "external_pipeline_id": "1", "name": "unit", "stage": "test",
        "status": "running", "failure_reason": None, "is_allowed_to_fail": False, "ref": "main", "web_url": None,
        "started_by": None, "created_at": at(0), "started_at": None, "finished_at": None, "duration_seconds": None,
        "queued_seconds": None,
    }  # fmt: skip
    return PipelineJob(**defaults | values)


def deployment(number: int = 1, **values: Any) -> Deployment:
    defaults: dict[str, Any] = {
        "external_id": str(number), **HOME, "iid": number, "status": "success", "environment": "live", "ref": "main",
        "sha": "a" * 40, "external_pipeline_id": "1", "deployed_by": account("bob"), "created_at": at(0),
        "updated_at": at(1), "finished_at": at(1), "merge_requests": (1, 2),
    }  # fmt: skip
    return Deployment(**defaults | values)


def environment(tier: str | None, **values: Any) -> Environment:
    defaults: dict[str, Any] = {"external_id": "7", **HOME, "name": "live", "state": "available", "external_url": None}
    return Environment(tier=tier, **defaults | values)


class Store:
    """A scope, and the session that its records are written in."""

    def __init__(self, session: Session, target: Target) -> None:
        self.session = session
        self.target = target

    def write(self, hours: float = 10, **batch: Any) -> int:
        written = records.write(self.session, self.target, Batch(**batch), fetched_at=at(hours))
        self.session.commit()
        return written.total

    def values(self, query: str) -> list[Any]:
        return [tuple(row) if len(row) > 1 else row[0] for row in self.session.execute(text(query))]


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with Session(database.engine) as session:
        target = scope(session, kind="gitlab", key="101")
        session.commit()
        yield Store(session, target)


def test_pipelines_and_jobs_written_twice_change_nothing_the_second_time(store: Store) -> None:
    batch = {"pipelines": (pipeline(),), "jobs": (job(1), job(2))}
    assert store.write(**batch) == 4  # with the account of who started it
    assert store.write(hours=11, **batch) == 0


def test_an_older_copy_of_a_pipeline_never_overwrites_a_newer_one(store: Store) -> None:
    done = pipeline(status="success", updated_at=at(2), finished_at=at(2), duration_seconds=300)
    store.write(pipelines=(done,))
    assert store.write(hours=11, pipelines=(pipeline(),)) == 0
    assert store.values("SELECT status FROM gitlab_pipelines") == ["success"]


def test_a_pipeline_that_is_retried_loses_its_end(store: Store) -> None:
    store.write(pipelines=(pipeline(status="failed", finished_at=at(2), updated_at=at(2)),))
    store.write(pipelines=(pipeline(status="running", finished_at=None, updated_at=at(3)),))
    assert store.values("SELECT status, finished_at FROM gitlab_pipelines") == [("running", None)]


def test_every_attempt_of_a_job_is_a_row_and_a_finished_one_stays_finished(store: Store) -> None:
    done = job(1, status="failed", started_at=at(1), finished_at=at(2), duration_seconds=3600)
    store.write(jobs=(done, job(2, created_at=at(3))))
    store.write(hours=12, jobs=(job(1),))
    assert store.values("SELECT external_id, status FROM gitlab_jobs ORDER BY 1") == [("1", "failed"), ("2", "running")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_deployment_gets_its_tier_whichever_comes_first(store: Store, order: tuple[int, int]) -> None:
    batches: list[dict[str, Any]] = [{"deployments": (deployment(),)}, {"environments": (environment("production"),)}]
    for position in order:
        store.write(**batches[position])
    assert store.values("SELECT environment_tier FROM gitlab_deployments") == ["production"]


def test_an_environment_that_changes_its_tier_takes_its_deployments_along(store: Store) -> None:
    store.write(deployments=(deployment(),), environments=(environment("staging"),))
    store.write(hours=11, environments=(environment("production"),))
    assert store.values("SELECT environment_tier FROM gitlab_deployments") == ["production"]
    assert store.write(hours=12, deployments=(deployment(),)) == 0
    assert store.values("SELECT environment_tier FROM gitlab_deployments") == ["production"]


LINKS = "SELECT mr_id FROM gitlab_deployment_merge_requests ORDER BY 1"


def test_what_a_deployment_brought_out_is_replaced_as_a_set(store: Store) -> None:
    store.write(deployments=(deployment(),))
    assert store.values(LINKS) == [1, 2]
    store.write(hours=11, deployments=(deployment(merge_requests=(2, 3)),))
    assert store.values(LINKS) == [2, 3]


def test_a_copy_that_does_not_say_what_came_out_leaves_it_and_an_older_one_too(store: Store) -> None:
    store.write(deployments=(deployment(),))
    store.write(hours=11, deployments=(deployment(merge_requests=None, updated_at=at(2)),))
    store.write(hours=12, deployments=(deployment(merge_requests=(9,), updated_at=at(1)),))
    assert store.values(LINKS) == [1, 2]
    store.write(hours=13, deployments=(deployment(merge_requests=(), updated_at=at(3)),))
    assert store.values(LINKS) == []


def repository(path: str = "acme/shop", **values: Any) -> Repository:
    defaults: dict[str, Any] = {
        "external_id": "101", "description": None, "web_url": f"https://gitlab.example.com/{path}",
        "default_branch": "main", "is_archived": False,
    }  # fmt: skip
    return Repository(path=path, **defaults | values)


def test_a_renamed_project_keeps_its_row_and_takes_its_merge_requests_along(store: Store) -> None:
    store.write(merge_requests=(merge_request(project_path="acme/shop"),), repositories=(repository(),))
    assert store.write(hours=11, repositories=(repository(),)) == 0
    store.write(hours=12, repositories=(repository("acme/market", is_archived=True, default_branch=None),))
    assert store.values("SELECT title, web_url, default_branch, is_archived FROM repositories") == [
        ("acme/market", "https://gitlab.example.com/acme/market", None, True)
    ]
    assert store.values("SELECT project_name FROM gitlab_mr_lead_times") == ["acme/market"]
    assert store.values("SELECT options ->> 'external_id' FROM sync_scopes") == ["101"]


def owners(sha: str, *lines: tuple[str, tuple[str, ...]]) -> OwnerFile:
    rules = tuple(
        OwnerRule(pattern=pattern, owners=who, section=None, is_optional=False, required_approvals_count=1)
        for pattern, who in lines
    )
    return OwnerFile(**HOME, path="CODEOWNERS", source_sha=sha, rules=rules)


def test_owner_rules_are_replaced_as_a_set_in_their_order(store: Store, database: Database) -> None:
    first = owners("a", ("*", ("@ann",)), ("*.py", ("@bob", "@acme/qa")))
    assert store.write(owner_files=(first,)) == 2
    before = snapshot(database, ("owner_rules",))
    assert store.write(hours=11, owner_files=(first,)) == 0
    assert snapshot(database, ("owner_rules",)) == before
    store.write(hours=12, owner_files=(owners("b", ("*.py", ("@bob",)), ("*", ("@ann",)), ("docs/", ())),))
    assert store.values("SELECT position, pattern, owners, source_sha FROM owner_rules ORDER BY position") == [
        (0, "*.py", ["@bob"], "b"),
        (1, "*", ["@ann"], "b"),
        (2, "docs/", [], "b"),
    ]
    store.write(hours=13, owner_files=(owners("c"),))
    assert store.values("SELECT count(*) FROM owner_rules") == [0]
