"""Comparing what we hold with what a source says, row for row: temporary tables of one connection, and set-based SQL.

What belongs here: landing what was read, deciding how each row differs, and counting. What does not: reading the
source (tasks/verify.py). Nothing but temporary tables is written.

Every row of the source is landed by the writers' own row functions and column lists, so that there is one meaning of a
record and no second one to keep equal. How a row may differ:

- `missing_here`: the source has it, and we do not.
- `missing_there`: we have it in the scope, not tombstoned, and the source does not show it. What is known to have
  moved out of the scope is not asked for: nobody tells us of its changes there.
- `differs`: both have it, and some columns are not equal.
- `newer_there`: it was made or updated at the source since the last sync, and the next one brings it: its time there is
  later than ours and not before the point from which the next sync reads. A copy of ours that is older than that point
  is `differs`: the sync has missed an update.
- `unreadable`: the source sends something that cannot be parsed or stored, and sync_rejects does not know of it.

A record that is set aside in sync_rejects is `rejected`: counted, and no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import Table, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from models.errors import UsageError
from models.records import Batch
from models.store import deployments, gitlab, jira, launches, pipelines, watermarks
from models.store.copy import copy_rows
from models.store.session import Database
from models.store.sync import Target

OURS = ("tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "synced_at")
"""Columns that the source knows nothing of."""

DIFFERENCES = ("missing_here", "missing_there", "differs", "newer_there", "unreadable")
"""How a row may differ, in the order of reports."""

Rows = Callable[[Session, Target, Batch, datetime], Iterator[Sequence[Any]]]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A table that is compared."""

    table: Table
    columns: tuple[str, ...]
    key: tuple[str, ...]
    time: str
    """The source's own time of a row: of its last update, or of the event that it is."""
    reference: str
    """SQL over the columns of a row `{0}`: the id by which the connector knows the object that it belongs to."""
    label: str
    """SQL over the columns of a row `{0}`: what a person calls it."""
    rows: Rows

    @property
    def name(self) -> str:
        """Of the table."""
        return str(self.table.name)

    @property
    def seen(self) -> str:
        """The temporary table with what the source says."""
        return f"seen_{self.name}"

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that must be equal."""
        return tuple(name for name in self.columns if name not in (*OURS, *self.key))

    def equal_keys(self, left: str, right: str) -> str:
        """SQL that joins two rows by key."""
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self.key)

    def tuple_of(self, alias: str) -> str:
        """SQL for the compared columns of a row."""
        return "(" + ", ".join(f"{alias}.{name}" for name in self.compared) + ")"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared of a stream: its objects and, where they have any, their details."""

    objects: Part
    details: Part | None = None
    is_forgotten_there: bool = False
    """The source forgets old ones and we do not, so that one that it does not show is no difference."""
    is_elsewhere: str = "false"
    """SQL over an object's row `t` and the scope's `:key`: it is known to have moved, and no listing shows it here."""


