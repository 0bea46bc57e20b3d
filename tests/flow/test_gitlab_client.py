"""The GitLab connector against the simulated GitLab: what is collected equals the model, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from connectors.base import ConnectionSpec, Item, OpenGate, Page, ParseContext, RateGate, ScopeSpec, Window
from connectors.gitlab.client import FETCHERS_COUNT, GitLabConnector
from connectors.gitlab.parse import parse
from connectors.gitlab.simulator import (
    DEFAULT_NOW,
    FIRST_PROJECT_ID,
    TOKEN_USER_ID,
    ExpectedMergeRequest,
    GitLabSimulator,
    MergeRequest,
)
from connectors.gitlab.streams import KIND
from models.errors import (
    AccessDeniedError,
    GoneError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
    UsageError,
)
from models.records import MergeRequest as Record

SCOPE = ScopeSpec(id=1, external_key=str(FIRST_PROJECT_ID))
OVERLAP = KIND.streams["merge_requests"].overlap
ONE_MS = timedelta(milliseconds=1)


class Gate(OpenGate):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.blocked: list[tuple[str, datetime]] = []

    def block(self, key: str, until: datetime, reason: str = "") -> None:
        assert reason
        self.blocked.append((key, until))


@contextmanager
def connected(
    simulator: GitLabSimulator, *, gate: RateGate | None = None, token: str = "sim-token", **options: str
) -> Iterator[GitLabConnector]:
    with simulator.serve() as server:
        spec = ConnectionSpec(
            id=1,
            kind="gitlab",
            name="sim",
            base_url=server.base_url,
            auth={"token": token},
            options={"graphql": "off"} | options,
        )
        connector = GitLabConnector(spec, gate or OpenGate())
        try:
            yield connector
        finally:
            connector.close()


class Table:
    """What a sync keeps: the newest payload of each external id."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.received_count = 0

    def take(self, pages: Iterable[Page]) -> None:
        for page in pages:
            assert page.failures == ()
            for item in page.items:
                self.received_count += 1
                self.payloads[item.external_id] = item.payload

    def sync(self, connector: GitLabConnector, since: datetime | None = None) -> datetime:
        """Collect as a run does, from where the run before has begun less the overlap; where the next begins."""
        started_at = connector.server_now()
        window = Window(since=since and since - OVERLAP, until=started_at)
        self.take(connector.pages(SCOPE, "merge_requests", window))
        return started_at

    def records(self) -> list[Record]:
        records = [record_of(payload) for payload in self.payloads.values()]
        return sorted(records, key=lambda record: record.iid)


def record_of(payload: bytes) -> Record:
    (record,) = parse("merge_requests", payload, ParseContext()).merge_requests
    return record


