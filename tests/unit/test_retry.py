"""What becomes of a job whose task raised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st

from models.errors import (
    AccessDeniedError,
    BadRecordError,
    ConnectionInactiveError,
    GoneError,
    RateLimitedError,
    ServerUnavailableError,
    TransientSourceError,
    Verdict,
)
from workers.retry import UNNAMED_PATIENCE_SECONDS, RetryPolicy, decide

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=4, base_seconds=2, cap_seconds=60)


@pytest.mark.parametrize("error", [TransientSourceError(), ServerUnavailableError(), SoftTimeLimitExceeded()])
def test_passing_troubles_are_tried_again_until_the_attempts_are_used_up(error: Exception) -> None:
    for attempts in (1, 2, 3):
        decision = decide(error, attempts=attempts, policy=POLICY, now=NOW, chance=0.5)
        assert decision.verdict is Verdict.RETRY
        assert decision.run_after == NOW + timedelta(seconds=2**attempts * 0.5)
        assert decision.counts_as_attempt
    assert decide(error, attempts=4, policy=POLICY, now=NOW, chance=0.5).run_after is None


def test_a_server_that_names_a_time_is_asked_then_and_the_wait_is_no_attempt() -> None:
    until = NOW + timedelta(minutes=7)
    decision = decide(RateLimitedError(retry_at=until), attempts=99, policy=POLICY, now=NOW, chance=0.25)
    assert decision.run_after == until + timedelta(seconds=0.25 * 30)
    assert not decision.counts_as_attempt


@given(st.integers(0, 100_000), st.floats(0, 1, exclude_max=True))
def test_who_waits_for_the_same_time_is_never_early_and_spread_over_half_a_minute_at_most(
    wait_seconds: int, chance: float
) -> None:
    until = NOW + timedelta(seconds=wait_seconds)
    decision = decide(RateLimitedError(retry_at=until), attempts=1, policy=POLICY, now=NOW, chance=chance)
    assert decision.run_after is not None
    assert timedelta() <= decision.run_after - until <= timedelta(seconds=30)


def test_what_is_switched_off_ends_without_another_try() -> None:
    decision = decide(ConnectionInactiveError(), attempts=1, policy=POLICY, now=NOW, chance=0)
    assert decision.verdict is Verdict.CANCEL
    assert decision.run_after is None


def test_a_server_that_names_no_time_is_left_alone_for_a_minute() -> None:
    decision = decide(RateLimitedError(), attempts=1, policy=POLICY, now=NOW, chance=0)
    assert decision.run_after == NOW + timedelta(seconds=UNNAMED_PATIENCE_SECONDS)


@pytest.mark.parametrize("error", [AccessDeniedError(), GoneError(), BadRecordError(), ValueError("a bug"), KeyError()])
def test_what_waiting_does_not_mend_ends_at_once(error: Exception) -> None:
    assert decide(error, attempts=1, policy=POLICY, now=NOW, chance=0).run_after is None


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_stay_between_a_tenth_of_a_second_and_the_cap(attempts: int, chance: float) -> None:
    assert 0.1 <= POLICY.wait_seconds(attempts, chance) <= POLICY.cap_seconds
