"""What all tables share: the metadata with its naming convention, column types with units, and the row's own times.

No table of the domain belongs here; each stands in the module of its subject.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, MetaData, Numeric, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads this plain class attribute
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        Decimal: Numeric,
    }


Id = Annotated[int, mapped_column(BigInteger, Identity(always=False), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
Tenant = Annotated[int, mapped_column(BigInteger, ForeignKey("tenants.id"), index=True)]
Hours = Annotated[Decimal, mapped_column(Numeric(14, 4))]
Money = Annotated[Decimal, mapped_column(Numeric(16, 2))]

EMPTY_OBJECT = text("'{}'")
EMPTY_LIST = text("'[]'")


def reference(target: str, *, index: bool = True, ondelete: str | None = None, **options: Any) -> Mapped[Any]:
    """A foreign key to `target`, with the index that every foreign key has.

    Args:
        target: table and column, e.g. `projects.id`.
        index: False only where another index begins with this column.
        ondelete: `CASCADE` for what means nothing without its target, `SET NULL` for who did something; by default
            a row that is still named cannot be deleted.
        options: passed to `mapped_column`.
    """
    return mapped_column(BigInteger, ForeignKey(target, ondelete=ondelete), index=index, **options)


class Times:
    """`created_at` and `updated_at` of tables that other people write to."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
