"""What every request to Jira has in common: paths, the light shapes that answers are taken apart by, and damage.

What belongs here: the little of an answer that fetching looks at, everything else staying bytes. What does not: which
requests a stream needs (cloud.py, data_center.py, a module for each other subject), and what the members of an object
mean (parse.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from connectors.base import Page
from connectors.http import exchange, get_bytes, post_bytes
from connectors.jira.payloads import mended_json
from models.errors import TransientSourceError

T = TypeVar("T")

PAGE_ROWS_COUNT = 100
"""Issues with histories in one answer of Data Center; larger pages are slower there."""
OVERLAP_ROWS_COUNT = 3
PAGES_AHEAD_COUNT = 4
"""How many pages are fetched before the consumer asks for them, and by how many threads."""
ID_PAGE_ROWS_COUNT = 5_000
"""The most that Cloud gives where nothing but ids is asked for; Data Center gives what its settings allow."""
BULK_ISSUES_COUNT = 100
"""The most that Cloud takes in one bulk fetch."""

NO_ID = ""
"""Stands for the id of what has none that can be read."""


class Light(msgspec.Struct, gc=False):
    """Base of what is looked at while fetching; everything else stays bytes."""


class LightFields(Light):
    """When an issue was updated."""

    updated: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class LightChangelog(Light):
    """How many histories there are, and those that are here."""

    total: int = 0
    histories: list[msgspec.Raw] = []


class LightIssue(Light):
    """What is looked at of an issue."""

    id: str | int
    fields: LightFields | None = None
    changelog: LightChangelog | None = None


class BulkIssue(Light):
    """An issue whose history comes apart from it."""

    id: str | int
    key: str
    fields: msgspec.Raw


class _Identified(Light):
    id: str | int


LIGHT_ISSUE = msgspec.json.Decoder(LightIssue)
_UPDATED = msgspec.json.Decoder(LightFields)
BULK_ISSUE = msgspec.json.Decoder(BulkIssue)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Row(msgspec.Struct, gc=False):
    """One issue of an answer."""

    external_id: str
    payload: bytes
    updated_at: datetime | None


class Rows(msgspec.Struct):
    """What one request for issues brought."""

    asked_at: datetime
    """When, by our clock, before the request: what changed since is not in it."""
    rows: list[Row] = []
    failures: list[tuple[str, str, bytes]] = []
    start: int = 0
    total: int = 0

    @property
    def end(self) -> int:
        """The position after the last of them."""
        return self.start + len(self.rows) + len(self.failures)

    def itself(self) -> Rows:
        """What is at hand, as a call among calls that fetch."""
        return self

    @property
    def external_ids(self) -> set[str]:
        """Whose ids can be read."""
        ids = {row.external_id for row in self.rows} | {external_id for external_id, _, _ in self.failures}
        return ids - {NO_ID}


Keeps = Callable[[datetime | None], bool]
"""Whether an issue that was updated then belongs to the window."""


class Deployment(Protocol):
    """What Cloud and Data Center do differently."""

    def pages(self, jql: str, fields: list[str], keeps: Keeps, resume_token: str | None) -> Iterator[Page]:
        """Whole issues, page by page."""
        ...

    def id_batches(self, jql: str) -> Iterator[tuple[str, ...]]:
        """All ids, each once."""
        ...

    def issues(self, external_ids: tuple[str, ...], fields: list[str]) -> Rows:
        """Issues with their histories. What the source does not show is in neither list."""
        ...

    def first_update(self, jql: str) -> datetime | None:
        """When the first issue of a result was updated."""
        ...

    def count(self, jql: str) -> int:
        """How many issues are found, more or less."""
        ...


class JiraApi:
    """The requests, as bytes."""

    def __init__(self, base_url: str, session: Any, pool: ThreadPoolExecutor) -> None:
        self.host = urlsplit(base_url).hostname or ""
        self.pool = pool
        self._base_url = base_url
        self._session = session

    def issue(self, external_id: str, **params: Any) -> msgspec.Raw:
        """One issue, as it is."""
        return decoded(self.get(f"issue/{quote(external_id, safe='')}", **params), RAW, self.host)

    def get_from(self, path: str, **params: Any) -> bytes:
        """Of any of its APIs, by the whole path."""
        return get_bytes(self._session, f"{self._base_url}/{path}", params)[0]

    def get(self, path: str, **params: Any) -> bytes:
        """Of the platform's API."""
        return get_bytes(self._session, f"{self._base_url}/rest/api/2/{path}", params)[0]

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        """Change something."""
        headers = {"Accept": "application/json"}
        return exchange(lambda: self._session.request(method, f"{self._base_url}/{path}", json=body, headers=headers))[
            0
        ]

    def post(self, path: str, body: Mapping[str, Any], version: int = 2) -> bytes:
        """Ask what does not fit into an address."""
        return post_bytes(self._session, f"{self._base_url}/rest/api/{version}/{path}", body)[0]


def is_whole(issue: LightIssue) -> bool:
    """Whether none of its histories is missing."""
    return issue.changelog is not None and issue.changelog.total <= len(issue.changelog.histories)


def spliced(issue: BulkIssue, histories: list[bytes]) -> bytes:
    """An issue with its history as one payload, in the shape of Data Center's search."""
    return b'{"id":%b,"key":%b,"fields":%b,"changelog":{"startAt":0,"maxResults":%d,"total":%d,"histories":[%b]}}' % (
        msgspec.json.encode(str(issue.id)),
        msgspec.json.encode(issue.key),
        bytes(issue.fields),
        len(histories),
        len(histories),
        b",".join(histories),
    )


def updated_at_of(fields: msgspec.Raw) -> datetime | None:
    """The update time among the fields of an issue; None where it cannot be read."""
    try:
        return _UPDATED.decode(fields).updated
    except ValueError:
        return None  # parse says what is wrong with it


def id_of(raw: msgspec.Raw) -> str:
    """The id of an object, or `NO_ID`."""
    try:
        return str(_IDENTIFIED.decode(raw).id)
    except ValueError:
        return NO_ID


def decoded(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], host: str) -> T:
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


def resumed(resume_token: str | None, decoder: msgspec.json.Decoder[T], anew: T) -> T:
    """What a resume token of ours holds; where there is none, or it is none of ours, how to begin anew."""
    try:
        return decoder.decode(resume_token) if resume_token else anew
    except ValueError:
        return anew


def batches(ids: tuple[str, ...], count: int) -> Iterator[tuple[str, ...]]:
    """The ids, so many at a time."""
    return (ids[start : start + count] for start in range(0, len(ids), count))
