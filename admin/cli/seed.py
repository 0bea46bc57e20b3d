"""`plumbline seed`: a made-up company in the tables, for trying things out, for tests and for benchmarks."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from models.errors import UsageError

if TYPE_CHECKING:
    from admin.seed.company import Part, Plan
    from models.store.session import Database

app = typer.Typer()

TENANTS = ("Larkspur Logistics", "Pebble Studio")
SMALLER = 10
"""Tenants after the first have so many times fewer of everything."""
FEWEST_ENGINEERS = 3


@app.command("seed")
def seed(
    engineers: Annotated[
        int, typer.Option("--engineers", metavar="N", min=FEWEST_ENGINEERS, help="How large the first tenant is.")
    ] = 25,
    years: Annotated[float, typer.Option("--years", metavar="Y", min=0.1, max=20, help="How long its past is.")] = 2,
    results: Annotated[
        int | None, typer.Option("--results", metavar="N", min=0, help="Test results; 2,000 an engineer and year.")
    ] = None,
    bugs: Annotated[int | None, typer.Option("--bugs", metavar="N", min=0, help="20 an engineer and year.")] = None,
    merge_requests: Annotated[
        int | None, typer.Option("--merge-requests", metavar="N", min=0, help="40 an engineer and year.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="NAME", help="May be repeated; the first is the large one.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="The same seed makes the same company.")] = 1,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="The past ends before it; today if not given.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove these tenants instead, if they were seeded.")
    ] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Fill the database with a made-up company, beside whatever is there.

    Each tenant has people with several accounts, robots, projects, test cases, runs, bugs with their histories, merge
    requests, deployments, documents and decisions. Summaries are computed afterwards by the workers, or by
    `plumbline summaries rebuild`.

    Example:
        plumbline seed
        plumbline seed --engineers 250 --seed 7 --as-of 2026-01-01
        plumbline seed --remove
    """
    from admin.cli.process import ready
    from admin.seed.company import Plan
    from workers import secrets

    names = [name.strip() for name in tenant or TENANTS]
    day = arguments.read_date(as_of, "--as-of") if as_of else datetime.now(UTC).date()
    plans = [
        Plan.of_size(
            name,
            engineers=engineers if number == 0 else max(engineers // SMALLER, FEWEST_ENGINEERS),
            years=years,
            seed=seed,
            as_of=day,
            results=_smaller(results, number),
            bugs=_smaller(bugs, number),
            merge_requests=_smaller(merge_requests, number),
        )
        for number, name in enumerate(names)
    ]
    if not all(plan.slug for plan in plans) or len({plan.slug for plan in plans}) < len(plans):
        raise UsageError("Each --tenant needs a name of its own with letters or digits.")
    process = ready()
    if remove:
        _remove_all(process.database, plans, as_json=as_json)
        return
    _refuse_existing(process.database, plans)
    auth = secrets.encrypt(process.settings, {})
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with _progress("rows") as advance:
        for plan in plans:
            fill(process.database, plan, auth=auth, counts=counts, advance=advance)
    _print_counts(counts, time.monotonic() - started, plans, verb="seeded", as_json=as_json)
    output.note("Summaries are computed by the workers, or now by `plumbline summaries rebuild`.")


def _smaller(amount: int | None, number: int) -> int | None:
    return amount if amount is None or number == 0 else amount // SMALLER


def fill(database: Database, plan: Plan, *, auth: str, counts: Counter[str], advance: Any = lambda _count: None) -> int:
    """Write a tenant, part by part, each in a short transaction.

    Args:
        database: where.
        plan: what.
        auth: of its connections: ciphertext of no secrets.
        counts: of rows by table; added to.
        advance: told how many rows were written.

    Returns:
        The tenant's id.
    """
    from admin.seed.company import Company, Ids
    from admin.seed.rows import rows
    from models.store import seed as store
    from models.store.session import commit_without_waiting

    company = Company(plan)
    with database.transaction() as session:
        ids = Ids(store.reserve_ids(session, company.ids_needed()))
    for parts in _ahead(rows(company, ids, auth=auth)):
        with database.transaction() as session:
            commit_without_waiting(session)  # what a crash of the database loses, is seeded again
            for part in parts:
                written = store.write(session, part.table, part.columns, part.rows)
                counts[part.table] += written
                advance(written)
    with database.transaction() as session:
        facts = {"seed": plan.seed, "as_of": plan.as_of.isoformat(), "engineers": plan.engineers, "years": plan.years}
        store.complete(session, ids("tenants"), facts)
    return ids("tenants")


def _ahead(chunks: Iterator[list[Part]]) -> Iterator[list[Part]]:
    """Make the next chunk while the database is busy with the last one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as maker:
        coming = maker.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = maker.submit(next, chunks, None)
            yield chunk


def _refuse_existing(database: Database, plans: list[Plan]) -> None:
    from models.store import seed as store

    with database.transaction() as session:
        for plan in plans:
            found = store.tenant(session, plan.tenant, plan.slug)
            if found is None:
                continue
            if not found.is_seeded:
                raise UsageError(f"There is a real tenant {found.name!r}; choose another name with --tenant.")
            state = "already" if found.is_complete else "in part, from a seeding that was interrupted"
            raise UsageError(
                f"The tenant {found.name!r} is there {state}; "
                f"`plumbline seed --remove --tenant {found.name!r}` removes it."
            )


def _remove_all(database: Database, plans: list[Plan], *, as_json: bool) -> None:
    from models.store import seed as store

    counts: Counter[str] = Counter()
    started = time.monotonic()
    for plan in plans:
        with database.transaction() as session:
            found = store.tenant(session, plan.tenant, plan.slug)
        if found is None:
            output.note(f"There is no tenant {plan.tenant!r}.")
        elif not found.is_seeded:
            raise UsageError(f"{found.name!r} is a real tenant; only what was seeded is removed.")
        else:
            with _progress("rows") as advance:
                remove_tenant(database, found.id, counts=counts, advance=advance)
    _print_counts(counts, time.monotonic() - started, plans, verb="removed", as_json=as_json)


def remove_tenant(
    database: Database, tenant_id: int, *, counts: Counter[str], advance: Any = lambda _count: None
) -> None:
    """Remove a seeded tenant with all that was computed from it, a table in each transaction."""
    from models.store import seed as store

    for table, statement in store.statements_to_remove():
        with database.transaction() as session:
            removed = store.remove_rows(session, statement, tenant_id)
        counts[table] += removed
        advance(removed)
    with database.transaction() as session:
        store.end_removal(session, tenant_id)


def _print_counts(counts: Counter[str], seconds: float, plans: list[Plan], *, verb: str, as_json: bool) -> None:
    total = sum(counts.values())
    rows_per_second = round(total / max(seconds, 0.001))
    by_table = {table: count for table, count in counts.most_common() if count}
    if as_json:
        output.print_json(
            {
                "tenants": [plan.slug for plan in plans],
                "rows": total,
                "seconds": round(seconds, 3),
                "rows_per_second": rows_per_second,
                "tables": by_table,
            }
        )
        return
    if by_table:
        rows = [{"table": table, "rows": f"{count:,}"} for table, count in by_table.items()]
        output.print_rows(rows, columns={"table": "table", "rows": "rows"}, as_json=False)
    output.say(f"{total:,} rows {verb} in {seconds:.1f} s, {rows_per_second:,} a second.")


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A line with what is done so far, on a terminal; nothing elsewhere. Yields what is told of progress."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} " + what), TimeElapsedColumn())
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda count: progress.advance(task, count)
