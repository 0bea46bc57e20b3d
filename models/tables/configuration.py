"""Versioned configuration of the measures: calendars, mappings, policies and weights.

A change is a new version with the time from which on it holds; old results keep the version that they came from.
`severity_mappings` stands in `jira`: it says what a site's words mean, at whatever time they were said.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_LIST, Base, BigInt, Id, Times, reference
from models.tables.jira import SEVERITIES, STATUS_CATEGORIES

SEVERITY_CHANGE_RULES = ("carry", "restart")
REOPEN_RULES = ("resume", "restart", "ignore")


class Versioned(Times):
    """From when on a row of configuration holds, and its place in the line of its versions."""

    valid_from: Mapped[datetime] = mapped_column(comment="Holds from here to the next version")
    version: Mapped[int] = mapped_column(server_default="1")


class BusinessCalendar(Versioned, Base):
    """When people work."""

    __tablename__ = "business_calendars"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", "version"),
        CheckConstraint("version >= 1", name="version"),
        # A name that PostgreSQL does not know would stop every measure that asks for a local day.
        CheckConstraint("(TIMESTAMPTZ '2000-01-01 00:00:00+00' AT TIME ZONE timezone) IS NOT NULL", name="timezone"),
        {"comment": "When people work: hours of each weekday in a time zone; projects name theirs."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    name: Mapped[str]
    is_default: Mapped[bool] = mapped_column(server_default=text("false"), comment="For projects that name none")
    timezone: Mapped[str] = mapped_column(server_default="UTC")
    working_hours: Mapped[dict[str, Any]] = mapped_column(
        comment='Local times: {"mon": [["09:00", "17:00"]], …}; an end not after its start is on the next day'
    )


class CalendarHoliday(Times, Base):
    """A local date on which nobody works."""

    __tablename__ = "calendar_holidays"
    __table_args__ = (
        UniqueConstraint("business_calendar_id", "holiday_on"),
        {"comment": "Local dates on which nobody works, by version of a calendar."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id")
    business_calendar_id: Mapped[int] = reference("business_calendars.id", index=False, ondelete="CASCADE")
    holiday_on: Mapped[date]
    name: Mapped[str | None]


class StatusMapping(Versioned, Base):
    """Which category a site's status counts as, where it is not the site's own."""

    __tablename__ = "status_mappings"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "source_status", "version", postgresql_nulls_not_distinct=True),
        CheckConstraint("version >= 1", name="version"),
        {"comment": "Which category a site's status counts as, where it is not the category that the site gives it."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int | None] = reference(
        "connections.id", ondelete="CASCADE", comment="NULL: every connection"
    )
    source_status: Mapped[str] = mapped_column(comment="Status id; where connection_id is NULL its name in lower case")
    category: Mapped[str] = mapped_column(Enum(*STATUS_CATEGORIES, name="status_category"))


class SlaPolicy(Versioned, Base):
    """How soon a bug is to be answered and resolved."""

    __tablename__ = "sla_policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", "version"),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("response_seconds > 0", name="response_seconds"),
        CheckConstraint("resolution_seconds > 0", name="resolution_seconds"),
        CheckConstraint("response_seconds <= resolution_seconds", name="response_before_resolution"),
        CheckConstraint("num_nonnulls(response_seconds, resolution_seconds) >= 1", name="has_a_target"),
        {"comment": "How soon bugs are to be answered and resolved, by project, severity and type."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    name: Mapped[str]
    project_id: Mapped[int | None] = reference("projects.id", comment="NULL: every project without its own")
    severity: Mapped[str | None] = mapped_column(Enum(*SEVERITIES, name="severity"), comment="NULL: every severity")
    issue_type: Mapped[str | None] = mapped_column(comment="NULL: every type of bug")
    response_seconds: Mapped[BigInt | None] = mapped_column(comment="Business time to the first response")
    resolution_seconds: Mapped[BigInt | None] = mapped_column(comment="Business time to the resolution")
    business_calendar: Mapped[str | None] = mapped_column(comment="Name; NULL: the project's")
    start_statuses: Mapped[list[Any]] = mapped_column(
        server_default=EMPTY_LIST, comment="Empty: the creation starts it"
    )
    pause_statuses: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    stop_statuses: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST, comment="Empty: the done category")
    on_severity_change: Mapped[str] = mapped_column(
        Enum(*SEVERITY_CHANGE_RULES, name="severity_change_rule"), server_default="carry"
    )
    on_reopen: Mapped[str] = mapped_column(Enum(*REOPEN_RULES, name="reopen_rule"), server_default="resume")


class BugBudgetPolicy(Versioned, Base):
    """How many bugs, by weight, a project may have in a window of days."""

    __tablename__ = "bug_budget_policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "project_id", "version", postgresql_nulls_not_distinct=True),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("budget_points > 0", name="budget_points"),
        CheckConstraint("window_days > 0", name="window_days"),
        CheckConstraint("reopen_factor BETWEEN 0 AND 1", name="reopen_factor"),
        {"comment": "How many bugs, by weight, a project may have in a rolling window of days."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    project_id: Mapped[int | None] = reference("projects.id", comment="NULL: every project without its own")
    budget_points: Mapped[Decimal]
    window_days: Mapped[int] = mapped_column(server_default="28")
    severity_weights: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("""'{"critical": 10, "high": 5, "medium": 2, "low": 1}'"""), comment="Points a bug"
    )
    reopen_factor: Mapped[Decimal] = mapped_column(
        Numeric(4, 3), server_default=text("0.5"), comment="Of a bug's weight, spent again when it is reopened"
    )


class BotRule(Versioned, Base):
    """Which accounts are not people."""

    __tablename__ = "bot_rules"
    __table_args__ = (
        UniqueConstraint("tenant_id", "source", "field", "pattern", "version", postgresql_nulls_not_distinct=True),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("field IN ('username', 'email', 'display_name', 'external_id')", name="field"),
        {"comment": "Which accounts are not people; the first rule that fits decides."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    source: Mapped[str | None] = mapped_column(comment="jira, gitlab, …; NULL: every source")
    field: Mapped[str] = mapped_column(comment="Which column of user_identities the pattern is held against")
    pattern: Mapped[str] = mapped_column(comment="Regular expression, matched whole, case ignored")
    is_bot: Mapped[bool] = mapped_column(server_default=text("true"), comment="False: an exception from later rules")
    position: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]


class MetricWeight(Versioned, Base):
    """How much one component counts in a score."""

    __tablename__ = "metric_weights"
    __table_args__ = (
        UniqueConstraint("tenant_id", "metric", "component", "version"),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("weight >= 0", name="weight"),
        CheckConstraint("good <> bad", name="good_is_not_bad"),
        {"comment": "How much each component counts in a score, and what is good and bad of it."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    metric: Mapped[str] = mapped_column(comment="health_score, priority_score, …")
    component: Mapped[str]
    weight: Mapped[Decimal]
    good: Mapped[Decimal | None] = mapped_column(comment="At this value the component scores 1")
    bad: Mapped[Decimal | None] = mapped_column(comment="At this value the component scores 0")
