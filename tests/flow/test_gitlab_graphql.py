"""The accelerator: the same records with fewer requests, and REST wherever it cannot do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from connectors.base import ConnectionSpec, OpenGate, ParseContext, ScopeSpec, Window
from connectors.gitlab.client import GitLabConnector
from connectors.gitlab.graphql import BATCH_SIZES
from connectors.gitlab.simulator import GitLabSimulator
from connectors.gitlab.streams import KIND
from models.errors import AccessDeniedError, RateLimitedError, UsageError
from models.records import MergeRequest

SCOPE = ScopeSpec(id=1, external_key="101")


class Scene:
    """A simulated GitLab, asked with and without the accelerator."""

    def __init__(self, simulator: GitLabSimulator, base_url: str) -> None:
        self.simulator = simulator
        self.base_url = base_url

    @contextmanager
    def connected(self, graphql: str = "auto") -> Iterator[GitLabConnector]:
        connector = GitLabConnector(
            ConnectionSpec(
                id=1, kind="gitlab", name="g", base_url=self.base_url, auth={"token": "sim-token"},
                options={"graphql": graphql},
            ),
            OpenGate(),
        )  # fmt: skip
        try:
            yield connector
        finally:
            connector.close()

    def read(self, graphql: str = "auto", since: datetime | None = None) -> tuple[list[MergeRequest], int]:
        """All merge requests as records, and how many requests they took."""
        self.simulator.requests.clear()
        with self.connected(graphql) as connector:
            window = Window(since=since, until=self.simulator.clock.now())
            items = [item for page in connector.pages(SCOPE, "merge_requests", window) for item in page.items]
        records = [
            row for item in items for row in KIND.parse("merge_requests", item.payload, ParseContext()).merge_requests
        ]
        return records, self.simulator.requests.count

    def asked(self, path: str) -> int:
        return len(self.simulator.requests.matching(path))


@pytest.fixture
def scene() -> Iterator[Scene]:
    simulator = GitLabSimulator(merge_requests=120)
    with simulator.serve() as server:
        yield Scene(simulator, server.base_url)


def test_both_ways_give_equal_records_and_one_costs_half_the_requests(scene: Scene) -> None:
    by_rest, rest_count = scene.read("off")
    assert scene.asked("/api/graphql") == 0
    by_graphql, graphql_count = scene.read()
    assert by_graphql == by_rest
    assert len(by_rest) == 120
    assert scene.asked("*/approvals") == 0
    # Two requests less each; beside them the probe and the queries, and one for the project's path.
    assert rest_count - graphql_count == 2 * 120 - scene.asked("/api/graphql") - 1
    assert scene.asked("/api/graphql") <= 6
    assert scene.asked("*/commits") == 0


def test_a_single_changed_merge_request_is_not_worth_a_probe(scene: Scene) -> None:
    since = scene.simulator.clock.now()
    scene.simulator.update_merge_request(3, title="Changed")
    records, _ = scene.read(since=since)
    assert [row.iid for row in records] == [3]
    assert scene.asked("/api/graphql") == 0


def test_connections_that_are_cut_short_are_read_on_by_rest(scene: Scene) -> None:
    iid = scene.simulator.create_merge_request(commits=130)
    by_rest, _ = scene.read("off")
    by_graphql, _ = scene.read()
    assert by_graphql == by_rest
    assert scene.asked("*/commits") == 2  # two pages of the one that is too long
    assert next(row.commits_count for row in by_graphql if row.iid == iid) == 130


def test_an_approval_that_no_note_tells_the_time_of_is_read_by_rest(scene: Scene) -> None:
    scene.simulator.approve(50)
    merge_request = scene.simulator.merge_request(50)
    merge_request.notes[:] = [note for note in merge_request.notes if "approved" not in note.body]
    merge_request.rendered = {}
    by_rest, _ = scene.read("off")
    by_graphql, _ = scene.read()
    assert by_graphql == by_rest
    assert scene.asked("*/merge_requests/50/approvals") == 1


def breaks_off_after_the_probe(simulator: GitLabSimulator) -> None:
    simulator.set_faults("404:1:path=/api/graphql:after=1")


def loses_a_field_after_the_probe(simulator: GitLabSimulator) -> None:
    def lose(entry: Any) -> None:
        if entry.path == "/api/graphql" and simulator.requests.matching("/api/graphql")[1:]:
            simulator.graphql.unknown_fields.add("approvedBy")

    simulator.on_request(lose)


TROUBLE: dict[str, Callable[[GitLabSimulator], None]] = {
    "there is none": lambda simulator: setattr(simulator.graphql, "is_there", False),
    "it is too costly": lambda simulator: setattr(simulator.graphql, "complexity_limit", 20),
    "a field is missing": lambda simulator: simulator.graphql.unknown_fields.add("committedDate"),
    "it is forbidden": lambda simulator: simulator.set_faults("403:1:path=/api/graphql"),
    "it answers a web page": lambda simulator: simulator.set_faults("html:1:path=/api/graphql"),
    "it is down": lambda simulator: simulator.set_faults("502:1:path=/api/graphql"),
    "it is cut short": lambda simulator: simulator.set_faults("truncate:1:path=/api/graphql"),
    "it breaks off later": breaks_off_after_the_probe,
    "it loses a field later": loses_a_field_after_the_probe,
    "it hides the project": lambda simulator: setattr(simulator.graphql, "is_blind", True),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_whatever_is_wrong_with_it_the_records_are_the_same(scene: Scene, trouble: str) -> None:
    by_rest, _ = scene.read("off")
    TROUBLE[trouble](scene.simulator)
    by_graphql, _ = scene.read()
    assert by_graphql == by_rest


def test_it_is_asked_no_more_once_it_has_refused(scene: Scene) -> None:
    scene.simulator.graphql.unknown_fields.add("committedDate")
    with scene.connected() as connector:
        for _ in range(2):
            for _page in connector.pages(SCOPE, "merge_requests", Window()):
                pass
        assert scene.asked("/api/graphql") == len(BATCH_SIZES)
        assert any("committedDate" in remark for remark in connector.probe().remarks)


def test_a_lower_limit_makes_smaller_queries(scene: Scene) -> None:
    scene.simulator.graphql.complexity_limit = 45
    by_rest, _ = scene.read("off")
    by_graphql, _ = scene.read()
    assert by_graphql == by_rest
    assert scene.asked("*/commits") == 0
    assert scene.asked("/api/graphql") > 120 / BATCH_SIZES[0] + 1


@pytest.mark.parametrize(("fault", "error"), [("401", AccessDeniedError), ("429:1:retry-after=90", RateLimitedError)])
def test_a_refused_token_and_a_limit_are_not_hidden(scene: Scene, fault: str, error: type[Exception]) -> None:
    kind, _, rest = fault.partition(":")
    scene.simulator.set_faults(f"{kind}:{rest or '1'}:path=/api/graphql")
    with pytest.raises(error):
        scene.read()


def test_a_wrong_option_is_refused_at_once(scene: Scene) -> None:
    with pytest.raises(UsageError, match="auto or off"), scene.connected("always"):
        pass
