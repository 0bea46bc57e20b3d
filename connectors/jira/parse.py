"""Jira's issues into records, and the one way into all of Jira's parsing. Pure: no request, no clock.

What belongs here: what the members of an issue are called and mean, and what is made of those that are missing, odd or
damaged. What does not: how the JSON was fetched and completed (client.py), what a status or a severity counts as
(models), and histories, sprints, people, fields and dictionaries, which have modules of their own.

An issue is staged in one shape, whatever the deployment:
`{"id", "key", "fields": {…}, "changelog": {"startAt": 0, "maxResults": N, "total": N, "histories": […]}}`.

A member that only decorates (a label, a sprint, an assignee) and is not of the type that Jira documents is left out;
one that the measures stand on (ids, times, status, type, project, history) makes the record a `BadRecordError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, cast

import msgspec

from connectors.base import ParseContext
from connectors.jira.conversations import Comments, Worklogs, conversation_of, worklogs_of
from connectors.jira.dictionaries import (
    CATEGORIES,
    board_of,
    priority_of,
    sprint_of,
    status_of,
    version_of,
)
from connectors.jira.fields import ISSUE_ROLES, field_ids_of, field_of
from connectors.jira.histories import History, changes_of, stringify_items
from connectors.jira.payloads import (
    Shape,
    complaint,
    flattened,
    mended_json,
    object_of,
    refuse,
    time_or_none,
    utc,
    utc_or_none,
)
from connectors.jira.people import Accounts, User
from connectors.jira.sprints import Sprint, current_sprint
from models.errors import UsageError
from models.records import Batch, Issue

SYSTEM_FIELDS = (
    "summary",
    "description",
    "issuetype",
    "project",
    "status",
    "statuscategorychangedate",
    "priority",
    "resolution",
    "resolutiondate",
    "labels",
    "components",
    "fixVersions",
    "assignee",
    "reporter",
    "creator",
    "parent",
    "subtasks",
    "issuelinks",
    "timeoriginalestimate",
    "timespent",
    "comment",
    "worklog",
    "created",
    "updated",
    "duedate",
)
"""The fields of Jira's own that `parse` reads, and so the ones that the client asks for."""


class _Named(Shape):
    name: str | None = None


class _Keyed(Shape):
    key: str


class _Category(Shape):
    key: str | None = None


class _Status(Shape, kw_only=True):
    id: str | int | None = None
    name: str
    statusCategory: _Category | None = None  # noqa: N815 - Jira's spelling, here and below


class _IssueType(Shape):
    name: str
    hierarchyLevel: int | None = None  # noqa: N815


class _ParentFields(Shape):
    summary: str | None = None
    issuetype: _IssueType | None = None


class _Parent(Shape):
    key: str
    fields: _ParentFields | None = None


class _Link(Shape):
    type: _Named | None = None
    inwardIssue: _Keyed | None = None  # noqa: N815
    outwardIssue: _Keyed | None = None  # noqa: N815


class _Fields(Shape, kw_only=True):
    summary: str | None = None
    description: str | dict[str, Any] | None = None
    issuetype: _IssueType
    project: _Keyed
    status: _Status
    statuscategorychangedate: datetime | None = None
    priority: _Named | None = None
    resolution: _Named | None = None
    resolutiondate: datetime | None = None
    labels: list[str] | None = None
    components: list[_Named] | None = None
    fixVersions: list[_Named] | None = None  # noqa: N815
    assignee: User | None = None
    reporter: User | None = None
    creator: User | None = None
    parent: _Parent | None = None
    subtasks: list[_Keyed] | None = None
    issuelinks: list[_Link] | None = None
    timeoriginalestimate: int | None = None
    timespent: int | None = None
    comment: Comments | None = None
    worklog: Worklogs | None = None
    created: datetime
    updated: datetime
    duedate: date | None = None
    # The custom fields, by role; `_shape_for` gives them the names that they have at this instance.
    sprint: list[Sprint | str] | None = None
    epic_link: str | None = None
    epic_name: str | None = None
    story_points: float | None = None
    story_point_estimate: float | None = None
    severity: Any = None


_ESSENTIAL = frozenset({"issuetype", "project", "status", "resolutiondate", "created", "updated"})


class _Changelog(Shape, kw_only=True):
    total: int | None = None
    histories: list[History]


class _Issue(Shape):
    id: str | int
    key: str
    fields: _Fields
    changelog: _Changelog


