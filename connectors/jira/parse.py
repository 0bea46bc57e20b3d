"""Jira's JSON into records: issues with their whole history, fields, statuses. Pure: no request, no clock.

What belongs here: what Jira's members are called and mean, and what is made of those that are missing, odd or damaged.
What does not: how the JSON was fetched and completed (client.py), and what a status or a severity counts as (models).

An issue is staged in one shape, whatever the deployment:
`{"id", "key", "fields": {…}, "changelog": {"startAt": 0, "maxResults": N, "total": N, "histories": […]}}`.

A member that only decorates (a label, a sprint, an assignee) and is not of the type that Jira documents is left out;
one that the measures stand on (ids, times, status, type, project, history) makes the record a `BadRecordError`.

`IssueChange.field` is what the measures look for: the field's id where the history gives one (`fieldId`); histories of
old servers only give a name, of which `_SYSTEM_FIELD_IDS` and the roles of the custom fields make the id; a name that
neither knows stays as it is. So status, issuetype, project, priority, resolution, assignee, issuekey, fixVersions and
parent are spelled like this everywhere, and a custom field is `customfield_NNNNN`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NoReturn, cast

import msgspec

from connectors.base import ParseContext
from connectors.robots import robot_reason
from models.errors import BadRecordError, UsageError
from models.records import Account, Batch, Field, Issue, IssueChange, Status

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
    "created",
    "updated",
    "duedate",
)
"""The fields of Jira's own that `parse` reads, and so the ones that the client asks for."""

ISSUE_ROLES = frozenset({"sprint", "epic_link", "epic_name", "story_points", "story_point_estimate", "severity"})
"""The roles of custom fields that `parse` reads from an issue."""

_ROLES_BY_SCHEMA = {
    "com.pyxis.greenhopper.jira:gh-sprint": "sprint",
    "com.pyxis.greenhopper.jira:gh-epic-link": "epic_link",
    "com.pyxis.greenhopper.jira:gh-epic-label": "epic_name",
    "com.pyxis.greenhopper.jira:jsw-story-points": "story_point_estimate",
}
_ROLES_BY_NAME = {
    "sprint": "sprint",
    "epic link": "epic_link",
    "epic name": "epic_name",
    "story points": "story_points",
    "story point estimate": "story_point_estimate",
    "acceptance criteria": "acceptance_criteria",
}
_POINTS = frozenset({"story_points", "story_point_estimate"})
_SEVERITY_NAME = re.compile(r"(?:\w+ )?severity(?: level)?")
_SYSTEM_FIELD_IDS = {
    "issue type": "issuetype",
    "key": "issuekey",
    "component": "components",
    "fix version": "fixVersions",
    "version": "versions",
    "link": "issuelinks",
    "issueparentassociation": "parent",
    "worklogid": "worklog",
} | {
    name: name
    for name in (
        *("status", "issuetype", "project", "priority", "resolution", "assignee", "reporter", "summary", "description"),
        *("labels", "environment", "duedate", "parent", "attachment", "comment", "security"),
        *("timespent", "timeestimate", "timeoriginalestimate"),
    )
}
"""Names in histories, lower-cased, to field ids. These names are not translated, whatever language the site has."""

_CATEGORIES = frozenset({"new", "indeterminate", "done"})
_SPRINT_STATES = {"active": 2, "future": 1, "closed": 0}
_NO_ACCOUNTS = frozenset({"", "unknown"})
"""`unknown` is what Jira Cloud puts where an account's data is corrupted; it would make many people one."""


# --- what is read of an issue -----------------------------------------------------------------------------------------


class _Shape(msgspec.Struct, gc=False):
    """A part of a payload. What it does not name is skipped, which is most of a payload."""


class _Named(_Shape):
    name: str | None = None


class _Keyed(_Shape):
    key: str


class _Category(_Shape):
    key: str | None = None


class _Status(_Shape, kw_only=True):
    id: str | int | None = None
    name: str
    statusCategory: _Category | None = None  # noqa: N815 - Jira's spelling, here and below


class _IssueType(_Shape):
    name: str
    hierarchyLevel: int | None = None  # noqa: N815


class _User(_Shape):
    accountId: str | None = None  # noqa: N815
    key: str | None = None
    name: str | None = None
    displayName: str | None = None  # noqa: N815
    emailAddress: str | None = None  # noqa: N815
    accountType: str | None = None  # noqa: N815


class _ParentFields(_Shape):
    summary: str | None = None
    issuetype: _IssueType | None = None