def cut(at: datetime | None) -> datetime | None:
    """To milliseconds, as the API shows times."""
    return at and at.replace(microsecond=at.microsecond // 1000 * 1000)


def shown(expected: ExpectedMergeRequest) -> dict[str, object]:
    """What the model says about the parts that make or break a sync."""
    return {
        "id": str(expected.id),
        "iid": expected.iid,
        "path": expected.project_path,
        "title": expected.title,
        "state": expected.state,
        "draft": expected.draft,
        "author": str(expected.author_id) if expected.author_id else None,
        "created_at": cut(expected.created_at),
        "updated_at": cut(expected.updated_at),
        "ready_at": cut(expected.ready_at),
        "sha": expected.sha,
        "commits": len(expected.commit_shas),
        "first_commit_at": expected.first_commit_at,
        "first_review_at": cut(expected.first_review_at),
        "approvals": sorted(
            (cut(at), str(who), action)
            for who, at, action in expected.approvals
            if action != "reset" and who != expected.author_id
        ),
        "state_events": sorted((cut(at), state) for _, state, at in expected.state_events),
    }


def collected(record: Record) -> dict[str, object]:
    """The same parts of a record."""
    done = record.activities
    return {
        "id": record.external_id,
        "iid": record.iid,
        "path": record.project_path,
        "title": record.title,
        "state": record.state,
        "draft": record.draft,
        "author": record.author.external_id if record.author else None,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "ready_at": record.ready_at,
        "sha": record.sha,
        "commits": record.commits_count,
        "first_commit_at": record.first_commit_at,
        "first_review_at": record.first_review_at,
        "approvals": sorted(
            (act.occurred_at, act.account_id or "", act.activity)
            for act in done
            if act.activity in ("approved", "unapproved")
        ),
        "state_events": sorted((act.occurred_at, act.activity) for act in done if act.external_id.startswith("state:")),
    }


def assert_equals_model(table: Table, simulator: GitLabSimulator) -> None:
    wanted = [shown(expected) for expected in simulator.expected() if expected.project_id == FIRST_PROJECT_ID]
    assert [collected(record) for record in table.records()] == wanted
    assert simulator.requests.unknown == []
    assert simulator.requests.rejected == []


def merge_requests_of(simulator: GitLabSimulator) -> list[MergeRequest]:
    return list(simulator.world.project(None).by_iid.values())


# --- complete and exact -----------------------------------------------------------------------------------------------


def test_a_first_sync_holds_everything_that_the_model_holds() -> None:
    simulator = GitLabSimulator(merge_requests=150)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert len(table.payloads) == table.received_count == 150
    assert_equals_model(table, simulator)


def test_merging_closing_and_standing_approvals_are_as_the_model_has_them() -> None:
    simulator = GitLabSimulator(merge_requests=100)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    estimated = 0
    for record, expected in zip(table.records(), simulator.expected(), strict=True):
        if expected.state != "merged":
            assert record.merged_at is None
        elif record.merged_at_is_estimated:
            estimated += 1
            assert record.merged_at == record.updated_at
            assert expected.merged_at_shown is None
        else:
            assert record.merged_at == cut(expected.merged_at)
            assert (record.merged_by and record.merged_by.external_id) in (str(expected.merged_by_id), None)
        assert record.closed_at == (cut(expected.closed_at) if expected.state == "closed" else None)
        author_id = expected.author_id
        people = [at for who, at in expected.standing_approvals if who not in (author_id, TOKEN_USER_ID)]
        assert record.approved_at == cut(max(people, default=None))
        assert record.is_truncated is False
    assert estimated == 2  # the two in a hundred that have lost their times and every trace of them


def test_a_merge_request_costs_four_requests_and_the_fetchers_work_at_once() -> None:
    simulator = GitLabSimulator(merge_requests=100, latency_ms=2)
    with connected(simulator) as connector:
        Table().sync(connector)
        listings = simulator.requests.matching("*/merge_requests")
        parts = simulator.requests.matching("*/merge_requests/*")
        assert len(parts) == 400
        assert len(listings) == 1
        assert 1 < simulator.requests.concurrency_high_water <= FETCHERS_COUNT + 1


def test_the_payload_is_what_was_received_byte_for_byte() -> None:
    simulator = GitLabSimulator(merge_requests=1)
    (merge_request,) = merge_requests_of(simulator)
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "merge_requests", Window())
        (item,) = page.items
    payload = msgspec.json.decode(item.payload, type=dict[str, msgspec.Raw])
    assert bytes(payload["merge_request"]) == merge_request.rendered["row"]
    assert bytes(payload["notes"]) == b"[" + b",".join(merge_request.rendered["notes:created_at:asc"]) + b"]"
    assert bytes(payload["commits"]) == b"[" + b",".join(merge_request.rendered["commits"]) + b"]"
    assert bytes(payload["approvals"]) == merge_request.rendered["approvals"]
    assert bytes(payload["truncated"]) == b"false"
    assert item.external_id == f"{FIRST_PROJECT_ID}!{merge_request.iid}"


def test_an_empty_project_gives_no_page() -> None:
    with connected(GitLabSimulator(merge_requests=0)) as connector:
        assert list(connector.pages(SCOPE, "merge_requests", Window(until=DEFAULT_NOW))) == []
        assert connector.oldest_update(SCOPE, "merge_requests") is None
        assert connector.oldest_update(SCOPE, "events") is None
        assert list(connector.listing(SCOPE, "merge_requests")) == []


# --- while things change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_doubled_when_records_change_between_pages(seed: int) -> None:
    simulator = GitLabSimulator(merge_requests=330, seed=seed, is_clock_running=True)
    table = Table()
    with connected(simulator) as connector:
        simulator.mutate_every(requests=1, updates=7)
        started_at = table.sync(connector)
        started_at = table.sync(connector, started_at)
        simulator.mutate_every(requests=0, updates=0)
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


def test_a_row_that_is_updated_while_its_page_is_read_does_not_hide_the_next_one() -> None:
    simulator = GitLabSimulator(merge_requests=250)
    by_age = sorted(merge_requests_of(simulator), key=lambda merge_request: merge_request.updated_at)
    moved = [merge_request.iid for merge_request in by_age[:30]]

    def move(_: object) -> None:
        # After the first page: all thirty go to the end, and with page numbers the next page would skip thirty.
        if moved and len(simulator.requests.matching("*/merge_requests")) == 2:
            simulator.clock.advance(timedelta(hours=1))
            while moved:
                simulator.update_merge_request(moved.pop(), title="moved")

    simulator.on_request(move)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert len(table.payloads) == 250


