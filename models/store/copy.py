"""Set-based writing: rows go by COPY into a temporary table, and from there in one statement into their table.

What belongs here: how any table is upserted or replaced. What does not: which table, and what a record means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import sql
from sqlalchemy import ARRAY, JSON, Column, LargeBinary, Table
from sqlalchemy.orm import Session

from models.store.session import driver

COPY_CHUNK_BYTES = 1 << 20

NULL = "\x01"
"""Stands for NULL in a line: a control character needs no escape, and where text holds it, it is left out."""

_SPECIAL = re.compile(r"[\\\t\n\r\x00\x01]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x00": "", NULL: ""}

_encode_json = msgspec.json.Encoder().encode


class Written(NamedTuple):
    """How many rows a statement inserted, updated and deleted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        """All rows that changed."""
        return self.inserted + self.updated + self.deleted

    def plus(self, other: Written) -> Written:
        """The sum of two counts."""
        return Written(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)


def _text(value: str) -> str:
    if _SPECIAL.search(value):
        return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], value)
    return value


def _time(value: datetime | date) -> str:
    return value.isoformat()


def _json(value: Any) -> str:
    # PostgreSQL's jsonb refuses NUL, which JSON writes as an escape.
    return _encode_json(value).decode().replace("\\u0000", "").replace("\\", "\\\\")


def _bytes(value: bytes) -> str:
    return "\\\\x" + value.hex()


def _boolean(value: bool) -> str:
    return "t" if value else "f"


def _formatter(column: Column[Any]) -> Callable[[Any], str]:
    """How a column's values are written in COPY's text format; NULL is handled by the caller."""
    if isinstance(column.type, JSON | ARRAY):
        return _json
    if isinstance(column.type, LargeBinary):
        return _bytes
    python_type = column.type.python_type
    if python_type is str:
        return _text
    if python_type in (datetime, date):
        return _time
    if python_type is bool:
        return _boolean
    return str


def copy_rows(
    session: Session, target: sql.Composable, columns: Sequence[Column[Any]], rows: Iterable[Sequence[Any]]
) -> int:
    """COPY rows into a table.

    Args:
        session: inside a transaction.
        target: a temporary table, as an identifier: PostgreSQL refuses COPY into one with row-level security.
        columns: in the order of each row's values.
        rows: any iterable; it is streamed.

    Returns:
        How many rows were written.
    """
    format_row = _row_formatter(columns)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (NULL {})").format(target, names, sql.Literal(NULL))
    count = 0
    with driver(session).cursor() as cursor, cursor.copy(statement) as copy:
        lines: list[str] = []
        size = 0
        for row in rows:
            line = format_row(row)
            lines.append(line)
            size += len(line)
            count += 1
            if size > COPY_CHUNK_BYTES:
                copy.write("".join(lines))
                lines.clear()
                size = 0
        if lines:
            copy.write("".join(lines))
    return count


def _row_formatter(columns: Sequence[Column[Any]]) -> Callable[[Sequence[Any]], str]:
    """How a row becomes a line of COPY's text format.

    Text is what most columns hold and most text needs no escape, so a line is joined first and only one that shows a
    special character is escaped field by field: five times faster over a changelog.
    """
    formatters = [_formatter(column) for column in columns]
    converted = [(position, each) for position, each in enumerate(formatters) if each is not _text]
    separators = len(columns) - 1
    if _bytes in formatters:  # hex is written with a backslash: such a line is never a plain one
        return lambda row: _escaped_line(row, formatters)

    def format_row(row: Sequence[Any]) -> str:
        values = [NULL if value is None else value for value in row]
        for position, convert in converted:
            if values[position] is not NULL:
                values[position] = convert(values[position])
        line = "\t".join(values)
        if (
            line.count("\t") == separators
            and "\\" not in line
            and "\n" not in line
            and "\r" not in line
            and "\x00" not in line
            and line.count(NULL) == values.count(NULL)
        ):
            return line + "\n"
        return _escaped_line(row, formatters)

    return format_row


def _escaped_line(row: Sequence[Any], formatters: Sequence[Callable[[Any], str]]) -> str:
    fields = [NULL if value is None else write(value) for write, value in zip(formatters, row, strict=True)]
    return "\t".join(fields) + "\n"


