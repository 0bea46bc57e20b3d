"""The simulated GitHub's webhooks: made over its API, and told of what users do.

Here belongs what GitHub sends, written from its documentation: once, whatever the answer. How a request travels stands
in `connectors/simulated_webhooks.py`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.github.simulated.rendering import issue_json, pull_request_json, repository_json
from connectors.signatures import hub_signature
from connectors.simulated_webhooks import Change, Sender, observe
from connectors.simulator import Answer, RefusalError, Request, Route, json_answer

if TYPE_CHECKING:
    from connectors.github.simulated.world import Repository, Thing
    from connectors.github.simulator import GitHubSimulator

ACTIONS: Final = {
    "comment": "created", "review": "submitted", "dismiss_review": "dismissed", "push": "synchronize",
    "merge": "closed", "close": "closed", "reopen": "reopened", "label": "labeled", "rename": "edited",
    "mark_ready": "ready_for_review", "mark_draft": "converted_to_draft", "create_pull_request": "opened",
    "create_issue": "opened", "delete_issue": "deleted",
}  # fmt: skip
"""What is told of, and what GitHub calls it."""


class Hook(msgspec.Struct, kw_only=True):
    """A webhook of a repository."""

    id: int
    repository_id: int
    active: bool = True
    events: list[str] = msgspec.field(default_factory=lambda: ["push"])
    config: dict[str, str] = {}


class SimulatedHooks:
    """The webhooks of one simulated GitHub.

    Args:
        simulator: whose users' changes are told; its lock guards the hooks too.
        seed: of what happens on the way.
    """

    def __init__(self, simulator: GitHubSimulator, seed: int) -> None:
        self.hooks: dict[int, Hook] = {}
        self.may_manage = True
        """False: the token may not see webhooks."""
        self._next_id = 1
        self._simulator = simulator
        self.sender = Sender(seed)
        observe(simulator, ACTIONS, self._tell, self._look)

    # --- over the API

    def routes(self, home: str) -> list[Route]:
        """The endpoints below one path of a repository."""
        return [
            Route("GET", home + "/hooks", self._list, frozenset({"page", "per_page"})),
            Route("POST", home + "/hooks", self._add),
            Route("PATCH", home + "/hooks/{hook}", self._change),
            Route("DELETE", home + "/hooks/{hook}", self._remove),
        ]

    def _asked_home(self, request: Request) -> tuple[Repository, list[str]]:
        if not self.may_manage:
            raise RefusalError(self._simulator.error(404))
        return self._simulator.asked_repository(request)

    def _list(self, request: Request) -> Answer:
        home, _ = self._asked_home(request)
        found = [msgspec.json.encode(_shown(hook)) for hook in self.hooks.values() if hook.repository_id == home.id]
        return self._simulator.page_of(request, found)

    def _add(self, request: Request) -> Answer:
        home, _ = self._asked_home(request)
        hook = Hook(id=self._next_id, repository_id=home.id)
        self._next_id += 1
        self._read(request, hook)
        self.hooks[hook.id] = hook
        return json_answer(_shown(hook), 201)

    def _asked(self, request: Request) -> Hook:
        home, rest = self._asked_home(request)
        hook = self.hooks.get(int(rest[0])) if rest[0].isdigit() else None
        if hook is None or hook.repository_id != home.id:
            raise RefusalError(self._simulator.error(404))
        return hook

    def _change(self, request: Request) -> Answer:
        hook = self._asked(request)
        self._read(request, hook)
        return json_answer(_shown(hook))

    def _remove(self, request: Request) -> Answer:
        del self.hooks[self._asked(request).id]
        return Answer(204, b"")

    def _read(self, request: Request, hook: Hook) -> None:
        given = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        config = given.get("config", hook.config)
        if not config.get("url"):
            raise RefusalError(self._simulator.error(422, "Validation Failed"))
        hook.config = {"content_type": "form", "insecure_ssl": "0", **config}
        hook.active, hook.events = given.get("active", hook.active), given.get("events", hook.events)

    # --- what is sent

    def _look(self, change: Change) -> Thing | None:
        if change.name.startswith("create_"):
            return None
        return self._simulator.thing(change.arguments[0], repository=change.options.get("repository"))

    def _tell(self, change: Change) -> None:
        thing: Thing = change.subject or self._simulator.thing(
            change.result, repository=change.options.get("repository")
        )
        shown = {"pull_request": pull_request_json(thing)} if thing.is_pull_request else {"issue": issue_json(thing)}
        event = "pull_request" if thing.is_pull_request else "issues"
        if change.name == "comment":
            event, shown = "issue_comment", {"issue": issue_json(thing), "comment": {"id": thing.comments[-1].id}}
        elif change.name in ("review", "dismiss_review"):
            event = "pull_request_review"
        payload = {"action": ACTIONS[change.name], **shown, "repository": repository_json(thing.repository)}
        body = msgspec.json.encode(payload)
        for hook in self.hooks.values():
            is_wanted = event in hook.events or "*" in hook.events
            if hook.active and is_wanted and hook.repository_id == thing.repository.id:
                self._send(hook, event, body)

    def _send(self, hook: Hook, event: str, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Hook-ID": str(hook.id),
        }
        if hook.config.get("secret"):
            headers["X-Hub-Signature-256"] = hub_signature(body, hook.config["secret"])
        self.sender.send(hook.config["url"], headers, body)


def _shown(hook: Hook) -> dict[str, Any]:
    config = hook.config | ({"secret": "********"} if hook.config.get("secret") else {})
    return {
        "type": "Repository",
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": hook.events,
        "config": config,
        "last_response": {"code": None, "status": "unused", "message": None},
    }
