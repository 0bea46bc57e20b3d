"""What a simulated Jira holds: people, projects, sprints, and issues with two years of history.

Here belongs what is true in it and what its users do, each at a time that is given, so that the generated past is made
by the same rules as the present. How it looks over HTTP stands in `simulator.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, Final, Literal

import msgspec

from connectors.simulator import HUMANS, dice, working_times

Deployment = Literal["cloud", "server"]


# --- the model --------------------------------------------------------------------------------------------------------


class Person(msgspec.Struct, kw_only=True, eq=False):
    """An account, of a human or of an app."""

    number: int
    username: str
    name: str
    is_active: bool = True
    is_app: bool = False
    is_forgotten: bool = False
    """Deleted under the data protection rules: a placeholder for a name, no address."""

    @property
    def account_id(self) -> str:
        """The id on Cloud."""
        return f"5f8d{self.number:04d}ab90c1e0006f{self.number * 7919 % 1_000_000:06d}"

    @property
    def key(self) -> str:
        """The id on Data Center."""
        return f"JIRAUSER{10_000 + self.number}"

    @property
    def email(self) -> str:
        """The address; payloads may hide it."""
        return f"{self.username}@example.test"

    def external_id(self, deployment: Deployment) -> str:
        """The id that never changes."""
        return self.account_id if deployment == "cloud" else self.key


class Named(msgspec.Struct, kw_only=True, eq=False):
    """A line of a dictionary: a status, priority, resolution, severity, component or version."""

    id: str
    name: str
    category: str = ""
    """Of a status: new, indeterminate or done."""


class IssueType(msgspec.Struct, kw_only=True, eq=False):
    """What kind of issue it is."""

    id: str
    name: str
    level: int = 0
    """1 for epics, -1 for sub-tasks."""


class Worklog(msgspec.Struct, kw_only=True, eq=False):
    """Time that somebody logged."""

    id: int
    author: Person
    at: datetime
    seconds: int


class Board(msgspec.Struct, kw_only=True, eq=False):
    """A board of a project; one that is no kanban board shows the project's sprints."""

    id: int
    name: str
    kind: str
    project: Project


class Sprint(msgspec.Struct, kw_only=True, eq=False):
    """A sprint of a project's board."""

    id: int
    board_id: int
    name: str
    starts_at: datetime
    ends_at: datetime
    is_deleted: bool = False

    def state(self, now: datetime) -> str:
        """What it is at a time: closed, active or future."""
        return "closed" if self.ends_at <= now else "active" if self.starts_at <= now else "future"


class Project(msgspec.Struct, kw_only=True, eq=False):
    """A project with its own dictionaries."""

    id: int
    key: str
    name: str
    statuses: dict[str, Named]
    """By our word for it (todo, doing, review, done, reopened, closed). Names repeat across projects, ids do not."""
    components: list[Named] = []
    versions: list[Named] = []
    sprints: list[Sprint] = []
    is_team_managed: bool = False
    """Such projects estimate in a field of their own."""
    is_hidden: bool = False
    next_number: int = 1


class Item(msgspec.Struct, frozen=True, gc=False):
    """One item of a history."""

    field: str
    """What the payload calls it, which is not always the field's name."""
    field_id: str | None
    is_custom: bool
    from_id: str | None
    from_text: str | None
    to_id: str | None
    to_text: str | None


class History(msgspec.Struct, eq=False):
    """What one person changed in one go."""

    id: int
    author: Person | None
    at: datetime
    items: tuple[Item, ...]


class Comment(msgspec.Struct, kw_only=True, eq=False):
    """A comment."""

    id: int
    author: Person | None
    """None: the source does not say, as of comments of some integrations."""
    body: str
    at: datetime


class Issue(msgspec.Struct, kw_only=True, eq=False):
    """An issue with everything that happened to it. Keyed by its id; key and project may change."""

    id: int
    project: Project
    number: int
    type: IssueType
    summary: str
    description: str | None
    status: Named
    created_at: datetime
    updated_at: datetime
    reporter: Person | None
    creator: Person | None
    priority: Named
    category_changed_at: datetime
    assignee: Person | None = None
    severity: Named | None = None
    resolution: Named | None = None
    resolved_at: datetime | None = None
    due_on: date | None = None
    labels: list[str] = []
    components: list[Named] = []
    fix_versions: list[Named] = []
    parent: Issue | None = None
    """The epic, or the issue that a sub-task belongs to."""
    sub_tasks: list[Issue] = []
    links: list[tuple[str, Issue]] = []
    """`outward` or `inward`, and the other issue; all of the type Blocks."""
    sprints: list[Sprint] = []
    story_points: float | None = None
    estimate_seconds: int | None = None
    spent_seconds: int | None = None
    is_flagged: bool = False
    comments: list[Comment] = []
    worklogs: list[Worklog] = []
    histories: list[History] = []
    is_hidden: bool = False
    """Whether a security level hides it from the token."""
    old_keys: list[str] = []
    rendered: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The key of today."""
        return f"{self.project.key}-{self.number}"


class ExpectedChange(msgspec.Struct, frozen=True, kw_only=True):
    """One item of one history, as it must be held."""

    change_id: str
    item_index: int
    author_id: str | None
    field_id: str | None
    field_name: str
    from_value: str | None
    from_text: str | None
    to_value: str | None
    to_text: str | None
    changed_at: datetime


class ExpectedIssue(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete sync must know of one issue, from the model itself and not from its JSON."""

    issue_id: str
    key: str
    project_key: str
    issue_type: str
    summary: str
    description: str | None
    status_id: str
    status: str
    status_category: str
    status_category_changed_at: datetime
    priority: str
    severity: str | None
    resolution: str | None
    labels: tuple[str, ...]
    components: tuple[str, ...]
    fix_versions: tuple[str, ...]
    assignee_id: str | None
    reporter_id: str | None
    creator_id: str | None
    parent_key: str | None
    """Of a sub-task the issue it belongs to, of others the epic."""
    epic_key: str | None
    sprint_ids: tuple[str, ...]
    story_points: float | None
    original_estimate_seconds: int | None
    time_spent_seconds: int | None
    subtasks: tuple[str, ...]
    linked_issues: tuple[tuple[str, str], ...]
    """`outward` or `inward`, and the other's key."""
    comments_count: int
    worklogs_count: int
    first_response_at: datetime | None
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    due_on: date | None
    changes: tuple[ExpectedChange, ...]
    """Oldest first: by time, then history id, then position."""


