"""Row-level security: no table shows or takes a row across tenants, whatever is tried.

The API's role is given every right on every table here, so that what holds holds by the policies alone; what it may do
in truth is in tests/integration/test_tenant_transaction.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from factories.tenants import Row, make_platform_rows, make_tenant
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, Table, and_, delete, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError

from models.store.session import Database
from models.tables import METADATA, isolation
from models.tables.isolation import API_ROLE, CHECKED_AT_INSERT, WORKERS_ROLE, Child, NoTenants, Own

BYSTANDER = "row_security_bystander"
MEMBER_OF_BOTH = "row_security_member_of_both"
TABLES = [
    table
    for table in sorted(METADATA.tables.values(), key=lambda table: table.name)
    if not isinstance(isolation.whose(table), NoTenants)
]
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


class World(NamedTuple):
    """Two tenants and what is nobody's."""

    database: Database
    ours: Mapping[str, Row]
    theirs: Mapping[str, Row]
    platforms: Mapping[str, Row]

    @contextmanager
    def acting(self, role: str, tenant: object = None) -> Iterator[Connection]:
        """A transaction of a role, taken back at the end; by default for no tenant."""
        with self.database.engine.connect() as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            if tenant is not None:
                connection.execute(text("SELECT set_config('plumbline.tenant_id', :id, true)"), {"id": str(tenant)})
            yield connection
            connection.rollback()

    def as_us(self) -> Any:
        return self.acting(API_ROLE, self.ours["tenants"]["id"])


@pytest.fixture(scope="module")
def world(shared_database: Database) -> Iterator[World]:
    with shared_database.transaction() as session:
        ours, theirs = make_tenant(session, "ours"), make_tenant(session, "theirs")
        platforms = make_platform_rows(session, ours)
        session.execute(text(f"CREATE ROLE {BYSTANDER}"))
        session.execute(text(f"CREATE ROLE {MEMBER_OF_BOTH} IN ROLE {API_ROLE}, {WORKERS_ROLE}"))
        session.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {API_ROLE}, {BYSTANDER}"))
    yield World(shared_database, ours, theirs, platforms)
    with shared_database.transaction() as session:
        session.execute(text(f"DROP OWNED BY {BYSTANDER}"))
        session.execute(text(f"DROP ROLE {BYSTANDER}, {MEMBER_OF_BOTH}"))


def is_row(table: Table, row: Row) -> Any:
    return and_(*(column == row[column.name] for column in table.primary_key.columns))


def count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def changed(connection: Connection, table: Table, row: Row, **values: Any) -> int:
    """How many rows an update reaches; by default one that changes nothing."""
    first = table.primary_key.columns[0]
    statement = update(table).where(is_row(table, row)).values(values or {first: first})
    return connection.execute(statement).rowcount


def given(table: Table, row: Row, **values: Any) -> dict[str, Any]:
    """What an INSERT of a row says."""
    return {name: value for name, value in row.items() if table.c[name].computed is None} | values


@contextmanager
def refused(connection: Connection) -> Iterator[None]:
    """What is done here breaks a policy, and not only a grant."""
    with pytest.raises(ProgrammingError) as caught, connection.begin_nested():
        yield
    assert isinstance(caught.value.orig, InsufficientPrivilege)
    assert "violates row-level security policy" in str(caught.value.orig)


@every_table
def test_a_tenant_reads_its_own_rows_and_those_for_all(world: World, table: Table) -> None:
    rule = isolation.whose(table)
    expected = 1
    if isinstance(rule, Own):
        owner = table.c[rule.column]
        is_shown = owner == world.ours["tenants"]["id"]
        with world.database.engine.connect() as connection:
            shown = is_shown | owner.is_(None) if rule.defaults_are_shown else is_shown
            expected = connection.execute(select(func.count()).select_from(table).where(shown)).scalar_one()
    with world.as_us() as connection:
        assert count(connection, table) == expected
        keys = connection.execute(select(*table.primary_key.columns)).all()
    assert tuple(world.ours[table.name][column.name] for column in table.primary_key.columns) in keys
    assert tuple(world.theirs[table.name][column.name] for column in table.primary_key.columns) not in keys


