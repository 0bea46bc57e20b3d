"""Whose the rows of each table are, and what the API's role may do with them: decided here and nowhere else.

The migrations carry this into the database as row-level security and grants, and a contract test compares the two; a
new table without a decision fails it. docs/tenancy.md says what it means. No SQL belongs here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Table

API_ROLE = "plumbline_api"
WORKERS_ROLE = "plumbline_workers"
ALL_COLUMNS = ()
"""In place of names of columns: the whole table."""


class Own(NamedTuple):
    """Each row names its tenant. A row with NULL is nobody's, and hidden, unless it is a default for all."""

    column: str = "tenant_id"
    defaults_are_shown: bool = False


class Child(NamedTuple):
    """Each row belongs to the tenant of another: of that row of `parent` whose `key` is what `column` says."""

    column: str
    parent: str
    key: str = "id"


class NoTenants(NamedTuple):
    """The rows are of no tenant: either the same for all, or of the platform alone. There is no row-level security."""

    reason: str


Whose = Own | Child | NoTenants

WHOSE: Mapping[str, Whose] = {
    # A table whose tenant_id is never NULL is its tenant's and need not be named here.
    "tenants": Own("id"),
    "users": Child("id", "tenant_users", "user_id"),
    # Of a platform-wide row a tenant sees nothing: it may be about anybody.
    "audit_events": Own(),
    "audit_logs": Own(),
    "audit_logs_archive": Own(),
    "change_log": Own(),
    "data_subject_requests": Own(),
    "job_keys": Own(),
    "job_runs": Own(),
    "notifications": Own(),
    "outbox_events": Own(),
    "personal_access_tokens": Own(),
    "user_invitations": Own(),
    "workflow_sagas": Own(),
    # A row with NULL holds for every tenant that has none of its own, so each may see it, and none may change it.
    "browser_configurations": Own(defaults_are_shown=True),
    "job_schedules": Own(defaults_are_shown=True),
    "retention_policies": Own(defaults_are_shown=True),
    "settings": Own(defaults_are_shown=True),
    "severity_mappings": Own(defaults_are_shown=True),
    "test_environments": Own(defaults_are_shown=True),
    # Projects and what hangs on them.
    "monthly_metrics": Child("project_id", "projects"),
    "project_financials": Child("project_id", "projects"),
    "project_metrics": Child("project_id", "projects"),
    "repository_configs": Child("repository_id", "repositories"),
    "test_case_analytics": Child("project_id", "projects"),
    "test_execution_summary": Child("project_id", "projects"),
    # Tests.
    "allure_scenarios": Child("allure_report_id", "allure_report"),
    "allure_steps": Child("scenario_id", "allure_scenarios"),
    "suites": Child("repository_id", "repositories"),
    "test_case_comments": Child("test_case_id", "test_cases"),
    "test_plan_test_cases": Child("test_plan_id", "test_plans"),
    "test_plans": Child("project_id", "projects"),
    "test_reports": Child("test_run_id", "test_runs"),
    "test_run_results": Child("test_run_id", "test_runs"),
    "test_runs": Child("project_id", "projects"),
    "test_runs_attachments": Child("test_run_id", "test_runs"),
    "test_runs_comments": Child("test_run_id", "test_runs"),
    "test_runs_view": Child("project_id", "projects"),
    "test_steps": Child("test_case_id", "test_cases"),
    # Documents, bugs, messages, workflows.
    "bug_budget_metadata": Child("bug_budget_id", "bug_budget"),
    "bug_budget_view": Child("id", "bug_budget"),
    "data_subject_request_events": Child("request_id", "data_subject_requests"),
    "document_comments": Child("document_id", "documents"),
    "document_engagements": Child("document_id", "documents"),
    "document_versions": Child("document_id", "documents"),
    "notification_deliveries": Child("channel_id", "notification_channels"),
    "prd_review_cache": Child("prd_review_id", "prd_reviews"),
    "workflow_saga_steps": Child("saga_id", "workflow_sagas"),
    # What comes in.
    "doubtful_objects": Child("sync_scope_id", "sync_scopes"),
    "staged_payloads": Child("sync_scope_id", "sync_scopes"),
    "sync_rejects": Child("sync_scope_id", "sync_scopes"),
    "sync_scopes": Child("connection_id", "connections"),
    "sync_windows": Child("sync_scope_id", "sync_scopes"),
    "watermarks": Child("sync_scope_id", "sync_scopes"),
    "webhook_deliveries": Child("connection_id", "connections"),
    "webhook_delivery_keys": Child("connection_id", "connections"),
    # The same for every tenant.
    "document_templates": NoTenants("what the platform offers to all"),
    "menu_visibilities": NoTenants("one menu for all"),
    "permissions": NoTenants("a dictionary"),
    "role_has_permissions": NoTenants("a dictionary"),
    "roles": NoTenants("a dictionary"),
    # The platform's alone; see CLOSED.
    "accounts": NoTenants("a person may belong to several tenants"),
    "capture_switches": NoTenants("what holds for a table holds for all its rows"),
    "content_storage": NoTenants("equal contents of several tenants are one row"),
    "editor_images": NoTenants("nothing says which text shows an image"),
    "password_history": NoTenants("a person may belong to several tenants"),
    "password_resets": NoTenants("a person may belong to several tenants"),
    "role_audit_logs": NoTenants("rights on the whole platform"),
    "sessions": NoTenants("a person may belong to several tenants"),
    "user_permissions": NoTenants("rights on the whole platform"),
    "user_roles": NoTenants("rights on the whole platform"),
    "verification_tokens": NoTenants("an address belongs to no tenant"),
}

