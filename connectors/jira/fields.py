"""Which field of an instance is for what: by what the operator says, by its type, by its name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.base import ParseContext
from connectors.jira.payloads import text_of
from models.records import Field

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


def field_of(raw: Mapping[str, Any], context: ParseContext) -> Field:
    """A field of the instance and its role."""
    field_id = text_of(raw, "id")
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
    role = role_of_name(name.lower())
    # A field that is only called like one of Jira's own is somebody's imitation.
    if role in {"sprint", "epic_link", "epic_name"} or (role in _POINTS and schema.get("type") != "number"):
        return None
    return role


def role_of_name(name: str) -> str | None:
    """What a field is for, by its name in lower case."""
    return _ROLES_BY_NAME.get(name) or ("severity" if _SEVERITY_NAME.fullmatch(name) else None)
