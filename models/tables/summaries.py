"""Summaries and read models: computed, never written by hand, and equal to a rebuild at any time."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Id, reference


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
