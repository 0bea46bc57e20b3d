"""`plumbline connection`: the instances that we read from, and whether they let us.

Secrets come from the environment or stdin, never from an argument, which everybody on the machine could read.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, hooks, output
from models.errors import PlumblineError, SourceError, UsageError

if TYPE_CHECKING:
    from connectors.base import ConnectionSpec, Connector, Probe
    from workers.runtime import Runtime
    from workers.settings import Settings

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Instances of Jira, GitLab and GitHub that are read from.")
app.add_typer(group, name="connection")
group.command("webhooks")(hooks.webhooks)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the connection.")]
UserOption = Annotated[
    str | None,
    typer.Option("--user", metavar="USER", help="Jira Cloud: e-mail of the token's account; Data Center: its name."),
]
TokenEnvOption = Annotated[
    str | None, typer.Option("--token-env", metavar="VAR", help="Environment variable that holds the token.")
]
TokenStdinOption = Annotated[bool, typer.Option("--token-stdin", help="Read the token from stdin.")]
OptionOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="K=V", help="Option of the connection; V is JSON where it parses. Repeatable."),
]
NoTestOption = Annotated[bool, typer.Option("--no-test", help="Do not ask the instance whether the token works.")]

CLOCK_REMARK_SECONDS = 30
ALLURE = "allure"
"""The one kind that may be a directory."""


@group.command("add")
def add(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="jira, gitlab, github or allure.")],
    name: NameArgument,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Address of the instance.")],
    user: UserOption = None,
    token_env: TokenEnvOption = None,
    token_stdin: TokenStdinOption = False,
    option: OptionOption = None,
    no_test: NoTestOption = False,
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Register webhooks at the source, with each scope that is added.")
    ] = False,
    public_url: hooks.PublicUrlOption = None,
    as_json: output.JsonOption = False,
) -> None:
    r"""Add a connection, once the instance has accepted the token.

    Example:
        plumbline connection add gitlab work --url https://git.acme.com --token-env T
        plumbline connection add jira site --url https://acme.atlassian.net \
            --user me@acme.com --token-stdin < token.txt
        plumbline connection add allure nightly --url file:///srv/allure
    """
    from admin.cli.process import ready
    from connectors import registry
    from connectors.base import ConnectionSpec
    from models.store import connections
    from workers import secrets
    from workers.settings import load_settings

    _refuse_uploads(kind)
    if registry.kind(kind).webhooks is None and webhooks:
        raise UsageError(f"Connections of kind {kind} have no webhooks.")
    if webhooks and (public_url or load_settings().public_url) is None:
        raise UsageError("Webhooks need --public-url or PLUMBLINE_PUBLIC_URL: where the source reaches our API.")
    spec = ConnectionSpec(
        id=0,
        kind=kind,
        name=arguments.checked_name(name),
        base_url=arguments.checked_url(url, may_be_directory=kind == ALLURE),
        auth=_auth(arguments.read_token(token_env, from_stdin=token_stdin), user),
        options=arguments.pairs(option, "--option"),
    )
    process = ready()
    with process.database.transaction() as session:
        if any(row.name == name for row in connections.connections(session)):
            raise UsageError(f"There is a connection {name!r} already; `plumbline connection change` changes it.")
    probe = _probed(spec, is_wanted=not no_test)
    with process.database.transaction() as session:
        connection_id = connections.add_connection(
            session,
            connections.default_tenant(session),
            kind=kind,
            name=name,
            base_url=spec.base_url,
            auth=secrets.encrypt(process.settings, spec.auth),
            options=spec.options,
        )
        if probe:
            connections.record_success(session, connection_id)
    if webhooks:
        hooks.register(process, name, public_url=public_url)
    if as_json:
        output.print_json({"id": connection_id, "name": name, "kind": kind, "probe": _probe_facts(probe)})
        return
    _print_probe(name, probe)
    output.say(f"Added the connection {name}. Next: `plumbline scope add {name} KEY` names what to read from it.")


@group.command("change")
def change(
    name: NameArgument,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="New address of the instance.")] = None,
    user: UserOption = None,
    token_env: TokenEnvOption = None,
    token_stdin: TokenStdinOption = False,
    option: OptionOption = None,
    no_test: NoTestOption = False,
) -> None:
    """Give a connection a new token, address or option.

    Nothing changes until the instance has accepted it. The data stays.
    An option that is given replaces the one of the same name; `K=null` takes it away.

    Example:
        plumbline connection change work --token-env NEW_GITLAB_TOKEN
    """
    from admin.cli.process import ready
    from connectors.base import ConnectionSpec
    from models.store import connections
    from workers import secrets

    token = arguments.read_token(token_env, from_stdin=token_stdin)
    options = arguments.pairs(option, "--option")
    if token is None and url is None and user is None and not options:
        raise UsageError("Say what is to change: --token-env, --token-stdin, --user, --url or --option.")
    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, name)
    _refuse_uploads(row.kind)
    if token is not None and user is None:
        user = _stored_user(process.settings, row)
    new_auth = _auth(token, user) if token is not None else {**secrets.decrypt(process.settings, row.auth)}
    if token is None and user is not None:
        new_auth["user"] = user
    if token is not None and row.webhooks:  # the source signs with that secret whatever token we have
        stored = secrets.decrypt(process.settings, row.auth)
        new_auth |= {key: value for key, value in stored.items() if key not in ("token", "user")}
    merged = {**row.options, **options}
    spec = ConnectionSpec(
        id=row.id,
        kind=row.kind,
        name=name,
        base_url=row.base_url if url is None else arguments.checked_url(url, may_be_directory=row.kind == ALLURE),
        auth=new_auth,
        options={key: value for key, value in merged.items() if value is not None},
    )
    probe = _probed(spec, is_wanted=not no_test)
    with process.database.transaction() as session:
        connections.change_connection(
            session,
            row.id,
            base_url=spec.base_url,
            auth=secrets.encrypt(process.settings, spec.auth),
            options=spec.options,
        )
        if row.status == "denied" and probe:
            connections.set_connection_status(session, row.id, "active")
    _print_probe(name, probe)
    output.say(f"Changed the connection {name}.")
    if row.status == "paused":
        output.note(f"It is paused; `plumbline connection resume {name}` starts it.")


@group.command("list")
def list_(as_json: output.JsonOption = False) -> None:
    """List the connections, without their secrets.

    Example:
        plumbline connection list --json
    """
    from admin.cli.process import ready
    from models.store import connections

    process = ready()
    with process.database.transaction() as session:
        rows = [row._asdict() for row in connections.connections(session)]
    for row in rows:
        row["gate"] = gate_sentence(process, row["id"])
    output.print_rows(
        rows,
        columns={
            "name": "name",
            "kind": "kind",
            "base_url": "url",
            "status": "status",
            "scopes": "scopes",
            "last_ok_at": "last answer (UTC)",
            "gate": "requests under way",
            "last_error": "trouble",
        },
        as_json=as_json,
        empty="There are no connections yet; see `plumbline connection add --help`.",
    )


@group.command("test")
def probe_(name: NameArgument, as_json: output.JsonOption = False) -> None:
    """Ask an instance who it is, who we are to it, and for each of its scopes.

    It changes nothing. Exits with 1 where the instance or a scope does not answer.

    Example:
        plumbline connection test work
    """
    from admin.cli.process import ready
    from models.store import connections

    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, name)
        scopes = connections.scopes(session, connection=name)
    _refuse_uploads(row.kind)
    with closing(connect(spec_of(process, row))) as connector:
        probe = connector.probe()
        checked = [_checked_scope(connector, each) for each in scopes]
    if as_json:
        output.print_json({"name": name, "status": row.status, "probe": _probe_facts(probe), "scopes": checked})
    else:
        _print_probe(name, probe)
        if row.status != "active":
            output.say(f"The connection is {row.status}; `plumbline connection resume {name}` starts it.")
        output.print_rows(
            checked,
            columns={"key": "scope", "title": "title", "error": "trouble"},
            as_json=False,
            empty=f"It has no scopes yet; see `plumbline scope add {name} --help`.",
        )
    if any(each["error"] for each in checked):
        raise typer.Exit(1)


@group.command("pause")
def pause(name: NameArgument) -> None:
    """Stop reading from an instance; its data stays.

    Example:
        plumbline connection pause work
    """
    _set_status(name, "paused", f"Paused the connection {name}; `plumbline connection resume {name}` starts it again.")


@group.command("resume")
def resume(name: NameArgument) -> None:
    """Read from an instance again, from where its syncs stopped.

    Example:
        plumbline connection resume work
    """
    from admin.cli.process import ready
    from admin.cli.work import ask
    from models.store import connections, watermarks

    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, name)
        connections.set_connection_status(session, row.id, "active")
        watermarks.forget_refusals(session, [each.id for each in connections.scopes(session, connection=name)])
    key = process.gate.key_of(row.id) if process.gate else None
    if process.gate and key:
        process.gate.forget(key)
    if row.kind != "upload":
        ask(process, "collect.sync_all", connection=name)
    output.say(f"The connection {name} is active, and its syncs go on where they stopped.")


@group.command("remove")
def remove(name: NameArgument) -> None:
    """Remove a connection that has no scopes.

    Example:
        plumbline connection remove work
    """
    from admin.cli.process import ready
    from models.store import connections

    process = ready()
    with process.database.transaction() as session:
        connections.remove_connection(session, connections.connection(session, name).id)
    output.say(f"Removed the connection {name}.")


def spec_of(process: Runtime, row: Any) -> ConnectionSpec:
    """A connection's row with its secrets decrypted, whatever its status; for looking, not for syncing."""
    from connectors.base import ConnectionSpec
    from workers import secrets

    return ConnectionSpec(
        id=row.id,
        kind=row.kind,
        name=row.name,
        base_url=row.base_url,
        auth=secrets.decrypt(process.settings, row.auth),
        options=row.options,
    )


