"""One HTTP policy for every vendor: what the `requests.Session`s of both vendors' libraries, and our own, go through.

What belongs here: timeouts, the shared rate gate, same-host redirects only, the token never sent elsewhere,
content-type checks, the server's clock, and reading ahead over a thread pool. What does not: paths, parameters and
payloads of a vendor, what rate headers say (limits.py), which error a status is (failures.py), and waiting: what the
server asks for becomes an error that carries the time, and the worker decides. The only pauses are the two of less
than a second between repeats of an answer that broke off, and the gate's, no longer, until a slot is free.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from connectors.base import Load, RateGate
from connectors.failures import (
    DEFAULT_PORTS,
    error_of_failure,
    error_of_status,
    excerpt_of,
    is_trouble,
    refuse_other_types,
)
from connectors.limits import Limits, Pace, is_limit, load_of, parsed_http_date, wait_named, wait_until_more
from models.errors import AccessDeniedError, SourceRequestError

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 90
"""Longer than the sixty seconds after which GitLab and Jira themselves give up on a request."""
REPEATS_COUNT = 2
"""How often a broken-off answer, a 5xx or a web page is asked for again at once, before the worker's backoff."""
LONGEST_REPEAT_PAUSE_SECONDS = (0.25, 0.75)
DENIED_PATIENCE = timedelta(seconds=10)
"""How long nobody asks again with a credential that was just refused; by then its connection is marked."""


def utc_now() -> datetime:
    """This machine's clock, aware UTC."""
    return datetime.now(UTC)


