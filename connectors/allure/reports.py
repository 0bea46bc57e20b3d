"""A generated report back to results: what a server shows of each test, as the files that its tests wrote.

Results are better: a report lacks ids of test cases, and its uids are made anew each time that it is generated. So
a result is named here by what it says, and the same test of two generations of a report is one. Pure: no request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from models.errors import BadRecordError


class Group(msgspec.Struct):
    """A node of `data/suites.json`: a suite, or a test where it has a uid and no children."""

    uid: str | None = None
    children: list[Group] | None = None


SUITES = msgspec.json.Decoder(Group)


def uids(tree: Group) -> Iterator[str]:
    """The tests of a tree, each once."""
    seen: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node.children is not None:
            waiting.extend(reversed(node.children))
        elif node.uid and node.uid not in seen:
            seen.add(node.uid)
            yield node.uid


def retried_uids(case: dict[str, Any]) -> list[str]:
    """Earlier attempts of a test, which the tree does not show."""
    retries = _object(case.get("extra")).get("retries")
    return [each["uid"] for each in _objects(retries) if isinstance(each.get("uid"), str)]


def result_of(case: dict[str, Any]) -> dict[str, Any]:
    """A `data/test-cases/UID.json` as the result that it was made from, but for what the report leaves out."""
    time = _object(case.get("time"))
    stage = _object(case.get("testStage"))
    details = {
        "message": case.get("statusMessage"),
        "trace": case.get("statusTrace"),
        "flaky": case.get("flaky") is True,
    }
    result = {
        "historyId": case.get("historyId"),
        "testCaseId": case.get("testCaseId"),
        "fullName": case.get("fullName"),
        "name": case.get("name"),
        "status": case.get("status"),
        "statusDetails": {name: value for name, value in details.items() if value},
        "start": time.get("start"),
        "stop": time.get("stop"),
        "labels": _objects(case.get("labels")),
        "links": _objects(case.get("links")),
        "parameters": _objects(case.get("parameters")),
        "steps": [_step(each) for each in _objects(stage.get("steps"))],
        "attachments": _objects(stage.get("attachments")),
    }
    return {name: value for name, value in result.items() if value not in (None, [], {})}


def write_result(case: dict[str, Any], into: Path) -> None:
    """Write a test of a report as a result file; twice the same is one."""
    result = result_of(case)
    uuid = hashlib.sha256(msgspec.json.encode(result, order="sorted")).hexdigest()[:32]
    (into / f"{uuid}-result.json").write_bytes(msgspec.json.encode({"uuid": uuid, **result}))


def write_environment(content: bytes, into: Path) -> None:
    """Write `widgets/environment.json` as environment.properties."""
    try:
        rows = msgspec.json.decode(content, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    lines = [
        f"{_escaped(str(row.get('name') or ''))} = {_escaped(', '.join(map(str, row.get('values') or [])))}"
        for row in rows
    ]
    (into / "environment.properties").write_text("\n".join(lines), encoding="utf-8")


def case_of(content: bytes) -> dict[str, Any]:
    """Decode one `data/test-cases/UID.json`.

    Raises:
        BadRecordError: it is no JSON object.
    """
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"A test of the report cannot be read: {error}.") from None


def _step(raw: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    time = _object(raw.get("time"))
    steps = [_step(each, depth + 1) for each in _objects(raw.get("steps"))] if depth < 50 else []
    return {
        "name": raw.get("name"),
        "status": raw.get("status"),
        "statusDetails": {"message": raw.get("statusMessage")},
        "start": time.get("start"),
        "stop": time.get("stop"),
        "steps": steps,
        "attachments": _objects(raw.get("attachments")),
    }


def _escaped(text: str) -> str:
    """As Java's properties are written."""
    return "".join(f"\\{letter}" if letter in "\\=: #!" else letter for letter in text.replace("\n", " "))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
