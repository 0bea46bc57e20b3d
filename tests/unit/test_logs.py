"""Every record becomes one line in one format, and no secret survives it."""

from __future__ import annotations

import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from workers.logs import configure_logging, mask_secrets, mask_text
from workers.settings import load_settings


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def configured(stream: io.StringIO | None = None, **variables: str) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging(load_settings({f"PLUMBLINE_{name}": value for name, value in variables.items()}), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_records_and_foreign_ones_have_the_same_shape() -> None:
    stream = configured()
    structlog.get_logger("workers.task").info("job_finished", rows_count=3)
    logging.getLogger("kombu").warning("lost %s", "connection", extra={"attempt": 2})
    ours, foreign = lines(stream)
    foreign.pop("message", None)  # which pytest's own handler leaves on records
    assert ours.pop("timestamp").endswith("Z")
    assert foreign.pop("timestamp").endswith("Z")
    assert ours == {"event": "job_finished", "rows_count": 3, "level": "info", "logger": "workers.task"}
    assert foreign == {"event": "lost connection", "attempt": 2, "level": "warning", "logger": "kombu"}


def test_bound_context_is_on_both_and_ends_with_its_block() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(job_id=7, task="collect"):
        structlog.get_logger("a").info("page_stored")
        logging.getLogger("b").info("connecting")
    structlog.get_logger("a").info("idle")
    ours, foreign, after = lines(stream)
    assert (ours["job_id"], ours["task"]) == (foreign["job_id"], foreign["task"]) == (7, "collect")
    assert "job_id" not in after


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [("", io.StringIO, True), ("", Terminal, False), ("json", Terminal, True), ("console", io.StringIO, False)],
)
def test_people_at_a_terminal_get_text_and_machines_get_json(
    log_format: str, stream: Callable[[], io.StringIO], is_json: bool
) -> None:
    output = configured(stream(), LOG_FORMAT=log_format)
    structlog.get_logger("a").info("tick")
    assert output.getvalue().startswith("{") is is_json
    assert "tick" in output.getvalue()


def test_text_that_is_not_for_a_terminal_has_no_colours() -> None:
    output = configured(LOG_FORMAT="console")
    structlog.get_logger("a").info("tick", number=1)
    assert "\x1b" not in output.getvalue()


def test_the_level_holds_for_ours_and_foreign_records() -> None:
    stream = configured(LOG_LEVEL="warning")
    structlog.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    structlog.get_logger("a").warning("ours")
    logging.getLogger("b").error("foreign")
    assert [line["event"] for line in lines(stream)] == ["ours", "foreign"]


def test_a_library_that_wrote_by_itself_writes_through_us_once() -> None:
    own = io.StringIO()
    logger = logging.getLogger("uvicorn.test")
    logger.addHandler(logging.StreamHandler(own))
    logger.propagate = False
    stream = configured()
    configure_logging(load_settings({}), stream)  # twice, as API and worker code may both do it
    logger.warning("started", extra={"color_message": "\x1b[36mstarted"})
    assert own.getvalue() == ""
    assert [line["event"] for line in lines(stream)] == ["started"]
    assert "color_message" not in stream.getvalue()


def test_warnings_are_records() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "careful" in line["event"]


def test_what_json_does_not_know_is_written_all_the_same() -> None:
    stream = configured()
    structlog.get_logger("a").info("odd", what={1: object(), "set": {2}, "bytes": b"\xff", "none": None, "yes": True})
    (line,) = lines(stream)
    assert line["what"]["set"] == [2]
    assert line["what"]["none"] is None
    assert line["what"]["yes"] is True
    assert "object" in line["what"]["1"]


def test_numbers_and_names_about_secrets_are_no_secrets() -> None:
    event = {"token_id": 5, "token_count": 2, "token_name": "ci", "secret_keys_path": "/x", "rows_count": 3, "ok": True}
    assert mask_secrets(None, "info", dict(event)) == event


