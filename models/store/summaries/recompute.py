"""How every summary is kept: dirty keys are taken, computed from their inputs, and what differs is written.

What belongs here: taking marks, replacing rows, rebuilding and comparing, for any definition. What does not: what a
number means (one module for each summary).

There must be one writer of a summary at a time: whoever calls `take_and_recompute` or `rebuild` holds the advisory lock
`summarise:NAME` until the transaction has ended. Writers of the inputs need no lock, and never wait.

A mark is deleted in the statement before the inputs are read, so whatever its writer wrote is seen; a mark that arrives
later stays for the next time. If the transaction fails, the marks are back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Executable,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from models.errors import UsageError
from models.store.summaries.definition import DEFINITION_VERSION, LAST_UPDATED_AT, Summary, form_of
from models.store.summaries.registry import SUMMARIES

EVERYTHING = "*"
"""The mark that stands for every key of a tenant."""

MARKS = """
    SELECT * FROM unnest(
        CAST(:mark_tenants AS bigint[]), CAST(:mark_keys AS text[]), CAST(:mark_sinces AS timestamptz[])
    ) AS m(tenant_id, key, since)
"""

# The array keeps the inner query from being run again for each row, which would take more than the limit.
TAKE = text(
    """
    DELETE FROM dirty_keys WHERE id = ANY(ARRAY(
        SELECT id FROM dirty_keys
        WHERE summary = :summary AND (since IS NULL OR since <= :as_of)
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED))
    RETURNING tenant_id, key, since
    """
)
TAKE_DUPLICATES = text(
    """
    DELETE FROM dirty_keys d USING unnest(CAST(:tenants AS bigint[]), CAST(:keys AS text[])) AS t(tenant_id, key)
    WHERE d.summary = :summary AND d.tenant_id = t.tenant_id AND d.key = t.key
      AND (d.since IS NULL OR d.since <= :as_of)
    RETURNING d.tenant_id, d.key, d.since
    """
)
TAKE_ALL = text("DELETE FROM dirty_keys WHERE summary = :summary AND (since IS NULL OR since <= :as_of)")
IS_MARKED = text(
    "SELECT EXISTS (SELECT FROM dirty_keys WHERE summary = :summary AND (since IS NULL OR since <= :as_of))"
)
MARK_EVERYTHING = text("INSERT INTO dirty_keys (summary, tenant_id, key) SELECT :summary, id, '*' FROM tenants")


class Counts(NamedTuple):
    """What a step did."""

    keys: int
    """Marks taken, the same one counted once; 0 means that nothing was left to do."""
    rows_written: int
    """Rows inserted, updated and deleted."""


class Difference(NamedTuple):
    """A row that is not what its inputs say."""

    identity: dict[str, Any]
    stored: dict[str, Any] | None
    """The columns that differ, as stored; None where there is no row."""
    computed: dict[str, Any] | None
    """The same columns as they should be; None where there should be no row."""


Marks = dict[tuple[int, str], datetime | None]
"""By tenant and key, the earliest time from which on the key is dirty; None is from the beginning."""


def definition_of(name: str) -> Summary:
    """The definition of a summary.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SUMMARIES:
        raise UsageError(f"There is no summary {name!r}; there are: {', '.join(SUMMARIES)}.")
    return SUMMARIES[name]


def dirty_summaries(session: Session, *, as_of: datetime) -> list[str]:
    """The names of the summaries that have something to compute.

    Args:
        session: inside a transaction.
        as_of: the time now; a day that has begun since the last time makes work without any mark.
    """
    return [
        name
        for name, summary in SUMMARIES.items()
        if session.execute(IS_MARKED, {"summary": name, "as_of": as_of}).scalar_one()
        or _overdue(session, summary, as_of, 1)
    ]


def take_and_recompute(session: Session, summary: str, *, as_of: datetime, limit: int) -> Counts:
    """Take dirty marks and make their keys what their inputs say now. Repeat until `keys` is 0.

    Transaction: the caller's, which holds the lock `summarise:NAME`.

    Args:
        session: inside a transaction.
        summary: its name.
        as_of: aware; the day that open days are filled up to, and the rows' `last_updated_at`. A mark whose `since`
            lies after it waits.
        limit: marks to take at most.

    Returns:
        Marks taken and rows written.
    """
    definition = _checked(summary, as_of)
    marks = _take(session, definition, as_of, limit)
    if not marks:
        return Counts(0, 0)
    everything = sorted(tenant_id for tenant_id, key in marks if key == EVERYTHING)
    with _computed(session, definition, as_of, marks=marks, tenants=everything):
        written = _write(session, definition, as_of)
    return Counts(len(marks), written)


