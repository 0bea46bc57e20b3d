"""The REST API of a GitHub: one answer at a time, decoded, and asked for by ETag where it is known.

What belongs here: addresses, headers, pages and parts of any subject. What does not: which things are asked for
(client.py), and in which order (updates.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
from requests.utils import parse_header_links

from connectors.base import ConnectionSpec, RateGate
from connectors.decoding import decoded
from connectors.github.answers import KnownAnswers
from connectors.http import exchange, mount_policy
from connectors.limits import gate_key_of, limits_of
from models.errors import (
    BadRecordError,
    ForbiddenResourceError,
    GoneError,
    TransientSourceError,
    UsageError,
)

T = TypeVar("T")

API_VERSION = "2022-11-28"
"""Later versions leave out fields that are read here."""
PAGE_ROWS_COUNT = 100
"""The most that GitHub gives."""
PART_PAGES_COUNT = 20
"""How many pages of one part of one object are read; the payload is marked as truncated beyond."""

Failure = tuple[str, str, bytes]
"""External id, reason, what was received; as in `Page.failures`."""


class Repository(msgspec.Struct, frozen=True):
    """A repository as it is now."""

    id: int
    full_name: str

    @property
    def path(self) -> str:
        """Of everything that is in it."""
        return f"/repos/{self.full_name}"


OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
_REPOSITORY = msgspec.json.Decoder(Repository)

_KEY = re.compile(r"[\w.-]+/[\w.-]+")

_KNOWN = KnownAnswers()
"""Of this process, because a connector lives for one sync only."""


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


class Api:
    """The REST API of one instance; see `GitHubConnector` for its arguments."""

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        if urlsplit(spec.base_url).scheme not in {"http", "https"}:
            raise UsageError(f"{spec.base_url!r} is no address of a GitHub; it begins with https://.")
        token = spec.auth.get("token")
        if not token:
            raise UsageError(f"The connection {spec.name} has no token.")
        self.url = api_url_of(spec.base_url)
        verify = spec.options.get("ca_file") or True
        self._session = requests.Session()
        self._gate_key = gate_key_of(self.url, token)
        self._policy = mount_policy(
            self._session,
            base_url=self.url,
            gate=gate,
            gate_key=self._gate_key,
            verify=verify,
            limits=limits_of(spec.options),
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
        self._repositories: dict[str, Repository] = {}

    def close(self) -> None:
        """Close sockets."""
        self._session.close()

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        if not self._policy.has_server_time:
            with suppress(ForbiddenResourceError, GoneError):  # a refusal tells the time as well
                self.get(self.address("/rate_limit"), OBJECT)  # the one request that is not counted
        return self._policy.server_now()

    def address(self, path: str, **params: Any) -> str:
        """Of a path with its query."""
        return f"{self.url}{path}?{urlencode(params)}" if params else f"{self.url}{path}"

    def get(self, url: str, decoder: msgspec.json.Decoder[T]) -> tuple[T, bytes, Mapping[str, str]]:
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

    def manage(self, method: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Make a request that changes something; returns the body of the answer."""
        answer, _ = exchange(lambda: self._session.request(method, self.address(path), json=dict(body)))
        return answer

    def page(self, url: str) -> tuple[list[msgspec.Raw], str | None]:
        """A page of a listing as received, and where the next one is."""
        rows, _, headers = self.get(url, LIST)
        return rows, self.next_url(headers)

    def next_url(self, headers: Mapping[str, str]) -> str | None:
        """Where the next page is, or None after the last."""
        links = parse_header_links(headers.get("Link", ""))
        return next((link["url"] for link in links if link.get("rel") == "next"), None)

    def raw(self, path: str) -> msgspec.Raw:
        """One object as received."""
        _, body, _ = self.get(self.address(path), OBJECT)
        return msgspec.Raw(body)

    def part(self, path: str) -> tuple[list[msgspec.Raw] | None, bool]:
        """All rows of a part, None where the token may not see it, and whether the budget cut it short."""
        rows: list[msgspec.Raw] = []
        url: str | None = self.address(path, per_page=PAGE_ROWS_COUNT)
        for _ in range(PART_PAGES_COUNT):
            try:
                more, url = self.page(url or "")
            except (ForbiddenResourceError, GoneError):
                return None, False
            rows += more
            if not url:
                return rows, False
        return rows, True

    def repository(self, key: str, *, is_asked_again: bool = False) -> Repository:
        """A repository by name or id; a redirect from an old name has been followed."""
        if is_asked_again or key not in self._repositories:
            if not key.isdigit() and not _KEY.fullmatch(key):
                raise UsageError(f"{key!r} is no repository; write owner/name.")
            path = f"/repositories/{key}" if key.isdigit() else f"/repos/{key}"
            self._repositories[key] = self.get(self.address(path), _REPOSITORY)[0]
        return self._repositories[key]


def rows_of(
    raws: list[msgspec.Raw], decoder: msgspec.json.Decoder[T], failures: list[Failure] | None = None
) -> Iterator[tuple[T, msgspec.Raw]]:
    """The rows of a page that can be read; the others are added to `failures`."""
    for raw in raws:
        try:
            row: T = decoded(bytes(raw), decoder)
        except BadRecordError as error:
            if failures is not None:
                digest = hashlib.blake2b(bytes(raw), digest_size=8).hexdigest()
                failures.append((f"unreadable-{digest}", error.message, bytes(raw)))
        else:
            yield row, raw


def iso(at: datetime) -> str:
    """As GitHub writes times: UTC, whole seconds, cut off."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
