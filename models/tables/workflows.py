"""Sagas: work of several steps, each of which can be undone when a later one fails."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Enum, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, Id, Times, reference

SAGA_STATUSES = ("pending", "in_progress", "compensating", "completed", "failed", "rolled_back")
SAGA_STEP_STATUSES = ("pending", "in_progress", "completed", "failed")


class WorkflowSaga(Times, Base):
    """One run of a saga."""

    __tablename__ = "workflow_sagas"
    __table_args__ = (
        CheckConstraint("(status = 'completed') = (completed_at IS NOT NULL)", name="completed_has_a_time"),
        CheckConstraint("status NOT IN ('failed', 'rolled_back') OR failed_at IS NOT NULL", name="failed_has_a_time"),
        Index(
            "ix_workflow_sagas_unfinished",
            "updated_at",
            postgresql_where=text("status IN ('pending', 'in_progress', 'compensating')"),
        ),
        Index("ix_workflow_sagas_type", "saga_type", "created_at"),
        {"comment": "Work of several steps, each of which can be undone when a later one fails."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id")
    saga_type: Mapped[str]
    current_step: Mapped[str | None] = mapped_column(comment="Name of the step that runs or ran last")
    status: Mapped[str] = mapped_column(Enum(*SAGA_STATUSES, name="saga_status"), server_default="pending")
    context: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT, comment="What its steps know")
    started_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    error_message: Mapped[str | None]


class WorkflowSagaStep(Times, Base):
    """One step of a saga."""

    __tablename__ = "workflow_saga_steps"
    __table_args__ = (
        UniqueConstraint("saga_id", "position"),
        UniqueConstraint("saga_id", "name"),
        CheckConstraint("position >= 0", name="position"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("finished_at >= started_at", name="ends_after_start"),
        {"comment": "Steps of sagas: what each has done, and whether it was undone."},
    )

    id: Mapped[Id]
    saga_id: Mapped[int] = reference("workflow_sagas.id", index=False, ondelete="CASCADE")
    name: Mapped[str]
    position: Mapped[int]
    status: Mapped[str] = mapped_column(Enum(*SAGA_STEP_STATUSES, name="saga_step_status"), server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    result: Mapped[dict[str, Any] | None]
    compensation_status: Mapped[str | None] = mapped_column(
        Enum(*SAGA_STEP_STATUSES, name="saga_step_status"), comment="How undoing it went; NULL: not asked for"
    )
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