SUBJECTS: Mapping[str, Subject] = {
    "issues": Subject(
        objects=Part(
            table=jira.ISSUES,
            columns=jira.ISSUE_COLUMNS,
            key=jira.ISSUE_KEY,
            time="updated",
            reference="{0}.issue_id",
            label="{0}.issuekey",
            rows=lambda session, target, batch, at: jira.issue_rows(
                target, batch.issues, target.projects_by_key(session), at
            ),
        ),
        details=Part(
            table=jira.CHANGES,
            columns=jira.CHANGE_COLUMNS,
            key=jira.CHANGE_KEY,
            time="changed_at",
            reference="{0}.issue_id",
            label="{0}.issue_id || ' change ' || {0}.change_id || '/' || {0}.item_index",
            rows=lambda _session, target, batch, _at: jira.change_rows(target, batch.issues),
        ),
        is_elsewhere="t.project <> :key",
    ),
    "merge_requests": Subject(
        objects=Part(
            table=gitlab.MERGE_REQUESTS,
            columns=gitlab.MERGE_REQUEST_COLUMNS,
            key=gitlab.MERGE_REQUEST_KEY,
            time="source_updated_at",
            reference="{0}.external_project_id || '!' || CAST({0}.mr_id AS text)",
            label="{0}.project_name || '!' || CAST({0}.mr_id AS text)",
            rows=lambda _session, target, batch, at: gitlab.merge_request_rows(target, batch.merge_requests, at),
        ),
        details=Part(
            table=gitlab.ACTIVITIES,
            columns=gitlab.ACTIVITY_COLUMNS,
            key=gitlab.ACTIVITY_KEY,
            time="occurred_at",
            reference="{0}.external_project_id || '!' || CAST({0}.mr_id AS text)",
            label="{0}.external_project_id || '!' || {0}.mr_id || ' ' || {0}.activity || ' ' || {0}.external_id",
            rows=lambda _session, target, batch, _at: gitlab.activity_rows(target, batch.merge_requests),
        ),
    ),
    "events": Subject(
        objects=Part(
            table=gitlab.EVENTS,
            columns=gitlab.EVENT_COLUMNS,
            key=gitlab.EVENT_KEY,
            time="occurred_at",
            reference="{0}.external_id",
            label="{0}.action || ' ' || {0}.external_id",
            rows=lambda _session, target, batch, _at: gitlab.event_rows(target, batch.events),
        ),
        is_forgotten_there=True,
    ),
    "launches": Subject(
        objects=Part(
            table=launches.LAUNCHES,
            columns=launches.COLUMNS,
            key=launches.KEY,
            time="source_updated_at",
            reference="{0}.external_id",
            label="{0}.external_id",
            rows=lambda _session, target, batch, at: launches.launch_rows(target, batch.launches, at),
        ),
        is_forgotten_there=True,
    ),
    "pipelines": Subject(
        objects=Part(
            table=pipelines.PIPELINES,
            columns=pipelines.PIPELINE_COLUMNS,
            key=pipelines.KEY,
            time="source_updated_at",
            reference="{0}.external_id",
            label="'pipeline ' || {0}.external_id",
            rows=lambda _session, target, batch, at: pipelines.pipeline_rows(target, batch.pipelines, at),
        ),
    ),
    "jobs": Subject(
        objects=Part(
            table=pipelines.JOBS,
            columns=pipelines.JOB_COLUMNS,
            key=pipelines.KEY,
            time="source_updated_at",
            reference="{0}.external_id",
            label="{0}.name || ' ' || {0}.external_id",
            rows=lambda _session, target, batch, at: pipelines.job_rows(target, batch.jobs, at),
        ),
    ),
    "deployments": Subject(
        objects=Part(
            table=deployments.DEPLOYMENTS,
            columns=deployments.DEPLOYMENT_COLUMNS,
            key=deployments.KEY,
            time="source_updated_at",
            reference="{0}.external_id",
            label="{0}.environment || ' ' || {0}.external_id",
            rows=lambda _session, target, batch, at: deployments.deployment_rows(target, batch.deployments, at),
        ),
    ),
}
"""By the stream whose payloads become these records."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One difference, with what both sides say."""

    table: str
    kind: str
    reference: str
    """The object's id at the source."""
    label: str
    columns: dict[str, tuple[Any, Any]]
    """For a row that both sides have: column to our value and theirs."""


