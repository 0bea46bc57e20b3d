"""Laws: whatever happens to the inputs, in whatever order, what is kept by changes equals a rebuild.

Each example runs in a transaction that is undone.
"""

from __future__ import annotations

from typing import Any

from factories.bug_days import expected_bugs
from factories.rows import Rows
from factories.worlds import (
    COMMON,
    ZONES,
    GitLabWorld,
    JiraWorld,
    TestWorld,
    World,
    activities,
    arrivals,
    attempts,
    changes,
    events,
    gitlab_settings,
    identities,
    issues,
    jira_settings,
    merge_requests,
    results,
    test_runs,
    test_settings,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.store.session import Database

few = settings(
    max_examples=max(1, settings().max_examples // 10),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""A tenth of what the profile asks for: each example is some hundred statements."""


@few
@given(st.lists(st.one_of(issues, changes, changes, *jira_settings, *COMMON), min_size=5, max_size=40))
def test_jira_summaries_kept_by_changes_equal_a_rebuild(
    database: Database, operations: list[tuple[str, dict[str, Any]]]
) -> None:
    with database.transaction() as session:
        world = JiraWorld(Rows(session))
        world.run(operations)
        world.settle()
        session.rollback()


@few
@given(
    st.lists(st.one_of(issues, issues, changes, changes, changes, *jira_settings), min_size=10, max_size=40),
    st.sampled_from(ZONES),
)
def test_bugs_a_day_are_what_their_definition_says(
    database: Database, operations: list[tuple[str, dict[str, Any]]], timezone: str
) -> None:
    with database.transaction() as session:
        world = JiraWorld(Rows(session))
        world.zone(1, timezone)
        world.run(operations)
        world.settle()
        found = {
            (project_id, day): tuple(numbers)
            for project_id, day, *numbers in world.rows.table(
                "bug_analytics_daily",
                "project_id, date, bugs_created, bugs_resolved, bugs_closed, bugs_reopened, critical_bugs, "
                "high_priority_bugs, medium_priority_bugs, low_priority_bugs",
            )
        }
        assert found == expected_bugs(world)
        unbalanced = world.rows.sql(
            "SELECT * FROM bug_analytics_daily WHERE open_bugs <> "
            "critical_bugs + high_priority_bugs + medium_priority_bugs + low_priority_bugs OR open_bugs < 0"
        ).all()
        assert unbalanced == []
        session.rollback()


@few
@given(st.lists(changes, max_size=30))
def test_the_times_in_each_status_add_up(database: Database, operations: list[tuple[str, dict[str, Any]]]) -> None:
    with database.transaction() as session:
        world = JiraWorld(Rows(session))
        for issue in (1, 2, 3):
            world.issue(0, issue, "AB", issue, 0, "Done", issuetype="Bug", priority=None, severity=None, deleted=None)
        world.run(operations)
        world.settle()
        wrong = world.rows.sql(
            """
            SELECT l.issue_id FROM jira_lead_times l
            CROSS JOIN LATERAL (
                SELECT max(changed_at) AS at FROM jira_issue_changes c
                WHERE c.connection_id = l.connection_id AND c.issue_id = l.issue_id AND c.field = 'status') AS last
            CROSS JOIN LATERAL (
                SELECT COALESCE(sum(h.value::numeric), 0) AS hours FROM jsonb_each_text(l.time_in_status) AS h) AS spent
            WHERE spent.hours <> COALESCE(EXTRACT(epoch FROM last.at - l.issue_created_at) / 3600, 0)
               OR l.active_time_hours > spent.hours
               OR l.lead_time_hours < l.first_lead_time_hours
               OR l.cycle_time_hours > l.lead_time_hours
               OR (l.resolved_at IS NULL) <> (l.lead_time_hours IS NULL)
            """
        ).all()
        assert wrong == []
        session.rollback()


@few
@given(st.lists(st.one_of(test_runs, results, attempts, *test_settings, *COMMON), min_size=5, max_size=40))
def test_test_summaries_kept_by_changes_equal_a_rebuild(
    database: Database, operations: list[tuple[str, dict[str, Any]]]
) -> None:
    with database.transaction() as session:
        world = TestWorld(Rows(session))
        world.run(operations)
        world.settle()
        session.rollback()


@few
@given(
    st.lists(
        st.one_of(activities, activities, events, identities, merge_requests, *gitlab_settings, *COMMON),
        min_size=5,
        max_size=40,
    )
)
def test_gitlab_summaries_kept_by_changes_equal_a_rebuild(
    database: Database, operations: list[tuple[str, dict[str, Any]]]
) -> None:
    with database.transaction() as session:
        world = GitLabWorld(Rows(session))
        world.run(operations)
        world.settle()
        session.rollback()


@few
@given(arrivals())
def test_the_order_of_arrival_does_not_matter(
    database: Database, arrived: tuple[type[World], list[Any], list[Any]]
) -> None:
    kind, *orders = arrived
    snapshots = []
    with database.transaction() as session:
        world = kind(Rows(session))
        for order in orders:
            with session.begin_nested() as savepoint:
                world.hour = 0
                world.run(order)
                world.settle()
                snapshots.append(world.snapshot())
                savepoint.rollback()
        session.rollback()
    assert snapshots[0] == snapshots[1]