def test_what_is_updated_meanwhile_waits_for_the_next_window() -> None:
    simulator = GitLabSimulator(merge_requests=120)
    with connected(simulator) as connector:
        started_at = connector.server_now()
        simulator.clock.advance(timedelta(minutes=5))
        late = simulator.create_merge_request()
        first, second = Table(), Table()
        first.take(connector.pages(SCOPE, "merge_requests", Window(until=started_at)))
        second.take(connector.pages(SCOPE, "merge_requests", Window(since=started_at, until=connector.server_now())))
    late_id = f"{FIRST_PROJECT_ID}!{late}"
    assert len(first.payloads) == 120
    assert late_id not in first.payloads
    assert late_id in second.payloads


def test_abutting_windows_miss_nothing_between_them() -> None:
    simulator = GitLabSimulator(merge_requests=120)
    at = sorted(merge_request.updated_at for merge_request in merge_requests_of(simulator))
    # Edges on the very instants of updates, with microseconds that the API does not show.
    edges = [None, at[20], at[21], at[60], at[119] + ONE_MS, DEFAULT_NOW]
    table = Table()
    with connected(simulator) as connector:
        for since, until in pairwise(edges):
            table.take(connector.pages(SCOPE, "merge_requests", Window(since=since, until=until)))
    assert_equals_model(table, simulator)


def test_a_note_that_does_not_touch_the_merge_request_is_found_by_the_next_run() -> None:
    simulator = GitLabSimulator(merge_requests=60, is_clock_running=True)
    iid = next(mr.iid for mr in merge_requests_of(simulator) if mr.state == "opened")
    table = Table()
    with connected(simulator) as connector:
        simulator.update_merge_request(iid, title="fresh")
        simulator.clock.advance(timedelta(seconds=10))
        started_at = table.sync(connector)
        touched_at = simulator.merge_request(iid).updated_at
        simulator.add_note(iid, "within a minute of the last update", by=2005)
        simulator.approve(iid, by=2006)
        assert simulator.merge_request(iid).updated_at == touched_at
        simulator.clock.advance(timedelta(minutes=9))
        table.sync(connector, started_at)
    assert_equals_model(table, simulator)


# --- equal times ------------------------------------------------------------------------------------------------------


