"""A connection to one GitLab instance: who we are there, and which reader reads which stream.

What belongs here: credentials, the connection test, and the contract of a connector. What does not: the requests of a
stream (a module for each subject), what the fields mean (parse.py), what a status means (connectors/http.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from gitlab import Gitlab

from connectors.base import ConnectionSpec, Page, Probe, RateGate, ScopeSpec, Window
from connectors.download import Downloads
from connectors.gitlab import names
from connectors.gitlab.activity import Events
from connectors.gitlab.api import LIST, Api, Reader
from connectors.gitlab.deployments import Deployments, Environments
from connectors.gitlab.graphql import GraphQL
from connectors.gitlab.merge_requests import MergeRequests
from connectors.gitlab.owners import CodeOwners
from connectors.gitlab.pipelines import Jobs, Pipelines
from connectors.gitlab.project import Members, TheProject
from connectors.http import mount_policy
from connectors.limits import gate_key_of, limits_of
from connectors.lost import LostObjects
from models.errors import ForbiddenResourceError, GoneError, SourceRequestError, UsageError

T = TypeVar("T")

FETCHERS_COUNT = 8


class _Version(msgspec.Struct):
    version: str = "unknown"


class _User(msgspec.Struct):
    username: str = "unknown"


_VERSION = msgspec.json.Decoder(_Version)
_USER = msgspec.json.Decoder(_User)


class GitLabConnector:
    """A connection to one GitLab instance; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `token`. Options: `token_type`, private (the default: personal, project and group access
            tokens) or oauth; `graphql`, auto (the default: where the instance bears it) or off; `ca_file`, the path of
            certificates to trust in place of the system's.
        gate: the patience that all processes share.
    """

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        if urlsplit(spec.base_url).scheme not in {"http", "https"}:
            raise UsageError(f"{spec.base_url!r} is no address of a GitLab; it begins with https://.")
        token = spec.auth.get("token")
        if not token:
            raise UsageError(f"The connection {spec.name} has no token.")
        kind = spec.options.get("token_type", "private")
        if kind not in {"private", "oauth"}:
            raise UsageError(f"There is no token_type {kind!r}; choose private or oauth.")
        graphql = spec.options.get("graphql", "auto")
        if graphql not in {"auto", "off"}:
            raise UsageError(f"There is no way {graphql!r} to use GraphQL; choose auto or off.")
        verify = spec.options.get("ca_file") or True
        self._gitlab = Gitlab(
            url=spec.base_url,
            private_token=token if kind == "private" else None,
            oauth_token=token if kind == "oauth" else None,
            ssl_verify=verify,
            user_agent="plumbline",
        )
        policy = mount_policy(
            self._gitlab.session,
            base_url=spec.base_url,
            gate=gate,
            gate_key=gate_key_of(spec.base_url, token),
            limits=limits_of(spec.options),
            verify=verify,
        )
        # What the library itself would send: its credential, which it keeps to itself, and its name.
        credential = self._gitlab._auth  # noqa: SLF001
        request = requests.Request("GET", spec.base_url, headers=self._gitlab.headers, auth=credential)
        self._api = Api(self._gitlab, policy, dict(self._gitlab.session.prepare_request(request).headers))
        self._downloads = Downloads(
            dict(self._gitlab.session.prepare_request(request).headers),
            gate,
            gate_key_of(spec.base_url, token),
            limits_of(spec.options),
            verify,
        )
        self._pool = ThreadPoolExecutor(FETCHERS_COUNT, thread_name_prefix="gitlab")
        self._project_ids: dict[str, int] = {}
        self._graphql = GraphQL(self._api, is_wanted=graphql == "auto")
        self._merge_requests = MergeRequests(self._api, self._pool, self._graphql, LostObjects(spec.options))
        self._readers: Mapping[str, Reader] = {
            names.PROJECT: TheProject(self._api),
            names.MEMBERS: Members(self._api),
            names.MERGE_REQUESTS: self._merge_requests,
            names.EVENTS: Events(self._api),
            names.PIPELINES: Pipelines(self._api, self._pool),
            names.JOBS: Jobs(self._api, self._pool),
            names.ENVIRONMENTS: Environments(self._api),
            names.DEPLOYMENTS: Deployments(self._api, self._pool),
            names.CODE_OWNERS: CodeOwners(self._api),
        }

    def probe(self) -> Probe:
        """Ask the instance who it is, who we are to it, and what time it has."""
        remarks: list[str] = []
        try:
            version = self._probed("/version", _VERSION, remarks) or _Version()
        except GoneError as error:
            raise SourceRequestError(
                f"There is no GitLab at {self._gitlab.url}: it has no /api/v4/version.", **error.facts
            ) from error
        user = self._probed("/user", _USER, remarks) or _User()
        projects = self._probed("/projects", LIST, remarks, membership="true", per_page=1)
        if projects == []:
            remarks.append("The token's account is a member of no project.")
        if self._graphql.batch_size() == 0 and self._graphql.refusal:
            remarks.append(f"GraphQL is not used, and merge requests cost twice the requests: {self._graphql.refusal}")
        return Probe(
            product="GitLab",
            version=version.version,
            account=user.username,
            server_now=self.server_now(),
            remarks=tuple(remarks),
        )

    def _probed(self, path: str, decoder: msgspec.json.Decoder[T], remarks: list[str], **params: Any) -> T | None:
        try:
            return self._api.object(path, decoder, **params)
        except ForbiddenResourceError as error:
            remarks.append(f"The token may not read {path}; give it the scope read_api. {error.message}")
            return None

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        return self._api.server_now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The project's full path now, wherever it has moved.

        Raises:
            GoneError: it does not exist or is hidden.
        """
        return self._api.project(_key(scope)).path_with_namespace or scope.external_key

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time in the stream, or None where it is empty or is read in one piece."""
        return self._reader(stream).oldest_update(self._project_id(scope))

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """How many merge requests were updated in a window; None for other streams, which GitLab does not count."""
        if stream != names.MERGE_REQUESTS:
            return None
        return self._merge_requests.count(self._project_id(scope), window.since, window.until)

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, ahead of the consumer.

        Args:
            scope: its `external_key` is the numeric id of a project, or its path.
            stream: its name.
            window: what was updated in it comes; a little more may come at its edges.
            resume_token: of the last page that is safely stored.
        """
        reader, project_id = self._reader(stream), self._project_id(scope)
        return reader.pages(project_id, window.since, window.until or self.server_now(), resume_token)

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as GitLab has them now, in batches."""
        return self._reader(stream).listing(self._project_id(scope))

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id; what GitLab does not show is missing from the page."""
        return self._reader(stream).fetch(self._project_id(scope), external_ids)

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Make a request that changes something at GitLab: of all there is, only webhooks (hooks.py)."""
        return self._api.manage(method, path, body or {})

    def project_id(self, scope: ScopeSpec) -> int:
        """The numeric id of a project, which survives renaming and moving."""
        return self._project_id(scope)

    def webhooks_of(self, scope: ScopeSpec) -> Iterator[bytes]:
        """The webhooks of a project, one after the other, as received."""
        page_number, has_next = 0, True
        while has_next:
            page_number += 1
            rows, has_next = self._api.page(
                f"/projects/{self._project_id(scope)}/hooks", page=page_number, per_page=100
            )
            yield from map(bytes, rows)

    def download(self, scope: ScopeSpec, path: str, into: Path, *, largest_bytes: int) -> None:
        """Write a file of a project into a new file of ours, wherever GitLab keeps it; see `connectors.download`."""
        url = f"{self._gitlab.api_url}/projects/{self._project_id(scope)}{path}"
        self._downloads.fetch(url, into, largest_bytes=largest_bytes)

    def close(self) -> None:
        """Close sockets and threads; what is under way is waited for, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._gitlab.session.close()

    def _reader(self, stream: str) -> Reader:
        if stream not in self._readers:
            raise UsageError(f"GitLab has no stream {stream!r}.")
        return self._readers[stream]

    def _project_id(self, scope: ScopeSpec) -> int:
        key = _key(scope)
        if key.isdigit():
            return int(key)
        if key not in self._project_ids:
            self._project_ids[key] = self._api.project(key).id
        return self._project_ids[key]


def _key(scope: ScopeSpec) -> str:
    """The id that was found under the scope's path once: the path may be given to another project later."""
    return str(scope.options.get("external_id") or scope.external_key)
