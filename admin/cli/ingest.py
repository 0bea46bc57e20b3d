"""`plumbline ingest`: take in files that people and CI jobs hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from admin.cli import output
from admin.cli.work import ask_and_end
from models.errors import UsageError

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Take in files: test results.")
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
