"""Who may do what: users, their roles and permissions, tokens, secrets and the platform's login tables.

Tenants and the accounts of people at the sources do not belong here; they stand in `tenancy`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_LIST, EMPTY_OBJECT, Base, BigInt, Id, Tenant, Times, reference


class User(Times, Base):
    """A person who signs in to the platform."""

    __tablename__ = "users"
    __table_args__ = ({"comment": "People who sign in to the platform."},)

    id: Mapped[Id]
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    google_id: Mapped[str | None] = mapped_column(unique=True)
    google_avatar: Mapped[str | None] = mapped_column(comment="URL")
    auth_provider: Mapped[str] = mapped_column(server_default="email")
    role: Mapped[str] = mapped_column(server_default="member", comment="On the platform; tenant_users has it by tenant")
    avatar: Mapped[str | None] = mapped_column(comment="URL")
    last_login_at: Mapped[datetime | None]
    password_changed_at: Mapped[datetime | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    email_verified_at: Mapped[datetime | None]
    password: Mapped[str | None] = mapped_column(comment="Hash; NULL where another provider signs the person in")
    job_role: Mapped[str | None]
    squad: Mapped[str | None]
    remember_token: Mapped[str | None]
    preferences: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class PasswordReset(Times, Base):
    """A request for a new password."""

    __tablename__ = "password_resets"
    __table_args__ = (
        CheckConstraint("expires_at > created_at", name="ends_after_start"),
        Index("ix_password_resets_unused", "email", postgresql_where=text("used_at IS NULL")),
        {"comment": "Requests for a new password; a token works once and until it expires."},
    )

    id: Mapped[Id]
    email: Mapped[str]
    user_id: Mapped[int | None] = reference("users.id", ondelete="CASCADE")
    token: Mapped[str] = mapped_column(unique=True)
    used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class PersonalAccessToken(Times, Base):
    """A bearer token for the API, of which only the hash is known."""

    __tablename__ = "personal_access_tokens"
    __table_args__ = (
        CheckConstraint("token_hash ~ '^[0-9a-f]{64}$'", name="token_hash_is_sha256"),
        CheckConstraint("expires_at > created_at", name="ends_after_start"),
        Index("ix_personal_access_tokens_tokenable", "tokenable_type", "tokenable_id"),
        {"comment": "Bearer tokens for the API, as hashes; the token itself is never stored."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", comment="Whose rows it opens; NULL opens no tenant's")
    tokenable_type: Mapped[str] = mapped_column(comment="What it speaks for, e.g. user")
    tokenable_id: Mapped[BigInt]
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True, comment="SHA-256 in hexadecimal")
    abilities: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST, comment='["jobs:run", …]')
    last_used_at: Mapped[datetime | None]
    last_used_ip: Mapped[str | None] = mapped_column(INET)
    last_used_user_agent: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")


class PasswordHistory(Times, Base):
    """A former password of a user, so that it is not taken again."""

    __tablename__ = "password_history"
    __table_args__ = ({"comment": "Hashes of former passwords, so that none is taken again."},)

    id: Mapped[Id]
    user_id: Mapped[int] = reference("users.id", ondelete="CASCADE")
    password_hash: Mapped[str]
    password_reset_id: Mapped[int | None] = reference(
        "password_resets.id", ondelete="SET NULL", comment="The reset that ended it"
    )


class UserInvitation(Times, Base):
    """An invitation to join the platform, or a tenant of it."""

    __tablename__ = "user_invitations"
    __table_args__ = (
        CheckConstraint("expires_at > created_at", name="ends_after_start"),
        Index("ix_user_invitations_open", "email", postgresql_where=text("accepted_at IS NULL")),
        {"comment": "Invitations to join the platform, or a tenant of it."},
    )

    id: Mapped[Id]
    email: Mapped[str]
    token: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[int | None] = reference("tenants.id")
    invited_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    role: Mapped[str] = mapped_column(server_default="member")
    accepted_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


class Permission(Times, Base):
    """One thing that a role or a user may be allowed."""

    __tablename__ = "permissions"
    __table_args__ = (
        UniqueConstraint("name", "guard_name"),
        {"comment": "What roles and users may be allowed to do."},
    )

    id: Mapped[Id]
    name: Mapped[str]
    guard_name: Mapped[str] = mapped_column(server_default="web", comment="Which way in it holds for")


class Role(Times, Base):
    """A named set of permissions."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("name", "guard_name"), {"comment": "Named sets of permissions."})

    id: Mapped[Id]
    name: Mapped[str]
    guard_name: Mapped[str] = mapped_column(server_default="web", comment="Which way in it holds for")


