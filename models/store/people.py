"""People: which accounts are one person's, which are nobody's, and what was decided by hand about that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError, UsageError
from models.rules.people import AccountKeys, Decision, Person, people
from models.store.copy import Landing
from models.tables import METADATA

IDENTITIES = METADATA.tables["user_identities"]


def tell_apart(session: Session, tenant_id: int) -> int:
    """Give each account of a tenant its person anew, by the keys and decisions of now.

    Transaction: the caller's; writes only what changes.

    Returns:
        How many accounts changed hands.
    """
    found = people(_keys(session, tenant_id), _decisions(session, tenant_id))
    return _write(session, found.items())


def tenants(session: Session) -> list[int]:
    """The tenants that have accounts."""
    return list(session.execute(text("SELECT id FROM tenants t WHERE EXISTS (SELECT FROM user_identities i "
                                     "WHERE i.tenant_id = t.id) ORDER BY id")).scalars())  # fmt: skip


def _keys(session: Session, tenant_id: int) -> Iterator[AccountKeys]:
    rows = session.execute(
        text(
            """
            SELECT id, CASE WHEN email_is_verified THEN email END AS email, provider_id, user_id, is_bot
            FROM user_identities WHERE tenant_id = :tenant
            """
        ).execution_options(yield_per=5_000),
        {"tenant": tenant_id},
    )
    for row in rows:
        yield AccountKeys(
            id=row.id, email=row.email, provider_id=row.provider_id, user_id=row.user_id, is_bot=row.is_bot
        )


def _decisions(session: Session, tenant_id: int) -> list[Decision]:
    rows = session.execute(
        text("SELECT identity_id, other_identity_id FROM identity_decisions WHERE tenant_id = :tenant"),
        {"tenant": tenant_id},
    )
    return [Decision(account_id=row.identity_id, other_id=row.other_identity_id) for row in rows]


def _write(session: Session, found: Iterable[tuple[int, Person]]) -> int:
    landing = Landing(session, IDENTITIES, ("id", "person_id", "person_reason"))
    landing.fill((account_id, person.id, person.reason) for account_id, person in found)
    changed = session.execute(
        text(
            f"""
            UPDATE user_identities i SET person_id = l.person_id, person_reason = l.person_reason, updated_at = now()
            FROM {landing.name_text} l
            WHERE i.id = l.id AND (i.person_id, i.person_reason) IS DISTINCT FROM (l.person_id, l.person_reason)
            """
        )
    )
    return int(changed.rowcount)  # type: ignore[attr-defined]  # an UPDATE has a row count


def account(session: Session, name: str) -> Row[Any]:
    """An account by `source:username`, `source:e-mail` or its number.

    Raises:
        NotFoundError: there is none.
        UsageError: several answer to the name.
    """
    source, _, who = name.rpartition(":")
    rows = session.execute(
        text(
            """
            SELECT * FROM user_identities
            WHERE id::text = :name
               OR ((:source = '' OR source = :source) AND (username = :who OR lower(email) = lower(:who)))
            ORDER BY id LIMIT 2
            """
        ),
        {"name": name, "source": source, "who": who},
    ).all()
    if not rows:
        raise NotFoundError(f"There is no account {name!r}; `plumbline people list` shows them.")
    if len(rows) > 1:
        raise UsageError(f"Several accounts are called {name!r}; give the number that `plumbline people list` shows.")
    return rows[0]


def decide(session: Session, *, identity_id: int, other_identity_id: int | None, decided_by: str | None) -> None:
    """Remember that two accounts are one person's, or, without another, that an account stands apart.

    Transaction: the caller's; `tell_apart` then acts on it.

    Raises:
        UsageError: the accounts are one, or belong to two tenants.
    """
    if identity_id == other_identity_id:
        raise UsageError("An account is its own person already; name two different ones.")
    written = session.execute(
        text(
            """
            INSERT INTO identity_decisions (tenant_id, identity_id, other_identity_id, decided_by)
            SELECT a.tenant_id, a.id, b.id, :decided_by FROM user_identities a
            LEFT JOIN user_identities b ON b.id = :other
            WHERE a.id = :identity AND (CAST(:other AS bigint) IS NULL OR b.tenant_id = a.tenant_id)
            ON CONFLICT (identity_id, other_identity_id) DO UPDATE SET decided_by = excluded.decided_by
            RETURNING id
            """
        ),
        {"identity": identity_id, "other": other_identity_id, "decided_by": decided_by},
    ).scalar_one_or_none()
    if written is None:
        raise UsageError("The two accounts belong to different tenants; people are told apart within a tenant.")


def forget(session: Session, identity_id: int) -> int:
    """Take back what was decided about an account; returns how many decisions."""
    deleted = session.execute(
        text("DELETE FROM identity_decisions WHERE :identity IN (identity_id, other_identity_id)"),
        {"identity": identity_id},
    )
    return int(deleted.rowcount)  # type: ignore[attr-defined]  # a DELETE has a row count


def listing(session: Session, *, only_joined: bool, limit: int) -> list[Row[Any]]:
    """Accounts in the order of their people.

    Args:
        session: inside a transaction.
        only_joined: leave people with one account out.
        limit: at most so many accounts.
    """
    return list(
        session.execute(
            text(
                """
                SELECT id, COALESCE(person_id, id) AS person_id, person_reason, source, username, display_name, email,
                       email_is_verified, is_bot, bot_reason
                FROM user_identities i
                WHERE NOT :only_joined OR EXISTS (
                    SELECT FROM user_identities o WHERE o.person_id = i.person_id AND o.id <> i.id)
                ORDER BY COALESCE(person_id, id), id LIMIT :limit
                """
            ),
            {"only_joined": only_joined, "limit": limit},
        )
    )


# --- robots -------------------------------------------------------------------------------------------------------

RULE_FIELDS = ("username", "email", "display_name", "external_id")

# The newest version of each rule that holds now; one that was taken back is a version without effect.
RULES = """
    SELECT DISTINCT ON (tenant_id, source, field, pattern) id, source, field, pattern, is_bot, position, reason, version
    FROM bot_rules
    WHERE (CAST(:tenant AS bigint) IS NULL OR tenant_id = :tenant) AND valid_from <= now()
    ORDER BY tenant_id, source, field, pattern, version DESC