class TableComparison(msgspec.Struct, frozen=True, kw_only=True):
    """How one table compares."""

    table: str
    rows_here: int
    rows_there: int
    counts: dict[str, int]
    """Kind to how many rows; kinds without any are left out."""
    columns: dict[str, int]
    """Of rows that differ: in how many each column is not equal."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How one stream of a scope compares."""

    tables: tuple[TableComparison, ...]
    rejected: int
    """Records that are set aside in sync_rejects."""
    examples: tuple[Example, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Kind to how many rows of all tables."""
        return {
            kind: count for kind in DIFFERENCES if (count := sum(table.counts.get(kind, 0) for table in self.tables))
        }


class Snapshot:
    """What a source says of one stream of a scope, gathered page by page in temporary tables.

    It keeps one connection for itself, and no transaction open between its methods.
    """

    def __init__(self, database: Database, target: Target, stream: str) -> None:
        """Take a stream to be compared.

        Args:
            database: where our rows are.
            target: the scope.
            stream: a key of `SUBJECTS`.

        Raises:
            UsageError: the stream cannot be compared.
        """
        if stream not in SUBJECTS:
            raise UsageError(f"The stream {stream!r} cannot be compared; choose one of {', '.join(SUBJECTS)}.")
        self._database = database
        self._target = target
        self._stream = stream
        self._subject = SUBJECTS[stream]
        self._parts = tuple(part for part in (self._subject.objects, self._subject.details) if part is not None)
        self._connection = database.engine.connect()

    def __enter__(self) -> Self:
        with self._database.transaction(self._connection) as session:
            for part in self._parts:
                reference = part.reference.format(part.seen)
                session.execute(
                    text(f"CREATE TEMP TABLE {part.seen} AS SELECT {', '.join(part.columns)} FROM {part.name} LIMIT 0")
                )
                session.execute(text(f"CREATE INDEX ON {part.seen} (({reference}))"))
            session.execute(text("CREATE TEMP TABLE seen_bad (reference text PRIMARY KEY, reason text)"))
            session.execute(
                text(
                    "CREATE TEMP TABLE found (part text, kind text, reference text, row_key text, label text, "
                    "columns text[])"
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.invalidate()  # it ends here, and its temporary tables with it, whatever state it is in
        self._connection.close()

    def land(
        self,
        batches: Mapping[str, Batch],
        failures: Iterable[tuple[str, str]] = (),
        *,
        fetched_at: datetime,
    ) -> None:
        """Take what was read; of an object that is read twice the later reading counts.

        Transaction: one of its own.

        Args:
            batches: what each object's payload became, by its id at the source.
            failures: id and reason of what could not be fetched or parsed.
            fetched_at: when.
        """
        with self._database.transaction(self._connection) as session:
            failed = dict(failures)
            _forget(session, self._parts, [*batches, *failed])
            try:
                with session.begin_nested():
                    self._copy(session, Batch.merge(list(batches.values())), fetched_at)
            except (DataError, psycopg.DataError):
                for external_id, batch in batches.items():
                    try:
                        with session.begin_nested():
                            self._copy(session, batch, fetched_at)
                    except (DataError, psycopg.DataError) as error:
                        failed[external_id] = f"The database refuses it: {error}"
            if failed:
                session.execute(
                    text("INSERT INTO seen_bad (reference, reason) VALUES (:reference, :reason)"),
                    [{"reference": reference, "reason": reason} for reference, reason in failed.items()],
                )

    def forget(self, external_ids: Sequence[str]) -> None:
        """Take back objects that the source no longer shows.

        Transaction: one of its own.
        """
        with self._database.transaction(self._connection) as session:
            _forget(session, self._parts, external_ids)

    def compare(self, *, overlap: timedelta) -> None:
        """Find every row that differs.

        Transaction: one of its own, in which our tables stand still.

        Args:
            overlap: how far behind its watermark the next sync of the stream begins.
        """
        with self._database.transaction(self._connection) as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            for part in self._parts:
                session.execute(text(f"ANALYZE {part.seen}"))
            session.execute(text("TRUNCATE found"))
            complete_until = watermarks.watermark(session, self._target.sync_scope_id, self._stream)
            parameters = {
                "scope": self._target.sync_scope_id,
                "stream": self._stream,
                "key": self._target.external_key,
                "read_again_from": None if complete_until is None else complete_until - overlap,
            }
            for statement in _comparing(self._subject):
                session.execute(text(statement), parameters)

    def suspects(self, limit: int) -> list[str]:
        """Ids at the source of the objects that `compare` found to differ, themselves or in their details.

        Args:
            limit: at most so many.
        """
        with self._database.transaction(self._connection) as session:
            rows = session.execute(
                text("SELECT DISTINCT reference FROM found WHERE kind <> 'rejected' ORDER BY 1 LIMIT :limit"),
                {"limit": limit},
            )
            return list(rows.scalars())

    def result(self, *, examples: int) -> Comparison:
        """What `compare` found.

        Args:
            examples: at most so many of each table and kind.
        """
        with self._database.transaction(self._connection) as session:
            rejected = session.execute(text("SELECT count(*) FROM found WHERE kind = 'rejected'")).scalar_one()
            return Comparison(
                tables=tuple(self._table(session, part) for part in self._parts),
                rejected=rejected,
                examples=tuple(example for part in self._parts for example in self._examples(session, part, examples)),
            )

    def _copy(self, session: Session, batch: Batch, fetched_at: datetime) -> None:
        for part in self._parts:
            columns = [part.table.c[name] for name in part.columns]
            copy_rows(session, sql.Identifier(part.seen), columns, part.rows(session, self._target, batch, fetched_at))

    def _table(self, session: Session, part: Part) -> TableComparison:
        counts = session.execute(
            text("SELECT kind, count(*) FROM found WHERE part = :part AND kind <> 'rejected' GROUP BY kind"),
            {"part": part.name},
        )
        columns = session.execute(
            text(
                "SELECT name, count(*) FROM found, unnest(columns) AS name "
                "WHERE part = :part AND kind = 'differs' GROUP BY name ORDER BY count(*) DESC, name"
            ),
            {"part": part.name},
        )
        rows_here = session.execute(
            text(_rows_here(self._subject, part)),
            {
                "scope": self._target.sync_scope_id,
                "connection": self._target.connection_id,
                "key": self._target.external_key,
            },
        ).scalar_one()
        rows_there = session.execute(text(f"SELECT count(*) FROM {part.seen}")).scalar_one()
        return TableComparison(
            table=part.name,
            rows_here=rows_here,
            rows_there=rows_there,
            counts=dict(counts.all()),
            columns=dict(columns.all()),
        )

    def _examples(self, session: Session, part: Part, limit: int) -> Iterator[Example]:
        rows = session.execute(
            text(
                """
                SELECT kind, reference, row_key, label, columns
                FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY label, row_key) AS position
                      FROM found WHERE part = :part AND kind <> 'rejected') AS ordered
                WHERE position <= :limit ORDER BY array_position(CAST(:kinds AS text[]), kind), position
                """
            ),
            {"part": part.name, "limit": limit, "kinds": list(DIFFERENCES)},
        )
        for kind, reference, row_key, label, columns in rows.all():
            values = {}
            if columns:
                here, there = session.execute(
                    text(
                        f"""
                        SELECT to_jsonb(t), to_jsonb(s) FROM {part.seen} s
                        JOIN {part.name} t ON {part.equal_keys("t", "s")}
                        WHERE {part.reference.format("s")} = :reference AND {_row_key(part, "s")} = :row_key
                        """
                    ),
                    {"reference": reference, "row_key": row_key},
                ).one()
                values = {name: (here[name], there[name]) for name in columns}
            yield Example(table=part.name, kind=kind, reference=reference, label=label, columns=values)


def _forget(session: Session, parts: Iterable[Part], external_ids: Sequence[str]) -> None:
    for part in parts:
        session.execute(
            text(f"DELETE FROM {part.seen} WHERE {part.reference.format(part.seen)} = ANY(:ids)"),
            {"ids": list(external_ids)},
        )
    session.execute(text("DELETE FROM seen_bad WHERE reference = ANY(:ids)"), {"ids": list(external_ids)})


def _row_key(part: Part, alias: str) -> str:
    """SQL that names a row within its table."""
    return "concat_ws('/', " + ", ".join(f"{alias}.{name}" for name in part.key) + ")"


def _differing(part: Part) -> str:
    """SQL: the names of the columns in which the rows `t` (ours) and `s` (seen) differ."""
    names = ", ".join(f"CASE WHEN t.{name} IS DISTINCT FROM s.{name} THEN '{name}' END" for name in part.compared)
    return f"array_remove(ARRAY[{names}], NULL)"


def _comparing(subject: Subject) -> Iterator[str]:
    """The statements that fill `found`, in their order."""
    objects = subject.objects
    insert = "INSERT INTO found (part, kind, reference, row_key, label, columns)"
    is_new = f"(CAST(:read_again_from AS timestamptz) IS NULL OR s.{objects.time} >= :read_again_from)"
    is_rejected = """EXISTS (SELECT FROM sync_rejects r WHERE r.sync_scope_id = :scope AND r.resource = :stream
                     AND r.resolved_at IS NULL AND r.external_id = {0})"""
    yield f"""
        {insert}
        SELECT '{objects.name}',
            CASE WHEN {is_rejected.format(objects.reference.format("s"))} THEN 'rejected'
                 WHEN t.{objects.key[-1]} IS NULL THEN CASE WHEN {is_new} THEN 'newer_there' ELSE 'missing_here' END
                 WHEN s.{objects.time} > t.{objects.time} AND {is_new} THEN 'newer_there'
                 ELSE 'differs' END,
            {objects.reference.format("s")}, {_row_key(objects, "s")}, {objects.label.format("s")},
            CASE WHEN t.{objects.key[-1]} IS NULL THEN '{{}}' ELSE {_differing(objects)} END
        FROM {objects.seen} s LEFT JOIN {objects.name} t ON {objects.equal_keys("t", "s")}
        WHERE t.{objects.key[-1]} IS NULL OR {objects.tuple_of("t")} IS DISTINCT FROM {objects.tuple_of("s")}
    """
    yield f"""
        {insert}
        SELECT '{objects.name}', CASE WHEN {is_rejected.format("b.reference")} THEN 'rejected' ELSE 'unreadable' END,
            b.reference, b.reference, b.reference || ': ' || b.reason, '{{}}'
        FROM seen_bad b
    """
    if not subject.is_forgotten_there:
        yield f"""
            {insert}
            SELECT '{objects.name}', 'missing_there', {objects.reference.format("t")}, {_row_key(objects, "t")},
                {objects.label.format("t")}, '{{}}'
            FROM {objects.name} t
            WHERE t.sync_scope_id = :scope AND t.deleted_at IS NULL AND NOT ({subject.is_elsewhere})
              AND NOT EXISTS (SELECT FROM {objects.seen} s WHERE {objects.equal_keys("t", "s")})
              AND NOT EXISTS (SELECT FROM seen_bad b WHERE b.reference = {objects.reference.format("t")})
        """
    if subject.details is not None:
        yield from _comparing_details(objects, subject.details, insert)


def _comparing_details(objects: Part, details: Part, insert: str) -> Iterator[str]:
    """Details count where both sides have the object, and ours is not simply older."""
    shared = tuple(name for name in details.key if name in objects.key)
    join = " AND ".join(f"o.{name} = {{0}}.{name}" for name in shared)
    both = f"""
        both_have AS (
            SELECT {", ".join(f"s.{name}" for name in shared)}
            FROM {objects.seen} s JOIN {objects.name} t ON {objects.equal_keys("t", "s")}
            WHERE NOT EXISTS (SELECT FROM found f WHERE f.part = '{objects.name}' AND f.kind <> 'differs'
                              AND f.row_key = {_row_key(objects, "s")}))
    """
    is_new = f"(CAST(:read_again_from AS timestamptz) IS NULL OR s.{details.time} >= :read_again_from)"
    yield f"""
        WITH {both}
        {insert}
        SELECT '{details.name}',
            CASE WHEN t.{details.key[-1]} IS NOT NULL THEN 'differs'
                 WHEN {is_new} THEN 'newer_there' ELSE 'missing_here' END,
            {details.reference.format("s")}, {_row_key(details, "s")}, {details.label.format("s")},
            CASE WHEN t.{details.key[-1]} IS NULL THEN '{{}}' ELSE {_differing(details)} END
        FROM {details.seen} s JOIN both_have o ON {join.format("s")}
        LEFT JOIN {details.name} t ON {details.equal_keys("t", "s")}
        WHERE t.{details.key[-1]} IS NULL OR {details.tuple_of("t")} IS DISTINCT FROM {details.tuple_of("s")}
    """
    yield f"""
        WITH {both}
        {insert}
        SELECT '{details.name}', 'missing_there', {details.reference.format("t")}, {_row_key(details, "t")},
            {details.label.format("t")}, '{{}}'
        FROM {details.name} t JOIN both_have o ON {join.format("t")}
        WHERE NOT EXISTS (SELECT FROM {details.seen} s WHERE {details.equal_keys("t", "s")})
    """


def _rows_here(subject: Subject, part: Part) -> str:
    """SQL that counts our rows of a scope."""
    objects = subject.objects
    if subject.is_forgotten_there:
        # They belong to no scope; those that the source still shows are counted.
        return f"SELECT count(*) FROM {part.name} t JOIN {part.seen} s ON {part.equal_keys('t', 's')}"
    elsewhere = subject.is_elsewhere.replace("t.", "o.")
    in_scope = (
        f"SELECT FROM {objects.name} o WHERE o.sync_scope_id = :scope AND o.deleted_at IS NULL AND NOT ({elsewhere})"
    )
    if part is objects:
        return f"SELECT count(*) FROM ({in_scope}) AS rows"
    shared = [name for name in part.key if name in objects.key]
    join = " AND ".join(f"o.{name} = t.{name}" for name in shared)
    return f"SELECT count(*) FROM {part.name} t WHERE EXISTS ({in_scope} AND {join})"
