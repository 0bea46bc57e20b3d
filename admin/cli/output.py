"""How commands speak: data on stdout, as tables for people or as one JSON document; everything else on stderr.

What belongs here: printing, and the options that many commands share. What does not: what is printed. Conventions:

- What a command was asked for goes to stdout through `print_rows`, `print_facts`, `print_json` or `say`; with `--json`
  nothing else goes there, and exactly one document does.
- Progress, hints and warnings go to stderr through `note`.
- A command ends with 0 by returning, and with 1 by `raise typer.Exit(1)` where it ran and something failed or differs.
  An error is raised as a `PlumblineError`; `main.py` prints it and knows its exit code.
- Rich and everything of ours that is slow to import is imported inside functions, so that `--help` is instant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

is_debug: ContextVar[bool] = ContextVar("is_debug", default=False)
"""Whether `--debug` was given; set by `main.py`."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
"""For commands that print data: `as_json: JsonOption = False`."""

WIDE_CHARACTERS = 1_000
"""How wide a table may be where nobody watches it: what reads a pipe wants whole words, not a terminal's width."""


def say(text: str) -> None:
    """Print a sentence that the command was asked for."""
    typer.echo(printable(text))


def note(text: str) -> None:
    """Print a remark to stderr."""
    typer.echo(printable(text), err=True)


def print_json(data: Any) -> None:
    """Print one JSON document to stdout. Times are ISO 8601 in UTC, spans are seconds."""
    typer.echo(json.dumps(data, default=_plain, ensure_ascii=False, indent=2))


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Mapping[str, str],
    as_json: bool,
    empty: str = "There are none.",
    title: str | None = None,
) -> None:
    """Print a list: as JSON with every key, or as a table with some of them.

    Args:
        rows: one mapping a row.
        columns: key to heading, in the order of the table.
        as_json: a JSON list instead of a table.
        empty: said, to stderr, instead of a table without rows.
        title: above the table.
    """
    if as_json:
        print_json([dict(row) for row in rows])
        return
    if not rows:
        note(empty)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for key, heading in columns.items():
        is_number = all(isinstance(row[key], int | float | Decimal | None) for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        # Text, because what came from a source may look like Rich's markup.
        table.add_row(*(Text(readable(row[key])) for key in columns))
    console().print(table)


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: as a JSON object, or a line for each fact."""
    if as_json:
        print_json(dict(facts))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {readable(value)}")


def console(stream: IO[str] | None = None) -> Console:
    """A Rich console on a stream, stdout where None; wide where the stream is no terminal."""
    from rich.console import Console

    stream = stream or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE_CHARACTERS, highlight=False)


def readable(value: Any) -> str:
    """A value as a person reads it. Times are UTC to the second."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping | list | tuple):
        return printable(json.dumps(value, default=_plain, ensure_ascii=False))
    return printable(str(value))


def printable(text: str) -> str:
    """Text without what would steer a terminal; it may come from a source."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def ago(moment: datetime, now: datetime) -> str:
    """How long ago a moment was, in one unit: `12 s`, `5 min`, `3 h`, `8 d`; a moment to come is `0 s` ago."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def span(seconds: float | None) -> str:
    """A time to come, in one unit, or that it is not known."""
    if seconds is None:
        return "unknown time"
    now = datetime.now(UTC)
    return ago(now - timedelta(seconds=seconds), now)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
