"""Triggers that mark what the summaries have to compute again, in the writer's own transaction, whoever the writer is.

Each watched table has one function that turns its changed rows into marks. Of an update it sees the rows as they were
and as they are, where a column that a summary reads differs; so a row that moves marks both places, and a new
`synced_at` marks none.

A mark is a key of the summary, or a reference that is resolved into keys when it is taken. References stand where the
key hangs on another row, which another transaction may be changing at the same time: at the time of taking both are
committed, and each sees the other. The forms:

    3:10012, 7:2025-06-02, 7:2025-06, 17, 7   a key, as each summary names its own
    7@2025-06-02      the local days, or months, of project 7 that hold this day of UTC
    7                 of a dated summary: every day or month of project 7
    scope:3:AB        the project that the scope AB of connection 3 feeds
    connection:3, project:7, repository:5, plan:4, run:17, report:6, case:9, mr:3:55:12, account:HOST/ID
                      whatever hangs on that row
    *                 everything of the tenant
"""
# ruff: noqa: S608  # the SQL is put together from the constants of this file

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


# `counted` names every Jira project that an issue was ever in. `since` is its creation: a first change of a field says
# what the field was before, so no day of the life is safe from a late event. A mark with a time to come would
# wait for it.
BUG_MARKS = """
    SELECT 'bug_analytics_daily', tenant_id, 'scope:' || connection_id || ':' || prefix,
           CASE WHEN bool_and(created IS NOT NULL AND created <= clock_timestamp()) THEN min(created) END
    FROM counted WHERE prefix <> '' GROUP BY tenant_id, connection_id, prefix
    UNION ALL
    SELECT 'bug_analytics_daily', tenant_id, project_id::text,
           CASE WHEN bool_and(created IS NOT NULL AND created <= clock_timestamp()) THEN min(created) END
    FROM counted WHERE project_id IS NOT NULL GROUP BY tenant_id, project_id
"""
FORMER_PROJECTS = """
    SELECT t.tenant_id, t.connection_id, k.prefix, NULL::bigint, t.created
    FROM touched t
    JOIN jira_issue_changes c USING (connection_id, issue_id)
    CROSS JOIN LATERAL (VALUES (split_part(c.from_text, '-', 1)), (split_part(c.to_text, '-', 1))) AS k(prefix)
    WHERE c.field IN ('issuekey', 'key')
"""

