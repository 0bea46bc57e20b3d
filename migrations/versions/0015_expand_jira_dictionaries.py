"""Jira's priorities, versions, boards and sprints, and how many worklogs an issue has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = ("jira_priorities", "jira_versions", "jira_boards", "jira_sprints")


COMMENTS = {
    "comment": "The first 500, each with its first 2,000 characters",
    "comments_count": "Of all there are",
    "log_work": "The first 1,000",
    "time_to_first_response": "The first comment by a person who is not the reporter",
}

OF_THE_TENANT = "tenant_id = (SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)"
ROW_SECURITY = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY workers ON {table} TO plumbline_workers USING (true) WITH CHECK (true)",
    (
        f"CREATE POLICY tenant ON {{table}} TO plumbline_api USING ({OF_THE_TENANT}) WITH CHECK ({OF_THE_TENANT} AND "
        "(EXISTS (SELECT FROM connections p WHERE p.id = {table}.connection_id){more}))"
    ),
    "GRANT SELECT ON {table} TO plumbline_api",
)
SCOPE = " AND (sync_scope_id IS NULL OR EXISTS (SELECT FROM sync_scopes p WHERE p.id = {table}.sync_scope_id))"


def _dictionary(name: str, key: str, *columns: sa.Column[object], comment: str, has_scope: bool = True) -> None:
    scope = [sa.Column("sync_scope_id", sa.BigInteger())] if has_scope else []
    synced_at = [
        sa.Column(
            "synced_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was fetched as it is here for the first time",
        )
    ]
    op.create_table(
        name,
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column(key, sa.Text(), nullable=False),
        *scope,
        *columns,
        *(synced_at if has_scope else []),
        sa.Column("deleted_at", sa.DateTime(timezone=True), comment="When the source no longer had it"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f(f"fk_{name}_tenant_id")),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f(f"fk_{name}_connection_id")),
        *(
            [
                sa.ForeignKeyConstraint(
                    ["sync_scope_id"], ["sync_scopes.id"], name=op.f(f"fk_{name}_sync_scope_id"), ondelete="SET NULL"
                )
            ]
            if has_scope
            else []
        ),
        sa.PrimaryKeyConstraint("connection_id", key, name=op.f(f"pk_{name}")),
        comment=comment,
    )
    op.create_index(op.f(f"ix_{name}_tenant_id"), name, ["tenant_id"])
    if has_scope:
        op.create_index(op.f(f"ix_{name}_sync_scope_id"), name, ["sync_scope_id"])


def _time(name: str, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), comment=comment)


def upgrade() -> None:
    _dictionary(
        "jira_priorities",
        "priority_id",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        comment="Priorities of each Jira instance by id.",
        has_scope=False,
    )
    _dictionary(
        "jira_versions",
        "version_id",
        sa.Column("external_project_id", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("is_released", sa.Boolean(), nullable=False),
        sa.Column("start_on", sa.Date()),
        sa.Column("release_on", sa.Date()),
        comment="Versions of Jira projects, with the days on which they are to come out or did.",
    )
    _dictionary(
        "jira_boards",
        "board_id",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), comment="scrum, kanban or simple"),
        sa.Column("project_key", sa.Text()),
        comment="Boards of each Jira instance; several may show one sprint.",
    )
    _dictionary(
        "jira_sprints",
        "sprint_id",
        sa.Column("board_id", sa.Text(), comment="Of the board that it was made on"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="future, active or closed"),
        sa.Column("goal", sa.Text()),
        _time("start_at", "As planned"),
        _time("end_at", "As planned"),
        _time("activated_at", "When it was really started, where the source tells"),
        _time("complete_at"),
        comment="Sprints of each Jira instance; what the issues in them say of them follows this table.",
    )
    op.add_column(
        "jira_table_history",
        sa.Column("worklogs_count", sa.Integer(), server_default="0", nullable=False, comment="Of all there are"),
    )
    for name, comment in COMMENTS.items():
        op.alter_column("jira_table_history", name, comment=comment)
    for table in TABLES:
        more = "" if table == "jira_priorities" else SCOPE.format(table=table)
        for statement in ROW_SECURITY:
            op.execute(statement.format(table=table, more=more))
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jira_table_history_sprint",
            "jira_table_history",
            ["connection_id", "sprint_id"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    for name in COMMENTS:
        op.alter_column("jira_table_history", name, comment=None)
    op.drop_index("ix_jira_table_history_sprint", "jira_table_history")
    op.drop_column("jira_table_history", "worklogs_count")
    for name in reversed(TABLES):
        op.drop_table(name)