@every_table
def test_a_tenant_reaches_its_own_row_and_no_other_tenant_s(world: World, table: Table) -> None:
    theirs = world.theirs[table.name]
    with world.as_us() as connection:
        assert changed(connection, table, world.ours[table.name]) == 1
        assert changed(connection, table, theirs) == 0
        assert connection.execute(delete(table).where(is_row(table, theirs))).rowcount == 0
        assert connection.execute(select(table).where(is_row(table, theirs)).with_for_update()).all() == []


@pytest.mark.parametrize("name", [table.name for table in TABLES if isinstance(isolation.WHOSE.get(table.name), Own)])
def test_a_tenant_changes_nothing_that_is_nobody_s(world: World, name: str) -> None:
    if name == "tenants":
        return
    table, row = METADATA.tables[name], world.platforms[name]
    with world.as_us() as connection:
        assert changed(connection, table, row, tenant_id=world.ours["tenants"]["id"]) == 0
        assert connection.execute(delete(table).where(is_row(table, row))).rowcount == 0
        with refused(connection):
            connection.execute(insert(table).values(given(table, row)))
        with refused(connection):
            changed(connection, table, world.ours[name], tenant_id=None)


@every_table
def test_a_tenant_writes_no_row_for_another(world: World, table: Table) -> None:
    with world.as_us() as connection, refused(connection):
        connection.execute(insert(table).values(given(table, world.theirs[table.name])))


@every_table
def test_a_tenant_gives_none_of_its_rows_away(world: World, table: Table) -> None:
    rule = isolation.whose(table)
    assert isinstance(rule, Own | Child)
    with world.as_us() as connection, refused(connection):
        changed(connection, table, world.ours[table.name], **{rule.column: world.theirs[table.name][rule.column]})


@pytest.mark.parametrize(
    ("table", "column", "target"),
    [
        pytest.param(table, column, target, id=f"{table.name}.{column}")
        for table in TABLES
        for column, target in isolation.references(table).items()
    ],
)
def test_a_tenant_hangs_no_row_on_another_tenant_s(world: World, table: Table, column: str, target: str) -> None:
    ours, other = world.ours[table.name], {column: world.theirs[target]["id"]}
    with world.as_us() as connection:
        with refused(connection):
            connection.execute(insert(table).values(given(table, ours, **other)))
        if table.name not in CHECKED_AT_INSERT:
            with refused(connection):
                changed(connection, table, ours, **other)


@every_table
def test_without_a_tenant_nothing_is_seen_and_nothing_taken(world: World, table: Table) -> None:
    rule = isolation.whose(table)
    seen = select(func.count()).select_from(table)
    if isinstance(rule, Own) and rule.defaults_are_shown:
        seen = seen.where(table.c.tenant_id.is_not(None))
    for tenant in (None, "", "0", "-1"):
        with world.acting(API_ROLE, tenant) as connection:
            assert connection.execute(seen).scalar_one() == 0
            with refused(connection):
                connection.execute(insert(table).values(given(table, world.ours[table.name])))


@every_table
@pytest.mark.parametrize("role", [WORKERS_ROLE, MEMBER_OF_BOTH])
def test_the_workers_see_and_write_the_rows_of_all(world: World, table: Table, role: str) -> None:
    with world.database.engine.connect() as connection:
        everything = count(connection, table)
    with world.acting(role, world.ours["tenants"]["id"]) as connection:
        assert count(connection, table) == everything
        for row in (world.ours[table.name], world.theirs[table.name]):
            assert changed(connection, table, row) == 1


@pytest.mark.parametrize("role", [WORKERS_ROLE, MEMBER_OF_BOTH])
def test_the_workers_are_held_back_by_no_rule_for_tenants(world: World, role: str) -> None:
    ours = world.ours["job_runs"]
    ids = {"id": 10**9, "parent_id": ours["id"], "schedule_id": world.platforms["job_schedules"]["id"]}
    with world.acting(role) as connection:
        job_runs = METADATA.tables["job_runs"]
        connection.execute(insert(job_runs).values(given(job_runs, ours, **ids)))
        project_id = world.theirs["projects"]["id"]
        assert changed(connection, METADATA.tables["test_runs"], world.ours["test_runs"], project_id=project_id) == 1


@every_table
def test_another_role_sees_and_writes_nothing_though_it_has_every_right(world: World, table: Table) -> None:
    with world.acting(BYSTANDER, world.ours["tenants"]["id"]) as connection:
        assert count(connection, table) == 0
        assert changed(connection, table, world.ours[table.name]) == 0
        with refused(connection):
            connection.execute(insert(table).values(given(table, world.ours[table.name])))
