"""Bugs a day by their definition (docs/summaries.md), told one issue and one day after the other: slow, and independent
of the statement that computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from factories.rows import SEVERITY_FIELD
from factories.worlds import JiraWorld

RANKS = {"critical": 0, "high": 1, "medium": 2, "low": 3}


class State(NamedTuple):
    """What an issue is between two steps."""

    is_bug: bool
    project_id: int | None
    is_done: bool
    rank: int


class Step(NamedTuple):
    """What happened at once; a state of None is where the issue does not exist."""

    at: datetime
    before: State | None
    after: State | None
    resolutions: int


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """Where the clock shows midnight twice, the second one."""
    return datetime(day.year, day.month, day.day, tzinfo=zone, fold=1)


class Inputs:
    """Everything that the definition reads."""

    def __init__(self, world: JiraWorld) -> None:
        sql = world.rows.sql
        self.issues = sql("SELECT * FROM jira_table_history").all()
        self.connections = {row.id: row for row in sql("SELECT * FROM connections")}
        self.projects = {
            (row.connection_id, row.external_key): row.project_id for row in sql("SELECT * FROM sync_scopes")
        }
        self.categories = {
            (row.connection_id, row.status_id): row.category for row in sql("SELECT * FROM jira_statuses")
        }
        self.categories_by_name = {
            (row.connection_id, row.name.lower()): row.category
            for row in sql("SELECT * FROM jira_statuses ORDER BY status_id DESC")
        }
        self.ranks = {
            row.source_name: RANKS[row.severity]
            for row in sql("SELECT * FROM severity_mappings ORDER BY tenant_id NULLS FIRST")
        }
        active = "SELECT connection_id FROM jira_fields WHERE role = 'severity' AND is_active"
        self.with_severity = set(sql(active).scalars())
        self.changes: dict[Any, list[Any]] = {}
        for change in sql(
            'SELECT * FROM jira_issue_changes ORDER BY changed_at, length(change_id), change_id COLLATE "C", item_index'
        ):
            self.changes.setdefault((change.connection_id, change.issue_id), []).append(change)

    def changes_of(self, issue: Any) -> list[Any]:
        return self.changes.get((issue.connection_id, issue.issue_id), [])

    def project_of(self, issue: Any, key: str | None) -> int | None:
        return self.projects.get((issue.connection_id, (key or "").split("-")[0]))

    def is_bug(self, issue: Any, issue_type: str) -> bool:
        listed = self.connections[issue.connection_id].options.get("bug_types")
        types = listed if isinstance(listed, list) and listed else ["bug", "defect"]
        return issue_type.lower() in [name.lower() for name in types]

    def is_done(self, issue: Any, status_id: str | None, name: str | None) -> bool:
        connection_id = issue.connection_id
        category = self.categories.get((connection_id, status_id))
        category = category or self.categories_by_name.get((connection_id, (name or "").lower()))
        if category is None and (status_id == issue.status_id or (status_id is None and name == issue.status)):
            category = issue.status_category
        return category == "done"

    def rank(self, issue: Any, severity: str | None, priority: str | None) -> int:
        if issue.connection_id in self.with_severity and (severity or "").lower() in self.ranks:
            return self.ranks[(severity or "").lower()]
        return self.ranks.get((priority or "").lower(), RANKS["medium"])

    def state(self, issue: Any, number_of_changes: int) -> State:
        """What an issue was after its first so many changes."""
        changes = self.changes_of(issue)

        def value(field: str, now: Any, read: Callable[[Any, str], Any]) -> Any:
            past = [change for change in changes[:number_of_changes] if change.field == field]
            future = [change for change in changes[number_of_changes:] if change.field == field]
            if past:
                return read(past[-1], "to")
            return read(future[0], "from") if future else now

        def name(change: Any, side: str) -> Any:
            return getattr(change, f"{side}_text")

        def status(change: Any, side: str) -> Any:
            return getattr(change, f"{side}_value"), getattr(change, f"{side}_text")

        here = self.project_of(issue, issue.project) or issue.project_id
        return State(
            is_bug=self.is_bug(issue, value("issuetype", issue.issuetype, name)),
            project_id=value("issuekey", here, lambda change, side: self.project_of(issue, name(change, side))),
            is_done=self.is_done(issue, *value("status", (issue.status_id, issue.status), status)),
            rank=self.rank(
                issue, value(SEVERITY_FIELD, issue.severity_issue, name), value("priority", issue.priority, name)
            ),
        )

    def steps(self, issue: Any) -> Iterator[Step]:
        """The life of an issue; the items of one history at one time are one step."""
        if issue.deleted_at is not None and issue.deleted_at <= issue.created:
            return
        changes = self.changes_of(issue)
        state = self.state(issue, 0)
        yield Step(issue.created, None, state, 0)
        for number, change in enumerate(changes, 1):
            following = changes[number] if number < len(changes) else None
            if following is not None and (following.changed_at, following.change_id) == (
                change.changed_at,
                change.change_id,
            ):
                continue
            if issue.deleted_at is not None and change.changed_at >= issue.deleted_at:
                break
            before, state = state, self.state(issue, number)
            resolutions = sum(
                each.field == "resolution" and not each.from_text and bool(each.to_text)
                for each in changes
                if (each.changed_at, each.change_id) == (change.changed_at, change.change_id)
            )
            yield Step(max(change.changed_at, issue.created), before, state, resolutions)
        if issue.deleted_at is not None:
            yield Step(issue.deleted_at, state, None, 0)

    def issues_of(self, project_id: int) -> list[Any]:
        """Those that ever were in a project, each once: of two connections' copies the living one, else the first."""
        copies: dict[Any, list[Any]] = {}
        for issue in self.issues:
            keys = [
                key for change in self.changes_of(issue) if change.field == "issuekey"
                for key in (change.from_text, change.to_text)
            ]  # fmt: skip
            places = {self.project_of(issue, key) for key in (issue.project, *keys)} | {issue.project_id}
            if project_id in places:
                instance = self.connections[issue.connection_id].base_url.rstrip("/")
                copies.setdefault((instance, issue.issue_id), []).append(issue)
        return [min(each, key=lambda i: (i.deleted_at is not None, i.connection_id)) for each in copies.values()]


