"""Patience and slots that all workers share, for each host and credential.

What one process was told to wait for, the others do not ask; and together they have no more requests under way than the
host bears. The state is in Redis and is changed by one script (gate.lua), so that all see one order of things. A
process leases slots and requests for its threads and settles with Redis when it needs more, and ten times a second
while it works, rather than at each request. A lease that is not renewed runs out: a killed worker's slots come back.

Redis may be lost. Then each process goes on with a few slots of its own and what it remembers, and looks for Redis
again every few seconds. The gate only spares the host; whoever asks too early is told so by the host itself.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.errors import RateLimitedError

PREFIX = "plumbline:gate:"
LONGEST = timedelta(hours=24)
"""A server that names a time further off is asked again by then."""
FIRST_SLOTS_COUNT = 8
"""With how many requests at once a host is met for the first time."""
ALONE_SLOTS_COUNT = 2
"""How many requests a process has under way that cannot ask Redis."""
ALONE_BUDGET_RATIO = 0.25
"""Its part of a budget of requests."""
ABSENT_COUNT = 3
"""So many requests in a row that the host does not answer, and it is left alone; gate.lua knows it as well."""
ALONE_BLOCK_SECONDS = 5.0
LEASE_SECONDS = 10.0
SETTLE_SECONDS = 0.1
"""How often a working process settles with Redis, so about how soon it hears that the host asks for patience."""
ASK_SECONDS = 0.01
"""How soon a process that lacks a slot asks again."""
PATIENCE_SECONDS = 1.0
"""How long a request waits here where none of its process is under way; then its job goes back into the queue."""
BUDGET_PATIENCE_SECONDS = 5.0
"""The same where it waits for the budget: that is the pace which was chosen, and not a jam."""
RETRY_SECONDS = 3.0
"""How often a lost Redis is looked for."""
AWAY_SECONDS = (1.0, 5.0)
"""When a job that got no slot is tried again."""

Load = Literal["well", "strained", "absent", "unclear"]

logger = structlog.get_logger("plumbline.gate")


class GateState(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes agree on about one host and credential."""

    slots_used: int
    slots: int
    most: int
    blocked_seconds: float
    reason: str
    waits: int
    """How many requests have waited here."""

    def sentence(self, now: datetime) -> str:
        """E.g. `3 of 8 slots, blocked until 14:05:00 UTC (it asks us to wait)`."""
        text = f"{self.slots_used} of {self.slots} slots"
        if self.blocked_seconds > 0:
            text += f", blocked until {now + timedelta(seconds=self.blocked_seconds):%H:%M:%S} UTC ({self.reason})"
        return text


class _Share:
    """What this process has of one host and credential. Under the gate's lock."""

    def __init__(self, lock: threading.RLock) -> None:
        self.freed = threading.Condition(lock)
        self.seats: set[int] = set()
        """Threads with a request under way; one that lost its way out takes its own seat again."""
        self.slots = 0
        self.most = 1
        self.per_second = 0.0
        self.tokens = 0.0
        self.token_at = 0.0
        self.settled_at = self.admitted_at = -LEASE_SECONDS
        self.blocked_until = 0.0
        self.reason = ""
        self.waiting = self.peak = 0
        self.well = self.strained = self.absent = self.waits = 0
        self.has_news = False
        """Whether Redis has not heard yet until when we are blocked."""

    def is_busy(self) -> bool:
        return bool(self.slots or self.seats or self.waiting or self.peak)


