"""What the simulated servers share: a real HTTP server on loopback, a virtual clock, faults, a log, a control API.

The demo, the tests and the benchmarks talk to these servers through real sockets; nothing is patched. Here belongs what
is not GitLab's or Jira's own. What a vendor answers stands in `connectors/<vendor>/simulator.py`, written from the
vendor's documented behaviour and knowing nothing of the clients. docs/simulators.md lists every rule that is modelled.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import fnmatch
import math
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models.errors import UsageError

DEFAULT_NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
"""When a simulated world stands, unless told otherwise: fixed, so that two runs see the same history."""

HISTORY = timedelta(days=730)
"""How far back the generated objects reach."""

REQUESTS_KEPT_COUNT = 100_000
"""How many requests the log remembers; it counts all."""

BODY_KEPT_BYTES = 2_000
"""How much of each request's body the log keeps."""

HUMANS: Final = (  # username, name, hours of the clock from UTC
    ("amara", "Amara Okafor", 1), ("zoe.b", "Zoë Brügger", 2), ("xiaolong", "李小龙", 8), ("orjan", "Ørjan Ås", 1),
    ("priya", "Priya Raghunathan", 5), ("tnunez", "Tomás Núñez", -3), ("jana", "Jana Nováková", 1),
    ("loneill", "Liam O'Neill", 0), ("maria.i", "Мария Иванова", 3), ("kmensah", "Kwame Mensah", 0),
    ("sofia", "Sofia Rossi", 1), ("hiroshi", "Hiroshi Tanaka", 9), ("elif", "Elif Şahin", 3),
    ("noah", "Noah Schmidt", 1), ("aicha", "Aïcha Benali", 1), ("vszabo", "Viktor Szabó", 1), ("grace", "Grace Kim", 9),
    ("mateus", "Mateus Silva", -3), ("ingrid", "Ingrid Dahl", 1), ("omar", "Omar Haddad", 2),
    ("chloe", "Chloé Martin", 1), ("dcohen", "Daniel Cohen", 2), ("hoa", "Nguyễn Thị Hoa", 7),
    ("sam", "Sam Taylor", -7),
)  # fmt: skip
"""The same people work in every simulated system, so that one person can be seen under several accounts."""

_TRANSPORT = "plumbline.transport"


def dice(seed: int, *names: object) -> random.Random:
    """Random numbers that depend on the seed and the names only, so that each part of a world has its own."""
    return random.Random(f"{seed}:{':'.join(map(str, names))}")  # noqa: S311 - repeatable worlds, no secrets


# --- clock ------------------------------------------------------------------------------------------------------------


class VirtualClock:
    """The simulated server's clock: it stands still until advanced, or runs on from where it was set."""

    def __init__(self, now: datetime, *, is_running: bool = False) -> None:
        self._now = now.astimezone(UTC)
        self._is_running = is_running
        self._started_seconds = time.monotonic()

    def now(self) -> datetime:
        """The server's time, aware UTC."""
        if self._is_running:
            return self._now + timedelta(seconds=time.monotonic() - self._started_seconds)
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move the clock on (or back, with a negative span) and return the new time."""
        self._now += by
        return self.now()


def working_times(now: datetime, count: int, rng: random.Random, span: timedelta = HISTORY) -> list[datetime]:
    """Ascending times in working hours (Monday to Friday, 07:00 to 18:00 UTC) spread over the span before now.

    Args:
        now: nothing lies after it.
        count: how many; none gives an empty list.
        rng: where within its share of the span each time falls, to the microsecond.
        span: how far back to go.
    """
    open_seconds = 11 * 3600
    first = (now - span).date()
    days = [day for day in (first + timedelta(days=n) for n in range(span.days)) if day.weekday() < 5]
    total_seconds = len(days) * open_seconds
    times = []
    for position in range(count):
        at_seconds = total_seconds * (position + rng.random()) / count
        day, second = divmod(at_seconds, open_seconds)
        start = datetime.combine(days[min(int(day), len(days) - 1)], datetime.min.time(), UTC)
        times.append(start + timedelta(hours=7, seconds=second))
    return times


# --- faults -----------------------------------------------------------------------------------------------------------

_FAULT_STATUSES = frozenset({400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504, 520, 522, 524})
_FAULT_KINDS = frozenset({"truncate", "html", "reset", "slow", "redirect"})
_FAULT_OPTIONS = frozenset({"retry-after", "path", "method", "after", "seconds", "to"})


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of trouble, and for which requests."""

    kind: str
    """`status`, `truncate`, `html`, `reset`, `slow` or `redirect`."""
    status: int = 200
    ratio: float = 1.0
    """Share of the matching requests, drawn with the simulator's seed."""
    count: int | None = None
    """At most so often; None is without end."""
    after: int = 0
    """Only once so many requests have matched; `401` with it is a token that expires."""
    path: str = "*"
    """Shell pattern on the path as sent."""
    method: str = "*"
    retry_after: str | None = None
    """Seconds, or `date` for an HTTP-date, or None for no header."""
    seconds: float = 1.0
    """How long `slow` waits before it answers."""
    to: str = "same"
    """`same` or `other` host for `redirect`."""


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Faults in the order in which they are tried; the first that strikes is the request's."""

    faults: tuple[Fault, ...] = ()


