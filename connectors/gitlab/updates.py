"""Walking a listing by update time while it changes under the walk.

What is updated meanwhile leaves its place and moves the rest up by one, so that a next page would skip some. Here no
page number is trusted: after each page the listing begins again at the last time seen, inclusive, and what was seen
there is left out. How an instant that is longer than a page is read is for each subject to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

import msgspec

from connectors.base import Item, Page
from connectors.decoding import Time
from connectors.gitlab.api import PAGE_ROWS_COUNT, Api, Failures, decoded_rows, done_ratio, iso
from connectors.http import fetch_ahead, utc_now
from models.errors import SourceRequestError

AHEAD_COUNT = 16
"""How many objects are fetched before the consumer asks for them."""
INSTANT_PASSES_COUNT = 5

TICK = timedelta(milliseconds=1)
"""The resolution of GitLab's JSON; its database keeps microseconds."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a listing must say about an object."""

    id: int
    updated_at: Time


RowT = TypeVar("RowT", bound=Row)


class Listed(msgspec.Struct, Generic[RowT]):
    """One page of a listing."""

    rows: list[tuple[RowT, msgspec.Raw]]
    failures: Failures
    has_next: bool


class Step(msgspec.Struct, Generic[RowT]):
    """What is new on one page of a walk, and where to go on after it."""

    rows: list[tuple[RowT, msgspec.Raw]]
    failures: Failures
    updated_at: datetime
    inner_at: datetime | None = None
    """Set inside an instant that is longer than a page."""
    listed_at: datetime = msgspec.field(default_factory=utc_now)
    """By our clock, before the parts of the rows are asked for: what changed since may not be in them."""

    @property
    def token(self) -> str:
        """Where to go on, as text."""
        return "|".join(iso(at) for at in (self.updated_at, self.inner_at) if at)


class Listing(Protocol[RowT]):
    """A listing that can be asked for by update time."""

    def page(self, **params: str | int | list[int]) -> Listed[RowT]:
        """One page of it, ascending."""
        ...

    def inside(
        self, instant: dict[str, str], inner_at: datetime | None
    ) -> Iterator[tuple[list[tuple[RowT, msgspec.Raw]], Failures, datetime | None]]:
        """Everything within one instant, from `inner_at` on: rows, failures, and where to go on after them."""
        ...


class NumberedListing:
    """A listing whose only way through a long instant is by the numbers of its pages.

    Args:
        api: the instance.
        path: of the listing.
        name: the external id of what has an id, for rows that cannot be read.
    """

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path

    def page(self, **params: str | int | list[int]) -> Listed[Row]:
        """One page of it, ascending."""
        failures: Failures = []
        raws, is_more = self._api.page(self._path, **{"per_page": PAGE_ROWS_COUNT, "sort": "asc", **params})
        return Listed(list(decoded_rows(raws, _ROW, failures)), failures, is_more)

    def inside(
        self, instant: dict[str, str], inner_at: datetime | None
    ) -> Iterator[tuple[list[tuple[Row, msgspec.Raw]], Failures, datetime | None]]:
        """Read all pages, again and again until nothing new comes: a row that leaves meanwhile hides another."""
        del inner_at
        seen: set[int] = set()
        for _ in range(INSTANT_PASSES_COUNT):
            page_number, is_more, known_count = 1, True, len(seen)
            while is_more:
                listed = self.page(order_by="updated_at", page=page_number, **instant)
                yield [(row, raw) for row, raw in listed.rows if row.id not in seen], listed.failures, None
                seen.update(row.id for row, _ in listed.rows)
                page_number, is_more = page_number + 1, listed.has_next
            if len(seen) == known_count:
                return


_ROW = msgspec.json.Decoder(Row)


