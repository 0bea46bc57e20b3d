"""`plumbline summaries` and `read-models`: rebuild them from nothing, or show that this would change nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from admin.cli import arguments, output
from admin.cli.work import WaitOption, ask, counted, end
from models.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from models.store.summaries import Difference

app = typer.Typer()
summaries_group = typer.Typer(no_args_is_help=True, help="Numbers by key and day, kept up to date by changes.")
read_models_group = typer.Typer(no_args_is_help=True, help="Wide tables for reading, kept up to date by changes.")
app.add_typer(summaries_group, name="summaries")
app.add_typer(read_models_group, name="read-models")

READ_MODEL_ENDING = "_view"
SHOWN_DIFFERENCES = 20
MOST_DIFFERENCES = 100_000
"""So many are looked through where only those of some days are wanted."""

NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them; all where not given.")]
ProjectOption = Annotated[str | None, typer.Option("--project", metavar="P", help="Only this project's.")]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Compare the stored rows with ones computed from nothing; change neither.")
]


@summaries_group.command("list")
def list_summaries(as_json: output.JsonOption = False) -> None:
    """List the summaries and read models: the version of each definition, and whether changes wait for it.

    Example:
        plumbline summaries list
    """
    from admin.cli.process import ready
    from models.store import summaries

    process = ready()
    with process.database.transaction() as session:
        dirty = summaries.dirty_summaries(session, as_of=datetime.now(UTC))
    rows = [
        {
            "name": name,
            "kind": "read model" if _is_read_model(name) else "summary",
            "definition_version": summary.definition_version,
            "key": list(summary.key),
            "is_dirty": name in dirty,
        }
        for name, summary in summaries.SUMMARIES.items()
    ]
    columns = {"name": "name", "kind": "kind", "definition_version": "version", "is_dirty": "changes wait"}
    output.print_rows(rows, columns=columns, as_json=as_json)


@summaries_group.command("rebuild")
def rebuild_summaries(
    name: NameArgument = None,
    project: ProjectOption = None,
    first: Annotated[str | None, typer.Option("--from", metavar="D", help="Compare from this day on.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="D", help="Compare up to this day.")] = None,
    check: CheckOption = False,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Compute summaries from nothing, while readers go on seeing the old rows; only what differs is written.

    Days limit what `--check` compares. A rebuild always computes all days, because later ones build on earlier ones.

    Example:
        plumbline summaries rebuild --wait
        plumbline summaries rebuild bug_analytics_daily --project "Web shop" --check
    """
    days = tuple(
        None if day is None else arguments.read_date(day, option) for day, option in ((first, "--from"), (last, "--to"))
    )
    _rebuild(name, project, (days[0], days[1]), is_read_model=False, check=check, wait=wait, as_json=as_json)


@read_models_group.command("rebuild")
def rebuild_read_models(
    name: NameArgument = None,
    project: ProjectOption = None,
    check: CheckOption = False,
    wait: WaitOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Compute read models from nothing, while readers go on seeing the old rows; only what differs is written.

    Example:
        plumbline read-models rebuild test_runs_view --check
    """
    _rebuild(name, project, (None, None), is_read_model=True, check=check, wait=wait, as_json=as_json)


def _rebuild(
    name: str | None,
    project: str | None,
    days: tuple[date | None, date | None],
    *,
    is_read_model: bool,
    check: bool,
    wait: bool,
    as_json: bool,
) -> None:
    from admin.cli.process import ready
    from models.store import connections

    names = _names(name, is_read_model=is_read_model)
    process = ready()
    project_id = None
    if project is not None:
        with process.database.transaction() as session:
            project_id = connections.project_id(session, project)
    if check:
        _check(process, names, project_id, days, as_json=as_json)
        return
    if days != (None, None):
        output.note("All days are computed; --from and --to limit only what --check compares.")
    job_ids = [ask(process, "rebuild.one", summary=each, project_id=project_id) for each in names]
    end(process, job_ids, wait=wait, as_json=as_json)


def _names(name: str | None, *, is_read_model: bool) -> list[str]:
    from models.store.summaries import SUMMARIES

    names = [each for each in SUMMARIES if _is_read_model(each) == is_read_model]
    if name is None:
        return names
    if name not in names:
        kind = "read model" if is_read_model else "summary"
        raise NotFoundError(f"There is no {kind} {name!r}; there are: {', '.join(names)}.")
    return [name]


def _check(
    process: Any,
    names: list[str],
    project_id: int | None,
    days: tuple[date | None, date | None],
    *,
    as_json: bool,
) -> None:
    from models.store import summaries

    now = datetime.now(UTC)
    if days[0] and days[1] and days[0] > days[1]:
        raise UsageError("--from lies after --to.")
    is_limited = days != (None, None)
    total = 0
    checked = []
    rows = []
    for name in names:
        with process.database.transaction() as session:
            count, found = summaries.differences(
                session,
                name,
                as_of=now,
                project_id=project_id,
                limit=MOST_DIFFERENCES if is_limited else SHOWN_DIFFERENCES,
            )
            is_dirty = name in summaries.dirty_summaries(session, as_of=now)
        if is_limited:
            found = [each for each in found if _is_within(each, days)]
            count = len(found)
        total += count
        checked.append({"name": name, "differences": count, "is_dirty": is_dirty})
        rows += [row for each in found[:SHOWN_DIFFERENCES] for row in _differing_columns(name, each)]
    if as_json:
        output.print_json({"differences": total, "checked": checked, "rows": rows})
    elif total:
        columns = {"name": "name", "key": "key", "column": "column", "stored": "stored", "computed": "computed"}
        output.print_rows(rows, columns=columns, as_json=False)
    for each in checked:
        if each["differences"] and each["is_dirty"]:
            output.note(f"Changes wait for {each['name']}; what they would change shows as differences, too.")
    if not as_json:
        what = ", ".join(names)
        output.say(f"{counted(total, 'row')} of {what} differ." if total else f"Nothing differs in {what}.")
    if total:
        raise typer.Exit(1)


def _is_read_model(name: str) -> bool:
    return name.endswith(READ_MODEL_ENDING)


def _is_within(difference: Difference, days: tuple[date | None, date | None]) -> bool:
    """Whether a row is of one of the days; a row of a month is of its days, and one without a date of all days."""
    identity = difference.identity
    first, last = days
    if "date" in identity:
        day = identity["date"]
    elif "year" in identity and "month" in identity:
        day = date(identity["year"], identity["month"], 1)
        first = first and first.replace(day=1)
    else:
        return True
    return (first is None or day >= first) and (last is None or day <= last)


def _differing_columns(name: str, difference: Difference) -> list[dict[str, Any]]:
    key = " ".join(output.readable(value) for value in difference.identity.values())
    stored, computed = difference.stored, difference.computed
    if stored is None or computed is None:
        said = ("no row", "a row") if stored is None else ("a row", "no row")
        return [{"name": name, "key": key, "column": "*", "stored": said[0], "computed": said[1]}]
    return [
        {"name": name, "key": key, "column": column, "stored": stored[column], "computed": computed[column]}
        for column in stored
    ]
