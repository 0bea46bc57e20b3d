"""The Jira connector against the simulated Jira: what is collected equals the model, whatever happens meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from connectors.base import ConnectionSpec, OpenGate, Page, ParseContext, RateGate, ScopeSpec, Window
from connectors.jira.api import PAGES_AHEAD_COUNT
from connectors.jira.client import JiraConnector
from connectors.jira.parse import parse
from connectors.jira.simulated_world import ExpectedIssue
from connectors.jira.simulator import DEFAULT_NOW, JiraSimulator
from connectors.jira.streams import KIND
from connectors.simulator import Exchange
from models.errors import (
    AccessDeniedError,
    GoneError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
    UsageError,
)
from models.records import Batch, Issue

SCOPE = ScopeSpec(id=1, external_key="PAY")
OVERLAP = KIND.streams["issues"].overlap
BOTH = pytest.mark.parametrize("deployment", ["cloud", "server"])


class Gate(OpenGate):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.blocked: list[tuple[str, datetime]] = []

    def block(self, key: str, until: datetime, reason: str = "") -> None:
        assert reason
        self.blocked.append((key, until))


def spec_of(base_url: str, deployment: str, token: str = "sim-token", **options: Any) -> ConnectionSpec:
    auth = {"token": token} if deployment == "server" else {"user": "sim@example.test", "token": token}
    return ConnectionSpec(id=1, kind="jira", name="sim", base_url=base_url, auth=auth, options=options)


@contextmanager
def connected(
    simulator: JiraSimulator, *, gate: RateGate | None = None, token: str = "sim-token", **options: Any
) -> Iterator[JiraConnector]:
    """A connector to a simulator that knows every endpoint and every parameter that it is asked for."""
    with simulator.serve() as server:
        connector = JiraConnector(spec_of(server.base_url, simulator.deployment, token, **options), gate or OpenGate())
        try:
            yield connector
        finally:
            connector.close()
    assert simulator.requests.unknown == []
    assert simulator.requests.rejected == []


class Table:
    """What a sync keeps: the newest payload of each external id."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.received: list[str] = []

    def take(self, pages: Iterable[Page]) -> None:
        for page in pages:
            assert page.failures == ()
            for item in page.items:
                self.received.append(item.external_id)
                kept = self.payloads.get(item.external_id)
                if kept is None or updated_at(kept) <= updated_at(item.payload):
                    self.payloads[item.external_id] = item.payload

    def sync(self, connector: JiraConnector, since: datetime | None = None, scope: ScopeSpec = SCOPE) -> datetime:
        """Collect as a run does, from where the run before has begun less the overlap; where the next begins."""
        started_at = connector.server_now()
        self.take(connector.pages(scope, "issues", Window(since=since and since - OVERLAP, until=started_at)))
        return started_at

    def records(self, connector: JiraConnector) -> dict[str, Issue]:
        context = context_of(connector)
        return {key: issue_of(payload, context) for key, payload in self.payloads.items()}


def updated_at(payload: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(payload)["fields"]["updated"])


def issue_of(payload: bytes, context: ParseContext) -> Issue:
    (issue,) = parse("issues", payload, context).issues
    return issue


def dictionary(connector: JiraConnector, stream: str) -> Batch:
    pages = connector.pages(SCOPE, stream, Window())
    return Batch.merge([parse(stream, item.payload, ParseContext()) for page in pages for item in page.items])


def context_of(connector: JiraConnector) -> ParseContext:
    """What the rows of the dictionary tell, as a run reads them."""
    fields = dictionary(connector, "fields").fields
    return ParseContext(
        field_ids={field.role: field.field_id for field in fields if field.role is not None},
        field_names={field.name: field.field_id for field in fields if field.is_custom},
    )


def collected(issue: Issue) -> dict[str, Any]:
    """A record in the words of the model."""
    return {
        "issue_id": issue.issue_id,
        "key": issue.key,
        "project_key": issue.project_key,
        "issue_type": issue.issue_type,
        "summary": issue.summary,
        "description": issue.description,
        "status_id": issue.status_id,
        "status": issue.status,
        "status_category": issue.status_category,
        "priority": issue.priority,
        "severity": issue.severity,
        "resolution": issue.resolution,
        "labels": issue.labels,
        "components": issue.components,
        "fix_versions": issue.fix_versions,
        "assignee_id": issue.assignee.external_id if issue.assignee else None,
        "reporter_id": issue.reporter.external_id if issue.reporter else None,
        "creator_id": issue.creator.external_id if issue.creator else None,
        "parent_key": issue.parent_key,
        "epic_key": issue.epic_key,
        "story_points": issue.story_points,
        "original_estimate_seconds": issue.original_estimate_seconds,
        "time_spent_seconds": issue.time_spent_seconds,
        "subtasks": issue.subtasks,
        "linked_issues": tuple((link["direction"], link["key"]) for link in issue.linked_issues),
        "comments_count": issue.comments_count,
        "worklogs_count": issue.worklogs_count,
        "first_response_at": issue.first_response_at,
        "created_at": issue.created_at,
        "updated_at": issue.updated_at,
        "resolved_at": issue.resolved_at,
        "due_on": issue.due_on,
        "changes": [
            {
                name: getattr(change, name)
                for name in (
                    *("change_id", "item_index", "author_id", "field_name", "from_value", "from_text"),
                    *("to_value", "to_text", "changed_at"),
                )
            }
            for change in issue.changes
        ],
    }


