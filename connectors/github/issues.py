"""An issue of GitHub to a record: labels that make it a bug or grade it, and its events as a history.

What belongs here: the meaning of an issue and its events. What does not: what it shares with pull requests (shapes.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.base import ParseContext
from connectors.decoding import Time, decoded
from connectors.github.shapes import Event, Label, Milestone, People, Repository, User, check_state
from models.records import Account, Batch, Issue, IssueChange


class _IssueType(msgspec.Struct, gc=False):
    name: str | None = None


class _Issue(msgspec.Struct, gc=False):
    id: int
    number: int
    state: str
    created_at: Time
    updated_at: Time
    title: str | None = None
    body: str | None = None
    state_reason: str | None = None
    user: User | None = None
    assignees: list[User] | None = None
    labels: list[Label | str] | None = None
    milestone: Milestone | None = None
    type: _IssueType | None = None
    comments: int | None = None
    closed_at: Time | None = None


class _IssuePayload(msgspec.Struct, gc=False):
    repository: Repository
    issue: _Issue
    events: list[Event] | None = None


_ISSUE = msgspec.json.Decoder(_IssuePayload)


_GRADE = re.compile(r"^(severity|sev|priority|prio)\s*[:/=-]\s*(.+)$", re.IGNORECASE)
_SHORT_GRADE = re.compile(r"^(sev|s|p)-?([0-5])$", re.IGNORECASE)
_STATE_NAMES = {"open": "Open", "closed": "Closed"}


def parse_issue(payload: bytes, context: ParseContext) -> Batch:
    """One payload to an issue with its history, and its accounts; see `parse`."""
    source = decoded(payload, _ISSUE)
    shown, repository = source.issue, source.repository
    check_state("issue.state", shown.state)
    people = People(context.options)
    labels = tuple(name for label in shown.labels or () if (name := label if isinstance(label, str) else label.name))
    assignees = [people.account(user) for user in shown.assignees or ()]
    reporter = people.account(shown.user)
    bug_labels = _bug_labels(context.options)
    changes = tuple(_changes(source, people, bug_labels))
    native = shown.type.name if shown.type else None
    record = Issue(
        issue_id=f"{repository.id}#{shown.number}",
        key=f"{repository.full_name}#{shown.number}",
        project_key=repository.key,
        issue_type=native or ("Bug" if any(_is_bug_label(name, bug_labels) for name in labels) else "Issue"),
        summary=shown.title or "",
        description=shown.body,
        status_id=shown.state,
        status=_STATE_NAMES[shown.state],
        status_category="done" if shown.state == "closed" else "new",
        status_category_changed_at=max(
            (change.changed_at for change in changes if change.field == "status"), default=shown.created_at
        ),
        priority=_grade(labels, ("priority", "prio", "p")),
        severity=_grade(labels, ("severity", "sev", "s")),
        resolution=(shown.state_reason or "completed") if shown.state == "closed" else None,
        labels=labels,
        components=(),
        fix_versions=(shown.milestone.title,) if shown.milestone and shown.milestone.title else (),
        assignee=next(iter(assignees), None),
        reporter=reporter,
        creator=reporter,
        parent_key=None,
        epic_key=None,
        epic_name=None,
        sprint_id=None,
        sprint=None,
        sprint_state=None,
        sprint_start_at=None,
        sprint_end_at=None,
        sprint_complete_at=None,
        story_points=None,
        original_estimate_seconds=None,
        time_spent_seconds=None,
        subtasks=(),
        linked_issues=(),
        comments_count=shown.comments or 0,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        resolved_at=shown.closed_at if shown.state == "closed" else None,
        due_on=None,
        changes=changes,
    )
    return Batch(issues=(record,), accounts=people.all())


def _bug_labels(options: Mapping[str, Any]) -> frozenset[str] | None:
    names = options.get("bug_labels")
    if not names:
        return None
    listed = names.split(",") if isinstance(names, str) else names
    return frozenset(str(name).strip().lower() for name in listed)


def _is_bug_label(name: str, bug_labels: frozenset[str] | None) -> bool:
    if bug_labels is not None:
        return name.lower() in bug_labels
    return re.split(r"[:/]", name.lower())[-1].strip() in ("bug", "defect")


def _grade(labels: Iterable[str], words: tuple[str, ...]) -> str | None:
    """What labels such as `severity: high` or `P1` say."""
    for label in labels:
        long, short = _GRADE.match(label), _SHORT_GRADE.match(label)
        if short and short[1].lower() in words:
            return label
        if long and not short and long[1].lower() in words:
            return long[2].strip()
    return None


def _changes(source: _IssuePayload, people: People, bug_labels: frozenset[str] | None) -> Iterator[IssueChange]:
    """One change for each thing that an event says, oldest first."""
    events = {event.id: event for event in source.events or () if event.id and event.created_at}.values()
    bugs: set[str] = set()
    is_typed = source.issue.type is not None
    resolution: str | None = None
    for event in sorted(
        events, key=lambda event: (event.created_at or datetime.max.replace(tzinfo=UTC), event.id or 0)
    ):
        items: list[tuple[str, str | None, str | None]] = []
        label = event.label.name if event.label else None
        if event.event in ("closed", "reopened"):
            reason = (event.state_reason or "completed") if event.event == "closed" else None
            states = ("open", "closed") if event.event == "closed" else ("closed", "open")
            items = [("status", *states), ("resolution", resolution, reason)]
            resolution = reason
        elif event.event in ("labeled", "unlabeled") and label:
            had_bugs = bool(bugs)
            items = [("labels", None, label) if event.event == "labeled" else ("labels", label, None)]
            if _is_bug_label(label, bug_labels) and not is_typed:
                (bugs.add if event.event == "labeled" else bugs.discard)(label)
                if bool(bugs) != had_bugs:
                    items.append(("issuetype", *(("Bug", "Issue") if had_bugs else ("Issue", "Bug"))))
        elif event.event == "renamed" and event.rename:
            items = [("summary", event.rename.before, event.rename.after)]
        elif event.event in ("assigned", "unassigned") and event.assignee:
            name = event.assignee.login
            items = [("assignee", None, name) if event.event == "assigned" else ("assignee", name, None)]
        elif event.event in ("milestoned", "demilestoned") and event.milestone:
            title = event.milestone.title
            items = [("fixVersions", None, title) if event.event == "milestoned" else ("fixVersions", title, None)]
        yield from (_change(event, index, item, people.account(event.actor)) for index, item in enumerate(items))


def _change(event: Event, index: int, item: tuple[str, str | None, str | None], author: Account | None) -> IssueChange:
    field, before, after = item
    is_status = field == "status"
    return IssueChange(
        change_id=str(event.id),
        item_index=index,
        author_id=author.external_id if author else None,
        author_name=author.username if author else None,
        field=field,
        field_name=field,
        from_value=before if is_status else None,
        from_text=_STATE_NAMES[before] if is_status and before else before,
        to_value=after if is_status else None,
        to_text=_STATE_NAMES[after] if is_status and after else after,
        changed_at=event.created_at or datetime.min.replace(tzinfo=UTC),
    )
