"""The roles of row-level security: made once for a server, by whoever may, and what an owner is without them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
from factories.databases import database_url
from factories.tenants import make_tenant
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.engine import make_url

from admin.checks import check_tenants
from models.errors import UsageError
from models.store.session import Database, migrate, newest_revision
from models.tables import METADATA, isolation
from models.tables.isolation import NoTenants

pytestmark = pytest.mark.also_on_postgresql_15  # what a role may grant to whom changed in 16

ROLES = (isolation.API_ROLE, isolation.WORKERS_ROLE)
TABLES = sorted(table.name for table in METADATA.tables.values() if not isinstance(isolation.whose(table), NoTenants))

_numbers = itertools.count(1)

MakeDatabase = Callable[[str], Database]


@pytest.fixture
def administrator(server_url: str) -> Iterator[psycopg.Connection]:
    """A superuser at the server."""
    with psycopg.connect(database_url(server_url, "postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def make_database(server_url: str, administrator: psycopg.Connection) -> Iterator[MakeDatabase]:
    """Makes an empty database of a new role that is no superuser and has the attributes that are asked for."""
    with ExitStack() as at_the_end:

        def make(attributes: str) -> Database:
            name = f"owner_{next(_numbers)}"
            administrator.execute(sql.SQL("CREATE ROLE {} LOGIN " + attributes).format(sql.Identifier(name)))
            at_the_end.callback(administrator.execute, sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
            administrator.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            at_the_end.callback(administrator.execute, drop)
            url = make_url(database_url(server_url, name)).set(username=name)
            database = Database(url.render_as_string(hide_password=False))
            at_the_end.callback(database.close)
            return database

        yield make


@pytest.fixture
def without_roles(administrator: psycopg.Connection) -> Iterator[None]:
    """A server that has never seen the roles. Those of other tests' databases are given other names meanwhile."""
    for role in ROLES:
        administrator.execute(f"ALTER ROLE {role} RENAME TO {role}_of_others")
    yield
    for role in ROLES:
        administrator.execute(f"DROP ROLE IF EXISTS {role}")
        administrator.execute(f"ALTER ROLE {role}_of_others RENAME TO {role}")


new_server = pytest.mark.usefixtures("without_roles")


@new_server
def test_an_owner_who_may_make_roles_makes_them_and_is_a_member(
    administrator: psycopg.Connection, make_database: MakeDatabase
) -> None:
    database = make_database("CREATEROLE")
    migrate(database)
    with database.transaction() as session:
        make_tenant(session, "a")
        assert session.execute(text("SELECT count(*) FROM test_run_results")).scalar_one() == 1
        tenant_id = session.execute(text("SELECT id FROM tenants WHERE slug = 'a'")).scalar_one()
    with database.tenant_transaction(tenant_id) as session:
        assert session.execute(text("SELECT count(*) FROM projects")).scalar_one() == 1
    migrate(database, "base")
    rights = "SELECT count(*) FROM pg_shdepend WHERE refobjid IN (SELECT oid FROM pg_roles WHERE rolname = ANY(%s))"
    assert administrator.execute(rights, [list(ROLES)]).fetchone() == (0,), "going back leaves nothing of the roles"
    migrate(database)


@new_server
def test_an_owner_who_may_not_make_roles_says_what_an_administrator_has_to_run(
    administrator: psycopg.Connection, make_database: MakeDatabase
) -> None:
    database = make_database("")
    owner = database.url.username
    with pytest.raises(UsageError) as caught:
        migrate(database)
    said, statements = caught.value.message.split(" has to run first: ")
    assert said == f"Row-level security needs what {owner} may not do. An administrator"
    assert statements == " ".join(f"CREATE ROLE {role} NOLOGIN ROLE {owner};" for role in ROLES)
    administrator.execute(statements)
    migrate(database)
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM job_schedules")).scalar_one() > 0


def test_an_owner_of_another_database_is_told_to_be_made_a_member(
    administrator: psycopg.Connection, make_database: MakeDatabase
) -> None:
    database = make_database("")  # the roles are there, and somebody else's
    owner = database.url.username
    with pytest.raises(UsageError) as caught:
        migrate(database)
    statements = caught.value.message.split(" has to run first: ")[1]
    assert statements == " ".join(f"GRANT {role} TO {owner};" for role in ROLES)
    administrator.execute(statements)
    migrate(database)


@new_server
def test_another_database_of_the_server_may_make_the_roles_at_the_same_time(
    administrator: psycopg.Connection, make_database: MakeDatabase
) -> None:
    database = make_database("SUPERUSER")
    waits = "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool:
        with administrator.transaction():
            for role in ROLES:
                administrator.execute(f"CREATE ROLE {role}")
            migration = pool.submit(migrate, database)
            deadline = time.monotonic() + 60
            while administrator.execute(waits, [database.url.database]).fetchone() is None:
                assert time.monotonic() < deadline
                assert not migration.done()
                time.sleep(0.02)
                administrator.execute("SELECT pg_stat_clear_snapshot()")
        assert migration.result(60) == (None, newest_revision())


def test_an_owner_who_is_no_member_sees_and_writes_nothing(
    administrator: psycopg.Connection, make_database: MakeDatabase
) -> None:
    database = make_database("")
    owner = str(database.url.username)
    administrator.execute(f"GRANT {', '.join(ROLES)} TO {owner}")
    migrate(database)
    with database.transaction() as session:
        make_tenant(session, "a")
    assert check_tenants(database).is_ok
    administrator.execute(f"REVOKE {', '.join(ROLES)} FROM {owner}")
    finding = check_tenants(database)
    assert (finding.is_ok, finding.detail) == (False, f"the login {owner} sees no tenant's rows")
    assert finding.mend is not None
    assert finding.mend.endswith(f"GRANT plumbline_workers TO {owner}")
    with database.transaction() as session:
        seen = {name: session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in TABLES}
        assert seen == dict.fromkeys(TABLES, 0)
        session.execute(text("SELECT set_config('plumbline.tenant_id', '1', true)"))
        assert session.execute(text("SELECT count(*) FROM projects")).scalar_one() == 0
    with pytest.raises(Exception, match="violates row-level security"), database.transaction() as session:
        make_tenant(session, "b")


def test_a_login_that_is_a_member_of_the_workers_needs_nothing_else(
    administrator: psycopg.Connection, server_url: str, database: Database
) -> None:
    administrator.execute(f"CREATE ROLE some_worker LOGIN IN ROLE {isolation.WORKERS_ROLE}")
    url = make_url(database_url(server_url, str(database.url.database))).set(username="some_worker")
    worker = Database(url.render_as_string(hide_password=False))
    try:
        with worker.transaction() as session:
            make_tenant(session, "a")
            make_tenant(session, "b")
            assert session.execute(text("SELECT count(*) FROM test_run_results")).scalar_one() == 2
            assert session.execute(text("SELECT count(*) FROM dirty_keys")).scalar_one() > 0
        assert check_tenants(worker).is_ok
    finally:
        worker.close()
        administrator.execute("DROP ROLE some_worker")
