"""GitHub's repository webhooks: made, enabled, given their secret, looked at and removed.

What belongs here: what a hook is at GitHub. What does not: deliveries (webhooks.py), and when to look (tasks/hooks.py).
A hook is ours by its address. GitHub never shows a secret again and sends a failed delivery no second time; polling
brings what was missed.

Source: https://docs.github.com/rest/repos/webhooks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from connectors.base import HookState, ScopeSpec
from connectors.decoding import decoded
from connectors.github.client import GitHubConnector
from models.errors import BadRecordError, ForbiddenResourceError, GoneError, SourceRequestError

EVENTS = (
    "pull_request", "pull_request_review", "pull_request_review_comment", "issues", "issue_comment", "workflow_run",
    "workflow_job", "deployment", "deployment_status",
)  # fmt: skip
WELL = "registered and enabled"
NEEDS = "It needs a token with the permission Webhooks: write, or the classic scope admin:repo_hook."


class _Config(msgspec.Struct):
    url: str = ""
    content_type: str = "form"


class _Hook(msgspec.Struct):
    id: int
    active: bool = False
    events: list[str] = []
    config: _Config = msgspec.field(default_factory=_Config)

    @property
    def is_enabled(self) -> bool:
        tells_all = "*" in self.events or set(EVENTS) <= set(self.events)
        return self.active and self.config.content_type == "json" and tells_all


_HOOK = msgspec.json.Decoder(_Hook)


def ensure(connector: GitHubConnector, scopes: Sequence[ScopeSpec], url: str, secret: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.ensure`: one hook a repository."""
    return tuple(_state(connector, scope, lambda each: _ensured(connector, each, url, secret)) for scope in scopes)


def check(connector: GitHubConnector, scopes: Sequence[ScopeSpec], url: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.check`."""
    return tuple(_state(connector, scope, lambda each: _checked(connector, each, url)) for scope in scopes)


def remove(connector: GitHubConnector, scopes: Sequence[ScopeSpec], url: str) -> None:
    """See `connectors.base.Webhooks.remove`."""
    for scope in scopes:
        for hook in _ours(connector, scope, url):
            connector.manage("DELETE", scope, f"/hooks/{hook.id}")


def _state(connector: GitHubConnector, scope: ScopeSpec, look: Callable[[ScopeSpec], HookState]) -> HookState:
    """What became of one repository's hook; that one refuses us keeps no other from its hook."""
    try:
        state = look(scope)
        return msgspec.structs.replace(state, external_id=str(connector.repository_id(scope)))
    except (ForbiddenResourceError, GoneError, SourceRequestError) as error:
        needs = "" if isinstance(error, SourceRequestError) else f" {NEEDS}"
        return HookState(scope_id=scope.id, is_enabled=False, remark=f"{scope.external_key}: {error.message}{needs}")


def _checked(connector: GitHubConnector, scope: ScopeSpec, url: str) -> HookState:
    hooks = sorted(_ours(connector, scope, url), key=lambda hook: not hook.is_enabled)
    if not hooks:
        return HookState(scope_id=scope.id, is_enabled=False, remark=f"{scope.external_key}: it has no hook of ours")
    return _found(scope, hooks[0])


def _ensured(connector: GitHubConnector, scope: ScopeSpec, url: str, secret: str) -> HookState:
    hooks = sorted(_ours(connector, scope, url), key=lambda hook: not hook.is_enabled)
    for hook in hooks[1:]:
        connector.manage("DELETE", scope, f"/hooks/{hook.id}")  # a request to make it was sent twice
    config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
    wanted = {"active": True, "events": list(EVENTS), "config": config}
    if hooks:
        made = connector.manage("PATCH", scope, f"/hooks/{hooks[0].id}", wanted)
    else:
        made = connector.manage("POST", scope, "/hooks", {"name": "web", **wanted})
    return _found(scope, _hook(made))


def _ours(connector: GitHubConnector, scope: ScopeSpec, url: str) -> list[_Hook]:
    return [hook for hook in map(_hook, connector.webhooks_of(scope)) if hook.config.url == url]


def _hook(raw: bytes) -> _Hook:
    try:
        return decoded(raw, _HOOK)
    except BadRecordError as error:
        raise SourceRequestError(
            f"GitHub describes a webhook in a way that we cannot read: {error.message}."
        ) from error


def _found(scope: ScopeSpec, hook: _Hook) -> HookState:
    remark = WELL if hook.is_enabled else "its hook is off, or does not tell of everything in JSON"
    return HookState(scope_id=scope.id, is_enabled=hook.is_enabled, remark=f"{scope.external_key}: {remark}")
