"""Replay: promote staged payloads again, without one request to the source, after a parser or a mapping changed."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from connectors.base import Item
from models.store import capture, connections, sync
from tasks.steps import load_source, promote
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

PAGE_SIZE = 200


@task(
    name="replay.connection",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="replay_connection:{connection}:{stream}",
)
def replay_connection(job: Job, *, connection: str, stream: str | None = None, **_later: Any) -> None:
    """Ask for a replay of every scope of a connection.

    Idempotent: scopes whose replay is waiting already are not asked twice.
    """
    with job.transaction() as session:
        connections.connection(session, connection)
        for each in connections.scopes(session, connection=connection):
            job.enqueue(session, "replay.scope", scope_id=each.id, stream=stream)


@task(
    name="replay.scope",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="sync_scope:{scope_id}",
    queueing_lock="replay:{scope_id}:{stream}",
)
def replay_scope(job: Job, *, scope_id: int, stream: str | None = None, **_later: Any) -> None:
    """Promote the staged payloads of a scope, stream by stream, page by page.

    Idempotent: rows that come out the same are not written.
    """
    source = load_source(job.database, job.settings, scope_id)
    for each in source.kind.streams.values():
        if stream not in (None, each.name):
            continue
        after = ""
        while True:
            with job.transaction() as session:
                capture.say_backfill(session)
                page = sync.staged_payloads(session, scope_id, each.name, after=after, limit=PAGE_SIZE)
                if not page:
                    break
                after = page[-1][0]
                written = 0
                for fetched_at, group in groupby(sorted(page, key=lambda row: row[2]), key=lambda row: row[2]):
                    items = [Item(external_id, payload) for external_id, payload, _ in group]
                    written += promote(session, source, each.name, items, fetched_at=fetched_at).total
                sync.mark_replayed(session, scope_id, each.name, [row[0] for row in page], each.parser_version)
                job.report(session, rows_read=len(page), rows_written=written, stream=each.name)
        source = load_source(job.database, job.settings, scope_id)  # what fields mean may have changed
    with job.transaction() as session:
        job.enqueue(session, "summarise.all")
