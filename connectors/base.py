"""The contract of a connector: how the outside becomes pages of payloads, and payloads become records.

A connector is a class in `connectors/<vendor>/client.py` that implements `Connector`, streams declared in
`streams.py`, pure parsing in `parse.py`, and one line in `registry.py`. Nothing here or below it knows SQL, Celery or
how to wait: a source that asks for patience raises `RateLimitedError`, and the worker decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from models.records import Batch


class ConnectionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A configured instance, with its secrets in clear; it never leaves the process that decrypted it."""

    id: int
    kind: str
    name: str
    base_url: str
    auth: Mapping[str, str] = {}
    """`token`, and for Jira Cloud `user` (e-mail) beside it."""
    options: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"ConnectionSpec(id={self.id}, kind={self.kind!r}, name={self.name!r}, base_url={self.base_url!r})"


class ScopeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One Jira project, GitLab project or Allure source of a connection."""

    id: int
    external_key: str
    options: Mapping[str, Any] = {}


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A half-open span of update time by the vendor's clock. `since=None` reaches back to the beginning.

    `until=None` is for streams without a time axis, such as dictionaries.
    """

    since: datetime | None = None
    until: datetime | None = None


class Item(msgspec.Struct, frozen=True):
    """One object as received: its id at the source and the bytes of its JSON."""

    external_id: str
    payload: bytes


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched in one step of a window: complete objects, sub-resources included."""

    items: tuple[Item, ...]
    resume_token: str | None = None
    """Where to go on after this page, or None where the window has to be started again after a crash."""
    progress_ratio: float | None = None
    """How much of the window is done, 0 to 1, where it can be known."""
    fetched_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    """When, by our clock; of two copies with one update time the later fetched wins."""
    failures: tuple[tuple[str, str, bytes], ...] = ()
    """Objects that could not be fetched or decoded: (external id, reason, what was received)."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection test found."""

    product: str
    version: str
    account: str
    server_now: datetime
    remarks: tuple[str, ...] = ()


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of thing in a scope, and how it is collected."""

    name: str
    overlap: timedelta
    """How far behind the start of a run its watermark is set, so that late and throttled updates are seen again."""
    is_incremental: bool = True
    """False for small dictionaries that are read whole each time."""
    rests_for: timedelta = timedelta()
    """How long a stream that is read whole is left alone after that, unless it is asked for by name or in full."""
    parser_version: int = 1
    """Raised when `parse` changes what it makes of a payload; replay then knows what to promote again."""
    depends_on: tuple[str, ...] = ()
    """Streams of the same scope that are read first."""


class ParseContext(msgspec.Struct, frozen=True, kw_only=True):
    """What parsing may know beside the payload: how this connection is configured and what its fields mean."""

    options: Mapping[str, Any] = {}
    """The connection's options, the scope's laid over them."""
    field_ids: Mapping[str, str] = {}
    """Role of a custom field (see `records.Field.role`) to its id there, e.g. `sprint` to `customfield_10020`."""
    field_names: Mapping[str, str] = {}
    """Name of a custom field to its id, for the histories of old servers, which give names only. May be left empty."""


class Connector(Protocol):
    """A connection to one instance. Made in the process and thread that uses it; closed when done.

    All methods may raise `TransientSourceError`, `RateLimitedError`, `AccessDeniedError`, `ForbiddenResourceError`,
    `GoneError` and `SourceRequestError`.
    """

    def probe(self) -> Probe:
        """Ask the instance who it is, who we are to it, and what time it has."""
        ...

    def server_now(self) -> datetime:
        """The instance's own clock, aware UTC."""
        ...

    def check_scope(self, scope: ScopeSpec) -> str:
        """Return the title of the scope at the source. Raises `GoneError` where it does not exist or is hidden."""
        ...

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """The earliest update time in the stream, or None where the stream is empty."""
        ...

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """How many objects a window holds, more or less, by one cheap request; None where the source cannot say."""
        ...

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """Fetch a window page by page, complete objects only, ahead of the consumer by a small bounded number."""
        ...

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """All external ids of the stream as the source has them now, in batches; for `verify` and `reconcile`."""
        ...

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Fetch some objects of a stream by id. What the source does not show is missing from the page."""
        ...

    def close(self) -> None:
        """Close sockets and threads."""
        ...


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook says has changed. It is only a hint: how the object is now, the source is asked."""

    delivery_key: str
    """The sender's id of the delivery, the same when it is sent again."""
    event_type: str
    payload: bytes
    """The body's JSON, without what a database cannot keep."""
    stream: str | None = None
    """Of the objects; None where the event tells of nothing that is collected."""
    scope_keys: tuple[str, ...] = ()
    """What the scope may be called here, e.g. a project's id and its path; none where the event does not say."""
    external_ids: tuple[str, ...] = ()


