"""Pipelines and their jobs: requests and meaning.

Pipelines are listed by update time. A row of the listing lacks how long it took, which only a request for the single
pipeline tells; that is made once, for pipelines that have ended.

Jobs have no update time. All of them are listed by id, a hundred a request, which is how a first sync reads them; later
the jobs of those pipelines are read that have changed, which every change of a job shows in the end. Both listings hold
the attempts that were retried. A project with CI/CD switched off answers 403 to both.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import Time, decoded
from connectors.gitlab import artifacts
from connectors.gitlab.api import LIST, PAGE_ROWS_COUNT, Api, Failures, decoded_rows, next_link
from connectors.gitlab.people import People, User
from connectors.gitlab.updates import AHEAD_COUNT, NumberedListing, Row, by_update, oldest_update, one_by_one, pages_of
from connectors.http import fetch_ahead
from models.errors import BadRecordError, GoneError
from models.records import Account, Batch, Pipeline, PipelineJob

FINISHED = frozenset({"success", "failed", "canceled", "skipped"})

_KEYSET = {"pagination": "keyset", "order_by": "id", "sort": "desc", "per_page": PAGE_ROWS_COUNT}


class _Status(msgspec.Struct, gc=False):
    id: int
    status: str


class _Pipeline(msgspec.Struct, gc=False):
    id: int
    project_id: int
    status: str
    created_at: Time
    updated_at: Time
    iid: int | None = None
    source: str | None = None
    ref: str | None = None
    sha: str | None = None
    web_url: str | None = None
    user: User | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    duration: float | None = None
    queued_duration: float | None = None
    coverage: str | float | None = None


class _PipelineOfJob(msgspec.Struct, gc=False):
    id: int
    project_id: int


class _Job(msgspec.Struct, gc=False):
    id: int
    name: str
    status: str
    created_at: Time
    pipeline: _PipelineOfJob
    stage: str | None = None
    failure_reason: str | None = None
    allow_failure: bool | None = None
    ref: str | None = None
    web_url: str | None = None
    user: User | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    duration: float | None = None
    queued_duration: float | None = None


_STATUS = msgspec.json.Decoder(_Status)
_PIPELINE = msgspec.json.Decoder(_Pipeline)
_JOB = msgspec.json.Decoder(_Job)


class Pipelines:
    """Reads pipelines; their ids are GitLab's.

    Args:
        api: the instance.
        pool: fetches details.
    """

    def __init__(self, api: Api, pool: Executor) -> None:
        self._api = api
        self._pool = pool

    def oldest_update(self, project_id: int) -> datetime | None:
        """The earliest update time."""
        return oldest_update(_listing(self._api, project_id))

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """Those that were updated in a span."""
        steps = by_update(_listing(self._api, project_id), since, until, resume_token)
        return pages_of(self._pool, steps, one_by_one(partial(self._completed, project_id)), since, until)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        return listed_ids(self._api, f"/projects/{project_id}/pipelines")

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Some of them, one request each."""
        return fetched(self._api, self._pool, f"/projects/{project_id}/pipelines", external_ids)

    def _completed(self, project_id: int, row: Row, raw: msgspec.Raw) -> tuple[Item, ...]:
        name = str(row.id)
        if decoded(bytes(raw), _STATUS).status not in FINISHED:
            return (Item(name, bytes(raw)),)
        try:
            return (Item(name, bytes(self._api.raw(f"/projects/{project_id}/pipelines/{name}"))),)
        except GoneError:
            self._api.project(str(project_id))  # a pipeline that was deleted since is left out, a hidden project is not
            return ()


