"""Launches of tests at their sources; what is handed in by hand becomes a kind of connection of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TEXT_COLUMNS = (
    # name, may be NULL, comment
    ("external_id", False, None),
    ("launch_key", False, "Parts with one key are one launch, e.g. the jobs of a pipeline"),
    ("name", False, None),
    ("fingerprint", False, "Of what the source has"),
    ("commit_sha", True, None),
    ("branch", True, None),
    ("build_name", True, None),
    ("ci_url", True, None),
    ("results_path", True, "Where in an archive the results lie, a shell pattern"),
)
REFERENCES = (
    # column, table
    ("tenant_id", "tenants"),
    ("connection_id", "connections"),
    ("sync_scope_id", "sync_scopes"),
    ("project_id", "projects"),
    ("repository_id", "repositories"),
)

ROW_SECURITY = (
    "ALTER TABLE allure_launches ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE allure_launches FORCE ROW LEVEL SECURITY",
    "CREATE POLICY workers ON allure_launches TO plumbline_workers USING (true) WITH CHECK (true)",
    (
        "CREATE POLICY tenant ON allure_launches TO plumbline_api USING "
        "(tenant_id = (SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)) WITH CHECK "
        "(tenant_id = (SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint) AND "
        "((allure_report_id IS NULL OR EXISTS "
        "(SELECT FROM allure_report p WHERE p.id = allure_launches.allure_report_id)) "
        "AND EXISTS (SELECT FROM connections p WHERE p.id = allure_launches.connection_id) "
        "AND EXISTS (SELECT FROM projects p WHERE p.id = allure_launches.project_id) "
        "AND (repository_id IS NULL OR EXISTS "
        "(SELECT FROM repositories p WHERE p.id = allure_launches.repository_id)) "
        "AND EXISTS (SELECT FROM sync_scopes p WHERE p.id = allure_launches.sync_scope_id)))"
    ),
    "GRANT SELECT ON allure_launches TO plumbline_api",
)


def upgrade() -> None:
    op.create_table(
        "allure_launches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=name == "repository_id") for name, _ in REFERENCES),
        *(sa.Column(name, sa.Text(), nullable=nullable, comment=comment) for name, nullable, comment in TEXT_COLUMNS),
        sa.Column("summary", postgresql.JSONB(), nullable=True, comment="The source's own counts by status"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_fingerprint", sa.Text(), nullable=True, comment="Of what was read last; NULL: nothing yet"),
        sa.Column("allure_report_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "trouble", sa.Text(), nullable=True, comment="Why its results are not read; tried again when they change"
        ),
        *(
            sa.ForeignKeyConstraint([name], [f"{table}.id"], name=op.f(f"fk_allure_launches_{name}"))
            for name, table in REFERENCES
        ),
        sa.ForeignKeyConstraint(
            ["allure_report_id"],
            ["allure_report.id"],
            name=op.f("fk_allure_launches_allure_report_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allure_launches")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_id",
            name=op.f("uq_allure_launches_tenant_id_connection_id_external_id"),
        ),
        comment="Launches of tests at their sources: which there are, and which state of each was read.",
    )
    for column in ("connection_id", "project_id", "repository_id", "allure_report_id"):
        op.create_index(f"ix_allure_launches_{column}", "allure_launches", [column])
    op.create_index("ix_allure_launches_sync_scope_id_launch_key", "allure_launches", ["sync_scope_id", "launch_key"])
    for statement in ROW_SECURITY:
        op.execute(statement)
    # Uploads are asked nobody for; from now on a connection of kind allure is one that is.
    op.execute("UPDATE connections SET kind = 'upload' WHERE kind = 'allure'")


def downgrade() -> None:
    op.execute("UPDATE connections SET kind = 'allure' WHERE kind = 'upload'")
    op.drop_table("allure_launches")
