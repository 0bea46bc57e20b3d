"""`plumbline sync`: ask the workers to bring scopes up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from admin.cli.work import WaitOption, ask_and_end
from models.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = typer.Typer()


@app.command()
def sync(
    connection: Annotated[
        str | None, typer.Argument(metavar="[CONNECTION]", help="Only this connection; all where not given.")
    ] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="KEY", help="Only this scope.")] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="S", help="Only this stream, such as issues or merge_requests.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only what changed.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Read what was updated since then again.")
    ] = None,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Bring the tables up to date with the sources.

    What was updated since the last sync is read, or with --full everything.

    Example:
        plumbline sync --wait
        plumbline sync work --scope acme/shop --since 2026-01-01 --wait
    """
    from admin.cli.process import ready

    if full and since is not None:
        raise UsageError("--full reads everything, --since what was updated since then; give one of them.")
    since_time = None if since is None else arguments.read_time(since, "--since")
    process = ready()
    with process.database.transaction() as session:
        check(session, connection, scope, stream)
    ask_and_end(
        process,
        "collect.sync_all",
        wait=wait,
        as_json=as_json,
        connection=connection,
        scope=scope,
        stream=stream,
        full=full,
        since=since_time and since_time.isoformat(),
    )


def check(session: Session, connection: str | None, scope: str | None, stream: str | None) -> None:
    """Raise where the call would sync nothing; a job that finds nothing to do would be called a success."""
    from admin.cli.connections import require_active
    from models.store import connections

    if connection is not None:
        row = connections.connection(session, connection)
        if row.kind == "upload":
            raise UsageError("Uploads have nothing to sync; `plumbline ingest allure PATH` takes results in.")
        require_active(row)
    rows = [row for row in connections.scopes(session, connection=connection) if row.kind != "upload"]
    if not rows:
        where = f"The connection {connection!r} has no scopes" if connection else "There are no scopes"
        raise UsageError(f"{where} yet; `plumbline scope add {connection or 'CONNECTION'} KEY` adds one.")
    named = [row for row in rows if scope in (None, row.external_key)]
    if not named:
        known = ", ".join(row.external_key for row in rows[:20])
        raise NotFoundError(f"There is no scope {scope!r}; there are: {known}.")
    active = [row for row in named if row.is_active and row.connection_status == "active"]
    if not active:
        raise UsageError(
            f"Nothing would be synced: {named[0].connection} is {named[0].connection_status}; "
            f"`plumbline connection resume {named[0].connection}` starts it again."
            if named[0].connection_status != "active"
            else f"The scope {named[0].external_key!r} is not active."
        )
    _check_stream(active, stream)


def _check_stream(rows: list[Any], stream: str | None) -> None:
    from connectors import registry

    if stream is None:
        return
    for row in rows:
        streams = registry.kind(row.kind).streams
        if stream not in streams:
            raise UsageError(
                f"The connection {row.connection!r} has no stream {stream!r}; {row.kind} has {', '.join(streams)}."
            )
