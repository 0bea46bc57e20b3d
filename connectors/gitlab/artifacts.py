"""Allure results in the artifacts of jobs: which jobs have some, and downloading them.

A scope's option `allure_artifacts` is the path of the results in the archive, a shell pattern; `allure_jobs`, a
pattern of names of jobs, leaves the others' archives where they are. All jobs of a pipeline make one launch.
"""

from __future__ import annotations

import fnmatch
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from connectors.base import ParseContext, ScopeSpec
from connectors.decoding import Time
from models.records import TestLaunch

LARGEST_ARCHIVE_BYTES = 2 * 1024**3
ENDED = frozenset({"success", "failed", "canceled"})


class Artifact(msgspec.Struct, gc=False):
    """One of a job's files."""

    file_type: str | None = None
    size: int | None = None


class PipelineShown(msgspec.Struct, gc=False):
    """What a job says of its pipeline."""

    id: int
    sha: str | None = None
    web_url: str | None = None


class JobShown(msgspec.Struct, gc=False):
    """What a job says of its artifacts."""

    id: int
    name: str
    status: str
    pipeline: PipelineShown
    ref: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    artifacts: list[Artifact] | None = None


JOB = msgspec.json.Decoder(JobShown)


def is_wanted(context: ParseContext) -> bool:
    """Whether results are looked for in artifacts."""
    return bool(context.options.get("allure_artifacts"))


def launches_of(shown: JobShown, context: ParseContext) -> tuple[TestLaunch, ...]:
    """The part of a launch that a job has made, where it has an archive."""
    archive = next((each for each in shown.artifacts or () if each.file_type == "archive"), None)
    ended_at: datetime | None = shown.finished_at
    if archive is None or shown.status not in ENDED or ended_at is None:
        return ()
    if not fnmatch.fnmatchcase(shown.name, str(context.options.get("allure_jobs") or "*")):
        return ()
    part = TestLaunch(
        external_id=str(shown.id),
        launch_key=str(shown.pipeline.id),
        name=f"{shown.ref or 'pipeline'} #{shown.pipeline.id}",
        fingerprint=f"archive {archive.size}",
        commit_sha=shown.pipeline.sha,
        branch=shown.ref,
        build_name=str(shown.pipeline.id),
        ci_url=shown.pipeline.web_url,
        results_path=str(context.options["allure_artifacts"]),
        started_at=shown.started_at,
        updated_at=ended_at,
    )
    return (part,)


def bring_results(connector: Any, scope: ScopeSpec, external_id: str, into: Path) -> Path:
    """See `connectors.base.BringResults`."""
    archive = into / f"job-{external_id}.zip"
    connector.download(scope, f"/jobs/{int(external_id)}/artifacts", archive, largest_bytes=LARGEST_ARCHIVE_BYTES)
    return archive
