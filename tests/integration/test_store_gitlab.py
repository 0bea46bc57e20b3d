"""Merge requests into tables: newest copy wins in any order, activities are replaced as a set, hours are computed."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from factories.records import account, activity, at, merge_request, scope
from factories.snapshots import count, snapshot
from sqlalchemy import text

from models.records import MergeRequest, ProjectEvent
from models.store.gitlab import write_events, write_merge_requests
from models.store.session import Database
from models.store.sync import Target


@pytest.fixture
def target(database: Database) -> Target:
    with database.transaction() as session:
        return scope(session, kind="gitlab", key="101")


def write(database: Database, target: Target, *merge_requests: MergeRequest, fetched: float = 0) -> int:
    with database.transaction() as session:
        return write_merge_requests(session, target, merge_requests, fetched_at=at(100 + fetched)).total


def row(database: Database, query: str) -> dict[str, object]:
    with database.transaction() as session:
        return dict(session.execute(text(query)).mappings().one())


def test_copies_in_any_order_end_the_same(database: Database) -> None:
    authored = activity("authored", "ann", 0, "authored")
    approved = activity("approved", "bob", 2, "note-1")
    copies = [
        merge_request(updated_at=at(1), activities=(authored,)),
        merge_request(updated_at=at(2), activities=(authored, approved), approved_at=at(2)),
        # The approval was taken back within a minute: GitLab leaves the update time as it was.
        merge_request(updated_at=at(2), activities=(authored,), approved_at=None),
    ]
    ends = []
    for number, order in enumerate(itertools.permutations(range(3))):
        with database.transaction() as session:
            target = scope(session, kind="gitlab", key=str(number), project=f"P{number}")
        for position in order:
            write(database, target, copies[position], fetched=position)
        with database.transaction() as session:
            ends.append(
                session.execute(
                    text(
                        "SELECT approved_at, (SELECT count(*) FROM gitlab_mr_activities a "
                        "WHERE a.connection_id = m.connection_id) FROM gitlab_mr_lead_times m WHERE connection_id = :id"
                    ),
                    {"id": target.connection_id},
                ).one()
            )
    assert set(ends) == {(None, 1)}


def test_the_same_merge_request_again_writes_nothing(database: Database, target: Target) -> None:
    assert write(database, target, merge_request()) == 2
    before = snapshot(database)
    assert write(database, target, merge_request(), fetched=1) == 0
    assert snapshot(database) == before


def test_hours_are_computed_by_the_database_whoever_writes(database: Database, target: Target) -> None:
    write(
        database,
        target,
        merge_request(
            state="merged",
            first_commit_at=at(-4),
            created_at=at(0),
            first_review_at=at(25.5),
            merged_at=at(45),
            updated_at=at(45),
        ),
    )
    hours = row(
        database,
        "SELECT lead_time_hours, first_commit_to_merge_hours, time_to_first_review_hours, review_hours "
        "FROM gitlab_mr_lead_times",
    )
    assert hours == {
        "lead_time_hours": Decimal("45.0000"),
        "first_commit_to_merge_hours": Decimal("49.0000"),
        "time_to_first_review_hours": Decimal("25.5000"),
        "review_hours": Decimal("19.5000"),
    }


def test_a_clock_that_ran_backwards_gives_no_hours_rather_than_negative_ones(
    database: Database, target: Target
) -> None:
    write(database, target, merge_request(state="merged", created_at=at(5), merged_at=at(4), first_commit_at=None))
    assert row(database, "SELECT lead_time_hours FROM gitlab_mr_lead_times") == {"lead_time_hours": None}


def test_an_empty_branch_counts_from_its_creation(database: Database, target: Target) -> None:
    write(database, target, merge_request(state="merged", first_commit_at=at(3), created_at=at(0), merged_at=at(10)))
    assert row(database, "SELECT first_commit_to_merge_hours AS hours FROM gitlab_mr_lead_times") == {
        "hours": Decimal("10.0000")
    }


def test_events_come_twice_and_are_kept_once_also_without_an_author(database: Database, target: Target) -> None:
    events = [
        ProjectEvent(
            external_id=str(number),
            external_project_id="101",
            author=account("ann") if number else None,
            action="pushed to",
            target_type=None,
            target_iid=None,
            push_action="pushed",
            push_ref_type="branch",
            push_commits=2,
            occurred_at=at(number),
        )
        for number in range(3)
    ]
    for expected in (3, 0):
        with database.transaction() as session:
            assert write_events(session, target, [*events, events[0]]).total == expected
    assert count(database, "gitlab_events") == 3
