"""Accounts know their person, by strong keys or by hand, and the summaries of contributions follow."""
# ruff: noqa: S608  # the SQL is put together from the constants of this file

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS_BEFORE = "tenant_id, source, external_id, user_id, username, display_name, email, is_bot"
COLUMNS = f"{COLUMNS_BEFORE}, person_id"
SUMMARIES = ("gitlab_mr_contributors", "monthly_contributions")
SCHEDULE = "tell people apart"


def _watch(columns: str) -> None:
    """Give the trigger of accounts another body; whoever writes meanwhile has the old one or the new one."""
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    old, new = f"SELECT {columns} FROM old_rows", f"SELECT {columns} FROM new_rows"
    changed = {"INSERT": new, "DELETE": old, "UPDATE": f"({old} EXCEPT {new}) UNION ALL ({new} EXCEPT {old})"}
    marked = ", ".join(f"('{summary}')" for summary in SUMMARIES)
    branches = " ".join(
        f"IF TG_OP = '{event}' THEN INSERT INTO dirty_keys (summary, tenant_id, key, since) "
        f"WITH changed AS ({rows}) "
        f"SELECT DISTINCT s.summary, tenant_id, 'account:' || external_id, NULL::timestamptz "
        f"FROM changed CROSS JOIN (VALUES {marked}) AS s(summary) WHERE source <> 'jira'; END IF;"
        for event, rows in changed.items()
    )
    op.execute(
        f"CREATE OR REPLACE FUNCTION mark_dirty_user_identities() RETURNS trigger "
        f"LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp "
        f"AS $$ BEGIN {branches} RETURN NULL; END $$"
    )


def upgrade() -> None:
    op.add_column(
        "user_identities",
        sa.Column(
            "email_is_verified", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="By the source"
        ),
    )
    op.add_column("user_identities", sa.Column("provider_id", sa.Text(), comment="Identity provider and the id there"))
    op.add_column(
        "user_identities",
        sa.Column(
            "person_id",
            sa.BigInteger(),
            comment="The smallest id of the person's accounts; NULL until people are told apart",
        ),
    )
    op.add_column(
        "user_identities",
        sa.Column("person_reason", sa.Text(), comment="Why the account is with others; NULL where it is alone"),
    )
    # Safe: accounts are thousands, not millions, and the column is empty; the index is built at once.
    op.create_index(op.f("ix_user_identities_person_id"), "user_identities", ["person_id"])
    op.create_table(
        "identity_decisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("identity_id", sa.BigInteger(), nullable=False),
        sa.Column("other_identity_id", sa.BigInteger(), comment="The same person's; NULL: identity_id stands apart"),
        sa.Column("decided_by", sa.Text()),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("identity_id <> other_identity_id", name=op.f("ck_identity_decisions_two_accounts")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_identity_decisions_tenant_id")),
        sa.ForeignKeyConstraint(
            ["identity_id"],
            ["user_identities.id"],
            name=op.f("fk_identity_decisions_identity_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["other_identity_id"],
            ["user_identities.id"],
            name=op.f("fk_identity_decisions_other_identity_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_decisions")),
        sa.UniqueConstraint(
            "identity_id",
            "other_identity_id",
            name=op.f("uq_identity_decisions_identity_id_other_identity_id"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Accounts that are one person's by hand, and accounts that stand apart whatever they share.",
    )
    op.create_index(op.f("ix_identity_decisions_tenant_id"), "identity_decisions", ["tenant_id"])
    op.create_index(op.f("ix_identity_decisions_other_identity_id"), "identity_decisions", ["other_identity_id"])
    for table in SUMMARIES:
        op.add_column(
            table, sa.Column("person_id", sa.BigInteger(), comment="user_identities.person_id of the account")
        )
    _watch(COLUMNS)
    op.get_bind().execute(
        # A new account is its own person until then; people change accounts rarely.
        sa.text("INSERT INTO job_schedules (name, task, cron) VALUES (:name, 'identify.people', '*/10 * * * *')"),
        {"name": SCHEDULE},
    )


def downgrade() -> None:
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "UPDATE job_runs SET schedule_id = NULL "
            "WHERE schedule_id = (SELECT id FROM job_schedules WHERE name = :name)"
        ),
        {"name": SCHEDULE},
    )
    connection.execute(sa.text("DELETE FROM job_schedules WHERE name = :name"), {"name": SCHEDULE})
    _watch(COLUMNS_BEFORE)
    for table in SUMMARIES:
        op.drop_column(table, "person_id")
    op.drop_table("identity_decisions")
    for column in ("person_reason", "person_id", "provider_id", "email_is_verified"):
        op.drop_column("user_identities", column)
