"""What happened, append-only: audit logs, domain events, changes of rows, telemetry, and the archives of what is old.

Those that grow without end are partitioned by month (docs/partitions.md): their primary keys hold the time, and no
other unique key stands beside it. Audit logs, events and changes name people and tenants by number without a foreign
key: a line of a log says what was so on its day, and must neither keep a row from being deleted nor be changed by it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Enum, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, BigInt, Id, Tenant, reference

CHANGE_TYPES = ("insert", "update", "delete")

WHOSE = "Tenant; NULL where it concerns none"


class AuditLog(Base):
    """One thing that somebody did on the platform."""

    __tablename__ = "audit_logs"
    __table_args__ = (
        Index("ix_audit_logs_model", "model_type", "model_id", "created_at"),
        Index("ix_audit_logs_user", "user_id", "created_at"),
        Index("ix_audit_logs_tenant", "tenant_id", "created_at"),
        {
            "comment": "What people did on the platform, to what, from where.",
            "postgresql_partition_by": "RANGE (created_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    tenant_id: Mapped[BigInt | None] = mapped_column(comment=WHOSE)
    user_id: Mapped[BigInt | None] = mapped_column(comment="users.id on that day")
    action: Mapped[str]
    model_type: Mapped[str | None] = mapped_column(comment="Kind of thing, e.g. project")
    model_id: Mapped[str | None]
    old_values: Mapped[dict[str, Any] | None]
    new_values: Mapped[dict[str, Any] | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class AuditLogArchive(Base):
    """An audit log that is old."""

    __tablename__ = "audit_logs_archive"
    __table_args__ = (
        Index("ix_audit_logs_archive_model", "model_type", "model_id", "created_at"),
        Index("ix_audit_logs_archive_user", "user_id", "created_at"),
        Index("ix_audit_logs_archive_tenant", "tenant_id", "created_at"),
        {
            "comment": "Old audit logs. "
            "Its columns begin as those of audit_logs do, so that months can be moved whole.",
            "postgresql_partition_by": "RANGE (created_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    tenant_id: Mapped[BigInt | None] = mapped_column(comment=WHOSE)
    user_id: Mapped[BigInt | None] = mapped_column(comment="users.id on that day")
    action: Mapped[str]
    model_type: Mapped[str | None]
    model_id: Mapped[str | None]
    old_values: Mapped[dict[str, Any] | None]
    new_values: Mapped[dict[str, Any] | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    archived_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    original_created_at: Mapped[datetime | None] = mapped_column(comment="NULL: created_at is the original")
    original_updated_at: Mapped[datetime | None] = mapped_column(comment="NULL: updated_at is the original")


class AuditEvent(Base):
    """One thing that happened in the domain."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_aggregate", "aggregate_type", "aggregate_id", "sequence"),
        Index("ix_audit_events_type", "event_type", "occurred_at"),
        Index("ix_audit_events_tenant", "tenant_id", "occurred_at"),
        {
            "comment": "What happened in the domain, in the order of each thing's life; its state at any time follows.",
            "postgresql_partition_by": "RANGE (occurred_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    tenant_id: Mapped[BigInt | None] = mapped_column(comment=WHOSE)
    event_type: Mapped[str] = mapped_column(comment="Past tense, e.g. merge_request:merged")
    aggregate_type: Mapped[str] = mapped_column(comment="Kind of thing that it happened to")
    aggregate_id: Mapped[str]
    user_id: Mapped[BigInt | None] = mapped_column(comment="users.id on that day")
    event_data: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=EMPTY_OBJECT, comment="How we know it")
    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
    sequence: Mapped[BigInt] = mapped_column(comment="Position in the life of the aggregate, from 1")


class ChangeLog(Base):
    """One change of one row."""

    __tablename__ = "change_log"
    __table_args__ = (
        Index("ix_change_log_record", "table_name", "record_id", "changed_at"),
        Index("ix_change_log_changed_at", "changed_at", postgresql_using="brin"),
        Index("ix_change_log_transaction", "transaction_id", postgresql_using="brin"),
        Index("ix_change_log_tenant", "tenant_id", "changed_at"),
        {
            "comment": "Changes of rows, whoever made them, written in the writer's own transaction.",
            "postgresql_partition_by": "RANGE (changed_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    tenant_id: Mapped[BigInt | None] = mapped_column(comment=WHOSE)
    table_name: Mapped[str]
    record_id: Mapped[str] = mapped_column(comment="Primary key; columns joined by a colon")
    change_type: Mapped[str] = mapped_column(Enum(*CHANGE_TYPES, name="change_type"))
    old_values: Mapped[dict[str, Any] | None] = mapped_column(comment="Of an update only what changed")
    new_values: Mapped[dict[str, Any] | None] = mapped_column(comment="Of an update only what changed")
    changed_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))
    changed_by: Mapped[str | None] = mapped_column(comment="The platform's user where it says so, else the role")
    transaction_id: Mapped[BigInt] = mapped_column(comment="pg_current_xact_id()")
    source: Mapped[str | None] = mapped_column(comment="Which program: application_name")


class CaptureSwitch(Base):
    """Whether the changes of a watched table are logged."""

    __tablename__ = "capture_switches"
    __table_args__ = (
        {"comment": "Tables whose changes are not logged, or were not for a time; a table without a row is logged."},
    )

    table_name: Mapped[str] = mapped_column(primary_key=True, comment="A watched table")
    is_on: Mapped[bool] = mapped_column(comment="False: its changes are not logged")
    switched_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    switched_by: Mapped[str] = mapped_column(server_default=text("SESSION_USER"))


class JiraIssueArchive(Base):
    """An issue that is old."""

    __tablename__ = "jira_table_history_archive"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "issue_id"),
        Index("ix_jira_table_history_archive_issuekey", "issuekey"),
        {"comment": "Old issues of the mirror of Jira; kept when their connection is gone."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[BigInt]
    issue_id: Mapped[str]
    issuekey: Mapped[str]
    project: Mapped[str] = mapped_column(comment="Jira project key")
    issuetype: Mapped[str]
    summary: Mapped[str]
    description: Mapped[str | None]
    raw_jira_data: Mapped[dict[str, Any] | None] = mapped_column(comment="The row of the mirror, and what Jira sent")
    synced_at: Mapped[datetime]
    archived_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)
    original_created_at: Mapped[datetime] = mapped_column(comment="jira_table_history.created")
    original_updated_at: Mapped[datetime] = mapped_column(comment="jira_table_history.updated")


class TelemetryEvent(Base):
    """One event that a test framework or a pipeline reports of itself."""

    __tablename__ = "telemetry_events"
    __table_args__ = (
        Index("ix_telemetry_events_type", "tenant_id", "event_type", "occurred_at"),
        {
            "comment": "What test frameworks and pipelines report of themselves.",
            "postgresql_partition_by": "RANGE (occurred_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    tenant_id: Mapped[Tenant]
    event_type: Mapped[str]
    repository_id: Mapped[int | None] = reference("repositories.id")
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)


class OutboxEvent(Base):
    """An event that a task raises and no change of a table shows."""

    __tablename__ = "outbox_events"
    __table_args__ = (
        Index("ix_outbox_events_undispatched", "id", postgresql_where=text("dispatched_at IS NULL")),
        {"comment": "Events that tasks raise and no change of a table shows; written with what caused them."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", comment=WHOSE)
    event_type: Mapped[str]
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    dispatched_at: Mapped[datetime | None]