class UserRole(Base):
    """A role of a user."""

    __tablename__ = "user_roles"
    __table_args__ = ({"comment": "Which roles each user has."},)

    user_id: Mapped[int] = reference("users.id", primary_key=True, index=False, ondelete="CASCADE")
    role_id: Mapped[int] = reference("roles.id", primary_key=True, ondelete="CASCADE")


class UserPermission(Base):
    """A permission of a user beside those of the roles."""

    __tablename__ = "user_permissions"
    __table_args__ = ({"comment": "Permissions of users beside those of their roles."},)

    user_id: Mapped[int] = reference("users.id", primary_key=True, index=False, ondelete="CASCADE")
    permission_id: Mapped[int] = reference("permissions.id", primary_key=True, ondelete="CASCADE")


class RolePermission(Base):
    """A permission of a role."""

    __tablename__ = "role_has_permissions"
    __table_args__ = ({"comment": "Which permissions each role has."},)

    permission_id: Mapped[int] = reference("permissions.id", primary_key=True, index=False, ondelete="CASCADE")
    role_id: Mapped[int] = reference("roles.id", primary_key=True, ondelete="CASCADE")


class RoleAuditLog(Base):
    """A role given or taken."""

    __tablename__ = "role_audit_logs"
    __table_args__ = ({"comment": "Who gave or took which role, and when."},)

    id: Mapped[Id]
    actor_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL", comment="Who did it")
    user_id: Mapped[int | None] = reference("users.id", ondelete="SET NULL", comment="Whose role it is")
    role: Mapped[str]
    action: Mapped[str] = mapped_column(comment="granted, revoked, …")
    repository_id: Mapped[int | None] = reference("repositories.id", ondelete="SET NULL")
    occurred_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class HmacSecret(Times, Base):
    """A secret that CI uploads and webhooks are signed with."""

    __tablename__ = "hmac_secrets"
    __table_args__ = (
        Index(
            "uq_hmac_secrets_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("revoked_at IS NULL"),
        ),
        {"comment": "Secrets that CI uploads and webhooks are signed with; a name is free again once revoked."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    repository_id: Mapped[int | None] = reference("repositories.id")
    name: Mapped[str]
    secret: Mapped[str] = mapped_column(comment="Fernet token; see SECRET_KEYS")
    created_by: Mapped[int | None] = reference("users.id", ondelete="SET NULL")
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Account(Times, Base):
    """An account at an OAuth provider that signs a user in."""

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("provider", "provider_account_id"),
        Index("ix_accounts_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
        {"comment": "Accounts at OAuth providers that sign users in; written by the platform."},
    )

    id: Mapped[Id]
    user_id: Mapped[int] = reference("users.id", ondelete="CASCADE")
    type: Mapped[str] = mapped_column(comment="oauth, oidc, email, …")
    provider: Mapped[str]
    provider_account_id: Mapped[str]
    access_token: Mapped[str | None]
    refresh_token: Mapped[str | None]
    id_token: Mapped[str | None]
    token_type: Mapped[str | None]
    scope: Mapped[str | None]
    session_state: Mapped[str | None]
    expires_at: Mapped[datetime | None] = mapped_column(comment="Of the access token")


class WebSession(Times, Base):
    """A signed-in browser."""

    __tablename__ = "sessions"
    __table_args__ = ({"comment": "Signed-in browsers; written by the platform, purged by the workers once expired."},)

    id: Mapped[Id]
    session_token: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = reference("users.id", ondelete="CASCADE")
    expires_at: Mapped[datetime] = mapped_column(index=True)


class VerificationToken(Times, Base):
    """A token that proves an e-mail address."""

    __tablename__ = "verification_tokens"
    __table_args__ = ({"comment": "Tokens that prove e-mail addresses; purged by the workers once expired."},)

    identifier: Mapped[str] = mapped_column(primary_key=True, comment="The e-mail address")
    token: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
