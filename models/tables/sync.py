"""How data comes in: connections, scopes, windows, watermarks, staged payloads and rejects, webhooks and imports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Enum, Identity, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_LIST, EMPTY_OBJECT, Base, Id, Tenant, Times, reference

CONNECTION_STATUSES = ("active", "paused", "denied")
WINDOW_STATES = ("pending", "running", "done", "failed")
IMPORT_SOURCES = ("csv", "github", "manual")
IMPORT_STATUSES = ("pending", "processing", "completed", "failed")


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
    webhooks: Mapped[dict[str, Any] | None] = mapped_column(
        comment="Where its webhooks go and how they were found last; NULL: it has none"
    )


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
    is_backfill: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="Reads old things and is shared by all workers; else it follows what is new",
    )
    rows_expected: Mapped[int | None] = mapped_column(BigInteger, comment="What the source says that it holds")


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
    refused_at: Mapped[datetime | None] = mapped_column(
        comment="When the source last refused the stream, though it shows the scope"
    )
    refusal: Mapped[str | None] = mapped_column(comment="In a sentence")


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


class WebhookDeliveryKey(Base):
    """That a delivery has come: what makes a second copy of it no second delivery."""

    __tablename__ = "webhook_delivery_keys"
    __table_args__ = (
        {"comment": "Which deliveries have come, each key once, however the deliveries themselves are partitioned."},
    )

    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False, ondelete="CASCADE")
    delivery_key: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


class WebhookDelivery(Base):
    """A webhook as it came in."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("ix_webhook_deliveries_key", "connection_id", "delivery_key"),
        Index("ix_webhook_deliveries_unprocessed", "received_at", postgresql_where=text("processed_at IS NULL")),
        {
            "comment": "Webhooks as they came in: stored before they are answered, worked off after.",
            "postgresql_partition_by": "RANGE (received_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    connection_id: Mapped[int] = reference("connections.id", index=False, ondelete="CASCADE")
    delivery_key: Mapped[str] = mapped_column(comment="The sender's id of it, the same when sent again")
    event_type: Mapped[str]
    headers: Mapped[dict[str, Any]] = mapped_column(
        server_default=EMPTY_OBJECT, comment="Without tokens and signatures"
    )
    payload: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))
    processed_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None]


class DoubtfulObject(Base):
    """An object that we are in doubt about, and ask its source for again."""

    __tablename__ = "doubtful_objects"
    __table_args__ = (
        Index("ix_doubtful_objects_doubted_at", "doubted_at"),
        {"comment": "Objects missing at their source, or naming what moved: asked for again, mended or tombstoned."},
    )

    sync_scope_id: Mapped[int] = reference("sync_scopes.id", primary_key=True, index=False, ondelete="CASCADE")
    resource: Mapped[str] = mapped_column(primary_key=True, comment="The stream")
    external_id: Mapped[str] = mapped_column(primary_key=True)
    doubted_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ImportLog(Times, Base):
    """One import of a file or of another system's data."""

    __tablename__ = "import_logs"
    __table_args__ = (
        CheckConstraint("rows_total >= 0 AND rows_imported >= 0 AND rows_failed >= 0", name="counts"),
        Index("ix_import_logs_created_at", "tenant_id", "created_at"),
        {"comment": "Imports of files and of other systems' data: how many rows came in, and what the rest had wrong."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    source: Mapped[str] = mapped_column(Enum(*IMPORT_SOURCES, name="import_source"))
    file_name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Enum(*IMPORT_STATUSES, name="import_status"), server_default="pending")
    rows_total: Mapped[int] = mapped_column(server_default="0")
    rows_imported: Mapped[int] = mapped_column(server_default="0")
    rows_failed: Mapped[int] = mapped_column(server_default="0")
    errors: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST, comment='[{"row": 7, "error": …}]')
