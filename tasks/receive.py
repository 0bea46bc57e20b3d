"""Receiving: from stored webhooks to rows, by asking the source how the named objects are now.

A delivery is only a hint. It is taken, its object is refetched and promoted by the same steps as a page of a sync, and
it is marked in the transaction that writes the rows. Many deliveries of one object are one refetch. What registers the
hooks stands in `tasks/hooks.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import Row

from connectors import registry
from connectors.base import Connector, Hint
from models.errors import (
    AccessDeniedError,
    BadRecordError,
    ForbiddenResourceError,
    GoneError,
    RateLimitedError,
    ServerUnavailableError,
)
from models.store import connections, reconcile, webhooks
from models.store.session import assert_no_transaction
from tasks.hooks import watch
from tasks.steps import Source, load_source, opened, stage_and_promote
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, JobCancelledError, task

TAKEN_COUNT = 200
"""How many deliveries are taken at a time."""
OBJECTS_COUNT = 25
"""How many objects are refetched and written together; more would keep the first ones waiting for the last."""
LONGEST_RUN_SECONDS = 60.0
"""Then a connection whose webhooks never stop lets others have the worker, and queues again."""

logger = structlog.get_logger("plumbline.webhooks")

Delivery = Row[Any]


@task(
    name="receive.deliveries",
    queue=Queue.URGENT,
    soft_limit_seconds=300,
    hard_limit_seconds=330,
    retry=RetryPolicy(),
    queueing_lock="receive:{connection_id}",
)
def deliveries(job: Job, *, connection_id: int, **_later: Any) -> None:
    """Work off the deliveries of a connection that are due.

    One job at a time does so. Another one ends at once: whoever holds the lock looks again after giving it back, so
    that nothing which came meanwhile is left lying.

    Idempotent: a delivery is marked in the transaction that writes its object, and an object that is refetched once
    more is written once.
    """
    ends_at = time.monotonic() + LONGEST_RUN_SECONDS
    try:
        while _is_due(job, connection_id):
            with job.database.advisory_lock(f"receive:{connection_id}") as is_ours:
                if not is_ours:
                    return
                while _work_off(job, connection_id):
                    if time.monotonic() > ends_at:
                        with job.transaction() as session:
                            job.enqueue(session, "receive.deliveries", connection_id=connection_id)
                        return
    except RateLimitedError as error:
        # The sweep asks again. A job that waited would be one more with each webhook that comes meanwhile.
        logger.info("webhooks_wait", connection_id=connection_id, reason=error.message)


@task(
    name="receive.sweep",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="receive_sweep",
)
def sweep(job: Job, **_later: Any) -> None:
    """Ask for every connection that has deliveries to work off: those that failed before, and those whose job is lost.

    Idempotent: a connection whose job is waiting already is not asked twice.
    """
    with job.transaction() as session:
        for connection_id in webhooks.connections_with_due(session):
            job.enqueue(session, "receive.deliveries", connection_id=connection_id)


@task(
    name="receive.watch_hooks",
    queue=Queue.UPKEEP,
    soft_limit_seconds=600,
    hard_limit_seconds=660,
    retry=RetryPolicy(),
    lock="watch_hooks",
    queueing_lock="watch_hooks",
)
def watch_hooks(job: Job, **_later: Any) -> None:
    """See that the hooks at the sources are there and enabled; make and enable them again where they are not.

    Idempotent: hooks that are well are left alone.
    """
    with job.transaction() as session:
        rows = webhooks.connections_with_hooks(session)
    for row in rows:
        watch(job.database, job.settings, row)


def _is_due(job: Job, connection_id: int) -> bool:
    with job.transaction() as session:
        is_active = connections.connection(session, connection_id).status == "active"
        return is_active and webhooks.has_due(session, connection_id)


class _Group(msgspec.Struct):
    """Deliveries whose objects are refetched and written together."""

    scope_id: int
    stream: str
    deliveries: list[Delivery]
    external_ids: dict[int, tuple[str, ...]]
    """By the delivery's id."""

    @property
    def objects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.external_ids.values() for name in names))


