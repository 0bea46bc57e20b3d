"""What stands before anything happens: tenant, people with accounts, connections, projects, test cases, releases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, time
from itertools import chain

from admin.seed import words
from admin.seed.company import (
    MANUAL_EVERY,
    PLANS_OF_A_PROJECT,
    SUITES_OF_A_PROJECT,
    Company,
    Deploy,
    Ids,
    Part,
    Person,
    Project,
)
from admin.seed.workdays import HOLIDAYS, at

STATUSES = {
    "To Do": ("1", "new"),
    "In Progress": ("2", "indeterminate"),
    "In Review": ("3", "indeterminate"),
    "Done": ("4", "done"),
    "Reopened": ("5", "new"),
}
SEVERITY_FIELD = "customfield_10050"
FRAMEWORKS = ("pytest", "pytest", "playwright", "junit5")
STREAMS = {"jira": ("issues",), "gitlab": ("merge_requests", "events", "pipelines", "deployments")}


def jira_account(person: Person) -> str:
    """A person's id at Jira."""
    return f"seed-{person.number:05d}"


def gitlab_account(company: Company, person: Person) -> str:
    """A person's id at GitLab, with the instance's host."""
    return f"gitlab.{company.plan.slug}.example/{1_000 + person.number}"


def is_manual(number: int) -> bool:
    """Whether the test case of that number within its project is for people."""
    return number % MANUAL_EVERY == MANUAL_EVERY - 1


def case_name(number: int) -> str:
    """The function of an automated case."""
    return f"test_{words.THINGS[number % len(words.THINGS)].replace(' ', '_')}_{number}"


def suite_number(number: int) -> int:
    """The suite, within the project, of the case of that number."""
    return number % SUITES_OF_A_PROJECT


def foundation(company: Company, ids: Ids, *, auth: str) -> Iterator[list[Part]]:
    """All that is made once.

    Args:
        company: whose.
        ids: that were set aside.
        auth: of its connections: ciphertext of no secrets.
    """
    yield _tenant(company, ids)
    yield [*_people(company, ids), *_connections(company, ids, auth), *_calendar(company, ids)]
    yield _projects(company, ids)
    yield [*_test_cases(company, ids), *_test_plans(company, ids)]
    yield _deployments(company, ids)


def _tenant(company: Company, ids: Ids) -> list[Part]:
    plan = company.plan
    features = {"seed": {"seed": plan.seed, "is_complete": False}}
    row = (ids("tenants"), plan.tenant, plan.slug, "enterprise", 10_000, 1_000, features, at(company.workdays.start))
    columns = ("id", "name", "slug", "plan", "max_users", "max_projects", "features", "created_at")
    return [Part("tenants", columns, [row])]


def _people(company: Company, ids: Ids) -> Iterator[Part]:
    tenant_id, start = ids("tenants"), at(company.workdays.start)
    yield Part(
        "users",
        ("id", "name", "email", "role", "is_active", "job_role", "squad", "created_at"),
        [
            (ids("users", p.number), p.name, p.email, "member", p.is_active, p.job_role, p.squad, start)
            for p in company.people
        ],
    )
    yield Part(
        "tenant_users",
        ("tenant_id", "user_id", "role", "joined_at"),
        [(tenant_id, ids("users", p.number), "admin" if p.number == 0 else "member", start) for p in company.people],
    )
    accounts: list[tuple[object, ...]] = []
    for p in company.people:
        user_id = ids("users", p.number)
        accounts += [
            (tenant_id, user_id, "jira", f"jira.{company.plan.slug}.example/{jira_account(p)}", p.username, p.name,
             p.email, False, None),
            (tenant_id, user_id, "gitlab", gitlab_account(company, p), p.username, p.name, p.email, False, None),
            (tenant_id, user_id, "git", p.email, None, p.name, p.email, False, None),
        ]  # fmt: skip
        if p.number % 4 == 0:  # commits at home, too
            private = f"{p.username}@private.example"
            accounts.append((tenant_id, user_id, "git", private, None, p.name.partition(" ")[0], private, False, None))
    for p in company.bots:
        accounts.append(
            (tenant_id, None, "gitlab", gitlab_account(company, p), p.username, p.name, None, True, "Its name says so")
        )
    yield Part(
        "user_identities",
        ("tenant_id", "user_id", "source", "external_id", "username", "display_name", "email", "is_bot", "bot_reason"),
        accounts,
    )


