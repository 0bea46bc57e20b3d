"""Steps that several tasks take: opening a source, promoting what was fetched, ending a stream.

No task is declared here, and no task module imports another; what two of them share stands here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from connectors import lost, registry
from connectors.base import (
    ConnectionSpec,
    Connector,
    ConnectorKind,
    Item,
    Load,
    OpenGate,
    Page,
    ParseContext,
    RateGate,
    ScopeSpec,
    Stream,
)
from models.errors import (
    AccessDeniedError,
    BadRecordError,
    ConnectionInactiveError,
    ForbiddenResourceError,
    GoneError,
    PlumblineError,
    TransientSourceError,
)
from models.records import Batch
from models.store import connections, jira_dictionaries, people, records, sync
from models.store.copy import Written
from models.store.session import Database
from workers import runtime, secrets
from workers.gate import RedisGate
from workers.settings import Settings

logger = structlog.get_logger("plumbline.sync")

BATCH_ITEMS = 500
BATCH_SECONDS = 1.0
FORGIVING_AFTER_COUNT = 3
WATCH_SECONDS = 0.5
"""How often it is looked whether the connection is still to be read."""

BAD_ROW = (DataError, IntegrityError, psycopg.DataError, psycopg.IntegrityError)
"""What the database raises for a value that does not fit."""


class Source(msgspec.Struct, frozen=True):
    """A scope, where its records go, and how its payloads are read."""

    kind: ConnectorKind
    connection: ConnectionSpec
    scope: ScopeSpec
    target: sync.Target
    context: ParseContext


def load_source(database: Database, settings: Settings, scope_id: int) -> Source:
    """Read what is known of a scope, secrets decrypted.

    Raises:
        ConnectionInactiveError: its connection is paused or denied.
        NotFoundError: there is no such scope.
    """
    with database.transaction() as session:
        target = sync.target(session, scope_id)
        connection = connections.connection(session, target.connection_id)
        scope = connections.scope(session, scope_id)
        context = ParseContext(
            options={
                **connection.options,
                **scope.options,
                "bot_rules": people.bot_rules(session, target.tenant_id, connection.kind),
            },
            field_ids=jira_dictionaries.field_ids_by_role(session, target.connection_id),
            field_names=jira_dictionaries.field_ids_by_name(session, target.connection_id),
        )
    return Source(
        kind=registry.kind(connection.kind),
        connection=connection_spec(settings, connection),
        scope=ScopeSpec(id=scope_id, external_key=scope.external_key, options=scope.options),
        target=target,
        context=context,
    )


def connection_spec(settings: Settings, connection: Row[Any]) -> ConnectionSpec:
    """A connection's row with its secrets decrypted.

    Raises:
        ConnectionInactiveError: it is paused or denied.
    """
    if connection.status != "active":
        raise _inactive(connection)
    return ConnectionSpec(
        id=connection.id,
        kind=connection.kind,
        name=connection.name,
        base_url=connection.base_url,
        auth=secrets.decrypt(settings, connection.auth),
        options=connection.options,
    )


def _inactive(connection: Row[Any]) -> ConnectionInactiveError:
    return ConnectionInactiveError(
        f"The connection {connection.name!r} is {connection.status}"
        + (f" ({connection.last_error})" if connection.last_error else "")
        + f"; `plumbline connection resume {connection.name}` starts it again."
    )


class WatchedGate:
    """The shared gate, and closed to a connection that is paused or denied while it is read."""

    def __init__(self, gate: RedisGate | None, database: Database, connection_id: int) -> None:
        self._gate: RateGate = gate or OpenGate()
        self._note = gate.note if gate else None
        self._database = database
        self._connection_id = connection_id
        self._look_at = time.monotonic() + WATCH_SECONDS

    def enter(self, key: str, most: int, per_second: float | None) -> None:
        """Take a slot. Raises `ConnectionInactiveError` within seconds of somebody's pausing the connection."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + WATCH_SECONDS
            with self._database.transaction() as session:
                connection = connections.connection(session, self._connection_id)
            if connection.status != "active":
                self._look_at = now  # whoever comes next is told as well
                raise _inactive(connection)
        if self._note is not None:
            self._note(key, self._connection_id)
            self._note = None
        self._gate.enter(key, most, per_second)

    def leave(self, key: str, load: Load) -> None:
        """Give the slot back."""
        self._gate.leave(key, load)

    def block(self, key: str, until: datetime, reason: str = "it asks us to wait") -> None:
        """Close the gate for all."""
        self._gate.block(key, until, reason)


