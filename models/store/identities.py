"""Accounts seen at the sources, kept so that people can be told apart and bots left out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table
from sqlalchemy.orm import Session

from models.records import Account
from models.store.copy import Written, upsert
from models.store.sync import Target
from models.tables.tenancy import UserIdentity

IDENTITIES: Table = UserIdentity.metadata.tables["user_identities"]
COLUMNS = ("tenant_id", "source", "external_id", "username", "display_name", "email", "is_bot", "bot_reason")


def write_accounts(session: Session, target: Target, accounts: Iterable[Account | None]) -> Written:
    """Keep each account once, under the instance's host and its id there.

    Args:
        session: inside a transaction.
        target: whose accounts these are.
        accounts: in any number and order, None among them; the last copy of an account wins.
    """
    by_id = {account.external_id: account for account in accounts if account is not None}
    if not by_id:
        return Written()
    rows = (
        (
            target.tenant_id,
            target.source,
            target.account_key(account.external_id),
            account.username,
            account.display_name,
            account.email,
            account.is_bot,
            account.bot_reason,
        )
        for account in by_id.values()
    )
    return upsert(session, IDENTITIES, COLUMNS, rows, ("tenant_id", "source", "external_id"), is_mostly_same=True)
