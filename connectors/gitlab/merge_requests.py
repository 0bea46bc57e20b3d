"""Merge requests with all their parts, as bytes; what they mean stands in merge_request_parse.py.

External ids. A merge request is `<project id>!<iid>`, e.g. `278964!12`: GitLab has no request by global id, an iid is
never given again, and the numeric id of a project survives renaming and moving.

A page of the listing that holds one instant only is read by the time of creation, which never changes, within it.

Requests. Each merge request costs four requests besides its hundredth of a listing, or two where GraphQL tells the
commits and approvals of many at once. Nothing in a row of the listing proves that a part is empty (system notes are in
no count, and closing and reopening leave no trace), so none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from connectors.base import Item, Page
from connectors.decoding import Time, decoded
from connectors.gitlab.api import PAGE_ROWS_COUNT, Api, Failures, decoded_rows, iso, unreadable_name
from connectors.gitlab.graphql import GraphQL, Parts
from connectors.gitlab.updates import (
    AHEAD_COUNT,
    Listed,
    Lost,
    Row,
    advanced,
    by_update,
    oldest_update,
    pages_of,
    untold,
)
from connectors.http import fetch_ahead, utc_now
from connectors.lost import LostObjects
from models.errors import BadRecordError, TransientSourceError

IIDS_PER_REQUEST_COUNT = 50
MOST_TOLD_COUNT = 10_000

_BY_TIME = {"scope": "all", "state": "all", "sort": "asc"}


class MergeRequestRow(Row, frozen=True, gc=False):
    """What a listing must say about a merge request."""

    iid: int
    created_at: Time


class _Payload(msgspec.Struct, gc=False):
    """A merge request with its parts as received. None: the source does not show that part."""

    merge_request: msgspec.Raw
    commits: list[msgspec.Raw] | None
    notes: list[msgspec.Raw] | None
    approvals: msgspec.Raw | None
    state_events: list[msgspec.Raw] | None
    truncated: bool


class _NoteAuthor(msgspec.Struct, gc=False):
    id: int


class _Note(msgspec.Struct, gc=False):
    body: str | None = None
    system: bool | None = None
    author: _NoteAuthor | None = None


_ROW = msgspec.json.Decoder(MergeRequestRow)
_NOTE = msgspec.json.Decoder(_Note)
_Rows = list[tuple[MergeRequestRow, msgspec.Raw]]


class MergeRequests:
    """Reads merge requests.

    Args:
        api: the instance.
        pool: fetches parts.
        graphql: fetches some parts of many at once, where the instance can.
        lost: which objects may be left out.
    """

    def __init__(self, api: Api, pool: Executor, graphql: GraphQL, lost: LostObjects) -> None:
        self._api = api
        self._pool = pool
        self._graphql = graphql
        self._lost = lost

    def count(self, project_id: int, since: datetime | None, until: datetime | None) -> int | None:
        """How many were updated in a span. GitLab leaves the total out beyond 10,000: then one more than that."""
        edges = {"updated_after": since, "updated_before": until}
        named = {name: iso(at) for name, at in edges.items() if at is not None}
        path = f"/projects/{project_id}/merge_requests"
        _, headers = self._api.get(path, **_BY_TIME, **named, per_page=1, view="simple")
        total = headers.get("X-Total", "")
        if total.isdigit():
            return int(total)
        return MOST_TOLD_COUNT + 1 if headers.get("X-Next-Page") else None

    def oldest_update(self, project_id: int) -> datetime | None:
        """The earliest update time."""
        return oldest_update(_Listing(self._api, project_id))

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """Those that were updated in a span, with all their parts."""
        steps = by_update(_Listing(self._api, project_id), since, until, resume_token)
        return pages_of(self._pool, steps, partial(self._calls, project_id), since, until)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        for rows, _, _ in _Listing(self._api, project_id).by_creation({"view": "simple"}, None):
            if rows:
                yield tuple(merge_request_id(project_id, row.iid) for row, _ in rows)

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Some of them, through the listing, so that the rows are those of `pages`: a single one shows more fields."""
        asked_at = utc_now()
        iids = [
            int(iid) for owner, _, iid in (name.partition("!") for name in external_ids) if owner == str(project_id)
        ]
        rows: dict[int, tuple[MergeRequestRow, msgspec.Raw]] = {}
        failures: Failures = []
        for start in range(0, len(iids), IIDS_PER_REQUEST_COUNT):
            wanted = {"iids[]": iids[start : start + IIDS_PER_REQUEST_COUNT]}
            listed = _Listing(self._api, project_id).page(order_by="created_at", **wanted)
            rows.update((row.iid, (row, raw)) for row, raw in listed.rows)
            failures += listed.failures
        calls = self._calls(project_id, list(rows.values()))
        items: list[Item] = []
        for found in fetch_ahead(self._pool, calls, AHEAD_COUNT):
            if isinstance(found, Lost):
                failures.append(found.failure)
            else:
                items += found
        return Page(items=tuple(items), failures=tuple(failures), fetched_at=asked_at)

    def _calls(self, project_id: int, rows: _Rows) -> Iterator[Callable[[], tuple[Item, ...] | Lost]]:
        # For a single one the probe would cost what the query saves.
        size = self._graphql.batch_size() if len(rows) > 1 else 0
        if size == 0:
            yield from (partial(self._assembled_or_lost, project_id, row, raw) for row, raw in rows)
            return
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        asked = [self._pool.submit(self._graphql.parts, project_id, [row.iid for row, _ in batch]) for batch in batches]
        for batch, answer in zip(batches, asked, strict=True):
            known = answer.result()
            yield from (partial(self._assembled_or_lost, project_id, row, raw, known) for row, raw in batch)

    def _assembled_or_lost(
        self, project_id: int, row: MergeRequestRow, raw: msgspec.Raw, known: Mapping[int, Parts] | None = None
    ) -> tuple[Item, ...] | Lost:
        try:
            return self._assembled(project_id, row, raw, known)
        except TransientSourceError as error:
            return Lost((merge_request_id(project_id, row.iid), self._lost.reason(error), bytes(raw)))

    def _assembled(
        self, project_id: int, row: MergeRequestRow, raw: msgspec.Raw, known: Mapping[int, Parts] | None = None
    ) -> tuple[Item, ...]:
        """Fetch the parts of a merge request that are not known, and join them with its row, all as received."""
        api, path = self._api, f"/projects/{project_id}/merge_requests/{row.iid}"
        parts = (known or {}).get(row.iid)
        commits, is_commits_cut = (parts.commits if parts else None), False
        if commits is None:
            commits, is_commits_cut = api.part(f"{path}/commits")
        notes, is_notes_cut = api.part(f"{path}/notes", sort="asc", order_by="created_at")
        events, is_events_cut = api.part(f"{path}/resource_state_events")
        approvals = parts.approvals if parts else None
        if parts and parts.approver_ids and not parts.approver_ids <= _approvers_in(notes):
            approvals = None
        if approvals is None:
            approvals = api.raw_if_shown(f"{path}/approvals")
        if commits is None and notes is None and events is None and approvals is None:
            # One missing part is a feature that is off; all of them may be the whole project, hidden since the listing.
            api.project(str(project_id))
        payload = _Payload(
            merge_request=raw,
            commits=commits,
            notes=notes,
            approvals=approvals,
            state_events=events,
            truncated=is_commits_cut or is_notes_cut or is_events_cut,
        )
        return (Item(merge_request_id(project_id, row.iid), msgspec.json.encode(payload)),)


