"""Webhooks over HTTP into a real API process: what is refused leaves nothing behind, and what is good comes once."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.fernet import Fernet
from factories.api import plain, serving
from sqlalchemy import text

from connectors.signatures import hub_signature, standard_key, standard_signature
from models.store import connections
from models.store.session import Database
from workers import secrets
from workers.settings import load_settings

KEY = Fernet.generate_key().decode()
LIMIT_BYTES = 200_000
MERGE_REQUEST = {
    "object_kind": "merge_request",
    "project": {"id": 101, "path_with_namespace": "acme/shop"},
    "object_attributes": {"iid": 7, "target_project_id": 101},
}
ISSUE = {"webhookEvent": "jira:issue_updated", "issue": {"id": "10040", "key": "PAY-7", "fields": {}}}


class Api:
    """A served API with a GitLab and a Jira connection whose broker is gone."""

    def __init__(self, url: str, database: Database, auth: dict[str, str]) -> None:
        self.url = url
        self.database = database
        self.secret, self.old_secret = auth["webhook_secret"], auth["webhook_secret_before"]

    def gitlab(
        self, body: bytes | None = None, *, path: str = "/webhooks/gitlab/work", at: datetime | None = None, **more: Any
    ) -> requests.Response:
        """A delivery signed as GitLab 19 does it; `headers` of `more` are laid over those of GitLab."""
        body = json.dumps(MERGE_REQUEST).encode() if body is None else body
        message_id = more.pop("message_id", None) or str(uuid.uuid4())
        timestamp = str(int((at or datetime.now(UTC)).timestamp()))
        key = standard_key(more.pop("secret", self.secret)) or b""
        headers = {
            "Content-Type": "application/json",
            "X-Gitlab-Event": "Merge Request Hook",
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": standard_signature(key, message_id, timestamp, body),
        } | more.pop("headers", {})
        return requests.post(
            self.url + path, data=body, timeout=20, headers={k: v for k, v in headers.items() if v is not None}, **more
        )

    def jira(self, delivery: Any, *, key: str | None = None, secret: str | None = None) -> requests.Response:
        body = json.dumps(delivery).encode()
        headers = {
            "Content-Type": "application/json;charset=UTF-8",
            "X-Atlassian-Webhook-Identifier": key or str(uuid.uuid4()),
            "X-Hub-Signature": hub_signature(body, secret or self.secret),
        }
        return requests.post(self.url + "/webhooks/jira/site", data=body, headers=headers, timeout=20)

    def rows(self) -> tuple[int, int, int]:
        """How many deliveries, keys and jobs there are."""
        with self.database.transaction() as session:
            return tuple(
                session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in ("webhook_deliveries", "webhook_delivery_keys", "job_runs")
            )

    def clear(self) -> None:
        with self.database.transaction() as session:
            session.execute(text("DELETE FROM webhook_deliveries"))
            session.execute(text("DELETE FROM webhook_delivery_keys"))
            session.execute(text("DELETE FROM job_runs"))
            session.execute(text("UPDATE connections SET status = 'active'"))


@pytest.fixture(scope="module")
def served(template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    import psycopg
    from factories.databases import database_url

    with psycopg.connect(database_url(template_url, "postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE webhooks_api TEMPLATE {urlsplit(template_url).path.strip('/')}")
    database = Database(database_url(template_url, "webhooks_api"))
    settings = load_settings({"PLUMBLINE_HOME": str(tmp_path_factory.mktemp("home")), "PLUMBLINE_SECRET_KEYS": KEY})
    now = datetime.now(UTC)
    auth = secrets.with_new_webhook_secret(secrets.with_new_webhook_secret({"token": "t"}, now), now)
    with database.transaction() as session:
        for kind, name in (("gitlab", "work"), ("jira", "site")):
            connections.add_connection(
                session,
                connections.default_tenant(session),
                kind=kind,
                name=name,
                base_url="https://source.example.test",
                auth=secrets.encrypt(settings, auth),
                options={},
            )
    home: Path = tmp_path_factory.mktemp("api")
    environment = {
        "PLUMBLINE_SECRET_KEYS": KEY,
        "PLUMBLINE_WEBHOOK_LIMIT_BYTES": str(LIMIT_BYTES),
        "PLUMBLINE_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    try:
        with serving(home / "home", plain(database), **environment) as url:
            yield Api(url, database, auth)
    finally:
        database.close()


@pytest.fixture
def api(served: Api) -> Api:
    served.clear()
    return served


def test_a_good_delivery_is_stored_with_its_job_and_without_its_secrets(api: Api) -> None:
    answer = api.gitlab(message_id="d-1", headers={"X-Gitlab-Token": "of-an-older-hook", "Cookie": "c=1"})
    assert (answer.status_code, answer.json()) == (202, {"status": "stored"})
    assert api.rows() == (1, 1, 1)
    with api.database.transaction() as session:
        row = session.execute(text("SELECT * FROM webhook_deliveries")).one()
        job = session.execute(text("SELECT * FROM job_runs")).one()
    assert (row.delivery_key, row.event_type, row.payload) == ("d-1", "Merge Request Hook", MERGE_REQUEST)
    assert row.processed_at is None
    assert row.headers["x-gitlab-event"] == "Merge Request Hook"
    assert not [name for name in row.headers if "token" in name or "signature" in name or "cookie" in name]
    assert (job.task, job.trigger, job.args) == ("receive.deliveries", "webhook", {"connection_id": row.connection_id})


def test_both_secrets_are_good_while_one_replaces_the_other(api: Api) -> None:
    assert api.gitlab(secret=api.old_secret).status_code == 202
    assert api.gitlab(headers={"webhook-signature": None, "X-Gitlab-Token": api.secret}).status_code == 202
    assert api.jira(ISSUE, secret=api.old_secret).status_code == 202
    assert api.jira(ISSUE).status_code == 202
    assert api.rows()[0] == 4


def test_a_doubled_delivery_is_stored_once_even_at_the_same_instant(api: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.gitlab(message_id="same").status_code, range(16)))
    assert sorted(set(answers)) == [200, 202]
    assert answers.count(202) == 1
    assert api.rows() == (1, 1, 1)
    for _ in range(3):
        api.jira(ISSUE, key="same")  # another connection: the key is its own
    assert api.rows() == (2, 2, 2)


def bad_signatures(api: Api) -> Iterator[requests.Response]:
    body = json.dumps(MERGE_REQUEST).encode()
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    yield api.gitlab(secret=other)
    yield api.gitlab(at=datetime.now(UTC) - timedelta(minutes=6))
    yield api.gitlab(at=datetime.now(UTC) + timedelta(minutes=6))
    yield api.gitlab(headers={"webhook-signature": None})
    yield api.gitlab(headers={"webhook-signature": None, "X-Gitlab-Token": "wrong"})
    yield api.gitlab(headers={"webhook-id": "another"})
    yield api.gitlab(body + b" ", headers={"webhook-signature": "v1,AAAA"})
    yield api.jira(ISSUE, secret=other)
    yield requests.post(api.url + "/webhooks/jira/site", json=ISSUE, timeout=20)
    yield api.gitlab(path="/webhooks/gitlab/nobody")
    yield api.gitlab(path="/webhooks/gitlab/site")  # a connection, and of another kind
    yield api.gitlab(path="/webhooks/gitlab/%00")
    yield api.gitlab(path="/webhooks/gitlab/" + "x" * 5_000)


def test_a_bad_signature_and_an_unknown_connection_get_the_same_401_and_leave_nothing(api: Api) -> None:
    answers = list(bad_signatures(api))
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {'{"type":"about:blank","title":"Unauthorized","status":401}'}
    assert api.rows() == (0, 0, 0)


def test_an_unknown_kind_is_not_found_and_leaves_nothing(api: Api) -> None:
    assert api.gitlab(path="/webhooks/allure/work").status_code == 404
    assert api.gitlab(path="/webhooks/gitlab/").status_code == 404
    assert api.rows() == (0, 0, 0)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000, b'{"object_kind":"merge_request"}']
)
def test_what_is_malformed_is_refused_though_signed_and_leaves_nothing(api: Api, body: bytes) -> None:
    answer = api.gitlab(body)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert api.rows() == (0, 0, 0)


def test_what_the_database_cannot_keep_is_refused_and_leaves_nothing(api: Api) -> None:
    assert api.gitlab(json.dumps(MERGE_REQUEST)[:-1].encode() + b', "n": 1e999999}').status_code == 400
    assert api.rows() == (0, 0, 0)


def test_another_content_type_or_coding_is_refused_and_leaves_nothing(api: Api) -> None:
    for headers in (
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": None},
        {"Content-Type": "text/json"},
        {"Content-Encoding": "gzip"},
    ):
        assert api.gitlab(headers=headers).status_code == 415
    assert api.rows() == (0, 0, 0)


def test_events_of_no_use_are_answered_well_and_leave_nothing(api: Api) -> None:
    for delivery in ({"object_kind": "push"}, {"object_kind": "never_heard_of"}, {"event_name": "user_add_to_team"}):
        answer = api.gitlab(json.dumps(delivery).encode())
        assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert api.jira({"webhookEvent": "sprint_closed"}).status_code == 200
    assert api.rows() == (0, 0, 0)


def test_a_paused_connection_is_answered_well_and_leaves_nothing(api: Api) -> None:
    with api.database.transaction() as session:
        session.execute(text("UPDATE connections SET status = 'paused'"))
    assert api.gitlab().json() == {"status": "paused"}
    assert api.gitlab(secret="whsec_" + base64.b64encode(b"o" * 32).decode()).status_code == 401
    assert api.rows() == (0, 0, 0)


def padded(size: int) -> bytes:
    start = json.dumps(MERGE_REQUEST)[:-1].encode() + b', "description": "'
    return start + b"x" * (size - len(start) - 2) + b'"}'


def test_the_limit_is_exact(api: Api) -> None:
    assert api.gitlab(padded(LIMIT_BYTES)).status_code == 202
    answer = api.gitlab(padded(LIMIT_BYTES + 1))
    assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
    assert api.rows()[0] == 1


def exchange(api: Api, head: str, *parts: bytes, seconds: float = 30) -> tuple[int, float]:
    """Raw bytes to the API; the status of the answer, and after how many seconds it came."""
    place = urlsplit(api.url)
    began = time.monotonic()
    with socket.create_connection((place.hostname, place.port), timeout=seconds) as connection:
        lines = f"POST /webhooks/gitlab/work HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n"
        connection.sendall(lines.encode())
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it was answered and closed already
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, time.monotonic() - began


def test_what_is_said_of_the_length_does_not_matter(api: Api) -> None:
    chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
    for head, parts in (
        ("Transfer-Encoding: chunked\r\n", [chunk] * 6 + [b"0\r\n\r\n"]),  # none, and more than the limit comes
        ("Transfer-Encoding: chunked\r\n", [chunk] * 6),  # and it never ends
        (f"Content-Length: {10**12}\r\n", []),  # more is said than comes
        (f"Content-Length: {'9' * 30}\r\n", []),
    ):
        status, waited_seconds = exchange(api, head, *parts)
        assert status in (400, 413)  # the last one is no length at all to the server itself
        assert waited_seconds < 8
    assert api.rows() == (0, 0, 0)


def test_a_body_that_does_not_come_is_given_up(api: Api) -> None:
    status, waited_seconds = exchange(api, "Content-Length: 100\r\n", b"{")
    assert status == 408
    assert waited_seconds < 15
    assert api.rows() == (0, 0, 0)


def test_it_is_answered_soon_though_the_broker_is_gone(api: Api) -> None:
    with requests.Session():
        api.gitlab()  # warm
        waits_seconds = []
        for _ in range(20):
            began = time.monotonic()
            assert api.gitlab().status_code == 202
            waits_seconds.append(time.monotonic() - began)
    assert sorted(waits_seconds)[10] < 1  # kombu by itself would wait for six seconds, in each of them
    assert api.rows()[0] == 21