class FieldIds(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of custom fields; they differ between the two deployments so that nobody may take them for granted."""

    epic_name: str
    epic_link: str
    story_points: str
    story_point_estimate: str
    rank: str
    sprint: str
    flagged: str
    severity: str
    acceptance_criteria: str


FIELD_IDS: Final[dict[Deployment, FieldIds]] = {
    "cloud": FieldIds(
        epic_name="customfield_10011",
        epic_link="customfield_10014",
        story_points="customfield_10026",
        story_point_estimate="customfield_10016",
        rank="customfield_10019",
        sprint="customfield_10020",
        flagged="customfield_10021",
        severity="customfield_10050",
        acceptance_criteria="customfield_10060",
    ),
    "server": FieldIds(
        epic_name="customfield_10103",
        epic_link="customfield_10101",
        story_points="customfield_10106",
        story_point_estimate="customfield_10107",
        rank="customfield_10109",
        sprint="customfield_10105",
        flagged="customfield_10110",
        severity="customfield_10204",
        acceptance_criteria="customfield_10301",
    ),
}

BUG, STORY, TASK = (
    IssueType(id="10004", name="Bug"),
    IssueType(id="10001", name="Story"),
    IssueType(id="10002", name="Task"),
)
SUB_TASK, EPIC = IssueType(id="10003", name="Sub-task", level=-1), IssueType(id="10000", name="Epic", level=1)
ISSUE_TYPES: Final = {kind.name: kind for kind in (BUG, STORY, TASK, SUB_TASK, EPIC)}


def _dictionary(*lines: tuple[str, str]) -> dict[str, Named]:
    return {name: Named(id=key, name=name) for key, name in lines}


PRIORITIES: Final = _dictionary(("1", "Highest"), ("2", "High"), ("3", "Medium"), ("4", "Low"), ("5", "Lowest"))
RESOLUTIONS: Final = _dictionary(
    ("10000", "Done"), ("1", "Fixed"), ("2", "Won't Fix"), ("3", "Duplicate"), ("5", "Cannot Reproduce")
)
SEVERITIES: Final = _dictionary(
    ("10310", "S1 - Critical"), ("10311", "S2 - Major"), ("10312", "S3 - Minor"), ("10313", "S4 - Trivial")
)

_STATUSES: Final = {
    # our word: name, category, id in projects with the shared workflow
    "todo": ("To Do", "new", 10_000),
    "doing": ("In Progress", "indeterminate", 3),
    "review": ("In Review", "indeterminate", 10_001),
    "done": ("Done", "done", 10_002),
    "reopened": ("Reopened", "new", 4),
    "closed": ("Closed", "done", 6),
}
_OWN_WORKFLOW_FROM_ID = 20_000
"""Every second project has statuses of its own, with the same names."""

_PROJECTS: Final = (
    ("PAY", "Payments"), ("SHOP", "Storefront"), ("ORDER", "Order Management"), ("MOB", "Mobile App"),
    ("ID", "Identity"), ("REP", "Reporting"), ("SRCH", "Search"), ("BILL", "Billing"),
)  # fmt: skip
"""ORDER is a reserved word of JQL: whoever asks for it has to quote it."""


# --- what happens in it -----------------------------------------------------------------------------------------------


def milliseconds(at: datetime) -> datetime:
    """The time as precisely as Jira keeps it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _text(value: str | None) -> str | None:
    return value or None


def _join(values: Iterable[Named], attribute: str) -> str:
    return ", ".join(getattr(value, attribute) for value in values)


class World:
    """People, projects, issues, and what happens to them. `on_change` hears of every issue that changed."""

    def __init__(self, seed: int, deployment: Deployment, *, has_field_ids: bool = True) -> None:
        self.seed = seed
        self.deployment = deployment
        self.has_field_ids = has_field_ids
        self.fields = FIELD_IDS[deployment]
        self.people: dict[int, Person] = {}
        self.humans: list[Person] = []
        self.projects: dict[str, Project] = {}
        self.issues: dict[int, Issue] = {}
        self.by_key: dict[str, Issue] = {}
        """By every key that an issue has or had."""
        self.on_change: Callable[[Issue, datetime], object] = lambda *_: None
        self._next_issue_id = 10_001
        self._next_history_id = 100_001
        self._next_comment_id = 50_001
        self._next_worklog_id = 80_001
        self.boards: list[Board] = []

    def issue(self, wanted: int | str) -> Issue:
        """An issue by id, or by a key that it has or had.

        Raises:
            KeyError: there is none.
        """
        if isinstance(wanted, int) or wanted.isdigit():
            return self.issues[int(wanted)]
        return self.by_key[wanted.upper()]

    def find(self, wanted: str) -> Issue | None:
        """An issue by id or key, or None."""
        try:
            return self.issue(wanted)
        except KeyError:
            return None

    def status(self, issue: Issue, word: str) -> Named:
        """A status of the issue's project by our word for it or by its name."""
        statuses = issue.project.statuses
        return statuses[word] if word in statuses else next(one for one in statuses.values() if one.name == word)

    def create(
        self,
        project: Project,
        kind: IssueType,
        summary: str,
        at: datetime,
        *,
        by: Person | None,
        description: str | None = None,
        parent: Issue | None = None,
        priority: Named | None = None,
        severity: Named | None = None,
    ) -> Issue:
        """File an issue. A new issue has no history."""
        at = milliseconds(at)
        issue = Issue(
            id=self._next_issue_id,
            project=project,
            number=project.next_number,
            type=kind,
            summary=summary,
            description=description,
            status=project.statuses["todo"],
            created_at=at,
            updated_at=at,
            reporter=by,
            creator=by,
            priority=priority or PRIORITIES["Medium"],
            severity=severity,
            category_changed_at=at,
            parent=parent,
        )
        self._next_issue_id += 1
        project.next_number += 1
        self.issues[issue.id] = self.by_key[issue.key] = issue
        if parent is not None and kind is SUB_TASK:
            parent.sub_tasks.append(issue)
            parent.rendered = {}
        self.on_change(issue, at)
        return issue

    def record(self, issue: Issue, by: Person | None, at: datetime, *items: Item | None) -> None:
        """Write one history of what changed; `updated` moves. Nothing happens where nothing changed."""
        changed = tuple(item for item in items if item is not None)
        if changed:
            issue.histories.append(History(self._next_history_id, by, milliseconds(at), changed))
            self._next_history_id += 1
            self.save(issue, at)

    def save(self, issue: Issue, at: datetime) -> None:
        """Note that an issue changed."""
        issue.updated_at = max(issue.updated_at, milliseconds(at))
        issue.rendered = {}
        self.on_change(issue, issue.updated_at)

    def transition(
        self, issue: Issue, to: Named, at: datetime, *, by: Person | None, resolution: Named | None = None
    ) -> None:
        """Move to another status; done gets a resolution in the same history, and leaving it loses it."""
        if to is issue.status:
            return
        at = milliseconds(at)
        items = [self._item("status", issue.status, to)]
        if to.category == "done" and issue.resolution is None:
            resolution = resolution or RESOLUTIONS["Fixed" if issue.type is BUG else "Done"]
            items.append(self._item("resolution", None, resolution))
            issue.resolution, issue.resolved_at = resolution, at
        elif to.category != "done" and issue.resolution is not None:
            items.append(self._item("resolution", issue.resolution, None))
            issue.resolution = issue.resolved_at = None
        if to.category != issue.status.category:
            issue.category_changed_at = at
        issue.status = to
        self.record(issue, by, at, *items)

    def _item(self, field: str, old: Named | None, new: Named | None) -> Item:
        return Item(
            field,
            field,
            False,
            old.id if old else None,
            old.name if old else None,
            new.id if new else None,
            new.name if new else None,
        )

    # Each of these makes the change and returns the item that tells of it, or None where nothing changed.

    def set_summary(self, issue: Issue, value: str) -> Item | None:
        """Another title."""
        old, issue.summary = issue.summary, value
        return Item("summary", "summary", False, None, old, None, value) if old != value else None

    def set_description(self, issue: Issue, value: str | None) -> Item | None:
        """Another description; the history holds both in full."""
        old, issue.description = issue.description, value
        return Item("description", "description", False, None, old, None, value) if old != value else None

    def set_priority(self, issue: Issue, value: Named) -> Item | None:
        """Another priority."""
        old, issue.priority = issue.priority, value
        return self._item("priority", old, value) if old is not value else None

    def set_severity(self, issue: Issue, value: Named | None) -> Item | None:
        """Another severity, in this site's own custom field."""
        old, issue.severity = issue.severity, value
        if old is value:
            return None
        return Item(
            "Severity",
            self.fields.severity,
            True,
            old.id if old else None,
            old.name if old else None,
            value.id if value else None,
            value.name if value else None,
        )

    def set_assignee(self, issue: Issue, value: Person | None) -> Item | None:
        """Another assignee."""
        old, issue.assignee = issue.assignee, value
        if old is value:
            return None
        return Item(
            "assignee",
            "assignee",
            False,
            old.external_id(self.deployment) if old else None,
            old.name if old else None,
            value.external_id(self.deployment) if value else None,
            value.name if value else None,
        )

    def set_labels(self, issue: Issue, value: Iterable[str]) -> Item | None:
        """Other labels; the history has them in one text, parted by spaces."""
        old, issue.labels = issue.labels, list(value)
        if old == issue.labels:
            return None
        return Item("labels", "labels", False, "", " ".join(old), "", " ".join(issue.labels))

    def set_story_points(self, issue: Issue, value: float | None) -> Item | None:
        """Another estimate in points."""
        old, issue.story_points = issue.story_points, value
        if old == value:
            return None
        texts = [None if points is None else f"{points:g}" for points in (old, value)]
        name, field_id = self.points_field(issue.project)
        return Item(name, field_id, True, None, texts[0], None, texts[1])

    def points_field(self, project: Project) -> tuple[str, str]:
        """The name and id of the field that a project estimates in."""
        if self.deployment == "cloud" and project.is_team_managed:
            return "Story point estimate", self.fields.story_point_estimate
        return "Story Points", self.fields.story_points

    def set_type(self, issue: Issue, value: IssueType) -> Item | None:
        """Another type."""
        old, issue.type = issue.type, value
        return (
            Item("issuetype", "issuetype", False, old.id, old.name, value.id, value.name) if old is not value else None
        )

    def set_due(self, issue: Issue, value: date | None) -> Item | None:
        """Another due date."""
        old, issue.due_on = issue.due_on, value
        if old == value:
            return None
        texts = [(day.isoformat(), f"{day.isoformat()} 00:00:00.0") if day else (None, None) for day in (old, value)]
        return Item("duedate", "duedate", False, *texts[0], *texts[1])

    def set_estimate(self, issue: Issue, seconds: int | None) -> Item | None:
        """Another estimate of time."""
        old, issue.estimate_seconds = issue.estimate_seconds, seconds
        values = [None if value is None else str(value) for value in (old, seconds)]
        name = "timeoriginalestimate"
        return Item(name, name, False, values[0], values[0], values[1], values[1]) if old != seconds else None

    def set_parent(self, issue: Issue, value: Issue | None) -> Item | None:
        """Another epic: the parent on Cloud, the epic link on Data Center."""
        old, issue.parent = issue.parent, value
        if old is value:
            return None
        ends = [(str(one.id), one.key) if one else (None, None) for one in (old, value)]
        if self.deployment == "cloud":
            return Item("IssueParentAssociation", "IssueParentAssociation", False, *ends[0], *ends[1])
        return Item("Epic Link", self.fields.epic_link, True, *ends[0], *ends[1])

    def set_sprints(self, issue: Issue, value: list[Sprint]) -> Item | None:
        """Other sprints; ids and names stand in lists parted by commas."""
        old, issue.sprints = issue.sprints, value
        if old == value:
            return None
        ends = [
            (", ".join(str(one.id) for one in sprints), ", ".join(one.name for one in sprints))
            for sprints in (old, value)
        ]
        return Item("Sprint", self.fields.sprint, True, *ends[0], *ends[1])

    def set_components(self, issue: Issue, value: list[Named]) -> list[Item]:
        """Other components: one item for each that came or went, so several items may name this field."""
        old, issue.components = issue.components, value
        return self._came_and_went("Component", "components", old, value)

    def set_fix_versions(self, issue: Issue, value: list[Named]) -> list[Item]:
        """Other fix versions: one item for each that came or went, so several items may name this field."""
        old, issue.fix_versions = issue.fix_versions, value
        return self._came_and_went("Fix Version", "fixVersions", old, value)

    def _came_and_went(self, name: str, field_id: str, old: list[Named], new: list[Named]) -> list[Item]:
        came = [Item(name, field_id, False, None, None, one.id, one.name) for one in new if one not in old]
        went = [Item(name, field_id, False, one.id, one.name, None, None) for one in old if one not in new]
        return came + went

    def set_flag(self, issue: Issue, *, is_flagged: bool) -> Item | None:
        """Raise or lower the flag."""
        old, issue.is_flagged = issue.is_flagged, is_flagged
        texts = ["Impediment" if value else "" for value in (old, is_flagged)]
        ids = ["[10019]" if value else "" for value in (old, is_flagged)]
        if old == is_flagged:
            return None
        return Item("Flagged", self.fields.flagged, True, ids[0], texts[0], ids[1], texts[1])

    def rank(self) -> Item:
        """A place in the backlog; changes nothing that anybody counts."""
        return Item("Rank", self.fields.rank, True, "", "", "", "Ranked higher")

    def remote_link(self, number: int, title: str) -> Item:
        """A link to a page or a commit: the noise that long histories are made of."""
        return Item(
            "RemoteIssueLink", None, False, None, None, str(number), f'This issue links to "{title} (Web Link)"'
        )

    def log_work(self, issue: Issue, by: Person, seconds: int, at: datetime) -> None:
        """Log time on an issue: one history, and one worklog."""
        spent_before, issue.spent_seconds = issue.spent_seconds, (issue.spent_seconds or 0) + seconds
        self.add_worklog(issue, by, seconds, at)
        before = None if spent_before is None else str(spent_before)
        now_spent = str(issue.spent_seconds)
        self.record(issue, by, at, Item("timespent", "timespent", False, before, before, now_spent, now_spent))

    def add_worklog(self, issue: Issue, by: Person, seconds: int, at: datetime) -> None:
        """Note that time was logged, and nothing else."""
        issue.worklogs.append(Worklog(id=self._next_worklog_id, author=by, at=milliseconds(at), seconds=seconds))
        self._next_worklog_id += 1

    def comment(self, issue: Issue, by: Person | None, body: str, at: datetime) -> None:
        """Comment: `updated` moves, the history does not."""
        issue.comments.append(Comment(id=self._next_comment_id, author=by, body=body, at=milliseconds(at)))
        self._next_comment_id += 1
        self.save(issue, at)

    def link(self, blocker: Issue, blocked: Issue, at: datetime, *, by: Person | None) -> None:
        """Say that one issue blocks another; both change."""
        blocker.links.append(("outward", blocked))
        blocked.links.append(("inward", blocker))
        text = f"This issue blocks {blocked.key}"
        self.record(blocker, by, at, Item("Link", None, False, None, None, blocked.key, text))
        text = f"This issue is blocked by {blocker.key}"
        self.record(blocked, by, at, Item("Link", None, False, None, None, blocker.key, text))

    def move(self, issue: Issue, to: Project, at: datetime, *, by: Person | None) -> None:
        """Move to another project: the id stays, the key changes, the old key goes on leading to it."""
        if to is issue.project:
            return
        old_project, old_key, old_status = issue.project, issue.key, issue.status
        issue.old_keys.append(old_key)
        issue.project, issue.number = to, to.next_number
        to.next_number += 1
        self.by_key[issue.key] = issue
        word = next(word for word, status in old_project.statuses.items() if status is old_status)
        issue.status = to.statuses[word]
        issue.components, issue.fix_versions, issue.sprints = [], [], []
        items = [
            Item("project", "project", False, str(old_project.id), old_project.name, str(to.id), to.name),
            Item("Key", None, False, None, old_key, None, issue.key),
        ]
        if issue.status is not old_status:
            items.append(self._item("status", old_status, issue.status))
        self.record(issue, by, at, *items)
        for other in (*issue.sub_tasks, *(other for _, other in issue.links), *self._children(issue)):
            other.rendered = {}

    def _children(self, issue: Issue) -> list[Issue]:
        return [one for one in self.issues.values() if one.parent is issue] if issue.type is EPIC else []

    def delete(self, issue: Issue) -> None:
        """Delete for good; its links and children lose it without a word in their histories."""
        del self.issues[issue.id]
        for key in (issue.key, *issue.old_keys):
            del self.by_key[key]
        for _, other in issue.links:
            other.links[:] = [(way, linked) for way, linked in other.links if linked is not issue]
            other.rendered = {}
        for child in [one for one in self.issues.values() if one.parent is issue]:
            child.parent = None
            child.rendered = {}
        if issue.parent is not None:
            issue.parent.sub_tasks[:] = [one for one in issue.parent.sub_tasks if one is not issue]
            issue.parent.rendered = {}

    def forget_rendered(self) -> None:
        """Have everything rendered anew, because a name has changed."""
        for issue in self.issues.values():
            issue.rendered = {}

    def end_past(self) -> None:
        """Number the histories in the order of time, as a real instance has them."""
        histories = [history for issue in self.issues.values() for history in issue.histories]
        histories.sort(key=lambda history: history.at)
        for number, history in enumerate(histories, 100_001):
            history.id = number
        self._next_history_id = 100_001 + len(histories)


def expect(issue: Issue, deployment: Deployment, *, has_field_ids: bool) -> ExpectedIssue:
    """What a complete sync must know of an issue."""

    def account(person: Person | None) -> str | None:
        return person.external_id(deployment) if person else None

    epic = issue.parent if issue.parent is not None and issue.parent.type is EPIC else None
    return ExpectedIssue(
        issue_id=str(issue.id),
        key=issue.key,
        project_key=issue.project.key,
        issue_type=issue.type.name,
        summary=issue.summary,
        description=issue.description,
        status_id=issue.status.id,
        status=issue.status.name,
        status_category=issue.status.category,
        status_category_changed_at=issue.category_changed_at,
        priority=issue.priority.name,
        severity=issue.severity.name if issue.severity else None,
        resolution=issue.resolution.name if issue.resolution else None,
        labels=tuple(issue.labels),
        components=tuple(one.name for one in issue.components),
        fix_versions=tuple(one.name for one in issue.fix_versions),
        assignee_id=account(issue.assignee),
        reporter_id=account(issue.reporter),
        creator_id=account(issue.creator),
        parent_key=issue.parent.key if issue.parent else None,
        epic_key=epic.key if epic else None,
        sprint_ids=tuple(str(one.id) for one in issue.sprints),
        story_points=issue.story_points,
        original_estimate_seconds=issue.estimate_seconds,
        time_spent_seconds=issue.spent_seconds,
        subtasks=tuple(one.key for one in issue.sub_tasks),
        linked_issues=tuple((way, other.key) for way, other in issue.links),
        comments_count=len(issue.comments),
        worklogs_count=len(issue.worklogs),
        first_response_at=next(
            (
                comment.at
                for comment in issue.comments
                if comment.author is not None
                and comment.author is not issue.reporter
                and not (comment.author.is_app and deployment == "cloud")
            ),
            None,
        ),
        created_at=issue.created_at,
        updated_at=issue.updated_at,
        resolved_at=issue.resolved_at,
        due_on=issue.due_on,
        changes=tuple(
            ExpectedChange(
                change_id=str(history.id),
                item_index=position,
                author_id=account(history.author),
                field_id=item.field_id if has_field_ids else None,
                field_name=item.field,
                from_value=item.from_id,
                from_text=item.from_text,
                to_value=item.to_id,
                to_text=item.to_text,
                changed_at=history.at,
            )
            for history in sorted(issue.histories, key=lambda one: (one.at, one.id))
            for position, item in enumerate(history.items)
        ),
    )


# --- a believable past ------------------------------------------------------------------------------------------------

_WHERE = (
    "the basket", "the invoice page", "the search results", "checkout", "the order e-mail", "the login form", "the app",
    "the export", "the price filter", "the address book", "the nightly import", "the audit trail",
)  # fmt: skip
_BUGS = (
    "Wrong total in",
    "Crash in",
    "Slow response of",
    "Missing translation in",
    "Duplicate rows in",
    "Broken layout of",
)
_STORIES = (
    "Show delivery dates in",
    "Let guests use",
    "Remember filters in",
    "Support Apple Pay in",
    "Explain errors of",
)
_TASKS = ("Upgrade the library behind", "Write a runbook for", "Clean up logging of", "Measure", "Move the tests of")
_SENTENCES = (
    "It happens on every second try, also in the latest build.",
    "We saw this first after the release of last Thursday, and three customers have called about it since.",
    "Steps: open the page, wait for the spinner to stop, press the button twice.",
    "Expected: one entry. Actual: two entries, the second without a price.",
    "The logs say {code:java}NullPointerException at Basket.total(Basket.java:42){code} and nothing else.",
    "It does not happen with an empty cache, so whoever looks into this should not clear it.",
    "Für Kunden aus der Schweiz ist der Betrag außerdem falsch gerundet.",
    "See the screenshots; the second was taken on a phone.",
)
_COMMENTS = (
    "I can reproduce this on staging.", "Fixed on the branch, please test.", "Still happens for me: see above.",
    "Waiting for the answer of the customer.", "Tested on the build of tonight, works.", "谢谢 已经确认",
    "Moving to the next sprint.",
)  # fmt: skip
_LABELS = ("regression", "customer", "quick-win", "needs-info", "a11y", "performance", "payments", "q3")
_POINTS = (0.5, 1, 2, 3, 5, 8, 13)

_TRAIT_PERIOD = 50
"""Every so many issues each of the special cases below comes once; the others are ordinary."""

_TRAITS: Final = {
    0: "epic", 1: "reopened", 2: "reopened_twice", 3: "moved", 4: "task_to_bug", 5: "bug_to_task",
    6: "severity_changes", 7: "remote_links", 8: "no_authors", 9: "same_field_twice", 10: "unicode", 11: "long_title",
    12: "forgotten", 13: "nobody", 15: "sub_task", 16: "flagged", 17: "linked", 19: "done_and_back_at_once",
    20: "very_long_history", 21: "still_reopened", 22: "wont_fix", 23: "untouched", 24: "overdue",
    25: "resolved_at_creation", 26: "many_comments", 30: "long_history", 32: "empty_description",
}  # fmt: skip


def make_past(world: World, *, issues: int, projects: int, now: datetime, changes_per_issue: float) -> None:
    """Fill a world with two years of issues, dealt out to the projects in turn."""
    _make_people(world)
    homes = [_make_project(number, now) for number in range(projects)]
    world.projects = {project.key: project for project in homes}
    world.boards = [
        Board(id=number + 1 if kind == "scrum" else 500 + number, name=f"{home.key} {kind}", kind=kind, project=home)
        for number, home in enumerate(homes)
        for kind in ("scrum", "kanban")
    ]
    retired = _make_project(len(_PROJECTS) * 100 + 1, now)
    retired.key, retired.name = "OLD", "Retired"
    owed = 0.0
    for position, at in enumerate(working_times(now, issues, dice(world.seed, "created"))):
        life = _Life(world, homes[position % projects], position, milliseconds(at), now, retired)
        owed += changes_per_issue
        owed -= life.live(owed)
    _migrate_workflow(world, now)
    world.end_past()


def _make_people(world: World) -> None:
    robots = [
        Person(number=1, username="sim", name="Sync Service"),
        Person(number=2, username="automation", name="Automation for Jira", is_app=True),
        Person(number=3, username="gone", name="Former user", is_active=False, is_forgotten=True),
        Person(number=4, username="admin", name="Jira Admin"),
    ]
    world.humans = [
        Person(number=10 + n, username=username, name=name, is_active=n % 11 != 10)
        for n, (username, name, _) in enumerate(HUMANS)
    ]
    world.people = {person.number: person for person in (*robots, *world.humans)}


def _make_project(number: int, now: datetime) -> Project:
    round_number, which = divmod(number, len(_PROJECTS))
    key, name = _PROJECTS[which]
    if round_number:
        key, name = f"{key}{round_number + 1}", f"{name} {round_number + 1}"
    first_id = _OWN_WORKFLOW_FROM_ID + number * 10
    statuses = {
        word: Named(id=str(first_id + n if number % 2 else shared_id), name=label, category=category)
        for n, (word, (label, category, shared_id)) in enumerate(_STATUSES.items())
    }
    project = Project(id=10_000 + number, key=key, name=name, statuses=statuses, is_team_managed=number % 2 == 1)
    project.components = [
        Named(id=str(11_000 + number * 10 + n), name=label) for n, label in enumerate(("api", "web", "database", "ops"))
    ]
    project.versions = [Named(id=str(12_000 + number * 100 + n), name=f"1.{n}.0") for n in range(24)]
    start = (now - timedelta(days=735)).replace(hour=9, minute=0, second=0, microsecond=0)
    for n in range(54):
        starts_at = start + timedelta(days=14 * n)
        # Names may hold what naive parsing of the old sprint strings trips over.
        label = f"{key} Sprint {n + 1}" + (", part [2]" if n % 9 == 8 else "")
        ends_at = starts_at + timedelta(days=14)
        project.sprints.append(
            Sprint(id=number * 100 + n + 1, board_id=number + 1, name=label, starts_at=starts_at, ends_at=ends_at)
        )
    return project


def _migrate_workflow(world: World, now: datetime) -> None:
    """An administrator renames the end of old work: many change at the same instant, long after they were resolved."""
    at = now - timedelta(days=120)
    admin = world.people[4]
    for issue in list(world.issues.values())[::9]:
        if issue.status is issue.project.statuses["done"] and issue.updated_at < at - timedelta(days=30):
            world.transition(issue, issue.project.statuses["closed"], at, by=admin)


class _Life:
    """The life of one generated issue: what happens when, done in order by the world's rules."""

    def __init__(
        self, world: World, project: Project, position: int, created_at: datetime, now: datetime, retired: Project
    ) -> None:
        self.world = world
        self.project = project
        self.position = position
        self.trait = _TRAITS.get(position % _TRAIT_PERIOD, "")
        self.rng = rng = dice(world.seed, "issue", position)
        self.created_at = created_at
        self.now = now
        self.steps: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self.reporter = rng.choice(world.humans)
        self.worker = rng.choice(world.humans[: rng.choice((6, 12, 24))])
        self.ends_at = created_at + timedelta(hours=rng.lognormvariate(4.6, 1.2))
        if self.trait and self.ends_at > now - timedelta(minutes=5):
            # A special case is to be seen to its end even if it began last.
            self.ends_at = created_at + (now - created_at) * 0.8
        self.issue = self._create(retired)

    def _create(self, retired: Project) -> Issue:
        world, rng = self.world, self.rng
        kind, parent = self._kind()
        severity = rng.choices(list(SEVERITIES.values()), (8, 27, 45, 20))[0] if kind is BUG else None
        issue = world.create(
            retired if self.trait == "moved" else self.project,
            kind,
            self._summary(kind),
            self.created_at,
            by=None if self.trait == "nobody" else self.reporter,
            description=None if self.trait == "empty_description" else self._description(),
            parent=parent,
            priority=rng.choices(list(PRIORITIES.values()), (5, 20, 50, 18, 7))[0],
            severity=severity,
        )
        if rng.random() < 0.4:
            issue.labels = rng.sample(_LABELS, rng.randrange(1, 4))
        if rng.random() < 0.6:
            issue.components = rng.sample(issue.project.components, rng.randrange(1, 3))
        return issue

    def _kind(self) -> tuple[IssueType, Issue | None]:
        if self.trait == "epic":
            return EPIC, None
        siblings = self.world.issues
        near = siblings.get(10_001 + self.position // _TRAIT_PERIOD * _TRAIT_PERIOD)
        epic = near if near is not None and near.project is self.project and near.type is EPIC else None
        if self.trait == "sub_task":
            candidates = (siblings.get(10_001 + self.position - back) for back in range(1, 15))
            parent = next(
                (one for one in candidates if one and one.project is self.project and one.type not in (EPIC, SUB_TASK)),
                None,
            )
            return (SUB_TASK, parent) if parent is not None else (TASK, epic)
        kinds = {"task_to_bug": TASK, "bug_to_task": BUG, "severity_changes": BUG, "reopened": BUG, "wont_fix": BUG}
        kind = kinds.get(self.trait) or self.rng.choices((BUG, STORY, TASK), (45, 30, 25))[0]
        return kind, epic if self.rng.random() < 0.7 else None

    def _summary(self, kind: IssueType) -> str:
        words = {BUG.id: _BUGS, STORY.id: _STORIES, EPIC.id: ("A better way through", "The year of")}.get(
            kind.id, _TASKS
        )
        summary = f"{self.rng.choice(words)} {self.rng.choice(_WHERE)}"
        if self.trait == "long_title":
            return (f"{summary}, but only when the moon is full and nobody watches, " * 5)[:255]
        if self.trait == "unicode":
            return f"💥 {summary}: “Größe”, 数量, כמות, \N{ZERO WIDTH SPACE}naïve café"
        return summary

    def _description(self) -> str:
        return "\n".join(self.rng.choices(_SENTENCES, k=self.rng.randrange(2, 9)))

    def live(self, owed: float) -> int:
        """Plan what happens, fill up with small changes, then let it happen up to now.

        Args:
            owed: how many histories would bring the average up to what was asked for.

        Returns:
            How many histories there are now.
        """
        if self.trait != "untouched":
            self._plan_work()
            self._plan_trait()
            self._plan_noise(owed)
        for at, _, happen in sorted(self.steps, key=itemgetter(0, 1)):
            if at <= self.now:
                happen(at)
        self.steps.clear()  # they hold this object, which holds them
        self._finish()
        return len(self.issue.histories)

    def _at(self, share: float, happen: Callable[[datetime], object]) -> None:
        self._then(self.created_at + (self.ends_at - self.created_at) * share, happen)

    def _then(self, at: datetime, happen: Callable[[datetime], object]) -> None:
        self.steps.append((at, len(self.steps), happen))

    def _change(
        self, share: float, change: Callable[[], Item | list[Item] | None], *, by: Person | None = None
    ) -> None:
        author = None if self.trait == "no_authors" else by or self.worker

        def happen(at: datetime) -> None:
            item = change()
            self.world.record(self.issue, author, at, *(item if isinstance(item, list) else [item]))

        self._at(share, happen)

    def _go(self, share: float, word: str, resolution: Named | None = None) -> None:
        author = None if self.trait == "no_authors" else self.worker
        world, issue = self.world, self.issue
        self._at(
            share,
            lambda at: world.transition(issue, issue.project.statuses[word], at, by=author, resolution=resolution),
        )

    def _plan_work(self) -> None:
        world, issue, rng = self.world, self.issue, self.rng
        if self.trait == "wont_fix":
            self._go(1, "done", RESOLUTIONS["Won't Fix"])
            return
        if self.trait != "nobody":
            self._change(0.05, lambda: world.set_assignee(issue, self.worker), by=self.reporter)
        if issue.type is not EPIC:
            self._at(0.1, self._plan_into_sprint)
        if issue.type is STORY or rng.random() < 0.4:
            points = rng.choice(_POINTS)
            self._change(0.12, lambda: world.set_story_points(issue, points))
        if self.trait == "resolved_at_creation":
            self._go(0.0001, "done")
            return
        self._go(rng.uniform(0.2, 0.5), "doing")
        chance = rng.random()
        if not self.trait and chance < 0.06:
            return
        self._go(rng.uniform(0.6, 0.8), "review")
        if not self.trait and chance < 0.1:
            return
        version = rng.choice(self.project.versions)
        self._at(
            0.99,
            lambda at: world.record(
                issue, self.worker, at, *world.set_fix_versions(issue, [*issue.fix_versions, version])
            ),
        )
        resolution = rng.choices(
            (None, RESOLUTIONS["Won't Fix"], RESOLUTIONS["Duplicate"], RESOLUTIONS["Cannot Reproduce"]), (80, 7, 6, 7)
        )[0]
        self._go(1, "done", resolution)
        if issue.type is BUG and not self.trait and rng.random() < 0.09:
            self._plan_reopening(1)

    def _plan_into_sprint(self, at: datetime) -> None:
        issue = self.issue
        sprint = next((one for one in issue.project.sprints if one.starts_at <= at < one.ends_at), None)
        if sprint is not None:
            sprints = [*issue.sprints, sprint]
            if self.rng.random() < 0.2:
                # Not finished in time: it is carried over, and the list of sprints grows.
                sprints.append(next((one for one in issue.project.sprints if one.starts_at == sprint.ends_at), sprint))
            self.world.record(issue, self.worker, at, self.world.set_sprints(issue, sprints))

    def _plan_reopening(self, times: int, *, is_finished: bool = True) -> None:
        for turn in range(times):
            start = 1.05 + turn * 0.4
            self._go(start, "reopened")
            if not is_finished:
                return
            self._go(start + 0.1, "doing")
            self._go(start + 0.25, "done")

    def _plan_trait(self) -> None:
        plan = getattr(self, f"_plan_{self.trait}", None)
        if plan is not None:
            plan()
        for _ in range(min(6, int(self.rng.expovariate(0.8)))):
            person, body = self.rng.choice((self.worker, self.reporter)), self.rng.choice(_COMMENTS)
            self._at(self.rng.uniform(0.05, 1.1), partial(self.world.comment, self.issue, person, body))

    def _plan_reopened(self) -> None:
        self.ends_at = self.created_at + (self.ends_at - self.created_at) * 0.6
        self._plan_reopening(1)

    def _plan_reopened_twice(self) -> None:
        self.ends_at = self.created_at + (self.ends_at - self.created_at) * 0.4
        self._plan_reopening(2)

    def _plan_still_reopened(self) -> None:
        self._plan_reopening(1, is_finished=False)

    def _plan_moved(self) -> None:
        self._at(0.03, lambda at: self.world.move(self.issue, self.project, at, by=self.reporter))

    def _plan_task_to_bug(self) -> None:
        self._change(0.3, lambda: self.world.set_type(self.issue, BUG))
        self._change(0.31, lambda: self.world.set_severity(self.issue, SEVERITIES["S2 - Major"]))

    def _plan_bug_to_task(self) -> None:
        self._change(0.3, lambda: self.world.set_type(self.issue, TASK))

    def _plan_severity_changes(self) -> None:
        for share, name in ((0.2, "S1 - Critical"), (0.4, "S3 - Minor"), (0.5, "S2 - Major")):
            self._change(share, partial(self.world.set_severity, self.issue, SEVERITIES[name]))

    def _plan_remote_links(self) -> None:
        for number in range(25):
            title = f"Commit {number} - fix totals"
            self._change(0.2 + number * 0.03, partial(self.world.remote_link, 22_000 + number, title))

    def _plan_same_field_twice(self) -> None:
        versions = self.issue.project.versions
        self._change(0.3, lambda: self.world.set_fix_versions(self.issue, [versions[3]]))
        self._change(0.4, lambda: self.world.set_fix_versions(self.issue, [versions[4]]))

    def _plan_forgotten(self) -> None:
        gone = self.world.people[3]
        self.issue.reporter = self.issue.creator = gone
        self._change(0.15, lambda: self.world.set_assignee(self.issue, gone))

    def _plan_flagged(self) -> None:
        self._change(0.4, lambda: self.world.set_flag(self.issue, is_flagged=True))
        self._change(0.6, lambda: self.world.set_flag(self.issue, is_flagged=False))

    def _plan_linked(self) -> None:
        other = self.world.issues.get(self.issue.id - 1)
        if other is not None:
            self._at(0.5, lambda at: self.world.link(self.issue, other, max(at, other.updated_at), by=self.worker))

    def _plan_done_and_back_at_once(self) -> None:
        statuses = self.issue.project.statuses
        for after_seconds, word in ((11, "reopened"), (40, "doing"), (90, "done")):
            at = self.ends_at + timedelta(seconds=after_seconds)
            self._then(at, partial(self.world.transition, self.issue, statuses[word], by=self.worker))

    def _plan_overdue(self) -> None:
        due_on = (self.created_at + (self.ends_at - self.created_at) * 0.5).date()
        self._change(0.1, lambda: self.world.set_due(self.issue, due_on))

    def _plan_many_comments(self) -> None:
        for number in range(25):
            body = f"Comment {number + 1} of many."
            self._at(0.1 + number * 0.03, partial(self.world.comment, self.issue, self.reporter, body))

    def _plan_noise(self, owed: float) -> None:
        planned = len(self.steps)
        wanted = {"very_long_history": 120.0, "long_history": 50.0}.get(self.trait, 0.0)
        if not wanted and owed > planned:
            wanted = self.rng.gammavariate(2, (owed - planned) / 2)
        for _ in range(round(wanted)):
            self._change(self.rng.uniform(0.02, 1.2), self._noise, by=self.rng.choice((self.worker, self.reporter)))

    def _noise(self) -> Item | list[Item] | None:
        world, issue, rng = self.world, self.issue, self.rng
        chance = rng.random()
        if chance < 0.3:
            return world.remote_link(
                rng.randrange(20_000, 90_000), f"Commit - {rng.choice(_TASKS)} {rng.choice(_WHERE)}"
            )
        if chance < 0.45:
            return world.rank()
        if chance < 0.55:
            return world.set_description(issue, self._description())
        if chance < 0.65:
            return world.set_priority(
                issue, rng.choice([one for one in PRIORITIES.values() if one is not issue.priority])
            )
        if chance < 0.8:
            label = rng.choice(_LABELS)
            return world.set_labels(
                issue, [one for one in issue.labels if one != label] + [label] * (label not in issue.labels)
            )
        if chance < 0.9:
            return world.set_estimate(issue, rng.randrange(1, 80) * 900)
        return world.set_summary(issue, f"{issue.summary.removesuffix(' (again)')[:240]} (again)")

    def _log_what_was_spent(self, seconds: int) -> None:
        count = min(seconds // 900, 1 + self.issue.id % 29)
        for number in range(count):
            part = seconds - (count - 1) * 900 if number == 0 else 900
            at = self.created_at + (self.ends_at - self.created_at) * (number + 1) / (count + 1)
            self.world.add_worklog(self.issue, self.worker, part, at)

    def _finish(self) -> None:
        if self.issue.resolution is not None and self.rng.random() < 0.4:
            self.issue.spent_seconds = self.rng.randrange(1, 60) * 900
            self._log_what_was_spent(self.issue.spent_seconds)
        if self.trait == "forgotten" or not self.issue.histories:
            return
        if self.rng.random() < 0.03:
            # Automation wrote this one, and the account is not shown.
            self.rng.choice(self.issue.histories).author = None