class HookState(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook at the source, as it was found or made."""

    scope_id: int | None = None
    """None: one hook tells of all scopes of the connection."""
    external_id: str | None = None
    """Of the scope's project, where the hook tells it."""
    is_enabled: bool
    remark: str
    """In a sentence: what was done, or what is wrong and what mends it."""


class Webhooks(msgspec.Struct, frozen=True, kw_only=True):
    """How a vendor's webhooks are checked, read and registered."""

    verify: Callable[[Mapping[str, str], bytes, Sequence[str], datetime], bool]
    """`verify(headers, body, secrets, now)`: whether one of the secrets signed these very bytes. Pure."""
    hints: Callable[[Mapping[str, str], bytes], Hint]
    """`hints(headers, body)` reads a delivery whose signature is good. Pure.

    Raises `BadRecordError` where it is no delivery of this vendor; the message says why."""
    kept_headers: frozenset[str]
    """Names in lower case of the headers that are stored: no token and no signature is among them."""
    ensure: Callable[[Any, Sequence[ScopeSpec], str, str], tuple[HookState, ...]]
    """`ensure(connector, scopes, url, secret)` makes the hooks that are missing, enables those that are disabled, and
    gives all of them the secret. Twice makes no second hook."""
    check: Callable[[Any, Sequence[ScopeSpec], str], tuple[HookState, ...]]
    """`check(connector, scopes, url)` looks and changes nothing."""
    remove: Callable[[Any, Sequence[ScopeSpec], str], None]
    """`remove(connector, scopes, url)` takes them away; those that are not there are no trouble."""


BringResults = Callable[[Any, ScopeSpec, str, Path], Path | None]
"""`bring_results(connector, scope, external_id, into)`: the folder or archive with the results of one `TestLaunch`.

What is fetched is put into the folder `into`. None: they are still being written. Raises `GoneError` where they are
there no longer, and `BadRecordError` where there are none, or none that may be read.
"""


class ConnectorKind(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the registry: everything the rest of the system knows about a vendor."""

    kind: str
    streams: Mapping[str, Stream]
    """By name, in the order in which they are collected."""
    connect: Callable[[ConnectionSpec, RateGate], Connector]
    parse: Callable[[str, bytes, ParseContext], Batch]
    """`parse(stream, payload, context)` turns one staged payload into records. Pure: no request, no clock.

    Raises `BadRecordError` where the payload cannot be understood; the message says which field and why."""
    is_forge: bool = False
    """Whether a scope is a repository of code."""
    webhooks: Webhooks | None = None
    """None: it is polled only."""
    bring_results: BringResults | None = None
    """How the results of a launch of tests are brought here; None: it has none."""


Load = Literal["well", "strained", "absent", "unclear"]
"""What a request told of its host: it answered well; it showed that it has too much to do; it did not answer at all."""


class RateGate(Protocol):
    """Patience and slots shared by all processes that speak to one host with one credential."""

    def enter(self, key: str, most: int, per_second: float | None) -> None:
        """Take one of at most so many slots, and one of so many requests a second; wait for it a moment at most.

        Raises `RateLimitedError` where it would take longer, or the key is blocked.
        """
        ...

    def leave(self, key: str, load: Load) -> None:
        """Give the slot back, in the thread that took it."""
        ...

    def block(self, key: str, until: datetime, reason: str = "it asks us to wait") -> None:
        """Make `enter(key)` raise until then, in every process."""
        ...


class OpenGate:
    """A gate that lets everybody in; for one-shot commands and tests."""

    def enter(self, key: str, most: int, per_second: float | None) -> None:
        """Return at once."""

    def leave(self, key: str, load: Load) -> None:
        """Forget it."""

    def block(self, key: str, until: datetime, reason: str = "it asks us to wait") -> None:
        """Forget it."""
