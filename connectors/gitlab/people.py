"""Accounts in payloads of GitLab. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.robots import robot_reason
from models.records import Account


class User(msgspec.Struct, gc=False):
    """An account as it stands inside other things."""

    id: int | None = None
    username: str | None = None
    name: str | None = None
    email: str | None = None
    public_email: str | None = None
    bot: bool | None = None


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
        email = user.email or user.public_email or None
        reason = robot_reason(
            user.username, user.name, user.bot is True, self._options, email=email, external_id=str(user.id)
        )
        account = self._by_id[user.id] = Account(
            external_id=str(user.id),
            username=user.username,
            display_name=user.name,
            email=email,
            email_is_verified=email is not None,  # GitLab shows no address before it is confirmed
            is_bot=reason is not None,
            bot_reason=reason,
        )
        return account

    def all(self) -> tuple[Account, ...]:
        """All of them."""
        return tuple(self._by_id.values())
