"""Who belongs to the workers and to the API is held back by neither.

Rules on what a row may name were restrictive policies of `plumbline_api`. Such a policy binds every member of the role,
the database's owner among them, whatever another role allows: a schedule of the platform could start no job. They
become part of the permissive policy `tenant`, beside which `workers` allows all.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# PostgreSQL's own text of an expression means the same when it is read again.
MERGE = """
    DO $$
    DECLARE each record;
    BEGIN
        FOR each IN
            SELECT tablename, t.qual AS is_own, n.with_check AS names_own
            FROM pg_policies n JOIN pg_policies t USING (schemaname, tablename)
            WHERE schemaname = current_schema() AND n.policyname = 'names_own' AND t.policyname = 'tenant'
              AND tablename <> 'job_runs'
        LOOP
            EXECUTE format('DROP POLICY names_own ON %I', each.tablename);
            EXECUTE format('ALTER POLICY tenant ON %I WITH CHECK (%s AND %s)',
                each.tablename, each.is_own, each.names_own);
        END LOOP;
    END $$
"""

IS_OWN = "tenant_id = (SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)"
NAMES_OWN = (
    "(parent_id IS NULL OR row_is_visible('job_runs', parent_id)) "
    "AND (root_id IS NULL OR row_is_visible('job_runs', root_id)) "
    "AND (schedule_id IS NULL OR EXISTS (SELECT FROM job_schedules p "
    "WHERE p.id = job_runs.schedule_id AND p.tenant_id IS NOT NULL))"
)


def upgrade() -> None:
    op.execute(MERGE)
    # Only new jobs may not name what is the platform's, so each verb has a policy of its own.
    op.execute("DROP POLICY names_own ON job_runs")
    op.execute("DROP POLICY tenant ON job_runs")
    op.execute(f"CREATE POLICY tenant ON job_runs FOR SELECT TO plumbline_api USING ({IS_OWN})")
    op.execute(f"CREATE POLICY tenant_updates ON job_runs FOR UPDATE TO plumbline_api USING ({IS_OWN})")
    op.execute(
        f"CREATE POLICY tenant_inserts ON job_runs FOR INSERT TO plumbline_api WITH CHECK ({IS_OWN} AND ({NAMES_OWN}))"
    )


def downgrade() -> None:
    # The merged ones stay: what ran before works with them.
    for policy in ("tenant", "tenant_updates", "tenant_inserts"):
        op.execute(f"DROP POLICY {policy} ON job_runs")
    op.execute(f"CREATE POLICY tenant ON job_runs TO plumbline_api USING ({IS_OWN})")
    op.execute(
        f"CREATE POLICY names_own ON job_runs AS RESTRICTIVE FOR INSERT TO plumbline_api WITH CHECK ({NAMES_OWN})"
    )
