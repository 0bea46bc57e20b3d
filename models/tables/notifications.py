"""Who is told what: notifications, the channels and rules behind them, and what was delivered."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CheckConstraint, Enum, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, BigInt, Id, Tenant, Times, reference

NOTIFICATION_DIGESTS = ("none", "hourly", "daily")
DELIVERY_STATUSES = ("pending", "sent", "failed", "suppressed")


class Notification(Times, Base):
    """Something that one person is told on the platform."""

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_notifiable", "notifiable_type", "notifiable_id", "created_at"),
        Index(
            "ix_notifications_unread",
            "notifiable_type",
            "notifiable_id",
            postgresql_where=text("read_at IS NULL"),
        ),
        {"comment": "What people are told on the platform."},
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant_id: Mapped[int | None] = reference("tenants.id", comment="Whose business it is; NULL: the platform's")
    type: Mapped[str]
    notifiable_type: Mapped[str] = mapped_column(comment="Whom it is for: user, …")
    notifiable_id: Mapped[BigInt]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    read_at: Mapped[datetime | None]


class NotificationChannel(Times, Base):
    """A place that messages go to."""

    __tablename__ = "notification_channels"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        {"comment": "Places that messages go to: Slack, Teams, e-mail and others."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    kind: Mapped[str] = mapped_column(comment="slack, teams, email, webhook, …")
    name: Mapped[str]
    target: Mapped[str] = mapped_column(comment="Fernet token of a URL; see SECRET_KEYS")
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class NotificationRule(Times, Base):
    """Which events are told where, in which words and how often."""

    __tablename__ = "notification_rules"
    __table_args__ = (
        CheckConstraint("throttle >= interval '0'", name="throttle"),
        Index("ix_notification_rules_active", "tenant_id", "event_type", postgresql_where=text("is_active")),
        {"comment": "Which events are told where, in which words and how often."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    event_type: Mapped[str]
    filter: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT, comment="What the event must contain")
    channel_id: Mapped[int] = reference("notification_channels.id")
    template: Mapped[str] = mapped_column(comment="Jinja2")
    throttle: Mapped[timedelta | None] = mapped_column(comment="At most one message of the same cause in this time")
    digest: Mapped[str] = mapped_column(Enum(*NOTIFICATION_DIGESTS, name="notification_digest"), server_default="none")
    quiet_hours: Mapped[dict[str, Any] | None] = mapped_column(
        comment='{"from": "20:00", "to": "08:00", "timezone": …}'
    )
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class NotificationDelivery(Times, Base):
    """One message to one channel: a row first, a message then."""

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("(status = 'sent') = (sent_at IS NOT NULL)", name="sent_has_a_time"),
        Index("ix_notification_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        {"comment": "Messages to channels: rows first, so that none is lost and none is sent twice."},
    )

    id: Mapped[Id]
    notification_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("notifications.id", ondelete="SET NULL"), index=True
    )
    rule_id: Mapped[int | None] = reference("notification_rules.id", ondelete="SET NULL")
    channel_id: Mapped[int] = reference("notification_channels.id", ondelete="CASCADE")
    dedupe_key: Mapped[str] = mapped_column(unique=True, comment="What it is about; the same twice is one message")
    payload: Mapped[dict[str, Any]] = mapped_column(
        server_default=EMPTY_OBJECT, comment="What the template is filled with"
    )
    status: Mapped[str] = mapped_column(Enum(*DELIVERY_STATUSES, name="delivery_status"), server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_error: Mapped[str | None]
    sent_at: Mapped[datetime | None]
