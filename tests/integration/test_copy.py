"""COPY and merge: whatever text comes, in whatever number, arrives as it is."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy import text

from models.store.copy import copy_rows, upsert
from models.store.session import Database
from models.tables import METADATA

TENANTS = METADATA.tables["tenants"]

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    ["\\N", "\\", "\\.", "\t", "\n", "\r\n", "a\tb\\tc", "\x01", "NULL", "", '"', "\x00"]
)


NUL = "\x00"


def kept(value: str) -> str:
    """What PostgreSQL can hold of a text."""
    return value.replace("\x00", "").replace("\x01", "")


@effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, TEXTS | st.none(), st.booleans(), st.dictionaries(TEXTS, TEXTS, max_size=2)), max_size=5)
)
def test_any_text_arrives_as_it_is(database: Database, rows: list[tuple[Any, ...]]) -> None:
    columns = [TENANTS.c[name] for name in ("name", "slug", "domain", "subdomain", "max_users", "features")]
    written = [
        (f"{position} {name}", f"{position}", f"{position} {note or ''}", None, int(flag), extra)
        for position, (name, note, flag, extra) in enumerate(rows, start=1)
    ]
    with database.transaction() as session:
        session.execute(text("TRUNCATE tenants CASCADE"))
        assert copy_rows(session, sql.Identifier("tenants"), columns, written) == len(rows)
        stored = session.execute(
            text("SELECT name, domain, subdomain, max_users, features FROM tenants ORDER BY slug::int")
        ).all()
    assert [tuple(row) for row in stored] == [
        (
            kept(name),
            kept(domain),
            None,
            users,
            {key.replace(NUL, ""): value.replace(NUL, "") for key, value in extra.items()},
        )
        for name, _, domain, _, users, extra in written
    ]


def test_many_more_rows_than_a_chunk_are_streamed(database: Database) -> None:
    with database.transaction() as session:
        rows = ((f"name {number}", f"slug {number}", "x" * 1_000) for number in range(5_000))
        columns = [TENANTS.c[name] for name in ("name", "slug", "billing_email")]
        assert copy_rows(session, sql.Identifier("tenants"), columns, rows) == 5_000
        assert session.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 5_001


def test_two_merges_in_one_transaction_do_not_mix(database: Database) -> None:
    with database.transaction() as session:
        first = upsert(session, TENANTS, ("name", "slug"), [("A", "a"), ("B", "b")], ("slug",))
        second = upsert(session, TENANTS, ("name", "slug"), [("A2", "a")], ("slug",))
        third = upsert(session, TENANTS, ("name", "slug"), [("A2", "a")], ("slug",))
    assert (first.inserted, first.updated) == (2, 0)
    assert (second.inserted, second.updated) == (0, 1)
    assert third.total == 0


def test_a_landing_place_survives_a_rollback(database: Database) -> None:
    for number in range(3):
        with database.transaction() as session:
            upsert(session, TENANTS, ("name", "slug"), [(f"N{number}", f"n{number}")], ("slug",))
            if number == 1:
                session.rollback()
    with database.transaction() as session:
        slugs = session.execute(text("SELECT slug FROM tenants WHERE slug LIKE 'n%' ORDER BY slug")).scalars().all()
    assert slugs == ["n0", "n2"]