@contextmanager
def opened(database: Database, source: Source, *, failures_count: int = 0) -> Iterator[Connector]:
    """Connect to a source; what it answers about our access is remembered on its rows.

    Args:
        database: where these are.
        source: what to connect to.
        failures_count: how often this was tried in vain; from `FORGIVING_AFTER_COUNT` on, an object that the source
            cannot show is set aside.

    Raises:
        SourceError: see `Connector`; each carries its verdict.
        ConnectionInactiveError: the connection was paused meanwhile, or denied, which another job has told.
    """
    try:
        gate = WatchedGate(runtime.current().gate, database, source.connection.id)
        spec = source.connection
        if failures_count >= FORGIVING_AFTER_COUNT:
            spec = msgspec.structs.replace(spec, options={**spec.options, lost.OPTION: True})
        connector = source.kind.connect(spec, gate)
        try:
            yield connector
        finally:
            connector.close()
    except AccessDeniedError as error:
        with database.transaction() as session:
            is_news = connections.deny(session, source.connection.id, error.message)
        if not is_news:
            raise ConnectionInactiveError(f"The connection {source.connection.name!r} is denied.") from error
        raise  # told once: by this job's row and log line, and on the connection
    except TransientSourceError as error:
        with database.transaction() as session:
            connections.record_trouble(session, source.connection.id, error.message)
        raise
    except (GoneError, ForbiddenResourceError) as error:
        with database.transaction() as session:
            connections.set_scope_error(session, source.scope.id, error.message)
        raise


def in_batches(pages: Iterable[Page]) -> Iterator[Page]:
    """Join small pages into larger ones, because a transaction costs the same for one row and for hundreds.

    Args:
        pages: of a window, in their order.

    Returns:
        Pages of at least `BATCH_ITEMS` items, or of what came within `BATCH_SECONDS`; the last one is what is left,
        also where the source then raises.
    """
    waiting: list[Page] = []
    since = time.monotonic()
    try:
        for page in pages:
            waiting.append(page)
            if sum(len(each.items) for each in waiting) >= BATCH_ITEMS or time.monotonic() - since > BATCH_SECONDS:
                batch, waiting = waiting, []
                yield _joined(batch)
                since = time.monotonic()
    except PlumblineError:
        if waiting:  # what came before the source stopped need not be fetched again
            yield _joined(waiting)
        raise
    if waiting:
        yield _joined(waiting)


def _joined(pages: Sequence[Page]) -> Page:
    if len(pages) == 1:
        return pages[0]
    return Page(
        items=tuple(item for page in pages for item in page.items),
        failures=tuple(failure for page in pages for failure in page.failures),
        fetched_at=min(page.fetched_at for page in pages),
        resume_token=pages[-1].resume_token,
        progress_ratio=pages[-1].progress_ratio,
    )


def stage_and_promote(
    session: Session, source: Source, stream: Stream, page: Page, *, window_id: int | None
) -> Written:
    """Keep a page's payloads as received, and turn them into rows.

    Transaction: the caller's.
    """
    sync.stage(
        session,
        source.scope.id,
        stream.name,
        ((item.external_id, item.payload) for item in page.items),
        fetched_at=page.fetched_at,
        window_id=window_id,
        parser_version=stream.parser_version,
    )
    return promote(session, source, stream.name, page.items, fetched_at=page.fetched_at, failures=page.failures)


def promote(
    session: Session,
    source: Source,
    stream: str,
    items: Sequence[Item],
    *,
    fetched_at: datetime,
    failures: Sequence[tuple[str, str, bytes]] = (),
) -> Written:
    """Turn payloads into rows; what cannot be understood or stored is set aside, and the rest goes on.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        source: whose payloads these are.
        stream: of which stream.
        items: external ids and payloads.
        fetched_at: when they were fetched.
        failures: what the connector could not fetch or decode.
    """
    batches: dict[str, Batch] = {}
    rejects = list(failures)
    for item in items:
        try:
            batches[item.external_id] = source.kind.parse(stream, item.payload, source.context)
        except BadRecordError as error:
            rejects.append((item.external_id, error.message, item.payload))
    try:
        with session.begin_nested():
            written = records.write(session, source.target, Batch.merge(list(batches.values())), fetched_at=fetched_at)
    except BAD_ROW:
        written, refused = _promote_one_by_one(session, source, items, batches, fetched_at)
        rejects.extend(refused)
    rejected = {external_id for external_id, _, _ in rejects}
    sync.reject(session, source.scope.id, stream, rejects)
    sync.resolve_rejects(session, source.scope.id, stream, [each for each in batches if each not in rejected])
    return written


def _promote_one_by_one(
    session: Session, source: Source, items: Sequence[Item], batches: dict[str, Batch], fetched_at: datetime
) -> tuple[Written, list[tuple[str, str, bytes]]]:
    """Find out which records of a page the database refuses. Slow, and only for pages that hold one."""
    written = Written()
    refused: list[tuple[str, str, bytes]] = []
    for item in items:
        batch = batches.get(item.external_id)
        if batch is None:
            continue
        try:
            with session.begin_nested():
                written = written.plus(records.write(session, source.target, batch, fetched_at=fetched_at))
        except BAD_ROW as error:
            cause = getattr(error, "orig", None) or error
            refused.append((item.external_id, f"The database refuses it: {cause}", item.payload))
    return written, refused