class _Parent(_Shape):
    key: str
    fields: _ParentFields | None = None


class _Link(_Shape):
    type: _Named | None = None
    inwardIssue: _Keyed | None = None  # noqa: N815
    outwardIssue: _Keyed | None = None  # noqa: N815


class _Comments(_Shape):
    total: int | None = None


class _Sprint(_Shape):
    id: int | str | None = None
    name: str | None = None
    state: str | None = None
    startDate: str | None = None  # noqa: N815
    endDate: str | None = None  # noqa: N815
    completeDate: str | None = None  # noqa: N815


class _Fields(_Shape, kw_only=True):
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
    assignee: _User | None = None
    reporter: _User | None = None
    creator: _User | None = None
    parent: _Parent | None = None
    subtasks: list[_Keyed] | None = None
    issuelinks: list[_Link] | None = None
    timeoriginalestimate: int | None = None
    timespent: int | None = None
    comment: _Comments | None = None
    created: datetime
    updated: datetime
    duedate: date | None = None
    # The custom fields, by role; `_shape_for` gives them the names that they have at this instance.
    sprint: list[_Sprint | str] | None = None
    epic_link: str | None = None
    epic_name: str | None = None
    story_points: float | None = None
    story_point_estimate: float | None = None
    severity: Any = None


_ESSENTIAL = frozenset({"issuetype", "project", "status", "resolutiondate", "created", "updated"})


class _Item(_Shape, rename={"from_value": "from", "from_text": "fromString", "to_value": "to", "to_text": "toString"}):
    field: str
    fieldId: str | None = None  # noqa: N815
    fieldtype: str | None = None
    from_value: str | None = None
    from_text: str | None = None
    to_value: str | None = None
    to_text: str | None = None


class _History(_Shape, kw_only=True):
    id: str | int
    author: _User | None = None
    created: datetime | int | float
    items: list[_Item]


class _Changelog(_Shape, kw_only=True):
    total: int | None = None
    histories: list[_History]


