"""Which accounts are no people: the names that robots have on every forge, and what an operator says of them.

What belongs here: the judgement over an account's name and flags. What does not: a vendor's own marks of its robots
beyond names and flags (`parse.py` of a vendor).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_ROBOT_PATTERNS = {
    "access token": re.compile(r"^(project|group)_\d+_bot|^service_account_"),
    "name pattern": re.compile(r"^robot[-_.]|[-_.]robot$|\[bot\]|[-_.]bot$|-ci$"),
    "known robot": re.compile(
        r"^(renovate|dependabot|snyk|sonarcloud|sonarqube|weblate|greenkeeper|mergify|gitlabduo)([-_.]?(bot|app|ci|io))?$"
    ),
}


def robot_reason(
    username: str | None,
    display_name: str | None,
    is_flagged: bool,
    options: Mapping[str, Any],
    **others: str | None,
) -> str | None:
    """Why an account is no person, or None where it is one.

    Source: metrics of contributions; GitLab's own names for the users behind access tokens.

    Args:
        username: may be missing.
        display_name: only "Ghost User" means anything: the account that deleted accounts' work moves to.
        is_flagged: what the source says itself.
        others: `email` and `external_id`, for rules that ask for them.
        options: `bot_rules`, then `human_usernames` and `bot_usernames` go before everything else, in this order.
            A rule says `field`, `pattern`, `is_bot` and `reason`; the first that fits decides.
    """
    name = (username or "").lower()
    ruled = _first_rule(options.get("bot_rules") or (), username=username, display_name=display_name, **others)
    if ruled is not None:
        return str(ruled["reason"] or f"rule {ruled['pattern']!r}") if ruled["is_bot"] else None
    if name and name in _lowered(options.get("human_usernames")):
        return None
    if name and name in _lowered(options.get("bot_usernames")):
        return "listed as a robot"
    if is_flagged:
        return "flagged by the source"
    if name == "ghost" or display_name == "Ghost User":
        return "ghost"
    return _reason_of_name(name)


@lru_cache(maxsize=10_000)
def _reason_of_name(name: str) -> str | None:
    return next((reason for reason, pattern in _ROBOT_PATTERNS.items() if pattern.search(name)), None)


def _first_rule(rules: Iterable[Mapping[str, Any]], **fields: str | None) -> Mapping[str, Any] | None:
    for rule in rules:
        value = fields.get(rule["field"])
        if value is not None and _pattern(rule["pattern"]).fullmatch(value):
            return rule
    return None


@lru_cache(maxsize=1_000)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _lowered(names: Any) -> frozenset[str]:
    # An option that came from the command line is one text; one that came by the API may be a list.
    listed = names.split(",") if isinstance(names, str) else names or ()
    return frozenset(str(name).strip().lower() for name in listed)
