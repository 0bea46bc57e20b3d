"""Access, documents, planning, delivery, logs, notifications, workflows, privacy and versioned configuration.

New tables, and foreign keys to users where earlier tables only had a number. No table is partitioned yet; those that
will be have the time in their primary key and no other unique key.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


ENUMS = {
    "change_type": ("insert", "update", "delete"),
    "data_subject_request_kind": ("access", "erasure", "rectification"),
    "data_subject_request_status": (
        "received",
        "verified",
        "scoped",
        "approved",
        "executed",
        "closed",
        "restricted",
        "rejected",
    ),
    "import_source": ("csv", "github", "manual"),
    "import_status": ("pending", "processing", "completed", "failed"),
    "retention_action": ("archive", "delete", "anonymise"),
    "saga_status": ("pending", "in_progress", "compensating", "completed", "failed", "rolled_back"),
    "notification_digest": ("none", "hourly", "daily"),
    "prd_status": ("draft", "review", "approved", "rejected"),
    "severity_change_rule": ("carry", "restart"),
    "reopen_rule": ("resume", "restart", "ignore"),
    "saga_step_status": ("pending", "in_progress", "completed", "failed"),
    "engagement_type": ("like", "star", "view"),
    "delivery_status": ("pending", "sent", "failed", "suppressed"),
}

# Columns of earlier tables that name who did it.
PEOPLE = (
    ("projects", "created_by"),
    ("projects", "updated_by"),
    ("test_cases", "deleted_by"),
    ("test_runs", "created_by"),
    ("test_run_results", "executed_by"),
)

# In the order of their making: each names only tables before it.
TABLES = (
    "audit_events",
    "audit_logs",
    "audit_logs_archive",
    "bug_budget_view",
    "change_log",
    "content_storage",
    "document_templates",
    "menu_visibilities",
    "notifications",
    "permissions",
    "roles",
    "users",
    "verification_tokens",
    "accounts",
    "bot_rules",
    "browser_configurations",
    "business_calendars",
    "data_subject_requests",
    "decision_logs",
    "editor_images",
    "entity_metadata",
    "import_logs",
    "jira_table_history_archive",
    "legal_holds",
    "metric_restatements",
    "metric_weights",
    "notification_channels",
    "outbox_events",
    "password_resets",
    "personal_access_tokens",
    "portfolio_metrics",
    "retention_policies",
    "role_has_permissions",
    "sessions",
    "settings",
    "tenant_users",
    "test_environments",
    "user_invitations",
    "user_permissions",
    "user_roles",
    "workflow_sagas",
    "bug_budget_policies",
    "calendar_holidays",
    "data_subject_request_events",
    "documents",
    "erasure_ledger",
    "monthly_metrics",
    "notification_rules",
    "password_history",
    "prd_reviews",
    "project_financials",
    "project_metrics",
    "sla_policies",
    "status_mappings",
    "webhook_deliveries",
    "webhook_delivery_keys",
    "workflow_saga_steps",
    "document_comments",
    "document_engagements",
    "document_versions",
    "hmac_secrets",
    "notification_deliveries",
    "owner_rules",
    "prd_review_cache",
    "repository_configs",
    "role_audit_logs",
    "telemetry_events",
    "test_case_analytics",
    "gitlab_deployments",
    "gitlab_pipelines",
    "flake_scores",
    "gitlab_deployment_merge_requests",
    "test_case_comments",
    "test_plan_test_cases",
    "test_reports",
    "test_runs_attachments",
    "test_runs_comments",
    "test_steps",
)


def enum(name: str) -> postgresql.ENUM:
    return postgresql.ENUM(name=name, create_type=False)


def upgrade() -> None:
    for name, values in ENUMS.items():
        postgresql.ENUM(*values, name=name).create(op.get_bind())
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Tenant; NULL where it concerns none"),
        sa.Column("event_type", sa.Text(), nullable=False, comment="Past tense, e.g. merge_request:merged"),
        sa.Column("aggregate_type", sa.Text(), nullable=False, comment="Kind of thing that it happened to"),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True, comment="users.id on that day"),
        sa.Column(
            "event_data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="How we know it",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="Position in the life of the aggregate, from 1"),
        sa.PrimaryKeyConstraint("id", "occurred_at", name=op.f("pk_audit_events")),
        comment="What happened in the domain, in the order of each thing's life; its state at any time follows.",
    )
    op.create_index("ix_audit_events_aggregate", "audit_events", ["aggregate_type", "aggregate_id", "sequence"])
    op.create_index("ix_audit_events_tenant", "audit_events", ["tenant_id", "occurred_at"])
    op.create_index("ix_audit_events_type", "audit_events", ["event_type", "occurred_at"])
    op.create_table(
        "audit_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Tenant; NULL where it concerns none"),
        sa.Column("user_id", sa.BigInteger(), nullable=True, comment="users.id on that day"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=True, comment="Kind of thing, e.g. project"),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.Column("old_values", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("new_values", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", "created_at", name=op.f("pk_audit_logs")),
        comment="What people did on the platform, to what, from where.",
    )
    op.create_index("ix_audit_logs_model", "audit_logs", ["model_type", "model_id", "created_at"])
    op.create_index("ix_audit_logs_tenant", "audit_logs", ["tenant_id", "created_at"])
    op.create_index("ix_audit_logs_user", "audit_logs", ["user_id", "created_at"])
    op.create_table(
        "audit_logs_archive",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Tenant; NULL where it concerns none"),
        sa.Column("user_id", sa.BigInteger(), nullable=True, comment="users.id on that day"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=True),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.Column("old_values", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("new_values", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "original_created_at", sa.DateTime(timezone=True), nullable=True, comment="NULL: created_at is the original"
        ),
        sa.Column(
            "original_updated_at", sa.DateTime(timezone=True), nullable=True, comment="NULL: updated_at is the original"
        ),
        sa.PrimaryKeyConstraint("id", "created_at", name=op.f("pk_audit_logs_archive")),
        comment="Old audit logs. Its columns begin as those of audit_logs do, so that months can be moved whole.",
    )
    op.create_index("ix_audit_logs_archive_model", "audit_logs_archive", ["model_type", "model_id", "created_at"])
    op.create_index("ix_audit_logs_archive_tenant", "audit_logs_archive", ["tenant_id", "created_at"])
    op.create_index("ix_audit_logs_archive_user", "audit_logs_archive", ["user_id", "created_at"])
    op.create_table(
        "bug_budget_view",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False, comment="bug_budget.id"),
        sa.Column("jira_key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("issue_type", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=True),
        sa.Column("assignee_final", sa.Text(), nullable=True),
        sa.Column("assignee_id", sa.Text(), nullable=True),
        sa.Column("sprint", sa.Text(), nullable=True),
        sa.Column("status_category", sa.Text(), nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("created_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("epic_name", sa.Text(), nullable=True),
        sa.Column("service_feature", sa.Text(), nullable=True),
        sa.Column(
            "resolution_time_hours",
            sa.Numeric(precision=14, scale=4),
            nullable=True,
            comment="Created to resolved; NULL while open",
        ),
        sa.Column(
            "age_days", sa.Integer(), nullable=True, comment="Whole days from creation to the resolution, or to now"
        ),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bug_budget_view")),
        comment="Bugs as the platform lists them, one row each, ready to read.",
    )
    op.create_index(
        "ix_bug_budget_view_open",
        "bug_budget_view",
        ["project_id", "created_date"],
        postgresql_where=sa.text("is_open"),
    )
    op.create_index(op.f("ix_bug_budget_view_project_id"), "bug_budget_view", ["project_id"])
    op.create_table(
        "change_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Tenant; NULL where it concerns none"),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False, comment="Primary key; columns joined by a colon"),
        sa.Column("change_type", enum("change_type"), nullable=False),
        sa.Column(
            "old_values",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Of an update only what changed",
        ),
        sa.Column(
            "new_values",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Of an update only what changed",
        ),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "changed_by", sa.Text(), nullable=True, comment="The platform's user where it says so, else the role"
        ),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False, comment="pg_current_xact_id()"),
        sa.Column("source", sa.Text(), nullable=True, comment="Which program: application_name"),
        sa.PrimaryKeyConstraint("id", "changed_at", name=op.f("pk_change_log")),
        comment="Changes of rows, whoever made them, written in the writer's own transaction.",
    )
    op.create_index("ix_change_log_changed_at", "change_log", ["changed_at"])
    op.create_index("ix_change_log_record", "change_log", ["table_name", "record_id", "changed_at"])
    op.create_index("ix_change_log_table_type", "change_log", ["table_name", "change_type", "changed_at"])
    op.create_index("ix_change_log_tenant", "change_log", ["tenant_id", "changed_at"])
    op.create_index("ix_change_log_transaction", "change_log", ["transaction_id"])
    op.create_index("ix_change_log_type", "change_log", ["change_type", "changed_at"])
    op.create_table(
        "content_storage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="SHA-256 in hexadecimal"),
        sa.Column("content_type", sa.Text(), nullable=False, comment="MIME type"),
        sa.Column("content_size", sa.BigInteger(), nullable=False, comment="Bytes"),
        sa.Column("storage_path", sa.Text(), nullable=True, comment="Where it lies outside the database"),
        sa.Column("content_data", sa.LargeBinary(), nullable=True),
        sa.Column(
            "reference_count",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="How many rows name it; 0 may be purged",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_content_storage_content_hash_is_sha256")),
        sa.CheckConstraint("content_size >= 0", name=op.f("ck_content_storage_content_size")),
        sa.CheckConstraint(
            "num_nonnulls(storage_path, content_data) >= 1", name=op.f("ck_content_storage_is_somewhere")
        ),
        sa.CheckConstraint("reference_count >= 0", name=op.f("ck_content_storage_reference_count")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_content_storage")),
        sa.UniqueConstraint("content_hash", name=op.f("uq_content_storage_content_hash")),
        comment="Contents by their hash, each stored once however many name it.",
    )
    op.create_index(
        "ix_content_storage_unused", "content_storage", ["updated_at"], postgresql_where=sa.text("reference_count = 0")
    )
    op.create_table(
        "document_templates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column(
            "variables",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Name to description",
        ),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_templates")),
        comment="What new documents may begin with.",
    )
    op.create_table(
        "menu_visibilities",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("menu_key", sa.Text(), nullable=False),
        sa.Column("menu_name", sa.Text(), nullable=False),
        sa.Column("is_visible", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("parent_key", sa.Text(), nullable=True, comment="menu_key of the entry above"),
        sa.Column("sort_order", sa.Integer(), server_default="0", nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_menu_visibilities")),
        sa.UniqueConstraint("menu_key", name=op.f("uq_menu_visibilities_menu_key")),
        comment="Which entries of the platform's menu are shown, and in which order.",
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("notifiable_type", sa.Text(), nullable=False, comment="Whom it is for: user, …"),
        sa.Column("notifiable_id", sa.BigInteger(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        comment="What people are told on the platform.",
    )
    op.create_index("ix_notifications_notifiable", "notifications", ["notifiable_type", "notifiable_id", "created_at"])
    op.create_index(
        "ix_notifications_unread",
        "notifications",
        ["notifiable_type", "notifiable_id"],
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.create_table(
        "permissions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("guard_name", sa.Text(), server_default="web", nullable=False, comment="Which way in it holds for"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_permissions")),
        sa.UniqueConstraint("name", "guard_name", name=op.f("uq_permissions_name_guard_name")),
        comment="What roles and users may be allowed to do.",
    )
    op.create_table(
        "roles",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("guard_name", sa.Text(), server_default="web", nullable=False, comment="Which way in it holds for"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("name", "guard_name", name=op.f("uq_roles_name_guard_name")),
        comment="Named sets of permissions.",
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("google_id", sa.Text(), nullable=True),
        sa.Column("google_avatar", sa.Text(), nullable=True, comment="URL"),
        sa.Column("auth_provider", sa.Text(), server_default="email", nullable=False),
        sa.Column(
            "role",
            sa.Text(),
            server_default="member",
            nullable=False,
            comment="On the platform; tenant_users has it by tenant",
        ),
        sa.Column("avatar", sa.Text(), nullable=True, comment="URL"),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "password", sa.Text(), nullable=True, comment="Hash; NULL where another provider signs the person in"
        ),
        sa.Column("job_role", sa.Text(), nullable=True),
        sa.Column("squad", sa.Text(), nullable=True),
        sa.Column("remember_token", sa.Text(), nullable=True),
        sa.Column(
            "preferences", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("google_id", name=op.f("uq_users_google_id")),
        comment="People who sign in to the platform.",
    )
    op.create_table(
        "verification_tokens",
        sa.Column("identifier", sa.Text(), nullable=False, comment="The e-mail address"),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("identifier", "token", name=op.f("pk_verification_tokens")),
        comment="Tokens that prove e-mail addresses; purged by the workers once expired.",
    )
    op.create_index(op.f("ix_verification_tokens_expires_at"), "verification_tokens", ["expires_at"])
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False, comment="oauth, oidc, email, …"),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_account_id", sa.Text(), nullable=False),
        sa.Column("access_token", sa.Text(), nullable=True),
        sa.Column("refresh_token", sa.Text(), nullable=True),
        sa.Column("id_token", sa.Text(), nullable=True),
        sa.Column("token_type", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("session_state", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="Of the access token"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_accounts_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("provider", "provider_account_id", name=op.f("uq_accounts_provider_provider_account_id")),
        comment="Accounts at OAuth providers that sign users in; written by the platform.",
    )
    op.create_index(
        "ix_accounts_expires_at", "accounts", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.create_index(op.f("ix_accounts_user_id"), "accounts", ["user_id"])
    op.create_table(
        "bot_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True, comment="jira, gitlab, …; NULL: every source"),
        sa.Column(
            "field", sa.Text(), nullable=False, comment="Which column of user_identities the pattern is held against"
        ),
        sa.Column("pattern", sa.Text(), nullable=False, comment="Regular expression, matched whole, case ignored"),
        sa.Column(
            "is_bot",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="False: an exception from later rules",
        ),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "field IN ('username', 'email', 'display_name', 'external_id')", name=op.f("ck_bot_rules_field")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_bot_rules_version")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_bot_rules_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot_rules")),
        sa.UniqueConstraint(
            "tenant_id",
            "source",
            "field",
            "pattern",
            "version",
            name=op.f("uq_bot_rules_tenant_id_source_field_pattern_version"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Which accounts are not people; the first rule that fits decides.",
    )
    op.create_table(
        "browser_configurations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="NULL: for every tenant"),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("viewport", sa.Text(), nullable=True, comment="Pixels, e.g. 1280x720"),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_browser_configurations_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_configurations")),
        sa.UniqueConstraint(
            "tenant_id",
            "browser",
            "version",
            "viewport",
            name=op.f("uq_browser_configurations_tenant_id_browser_version_viewport"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Browsers that tests run in.",
    )
    op.create_table(
        "business_calendars",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "is_default",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="For projects that name none",
        ),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column(
            "working_hours",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment='Local times: {"mon": [["09:00", "17:00"]], …}; an end not after its start is on the next day',
        ),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(TIMESTAMPTZ '2000-01-01 00:00:00+00' AT TIME ZONE timezone) IS NOT NULL",
            name=op.f("ck_business_calendars_timezone"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_business_calendars_version")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_business_calendars_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_business_calendars")),
        sa.UniqueConstraint("tenant_id", "name", "version", name=op.f("uq_business_calendars_tenant_id_name_version")),
        comment="When people work: hours of each weekday in a time zone; projects name theirs.",
    )
    op.create_table(
        "data_subject_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="NULL: the whole installation"),
        sa.Column("subject_email", sa.Text(), nullable=False),
        sa.Column("kind", enum("data_subject_request_kind"), nullable=False),
        sa.Column(
            "status",
            enum("data_subject_request_status"),
            server_default="received",
            nullable=False,
            comment="restricted: a legal hold forbids it for now",
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("completed_at >= created_at", name=op.f("ck_data_subject_requests_ends_after_start")),
        sa.CheckConstraint("due_at > created_at", name=op.f("ck_data_subject_requests_due_after_start")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_data_subject_requests_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_subject_requests")),
        comment="What people ask about the data that we have of them, and by when the law wants it done.",
    )
    op.create_index(
        "ix_data_subject_requests_open",
        "data_subject_requests",
        ["due_at"],
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_index(op.f("ix_data_subject_requests_tenant_id"), "data_subject_requests", ["tenant_id"])
    op.create_table(
        "decision_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("decision_type", sa.Text(), nullable=True),
        sa.Column("decision_owner", sa.Text(), nullable=True, comment="Name"),
        sa.Column("decision_owner_id", sa.BigInteger(), nullable=True),
        sa.Column("involved_qa", sa.Text(), nullable=True, comment="Names"),
        sa.Column("decision_date", sa.Date(), nullable=True),
        sa.Column("sprint_release", sa.Text(), nullable=True),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("impact_risk", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("related_artifacts", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_owner_id"], ["users.id"], name=op.f("fk_decision_logs_decision_owner_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_decision_logs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision_logs")),
        comment="What was decided, by whom, why, and what it puts at risk.",
    )
    op.create_index(op.f("ix_decision_logs_decision_owner_id"), "decision_logs", ["decision_owner_id"])
    op.create_index("ix_decision_logs_tags", "decision_logs", ["tags"], postgresql_using="gin")
    op.create_index(op.f("ix_decision_logs_tenant_id"), "decision_logs", ["tenant_id"])
    op.create_table(
        "editor_images",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False, comment="As stored"),
        sa.Column("original_name", sa.Text(), nullable=False, comment="As uploaded"),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes"),
        sa.Column("uploaded_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("ck_editor_images_size")),
        sa.ForeignKeyConstraint(
            ["uploaded_by"], ["users.id"], name=op.f("fk_editor_images_uploaded_by"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_editor_images")),
        comment="Images in texts that people wrote.",
    )
    op.create_index(op.f("ix_editor_images_uploaded_by"), "editor_images", ["uploaded_by"])
    op.create_table(
        "entity_metadata",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False, comment="project, test_case, …"),
        sa.Column("entity_id", sa.BigInteger(), nullable=False),
        sa.Column("meta_key", sa.Text(), nullable=False),
        sa.Column("meta_value", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_entity_metadata_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entity_metadata")),
        sa.UniqueConstraint(
            "tenant_id",
            "entity_type",
            "entity_id",
            "meta_key",
            name=op.f("uq_entity_metadata_tenant_id_entity_type_entity_id_meta_key"),
        ),
        comment="Facts about things that have no column for them.",
    )
    op.create_index("ix_entity_metadata_meta_key_meta_value", "entity_metadata", ["meta_key", "meta_value"])
    op.create_table(
        "import_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("source", enum("import_source"), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("status", enum("import_status"), server_default="pending", nullable=False),
        sa.Column("rows_total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rows_imported", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rows_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "errors",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment='[{"row": 7, "error": …}]',
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "rows_total >= 0 AND rows_imported >= 0 AND rows_failed >= 0", name=op.f("ck_import_logs_counts")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_import_logs_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_logs")),
        comment="Imports of files and of other systems' data: how many rows came in, and what the rest had wrong.",
    )
    op.create_index("ix_import_logs_created_at", "import_logs", ["tenant_id", "created_at"])
    op.create_index(op.f("ix_import_logs_tenant_id"), "import_logs", ["tenant_id"])
    op.create_table(
        "jira_table_history_archive",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("issue_id", sa.Text(), nullable=False),
        sa.Column("issuekey", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, comment="Jira project key"),
        sa.Column("issuetype", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "raw_jira_data",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="The row of the mirror, and what Jira sent",
        ),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "original_created_at", sa.DateTime(timezone=True), nullable=False, comment="jira_table_history.created"
        ),
        sa.Column(
            "original_updated_at", sa.DateTime(timezone=True), nullable=False, comment="jira_table_history.updated"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jira_table_history_archive_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jira_table_history_archive")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "issue_id",
            name=op.f("uq_jira_table_history_archive_tenant_id_connection_id_issue_id"),
        ),
        comment="Old issues of the mirror of Jira; kept when their connection is gone.",
    )
    op.create_index(op.f("ix_jira_table_history_archive_archived_at"), "jira_table_history_archive", ["archived_at"])
    op.create_index("ix_jira_table_history_archive_issuekey", "jira_table_history_archive", ["issuekey"])
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "scope",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="project, person, issue, table or span of days",
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False, comment="Who answers for it"),
        sa.Column("starts_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("review_on", sa.Date(), nullable=True, comment="When somebody looks whether it is still needed"),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("released_at >= starts_at", name=op.f("ck_legal_holds_ends_after_start")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_legal_holds_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
        comment="What must not be deleted, archived away or anonymised until it is released.",
    )
    op.create_index(
        "ix_legal_holds_active", "legal_holds", ["tenant_id"], postgresql_where=sa.text("released_at IS NULL")
    )
    op.create_index("ix_legal_holds_scope", "legal_holds", ["scope"], postgresql_using="gin")
    op.create_index(op.f("ix_legal_holds_tenant_id"), "legal_holds", ["tenant_id"])
    op.create_table(
        "metric_restatements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="As in dirty_keys"),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("old_value", sa.Text(), nullable=True),
        sa.Column("new_value", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False, comment="The late event, or the version of the configuration"),
        sa.Column("restated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_metric_restatements_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_restatements")),
        comment="Published numbers that changed after their time had closed: from what, to what and why.",
    )
    op.create_index("ix_metric_restatements_key", "metric_restatements", ["tenant_id", "summary", "key"])
    op.create_index(op.f("ix_metric_restatements_tenant_id"), "metric_restatements", ["tenant_id"])
    op.create_table(
        "metric_weights",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False, comment="health_score, priority_score, …"),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("weight", sa.Numeric(), nullable=False),
        sa.Column("good", sa.Numeric(), nullable=True, comment="At this value the component scores 1"),
        sa.Column("bad", sa.Numeric(), nullable=True, comment="At this value the component scores 0"),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("good <> bad", name=op.f("ck_metric_weights_good_is_not_bad")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_metric_weights_version")),
        sa.CheckConstraint("weight >= 0", name=op.f("ck_metric_weights_weight")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_metric_weights_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_weights")),
        sa.UniqueConstraint(
            "tenant_id",
            "metric",
            "component",
            "version",
            name=op.f("uq_metric_weights_tenant_id_metric_component_version"),
        ),
        comment="How much each component counts in a score, and what is good and bad of it.",
    )
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="slack, teams, email, webhook, …"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="Fernet token of a URL; see SECRET_KEYS"),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_notification_channels_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_channels")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_notification_channels_tenant_id_name")),
        comment="Places that messages go to: Slack, Teams, e-mail and others.",
    )
    op.create_table(
        "outbox_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Tenant; NULL where it concerns none"),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregate_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_outbox_events_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_events")),
        comment="Events that tasks raise and no change of a table shows; written with what caused them.",
    )
    op.create_index(op.f("ix_outbox_events_tenant_id"), "outbox_events", ["tenant_id"])
    op.create_index(
        "ix_outbox_events_undispatched", "outbox_events", ["id"], postgresql_where=sa.text("dispatched_at IS NULL")
    )
    op.create_table(
        "password_resets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_password_resets_ends_after_start")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_password_resets_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_password_resets")),
        sa.UniqueConstraint("token", name=op.f("uq_password_resets_token")),
        comment="Requests for a new password; a token works once and until it expires.",
    )
    op.create_index(
        "ix_password_resets_unused", "password_resets", ["email"], postgresql_where=sa.text("used_at IS NULL")
    )
    op.create_index(op.f("ix_password_resets_user_id"), "password_resets", ["user_id"])
    op.create_table(
        "personal_access_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="Whose rows it opens; NULL opens no tenant's"),
        sa.Column("tokenable_type", sa.Text(), nullable=False, comment="What it speaks for, e.g. user"),
        sa.Column("tokenable_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False, comment="SHA-256 in hexadecimal"),
        sa.Column(
            "abilities",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment='["jobs:run", …]',
        ),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_ip", postgresql.INET(), nullable=True),
        sa.Column("last_used_user_agent", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "token_hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_personal_access_tokens_token_hash_is_sha256")
        ),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_personal_access_tokens_ends_after_start")),
        sa.ForeignKeyConstraint(
            ["revoked_by"], ["users.id"], name=op.f("fk_personal_access_tokens_revoked_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_personal_access_tokens_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_access_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_personal_access_tokens_token_hash")),
        comment="Bearer tokens for the API, as hashes; the token itself is never stored.",
    )
    op.create_index(op.f("ix_personal_access_tokens_revoked_by"), "personal_access_tokens", ["revoked_by"])
    op.create_index(op.f("ix_personal_access_tokens_tenant_id"), "personal_access_tokens", ["tenant_id"])
    op.create_index("ix_personal_access_tokens_tokenable", "personal_access_tokens", ["tokenable_type", "tokenable_id"])
    op.create_table(
        "portfolio_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("total_valuation", sa.Numeric(precision=16, scale=2), nullable=True),
        sa.Column("total_infrastructure_cost", sa.Numeric(precision=16, scale=2), nullable=True, comment="A month"),
        sa.Column("active_projects", sa.Integer(), nullable=False),
        sa.Column("shipped_projects", sa.Integer(), nullable=False),
        sa.Column("deferred_projects", sa.Integer(), nullable=False),
        sa.Column("cancelled_projects", sa.Integer(), nullable=False),
        sa.Column("critical_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("high_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("medium_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("low_priority_bugs", sa.Integer(), nullable=False, comment="Open at the day's end"),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_portfolio_metrics_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portfolio_metrics")),
        sa.UniqueConstraint("tenant_id", "date", name=op.f("uq_portfolio_metrics_tenant_id_date")),
        comment="All projects of a tenant on a day: value, cost, how many of each status, open bugs.",
    )
    op.create_table(
        "retention_policies",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="NULL: every tenant without its own"),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("keep_for", sa.Interval(), nullable=False),
        sa.Column("action", enum("retention_action"), nullable=False),
        sa.Column(
            "legal_hold",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Nothing of the table may go",
        ),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("keep_for > interval '0'", name=op.f("ck_retention_policies_keep_for")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_retention_policies_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_policies")),
        sa.UniqueConstraint(
            "tenant_id",
            "table_name",
            name=op.f("uq_retention_policies_tenant_id_table_name"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="How long the rows of each table are kept, and what happens then.",
    )
    op.create_table(
        "role_has_permissions",
        sa.Column("permission_id", sa.BigInteger(), nullable=False),
        sa.Column("role_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["permission_id"],
            ["permissions.id"],
            name=op.f("fk_role_has_permissions_permission_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_has_permissions_role_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("permission_id", "role_id", name=op.f("pk_role_has_permissions")),
        comment="Which permissions each role has.",
    )
    op.create_index(op.f("ix_role_has_permissions_role_id"), "role_has_permissions", ["role_id"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("session_token", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("session_token", name=op.f("uq_sessions_session_token")),
        comment="Signed-in browsers; written by the platform, purged by the workers once expired.",
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"])
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"])
    op.create_table(
        "settings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="NULL: every tenant without its own"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), server_default="string", nullable=False, comment="How the value is read"),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_settings_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settings")),
        sa.UniqueConstraint(
            "tenant_id", "key", name=op.f("uq_settings_tenant_id_key"), postgresql_nulls_not_distinct=True
        ),
        comment="Values that people set, for a tenant or for all.",
    )
    op.create_table(
        "tenant_users",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), server_default="member", nullable=False),
        sa.Column("invited_by", sa.BigInteger(), nullable=True),
        sa.Column("joined_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["invited_by"], ["users.id"], name=op.f("fk_tenant_users_invited_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_tenant_users_tenant_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tenant_users_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("pk_tenant_users")),
        comment="Which users belong to which tenant, and as what.",
    )
    op.create_index(op.f("ix_tenant_users_invited_by"), "tenant_users", ["invited_by"])
    op.create_index(op.f("ix_tenant_users_user_id"), "tenant_users", ["user_id"])
    op.create_table(
        "test_environments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True, comment="NULL: for every tenant"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_test_environments_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_environments")),
        sa.UniqueConstraint(
            "tenant_id", "name", name=op.f("uq_test_environments_tenant_id_name"), postgresql_nulls_not_distinct=True
        ),
        comment="Places that tests run against.",
    )
    op.create_table(
        "user_invitations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("invited_by", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.Text(), server_default="member", nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_user_invitations_ends_after_start")),
        sa.ForeignKeyConstraint(
            ["invited_by"], ["users.id"], name=op.f("fk_user_invitations_invited_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_user_invitations_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_invitations")),
        sa.UniqueConstraint("token", name=op.f("uq_user_invitations_token")),
        comment="Invitations to join the platform, or a tenant of it.",
    )
    op.create_index(op.f("ix_user_invitations_invited_by"), "user_invitations", ["invited_by"])
    op.create_index(
        "ix_user_invitations_open", "user_invitations", ["email"], postgresql_where=sa.text("accepted_at IS NULL")
    )
    op.create_index(op.f("ix_user_invitations_tenant_id"), "user_invitations", ["tenant_id"])
    op.create_table(
        "user_permissions",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("permission_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["permission_id"], ["permissions.id"], name=op.f("fk_user_permissions_permission_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_permissions_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "permission_id", name=op.f("pk_user_permissions")),
        comment="Permissions of users beside those of their roles.",
    )
    op.create_index(op.f("ix_user_permissions_permission_id"), "user_permissions", ["permission_id"])
    op.create_table(
        "user_roles",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name=op.f("fk_user_roles_role_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_roles_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "role_id", name=op.f("pk_user_roles")),
        comment="Which roles each user has.",
    )
    op.create_index(op.f("ix_user_roles_role_id"), "user_roles", ["role_id"])
    op.create_table(
        "workflow_sagas",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=True),
        sa.Column("saga_type", sa.Text(), nullable=False),
        sa.Column("current_step", sa.Text(), nullable=True, comment="Name of the step that runs or ran last"),
        sa.Column("status", enum("saga_status"), server_default="pending", nullable=False),
        sa.Column(
            "context",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What its steps know",
        ),
        sa.Column("started_by", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'completed') = (completed_at IS NOT NULL)", name=op.f("ck_workflow_sagas_completed_has_a_time")
        ),
        sa.CheckConstraint(
            "status NOT IN ('failed', 'rolled_back') OR failed_at IS NOT NULL",
            name=op.f("ck_workflow_sagas_failed_has_a_time"),
        ),
        sa.ForeignKeyConstraint(
            ["started_by"], ["users.id"], name=op.f("fk_workflow_sagas_started_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_workflow_sagas_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_sagas")),
        comment="Work of several steps, each of which can be undone when a later one fails.",
    )
    op.create_index(op.f("ix_workflow_sagas_started_by"), "workflow_sagas", ["started_by"])
    op.create_index(op.f("ix_workflow_sagas_tenant_id"), "workflow_sagas", ["tenant_id"])
    op.create_index("ix_workflow_sagas_type", "workflow_sagas", ["saga_type", "created_at"])
    op.create_index(
        "ix_workflow_sagas_unfinished",
        "workflow_sagas",
        ["updated_at"],
        postgresql_where=sa.text("status IN ('pending', 'in_progress', 'compensating')"),
    )
    op.create_table(
        "bug_budget_policies",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True, comment="NULL: every project without its own"),
        sa.Column("budget_points", sa.Numeric(), nullable=False),
        sa.Column("window_days", sa.Integer(), server_default="28", nullable=False),
        sa.Column(
            "severity_weights",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text('\'{"critical": 10, "high": 5, "medium": 2, "low": 1}\''),
            nullable=False,
            comment="Points a bug",
        ),
        sa.Column(
            "reopen_factor",
            sa.Numeric(precision=4, scale=3),
            server_default=sa.text("0.5"),
            nullable=False,
            comment="Of a bug's weight, spent again when it is reopened",
        ),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("budget_points > 0", name=op.f("ck_bug_budget_policies_budget_points")),
        sa.CheckConstraint("reopen_factor BETWEEN 0 AND 1", name=op.f("ck_bug_budget_policies_reopen_factor")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_bug_budget_policies_version")),
        sa.CheckConstraint("window_days > 0", name=op.f("ck_bug_budget_policies_window_days")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_bug_budget_policies_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_bug_budget_policies_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bug_budget_policies")),
        sa.UniqueConstraint(
            "tenant_id",
            "project_id",
            "version",
            name=op.f("uq_bug_budget_policies_tenant_id_project_id_version"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="How many bugs, by weight, a project may have in a rolling window of days.",
    )
    op.create_index(op.f("ix_bug_budget_policies_project_id"), "bug_budget_policies", ["project_id"])
    op.create_table(
        "calendar_holidays",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("business_calendar_id", sa.BigInteger(), nullable=False),
        sa.Column("holiday_on", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_calendar_id"],
            ["business_calendars.id"],
            name=op.f("fk_calendar_holidays_business_calendar_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_calendar_holidays_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar_holidays")),
        sa.UniqueConstraint(
            "business_calendar_id", "holiday_on", name=op.f("uq_calendar_holidays_business_calendar_id_holiday_on")
        ),
        comment="Local dates on which nobody works, by version of a calendar.",
    )
    op.create_index(op.f("ix_calendar_holidays_tenant_id"), "calendar_holidays", ["tenant_id"])
    op.create_table(
        "data_subject_request_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["data_subject_requests.id"],
            name=op.f("fk_data_subject_request_events_request_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_subject_request_events")),
        comment="What was done about each request, and when.",
    )
    op.create_index(op.f("ix_data_subject_request_events_request_id"), "data_subject_request_events", ["request_id"])
    op.create_table(
        "documents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("content_id", sa.BigInteger(), nullable=True, comment="Instead of `content`, where it is large"),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("last_edited_by", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.BigInteger(), nullable=True),
        sa.Column("views_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("likes_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stars_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_documents_is_not_its_own_parent")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_documents_version")),
        sa.CheckConstraint(
            "views_count >= 0 AND likes_count >= 0 AND stars_count >= 0", name=op.f("ck_documents_counts")
        ),
        sa.ForeignKeyConstraint(["content_id"], ["content_storage.id"], name=op.f("fk_documents_content_id")),
        sa.ForeignKeyConstraint(
            ["deleted_by"], ["users.id"], name=op.f("fk_documents_deleted_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["last_edited_by"], ["users.id"], name=op.f("fk_documents_last_edited_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["documents.id"], name=op.f("fk_documents_parent_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_documents_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_documents_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        comment="Pages of projects' documentation, as a tree.",
    )
    op.create_index(op.f("ix_documents_content_id"), "documents", ["content_id"])
    op.create_index(op.f("ix_documents_deleted_by"), "documents", ["deleted_by"])
    op.create_index(op.f("ix_documents_last_edited_by"), "documents", ["last_edited_by"])
    op.create_index(op.f("ix_documents_parent_id"), "documents", ["parent_id"])
    op.create_index(op.f("ix_documents_project_id"), "documents", ["project_id"])
    op.create_index(op.f("ix_documents_tenant_id"), "documents", ["tenant_id"])
    op.create_table(
        "erasure_ledger",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.BigInteger(), nullable=True),
        sa.Column("subject_hash", sa.LargeBinary(), nullable=False, comment="HMAC-SHA-256 of source and external id"),
        sa.Column("tombstone_id", sa.Uuid(), nullable=False, comment="Random; stands in the account's place"),
        sa.Column("executed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "certificate",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Tables, counts, and the search that finds nothing",
        ),
        sa.CheckConstraint("octet_length(subject_hash) = 32", name=op.f("ck_erasure_ledger_subject_hash_length")),
        sa.ForeignKeyConstraint(
            ["request_id"], ["data_subject_requests.id"], name=op.f("fk_erasure_ledger_request_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_erasure_ledger_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure_ledger")),
        sa.UniqueConstraint("tenant_id", "subject_hash", name=op.f("uq_erasure_ledger_tenant_id_subject_hash")),
        comment="Which accounts were erased, without saying whose; syncs and restores are held to it.",
    )
    op.create_index(op.f("ix_erasure_ledger_request_id"), "erasure_ledger", ["request_id"])
    op.create_table(
        "monthly_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("critical_bugs", sa.Integer(), nullable=False, comment="Created in the month"),
        sa.Column("high_priority_bugs", sa.Integer(), nullable=False, comment="Created in the month"),
        sa.Column("medium_priority_bugs", sa.Integer(), nullable=False, comment="Created in the month"),
        sa.Column("low_priority_bugs", sa.Integer(), nullable=False, comment="Created in the month"),
        sa.Column("engineering_hours", sa.Numeric(precision=14, scale=4), nullable=True),
        sa.Column("engineering_cost", sa.Numeric(precision=16, scale=2), nullable=True),
        sa.Column(
            "avg_resolution_hours",
            sa.Numeric(precision=14, scale=4),
            nullable=True,
            comment="Of the bugs resolved in the month",
        ),
        sa.Column(
            "resolution_rate",
            sa.Numeric(precision=9, scale=4),
            nullable=True,
            comment="Resolved / created in the month; NULL: none was created",
        ),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("month BETWEEN 1 AND 12", name=op.f("ck_monthly_metrics_month")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_monthly_metrics_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monthly_metrics")),
        sa.UniqueConstraint("project_id", "year", "month", name=op.f("uq_monthly_metrics_project_id_year_month")),
        comment="Bugs and effort of a project in a month.",
    )
    op.create_table(
        "notification_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column(
            "filter",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What the event must contain",
        ),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False, comment="Jinja2"),
        sa.Column(
            "throttle", sa.Interval(), nullable=True, comment="At most one message of the same cause in this time"
        ),
        sa.Column("digest", enum("notification_digest"), server_default="none", nullable=False),
        sa.Column(
            "quiet_hours",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment='{"from": "20:00", "to": "08:00", "timezone": …}',
        ),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("throttle >= interval '0'", name=op.f("ck_notification_rules_throttle")),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["notification_channels.id"], name=op.f("fk_notification_rules_channel_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_notification_rules_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_rules")),
        comment="Which events are told where, in which words and how often.",
    )
    op.create_index(
        "ix_notification_rules_active",
        "notification_rules",
        ["tenant_id", "event_type"],
        postgresql_where=sa.text("is_active"),
    )
    op.create_index(op.f("ix_notification_rules_channel_id"), "notification_rules", ["channel_id"])
    op.create_index(op.f("ix_notification_rules_tenant_id"), "notification_rules", ["tenant_id"])
    op.create_table(
        "password_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("password_reset_id", sa.BigInteger(), nullable=True, comment="The reset that ended it"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["password_reset_id"],
            ["password_resets.id"],
            name=op.f("fk_password_history_password_reset_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_password_history_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_password_history")),
        comment="Hashes of former passwords, so that none is taken again.",
    )
    op.create_index(op.f("ix_password_history_password_reset_id"), "password_history", ["password_reset_id"])
    op.create_index(op.f("ix_password_history_user_id"), "password_history", ["user_id"])
    op.create_table(
        "prd_reviews",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("requester_name", sa.Text(), nullable=True),
        sa.Column("confluence_url", sa.Text(), nullable=True),
        sa.Column("page_id", sa.Text(), nullable=True, comment="Of Confluence"),
        sa.Column("status", enum("prd_status"), server_default="draft", nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("reviewed_by", sa.BigInteger(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("comments", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_prd_reviews_project_id")),
        sa.ForeignKeyConstraint(
            ["reviewed_by"], ["users.id"], name=op.f("fk_prd_reviews_reviewed_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_prd_reviews_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prd_reviews")),
        sa.UniqueConstraint("tenant_id", "request_id", name=op.f("uq_prd_reviews_tenant_id_request_id")),
        comment="Reviews of product requirements documents, most of them pages of Confluence.",
    )
    op.create_index(
        "ix_prd_reviews_open", "prd_reviews", ["tenant_id"], postgresql_where=sa.text("status IN ('draft', 'review')")
    )
    op.create_index(op.f("ix_prd_reviews_project_id"), "prd_reviews", ["project_id"])
    op.create_index(op.f("ix_prd_reviews_reviewed_by"), "prd_reviews", ["reviewed_by"])
    op.create_table(
        "project_financials",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("arr", sa.Numeric(precision=16, scale=2), nullable=True, comment="Annual recurring revenue"),
        sa.Column(
            "revenue_projection", sa.Numeric(precision=16, scale=2), nullable=True, comment="Of the next twelve months"
        ),
        sa.Column("dcf_valuation", sa.Numeric(precision=16, scale=2), nullable=True, comment="Discounted cash flow"),
        sa.Column("complexity_score", sa.Numeric(), nullable=True),
        sa.Column("appeal_score", sa.Numeric(), nullable=True),
        sa.Column("roi_score", sa.Numeric(), nullable=True),
        sa.Column("infrastructure_cost_monthly", sa.Numeric(precision=16, scale=2), nullable=True),
        sa.Column(
            "revenue_per_bug_hour",
            sa.Numeric(precision=16, scale=2),
            nullable=True,
            comment="Revenue at risk in an hour with an open bug",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "infrastructure_cost_monthly >= 0", name=op.f("ck_project_financials_infrastructure_cost_monthly")
        ),
        sa.CheckConstraint("revenue_per_bug_hour >= 0", name=op.f("ck_project_financials_revenue_per_bug_hour")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_financials_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_financials")),
        comment="What projects are worth and what they cost; amounts in the tenant's currency.",
    )
    op.create_table(
        "project_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("commit_count", sa.Integer(), nullable=True),
        sa.Column("lines_of_code", sa.BigInteger(), nullable=True),
        sa.Column("contributor_count", sa.Integer(), nullable=True),
        sa.Column("tech_stack", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "health_score",
            sa.Numeric(precision=5, scale=2),
            nullable=True,
            comment="0 to 100; NULL: too little is known",
        ),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_metrics_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_metrics")),
        sa.UniqueConstraint("project_id", "date", name=op.f("uq_project_metrics_project_id_date")),
        comment="Code and health of a project on a day.",
    )
    op.create_table(
        "sla_policies",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True, comment="NULL: every project without its own"),
        sa.Column("severity", enum("severity"), nullable=True, comment="NULL: every severity"),
        sa.Column("issue_type", sa.Text(), nullable=True, comment="NULL: every type of bug"),
        sa.Column("response_seconds", sa.BigInteger(), nullable=True, comment="Business time to the first response"),
        sa.Column("resolution_seconds", sa.BigInteger(), nullable=True, comment="Business time to the resolution"),
        sa.Column("business_calendar", sa.Text(), nullable=True, comment="Name; NULL: the project's"),
        sa.Column(
            "start_statuses",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="Empty: the creation starts it",
        ),
        sa.Column(
            "pause_statuses", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column(
            "stop_statuses",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="Empty: the done category",
        ),
        sa.Column("on_severity_change", enum("severity_change_rule"), server_default="carry", nullable=False),
        sa.Column("on_reopen", enum("reopen_rule"), server_default="resume", nullable=False),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "num_nonnulls(response_seconds, resolution_seconds) >= 1", name=op.f("ck_sla_policies_has_a_target")
        ),
        sa.CheckConstraint("resolution_seconds > 0", name=op.f("ck_sla_policies_resolution_seconds")),
        sa.CheckConstraint(
            "response_seconds <= resolution_seconds", name=op.f("ck_sla_policies_response_before_resolution")
        ),
        sa.CheckConstraint("response_seconds > 0", name=op.f("ck_sla_policies_response_seconds")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_sla_policies_version")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_sla_policies_project_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_sla_policies_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sla_policies")),
        sa.UniqueConstraint("tenant_id", "name", "version", name=op.f("uq_sla_policies_tenant_id_name_version")),
        comment="How soon bugs are to be answered and resolved, by project, severity and type.",
    )
    op.create_index(op.f("ix_sla_policies_project_id"), "sla_policies", ["project_id"])
    op.create_table(
        "status_mappings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=True, comment="NULL: every connection"),
        sa.Column(
            "source_status",
            sa.Text(),
            nullable=False,
            comment="Status id; where connection_id is NULL its name in lower case",
        ),
        sa.Column("category", enum("status_category"), nullable=False),
        sa.Column(
            "valid_from", sa.DateTime(timezone=True), nullable=False, comment="Holds from here to the next version"
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("ck_status_mappings_version")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_status_mappings_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_status_mappings_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_status_mappings")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "source_status",
            "version",
            name=op.f("uq_status_mappings_tenant_id_connection_id_source_status_version"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Which category a site's status counts as, where it is not the category that the site gives it.",
    )
    op.create_index(op.f("ix_status_mappings_connection_id"), "status_mappings", ["connection_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_key", sa.Text(), nullable=False, comment="The sender's id of it, the same when sent again"),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column(
            "headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Without tokens and signatures",
        ),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_webhook_deliveries_attempts")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_webhook_deliveries_connection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", "received_at", name=op.f("pk_webhook_deliveries")),
        comment="Webhooks as they came in: stored before they are answered, worked off after.",
    )
    op.create_index("ix_webhook_deliveries_key", "webhook_deliveries", ["connection_id", "delivery_key"])
    op.create_index(
        "ix_webhook_deliveries_unprocessed",
        "webhook_deliveries",
        ["received_at"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.create_table(
        "webhook_delivery_keys",
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_key", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.id"],
            name=op.f("fk_webhook_delivery_keys_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "delivery_key", name=op.f("pk_webhook_delivery_keys")),
        comment="Which deliveries have come, each key once, however the deliveries themselves are partitioned.",
    )
    op.create_index(op.f("ix_webhook_delivery_keys_received_at"), "webhook_delivery_keys", ["received_at"])
    op.create_table(
        "workflow_saga_steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("saga_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", enum("saga_step_status"), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "compensation_status",
            enum("saga_step_status"),
            nullable=True,
            comment="How undoing it went; NULL: not asked for",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_workflow_saga_steps_attempts")),
        sa.CheckConstraint("finished_at >= started_at", name=op.f("ck_workflow_saga_steps_ends_after_start")),
        sa.CheckConstraint("position >= 0", name=op.f("ck_workflow_saga_steps_position")),
        sa.ForeignKeyConstraint(
            ["saga_id"], ["workflow_sagas.id"], name=op.f("fk_workflow_saga_steps_saga_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_saga_steps")),
        sa.UniqueConstraint("saga_id", "name", name=op.f("uq_workflow_saga_steps_saga_id_name")),
        sa.UniqueConstraint("saga_id", "position", name=op.f("uq_workflow_saga_steps_saga_id_position")),
        comment="Steps of sagas: what each has done, and whether it was undone.",
    )
    op.create_table(
        "document_comments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("document_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True, comment="What it answers"),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("comment_type", sa.Text(), nullable=True),
        sa.Column("is_resolved", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "mentioned_user_ids",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_document_comments_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["document_comments.id"], name=op.f("fk_document_comments_parent_id")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_document_comments_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_comments")),
        comment="What people say about documents, as threads.",
    )
    op.create_index(op.f("ix_document_comments_document_id"), "document_comments", ["document_id"])
    op.create_index(
        "ix_document_comments_mentioned_user_ids", "document_comments", ["mentioned_user_ids"], postgresql_using="gin"
    )
    op.create_index(op.f("ix_document_comments_parent_id"), "document_comments", ["parent_id"])
    op.create_index(op.f("ix_document_comments_user_id"), "document_comments", ["user_id"])
    op.create_table(
        "document_engagements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("document_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("engagement_type", enum("engagement_type"), nullable=False),
        sa.Column("viewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_document_engagements_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_document_engagements_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_engagements")),
        sa.UniqueConstraint(
            "document_id",
            "user_id",
            "engagement_type",
            name=op.f("uq_document_engagements_document_id_user_id_engagement_type"),
        ),
        comment="Who likes, starred or has seen which document.",
    )
    op.create_index(op.f("ix_document_engagements_user_id"), "document_engagements", ["user_id"])
    op.create_table(
        "document_versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("document_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("version_number", sa.Integer(), nullable=False),
        sa.Column("change_summary", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("version_number >= 1", name=op.f("ck_document_versions_version_number")),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_document_versions_document_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_versions")),
        sa.UniqueConstraint(
            "document_id", "version_number", name=op.f("uq_document_versions_document_id_version_number")
        ),
        comment="Documents as they once were.",
    )
    op.create_table(
        "hmac_secrets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False, comment="Fernet token; see SECRET_KEYS"),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_hmac_secrets_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_hmac_secrets_repository_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_hmac_secrets_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hmac_secrets")),
        comment="Secrets that CI uploads and webhooks are signed with; a name is free again once revoked.",
    )
    op.create_index(op.f("ix_hmac_secrets_created_by"), "hmac_secrets", ["created_by"])
    op.create_index(op.f("ix_hmac_secrets_repository_id"), "hmac_secrets", ["repository_id"])
    op.create_index(op.f("ix_hmac_secrets_tenant_id"), "hmac_secrets", ["tenant_id"])
    op.create_index(
        "uq_hmac_secrets_name",
        "hmac_secrets",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=True),
        sa.Column("rule_id", sa.BigInteger(), nullable=True),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False, comment="What it is about; the same twice is one message"),
        sa.Column(
            "payload",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What the template is filled with",
        ),
        sa.Column("status", enum("delivery_status"), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'sent') = (sent_at IS NOT NULL)", name=op.f("ck_notification_deliveries_sent_has_a_time")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_notification_deliveries_attempts")),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name=op.f("fk_notification_deliveries_channel_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notifications.id"],
            name=op.f("fk_notification_deliveries_notification_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["notification_rules.id"], name=op.f("fk_notification_deliveries_rule_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_deliveries")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_notification_deliveries_dedupe_key")),
        comment="Messages to channels: rows first, so that none is lost and none is sent twice.",
    )
    op.create_index(op.f("ix_notification_deliveries_channel_id"), "notification_deliveries", ["channel_id"])
    op.create_index(
        "ix_notification_deliveries_due",
        "notification_deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(op.f("ix_notification_deliveries_notification_id"), "notification_deliveries", ["notification_id"])
    op.create_index(op.f("ix_notification_deliveries_rule_id"), "notification_deliveries", ["rule_id"])
    op.create_table(
        "owner_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column(
            "owners",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="Accounts, groups and e-mail addresses",
        ),
        sa.Column("position", sa.Integer(), nullable=False, comment="Order in the file"),
        sa.Column("source_sha", sa.Text(), nullable=True, comment="Commit that the file was read at"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_owner_rules_position")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_owner_rules_repository_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_owner_rules_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owner_rules")),
        sa.UniqueConstraint(
            "repository_id",
            "position",
            deferrable=True,
            initially="IMMEDIATE",
            name=op.f("uq_owner_rules_repository_id_position"),
        ),
        comment="Lines of CODEOWNERS files; the last that matches a path wins.",
    )
    op.create_index("ix_owner_rules_owners", "owner_rules", ["owners"], postgresql_using="gin")
    op.create_index(op.f("ix_owner_rules_tenant_id"), "owner_rules", ["tenant_id"])
    op.create_table(
        "prd_review_cache",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("prd_review_id", sa.BigInteger(), nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("cache_type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["prd_review_id"], ["prd_reviews.id"], name=op.f("fk_prd_review_cache_prd_review_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prd_review_cache")),
        sa.UniqueConstraint("cache_key", name=op.f("uq_prd_review_cache_cache_key")),
        comment="What is slow to find out about a review, kept until it expires.",
    )
    op.create_index(op.f("ix_prd_review_cache_expires_at"), "prd_review_cache", ["expires_at"])
    op.create_index(op.f("ix_prd_review_cache_prd_review_id"), "prd_review_cache", ["prd_review_id"])
    op.create_table(
        "repository_configs",
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_repository_configs_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", name=op.f("pk_repository_configs")),
        comment="Rules of repositories: quarantine, thresholds.",
    )
    op.create_table(
        "role_audit_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True, comment="Who did it"),
        sa.Column("user_id", sa.BigInteger(), nullable=True, comment="Whose role it is"),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False, comment="granted, revoked, …"),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["users.id"], name=op.f("fk_role_audit_logs_actor_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_role_audit_logs_repository_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_role_audit_logs_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_audit_logs")),
        comment="Who gave or took which role, and when.",
    )
    op.create_index(op.f("ix_role_audit_logs_actor_id"), "role_audit_logs", ["actor_id"])
    op.create_index(op.f("ix_role_audit_logs_repository_id"), "role_audit_logs", ["repository_id"])
    op.create_index(op.f("ix_role_audit_logs_user_id"), "role_audit_logs", ["user_id"])
    op.create_table(
        "telemetry_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_telemetry_events_repository_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_telemetry_events_tenant_id")),
        sa.PrimaryKeyConstraint("id", "occurred_at", name=op.f("pk_telemetry_events")),
        comment="What test frameworks and pipelines report of themselves.",
    )
    op.create_index(op.f("ix_telemetry_events_repository_id"), "telemetry_events", ["repository_id"])
    op.create_index(op.f("ix_telemetry_events_tenant_id"), "telemetry_events", ["tenant_id"])
    op.create_index("ix_telemetry_events_type", "telemetry_events", ["tenant_id", "event_type", "occurred_at"])
    op.create_table(
        "test_case_analytics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("total_cases", sa.Integer(), nullable=False, comment="At the day's end"),
        sa.Column("automated_cases", sa.Integer(), nullable=False),
        sa.Column("manual_cases", sa.Integer(), nullable=False),
        sa.Column("high_priority_cases", sa.Integer(), nullable=False),
        sa.Column("medium_priority_cases", sa.Integer(), nullable=False),
        sa.Column("low_priority_cases", sa.Integer(), nullable=False),
        sa.Column("regression_cases", sa.Integer(), nullable=False),
        sa.Column("definition_version", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_test_case_analytics_project_id")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_test_case_analytics_repository_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_case_analytics")),
        sa.UniqueConstraint(
            "project_id",
            "repository_id",
            "date",
            name=op.f("uq_test_case_analytics_project_id_repository_id_date"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Test cases of a repository on a day: how many, automated or not, by priority.",
    )
    op.create_index(op.f("ix_test_case_analytics_repository_id"), "test_case_analytics", ["repository_id"])
    op.create_table(
        "gitlab_deployments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False, comment="The global id"),
        sa.Column("iid", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("environment_tier", sa.Text(), nullable=True, comment="production, staging, …"),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("sha", sa.Text(), nullable=True),
        sa.Column(
            "external_pipeline_id", sa.Text(), nullable=True, comment="Several jobs of one pipeline are one deployment"
        ),
        sa.Column("deployed_by", sa.Text(), nullable=True),
        sa.Column("deployed_by_id", sa.Text(), nullable=True),
        sa.Column("deployment_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="Never taken from the update time"),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_deployments_connection_id")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_deployments_project_id")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_gitlab_deployments_repository_id")
        ),
        sa.ForeignKeyConstraint(
            ["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_gitlab_deployments_sync_scope_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_deployments_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_deployments")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "external_id",
            name=op.f("uq_gitlab_deployments_tenant_id_connection_id_external_project_id_external_id"),
        ),
        comment="Deployments to environments; delivery metrics count the successful ones to production.",
    )
    op.create_index(op.f("ix_gitlab_deployments_connection_id"), "gitlab_deployments", ["connection_id"])
    op.create_index("ix_gitlab_deployments_finished", "gitlab_deployments", ["project_id", "finished_at"])
    op.create_index(op.f("ix_gitlab_deployments_repository_id"), "gitlab_deployments", ["repository_id"])
    op.create_index(op.f("ix_gitlab_deployments_sync_scope_id"), "gitlab_deployments", ["sync_scope_id"])
    op.create_table(
        "gitlab_pipelines",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("sync_scope_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("repository_id", sa.BigInteger(), nullable=True),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False, comment="The global id"),
        sa.Column("iid", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True, comment="push, schedule, merge_request_event, …"),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("sha", sa.Text(), nullable=True),
        sa.Column("web_url", sa.Text(), nullable=True),
        sa.Column("pipeline_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Numeric(precision=14, scale=3), nullable=True),
        sa.Column("queued_seconds", sa.Numeric(precision=14, scale=3), nullable=True),
        sa.Column("coverage", sa.Numeric(), nullable=True, comment="Percent"),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["connections.id"], name=op.f("fk_gitlab_pipelines_connection_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_gitlab_pipelines_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_gitlab_pipelines_repository_id")),
        sa.ForeignKeyConstraint(["sync_scope_id"], ["sync_scopes.id"], name=op.f("fk_gitlab_pipelines_sync_scope_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_pipelines_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gitlab_pipelines")),
        sa.UniqueConstraint(
            "tenant_id",
            "connection_id",
            "external_project_id",
            "external_id",
            name=op.f("uq_gitlab_pipelines_tenant_id_connection_id_external_project_id_external_id"),
        ),
        comment="Pipelines and how they ended.",
    )
    op.create_index(op.f("ix_gitlab_pipelines_connection_id"), "gitlab_pipelines", ["connection_id"])
    op.create_index("ix_gitlab_pipelines_finished", "gitlab_pipelines", ["project_id", "finished_at"])
    op.create_index(op.f("ix_gitlab_pipelines_repository_id"), "gitlab_pipelines", ["repository_id"])
    op.create_index("ix_gitlab_pipelines_sha", "gitlab_pipelines", ["sha"])
    op.create_index(op.f("ix_gitlab_pipelines_sync_scope_id"), "gitlab_pipelines", ["sync_scope_id"])
    op.create_table(
        "flake_scores",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=False),
        sa.Column("window_days", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("flips", sa.Integer(), nullable=False, comment="Runs of the same commit that ended differently"),
        sa.Column("score", sa.Numeric(precision=7, scale=6), nullable=True, comment="NULL: too few runs to say"),
        sa.Column("lower_bound", sa.Numeric(precision=7, scale=6), nullable=True),
        sa.Column("upper_bound", sa.Numeric(precision=7, scale=6), nullable=True),
        sa.Column("is_quarantined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("algorithm", sa.Text(), nullable=False, comment="Name and version"),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "NOT is_quarantined OR quarantined_at IS NOT NULL", name=op.f("ck_flake_scores_quarantined_has_a_time")
        ),
        sa.CheckConstraint(
            "lower_bound BETWEEN 0 AND upper_bound AND upper_bound <= 1", name=op.f("ck_flake_scores_bounds")
        ),
        sa.CheckConstraint("runs >= 0 AND flips BETWEEN 0 AND runs", name=op.f("ck_flake_scores_flips_of_runs")),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_flake_scores_score")),
        sa.CheckConstraint("window_days > 0", name=op.f("ck_flake_scores_window_days")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_flake_scores_tenant_id")),
        sa.ForeignKeyConstraint(
            ["test_case_id"], ["test_cases.id"], name=op.f("fk_flake_scores_test_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flake_scores")),
        sa.UniqueConstraint(
            "test_case_id", "algorithm", "window_days", name=op.f("uq_flake_scores_test_case_id_algorithm_window_days")
        ),
        comment="How flaky each test is, with the bounds that the score is known within.",
    )
    op.create_index(
        "ix_flake_scores_quarantined",
        "flake_scores",
        ["tenant_id", "test_case_id"],
        postgresql_where=sa.text("is_quarantined"),
    )
    op.create_index(op.f("ix_flake_scores_tenant_id"), "flake_scores", ["tenant_id"])
    op.create_table(
        "gitlab_deployment_merge_requests",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("deployment_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("external_project_id", sa.Text(), nullable=False),
        sa.Column("mr_id", sa.Integer(), nullable=False, comment="The iid"),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_gitlab_deployment_merge_requests_connection_id")
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["gitlab_deployments.id"],
            name=op.f("fk_gitlab_deployment_merge_requests_deployment_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_gitlab_deployment_merge_requests_tenant_id")
        ),
        sa.PrimaryKeyConstraint(
            "deployment_id",
            "connection_id",
            "external_project_id",
            "mr_id",
            name=op.f("pk_gitlab_deployment_merge_requests"),
        ),
        comment="Which merge requests each deployment brought out, as GitLab says.",
    )
    op.create_index(
        "ix_gitlab_deployment_merge_requests_mr",
        "gitlab_deployment_merge_requests",
        ["connection_id", "external_project_id", "mr_id"],
    )
    op.create_index(
        op.f("ix_gitlab_deployment_merge_requests_tenant_id"), "gitlab_deployment_merge_requests", ["tenant_id"]
    )
    op.create_table(
        "test_case_comments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True, comment="What it answers"),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("is_resolved", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["test_case_comments.id"], name=op.f("fk_test_case_comments_parent_id")),
        sa.ForeignKeyConstraint(
            ["test_case_id"], ["test_cases.id"], name=op.f("fk_test_case_comments_test_case_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_test_case_comments_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_case_comments")),
        comment="What people say about test cases, as threads.",
    )
    op.create_index(op.f("ix_test_case_comments_parent_id"), "test_case_comments", ["parent_id"])
    op.create_index(op.f("ix_test_case_comments_test_case_id"), "test_case_comments", ["test_case_id"])
    op.create_index(op.f("ix_test_case_comments_user_id"), "test_case_comments", ["user_id"])
    op.create_table(
        "test_plan_test_cases",
        sa.Column("test_plan_id", sa.BigInteger(), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=False),
        sa.Column("order", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["test_case_id"], ["test_cases.id"], name=op.f("fk_test_plan_test_cases_test_case_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["test_plan_id"], ["test_plans.id"], name=op.f("fk_test_plan_test_cases_test_plan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("test_plan_id", "test_case_id", name=op.f("pk_test_plan_test_cases")),
        comment="Which test cases a plan has, in which order.",
    )
    op.create_index(op.f("ix_test_plan_test_cases_test_case_id"), "test_plan_test_cases", ["test_case_id"])
    op.create_table(
        "test_reports",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("test_run_id", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False, comment="html, pdf, junit, …"),
        sa.Column("content_id", sa.BigInteger(), nullable=True),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["content_id"], ["content_storage.id"], name=op.f("fk_test_reports_content_id")),
        sa.ForeignKeyConstraint(
            ["test_run_id"], ["test_runs.id"], name=op.f("fk_test_reports_test_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_reports")),
        comment="Reports of runs as files.",
    )
    op.create_index(op.f("ix_test_reports_content_id"), "test_reports", ["content_id"])
    op.create_index(op.f("ix_test_reports_test_run_id"), "test_reports", ["test_run_id"])
    op.create_table(
        "test_runs_attachments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("test_run_id", sa.BigInteger(), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=True),
        sa.Column("uploaded_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["test_case_id"], ["test_cases.id"], name=op.f("fk_test_runs_attachments_test_case_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["test_run_id"], ["test_runs.id"], name=op.f("fk_test_runs_attachments_test_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["uploaded_by"], ["users.id"], name=op.f("fk_test_runs_attachments_uploaded_by"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs_attachments")),
        comment="Files that people added to runs.",
    )
    op.create_index(op.f("ix_test_runs_attachments_test_case_id"), "test_runs_attachments", ["test_case_id"])
    op.create_index(op.f("ix_test_runs_attachments_test_run_id"), "test_runs_attachments", ["test_run_id"])
    op.create_index(op.f("ix_test_runs_attachments_uploaded_by"), "test_runs_attachments", ["uploaded_by"])
    op.create_table(
        "test_runs_comments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("comments", sa.Text(), nullable=False),
        sa.Column("test_run_id", sa.BigInteger(), nullable=False),
        sa.Column("test_plan_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["test_plan_id"], ["test_plans.id"], name=op.f("fk_test_runs_comments_test_plan_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["test_run_id"], ["test_runs.id"], name=op.f("fk_test_runs_comments_test_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_test_runs_comments_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs_comments")),
        comment="What people say about runs.",
    )
    op.create_index(op.f("ix_test_runs_comments_test_plan_id"), "test_runs_comments", ["test_plan_id"])
    op.create_index(op.f("ix_test_runs_comments_test_run_id"), "test_runs_comments", ["test_run_id"])
    op.create_index(op.f("ix_test_runs_comments_user_id"), "test_runs_comments", ["user_id"])
    op.create_table(
        "test_steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("test_case_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("expected_result", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True, comment="What to enter"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_test_steps_position")),
        sa.ForeignKeyConstraint(
            ["test_case_id"], ["test_cases.id"], name=op.f("fk_test_steps_test_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_steps")),
        sa.UniqueConstraint(
            "test_case_id",
            "position",
            deferrable=True,
            initially="IMMEDIATE",
            name=op.f("uq_test_steps_test_case_id_position"),
        ),
        comment="Steps of manual tests: what to do and what should come of it.",
    )
    op.add_column(
        "projects",
        sa.Column(
            "business_calendar", sa.Text(), nullable=True, comment="Name of its calendar; NULL: the tenant's default"
        ),
    )
    for table, column in PEOPLE:
        is_small = table == "projects"
        # Safe: nothing of ours has written these columns yet, so the index is built by one read of the table.
        op.create_index(
            f"ix_{table}_{column}",
            table,
            [column],
            postgresql_where=None if is_small else sa.text(f"{column} IS NOT NULL"),
        )
    for table, column in (*PEOPLE, ("user_identities", "user_id")):
        # Safe: checked by the same one read; the lock stops writers of the table for that time, not readers.
        op.create_foreign_key(f"fk_{table}_{column}", table, "users", [column], ["id"], ondelete="SET NULL")


def downgrade() -> None:
    for table, column in (*PEOPLE, ("user_identities", "user_id")):
        op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")
    for table, column in PEOPLE:
        op.drop_index(f"ix_{table}_{column}", table_name=table)
    op.drop_column("projects", "business_calendar")
    for table in reversed(TABLES):
        op.drop_table(table)
    for name in ENUMS:
        postgresql.ENUM(name=name).drop(op.get_bind())
