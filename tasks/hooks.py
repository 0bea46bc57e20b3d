"""Hooks at the sources: registered, watched, given another secret, removed; for the command line and the hourly watch.

No task is declared here. What a hook is at a vendor stands in `connectors/<vendor>/hooks.py`, what its deliveries
become in `tasks/receive.py`.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import structlog
from sqlalchemy import Row

from connectors import registry
from connectors.base import Connector, HookState, OpenGate, ScopeSpec, Webhooks
from models.errors import SourceError, UsageError
from models.store import connections, webhooks
from models.store.session import Database, assert_no_transaction
from tasks.steps import connection_spec
from workers import runtime, secrets
from workers.settings import Settings

logger = structlog.get_logger("plumbline.webhooks")


def delivery_url(kind: str, name: str, public_url: str) -> str:
    """Where a connection's webhooks are sent to."""
    return f"{public_url.rstrip('/')}/webhooks/{kind}/{quote(name, safe='')}"


def enable(
    database: Database, settings: Settings, row: Row[Any], *, public_url: str | None = None, is_rotation: bool = False
) -> tuple[HookState, ...]:
    """Register the webhooks of a connection, one for each scope or one for all, and give them their secret.

    Args:
        database: where the connection is.
        settings: PLUMBLINE_PUBLIC_URL, and the keys of the secrets.
        row: of the connection.
        public_url: in place of the one that the connection had before, or of the setting.
        is_rotation: give them another secret; the one before stays good for a day.

    Returns:
        Each hook as it is now; none as long as there is no scope.

    Raises:
        UsageError: the kind has no webhooks, or it is not known where they should go.
    """
    vendor = _vendor(row)
    url = (row.webhooks or {}).get("url") if public_url is None else None
    base_url = public_url or settings.public_url
    if url is None:
        if base_url is None:
            raise UsageError(
                "It is not known where webhooks should go; set PLUMBLINE_PUBLIC_URL, or give --public-url, to the "
                "address at which the source reaches our API."
            )
        url = delivery_url(row.kind, row.name, base_url)
    auth = secrets.decrypt(settings, row.auth)
    if is_rotation or not auth.get("webhook_secret"):
        auth = secrets.with_new_webhook_secret(auth, datetime.now(UTC))
    with (
        database.transaction() as session
    ):  # before the source knows it, so that no delivery of the first second is refused
        webhooks.set_auth(session, row.id, secrets.encrypt(settings, auth))
        webhooks.set_hooks(session, row.id, {**(row.webhooks or {}), "url": url})
        scopes = _scopes(session, row)
    before = (row.webhooks or {}).get("url")
    with _connected(settings, row) as connector:
        if before not in (None, url):
            vendor.remove(connector, scopes, before)
        states = vendor.ensure(connector, scopes, url, auth["webhook_secret"])
    _remember(database, row, url, states)
    return states


def check(database: Database, settings: Settings, row: Row[Any]) -> tuple[HookState, ...]:
    """How the webhooks of a connection are at the source; changes nothing there.

    Raises:
        UsageError: it has none.
    """
    url = _url(row)
    with database.transaction() as session:
        scopes = _scopes(session, row)
    with _connected(settings, row) as connector:
        states = _vendor(row).check(connector, scopes, url)
    _remember(database, row, url, states)
    return states


def disable(database: Database, settings: Settings, row: Row[Any]) -> None:
    """Take the webhooks of a connection away, at the source and here.

    Raises:
        UsageError: it has none.
    """
    url = _url(row)
    with database.transaction() as session:
        scopes = _scopes(session, row)
    with _connected(settings, row) as connector:
        _vendor(row).remove(connector, scopes, url)
    auth = secrets.without_webhook_secret(secrets.decrypt(settings, row.auth))
    with database.transaction() as session:
        webhooks.set_auth(session, row.id, secrets.encrypt(settings, auth))
        webhooks.set_hooks(session, row.id, None)


def watch(database: Database, settings: Settings, row: Row[Any]) -> None:
    """Look after the webhooks of a connection: what is missing or disabled is mended, else its trouble remembered."""
    try:
        if all(state.is_enabled for state in check(database, settings, row)):
            return
        states = enable(database, settings, row)
        logger.warning("hooks_mended", connection=row.name, states=[state.remark for state in states])
    except SourceError as error:
        logger.warning("hooks_unwatched", connection=row.name, error=error.message)
        _remember(database, row, _url(row), (HookState(is_enabled=False, remark=error.message),))


def _vendor(row: Row[Any]) -> Webhooks:
    vendor = registry.kind(row.kind).webhooks
    if vendor is None:
        raise UsageError(f"Connections of kind {row.kind} have no webhooks.")
    return vendor


def _url(row: Row[Any]) -> str:
    if not row.webhooks:
        raise UsageError(
            f"The connection {row.name!r} has no webhooks; "
            f"`plumbline connection webhooks {row.name} --enable` makes them."
        )
    return str(row.webhooks["url"])


def _scopes(session: Any, row: Row[Any]) -> list[ScopeSpec]:
    return [
        ScopeSpec(id=each.id, external_key=each.external_key, options=each.options)
        for each in connections.scopes(session, connection=row.name, active_only=True)
        if each.connection_id == row.id
    ]


def _connected(settings: Settings, row: Row[Any]) -> closing[Connector]:
    assert_no_transaction()
    spec = connection_spec(settings, row)
    return closing(registry.kind(row.kind).connect(spec, runtime.current().gate or OpenGate()))


def _remember(database: Database, row: Row[Any], url: str, states: tuple[HookState, ...]) -> None:
    trouble = [state.remark for state in states if not state.is_enabled]
    found = {
        "url": url,
        "checked_at": datetime.now(UTC).isoformat(),
        "hooks": len(states),
        "trouble": "; ".join(trouble),
    }
    with database.transaction() as session:
        webhooks.set_hooks(session, row.id, found)
        for state in states:
            if state.scope_id is not None and state.external_id is not None:
                webhooks.set_external_id(session, state.scope_id, state.external_id)