"""


def bot_rules(session: Session, tenant_id: int, source: str) -> list[dict[str, Any]]:
    """The rules that say which accounts of a source are robots, in the order in which they are asked.

    A pattern that cannot be read is left out: one mistyped row must not stop every sync.
    """
    rows = session.execute(
        text(
            f"SELECT field, pattern, is_bot, reason FROM ({RULES}) AS rule "
            "WHERE source IS NULL OR source = :source ORDER BY position, id"
        ),
        {"tenant": tenant_id, "source": source},
    )
    return [row._asdict() for row in rows if is_pattern(row.pattern)]


def is_pattern(pattern: str) -> bool:
    """Whether a rule's regular expression can be read."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def listed_rules(session: Session) -> list[Row[Any]]:
    """Every rule that holds, of every tenant."""
    return list(session.execute(text(f"SELECT * FROM ({RULES}) AS rule ORDER BY position, id"), {"tenant": None}))


def add_rule(
    session: Session,
    *,
    tenant_id: int,
    source: str | None,
    field: str,
    pattern: str,
    is_bot: bool,
    reason: str | None,
    position: int,
) -> None:
    """Write a rule, or the next version of it.

    Transaction: the caller's. It holds for what is promoted from now on; a replay lets it hold for what is stored.

    Raises:
        UsageError: the field is unknown, or the pattern cannot be read.
    """
    if field not in RULE_FIELDS:
        raise UsageError(f"A rule cannot ask for {field!r}; choose one of {', '.join(RULE_FIELDS)}.")
    if not is_pattern(pattern):
        raise UsageError(f"The pattern {pattern!r} is no regular expression; write it as Python does.")
    session.execute(
        text(
            """
            INSERT INTO bot_rules (tenant_id, source, field, pattern, is_bot, reason, position, valid_from, version)
            SELECT :tenant, :source, :field, :pattern, :is_bot, :reason, :position, now(), 1 + COALESCE(max(version), 0)
            FROM bot_rules
            WHERE tenant_id = :tenant AND source IS NOT DISTINCT FROM :source AND field = :field AND pattern = :pattern
            """
        ),
        {
            "tenant": tenant_id,
            "source": source,
            "field": field,
            "pattern": pattern,
            "is_bot": is_bot,
            "reason": reason,
            "position": position,
        },
    )


def default_tenant(session: Session) -> int:
    """The tenant that commands mean where there is one only."""
    return int(session.execute(text("SELECT min(id) FROM tenants")).scalar_one())
