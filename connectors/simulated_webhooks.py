"""Sending webhooks as the simulated vendors do: real requests from threads, with the trouble of the real world.

What belongs here: how a delivery travels. What does not: which hooks there are, what a vendor sends and what it makes
of the answer (connectors/<vendor>/simulated_hooks.py).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import requests

from connectors.simulator import Answer, Request, Route, json_answer

TIMEOUT_SECONDS = 10.0
SENDERS_COUNT = 4


class Trouble(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What may happen to deliveries on their way."""

    doubled_ratio: float = 0.0
    """Share that is sent twice, as after an answer that got lost."""
    lost_ratio: float = 0.0
    disorder_seconds: float = 0.0
    """Each waits for up to so long by itself, so that a later one may arrive first."""


class Sent(msgspec.Struct, kw_only=True):
    """One request that was made."""

    url: str
    headers: dict[str, str]
    status: int | None
    """None: no answer came in time."""


class Sender:
    """Sends from a few threads, which start with the first delivery.

    Args:
        seed: of what happens on the way.
    """

    def __init__(self, seed: int) -> None:
        self.trouble = Trouble()
        self.sent: list[Sent] = []
        self._rng = random.Random(f"{seed}:webhooks")  # noqa: S311 - repeatable trouble, no secrets
        self._pool: ThreadPoolExecutor | None = None
        self._open_count = 0
        self._changed = threading.Condition()

    def send(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        on_answer: Callable[[int | None], object] = lambda _status: None,
        *,
        wait_seconds: float = 0.0,
    ) -> None:
        """Send one delivery, later and elsewhere.

        Args:
            url: where to.
            headers: complete.
            body: JSON.
            on_answer: told the status, or None where none came; once, however often it is sent.
            wait_seconds: before it is sent.
        """
        with self._changed:
            is_lost = self._rng.random() < self.trouble.lost_ratio
            copies = 1 + (self._rng.random() < self.trouble.doubled_ratio)
            waits = [wait_seconds + self._rng.random() * self.trouble.disorder_seconds for _ in range(copies)]
            if is_lost:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(SENDERS_COUNT, thread_name_prefix="webhooks")
            self._open_count += copies
            for number, wait in enumerate(waits):
                self._pool.submit(self._deliver, url, dict(headers), body, None if number else on_answer, wait)

    def _deliver(
        self,
        url: str,
        headers: dict[str, str],
        body: bytes,
        on_answer: Callable[[int | None], object] | None,
        wait_seconds: float,
    ) -> None:
        time.sleep(wait_seconds)
        status: int | None = None
        try:
            answer = requests.post(url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
            status = answer.status_code
        except requests.RequestException:
            pass  # told as None
        try:
            if on_answer:
                on_answer(status)
        finally:
            with self._changed:
                self.sent.append(Sent(url=url, headers=headers, status=status))
                self._open_count -= 1
                self._changed.notify_all()

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait until nothing is on its way; returns whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open_count == 0, timeout=seconds)

    def routes(self) -> list[Route]:
        """The control API: `POST /__sim/webhooks` sets the trouble, GET tells what was sent."""
        return [Route("POST", "/__sim/webhooks", self._control), Route("GET", "/__sim/webhooks", self._control)]

    def _control(self, request: Request) -> Answer:
        if request.method == "POST":
            try:
                self.trouble = msgspec.json.decode(request.body or b"{}", type=Trouble)
            except msgspec.DecodeError as error:
                return json_answer({"error": str(error)}, 400)
        with self._changed:
            return json_answer({"on_the_way": self._open_count, "sent": self.sent})


class Change(msgspec.Struct):
    """A change that a user has made."""

    name: str
    """Of the method."""
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    subject: Any
    """What was looked up before it happened."""
    result: Any = None


def observe(
    simulator: Any,
    names: Iterable[str],
    tell: Callable[[Change], None],
    look: Callable[[Change], Any] = lambda _change: None,
) -> None:
    """Let every change that a user makes be told, after it has happened and in the same turn.

    The changes stay what they are, methods of the simulator; each is replaced on this one object by itself and a word
    after it.

    Args:
        simulator: whose changes.
        names: of the methods.
        tell: called after each.
        look: called before each, for what is gone afterwards.
    """
    for name in names:
        made = getattr(simulator, name)

        def observed(*arguments: Any, _name: str = name, _made: Callable[..., Any] = made, **options: Any) -> Any:
            with simulator.lock:
                change = Change(_name, arguments, options, None)
                change.subject = look(change)
                change.result = _made(*arguments, **options)
                tell(change)
            return change.result

        setattr(simulator, name, observed)