class Jobs:
    """Reads jobs; their ids are GitLab's.

    Args:
        api: the instance.
        pool: fetches the jobs of several pipelines at once.
    """

    def __init__(self, api: Api, pool: Executor) -> None:
        self._api = api
        self._pool = pool

    def oldest_update(self, project_id: int) -> datetime | None:
        """None: a first sync reads them in one piece, by id."""
        del project_id
        return None

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """All of them, newest first; or those of the pipelines that were updated in a span."""
        if since is None:
            return self._by_id(project_id, resume_token)
        steps = by_update(_listing(self._api, project_id), since, until, resume_token)
        return pages_of(self._pool, steps, one_by_one(partial(self._of_pipeline, project_id)), since, until)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        for page in self._by_id(project_id, None):
            yield tuple(item.external_id for item in page.items)

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Some of them, one request each."""
        return fetched(self._api, self._pool, f"/projects/{project_id}/jobs", external_ids)

    def _by_id(self, project_id: int, resume_token: str | None) -> Iterator[Page]:
        params: dict[str, Any] | None = dict(parse_qsl(resume_token)) if resume_token else dict(_KEYSET)
        while params is not None:
            path = f"/projects/{project_id}/jobs"
            body, headers = self._api.get(path, **params)
            raws = self._api.readable(path, body, LIST)
            link = next_link(headers) if raws else None
            # Only the question is taken from the link: whatever host it names, ours is asked.
            params = {name: values[-1] for name, values in parse_qs(urlsplit(link).query).items()} if link else None
            failures: Failures = []
            items = _items(raws, failures)
            if items or failures:
                token = urlencode(params) if params is not None else None
                yield Page(items=items, failures=tuple(failures), resume_token=token)

    def _of_pipeline(self, project_id: int, row: Row, raw: msgspec.Raw) -> tuple[Item, ...]:
        del raw
        path = f"/projects/{project_id}/pipelines/{row.id}/jobs"
        jobs: list[Item] = []
        page_number, is_more = 1, True
        while is_more:
            try:
                raws, is_more = self._api.page(path, include_retried="true", per_page=PAGE_ROWS_COUNT, page=page_number)
            except GoneError:
                self._api.project(str(project_id))  # as above: only the pipeline is gone
                break
            jobs += _items(raws, [])
            page_number += 1
        return tuple(jobs)


def _items(raws: list[msgspec.Raw], failures: Failures) -> tuple[Item, ...]:
    return tuple(Item(str(row.id), bytes(raw)) for row, raw in decoded_rows(raws, _STATUS, failures))


def _listing(api: Api, project_id: int) -> NumberedListing:
    return NumberedListing(api, f"/projects/{project_id}/pipelines")


def listed_ids(api: Api, path: str) -> Iterator[tuple[str, ...]]:
    """The ids of a listing in the order of ids, which never change their places."""
    page_number, is_more = 1, True
    while is_more:
        raws, is_more = api.page(path, order_by="id", sort="asc", per_page=PAGE_ROWS_COUNT, page=page_number)
        page_number += 1
        if raws:
            yield tuple(str(row.id) for row, _ in decoded_rows(raws, _STATUS))


def fetched(api: Api, pool: Executor, path: str, external_ids: tuple[str, ...]) -> Page:
    """Some objects of a path by id, as received; what GitLab does not show is left out."""

    def one(external_id: str) -> tuple[str, msgspec.Raw | None]:
        return external_id, api.raw_if_shown(f"{path}/{external_id}")

    found = fetch_ahead(pool, (partial(one, each) for each in external_ids if each.isdigit()), AHEAD_COUNT)
    return Page(items=tuple(Item(external_id, bytes(raw)) for external_id, raw in found if raw is not None))


def parse_pipeline(payload: bytes, context: ParseContext) -> Batch:
    """Turn a pipeline into its record; see `connectors.gitlab.parse.parse`.

    While it has not ended, only what the listing shows counts, so that both ways of reading it say the same.
    """
    shown = decoded(payload, _PIPELINE)
    is_finished = shown.status in FINISHED
    user = People(context.options).account(shown.user) if is_finished else None
    record = Pipeline(
        external_id=str(shown.id),
        external_project_id=str(shown.project_id),
        iid=shown.iid,
        status=shown.status,
        source=shown.source,
        ref=shown.ref,
        sha=shown.sha,
        web_url=shown.web_url,
        started_by=user,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        started_at=shown.started_at if is_finished else None,
        finished_at=shown.finished_at if is_finished else None,
        duration_seconds=shown.duration if is_finished else None,
        queued_seconds=shown.queued_duration if is_finished else None,
        coverage=_percent(shown.coverage) if is_finished else None,
    )
    return Batch(pipelines=(record,), accounts=_known(user))


def parse_job(payload: bytes, context: ParseContext) -> Batch:
    """Turn a job into its record; see `connectors.gitlab.parse.parse`."""
    shown = decoded(payload, _JOB)
    user = People(context.options).account(shown.user)
    record = PipelineJob(
        external_id=str(shown.id),
        external_project_id=str(shown.pipeline.project_id),
        external_pipeline_id=str(shown.pipeline.id),
        name=shown.name,
        stage=shown.stage,
        status=shown.status,
        failure_reason=shown.failure_reason,
        is_allowed_to_fail=bool(shown.allow_failure),
        ref=shown.ref,
        web_url=shown.web_url,
        started_by=user,
        created_at=shown.created_at,
        started_at=shown.started_at,
        finished_at=shown.finished_at,
        # A running job's duration grows with every look at it.
        duration_seconds=shown.duration if shown.finished_at else None,
        queued_seconds=shown.queued_duration if shown.started_at else None,
    )
    launches = artifacts.launches_of(decoded(payload, artifacts.JOB), context) if artifacts.is_wanted(context) else ()
    return Batch(jobs=(record,), launches=launches, accounts=_known(user))


def _known(user: Account | None) -> tuple[Account, ...]:
    return (user,) if user else ()


def _percent(coverage: str | float | None) -> float | None:
    if coverage is None or coverage == "":
        return None
    try:
        return float(coverage)
    except ValueError as error:
        raise BadRecordError(f"coverage: {coverage!r} is no number", field="coverage") from error
