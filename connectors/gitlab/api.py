"""Requests to GitLab's REST API: one page, one object, one part of an object, and what a reader of a stream is.

What belongs here: paths under a project's id, paging headers, times as GitLab writes them, rows that cannot be read.
What does not: which requests a stream needs (a module for each subject), what a status means (connectors/http.py).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from gitlab import Gitlab
from gitlab.utils import EncodedId
from requests.utils import parse_header_links

from connectors.base import Page
from connectors.decoding import decoded
from connectors.http import PolicyAdapter, exchange
from models.errors import BadRecordError, ForbiddenResourceError, GoneError, TransientSourceError

T = TypeVar("T")
RowT = TypeVar("RowT")

PAGE_ROWS_COUNT = 100
"""The most that GitLab gives."""
PART_PAGES_COUNT = 20
"""How many pages of one part of one object are read; the payload is marked as truncated beyond."""

Failures = list[tuple[str, str, bytes]]
"""External id, reason, what was received; as in `Page.failures`."""


class Project(msgspec.Struct):
    """What a request for a project must say."""

    id: int
    path_with_namespace: str = ""


LIST = msgspec.json.Decoder(list[msgspec.Raw])
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PROJECT = msgspec.json.Decoder(Project)


class Reader(Protocol):
    """Reads one stream of a project."""

    def oldest_update(self, project_id: int) -> datetime | None:
        """The earliest update time in the stream, or None where it is empty or is read in one piece."""
        ...

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """See `connectors.base.Connector.pages`."""
        ...

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """See `connectors.base.Connector.listing`."""
        ...

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """See `connectors.base.Connector.fetch`."""
        ...


class Whole(ABC):
    """Reads a stream that is small, and read whole each time."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def oldest_update(self, project_id: int) -> datetime | None:
        """None: it is read in one piece."""
        del project_id
        return None

    @abstractmethod
    def read(self, project_id: int) -> Iterator[Page]:
        """All of it."""

    def pages(
        self, project_id: int, since: datetime | None, until: datetime, resume_token: str | None
    ) -> Iterator[Page]:
        """All of it, whatever the span."""
        del since, until, resume_token
        return self.read(project_id)

    def listing(self, project_id: int) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        for page in self.read(project_id):
            yield tuple(item.external_id for item in page.items)

    def fetch(self, project_id: int, external_ids: tuple[str, ...]) -> Page:
        """Some of them, by reading all."""
        items = (item for page in self.read(project_id) for item in page.items)
        return Page(items=tuple(item for item in items if item.external_id in external_ids))


