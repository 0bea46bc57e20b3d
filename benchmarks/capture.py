"""What change capture costs: an upsert of 100,000 rows with the capture's triggers beside the same one without them.

    python -m benchmarks.capture [--rows N] [--rounds N]

The upsert is the one that syncs use (models/store/copy.py), COPY included. `half` inserts one half of the rows and
changes the other, `changed` changes all. The marks of dirty keys are set in both; `bare` is without any trigger of
ours. The three take turns within each round, so what else the machine does falls on all of them; ends with 1 where
capture costs more than the limit.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from sqlalchemy import text

from models.store.copy import upsert
from models.store.session import Database, driver, migrate
from models.tables import METADATA
from workers.embedded import EmbeddedServers

LIMIT = 1.60
"""Time with capture by time without."""

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
BUG_COLUMNS = (
    "tenant_id", "jira_key", "project", "project_id", "summary", "status", "issue_type", "final_issue_type", "priority",
    "severity_issue", "sprint", "status_category", "assignee_final", "assignee_id", "reporter", "reporter_id",
    "creator", "creator_id", "labels", "is_open", "created_date", "updated_date", "resolved_date", "due_date",
    "description", "linked_issues", "is_blocker", "last_synced_at",
)  # fmt: skip
RESULT_COLUMNS = (
    "test_run_id", "test_case_id", "status", "execution_time", "error_message", "stack_trace", "executed_at",
    "retry_count",
)  # fmt: skip
CASES_A_RUN = 1_000

WORLD = """
    INSERT INTO projects (id, tenant_id, title) SELECT 1, min(id), 'Shop' FROM tenants;
    INSERT INTO test_cases (id, tenant_id, title)
    SELECT n, p.tenant_id, 'case ' || n FROM projects p, generate_series(0, {cases} - 1) AS n;
    INSERT INTO test_runs (id, project_id, title, execution_date)
    SELECT n, 1, 'run ' || n, now() FROM generate_series(0, {runs}) AS n;
"""


class Table(NamedTuple):
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    newer: tuple[str, ...]
    rows: Callable[[int, int, int], Iterator[tuple[Any, ...]]]


class Cost(NamedTuple):
    seconds: float
    processor_seconds: float


def bug_rows(start: int, count: int, version: int) -> Iterator[tuple[Any, ...]]:
    """Bugs as Jira has them; each version moves every one of them to another status."""
    for number in range(start, start + count):
        is_done = (number + version) % 2 == 0
        created = BEGINNING + timedelta(minutes=number)
        updated = created + timedelta(days=version)
        person, reporter = f"Person {number % 97}", f"Person {number % 89}"
        yield (
            1, f"SHOP-{number}", "SHOP", 1, f"Payment {number} fails when the bank refuses the card",
            "Done" if is_done else "In Progress", "Bug", "Bug", "High", "high", "Sprint 12",
            "done" if is_done else "indeterminate", person, f"account-{number % 97:014d}", reporter,
            f"account-{number % 89:014d}", reporter, f"account-{number % 89:014d}", ["backend", "payments"],
            not is_done, created, updated, updated if is_done else None, None,
            "Open the shop, choose a thing, pay with a card that the bank refuses, see what it says. " * 5, [], False,
            updated,
        )  # fmt: skip


def result_rows(start: int, count: int, version: int) -> Iterator[tuple[Any, ...]]:
    """Results of runs of a thousand cases each, a tenth of them failed; each version takes other times."""
    for number in range(start, start + count):
        is_failed = (number + version) % 10 == 0
        yield (
            number // CASES_A_RUN, number % CASES_A_RUN, "failed" if is_failed else "passed",
            100 + (number * 7 + version * 13) % 5_000, "AssertionError: expected 200, got 500" if is_failed else None,
            "  File test_payment.py, line 17, in test_pays\n" * 10 if is_failed else None,
            BEGINNING + timedelta(seconds=number, days=version), int(is_failed),
        )  # fmt: skip


TABLES = (
    Table("bug_budget", BUG_COLUMNS, ("tenant_id", "jira_key"), ("updated_date", "last_synced_at"), bug_rows),
    Table("test_run_results", RESULT_COLUMNS, ("test_run_id", "test_case_id"), (), result_rows),
)


def run(database: Database, statements: str) -> None:
    with database.transaction() as session:
        session.execute(text(statements))


def set_triggers(database: Database, table: str, which: str) -> None:
    """`with`: all; `without`: all but the capture's; `bare`: none of ours."""
    run(database, f"ALTER TABLE {table} {'DISABLE' if which == 'bare' else 'ENABLE'} TRIGGER USER")
    if which == "without":
        for event in ("insert", "update", "delete", "truncate"):
            run(database, f"ALTER TABLE {table} DISABLE TRIGGER capture_{event}")


