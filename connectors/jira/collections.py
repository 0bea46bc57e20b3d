"""Jira's small streams, read whole: where each is asked for, entry by entry as bytes.

Fields, statuses and priorities are the instance's; versions and boards a project's. A sprint is its id, whichever
boards show it: each run reads the open ones of each board, the stream `closed_sprints` those that are closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from connectors.base import Item, Page, ScopeSpec
from connectors.http import utc_now
from connectors.jira.api import NO_ID, RAW_LIST, JiraApi, decoded, id_of
from models.errors import GoneError, SourceRequestError, TransientSourceError

PLATFORM, AGILE = "rest/api/2", "rest/agile/1.0"
PAGE_ROWS_COUNT = 50
"""The most that the agile API gives."""
MOST_PAGES_COUNT = 400

WHOLE = {
    "fields": "field",
    "statuses": "status",
    "priorities": "priority",
    "versions": "project/{key}/versions",
}
"""Path of the streams that come in one answer."""
ALONE = {
    "versions": f"{PLATFORM}/version",
    "boards": f"{AGILE}/board",
    "sprints": f"{AGILE}/sprint",
    "closed_sprints": f"{AGILE}/sprint",
}
"""Where one entry is asked for by id; of the others all are read, and the rest left out."""
SPRINT_STATES = {"sprints": "active,future", "closed_sprints": "closed"}

STREAMS = frozenset({*WHOLE, *ALONE})


class _AgilePage(msgspec.Struct, gc=False, rename={"is_last": "isLast"}):
    values: list[msgspec.Raw]
    is_last: bool | None = None


class _Board(msgspec.Struct, gc=False):
    id: str | int
    type: str | None = None


_AGILE_PAGE = msgspec.json.Decoder(_AgilePage)
_BOARD = msgspec.json.Decoder(_Board)
_RAW = msgspec.json.Decoder(msgspec.Raw)


class Collections:
    """The small streams of one instance, for one run."""

    def __init__(self, api: JiraApi) -> None:
        self._api = api
        self._boards_by_key: dict[str, list[msgspec.Raw]] = {}

    def page_of(self, scope: ScopeSpec, stream: str) -> Page:
        """All entries of a stream.

        Raises:
            GoneError: the project is not there, or hidden.
        """
        asked_at = utc_now()
        if stream in SPRINT_STATES:
            rows = list(self._sprints(scope, SPRINT_STATES[stream]))
        elif stream == "boards":
            rows = self._boards(scope, is_anew=True)
        else:
            path = WHOLE[stream].format(key=quote(scope.external_key, safe=""))
            rows = decoded(self._api.get(path), RAW_LIST, self._api.host)
        items = {id_of(row): bytes(row) for row in rows}
        unnamed = [bytes(row) for row in rows if id_of(row) == NO_ID]
        items.pop(NO_ID, None)
        return Page(
            items=tuple(Item(external_id, payload) for external_id, payload in items.items()),
            progress_ratio=1.0,
            fetched_at=asked_at,
            failures=tuple((NO_ID, "it has no id", payload) for payload in unnamed),
        )

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Some entries by id. What the source does not show is missing."""
        if stream not in ALONE:
            page = self.page_of(scope, stream)
            return msgspec.structs.replace(
                page, items=tuple(item for item in page.items if item.external_id in external_ids), failures=()
            )
        asked_at = utc_now()
        items = []
        for external_id in external_ids:
            try:
                raw = decoded(
                    self._api.get_from(f"{ALONE[stream]}/{quote(external_id, safe='')}"), _RAW, self._api.host
                )
            except GoneError:
                continue
            items.append(Item(external_id, bytes(raw)))
        return Page(items=tuple(items), fetched_at=asked_at)

    def _boards(self, scope: ScopeSpec, *, is_anew: bool = False) -> list[msgspec.Raw]:
        """The boards of a project, as they were a moment ago where they were asked for in this run."""
        if is_anew or scope.external_key not in self._boards_by_key:
            rows = _agile_rows(self._api, f"{AGILE}/board", projectKeyOrId=scope.external_key)
            self._boards_by_key[scope.external_key] = list(rows)
        return self._boards_by_key[scope.external_key]

    def _sprints(self, scope: ScopeSpec, states: str) -> Iterator[msgspec.Raw]:
        for raw in self._boards(scope):
            board = decoded(raw, _BOARD, self._api.host)
            if board.type == "kanban":
                continue
            try:
                yield from _agile_rows(self._api, f"{AGILE}/board/{board.id}/sprint", state=states)
            except SourceRequestError as error:
                # A board without sprints says so in this way, whatever its type.
                if error.facts.get("status") != 400:
                    raise
            except GoneError:
                continue  # it was deleted meanwhile


def _agile_rows(api: JiraApi, path: str, **params: str) -> Iterator[msgspec.Raw]:
    start = 0
    for _ in range(MOST_PAGES_COUNT):
        page = decoded(api.get_from(path, **params, startAt=start, maxResults=PAGE_ROWS_COUNT), _AGILE_PAGE, api.host)
        yield from page.values
        start += len(page.values)
        if not page.values or page.is_last or (page.is_last is None and len(page.values) < PAGE_ROWS_COUNT):
            return
    raise TransientSourceError(f"{api.host} pages {path} without an end.", host=api.host, path=path)
