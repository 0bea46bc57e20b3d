"""One HTTP policy for every vendor: what the `requests.Session`s of both vendors' libraries, and our own, go through.

What belongs here: timeouts, `Retry-After` in both its forms, the shared rate gate, same-host redirects only, the token
never sent elsewhere, content-type checks, the error class from the status in one place, the server's clock, and reading
ahead over a thread pool. What does not: paths, parameters and payloads of a vendor, and waiting: what the server asks
for becomes an error that carries the time, and the worker decides. The only pauses are the two of less than a second
between repeats of an answer that broke off.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from socket import gaierror
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from connectors.base import RateGate
from models.errors import (
    AccessDeniedError,
    ForbiddenResourceError,
    GoneError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
)

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 90
"""Longer than the sixty seconds after which GitLab and Jira themselves give up on a request."""
REPEATS_COUNT = 2
"""How often a broken-off answer, a 5xx or a web page is asked for again at once, before the worker's backoff."""
LONGEST_REPEAT_PAUSE_SECONDS = (0.25, 0.75)
UNNAMED_WAIT = timedelta(minutes=1)
"""What GitHub asks for at least where a 403 is a limit of it that names no time."""
LONGEST_WAIT = timedelta(days=1)
"""A server that names a later time than this is not believed; it is asked again after this long."""

_EXCERPT_CHARACTERS = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}


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
            self._gate.check(self._gate_key)
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
                self._note_date(response)
                if not stream:
                    _ = response.content  # read here, so that a body that breaks off is this adapter's matter
            except requests.RequestException as error:
                failure, is_broken_off = self._failure(error, request)
                if not is_broken_off or not repeats_left:
                    raise failure from error
            else:
                if not repeats_left or not _is_trouble(response.status_code, response.headers):
                    return self._judged(response, request)
                response.close()
            time.sleep(self._jitter() * LONGEST_REPEAT_PAUSE_SECONDS[REPEATS_COUNT - repeats_left])
        raise AssertionError("the last repeat returns or raises")

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
        self._gate.check(self._gate_key)
        parts = urlsplit(url)
        timeout = urllib3.Timeout(self._connect_timeout_seconds, self._read_timeout_seconds)
        try:
            answer = self._plain_pool.urlopen(
                "GET", f"{parts.path}?{parts.query}", headers=headers, retries=False, redirect=False, timeout=timeout
            )
        except (urllib3.exceptions.HTTPError, OSError):
            return None
        self._note_date(answer)
        if "Location" in answer.headers:
            self._refuse_other_hosts(urljoin(url, answer.headers["Location"]), request)
        if answer.status == HTTPStatus.NOT_MODIFIED and "If-None-Match" in headers:
            return b"", answer.headers
        is_redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
        if is_redirect or _is_trouble(answer.status, answer.headers):
            return None
        if answer.status == HTTPStatus.OK and answer.headers.get("Content-Type", "").startswith("application/json"):
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
        said_at = _parsed_http_date(response.headers.get("Date", ""))
        if said_at is not None:
            self._last_date = (said_at, time.monotonic())

    def _judged(self, response: requests.Response, request: requests.PreparedRequest) -> requests.Response:
        """The response where it may be used or its redirect followed; the error that it means otherwise."""
        status = response.status_code
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            self._refuse_other_types(response, request)
            return response
        if status == HTTPStatus.NOT_MODIFIED and "If-None-Match" in request.headers:
            return response
        if response.is_redirect:
            self._refuse_other_hosts(urljoin(request.url or "", response.headers["Location"]), request)
            if request.method in {"GET", "HEAD"} or status in {307, 308}:
                return response
        is_limit = _is_limit(response)
        retry_at = self._named_time(response) if is_limit or status == HTTPStatus.SERVICE_UNAVAILABLE else None
        if retry_at is not None:
            self._gate.block(self._gate_key, retry_at)
        raise error_of_status(
            status,
            host=self._host,
            path=_path_of(request),
            headers=response.headers,
            retry_at=retry_at,
            is_limit=is_limit,
            excerpt=_excerpt(response, request),
        )

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

    def _refuse_other_types(self, response: requests.Response, request: requests.PreparedRequest) -> None:
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # No type at all is let through: decoding the body is the better test then.
        if not content_type or content_type == "application/json" or content_type.endswith("+json"):
            return
        if response.status_code == HTTPStatus.NO_CONTENT:
            return
        what = "a web page (a login page or a proxy's?)" if "html" in content_type else content_type
        raise TransientSourceError(
            f"{self._host} answered {_path_of(request)} with {what} where JSON was expected.",
            status=response.status_code,
            host=self._host,
            path=_path_of(request),
        )

    def _named_time(self, response: requests.Response) -> datetime | None:
        """When the server wants to be asked again, by this machine's clock; None where it names no time."""
        now = self._clock()
        server_date = _parsed_http_date(response.headers.get("Date", "")) or now
        waits = (
            _wait_of_retry_after(response.headers.get("Retry-After", ""), server_date),
            _wait_of_reset(response.headers.get("RateLimit-Reset", ""), server_date),
            _wait_of_reset(_reset_of_spent_limit(response.headers), server_date),
            UNNAMED_WAIT if response.status_code == HTTPStatus.FORBIDDEN else None,
        )
        wait = next((wait for wait in waits if wait is not None), None)
        return None if wait is None else now + min(max(wait, timedelta()), LONGEST_WAIT)

    def _failure(self, error: requests.RequestException, request: requests.PreparedRequest) -> tuple[SourceError, bool]:
        """What a failed exchange means in one sentence, and whether it broke off and may be repeated at once."""
        causes = tuple(_causes(error))
        host, port = self._host, self._base.port or _DEFAULT_PORTS.get(self._base.scheme)
        sentence, is_broken_off = f"{host} cannot be reached ({type(error).__name__}).", False
        certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if certificate is not None:
            sentence = _certificate_sentence(host, certificate)
        elif isinstance(error, requests.exceptions.SSLError):
            sentence = f"No TLS connection to {host}:{port} can be made; is this an https address?"
        elif isinstance(error, requests.exceptions.ProxyError):
            sentence = f"The proxy that the environment names gives no way to {host}."
        elif _is_any(causes, gaierror, urllib3.exceptions.NameResolutionError):
            sentence = f"The name {host} cannot be resolved; check the address of the connection."
        elif _is_any(causes, ConnectionRefusedError):
            sentence = f"Nothing listens at {host}:{port} (connection refused)."
        elif _is_any(causes, urllib3.exceptions.ReadTimeoutError):
            # A TLS handshake that stalls comes here too, after the time for a connection.
            sentence = (
                f"{host} did not answer in time ({self._read_timeout_seconds:g} seconds for an answer, "
                f"{self._connect_timeout_seconds:g} for a connection)."
            )
        elif _is_any(causes, urllib3.exceptions.ConnectTimeoutError):
            sentence = f"{host}:{port} took no connection within {self._connect_timeout_seconds:g} seconds."
        elif _is_any(causes, ConnectionError, urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError):
            sentence, is_broken_off = f"{host} broke off in the middle of an answer.", True
        return TransientSourceError(sentence, host=host, path=_path_of(request)), is_broken_off


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


