"""GitLab's project hooks: made, enabled, given their secret, looked at and removed.

What belongs here: what a hook is at GitLab. What does not: deliveries (webhooks.py), and when to look (tasks/hooks.py).
A hook is ours by its address. Needs the role Maintainer and the scope `api`.

Source: https://docs.gitlab.com/api/project_webhooks/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from connectors.base import HookState, ScopeSpec
from connectors.decoding import decoded
from connectors.gitlab.client import GitLabConnector
from models.errors import BadRecordError, ForbiddenResourceError, GoneError, SourceRequestError

EVENTS = (
    "merge_requests_events", "note_events", "confidential_note_events", "pipeline_events", "deployment_events"
)  # fmt: skip
ALL_EVENTS = (*EVENTS, "push_events")  # pushes are on unless they are turned off
WELL = "registered and enabled"
NEEDS = "It needs a token with the scope api of a Maintainer of the project."


class _Hook(msgspec.Struct):
    id: int
    url: str = ""
    project_id: int | None = None
    alert_status: str = "executable"
    """executable, temporarily_disabled or disabled; older servers do not say."""
    disabled_until: str | None = None
    merge_requests_events: bool = False
    note_events: bool = False
    signing_token_present: bool = False

    @property
    def is_enabled(self) -> bool:
        return self.alert_status == "executable" and self.merge_requests_events and self.note_events


_HOOK = msgspec.json.Decoder(_Hook)


def ensure(connector: GitLabConnector, scopes: Sequence[ScopeSpec], url: str, secret: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.ensure`: one hook a project."""
    return tuple(_state(scope, lambda each: _ensured(connector, each, url, secret)) for scope in scopes)


def check(connector: GitLabConnector, scopes: Sequence[ScopeSpec], url: str) -> tuple[HookState, ...]:
    """See `connectors.base.Webhooks.check`."""
    return tuple(_state(scope, lambda each: _checked(connector, each, url)) for scope in scopes)


def remove(connector: GitLabConnector, scopes: Sequence[ScopeSpec], url: str) -> None:
    """See `connectors.base.Webhooks.remove`."""
    for scope in scopes:
        for hook in _ours(connector, scope, url):
            connector.manage("delete", _path(hook))


def _state(scope: ScopeSpec, look: Callable[[ScopeSpec], HookState]) -> HookState:
    """What became of one project's hook; that one project refuses us keeps no other from its hook."""
    try:
        return look(scope)
    except (ForbiddenResourceError, GoneError, SourceRequestError) as error:
        needs = "" if isinstance(error, SourceRequestError) and error.facts.get("status") == 422 else f" {NEEDS}"
        return HookState(scope_id=scope.id, is_enabled=False, remark=f"{scope.external_key}: {error.message}{needs}")


def _checked(connector: GitLabConnector, scope: ScopeSpec, url: str) -> HookState:
    hooks = list(_ours(connector, scope, url))
    if not hooks:
        return HookState(scope_id=scope.id, is_enabled=False, remark=f"{scope.external_key}: it has no hook of ours")
    well = next((hook for hook in hooks if hook.is_enabled), None)
    return _found(scope, well or hooks[0], WELL if well else _trouble(hooks[0]))


def _ensured(connector: GitLabConnector, scope: ScopeSpec, url: str, secret: str) -> HookState:
    hooks = sorted(_ours(connector, scope, url), key=lambda hook: not hook.is_enabled)
    remark = WELL
    for hook in hooks[1:]:
        connector.manage("delete", _path(hook))  # a request to make it was sent twice
    kept = hooks[0] if hooks else None
    if kept is not None and kept.alert_status != "executable":
        # GitLab enables a disabled hook only after a test delivery that succeeds, which needs something to tell of.
        remark = f"made anew, because {_trouble(kept)}"
        connector.manage("delete", _path(kept))
        kept = None
    wanted = {"url": url, "enable_ssl_verification": url.startswith("https://"), "signing_token": secret}
    wanted |= {event: event in EVENTS for event in ALL_EVENTS}
    if kept is None:
        project_id = connector.project_id(scope)
        made = _hook(connector.manage("post", f"/projects/{project_id}/hooks", wanted), project_id)
    else:
        made = _hook(connector.manage("put", _path(kept), wanted), kept.project_id)
    if not made.signing_token_present:  # before GitLab 19: the secret itself comes along instead
        made = _hook(connector.manage("put", _path(made), {"url": url, "token": secret}), made.project_id)
    return _found(scope, made, remark)


def _ours(connector: GitLabConnector, scope: ScopeSpec, url: str) -> Iterator[_Hook]:
    for raw in connector.webhooks_of(scope):
        hook = _hook(raw, None)
        if hook.url == url:
            yield hook if hook.project_id is not None else _hook(raw, connector.project_id(scope))


def _hook(raw: bytes, project_id: int | None) -> _Hook:
    try:
        hook = decoded(raw, _HOOK)
    except BadRecordError as error:
        raise SourceRequestError(
            f"GitLab describes a webhook in a way that we cannot read: {error.message}."
        ) from error
    if hook.project_id is None:
        hook.project_id = project_id
    return hook


def _path(hook: _Hook) -> str:
    return f"/projects/{hook.project_id}/hooks/{hook.id}"


def _found(scope: ScopeSpec, hook: _Hook, remark: str) -> HookState:
    return HookState(
        scope_id=scope.id,
        external_id=None if hook.project_id is None else str(hook.project_id),
        is_enabled=hook.is_enabled,
        remark=f"{scope.external_key}: {remark}",
    )


def _trouble(hook: _Hook) -> str:
    if hook.alert_status == "executable":
        return "its hook does not tell of merge requests and notes"
    until = f" until {hook.disabled_until}" if hook.disabled_until else ""
    return f"GitLab had disabled its hook{until}, because our address did not answer well"