def _work_off(job: Job, connection_id: int) -> bool:
    """Take what is due and work it off; False where nothing was.

    Raises:
        RateLimitedError: the source asks for patience; what is left counts as untried.
    """
    with job.transaction() as session:
        kind = registry.kind(connections.connection(session, connection_id).kind)
        taken = webhooks.take(session, connection_id, limit=TAKEN_COUNT)
    hints: dict[int, Hint] = {}
    unreadable: list[tuple[Delivery, str]] = []
    for each in taken:
        try:
            assert kind.webhooks is not None  # noqa: S101  # only such kinds have deliveries
            hints[each.id] = kind.webhooks.hints(each.headers, each.payload.encode())
        except BadRecordError as error:
            unreadable.append((each, error.message))
    with job.transaction() as session:
        for each, reason in unreadable:
            webhooks.fail(session, [each], reason)
        scope_ids = {each.id: _scope_id(session, connection_id, hints[each.id]) for each in taken if each.id in hints}
        homeless = [each for each in taken if each.id in hints and scope_ids[each.id] is None]
        webhooks.finish(session, homeless, "Ignored: no active scope of the connection holds it.")
    groups = list(_groups([each for each in taken if scope_ids.get(each.id) is not None], hints, scope_ids))
    for position, group in enumerate(groups):
        try:
            _refetch(job, group)
        except RateLimitedError:
            with job.transaction() as session:
                webhooks.put_back(session, [each for left in groups[position:] for each in left.deliveries])
            raise
    return bool(taken)


def _scope_id(session: Any, connection_id: int, hint: Hint) -> int | None:
    """The scope that an event is about: by a name that it gives, else where the object was collected before."""
    if hint.stream is None:
        return None
    by_key = webhooks.scope_ids(session, connection_id)
    named = next((by_key[key] for key in hint.scope_keys if key in by_key), None)
    return named or webhooks.scope_of_object(session, connection_id, hint.stream, hint.external_ids)


def _groups(
    taken: Sequence[Delivery], hints: Mapping[int, Hint], scope_ids: Mapping[int, int | None]
) -> Iterator[_Group]:
    """What is tried for the first time together, by scope and stream; what has failed before each by itself."""
    growing: dict[tuple[int, str], _Group] = {}
    for each in taken:
        scope_id, hint = scope_ids[each.id], hints[each.id]
        assert scope_id is not None  # noqa: S101  # the others were left out
        assert hint.stream is not None  # noqa: S101  # or it had no scope
        if each.attempts > 1:
            yield _Group(scope_id, hint.stream, [each], {each.id: hint.external_ids})
            continue
        group = growing.setdefault((scope_id, hint.stream), _Group(scope_id, hint.stream, [], {}))
        group.deliveries.append(each)
        group.external_ids[each.id] = hint.external_ids
        if len(group.objects) >= OBJECTS_COUNT:
            yield growing.pop((scope_id, hint.stream))
    yield from growing.values()


def _refetch(job: Job, group: _Group) -> None:
    """Refetch the objects of a group and write them; an error is remembered on its deliveries, and the others go on."""
    try:
        source = load_source(job.database, job.settings, group.scope_id)
        with opened(job.database, source) as connector:
            _write(job, source, connector, group)
    except (GoneError, ForbiddenResourceError) as error:
        _finish(job, group, f"Left to reconciliation: {error.message}")
    except (AccessDeniedError, RateLimitedError, ServerUnavailableError, JobCancelledError, SoftTimeLimitExceeded):
        raise  # these are about more than this group
    except Exception as error:  # whatever one delivery does to us, the others must not wait for it
        logger.warning("webhook_failed", objects=group.objects[:5], error=str(error), exc_info=error)
        with job.transaction() as session:
            webhooks.fail(session, group.deliveries, f"{type(error).__name__}: {error}")


def _write(job: Job, source: Source, connector: Connector, group: _Group) -> None:
    assert_no_transaction()
    stream = source.kind.streams[group.stream]
    page = connector.fetch(source.scope, group.stream, group.objects)
    shown = {item.external_id for item in page.items} | {external_id for external_id, _, _ in page.failures}
    gone = [each for each in group.deliveries if shown.isdisjoint(group.external_ids[each.id])]
    unseen = [external_id for external_id in group.objects if external_id not in shown]
    with job.transaction() as session:
        written = stage_and_promote(session, source, stream, page, window_id=None)
        webhooks.finish(session, [each for each in group.deliveries if each not in gone])
        reconcile.doubt(session, source.scope.id, stream.name, unseen)
        webhooks.finish(session, gone, "The source shows no such object any more: left to reconciliation.")
        job.report(session, rows_read=len(page.items), rows_written=written.total, scope=source.scope.external_key)
        if written.total:
            job.enqueue(session, "summarise.all")
    waited = datetime.now(UTC) - min(each.received_at for each in group.deliveries)
    logger.info(
        "webhooks_worked_off",
        deliveries=len(group.deliveries),
        objects=len(page.items),
        rows_written=written.total,
        waited_seconds=round(waited.total_seconds(), 3),
    )


def _finish(job: Job, group: _Group, note: str) -> None:
    with job.transaction() as session:
        webhooks.finish(session, group.deliveries, note)
