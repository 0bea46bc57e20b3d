"""A made-up company with 1,000,000 test results into the tables, beside the limit in the same run.

    python -m benchmarks.seed [--engineers N] [--rounds N]

The limit makes the same rows and copies them into tables without keys, foreign keys, indexes and triggers.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path

from psycopg import sql
from sqlalchemy import text

from admin.cli.seed import fill, remove_tenant
from admin.seed.company import Company, Ids, Plan
from admin.seed.rows import rows
from models.store.copy import copy_rows
from models.store.session import Database, migrate
from models.tables import METADATA
from workers.embedded import EmbeddedServers


def limit(database: Database, plan: Plan) -> tuple[float, int]:
    """Seconds and rows of a COPY into bare tables."""
    written = 0
    bare: set[str] = set()
    started = time.monotonic()
    company = Company(plan)
    ids = Ids(dict.fromkeys(company.ids_needed(), 1))
    for parts in rows(company, ids, auth=""):
        with database.transaction() as session:
            for part in parts:
                name = f"bare_{part.table}"
                if name not in bare:
                    names = ", ".join(f'"{column}"' for column in part.columns)
                    session.execute(text(f"DROP TABLE IF EXISTS {name}"))
                    session.execute(text(f"CREATE TABLE {name} AS SELECT {names} FROM {part.table} WHERE false"))
                    bare.add(name)
                columns = [METADATA.tables[part.table].c[column] for column in part.columns]
                written += copy_rows(session, sql.Identifier(name), columns, part.rows)
    return time.monotonic() - started, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engineers", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    plan = Plan.of_size("Measured", engineers=options.engineers, years=2, seed=1, as_of=date(2026, 1, 1))
    home = Path(tempfile.mkdtemp(prefix="pl-bench-"))
    servers = EmbeddedServers(home)
    try:
        database = Database(servers.start_postgresql())
        migrate(database)
        seconds, limits = list[float](), list[float]()
        for _ in range(options.rounds):
            limit_seconds, written = limit(database, plan)
            started = time.monotonic()
            tenant_id = fill(database, plan, auth="", counts=Counter())
            seconds.append(time.monotonic() - started)
            limits.append(limit_seconds)
            remove_tenant(database, tenant_id, counts=Counter())
        ours, bare = statistics.median(seconds), statistics.median(limits)
        print(
            f"{plan.results:,} test results, {written:,} rows in all: {ours:.1f} s, {written / ours:,.0f} rows/s; "
            f"limit {bare:.1f} s, {written / bare:,.0f} rows/s; ratio {bare / ours:.2f}"
        )
        database.close()
    finally:
        servers.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