class _Issue(_Shape):
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
        stream: fields, statuses or issues.
        payload: one object as it was staged.
        context: which custom field has which role, and the options of the connection.

    Returns:
        One issue with every account seen in it, or one field, or one status.

    Raises:
        BadRecordError: the payload cannot be understood; the message says which member and why.
    """
    if stream == "issues":
        return _issue_batch(payload, context)
    if stream == "fields":
        return Batch(fields=(_field(_object(payload), context),))
    if stream == "statuses":
        return Batch(statuses=(_status(_object(payload)),))
    raise UsageError(f"Jira has no stream {stream!r}.")


def mended_json(payload: bytes) -> bytes:
    """Make JSON decodable that real servers send all the same, and fit for a database.

    Halves of surrogate pairs and bytes that are not UTF-8 become U+FFFD, escaped NULs vanish, bare control characters
    become blanks.

    Args:
        payload: JSON, or nearly.
    """
    text = payload.decode(errors="replace").translate(_CONTROL_CHARACTERS)
    return _ESCAPE.sub(_mended_escape, text).encode()


def field_ids_of(context_ids: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, str]:
    """Role to field id, the operator's word (options `custom_fields` and `severity_field`) before what was guessed.

    Args:
        context_ids: role to id, as guessed from the names and types of the fields.
        options: of the connection or scope.
    """
    ids = dict(context_ids)
    chosen = options.get("custom_fields")
    if isinstance(chosen, Mapping):
        ids.update({str(role): str(field_id) for role, field_id in chosen.items()})
    if options.get("severity_field"):
        ids["severity"] = str(options["severity_field"])
    return ids


# --- issues -----------------------------------------------------------------------------------------------------------


def _issue_batch(payload: bytes, context: ParseContext) -> Batch:
    reader = _reader(tuple(sorted(field_ids_of(context.field_ids, context.options).items())))
    raw = _decoded(payload, reader)
    fields, changelog = raw.fields, raw.changelog
    if changelog.total is not None and changelog.total > len(changelog.histories):
        _refuse("changelog", f"holds {len(changelog.histories)} of {changelog.total} histories")
    accounts = _Accounts(context.options)
    epic = fields.parent if fields.parent is not None and _is_epic(fields.parent) else None
    sprint = _current_sprint(fields.sprint)
    status = fields.status
    category = status.statusCategory.key if status.statusCategory is not None else None
    priority = _name_of(fields.priority)
    issue = Issue(
        issue_id=str(raw.id),
        key=raw.key,
        project_key=fields.project.key,
        issue_type=fields.issuetype.name,
        summary=fields.summary or "",
        description=_flattened(fields.description) if isinstance(fields.description, dict) else fields.description,
        status_id=None if status.id is None else str(status.id),
        status=status.name,
        status_category=category if category in _CATEGORIES else None,
        status_category_changed_at=_utc_or_none(fields.statuscategorychangedate),
        priority=priority,
        severity=priority if reader.severity_is_priority else _option_text(fields.severity),
        resolution=_name_of(fields.resolution),
        labels=tuple(fields.labels or ()),
        components=_names(fields.components),
        fix_versions=_names(fields.fixVersions),
        assignee=accounts.of(fields.assignee),
        reporter=accounts.of(fields.reporter),
        creator=accounts.of(fields.creator),
        # Cloud shows an epic as the parent of its issues; Data Center knows it by the link only.
        parent_key=fields.parent.key if fields.parent is not None else fields.epic_link or None,
        epic_key=epic.key if epic is not None else fields.epic_link or None,
        epic_name=(epic.fields.summary if epic is not None and epic.fields is not None else None) or fields.epic_name,
        sprint_id=None if sprint is None or sprint.id is None else str(sprint.id),
        sprint=sprint.name if sprint is not None else None,
        sprint_state=sprint.state.lower() if sprint is not None and sprint.state else None,
        sprint_start_at=_sprint_time(sprint.startDate) if sprint is not None else None,
        sprint_end_at=_sprint_time(sprint.endDate) if sprint is not None else None,
        sprint_complete_at=_sprint_time(sprint.completeDate) if sprint is not None else None,
        # Projects managed by their team estimate in a field of their own; an issue has one or the other.
        story_points=fields.story_points if fields.story_points is not None else fields.story_point_estimate,
        original_estimate_seconds=fields.timeoriginalestimate,
        time_spent_seconds=fields.timespent,
        subtasks=tuple([subtask.key for subtask in fields.subtasks or ()]),
        linked_issues=_links(fields.issuelinks),
        comments_count=(fields.comment.total or 0) if fields.comment is not None else 0,
        created_at=_utc(fields.created),
        updated_at=_utc(fields.updated),
        resolved_at=_utc_or_none(fields.resolutiondate),
        due_on=fields.duedate,
        changes=_changes(changelog.histories, reader.field_ids, context.field_names, accounts),
    )
    return Batch(issues=(issue,), accounts=accounts.all())


def _decoded(payload: bytes, reader: _Reader) -> _Issue:
    if b"\\u0000" in payload:  # a database takes no NUL
        payload = mended_json(payload)
    try:
        return reader.decoder.decode(payload)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors; so is UnicodeDecodeError
        tree = _object(payload)
    fields = tree.get("fields")
    if isinstance(fields, dict):
        _leave_out_misfits(fields, reader.fields_shape)
    _stringify_items(tree.get("changelog"))
    try:
        return msgspec.convert(tree, reader.shape)
    except msgspec.ValidationError as error:
        _refuse(*_complaint(error))


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


def _stringify_items(changelog: Any) -> None:
    """Values in histories are text; where an app wrote a number or an object, its JSON stands in."""
    try:
        for history in changelog["histories"]:
            for item in history["items"]:
                for name in ("from", "fromString", "to", "toString"):
                    if not isinstance(item.get(name), str | None):
                        item[name] = msgspec.json.encode(item[name]).decode()
    except (TypeError, KeyError, AttributeError):
        return  # not a changelog; the typed decoding says where and why


def _changes(
    histories: list[_History],
    field_ids: Mapping[str, str],
    field_names: Mapping[str, str],
    accounts: _Accounts,
) -> tuple[IssueChange, ...]:
    changes: list[IssueChange] = []
    seen: set[str] = set()
    for at, _, change_id, history in sorted([_in_order(history) for history in histories], key=_BY_TIME_THEN_ID):
        if change_id in seen:
            continue
        seen.add(change_id)
        author = history.author
        account = accounts.of(author)
        author_id = account.external_id if account is not None else None
        author_name = author.displayName if author is not None else None
        for index, item in enumerate(history.items):
            changes.append(
                IssueChange(
                    change_id=change_id,
                    item_index=index,
                    author_id=author_id,
                    author_name=author_name,
                    field=item.fieldId or _field_id(item, field_ids, field_names),
                    field_name=item.field,
                    from_value=item.from_value,
                    from_text=item.from_text,
                    to_value=item.to_value,
                    to_text=item.to_text,
                    changed_at=at,
                )
            )
    return tuple(changes)


def _in_order(history: _History) -> tuple[datetime, int, str, _History]:
    change_id = str(history.id)
    created = history.created
    return _utc(created) if isinstance(created, datetime) else _from_epoch(created), len(change_id), change_id, history


_BY_TIME_THEN_ID = itemgetter(0, 1, 2)
"""A history id is a number as text: its length and then its digits put it in order."""


def _field_id(item: _Item, field_ids: Mapping[str, str], field_names: Mapping[str, str]) -> str:
    """The id of a field that a history names only by its name, as old servers do."""
    name = item.field.lower()
    if item.fieldtype != "custom" and name in _SYSTEM_FIELD_IDS:
        return _SYSTEM_FIELD_IDS[name]
    if item.field in field_names:
        return field_names[item.field]
    return field_ids.get(_role_of_name(name) or "", item.field)


class _Accounts:
    """The accounts seen in one payload, each once."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._by_id: dict[str, Account] = {}

    def of(self, user: _User | None) -> Account | None:
        """The account of a user; None where nothing identifies it."""
        if user is None:
            return None
        external_id = user.accountId or user.key or user.name or ""
        account = self._by_id.get(external_id)
        if account is None and external_id not in _NO_ACCOUNTS:
            account = self._by_id[external_id] = self._account(external_id, user)
        return account

    def all(self) -> tuple[Account, ...]:
        return tuple(self._by_id.values())

    def _account(self, external_id: str, user: _User) -> Account:
        email = user.emailAddress or None
        reason = robot_reason(
            user.name,
            user.displayName,
            user.accountType == "app",
            self._options,
            email=email,
            external_id=external_id,
        )
        return Account(
            external_id=external_id,
            username=user.name,
            display_name=user.displayName,
            email=email,
            # The Cloud's accounts are verified by the vendor; a Data Center believes what its directory says.
            email_is_verified=email is not None
            and (user.accountId is not None or bool(self._options.get("emails_are_verified"))),
            is_bot=reason is not None,
            bot_reason=reason,
        )


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