def in_one_instant(simulator: GitLabSimulator, count: int, *, is_created_too: bool = False) -> list[int]:
    """Have so many updated in the same microseconds of one millisecond, in the middle of the history."""
    rows = sorted(merge_requests_of(simulator), key=lambda merge_request: merge_request.updated_at)
    at = rows[len(rows) // 2].updated_at.replace(microsecond=345_000)
    chosen = rows[: count // 2] + rows[-(count - count // 2) :]
    project = simulator.world.project(None)
    for position, row in enumerate(chosen):
        simulator.world.save(row, at + timedelta(microseconds=position % 1000))
        if is_created_too:
            project.by_created.discard(row.created_at, row.id)
            was_ready_at_once = row.ready_at == row.created_at
            row.created_at = at - timedelta(days=300)
            project.by_created.add(row.created_at, row.id)
            row.ready_at = row.created_at if was_ready_at_once else row.ready_at
            row.rendered = {}
    return [row.iid for row in chosen]


@pytest.mark.parametrize(
    ("count", "has_tie_breaker"), [(99, True), (100, True), (101, False), (230, True), (230, False)]
)
def test_a_bulk_edit_of_more_than_a_page_comes_whole_and_once(count: int, has_tie_breaker: bool) -> None:
    simulator = GitLabSimulator(merge_requests=260, tie_breaker=has_tie_breaker)
    in_one_instant(simulator, count)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert table.received_count == 260
    assert_equals_model(table, simulator)


def test_a_bulk_edit_comes_whole_while_its_rows_are_edited_again() -> None:
    simulator = GitLabSimulator(merge_requests=400, is_clock_running=True)
    again = in_one_instant(simulator, 330)

    def edit_again(_: object) -> None:
        if again and simulator.requests[-1].path.endswith("/merge_requests"):
            for _ in range(9):
                simulator.update_merge_request(again.pop(0), title="again")

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


def test_an_import_where_all_times_are_equal_comes_whole() -> None:
    simulator = GitLabSimulator(merge_requests=260)
    in_one_instant(simulator, 250, is_created_too=True)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
        names = [name for batch in connector.listing(SCOPE, "merge_requests") for name in batch]
    assert_equals_model(table, simulator)
    assert sorted(names) == sorted(table.payloads)


# --- being killed and going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_one_instant", [False, True])
def test_a_killed_run_goes_on_after_the_last_page_that_was_kept(is_one_instant: bool) -> None:
    simulator = GitLabSimulator(merge_requests=360)
    if is_one_instant:
        in_one_instant(simulator, 340)
    table = Table()
    window = Window(until=DEFAULT_NOW)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "merge_requests", window)
        kept = [next(pages), next(pages)]
        pages.close()
        table.take(kept)
        ratios = [page.progress_ratio for page in kept]
    assert len(table.payloads) >= 110
    simulator.requests.clear()
    with connected(simulator) as connector:
        table.take(connector.pages(SCOPE, "merge_requests", window, kept[-1].resume_token))
    assert_equals_model(table, simulator)
    # What was kept is not fetched again, but for what shares its instant with the edge of a page.
    assert table.received_count <= 360 + (100 if is_one_instant else 2)
    assert all(ratio is not None and 0 <= ratio <= 1 for ratio in ratios)
    assert ratios == sorted(ratios)


def test_progress_reaches_the_end_with_the_last_page() -> None:
    simulator = GitLabSimulator(merge_requests=220)
    last_at = max(merge_request.updated_at for merge_request in merge_requests_of(simulator))
    with connected(simulator) as connector:
        ratios = [page.progress_ratio for page in connector.pages(SCOPE, "merge_requests", Window(until=last_at))]
    assert ratios[-1] == pytest.approx(1.0)


def test_closing_the_pages_stops_the_requests() -> None:
    simulator = GitLabSimulator(merge_requests=300)
    with connected(simulator) as connector:
        pages = connector.pages(SCOPE, "merge_requests", Window(until=DEFAULT_NOW))
        next(pages)
        pages.close()
    assert simulator.requests.count < 600


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ("500:4x:path=*/merge_requests", TransientSourceError),
        ("500:1.0:path=*/notes:after=30", TransientSourceError),
        ("520:1.0:path=*/commits", TransientSourceError),
        ("502:4x:path=*/merge_requests", TransientSourceError),
        ("truncate:1x:path=*/merge_requests", TransientSourceError),
        ("truncate:1x:path=*/approvals:after=3", TransientSourceError),
        ("truncate:1x:path=*/resource_state_events", TransientSourceError),
        ("html:1.0:path=*/notes", TransientSourceError),
        ("401:1:after=50", AccessDeniedError),
        ("403:1:path=*/merge_requests", SourceError),
        ("400:1x:path=*/merge_requests", SourceRequestError),
        ("429:1x:path=*/commits:after=10", RateLimitedError),
        ("redirect:1x:to=other:path=*/notes", SourceRequestError),
    ],
)
def test_trouble_is_an_error_and_never_a_shorter_listing(faults: str, expected: type[Exception]) -> None:
    simulator = GitLabSimulator(merge_requests=120, faults=faults)
    with connected(simulator) as connector, pytest.raises(expected):
        Table().sync(connector)


def test_what_breaks_off_for_a_moment_is_not_noticed() -> None:
    faults = "reset:2x:path=*/notes,503:2x:path=*/commits,reset:2x:path=*/merge_requests,redirect:0.05"
    simulator = GitLabSimulator(merge_requests=120, faults=faults)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert_equals_model(table, simulator)


@pytest.mark.parametrize("retry_after", ["7", "date"])
def test_a_limit_blocks_the_gate_for_everybody_until_the_time_that_was_named(retry_after: str) -> None:
    gate = Gate()
    faults = f"429:1x:path=*/notes:retry-after={retry_after}"
    simulator = GitLabSimulator(merge_requests=50, faults=faults)
    with connected(simulator, gate=gate) as connector, pytest.raises(RateLimitedError) as caught:
        Table().sync(connector)
    ((key, until),) = gate.blocked
    assert caught.value.retry_at == until
    assert until <= datetime.now(UTC) + timedelta(seconds=7)
    assert "sim-token" not in key


