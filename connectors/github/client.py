"""GitHub over REST: which reader reads which stream of a repository, and what a connection is.

What belongs here: the contract of a connector. What does not: how it is asked (api.py), and what is asked for and what
that means (a module a subject).

Requests. GitHub counts them by the hour. A pull request costs its own, those of its commits, reviews and timeline, and
one more where it has review comments; an issue costs that of its events. What GitHub says not to have changed is not
counted: answers are kept in the process, within bounds, and asked for by their ETag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

import msgspec

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.github.api import API_VERSION, PAGE_ROWS_COUNT, Api
from connectors.github.deployments import Deployments, Environments
from connectors.github.names import DEPLOYMENTS, ENVIRONMENTS, ISSUES, JOBS, MERGE_REQUESTS, PIPELINES, STATUSES
from connectors.github.things import Things
from connectors.github.workflow_runs import WorkflowRuns
from models.errors import ForbiddenResourceError, GoneError, SourceRequestError, UsageError

FETCHERS_COUNT = 4
"""GitHub asks for few requests at a time, and takes at most 900 a minute."""


class _User(msgspec.Struct):
    login: str = "unknown"


class _Meta(msgspec.Struct):
    installed_version: str | None = None


_USER = msgspec.json.Decoder(_User)
_META = msgspec.json.Decoder(_Meta)


class Reader(Protocol):
    """Reads one stream of one repository."""

    def oldest(self) -> datetime | None:
        """The earliest update time, or None where there is nothing, or one window holds all."""
        ...

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """Those that were updated in a span, and perhaps some more."""
        ...

    def listing(self) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        ...

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """Some of them."""
        ...


class _Statuses:
    """The two that every issue of GitHub has; there is nobody to ask for them."""

    _page = Page(
        items=(
            Item("open", b'{"id": "open", "name": "Open", "category": "new"}'),
            Item("closed", b'{"id": "closed", "name": "Closed", "category": "done"}'),
        )
    )

    def oldest(self) -> datetime | None:
        """They have no time."""
        return None

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """Both."""
        del since, until, resume_token
        yield self._page

    def listing(self) -> Iterator[tuple[str, ...]]:
        """Their ids."""
        yield tuple(item.external_id for item in self._page.items)

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """One of them, or both."""
        return Page(items=tuple(item for item in self._page.items if item.external_id in external_ids))


class GitHubConnector:
    """A connection to GitHub or to one GitHub Enterprise Server; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `token`: a fine-grained or classic personal access token, or that of an app's installation.
            Options: `ca_file`, the path of certificates to trust in place of the system's.
        gate: the patience that all processes share.
    """

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        self._api = Api(spec, gate)
        self._pool = ThreadPoolExecutor(FETCHERS_COUNT, thread_name_prefix="github")

    def probe(self) -> Probe:
        """Ask the instance who it is, who we are to it, and what time it has."""
        remarks: list[str] = []
        try:
            meta = self._api.get(self._api.address("/meta"), _META)[0]
        except GoneError as error:
            raise SourceRequestError(
                f"There is no GitHub at {self._api.url}: it has no /meta.", **error.facts
            ) from error
        try:
            account = self._api.get(self._api.address("/user"), _USER)[0].login
        except ForbiddenResourceError:
            account = "an app's installation"
        repositories = None
        with suppress(ForbiddenResourceError, GoneError):
            repositories = self._api.page(self._api.address("/user/repos", per_page=1))[0]
        if repositories == []:
            remarks.append("The token sees no repository.")
        return Probe(
            product="GitHub Enterprise Server" if meta.installed_version else "GitHub",
            version=meta.installed_version or f"API {API_VERSION}",
            account=account,
            server_now=self.server_now(),
            remarks=tuple(remarks),
        )

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        return self._api.server_now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The repository's full name now, wherever it has moved.

        Raises:
            GoneError: it does not exist or is hidden.
        """
        return self._api.repository(scope.external_key, is_asked_again=True).full_name

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """GitHub counts nothing cheaply."""
        del scope, stream, window
        return None

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time in the stream, or None where it is empty or read in one window."""
        return self._reader(scope, stream).oldest()

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, ahead of the consumer.

        Args:
            scope: its `external_key` is `owner/name`, or the numeric id of a repository.
            stream: one of `connectors.github.names`.
            window: what was updated in it comes; a little more may come at its edges.
            resume_token: of the last page that is safely stored.
        """
        reader = self._reader(scope, stream)
        return reader.pages(window.since, window.until or self.server_now(), resume_token)

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as GitHub has them now, in batches."""
        yield from self._reader(scope, stream).listing()

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id; what GitHub does not show is missing from the page."""
        return self._reader(scope, stream).fetch(external_ids)

    def manage(self, method: str, scope: ScopeSpec, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Make a request that changes something at a repository: of all there is, only webhooks (hooks.py)."""
        return self._api.manage(method, f"{self._api.repository(scope.external_key).path}{path}", body or {})

    def repository_id(self, scope: ScopeSpec) -> int:
        """The numeric id of a repository, which survives renaming and transfer."""
        return self._api.repository(scope.external_key).id

    def webhooks_of(self, scope: ScopeSpec) -> Iterator[bytes]:
        """The webhooks of a repository, one after the other, as received."""
        path = f"{self._api.repository(scope.external_key).path}/hooks"
        url: str | None = self._api.address(path, per_page=PAGE_ROWS_COUNT)
        while url:
            rows, url = self._api.page(url)
            yield from map(bytes, rows)

    def _reader(self, scope: ScopeSpec, stream: str) -> Reader:
        if stream == STATUSES:
            return _Statuses()
        if stream not in (MERGE_REQUESTS, ISSUES, PIPELINES, JOBS, ENVIRONMENTS, DEPLOYMENTS):
            raise UsageError(f"GitHub has no stream {stream!r}.")
        repository = self._api.repository(scope.external_key)
        named = {"id": repository.id, "full_name": repository.full_name, "key": scope.external_key}
        source = (self._api, self._pool, repository, named)
        if stream in (MERGE_REQUESTS, ISSUES):
            return Things(*source, are_pull_requests=stream == MERGE_REQUESTS)
        if stream in (PIPELINES, JOBS):
            return WorkflowRuns(*source, are_jobs=stream == JOBS)
        return Deployments(*source) if stream == DEPLOYMENTS else Environments(*source)

    def close(self) -> None:
        """Close sockets and threads; what is under way is waited for, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._api.close()
