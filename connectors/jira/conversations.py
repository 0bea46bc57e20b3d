"""What people wrote and logged on an issue: comments, worklogs, and the first answer to its reporter. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from connectors.jira.payloads import Shape, flattened, utc
from connectors.jira.people import Accounts, User
from models.records import Account

ShapeT = TypeVar("ShapeT", bound=Shape)

COMMENTS_KEPT_COUNT, WORKLOGS_KEPT_COUNT = 500, 1_000
"""The first so many of an issue are fetched and kept; how many there are is known all the same."""
BODY_KEPT_CHARACTERS = 2_000


class Comments(Shape):
    """The comments of an issue, those that are embedded."""

    total: int | None = None
    comments: list[Any] | None = None


class Worklogs(Shape):
    """The worklogs of an issue, those that are embedded."""

    total: int | None = None
    worklogs: list[Any] | None = None


class _Comment(Shape, kw_only=True):
    id: str | int
    author: User | None = None
    body: str | dict[str, Any] | None = None
    created: datetime
    updated: datetime | None = None


class _Worklog(Shape, kw_only=True):
    id: str | int
    author: User | None = None
    started: datetime | None = None
    updated: datetime | None = None
    timeSpentSeconds: int = 0  # noqa: N815 - Jira's spelling


class Conversation(msgspec.Struct, frozen=True):
    """What an issue's row keeps of its comments."""

    comments: tuple[Mapping[str, str | None], ...]
    count: int
    first_response_at: datetime | None


def conversation_of(embedded: Comments | None, reporter: Account | None, accounts: Accounts) -> Conversation:
    """The comments of an issue, oldest first, and when its reporter was first answered.

    An answer is by a person whom the source names: not by the reporter, not by a robot. A comment that cannot be read
    is left out; it counts.
    """
    found = sorted(_read(embedded.comments if embedded else None, _Comment), key=lambda one: (one.created, str(one.id)))
    kept, first_response_at = [], None
    for comment in found[:COMMENTS_KEPT_COUNT]:
        author = accounts.of(comment.author)
        if first_response_at is None and author is not None and not author.is_bot:
            is_reporter = reporter is not None and author.external_id == reporter.external_id
            first_response_at = None if is_reporter else utc(comment.created)
        body = flattened(comment.body) if isinstance(comment.body, dict) else comment.body
        kept.append(
            {
                "id": str(comment.id),
                **_by(author, comment.author),
                "created": utc(comment.created).isoformat(),
                "updated": utc(comment.updated).isoformat() if comment.updated else None,
                "body": body[:BODY_KEPT_CHARACTERS] if body else None,
            }
        )
    return Conversation(tuple(kept), _total(embedded, len(found)), first_response_at)


def worklogs_of(
    embedded: Worklogs | None, accounts: Accounts
) -> tuple[tuple[Mapping[str, str | int | None], ...], int]:
    """The worklogs of an issue in the order in which they were made, and how many there are."""
    found = _read(embedded.worklogs if embedded else None, _Worklog)
    kept = tuple(
        {
            "id": str(worklog.id),
            **_by(accounts.of(worklog.author), worklog.author),
            "started": utc(worklog.started).isoformat() if worklog.started else None,
            "updated": utc(worklog.updated).isoformat() if worklog.updated else None,
            "seconds": worklog.timeSpentSeconds,
        }
        for worklog in found[:WORKLOGS_KEPT_COUNT]
    )
    return kept, _total(embedded, len(found))


def _by(account: Account | None, user: User | None) -> dict[str, str | None]:
    return {
        "author_id": account.external_id if account is not None else None,
        "author": user.displayName if user is not None else None,
    }


def _total(embedded: Comments | Worklogs | None, found_count: int) -> int:
    return found_count if embedded is None or embedded.total is None else embedded.total


def _read(raws: list[Any] | None, shape: type[ShapeT]) -> list[ShapeT]:
    found = []
    for raw in raws or ():
        try:
            found.append(msgspec.convert(raw, shape))
        except msgspec.ValidationError:
            continue
    return found
