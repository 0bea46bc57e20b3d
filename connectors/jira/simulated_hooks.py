"""The simulated Jira's webhooks: registered over its API, told of what users do, sent again when they fail.

Here belongs what Jira sends and what it makes of the answers, written from its documentation. How a request travels
stands in `connectors/simulated_webhooks.py`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.signatures import hub_signature
from connectors.simulated_webhooks import Change, Sender, observe
from connectors.simulator import Answer, RefusalError, Request, Route, json_answer

if TYPE_CHECKING:
    from connectors.jira.simulated_world import Issue
    from connectors.jira.simulator import JiraSimulator

PATH: Final = "/rest/webhooks/1.0/webhook"
EVENTS: Final = {
    "edit_issue": ("jira:issue_updated", "issue_updated"), "transition": ("jira:issue_updated", "issue_generic"),
    "create_issue": ("jira:issue_created", "issue_created"), "move_issue": ("jira:issue_updated", "issue_moved"),
    "delete_issue": ("jira:issue_deleted", None), "add_comment": ("comment_created", None),
    "link_issues": ("issuelink_created", None),
}  # fmt: skip
"""What is told of: the event, and which kind of it."""

RETRIED_STATUSES: Final = frozenset({408, 409, 425, 429})
TRIES_COUNT = 5


class Hook(msgspec.Struct, kw_only=True):
    """A webhook of the instance."""

    id: int
    name: str = ""
    url: str
    events: list[str] = []
    filters: dict[str, str] = {}
    enabled: bool = True
    secret: str = ""
    exclude_body: bool = msgspec.field(default=False, name="excludeBody")


class SimulatedHooks:
    """The webhooks of one simulated Jira.

    Args:
        simulator: whose users' changes are told; its lock guards the hooks too.
        seed: of what happens on the way.
    """

    def __init__(self, simulator: JiraSimulator, seed: int) -> None:
        self.hooks: dict[int, Hook] = {}
        self.may_manage = True
        """False: the token's account may not administer Jira."""
        self.retry_seconds = 300.0
        """Between the tries of a delivery; real ones are spread over half an hour and more."""
        self._next_id = 1
        self._simulator = simulator
        self.sender = Sender(seed)
        observe(simulator, EVENTS, self._tell, self._look)

    # --- over the API

    def routes(self) -> list[Route]:
        """The endpoints of webhooks."""
        return [
            Route("GET", PATH, self._list),
            Route("POST", PATH, self._add),
            Route("GET", PATH + "/{hook}", self._get),
            Route("PUT", PATH + "/{hook}", self._change),
            Route("DELETE", PATH + "/{hook}", self._remove),
            *self.sender.routes(),
        ]

    def _allow(self) -> None:
        if not self.may_manage:
            raise RefusalError(json_answer({"errorMessages": ["You must have Administer Jira."]}, 403))

    def _list(self, request: Request) -> Answer:
        self._allow()
        return json_answer([self._shown(hook, request) for hook in self.hooks.values()])

    def _asked(self, request: Request) -> Hook:
        self._allow()
        number = request.captured[0]
        if not number.isdigit() or int(number) not in self.hooks:
            raise RefusalError(json_answer({"messages": [{"key": "webhook.not.found"}]}, 404))
        return self.hooks[int(number)]

    def _get(self, request: Request) -> Answer:
        return json_answer(self._shown(self._asked(request), request))

    def _add(self, request: Request) -> Answer:
        self._allow()
        hook = self._read(request, self._next_id)
        self._next_id += 1
        self.hooks[hook.id] = hook
        return json_answer(self._shown(hook, request), 201)

    def _change(self, request: Request) -> Answer:
        hook = self._asked(request)
        self.hooks[hook.id] = self._read(request, hook.id, hook.secret)
        return json_answer(self._shown(self.hooks[hook.id], request))

    def _remove(self, request: Request) -> Answer:
        del self.hooks[self._asked(request).id]
        return Answer(204, b"")

    def _read(self, request: Request, hook_id: int, secret: str = "") -> Hook:
        given = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        if not given.get("url") or not given.get("name"):
            raise RefusalError(json_answer({"messages": [{"key": "webhook.url.or.name.missing"}]}, 400))
        return msgspec.convert({"secret": secret, **given, "id": hook_id}, Hook)

    def _shown(self, hook: Hook, request: Request) -> dict[str, Any]:
        return {
            "self": f"{request.base_url}{PATH}/{hook.id}",
            "name": hook.name,
            "url": hook.url,
            "events": hook.events,
            "filters": hook.filters,
            "enabled": hook.enabled,
            "isSigned": bool(hook.secret),
            "excludeBody": hook.exclude_body,
            "lastUpdatedUser": "admin",
            "lastUpdated": 1_700_000_000_000,
        }

    # --- what is sent

    def _look(self, change: Change) -> Issue | None:
        return None if change.name == "create_issue" else self._simulator.issue(change.arguments[0])

    def _tell(self, change: Change) -> None:
        if not self.hooks:
            return
        event, kind = EVENTS[change.name]
        issue: Issue = change.subject or self._simulator.issue(change.result)
        payload: dict[str, Any] = {
            "timestamp": int(self._simulator.clock.now().timestamp() * 1_000),
            "webhookEvent": event,
            **({"issue_event_type_name": kind} if kind else {}),
        }
        if change.name == "link_issues":
            other = self._simulator.issue(change.arguments[1])
            payload["issueLink"] = {"id": 1, "sourceIssueId": issue.id, "destinationIssueId": other.id}
        elif change.name == "add_comment" and self._simulator.deployment == "server":
            # Data Center tells of a comment without its issue, and of the issue in an event of its own.
            payload["comment"] = self._comment(issue)
            updated = {"webhookEvent": "jira:issue_updated", "issue_event_type_name": "issue_commented"}
            self.announce(issue, payload | updated | {"issue": self._issue(issue)})
        elif change.name == "add_comment":
            payload |= {"comment": self._comment(issue), "issue": self._issue(issue)}
        else:
            payload |= {"issue": self._issue(issue), "user": {"displayName": "somebody"}}
        self.announce(issue, payload)

    def announce(self, issue: Issue, payload: dict[str, Any]) -> None:
        """Send an event to every webhook that wants it and whose filter holds the issue."""
        body = msgspec.json.encode(payload)
        for hook in list(self.hooks.values()):
            if hook.enabled and payload["webhookEvent"] in hook.events and self._is_wanted(hook, issue):
                self._send(hook, body, str(uuid.uuid4()), tried=0)

    def _is_wanted(self, hook: Hook, issue: Issue) -> bool:
        """The filter, in the form that ours has: `project in ("PAY", "SHOP")`."""
        jql = hook.filters.get("issue-related-events-section", "")
        return not jql or f'"{issue.project.key}"' in jql

    def _send(self, hook: Hook, body: bytes, delivery_id: str, *, tried: int) -> None:
        def answered(status: int | None) -> None:
            is_retried = status is None or status >= 500 or status in RETRIED_STATUSES
            if is_retried and tried + 1 < TRIES_COUNT and self._simulator.deployment == "cloud":
                self._send(hook, body, delivery_id, tried=tried + 1)  # older Data Centers do not try again

        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "User-Agent": "Atlassian Webhook HTTP Client",
            "X-Atlassian-Webhook-Identifier": delivery_id,
            "X-Atlassian-Webhook-Flow": "Primary",
        }
        if tried:
            headers["X-Atlassian-Webhook-Retry"] = str(tried)
        if hook.secret:
            headers["X-Hub-Signature"] = hub_signature(body, hook.secret)
        wait_seconds = self.retry_seconds if tried else 0.0
        self.sender.send(hook.url, headers, body, answered, wait_seconds=wait_seconds)

    def _issue(self, issue: Issue) -> dict[str, Any]:
        return {
            "id": str(issue.id),
            "key": issue.key,
            "self": f"{self._simulator.site_url}/rest/api/2/{issue.id}",
            "fields": {
                "summary": issue.summary,
                "project": {"id": str(issue.project.id), "key": issue.project.key, "name": issue.project.name},
                "status": {"id": issue.status.id, "name": issue.status.name},
            },
        }

    def _comment(self, issue: Issue) -> dict[str, Any]:
        comment = issue.comments[-1]
        url = f"{self._simulator.site_url}/rest/api/2/issue/{issue.id}/comment/{comment.id}"
        return {"self": url, "id": str(comment.id), "body": comment.body}
