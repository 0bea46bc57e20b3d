"""Projects and their repositories, what they are worth, who owns what in them, and what was decided about them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_LIST, EMPTY_OBJECT, Base, Id, Money, Tenant, Times, reference

PROJECT_STATUSES = ("active", "shipped", "deferred", "cancelled")


class Project(Times, Base):
    """A product or component whose quality is measured."""

    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("tenant_id", "title"),
        # A name that PostgreSQL does not know would stop every summary that asks for a local day.
        CheckConstraint("(TIMESTAMPTZ '2000-01-01 00:00:00+00' AT TIME ZONE timezone) IS NOT NULL", name="timezone"),
        {"comment": "What quality is measured of; scopes of connections map to these."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    title: Mapped[str]
    description: Mapped[str | None]
    key: Mapped[str | None]
    status: Mapped[str] = mapped_column(Enum(*PROJECT_STATUSES, name="project_status"), server_default="active")
    timezone: Mapped[str] = mapped_column(server_default="UTC", comment="Reporting time zone: when a day of it ends")
    business_calendar: Mapped[str | None] = mapped_column(comment="Name of its calendar; NULL: the tenant's default")
    created_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    updated_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")


class Repository(Times, Base):
    """A code repository of a project."""

    __tablename__ = "repositories"
    __table_args__ = (
        UniqueConstraint("tenant_id", "provider", "external_id"),
        {"comment": "Code repositories; test cases and merge requests hang on them."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    project_id: Mapped[int] = reference("projects.id")
    title: Mapped[str]
    prefix: Mapped[str | None]
    description: Mapped[str | None]
    provider: Mapped[str] = mapped_column(comment="gitlab, github, allure, …")
    external_id: Mapped[str] = mapped_column(comment="The instance's host and the id or path there")
    web_url: Mapped[str | None]
    default_branch: Mapped[str | None]
    is_archived: Mapped[bool] = mapped_column(server_default=text("false"), comment="Read only at its host")


class ProjectFinancials(Times, Base):
    """What a project is worth and what it costs."""

    __tablename__ = "project_financials"
    __table_args__ = (
        CheckConstraint("infrastructure_cost_monthly >= 0", name="infrastructure_cost_monthly"),
        CheckConstraint("revenue_per_bug_hour >= 0", name="revenue_per_bug_hour"),
        {"comment": "What projects are worth and what they cost; amounts in the tenant's currency."},
    )

    project_id: Mapped[int] = reference("projects.id", primary_key=True, index=False, ondelete="CASCADE")
    arr: Mapped[Money | None] = mapped_column(comment="Annual recurring revenue")
    revenue_projection: Mapped[Money | None] = mapped_column(comment="Of the next twelve months")
    dcf_valuation: Mapped[Money | None] = mapped_column(comment="Discounted cash flow")
    complexity_score: Mapped[Decimal | None]
    appeal_score: Mapped[Decimal | None]
    roi_score: Mapped[Decimal | None]
    infrastructure_cost_monthly: Mapped[Money | None]
    revenue_per_bug_hour: Mapped[Money | None] = mapped_column(comment="Revenue at risk in an hour with an open bug")


class RepositoryConfig(Times, Base):
    """The rules of a repository."""

    __tablename__ = "repository_configs"
    __table_args__ = ({"comment": "Rules of repositories: quarantine, thresholds."},)

    repository_id: Mapped[int] = reference("repositories.id", primary_key=True, index=False, ondelete="CASCADE")
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class OwnerRule(Times, Base):
    """One line of a CODEOWNERS file."""

    __tablename__ = "owner_rules"
    __table_args__ = (
        # Checked at the end of a statement: lines change places in one.
        UniqueConstraint("repository_id", "position", deferrable=True, initially="IMMEDIATE"),
        CheckConstraint("position >= 0", name="position"),
        Index("ix_owner_rules_owners", "owners", postgresql_using="gin"),
        {"comment": "Lines of CODEOWNERS files; the last that matches a path wins."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    repository_id: Mapped[int] = reference("repositories.id", index=False, ondelete="CASCADE")
    pattern: Mapped[str]
    owners: Mapped[list[Any]] = mapped_column(
        server_default=EMPTY_LIST, comment="Accounts, groups and e-mail addresses"
    )
    section: Mapped[str | None] = mapped_column(comment="Sections are judged apart; NULL: what stands before the first")
    is_optional: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="Owners are asked, and need not approve"
    )
    required_approvals_count: Mapped[int] = mapped_column(server_default=text("1"))
    position: Mapped[int] = mapped_column(comment="Order in the file")
    source_sha: Mapped[str | None] = mapped_column(comment="Commit that the file was read at")


class DecisionLog(Times, Base):
    """Something that was decided, by whom and why."""

    __tablename__ = "decision_logs"
    __table_args__ = (
        Index("ix_decision_logs_tags", "tags", postgresql_using="gin"),
        {"comment": "What was decided, by whom, why, and what it puts at risk."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    title: Mapped[str]
    decision_type: Mapped[str | None]
    decision_owner: Mapped[str | None] = mapped_column(comment="Name")
    decision_owner_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    involved_qa: Mapped[str | None] = mapped_column(comment="Names")
    decision_date: Mapped[date | None]
    sprint_release: Mapped[str | None]
    context: Mapped[str | None]
    decision: Mapped[str | None]
    impact_risk: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="active")
    tags: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    related_artifacts: Mapped[str | None]
