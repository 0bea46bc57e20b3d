"""Summaries and read models: computed, never written by hand, and equal to a rebuild at any time."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Hours, Id, Money, Tenant, reference


class TestExecutionSummary(Base):
    """Test runs of a project on a day of its time zone."""

    __tablename__ = "test_execution_summary"
    __table_args__ = (
        UniqueConstraint("project_id", "date"),
        {"comment": "Test runs of a project on a day: how many, how they ended, how long they took."},
    )

    id: Mapped[Id]
    project_id: Mapped[int] = reference("projects.id", index=False)
    date: Mapped[date]
    total_runs: Mapped[int]
    passed_runs: Mapped[int] = mapped_column(comment="Runs with a passed result, none failed or blocked")
    failed_runs: Mapped[int] = mapped_column(comment="Runs with a failed result")
    skipped_runs: Mapped[int] = mapped_column(comment="Runs in which everything was skipped")
    blocked_runs: Mapped[int] = mapped_column(comment="Runs with a blocked result and none failed")
    automated_count: Mapped[int] = mapped_column(comment="Distinct automated cases with a result")
    manual_count: Mapped[int] = mapped_column(comment="Distinct manual cases with a result")
    avg_execution_time: Mapped[Decimal | None] = mapped_column(Numeric(10, 2), comment="Seconds a run; NULL is unknown")
    total_test_cases: Mapped[int] = mapped_column(comment="Distinct cases with a result")
    results_count: Mapped[int] = mapped_column(comment="Valid results, one a case and run")
    passed_results: Mapped[int]
    failed_results: Mapped[int]
    pass_rate: Mapped[Decimal | None] = mapped_column(
        Numeric(7, 4), comment="passed / (passed + failed); NULL is no data"
    )
    first_attempt_pass_rate: Mapped[Decimal | None] = mapped_column(
        Numeric(7, 4), comment="Passed at the first attempt / decided, by test and parameters"
    )
    flaky_rate: Mapped[Decimal | None] = mapped_column(Numeric(7, 4), comment="Passed after a failed attempt / decided")
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class BugAnalyticsDaily(Base):
    """Bugs of a project on a day of its time zone, folded from events."""

    __tablename__ = "bug_analytics_daily"
    __table_args__ = (
        UniqueConstraint("project_id", "date"),
        # Checked at the end of a statement: projects whose titles change hands are replaced in one.
        UniqueConstraint("tenant_id", "project", "date", deferrable=True, initially="IMMEDIATE"),
        {"comment": "Bugs created, resolved, reopened and open on each day, folded from every issue's events."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    project: Mapped[str] = mapped_column(comment="Title of the project")
    project_id: Mapped[int] = reference("projects.id", index=False)
    date: Mapped[date]
    bugs_created: Mapped[int]
    bugs_resolved: Mapped[int] = mapped_column(comment="Entries into a resolution")
    bugs_closed: Mapped[int] = mapped_column(comment="Entries into the done category")
    bugs_reopened: Mapped[int] = mapped_column(comment="Exits from the done category")
    avg_resolution_hours: Mapped[Decimal | None] = mapped_column(
        Numeric(14, 4), comment="Created to closed, of those closed that day; NULL is none"
    )
    open_bugs: Mapped[int] = mapped_column(comment="At the day's end")
    critical_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    high_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    medium_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    low_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class TestRunView(Base):
    """A test run as the platform lists it."""

    __tablename__ = "test_runs_view"
    __table_args__ = ({"comment": "Test runs as the platform lists them, one row each, ready to read."},)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="test_runs.id")
    test_plan_id: Mapped[int | None] = mapped_column(BigInteger)
    test_plan_title: Mapped[str | None]
    project_id: Mapped[int] = mapped_column(BigInteger, index=True)
    project_title: Mapped[str]
    repository_id: Mapped[int | None] = mapped_column(BigInteger)
    repository_title: Mapped[str | None]
    title: Mapped[str]
    total_cases: Mapped[int]
    passed_cases: Mapped[int]
    failed_cases: Mapped[int]
    skipped_cases: Mapped[int]
    blocked_cases: Mapped[int]
    execution_date: Mapped[datetime | None]
    execution_duration: Mapped[Decimal | None] = mapped_column(Numeric(14, 3), comment="Seconds")
    created_by_id: Mapped[int | None] = mapped_column(BigInteger)
    created_by_name: Mapped[str | None]
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class TestCaseAnalytics(Base):
    """Test cases of a repository on a day of its project's time zone."""

    __tablename__ = "test_case_analytics"
    __table_args__ = (
        UniqueConstraint("project_id", "repository_id", "date", postgresql_nulls_not_distinct=True),
        {"comment": "Test cases of a repository on a day: how many, automated or not, by priority."},
    )

    id: Mapped[Id]
    project_id: Mapped[int] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    date: Mapped[date]
    total_cases: Mapped[int] = mapped_column(comment="At the day's end")
    automated_cases: Mapped[int]
    manual_cases: Mapped[int]
    high_priority_cases: Mapped[int]
    medium_priority_cases: Mapped[int]
    low_priority_cases: Mapped[int]
    regression_cases: Mapped[int]
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class ProjectMetrics(Base):
    """Code and health of a project on a day."""

    __tablename__ = "project_metrics"
    __table_args__ = (
        UniqueConstraint("project_id", "date"),
        {"comment": "Code and health of a project on a day."},
    )

    id: Mapped[Id]
    project_id: Mapped[int] = reference("projects.id", index=False)
    date: Mapped[date]
    commit_count: Mapped[int | None]
    lines_of_code: Mapped[int | None] = mapped_column(BigInteger)
    contributor_count: Mapped[int | None]
    tech_stack: Mapped[dict[str, Any] | None]
    health_score: Mapped[Decimal | None] = mapped_column(Numeric(5, 2), comment="0 to 100; NULL: too little is known")
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class MonthlyMetrics(Base):
    """Bugs and effort of a project in a month of its time zone."""

    __tablename__ = "monthly_metrics"
    __table_args__ = (
        UniqueConstraint("project_id", "year", "month"),
        CheckConstraint("month BETWEEN 1 AND 12", name="month"),
        {"comment": "Bugs and effort of a project in a month."},
    )

    id: Mapped[Id]
    project_id: Mapped[int] = reference("projects.id", index=False)
    year: Mapped[int]
    month: Mapped[int]
    critical_bugs: Mapped[int] = mapped_column(comment="Created in the month")
    high_priority_bugs: Mapped[int] = mapped_column(comment="Created in the month")
    medium_priority_bugs: Mapped[int] = mapped_column(comment="Created in the month")
    low_priority_bugs: Mapped[int] = mapped_column(comment="Created in the month")
    engineering_hours: Mapped[Hours | None]
    engineering_cost: Mapped[Money | None]
    avg_resolution_hours: Mapped[Hours | None] = mapped_column(comment="Of the bugs resolved in the month")
    resolution_rate: Mapped[Decimal | None] = mapped_column(
        Numeric(9, 4), comment="Resolved / created in the month; NULL: none was created"
    )
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class PortfolioMetrics(Base):
    """All projects of a tenant on a day."""

    __tablename__ = "portfolio_metrics"
    __table_args__ = (
        UniqueConstraint("tenant_id", "date"),
        {"comment": "All projects of a tenant on a day: value, cost, how many of each status, open bugs."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    date: Mapped[date]
    total_valuation: Mapped[Money | None]
    total_infrastructure_cost: Mapped[Money | None] = mapped_column(comment="A month")
    active_projects: Mapped[int]
    shipped_projects: Mapped[int]
    deferred_projects: Mapped[int]
    cancelled_projects: Mapped[int]
    critical_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    high_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    medium_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    low_priority_bugs: Mapped[int] = mapped_column(comment="Open at the day's end")
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class BugBudgetView(Base):
    """A bug as the platform lists it."""

    __tablename__ = "bug_budget_view"
    __table_args__ = (
        Index("ix_bug_budget_view_open", "project_id", "created_date", postgresql_where=text("is_open")),
        {"comment": "Bugs as the platform lists them, one row each, ready to read."},
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="bug_budget.id")
    jira_key: Mapped[str]
    project: Mapped[str]
    project_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    summary: Mapped[str]
    status: Mapped[str]
    issue_type: Mapped[str]
    priority: Mapped[str | None]
    assignee_final: Mapped[str | None]
    assignee_id: Mapped[str | None]
    sprint: Mapped[str | None]
    status_category: Mapped[str | None]
    is_open: Mapped[bool]
    created_date: Mapped[datetime]
    resolved_date: Mapped[datetime | None]
    epic_name: Mapped[str | None]
    service_feature: Mapped[str | None]
    resolution_time_hours: Mapped[Hours | None] = mapped_column(comment="Created to resolved; NULL while open")
    age_days: Mapped[int | None] = mapped_column(comment="Whole days from creation to the resolution, or to now")
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class MetricRestatement(Base):
    """A published number that changed after its time had closed."""

    __tablename__ = "metric_restatements"
    __table_args__ = (
        Index("ix_metric_restatements_key", "tenant_id", "summary", "key"),
        {"comment": "Published numbers that changed after their time had closed: from what, to what and why."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    summary: Mapped[str]
    key: Mapped[str] = mapped_column(comment="As in dirty_keys")
    field: Mapped[str]
    old_value: Mapped[str | None]
    new_value: Mapped[str | None]
    cause: Mapped[str] = mapped_column(comment="The late event, or the version of the configuration")
    restated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
