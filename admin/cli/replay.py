"""`plumbline replay`: promote what was received once more, without asking the source."""

from __future__ import annotations

from typing import Annotated

import typer

from admin.cli import output
from admin.cli.work import WaitOption, ask_and_end
from models.errors import UsageError

app = typer.Typer()


@app.command()
def replay(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="Name of the connection.")],
    stream: Annotated[str | None, typer.Option("--stream", metavar="S", help="Only this stream.")] = None,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Read the stored payloads of a connection again.

    For when a parser or a mapping has changed. The source is not asked.

    Example:
        plumbline replay site --stream issues --wait
    """
    from admin.cli.connections import require_active
    from admin.cli.process import ready
    from connectors import registry
    from models.store import connections

    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, connection)
    if row.kind not in registry.KINDS:
        raise UsageError("Uploads keep no payloads; hand the results in again.")
    streams = registry.kind(row.kind).streams
    if stream is not None and stream not in streams:
        raise UsageError(f"{row.kind} has no stream {stream!r}; choose one of {', '.join(streams)}.")
    require_active(row)
    ask_and_end(process, "replay.connection", wait=wait, as_json=as_json, connection=connection, stream=stream)
