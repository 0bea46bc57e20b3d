"""What goes wrong with a request, as an error with a sentence: from statuses, and from exchanges that failed.

What belongs here: the one place where a status or a broken connection becomes an error class. What does not: whether
it is asked again (http.py, and the worker).
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from socket import gaierror
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from models.errors import (
    AccessDeniedError,
    ForbiddenResourceError,
    GoneError,
    RateLimitedError,
    SourceError,
    SourceRequestError,
    TransientSourceError,
    UntrustedHostError,
)

DEFAULT_PORTS = {"http": 80, "https": 443}
_EXCERPT_CHARACTERS = 200


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


def error_of_failure(
    error: requests.RequestException,
    *,
    base_url: str,
    path: str,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
) -> tuple[SourceError, bool]:
    """What a failed exchange means in one sentence, and whether it broke off and may be repeated at once."""
    causes = tuple(_causes(error))
    base = urlsplit(base_url)
    host, port = base.hostname or "", base.port or DEFAULT_PORTS.get(base.scheme)
    sentence, is_broken_off = f"{host} cannot be reached ({type(error).__name__}).", False
    certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        return UntrustedHostError(_certificate_sentence(host, certificate), host=host, path=path), False
    if isinstance(error, requests.exceptions.SSLError):
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
            f"{host} did not answer in time ({read_timeout_seconds:g} seconds for an answer, "
            f"{connect_timeout_seconds:g} for a connection)."
        )
    elif _is_any(causes, urllib3.exceptions.ConnectTimeoutError):
        sentence = f"{host}:{port} took no connection within {connect_timeout_seconds:g} seconds."
    elif _is_any(causes, ConnectionError, urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError):
        sentence, is_broken_off = f"{host} broke off in the middle of an answer.", True
    return TransientSourceError(sentence, host=host, path=path), is_broken_off


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


def is_trouble(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a server's or a proxy's bad moment, and worth asking for again at once."""
    if "Retry-After" in headers:
        return False
    is_page = "html" in headers.get("Content-Type", "").lower()
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or (status == HTTPStatus.OK and is_page)


def refuse_other_types(response: requests.Response, *, host: str, path: str) -> None:
    """Raise `TransientSourceError` where a good answer is no JSON: it comes from something that stands between."""
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    # No type at all is let through: decoding the body is the better test then.
    if not content_type or content_type == "application/json" or content_type.endswith("+json"):
        return
    if response.status_code == HTTPStatus.NO_CONTENT:
        return
    what = "a web page (a login page or a proxy's?)" if "html" in content_type else content_type
    raise TransientSourceError(
        f"{host} answered {path} with {what} where JSON was expected.",
        status=response.status_code,
        host=host,
        path=path,
    )


def excerpt_of(response: requests.Response, request: requests.PreparedRequest) -> str:
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