def gate_key_of(base_url: str, credential: str) -> str:
    """What shares one rate limit: a host and a credential, the latter as a digest that tells nothing."""
    parts = urlsplit(base_url)
    digest = hashlib.blake2b(credential.encode(), digest_size=8).hexdigest()
    return f"{parts.netloc.rpartition('@')[2].lower()}:{digest}"


def exchange(call: Callable[[], requests.Response]) -> tuple[bytes, Mapping[str, str]]:
    """Make a request through a session that has the policy, and take its answer apart.

    Args:
        call: makes the request, e.g. a method of a vendor's library.

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
    """GET JSON through a session that has the policy.

    Args:
        session: with the policy mounted.
        url: absolute, at the connection's address.
        params: the query; list values repeat the name.

    Returns:
        The body, and the headers, whose names compare without case.

    Raises:
        SourceError: one of its subclasses.
    """
    return exchange(lambda: session.get(url, params=params, headers={"Accept": "application/json"}))


def post_bytes(session: requests.Session, url: str, json_body: Any) -> tuple[bytes, Mapping[str, str]]:
    """POST a query as JSON through a session that has the policy; it may be sent more than once.

    Args:
        session: with the policy mounted.
        url: absolute, at the connection's address.
        json_body: what `json` can encode.

    Returns:
        The body, and the headers, whose names compare without case.

    Raises:
        SourceError: one of its subclasses.
    """
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


def _is_trouble(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a server's or a proxy's bad moment, and worth asking for again at once."""
    if "Retry-After" in headers:
        return False
    is_page = "html" in headers.get("Content-Type", "").lower()
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or (status == HTTPStatus.OK and is_page)


def _is_limit(response: requests.Response) -> bool:
    """Whether a refusal asks for patience; GitHub's may be a 403 that says so by a header or only in words."""
    if response.status_code != HTTPStatus.FORBIDDEN:
        return response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    is_spent = response.headers.get("X-RateLimit-Remaining") == "0"
    return is_spent or "Retry-After" in response.headers or b"secondary rate limit" in response.content.lower()


