"""Stages of merge requests and times of issues, by worked examples and the laws that they keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.measures.business_time import calendar_of
from models.measures.issues import Transition, issue_times, reopen_rate
from models.measures.merge_requests import MergeRequestTimes, rework_cycles, stages

HOUR = 3_600
OFFICE = calendar_of("UTC", {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")})


def june(day: int, clock: str = "00:00") -> datetime:
    return datetime.fromisoformat(f"2025-06-{day:02}T{clock}").replace(tzinfo=UTC)


EXAMPLE = MergeRequestTimes(
    first_commit_at=june(2, "08:00"),
    created_at=june(2, "12:00"),
    ready_at=june(3, "09:00"),
    first_review_at=june(3, "13:30"),
    first_approved_at=june(4, "08:30"),
    merged_at=june(4, "09:00"),
    deployed_at=june(4, "11:15"),
)


def test_the_stages_of_the_worked_example() -> None:
    found = stages(EXAMPLE)
    assert found.coding_seconds == 4 * HOUR
    assert found.draft_seconds == 21 * HOUR
    assert found.pickup_seconds == 4.5 * HOUR  # not 25.5: a draft asks for no review
    assert found.review_seconds == 19.5 * HOUR
    assert found.rework_seconds == 19 * HOUR
    assert found.merge_wait_seconds == 0.5 * HOUR
    assert found.created_to_merged_seconds == 45 * HOUR
    assert found.first_commit_to_merged_seconds == 49 * HOUR
    assert found.time_to_first_review_seconds == 25.5 * HOUR
    assert found.time_to_first_approval_seconds == 23.5 * HOUR
    assert found.deploy_seconds == 2.25 * HOUR
    assert found.lead_time_for_change_seconds == 51.25 * HOUR
    assert not found.is_provisional
    assert rework_cycles([june(3, "13:30")], [june(3, "15:00"), june(3, "15:20")], june(4, "08:30")) == 1


def test_what_is_not_deployed_has_no_lead_time_and_no_shorter_sum() -> None:
    found = stages(MergeRequestTimes(created_at=june(2), merged_at=june(4)))
    assert found.lead_time_for_change_seconds is None
    assert found.deploy_seconds is None
    assert found.is_provisional


def test_what_nobody_reviewed_has_no_pickup_and_says_how_long_it_waited() -> None:
    found = stages(MergeRequestTimes(created_at=june(2), ready_at=june(3), merged_at=june(5)))
    assert (found.pickup_seconds, found.review_seconds) == (None, None)
    assert found.unreviewed_wait_seconds == 48 * HOUR


def test_a_merge_request_of_an_empty_branch_has_no_coding_time() -> None:
    found = stages(MergeRequestTimes(created_at=june(2), first_commit_at=june(3), merged_at=june(4)))
    assert found.coding_seconds == 0
    assert found.first_commit_to_merged_seconds == 48 * HOUR


def test_an_approval_after_the_merge_is_no_wait() -> None:
    late = stages(
        MergeRequestTimes(created_at=june(2), first_review_at=june(3), first_approved_at=june(5), merged_at=june(4))
    )
    assert (late.merge_wait_seconds, late.rework_seconds, late.time_to_first_approval_seconds) == (None, None, None)


def test_a_review_that_is_the_approval_leaves_no_rework() -> None:
    found = stages(
        MergeRequestTimes(created_at=june(2), first_review_at=june(3), first_approved_at=june(3), merged_at=june(4))
    )
    assert found.rework_seconds == 0


def test_a_review_of_a_draft_is_picked_up_at_once_when_it_is_ready() -> None:
    found = stages(MergeRequestTimes(created_at=june(2), ready_at=june(4), first_review_at=june(3), merged_at=june(5)))
    assert found.pickup_seconds == 0
    assert found.time_to_first_review_seconds == 24 * HOUR


def test_a_clock_that_runs_backwards_gives_nothing_and_is_named() -> None:
    found = stages(MergeRequestTimes(created_at=june(5), merged_at=june(4), deployed_at=june(3)))
    assert found.created_to_merged_seconds is None
    assert found.deploy_seconds is None
    assert {"created_to_merged", "deploy"} <= set(found.backward)


def test_stages_in_business_time_leave_nights_and_weekends_out() -> None:
    found = stages(MergeRequestTimes(created_at=june(6, "16:00"), merged_at=june(9, "10:00")), OFFICE)
    assert found.created_to_merged_seconds == 2 * HOUR


moments = st.integers(0, 40 * 24 * 60).map(lambda minutes: june(1) + timedelta(minutes=minutes))


@given(
    st.lists(moments, min_size=3, max_size=3).map(sorted), moments, moments, moments, st.sampled_from([None, OFFICE])
)
def test_the_stages_sum_to_the_lead_time_exactly(
    in_order: list[datetime], first_commit: datetime, ready: datetime, review: datetime, calendar: object
) -> None:
    created, merged, deployed = in_order
    times = MergeRequestTimes(
        created_at=created, merged_at=merged, deployed_at=deployed,
        first_commit_at=first_commit, ready_at=ready, first_review_at=review,
    )  # fmt: skip
    found = stages(times) if calendar is None else stages(times, OFFICE)
    parts = (
        found.coding_seconds, found.draft_seconds, found.pickup_seconds, found.review_seconds, found.deploy_seconds
    )  # fmt: skip
    assert None not in parts
    assert sum(part for part in parts if part is not None) == found.lead_time_for_change_seconds


@pytest.mark.parametrize(
    ("reviews", "commits", "cycles"),
    [
        ([], [1, 2], 0),
        ([1], [], 0),
        ([1], [2, 3], 1),
        ([1, 3], [2, 4], 2),
        ([2], [1], 0),
        ([1, 2], [3], 1),
        ([1], [9], 0),
    ],
)
def test_rework_cycles_count_returns_to_the_author_before_the_approval(
    reviews: list[int], commits: list[int], cycles: int
) -> None:
    assert rework_cycles([june(day) for day in reviews], [june(day) for day in commits], june(8)) == cycles


CATEGORIES = {
    "To Do": "new", "Reopened": "new", "In Progress": "indeterminate", "In Review": "indeterminate", "Done": "done"
}  # fmt: skip
HISTORY = [
    Transition(june(2, "13:00"), "To Do", "In Progress"),
    Transition(june(3, "10:00"), "In Progress", "In Review"),
    Transition(june(3, "16:00"), "In Review", "Done", "kim"),
    Transition(june(5, "09:00"), "Done", "Reopened", "kim"),
    Transition(june(5, "11:00"), "Reopened", "In Progress"),
    Transition(june(6, "12:00"), "In Progress", "Done"),
]


def test_the_times_of_the_worked_example() -> None:
    found = issue_times(june(2, "09:00"), "To Do", HISTORY, CATEGORIES, as_of=june(30))
    assert found.lead_seconds == 99 * HOUR
    assert found.first_lead_seconds == 31 * HOUR
    assert found.cycle_seconds == 95 * HOUR
    assert found.active_seconds == 52 * HOUR
    assert {status: seconds / HOUR for status, seconds in found.seconds_in_status.items()} == {
        "To Do": 4, "In Progress": 46, "In Review": 6, "Done": 41, "Reopened": 2
    }  # fmt: skip
    assert found.flow_efficiency == pytest.approx(0.5253, abs=5e-5)
    assert (found.reopen_count, found.misclick_count) == (1, 0)
    in_office_hours = issue_times(june(2, "09:00"), "To Do", HISTORY, CATEGORIES, as_of=june(30), calendar=OFFICE)
    assert in_office_hours.lead_seconds == 35 * HOUR
    assert in_office_hours.active_seconds == 20 * HOUR


def test_a_reopened_issue_has_no_lead_time_until_it_is_done_again() -> None:
    found = issue_times(june(2, "09:00"), "To Do", HISTORY[:5], CATEGORIES, as_of=june(6))
    assert (found.lead_seconds, found.resolved_at, found.cycle_seconds) == (None, None, None)
    assert found.first_lead_seconds == 31 * HOUR
    assert sum(found.seconds_in_status.values()) == 87 * HOUR


def test_an_issue_that_was_never_started_has_no_cycle_time() -> None:
    found = issue_times(june(2), "To Do", [Transition(june(3), "To Do", "Done")], CATEGORIES, as_of=june(9))
    assert found.cycle_seconds is None
    assert found.skipped_workflow


def test_a_move_between_two_done_statuses_is_one_resolution() -> None:
    moves = [Transition(june(3), "To Do", "Done"), Transition(june(5), "Done", "Closed")]
    found = issue_times(june(2), "To Do", moves, {**CATEGORIES, "Closed": "done"}, as_of=june(9))
    assert found.lead_seconds == 24 * HOUR
    assert found.reopen_count == 0


def test_a_slip_of_the_hand_is_a_reopen_but_not_in_the_rate() -> None:
    slip = [
        Transition(june(3, "10:00"), "To Do", "Done", "kim"),
        Transition(june(3, "10:04"), "Done", "To Do", "kim"),
        Transition(june(3, "11:00"), "To Do", "Done", "kim"),
        Transition(june(3, "11:04"), "Done", "To Do", "lee"),
    ]
    found = issue_times(june(2), "To Do", slip, CATEGORIES, as_of=june(9))
    assert (found.reopen_count, found.misclick_count) == (2, 1)


def test_young_resolutions_are_not_judged() -> None:
    resolutions = [(june(1), june(3)), (june(1), june(20)), (june(2), None), (june(28), june(29))]
    assert reopen_rate(resolutions, within=timedelta(days=7), as_of=june(30)) == pytest.approx(1 / 3)
    assert reopen_rate(resolutions[3:], within=timedelta(days=7), as_of=june(30)) is None


@given(st.lists(st.tuples(moments, st.sampled_from(sorted(CATEGORIES))), max_size=12), moments)
def test_the_time_in_all_statuses_is_the_life_of_the_issue(steps: list[tuple[datetime, str]], as_of: datetime) -> None:
    steps.sort()
    moves, status = [], "To Do"
    for at, following in steps:
        moves.append(Transition(at, status, following))
        status = following
    found = issue_times(june(1), "To Do", moves, CATEGORIES, as_of=max([as_of, *(at for at, _ in steps)]))
    end = found.resolved_at or max([as_of, *(at for at, _ in steps)])
    if found.resolved_at is None or not steps or steps[-1][0] == found.resolved_at:
        assert sum(found.seconds_in_status.values()) == (end - june(1)).total_seconds()
