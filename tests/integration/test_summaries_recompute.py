"""How any summary is kept: what is taken, what is written, what readers see, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from factories.rows import Rows, utc
from sqlalchemy import text

from models.errors import UsageError
from models.store import summaries
from models.store.session import Database, check_drift
from models.store.summaries import SUMMARIES

NOW = utc("2025-06-05 20:00")
MORNING = utc("2025-06-02 09:00")


def fill(rows: Rows) -> None:
    """Two projects with something in each summary."""
    jira, gitlab = rows.connection("jira"), rows.connection("gitlab")
    for title, key in (("Shop", "AB"), ("Till", "CD")):
        project = rows.project(title)
        scope = rows.scope(jira, project, key)
        rows.issue(scope, MORNING, [(MORNING + timedelta(hours=5), "status", "To Do", "Done")])
        rows.issue(scope, MORNING)
        report_id = rows.report(project)
        rows.attempts(report_id, "pays", ["failed", "passed"])
        rows.run(project, MORNING, ["passed", "failed"], allure_report_id=report_id)
        rows.run(project, MORNING, ["passed"])
        rows.activity(gitlab, project, 1, "alice", "authored", MORNING, external_project_id=key)
        rows.activity(gitlab, project, 1, "bob", "approved", MORNING, external_project_id=key)
        rows.push(gitlab, project, "alice", MORNING)


ROWS_OF_FILL = {
    "jira_lead_times": 4,
    "bug_analytics_daily": 8,
    "test_execution_summary": 2,
    "gitlab_mr_contributors": 4,
    "monthly_contributions": 4,
    "test_runs_view": 4,
}


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


@pytest.fixture
def filled(rows: Rows) -> Rows:
    fill(rows)
    return rows


def each_summary(rows: Rows) -> Iterator[str]:
    """The name of each summary; what is done to one is undone before the next."""
    for name in SUMMARIES:
        with rows.session.begin_nested() as savepoint:
            yield name
            savepoint.rollback()


def stored(rows: Rows, name: str) -> list[Any]:
    """Rows with everything that says whether they were written: id, place and writer."""
    return sorted(rows.table(name, "ctid::text, xmin::text, *"))


def marks(rows: Rows, name: str) -> int:
    return int(rows.sql("SELECT count(*) FROM dirty_keys WHERE summary = :name", name=name).scalar_one())


def test_taking_marks_ends_where_a_rebuild_does(filled: Rows) -> None:
    assert filled.settle(NOW, limit=1) == ROWS_OF_FILL
    for name in SUMMARIES:
        assert marks(filled, name) == 0
        before = stored(filled, name)
        assert summaries.rebuild(filled.session, name, as_of=NOW + timedelta(hours=1)).rows_written == 0
        assert stored(filled, name) == before


def test_a_rebuild_from_nothing_takes_the_marks_too(filled: Rows) -> None:
    for name in each_summary(filled):
        counts = summaries.rebuild(filled.session, name, as_of=NOW)
        assert counts.rows_written == ROWS_OF_FILL[name]
        assert counts.keys > 0
        assert marks(filled, name) == 0
        assert summaries.take_and_recompute(filled.session, name, as_of=NOW, limit=10) == (0, 0)


SPOILT = {
    "jira_lead_times": ("reopen_count", 77),
    "bug_analytics_daily": ("open_bugs", 77),
    "test_execution_summary": ("total_runs", 77),
    "gitlab_mr_contributors": ("approved", 77),
    "monthly_contributions": ("total_events", 77),
    "test_runs_view": ("passed_cases", 77),
}


def test_a_wrong_row_is_found_and_corrected(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        column, value = SPOILT[name]
        filled.sql(f"UPDATE {name} SET {column} = {value}")
        count, found = summaries.differences(filled.session, name, as_of=NOW, limit=2)
        assert count == ROWS_OF_FILL[name]
        assert len(found) == 2
        for each in found:
            assert set(each.identity) == set(SUMMARIES[name].identity)
            assert each.stored == {column: value}
            assert each.computed is not None
            assert each.computed[column] != value
        later = NOW + timedelta(hours=1)
        assert summaries.rebuild(filled.session, name, as_of=later).rows_written == ROWS_OF_FILL[name]
        assert summaries.differences(filled.session, name, as_of=NOW) == (0, [])
        assert set(filled.table(name, "last_updated_at")) == {(later,)}


def test_a_missing_row_is_found_and_written(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        filled.sql(f"DELETE FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name})")
        count, found = summaries.differences(filled.session, name, as_of=NOW)
        assert (count, found[0].stored) == (1, None)
        assert set(found[0].computed or {}) > set(found[0].identity)
        assert summaries.rebuild(filled.session, name, as_of=NOW).rows_written == 1
        assert summaries.differences(filled.session, name, as_of=NOW) == (0, [])


def test_a_row_that_nothing_stands_behind_is_found_and_removed(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        # As if the inputs had never been: without triggers, so without marks.
        filled.sql("SET LOCAL session_replication_role = replica")
        for table in ("jira_table_history", "test_runs", "gitlab_mr_activities", "gitlab_events"):
            filled.sql(f"DELETE FROM {table}")
        filled.sql("SET LOCAL session_replication_role = origin")
        count, found = summaries.differences(filled.session, name, as_of=NOW, limit=100)
        assert count == len(found) == ROWS_OF_FILL[name]
        assert all(each.computed is None and each.stored for each in found)
        assert summaries.rebuild(filled.session, name, as_of=NOW).rows_written == ROWS_OF_FILL[name]
        assert filled.table(name, "1") == []


def test_one_project_may_be_rebuilt_and_compared_alone(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        column, value = SPOILT[name]
        filled.sql(f"UPDATE {name} SET {column} = {value}")
        shop, till = (row[0] for row in filled.table("projects", "id"))
        half = ROWS_OF_FILL[name] // 2
        assert summaries.differences(filled.session, name, as_of=NOW, project_id=shop)[0] == half
        assert summaries.rebuild(filled.session, name, as_of=NOW, project_id=shop).rows_written == half
        assert summaries.differences(filled.session, name, as_of=NOW, project_id=shop) == (0, [])
        assert summaries.differences(filled.session, name, as_of=NOW, project_id=till)[0] == half


def test_rows_that_are_right_are_not_written_again(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        before = stored(filled, name)
        filled.sql("INSERT INTO dirty_keys (summary, tenant_id, key) SELECT :name, id, '*' FROM tenants", name=name)
        counts = summaries.take_and_recompute(filled.session, name, as_of=NOW + timedelta(hours=1), limit=10)
        assert counts == (1, 0)
        assert stored(filled, name) == before


def test_a_new_definition_marks_everything_and_is_written_everywhere(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        assert summaries.mark_outdated(filled.session) == []
        filled.sql(f"UPDATE {name} SET definition_version = 0")
        assert summaries.mark_outdated(filled.session) == [name]
        assert summaries.dirty_summaries(filled.session, as_of=NOW) == [name]
        assert filled.settle(NOW)[name] == ROWS_OF_FILL[name]
        assert summaries.mark_outdated(filled.session) == []


def test_everything_of_one_tenant_is_not_everything_of_another(filled: Rows) -> None:
    for name in each_summary(filled):
        other = filled.add("tenants", name="Other", slug="other")
        filled.settle(NOW)
        column, value = SPOILT[name]
        filled.sql(f"UPDATE {name} SET {column} = {value}")
        filled.add("dirty_keys", summary=name, tenant_id=other, key="*")
        assert summaries.take_and_recompute(filled.session, name, as_of=NOW, limit=10) == (1, 0)
        filled.add("dirty_keys", summary=name, tenant_id=filled.tenant_id, key="*")
        assert summaries.take_and_recompute(filled.session, name, as_of=NOW, limit=10) == (1, ROWS_OF_FILL[name])


PLAIN_KEYS = {
    "jira_lead_times": "SELECT connection_id || ':' || issue_id FROM jira_lead_times",
    "bug_analytics_daily": "SELECT DISTINCT project_id::text FROM bug_analytics_daily",
    "test_execution_summary": "SELECT project_id || ':' || date FROM test_execution_summary",
    "gitlab_mr_contributors": "SELECT DISTINCT connection_id || ':' || external_project_id FROM gitlab_mr_contributors",
    "monthly_contributions": "SELECT DISTINCT project_id || ':' || year || '-' || lpad(month::text, 2, '0') "
    "FROM monthly_contributions",
    "test_runs_view": "SELECT id::text FROM test_runs_view",
}


def test_a_key_may_be_marked_by_its_own_name(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        column, value = SPOILT[name]
        keys = list(filled.sql(PLAIN_KEYS[name]).scalars())
        filled.sql(f"UPDATE {name} SET {column} = {value}")
        for key in keys:
            filled.add("dirty_keys", summary=name, tenant_id=filled.tenant_id, key=key)
            filled.add("dirty_keys", summary=name, tenant_id=filled.tenant_id, key=key)
        counts = summaries.take_and_recompute(filled.session, name, as_of=NOW, limit=100)
        assert counts == (len(keys), ROWS_OF_FILL[name])


def test_a_mark_that_means_nothing_is_dropped(filled: Rows) -> None:
    filled.settle(NOW)
    for name in each_summary(filled):
        nonsense = [
            "",
            "x",
            "999999",
            "999999:1",
            "run:",
            "scope:1:",
            "999999@2025-01-01",
            "account:nobody",
            "mr:1:2:3",
        ]
        for key in nonsense:
            filled.add("dirty_keys", summary=name, tenant_id=filled.tenant_id, key=key)
        assert summaries.take_and_recompute(filled.session, name, as_of=NOW, limit=100) == (len(nonsense), 0)
        assert marks(filled, name) == 0


def test_no_more_marks_are_taken_than_asked_for_oldest_first(filled: Rows) -> None:
    filled.settle(NOW)
    runs = [row[0] for row in filled.table("test_runs", "id")]
    filled.sql("UPDATE test_runs_view SET passed_cases = 77")
    for run_id in runs:
        filled.add("dirty_keys", summary="test_runs_view", tenant_id=filled.tenant_id, key=str(run_id))
    assert summaries.take_and_recompute(filled.session, "test_runs_view", as_of=NOW, limit=3) == (3, 3)
    assert filled.table("dirty_keys", "key") == [(str(runs[-1]),)]


def test_a_mark_of_the_future_waits(filled: Rows) -> None:
    filled.settle(NOW)
    tomorrow = NOW + timedelta(days=1)
    filled.add("dirty_keys", summary="test_runs_view", tenant_id=filled.tenant_id, key="1", since=tomorrow)
    assert summaries.take_and_recompute(filled.session, "test_runs_view", as_of=NOW, limit=9).keys == 0
    assert "test_runs_view" not in summaries.dirty_summaries(filled.session, as_of=NOW)
    assert "test_runs_view" in summaries.dirty_summaries(filled.session, as_of=tomorrow)
    assert summaries.take_and_recompute(filled.session, "test_runs_view", as_of=tomorrow, limit=9).keys == 1


def test_the_summaries_with_something_to_do_are_known(rows: Rows) -> None:
    rows.settle(NOW)
    assert summaries.dirty_summaries(rows.session, as_of=NOW) == []
    rows.run(rows.project(), MORNING)
    assert set(summaries.dirty_summaries(rows.session, as_of=NOW)) >= {"test_runs_view", "test_execution_summary"}


def test_wrong_calls_are_refused(rows: Rows) -> None:
    with pytest.raises(UsageError, match="jira_lead_times"):
        summaries.rebuild(rows.session, "lead_times", as_of=NOW)
    with pytest.raises(UsageError, match="time zone"):
        summaries.take_and_recompute(rows.session, "test_runs_view", as_of=datetime(2025, 6, 5), limit=1)  # noqa: DTZ001  # the mistake that is meant
    with pytest.raises(UsageError, match="time zone"):
        summaries.differences(rows.session, "test_runs_view", as_of=datetime(2025, 6, 5))  # noqa: DTZ001  # the same


def test_if_the_transaction_fails_the_marks_are_back_and_the_rows_as_they_were(database: Database) -> None:
    with database.transaction() as session:
        fill(Rows(session))
    with database.transaction() as session:
        before = {name: marks(Rows(session), name) for name in SUMMARIES}

    def settle_and_fail() -> None:
        with database.transaction() as session:
            Rows(session).settle(NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        settle_and_fail()
    with database.transaction() as session:
        rows = Rows(session)
        assert {name: marks(rows, name) for name in SUMMARIES} == before
        assert all(rows.table(name, "1") == [] for name in SUMMARIES)


def test_readers_see_the_old_rows_until_the_new_ones_are_all_there(database: Database) -> None:
    with database.transaction() as session:
        fill(Rows(session))
        Rows(session).settle(NOW)
        session.execute(text("UPDATE bug_analytics_daily SET open_bugs = 77"))
    with database.transaction() as writer, database.transaction() as reader:
        summaries.rebuild(writer, "bug_analytics_daily", as_of=NOW)
        assert Rows(reader).table("bug_analytics_daily", "DISTINCT open_bugs") == [(77,)]
        writer.commit()
        assert Rows(reader).table("bug_analytics_daily", "DISTINCT open_bugs") == [(1,)]


def test_a_rebuild_leaves_ids_grants_and_constraints_as_they_were(database: Database) -> None:
    catalogue = text(
        """
        SELECT c.relname::text, c.oid::bigint, c.relacl::text, c.relfilenode::bigint FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT conname::text, oid::bigint, pg_get_constraintdef(oid), 0 FROM pg_constraint ORDER BY 1, 2
        """
    )
    with database.transaction() as session:
        fill(Rows(session))
        Rows(session).settle(NOW)
        before = session.execute(catalogue).all()
        ids = {name: Rows(session).table(name, "id") for name in SUMMARIES}
    with database.transaction() as session:
        for name, (column, value) in SPOILT.items():
            session.execute(text(f"UPDATE {name} SET {column} = {value}"))
            summaries.rebuild(session, name, as_of=NOW)
        assert session.execute(catalogue).all() == before
    with database.transaction() as session:
        assert session.execute(catalogue).all() == before
        assert {name: Rows(session).table(name, "id") for name in SUMMARIES} == ids
    check_drift(database)


def test_a_mark_that_arrives_while_its_key_is_computed_stays_for_the_next_time(database: Database) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        rows.run(rows.project(), MORNING, ["passed"])
        rows.settle(NOW)
        rows.sql("UPDATE test_runs SET title = 'first'")
    with database.transaction() as taker:
        summaries.take_and_recompute(taker, "test_runs_view", as_of=NOW, limit=10)
        with database.transaction() as writer:
            Rows(writer).sql("UPDATE test_runs SET title = 'second'")
    with database.transaction() as session:
        rows = Rows(session)
        assert rows.table("test_runs_view", "title") == [("first",)]
        assert marks(rows, "test_runs_view") == 1
        rows.settle(NOW)
        assert rows.table("test_runs_view", "title") == [("second",)]