def shown(expected: ExpectedIssue) -> dict[str, Any]:
    """What the model says of the same."""
    names = set(collected_names)
    whole = {name: getattr(expected, name) for name in names}
    whole["changes"] = [
        {name: getattr(change, name) for name in change.__struct_fields__ if name != "field_id"}
        for change in expected.changes
    ]
    return whole


collected_names = (
    *("issue_id", "key", "project_key", "issue_type", "summary", "description", "status_id", "status"),
    *("status_category", "priority", "severity", "resolution", "labels", "components", "fix_versions"),
    *("assignee_id", "reporter_id", "creator_id", "parent_key", "epic_key", "story_points"),
    *("original_estimate_seconds", "time_spent_seconds", "subtasks", "linked_issues", "comments_count"),
    *("worklogs_count", "first_response_at"),
    *("created_at", "updated_at", "resolved_at", "due_on", "changes"),
)


def assert_equal_to_model(table: Table, connector: JiraConnector, simulator: JiraSimulator, key: str = "PAY") -> None:
    expected = {one.issue_id: one for one in simulator.expected() if one.project_key == key}
    records = table.records(connector)
    assert set(records) >= set(expected)
    for issue_id, one in expected.items():
        assert collected(records[issue_id]) == shown(one), one.key


# --- a complete set ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [
        {"deployment": "cloud"},
        {"deployment": "cloud", "is_changelog_epoch": False, "short_page_ratio": 0.9},
        {"deployment": "cloud", "time_zone": "Asia/Kolkata"},
        {"deployment": "server"},
        {"deployment": "server", "old_server": True},
        {"deployment": "server", "rows_max": 30, "time_zone": "America/St_Johns"},
    ],
    ids=str,
)
def test_a_sync_holds_every_issue_with_its_whole_history(world: dict[str, Any]) -> None:
    simulator = JiraSimulator(issues=260, seed=1, **world)
    with connected(simulator, page_size=90) as connector:
        table = Table()
        table.sync(connector)

        assert len(table.payloads) == len(table.received) == 260
        assert_equal_to_model(table, connector, simulator)


@BOTH
def test_an_issue_is_staged_in_one_shape(deployment: Any) -> None:
    simulator = JiraSimulator(issues=60, deployment=deployment)
    with connected(simulator) as connector:
        for page in connector.pages(SCOPE, "issues", Window()):
            for item in page.items:
                tree = json.loads(item.payload)
                changelog = tree["changelog"]
                assert tree["id"] == item.external_id
                assert {"id", "key", "fields", "changelog"} <= set(tree)
                assert changelog["startAt"] == 0
                assert changelog["maxResults"] >= changelog["total"] == len(changelog["histories"])


def test_both_deployments_give_the_same_records() -> None:
    records = []
    for deployment in ("cloud", "server"):
        simulator = JiraSimulator(issues=120, seed=5, deployment=deployment)
        with connected(simulator) as connector:
            table = Table()
            table.sync(connector)
            records.append([collected(issue) for issue in table.records(connector).values()])
    people = {"assignee_id", "reporter_id", "creator_id"}
    for cloud, server in zip(*records, strict=True):
        for name in set(cloud) - people - {"changes"}:
            assert cloud[name] == server[name], (cloud["key"], name)
        assert len(cloud["changes"]) == len(server["changes"])


@BOTH
def test_changes_of_what_is_measured_carry_the_ids_of_fields(deployment: Any) -> None:
    simulator = JiraSimulator(issues=120, deployment=deployment, old_server=deployment == "server")
    with connected(simulator) as connector:
        context = context_of(connector)
        table = Table()
        table.sync(connector)
        changes = [change for issue in table.records(connector).values() for change in issue.changes]

        by_name = {change.field_name: change.field for change in changes}
        for name in ("status", "issuetype", "priority", "resolution", "assignee", "project"):
            assert by_name[name] == name
        assert by_name["Severity"] == context.field_ids["severity"]
        assert by_name["Sprint"] == context.field_ids["sprint"]
        assert all(change.field for change in changes)


@BOTH
def test_the_dictionaries_are_read_whole(deployment: Any) -> None:
    simulator = JiraSimulator(issues=50, projects=2, deployment=deployment)
    with connected(simulator) as connector:
        fields = {field.role: field.field_id for field in dictionary(connector, "fields").fields if field.role}
        statuses = dictionary(connector, "statuses").statuses

        assert fields == {
            "sprint": simulator.world.fields.sprint,
            "epic_link": simulator.world.fields.epic_link,
            "epic_name": simulator.world.fields.epic_name,
            "story_points": simulator.world.fields.story_points,
            "story_point_estimate": simulator.world.fields.story_point_estimate,
            "severity": simulator.world.fields.severity,
            "acceptance_criteria": simulator.world.fields.acceptance_criteria,
        }
        assert {(status.status_id, status.name, status.category) for status in statuses} == {
            (status.id, status.name, status.category)
            for project in simulator.world.projects.values()
            for status in project.statuses.values()
        }
        assert connector.oldest_update(SCOPE, "fields") is None
        assert set(next(connector.listing(SCOPE, "statuses"))) == {status.status_id for status in statuses}
        two = tuple(status.status_id for status in statuses[:2])
        assert [item.external_id for item in connector.fetch(SCOPE, "statuses", (*two, "nope")).items] == list(two)


@BOTH
def test_only_what_is_read_is_asked_for(deployment: Any) -> None:
    simulator = JiraSimulator(issues=50, deployment=deployment)
    with connected(simulator) as connector:
        (page, *_) = connector.pages(SCOPE, "issues", Window())

    fields = json.loads(page.items[0].payload)["fields"]
    assert len(fields) < 35
    assert {name for name in fields if name.startswith("customfield_")} <= {
        getattr(simulator.world.fields, name)
        for name in ("sprint", "epic_link", "epic_name", "story_points", "story_point_estimate", "severity")
    }


