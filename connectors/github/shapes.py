"""What pull requests and issues of GitHub have in common: accounts, labels, comments and events, and whose they are.

What belongs here: typed shapes that both parsers read. What does not: what they mean (pull_requests.py, issues.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.decoding import Time
from connectors.robots import robot_reason
from models.errors import BadRecordError
from models.records import Account


class User(msgspec.Struct, gc=False):
    """An account as it stands inside other things."""

    id: int | None = None
    login: str | None = None
    name: str | None = None
    email: str | None = None
    type: str | None = None


class Repository(msgspec.Struct, gc=False):
    """Where it was read, as client.py notes it."""

    id: int
    full_name: str
    key: str


class Label(msgspec.Struct, gc=False):
    """A label of a thing."""

    name: str | None = None


class Comment(msgspec.Struct, gc=False):
    """A comment on a line."""

    id: int
    user: User | None = None
    created_at: Time | None = None


class Dismissed(msgspec.Struct, gc=False):
    """Which review was dismissed, and what it said."""

    state: str | None = None
    review_id: int | None = None


class Rename(msgspec.Struct, gc=False, rename={"before": "from", "after": "to"}):
    """The title before and after."""

    before: str | None = None
    after: str | None = None


class Milestone(msgspec.Struct, gc=False):
    """What a thing is planned for."""

    title: str | None = None


class Event(msgspec.Struct, gc=False):
    """An event of an issue or a line of a timeline; commits and grouped comments among these have no id."""

    event: str | None = None
    id: int | None = None
    actor: User | None = None
    user: User | None = None
    created_at: Time | None = None
    dismissed_review: Dismissed | None = None
    label: Label | None = None
    rename: Rename | None = None
    assignee: User | None = None
    milestone: Milestone | None = None
    state_reason: str | None = None


class People:
    """The accounts seen in one payload, each once, in the order of their appearance."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._by_id: dict[int, Account] = {}

    def account(self, user: User | None) -> Account | None:
        """The account of a user; None where there is none."""
        if user is None or user.id is None:
            return None
        known = self._by_id.get(user.id)
        if known is not None:
            return known
        reason = robot_reason(
            user.login, user.name, user.type == "Bot", self._options, email=user.email, external_id=str(user.id)
        )
        account = self._by_id[user.id] = Account(
            external_id=str(user.id),
            username=user.login,
            display_name=user.name,
            email=user.email or None,
            email_is_verified=bool(user.email),  # GitHub shows no address before it is confirmed
            is_bot=reason is not None,
            bot_reason=reason,
        )
        return account

    def all(self) -> tuple[Account, ...]:
        """Every account seen."""
        return tuple(self._by_id.values())


def check_state(field: str, state: str) -> None:
    """Refuse a state that GitHub does not have.

    Raises:
        BadRecordError: it is neither open nor closed.
    """
    if state not in ("open", "closed"):
        raise BadRecordError(f"{field}: {state!r} is neither open nor closed", field=field)
