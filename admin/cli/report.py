"""`plumbline report`: what the tables say, on one page: how long things take, bugs, tests, people, freshness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from admin.cli.work import counted
from models.errors import UsageError

if TYPE_CHECKING:
    from models.store.report import Report

app = typer.Typer()

DEFAULT_DAYS = 90
NO_DATA = "no data"
COMMIT_CHARACTERS = 8


@app.command()
def report(
    project: Annotated[
        str | None, typer.Argument(metavar="[PROJECT]", help="Title of a project; all together where not given.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="D", help=f"First day; {DEFAULT_DAYS} days in all where not given.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="D", help="Last day; today where not given.")] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Print what the tables say of a period. "no data" is not 0, and n says how much each number stands on.

    Example:
        plumbline report
        plumbline report "Web shop" --from 2026-01-01 --to 2026-03-31 --json
    """
    from admin.cli.process import ready
    from models.store import connections
    from models.store.report import Period
    from models.store.report import report as read

    now = datetime.now(UTC)
    last_day = now.date() if last is None else arguments.read_date(last, "--to")
    first_day = last_day - timedelta(days=DEFAULT_DAYS - 1) if first is None else arguments.read_date(first, "--from")
    if first_day > last_day:
        raise UsageError(f"--from {first_day} lies after --to {last_day}.")
    process = ready()
    with process.database.transaction() as session:
        project_id = None if project is None else connections.project_id(session, project)
        found = read(session, Period(project_id=project_id, first=first_day, last=last_day), as_of=now)
    if as_json:
        output.print_json(_facts(found, project))
    else:
        _print(found, project)


def _facts(found: Report, project: str | None) -> dict[str, Any]:
    from msgspec.structs import asdict

    facts = asdict(found)
    facts["period"] = {"project": project, "from": found.period.first, "to": found.period.last}
    return facts


def _print(found: Report, project: str | None) -> None:
    period = found.period
    output.say(f"{project or 'All projects'}, {period.first} to {period.last}")
    _table(
        "Rows by table",
        {"table": "table", "rows": "rows"},
        ({"table": row["table"], "rows": f"{row['rows']:,}"} for row in found.tables),
    )
    _table(
        "Merge requests of people (hours)",
        {"measure": "measure", "n": "n", "p50": "p50", "p75": "p75", "p90": "p90"},
        ({"measure": row["measure"], **_spread(row, "")} for row in found.merge_requests),
        note=_left_out(found),
    )
    _table(
        "Jira issues (hours)",
        {
            "type": "type",
            **{f"lead_{name}": f"lead {name}" for name in ("n", "p50", "p75", "p90")},
            **{f"cycle_{name}": f"cycle {name}" for name in ("n", "p50", "p75", "p90")},
        },
        (
            {"type": row["issue_type"] or "all", **_spread(row, "lead_"), **_spread(row, "cycle_")}
            for row in found.issues
            if row["issue_type"] is not None or len(found.issues) != 2  # of one type only, all is that type
        ),
        note="Lead: created to done for good. Cycle: work begun to done for good; issues that were never in progress "
        "have none.",
    )
    _bugs(found)
    _runs(found)
    _people(found)
    _freshness(found)


def _bugs(found: Report) -> None:
    severities = ("critical", "high", "medium", "low", "total")
    _table(
        f"Open bugs at the end of {found.period.last}",
        {name: name for name in severities},
        [{name: f"{found.open_bugs[name]:,}" for name in severities}] if found.open_bugs else [],
    )
    _table(
        "Bugs by week",
        {"week": "week", "created": "created", "closed": "closed", "reopened": "reopened", "open": "open at its end"},
        (
            {
                "week": f"{row['first']} to {row['last']}",
                **{name: _number(row[name]) for name in ("created", "closed", "reopened", "open")},
            }
            for row in found.bug_weeks
        ),
    )