def test_a_limit_by_the_minute_ends_a_run_and_its_last_token_goes_on() -> None:
    simulator = GitLabSimulator(merge_requests=150, rate_limit_per_minute=450)
    table = Table()
    window = Window(until=DEFAULT_NOW)
    kept: list[Page] = []
    with connected(simulator) as connector:
        with pytest.raises(RateLimitedError):
            kept.extend(connector.pages(SCOPE, "merge_requests", window))
        table.take(kept)
        assert len(table.payloads) == 100
        simulator._bucket = None
        table.take(connector.pages(SCOPE, "merge_requests", window, kept[-1].resume_token))
    assert_equals_model(table, simulator)


@pytest.mark.parametrize("status", [403, 404])
def test_a_part_that_is_hidden_for_one_merge_request_is_absent_and_the_rest_is_there(status: int) -> None:
    simulator = GitLabSimulator(merge_requests=20, faults=f"{status}:1:path=*/merge_requests/7/notes")
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    payload = msgspec.json.decode(table.payloads[f"{FIRST_PROJECT_ID}!7"])
    assert payload["notes"] is None
    assert payload["commits"]
    assert payload["approvals"] is not None
    record = next(record for record in table.records() if record.iid == 7)
    expected = next(expected for expected in simulator.expected() if expected.iid == 7)
    assert record.notes_count == len(expected.human_note_ids)
    assert record.commits_count == len(expected.commit_shas)


def test_approvals_that_an_instance_does_not_have_are_read_from_the_notes() -> None:
    simulator = GitLabSimulator(merge_requests=100, faults="404:1:path=*/approvals")
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert_equals_model(table, simulator)
    for record, expected in zip(table.records(), simulator.expected(), strict=True):
        standing = [at for who, at in expected.standing_approvals if who != expected.author_id]
        assert record.approved_at == cut(max(standing, default=None))


def test_a_project_that_is_hidden_while_it_is_read_is_an_error_and_not_a_row_of_absent_parts() -> None:
    simulator = GitLabSimulator(merge_requests=80)

    def hide(_: object) -> None:
        if simulator.requests.count == 120:
            simulator.hide_project(FIRST_PROJECT_ID)

    simulator.on_request(hide)
    table = Table()
    with connected(simulator) as connector, pytest.raises(GoneError):
        table.sync(connector)
    assert table.payloads == {}


def test_a_merge_request_that_is_deleted_while_it_is_read_does_not_stop_the_others() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    doomed = merge_requests_of(simulator)[-1].iid

    def delete(_: object) -> None:
        is_there = doomed in simulator.world.project(None).by_iid
        if is_there and simulator.requests.matching("*/merge_requests/*"):
            simulator.delete_merge_request(doomed)

    simulator.on_request(delete)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
        assert len(table.payloads) == 80
        name = f"{FIRST_PROJECT_ID}!{doomed}"
        assert msgspec.json.decode(table.payloads[name])["notes"] is None
        assert connector.fetch(SCOPE, "merge_requests", (name,)).items == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"null", "Expected `object`, got `null`"),
        (b'"text"', "Expected `object`, got `str`"),
        (b'{"id":1,"iid":5,"created_at":"2026-01-01T00:00:00Z"}', "updated_at: missing"),
        (b'{"id":1,"iid":5,"created_at":"2026-01-01T00:00:00Z","updated_at":"soon"}', "updated_at: "),
    ],
)
def test_one_row_that_cannot_be_read_is_one_failure_and_the_rest_comes(row: bytes, reason: str) -> None:
    simulator = GitLabSimulator(merge_requests=130)
    merge_requests_of(simulator)[4].rendered["row"] = row
    with connected(simulator) as connector:
        pages = list(connector.pages(SCOPE, "merge_requests", Window(until=DEFAULT_NOW)))
    (failure,) = [failure for page in pages for failure in page.failures]
    assert failure[0].startswith(f"{FIRST_PROJECT_ID}!")
    assert reason in failure[1]
    assert failure[2] == row
    assert sum(len(page.items) for page in pages) == 129


def test_a_page_without_one_readable_row_does_not_end_the_listing() -> None:
    simulator = GitLabSimulator(merge_requests=230)
    rows = sorted(merge_requests_of(simulator), key=lambda merge_request: merge_request.updated_at)
    for number, merge_request in enumerate(rows[:110]):
        merge_request.rendered["row"] = b'{"iid":"%d"}' % number
    with connected(simulator) as connector:
        pages = list(connector.pages(SCOPE, "merge_requests", Window(until=DEFAULT_NOW)))
    assert len({failure[2] for page in pages for failure in page.failures}) == 110
    assert sum(len(page.items) for page in pages) == 120


