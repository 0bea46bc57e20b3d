"""Ingesting files: Allure results become a report and a test run, rows of a CSV file bugs or test cases."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from connectors.allure.results import open_results
from connectors.csv.files import RecordBatch, open_csv
from models.errors import PlumblineError
from models.store import connections, imports, sync, testing
from models.store.imports import RowError
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

BATCH_SIZE = 1_000
CSV_BATCH_SIZE = 2_000
STREAM = "results"


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
        with job.transaction() as session:
            report_id, is_complete = testing.begin_report(session, target, report)
            job.report(session, report_id=report_id, files=report.files_count)
        if is_complete:
            return
        for batch in results.attempts(BATCH_SIZE):
            with job.transaction() as session:
                written = testing.write_attempts(session, report_id, batch.attempts)
                sync.reject(session, scope_id, STREAM, [_named(name, each) for each in batch.rejects])
                job.report(session, rows_read=len(batch.attempts), rows_written=written)
        with job.transaction() as session:
            counts = testing.finish_report(
                session,
                target,
                report_id,
                ci_url=ci_url or report.build_url,
                rejected_count=report.rejected_count,
                ingested_at=datetime.now(UTC),
            )
            job.report(session, **counts)
            connections.record_success(session, target.connection_id)
            job.enqueue(session, "summarise.all")


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