def gate_sentence(process: Runtime, connection_id: int) -> str | None:
    """How many requests to an instance all workers have under way, and whether it asked for patience."""
    gate = process.gate
    key = gate.key_of(connection_id) if gate else None
    state = gate.state(key) if gate and key else None
    return None if state is None else state.sentence(datetime.now(UTC))


def require_active(row: Any) -> None:
    """Raise `UsageError` where a connection is paused or denied, with why and the remedy."""
    if row.status != "active":
        why = f" ({row.last_error})" if row.last_error else ""
        raise UsageError(
            f"The connection {row.name!r} is {row.status}{why}; `plumbline connection resume {row.name}` starts it "
            "again."
        )


def connect(spec: ConnectionSpec) -> Connector:
    """A connector that asks whatever the shared gate says: a person wants to know."""
    from connectors import registry
    from connectors.base import OpenGate

    return registry.kind(spec.kind).connect(spec, OpenGate())


def clock_difference_seconds(probe: Probe) -> float:
    """How far the instance's clock is ahead of ours."""
    return round((probe.server_now - datetime.now(UTC)).total_seconds(), 1)


def _probed(spec: ConnectionSpec, *, is_wanted: bool) -> Probe | None:
    """What the instance says of itself; made without asking, the connector still checks its options."""
    with closing(connect(spec)) as connector:
        return connector.probe() if is_wanted else None