def test_fields_that_the_operator_names_are_asked_for_as_well() -> None:
    simulator = JiraSimulator(issues=50, deployment="cloud")
    with connected(simulator, custom_fields={"severity": simulator.world.fields.acceptance_criteria}) as connector:
        scope = ScopeSpec(id=1, external_key="PAY", options={"severity_field": simulator.world.fields.rank})
        (page, *_) = connector.pages(scope, "issues", Window())

    assert simulator.world.fields.rank in json.loads(page.items[0].payload)["fields"]


# --- as few requests as can be ----------------------------------------------------------------------------------------


@BOTH
def test_a_second_sync_of_an_unchanged_source_makes_few_requests(deployment: Any) -> None:
    simulator = JiraSimulator(issues=300, deployment=deployment)
    with connected(simulator) as connector:
        started_at = Table().sync(connector)
    simulator.requests.clear()
    with connected(simulator) as connector:
        now = connector.server_now()
        for stream in KIND.streams.values():
            since = started_at - stream.overlap if stream.is_incremental else None
            until = now if stream.is_incremental else None
            list(connector.pages(SCOPE, stream.name, Window(since=since, until=until)))

    assert len(simulator.requests) <= 12  # a dictionary is one each


def test_a_full_sync_of_cloud_asks_for_ids_by_the_thousand_and_issues_by_the_hundred() -> None:
    simulator = JiraSimulator(issues=1_000, deployment="cloud", short_page_ratio=0)
    with connected(simulator) as connector:
        Table().sync(connector)

    assert len(simulator.requests.matching("*/search/jql")) == 2
    assert len(simulator.requests.matching("*/issue/bulkfetch")) == 10
    assert len(simulator.requests.matching("*/changelog/bulkfetch")) == 10
    # Only issues with more comments or worklogs than a page embeds cost requests of their own.
    long = [each for each in simulator.world.issues.values() if len(each.comments) > 20 or len(each.worklogs) > 20]
    conversations = simulator.requests.matching("*/comment") + simulator.requests.matching("*/worklog")
    assert len({exchange.path.split("/")[-2] for exchange in conversations}) == len(long)
    assert len(simulator.requests) - len(conversations) <= 26


@BOTH
def test_requests_are_made_ahead_of_the_consumer_but_not_without_bound(deployment: Any) -> None:
    simulator = JiraSimulator(issues=1_500, deployment=deployment, latency_ms=20)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "issues", Window())
        next(pages)
        pages.close()
        opened_count = len(simulator.requests.matching("*/bulkfetch")) + len(simulator.requests.matching("*/search"))

    assert simulator.requests.concurrency_high_water in range(2, PAGES_AHEAD_COUNT + 1)
    assert opened_count <= 2 * (PAGES_AHEAD_COUNT + 2)


def test_the_size_of_a_page_can_be_chosen() -> None:
    simulator = JiraSimulator(issues=100, deployment="server")
    with connected(simulator, page_size="25") as connector:
        pages = list(connector.pages(SCOPE, "issues", Window()))

    assert [len(page.items) for page in pages] == [25, 22, 22, 22, 9]
    assert [page.progress_ratio for page in pages] == [0.25, 0.47, 0.69, 0.91, 1.0]


# --- while it changes -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_changes_between_pages_lose_nothing(deployment: Any, seed: int) -> None:
    simulator = JiraSimulator(issues=400, seed=seed, deployment=deployment, index_lag_seconds=1)
    with connected(simulator, page_size=20) as connector:
        table = Table()
        simulator.mutate_every(requests=3, updates=5)
        started_at = table.sync(connector)
        simulator.mutate_every(requests=0, updates=0)
        simulator.clock.advance(timedelta(minutes=2))
        table.sync(connector, started_at)

        assert_equal_to_model(table, connector, simulator)


@BOTH
def test_deletions_and_moves_between_pages_hide_no_other_issue(deployment: Any) -> None:
    simulator = JiraSimulator(issues=400, projects=2, seed=3, deployment=deployment, short_page_ratio=1.0)
    ours = [one.issue_id for one in simulator.expected() if one.project_key == "PAY"]
    leaving = iter(ours[:40])

    def leave(exchange: Exchange) -> None:
        if "search" in exchange.path:
            for position, issue_id in enumerate([next(leaving, None) for _ in range(4)]):
                if issue_id is not None:
                    if position % 2:
                        simulator.delete_issue(issue_id)
                    else:
                        simulator.move_issue(issue_id, "SHOP")

    with connected(simulator, page_size=20) as connector:
        simulator.on_request(leave)
        table = Table()
        table.sync(connector)

    assert {one.issue_id for one in simulator.expected() if one.project_key == "PAY"} <= set(table.payloads)


@BOTH
def test_an_issue_that_the_index_loses_for_a_moment_is_found(deployment: Any) -> None:
    for seed in range(5):
        simulator = JiraSimulator(issues=200, seed=seed, deployment=deployment, index_flicker=True)
        with connected(simulator) as connector:
            table = Table()
            table.sync(connector)

            assert len(table.payloads) == 200


def test_what_the_index_does_not_see_yet_comes_with_the_next_sync() -> None:
    simulator = JiraSimulator(issues=100, deployment="cloud", index_lag_seconds=60)
    with connected(simulator) as connector:
        table = Table()
        simulator.edit_issue("PAY-1", summary="Edited just before")
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(minutes=4))
        table.sync(connector, started_at)

        assert_equal_to_model(table, connector, simulator)


