"""Jira's JSON as it comes: mended, taken apart, complained about; its times and its documents. Pure.

What belongs here: what the payloads of every stream need alike. What does not: what a member means (a module for each
subject).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from models.errors import BadRecordError


class Shape(msgspec.Struct, gc=False):
    """A part of a payload. What it does not name is skipped, which is most of a payload."""


def mended_json(payload: bytes) -> bytes:
    """Make JSON decodable that real servers send all the same, and fit for a database.

    Halves of surrogate pairs and bytes that are not UTF-8 become U+FFFD, escaped NULs vanish, bare control characters
    become blanks.

    Args:
        payload: JSON, or nearly.
    """
    text = payload.decode(errors="replace").translate(_CONTROL_CHARACTERS)
    return _ESCAPE.sub(_mended_escape, text).encode()


def object_of(payload: bytes) -> dict[str, Any]:
    """The object that a payload is. Raises `BadRecordError` where it is none."""
    try:
        tree = tree_of(payload)
    except RecursionError:
        refuse("payload", "is nested too deeply")
    if not isinstance(tree, dict):
        refuse("payload", f"is {type(tree).__name__} where an object was expected")
    return tree


def tree_of(payload: bytes) -> Any:
    """Whatever a payload is. Raises `BadRecordError` where it is no JSON."""
    try:
        return msgspec.json.decode(mended_json(payload))
    except ValueError as error:
        refuse("payload", f"is not JSON ({error})")


def text_of(raw: Mapping[str, Any], name: str) -> str:
    """A member that must be text, or a number as text."""
    value = raw.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        refuse(name, "is missing" if value is None else f"is {value!r:.60} where text was expected")
    return value


def utc(time: datetime) -> datetime:
    """The same instant; without an offset it is taken for UTC."""
    if time.tzinfo is UTC:
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def utc_or_none(time: datetime | None) -> datetime | None:
    """The same instant, or none."""
    return None if time is None else utc(time)


def from_epoch(number: float) -> datetime:
    """Bulk histories may give numbers, in milliseconds or, as Atlassian's own example does, in seconds."""
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) >= _MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        refuse("changelog.histories[...].created", f"is no time: {number}")


_MILLISECONDS_FROM = 100_000_000_000
"""As seconds the year 5138, as milliseconds 1973."""

_CONTROL_CHARACTERS = dict.fromkeys(range(0x20), " ")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")


def _mended_escape(match: re.Match[str]) -> str:
    escape = match.group()
    if len(escape) != len(r"\u0000"):
        return escape  # a short escape or a whole pair
    if escape == r"\u0000":
        return ""
    return r"\ufffd" if escape[2] in "dD" and escape[3] in "89abcdefABCDEF" else escape


def complaint(error: msgspec.ValidationError) -> tuple[str, str]:
    """The member and what is wrong with it, from msgspec's "Expected `int`, got `str` - at `$.fields.x`"."""
    reason, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", reason)
    if missing:
        return ".".join(filter(None, (path, missing[1]))), "is missing"
    return path or "payload", reason[:1].lower() + reason[1:]


def refuse(field: str, reason: str) -> NoReturn:
    """Raise `BadRecordError`: this member is not what it has to be."""
    raise BadRecordError(f"{field} {reason}.", field=field, reason=reason)


def time_or_none(text: str | None) -> datetime | None:
    """A time as text; none where it is no time."""
    try:
        return utc(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None


_BLOCKS = frozenset(
    {"paragraph", "heading", "codeBlock", "blockquote", "listItem", "taskItem", "decisionItem", "tableRow", "rule"}
)


def flattened(document: dict[str, Any]) -> str:
    """The text of an Atlassian document, a line for each block."""
    parts: list[str] = []
    waiting: list[Any] = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            attributes = node["attrs"] if isinstance(node.get("attrs"), dict) else {}
            text = node.get("text") or attributes.get("text") or attributes.get("shortName") or attributes.get("url")
            if isinstance(text, str):
                parts.append(text)
            if node.get("type") in _BLOCKS or node.get("type") == "hardBreak":
                waiting.append("\n")
            waiting.append(node.get("content"))
        elif node == "\n" and parts and not parts[-1].endswith("\n"):
            parts.append("\n")
    return "".join(parts).strip()
