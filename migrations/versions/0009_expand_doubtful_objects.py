"""Objects that we are in doubt about, and the schedules of those who look for them and after them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEDULES = (
    # name, task, cron (minute hour day month weekday), why this often
    ("reconcile with the sources", "reconcile.all", "23 2 * * *"),  # listing all ids takes long; webhooks tell earlier
    ("confirm what is missing", "reconcile.confirm", "*/10 * * * *"),  # asks nothing where nothing is missing
)

ROW_SECURITY = (
    "ALTER TABLE doubtful_objects ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE doubtful_objects FORCE ROW LEVEL SECURITY",
    "CREATE POLICY workers ON doubtful_objects TO plumbline_workers USING (true) WITH CHECK (true)",
    (
        "CREATE POLICY tenant ON doubtful_objects TO plumbline_api USING "
        "(EXISTS (SELECT FROM sync_scopes p WHERE p.id = doubtful_objects.sync_scope_id))"
    ),
)


def upgrade() -> None:
    op.create_table(
        "doubtful_objects",
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False, comment="The stream"),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("doubted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_doubtful_objects_sync_scope_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sync_scope_id", "resource", "external_id", name=op.f("pk_doubtful_objects")),
        comment="Objects missing at their source, or naming what moved: asked for again, mended or tombstoned.",
    )
    op.create_index("ix_doubtful_objects_doubted_at", "doubtful_objects", ["doubted_at"])
    for statement in ROW_SECURITY:
        op.execute(statement)
    for name, task, cron in SCHEDULES:
        op.get_bind().execute(
            sa.text("INSERT INTO job_schedules (name, task, cron) VALUES (:name, :task, :cron)"),
            {"name": name, "task": task, "cron": cron},
        )


def downgrade() -> None:
    names = {"names": [name for name, _, _ in SCHEDULES]}
    op.get_bind().execute(
        sa.text(
            "UPDATE job_runs SET schedule_id = NULL "
            "WHERE schedule_id IN (SELECT id FROM job_schedules WHERE name = ANY(:names))"
        ),
        names,
    )
    op.get_bind().execute(sa.text("DELETE FROM job_schedules WHERE name = ANY(:names)"), names)
    op.drop_table("doubtful_objects")
