"""Bugs a day: folded from events, never from what an issue is now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from factories.rows import Rows, utc

from models.store import summaries
from models.store.session import Database

NOW = utc("2025-06-05 20:00")


def day(number: int, hour: float = 10) -> datetime:
    """An hour of the day of that number in June."""
    return utc("2025-06-01 00:00") + timedelta(days=number - 1, hours=hour)


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


@pytest.fixture
def connection(rows: Rows) -> int:
    return rows.connection()


@pytest.fixture
def project(rows: Rows) -> int:
    return rows.project()


@pytest.fixture
def scope(rows: Rows, connection: int, project: int) -> int:
    return rows.scope(connection, project)


def days(rows: Rows, columns: str = "open_bugs", *, project: str = "Shop", as_of: datetime = NOW) -> list[Any]:
    """One value, or tuple of values, for each day, after everything dirty was taken."""
    rows.settle(as_of)
    found = rows.sql(
        f"SELECT {columns} FROM bug_analytics_daily WHERE project = :project ORDER BY date", project=project
    )
    return [row[0] if len(row) == 1 else tuple(row) for row in found]


def test_the_worked_example_gives_its_numbers(rows: Rows, connection: int, scope: int) -> None:
    rows.scope(connection, rows.project("Elsewhere"), "ZZ")
    rows.issue(
        scope,
        day(1),
        [
            (day(2), "status", "To Do", "Done"),
            (day(4), "status", "Done", "Reopened"),
            (day(5), "status", "Reopened", "Done"),
        ],
    )
    rows.issue(scope, day(1))
    rows.issue(scope, day(2), [(day(2, 15), "status", "To Do", "Done")])
    rows.issue(scope, day(3), [(day(4), "issuetype", "Task", "Bug")])
    rows.issue(scope, day(1), [(day(3), "issuekey", "AB-5", "ZZ-1")], key="AB-5")
    columns = "date, bugs_created, bugs_closed, bugs_reopened, open_bugs"
    assert [tuple(map(str, row)) for row in days(rows, columns)] == [
        ("2025-06-01", "3", "0", "0", "3"),
        ("2025-06-02", "1", "2", "0", "2"),
        ("2025-06-03", "0", "0", "0", "1"),
        ("2025-06-04", "0", "0", "1", "3"),
        ("2025-06-05", "0", "1", "0", "2"),
    ]
    assert days(rows, "open_bugs", project="Elsewhere") == [1, 1, 1]


def test_every_transition_of_a_day_counts(rows: Rows, scope: int) -> None:
    history = [
        (day(2, 9), "status", "To Do", "Done"),
        (day(2, 10), "status", "Done", "Reopened"),
        (day(2, 11), "status", "Reopened", "In Progress"),
        (day(2, 12), "status", "In Progress", "Closed"),
        (day(2, 13), "status", "Closed", "Done"),
    ]
    rows.issue(scope, day(1), history)
    assert days(rows, "bugs_closed, bugs_reopened, open_bugs")[:2] == [(0, 0, 1), (2, 1, 0)]


def test_an_event_at_local_midnight_belongs_to_the_day_that_begins(rows: Rows, connection: int) -> None:
    scope = rows.scope(connection, rows.project(timezone="Europe/Berlin"))
    midnight = datetime(2025, 6, 3, tzinfo=ZoneInfo("Europe/Berlin"))
    rows.issue(scope, midnight - timedelta(days=1), [(midnight, "status", "To Do", "Done")])
    rows.issue(scope, midnight - timedelta(days=1), [(midnight - timedelta(microseconds=1), "status", "To Do", "Done")])
    assert [(str(date), *rest) for date, *rest in days(rows, "date, bugs_created, bugs_closed, open_bugs")][:2] == [
        ("2025-06-02", 2, 1, 1),
        ("2025-06-03", 0, 1, 0),
    ]


@pytest.mark.parametrize(
    ("timezone", "date", "hours"),
    [
        ("Europe/Berlin", "2025-03-30", 23),
        ("America/New_York", "2025-11-02", 25),
        # Set back over midnight, so that the last hour of the day before comes twice.
        ("America/Sao_Paulo", "2010-02-20", 25),
        # Set back at one o'clock to midnight: the day begins with the second one.
        ("America/Havana", "2024-11-03", 24),
        ("America/St_Johns", "2010-11-06", 25),
    ],
)
def test_a_day_is_as_long_as_its_time_zone_makes_it(
    rows: Rows, connection: int, timezone: str, date: str, hours: int
) -> None:
    zone = ZoneInfo(timezone)
    scope = rows.scope(connection, rows.project(timezone=timezone))
    begins = datetime.fromisoformat(date).replace(tzinfo=zone, fold=1).astimezone(UTC)
    assert (begins + timedelta(hours=hours)).astimezone(zone).strftime("%H:%M") == "00:00"
    for at in (
        begins - timedelta(seconds=1),
        begins,
        begins + timedelta(hours=hours) - timedelta(seconds=1),
        begins + timedelta(hours=hours),
    ):
        rows.issue(scope, at)
    found = days(rows, "date, bugs_created", as_of=begins + timedelta(days=3))
    assert [created for _, created in found][:3] == [1, 2, 1]
    assert str(found[1][0]) == date


def test_a_moved_bug_leaves_one_project_and_joins_the_other(rows: Rows, connection: int, scope: int) -> None:
    other = rows.project("Till")
    rows.scope(connection, other, "CD")
    issue_id = rows.issue(scope, day(1), key="AB-1")
    assert days(rows) == [1, 1, 1, 1, 1]
    assert days(rows, project="Till") == []
    rows.sql("UPDATE jira_table_history SET issuekey = 'CD-9', project = 'CD', project_id = :other", other=other)
    rows.change(connection, issue_id, day(3), "issuekey", "AB-1", "CD-9")
    assert days(rows) == [1, 1, 0, 0, 0]
    assert days(rows, "open_bugs, bugs_created, bugs_closed", project="Till") == [(1, 0, 0)] * 3
    rows.change(connection, issue_id, day(4), "status", "To Do", "Done")
    assert days(rows, "bugs_closed") == [0] * 5
    assert days(rows, "bugs_closed", project="Till") == [0, 1, 0]


def test_a_move_is_known_by_either_name_of_the_field(rows: Rows, connection: int, scope: int) -> None:
    rows.scope(connection, rows.project("Till"), "CD")
    issue_id = rows.issue(scope, day(1), key="CD-9")
    rows.change(connection, issue_id, day(3), "key", "AB-1", "CD-9")
    assert days(rows) == [1, 1, 0, 0, 0]
    assert days(rows, project="Till") == [1, 1, 1]


def test_a_bug_that_moves_to_an_unknown_project_is_outside(rows: Rows, connection: int, scope: int) -> None:
    rows.issue(scope, day(1), [(day(3), "issuekey", "AB-1", "XX-9")], key="AB-1")
    assert days(rows) == [1, 1, 0, 0, 0]
    rows.scope(connection, rows.project("Late"), "XX")
    assert days(rows, project="Late") == [1, 1, 1]


def test_a_move_that_closes_in_the_same_history_is_no_closing_of_either(
    rows: Rows, connection: int, scope: int
) -> None:
    rows.scope(connection, rows.project("Till"), "CD")
    history = [(day(2), "status", "To Do", "Done"), (day(2), "issuekey", "AB-1", "CD-1")]
    rows.issue(scope, day(1), history, key="AB-1")
    columns = "open_bugs, bugs_created, bugs_closed, bugs_reopened"
    assert days(rows, columns) == [(1, 1, 0, 0)] + [(0, 0, 0, 0)] * 4
    assert days(rows, columns, project="Till") == []


def test_a_deleted_bug_leaves_the_stock_and_keeps_its_history(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1))
    rows.issue(scope, day(1))
    rows.settle(NOW)
    rows.sql(
        "UPDATE jira_table_history SET deleted_at = :at WHERE id = (SELECT min(id) FROM jira_table_history)", at=day(3)
    )
    assert days(rows, "bugs_created, bugs_closed, open_bugs") == [(2, 0, 2), (0, 0, 2), (0, 0, 1), (0, 0, 1), (0, 0, 1)]
    rows.sql("UPDATE jira_table_history SET deleted_at = NULL")
    assert days(rows) == [2] * 5


def test_what_happened_to_an_issue_after_its_deletion_does_not_count(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1), [(day(4), "status", "To Do", "Done")], deleted_at=day(2))
    assert days(rows, "bugs_closed, open_bugs") == [(0, 1)] + [(0, 0)] * 4
    rows.issue(scope, day(2), deleted_at=day(1))
    assert days(rows, "bugs_created") == [1, 0, 0, 0, 0]


def test_a_bug_that_becomes_something_else_leaves_without_being_closed(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1), [(day(2), "issuetype", "Bug", "Story"), (day(4), "issuetype", "Story", "Defect")])
    assert days(rows, "bugs_created, bugs_closed, open_bugs") == [(1, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 1)]


def test_a_late_event_corrects_the_days_since(rows: Rows, connection: int, scope: int) -> None:
    issue_id = rows.issue(scope, day(1), [(day(4), "status", "To Do", "Done")])
    assert days(rows) == [1, 1, 1, 0, 0]
    rows.change(connection, issue_id, day(2), "status", "To Do", "Closed", change_id="0")
    assert days(rows, "open_bugs, bugs_closed") == [(1, 0), (0, 1), (0, 0), (0, 0), (0, 0)]


def test_two_scopes_may_feed_one_project(rows: Rows, connection: int, project: int, scope: int) -> None:
    other_instance = rows.scope(rows.connection(), project)
    second = rows.scope(connection, project, "CD")
    for each in (scope, second, other_instance):
        rows.issue(each, day(1))
    rows.issue(scope, day(2), [(day(3), "issuekey", "AB-77", "CD-77")], key="AB-77")
    assert days(rows, "bugs_created, open_bugs") == [(3, 3), (1, 4), (0, 4), (0, 4), (0, 4)]


def test_two_connections_to_one_instance_count_an_issue_once(rows: Rows, project: int) -> None:
    urls = ("https://jira.example.com", "HTTPS://JIRA.example.com/")
    scopes = [rows.scope(rows.connection(base_url=url), project) for url in urls]
    for each in scopes:
        rows.issue(each, day(1), [(day(3), "status", "To Do", "Done")], issue_id="1", key=f"AB-{each}")
    columns = "bugs_created, bugs_closed, open_bugs"
    once = [(1, 0, 1), (0, 0, 1), (0, 1, 0), (0, 0, 0), (0, 0, 0)]
    assert days(rows, columns) == once
    # The copy that one token lost sight of gives way to the other.
    rows.sql("UPDATE jira_table_history SET deleted_at = :at WHERE sync_scope_id = :id", at=day(2), id=scopes[0])
    assert days(rows, columns) == once
    rows.sql("UPDATE connections SET base_url = 'https://elsewhere.example.com' WHERE base_url LIKE 'HTTPS%'")
    assert days(rows, "bugs_created") == [2, 0, 0, 0, 0]


def test_a_scope_that_feeds_another_project_takes_its_bugs_along(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1))
    assert days(rows) == [1] * 5
    rows.sql("UPDATE sync_scopes SET project_id = :id", id=rows.project("Till"))
    assert days(rows) == []
    assert days(rows, project="Till") == [1] * 5


def test_the_stock_is_carried_through_days_without_events_and_days_to_come(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1))
    assert days(rows) == [1] * 5
    assert "bug_analytics_daily" not in summaries.dirty_summaries(rows.session, as_of=NOW)
    assert "bug_analytics_daily" in summaries.dirty_summaries(rows.session, as_of=NOW + timedelta(days=2))
    written = rows.settle(NOW + timedelta(days=2))["bug_analytics_daily"]
    assert written == 2
    assert days(rows, as_of=NOW + timedelta(days=2)) == [1] * 7


def test_the_last_day_is_the_local_one_of_the_project(rows: Rows, connection: int) -> None:
    scope = rows.scope(connection, rows.project(timezone="Pacific/Auckland"))
    rows.issue(scope, day(4))
    assert [str(date) for date in days(rows, "date", as_of=utc("2025-06-05 13:00"))] == [
        "2025-06-04",
        "2025-06-05",
        "2025-06-06",
    ]


def test_an_event_from_a_clock_ahead_waits_for_its_day(rows: Rows, connection: int, scope: int) -> None:
    issue_id = rows.issue(scope, day(1))
    rows.issue(scope, day(7))
    rows.change(connection, issue_id, day(6), "status", "To Do", "Done")
    assert days(rows, "bugs_created, open_bugs") == [(1, 1)] + [(0, 1)] * 4
    assert days(rows, "bugs_created, open_bugs", as_of=day(7, 20))[5:] == [(0, 0), (1, 1)]


def test_a_project_whose_first_bug_comes_from_a_clock_ahead_gets_it(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(6))
    assert days(rows) == []
    assert days(rows, as_of=day(6, 20)) == [1]


def test_a_bug_that_began_as_closed_was_created_and_closed(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1), status="Done")
    assert days(rows, "bugs_created, bugs_closed, open_bugs, avg_resolution_hours")[0] == (1, 1, 0, None)


def test_the_time_to_close_is_the_mean_of_those_closed_that_day(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1), [(day(3), "status", "To Do", "Done")])
    rows.issue(scope, day(2), [(day(3), "status", "To Do", "Done"), (day(4), "status", "Done", "To Do")])
    rows.issue(scope, day(5), [(day(3), "status", "To Do", "Done")])
    assert days(rows, "avg_resolution_hours, bugs_closed")[1:] == [(None, 0), (36, 2), (None, 0), (0, 1)]


def test_resolved_counts_entries_into_a_resolution_while_it_is_a_bug_here(rows: Rows, scope: int) -> None:
    rows.issue(
        scope,
        day(1),
        [
            (day(2), "resolution", None, "Done"),
            (day(2, 11), "resolution", "Done", "Duplicate"),
            (day(3), "resolution", "Duplicate", None),
            (day(4), "resolution", None, "Done"),
        ],
    )
    rows.issue(scope, day(1), [(day(2), "resolution", None, "Done")], issuetype="Task")
    rows.issue(scope, day(1), [(day(2), "resolution", "", "Done"), (day(2), "status", "To Do", "Done")])
    rows.issue(scope, day(1), [(day(2), "issuekey", "AB-9", "XX-9"), (day(3), "resolution", None, "Done")], key="AB-9")
    assert days(rows, "bugs_resolved, bugs_closed") == [(0, 0), (2, 1), (0, 0), (1, 0), (0, 0)]


def severities(rows: Rows) -> list[Any]:
    return days(rows, "critical_bugs, high_priority_bugs, medium_priority_bugs, low_priority_bugs")


def test_severity_is_the_severity_field_then_the_priority_then_medium(rows: Rows, connection: int, scope: int) -> None:
    rows.severity_field(connection)
    rows.issue(scope, day(1), priority="Low", severity_issue="BLOCKER")
    rows.issue(scope, day(1), priority="Highest", severity_issue="Unheard of")
    rows.issue(scope, day(1), priority="Unheard of")
    rows.issue(scope, day(1), priority="Trivial")
    assert severities(rows)[0] == (2, 0, 1, 1)
    # Where no field is the severity, nothing says what the other one was: only the priority counts.
    rows.sql("UPDATE jira_fields SET role = NULL")
    assert severities(rows)[0] == (1, 0, 1, 2)


def test_a_severity_counts_as_it_was_on_the_day(rows: Rows, connection: int, scope: int) -> None:
    rows.severity_field(connection)
    rows.issue(
        scope,
        day(1),
        [
            (day(2), "severity", None, "High"),
            (day(3), "priority", "Low", "High"),
            (day(4), "severity", "High", "Critical"),
        ],
    )
    rows.issue(scope, day(1), [(day(3), "priority", "Low", "Critical")])
    assert severities(rows) == [(0, 0, 0, 2), (0, 1, 0, 1), (1, 1, 0, 0), (2, 0, 0, 0), (2, 0, 0, 0)]
    assert days(rows) == [2] * 5


def test_a_tenants_own_severity_names_come_before_everybodys(rows: Rows, scope: int) -> None:
    rows.issue(scope, day(1), priority="Blocker")
    rows.issue(scope, day(1), priority="Wobbly")
    assert severities(rows)[0] == (1, 0, 1, 0)
    other = rows.add("tenants", name="Other", slug="other")
    rows.add("severity_mappings", tenant_id=other, source_name="wobbly", severity="critical")
    rows.add("severity_mappings", source_name="blocker", severity="low")
    rows.add("severity_mappings", source_name="wobbly", severity="high")
    assert severities(rows)[0] == (0, 1, 0, 1)


def test_the_priority_may_be_the_severity_field(rows: Rows, connection: int, scope: int) -> None:
    rows.add("jira_fields", connection_id=connection, field_id="priority", name="Priority", role="severity")
    rows.issue(scope, day(1), [(day(2), "priority", "Low", "High")])
    assert severities(rows)[:2] == [(0, 0, 0, 1), (0, 1, 0, 0)]


def test_which_types_are_bugs_is_an_option_of_the_connection(rows: Rows, connection: int, scope: int) -> None:
    rows.issue(scope, day(1), issuetype="Fehler")
    rows.issue(scope, day(1), issuetype="BUG")
    assert days(rows)[0] == 1
    rows.sql(
        """UPDATE connections SET options = '{"bug_types": ["FEHLER", "Incident"]}' WHERE id = :id""", id=connection
    )
    assert days(rows)[0] == 1
    rows.issue(scope, day(1), issuetype="incident")
    assert days(rows)[0] == 2
    rows.sql("""UPDATE connections SET options = '{"bug_types": []}'""")
    assert days(rows)[0] == 1


def test_a_status_is_known_by_its_id_then_by_its_name_then_from_the_issue(
    rows: Rows, connection: int, scope: int
) -> None:
    rows.status(connection, "77", "Done", "indeterminate")

    def is_closed(to_id: str | None, name: str, **values: Any) -> bool:
        rows.sql("DELETE FROM jira_issue_changes")
        rows.sql("DELETE FROM jira_table_history")
        issue_id = rows.issue(scope, day(1), **values)
        rows.change(connection, issue_id, day(2), "status", "To Do", "To Do", to_value=to_id, to_text=name)
        return days(rows, "bugs_closed")[1] == 1

    assert is_closed("4", "In Progress")
    assert not is_closed("77", "Done")
    assert is_closed("999", "done")
    assert not is_closed("999", "Shipped")
    assert is_closed("999", "Shipped", status="Shipped", status_id="999", status_category="done")
    assert is_closed(None, "Shipped", status="Shipped", status_id="999", status_category="done")


def test_a_project_takes_its_new_title_and_time_zone(rows: Rows, connection: int) -> None:
    scope = rows.scope(connection, rows.project(timezone="UTC"))
    rows.issue(scope, utc("2025-06-01 23:30"))
    assert str(days(rows, "date")[0]) == "2025-06-01"
    rows.sql("UPDATE projects SET title = 'Store', timezone = 'Europe/Berlin'")
    assert str(days(rows, "date", project="Store")[0]) == "2025-06-02"
    assert days(rows) == []


def test_titles_change_hands_without_a_collision(rows: Rows, connection: int, project: int, scope: int) -> None:
    rows.issue(scope, day(1))
    other = rows.project("Till")
    rows.issue(rows.scope(connection, other, "CD"), day(2))
    rows.settle(NOW)
    for title, project_id in (("Between", project), ("Shop", other), ("Till", project)):
        rows.sql("UPDATE projects SET title = :title WHERE id = :id", title=title, id=project_id)
    # Only the newest mark is taken at first, whose project takes a title that a row of the other still has.
    rows.sql("UPDATE dirty_keys SET id = -id")
    assert days(rows, project="Till") == [1] * 5
    assert days(rows, project="Shop") == [1] * 4


def test_days_before_the_mark_are_not_touched(rows: Rows, connection: int, scope: int) -> None:
    rows.issue(scope, day(1))
    issue_id = rows.issue(scope, day(3))
    rows.settle(NOW)
    rows.sql("UPDATE bug_analytics_daily SET open_bugs = 99 WHERE date = '2025-06-02'")
    rows.change(connection, issue_id, day(4), "status", "To Do", "Done")
    summaries.take_and_recompute(rows.session, "bug_analytics_daily", as_of=NOW, limit=10)
    assert rows.table("bug_analytics_daily", "open_bugs", "date") == [(1,), (99,), (2,), (1,), (1,)]
    count, found = summaries.differences(rows.session, "bug_analytics_daily", as_of=NOW)
    assert count == 1
    assert found[0].stored == {"open_bugs": 99}
    assert found[0].computed == {"open_bugs": 1}


def test_marks_of_one_project_are_taken_together(rows: Rows, scope: int) -> None:
    rows.settle(NOW)
    for number in range(1, 5):
        rows.issue(scope, day(number))
    assert summaries.take_and_recompute(rows.session, "bug_analytics_daily", as_of=NOW, limit=2).rows_written == 5
    assert summaries.take_and_recompute(rows.session, "bug_analytics_daily", as_of=NOW, limit=2) == (0, 0)
