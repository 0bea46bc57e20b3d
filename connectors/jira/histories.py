"""The history of an issue: which field changed, from what to what, by whom and when. Pure.

`IssueChange.field` is what the measures look for: the field's id where the history gives one (`fieldId`); histories of
old servers only give a name, of which `_SYSTEM_FIELD_IDS` and the roles of the custom fields make the id; a name that
neither knows stays as it is. So status, issuetype, project, priority, resolution, assignee, issuekey, fixVersions and
parent are spelled like this everywhere, and a custom field is `customfield_NNNNN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec

from connectors.jira.fields import role_of_name
from connectors.jira.payloads import Shape, from_epoch, utc
from connectors.jira.people import Accounts, User
from models.records import IssueChange

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


class Item(Shape, rename={"from_value": "from", "from_text": "fromString", "to_value": "to", "to_text": "toString"}):
    """One field that changed."""

    field: str
    fieldId: str | None = None  # noqa: N815
    fieldtype: str | None = None
    from_value: str | None = None
    from_text: str | None = None
    to_value: str | None = None
    to_text: str | None = None


class History(Shape, kw_only=True):
    """What one person changed in one go."""

    id: str | int
    author: User | None = None
    created: datetime | int | float
    items: list[Item]


def stringify_items(changelog: Any) -> None:
    """Values in histories are text; where an app wrote a number or an object, its JSON stands in."""
    try:
        for history in changelog["histories"]:
            for item in history["items"]:
                for name in ("from", "fromString", "to", "toString"):
                    if not isinstance(item.get(name), str | None):
                        item[name] = msgspec.json.encode(item[name]).decode()
    except (TypeError, KeyError, AttributeError):
        return  # not a changelog; the typed decoding says where and why


def changes_of(
    histories: list[History],
    field_ids: Mapping[str, str],
    field_names: Mapping[str, str],
    accounts: Accounts,
) -> tuple[IssueChange, ...]:
    """All that changed, oldest first: by time, then history id, then position."""
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


def _in_order(history: History) -> tuple[datetime, int, str, History]:
    change_id = str(history.id)
    created = history.created
    return utc(created) if isinstance(created, datetime) else from_epoch(created), len(change_id), change_id, history


_BY_TIME_THEN_ID = itemgetter(0, 1, 2)
"""A history id is a number as text: its length and then its digits put it in order."""


def _field_id(item: Item, field_ids: Mapping[str, str], field_names: Mapping[str, str]) -> str:
    """The id of a field that a history names only by its name, as old servers do."""
    name = item.field.lower()
    if item.fieldtype != "custom" and name in _SYSTEM_FIELD_IDS:
        return _SYSTEM_FIELD_IDS[name]
    if item.field in field_names:
        return field_names[item.field]
    return field_ids.get(role_of_name(name) or "", item.field)