def error_of_status(
    status: int,
    *,
    host: str,
    path: str,
    headers: Mapping[str, str],
    retry_at: datetime | None,
    is_limit: bool = False,
    excerpt: str = "",
) -> SourceError:
    """The error that an answer means; the one place where a status becomes a class.

    Args:
        status: not 2xx.
        host: named in the message.
        path: named in the message, without the query.
        headers: of the answer.
        retry_at: the time that the server named, if it did.
        is_limit: whether the server asks for patience, whatever the status.
        excerpt: what the server said, cut short.
    """
    facts: dict[str, Any] = {"status": status, "host": host, "path": path}
    said = f" It says: {excerpt}" if excerpt else ""
    denied_reason = headers.get("X-Authentication-Denied-Reason", "")
    if status == HTTPStatus.FORBIDDEN and "CAPTCHA" in denied_reason.upper():
        return AccessDeniedError(
            f"{host} wants a CAPTCHA solved for this account; log in there by browser, then resume the connection.",
            **facts,
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return AccessDeniedError(
            f"{host} refuses our credentials (401); check the token, its scopes and its expiry.", **facts
        )
    if is_limit or retry_at is not None:
        until = f" until {retry_at:%Y-%m-%d %H:%M:%S} UTC" if retry_at else ""
        return RateLimitedError(f"{host} asks us to wait{until} ({status}).", retry_at=retry_at, **facts)
    if status == HTTPStatus.FORBIDDEN:
        return ForbiddenResourceError(f"{host} does not let our token see {path} (403).{said}", **facts)
    if status == HTTPStatus.NOT_FOUND:
        return GoneError(f"{host} has no {path}, or hides it from our token (404).", **facts)
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientSourceError(f"{host} answered {path} with status {status}.", **facts)
    return SourceRequestError(f"{host} refuses the request for {path} (status {status}).{said}", **facts)


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    return url.scheme, (url.hostname or "").lower(), url.port or _DEFAULT_PORTS.get(url.scheme)


def _path_of(request: requests.PreparedRequest) -> str:
    return urlsplit(request.url or "").path


def _causes(error: BaseException, depth: int = 0) -> Iterator[BaseException]:
    """An error and everything that it wraps; requests and urllib3 hide causes in `args` and `reason` alike."""
    yield error
    inner = (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__)
    if depth < 6:  # deeper than the libraries nest, and an end for a circle
        for cause in inner:
            if isinstance(cause, BaseException):
                yield from _causes(cause, depth + 1)


def _is_any(causes: tuple[BaseException, ...], *classes: type[BaseException]) -> bool:
    return any(isinstance(cause, classes) for cause in causes)


def _certificate_sentence(host: str, error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message
    if "expired" in reason:
        return f"The certificate of {host} has expired."
    if "mismatch" in reason or "not valid for" in reason:
        return f"The certificate of {host} was made for another name."
    return (
        f"The certificate of {host} is not trusted here ({reason}); "
        "name your authority's certificate file in the option ca_file of the connection."
    )


def _parsed_http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _wait_of_retry_after(text: str, server_date: datetime) -> timedelta | None:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        # A date is by the server's clock, so the wait is reckoned from what the server says that it is now.
        named = _parsed_http_date(text)
        return None if named is None else named - server_date


def _reset_of_spent_limit(headers: Mapping[str, str]) -> str:
    """GitHub tells the end of the hour with every answer; it is a time to wait for only where nothing is left."""
    return headers.get("X-RateLimit-Reset", "") if headers.get("X-RateLimit-Remaining", "0") == "0" else ""


def _wait_of_reset(text: str, server_date: datetime) -> timedelta | None:
    """GitLab and others name a Unix time, Jira Cloud an ISO time, and the drafted standard a number of seconds."""
    try:
        number = float(text)
    except ValueError:
        try:
            named = datetime.fromisoformat(text)
        except ValueError:
            return None
        return (named.replace(tzinfo=UTC) if named.tzinfo is None else named) - server_date
    try:
        is_unix_time = number > 1_000_000_000  # September 2001, and thirty years as a wait
        return datetime.fromtimestamp(number, UTC) - server_date if is_unix_time else timedelta(seconds=number)
    except (ValueError, OverflowError, OSError):
        return None


def _excerpt(response: requests.Response, request: requests.PreparedRequest) -> str:
    """The first words of a refusal, for the operator; nothing where they are HTML or repeat a secret."""
    if "html" in response.headers.get("Content-Type", "").lower():
        return ""
    text = " ".join(response.content[: 4 * _EXCERPT_CHARACTERS].decode(errors="replace").split())
    if any(secret in text for secret in _secrets(request)):
        return ""
    return text[:_EXCERPT_CHARACTERS]


def _secrets(request: requests.PreparedRequest) -> Iterator[str]:
    for name in ("Authorization", "PRIVATE-TOKEN", "JOB-TOKEN", "Cookie"):
        value = request.headers.get(name)
        if not value:
            continue
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        scheme, _, credential = text.rpartition(" ")
        yield credential
        if scheme.lower() == "basic":
            try:
                yield base64.b64decode(credential).decode(errors="replace").partition(":")[2]
            except binascii.Error:
                continue
