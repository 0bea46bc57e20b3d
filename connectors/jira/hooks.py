"""Jira's administrative webhooks: made, enabled, given their secret, looked at and removed.

What belongs here: what a webhook is at Jira. What does not: deliveries (webhooks.py), and when to look
(tasks/hooks.py). One webhook tells of all projects of a connection, and is ours by its address. Needs the permission
Administer Jira. Dynamic webhooks are not used: they are for apps only and end after thirty days.

Source: https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.base import HookState, ScopeSpec
from connectors.jira.client import JiraConnector
from connectors.jira.jql import quoted
from models.errors import ForbiddenResourceError, GoneError, SourceRequestError

PATH = "rest/webhooks/1.0/webhook"
NAME = "Plumbline"
EVENTS = (
    "jira:issue_created", "jira:issue_updated", "jira:issue_deleted", "comment_created", "comment_updated",
    "comment_deleted", "worklog_created", "worklog_updated", "worklog_deleted", "issuelink_created",
    "issuelink_deleted",
)  # fmt: skip
WELL = "registered and enabled"
NEEDS = "It needs a token of an account with the permission Administer Jira."


class _Hook(msgspec.Struct, rename={"address": "self"}):
    address: str
    url: str = ""
    events: list[str] = []
    filters: dict[str, Any] = {}
    enabled: bool = False

    @property
    def path(self) -> str:
        return f"{PATH}/{self.address.rstrip('/').rpartition('/')[2]}"


_HOOKS = msgspec.json.Decoder(list[_Hook])


def ensure(connector: JiraConnector, scopes: Sequence[ScopeSpec], url: str, secret: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.ensure`: one hook for all projects; none while there is no project."""
    if not scopes:
        return ()
    wanted = _wanted(scopes, url) | {"secret": secret}
    try:
        hooks = _ours(connector, url)
        for hook in hooks[1:]:
            connector.manage("DELETE", hook.path)  # a request to make it was sent twice
        remark = WELL
        if not hooks:
            connector.manage("POST", PATH, wanted)
        else:
            remark = WELL if _is_well(hooks[0], scopes) else "enabled again for the projects of today"
            connector.manage("PUT", hooks[0].path, wanted)
    except (ForbiddenResourceError, GoneError, SourceRequestError) as error:
        return (HookState(is_enabled=False, remark=f"{error.message} {NEEDS}"),)
    return (HookState(is_enabled=True, remark=remark),)


def check(connector: JiraConnector, scopes: Sequence[ScopeSpec], url: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.check`."""
    if not scopes:
        return ()
    try:
        hooks = _ours(connector, url)
    except (ForbiddenResourceError, GoneError, SourceRequestError) as error:
        return (HookState(is_enabled=False, remark=f"{error.message} {NEEDS}"),)
    if not hooks:
        return (HookState(is_enabled=False, remark="Jira has no webhook of ours"),)
    is_well = any(_is_well(hook, scopes) for hook in hooks)
    return (
        HookState(is_enabled=is_well, remark=WELL if is_well else "its webhook is disabled, or leaves projects out"),
    )


def remove(connector: JiraConnector, scopes: Sequence[ScopeSpec], url: str) -> None:
    """See `connectors.base.Webhooks.remove`."""
    del scopes
    for hook in _ours(connector, url):
        connector.manage("DELETE", hook.path)


def _ours(connector: JiraConnector, url: str) -> list[_Hook]:
    body = connector.manage("GET", PATH)
    try:
        return [hook for hook in _HOOKS.decode(body) if hook.url == url]
    except msgspec.DecodeError as error:
        raise SourceRequestError(f"Jira lists its webhooks in a way that we cannot read: {error}.") from error


def _wanted(scopes: Sequence[ScopeSpec], url: str) -> dict[str, Any]:
    return {
        "name": NAME,
        "url": url,
        "events": list(EVENTS),
        "filters": {"issue-related-events-section": _jql(scopes)},
        "excludeBody": False,
        "enabled": True,
    }


def _jql(scopes: Sequence[ScopeSpec]) -> str:
    return f"project in ({', '.join(sorted(quoted(scope.external_key) for scope in scopes))})"


def _is_well(hook: _Hook, scopes: Sequence[ScopeSpec]) -> bool:
    is_about_all = hook.filters.get("issue-related-events-section") == _jql(scopes)
    return hook.enabled and is_about_all and set(EVENTS) <= set(hook.events)
