"""What a cell of a CSV file says: readers from text to values, each with a message that says what is allowed.

What belongs here: one cell. What does not: which columns a kind of file has (kinds.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from models.errors import BadRecordError

CellReader = Callable[[str, tzinfo], Any]
"""From a cell that is not empty, and the time zone of times without one, to a value.

Raises `BadRecordError` with a message that says what was wrong and what is allowed.
"""

SHOWN_CHARACTERS = 60
MOMENT_FORM = "a date or time such as 2026-01-31 or 2026-01-31T14:05:00+01:00"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)\s?(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE,
)
# PostgreSQL refuses the first of them, and no person typed the others.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORMULA_TEXT = re.compile(r'="(.*)"', re.DOTALL)
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def clean(cell: str) -> str:
    """A cell without the blanks around it, and without the `="…"` by which spreadsheets are told to keep a text.

    Raises:
        BadRecordError: it holds a control character.
    """
    if _CONTROL.search(cell):
        raise BadRecordError("holds a control character (NUL or the like), which no text may")
    stripped = cell.strip()
    kept = _FORMULA_TEXT.fullmatch(stripped)
    return kept[1].strip() if kept else stripped


def shown(text: str) -> str:
    """A value in a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def text(longest: int) -> CellReader:
    """Any text up to a number of characters."""

    def read(cell: str, _zone: tzinfo) -> str:
        if len(cell) > longest:
            raise BadRecordError(f"has {len(cell):,} characters; at most {longest:,} are allowed")
        return cell

    return read


def one_of(values: Mapping[str, Any]) -> CellReader:
    """One of some words, in any case.

    Args:
        values: word in lower case to value; words of one value are its other names.
    """
    allowed = ", ".join(values)

    def read(cell: str, _zone: tzinfo) -> Any:
        try:
            return values[cell.lower()]
        except KeyError:
            raise BadRecordError(f"{shown(cell)} is not allowed; allowed are: {allowed}") from None

    return read


yes_or_no = one_of(_YES)


def texts(cell: str, _zone: tzinfo) -> tuple[str, ...]:
    """Texts that are separated by commas or semicolons, each once, in their order."""
    return tuple(dict.fromkeys(part.strip() for part in re.split("[,;]", cell) if part.strip()))


def day(cell: str, _zone: tzinfo) -> date:
    """A date in ISO form. Other forms mean different days to different people."""
    try:
        if _DATE.fullmatch(cell):
            return date.fromisoformat(cell)
    except ValueError:
        pass
    raise BadRecordError(f"{shown(cell)} is no date; write one such as 2026-01-31")


def moment(cell: str, zone: tzinfo) -> datetime:
    """A time in ISO form, as UTC; a date is its midnight, and what names no zone is a time of the project's.

    A time that the clock shows twice is the first of both; one that it skips counts as if it had not been set yet.
    """
    match = _MOMENT.fullmatch(cell)
    try:
        if match:
            iso = match["day"] + "T" + (match["time"] or "00:00") + (match["zone"] or "")
            read = datetime.fromisoformat(iso.replace(",", "."))
            aware = read if read.tzinfo else read.replace(tzinfo=zone)
            return aware.astimezone(UTC)
    except (ValueError, OverflowError):  # a zone may lead out of the calendar
        pass
    raise BadRecordError(f"{shown(cell)} is no time; write {MOMENT_FORM}")
