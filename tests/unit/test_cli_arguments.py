"""What people type: pairs, names, addresses, secrets, times."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime

import pytest

from admin.cli import arguments
from models.errors import UsageError


def test_a_value_is_json_where_it_parses_and_text_where_not() -> None:
    given = [
        "page_size=200",
        'bug_types=["Bug", "Defect"]',
        "severity_field=customfield_1",
        "a=b=c",
        "empty=",
        "n=null",
    ]
    assert arguments.pairs(given, "--option") == {
        "page_size": 200,
        "bug_types": ["Bug", "Defect"],
        "severity_field": "customfield_1",
        "a": "b=c",
        "empty": "",
        "n": None,
    }
    assert arguments.pairs(None, "--option") == {}


@pytest.mark.parametrize("given", [["page_size"], ["=5"], [" =5"], ["a=1", "a=2"]])
def test_a_pair_that_is_none_or_comes_twice_is_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match="--option"):
        arguments.pairs(given, "--option")


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "a\n", "ü", "a" * 101])
def test_a_name_that_would_be_trouble_in_a_url_or_a_log_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        arguments.checked_name(name)


@pytest.mark.parametrize("name", ["a", "work", "site-2", "gitlab.example.com", "A_1", "a" * 100])
def test_ordinary_names_are_taken(name: str) -> None:
    assert arguments.checked_name(name) == name


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://gitlab.example.com", "https://gitlab.example.com"),
        ("https://gitlab.example.com/", "https://gitlab.example.com"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("https://example.com/tools/jira/", "https://example.com/tools/jira"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_an_address_is_kept_without_its_last_slash(url: str, kept: str) -> None:
    assert arguments.checked_url(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "", "gitlab.example.com", "ftp://example.com", "https://", "https:///x", "https://example.com:99999",
        "https://example.com:0", "https://example.com:x", "https://[::1", "https://example.com/?a=b",
        "https://example.com/#issues", "https://example.com/a b", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_instance_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        arguments.checked_url(url)


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@example.com", "https://s3cret@example.com", "https://u:s3cret@[::1"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments.checked_url(url)
    assert "s3cret" not in str(caught.value)


def test_a_token_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", " abc\n")
    assert arguments.read_token("A_TOKEN", from_stdin=False) == "abc"


def test_a_token_comes_from_stdin_with_its_line_break_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n"))
    assert arguments.read_token(None, from_stdin=True) == "abc"


def test_no_token_is_read_where_none_is_wanted() -> None:
    assert arguments.read_token(None, from_stdin=False) is None


@pytest.mark.parametrize("value", ["", "   ", "two words", "two\nlines", "tök", "nul\x00"])
def test_a_token_that_cannot_be_one_is_refused_and_not_repeated(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(value))
    with pytest.raises(UsageError) as caught:
        arguments.read_token(None, from_stdin=True)
    assert value.strip() == "" or value not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(UsageError, match="NOT_THERE"):
        arguments.read_token("NOT_THERE", from_stdin=False)


def test_a_token_is_taken_from_one_place_only() -> None:
    with pytest.raises(UsageError, match="once"):
        arguments.read_token("A", from_stdin=True)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, read: datetime) -> None:
    assert arguments.read_time(text, "--since") == read


def test_what_is_no_time_or_date_is_refused_with_the_option_named() -> None:
    with pytest.raises(UsageError, match="--since"):
        arguments.read_time("yesterday", "--since")
    with pytest.raises(UsageError, match="--from"):
        arguments.read_date("2026-13-01", "--from")
    assert arguments.read_date("2026-01-31", "--from") == date(2026, 1, 31)
