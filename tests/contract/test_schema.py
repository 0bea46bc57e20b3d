"""What every table of the schema keeps to, whatever it is about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Constraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.sql.elements import conv

from models.tables import METADATA

TABLES = sorted(METADATA.tables.values(), key=lambda table: table.name)
LONGEST_NAME = 63
"""What PostgreSQL keeps of a name: a longer one would be cut, and two could become one. SQLAlchemy shortens by a hash
what the convention makes too long."""

PREFIXES: dict[type[Constraint], str] = {
    PrimaryKeyConstraint: "pk",
    UniqueConstraint: "uq",
    ForeignKeyConstraint: "fk",
    CheckConstraint: "ck",
}

every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def keys(table: Table) -> Iterator[tuple[list[str], str | None]]:
    """Columns and condition of everything that the rows of a table can be found by."""
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield [column.name for column in constraint.columns], None
    for index in table.indexes:
        where = index.dialect_options["postgresql"]["where"]
        yield names_of(index), None if where is None else str(where)


def names_of(index: Index) -> list[str]:
    return [part.name if isinstance(part, Column) else str(part) for part in index.expressions]


def unique_keys(table: Table) -> Iterator[list[str]]:
    """Columns of every natural key of a table: all unique ones but the primary key."""
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield [column.name for column in constraint.columns]
    for index in table.indexes:
        if index.unique:
            yield names_of(index)


@every_table
def test_every_foreign_key_has_an_index_that_begins_with_its_column(table: Table) -> None:
    # An index of the rows that have a value serves as well: what is looked up is never NULL.
    for foreign_key in table.foreign_key_constraints:
        (column,) = foreign_key.column_keys
        found = [
            columns
            for columns, where in keys(table)
            if columns[0] == column and where in (None, f"{column} IS NOT NULL")
        ]
        assert found, f"{table.name}.{column} has no index of its own"


@every_table
def test_every_table_says_what_it_holds(table: Table) -> None:
    assert table.comment
    assert table.comment.endswith(".")


@every_table
def test_every_time_knows_its_zone_and_no_text_has_a_limit(table: Table) -> None:
    for column in table.columns:
        if isinstance(column.type, DateTime):
            assert column.type.timezone, f"{column} is not timestamptz"
        if type(column.type) in (String, Text):
            assert type(column.type) is Text, f"{column} is varchar"
            assert column.type.length is None, f"{column} has a limit"


@pytest.mark.parametrize("table", [table for table in TABLES if "tenant_id" in table.c], ids=lambda table: table.name)
def test_natural_keys_of_a_tenant_s_table_begin_with_the_tenant_or_a_parent(table: Table) -> None:
    parents = {key.parent.name for key in table.foreign_keys}
    for columns in unique_keys(table):
        if len(columns) > 1:
            assert columns[0] in {"tenant_id"} | parents, f"{table.name} {columns}"


@every_table
def test_names_of_constraints_and_indexes_follow_the_convention(table: Table) -> None:
    for constraint in table.constraints:
        prefix = PREFIXES[type(constraint)]
        assert str(constraint.name).startswith(f"{prefix}_{table.name}"), constraint
        assert isinstance(constraint.name, conv) or len(str(constraint.name)) <= LONGEST_NAME, constraint
    for index in table.indexes:
        prefixes = ("ix", "uq") if index.unique else ("ix",)
        assert str(index.name).startswith(tuple(f"{prefix}_{table.name}_" for prefix in prefixes)), index
        assert isinstance(index.name, conv) or len(str(index.name)) <= LONGEST_NAME, index


@every_table
def test_every_table_has_a_primary_key(table: Table) -> None:
    assert table.primary_key.columns


def test_there_are_tables_of_every_subject() -> None:
    assert {"users", "projects", "test_cases", "documents", "bug_budget", "gitlab_mr_lead_times"} < set(METADATA.tables)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("audit_logs", "created_at"),
        ("audit_logs_archive", "created_at"),
        ("audit_events", "occurred_at"),
        ("change_log", "changed_at"),
        ("job_runs", "created_at"),
        ("telemetry_events", "occurred_at"),
        ("webhook_deliveries", "received_at"),
    ],
)
def test_what_is_partitioned_by_time_has_the_time_in_every_unique_key(name: str, time: str) -> None:
    table = METADATA.tables[name]
    assert table.dialect_options["postgresql"]["partition_by"] == f"RANGE ({time})"
    assert [column.name for column in table.primary_key.columns] == ["id", time]
    assert all(time in columns for columns in unique_keys(table))
    pointing = [key for other in TABLES for key in other.foreign_keys if key.column.table is table]
    assert pointing == [], "a foreign key needs a unique key without the time"


def test_the_archive_of_audit_logs_begins_as_the_live_table_does() -> None:
    # A month is detached from the one and attached to the other, so what both have must be the same.
    live, archive = METADATA.tables["audit_logs"].c, METADATA.tables["audit_logs_archive"].c
    for column in live:
        twin = archive[column.name]
        assert (str(twin.type), twin.nullable) == (str(column.type), column.nullable)
    added = {column.name for column in archive} - {column.name for column in live}
    assert added == {"archived_at", "original_created_at", "original_updated_at"}
    # What is added must not need a look at the rows.
    assert all(archive[name].nullable or archive[name].server_default is not None for name in added)