class PolicyAdapter(HTTPAdapter):
    """The transport that is mounted on a session for all addresses. Safe to share between the threads of one process.

    Every method is repeated alike when an answer breaks off: connectors only read, and a POST is a query.

    Args:
        base_url: the instance; requests to any other host are refused before they leave.
        gate: asked before each request, and told when the server asks for patience.
        gate_key: what shares the patience, see `gate_key_of`.
        limits: how many requests the gate lets through.
        pool_size: how many connections are kept open.
        verify: True for the system's authorities, a path to a file of certificates, or False.
        connect_timeout_seconds: for the connection to stand.
        read_timeout_seconds: for each next byte.
        clock: this machine's time, aware UTC.
        jitter: a number from 0 to 1, as `random.random`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        gate: RateGate,
        gate_key: str,
        limits: Limits | None = None,
        pool_size: int = 16,
        verify: bool | str = True,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        clock: Callable[[], datetime] = utc_now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(pool_connections=2, pool_maxsize=pool_size, max_retries=0)
        self._base = urlsplit(base_url)
        self._gate = gate
        self._gate_key = gate_key
        self._limits = limits or Limits()
        self._pace = Pace()
        self._verify = verify
        self._connect_timeout_seconds = connect_timeout_seconds
        self._read_timeout_seconds = read_timeout_seconds
        self._clock = clock
        self._jitter = jitter
        self._last_date: tuple[datetime, float] | None = None
        self._plain_pool: urllib3.HTTPConnectionPool | None = None

    @property
    def has_server_time(self) -> bool:
        """Whether an answer has told the server's time yet."""
        return self._last_date is not None

    def server_now(self) -> datetime:
        """The server's clock: the last `Date` header seen plus the time since, aware UTC.

        It runs up to a second behind, because the header has no fractions. Before the first answer, and where a server
        sends no `Date`, this machine's clock stands in.
        """
        if self._last_date is None:
            return self._clock()
        seen_at, monotonic_seconds = self._last_date
        return seen_at + timedelta(seconds=time.monotonic() - monotonic_seconds)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request and return its answer, body read, status 2xx or a redirect that may be followed.

        Raises:
            SourceError: one of its subclasses, see `error_of_status`.
        """
        self._refuse_other_hosts(request.url or "", request)
        timeout = timeout or (self._connect_timeout_seconds, self._read_timeout_seconds)
        verify = self._verify  # the policy's, whatever a vendor's library passes on
        for repeats_left in reversed(range(REPEATS_COUNT + 1)):
            self._enter()
            load: Load = "unclear"
            began = time.monotonic()
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
                self._note_date(response)
                if not stream:
                    _ = response.content  # read here, so that a body that breaks off is this adapter's matter
            except requests.RequestException as error:
                failure, is_broken_off = error_of_failure(
                    error,
                    base_url=self._base.geturl(),
                    path=_path_of(request),
                    connect_timeout_seconds=self._connect_timeout_seconds,
                    read_timeout_seconds=self._read_timeout_seconds,
                )
                load = "unclear" if is_broken_off else "absent"
                if not is_broken_off or not repeats_left:
                    raise failure from error
            else:
                has_trouble = is_trouble(response.status_code, response.headers)
                load = self._load(response.status_code, response.headers, _path_of(request), began)
                load = "absent" if has_trouble and not repeats_left else load
                if not repeats_left or not has_trouble:
                    return self._judged(response, request)
                response.close()
            finally:
                self._gate.leave(self._gate_key, load)
            time.sleep(self._jitter() * LONGEST_REPEAT_PAUSE_SECONDS[REPEATS_COUNT - repeats_left])
        raise AssertionError("the last repeat returns or raises")

    def _enter(self) -> None:
        self._gate.enter(self._gate_key, self._limits.concurrency, self._limits.requests_per_second)

    def _load(self, status: int, headers: Mapping[str, str], path: str, began: float) -> Load:
        return load_of(status, headers, is_slow=self._pace.is_slow(path, time.monotonic() - began))

    def get_plain(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]] | None:
        """GET JSON straight from the connection pool, for the many small requests that dominate a sync.

        Building a request and a response object around each costs requests more than the exchange itself. The same
        policy holds; what is not plain is left to the session, which repeats the request and follows redirects.

        Args:
            url: absolute, at the connection's address, with its query.
            headers: all of them, the credential among them.

        Returns:
            The body and the headers, or None where the session has to go on: the exchange broke off, the server is in
            trouble, it redirects, or a proxy stands between. What If-None-Match names comes back as an empty body.

        Raises:
            SourceError: one of its subclasses, see `error_of_status`.
        """
        if self._plain_pool is None:
            return None
        request = requests.PreparedRequest()
        request.method, request.url = "GET", url
        self._refuse_other_hosts(url, request)
        parts = urlsplit(url)
        timeout = urllib3.Timeout(self._connect_timeout_seconds, self._read_timeout_seconds)
        self._enter()
        load: Load = "unclear"
        began = time.monotonic()
        try:
            answer = self._plain_pool.urlopen(
                "GET", f"{parts.path}?{parts.query}", headers=headers, retries=False, redirect=False, timeout=timeout
            )
            load = self._load(answer.status, answer.headers, parts.path, began)
        except (urllib3.exceptions.HTTPError, OSError):
            return None
        finally:
            self._gate.leave(self._gate_key, load)
        self._note_date(answer)
        if "Location" in answer.headers:
            self._refuse_other_hosts(urljoin(url, answer.headers["Location"]), request)
        if answer.status == HTTPStatus.NOT_MODIFIED and "If-None-Match" in headers:
            return b"", answer.headers
        is_redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
        if is_redirect or is_trouble(answer.status, answer.headers):
            return None
        if answer.status == HTTPStatus.OK and answer.headers.get("Content-Type", "").startswith("application/json"):
            self._heed(answer.headers)
            return answer.data, answer.headers
        request = requests.Request("GET", url).prepare()
        response = self.build_response(request, answer)
        response._content = answer.data  # noqa: SLF001  # the body is read already, and requests has no way to say so
        return self._judged(response, request).content, answer.headers

    def allow_plain(self, proxies: Mapping[str, str]) -> None:
        """Let `get_plain` use the pool of the connection's own address, unless a proxy stands between."""
        if select_proxy(self._base.geturl(), dict(proxies)):
            return
        request = requests.Request("GET", self._base.geturl()).prepare()
        pool = self.get_connection_with_tls_context(request, self._verify)
        self.cert_verify(pool, self._base.geturl(), self._verify, None)  # type: ignore[no-untyped-call]
        assert isinstance(pool, urllib3.HTTPConnectionPool)  # noqa: S101  # of an http or https address it always is
        self._plain_pool = pool

    def _note_date(self, response: requests.Response | urllib3.BaseHTTPResponse) -> None:
        said_at = parsed_http_date(response.headers.get("Date", ""))
        if said_at is not None:
            self._last_date = (said_at, time.monotonic())

    def _judged(self, response: requests.Response, request: requests.PreparedRequest) -> requests.Response:
        """The response where it may be used or its redirect followed; the error that it means otherwise."""
        status = response.status_code
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            refuse_other_types(response, host=self._host, path=_path_of(request))
            self._heed(response.headers)
            return response
        if status == HTTPStatus.NOT_MODIFIED and "If-None-Match" in request.headers:
            return response
        if response.is_redirect:
            self._refuse_other_hosts(urljoin(request.url or "", response.headers["Location"]), request)
            if request.method in {"GET", "HEAD"} or status in {307, 308}:
                return response
        is_refusal = is_limit(status, response.headers, response.content)
        named = None
        if is_refusal or status == HTTPStatus.SERVICE_UNAVAILABLE:
            named = wait_named(status, response.headers, self._date_of(response.headers))
        retry_at = None if named is None else self._clock() + named[0]
        if named is not None and retry_at is not None:
            self._gate.block(self._gate_key, retry_at, named[1])
        error = error_of_status(
            status,
            host=self._host,
            path=_path_of(request),
            headers=response.headers,
            retry_at=retry_at,
            is_limit=is_refusal,
            excerpt=excerpt_of(response, request),
        )
        if isinstance(error, AccessDeniedError):
            # Wrong credentials that are tried again and again lock accounts.
            self._gate.block(self._gate_key, self._clock() + DENIED_PATIENCE, "it refuses our credentials")
        raise error

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Close the gate where a good answer says that nothing is left until later."""
        wait = wait_until_more(headers, self._date_of(headers))
        if wait is not None:
            self._gate.block(self._gate_key, self._clock() + wait, "nothing is left of its rate limit")

    def _date_of(self, headers: Mapping[str, str]) -> datetime:
        return parsed_http_date(headers.get("Date", "")) or self._clock()

    @property
    def _host(self) -> str:
        return self._base.hostname or ""

    def _refuse_other_hosts(self, url: str, request: requests.PreparedRequest) -> None:
        target = urlsplit(url)
        if _origin(target) == _origin(self._base):
            return
        is_upgrade = (self._base.scheme, target.scheme) == ("http", "https") and target.hostname == self._base.hostname
        if is_upgrade and target.port in {None, 443} and self._base.port in {None, 80}:
            return
        raise SourceRequestError(
            f"{self._host} points to {target.scheme}://{target.netloc.rpartition('@')[2]}, and our token goes nowhere "
            "but to the connection's own address; if the instance has moved, change that address.",
            host=self._host,
            path=_path_of(request),
            target=target.hostname,
        )


def mount_policy(
    session: requests.Session,
    *,
    base_url: str,
    gate: RateGate,
    gate_key: str,
    verify: bool | str = True,
    **options: Any,
) -> PolicyAdapter:
    """Put the policy under a session, for every address.

    The environment's proxies and certificates are looked up here, once. Left on, requests would look for them before
    each request, which costs a fifth of its time, and would let a `.netrc` take the place of our token.

    Args:
        session: ours, or one of a vendor's library.
        base_url: the instance.
        gate: the shared patience.
        gate_key: its key, see `gate_key_of`.
        verify: see `PolicyAdapter`; where it is True, REQUESTS_CA_BUNDLE may name a file.
        options: any further argument of `PolicyAdapter`.

    Returns:
        The adapter, which knows the server's clock.
    """
    settings = session.merge_environment_settings(base_url, {}, False, verify, None)
    session.trust_env = False
    session.proxies.update(settings["proxies"] or {})
    adapter = PolicyAdapter(
        base_url=base_url, gate=gate, gate_key=gate_key, verify=settings["verify"] or verify, **options
    )
    for prefix in tuple(session.adapters):
        del session.adapters[prefix]
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    adapter.allow_plain({name: str(url) for name, url in session.proxies.items()})
    return adapter


def exchange(call: Callable[[], requests.Response]) -> tuple[bytes, Mapping[str, str]]:
    """Make a request through a session that has the policy, by `call`.

    Returns:
        The body, and the headers, whose names compare without case.

    Raises:
        SourceError: one of its subclasses.
    """
    try:
        response = call()
    except requests.TooManyRedirects as error:
        raise SourceRequestError("The source redirects in a circle; check the address of the connection.") from error
    return response.content, response.headers


def get_bytes(
    session: requests.Session, url: str, params: Mapping[str, Any] | None = None
) -> tuple[bytes, Mapping[str, str]]:
    """GET JSON from the connection's own address; see `exchange`. List values in `params` repeat the name."""
    return exchange(lambda: session.get(url, params=params, headers={"Accept": "application/json"}))


def post_bytes(session: requests.Session, url: str, json_body: Any) -> tuple[bytes, Mapping[str, str]]:
    """POST a query as JSON to the connection's own address; see `exchange`. It may be sent more than once."""
    return exchange(lambda: session.post(url, json=json_body, headers={"Accept": "application/json"}))


def fetch_ahead(executor: Executor, calls: Iterable[Callable[[], T]], ahead: int) -> Iterator[T]:
    """Run calls on a pool and give their results in order, at most `ahead` of them before the consumer asks.

    Args:
        executor: runs the calls.
        calls: taken one by one, as room becomes free.
        ahead: how many may be under way or done beside the one that the consumer holds; at least 0.

    Returns:
        An iterator. Closing it, or an error of a call, cancels what has not started.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for call in calls:
            waiting.append(executor.submit(call))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    return url.scheme, (url.hostname or "").lower(), url.port or DEFAULT_PORTS.get(url.scheme)


def _path_of(request: requests.PreparedRequest) -> str:
    return urlsplit(request.url or "").path
