"""Tables that grow without end are partitioned by month, and what one job only may have stands in a table of its own.

A contract: workers of the version before must be stopped, because they rely on unique indexes of job_runs that a
partitioned table cannot have. Each table is made anew beside the old one, which is locked meanwhile, and its rows are
copied: minutes for tens of millions of rows, nothing noticeable for the small logs of an existing installation. What
hangs on the old table is read from the catalogue and made again: indexes, foreign keys, triggers, policies, grants,
comments, and where its sequence stands. A view of somebody else's on such a table stops the migration; drop it first,
and make it again afterwards.
"""
# ruff: noqa: S608  # the SQL is put together from the constants of this file and names of the catalogue

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIMES = {
    "audit_logs": "created_at",
    "audit_logs_archive": "created_at",
    "audit_events": "occurred_at",
    "change_log": "changed_at",
    "telemetry_events": "occurred_at",
    "webhook_deliveries": "received_at",
    "job_runs": "created_at",
}
"""Table and the time by which it is partitioned."""

MONTHS_AHEAD = 3
SCHEDULE = "create monthly partitions"

# The month before this one, this one, those ahead, and those of stored rows; as dates, so that no time zone meddles. A
# time far from now is a mistake of its writer, and its row stays in the default partition.
MONTHS = """
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => number))::date
    FROM generate_series(-1, {ahead}) AS number
    UNION
    SELECT date_trunc('month', {time} AT TIME ZONE 'UTC')::date FROM {table}
    WHERE {time} >= '1990-01-01 00:00:00+00' AND {time} < now() + interval '10 years'
    ORDER BY 1
"""

# Statements that make again what hangs on a table.
WHAT_HANGS_ON_IT = """
    SELECT replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index
    WHERE indrelid = CAST(:table AS regclass)
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
    UNION ALL
    SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = CAST(:table AS regclass) AND contype = 'f'
    UNION ALL
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = CAST(:table AS regclass) AND NOT tgisinternal
    UNION ALL
    SELECT format('GRANT %s ON %s TO %s%s', privilege_type, oid::regclass,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class, aclexplode(relacl) WHERE oid = CAST(:table AS regclass) AND grantee <> relowner
    UNION ALL
    SELECT format('GRANT %s (%I) ON %s TO %s', privilege_type, attname, attrelid::regclass,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM pg_attribute, aclexplode(attacl) WHERE attrelid = CAST(:table AS regclass)
    UNION ALL
    SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', oid::regclass, verb)
    FROM pg_class, LATERAL (VALUES ('ENABLE', relrowsecurity), ('FORCE', relforcerowsecurity)) AS option (verb, is_set)
    WHERE oid = CAST(:table AS regclass) AND is_set
    UNION ALL
    SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', policyname, tablename, permissive, cmd,
                  (SELECT string_agg(CASE role WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(role) END, ', ')
                   FROM unnest(roles) AS role))
           || COALESCE(' USING (' || qual || ')', '') || COALESCE(' WITH CHECK (' || with_check || ')', '')
    FROM pg_policies WHERE schemaname = current_schema() AND tablename = CAST(CAST(:table AS text) AS name)
    UNION ALL
    SELECT format('COMMENT ON TABLE %s IS %L', oid::regclass, obj_description(oid, 'pg_class'))
    FROM pg_class WHERE oid = CAST(:table AS regclass)
"""

INDEXES_OF_ITS_OWN = """
    SELECT indexrelid::regclass::text FROM pg_index
    WHERE indrelid = CAST(:table AS regclass)
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
"""

