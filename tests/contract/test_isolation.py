"""The database keeps tenants apart as models/tables/isolation.py says, and every table is decided there."""

from __future__ import annotations

import pytest
from factories.isolation import statements
from sqlalchemy import text

from models.store.session import Database
from models.tables import METADATA, isolation
from models.tables.isolation import CLOSED, REFERENCES_WITHOUT_KEY, UNREADABLE, WHOSE, WRITABLE, Child, NoTenants

ROW_SECURITY = """
    SELECT relname, 'row security', concat_ws(' ', relrowsecurity, relforcerowsecurity)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    UNION ALL
    SELECT tablename, 'policy ' || policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
    FROM pg_policies WHERE schemaname = 'public'
    UNION ALL
    SELECT relname, 'right of the API', privilege_type
    FROM pg_class, aclexplode(relacl) WHERE grantee = 'plumbline_api'::regrole
    UNION ALL
    SELECT attrelid::regclass::text, 'right of the API on columns',
           privilege_type || ' ' || string_agg(attname, ' ' ORDER BY attname)
    FROM pg_attribute, aclexplode(attacl) WHERE grantee = 'plumbline_api'::regrole
    GROUP BY attrelid, privilege_type
"""


def row_security(database: Database) -> dict[str, set[tuple[str, str]]]:
    """Table to what the database says of it."""
    found: dict[str, set[tuple[str, str]]] = {}
    with database.transaction() as session:
        for table, what, how in session.execute(text(ROW_SECURITY)):
            found.setdefault(table, set()).add((what, how))
    found.pop("alembic_version", None)
    return found


@pytest.mark.also_on_postgresql_15
def test_policies_and_grants_are_those_of_the_models(database: Database, empty_database_url: str) -> None:
    of_models = Database(empty_database_url)
    METADATA.create_all(of_models.engine)
    with database.transaction() as session, of_models.transaction() as other:
        function = "SELECT pg_get_functiondef('row_is_visible'::regproc)"
        other.execute(text(session.execute(text(function)).scalar_one()))
        for table in METADATA.tables.values():
            for statement in statements(table):
                other.execute(text(statement))
    expected, found = row_security(of_models), row_security(database)
    of_models.close()
    assert len(found) >= len(METADATA.tables)
    for name in expected:
        needed = ";\n".join(statements(METADATA.tables[name.removesuffix("_id_seq")]))
        assert found[name] == expected[name], f"{name} differs from what these would make:\n{needed}"
    assert found == expected


def test_a_new_table_without_a_decision_is_noticed() -> None:
    tenants = METADATA.tables["tenants"]
    stranger = tenants.to_metadata(type(METADATA)(), name="strangers")
    with pytest.raises(LookupError, match="strangers"):
        isolation.whose(stranger)


def test_what_is_decided_names_tables_and_columns_that_exist() -> None:
    tables = METADATA.tables
    assert {*WHOSE, *CLOSED, *UNREADABLE, *WRITABLE, *REFERENCES_WITHOUT_KEY, *isolation.CHECKED_AT_INSERT} <= {*tables}
    for name, columns in UNREADABLE.items():
        assert {*columns} <= {*tables[name].c.keys()}
    for name, rights in WRITABLE.items():
        assert {*rights} <= {"INSERT", "UPDATE", "DELETE"}
        assert all({*columns} <= {*tables[name].c.keys()} for columns in rights.values())
    for name, rule in WHOSE.items():
        if isinstance(rule, Child):
            assert rule.column in tables[name].c
            assert rule.key in tables[rule.parent].c


def test_what_may_be_written_may_be_seen_and_a_membership_is_never_written() -> None:
    assert not {*WRITABLE} & {*CLOSED}
    assert not {*UNREADABLE} & {*CLOSED}
    assert not {*WRITABLE} & {"tenants", "tenant_users", "users"}
    assert not [name for name in WRITABLE if isinstance(isolation.whose(METADATA.tables[name]), NoTenants)]


def test_what_holds_for_all_has_no_secret_and_what_is_of_no_tenant_says_why() -> None:
    for table in METADATA.tables.values():
        rule = isolation.whose(table)
        if isinstance(rule, NoTenants):
            assert rule.reason
            assert "tenant_id" not in table.c


def test_functions_with_rights_of_their_owner_are_not_for_everybody(database: Database) -> None:
    with database.transaction() as session:
        found = session.execute(
            text(
                "SELECT proname FROM pg_proc WHERE prosecdef AND prorettype <> 'trigger'::regtype "
                "AND pronamespace = 'public'::regnamespace AND (proacl IS NULL OR EXISTS ("
                "SELECT FROM aclexplode(proacl) WHERE grantee = 0))"
            )
        ).scalars()
        assert list(found) == []


def test_the_api_has_no_right_on_what_is_made_later(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("CREATE TABLE made_later (id bigint)"))
        rights = "SELECT has_table_privilege(:role, 'made_later', 'SELECT')"
        assert not session.execute(text(rights), {"role": isolation.API_ROLE}).scalar_one()
        assert session.execute(text(rights), {"role": isolation.WORKERS_ROLE}).scalar_one()
        session.rollback()
