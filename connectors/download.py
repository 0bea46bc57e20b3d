"""Downloading a file that a source may keep elsewhere: streamed, counted, and the token never sent to another host.

GitLab answers a request for artifacts with a redirect to object storage, whose address carries its own permission. So
such a redirect is followed, without our credentials, which everywhere else (http.py) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from connectors.base import Load, RateGate
from connectors.failures import error_of_status
from connectors.limits import Limits
from models.errors import BadRecordError, SourceRequestError, TransientSourceError

CHUNK_BYTES = 256 * 1024
REDIRECTS_COUNT = 3
TIMEOUT_SECONDS = (5, 90)


class Downloads:
    """Downloads from one instance, under its gate.

    Args:
        headers: credentials included; they go to the instance only.
        gate: the patience that all processes share.
        gate_key: see `connectors.limits.gate_key_of`.
        limits: how many requests the gate lets through.
        verify: True for the system's authorities, or a path to a file of certificates.
    """

    def __init__(
        self, headers: Mapping[str, str], gate: RateGate, gate_key: str, limits: Limits, verify: bool | str
    ) -> None:
        self._headers = dict(headers)
        self._gate = gate
        self._gate_key = gate_key
        self._limits = limits
        self._verify = verify

    def fetch(self, url: str, into: Path, *, largest_bytes: int) -> None:
        """Write what is at an address of the instance into a file.

        Raises:
            BadRecordError: it is larger.
            GoneError: it is there no longer.
            SourceError: one of its other subclasses, see `error_of_status`.
        """
        self._gate.enter(self._gate_key, self._limits.concurrency, self._limits.requests_per_second)
        load: Load = "unclear"
        try:
            self._follow(url, into, largest_bytes)
            load = "well"
        except requests.RequestException as error:
            host = urlsplit(url).hostname or ""
            raise TransientSourceError(
                f"A download from {host} broke off ({type(error).__name__}).", host=host
            ) from error
        finally:
            self._gate.leave(self._gate_key, load)

    def _follow(self, url: str, into: Path, largest_bytes: int) -> None:
        home = _origin(url)
        for _ in range(REDIRECTS_COUNT + 1):
            # A session of its own each time: no cookie, no .netrc and no header goes along to another host.
            with requests.Session() as session:
                session.trust_env = False
                headers = self._headers if _origin(url) == home else {"User-Agent": "plumbline"}
                with session.get(
                    url,
                    headers=headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=TIMEOUT_SECONDS,
                    verify=self._verify if _origin(url) == home else True,
                ) as response:
                    if not response.is_redirect:
                        self._write(response, into, largest_bytes)
                        return
                    url = self._target(url, response.headers["Location"])
        raise SourceRequestError("The source redirects a download in a circle.")

    def _target(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        schemes = {"https"} if urlsplit(url).scheme == "https" else {"http", "https"}
        if urlsplit(target).scheme not in schemes:
            raise SourceRequestError(f"{urlsplit(url).hostname} sends a download where it cannot be had safely.")
        return target

    def _write(self, response: requests.Response, into: Path, largest_bytes: int) -> None:
        status = response.status_code
        if status != HTTPStatus.OK:
            parts = urlsplit(response.url)
            raise error_of_status(
                status,
                host=parts.hostname or "",
                path=parts.path,
                headers=response.headers,
                retry_at=None,
                is_limit=status == HTTPStatus.TOO_MANY_REQUESTS,
            )
        written_bytes = 0
        with into.open("xb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                written_bytes += len(chunk)
                if written_bytes > largest_bytes:
                    raise BadRecordError(f"It is larger than {largest_bytes} bytes; it was not read.")
                file.write(chunk)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
