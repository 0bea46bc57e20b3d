"""The HTTP policy against real sockets on loopback: each answer and each breakdown, and what it becomes."""

from __future__ import annotations

import datetime as dt
import gzip
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.base import Load, OpenGate
from connectors.http import (
    DENIED_PATIENCE,
    PolicyAdapter,
    fetch_ahead,
    get_bytes,
    mount_policy,
    post_bytes,
)
from connectors.limits import LONGEST_WAIT, Pace, gate_key_of, limits_of
from models.errors import (
    AccessDeniedError,
    ForbiddenResourceError,
    GoneError,
    PlumblineError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
    UntrustedHostError,
    UsageError,
)

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
TOKEN = "glpat-very-secret"
Reply = bytes | Callable[[socket.socket], object]


def answer(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    """One HTTP answer; header names are written with underscores."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} Something\r\n{head}\r\n".encode() + body


def reset(connection: socket.socket) -> None:
    """Break the connection as a crashed server does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server:
    """Answers each connection with the next reply, the last one again and again, and keeps what it was asked."""

    def __init__(self, *replies: Reply, context: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies)
        self.requests: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with closing(connection), suppress(OSError):
                if self._context:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._answer(connection)
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received and not received.startswith(b"\x16"):  # which begins a TLS handshake
            more = connection.recv(65536)
            if not more:
                return
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            reply(connection)
        else:
            connection.sendall(reply)

    def close(self) -> None:
        with suppress(OSError):  # not every kernel lets a listener be shut down before it is closed
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@contextmanager
def serving(*replies: Reply, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(*replies, context=context)
    try:
        yield server
    finally:
        server.close()


class Gate:
    """Remembers what it is told, and closes when it is told to."""

    def __init__(self) -> None:
        self.blocked: list[tuple[str, datetime]] = []
        self.reasons: list[str] = []
        self.loads: list[Load] = []
        self.checks_count = 0
        self.closes_after_checks_count: int | None = None

    def enter(self, key: str, most: int, per_second: float | None) -> None:
        assert most >= 1
        assert per_second is None
        self.checks_count += 1
        if self.closes_after_checks_count is not None and self.checks_count > self.closes_after_checks_count:
            raise RateLimitedError("closed", retry_at=NOW, key=key)

    def leave(self, key: str, load: Load) -> None:
        assert key == "key"
        self.loads.append(load)

    def block(self, key: str, until: datetime, reason: str = "") -> None:
        self.blocked.append((key, until))
        self.reasons.append(reason)


@contextmanager
def client(
    base_url: str, gate: Gate | None = None, **options: object
) -> Iterator[tuple[requests.Session, PolicyAdapter]]:
    with requests.Session() as session:
        session.headers["PRIVATE-TOKEN"] = TOKEN
        session.trust_env = False
        policy = mount_policy(
            session,
            base_url=base_url,
            gate=gate or OpenGate(),
            gate_key="key",
            clock=lambda: NOW,
            jitter=lambda: 0.0,
            **options,
        )
        yield session, policy


def ask(*replies: Reply, gate: Gate | None = None, **options: object) -> tuple[bytes | PlumblineError, Server]:
    """Ask a server of that script for /thing once; what came of it, and the server."""
    with serving(*replies) as server, client(server.url, gate, **options) as (session, _):
        try:
            body, _ = get_bytes(session, f"{server.url}/thing", {"page": 1})
        except PlumblineError as error:
            return error, server
        return body, server


# --- what a status means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, SourceRequestError),
        (401, AccessDeniedError),
        (403, ForbiddenResourceError),
        (404, GoneError),
        (405, SourceRequestError),
        (408, TransientSourceError),
        (409, SourceRequestError),
        (410, SourceRequestError),
        (429, RateLimitedError),
        (500, TransientSourceError),
        (503, TransientSourceError),
        (520, TransientSourceError),
        (304, SourceRequestError),
    ],
)
def test_a_status_becomes_its_error_and_tells_status_host_and_path(status: int, expected: type[Exception]) -> None:
    result, _ = ask(answer(status, b"Retry later", Content_Type="text/plain"))
    assert type(result) is expected
    assert result.facts["status"] == status
    assert result.facts["host"] == "127.0.0.1"
    assert result.facts["path"] == "/thing"
    assert "127.0.0.1" in result.message