def _refuse_uploads(kind: str) -> None:
    if kind == "upload":
        raise UsageError("Uploads make their connection themselves; `plumbline ingest allure PATH` takes results in.")


def _auth(token: str | None, user: str | None) -> dict[str, str]:
    if user and not token:
        raise UsageError("Give the user's token as well: --token-env VAR or --token-stdin.")
    return {name: value for name, value in (("token", token), ("user", user)) if value}


def _stored_user(settings: Settings, row: Any) -> str | None:
    """The user of a token that is replaced; none where its key is lost, which a new token is the remedy for."""
    from workers import secrets

    try:
        return secrets.decrypt(settings, row.auth).get("user")
    except PlumblineError:
        return None


def _set_status(name: str, status: str, sentence: str) -> None:
    from admin.cli.process import ready
    from models.store import connections

    process = ready()
    with process.database.transaction() as session:
        connections.set_connection_status(session, connections.connection(session, name).id, status)
    output.say(sentence)


def _checked_scope(connector: Connector, row: Any) -> dict[str, Any]:
    from connectors.base import ScopeSpec

    try:
        title = connector.check_scope(ScopeSpec(id=row.id, external_key=row.external_key, options=row.options))
    except SourceError as error:
        return {"key": row.external_key, "title": None, "error": error.message}
    return {"key": row.external_key, "title": title, "error": None}


def _probe_facts(probe: Probe | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    return {
        "product": probe.product,
        "version": probe.version,
        "account": probe.account,
        "clock_difference_seconds": clock_difference_seconds(probe),
        "remarks": list(probe.remarks),
    }


def _print_probe(name: str, probe: Probe | None) -> None:
    if probe is None:
        return
    output.say(f"{name} is {probe.product} {probe.version}; we are {probe.account} there.")
    difference_seconds = clock_difference_seconds(probe)
    if abs(difference_seconds) > CLOCK_REMARK_SECONDS:
        direction = "ahead of" if difference_seconds > 0 else "behind"
        output.say(
            f"Its clock is {abs(difference_seconds):,.0f} s {direction} ours; windows are cut by its clock, so that "
            "this does no harm."
        )
    for remark in probe.remarks:
        output.say(remark)
