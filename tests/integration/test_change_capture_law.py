"""The law of change_log: replayed from empty, in the order of its ids, it gives the tables.

Each example runs in a transaction that is undone; a statement that the database refuses is undone by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from factories.rows import Rows, utc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from models.store.copy import copy_rows, upsert
from models.store.session import Database
from models.tables import METADATA

pytestmark = pytest.mark.also_on_postgresql_15

ROOT = Path(__file__).parents[2]
BUGS, RESULTS = METADATA.tables["bug_budget"], METADATA.tables["test_run_results"]
BUG_COLUMNS = (
    "tenant_id", "jira_key", "project", "summary", "status", "issue_type", "labels", "linked_issues", "is_open",
    "resolved_date", "priority_score", "created_date", "updated_date", "last_synced_at",
)  # fmt: skip
MORNING = utc("2025-06-02 09:00")
KEYS = {"odd": ("B c", "a"), "test_plan_test_cases": ("test_plan_id", "test_case_id")}
WATCHED = ("bug_budget", "settings", "projects", "test_runs", "test_run_results", "odd")
LEFT_OUT = {"updated_at", "last_synced_at"}

STATE_OF_BUGS = (ROOT / "docs" / "change-capture.md").read_text().split("```sql\n")[1].split("```")[0].rstrip(";\n")
"""What the documents give as a way to read the log."""

numbers = st.integers(1, 4)
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\x01"), max_size=5) | st.sampled_from(
    ["***", "a:b", "\\", '"', "'", "{}", "null", "\n", "$"]
)
maybe = st.none() | texts
parts = st.sampled_from(["", "x", "x:y", ":", "\\", "y\\:", "*"])


# --- what happens -----------------------------------------------------------------------------------------------------


def bug_rows(rows: Rows, given: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (
            rows.tenant_id, f"AB-{number}", "AB", summary or "", status, "Bug", labels, [], status == "Done",
            None if score is None else MORNING, score, MORNING, MORNING + timedelta(days=day), MORNING,
        )
        for number, summary, status, labels, score, day in given
    ]  # fmt: skip


def upsert_bugs(rows: Rows, given: list[Any]) -> None:
    upsert(
        rows.session, BUGS, BUG_COLUMNS, bug_rows(rows, given), ("tenant_id", "jira_key"), newer=("updated_date",),
        keep=("last_synced_at",),
    )  # fmt: skip


def copy_bugs(rows: Rows, given: list[Any]) -> None:
    copy_rows(rows.session, sql.Identifier("bug_budget"), [BUGS.c[name] for name in BUG_COLUMNS], bug_rows(rows, given))


def upsert_results(rows: Rows, given: list[Any]) -> None:
    values = [(run, case, status, 7, message, MORNING, 0) for run, case, status, message in given]
    columns = ("test_run_id", "test_case_id", "status", "execution_time", "error_message", "executed_at", "retry_count")
    upsert(rows.session, RESULTS, columns, values, ("test_run_id", "test_case_id"))


def statement(written: str, **parameters: st.SearchStrategy[Any]) -> st.SearchStrategy[Callable[[Rows], Any]]:
    return st.fixed_dictionaries(parameters).map(lambda values: lambda rows: rows.sql(written, **values))


bug = st.tuples(
    numbers, maybe, st.sampled_from(["To Do", "Done"]), st.lists(texts, max_size=2),
    st.none() | st.decimals(-9, 9, places=2), st.integers(0, 2),
)  # fmt: skip
result = st.tuples(numbers, numbers, st.sampled_from(["passed", "failed"]), maybe)

OPERATIONS = st.one_of(
    st.lists(bug, max_size=6).map(lambda given: lambda rows: upsert_bugs(rows, given)),
    st.lists(bug, max_size=3, unique_by=lambda each: each[0]).map(lambda given: lambda rows: copy_bugs(rows, given)),
    st.lists(result, max_size=6).map(lambda given: lambda rows: upsert_results(rows, given)),
    statement("UPDATE bug_budget SET status = :status, updated_at = now()", status=texts),
    statement("UPDATE bug_budget SET last_synced_at = now()"),
    statement("UPDATE bug_budget SET labels = jsonb_build_array(labels, CAST(:value AS text))", value=texts),
    statement("DELETE FROM bug_budget WHERE jira_key > 'AB-' || :number", number=numbers),
    statement(
        "INSERT INTO settings (key, value, type) VALUES (:key, :value, :type) ON CONFLICT (tenant_id, key) DO UPDATE "
        "SET value = excluded.value, type = excluded.type",
        key=st.sampled_from(["theme", "smtp"]), value=maybe, type=st.sampled_from(["string", "secret"]),
    ),
    statement("UPDATE settings SET type = :type", type=st.sampled_from(["string", "secret"])),
    statement("DELETE FROM settings"),
    statement('INSERT INTO odd SELECT CAST(:a AS text), :b, n, :note FROM generate_series(1, 2) n '
              'ON CONFLICT DO NOTHING', a=parts, b=parts, note=maybe),
    statement('INSERT INTO odd VALUES (:a, :b, 1, :note) ON CONFLICT ("B c", a) DO UPDATE '
              "SET note = excluded.note, n = 2", a=parts, b=parts, note=maybe),
    statement('UPDATE odd SET a = "B c", "B c" = a'),
    statement("UPDATE odd SET a = a || 'x', note = note || 'y'"),
    statement("UPDATE odd SET a = :a WHERE a = :b", a=parts, b=parts),
    statement('WITH gone AS (DELETE FROM odd RETURNING *) INSERT INTO odd SELECT a, "B c", n + 1, note FROM gone'),
    statement(
        "MERGE INTO odd USING (VALUES (:a, 1), (:b, 2)) AS v(a, k) ON odd.a = v.a "
        "WHEN MATCHED AND v.k = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET a = odd.a || '!' "
        'WHEN NOT MATCHED THEN INSERT (a, "B c", n) VALUES (v.a, v.a, v.k)', a=parts, b=parts,
    ),
    statement("UPDATE projects SET created_by = :a, updated_by = :b", a=st.none() | numbers, b=st.none() | numbers),
    statement("UPDATE projects SET created_by = :a, updated_by = :a", a=st.integers(1, 2)),
    statement("UPDATE projects SET title = title || id"),
    statement("DELETE FROM users WHERE id = :number", number=st.integers(1, 2)),
    statement("UPDATE test_runs SET id = id + :number", number=numbers),
    statement("DELETE FROM test_runs WHERE id = :number", number=numbers),
    statement("DELETE FROM test_run_results WHERE test_case_id = :number", number=numbers),
    statement("TRUNCATE test_runs CASCADE"),
    statement("TRUNCATE odd"),
    statement("SET LOCAL timezone = 'Asia/Kolkata'"),
)  # fmt: skip


# --- the law ----------------------------------------------------------------------------------------------------------


def world(rows: Rows) -> None:
    """Rows that others refer to, and a table whose key is made of texts."""
    for written in (
        'CREATE TABLE odd (a text, "B c" text, n int, note text, PRIMARY KEY ("B c", a))',
        "SELECT watch_changes('odd', 'NULL::bigint')",
        "INSERT INTO users (id, name, email) SELECT n, n, n FROM generate_series(1, 4) n",
        "INSERT INTO projects (id, tenant_id, title) SELECT n, t.id, n FROM tenants t, generate_series(1, 2) n",
        "INSERT INTO test_cases (id, tenant_id, title) SELECT n, t.id, n FROM tenants t, generate_series(1, 4) n",
        "INSERT INTO test_runs (id, project_id, title) SELECT n, 1, n FROM generate_series(1, 4) n",
    ):
        rows.sql(written)


def replayed(rows: Rows, table: str) -> dict[str, dict[str, Any]]:
    """The table from empty; what each change says that there was, is what there was."""
    state: dict[str, dict[str, Any]] = {}
    for record, kind, old, new in rows.sql(
        "SELECT record_id, change_type, old_values, new_values FROM change_log WHERE table_name = :t ORDER BY id",
        t=table,
    ):
        if kind == "insert":
            assert record not in state
            assert old is None
            state[record] = new
        elif kind == "update":
            assert old.keys() == new.keys() <= state[record].keys()
            if table != "settings":
                assert old == {name: state[record][name] for name in old}
                assert all(old[name] != new[name] for name in old)
            state[record].update(new)
        else:
            assert new is None
            assert state.pop(record) == old
    return state


def stored(rows: Rows, table: str) -> dict[str, dict[str, Any]]:
    """The table as it is, without what is never logged."""
    found = {}
    rows.sql("SET LOCAL timezone = 'UTC'")
    for (row,) in rows.sql(f"SELECT to_jsonb({table}) FROM {table}"):
        values = [str(row[name]) for name in KEYS.get(table, ("id",))]
        if len(values) > 1:
            values = [value.replace("\\", "\\\\").replace(":", "\\:") for value in values]
        if table == "settings" and row["type"] == "secret":
            row["value"] = "***"
        found[":".join(values)] = {name: value for name, value in row.items() if name not in LEFT_OUT}
    return found


@settings(
    max_examples=max(1, settings().max_examples // 2),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(OPERATIONS, min_size=3, max_size=25))
def test_replaying_the_log_from_empty_gives_the_tables(
    database: Database, operations: list[Callable[[Rows], Any]]
) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        world(rows)
        for operation in operations:
            savepoint = session.begin_nested()
            try:
                operation(rows)
            except (DBAPIError, psycopg.Error):  # COPY is the driver's own
                savepoint.rollback()
        for table in WATCHED:
            assert replayed(rows, table) == stored(rows, table), table
        assert dict(tuple(row) for row in rows.sql(STATE_OF_BUGS)) == stored(rows, "bug_budget")
        session.rollback()