def _runs(found: Report) -> None:
    rates = ("pass_rate", "first_attempt_pass_rate", "flaky_rate")
    _table(
        "Last test runs",
        {
            "run": "run",
            "at": "executed (UTC)",
            "branch": "branch",
            "commit": "commit",
            "n": "n",
            "pass_rate": "passed",
            "first_attempt_pass_rate": "at first attempt",
            "flaky_rate": "flaky",
        },
        (
            {
                "run": "all of these" if row["id"] is None else row["title"],
                "at": output.readable(row["execution_date"]),
                "branch": output.readable(row["branch"]),
                "commit": output.readable(row["commit_sha"])[:COMMIT_CHARACTERS],
                "n": f"{row['n']:,}",
                **{name: _percent(row[name]) for name in rates},
            }
            for row in found.runs
        ),
        note="n: tests that passed, failed or broke, not the skipped ones. Flaky: passed after a failed attempt.",
    )


def _people(found: Report) -> None:
    columns = {
        "username": "account",
        "name": "name",
        "mr_created": "merge requests",
        "mr_approved": "approved",
        "repo_pushes": "pushes",
        "total_events": "events",
    }

    def rows(people: Sequence[dict[str, Any]]) -> Iterator[dict[str, str]]:
        for each in people:
            yield {
                "username": each["username"],
                "name": output.readable(each["name"]),
                **{name: _number(each[name]) for name in list(columns)[2:]},
            }

    shown, total = len(found.contributors), found.contributors_count
    of_all = f" (the first {shown} of {total:,})" if shown < total else ""
    _table(f"Contributors in {found.month:%B %Y}{of_all}", columns, rows(found.contributors))
    if found.bots:
        _table(f"Bots and deleted accounts in {found.month:%B %Y}", columns, rows(found.bots))


def _freshness(found: Report) -> None:
    _table(
        "Freshness",
        {
            "connection": "connection",
            "scope": "scope",
            "complete_until": "complete until (UTC)",
            "age": "age",
            "open_rejects": "set aside",
            "trouble": "trouble",
        },
        (
            {
                "connection": row["connection"],
                "scope": row["scope"],
                "complete_until": output.readable(row["complete_until"])
                if row["complete_until"]
                else ("as handed in" if row["kind"] == "upload" else "never synced"),
                "age": output.ago(row["complete_until"], found.as_of) if row["complete_until"] else "-",
                "open_rejects": f"{row['open_rejects']:,}",
                "trouble": output.readable(row["last_error"]),
            }
            for row in found.freshness
        ),
    )


def _left_out(found: Report) -> str:
    left_out = found.merge_requests_left_out
    sentences = [f"Those of bots are left out ({left_out['bots']:,} merged)."]
    if left_out["unreviewed"]:
        merged = found.merge_requests[0]["n"]
        sentences.append(f"{left_out['unreviewed']:,} of {merged:,} had no review by another person before the merge.")
    if left_out["estimated"]:
        sentences.append(f"Of {left_out['estimated']:,} the source lost the time of merging; they are left out.")
    if left_out["backwards"]:
        sentences.append(f"{counted(left_out['backwards'], 'time')} ran backwards and counts nowhere.")
    return " ".join(sentences)


def _spread(row: dict[str, Any], prefix: str) -> dict[str, str]:
    """The cells of a measure: n, and its percentiles or that there are none."""
    n = row[prefix + "n"]
    percentiles = {name: f"{row[prefix + name]:,.1f}" if n else NO_DATA for name in ("p50", "p75", "p90")}
    return {prefix + "n": f"{n:,}", **{prefix + name: shown for name, shown in percentiles.items()}}


def _number(value: int | None) -> str:
    return NO_DATA if value is None else f"{value:,}"


def _percent(ratio: float | None) -> str:
    return NO_DATA if ratio is None else f"{100 * ratio:.1f} %"


def _table(
    title: str,
    columns: dict[str, str],
    rows: Sequence[dict[str, str]] | Iterator[dict[str, str]],
    *,
    note: str | None = None,
) -> None:
    """A table whose first column is text and whose numbers stand under each other."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    cells = [[row[name] for name in columns] for row in rows]
    for number, heading in enumerate(columns.values()):
        is_number = bool(cells) and all(_is_number(row[number]) for row in cells)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        # Text, because what came from a source may look like Rich's markup.
        table.add_row(*(Text(output.printable(cell)) for cell in row))
    console = output.console()
    console.print(Text(f"\n{title}", style="bold"))
    console.print(table if cells else NO_DATA)
    if note:
        console.print(Text(note, style="dim"), soft_wrap=True)


def _is_number(cell: str) -> bool:
    return cell == NO_DATA or cell.removesuffix(" %").replace(",", "").replace(".", "").isdigit()
