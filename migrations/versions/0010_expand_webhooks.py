"""Webhooks at the sources: where each connection's go, and the schedules that work off and watch them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEDULES = (
    # name, task, cron, why this often
    (
        "work off webhooks that wait",
        "receive.sweep",
        "* * * * *",
    ),  # each webhook asks for it too; this is the certain way
    ("watch the webhooks at the sources", "receive.watch_hooks", "41 * * * *"),  # GitLab disables those that failed
)


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column(
            "webhooks",
            postgresql.JSONB(),
            nullable=True,
            comment="Where its webhooks go and how they were found last; NULL: it has none",
        ),
    )
    # The API may read every column of connections but the secrets, each by its name.
    op.execute("GRANT SELECT (webhooks) ON connections TO plumbline_api")
    for name, task, cron in SCHEDULES:
        op.get_bind().execute(
            sa.text("INSERT INTO job_schedules (name, task, cron) VALUES (:name, :task, :cron)"),
            {"name": name, "task": task, "cron": cron},
        )


def downgrade() -> None:
    op.execute(
        "UPDATE job_runs SET schedule_id = NULL WHERE schedule_id IN (SELECT id FROM job_schedules "
        "WHERE task IN ('receive.sweep', 'receive.watch_hooks'))"
    )
    op.execute("DELETE FROM job_schedules WHERE task IN ('receive.sweep', 'receive.watch_hooks')")
    op.drop_column("connections", "webhooks")
