"""Deployments with the merge requests that they brought out, and environments: requests and meaning.

Deployments are listed by update time, which moves with every change of status. What a deployment brought out costs a
request of its own, made where it has succeeded. When it was out is when its job ended: GitLab's update time moves later
too, and is never taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from datetime import datetime
from functools import partial

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import Time, decoded
from connectors.gitlab.api import Api, Failures, Whole, decoded_rows
from connectors.gitlab.people import People, User
from connectors.gitlab.pipelines import listed_ids
from connectors.gitlab.updates import AHEAD_COUNT, NumberedListing, Row, by_update, oldest_update, one_by_one, pages_of
from connectors.http import fetch_ahead
from models.records import Batch, Deployment, Environment


class _Status(msgspec.Struct, gc=False):
    id: int
    status: str | None = None


class _MergeRequest(msgspec.Struct, gc=False):
    iid: int


class _Payload(msgspec.Struct, gc=False):
    """A deployment as received, and the iids that it brought out; None where GitLab was not asked or does not say."""

    deployment: msgspec.Raw
    project_id: int
    merge_request_iids: list[int] | None


class _Environment(msgspec.Struct, gc=False):
    id: int
    name: str
    tier: str | None = None
    state: str | None = None
    external_url: str | None = None


class _Pipeline(msgspec.Struct, gc=False):
    id: int


class _Deployable(msgspec.Struct, gc=False):
    finished_at: Time | None = None
    pipeline: _Pipeline | None = None


class _Deployment(msgspec.Struct, gc=False):
    id: int
    status: str
    created_at: Time
    updated_at: Time
    environment: _Environment
    iid: int | None = None
    ref: str | None = None
    sha: str | None = None
    user: User | None = None
    deployable: _Deployable | None = None
    finished_at: Time | None = None


class _StagedDeployment(msgspec.Struct, gc=False):
    deployment: _Deployment
    project_id: int
    merge_request_iids: list[int] | None = None


class _StagedEnvironment(msgspec.Struct, gc=False):
    environment: _Environment
    project_id: int


_STATUS = msgspec.json.Decoder(_Status)
_MERGE_REQUEST = msgspec.json.Decoder(_MergeRequest)
_DEPLOYMENT = msgspec.json.Decoder(_StagedDeployment)
_ENVIRONMENT = msgspec.json.Decoder(_StagedEnvironment)


class Deployments:
    """Reads deployments; their ids are GitLab's.

    Args:
        api: the instance.
        pool: fetches what they brought out.
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
        """Those that were updated in a span, with what they brought out."""
        steps = by_update(_listing(self._api, project_id), since, until, resume_token)
        return pages_of(self._pool, steps, one_by_one(partial(self._completed, project_id)), since, until)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        return listed_ids(self._api, f"/projects/{project_id}/deployments")

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Some of them, two requests each."""

        def one(external_id: str) -> tuple[Item, ...]:
            raw = self._api.raw_if_shown(f"/projects/{project_id}/deployments/{external_id}")
            return self._with_merge_requests(project_id, external_id, raw) if raw is not None else ()

        calls = (partial(one, external_id) for external_id in external_ids if external_id.isdigit())
        return Page(items=tuple(item for found in fetch_ahead(self._pool, calls, AHEAD_COUNT) for item in found))

    def _completed(self, project_id: int, row: Row, raw: msgspec.Raw) -> tuple[Item, ...]:
        return self._with_merge_requests(project_id, str(row.id), raw)

    def _with_merge_requests(self, project_id: int, external_id: str, raw: msgspec.Raw) -> tuple[Item, ...]:
        iids = None
        if decoded(bytes(raw), _STATUS).status == "success":
            rows, is_cut = self._api.part(f"/projects/{project_id}/deployments/{external_id}/merge_requests")
            if rows is not None and not is_cut:
                iids = [row.iid for row, _ in decoded_rows(rows, _MERGE_REQUEST)]
        payload = _Payload(deployment=raw, project_id=project_id, merge_request_iids=iids)
        return (Item(external_id, msgspec.json.encode(payload)),)


class Environments(Whole):
    """Reads environments; their ids are GitLab's."""

    def read(self, project_id: int) -> Iterator[Page]:
        """All of them."""
        for raws in self.api.whole(f"/projects/{project_id}/environments"):
            failures: Failures = []
            rows = list(decoded_rows(raws, _STATUS, failures))
            items = tuple(
                Item(str(row.id), msgspec.json.encode({"environment": raw, "project_id": project_id}))
                for row, raw in rows
            )
            yield Page(items=items, failures=tuple(failures))


def _listing(api: Api, project_id: int) -> NumberedListing:
    return NumberedListing(api, f"/projects/{project_id}/deployments")


def parse_deployment(payload: bytes, context: ParseContext) -> Batch:
    """Turn a deployment into its record; see `connectors.gitlab.parse.parse`."""
    staged = decoded(payload, _DEPLOYMENT)
    shown, job = staged.deployment, staged.deployment.deployable or _Deployable()
    user = People(context.options).account(shown.user)
    iids = staged.merge_request_iids
    record = Deployment(
        external_id=str(shown.id),
        external_project_id=str(staged.project_id),
        iid=shown.iid,
        status=shown.status,
        environment=shown.environment.name,
        ref=shown.ref,
        sha=shown.sha,
        external_pipeline_id=str(job.pipeline.id) if job.pipeline else None,
        deployed_by=user,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        finished_at=shown.finished_at or job.finished_at,
        merge_requests=None if iids is None else tuple(iids),
    )
    return Batch(deployments=(record,), accounts=(user,) if user else ())


# How GitLab itself guesses the tier of an environment from its name, the first that matches; old servers show none.
_TIERS_OF_NAMES = {
    "development": re.compile(r"dev|review|trunk", re.IGNORECASE),
    "testing": re.compile(r"test|tst|int|ac(ce|)pt|qa|qc|control|quality", re.IGNORECASE),
    "staging": re.compile(r"st(a|)g|mod(e|)l|pre|demo|non", re.IGNORECASE),
    "production": re.compile(r"pr(o|)d|live", re.IGNORECASE),
}


def parse_environment(payload: bytes, context: ParseContext) -> Batch:
    """Turn an environment into its record; see `connectors.gitlab.parse.parse`."""
    del context
    staged = decoded(payload, _ENVIRONMENT)
    shown = staged.environment
    guessed = next((tier for tier, pattern in _TIERS_OF_NAMES.items() if pattern.search(shown.name)), "other")
    record = Environment(
        external_id=str(shown.id),
        external_project_id=str(staged.project_id),
        name=shown.name,
        tier=shown.tier or guessed,
        state=shown.state,
        external_url=shown.external_url,
    )
    return Batch(environments=(record,))
