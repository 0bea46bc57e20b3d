"""`plumbline reconcile`: find what was deleted, moved or missed at the sources."""

from __future__ import annotations

from typing import Annotated

import typer

from admin.cli import output
from admin.cli.sync import check
from admin.cli.work import WaitOption, ask_and_end

app = typer.Typer()


@app.command()
def reconcile(
    connection: Annotated[
        str | None, typer.Argument(metavar="[CONNECTION]", help="Only this connection; all where not given.")
    ] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="KEY", help="Only this scope.")] = None,
    allow_mass: Annotated[
        bool, typer.Option("--allow-mass", help="Believe it where more than a fifth of all has vanished.")
    ] = False,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Find what was deleted, moved or missed at the sources, by listing ids.

    What was missed is fetched. What is no longer shown is asked for again five minutes later, and marked as deleted
    if it still is not; it comes back when it is shown again.

    Example:
        plumbline reconcile --wait
        plumbline reconcile work --scope acme/shop
    """
    from admin.cli.process import ready

    process = ready()
    with process.database.transaction() as session:
        check(session, connection, scope, None)
    ask_and_end(
        process,
        "reconcile.all",
        wait=wait,
        as_json=as_json,
        connection=connection,
        scope=scope,
        allow_mass=allow_mass,
    )
