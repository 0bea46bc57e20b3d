"""Jira over REST, Cloud and Data Center: issues with their whole history, fields and statuses, as bytes.

What belongs here: paths, parameters, paging, and how an issue is made complete. What does not: how JQL is written
(jql.py), what the members mean (parse.py) and what an HTTP status means (connectors/http.py).

External ids. An issue is its numeric id, which survives moves; its key does not. Fields and statuses are their ids.

Cloud. A search gives ids only, up to 5,000 a page, one page after the other by token. The issues behind them are read
by the hundred, from the database rather than from the search index, which runs behind, and so are their histories;
several hundreds are under way at a time. The history is then spliced into the issue, so that it is staged in the shape
that Data Center gives.

Data Center. A search gives whole issues by position. Several pages are read at a time, each overlapping the one before
by a few rows. A page is believed only if it holds an issue that was seen before, or is the first: then nothing between
them was skipped, whatever left the result while it was read. If it does not, reading goes back until it does.

The right edge. The newest window has no right edge in its query, and what is updated beyond it while it is read is
delivered as well: with an edge, a project in which something always changes would never have that issue read, and pages
by position would move more. A window that lies in the past is cut to the millisecond on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from itertools import chain
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from jira import JIRA

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.http import exchange, fetch_ahead, get_bytes, mount_policy, post_bytes, utc_now
from connectors.jira.jql import IN_STABLE_ORDER, quoted, updated_between, with_ids
from connectors.jira.parse import ISSUE_ROLES, SYSTEM_FIELDS, field_ids_of, guessed_role, mended_json
from connectors.limits import gate_key_of, limits_of
from models.errors import GoneError, SourceRequestError, TransientSourceError, UsageError

T = TypeVar("T")

PAGE_ROWS_COUNT = 100
"""Issues with histories in one answer of Data Center; larger pages are slower there."""
OVERLAP_ROWS_COUNT = 3
PAGES_AHEAD_COUNT = 4
"""How many pages are fetched before the consumer asks for them, and by how many threads."""
ID_PAGE_ROWS_COUNT = 5_000
"""The most that Cloud gives where nothing but ids is asked for; Data Center gives what its settings allow."""
LISTINGS_COUNT = 4
"""How often the ids of a window are listed at most on Cloud, until a listing brings nothing new."""
BULK_ISSUES_COUNT = 100
"""The most that Cloud takes in one bulk fetch."""
BULK_HISTORIES_COUNT = 10_000
EMPTY_PAGES_COUNT = 20
"""How many pages in a row may be empty and still have a successor, before the server is held to be confused."""
OPEN_ENDED_WITHIN = timedelta(hours=1)
"""A window that ends within this of now has no right edge in its query."""

NO_ID = ""
"""Stands for the id of what has none that can be read."""

_DICTIONARIES = {"fields": "field", "statuses": "status"}


class _Light(msgspec.Struct, gc=False):
    """Base of what is looked at while fetching; everything else stays bytes."""


class _LightFields(_Light):
    updated: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _LightChangelog(_Light):
    total: int = 0
    histories: list[msgspec.Raw] = []


class _LightIssue(_Light):
    id: str | int
    fields: _LightFields | None = None
    changelog: _LightChangelog | None = None


class _BulkIssue(_Light):
    id: str | int
    key: str
    fields: msgspec.Raw


class _Identified(_Light):
    id: str | int


class _TokenPage(_Light, rename={"next_token": "nextPageToken", "histories": "issueChangeLogs"}):
    """One page of a resource of Cloud that goes on by token: of ids, or of histories."""

    issues: list[_LightIssue] = []
    histories: list[_IssueHistories] = []
    next_token: str | None = None


class _IssueHistories(_Light, rename={"issue_id": "issueId", "histories": "changeHistories"}):
    issue_id: str | int
    histories: list[msgspec.Raw] = []


class _IssueError(_Light, rename={"message": "errorMessage"}):
    id: str | int = ""
    message: str = "no reason given"


class _Bulk(_Light, rename={"errors": "issueErrors"}):
    issues: list[msgspec.Raw] = []
    errors: list[_IssueError] = []


class _HistoryPage(_Light):
    values: list[msgspec.Raw] = []
    total: int = 0


class _Count(_Light):
    count: int


class _SearchPage(_Light):
    total: int
    issues: list[msgspec.Raw]


class _FieldSchema(_Light):
    type: str | None = None
    custom: str | None = None


class _FieldRow(_Light):
    id: str
    name: str = ""
    schema: _FieldSchema | None = None


_LIGHT_ISSUE = msgspec.json.Decoder(_LightIssue)
_UPDATED = msgspec.json.Decoder(_LightFields)
_BULK_ISSUE = msgspec.json.Decoder(_BulkIssue)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_TOKEN_PAGE = msgspec.json.Decoder(_TokenPage)
_BULK = msgspec.json.Decoder(_Bulk)
_HISTORY_PAGE = msgspec.json.Decoder(_HistoryPage)
_COUNT = msgspec.json.Decoder(_Count)
_SEARCH_PAGE = msgspec.json.Decoder(_SearchPage)
_FIELD_ROW = msgspec.json.Decoder(_FieldRow)
_ANCHORS = msgspec.json.Decoder(tuple[str, ...])
"""Issues that were delivered last."""
_POSITION = msgspec.json.Decoder(tuple[int, tuple[str, ...]])
"""A position in the result of a search, and issues delivered that lie there."""
_RAW = msgspec.json.Decoder(msgspec.Raw)
_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class _Row(msgspec.Struct, gc=False):
    """One issue of an answer."""

    external_id: str
    payload: bytes
    updated_at: datetime | None


class _Rows(msgspec.Struct):
    """What one request for issues brought."""

    asked_at: datetime
    """When, by our clock, before the request: what changed since is not in it."""
    rows: list[_Row] = []
    failures: list[tuple[str, str, bytes]] = []
    start: int = 0
    total: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.rows) + len(self.failures)

    def itself(self) -> _Rows:
        """What is at hand, as a call among calls that fetch."""
        return self

    @property
    def external_ids(self) -> set[str]:
        ids = {row.external_id for row in self.rows} | {external_id for external_id, _, _ in self.failures}
        return ids - {NO_ID}


Keeps = Callable[[datetime | None], bool]
"""Whether an issue that was updated then belongs to the window."""


class _Deployment(Protocol):
    """What Cloud and Data Center do differently."""

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]: ...

    def id_batches(self, jql: str) -> Iterator[tuple[str, ...]]: ...

    def issues(self, external_ids: tuple[str, ...], fields: list[str]) -> _Rows: ...

    def first_update(self, jql: str) -> datetime | None: ...

    def count(self, jql: str) -> int: ...


class JiraConnector:
    """A connection to one Jira, Cloud or Data Center; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `token`, and `user` beside it where the token is used like a password (Cloud: the e-mail of
            the account; Data Center: its name); without either the instance is read anonymously. Options: `page_size`
            (rows of a page of a search, 4 to 5,000: of ids on Cloud, of whole issues on Data Center), `ca_file`
            (certificates to trust in place of the system's), `custom_fields` (role to field id) and `severity_field`
            (a field id).
        gate: the patience that all processes share.
    """

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        if urlsplit(spec.base_url).scheme not in {"http", "https"}:
            raise UsageError(f"{spec.base_url!r} is no address of a Jira; it begins with https://.")
        self._options = spec.options
        self._page_rows_count = _page_size(spec.options)
        token, user = spec.auth.get("token"), spec.auth.get("user")
        if user and not token:
            raise UsageError(f"The connection {spec.name} has a user and no token.")
        self._is_anonymous = not token
        verify = spec.options.get("ca_file") or True
        self._jira = JIRA(
            server=spec.base_url.rstrip("/"),
            options={"verify": verify},
            basic_auth=(user, token) if user and token else None,
            token_auth=token if token and not user else None,
            get_server_info=False,
            max_retries=0,
            logging=False,
        )
        session = self._jira._session  # noqa: SLF001 - the library shows its session in no other way
        self._policy = mount_policy(
            session,
            base_url=spec.base_url,
            gate=gate,
            gate_key=gate_key_of(spec.base_url, f"{user}:{token}"),
            limits=limits_of(spec.options),
            verify=verify,
        )
        self._pool = ThreadPoolExecutor(PAGES_AHEAD_COUNT, thread_name_prefix="jira")
        self._api = _Api(spec.base_url.rstrip("/"), session, self._pool)
        self._server_info: Mapping[str, Any] | None = None
        self._server_time: tuple[datetime, float] | None = None
        self._zone: tuple[tzinfo | None] | None = None
        self._role_field_ids: tuple[str, ...] | None = None

    def probe(self) -> Probe:
        """Ask the instance who it is, who we are to it, and what time it has."""
        server_now = self.server_now()
        info = self._info()
        me: Mapping[str, Any] = {} if self._is_anonymous else self._asked(self._jira.myself)
        remarks = []
        if self._is_anonymous:
            remarks.append("There is no token: only what is public is seen.")
        elif _zone_of(me) is None:
            remarks.append("The account hides its time zone: windows are searched with 26 hours of slack on each side.")
        return Probe(
            product="Jira Cloud" if _is_cloud(info) else "Jira Data Center",
            version=str(info.get("version") or "unknown"),
            account=str(me.get("displayName") or me.get("name") or "anonymous"),
            server_now=server_now,
            remarks=tuple(remarks),
        )

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC, asked anew each time."""
        self._server_info = None
        self._info()
        return self._now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The name of the project. Raises `GoneError` where it does not exist or is hidden."""
        project = self._asked(lambda: self._jira.project(quote(scope.external_key, safe="")))
        return str(getattr(project, "name", scope.external_key))

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time of a project's issues; None where there are none, and for dictionaries."""
        if stream in _DICTIONARIES:
            return None
        jql = f"project = {quoted(scope.external_key)} ORDER BY updated ASC"
        return self._of_project(scope, lambda: self._deployment().first_update(jql))

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """How many issues were updated in a window, by the whole minute; None for dictionaries."""
        if stream in _DICTIONARIES:
            return None
        zone = self._account_zone() if window.since is not None or window.until is not None else None
        jql = updated_between(scope.external_key, window.since, window.until, zone)
        return self._of_project(scope, lambda: self._deployment().count(jql))

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, complete objects only, four pages ahead of the consumer."""
        if stream in _DICTIONARIES:
            yield self._dictionary(stream)
            return
        # Three small questions at once: one after the other they would be a good part of a short window's time.
        list(self._pool.map(lambda ask: ask(), (self._info, self._account_zone, partial(self._issue_fields, scope))))
        is_past = window.until is not None and window.until <= self._now() - OPEN_ENDED_WITHIN
        until = window.until if is_past else None
        zone = self._account_zone() if window.since is not None or until is not None else None
        jql = f"{updated_between(scope.external_key, window.since, until, zone)} {IN_STABLE_ORDER}"

        def keeps(updated_at: datetime | None) -> bool:
            # What cannot be told is kept: parse says what is wrong with it.
            return updated_at is None or (
                (window.since is None or updated_at >= window.since) and (until is None or updated_at < until)
            )

        pages = self._deployment().pages(jql, self._issue_fields(scope), keeps, resume_token)
        while (page := self._of_project(scope, lambda: next(pages, None))) is not None:
            yield page

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as the source has them now, in batches."""
        if stream in _DICTIONARIES:
            yield tuple(item.external_id for item in self._dictionary(stream).items)
            return
        batches = self._deployment().id_batches(f"project = {quoted(scope.external_key)} {IN_STABLE_ORDER}")
        while (batch := self._of_project(scope, lambda: next(batches, None))) is not None:
            yield batch

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects by id, issues from whatever project they are in now. What is not shown is missing."""
        if stream in _DICTIONARIES:
            wanted = set(external_ids)
            return Page(items=tuple(item for item in self._dictionary(stream).items if item.external_id in wanted))
        if not external_ids:
            return Page(items=())
        fields, deployment = self._issue_fields(scope), self._deployment()
        calls = (partial(deployment.issues, batch, fields) for batch in _batches(external_ids, BULK_ISSUES_COUNT))
        found = list(fetch_ahead(self._pool, calls, PAGES_AHEAD_COUNT))
        return Page(
            items=tuple(Item(row.external_id, row.payload) for rows in found for row in rows.rows),
            fetched_at=min(rows.asked_at for rows in found),
            failures=tuple(failure for rows in found for failure in rows.failures),
        )

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Make a request that changes something at Jira: of all there is, only webhooks (hooks.py)."""
        return self._api.manage(method, path, body)

    def close(self) -> None:
        """Close sockets and threads; requests under way are waited for."""
        self._pool.shutdown(cancel_futures=True)
        self._jira.close()  # type: ignore[no-untyped-call]  # the library has no types here

    def _of_project(self, scope: ScopeSpec, call: Callable[[], T]) -> T:
        """Make a search. Jira refuses a query for a project that is gone or hidden; that is the project's state."""
        try:
            return call()
        except SourceRequestError as error:
            if error.facts.get("status") == 400:
                self.check_scope(scope)
            raise

    def _asked(self, call: Callable[[], T]) -> T:
        """Use a method of the library, which decodes by itself."""
        try:
            return call()
        except ValueError as error:  # requests' JSONDecodeError is one
            raise TransientSourceError(f"{self._api.host} sent JSON that breaks off or is damaged.") from error

    def _info(self) -> Mapping[str, Any]:
        if self._server_info is None:
            self._server_info = self._asked(self._jira.server_info)
            try:
                said = datetime.fromisoformat(self._server_info["serverTime"]).astimezone(UTC)
            except (KeyError, TypeError, ValueError):
                said = self._policy.server_now()  # to the second, from the answer's headers
            self._server_time = said, time.monotonic()
        return self._server_info

    def _now(self) -> datetime:
        """The instance's clock as last told, and the time since."""
        if self._server_time is None:
            return self.server_now()
        said, monotonic_seconds = self._server_time
        return said + timedelta(seconds=time.monotonic() - monotonic_seconds)

    def _account_zone(self) -> tzinfo | None:
        if self._zone is None:
            self._zone = (None if self._is_anonymous else _zone_of(self._asked(self._jira.myself)),)
        return self._zone[0]

    def _deployment(self) -> _Deployment:
        if _is_cloud(self._info()):
            return _Cloud(self._api, self._page_rows_count or ID_PAGE_ROWS_COUNT)
        return _DataCenter(self._api, self._page_rows_count or PAGE_ROWS_COUNT)

    def _dictionary(self, stream: str) -> Page:
        asked_at = utc_now()
        rows = _decoded(self._api.get(_DICTIONARIES[stream]), _RAW_LIST, self._api.host)
        if stream == "fields":
            self._role_field_ids = tuple(_role_field_ids(rows))
        items = tuple(Item(_id_of(row), bytes(row)) for row in rows)
        return Page(
            items=tuple(item for item in items if item.external_id != NO_ID),
            progress_ratio=1.0,
            fetched_at=asked_at,
            failures=tuple((NO_ID, "it has no id", item.payload) for item in items if item.external_id == NO_ID),
        )

    def _issue_fields(self, scope: ScopeSpec) -> list[str]:
        """What is asked for: what parse reads, whatever it may be called here.

        Every field that looks like a role is asked for, not only the one that has it, so that the operator may choose
        another later and replay.
        """
        if self._role_field_ids is None:
            self._dictionary("fields")
        chosen = field_ids_of({}, {**self._options, **scope.options})
        return list(dict.fromkeys((*SYSTEM_FIELDS, *(self._role_field_ids or ()), *chosen.values())))


class _Api:
    """The requests, as bytes."""

    def __init__(self, base_url: str, session: Any, pool: ThreadPoolExecutor) -> None:
        self.host = urlsplit(base_url).hostname or ""
        self.pool = pool
        self._base_url = base_url
        self._session = session

    def issue(self, external_id: str, **params: Any) -> msgspec.Raw:
        """One issue, as it is."""
        return _decoded(self.get(f"issue/{quote(external_id, safe='')}", **params), _RAW, self.host)

    def get(self, path: str, **params: Any) -> bytes:
        return get_bytes(self._session, f"{self._base_url}/rest/api/2/{path}", params)[0]

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        headers = {"Accept": "application/json"}
        return exchange(lambda: self._session.request(method, f"{self._base_url}/{path}", json=body, headers=headers))[
            0
        ]

    def post(self, path: str, body: Mapping[str, Any], version: int = 2) -> bytes:
        return post_bytes(self._session, f"{self._base_url}/rest/api/{version}/{path}", body)[0]


class _Cloud:
    """Jira Cloud: ids by token, then issues and histories in bulk."""

    def __init__(self, api: _Api, page_rows_count: int) -> None:
        self._api = api
        self._page_rows_count = page_rows_count

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]:
        anchors = _resumed(resume_token, _ANCHORS, ())
        marks: list[tuple[str, ...]] = []

        def calls() -> Iterator[Callable[[], _Rows]]:
            for ids in self.id_batches(jql, anchors):
                for batch in _batches(ids, BULK_ISSUES_COUNT):
                    marks.append(batch[-OVERLAP_ROWS_COUNT:])
                    yield partial(self.issues, batch, fields, keeps)

        for number, found in enumerate(fetch_ahead(self._api.pool, calls(), PAGES_AHEAD_COUNT)):
            yield Page(
                items=tuple(Item(row.external_id, row.payload) for row in found.rows),
                resume_token=msgspec.json.encode(marks[number]).decode(),
                fetched_at=found.asked_at,
                failures=tuple(found.failures),
            )

    def id_batches(self, jql: str, anchors: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """All ids, each once.

        One listing may miss an issue that the index loses sight of for a moment, or that moved up to an earlier page
        while another left; so it is repeated until it brings nothing new. Tokens are not kept across interruptions:
        they live for a week, where they lead after a deletion is not documented, and listing ids again is cheap.

        Args:
            jql: what to search for, in an order that no change alters.
            anchors: issues that were delivered last; what stands before them is left out. Where none of them is in the
                result any more, nothing is left out.
        """
        seen: set[str] = set()
        held: list[str] = []
        body = {"jql": jql, "fields": ["id"], "maxResults": self._page_rows_count}
        for listings_left in reversed(range(LISTINGS_COUNT)):
            known_count, token = len(seen), None
            try:
                for token, page in self._by_token("search/jql", 2, body):  # noqa: B007 - looked at below
                    ids = tuple(one for one in dict.fromkeys(str(row.id) for row in page.issues) if one not in seen)
                    seen.update(ids)
                    positions = [position for position, one in enumerate(ids) if one in anchors]
                    if anchors and not positions:
                        held.extend(ids)
                        continue
                    if anchors:
                        ids, anchors, held = ids[positions[-1] + 1 :], (), []
                    if ids:
                        yield ids
            except SourceRequestError as error:
                if token is None or not listings_left or error.facts.get("status") != 400:
                    raise
                continue  # the token has expired meanwhile
            if held:
                yield tuple(held)
            anchors, held = (), []
            if len(seen) == known_count:
                return

    def count(self, jql: str) -> int:
        return _decoded(self._api.post("search/approximate-count", {"jql": jql}, 3), _COUNT, self._api.host).count

    def first_update(self, jql: str) -> datetime | None:
        body = {"jql": jql, "fields": ["updated"], "maxResults": 1}
        for _, page in self._by_token("search/jql", 2, body):
            for issue in page.issues:
                return issue.fields.updated if issue.fields is not None else None
        return None

    def issues(self, external_ids: tuple[str, ...], fields: list[str], keeps: Keeps = lambda _: True) -> _Rows:
        """Issues with their histories. What the source does not show is in neither list."""
        body = {"issueIdsOrKeys": external_ids, "fields": fields}
        found = _Rows(asked_at=utc_now())
        bulk = _decoded(self._api.post("issue/bulkfetch", body), _BULK, self._api.host)
        raws = list(bulk.issues)
        for error in bulk.errors:
            raws.extend(self._alone(error, fields, found))
        kept: dict[str, tuple[_BulkIssue, datetime | None]] = {}
        for raw in raws:
            try:
                issue = _BULK_ISSUE.decode(raw)
            except ValueError as damage:
                found.failures.append((_id_of(raw), f"cannot be taken apart: {damage}", bytes(raw)))
                continue
            updated_at = _updated_at(issue.fields)
            if keeps(updated_at):
                kept[str(issue.id)] = issue, updated_at
        # After the issues, so that a change in between is in the history rather than missing from it.
        histories = self._histories(list(kept))
        for external_id, (issue, updated_at) in kept.items():
            payload = _spliced(issue, list(histories[external_id].values()))
            found.rows.append(_Row(external_id, payload, updated_at))
        return found

    def _alone(self, error: _IssueError, fields: list[str], found: _Rows) -> list[msgspec.Raw]:
        """An issue that the bulk fetch could not give, such as one that is too large, asked for by itself."""
        external_id = str(error.id)
        try:
            return [self._api.issue(external_id, fields=",".join(fields))]
        except GoneError:
            return []
        except SourceRequestError as refusal:
            found.failures.append((external_id, f"{error.message} ({refusal.message})", b""))
            return []

    def _histories(self, external_ids: list[str]) -> dict[str, dict[str, bytes]]:
        """All histories of some issues, each once; one issue's may be spread over the pages."""
        histories: dict[str, dict[str, bytes]] = {external_id: {} for external_id in external_ids}
        if not external_ids:
            return histories
        body = {"issueIdsOrKeys": external_ids, "maxResults": BULK_HISTORIES_COUNT}
        for _, page in self._by_token("changelog/bulkfetch", 3, body):
            for issue in page.histories:
                of_issue = histories.setdefault(str(issue.issue_id), {})
                for history in issue.histories:
                    of_issue[_id_of(history)] = bytes(history)
        return histories

    def _by_token(self, path: str, version: int, body: Mapping[str, Any]) -> Iterator[tuple[str | None, _TokenPage]]:
        """The pages of a resource, and the token of the next. A page may be short, or empty, and not the last."""
        token: str | None = None
        used: set[str] = set()
        empty_count = 0
        while True:
            asked = {**body, "nextPageToken": token} if token else body
            page = _decoded(self._api.post(path, asked, version), _TOKEN_PAGE, self._api.host)
            token = page.next_token or None
            yield token, page
            if token is None:
                return
            empty_count = 0 if page.issues or page.histories else empty_count + 1
            if token in used or empty_count >= EMPTY_PAGES_COUNT:
                raise TransientSourceError(
                    f"{self._api.host} pages {path} in a circle.", host=self._api.host, path=path
                )
            used.add(token)


class _DataCenter:
    """Jira Data Center and Server: whole issues by position, several pages at a time."""

    def __init__(self, api: _Api, page_rows_count: int) -> None:
        self._api = api
        self._page_rows_count = page_rows_count

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]:
        start, anchors = _resumed(resume_token, _POSITION, (0, ()))

        def read(at: int) -> _Rows:
            return self._read(jql, fields, self._page_rows_count, at)

        for page, new in joined_pages(read, self._api.pool, start, anchors):
            last_ids = [row.external_id for row in page.rows[-OVERLAP_ROWS_COUNT:]]
            yield Page(
                items=tuple(
                    Item(row.external_id, row.payload)
                    for row in page.rows
                    if row.external_id in new and keeps(row.updated_at)
                ),
                resume_token=msgspec.json.encode((max(0, page.end - OVERLAP_ROWS_COUNT), last_ids)).decode(),
                progress_ratio=min(1.0, page.end / page.total) if page.total else 1.0,
                fetched_at=page.asked_at,
                failures=tuple(failure for failure in page.failures if failure[0] == NO_ID or failure[0] in new),
            )

    def id_batches(self, jql: str) -> Iterator[tuple[str, ...]]:
        def read(at: int) -> _Rows:
            # Ids are light, so a page may be as large as the server's settings allow.
            return self._read(jql, None, ID_PAGE_ROWS_COUNT, at)

        for page, new in joined_pages(read, self._api.pool):
            ids = tuple(row.external_id for row in page.rows if row.external_id in new)
            if ids:
                yield ids

    def count(self, jql: str) -> int:
        return self._read(jql, None, 1, 0).total

    def first_update(self, jql: str) -> datetime | None:
        rows = self._read(jql, ["updated"], 1, 0, expand=()).rows
        return rows[0].updated_at if rows else None

    def issues(self, external_ids: tuple[str, ...], fields: list[str]) -> _Rows:
        """Issues with their histories. What the source does not show is in neither list."""
        found = _Rows(asked_at=utc_now())
        try:
            while True:
                page = self._read(with_ids(external_ids), fields, len(external_ids), found.end, is_strict=False)
                found.rows.extend(page.rows)
                found.failures.extend(page.failures)
                # A server may give fewer rows than it was asked for.
                if page.end >= page.total or page.end == page.start:
                    return found
        except SourceRequestError as error:
            if error.facts.get("status") != 400:
                raise
        # Old servers refuse the whole query where one of the issues is gone.
        found = _Rows(asked_at=utc_now())
        for external_id in external_ids:
            try:
                raw = self._api.issue(external_id, fields=",".join(fields), expand="changelog")
            except GoneError:
                continue
            self._take(raw, fields, found)
        return found

    def _read(
        self,
        jql: str,
        fields: list[str] | None,
        rows_count: int,
        start: int,
        *,
        expand: tuple[str, ...] = ("changelog",),
        is_strict: bool = True,
    ) -> _Rows:
        """One page of a search; of whole issues, or of ids where no fields are named."""
        body: dict[str, Any] = {"jql": jql, "startAt": start, "maxResults": rows_count, "fields": fields or ["id"]}
        is_whole = fields is not None and bool(expand)
        if is_whole:
            body["expand"] = expand
        if not is_strict:
            body["validateQuery"] = False
        asked_at = utc_now()
        page = _decoded(self._api.post("search", body), _SEARCH_PAGE, self._api.host)
        found = _Rows(asked_at=asked_at, start=start, total=page.total)
        for raw in page.issues:
            if is_whole:
                self._take(raw, fields or [], found)
            else:
                issue = _decoded(raw, _LIGHT_ISSUE, self._api.host)
                found.rows.append(_Row(str(issue.id), b"", issue.fields.updated if issue.fields else None))
        return found

    def _take(self, raw: msgspec.Raw, fields: list[str], found: _Rows) -> None:
        """Take an issue with its history, or what is known of why it is not whole."""
        try:
            issue = _LIGHT_ISSUE.decode(raw)
        except ValueError as damage:
            external_id = _id_of(raw)
            if external_id == NO_ID:
                found.failures.append((NO_ID, f"cannot be taken apart: {damage}", bytes(raw)))
            else:
                found.rows.append(_Row(external_id, bytes(raw), None))  # parse says what is wrong with it
            return
        external_id, updated_at = str(issue.id), issue.fields.updated if issue.fields is not None else None
        if _is_whole(issue):
            found.rows.append(_Row(external_id, bytes(raw), updated_at))
            return
        try:
            found.rows.append(_Row(external_id, self._completed(external_id, fields), updated_at))
        except (GoneError, SourceRequestError) as refusal:
            found.failures.append((external_id, f"its history is cut short; {refusal.message}", bytes(raw)))

    def _completed(self, external_id: str, fields: list[str]) -> bytes:
        """An issue whose history was cut short in the search, whole.

        Raises:
            SourceRequestError: the server gives no more.
            GoneError: neither the issue nor its history is there.
        """
        raw = self._api.issue(external_id, fields=",".join(fields), expand="changelog")
        if _is_whole(_decoded(raw, _LIGHT_ISSUE, self._api.host)):
            return bytes(raw)
        histories: list[bytes] = []
        while True:
            page = _decoded(
                self._api.get(f"issue/{external_id}/changelog", startAt=len(histories), maxResults=PAGE_ROWS_COUNT),
                _HISTORY_PAGE,
                self._api.host,
            )
            histories.extend(map(bytes, page.values))
            if len(histories) >= page.total:
                return _spliced(_decoded(raw, _BULK_ISSUE, self._api.host), histories)
            if not page.values:
                raise SourceRequestError(f"only {len(histories)} of {page.total} histories are given.")


