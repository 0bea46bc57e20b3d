"""Projects and their repositories."""

from __future__ import annotations

from sqlalchemy import BigInteger, Enum, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Id, Tenant, Times, reference

PROJECT_STATUSES = ("active", "shipped", "deferred", "cancelled")


class Project(Times, Base):
    """A product or component whose quality is measured."""

    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("tenant_id", "title"),
        {"comment": "What quality is measured of; scopes of connections map to these."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    title: Mapped[str]
    description: Mapped[str | None]
    key: Mapped[str | None]
    status: Mapped[str] = mapped_column(Enum(*PROJECT_STATUSES, name="project_status"), server_default="active")
    timezone: Mapped[str] = mapped_column(server_default="UTC", comment="Reporting time zone: when a day of it ends")
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    updated_by: Mapped[int | None] = mapped_column(BigInteger)


class Repository(Times, Base):
    """A code repository of a project."""

    __tablename__ = "repositories"
    __table_args__ = (
        UniqueConstraint("tenant_id", "provider", "external_id"),
        {"comment": "Code repositories; test cases and merge requests hang on them."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[Tenant]
    project_id: Mapped[int] = reference("projects.id")
    title: Mapped[str]
    prefix: Mapped[str | None]
    description: Mapped[str | None]
    provider: Mapped[str] = mapped_column(comment="gitlab, github, allure, …")
    external_id: Mapped[str] = mapped_column(comment="The instance's host and the id or path there")
    web_url: Mapped[str | None]
    default_branch: Mapped[str | None]