def parse_faults(spec: str) -> FaultPlan:
    """Read a plan such as `429:0.02:retry-after=1,500:0.05,401:1:after=100,reset:3x:path=*/notes*`.

    Args:
        spec: comma-separated `KIND:AMOUNT[:OPTION=VALUE]…`. KIND is an HTTP status or truncate, html, reset, slow,
            redirect. AMOUNT is a share from 0 to 1, or `3x` for the next three matching requests. Options: retry-after
            (seconds or `date`), path and method (which requests), after (how many matching ones first), seconds (of
            slow), to (`same` or `other` host, of redirect). Empty is no faults.

    Raises:
        UsageError: the plan makes no sense; the message names the part.
    """
    return FaultPlan(faults=tuple(_parse_fault(part.strip()) for part in spec.split(",") if part.strip()))


def _parse_fault(part: str) -> Fault:
    kind, *rest = part.split(":")
    if not rest:
        raise UsageError(f"The fault {part!r} names no amount; write for example {kind}:0.05 or {kind}:3x.")
    facts: dict[str, Any] = _fault_kind(kind, part) | _fault_amount(rest[0], part)
    for option in rest[1:]:
        name, separator, value = option.partition("=")
        if name not in _FAULT_OPTIONS or not separator or not value:
            known = ", ".join(sorted(_FAULT_OPTIONS))
            raise UsageError(f"The fault {part!r} has the option {option!r}; options are NAME=VALUE with {known}.")
        facts[name.replace("-", "_")] = _fault_option(name, value, part)
    return Fault(**facts)


def _fault_kind(kind: str, part: str) -> dict[str, Any]:
    if kind in _FAULT_KINDS:
        return {"kind": kind}
    if kind.isascii() and kind.isdigit() and int(kind) in _FAULT_STATUSES:
        return {"kind": "status", "status": int(kind)}
    known = ", ".join([*map(str, sorted(_FAULT_STATUSES)), *sorted(_FAULT_KINDS)])
    raise UsageError(f"The fault {part!r} is of an unknown kind; choose one of {known}.")


def _fault_amount(amount: str, part: str) -> dict[str, Any]:
    if amount.endswith("x") and amount[:-1].isascii() and amount[:-1].isdigit():
        return {"count": int(amount[:-1])}
    try:
        ratio = float(amount)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise UsageError(f"The fault {part!r} has the amount {amount!r}; write a share from 0 to 1, or 3x for a count.")
    return {"ratio": ratio}


def _fault_option(name: str, value: str, part: str) -> str | int | float:
    try:
        if name == "after":
            return int(value)
        if name == "seconds":
            return float(value)
        if name == "retry-after" and value != "date":
            return str(int(value))
    except ValueError:
        raise UsageError(f"The fault {part!r} has no number in {name}={value}.") from None
    if name == "to" and value not in {"same", "other"}:
        raise UsageError(f"The fault {part!r} can redirect to the same or to the other host, not to {value!r}.")
    return value


class _FaultDice:
    """A plan at work: which request is struck by what."""

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self.plan = plan
        self._rng = dice(seed, "faults")
        self._matched = [0] * len(plan.faults)
        self._struck = [0] * len(plan.faults)

    def draw(self, method: str, path: str) -> Fault | None:
        for position, fault in enumerate(self.plan.faults):
            if fault.method not in ("*", method) or not fnmatch.fnmatchcase(path, fault.path):
                continue
            self._matched[position] += 1
            if self._matched[position] <= fault.after:
                continue
            if fault.count is not None and self._struck[position] >= fault.count:
                continue
            if fault.ratio < 1 and self._rng.random() >= fault.ratio:
                continue
            self._struck[position] += 1
            return fault
        return None


