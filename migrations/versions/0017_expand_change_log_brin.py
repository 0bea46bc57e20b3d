"""Every writer of a watched table pays for the indexes of change_log, so four of them give way to two cheap ones.

Times and transactions only grow, so rows that are near each other in them are near each other in the table: a summary
of its blocks (BRIN) finds them. The kind of change and the table have few values; within a span of time they are a
filter.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SUMMARISED = {"ix_change_log_changed_at": "changed_at", "ix_change_log_transaction": "transaction_id"}
FILTERS = {
    "ix_change_log_type": ["change_type", "changed_at"],
    "ix_change_log_table_type": ["table_name", "change_type", "changed_at"],
}


def upgrade() -> None:
    for name in FILTERS:
        # Safe: nothing reads change_log by it yet, and the summary of times serves the same questions.
        op.drop_index(name, "change_log")
    for name, column in SUMMARISED.items():
        # Safe: nothing reads change_log by it yet, and another index of the same column takes its place.
        op.drop_index(name, "change_log")
        # Safe: capture began with the versions right before, and a summary of blocks is one read of them.
        op.create_index(name, "change_log", [column], postgresql_using="brin")


def downgrade() -> None:
    for name, column in SUMMARISED.items():
        op.drop_index(name, "change_log")
        op.create_index(name, "change_log", [column])
    for name, columns in FILTERS.items():
        op.create_index(name, "change_log", columns)
