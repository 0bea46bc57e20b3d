"""Workflow runs and their jobs: requests and meaning.

Runs can be asked for by the time of their creation only, at most a thousand at a time; what changes later is a run that
is not done, or that is run again within thirty days. So they are listed by days, weeks and months, at addresses that
stay the same: a week in which nothing changed is told by its ETag. Once an hour the weeks are looked through in which a
run may still change, and in between the last two days. Of a run that was updated in the window, all attempts of its
jobs are read.

GitHub does not say when a run ended: the end of its last job says it, and never the update time, which moves later too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Any

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import Time, decoded
from connectors.github.api import PAGE_ROWS_COUNT, Api, Failure, Repository, iso, rows_of
from connectors.github.shapes import People, User
from connectors.github.shapes import Repository as Shown
from connectors.http import fetch_ahead
from models.errors import BadRecordError, ForbiddenResourceError, GoneError
from models.records import Account, Batch, Pipeline, PipelineJob

AHEAD_COUNT = 8
"""How many runs are fetched before the consumer asks for them."""
FOUND_COUNT = 1_000
"""The most that GitHub finds for one span."""
CHANGEABLE = timedelta(days=36)
"""A run may be run again for thirty days, and last for up to thirty-five."""
RECENT = timedelta(days=1)

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


class _Row(msgspec.Struct, frozen=True, gc=False):
    id: int
    created_at: Time
    updated_at: Time


class _Found(msgspec.Struct, gc=False):
    workflow_runs: list[msgspec.Raw]
    total_count: int = 0


class _FoundJobs(msgspec.Struct, gc=False):
    jobs: list[msgspec.Raw]


class _Job(msgspec.Struct, gc=False):
    id: int
    run_id: int
    name: str
    status: str
    conclusion: str | None = None
    run_attempt: int | None = None
    workflow_name: str | None = None
    head_branch: str | None = None
    html_url: str | None = None
    created_at: Time | None = None
    started_at: Time | None = None
    completed_at: Time | None = None


class _Run(msgspec.Struct, gc=False):
    id: int
    created_at: Time
    updated_at: Time
    status: str | None = None
    conclusion: str | None = None
    run_number: int | None = None
    run_attempt: int | None = None
    run_started_at: Time | None = None
    event: str | None = None
    head_branch: str | None = None
    head_sha: str | None = None
    html_url: str | None = None
    actor: User | None = None
    triggering_actor: User | None = None


class _RunPayload(msgspec.Struct, gc=False):
    repository: Shown
    run: _Run
    jobs: list[_Job] | None = None


class _JobPayload(msgspec.Struct, gc=False):
    repository: Shown
    job: _Job


class _Id(msgspec.Struct, gc=False):
    id: int


_ROW = msgspec.json.Decoder(_Row)
_FOUND = msgspec.json.Decoder(_Found)
_FOUND_JOBS = msgspec.json.Decoder(_FoundJobs)
_ID = msgspec.json.Decoder(_Id)
_RUN = msgspec.json.Decoder(_RunPayload)
_JOB = msgspec.json.Decoder(_JobPayload)


class WorkflowRuns:
    """Reads the runs of one repository, or their jobs; their ids are GitHub's.

    Args:
        api: the instance.
        pool: fetches the jobs of several runs at once.
        repository: whose runs.
        named: what payloads say of the repository.
        are_jobs: whether their jobs are wanted.
    """

    def __init__(
        self, api: Api, pool: Executor, repository: Repository, named: Mapping[str, Any], *, are_jobs: bool
    ) -> None:
        self._api = api
        self._pool = pool
        self._path = f"{repository.path}/actions"
        self._named = named
        self._are_jobs = are_jobs

    def oldest(self) -> datetime | None:
        """None: a first sync reads them in one window, which goes on at the day where it was stopped."""
        return None

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """Those that were updated in a span, day of creation by day."""
        first = since or self._oldest()
        if first is None:
            return
        is_hour_over = since is None or _hour_of(since) != _hour_of(until)
        start = _day_of(first - (CHANGEABLE if since and is_hour_over else RECENT))
        if _monday_of(start) < _monday_of(until):
            start = _monday_of(start)  # where the address of its week begins
        if resume_token:
            start = max(start, datetime.fromisoformat(resume_token))
        failures: list[Failure] = []
        for reached, rows in self._runs(start, until, failures):
            # What the last hour's polls have left out in the older days is older than this window.
            is_recent = since is None or reached > _day_of(since - RECENT)
            least = None if since is None else (since if is_recent else _hour_of(since)).replace(microsecond=0)
            calls: Iterator[Callable[[], tuple[Item, ...]]] = (
                partial(self._items, row.id, raw)
                for row, raw in rows
                if (least is None or row.updated_at >= least) and row.updated_at <= until
            )
            items = tuple(item for found in fetch_ahead(self._pool, calls, AHEAD_COUNT) for item in found)
            if items or failures:
                ratio = min(1.0, max(0.0, (reached - start) / (until - start))) if until > start else None
                yield Page(
                    items=items, failures=tuple(failures), resume_token=reached.isoformat(), progress_ratio=ratio
                )
                failures.clear()

    def listing(self) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        until = self._api.server_now()
        for _, rows in self._runs(_day_of(self._oldest() or until), until, []):
            numbers = [row.id for row, _ in rows]
            if self._are_jobs:
                numbers = [row.id for number in numbers for row, _ in rows_of(self._jobs(number) or [], _ID)]
            if numbers:
                yield tuple(map(str, numbers))

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """Some of them."""

        def one(external_id: str) -> tuple[Item, ...]:
            kind = "jobs" if self._are_jobs else "runs"
            try:
                raw = self._api.raw(f"{self._path}/{kind}/{external_id}")
            except GoneError:
                return ()
            return (self._job_item(external_id, raw),) if self._are_jobs else self._items(int(external_id), raw)

        calls = (partial(one, external_id) for external_id in external_ids if external_id.isdigit())
        return Page(items=tuple(item for found in fetch_ahead(self._pool, calls, AHEAD_COUNT) for item in found))

    def _oldest(self) -> datetime | None:
        """When the oldest run was created: the last of the listing, which goes from the newest on."""
        path = f"{self._path}/runs"
        try:
            found, _, _ = self._api.get(self._api.address(path, per_page=1), _FOUND)
            last = -(-found.total_count // PAGE_ROWS_COUNT)
            found, _, _ = self._api.get(self._api.address(path, per_page=PAGE_ROWS_COUNT, page=max(1, last)), _FOUND)
        except (ForbiddenResourceError, GoneError):
            self._api.repository(str(self._named["key"]), is_asked_again=True)
            return None  # Actions are off, or the token may not see them
        return min((row.created_at for row, _ in rows_of(found.workflow_runs, _ROW)), default=None)

    def _runs(
        self, start: datetime, until: datetime, failures: list[Failure]
    ) -> Iterator[tuple[datetime, list[tuple[_Row, msgspec.Raw]]]]:
        """The runs that were created in a span, the oldest days first, and until when all of them have come."""
        settled = _day_of(until - CHANGEABLE)
        while start <= until:
            month_ends = _day_of((start.replace(day=1) + 32 * _DAY).replace(day=1))
            week_ends = _monday_of(start) + 7 * _DAY
            # Of what cannot change any more whole months, then weeks, then days: each has one address for ever.
            end = week_ends if week_ends <= _day_of(until) else _day_of(start + _DAY)
            end = month_ends if month_ends <= settled else end
            yield from self._found(start, end, failures)
            start = end

    def _found(
        self, start: datetime, end: datetime, failures: list[Failure]
    ) -> Iterator[tuple[datetime, list[tuple[_Row, msgspec.Raw]]]]:
        """As `_runs`; a span in which GitHub does not find everything is cut in two."""
        span = f"{iso(start)}..{iso(end - _SECOND)}"
        url: str | None = self._api.address(f"{self._path}/runs", created=span, per_page=PAGE_ROWS_COUNT)
        rows: dict[int, tuple[_Row, msgspec.Raw]] = {}
        while url:
            try:
                found, _, headers = self._api.get(url, _FOUND)
            except (ForbiddenResourceError, GoneError):
                self._api.repository(str(self._named["key"]), is_asked_again=True)
                return  # Actions are off, or the token may not see them
            if found.total_count > FOUND_COUNT and end - start > _SECOND:
                middle = (start + (end - start) / 2).replace(microsecond=0)
                yield from self._found(start, middle, failures)
                yield from self._found(middle, end, failures)
                return
            for row, raw in rows_of(found.workflow_runs, _ROW, failures):
                rows.setdefault(row.id, (row, raw))
            url = self._api.next_url(headers)
        yield end, list(rows.values())

    def _items(self, run_id: int, raw: msgspec.Raw) -> tuple[Item, ...]:
        jobs = self._jobs(run_id)
        if self._are_jobs:
            return tuple(self._job_item(str(row.id), job) for row, job in rows_of(jobs or [], _ID))
        payload = {"repository": self._named, "run": raw, "jobs": jobs}
        return (Item(str(run_id), msgspec.json.encode(payload)),)

    def _job_item(self, external_id: str, raw: msgspec.Raw) -> Item:
        return Item(external_id, msgspec.json.encode({"repository": self._named, "job": raw}))

    def _jobs(self, run_id: int) -> list[msgspec.Raw] | None:
        """All attempts of the jobs of a run; None where the run is gone."""
        jobs: list[msgspec.Raw] = []
        url: str | None = self._api.address(f"{self._path}/runs/{run_id}/jobs", filter="all", per_page=PAGE_ROWS_COUNT)
        while url:
            try:
                found, _, headers = self._api.get(url, _FOUND_JOBS)
            except (ForbiddenResourceError, GoneError):
                return None
            jobs += found.jobs
            url = self._api.next_url(headers)
        return jobs


def _day_of(at: datetime) -> datetime:
    return datetime.combine(at.astimezone(UTC).date(), time(), UTC)


def _monday_of(at: datetime) -> datetime:
    return _day_of(at) - at.astimezone(UTC).weekday() * _DAY


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


# --- meaning ----------------------------------------------------------------------------------------------------------

_STATUSES = {
    "queued": "pending",
    "requested": "created",
    "pending": "pending",
    "waiting": "waiting_for_resource",
    "in_progress": "running",
}
_CONCLUSIONS = {
    "success": "success",
    "neutral": "success",
    "failure": "failed",
    "timed_out": "failed",
    "startup_failure": "failed",
    "cancelled": "canceled",
    "skipped": "skipped",
    "stale": "skipped",
    "action_required": "manual",
}


def _status(field: str, status: str | None, conclusion: str | None) -> str:
    meant = _CONCLUSIONS.get(conclusion or "") if status == "completed" else _STATUSES.get(status or "")
    if meant is None:
        raise BadRecordError(f"{field}: {status!r} with {conclusion!r} is unknown", field=field)
    return meant


def _span_seconds(start: datetime | None, end: datetime | None) -> float | None:
    """None where an end is missing, or comes first, as it does for jobs that never ran."""
    return (end - start).total_seconds() if start and end and end >= start else None


def parse_run(payload: bytes, context: ParseContext) -> Batch:
    """One run to a pipeline; see `parse`."""
    source = decoded(payload, _RUN)
    shown = source.run
    people = People(context.options)
    account: Account | None = people.account(shown.triggering_actor) or people.account(shown.actor)
    last_attempt = [job for job in source.jobs or () if job.run_attempt in (None, shown.run_attempt)]
    started_at = shown.run_started_at or shown.created_at
    is_done = shown.status == "completed"
    ended = [job.completed_at for job in last_attempt if job.completed_at and job.conclusion != "skipped"]
    finished_at = max(ended, default=None) if is_done else None
    begun = [job.started_at for job in last_attempt if job.started_at and job.conclusion != "skipped"]
    record = Pipeline(
        external_id=str(shown.id),
        external_project_id=str(source.repository.id),
        iid=shown.run_number,
        status=_status("run.status", shown.status, shown.conclusion),
        source=shown.event,
        ref=shown.head_branch,
        sha=shown.head_sha,
        web_url=shown.html_url,
        started_by=account,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        started_at=started_at,
        finished_at=finished_at,
        duration_seconds=_span_seconds(started_at, finished_at),
        queued_seconds=_span_seconds(started_at, min(begun, default=None)),
        coverage=None,
    )
    return Batch(pipelines=(record,), accounts=people.all())


def parse_job(payload: bytes, context: ParseContext) -> Batch:
    """One attempt of a job; see `parse`."""
    del context
    source = decoded(payload, _JOB)
    shown = source.job
    created_at = shown.created_at or shown.started_at
    if created_at is None:
        raise BadRecordError("job.created_at: missing", field="job.created_at")
    is_done, is_run = shown.status == "completed", shown.conclusion != "skipped"
    finished_at = shown.completed_at if is_done and is_run else None
    started_at = shown.started_at if is_run and shown.status in ("in_progress", "completed") else None
    record = PipelineJob(
        external_id=str(shown.id),
        external_project_id=str(source.repository.id),
        external_pipeline_id=str(shown.run_id),
        name=shown.name,
        stage=shown.workflow_name,
        status=_status("job.status", shown.status, shown.conclusion),
        failure_reason=shown.conclusion if shown.conclusion in ("timed_out", "startup_failure") else None,
        is_allowed_to_fail=False,
        ref=shown.head_branch,
        web_url=shown.html_url,
        started_by=None,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        duration_seconds=_span_seconds(started_at, finished_at),
        queued_seconds=_span_seconds(created_at, started_at),
    )
    return Batch(jobs=(record,))