def test_text_that_no_database_takes_does_not_stop_a_page() -> None:
    simulator = GitLabSimulator(merge_requests=20)
    merge_request = merge_requests_of(simulator)[3]
    with connected(simulator) as connector:
        Table().sync(connector)
        row = merge_request.rendered["row"]
        title = msgspec.json.encode(merge_request.title)
        merge_request.rendered["row"] = row.replace(title, rb'"a\u0000b\ud800c\ud83d\ude00"', 1)
        table = Table()
        table.sync(connector)
    assert len(table.payloads) == 20
    record = next(record for record in table.records() if record.iid == merge_request.iid)
    assert record.title == "ab\N{REPLACEMENT CHARACTER}c\N{GRINNING FACE}"


def test_a_monster_is_cut_at_its_budget_and_says_so() -> None:
    simulator = GitLabSimulator(merge_requests=3)
    monster = merge_requests_of(simulator)[1]
    person = simulator.world.humans[0]
    for number in range(2_150):
        simulator.world.note(monster, person, f"{number}", monster.updated_at + timedelta(milliseconds=number))
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
    assert len(simulator.requests.matching(f"*/merge_requests/{monster.iid}/notes")) == 20
    assert [record.is_truncated for record in table.records()] == [
        merge_request is monster for merge_request in merge_requests_of(simulator)
    ]
    record = next(record for record in table.records() if record.iid == monster.iid)
    assert record.notes_count == sum(not note.is_system for note in monster.notes)


def test_a_part_of_several_pages_comes_whole() -> None:
    simulator = GitLabSimulator(merge_requests=2)
    busy = merge_requests_of(simulator)[0]
    for number in range(305):
        simulator.world.note(busy, simulator.world.humans[0], f"{number}", busy.updated_at + timedelta(seconds=number))
    with connected(simulator) as connector:
        (page,) = connector.pages(SCOPE, "merge_requests", Window())
    payloads = [msgspec.json.decode(item.payload) for item in page.items]
    notes = next(p["notes"] for p in payloads if p["merge_request"]["iid"] == busy.iid)
    assert [note["id"] for note in notes] == [note.id for note in busy.notes]


# --- the instance and its projects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token_type", ["private", "oauth"])
def test_a_probe_tells_the_version_the_account_and_the_servers_time(token_type: str) -> None:
    with connected(GitLabSimulator(), token_type=token_type) as connector:
        probe = connector.probe()
    assert (probe.product, probe.version, probe.account) == ("GitLab", "18.5.1", "sync-service")
    assert DEFAULT_NOW <= probe.server_now < DEFAULT_NOW + timedelta(seconds=10)
    assert probe.remarks == ()


@pytest.mark.parametrize("path", ["version", "user", "projects"])
def test_a_probe_remarks_what_the_token_may_not_read(path: str) -> None:
    with connected(GitLabSimulator(faults=f"403:1:path=*/{path}")) as connector:
        probe = connector.probe()
    (remark,) = probe.remarks
    assert remark.startswith(f"The token may not read /{path}; give it the scope read_api.")


def test_a_probe_remarks_an_account_without_projects() -> None:
    with connected(GitLabSimulator(projects=0, merge_requests=0)) as connector:
        assert connector.probe().remarks == ("The token's account is a member of no project.",)


def test_a_probe_of_something_else_says_that_there_is_no_gitlab() -> None:
    with connected(GitLabSimulator(faults="404:1")) as connector, pytest.raises(SourceRequestError) as caught:
        connector.probe()
    assert "There is no GitLab at" in caught.value.message


def test_a_wrong_token_is_denied() -> None:
    with connected(GitLabSimulator(), token="glpat-wrong") as connector, pytest.raises(AccessDeniedError) as caught:
        connector.probe()
    assert "glpat-wrong" not in caught.value.message


@pytest.mark.parametrize(
    ("base_url", "auth", "options"),
    [
        ("gitlab.example.org", {"token": "t"}, {}),
        ("https://gitlab.example.org", {}, {}),
        ("https://gitlab.example.org", {"token": "t"}, {"token_type": "password"}),
    ],
)
def test_a_connection_that_cannot_work_is_refused_at_once(
    base_url: str, auth: dict[str, str], options: dict[str, str]
) -> None:
    spec = ConnectionSpec(id=1, kind="gitlab", name="x", base_url=base_url, auth=auth, options=options)
    with pytest.raises(UsageError):
        GitLabConnector(spec, OpenGate())


