"""The gate that all processes share, over a real server, with real processes and a simulated GitLab."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import time_machine

from connectors.gitlab.simulator import GitLabSimulator
from models.errors import RateLimitedError
from workers.embedded import EmbeddedServers
from workers.gate import ALONE_SLOTS_COUNT, FIRST_SLOTS_COUNT, PATIENCE_SECONDS, PREFIX, GateState, RedisGate

ROOT = Path(__file__).parents[2]
KEY = "gitlab.example:0123"


@pytest.fixture(scope="module")
def broker_url(servers: EmbeddedServers) -> str:
    servers.start_broker()
    return servers.redis_url


@pytest.fixture
def url(broker_url: str) -> Iterator[str]:
    with redis.Redis.from_url(broker_url) as server:
        server.flushall()
        yield broker_url


@contextmanager
def gates(url: str, count: int) -> Iterator[list[RedisGate]]:
    """Gates of as many processes, as far as Redis can tell."""
    with ExitStack() as stack:
        made = [RedisGate(url) for _ in range(count)]
        for gate in made:
            stack.callback(gate.close)
        yield made


def eventually(holds: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def state_of(gate: RedisGate) -> GateState:
    state = gate.state(KEY)
    assert state is not None
    return state


def in_thread(call: Any) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


class Load:
    """Threads that have requests under way through some gates, and the most that were at once."""

    def __init__(self, gates: list[RedisGate], *, threads: int, most: int, per_second: float | None = None) -> None:
        self.most_at_once = self._now = self.done = 0
        self.refused: list[RateLimitedError] = []
        self.done_of = [0] * len(gates)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            in_thread(lambda gate=gate, number=number: self._run(gate, number, most, per_second))
            for number, gate in enumerate(gates)
            for _ in range(threads)
        ]

    def _run(self, gate: RedisGate, number: int, most: int, per_second: float | None) -> None:
        while not self._stop.is_set():
            try:
                gate.enter(KEY, most, per_second)
            except RateLimitedError as error:
                self.refused.append(error)
                self._stop.wait(0.05)
                continue
            with self._lock:
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
            time.sleep(0.005)
            with self._lock:
                self._now -= 1
                self.done += 1
                self.done_of[number] += 1
            gate.leave(KEY, "well")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


def test_processes_together_never_have_more_under_way_than_the_most(url: str) -> None:
    with gates(url, 3) as three:
        load = Load(three, threads=6, most=5)
        eventually(lambda: min(load.done_of) > 30)
        load.stop()
    assert load.most_at_once == 5


def test_slots_begin_few_and_grow_while_all_is_well_and_are_halved_at_a_sign_of_strain(url: str) -> None:
    with gates(url, 1) as (gate,):
        gate.enter(KEY, 64, None)
        first = state_of(gate)
        assert first.slots == FIRST_SLOTS_COUNT
        gate.leave(KEY, "well")
        load = Load([gate], threads=64, most=64)
        eventually(lambda: state_of(gate).slots == 64)
        load.stop()
        gate.enter(KEY, 64, None)
        gate.leave(KEY, "strained")
        assert state_of(gate).slots == 32
        gate.enter(KEY, 64, None)
        gate.leave(KEY, "strained")  # of the same moment
        assert state_of(gate).slots == 32


def test_slots_never_fall_below_one_and_come_back_one_by_one(url: str) -> None:
    with redis.Redis.from_url(url) as server, gates(url, 1) as (gate,):
        gate.enter(KEY, 8, None)
        gate.leave(KEY, "strained")
        for _ in range(6):
            server.hset(PREFIX + KEY, "changed_at", 0)  # as if a second had passed
            gate.enter(KEY, 8, None)
            gate.leave(KEY, "strained")
        assert state_of(gate).slots == 1
        began = time.monotonic()
        load = Load([gate], threads=8, most=8)
        eventually(lambda: state_of(gate).slots >= 2)
        load.stop()
        assert time.monotonic() - began > 0.5


def test_the_slots_of_a_killed_process_come_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.gate.LEASE_SECONDS", 0.6)
    code = (
        "import sys, time\n"
        "import workers.gate as gate\n"
        "gate.LEASE_SECONDS = 0.6\n"
        "import threading\n"
        f"g = gate.RedisGate(sys.argv[1])\n"
        f"def hold():\n    g.enter({KEY!r}, 4, None)\n    time.sleep(60)\n"
        "for _ in range(4): threading.Thread(target=hold, daemon=True).start()\n"
        "time.sleep(0.3); print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with gates(url, 1) as (gate,):
            with pytest.raises(RateLimitedError, match="All slots"):
                gate.enter(KEY, 4, None)  # longer than a lease: the living renew theirs
            holder.kill()
            gate.enter(KEY, 4, None)
            gate.leave(KEY, "well")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close() if holder.stdout else None


def test_what_one_process_is_told_to_wait_for_the_others_do_not_ask(url: str) -> None:
    with gates(url, 2) as (first, second):
        for gate in (first, second):
            gate.enter(KEY, 8, None)
            gate.leave(KEY, "well")
        until = datetime.now(UTC) + timedelta(seconds=90)
        first.block(KEY, until, "it asks us to wait (Retry-After)")

        eventually(lambda: not _is_let_in(second), seconds=1)
        with pytest.raises(RateLimitedError, match=r"gitlab\.example is left alone .*Retry-After") as caught:
            second.enter(KEY, 8, None)
        assert caught.value.retry_at is not None
        assert abs((caught.value.retry_at - until).total_seconds()) < 2
        state = state_of(second)
        assert "blocked until" in state.sentence(datetime.now(UTC))


def test_a_short_wait_is_waited_for_here(url: str) -> None:
    with gates(url, 1) as (gate,):
        began = time.monotonic()
        gate.block(KEY, datetime.now(UTC) + timedelta(seconds=0.4))
        gate.enter(KEY, 8, None)
        assert 0.3 < time.monotonic() - began < PATIENCE_SECONDS + 1


def test_the_longest_that_was_asked_for_counts_until_somebody_forgets_it(url: str) -> None:
    with gates(url, 2) as (first, second):
        first.block(KEY, datetime.now(UTC) + timedelta(hours=2))
        second.block(KEY, datetime.now(UTC) + timedelta(seconds=5))
        state = state_of(first)
        assert state.blocked_seconds > 7_000
        first.forget(KEY)
        eventually(lambda: _is_let_in(second))


def _is_let_in(gate: RedisGate) -> bool:
    try:
        gate.enter(KEY, 8, None)
    except RateLimitedError:
        return False
    gate.leave(KEY, "well")
    return True


def test_clocks_of_workers_that_differ_do_no_harm(url: str) -> None:
    with gates(url, 2) as (first, second):
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=3), tick=True):
            first.block(KEY, datetime.now(UTC) + timedelta(seconds=30))
        with pytest.raises(RateLimitedError) as caught:
            second.enter(KEY, 8, None)
        assert caught.value.retry_at is not None
        assert 25 < (caught.value.retry_at - datetime.now(UTC)).total_seconds() < 31


def test_a_host_that_does_not_answer_is_asked_by_one_request_after_a_while(url: str) -> None:
    with gates(url, 2) as (first, second):
        for _ in range(3):
            first.enter(KEY, 8, None)
            first.leave(KEY, "absent")
        state = state_of(first)
        assert state.slots == 1
        assert 0 < state.blocked_seconds <= 1
        for waited in (2, 4, 8):  # each time longer
            with redis.Redis.from_url(url) as server:
                server.hset(PREFIX + KEY, "blocked_until", 0)
            eventually(lambda: _fails_again(first))
            assert waited / 2 < state_of(first).blocked_seconds <= waited
        with redis.Redis.from_url(url) as server:
            server.hset(PREFIX + KEY, "blocked_until", 0)
        eventually(lambda: _is_let_in(second))
        eventually(lambda: state_of(second).slots == FIRST_SLOTS_COUNT)


def _fails_again(gate: RedisGate) -> bool:
    try:
        gate.enter(KEY, 8, None)
    except RateLimitedError:
        return False
    gate.leave(KEY, "absent")
    return True


def test_a_budget_of_requests_is_shared(url: str) -> None:
    with gates(url, 2) as both:
        began = time.monotonic()
        load = Load(both, threads=4, most=16, per_second=40)
        eventually(lambda: load.done >= 80)
        load.stop()
        elapsed = time.monotonic() - began
    assert load.done <= 40 * (elapsed + 1) + 16  # a second's worth at the beginning, and what was leased ahead
    assert min(load.done_of) > 10


def test_without_redis_a_process_goes_on_with_a_few_slots_and_remembers_what_it_was_told(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nothing.sock"
    with gates(nowhere, 1) as (gate,):
        load = Load([gate], threads=6, most=32)
        eventually(lambda: load.done > 20)
        load.stop()
        assert load.most_at_once == ALONE_SLOTS_COUNT
        gate.block(KEY, datetime.now(UTC) + timedelta(seconds=60))
        with pytest.raises(RateLimitedError):
            gate.enter(KEY, 32, None)
        assert gate.state(KEY) is None


def test_redis_that_was_emptied_hears_again_what_it_knew(url: str) -> None:
    with gates(url, 2) as (first, second):
        first.enter(KEY, 8, None)
        first.block(KEY, datetime.now(UTC) + timedelta(seconds=60))
        with redis.Redis.from_url(url) as server:
            server.flushall()
        eventually(lambda: (state := second.state(KEY)) is not None and state.blocked_seconds > 50)
        with pytest.raises(RateLimitedError):
            second.enter(KEY, 8, None)


def test_a_process_that_lost_its_way_out_takes_its_own_seat_again(url: str) -> None:
    with gates(url, 1) as (gate,):
        for _ in range(20):
            gate.enter(KEY, 2, None)  # and an exception from outside comes before `leave`
        gate.leave(KEY, "well")


FETCH = """
import sys
from connectors.base import ConnectionSpec, ScopeSpec, Window
from connectors.gitlab.client import GitLabConnector
from workers.gate import RedisGate
gate = RedisGate(sys.argv[1])
options = {"max_concurrency": int(sys.argv[3])}
spec = ConnectionSpec(id=1, kind="gitlab", name="x", base_url=sys.argv[2], auth={"token": "sim-token"}, options=options)
connector = GitLabConnector(spec, gate)
print(sum(len(p.items) for p in connector.pages(ScopeSpec(id=1, external_key="101"), "merge_requests", Window())))
connector.close()
gate.close()
"""


def test_two_real_processes_together_never_have_more_requests_at_the_source_than_allowed(url: str) -> None:
    simulator = GitLabSimulator(merge_requests=60, seed=1, latency_ms=5)
    with simulator.serve() as server:
        fetchers = [
            subprocess.Popen(
                [sys.executable, "-c", FETCH, url, server.base_url, "3"],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for _ in range(2)
        ]  # fmt: skip
        answers = [fetcher.communicate(timeout=60) for fetcher in fetchers]
    assert [out.strip() for out, _ in answers] == [b"60", b"60"], answers
    assert simulator.requests.concurrency_high_water == 3