@BOTH
def test_an_issue_that_changes_all_the_time_is_collected_nevertheless(deployment: Any) -> None:
    simulator = JiraSimulator(issues=60, deployment=deployment)
    with connected(simulator) as connector:
        started_at = Table().sync(connector)

        def touch(exchange: Exchange) -> None:
            if "search" in exchange.path:
                simulator.clock.advance(timedelta(seconds=20))
                simulator.edit_issue("PAY-7", summary=f"Touched again at {simulator.clock.now()}")

        simulator.on_request(touch)
        table = Table()
        table.sync(connector, started_at)

    assert str(simulator.issue("PAY-7").id) in table.payloads


@BOTH
def test_a_page_that_was_read_ahead_says_when_it_was_read(deployment: Any) -> None:
    simulator = JiraSimulator(issues=250, deployment=deployment)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "issues", Window())
        next(pages)
        deadline_seconds = time.monotonic() + 10
        while sum(bool(one.status) for one in simulator.requests.matching("*/bulkfetch")) < 4 and (
            sum(bool(one.status) for one in simulator.requests.matching("*/search")) < 2
        ):
            assert time.monotonic() < deadline_seconds
            time.sleep(0.001)
        taken_at = datetime.now(UTC)

        assert next(pages).fetched_at < taken_at


# --- windows ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Kiritimati"])
def test_windows_that_meet_hold_each_issue_once(deployment: Any, time_zone: str) -> None:
    simulator = JiraSimulator(issues=200, deployment=deployment, time_zone=time_zone)
    times = sorted(one.updated_at for one in simulator.expected())
    edges = [None, *times[10:190:17], DEFAULT_NOW - timedelta(hours=2)]
    with connected(simulator) as connector:
        table = Table()
        for since, until in pairwise(edges):
            before = len(table.received)
            table.take(connector.pages(SCOPE, "issues", Window(since=since, until=until)))
            for external_id in table.received[before:]:
                at = updated_at(table.payloads[external_id])
                assert since is None or at >= since
                assert until is None or at < until
        table.take(connector.pages(SCOPE, "issues", Window(since=edges[-1], until=DEFAULT_NOW)))

    assert sorted(table.received) == sorted(one.issue_id for one in simulator.expected())


@BOTH
def test_many_issues_of_one_instant_are_all_collected(deployment: Any) -> None:
    simulator = JiraSimulator(issues=350, deployment=deployment, rows_max=50)
    for one in simulator.expected():
        simulator.edit_issue(one.issue_id, labels=["bulk"])
    assert len({one.updated_at for one in simulator.expected()}) == 1
    at = simulator.expected()[0].updated_at
    simulator.clock.advance(timedelta(days=1))
    with connected(simulator) as connector:
        edge = list(connector.pages(SCOPE, "issues", Window(since=None, until=at)))
        table = Table()
        table.take(connector.pages(SCOPE, "issues", Window(since=at, until=at + timedelta(milliseconds=1))))

    assert sum(len(page.items) for page in edge) == 0
    assert len(table.received) == 350


@BOTH
@pytest.mark.parametrize("shows_time_zone", [True, False])
@pytest.mark.parametrize(
    ("time_zone", "fold_at"),
    [
        ("Europe/Berlin", datetime(2026, 10, 25, 1, 0, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, 0, tzinfo=UTC)),
    ],
)
def test_in_the_night_when_the_clocks_go_back_nothing_is_lost(
    deployment: Any, shows_time_zone: bool, time_zone: str, fold_at: datetime
) -> None:
    simulator = JiraSimulator(
        issues=60,
        deployment=deployment,
        time_zone=time_zone,
        now=fold_at - timedelta(hours=3),
        shows_time_zone=shows_time_zone,
    )
    with connected(simulator) as connector:
        table = Table()
        since = table.sync(connector)
        for step in range(24):  # a sync every quarter of an hour, through the doubled hour
            simulator.clock.advance(timedelta(minutes=15))
            simulator.edit_issue(f"PAY-{step + 1}", summary=f"Step {step}")
            since = table.sync(connector, since)
        assert_equal_to_model(table, connector, simulator)

        # And the same from windows that lie in the past.
        simulator.clock.advance(timedelta(days=1))
        connector.server_now()
        past = Table()
        for step in range(24):
            start = fold_at - timedelta(hours=3) + timedelta(minutes=15 * step)
            window = Window(since=start, until=start + timedelta(minutes=15))
            past.take(connector.pages(SCOPE, "issues", window))

    span = fold_at - timedelta(hours=3), fold_at + timedelta(hours=3)
    assert sorted(past.received) == sorted(
        one.issue_id for one in simulator.expected() if span[0] <= one.updated_at < span[1]
    )
    assert len(past.received) >= 23


@BOTH
def test_the_oldest_update_is_the_oldest(deployment: Any) -> None:
    simulator = JiraSimulator(issues=80, projects=2, deployment=deployment, time_zone="Asia/Tokyo")
    with connected(simulator) as connector:
        for key in ("PAY", "SHOP"):
            scope = ScopeSpec(id=1, external_key=key)
            assert connector.oldest_update(scope, "issues") == min(
                one.updated_at for one in simulator.expected() if one.project_key == key
            )


