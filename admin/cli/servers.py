"""`plumbline up`, `down`, `status` and `migrate`: the processes and the servers that Plumbline is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import output
from models.errors import UsageError

if TYPE_CHECKING:
    from admin.checks import Finding
    from workers.embedded import Endpoints
    from workers.runtime import Runtime
    from workers.settings import Settings

app = typer.Typer()


@app.command("up")
def up(
    demo: Annotated[bool, typer.Option("--demo", help="With a simulated Jira and GitLab to read from.")] = False,
) -> None:
    """Run everything here until Ctrl-C.

    That is: servers that are not configured, workers, beat, API and Flower.
    Brings the database to the newest version first. Ctrl-C stops all of it; data stays.

    Example:
        plumbline up
    """
    import logging

    from workers import supervisor
    from workers.logs import configure_logging
    from workers.settings import load_settings

    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it does is told in a line of our own
    settings = load_settings()
    if output.is_debug.get():
        settings = settings.model_copy(update={"log_level": "debug"})
    configure_logging(settings)
    processes = supervisor.default_processes(settings)
    if demo:
        from admin.cli.simulate import demo_processes

        processes += demo_processes(settings)

    def before_start(endpoints: Endpoints) -> None:
        _prepare(settings, endpoints, demo=demo)

    raise typer.Exit(supervisor.run(settings, processes, stop_servers_at_exit=True, before_start=before_start))


@app.command("down")
def down(as_json: output.JsonOption = False) -> None:
    """Stop what `plumbline up` runs, and the embedded servers.

    Servers that somebody configured are left alone; data stays.

    Example:
        plumbline down
    """
    from admin.cli.process import start
    from workers import supervisor
    from workers.embedded import server_states, stop_servers

    home = start().settings.home
    is_stopped = supervisor.stop(home)
    servers = [state.name for state in server_states(home) if state.pid]
    stop_servers(home)
    if as_json:
        output.print_json({"up": is_stopped, "servers": servers})
        return
    stopped = [*(["`plumbline up`"] if is_stopped else []), *(f"the embedded {name}" for name in servers)]
    output.say(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command("status")
def status(as_json: output.JsonOption = False) -> None:
    """Show what runs here: processes, servers, schema, jobs.

    It starts nothing: a stopped server stays stopped.

    Example:
        plumbline status
    """
    from admin.cli.process import start
    from workers import embedded

    process = start()
    rows = [*_supervised(process.settings), *_servers(process.settings)]
    # Asking an embedded server would start it.
    states = {state.name: state.answers for state in embedded.server_states(process.settings.home)}
    is_there = embedded.endpoints(process.settings).embedded <= {name for name, answers in states.items() if answers}
    if is_there:
        rows += [_row(finding) for finding in _findings(process)]
    output.print_rows(rows, columns={"part": "part", "state": "state", "detail": "detail"}, as_json=as_json)


@app.command("migrate")
def migrate(
    to: Annotated[
        str, typer.Option("--to", metavar="REV", help="A version, or steps such as -1; the newest where not given.")
    ] = "head",
    yes: Annotated[bool, typer.Option("--yes", help="Allow going back, which drops what is newer.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Bring the database to the newest version, or to a named one.

    It may be run again, and from several places at once.

    Example:
        plumbline migrate
    """
    from alembic.util.exc import CommandError

    from admin.cli.process import connected
    from models.store import session, summaries

    process = connected()
    try:
        if not yes and session.is_downgrade(process.database, to):
            raise UsageError(f"Going back to {to} drops what later versions have added, rows included; --yes does it.")
        before, after = session.migrate(process.database, to)
        if after == session.newest_revision():
            with process.database.transaction() as transaction:
                summaries.mark_outdated(transaction)
    except CommandError as error:
        raise UsageError(f"There is no version {to!r}: {error}.") from error
    if as_json:
        output.print_json({"before": before, "after": after})
    elif before == after:
        output.say(f"The database is at version {after} already.")
    else:
        output.say(f"The database went from {before or 'nothing'} to version {after or 'nothing'}.")


def _prepare(settings: Settings, endpoints: Endpoints, *, demo: bool) -> None:
    """Before any process: the schema, and for a demo what it reads from."""
    from models.store import summaries
    from models.store.session import Database, migrate

    database = Database(endpoints.database_url, application_name="plumbline up")
    try:
        before, after = migrate(database)
        if before != after:
            output.note(f"The database went from {before or 'nothing'} to version {after}.")
        with database.transaction() as session:
            summaries.mark_outdated(session)
        if demo:
            from admin.cli.simulate import add_demo_sources

            add_demo_sources(database, settings)
    finally:
        database.close()
    output.note(f"API     http://{settings.api_host}:{settings.api_port}")
    credentials = settings.flower_basic_auth.get_secret_value()
    # Generated ones are nowhere else; those that were given are known to who gave them.
    shown = f" as {credentials}" if settings.given_flower_basic_auth is None else ""
    output.note(f"Flower  http://{settings.api_host}:{settings.flower_port}{shown}")


def _supervised(settings: Settings) -> list[dict[str, Any]]:
    from workers import supervisor

    state = supervisor.read_state(settings.home)
    if state is None or not state.is_running:
        return [{"part": "up", "state": "not running", "detail": "`plumbline up` starts everything"}]
    since = output.ago(state.started_at, datetime.now(UTC))
    rows = [{"part": "up", "state": "running", "detail": f"pid {state.pid}, for {since}"}]
    rows += [
        {"part": f"process {name}", "state": "running", "detail": f"pid {pid}"}
        for name, pid in sorted(state.process_pids.items())
    ]
    return rows


def _servers(settings: Settings) -> list[dict[str, Any]]:
    from workers import embedded

    used = embedded.endpoints(settings).embedded
    return [
        {
            "part": f"embedded {state.name}",
            "state": "answers" if state.answers else "busy" if state.pid else "not running",
            "detail": str(state.data_path),
        }
        for state in embedded.server_states(settings.home)
        if state.name in used
    ]


def _findings(process: Runtime) -> list[Finding]:
    from admin import checks

    database = checks.check_database(process)
    findings = [database, checks.check_broker(process)]
    if database.is_ok:
        schema = checks.check_migrations(process.database)
        findings.append(schema)
        if schema.is_ok:
            of_rows = (checks.check_beat, checks.check_jobs, checks.check_partitions)
            findings += [check(process.database) for check in of_rows]
    return findings


def _row(finding: Finding) -> dict[str, Any]:
    return {"part": finding.name, "state": "ok" if finding.is_ok else "trouble", "detail": finding.detail}
