"""CODEOWNERS as GitLab reads it, line by line."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import ParseContext
from connectors.gitlab.owners import owner_rules
from connectors.gitlab.parse import parse
from models.errors import BadRecordError
from models.records import OwnerFile

CASES: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "accounts, groups, nested groups, roles and addresses": (
        "* @ann @acme @acme/web/qa @@maintainer ann.b@example.test",
        [("*", "@ann", "@acme", "@acme/web/qa", "@@maintainer", "ann.b@example.test")],
    ),
    "tabs and many spaces": ("docs/\t\t@ann   @bob", [("docs/", "@ann", "@bob")]),
    "comments and empty lines": ("# all\n\n   # indented\n* @ann\n", [("*", "@ann")]),
    "a comment behind owners is none": ("* @ann # and @bob", [("*", "@ann", "@bob")]),
    "an escaped number sign": ("\\#file.rb @ann", [("#file.rb", "@ann")]),
    "escaped spaces": ("path\\ with\\ spaces/ @ann", [("path with spaces/", "@ann")]),
    "other escapes stay": ("\\*.md @ann", [("\\*.md", "@ann")]),
    "a path without owners is owned by nobody": ("*\ndocs/", [("*",), ("docs/",)]),
    "an owner twice": ("* @ann @ann", [("*", "@ann")]),
    "words that are no owners": ("* ann @bob bob@", [("*", "@bob")]),
    "windows line ends and a mark of the byte order": (
        "\ufeff* @ann\r\n*.py @bob\r\n",
        [("*", "@ann"), ("*.py", "@bob")],
    ),
    "an exclusion takes no default": ("[A] @ann\n!*.lock\n*.py", [("!*.lock",), ("*.py", "@ann")]),
    "the same path twice, in order": ("a @ann\na @bob", [("a", "@ann"), ("a", "@bob")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_lines(text: str, expected: list[tuple[Any, ...]]) -> None:
    rules = owner_rules(text.removeprefix("\ufeff"))
    assert [(rule.pattern, *rule.owners) for rule in rules] == expected


SECTIONS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "before the first section": ("* @ann", [("*", ("@ann",), None, False, 1)]),
    "with a space in its name": ("[Web shop]\n* @ann", [("*", ("@ann",), "Web shop", False, 1)]),
    "with default owners": (
        "[A] @ann\n* \n*.py @bob",
        [("*", ("@ann",), "A", False, 1), ("*.py", ("@bob",), "A", False, 1)],
    ),
    "with approvals": ("[A][3]\n* @ann", [("*", ("@ann",), "A", False, 3)]),
    "with approvals and owners": ("[A][2] @acme/qa\n*", [("*", ("@acme/qa",), "A", False, 2)]),
    "with no approvals means one": ("[A][0]\n* @ann", [("*", ("@ann",), "A", False, 1)]),
    "optional": ("^[A]\n* @ann", [("*", ("@ann",), "A", True, 0)]),
    "optional with approvals needs none": ("^[A][2]\n* @ann", [("*", ("@ann",), "A", True, 0)]),
    "of one name, whatever its case, are one": (
        "[Docs][2]\na @ann\n[Other]\nb @bob\n[DOCS] @zoe\nc",
        [
            ("a", ("@ann",), "Docs", False, 2),
            ("b", ("@bob",), "Other", False, 1),
            ("c", ("@zoe",), "Docs", False, 2),
        ],
    ),
    "that is not closed is a path": (
        "[A @ann\n* @bob",
        [("[A", ("@ann",), None, False, 1), ("*", ("@bob",), None, False, 1)],
    ),
    "a character class is no section": ("[ab].rb @ann", [("[ab].rb", ("@ann",), None, False, 1)]),
}


@pytest.mark.parametrize(("text", "expected"), SECTIONS.values(), ids=SECTIONS)
def test_sections(text: str, expected: list[tuple[Any, ...]]) -> None:
    found = [
        (rule.pattern, rule.owners, rule.section, rule.is_optional, rule.required_approvals_count)
        for rule in owner_rules(text)
    ]
    assert found == expected


@given(st.text(alphabet=st.sampled_from("[]^\\# @a/*!.\n\t2"), max_size=60))
def test_any_text_gives_rules_with_a_pattern(text: str) -> None:
    for rule in owner_rules(text):
        assert rule.pattern
        assert all("@" in owner for owner in rule.owners)


def owner_file(file: dict[str, Any] | None) -> OwnerFile:
    payload = msgspec.json.encode({"project_id": 7, "file": file})
    (found,) = parse("code_owners", payload, ParseContext()).owner_files
    return found


def test_a_file_comes_with_the_commit_that_last_changed_it() -> None:
    content = base64.b64encode("\ufeff* @zoé\n*.py @ann".encode()).decode()
    found = owner_file(
        {"file_path": "CODEOWNERS", "content": content, "encoding": "base64", "last_commit_id": "a", "commit_id": "b"}
    )
    assert (found.external_project_id, found.path, found.source_sha) == ("7", "CODEOWNERS", "a")
    assert [rule.pattern for rule in found.rules] == ["*", "*.py"]


def test_no_file_is_no_rules() -> None:
    assert owner_file(None).rules == ()


def test_content_that_cannot_be_read_is_a_bad_record() -> None:
    with pytest.raises(BadRecordError, match=r"^file\.content"):
        owner_file({"file_path": "CODEOWNERS", "content": "%%%", "encoding": "base64"})
