"""What tenants set and add to the platform by name: settings, menus, and facts about any of their things."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import EMPTY_OBJECT, Base, BigInt, Id, Times, reference


class Setting(Times, Base):
    """A value that somebody set."""

    __tablename__ = "settings"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key", postgresql_nulls_not_distinct=True),
        {"comment": "Values that people set, for a tenant or for all."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int | None] = reference("tenants.id", index=False, comment="NULL: every tenant without its own")
    key: Mapped[str]
    value: Mapped[str | None]
    type: Mapped[str] = mapped_column(server_default="string", comment="How the value is read")
    category: Mapped[str | None]
    description: Mapped[str | None]


class MenuVisibility(Times, Base):
    """Whether an entry of the platform's menu is shown."""

    __tablename__ = "menu_visibilities"
    __table_args__ = ({"comment": "Which entries of the platform's menu are shown, and in which order."},)

    id: Mapped[Id]
    menu_key: Mapped[str] = mapped_column(unique=True)
    menu_name: Mapped[str]
    is_visible: Mapped[bool] = mapped_column(server_default=text("true"))
    parent_key: Mapped[str | None] = mapped_column(comment="menu_key of the entry above")
    sort_order: Mapped[int] = mapped_column(server_default="0")
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=EMPTY_OBJECT)


class EntityMetadata(Times, Base):
    """A fact about a thing that has no column for it."""

    __tablename__ = "entity_metadata"
    __table_args__ = (
        UniqueConstraint("tenant_id", "entity_type", "entity_id", "meta_key"),
        Index("ix_entity_metadata_meta_key_meta_value", "meta_key", "meta_value"),
        {"comment": "Facts about things that have no column for them."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    entity_type: Mapped[str] = mapped_column(comment="project, test_case, …")
    entity_id: Mapped[BigInt]
    meta_key: Mapped[str]
    meta_value: Mapped[str | None]