class Api:
    """The REST API of one instance.

    Args:
        gitlab: the library's client, for its way of building requests and following redirects.
        policy: mounted on its session.
        headers: what goes with every request, credentials included.
    """

    def __init__(self, gitlab: Gitlab, policy: PolicyAdapter, headers: Mapping[str, str]) -> None:
        self._gitlab = gitlab
        self._policy = policy
        self._headers = dict(headers)

    def get(self, path: str, **params: Any) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of an answer."""
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

    def manage(self, method: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Make a request that changes something; returns the body of the answer."""
        answer, _ = exchange(
            lambda: self._gitlab.http_request(
                method, path, post_data=dict(body), obey_rate_limit=False, retry_transient_errors=False, max_retries=0
            )
        )
        return answer

    def post_query(self, query: Mapping[str, Any]) -> bytes:
        """The answer to a GraphQL query, which changes nothing."""
        return self.manage("post", f"{self._gitlab.url}/api/graphql", query)

    def object(self, path: str, decoder: msgspec.json.Decoder[T], **params: Any) -> T:
        """One object in a typed shape."""
        body, _ = self.get(path, **params)
        return self.readable(path, body, decoder)

    def raw(self, path: str, **params: Any) -> msgspec.Raw:
        """One object as received."""
        body, _ = self.get(path, **params)
        return msgspec.Raw(msgspec.json.encode(self.readable(path, body, OBJECT)))

    def raw_if_shown(self, path: str, **params: Any) -> msgspec.Raw | None:
        """One object as received, or None where GitLab does not show it."""
        try:
            return self.raw(path, **params)
        except (ForbiddenResourceError, GoneError):
            return None

    def page(self, path: str, **params: Any) -> tuple[list[msgspec.Raw], bool]:
        """One page of a listing as received, and whether there is a next one."""
        body, headers = self.get(path, **params)
        rows = self.readable(path, body, LIST)
        return rows, has_next(headers, len(rows), int(params.get("per_page", PAGE_ROWS_COUNT)))

    def whole(self, path: str) -> Iterator[list[msgspec.Raw]]:
        """All pages of a listing that is too small and too quiet to move meanwhile."""
        page_number, is_more = 1, True
        while is_more:
            raws, is_more = self.page(path, per_page=PAGE_ROWS_COUNT, page=page_number)
            page_number += 1
            yield raws

    def part(self, path: str, **params: Any) -> tuple[list[msgspec.Raw] | None, bool]:
        """All rows of a part, None where GitLab does not show it, and whether the budget cut it short."""
        rows: list[msgspec.Raw] = []
        for page_number in range(1, PART_PAGES_COUNT + 1):
            try:
                more, is_more = self.page(path, per_page=PAGE_ROWS_COUNT, page=page_number, **params)
            except (ForbiddenResourceError, GoneError):
                return None, False
            rows += more
            if not is_more:
                return rows, False
        return rows, True

    def readable(self, path: str, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        """An answer in a typed shape.

        Raises:
            TransientSourceError: it has another shape as a whole: it was cut short, or came from a proxy.
        """
        try:
            shape: T = decoded(body, decoder)
        except BadRecordError as error:
            host = urlsplit(self._gitlab.url).hostname
            raise TransientSourceError(
                f"{host} answered {path} with something that cannot be read: {error.message}.", host=host, path=path
            ) from error
        return shape

    def project(self, key: str) -> Project:
        """A project by its id or path; an old path leads to it too.

        Raises:
            GoneError: it does not exist or is hidden.
        """
        return self.object(f"/projects/{EncodedId(key)}", _PROJECT)

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        if not self._policy.has_server_time:
            with suppress(ForbiddenResourceError):  # a refusal tells the time as well
                self.get("/version")
        return self._policy.server_now()


def decoded_rows(
    raws: list[msgspec.Raw], decoder: msgspec.json.Decoder[RowT], failures: Failures | None = None
) -> Iterator[tuple[RowT, msgspec.Raw]]:
    """The rows of a page that can be read; the others are added to `failures`."""
    for raw in raws:
        try:
            yield decoded(bytes(raw), decoder), raw
        except BadRecordError as error:
            if failures is not None:
                failures.append((unreadable_name(raw), error.message, bytes(raw)))


def unreadable_name(raw: msgspec.Raw) -> str:
    """What stands for the id of a row that does not tell it."""
    return f"unreadable-{hashlib.blake2b(bytes(raw), digest_size=8).hexdigest()}"


def has_next(headers: Mapping[str, str], rows_count: int, page_rows_count: int) -> bool:
    """Whether there is a next page. Totals are never asked: GitLab leaves them out beyond ten thousand rows."""
    if "X-Next-Page" in headers:
        return bool(headers["X-Next-Page"])
    if "Link" in headers:
        return next_link(headers) is not None
    return rows_count >= page_rows_count  # a proxy has taken the headers away


def next_link(headers: Mapping[str, str]) -> str | None:
    """The address of the next page, where a header names one."""
    links = parse_header_links(headers.get("Link", ""))
    return next((link["url"] for link in links if link.get("rel") == "next"), None)


def iso(at: datetime) -> str:
    """As GitLab writes times: UTC, milliseconds, cut off. Inclusive filters read the cut-off part again."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def done_ratio(first_at: datetime | None, at: datetime, last_at: datetime) -> float | None:
    """How much of the span is done, 0 to 1; either end may be the later one."""
    if first_at is None or first_at == last_at:
        return None
    return min(max((at - first_at) / (last_at - first_at), 0.0), 1.0)