def test_a_captcha_denies_access_although_its_status_is_403() -> None:
    result, _ = ask(answer(403, X_Authentication_Denied_Reason="CAPTCHA_CHALLENGE; login-url=https://example.org"))
    assert isinstance(result, AccessDeniedError)
    assert "CAPTCHA" in result.message


def test_a_refusal_repeats_what_the_server_says_but_no_web_page() -> None:
    result, _ = ask(answer(400, b'{"message": "updated_after is invalid"}'))
    assert isinstance(result, SourceRequestError)
    assert "updated_after is invalid" in result.message
    result, _ = ask(answer(400, b"<html>Oops</html>", Content_Type="text/html"))
    assert isinstance(result, SourceRequestError)
    assert "Oops" not in result.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500])
def test_no_message_holds_the_token_even_when_the_server_echoes_it(status: int) -> None:
    result, _ = ask(answer(status, f"bad token {TOKEN}".encode(), Content_Type="text/plain"))
    assert isinstance(result, PlumblineError)
    assert TOKEN not in repr((result.message, result.facts))


def test_no_message_holds_a_password_that_basic_authentication_carries() -> None:
    reply = answer(400, b"wrong: hunter2", Content_Type="text/plain")
    with serving(reply) as server, client(server.url) as (session, _):
        session.auth = ("ann@example.org", "hunter2")
        with pytest.raises(SourceRequestError) as caught:
            get_bytes(session, f"{server.url}/thing")
    assert "hunter2" not in caught.value.message


# --- being asked to wait ----------------------------------------------------------------------------------------------


def http_date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected_seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "0"}, 0),
        ({"Retry_After": "1.5"}, 1.5),
        ({"Retry_After": http_date(NOW + timedelta(seconds=30))}, 30),
        # The server's clock is an hour ahead: the wait is what it means, not what our clock makes of the date.
        (
            {
                "Retry_After": http_date(NOW + timedelta(hours=1, seconds=30)),
                "Date": http_date(NOW + timedelta(hours=1)),
            },
            30,
        ),
        ({"Retry_After": http_date(NOW - timedelta(hours=2))}, 0),
        ({"Retry_After": "999999999"}, LONGEST_WAIT.total_seconds()),
        ({"Retry_After": "soon", "RateLimit_Reset": str(int(NOW.timestamp()) + 40)}, 40),
        ({"RateLimit_Reset": "12"}, 12),
        ({"X_RateLimit_Reset": "2026-03-04T12:01Z"}, 60),
    ],
)
def test_the_time_that_a_429_names_is_told_and_blocks_the_gate(
    headers: dict[str, str], expected_seconds: float
) -> None:
    gate = Gate()
    result, server = ask(answer(429, b"Retry later", Content_Type="text/plain", **headers), gate=gate)
    expected = NOW + timedelta(seconds=expected_seconds)
    assert isinstance(result, RateLimitedError)
    assert result.retry_at == expected
    assert gate.blocked == [("key", expected)]
    assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "soon"}, {"X_RateLimit_Reset": "tomorrow"}])
def test_a_429_without_a_time_leaves_the_gate_open(headers: dict[str, str]) -> None:
    gate = Gate()
    result, server = ask(answer(429, **headers), gate=gate)
    assert isinstance(result, RateLimitedError)
    assert result.retry_at is None
    assert gate.blocked == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "body", "expected_seconds"),
    [
        ({"Retry_After": "30"}, b"{}", 30),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW.timestamp()) + 90)}, b"{}", 90),
        (
            {"X_RateLimit_Remaining": "4999", "X_RateLimit_Reset": str(int(NOW.timestamp()) + 3000)},
            b'{"message": "You have exceeded a secondary rate limit."}',
            60,
        ),
    ],
)
def test_a_403_that_asks_for_patience_is_a_rate_limit(
    headers: dict[str, str], body: bytes, expected_seconds: float
) -> None:
    gate = Gate()
    result, server = ask(answer(403, body, **headers), gate=gate)
    expected = NOW + timedelta(seconds=expected_seconds)
    assert isinstance(result, RateLimitedError)
    assert result.retry_at == expected
    assert gate.blocked == [("key", expected)]
    assert len(server.requests) == 1