def joined_pages(
    read: Callable[[int], _Rows], pool: Executor, start: int = 0, anchors: tuple[str, ...] = ()
) -> Iterator[tuple[_Rows, set[str]]]:
    """Page by position through a result that changes meanwhile, and miss nothing that is in it all along.

    The rows are in an order that no change alters. So if a page holds an issue that was seen, all that stands after it
    joins what was seen without a gap, even where rows have left the result or come into it.

    Args:
        read: fetches the page at a position.
        pool: runs `read` ahead of the consumer.
        start: the position to begin with.
        anchors: issues delivered earlier that stand about there; none needed at position 0.

    Returns:
        Each page, and which of its ids were not seen before.

    Raises:
        TransientSourceError: the result changes faster than it can be read.
    """
    seen = set(anchors)
    at, is_last_pass = start, bool(anchors)
    longest = reads_left = 0
    while True:
        page = first = read(at)
        # A server may give fewer rows than it was asked for, and then goes on like that.
        longest = max(longest, first.end - first.start)
        step = max(1, longest - OVERLAP_ROWS_COUNT)
        reads_left = (reads_left or 20 + 3 * (first.total // step)) - 1
        if _joins(first, seen):
            starts = range(first.end - OVERLAP_ROWS_COUNT, first.total - OVERLAP_ROWS_COUNT, step)
            calls = chain([partial(_Rows.itself, first)], (partial(read, start) for start in starts))
            for page in fetch_ahead(pool, calls, PAGES_AHEAD_COUNT):
                reads_left -= page is not first
                if not _joins(page, seen):
                    break
                new = page.external_ids - seen
                seen |= new
                yield page, new
        if not _joins(page, seen):
            at = max(0, page.start - step)
        elif page.end < page.total:
            at = max(0, page.end - OVERLAP_ROWS_COUNT)
        elif is_last_pass or len(seen) >= page.total:
            return
        else:
            # There are more issues than were seen, so some came in behind us: look once more.
            at, is_last_pass = 0, True
        if reads_left <= 0:
            raise TransientSourceError("The result of a search changes faster than it can be read.")


def _joins(page: _Rows, seen: set[str]) -> bool:
    """Whether nothing can lie between a page and what was seen."""
    return page.start == 0 or not seen.isdisjoint(page.external_ids)


def _is_whole(issue: _LightIssue) -> bool:
    return issue.changelog is not None and issue.changelog.total <= len(issue.changelog.histories)


def _spliced(issue: _BulkIssue, histories: list[bytes]) -> bytes:
    """An issue with its history as one payload, in the shape of Data Center's search."""
    return b'{"id":%b,"key":%b,"fields":%b,"changelog":{"startAt":0,"maxResults":%d,"total":%d,"histories":[%b]}}' % (
        msgspec.json.encode(str(issue.id)),
        msgspec.json.encode(issue.key),
        bytes(issue.fields),
        len(histories),
        len(histories),
        b",".join(histories),
    )


def _updated_at(fields: msgspec.Raw) -> datetime | None:
    try:
        return _UPDATED.decode(fields).updated
    except ValueError:
        return None  # parse says what is wrong with it


def _id_of(raw: msgspec.Raw) -> str:
    try:
        return str(_IDENTIFIED.decode(raw).id)
    except ValueError:
        return NO_ID


def _decoded(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], host: str) -> T:
    """Decode an answer, mended where it needs it.

    Raises:
        TransientSourceError: it is no JSON, or not what was asked for.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except ValueError:
            return decoder.decode(mended_json(bytes(body)))
    except msgspec.ValidationError as error:
        raise TransientSourceError(f"{host} answered with something else than was asked for: {error}.") from error
    except ValueError as error:
        raise TransientSourceError(f"{host} sent JSON that breaks off or is damaged: {error}.") from error


def _resumed(resume_token: str | None, decoder: msgspec.json.Decoder[T], anew: T) -> T:
    """What a resume token of ours holds; where there is none, or it is none of ours, how to begin anew."""
    try:
        return decoder.decode(resume_token) if resume_token else anew
    except ValueError:
        return anew


def _batches(ids: tuple[str, ...], count: int) -> Iterator[tuple[str, ...]]:
    return (ids[start : start + count] for start in range(0, len(ids), count))


def _is_cloud(info: Mapping[str, Any]) -> bool:
    return info.get("deploymentType") == "Cloud"


def _role_field_ids(rows: list[msgspec.Raw]) -> Iterator[str]:
    """The custom fields that look as if one of an issue's roles were theirs."""
    for raw in rows:
        try:
            row = _FIELD_ROW.decode(raw)
        except ValueError:
            continue  # a field that cannot be read is a reject of the stream of fields, and plays no role
        schema = msgspec.structs.asdict(row.schema) if row.schema is not None else {}
        if row.id.startswith("customfield_") and guessed_role(row.name, schema) in ISSUE_ROLES:
            yield row.id


def _zone_of(user: Mapping[str, Any]) -> tzinfo | None:
    """The time zone of a profile; None where it is hidden, or has a name that only Java knows."""
    try:
        return ZoneInfo(str(user.get("timeZone") or ""))
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None


def _page_size(options: Mapping[str, Any]) -> int | None:
    if "page_size" not in options:
        return None
    try:
        count = int(options["page_size"])
    except (TypeError, ValueError):
        count = 0
    if not OVERLAP_ROWS_COUNT < count <= ID_PAGE_ROWS_COUNT:
        raise UsageError(f"page_size is {options['page_size']!r}; choose a number from 4 to 5000.")
    return count
