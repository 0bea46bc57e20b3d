"""`plumbline verify`: compare every row with the sources, and change nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import output
from admin.cli.work import counted
from models.errors import NotFoundError, SourceError, UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tasks.verify import StreamVerdict
    from workers.runtime import Runtime

app = typer.Typer()

LINE_SECONDS = 5.0
"""How often progress is told where stderr is no terminal."""
SHOWN_CHARACTERS = 60
"""How much of a value is shown in the table; `--json` has it whole."""

WORDS = {
    "missing_here": "missing here",
    "missing_there": "missing at the source",
    "differs": "differs",
    "newer_there": "newer at the source",
    "unreadable": "cannot be read",
}


@app.command()
def verify(
    connection: Annotated[
        str | None, typer.Argument(metavar="[CONNECTION]", help="Only this connection; all where not given.")
    ] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="KEY", help="Only this scope.")] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="S", help="Only this stream, such as issues or merge_requests.")
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Compare every row with its source, and change nothing. Exits with 1 where any differs.

    It reads all that the sources show, as a first sync does.

    Example:
        plumbline verify
        plumbline verify work --scope acme/shop --stream merge_requests --json
    """
    from admin.cli.process import ready

    process = ready()
    with process.database.transaction() as session:
        scopes = _wanted(session, connection, scope, stream)
    compared: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for row in scopes:
        try:
            compared.extend(_facts(row, verdict) for verdict in _verdicts(process, row, stream))
        except SourceError as error:
            failed.append({"connection": row.connection, "scope": row.external_key, "error": error.message})
    is_equal = not failed and not any(each["differences"] for each in compared)
    if as_json:
        output.print_json({"is_equal": is_equal, "compared": compared, "failed": failed})
    else:
        _print(compared, failed)
    if not is_equal:
        raise typer.Exit(1)


def _wanted(session: Session, connection: str | None, scope: str | None, stream: str | None) -> Sequence[Any]:
    """The scopes to compare; raises where the call would compare nothing, which would be called equal."""
    from admin.cli.connections import require_active
    from connectors import registry
    from models.store import connections

    if connection is not None:
        row = connections.connection(session, connection)
        if row.kind not in registry.KINDS:
            raise UsageError("Uploads have no source that could be asked again; they are kept as they came.")
        require_active(row)
    known = [row for row in connections.scopes(session, connection=connection) if row.kind in registry.KINDS]
    if not known:
        raise UsageError("There is nothing to compare yet; see `plumbline scope add --help`.")
    named = [row for row in known if scope in (None, row.external_key)]
    if not named:
        raise NotFoundError(f"There is no scope {scope!r}; there are: {', '.join(row.external_key for row in known)}.")
    active = [row for row in named if row.connection_status == "active"]
    for row in named:
        if row not in active:
            output.note(f"{row.connection} is {row.connection_status} and left out.")
    streams = {row.id: registry.kind(row.kind).streams for row in active}
    wanted = [row for row in active if stream is None or stream in streams[row.id]]
    if not wanted:
        names = sorted({name for each in streams.values() for name, one in each.items() if one.is_incremental})
        raise UsageError(
            f"There is no stream {stream!r}; choose one of {', '.join(names)}."
            if active
            else "All connections are paused or denied; see `plumbline connection list`."
        )
    return wanted


def _verdicts(process: Runtime, row: Any, stream: str | None) -> Iterator[StreamVerdict]:
    from connectors.base import OpenGate
    from tasks.verify import verify_scope

    with _progress(f"{row.connection} {row.external_key}") as progress:
        yield from verify_scope(
            process.database,
            process.settings,
            row.id,
            gate=process.gate or OpenGate(),
            sleep=time.sleep,
            progress=progress,
            stream=stream,
        )


def _facts(row: Any, verdict: StreamVerdict) -> dict[str, Any]:
    comparison = verdict.comparison
    return {
        "connection": row.connection,
        "scope": row.external_key,
        "stream": verdict.stream,
        "read": verdict.read,
        "differences": sum(comparison.counts.values()),
        "rejected": comparison.rejected,
        "tables": [
            {
                "table": table.table,
                "rows_here": table.rows_here,
                "rows_there": table.rows_there,
                "differences": table.counts,
                "columns": table.columns,
            }
            for table in comparison.tables
        ],
        "examples": [
            {
                "table": example.table,
                "difference": example.kind,
                "id": example.reference,
                "label": example.label,
                "columns": {name: {"here": here, "there": there} for name, (here, there) in example.columns.items()},
            }
            for example in comparison.examples
        ],
    }