def test_the_end_of_an_hour_whose_limit_is_not_spent_is_no_time_to_wait_for() -> None:
    reset = str(int(NOW.timestamp()) + 3000)
    result, _ = ask(answer(429, X_RateLimit_Remaining="17", X_RateLimit_Reset=reset))
    assert isinstance(result, RateLimitedError)
    assert result.retry_at is None


def test_a_403_on_a_spent_hour_is_told_apart_from_one_on_a_resource() -> None:
    result, _ = ask(answer(403, b'{"message": "Resource not accessible"}', X_RateLimit_Remaining="12"))
    assert isinstance(result, ForbiddenResourceError)


def test_a_503_that_names_a_time_is_a_rate_limit_and_is_not_repeated() -> None:
    gate = Gate()
    result, server = ask(answer(503, Retry_After="60"), gate=gate)
    assert isinstance(result, RateLimitedError)
    assert gate.blocked == [("key", NOW + timedelta(seconds=60))]
    assert len(server.requests) == 1


def test_a_time_on_a_good_answer_blocks_nothing() -> None:
    gate = Gate()
    result, _ = ask(answer(200, b"[]", Retry_After="0", RateLimit_Reset="60"), gate=gate)
    assert result == b"[]"
    assert gate.blocked == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit_Remaining": "0", "RateLimit_Reset": str(int(NOW.timestamp()) + 40)}, 40),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "2026-03-04T12:01Z"}, 60),
        ({"X_RateLimit_Remaining": "0", "Retry_After": "3", "X_RateLimit_Interval_Seconds": "1"}, 3),
        ({"X_RateLimit_Remaining": "0", "Retry_After": "0", "X_RateLimit_Interval_Seconds": "1"}, 1),
        ({"Beta_RateLimit": '"jira-quota";r=0;t=25'}, 25),
    ],
)
def test_a_good_answer_that_leaves_nothing_blocks_the_gate_until_there_is_more(
    headers: dict[str, str], seconds: float
) -> None:
    gate = Gate()
    result, _ = ask(answer(200, b"[]", **headers), gate=gate)
    assert result == b"[]"
    assert gate.blocked == [("key", NOW + timedelta(seconds=seconds))]


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit_Remaining": "7", "RateLimit_Reset": "60"},
        {"X_RateLimit_Remaining": "0"},
        {"X_RateLimit_Remaining": "no", "X_RateLimit_Reset": "60"},
        {"Beta_RateLimit": '"jira-quota";r=12;t=25'},
    ],
)
def test_a_good_answer_that_leaves_something_or_names_no_time_blocks_nothing(headers: dict[str, str]) -> None:
    gate = Gate()
    ask(answer(200, b"[]", **headers), gate=gate)
    assert gate.blocked == []


def test_the_reason_that_jira_gives_is_told() -> None:
    gate = Gate()
    ask(answer(429, b"{}", Retry_After="5", RateLimit_Reason="jira-burst-based"), gate=gate)
    assert gate.reasons == ["it asks us to wait (jira-burst-based)"]


@pytest.mark.parametrize(
    ("reply", "loads"),
    [
        (answer(200), ["well"]),
        (answer(404), ["well"]),
        (answer(200, RateLimit_Remaining="9", RateLimit_Limit="100"), ["strained"]),
        (answer(200, RateLimit_Remaining="90", RateLimit_Limit="100"), ["well"]),
        (answer(200, X_RateLimit_NearLimit="true"), ["strained"]),
        (answer(429), ["strained"]),
        (answer(503), ["strained", "strained", "absent"]),
        (answer(500), ["unclear", "unclear", "absent"]),
        (reset, ["unclear", "unclear", "unclear"]),
    ],
)
def test_the_gate_hears_of_each_request_how_its_host_is(reply: Reply, loads: list[Load]) -> None:
    gate = Gate()
    ask(reply, gate=gate)
    assert gate.loads == loads


