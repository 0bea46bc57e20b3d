"""`plumbline scope`: which projects of a connection are read, and which project of ours each feeds."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from admin.cli import arguments, hooks, output
from models.errors import GoneError, UsageError

if TYPE_CHECKING:
    from connectors.base import ConnectorKind

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Projects of a connection that are read.")
app.add_typer(group, name="scope")


@group.command("add")
def add(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="Name of the connection.")],
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="Jira project key, GitLab project path or id, Allure folder or server project."
        ),
    ],
    project: Annotated[
        str | None, typer.Option("--project", metavar="TITLE", help="Our project; the source's title where not given.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="K=V", help="Option of the scope; V is JSON where it parses. Repeatable."),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not ask the source whether it is there.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Read a project of a connection, into a project of ours, which is made when missing.

    Several scopes may feed one project: a Jira project and the GitLab projects of the same product, say.

    Example:
        plumbline scope add site SHOP --project "Web shop"
        plumbline scope add work acme/shop --project "Web shop"
    """
    from admin.cli.connections import connect
    from admin.cli.process import ready
    from connectors import registry
    from connectors.base import ScopeSpec
    from models.store import connections
    from tasks.steps import connection_spec

    if not key.strip() or key != key.strip():
        raise UsageError("The key is empty, or has spaces around it.")
    options = arguments.pairs(option, "--option")
    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, connection)
        if connections.scopes(session, connection=connection, key=key):
            raise UsageError(f"The connection has the scope {key!r} already.")
    if row.kind == "upload":
        raise UsageError("Uploads make their scopes themselves; see `plumbline ingest allure --help`.")
    title = key
    if not no_check:
        with closing(connect(connection_spec(process.settings, row))) as connector:
            try:
                title = connector.check_scope(ScopeSpec(id=0, external_key=key, options=options))
            except GoneError as error:
                raise GoneError(f"There is no project {key!r} at {connection}, or the token may not see it.") from error
    project_title = (project or title).strip()
    with process.database.transaction() as session:
        tenant_id = connections.default_tenant(session)
        project_id = connections.ensure_project(
            session, tenant_id, project_title, timezone=process.settings.reporting_timezone
        )
        repository = _repository(registry.kind(row.kind), row, key)
        repository_id = repository and connections.ensure_repository(
            session, tenant_id, project_id, provider=row.kind, external_id=repository, title=title
        )
        scope_id = connections.add_scope(
            session,
            row.id,
            external_key=key,
            project_id=project_id,
            repository_id=int(repository_id) if repository_id else None,
            options=options,
        )
    if row.webhooks:
        hooks.register_for_new_scope(process, connection)
    if as_json:
        output.print_json(
            {
                "id": scope_id,
                "connection": connection,
                "key": key,
                "title": title,
                "project": project_title,
                "project_id": project_id,
                "repository": repository,
            }
        )
        return
    output.say(f"Added the scope {key} ({title}) of {connection}; it feeds the project {project_title!r}.")
    if repository:
        output.say(f"Its repository is {repository}.")
    output.say(f"Beat syncs it within minutes; `plumbline sync {connection} --scope {key} --wait` does it now.")


def _repository(kind: ConnectorKind, row: Any, key: str) -> str | None:
    """What the repository of a scope is known by; test cases need one, whatever they were tested with."""
    if kind.is_forge:
        return f"{urlsplit(row.base_url).netloc}/{key}"
    return f"{row.name}/{key}" if kind.bring_results is not None else None


@group.command("list")
def list_(
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="Only those of this connection.")
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """List the scopes: what each feeds, until when it is known to be complete, and how far its backfills have come.

    The pace of a backfill is that of the last minute; the time left is what its windows still hold at that pace, and
    unknown until there is one.

    Example:
        plumbline scope list
    """
    from admin.cli.process import ready
    from models.store import connections, windows

    process = ready()
    with process.database.transaction() as session:
        if connection is not None:
            connections.connection(session, connection)
        rows = [row._asdict() for row in connections.scopes(session, connection=connection)]
        backfills = [row._asdict() for row in windows.backfills(session)]
    for row in rows:
        own = [each for each in backfills if each["sync_scope_id"] == row["id"]]
        row["backfills"] = own if as_json else "; ".join(map(_backfill, own))
    output.print_rows(
        rows,
        columns={
            "connection": "connection",
            "external_key": "key",
            "project": "project",
            "is_active": "active",
            "complete_until": "complete until (UTC)",
            "backfills": "backfill",
            "open_rejects": "set aside",
            "last_error": "trouble",
        },
        as_json=as_json,
        empty="There are no scopes yet; see `plumbline scope add --help`.",
    )


def _backfill(row: dict[str, Any]) -> str:
    return (
        f"{row['resource']}: {row['windows_done']} of {row['windows_total']} windows, {row['rows_seen']:,} rows, "
        f"{row['rows_per_second']:,.0f}/s, {output.span(row['seconds_left'])} left"
    )