def upsert_once(database: Database, table: Table, start: int, count: int, version: int) -> Cost:
    """The time of one upsert in one transaction, and what it and its server process computed."""
    with database.transaction() as session:
        server = psutil.Process(driver(session).info.backend_pid)
        began, computed = time.perf_counter(), _processor_seconds(server)
        written = upsert(
            session, METADATA.tables[table.name], table.columns, table.rows(start, count, version), table.key,
            newer=table.newer,
        )  # fmt: skip
        computed = _processor_seconds(server) - computed
    assert written.total == count, written
    return Cost(time.perf_counter() - began, computed)


def _processor_seconds(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system) + time.process_time()


def measure_round(database: Database, table: Table, rows: int, which: str) -> dict[str, Cost]:
    """Both upserts over an otherwise empty table; neither pays for what came before it."""
    set_triggers(database, table.name, "bare")
    run(database, f"TRUNCATE {table.name}, change_log, dirty_keys CASCADE")
    upsert_once(database, table, 0, rows, 1)
    set_triggers(database, table.name, which)
    costs = {}
    for kind, start, version in (("changed", 0, 2), ("half", rows // 2, 3)):
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"VACUUM ANALYZE {table.name}"))
            connection.execute(text("CHECKPOINT"))
        costs[kind] = upsert_once(database, table, start, rows, version)
    with database.transaction() as session:
        logged = session.execute(text("SELECT count(*) FROM change_log")).scalar_one()
    assert logged == (2 * rows if which == "with" else 0), logged
    return costs


def measure(database: Database, table: Table, rows: int, rounds: int) -> bool:
    """Print a line for each kind of upsert; returns whether both are within the limit."""
    costs: dict[tuple[str, str], list[Cost]] = {}
    for number in range(rounds):
        order = ("without", "with", "bare") if number % 2 == 0 else ("with", "without", "bare")
        for which in order:
            for kind, cost in measure_round(database, table, rows, which).items():
                costs.setdefault((kind, which), []).append(cost)
    is_within = True
    for kind in ("half", "changed"):
        seconds, computed = (
            {
                which: statistics.median(cost[part] for cost in costs[kind, which])
                for which in ("with", "without", "bare")
            }
            for part in (0, 1)
        )
        ratio = seconds["with"] / seconds["without"]
        is_within &= ratio <= LIMIT
        print(
            f"{table.name:18} {kind:8} {rows:9,} {seconds['bare']:6.2f} {seconds['without']:9.2f}"
            f" {seconds['with']:6.2f} {ratio:6.2f} {computed['with'] / computed['without']:10.2f}",
            flush=True,
        )
    return is_within


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pl-bench-"))
    servers = EmbeddedServers(home)
    try:
        database = Database(servers.start_postgresql(), source="benchmark")
        migrate(database)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM SET autovacuum = off"))  # it would come when it likes
            connection.execute(text("SELECT pg_reload_conf()"))
        run(database, WORLD.format(cases=CASES_A_RUN, runs=2 * arguments.rows // CASES_A_RUN))
        print("table              upsert        rows   bare   without   with  ratio  processor")
        results = [measure(database, table, arguments.rows, arguments.rounds) for table in TABLES]
        database.close()
    finally:
        servers.stop()
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
