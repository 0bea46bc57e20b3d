"""Collecting: from a source's pages into staged payloads and rows, window by window.

A run of a scope follows what is new in each stream in one window, which it reads at once. A first sync, and whatever
reads old things again, is a backfill: windows that all workers share, each with a job, newest first. A window can be
stopped anywhere and goes on where it was. Pages are fetched outside any transaction; a page is staged, promoted and
counted in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Row
from sqlalchemy.orm import Session

from connectors import registry
from connectors.base import Connector, Page, Stream, Window
from models.errors import ForbiddenResourceError, GoneError, PlumblineError, UsageError, Verdict
from models.rules.windows import MOST_ROWS, MOST_WINDOWS, Span, cut, pieces
from models.store import capture, connections, jira_dictionaries, launches, watermarks, windows
from models.store.session import assert_no_transaction, commit_without_waiting
from tasks.steps import Source, in_batches, load_source, opened, stage_and_promote
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, JobYieldedError, task

logger = structlog.get_logger("plumbline.sync")


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
            if each.kind not in registry.KINDS:  # their rows are handed to us, and there is nobody to ask
                continue
            if each.is_resting and job.trigger == "schedule":  # refused within the hour
                continue
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
    """Bring the streams of a scope up to date, and see to it that its backfills have the jobs that they need.

    Idempotent: windows that are unfinished are collected before new ones are planned.
    """
    source = load_source(job.database, job.settings, scope_id)
    with opened(job.database, source, failures_count=job.attempts - 1) as connector:
        run_started_at = connector.server_now()
        for each in _streams(job, source, stream, run_started_at, full=full):
            with _refusable(job, source, connector, each):
                if not each.is_incremental:
                    _collect_dictionary(job, source, connector, each, run_started_at)
                    source = load_source(job.database, job.settings, scope_id)  # it may change how others are read
                    continue
                for window_id in _plan(job, source, connector, each, run_started_at, full=full, since=since):
                    _collect(job, source, connector, each, window_id)
                _share_backfill(job, scope_id, each)
    with job.transaction() as session:
        connections.record_success(session, source.connection.id)
        connections.set_scope_error(session, scope_id, None)


@task(
    name="collect.window",
    queue=Queue.BACKFILL,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
)
def collect_window(job: Job, *, scope_id: int, stream: str, **_later: Any) -> None:
    """Collect one window of a backfill, from where it was stopped: the newest that nobody has.

    Idempotent: where no window is left there is nothing to do, and a page that is read twice is written once.
    """
    source = load_source(job.database, job.settings, scope_id)
    each = source.kind.streams[stream]
    with _taken(job, scope_id, stream) as window:
        if window is None:
            return
        with (
            opened(job.database, source, failures_count=window.attempts) as connector,
            _refusable(job, source, connector, each),
        ):
            _cut_again(job, source, connector, each, window.id)
            _collect(job, source, connector, each, window.id)
            with job.transaction() as session:
                connections.record_success(session, source.connection.id)


def _streams(job: Job, source: Source, name: str | None, run_started_at: datetime, *, full: bool) -> list[Stream]:
    """The streams that are named, or all that the source has not refused of late and that do not rest."""
    if name is not None and name not in source.kind.streams:
        raise UsageError(f"{source.kind.kind} has no stream {name!r}; choose one of {', '.join(source.kind.streams)}.")
    with job.transaction() as session:
        if name is not None:
            watermarks.forget_refusals(session, [source.scope.id], name)
            return [source.kind.streams[name]]
        refused = watermarks.refused(session, source.scope.id)
        resting = {
            each.name
            for each in source.kind.streams.values()
            if each.rests_for and not full
            if (read_at := watermarks.watermark(session, source.scope.id, each.name)) is not None
            if read_at > run_started_at - each.rests_for
        }
    return [each for each in source.kind.streams.values() if each.name not in refused | resting]


@contextmanager
def _refusable(job: Job, source: Source, connector: Connector, stream: Stream) -> Iterator[None]:
    """Let a source refuse one stream of a scope that it shows otherwise; it is asked again in a day.

    Raises:
        GoneError, ForbiddenResourceError: it refuses the whole scope.
    """
    try:
        yield
    except (ForbiddenResourceError, GoneError) as error:
        connector.check_scope(source.scope)
        with job.transaction() as session:
            watermarks.refuse(session, source.scope.id, stream.name, error.message)
        logger.warning("stream_refused", scope=source.scope.external_key, stream=stream.name, error=error.message)


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
    """Plan what is to be read. Returns the windows that are to be read now; those of a backfill are shared."""
    scope_id = source.scope.id
    with job.transaction() as session:
        followed_until = windows.followed_until(session, scope_id, stream.name)
        unfinished = windows.unfinished(session, scope_id, stream.name, is_backfill=False)
    is_backfill = followed_until is None or full or since is not None
    if unfinished and not is_backfill:
        return unfinished
    spans: list[Span]
    if since is not None:
        spans = [(datetime.fromisoformat(since).astimezone(UTC), run_started_at)]
    elif followed_until is None or full:
        spans = cut(connector.oldest_update(source.scope, stream.name), run_started_at)
    else:
        spans = [(followed_until - stream.overlap, run_started_at)]
    rows = connector.count(source.scope, stream.name, Window(until=run_started_at)) if is_backfill else None
    with job.transaction() as session:
        if full:
            windows.abandon_backfill(session, scope_id, stream.name)
        planned = windows.plan(
            session,
            scope_id,
            stream.name,
            spans,
            run_started_at=run_started_at,
            is_backfill=is_backfill,
            rows_expected=None if rows is None else -(-rows // len(spans)),
        )
    return [] if is_backfill else planned


def _share_backfill(job: Job, scope_id: int, stream: Stream) -> None:
    """Ask for the jobs that the windows of a backfill lack."""
    with job.transaction() as session:
        connections.set_scope_error(session, scope_id, None)  # the source has just shown it
        for _ in range(windows.missing_jobs(session, scope_id, stream.name)):
            job.enqueue(session, "collect.window", scope_id=scope_id, stream=stream.name)


@contextmanager
def _taken(job: Job, scope_id: int, stream: str) -> Iterator[Row[Any] | None]:
    """Hold the newest window of a backfill that nobody else holds; the lock dies with its process."""
    with job.transaction() as session:
        candidates = windows.next_of_backfill(session, scope_id, stream)
    for window_id in candidates:
        with job.database.advisory_lock(f"window:{window_id}") as is_ours:
            if not is_ours:
                continue
            with job.transaction() as session:
                is_open = window_id in windows.next_of_backfill(session, scope_id, stream)
                window = windows.window(session, window_id) if is_open else None
            if window is not None:
                yield window
                return
    yield None


def _cut_again(job: Job, source: Source, connector: Connector, stream: Stream, window_id: int) -> None:
    """Hand the older parts of a window back that holds far more than others, before it is begun."""
    while True:
        with job.transaction() as session:
            window = windows.window(session, window_id)
        if window.page_token is not None or window.rows_seen or window.until is None:
            return
        if window.rows_expected is not None and window.rows_expected * MOST_WINDOWS <= MOST_ROWS:
            return  # it would be small enough even if all were in it
        rows = connector.count(source.scope, stream.name, Window(since=window.since, until=window.until))
        if rows is None:
            return
        since = window.since or connector.oldest_update(source.scope, stream.name) or window.until
        parts = pieces(since, window.until, rows)
        with job.transaction() as session:
            windows.expect(session, window_id, rows)
            if len(parts) == 1:
                return
            parts[-1] = (window.since, parts[-1][1])
            windows.split(session, window, parts, rows_expected=rows // len(parts))
            for _ in parts[1:]:
                job.enqueue(session, "collect.window", scope_id=source.scope.id, stream=stream.name)


def _collect(job: Job, source: Source, connector: Connector, stream: Stream, window_id: int) -> None:
    """Read a window from where it was stopped; the last one of a stream moves its watermark."""
    with job.transaction() as session:
        commit_without_waiting(session)
        window = windows.window(session, window_id)
        windows.start(session, window_id)
    span = Window(since=window.since, until=window.until)
    try:
        for page in in_batches(connector.pages(source.scope, stream.name, span, window.page_token)):
            _keep(job, source, stream, page, window_id, is_backfill=window.is_backfill)
    except PlumblineError as error:
        with job.transaction() as session:
            _lay_down(session, window_id, error)
        raise
    with job.transaction() as session:
        is_complete = windows.finish(session, window_id, job_id=job.id)
        if is_complete or not window.is_backfill:
            job.enqueue(session, "summarise.all")
        if source.kind.bring_results is not None:
            for launch_key in launches.due(session, source.scope.id):
                job.enqueue(session, "ingest.launch", scope_id=source.scope.id, launch_key=launch_key)


def _lay_down(session: Session, window_id: int, error: PlumblineError) -> None:
    """Remember of a window whether it was its own fault that it was not finished."""
    if isinstance(error, JobYieldedError) or error.verdict in {
        Verdict.RESCHEDULE,
        Verdict.CANCEL,
        Verdict.PAUSE_CONNECTION,
    }:
        windows.give_back(session, window_id)
    elif error.verdict is not Verdict.RETRY:
        windows.fail(session, window_id, error.message)


def _keep(job: Job, source: Source, stream: Stream, page: Page, window_id: int, *, is_backfill: bool) -> None:
    """Stage, promote and count a page in one transaction."""
    assert_no_transaction()
    with job.transaction() as session:
        commit_without_waiting(session)
        if is_backfill:
            capture.say_backfill(session)
        written = stage_and_promote(session, source, stream, page, window_id=window_id)
        windows.advance(
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
        is_in_the_way = is_backfill and page.resume_token is not None and job.is_in_the_way(session)
    if is_in_the_way:
        raise JobYieldedError


def _collect_dictionary(
    job: Job, source: Source, connector: Connector, stream: Stream, run_started_at: datetime
) -> None:
    """Read a small stream whole; what is held and was not listed is asked for by id, and buried where it is gone."""
    listed: set[str] = set()
    for page in connector.pages(source.scope, stream.name, Window()):
        listed.update(item.external_id for item in page.items)
        with job.transaction() as session:
            written = stage_and_promote(session, source, stream, page, window_id=None)
            job.report(session, rows_read=len(page.items), rows_written=written.total)
    with job.transaction() as session:
        unlisted = jira_dictionaries.unlisted(session, source.target, stream.name, listed)
    if unlisted:
        page = connector.fetch(source.scope, stream.name, unlisted)
        absent = set(unlisted) - {item.external_id for item in page.items}
        with job.transaction() as session:
            written = stage_and_promote(session, source, stream, page, window_id=None)
            buried = jira_dictionaries.tombstone(
                session, source.target, stream.name, sorted(absent), at=page.fetched_at
            )
            job.report(session, rows_read=len(page.items), rows_written=written.total + buried)
    with job.transaction() as session:
        watermarks.finish_dictionary(
            session, source.scope.id, stream.name, run_started_at=run_started_at, job_id=job.id
        )
