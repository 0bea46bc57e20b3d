"""Test execution by day, and the read model of test runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from factories.rows import Rows, utc

from models.store.session import Database

NOW = utc("2025-07-01 00:00")
MORNING = utc("2025-06-02 09:00")


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


@pytest.fixture
def project(rows: Rows) -> int:
    return rows.project()


def summary(rows: Rows, on: str = "2025-06-02") -> Any:
    rows.settle(NOW)
    return rows.sql("SELECT * FROM test_execution_summary WHERE date = :on", on=date.fromisoformat(on)).one_or_none()


def test_the_worked_example_gives_its_rates(rows: Rows, project: int) -> None:
    report_id = rows.report(project)
    run_id = rows.run(project, MORNING, allure_report_id=report_id)
    # Of each test: how the attempts ended, and how its case's result reads; broken is failed, unknown is blocked.
    ended = [
        *[(["passed"], "passed")] * 85,
        (["failed", "passed"], "passed"),
        (["broken", "passed"], "passed"),
        *[(["failed", "failed", "passed"], "passed")] * 3,
        *[(["failed"], "failed")] * 3,
        (["failed", "failed"], "failed"),
        *[(["broken"], "failed")] * 3,
        *[(["skipped"], "skipped")] * 2,
        (["unknown"], "blocked"),
    ]
    for number, (attempts, status) in enumerate(ended):
        case_id = rows.case(title=str(number))
        rows.attempts(report_id, f"test-{number}", attempts, case_id)
        rows.result(run_id, case_id, status)
    row = summary(rows)
    assert (row.results_count, row.passed_results, row.failed_results) == (100, 90, 7)
    assert row.pass_rate == Decimal("0.9278")
    assert row.first_attempt_pass_rate == Decimal("0.8763")
    assert row.flaky_rate == Decimal("0.0515")
    assert (row.total_test_cases, row.automated_count, row.manual_count) == (100, 100, 0)


def test_a_run_is_as_bad_as_its_worst_result(rows: Rows, project: int) -> None:
    for statuses in (
        ["passed", "failed", "blocked", "skipped"],
        ["passed", "blocked", "skipped"],
        ["passed", "skipped"],
        ["passed"],
        ["skipped", "skipped"],
        [],
    ):
        rows.run(project, MORNING, statuses)
    row = summary(rows)
    counts = (row.total_runs, row.failed_runs, row.blocked_runs, row.passed_runs, row.skipped_runs)
    # A run without any result, not even a skipped one, is counted and has no class.
    assert counts == (6, 1, 1, 2, 1)


def test_no_data_is_null_and_not_zero(rows: Rows, project: int) -> None:
    rows.run(project, MORNING, ["skipped", "blocked"])
    row = summary(rows)
    assert (row.pass_rate, row.first_attempt_pass_rate, row.flaky_rate, row.avg_execution_time) == (None,) * 4
    assert row.results_count == 2
    assert summary(rows, "2025-06-03") is None


def test_rates_are_of_the_whole_day_not_means_of_runs(rows: Rows, project: int) -> None:
    rows.run(project, MORNING, ["passed"] * 3)
    rows.run(project, MORNING, ["failed"])
    assert summary(rows).pass_rate == Decimal("0.75")


def test_results_that_are_not_valid_do_not_count_and_neither_do_their_attempts(rows: Rows, project: int) -> None:
    report_id = rows.report(project)
    run_id = rows.run(project, MORNING, allure_report_id=report_id)
    good, bad = rows.case(), rows.case(automated=False)
    rows.attempts(report_id, "good", ["failed", "passed"], good)
    rows.attempts(report_id, "bad", ["failed"], bad)
    rows.result(run_id, good, "passed")
    rows.result(run_id, bad, "failed")
    row = summary(rows)
    assert (row.failed_runs, row.pass_rate, row.first_attempt_pass_rate, row.flaky_rate) == (
        1,
        *[Decimal("0.5"), 0, Decimal("0.5")],
    )
    rows.sql("UPDATE test_run_results SET is_valid = false WHERE status = 'failed'")
    row = summary(rows)
    assert (row.failed_runs, row.passed_runs, row.pass_rate) == (0, 1, 1)
    assert (row.first_attempt_pass_rate, row.flaky_rate) == (0, 1)
    assert (row.results_count, row.total_test_cases, row.manual_count) == (1, 1, 0)


def test_parameter_sets_are_tests_of_their_own_but_one_result_of_a_case(rows: Rows, project: int) -> None:
    report_id = rows.report(project)
    run_id = rows.run(project, MORNING, allure_report_id=report_id)
    case_id = rows.case()
    for number, attempts in enumerate((["passed"], ["passed"], ["failed"], ["failed", "passed"])):
        rows.attempts(report_id, f"pays[{number}]", attempts, case_id)
    rows.result(run_id, case_id, "failed")
    row = summary(rows)
    assert (row.results_count, row.pass_rate) == (1, 0)
    assert (row.first_attempt_pass_rate, row.flaky_rate) == (Decimal("0.5"), Decimal("0.25"))


def test_the_same_test_in_two_runs_is_decided_in_each(rows: Rows, project: int) -> None:
    for attempts in (["passed"], ["failed"]):
        report_id = rows.report(project)
        rows.run(project, MORNING, allure_report_id=report_id)
        rows.attempts(report_id, "pays", attempts)
    assert summary(rows).first_attempt_pass_rate == Decimal("0.5")


def test_attempts_of_a_report_that_is_still_being_loaded_do_not_count(rows: Rows, project: int) -> None:
    report_id = rows.report(project)
    rows.run(project, MORNING, allure_report_id=report_id)
    rows.attempts(report_id, "pays", ["passed"])
    rows.sql("UPDATE allure_scenarios SET attempt = NULL")
    assert summary(rows).first_attempt_pass_rate is None
    rows.sql("UPDATE allure_scenarios SET attempt = 1")
    assert summary(rows).first_attempt_pass_rate == 1


def test_a_case_in_several_runs_is_one_case(rows: Rows, project: int) -> None:
    automated, manual = rows.case(), rows.case(automated=False)
    for _ in range(3):
        run_id = rows.run(project, MORNING)
        rows.result(run_id, automated, "passed")
        rows.result(run_id, manual, "passed")
    row = summary(rows)
    assert (row.results_count, row.total_test_cases, row.automated_count, row.manual_count) == (6, 2, 1, 1)
    rows.sql("UPDATE test_cases SET automated = true")
    assert summary(rows).automated_count == 2


def test_the_mean_duration_is_of_the_runs_whose_times_are_known(rows: Rows, project: int) -> None:
    for seconds in (10, 21.5, None, -5, 4_000_000_000):
        completed_at = None if seconds is None else MORNING + timedelta(seconds=seconds)
        rows.run(project, MORNING, started_at=MORNING, completed_at=completed_at)
    rows.run(project, MORNING, completed_at=MORNING)
    row = summary(rows)
    assert row.avg_execution_time == Decimal("15.75")
    assert row.total_runs == 6


def test_the_date_is_that_of_the_projects_time_zone(rows: Rows) -> None:
    berlin = rows.project("Berlin", "Europe/Berlin")
    rows.run(berlin, utc("2025-06-01 21:59:59"), ["passed"])
    rows.run(berlin, utc("2025-06-01 22:00"), ["passed"])
    rows.run(berlin, utc("2025-06-02 21:59:59"), ["passed"])
    rows.run(berlin, None, ["passed"])
    rows.settle(NOW)
    assert rows.table("test_execution_summary", "date::text, total_runs", "date") == [
        ("2025-06-01", 1),
        ("2025-06-02", 2),
    ]
    rows.sql("UPDATE projects SET timezone = 'America/New_York'")
    rows.settle(NOW)
    assert rows.table("test_execution_summary", "date::text, total_runs", "date") == [
        ("2025-06-01", 2),
        ("2025-06-02", 1),
    ]


def test_a_run_that_moves_leaves_the_day_it_was_counted_on(rows: Rows, project: int) -> None:
    run_id = rows.run(project, MORNING, ["passed"])
    rows.settle(NOW)
    other = rows.project("Till")
    rows.sql(
        "UPDATE test_runs SET execution_date = :at, project_id = :other", at=MORNING + timedelta(days=1), other=other
    )
    rows.settle(NOW)
    assert rows.table("test_execution_summary", "project_id, date::text") == [(other, "2025-06-03")]
    rows.sql("DELETE FROM test_run_results")
    rows.sql("DELETE FROM test_runs WHERE id = :id", id=run_id)
    rows.settle(NOW)
    assert rows.table("test_execution_summary", "id") == []
    assert rows.table("test_runs_view", "id") == []


def test_the_view_shows_a_run_with_its_counts_and_titles(rows: Rows, project: int) -> None:
    rows.sql("INSERT INTO users (id, name, email) VALUES (7, 'Alice', 'alice@corp')")
    repository_id = rows.repository(project)
    plan_id = rows.add("test_plans", project_id=project, title="Release 7")
    run_id = rows.run(
        project,
        MORNING,
        ["passed", "passed", "failed", "skipped", "blocked"],
        title="nightly",
        repository_id=repository_id,
        test_plan_id=plan_id,
        started_at=MORNING,
        completed_at=MORNING + timedelta(seconds=61.25),
        created_by=7,
    )
    rows.result(run_id, rows.case(), "failed", is_valid=False)
    rows.settle(NOW)
    row = rows.sql("SELECT * FROM test_runs_view").one()
    assert row._asdict() == {
        "id": run_id,
        "test_plan_id": plan_id,
        "test_plan_title": "Release 7",
        "project_id": project,
        "project_title": "Shop",
        "repository_id": repository_id,
        "repository_title": "shop",
        "title": "nightly",
        "total_cases": 5,
        "passed_cases": 2,
        "failed_cases": 1,
        "skipped_cases": 1,
        "blocked_cases": 1,
        "execution_date": MORNING,
        "execution_duration": Decimal("61.25"),
        "created_by_id": 7,
        "created_by_name": None,
        "definition_version": 1,
        "last_updated_at": NOW,
    }


def test_a_run_without_results_or_times_is_in_the_view(rows: Rows, project: int) -> None:
    rows.run(project, None, status="pending")
    rows.run(project, None, started_at=MORNING, completed_at=MORNING - timedelta(seconds=1))
    rows.settle(NOW)
    assert rows.table("test_runs_view", "total_cases, execution_date, execution_duration") == [(0, None, None)] * 2


@pytest.mark.parametrize("table", ["projects", "repositories", "test_plans", "test_runs"])
def test_the_view_takes_a_new_title(rows: Rows, project: int, table: str) -> None:
    plan_id = rows.add("test_plans", project_id=project, title="Release 7")
    rows.run(project, MORNING, repository_id=rows.repository(project), test_plan_id=plan_id)
    rows.settle(NOW)
    rows.sql(f"UPDATE {table} SET title = 'New'")
    assert rows.settle(NOW)["test_runs_view"] == 1
    titles = rows.table("test_runs_view", "project_title, repository_title, test_plan_title, title")[0]
    assert titles.count("New") == 1
