"""Pipelines and their jobs: from records into tables.

All functions take the session first and never commit. Older copies never overwrite newer ones, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Session

from models.records import Pipeline, PipelineJob
from models.store.copy import Written, upsert
from models.store.sync import Target
from models.tables import METADATA

PIPELINES: Table = METADATA.tables["gitlab_pipelines"]
JOBS: Table = METADATA.tables["gitlab_jobs"]

KEY = ("tenant_id", "connection_id", "external_project_id", "external_id")
# fmt: off
PIPELINE_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "external_project_id", "external_id",
    "iid", "status", "source", "ref", "sha", "web_url", "started_by", "started_by_id", "pipeline_created_at",
    "started_at", "finished_at", "duration_seconds", "queued_seconds", "coverage", "source_updated_at", "synced_at",
    "deleted_at",
)
JOB_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "external_project_id", "external_id",
    "external_pipeline_id", "name", "stage", "status", "failure_reason", "is_allowed_to_fail", "ref", "web_url",
    "started_by", "started_by_id", "job_created_at", "started_at", "finished_at", "duration_seconds",
    "queued_seconds", "source_updated_at", "synced_at", "deleted_at",
)
# fmt: on


def pipeline_rows(target: Target, pipelines: Sequence[Pipeline], fetched_at: datetime) -> Iterator[Sequence[Any]]:
    """One row a pipeline, in the order of `PIPELINE_COLUMNS`."""
    for each in pipelines:
        who = each.started_by
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, target.project_id, target.repository_id,
            each.external_project_id, each.external_id, each.iid, each.status, each.source, each.ref, each.sha,
            each.web_url, who.username if who else None, target.account_key(who.external_id if who else None),
            each.created_at, each.started_at, each.finished_at, each.duration_seconds, each.queued_seconds,
            each.coverage, each.updated_at, fetched_at, None,
        )  # fmt: skip


def write_pipelines(
    session: Session, target: Target, pipelines: Sequence[Pipeline], *, fetched_at: datetime
) -> Written:
    """Write pipelines.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        pipelines: any number.
        fetched_at: when; of two copies with one update time the later fetched wins.
    """
    if not pipelines:
        return Written()
    rows = pipeline_rows(target, pipelines, fetched_at)
    return upsert(session, PIPELINES, PIPELINE_COLUMNS, rows, KEY, newer=("source_updated_at", "synced_at"))


def job_rows(target: Target, jobs: Sequence[PipelineJob], fetched_at: datetime) -> Iterator[Sequence[Any]]:
    """One row an attempt of a job, in the order of `JOB_COLUMNS`."""
    for each in jobs:
        who = each.started_by
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, target.project_id, each.external_project_id,
            each.external_id, each.external_pipeline_id, each.name, each.stage, each.status, each.failure_reason,
            each.is_allowed_to_fail, each.ref, each.web_url, who.username if who else None,
            target.account_key(who.external_id if who else None), each.created_at, each.started_at, each.finished_at,
            each.duration_seconds, each.queued_seconds, each.updated_at, fetched_at, None,
        )  # fmt: skip


def write_jobs(session: Session, target: Target, jobs: Sequence[PipelineJob], *, fetched_at: datetime) -> Written:
    """Write jobs, every attempt of them; their pipelines need not be stored, and may come later.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        jobs: any number.
        fetched_at: when; of two copies with the same times the later fetched wins.
    """
    if not jobs:
        return Written()
    rows = job_rows(target, jobs, fetched_at)
    return upsert(session, JOBS, JOB_COLUMNS, rows, KEY, newer=("source_updated_at", "synced_at"))
