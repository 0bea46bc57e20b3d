"""What people type, read and checked: K=V pairs, addresses, dates, and secrets that must not be typed.

What belongs here: reading arguments that several commands take. What does not: anything that asks a server.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

from models.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of connections stand in commands, logs and URLs."""


def pairs(given: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Read repeated `K=V`: V is JSON where it parses, else text.

    Args:
        given: as typed, e.g. `["page_size=200", "severity_field=customfield_10"]`.
        option: its name, for the error.

    Raises:
        UsageError: one has no `=` or no name, or a name comes twice.
    """
    read: dict[str, Any] = {}
    for pair in given or ():
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise UsageError(f"{option} takes NAME=VALUE, not {pair!r}.")
        if name in read:
            raise UsageError(f"{option} names {name} twice.")
        try:
            read[name] = json.loads(value)
        except ValueError:
            read[name] = value
    return read


def checked_name(name: str) -> str:
    """A connection's name that can be typed, logged and put into a URL.

    Raises:
        UsageError: it is none.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a connection; use up to 100 letters, digits, dots, dashes and underscores."
        )
    return name


def checked_url(url: str, *, may_be_directory: bool = False) -> str:
    """An instance's address without a slash at its end; that of a directory only where a kind has such.

    Raises:
        UsageError: it is none, or it holds what does not belong into it. The message never repeats credentials.
    """
    try:
        parts = urlsplit(url)
        port = parts.port  # a property that refuses what is no port
    except ValueError:
        raise UsageError("The URL cannot be read; give one such as https://gitlab.example.com.") from None
    if "@" in parts.netloc:
        raise UsageError("The URL holds credentials; give the user with --user and the token with --token-env.")
    is_directory = may_be_directory and parts.scheme == "file" and parts.hostname is None and parts.path.startswith("/")
    if not is_directory and (parts.scheme not in {"http", "https"} or not parts.hostname or port == 0):
        raise UsageError(
            f"{url!r} is no http or https address with a host; give one such as https://gitlab.example.com."
        )
    if parts.query or parts.fragment or any(letter.isspace() for letter in url):
        raise UsageError(f"{url!r} is more than the address of an instance; leave out what follows its path.")
    return url.rstrip("/")


def read_token(environment_name: str | None, *, from_stdin: bool) -> str | None:
    """A secret from the environment or from stdin; None where neither is wanted. A terminal is asked without echo.

    Raises:
        UsageError: it is not there, or it cannot be a token.
    """
    if environment_name is not None and from_stdin:
        raise UsageError("Give the token once: --token-env or --token-stdin.")
    if environment_name is not None:
        token = os.environ.get(environment_name, "").strip()
        if not token:
            raise UsageError(f"The environment variable {environment_name} is not set, and the token should be in it.")
    elif from_stdin:
        token = _from_stdin().strip()
        if not token:
            raise UsageError("There is no token on stdin.")
    else:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("The token holds a space, a line break or a letter that no token has.")
    return token


def _from_stdin() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("Token: ")
    return sys.stdin.read()


def read_time(text: str, option: str) -> datetime:
    """A date or a time as aware UTC: a date is its midnight in UTC, and so is a time without a zone.

    Raises:
        UsageError: it is neither.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} takes a date such as 2026-01-31, not {text!r}.") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def read_date(text: str, option: str) -> date:
    """A date.

    Raises:
        UsageError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} takes a date such as 2026-01-31, not {text!r}.") from None