def test_the_servers_clock_is_asked_for_when_no_answer_has_told_it() -> None:
    simulator = GitLabSimulator()
    with connected(simulator) as connector:
        assert DEFAULT_NOW <= connector.server_now() < DEFAULT_NOW + timedelta(seconds=10)
        connector.server_now()
    assert simulator.requests.count == 1


def test_a_scope_is_found_by_id_by_path_and_by_the_path_that_it_had() -> None:
    simulator = GitLabSimulator(merge_requests=5)
    by_path = ScopeSpec(id=2, external_key="acme/payments")
    with connected(simulator) as connector:
        assert connector.check_scope(SCOPE) == "acme/payments"
        assert connector.check_scope(by_path) == "acme/payments"
        simulator.rename_project("acme/payments", path="corp/sub/payments")
        assert connector.check_scope(SCOPE) == "corp/sub/payments"
        assert connector.check_scope(by_path) == "corp/sub/payments"
        table = Table()
        table.take(connector.pages(by_path, "merge_requests", Window()))
    assert_equals_model(table, simulator)


def test_a_scope_that_is_hidden_or_missing_is_gone() -> None:
    simulator = GitLabSimulator(merge_requests=5)
    with connected(simulator) as connector:
        with pytest.raises(GoneError):
            connector.check_scope(ScopeSpec(id=2, external_key="acme/nothing"))
        simulator.hide_project(FIRST_PROJECT_ID)
        with pytest.raises(GoneError):
            connector.check_scope(SCOPE)
        with pytest.raises(GoneError):
            list(connector.pages(SCOPE, "merge_requests", Window()))


def test_the_oldest_update_is_where_a_backfill_begins() -> None:
    simulator = GitLabSimulator(merge_requests=60)
    with connected(simulator) as connector:
        oldest = connector.oldest_update(SCOPE, "merge_requests")
        oldest_event = connector.oldest_update(SCOPE, "events")
    assert oldest == cut(min(merge_request.updated_at for merge_request in merge_requests_of(simulator)))
    assert oldest_event == cut(simulator.world.project(None).events[""][0].at)


def test_a_stream_that_does_not_exist_is_a_wrong_call() -> None:
    with connected(GitLabSimulator()) as connector, pytest.raises(UsageError):
        connector.pages(SCOPE, "weather", Window())


# --- ids --------------------------------------------------------------------------------------------------------------


def test_a_listing_holds_every_id_while_rows_are_edited_and_deleted_between_its_pages() -> None:
    simulator = GitLabSimulator(merge_requests=450)
    first = sorted(merge_requests_of(simulator), key=lambda merge_request: merge_request.created_at)[:60]

    def disturb(_: object) -> None:
        if simulator.requests[-1].path.endswith("/merge_requests") and first:
            for _ in range(20):
                simulator.delete_merge_request(first.pop(0).iid)
            simulator.mutate(5)

    simulator.on_request(disturb)
    with connected(simulator) as connector:
        names = [name for batch in connector.listing(SCOPE, "merge_requests") for name in batch]
    kept = {f"{FIRST_PROJECT_ID}!{iid}" for iid in simulator.world.project(None).by_iid}
    assert len(names) == len(set(names))
    assert kept <= set(names)
    assert all(len(entry.params) for entry in simulator.requests)


def test_fetching_by_id_gives_the_payload_that_a_window_gives() -> None:
    simulator = GitLabSimulator(merge_requests=130)
    table = Table()
    with connected(simulator) as connector:
        table.sync(connector)
        page = connector.fetch(SCOPE, "merge_requests", tuple(table.payloads))
    assert {item.external_id: item.payload for item in page.items} == table.payloads


def test_fetching_leaves_out_what_is_not_shown_or_belongs_elsewhere() -> None:
    simulator = GitLabSimulator(merge_requests=20, projects=2)
    wanted = (f"{FIRST_PROJECT_ID}!3", f"{FIRST_PROJECT_ID}!99999", f"{FIRST_PROJECT_ID + 1}!4", "nonsense")
    with connected(simulator) as connector:
        page = connector.fetch(SCOPE, "merge_requests", wanted)
        assert connector.fetch(SCOPE, "merge_requests", ()).items == ()
    assert [item.external_id for item in page.items] == [f"{FIRST_PROJECT_ID}!3"]


# --- events -----------------------------------------------------------------------------------------------------------


def events_of(simulator: GitLabSimulator) -> dict[str, datetime]:
    return {str(event.id): cut(event.at) for event in simulator.world.project(None).events[""]}


def items_of(pages: Iterable[Page]) -> list[Item]:
    return [item for page in pages for item in page.items]


