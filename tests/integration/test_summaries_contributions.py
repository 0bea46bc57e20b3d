"""What accounts contributed, by GitLab project and by month."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from factories.rows import Rows, utc

from models.store.session import Database

NOW = utc("2025-07-10 00:00")
JUNE = utc("2025-06-10 12:00")
MAY = utc("2025-05-10 12:00")


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


@pytest.fixture
def connection(rows: Rows) -> int:
    return rows.connection("gitlab")


@pytest.fixture
def project(rows: Rows) -> int:
    return rows.project()


def months(rows: Rows, columns: str = "mr_created, mr_approved, repo_pushes, total_events") -> dict[Any, Any]:
    """By month and username."""
    rows.settle(NOW)
    found = rows.table("monthly_contributions", f"month, username, {columns}")
    return {(month, username): values[0] if len(values) == 1 else tuple(values) for month, username, *values in found}


def contributors(rows: Rows) -> dict[Any, Any]:
    """By username: authored, reviewed, approved, merged."""
    rows.settle(NOW)
    found = rows.table("gitlab_mr_contributors", "username, authored, reviewed, approved, merged, contributions")
    assert all(sum(counts[:-1]) == counts[-1] for _, *counts in found)
    return {username: tuple(counts[:-1]) for username, *counts in found}


def test_the_worked_example_gives_its_numbers(rows: Rows, connection: int, project: int) -> None:
    rows.sql("INSERT INTO users (id, name, email) VALUES (7, 'Alice', 'alice@corp')")
    rows.identity("alice", display_name="Alice", email="alice@corp", user_id=7)
    rows.identity("project_12_bot_x", is_bot=True)
    for mr_id in (11, 12, 13):
        rows.activity(connection, project, mr_id, "alice", "authored", JUNE)
    rows.activity(connection, project, 10, "bob", "authored", MAY)
    for activity in ("approved", "unapproved", "approved"):
        rows.activity(connection, project, 10, "alice", activity, JUNE)
    rows.activity(connection, project, 11, "alice", "approved", JUNE)
    rows.push(connection, project, "alice", JUNE)
    rows.push(connection, project, "alice", JUNE, "created")
    rows.push(connection, project, "alice", JUNE, "removed")
    rows.event(connection, project, "alice", JUNE, push_action="pushed", push_ref_type="tag")
    for mr_id in range(20, 25):
        rows.activity(connection, project, mr_id, "project_12_bot_x", "authored", JUNE)
    assert months(rows) == {
        (5, "bob"): (1, 0, 0, 0),
        (6, "alice"): (3, 1, 2, 4),
        (6, "project_12_bot_x"): (5, 0, 0, 0),
    }
    assert months(rows, "is_bot") == {(5, "bob"): False, (6, "alice"): False, (6, "project_12_bot_x"): True}
    alice = rows.sql("SELECT * FROM monthly_contributions WHERE username = 'alice'").one()
    assert (alice.year, alice.month_name, alice.name, alice.user_id, alice.squad) == (2025, "June", "Alice", 7, None)


def test_a_month_is_one_of_the_projects_time_zone(rows: Rows, connection: int) -> None:
    project = rows.project(timezone="Europe/Berlin")
    rows.activity(connection, project, 1, "alice", "authored", utc("2025-03-31 22:30"))
    rows.push(connection, project, "alice", utc("2025-03-31 21:59:59"))
    assert months(rows) == {(3, "alice"): (0, 0, 1, 1), (4, "alice"): (1, 0, 0, 0)}
    rows.sql("UPDATE projects SET timezone = 'UTC'")
    assert months(rows) == {(3, "alice"): (1, 0, 1, 1)}


def test_an_author_who_becomes_known_later_takes_his_approval_back_in_whatever_month(
    rows: Rows, connection: int, project: int
) -> None:
    rows.activity(connection, project, 1, "alice", "approved", JUNE)
    assert months(rows, "mr_approved") == {(6, "alice"): 1}
    rows.activity(connection, project, 1, "alice", "authored", MAY)
    assert months(rows, "mr_created, mr_approved") == {(5, "alice"): (1, 0)}
    rows.sql("UPDATE gitlab_mr_activities SET account_id = 'gitlab/bob', username = 'bob' WHERE activity = 'authored'")
    assert months(rows, "mr_created, mr_approved") == {(5, "bob"): (1, 0), (6, "alice"): (0, 1)}


def test_two_connections_to_one_instance_count_once(rows: Rows, project: int) -> None:
    for name, url in (("one", "https://gitlab.example.com"), ("two", "https://GitLab.example.com/")):
        connection_id = rows.connection("gitlab", name, base_url=url)
        rows.activity(connection_id, project, 1, "alice", "authored", JUNE)
        rows.activity(connection_id, project, 1, "bob", "approved", JUNE)
        rows.event(
            connection_id, project, "alice", JUNE, external_id="e1", push_action="pushed", push_ref_type="branch"
        )
        rows.scope(connection_id, project, "shop/web")
    once = {(6, "alice"): (1, 0, 1, 1), (6, "bob"): (0, 1, 0, 0)}
    assert months(rows) == once
    rows.sql("UPDATE connections SET base_url = 'https://elsewhere.example.com' WHERE name = 'two'")
    assert months(rows) == {who: tuple(2 * n for n in counts) for who, counts in once.items()}


def test_an_account_keeps_one_row_under_its_present_name(rows: Rows, connection: int, project: int) -> None:
    account = {"account_id": "gitlab/7"}
    rows.activity(connection, project, 1, "alice", "authored", JUNE, **account)
    rows.activity(connection, project, 2, "alice.b", "authored", JUNE, **account)
    assert months(rows, "mr_created") == {(6, "alice"): 1, (6, "alice.b"): 1}
    rows.identity("x", external_id="gitlab/7", username="ali", email="ali@corp")
    assert months(rows, "mr_created") == {(6, "ali"): 2}
    assert contributors(rows) == {"ali": (2, 0, 0, 0)}
    rows.sql("UPDATE user_identities SET username = 'alina', is_bot = true")
    assert months(rows, "mr_created, is_bot") == {(6, "alina"): (2, True)}
    assert rows.table("gitlab_mr_contributors", "username, email, is_bot") == [("alina", "ali@corp", True)]
    rows.sql("DELETE FROM user_identities")
    assert set(contributors(rows)) == {"alice", "alice.b"}


def test_an_identity_of_another_source_or_tenant_is_somebody_else(rows: Rows, connection: int, project: int) -> None:
    rows.activity(connection, project, 1, "alice", "authored", JUNE)
    rows.identity("alice", source="jira", username="other")
    rows.identity("alice", tenant_id=rows.add("tenants", name="Other", slug="other"), username="stranger")
    assert set(contributors(rows)) == {"alice"}
    assert set(months(rows)) == {(6, "alice")}


def test_deleted_accounts_are_counted_as_ghost(rows: Rows, connection: int, project: int) -> None:
    rows.activity(connection, project, 1, None, "authored", JUNE)
    rows.activity(connection, project, 1, None, "approved", JUNE)
    rows.activity(connection, project, 2, None, "authored", JUNE, account_id="gitlab/99")
    rows.activity(connection, project, 3, "alice", "authored", JUNE)
    rows.activity(connection, project, 3, None, "approved", JUNE)
    rows.event(connection, project, None, JUNE)
    assert contributors(rows) == {"alice": (1, 0, 0, 0), "ghost": (2, 0, 1, 0)}
    assert months(rows) == {(6, "alice"): (1, 0, 0, 0), (6, "ghost"): (2, 1, 0, 1)}


def test_contributors_are_counted_by_distinct_merge_requests_and_never_by_their_own(
    rows: Rows, connection: int, project: int
) -> None:
    rows.activity(connection, project, 1, "alice", "authored", MAY)
    for who in ("alice", "bob"):
        for activity in ("reviewed", "reviewed", "approved", "approved", "merged"):
            rows.activity(connection, project, 1, who, activity, JUNE)
    rows.activity(connection, project, 2, "bob", "authored", MAY)
    rows.activity(connection, project, 2, "alice", "reviewed", JUNE)
    rows.activity(connection, project, 3, "carol", "closed", JUNE)
    assert contributors(rows) == {"alice": (1, 1, 0, 1), "bob": (1, 1, 1, 1)}


def test_gitlab_projects_and_connections_are_kept_apart(rows: Rows, connection: int, project: int) -> None:
    other = rows.connection("gitlab")
    rows.activity(connection, project, 1, "alice", "authored", JUNE)
    rows.activity(connection, project, 1, "alice", "authored", JUNE, external_project_id="56")
    rows.activity(other, project, 1, "alice", "authored", JUNE)
    rows.settle(NOW)
    found = rows.table("gitlab_mr_contributors", "connection_id, external_project_id, authored", "1, 2")
    assert found == [(connection, "55", 1), (connection, "56", 1), (other, "55", 1)]
    assert months(rows, "mr_created") == {(6, "alice"): 3}


def merge_request(rows: Rows, connection: int, project: int, mr_id: int, path: str, updated: str) -> None:
    scope = rows.sql("SELECT id FROM sync_scopes").scalar() or rows.scope(connection, project, "shop/web")
    rows.add(
        "gitlab_mr_lead_times", connection_id=connection, sync_scope_id=scope, project_id=project, project_name=path,
        external_project_id="55", external_id=str(mr_id), mr_id=mr_id, title="", state="opened", draft=False, labels=[],
        mr_created_at=MAY, source_updated_at=utc(updated), synced_at=NOW,
    )  # fmt: skip


def test_a_contributor_row_carries_the_path_as_last_seen(rows: Rows, connection: int, project: int) -> None:
    rows.activity(connection, None, 1, "alice", "authored", JUNE)
    rows.settle(NOW)
    assert rows.table("gitlab_mr_contributors", "project_name, project_id") == [("55", None)]
    merge_request(rows, connection, project, 1, "shop/new", "2025-06-03 00:00")
    merge_request(rows, connection, project, 2, "shop/old", "2025-06-02 00:00")
    rows.settle(NOW)
    assert rows.table("gitlab_mr_contributors", "project_name, project_id") == [("shop/new", project)]
    rows.sql("UPDATE gitlab_mr_lead_times SET source_updated_at = '2025-06-09' WHERE mr_id = 2")
    rows.settle(NOW)
    assert rows.table("gitlab_mr_contributors", "project_name") == [("shop/old",)]


def test_work_outside_every_project_of_ours_is_in_no_month(rows: Rows, connection: int) -> None:
    rows.activity(connection, None, 1, "alice", "authored", JUNE)
    rows.event(connection, None, "alice", JUNE)
    assert months(rows) == {}
    assert contributors(rows) == {"alice": (1, 0, 0, 0)}


def test_what_is_taken_away_again_is_not_counted(rows: Rows, connection: int, project: int) -> None:
    rows.activity(connection, project, 1, "alice", "authored", JUNE)
    rows.activity(connection, project, 1, "bob", "approved", JUNE)
    rows.push(connection, project, "carol", JUNE)
    assert len(months(rows)) == 3
    rows.sql("DELETE FROM gitlab_mr_activities WHERE activity = 'approved'")
    rows.sql("DELETE FROM gitlab_events")
    assert set(months(rows)) == {(6, "alice")}
    assert set(contributors(rows)) == {"alice"}
    rows.sql("UPDATE gitlab_mr_activities SET occurred_at = :at", at=MAY)
    assert set(months(rows)) == {(5, "alice")}
    rows.sql("UPDATE gitlab_mr_activities SET project_id = :id", id=rows.project("Till"))
    assert rows.table("monthly_contributions", "project_id") == [(project,)]
    rows.settle(NOW)
    assert rows.table("monthly_contributions", "project_id") != [(project,)]
