"""What servers say of their limits, and what a connection's options say of ours.

What belongs here: reading the vendors' rate headers, and telling from an answer whether its host has too much to do.
What does not: waiting and sharing, which is the gate's matter (workers/gate.py).

Headers. `Retry-After` is a number of seconds or a date by the server's clock. GitLab's `RateLimit-Reset` and GitHub's
`X-RateLimit-Reset` are Unix times, Jira Cloud's an ISO time to the minute, and the drafted standard's a number of
seconds. Jira Data Center fills a bucket: `X-RateLimit-Interval-Seconds` is when it gets more. Jira Cloud's newer
`Beta-RateLimit`, like the latest draft's `RateLimit`, is `"name";r=REMAINING;t=SECONDS`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.base import Load
from models.errors import UsageError

LONGEST_WAIT = timedelta(days=1)
"""A server that names a later time than this is not believed; it is asked again after this long."""
UNNAMED_WAIT = timedelta(minutes=1)
"""What GitHub asks for at least where a 403 is a limit of it that names no time."""
MOST_CONCURRENCY = 32
"""How many requests all workers may have under way where the connection names no number."""
NEAR_LIMIT_RATIO = 0.1
"""The last tenth of what a server allows is used slowly, so that the end of it meets few requests under way."""
SLOW_SECONDS = 1.0
SLOW_TIMES = 4.0
"""An answer that takes this many times as long as its kind did so far, and over a second, is a host at its limit."""

_ITEM_REMAINING = re.compile(r";\s*r=(\d+)")
_ITEM_SECONDS = re.compile(r";\s*t=(\d+)")
_NUMBERS = re.compile(r"\d+")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of a connection allow us."""

    concurrency: int = MOST_CONCURRENCY
    requests_per_second: float | None = None


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Read the options `max_concurrency` (1 to 256) and `max_requests_per_second` (0.1 to 1,000).

    Raises:
        UsageError: one of them is no such number.
    """
    concurrency = _number(options, "max_concurrency", 1, 256)
    per_second = _number(options, "max_requests_per_second", 0.1, 1_000)
    return Limits(
        concurrency=MOST_CONCURRENCY if concurrency is None else int(concurrency), requests_per_second=per_second
    )


def _number(options: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(f"{name} is {value!r}; choose a number from {least:g} to {most:,g}.")
    return float(value)


def gate_key_of(base_url: str, credential: str) -> str:
    """What shares one rate limit: a host and a credential, the latter as a digest that tells nothing."""
    parts = urlsplit(base_url)
    digest = hashlib.blake2b(credential.encode(), digest_size=8).hexdigest()
    return f"{parts.netloc.rpartition('@')[2].lower()}:{digest}"


class Pace:
    """How long answers of each kind take at one connection, and whether one takes far longer."""

    def __init__(self) -> None:
        self._typical_seconds: dict[str, float] = {}

    def is_slow(self, path: str, seconds: float) -> bool:
        """Whether an answer took far longer than others of its kind; it counts for later ones."""
        kind = _NUMBERS.sub("", path)
        typical = self._typical_seconds.get(kind, seconds)
        self._typical_seconds[kind] = typical + (seconds - typical) / 20
        return seconds > SLOW_SECONDS and seconds > SLOW_TIMES * typical


def load_of(status: int, headers: Mapping[str, str], *, is_slow: bool = False) -> Load:
    """What an answer tells of its host."""
    is_refusal = status == HTTPStatus.TOO_MANY_REQUESTS or status in {502, 503, 504}
    if is_refusal or is_slow or _is_near_limit(headers):
        return "strained"
    return "unclear" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "well"


def _is_near_limit(headers: Mapping[str, str]) -> bool:
    for prefix in ("", "X-"):
        if f"{prefix}RateLimit-Remaining" in headers:
            try:
                remaining = float(headers[f"{prefix}RateLimit-Remaining"])
                return remaining <= NEAR_LIMIT_RATIO * float(headers.get(f"{prefix}RateLimit-Limit", "0"))
            except ValueError:
                return False
    return "X-RateLimit-NearLimit" in headers and headers["X-RateLimit-NearLimit"].lower() == "true"


def is_limit(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a refusal asks for patience; GitHub's may be a 403 that says so by a header or only in words."""
    if status != HTTPStatus.FORBIDDEN:
        return status == HTTPStatus.TOO_MANY_REQUESTS
    is_spent = headers.get("X-RateLimit-Remaining") == "0"
    return is_spent or "Retry-After" in headers or b"secondary rate limit" in body.lower()


def wait_named(status: int, headers: Mapping[str, str], server_date: datetime) -> tuple[timedelta, str] | None:
    """How long a server that refuses us wants to be left alone, and by which header; None where it names no time.

    Args:
        status: of the refusal.
        headers: of the refusal.
        server_date: the server's clock as it answered, aware.
    """
    reason = headers.get("RateLimit-Reason")
    for name in ("Retry-After", "RateLimit-Reset", "X-RateLimit-Reset", "Beta-RateLimit", "RateLimit"):
        if name == "X-RateLimit-Reset" and headers.get("X-RateLimit-Remaining", "0") != "0":
            continue  # GitHub tells the end of the hour with every answer
        text = headers.get(name, "")
        wait = _wait_of_retry_after(text, server_date) if name == "Retry-After" else _wait_of_reset(text, server_date)
        if wait is not None:
            return min(max(wait, timedelta()), LONGEST_WAIT), f"it asks us to wait ({reason or name})"
    return (UNNAMED_WAIT, "it asks us to wait") if status == HTTPStatus.FORBIDDEN else None


def wait_until_more(headers: Mapping[str, str], server_date: datetime) -> timedelta | None:
    """How long until a server that let us in has more for us; None while it has, or where it does not say."""
    for name, reset in (
        ("RateLimit-Remaining", ("RateLimit-Reset",)),
        ("X-RateLimit-Remaining", ("X-RateLimit-Reset", "Retry-After", "X-RateLimit-Interval-Seconds")),
    ):
        if name in headers and headers[name].strip() == "0":
            waits = (_wait_of_reset(headers.get(each, ""), server_date) for each in reset)
            wait = next((wait for wait in waits if wait is not None and wait > timedelta()), None)
            return None if wait is None else min(wait, LONGEST_WAIT)
    for name in ("Beta-RateLimit", "RateLimit"):
        if name in headers:
            remaining = _ITEM_REMAINING.search(headers[name])
            wait = _wait_of_reset(headers[name], server_date) if remaining and remaining[1] == "0" else None
            return None if wait is None else min(wait, LONGEST_WAIT)
    return None


def parsed_http_date(text: str) -> datetime | None:
    """An HTTP date, aware UTC; None where it is none."""
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
        named = parsed_http_date(text)
        return None if named is None else named - server_date


def _wait_of_reset(text: str, server_date: datetime) -> timedelta | None:
    """A Unix time, an ISO time, or a number of seconds, alone or as `t` of an item."""
    item = _ITEM_SECONDS.search(text)
    try:
        number = float(item[1] if item else text)
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
