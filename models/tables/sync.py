"""The workers' own tables of syncing: connections, scopes, windows, watermarks, staged payloads and rejects."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Enum, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Id, Tenant, Times, reference

CONNECTION_STATUSES = ("active", "paused", "denied")
WINDOW_STATES = ("pending", "running", "done", "failed")


class Connection(Times, Base):
    """A configured Jira, GitLab, Allure or GitHub instance."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        {"comment": "Configured instances of sources; `auth` is encrypted."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    kind: Mapped[str] = mapped_column(comment="jira, gitlab, allure or github")
    name: Mapped[str]
    base_url: Mapped[str]
    auth: Mapped[str] = mapped_column(comment="Fernet token of a JSON object; see SECRET_KEYS")
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(Enum(*CONNECTION_STATUSES, name="connection_status"), server_default="active")
    last_ok_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class SyncScope(Times, Base):
    """One Jira project, GitLab project or Allure source of a connection, mapped to a project of ours."""

    __tablename__ = "sync_scopes"
    __table_args__ = (
        UniqueConstraint("connection_id", "external_key"),
        {"comment": "What is synced of a connection, and which project of ours it feeds."},
    )

    id: Mapped[Id]
    connection_id: Mapped[int] = reference("connections.id", index=False)
    project_id: Mapped[int] = reference("projects.id")
    repository_id: Mapped[int | None] = reference("repositories.id")
    external_key: Mapped[str] = mapped_column(comment="Jira project key, GitLab path or id, Allure source")
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    last_error: Mapped[str | None] = mapped_column(comment="Why the source hides it from us, in a sentence")


class SyncWindow(Times, Base):
    """A span of update time that one job collects: the unit of resumable work."""

    __tablename__ = "sync_windows"
    __table_args__ = (
        Index(
            "ix_sync_windows_unfinished",
            "sync_scope_id",
            "resource",
            postgresql_where=text("state <> 'done'"),
        ),
        {"comment": "Spans of update time, each collected by one job and resumed where it stopped."},
    )

    id: Mapped[Id]
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    resource: Mapped[str] = mapped_column(comment="The stream")
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    run_started_at: Mapped[datetime] = mapped_column(
        comment="When the run that planned it began, by the vendor's clock; the watermark once all are done"
    )
    state: Mapped[str] = mapped_column(Enum(*WINDOW_STATES, name="window_state"), server_default="pending")
    page_token: Mapped[str | None]
    rows_seen: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rows_written: Mapped[int] = mapped_column(BigInteger, server_default="0")
    attempts: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]


class Watermark(Base):
    """How far a stream of a scope is known to be complete, by the vendor's clock."""

    __tablename__ = "watermarks"
    __table_args__ = ({"comment": "How far each stream is known to be complete, by the vendor's clock."},)

    sync_scope_id: Mapped[int] = reference("sync_scopes.id", primary_key=True, index=False)
    resource: Mapped[str] = mapped_column(primary_key=True)
    complete_until: Mapped[datetime | None]
    last_run_id: Mapped[int | None] = mapped_column(BigInteger)
    last_full_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class StagedPayload(Base):
    """The payload of an object as received, once: what replay reads."""

    __tablename__ = "staged_payloads"
    __table_args__ = (
        CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
        {"comment": "Payloads as received, compressed; the only full copy, and what replay reads."},
    )

    sync_scope_id: Mapped[int] = reference("sync_scopes.id", primary_key=True, index=False)
    resource: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary, comment="zstd-compressed JSON")
    sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="Of the JSON before compression")
    fetched_at: Mapped[datetime]
    window_id: Mapped[int | None] = mapped_column(BigInteger)
    parser_version: Mapped[int] = mapped_column(comment="Of the parser that last promoted it")


class SyncReject(Base):
    """A record that could not be mapped; the sync went on without it."""

    __tablename__ = "sync_rejects"
    __table_args__ = (
        UniqueConstraint("sync_scope_id", "resource", "external_id"),
        Index("ix_sync_rejects_open", "sync_scope_id", postgresql_where=text("resolved_at IS NULL")),
        {"comment": "Records that could not be mapped, with payload and reason; replayable."},
    )

    id: Mapped[Id]
    sync_scope_id: Mapped[int] = reference("sync_scopes.id", index=False)
    resource: Mapped[str]
    external_id: Mapped[str]
    reason: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment='{"text": …}: what was received, as far as it is text'
    )
    first_seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    resolved_at: Mapped[datetime | None]
