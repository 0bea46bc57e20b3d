"""`plumbline capture`: which tables' changes are logged."""

from __future__ import annotations

from typing import Annotated

import typer

from admin.cli import output

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Which tables' changes are logged in change_log.")
app.add_typer(group, name="capture")

TableArgument = Annotated[str, typer.Argument(help="A watched table, e.g. test_run_results.")]


@group.command("list")
def list_(as_json: output.JsonOption = False) -> None:
    """List the watched tables, and whether their changes are logged now.

    Example:
        plumbline capture list
    """
    from admin.cli.process import ready
    from models.store import capture

    with ready().database.transaction() as session:
        rows = [row._asdict() for row in capture.watched_tables(session)]
    output.print_rows(
        rows,
        columns={
            "table_name": "table",
            "is_on": "logged",
            "switched_at": "switched (UTC)",
            "switched_by": "by",
        },
        as_json=as_json,
        empty="No table is watched.",
    )


@group.command()
def on(table: TableArgument) -> None:
    """Log the changes of a table again, from now on.

    Example:
        plumbline capture on test_run_results
    """
    _switch(table, is_on=True)
    output.say(f"Changes of {table} are logged.")


@group.command()
def off(table: TableArgument) -> None:
    """Log the changes of a table no longer: nothing is derived from them, and its history has a gap.

    Example:
        plumbline capture off test_run_results
    """
    _switch(table, is_on=False)
    output.say(f"Changes of {table} are not logged; `plumbline capture on {table}` logs them again.")


def _switch(table: str, *, is_on: bool) -> None:
    from admin.cli.process import ready
    from models.store import capture

    with ready().database.transaction() as session:
        capture.switch(session, table, is_on=is_on)
