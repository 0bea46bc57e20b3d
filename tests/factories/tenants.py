"""A row of every table for a tenant, each naming the tenant's own rows wherever it names any."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Enum, Table, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.schema import sort_tables

from models.tables import METADATA, isolation
from models.tables.isolation import Child

Row = Mapping[str, Any]

_numbers = itertools.count(1)

FUTURE = datetime.now(UTC) + timedelta(days=1)
VALUES: dict[type, Any] = {
    int: 1,
    float: 1,
    bool: False,
    bytes: b"x" * 32,
    datetime: datetime.now(UTC),
    date: datetime.now(UTC).date(),
    timedelta: timedelta(days=1),
    dict: {},
    list: [],
    uuid.UUID: uuid.UUID(int=1),
}
FITTING: dict[str, dict[str, Any]] = {
    # What a check asks for.
    "bot_rules": {"field": "username"},
    "content_storage": {"content_data": b"x"},
    "data_subject_requests": {"due_at": FUTURE},
    "metric_weights": {"bad": 0},
    "sla_policies": {"response_seconds": 60},
}

OTHERS = {"identity_decisions": {"other_identity_id": "user_identities"}}
"""Columns that must name another row than the one of the tenant, with the table of it."""


def _in_order() -> list[Table]:
    """All tables, each after those that its rows name, with a foreign key or without."""
    of = METADATA.tables
    named = [(of[target], table) for table in of.values() for target, _ in _naming(table).values()]
    return sort_tables(list(of.values()), extra_dependencies=[(to, by) for to, by in named if to is not by])


def make_tenant(session: Session, name: str) -> dict[str, Row]:
    """A tenant with a row of every table; table to row."""
    made: dict[str, Row] = {}
    made["tenants"] = _insert(session, METADATA.tables["tenants"], {"name": name, "slug": name})
    for table in _in_order():
        if table.name != "tenants":
            others = {
                column: _insert(session, METADATA.tables[target], _values(METADATA.tables[target], made))["id"]
                for column, target in OTHERS.get(table.name, {}).items()
            }
            made[table.name] = _insert(session, table, _values(table, made) | others)
    return made


def make_platform_rows(session: Session, tenant: Mapping[str, Row]) -> dict[str, Row]:
    """A row that is nobody's of every table that may have one; the tenant's rows are what they would name."""
    made = {**tenant, "tenants": {"id": None, "slug": "platform"}}
    return {
        table.name: _insert(session, table, _values(table, made))
        for table in _in_order()
        if "tenant_id" in table.c and table.c.tenant_id.nullable
    }


def _insert(session: Session, table: Table, values: Row) -> Row:
    try:
        return session.execute(insert(table).values(**values).returning(*table.c)).mappings().one()
    except IntegrityError as error:
        raise AssertionError(f"say in tests/factories/tenants.py what a row of {table.name} needs") from error


def _values(table: Table, made: Mapping[str, Row]) -> dict[str, Any]:
    # Of rows of the same table there is none yet.
    named = {column: made[target][key] for column, (target, key) in _naming(table).items() if target != table.name}
    return {column.name: _value(column, named, made) for column in table.c if column.name in named or _is_asked(column)}


def _naming(table: Table) -> dict[str, tuple[str, str]]:
    """Column to table and column: the rows that a row names."""
    naming = {key.parent.name: (key.column.table.name, key.column.name) for key in table.foreign_keys}
    if "tenant_id" in table.c:
        naming["tenant_id"] = ("tenants", "id")
    naming |= {column: (target, "id") for column, target in isolation.references(table).items()}
    rule = isolation.whose(table)
    if isinstance(rule, Child) and table.name != "users":
        naming[rule.column] = (rule.parent, rule.key)
    return naming


def _is_asked(column: Column[Any]) -> bool:
    """Whether a row must say something of a column."""
    is_given = column.server_default is not None or column.identity is not None or column.computed is not None
    return column.name in FITTING.get(column.table.name, {}) or not (column.nullable or is_given)


def _value(column: Column[Any], named: Row, made: Mapping[str, Row]) -> Any:
    if column.name in named:
        return named[column.name]
    fitting = FITTING.get(column.table.name, {})
    if column.name in fitting:
        return fitting[column.name]
    if isinstance(column.type, Enum):
        return column.type.enums[0]
    if column.name == "expires_at":
        return FUTURE
    if column.name.endswith("_hash") and column.type.python_type is str:
        return uuid.uuid4().hex * 2
    if column.type.python_type is str:
        return f"{column.name} {next(_numbers)} of {made['tenants']['slug']}"
    if column.primary_key and column.type.python_type is int:
        return next(_numbers)
    return VALUES.get(column.type.python_type, 1)
