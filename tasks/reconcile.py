"""Reconciling: what was deleted, moved or missed, found by listing ids, and asked for twice before it is believed.

What belongs here: the order of steps. What does not: comparing ids (models/store/reconcile.py). An object that the
source does not show is deleted there, or hidden from our token; nobody can tell which. So it gets a tombstone,
comes back when it is shown again, and where many vanish at once nothing is done but to say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from connectors import registry
from connectors.base import Connector, Stream
from models.errors import MassDisappearanceError
from models.store import connections, reconcile, watermarks
from models.store.reconcile import Findings, Listing
from tasks.steps import Source, load_source, opened, stage_and_promote
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, assert_no_transaction, task

FETCHED_AT_ONCE = 100
CONFIRM_AFTER = timedelta(minutes=5)
"""How long an object has to be missing before it is asked for again: longer than an index lags behind."""
CLOCKS_DIFFER_BY = timedelta(minutes=1)
FEW_OBJECTS = 20
MASS_RATIO = 0.2
"""More than so many, and more than this part of all, do not vanish by themselves: somebody took our rights away."""


@task(
    name="reconcile.all",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="reconcile:{connection}:{scope}:{allow_mass}",
)
def reconcile_all(
    job: Job,
    *,
    connection: str | None = None,
    scope: str | None = None,
    allow_mass: bool = False,
    **_later: Any,
) -> None:
    """Ask for a reconciliation of every active scope, or of those named.

    Idempotent: scopes that wait already are not asked twice.
    """
    with job.transaction() as session:
        for each in connections.scopes(session, connection=connection, key=scope, active_only=True):
            if each.kind in registry.KINDS:
                job.enqueue(session, "reconcile.scope", scope_id=each.id, allow_mass=allow_mass)


@task(
    name="reconcile.scope",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="sync_scope:{scope_id}",
    queueing_lock="reconcile_scope:{scope_id}:{allow_mass}",
)
def reconcile_scope(job: Job, *, scope_id: int, allow_mass: bool = False, **_later: Any) -> None:
    """List the ids of each stream; fetch what was missed, and what the source no longer lists.

    Idempotent: what is there is written once, and what is missing is remembered once.
    """
    source = load_source(job.database, job.settings, scope_id)
    disbelieved: list[str] = []
    with opened(job.database, source) as connector:
        for stream in source.kind.streams.values():
            if not _is_complete(job, source, stream):
                continue
            found = _listed(job, source, connector, stream)
            if is_mass(found) and not allow_mass:
                disbelieved.append(f"{found.gone_count:,} of {found.held_count:,} {stream.name}")
                continue
            for _, absent in _fetched(job, source, connector, stream, (*found.missed, *found.gone)):
                gone = sorted(set(absent) & set(found.gone))
                with job.transaction() as session:
                    reconcile.doubt(session, scope_id, stream.name, gone)
    if disbelieved:
        raise MassDisappearanceError(
            f"{' and '.join(disbelieved)} of {source.scope.external_key} are no longer shown, which looks like lost "
            "permission; nothing was marked as deleted. Mend the token's rights, or, where they are really gone, run "
            f"`plumbline reconcile {source.connection.name} --scope {source.scope.external_key} --allow-mass`."
        )


@task(
    name="reconcile.confirm",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="reconcile.confirm",
)
def confirm(job: Job, **_later: Any) -> None:
    """Ask for a second look at the scopes where objects have been missing for a while.

    Idempotent: scopes that wait already are not asked twice.
    """
    with job.transaction() as session:
        for scope_id in reconcile.scopes_in_doubt(session, doubted_for=CONFIRM_AFTER):
            job.enqueue(session, "reconcile.confirm_scope", scope_id=scope_id)


@task(
    name="reconcile.confirm_scope",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="sync_scope:{scope_id}",
    queueing_lock="reconcile.confirm_scope:{scope_id}",
)
def confirm_scope(job: Job, *, scope_id: int, **_later: Any) -> None:
    """Ask once more for what was missing: what is shown is written, what is not gets its tombstone.

    Idempotent: a tombstone is set once, and what is remembered as missing is forgotten with it.
    """
    source = load_source(job.database, job.settings, scope_id)
    with job.transaction() as session:
        rows = reconcile.doubtful(session, scope_id, doubted_for=CONFIRM_AFTER)
    with opened(job.database, source) as connector:
        connector.check_scope(source.scope)  # a scope that is gone shows nothing, and nothing of it is deleted
        for name, of_stream in groupby(rows, key=lambda row: row.resource):
            stream = source.kind.streams[name]
            ids = [row.external_id for row in of_stream]
            for shown, absent in _fetched(job, source, connector, stream, ids):
                with job.transaction() as session:
                    reconcile.trust(session, scope_id, name, shown)
                    tombstones = reconcile.tombstone(session, source.target, name, absent)
                    job.report(session, rows_written=tombstones)
                    job.enqueue(session, "summarise.all")


def is_mass(found: Findings) -> bool:
    """Whether more has vanished than people delete."""
    return found.gone_count > max(FEW_OBJECTS, MASS_RATIO * found.held_count)


def _is_complete(job: Job, source: Source, stream: Stream) -> bool:
    """Whether the stream was ever read whole: before that, everything is missing."""
    if not reconcile.can_be_listed(stream.name):
        return False
    with job.transaction() as session:
        return watermarks.watermark(session, source.scope.id, stream.name) is not None


def _listed(job: Job, source: Source, connector: Connector, stream: Stream) -> Findings:
    listed_from = datetime.now(UTC) - CLOCKS_DIFFER_BY
    with Listing(job.database, source.target, stream.name) as listing:
        for external_ids in connector.listing(source.scope, stream.name):
            assert_no_transaction()
            count = listing.add(external_ids)
            with job.transaction() as session:
                job.report(session, rows_read=count, scope=source.scope.external_key, stream=stream.name)
        return listing.compare(listed_from=listed_from)


def _fetched(
    job: Job, source: Source, connector: Connector, stream: Stream, external_ids: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Fetch objects by id and write what is shown; yields which were shown, and which were not."""
    for start in range(0, len(external_ids), FETCHED_AT_ONCE):
        ids = tuple(external_ids[start : start + FETCHED_AT_ONCE])
        page = connector.fetch(source.scope, stream.name, ids)
        answered = {item.external_id for item in page.items} | {external_id for external_id, _, _ in page.failures}
        with job.transaction() as session:
            written = stage_and_promote(session, source, stream, page, window_id=None)
            job.report(session, rows_written=written.total)
        yield [each for each in ids if each in answered], [each for each in ids if each not in answered]