# --- requests and answers ---------------------------------------------------------------------------------------------

_SECRET_HEADERS = frozenset({b"authorization", b"private-token", b"job-token", b"cookie"})


class Request:
    """One request as a handler sees it."""

    __slots__ = ("body", "captured", "headers", "host", "method", "path", "query", "query_string")

    def __init__(self, scope: Scope, body: bytes) -> None:
        self.method: str = scope["method"]
        self.path = scope["raw_path"].decode("ascii")
        """As sent: an encoded slash stays encoded."""
        self.query_string: str = scope["query_string"].decode("ascii", "replace")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.host = self.headers.get(b"host", b"127.0.0.1").decode("ascii", "replace")
        self.body = body
        self.query: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query_string, keep_blank_values=True):
            self.query.setdefault(name, []).append(value)
        self.captured: list[str] = []

    @property
    def base_url(self) -> str:
        """Where the client found us, without a slash at the end."""
        return f"http://{self.host}"

    def last(self, name: str, default: str | None = None) -> str | None:
        """The value of a query parameter; of a repeated one the last, as most servers take it."""
        values = self.query.get(name)
        return values[-1] if values else default

    def credentials(self) -> tuple[str, str] | None:
        """The scheme in lower case and what it carries; None without an Authorization header."""
        scheme, _, value = self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return (scheme.lower(), value.strip()) if scheme else None

    def basic_credentials(self) -> tuple[str, str] | None:
        """User and password of basic authentication; None where there is none or it cannot be read."""
        credentials = self.credentials()
        if credentials is None or credentials[0] != "basic":
            return None
        try:
            user, _, password = base64.b64decode(credentials[1], validate=True).decode().partition(":")
        except ValueError:
            return None
        return user, password


class Answer(NamedTuple):
    """What a handler gives back."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    content_type: bytes = b"application/json"


class RefusalError(Exception):
    """A handler's way to answer from deeper down."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(value: object, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Any value that msgspec can encode, as JSON."""
    return Answer(status, msgspec.json.encode(value), headers)


class Exchange(msgspec.Struct):
    """One line of the request log; credentials are not kept, only whether there were any."""

    number: int
    method: str
    path: str
    query_string: str
    host: str
    has_credentials: bool
    headers: dict[str, str]
    body: str
    """The beginning of what was sent."""
    status: int = 0
    fault: str | None = None

    @property
    def params(self) -> dict[str, str]:
        """The query parameters; of a repeated one the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


class RequestLog:
    """What clients asked for, in order of arrival."""

    def __init__(self) -> None:
        self.entries: deque[Exchange] = deque(maxlen=REQUESTS_KEPT_COUNT)
        self.unknown: list[str] = []
        """`METHOD path` of every request for an endpoint that is not simulated; a test should end with none."""
        self.rejected: list[str] = []
        """`METHOD path?query` of every request refused for a parameter that the endpoint does not know."""
        self.count = 0
        self.in_flight = 0
        self.concurrency_high_water = 0
        self._headers: dict[tuple[tuple[bytes, bytes], ...], dict[str, str]] = {}

    def __iter__(self) -> Iterator[Exchange]:
        return iter(list(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, position: int) -> Exchange:
        return self.entries[position]

    def matching(self, path: str, method: str = "*") -> list[Exchange]:
        """The requests whose path matches a shell pattern."""
        return [entry for entry in self if fnmatch.fnmatchcase(entry.path, path) and method in ("*", entry.method)]

    def clear(self) -> None:
        """Forget all requests; those in flight stay counted."""
        self.entries.clear()
        self.unknown.clear()
        self.rejected.clear()
        self.count = 0
        self.concurrency_high_water = self.in_flight

    def begin(self, request: Request) -> Exchange:
        """Note the arrival of a request."""
        self.count += 1
        self.in_flight += 1
        self.concurrency_high_water = max(self.concurrency_high_water, self.in_flight)
        entry = Exchange(
            self.count,
            request.method,
            request.path,
            request.query_string,
            request.host,
            not _SECRET_HEADERS.isdisjoint(request.headers),
            self._shown(request.headers),
            request.body[:BODY_KEPT_BYTES].decode("utf-8", "replace"),
        )
        self.entries.append(entry)
        return entry

    def _shown(self, headers: dict[bytes, bytes]) -> dict[str, str]:
        # A client sends the same headers again and again: one copy serves all its requests.
        key = tuple(headers.items())
        if key not in self._headers:
            self._headers[key] = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in headers.items()
                if name not in _SECRET_HEADERS
            }
        return self._headers[key]

    def end(self, entry: Exchange, status: int) -> None:
        """Note how a request was answered."""
        entry.status = status
        self.in_flight -= 1


Handler = Callable[[Request], Answer]


class Route(NamedTuple):
    """One endpoint. A path segment in braces is captured, decoded, in order."""

    method: str
    path: str
    handler: Handler
    params: frozenset[str] = frozenset()
    is_listing: bool = False
    """Whether it is what a client pages through: mutations run between the pages of these."""
    is_open: bool = False
    """Whether it needs no credentials."""


class Routes:
    """Finds the endpoint of a path by its segments as sent, so that `group%2Fproject` stays one segment.

    Starlette's own router decodes the path before it matches, which GitLab's encoded project paths do not survive.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, list[tuple[list[str], Route]]] = {}
        for route in routes:
            segments = route.path.split("/")
            self._by_length.setdefault(len(segments), []).append((segments, route))
        for known in self._by_length.values():
            # What is named beats what is captured: /project/search is no project.
            known.sort(key=lambda pair: sum(segment[:1] == "{" for segment in pair[0]))

    def find(self, method: str, path: str) -> tuple[Route | None, list[str], bool]:
        """The route, what it captured, and whether the path at least is known under another method."""
        segments = path.split("/")
        is_path_known = False
        for pattern, route in self._by_length.get(len(segments), ()):
            captured = []
            for wanted, given in zip(pattern, segments, strict=True):
                if wanted[:1] == "{":
                    captured.append(given)
                elif wanted != given:
                    break
            else:
                if route.method == method:
                    return route, [unquote(value) for value in captured], True
                is_path_known = True
        return None, [], is_path_known


