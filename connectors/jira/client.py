"""A connection to one Jira: which scope, stream and window, and who answers for them, Cloud or Data Center.

What belongs here: the contract of a connector, the instance's clock, the account's time zone. What does not: how pages
of issues are read (cloud.py, data_center.py), how JQL is written (jql.py), what the members mean (parse.py) and what an
HTTP status means (connectors/http.py).

External ids. An issue is its numeric id, which survives moves; its key does not. Fields and statuses are their ids.

The right edge. The newest window has no right edge in its query, and what is updated beyond it while it is read is
delivered as well: with an edge, a project in which something always changes would never have that issue read, and pages
by position would move more. A window that lies in the past is cut to the millisecond on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from jira import JIRA

from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.http import fetch_ahead, mount_policy
from connectors.jira.api import (
    BULK_ISSUES_COUNT,
    ID_PAGE_ROWS_COUNT,
    OVERLAP_ROWS_COUNT,
    PAGE_ROWS_COUNT,
    PAGES_AHEAD_COUNT,
    Deployment,
    JiraApi,
    Light,
    batches,
)
from connectors.jira.cloud import Cloud
from connectors.jira.collections import STREAMS as COLLECTIONS
from connectors.jira.collections import Collections
from connectors.jira.data_center import DataCenter
from connectors.jira.fields import ISSUE_ROLES, field_ids_of, guessed_role
from connectors.jira.jql import IN_STABLE_ORDER, quoted, updated_between
from connectors.jira.parse import SYSTEM_FIELDS
from connectors.limits import gate_key_of, limits_of
from models.errors import SourceRequestError, TransientSourceError, UsageError

T = TypeVar("T")

OPEN_ENDED_WITHIN = timedelta(hours=1)
"""A window that ends within this of now has no right edge in its query."""


class _FieldSchema(Light):
    type: str | None = None
    custom: str | None = None


class _FieldRow(Light):
    id: str
    name: str = ""
    schema: _FieldSchema | None = None


_FIELD_ROW = msgspec.json.Decoder(_FieldRow)


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
        self._api = JiraApi(spec.base_url.rstrip("/"), session, self._pool)
        self._collections = Collections(self._api)
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
        if stream in COLLECTIONS:
            return None
        jql = f"project = {quoted(scope.external_key)} ORDER BY updated ASC"
        return self._of_project(scope, lambda: self._deployment().first_update(jql))

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """How many issues were updated in a window, by the whole minute; None for dictionaries."""
        if stream in COLLECTIONS:
            return None
        zone = self._account_zone() if window.since is not None or window.until is not None else None
        jql = updated_between(scope.external_key, window.since, window.until, zone)
        return self._of_project(scope, lambda: self._deployment().count(jql))

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, complete objects only, four pages ahead of the consumer."""
        if stream in COLLECTIONS:
            yield self._dictionary(scope, stream)
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
        if stream in COLLECTIONS:
            yield tuple(item.external_id for item in self._dictionary(scope, stream).items)
            return
        batches = self._deployment().id_batches(f"project = {quoted(scope.external_key)} {IN_STABLE_ORDER}")
        while (batch := self._of_project(scope, lambda: next(batches, None))) is not None:
            yield batch

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects by id, issues from whatever project they are in now. What is not shown is missing."""
        if stream in COLLECTIONS:
            return self._collections.fetch(scope, stream, external_ids)
        if not external_ids:
            return Page(items=())
        fields, deployment = self._issue_fields(scope), self._deployment()
        calls = (partial(deployment.issues, batch, fields) for batch in batches(external_ids, BULK_ISSUES_COUNT))
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

    def _deployment(self) -> Deployment:
        if _is_cloud(self._info()):
            return Cloud(self._api, self._page_rows_count or ID_PAGE_ROWS_COUNT)
        return DataCenter(self._api, self._page_rows_count or PAGE_ROWS_COUNT)

    def _dictionary(self, scope: ScopeSpec, stream: str) -> Page:
        page = self._collections.page_of(scope, stream)
        if stream == "fields":
            self._role_field_ids = tuple(_role_field_ids(item.payload for item in page.items))
        return page

    def _issue_fields(self, scope: ScopeSpec) -> list[str]:
        """What is asked for: what parse reads, whatever it may be called here.

        Every field that looks like a role is asked for, not only the one that has it, so that the operator may choose
        another later and replay.
        """
        if self._role_field_ids is None:
            self._dictionary(scope, "fields")
        chosen = field_ids_of({}, {**self._options, **scope.options})
        return list(dict.fromkeys((*SYSTEM_FIELDS, *(self._role_field_ids or ()), *chosen.values())))


def _is_cloud(info: Mapping[str, Any]) -> bool:
    return info.get("deploymentType") == "Cloud"


def _role_field_ids(rows: Iterable[bytes]) -> Iterator[str]:
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
