"""Ingesting: Allure results become a report and a test run, rows of a CSV file bugs or test cases."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row
from sqlalchemy.orm import Session

from connectors.allure.files import in_folder
from connectors.allure.parts import join, results_folders
from connectors.allure.results import ResultsFolder, open_results
from connectors.base import Connector
from connectors.csv.files import RecordBatch, open_csv
from models.errors import BadRecordError, GoneError, NotAllureResultsError, PlumblineError, UnsafeArchiveError
from models.records import TestReport
from models.store import connections, imports, launches, sync, testing
from models.store.imports import RowError
from tasks.steps import Source, load_source, opened
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

BATCH_SIZE = 1_000
CSV_BATCH_SIZE = 2_000
STREAM = "results"
UNREADABLE = (BadRecordError, GoneError, NotAllureResultsError, UnsafeArchiveError)
"""Why a part of a launch is not read, and not asked for again until it changes."""


@task(
    name="ingest.allure",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(max_attempts=3),
    lock="ingest:{path}",
)
def ingest_allure(
    job: Job,
    *,
    path: str,
    scope_id: int,
    name: str,
    commit: str | None = None,
    branch: str | None = None,
    build: str | None = None,
    ci_url: str | None = None,
    **_later: Any,
) -> None:
    """Load a folder or archive of results that lies on this machine.

    Idempotent: a folder that was loaded is recognised by its contents; a load that was interrupted begins again.
    """
    with job.transaction() as session:
        target = sync.target(session, scope_id)
    with (
        tempfile.TemporaryDirectory(prefix="plumbline-ingest-") as work_folder,
        open_results(Path(path), work_folder=Path(work_folder)) as results,
    ):
        report = results.report(name=name, commit_sha=commit, branch=branch, build_name=build, ci_url=ci_url)
        _load(job, target, results, report, name=name, ci_url=ci_url)
    with job.transaction() as session:
        connections.record_success(session, target.connection_id)


@task(
    name="ingest.launch",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(),
    lock="ingest_launch:{scope_id}:{launch_key}",
    queueing_lock="ingest_launch:{scope_id}:{launch_key}",
)
def ingest_launch(job: Job, *, scope_id: int, launch_key: str, **_later: Any) -> None:
    """Bring the results of a launch here and load them; what was read of an earlier state of it gives way.

    Idempotent: a state that was read is not read again.
    """
    source = load_source(job.database, job.settings, scope_id)
    with job.transaction() as session:
        parts = launches.parts(session, scope_id, launch_key)
    if not any(part.is_due for part in parts):
        return
    with (
        tempfile.TemporaryDirectory(prefix="plumbline-launch-") as work_folder,
        opened(job.database, source) as connector,
    ):
        brought = _bring(job, source, connector, parts, Path(work_folder))
        if brought:
            _load_launch(job, source, launch_key, brought, Path(work_folder))


Brought = list[tuple[Row[Any], list[Path]]]
"""Parts of a launch, each with the folders that hold its results."""


def _bring(job: Job, source: Source, connector: Connector, parts: Sequence[Row[Any]], work_folder: Path) -> Brought:
    """Bring all parts of a launch here; nothing where there is nothing new to load, or not yet.

    A part that was read and can no longer be had makes the new ones wait for ever: without it, loading them would take
    away what is known.
    """
    brought: Brought = []
    # What is new comes first: where none of it can be read, the rest need not be fetched.
    for position, part in enumerate(sorted(parts, key=lambda part: not part.is_due)):
        if not part.is_due and (part.trouble or not brought):
            continue
        try:
            folders = _bring_part(source, connector, part, work_folder / str(position))
        except UNREADABLE as error:
            if isinstance(error, GoneError):
                connector.check_scope(source.scope)  # where the scope is hidden, nothing is known of its launches
            lost = [part] if part.is_due else [each for each, _ in brought if each.is_due]
            with job.transaction() as session:
                _set_aside(session, source, lost, error.message)
            if not part.is_due:
                return []
            continue
        if folders is None:
            return []
        brought.append((part, folders))
    order = {part.id: position for position, part in enumerate(parts)}
    return sorted(brought, key=lambda pair: order[pair[0].id])


def _bring_part(source: Source, connector: Connector, part: Row[Any], work_folder: Path) -> list[Path] | None:
    into, unpacked = work_folder / "brought", work_folder / "unpacked"
    into.mkdir(parents=True)
    unpacked.mkdir()
    assert source.kind.bring_results is not None  # noqa: S101  # only kinds that have it make launches
    path = source.kind.bring_results(connector, source.scope, part.external_id, into)
    if path is None:
        return None
    return results_folders(path, work_folder=unpacked, results_path=part.results_path)


def _set_aside(session: Session, source: Source, parts: Sequence[Row[Any]], reason: str) -> None:
    """Remember why parts of a launch are not read; the source's own counts are kept where it has any."""
    for part in parts:
        if part.summary:
            launches.set_read(session, [part], launches.write_summary(session, source.target, part))
        launches.set_trouble(session, part, reason)
    rejects = [(part.external_id, reason, b"") for part in parts]
    sync.reject(session, source.scope.id, STREAM, rejects)


