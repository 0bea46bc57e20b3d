"""A made-up company into the tables: ids set aside, rows copied in, and all of it removed again.

All functions take the session first and never commit. What the rows are is made elsewhere (admin/seed); here is how
they get in and out. A seeded tenant is marked in its `features`, so that nothing else is ever removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Row, Table, text
from sqlalchemy.orm import Session

from models.store import copy
from models.tables import METADATA

FEATURE = "seed"
"""The key in a tenant's `features` that marks it as made up."""


def tenant(session: Session, name: str, slug: str) -> Row[Any] | None:
    """The tenant of that name or slug: id, slug, is_seeded, is_complete; None where there is none."""
    return session.execute(
        text(
            """
            SELECT id, name, slug, features ? 'seed' AS is_seeded,
                COALESCE(CAST(features -> 'seed' ->> 'is_complete' AS boolean), false) AS is_complete
            FROM tenants WHERE name = :name OR slug = :slug ORDER BY id LIMIT 1
            """
        ),
        {"name": name, "slug": slug},
    ).one_or_none()


def reserve_ids(session: Session, counts: Mapping[str, int]) -> dict[str, int]:
    """Set ids aside, so that rows can name each other before they are written.

    Transaction: the caller's, and a short one: it keeps others from inserting into these tables.

    Args:
        session: inside a transaction.
        counts: how many, by table.

    Returns:
        The first id of each table.
    """
    first: dict[str, int] = {}
    for table in sorted(counts):
        session.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
        first[table] = int(
            session.execute(
                text(
                    """
                    SELECT setval(CAST(s AS regclass), nextval(CAST(s AS regclass)) + :count, false) - :count
                    FROM (SELECT pg_get_serial_sequence(:table, 'id') AS s) AS sequence
                    """
                ),
                {"table": table, "count": counts[table]},
            ).scalar_one()
        )
    return first


def write(session: Session, table: str, columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> int:
    """COPY rows into a table; returns how many.

    Transaction: the caller's. What captures changes for others leaves them out: nobody is to be told of them.
    """
    target: Table = METADATA.tables[table]
    session.execute(text("SET LOCAL plumbline.capture = 'off'"))
    return copy.insert(session, target, tuple(columns), rows)


def complete(session: Session, tenant_id: int, facts: Mapping[str, Any]) -> None:
    """Mark a seeded tenant as whole, with what it was made of."""
    session.execute(
        text("UPDATE tenants SET features = jsonb_set(features, '{seed}', CAST(:facts AS jsonb)) WHERE id = :id"),
        {"id": tenant_id, "facts": json.dumps({**facts, "is_complete": True})},
    )


def statements_to_remove() -> Iterator[tuple[str, str]]:
    """Table and DELETE of all that belongs to `:tenant`, in an order that foreign keys allow.

    Read models name projects without a foreign key; they go first, while the projects are there.
    """
    from_the_leaves = METADATA.sorted_tables[::-1]
    tables = sorted(from_the_leaves, key=lambda table: bool(table.foreign_keys))
    for table in tables:
        condition = _belongs(table)
        if condition and table.name not in {"tenants", "dirty_keys"}:
            yield table.name, f'DELETE FROM "{table.name}" WHERE {condition}'


def _belongs(table: Table, seen: frozenset[str] = frozenset()) -> str | None:
    """How a table's rows are known to be a tenant's: by their own column, or by the row that they name."""
    if "tenant_id" in table.c:
        return "tenant_id = :tenant"
    keys = sorted(table.foreign_keys, key=lambda key: (key.parent.nullable or False, key.parent.name))
    for key in keys:
        target = key.column.table
        if target.name not in seen | {table.name, "users"}:
            condition = _belongs(target, seen | {table.name})
            if condition:
                return f'"{key.parent.name}" IN (SELECT "{key.column.name}" FROM "{target.name}" WHERE {condition})'
    if "project_id" in table.c:
        return "project_id IN (SELECT id FROM projects WHERE tenant_id = :tenant)"
    return None


def remove_rows(session: Session, statement: str, tenant_id: int) -> int:
    """Delete what belongs to a tenant from one table; returns how many rows."""
    session.execute(text("SET LOCAL plumbline.capture = 'off'"))
    result = session.execute(text(statement), {"tenant": tenant_id})
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE has a row count


def end_removal(session: Session, tenant_id: int) -> None:
    """Delete the tenant itself with its people, once nothing names them.

    Its people are those whose addresses are in its domain of `.example`, where nobody real has one.
    """
    session.execute(text("SET LOCAL plumbline.capture = 'off'"))
    parameters = {"tenant": tenant_id}
    session.execute(text("DELETE FROM dirty_keys WHERE tenant_id = :tenant"), parameters)
    session.execute(
        text("DELETE FROM users u USING tenants t WHERE t.id = :tenant AND u.email LIKE '%@' || t.slug || '.example'"),
        parameters,
    )
    session.execute(text("DELETE FROM tenants WHERE id = :tenant AND features ? 'seed'"), parameters)