def _current_sprint(sprints: list[_Sprint | str] | None) -> _Sprint | None:
    """The sprint that an issue is in: the active one, else the next, else the one it was in last."""
    if not sprints:
        return None
    return max([_old_sprint(one) if isinstance(one, str) else one for one in sprints], key=_sprint_rank)


def _sprint_rank(sprint: _Sprint) -> tuple[int, str, int]:
    sprint_id = str(sprint.id or 0)
    return (
        _SPRINT_STATES.get((sprint.state or "").lower(), -1),
        sprint.completeDate or sprint.endDate or "",
        int(sprint_id) if sprint_id.isdecimal() else 0,
    )


_OLD_SPRINT_PART = re.compile(
    r",(?=(?:id|rapidViewId|state|name|goal|startDate|endDate|completeDate|activatedDate|sequence|autoStartStop|synced"
    r"|incompleteIssuesDestinationId)=)"
)


def _old_sprint(text: str) -> _Sprint:
    """A sprint of an old server, `…greenhopper.service.sprint.Sprint@1f[id=1,state=CLOSED,name=One, and only],…]`."""
    inside = text[text.find("[") + 1 : text.rfind("]")]
    parts = [part.partition("=") for part in _OLD_SPRINT_PART.split(inside)]
    # The first of each name counts: a goal comes last and may quote another.
    named = {name: value for name, _, value in reversed(parts) if value != "<null>"}
    return _Sprint(
        id=named.get("id"),
        name=named.get("name"),
        state=named.get("state"),
        startDate=named.get("startDate"),
        endDate=named.get("endDate"),
        completeDate=named.get("completeDate"),
    )


