"""Months of the tables that are partitioned by month: making those that are missing, and saying where some are.

Which tables these are stands in the models; what is there is read from the catalogue. No row is ever refused or lost:
one of a month that is missing goes to its table's default partition, which is to stay empty, and moves from there when
its month is made. What belongs here: partitions. What does not: their rows, and moving whole months to an archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Row, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models.errors import TableBusyError
from models.tables import METADATA

TABLES = sorted(table.name for table in METADATA.tables.values() if table.dialect_options["postgresql"]["partition_by"])
LOCK_TIMEOUT_MS = 500
"""How long writers may stand in line behind us at worst. Shorter than PostgreSQL's deadlock_timeout, so that of two who
wait for each other it is always us who gives way."""
COUNTED_ROWS = 1_000
"""Rows of a default partition are counted up to this; that there are any is what matters."""

PARTITIONED = """
    SELECT c.relname AS name, a.attname AS time_column, d.relname AS default_name, c.relrowsecurity AS has_row_security
    FROM pg_partitioned_table p
    JOIN pg_class c ON c.oid = p.partrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    LEFT JOIN pg_class d ON d.oid = p.partdefid
    WHERE c.relname = ANY(:tables) AND pg_table_is_visible(c.oid) ORDER BY c.relname
"""

# A bound is written with its offset, so it means the same in every time zone; an open one has no quotes.
COVERED = r"""
    SELECT p.relname AS name, CAST(since AT TIME ZONE 'UTC' AS date) AS since,
           CAST(until AT TIME ZONE 'UTC' AS date) AS until
    FROM pg_inherits i
    JOIN pg_class p ON p.oid = i.inhparent
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS bounds
    CROSS JOIN LATERAL CAST(substring(bounds FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AS since
    CROSS JOIN LATERAL CAST(substring(bounds FROM 'TO \(''([^'']+)''\)') AS timestamptz) AS until
    WHERE p.relname = ANY(:tables) AND pg_table_is_visible(p.oid) AND bounds <> 'DEFAULT'
"""

# A time that is further away is its writer's mistake, and no reason for a partition; its row stays where it is.
MONTHS_OF_ROWS = """
    SELECT DISTINCT CAST(date_trunc('month', {time} AT TIME ZONE 'UTC') AS date) FROM {default}
    WHERE {time} >= '1990-01-01 00:00:00+00' AND {time} < CAST(:now AS timestamptz) + interval '10 years' ORDER BY 1
"""

COLUMNS = """
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


class Month(NamedTuple):
    """A month of a table."""

    table: Row[Any]
    first_on: date

    @property
    def since(self) -> str:
        """Its beginning in UTC, whatever the session's time zone is."""
        return f"'{self.first_on} 00:00:00+00'"

    @property
    def until(self) -> str:
        """Its end, which is not in it."""
        return f"'{following(self.first_on)} 00:00:00+00'"


def ensure_months(session: Session, *, now: datetime, until: datetime, limit: int | None = None) -> list[str]:
    """Make the months that are missing, and move their rows from the default partition into them.

    Writers of a table wait while a month of it is made, which takes milliseconds: only rows of its default partition
    are read. Any number of processes may do this at once.

    Args:
        session: inside a transaction; one for each month (`limit=1`, until none is left) keeps the locks short.
        now: aware; its month is the first that is made ahead.
        until: aware; its month is the last.
        limit: how many to make at most.

    Returns:
        Names of the new partitions; empty where nothing is missing.

    Raises:
        TableBusyError: a lock was not to be had in time; try again in a new transaction.

    Transaction: the caller's, which ends soon.
    """
    try:
        session.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        made = (name for month in _missing(session, now, until) if (name := _make(session, month)))
        return list(islice(made, limit))
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
            raise TableBusyError from error
        raise


def overdue(session: Session, *, now: datetime) -> list[str]:
    """Tables without a partition of this month or the next; what is written then goes to the default partition."""
    this = first_day(now)
    covered = _covered(session, TABLES)
    return [
        table.name
        for table in _tables(session)
        if not all(_holds(covered, table.name, month) for month in (this, following(this)))
    ]


def are_visible(session: Session) -> bool:
    """Whether this login sees the rows of default partitions: their owner does, who else reads the table only."""
    shown = "SELECT has_table_privilege(:name, 'SELECT') AND NOT row_security_active(:name)"
    return all(
        session.execute(text(shown), {"name": table.default_name}).scalar_one()
        for table in _tables(session)
        if table.default_name
    )


def default_rows(session: Session) -> dict[str, int]:
    """How many rows each default partition holds that is not empty, counted up to `COUNTED_ROWS`; see `are_visible`."""
    counts = {
        table.name: session.execute(
            text(f"SELECT count(*) FROM (SELECT FROM {table.default_name} LIMIT {COUNTED_ROWS}) AS first_ones")
        ).scalar_one()
        for table in _tables(session)
        if table.default_name
    }
    return {name: count for name, count in counts.items() if count}


def first_day(moment: datetime) -> date:
    """The first day of a moment's month in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def following(first_on: date) -> date:
    """The first day of the month after."""
    return first_on.replace(year=first_on.year + first_on.month // 12, month=first_on.month % 12 + 1)


def _tables(session: Session) -> Sequence[Row[Any]]:
    return session.execute(text(PARTITIONED), {"tables": TABLES}).all()


def _covered(session: Session, tables: list[str]) -> Sequence[Row[Any]]:
    return session.execute(text(COVERED), {"tables": tables}).all()


def _holds(covered: Sequence[Row[Any]], table: str, month: date) -> bool:
    return any(each.name == table and (each.since or date.min) <= month < (each.until or date.max) for each in covered)


def _missing(session: Session, now: datetime, until: datetime) -> Iterator[Month]:
    """Months ahead first, then those that rows of the default partition wait for."""
    covered = _covered(session, TABLES)
    tables = _tables(session)
    month = first_day(now)
    while month <= first_day(until):
        yield from (Month(table, month) for table in tables if not _holds(covered, table.name, month))
        month = following(month)
    for table in tables:
        if table.default_name:
            query = MONTHS_OF_ROWS.format(time=table.time_column, default=table.default_name)
            for first_on in session.execute(text(query), {"now": now}).scalars().all():
                if not _holds(covered, table.name, first_on):
                    yield Month(table, first_on)


def _make(session: Session, month: Month) -> str | None:
    """Make one month; None where another process made it meanwhile."""
    table = month.table
    # Who writes is kept out from the first step: an insert on its way to the default partition would fail, not wait.
    session.execute(text(f"LOCK TABLE ONLY {table.name} IN SHARE ROW EXCLUSIVE MODE"))
    if _holds(_covered(session, [table.name]), table.name, month.first_on):
        return None
    name = _free_name(session, f"{table.name}_{month.first_on:%Y_%m}")
    is_in_month = f"{table.time_column} >= {month.since} AND {table.time_column} < {month.until}"
    session.execute(text(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL EXCLUDING IDENTITY)"))
    if table.has_row_security:  # policies are the table's, so its months are closed to all but their owner
        session.execute(text(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"))
    # The check lets ATTACH see that each row belongs here without reading them all under its locks.
    session.execute(text(f"ALTER TABLE {name} ADD CONSTRAINT is_in_month CHECK ({is_in_month})"))
    if table.default_name:
        session.execute(text(f"LOCK TABLE {table.default_name} IN ACCESS EXCLUSIVE MODE"))
        columns = session.execute(text(COLUMNS), {"table": table.name}).scalar_one()
        session.execute(
            text(
                f"""
                WITH moved AS (DELETE FROM {table.default_name} WHERE {is_in_month} RETURNING {columns})
                INSERT INTO {name} ({columns}) SELECT {columns} FROM moved
                """
            )
        )
    session.execute(
        text(f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ({month.since}) TO ({month.until})")
    )
    session.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT is_in_month"))
    return name


def _free_name(session: Session, name: str) -> str:
    """The name, or that with a number where a month that was detached still has it."""
    for candidate in (name, *(f"{name}_{number}" for number in range(2, 10))):
        if session.execute(text("SELECT to_regclass(:name)"), {"name": candidate}).scalar_one() is None:
            return candidate
    return name  # PostgreSQL says that it exists
