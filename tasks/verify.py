"""Verifying: read everything that a source shows of a scope once more, and say in which rows we differ.

What belongs here: the order of steps. What does not: how rows are compared (models/store/verify.py). It is no task of
the workers but a function of the command line's own process: somebody waits for the answer, and nothing is written that
could be left half done. So it may wait where a source asks for patience.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import structlog

from connectors.base import Connector, Page, RateGate, Stream, Window
from models.errors import BadRecordError, RateLimitedError, TransientSourceError, UsageError
from models.records import Batch
from models.store.session import Database, assert_no_transaction
from models.store.verify import Comparison, Snapshot
from tasks.steps import Source, load_source
from workers.retry import RetryPolicy, decide
from workers.settings import Settings

T = TypeVar("T")

PATIENCE = RetryPolicy(max_attempts=10, cap_seconds=60.0)
"""How often in a row the source may fail, and how long is waited in between."""
LONGEST_WAIT_SECONDS = 900
"""A source that asks for more patience than this is not waited for."""
MOST_CONFIRMED_COUNT = 1_000
"""So many objects at most are read a second time where they seem to differ; more than that is no race."""
EXAMPLES_COUNT = 5

Progress = Callable[[str, int, float | None], None]
"""Told the stream, how many objects of it were read, and how much of it is done, 0 to 1, where that is known."""

logger = structlog.get_logger("plumbline.sync")


class StreamVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one stream of a scope compares."""

    scope_id: int
    stream: str
    read: int
    """Objects read from the source."""
    comparison: Comparison


def verify_scope(
    database: Database,
    settings: Settings,
    scope_id: int,
    *,
    gate: RateGate,
    sleep: Callable[[float], None],
    progress: Progress,
    stream: str | None = None,
    examples: int = EXAMPLES_COUNT,
) -> Iterator[StreamVerdict]:
    """Compare every row of a scope with its source; nothing of ours is changed.

    Args:
        database: ours.
        settings: with the keys of the connection's secrets.
        scope_id: the scope.
        gate: the patience that all processes share.
        sleep: how to wait, in seconds, where the source asks for patience or does not answer.
        progress: called after each page.
        stream: only this one.
        examples: at most so many of each table and kind of difference.

    Returns:
        A verdict for each incremental stream, as soon as it is known; dictionaries are no rows of the scope.

    Raises:
        UsageError: the connection is paused, or there is no such stream.
        SourceError: the source refuses, or fails for too long.
    """
    source = load_source(database, settings, scope_id)
    streams = [each for each in source.kind.streams.values() if each.is_incremental and stream in (None, each.name)]
    if not streams:
        known = ", ".join(each.name for each in source.kind.streams.values() if each.is_incremental)
        raise UsageError(f"{source.kind.kind} has no stream {stream!r} that can be compared; choose one of {known}.")
    with closing(source.kind.connect(source.connection, gate)) as connector:
        for each in streams:
            with Snapshot(database, source.target, each.name) as snapshot:
                read = _read_all(source, connector, each, snapshot, progress, sleep)
                snapshot.compare(overlap=each.overlap)
                if _confirm(source, connector, each, snapshot, sleep):
                    snapshot.compare(overlap=each.overlap)
                comparison = snapshot.result(examples=examples)
            yield StreamVerdict(scope_id=scope_id, stream=each.name, read=read, comparison=comparison)


def _read_all(
    source: Source,
    connector: Connector,
    stream: Stream,
    snapshot: Snapshot,
    progress: Progress,
    sleep: Callable[[float], None],
) -> int:
    """Land all pages; returns how many objects they held."""
    read = 0
    resume_token: str | None = None
    patience = _Patience(sleep)
    window = Window(until=patience.ask(connector.server_now))
    while True:
        assert_no_transaction()
        try:
            for page in connector.pages(source.scope, stream.name, window, resume_token):
                _land(source, stream, snapshot, page)
                read += len(page.items)
                resume_token = page.resume_token
                if resume_token is not None:
                    patience.renew()
                progress(stream.name, read, page.progress_ratio)
        except (TransientSourceError, RateLimitedError) as error:
            patience.wait(error)
            if resume_token is None:
                read = 0  # the source begins anew
        else:
            return read


def _confirm(
    source: Source, connector: Connector, stream: Stream, snapshot: Snapshot, sleep: Callable[[float], None]
) -> bool:
    """Read once more what seems to differ: it may have changed, or have been synced, while the rest was read.

    Returns:
        Whether anything was read.
    """
    suspects = snapshot.suspects(MOST_CONFIRMED_COUNT + 1)
    if not suspects or len(suspects) > MOST_CONFIRMED_COUNT:
        return False
    page = _Patience(sleep).ask(lambda: connector.fetch(source.scope, stream.name, tuple(suspects)))
    _land(source, stream, snapshot, page)
    shown = {item.external_id for item in page.items} | {external_id for external_id, _, _ in page.failures}
    snapshot.forget([external_id for external_id in suspects if external_id not in shown])
    return True


def _land(source: Source, stream: Stream, snapshot: Snapshot, page: Page) -> None:
    """Parse a page as promoting does, and land it."""
    batches: dict[str, Batch] = {}
    failures = [(external_id, reason) for external_id, reason, _ in page.failures]
    for item in page.items:
        try:
            batches[item.external_id] = source.kind.parse(stream.name, item.payload, source.context)
        except BadRecordError as error:
            failures.append((item.external_id, error.message))
    snapshot.land(batches, failures, fetched_at=datetime.now(UTC))


class _Patience:
    """How a source that does not answer, or asks to be left alone, is waited for; used up, it raises the error."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep
        self._failures = 0

    def renew(self) -> None:
        """Forget the failures: there was progress."""
        self._failures = 0

    def wait(self, error: TransientSourceError | RateLimitedError) -> None:
        """Wait as a worker would, or raise."""
        self._failures += 1
        now = datetime.now(UTC)
        decision = decide(error, attempts=self._failures, policy=PATIENCE, now=now, chance=random.random())  # noqa: S311  # jitter
        if decision.run_after is None or self._failures >= PATIENCE.max_attempts:
            raise error
        seconds = max(0.0, (decision.run_after - now).total_seconds())
        if seconds > LONGEST_WAIT_SECONDS:
            raise error
        logger.warning("verify_waits", wait_seconds=round(seconds, 1), error=error.message)
        self._sleep(seconds)

    def ask(self, call: Callable[[], T]) -> T:
        """Call until it answers."""
        while True:
            try:
                return call()
            except (TransientSourceError, RateLimitedError) as error:
                self.wait(error)
