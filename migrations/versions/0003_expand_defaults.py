"""Rows that every installation begins with: a tenant, severity names, and the schedules of the system's own jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SEVERITY_NAMES = {
    "critical": ("critical", "blocker", "highest", "p0", "s1", "sev1", "sev-1", "urgent", "show stopper"),
    "high": ("high", "major", "p1", "s2", "sev2", "sev-2"),
    "medium": ("medium", "moderate", "normal", "p2", "s3", "sev3", "sev-3"),
    "low": ("low", "lowest", "minor", "trivial", "p3", "p4", "s4", "sev4", "sev-4"),
}

SCHEDULES = (
    # name, task, cron (minute hour day month weekday), why this often
    ("sync everything", "collect.sync_all", "*/5 * * * *"),  # fresh within minutes; webhooks make it seconds
    ("summarise what is dirty", "summarise.all", "* * * * *"),  # each sync asks for it too; this is the certain way
    ("prune finished jobs", "maintain.prune", "17 3 * * *"),  # at night, off the full hour
)


def upgrade() -> None:
    op.execute("INSERT INTO tenants (name, slug) VALUES ('Default', 'default') ON CONFLICT DO NOTHING")
    connection = op.get_bind()
    for severity, names in SEVERITY_NAMES.items():
        for name in names:
            connection.execute(
                sa.text(
                    "INSERT INTO severity_mappings (source_name, severity) VALUES (:name, CAST(:severity AS severity))"
                ),
                {"name": name, "severity": severity},
            )
    for name, task, cron in SCHEDULES:
        connection.execute(
            sa.text("INSERT INTO job_schedules (name, task, cron) VALUES (:name, :task, :cron)"),
            {"name": name, "task": task, "cron": cron},
        )


def downgrade() -> None:
    # The tenant stays while anything is its own; the tables themselves go with the first migration.
    op.execute("UPDATE job_runs SET schedule_id = NULL WHERE schedule_id IS NOT NULL")
    op.execute("DELETE FROM job_schedules")
    op.execute("DELETE FROM severity_mappings")
    op.execute("DELETE FROM dirty_keys")
    op.execute(
        "DELETE FROM tenants t WHERE slug = 'default' AND NOT EXISTS (SELECT FROM projects WHERE tenant_id = t.id)"
    )
