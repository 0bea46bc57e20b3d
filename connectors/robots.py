"""Which accounts are no people: the names that robots have on every forge, and what an operator says of them.

What belongs here: the judgement over an account's name and flags. What does not: a vendor's own marks of its robots
beyond names and flags (`parse.py` of a vendor).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ROBOT_PATTERNS = {
    "access token": re.compile(r"^(project|group)_\d+_bot|^service_account_"),
    "name pattern": re.compile(r"^robot[-_.]|[-_.]robot$|\[bot\]|[-_.]bot$|-ci$"),
    "known robot": re.compile(
        r"^(renovate|dependabot|snyk|sonarcloud|sonarqube|weblate|greenkeeper|mergify|gitlabduo)([-_.]?(bot|app|ci|io))?$"
    ),
}


def robot_reason(
    username: str | None, display_name: str | None, is_flagged: bool, options: Mapping[str, Any]
) -> str | None:
    """Why an account is no person, or None where it is one.

    Source: metrics of contributions; GitLab's own names for the users behind access tokens.

    Args:
        username: may be missing.
        display_name: only "Ghost User" means anything: the account that deleted accounts' work moves to.
        is_flagged: what the source says itself.
        options: `human_usernames` and `bot_usernames` go before everything else, in this order.
    """
    name = (username or "").lower()
    if name and name in _lowered(options.get("human_usernames")):
        return None
    if name and name in _lowered(options.get("bot_usernames")):
        return "listed as a robot"
    if is_flagged:
        return "flagged by the source"
    if name == "ghost" or display_name == "Ghost User":
        return "ghost"
    return next((reason for reason, pattern in _ROBOT_PATTERNS.items() if pattern.search(name)), None)


def _lowered(names: Any) -> frozenset[str]:
    # An option that came from the command line is one text; one that came by the API may be a list.
    listed = names.split(",") if isinstance(names, str) else names or ()
    return frozenset(str(name).strip().lower() for name in listed)
