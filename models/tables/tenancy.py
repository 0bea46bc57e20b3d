"""Tenants, who belongs to them, and the accounts of people at the sources."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Enum, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, BigInt, Id, Tenant, Times, reference

TENANT_PLANS = ("free", "starter", "professional", "enterprise")
TENANT_STATUSES = ("active", "suspended", "cancelled", "trial")


class TenantRow(Times, Base):
    """A customer of the platform; every tenant-scoped row names one."""

    __tablename__ = "tenants"
    __table_args__ = ({"comment": "Customers of the platform; every tenant-scoped row names one."},)

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    slug: Mapped[str] = mapped_column(unique=True)
    domain: Mapped[str | None] = mapped_column(unique=True)
    subdomain: Mapped[str | None] = mapped_column(unique=True)
    plan: Mapped[str] = mapped_column(Enum(*TENANT_PLANS, name="tenant_plan"), server_default="free")
    status: Mapped[str] = mapped_column(Enum(*TENANT_STATUSES, name="tenant_status"), server_default="active")
    max_users: Mapped[int] = mapped_column(server_default="5")
    max_projects: Mapped[int] = mapped_column(server_default="3")
    features: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    billing_email: Mapped[str | None]
    subscription_id: Mapped[str | None]
    trial_ends_at: Mapped[datetime | None]


class TenantUser(Base):
    """That a user belongs to a tenant."""

    __tablename__ = "tenant_users"
    __table_args__ = ({"comment": "Which users belong to which tenant, and as what."},)

    tenant_id: Mapped[int] = reference("tenants.id", primary_key=True, index=False)
    user_id: Mapped[int] = reference("users.id", primary_key=True, ondelete="CASCADE")
    role: Mapped[str] = mapped_column(server_default="member")
    invited_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    joined_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class UserIdentity(Times, Base):
    """An account at a source. One person may have several."""

    __tablename__ = "user_identities"
    __table_args__ = (
        UniqueConstraint("tenant_id", "source", "external_id"),
        {"comment": "Accounts at the sources; several may belong to one person."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    user_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    source: Mapped[str] = mapped_column(comment="jira, gitlab, github, allure or git")
    external_id: Mapped[str] = mapped_column(comment="The instance's host and the account's unchanging id there")
    username: Mapped[str | None]
    display_name: Mapped[str | None]
    email: Mapped[str | None]
    email_is_verified: Mapped[bool] = mapped_column(server_default=text("false"), comment="By the source")
    provider_id: Mapped[str | None] = mapped_column(comment="Identity provider and the id there")
    is_bot: Mapped[bool] = mapped_column(server_default=text("false"))
    bot_reason: Mapped[str | None]
    person_id: Mapped[BigInt | None] = mapped_column(
        index=True, comment="The smallest id of the person's accounts; NULL until people are told apart"
    )
    person_reason: Mapped[str | None] = mapped_column(comment="Why the account is with others; NULL where it is alone")


class IdentityDecision(Base):
    """What somebody decided by hand about an account."""

    __tablename__ = "identity_decisions"
    __table_args__ = (
        UniqueConstraint("identity_id", "other_identity_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("identity_id <> other_identity_id", name="two_accounts"),
        {"comment": "Accounts that are one person's by hand, and accounts that stand apart whatever they share."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    identity_id: Mapped[int] = reference("user_identities.id", index=False, ondelete="CASCADE")
    other_identity_id: Mapped[int | None] = reference(
        "user_identities.id", ondelete="CASCADE", comment="The same person's; NULL: identity_id stands apart"
    )
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
