"""Jira Cloud: ids by token, then issues and histories in bulk.

A search gives ids only, up to 5,000 a page, one page after the other by token. The issues behind them are read by the
hundred, from the database rather than from the search index, which runs behind, and so are their histories; several
hundreds are under way at a time. The history is then spliced into the issue, so that it is staged in the shape that
Data Center gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from connectors.base import Item, Page
from connectors.http import fetch_ahead, utc_now
from connectors.jira.api import (
    BULK_ISSUE,
    BULK_ISSUES_COUNT,
    OVERLAP_ROWS_COUNT,
    PAGES_AHEAD_COUNT,
    BulkIssue,
    JiraApi,
    Keeps,
    LightIssue,
    Row,
    Rows,
    batches,
    decoded,
    id_of,
    resumed,
    spliced,
    updated_at_of,
)
from connectors.jira.embedded import with_whole_parts
from models.errors import GoneError, SourceRequestError, TransientSourceError

LISTINGS_COUNT = 4
"""How often the ids of a window are listed at most on Cloud, until a listing brings nothing new."""
BULK_HISTORIES_COUNT = 10_000
EMPTY_PAGES_COUNT = 20
"""How many pages in a row may be empty and still have a successor, before the server is held to be confused."""


class _TokenPage(msgspec.Struct, gc=False, rename={"next_token": "nextPageToken", "histories": "issueChangeLogs"}):
    """One page of a resource of Cloud that goes on by token: of ids, or of histories."""

    issues: list[LightIssue] = []
    histories: list[_IssueHistories] = []
    next_token: str | None = None


class _IssueHistories(msgspec.Struct, gc=False, rename={"issue_id": "issueId", "histories": "changeHistories"}):
    issue_id: str | int
    histories: list[msgspec.Raw] = []


class _IssueError(msgspec.Struct, gc=False, rename={"message": "errorMessage"}):
    id: str | int = ""
    message: str = "no reason given"


class _Bulk(msgspec.Struct, gc=False, rename={"errors": "issueErrors"}):
    issues: list[msgspec.Raw] = []
    errors: list[_IssueError] = []


class _Count(msgspec.Struct, gc=False):
    count: int


_TOKEN_PAGE = msgspec.json.Decoder(_TokenPage)
_BULK = msgspec.json.Decoder(_Bulk)
_COUNT = msgspec.json.Decoder(_Count)
_ANCHORS = msgspec.json.Decoder(tuple[str, ...])
"""Issues that were delivered last."""


class Cloud:
    """Jira Cloud: ids by token, then issues and histories in bulk."""

    def __init__(self, api: JiraApi, page_rows_count: int) -> None:
        self._api = api
        self._page_rows_count = page_rows_count

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]:
        """Whole issues, page by page."""
        anchors = resumed(resume_token, _ANCHORS, ())
        marks: list[tuple[str, ...]] = []

        def calls() -> Iterator[Callable[[], Rows]]:
            for ids in self.id_batches(jql, anchors):
                for batch in batches(ids, BULK_ISSUES_COUNT):
                    marks.append(batch[-OVERLAP_ROWS_COUNT:])
                    yield partial(self.issues, batch, fields, keeps)

        for number, found in enumerate(fetch_ahead(self._api.pool, calls(), PAGES_AHEAD_COUNT)):
            yield Page(
                items=tuple(Item(row.external_id, row.payload) for row in found.rows),
                resume_token=msgspec.json.encode(marks[number]).decode(),
                fetched_at=found.asked_at,
                failures=tuple(found.failures),
            )

    def id_batches(self, jql: str, anchors: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """All ids, each once.

        One listing may miss an issue that the index loses sight of for a moment, or that moved up to an earlier page
        while another left; so it is repeated until it brings nothing new. Tokens are not kept across interruptions:
        they live for a week, where they lead after a deletion is not documented, and listing ids again is cheap.

        Args:
            jql: what to search for, in an order that no change alters.
            anchors: issues that were delivered last; what stands before them is left out. Where none of them is in the
                result any more, nothing is left out.
        """
        seen: set[str] = set()
        held: list[str] = []
        body = {"jql": jql, "fields": ["id"], "maxResults": self._page_rows_count}
        for listings_left in reversed(range(LISTINGS_COUNT)):
            known_count, token = len(seen), None
            try:
                for token, page in self._by_token("search/jql", 2, body):  # noqa: B007 - looked at below
                    ids = tuple(one for one in dict.fromkeys(str(row.id) for row in page.issues) if one not in seen)
                    seen.update(ids)
                    positions = [position for position, one in enumerate(ids) if one in anchors]
                    if anchors and not positions:
                        held.extend(ids)
                        continue
                    if anchors:
                        ids, anchors, held = ids[positions[-1] + 1 :], (), []
                    if ids:
                        yield ids
            except SourceRequestError as error:
                if token is None or not listings_left or error.facts.get("status") != 400:
                    raise
                continue  # the token has expired meanwhile
            if held:
                yield tuple(held)
            anchors, held = (), []
            if len(seen) == known_count:
                return

    def count(self, jql: str) -> int:
        """How many issues are found."""
        return decoded(self._api.post("search/approximate-count", {"jql": jql}, 3), _COUNT, self._api.host).count

    def first_update(self, jql: str) -> datetime | None:
        """When the first issue of a result was updated."""
        body = {"jql": jql, "fields": ["updated"], "maxResults": 1}
        for _, page in self._by_token("search/jql", 2, body):
            for issue in page.issues:
                return issue.fields.updated if issue.fields is not None else None
        return None

    def issues(self, external_ids: tuple[str, ...], fields: list[str], keeps: Keeps = lambda _: True) -> Rows:
        """Issues with their histories. What the source does not show is in neither list."""
        body = {"issueIdsOrKeys": external_ids, "fields": fields}
        found = Rows(asked_at=utc_now())
        bulk = decoded(self._api.post("issue/bulkfetch", body), _BULK, self._api.host)
        raws = list(bulk.issues)
        for error in bulk.errors:
            raws.extend(self._alone(error, fields, found))
        kept: dict[str, tuple[BulkIssue, datetime | None]] = {}
        for raw in raws:
            try:
                issue = BULK_ISSUE.decode(raw)
            except ValueError as damage:
                found.failures.append((id_of(raw), f"cannot be taken apart: {damage}", bytes(raw)))
                continue
            updated_at = updated_at_of(issue.fields)
            if keeps(updated_at):
                kept[str(issue.id)] = issue, updated_at
        # After the issues, so that a change in between is in the history rather than missing from it.
        histories = self._histories(list(kept))
        for external_id, (issue, updated_at) in kept.items():
            issue.fields = with_whole_parts(self._api, external_id, issue.fields)
            payload = spliced(issue, list(histories[external_id].values()))
            found.rows.append(Row(external_id, payload, updated_at))
        return found

    def _alone(self, error: _IssueError, fields: list[str], found: Rows) -> list[msgspec.Raw]:
        """An issue that the bulk fetch could not give, such as one that is too large, asked for by itself."""
        external_id = str(error.id)
        try:
            return [self._api.issue(external_id, fields=",".join(fields))]
        except GoneError:
            return []
        except SourceRequestError as refusal:
            found.failures.append((external_id, f"{error.message} ({refusal.message})", b""))
            return []

    def _histories(self, external_ids: list[str]) -> dict[str, dict[str, bytes]]:
        """All histories of some issues, each once; one issue's may be spread over the pages."""
        histories: dict[str, dict[str, bytes]] = {external_id: {} for external_id in external_ids}
        if not external_ids:
            return histories
        body = {"issueIdsOrKeys": external_ids, "maxResults": BULK_HISTORIES_COUNT}
        for _, page in self._by_token("changelog/bulkfetch", 3, body):
            for issue in page.histories:
                of_issue = histories.setdefault(str(issue.issue_id), {})
                for history in issue.histories:
                    of_issue[id_of(history)] = bytes(history)
        return histories

    def _by_token(self, path: str, version: int, body: Mapping[str, Any]) -> Iterator[tuple[str | None, _TokenPage]]:
        """The pages of a resource, and the token of the next. A page may be short, or empty, and not the last."""
        token: str | None = None
        used: set[str] = set()
        empty_count = 0
        while True:
            asked = {**body, "nextPageToken": token} if token else body
            page = decoded(self._api.post(path, asked, version), _TOKEN_PAGE, self._api.host)
            token = page.next_token or None
            yield token, page
            if token is None:
                return
            empty_count = 0 if page.issues or page.histories else empty_count + 1
            if token in used or empty_count >= EMPTY_PAGES_COUNT:
                raise TransientSourceError(
                    f"{self._api.host} pages {path} in a circle.", host=self._api.host, path=path
                )
            used.add(token)
