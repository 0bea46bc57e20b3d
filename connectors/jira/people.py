"""Accounts in Jira's payloads: who they are by, and which of them are no people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.jira.payloads import Shape
from connectors.robots import robot_reason
from models.records import Account

_NO_ACCOUNTS = frozenset({"", "unknown"})
"""`unknown` is what Jira Cloud puts where an account's data is corrupted; it would make many people one."""


class User(Shape):
    """An account as payloads name it."""

    accountId: str | None = None  # noqa: N815
    key: str | None = None
    name: str | None = None
    displayName: str | None = None  # noqa: N815
    emailAddress: str | None = None  # noqa: N815
    accountType: str | None = None  # noqa: N815


class Accounts:
    """The accounts seen in one payload, each once."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._by_id: dict[str, Account] = {}

    def of(self, user: User | None) -> Account | None:
        """The account of a user; None where nothing identifies it."""
        if user is None:
            return None
        external_id = user.accountId or user.key or user.name or ""
        account = self._by_id.get(external_id)
        if account is None and external_id not in _NO_ACCOUNTS:
            account = self._by_id[external_id] = self._account(external_id, user)
        return account

    def all(self) -> tuple[Account, ...]:
        """All of them."""
        return tuple(self._by_id.values())

    def _account(self, external_id: str, user: User) -> Account:
        email = user.emailAddress or None
        reason = robot_reason(
            user.name,
            user.displayName,
            user.accountType == "app",
            self._options,
            email=email,
            external_id=external_id,
        )
        return Account(
            external_id=external_id,
            username=user.name,
            display_name=user.displayName,
            email=email,
            # The Cloud's accounts are verified by the vendor; a Data Center believes what its directory says.
            email_is_verified=email is not None
            and (user.accountId is not None or bool(self._options.get("emails_are_verified"))),
            is_bot=reason is not None,
            bot_reason=reason,
        )
