"""`plumbline connection webhooks`: those of a connection, registered at its source, looked at, given another secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from models.errors import SourceError, UsageError

if TYPE_CHECKING:
    from connectors.base import HookState
    from workers.runtime import Runtime

PublicUrlOption = Annotated[
    str | None,
    typer.Option(
        "--public-url", metavar="URL", help="Where the source reaches our API; PLUMBLINE_PUBLIC_URL where not given."
    ),
]


def webhooks(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the connection.")],
    enable: Annotated[bool, typer.Option("--enable", help="Register what is missing, and enable what is not.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Look, and change nothing. The default.")] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Another secret; the old one is good for a day more.")
    ] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Take them away.")] = False,
    public_url: PublicUrlOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Register, look at, renew or take away the webhooks of a connection.

    Exits with 1 where one is not there or not enabled.

    Example:
        plumbline connection webhooks work --enable --public-url https://plumbline.acme.com
        plumbline connection webhooks work --rotate
    """
    from admin.cli.process import ready
    from models.store import connections
    from tasks import hooks

    if enable + check + rotate + disable > 1:
        raise UsageError("Choose one of --enable, --check, --rotate and --disable.")
    if public_url is not None and not enable:
        raise UsageError("--public-url belongs to --enable.")
    process = ready()
    with process.database.transaction() as session:
        row = connections.connection(session, name)
    if disable:
        hooks.disable(process.database, process.settings, row)
        output.say(f"The connection {name} has no webhooks any more.")
        return
    if rotate and not row.webhooks:
        raise UsageError(f"The connection {name!r} has no webhooks yet; --enable makes them.")
    if enable or rotate:
        states = register(process, name, public_url=public_url, is_rotation=rotate)
    else:
        states = hooks.check(process.database, process.settings, row)
    _show(process, name, states, as_json=as_json)
    if not all(state.is_enabled for state in states):
        raise typer.Exit(1)


def register(
    process: Runtime, name: str, *, public_url: str | None = None, is_rotation: bool = False
) -> tuple[HookState, ...]:
    """Register the webhooks of a connection; see `tasks.hooks.enable`."""
    from models.store import connections
    from tasks import hooks

    with process.database.transaction() as session:
        row = connections.connection(session, name)
    url = None if public_url is None else arguments.checked_url(public_url)
    return hooks.enable(process.database, process.settings, row, public_url=url, is_rotation=is_rotation)


def register_for_new_scope(process: Runtime, name: str) -> None:
    """Register the webhooks of a connection that got another scope; what goes wrong is said and stops nothing."""
    try:
        for state in register(process, name):
            output.note(f"Webhooks: {state.remark}.")
    except SourceError as error:
        output.note(f"Webhooks: {error.message} `plumbline connection webhooks {name} --enable` tries again.")


def _show(process: Runtime, name: str, states: tuple[HookState, ...], *, as_json: bool) -> None:
    from models.store import connections
    from models.store import webhooks as deliveries

    with process.database.transaction() as session:
        row = connections.connection(session, name)
        counts = deliveries.counts(session, row.id)
    rows: list[dict[str, Any]] = [{"is_enabled": state.is_enabled, "remark": state.remark} for state in states]
    if as_json:
        output.print_json({"url": row.webhooks["url"], "hooks": rows, "deliveries": counts._asdict()})
        return
    output.say(f"They go to {row.webhooks['url']}")
    for each in rows:
        output.say(f"{'ok   ' if each['is_enabled'] else 'WRONG'}  {each['remark']}")
    if not rows:
        output.say(f"There is no scope yet; `plumbline scope add {name} KEY` registers with it.")
    output.say(
        f"In the last week: {counts.received} came, {counts.waiting} wait, {counts.given_up} given up"
        + (f", the last with: {counts.last_error}" if counts.last_error else "")
    )
