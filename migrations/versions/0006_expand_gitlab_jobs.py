"""Jobs of pipelines, environments, who started a pipeline, sections of CODEOWNERS, archived repositories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS: tuple[tuple[str, sa.Column[str] | sa.Column[bool] | sa.Column[int]], ...] = (
    ("gitlab_pipelines", sa.Column("started_by", sa.Text(), comment="Username; who or what set it off")),
    ("gitlab_pipelines", sa.Column("started_by_id", sa.Text())),
    (
        "owner_rules",
        sa.Column("section", sa.Text(), comment="Sections are judged apart; NULL: what stands before the first"),
    ),
    (
        "owner_rules",
        sa.Column(
            "is_optional",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Owners are asked, and need not approve",
        ),
    ),
    (
        "owner_rules",
        sa.Column("required_approvals_count", sa.Integer(), server_default=sa.text("1"), nullable=False),
    ),
    (
        "repositories",
        sa.Column(
            "is_archived",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Read only at its host",
        ),
    ),
)


def upgrade() -> None:
    for table, column in COLUMNS:
        op.add_column(table, column)
    op.create_table(
        "gitlab_jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False, comment="The global id; a later attempt has a higher one"),
        sa.Column("external_pipeline_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("is_allowed_to_fail", sa.Boolean(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("web_url", sa.Text(), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=True, comment="Username"),
        sa.Column("started_by_id", sa.Text(), nullable=True),
        sa.Column("job_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Numeric(precision=14, scale=3), nullable=True),
        sa.Column("queued_seconds", sa.Numeric(precision=14, scale=3), nullable=True),
        sa.Column(
            "source_updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The latest of its times; the source tells no other",
        ),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_gitlab_jobs_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_jobs_project_id")),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_gitlab_jobs_sync_scope_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_jobs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_jobs")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "external_id",
            name=op.f("uq_gitlab_jobs_tenant_id_connection_id_external_project_id_external_id"),
        ),
        comment="Jobs of pipelines, every attempt a row.",
    )
    op.create_index("ix_gitlab_jobs_finished", "gitlab_jobs", ["project_id", "finished_at"])
    op.create_index(
        "ix_gitlab_jobs_pipeline",
        "gitlab_jobs",
        ["connection_id", "external_project_id", "external_pipeline_id", "name"],
    )
    op.create_index(op.f("ix_gitlab_jobs_sync_scope_id"), "gitlab_jobs", ["sync_scope_id"])
    op.create_table(
        "gitlab_environments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True, comment="production, staging, testing, development or other"),
        sa.Column("state", sa.Text(), nullable=True, comment="available, stopping or stopped"),
        sa.Column("external_url", sa.Text(), nullable=True),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_environments_connection_id")
        ),
        sa.ForeignKeyConstraint(
            ["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_gitlab_environments_sync_scope_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_environments_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_environments")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "external_id",
            name=op.f("uq_gitlab_environments_tenant_id_connection_id_external_project_id_external_id"),
        ),
        comment="Environments and their tiers.",
    )
    op.create_index(op.f("ix_gitlab_environments_connection_id"), "gitlab_environments", ["connection_id"])
    op.create_index(op.f("ix_gitlab_environments_sync_scope_id"), "gitlab_environments", ["sync_scope_id"])


def downgrade() -> None:
    op.drop_table("gitlab_environments")
    op.drop_table("gitlab_jobs")
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column.name)