class TokenBucket:
    """A rate limit in real time, as the servers have it: so many at once, refilled steadily."""

    def __init__(self, capacity: int, refill_seconds: float) -> None:
        self.capacity = capacity
        self.refill_seconds = refill_seconds
        """In how many seconds an empty bucket is full again."""
        self._left = float(capacity)
        self._at_seconds = time.monotonic()

    def take(self) -> tuple[int, int]:
        """Take one: how many are left, and how many whole seconds to wait where there was none (else 0)."""
        now_seconds = time.monotonic()
        rate = self.capacity / self.refill_seconds
        self._left = min(self.capacity, self._left + (now_seconds - self._at_seconds) * rate)
        self._at_seconds = now_seconds
        if self._left < 1:
            return 0, max(1, math.ceil((1 - self._left) / rate))
        self._left -= 1
        return int(self._left), 0


class TimeIndex:
    """Ids in the order of a time, then the id. Kept sorted by insertion, so that a page is a slice."""

    def __init__(self, keys: Iterable[tuple[datetime, int]] = ()) -> None:
        self.keys: list[tuple[datetime, int]] = sorted(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, at: datetime, key: int) -> None:
        """Put an id at its time."""
        bisect.insort(self.keys, (at, key))

    def discard(self, at: datetime, key: int) -> None:
        """Take an id out; nothing happens where it is not there."""
        position = bisect.bisect_left(self.keys, (at, key))
        if position < len(self.keys) and self.keys[position] == (at, key):
            del self.keys[position]

    def first_from(self, at: datetime) -> int:
        """The position of the first id at that time or later."""
        return bisect.bisect_left(self.keys, (at, 0))

    def first_after(self, at: datetime) -> int:
        """The position of the first id later than that time."""
        return bisect.bisect_left(self.keys, (at + timedelta(microseconds=1), 0))


# --- the server -------------------------------------------------------------------------------------------------------


