"""Test planning and execution, the Allure reports that automated runs come from, and how flaky a test is."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, BigInt, Id, Tenant, Times, reference

RUN_STATUSES = ("pending", "running", "completed", "failed", "cancelled")
RESULT_STATUSES = ("passed", "failed", "skipped", "blocked")
REPORT_STATUSES = ("pending", "processing", "completed", "failed")
DEFECT_STAGES = ("pre_development", "development", "post_development", "release_production")
ATTEMPT_STATUSES = ("passed", "failed", "broken", "skipped", "unknown")


class Suite(Times, Base):
    """A folder of test cases."""

    __tablename__ = "suites"
    __table_args__ = (
        UniqueConstraint("repository_id", "parent_id", "title", postgresql_nulls_not_distinct=True),
        {"comment": "Folders of test cases."},
    )

    id: Mapped[Id]
    repository_id: Mapped[int] = reference("repositories.id", index=False)
    parent_id: Mapped[int | None] = reference("suites.id")
    title: Mapped[str]
    order: Mapped[int] = mapped_column(server_default="0")


class TestCase(Times, Base):
    """A test: written by a person, or found in automated results."""

    __tablename__ = "test_cases"
    __table_args__ = (
        Index(
            "uq_test_cases_automated",
            "repository_id",
            "path",
            "name",
            "framework",
            unique=True,
            postgresql_where=text("path IS NOT NULL"),
        ),
        Index("ix_test_cases_deleted_by", "deleted_by", postgresql_where=text("deleted_by IS NOT NULL")),
        {"comment": "Tests, manual and automated; an automated one is keyed by repository, path, name and framework."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    suite_id: Mapped[int | None] = reference("suites.id")
    repository_id: Mapped[int | None] = reference("repositories.id")
    path: Mapped[str | None]
    name: Mapped[str | None]
    framework: Mapped[str | None]
    title: Mapped[str]
    description: Mapped[str | None]
    labels: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    automated: Mapped[bool] = mapped_column(server_default=text("false"))
    priority: Mapped[int] = mapped_column(server_default="2", comment="1 high, 2 medium, 3 low")
    data: Mapped[dict[str, Any] | None]
    order: Mapped[int] = mapped_column(server_default="0")
    regression: Mapped[bool] = mapped_column(server_default=text("true"))
    epic_link: Mapped[str | None]
    linked_issue: Mapped[str | None]
    jira_key: Mapped[str | None]
    platform: Mapped[str | None]
    release_version: Mapped[str | None]
    severity: Mapped[str] = mapped_column(server_default="Moderate")
    defect_stage: Mapped[str | None] = mapped_column(Enum(*DEFECT_STAGES, name="defect_stage"))
    version: Mapped[int] = mapped_column(server_default="1")
    deleted_by: Mapped[int | None] = reference("users.id", index=False, ondelete="SET NULL")
    deleted_at: Mapped[datetime | None]


class TestPlan(Times, Base):
    """A plan that manual runs follow."""

    __tablename__ = "test_plans"
    __table_args__ = ({"comment": "Plans that runs follow."},)

    id: Mapped[Id]
    project_id: Mapped[int] = reference("projects.id")
    repository_id: Mapped[int | None] = reference("repositories.id")
    title: Mapped[str]
    description: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="draft")
    data: Mapped[dict[str, Any] | None]


class TestRun(Times, Base):
    """One execution of tests, by people or by CI."""

    __tablename__ = "test_runs"
    __table_args__ = (
        Index("ix_test_runs_project_date", "project_id", "execution_date"),
        Index("ix_test_runs_created_by", "created_by", postgresql_where=text("created_by IS NOT NULL")),
        {"comment": "Executions of tests, by people or by CI."},
    )

    id: Mapped[Id]
    test_plan_id: Mapped[int | None] = reference("test_plans.id")
    project_id: Mapped[int] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    allure_report_id: Mapped[int | None] = reference("allure_report.id", unique=True, index=False)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(Enum(*RUN_STATUSES, name="run_status"), server_default="pending")
    execution_date: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    environment: Mapped[str | None]
    build_version: Mapped[str | None]
    commit_sha: Mapped[str | None]
    branch: Mapped[str | None]
    ci_url: Mapped[str | None]
    data: Mapped[dict[str, Any] | None]
    created_by: Mapped[int | None] = reference("users.id", index=False, ondelete="SET NULL")


class TestRunResult(Base):
    """How one case ended in one run."""

    __tablename__ = "test_run_results"
    __table_args__ = (
        UniqueConstraint("test_run_id", "test_case_id"),
        # Only people execute by hand: no row of an automated run is in it.
        Index("ix_test_run_results_executed_by", "executed_by", postgresql_where=text("executed_by IS NOT NULL")),
        {"comment": "How each case ended in each run; the last attempt counts."},
    )

    id: Mapped[Id]
    test_run_id: Mapped[int] = reference("test_runs.id", index=False)
    test_case_id: Mapped[int] = reference("test_cases.id")
    status: Mapped[str] = mapped_column(Enum(*RESULT_STATUSES, name="result_status"))
    execution_time: Mapped[BigInt | None] = mapped_column(comment="Milliseconds")
    error_message: Mapped[str | None]
    stack_trace: Mapped[str | None]
    screenshots: Mapped[list[Any] | None]
    logs: Mapped[str | None]
    defect_found_at_stage: Mapped[str | None] = mapped_column(Enum(*DEFECT_STAGES, name="defect_stage"))
    bug_budget_id: Mapped[int | None] = reference("bug_budget.id")
    defect_severity: Mapped[str | None]
    executed_by: Mapped[int | None] = reference("users.id", index=False, ondelete="SET NULL")
    executed_at: Mapped[datetime | None]
    retry_count: Mapped[int] = mapped_column(server_default="0")
    is_valid: Mapped[bool] = mapped_column(server_default=text("true"))


class AllureReport(Times, Base):
    """A folder of Allure results."""

    __tablename__ = "allure_report"
    __table_args__ = (
        UniqueConstraint("project_id", "content_hash"),
        {"comment": "Folders of Allure results; the same folder twice is one report."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    project_id: Mapped[int] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    name: Mapped[str]
    version: Mapped[str | None]
    summary: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(Enum(*REPORT_STATUSES, name="report_status"), server_default="pending")
    execution_started_at: Mapped[datetime | None]
    execution_stopped_at: Mapped[datetime | None]
    build_name: Mapped[str | None]
    commit_sha: Mapped[str | None]
    branch: Mapped[str | None]
    environment: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    content_hash: Mapped[str]


class AllureLaunch(Base):
    """A launch of tests at a source, or the part of one that one job made, and what was read of it."""

    __tablename__ = "allure_launches"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_id"),
        Index("ix_allure_launches_sync_scope_id_launch_key", "sync_scope_id", "launch_key"),
        {"comment": "Launches of tests at their sources: which there are, and which state of each was read."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id", index=False)
    project_id: Mapped[int] = reference("projects.id")
    repository_id: Mapped[int | None] = reference("repositories.id")
    external_id: Mapped[str]
    launch_key: Mapped[str] = mapped_column(comment="Parts with one key are one launch, e.g. the jobs of a pipeline")
    name: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(comment="Of what the source has")
    commit_sha: Mapped[str | None]
    branch: Mapped[str | None]
    build_name: Mapped[str | None]
    ci_url: Mapped[str | None]
    results_path: Mapped[str | None] = mapped_column(comment="Where in an archive the results lie, a shell pattern")
    summary: Mapped[dict[str, Any] | None] = mapped_column(comment="The source's own counts by status")
    started_at: Mapped[datetime | None]
    source_updated_at: Mapped[datetime]
    synced_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    read_fingerprint: Mapped[str | None] = mapped_column(comment="Of what was read last; NULL: nothing yet")
    allure_report_id: Mapped[int | None] = reference("allure_report.id", ondelete="SET NULL")
    trouble: Mapped[str | None] = mapped_column(comment="Why its results are not read; tried again when they change")


class AllureScenario(Base):
    """One attempt of one test in a report."""

    __tablename__ = "allure_scenarios"
    __table_args__ = (
        UniqueConstraint("allure_report_id", "result_uuid"),
        {"comment": "Attempts of tests in Allure reports; every retry is a row."},
    )

    id: Mapped[Id]
    allure_report_id: Mapped[int] = reference("allure_report.id", index=False)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(Enum(*ATTEMPT_STATUSES, name="attempt_status"))
    duration: Mapped[BigInt | None] = mapped_column(comment="Milliseconds")
    history_id: Mapped[str | None] = mapped_column(comment="The producer's; its rules differ between versions")
    test_key: Mapped[str] = mapped_column(comment="Our own identity of test and parameters")
    identity_version: Mapped[int]
    attempt: Mapped[int | None] = mapped_column(comment="1 is the first; known once the whole report is read")
    is_retry: Mapped[bool] = mapped_column(comment="True for every attempt but the last")
    result_uuid: Mapped[str]
    case_path: Mapped[str]
    case_name: Mapped[str]
    framework: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    parameters_hash: Mapped[str]
    test_case_id: Mapped[int | None] = reference("test_cases.id")
    full_name: Mapped[str | None]
    suite: Mapped[str | None]
    feature: Mapped[str | None]
    story: Mapped[str | None]
    severity: Mapped[str | None]
    owner: Mapped[str | None]
    labels: Mapped[list[Any]]
    links: Mapped[list[Any]]
    attachments: Mapped[list[Any]]
    retries: Mapped[int | None] = mapped_column(comment="How many attempts came before it")
    flaky: Mapped[bool]
    status_message: Mapped[str | None]
    status_trace: Mapped[str | None]
    started_at: Mapped[datetime | None]


class AllureStep(Base):
    """A step of an attempt."""

    __tablename__ = "allure_steps"
    __table_args__ = ({"comment": "Steps of attempts, as a tree by path."},)

    scenario_id: Mapped[int] = reference("allure_scenarios.id", primary_key=True, index=False)
    path: Mapped[str] = mapped_column(primary_key=True, comment="Positions from the root, e.g. 0.2")
    parent_path: Mapped[str | None]
    position: Mapped[int]
    name: Mapped[str]
    status: Mapped[str] = mapped_column(Enum(*ATTEMPT_STATUSES, name="attempt_status"))
    duration: Mapped[BigInt | None] = mapped_column(comment="Milliseconds")
    error_message: Mapped[str | None]


class TestStep(Times, Base):
    """A step of a manual test."""

    __tablename__ = "test_steps"
    __table_args__ = (
        # Checked at the end of a statement: steps change places in one.
        UniqueConstraint("test_case_id", "position", deferrable=True, initially="IMMEDIATE"),
        CheckConstraint("position >= 0", name="position"),
        {"comment": "Steps of manual tests: what to do and what should come of it."},
    )

    id: Mapped[Id]
    test_case_id: Mapped[int] = reference("test_cases.id", index=False, ondelete="CASCADE")
    position: Mapped[int]
    action: Mapped[str]
    expected_result: Mapped[str | None]
    data: Mapped[str | None] = mapped_column(comment="What to enter")


class TestPlanCase(Base):
    """A test case of a plan."""

    __tablename__ = "test_plan_test_cases"
    __table_args__ = ({"comment": "Which test cases a plan has, in which order."},)

    test_plan_id: Mapped[int] = reference("test_plans.id", primary_key=True, index=False, ondelete="CASCADE")
    test_case_id: Mapped[int] = reference("test_cases.id", primary_key=True, ondelete="CASCADE")
    order: Mapped[int] = mapped_column(server_default="0")


class TestCaseComment(Times, Base):
    """What somebody says about a test case."""

    __tablename__ = "test_case_comments"
    __table_args__ = ({"comment": "What people say about test cases, as threads."},)

    id: Mapped[Id]
    test_case_id: Mapped[int] = reference("test_cases.id", ondelete="CASCADE")
    user_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    parent_id: Mapped[int | None] = reference("test_case_comments.id", comment="What it answers")
    content: Mapped[str]
    is_resolved: Mapped[bool] = mapped_column(server_default=text("false"))
    deleted_at: Mapped[datetime | None]


class TestRunAttachment(Times, Base):
    """A file that somebody added to a run."""

    __tablename__ = "test_runs_attachments"
    __table_args__ = ({"comment": "Files that people added to runs."},)

    id: Mapped[Id]
    url: Mapped[str]
    test_run_id: Mapped[int] = reference("test_runs.id", ondelete="CASCADE")
    test_case_id: Mapped[int | None] = reference("test_cases.id", ondelete="SET NULL")
    uploaded_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")


class TestRunComment(Times, Base):
    """What somebody says about a run."""

    __tablename__ = "test_runs_comments"
    __table_args__ = ({"comment": "What people say about runs."},)

    id: Mapped[Id]
    user_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    comments: Mapped[str]
    test_run_id: Mapped[int] = reference("test_runs.id", ondelete="CASCADE")
    test_plan_id: Mapped[int | None] = reference("test_plans.id", ondelete="SET NULL")


class TestEnvironment(Times, Base):
    """A place that tests run against."""

    __tablename__ = "test_environments"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", postgresql_nulls_not_distinct=True),
        {"comment": "Places that tests run against."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", index=False, comment="NULL: for every tenant")
    name: Mapped[str]
    base_url: Mapped[str | None]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class BrowserConfiguration(Times, Base):
    """A browser that tests run in."""

    __tablename__ = "browser_configurations"
    __table_args__ = (
        UniqueConstraint("tenant_id", "browser", "version", "viewport", postgresql_nulls_not_distinct=True),
        {"comment": "Browsers that tests run in."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", index=False, comment="NULL: for every tenant")
    browser: Mapped[str]
    version: Mapped[str | None]
    viewport: Mapped[str | None] = mapped_column(comment="Pixels, e.g. 1280x720")
    options: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class TestReport(Times, Base):
    """A report of a run as a file."""

    __tablename__ = "test_reports"
    __table_args__ = ({"comment": "Reports of runs as files."},)

    id: Mapped[Id]
    test_run_id: Mapped[int] = reference("test_runs.id", ondelete="CASCADE")
    format: Mapped[str] = mapped_column(comment="html, pdf, junit, …")
    content_id: Mapped[int | None] = reference("content_storage.id")
    summary: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class FlakeScore(Times, Base):
    """How flaky a test is, by one algorithm over one window."""

    __tablename__ = "flake_scores"
    __table_args__ = (
        UniqueConstraint("test_case_id", "algorithm", "window_days"),
        CheckConstraint("window_days > 0", name="window_days"),
        CheckConstraint("runs >= 0 AND flips BETWEEN 0 AND runs", name="flips_of_runs"),
        CheckConstraint("score BETWEEN 0 AND 1", name="score"),
        CheckConstraint("lower_bound BETWEEN 0 AND upper_bound AND upper_bound <= 1", name="bounds"),
        CheckConstraint("NOT is_quarantined OR quarantined_at IS NOT NULL", name="quarantined_has_a_time"),
        Index("ix_flake_scores_quarantined", "tenant_id", "test_case_id", postgresql_where=text("is_quarantined")),
        {"comment": "How flaky each test is, with the bounds that the score is known within."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    test_case_id: Mapped[int] = reference("test_cases.id", index=False, ondelete="CASCADE")
    window_days: Mapped[int]
    runs: Mapped[int]
    flips: Mapped[int] = mapped_column(comment="Runs of the same commit that ended differently")
    score: Mapped[Decimal | None] = mapped_column(Numeric(7, 6), comment="NULL: too few runs to say")
    lower_bound: Mapped[Decimal | None] = mapped_column(Numeric(7, 6))
    upper_bound: Mapped[Decimal | None] = mapped_column(Numeric(7, 6))
    is_quarantined: Mapped[bool] = mapped_column(server_default=text("false"))
    quarantined_at: Mapped[datetime | None]
    algorithm: Mapped[str] = mapped_column(comment="Name and version")
    computed_at: Mapped[datetime]
