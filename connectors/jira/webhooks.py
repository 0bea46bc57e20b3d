"""Jira's webhooks, of Cloud and Data Center: who sent one, and which issues it tells of.

Pure: no request and no clock. What belongs here: headers and fields of a delivery. What does not: making hooks at the
source (hooks.py), storing deliveries and reading the issues.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from connectors.base import Hint
from connectors.decoding import cleaned, decoded
from connectors.signatures import is_hub_signature, lowered
from models.errors import BadRecordError

KEPT_HEADERS = frozenset(
    {
        "content-type", "user-agent", "x-atlassian-webhook-identifier", "x-atlassian-webhook-retry",
        "x-atlassian-webhook-flow",
    }
)  # fmt: skip

LONGEST_NAME_CHARACTERS = 200

_ABOUT_ISSUES = ("jira:issue_", "comment_", "worklog_", "issuelink_", "attachment_")
_ISSUE_OF_URL = re.compile(r"/issue/(\d+)(?:/|$)")


class _Project(msgspec.Struct):
    key: str | None = None


class _Fields(msgspec.Struct):
    project: _Project | None = None


class _Issue(msgspec.Struct):
    id: str | int
    key: str = ""
    fields: _Fields | None = None


class _Part(msgspec.Struct, rename={"url": "self", "issue_id": "issueId"}):
    """A comment or a worklog; Data Center sends it without its issue."""

    url: str | None = None
    issue_id: str | int | None = None


class _Link(msgspec.Struct, rename="camel"):
    source_issue_id: str | int | None = None
    destination_issue_id: str | int | None = None


class _Kind(msgspec.Struct, rename={"event": "webhookEvent"}):
    event: str


class _Delivery(msgspec.Struct, rename={"link": "issueLink"}):
    issue: _Issue | None = None
    comment: _Part | None = None
    worklog: _Part | None = None
    link: _Link | None = None


_KIND = msgspec.json.Decoder(_Kind)
_DELIVERY = msgspec.json.Decoder(_Delivery)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime) -> bool:
    """Whether one of the secrets signed these bytes.

    Jira signs no time, and may send again for hours what failed; that a delivery is stored once under its id is what
    makes a recorded one worthless.

    Source: https://developer.atlassian.com/cloud/jira/platform/webhooks/

    Args:
        headers: in any case.
        body: the bytes as they came.
        secrets: that are valid now; two while one replaces the other.
        now: not looked at.
    """
    del now
    given = lowered(headers).get("x-hub-signature", "")
    return any(is_hub_signature(given, body, secret) for secret in secrets)


def hints(headers: Mapping[str, str], body: bytes) -> Hint:
    """What a delivery says has changed.

    Args:
        headers: in any case.
        body: whose signature was found to be good.

    Raises:
        BadRecordError: it is no delivery of Jira's; the message says why.
    """
    payload = cleaned(body)
    event = decoded(payload, _KIND).event
    if not event or len(event) > LONGEST_NAME_CHARACTERS:
        raise BadRecordError("webhookEvent: missing or too long", field="webhookEvent")
    hint = Hint(delivery_key=_delivery_key(lowered(headers), body), event_type=event, payload=payload)
    if not event.startswith(_ABOUT_ISSUES):
        return hint  # sprints, versions, boards: no issue changes by them
    delivery = decoded(payload, _DELIVERY)
    issue_ids = _issue_ids(delivery)
    if not issue_ids:
        raise BadRecordError("issue: missing", field="issue")
    return msgspec.structs.replace(
        hint, stream="issues", scope_keys=_project_keys(delivery.issue), external_ids=issue_ids
    )


def _issue_ids(delivery: _Delivery) -> tuple[str, ...]:
    part = delivery.comment or delivery.worklog
    link = delivery.link or _Link()
    named = [
        delivery.issue.id if delivery.issue else None,
        part.issue_id if part else None,
        link.source_issue_id,
        link.destination_issue_id,
    ]
    found = [str(each) for each in named if each is not None]
    if not found and part is not None and (place := _ISSUE_OF_URL.search(part.url or "")):
        found = [place[1]]
    if not all(each.isascii() and each.isdigit() and len(each) < 20 for each in found):
        raise BadRecordError("issue: its id is no number", field="issue")
    return tuple(dict.fromkeys(found))


def _project_keys(issue: _Issue | None) -> tuple[str, ...]:
    if issue is None:
        return ()
    project = issue.fields.project if issue.fields else None
    key = (project.key if project else None) or issue.key.rpartition("-")[0]
    return (key,) if key else ()


def _delivery_key(headers: Mapping[str, str], body: bytes) -> str:
    """The id of a delivery; old servers give none, and then the same bytes, which hold the time, are the same."""
    key = headers.get("x-atlassian-webhook-identifier")
    if key and len(key) <= LONGEST_NAME_CHARACTERS:
        return key
    return "sha256:" + hashlib.sha256(body).hexdigest()
