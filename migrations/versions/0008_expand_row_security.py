"""Rows of one tenant are kept from another by row-level security.

`plumbline_api` sees and writes the rows of the tenant that the setting `plumbline.tenant_id` names,
`plumbline_workers` all rows; no other role sees any, the tables' owner included, unless it is a member or a superuser.
docs/tenancy.md tells whose each table's rows are, and who is to be a member of what.

Roles belong to the whole server and may serve other databases of it, so they are made where they are missing and never
dropped.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

API = "plumbline_api"
WORKERS = "plumbline_workers"

OWN = (
    "allure_report", "audit_events", "audit_logs", "audit_logs_archive", "bot_rules", "bug_analytics_daily",
    "bug_budget", "bug_budget_policies", "bug_history", "business_calendars", "calendar_holidays", "change_log",
    "connections", "data_subject_requests", "decision_logs", "dirty_keys", "documents", "entity_metadata",
    "erasure_ledger", "flake_scores", "gitlab_deployment_merge_requests", "gitlab_deployments",
    "gitlab_environments", "gitlab_events", "gitlab_jobs", "gitlab_mr_activities", "gitlab_mr_contributors",
    "gitlab_mr_lead_times", "gitlab_pipelines", "hmac_secrets", "identity_decisions", "import_logs", "jira_fields",
    "jira_issue_changes", "jira_lead_times", "jira_statuses", "jira_table_history", "jira_table_history_archive",
    "job_runs", "legal_holds", "metric_restatements", "metric_weights", "monthly_contributions",
    "notification_channels", "notification_rules", "notifications", "outbox_events", "owner_rules",
    "personal_access_tokens", "portfolio_metrics", "prd_reviews", "projects", "repositories", "sla_policies",
    "status_mappings", "telemetry_events", "tenant_users", "test_cases", "user_identities", "user_invitations",
    "workflow_sagas",
)  # fmt: skip

DEFAULTS = (
    "browser_configurations", "job_schedules", "retention_policies", "settings", "severity_mappings",
    "test_environments",
)  # fmt: skip

CHILDREN = {
    "allure_scenarios": ("allure_report_id", "allure_report", "id"),
    "allure_steps": ("scenario_id", "allure_scenarios", "id"),
    "bug_budget_metadata": ("bug_budget_id", "bug_budget", "id"),
    "bug_budget_view": ("id", "bug_budget", "id"),
    "data_subject_request_events": ("request_id", "data_subject_requests", "id"),
    "document_comments": ("document_id", "documents", "id"),
    "document_engagements": ("document_id", "documents", "id"),
    "document_versions": ("document_id", "documents", "id"),
    "monthly_metrics": ("project_id", "projects", "id"),
    "notification_deliveries": ("channel_id", "notification_channels", "id"),
    "prd_review_cache": ("prd_review_id", "prd_reviews", "id"),
    "project_financials": ("project_id", "projects", "id"),
    "project_metrics": ("project_id", "projects", "id"),
    "repository_configs": ("repository_id", "repositories", "id"),
    "staged_payloads": ("sync_scope_id", "sync_scopes", "id"),
    "suites": ("repository_id", "repositories", "id"),
    "sync_rejects": ("sync_scope_id", "sync_scopes", "id"),
    "sync_scopes": ("connection_id", "connections", "id"),
    "sync_windows": ("sync_scope_id", "sync_scopes", "id"),
    "test_case_analytics": ("project_id", "projects", "id"),
    "test_case_comments": ("test_case_id", "test_cases", "id"),
    "test_execution_summary": ("project_id", "projects", "id"),
    "test_plan_test_cases": ("test_plan_id", "test_plans", "id"),
    "test_plans": ("project_id", "projects", "id"),
    "test_reports": ("test_run_id", "test_runs", "id"),
    "test_run_results": ("test_run_id", "test_runs", "id"),
    "test_runs": ("project_id", "projects", "id"),
    "test_runs_attachments": ("test_run_id", "test_runs", "id"),
    "test_runs_comments": ("test_run_id", "test_runs", "id"),
    "test_runs_view": ("project_id", "projects", "id"),
    "test_steps": ("test_case_id", "test_cases", "id"),
    "users": ("id", "tenant_users", "user_id"),
    "watermarks": ("sync_scope_id", "sync_scopes", "id"),
    "webhook_deliveries": ("connection_id", "connections", "id"),
    "webhook_delivery_keys": ("connection_id", "connections", "id"),
    "workflow_saga_steps": ("saga_id", "workflow_sagas", "id"),
}

NAMED = {
    "allure_report": {"project_id": "projects", "repository_id?": "repositories"},
    "allure_scenarios": {"test_case_id?": "test_cases"},
    "bug_analytics_daily": {"project_id": "projects"},
    "bug_budget": {"connection_id?": "connections", "project_id?": "projects"},
    "bug_budget_policies": {"project_id?": "projects"},
    "bug_history": {"bug_budget_id": "bug_budget"},
    "calendar_holidays": {"business_calendar_id": "business_calendars"},
    "document_comments": {"parent_id?": "document_comments"},
    "documents": {"parent_id?": "documents", "project_id": "projects"},
    "erasure_ledger": {"request_id?": "data_subject_requests"},
    "flake_scores": {"test_case_id": "test_cases"},
    "gitlab_deployment_merge_requests": {"connection_id": "connections", "deployment_id": "gitlab_deployments"},
    "gitlab_deployments": {
        "connection_id": "connections",
        "project_id?": "projects",
        "repository_id?": "repositories",
        "sync_scope_id": "sync_scopes",
    },
    "gitlab_environments": {"connection_id": "connections", "sync_scope_id": "sync_scopes"},
    "gitlab_events": {"connection_id": "connections", "project_id?": "projects"},
    "gitlab_jobs": {"connection_id": "connections", "project_id?": "projects", "sync_scope_id": "sync_scopes"},
    "gitlab_mr_activities": {"connection_id": "connections", "project_id?": "projects"},
    "gitlab_mr_contributors": {"connection_id": "connections", "project_id?": "projects"},
    "gitlab_mr_lead_times": {
        "connection_id": "connections",
        "project_id?": "projects",
        "repository_id?": "repositories",
        "sync_scope_id": "sync_scopes",
    },
    "gitlab_pipelines": {
        "connection_id": "connections",
        "project_id?": "projects",
        "repository_id?": "repositories",
        "sync_scope_id": "sync_scopes",
    },
    "hmac_secrets": {"repository_id?": "repositories"},
    "identity_decisions": {"identity_id": "user_identities", "other_identity_id?": "user_identities"},
    "jira_fields": {"connection_id": "connections"},
    "jira_issue_changes": {"connection_id": "connections"},
    "jira_lead_times": {"bug_budget_id?": "bug_budget", "connection_id": "connections", "project_id?": "projects"},
    "jira_statuses": {"connection_id": "connections"},
    "jira_table_history": {"connection_id": "connections", "project_id?": "projects", "sync_scope_id": "sync_scopes"},
    "job_runs": {"parent_id?": "job_runs", "root_id?": "job_runs", "schedule_id?": "job_schedules"},
    "monthly_contributions": {"project_id?": "projects"},
    "notification_deliveries": {"notification_id?": "notifications", "rule_id?": "notification_rules"},
    "notification_rules": {"channel_id": "notification_channels"},
    "owner_rules": {"repository_id": "repositories"},
    "prd_reviews": {"project_id?": "projects"},
    "repositories": {"project_id": "projects"},
    "sla_policies": {"project_id?": "projects"},
    "status_mappings": {"connection_id?": "connections"},
    "suites": {"parent_id?": "suites"},
    "sync_scopes": {"project_id": "projects", "repository_id?": "repositories"},
    "telemetry_events": {"repository_id?": "repositories"},
    "test_case_analytics": {"repository_id?": "repositories"},
    "test_case_comments": {"parent_id?": "test_case_comments"},
    "test_cases": {"repository_id?": "repositories", "suite_id?": "suites"},
    "test_plan_test_cases": {"test_case_id": "test_cases"},
    "test_plans": {"repository_id?": "repositories"},
    "test_run_results": {"bug_budget_id?": "bug_budget", "test_case_id": "test_cases"},
    "test_runs": {
        "allure_report_id?": "allure_report",
        "repository_id?": "repositories",
        "test_plan_id?": "test_plans",
    },
    "test_runs_attachments": {"test_case_id?": "test_cases"},
    "test_runs_comments": {"test_plan_id?": "test_plans"},
}

SHARED = ("document_templates", "menu_visibilities", "permissions", "role_has_permissions", "roles")

CLOSED = ("dirty_keys", "outbox_events", "staged_payloads")

READABLE = {
    "connections": (
        "id, tenant_id, kind, name, base_url, options, status, last_ok_at, last_error, created_at, updated_at"
    ),
    "hmac_secrets": "id, tenant_id, repository_id, name, created_by, last_used_at, revoked_at, created_at, updated_at",
    "notification_channels": "id, tenant_id, kind, name, is_active, created_at, updated_at",
    "personal_access_tokens": (
        "id, tenant_id, tokenable_type, tokenable_id, name, abilities, last_used_at, last_used_ip, "
        "last_used_user_agent, expires_at, revoked_at, revoked_by, created_at, updated_at"
    ),
    "user_invitations": "id, email, tenant_id, invited_by, role, accepted_at, expires_at, created_at, updated_at",
    "users": (
        "id, name, email, google_avatar, auth_provider, role, avatar, last_login_at, password_changed_at, is_active, "
        "email_verified_at, job_role, squad, created_at, updated_at"
    ),
}

WRITABLE = {
    "connections": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "flake_scores": {"UPDATE": "is_quarantined, quarantined_at"},
    "import_logs": {"INSERT": "", "UPDATE": ""},
    "job_runs": {
        "INSERT": "",
        "UPDATE": "status, attempts, run_after, sent_at, sent_count, finished_at, error, updated_at",
    },
    "job_schedules": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "notification_channels": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "notification_rules": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "notifications": {"UPDATE": "read_at, updated_at"},
    "personal_access_tokens": {
        "UPDATE": "last_used_at, last_used_ip, last_used_user_agent, revoked_at, revoked_by, updated_at"
    },
    "projects": {"INSERT": ""},
    "repositories": {"INSERT": "", "UPDATE": "provider"},
    "retention_policies": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "sync_scopes": {"INSERT": "", "UPDATE": "", "DELETE": ""},
    "webhook_deliveries": {"INSERT": ""},
    "webhook_delivery_keys": {"INSERT": ""},
}

# Once for each statement, and NULL, which no row equals, where nothing is set: of a setting that was local to a
# transaction an empty text is left behind.
TENANT = "(SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)"

# What a person has to do is raised as P0001, whose message is shown as it is. Another database's migration may make the
# roles at the same time.
ROLES = """
    DO $$
    DECLARE
        each text;
        missing text := '';
        options text := CASE WHEN current_setting('server_version_num')::int >= 160000
                             THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
    BEGIN
        FOREACH each IN ARRAY ARRAY['plumbline_api', 'plumbline_workers'] LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = each) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', each);
                END IF;
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    missing := missing || format(' CREATE ROLE %I NOLOGIN ROLE %I;', each, current_user);
                    CONTINUE;
            END;
            BEGIN
                IF NOT pg_has_role(current_user, each, 'USAGE') THEN
                    EXECUTE format('GRANT %I TO %I', each, current_user) || options;
                END IF;
            EXCEPTION
                WHEN unique_violation THEN NULL;
                WHEN insufficient_privilege THEN NULL;
            END;
            IF NOT pg_has_role(current_user, each, 'USAGE') THEN
                missing := missing || format(' GRANT %I TO %I;', each, current_user);
            END IF;
        END LOOP;
        IF missing <> '' THEN
            RAISE EXCEPTION 'Row-level security needs what % may not do. An administrator has to run first:%',
                current_user, missing;
        END IF;
    END $$
