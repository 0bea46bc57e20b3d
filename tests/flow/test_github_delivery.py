"""Runs, jobs and deployments of the simulated GitHub: complete, cheap where nothing changed, found when changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from connectors.base import ConnectionSpec, OpenGate, ParseContext, ScopeSpec, Window
from connectors.github import api, workflow_runs
from connectors.github.answers import KnownAnswers
from connectors.github.client import GitHubConnector
from connectors.github.parse import parse
from connectors.github.simulator import DEFAULT_NOW, GitHubSimulator
from models.errors import GoneError
from models.records import Batch

SCOPE = ScopeSpec(id=1, external_key="acme/payments")
STREAMS = ("pipelines", "jobs", "environments", "deployments")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a process keeps would outlive the simulator that said it, for another one may get its port.
    monkeypatch.setattr(api, "_KNOWN", KnownAnswers())


@contextmanager
def connected(simulator: GitHubSimulator) -> Iterator[GitHubConnector]:
    with simulator.serve() as server:
        spec = ConnectionSpec(
            id=1, kind="github", name="sim", base_url=server.base_url, auth={"token": simulator.token}
        )
        connector = GitHubConnector(spec, OpenGate())
        try:
            yield connector
        finally:
            connector.close()


class Table:
    """What a sync keeps: the newest payload of each external id."""

    def __init__(self) -> None:
        self.payloads: dict[str, dict[str, bytes]] = {stream: {} for stream in STREAMS}
        self.received_count = 0

    def read(self, connector: GitHubConnector, stream: str, since: datetime | None, until: datetime) -> None:
        for page in connector.pages(SCOPE, stream, Window(since=since, until=until)):
            assert page.failures == ()
            self.received_count += len(page.items)
            self.payloads[stream].update((item.external_id, item.payload) for item in page.items)

    def sync(self, connector: GitHubConnector, since: datetime | None = None) -> datetime:
        connector.check_scope(SCOPE)  # which tells the time as well
        now = connector.server_now()
        for stream in STREAMS:
            self.read(connector, stream, since and since - timedelta(minutes=10), now)
        return now

    def batch(self, stream: str) -> Batch:
        return Batch.merge([parse(stream, each, ParseContext()) for each in self.payloads[stream].values()])


def assert_equals_model(table: Table, simulator: GitHubSimulator) -> None:
    delivery, home = simulator.delivery, simulator.world.repository(None)
    runs = delivery.runs_of(home)
    assert {
        (each.external_id, each.status == "running", each.updated_at) for each in table.batch("pipelines").pipelines
    } == {(str(run.id), run.conclusion is None, run.updated_at) for run in runs}
    jobs = {
        (str(job.id), str(run.id), job.name, None if job.conclusion == "skipped" else job.completed_at)
        for run in runs
        for job in run.jobs
    }
    collected = table.batch("jobs").jobs
    assert {(each.external_id, each.external_pipeline_id, each.name, each.finished_at) for each in collected} == jobs
    deployments = {
        (str(each.id), each.environment, str(each.run.id) if each.run and each.statuses else None)
        for each in delivery.deployments_of(home)
    }
    found = table.batch("deployments").deployments
    assert {(each.external_id, each.environment, each.external_pipeline_id) for each in found} == deployments
    by_id = {each.external_id: each for each in found}
    for each in delivery.deployments_of(home):
        outs = [at for state, at in each.statuses if state == "success"]
        record = by_id[str(each.id)]
        assert (record.status == "success") == bool(outs)
        assert record.finished_at == (
            min(outs) if outs else next((at for s, at in each.statuses if s == "failure"), None)
        )
    assert simulator.requests.unknown == []
    assert simulator.requests.rejected == []


def test_a_first_sync_holds_every_run_job_and_deployment() -> None:
    simulator = GitHubSimulator(pull_requests=90, issues=0)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
        assert connector.oldest_update(SCOPE, "pipelines") is None
    assert_equals_model(table, simulator)
    assert len({run.attempt for run in simulator.delivery.runs.values()}) == 2
    tiers = {each.name: each.tier for each in table.batch("environments").environments}
    assert tiers == {"staging": "staging", "production": "production", "qa-eu": "testing"}


def test_the_jobs_of_a_run_are_asked_for_once_for_both_streams() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=0)
    with connected(simulator) as connector:
        Table().sync(connector)
    asked = simulator.requests.matching("*/runs/*/jobs")
    assert len(asked) == 2 * len(simulator.delivery.runs)
    assert sum(entry.status == 200 for entry in asked) == len(simulator.delivery.runs)


@pytest.mark.parametrize("seed", range(3))
def test_what_changes_while_it_is_read_is_there_after_the_next_sync(seed: int) -> None:
    simulator = GitHubSimulator(pull_requests=60, issues=0, seed=seed, is_clock_running=True)
    table = Table()
    with connected(simulator) as connector:
        simulator.mutate_every(requests=2, updates=12)
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(minutes=7))
        started_at = table.sync(connector, started_at)
        simulator.mutate_every(requests=0, updates=0)
        simulator.clock.advance(HOUR)
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


@pytest.mark.parametrize("days", [0, 2, 29])
def test_an_old_run_that_is_run_again_is_found_within_the_hour(days: int) -> None:
    simulator = GitHubSimulator(pull_requests=20, issues=0)
    run_id = simulator.start_run()
    simulator.finish_run(run_id, "failure")
    table = Table()
    with connected(simulator) as connector:
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(days=days, minutes=2))
        started_at = table.sync(connector, started_at)
        simulator.run_again(run_id)
        simulator.clock.advance(timedelta(minutes=3))
        simulator.finish_run(run_id, "success")
        for _ in range(13):
            simulator.clock.advance(timedelta(minutes=5))
            started_at = table.sync(connector, started_at)
    assert_equals_model(table, simulator)


def test_a_poll_where_nothing_changed_counts_for_nothing() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=0)
    table = Table()
    with connected(simulator) as connector:
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(minutes=20))
        started_at = table.sync(connector, started_at)
        counted, received, asked = simulator.counted_count, table.received_count, len(simulator.requests)
        for _ in range(5):
            simulator.clock.advance(timedelta(minutes=5))
            started_at = table.sync(connector, started_at)
    assert simulator.counted_count == counted
    assert (len(simulator.requests) - asked) / 5 <= 12
    assert table.received_count - received <= 5 * 12  # environments, and the deployments of two days


def test_more_runs_than_github_finds_for_a_span_are_found_in_parts() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0)
    home, person = simulator.world.repository(None), simulator.world.humans[0]
    for position in range(1_250):
        at = DEFAULT_NOW - timedelta(days=2) + timedelta(seconds=7 * position)
        simulator.delivery.start(home, "push", "main", person, at)
    with connected(simulator) as connector:
        names = [name for batch in connector.listing(SCOPE, "pipelines") for name in batch]
    assert sorted(names) == sorted(str(run) for run in simulator.delivery.runs)


def test_a_killed_first_sync_goes_on_at_the_day_where_it_was_stopped() -> None:
    simulator = GitHubSimulator(pull_requests=60, issues=0)
    table = Table()
    window = Window(until=DEFAULT_NOW)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "pipelines", window)
        kept = [next(pages) for _ in range(5)]
        pages.close()  # type: ignore[attr-defined]  # a generator
        rest = list(connector.pages(SCOPE, "pipelines", window, kept[-1].resume_token))
    before = {item.external_id for page in kept for item in page.items}
    after = {item.external_id for page in rest for item in page.items}
    assert before
    assert not before & after
    assert before | after == {str(run) for run in simulator.delivery.runs}
    assert table.received_count == 0


def test_abutting_windows_of_runs_miss_nothing_between_them() -> None:
    simulator = GitHubSimulator(pull_requests=60, issues=0)
    at = sorted(run.updated_at for run in simulator.delivery.runs.values())
    table = Table()
    with connected(simulator) as connector:
        edges = [None, at[10], at[11] + timedelta(milliseconds=400), at[40], DEFAULT_NOW]
        for since, until in pairwise(edges):
            for stream in STREAMS:
                table.read(connector, stream, since, until or DEFAULT_NOW)
    assert_equals_model(table, simulator)


@pytest.mark.parametrize("touches", [True, False])
def test_a_deployment_that_is_decided_a_day_later_is_found(touches: bool) -> None:
    simulator = GitHubSimulator(pull_requests=10, issues=0, statuses_touch=touches)
    table = Table()
    with connected(simulator) as connector:
        deployment_id = simulator.deploy()
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(days=1))
        started_at = table.sync(connector, started_at)
        simulator.set_deployment_status(deployment_id, "success")
        simulator.clock.advance(timedelta(minutes=5))
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


@pytest.mark.parametrize(("status", "path"), [(403, "*/actions/*"), (404, "*/deployments"), (403, "*/environments")])
def test_what_the_token_may_not_see_is_left_out_and_ends_nothing(status: int, path: str) -> None:
    simulator = GitHubSimulator(pull_requests=10, issues=0, faults=f"{status}:1:path={path}")
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert sum(not payloads for payloads in table.payloads.values()) in (1, 2)


def test_a_repository_that_is_hidden_meanwhile_ends_the_run() -> None:
    simulator = GitHubSimulator(pull_requests=20, issues=0)
    with connected(simulator) as connector:
        connector.check_scope(SCOPE)
        simulator.hide_repository("acme/payments")
        for stream in STREAMS:
            with pytest.raises(GoneError):
                list(connector.pages(SCOPE, stream, Window(until=DEFAULT_NOW)))


@pytest.mark.parametrize("stream", STREAMS)
def test_fetching_by_id_gives_what_the_pages_give(stream: str) -> None:
    simulator = GitHubSimulator(pull_requests=20, issues=0)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, stream, Window(until=DEFAULT_NOW))
        wanted = {item.external_id: item for page in pages for item in page.items}
        listed = [name for batch in connector.listing(SCOPE, stream) for name in batch]
        assert sorted(listed) == sorted(wanted)
        names = (*list(wanted)[:3], "999", "nonsense")
        assert connector.fetch(SCOPE, stream, names).items == tuple(wanted[name] for name in names[:3])


def test_old_months_and_late_days_have_one_address_for_ever() -> None:
    simulator = GitHubSimulator(pull_requests=30, issues=0)
    with connected(simulator) as connector:
        list(connector.listing(SCOPE, "pipelines"))
        first = {
            entry.query_string for entry in simulator.requests.matching("*/actions/runs") if "created" in entry.params
        }
        assert len(first) < 24 + 70
        simulator.requests.clear()
        simulator.clock.advance(timedelta(hours=9))
        connector.check_scope(SCOPE)
        list(connector.listing(SCOPE, "pipelines"))
        again = {
            entry.query_string for entry in simulator.requests.matching("*/actions/runs") if "created" in entry.params
        }
    assert first == again
    assert timedelta(days=30) < workflow_runs.CHANGEABLE