# By table: what the summaries read of a row, with its key, so that two rows are never taken for one; a SELECT from
# `changed`, which has those columns, of summary, tenant_id, key and since; and what a TRUNCATE leaves dirty.
WATCHED = {
    "jira_table_history": (
        """tenant_id, connection_id, issue_id, project_id, issuekey, project, issuetype, priority,
            severity_issue, created, status_id, status, status_category, deleted_at""",
        f"""
            touched AS (
                SELECT tenant_id, connection_id, issue_id, min(created) AS created FROM changed GROUP BY 1, 2, 3),
            counted (tenant_id, connection_id, prefix, project_id, created) AS (
                SELECT tenant_id, connection_id, project, project_id, created FROM changed
                UNION ALL {FORMER_PROJECTS})
            SELECT 'jira_lead_times', tenant_id, connection_id || ':' || issue_id, NULL::timestamptz FROM touched
            UNION ALL {BUG_MARKS}
        """,
        ("jira_lead_times", "bug_analytics_daily"),
    ),
    # The row is written before its changes, in one transaction: that row's lock is what keeps two writers of
    # one issue from marking past each other.
    "jira_issue_changes": (
        """tenant_id, connection_id, issue_id, change_id, item_index, field, from_value, from_text, to_value,
            to_text, changed_at""",
        f"""
            touched AS (
                SELECT DISTINCT tenant_id, connection_id, issue_id, i.project, i.project_id, i.created
                FROM changed c LEFT JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
                WHERE c.field IN ('status', 'issuetype', 'priority', 'resolution', 'issuekey', 'key') OR EXISTS (
                    SELECT FROM jira_fields f
                    WHERE f.connection_id = c.connection_id AND f.role = 'severity' AND f.field_id = c.field)),
            counted (tenant_id, connection_id, prefix, project_id, created) AS (
                SELECT tenant_id, connection_id, project, project_id, created FROM touched
                UNION ALL {FORMER_PROJECTS}
                UNION ALL
                SELECT t.tenant_id, t.connection_id, k.prefix, NULL, t.created
                FROM changed c
                JOIN touched t USING (tenant_id, connection_id, issue_id)
                CROSS JOIN LATERAL (
                    VALUES (split_part(c.from_text, '-', 1)), (split_part(c.to_text, '-', 1))) AS k(prefix)
                WHERE c.field IN ('issuekey', 'key'))
            SELECT DISTINCT 'jira_lead_times', tenant_id, connection_id || ':' || issue_id, NULL::timestamptz
            FROM changed WHERE field = 'status'
            UNION ALL {BUG_MARKS}
        """,
        ("jira_lead_times", "bug_analytics_daily"),
    ),
    "jira_statuses": (
        "tenant_id, connection_id, status_id, name, category",
        """
            SELECT DISTINCT s.summary, tenant_id, 'connection:' || connection_id, NULL::timestamptz
            FROM changed CROSS JOIN (VALUES ('jira_lead_times'), ('bug_analytics_daily')) AS s(summary)
        """,
        ("jira_lead_times", "bug_analytics_daily"),
    ),
    "jira_fields": (
        "tenant_id, connection_id, field_id, role, is_active",
        """
            SELECT DISTINCT 'bug_analytics_daily', tenant_id, 'connection:' || connection_id, NULL::timestamptz
            FROM changed WHERE role = 'severity'
        """,
        ("bug_analytics_daily",),
    ),
    "severity_mappings": (
        "tenant_id, source_name, severity",
        """
            SELECT DISTINCT 'bug_analytics_daily', t.id, '*', NULL::timestamptz
            FROM changed c JOIN tenants t ON c.tenant_id IS NULL OR c.tenant_id = t.id
        """,
        ("bug_analytics_daily",),
    ),
    "sync_scopes": (
        "connection_id, project_id, external_key",
        """
            SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, p.id::text, NULL::timestamptz
            FROM changed c JOIN connections n ON n.id = c.connection_id AND n.kind = 'jira'
            JOIN projects p ON p.id = c.project_id
        """,
        ("bug_analytics_daily",),
    ),
    "connections": (
        "id, tenant_id, kind, base_url, options -> 'bug_types' AS bug_types",
        """
            SELECT DISTINCT CASE kind WHEN 'jira' THEN 'bug_analytics_daily' ELSE 'monthly_contributions' END,
                   tenant_id, 'connection:' || id, NULL::timestamptz
            FROM changed WHERE kind IN ('jira', 'gitlab')
        """,
        ("bug_analytics_daily", "monthly_contributions"),
    ),
    "bug_budget": (
        "id, tenant_id, connection_id, issue_id",
        """
            SELECT DISTINCT 'jira_lead_times', tenant_id, connection_id || ':' || issue_id, NULL::timestamptz
            FROM changed WHERE connection_id IS NOT NULL AND issue_id IS NOT NULL
        """,
        ("jira_lead_times",),
    ),
    "gitlab_mr_lead_times": (
        """tenant_id, connection_id, external_project_id, mr_id, project_name, project_id,
            source_updated_at""",
        """
            SELECT DISTINCT 'gitlab_mr_contributors', tenant_id, connection_id || ':' || external_project_id,
                   NULL::timestamptz
            FROM changed
        """,
        ("gitlab_mr_contributors",),
    ),
    # Who is the author decides which approvals count, in whatever month they were given.
    "gitlab_mr_activities": (
        """tenant_id, connection_id, external_project_id, mr_id, external_id, project_id, account_id, username,
            activity, occurred_at""",
        """
            SELECT DISTINCT 'gitlab_mr_contributors', tenant_id, connection_id || ':' || external_project_id,
                   NULL::timestamptz
            FROM changed
            UNION ALL
            SELECT DISTINCT 'monthly_contributions', tenant_id,
                   project_id || '@' || (occurred_at AT TIME ZONE 'UTC')::date, NULL::timestamptz
            FROM changed WHERE activity IN ('authored', 'approved') AND project_id IS NOT NULL
            UNION ALL
            SELECT DISTINCT 'monthly_contributions', tenant_id,
                   'mr:' || connection_id || ':' || external_project_id || ':' || mr_id, NULL::timestamptz
            FROM changed WHERE activity = 'authored'
        """,
        ("gitlab_mr_contributors", "monthly_contributions"),
    ),
    "gitlab_events": (
        """tenant_id, connection_id, external_id, project_id, author, author_id, push_action, push_ref_type,
            occurred_at""",
        """
            SELECT DISTINCT 'monthly_contributions', tenant_id,
                   project_id || '@' || (occurred_at AT TIME ZONE 'UTC')::date, NULL::timestamptz
            FROM changed WHERE project_id IS NOT NULL
        """,
        ("monthly_contributions",),
    ),
    "user_identities": (
        "tenant_id, source, external_id, user_id, username, display_name, email, is_bot",
        """
            SELECT DISTINCT s.summary, tenant_id, 'account:' || external_id, NULL::timestamptz
            FROM changed CROSS JOIN (VALUES ('gitlab_mr_contributors'), ('monthly_contributions')) AS s(summary)
            WHERE source = 'gitlab'
        """,
        ("gitlab_mr_contributors", "monthly_contributions"),
    ),
    "test_runs": (
        """id, project_id, title, test_plan_id, repository_id, allure_report_id, execution_date, started_at,
            completed_at, created_by""",
        """
            SELECT DISTINCT 'test_runs_view', p.tenant_id, c.id::text, NULL::timestamptz
            FROM changed c JOIN projects p ON p.id = c.project_id
            UNION ALL
            SELECT DISTINCT 'test_execution_summary', p.tenant_id,
                   c.project_id || '@' || (c.execution_date AT TIME ZONE 'UTC')::date, NULL::timestamptz
            FROM changed c JOIN projects p ON p.id = c.project_id
            WHERE c.execution_date IS NOT NULL
        """,
        ("test_runs_view", "test_execution_summary"),
    ),
    "test_run_results": (
        "id, test_run_id, test_case_id, status, is_valid",
        """
            SELECT DISTINCT s.summary, p.tenant_id, s.form || c.test_run_id, NULL::timestamptz
            FROM changed c JOIN test_runs r ON r.id = c.test_run_id JOIN projects p ON p.id = r.project_id
            CROSS JOIN (VALUES ('test_runs_view', ''), ('test_execution_summary', 'run:')) AS s(summary, form)
        """,
        ("test_runs_view", "test_execution_summary"),
    ),
    "allure_scenarios": (
        "id, allure_report_id, test_key, test_case_id, attempt, is_retry, status",
        """
            SELECT DISTINCT 'test_execution_summary', a.tenant_id, 'report:' || a.id, NULL::timestamptz
            FROM changed c JOIN allure_report a ON a.id = c.allure_report_id
        """,
        ("test_execution_summary",),
    ),
    "test_cases": (
        "id, tenant_id, automated",
        "SELECT DISTINCT 'test_execution_summary', tenant_id, 'case:' || id, NULL::timestamptz FROM changed",
        ("test_execution_summary",),
    ),
    "test_plans": (
        "id, project_id, title",
        """
            SELECT DISTINCT 'test_runs_view', p.tenant_id, 'plan:' || c.id, NULL::timestamptz
            FROM changed c JOIN projects p ON p.id = c.project_id
        """,
        ("test_runs_view",),
    ),
    "repositories": (
        "id, tenant_id, title",
        "SELECT DISTINCT 'test_runs_view', tenant_id, 'repository:' || id, NULL::timestamptz FROM changed",
        ("test_runs_view",),
    ),
    # The title stands in two of them; the time zone moves rows between days and months.
    "projects": (
        "id, tenant_id, title, timezone",
        """
            SELECT DISTINCT s.summary, tenant_id, s.form || id, NULL::timestamptz
            FROM changed CROSS JOIN (VALUES
                ('test_runs_view', 'project:'), ('test_execution_summary', ''), ('monthly_contributions', ''),
                ('bug_analytics_daily', '')) AS s(summary, form)
        """,
        ("test_runs_view", "test_execution_summary", "monthly_contributions", "bug_analytics_daily"),
    ),
}

