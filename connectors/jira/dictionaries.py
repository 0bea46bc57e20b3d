"""Jira's small streams that are read whole: one entry of each into a record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from connectors.jira.payloads import refuse, text_of, time_or_none
from models.records import Board, Priority, Sprint, Status, Version

CATEGORIES = frozenset({"new", "indeterminate", "done"})
SPRINT_STATES = frozenset({"future", "active", "closed"})


def status_of(raw: Mapping[str, Any]) -> Status:
    """A status and its category."""
    category = raw["statusCategory"].get("key") if isinstance(raw.get("statusCategory"), dict) else None
    return Status(
        status_id=text_of(raw, "id"),
        name=text_of(raw, "name"),
        # Jira itself shows a status without a category as one where work has not begun.
        category=category if category in CATEGORIES else "new",
    )


def priority_of(raw: Mapping[str, Any]) -> Priority:
    """A priority."""
    return Priority(
        priority_id=text_of(raw, "id"), name=text_of(raw, "name"), description=_text_or_none(raw, "description")
    )


def version_of(raw: Mapping[str, Any]) -> Version:
    """A version of a project; its days are days, without a zone."""
    project_id = raw.get("projectId")
    return Version(
        version_id=text_of(raw, "id"),
        external_project_id=str(project_id) if isinstance(project_id, int | str) else None,
        name=text_of(raw, "name"),
        description=_text_or_none(raw, "description"),
        is_archived=raw.get("archived") is True,
        is_released=raw.get("released") is True,
        start_on=_day_or_none(raw.get("startDate")),
        release_on=_day_or_none(raw.get("releaseDate")),
    )


def board_of(raw: Mapping[str, Any]) -> Board:
    """A board."""
    location = raw["location"] if isinstance(raw.get("location"), dict) else {}
    return Board(
        board_id=text_of(raw, "id"),
        name=text_of(raw, "name"),
        kind=_text_or_none(raw, "type"),
        project_key=_text_or_none(location, "projectKey"),
    )


def sprint_of(raw: Mapping[str, Any]) -> Sprint:
    """A sprint, as boards list it. Cloud and Data Center name the same things alike here."""
    state = text_of(raw, "state").lower()
    if state not in SPRINT_STATES:
        refuse("state", f"is {state!r:.60}, which is none of a sprint's")
    origin = raw.get("originBoardId")
    return Sprint(
        sprint_id=text_of(raw, "id"),
        board_id=str(origin) if isinstance(origin, int | str) else None,
        name=text_of(raw, "name"),
        state=state,
        goal=_text_or_none(raw, "goal"),
        start_at=time_or_none(_text_or_none(raw, "startDate")),
        end_at=time_or_none(_text_or_none(raw, "endDate")),
        activated_at=time_or_none(_text_or_none(raw, "activatedDate")),
        complete_at=time_or_none(_text_or_none(raw, "completeDate")),
    )


def _text_or_none(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) and value else None


def _day_or_none(value: Any) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None
