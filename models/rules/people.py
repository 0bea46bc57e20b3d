"""Which accounts belong to one person: those with a strong key in common, and those that somebody joined by hand.

Strong keys are an identity provider's id, an e-mail address that its source has verified, and a user of the platform.
Names are none. Pure: the same accounts and decisions always give the same people, in whatever order they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

_SHARED_MAILBOX = re.compile(
    r"^(no-?reply|do-?not-?reply|info|team|dev|devs|developers|support|admin|root|ci|build|builds|bot|qa|office|mail)@"
    r"|@users\.noreply\.|@noreply\.|@localhost$"
)


class AccountKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What may tie an account to others."""

    id: int
    email: str | None = None
    """Only where its source has verified it."""
    provider_id: str | None = None
    """The identity provider and the id there."""
    user_id: int | None = None
    """A user of the platform, as the platform says."""
    is_bot: bool = False


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody decided by hand about an account."""

    account_id: int
    other_id: int | None = None
    """The account that is the same person's; None: it stands apart from all that keys would tie it to."""


class Person(msgspec.Struct, frozen=True):
    """Whom an account belongs to, and why."""

    id: int
    """The smallest id of the person's accounts."""
    reason: str | None
    """Why it is not alone; None where it is."""


def is_personal(email: str | None) -> bool:
    """Whether an address can tell one person: mailboxes that several share, and those that take no mail, cannot."""
    return email is not None and "@" in email and not _SHARED_MAILBOX.search(email.lower())


def people(accounts: Iterable[AccountKeys], decisions: Iterable[Decision] = ()) -> Mapping[int, Person]:
    """Tell who is who.

    Robots are nobody's second account, whatever address they carry. What was decided by hand goes before every key.

    Args:
        accounts: of one tenant.
        decisions: about them; those that name an unknown account mean nothing.

    Returns:
        The person of each account.
    """
    known = {account.id: account for account in accounts}
    decided = list(decisions)
    apart = {each.account_id for each in decided if each.other_id is None}
    leader = {account_id: account_id for account_id in known}
    reasons: dict[int, str] = {}

    def first_of(account_id: int) -> int:
        while leader[account_id] != account_id:
            leader[account_id] = leader[leader[account_id]]
            account_id = leader[account_id]
        return account_id

    def join(one: int, other: int, reason: str) -> None:
        reasons.setdefault(one, reason)
        reasons.setdefault(other, reason)
        low, high = sorted((first_of(one), first_of(other)))
        leader[high] = low

    for each in sorted(decided, key=lambda decision: (decision.account_id, decision.other_id or 0)):
        if each.other_id is not None and each.account_id in known and each.other_id in known:
            join(each.account_id, each.other_id, "joined by hand")
    holders: dict[tuple[str, str], int] = {}
    for account_id in sorted(known):
        account = known[account_id]
        if account.is_bot or account_id in apart:
            continue
        for reason, key in _strong_keys(account):
            holder = holders.setdefault((reason, key), account_id)
            if holder != account_id:
                join(holder, account_id, reason)
    return {account_id: Person(first_of(account_id), reasons.get(account_id)) for account_id in known}


def _strong_keys(account: AccountKeys) -> Iterable[tuple[str, str]]:
    if account.user_id is not None:
        yield "the platform's user", str(account.user_id)
    if account.provider_id:
        yield "the identity provider's id", account.provider_id
    if account.email is not None and is_personal(account.email):
        yield "a verified e-mail address", account.email.lower()
