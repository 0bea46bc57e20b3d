"""What is kept how long, what must not be deleted, and what people ask about their own data."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, Id, Tenant, Times, reference

REQUEST_KINDS = ("access", "erasure", "rectification")
REQUEST_STATUSES = ("received", "verified", "scoped", "approved", "executed", "closed", "restricted", "rejected")
RETENTION_ACTIONS = ("archive", "delete", "anonymise")


class DataSubjectRequest(Times, Base):
    """What somebody asks about the data that we have of them."""

    __tablename__ = "data_subject_requests"
    __table_args__ = (
        CheckConstraint("due_at > created_at", name="due_after_start"),
        CheckConstraint("completed_at >= created_at", name="ends_after_start"),
        Index("ix_data_subject_requests_open", "due_at", postgresql_where=text("completed_at IS NULL")),
        {"comment": "What people ask about the data that we have of them, and by when the law wants it done."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", comment="NULL: the whole installation")
    subject_email: Mapped[str]
    kind: Mapped[str] = mapped_column(Enum(*REQUEST_KINDS, name="data_subject_request_kind"))
    status: Mapped[str] = mapped_column(
        Enum(*REQUEST_STATUSES, name="data_subject_request_status"),
        server_default="received",
        comment="restricted: a legal hold forbids it for now",
    )
    due_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class DataSubjectRequestEvent(Base):
    """One step of a request's life."""

    __tablename__ = "data_subject_request_events"
    __table_args__ = ({"comment": "What was done about each request, and when."},)

    id: Mapped[Id]
    request_id: Mapped[int] = reference("data_subject_requests.id", ondelete="CASCADE")
    event: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    occurred_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class RetentionPolicy(Times, Base):
    """How long the rows of a table are kept, and what happens then."""

    __tablename__ = "retention_policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "table_name", postgresql_nulls_not_distinct=True),
        CheckConstraint("keep_for > interval '0'", name="keep_for"),
        {"comment": "How long the rows of each table are kept, and what happens then."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", index=False, comment="NULL: every tenant without its own")
    table_name: Mapped[str]
    keep_for: Mapped[timedelta]
    action: Mapped[str] = mapped_column(Enum(*RETENTION_ACTIONS, name="retention_action"))
    legal_hold: Mapped[bool] = mapped_column(server_default=text("false"), comment="Nothing of the table may go")
    last_run_at: Mapped[datetime | None]


class LegalHold(Times, Base):
    """What must not be deleted, archived away or anonymised until it is released."""

    __tablename__ = "legal_holds"
    __table_args__ = (
        CheckConstraint("released_at >= starts_at", name="ends_after_start"),
        Index("ix_legal_holds_active", "tenant_id", postgresql_where=text("released_at IS NULL")),
        Index("ix_legal_holds_scope", "scope", postgresql_using="gin"),
        {"comment": "What must not be deleted, archived away or anonymised until it is released."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    scope: Mapped[dict[str, Any]] = mapped_column(comment="project, person, issue, table or span of days")
    reason: Mapped[str]
    owner: Mapped[str] = mapped_column(comment="Who answers for it")
    starts_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    review_on: Mapped[date | None] = mapped_column(comment="When somebody looks whether it is still needed")
    released_at: Mapped[datetime | None]


class ErasureLedgerEntry(Base):
    """That an account was erased: the next sync maps it to its tombstone, and a restored backup is erased again."""

    __tablename__ = "erasure_ledger"
    __table_args__ = (
        UniqueConstraint("tenant_id", "subject_hash"),
        CheckConstraint("octet_length(subject_hash) = 32", name="subject_hash_length"),
        {"comment": "Which accounts were erased, without saying whose; syncs and restores are held to it."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    request_id: Mapped[int | None] = reference("data_subject_requests.id", ondelete="SET NULL")
    subject_hash: Mapped[bytes] = mapped_column(LargeBinary, comment="HMAC-SHA-256 of source and external id")
    tombstone_id: Mapped[uuid.UUID] = mapped_column(comment="Random; stands in the account's place")
    executed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    certificate: Mapped[dict[str, Any]] = mapped_column(
        server_default=EMPTY_OBJECT, comment="Tables, counts, and the search that finds nothing"
    )