def test_the_gate_hears_that_nobody_listens() -> None:
    gate = Gate()
    with serving(answer(200)) as server:
        url = server.url
    with client(url, gate) as (session, _), pytest.raises(TransientSourceError):
        get_bytes(session, url)
    assert gate.loads == ["absent"]


def test_a_credential_that_is_refused_is_not_tried_again_at_once() -> None:
    gate = Gate()
    result, server = ask(answer(401), gate=gate)
    assert isinstance(result, AccessDeniedError)
    assert gate.blocked == [("key", NOW + DENIED_PATIENCE)]
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", [0, 257, "many", True])
def test_a_limit_that_makes_no_sense_is_refused_with_the_range(value: object) -> None:
    with pytest.raises(UsageError, match="from 1 to 256"):
        limits_of({"max_concurrency": value})


def test_an_answer_is_slow_beside_others_of_its_kind_only() -> None:
    pace = Pace()
    assert not pace.is_slow("/projects/1/issues", 30)  # the first of its kind is how it is
    assert not any(pace.is_slow("/projects/2/notes", 0.1) for _ in range(20))
    assert not pace.is_slow("/projects/3/notes", 0.9)
    assert pace.is_slow("/projects/3/notes", 5)


def test_nothing_leaves_while_the_gate_is_closed() -> None:
    gate = Gate()
    gate.closes_after_checks_count = 0
    result, server = ask(answer(200), gate=gate)
    assert isinstance(result, RateLimitedError)
    assert server.requests == []


def test_the_gate_is_asked_before_each_repeat() -> None:
    gate = Gate()
    gate.closes_after_checks_count = 1
    result, server = ask(answer(502), gate=gate)
    assert isinstance(result, RateLimitedError)
    assert len(server.requests) == 1


# --- what breaks off --------------------------------------------------------------------------------------------------


def broken_chunks(connection: socket.socket) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"5\r\n[1,2,\r\nff\r\n3")


def reset_in_the_body(connection: socket.socket) -> None:
    connection.sendall(answer(200, b"[1,2", Content_Length="4000"))
    reset(connection)


BREAKDOWNS: dict[str, Reply] = {
    "truncated body": answer(200, b"[1,2", Content_Length="4000"),
    "truncated chunks": broken_chunks,
    "damaged compression": answer(200, gzip.compress(b"[1,2]")[:8] + b"????", Content_Encoding="gzip"),
    "reset in the body": reset_in_the_body,
    "reset before the answer": reset,
    "closed before the answer": b"",
    "bad gateway": answer(502, b"<html>", Content_Type="text/html"),
    "error of the server": answer(500),
    "a proxy's web page": answer(200, b"<html>", Content_Type="text/html"),
    "unavailable": answer(503),
    "gateway timeout": answer(504),
}


