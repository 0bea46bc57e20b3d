"""Jira's small streams that are read whole: one entry of each into a record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.jira.payloads import text_of
from models.records import Status

CATEGORIES = frozenset({"new", "indeterminate", "done"})


def status_of(raw: Mapping[str, Any]) -> Status:
    """A status and its category."""
    category = raw["statusCategory"].get("key") if isinstance(raw.get("statusCategory"), dict) else None
    return Status(
        status_id=text_of(raw, "id"),
        name=text_of(raw, "name"),
        # Jira itself shows a status without a category as one where work has not begun.
        category=category if category in CATEGORIES else "new",
    )
