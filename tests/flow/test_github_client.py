"""The GitHub connector against the simulated GitHub: what is collected equals the model, whatever happens meanwhile."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from connectors.base import ConnectionSpec, Item, OpenGate, Page, ParseContext, RateGate, ScopeSpec, Window
from connectors.github import api
from connectors.github.answers import KnownAnswers
from connectors.github.api import api_url_of
from connectors.github.client import FETCHERS_COUNT, GitHubConnector
from connectors.github.parse import parse
from connectors.github.simulated.rendering import ExpectedIssue, ExpectedPullRequest
from connectors.github.simulator import DEFAULT_NOW, FIRST_REPOSITORY_ID, GitHubSimulator, Thing
from connectors.github.streams import KIND
from models.errors import (
    AccessDeniedError,
    ForbiddenResourceError,
    GoneError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
    UsageError,
)
from models.records import Issue, MergeRequest

NAME = "acme/payments"
SCOPE = ScopeSpec(id=1, external_key=NAME)
OVERLAP = KIND.streams["merge_requests"].overlap
SECOND = timedelta(seconds=1)
LISTING = "*/issues"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a process keeps would outlive the simulator that said it, for another one may get its port.
    monkeypatch.setattr(api, "_KNOWN", KnownAnswers())


class Gate(OpenGate):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.blocked: list[tuple[str, datetime]] = []

    def block(self, key: str, until: datetime, reason: str = "") -> None:
        assert reason
        self.blocked.append((key, until))


@contextmanager
def connected(
    simulator: GitHubSimulator, *, gate: RateGate | None = None, token: str = "sim-token"
) -> Iterator[GitHubConnector]:
    with simulator.serve() as server:
        spec = ConnectionSpec(id=1, kind="github", name="sim", base_url=server.base_url, auth={"token": token})
        connector = GitHubConnector(spec, gate or OpenGate())
        try:
            yield connector
        finally:
            connector.close()


class Table:
    """What a sync keeps: the newest payload of each external id."""

    def __init__(self) -> None:
        self.payloads: dict[str, dict[str, bytes]] = {"merge_requests": {}, "issues": {}}
        self.received_count = 0

    def take(self, stream: str, pages: Iterable[Page]) -> None:
        for page in pages:
            assert page.failures == ()
            for item in page.items:
                self.received_count += 1
                self.payloads[stream][item.external_id] = item.payload

    def sync(self, connector: GitHubConnector, since: datetime | None = None) -> datetime:
        """Collect as a run does, from where the run before has begun less the overlap; where the next begins."""
        connector.check_scope(SCOPE)  # which tells the time as well
        started_at = connector.server_now()
        window = Window(since=since and since - OVERLAP, until=started_at)
        for stream in self.payloads:
            self.take(stream, connector.pages(SCOPE, stream, window))
        return started_at

    def pull_requests(self) -> list[MergeRequest]:
        parsed = (parse("merge_requests", each, ParseContext()) for each in self.payloads["merge_requests"].values())
        return sorted((batch.merge_requests[0] for batch in parsed), key=lambda record: record.iid)

    def issues(self) -> list[Issue]:
        parsed = (parse("issues", each, ParseContext()) for each in self.payloads["issues"].values())
        return sorted((batch.issues[0] for batch in parsed), key=lambda record: int(record.key.rpartition("#")[2]))


def shown(expected: ExpectedPullRequest) -> dict[str, object]:
    return {
        "id": str(expected.id),
        "number": expected.number,
        "name": expected.repository_name,
        "title": expected.title,
        "state": expected.state,
        "draft": expected.draft,
        "author": str(expected.author_id) if expected.author_id else None,
        "times": (expected.created_at, expected.updated_at, expected.merged_at, expected.closed_at, expected.ready_at),
        "merged_by": str(expected.merged_by_id) if expected.merged_by_id else None,
        "commits": (expected.commits, expected.first_commit_at),
        "comments": expected.comments,
        "first_review_at": expected.first_review_at,
        "standing": expected.standing_approval_at,
        "approvals": sorted((at, str(who), what) for who, at, what in expected.approvals),
        "events": sorted((at, name) for name, at in expected.state_events),
    }


def collected(record: MergeRequest) -> dict[str, object]:
    done = record.activities
    return {
        "id": record.external_id,
        "number": record.iid,
        "name": record.project_path,
        "title": record.title,
        "state": record.state,
        "draft": record.draft,
        "author": record.author.external_id if record.author else None,
        "times": (record.created_at, record.updated_at, record.merged_at, record.closed_at, record.ready_at),
        "merged_by": record.merged_by.external_id if record.merged_by else None,
        "commits": (record.commits_count, record.first_commit_at),
        "comments": record.notes_count,
        "first_review_at": record.first_review_at,
        "standing": record.approved_at,
        "approvals": sorted(
            (act.occurred_at, act.account_id or "", act.activity)
            for act in done
            if act.activity in ("approved", "unapproved")
        ),
        "events": sorted((act.occurred_at, act.activity) for act in done if act.external_id.startswith("event:")),
    }


def shown_issue(expected: ExpectedIssue) -> dict[str, object]:
    return {
        "key": f"{expected.repository_name}#{expected.number}",
        "title": expected.title,
        "status": "Open" if expected.is_open else "Closed",
        "type": "Bug" if expected.is_bug else "Issue",
        "times": (expected.created_at, expected.updated_at, expected.closed_at),
        "labels": expected.labels,
        "states": [("Closed" if name == "closed" else "Open", at) for name, at in expected.states],
    }


def collected_issue(record: Issue) -> dict[str, object]:
    return {
        "key": record.key,
        "title": record.summary,
        "status": record.status,
        "type": record.issue_type,
        "times": (record.created_at, record.updated_at, record.resolved_at),
        "labels": record.labels,
        "states": [(change.to_text, change.changed_at) for change in record.changes if change.field == "status"],
    }


def assert_equals_model(table: Table, simulator: GitHubSimulator) -> None:
    home = FIRST_REPOSITORY_ID
    pull_requests = [shown(each) for each in simulator.expected_pull_requests() if each.repository_id == home]
    assert [collected(record) for record in table.pull_requests()] == pull_requests
    issues = [shown_issue(each) for each in simulator.expected_issues() if each.repository_id == home]
    assert [collected_issue(record) for record in table.issues()] == issues
    assert simulator.requests.unknown == []
    assert simulator.requests.rejected == []


def things_of(simulator: GitHubSimulator) -> list[Thing]:
    return list(simulator.world.repository(None).by_number.values())


# --- complete and exact -----------------------------------------------------------------------------------------------


def test_a_first_sync_holds_everything_that_the_model_holds() -> None:
    simulator = GitHubSimulator(pull_requests=90, issues=60)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert table.received_count == 150
    assert_equals_model(table, simulator)


def test_a_pull_request_costs_four_requests_or_five_and_an_issue_one() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=30, latency_ms=2)
    with connected(simulator) as connector:
        Table().sync(connector)
    with_line_comments = sum(bool(thing.line_comments) for thing in things_of(simulator))
    assert 5 < with_line_comments < 40
    assert len(simulator.requests.matching("*/pulls/*")) == 40 * 3 + with_line_comments + 1  # 120 commits are two pages
    assert len(simulator.requests.matching("*/timeline")) == 40 + 1
    assert len(simulator.requests.matching("*/events")) == 30
    assert 1 < simulator.requests.concurrency_high_water <= FETCHERS_COUNT + 1


def test_every_request_names_the_version_and_carries_the_token() -> None:
    simulator = GitHubSimulator(pull_requests=2, issues=2)
    with connected(simulator) as connector:
        connector.probe()
        Table().sync(connector)
    assert all(entry.has_credentials for entry in simulator.requests)
    assert {entry.headers["x-github-api-version"] for entry in simulator.requests} == {"2022-11-28"}
    assert {entry.headers["accept"] for entry in simulator.requests} == {"application/vnd.github+json"}


def test_the_payload_is_what_was_received_byte_for_byte() -> None:
    simulator = GitHubSimulator(pull_requests=1, issues=0)
    (thing,) = things_of(simulator)
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "merge_requests", Window())
        (item,) = page.items
    payload = msgspec.json.decode(item.payload, type=dict[str, msgspec.Raw])
    assert bytes(payload["pull_request"]) == thing.rendered["pull"]
    assert bytes(payload["timeline"]) == b"[" + b",".join(thing.rendered["timeline"]) + b"]"
    assert bytes(payload["commits"]) == b"[" + b",".join(thing.rendered["commits"]) + b"]"
    assert item.external_id == f"{FIRST_REPOSITORY_ID}!{thing.number}"


def test_more_commits_than_github_lists_are_counted_and_the_first_is_among_them() -> None:
    simulator = GitHubSimulator(pull_requests=1, issues=0)
    (thing,) = things_of(simulator)
    simulator.push(thing.number, commits=300)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    (record,) = table.pull_requests()
    assert (record.commits_count, record.is_truncated) == (len(thing.commits), True)
    assert record.first_commit_at == min(commit.authored_at for commit in thing.commits)


def test_an_empty_repository_gives_no_page() -> None:
    with connected(GitHubSimulator(pull_requests=0, issues=0)) as connector:
        for stream in ("merge_requests", "issues"):
            assert list(connector.pages(SCOPE, stream, Window(until=DEFAULT_NOW))) == []
            assert connector.oldest_update(SCOPE, stream) is None
            assert list(connector.listing(SCOPE, stream)) == []


def test_the_two_statuses_need_no_request() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0)
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "statuses", Window(until=DEFAULT_NOW))
        fetched = connector.fetch(SCOPE, "statuses", ("open",))
        assert list(connector.listing(SCOPE, "statuses")) == [("open", "closed")]
    assert len(simulator.requests) == 0
    statuses = [parse("statuses", item.payload, ParseContext()).statuses[0] for item in page.items]
    assert [(status.name, status.category) for status in statuses] == [("Open", "new"), ("Closed", "done")]
    assert [item.external_id for item in fetched.items] == ["open"]


# --- while things change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_since_inclusive", [True, False])
def test_nothing_is_lost_or_doubled_when_records_change_between_pages(seed: int, is_since_inclusive: bool) -> None:
    simulator = GitHubSimulator(
        pull_requests=130, issues=200, seed=seed, is_clock_running=True, is_since_inclusive=is_since_inclusive
    )
    table = Table()
    with connected(simulator) as connector:
        simulator.mutate_every(requests=1, updates=7)
        started_at = table.sync(connector)
        started_at = table.sync(connector, started_at)
        simulator.mutate_every(requests=0, updates=0)
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


def test_a_row_that_is_updated_while_its_page_is_read_does_not_hide_the_next_one() -> None:
    simulator = GitHubSimulator(pull_requests=50, issues=200)
    by_age = sorted(things_of(simulator), key=lambda thing: thing.updated_at)
    moved = [thing.number for thing in by_age[:30]]

    def move(_: object) -> None:
        # After the first page: all thirty go to the end, and with page numbers the next page would skip thirty.
        if moved and len(simulator.requests.matching(LISTING)) == 2:
            simulator.clock.advance(timedelta(hours=1))
            while moved:
                simulator.rename(moved.pop(), "moved")

    simulator.on_request(move)
    table = Table()
    with connected(simulator) as connector:
        window = Window(until=DEFAULT_NOW)
        table.take("issues", connector.pages(SCOPE, "issues", window))
        table.take("merge_requests", connector.pages(SCOPE, "merge_requests", Window(until=connector.server_now())))
        table.take("issues", connector.pages(SCOPE, "issues", Window(since=DEFAULT_NOW, until=connector.server_now())))
    assert sum(map(len, table.payloads.values())) == 250
    assert_equals_model(table, simulator)


def test_what_is_updated_meanwhile_waits_for_the_next_window() -> None:
    simulator = GitHubSimulator(pull_requests=60, issues=0)
    with connected(simulator) as connector:
        started_at = connector.server_now()
        simulator.clock.advance(timedelta(minutes=5))
        late = f"{FIRST_REPOSITORY_ID}!{simulator.create_pull_request()}"
        first, second = Table(), Table()
        first.take("merge_requests", connector.pages(SCOPE, "merge_requests", Window(until=started_at)))
        again = Window(since=started_at, until=started_at + timedelta(minutes=6))
        second.take("merge_requests", connector.pages(SCOPE, "merge_requests", again))
    assert len(first.payloads["merge_requests"]) == 60
    assert late not in first.payloads["merge_requests"]
    assert late in second.payloads["merge_requests"]


def test_abutting_windows_miss_nothing_between_them() -> None:
    simulator = GitHubSimulator(pull_requests=60, issues=60)
    at = sorted(thing.updated_at for thing in things_of(simulator))
    edges = [None, at[20], at[21] + timedelta(milliseconds=300), at[60], at[119] + SECOND, DEFAULT_NOW]
    table = Table()
    with connected(simulator) as connector:
        for since, until in pairwise(edges):
            for stream in table.payloads:
                table.take(stream, connector.pages(SCOPE, stream, Window(since=since, until=until)))
    assert_equals_model(table, simulator)


# --- equal times ------------------------------------------------------------------------------------------------------


def in_one_moment(simulator: GitHubSimulator, count: int, *, seconds: int = 1) -> list[int]:
    """Have so many updated within a second, or a few, in the middle of the history."""
    rows = sorted(things_of(simulator), key=lambda thing: thing.updated_at)
    at = rows[len(rows) // 2].updated_at
    chosen = rows[: count // 2] + rows[-(count - count // 2) :]
    for position, row in enumerate(chosen):
        simulator.world.touch(row, at + SECOND * (position % seconds))
    return [row.number for row in chosen]


@pytest.mark.parametrize("is_since_inclusive", [True, False])
@pytest.mark.parametrize(
    ("count", "seconds"), [(99, 1), (100, 1), (101, 1), (230, 1), (150, 2), (230, 2), (230, 3), (300, 7)]
)
def test_a_bulk_edit_of_more_than_a_page_comes_whole_and_once(
    count: int, seconds: int, is_since_inclusive: bool
) -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=330, is_since_inclusive=is_since_inclusive)
    in_one_moment(simulator, count, seconds=seconds)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert table.received_count == 330
    assert_equals_model(table, simulator)


def test_a_bulk_edit_comes_whole_while_its_rows_are_edited_again() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=400, is_clock_running=True)
    again = in_one_moment(simulator, 330)

    def edit_again(_: object) -> None:
        if again and simulator.requests[-1].path.endswith("/issues"):
            for _ in range(9):
                simulator.rename(again.pop(0), "again")

    table = Table()
    with connected(simulator) as connector:
        started_at = connector.server_now()
        simulator.on_request(edit_again)
        table.sync(connector)
        edited = 330 - len(again)
        again.clear()
        assert edited >= 36
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


# --- being killed and going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_one_moment", [False, True])
def test_a_killed_run_goes_on_after_the_last_page_that_was_kept(is_one_moment: bool) -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=360)
    if is_one_moment:
        in_one_moment(simulator, 150)
    table = Table()
    window = Window(until=DEFAULT_NOW)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "issues", window)
        kept = [next(pages), next(pages)]
        pages.close()  # type: ignore[attr-defined]  # a generator
        table.take("issues", kept)
        ratios = [page.progress_ratio for page in kept]
    before = table.received_count
    assert before >= 110
    with connected(simulator) as connector:
        table.take("issues", connector.pages(SCOPE, "issues", window, kept[-1].resume_token))
    assert_equals_model(table, simulator)
    # What was kept is not fetched again, but for what shares its moment with the edge of a page.
    assert table.received_count <= 360 + (150 if is_one_moment else 2)
    assert all(ratio is not None and 0 <= ratio <= 1 for ratio in ratios)
    assert ratios == sorted(ratios)


def test_closing_the_pages_stops_the_requests() -> None:
    simulator = GitHubSimulator(pull_requests=200, issues=0)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "merge_requests", Window(until=DEFAULT_NOW))
        next(pages)
        pages.close()  # type: ignore[attr-defined]  # a generator
        asked = len(simulator.requests)
    assert asked < 900
    assert len(simulator.requests) <= asked + 5 * FETCHERS_COUNT  # the objects that were under way


# --- cheap where nothing changed --------------------------------------------------------------------------------------


def test_a_poll_of_a_repository_where_nothing_changed_counts_for_nothing() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=20)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
        simulator.clock.advance(timedelta(hours=3, minutes=15))
        started_at = table.sync(connector, DEFAULT_NOW + timedelta(hours=3, minutes=15))
        counted, asked = simulator.counted_count, len(simulator.requests)
        for _ in range(5):
            simulator.clock.advance(timedelta(minutes=5))
            started_at = table.sync(connector, started_at)
    assert simulator.counted_count == counted
    assert (
        len(simulator.requests) == asked + 15
    )  # once for the repository and once for each stream, and each is told that nothing is new


def test_a_changed_pull_request_costs_its_own_requests_only() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=20)
    table = Table()
    with connected(simulator) as connector:
        started_at = table.sync(connector)
        simulator.clock.advance(timedelta(hours=2))
        number = next(thing.number for thing in things_of(simulator) if thing.is_pull_request and thing.is_open)
        simulator.review(number, "APPROVED")
        simulator.clock.advance(timedelta(minutes=1))
        counted = simulator.counted_count
        table.sync(connector, started_at + timedelta(hours=1))
    assert simulator.counted_count - counted <= 7  # two listings, and the five of the pull request
    assert_equals_model(table, simulator)


def test_an_answer_that_cannot_be_read_is_not_kept() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=3, faults="truncate:1x:path=*/issues")
    table = Table()
    with connected(simulator) as connector:
        with pytest.raises(TransientSourceError):
            table.sync(connector)
        table.sync(connector)
    assert_equals_model(table, simulator)


def test_what_is_kept_stays_within_its_bounds() -> None:
    bodies = {number: random.Random(number).randbytes(30) for number in range(20)}  # which no compression makes smaller
    known = KnownAnswers(kept_bytes=3 * len(zlib.compress(bodies[0], 1)))
    for number in range(10):
        known.keep("me", f"/{number}", bodies[number], {"ETag": str(number), "Link": "<next>", "Date": "now"})
    assert known.get("me", "/6") is None
    assert known.get("me", "/7") == ("7", bodies[7], {"Link": "<next>"})
    assert known.get("you", "/9") is None
    known.get("me", "/7")
    known.keep("me", "/10", bodies[10], {"ETag": "10"})
    assert known.get("me", "/7") is not None  # used a moment ago
    assert known.get("me", "/8") is None
    known.keep("me", "/7", bodies[11], {"ETag": "new"})
    assert known.get("me", "/7") == ("new", bodies[11], {})
    known.keep("me", "/11", b"z", {})
    assert known.get("me", "/11") is None  # nothing to ask by


# --- scopes, ids, and what is hidden ----------------------------------------------------------------------------------


def test_a_renamed_repository_is_read_on_under_its_old_name() -> None:
    simulator = GitHubSimulator(pull_requests=20, issues=10)
    table = Table()
    simulator.rename_repository(FIRST_REPOSITORY_ID, name="umbrella/pay")
    with connected(simulator) as connector:
        assert connector.check_scope(SCOPE) == "umbrella/pay"
        table.sync(connector)
    assert_equals_model(table, simulator)
    assert {record.project_key for record in table.issues()} == {NAME}  # what the scope calls it
    assert {name.partition("!")[0] for name in table.payloads["merge_requests"]} == {str(FIRST_REPOSITORY_ID)}
    assert {entry.path for entry in simulator.requests if entry.status == 301} == {f"/api/v3/repos/{NAME}"}


def test_a_scope_may_be_a_number_and_the_case_of_a_name_does_not_matter() -> None:
    with connected(GitHubSimulator(pull_requests=3, issues=0)) as connector:
        assert connector.check_scope(ScopeSpec(id=1, external_key=str(FIRST_REPOSITORY_ID))) == NAME
        assert connector.check_scope(ScopeSpec(id=1, external_key="ACME/Payments")) == NAME


@pytest.mark.parametrize("key", ["payments", "a/b/c", "acme/pay ments", "acme/../x", ""])
def test_what_is_no_repository_is_refused_before_anything_is_asked(key: str) -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0)
    with connected(simulator) as connector, pytest.raises(UsageError):
        connector.check_scope(ScopeSpec(id=1, external_key=key))
    assert len(simulator.requests) == 0


def test_a_hidden_repository_is_gone() -> None:
    simulator = GitHubSimulator(pull_requests=3, issues=3)
    simulator.hide_repository(NAME)
    with connected(simulator) as connector, pytest.raises(GoneError):
        connector.check_scope(SCOPE)


def test_a_repository_that_is_hidden_while_it_is_read_ends_the_run() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=0)
    simulator.on_request(lambda _: simulator.hide_repository(NAME) if len(simulator.requests) == 30 else None)
    with connected(simulator) as connector, pytest.raises(GoneError):
        Table().sync(connector)


def test_one_that_is_withdrawn_between_two_requests_is_set_aside() -> None:
    simulator = GitHubSimulator(pull_requests=10, issues=0, faults="404:1x:path=*/pulls/3")
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "merge_requests", Window())
    assert len(page.items) == 9
    ((name, reason, received),) = page.failures
    assert (name, "404" in reason) == (f"{FIRST_REPOSITORY_ID}!3", True)
    assert msgspec.json.decode(received)["number"] == 3


@pytest.mark.parametrize("status", [403, 404])
def test_a_part_that_the_token_may_not_see_is_a_gap(status: int) -> None:
    simulator = GitHubSimulator(pull_requests=5, issues=0, faults=f"{status}:1:path=*/reviews")
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "merge_requests", Window())
    assert page.failures == ()
    assert all(msgspec.json.decode(item.payload)["reviews"] is None for item in page.items)


def test_the_listing_names_everything_once() -> None:
    simulator = GitHubSimulator(pull_requests=120, issues=130)
    with connected(simulator) as connector:
        for stream, mark, wanted in (("merge_requests", "!", 120), ("issues", "#", 130)):
            names = [name for batch in connector.listing(SCOPE, stream) for name in batch]
            assert len(names) == len(set(names)) == wanted
            assert all(name.startswith(f"{FIRST_REPOSITORY_ID}{mark}") for name in names)


def test_fetching_by_id_gives_what_the_pages_give() -> None:
    simulator = GitHubSimulator(pull_requests=12, issues=12)
    with connected(simulator) as connector:
        for stream in ("merge_requests", "issues"):
            wanted = {
                item.external_id: item for page in connector.pages(SCOPE, stream, Window()) for item in page.items
            }
            names = (*list(wanted)[:5], f"{FIRST_REPOSITORY_ID}!999", f"{FIRST_REPOSITORY_ID}#999", "5!1", "nonsense")
            page = connector.fetch(SCOPE, stream, names)
            assert page.items == tuple(wanted[name] for name in names[:5])


def test_fetching_gives_no_pull_request_as_an_issue_and_none_that_was_deleted() -> None:
    simulator = GitHubSimulator(pull_requests=5, issues=5)
    pull_request = next(thing.number for thing in things_of(simulator) if thing.is_pull_request)
    deleted = next(thing.number for thing in things_of(simulator) if not thing.is_pull_request)
    simulator.delete_issue(deleted)
    with connected(simulator) as connector:
        names = tuple(f"{FIRST_REPOSITORY_ID}#{number}" for number in (pull_request, deleted))
        assert connector.fetch(SCOPE, "issues", names).items == ()
        assert connector.fetch(SCOPE, "merge_requests", (f"{FIRST_REPOSITORY_ID}!{deleted}",)).items == ()


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_probe_says_who_what_and_when() -> None:
    with connected(GitHubSimulator(pull_requests=0, issues=0)) as connector:
        probe = connector.probe()
    assert (probe.product, probe.version, probe.account) == ("GitHub Enterprise Server", "3.17.2", "sync-service")
    assert DEFAULT_NOW <= probe.server_now < DEFAULT_NOW + timedelta(minutes=1)
    assert probe.remarks == ()


def test_a_probe_of_an_app_s_installation_and_of_a_token_that_sees_nothing() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0, faults="403:1:path=*/user")
    simulator.hide_repository(NAME)
    with connected(simulator) as connector:
        probe = connector.probe()
    assert probe.account == "an app's installation"
    assert probe.remarks == ("The token sees no repository.",)


def test_a_wrong_token_is_denied_and_never_told() -> None:
    with connected(GitHubSimulator(), token="ghp_wrong") as connector, pytest.raises(AccessDeniedError) as raised:
        connector.probe()
    assert "ghp_wrong" not in str(raised.value)


def test_an_address_without_a_github_is_one_clear_sentence() -> None:
    simulator = GitHubSimulator(faults="404:1")
    with connected(simulator) as connector, pytest.raises(SourceRequestError, match="There is no GitHub"):
        connector.probe()


@pytest.mark.parametrize(
    ("base_url", "api_url"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://www.github.com/", "https://api.github.com"),
        ("https://api.github.com", "https://api.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com"),
        ("https://git.acme.example", "https://git.acme.example/api/v3"),
        ("https://git.acme.example:8443/", "https://git.acme.example:8443/api/v3"),
        ("https://git.acme.example/api/v3", "https://git.acme.example/api/v3"),
        ("https://notgithub.com", "https://notgithub.com/api/v3"),
    ],
)
def test_the_api_is_found_from_the_address_that_people_know(base_url: str, api_url: str) -> None:
    assert api_url_of(base_url) == api_url


@pytest.mark.parametrize(("base_url", "auth"), [("github.com", {"token": "x"}), ("https://github.com", {})])
def test_a_connection_that_cannot_work_is_refused_at_once(base_url: str, auth: dict[str, str]) -> None:
    spec = ConnectionSpec(id=1, kind="github", name="sim", base_url=base_url, auth=auth)
    with pytest.raises(UsageError):
        GitHubConnector(spec, OpenGate())


def test_a_stream_that_there_is_not_is_refused() -> None:
    with connected(GitHubSimulator(pull_requests=0, issues=0)) as connector:
        calls: list[Callable[[], object]] = [
            lambda: connector.pages(SCOPE, "wikis", Window()),
            lambda: list(connector.listing(SCOPE, "wikis")),
            lambda: connector.fetch(SCOPE, "wikis", ()),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ("401:1:after=5", AccessDeniedError),
        ("403:1:path=*/pulls/*", ForbiddenResourceError),
        ("500:1:after=5", TransientSourceError),
        ("truncate:1:after=5", TransientSourceError),
        ("html:1:after=5", TransientSourceError),
        ("redirect:1:after=3:to=other", SourceRequestError),
        ("410:1:after=3", SourceRequestError),
    ],
)
def test_trouble_becomes_the_error_that_carries_its_verdict(faults: str, error: type[SourceError]) -> None:
    simulator = GitHubSimulator(pull_requests=10, issues=5, faults=faults)
    with connected(simulator) as connector, pytest.raises(error):
        Table().sync(connector)
    assert all(not entry.has_credentials for entry in simulator.requests if entry.host.startswith("localhost"))


def test_a_secondary_limit_that_names_a_time_and_one_that_does_not() -> None:
    for faults, seconds in (("429:1:after=4:retry-after=30", 30), ("429:1:after=4", 60)):
        gate = Gate()
        simulator = GitHubSimulator(pull_requests=10, issues=5, faults=faults)
        with connected(simulator, gate=gate) as connector, pytest.raises(RateLimitedError) as raised:
            Table().sync(connector)
        assert raised.value.retry_at is not None
        assert gate.blocked
        until = gate.blocked[0][1]
        waits_seconds = (until - datetime.now(until.tzinfo)).total_seconds()
        assert seconds - 20 < waits_seconds <= seconds


def test_the_hour_s_requests_may_be_spent() -> None:
    simulator = GitHubSimulator(pull_requests=40, issues=0, rate_limit_per_hour=50)
    with connected(simulator) as connector, pytest.raises(RateLimitedError) as raised:
        Table().sync(connector)
    assert raised.value.retry_at is not None
    assert raised.value.facts["status"] == 403


def test_a_row_that_cannot_be_read_is_a_failure_and_the_rest_comes() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=8)
    broken, other = things_of(simulator)[2:4]
    with connected(simulator) as connector:
        list(connector.pages(SCOPE, "issues", Window()))
        broken.rendered["row"] = broken.rendered["row"].replace(b'"updated_at":"', b'"updated_at":"x')
        other.rendered["row"] = b'{"number": "none"}'
        (page,) = connector.pages(SCOPE, "issues", Window())
    assert len(page.items) == 6
    assert [name.partition("-")[0] for name, _, _ in page.failures] == ["unreadable"] * 2
    assert all("updated_at" in reason or "missing" in reason or "number" in reason for _, reason, _ in page.failures)


def test_items_are_what_the_contract_says() -> None:
    with connected(GitHubSimulator(pull_requests=3, issues=3)) as connector:
        for stream in KIND.streams:
            for page in connector.pages(SCOPE, stream, Window()):
                assert all(isinstance(item, Item) and item.payload.startswith(b"{") for item in page.items)
