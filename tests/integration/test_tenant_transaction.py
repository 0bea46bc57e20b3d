"""What a transaction of a tenant may do in truth: its rights, what it leaves behind, and what hangs on its writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import psycopg
import pytest
from factories.tenants import Row, make_tenant
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models.errors import UsageError
from models.store import connections
from models.store.session import Database, driver
from models.tables import METADATA
from models.tables.isolation import CLOSED, UNREADABLE, WRITABLE

WHO = "SELECT current_user, current_setting('plumbline.tenant_id', true), current_setting('plumbline.changed_by', true)"


class Tenants(NamedTuple):
    database: Database
    ours: Mapping[str, Row]
    theirs: Mapping[str, Row]

    def us(self) -> Any:
        return self.database.tenant_transaction(self.ours["tenants"]["id"], changed_by="user:7")

    def them(self) -> Any:
        return self.database.tenant_transaction(self.theirs["tenants"]["id"])


@pytest.fixture(scope="module")
def tenants(shared_database: Database) -> Iterator[Tenants]:
    with shared_database.transaction() as session:
        ours, theirs = make_tenant(session, "ours"), make_tenant(session, "theirs")
    database = Database(shared_database.url.render_as_string(hide_password=False), pool_size=1)
    yield Tenants(database, ours, theirs)
    database.close()


def refusal(session: Session, statement: str, **parameters: Any) -> str:
    """What PostgreSQL says where it refuses a statement."""
    with pytest.raises(DBAPIError) as caught, session.begin_nested():
        session.execute(text(statement), parameters)
    assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege)
    return str(caught.value.orig)


# --- what it leaves behind --------------------------------------------------------------------------------------------


def test_a_pooled_connection_keeps_neither_role_nor_tenant(tenants: Tenants) -> None:
    def who() -> tuple[Any, ...]:
        with tenants.database.transaction() as session:
            backend = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            user, tenant, changed_by = session.execute(text(WHO)).one()
            return backend, user, tenant or None, changed_by or None

    before = who()
    with tenants.us() as session:
        assert session.execute(text(WHO)).one() == ("plumbline_api", str(tenants.ours["tenants"]["id"]), "user:7")
    assert who() == before
    with pytest.raises(ZeroDivisionError), tenants.us():
        raise ZeroDivisionError
    assert who() == before
    with pytest.raises(DBAPIError), tenants.us() as session:
        session.execute(text("SELECT 1 / 0"))
    assert who() == before == (before[0], "plumbline", None, None)


def test_tenants_take_turns_on_one_connection(tenants: Tenants) -> None:
    for _ in range(2):
        for transaction, expected in ((tenants.us, tenants.ours), (tenants.them, tenants.theirs)):
            with transaction() as session:
                # Often enough for the driver to prepare it: a plan must not remember the tenant that it was made for.
                for _ in range(8):
                    seen = session.execute(text("SELECT id FROM projects")).scalars().all()
                    assert seen == [expected["projects"]["id"]]


def test_a_savepoint_that_is_taken_back_takes_no_tenant_with_it(tenants: Tenants) -> None:
    with tenants.us() as session:
        refusal(session, "TRUNCATE projects")
        assert session.execute(text("SELECT count(*) FROM projects")).scalar_one() == 1


# --- its rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [*sorted(CLOSED), "alembic_version"])
def test_what_is_closed_is_neither_read_nor_written(tenants: Tenants, table: str) -> None:
    with tenants.us() as session:
        assert "permission denied" in refusal(session, f"SELECT FROM {table}")
        assert "permission denied" in refusal(session, f"DELETE FROM {table}")


def test_partitions_are_read_through_their_table_only(tenants: Tenants) -> None:
    partitions = "SELECT inhparent::regclass, inhrelid::regclass FROM pg_inherits JOIN pg_class p ON p.oid = inhparent "
    with tenants.us() as session:
        found = session.execute(text(partitions + "WHERE p.relkind = 'p'")).all()
        assert {"audit_logs", "job_runs", "webhook_deliveries"} <= {table for table, _ in found}
        for table, partition in found:
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() > 0
            for verb in ("SELECT FROM", "DELETE FROM", "TRUNCATE"):
                assert "permission denied" in refusal(session, f"{verb} {partition}")


def test_secrets_are_not_read_and_what_stands_beside_them_is(tenants: Tenants) -> None:
    with tenants.us() as session:
        for table, columns in UNREADABLE.items():
            for column in columns:
                assert "permission denied" in refusal(session, f"SELECT {column} FROM {table}")
                assert "permission denied" in refusal(session, f"SELECT FROM {table} WHERE {column} IS NOT NULL")
            assert session.execute(text(f"SELECT id FROM {table}")).scalars().all() == [tenants.ours[table]["id"]]


def test_nothing_is_written_that_no_route_writes(tenants: Tenants) -> None:
    with tenants.us() as session:
        for table in METADATA.tables:
            for verb, statement in {
                "INSERT": f"INSERT INTO {table} DEFAULT VALUES",
                "UPDATE": f"UPDATE {table} SET {METADATA.tables[table].primary_key.columns[0].name} = NULL",
                "DELETE": f"DELETE FROM {table}",
                "TRUNCATE": f"TRUNCATE {table}",
            }.items():
                if verb not in WRITABLE.get(table, {}):
                    assert "permission denied" in refusal(session, statement), (table, verb)


def test_row_security_is_not_switched_off(tenants: Tenants) -> None:
    with tenants.us() as session:
        session.execute(text("SET LOCAL row_security = off"))
        assert "would be affected by row-level security" in refusal(session, "SELECT FROM projects")


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_the_stores_functions_work_for_a_tenant_and_for_no_other(tenants: Tenants) -> None:
    tenant_id = tenants.ours["tenants"]["id"]
    with tenants.us() as session:
        connection_id = connections.add_connection(
            session, tenant_id, kind="jira", name="work", base_url="https://j", auth="x", options={}
        )
        project_id = connections.ensure_project(session, tenant_id, "Shop", timezone="UTC")
        session.execute(
            text("INSERT INTO sync_scopes (connection_id, project_id, external_key) VALUES (:c, :p, 'SHOP')"),
            {"c": connection_id, "p": project_id},
        )
        connections.set_connection_status(session, connection_id, "paused")
        session.rollback()
    with tenants.them() as session, pytest.raises(DBAPIError, match="violates row-level security"):
        connections.ensure_project(session, tenant_id, "Shop", timezone="UTC")
    with tenants.them() as session:  # a name is another tenant's to use again, but not twice its own
        theirs = {"kind": "jira", "base_url": "https://j", "auth": "x", "options": {}}
        their_id = tenants.theirs["tenants"]["id"]
        connections.add_connection(session, their_id, name="work", **theirs)
        with pytest.raises(UsageError):
            connections.add_connection(session, their_id, name="work", **theirs)
        session.rollback()


def test_a_write_of_a_tenant_marks_what_is_to_be_computed_again(tenants: Tenants) -> None:
    connection_id = tenants.ours["connections"]["id"]
    with tenants.us() as session:
        session.execute(text("UPDATE connections SET kind = 'jira', base_url = 'https://new'"))
        session.execute(text("RESET ROLE"))
        marks = session.execute(
            text("SELECT summary, tenant_id, key FROM dirty_keys WHERE key = :key AND marked_at >= now()"),
            {"key": f"connection:{connection_id}"},
        ).all()
        assert ("bug_analytics_daily", tenants.ours["tenants"]["id"], f"connection:{connection_id}") in marks
        session.rollback()


def test_returning_shows_and_conflicts_touch_no_row_of_another_tenant(tenants: Tenants) -> None:
    # Names of schedules are unique over all tenants, so a tenant may meet another's.
    taken = tenants.theirs["job_schedules"]["name"]
    upsert = (
        "INSERT INTO job_schedules (tenant_id, name, task, cron) VALUES (:tenant, :name, 't', '* * * * *') ON CONFLICT"
    )
    given = {"tenant": tenants.ours["tenants"]["id"], "name": taken}
    with tenants.us() as session:
        assert session.execute(text(f"{upsert} DO NOTHING RETURNING id"), given).all() == []
        refused = refusal(session, f"{upsert} (name) DO UPDATE SET task = 'stolen' RETURNING id", **given)
        assert "violates row-level security policy" in refused
        own = given | {"name": tenants.ours["job_schedules"]["name"]}
        (row,) = session.execute(text(f"{upsert} (name) DO UPDATE SET task = 'new' RETURNING id, task"), own)
        assert tuple(row) == (tenants.ours["job_schedules"]["id"], "new")
        moved = session.execute(text("UPDATE job_schedules SET task = 'all' RETURNING tenant_id")).scalars().all()
        assert moved == [tenants.ours["tenants"]["id"]]
        session.rollback()


def test_copy_writes_nothing_and_reads_the_tenant_s_rows(tenants: Tenants) -> None:
    with tenants.us() as session:
        with driver(session).cursor() as cursor, cursor.copy("COPY projects (id) TO STDOUT") as copy:
            assert [row[0] for row in copy.rows()] == [str(tenants.ours["projects"]["id"])]
        with (
            pytest.raises(psycopg.errors.FeatureNotSupported, match="row-level security"),
            driver(session).cursor() as cursor,
            cursor.copy(sql.SQL("COPY connections (id) FROM STDIN")) as copy,
        ):
            copy.write_row((1,))
        session.rollback()


# --- how it is planned ------------------------------------------------------------------------------------------------


def plan(session: Session, query: str) -> str:
    # A few rows are read at once, whatever indexes there are.
    session.execute(text("SET LOCAL enable_seqscan = off"))
    session.execute(text("SET LOCAL enable_bitmapscan = off"))
    return "\n".join(session.execute(text(f"EXPLAIN {query}")).scalars())


def test_the_tenant_is_read_once_and_leads_into_the_index(tenants: Tenants) -> None:
    with tenants.us() as session:
        shown = plan(session, "SELECT * FROM gitlab_mr_lead_times")
    assert re.search(r"Index Cond: \(tenant_id = (\(InitPlan 1\)\.col1|\$0)\)", shown)  # the latter before version 17
    assert "current_setting" not in shown


def test_rows_of_a_parent_are_found_by_their_own_index(tenants: Tenants) -> None:
    with tenants.us() as session:
        shown = plan(session, "SELECT * FROM test_run_results WHERE test_run_id = 7")
    assert "Index Scan using uq_test_run_results_test_run_id_test_case_id on test_run_results" in shown
    assert "Index Cond: (test_run_id = 7)" in shown
    # The parent is asked by its key for each row, or once for all rows.
    assert "Filter: (EXISTS(SubPlan" in shown or "hashed SubPlan" in shown


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_that_holds_says_whose_it_is_and_any_other_says_nothing(tenants: Tenants) -> None:
    tenant_id = tenants.ours["tenants"]["id"]
    known = {
        "good": {},
        "later": {"expires_at": "now() + interval '1 hour'"},
        "expired": {"created_at": "now() - interval '2 hours'", "expires_at": "now() - interval '1 hour'"},
        "revoked": {"revoked_at": "now()"},
    }
    hashes = {name: sha256(name.encode()).hexdigest() for name in (*known, "unknown")}

    def tokens(session: Session) -> dict[str, list[Any]]:
        session.execute(text("SET LOCAL ROLE plumbline_api"))
        answer = text("SELECT tenant_id, tokenable_type, tokenable_id, abilities FROM authenticate_token(:hash)")
        found = {name: [tuple(row) for row in session.execute(answer, {"hash": each})] for name, each in hashes.items()}
        session.execute(text("RESET ROLE"))
        return found

    with tenants.database.transaction() as session:
        for name, values in known.items():
            columns, expressions = ("".join(f", {each}" for each in part) for part in (values, values.values()))
            session.execute(
                text(
                    "INSERT INTO personal_access_tokens (tenant_id, tokenable_type, tokenable_id, name, token_hash, "
                    f"abilities{columns}) VALUES (:tenant, 'user', 7, :name, :hash, '[\"jobs:read\"]'{expressions})"
                ),
                {"tenant": tenant_id, "name": name, "hash": hashes[name]},
            )
        holds = [(tenant_id, "user", 7, ["jobs:read"])]
        assert tokens(session) == {"good": holds, "later": holds, "expired": [], "revoked": [], "unknown": []}
        session.execute(text("UPDATE tenants SET status = 'suspended' WHERE id = :id"), {"id": tenant_id})
        assert tokens(session) == {name: [] for name in hashes}
        session.rollback()
