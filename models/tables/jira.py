"""Jira: the mirror of every issue with its history, the bugs among them, and the dictionaries behind both."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Enum, ForeignKey, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, BigInt, Hours, Id, Tenant, Times, reference

SEVERITIES = ("critical", "high", "medium", "low")
STATUS_CATEGORIES = ("new", "indeterminate", "done")


class JiraIssue(Base):
    """One row an issue: the flattened mirror of Jira. An issue that moves project keeps its row."""

    __tablename__ = "jira_table_history"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "issue_id"),
        Index("ix_jira_table_history_issuekey", "issuekey"),
        Index("ix_jira_table_history_sprint", "connection_id", "sprint_id"),
        {"comment": "The flattened mirror of Jira, one row an issue, keyed by its unchanging id."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    project_id: Mapped[int | None] = reference("projects.id")
    issue_id: Mapped[str]
    issuekey: Mapped[str]
    project: Mapped[str] = mapped_column(comment="Jira project key")
    issuetype: Mapped[str]
    summary: Mapped[str]
    description: Mapped[str | None]
    acceptance_criteria: Mapped[str | None]
    components: Mapped[list[Any]]
    epic_link: Mapped[str | None]
    epic_name: Mapped[str | None]
    epic_status: Mapped[str | None]
    fix_versions: Mapped[list[Any]]
    priority: Mapped[str | None]
    severity_issue: Mapped[str | None] = mapped_column(comment="As the site names it")
    comment: Mapped[list[Any] | None] = mapped_column(comment="The first 500, each with its first 2,000 characters")
    comments_count: Mapped[int] = mapped_column(server_default="0", comment="Of all there are")
    subtasks: Mapped[list[Any]]
    parent: Mapped[str | None]
    parent_link: Mapped[str | None]
    labels: Mapped[list[Any]]
    linked_issues: Mapped[list[Any]]
    user_journey: Mapped[str | None]
    service_feature: Mapped[str | None]
    created: Mapped[datetime]
    start_date: Mapped[date | None]
    actual_start: Mapped[datetime | None]
    due_date: Mapped[date | None]
    end_date: Mapped[date | None]
    actual_end: Mapped[datetime | None]
    sprint: Mapped[str | None]
    sprint_id: Mapped[str | None]
    sprint_state: Mapped[str | None]
    sprint_start_date: Mapped[datetime | None]
    sprint_end_date: Mapped[datetime | None]
    sprint_complete_date: Mapped[datetime | None]
    status_id: Mapped[str | None]
    status: Mapped[str]
    status_category: Mapped[str | None] = mapped_column(comment="new, indeterminate or done")
    status_category_changed: Mapped[datetime | None]
    owner: Mapped[str | None]
    approvers: Mapped[list[Any] | None]
    assignee: Mapped[str | None]
    assignee_id: Mapped[str | None]
    engineer_assignee: Mapped[list[Any] | None]
    collaborators: Mapped[list[Any] | None]
    tester_assignee: Mapped[str | None]
    reporter: Mapped[str | None]
    reporter_id: Mapped[str | None]
    creator: Mapped[str | None]
    creator_id: Mapped[str | None]
    story_points: Mapped[Decimal | None] = mapped_column(Numeric)
    story_point_estimate: Mapped[Decimal | None] = mapped_column(Numeric)
    log_work: Mapped[list[Any] | None] = mapped_column(comment="The first 1,000")
    worklogs_count: Mapped[int] = mapped_column(server_default="0", comment="Of all there are")
    original_estimate: Mapped[BigInt | None] = mapped_column(comment="Seconds")
    time_spent: Mapped[BigInt | None] = mapped_column(comment="Seconds")
    time_tracking: Mapped[dict[str, Any] | None]
    time_to_first_response: Mapped[datetime | None] = mapped_column(
        comment="The first comment by a person who is not the reporter"
    )
    time_to_resolution: Mapped[datetime | None]
    updated: Mapped[datetime] = mapped_column(comment="The source's own update time")
    resolution: Mapped[str | None]
    resolved: Mapped[datetime | None]
    raw_jira_data: Mapped[dict[str, Any] | None] = mapped_column(comment="Only where the connection asks for it")
    synced_at: Mapped[datetime] = mapped_column(comment="When it was fetched")
    sync_source: Mapped[str | None]
    jql_query_used: Mapped[str | None]
    deleted_at: Mapped[datetime | None]


class JiraIssueChange(Base):
    """One item of an issue's changelog."""

    __tablename__ = "jira_issue_changes"
    __table_args__ = (
        # Moves and type changes are rare, and each summary of bugs asks which issues had one.
        Index(
            "ix_jira_issue_changes_moves",
            "connection_id",
            "field",
            "issue_id",
            postgresql_where=text("field IN ('issuekey', 'key', 'issuetype')"),
        ),
        {"comment": "Every item of every issue's changelog; the events that bugs and times are folded from."},
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger)
    # No foreign key: checking each of a million rows costs a good part of a first sync, and each is written in the
    # transaction of its issue, which has one.
    connection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    issue_id: Mapped[str] = mapped_column(primary_key=True)
    change_id: Mapped[str] = mapped_column(primary_key=True)
    item_index: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[str | None]
    author: Mapped[str | None]
    field: Mapped[str] = mapped_column(comment="The field's id where Jira gives one, else its name")
    field_name: Mapped[str]
    from_value: Mapped[str | None]
    from_text: Mapped[str | None]
    to_value: Mapped[str | None]
    to_text: Mapped[str | None]
    changed_at: Mapped[datetime]


