"""Jira Data Center and Server: whole issues by position, several pages at a time.

Pages overlap by a few rows. A page is believed only if it holds an issue that was seen before, or is the first: then
nothing between them was skipped, whatever left the result while it was read. If it does not, reading goes back until it
does (positions.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from connectors.base import Item, Page
from connectors.http import utc_now
from connectors.jira.api import (
    BULK_ISSUE,
    ID_PAGE_ROWS_COUNT,
    LIGHT_ISSUE,
    NO_ID,
    OVERLAP_ROWS_COUNT,
    PAGE_ROWS_COUNT,
    JiraApi,
    Keeps,
    Row,
    Rows,
    decoded,
    id_of,
    is_whole,
    resumed,
    spliced,
)
from connectors.jira.embedded import with_whole_parts
from connectors.jira.jql import with_ids
from connectors.jira.positions import joined_pages
from models.errors import GoneError, SourceRequestError


class _HistoryPage(msgspec.Struct, gc=False):
    values: list[msgspec.Raw] = []
    total: int = 0


class _SearchPage(msgspec.Struct, gc=False):
    total: int
    issues: list[msgspec.Raw]


_HISTORY_PAGE = msgspec.json.Decoder(_HistoryPage)
_SEARCH_PAGE = msgspec.json.Decoder(_SearchPage)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_POSITION = msgspec.json.Decoder(tuple[int, tuple[str, ...]])
"""A position in the result of a search, and issues delivered that lie there."""


class DataCenter:
    """Jira Data Center and Server: whole issues by position, several pages at a time."""

    def __init__(self, api: JiraApi, page_rows_count: int) -> None:
        self._api = api
        self._page_rows_count = page_rows_count

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]:
        """Whole issues, page by page."""
        start, anchors = resumed(resume_token, _POSITION, (0, ()))

        def read(at: int) -> Rows:
            return self._read(jql, fields, self._page_rows_count, at)

        for page, new in joined_pages(read, self._api.pool, start, anchors):
            last_ids = [row.external_id for row in page.rows[-OVERLAP_ROWS_COUNT:]]
            yield Page(
                items=tuple(
                    Item(row.external_id, row.payload)
                    for row in page.rows
                    if row.external_id in new and keeps(row.updated_at)
                ),
                resume_token=msgspec.json.encode((max(0, page.end - OVERLAP_ROWS_COUNT), last_ids)).decode(),
                progress_ratio=min(1.0, page.end / page.total) if page.total else 1.0,
                fetched_at=page.asked_at,
                failures=tuple(failure for failure in page.failures if failure[0] == NO_ID or failure[0] in new),
            )

    def id_batches(self, jql: str) -> Iterator[tuple[str, ...]]:
        """All ids, each once."""

        def read(at: int) -> Rows:
            # Ids are light, so a page may be as large as the server's settings allow.
            return self._read(jql, None, ID_PAGE_ROWS_COUNT, at)

        for page, new in joined_pages(read, self._api.pool):
            ids = tuple(row.external_id for row in page.rows if row.external_id in new)
            if ids:
                yield ids

    def count(self, jql: str) -> int:
        """How many issues are found."""
        return self._read(jql, None, 1, 0).total

    def first_update(self, jql: str) -> datetime | None:
        """When the first issue of a result was updated."""
        rows = self._read(jql, ["updated"], 1, 0, expand=()).rows
        return rows[0].updated_at if rows else None

    def issues(self, external_ids: tuple[str, ...], fields: list[str]) -> Rows:
        """Issues with their histories. What the source does not show is in neither list."""
        found = Rows(asked_at=utc_now())
        try:
            while True:
                page = self._read(with_ids(external_ids), fields, len(external_ids), found.end, is_strict=False)
                found.rows.extend(page.rows)
                found.failures.extend(page.failures)
                # A server may give fewer rows than it was asked for.
                if page.end >= page.total or page.end == page.start:
                    return found
        except SourceRequestError as error:
            if error.facts.get("status") != 400:
                raise
        # Old servers refuse the whole query where one of the issues is gone.
        found = Rows(asked_at=utc_now())
        for external_id in external_ids:
            try:
                raw = self._api.issue(external_id, fields=",".join(fields), expand="changelog")
            except GoneError:
                continue
            self._take(raw, fields, found)
        return found

    def _read(
        self,
        jql: str,
        fields: list[str] | None,
        rows_count: int,
        start: int,
        *,
        expand: tuple[str, ...] = ("changelog",),
        is_strict: bool = True,
    ) -> Rows:
        """One page of a search; of whole issues, or of ids where no fields are named."""
        body: dict[str, Any] = {"jql": jql, "startAt": start, "maxResults": rows_count, "fields": fields or ["id"]}
        is_whole = fields is not None and bool(expand)
        if is_whole:
            body["expand"] = expand
        if not is_strict:
            body["validateQuery"] = False
        asked_at = utc_now()
        page = decoded(self._api.post("search", body), _SEARCH_PAGE, self._api.host)
        found = Rows(asked_at=asked_at, start=start, total=page.total)
        for raw in page.issues:
            if is_whole:
                self._take(raw, fields or [], found)
            else:
                issue = decoded(raw, LIGHT_ISSUE, self._api.host)
                found.rows.append(Row(str(issue.id), b"", issue.fields.updated if issue.fields else None))
        return found

    def _take(self, raw: msgspec.Raw, fields: list[str], found: Rows) -> None:
        """Take an issue with its history, or what is known of why it is not whole."""
        try:
            issue = LIGHT_ISSUE.decode(raw)
        except ValueError as damage:
            external_id = id_of(raw)
            if external_id == NO_ID:
                found.failures.append((NO_ID, f"cannot be taken apart: {damage}", bytes(raw)))
            else:
                found.rows.append(Row(external_id, bytes(raw), None))  # parse says what is wrong with it
            return
        external_id, updated_at = str(issue.id), issue.fields.updated if issue.fields is not None else None
        try:
            payload = bytes(raw) if is_whole(issue) else self._completed(external_id, fields)
            found.rows.append(Row(external_id, self._with_whole_parts(external_id, payload), updated_at))
        except (GoneError, SourceRequestError) as refusal:
            found.failures.append((external_id, f"its history is cut short; {refusal.message}", bytes(raw)))

    def _with_whole_parts(self, external_id: str, payload: bytes) -> bytes:
        """An issue with its comments and worklogs, which other servers than the newest cut short too."""
        members = _MEMBERS.decode(payload)
        fields = with_whole_parts(self._api, external_id, members["fields"])
        return payload if fields is members["fields"] else msgspec.json.encode(members | {"fields": fields})

    def _completed(self, external_id: str, fields: list[str]) -> bytes:
        """An issue whose history was cut short in the search, whole.

        Raises:
            SourceRequestError: the server gives no more.
            GoneError: neither the issue nor its history is there.
        """
        raw = self._api.issue(external_id, fields=",".join(fields), expand="changelog")
        if is_whole(decoded(raw, LIGHT_ISSUE, self._api.host)):
            return bytes(raw)
        histories: list[bytes] = []
        while True:
            page = decoded(
                self._api.get(f"issue/{external_id}/changelog", startAt=len(histories), maxResults=PAGE_ROWS_COUNT),
                _HISTORY_PAGE,
                self._api.host,
            )
            histories.extend(map(bytes, page.values))
            if len(histories) >= page.total:
                return spliced(decoded(raw, BULK_ISSUE, self._api.host), histories)
            if not page.values:
                raise SourceRequestError(f"only {len(histories)} of {page.total} histories are given.")
