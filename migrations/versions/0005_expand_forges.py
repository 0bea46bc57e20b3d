"""Summaries follow every kind of source: their marks no longer ask whether a connection is Jira's or GitLab's.

A summary that has nothing of a connection finds no key under its mark, so that a mark too many is only a look-up, and
connections and scopes change rarely. Of accounts, only Jira's are in neither summary.
"""
# ruff: noqa: S608  # the SQL is put together from the constants of this file

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = {
    "sync_scopes": "connection_id, project_id, external_key",
    "connections": "id, tenant_id, kind, base_url, options -> 'bug_types' AS bug_types",
    "user_identities": "tenant_id, source, external_id, user_id, username, display_name, email, is_bot",
}

MARKS = {
    "sync_scopes": """
        SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, p.id::text, NULL::timestamptz
        FROM changed c JOIN projects p ON p.id = c.project_id
    """,
    "connections": """
        SELECT DISTINCT s.summary, tenant_id, 'connection:' || id, NULL::timestamptz
        FROM changed CROSS JOIN (VALUES ('bug_analytics_daily'), ('monthly_contributions')) AS s(summary)
    """,
    "user_identities": """
        SELECT DISTINCT s.summary, tenant_id, 'account:' || external_id, NULL::timestamptz
        FROM changed CROSS JOIN (VALUES ('gitlab_mr_contributors'), ('monthly_contributions')) AS s(summary)
        WHERE source <> 'jira'
    """,
}

MARKS_BEFORE = {
    "sync_scopes": """
        SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, p.id::text, NULL::timestamptz
        FROM changed c JOIN connections n ON n.id = c.connection_id AND n.kind = 'jira'
        JOIN projects p ON p.id = c.project_id
    """,
    "connections": """
        SELECT DISTINCT CASE kind WHEN 'jira' THEN 'bug_analytics_daily' ELSE 'monthly_contributions' END,
               tenant_id, 'connection:' || id, NULL::timestamptz
        FROM changed WHERE kind IN ('jira', 'gitlab')
    """,
    "user_identities": MARKS["user_identities"].replace("<> 'jira'", "= 'gitlab'"),
}


def _changed(event: str, columns: str) -> str:
    if event == "INSERT":
        return f"SELECT {columns} FROM new_rows"
    if event == "DELETE":
        return f"SELECT {columns} FROM old_rows"
    old, new = f"SELECT {columns} FROM old_rows", f"SELECT {columns} FROM new_rows"
    return f"({old} EXCEPT {new}) UNION ALL ({new} EXCEPT {old})"


def _replace(marks: dict[str, str]) -> None:
    """Give the triggers' functions another body; whoever writes meanwhile has the old one or the new one."""
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    options = f"LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp"
    for table, columns in COLUMNS.items():
        branches = " ".join(
            f"IF TG_OP = '{event}' THEN INSERT INTO dirty_keys (summary, tenant_id, key, since) "
            f"WITH changed AS ({_changed(event, columns)}) {marks[table]}; END IF;"
            for event in ("INSERT", "UPDATE", "DELETE")
        )
        op.execute(
            f"CREATE OR REPLACE FUNCTION mark_dirty_{table}() RETURNS trigger {options} AS $$ "
            f"BEGIN {branches} RETURN NULL; END $$"
        )


def upgrade() -> None:
    _replace(MARKS)


def downgrade() -> None:
    _replace(MARKS_BEFORE)
