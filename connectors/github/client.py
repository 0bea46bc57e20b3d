"""GitHub over REST: pull requests and issues with all their parts, as bytes.

What belongs here: paths, parameters, paging, and how the parts of an object are joined into one payload. What does not:
what the fields mean (parse.py) and what a status means (connectors/http.py).

External ids. A pull request is `<repository id>!<number>`, an issue `<repository id>#<number>`: a number is never given
again, and the numeric id of a repository survives renaming and transfer.

Paging. Only the list of issues can be asked for what was updated since a time, and it holds the pull requests too. It
is read in the order of update times, and no page number is trusted: what is updated meanwhile leaves its place and
moves the rest up. After each page the listing begins again at the last time seen, and what was seen there is left out.
Times are whole seconds; where more than a page was updated within two of them, the listing is read by creation instead:
an update then moves nothing, and what belongs to it can only grow.

Requests. GitHub counts them by the hour. A pull request costs its own, those of its commits, reviews and timeline, and
one more where it has review comments; an issue costs that of its events. What GitHub says not to have changed is not
counted: answers are kept in the process, within bounds, and asked for by their ETag.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
from requests.utils import parse_header_links

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.decoding import Time, decoded
from connectors.github.answers import KnownAnswers
from connectors.github.parse import ISSUES, MERGE_REQUESTS, STATUSES
from connectors.http import exchange, fetch_ahead, gate_key_of, mount_policy
from models.errors import (
    BadRecordError,
    ForbiddenResourceError,
    GoneError,
    SourceRequestError,
    TransientSourceError,
    UsageError,
)

T = TypeVar("T")

API_VERSION = "2022-11-28"
"""Later versions leave out fields that are read here."""
PAGE_ROWS_COUNT = 100
"""The most that GitHub gives."""
FETCHERS_COUNT = 4
"""GitHub asks for few requests at a time, and takes at most 900 a minute."""
OBJECTS_AHEAD_COUNT = 8
"""How many objects are fetched before the consumer asks for them."""
PART_PAGES_COUNT = 20
"""How many pages of one part of one object are read; the payload is marked as truncated beyond."""

_SECOND = timedelta(seconds=1)
"""The resolution of GitHub's times."""
_KEY = re.compile(r"[\w.-]+/[\w.-]+")
_ALL = {"state": "all", "direction": "asc"}

_KNOWN = KnownAnswers()
"""Of this process, because a connector lives for one sync only."""


class _Row(msgspec.Struct, frozen=True, gc=False):
    """What the listing must say about an issue or a pull request."""

    id: int
    number: int
    updated_at: Time
    pull_request: msgspec.Raw = msgspec.Raw(b"")


class _Repository(msgspec.Struct, frozen=True):
    id: int
    full_name: str


class _Counts(msgspec.Struct, frozen=True):
    commits: int = 0
    review_comments: int = 0


class _User(msgspec.Struct):
    login: str = "unknown"


class _Meta(msgspec.Struct):
    installed_version: str | None = None


_Rows = list[tuple[_Row, msgspec.Raw]]
_Failure = tuple[str, str, bytes]
"""External id, reason, what was received; as in `Page.failures`."""


class _Listed(msgspec.Struct):
    """One page of a listing."""

    rows: _Rows
    failures: list[_Failure]
    next_url: str | None


class _Step(msgspec.Struct):
    """What is new on one page of a walk, and where to go on after it."""

    rows: _Rows
    failures: list[_Failure]
    updated_at: datetime | None


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROW = msgspec.json.Decoder(_Row)
_REPOSITORY = msgspec.json.Decoder(_Repository)
_COUNTS = msgspec.json.Decoder(_Counts)
_USER = msgspec.json.Decoder(_User)
_META = msgspec.json.Decoder(_Meta)

_STATUSES = (
    Item("open", b'{"id": "open", "name": "Open", "category": "new"}'),
    Item("closed", b'{"id": "closed", "name": "Closed", "category": "done"}'),
)
"""The two that every issue of GitHub has; there is nobody to ask for them."""


