"""Ages, leakage, service levels, budgets, scores, deliveries and pass rates, by worked examples and their laws."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.measures.bug_budget import PAIRS, Spend, burn_rate, exhausted_in_days, is_burning, remaining_ratio
from models.measures.bugs import age_bucket, escapes, leakage, resolution_times
from models.measures.business_time import calendar_of
from models.measures.delivery import (
    Incident,
    ProductionDeployment,
    causes,
    change_fail_rate,
    deployment_frequency,
    recovery,
    rework_rate,
)
from models.measures.pass_rates import automation_ratios, chance_that_all_pass, pass_rates
from models.measures.registry import MEASURES
from models.measures.scores import health_score, monthly_revenue_at_risk, priority_score, revenue_accrued
from models.measures.sla import Clock, ClockEvent, compliance, sla_clock
from models.measures.statistics import kaplan_meier_median, percentile, wilson_interval

HOUR = 3_600
DAY = timedelta(days=1)
WORKDAYS = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
BERLIN = calendar_of("Europe/Berlin", WORKDAYS)
OFFICE_UTC = calendar_of("UTC", WORKDAYS)
NOW = datetime(2025, 6, 30, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN.zone)


# --- samples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "ratio", "expected"),
    [
        ([10, 20, 30, 40], 0.5, 25), ([10, 20, 30, 40], 0.75, 32.5), ([10, 20, 30, 40], 0.9, 37),
        ([40, 10, 30, 20], 0.95, 38.5), ([1, 2, 3, 4, 10], 0.5, 3), ([1, 2, 3, 4, 10], 0.9, 7.6), ([7], 0.9, 7),
    ],
)  # fmt: skip
def test_percentiles_are_interpolated(values: list[float], ratio: float, expected: float) -> None:
    assert percentile(values, ratio) == pytest.approx(expected)


def test_the_percentile_of_nothing_is_unknown() -> None:
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("hits", "trials", "lower", "upper"),
    [(3, 40, 0.0258, 0.1986), (1, 20, 0.0089, 0.2361), (0, 20, 0, 0.1611), (7, 20, 0.1812, 0.5671), (2, 2, 0.3424, 1)],
)
def test_wilson_bounds(hits: int, trials: int, lower: float, upper: float) -> None:
    assert wilson_interval(hits, trials) == pytest.approx((lower, upper), abs=5e-5)


def test_bugs_that_are_still_open_count_in_the_median() -> None:
    durations = [(2, True), (3, False), (5, True), (8, False), (9, True)]
    assert kaplan_meier_median([(float(days), ended) for days, ended in durations]) == 9
    found = resolution_times([(NOW - days * DAY, NOW if ended else None) for days, ended in durations], as_of=NOW)
    assert found.kaplan_meier_median_days == 9
    assert found.median_days == 5
    assert (found.resolved_count, found.open_count) == (3, 2)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_without_open_ones_the_median_is_that_of_the_sample_and_open_ones_never_shorten_it(
    durations: list[tuple[int, bool]],
) -> None:
    ended = [(float(days), True) for days, _ in durations]
    all_ended = kaplan_meier_median(ended)
    if ended:
        values = sorted(days for days, _ in ended)
        assert all_ended == values[(len(values) - 1) // 2]
    some_open = kaplan_meier_median([(float(days), is_over) for days, is_over in durations])
    assert some_open is None or all_ended is None or some_open >= all_ended


# --- bugs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_days", "bucket"), [(0, 0), (6.99, 0), (7, 7), (29.9, 7), (30, 30), (90, 90), (180, 180), (999, 180)]
)
def test_buckets_of_age_begin_where_they_say(age_days: float, bucket: int) -> None:
    assert age_bucket(NOW - age_days * DAY, NOW) == bucket


def test_leakage_escape_and_removal_of_the_worked_example() -> None:
    assert leakage([40, 25, 20, 10, 5]) == pytest.approx([0.60, 0.5833, 0.4286, 0.3333], abs=5e-5)
    found = [("test", NOW)] * 95 + [("production", NOW + DAY)] * 5 + [(None, NOW)] * 3
    outcome = escapes(found, released_at=NOW, as_of=NOW + 90 * DAY, production="production")
    assert (outcome.escape_rate, outcome.defect_removal_efficiency) == pytest.approx((0.05, 0.95))
    assert outcome.unknown_count == 3  # shown, and never counted as found inside
    assert not outcome.is_provisional
    assert escapes(found, released_at=NOW, as_of=NOW + 89 * DAY, production="production").is_provisional


def test_leakage_of_nothing_is_unknown() -> None:
    assert leakage([0, 0]) == [None]
    assert escapes([], released_at=NOW, as_of=NOW, production="production").escape_rate is None


# --- service levels ---------------------------------------------------------------------------------------------

PAUSED = [
    ClockEvent(berlin("2025-05-05T10:00"), "pause"),
    ClockEvent(berlin("2025-05-05T14:00"), "resume"),
]


@pytest.mark.parametrize(("resolved", "is_breached"), [("2025-05-06T11:00", False), ("2025-05-06T11:00:01", True)])
def test_to_consume_exactly_the_target_is_to_keep_it(resolved: str, is_breached: bool) -> None:
    clock = sla_clock(
        berlin("2025-05-02T15:00"), 8 * HOUR, [*PAUSED, ClockEvent(berlin(resolved), "stop")],
        as_of=utc("2025-05-20"), calendar=BERLIN,
    )  # fmt: skip
    assert clock.consumed_seconds == 8 * HOUR + is_breached
    assert clock.due_at == utc("2025-05-06T09:00")
    assert clock.breached_at == (utc("2025-05-06T09:00") if is_breached else None)
    assert clock.state == "stopped"


@pytest.mark.parametrize("looked_at", ["2025-06-03T13:00", "2025-06-04T10:00", "2025-07-01"])
def test_a_severity_that_is_raised_too_late_breaches_at_that_time_and_not_before(looked_at: str) -> None:
    raised = ClockEvent(utc("2025-06-03T13:00"), "target", 8 * HOUR)
    clock = sla_clock(utc("2025-06-02T09:00"), 24 * HOUR, [raised], as_of=utc(looked_at), calendar=OFFICE_UTC)
    assert clock.breached_at == utc("2025-06-03T13:00")  # not 2025-06-02T17:00
    assert clock.breaches[0].reason == "severity_raised"


def test_a_breach_is_stamped_with_the_time_of_the_crossing_whoever_looks_and_whenever() -> None:
    for hours_later in (1, 30, 3_000):
        clock = sla_clock(
            utc("2025-06-02T09:00"), 24 * HOUR, as_of=utc("2025-06-05T09:00") + timedelta(hours=hours_later),
            calendar=OFFICE_UTC,
        )  # fmt: skip
        assert clock.breached_at == utc("2025-06-04T17:00")
    before = sla_clock(utc("2025-06-02T09:00"), 24 * HOUR, as_of=utc("2025-06-05T09:00"), calendar=OFFICE_UTC)
    assert (before.breached_at, before.due_at) == (None, utc("2025-06-04T17:00"))


def test_what_was_consumed_is_carried_on_to_the_new_target() -> None:
    clock = sla_clock(
        utc("2025-06-02T10:00"), 3 * HOUR, [ClockEvent(utc("2025-06-02T11:00"), "target", 2 * HOUR)],
        as_of=utc("2025-06-02T11:30"),
    )  # fmt: skip
    assert clock.due_at == utc("2025-06-02T12:00")


def test_a_lower_severity_does_not_take_a_breach_back() -> None:
    clock = sla_clock(
        utc("2025-06-02T10:00"), HOUR, [ClockEvent(utc("2025-06-02T12:00"), "target", 100 * HOUR)],
        as_of=utc("2025-06-02T13:00"),
    )  # fmt: skip
    assert clock.breached_at == utc("2025-06-02T11:00")


@pytest.mark.parametrize(
    ("rule", "consumed_hours", "cycle", "state"),
    [("resume", 3, 1, "running"), ("restart", 1, 2, "running"), ("ignore", 2, 1, "stopped")],
)
def test_a_reopened_clock_follows_its_rule(rule: str, consumed_hours: int, cycle: int, state: str) -> None:
    events = [ClockEvent(utc("2025-06-02T12:00"), "stop"), ClockEvent(utc("2025-06-05T10:00"), "reopen")]
    clock = sla_clock(
        utc("2025-06-02T10:00"),
        10 * HOUR,
        events,
        as_of=utc("2025-06-05T11:00"),
        on_reopen=rule,
    )
    assert (clock.consumed_seconds, clock.cycle, clock.state) == (consumed_hours * HOUR, cycle, state)


def test_a_paused_clock_has_no_due_time() -> None:
    clock = sla_clock(
        utc("2025-06-02T10:00"), HOUR, [ClockEvent(utc("2025-06-02T10:30"), "pause")], as_of=utc("2025-07-01")
    )
    assert (clock.due_at, clock.breached_at, clock.state) == (None, None, "paused")


def test_compliance_counts_what_was_due_and_not_what_was_resolved() -> None:
    since, until = utc("2025-06-01"), utc("2025-07-01")

    def clock(*events: ClockEvent) -> Clock:
        return sla_clock(utc("2025-06-02T10:00"), 24 * HOUR, events, as_of=until)

    in_time = [clock(ClockEvent(utc("2025-06-03T09:00"), "stop"))] * 6
    late = [clock(ClockEvent(utc("2025-06-04T09:00"), "stop"))] * 2
    overdue = [clock()]
    paused = [clock(ClockEvent(utc("2025-06-02T11:00"), "pause"))]
    assert compliance([*in_time, *late, *overdue, *paused], since=since, until=until) == pytest.approx(6 / 9)
    assert compliance(paused, since=since, until=until) is None
    assert compliance(in_time, since=until, until=until + 30 * DAY) is None


moments = st.integers(0, 20 * 24 * 60).map(lambda minutes: utc("2025-06-01") + timedelta(minutes=minutes))


@given(
    st.lists(st.tuples(moments, st.sampled_from(["pause", "resume", "stop", "reopen"])), max_size=8),
    moments,
    moments,
    st.integers(60, 40 * HOUR),
)
def test_looking_twice_or_earlier_finds_the_same_breach(
    events: list[tuple[datetime, str]], earlier: datetime, later: datetime, target: int
) -> None:
    history = [ClockEvent(at, kind) for at, kind in sorted(events)]
    earlier, later = sorted((earlier, later))
    start = utc("2025-06-01")
    first = sla_clock(start, target, history, as_of=earlier, calendar=OFFICE_UTC)
    second = sla_clock(start, target, history, as_of=later, calendar=OFFICE_UTC)
    assert second.breaches[: len(first.breaches)] == first.breaches
    assert second.consumed_seconds >= first.consumed_seconds
    assert (first.breached_at is not None) == (first.consumed_seconds > target)


# --- budgets ----------------------------------------------------------------------------------------------------


def test_the_fast_pair_fires_and_a_low_bug_alone_does_not() -> None:
    budget = {"budget_points": 60.0, "window": 28 * DAY, "as_of": NOW}
    two_days = [Spend(NOW - timedelta(hours=40), 10), Spend(NOW - timedelta(hours=20), 2)]
    fast = PAIRS[0]
    high = [*two_days, Spend(NOW - timedelta(hours=6), 5)]
    assert burn_rate(high, over=fast.long, **budget) == pytest.approx(3.9667, abs=5e-5)
    assert burn_rate(high, over=fast.short, **budget) == pytest.approx(4.6667, abs=5e-5)
    assert is_burning(fast, high, **budget)
    low = [*two_days, Spend(NOW - timedelta(hours=20), 4), Spend(NOW - timedelta(hours=6), 1)]
    assert burn_rate(low, over=fast.short, **budget) == pytest.approx(0.9333, abs=5e-5)
    assert not is_burning(fast, low, **budget)


def test_an_alert_clears_below_nine_tenths_of_its_threshold_and_not_at_it() -> None:
    points = 0.95 * 3.5 * 60 / 56  # in twelve hours, of 60 in 28 days
    ledger = [Spend(NOW - timedelta(hours=1), points)]
    budget = {"budget_points": 60.0, "window": 28 * DAY, "as_of": NOW}
    assert is_burning(PAIRS[0], ledger, was_burning=True, **budget)
    assert not is_burning(PAIRS[0], ledger, **budget)


def test_what_is_left_of_a_budget_and_how_long_it_lasts() -> None:
    ledger = [Spend(NOW - DAY, 17), Spend(NOW - 10 * DAY, 28), Spend(NOW - 28 * DAY, 0.0), Spend(NOW - 29 * DAY, 99)]
    budget = {"budget_points": 60.0, "window": 28 * DAY, "as_of": NOW}
    assert remaining_ratio(ledger, **budget) == pytest.approx(0.25)
    assert exhausted_in_days(ledger, over=2 * DAY, **budget) == pytest.approx(1.765, abs=5e-4)
    assert exhausted_in_days([], over=2 * DAY, **budget) is None
    assert remaining_ratio([Spend(NOW - DAY, 90)], **budget) == pytest.approx(-0.5)


# --- scores -----------------------------------------------------------------------------------------------------


def test_the_priority_of_the_worked_example_with_and_without_its_revenue() -> None:
    known = {"severity": "high", "sla_consumed_ratio": 18 / 24, "customers": 99, "age_days": 45, "reopens": 1}
    full = priority_score(monthly_revenue=9_999, **known)
    assert (full.value, full.confidence) == pytest.approx((66.3333, 1), abs=5e-5)
    partial = priority_score(**known)
    assert (partial.value, partial.confidence) == pytest.approx((66.2745, 0.85), abs=5e-5)
    assert partial.components["revenue"] is None
    assert priority_score(severity="low", is_blocker=True).value == 90
    assert priority_score(severity=None).value is None


def test_revenue_at_risk_and_what_it_came_to() -> None:
    monthly = monthly_revenue_at_risk(Decimal(20_000), "high")
    assert monthly == 10_000
    assert round(revenue_accrued(monthly, Decimal(6)), 2) == Decimal("1971.25")


HEALTHY = {
    "pass_rate": 0.95, "flaky_ratio": 0.02, "sla_compliance": 0.90, "budget_remaining_ratio": 0.25,
    "mr_lead_time_p50_hours": 49.0, "change_fail_rate": 0.40, "old_critical_bugs": 1.0,
}  # fmt: skip


def test_the_health_of_the_worked_example() -> None:
    found = health_score(HEALTHY)
    assert found.value == pytest.approx(64.2804, abs=5e-4)
    assert found.capped_by == ("change_fail_rate",)
    unknown = health_score({**HEALTHY, "change_fail_rate": None})
    assert unknown.value == pytest.approx(71.4227, abs=5e-4)
    assert unknown.capped_by == ()


def test_a_component_at_nothing_caps_the_health_and_too_little_knowledge_gives_none() -> None:
    best = {"pass_rate": 1.0, "flaky_ratio": 0.0, "sla_compliance": 1.0, "budget_remaining_ratio": 1.0}
    assert health_score(best).value == pytest.approx(100)
    assert health_score({**best, "change_fail_rate": 0.5}).value == 69
    assert health_score({"pass_rate": 1.0, "flaky_ratio": 0.0, "sla_compliance": 1.0}).value is None


# --- delivery ---------------------------------------------------------------------------------------------------


def test_weeks_without_a_deployment_count() -> None:
    monday = date(2025, 6, 2)
    days = [monday + timedelta(days=14 + day) for day in (0, 1, 2)] + [
        monday + timedelta(days=21 + day) for day in range(4)
    ]
    assert deployment_frequency([*days, *days], since=monday, weeks=4) == (1.5, "weekly")
    assert deployment_frequency([], since=monday, weeks=4) == (0, "monthly")


DEPLOYMENTS = [
    ProductionDeployment(id=f"d{number}", service="shop", finished_at=NOW + number * 4 * DAY, is_rework=number == 3)
    for number in range(1, 6)
]
INCIDENTS = [
    Incident(
        id="i1",
        service="shop",
        started_at=NOW + 8 * DAY + timedelta(minutes=5),
        resolved_at=NOW + 8 * DAY + timedelta(minutes=60),
    ),
    Incident(
        id="i2",
        service="shop",
        started_at=NOW + 8 * DAY + timedelta(minutes=9),
        resolved_at=NOW + 8 * DAY + timedelta(minutes=150),
    ),
    Incident(
        id="i3",
        service="shop",
        started_at=NOW + 16 * DAY,
        resolved_at=NOW + 16 * DAY + timedelta(minutes=40),
        caused_by="d4",
    ),
]


def test_failures_are_counted_by_deployment_and_not_by_incident() -> None:
    found = causes(DEPLOYMENTS, INCIDENTS)
    assert found == {"i1": "d2", "i2": "d2", "i3": "d4"}
    assert change_fail_rate(DEPLOYMENTS, found) == pytest.approx(0.40)
    assert recovery(DEPLOYMENTS, INCIDENTS, found).median_seconds == 95 * 60
    assert recovery(DEPLOYMENTS, INCIDENTS, found, is_per_incident=True).median_seconds == 60 * 60
    assert rework_rate(DEPLOYMENTS) == pytest.approx(0.20)


def test_an_incident_long_after_a_deployment_or_of_another_service_has_no_cause() -> None:
    late = Incident(id="i4", service="shop", started_at=NOW + 7 * DAY + timedelta(seconds=1))
    other = Incident(id="i5", service="search", started_at=NOW + 8 * DAY)
    on_time = Incident(id="i6", service="shop", started_at=NOW + 7 * DAY)
    assert causes(DEPLOYMENTS, [late, other, on_time]) == {"i6": "d1"}
    assert change_fail_rate([], {}) is None


def test_a_deployment_whose_incident_is_open_is_shown_apart() -> None:
    still_open = Incident(id="i7", service="shop", started_at=NOW + 8 * DAY)
    found = recovery(DEPLOYMENTS, [*INCIDENTS, still_open], causes(DEPLOYMENTS, [*INCIDENTS, still_open]))
    assert (found.median_seconds, found.recovered_count, found.open_count) == (40 * 60, 1, 1)


# --- tests ------------------------------------------------------------------------------------------------------


def test_retries_are_seen_and_what_was_not_decided_is_left_out() -> None:
    run = [("passed",)] * 85 + [("failed", "passed")] * 5 + [("failed",)] * 4 + [("broken",)] * 3
    found = pass_rates([*run, ("skipped",), ("skipped",), ("unknown",), ()])
    assert (found.final, found.first_attempt, found.flaky_in_run) == pytest.approx((0.9278, 0.8763, 0.0515), abs=5e-5)
    assert pass_rates([("skipped",)]).final is None


def test_small_flake_rates_make_a_large_suite_red() -> None:
    assert chance_that_all_pass([0.001] * 1_000) == pytest.approx(0.3677, abs=5e-5)


def test_automation_counts_active_cases() -> None:
    assert automation_ratios(automated=120, manual=50, not_automatable=10) == pytest.approx((0.7059, 0.75), abs=5e-5)
    assert automation_ratios(automated=0, manual=0) == (None, None)


# --- definitions ------------------------------------------------------------------------------------------------


def test_every_measure_says_what_it_means_in_which_unit_and_whose_definition_it_is() -> None:
    for subject, measures in MEASURES.items():
        names = [each.name for each in measures]
        assert names, subject
        assert len(names) == len(set(names)), subject
        for each in measures:
            assert each.unit, each.name
            assert each.definition.endswith("."), each.name
            assert each.source, each.name
            assert each.version >= 1, each.name
