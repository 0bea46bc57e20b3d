"""What every kind of connection keeps, by the registry: its streams, its payloads, its ids and its refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors import registry
from connectors.allure.simulator import AllureServerSimulator
from connectors.base import ConnectionSpec, Connector, Item, OpenGate, ParseContext, ScopeSpec, Window
from connectors.github.simulator import GitHubSimulator
from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.errors import BadRecordError, GoneError, UsageError
from models.records import Batch
from models.store.verify import SUBJECTS

SIMULATORS: dict[str, Callable[[], Any]] = {
    "allure": lambda: AllureServerSimulator(runs=5),
    "github": lambda: GitHubSimulator(pull_requests=12, issues=12),
    "gitlab": lambda: GitLabSimulator(merge_requests=12),
    "jira": lambda: JiraSimulator(issues=12),
}
STREAMS = [(kind.kind, name) for kind in registry.KINDS.values() for name in kind.streams]
GARBAGE = [b"", b"{", b"null", b"[]", b"17", b'"text"', b"{}", b'{"id": {}}', b"\xff\xfe", b"[" * 10_000]


class Source:
    """A connector of a kind, its simulator behind it, and one scope."""

    def __init__(self, kind: str, connector: Connector, key: str) -> None:
        self.kind = registry.KINDS[kind]
        self.connector = connector
        self.scope = ScopeSpec(id=1, external_key=key)

    def items(self, stream: str) -> list[Item]:
        until = self.connector.server_now() if self.kind.streams[stream].is_incremental else None
        pages = list(self.connector.pages(self.scope, stream, Window(until=until)))
        assert [page.failures for page in pages if page.failures] == []
        return [item for page in pages for item in page.items]

    def parsed(self, stream: str, item: Item) -> Batch:
        return self.kind.parse(stream, item.payload, ParseContext())


@pytest.fixture(scope="module")
def sources() -> Iterator[dict[str, Source]]:
    found: dict[str, Source] = {}
    opened: list[Any] = []
    for name, make in SIMULATORS.items():
        simulator = make()
        serving = simulator.serve()
        server = serving.__enter__()
        auth = {"token": simulator.token} | ({"user": simulator.user} if hasattr(simulator, "user") else {})
        spec = ConnectionSpec(id=1, kind=name, name="sim", base_url=server.base_url, auth=auth)
        connector = registry.KINDS[name].connect(spec, OpenGate())
        opened.append((connector, serving))
        found[name] = Source(name, connector, str(next(iter(simulator.world.projects))))
    yield found
    for connector, serving in opened:
        connector.close()
        serving.__exit__(None, None, None)


def test_every_kind_has_a_simulator_and_is_entered_under_its_name() -> None:
    assert set(SIMULATORS) == set(registry.KINDS)
    assert all(kind.kind == name for name, kind in registry.KINDS.items())


def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="allure, github, gitlab, jira"):
        registry.kind("gopher")


@pytest.mark.parametrize(("kind", "name"), STREAMS)
def test_a_stream_is_declared_whole_and_can_be_compared(kind: str, name: str) -> None:
    streams = registry.KINDS[kind].streams
    stream = streams[name]
    assert stream.name == name
    before = list(streams)[: list(streams).index(name)]
    assert set(stream.depends_on) <= set(before)
    if stream.is_incremental:
        assert stream.overlap.total_seconds() > 0
        assert name in SUBJECTS


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_what_a_source_gives_is_parsed_to_records_and_always_the_same(
    sources: dict[str, Source], kind: str, stream: str
) -> None:
    source = sources[kind]
    items = source.items(stream)
    assert items
    assert len({item.external_id for item in items}) == len(items)
    for item in items:
        batch = source.parsed(stream, item)
        # Accounts come along with everything; only members are nothing else.
        assert any(
            getattr(batch, name) for name in Batch.__struct_fields__ if name != "accounts" or stream == "members"
        )
        assert source.parsed(stream, item) == batch


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
@pytest.mark.parametrize("payload", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_by_the_error_that_sets_it_aside(kind: str, stream: str, payload: bytes) -> None:
    with pytest.raises(BadRecordError):
        registry.KINDS[kind].parse(stream, payload, ParseContext())


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_any_half_of_a_payload_is_refused_too(sources: dict[str, Source], kind: str, stream: str) -> None:
    payload = sources[kind].items(stream)[0].payload
    with pytest.raises(BadRecordError):
        registry.KINDS[kind].parse(stream, payload[: len(payload) // 2], ParseContext())


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_the_listing_names_what_the_pages_bring_and_fetching_by_name_brings_it_again(
    sources: dict[str, Source], kind: str, stream: str
) -> None:
    source = sources[kind]
    items = {item.external_id: item for item in source.items(stream)}
    listed = [name for batch in source.connector.listing(source.scope, stream) for name in batch]
    assert sorted(listed) == sorted(items)
    some = tuple(list(items)[:3])
    fetched = source.connector.fetch(source.scope, stream, some)
    assert fetched.failures == ()
    for item in fetched.items:
        assert source.parsed(stream, item) == source.parsed(stream, items[item.external_id])
    assert {item.external_id for item in fetched.items} == set(some)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_source_says_who_it_is_and_what_a_scope_is_called(sources: dict[str, Source], kind: str) -> None:
    source = sources[kind]
    probe = source.connector.probe()
    assert probe.product.lower().startswith(kind)
    assert all((probe.version, probe.account, probe.server_now.tzinfo))
    assert source.connector.check_scope(source.scope)
    with pytest.raises(GoneError):
        source.connector.check_scope(ScopeSpec(id=2, external_key="nobody/nothing" if source.kind.is_forge else "NONE"))


@pytest.mark.parametrize("kind", registry.KINDS)
def test_what_is_no_address_is_refused_before_anything_is_asked(kind: str) -> None:
    spec = ConnectionSpec(id=1, kind=kind, name="c", base_url="ftp://example.com", auth={"token": "x", "user": "y"})
    with pytest.raises(UsageError):
        registry.KINDS[kind].connect(spec, OpenGate())
