"""Triggers that mark the summary keys whose inputs changed, in the writer's own transaction, whoever the writer is.

Each watched table has one function that turns the changed rows, seen as the transition table `changed`, into keys. An
update fires it twice, with the rows as they were and as they are, so that a row that moves marks both keys.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Every project that an issue was ever counted in: where it is now, and the scopes of its former keys.
ISSUE_PROJECTS = """
    SELECT i.tenant_id, i.project_id, i.created
    FROM jira_table_history i JOIN touched t USING (connection_id, issue_id)
    WHERE i.project_id IS NOT NULL
    UNION
    SELECT i.tenant_id, s.project_id, i.created
    FROM jira_table_history i
    JOIN touched t USING (connection_id, issue_id)
    JOIN jira_issue_changes c ON c.connection_id = i.connection_id AND c.issue_id = i.issue_id AND c.field = 'key'
    JOIN sync_scopes s ON s.connection_id = i.connection_id AND s.external_key = split_part(c.from_text, '-', 1)
"""

KEYS_BY_TABLE = {
    "jira_table_history": f"""
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'jira_lead_times', tenant_id, connection_id || ':' || issue_id FROM changed;
        INSERT INTO dirty_keys (summary, tenant_id, key, since)
        WITH touched AS (SELECT DISTINCT connection_id, issue_id FROM changed)
        SELECT 'bug_analytics_daily', tenant_id, project_id::text, min(created)
        FROM (SELECT tenant_id, project_id, created FROM changed WHERE project_id IS NOT NULL
              UNION {ISSUE_PROJECTS}) AS counted
        GROUP BY tenant_id, project_id;
    """,
    "jira_issue_changes": f"""
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'jira_lead_times', tenant_id, connection_id || ':' || issue_id FROM changed;
        INSERT INTO dirty_keys (summary, tenant_id, key, since)
        WITH touched AS (SELECT DISTINCT connection_id, issue_id FROM changed)
        SELECT 'bug_analytics_daily', tenant_id, project_id::text, min(created)
        FROM ({ISSUE_PROJECTS}) AS counted
        GROUP BY tenant_id, project_id;
    """,
    "jira_statuses": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'jira_lead_times', i.tenant_id, i.connection_id || ':' || i.issue_id
        FROM jira_table_history i WHERE i.connection_id IN (SELECT connection_id FROM changed);
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'bug_analytics_daily', i.tenant_id, i.project_id::text
        FROM jira_table_history i
        WHERE i.connection_id IN (SELECT connection_id FROM changed) AND i.project_id IS NOT NULL;
    """,
    "severity_mappings": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, p.id::text
        FROM projects p JOIN changed c ON c.tenant_id IS NULL OR c.tenant_id = p.tenant_id;
    """,
    "sync_scopes": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'bug_analytics_daily', p.tenant_id, p.id::text
        FROM changed c JOIN connections n ON n.id = c.connection_id AND n.kind = 'jira' JOIN projects p ON p.id = c.project_id;
    """,
    "gitlab_mr_activities": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'gitlab_mr_contributors', tenant_id, connection_id || ':' || external_project_id FROM changed;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'monthly_contributions', c.tenant_id,
               c.project_id || ':' || to_char(c.occurred_at AT TIME ZONE p.timezone, 'YYYY-MM')
        FROM changed c JOIN projects p ON p.id = c.project_id
        WHERE c.activity IN ('authored', 'approved');
    """,
    "gitlab_events": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'monthly_contributions', c.tenant_id,
               c.project_id || ':' || to_char(c.occurred_at AT TIME ZONE p.timezone, 'YYYY-MM')
        FROM changed c JOIN projects p ON p.id = c.project_id;
    """,
    "user_identities": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'gitlab_mr_contributors', a.tenant_id, a.connection_id || ':' || a.external_project_id
        FROM changed c JOIN gitlab_mr_activities a ON a.tenant_id = c.tenant_id AND a.account_id = c.external_id
        WHERE c.source = 'gitlab';
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'monthly_contributions', a.tenant_id,
               a.project_id || ':' || to_char(a.occurred_at AT TIME ZONE p.timezone, 'YYYY-MM')
        FROM changed c
        JOIN (SELECT tenant_id, account_id, project_id, occurred_at FROM gitlab_mr_activities
              WHERE activity IN ('authored', 'approved')
              UNION ALL
              SELECT tenant_id, author_id, project_id, occurred_at FROM gitlab_events) AS a
          ON a.tenant_id = c.tenant_id AND a.account_id = c.external_id
        JOIN projects p ON p.id = a.project_id
        WHERE c.source = 'gitlab';
    """,
    "test_runs": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_runs_view', p.tenant_id, c.id::text FROM changed c JOIN projects p ON p.id = c.project_id;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_execution_summary', p.tenant_id,
               c.project_id || ':' || (c.execution_date AT TIME ZONE p.timezone)::date
        FROM changed c JOIN projects p ON p.id = c.project_id
        WHERE c.execution_date IS NOT NULL;
    """,
    "test_run_results": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_runs_view', p.tenant_id, r.id::text
        FROM changed c JOIN test_runs r ON r.id = c.test_run_id JOIN projects p ON p.id = r.project_id;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_execution_summary', p.tenant_id,
               r.project_id || ':' || (r.execution_date AT TIME ZONE p.timezone)::date
        FROM changed c JOIN test_runs r ON r.id = c.test_run_id JOIN projects p ON p.id = r.project_id
        WHERE r.execution_date IS NOT NULL;
    """,
    "allure_scenarios": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_execution_summary', p.tenant_id,
               r.project_id || ':' || (r.execution_date AT TIME ZONE p.timezone)::date
        FROM changed c JOIN test_runs r ON r.allure_report_id = c.allure_report_id JOIN projects p ON p.id = r.project_id
        WHERE r.execution_date IS NOT NULL;
    """,
    "test_cases": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_execution_summary', p.tenant_id,
               r.project_id || ':' || (r.execution_date AT TIME ZONE p.timezone)::date
        FROM changed c
        JOIN test_run_results t ON t.test_case_id = c.id
        JOIN test_runs r ON r.id = t.test_run_id
        JOIN projects p ON p.id = r.project_id
        WHERE r.execution_date IS NOT NULL;
    """,
    "test_plans": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_runs_view', p.tenant_id, r.id::text
        FROM changed c JOIN test_runs r ON r.test_plan_id = c.id JOIN projects p ON p.id = r.project_id;
    """,
    "repositories": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_runs_view', c.tenant_id, r.id::text
        FROM changed c JOIN test_runs r ON r.repository_id = c.id;
    """,
    # A project's title stands in the view; its time zone moves rows between days and months.
    "projects": """
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_runs_view', c.tenant_id, r.id::text
        FROM changed c JOIN test_runs r ON r.project_id = c.id;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'test_execution_summary', c.tenant_id,
               c.id || ':' || (r.execution_date AT TIME ZONE c.timezone)::date
        FROM changed c JOIN test_runs r ON r.project_id = c.id
        WHERE r.execution_date IS NOT NULL;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'monthly_contributions', c.tenant_id,
               c.id || ':' || to_char(a.occurred_at AT TIME ZONE c.timezone, 'YYYY-MM')
        FROM changed c
        JOIN (SELECT project_id, occurred_at FROM gitlab_mr_activities
              UNION ALL SELECT project_id, occurred_at FROM gitlab_events) AS a ON a.project_id = c.id;
        INSERT INTO dirty_keys (summary, tenant_id, key)
        SELECT DISTINCT 'bug_analytics_daily', c.tenant_id, c.id::text
        FROM changed c JOIN jira_table_history i ON i.project_id = c.id;
    """,
}

EVENTS = (("insert", "NEW"), ("delete", "OLD"), ("update", "OLD"), ("update", "NEW"))


def upgrade() -> None:
    for table, statements in KEYS_BY_TABLE.items():
        op.execute(
            f"CREATE FUNCTION mark_dirty_{table}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {statements} RETURN NULL; END $$"
        )
        for event, side in EVENTS:
            op.execute(
                f"CREATE TRIGGER mark_dirty_{event}_{side.lower()} AFTER {event.upper()} ON {table} "
                f"REFERENCING {side} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_dirty_{table}()"
            )


def downgrade() -> None:
    for table in KEYS_BY_TABLE:
        op.execute(f"DROP FUNCTION mark_dirty_{table}() CASCADE")