@BOTH
def test_an_empty_project_is_empty(deployment: Any) -> None:
    simulator = JiraSimulator(issues=50, projects=2, deployment=deployment)
    for one in simulator.expected():
        if one.project_key == "PAY":
            simulator.delete_issue(one.issue_id)
    with connected(simulator) as connector:
        assert connector.oldest_update(SCOPE, "issues") is None
        assert [item for page in connector.pages(SCOPE, "issues", Window()) for item in page.items] == []
        assert list(connector.listing(SCOPE, "issues")) == []


# --- going on after an interruption -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("stop_after_pages", [1, 2, 5, 9])
def test_a_run_that_was_killed_goes_on_where_it_was(deployment: Any, stop_after_pages: int) -> None:
    simulator = JiraSimulator(issues=700, seed=2, deployment=deployment, short_page_ratio=0.5)
    table = Table()
    with connected(simulator, page_size=60) as connector:
        pages = connector.pages(SCOPE, "issues", Window())
        token = None
        for _, page in zip(range(stop_after_pages), pages, strict=False):
            table.take([page])
            token = page.resume_token
        pages.close()
    simulator.mutate(30)
    for one in simulator.expected()[:30]:
        simulator.delete_issue(one.issue_id)
    with connected(simulator, page_size=60) as connector:
        table.take(connector.pages(SCOPE, "issues", Window(), token))

        assert {one.issue_id for one in simulator.expected()} <= set(table.payloads)
        # What was delivered is not fetched again, but for the page where it stopped.
        assert len(table.received) - len(set(table.received)) <= 100


def test_a_search_token_that_expires_while_it_is_read_does_no_harm() -> None:
    simulator = JiraSimulator(issues=300, deployment="cloud")
    searches_count = 0

    def wait(exchange: Exchange) -> None:
        nonlocal searches_count
        searches_count += "search" in exchange.path
        if searches_count == 3:
            simulator.clock.advance(timedelta(days=8))

    with connected(simulator, page_size=50) as connector:
        simulator.on_request(wait)
        table = Table()
        table.take(connector.pages(SCOPE, "issues", Window()))

    assert len(table.received) == len(table.payloads) == 300


@BOTH
@pytest.mark.parametrize("token", ["nonsense", "{}", '["x"]', '[7,["no such issue"]]', '["x","y"]'])
def test_a_resume_token_that_is_none_of_ours_begins_the_window_again(deployment: Any, token: str) -> None:
    simulator = JiraSimulator(issues=120, deployment=deployment)
    with connected(simulator) as connector:
        table = Table()
        table.take(connector.pages(SCOPE, "issues", Window(), token))

    assert len(table.payloads) == 120


# --- single objects, listings, scopes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [
        {"deployment": "cloud"},
        {"deployment": "server"},
        {"deployment": "server", "old_server": True},
        {"deployment": "server", "rows_max": 30},
    ],
    ids=str,
)
def test_issues_are_fetched_by_id_from_wherever_they_are_now(world: dict[str, Any]) -> None:
    simulator = JiraSimulator(issues=260, projects=2, **world)
    expected = [one for one in simulator.expected() if one.project_key == "PAY"]
    gone, hidden, moved = expected[0].issue_id, expected[1].issue_id, expected[2].issue_id
    simulator.delete_issue(gone)
    simulator.hide_issue(hidden)
    new_key = simulator.move_issue(moved, "SHOP")
    with connected(simulator) as connector:
        page = connector.fetch(SCOPE, "issues", (*(one.issue_id for one in expected), "999999"))

        assert page.failures == ()
        table = Table()
        table.take([page])
        assert set(table.payloads) == {one.issue_id for one in expected} - {gone, hidden}
        records = table.records(connector)
        assert records[moved].key == new_key
        for one in simulator.expected():
            if one.issue_id in records:
                assert collected(records[one.issue_id]) == shown(one)
        assert connector.fetch(SCOPE, "issues", ()).items == ()


@BOTH
def test_the_listing_is_what_can_be_seen_now(deployment: Any) -> None:
    simulator = JiraSimulator(issues=300, projects=2, deployment=deployment, short_page_ratio=0.8, rows_max=40)
    simulator.hide_issue("PAY-3")
    with connected(simulator, page_size=70) as connector:
        batches = list(connector.listing(SCOPE, "issues"))

    ids = [one for batch in batches for one in batch]
    assert len(ids) == len(set(ids))
    assert set(ids) == {one.issue_id for one in simulator.expected() if one.project_key == "PAY"}


@BOTH
def test_a_project_that_is_called_like_a_word_of_jql_is_read(deployment: Any) -> None:
    simulator = JiraSimulator(issues=90, projects=3, deployment=deployment)
    scope = ScopeSpec(id=1, external_key="ORDER")
    with connected(simulator) as connector:
        assert connector.check_scope(scope) == "Order Management"
        table = Table()
        table.sync(connector, scope=scope)

        assert_equal_to_model(table, connector, simulator, "ORDER")
        assert {issue.project_key for issue in table.records(connector).values()} == {"ORDER"}


@BOTH
def test_a_project_that_is_hidden_or_does_not_exist_is_gone(deployment: Any) -> None:
    simulator = JiraSimulator(issues=50, projects=2, deployment=deployment)
    simulator.hide_project("SHOP")
    with connected(simulator) as connector:
        for key in ("SHOP", "NOPE", "no/such", 'quo"ted\\'):
            scope = ScopeSpec(id=1, external_key=key)
            with pytest.raises(GoneError):
                connector.check_scope(scope)
            with pytest.raises(GoneError):
                list(connector.pages(scope, "issues", Window()))
            with pytest.raises(GoneError):
                connector.oldest_update(scope, "issues")
            with pytest.raises(GoneError):
                list(connector.listing(scope, "issues"))


