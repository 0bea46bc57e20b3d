"""Patience shared by all workers: what one of them was told to wait for, the others do not ask.

Kept in Redis because it is shared and may be lost: whoever asks too early is told again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import redis

from models.errors import RateLimitedError

PREFIX = "plumbline:gate:"
LONGEST = timedelta(hours=24)
"""A server that names a time further off is asked again by then."""


class RedisGate:
    """A gate for every (host, credential), open unless a server asked us to wait."""

    def __init__(self, url: str) -> None:
        """Connect lazily.

        Args:
            url: for redis-py.
        """
        self._redis = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)

    def check(self, key: str) -> None:
        """Return at once where the gate is open.

        Raises:
            RateLimitedError: it is closed; `retry_at` says until when.
        """
        try:
            value = self._redis.get(PREFIX + key)
        except redis.RedisError:
            return  # the gate only saves work; the server itself will say no
        if isinstance(value, bytes):
            until = datetime.fromtimestamp(float(value), UTC)
            raise RateLimitedError(f"The source asked us to wait until {until:%H:%M:%S} UTC.", retry_at=until)

    def block(self, key: str, until: datetime) -> None:
        """Close the gate until then, unless it is closed for longer already."""
        wait = min(until - datetime.now(UTC), LONGEST)
        if wait <= timedelta(0):
            return
        try:
            # Later news wins: the server's latest word is the truest.
            self._redis.set(PREFIX + key, f"{until.timestamp():.3f}", px=int(wait.total_seconds() * 1000) + 1)
        except redis.RedisError:
            return

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
