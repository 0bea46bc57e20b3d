"""A made-up company: the same for the same plan, as large as it was asked for, and believable."""

from __future__ import annotations

import tracemalloc
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import pytest

from admin.seed.company import Company, Ids, Plan
from admin.seed.rows import rows
from admin.seed.workdays import Workdays, at, seconds_of

AS_OF = date(2026, 3, 1)
END = datetime(2026, 3, 1, tzinfo=UTC)
START = END - timedelta(days=366)


def plan(**changes: Any) -> Plan:
    options: dict[str, Any] = {"engineers": 16, "years": 1, "seed": 1, "as_of": AS_OF, "results": 20_000, **changes}
    return Plan.of_size(options.pop("tenant", "Test & Co"), **options)


def tables(of: Plan, first_id: int = 1) -> dict[str, list[dict[str, Any]]]:
    company = Company(of)
    ids = Ids(dict.fromkeys(company.ids_needed(), first_id))
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for parts in rows(company, ids, auth=""):
        for part in parts:
            found[part.table] += [dict(zip(part.columns, row, strict=True)) for row in part.rows]
    return found


@pytest.fixture(scope="module")
def made() -> dict[str, list[dict[str, Any]]]:
    return tables(plan())


def test_the_same_plan_makes_the_same_rows_and_another_seed_others(made: dict[str, list[dict[str, Any]]]) -> None:
    assert tables(plan()) == made
    other = tables(plan(seed=2))
    for table in ("users", "jira_table_history", "gitlab_mr_lead_times", "test_run_results", "decision_logs"):
        assert other[table] != made[table], table


def test_ids_begin_where_they_were_set_aside(made: dict[str, list[dict[str, Any]]]) -> None:
    moved = tables(plan(), first_id=1_001)
    for table, found in made.items():
        if found and "id" in found[0]:
            assert [row["id"] + 1_000 for row in found] == [row["id"] for row in moved[table]], table


@pytest.mark.parametrize(
    "size", [{"results": 0, "bugs": 0, "merge_requests": 0}, {"results": 777, "bugs": 33, "merge_requests": 44}]
)
def test_amounts_are_exactly_those_that_were_asked_for(size: dict[str, int]) -> None:
    found = tables(plan(**size))
    assert len(found["test_run_results"]) == size["results"]
    assert len(found["bug_budget"]) == size["bugs"]
    assert len(found["gitlab_mr_lead_times"]) == size["merge_requests"]


def test_more_of_one_thing_changes_nothing_of_another(made: dict[str, list[dict[str, Any]]]) -> None:
    more = tables(plan(merge_requests=2_000))
    assert len(more["gitlab_mr_lead_times"]) == 2_000
    for table in ("users", "jira_issue_changes", "test_run_results", "documents"):
        assert more[table] == made[table]


def test_nothing_happens_outside_of_the_span(made: dict[str, list[dict[str, Any]]]) -> None:
    seen: Counter[str] = Counter()
    for table, found in made.items():
        for row in found:
            for name, value in row.items():
                if isinstance(value, datetime):
                    assert START <= value <= END, (table, name, value)
                    assert value < END or name in {"synced_at", "last_synced_at", "complete_until"}, (table, name)
                    seen[table] += 1
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("jira_issue_changes", "changed_at"),
        ("gitlab_mr_lead_times", "mr_created_at"),
        ("gitlab_mr_activities", "occurred_at"),
        ("test_runs", "started_at"),
    ],
)
def test_weekends_are_quieter(made: dict[str, list[dict[str, Any]]], table: str, column: str) -> None:
    days = Counter(row[column].weekday() >= 5 for row in made[table])
    assert 0 < days[True] / 2 < days[False] / 5 * 0.5


def test_few_do_most_and_robots_and_second_accounts_are_there(made: dict[str, list[dict[str, Any]]]) -> None:
    authors = Counter(row["author"] for row in made["gitlab_mr_lead_times"] if not row["author"].endswith("bot"))
    amounts = sorted(authors.values(), reverse=True)
    assert sum(amounts[:4]) > 0.4 * sum(amounts)
    accounts = Counter(row["user_id"] for row in made["user_identities"] if row["user_id"])
    assert set(accounts.values()) == {3, 4}
    assert sum(row["is_bot"] for row in made["user_identities"]) == 3


def test_times_have_long_tails_and_bugs_come_back(made: dict[str, list[dict[str, Any]]]) -> None:
    hours = [
        (row["resolved_date"] - row["created_date"]).total_seconds() / 3_600
        for row in made["bug_budget"]
        if row["resolved_date"]
    ]
    assert sum(hours) / len(hours) > 1.3 * median(hours)
    assert any(row["reopen_count"] for row in made["bug_budget"])
    assert {row["is_open"] for row in made["bug_budget"]} == {True, False}
    assert {row["state"] for row in made["gitlab_mr_lead_times"]} == {"opened", "merged", "closed"}
    assert any(row["title"].startswith("Revert") for row in made["gitlab_mr_lead_times"])
    assert any(row["draft"] for row in made["gitlab_mr_lead_times"])
    assert {row["status"] for row in made["gitlab_deployments"]} == {"success", "failed"}


def test_results_are_mostly_good_with_flaky_tests_and_days_of_regression(
    made: dict[str, list[dict[str, Any]]],
) -> None:
    statuses = Counter(row["status"] for row in made["test_run_results"])
    total = sum(statuses.values())
    assert 0.85 < statuses["passed"] / total < 0.99
    assert 0.005 < statuses["skipped"] / total < 0.02
    assert any(row["retry_count"] and row["status"] == "passed" for row in made["test_run_results"])
    assert any(row["bug_budget_id"] for row in made["test_run_results"])
    failed = Counter(row["test_run_id"] for row in made["test_run_results"] if row["status"] == "failed")
    assert min(failed.values()) < 3 < 10 < max(failed.values())
    assert 0 < len(made["allure_report"]) < len(made["test_runs"]) / 5


def test_memory_does_not_grow_with_the_results() -> None:
    def peak_bytes(results: int) -> int:
        company = Company(plan(engineers=4, results=results, bugs=20, merge_requests=20))
        ids = Ids(dict.fromkeys(company.ids_needed(), 1))
        tracemalloc.start()
        try:
            for _parts in rows(company, ids, auth=""):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(80_000) < 1.5 * peak_bytes(40_000)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_work_is_done_at_working_hours_of_its_zone(zone: str) -> None:
    from zoneinfo import ZoneInfo

    workdays = Workdays(date(2025, 3, 1), AS_OF)
    random = plan().random("hours")
    for moment in workdays.moments(random, 500, zone):
        assert workdays.start <= moment < workdays.end
    moments = [workdays.later(random, seconds_of(date(2025, 3, 27)) + 7, 30, 1.0, zone) for _ in range(1_000)]
    local = [at(moment).astimezone(ZoneInfo(zone)) for moment in moments]
    assert sum(8 <= each.hour < 19 and each.weekday() < 5 for each in local) > 960
    assert not any((each.month, each.day) == (5, 1) for each in local if 8 <= each.hour < 19 and each.weekday() < 4)


def test_names_become_slugs_and_small_companies_work() -> None:
    assert plan().slug == "test-co"
    found = tables(plan(engineers=3, years=0.1, results=50, bugs=2, merge_requests=3))
    assert len(found["projects"]) == 2
    assert len(found["test_run_results"]) == 50
