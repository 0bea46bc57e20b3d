"""The activity of a project: its events, read from the newest end, and what they say.

What belongs here: requests for events and their meaning. What does not: counting them (models/store/summaries).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import Time, decoded
from connectors.gitlab.api import PAGE_ROWS_COUNT, Api, Failures, decoded_rows, done_ratio
from connectors.gitlab.people import People, User
from models.records import Batch, ProjectEvent

_DAYS_MARGIN = timedelta(days=2)
"""`after` and `before` of events are whole days in the server's time zone, and exclude the day they name."""


class _EventRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    created_at: Time


class _PushData(msgspec.Struct, gc=False):
    commit_count: int | None = None
    action: str | None = None
    ref_type: str | None = None


class _Event(msgspec.Struct, gc=False):
    id: int
    project_id: int
    action_name: str
    created_at: Time
    author: User | None = None
    author_id: int | None = None
    author_username: str | None = None
    target_type: str | None = None
    target_iid: int | None = None
    push_data: _PushData | None = None


_EVENT_ROW = msgspec.json.Decoder(_EventRow)
_EVENT = msgspec.json.Decoder(_Event)


class Events:
    """The events of a project; their ids are GitLab's."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def oldest_update(self, project_id: int) -> datetime | None:
        """When the oldest event that is kept happened."""
        raws, _ = self._api.page(f"/projects/{project_id}/events", sort="asc", per_page=1)
        return min((row.created_at for row, _ in decoded_rows(raws, _EVENT_ROW)), default=None)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all events that are kept."""
        for page in self.pages(project_id, None, self._api.server_now() + _DAYS_MARGIN, None):
            yield tuple(item.external_id for item in page.items)

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """Walk the feed from its newest end.

        GitLab deletes events when they are three years old. Read from the oldest end, that would move the rest up and
        make a next page skip some; read from the newest, new events move the rest down, and what comes twice is known.
        """
        newest_at = datetime.fromisoformat(resume_token) if resume_token else until
        params = {"sort": "desc", "per_page": PAGE_ROWS_COUNT, "before": (newest_at + _DAYS_MARGIN).date().isoformat()}
        if since:
            params["after"] = (since - _DAYS_MARGIN).date().isoformat()
        seen: set[int] = set()
        page_number, has_next, is_done = 0, True, False
        while has_next and not is_done:
            page_number += 1
            raws, has_next = self._api.page(f"/projects/{project_id}/events", page=page_number, **params)
            failures: Failures = []
            rows = [
                (row, raw)
                for row, raw in decoded_rows(raws, _EVENT_ROW, failures)
                if row.created_at <= newest_at + timedelta(seconds=1)
            ]
            inside = [(row, raw) for row, raw in rows if since is None or row.created_at >= since]
            items = tuple(Item(str(row.id), bytes(raw)) for row, raw in inside if row.id not in seen)
            seen.update(row.id for row, _ in inside)
            # The feed goes by id, and ids grow with time: after a whole page from before the window nothing is in it.
            is_done = bool(rows) and not inside
            if items or failures:
                oldest_at = min((row.created_at for row, _ in inside), default=newest_at)
                yield Page(
                    items=items,
                    failures=tuple(failures),
                    resume_token=oldest_at.isoformat(),
                    progress_ratio=done_ratio(until, oldest_at, since) if since else None,
                )

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Look for events in the whole feed: GitLab has no request for a single one."""
        found: dict[str, Item] = {}
        for page in self.pages(project_id, None, self._api.server_now() + _DAYS_MARGIN, None):
            found.update((item.external_id, item) for item in page.items if item.external_id in external_ids)
            if len(found) == len(external_ids):
                break
        return Page(items=tuple(found.values()))


def parse_event(payload: bytes, context: ParseContext) -> Batch:
    """Turn a line of activity into its record; see `connectors.gitlab.parse.parse`."""
    shown = decoded(payload, _EVENT)
    user = shown.author or User(id=shown.author_id, username=shown.author_username)
    author = People(context.options).account(user)
    push = shown.push_data or _PushData()
    event = ProjectEvent(
        external_id=str(shown.id),
        external_project_id=str(shown.project_id),
        author=author,
        action=shown.action_name,
        target_type=shown.target_type,
        target_iid=shown.target_iid,
        push_action=push.action,
        push_ref_type=push.ref_type,
        push_commits=push.commit_count,
        occurred_at=shown.created_at,
    )
    return Batch(events=(event,), accounts=(author,) if author else ())
