"""GitLab over REST: merge requests with all their parts, and the activity of a project, as bytes.

What belongs here: paths, parameters, paging, and how the parts of a merge request are joined into one payload. What
does not: what the fields mean (parse.py) and what a status means (connectors/http.py).

External ids. A merge request is `<project id>!<iid>`, e.g. `278964!12`: GitLab has no request by global id, an iid is
never given again, and the numeric id of a project survives renaming and moving. An event is its id.

Paging. GitLab pages merge requests by number only, and what is updated meanwhile leaves its place and moves the rest up
by one, so that a next page would skip some. Here no page number is trusted: after each page the listing begins again at
the last time seen, inclusive, and what was seen there is left out. A page that holds one instant only is read by the
time of creation, which never changes, within that instant.

Requests. Each merge request costs four requests besides its hundredth of a listing. Nothing in a row of the listing
proves that a part is empty (system notes are in no count, and closing and reopening leave no trace), so none is left
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
from gitlab import Gitlab
from gitlab.utils import EncodedId
from requests.utils import parse_header_links

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.decoding import Time, decoded
from connectors.gitlab.parse import EVENTS, MERGE_REQUESTS
from connectors.http import exchange, fetch_ahead, mount_policy
from connectors.limits import gate_key_of, limits_of
from models.errors import (
    BadRecordError,
    ForbiddenResourceError,
    GoneError,
    SourceRequestError,
    TransientSourceError,
    UsageError,
)

T = TypeVar("T")

PAGE_ROWS_COUNT = 100
"""The most that GitLab gives."""
FETCHERS_COUNT = 8
MERGE_REQUESTS_AHEAD_COUNT = 16
"""How many merge requests are fetched before the consumer asks for them."""
PART_PAGES_COUNT = 20
"""How many pages of one part of one merge request are read; the payload is marked as truncated beyond."""
IIDS_PER_REQUEST_COUNT = 50

_TICK = timedelta(milliseconds=1)
"""The resolution of GitLab's JSON; its database keeps microseconds."""
_DAYS_MARGIN = timedelta(days=2)
"""`after` and `before` of events are whole days in the server's time zone, and exclude the day they name."""
_BY_TIME = {"scope": "all", "state": "all", "sort": "asc"}


class _Row(msgspec.Struct, frozen=True, gc=False):
    """What a listing must say about a merge request."""

    id: int
    iid: int
    created_at: Time
    updated_at: Time


class _EventRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    created_at: Time


class _Payload(msgspec.Struct, gc=False):
    """A merge request with its parts as received; parse.py reads it. None: the source does not show that part."""

    merge_request: msgspec.Raw
    commits: list[msgspec.Raw] | None
    notes: list[msgspec.Raw] | None
    approvals: msgspec.Raw | None
    state_events: list[msgspec.Raw] | None
    truncated: bool


_Rows = list[tuple[_Row, msgspec.Raw]]
_Failures = list[tuple[str, str, bytes]]
"""External id, reason, what was received; as in `Page.failures`."""


class _Listed(msgspec.Struct):
    """One page of a listing."""

    rows: _Rows
    failures: _Failures
    has_next: bool


class _Step(msgspec.Struct):
    """What is new on one page of a walk, and where to go on after it."""

    rows: _Rows
    failures: _Failures
    updated_at: datetime
    created_at: datetime | None = None
    """Set inside an instant that is longer than a page."""


class _Version(msgspec.Struct):
    version: str = "unknown"


class _User(msgspec.Struct):
    username: str = "unknown"


class _Project(msgspec.Struct):
    id: int
    path_with_namespace: str = ""


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROW = msgspec.json.Decoder(_Row)
_EVENT_ROW = msgspec.json.Decoder(_EventRow)
_VERSION = msgspec.json.Decoder(_Version)
_USER = msgspec.json.Decoder(_User)
_PROJECT = msgspec.json.Decoder(_Project)


