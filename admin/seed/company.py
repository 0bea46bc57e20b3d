"""The company itself: how large it is, its people with their accounts, its projects, and its releases.

What belongs here: what the other generators refer to, and what is made once. It is small, whatever the size, and is
kept in memory; what grows is made by the other modules, a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import msgspec

from admin.seed import words
from admin.seed.workdays import DAY_SECONDS, HOUR_SECONDS, Workdays

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Europe/Lisbon")
ZONE_WEIGHTS = (50, 25, 15, 10)
SQUAD_SIZE = 6
ENGINEERS_OF_A_PROJECT = 8
MOST_PROJECTS = 40
CASES_OF_A_PROJECT = (120, 400)
SUITES_OF_A_PROJECT = 8
MANUAL_EVERY = 6
"""Each of so many test cases is for people."""
PLANS_OF_A_PROJECT = 2
DOCUMENTS_OF_A_PROJECT = 12
RESULTS_OF_A_RUN = 100
RELEASE_DAYS = (7, 14)
FAILED_DEPLOYMENT_RATIO = 0.12

BUGS_A_YEAR = 20
OTHER_ISSUES_A_YEAR = 20
MERGE_REQUESTS_A_YEAR = 40
RESULTS_A_YEAR = 2_000


class Part(NamedTuple):
    """Rows of one table, for one COPY."""

    table: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made. The same plan makes the same rows, ids apart."""

    tenant: str
    seed: int
    as_of: date
    """Nothing happens on it or later."""
    years: float
    engineers: int
    results: int
    bugs: int
    other_issues: int
    merge_requests: int

    @classmethod
    def of_size(
        cls,
        tenant: str,
        *,
        engineers: int,
        years: float,
        seed: int,
        as_of: date,
        results: int | None = None,
        bugs: int | None = None,
        merge_requests: int | None = None,
    ) -> Plan:
        """A plan in proportion to the number of engineers, where nothing else is said."""
        amount = engineers * years
        return cls(
            tenant=tenant,
            seed=seed,
            as_of=as_of,
            years=years,
            engineers=engineers,
            results=round(amount * RESULTS_A_YEAR) if results is None else results,
            bugs=round(amount * BUGS_A_YEAR) if bugs is None else bugs,
            other_issues=round(amount * OTHER_ISSUES_A_YEAR) if bugs is None else bugs,
            merge_requests=round(amount * MERGE_REQUESTS_A_YEAR) if merge_requests is None else merge_requests,
        )

    @property
    def slug(self) -> str:
        """The tenant's name as it stands in addresses."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.tenant.lower()).split())

    def random(self, part: str) -> Random:
        """Chance of its own for each part, so that more of one changes nothing of another."""
        return Random(f"{self.seed}/{self.tenant}/{part}")  # noqa: S311  # made-up data

    @property
    def projects_count(self) -> int:
        """How many projects it has."""
        return max(2, min(self.engineers // ENGINEERS_OF_A_PROJECT, MOST_PROJECTS, len(words.PROJECTS)))


class Person(NamedTuple):
    """Somebody, or a robot, with accounts."""

    number: int
    name: str
    username: str
    email: str
    zone: str
    squad: str | None
    job_role: str | None
    is_active: bool
    is_bot: bool = False


class Deploy(NamedTuple):
    """A deployment: its number among all of the company, and what became of it."""

    number: int
    environment: str
    started_at: int
    finished_at: int
    is_success: bool


class Project(NamedTuple):
    """A project with its repository, and where its rows begin."""

    number: int
    title: str
    key: str
    path: str
    zone: str
    share: float
    """Of everything that the company does."""
    cases_count: int
    first_case: int
    deploys: list[Deploy]


class Company:
    """All that the other generators refer to."""

    def __init__(self, plan: Plan) -> None:
        """Make people and projects."""
        self.plan = plan
        self.workdays = Workdays(plan.as_of - timedelta(days=round(plan.years * 365.25)), plan.as_of)
        random = plan.random("company")
        self.people = self._people(random)
        self.bots = [
            Person(len(self.people) + n, name, username, "", "UTC", None, None, is_active=True, is_bot=True)
            for n, (name, username) in enumerate(words.BOTS)
        ]
        self.engineers = [each for each in self.people if each.job_role == "Engineer"]
        # A few do most of the work.
        self.weights = [1 / (rank + 1) ** 0.7 for rank in range(len(self.engineers))]
        self.projects = self._projects(random)
        self.run_sizes = self._run_sizes(plan.random("sizes"))

    def ids_needed(self) -> dict[str, int]:
        """How many ids of each table the rows refer to."""
        projects = len(self.projects)
        runs = sum(map(len, self.run_sizes))
        return {
            "tenants": 1,
            "users": len(self.people),
            "connections": 2,
            "business_calendars": 1,
            "projects": projects,
            "repositories": projects,
            "sync_scopes": 2 * projects,
            "suites": projects * SUITES_OF_A_PROJECT,
            "test_cases": sum(each.cases_count for each in self.projects),
            "test_plans": projects * PLANS_OF_A_PROJECT,
            "test_runs": runs,
            "allure_report": runs,
            "documents": projects * DOCUMENTS_OF_A_PROJECT,
            "bug_budget": self.plan.bugs,
            "gitlab_deployments": sum(len(each.deploys) for each in self.projects),
        }

    def split(self, count: int) -> list[int]:
        """A number of things by project, in proportion to their shares; all of them are given out."""
        bounds = [0]
        total = 0.0
        for project in self.projects:
            total += project.share
            bounds.append(round(count * total))
        bounds[-1] = count
        return [after - before for before, after in pairwise(bounds)]

    def _people(self, random: Random) -> list[Person]:
        staff = max(2, self.plan.engineers // 8)
        people: list[Person] = []
        for number in range(self.plan.engineers + staff):
            first, last = random.choice(words.FIRST_NAMES), random.choice(words.LAST_NAMES)
            username = f"{first}.{last}{number}".lower()
            is_engineer = number < self.plan.engineers
            people.append(
                Person(
                    number=number,
                    name=f"{first} {last}",
                    username=username,
                    email=f"{username}@{self.plan.slug}.example",
                    zone=random.choices(ZONES, ZONE_WEIGHTS)[0],
                    squad=words.SQUADS[number // SQUAD_SIZE % len(words.SQUADS)] if is_engineer else None,
                    job_role="Engineer" if is_engineer else random.choice(("QA lead", "Product manager", "Manager")),
                    is_active=random.random() > 0.08,
                )
            )
        return people

    def _projects(self, random: Random) -> list[Project]:
        titles = random.sample(words.PROJECTS, self.plan.projects_count)
        weights = [1 / (rank + 1) ** 0.8 for rank in range(len(titles))]
        projects: list[Project] = []
        first_case = first_deploy = 0
        for number, (title, key) in enumerate(titles):
            zone = random.choices(ZONES, ZONE_WEIGHTS)[0]
            deploys = self._deploys(random, zone, first_deploy)
            cases_count = random.randint(*CASES_OF_A_PROJECT)
            path = f"{self.plan.slug}/{title.lower().replace(' ', '-')}"
            share = weights[number] / sum(weights)
            projects.append(Project(number, title, key, path, zone, share, cases_count, first_case, deploys))
            first_case += cases_count
            first_deploy += len(deploys)
        return projects

    def _deploys(self, random: Random, zone: str, first: int) -> list[Deploy]:
        """A release every week or two: to staging, then to production; what fails is fixed within hours."""
        deploys: list[Deploy] = []

        def deploy(environment: str, start: int, *, is_success: bool) -> int:
            end = start + random.randint(180, 1_500)
            if end < self.workdays.end:
                deploys.append(Deploy(first + len(deploys), environment, start, end, is_success))
            return end

        moment = self.workdays.start + 10 * HOUR_SECONDS
        while True:
            moment += random.randint(*RELEASE_DAYS) * DAY_SECONDS
            start = self.workdays.later(random, moment, 1, 0.3, zone)
            if start >= self.workdays.end:
                return deploys
            start = deploy("staging", start, is_success=True) + random.randint(600, 4 * HOUR_SECONDS)
            while random.random() < FAILED_DEPLOYMENT_RATIO:
                start = deploy("production", start, is_success=False) + random.randint(1_200, 6 * HOUR_SECONDS)
            deploy("production", start, is_success=True)

    def _run_sizes(self, random: Random) -> list[list[int]]:
        """Results of each run, by project; together as many as the plan says."""
        sizes: list[list[int]] = []
        for project, count in zip(self.projects, self.split(self.plan.results), strict=True):
            left, runs = count, list[int]()
            most = project.cases_count - project.cases_count // MANUAL_EVERY
            while left > 0:
                size = min(left, most, max(3, round(random.lognormvariate(0, 0.5) * RESULTS_OF_A_RUN)))
                runs.append(size)
                left -= size
            sizes.append(runs)
        return sizes


class Ids:
    """The ids that were set aside for the rows."""

    def __init__(self, first: Mapping[str, int]) -> None:
        """Take the first id of each table."""
        self._first = first

    def __call__(self, table: str, number: int = 0) -> int:
        """The id of the row of that number."""
        return self._first[table] + number
