"""Projects, members, pipelines, jobs, deployments, environments and owners of a simulated GitLab, into the tables."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from factories.snapshots import snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.base import ConnectionSpec, OpenGate, ScopeSpec, Window
from connectors.gitlab.simulated.delivery import MANY_JOBS_COUNT
from connectors.gitlab.simulator import GitLabSimulator
from connectors.gitlab.streams import KIND
from models.store.session import Database
from tasks.verify import verify_scope
from workers.settings import Settings

IDLE_REQUESTS_COUNT = 11
"""What one project costs where nothing has changed: the server's time, the project, its members, a page each of merge
requests, events, pipelines (for themselves and for their jobs), environments and deployments, and CODEOWNERS, which
stands at the second place of three."""


class Scene:
    """A simulated GitLab with one project, and the worker that syncs it."""

    def __init__(self, worker: InProcessWorker, simulator: GitLabSimulator, base_url: str, key: str) -> None:
        self.worker = worker
        self.simulator = simulator
        self.scope_id = worker.add_scope("gitlab", base_url, key, token="sim-token")

    def sync(self, **args: Any) -> int:
        """Sync, and say how many requests it took."""
        before = len(self.simulator.requests)
        self.worker.run("collect.sync_scope", scope_id=self.scope_id, **args)
        assert self.simulator.requests.unknown == self.simulator.requests.rejected == []
        return len(self.simulator.requests) - before

    def later(self, minutes: float = 120) -> None:
        self.simulator.clock.advance(timedelta(minutes=minutes))

    def rows(self, query: str) -> list[Any]:
        with self.worker.database.transaction() as session:
            return [tuple(row) if len(row) > 1 else row[0] for row in session.execute(text(query))]

    def differences(self) -> dict[str, dict[str, int]]:
        verdicts = verify_scope(
            self.worker.database,
            self.worker.settings,
            self.scope_id,
            gate=OpenGate(),
            sleep=lambda _seconds: None,
            progress=lambda _stream, _read, _ratio: None,
        )
        return {
            table.table: table.counts for verdict in verdicts for table in verdict.comparison.tables if table.counts
        }

    def assert_equal_to_its_world(self) -> None:
        """Compare every row of delivery with the model itself, not with its JSON."""
        home = self.simulator.home()
        assert self.rows(PIPELINES) == [
            (
                str(each.id), each.iid, each.status, each.source, each.ref, each.sha,
                each.person.username if each.person and _has_ended(each.status) else None,
                _ms(each.created_at), _ms(each.updated_at),
                _ms(each.started_at) if _has_ended(each.status) else None, _ms(each.finished_at),
                float(each.coverage) if each.coverage and _has_ended(each.status) else None,
            )
            for each in sorted(home.pipelines.values(), key=lambda each: each.id)
        ]  # fmt: skip
        assert self.rows(JOBS) == [
            (
                str(each.id), str(each.pipeline.id), each.name, each.stage, each.status, each.failure_reason,
                each.is_allowed_to_fail, _ms(each.created_at), _ms(each.started_at), _ms(each.finished_at),
            )
            for each in sorted(home.jobs.values(), key=lambda each: each.id)
        ]  # fmt: skip
        assert self.rows(DEPLOYMENTS) == [
            (
                str(each.id), each.status, each.environment.name, each.environment.tier, each.sha, each.person.username,
                str(each.job.pipeline.id) if each.job else None, _ms(each.created_at), _ms(each.updated_at),
                _ms(each.job.finished_at) if each.job else None,
                sorted(row.iid for row in each.merge_requests) if each.status == "success" else [],
            )
            for each in sorted(home.deployments.values(), key=lambda each: each.id)
        ]  # fmt: skip


PIPELINES = """
    SELECT external_id, iid, status, source, ref, sha, started_by, pipeline_created_at, source_updated_at, started_at,
        finished_at, coverage::float FROM gitlab_pipelines ORDER BY external_id::bigint
"""
JOBS = """
    SELECT external_id, external_pipeline_id, name, stage, status, failure_reason, is_allowed_to_fail, job_created_at,
        started_at, finished_at FROM gitlab_jobs ORDER BY external_id::bigint
