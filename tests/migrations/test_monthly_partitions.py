"""The migration to monthly partitions, on a database that holds rows: it keeps each of them, there and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from models.store import partitions
from models.store.session import Database, check_drift, migrate

pytestmark = pytest.mark.also_on_postgresql_15

BEFORE, AFTER = "0011", "0012"
GIVEN = """
    INSERT INTO users (id, name, email) VALUES (1, 'Ann', 'ann@corp');
    INSERT INTO connections (id, tenant_id, kind, name, base_url, auth)
    SELECT 1, id, 'jira', 'j', 'http://j', '' FROM tenants;
    INSERT INTO audit_logs (user_id, action, ip_address, created_at)
    SELECT 1, 'signed in: "50 %"', '10.0.0.1', t FROM generate_series(now() - interval '1 year', now(), '10 days') AS t;
    INSERT INTO audit_logs (action, created_at)
    VALUES ('before', '2026-02-28 23:59:59.999999+00'), ('after', '2026-03-01 00:00:00+00'), ('never', 'infinity');
    INSERT INTO audit_logs_archive (id, action, created_at) VALUES (7, 'old', '2019-05-05 05:05:05+00');
    INSERT INTO audit_events (event_type, aggregate_type, aggregate_id, occurred_at, sequence)
    VALUES ('merge_request:merged', 'merge_request', '1', now() + interval '4 years', 1);
    INSERT INTO change_log (table_name, record_id, change_type, new_values, transaction_id)
    VALUES ('projects', '1', 'insert', '{"title": "Shop"}', 1);
    INSERT INTO telemetry_events (tenant_id, event_type, occurred_at)
    SELECT id, 'probe', '1969-07-20 20:17:40+00' FROM tenants;
    INSERT INTO webhook_deliveries (connection_id, delivery_key, event_type, payload) VALUES (1, 'k', 'push', '{}');
    INSERT INTO job_runs (id, task, queue, trigger, schedule_id, scheduled_for, status, queueing_lock) VALUES
    (41, 'x', 'urgent', 'schedule', 1, '2026-03-02 09:00:00+01', 'succeeded', 'x'),
    (42, 'x', 'urgent', 'schedule', 1, '2026-03-02 10:00:00+01', 'queued', 'x'),
    (43, 'x', 'urgent', 'cli', NULL, NULL, 'running', 'y'),
    (44, 'x', 'urgent', 'cli', NULL, NULL, 'queued', NULL);
    SELECT setval('job_runs_id_seq', 44);
    GRANT SELECT, INSERT ON job_runs TO PUBLIC
"""


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    made = Database(empty_database_url)
    migrate(made, BEFORE)
    with made.transaction() as session:
        for statement in GIVEN.split(";\n"):
            session.execute(text(statement.replace(":", r"\:")))
    yield made
    made.close()


def stored(database: Database) -> dict[str, list[str]]:
    with database.transaction() as session:
        return {
            table: list(session.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1")).scalars())
            for table in partitions.TABLES
        }


def one(database: Database, query: str) -> object:
    with database.transaction() as session:
        return session.execute(text(query)).scalar_one()


def rights(database: Database) -> list[str]:
    """Who may do what with the tables and their rows."""
    with database.transaction() as session:
        found = session.execute(
            text(
                """
                SELECT concat_ws(' ', c.relname, a.grantee, a.privilege_type, a.is_grantable)
                FROM pg_class c, aclexplode(relacl) a WHERE c.relname = ANY(:tables)
                UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, a.grantee, a.privilege_type)
                FROM pg_attribute, aclexplode(attacl) a WHERE attrelid::regclass::text = ANY(:tables)
                UNION ALL SELECT concat_ws(' ', tablename, policyname, permissive, roles, cmd, qual, with_check)
                FROM pg_policies WHERE tablename = ANY(:tables)
                UNION ALL SELECT concat_ws(' ', relname, relrowsecurity, relforcerowsecurity)
                FROM pg_class WHERE relname = ANY(:tables)
                ORDER BY 1
                """
            ),
            {"tables": partitions.TABLES},
        )
        return list(found.scalars())


ADDED = "INSERT INTO job_runs (task, queue, trigger) VALUES ('y', 'urgent', 'cli') RETURNING id"


def test_every_row_is_kept_there_and_back(database: Database) -> None:
    rows, granted = stored(database), rights(database)
    assert all(rows.values())
    migrate(database, AFTER)
    assert stored(database) == rows
    assert rights(database) == granted
    with database.transaction() as session:
        assert partitions.default_rows(session) == {"audit_logs": 1, "telemetry_events": 1}
        keys = session.execute(text("SELECT key, job_id FROM job_keys ORDER BY key")).all()
        assert [tuple(key) for key in keys] == [
            ("tick:1:2026-03-02T08:00:00.000000Z", 41),
            ("tick:1:2026-03-02T09:00:00.000000Z", 42),
            ("waiting:x", 42),
        ]
        places = session.execute(
            text("SELECT tableoid::regclass::text FROM audit_logs WHERE action IN ('before', 'after') ORDER BY 1")
        )
        assert list(places.scalars()) == ["audit_logs_2026_02", "audit_logs_2026_03"]
    assert one(database, ADDED) == 45
    rows = stored(database)
    migrate(database, BEFORE)
    assert stored(database) == rows
    assert rights(database) == granted
    assert one(database, ADDED) == 46
    with pytest.raises(IntegrityError, match="uq_job_runs_tick"):
        one(database, "UPDATE job_runs SET schedule_id = 1, scheduled_for = '2026-03-02 08:00+00' WHERE id = 46")
    migrate(database)
    check_drift(database)
    assert one(database, "SELECT count(*) FROM job_keys") == 3