def _print(compared: Sequence[dict[str, Any]], failed: Sequence[dict[str, Any]]) -> None:
    differing = [each for each in compared if each["differences"]]
    if differing:
        output.print_rows(
            [row for each in differing for row in _difference_rows(each)],
            columns={
                "connection": "connection",
                "scope": "scope",
                "table": "table",
                "difference": "difference",
                "rows": "rows",
                "columns": "columns (in how many rows)",
            },
            as_json=False,
            title="Differences",
        )
        output.print_rows(
            [row for each in differing for row in _example_rows(each)],
            columns={
                "difference": "difference",
                "label": "for example",
                "column": "column",
                "here": "here",
                "there": "at the source",
            },
            as_json=False,
            title="Examples",
        )
    for each in failed:
        output.note(f"Error: {each['connection']} {each['scope']} was not compared to its end: {each['error']}")
    rows: dict[str, int] = {}
    for each in compared:
        for table in each["tables"]:
            rows[table["table"]] = rows.get(table["table"], 0) + table["rows_there"]
    compared_rows = ", ".join(f"{count:,} of {table}" for table, count in rows.items())
    rejected = sum(each["rejected"] for each in compared)
    if compared_rows:
        found = sum(each["differences"] for each in compared)
        output.say(f"{counted(found, 'difference') if found else 'No difference'}; rows compared: {compared_rows}.")
    if rejected:
        output.say(f"{counted(rejected, 'record')} set aside, here and there; see `plumbline rejects list`.")
    for hint in _hints(compared):
        output.note(hint)


def _difference_rows(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for table in facts["tables"]:
        columns = ", ".join(f"{name} ({count:,})" for name, count in table["columns"].items())
        for kind, word in WORDS.items():
            if kind in table["differences"]:
                yield {
                    "connection": facts["connection"],
                    "scope": facts["scope"],
                    "table": table["table"],
                    "difference": word,
                    "rows": table["differences"][kind],
                    "columns": columns if kind == "differs" else None,
                }


def _example_rows(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for example in facts["examples"]:
        row = {"difference": WORDS[example["difference"]], "label": example["label"]}
        if not example["columns"]:
            yield {**row, "column": None, "here": None, "there": None}
        for name, values in example["columns"].items():
            yield {**row, "column": name, "here": _shown(values["here"]), "there": _shown(values["there"])}


def _shown(value: Any) -> str:
    text = "NULL" if value is None else output.readable(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _hints(compared: Sequence[dict[str, Any]]) -> Iterator[str]:
    kinds: dict[str, int] = {}
    for each in compared:
        for table in each["tables"]:
            for kind, count in table["differences"].items():
                kinds[kind] = kinds.get(kind, 0) + count
    if kinds.get("newer_there"):
        yield (
            f"{counted(kinds['newer_there'], 'row')} changed at the source since the last sync: "
            "`plumbline sync --wait` brings them, so sync first and verify again."
        )
    if kinds.get("missing_here") or kinds.get("differs"):
        yield "`plumbline sync --full --wait` reads everything again and writes what differs here."
    if kinds.get("missing_there"):
        yield "What is missing at the source was deleted or moved there, or is hidden from our token."
    if kinds.get("unreadable"):
        yield "What cannot be read is set aside by the next sync; `plumbline rejects list` shows why."


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, int, float | None], None]]:
    """How far the reading is, on stderr: a bar for people, a line every few seconds for logs."""
    if not sys.stderr.isatty():
        told_at = time.monotonic()

        def tell(stream: str, read: int, _ratio: float | None) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= LINE_SECONDS:
                told_at = time.monotonic()
                output.note(f"{name}: {read:,} {stream} read")

        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as progress:
        task = progress.add_task(output.printable(name), total=None)

        def show(stream: str, read: int, ratio: float | None) -> None:
            description = output.printable(f"{name}: {read:,} {stream} read")
            progress.update(task, description=description, total=None if ratio is None else 1.0, completed=ratio or 0.0)

        yield show