def _sprint_time(text: str | None) -> datetime | None:
    try:
        return _utc(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None


_BLOCKS = frozenset(
    {"paragraph", "heading", "codeBlock", "blockquote", "listItem", "taskItem", "decisionItem", "tableRow", "rule"}
)


def _flattened(document: dict[str, Any]) -> str:
    """The text of an Atlassian document, a line for each block."""
    parts: list[str] = []
    waiting: list[Any] = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            attributes = node["attrs"] if isinstance(node.get("attrs"), dict) else {}
            text = node.get("text") or attributes.get("text") or attributes.get("shortName") or attributes.get("url")
            if isinstance(text, str):
                parts.append(text)
            if node.get("type") in _BLOCKS or node.get("type") == "hardBreak":
                waiting.append("\n")
            waiting.append(node.get("content"))
        elif node == "\n" and parts and not parts[-1].endswith("\n"):
            parts.append("\n")
    return "".join(parts).strip()


# --- dictionaries -----------------------------------------------------------------------------------------------------


def _field(raw: Mapping[str, Any], context: ParseContext) -> Field:
    field_id = _text_of(raw, "id")
    schema = raw["schema"] if isinstance(raw.get("schema"), dict) else {}
    is_custom = raw["custom"] if isinstance(raw.get("custom"), bool) else field_id.startswith("customfield_")
    field_type = schema.get("custom") or schema.get("type")
    name = raw["name"] if isinstance(raw.get("name"), str) else field_id
    return Field(
        field_id=field_id,
        name=name,
        field_type=str(field_type) if field_type else None,
        is_custom=is_custom,
        role=_role(field_id, name, schema if is_custom else {}, context),
    )


def _role(field_id: str, name: str, schema: Mapping[str, Any], context: ParseContext) -> str | None:
    """What a field is for: what the operator says, then what its type says, then what its name says."""
    chosen = field_ids_of({}, context.options)
    for role, chosen_id in chosen.items():
        if chosen_id == field_id:
            return role
    guess = guessed_role(name, schema)
    return None if guess in chosen else guess


def guessed_role(name: str, schema: Mapping[str, Any]) -> str | None:
    """What a custom field is for, by its type, else by its name.

    Args:
        name: as the site calls it.
        schema: of the field; empty for the fields of Jira's own, which have no role.

    Returns:
        A role, or None.
    """
    if not schema:
        return None
    by_schema = _ROLES_BY_SCHEMA.get(str(schema.get("custom")))
    if by_schema is not None:
        return by_schema
    role = _role_of_name(name.lower())
    # A field that is only called like one of Jira's own is somebody's imitation.
    if role in {"sprint", "epic_link", "epic_name"} or (role in _POINTS and schema.get("type") != "number"):
        return None
    return role


def _role_of_name(name: str) -> str | None:
    return _ROLES_BY_NAME.get(name) or ("severity" if _SEVERITY_NAME.fullmatch(name) else None)


def _status(raw: Mapping[str, Any]) -> Status:
    category = raw["statusCategory"].get("key") if isinstance(raw.get("statusCategory"), dict) else None
    return Status(
        status_id=_text_of(raw, "id"),
        name=_text_of(raw, "name"),
        # Jira itself shows a status without a category as one where work has not begun.
        category=category if category in _CATEGORIES else "new",
    )


def _object(payload: bytes) -> dict[str, Any]:
    try:
        tree = _tree(payload)
    except RecursionError:
        _refuse("payload", "is nested too deeply")
    if not isinstance(tree, dict):
        _refuse("payload", f"is {type(tree).__name__} where an object was expected")
    return tree


def _tree(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(mended_json(payload))
    except ValueError as error:
        _refuse("payload", f"is not JSON ({error})")


def _text_of(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        _refuse(name, "is missing" if value is None else f"is {value!r:.60} where text was expected")
    return value


# --- times, damage, complaints ----------------------------------------------------------------------------------------


def _utc(time: datetime) -> datetime:
    if time.tzinfo is UTC:
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _utc_or_none(time: datetime | None) -> datetime | None:
    return None if time is None else _utc(time)


def _from_epoch(number: float) -> datetime:
    """Bulk histories may give numbers, in milliseconds or, as Atlassian's own example does, in seconds."""
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) >= _MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        _refuse("changelog.histories[...].created", f"is no time: {number}")


_MILLISECONDS_FROM = 100_000_000_000
"""As seconds the year 5138, as milliseconds 1973."""

_CONTROL_CHARACTERS = dict.fromkeys(range(0x20), " ")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")


def _mended_escape(match: re.Match[str]) -> str:
    escape = match.group()
    if len(escape) != len(r"\u0000"):
        return escape  # a short escape or a whole pair
    if escape == r"\u0000":
        return ""
    return r"\ufffd" if escape[2] in "dD" and escape[3] in "89abcdefABCDEF" else escape


def _complaint(error: msgspec.ValidationError) -> tuple[str, str]:
    """The member and what is wrong with it, from msgspec's "Expected `int`, got `str` - at `$.fields.x`"."""
    reason, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", reason)
    if missing:
        return ".".join(filter(None, (path, missing[1]))), "is missing"
    return path or "payload", reason[:1].lower() + reason[1:]


def _refuse(field: str, reason: str) -> NoReturn:
    raise BadRecordError(f"{field} {reason}.", field=field, reason=reason)
