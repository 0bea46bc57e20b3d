"""Walking the issues and pull requests of a repository by update time while they change under the walk.

Only the list of issues can be asked for what was updated since a time, and it holds the pull requests too. It is read
in the order of update times, and no page number is trusted: what is updated meanwhile leaves its place and moves the
rest up. After each page the listing begins again at the last time seen, and what was seen there is left out. Times are
whole seconds; where more than a page was updated within two of them, the listing is read by creation instead: an update
then moves nothing, and what belongs to it can only grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors.decoding import Time
from connectors.github.api import PAGE_ROWS_COUNT, Api, Failure, Repository, iso, rows_of

_SECOND = timedelta(seconds=1)
"""The resolution of GitHub's times."""
_ALL = {"state": "all", "direction": "asc"}


class Row(msgspec.Struct, frozen=True, gc=False):
    """What the listing must say about an issue or a pull request."""

    id: int
    number: int
    updated_at: Time
    pull_request: msgspec.Raw = msgspec.Raw(b"")

    @property
    def is_pull_request(self) -> bool:
        """Whether it is one, and no issue."""
        return bool(bytes(self.pull_request))


Rows = list[tuple[Row, msgspec.Raw]]


class Listed(msgspec.Struct):
    """One page of a listing."""

    rows: Rows
    failures: list[Failure]
    next_url: str | None


class Step(msgspec.Struct):
    """What is new on one page of a walk, and where to go on after it."""

    rows: Rows
    failures: list[Failure]
    updated_at: datetime | None


_ROW = msgspec.json.Decoder(Row)


class Updates:
    """The issues and pull requests of one repository, by update time or by creation."""

    def __init__(self, api: Api, repository: Repository) -> None:
        self._api = api
        self._repository = repository

    def oldest(self) -> datetime | None:
        """The earliest update time, or None where there is nothing."""
        return min((row.updated_at for row, _ in self._page(sort="updated", per_page=1).rows), default=None)

    def by_update(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Step]:
        """Walk by update time; each version that GitHub shows comes once.

        Args:
            since: where to begin; None at the beginning.
            until: where to end; a little more may come.
            resume_token: the time of the last step that is safely stored.
        """
        # From the full hour on, so that polls of one hour ask for one address, whose ETag then answers most of them.
        cursor = since and since.replace(minute=0, second=0, microsecond=0)
        if resume_token:
            cursor = datetime.fromisoformat(resume_token)
        page_number = 1
        seen: set[tuple[int, datetime]] = set()
        told: set[str] = set()

        def fresh(listed: Listed, first: datetime | None, last: datetime) -> tuple[Rows, list[Failure]]:
            rows = [
                (row, raw)
                for row, raw in listed.rows
                if (row.id, row.updated_at) not in seen
                and (first is None or first <= row.updated_at)
                and row.updated_at <= last
            ]
            seen.update((row.id, row.updated_at) for row, _ in rows)
            failures = [failure for failure in listed.failures if failure[0] not in told]
            told.update(failure[0] for failure in failures)
            return rows, failures

        first = since and since.replace(microsecond=0)
        last = until + _SECOND
        while True:
            # Whether the time itself belongs to what is asked for is not documented: a second earlier, it does.
            after = {"since": iso(cursor - _SECOND)} if cursor else {}
            listed = self._page(sort="updated", page=page_number, **after)
            times = [row.updated_at for row, _ in listed.rows]
            if listed.next_url and times and cursor and times[-1] <= cursor:
                # More than a page was updated within the two seconds at the cursor.
                for part in self.by_creation(cursor - _SECOND):
                    yield Step(*fresh(part, first, min(cursor + _SECOND, last)), cursor)
                cursor, page_number = cursor + 2 * _SECOND, 1
                continue
            yield Step(*fresh(listed, first, last), max(times, default=cursor))
            if not listed.next_url or (times and times[-1] > until):
                return
            # A page without one readable row tells no time; then its number is all there is to go on by.
            cursor, page_number = (times[-1], 1) if times else (cursor, page_number + 1)
            seen = {(row_id, at) for row_id, at in seen if cursor and at >= cursor - _SECOND}

    def by_creation(self, since: datetime | None) -> Iterator[Listed]:
        """Walk what was updated since a time in the order of creation, which no update changes."""
        after = {"since": iso(since)} if since else {}
        listed = self._page(sort="created", **after)
        yield listed
        while listed.next_url:
            listed = self._listed(listed.next_url)
            yield listed

    def _page(self, **params: Any) -> Listed:
        wanted = {"per_page": PAGE_ROWS_COUNT, **_ALL, **params}
        if wanted.get("page") == 1:
            del wanted["page"]
        return self._listed(self._api.address(f"{self._repository.path}/issues", **wanted))

    def _listed(self, url: str) -> Listed:
        raws, next_url = self._api.page(url)
        listed = Listed([], [], next_url)
        listed.rows += rows_of(raws, _ROW, listed.failures)
        return listed
