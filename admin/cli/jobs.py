"""`plumbline jobs`: what was asked for, what runs and how it ended."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from admin.cli import arguments, output
from admin.cli.work import WaitOption, ask_and_end
from models.errors import UsageError

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Jobs: what was asked for, what runs, how it ended.")
app.add_typer(group, name="jobs")

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the job.")]

UNFINISHED = ("queued", "running", "retrying")
STATUSES = (*UNFINISHED, "succeeded", "failed", "cancelled", "lost")


@group.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, the latest first.")] = 20,
    as_json: output.JsonOption = False,
) -> None:
    """List the latest jobs.

    Example:
        plumbline jobs list --status failed
    """
    from admin.cli.process import ready
    from models.store import jobs

    if status is not None and status not in STATUSES:
        raise UsageError(f"There is no status {status!r}; choose one of {', '.join(STATUSES)}.")
    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in jobs.listing(session, status=status, task=task, limit=limit)]
    output.print_rows(
        rows,
        columns={
            "id": "id",
            "task": "task",
            "trigger": "by",
            "status": "status",
            "created_at": "asked for (UTC)",
            "finished_at": "ended (UTC)",
            "rows_read": "read",
            "rows_written": "written",
            "error": "trouble",
        },
        as_json=as_json,
        empty="There are no such jobs.",
    )


@group.command("show")
def show(job_id: IdArgument, as_json: output.JsonOption = False) -> None:
    """Show a job, and how far all that it asked for is.

    Example:
        plumbline jobs show 17
    """
    from admin.cli.process import ready
    from models.store import jobs

    process = ready()
    with process.database.transaction() as session:
        facts = jobs.get(session, job_id)._asdict()
        family = jobs.family(session, job_id)
    facts["family"] = {
        "jobs": family.total,
        "finished": family.finished,
        "failed": family.failed,
        "rows_read": family.rows_read,
        "rows_written": family.rows_written,
        "failures": list(family.failures),
    }
    output.print_facts(facts, as_json=as_json)


@group.command("run")
def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task; a wrong one lists all.")],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="K=V", help="Argument of the task; V is JSON where it parses. Repeatable."),
    ] = None,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Ask the workers to run a task.

    Example:
        plumbline jobs run maintain.prune --wait
        plumbline jobs run collect.sync_scope --arg scope_id=3 --arg full=true
    """
    from admin.cli.process import ready
    from workers.app import app as celery
    from workers.task import spec

    given = arguments.pairs(arg, "--arg")
    process = ready()
    celery.loader.import_default_modules()
    spec(task).check(given)
    ask_and_end(process, task, wait=wait, as_json=as_json, **given)


@group.command("cancel")
def cancel(job_id: IdArgument) -> None:
    """Cancel a job and what it asked for; what it has written stays.

    Example:
        plumbline jobs cancel 17
    """
    from admin.cli.process import ready
    from models.store import jobs

    process = ready()
    with process.database.transaction() as session:
        row = jobs.get(session, job_id)
        is_cancelled = jobs.cancel(session, job_id)
    if not is_cancelled:
        raise UsageError(f"Job {job_id} has ended already: {row.status}.")
    output.say(f"Cancelled job {job_id} and what it asked for.")


@group.command("retry")
def retry(job_id: IdArgument, wait: WaitOption = False, as_json: output.JsonOption = False) -> None:
    """Ask for the same again, as a new job.

    Example:
        plumbline jobs retry 17 --wait
    """
    from admin.cli.process import ready
    from models.store import jobs

    process = ready()
    with process.database.transaction() as session:
        row: Any = jobs.get(session, job_id)
    if row.status in UNFINISHED:
        raise UsageError(f"Job {job_id} has not ended yet: {row.status}.")
    ask_and_end(process, row.task, wait=wait, as_json=as_json, **row.args)