def test_all_events_come_once_and_say_who_did_what_when() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    with connected(simulator) as connector:
        items = items_of(connector.pages(SCOPE, "events", Window(until=DEFAULT_NOW)))
    records = [parse("events", item.payload, ParseContext()).events[0] for item in items]
    assert len(items) == len(records) > 300
    assert {record.external_id: record.occurred_at for record in records} == events_of(simulator)
    by_id = {str(event.id): event for event in simulator.world.project(None).events[""]}
    for record in records:
        event = by_id[record.external_id]
        push = event.push or {}
        assert record.action == event.action
        assert record.author is not None
        assert record.author.username == event.person.username
        assert (record.push_action, record.push_commits) == (push.get("action"), push.get("commit_count"))
        assert record.target_type == event.target_type


def test_a_window_of_events_is_exact_although_the_source_filters_by_days() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    times = sorted(events_of(simulator).values())
    since, until = times[100], times[250]
    with connected(simulator) as connector:
        items = items_of(connector.pages(SCOPE, "events", Window(since=since, until=until)))
    wanted = {name for name, at in events_of(simulator).items() if since <= at <= until + timedelta(seconds=1)}
    assert {item.external_id for item in items} == wanted


def test_a_short_window_of_a_long_feed_costs_a_page_or_two() -> None:
    simulator = GitLabSimulator(merge_requests=10)
    project, person = simulator.world.project(None), simulator.world.humans[0]
    for number in range(1_000):
        at = DEFAULT_NOW - timedelta(hours=40) + timedelta(minutes=2 * number)
        simulator.world.note(merge_requests_of(simulator)[0], person, f"{number}", at)
    with connected(simulator) as connector:
        window = Window(since=DEFAULT_NOW - timedelta(hours=9), until=DEFAULT_NOW)
        items = items_of(connector.pages(SCOPE, "events", window))
        requests_count = len(simulator.requests.matching("*/events"))
    assert len(items) == sum(event.at >= window.since for event in project.events[""])
    assert requests_count <= 5


def test_events_that_happen_while_the_feed_is_read_double_and_hide_none() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    before = events_of(simulator)

    def happen(_: object) -> None:
        if simulator.requests[-1].path.endswith("/events"):
            for _ in range(7):
                simulator.create_merge_request()

    simulator.on_request(happen)
    with connected(simulator) as connector:
        items = items_of(connector.pages(SCOPE, "events", Window(until=DEFAULT_NOW)))
    names = [item.external_id for item in items]
    assert len(names) == len(set(names))
    assert before.keys() <= set(names)


def test_events_that_the_source_prunes_while_the_feed_is_read_hide_none() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    oldest = min(events_of(simulator).values())
    simulator.clock.advance(oldest + timedelta(days=3 * 365 - 1) - DEFAULT_NOW)

    def prune(_: object) -> None:
        simulator.clock.advance(timedelta(days=6))

    simulator.on_request(prune)
    with connected(simulator) as connector:
        items = items_of(connector.pages(SCOPE, "events", Window(until=simulator.clock.now())))
    kept = {name for name, at in events_of(simulator).items() if at >= simulator.clock.now() - timedelta(days=3 * 365)}
    assert kept <= {item.external_id for item in items}
    assert len(items) > 300


def test_a_killed_reading_of_events_goes_on_after_the_last_page_that_was_kept() -> None:
    simulator = GitLabSimulator(merge_requests=80)
    window = Window(since=DEFAULT_NOW - timedelta(days=700), until=DEFAULT_NOW)
    with connected(simulator) as connector:
        everything = items_of(connector.pages(SCOPE, "events", window))
        pages = connector.pages(SCOPE, "events", window)
        kept = [next(pages), next(pages)]
        rest = items_of(connector.pages(SCOPE, "events", window, kept[-1].resume_token))
    assert {item.external_id for item in (*items_of(kept), *rest)} == {item.external_id for item in everything}
    assert len(rest) <= len(everything) - 190
    assert [page.progress_ratio for page in kept] == sorted(page.progress_ratio or 0 for page in kept)


def test_events_are_listed_and_fetched_by_id() -> None:
    simulator = GitLabSimulator(merge_requests=40)
    with connected(simulator) as connector:
        names = [name for batch in connector.listing(SCOPE, "events") for name in batch]
        page = connector.fetch(SCOPE, "events", (names[3], "0", names[150]))
    assert sorted(names) == sorted(events_of(simulator))
    assert sorted(item.external_id for item in page.items) == sorted((names[3], names[150]))