@pytest.mark.parametrize("breakdown", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_what_breaks_off_is_asked_for_again_at_once(breakdown: Reply) -> None:
    result, server = ask(breakdown, breakdown, answer(200, b"[1,2,3]"))
    assert result == b"[1,2,3]"
    assert len(server.requests) == 3


@pytest.mark.parametrize("breakdown", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_what_keeps_breaking_off_is_left_to_the_worker_after_two_repeats(breakdown: Reply) -> None:
    result, server = ask(breakdown)
    assert isinstance(result, TransientSourceError)
    assert len(server.requests) == 3


def test_a_server_that_gave_up_waiting_for_us_is_not_asked_again_at_once() -> None:
    result, server = ask(answer(408))
    assert isinstance(result, TransientSourceError)
    assert len(server.requests) == 1


def test_a_silent_server_is_given_up_after_the_read_timeout_and_not_asked_again() -> None:
    release = threading.Event()
    with serving(lambda _: release.wait(5)) as server:
        with (
            client(server.url, read_timeout_seconds=0.1) as (session, _),
            pytest.raises(TransientSourceError) as caught,
        ):
            get_bytes(session, server.url)
        release.set()
    assert caught.value.message == ("127.0.0.1 did not answer in time (0.1 seconds for an answer, 5 for a connection).")
    assert len(server.requests) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse where Linux lets a connection wait")
def test_a_server_that_takes_no_connection_is_given_up_after_the_connect_timeout() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        # The kernel takes a few connections for a listener that accepts none, and then lets the next ones wait.
        for _ in range(4):
            queued = socket.socket()
            queued.setblocking(False)
            queued.connect_ex(("127.0.0.1", port))
            waiting.append(queued)
        url = f"http://127.0.0.1:{port}"
        with client(url, connect_timeout_seconds=0.2) as (session, _), pytest.raises(TransientSourceError) as caught:
            get_bytes(session, url)
        for queued in waiting:
            queued.close()
    assert "took no connection within 0.2 seconds" in caught.value.message


def test_a_refused_connection_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with client(url) as (session, _), pytest.raises(TransientSourceError) as caught:
        get_bytes(session, f"{url}/thing", {"secret": "x"})
    assert caught.value.message == f"Nothing listens at 127.0.0.1:{port} (connection refused)."


def test_a_name_that_cannot_be_resolved_is_one_clear_sentence() -> None:
    url = "https://gitlab.invalid"
    with client(url) as (session, _), pytest.raises(TransientSourceError) as caught:
        get_bytes(session, url)
    assert caught.value.message == "The name gitlab.invalid cannot be resolved; check the address of the connection."


# --- what is not JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "words", "asked"),
    [("text/html; charset=utf-8", "a web page", 3), ("text/plain", "text/plain", 1)],
)
def test_an_answer_that_is_no_json_is_an_error_although_its_status_is_200(
    content_type: str, words: str, asked: int
) -> None:
    result, server = ask(answer(200, b"<html>Sign in</html>", Content_Type=content_type))
    assert isinstance(result, TransientSourceError)
    assert words in result.message
    assert len(server.requests) == asked


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/problem+json", ""])
def test_json_by_any_name_is_taken_as_received(content_type: str) -> None:
    body = b'{"a":  1, "b": "\\ud800"}'
    result, _ = ask(answer(200, body, Content_Type=content_type))
    assert result == body


def test_headers_come_back_whatever_their_case() -> None:
    with serving(answer(200, b"[]", X_Next_Page="2")) as server, client(server.url) as (session, _):
        _, headers = get_bytes(session, f"{server.url}/thing")
    assert headers["x-next-page"] == "2"


def test_a_query_is_posted_as_json() -> None:
    with serving(answer(200, b"[]")) as server, client(server.url) as (session, _):
        body, _ = post_bytes(session, f"{server.url}/search", {"jql": "x"})
    assert body == b"[]"
    assert server.requests[0].startswith(b"POST /search HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'\r\n\r\n{"jql": "x"}')


# --- redirects and the token ------------------------------------------------------------------------------------------


def test_a_redirect_to_the_same_host_is_followed_with_the_token() -> None:
    with serving(answer(301, Location="/moved"), answer(200, b"[1]")) as server, client(server.url) as (session, _):
        body, _ = get_bytes(session, f"{server.url}/thing")
    assert body == b"[1]"
    assert server.requests[1].startswith(b"GET /moved ")
    assert TOKEN.encode() in server.requests[1]


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/x", "//127.0.0.1:{port}/x", "http://localhost:{port}/x"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_or_port_is_refused_and_nothing_is_sent_there(location: str, status: int) -> None:
    with serving(answer(200, b"[1]")) as other:
        result, server = ask(answer(status, Location=location.format(port=other.port)))
        assert other.requests == []
    assert isinstance(result, SourceRequestError)
    assert "our token goes nowhere" in result.message
    assert len(server.requests) == 1


def test_an_address_of_another_host_is_refused_before_anything_leaves() -> None:
    with serving(answer(200, b"[1]")) as other, client("http://127.0.0.1:1") as (session, _):
        with pytest.raises(SourceRequestError):
            get_bytes(session, f"http://me:{TOKEN}@127.0.0.1:{other.port}/x")
        assert other.requests == []


def test_a_redirect_from_encrypted_to_clear_is_refused(certificates: Certificates) -> None:
    context, authority = certificates.server("127.0.0.1")
    with (
        serving(answer(200, b"[1]")) as clear,
        serving(answer(302, Location=f"http://127.0.0.1:{clear.port}/"), context=context) as server,
    ):
        with client(server.url, verify=authority) as (session, _), pytest.raises(SourceRequestError):
            get_bytes(session, server.url)
        assert clear.requests == []


def test_a_circle_of_redirects_ends() -> None:
    result, _ = ask(answer(302, Location="/thing"))
    assert isinstance(result, SourceRequestError)
    assert "circle" in result.message


def test_a_redirect_that_would_turn_a_post_into_a_get_is_refused() -> None:
    with serving(answer(302, Location="/moved"), answer(200, b"[1]")) as server, client(server.url) as (session, _):
        with pytest.raises(SourceRequestError):
            post_bytes(session, f"{server.url}/search", {})
        assert len(server.requests) == 1


def test_a_redirect_that_keeps_the_method_of_a_post_is_followed() -> None:
    with serving(answer(307, Location="/moved"), answer(200, b"[1]")) as server, client(server.url) as (session, _):
        body, _ = post_bytes(session, f"{server.url}/search", {"a": 1})
    assert body == b"[1]"
    assert server.requests[1].startswith(b"POST /moved ")
    assert server.requests[1].endswith(b'{"a": 1}')


def test_the_policy_takes_the_place_of_every_adapter_that_was_mounted() -> None:
    with requests.Session() as session:
        session.mount("https://gitlab.example.org/api", requests.adapters.HTTPAdapter())
        policy = mount_policy(session, base_url="https://gitlab.example.org", gate=OpenGate(), gate_key="key")
        for url in ("https://gitlab.example.org/api/v4", "http://elsewhere.example.org"):
            assert session.get_adapter(url) is policy


def test_a_netrc_does_not_take_the_place_of_our_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password hunter2\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(answer(200, b"[]")) as server, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        mount_policy(session, base_url=server.url, gate=OpenGate(), gate_key="key")
        get_bytes(session, server.url)
    assert f"Authorization: Bearer {TOKEN}".encode() in server.requests[0]


def test_the_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer(200, b"[1]")) as proxy, requests.Session() as session:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        mount_policy(session, base_url="http://gitlab.invalid", gate=OpenGate(), gate_key="key")
        body, _ = get_bytes(session, "http://gitlab.invalid/thing")
    assert body == b"[1]"
    assert proxy.requests[0].startswith(b"GET http://gitlab.invalid/thing HTTP/1.1\r\n")


def test_certificates_that_the_environment_names_are_trusted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = certificates.server("127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority)
    with serving(answer(200, b"[1]"), context=context) as server, requests.Session() as session:
        mount_policy(session, base_url=server.url, gate=OpenGate(), gate_key="key")
        body, _ = get_bytes(session, server.url)
    assert body == b"[1]"


# --- certificates -----------------------------------------------------------------------------------------------------


class Certificates:
    """Makes certificates of servers, and the files that a client trusts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def server(self, name: str, *, days_left: int = 30) -> tuple[ssl.SSLContext, str]:
        """A server's context, and the path of the certificate that a client would have to trust."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(UTC)
        is_address = name[0].isdigit()
        alternative = x509.IPAddress(ip_address(name)) if is_address else x509.DNSName(name)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days_left))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        certificate_path = self._folder / f"{name}.{days_left}.pem"
        key_path = self._folder / f"{name}.{days_left}.key"
        certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_path, key_path)
        return context, str(certificate_path)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def failing_tls(url: str, verify: bool | str, expected: type[SourceError] = UntrustedHostError) -> str:
    with client(url, verify=verify) as (session, _), pytest.raises(expected) as caught:
        get_bytes(session, url)
    return caught.value.message


