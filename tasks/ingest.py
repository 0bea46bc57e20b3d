"""Ingesting files: a folder or archive of Allure results becomes a report and a test run."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.allure.results import open_results
from models.store import connections, sync, testing
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import Job, task

BATCH_SIZE = 1_000
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