@BOTH
def test_a_probe_tells_who_is_there(deployment: Any) -> None:
    simulator = JiraSimulator(issues=50, deployment=deployment, shows_time_zone=deployment == "server")
    with connected(simulator) as connector:
        probe = connector.probe()

        assert probe.product == ("Jira Cloud" if deployment == "cloud" else "Jira Data Center")
        assert probe.account == "Sync Service"
        assert abs(probe.server_now - DEFAULT_NOW) < timedelta(seconds=10)
        assert len(probe.remarks) == (deployment == "cloud")
        simulator.clock.advance(timedelta(days=1))
        assert connector.server_now() - probe.server_now > timedelta(hours=23)


# --- when the server fails --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ("500:1", TransientSourceError),
        ("503:1", TransientSourceError),
        ("truncate:1:path=*search*", TransientSourceError),
        ("truncate:1:path=*serverInfo*", TransientSourceError),
        ("truncate:1:path=*myself*", TransientSourceError),
        ("truncate:1:path=*field*", TransientSourceError),
        ("html:1", TransientSourceError),
        ("reset:1", TransientSourceError),
        ("401:1", AccessDeniedError),
        ("429:1:retry-after=30", RateLimitedError),
        ("400:1:path=*search*", SourceRequestError),
        ("redirect:1:to=other", SourceRequestError),
    ],
)
def test_a_fault_is_an_error_that_says_what_to_do(deployment: Any, faults: str, error: type[SourceError]) -> None:
    simulator = JiraSimulator(issues=50, deployment=deployment, faults=faults)
    with connected(simulator) as connector, pytest.raises(error) as raised:
        list(connector.pages(SCOPE, "issues", Window(since=DEFAULT_NOW - timedelta(days=1))))

    assert "sim-token" not in raised.value.message
    assert all(not exchange.has_credentials for exchange in simulator.requests if "localhost" in exchange.host)


def test_a_wrong_token_is_denied() -> None:
    with connected(JiraSimulator(issues=50, deployment="server"), token="wrong") as connector:
        with pytest.raises(AccessDeniedError):
            connector.probe()
        with pytest.raises(AccessDeniedError):
            connector.check_scope(SCOPE)


@BOTH
def test_patience_that_the_server_asks_for_is_shared(deployment: Any) -> None:
    gate = Gate()
    simulator = JiraSimulator(issues=50, deployment=deployment, faults="429:1x:retry-after=30:path=*search*")
    with connected(simulator, gate=gate) as connector:
        with pytest.raises(RateLimitedError) as raised:
            list(connector.pages(SCOPE, "issues", Window()))
        assert raised.value.retry_at is not None
        assert [until for _, until in gate.blocked] == [raised.value.retry_at]
        assert len(list(connector.pages(SCOPE, "issues", Window()))) == 1


@BOTH
def test_through_every_kind_of_trouble_a_stubborn_reader_holds_everything_in_the_end(deployment: Any) -> None:
    faults = "500:0.05,502:0.05,429:0.05:retry-after=1,429:0.02,truncate:0.05,html:0.03,reset:0.05,503:0.03"
    simulator = JiraSimulator(issues=500, seed=7, deployment=deployment, faults=faults)
    table = Table()
    token: str | None = None
    failures_count = 0
    with connected(simulator, page_size=25 if deployment == "server" else 300) as connector:
        while True:
            try:
                for page in connector.pages(SCOPE, "issues", Window(), token):
                    table.take([page])
                    token = page.resume_token
                break
            except (TransientSourceError, RateLimitedError):
                failures_count += 1
        simulator.set_faults("")
        assert failures_count > 3
        assert_equal_to_model(table, connector, simulator)


def test_closing_in_the_middle_leaves_no_thread() -> None:
    simulator = JiraSimulator(issues=500, deployment="server", latency_ms=20)
    with connected(simulator, page_size=20) as connector:
        next(connector.pages(SCOPE, "issues", Window()))
        connector.close()
        connector.close()

        assert not [thread for thread in threading.enumerate() if thread.name.startswith("jira")]


# --- servers that misbehave in ways of their own ----------------------------------------------------------------------