class GitLabConnector:
    """A connection to one GitLab instance; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `token`. Options: `token_type`, private (the default: personal, project and group access
            tokens) or oauth; `ca_file`, the path of certificates to trust in place of the system's.
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
        verify = spec.options.get("ca_file") or True
        self._gitlab = Gitlab(
            url=spec.base_url,
            private_token=token if kind == "private" else None,
            oauth_token=token if kind == "oauth" else None,
            ssl_verify=verify,
            user_agent="plumbline",
        )
        self._policy = mount_policy(
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
        self._headers = dict(self._gitlab.session.prepare_request(request).headers)
        self._pool = ThreadPoolExecutor(FETCHERS_COUNT, thread_name_prefix="gitlab")
        self._project_ids: dict[str, int] = {}

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
        projects = self._probed("/projects", _LIST, remarks, membership="true", per_page=1)
        if projects == []:
            remarks.append("The token's account is a member of no project.")
        return Probe(
            product="GitLab",
            version=version.version,
            account=user.username,
            server_now=self.server_now(),
            remarks=tuple(remarks),
        )

    def _probed(self, path: str, decoder: msgspec.json.Decoder[T], remarks: list[str], **params: Any) -> T | None:
        try:
            return self._object(path, decoder, **params)
        except ForbiddenResourceError as error:
            remarks.append(f"The token may not read {path}; give it the scope read_api. {error.message}")
            return None

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        if not self._policy.has_server_time:
            with suppress(ForbiddenResourceError):  # a refusal tells the time as well
                self._get("/version")
        return self._policy.server_now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The project's full path now, wherever it has moved.

        Raises:
            GoneError: it does not exist or is hidden.
        """
        return self._project(scope.external_key).path_with_namespace or scope.external_key

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time in the stream, or None where the stream is empty."""
        project_id = self._project_id(scope)
        if stream == EVENTS:
            raws, _ = self._list(f"/projects/{project_id}/events", sort="asc", per_page=1)
            times = [row.created_at for row, _ in _decoded_rows(raws, _EVENT_ROW)]
        else:
            listed = self._merge_requests(project_id, order_by="updated_at", per_page=1)
            times = [row.updated_at for row, _ in listed.rows]
        return min(times, default=None)

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, ahead of the consumer.

        Args:
            scope: its `external_key` is the numeric id of a project, or its path.
            stream: merge_requests or events.
            window: what was updated in it comes; a little more may come at its edges.
            resume_token: of the last page that is safely stored.
        """
        project_id = self._project_id(scope)
        until = window.until or self.server_now()
        if stream == EVENTS:
            return self._event_pages(project_id, window.since, until, resume_token)
        if stream == MERGE_REQUESTS:
            return self._merge_request_pages(project_id, window.since, until, resume_token)
        raise UsageError(f"GitLab has no stream {stream!r}.")

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as GitLab has them now, in batches."""
        project_id = self._project_id(scope)
        if stream == EVENTS:
            for page in self._event_pages(project_id, None, self.server_now() + _DAYS_MARGIN, None):
                yield tuple(item.external_id for item in page.items)
            return
        for rows, _, _ in self._by_creation(project_id, {"view": "simple"}, None):
            if rows:
                yield tuple(_merge_request_id(project_id, row.iid) for row, _ in rows)

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id; what GitLab does not show is missing from the page.

        GitLab has no request for a single event, so these are looked for in the whole feed.
        """
        project_id = self._project_id(scope)
        if stream == EVENTS:
            return self._events_among(project_id, frozenset(external_ids))
        iids = [iid for owner, _, iid in (name.partition("!") for name in external_ids) if owner == str(project_id)]
        rows: dict[int, msgspec.Raw] = {}
        failures: _Failures = []
        for start in range(0, len(iids), IIDS_PER_REQUEST_COUNT):
            # Through the listing, so that the rows are those of `pages`: a single merge request shows more fields.
            wanted = {"iids[]": iids[start : start + IIDS_PER_REQUEST_COUNT]}
            listed = self._merge_requests(project_id, order_by="created_at", **wanted)
            rows.update((row.iid, raw) for row, raw in listed.rows)
            failures += listed.failures
        calls = (partial(self._assembled, project_id, iid, raw) for iid, raw in rows.items())
        items = tuple(fetch_ahead(self._pool, calls, MERGE_REQUESTS_AHEAD_COUNT))
        return Page(items=items, failures=tuple(failures))

    def close(self) -> None:
        """Close sockets and threads; what is under way is waited for, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
        self._gitlab.session.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _get(self, path: str, **params: Any) -> tuple[bytes, Mapping[str, str]]:
        plain = self._policy.get_plain(f"{self._gitlab.api_url}{path}?{urlencode(params, doseq=True)}", self._headers)
        if plain is not None:
            return plain
        return exchange(
            lambda: self._gitlab.http_request(
                # Waiting and retrying are the policy's and the worker's matters.
                "get",
                path,
                query_data=params,
                obey_rate_limit=False,
                retry_transient_errors=False,
                max_retries=0,
            )
        )

    def _object(self, path: str, decoder: msgspec.json.Decoder[T], **params: Any) -> T:
        body, _ = self._get(path, **params)
        return self._readable(path, body, decoder)

    def _list(self, path: str, **params: Any) -> tuple[list[msgspec.Raw], bool]:
        """One page of a listing as received, and whether there is a next one."""
        body, headers = self._get(path, **params)
        rows = self._readable(path, body, _LIST)
        return rows, _has_next(headers, len(rows), int(params.get("per_page", PAGE_ROWS_COUNT)))

    def _readable(self, path: str, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        try:
            return decoded(body, decoder)
        except BadRecordError as error:
            # An answer of the wrong shape as a whole is one that was cut short or came from a proxy.
            host = urlsplit(self._gitlab.url).hostname
            raise TransientSourceError(
                f"{host} answered {path} with something that cannot be read: {error.message}.", host=host, path=path
            ) from error

    def _project_id(self, scope: ScopeSpec) -> int:
        key = scope.external_key
        if key.isdigit():
            return int(key)
        if key not in self._project_ids:
            self._project_ids[key] = self._project(key).id
        return self._project_ids[key]

    def _project(self, key: str) -> _Project:
        return self._object(f"/projects/{EncodedId(key)}", _PROJECT)

    # --- merge requests -----------------------------------------------------------------------------------------------

    def _merge_request_pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        def calls() -> Iterator[Callable[[], Item | _Step]]:
            for step in self._by_update(project_id, since, until, resume_token):
                for row, raw in step.rows:
                    yield partial(self._assembled, project_id, row.iid, raw)
                yield partial(_same, step)

        first_at = since
        items: list[Item] = []
        for result in fetch_ahead(self._pool, calls(), MERGE_REQUESTS_AHEAD_COUNT):
            if isinstance(result, Item):
                items.append(result)
                continue
            first_at = first_at or min((row.updated_at for row, _ in result.rows), default=None)
            if items or result.failures:
                yield Page(
                    items=tuple(items),
                    failures=tuple(result.failures),
                    resume_token=_token(result),
                    progress_ratio=_ratio(first_at, result.updated_at, until),
                )
            items = []

    def _by_update(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[_Step]:
        """Walk merge requests by update time; each version that GitLab shows comes once."""
        cursor, created_cursor = _from_token(resume_token) if resume_token else (since, None)
        # The right edge keeps what is updated meanwhile for the next window, and the listing from growing without end.
        edge = {"updated_before": _iso(until + timedelta(seconds=1))}
        is_long_instant = created_cursor is not None
        page_number = 1
        seen: set[tuple[int, datetime]] = set()
        told: set[str] = set()
        while True:
            if is_long_instant and cursor is not None:
                instant = {"updated_after": _iso(cursor), "updated_before": _iso(cursor + _TICK)}
                for rows, failures, created_at in self._by_creation(project_id, instant, created_cursor):
                    yield _Step(_fresh(rows, seen), _untold(failures, told), cursor, created_at)
                cursor, created_cursor, is_long_instant = cursor + _TICK, None, False
            after = {"updated_after": _iso(cursor)} if cursor else {}
            listed = self._merge_requests(project_id, order_by="updated_at", page=page_number, **edge, **after)
            times = [row.updated_at for row, _ in listed.rows]
            if listed.has_next and times and times[0] == times[-1]:
                cursor, is_long_instant, page_number = times[-1], True, 1
                continue
            yield _Step(_fresh(listed.rows, seen), _untold(listed.failures, told), max(times, default=cursor or until))
            if not listed.has_next:
                return
            # A page without one readable row tells no time; then its number is all there is to go on by.
            cursor, page_number = (_advanced(cursor, times), 1) if times else (cursor, page_number + 1)
            seen = {(row_id, at) for row_id, at in seen if cursor and at >= cursor}

    def _by_creation(
        self, project_id: int, filters: Mapping[str, Any], cursor: datetime | None
    ) -> Iterator[tuple[_Rows, _Failures, datetime | None]]:
        """Walk merge requests by the time of their creation, which never changes, so that nothing moves.

        Args:
            project_id: whose merge requests.
            filters: which of them.
            cursor: where to begin; None at the beginning.

        Returns:
            The new rows and failures of each page, and where to go on after it.
        """
        page_number = 1
        seen: set[tuple[int, datetime]] = set()
        told: set[str] = set()
        while True:
            after = {"created_after": _iso(cursor)} if cursor else {}
            listed = self._merge_requests(project_id, order_by="created_at", page=page_number, **filters, **after)
            times = [row.created_at for row, _ in listed.rows]
            fresh = [(row, raw) for row, raw in listed.rows if (row.id, row.created_at) not in seen]
            seen.update((row.id, row.created_at) for row, _ in fresh)
            yield fresh, _untold(listed.failures, told), max(times, default=cursor)
            if not listed.has_next:
                return
            if times and times[0] != times[-1]:
                cursor, page_number = _advanced(cursor, times), 1
                seen = {(row_id, at) for row_id, at in seen if at >= cursor}
            else:
                # More than a page was created in one instant: only its page numbers are left to go by.
                page_number += 1

    def _merge_requests(self, project_id: int, **params: Any) -> _Listed:
        path = f"/projects/{project_id}/merge_requests"
        raws, has_next = self._list(path, **{"per_page": PAGE_ROWS_COUNT, **_BY_TIME, **params})
        listed = _Listed([], [], has_next)
        for raw in raws:
            try:
                listed.rows.append((decoded(bytes(raw), _ROW), raw))
            except BadRecordError as error:
                listed.failures.append((_name_of_unreadable(project_id, raw), error.message, bytes(raw)))
        return listed

    def _assembled(self, project_id: int, iid: int, row: msgspec.Raw) -> Item:
        """Fetch the parts of a merge request and join them with its row, all as received."""
        path = f"/projects/{project_id}/merge_requests/{iid}"
        commits, is_commits_cut = self._part(f"{path}/commits")
        notes, is_notes_cut = self._part(f"{path}/notes", sort="asc", order_by="created_at")
        events, is_events_cut = self._part(f"{path}/resource_state_events")
        approvals = self._approvals(f"{path}/approvals")
        if commits is None and notes is None and events is None and approvals is None:
            # One missing part is a feature that is off; all of them may be the whole project, hidden since the listing.
            self._project(str(project_id))
        payload = _Payload(
            merge_request=row,
            commits=commits,
            notes=notes,
            approvals=approvals,
            state_events=events,
            truncated=is_commits_cut or is_notes_cut or is_events_cut,
        )
        return Item(_merge_request_id(project_id, iid), msgspec.json.encode(payload))

    def _part(self, path: str, **params: Any) -> tuple[list[msgspec.Raw] | None, bool]:
        """All rows of a part, None where GitLab does not show it, and whether the budget cut it short."""
        rows: list[msgspec.Raw] = []
        for page_number in range(1, PART_PAGES_COUNT + 1):
            try:
                more, has_next = self._list(path, per_page=PAGE_ROWS_COUNT, page=page_number, **params)
            except (ForbiddenResourceError, GoneError):
                return None, False
            rows += more
            if not has_next:
                return rows, False
        return rows, True

    def _approvals(self, path: str) -> msgspec.Raw | None:
        try:
            body, _ = self._get(path)
        except (ForbiddenResourceError, GoneError):
            return None
        return msgspec.Raw(msgspec.json.encode(self._readable(path, body, _OBJECT)))

    # --- events -------------------------------------------------------------------------------------------------------

    def _event_pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """Walk the feed from its newest end.

        GitLab deletes events when they are three years old. Read from the oldest end, that would move the rest up and
        make a next page skip some; read from the newest, new events move the rest down, and what comes twice is known.
        """
        newest_at = datetime.fromisoformat(resume_token) if resume_token else until
        params = {"sort": "desc", "per_page": PAGE_ROWS_COUNT, "before": (newest_at + _DAYS_MARGIN).date().isoformat()}
        if since:
            params["after"] = (since - _DAYS_MARGIN).date().isoformat()
        seen: set[int] = set()
        page_number, has_next, is_done = 0, True, False
        while has_next and not is_done:
            page_number += 1
            raws, has_next = self._list(f"/projects/{project_id}/events", page=page_number, **params)
            failures: _Failures = []
            rows = [
                (row, raw)
                for row, raw in _decoded_rows(raws, _EVENT_ROW, failures)
                if row.created_at <= newest_at + timedelta(seconds=1)
            ]
            inside = [(row, raw) for row, raw in rows if since is None or row.created_at >= since]
            items = tuple(Item(str(row.id), bytes(raw)) for row, raw in inside if row.id not in seen)
            seen.update(row.id for row, _ in inside)
            # The feed goes by id, and ids grow with time: after a whole page from before the window nothing is in it.
            is_done = bool(rows) and not inside
            if items or failures:
                oldest_at = min((row.created_at for row, _ in inside), default=newest_at)
                yield Page(
                    items=items,
                    failures=tuple(failures),
                    resume_token=oldest_at.isoformat(),
                    progress_ratio=_ratio(until, oldest_at, since) if since else None,
                )

    def _events_among(self, project_id: int, external_ids: frozenset[str]) -> Page:
        found: dict[str, Item] = {}
        for page in self._event_pages(project_id, None, self.server_now() + _DAYS_MARGIN, None):
            found.update((item.external_id, item) for item in page.items if item.external_id in external_ids)
            if len(found) == len(external_ids):
                break
        return Page(items=tuple(found.values()))


def _merge_request_id(project_id: int, iid: int) -> str:
    return f"{project_id}!{iid}"


def _name_of_unreadable(project_id: int, raw: msgspec.Raw) -> str:
    try:
        iid = msgspec.json.decode(raw, type=dict[str, Any])["iid"]
        return _merge_request_id(project_id, int(iid))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return f"{project_id}!unreadable-{hashlib.blake2b(bytes(raw), digest_size=8).hexdigest()}"


def _decoded_rows(
    raws: list[msgspec.Raw],
    decoder: msgspec.json.Decoder[_EventRow],
    failures: _Failures | None = None,
) -> Iterator[tuple[_EventRow, msgspec.Raw]]:
    for raw in raws:
        try:
            yield decoded(bytes(raw), decoder), raw
        except BadRecordError as error:
            if failures is not None:
                digest = hashlib.blake2b(bytes(raw), digest_size=8).hexdigest()
                failures.append((f"unreadable-{digest}", error.message, bytes(raw)))


def _fresh(rows: _Rows, seen: set[tuple[int, datetime]]) -> _Rows:
    """The rows whose version was not seen before; they are seen then."""
    fresh = [(row, raw) for row, raw in rows if (row.id, row.updated_at) not in seen]
    seen.update((row.id, row.updated_at) for row, _ in fresh)
    return fresh


def _untold(failures: _Failures, told: set[str]) -> _Failures:
    fresh = [failure for failure in failures if failure[0] not in told]
    told.update(failure[0] for failure in fresh)
    return fresh


def _advanced(cursor: datetime | None, times: list[datetime]) -> datetime:
    if cursor is not None and times[-1] <= cursor:
        raise SourceRequestError("This GitLab pays no heed to updated_after or created_after; its version is too old.")
    return times[-1]


def _same(step: _Step) -> _Step:
    return step


def _has_next(headers: Mapping[str, str], rows_count: int, page_rows_count: int) -> bool:
    """Whether there is a next page. Totals are never asked: GitLab leaves them out beyond ten thousand rows."""
    if "X-Next-Page" in headers:
        return bool(headers["X-Next-Page"])
    if "Link" in headers:
        return any(link.get("rel") == "next" for link in parse_header_links(headers["Link"]))
    return rows_count >= page_rows_count  # a proxy has taken the headers away


def _iso(at: datetime) -> str:
    """As GitLab writes times: UTC, milliseconds, cut off. Inclusive filters read the cut-off part again."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _token(step: _Step) -> str:
    return "|".join(_iso(at) for at in (step.updated_at, step.created_at) if at)


def _from_token(token: str) -> tuple[datetime, datetime | None]:
    updated, _, created = token.partition("|")
    return datetime.fromisoformat(updated), datetime.fromisoformat(created) if created else None


def _ratio(first_at: datetime | None, at: datetime, last_at: datetime) -> float | None:
    """How much of the span is done, 0 to 1; either end may be the later one."""
    if first_at is None or first_at == last_at:
        return None
    return min(max((at - first_at) / (last_at - first_at), 0.0), 1.0)
