"""Windows of a backfill apart from those that follow what is new, and streams that a source refuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sync_windows",
        sa.Column(
            "is_backfill",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Reads old things and is shared by all workers; else it follows what is new",
        ),
    )
    op.add_column(
        "sync_windows",
        sa.Column("rows_expected", sa.BigInteger(), nullable=True, comment="What the source says that it holds"),
    )
    op.add_column(
        "watermarks",
        sa.Column(
            "refused_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the source last refused the stream, though it shows the scope",
        ),
    )
    op.add_column("watermarks", sa.Column("refusal", sa.Text(), nullable=True, comment="In a sentence"))
    # Windows of a first sync that is under way.
    op.execute("UPDATE sync_windows SET is_backfill = true WHERE state <> 'done'")


def downgrade() -> None:
    op.drop_column("watermarks", "refusal")
    op.drop_column("watermarks", "refused_at")
    op.drop_column("sync_windows", "rows_expected")
    op.drop_column("sync_windows", "is_backfill")
