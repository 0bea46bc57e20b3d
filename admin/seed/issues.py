"""Issues of Jira with their histories, and the bugs among them: what people do to them, status by status.

The last change of a field says what the issue's column says; times run from the creation to the last change.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from admin.seed import words
from admin.seed.company import Company, Ids, Part, Person, Project
from admin.seed.foundation import SEVERITY_FIELD, STATUSES, jira_account, scope_id
from admin.seed.workdays import at

CHUNK_ISSUES = 2_000
SEVERITIES = ("Critical", "High", "Medium", "Low")
SEVERITY_WEIGHTS = (5, 20, 50, 25)
# Hours until work on it begins, and until it is done: medians of long-tailed times.
START_HOURS = {"Critical": 1, "High": 10, "Medium": 60, "Low": 250}
WORK_HOURS = {"Critical": 5, "High": 20, "Medium": 40, "Low": 60}
REOPEN_RATIO = 0.09
NEVER_STARTED_RATIO = 0.04
RELEASE_FACTOR = 2.5
RELEASE_DAYS = 4
# fmt: off
ISSUE_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "issue_id", "issuekey", "project", "issuetype",
    "summary", "components", "fix_versions", "priority", "severity_issue", "comments_count", "subtasks", "labels",
    "linked_issues", "created", "status_id", "status", "status_category", "status_category_changed", "assignee",
    "assignee_id", "reporter", "reporter_id", "creator", "creator_id", "story_points", "updated", "resolution",
    "resolved", "synced_at",
)
CHANGE_COLUMNS = (
    "tenant_id", "connection_id", "issue_id", "change_id", "item_index", "author_id", "author", "field", "field_name",
    "from_value", "from_text", "to_value", "to_text", "changed_at",
)
BUG_COLUMNS = (
    "id", "tenant_id", "connection_id", "issue_id", "jira_key", "project", "project_id", "summary", "status",
    "issue_type", "final_issue_type", "priority", "severity_issue", "status_category", "assignee_final", "assignee_id",
    "reporter", "reporter_id", "creator", "creator_id", "labels", "is_open", "created_date", "updated_date",
    "resolved_date", "last_synced_at", "reopen_count", "linked_issues",
)
HISTORY_COLUMNS = (
    "tenant_id", "bug_budget_id", "change_id", "item_index", "field", "old_value", "new_value", "changed_by",
    "changed_at",
)
# fmt: on


class Life:
    """What happens to one issue, change by change."""

    def __init__(self, company: Company, random: Random, project: Project, created: int, severity: str) -> None:
        self._workdays = company.workdays
        self._random = random
        self._zone = project.zone
        self.now = created
        self.status = "To Do"
        self.severity = severity
        self.assignee: Person | None = None
        self.resolved: int | None = None
        self.category_changed: int | None = None
        self.reopen_count = 0
        self.changes: list[tuple[int, int, Person, str, str, str | None, str | None, str | None, str | None]] = []
        """Moment, item, author, field, its name, from id and text, to id and text."""

    def wait(self, hours: float, sigma: float) -> bool:
        """Let time pass; False where the span ends before."""
        later = self._workdays.later(self._random, self.now, hours, sigma, self._zone)
        if later >= self._workdays.end:
            return False
        self.now = later
        return True

    def assign(self, person: Person) -> None:
        """To somebody, where it is not theirs already."""
        before = self.assignee
        if person is before:
            return
        self.assignee = person
        self._change(
            person, "assignee", "assignee", before and jira_account(before), before and before.name,
            jira_account(person), person.name,
        )  # fmt: skip

    def move(self, author: Person, status: str) -> None:
        """To another status; what enters or leaves the done category gets or loses its resolution in the same go."""
        before, self.status = self.status, status
        (old_id, old_category), (new_id, new_category) = STATUSES[before], STATUSES[status]
        self._change(author, "status", "status", old_id, before, new_id, status)
        if new_category != old_category:
            self.category_changed = self.now
        if new_category == "done" and old_category != "done":
            self.resolved = self.now
            self._change(author, "resolution", "resolution", None, None, "1", "Done", item=1)
        elif old_category == "done" and new_category != "done":
            self.resolved = None
            self.reopen_count += 1
            self._change(author, "resolution", "resolution", "1", "Done", None, None, item=1)

    def judge(self, author: Person, severity: str) -> None:
        """Another severity, where somebody sees it so."""
        if severity != self.severity:
            before, self.severity = self.severity, severity
            self._change(author, SEVERITY_FIELD, "Severity", None, before, None, severity)

    def _change(self, author: Person, field: str, name: str, *values: str | None, item: int = 0) -> None:
        old_id, old_text, new_id, new_text = values
        self.changes.append((self.now, item, author, field, name, old_id, old_text, new_id, new_text))

    def run(self, team: list[Person], tester: Person) -> None:
        """From the creation to the end of its life, or of the span."""
        random = self._random
        if random.random() < NEVER_STARTED_RATIO or not self.wait(START_HOURS[self.severity], 1.3):
            return
        if random.random() < 0.12:
            self.judge(tester, random.choices(SEVERITIES, SEVERITY_WEIGHTS)[0])
            if not self.wait(1, 0.5):
                return
        while True:
            worker = random.choice(team)
            self.assign(worker)
            if not self.wait(0.2, 0.5):
                return
            self.move(worker, "In Progress")
            if not self.wait(WORK_HOURS[self.severity], 1.1):
                return
            self.move(worker, "In Review")
            if not self.wait(6, 1.0):
                return
            self.move(tester, "Done")
            if random.random() > REOPEN_RATIO or not self.wait(40, 1.0):
                return
            self.move(tester, "Reopened")
            if not self.wait(START_HOURS[self.severity], 1.0):
                return


def issues(company: Company, ids: Ids) -> Iterator[list[Part]]:
    """Bugs and other issues of all projects, a chunk in each transaction."""
    plan = company.plan
    bug_numbers, issue_numbers, change_numbers = count(), count(), count(1)
    splits = zip(company.projects, company.split(plan.bugs), company.split(plan.other_issues), strict=True)
    writer = _Rows(company, ids)
    for project, bugs, others in splits:
        random = plan.random(f"issues/{project.key}")
        workdays = company.workdays
        releases = [each.finished_at for each in project.deploys if each.environment == "production"]
        after_releases = workdays.weights_after(releases, RELEASE_FACTOR, RELEASE_DAYS)
        kinds = [(moment, True) for moment in workdays.moments(random, bugs, project.zone, after_releases)]
        kinds += [(moment, False) for moment in workdays.moments(random, others, project.zone)]
        for number, (created, is_bug) in enumerate(sorted(kinds), 1):
            life = Life(company, random, project, created, random.choices(SEVERITIES, SEVERITY_WEIGHTS)[0])
            team = random.choices(company.engineers, company.weights, k=2)
            life.run(team, random.choice(company.people))
            bug_number = next(bug_numbers) if is_bug else None
            writer.add(random, project, number, next(issue_numbers), bug_number, created, life, change_numbers)
            if writer.is_full:
                yield writer.parts()
    yield writer.parts()


class _Rows:
    """Collects the rows of a chunk of issues."""

    def __init__(self, company: Company, ids: Ids) -> None:
        self._company = company
        self._ids = ids
        self._synced_at = at(company.workdays.end)
        self._clear()

    def _clear(self) -> None:
        self._issues: list[tuple[Any, ...]] = []
        self._changes: list[tuple[Any, ...]] = []
        self._bugs: list[tuple[Any, ...]] = []
        self._history: list[tuple[Any, ...]] = []

    @property
    def is_full(self) -> bool:
        return len(self._issues) >= CHUNK_ISSUES

    def parts(self) -> list[Part]:
        """What was collected; the next chunk begins."""
        parts = [
            Part("jira_table_history", ISSUE_COLUMNS, self._issues),
            Part("jira_issue_changes", CHANGE_COLUMNS, self._changes),
            Part("bug_budget", BUG_COLUMNS, self._bugs),
            Part("bug_budget_metadata", ("bug_budget_id", "classification_fields"), [
                (row[0], {"labels": row[20], "severity": row[12]}) for row in self._bugs]),
            Part("bug_history", HISTORY_COLUMNS, self._history),
        ]  # fmt: skip
        self._clear()
        return parts

    def add(
        self,
        random: Random,
        project: Project,
        number: int,
        issue_number: int,
        bug_number: int | None,
        created: int,
        life: Life,
        change_numbers: Iterator[int],
    ) -> None:
        company, ids = self._company, self._ids
        tenant_id, connection_id = ids("tenants"), ids("connections")
        reporter = random.choice(company.people)
        who = (reporter.name, jira_account(reporter))
        assignee = (life.assignee.name, jira_account(life.assignee)) if life.assignee else (None, None)
        issue_id, key = str(100_000 + issue_number), f"{project.key}-{number}"
        status_id, category = STATUSES[life.status]
        thing = random.choice(words.THINGS)
        if bug_number is None:
            kind, summary = random.choice(("Story", "Task")), f"{random.choice(words.WISHES)} {thing}"
        else:
            kind, summary = "Bug", f"The {thing} {random.choice(words.FAULTS)}"
        labels = random.sample(words.AREAS, random.choice((0, 0, 1, 2)))
        resolved, updated = life.resolved and at(life.resolved), at(max(life.now, created) if life.changes else created)
        project_id = ids("projects", project.number)
        self._issues.append(
            (tenant_id, connection_id, scope_id(company, ids, "jira", project), project_id, issue_id, key, project.key,
             kind, summary, labels[:1], [], life.severity, life.severity, random.randrange(6), [], labels, [],
             at(created), status_id, life.status, category, life.category_changed and at(life.category_changed),
             *assignee, *who, *who, random.choice((1, 2, 3, 5, 8)), updated, "Done" if resolved else None, resolved,
             self._synced_at)
        )  # fmt: skip
        bug_id = None if bug_number is None else ids("bug_budget", bug_number)
        if bug_id is not None:
            self._bugs.append(
                (bug_id, tenant_id, connection_id, issue_id, key, project.key, project_id, summary, life.status, kind,
                 kind, life.severity, life.severity.lower(), category, *assignee, *who, *who, labels,
                 category != "done", at(created), updated, resolved, self._synced_at, life.reopen_count, [])
            )  # fmt: skip
        self._add_changes(issue_id, bug_id, life, change_numbers)

    def _add_changes(self, issue_id: str, bug_id: int | None, life: Life, change_numbers: Iterator[int]) -> None:
        tenant_id, connection_id = self._ids("tenants"), self._ids("connections")
        change_id = ""
        for moment, item, author, field, name, old_id, old_text, new_id, new_text in life.changes:
            change_id = change_id if item else str(next(change_numbers))
            changed_at = at(moment)
            self._changes.append(
                (tenant_id, connection_id, issue_id, change_id, item, jira_account(author), author.name, field, name,
                 old_id, old_text, new_id, new_text, changed_at)
            )  # fmt: skip
            if bug_id is not None:
                self._history.append(
                    (tenant_id, bug_id, change_id, item, name, old_text or old_id, new_text or new_id, author.name,
                     changed_at)
                )  # fmt: skip