def _connections(company: Company, ids: Ids, auth: str) -> Iterator[Part]:
    tenant_id, slug = ids("tenants"), company.plan.slug
    yield Part(
        "connections",
        ("id", "tenant_id", "kind", "name", "base_url", "auth", "options", "status", "last_error"),
        [
            (ids("connections", number), tenant_id, kind, f"{slug}-{kind}", f"https://{kind}.{slug}.example", auth, {},
             "paused", "Made up: there is nothing to sync.")
            for number, kind in enumerate(("jira", "gitlab"))
        ],
    )  # fmt: skip
    yield Part(
        "jira_statuses",
        ("tenant_id", "connection_id", "status_id", "name", "category"),
        [(tenant_id, ids("connections"), number, name, category) for name, (number, category) in STATUSES.items()],
    )
    yield Part(
        "jira_fields",
        ("tenant_id", "connection_id", "field_id", "name", "field_type", "role", "is_custom"),
        [(tenant_id, ids("connections"), SEVERITY_FIELD, "Severity", "option", "severity", True)],
    )


def _calendar(company: Company, ids: Ids) -> Iterator[Part]:
    tenant_id, calendar_id, workdays = ids("tenants"), ids("business_calendars"), company.workdays
    hours = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    valid_from = datetime.combine(workdays.first, time(), UTC)
    yield Part(
        "business_calendars",
        ("id", "tenant_id", "name", "is_default", "timezone", "working_hours", "valid_from"),
        [(calendar_id, tenant_id, "Office hours", True, "UTC", hours, valid_from)],
    )
    yield Part(
        "calendar_holidays",
        ("tenant_id", "business_calendar_id", "holiday_on", "name"),
        [
            (tenant_id, calendar_id, day, HOLIDAYS[day.month, day.day])
            for day in workdays.days
            if (day.month, day.day) in HOLIDAYS
        ],
    )


def _projects(company: Company, ids: Ids) -> list[Part]:
    tenant_id, start, random = ids("tenants"), at(company.workdays.start), company.plan.random("projects")
    projects = company.projects
    last = len(projects) - 1
    parts = [
        Part(
            "projects",
            ("id", "tenant_id", "title", "key", "description", "status", "timezone", "created_by", "created_at"),
            [
                (ids("projects", p.number), tenant_id, p.title, p.key, f"{p.title} of {company.plan.tenant}",
                 "shipped" if p.number == last and last > 2 else "active", p.zone, ids("users"), start)
                for p in projects
            ],
        ),
        Part(
            "project_financials",
            ("project_id", "arr", "infrastructure_cost_monthly", "revenue_per_bug_hour"),
            [
                (ids("projects", p.number), round(5_000_000 * p.share), round(9_000 * p.share + 400),
                 round(random.uniform(5, 90), 2))
                for p in projects
            ],
        ),
        Part(
            "repositories",
            ("id", "tenant_id", "project_id", "title", "provider", "external_id", "web_url", "default_branch"),
            [
                (ids("repositories", p.number), tenant_id, ids("projects", p.number), p.path, "gitlab",
                 f"gitlab.{company.plan.slug}.example/{p.number + 1}",
                 f"https://gitlab.{company.plan.slug}.example/{p.path}", "main")
                for p in projects
            ],
        ),
    ]  # fmt: skip
    return [*parts, *_scopes(company, ids), *_owners(company, ids)]


def scope_id(company: Company, ids: Ids, kind: str, project: Project) -> int:
    """The scope of a project at Jira or GitLab."""
    return ids("sync_scopes", project.number + (len(company.projects) if kind == "gitlab" else 0))


def _scopes(company: Company, ids: Ids) -> Iterator[Part]:
    scopes: list[tuple[object, ...]] = []
    marks: list[tuple[object, ...]] = []
    for number, kind in enumerate(("jira", "gitlab")):
        for p in company.projects:
            scope = scope_id(company, ids, kind, p)
            repository_id = ids("repositories", p.number) if kind == "gitlab" else None
            key = p.path if kind == "gitlab" else p.key
            scopes.append((scope, ids("connections", number), ids("projects", p.number), repository_id, key, False))
            marks += [(scope, stream, at(company.workdays.end)) for stream in STREAMS[kind]]
    columns = ("id", "connection_id", "project_id", "repository_id", "external_key", "is_active")
    yield Part("sync_scopes", columns, scopes)
    yield Part("watermarks", ("sync_scope_id", "resource", "complete_until"), marks)