"""

# A policy that reads its own table would never end: what a function asks is a query of its own, by its caller's rights.
ROW_IS_VISIBLE = """
    CREATE FUNCTION row_is_visible(table_name regclass, row_id bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $$
    DECLARE found boolean;
    BEGIN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE id = $1)', table_name) INTO found USING row_id;
        RETURN found;
    END $$
"""

# A token is looked up before it is known whose rows may be seen, so this looks with its owner's rights, and answers
# only who knows the token's hash.
AUTHENTICATE = """
    CREATE FUNCTION authenticate_token(
        sha256_hex text, OUT token_id bigint, OUT tenant_id bigint, OUT tokenable_type text, OUT tokenable_id bigint,
        OUT abilities jsonb
    ) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
        SELECT p.id, p.tenant_id, p.tokenable_type, p.tokenable_id, p.abilities
        FROM personal_access_tokens p LEFT JOIN tenants t ON t.id = p.tenant_id
        WHERE p.token_hash = sha256_hex AND p.revoked_at IS NULL
          AND (p.expires_at IS NULL OR p.expires_at > clock_timestamp())
          AND (t.id IS NULL OR t.status IN ('active', 'trial'))
    $$
"""


def upgrade() -> None:
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    # At once, so that other databases of the server need not wait for the rest of this.
    with op.get_context().autocommit_block():
        op.execute(ROLES)
    # Safe: nothing has written notifications yet, and tenants are few.
    op.add_column(
        "notifications",
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Whose business it is; NULL: the platform's"),
    )
    # Safe: as above.
    op.create_index("ix_notifications_tenant_id", "notifications", ["tenant_id"])
    # Safe: as above.
    op.create_foreign_key("fk_notifications_tenant_id", "notifications", "tenants", ["tenant_id"], ["id"])
    op.execute(ROW_IS_VISIBLE)
    op.execute(AUTHENTICATE.format(schema=schema))
    op.execute("REVOKE ALL ON FUNCTION authenticate_token(text) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION authenticate_token(text) TO {API}, {WORKERS}")
    for table, condition in _tenants_tables().items():
        _isolate(table, condition)
    for table in DEFAULTS:
        op.execute(f"CREATE POLICY defaults ON {table} FOR SELECT TO {API} USING (tenant_id IS NULL)")
    _grant(schema)


def _tenants_tables() -> dict[str, str]:
    """Table to what is true of a tenant's row of it."""
    children = {
        table: f"EXISTS (SELECT FROM {parent} p WHERE p.{key} = {table}.{column})"
        for table, (column, parent, key) in CHILDREN.items()
    }
    return {"tenants": f"id = {TENANT}"} | dict.fromkeys((*OWN, *DEFAULTS), f"tenant_id = {TENANT}") | children