@pytest.mark.parametrize(
    "text",
    [
        "job_finished after 3.5 s",
        "GET https://jira.example/rest/api/2/search?jql=project+%3D+A&startAt=0",
        "listening on http://127.0.0.1:8600 (pid 5)",
        "key PROJ-12 changed from Open to Done",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'\\&"), min_size=4).map(
    lambda text: f"Hx7{text}Q9z"
)
"""A password as people make them; the two ends make sure that nothing else in the line contains it."""
SECRET_KEYS = st.sampled_from(
    [
        *("token", "TOKEN", "gitlab_token", "access-token", "PRIVATE-TOKEN", "private_token", "X-Gitlab-Token"),
        *("password", "Password", "db_passwd", "secret", "client_secret", "webhook-secret", "SECRET_KEYS"),
        *("authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "api_key", "apikey", "X-API-Key"),
    ]
)
PLAIN_KEYS = st.sampled_from(["headers", "job", "url", "0", "data"])


def rendered(log_format: str, write: Callable[[structlog.stdlib.BoundLogger], object]) -> str:
    stream = configured(LOG_FORMAT=log_format)
    write(structlog.get_logger("a"))
    assert stream.getvalue()
    return stream.getvalue()


NESTED = st.recursive(
    st.tuples(SECRET_KEYS, SECRET).map(lambda pair: {pair[0]: pair[1]})
    | st.tuples(SECRET_KEYS, SECRET).map(lambda pair: {pair[0]: [{"a": SecretStr(pair[1])}, pair[1].encode()]}),
    lambda inner: st.dictionaries(PLAIN_KEYS, inner, min_size=1, max_size=2) | st.lists(inner, min_size=1, max_size=2),
    max_leaves=5,
)


@given(value=NESTED, log_format=st.sampled_from(["json", "console"]))
def test_no_value_under_a_telling_key_is_ever_written(value: Any, log_format: str) -> None:
    line = rendered(log_format, lambda logger: logger.info("event", value=value, plain=7))
    assert "Hx7" not in line
    assert "***" in line
    assert "7" in line


TEMPLATES = [
    "cannot connect to postgresql://plumbline:{}@db.example:5432/quality: refused",
    "broker redis://:{}@broker.example:6379/0",
    "clone of https://oauth2:{}@gitlab.example/group/project.git failed",
    "clone of https://{}@gitlab.example/group/project.git failed",
    "connection to 'amqp://u:{}@h//' lost",
    '"GET /api/v4/projects?private_token={}&page=2 HTTP/1.1" 200',
    "request failed, headers: PRIVATE-TOKEN: {}",
    "headers {{'Authorization': 'Basic {}', 'Accept': '*/*'}}",
    "Authorization: Bearer {}",
    "Cookie: session={}; theme=dark",
    '{{"password": "{}", "user": "ann"}}',
    "[parameters: {{'token': '{}', 'id': 5}}]",
    "Settings(api_key={} )",
]


@given(
    secret=SECRET.filter(lambda text: "@" not in text),
    template=st.sampled_from(TEMPLATES),
    log_format=st.sampled_from(["json", "console"]),
    place=st.sampled_from(["event", "value", "list", "bytes", "key", "argument", "exception", "foreign", "traceback"]),
)
@example(secret="Hx7aaaaQ9z", template=TEMPLATES[0], log_format="json", place="traceback")
def test_no_secret_in_free_text_is_ever_written(secret: str, template: str, log_format: str, place: str) -> None:
    text = template.format(secret)

    def fail() -> None:
        raise RuntimeError(text)

    def write(logger: structlog.stdlib.BoundLogger) -> None:
        match place:
            case "event":
                logger.info(text)
            case "value":
                logger.info("event", error=text)
            case "list":
                logger.info("event", errors=[{"deep": (text,)}])
            case "bytes":
                logger.info("event", body=text.encode())
            case "key":
                logger.info("event", pages={text: 1})
            case "argument":
                logger.info("failed: %s", text)
            case "exception":
                logger.info("event", error=RuntimeError(text))
            case "foreign":
                logging.getLogger("urllib3").info("failed: %s", text)
            case _:
                try:
                    fail()
                except RuntimeError:
                    logger.exception("event")

    line = rendered(log_format, write)
    assert "Hx7" not in line
    assert "Q9z" not in line


@pytest.mark.parametrize("token", ["glpat-abcDEF123456", "ghp_abcDEF123456", "xoxb-123456-abcdef", "ATATT3xFfGF0abc"])
def test_well_known_tokens_are_masked_even_without_a_telling_word(token: str) -> None:
    assert mask_text(f"called with {token}.") == "called with ***."


def test_a_private_key_is_masked_over_all_its_lines() -> None:
    text = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----"
    assert "MIIE" not in mask_text(text)
    assert "abcd" not in mask_text(text)


@pytest.mark.parametrize(
    "text",
    ["a" * 300_000, "token" * 60_000, "://" * 100_000, "token" + " " * 300_000, "cookie:" * 40_000, "'" * 300_000],
)
def test_a_line_that_is_written_to_hurt_costs_little(text: str) -> None:
    begin = time.process_time()
    mask_text(text)
    assert time.process_time() - begin < 2