def _owners(company: Company, ids: Ids) -> Iterator[Part]:
    random = company.plan.random("owners")
    rows: list[tuple[object, ...]] = []
    for p in company.projects:
        patterns = ["*", *(f"/{area}/" for area in random.sample(words.AREAS, 5))]
        for position, pattern in enumerate(patterns):
            owners = [f"@{each.username}" for each in random.sample(company.people, 2)]
            repository_id = ids("repositories", p.number)
            rows.append((ids("tenants"), repository_id, pattern, owners, position, sha(p.path)))
    columns = ("tenant_id", "repository_id", "pattern", "owners", "position", "source_sha")
    yield Part("owner_rules", columns, rows)


def _test_cases(company: Company, ids: Ids) -> list[Part]:
    tenant_id, start = ids("tenants"), at(company.workdays.start)
    random = company.plan.random("cases")
    suites = [
        (ids("suites", p.number * SUITES_OF_A_PROJECT + n), ids("repositories", p.number), words.AREAS[n], n)
        for p in company.projects
        for n in range(SUITES_OF_A_PROJECT)
    ]
    cases: list[tuple[object, ...]] = []
    steps: list[tuple[object, ...]] = []
    for p in company.projects:
        for n in range(p.cases_count):
            case_id = ids("test_cases", p.first_case + n)
            suite = suite_number(n)
            thing = words.THINGS[n % len(words.THINGS)]
            automated = not is_manual(n)
            suite_id = ids("suites", p.number * SUITES_OF_A_PROJECT + suite)
            path = f"tests/{words.AREAS[suite]}/test_{thing.replace(' ', '_')}.py" if automated else None
            cases.append(
                (case_id, tenant_id, suite_id, ids("repositories", p.number), path,
                 case_name(n) if automated else None, random.choice(FRAMEWORKS) if automated else None,
                 f"The {thing} works, case {n}", ["smoke"] if n % 9 == 0 else [], automated,
                 random.choices((1, 2, 3), (2, 5, 3))[0], n % 3 == 0, start)
            )  # fmt: skip
            if not automated:
                steps += [
                    (case_id, 0, f"Open the {thing}", "It opens"),
                    (case_id, 1, f"Save the {thing}", "It is saved"),
                ]
    return [
        Part("suites", ("id", "repository_id", "title", "order"), list(suites)),
        Part(
            "test_cases",
            ("id", "tenant_id", "suite_id", "repository_id", "path", "name", "framework", "title", "labels",
             "automated", "priority", "regression", "created_at"),
            cases,
        ),
        Part("test_steps", ("test_case_id", "position", "action", "expected_result"), steps),
    ]  # fmt: skip


def _test_plans(company: Company, ids: Ids) -> list[Part]:
    plans = [
        (ids("test_plans", p.number * PLANS_OF_A_PROJECT + n), ids("projects", p.number), ids("repositories", p.number),
         title, "active")
        for p in company.projects
        for n, title in enumerate(("Regression", "Exploratory"))
    ]  # fmt: skip
    planned = [
        (ids("test_plans", p.number * PLANS_OF_A_PROJECT + n % PLANS_OF_A_PROJECT),
         ids("test_cases", p.first_case + n), n)
        for p in company.projects
        for n in range(p.cases_count)
        if is_manual(n)
    ]  # fmt: skip
    return [
        Part("test_plans", ("id", "project_id", "repository_id", "title", "status"), list(plans)),
        Part("test_plan_test_cases", ("test_plan_id", "test_case_id", "order"), list(planned)),
    ]


def _deployments(company: Company, ids: Ids) -> list[Part]:
    def row(p: Project, d: Deploy) -> tuple[object, ...]:
        tier = "production" if d.environment == "production" else "staging"
        return (
            ids("gitlab_deployments", d.number), ids("tenants"), ids("connections", 1),
            scope_id(company, ids, "gitlab", p), ids("projects", p.number), ids("repositories", p.number),
            str(p.number + 1), str(500_000 + d.number), d.number + 1, "success" if d.is_success else "failed",
            d.environment, tier, "main", sha(f"{p.path}/{d.number}"), company.bots[1].username,
            gitlab_account(company, company.bots[1]), at(d.started_at), at(d.finished_at), at(d.finished_at),
            at(company.workdays.end),
        )  # fmt: skip

    columns = (
        "id", "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "external_project_id",
        "external_id", "iid", "status", "environment", "environment_tier", "ref", "sha", "deployed_by",
        "deployed_by_id", "deployment_created_at", "finished_at", "source_updated_at", "synced_at",
    )  # fmt: skip
    rows = chain.from_iterable([row(p, d) for d in p.deploys] for p in company.projects)
    return [Part("gitlab_deployments", columns, list(rows))]


def sha(text: str) -> str:
    """A commit's hash, made up from what it is of."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