def _load_launch(job: Job, source: Source, launch_key: str, brought: Brought, work_folder: Path) -> None:
    parts = [part for part, _ in brought]
    joined = work_folder / "joined"
    joined.mkdir()
    folders = [(f"{part.external_id}-{number}", path) for part, paths in brought for number, path in enumerate(paths)]
    results = ResultsFolder(in_folder(join(folders, joined)))
    shown = parts[-1]
    report = results.report(
        name=shown.name,
        commit_sha=shown.commit_sha,
        branch=shown.branch,
        build_name=shown.build_name,
        ci_url=shown.ci_url,
    )
    report_id = _load(job, source.target, results, report, name=shown.name, ci_url=shown.ci_url, launch_key=launch_key)
    with job.transaction() as session:
        launches.set_read(session, parts, report_id)
        sync.resolve_rejects(session, source.scope.id, STREAM, [part.external_id for part in parts])
        connections.record_success(session, source.target.connection_id)


def _load(
    job: Job,
    target: sync.Target,
    results: ResultsFolder,
    report: TestReport,
    *,
    name: str,
    ci_url: str | None,
    launch_key: str | None = None,
) -> int:
    """Write a report in batches and make it a run; returns its id. One that is known already is left as it is."""
    scope_id = target.sync_scope_id
    with job.transaction() as session:
        report_id, is_complete = testing.begin_report(session, target, report)
        job.report(session, report_id=report_id, files=report.files_count)
    if is_complete:
        return report_id
    for batch in results.attempts(BATCH_SIZE):
        with job.transaction() as session:
            written = testing.write_attempts(session, report_id, batch.attempts)
            sync.reject(session, scope_id, STREAM, [_named(name, each) for each in batch.rejects])
            job.report(session, rows_read=len(batch.attempts), rows_written=written)
    with job.transaction() as session:
        replaced_id = launches.replaced_report(session, launch_key, scope_id, report_id) if launch_key else None
        counts = testing.finish_report(
            session,
            target,
            report_id,
            ci_url=ci_url or report.build_url,
            rejected_count=report.rejected_count,
            ingested_at=datetime.now(UTC),
            replaced_id=replaced_id,
        )
        job.report(session, **counts)
        job.enqueue(session, "summarise.all")
    return report_id


def _named(report_name: str, reject: tuple[str, str, bytes]) -> tuple[str, str, bytes]:
    """File names repeat between reports; rejects are told apart by both."""
    file_name, reason, content = reject
    return f"{report_name}/{file_name}", reason, content


@task(
    name="ingest.csv",
    queue=Queue.SYNC,
    soft_limit_seconds=1_800,
    hard_limit_seconds=1_860,
    retry=RetryPolicy(max_attempts=3),
    lock="ingest:{path}",
)
def ingest_csv(job: Job, *, import_id: int, path: str, kind: str, project_id: int, **_later: Any) -> None:
    """Load the bugs or test cases of a CSV file that lies on this machine.

    Idempotent: rows are known by their keys; an import that was interrupted begins again, and its log with it.
    """
    with job.transaction() as session:
        imports.restart(session, import_id)
        target = imports.target(session, project_id)
    try:
        with open_csv(Path(path), kind) as file:
            for batch in file.batches(CSV_BATCH_SIZE, ZoneInfo(target.timezone)):
                with job.transaction() as session:
                    _load_rows(job, session, import_id, target, batch, columns=file.given)
    except PlumblineError as error:
        with job.transaction() as session:
            imports.end(session, import_id, "failed", error=error.message)
        raise
    with job.transaction() as session:
        imports.end(session, import_id, "completed")
        job.enqueue(session, "summarise.all")


def _load_rows(
    job: Job,
    session: Session,
    import_id: int,
    target: imports.ImportTarget,
    batch: RecordBatch,
    *,
    columns: frozenset[str],
) -> None:
    written, refused = imports.write(session, target, batch.records, columns=columns)
    errors = [RowError(each.line, ", ".join(each.columns), each.error) for each in batch.bad_rows] + refused
    imported_count = len(batch.records) - len(refused)
    imports.advance(session, import_id, imported_count=imported_count, errors=sorted(errors))
    job.report(
        session,
        rows_read=imported_count + len(errors),
        rows_written=written.total,
        done_ratio=batch.done_ratio,
    )
