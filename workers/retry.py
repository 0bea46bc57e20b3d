"""What becomes of a job whose task raised: retry policies as values, and the arithmetic of waiting.

Pure: time and chance come in as arguments. What belongs here: from an error and a count of attempts to a decision.
What does not: carrying it out (task.py).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from celery.exceptions import SoftTimeLimitExceeded

from models.errors import PlumblineError, RateLimitedError, Verdict

UNNAMED_PATIENCE_SECONDS = 60
"""How long to wait for a server that asks for patience and does not say how much."""


SPREAD_RATIO = 0.1
MOST_SPREAD_SECONDS = 30.0
"""Over how long those are spread who wait for the same time: a tenth of the wait, a second to this."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a task is tried.

    Waits grow as `base * 2^n` up to `cap`, with full jitter: a source that comes back is not met by everybody at once.
    """

    max_attempts: int = 8
    base_seconds: float = 2.0
    cap_seconds: float = 600.0

    def wait_seconds(self, attempts: int, chance: float) -> float:
        """How long to wait after some attempts.

        Args:
            attempts: how many have failed, at least 1.
            chance: uniform in [0, 1).

        Returns:
            Seconds, at least a tenth of one.
        """
        ceiling: float = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempts - 1, 30))
        return max(0.1, ceiling * chance)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a job."""

    verdict: Verdict
    run_after: datetime | None = None
    """When to run it again, or None where it ends here."""
    counts_as_attempt: bool = True


def decide(error: BaseException, *, attempts: int, policy: RetryPolicy, now: datetime, chance: float) -> Decision:
    """Decide what becomes of a job.

    Args:
        error: what its task raised.
        attempts: how many there were, this one included.
        policy: of its task.
        now: aware UTC.
        chance: uniform in [0, 1), for the jitter.
    """
    verdict = Verdict.FAIL
    if isinstance(error, PlumblineError):
        verdict = error.verdict
    elif isinstance(error, SoftTimeLimitExceeded):
        verdict = Verdict.RETRY  # work is resumable, so a second run goes on where the first was stopped
    if verdict is Verdict.RESCHEDULE:
        named = error.retry_at if isinstance(error, RateLimitedError) else None
        run_after = named or now + timedelta(seconds=UNNAMED_PATIENCE_SECONDS)
        # Chance keeps those who wait for the same instant from arriving in it together.
        spread_seconds = min(MOST_SPREAD_SECONDS, max(1.0, (run_after - now).total_seconds() * SPREAD_RATIO))
        return Decision(
            verdict=verdict, run_after=run_after + timedelta(seconds=chance * spread_seconds), counts_as_attempt=False
        )
    if verdict is Verdict.RETRY and attempts < policy.max_attempts:
        return Decision(verdict=verdict, run_after=now + timedelta(seconds=policy.wait_seconds(attempts, chance)))
    return Decision(verdict=verdict)
