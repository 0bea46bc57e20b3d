"""Collecting: from a source's pages into staged payloads and rows, window by window.

A run plans windows of update time for each stream of a scope; each window is a job that can be stopped anywhere and
goes on where it was. Pages are fetched outside any transaction; a page is staged, promoted and counted in one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from connectors import registry
from connectors.base import Connector, Page, Stream, Window
from models.errors import SourceError, UsageError, Verdict
from models.rules.windows import Span, cut
from models.store import connections, sync
from models.store.session import assert_no_transaction, commit_without_waiting
from tasks.steps import Source, in_batches, load_source, opened, stage_and_promote
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task


@task(
    name="collect.sync_all",
    queue=Queue.URGENT,
    soft_limit_seconds=60,
    hard_limit_seconds=90,
    retry=RetryPolicy(),
    queueing_lock="sync_all:{connection}:{scope}:{stream}:{full}:{since}",
)
def sync_all(
    job: Job,
    *,
    connection: str | None = None,
    scope: str | None = None,
    stream: str | None = None,
    full: bool = False,
    since: str | None = None,
    **_later: Any,
) -> None:
    """Ask for a sync of every active scope, or of those that are named.

    Idempotent: scopes whose sync is waiting already are not asked twice.
    """
    with job.transaction() as session:
        for each in connections.scopes(session, connection=connection, key=scope, active_only=True):
            if each.kind in registry.KINDS:  # the others' rows are handed to us, and there is nobody to ask
                job.enqueue(session, "collect.sync_scope", scope_id=each.id, stream=stream, full=full, since=since)


@task(
    name="collect.sync_scope",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="sync_scope:{scope_id}",
    queueing_lock="sync_scope:{scope_id}:{stream}:{full}:{since}",
)
def sync_scope(
    job: Job, *, scope_id: int, stream: str | None = None, full: bool = False, since: str | None = None, **_later: Any
) -> None:
    """Bring the streams of a scope up to date: plan their windows, and collect where there is one window only.

    Idempotent: windows that are unfinished are collected before new ones are planned.
    """
    source = load_source(job.database, job.settings, scope_id)
    with opened(job.database, source) as connector:
        run_started_at = connector.server_now()
        for each in _streams(source, stream):
            if not each.is_incremental:
                _collect_dictionary(job, source, connector, each, run_started_at)
                source = load_source(job.database, job.settings, scope_id)  # what it said changes how others are read
                continue
            window_ids = _plan(job, source, connector, each, run_started_at, full=full, since=since)
            if len(window_ids) == 1:
                _collect(job, source, connector, each, window_ids[0])
                continue
            with job.transaction() as session:
                for window_id in window_ids:
                    job.enqueue(session, "collect.window", window_id=window_id)
    with job.transaction() as session:
        connections.record_success(session, source.connection.id)
        connections.set_scope_error(session, scope_id, None)


@task(
    name="collect.window",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="window:{window_id}",
    queueing_lock="window:{window_id}",
)
def collect_window(job: Job, *, window_id: int, **_later: Any) -> None:
    """Collect one window, from where it was stopped.

    Idempotent: a window that is done is left alone, and a page that is read twice is written once.
    """
    with job.transaction() as session:
        window = sync.window(session, window_id)
    if window.state == "done":
        return
    source = load_source(job.database, job.settings, window.sync_scope_id)
    with opened(job.database, source) as connector:
        _collect(job, source, connector, source.kind.streams[window.resource], window_id)


def _streams(source: Source, name: str | None) -> list[Stream]:
    if name is None:
        return list(source.kind.streams.values())
    if name not in source.kind.streams:
        raise UsageError(f"{source.kind.kind} has no stream {name!r}; choose one of {', '.join(source.kind.streams)}.")
    return [each for each in source.kind.streams.values() if each.name == name]


def _plan(
    job: Job,
    source: Source,
    connector: Connector,
    stream: Stream,
    run_started_at: datetime,
    *,
    full: bool,
    since: str | None,
) -> list[int]:
    """The windows to collect: those that an earlier run left, else new ones from the watermark on."""
    scope_id = source.scope.id
    with job.transaction() as session:
        unfinished = sync.unfinished_windows(session, scope_id, stream.name)
        complete_until = sync.watermark(session, scope_id, stream.name)
    if unfinished and not full:
        return unfinished
    spans: list[Span]
    if since is not None:
        spans = [(datetime.fromisoformat(since).astimezone(UTC), run_started_at)]
    elif complete_until is None or full:
        spans = cut(connector.oldest_update(source.scope, stream.name), run_started_at)
    else:
        spans = [(complete_until - stream.overlap, run_started_at)]
    with job.transaction() as session:
        return sync.plan_windows(session, scope_id, stream.name, spans, run_started_at=run_started_at)


def _collect(job: Job, source: Source, connector: Connector, stream: Stream, window_id: int) -> None:
    """Read a window from where it was stopped; the last one of a stream moves its watermark."""
    with job.transaction() as session:
        commit_without_waiting(session)
        window = sync.window(session, window_id)
        sync.start_window(session, window_id)
    span = Window(since=window.since, until=window.until)
    try:
        for page in in_batches(connector.pages(source.scope, stream.name, span, window.page_token)):
            _keep(job, source, stream, page, window_id)
    except SourceError as error:
        if error.verdict is not Verdict.RETRY:
            with job.transaction() as session:
                sync.fail_window(session, window_id, error.message)
        raise
    with job.transaction() as session:
        is_complete = sync.finish_window(session, window_id, job_id=job.id)
        if is_complete:
            job.enqueue(session, "summarise.all")


def _keep(job: Job, source: Source, stream: Stream, page: Page, window_id: int) -> None:
    """Stage, promote and count a page in one transaction."""
    assert_no_transaction()
    with job.transaction() as session:
        commit_without_waiting(session)
        written = stage_and_promote(session, source, stream, page, window_id=window_id)
        sync.advance_window(
            session, window_id, page_token=page.resume_token, rows_seen=len(page.items), written=written.total
        )
        job.report(
            session,
            rows_read=len(page.items),
            rows_written=written.total,
            scope=source.scope.external_key,
            stream=stream.name,
            done_ratio=page.progress_ratio,
        )


def _collect_dictionary(
    job: Job, source: Source, connector: Connector, stream: Stream, run_started_at: datetime
) -> None:
    """Read a small stream whole."""
    for page in connector.pages(source.scope, stream.name, Window()):
        with job.transaction() as session:
            written = stage_and_promote(session, source, stream, page, window_id=None)
            job.report(session, rows_read=len(page.items), rows_written=written.total)
    with job.transaction() as session:
        sync.finish_dictionary(session, source.scope.id, stream.name, run_started_at=run_started_at, job_id=job.id)