def test_a_certificate_of_an_authority_that_the_connection_names_is_trusted(certificates: Certificates) -> None:
    context, authority = certificates.server("127.0.0.1")
    with serving(answer(200, b"[1]"), context=context) as server, client(server.url, verify=authority) as (session, _):
        body, _ = get_bytes(session, server.url)
    assert body == b"[1]"


def test_an_expired_certificate_is_called_expired(certificates: Certificates) -> None:
    context, authority = certificates.server("127.0.0.1", days_left=-1)
    with serving(answer(200), context=context) as server:
        assert failing_tls(server.url, authority) == "The certificate of 127.0.0.1 has expired."
        assert server.requests == []


def test_an_untrusted_certificate_says_what_to_do(certificates: Certificates) -> None:
    context, _ = certificates.server("127.0.0.1")
    with serving(answer(200), context=context) as server:
        message = failing_tls(server.url, True)
    assert "is not trusted here" in message
    assert "ca_file" in message


def test_a_certificate_of_another_name_is_called_so(certificates: Certificates) -> None:
    context, authority = certificates.server("gitlab.example.org")
    with serving(answer(200), context=context) as server:
        assert failing_tls(server.url, authority) == "The certificate of 127.0.0.1 was made for another name."


def test_an_https_address_of_a_server_without_tls_is_one_clear_sentence() -> None:
    with serving(answer(200)) as server:
        message = failing_tls(server.url.replace("http:", "https:"), True, TransientSourceError)
    assert message == f"No TLS connection to 127.0.0.1:{server.port} can be made; is this an https address?"


