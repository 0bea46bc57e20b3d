"""How test runs end: pass rates with and without retries, and how much of the testing is automated. Pure.

The unit is the last attempt of a test with its parameters in a run. What was skipped or is unknown decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import msgspec

from models.measures.definition import Measure

PASSED = "passed"
FAILED = frozenset({"failed", "broken", "blocked"})

MEASURES = (
    Measure(
        name="pass_rate",
        unit="ratio",
        source="metrics 2.12",
        definition="Passed over passed, failed and broken, by "
        "the last attempt of each test; skipped ones are left out.",
    ),
    Measure(
        name="first_attempt_pass_rate",
        unit="ratio",
        source="metrics 2.12",
        definition="Passed at the first attempt over all that were decided.",
    ),
    Measure(
        name="flaky_rate",
        unit="ratio",
        source="metrics 2.12",
        definition="Passed after a failed attempt over all that were decided.",
    ),
    Measure(
        name="automation_ratio", unit="ratio", source="metrics 2.16", definition="Automated cases over active cases."
    ),
    Measure(
        name="automatable_ratio",
        unit="ratio",
        source="metrics 2.16",
        definition="Automated cases over the active cases that can be automated.",
    ),
)


class PassRates(msgspec.Struct, frozen=True, kw_only=True):
    """How a set of tests ended; the rates are None where nothing was decided."""

    decided_count: int
    passed_count: int
    final: float | None
    first_attempt: float | None
    flaky_in_run: float | None


def pass_rates(tests: Iterable[tuple[str, ...]]) -> PassRates:
    """Rates of a run.

    Args:
        tests: of each test the statuses of its attempts, first to last.
    """
    decided = passed = first = flaky = 0
    for attempts in tests:
        outcomes = [each == PASSED for each in attempts if each == PASSED or each in FAILED]
        if not attempts or not (attempts[-1] == PASSED or attempts[-1] in FAILED):
            continue
        decided += 1
        passed += outcomes[-1]
        first += outcomes[0]
        flaky += outcomes[-1] and not all(outcomes)
    return PassRates(
        decided_count=decided,
        passed_count=passed,
        final=passed / decided if decided else None,
        first_attempt=first / decided if decided else None,
        flaky_in_run=flaky / decided if decided else None,
    )


def chance_that_all_pass(failure_rates: Iterable[float]) -> float:
    """How likely a suite is green where each test fails at its own rate without cause."""
    return prod(1 - rate for rate in failure_rates)


def automation_ratios(*, automated: int, manual: int, not_automatable: int = 0) -> tuple[float | None, float | None]:
    """How much of the testing is automated.

    Args:
        automated: active cases that are.
        manual: active cases that are not.
        not_automatable: of the manual ones, those that cannot be.

    Returns:
        Over the active cases, and over those that can be automated; None where there is none.
    """
    active = automated + manual
    automatable = active - not_automatable
    return (automated / active if active else None), (automated / automatable if automatable else None)