class Answers(ThreadingHTTPServer):
    """A server that answers each path with what a function makes of the request's JSON."""

    def __init__(self, answers: dict[str, Callable[[dict[str, Any]], Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536
    server: Answers

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, asked: dict[str, Any]) -> None:
        path = self.path.partition("?")[0].removeprefix("/rest/api/")
        self.server.asked.append((path, asked))
        made = self.server.answers[path](asked) if path in self.server.answers else 404
        body = made if isinstance(made, bytes) else json.dumps(made).encode()
        self.send_response(made if isinstance(made, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class has
        del format, args


@contextmanager
def answering(deployment: str, **answers: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[JiraConnector, Answers]]:
    """A connector to a server with these answers; in names `__` stands for a slash, and `v3_` for the third version."""
    paths = {
        ("3/" if name.startswith("v3_") else "2/") + name.removeprefix("v3_").replace("__", "/"): made
        for name, made in answers.items()
    }
    info = {"deploymentType": "Cloud" if deployment == "cloud" else "Server", "serverTime": "2026-01-01T00:00:00.000Z"}
    common: dict[str, Callable[[dict[str, Any]], Any]] = {
        "2/serverInfo": lambda _: info,
        "2/myself": lambda _: {"timeZone": "UTC"},
        "2/field": lambda _: [],
    }
    with Answers({**common, **paths}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        connector = JiraConnector(spec_of(f"http://127.0.0.1:{server.server_port}", deployment), OpenGate())
        try:
            yield connector, server
        finally:
            connector.close()
            server.shutdown()
            thread.join()


def history(number: int) -> dict[str, Any]:
    item = {"field": "status", "fieldId": "status", "from": "1", "to": "2", "fromString": "a", "toString": "b"}
    return {"id": str(number), "created": f"2025-01-01T00:{number:02}:00.000+0000", "items": [item]}


def raw_issue(number: int = 1, total: int = 0, given: int | None = None, **changed: Any) -> dict[str, Any]:
    histories = [history(one + 1) for one in range(total if given is None else given)]
    fields = {
        "project": {"key": "PAY"},
        "issuetype": {"name": "Bug"},
        "status": {"id": "2", "name": "b"},
        "summary": "x",
        "created": "2025-01-01T00:00:00.000+0000",
        "updated": "2025-01-01T01:00:00.000+0000",
    }
    issue = {"id": str(number), "key": f"PAY-{number}", "fields": fields}
    return issue | {"changelog": {"startAt": 0, "maxResults": 9, "total": total, "histories": histories}} | changed


def search_of(*issues: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda asked: {"total": len(issues), "issues": issues[asked["startAt"] : asked["startAt"] + 100]}


def all_of(connector: JiraConnector) -> Page:
    pages = list(connector.pages(SCOPE, "issues", Window()))
    return Page(
        items=tuple(item for page in pages for item in page.items),
        failures=tuple(failure for page in pages for failure in page.failures),
    )


def test_a_history_that_a_search_cut_short_is_completed_from_the_issue() -> None:
    with answering("server", search=search_of(raw_issue(1, total=9, given=4)), issue__1=lambda _: raw_issue(1, 9)) as (
        connector,
        _,
    ):
        (item,) = all_of(connector).items

    assert len(issue_of(item.payload, ParseContext()).changes) == 9


def test_a_history_that_the_issue_cuts_short_too_is_completed_page_by_page() -> None:
    def changelog(_: dict[str, Any]) -> dict[str, Any]:
        start = 4 * (len([path for path, _ in server.asked if path.endswith("/changelog")]) - 1)
        return {"total": 9, "values": [history(one + 1) for one in range(start, min(9, start + 4))]}

    cut = raw_issue(1, total=9, given=4)
    with answering("server", search=search_of(cut), issue__1=lambda _: cut, issue__1__changelog=changelog) as (
        connector,
        server,
    ):
        (item,) = all_of(connector).items

    assert [change.change_id for change in issue_of(item.payload, ParseContext()).changes] == [*map(str, range(1, 10))]


@pytest.mark.parametrize("changelog", [lambda _: 404, lambda _: 405, lambda _: {"total": 9, "values": []}])
def test_a_history_that_cannot_be_completed_is_a_failure_and_not_short(changelog: Callable[..., Any]) -> None:
    cut = raw_issue(1, total=9, given=4)
    with answering(
        "server", search=search_of(cut, raw_issue(2)), issue__1=lambda _: cut, issue__1__changelog=changelog
    ) as (connector, _):
        page = all_of(connector)

    ((external_id, reason, received),) = page.failures
    assert (external_id, json.loads(received)["id"]) == ("1", "1")
    assert "cut short" in reason
    assert [item.external_id for item in page.items] == ["2"]


def test_a_history_that_a_search_leaves_out_altogether_is_asked_for() -> None:
    without = raw_issue(1)
    del without["changelog"]
    with answering("server", search=search_of(without), issue__1=lambda _: raw_issue(1, 3)) as (connector, _):
        (item,) = all_of(connector).items

    assert len(issue_of(item.payload, ParseContext()).changes) == 3


def test_an_issue_that_cannot_be_taken_apart_is_set_aside_and_the_others_are_read() -> None:
    without_id = {key: value for key, value in raw_issue().items() if key != "id"}
    odd = raw_issue(3, fields="nonsense")
    with answering("server", search=search_of(without_id, odd, raw_issue(2), 5)) as (connector, _):
        page = all_of(connector)

    assert sorted(item.external_id for item in page.items) == ["2", "3"]
    assert {external_id for external_id, _, _ in page.failures} == {""}
    assert {json.dumps(json.loads(received)) for _, _, received in page.failures} == {json.dumps(without_id), "5"}


def test_a_page_with_half_a_surrogate_pair_is_mended() -> None:
    damaged = json.dumps(search_of(raw_issue(1, key="HALF"), raw_issue(2))({"startAt": 0})).replace(
        "HALF", "PAY-\\ud83d"
    )
    with answering("server", search=lambda _: damaged.encode()) as (connector, _):
        items = all_of(connector).items

    assert [json.loads(item.payload)["key"] for item in items] == ["PAY-\ufffd", "PAY-2"]


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"total":"x"}', b"", b"null", b'{"errorMessages":["no"]}'])
def test_an_answer_that_is_no_search_result_is_trouble_for_now(answer: bytes) -> None:
    with answering("server", search=lambda _: answer) as (connector, _), pytest.raises(TransientSourceError):
        all_of(connector)


def cloud_bulk(asked: dict[str, Any]) -> dict[str, Any]:
    issues = [{key: raw_issue(int(one))[key] for key in ("id", "key", "fields")} for one in asked["issueIdsOrKeys"]]
    return {"issues": issues, "issueErrors": []}


def test_a_search_that_pages_in_a_circle_is_given_up() -> None:
    def search(_: dict[str, Any]) -> dict[str, Any]:
        return {"issues": [{"id": "1"}], "nextPageToken": "again"}

    with (
        answering("cloud", search__jql=search, issue__bulkfetch=cloud_bulk) as (connector, server),
        pytest.raises(TransientSourceError, match="circle"),
    ):
        list(connector.listing(SCOPE, "issues"))
    assert len([path for path, _ in server.asked if path == "2/search/jql"]) == 2


def test_empty_pages_with_a_token_are_followed_but_not_for_ever() -> None:
    def search(asked: dict[str, Any]) -> dict[str, Any]:
        number = int(asked.get("nextPageToken", 0)) + 1
        found = [{"id": str(number)}] if number in {5, 10} else []
        return {"issues": found, "isLast": False, "nextPageToken": str(number)} if number < last else {"issues": found}

    last = 12
    with answering("cloud", search__jql=search) as (connector, _):
        assert [*connector.listing(SCOPE, "issues")] == [("5",), ("10",)]
        last = 10**9
        with pytest.raises(TransientSourceError, match="circle"):
            list(connector.listing(SCOPE, "issues"))


def test_histories_of_one_issue_may_be_spread_over_pages_and_come_twice() -> None:
    def changelogs(asked: dict[str, Any]) -> dict[str, Any]:
        number = int(asked.get("nextPageToken", 0))
        logs = [{"issueId": "1", "changeHistories": [history(number + 1), history(number + 2)]}]
        if number == 1:
            logs.append({"issueId": "2", "changeHistories": [history(50)]})
        return {"issueChangeLogs": logs} | ({"nextPageToken": str(number + 1)} if number < 3 else {})

    with answering(
        "cloud",
        search__jql=lambda _: {"issues": [{"id": "1"}, {"id": "2"}, {"id": "3"}]},
        issue__bulkfetch=cloud_bulk,
        v3_changelog__bulkfetch=changelogs,
    ) as (connector, _):
        issues = [issue_of(item.payload, ParseContext()) for item in all_of(connector).items]

    assert [[change.change_id for change in issue.changes] for issue in issues] == [
        ["1", "2", "3", "4", "5"],
        ["50"],
        [],
    ]


def test_issues_that_a_bulk_fetch_fails_at_are_asked_for_one_by_one() -> None:
    def bulk(_: dict[str, Any]) -> dict[str, Any]:
        errors = [{"id": str(number), "errorMessage": "too large"} for number in (1, 2, 3)]
        return {"issues": [raw_issue(4)], "issueErrors": errors}

    with answering(
        "cloud",
        search__jql=lambda _: {"issues": [{"id": str(number)} for number in (1, 2, 3, 4, 5)]},
        issue__bulkfetch=bulk,
        v3_changelog__bulkfetch=lambda _: {"issueChangeLogs": []},
        issue__1=lambda _: raw_issue(1),
        issue__2=lambda _: 413,
    ) as (connector, _):
        page = all_of(connector)

    assert [item.external_id for item in page.items] == ["4", "1"]
    ((external_id, reason, _),) = page.failures
    assert external_id == "2"
    assert "too large" in reason


def test_an_instance_that_tells_no_time_and_no_kind_is_a_server_by_its_headers() -> None:
    with answering("server", serverInfo=lambda _: {"version": "6.4"}, search=search_of(raw_issue(1))) as (connector, _):
        assert abs(connector.server_now() - datetime.now(UTC)) < timedelta(minutes=1)
        assert connector.probe().version == "6.4"
        assert len(all_of(connector).items) == 1


def test_an_anonymous_reader_is_not_asked_who_he_is() -> None:
    with answering("server", myself=lambda _: 401, search=search_of(raw_issue(1))) as (_, server):
        spec = ConnectionSpec(id=1, kind="jira", name="open", base_url=f"http://127.0.0.1:{server.server_port}/")
        connector = JiraConnector(spec, OpenGate())
        window = Window(since=datetime(2025, 1, 1, tzinfo=UTC))
        assert connector.probe().account == "anonymous"
        assert len(list(connector.pages(SCOPE, "issues", window))) == 1
        connector.close()
        (asked,) = [asked for path, asked in server.asked if path == "2/search"]

    assert 'updated >= "2024/12/30 22:00"' in asked["jql"]


def test_a_zone_that_only_java_knows_is_taken_for_hidden() -> None:
    with answering("server", myself=lambda _: {"timeZone": "SystemV/PST8"}, search=search_of(raw_issue(1))) as (
        connector,
        server,
    ):
        list(connector.pages(SCOPE, "issues", Window(since=datetime(2025, 1, 1, tzinfo=UTC))))
        assert len(connector.probe().remarks) == 1
        (asked,) = [asked for path, asked in server.asked if path == "2/search"]

    assert 'updated >= "2024/12/30 22:00"' in asked["jql"]


def test_a_connection_that_makes_no_sense_is_refused_at_once() -> None:
    for base_url, options in (
        ("jira.example.test", {}),
        ("ftp://jira.example.test", {}),
        ("https://jira.example.test", {"page_size": 3}),
        ("https://jira.example.test", {"page_size": "many"}),
        ("https://jira.example.test", {"page_size": 5001}),
    ):
        with pytest.raises(UsageError):
            JiraConnector(spec_of(base_url, "server", **options), OpenGate())
    with pytest.raises(UsageError, match="a user and no token"):
        JiraConnector(
            ConnectionSpec(id=1, kind="jira", name="x", base_url="https://x", auth={"user": "me"}), OpenGate()
        )
