"""`plumbline schedules`: what runs by the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from admin.cli import output

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="What runs by the clock.")
app.add_typer(group, name="schedules")


@group.command("list")
def list_(as_json: output.JsonOption = False) -> None:
    """List the schedules.

    Example:
        plumbline schedules list
    """
    from admin.cli.process import ready
    from models.store import jobs

    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in jobs.schedules(session)]
    output.print_rows(
        rows,
        columns={
            "name": "name",
            "task": "task",
            "cron": "cron",
            "timezone": "zone",
            "args": "arguments",
            "is_enabled": "enabled",
            "catch_up": "catch up",
            "last_scheduled_for": "last (UTC)",
            "next_run_at": "next (UTC)",
        },
        as_json=as_json,
        empty="There are no schedules.",
    )


@group.command("next")
def next_(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1_000, help="How many ticks.")] = 10,
    as_json: output.JsonOption = False,
) -> None:
    """List the next ticks of all enabled schedules in the order of their times.

    Example:
        plumbline schedules next -n 20
    """
    from admin.cli.process import ready
    from models.rules.schedule import next_tick
    from models.store import jobs

    process = ready()
    with process.database.transaction() as session:
        enabled = [row for row in jobs.schedules(session) if row.is_enabled]
    now = datetime.now(UTC)
    ticks = []
    for row in enabled:
        at = now
        for _ in range(count):
            at = next_tick(row.cron, row.timezone, at)
            ticks.append({"at": at, "name": row.name, "task": row.task})
    output.print_rows(
        sorted(ticks, key=lambda tick: (tick["at"], tick["name"]))[:count],
        columns={"at": "at (UTC)", "name": "schedule", "task": "task"},
        as_json=as_json,
        empty="No schedule is enabled.",
    )
