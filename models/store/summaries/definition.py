"""What a summary is: a table, its keys, and three statements that say how it follows from its inputs.

What belongs here: the shape of a definition. What does not: any definition (one module each), and how rows are
replaced (recompute.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Date, MetaData, Table

FORM = re.compile(r"([a-z]+):|[0-9]+([@:]|$)")

LAST_UPDATED_AT = "last_updated_at"
DEFINITION_VERSION = "definition_version"


@dataclass(frozen=True)
class Summary:
    """A table that is computed, never written by hand, and equal to a rebuild at any time.

    Every statement reads its inputs and nothing else, so the rows are a function of the inputs and `:as_of`. No clock
    stands in them.
    """

    name: str
    table: Table
    key: tuple[str, ...]
    """Columns of what is recomputed at once: a mark names one such key, and a key may have any number of rows."""
    identity: tuple[str, ...]
    """Columns that tell one row from another."""
    definition_version: int
    """Raised whenever `rows` begins to mean something else; `recompute.mark_outdated` then marks every key."""
    keys_of_marks: Mapping[str, str]
    """By form of a mark (`form_of`), SELECT of the keys that those of `marks` (tenant_id, key, since) stand for, twice
    or not. With `since_column`, a date `since` beside them, NULL for from the beginning."""
    all_keys: str
    """SELECT of every key that has inputs or rows, of project `:project_id` and the tenants `:tenants`, where given."""
    rows: str
    """SELECT of the rows of the keys in the temporary table `wanted`, at `:as_of`, columns by name."""
    inputs: Table | None = None
    """A temporary table that `rows` reads, filled by `input_rows` first: the planner sees how many there are, where
    inside one long statement it guesses a handful and scans an index a hundred thousand times."""
    input_rows: str = ""
    """SELECT of the rows of `inputs`, columns by name."""
    rivals: str | None = None
    """INSERT INTO `wanted` of the keys whose rows hold, or held, a unique value that a row of a wanted key takes."""
    since_column: str | None = None
    """The column by which only part of a key is replaced: the rows from `wanted.since` on."""
    overdue: str | None = None
    """SELECT of marks (tenant_id, key, since), at most `:limit`, that the passing of time to `:as_of` makes."""
    afterwards: str | None = None
    """INSERT of marks whose `since` lies after `:as_of`: what the inputs hold already, and time will make dirty."""
    is_coarse: bool = False
    """True where a key is so large that all its marks are taken together: once costs what a thousand times costs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Other values that the statements name."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that `rows` computes: all but ids, generated ones, and those that are the same in every row."""
        return tuple(
            column.name
            for column in self.table.columns
            if column.identity is None
            and column.computed is None
            and column.name not in {LAST_UPDATED_AT, DEFINITION_VERSION}
        )

    @cached_property
    def wanted(self) -> Table:
        """The temporary table of the keys to compute."""
        columns = [Column(name, self.table.c[name].type) for name in self.key]
        if self.since_column is not None:
            columns.append(Column("since", Date))
        return temporary("wanted", *columns)

    @cached_property
    def fresh(self) -> Table:
        """The temporary table of the rows as they should be."""
        return temporary("fresh", *(Column(name, self.table.c[name].type) for name in self.columns))


def form_of(mark: str) -> str:
    """What kind of mark it is; migration 0002 tells what they mean.

    Returns:
        The word before the colon of a reference, `day` for `7@2025-06-02`, `number` for `7`, `key` for other keys, and
        an empty string for what is none.
    """
    match = FORM.match(mark)
    if match is None:
        return ""
    return match[1] or {"@": "day", ":": "key", "": "number"}[match[2]]


def temporary(name: str, *columns: Column[Any]) -> Table:
    """A table that lives until the transaction ends.

    Args:
        name: what the statements call it.
        columns: names and types.
    """
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