# --- the server's clock -----------------------------------------------------------------------------------------------


def test_the_servers_clock_is_its_last_date_and_runs_on() -> None:
    said_at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    with serving(answer(200, Date=http_date(said_at))) as server, client(server.url) as (session, policy):
        assert not policy.has_server_time
        assert policy.server_now() == NOW
        get_bytes(session, server.url)
        first = policy.server_now()
        second = policy.server_now()
    assert policy.has_server_time
    assert said_at <= first < second < said_at + timedelta(seconds=10)


def test_a_refusal_tells_the_time_too() -> None:
    said_at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    with serving(answer(403, Date=http_date(said_at))) as server, client(server.url) as (session, policy):
        with pytest.raises(ForbiddenResourceError):
            get_bytes(session, server.url)
        assert policy.server_now() >= said_at


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_without_a_readable_date_this_machines_clock_stands_in(date: str) -> None:
    with serving(answer(200, Date=date)) as server, client(server.url) as (session, policy):
        get_bytes(session, server.url)
        assert policy.server_now() == NOW


# --- the key of the gate ----------------------------------------------------------------------------------------------


def test_one_host_and_credential_share_a_key_that_does_not_tell_the_credential() -> None:
    key = gate_key_of("https://GitLab.example.org/sub", TOKEN)
    assert key == gate_key_of("https://user:pw@gitlab.example.org", TOKEN)
    assert key != gate_key_of("https://gitlab.example.org", "another")
    assert key != gate_key_of("https://gitlab.example.com", TOKEN)
    assert TOKEN not in key
    assert "pw" not in key


