"""Deployments with their statuses, and environments: requests and meaning.

Deployments are listed from the newest on and cannot be asked for by time. Whether a new status moves the update time of
its deployment is not documented, so the statuses of those of the last two days are read each time, and of older ones
where the update time says so. What has not changed is told by its ETag.

GitHub keeps former statuses for ninety days. A deployment that another one has taken the place of is `inactive`: it was
out, and since when is known while its status of success is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import Time, decoded
from connectors.github.api import PAGE_ROWS_COUNT, Api, Failure, Repository, rows_of
from connectors.github.shapes import People, User
from connectors.github.shapes import Repository as Shown
from connectors.http import fetch_ahead
from models.errors import ForbiddenResourceError, GoneError
from models.records import Batch, Deployment, Environment

AHEAD_COUNT = 8
CHANGEABLE = timedelta(days=36)
"""A deployment may wait for its approval for thirty days."""
LIVELY = timedelta(days=2)


class _Row(msgspec.Struct, frozen=True, gc=False):
    id: int
    created_at: Time
    updated_at: Time


class _FoundEnvironments(msgspec.Struct, gc=False):
    environments: list[msgspec.Raw]


class _Status(msgspec.Struct, gc=False):
    state: str | None = None
    created_at: Time | None = None
    log_url: str | None = None
    target_url: str | None = None


class _Deployment(msgspec.Struct, gc=False):
    id: int
    created_at: Time
    updated_at: Time
    environment: str
    ref: str | None = None
    sha: str | None = None
    creator: User | None = None


class _Payload(msgspec.Struct, gc=False):
    repository: Shown
    deployment: _Deployment
    statuses: list[_Status] | None = None


class _Environment(msgspec.Struct, gc=False):
    id: int
    name: str


class _EnvironmentPayload(msgspec.Struct, gc=False):
    repository: Shown
    environment: _Environment


_ROW = msgspec.json.Decoder(_Row)
_FOUND_ENVIRONMENTS = msgspec.json.Decoder(_FoundEnvironments)
_ENVIRONMENT_ROW = msgspec.json.Decoder(_Environment)
_DEPLOYMENT = msgspec.json.Decoder(_Payload)
_ENVIRONMENT = msgspec.json.Decoder(_EnvironmentPayload)


class Deployments:
    """Reads the deployments and environments of one repository; their ids are GitHub's.

    Args:
        api: the instance.
        pool: fetches the statuses of several deployments at once.
        repository: whose deployments.
        named: what payloads say of the repository.
    """

    def __init__(self, api: Api, pool: Executor, repository: Repository, named: Mapping[str, Any]) -> None:
        self._api = api
        self._pool = pool
        self._path = repository.path
        self._named = named

    def oldest(self) -> datetime | None:
        """None: they are read in one window."""
        return None

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """Those that were updated in a span, and some more; after a crash from the beginning."""
        del resume_token
        seen: set[int] = set()
        failures: list[Failure] = []
        for raws in self._listed():
            rows = [(row, raw) for row, raw in rows_of(raws, _ROW, failures) if row.id not in seen]
            seen.update(row.id for row, _ in rows)
            wanted = [
                (row, raw)
                for row, raw in rows
                if row.created_at <= until
                and (since is None or row.updated_at >= since - LIVELY or row.created_at >= since - LIVELY)
            ]
            calls = (partial(self._item, str(row.id), raw) for row, raw in wanted)
            items = tuple(fetch_ahead(self._pool, calls, AHEAD_COUNT))
            if items or failures:
                yield Page(items=items, failures=tuple(failures))
                failures = []
            if since and rows and rows[-1][0].created_at < since - CHANGEABLE:
                return

    def listing(self) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        for raws in self._listed():
            yield tuple(str(row.id) for row, _ in rows_of(raws, _ROW))

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """Some of them."""

        def one(external_id: str) -> Item | None:
            try:
                return self._item(external_id, self._api.raw(f"{self._path}/deployments/{external_id}"))
            except GoneError:
                return None

        calls = (partial(one, external_id) for external_id in external_ids if external_id.isdigit())
        found = fetch_ahead(self._pool, calls, AHEAD_COUNT)
        return Page(items=tuple(item for item in found if item is not None))

    def _listed(self) -> Iterator[list[msgspec.Raw]]:
        url: str | None = self._api.address(f"{self._path}/deployments", per_page=PAGE_ROWS_COUNT)
        while url:
            try:
                raws, url = self._api.page(url)
            except (ForbiddenResourceError, GoneError):
                self._api.repository(str(self._named["key"]), is_asked_again=True)
                return  # the token may not see them
            yield raws

    def _item(self, external_id: str, raw: msgspec.Raw) -> Item:
        statuses, _ = self._api.part(f"{self._path}/deployments/{external_id}/statuses")
        payload = {"repository": self._named, "deployment": raw, "statuses": statuses}
        return Item(external_id, msgspec.json.encode(payload))


class Environments:
    """Reads the environments of one repository; see `Deployments`."""

    def __init__(self, api: Api, pool: Executor, repository: Repository, named: Mapping[str, Any]) -> None:
        del pool
        self._api = api
        self._path = repository.path
        self._named = named

    def oldest(self) -> datetime | None:
        """They have no time."""
        return None

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """All of them."""
        del since, until, resume_token
        yield self._whole()

    def _whole(self) -> Page:
        items: list[Item] = []
        url: str | None = self._api.address(f"{self._path}/environments", per_page=PAGE_ROWS_COUNT)
        while url:
            try:
                found, _, headers = self._api.get(url, _FOUND_ENVIRONMENTS)
            except (ForbiddenResourceError, GoneError):
                self._api.repository(str(self._named["key"]), is_asked_again=True)
                break
            for row, raw in rows_of(found.environments, _ENVIRONMENT_ROW):
                payload = {"repository": self._named, "environment": raw}
                items.append(Item(str(row.id), msgspec.json.encode(payload)))
            url = self._api.next_url(headers)
        return Page(items=tuple(items))

    def listing(self) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        yield tuple(item.external_id for item in self._whole().items)

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """Some of them."""
        return Page(items=tuple(item for item in self._whole().items if item.external_id in external_ids))


# --- meaning ----------------------------------------------------------------------------------------------------------

_MEANINGS = {
    "success": "success",
    "inactive": "success",
    "failure": "failed",
    "error": "failed",
    "in_progress": "running",
    "queued": "created",
    "pending": "created",
    "waiting": "blocked",
}
_RUN_IN_URL = re.compile(r"/actions/runs/(\d+)")

# From the word at the beginning of an environment's name, or after a sign: GitHub knows no tiers.
_TIERS = {
    "production": re.compile(r"(^|[^a-z])(prod|production|live)([^a-z]|$)"),
    "staging": re.compile(r"(^|[^a-z])(stag|staging|stage|preprod|preview|demo)([^a-z]|$)"),
    "testing": re.compile(r"(^|[^a-z])(test|testing|qa|uat|int|integration|acceptance)([^a-z]|$)"),
    "development": re.compile(r"(^|[^a-z])(dev|development|review)([^a-z]|$)"),
}


def parse_deployment(payload: bytes, context: ParseContext) -> Batch:
    """One deployment; see `parse`."""
    source = decoded(payload, _DEPLOYMENT)
    shown = source.deployment
    statuses = sorted(
        ((status.created_at, status) for status in source.statuses or () if status.created_at),
        key=lambda pair: pair[0],
    )
    states = [_MEANINGS.get(status.state or "", "created") for _, status in statuses]
    status = states[-1] if states else "created"
    ended = [at for at, each in statuses if each.state == "success"] if status == "success" else []
    if status == "failed":
        ended = [at for (at, _), state in zip(statuses, states, strict=True) if state == "failed"]
    urls = (f"{each.log_url or ''} {each.target_url or ''}" for _, each in reversed(statuses))
    run = next((match for url in urls if (match := _RUN_IN_URL.search(url))), None)
    people = People(context.options)
    record = Deployment(
        external_id=str(shown.id),
        external_project_id=str(source.repository.id),
        iid=None,
        status=status,
        environment=shown.environment,
        ref=shown.ref,
        sha=shown.sha,
        external_pipeline_id=run[1] if run else None,
        deployed_by=people.account(shown.creator),
        created_at=shown.created_at,
        updated_at=max([shown.updated_at, *(at for at, _ in statuses)]),
        finished_at=min(ended, default=None),
        merge_requests=None,
    )
    return Batch(deployments=(record,), accounts=people.all())


def parse_environment(payload: bytes, context: ParseContext) -> Batch:
    """One environment; see `parse`."""
    del context
    source = decoded(payload, _ENVIRONMENT)
    name = source.environment.name
    record = Environment(
        external_id=str(source.environment.id),
        external_project_id=str(source.repository.id),
        name=name,
        tier=next((tier for tier, pattern in _TIERS.items() if pattern.search(name.lower())), "other"),
        state=None,
        external_url=None,
    )
    return Batch(environments=(record,))
