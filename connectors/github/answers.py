"""Answers that this process keeps, so that GitHub may say that nothing has changed, which costs nothing of the hour.

What belongs here: which answers are kept and how long. What does not: asking.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping

KEPT_BYTES = 16_000_000
"""Of all answers of a process, compressed; the one that was used longest ago goes first."""
ANSWER_BYTES = 4_000_000
"""A larger one is not kept."""
_COMPRESSION_LEVEL = 1

_NAMES = ("Link",)
"""The headers that an answer that is not sent again is asked for."""

Answer = tuple[str, bytes, Mapping[str, str]]
"""ETag, body and headers."""


class KnownAnswers:
    """A bounded store of answers by credential and address. Safe to share between threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._held_bytes = 0
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, credential: str, url: str) -> Answer | None:
        """The answer kept for an address, or None."""
        with self._lock:
            answer = self._answers.get((credential, url))
            if answer is None:
                return None
            self._answers.move_to_end((credential, url))
        etag, body, headers = answer
        return etag, zlib.decompress(body), headers

    def keep(self, credential: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Keep an answer that has an ETag, and let go of old ones where there is no room."""
        etag = headers.get("ETag")
        if not etag or not body or len(body) > ANSWER_BYTES:
            return
        kept = {name: headers[name] for name in _NAMES if name in headers}
        body = zlib.compress(body, _COMPRESSION_LEVEL)
        with self._lock:
            before = self._answers.pop((credential, url), None)
            self._held_bytes += len(body) - (len(before[1]) if before else 0)
            self._answers[credential, url] = (etag, body, kept)
            while self._held_bytes > self._kept_bytes:
                _, oldest = self._answers.popitem(last=False)
                self._held_bytes -= len(oldest[1])