def _isolate(table: str, condition: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY workers ON {table} TO {WORKERS} USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY tenant ON {table} TO {API} USING ({condition})")
    if table in NAMED:
        check = " AND ".join(_names_own(table, column, target) for column, target in NAMED[table].items())
        verb = "FOR INSERT TO {} " if table == "job_runs" else "FOR ALL TO {} USING (true) "
        op.execute(f"CREATE POLICY names_own ON {table} AS RESTRICTIVE {verb.format(API)} WITH CHECK ({check})")


def _names_own(table: str, column: str, target: str) -> str:
    """That a column names a row of the tenant. A foreign key alone is content with any tenant's."""
    name = column.removesuffix("?")
    if target == table:
        condition = f"row_is_visible('{target}', {name})"
    else:
        own = " AND p.tenant_id IS NOT NULL" if target in DEFAULTS else ""
        condition = f"EXISTS (SELECT FROM {target} p WHERE p.id = {table}.{name}{own})"
    return f"({name} IS NULL OR {condition})" if column.endswith("?") else condition


def _grant(schema: str) -> None:
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {API}, {WORKERS}")
    # What is made later is open to the workers and closed to the API.
    for default in ("", f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} "):
        every = "" if default else f"ALL {{}} IN SCHEMA {schema}"
        tables, sequences = (every.format(kind) or kind for kind in ("TABLES", "SEQUENCES"))
        op.execute(f"{default}GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {WORKERS}")
        op.execute(f"{default}GRANT USAGE ON {sequences} TO {WORKERS}")
    shown = {*_tenants_tables(), *SHARED} - {*CLOSED}
    for table in sorted(shown):
        columns = f" ({READABLE[table]})" if table in READABLE else ""
        op.execute(f"GRANT SELECT{columns} ON {table} TO {API}")
    for table, verbs in WRITABLE.items():
        for verb, columns in verbs.items():
            op.execute(f"GRANT {verb}{f' ({columns})' if columns else ''} ON {table} TO {API}")


def downgrade() -> None:
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for table in _tenants_tables():
        for policy in ("tenant", "names_own", "defaults", "workers"):
            op.execute(f"DROP POLICY IF EXISTS {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for kind in ("TABLES", "SEQUENCES"):
        op.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON {kind} FROM {WORKERS}")
        op.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {API}, {WORKERS}")
    op.execute("DROP FUNCTION authenticate_token(text)")
    op.execute("DROP FUNCTION row_is_visible(regclass, bigint)")
    op.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {API}, {WORKERS}")
    op.drop_column("notifications", "tenant_id")