class JiraField(Times, Base):
    """A field of a Jira instance and what it is for."""

    __tablename__ = "jira_fields"
    __table_args__ = (
        UniqueConstraint("connection_id", "field_id"),
        {"comment": "Fields of each Jira instance; `role` says which custom field means what."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", index=False)
    field_type: Mapped[str | None]
    field_id: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    role: Mapped[str | None] = mapped_column(comment="sprint, epic_link, story_points, severity, …")
    is_custom: Mapped[bool] = mapped_column(server_default=text("false"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    sort_order: Mapped[int | None]


class JiraStatus(Base):
    """A workflow status of a Jira instance and its category."""

    __tablename__ = "jira_statuses"
    __table_args__ = ({"comment": "Statuses of each Jira instance by id: names repeat, ids do not."},)

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    status_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str] = mapped_column(Enum(*STATUS_CATEGORIES, name="status_category"))


class JiraPriority(Base):
    """A priority of a Jira instance."""

    __tablename__ = "jira_priorities"
    __table_args__ = ({"comment": "Priorities of each Jira instance by id."},)

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    priority_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    deleted_at: Mapped[datetime | None] = mapped_column(comment="When the source no longer had it")


class JiraVersion(Base):
    """A version of a Jira project."""

    __tablename__ = "jira_versions"
    __table_args__ = ({"comment": "Versions of Jira projects, with the days on which they are to come out or did."},)

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    version_id: Mapped[str] = mapped_column(primary_key=True)
    sync_scope_id: Mapped[int | None] = reference("sync_scopes.id", ondelete="SET NULL")
    external_project_id: Mapped[str | None]
    name: Mapped[str]
    description: Mapped[str | None]
    is_archived: Mapped[bool]
    is_released: Mapped[bool]
    start_on: Mapped[date | None]
    release_on: Mapped[date | None]
    synced_at: Mapped[datetime] = mapped_column(comment="When it was fetched as it is here for the first time")
    deleted_at: Mapped[datetime | None] = mapped_column(comment="When the source no longer had it")


class JiraBoard(Base):
    """A board of a Jira instance."""

    __tablename__ = "jira_boards"
    __table_args__ = ({"comment": "Boards of each Jira instance; several may show one sprint."},)

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    board_id: Mapped[str] = mapped_column(primary_key=True)
    sync_scope_id: Mapped[int | None] = reference("sync_scopes.id", ondelete="SET NULL")
    name: Mapped[str]
    kind: Mapped[str | None] = mapped_column(comment="scrum, kanban or simple")
    project_key: Mapped[str | None]
    synced_at: Mapped[datetime] = mapped_column(comment="When it was fetched as it is here for the first time")
    deleted_at: Mapped[datetime | None] = mapped_column(comment="When the source no longer had it")


class JiraSprint(Base):
    """A sprint of a Jira instance, whichever boards show it."""

    __tablename__ = "jira_sprints"
    __table_args__ = (
        {"comment": "Sprints of each Jira instance; what the issues in them say of them follows this table."},
    )

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    sprint_id: Mapped[str] = mapped_column(primary_key=True)
    sync_scope_id: Mapped[int | None] = reference("sync_scopes.id", ondelete="SET NULL")
    board_id: Mapped[str | None] = mapped_column(comment="Of the board that it was made on")
    name: Mapped[str]
    state: Mapped[str] = mapped_column(comment="future, active or closed")
    goal: Mapped[str | None]
    start_at: Mapped[datetime | None] = mapped_column(comment="As planned")
    end_at: Mapped[datetime | None] = mapped_column(comment="As planned")
    activated_at: Mapped[datetime | None] = mapped_column(comment="When it was really started, where the source tells")
    complete_at: Mapped[datetime | None]
    synced_at: Mapped[datetime] = mapped_column(comment="When it was fetched as it is here for the first time")
    deleted_at: Mapped[datetime | None] = mapped_column(comment="When the source no longer had it")


class SeverityMapping(Times, Base):
    """How a site's own severity or priority name maps to ours."""

    __tablename__ = "severity_mappings"
    __table_args__ = (
        UniqueConstraint("tenant_id", "source_name", postgresql_nulls_not_distinct=True),
        {"comment": "Site names of severities and priorities (lower case) to critical, high, medium, low."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", index=False)
    source_name: Mapped[str] = mapped_column(comment="Lower case")
    severity: Mapped[str] = mapped_column(Enum(*SEVERITIES, name="severity"))


class BugBudget(Times, Base):
    """A bug: the issues of type bug, as the platform shows them."""

    __tablename__ = "bug_budget"
    __table_args__ = (
        UniqueConstraint("tenant_id", "jira_key"),
        Index("ix_bug_budget_issue", "connection_id", "issue_id", unique=True),
        Index("ix_bug_budget_open", "project_id", postgresql_where=text("is_open AND deleted_at IS NULL")),
        {"comment": "Bugs, as the platform shows them; derived from the mirror in the same transaction."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int | None] = reference("connections.id", index=False)
    issue_id: Mapped[str | None]
    jira_key: Mapped[str]
    project: Mapped[str]
    project_id: Mapped[int | None] = reference("projects.id")
    summary: Mapped[str]
    status: Mapped[str]
    issue_type: Mapped[str]
    final_issue_type: Mapped[str | None]
    priority: Mapped[str | None]
    severity_issue: Mapped[str | None] = mapped_column(Enum(*SEVERITIES, name="severity"))
    sprint: Mapped[str | None]
    status_category: Mapped[str | None]
    assignee_final: Mapped[str | None]
    assignee_id: Mapped[str | None]
    reporter: Mapped[str | None]
    reporter_id: Mapped[str | None]
    creator: Mapped[str | None]
    creator_id: Mapped[str | None]
    labels: Mapped[list[Any]]
    is_open: Mapped[bool]
    created_date: Mapped[datetime]
    updated_date: Mapped[datetime]
    resolved_date: Mapped[datetime | None]
    due_date: Mapped[date | None]
    last_synced_at: Mapped[datetime | None]
    description: Mapped[str | None]
    reopen_count: Mapped[int] = mapped_column(server_default="0")
    first_response_at: Mapped[datetime | None]
    sla_due_at: Mapped[datetime | None]
    sla_breached_at: Mapped[datetime | None]
    priority_score: Mapped[Decimal | None]
    revenue_impact_daily: Mapped[Decimal | None]
    is_blocker: Mapped[bool] = mapped_column(server_default=text("false"))
    defect_age_days: Mapped[int | None] = mapped_column(comment="Business days")
    has_linked_test_execution: Mapped[bool] = mapped_column(server_default=text("false"))
    linked_issues: Mapped[list[Any]]
    deleted_at: Mapped[datetime | None]


class BugBudgetMetadata(Base):
    """What else Jira says of a bug, by group."""

    __tablename__ = "bug_budget_metadata"
    __table_args__ = ({"comment": "What else Jira says of a bug, by group."},)

    bug_budget_id: Mapped[int] = reference("bug_budget.id", primary_key=True, index=False)
    epic_hierarchy: Mapped[dict[str, Any] | None]
    assignee_details: Mapped[dict[str, Any] | None]
    date_fields: Mapped[dict[str, Any] | None]
    analysis_fields: Mapped[dict[str, Any] | None]
    classification_fields: Mapped[dict[str, Any] | None]
    report_fields: Mapped[dict[str, Any] | None]
    story_points_data: Mapped[dict[str, Any] | None]
    version_fields: Mapped[dict[str, Any] | None]
    raw_jira_data: Mapped[dict[str, Any] | None]


class BugHistory(Base):
    """One changelog item of a bug."""

    __tablename__ = "bug_history"
    __table_args__ = ({"comment": "Changelog items of bugs."},)

    tenant_id: Mapped[int] = mapped_column(BigInteger)
    bug_budget_id: Mapped[int] = reference("bug_budget.id", primary_key=True, index=False)
    change_id: Mapped[str] = mapped_column(primary_key=True)
    item_index: Mapped[int] = mapped_column(primary_key=True)
    field: Mapped[str]
    old_value: Mapped[str | None]
    new_value: Mapped[str | None]
    changed_by: Mapped[str | None]
    changed_at: Mapped[datetime]


class JiraLeadTime(Base):
    """How long an issue took, from its changelog."""

    __tablename__ = "jira_lead_times"
    __table_args__ = (
        # Checked at the end of a statement: issues whose keys change hands are replaced in one.
        UniqueConstraint("tenant_id", "issue_key", deferrable=True, initially="IMMEDIATE"),
        Index("ix_jira_lead_times_issue", "connection_id", "issue_id", unique=True),
        {"comment": "Lead and cycle time, time in each status and reopens of every issue, from its changelog."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id", index=False)
    issue_id: Mapped[str]
    project_key: Mapped[str]
    project_id: Mapped[int | None] = reference("projects.id")
    issue_key: Mapped[str]
    # What is computed must never keep what it was computed from from being deleted.
    bug_budget_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("bug_budget.id", ondelete="SET NULL"), index=True
    )
    issue_type: Mapped[str]
    status: Mapped[str]
    issue_created_at: Mapped[datetime]
    started_at: Mapped[datetime | None] = mapped_column(comment="First entry into the in-progress category")
    resolved_at: Mapped[datetime | None] = mapped_column(comment="Last entry into done with no later exit")
    lead_time_hours: Mapped[Hours | None] = mapped_column(comment="Created to resolved_at")
    first_lead_time_hours: Mapped[Hours | None] = mapped_column(comment="Created to the first entry into done")
    cycle_time_hours: Mapped[Hours | None] = mapped_column(comment="started_at to resolved_at")
    active_time_hours: Mapped[Hours | None] = mapped_column(comment="Time in statuses of the in-progress category")
    time_in_status: Mapped[dict[str, Any]] = mapped_column(comment="Hours by status name, up to the last change")
    reopen_count: Mapped[int]
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]
