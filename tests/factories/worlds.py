"""Inputs of summaries, and what may happen to them: strategies for laws over any sequence of events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from factories.rows import SEVERITY_FIELD, STATUSES, Rows, utc
from hypothesis import strategies as st

from models.store import summaries

START = utc("2025-03-29 00:00")
"""Europe's clocks change on the 30th, and the month ends on the 31st; whole hours fall on midnights of many zones."""
LAST_HOUR = 100
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "America/Havana"]
TYPES = ["Bug", "Task", "defect"]
PREFIXES = ["AB", "CD", "EF", "ZZ"]
PRIORITIES = [None, "Highest", "Low", "Odd"]
PEOPLE = ["ann", "bob", None]

hours = st.integers(0, LAST_HOUR)
maybe_hours = st.none() | hours


def operation(what: str, /, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(what), st.fixed_dictionaries(arguments))


def at(hour: int | None) -> datetime | None:
    return None if hour is None else START + timedelta(hours=hour)


class World:
    """The inputs of some summaries, and what may happen to them."""

    names: tuple[str, ...]

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.hour = 0
        self.projects = [rows.project("Shop"), rows.project("Till")]

    @property
    def now(self) -> datetime:
        return START + timedelta(hours=self.hour)

    def put(self, table: str, key: dict[str, Any], **values: Any) -> None:
        """Insert a row or update the one of that key."""
        where = " AND ".join(f"{name} = :{name}" for name in key)
        if self.rows.sql(f"SELECT 1 FROM {table} WHERE {where}", **key).first() is None:
            self.rows.add(table, **key, **values)
        else:
            changes = ", ".join(f"{name} = :{name}" for name in values)
            self.rows.sql(f"UPDATE {table} SET {changes} WHERE {where}", **key, **values)

    def drop(self, table: str, key: dict[str, Any]) -> None:
        where = " AND ".join(f"{name} = :{name}" for name in key)
        self.rows.sql(f"DELETE FROM {table} WHERE {where}", **key)

    def zone(self, project: int, timezone: str) -> None:
        self.rows.sql("UPDATE projects SET timezone = :zone WHERE id = :id", zone=timezone, id=self.projects[project])

    def title(self, project: int, title: str) -> None:
        self.rows.sql(
            "UPDATE projects SET title = :title "
            "WHERE id = :id AND NOT EXISTS (SELECT FROM projects WHERE title = :title)",
            title=title,
            id=self.projects[project],
        )

    def take(self, summary: int, limit: int) -> None:
        name = self.names[summary % len(self.names)]
        summaries.take_and_recompute(self.rows.session, name, as_of=self.now, limit=limit)

    def rebuild(self, summary: int, project: int) -> None:
        name = self.names[summary % len(self.names)]
        summaries.rebuild(self.rows.session, name, as_of=self.now, project_id=self.projects[project])

    def wait(self, by: int) -> None:
        self.hour += by

    def run(self, operations: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in operations:
            getattr(self, name)(**arguments)

    def settle(self) -> None:
        """To the end of time, where everything that happened is past."""
        self.hour = max(self.hour, LAST_HOUR + 48)
        self.rows.settle(self.now, limit=3, names=self.names)

    def snapshot(self) -> dict[str, list[str]]:
        return {
            name: sorted(self.rows.sql(f"SELECT (to_jsonb(t) - {leave_out})::text FROM {name} AS t").scalars())
            for name in self.names
            for leave_out in ["'last_updated_at'" if name == "test_runs_view" else "'last_updated_at' - 'id'"]
        }


COMMON = [
    operation("zone", project=st.integers(0, 1), timezone=st.sampled_from(ZONES)),
    operation("title", project=st.integers(0, 1), title=st.sampled_from(["Shop", "Till", "Store"])),
    operation("take", summary=st.integers(0, 1), limit=st.integers(1, 4)),
    operation("rebuild", summary=st.integers(0, 1), project=st.integers(0, 1)),
    operation("wait", by=st.integers(1, 30)),
]


# --- Jira -------------------------------------------------------------------------------------------------------------


class JiraWorld(World):
    names = ("jira_lead_times", "bug_analytics_daily")

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        # The second connection reaches the same instance as the first.
        self.connections = [rows.connection(name=name, base_url="https://jira.example.com") for name in ("a", "b")]
        self.scopes = [
            rows.scope(self.connections[0], self.projects[0], "AB"),
            rows.scope(self.connections[0], self.projects[1], "CD"),
            rows.scope(self.connections[0], self.projects[0], "EF"),
            rows.scope(self.connections[1], self.projects[0], "AB"),
        ]

    def issue(
        self, connection: int, issue: int, prefix: str, number: int, created: int, status: str, **values: Any
    ) -> None:
        self.put(
            "jira_table_history",
            {"connection_id": self.connections[connection], "issue_id": str(issue)},
            sync_scope_id=self.scopes[3 * connection],
            project_id=self.rows.sql(
                "SELECT project_id FROM sync_scopes WHERE connection_id = :id AND external_key = :key",
                id=self.connections[connection],
                key=prefix,
            ).scalar(),
            issuekey=f"{prefix}-{number}",
            project=prefix,
            created=at(created),
            status=status,
            status_id=STATUSES[status][0],
            status_category=STATUSES[status][1],
            issuetype=values["issuetype"],
            priority=values["priority"],
            severity_issue=values["severity"],
            deleted_at=at(values["deleted"]),
            updated=START,
            synced_at=START,
            summary="",
            **({} if self.has_issue(connection, issue) else self.empty()),
        )

    def has_issue(self, connection: int, issue: int) -> bool:
        return bool(
            self.rows.sql(
                "SELECT 1 FROM jira_table_history WHERE connection_id = :connection AND issue_id = :issue",
                connection=self.connections[connection],
                issue=str(issue),
            ).first()
        )

    @staticmethod
    def empty() -> dict[str, Any]:
        return {name: [] for name in ("components", "fix_versions", "subtasks", "labels", "linked_issues")}

    def drop_issue(self, connection: int, issue: int) -> None:
        self.drop("jira_table_history", {"connection_id": self.connections[connection], "issue_id": str(issue)})

    def change(
        self, connection: int, issue: int, change: int, item: int, hour: int, field: str, values: tuple[int, int]
    ) -> None:
        before, after = (self.value(field, value) for value in values)
        ids = field == "status"
        self.put(
            "jira_issue_changes",
            {
                "connection_id": self.connections[connection],
                "issue_id": str(issue),
                "change_id": str(change),
                "item_index": item,
            },
            field=field,
            field_name=field,
            changed_at=at(hour),
            from_text=before,
            to_text=after,
            from_value=STATUSES[before or ""][0] if ids else None,
            to_value=STATUSES[after or ""][0] if ids else None,
        )

    @staticmethod
    def value(field: str, number: int) -> str | None:
        values: dict[str, list[Any]] = {
            "status": list(STATUSES),
            "issuetype": TYPES,
            "issuekey": [f"{prefix}-1" for prefix in PREFIXES],
            "resolution": [None, "Fixed", ""],
        }
        choices = values.get(field, PRIORITIES)
        return choices[number % len(choices)]

    def drop_change(self, connection: int, issue: int, change: int) -> None:
        self.drop(
            "jira_issue_changes",
            {"connection_id": self.connections[connection], "issue_id": str(issue), "change_id": str(change)},
        )

    def category(self, connection: int, status: int, category: str) -> None:
        self.rows.sql(
            "UPDATE jira_statuses SET category = CAST(:category AS status_category) "
            "WHERE connection_id = :connection AND status_id = :status",
            category=category,
            connection=self.connections[connection],
            status=str(status),
        )

    def forget_status(self, connection: int, status: int) -> None:
        self.drop("jira_statuses", {"connection_id": self.connections[connection], "status_id": str(status)})

    def severity_field(self, connection: int, is_active: bool) -> None:
        self.put(
            "jira_fields",
            {"connection_id": self.connections[connection], "field_id": SEVERITY_FIELD},
            name="Severity",
            role="severity",
            is_active=is_active,
        )

    def severity_name(self, name: str, severity: str) -> None:
        self.put("severity_mappings", {"tenant_id": self.rows.tenant_id, "source_name": name}, severity=severity)

    def map_scope(self, scope: int, project: int) -> None:
        self.rows.sql(
            "UPDATE sync_scopes SET project_id = :project WHERE id = :id",
            project=self.projects[project],
            id=self.scopes[scope],
        )

    def bug_types(self, connection: int, options: str) -> None:
        self.rows.sql(
            "UPDATE connections SET options = CAST(:options AS jsonb) WHERE id = :id",
            options=options,
            id=self.connections[connection],
        )

    def move_instance(self, url: str) -> None:
        self.rows.sql("UPDATE connections SET base_url = :url WHERE id = :id", url=url, id=self.connections[1])


connection_and_issue = {"connection": st.sampled_from([0, 0, 0, 1]), "issue": st.integers(1, 3)}
issues = operation(
    "issue",
    **connection_and_issue,
    prefix=st.sampled_from(PREFIXES),
    number=st.integers(1, 2),
    created=hours,
    status=st.sampled_from(list(STATUSES)),
    issuetype=st.sampled_from(TYPES),
    priority=st.sampled_from(PRIORITIES),
    severity=st.sampled_from(PRIORITIES),
    deleted=st.one_of(st.none(), st.none(), hours),
)
changes = operation(
    "change",
    **connection_and_issue,
    change=st.integers(1, 12),
    item=st.integers(0, 1),
    hour=hours,
    field=st.sampled_from(
        ["status", "status", "status", "issuetype", "issuekey", "priority", SEVERITY_FIELD, "resolution", "labels"]
    ),
    values=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
jira_settings = [
    operation("drop_issue", **connection_and_issue),
    operation("drop_change", **connection_and_issue, change=st.integers(1, 12)),
    operation(
        "category",
        connection=st.integers(0, 1),
        status=st.integers(1, 6),
        category=st.sampled_from(["new", "indeterminate", "done"]),
    ),
    operation("forget_status", connection=st.integers(0, 1), status=st.integers(1, 6)),
    operation("severity_field", connection=st.integers(0, 1), is_active=st.booleans()),
    operation("severity_name", name=st.sampled_from(["odd", "low"]), severity=st.sampled_from(["critical", "high"])),
    operation("map_scope", scope=st.integers(0, 3), project=st.integers(0, 1)),
    operation(
        "bug_types",
        connection=st.integers(0, 1),
        options=st.sampled_from(["{}", '{"bug_types": ["TASK"]}', '{"bug_types": []}', '{"bug_types": "bug"}']),
    ),
    operation("move_instance", url=st.sampled_from(["https://jira.example.com/", "https://other.example.com"])),
]


# --- tests ------------------------------------------------------------------------------------------------------------


class TestWorld(World):
    __test__ = False
    names = ("test_execution_summary", "test_runs_view")

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.cases = [rows.case(), rows.case(automated=False)]
        self.reports = [rows.report(self.projects[0]) for _ in range(2)]
        self.repositories = [None, *(rows.repository(project) for project in self.projects)]
        self.plans = [None, rows.add("test_plans", project_id=self.projects[0], title="Release")]
        for run in (1, 2, 3):
            rows.add("test_runs", id=run, project_id=self.projects[0], title="new")

    def test_run(
        self, run: int, project: int, hour: int | None, started: int | None, completed: int | None, report: int, of: int
    ) -> None:
        report_id = None if report == 2 else self.reports[report]
        taken = self.rows.sql(
            "SELECT 1 FROM test_runs WHERE allure_report_id = :report AND id <> :run", report=report_id, run=run
        ).first()
        self.put(
            "test_runs",
            {"id": run},
            project_id=self.projects[project],
            execution_date=at(hour),
            started_at=at(started),
            completed_at=at(completed),
            allure_report_id=None if taken else report_id,
            repository_id=self.repositories[of],
            test_plan_id=self.plans[of % 2],
            title=f"run {of}",
        )

    def drop_run(self, run: int) -> None:
        self.drop("test_run_results", {"test_run_id": run})
        self.drop("test_runs", {"id": run})

    def result(self, run: int, case: int, status: str, is_valid: bool) -> None:
        if self.rows.sql("SELECT 1 FROM test_runs WHERE id = :id", id=run).first():
            key = {"test_run_id": run, "test_case_id": self.cases[case]}
            self.drop("test_run_results", key)
            self.rows.add("test_run_results", **key, status=status, is_valid=is_valid)

    def drop_result(self, run: int, case: int) -> None:
        self.drop("test_run_results", {"test_run_id": run, "test_case_id": self.cases[case]})

    def attempts(self, report: int, test: int, statuses: list[str], case: int) -> None:
        report_id = self.reports[report]
        self.drop("allure_scenarios", {"allure_report_id": report_id, "test_key": f"test {test}"})
        self.rows.attempts(report_id, f"test {test}", statuses, None if case == 2 else self.cases[case])

    def automated(self, case: int, automated: bool) -> None:
        self.put("test_cases", {"id": self.cases[case]}, automated=automated)

    def rename(self, table: str, title: str) -> None:
        self.rows.sql(f"UPDATE {table} SET title = :title", title=title)


test_runs = operation(
    "test_run",
    run=st.integers(1, 3),
    project=st.integers(0, 1),
    hour=maybe_hours,
    started=maybe_hours,
    completed=maybe_hours,
    report=st.integers(0, 2),
    of=st.integers(0, 2),
)
results = operation(
    "result",
    run=st.integers(1, 3),
    case=st.integers(0, 1),
    status=st.sampled_from(["passed", "failed", "skipped", "blocked"]),
    is_valid=st.booleans(),
)
attempts = operation(
    "attempts",
    report=st.integers(0, 1),
    test=st.integers(1, 2),
    statuses=st.lists(st.sampled_from(["passed", "failed", "broken", "skipped", "unknown"]), max_size=3),
    case=st.integers(0, 2),
)
test_settings = [
    operation("drop_run", run=st.integers(1, 3)),
    operation("drop_result", run=st.integers(1, 3), case=st.integers(0, 1)),
    operation("automated", case=st.integers(0, 1), automated=st.booleans()),
    operation("rename", table=st.sampled_from(["repositories", "test_plans"]), title=st.sampled_from(["x", "y"])),
]


# --- GitLab -----------------------------------------------------------------------------------------------------------


class GitLabWorld(World):
    names = ("gitlab_mr_contributors", "monthly_contributions")

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.connections = [rows.connection("gitlab", name, base_url="https://gitlab.example.com") for name in "ab"]
        self.scopes = [rows.scope(connection, self.projects[0], "shop") for connection in self.connections]

    def project_id(self, project: int) -> int | None:
        return None if project == 2 else self.projects[project]

    def activity(
        self, connection: int, path: str, mr: int, number: int, who: str | None, activity: str, hour: int, project: int
    ) -> None:
        self.put(
            "gitlab_mr_activities",
            {
                "connection_id": self.connections[connection],
                "external_project_id": path,
                "mr_id": mr,
                "external_id": str(number),
            },
            project_id=self.project_id(project),
            account_id=who and f"gitlab/{who}",
            username=who,
            activity=activity,
            occurred_at=at(hour),
        )

    def drop_activity(self, connection: int, mr: int) -> None:
        self.drop("gitlab_mr_activities", {"connection_id": self.connections[connection], "mr_id": mr})

    def event(
        self, connection: int, number: int, who: str | None, hour: int, project: int, push: tuple[str, str] | None
    ) -> None:
        push_action, push_ref_type = push or (None, None)
        self.put(
            "gitlab_events",
            {"connection_id": self.connections[connection], "external_id": str(number)},
            external_project_id="55",
            project_id=self.project_id(project),
            author=who,
            author_id=who and f"gitlab/{who}",
            action="x",
            push_action=push_action,
            push_ref_type=push_ref_type,
            occurred_at=at(hour),
        )

    def drop_event(self, connection: int, number: int) -> None:
        self.drop("gitlab_events", {"connection_id": self.connections[connection], "external_id": str(number)})

    def identity(self, who: str | None, username: str | None, is_bot: bool) -> None:
        key = {"tenant_id": self.rows.tenant_id, "source": "gitlab", "external_id": f"gitlab/{who}"}
        self.put("user_identities", key, username=username, is_bot=is_bot, display_name=username)

    def drop_identity(self, who: str | None) -> None:
        self.drop("user_identities", {"external_id": f"gitlab/{who}"})

    def merge_request(self, connection: int, path: str, mr: int, name: str, hour: int, project: int) -> None:
        key = {"connection_id": self.connections[connection], "external_project_id": path, "mr_id": mr}
        exists = self.rows.sql(
            "SELECT 1 FROM gitlab_mr_lead_times WHERE connection_id = :connection_id AND mr_id = :mr_id "
            "AND external_project_id = :external_project_id",
            **key,
        ).first()
        self.put(
            "gitlab_mr_lead_times",
            key,
            sync_scope_id=self.scopes[connection],
            project_id=self.project_id(project),
            project_name=name,
            external_id=str(mr),
            title="",
            state="opened",
            draft=False,
            mr_created_at=START,
            source_updated_at=at(hour),
            synced_at=START,
            **({} if exists else {"labels": []}),
        )

    def move_instance(self, url: str) -> None:
        self.rows.sql("UPDATE connections SET base_url = :url WHERE id = :id", url=url, id=self.connections[1])


connection = {"connection": st.integers(0, 1)}
people = st.sampled_from(PEOPLE)
our_projects = st.sampled_from([0, 0, 1, 2])
activities = operation(
    "activity",
    **connection,
    path=st.sampled_from(["55", "a:b"]),
    mr=st.integers(1, 2),
    number=st.integers(1, 8),
    who=people,
    activity=st.sampled_from(["authored", "approved", "approved", "unapproved", "reviewed", "merged", "closed"]),
    hour=hours,
    project=our_projects,
)
events = operation(
    "event",
    **connection,
    number=st.integers(1, 6),
    who=people,
    hour=hours,
    project=our_projects,
    push=st.none() | st.tuples(st.sampled_from(["pushed", "created", "removed"]), st.sampled_from(["branch", "tag"])),
)
identities = operation(
    "identity", who=people, username=st.sampled_from(["ann", "anna", "bob", None]), is_bot=st.booleans()
)
merge_requests = operation(
    "merge_request",
    **connection,
    path=st.sampled_from(["55", "a:b"]),
    mr=st.integers(1, 2),
    name=st.sampled_from(["shop/web", "shop/app"]),
    hour=hours,
    project=our_projects,
)
gitlab_settings = [
    operation("drop_activity", **connection, mr=st.integers(1, 2)),
    operation("drop_event", **connection, number=st.integers(1, 6)),
    operation("drop_identity", who=people),
    operation("move_instance", url=st.sampled_from(["https://gitlab.example.com/", "https://other.example.com"])),
]


# --- the order of arrival ---------------------------------------------------------------------------------------------

KEYS = {
    "issue": ("connection", "issue"),
    "change": ("connection", "issue", "change", "item"),
    "test_run": ("run",),
    "result": ("run", "case"),
    "attempts": ("report", "test"),
    "activity": ("connection", "path", "mr", "number"),
    "event": ("connection", "number"),
    "identity": ("who",),
    "merge_request": ("connection", "path", "mr"),
    "category": ("connection", "status"),
    "severity_field": ("connection",),
    "severity_name": ("name",),
    "automated": ("case",),
}
"""What an operation sets is found under these; two that set the same thing would not commute, whoever summed up."""


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[type[World], list[Any], list[Any]]:
    """A world, its inputs in two orders, and moments at which marks are taken between them."""
    world, choices = draw(
        st.sampled_from(
            [
                (JiraWorld, [issues, changes, changes, changes, jira_settings[2], jira_settings[4], jira_settings[5]]),
                (TestWorld, [test_runs, results, attempts, test_settings[2]]),
                (GitLabWorld, [activities, activities, events, identities, merge_requests]),
            ]
        )
    )
    inputs = draw(
        st.lists(
            st.one_of(choices),
            min_size=3,
            max_size=25,
            unique_by=lambda each: (each[0], *(each[1][name] for name in KEYS[each[0]])),
        )
    )
    # Which run has a report is decided by who comes first; here each has its own.
    for name, arguments in inputs:
        if name == "test_run":
            arguments["report"] = min(arguments["run"], 3) - 1
    orders = [
        [step for each in order for step in (each, *draw(st.lists(st.one_of(COMMON[2], COMMON[4]), max_size=1)))]
        for order in (inputs, draw(st.permutations(inputs)))
    ]
    return world, *orders
