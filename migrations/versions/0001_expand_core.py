"""Tenants, projects, connections, syncing, jobs, Jira, GitLab, Allure, tests, summaries and read models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


ENUMS = {
    "tenant_plan": ("free", "starter", "professional", "enterprise"),
    "tenant_status": ("active", "suspended", "cancelled", "trial"),
    "connection_status": ("active", "paused", "denied"),
    "catch_up_rule": ("none", "last", "all"),
    "project_status": ("active", "shipped", "deferred", "cancelled"),
    "severity": ("critical", "high", "medium", "low"),
    "status_category": ("new", "indeterminate", "done"),
    "job_trigger": ("schedule", "webhook", "api", "cli", "event"),
    "job_status": ("queued", "running", "succeeded", "failed", "retrying", "cancelled", "lost"),
    "report_status": ("pending", "processing", "completed", "failed"),
    "window_state": ("pending", "running", "done", "failed"),
    "defect_stage": ("pre_development", "development", "post_development", "release_production"),
    "run_status": ("pending", "running", "completed", "failed", "cancelled"),
    "attempt_status": ("passed", "failed", "broken", "skipped", "unknown"),
    "result_status": ("passed", "failed", "skipped", "blocked"),
}


def enum(name: str) -> postgresql.ENUM:
    return postgresql.ENUM(*ENUMS[name], name=name, create_type=False)


def hours_between(start: str, end: str) -> sa.Computed:
    seconds = f"EXTRACT(epoch FROM ({end} - {start}))"
    return sa.Computed(f"CASE WHEN {end} >= {start} THEN round(({seconds} / 3600)::numeric, 4) END", persisted=True)


def upgrade() -> None:
    for name, values in ENUMS.items():
        postgresql.ENUM(*values, name=name).create(op.get_bind())
    op.create_table(
        "tenants",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=True),
        sa.Column("subdomain", sa.Text(), nullable=True),
        sa.Column(
            "plan",
            enum("tenant_plan"),
            server_default="free",
            nullable=False,
        ),
        sa.Column(
            "status",
            enum("tenant_status"),
            server_default="active",
            nullable=False,
        ),
        sa.Column("max_users", sa.Integer(), server_default="5", nullable=False),
        sa.Column("max_projects", sa.Integer(), server_default="3", nullable=False),
        sa.Column("features", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("billing_email", sa.Text(), nullable=True),
        sa.Column("subscription_id", sa.Text(), nullable=True),
        sa.Column("trial_ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("domain", name=op.f("uq_tenants_domain")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
        sa.UniqueConstraint("slug", name=op.f("uq_tenants_slug")),
        sa.UniqueConstraint("subdomain", name=op.f("uq_tenants_subdomain")),
        comment="Customers of the platform; every tenant-scoped row names one.",
    )
    op.create_table(
        "test_runs_view",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False, comment="test_runs.id"),
        sa.Column("test_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("test_plan_title", sa.Text(), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("project_title", sa.Text(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("repository_title", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("total_cases", sa.Integer(), nullable=False),
        sa.Column("passed_cases", sa.Integer(), nullable=False),
        sa.Column("failed_cases", sa.Integer(), nullable=False),
        sa.Column("skipped_cases", sa.Integer(), nullable=False),
        sa.Column("blocked_cases", sa.Integer(), nullable=False),
        sa.Column("execution_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("execution_duration", sa.Numeric(precision=14, scale=3), nullable=True, comment="Seconds"),
        sa.Column("created_by_id", sa.BigInteger(), nullable=True),
        sa.Column("created_by_name", sa.Text(), nullable=True),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs_view")),
        comment="Test runs as the platform lists them, one row each, ready to read.",
    )
    op.create_index(op.f("ix_test_runs_view_project_id"), "test_runs_view", ["project_id"], unique=False)
    op.create_table(
        "connections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="jira, gitlab, allure or github"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("auth", sa.Text(), nullable=False, comment="Fernet token of a JSON object; see SECRET_KEYS"),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "status",
            enum("connection_status"),
            server_default="active",
            nullable=False,
        ),
        sa.Column("last_ok_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_connections_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_connections_tenant_id_name")),
        comment="Configured instances of sources; `auth` is encrypted.",
    )
    op.create_index(op.f("ix_connections_tenant_id"), "connections", ["tenant_id"], unique=False)
    op.create_table(
        "dirty_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="Key columns joined by a colon"),
        sa.Column(
            "since", sa.DateTime(timezone=True), nullable=True, comment="From when on the key is to be computed again"
        ),
        sa.Column("marked_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_dirty_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dirty_keys")),
        comment="What the summaries still have to compute; written by triggers in the writer's transaction.",
    )
    op.create_index("ix_dirty_keys_summary", "dirty_keys", ["summary", "id"], unique=False)
    op.create_index(op.f("ix_dirty_keys_tenant_id"), "dirty_keys", ["tenant_id"], unique=False)
    op.create_table(
        "job_schedules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False, comment="Five fields, or six with seconds last"),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("catch_up", enum("catch_up_rule"), server_default="last", nullable=False),
        sa.Column("last_scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_job_schedules_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_job_schedules_name")),
        comment="Tasks that run by the clock: cron, time zone and what happens to missed ticks.",
    )
    op.create_index(op.f("ix_job_schedules_tenant_id"), "job_schedules", ["tenant_id"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column(
            "status",
            enum("project_status"),
            server_default="active",
            nullable=False,
        ),
        sa.Column(
            "timezone",
            sa.Text(),
            server_default="UTC",
            nullable=False,
            comment="Reporting time zone: when a day of it ends",
        ),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("updated_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_projects_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("tenant_id", "title", name=op.f("uq_projects_tenant_id_title")),
        comment="What quality is measured of; scopes of connections map to these.",
    )
    op.create_index(op.f("ix_projects_tenant_id"), "projects", ["tenant_id"], unique=False)
    op.create_table(
        "severity_mappings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("source_name", sa.Text(), nullable=False, comment="Lower case"),
        sa.Column("severity", enum("severity"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_severity_mappings_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_severity_mappings")),
        sa.UniqueConstraint(
            "tenant_id",
            "source_name",
            name=op.f("uq_severity_mappings_tenant_id_source_name"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Site names of severities and priorities (lower case) to critical, high, medium, low.",
    )
    op.create_table(
        "user_identities",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False, comment="jira, gitlab, github, allure or git"),
        sa.Column(
            "external_id",
            sa.Text(),
            nullable=False,
            comment="The instance's host and the account's unchanging id there",
        ),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("is_bot", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("bot_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_user_identities_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_identities")),
        sa.UniqueConstraint(
            "tenant_id", "source", "external_id", name=op.f("uq_user_identities_tenant_id_source_external_id")
        ),
        comment="Accounts at the sources; several may belong to one person.",
    )
    op.create_index(op.f("ix_user_identities_tenant_id"), "user_identities", ["tenant_id"], unique=False)
    op.create_index(op.f("ix_user_identities_user_id"), "user_identities", ["user_id"], unique=False)
    op.create_table(
        "bug_analytics_daily",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, comment="Title of the project"),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("bugs_created", sa.Integer(), nullable=False),
        sa.Column("bugs_resolved", sa.Integer(), nullable=False, comment="Entries into a resolution"),
        sa.Column("bugs_closed", sa.Integer(), nullable=False, comment="Entries into the done category"),
        sa.Column("bugs_reopened", sa.Integer(), nullable=False, comment="Exits from the done category"),
        sa.Column(
            "avg_resolution_hours",
            sa.Numeric(precision=14, scale=4),
            nullable=True,
            comment="Created to closed, of those closed that day; NULL is none",
        ),
        sa.Column("open_bugs", sa.Integer(), nullable=False, comment="At the day's end"),
        sa.Column("critical_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("high_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("medium_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("low_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_bug_analytics_daily_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_bug_analytics_daily_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bug_analytics_daily")),
        sa.UniqueConstraint("project_id", "date", name=op.f("uq_bug_analytics_daily_project_id_date")),
        # Deferrable, so that it is checked at a statement's end: titles change hands in one.
        sa.UniqueConstraint(
            "tenant_id",
            "project",
            "date",
            name=op.f("uq_bug_analytics_daily_tenant_id_project_date"),
            deferrable=True,
            initially="IMMEDIATE",
        ),
        comment="Bugs created, resolved, reopened and open on each day, folded from every issue's events.",
    )
    op.create_table(
        "bug_budget",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=True),
        sa.Column("issue_id", sa.Text(), nullable=True),
        sa.Column("jira_key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("issue_type", sa.Text(), nullable=False),
        sa.Column("final_issue_type", sa.Text(), nullable=True),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("severity_issue", enum("severity"), nullable=True),
        sa.Column("sprint", sa.Text(), nullable=True),
        sa.Column("status_category", sa.Text(), nullable=True),
        sa.Column("assignee_final", sa.Text(), nullable=True),
        sa.Column("assignee_id", sa.Text(), nullable=True),
        sa.Column("reporter", sa.Text(), nullable=True),
        sa.Column("reporter_id", sa.Text(), nullable=True),
        sa.Column("creator", sa.Text(), nullable=True),
        sa.Column("creator_id", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("created_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_date", sa.Date(), nullable=True),
        sa.Column("last_synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("reopen_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_response_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sla_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sla_breached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("priority_score", sa.Numeric(), nullable=True),
        sa.Column("revenue_impact_daily", sa.Numeric(), nullable=True),
        sa.Column("is_blocker", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("defect_age_days", sa.Integer(), nullable=True, comment="Business days"),
        sa.Column("has_linked_test_execution", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("linked_issues", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_bug_budget_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_bug_budget_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_bug_budget_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bug_budget")),
        sa.UniqueConstraint("tenant_id", "jira_key", name=op.f("uq_bug_budget_tenant_id_jira_key")),
        comment="Bugs, as the platform shows them; derived from the mirror in the same transaction.",
    )
    op.create_index("ix_bug_budget_issue", "bug_budget", ["connection_id", "issue_id"], unique=True)
    op.create_index(
        "ix_bug_budget_open",
        "bug_budget",
        ["project_id"],
        unique=False,
        postgresql_where=sa.text("is_open AND deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_bug_budget_project_id"), "bug_budget", ["project_id"], unique=False)
    op.create_table(
        "gitlab_events",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("author_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_type", sa.Text(), nullable=True),
        sa.Column("target_iid", sa.BigInteger(), nullable=True),
        sa.Column("push_action", sa.Text(), nullable=True),
        sa.Column("push_ref_type", sa.Text(), nullable=True),
        sa.Column("push_commits", sa.Integer(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_gitlab_events_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_events_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_events_tenant_id")),
        sa.PrimaryKeyConstraint("connection_id", "external_id", name=op.f("pk_gitlab_events")),
        comment="Activity of GitLab projects; kept after GitLab has forgotten it.",
    )
    op.create_index("ix_gitlab_events_month", "gitlab_events", ["project_id", "occurred_at"], unique=False)
    op.create_index(op.f("ix_gitlab_events_tenant_id"), "gitlab_events", ["tenant_id"], unique=False)
    op.create_table(
        "gitlab_mr_activities",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("mr_id", sa.Integer(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column(
            "activity",
            sa.Text(),
            nullable=False,
            comment="authored, reviewed, approved, unapproved, merged, closed, reopened",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_mr_activities_connection_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_mr_activities_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_mr_activities_tenant_id")),
        sa.PrimaryKeyConstraint(
            "connection_id", "external_project_id", "mr_id", "external_id", name=op.f("pk_gitlab_mr_activities")
        ),
        comment="What each account did to each merge request; contributor tables are counted from it.",
    )
    op.create_index(
        "ix_gitlab_mr_activities_month", "gitlab_mr_activities", ["project_id", "occurred_at"], unique=False
    )
    op.create_index(op.f("ix_gitlab_mr_activities_tenant_id"), "gitlab_mr_activities", ["tenant_id"], unique=False)
    op.create_table(
        "gitlab_mr_contributors",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("project_name", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("is_bot", sa.Boolean(), nullable=False),
        sa.Column(
            "contributions",
            sa.Integer(),
            sa.Computed("authored + reviewed + approved + merged", persisted=True),
            nullable=False,
        ),
        sa.Column("authored", sa.Integer(), nullable=False),
        sa.Column("reviewed", sa.Integer(), nullable=False),
        sa.Column("approved", sa.Integer(), nullable=False),
        sa.Column("merged", sa.Integer(), nullable=False),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_mr_contributors_connection_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_mr_contributors_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_mr_contributors_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_mr_contributors")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "username",
            name=op.f("uq_gitlab_mr_contributors_tenant_id_connection_id_external_project_id_username"),
        ),
        comment="Merge requests authored, reviewed, approved and merged, by account and GitLab project.",
    )
    op.create_index(
        op.f("ix_gitlab_mr_contributors_connection_id"), "gitlab_mr_contributors", ["connection_id"], unique=False
    )
    op.create_index(
        op.f("ix_gitlab_mr_contributors_project_id"), "gitlab_mr_contributors", ["project_id"], unique=False
    )
    op.create_table(
        "jira_fields",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("field_type", sa.Text(), nullable=True),
        sa.Column("field_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True, comment="sprint, epic_link, story_points, severity, …"),
        sa.Column("is_custom", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("sort_order", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_jira_fields_connection_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jira_fields_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jira_fields")),
        sa.UniqueConstraint("connection_id", "field_id", name=op.f("uq_jira_fields_connection_id_field_id")),
        comment="Fields of each Jira instance; `role` says which custom field means what.",
    )
    op.create_index(op.f("ix_jira_fields_tenant_id"), "jira_fields", ["tenant_id"], unique=False)
    op.create_table(
        "jira_issue_changes",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("issue_id", sa.Text(), nullable=False),
        sa.Column("change_id", sa.Text(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=True),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("field", sa.Text(), nullable=False, comment="The field's id where Jira gives one, else its name"),
        sa.Column("field_name", sa.Text(), nullable=False),
        sa.Column("from_value", sa.Text(), nullable=True),
        sa.Column("from_text", sa.Text(), nullable=True),
        sa.Column("to_value", sa.Text(), nullable=True),
        sa.Column("to_text", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "connection_id", "issue_id", "change_id", "item_index", name=op.f("pk_jira_issue_changes")
        ),
        comment="Every item of every issue's changelog; the events that bugs and times are folded from.",
    )
    op.create_index(
        "ix_jira_issue_changes_moves",
        "jira_issue_changes",
        ["connection_id", "field", "issue_id"],
        unique=False,
        postgresql_where=sa.text("field IN ('issuekey', 'key', 'issuetype')"),
    )
    op.create_table(
        "jira_statuses",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("status_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("category", enum("status_category"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_jira_statuses_connection_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jira_statuses_tenant_id")),
        sa.PrimaryKeyConstraint("connection_id", "status_id", name=op.f("pk_jira_statuses")),
        comment="Statuses of each Jira instance by id: names repeat, ids do not.",
    )
    op.create_index(op.f("ix_jira_statuses_tenant_id"), "jira_statuses", ["tenant_id"], unique=False)
    op.create_table(
        "job_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("schedule_id", sa.BigInteger(), nullable=True),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "parent_id",
            sa.BigInteger(),
            nullable=True,
            comment="The job that enqueued it; followers wait for all of the root's",
        ),
        sa.Column("root_id", sa.BigInteger(), nullable=True),
        sa.Column("trigger", enum("job_trigger"), nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("queueing_lock", sa.Text(), nullable=True, comment="Never two waiting with the same"),
        sa.Column("celery_task_id", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True, comment="Host and process that runs it"),
        sa.Column(
            "status",
            enum("job_status"),
            server_default="queued",
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "sent_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its message was last given to the broker",
        ),
        sa.Column("sent_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rows_read", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rows_written", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["job_schedules.id"], name=op.f("fk_job_runs_schedule_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_job_runs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
        comment="The truth about every job: what, why, when, how it went, what it read and wrote.",
    )
    op.create_index(op.f("ix_job_runs_parent_id"), "job_runs", ["parent_id"], unique=False)
    op.create_index(op.f("ix_job_runs_root_id"), "job_runs", ["root_id"], unique=False)
    op.create_index(op.f("ix_job_runs_schedule_id"), "job_runs", ["schedule_id"], unique=False)
    op.create_index("ix_job_runs_task", "job_runs", ["task", "created_at"], unique=False)
    op.create_index(op.f("ix_job_runs_tenant_id"), "job_runs", ["tenant_id"], unique=False)
    op.create_index(
        "ix_job_runs_unfinished",
        "job_runs",
        ["run_after"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running', 'retrying')"),
    )
    op.create_index(
        "uq_job_runs_queueing_lock",
        "job_runs",
        ["queueing_lock"],
        unique=True,
        postgresql_where=sa.text("status = 'queued' AND queueing_lock IS NOT NULL"),
    )
    op.create_index(
        "uq_job_runs_tick",
        "job_runs",
        ["schedule_id", "scheduled_for"],
        unique=True,
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.create_table(
        "monthly_contributions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("month_name", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("squad", sa.Text(), nullable=True),
        sa.Column("is_bot", sa.Boolean(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("mr_created", sa.Integer(), nullable=False),
        sa.Column("mr_approved", sa.Integer(), nullable=False),
        sa.Column("repo_pushes", sa.Integer(), nullable=False),
        sa.Column("total_events", sa.Integer(), nullable=False),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_monthly_contributions_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_monthly_contributions_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monthly_contributions")),
        sa.UniqueConstraint(
            "tenant_id",
            "year",
            "month",
            "username",
            "project_id",
            name=op.f("uq_monthly_contributions_tenant_id_year_month_username_project_id"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Merge requests created and approved, pushes and events, by account, project and month.",
    )
    op.create_index(op.f("ix_monthly_contributions_project_id"), "monthly_contributions", ["project_id"], unique=False)
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False, comment="gitlab, github, allure, …"),
        sa.Column("external_id", sa.Text(), nullable=False, comment="The instance's host and the id or path there"),
        sa.Column("web_url", sa.Text(), nullable=True),
        sa.Column("default_branch", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_repositories_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_repositories_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint(
            "tenant_id", "provider", "external_id", name=op.f("uq_repositories_tenant_id_provider_external_id")
        ),
        comment="Code repositories; test cases and merge requests hang on them.",
    )
    op.create_index(op.f("ix_repositories_project_id"), "repositories", ["project_id"], unique=False)
    op.create_index(op.f("ix_repositories_tenant_id"), "repositories", ["tenant_id"], unique=False)
    op.create_table(
        "test_execution_summary",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("total_runs", sa.Integer(), nullable=False),
        sa.Column(
            "passed_runs", sa.Integer(), nullable=False, comment="Runs with a passed result, none failed or blocked"
        ),
        sa.Column("failed_runs", sa.Integer(), nullable=False, comment="Runs with a failed result"),
        sa.Column("skipped_runs", sa.Integer(), nullable=False, comment="Runs in which everything was skipped"),
        sa.Column("blocked_runs", sa.Integer(), nullable=False, comment="Runs with a blocked result and none failed"),
        sa.Column("automated_count", sa.Integer(), nullable=False, comment="Distinct automated cases with a result"),
        sa.Column("manual_count", sa.Integer(), nullable=False, comment="Distinct manual cases with a result"),
        sa.Column(
            "avg_execution_time",
            sa.Numeric(precision=10, scale=2),
            nullable=True,
            comment="Seconds a run; NULL is unknown",
        ),
        sa.Column("total_test_cases", sa.Integer(), nullable=False, comment="Distinct cases with a result"),
        sa.Column("results_count", sa.Integer(), nullable=False, comment="Valid results, one a case and run"),
        sa.Column("passed_results", sa.Integer(), nullable=False),
        sa.Column("failed_results", sa.Integer(), nullable=False),
        sa.Column(
            "pass_rate",
            sa.Numeric(precision=7, scale=4),
            nullable=True,
            comment="passed / (passed + failed); NULL is no data",
        ),
        sa.Column(
            "first_attempt_pass_rate",
            sa.Numeric(precision=7, scale=4),
            nullable=True,
            comment="Passed at the first attempt / decided, by test and parameters",
        ),
        sa.Column(
            "flaky_rate",
            sa.Numeric(precision=7, scale=4),
            nullable=True,
            comment="Passed after a failed attempt / decided",
        ),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_test_execution_summary_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_execution_summary")),
        sa.UniqueConstraint("project_id", "date", name=op.f("uq_test_execution_summary_project_id_date")),
        comment="Test runs of a project on a day: how many, how they ended, how long they took.",
    )
    op.create_table(
        "allure_report",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "status",
            enum("report_status"),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("execution_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("execution_stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("build_name", sa.Text(), nullable=True),
        sa.Column("commit_sha", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column(
            "environment", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_allure_report_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_allure_report_repository_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_allure_report_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allure_report")),
        sa.UniqueConstraint("project_id", "content_hash", name=op.f("uq_allure_report_project_id_content_hash")),
        comment="Folders of Allure results; the same folder twice is one report.",
    )
    op.create_index(op.f("ix_allure_report_repository_id"), "allure_report", ["repository_id"], unique=False)
    op.create_index(op.f("ix_allure_report_tenant_id"), "allure_report", ["tenant_id"], unique=False)
    op.create_table(
        "bug_budget_metadata",
        sa.Column("bug_budget_id", sa.BigInteger(), nullable=False),
        sa.Column("epic_hierarchy", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("assignee_details", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("date_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("analysis_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("classification_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("report_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("story_points_data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("version_fields", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("raw_jira_data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["bug_budget_id"], ["bug_budget.id"], name=op.f("fk_bug_budget_metadata_bug_budget_id")
        ),
        sa.PrimaryKeyConstraint("bug_budget_id", name=op.f("pk_bug_budget_metadata")),
        comment="What else Jira says of a bug, by group.",
    )
    op.create_table(
        "bug_history",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("bug_budget_id", sa.BigInteger(), nullable=False),
        sa.Column("change_id", sa.Text(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("old_value", sa.Text(), nullable=True),
        sa.Column("new_value", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bug_budget_id"], ["bug_budget.id"], name=op.f("fk_bug_history_bug_budget_id")),
        sa.PrimaryKeyConstraint("bug_budget_id", "change_id", "item_index", name=op.f("pk_bug_history")),
        comment="Changelog items of bugs.",
    )
    op.create_table(
        "jira_lead_times",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("issue_id", sa.Text(), nullable=False),
        sa.Column("project_key", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("issue_key", sa.Text(), nullable=False),
        sa.Column("bug_budget_id", sa.BigInteger(), nullable=True),
        sa.Column("issue_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("issue_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=True, comment="First entry into the in-progress category"
        ),
        sa.Column(
            "resolved_at", sa.DateTime(timezone=True), nullable=True, comment="Last entry into done with no later exit"
        ),
        sa.Column(
            "lead_time_hours", sa.Numeric(precision=14, scale=4), nullable=True, comment="Created to resolved_at"
        ),
        sa.Column(
            "first_lead_time_hours",
            sa.Numeric(precision=14, scale=4),
            nullable=True,
            comment="Created to the first entry into done",
        ),
        sa.Column(
            "cycle_time_hours", sa.Numeric(precision=14, scale=4), nullable=True, comment="started_at to resolved_at"
        ),
        sa.Column(
            "active_time_hours",
            sa.Numeric(precision=14, scale=4),
            nullable=True,
            comment="Time in statuses of the in-progress category",
        ),
        sa.Column(
            "time_in_status",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Hours by status name, up to the last change",
        ),
        sa.Column("reopen_count", sa.Integer(), nullable=False),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["bug_budget_id"],
            ["bug_budget.id"],
            name=op.f("fk_jira_lead_times_bug_budget_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_jira_lead_times_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_jira_lead_times_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jira_lead_times_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jira_lead_times")),
        # Deferrable, so that it is checked at a statement's end: keys change hands in one.
        sa.UniqueConstraint(
            "tenant_id",
            "issue_key",
            name=op.f("uq_jira_lead_times_tenant_id_issue_key"),
            deferrable=True,
            initially="IMMEDIATE",
        ),
        comment="Lead and cycle time, time in each status and reopens of every issue, from its changelog.",
    )
    op.create_index(op.f("ix_jira_lead_times_bug_budget_id"), "jira_lead_times", ["bug_budget_id"], unique=False)
    op.create_index("ix_jira_lead_times_issue", "jira_lead_times", ["connection_id", "issue_id"], unique=True)
    op.create_index(op.f("ix_jira_lead_times_project_id"), "jira_lead_times", ["project_id"], unique=False)
    op.create_table(
        "suites",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("order", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["suites.id"], name=op.f("fk_suites_parent_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_suites_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suites")),
        sa.UniqueConstraint(
            "repository_id",
            "parent_id",
            "title",
            name=op.f("uq_suites_repository_id_parent_id_title"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Folders of test cases.",
    )
    op.create_index(op.f("ix_suites_parent_id"), "suites", ["parent_id"], unique=False)
    op.create_table(
        "sync_scopes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "external_key", sa.Text(), nullable=False, comment="Jira project key, GitLab path or id, Allure source"
        ),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True, comment="Why the source hides it from us, in a sentence"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_sync_scopes_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_sync_scopes_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_sync_scopes_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_scopes")),
        sa.UniqueConstraint("connection_id", "external_key", name=op.f("uq_sync_scopes_connection_id_external_key")),
        comment="What is synced of a connection, and which project of ours it feeds.",
    )
    op.create_index(op.f("ix_sync_scopes_project_id"), "sync_scopes", ["project_id"], unique=False)
    op.create_index(op.f("ix_sync_scopes_repository_id"), "sync_scopes", ["repository_id"], unique=False)
    op.create_table(
        "test_plans",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="draft", nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_test_plans_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_test_plans_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_plans")),
        comment="Plans that runs follow.",
    )
    op.create_index(op.f("ix_test_plans_project_id"), "test_plans", ["project_id"], unique=False)
    op.create_index(op.f("ix_test_plans_repository_id"), "test_plans", ["repository_id"], unique=False)
    op.create_table(
        "gitlab_mr_lead_times",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("project_name", sa.Text(), nullable=False, comment="GitLab path"),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False, comment="The global id"),
        sa.Column("mr_id", sa.Integer(), nullable=False, comment="The iid"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("author_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("draft", sa.Boolean(), nullable=False),
        sa.Column("source_branch", sa.Text(), nullable=True),
        sa.Column("target_branch", sa.Text(), nullable=True),
        sa.Column("web_url", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sha", sa.Text(), nullable=True),
        sa.Column("merge_commit_sha", sa.Text(), nullable=True),
        sa.Column("squash_commit_sha", sa.Text(), nullable=True),
        sa.Column("mr_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_commit_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_review_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("merged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("merged_at_is_estimated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("merged_by", sa.Text(), nullable=True),
        sa.Column(
            "lead_time_hours",
            sa.Numeric(precision=14, scale=4),
            hours_between("mr_created_at", "merged_at"),
            nullable=True,
            comment="Created to merged",
        ),
        sa.Column(
            "first_commit_to_merge_hours",
            sa.Numeric(precision=14, scale=4),
            hours_between("LEAST(first_commit_at, mr_created_at)", "merged_at"),
            nullable=True,
            comment="From the first commit, or the creation where that was earlier, to merged",
        ),
        sa.Column(
            "time_to_first_review_hours",
            sa.Numeric(precision=14, scale=4),
            hours_between("mr_created_at", "first_review_at"),
            nullable=True,
        ),
        sa.Column(
            "review_hours",
            sa.Numeric(precision=14, scale=4),
            hours_between("first_review_at", "merged_at"),
            nullable=True,
            comment="First review to merged",
        ),
        sa.Column("commits_count", sa.Integer(), nullable=True),
        sa.Column("notes_count", sa.Integer(), nullable=True),
        sa.Column("changes_count", sa.Integer(), nullable=True),
        sa.Column("is_truncated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_mr_lead_times_connection_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_mr_lead_times_project_id")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_gitlab_mr_lead_times_repository_id")
        ),
        sa.ForeignKeyConstraint(
            ["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_gitlab_mr_lead_times_sync_scope_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_mr_lead_times_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_mr_lead_times")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "mr_id",
            name=op.f("uq_gitlab_mr_lead_times_tenant_id_connection_id_external_project_id_mr_id"),
        ),
        comment="Merge requests and how long their stages took.",
    )
    op.create_index(
        op.f("ix_gitlab_mr_lead_times_connection_id"), "gitlab_mr_lead_times", ["connection_id"], unique=False
    )
    op.create_index("ix_gitlab_mr_lead_times_merged", "gitlab_mr_lead_times", ["project_id", "merged_at"], unique=False)
    op.create_index(
        op.f("ix_gitlab_mr_lead_times_repository_id"), "gitlab_mr_lead_times", ["repository_id"], unique=False
    )
    op.create_index(
        op.f("ix_gitlab_mr_lead_times_sync_scope_id"), "gitlab_mr_lead_times", ["sync_scope_id"], unique=False
    )
    op.create_table(
        "jira_table_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("issue_id", sa.Text(), nullable=False),
        sa.Column("issuekey", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, comment="Jira project key"),
        sa.Column("issuetype", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("acceptance_criteria", sa.Text(), nullable=True),
        sa.Column("components", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("epic_link", sa.Text(), nullable=True),
        sa.Column("epic_name", sa.Text(), nullable=True),
        sa.Column("epic_status", sa.Text(), nullable=True),
        sa.Column("fix_versions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("severity_issue", sa.Text(), nullable=True, comment="As the site names it"),
        sa.Column("comment", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("comments_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("subtasks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("parent_link", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("linked_issues", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("user_journey", sa.Text(), nullable=True),
        sa.Column("service_feature", sa.Text(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("actual_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_date", sa.Date(), nullable=True),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("actual_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sprint", sa.Text(), nullable=True),
        sa.Column("sprint_id", sa.Text(), nullable=True),
        sa.Column("sprint_state", sa.Text(), nullable=True),
        sa.Column("sprint_start_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sprint_end_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sprint_complete_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_category", sa.Text(), nullable=True, comment="new, indeterminate or done"),
        sa.Column("status_category_changed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("approvers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("assignee_id", sa.Text(), nullable=True),
        sa.Column("engineer_assignee", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("collaborators", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tester_assignee", sa.Text(), nullable=True),
        sa.Column("reporter", sa.Text(), nullable=True),
        sa.Column("reporter_id", sa.Text(), nullable=True),
        sa.Column("creator", sa.Text(), nullable=True),
        sa.Column("creator_id", sa.Text(), nullable=True),
        sa.Column("story_points", sa.Numeric(), nullable=True),
        sa.Column("story_point_estimate", sa.Numeric(), nullable=True),
        sa.Column("log_work", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("original_estimate", sa.BigInteger(), nullable=True, comment="Seconds"),
        sa.Column("time_spent", sa.BigInteger(), nullable=True, comment="Seconds"),
        sa.Column("time_tracking", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("time_to_first_response", sa.DateTime(timezone=True), nullable=True),
        sa.Column("time_to_resolution", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False, comment="The source's own update time"),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "raw_jira_data",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Only where the connection asks for it",
        ),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False, comment="When it was fetched"),
        sa.Column("sync_source", sa.Text(), nullable=True),
        sa.Column("jql_query_used", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_jira_table_history_connection_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_jira_table_history_project_id")),
        sa.ForeignKeyConstraint(
            ["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_jira_table_history_sync_scope_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jira_table_history_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jira_table_history")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "issue_id",
            name=op.f("uq_jira_table_history_tenant_id_connection_id_issue_id"),
        ),
        comment="The flattened mirror of Jira, one row an issue, keyed by its unchanging id.",
    )
    op.create_index(op.f("ix_jira_table_history_connection_id"), "jira_table_history", ["connection_id"], unique=False)
    op.create_index("ix_jira_table_history_issuekey", "jira_table_history", ["issuekey"], unique=False)
    op.create_index(op.f("ix_jira_table_history_project_id"), "jira_table_history", ["project_id"], unique=False)
    op.create_index(op.f("ix_jira_table_history_sync_scope_id"), "jira_table_history", ["sync_scope_id"], unique=False)
    op.create_table(
        "staged_payloads",
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="zstd-compressed JSON"),
        sa.Column("sha256", sa.LargeBinary(), nullable=False, comment="Of the JSON before compression"),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_id", sa.BigInteger(), nullable=True),
        sa.Column("parser_version", sa.Integer(), nullable=False, comment="Of the parser that last promoted it"),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_staged_payloads_sha256_length")),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_staged_payloads_sync_scope_id")),
        sa.PrimaryKeyConstraint("sync_scope_id", "resource", "external_id", name=op.f("pk_staged_payloads")),
        comment="Payloads as received, compressed; the only full copy, and what replay reads.",
    )
    op.create_table(
        "sync_rejects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "payload",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment='{"text": …}: what was received, as far as it is text',
        ),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_sync_rejects_sync_scope_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_rejects")),
        sa.UniqueConstraint(
            "sync_scope_id", "resource", "external_id", name=op.f("uq_sync_rejects_sync_scope_id_resource_external_id")
        ),
        comment="Records that could not be mapped, with payload and reason; replayable.",
    )
    op.create_index(
        "ix_sync_rejects_open",
        "sync_rejects",
        ["sync_scope_id"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "sync_windows",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False, comment="The stream"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "run_started_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the run that planned it began, by the vendor's clock; the watermark once all are done",
        ),
        sa.Column(
            "state",
            enum("window_state"),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("page_token", sa.Text(), nullable=True),
        sa.Column("rows_seen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rows_written", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_sync_windows_sync_scope_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_windows")),
        comment="Spans of update time, each collected by one job and resumed where it stopped.",
    )
    op.create_index(op.f("ix_sync_windows_sync_scope_id"), "sync_windows", ["sync_scope_id"], unique=False)
    op.create_index(
        "ix_sync_windows_unfinished",
        "sync_windows",
        ["sync_scope_id", "resource"],
        unique=False,
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_table(
        "test_cases",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("suite_id", sa.BigInteger(), nullable=True),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("framework", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("automated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="2", nullable=False, comment="1 high, 2 medium, 3 low"),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("order", sa.Integer(), server_default="0", nullable=False),
        sa.Column("regression", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("epic_link", sa.Text(), nullable=True),
        sa.Column("linked_issue", sa.Text(), nullable=True),
        sa.Column("jira_key", sa.Text(), nullable=True),
        sa.Column("platform", sa.Text(), nullable=True),
        sa.Column("release_version", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), server_default="Moderate", nullable=False),
        sa.Column(
            "defect_stage",
            enum("defect_stage"),
            nullable=True,
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("deleted_by", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_test_cases_repository_id")),
        sa.ForeignKeyConstraint(["suite_id"], ["suites.id"], name=op.f("fk_test_cases_suite_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_test_cases_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_cases")),
        comment="Tests, manual and automated; an automated one is keyed by repository, path, name and framework.",
    )
    op.create_index(op.f("ix_test_cases_repository_id"), "test_cases", ["repository_id"], unique=False)
    op.create_index(op.f("ix_test_cases_suite_id"), "test_cases", ["suite_id"], unique=False)
    op.create_index(op.f("ix_test_cases_tenant_id"), "test_cases", ["tenant_id"], unique=False)
    op.create_index(
        "uq_test_cases_automated",
        "test_cases",
        ["repository_id", "path", "name", "framework"],
        unique=True,
        postgresql_where=sa.text("path IS NOT NULL"),
    )
    op.create_table(
        "test_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("test_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("allure_report_id", sa.BigInteger(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column(
            "status",
            enum("run_status"),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("execution_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("build_version", sa.Text(), nullable=True),
        sa.Column("commit_sha", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("ci_url", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["allure_report_id"], ["allure_report.id"], name=op.f("fk_test_runs_allure_report_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_test_runs_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_test_runs_repository_id")),
        sa.ForeignKeyConstraint(["test_plan_id"], ["test_plans.id"], name=op.f("fk_test_runs_test_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs")),
        sa.UniqueConstraint("allure_report_id", name=op.f("uq_test_runs_allure_report_id")),
        comment="Executions of tests, by people or by CI.",
    )
    op.create_index("ix_test_runs_project_date", "test_runs", ["project_id", "execution_date"], unique=False)
    op.create_index(op.f("ix_test_runs_repository_id"), "test_runs", ["repository_id"], unique=False)
    op.create_index(op.f("ix_test_runs_test_plan_id"), "test_runs", ["test_plan_id"], unique=False)
    op.create_table(
        "watermarks",
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("complete_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_id", sa.BigInteger(), nullable=True),
        sa.Column("last_full_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_watermarks_sync_scope_id")),
        sa.PrimaryKeyConstraint("sync_scope_id", "resource", name=op.f("pk_watermarks")),
        comment="How far each stream is known to be complete, by the vendor's clock.",
    )
    op.create_table(
        "allure_scenarios",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("allure_report_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", enum("attempt_status"), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=True, comment="Milliseconds"),
        sa.Column("history_id", sa.Text(), nullable=True, comment="The producer's; its rules differ between versions"),
        sa.Column("test_key", sa.Text(), nullable=False, comment="Our own identity of test and parameters"),
        sa.Column("identity_version", sa.Integer(), nullable=False),
        sa.Column(
            "attempt", sa.Integer(), nullable=True, comment="1 is the first; known once the whole report is read"
        ),
        sa.Column("is_retry", sa.Boolean(), nullable=False, comment="True for every attempt but the last"),
        sa.Column("result_uuid", sa.Text(), nullable=False),
        sa.Column("case_path", sa.Text(), nullable=False),
        sa.Column("case_name", sa.Text(), nullable=False),
        sa.Column("framework", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parameters_hash", sa.Text(), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=True),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("suite", sa.Text(), nullable=True),
        sa.Column("feature", sa.Text(), nullable=True),
        sa.Column("story", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("links", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attachments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=True, comment="How many attempts came before it"),
        sa.Column("flaky", sa.Boolean(), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=True),
        sa.Column("status_trace", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["allure_report_id"], ["allure_report.id"], name=op.f("fk_allure_scenarios_allure_report_id")
        ),
        sa.ForeignKeyConstraint(["test_case_id"], ["test_cases.id"], name=op.f("fk_allure_scenarios_test_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allure_scenarios")),
        sa.UniqueConstraint(
            "allure_report_id", "result_uuid", name=op.f("uq_allure_scenarios_allure_report_id_result_uuid")
        ),
        comment="Attempts of tests in Allure reports; every retry is a row.",
    )
    op.create_index(op.f("ix_allure_scenarios_test_case_id"), "allure_scenarios", ["test_case_id"], unique=False)
    op.create_table(
        "test_run_results",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("test_run_id", sa.BigInteger(), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=False),
        sa.Column("status", enum("result_status"), nullable=False),
        sa.Column("execution_time", sa.BigInteger(), nullable=True, comment="Milliseconds"),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("stack_trace", sa.Text(), nullable=True),
        sa.Column("screenshots", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("logs", sa.Text(), nullable=True),
        sa.Column(
            "defect_found_at_stage",
            enum("defect_stage"),
            nullable=True,
        ),
        sa.Column("bug_budget_id", sa.BigInteger(), nullable=True),
        sa.Column("defect_severity", sa.Text(), nullable=True),
        sa.Column("executed_by", sa.BigInteger(), nullable=True),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_valid", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(["bug_budget_id"], ["bug_budget.id"], name=op.f("fk_test_run_results_bug_budget_id")),
        sa.ForeignKeyConstraint(["test_case_id"], ["test_cases.id"], name=op.f("fk_test_run_results_test_case_id")),
        sa.ForeignKeyConstraint(["test_run_id"], ["test_runs.id"], name=op.f("fk_test_run_results_test_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_run_results")),
        sa.UniqueConstraint("test_run_id", "test_case_id", name=op.f("uq_test_run_results_test_run_id_test_case_id")),
        comment="How each case ended in each run; the last attempt counts.",
    )
    op.create_index(op.f("ix_test_run_results_bug_budget_id"), "test_run_results", ["bug_budget_id"], unique=False)
    op.create_index(op.f("ix_test_run_results_test_case_id"), "test_run_results", ["test_case_id"], unique=False)
    op.create_table(
        "allure_steps",
        sa.Column("scenario_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="Positions from the root, e.g. 0.2"),
        sa.Column("parent_path", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", enum("attempt_status"), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=True, comment="Milliseconds"),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scenario_id"], ["allure_scenarios.id"], name=op.f("fk_allure_steps_scenario_id")),
        sa.PrimaryKeyConstraint("scenario_id", "path", name=op.f("pk_allure_steps")),
        comment="Steps of attempts, as a tree by path.",
    )


def downgrade() -> None:
    op.drop_table("allure_steps")
    op.drop_index(op.f("ix_test_run_results_test_case_id"), table_name="test_run_results")
    op.drop_index(op.f("ix_test_run_results_bug_budget_id"), table_name="test_run_results")
    op.drop_table("test_run_results")
    op.drop_index(op.f("ix_allure_scenarios_test_case_id"), table_name="allure_scenarios")
    op.drop_table("allure_scenarios")
    op.drop_table("watermarks")
    op.drop_index(op.f("ix_test_runs_test_plan_id"), table_name="test_runs")
    op.drop_index(op.f("ix_test_runs_repository_id"), table_name="test_runs")
    op.drop_index("ix_test_runs_project_date", table_name="test_runs")
    op.drop_table("test_runs")
    op.drop_index("uq_test_cases_automated", table_name="test_cases", postgresql_where=sa.text("path IS NOT NULL"))
    op.drop_index(op.f("ix_test_cases_tenant_id"), table_name="test_cases")
    op.drop_index(op.f("ix_test_cases_suite_id"), table_name="test_cases")
    op.drop_index(op.f("ix_test_cases_repository_id"), table_name="test_cases")
    op.drop_table("test_cases")
    op.drop_index("ix_sync_windows_unfinished", table_name="sync_windows", postgresql_where=sa.text("state <> 'done'"))
    op.drop_index(op.f("ix_sync_windows_sync_scope_id"), table_name="sync_windows")
    op.drop_table("sync_windows")
    op.drop_index("ix_sync_rejects_open", table_name="sync_rejects", postgresql_where=sa.text("resolved_at IS NULL"))
    op.drop_table("sync_rejects")
    op.drop_table("staged_payloads")
    op.drop_index(op.f("ix_jira_table_history_sync_scope_id"), table_name="jira_table_history")
    op.drop_index(op.f("ix_jira_table_history_project_id"), table_name="jira_table_history")
    op.drop_index("ix_jira_table_history_issuekey", table_name="jira_table_history")
    op.drop_index(op.f("ix_jira_table_history_connection_id"), table_name="jira_table_history")
    op.drop_table("jira_table_history")
    op.drop_index(op.f("ix_gitlab_mr_lead_times_sync_scope_id"), table_name="gitlab_mr_lead_times")
    op.drop_index(op.f("ix_gitlab_mr_lead_times_repository_id"), table_name="gitlab_mr_lead_times")
    op.drop_index("ix_gitlab_mr_lead_times_merged", table_name="gitlab_mr_lead_times")
    op.drop_index(op.f("ix_gitlab_mr_lead_times_connection_id"), table_name="gitlab_mr_lead_times")
    op.drop_table("gitlab_mr_lead_times")
    op.drop_index(op.f("ix_test_plans_repository_id"), table_name="test_plans")
    op.drop_index(op.f("ix_test_plans_project_id"), table_name="test_plans")
    op.drop_table("test_plans")
    op.drop_index(op.f("ix_sync_scopes_repository_id"), table_name="sync_scopes")
    op.drop_index(op.f("ix_sync_scopes_project_id"), table_name="sync_scopes")
    op.drop_table("sync_scopes")
    op.drop_index(op.f("ix_suites_parent_id"), table_name="suites")
    op.drop_table("suites")
    op.drop_index(op.f("ix_jira_lead_times_project_id"), table_name="jira_lead_times")
    op.drop_index("ix_jira_lead_times_issue", table_name="jira_lead_times")
    op.drop_index(op.f("ix_jira_lead_times_bug_budget_id"), table_name="jira_lead_times")
    op.drop_table("jira_lead_times")
    op.drop_table("bug_history")
    op.drop_table("bug_budget_metadata")
    op.drop_index(op.f("ix_allure_report_tenant_id"), table_name="allure_report")
    op.drop_index(op.f("ix_allure_report_repository_id"), table_name="allure_report")
    op.drop_table("allure_report")
    op.drop_table("test_execution_summary")
    op.drop_index(op.f("ix_repositories_tenant_id"), table_name="repositories")
    op.drop_index(op.f("ix_repositories_project_id"), table_name="repositories")
    op.drop_table("repositories")
    op.drop_index(op.f("ix_monthly_contributions_project_id"), table_name="monthly_contributions")
    op.drop_table("monthly_contributions")
    op.drop_index("uq_job_runs_tick", table_name="job_runs", postgresql_where=sa.text("schedule_id IS NOT NULL"))
    op.drop_index(
        "uq_job_runs_queueing_lock",
        table_name="job_runs",
        postgresql_where=sa.text("status = 'queued' AND queueing_lock IS NOT NULL"),
    )
    op.drop_index(
        "ix_job_runs_unfinished",
        table_name="job_runs",
        postgresql_where=sa.text("status IN ('queued', 'running', 'retrying')"),
    )
    op.drop_index(op.f("ix_job_runs_tenant_id"), table_name="job_runs")
    op.drop_index("ix_job_runs_task", table_name="job_runs")
    op.drop_index(op.f("ix_job_runs_schedule_id"), table_name="job_runs")
    op.drop_index(op.f("ix_job_runs_root_id"), table_name="job_runs")
    op.drop_index(op.f("ix_job_runs_parent_id"), table_name="job_runs")
    op.drop_table("job_runs")
    op.drop_index(op.f("ix_jira_statuses_tenant_id"), table_name="jira_statuses")
    op.drop_table("jira_statuses")
    op.drop_index(
        "ix_jira_issue_changes_moves",
        table_name="jira_issue_changes",
        postgresql_where=sa.text("field IN ('issuekey', 'key', 'issuetype')"),
    )
    op.drop_table("jira_issue_changes")
    op.drop_index(op.f("ix_jira_fields_tenant_id"), table_name="jira_fields")
    op.drop_table("jira_fields")
    op.drop_index(op.f("ix_gitlab_mr_contributors_project_id"), table_name="gitlab_mr_contributors")
    op.drop_index(op.f("ix_gitlab_mr_contributors_connection_id"), table_name="gitlab_mr_contributors")
    op.drop_table("gitlab_mr_contributors")
    op.drop_index(op.f("ix_gitlab_mr_activities_tenant_id"), table_name="gitlab_mr_activities")
    op.drop_index("ix_gitlab_mr_activities_month", table_name="gitlab_mr_activities")
    op.drop_table("gitlab_mr_activities")
    op.drop_index(op.f("ix_gitlab_events_tenant_id"), table_name="gitlab_events")
    op.drop_index("ix_gitlab_events_month", table_name="gitlab_events")
    op.drop_table("gitlab_events")
    op.drop_index(op.f("ix_bug_budget_project_id"), table_name="bug_budget")
    op.drop_index(
        "ix_bug_budget_open", table_name="bug_budget", postgresql_where=sa.text("is_open AND deleted_at IS NULL")
    )
    op.drop_index("ix_bug_budget_issue", table_name="bug_budget")
    op.drop_table("bug_budget")
    op.drop_table("bug_analytics_daily")
    op.drop_index(op.f("ix_user_identities_user_id"), table_name="user_identities")
    op.drop_index(op.f("ix_user_identities_tenant_id"), table_name="user_identities")
    op.drop_table("user_identities")
    op.drop_table("severity_mappings")
    op.drop_index(op.f("ix_projects_tenant_id"), table_name="projects")
    op.drop_table("projects")
    op.drop_index(op.f("ix_job_schedules_tenant_id"), table_name="job_schedules")
    op.drop_table("job_schedules")
    op.drop_index(op.f("ix_dirty_keys_tenant_id"), table_name="dirty_keys")
    op.drop_index("ix_dirty_keys_summary", table_name="dirty_keys")
    op.drop_table("dirty_keys")
    op.drop_index(op.f("ix_connections_tenant_id"), table_name="connections")
    op.drop_table("connections")
    op.drop_index(op.f("ix_test_runs_view_project_id"), table_name="test_runs_view")
    op.drop_table("test_runs_view")
    op.drop_table("tenants")
    for name in ENUMS:
        postgresql.ENUM(name=name).drop(op.get_bind())