class Landing:
    """A temporary table with some columns of a table: where a batch lands before it is merged in.

    It lives as long as the connection and is emptied at each commit, so the catalogue is not touched for every batch.
    """

    def __init__(self, session: Session, table: Table, columns: Sequence[str]) -> None:
        """Make it, or reuse it emptied.

        Args:
            session: inside a transaction.
            table: whose columns it takes.
            columns: names, in the order of the rows to come.
        """
        self.session = session
        self.table = table
        self.columns = [table.c[name] for name in columns]
        self.name_text = f"landing_{table.name}"
        self.name = sql.Identifier(self.name_text)
        self.target = sql.Identifier(table.name)
        with driver(session).cursor() as cursor:
            # PostgreSQL says that a table exists already as a notice, which would fill the logs.
            cursor.execute("SET LOCAL client_min_messages = warning")
            cursor.execute(
                sql.SQL(
                    "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WHERE false"
                ).format(self.name, self._names(columns), self.target)
            )
            cursor.execute(sql.SQL("DELETE FROM {}").format(self.name))

    def _changed(self, key: Sequence[str], compared: Sequence[str]) -> sql.Composed:
        same_key = sql.SQL(" AND ").join(
            sql.SQL("{0} = {1}").format(sql.Identifier(self.table.name, name), sql.Identifier(self.name_text, name))
            for name in key
        )
        return sql.SQL("WHERE NOT EXISTS (SELECT FROM {} WHERE {} AND ({}) IS NOT DISTINCT FROM ({}))").format(
            self.target,
            same_key,
            self._names(compared, self.table.name),
            self._names(compared, self.name_text),
        )

    @staticmethod
    def _names(columns: Iterable[str], prefix: str | None = None) -> sql.Composed:
        identifiers = (sql.Identifier(prefix, name) if prefix else sql.Identifier(name) for name in columns)
        return sql.SQL(", ").join(identifiers)

    def fill(self, rows: Iterable[Sequence[Any]]) -> int:
        """COPY rows in; returns how many."""
        return copy_rows(self.session, self.name, self.columns, rows)

    def upsert(
        self,
        key: Sequence[str],
        *,
        newer: Sequence[str] = (),
        keep: Sequence[str] = (),
        key_filter: str = "",
        stored_filter: str = "",
        columns: Sequence[str] = (),
        is_mostly_same: bool = False,
    ) -> Written:
        """Merge the landed rows into the table by its natural key, in one statement.

        A row is written where it is new, or where it is not older than the stored one and differs from it. Values
        are written as they came, NULL included: a reopened issue must lose its resolution date.

        Args:
            key: the columns of the unique constraint.
            newer: columns that order two copies of an object, the most telling first; a copy that is older than the
                stored row is not written. None: the last copy wins.
            keep: columns that do not count as a difference and are updated only along with one that does.
            key_filter: the predicate of a partial unique index, in SQL.
            stored_filter: what a stored row must meet to be updated, in SQL.
            columns: those that are written, the key among them; none: all that are landed.
            is_mostly_same: leave rows that are stored as they are out before the merge. The merge locks every row that
                it meets, so small tables that everybody writes to would make transactions wait for each other.
        """
        names = [column.name for column in self.columns if not columns or column.name in columns]
        values = [name for name in names if name not in key]
        compared = [name for name in values if name not in keep and name not in newer[1:]]
        order = sql.SQL("").join(sql.SQL(", {} DESC").format(sql.Identifier(name)) for name in newer)
        conditions: list[sql.Composable] = [sql.SQL(stored_filter)] if stored_filter else []
        if newer:
            conditions.append(
                sql.SQL("({}) >= ({})").format(self._names(newer, "excluded"), self._names(newer, self.table.name))
            )
        if compared:
            conditions.append(
                sql.SQL("({}) IS DISTINCT FROM ({})").format(
                    self._names(compared, self.table.name), self._names(compared, "excluded")
                )
            )
        action: sql.Composable = sql.SQL("DO NOTHING")
        if compared:
            assignments = sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in values
            )
            if "updated_at" in self.table.c and "updated_at" not in names:
                assignments += sql.SQL(", updated_at = now()")
            action = sql.SQL("DO UPDATE SET {} WHERE {}").format(assignments, sql.SQL(" AND ").join(conditions))
        statement = sql.SQL(
            "WITH written AS (INSERT INTO {target} ({names}) SELECT DISTINCT ON ({key}) {names} "
            "FROM {landing} {changed} ORDER BY {key}{order} ON CONFLICT ({key}){key_filter} {action} "
            "RETURNING (xmax = 0) AS is_new) "
            "SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
        ).format(
            target=self.target,
            names=self._names(names),
            key=self._names(key),
            landing=self.name,
            changed=self._changed(key, compared) if is_mostly_same else sql.SQL(""),
            order=order,
            key_filter=sql.SQL(f" WHERE {key_filter}" if key_filter else ""),
            action=action,
        )
        with driver(self.session).cursor() as cursor:
            inserted, updated = cursor.execute(statement).fetchone() or (0, 0)
        return Written(inserted=inserted, updated=updated)


def upsert(
    session: Session,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    key: Sequence[str],
    *,
    newer: Sequence[str] = (),
    keep: Sequence[str] = (),
    key_filter: str = "",
    is_mostly_same: bool = False,
) -> Written:
    """COPY rows and merge them by natural key; see `Landing.upsert`.

    Transaction: the caller's.
    """
    landing = Landing(session, table, columns)
    landing.fill(rows)
    return landing.upsert(key, newer=newer, keep=keep, key_filter=key_filter, is_mostly_same=is_mostly_same)


def insert(session: Session, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """COPY rows that are not stored yet, and insert them; returns how many.

    Transaction: the caller's.
    """
    parts = {
        "landing": sql.Identifier(f"new_{table.name}"),
        "target": sql.Identifier(table.name),
        "names": sql.SQL(", ").join(map(sql.Identifier, columns)),
    }
    with driver(session).cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TEMP TABLE {landing} AS SELECT {names} FROM {target} LIMIT 0").format(**parts))
        count = copy_rows(session, parts["landing"], [table.c[name] for name in columns], rows)
        cursor.execute(sql.SQL("INSERT INTO {target} ({names}) SELECT {names} FROM {landing}").format(**parts))
        cursor.execute(sql.SQL("DROP TABLE {landing}").format(**parts))
    return count