class Simulator:
    """A simulated vendor: routes over a model that tests change as its users would.

    Handlers and changes take turns under one lock, so a model may be changed from any thread while it is served.
    """

    changes: ClassVar[frozenset[str]] = frozenset()
    """Names of the methods that the control API may call."""

    def __init__(
        self,
        *,
        seed: int,
        now: datetime,
        is_clock_running: bool,
        latency_ms: float,
        latency_p99_ms: float | None,
        faults: str,
        is_strict: bool,
    ) -> None:
        if latency_ms < 0 or (latency_p99_ms is not None and not 0 < latency_ms <= latency_p99_ms):
            raise UsageError("Latency is 0 or more milliseconds; with a 99th percentile, more than 0 and not above it.")
        self.seed = seed
        self.clock = VirtualClock(now, is_running=is_clock_running)
        self.requests = RequestLog()
        self.lock = threading.RLock()
        self.is_strict = is_strict
        """Whether a query parameter that an endpoint does not know is refused with 400."""
        self._latency_ms = latency_ms
        self._latency_sigma = math.log(latency_p99_ms / latency_ms) / 2.326 if latency_p99_ms else 0.0
        self._latency_rng = dice(seed, "latency")
        self._mutation_rng = dice(seed, "mutations")
        self._faults = _FaultDice(parse_faults(faults), seed)
        self._callbacks: list[Callable[[Exchange], None]] = []
        self._schedule: tuple[int, int] | None = None
        self._schedule_left: int | None = None
        self._listings_seen_count = 0
        self._date = (0.0, b"")
        self._routes = Routes([*self._control_routes(), *self.routes()])

    # What a vendor brings.

    def routes(self) -> Iterable[Route]:
        """The endpoints."""
        raise NotImplementedError

    def refuse_credentials(self, request: Request) -> Answer | None:
        """The answer to wrong or missing credentials; None where they are right."""
        raise NotImplementedError

    def error(self, status: int, message: str | None = None) -> Answer:
        """An error as the vendor words it."""
        raise NotImplementedError

    def rate_limited(self, retry_after: str | None) -> Answer:
        """The vendor's 429, with that Retry-After or none."""
        raise NotImplementedError

    def extra_headers(self, request: Request) -> Answer | Sequence[tuple[bytes, bytes]]:
        """Headers that stand on every answer, or the refusal where a rate limit is used up."""
        del request
        return ()

    def mutate_once(self, rng: random.Random) -> str:
        """Change something as a user would, and return what was changed."""
        raise NotImplementedError

    def expected(self) -> list[Any]:
        """What a complete sync must hold."""
        raise NotImplementedError

    def warm(self) -> None:
        """Render everything once, so that a benchmark measures its client and not this."""
        raise NotImplementedError

    # What tests use.

    def on_request(self, callback: Callable[[Exchange], None]) -> None:
        """Call back before each request is handled; the callback may change the model, whatever the thread."""
        self._callbacks.append(callback)

    def mutate(self, updates: int = 1) -> list[str]:
        """Make so many changes, each a little later than the one before, and return what was changed."""
        with self.lock:
            changed = []
            for _ in range(updates):
                self.clock.advance(timedelta(microseconds=self._mutation_rng.randrange(20_000, 400_000)))
                changed.append(self.mutate_once(self._mutation_rng))
            return changed

    def mutate_every(self, *, requests: int, updates: int, rounds: int | None = None) -> None:
        """Make changes between the pages of listings: so many after every so many listing requests.

        Args:
            requests: after how many successful listing requests, counted from now; 0 stops.
            updates: how many changes each time.
            rounds: how many times; None is without end.
        """
        with self.lock:
            self._schedule = (requests, updates) if requests else None
            self._schedule_left = rounds
            self._listings_seen_count = 0

    def set_faults(self, spec: str) -> None:
        """Replace the faults (see `parse_faults`); an empty plan ends them."""
        plan = parse_faults(spec)
        with self.lock:
            self._faults = _FaultDice(plan, self.seed)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[RunningServer]:
        """Serve on loopback from a thread of its own until the block ends.

        Args:
            port: 0 takes a free one.
        """
        listener = socket.create_server(("127.0.0.1", port), backlog=512)
        bound_port = listener.getsockname()[1]
        server = _Server(_server_config(self.app, bound_port), listener)
        thread = threading.Thread(target=server.run, name=f"simulator-{bound_port}", daemon=True)
        thread.start()
        try:
            yield RunningServer(f"http://127.0.0.1:{bound_port}", bound_port)
        finally:
            server.stop()
            thread.join()

    # How a request goes.

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        request = Request(scope, await _read_body(scope, receive))
        if request.path.startswith("/__sim/"):
            with self.lock:
                answer = self._handle(request)
            await _send(send, answer, [])
            return
        entry = self.requests.begin(request)
        status = 0
        try:
            await self._wait(self._latency_seconds())
            with self.lock:
                for callback in self._callbacks:
                    callback(entry)
                fault = self._faults.draw(request.method, request.path)
                answer = self._handle(request) if fault is None else self._struck(request, fault)
                self._follow_schedule(request, answer)
            status = answer.status
            headers = [(b"date", self._date_header())]
            if fault is not None:
                entry.fault = fault.kind if fault.kind != "status" else str(fault.status)
                if fault.kind == "slow":
                    await self._wait(fault.seconds)
                if fault.kind == "reset":
                    await _reset(scope, receive, send, answer, headers)
                    return
            await _send(send, answer, headers)
        except asyncio.CancelledError:
            # The server stops, and the connection is closed already: nobody waits for this answer.
            return
        finally:
            self.requests.end(entry, status)

    def _handle(self, request: Request) -> Answer:
        route, request.captured, is_path_known = self._routes.find(request.method, request.path)
        if route is not None and route.path.startswith("/__sim/"):
            return route.handler(request)
        extra = self.extra_headers(request)
        if isinstance(extra, Answer):
            return extra
        if route is None:
            self.requests.unknown.append(f"{request.method} {request.path}")
            answer = self.error(405 if is_path_known else 404)
        elif not route.is_open and (refusal := self.refuse_credentials(request)) is not None:
            answer = refusal
        elif self.is_strict and not (request.query.keys() <= route.params):
            unknown = ", ".join(sorted(request.query.keys() - route.params))
            self.requests.rejected.append(f"{request.method} {request.path}?{request.query_string}")
            answer = self.error(400, f"unknown query parameter: {unknown}")
        else:
            try:
                answer = route.handler(request)
            except RefusalError as refused:
                answer = refused.answer
        return answer._replace(headers=[*answer.headers, *extra]) if extra else answer

    def _struck(self, request: Request, fault: Fault) -> Answer:
        if fault.kind == "status":
            return self._fault_status(fault)
        if fault.kind == "html":
            page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
            return Answer(200, page, content_type=b"text/html; charset=utf-8")
        if fault.kind == "redirect":
            host = request.host if fault.to == "same" else request.host.replace("127.0.0.1", "localhost")
            query = f"?{request.query_string}" if request.query_string else ""
            return Answer(307, b"", [(b"location", f"http://{host}{request.path}{query}".encode())])
        answer = self._handle(request)
        if fault.kind == "truncate":
            return answer._replace(body=answer.body[: max(1, len(answer.body) // 2)])
        return answer

    def _fault_status(self, fault: Fault) -> Answer:
        retry_after = self._retry_after(fault.retry_after)
        if fault.status == 429:
            return self.rate_limited(retry_after)
        if fault.status < 500:
            return self.error(fault.status)
        page = f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>"
        headers = [(b"retry-after", retry_after.encode())] if retry_after else []
        return Answer(fault.status, page.encode(), headers, b"text/html; charset=utf-8")

    def _retry_after(self, wanted: str | None) -> str | None:
        if wanted == "date":
            return format_datetime(self.clock.now() + timedelta(seconds=1), usegmt=True)
        return wanted

    def _follow_schedule(self, request: Request, answer: Answer) -> None:
        if self._schedule is None or answer.status != 200:
            return
        route, _, _ = self._routes.find(request.method, request.path)
        if route is None or not route.is_listing:
            return
        requests, updates = self._schedule
        self._listings_seen_count += 1
        if self._listings_seen_count % requests or self._schedule_left == 0:
            return
        if self._schedule_left is not None:
            self._schedule_left -= 1
        self.mutate(updates)

    def _latency_seconds(self) -> float:
        if not self._latency_sigma:
            return self._latency_ms / 1000
        return self._latency_ms * math.exp(self._latency_rng.gauss(0, self._latency_sigma)) / 1000

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _date_header(self) -> bytes:
        now = self.clock.now()
        second = now.timestamp() // 1
        if self._date[0] != second:
            self._date = (second, format_datetime(now, usegmt=True).encode())
        return self._date[1]

    # The control API: what another process drives a simulator with.

    def _control_routes(self) -> list[Route]:
        return [
            Route("GET", "/__sim/requests", self._control_requests),
            Route("POST", "/__sim/requests/clear", self._control_clear),
            Route("GET", "/__sim/clock", self._control_clock),
            Route("POST", "/__sim/clock", self._control_clock),
            Route("POST", "/__sim/mutate", self._control_mutate),
            Route("POST", "/__sim/faults", self._control_faults),
            Route("GET", "/__sim/expected", self._control_expected),
        ]

    def _control_requests(self, request: Request) -> Answer:
        del request
        return json_answer(
            {
                "count": self.requests.count,
                "concurrency_high_water": self.requests.concurrency_high_water,
                "unknown": self.requests.unknown,
                "rejected": self.requests.rejected,
                "requests": list(self.requests),
            }
        )

    def _control_clear(self, request: Request) -> Answer:
        del request
        self.requests.clear()
        return json_answer({})

    def _control_clock(self, request: Request) -> Answer:
        if request.method == "POST":
            self.clock.advance(timedelta(seconds=float(_control_json(request)["advance_seconds"])))
        return json_answer({"now": self.clock.now()})

    def _control_mutate(self, request: Request) -> Answer:
        wanted = _control_json(request)
        if "every_requests" in wanted:
            self.mutate_every(
                requests=wanted["every_requests"], updates=wanted.get("updates", 1), rounds=wanted.get("rounds")
            )
            return json_answer({})
        if "change" in wanted:
            if wanted["change"] not in self.changes:
                return json_answer({"error": f"changes are {', '.join(sorted(self.changes))}"}, 400)
            getattr(self, wanted["change"])(*wanted.get("arguments", []), **wanted.get("options", {}))
            return json_answer({})
        return json_answer({"changed": self.mutate(wanted.get("updates", 1))})

    def _control_faults(self, request: Request) -> Answer:
        try:
            self.set_faults(_control_json(request)["spec"])
        except UsageError as error:
            return json_answer({"error": error.message}, 400)
        return json_answer({})

    def _control_expected(self, request: Request) -> Answer:
        del request
        return json_answer(self.expected())


class RunningServer(NamedTuple):
    """Where a simulator is served."""

    base_url: str
    """Without a slash at the end."""
    port: int


class Servable(Protocol):
    """What `run` needs of a simulator."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""


def run(simulator: Servable, port: int) -> None:
    """Serve on loopback until the process is told to stop (SIGINT, SIGTERM). Prints nothing.

    Args:
        simulator: what to serve.
        port: 0 takes a free one, which nobody is told.
    """
    config = _server_config(simulator.app, port)
    config.host, config.port = "127.0.0.1", port
    uvicorn.Server(config).run()


def _control_json(request: Request) -> Mapping[str, Any]:
    return msgspec.json.decode(request.body or b"{}", type=dict[str, Any])


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    if scope["method"] == "GET":
        return b""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _head(answer: Answer, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            *headers,
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            *answer.headers,
        ],
    }


async def _send(send: Send, answer: Answer, headers: Iterable[tuple[bytes, bytes]]) -> None:
    await send(_head(answer, headers))
    await send({"type": "http.response.body", "body": answer.body})


async def _reset(
    scope: Scope, receive: Receive, send: Send, answer: Answer, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    """Send half of the body, then break the connection as a lost server does."""
    await send(_head(answer, headers))
    await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
    transport: asyncio.Transport = scope["extensions"][_TRANSPORT]["transport"]
    connection = transport.get_extra_info("socket")
    # Lingering for zero seconds makes the kernel send RST in place of an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        continue


class _HttpProtocol(HttpToolsProtocol):
    """Hands the connection to the application, so that a fault can break it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The log is ours (RequestLog). Uvicorn's own switch for it is global and would silence other servers too.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        # asyncio leaves this to us where it did not make the listener; without it small answers take 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


def _server_config(app: Callable[[Scope, Receive, Send], Any], port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        port=port,
        interface="asgi3",
        proxy_headers=False,
        http=_HttpProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        date_header=False,  # the virtual clock's, not the machine's
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=512,
    )


class _Server(uvicorn.Server):
    """A server in a thread that stops at once when told."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._stopped: asyncio.Event | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        asyncio.run(self.serve(sockets=[self._listener]))

    async def main_loop(self) -> None:
        with_stop = asyncio.Event()
        self._loop, self._stopped = asyncio.get_running_loop(), with_stop
        if not self._stop.is_set():
            await with_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once, breaking off what is being answered; uvicorn's own way takes a tenth of a second or more."""
        del sockets
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        running = list(self.server_state.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Ask it to stop; safe before it has started."""
        self._stop.set()
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
