"""Comments and worklogs beyond those that an issue embeds: asked for where the issue has more than it shows.

A search embeds so many of each and says how many there are. Only issues that are fetched anyway are looked at, so that
what nobody touched is not asked for again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.jira.api import JiraApi, decoded
from connectors.jira.conversations import COMMENTS_KEPT_COUNT, WORKLOGS_KEPT_COUNT
from models.errors import ForbiddenResourceError, GoneError, SourceRequestError

COMMENTS_PAGE_COUNT = 100
"""The most that Cloud gives at a time."""


class _Part(msgspec.Struct, gc=False):
    total: int = 0
    comments: list[msgspec.Raw] = []
    worklogs: list[msgspec.Raw] = []

    @property
    def rows(self) -> list[msgspec.Raw]:
        return self.comments or self.worklogs


class _Parts(msgspec.Struct, gc=False):
    comment: _Part | None = None
    worklog: _Part | None = None


_PARTS = msgspec.json.Decoder(_Parts)
_PART = msgspec.json.Decoder(_Part)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def with_whole_parts(api: JiraApi, external_id: str, fields: msgspec.Raw) -> msgspec.Raw:
    """The fields of an issue, with its comments and worklogs as far as they are kept.

    Args:
        api: to ask.
        external_id: of the issue.
        fields: as received; as they are where nothing is cut short, or the rest is not shown.
    """
    try:
        parts = _PARTS.decode(fields)
    except ValueError:
        return fields  # parse says what is wrong with it
    whole: dict[str, Any] = {}
    if _is_short(parts.comment, COMMENTS_KEPT_COUNT):
        whole["comment"] = _read(api, external_id, "comment", COMMENTS_PAGE_COUNT, COMMENTS_KEPT_COUNT)
    if _is_short(parts.worklog, WORKLOGS_KEPT_COUNT):
        whole["worklog"] = _read(api, external_id, "worklog", WORKLOGS_KEPT_COUNT, WORKLOGS_KEPT_COUNT)
    found = {name: part for name, part in whole.items() if part is not None}
    return msgspec.Raw(msgspec.json.encode(_MEMBERS.decode(fields) | found)) if found else fields


def _is_short(part: _Part | None, kept_count: int) -> bool:
    return part is not None and len(part.rows) < min(part.total, kept_count)


def _read(api: JiraApi, external_id: str, name: str, page_count: int, kept_count: int) -> dict[str, Any] | None:
    """The first so many, oldest first; None where they are not shown."""
    rows: list[msgspec.Raw] = []
    total = 1
    while len(rows) < min(total, kept_count):
        try:
            body = api.get(f"issue/{external_id}/{name}", startAt=len(rows), maxResults=page_count)
            page = decoded(body, _PART, api.host)
        except (GoneError, ForbiddenResourceError, SourceRequestError):
            return None
        if not page.rows:
            break
        rows.extend(page.rows)
        total = page.total
    return {"startAt": 0, "maxResults": len(rows), "total": max(total, len(rows)), f"{name}s": rows}