class _Reader(msgspec.Struct, frozen=True):
    """How the issues of one instance are read: its custom fields have names of their own."""

    decoder: msgspec.json.Decoder[_Issue]
    shape: type[_Issue]
    fields_shape: type[_Fields]
    field_ids: Mapping[str, str]
    severity_is_priority: bool


# --- entry ------------------------------------------------------------------------------------------------------------


def parse(stream: str, payload: bytes, context: ParseContext) -> Batch:
    """Turn one staged payload into records.

    Args:
        stream: issues, or one of the dictionaries.
        payload: one object as it was staged.
        context: which custom field has which role, and the options of the connection.

    Returns:
        One issue with every account seen in it, or one entry of a dictionary.

    Raises:
        BadRecordError: the payload cannot be understood; the message says which member and why.
    """
    if stream == "issues":
        return _issue_batch(payload, context)
    if stream == "fields":
        return Batch(fields=(field_of(object_of(payload), context),))
    if stream == "statuses":
        return Batch(statuses=(status_of(object_of(payload)),))
    if stream == "priorities":
        return Batch(priorities=(priority_of(object_of(payload)),))
    if stream == "versions":
        return Batch(versions=(version_of(object_of(payload)),))
    if stream == "boards":
        return Batch(boards=(board_of(object_of(payload)),))
    if stream in ("sprints", "closed_sprints"):
        return Batch(sprints=(sprint_of(object_of(payload)),))
    raise UsageError(f"Jira has no stream {stream!r}.")


def _issue_batch(payload: bytes, context: ParseContext) -> Batch:
    reader = _reader(tuple(sorted(field_ids_of(context.field_ids, context.options).items())))
    raw = _decoded(payload, reader)
    fields, changelog = raw.fields, raw.changelog
    if changelog.total is not None and changelog.total > len(changelog.histories):
        refuse("changelog", f"holds {len(changelog.histories)} of {changelog.total} histories")
    accounts = Accounts(context.options)
    assignee, reporter, creator = (accounts.of(user) for user in (fields.assignee, fields.reporter, fields.creator))
    conversation = conversation_of(fields.comment, reporter, accounts)
    worklogs, worklogs_count = worklogs_of(fields.worklog, accounts)
    epic = fields.parent if fields.parent is not None and _is_epic(fields.parent) else None
    sprint = current_sprint(fields.sprint)
    status = fields.status
    category = status.statusCategory.key if status.statusCategory is not None else None
    priority = _name_of(fields.priority)
    issue = Issue(
        issue_id=str(raw.id),
        key=raw.key,
        project_key=fields.project.key,
        issue_type=fields.issuetype.name,
        summary=fields.summary or "",
        description=flattened(fields.description) if isinstance(fields.description, dict) else fields.description,
        status_id=None if status.id is None else str(status.id),
        status=status.name,
        status_category=category if category in CATEGORIES else None,
        status_category_changed_at=utc_or_none(fields.statuscategorychangedate),
        priority=priority,
        severity=priority if reader.severity_is_priority else _option_text(fields.severity),
        resolution=_name_of(fields.resolution),
        labels=tuple(fields.labels or ()),
        components=_names(fields.components),
        fix_versions=_names(fields.fixVersions),
        assignee=assignee,
        reporter=reporter,
        creator=creator,
        # Cloud shows an epic as the parent of its issues; Data Center knows it by the link only.
        parent_key=fields.parent.key if fields.parent is not None else fields.epic_link or None,
        epic_key=epic.key if epic is not None else fields.epic_link or None,
        epic_name=(epic.fields.summary if epic is not None and epic.fields is not None else None) or fields.epic_name,
        sprint_id=None if sprint is None or sprint.id is None else str(sprint.id),
        sprint=sprint.name if sprint is not None else None,
        sprint_state=sprint.state.lower() if sprint is not None and sprint.state else None,
        sprint_start_at=time_or_none(sprint.startDate) if sprint is not None else None,
        sprint_end_at=time_or_none(sprint.endDate) if sprint is not None else None,
        sprint_complete_at=time_or_none(sprint.completeDate) if sprint is not None else None,
        # Projects managed by their team estimate in a field of their own; an issue has one or the other.
        story_points=fields.story_points if fields.story_points is not None else fields.story_point_estimate,
        original_estimate_seconds=fields.timeoriginalestimate,
        time_spent_seconds=fields.timespent,
        subtasks=tuple([subtask.key for subtask in fields.subtasks or ()]),
        linked_issues=_links(fields.issuelinks),
        comments_count=conversation.count,
        comments=conversation.comments,
        first_response_at=conversation.first_response_at,
        worklogs_count=worklogs_count,
        worklogs=worklogs,
        created_at=utc(fields.created),
        updated_at=utc(fields.updated),
        resolved_at=utc_or_none(fields.resolutiondate),
        due_on=fields.duedate,
        changes=changes_of(changelog.histories, reader.field_ids, context.field_names, accounts),
    )
    return Batch(issues=(issue,), accounts=accounts.all())


