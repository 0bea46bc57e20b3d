"""The simulated Jira Cloud, and what our client asks it, against Atlassian's own description of the API.

The description that is at hand is of before the search by token and the bulk resources. What they give is held against
the shapes of the same objects elsewhere; which paths are not described is named below, so that no other slips through.
Data Center has no such description. `fields` of an issue are free there: their shapes come from recorded samples.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from connectors.base import ConnectionSpec, OpenGate, ScopeSpec, Window
from connectors.jira.client import JiraConnector
from connectors.jira.simulator import JiraSimulator
from connectors.jira.streams import KIND

FILES = ("jira-platform-swagger.v3.json", "jira-software-swagger.v3.json")
SCOPE = ScopeSpec(id=1, external_key="PAY")
NOT_DESCRIBED = {
    "/rest/api/3/search/jql": {"issues": "IssueBean"},
    "/rest/api/3/search/approximate-count": {},
    "/rest/api/3/issue/bulkfetch": {"issues": "IssueBean"},
    "/rest/api/3/changelog/bulkfetch": {},
}
"""Newer than the description: the members of their answers that hold objects that it describes."""


class Answered(NamedTuple):
    """One request and its answer, whole."""

    method: str
    path: str
    query: str
    status: int
    body: Any


class Description:
    """The descriptions of the two APIs, made into JSON schemas."""

    def __init__(self, folder: Path) -> None:
        self.operations: dict[str, dict[str, Any]] = {}
        self.where: dict[str, str] = {}
        registry: Registry[Any] = Registry()
        for name in FILES:
            whole = as_json_schema(json.loads((folder / name).read_text()))
            registry = registry.with_resource(f"urn:{name}", DRAFT4.create_resource(whole))
            self.operations |= whole["paths"]
            self.where |= dict.fromkeys(whole["paths"], f"urn:{name}")
        self._registry = registry

    def template(self, path: str) -> str | None:
        """The described path that a path is; the one with the fewest variables."""
        fitting = [each for each in self.operations if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", each), path)]
        return min(fitting, key=lambda each: each.count("{"), default=None)

    def mistakes(self, schema: dict[str, Any] | None, value: Any, where: str) -> list[str]:
        """What is wrong with a value; nothing where the description says nothing."""
        if schema is None:
            return []
        local = json.loads(json.dumps(schema).replace('"#/components', f'"{where}#/components'))
        found = Draft4Validator(local, registry=self._registry).iter_errors(value)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message:.200}" for error in found]


def as_json_schema(tree: Any) -> Any:
    """OpenAPI 3.0's dialect in JSON Schema's words; members that are not described are allowed."""
    if isinstance(tree, list):
        return [as_json_schema(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    made = {name: as_json_schema(value) for name, value in tree.items()}
    if made.pop("nullable", None) is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if made.get("additionalProperties") is False:
        del made["additionalProperties"]
    return made


@contextmanager
def recorded(target: str) -> Iterator[tuple[str, list[Answered]]]:
    """A proxy in front of a server that keeps what passes."""
    kept: list[Answered] = []
    host = urlsplit(target).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
            connection = http.client.HTTPConnection(host)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            payload = answer.read()
            connection.close()
            parts = urlsplit(self.path)
            kept.append(Answered(self.command, parts.path, parts.query, answer.status, json.loads(payload)))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = pass_on  # noqa: N815 - http.server's spelling

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def description(samples: Path) -> Description:
    if not all((samples / "openapi" / name).is_file() for name in FILES):
        pytest.skip("../shared/samples has no openapi folder with Jira's descriptions")
    return Description(samples / "openapi")


@pytest.fixture(scope="module")
def answers() -> list[Answered]:
    """Everything that the client asks for in a whole run: each stream, by page, by listing and by id."""
    simulator = JiraSimulator(issues=60)
    with simulator.serve() as server, recorded(server.base_url) as (url, kept):
        auth = {"user": simulator.user, "token": simulator.token}
        connector = JiraConnector(ConnectionSpec(id=1, kind="jira", name="sim", base_url=url, auth=auth), OpenGate())
        connector.probe()
        connector.check_scope(SCOPE)
        connector.oldest_update(SCOPE, "issues")
        connector.count(SCOPE, "issues", Window())
        for stream in KIND.streams:
            ids = [item.external_id for page in connector.pages(SCOPE, stream, Window()) for item in page.items]
            assert ids, stream
            assert list(connector.listing(SCOPE, stream))
            connector.fetch(SCOPE, stream, tuple(ids[:3]))
        connector.close()
    assert simulator.requests.rejected == []
    return kept


def of_version_3(path: str) -> str:
    """The path as the description has it: it knows version 3 only, which differs in how texts are written."""
    return path.replace("/rest/api/2/", "/rest/api/3/")


def test_every_answer_that_is_described_is_as_described(description: Description, answers: list[Answered]) -> None:
    held, mistakes = set(), []
    for answered in answers:
        template = description.template(of_version_3(answered.path))
        if template is None or of_version_3(answered.path) in NOT_DESCRIBED:
            continue
        operation = description.operations[template][answered.method.lower()]
        assert str(answered.status) in operation["responses"], answered
        content = operation["responses"][str(answered.status)].get("content", {})
        schema = content.get("application/json", {}).get("schema")
        held.add(template)
        where = description.where[template]
        mistakes += [f"{template}: {each}" for each in description.mistakes(schema, answered.body, where)]
    assert sorted(set(mistakes)) == []
    assert len(held) == 14


def test_an_answer_of_another_shape_would_be_seen(description: Description) -> None:
    operation = description.operations["/rest/api/3/status"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    where = description.where["/rest/api/3/status"]
    assert description.mistakes(schema, [{"id": "3", "surplus": 1, "statusCategory": {"key": "done"}}], where) == []
    assert description.mistakes(schema, [{"id": 3, "statusCategory": {"key": ["done"]}}], where) != []


def test_objects_in_answers_that_are_newer_than_the_description_are_as_described_elsewhere(
    description: Description, answers: list[Answered]
) -> None:
    mistakes, seen = [], set()
    for answered in answers:
        for member, schema in NOT_DESCRIBED.get(of_version_3(answered.path), {}).items():
            where = f"urn:{FILES[0]}"
            for row in answered.body[member]:
                seen.add(answered.path)
                mistakes += description.mistakes({"$ref": f"#/components/schemas/{schema}"}, row, where)
    assert sorted(set(mistakes)) == []
    assert len(seen) == 2


def test_every_parameter_that_we_send_is_described(description: Description, answers: list[Answered]) -> None:
    for answered in answers:
        template = description.template(of_version_3(answered.path))
        if template is None or of_version_3(answered.path) in NOT_DESCRIBED:
            continue
        operation = description.operations[template][answered.method.lower()]
        known = {each["name"]: each for each in operation.get("parameters", ()) if each["in"] == "query"}
        for name, value in parse_qsl(answered.query):
            assert name in known, f"{template} does not know {name}"
            schema = known[name].get("schema", {})
            typed: Any = int(value) if schema.get("type") == "integer" else value
            typed = value.split(",") if schema.get("type") == "array" else typed
            if schema.get("type") == "object":
                continue  # a list with commas, of which the description only says that it is one of Java's sets
            assert description.mistakes(schema, typed, description.where[template]) == [], f"{template} {name}={value}"


def test_nothing_else_that_we_ask_for_is_undescribed(description: Description, answers: list[Answered]) -> None:
    asked = {of_version_3(answered.path) for answered in answers}
    assert {path for path in asked if description.template(path) is None} <= set(NOT_DESCRIBED)
    assert asked >= set(NOT_DESCRIBED)