class RedisGate:
    """A gate for every (host, credential). Safe to use from many threads; made after a fork."""

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Connect lazily.

        Args:
            url: for redis-py.
            monotonic: seconds that never go back.
        """
        self._redis = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))
        self._script = self._redis.register_script(Path(__file__).with_suffix(".lua").read_text())
        self._monotonic = monotonic
        self._client = f"{os.uname().nodename}:{os.getpid()}:{random.getrandbits(32):x}"  # a name
        self._lock = threading.RLock()
        self._shares: dict[str, _Share] = {}
        self._alone_since: float | None = None
        self._asked_redis_at = -RETRY_SECONDS
        self._settler: threading.Thread | None = None
        self._closed = threading.Event()

    def enter(self, key: str, most: int, per_second: float | None) -> None:
        """Take a slot, waiting a moment where that is enough.

        Args:
            key: the host and credential.
            most: how many requests all processes may have under way.
            per_second: how many they may begin in a second, None for as many as they like.

        Raises:
            RateLimitedError: it takes longer; `retry_at` says when to come again.
        """
        me = threading.get_ident()
        with self._lock:
            share = self._shares.setdefault(key, _Share(self._lock))
            share.most, share.per_second = most, per_second or 0.0
            share.seats.discard(me)
            began = self._monotonic()
            has_waited = False
            while not self._admits(share, self._monotonic()):
                if not has_waited:
                    has_waited, share.waits = True, share.waits + 1
                share.waiting += 1
                try:
                    self._wait(key, share, began)
                finally:
                    share.waiting -= 1
            share.seats.add(me)
            share.tokens -= 1
            share.admitted_at = self._monotonic()
            share.peak = max(share.peak, len(share.seats))
            if self._settler is None:
                self._start_settling()

    def leave(self, key: str, load: Load) -> None:
        """Give the slot back.

        Args:
            key: as entered.
            load: `well` answered; `strained`: the host showed that it has too much to do; `absent`: it did not answer
                at all; `unclear`: neither.
        """
        with self._lock:
            share = self._shares.setdefault(key, _Share(self._lock))
            share.seats.discard(threading.get_ident())
            if load != "unclear":
                setattr(share, load, getattr(share, load) + 1)
            if load in {"strained", "absent"}:
                self._settle(key, share)
            share.freed.notify()

    def block(self, key: str, until: datetime, reason: str = "it asks us to wait") -> None:
        """Close the gate until then, in every process, unless it is closed for longer already."""
        wait = min(until - datetime.now(UTC), LONGEST).total_seconds()
        if wait <= 0:
            return
        with self._lock:
            share = self._shares.setdefault(key, _Share(self._lock))
            if self._monotonic() + wait > share.blocked_until:
                share.blocked_until, share.reason, share.has_news = self._monotonic() + wait, reason, True
                self._settle(key, share)

    def note(self, key: str, connection_id: int) -> None:
        """Remember which gate a connection goes through, for whoever asks how it is."""
        try:
            self._redis.set(f"{PREFIX}of:{connection_id}", key, ex=int(LONGEST.total_seconds()) * 7)
        except redis.RedisError:
            return

    def key_of(self, connection_id: int) -> str | None:
        """The gate that a connection went through last; None where it is not known."""
        try:
            key = self._redis.get(f"{PREFIX}of:{connection_id}")
        except redis.RedisError:
            return None
        return key.decode() if isinstance(key, bytes) else None

    def forget(self, key: str) -> None:
        """Open a gate; other processes hear it when they settle. A person says that the host may be asked again."""
        with self._lock:
            self._shares.pop(key, None)
        try:
            if self._redis.exists(PREFIX + key):
                self._redis.hset(PREFIX + key, mapping={"blocked_until": 0, "absent": 0, "opened": 0})
        except redis.RedisError as error:
            logger.warning("gate_alone", error=str(error))

    def state(self, key: str) -> GateState | None:
        """What the processes agree on; None where nobody has asked for days or Redis does not answer."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.time()
                pipeline.hgetall(PREFIX + key)
                pipeline.hgetall(f"{PREFIX}{key}:leases")
                seconds, facts, leases = pipeline.execute()
        except redis.RedisError:
            return None
        if not facts:
            return None
        now_ms = seconds[0] * 1000 + seconds[1] / 1000
        held = [tuple(map(int, lease.split())) for lease in leases.values()]
        is_down = int(facts[b"absent"]) >= ABSENT_COUNT
        return GateState(
            slots_used=sum(size for size, _, expires in held if expires > now_ms),
            slots=1 if is_down else int(float(facts[b"limit"])),
            most=int(facts[b"most"]),
            blocked_seconds=max(0.0, float(facts[b"blocked_until"]) - now_ms) / 1000,
            reason=facts[b"reason"].decode(),
            waits=int(facts.get(b"waits", 0)),
        )

    def close(self) -> None:
        """Give back what is leased and close the connection."""
        self._closed.set()
        settler = self._settler
        if settler is not None:
            settler.join(2)
        with self._lock:
            for key, share in self._shares.items():
                share.seats.clear()
                share.peak = 0
                if share.slots and self._alone_since is None:
                    self._settle(key, share)
        self._redis.close()

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _admits(self, share: _Share, now: float) -> bool:
        return (
            share.blocked_until <= now
            and len(share.seats) < share.slots
            and now - share.settled_at < LEASE_SECONDS / 2
            and (not share.per_second or share.tokens >= 1)
        )

    def _wait(self, key: str, share: _Share, began: float) -> None:
        now = self._monotonic()
        if share.blocked_until > now and now - share.settled_at >= SETTLE_SECONDS:
            self._settle(key, share)  # it may be longer by now, or a person has opened the gate
        if share.blocked_until - now > PATIENCE_SECONDS:
            raise self._closed_until(key, share)
        if share.blocked_until > now:
            share.freed.wait(share.blocked_until - now)
            return
        if now - share.settled_at >= ASK_SECONDS:
            self._settle(key, share)
            if self._admits(share, now) or share.blocked_until > now:
                return
        patience = BUDGET_PATIENCE_SECONDS if share.per_second and share.slots else PATIENCE_SECONDS
        if not share.seats and now - max(began, share.admitted_at) > patience:
            until = datetime.now(UTC) + timedelta(seconds=random.uniform(*AWAY_SECONDS))  # noqa: S311  # jitter
            raise RateLimitedError(f"All slots of {_host(key)} are taken; trying again soon.", retry_at=until)
        share.freed.wait(max(ASK_SECONDS, min(0.05, share.token_at - now)))

    def _closed_until(self, key: str, share: _Share) -> RateLimitedError:
        until = datetime.now(UTC) + timedelta(seconds=share.blocked_until - self._monotonic())
        return RateLimitedError(
            f"{_host(key)} is left alone until {until:%Y-%m-%d %H:%M:%S} UTC: {share.reason}.", retry_at=until
        )

    def _settle(self, key: str, share: _Share) -> None:
        """Tell Redis what happened and hear how many slots are ours."""
        now = self._monotonic()
        if self._alone_since is not None and now - self._asked_redis_at < RETRY_SECONDS:
            self._settle_alone(share, now)
            return
        self._asked_redis_at = now
        wanted = max(share.peak, len(share.seats) + share.waiting)
        news_ms = int(max(0.0, share.blocked_until - now) * 1000) if share.has_news else 0
        try:
            slots, blocked_ms, reason, tokens, token_ms, is_new = self._script(
                keys=(PREFIX + key, f"{PREFIX}{key}:leases"),
                args=(
                    self._client, len(share.seats), wanted, share.waiting, share.most, FIRST_SLOTS_COUNT,
                    share.per_second, share.well, share.strained, share.absent, share.waits, int(LEASE_SECONDS * 1000),
                    news_ms, share.reason,
                ),
            )  # fmt: skip
        except redis.RedisError as error:
            if self._alone_since is None:
                self._alone_since = now
                logger.warning("gate_alone", error=str(error), slots=ALONE_SLOTS_COUNT)
            self._settle_alone(share, now)
            return
        if self._alone_since is not None:
            logger.info("gate_shared_again", alone_seconds=round(now - self._alone_since, 1))
            self._alone_since = None
        # Where Redis was emptied, it hears again what it knew.
        share.has_news = bool(is_new) and not news_ms and share.blocked_until > now
        if not share.has_news:
            share.blocked_until, share.reason = now + blocked_ms / 1000, _text(reason)
        share.slots, share.settled_at = slots, now
        share.tokens += tokens
        share.token_at = now + token_ms / 1000
        share.peak = len(share.seats) + share.waiting
        share.well = share.strained = share.absent = share.waits = 0
        share.freed.notify(max(0, slots - len(share.seats)))

    def _settle_alone(self, share: _Share, now: float) -> None:
        share.slots = min(ALONE_SLOTS_COUNT, share.most)
        if share.per_second:
            rate = share.per_second * ALONE_BUDGET_RATIO
            share.tokens = min(max(1.0, rate), max(0.0, share.tokens) + (now - share.settled_at) * rate)
        if share.well:
            share.absent = 0
        elif share.absent >= ABSENT_COUNT:
            share.blocked_until, share.reason = max(share.blocked_until, now + ALONE_BLOCK_SECONDS), "it did not answer"
            share.absent = 0
        share.well = share.strained = 0
        share.settled_at = now
        share.peak = len(share.seats) + share.waiting

    # --- settling all the time ----------------------------------------------------------------------------------------

    def _start_settling(self) -> None:
        self._settler = threading.Thread(target=self._keep_settling, name="gate", daemon=True)
        self._settler.start()

    def _keep_settling(self) -> None:
        """Renew leases and give back what is not used, until there is nothing left."""
        while True:
            self._closed.wait(SETTLE_SECONDS)
            with self._lock:
                busy = [(key, share) for key, share in self._shares.items() if share.is_busy()]
                if not busy or self._closed.is_set():
                    self._settler = None
                    return
                for key, share in busy:
                    self._settle(key, share)


def _host(key: str) -> str:
    return key.rpartition(":")[0] or key


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