def _decoded(payload: bytes, reader: _Reader) -> _Issue:
    if b"\\u0000" in payload:  # a database takes no NUL
        payload = mended_json(payload)
    try:
        return reader.decoder.decode(payload)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors; so is UnicodeDecodeError
        tree = object_of(payload)
    fields = tree.get("fields")
    if isinstance(fields, dict):
        _leave_out_misfits(fields, reader.fields_shape)
    stringify_items(tree.get("changelog"))
    try:
        return msgspec.convert(tree, reader.shape)
    except msgspec.ValidationError as error:
        refuse(*complaint(error))


@lru_cache(maxsize=64)
def _reader(roles: tuple[tuple[str, str], ...]) -> _Reader:
    """How issues are read where the custom fields have these ids; msgspec compiles a decoder for each instance."""
    field_ids = dict(roles)
    # A role may be given to a field of Jira's own, which can have only one place in the shape.
    names = {role: field_ids.get(role, "") for role in ISSUE_ROLES}
    taken = set(SYSTEM_FIELDS)
    for role, name in names.items():
        names[role] = name if name and name not in taken else f"no field is {role}"
        taken.add(name)
    types = {info.name: info.type for info in msgspec.structs.fields(_Fields)}
    fields_shape = msgspec.defstruct(
        "_FieldsHere",
        [(role, types[role], None) for role in names],
        bases=(_Fields,),
        rename=names,
        gc=False,
        kw_only=True,
    )
    shape = msgspec.defstruct("_IssueHere", [("fields", fields_shape)], bases=(_Issue,), gc=False, kw_only=True)
    return _Reader(
        decoder=msgspec.json.Decoder(shape),
        shape=cast("type[_Issue]", shape),
        fields_shape=cast("type[_Fields]", fields_shape),
        field_ids=field_ids,
        severity_is_priority=field_ids.get("severity") == "priority",
    )


def _leave_out_misfits(fields: dict[str, Any], shape: type[_Fields]) -> None:
    """Drop the decorating members that are not of the documented type; of a list, only the elements that are not."""
    for info in msgspec.structs.fields(shape):
        name = info.encode_name
        if name not in fields or name in _ESSENTIAL or _fits(fields[name], info.type):
            continue
        value = fields.pop(name)
        if isinstance(value, list):
            kept = [element for element in value if _fits([element], info.type)]
            if _fits(kept, info.type):
                fields[name] = kept


def _fits(value: Any, expected: Any) -> bool:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError:
        return False
    return True


def _is_epic(parent: _Parent) -> bool:
    kind = parent.fields.issuetype if parent.fields is not None else None
    if kind is None:
        return False
    return kind.hierarchyLevel == 1 if kind.hierarchyLevel is not None else kind.name.lower() == "epic"


def _links(links: list[_Link] | None) -> tuple[Mapping[str, str], ...]:
    return tuple(
        {"type": _name_of(link.type) or "", "direction": direction, "key": other.key}
        for link in links or ()
        for direction, other in (("inward", link.inwardIssue), ("outward", link.outwardIssue))
        if other is not None
    )


def _name_of(named: _Named | None) -> str | None:
    return named.name if named is not None else None


def _names(named: list[_Named] | None) -> tuple[str, ...]:
    return tuple([one.name for one in named if one.name]) if named else ()


def _option_text(value: Any) -> str | None:
    """The text of a select list, whichever kind: `{"value"}`, `{"name"}`, a list of them, or the bare text."""
    if isinstance(value, list):
        return next((text for text in map(_option_text, value) if text), None)
    if isinstance(value, dict):
        return _option_text(value.get("value") or value.get("name"))
    if isinstance(value, bool | None):
        return None
    return str(value) or None
