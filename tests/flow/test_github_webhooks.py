"""GitHub's webhooks: signed, read, registered once, and naming what fetching brings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from connectors.base import ConnectionSpec, OpenGate, ParseContext, ScopeSpec
from connectors.github.client import GitHubConnector
from connectors.github.hooks import EVENTS
from connectors.github.parse import parse
from connectors.github.simulator import FIRST_REPOSITORY_ID, GitHubSimulator
from connectors.github.streams import KIND
from connectors.github.webhooks import hints, verify
from connectors.signatures import hub_signature
from models.errors import BadRecordError

SECRET = "It's a Secret to Everybody"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
NOW = datetime(2026, 11, 2, tzinfo=UTC)
SCOPE = ScopeSpec(id=5, external_key="acme/payments")
REPOSITORY = {"id": 77, "full_name": "acme/pay"}
URL = "https://plumbline.example/webhooks/github/work"


# --- who sent it ------------------------------------------------------------------------------------------------------


def test_the_published_example_is_good_in_any_case_of_its_name() -> None:
    body = b"Hello, World!"
    assert verify({"X-Hub-Signature-256": SIGNATURE}, body, ["other", SECRET], NOW)
    assert verify({"x-hub-signature-256": SIGNATURE}, body, [SECRET], NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": SIGNATURE.removeprefix("sha256=")},
        {"X-Hub-Signature-256": SIGNATURE.upper()},
        {"X-Hub-Signature-256": SIGNATURE[:-1] + "f"},
        {"X-Hub-Signature": SIGNATURE},
    ],
)
def test_anything_else_is_not(headers: dict[str, str]) -> None:
    assert not verify(headers, b"Hello, World!", [SECRET], NOW)
    assert not verify({"X-Hub-Signature-256": SIGNATURE}, b"Hello, World?", [SECRET], NOW)
    assert not verify({"X-Hub-Signature-256": SIGNATURE}, b"Hello, World!", [], NOW)
    assert not verify({"X-Hub-Signature-256": hub_signature(b"x", "")}, b"x", [""], NOW)


# --- what it tells of -------------------------------------------------------------------------------------------------


def of(event: str, delivery: Any, **headers: str) -> Any:
    return hints({"X-GitHub-Event": event} | headers, json.dumps(delivery).encode())


@pytest.mark.parametrize(
    ("event", "delivery", "stream", "external_id"),
    [
        ("pull_request", {"pull_request": {"number": 12}}, "merge_requests", "77!12"),
        ("pull_request_review", {"pull_request": {"number": 12}}, "merge_requests", "77!12"),
        ("pull_request_review_comment", {"pull_request": {"number": 12}}, "merge_requests", "77!12"),
        ("issue_comment", {"issue": {"number": 12, "pull_request": {"url": "x"}}}, "merge_requests", "77!12"),
        ("issue_comment", {"issue": {"number": 13}}, "issues", "77#13"),
        ("issues", {"issue": {"number": 13, "pull_request": None}}, "issues", "77#13"),
        ("workflow_run", {"workflow_run": {"id": 21}}, "pipelines", "21"),
        ("workflow_job", {"workflow_job": {"id": 31}}, "jobs", "31"),
        ("deployment_status", {"deployment": {"id": 41}}, "deployments", "41"),
    ],
)
def test_an_event_names_its_object_as_its_stream_does(
    event: str, delivery: dict[str, Any], stream: str, external_id: str
) -> None:
    hint = of(event, delivery | {"repository": REPOSITORY}, **{"x-github-DELIVERY": "d-1"})
    assert (hint.delivery_key, hint.event_type) == ("d-1", event)
    assert (hint.stream, hint.external_ids, hint.scope_keys) == (stream, (external_id,), ("77", "acme/pay"))


@pytest.mark.parametrize("event", ["ping", "push", "star", "something_new"])
def test_other_events_tell_of_nothing(event: str) -> None:
    assert of(event, {"zen": "Design for failure.", "repository": "not looked at"}).stream is None


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("", b"{}"), ("x" * 300, b"{}"), ("issues", b"[]"), ("issues", b"payload=%7B%7D"), ("issues", b"{}"),
        ("issues", b'{"issue": {"number": "13"}, "repository": {"id": 1}}'), ("issues", b'{"issue": {"number": 13}}'),
    ],
)  # fmt: skip
def test_what_is_no_delivery_says_why(event: str, body: bytes) -> None:
    with pytest.raises(BadRecordError):
        hints({"X-GitHub-Event": event}, body)


def test_a_delivery_without_an_id_is_known_by_its_bytes_and_its_event() -> None:
    first = of("ping", {"a": 1}).delivery_key
    assert first.startswith("sha256:")
    assert first == of("ping", {"a": 1}).delivery_key
    assert len({first, of("ping", {"a": 2}).delivery_key, of("push", {"a": 1}).delivery_key}) == 3
    assert of("ping", {}, **{"X-GitHub-Delivery": "x" * 5_000}).delivery_key.startswith("sha256:")


# --- registering ------------------------------------------------------------------------------------------------------


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


def test_a_hook_is_made_once_found_again_and_taken_away() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0)
    vendor = KIND.webhooks
    assert vendor is not None
    with connected(simulator) as connector:
        (missing,) = vendor.check(connector, [SCOPE], URL)
        assert (missing.is_enabled, missing.scope_id) == (False, 5)
        for secret in ("one", "two"):
            (state,) = vendor.ensure(connector, [SCOPE], URL, secret)
            assert (state.is_enabled, state.external_id) == (True, str(FIRST_REPOSITORY_ID))
        (hook,) = simulator.webhooks.hooks.values()
        assert (hook.config["secret"], hook.config["content_type"], hook.events) == ("two", "json", list(EVENTS))
        hook.active = False
        assert not vendor.check(connector, [SCOPE], URL)[0].is_enabled
        assert vendor.ensure(connector, [SCOPE], URL, "two")[0].is_enabled
        assert vendor.check(connector, [SCOPE], URL)[0].is_enabled
        vendor.remove(connector, [SCOPE], URL)
        vendor.remove(connector, [SCOPE], URL)
    assert simulator.webhooks.hooks == {}
    assert simulator.requests.unknown == []


def test_doubled_hooks_become_one_and_other_people_s_are_left_alone() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0)
    vendor = KIND.webhooks
    assert vendor is not None
    with connected(simulator) as connector:
        vendor.ensure(connector, [SCOPE], "https://ci.example/hook", "s")
        for _ in range(2):
            config = {"url": URL, "content_type": "form"}
            connector.manage("POST", SCOPE, "/hooks", {"name": "web", "config": config})
        vendor.ensure(connector, [SCOPE], URL, "s")
    assert sorted(hook.config["url"] for hook in simulator.webhooks.hooks.values()) == ["https://ci.example/hook", URL]


def test_a_repository_that_refuses_is_told_and_keeps_no_other_from_its_hook() -> None:
    simulator = GitHubSimulator(pull_requests=0, issues=0, repositories=2)
    hidden, shown = (ScopeSpec(id=number, external_key=name) for number, name in enumerate(simulator.world.projects))
    simulator.hide_repository(hidden.external_key)
    vendor = KIND.webhooks
    assert vendor is not None
    with connected(simulator) as connector:
        states = vendor.ensure(connector, [hidden, shown], URL, "s")
        assert [state.is_enabled for state in states] == [False, True]
        simulator.webhooks.may_manage = False
        (refused,) = vendor.check(connector, [shown], URL)
    assert "Webhooks: write" in refused.remark


# --- from a change to what it names -----------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    received: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((dict(self.headers), body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    received: list[tuple[dict[str, str], bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("One", (Receiver,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_what_users_do_is_told_signed_and_names_what_fetching_brings(receiver: Any) -> None:
    url, received = receiver
    simulator = GitHubSimulator(pull_requests=4, issues=4)
    things = simulator.world.repository(None).by_number.values()
    pull_request = next(thing.number for thing in things if thing.is_pull_request)
    issue = next(thing.number for thing in things if not thing.is_pull_request)
    vendor = KIND.webhooks
    assert vendor is not None
    with connected(simulator) as connector:
        vendor.ensure(connector, [SCOPE], url, "s3cret")
        simulator.rename(pull_request, "Told of")
        simulator.review(pull_request, "APPROVED")
        simulator.comment(issue)
        simulator.comment(pull_request)
        assert simulator.webhooks.sender.settle()
        assert len(received) == 4
        for headers, body in received:
            assert vendor.verify(headers, body, ["s3cret"], NOW)
            assert not vendor.verify(headers, body + b" ", ["s3cret"], NOW)
            hint = vendor.hints(headers, body)
            assert SCOPE.external_key in hint.scope_keys
            page = connector.fetch(SCOPE, str(hint.stream), hint.external_ids)
            assert [item.external_id for item in page.items] == list(hint.external_ids)
            batch = parse(str(hint.stream), page.items[0].payload, ParseContext())
            assert [each.title for each in batch.merge_requests] == ["Told of"] * len(batch.merge_requests)
    kinds = sorted(headers["X-GitHub-Event"] for headers, _ in received)
    assert kinds == ["issue_comment", "issue_comment", "pull_request", "pull_request_review"]