def _approvers_in(notes: list[msgspec.Raw] | None) -> frozenset[int]:
    """Whose approvals the notes tell the time of; of any other only REST's list of approvals may."""
    found = set()
    for note, _ in decoded_rows(notes or [], _NOTE):
        if note.system and note.author and (note.body or "").startswith("approved this merge request"):
            found.add(note.author.id)
    return frozenset(found)


class _Listing:
    """The merge requests of a project; see `connectors.gitlab.updates.Listing`."""

    def __init__(self, api: Api, project_id: int) -> None:
        self._api = api
        self._project_id = project_id

    def page(self, **params: Any) -> Listed[MergeRequestRow]:
        path = f"/projects/{self._project_id}/merge_requests"
        raws, is_more = self._api.page(path, **{"per_page": PAGE_ROWS_COUNT, **_BY_TIME, **params})
        listed = Listed[MergeRequestRow]([], [], is_more)
        for raw in raws:
            try:
                listed.rows.append((decoded(bytes(raw), _ROW), raw))
            except BadRecordError as error:
                listed.failures.append((_name_of_unreadable(self._project_id, raw), error.message, bytes(raw)))
        return listed

    def inside(
        self, instant: dict[str, str], inner_at: datetime | None
    ) -> Iterator[tuple[_Rows, Failures, datetime | None]]:
        return self.by_creation(instant, inner_at)

    def by_creation(
        self, filters: Mapping[str, Any], cursor: datetime | None
    ) -> Iterator[tuple[_Rows, Failures, datetime | None]]:
        """Walk merge requests by the time of their creation, which never changes, so that nothing moves.

        Args:
            filters: which of them.
            cursor: where to begin; None at the beginning.

        Returns:
            The new rows and failures of each page, and where to go on after it.
        """
        page_number = 1
        seen: set[tuple[int, datetime]] = set()
        told: set[str] = set()
        while True:
            after = {"created_after": iso(cursor)} if cursor else {}
            listed = self.page(order_by="created_at", page=page_number, **filters, **after)
            times = [row.created_at for row, _ in listed.rows]
            fresh = [(row, raw) for row, raw in listed.rows if (row.id, row.created_at) not in seen]
            seen.update((row.id, row.created_at) for row, _ in fresh)
            yield fresh, untold(listed.failures, told), max(times, default=cursor)
            if not listed.has_next:
                return
            if times and times[0] != times[-1]:
                cursor, page_number = advanced(cursor, times), 1
                seen = {(row_id, at) for row_id, at in seen if at >= cursor}
            else:
                # More than a page was created in one instant: only its page numbers are left to go by.
                page_number += 1


def merge_request_id(project_id: int, iid: int) -> str:
    """The external id of a merge request."""
    return f"{project_id}!{iid}"


def _name_of_unreadable(project_id: int, raw: msgspec.Raw) -> str:
    try:
        iid = msgspec.json.decode(raw, type=dict[str, Any])["iid"]
        return merge_request_id(project_id, int(iid))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return f"{project_id}!{unreadable_name(raw)}"