# A new case has no results yet, and one with results cannot be deleted.
ONLY_UPDATES = ("test_cases",)

TRANSITIONS = {
    "INSERT": "REFERENCING NEW TABLE AS new_rows",
    "DELETE": "REFERENCING OLD TABLE AS old_rows",
    "UPDATE": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}

# The day of a project's time zone that holds an instant: day D is [start of D, start of D + 1), where a start that the
# clock shows twice is the later one. The date alone would go back and forth where clocks are set back over midnight.
LOCAL_DAY = """
    CREATE FUNCTION local_day(instant timestamptz, zone_name text) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (instant AT TIME ZONE zone_name)::date
        - CASE WHEN instant < ((instant AT TIME ZONE zone_name)::date::timestamp AT TIME ZONE zone_name)
               THEN 1 ELSE 0 END
"""


def _changed(event: str, columns: str) -> str:
    if event == "INSERT":
        return f"SELECT {columns} FROM new_rows"
    if event == "DELETE":
        return f"SELECT {columns} FROM old_rows"
    old, new = f"SELECT {columns} FROM old_rows", f"SELECT {columns} FROM new_rows"
    return f"({old} EXCEPT {new}) UNION ALL ({new} EXCEPT {old})"


def _insert(event: str, columns: str, marks: str) -> str:
    joint = " " if marks.strip().startswith("SELECT") else ", "
    return (
        f"INSERT INTO dirty_keys (summary, tenant_id, key, since) "
        f"WITH changed AS ({_changed(event, columns)}){joint}{marks};"
    )


