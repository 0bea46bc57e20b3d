"""`plumbline rejects`: records that could not be understood or stored, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from admin.cli import output

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Records that were set aside.")
app.add_typer(group, name="rejects")


@group.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, the latest first.")] = 50,
    as_json: output.JsonOption = False,
) -> None:
    """List the records that are set aside, the latest first, with the reason of each.

    Example:
        plumbline rejects list
    """
    from admin.cli.process import ready
    from models.store import sync

    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in sync.open_rejects(session, limit=limit)]
    output.print_rows(
        rows,
        columns={
            "id": "id",
            "connection": "connection",
            "scope": "scope",
            "resource": "stream",
            "external_id": "record",
            "reason": "reason",
            "last_seen_at": "last seen (UTC)",
        },
        as_json=as_json,
        empty="No record is set aside.",
    )
