"""Lead times: what each number means, and that every change of an input reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from factories.rows import Rows, utc

from models.store.session import Database

NOW = utc("2025-07-01 00:00")
CREATED = utc("2025-06-02 09:00")
J1 = [
    (utc("2025-06-02 13:00"), "status", "To Do", "In Progress"),
    (utc("2025-06-03 10:00"), "status", "In Progress", "In Review"),
    (utc("2025-06-03 16:00"), "status", "In Review", "Done"),
    (utc("2025-06-05 09:00"), "status", "Done", "Reopened"),
    (utc("2025-06-05 11:00"), "status", "Reopened", "In Progress"),
    (utc("2025-06-06 12:00"), "status", "In Progress", "Done"),
]


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


@pytest.fixture
def scope(rows: Rows) -> int:
    return rows.scope(rows.connection(), rows.project())


def lead_time(rows: Rows, issue_id: str) -> Any:
    rows.settle(NOW)
    return rows.sql("SELECT * FROM jira_lead_times WHERE issue_id = :id", id=issue_id).one_or_none()


def test_the_worked_example_gives_its_numbers(rows: Rows, scope: int) -> None:
    row = lead_time(rows, rows.issue(scope, CREATED, J1, key="AB-1"))
    assert row.lead_time_hours == 99
    assert row.first_lead_time_hours == 31
    assert row.cycle_time_hours == 95
    assert row.active_time_hours == 52
    assert round(row.active_time_hours / row.lead_time_hours, 4) == Decimal("0.5253")
    assert row.time_in_status == {"To Do": 4, "In Progress": 46, "In Review": 6, "Done": 41, "Reopened": 2}
    assert row.reopen_count == 1
    assert (row.started_at, row.resolved_at) == (utc("2025-06-02 13:00"), utc("2025-06-06 12:00"))
    assert (row.issue_key, row.project_key, row.issue_type, row.status) == ("AB-1", "AB", "Bug", "Done")
    assert row.definition_version == 1
    assert row.last_updated_at == NOW


def test_a_reopened_issue_has_no_lead_time_but_its_first_one(rows: Rows, scope: int) -> None:
    row = lead_time(rows, rows.issue(scope, CREATED, J1[:4]))
    assert (row.resolved_at, row.lead_time_hours, row.cycle_time_hours) == (None, None, None)
    assert row.first_lead_time_hours == 31
    assert row.reopen_count == 1


def test_an_issue_that_was_never_started_has_no_cycle_time(rows: Rows, scope: int) -> None:
    row = lead_time(rows, rows.issue(scope, CREATED, [(utc("2025-06-02 19:00"), "status", "To Do", "Done")]))
    assert row.lead_time_hours == 10
    assert (row.started_at, row.cycle_time_hours, row.active_time_hours) == (None, None, None)


def test_going_from_one_done_status_to_another_is_no_second_resolution(rows: Rows, scope: int) -> None:
    history = [
        (utc("2025-06-02 19:00"), "status", "To Do", "Done"),
        (utc("2025-06-09 09:00"), "status", "Done", "Closed"),
    ]
    row = lead_time(rows, rows.issue(scope, CREATED, history))
    assert row.resolved_at == utc("2025-06-02 19:00")
    assert row.reopen_count == 0
    assert row.time_in_status == {"To Do": 10, "Done": 158}


def test_the_time_since_the_last_change_is_not_counted(rows: Rows, scope: int) -> None:
    issue_id = rows.issue(scope, CREATED, J1[:1])
    row = lead_time(rows, issue_id)
    assert row.time_in_status == {"To Do": 4}
    assert row.active_time_hours is None
    assert rows.settle(NOW + timedelta(days=9))["jira_lead_times"] == 0


def test_an_issue_without_any_change_has_a_row_that_claims_nothing(rows: Rows, scope: int) -> None:
    row = lead_time(rows, rows.issue(scope, CREATED, status="Done"))
    assert (row.started_at, row.resolved_at, row.lead_time_hours, row.time_in_status) == (None, None, None, {})
    row = lead_time(rows, rows.issue(scope, CREATED, status="In Progress"))
    assert (row.started_at, row.resolved_at) == (CREATED, None)


def test_a_clock_that_ran_backwards_measures_nothing(rows: Rows, scope: int) -> None:
    history = [(utc("2025-06-01 09:00"), "status", "To Do", "Done")]
    row = lead_time(rows, rows.issue(scope, CREATED, history))
    assert (row.lead_time_hours, row.first_lead_time_hours, row.time_in_status) == (None, None, {})


def test_changes_of_one_instant_are_in_the_order_of_their_ids_and_items(rows: Rows, scope: int) -> None:
    connection_id = rows.sql("SELECT connection_id FROM sync_scopes").scalar_one()
    issue_id = rows.issue(scope, CREATED, status="Done")
    at = utc("2025-06-02 10:00")
    steps = [("9", 0, "To Do", "In Progress"), ("10", 0, "In Progress", "In Review"), ("10", 1, "In Review", "Done")]
    for change_id, item_index, before, after in reversed(steps):
        rows.change(connection_id, issue_id, at, "status", before, after, change_id=change_id, item_index=item_index)
    row = lead_time(rows, issue_id)
    assert row.resolved_at == at
    assert row.reopen_count == 0
    assert row.time_in_status == {"To Do": 1, "In Progress": 0, "In Review": 0}


def test_a_deleted_issue_has_no_row_until_it_is_restored(rows: Rows, scope: int) -> None:
    issue_id = rows.issue(scope, CREATED, J1)
    assert lead_time(rows, issue_id)
    rows.sql("UPDATE jira_table_history SET deleted_at = :at", at=NOW)
    assert lead_time(rows, issue_id) is None
    rows.sql("UPDATE jira_table_history SET deleted_at = NULL")
    assert lead_time(rows, issue_id).lead_time_hours == 99
    rows.sql("DELETE FROM jira_table_history")
    assert lead_time(rows, issue_id) is None


def test_keys_change_hands_without_a_collision(rows: Rows, scope: int) -> None:
    first, second = rows.issue(scope, CREATED, key="AB-1"), rows.issue(scope, CREATED, key="AB-2")
    rows.settle(NOW)
    ids = dict(rows.table("jira_lead_times", "issue_id, id"))
    rows.sql("UPDATE jira_table_history SET issuekey = CASE issuekey WHEN 'AB-1' THEN 'AB-2' ELSE 'AB-1' END")
    rows.settle(NOW, limit=1)
    assert rows.table("jira_lead_times", "issue_key, issue_id") == [("AB-1", second), ("AB-2", first)]
    assert dict(rows.table("jira_lead_times", "issue_id, id")) == ids


def test_of_two_issues_with_one_key_the_later_one_has_the_row_while_it_lives(rows: Rows, scope: int) -> None:
    old = rows.issue(scope, CREATED, key="AB-1")
    rows.settle(NOW)
    new = rows.issue(scope, CREATED, key="AB-1")
    rows.settle(NOW)
    assert rows.table("jira_lead_times", "issue_key, issue_id") == [("AB-1", new)]
    rows.sql("UPDATE jira_table_history SET issuekey = 'CD-7' WHERE issue_id = :id", id=new)
    rows.settle(NOW)
    assert rows.table("jira_lead_times", "issue_key, issue_id") == [("AB-1", old), ("CD-7", new)]


def test_a_key_that_was_passed_on_before_its_own_mark_was_taken_comes_back(rows: Rows, scope: int) -> None:
    waiting = rows.issue(scope, CREATED, key="ZZ-1")
    taken = rows.issue(scope, CREATED, key="ZZ-1")
    rows.settle(NOW)
    assert rows.table("jira_lead_times", "issue_id") == [(taken,)]
    newcomer = rows.issue(scope, CREATED, key="AB-1")
    rows.sql("UPDATE jira_table_history SET issuekey = 'AB-1' WHERE issue_id = :id", id=taken)
    rows.sql("UPDATE dirty_keys SET id = -id")
    rows.settle(NOW, limit=1)
    assert rows.table("jira_lead_times", "issue_key, issue_id") == [("AB-1", newcomer), ("ZZ-1", waiting)]


def test_the_row_names_its_bug_and_lets_it_go(rows: Rows, scope: int) -> None:
    issue_id = rows.issue(scope, CREATED, J1)
    assert lead_time(rows, issue_id).bug_budget_id is None
    connection_id = rows.sql("SELECT connection_id FROM sync_scopes").scalar_one()
    bug_id = rows.add(
        "bug_budget", connection_id=connection_id, issue_id=issue_id, jira_key="AB-1", project="AB", summary="",
        status="Done", issue_type="Bug", labels=[], linked_issues=[], is_open=False, created_date=CREATED,
        updated_date=CREATED,
    )  # fmt: skip
    assert lead_time(rows, issue_id).bug_budget_id == bug_id
    rows.sql("DELETE FROM bug_budget")
    assert lead_time(rows, issue_id).bug_budget_id is None


def test_a_status_is_known_by_its_id_then_by_its_name_then_from_the_issue(rows: Rows, scope: int) -> None:
    connection_id = rows.sql("SELECT connection_id FROM sync_scopes").scalar_one()
    rows.status(connection_id, "77", "Done", "indeterminate")
    at = utc("2025-06-02 10:00")

    def resolved(to_id: str | None, name: str, **values: Any) -> bool:
        issue_id = rows.issue(scope, CREATED, **values)
        rows.change(connection_id, issue_id, at, "status", "To Do", "To Do", to_value=to_id, to_text=name)
        return lead_time(rows, issue_id).resolved_at == at

    assert resolved("4", "In Progress")
    assert not resolved("77", "Done")
    assert resolved("999", "done")
    assert not resolved("999", "Shipped")
    assert resolved("999", "Shipped", status="Shipped", status_id="999", status_category="done")
    assert resolved(None, "Shipped", status="Shipped", status_id="999", status_category="done")


def test_a_status_that_changes_its_category_changes_every_issue(rows: Rows, scope: int) -> None:
    issue_id = rows.issue(scope, CREATED, J1[:2])
    assert lead_time(rows, issue_id).resolved_at is None
    rows.sql("UPDATE jira_statuses SET category = 'done' WHERE name = 'In Review'")
    assert lead_time(rows, issue_id).resolved_at == utc("2025-06-03 10:00")


def test_a_removed_change_is_as_if_it_had_never_been(rows: Rows, scope: int) -> None:
    issue_id = rows.issue(scope, CREATED, J1)
    rows.settle(NOW)
    rows.sql("DELETE FROM jira_issue_changes WHERE changed_at > '2025-06-04'")
    row = lead_time(rows, issue_id)
    assert (row.lead_time_hours, row.reopen_count) == (31, 0)