COLUMNS = """
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""

TENANT = "(SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)"

TICK_KEY = """
    'tick:' || schedule_id || ':' || to_char(scheduled_for AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
"""


def upgrade() -> None:
    op.create_table(
        "job_keys",
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="tick:SCHEDULE:TIME as long as the job is kept, waiting:LOCK while it is queued",
        ),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="job_runs.id"),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="job_runs.tenant_id"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_job_keys")),
        comment="What one job only may have; a table of its own, because a unique key over months would have to hold "
        "the month.",
    )
    op.execute("ALTER TABLE job_keys ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_keys FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY workers ON job_keys TO plumbline_workers USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY tenant ON job_keys TO plumbline_api USING (tenant_id = {TENANT})")
    op.execute("GRANT SELECT, INSERT, DELETE ON job_keys TO plumbline_api")
    # Safe: a contract runs while no worker does, and nobody else writes jobs.
    op.execute("LOCK TABLE job_runs IN ACCESS EXCLUSIVE MODE")
    op.execute(
        f"""
        INSERT INTO job_keys (key, job_id, tenant_id, created_at)
        SELECT {TICK_KEY}, id, tenant_id, created_at FROM job_runs
        WHERE schedule_id IS NOT NULL AND scheduled_for IS NOT NULL
        UNION ALL
        SELECT 'waiting:' || queueing_lock, id, tenant_id, created_at FROM job_runs
        WHERE status = 'queued' AND queueing_lock IS NOT NULL
        """
    )
    op.drop_index("uq_job_runs_tick", table_name="job_runs")
    op.drop_index("uq_job_runs_queueing_lock", table_name="job_runs")
    for table, time in TIMES.items():
        make_anew(table, primary_key=("id", time), partitioned_by=time)
    op.execute("GRANT USAGE ON SEQUENCE job_runs_id_seq TO plumbline_api")
    op.execute(
        f"INSERT INTO job_schedules (name, task, cron) VALUES ('{SCHEDULE}', 'maintain.create_partitions', "
        "'41 2 * * *') ON CONFLICT DO NOTHING"
    )


def downgrade() -> None:
    for table, time in TIMES.items():
        make_anew(table, primary_key=("id",) if table == "job_runs" else ("id", time))
    op.create_index(
        "uq_job_runs_queueing_lock",
        "job_runs",
        ["queueing_lock"],
        unique=True,
        postgresql_where=sa.text("status = 'queued' AND queueing_lock IS NOT NULL"),
    )
    op.create_index(
        "uq_job_runs_tick",
        "job_runs",
        ["schedule_id", "scheduled_for"],
        unique=True,
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.drop_table("job_keys")
    op.execute(
        "UPDATE job_runs SET schedule_id = NULL "
        f"WHERE schedule_id = (SELECT id FROM job_schedules WHERE name = '{SCHEDULE}')"
    )
    op.execute(f"DELETE FROM job_schedules WHERE name = '{SCHEDULE}'")


def make_anew(table: str, *, primary_key: tuple[str, ...], partitioned_by: str | None = None) -> None:
    """Put a table of the same columns and rows in the place of another, partitioned by month or not at all."""
    connection = op.get_bind()
    # Safe: nothing may write what would not be copied; a reader waits as long as the copy takes.
    op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    named = {"table": table}
    again = connection.execute(sa.text(WHAT_HANGS_ON_IT), named).scalars().all()
    columns = connection.execute(sa.text(COLUMNS), named).scalar_one()
    has_sequence = connection.execute(sa.text(f"SELECT pg_get_serial_sequence('{table}', 'id')")).scalar_one()
    for index in connection.execute(sa.text(INDEXES_OF_ITS_OWN), named).scalars().all():
        op.execute(f"DROP INDEX {index}")
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}")
    # Otherwise an owner who is no member of the workers would copy no row, and drop them all.
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_before")
    if has_sequence:
        op.execute(f"ALTER SEQUENCE {table}_id_seq RENAME TO {table}_before_id_seq")
    clause = f"PARTITION BY RANGE ({partitioned_by})" if partitioned_by else ""
    op.execute(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING ALL EXCLUDING INDEXES) {clause}")
    if partitioned_by:
        make_partitions(table, partitioned_by)
    op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_before")
    if has_sequence:
        op.execute(f"SELECT setval('{table}_id_seq', last_value, is_called) FROM {table}_before_id_seq")
    op.execute(f"DROP TABLE {table}_before")
    # Safe: the table is new, and nobody sees it before this migration is committed.
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({', '.join(primary_key)})")
    for statement in again:
        op.execute(sa.text(statement.replace(":", r"\:")))
    op.execute(f"ANALYZE {table}")


def make_partitions(table: str, time: str) -> None:
    """The default partition, which is to stay empty, and the months; each closed, for the policies are the parent's."""
    op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
    op.execute(f"ALTER TABLE {table}_default ENABLE ROW LEVEL SECURITY")
    query = MONTHS.format(table=f"{table}_before", time=time, ahead=MONTHS_AHEAD)
    for month in op.get_bind().execute(sa.text(query)).scalars().all():
        following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        name = f"{table}_{month:%Y_%m}"
        op.execute(
            f"CREATE TABLE {name} PARTITION OF {table} "
            f"FOR VALUES FROM ('{month} 00:00:00+00') TO ('{following} 00:00:00+00')"
        )
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
