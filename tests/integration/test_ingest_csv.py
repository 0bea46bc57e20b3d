"""CSV files into rows: good ones kept, bad ones told, twice the same, and never against a sync."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories.rows import Rows
from factories.stack import wait_until
from fakes.worker import InProcessWorker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.records import Issue
from models.store import connections, imports, jira, sync
from models.store.session import Database
from workers.settings import Settings
from workers.task import enqueue

ROOT = Path(__file__).parents[2]
HEADER = "key,summary,status,created"
BUG_COLUMNS = (
    "jira_key, project, summary, status, issue_type, priority, severity_issue, status_category, is_open, labels, "
    "created_date, updated_date, resolved_date, due_date, description, assignee_final"
)


class Importer:
    """Imports texts as files."""

    def __init__(self, worker: InProcessWorker, folder: Path) -> None:
        self.worker = worker
        self.database = worker.database
        self.path = folder / "file.csv"

    def __call__(self, content: str, kind: str = "bugs", project: str = "Shop") -> Any:
        """Import a file; returns its log."""
        self.path.write_text(content)
        import_id = self.begin(project)
        self.worker.run("ingest.csv", import_id=import_id, path=str(self.path), kind=kind, project_id=self.project_id)
        return self.log(import_id)

    def begin(self, project: str = "Shop") -> int:
        with self.database.transaction() as session:
            tenant_id = connections.default_tenant(session)
            self.project_id = connections.ensure_project(session, tenant_id, project, timezone="Europe/Berlin")
            return imports.begin(session, tenant_id, source="csv", file_name=self.path.name)

    def log(self, import_id: int) -> Any:
        with self.database.transaction() as session:
            return imports.get(session, import_id)

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.transaction() as session:
            result = session.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def ingest(database: Database, settings: Settings, tmp_path: Path) -> Iterator[Importer]:
    with InProcessWorker(database, settings) as worker:
        yield Importer(worker, tmp_path)


def test_good_rows_are_kept_and_bad_ones_are_told_with_their_lines(ingest: Importer) -> None:
    log = ingest(
        f"{HEADER},severity,labels,resolved,due\n"
        "AB-1,Breaks,Open,2026-01-31T12:00,high,a;b,,2026-03-01\n"
        "AB-2,Hangs,Open,31.01.2026,,,,\n"
        "AB-3,Slow,Closed,2026-01-31,awful,,,\n"
        "XY-4,Ugly,Closed,2026-01-31T00:00Z,low,,2026-02-01T00:00Z,\n"
    )
    assert (log.status, log.source, log.file_name) == ("completed", "csv", "file.csv")
    assert (log.rows_total, log.rows_imported, log.rows_failed) == (4, 2, 2)
    assert [(each["row"], each["column"]) for each in log.errors] == [(3, "created"), (4, "severity")]
    assert "2026-01-31" in log.errors[0]["error"]
    assert ingest.sql(
        "SELECT jira_key, project, severity_issue, is_open, labels, created_date, updated_date, resolved_date, "
        "p.title FROM bug_budget b JOIN projects p ON p.id = b.project_id ORDER BY 1"
    ) == [
        ("AB-1", "AB", "high", True, ["a", "b"], *[datetime(2026, 1, 31, 11, tzinfo=UTC)] * 2, None, "Shop"),
        (
            "XY-4", "XY", "low", False, [], datetime(2026, 1, 31, tzinfo=UTC), *[datetime(2026, 2, 1, tzinfo=UTC)] * 2,
            "Shop",
        ),
    ]  # fmt: skip


def test_the_same_file_again_writes_nothing_and_a_changed_row_is_written(ingest: Importer) -> None:
    content = f"{HEADER},resolved\nAB-1,Breaks,Closed,2026-01-31,2026-02-02\nAB-2,Hangs,Open,2026-01-31,\n"
    ingest(content)
    before = ingest.sql("SELECT xmin::text, * FROM bug_budget ORDER BY jira_key")
    log = ingest(content)
    assert (log.rows_total, log.rows_imported, log.rows_failed) == (2, 2, 0)
    assert ingest.sql("SELECT xmin::text, * FROM bug_budget ORDER BY jira_key") == before
    ingest(content.replace("Closed,2026-01-31,2026-02-02", "Reopened,2026-01-31,"))
    assert ingest.sql("SELECT jira_key, status, is_open, resolved_date FROM bug_budget ORDER BY 1") == [
        ("AB-1", "Reopened", True, None),
        ("AB-2", "Open", True, None),
    ]


def test_of_two_rows_with_one_key_the_later_wins(ingest: Importer) -> None:
    assert ingest(f"{HEADER}\nAB-1,first,Open,2026-01-31\nAB-1,second,Open,2026-01-30\n").rows_failed == 0
    assert ingest.sql("SELECT summary FROM bug_budget") == [("second",)]


def test_an_older_row_never_overwrites_a_newer_one_where_the_file_says_when(ingest: Importer) -> None:
    def file(*rows: tuple[str, str]) -> str:
        lines = [f"AB-1,{summary},Open,2026-01-01,{updated}" for summary, updated in rows]
        return f"{HEADER},updated\n" + "\n".join(lines)

    log = ingest(file(("newer", "2026-03-01"), ("older", "2026-02-01")))
    assert [(each["row"], each["column"]) for each in log.errors] == [(3, "updated")]
    log = ingest(file(("older still", "2026-01-15"), ("old", "2026-02-28")))
    assert (log.rows_imported, log.rows_failed) == (0, 2)
    assert "AB-1 is known as of 2026-02-28T23:00:00Z" in log.errors[1]["error"]
    assert ingest.sql("SELECT summary FROM bug_budget") == [("newer",)]
    assert ingest(file(("newest", "2026-03-02"))).rows_failed == 0
    assert ingest.sql("SELECT summary FROM bug_budget") == [("newest",)]


def test_more_bad_rows_than_a_log_names_are_all_counted(ingest: Importer) -> None:
    bad = "\n".join(f"AB-{n},x,Open,never" for n in range(2_500))
    log = ingest(f"{HEADER}\nAB-A,x,Open,2026-01-31\n{bad}\nAB-Z,x,Open,2026-01-31\n")
    assert (log.rows_total, log.rows_imported, log.rows_failed) == (2_502, 2, 2_500)
    assert [each["row"] for each in log.errors] == list(range(3, 1_003))


def issue(key: str, *, issue_id: str = "10001", updated_at: str = "2026-02-01") -> Issue:
    at = datetime.fromisoformat(updated_at).replace(tzinfo=UTC)
    empty: dict[str, Any] = dict.fromkeys(field.name for field in msgspec.structs.fields(Issue) if field.required)
    lists = dict.fromkeys(("components", "fix_versions", "subtasks", "labels", "linked_issues", "changes"), ())
    given = {
        "issue_id": issue_id, "key": key, "project_key": "AB", "issue_type": "Bug", "summary": "as Jira says",
        "status": "Open", "status_category": "new", "comments_count": 0, "created_at": at, "updated_at": at,
    }  # fmt: skip
    return Issue(**{**empty, **lists, **given})


@pytest.fixture
def synced(ingest: Importer) -> Any:
    """Writes issues as a sync of connection `work` does."""
    ingest.begin()
    with ingest.database.transaction() as session:
        rows = Rows(session)
        scope_id = rows.scope(rows.connection(name="work"), ingest.project_id)

    def sync_issues(*issues: Issue) -> None:
        with ingest.database.transaction() as session:
            target = sync.target(session, scope_id)
            jira.write_issues(session, target, issues, fetched_at=datetime(2026, 6, 1, tzinfo=UTC))

    return sync_issues


def test_a_synced_bug_wins_over_a_file(ingest: Importer, synced: Any) -> None:
    synced(issue("AB-1"))
    log = ingest(f"{HEADER},updated\nAB-1,as a file says,Open,2026-01-31,2099-01-01\nAB-2,x,Open,2026-01-31,\n")
    assert log.errors == [
        {"row": 2, "column": "key", "error": "key: AB-1 is kept in step with Jira by connection work"}
    ]
    assert (log.rows_imported, log.rows_failed) == (1, 1)
    assert ingest.sql("SELECT jira_key, summary FROM bug_budget ORDER BY 1") == [
        ("AB-1", "as Jira says"),
        ("AB-2", "x"),
    ]


def test_a_sync_takes_over_what_a_file_brought(ingest: Importer, synced: Any) -> None:
    file = f"{HEADER}\nAB-1,as a file says,Open,2026-01-31\nAB-9,as a file says,Open,2026-01-31\n"
    ingest(file)
    ids = ingest.sql("SELECT id FROM bug_budget WHERE jira_key = 'AB-1'")
    synced(issue("AB-1"))
    assert ingest.sql("SELECT id FROM bug_budget WHERE issue_id = '10001' AND summary = 'as Jira says'") == ids
    assert ingest.sql("SELECT count(*) FROM bug_budget_metadata") == [(1,)]
    synced(issue("AB-9", updated_at="2026-02-02"))  # moved to a key that a file had brought
    assert ingest.sql("SELECT jira_key, issue_id, summary FROM bug_budget") == [("AB-9", "10001", "as Jira says")]
    assert ingest(file).rows_failed == 1


def test_test_cases_are_upserted_by_their_keys_and_only_what_the_file_says(ingest: Importer) -> None:
    log = ingest("key,title,suite,priority\nC1,Log in,Login,high\nC2,Log out,Login,\n", kind="test-cases")
    assert (log.rows_imported, log.rows_failed) == (2, 0)
    ingest.sql("UPDATE test_cases SET description = 'by a person' WHERE name = 'C1'")
    before = ingest.sql("SELECT xmin::text, * FROM test_cases ORDER BY name")
    ingest("title,suite,key,priority\nLog out,Login,C2,\nLog in,Login,C1,high\n", kind="test-cases")
    assert ingest.sql("SELECT xmin::text, * FROM test_cases ORDER BY name") == before
    ingest("key,title,automated\nC1,Log in quickly,yes\n", kind="test-cases")
    assert ingest.sql(
        "SELECT c.name, c.title, c.priority, c.automated, c.description, s.title FROM test_cases c "
        "JOIN suites s ON s.id = c.suite_id ORDER BY 1"
    ) == [
        ("C1", "Log in quickly", 1, True, "by a person", "Login"),
        ("C2", "Log out", 2, False, None, "Login"),
    ]


def test_a_file_that_went_away_fails_the_job_and_its_log(ingest: Importer) -> None:
    import_id = ingest.begin()
    arguments = {"import_id": import_id, "path": str(ingest.path), "kind": "bugs", "project_id": ingest.project_id}
    with pytest.raises(AssertionError, match="There is no file"):
        ingest.worker.run("ingest.csv", **arguments)
    log = ingest.log(import_id)
    assert (log.status, log.rows_total) == ("failed", 0)
    assert log.errors[0]["error"] == f"There is no file {ingest.path}."
    with pytest.raises(AssertionError, match="There is no import"):
        ingest.worker.run("ingest.csv", **{**arguments, "import_id": 0})


def test_a_killed_import_leaves_a_true_log_and_begins_again(ingest: Importer) -> None:
    total = 30_000
    ingest.path.write_text(f"{HEADER}\n" + "".join(f"AB-{n},x,Open,2026-01-31\n" for n in range(total)))
    import_id = ingest.begin()
    job_id = enqueue(
        ingest.database, "ingest.csv", trigger="cli",
        import_id=import_id, path=str(ingest.path), kind="bugs", project_id=ingest.project_id,
    )  # fmt: skip
    script = (
        "import sys; from fakes.worker import InProcessWorker; from models.store.session import Database; "
        "from workers.settings import load_settings; "
        "InProcessWorker(Database(sys.argv[1]), load_settings({'PLUMBLINE_HOME': sys.argv[2]})).__enter__().run_jobs()"
    )
    url = ingest.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", script, url, str(ingest.path.parent)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
    )
    try:
        wait_until(lambda: ingest.log(import_id).rows_total > 0, seconds=60, what="some rows are in")
    finally:
        process.kill()
        process.wait(10)
    log = ingest.log(import_id)
    assert log.status == "processing"
    assert 0 < log.rows_total < total
    assert ingest.sql("SELECT count(*) FROM bug_budget") == [(log.rows_total,)]

    def lock_is_free() -> bool:  # PostgreSQL notices the death of the connection a moment later
        with ingest.database.advisory_lock(f"job:{job_id}") as is_free:
            return is_free

    wait_until(lock_is_free, seconds=10, what="the dead worker's lock is free")
    ingest.worker.run_jobs()
    log = ingest.log(import_id)
    assert (log.status, log.rows_total, log.rows_imported) == ("completed", total, total)
    assert ingest.sql("SELECT count(*), count(DISTINCT jira_key) FROM bug_budget") == [(total, total)]


def test_a_cancelled_import_stops_at_its_next_batch_and_says_so(ingest: Importer) -> None:
    ingest.path.write_text(f"{HEADER}\nAB-1,x,Open,2026-01-31\n")
    import_id = ingest.begin()
    # Cancelled by what the first batch writes: before it the job runs, after it the job is cancelled.
    ingest.sql(
        "CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE job_runs SET status = 'cancelled'; RETURN NULL; END $$"
    )
    ingest.sql(
        "CREATE TRIGGER cancel AFTER UPDATE OF rows_total ON import_logs FOR EACH ROW WHEN (NEW.rows_total > 0) "
        "EXECUTE FUNCTION cancel()"
    )
    enqueue(
        ingest.database, "ingest.csv", trigger="cli",
        import_id=import_id, path=str(ingest.path), kind="bugs", project_id=ingest.project_id,
    )  # fmt: skip
    ingest.worker._app.tasks["ingest.csv"](job_id=ingest.sql("SELECT max(id) FROM job_runs")[0][0])
    log = ingest.log(import_id)
    assert (log.status, log.rows_total) == ("failed", 0)
    assert log.errors[0]["error"] == "The job was cancelled."
    assert ingest.sql("SELECT count(*) FROM bug_budget") == [(0,)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.integers(1, 40).map("AB-{}".format),
            "summary": st.sampled_from(["x", "say; hi", "naïve — ünïcode", "tab\\t"]),
            "status": st.sampled_from(["Open", "Closed"]),
            "created": st.dates().filter(lambda day: day.year > 1).map(str),
            "severity": st.sampled_from(["", "low", "critical"]),
        }
    ),
    unique_by=lambda row: row["key"],
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.randoms(use_true_random=False))
def test_rows_come_out_as_they_went_in_whatever_their_order_and_however_often(
    ingest: Importer, rows: list[dict[str, str]], order: random.Random
) -> None:
    ingest.sql("DELETE FROM bug_budget")
    query = f"SELECT {BUG_COLUMNS} FROM bug_budget ORDER BY 1"

    def content() -> str:
        order.shuffle(rows)
        columns = ["key", "summary", "status", "created", "severity"]
        order.shuffle(columns)
        return "\n".join([";".join(columns), *(";".join(f'"{row[name]}"' for name in columns) for row in rows)])

    assert ingest(content()).rows_failed == 0
    stored = ingest.sql(query)
    expected = sorted((r["key"], r["summary"], r["status"], r["severity"] or "medium") for r in rows)
    assert sorted((r[0], r[2], r[3], r[6]) for r in stored) == expected
    ingest(content())
    assert ingest.sql(query) == stored
    ingest.sql("DELETE FROM bug_budget")
    ingest(content())
    assert ingest.sql(query) == stored