def effect_of(step: Step, project_id: int) -> list[int]:
    """What a step adds to a project: created, resolved, closed, reopened, and open by severity."""
    effect = [0] * 8
    before = step.before if step.before and step.before.is_bug and step.before.project_id == project_id else None
    after = step.after if step.after and step.after.is_bug and step.after.project_id == project_id else None
    if after is not None:
        effect[0] = int(step.before is None)
        effect[1] = step.resolutions
        effect[2] = int(after.is_done and (step.before is None or (before is not None and not before.is_done)))
        effect[3] = int(before is not None and before.is_done and not after.is_done)
    if before is not None and not before.is_done:
        effect[4 + before.rank] -= 1
    if after is not None and not after.is_done:
        effect[4 + after.rank] += 1
    return effect


def expected_bugs(world: JiraWorld) -> dict[tuple[int, date], tuple[int, ...]]:
    """By project and day: created, resolved, closed, reopened, then open critical, high, medium and low."""
    inputs = Inputs(world)
    expected: dict[tuple[int, date], tuple[int, ...]] = {}
    for project_id, timezone in world.rows.table("projects", "id, timezone"):
        zone = ZoneInfo(timezone)
        effects = [
            (step.at, effect_of(step, project_id))
            for issue in inputs.issues_of(project_id)
            for step in inputs.steps(issue)
        ]
        effects = [(at, effect) for at, effect in effects if any(effect)]
        if not effects:
            continue
        first = min(at for at, _ in effects)
        day = first.astimezone(zone).date() - timedelta(days=1)
        while day <= world.now.astimezone(zone).date():
            begins, ends = day_start(day, zone), day_start(day + timedelta(days=1), zone)
            if first < ends:
                of_day = [sum(effect[n] for at, effect in effects if begins <= at < ends) for n in range(4)]
                at_end = [sum(effect[n] for at, effect in effects if at < ends) for n in range(4, 8)]
                expected[project_id, day] = (*of_day, *at_end)
            day += timedelta(days=1)
    return expected
