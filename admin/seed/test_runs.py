"""Test runs with their results: most pass, some tests are flaky, and now and then a regression stays for days.

A million results are made here, so the loop over them does as little as it can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

from admin.seed import words
from admin.seed.company import PLANS_OF_A_PROJECT, SUITES_OF_A_PROJECT, Company, Ids, Part, Project
from admin.seed.foundation import case_name, is_manual, sha, suite_number
from admin.seed.workdays import DAY_SECONDS, HOUR_SECONDS, at, day_of

CHUNK_RESULTS = 20_000
MANUAL_RATIO = 0.25
"""Of the runs that are small enough for people."""
NIGHTLY_RATIO = 0.3
ALLURE_RATIO = 0.03
BASE_FAILURE_RATIO = 0.004
SKIPPED_RATIO = 0.01
FLAKY_CASES_RATIO = 0.03
RETRY_HELPS_RATIO = 0.85
REGRESSION_DAYS = 35
"""One begins about every so many days, in each project."""
LINKED_RATIO = 0.3
FACTORS = 1_024
PARALLEL = 4
# fmt: off
RUN_COLUMNS = (
    "id", "test_plan_id", "project_id", "repository_id", "allure_report_id", "title", "status", "execution_date",
    "started_at", "completed_at", "environment", "build_version", "commit_sha", "branch", "created_by", "created_at",
)
RESULT_COLUMNS = (
    "test_run_id", "test_case_id", "status", "execution_time", "error_message", "bug_budget_id", "executed_by",
    "executed_at", "retry_count",
)
REPORT_COLUMNS = (
    "id", "tenant_id", "project_id", "repository_id", "name", "status", "execution_started_at",
    "execution_stopped_at", "build_name", "commit_sha", "branch", "content_hash", "summary",
)
SCENARIO_COLUMNS = (
    "allure_report_id", "name", "status", "duration", "test_key", "identity_version", "attempt", "is_retry",
    "result_uuid", "case_path", "case_name", "framework", "parameters", "parameters_hash", "test_case_id", "labels",
    "links", "attachments", "retries", "flaky", "status_message", "started_at",
)
# fmt: on


class Regression(NamedTuple):
    """A suite of a project that is broken for some days."""

    start: int
    end: int
    suite: int


class Habits:
    """How the test cases of a project behave."""

    def __init__(self, company: Company, random: Random, project: Project) -> None:
        workdays = company.workdays
        self.automated = [n for n in range(project.cases_count) if not is_manual(n)]
        self.manual = [n for n in range(project.cases_count) if is_manual(n)]
        self.milliseconds = [random.lognormvariate(math.log(900), 1.1) for _ in range(project.cases_count)]
        self.failure_ratios = [
            random.uniform(0.05, 0.3) if random.random() < FLAKY_CASES_RATIO else BASE_FAILURE_RATIO
            for _ in range(project.cases_count)
        ]
        self.regressions: list[Regression] = []
        moment = workdays.start
        while True:
            moment += int(random.expovariate(1 / (REGRESSION_DAYS * DAY_SECONDS)))
            if moment >= workdays.end:
                break
            end = workdays.later(random, moment, 40, 0.8, project.zone)
            self.regressions.append(Regression(moment, end, random.randrange(SUITES_OF_A_PROJECT)))

    def broken_suites(self, moment: int) -> set[int]:
        """The suites that a regression breaks at a moment."""
        return {each.suite for each in self.regressions if each.start <= moment < each.end}


def test_runs(company: Company, ids: Ids) -> Iterator[list[Part]]:
    """Runs of all projects in the order of their times, a chunk in each transaction."""
    rows = _Rows(company, ids)
    bugs_before = 0
    for project, sizes, bugs in zip(company.projects, company.run_sizes, company.split(company.plan.bugs), strict=True):
        random = company.plan.random(f"runs/{project.key}")
        rows.begin(random, project, (bugs_before, bugs))
        bugs_before += bugs
        for moment, size in zip(_moments(company, random, project, len(sizes)), sizes, strict=True):
            rows.add(moment, size)
            if rows.is_full:
                yield rows.parts()
    yield rows.parts()


def _moments(company: Company, random: Random, project: Project, amount: int) -> list[int]:
    nightly = round(amount * NIGHTLY_RATIO)
    days = len(company.workdays.days)
    nights = [
        company.workdays.start + random.randrange(days) * DAY_SECONDS + HOUR_SECONDS + random.randrange(1_800)
        for _ in range(nightly)
    ]
    return sorted(company.workdays.moments(random, amount - nightly, project.zone) + nights)


class _Rows:
    """Collects the rows of a chunk of runs."""

    def __init__(self, company: Company, ids: Ids) -> None:
        self._company = company
        self._ids = ids
        self._run_numbers, self._report_numbers = count(), count()
        self._clear()

    def _clear(self) -> None:
        self._runs: list[tuple[Any, ...]] = []
        self._results: list[tuple[Any, ...]] = []
        self._reports: list[tuple[Any, ...]] = []
        self._scenarios: list[tuple[Any, ...]] = []

    @property
    def is_full(self) -> bool:
        return len(self._results) >= CHUNK_RESULTS

    def parts(self) -> list[Part]:
        """What was collected; the next chunk begins."""
        parts = [
            Part("allure_report", REPORT_COLUMNS, self._reports),
            Part("allure_scenarios", SCENARIO_COLUMNS, self._scenarios),
            Part("test_runs", RUN_COLUMNS, self._runs),
            Part("test_run_results", RESULT_COLUMNS, self._results),
        ]
        self._clear()
        return parts

    def begin(self, random: Random, project: Project, bugs: tuple[int, int]) -> None:
        """Go on with the runs of another project.

        Args:
            random: its chance.
            project: it.
            bugs: number of its first bug, and how many it has.
        """
        self._random, self._project, self._bugs = random, project, bugs
        self._habits = Habits(self._company, random, project)
        self._factors = [random.lognormvariate(0, 0.25) for _ in range(FACTORS)]

    def add(self, moment: int, size: int) -> None:
        """One run with its results."""
        random, habits, workdays = self._random, self._habits, self._company.workdays
        is_by_hand = size <= len(habits.manual) and random.random() < MANUAL_RATIO
        cases = habits.manual if is_by_hand else habits.automated
        start = random.randrange(len(cases))
        chosen = (cases[start:] + cases[:start])[:size]
        has_report = not is_by_hand and random.random() < ALLURE_RATIO
        run_id = self._ids("test_runs", next(self._run_numbers))
        report_id = self._ids("allure_report", next(self._report_numbers)) if has_report else None
        tester = random.choice(self._company.people) if is_by_hand else None
        executed_by = None if tester is None else self._ids("users", tester.number)
        first = len(self._results)
        total_ms = self._execute(run_id, chosen, moment, executed_by)
        seconds = total_ms // 1_000 * (20 if is_by_hand else 1) // PARALLEL + 20
        end = min(moment + seconds, workdays.end - 1)
        self._run(run_id, report_id, moment, end, executed_by)
        if report_id is not None:
            self._report(report_id, run_id, chosen, self._results[first:], moment, end)

    def _execute(self, run_id: int, chosen: list[int], moment: int, executed_by: int | None) -> int:
        """Results of the chosen cases; returns how many milliseconds they took together."""
        chance, append, factors = self._random.random, self._results.append, self._factors
        habits, first_case = self._habits, self._ids("test_cases", self._project.first_case)
        ratios, milliseconds = habits.failure_ratios, habits.milliseconds
        broken = habits.broken_suites(moment)
        executed_at = at(moment)
        total_ms, turn = 0, int(chance() * FACTORS)
        for number in chosen:
            turn = (turn + 1) % FACTORS
            duration = int(milliseconds[number] * factors[turn]) + 1
            total_ms += duration
            luck = chance()
            if broken and suite_number(number) in broken and luck < 0.9:
                bug_id = self._bug(moment) if luck < LINKED_RATIO else None
                append((run_id, first_case + number, "failed", duration, self._error(number), bug_id, executed_by,
                        executed_at, 0))  # fmt: skip
            elif luck < ratios[number]:
                is_saved = executed_by is None and chance() < RETRY_HELPS_RATIO
                status = "passed" if is_saved else "blocked" if executed_by is not None and luck < 0.001 else "failed"
                error = None if is_saved else self._error(number)
                append((run_id, first_case + number, status, duration, error, None, executed_by, executed_at,
                        int(executed_by is None)))  # fmt: skip
            elif luck > 1 - SKIPPED_RATIO:
                append((run_id, first_case + number, "skipped", None, None, None, executed_by, executed_at, 0))
            else:
                append((run_id, first_case + number, "passed", duration, None, None, executed_by, executed_at, 0))
        return total_ms

    def _bug(self, moment: int) -> int | None:
        """A bug of the project from about that time."""
        first, amount = self._bugs
        workdays = self._company.workdays
        elapsed_ratio = (moment - workdays.start) / (workdays.end - workdays.start)
        return self._ids("bug_budget", first + int(amount * elapsed_ratio)) if amount else None

    def _error(self, number: int) -> str:
        return words.ERRORS[number % len(words.ERRORS)]

    def _run(self, run_id: int, report_id: int | None, start: int, end: int, executed_by: int | None) -> None:
        ids, project, day = self._ids, self._project, day_of(start)
        is_by_hand = executed_by is not None
        plan = project.number * PLANS_OF_A_PROJECT + self._random.randrange(PLANS_OF_A_PROJECT)
        kind = "Manual" if is_by_hand else "Nightly" if at(start).hour < 2 else "Pipeline"
        self._runs.append(
            (run_id, ids("test_plans", plan) if is_by_hand else None, ids("projects", project.number),
             ids("repositories", project.number), report_id, f"{kind} {project.title} {day}", "completed", at(start),
             at(start), at(end), "staging", None if is_by_hand else f"{day:%y.%m}.{day.day}",
             None if is_by_hand else sha(f"{project.path}/{start // HOUR_SECONDS}"), None if is_by_hand else "main",
             executed_by, at(start))
        )  # fmt: skip

    def _report(
        self, report_id: int, run_id: int, chosen: list[int], results: list[tuple[Any, ...]], start: int, end: int
    ) -> None:
        """The Allure report that a run came from: an attempt for each result, and one more before each retry."""
        ids, project = self._ids, self._project
        counts = {"attempts": 0, "tests": len(results), "passed": 0, "failed": 0, "skipped": 0}
        for number, (_, case_id, status, duration, error, _, _, executed_at, retries) in zip(
            chosen, results, strict=True
        ):
            name = case_name(number)
            counts[status] += 1
            outcomes = ["failed"] * retries + [status]
            for attempt, outcome in enumerate(outcomes, 1):
                counts["attempts"] += 1
                message = words.ERRORS[number % len(words.ERRORS)] if outcome == "failed" else error
                self._scenarios.append(
                    (report_id, name, outcome, duration, f"{project.key}/{name}", 1, attempt, attempt < len(outcomes),
                     f"{run_id}-{number}-{attempt}", f"tests/test_{suite_number(number)}.py", name, "pytest", {}, "",
                     case_id, [], [], [], attempt - 1, len(outcomes) > 1, message, executed_at)
                )  # fmt: skip
        commit = sha(f"{project.path}/{start // HOUR_SECONDS}")
        self._reports.append(
            (report_id, ids("tenants"), ids("projects", project.number), ids("repositories", project.number),
             f"{project.title} {day_of(start)}", "completed", at(start), at(end), f"#{run_id - ids('test_runs') + 1}",
             commit, "main", sha(f"{project.path}/report/{run_id - ids('test_runs')}"), counts)
        )  # fmt: skip
