"""Jobs, their schedules, and the keys of summaries that still have to be computed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Enum, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, BigInt, Id, Tenant, Times, reference

CATCH_UP_RULES = ("none", "last", "all")
JOB_TRIGGERS = ("schedule", "webhook", "api", "cli", "event")
JOB_STATUSES = ("queued", "running", "succeeded", "failed", "retrying", "cancelled", "lost")


class JobSchedule(Times, Base):
    """A task that runs by the clock."""

    __tablename__ = "job_schedules"
    __table_args__ = ({"comment": "Tasks that run by the clock: cron, time zone and what happens to missed ticks."},)

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id")
    name: Mapped[str] = mapped_column(unique=True)
    task: Mapped[str]
    cron: Mapped[str] = mapped_column(comment="Five fields, or six with seconds last")
    timezone: Mapped[str] = mapped_column(server_default="UTC")
    args: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    is_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    catch_up: Mapped[str] = mapped_column(Enum(*CATCH_UP_RULES, name="catch_up_rule"), server_default="last")
    last_scheduled_for: Mapped[datetime | None]
    next_run_at: Mapped[datetime | None]


class JobRun(Times, Base):
    """One run of a task; the truth about it, while the broker's message is only a wake-up call."""

    __tablename__ = "job_runs"
    __table_args__ = (
        Index(
            "ix_job_runs_unfinished",
            "run_after",
            postgresql_where=text("status IN ('queued', 'running', 'retrying')"),
        ),
        Index("ix_job_runs_task", "task", "created_at"),
        {
            "comment": "The truth about every job: what, why, when, how it went, what it read and wrote.",
            "postgresql_partition_by": "RANGE (created_at)",
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    tenant_id: Mapped[int | None] = reference("tenants.id")
    task: Mapped[str]
    queue: Mapped[str]
    schedule_id: Mapped[int | None] = reference("job_schedules.id")
    scheduled_for: Mapped[datetime | None]
    parent_id: Mapped[int | None] = mapped_column(
        BigInteger, index=True, comment="The job that enqueued it; followers wait for all of the root's"
    )
    root_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    trigger: Mapped[str] = mapped_column(Enum(*JOB_TRIGGERS, name="job_trigger"))
    args: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    queueing_lock: Mapped[str | None] = mapped_column(comment="Never two waiting with the same")
    celery_task_id: Mapped[str | None]
    worker: Mapped[str | None] = mapped_column(comment="Host and process that runs it")
    status: Mapped[str] = mapped_column(Enum(*JOB_STATUSES, name="job_status"), server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default="0")
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    run_after: Mapped[datetime] = mapped_column(server_default=text("now()"))
    sent_at: Mapped[datetime | None] = mapped_column(comment="When its message was last given to the broker")
    sent_count: Mapped[int] = mapped_column(server_default="0")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    rows_read: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rows_written: Mapped[int] = mapped_column(BigInteger, server_default="0")
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())


class JobKey(Base):
    """What one job only may have: its tick, and its queueing lock while it waits."""

    __tablename__ = "job_keys"
    __table_args__ = (
        {
            "comment": "What one job only may have; a table of its own, because a unique key over months would have to "
            "hold the month."
        },
    )

    key: Mapped[str] = mapped_column(
        primary_key=True, comment="tick:SCHEDULE:TIME as long as the job is kept, waiting:LOCK while it is queued"
    )
    job_id: Mapped[BigInt] = mapped_column(comment="job_runs.id")
    tenant_id: Mapped[BigInt | None] = mapped_column(comment="job_runs.tenant_id")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DirtyKey(Base):
    """A summary key whose inputs changed. Append-only, so that writers never wait for each other (docs/decisions)."""

    __tablename__ = "dirty_keys"
    __table_args__ = (
        Index("ix_dirty_keys_summary", "summary", "id"),
        {"comment": "What the summaries still have to compute; written by triggers in the writer's transaction."},
    )

    id: Mapped[Id]
    summary: Mapped[str]
    tenant_id: Mapped[Tenant]
    key: Mapped[str] = mapped_column(comment="Key columns joined by a colon")
    since: Mapped[datetime | None] = mapped_column(comment="From when on the key is to be computed again")
    marked_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
