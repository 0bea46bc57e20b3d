"""The simulated GitLab's project hooks: registered over its API, told of what users do, disabled when they fail.

Here belongs what GitLab sends and what it makes of the answers, written from its documentation. How a request travels
stands in `connectors/simulated_webhooks.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.signatures import standard_key, standard_signature
from connectors.simulated_webhooks import Change, Sender, observe
from connectors.simulator import Answer, RefusalError, Request, Route, json_answer

if TYPE_CHECKING:
    from connectors.gitlab.simulated.model import MergeRequest, Note, Person, Project
    from connectors.gitlab.simulator import GitLabSimulator

ACTIONS: Final = {
    "update_merge_request": "update", "approve": "approved", "unapprove": "unapproved", "push": "update",
    "merge": "merge", "close": "close", "reopen": "reopen", "mark_ready": "update", "mark_draft": "update",
    "create_merge_request": "open", "request_changes": "update", "add_note": "note", "edit_note": "note",
}  # fmt: skip
"""What is told of; nothing is sent of deleted merge requests, deleted notes and renamed things."""

FAILURES_TO_PAUSE, FAILURES_TO_STOP = 4, 40
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=24)
LARGEST_PAYLOAD_BYTES = 25 * 1024 * 1024
HOOKS_MAX = 100


class Hook(msgspec.Struct, kw_only=True):
    """A hook of a project."""

    id: int
    project: Any
    url: str
    token: str = ""
    signing_token: str = ""
    merge_requests_events: bool = False
    note_events: bool = False
    confidential_note_events: bool = False
    pipeline_events: bool = False
    deployment_events: bool = False
    push_events: bool = True
    enable_ssl_verification: bool = True
    failures: int = 0
    """In a row."""
    pauses: int = 0
    disabled_until: datetime | None = None

    def status(self, now: datetime) -> str:
        """As `alert_status` says it."""
        if self.failures >= FAILURES_TO_STOP:
            return "disabled"
        if self.disabled_until is not None and now < self.disabled_until:
            return "temporarily_disabled"
        return "executable"


_SETTABLE: Final = frozenset(
    {
        "url", "token", "signing_token", "merge_requests_events", "note_events", "confidential_note_events",
        "pipeline_events", "deployment_events", "push_events", "enable_ssl_verification",
    }
)  # fmt: skip


class SimulatedHooks:
    """The hooks of one simulated GitLab.

    Args:
        simulator: whose users' changes are told; its lock guards the hooks too.
        seed: of what happens on the way.
        asked_project: the project that a path names.
        page: the page of a listing that is asked for.
    """

    def __init__(
        self,
        simulator: GitLabSimulator,
        seed: int,
        asked_project: Callable[[Request], Project],
        page: Callable[[Request, list[bytes]], Answer],
    ) -> None:
        self.hooks: dict[int, Hook] = {}
        self.signs = True
        """False: a server before 19, which knows no signing token and sends the secret token along."""
        self.may_manage = True
        """False: the token's account is no Maintainer."""
        self._next_id = 9_001
        self._simulator = simulator
        self._asked_project = asked_project
        self._page = page
        self.sender = Sender(seed)
        observe(simulator, ACTIONS, self._tell)

    # --- over the API

    def routes(self) -> list[Route]:
        """The endpoints of hooks."""
        hooks = "/api/v4/projects/{id}/hooks"
        paging = frozenset({"page", "per_page"})
        return [
            Route("GET", hooks, self._list, paging),
            Route("POST", hooks, self._add),
            Route("GET", hooks + "/{hook}", self._get),
            Route("PUT", hooks + "/{hook}", self._change),
            Route("DELETE", hooks + "/{hook}", self._remove),
            *self.sender.routes(),
        ]

    def _project(self, request: Request) -> Project:
        project = self._asked_project(request)
        if not self.may_manage:
            raise RefusalError(json_answer({"message": "403 Forbidden"}, 403))
        return project

    def _list(self, request: Request) -> Answer:
        project = self._project(request)
        rows = [self._shown(hook) for hook in self.hooks.values() if hook.project is project]
        return self._page(request, [msgspec.json.encode(row) for row in rows])

    def _asked(self, request: Request) -> Hook:
        project, number = self._project(request), request.captured[1]
        hook = self.hooks.get(int(number)) if number.isdigit() else None
        if hook is None or hook.project is not project:
            raise RefusalError(json_answer({"message": "404 Not found"}, 404))
        return hook

    def _get(self, request: Request) -> Answer:
        return json_answer(self._shown(self._asked(request)))

    def _add(self, request: Request) -> Answer:
        project = self._project(request)
        settings = self._settings(request)
        if sum(hook.project is project for hook in self.hooks.values()) >= HOOKS_MAX:
            raise RefusalError(json_answer({"message": "Maximum number of project webhooks (100) exceeded"}, 422))
        hook = Hook(id=self._next_id, project=project, **settings)
        self._next_id += 1
        self.hooks[hook.id] = hook
        return json_answer(self._shown(hook), 201)

    def _change(self, request: Request) -> Answer:
        hook = self._asked(request)
        for name, value in self._settings(request).items():
            setattr(hook, name, value)
        return json_answer(self._shown(hook))

    def _remove(self, request: Request) -> Answer:
        del self.hooks[self._asked(request).id]
        return Answer(204, b"")

    def _settings(self, request: Request) -> dict[str, Any]:
        given = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        if not str(given.get("url", "")).startswith(("http://", "https://")):
            raise RefusalError(json_answer({"error": "Invalid url given"}, 422))
        if not self.signs:
            given.pop("signing_token", None)
        key = standard_key(str(given["signing_token"])) if given.get("signing_token") else b"x" * 32
        if key is None or len(key) != 32:
            raise RefusalError(json_answer({"message": {"signing_token": ["is invalid"]}}, 422))
        return {name: value for name, value in given.items() if name in _SETTABLE}  # others are ignored, as by Grape

    def _shown(self, hook: Hook) -> dict[str, Any]:
        """As the API shows it: never a secret, only whether there is one."""
        signing = {"signing_token_present": bool(hook.signing_token)} if self.signs else {}
        return {
            "id": hook.id,
            "url": hook.url,
            "created_at": "2026-01-01T00:00:00.000Z",
            "push_events": hook.push_events,
            "merge_requests_events": hook.merge_requests_events,
            "note_events": hook.note_events,
            "confidential_note_events": hook.confidential_note_events,
            "pipeline_events": hook.pipeline_events,
            "deployment_events": hook.deployment_events,
            "enable_ssl_verification": hook.enable_ssl_verification,
            "project_id": hook.project.id,
            "alert_status": hook.status(self._simulator.clock.now()),
            "disabled_until": hook.disabled_until.isoformat() if hook.disabled_until else None,
            "token_present": bool(hook.token),
            **signing,
        }

    # --- what is sent

    def _tell(self, change: Change) -> None:
        if not self.hooks:
            return
        iid = change.result if change.name == "create_merge_request" else change.arguments[0]
        merge_request = self._simulator.merge_request(iid, project=change.options.get("project"))
        if ACTIONS[change.name] == "note":
            note_id = change.result if change.name == "add_note" else change.arguments[1]
            note = next(each for each in merge_request.notes if each.id == note_id)
            self.announce(merge_request.project, "Note Hook", "note_events", self._note(merge_request, note))
            return
        payload = self._merge_request(merge_request, ACTIONS[change.name])
        self.announce(merge_request.project, "Merge Request Hook", "merge_requests_events", payload)

    def announce(self, project: Project, event: str, trigger: str, payload: dict[str, Any]) -> None:
        """Send an event to every hook of the project that wants it and is not disabled."""
        body = msgspec.json.encode(payload)
        if len(body) > LARGEST_PAYLOAD_BYTES:
            return  # GitLab does not send it
        now = self._simulator.clock.now()
        event_id = str(uuid.uuid4())
        for hook in list(self.hooks.values()):
            if hook.project is project and getattr(hook, trigger) and hook.status(now) == "executable":
                headers = self._headers(hook, event, event_id, body)
                self.sender.send(hook.url, headers, body, partial(self._answered, hook))

    def _headers(self, hook: Hook, event: str, event_id: str, body: bytes) -> dict[str, str]:
        key = str(uuid.uuid4())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"GitLab/{self._simulator.version}",
            "X-Gitlab-Instance": "https://gitlab.example.test",
            "X-Gitlab-Event": event,
            "X-Gitlab-Webhook-UUID": str(uuid.uuid4()),
            "X-Gitlab-Event-UUID": event_id,
            "Idempotency-Key": key,
        }
        if hook.token:
            headers["X-Gitlab-Token"] = hook.token
        if hook.signing_token:
            # Signed by the clock of the machine: the receiver compares it with its own.
            timestamp = str(int(datetime.now().astimezone().timestamp()))
            signature = standard_signature(standard_key(hook.signing_token) or b"", key, timestamp, body)
            headers |= {"webhook-id": key, "webhook-timestamp": timestamp, "webhook-signature": signature}
        return headers

    def _answered(self, hook: Hook, status: int | None) -> None:
        """Count failures in a row: after four it pauses, after forty it stops; nothing is sent again."""
        with self._simulator.lock:
            if status is not None and 200 <= status < 400:
                hook.failures, hook.pauses, hook.disabled_until = 0, 0, None
                return
            hook.failures += 1
            if hook.failures >= FAILURES_TO_PAUSE:
                hook.disabled_until = self._simulator.clock.now() + min(FIRST_PAUSE * 2**hook.pauses, LONGEST_PAUSE)
                hook.pauses = min(hook.pauses + 1, 20)

    def _person(self, person: Person | None) -> dict[str, Any] | None:
        if person is None:
            return None
        return {"id": person.id, "name": person.name, "username": person.username, "email": "[REDACTED]"}

    def _project_json(self, project: Project) -> dict[str, Any]:
        url = f"https://gitlab.example.test/{project.path}"
        return {
            "id": project.id, "name": project.name, "path_with_namespace": project.path, "web_url": url,
            "default_branch": "main", "visibility_level": 0,
        }  # fmt: skip

    def _attributes(self, merge_request: MergeRequest) -> dict[str, Any]:
        def at(moment: datetime) -> str:
            return moment.strftime("%Y-%m-%d %H:%M:%S UTC")

        head = merge_request.commits[-1] if merge_request.commits else None
        return {
            "id": merge_request.id,
            "iid": merge_request.iid,
            "title": merge_request.title,
            "description": merge_request.description,
            "state": merge_request.state,
            "draft": merge_request.is_draft,
            "created_at": at(merge_request.created_at),
            "updated_at": at(merge_request.updated_at),
            "source_branch": merge_request.source_branch,
            "target_branch": "main",
            "source_project_id": merge_request.source_project_id,
            "target_project_id": merge_request.project.id,
            "author_id": merge_request.author.id if merge_request.author else None,
            "merge_commit_sha": merge_request.merge_commit_sha,
            "last_commit": head and {"id": head.sha, "timestamp": head.committed_at.isoformat(), "title": head.title},
        }

    def _merge_request(self, merge_request: MergeRequest, action: str) -> dict[str, Any]:
        return {
            "object_kind": "merge_request",
            "event_type": "merge_request",
            "user": self._person(merge_request.author),
            "project": self._project_json(merge_request.project),
            "object_attributes": self._attributes(merge_request) | {"action": action},
            "labels": [{"title": label} for label in merge_request.labels],
            "changes": {},
            "assignees": [],
            "reviewers": [],
        }

    def _note(self, merge_request: MergeRequest, note: Note) -> dict[str, Any]:
        return {
            "object_kind": "note",
            "event_type": "note",
            "user": self._person(note.person),
            "project_id": merge_request.project.id,
            "project": self._project_json(merge_request.project),
            "object_attributes": {
                "id": note.id,
                "note": note.body,
                "noteable_type": "MergeRequest",
                "noteable_id": merge_request.id,
                "system": note.is_system,
                "author_id": note.person.id,
                "action": "create",
            },
            "merge_request": self._attributes(merge_request),
        }