def api_url_of(base_url: str) -> str:
    """Where the API of an instance is, from the address that people know it by.

    Args:
        base_url: `https://github.com`, `https://NAME.ghe.com`, or the address of a GitHub Enterprise Server.
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "").removeprefix("www.").removeprefix("api.")
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"{parts.scheme}://api.{host}"
    return f"{base_url.rstrip('/').removesuffix('/api/v3')}/api/v3"


class GitHubConnector:
    """A connection to GitHub or to one GitHub Enterprise Server; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `token`: a fine-grained or classic personal access token, or that of an app's installation.
            Options: `ca_file`, the path of certificates to trust in place of the system's.
        gate: the patience that all processes share.
    """

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        if urlsplit(spec.base_url).scheme not in {"http", "https"}:
            raise UsageError(f"{spec.base_url!r} is no address of a GitHub; it begins with https://.")
        token = spec.auth.get("token")
        if not token:
            raise UsageError(f"The connection {spec.name} has no token.")
        self._api_url = api_url_of(spec.base_url)
        verify = spec.options.get("ca_file") or True
        self._session = requests.Session()
        self._gate_key = gate_key_of(self._api_url, token)
        self._policy = mount_policy(
            self._session, base_url=self._api_url, gate=gate, gate_key=self._gate_key, verify=verify
        )
        self._session.headers.update(
            {
                "Authorization": f"Bearer {token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": API_VERSION,
                "User-Agent": "plumbline",
            }
        )
        self._headers = {name: str(value) for name, value in self._session.headers.items()}
        self._pool = ThreadPoolExecutor(FETCHERS_COUNT, thread_name_prefix="github")
        self._repositories: dict[str, _Repository] = {}

    def probe(self) -> Probe:
        """Ask the instance who it is, who we are to it, and what time it has."""
        remarks: list[str] = []
        try:
            meta = self._get(self._url("/meta"), _META)[0]
        except GoneError as error:
            raise SourceRequestError(
                f"There is no GitHub at {self._api_url}: it has no /meta.", **error.facts
            ) from error
        try:
            account = self._get(self._url("/user"), _USER)[0].login
        except ForbiddenResourceError:
            account = "an app's installation"
        repositories = None
        with suppress(ForbiddenResourceError, GoneError):
            repositories = self._list(self._url("/user/repos", per_page=1))[0]
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
        if not self._policy.has_server_time:
            with suppress(ForbiddenResourceError, GoneError):  # a refusal tells the time as well
                self._get(self._url("/rate_limit"), _OBJECT)  # the one request that is not counted
        return self._policy.server_now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The repository's full name now, wherever it has moved.

        Raises:
            GoneError: it does not exist or is hidden.
        """
        return self._repository(scope.external_key, is_asked_again=True).full_name

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time of issues and pull requests alike, or None where there are none."""
        del stream
        listed = self._issues(self._repository(scope.external_key), sort="updated", per_page=1)
        return min((row.updated_at for row, _ in listed.rows), default=None)

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
        repository = self._repository(scope.external_key)
        until = window.until or self.server_now()
        return self._pages(scope, repository, stream, window.since, until, resume_token)

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as GitHub has them now, in batches."""
        if stream == STATUSES:
            yield tuple(item.external_id for item in _STATUSES)
            return
        _refuse_unknown(stream)
        repository = self._repository(scope.external_key)
        for listed in self._by_creation(repository, None):
            names = tuple(_external_id(repository, stream, row.number) for row, _ in _of_stream(listed.rows, stream))
            if names:
                yield names

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id; what GitHub does not show is missing from the page."""
        if stream == STATUSES:
            return Page(items=tuple(item for item in _STATUSES if item.external_id in external_ids))
        _refuse_unknown(stream)
        repository = self._repository(scope.external_key)
        named = (re.fullmatch(r"(\d+)[!#](\d+)", name) for name in external_ids)
        numbers = [int(name[2]) for name in named if name and int(name[1]) == repository.id]
        calls = (partial(self._found, scope, repository, stream, number) for number in numbers)
        found = fetch_ahead(self._pool, calls, OBJECTS_AHEAD_COUNT)
        return Page(items=tuple(item for item in found if item is not None))

    def close(self) -> None:
        """Close sockets and threads; what is under way is waited for, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._session.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _url(self, path: str, **params: Any) -> str:
        return f"{self._api_url}{path}?{urlencode(params)}" if params else f"{self._api_url}{path}"

    def _get(self, url: str, decoder: msgspec.json.Decoder[T]) -> tuple[T, bytes, Mapping[str, str]]:
        """GET an absolute address; what has not changed since this process asked last comes from what it kept.

        Returns:
            What was received, decoded and as it came, and the headers.
        """
        known = _KNOWN.get(self._gate_key, url)
        headers = {**self._headers, "If-None-Match": known[0]} if known else self._headers
        answer = self._policy.get_plain(url, headers)
        if answer is None:
            answer = exchange(lambda: self._session.get(url, headers=headers))
        body, answer_headers = answer
        if known and not body:
            _, body, answer_headers = known
        try:
            value = decoded(body, decoder)
        except BadRecordError as error:
            # An answer of the wrong shape as a whole is one that was cut short or came from a proxy.
            parts = urlsplit(url)
            raise TransientSourceError(
                f"{parts.hostname} answered {parts.path} with something that cannot be read: {error.message}.",
                host=parts.hostname,
                path=parts.path,
            ) from error
        # Only now: one that cannot be read would be believed for as long as nothing changes.
        _KNOWN.keep(self._gate_key, url, body, answer_headers)
        return value, body, answer_headers

    def _list(self, url: str) -> tuple[list[msgspec.Raw], str | None]:
        """A page of a listing as received, and where the next one is."""
        rows, _, headers = self._get(url, _LIST)
        links = parse_header_links(headers.get("Link", ""))
        return rows, next((link["url"] for link in links if link.get("rel") == "next"), None)

    def _repository(self, key: str, *, is_asked_again: bool = False) -> _Repository:
        """A repository by name or id; a redirect from an old name has been followed."""
        if is_asked_again or key not in self._repositories:
            if not key.isdigit() and not _KEY.fullmatch(key):
                raise UsageError(f"{key!r} is no repository; write owner/name.")
            path = f"/repositories/{key}" if key.isdigit() else f"/repos/{key}"
            self._repositories[key] = self._get(self._url(path), _REPOSITORY)[0]
        return self._repositories[key]

    # --- walking ------------------------------------------------------------------------------------------------------

    def _pages(
        self,
        scope: ScopeSpec,
        repository: _Repository,
        stream: str,
        since: datetime | None,
        until: datetime,
        resume_token: str | None,
    ) -> Iterator[Page]:
        def calls() -> Iterator[Callable[[], Item | _Failure | _Step]]:
            for step in self._by_update(repository, since, until, resume_token):
                for row, raw in _of_stream(step.rows, stream):
                    yield partial(self._assembled, scope, repository, stream, row.number, raw)
                yield partial(_same, step)

        first_at = since
        items: list[Item] = []
        failures: list[_Failure] = []
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

    def _by_update(
        self, repository: _Repository, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[_Step]:
        """Walk issues and pull requests by update time; each version that GitHub shows comes once."""
        # From the full hour on, so that polls of one hour ask for one address, whose ETag then answers most of them.
        cursor = since and since.replace(minute=0, second=0, microsecond=0)
        if resume_token:
            cursor = datetime.fromisoformat(resume_token)
        page_number = 1
        seen: set[tuple[int, datetime]] = set()
        told: set[str] = set()

        def fresh(listed: _Listed, first: datetime | None, last: datetime) -> tuple[_Rows, list[_Failure]]:
            rows = [
                (row, raw)
                for row, raw in listed.rows
                if (row.id, row.updated_at) not in seen
                and (first is None or first <= row.updated_at)
                and row.updated_at <= last
            ]
            seen.update((row.id, row.updated_at) for row, _ in rows)
            failures = [failure for failure in listed.failures if failure[0] not in told]
            told.update(failure[0] for failure in failures)
            return rows, failures

        first = since and since.replace(microsecond=0)
        last = until + _SECOND
        while True:
            # Whether the time itself belongs to what is asked for is not documented: a second earlier, it does.
            after = {"since": _iso(cursor - _SECOND)} if cursor else {}
            listed = self._issues(repository, sort="updated", page=page_number, **after)
            times = [row.updated_at for row, _ in listed.rows]
            if listed.next_url and times and cursor and times[-1] <= cursor:
                # More than a page was updated within the two seconds at the cursor.
                for part in self._by_creation(repository, cursor - _SECOND):
                    yield _Step(*fresh(part, first, min(cursor + _SECOND, last)), cursor)
                cursor, page_number = cursor + 2 * _SECOND, 1
                continue
            yield _Step(*fresh(listed, first, last), max(times, default=cursor))
            if not listed.next_url or (times and times[-1] > until):
                return
            # A page without one readable row tells no time; then its number is all there is to go on by.
            cursor, page_number = (times[-1], 1) if times else (cursor, page_number + 1)
            seen = {(row_id, at) for row_id, at in seen if cursor and at >= cursor - _SECOND}

    def _by_creation(self, repository: _Repository, since: datetime | None) -> Iterator[_Listed]:
        """Walk what was updated since a time in the order of creation, which no update changes."""
        after = {"since": _iso(since)} if since else {}
        listed = self._issues(repository, sort="created", **after)
        yield listed
        while listed.next_url:
            listed = self._listed(repository, listed.next_url)
            yield listed

    def _issues(self, repository: _Repository, **params: Any) -> _Listed:
        wanted = {"per_page": PAGE_ROWS_COUNT, **_ALL, **params}
        if wanted.get("page") == 1:
            del wanted["page"]
        return self._listed(repository, self._url(f"/repos/{repository.full_name}/issues", **wanted))

    def _listed(self, repository: _Repository, url: str) -> _Listed:
        raws, next_url = self._list(url)
        listed = _Listed([], [], next_url)
        for raw in raws:
            try:
                listed.rows.append((decoded(bytes(raw), _ROW), raw))
            except BadRecordError as error:
                digest = hashlib.blake2b(bytes(raw), digest_size=8).hexdigest()
                listed.failures.append((f"{repository.id}#unreadable-{digest}", error.message, bytes(raw)))
        return listed

    # --- objects and their parts --------------------------------------------------------------------------------------

    def _assembled(
        self, scope: ScopeSpec, repository: _Repository, stream: str, number: int, row: msgspec.Raw
    ) -> Item | _Failure:
        """Fetch the parts of an object and join them, all as received."""
        try:
            if stream == ISSUES:
                return self._issue(scope, repository, number, row)
            return self._pull_request(scope, repository, number)
        except GoneError:
            # One object may be withdrawn between two requests; where all is hidden, this says so.
            self._repository(scope.external_key, is_asked_again=True)
            reason = "GitHub lists it and does not show it (404)."
            return _external_id(repository, stream, number), reason, bytes(row)

    def _found(self, scope: ScopeSpec, repository: _Repository, stream: str, number: int) -> Item | None:
        try:
            if stream != ISSUES:
                return self._pull_request(scope, repository, number)
            path = f"/repos/{repository.full_name}/issues/{number}"
            row, body, _ = self._get(self._url(path), _OBJECT)
        except GoneError:
            return None
        # The number of an issue that has moved to another repository leads to it there.
        is_here = bytes(row.get("repository_url", b"")).lower().endswith(f'/{repository.full_name}"'.lower().encode())
        if "pull_request" in row or not is_here:
            return None
        return self._issue(scope, repository, number, msgspec.Raw(body))

    def _issue(self, scope: ScopeSpec, repository: _Repository, number: int, row: msgspec.Raw) -> Item:
        events, is_cut = self._part(f"/repos/{repository.full_name}/issues/{number}/events")
        payload = {"repository": _named(scope, repository), "issue": row, "events": events, "truncated": is_cut}
        return Item(_external_id(repository, ISSUES, number), msgspec.json.encode(payload))

    def _pull_request(self, scope: ScopeSpec, repository: _Repository, number: int) -> Item:
        path = f"/repos/{repository.full_name}/pulls/{number}"
        counts, body, _ = self._get(self._url(path), _COUNTS)
        commits, is_commits_cut = self._part(f"{path}/commits")
        reviews, is_reviews_cut = self._part(f"{path}/reviews")
        timeline, is_timeline_cut = self._part(f"/repos/{repository.full_name}/issues/{number}/timeline")
        comments, is_comments_cut = self._part(f"{path}/comments") if counts.review_comments else ([], False)
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

    def _part(self, path: str) -> tuple[list[msgspec.Raw] | None, bool]:
        """All rows of a part, None where the token may not see it, and whether the budget cut it short."""
        rows: list[msgspec.Raw] = []
        url: str | None = self._url(path, per_page=PAGE_ROWS_COUNT)
        for _ in range(PART_PAGES_COUNT):
            try:
                more, url = self._list(url or "")
            except (ForbiddenResourceError, GoneError):
                return None, False
            rows += more
            if not url:
                return rows, False
        return rows, True


def _refuse_unknown(stream: str) -> None:
    if stream not in (MERGE_REQUESTS, ISSUES):
        raise UsageError(f"GitHub has no stream {stream!r}.")


def _external_id(repository: _Repository, stream: str, number: int) -> str:
    return f"{repository.id}{'!' if stream == MERGE_REQUESTS else '#'}{number}"


def _named(scope: ScopeSpec, repository: _Repository) -> Mapping[str, Any]:
    return {"id": repository.id, "full_name": repository.full_name, "key": scope.external_key}


def _of_stream(rows: _Rows, stream: str) -> _Rows:
    return [(row, raw) for row, raw in rows if bool(bytes(row.pull_request)) == (stream == MERGE_REQUESTS)]


def _same(step: _Step) -> _Step:
    return step


def _iso(at: datetime) -> str:
    """As GitHub writes times: UTC, whole seconds, cut off."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _ratio(first_at: datetime | None, at: datetime | None, last_at: datetime) -> float | None:
    """How much of the span is done, 0 to 1."""
    if first_at is None or at is None or first_at == last_at:
        return None
    return min(max((at - first_at) / (last_at - first_at), 0.0), 1.0)
