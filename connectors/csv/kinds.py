"""The kinds of CSV file: which columns each has, and how a row of it becomes a record.

What belongs here: names of columns, and rules over several cells of a row. What does not: reading one cell (cells.py)
and the file (files.py). Users find the columns in docs/csv-import.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from connectors.csv import cells
from connectors.csv.cells import CellReader
from models.errors import BadRecordError
from models.records import ImportedBug, ImportedTestCase, Record

SEVERITIES = ("critical", "high", "medium", "low")
STATUS_CATEGORIES = {
    "new": "new",
    "indeterminate": "indeterminate",
    "done": "done",
    "to do": "new",
    "in progress": "indeterminate",
}
PRIORITIES = {"high": 1, "medium": 2, "low": 3, "1": 1, "2": 2, "3": 3}
DEFECT_STAGES = ("pre_development", "development", "post_development", "release_production")

KEY_CHARACTERS = 255
NAME_CHARACTERS = 300
"""Path and name share an index entry of PostgreSQL, which holds 2,700 bytes."""
WORD_CHARACTERS = 255
LINE_CHARACTERS = 2_000
TEXT_CHARACTERS = 100_000


class Column(msgspec.Struct, frozen=True):
    """A column: its name, how a cell is read, other names, and whether every row must say it."""

    name: str
    read: CellReader
    aliases: tuple[str, ...] = ()
    is_required: bool = False
    default: Any = None


class Kind(msgspec.Struct, frozen=True):
    """A kind of file: its columns, and how their values become a record."""

    name: str
    columns: tuple[Column, ...]
    record: Callable[[int, Mapping[str, Any]], Record]
    """From the line and the values, by name, to a record; raises `BadRecordError`."""
    keys: tuple[tuple[str, ...], ...]
    """Sets of columns that tell rows apart; a file has at least one of them."""


def _same(words: tuple[str, ...]) -> dict[str, str]:
    return {word: word for word in words}


word = cells.text(WORD_CHARACTERS)
line = cells.text(LINE_CHARACTERS)

BUG_COLUMNS = (
    Column("key", cells.text(KEY_CHARACTERS), ("issue_key", "jira_key"), is_required=True),
    Column("summary", line, ("title",), is_required=True),
    Column("status", word, is_required=True),
    Column("created", cells.moment, ("created_at", "created_date"), is_required=True),
    Column("updated", cells.moment, ("updated_at", "updated_date")),
    Column("resolved", cells.moment, ("resolved_at", "resolved_date")),
    Column("due", cells.day, ("due_date",)),
    Column("status_category", cells.one_of(STATUS_CATEGORIES)),
    Column("issue_type", word, ("type", "issuetype"), default="Bug"),
    Column("priority", word),
    Column("severity", cells.one_of(_same(SEVERITIES)), default="medium"),
    Column("assignee", word),
    Column("reporter", word),
    Column("creator", word),
    Column("sprint", word),
    Column("labels", cells.texts, default=()),
    Column("description", cells.text(TEXT_CHARACTERS)),
)

CASE_COLUMNS = (
    Column("key", cells.text(NAME_CHARACTERS), ("id",)),
    Column("path", cells.text(NAME_CHARACTERS)),
    Column("name", cells.text(NAME_CHARACTERS)),
    Column("framework", cells.text(50), default="manual"),
    Column("title", line),
    Column("suite", cells.text(NAME_CHARACTERS)),
    Column("description", cells.text(TEXT_CHARACTERS)),
    Column("automated", cells.yes_or_no, default=False),
    Column("priority", cells.one_of(PRIORITIES), default=2),
    Column("severity", word, default="Moderate"),
    Column("regression", cells.yes_or_no, default=True),
    Column("labels", cells.texts, default=()),
    Column("epic_link", word, ("epic",)),
    Column("jira_key", word),
    Column("platform", word),
    Column("release_version", word, ("release",)),
    Column("defect_stage", cells.one_of(_same(DEFECT_STAGES))),
)


def bug(line: int, values: Mapping[str, Any]) -> ImportedBug:
    """A bug of a row.

    Raises:
        BadRecordError: its times contradict each other or its category.
    """
    created, resolved = values["created"], values["resolved"]
    category = values["status_category"] or ("done" if resolved else "new")
    if resolved and resolved < created:
        raise BadRecordError("resolved: lies before created")
    if resolved and category != "done":
        raise BadRecordError(f"resolved: is given, and the status_category is {category!r} and not 'done'")
    updated = values["updated"] or max(created, resolved or created)
    if updated < created:
        raise BadRecordError("updated: lies before created")
    return ImportedBug(
        line=line,
        status_category=category,
        created_at=created,
        updated_at=updated,
        resolved_at=resolved,
        due_on=values["due"],
        **{name: values[name] for name in (
            "key", "summary", "status", "issue_type", "priority", "severity", "assignee", "reporter", "creator",
            "sprint", "labels", "description",
        )},
    )  # fmt: skip


def test_case(line: int, values: Mapping[str, Any]) -> ImportedTestCase:
    """A test case of a row.

    Raises:
        BadRecordError: nothing tells it apart, or it has no title.
    """
    if values["key"]:
        path, name = values["path"] or "", values["key"]
    else:
        path, name = values["path"], values["name"]
        if not (path and name):
            raise BadRecordError("key: is empty; a test case is known by its key, or by path and name")
    title = values["title"] or values["name"]
    if not title:
        raise BadRecordError("title: is empty")
    return ImportedTestCase(
        line=line,
        path=path,
        name=name,
        title=title,
        **{name: values[name] for name in (
            "framework", "suite", "description", "automated", "priority", "severity", "regression", "labels",
            "epic_link", "jira_key", "platform", "release_version", "defect_stage",
        )},
    )  # fmt: skip


KINDS = {
    "bugs": Kind("bugs", BUG_COLUMNS, bug, keys=(("key",),)),
    "test-cases": Kind("test-cases", CASE_COLUMNS, test_case, keys=(("key", "title"), ("path", "name"))),
}
