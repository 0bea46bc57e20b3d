"""GitHub over REST: pull requests and issues with all their parts, as bytes.

What belongs here: what is asked for each stream, and how the parts of an object are joined into one payload. What does
not: how it is asked (api.py), in which order (updates.py), and what the fields mean (parse.py).

External ids. A pull request is `<repository id>!<number>`, an issue `<repository id>#<number>`: a number is never given
again, and the numeric id of a repository survives renaming and transfer.

Requests. GitHub counts them by the hour. A pull request costs its own, those of its commits, reviews and timeline, and
one more where it has review comments; an issue costs that of its events. What GitHub says not to have changed is not
counted: answers are kept in the process, within bounds, and asked for by their ETag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.github.api import API_VERSION, OBJECT, Api, Failure, Repository
from connectors.github.names import ISSUES, MERGE_REQUESTS, STATUSES
from connectors.github.updates import Rows, Step, Updates
from connectors.http import fetch_ahead
from models.errors import ForbiddenResourceError, GoneError, SourceRequestError, UsageError

FETCHERS_COUNT = 4
"""GitHub asks for few requests at a time, and takes at most 900 a minute."""
OBJECTS_AHEAD_COUNT = 8
"""How many objects are fetched before the consumer asks for them."""


class _Counts(msgspec.Struct, frozen=True):
    commits: int = 0
    review_comments: int = 0


class _User(msgspec.Struct):
    login: str = "unknown"


class _Meta(msgspec.Struct):
    installed_version: str | None = None


_COUNTS = msgspec.json.Decoder(_Counts)
_USER = msgspec.json.Decoder(_User)
_META = msgspec.json.Decoder(_Meta)

_STATUSES = (
    Item("open", b'{"id": "open", "name": "Open", "category": "new"}'),
    Item("closed", b'{"id": "closed", "name": "Closed", "category": "done"}'),
)
"""The two that every issue of GitHub has; there is nobody to ask for them."""


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
        """The earliest update time of issues and pull requests alike, or None where there are none."""
        del stream
        return Updates(self._api, self._api.repository(scope.external_key)).oldest()

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, ahead of the consumer.

        Args:
            scope: its `external_key` is `owner/name`, or the numeric id of a repository.
            stream: merge_requests, issues or statuses.
            window: what was updated in it comes; a little more may come at its edges.
            resume_token: of the last page that is safely stored.
        """
        if stream == STATUSES:
            return iter([Page(items=_STATUSES)])
        _refuse_unknown(stream)
        repository = self._api.repository(scope.external_key)
        until = window.until or self.server_now()
        return self._pages(scope, repository, stream, window.since, until, resume_token)

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as GitHub has them now, in batches."""
        if stream == STATUSES:
            yield tuple(item.external_id for item in _STATUSES)
            return
        _refuse_unknown(stream)
        repository = self._api.repository(scope.external_key)
        for listed in Updates(self._api, repository).by_creation(None):
            names = tuple(_external_id(repository, stream, row.number) for row, _ in _of_stream(listed.rows, stream))
            if names:
                yield names

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id; what GitHub does not show is missing from the page."""
        if stream == STATUSES:
            return Page(items=tuple(item for item in _STATUSES if item.external_id in external_ids))
        _refuse_unknown(stream)
        repository = self._api.repository(scope.external_key)
        named = (re.fullmatch(r"(\d+)[!#](\d+)", name) for name in external_ids)
        numbers = [int(name[2]) for name in named if name and int(name[1]) == repository.id]
        calls = (partial(self._found, scope, repository, stream, number) for number in numbers)
        found = fetch_ahead(self._pool, calls, OBJECTS_AHEAD_COUNT)
        return Page(items=tuple(item for item in found if item is not None))

    def close(self) -> None:
        """Close sockets and threads; what is under way is waited for, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._api.close()

    # --- walking ------------------------------------------------------------------------------------------------------

    def _pages(
        self,
        scope: ScopeSpec,
        repository: Repository,
        stream: str,
        since: datetime | None,
        until: datetime,
        resume_token: str | None,
    ) -> Iterator[Page]:
        def calls() -> Iterator[Callable[[], Item | Failure | Step]]:
            for step in Updates(self._api, repository).by_update(since, until, resume_token):
                for row, raw in _of_stream(step.rows, stream):
                    yield partial(self._assembled, scope, repository, stream, row.number, raw)
                yield partial(_same, step)

        first_at = since
        items: list[Item] = []
        failures: list[Failure] = []
        for result in fetch_ahead(self._pool, calls(), OBJECTS_AHEAD_COUNT):
            if isinstance(result, Item):
                items.append(result)
                continue
            if isinstance(result, tuple):
                failures.append(result)
                continue
            first_at = first_at or min((row.updated_at for row, _ in result.rows), default=None)
            failures += result.failures
            if items or failures:
                yield Page(
                    items=tuple(items),
                    failures=tuple(failures),
                    resume_token=result.updated_at.isoformat() if result.updated_at else None,
                    progress_ratio=_ratio(first_at, result.updated_at, until),
                )
            items, failures = [], []

    # --- objects and their parts --------------------------------------------------------------------------------------

    def _assembled(
        self, scope: ScopeSpec, repository: Repository, stream: str, number: int, row: msgspec.Raw
    ) -> Item | Failure:
        """Fetch the parts of an object and join them, all as received."""
        try:
            if stream == ISSUES:
                return self._issue(scope, repository, number, row)
            return self._pull_request(scope, repository, number)
        except GoneError:
            # One object may be withdrawn between two requests; where all is hidden, this says so.
            self._api.repository(scope.external_key, is_asked_again=True)
            reason = "GitHub lists it and does not show it (404)."
            return _external_id(repository, stream, number), reason, bytes(row)

    def _found(self, scope: ScopeSpec, repository: Repository, stream: str, number: int) -> Item | None:
        try:
            if stream != ISSUES:
                return self._pull_request(scope, repository, number)
            path = f"{repository.path}/issues/{number}"
            row, body, _ = self._api.get(self._api.address(path), OBJECT)
        except GoneError:
            return None
        # The number of an issue that has moved to another repository leads to it there.
        is_here = bytes(row.get("repository_url", b"")).lower().endswith(f'/{repository.full_name}"'.lower().encode())
        if "pull_request" in row or not is_here:
            return None
        return self._issue(scope, repository, number, msgspec.Raw(body))

    def _issue(self, scope: ScopeSpec, repository: Repository, number: int, row: msgspec.Raw) -> Item:
        events, is_cut = self._api.part(f"{repository.path}/issues/{number}/events")
        payload = {"repository": _named(scope, repository), "issue": row, "events": events, "truncated": is_cut}
        return Item(_external_id(repository, ISSUES, number), msgspec.json.encode(payload))

    def _pull_request(self, scope: ScopeSpec, repository: Repository, number: int) -> Item:
        path = f"{repository.path}/pulls/{number}"
        counts, body, _ = self._api.get(self._api.address(path), _COUNTS)
        commits, is_commits_cut = self._api.part(f"{path}/commits")
        reviews, is_reviews_cut = self._api.part(f"{path}/reviews")
        timeline, is_timeline_cut = self._api.part(f"{repository.path}/issues/{number}/timeline")
        comments, is_comments_cut = self._api.part(f"{path}/comments") if counts.review_comments else ([], False)
        is_cut = is_commits_cut or is_reviews_cut or is_timeline_cut or is_comments_cut
        # GitHub lists 250 commits of a pull request, the oldest first, and counts them all.
        are_commits_missing = commits is not None and len(commits) < counts.commits
        payload = {
            "repository": _named(scope, repository),
            "pull_request": msgspec.Raw(body),
            "commits": commits,
            "reviews": reviews,
            "timeline": timeline,
            "review_comments": comments,
            "truncated": is_cut or are_commits_missing,
        }
        return Item(_external_id(repository, MERGE_REQUESTS, number), msgspec.json.encode(payload))


def _refuse_unknown(stream: str) -> None:
    if stream not in (MERGE_REQUESTS, ISSUES):
        raise UsageError(f"GitHub has no stream {stream!r}.")


def _external_id(repository: Repository, stream: str, number: int) -> str:
    return f"{repository.id}{'!' if stream == MERGE_REQUESTS else '#'}{number}"


def _named(scope: ScopeSpec, repository: Repository) -> Mapping[str, Any]:
    return {"id": repository.id, "full_name": repository.full_name, "key": scope.external_key}


def _of_stream(rows: Rows, stream: str) -> Rows:
    return [(row, raw) for row, raw in rows if row.is_pull_request == (stream == MERGE_REQUESTS)]


def _same(step: Step) -> Step:
    return step


def _ratio(first_at: datetime | None, at: datetime | None, last_at: datetime) -> float | None:
    """How much of the span is done, 0 to 1."""
    if first_at is None or at is None or first_at == last_at:
        return None
    return min(max((at - first_at) / (last_at - first_at), 0.0), 1.0)