def upgrade() -> None:
    # The functions work with their owner's rights, whichever rights the writer has, and only on our own tables.
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    options = f"LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp"
    op.execute(LOCAL_DAY)
    # A name that PostgreSQL does not know would stop every summary that asks for a local day.
    # Safe: projects are few, and reading them all takes no time.
    op.execute(
        "ALTER TABLE projects ADD CONSTRAINT ck_projects_timezone "
        "CHECK ((TIMESTAMPTZ '2000-01-01 00:00:00+00' AT TIME ZONE timezone) IS NOT NULL)"
    )
    op.execute(
        f"""
        CREATE FUNCTION mark_everything_dirty() RETURNS trigger {options} AS $$ BEGIN
            INSERT INTO dirty_keys (summary, tenant_id, key)
            SELECT s.summary, t.id, '*' FROM tenants t CROSS JOIN unnest(TG_ARGV) AS s(summary);
            RETURN NULL;
        END $$
        """
    )
    for table, (columns, marks, summaries) in WATCHED.items():
        events = ("UPDATE",) if table in ONLY_UPDATES else tuple(TRANSITIONS)
        branches = " ".join(f"IF TG_OP = '{event}' THEN {_insert(event, columns, marks)} END IF;" for event in events)
        op.execute(
            f"CREATE FUNCTION mark_dirty_{table}() RETURNS trigger {options} AS $$ BEGIN {branches} RETURN NULL; END $$"
        )
        for event in events:
            op.execute(
                f"CREATE TRIGGER mark_dirty_{event.lower()} AFTER {event} ON {table} {TRANSITIONS[event]} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION mark_dirty_{table}()"
            )
        names = ", ".join(f"'{name}'" for name in summaries)
        op.execute(
            f"CREATE TRIGGER mark_dirty_truncate AFTER TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION mark_everything_dirty({names})"
        )


def downgrade() -> None:
    for table in WATCHED:
        op.execute(f"DROP FUNCTION mark_dirty_{table}() CASCADE")
    op.execute("DROP FUNCTION mark_everything_dirty() CASCADE")
    op.execute("ALTER TABLE projects DROP CONSTRAINT ck_projects_timezone")
    op.execute("DROP FUNCTION local_day(timestamptz, text)")