def rebuild(session: Session, summary: str, *, as_of: datetime, project_id: int | None = None) -> Counts:
    """Compute a summary from nothing and write what differs, in one transaction: readers see the old rows or the new.

    Transaction: the caller's, which holds the lock `summarise:NAME`. docs/decisions/0003 tells why no table is swapped.

    Args:
        session: inside a transaction.
        summary: its name.
        as_of: aware, see `take_and_recompute`.
        project_id: only this project's keys.

    Returns:
        Keys computed and rows written; 0 rows where the stored ones were right.
    """
    definition = _checked(summary, as_of)
    if project_id is None:
        session.execute(TAKE_ALL, {"summary": summary, "as_of": as_of})
    with _computed(session, definition, as_of, project_id=project_id) as keys:
        return Counts(keys, _write(session, definition, as_of))


def differences(
    session: Session, summary: str, *, as_of: datetime, project_id: int | None = None, limit: int = 20
) -> tuple[int, list[Difference]]:
    """Compare the stored rows with ones computed from nothing; changes neither.

    Args:
        session: inside a transaction.
        summary: its name.
        as_of: aware, see `take_and_recompute`. Marks that were not taken yet show as differences.
        project_id: only this project's keys.
        limit: how many differences to return.

    Returns:
        How many rows differ, and the first of them.
    """
    definition = _checked(summary, as_of)
    with _computed(session, definition, as_of, project_id=project_id):
        table, fresh = definition.table, definition.fresh
        stored = select(table).where(_is_wanted(definition)).subquery("stored")
        compared = (*definition.columns, DEFINITION_VERSION)
        version = literal(definition.definition_version)
        here = {name: stored.c[name] for name in compared}
        there: dict[str, ColumnElement[Any]] = {name: fresh.c[name] for name in definition.columns}
        there[DEFINITION_VERSION] = version
        first = definition.identity[0]
        query = (
            select(
                func.count().over().label("total"),
                here[first].is_(None).label("is_missing"),
                fresh.c[first].is_(None).label("is_extra"),
                *(here[name].label(f"stored_{name}") for name in compared),
                *(there[name].label(f"computed_{name}") for name in compared),
            )
            .select_from(
                stored.join(fresh, and_(*(here[name] == fresh.c[name] for name in definition.identity)), full=True)
            )
            .where(
                or_(
                    here[first].is_(None),
                    fresh.c[first].is_(None),
                    tuple_(*here.values()).is_distinct_from(tuple_(*there.values())),
                )
            )
            .order_by(*(func.coalesce(here[name], fresh.c[name]) for name in definition.identity))
            .limit(limit)
        )
        found = session.execute(query).mappings().all()
    return (found[0]["total"] if found else 0), [_difference(definition, compared, row) for row in found]


def mark_outdated(session: Session) -> list[str]:
    """Mark every key of the summaries that hold rows of another version of their definition.

    Transaction: the caller's. Called once after an upgrade; it reads every row.

    Returns:
        The names of those summaries.
    """
    outdated = [
        name
        for name, summary in SUMMARIES.items()
        if session.execute(
            select(exists(select(1).where(summary.table.c[DEFINITION_VERSION] != summary.definition_version)))
        ).scalar_one()
    ]
    for name in outdated:
        session.execute(MARK_EVERYTHING, {"summary": name})
    return outdated


# --- taking -----------------------------------------------------------------------------------------------------------


def _checked(summary: str, as_of: datetime) -> Summary:
    if as_of.tzinfo is None:
        raise UsageError("as_of needs a time zone.")
    return definition_of(summary)


def _take(session: Session, summary: Summary, as_of: datetime, limit: int) -> Marks:
    parameters = {"summary": summary.name, "as_of": as_of}
    taken: list[Any] = list(session.execute(TAKE, {**parameters, "limit": limit}))
    if taken and summary.is_coarse:
        named = {(tenant_id, key) for tenant_id, key, _ in taken}
        tenants, keys = zip(*named, strict=True)
        taken += session.execute(TAKE_DUPLICATES, {**parameters, "tenants": list(tenants), "keys": list(keys)})
    taken += _overdue(session, summary, as_of, limit)
    marks: Marks = {}
    for tenant_id, key, since in taken:
        known = marks.get((tenant_id, key), since)
        marks[tenant_id, key] = None if known is None or since is None else min(known, since)
    return marks


def _overdue(session: Session, summary: Summary, as_of: datetime, limit: int) -> list[Any]:
    if summary.overdue is None:
        return []
    return list(session.execute(text(summary.overdue), {"as_of": as_of, "limit": limit}))


# --- computing and writing --------------------------------------------------------------------------------------------


@contextmanager
def _computed(
    session: Session,
    summary: Summary,
    as_of: datetime,
    *,
    marks: Marks | None = None,
    tenants: list[int] | None = None,
    project_id: int | None = None,
) -> Iterator[int]:
    """Compute rows into the temporary table `fresh`, of the keys in `wanted`; yields how many keys.

    Args:
        session: inside a transaction.
        summary: whose.
        as_of: the time now.
        marks: only the keys that these stand for; None for all.
        tenants: beside the marks, all keys of these tenants.
        project_id: without marks, only this project's keys.
    """
    # The statements are long and their costs look high; compiling them takes longer than running them.
    session.execute(text("SET LOCAL jit = off"))
    tables = [table for table in (summary.wanted, summary.inputs, summary.fresh) if table is not None]
    for table in tables:
        table.create(session.connection())
    keys = _gather(session, summary, as_of, marks=marks, tenants=tenants, project_id=project_id)
    parameters = {"as_of": as_of, **summary.parameters}
    if summary.inputs is not None:
        _fill(session, summary.inputs, summary.input_rows, parameters)
    _fill(session, summary.fresh, summary.rows, parameters)
    yield keys
    for table in tables:
        table.drop(session.connection())


