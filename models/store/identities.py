"""Accounts seen at the sources, kept so that people can be told apart and bots left out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import Account
from models.store.copy import Landing, Written
from models.store.sync import Target
from models.tables.tenancy import UserIdentity

IDENTITIES: Table = UserIdentity.metadata.tables["user_identities"]
KEY = ("tenant_id", "source", "external_id")
SHOWN = ("username", "display_name", "email", "provider_id")
"""What some payloads show of an account and others leave out."""
COLUMNS = (*KEY, *SHOWN, "email_is_verified", "is_bot", "bot_reason")
# A payload that does not show an address says nothing about it.
KEEP_WHAT_IS_NOT_SHOWN = """
    UPDATE {landing} l SET {shown}, email_is_verified = CASE
        WHEN l.email IS NULL OR l.email = i.email THEN l.email_is_verified OR i.email_is_verified
        ELSE l.email_is_verified END
    FROM user_identities i
    WHERE (i.tenant_id, i.source, i.external_id) = (l.tenant_id, l.source, l.external_id)
"""


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
            account.provider_id,
            account.email_is_verified,
            account.is_bot,
            account.bot_reason,
        )
        for account in by_id.values()
    )
    landing = Landing(session, IDENTITIES, COLUMNS)
    landing.fill(rows)
    shown = ", ".join(f"{name} = COALESCE(l.{name}, i.{name})" for name in SHOWN)
    session.execute(text(KEEP_WHAT_IS_NOT_SHOWN.format(landing=landing.name_text, shown=shown)))
    return landing.upsert(KEY, is_mostly_same=True)
