"""`plumbline ingest`: take in files that people and CI jobs hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from admin.cli import output
from admin.cli.work import ask, ask_and_end, counted, end, tell_failures, wait_for
from models.errors import UsageError

BAD_ROWS_SHOWN = 20

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Take in files: test results, bugs, test cases.")
app.add_typer(group, name="ingest")


@group.command("allure")
def allure(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of Allure results, or a zip, tar or tar.gz.")],
    project: Annotated[str, typer.Option("--project", metavar="TITLE", help="Our project; made when missing.")],
    commit: Annotated[str | None, typer.Option("--commit", metavar="SHA", help="What was tested.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", metavar="B", help="What was tested.")] = None,
    build: Annotated[str | None, typer.Option("--build", metavar="NAME", help="Name of the build.")] = None,
    ci_url: Annotated[str | None, typer.Option("--ci-url", metavar="URL", help="Where the build can be seen.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job until it is done.")] = True,
    as_json: output.JsonOption = False,
) -> None:
    """Take in the Allure results of one launch of a suite.

    The same results twice are one report. The workers read the path, so it must lie on their machine.

    Example:
        plumbline ingest allure allure-results --project "Web shop" --commit $CI_COMMIT_SHA --branch main
        plumbline ingest allure results.zip --project "Web shop" --no-wait
    """
    from admin.cli.process import ready, start
    from connectors.allure.results import open_results
    from models.store import connections
    from workers import secrets
    from workers.settings import prepare_home

    title = project.strip()
    if not title:
        raise UsageError("The project's title is empty.")
    path = path.resolve()
    home = start().settings.home
    prepare_home(home)
    # Before any server is asked: what is no report is told at once, and leaves nothing behind.
    with open_results(path, work_folder=home):
        pass
    process = ready()
    with process.database.transaction() as session:
        scope_id = connections.ensure_upload_scope(
            session,
            connections.default_tenant(session),
            project=title,
            timezone=process.settings.reporting_timezone,
            auth=secrets.encrypt(process.settings, {}),
        )
    ask_and_end(
        process,
        "ingest.allure",
        wait=wait,
        as_json=as_json,
        path=str(path),
        scope_id=scope_id,
        name=build or path.name,
        commit=commit,
        branch=branch,
        build=build,
        ci_url=ci_url,
    )


@group.command("csv")
def csv(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Comma-, semicolon- or tab-separated, in UTF-8.")],
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="What its rows are: bugs or test-cases.")],
    project: Annotated[str, typer.Option("--project", metavar="TITLE", help="Our project; made when missing.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job until it is done.")] = True,
    as_json: output.JsonOption = False,
) -> None:
    """Take in the bugs or test cases of a CSV file; its first line names the columns, in any order.

    Rows that are wrong are left out, and listed with their lines; exit 1 where there are any. The same file twice
    changes nothing. The workers read the file, so it must lie on their machine.

    Example:
        plumbline ingest csv bugs.csv --kind bugs --project "Web shop"
        plumbline ingest csv cases.csv --kind test-cases --project "Web shop" --json
    """
    from admin.cli.process import ready
    from connectors.csv.files import open_csv
    from models.store import connections, imports

    title = project.strip()
    if not title:
        raise UsageError("The project's title is empty.")
    path = path.resolve()
    # Before any server is asked: a wrong file is told at once, and leaves nothing behind.
    with open_csv(path, kind) as file:
        ignored = file.ignored
    process = ready()
    with process.database.transaction() as session:
        tenant_id = connections.default_tenant(session)
        timezone = process.settings.reporting_timezone
        project_id = connections.ensure_project(session, tenant_id, title, timezone=timezone)
        import_id = imports.begin(session, tenant_id, source="csv", file_name=path.name)
    if ignored:
        output.note(f"Ignored columns: {', '.join(ignored)}.")
    job_id = ask(process, "ingest.csv", import_id=import_id, path=str(path), kind=kind, project_id=project_id)
    if not wait:
        end(process, [job_id], wait=False, as_json=as_json)
        return
    family = wait_for(process, [job_id])
    with process.database.transaction() as session:
        log = imports.get(session, import_id)
    _print_import(log, ignored, as_json=as_json)
    if family.failed:
        tell_failures(family)
    if family.failed or log.rows_failed:
        raise typer.Exit(1)


def _print_import(log: Any, ignored: list[str], *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "import_id": log.id,
                "file_name": log.file_name,
                "status": log.status,
                "rows_total": log.rows_total,
                "rows_imported": log.rows_imported,
                "rows_failed": log.rows_failed,
                "ignored_columns": ignored,
                "errors": log.errors,
            }
        )
        return
    output.say(
        f"{log.file_name}: {counted(log.rows_total, 'row')} read, {log.rows_imported:,} taken in, "
        f"{log.rows_failed:,} left out; import {log.id} of import_logs."
    )
    if log.errors:
        output.print_rows(
            log.errors[:BAD_ROWS_SHOWN],
            columns={"row": "line", "column": "column", "error": "what is wrong"},
            as_json=False,
            title="Left out" if log.rows_failed <= BAD_ROWS_SHOWN else f"Left out, the first {BAD_ROWS_SHOWN}",
        )
