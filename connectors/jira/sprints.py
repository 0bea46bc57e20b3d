"""The sprints that an issue is in, as Cloud and new servers write them, and as old servers do. Pure."""

from __future__ import annotations

import re

from connectors.jira.payloads import Shape

_SPRINT_STATES = {"active": 2, "future": 1, "closed": 0}


class Sprint(Shape):
    """A sprint."""

    id: int | str | None = None
    name: str | None = None
    state: str | None = None
    startDate: str | None = None  # noqa: N815
    endDate: str | None = None  # noqa: N815
    completeDate: str | None = None  # noqa: N815


def current_sprint(sprints: list[Sprint | str] | None) -> Sprint | None:
    """The sprint that an issue is in: the active one, else the next, else the one it was in last."""
    if not sprints:
        return None
    return max([_old_sprint(one) if isinstance(one, str) else one for one in sprints], key=_sprint_rank)


def _sprint_rank(sprint: Sprint) -> tuple[int, str, int]:
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


def _old_sprint(text: str) -> Sprint:
    """A sprint of an old server, `…greenhopper.service.sprint.Sprint@1f[id=1,state=CLOSED,name=One, and only],…]`."""
    inside = text[text.find("[") + 1 : text.rfind("]")]
    parts = [part.partition("=") for part in _OLD_SPRINT_PART.split(inside)]
    # The first of each name counts: a goal comes last and may quote another.
    named = {name: value for name, _, value in reversed(parts) if value != "<null>"}
    return Sprint(
        id=named.get("id"),
        name=named.get("name"),
        state=named.get("state"),
        startDate=named.get("startDate"),
        endDate=named.get("endDate"),
        completeDate=named.get("completeDate"),
    )