# --- reading ahead ----------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_calls_whatever_is_done_first() -> None:
    def slow_if_even(number: int) -> int:
        time.sleep(0.01 if number % 2 == 0 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(fetch_ahead(pool, (partial(slow_if_even, n) for n in range(20)), ahead=5)) == list(range(20))
        assert list(fetch_ahead(pool, (), ahead=5)) == []


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_calls_are_taken_than_are_allowed_ahead(ahead: int) -> None:
    taken = []

    def calls() -> Iterator[Callable[[], int]]:
        for number in range(10):
            taken.append(number)
            yield partial(int, number)

    with ThreadPoolExecutor(2) as pool:
        results = fetch_ahead(pool, calls(), ahead)
        assert taken == []
        assert next(results) == 0
        assert len(taken) == ahead + 1
        assert next(results) == 1
        assert len(taken) == ahead + 2
        results.close()


def test_closing_cancels_the_calls_that_have_not_started() -> None:
    started, release = [], threading.Event()

    def call(number: int) -> int:
        started.append(number)
        if number:
            release.wait(5)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = fetch_ahead(pool, (partial(call, n) for n in range(10)), ahead=6)
        assert next(results) == 0
        results.close()
        release.set()
    assert len(started) <= 2


def test_the_error_of_a_call_comes_at_its_place_and_ends_the_reading() -> None:
    started = []

    def call(number: int) -> int:
        started.append(number)
        if number == 2:
            raise GoneError("no")
        return number

    with ThreadPoolExecutor(1) as pool:
        results = fetch_ahead(pool, (partial(call, n) for n in range(100)), ahead=3)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(GoneError):
            next(results)
    assert len(started) <= 6


# --- the plain way ----------------------------------------------------------------------------------------------------


def ask_plainly(
    *replies: Reply, gate: Gate | None = None, path: str = "/thing?page=1"
) -> tuple[bytes | PlumblineError | None, Server]:
    """Ask a server of that script once, straight from the pool; what came of it, and the server."""
    with serving(*replies) as server, client(server.url, gate) as (_, policy):
        try:
            answered = policy.get_plain(f"{server.url}{path}", {"PRIVATE-TOKEN": TOKEN})
        except PlumblineError as error:
            return error, server
        return (None if answered is None else answered[0]), server


def test_the_plain_way_asks_once_with_all_its_headers() -> None:
    result, server = ask_plainly(answer(200, b"[1,2,3]"))
    assert result == b"[1,2,3]"
    (request,) = server.requests
    assert request.startswith(b"GET /thing?page=1 HTTP/1.1")
    assert TOKEN.encode() in request


def test_what_is_not_modified_comes_back_empty_by_both_ways_if_it_was_asked_so() -> None:
    unchanged = answer(304, b"", ETag='"1"')
    with serving(unchanged) as server, client(server.url) as (session, policy):
        headers = {"If-None-Match": '"1"'}
        plain = policy.get_plain(f"{server.url}/x?", headers)
        assert plain is not None
        assert plain[0] == b""
        assert session.get(f"{server.url}/x", headers=headers).content == b""
        with pytest.raises(SourceRequestError):
            session.get(f"{server.url}/x")


@pytest.mark.parametrize("breakdown", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_the_plain_way_leaves_what_breaks_off_to_the_session(breakdown: Reply) -> None:
    result, server = ask_plainly(breakdown)
    assert result is None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, AccessDeniedError), (403, ForbiddenResourceError), (404, GoneError), (410, SourceRequestError)],
)
def test_the_plain_way_means_the_same_by_a_status(status: int, expected: type[PlumblineError]) -> None:
    result, server = ask_plainly(answer(status))
    assert type(result) is expected
    assert len(server.requests) == 1


def test_the_plain_way_asks_no_second_time_where_the_server_asks_for_patience() -> None:
    gate = Gate()
    result, server = ask_plainly(answer(429, b"Retry later", Retry_After="30", Content_Type="text/plain"), gate=gate)
    assert isinstance(result, RateLimitedError)
    assert len(server.requests) == len(gate.blocked) == 1


def test_the_plain_way_goes_to_no_other_host() -> None:
    result, server = ask_plainly(answer(302, b"", Location="http://elsewhere.test/thing"))
    assert isinstance(result, SourceRequestError)
    assert len(server.requests) == 1
    with client("http://here.test") as (_, policy), pytest.raises(SourceRequestError):
        policy.get_plain("http://elsewhere.test/thing", {"PRIVATE-TOKEN": TOKEN})


def test_the_plain_way_leaves_a_redirect_within_the_host_to_the_session() -> None:
    result, _ = ask_plainly(answer(301, b"", Location="/moved"))
    assert result is None


def test_a_proxy_ends_the_plain_way() -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.proxies["http"] = "http://proxy.test:3128"
        policy = mount_policy(session, base_url="http://here.test", gate=OpenGate(), gate_key="key")
        assert policy.get_plain("http://here.test/thing?", {}) is None