def _fill(session: Session, table: Table, rows: str, parameters: Mapping[str, Any]) -> None:
    computed = text(rows).columns(*table.columns).subquery("computed")
    names = [column.name for column in table.columns]
    session.execute(insert(table).from_select(names, select(*(computed.c[name] for name in names))), parameters)
    session.execute(text(f"ANALYZE {table.name}"))


def _gather(
    session: Session,
    summary: Summary,
    as_of: datetime,
    *,
    marks: Marks | None,
    tenants: list[int] | None,
    project_id: int | None,
) -> int:
    """Fill `wanted` with each key once; returns how many."""
    names = ", ".join(summary.key)
    parameters: dict[str, Any] = {"project_id": project_id, "tenants": tenants, "as_of": as_of, **summary.parameters}
    sources = [] if marks is not None and not tenants else [summary.all_keys]
    if marks is not None:
        forms = {form_of(key) for _, key in marks}
        sources += [source for form, source in summary.keys_of_marks.items() if form in forms]
        parameters |= {
            "mark_tenants": [tenant_id for tenant_id, _ in marks],
            "mark_keys": [key for _, key in marks],
            "mark_sinces": list(marks.values()),
        }
    since = ", CASE WHEN bool_and(since IS NOT NULL) THEN min(since) END" if summary.since_column else ""
    prefix = f"WITH marks AS ({MARKS})" if marks is not None else ""
    union = " UNION ALL ".join(f"({source})" for source in sources) or "TABLE wanted"
    session.execute(
        text(f"INSERT INTO wanted {prefix} SELECT {names}{since} FROM ({union}) AS k GROUP BY {names}"), parameters
    )
    session.execute(text("ANALYZE wanted"))
    while summary.rivals is not None and _rows(session, text(summary.rivals)):
        session.execute(text("ANALYZE wanted"))
    return session.execute(select(func.count()).select_from(summary.wanted)).scalar_one()


def _is_wanted(summary: Summary) -> ColumnElement[bool]:
    wanted, table = summary.wanted, summary.table
    conditions = [wanted.c[name] == table.c[name] for name in summary.key]
    if summary.since_column is not None:
        conditions.append(or_(wanted.c.since.is_(None), table.c[summary.since_column] >= wanted.c.since))
    return exists(select(1).select_from(wanted).where(*conditions).correlate(table))


def _same_row(summary: Summary) -> ColumnElement[bool]:
    return and_(*(summary.table.c[name] == summary.fresh.c[name] for name in summary.identity))


def _write(session: Session, summary: Summary, as_of: datetime) -> int:
    """Make the stored rows of the wanted keys what `fresh` says; rows that are right already are not touched."""
    table, fresh = summary.table, summary.fresh
    names = [*summary.columns, DEFINITION_VERSION]
    values: list[ColumnElement[Any]] = [fresh.c[name] for name in summary.columns]
    values.append(literal(summary.definition_version))
    statements = (
        delete(table).where(_is_wanted(summary), ~exists(select(1).select_from(fresh).where(_same_row(summary)))),
        update(table)
        .values({**dict(zip(names, values, strict=True)), LAST_UPDATED_AT: as_of})
        .where(
            _same_row(summary),
            tuple_(*(table.c[name] for name in names)).is_distinct_from(tuple_(*values)),
        ),
        insert(table).from_select(
            [*names, LAST_UPDATED_AT],
            # Sorted, so that all are looked up before the first is inserted: the plan for an empty table scans it.
            select(*values, literal(as_of))
            .where(~exists(select(1).select_from(table).where(_same_row(summary))))
            .order_by(*(fresh.c[name] for name in summary.identity)),
        ),
    )
    written = sum(_rows(session, statement) for statement in statements)
    if summary.afterwards is not None:
        session.execute(text(summary.afterwards), {"as_of": as_of})
    return written


def _rows(session: Session, statement: Executable) -> int:
    """Execute a statement that writes; returns how many rows."""
    result = session.execute(statement, execution_options={"preserve_rowcount": True})
    return int(result.rowcount)  # type: ignore[attr-defined]  # what writes has a row count


def _difference(summary: Summary, compared: tuple[str, ...], row: Any) -> Difference:
    stored = {name: row[f"stored_{name}"] for name in compared}
    computed = {name: row[f"computed_{name}"] for name in compared}
    identity = {name: computed[name] if row["is_missing"] else stored[name] for name in summary.identity}
    differing = [name for name in compared if stored[name] != computed[name]]
    return Difference(
        identity,
        None if row["is_missing"] else {name: stored[name] for name in differing},
        None if row["is_extra"] else {name: computed[name] for name in differing},
    )