def by_update(
    listing: Listing[RowT], since: datetime | None, until: datetime, resume_token: str | None
) -> Iterator[Step[RowT]]:
    """Walk a listing by update time; each version that GitLab shows comes once.

    Args:
        listing: what to walk.
        since: where to begin; None at the beginning.
        until: where to end; a little more may come.
        resume_token: of the last step that is safely stored.
    """
    cursor, inner_at = _from_token(resume_token) if resume_token else (since, None)
    # The right edge keeps what is updated meanwhile for the next window, and the listing from growing without end.
    edge = {"updated_before": iso(until + timedelta(seconds=1))}
    is_long_instant = inner_at is not None
    page_number = 1
    seen: set[tuple[int, datetime]] = set()
    told: set[str] = set()
    while True:
        if is_long_instant and cursor is not None:
            instant = {"updated_after": iso(cursor), "updated_before": iso(cursor + TICK)}
            for rows, failures, reached_at in listing.inside(instant, inner_at):
                yield Step(_fresh(rows, seen), untold(failures, told), cursor, reached_at)
            cursor, inner_at, is_long_instant = cursor + TICK, None, False
        after = {"updated_after": iso(cursor)} if cursor else {}
        listed = listing.page(order_by="updated_at", page=page_number, **edge, **after)
        times = [row.updated_at for row, _ in listed.rows]
        if listed.has_next and times and times[0] == times[-1]:
            cursor, is_long_instant, page_number = times[-1], True, 1
            continue
        yield Step(_fresh(listed.rows, seen), untold(listed.failures, told), max(times, default=cursor or until))
        if not listed.has_next:
            return
        # A page without one readable row tells no time; then its number is all there is to go on by.
        cursor, page_number = (advanced(cursor, times), 1) if times else (cursor, page_number + 1)
        seen = {(row_id, at) for row_id, at in seen if cursor and at >= cursor}


class Lost(msgspec.Struct, frozen=True):
    """An object of which a part cannot be fetched; as in `Page.failures`."""

    failure: tuple[str, str, bytes]


def pages_of(
    pool: Executor,
    steps: Iterable[Step[RowT]],
    calls_of: Callable[[list[tuple[RowT, msgspec.Raw]]], Iterator[Callable[[], tuple[Item, ...] | Lost]]],
    since: datetime | None,
    until: datetime,
) -> Iterator[Page]:
    """Make a page of each step, its objects completed on the pool ahead of the consumer.

    Args:
        pool: runs the requests.
        steps: of a walk.
        calls_of: what fetches that which some rows lack.
        since: where the walk begins, for the progress.
        until: where it ends.
    """

    def calls() -> Iterator[Callable[[], tuple[Item, ...] | Lost | Step[RowT]]]:
        for step in steps:
            yield from calls_of(step.rows)
            yield partial(_same, step)

    first_at = since
    items: list[Item] = []
    lost: Failures = []
    for result in fetch_ahead(pool, calls(), AHEAD_COUNT):
        if isinstance(result, Lost):
            lost.append(result.failure)
            continue
        if not isinstance(result, Step):
            items += result
            continue
        first_at = first_at or min((row.updated_at for row, _ in result.rows), default=None)
        if items or lost or result.failures:
            yield Page(
                items=tuple(items),
                failures=(*result.failures, *lost),
                resume_token=result.token,
                fetched_at=result.listed_at,
                progress_ratio=done_ratio(first_at, result.updated_at, until),
            )
        items, lost = [], []


def one_by_one(
    assemble: Callable[[RowT, msgspec.Raw], tuple[Item, ...]],
) -> Callable[[list[tuple[RowT, msgspec.Raw]]], Iterator[Callable[[], tuple[Item, ...]]]]:
    """Calls that complete each row by itself."""

    def calls(rows: list[tuple[RowT, msgspec.Raw]]) -> Iterator[Callable[[], tuple[Item, ...]]]:
        return (partial(assemble, row, raw) for row, raw in rows)

    return calls


def oldest_update(listing: Listing[RowT]) -> datetime | None:
    """The earliest update time in a listing."""
    listed = listing.page(order_by="updated_at", per_page=1)
    return min((row.updated_at for row, _ in listed.rows), default=None)


def advanced(cursor: datetime | None, times: list[datetime]) -> datetime:
    """The last of ascending times, which must lie after the cursor.

    Raises:
        SourceRequestError: it does not; the walk would go in a circle.
    """
    if cursor is not None and times[-1] <= cursor:
        raise SourceRequestError("This GitLab pays no heed to updated_after or created_after; its version is too old.")
    return times[-1]


def untold(failures: Failures, told: set[str]) -> Failures:
    """The failures that were not told before; they are then."""
    fresh = [failure for failure in failures if failure[0] not in told]
    told.update(failure[0] for failure in fresh)
    return fresh


def _fresh(rows: list[tuple[RowT, msgspec.Raw]], seen: set[tuple[int, datetime]]) -> list[tuple[RowT, msgspec.Raw]]:
    """The rows whose version was not seen before; they are seen then."""
    fresh = [(row, raw) for row, raw in rows if (row.id, row.updated_at) not in seen]
    seen.update((row.id, row.updated_at) for row, _ in fresh)
    return fresh


def _same(step: Step[RowT]) -> Step[RowT]:
    return step


def _from_token(token: str) -> tuple[datetime, datetime | None]:
    updated, _, inner = token.partition("|")
    return datetime.fromisoformat(updated), datetime.fromisoformat(inner) if inner else None