REFERENCES_WITHOUT_KEY: Mapping[str, Mapping[str, str]] = {
    "jira_issue_changes": {"connection_id": "connections"},
    "job_runs": {"parent_id": "job_runs", "root_id": "job_runs"},
}
"""Columns that name a row of a tenant's table without a foreign key. Like those with one they may be set by a tenant
to rows of its own only."""

CHECKED_AT_INSERT: Mapping[str, str] = {
    "job_runs": "jobs of a tenant may come from a schedule or a job of the platform, and be cancelled all the same",
}
"""Tables whose references are checked of new rows only; the API's role may not change them later."""

MAY_BE_NAMED_BY_ALL = ("tenants", "users")
"""Tables whose rows may be named by whoever knows their number: tenants, because the policy compares them anyway, and
users, because what a person did stays theirs when they leave the tenant."""

CLOSED: Mapping[str, str] = {
    "accounts": "tokens of OAuth providers",
    "capture_switches": "what operators decide",
    "content_storage": "contents of all tenants",
    "dirty_keys": "what the workers have to do",
    "doubtful_objects": "what the workers have to do",
    "editor_images": "images of all tenants",
    "outbox_events": "what the workers have to do",
    "password_history": "hashes of passwords",
    "password_resets": "tokens",
    "role_audit_logs": "people of all tenants",
    "sessions": "tokens",
    "staged_payloads": "payloads as received, for replay only",
    "user_permissions": "people of all tenants",
    "user_roles": "people of all tenants",
    "verification_tokens": "tokens",
}
"""Tables that the API's role has no right on, with what they hold."""

UNREADABLE: Mapping[str, tuple[str, ...]] = {
    "connections": ("auth",),
    "hmac_secrets": ("secret",),
    "notification_channels": ("target",),
    "personal_access_tokens": ("token_hash",),
    "user_invitations": ("token",),
    "users": ("google_id", "password", "preferences", "remember_token"),
}
"""Columns that the API's role cannot read, of tables that it can. Whatever is added to such a table is unreadable too
until a migration grants it."""

# Never INSERT on tenant_users or users: whoever is a member of a tenant is seen by it.
WRITABLE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "connections": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "flake_scores": {"UPDATE": ("is_quarantined", "quarantined_at")},
    "import_logs": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS},
    "job_keys": {"INSERT": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "job_runs": {
        "INSERT": ALL_COLUMNS,
        "UPDATE": ("status", "attempts", "run_after", "sent_at", "sent_count", "finished_at", "error", "updated_at"),
    },
    "job_schedules": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "notification_channels": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "notification_rules": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "notifications": {"UPDATE": ("read_at", "updated_at")},
    "personal_access_tokens": {
        "UPDATE": ("last_used_at", "last_used_ip", "last_used_user_agent", "revoked_at", "revoked_by", "updated_at")
    },
    "projects": {"INSERT": ALL_COLUMNS},
    "repositories": {"INSERT": ALL_COLUMNS, "UPDATE": ("provider",)},
    "retention_policies": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "sync_scopes": {"INSERT": ALL_COLUMNS, "UPDATE": ALL_COLUMNS, "DELETE": ALL_COLUMNS},
    "webhook_deliveries": {"INSERT": ALL_COLUMNS},
    "webhook_delivery_keys": {"INSERT": ALL_COLUMNS},
}
"""What the API's role may write, by table and verb: what its routes write, and nothing else."""


DRAWN_FROM: Mapping[str, str] = {"job_runs": "job_runs_id_seq"}
"""Sequences that the API's role draws numbers from, by table: a job's keys are written with its number, before it."""


def whose(table: Table) -> Whose:
    """Whose the rows of a table are.

    Raises:
        LookupError: nobody has decided it.
    """
    column = table.c.get("tenant_id")
    if table.name in WHOSE:
        return WHOSE[table.name]
    if column is not None and not column.nullable:
        return Own()
    raise LookupError(f"models/tables/isolation.py does not say whose the rows of {table.name} are")


def references(table: Table) -> dict[str, str]:
    """Column to table: the rows of tenants that a row names, beside the one that makes it its tenant's."""
    rule = whose(table)
    if isinstance(rule, NoTenants):
        return {}
    named = {
        key.parent.name: key.column.table.name
        for key in table.foreign_keys
        if not isinstance(whose(key.column.table), NoTenants) and key.column.table.name not in MAY_BE_NAMED_BY_ALL
    }
    named |= REFERENCES_WITHOUT_KEY.get(table.name, {})
    if isinstance(rule, Child):
        named.pop(rule.column, None)
    return dict(sorted(named.items()))