"""
DEPLOYMENTS = """
    SELECT external_id, status, environment, environment_tier, sha, deployed_by, external_pipeline_id,
        deployment_created_at, source_updated_at, finished_at,
        ARRAY(SELECT mr_id FROM gitlab_deployment_merge_requests m WHERE m.deployment_id = d.id ORDER BY 1)
    FROM gitlab_deployments d ORDER BY external_id::bigint
"""


def _ms(at: datetime | None) -> datetime | None:
    return at and at.replace(microsecond=at.microsecond // 1000 * 1000)


def _has_ended(status: str) -> bool:
    return status in {"success", "failed", "canceled", "skipped"}


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


@pytest.fixture
def scene(worker: InProcessWorker) -> Iterator[Scene]:
    simulator = GitLabSimulator(merge_requests=40)
    with simulator.serve() as server:
        yield Scene(worker, simulator, server.base_url, "101")


def test_a_first_sync_holds_all_that_is_delivered(scene: Scene) -> None:
    scene.sync()
    scene.assert_equal_to_its_world()
    assert scene.differences() == {}
    home = scene.simulator.home()
    assert len(home.jobs) > MANY_JOBS_COUNT  # more than a page of them in one pipeline
    assert scene.rows("SELECT count(*) FROM sync_rejects") == [0]
    # What was retried until it passed can be seen.
    retried = """
        SELECT count(*) FROM gitlab_jobs later JOIN gitlab_jobs j USING (connection_id, external_pipeline_id, name)
        WHERE j.status = 'failed' AND later.status = 'success' AND later.external_id::bigint > j.external_id::bigint
    """
    assert scene.rows(retried) > [0]


def test_what_happens_afterwards_is_followed(scene: Scene) -> None:
    scene.sync()
    rng = random.Random(4)
    for _ in range(3):
        scene.later(30)
        scene.simulator.mutate_delivery(12, rng)
        scene.later(1)
        scene.sync()
        scene.assert_equal_to_its_world()
    assert scene.differences() == {}


def test_what_changes_while_the_pages_are_read_ends_right(scene: Scene) -> None:
    rng = random.Random(7)
    simulator = scene.simulator

    def happen(entry: Any) -> None:
        if rng.random() < 0.2 and "/merge_requests/" not in entry.path:
            simulator.clock.advance(timedelta(milliseconds=300))
            simulator.mutate_delivery(2, rng)

    simulator.on_request(happen)
    scene.sync()
    scene.later(3)
    scene.sync()
    simulator.on_request(lambda _entry: None)
    rng.random = lambda: 1.0  # type: ignore[method-assign]  # from now on nothing happens
    scene.later(3)
    scene.sync()
    scene.assert_equal_to_its_world()


@pytest.mark.parametrize(("graphql", "each_count", "fixed_count"), [("off", 4, 0), ("auto", 2, 3)])
def test_an_incremental_sync_costs_what_has_changed(
    scene: Scene, graphql: str, each_count: int, fixed_count: int
) -> None:
    """The budget of section E6 for a changed merge request is 4 to 6 requests by REST, and 2 with GraphQL.

    requests = idle + 4 x merge requests (2 with GraphQL, and 3 for its probe, the project's path and one query)
             + 1 x ended pipelines + 1 x changed pipelines (their jobs) + 1 x succeeded deployments,
    as long as each listing fits a page.
    """
    option = f'UPDATE connections SET options = \'{{"graphql": "{graphql}"}}\' RETURNING 1'
    assert scene.rows(option) == [1]
    scene.sync()
    scene.later()
    before = snapshot(scene.worker.database)
    assert scene.sync() == IDLE_REQUESTS_COUNT
    assert snapshot(scene.worker.database) == before

    scene.later()
    simulator = scene.simulator
    for iid in (3, 5, 7):
        simulator.update_merge_request(iid, title="Changed")
    ended, running = simulator.start_pipeline(), simulator.start_pipeline(ref="other")
    assert running.status == "running"
    deployed = simulator.deploy("production", iids=(15, 17))
    scene.later(1)
    simulator.end_pipeline(ended)
    simulator.end_deployment(deployed)  # with its pipeline
    scene.later(1)
    assert scene.sync() == IDLE_REQUESTS_COUNT + each_count * 3 + fixed_count + 1 * 2 + 1 * 3 + 1 * 1
    scene.assert_equal_to_its_world()


def test_a_detail_is_read_once_a_pipeline_has_ended_and_not_again(scene: Scene) -> None:
    scene.sync()
    for path in ("pipelines/[0-9]*", "deployments/*/merge_requests"):
        assert scene.simulator.requests.matching(f"*/{path}")
    scene.simulator.requests.clear()
    scene.later()
    scene.sync()
    for path in ("pipelines/[0-9]*", "deployments/*/merge_requests"):
        assert scene.simulator.requests.matching(f"*/{path}") == []


def test_a_job_that_is_run_long_after_its_pipeline_is_seen(scene: Scene) -> None:
    scene.sync()
    scene.later(60 * 24 * 40)
    pipeline = next(iter(scene.simulator.home().pipelines.values()))
    scene.simulator.retry_job(pipeline, "unit")
    scene.later(5)
    scene.sync()
    scene.later(5)
    scene.simulator.end_pipeline(pipeline)
    scene.later(5)
    scene.sync()
    scene.assert_equal_to_its_world()


def test_a_walk_over_all_jobs_goes_on_where_it_was_stopped() -> None:
    simulator = GitLabSimulator(merge_requests=60)
    with simulator.serve() as server:
        spec = ConnectionSpec(id=1, kind="gitlab", name="g", base_url=server.base_url, auth={"token": "sim-token"})
        with closing(KIND.connect(spec, OpenGate())) as connector:
            scope = ScopeSpec(id=1, external_key="101")
            whole = [[item.external_id for item in page.items] for page in connector.pages(scope, "jobs", Window())]
            assert [len(ids) for ids in whole[:-1]] == [100] * (len(whole) - 1)
            first = next(iter(connector.pages(scope, "jobs", Window())))
            rest = connector.pages(scope, "jobs", Window(), first.resume_token)
            assert [[item.external_id for item in page.items] for page in rest] == whole[1:]
    ids = [name for names in whole for name in names]
    assert ids == sorted(map(str, simulator.home().jobs), key=int, reverse=True)


def test_more_pipelines_of_one_instant_than_a_page_are_all_read(scene: Scene) -> None:
    for number in range(130):
        scene.simulator.start_pipeline(ref=f"bulk-{number}")
    scene.sync()
    scene.assert_equal_to_its_world()
    scene.later()
    for pipeline in list(scene.simulator.home().pipelines.values()):
        if pipeline.ref.startswith("bulk-"):
            scene.simulator.end_pipeline(pipeline, status="canceled")
    scene.later(1)
    scene.sync()
    scene.assert_equal_to_its_world()


def test_the_tier_follows_its_environment(scene: Scene) -> None:
    scene.sync()
    scene.simulator.change_environment("staging", tier="testing")
    scene.later(1)
    scene.sync()
    scene.assert_equal_to_its_world()


def test_a_deployment_that_was_told_has_no_time_of_its_end(scene: Scene) -> None:
    scene.sync()
    told = "SELECT count(*) FILTER (WHERE finished_at IS NULL), count(*) FROM gitlab_deployments"
    told += " WHERE external_pipeline_id IS NULL AND status = 'success'"
    assert scene.rows(told)[0] > (0, 0)
    assert len(set(scene.rows(told)[0])) == 1


# --- the project and its people ---------------------------------------------------------------------------------------

REPOSITORY = "SELECT title, web_url, default_branch, is_archived FROM repositories"


def test_a_renamed_project_is_the_same_one_even_when_its_old_path_is_given_away(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=12, projects=2)
    with simulator.serve() as server:
        scene = Scene(worker, simulator, server.base_url, "acme/payments")
        scene.sync()
        assert scene.rows(REPOSITORY) == [
            ("acme/payments", "https://gitlab.example.test/acme/payments", "main", False),
        ]
        rows = scene.rows("SELECT mr_id, title FROM gitlab_mr_lead_times ORDER BY 1")
        simulator.rename_project(101, path="acme/checkout/payments")
        simulator.rename_project(102, path="acme/payments")
        simulator.archive_project(project=101)
        scene.later(1)
        scene.sync()
        assert scene.rows(REPOSITORY) == [
            ("acme/checkout/payments", "https://gitlab.example.test/acme/checkout/payments", "main", True),
        ]
        assert scene.rows("SELECT mr_id, title FROM gitlab_mr_lead_times ORDER BY 1") == rows
        assert scene.rows("SELECT DISTINCT project_name FROM gitlab_mr_lead_times") == ["acme/checkout/payments"]
        assert scene.differences() == {}


def test_members_are_identities_and_robots_say_why(scene: Scene) -> None:
    scene.sync(stream="members")
    members = scene.rows("SELECT username, is_bot, bot_reason FROM user_identities ORDER BY username")
    expected = {each.username for each in scene.simulator.world.people.values() if each.name != "Ghost User"}
    assert {name for name, _, _ in members} == expected - {"renovate-bot"}
    assert [reason for name, is_bot, reason in members if is_bot] == ["access token"]


# --- who owns what ----------------------------------------------------------------------------------------------------

RULES = "SELECT pattern, owners, section, is_optional, required_approvals_count FROM owner_rules ORDER BY position"


def test_the_owners_are_those_of_the_file_and_change_with_it(scene: Scene) -> None:
    scene.sync(stream="code_owners")
    first = scene.rows(RULES)
    assert first[0] == ("*", ["@acme/maintainers"], None, False, 1)
    assert ("*.py", ["@acme/backend"], "Backend", False, 2) in first
    before = snapshot(scene.worker.database, ("owner_rules",))
    scene.sync(stream="code_owners")
    assert snapshot(scene.worker.database, ("owner_rules",)) == before

    scene.simulator.commit_file("CODEOWNERS", "* @ann\n")  # goes before the one in docs/
    scene.sync(stream="code_owners")
    assert scene.rows(RULES) == [("*", ["@ann"], None, False, 1)]
    scene.simulator.commit_file("CODEOWNERS", None)
    scene.simulator.commit_file("docs/CODEOWNERS", None)
    scene.sync(stream="code_owners")
    assert scene.rows(RULES) == []


# --- partial permissions ----------------------------------------------------------------------------------------------


def test_pipelines_that_are_switched_off_delete_nothing_and_stop_nothing_else(scene: Scene) -> None:
    scene.sync()
    held = snapshot(scene.worker.database, ("gitlab_pipelines", "gitlab_jobs"))
    scene.simulator.switch_ci(is_on=False)
    deployed = scene.simulator.deploy("staging", is_told=True)
    scene.later()
    scene.sync()
    assert snapshot(scene.worker.database, ("gitlab_pipelines", "gitlab_jobs")) == held
    assert str(deployed.id) in scene.rows("SELECT external_id FROM gitlab_deployments")
    assert scene.sync() == IDLE_REQUESTS_COUNT - 2  # the two streams that were refused are left alone for a day
    scene.simulator.switch_ci(is_on=True)
    scene.sync(stream="pipelines")
    scene.sync(stream="jobs")
    scene.assert_equal_to_its_world()


def test_a_repository_that_is_hidden_keeps_its_owners(scene: Scene) -> None:
    scene.sync(stream="code_owners")
    rules = scene.rows(RULES)
    scene.simulator.set_faults("404:1:path=*/repository/*")
    scene.sync(stream="code_owners")
    assert scene.rows(RULES) == rules
    assert scene.simulator.requests.matching("*/repository/tree")


# --- what leaves no trace, and what is written anew -------------------------------------------------------------------


def test_an_account_that_is_renamed_stays_one(scene: Scene) -> None:
    scene.sync()
    accounts = "SELECT count(*) FROM user_identities"
    before = scene.rows(accounts)
    person = scene.simulator.world.humans[0]
    scene.simulator.rename_user(person.id, username="amara.o", name="Amara O.")
    scene.later()
    scene.sync()
    assert scene.rows(accounts) == before
    renamed = f"SELECT username, display_name FROM user_identities WHERE external_id LIKE '%/{person.id}'"
    assert scene.rows(renamed) == [("amara.o", "Amara O.")]


def test_a_force_push_replaces_the_commits(scene: Scene) -> None:
    iid = scene.simulator.create_merge_request(commits=3)
    scene.sync()
    facts = f"SELECT commits_count, sha FROM gitlab_mr_lead_times WHERE mr_id = {iid}"
    ((count, head),) = scene.rows(facts)
    scene.later()
    scene.simulator.push(iid, is_rebase=True)
    scene.later(1)
    scene.sync()
    ((count_now, head_now),) = scene.rows(facts)
    assert (count, count_now) == (3, 3)
    assert head_now == scene.simulator.merge_request(iid).commits[-1].sha != head
