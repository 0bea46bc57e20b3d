"""Issues into tables: newest copy wins in any order, and bugs and history follow."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from factories.records import account, at, change, issue, scope
from factories.snapshots import count, snapshot
from sqlalchemy import text

from models.records import Batch, Issue
from models.store import records
from models.store.jira import write_issues
from models.store.session import Database
from models.store.sync import Target


@pytest.fixture
def target(database: Database) -> Target:
    with database.transaction() as session:
        return scope(session)


def write(database: Database, target: Target, *issues: Issue, fetched: float = 0) -> int:
    with database.transaction() as session:
        return write_issues(session, target, issues, fetched_at=at(100 + fetched)).total


def row(database: Database, query: str) -> dict[str, object]:
    with database.transaction() as session:
        return dict(session.execute(text(query)).mappings().one())


def test_the_same_issue_again_writes_nothing(database: Database, target: Target) -> None:
    again = issue(changes=(change("status", "1", "2"),))
    assert write(database, target, again) == 2
    before = snapshot(database)
    assert write(database, target, again, fetched=1) == 0
    assert snapshot(database) == before


def test_an_older_copy_never_overwrites_a_newer_one_in_whatever_order_they_come(database: Database) -> None:
    copies = [
        issue(updated_at=at(1), status="To Do", changes=()),
        issue(updated_at=at(2), status="Doing", changes=(change("status", "1", "2", change_id="1"),)),
        issue(
            updated_at=at(3),
            status="Done",
            status_category="done",
            resolved_at=at(3),
            changes=(change("status", "1", "2", change_id="1"), change("status", "2", "3", change_id="2")),
        ),
    ]
    ends = []
    for number, order in enumerate(itertools.permutations(range(3))):
        with database.transaction() as session:
            target = scope(session, key=f"P{number}", project=f"P{number}")
        for position in order:
            write(database, target, copies[position], fetched=position)
        with database.transaction() as session:
            ends.append(
                session.execute(
                    text(
                        "SELECT i.status, i.resolved, count(c.*) "
                        "FROM jira_table_history i LEFT JOIN jira_issue_changes c "
                        "USING (connection_id, issue_id) WHERE connection_id = :id GROUP BY i.status, i.resolved"
                    ),
                    {"id": target.connection_id},
                ).one()
            )
    assert set(ends) == {("Done", at(3), 2)}


def test_of_two_copies_with_one_update_time_the_later_fetched_wins(database: Database, target: Target) -> None:
    for order in ((0, 1), (1, 0)):
        for position in order:
            write(database, target, issue(comments_count=position, updated_at=at(1)), fetched=position)
        assert row(database, "SELECT comments_count FROM jira_table_history") == {"comments_count": 1}


def test_a_reopened_issue_loses_its_resolution(database: Database, target: Target) -> None:
    write(database, target, issue(resolution="Fixed", resolved_at=at(1), status_category="done"))
    write(database, target, issue(updated_at=at(2)), fetched=1)
    assert row(database, "SELECT resolution, resolved FROM jira_table_history") == {
        "resolution": None,
        "resolved": None,
    }
    assert row(database, "SELECT is_open, resolved_date FROM bug_budget") == {"is_open": True, "resolved_date": None}


def test_two_items_on_one_field_in_one_history_are_two_changes(database: Database, target: Target) -> None:
    items = (
        change("fixVersions", None, "1.0", item_index=0),
        change("fixVersions", None, "1.1", item_index=1),
    )
    write(database, target, issue(changes=items))
    assert count(database, "jira_issue_changes") == 2
    assert count(database, "bug_history") == 2


def test_a_change_that_the_source_no_longer_has_goes(database: Database, target: Target) -> None:
    both = (change("status", "1", "2", change_id="1"), change("status", "2", "3", change_id="2"))
    write(database, target, issue(changes=both))
    write(database, target, issue(changes=both[:1], updated_at=at(2)), fetched=1)
    assert count(database, "jira_issue_changes") == 1
    assert count(database, "bug_history") == 1


def test_a_moved_issue_keeps_its_row_under_its_new_key(database: Database, target: Target) -> None:
    write(database, target, issue())
    with database.transaction() as session:
        other = scope(session, key="CASH", project="Cash", name="jira SHOP")
    moved = issue(key="CASH-7", project_key="CASH", updated_at=at(2), changes=(change("key", "SHOP-1001", "CASH-7"),))
    write(database, other, moved, fetched=1)
    assert row(database, "SELECT issuekey, project_id FROM jira_table_history") == {
        "issuekey": "CASH-7",
        "project_id": other.project_id,
    }
    assert row(database, "SELECT jira_key, project_id FROM bug_budget") == {
        "jira_key": "CASH-7",
        "project_id": other.project_id,
    }


def test_what_was_a_bug_stays_in_the_table_closed(database: Database, target: Target) -> None:
    write(database, target, issue(issue_type="Task", changes=(change("issuetype", "Bug", "Task"),)))
    assert row(database, "SELECT final_issue_type, is_open FROM bug_budget") == {
        "final_issue_type": "Task",
        "is_open": False,
    }
    write(database, target, issue("1002", issue_type="Task"))
    assert count(database, "bug_budget") == 1


@pytest.mark.parametrize(
    ("severity", "priority", "expected"),
    [("S1", "Low", "critical"), (None, "Blocker", "critical"), ("made up", "Minor", "low"), (None, None, "medium")],
)
def test_severity_is_the_site_s_own_mapped_else_the_priority_s(
    database: Database, target: Target, severity: str | None, priority: str | None, expected: str
) -> None:
    write(database, target, issue(severity=severity, priority=priority))
    assert row(database, "SELECT severity_issue FROM bug_budget") == {"severity_issue": expected}


def test_hostile_text_arrives_as_it_is(database: Database, target: Target) -> None:
    text_of_all_kinds = 'tab\there, line\nthere, back\\slash, \\N, "quotes", 中文, 🪣'
    write(database, target, issue(summary=text_of_all_kinds, labels=("a\tb\\", "c\n"), description="x" * 100_000))
    assert row(database, "SELECT summary, labels, length(description) FROM jira_table_history") == {
        "summary": text_of_all_kinds,
        "labels": ["a\tb\\", "c\n"],
        "length": 100_000,
    }


def test_nul_characters_are_left_out(database: Database, target: Target) -> None:
    write(database, target, issue(summary="a\x00b", labels=("c\x00d",)))
    assert row(database, "SELECT summary, labels FROM jira_table_history") == {"summary": "ab", "labels": ["cd"]}


def test_people_are_kept_once_an_instance(database: Database, target: Target) -> None:
    batch = Batch(issues=(issue(), issue("1002", assignee=account("ann", email="ann@example.com"))))
    for expected in (4, 0):
        with database.transaction() as session:
            assert records.write(session, target, batch, fetched_at=at(100)).total == expected
    assert count(database, "user_identities") == 2
    assert row(database, "SELECT external_id, email FROM user_identities WHERE username = 'ann'") == {
        "external_id": "jira.example.com/id-ann",
        "email": "ann@example.com",
    }


def test_an_empty_batch_writes_nothing(database: Database, target: Target) -> None:
    assert write(database, target) == 0


def test_the_same_issue_twice_in_a_batch_is_one_row_the_newer(database: Database, target: Target) -> None:
    older, newer = issue(status="To Do"), issue(status="Done", updated_at=at(2) + timedelta(microseconds=1))
    write(database, target, newer, older)
    assert row(database, "SELECT status FROM jira_table_history") == {"status": "Done"}
