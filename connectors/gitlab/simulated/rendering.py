"""How a simulated GitLab looks over HTTP: JSON as the real one renders it, each thing once until it changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from connectors.gitlab.simulated.model import Commit, Event, MergeRequest, Note, Person, Project, StateEvent
from connectors.simulator import Answer, json_answer

WEB_URL = "https://gitlab.example.test"
"""What stands in links inside payloads; the API's own links name the host that was asked."""


def ms(at: datetime | None) -> str | None:
    """As GitLab renders times: UTC, three digits, the rest cut off."""
    return None if at is None else at.isoformat(timespec="milliseconds")[:-6] + "Z"


def person_json(person: Person) -> dict[str, Any]:
    """An account as it stands inside other things."""
    return {
        "id": person.id,
        "username": person.username,
        "public_email": None,
        "name": person.name,
        "state": person.state,
        "locked": False,
        "avatar_url": f"{WEB_URL}/uploads/-/system/user/avatar/{person.id}/avatar.png",
        "web_url": f"{WEB_URL}/{person.username}",
    }


def project_json(project: Project) -> dict[str, Any]:
    """A project."""
    namespace, _, path = project.path.rpartition("/")
    return {
        "id": project.id,
        "description": None,
        "name": project.name,
        "name_with_namespace": f"{namespace} / {project.name}",
        "path": path,
        "path_with_namespace": project.path,
        "created_at": ms(project.created_at),
        "default_branch": "main",
        "web_url": f"{WEB_URL}/{project.path}",
        "http_url_to_repo": f"{WEB_URL}/{project.path}.git",
        "namespace": {"id": 7, "name": namespace, "path": namespace, "kind": "group", "full_path": namespace},
        "visibility": "private",
        "archived": False,
        "empty_repo": False,
        "issues_enabled": True,
        "merge_requests_enabled": True,
        "merge_method": "merge",
        "squash_option": "default_off",
        "forks_count": 1,
        "star_count": 0,
    }


def _state_event_json(merge_request: MergeRequest, event: StateEvent, person: msgspec.Raw) -> dict[str, Any]:
    return {
        "id": event.id,
        "user": person,
        "created_at": ms(event.at),
        "resource_type": "MergeRequest",
        "resource_id": merge_request.id,
        "source_commit": None,
        "source_merge_request_id": None,
        "state": event.state,
    }


def _commit_json(project: Project, commit: Commit) -> dict[str, Any]:
    committed = commit.committed_at.isoformat(timespec="milliseconds")
    return {
        "id": commit.sha,
        "short_id": commit.sha[:8],
        "created_at": committed,
        "parent_ids": [],
        "title": commit.title,
        "message": commit.title + "\n",
        "author_name": commit.person.name,
        "author_email": commit.person.email,
        "authored_date": commit.authored_at.isoformat(timespec="milliseconds"),
        "committer_name": commit.person.name,
        "committer_email": commit.person.email,
        "committed_date": committed,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{WEB_URL}/{project.path}/-/commit/{commit.sha}",
    }


def error_json(message: str) -> Answer:
    """An error whose message begins with its status."""
    return json_answer({"message": message}, int(message[:3]))


class Renderer:
    """Renders each merge request and its parts once until it changes.

    Args:
        has_approval_times: False leaves `approved_at` out, as older servers do.
    """

    def __init__(self, *, has_approval_times: bool) -> None:
        self._has_approval_times = has_approval_times
        self._person_raw: dict[int, msgspec.Raw] = {}

    def forget_person(self, person_id: int) -> None:
        """Have an account rendered anew."""
        self._person_raw.pop(person_id, None)

    def person(self, person: Person) -> msgspec.Raw:
        """An account, rendered."""
        raw = self._person_raw.get(person.id)
        if raw is None:
            raw = self._person_raw[person.id] = msgspec.Raw(msgspec.json.encode(person_json(person)))
        return raw

    def person_or_none(self, person: Person | None) -> msgspec.Raw | None:
        """An account, rendered, where there is one."""
        return None if person is None else self.person(person)

    def sub_items(self, merge_request: MergeRequest, kind: str) -> list[bytes]:
        """All rows of a part of a merge request, rendered."""
        items: list[bytes] | None = merge_request.rendered.get(kind)
        if items is None:
            items = merge_request.rendered[kind] = SUB_RENDERERS[kind](self, merge_request)
        return items

    def render_commits(self, merge_request: MergeRequest) -> list[bytes]:
        """The commits, newest first."""
        project = merge_request.project
        return [msgspec.json.encode(_commit_json(project, commit)) for commit in reversed(merge_request.commits)]

    def render_state_events(self, merge_request: MergeRequest) -> list[bytes]:
        """The state events, oldest first."""
        return [
            msgspec.json.encode(_state_event_json(merge_request, event, self.person(event.person)))
            for event in merge_request.state_events
        ]

    def render_notes(self, merge_request: MergeRequest, order_by: str, *, is_descending: bool) -> list[bytes]:
        """The notes in one of four orders."""
        notes = sorted(merge_request.notes, key=attrgetter(order_by, "id"), reverse=is_descending)
        return [msgspec.json.encode(self._note_json(merge_request, note)) for note in notes]

    def _note_json(self, merge_request: MergeRequest, note: Note) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": note.id,
            "type": note.kind,
            "body": note.body,
            "author": self.person(note.person),
            "created_at": ms(note.created_at),
            "updated_at": ms(note.updated_at),
            "system": note.is_system,
            "noteable_id": merge_request.id,
            "noteable_type": "MergeRequest",
            "project_id": merge_request.project.id,
            "resolvable": note.kind is not None,
            "confidential": False,
            "internal": False,
            "imported": False,
            "imported_from": "none",
            "noteable_iid": merge_request.iid,
            "commands_changes": {},
        }
        if note.kind is not None:
            row |= {"resolved": True, "resolved_by": self.person(note.person), "resolved_at": ms(note.updated_at)}
        return row

    def approvals_body(self, merge_request: MergeRequest) -> bytes:
        """The approvals of a merge request, rendered."""
        body: bytes | None = merge_request.rendered.get("approvals")
        if body is None:
            approved_by: list[dict[str, Any]] = [
                {"user": self.person(approval.person)}
                | ({"approved_at": ms(approval.at)} if self._has_approval_times else {})
                for approval in merge_request.standing.values()
            ]
            body = merge_request.rendered["approvals"] = msgspec.json.encode(
                {
                    "user_has_approved": False,
                    "user_can_approve": True,
                    "approved": bool(approved_by),
                    "approved_by": approved_by,
                }
            )
        return body

    def event_json(self, project: Project, event: Event) -> dict[str, Any]:
        """A line of the activity feed."""
        row: dict[str, Any] = {
            "id": event.id,
            "project_id": project.id,
            "action_name": event.action,
            "target_id": event.target_id,
            "target_iid": event.target_iid,
            "target_type": event.target_type,
            "author_id": event.person.id,
            "target_title": event.title,
            "created_at": ms(event.at),
            "author": self.person(event.person),
            "imported": False,
            "imported_from": "none",
            "author_username": event.person.username,
        }
        if event.push is not None:
            row["push_data"] = event.push
        if event.note is not None:
            row["note"] = {
                "id": event.note.id,
                "type": event.note.kind,
                "body": event.note.body,
                "author": self.person(event.note.person),
                "created_at": ms(event.note.created_at),
                "system": False,
            }
        return row

    def row(self, merge_request: MergeRequest) -> bytes:
        """A merge request as listings show it, rendered."""
        row: bytes | None = merge_request.rendered.get("row")
        if row is None:
            row = merge_request.rendered["row"] = msgspec.json.encode(self._row_json(merge_request))
        return row

    def _row_json(self, merge_request: MergeRequest) -> dict[str, Any]:
        project = merge_request.project
        has_metrics = merge_request.has_metrics
        merged_by = self.person_or_none(merge_request.merged_by if has_metrics else None)
        return {
            "id": merge_request.id,
            "iid": merge_request.iid,
            "project_id": project.id,
            "title": merge_request.title,
            "description": merge_request.description,
            "state": merge_request.state,
            "created_at": ms(merge_request.created_at),
            "updated_at": ms(merge_request.updated_at),
            "merged_by": merged_by,
            "merge_user": merged_by,
            "merged_at": ms(merge_request.merged_at) if has_metrics else None,
            "merge_after": None,
            "prepared_at": ms(merge_request.created_at),
            "closed_by": self.person_or_none(merge_request.closed_by if has_metrics else None),
            "closed_at": ms(merge_request.closed_at) if has_metrics else None,
            "target_branch": "main",
            "source_branch": merge_request.source_branch,
            "user_notes_count": sum(not note.is_system for note in merge_request.notes),
            "upvotes": 0,
            "downvotes": 0,
            "author": self.person_or_none(merge_request.author),
            "assignees": [self.person(merge_request.author)] if merge_request.author else [],
            "assignee": self.person_or_none(merge_request.author),
            "reviewers": [self.person(review.person) for review in merge_request.reviews.values()],
            "source_project_id": merge_request.source_project_id,
            "target_project_id": project.id,
            "labels": merge_request.labels,
            "draft": merge_request.is_draft,
            "work_in_progress": merge_request.is_draft,
            "imported": not has_metrics,
            "imported_from": "none" if has_metrics else "github",
            "milestone": None,
            "merge_when_pipeline_succeeds": False,
            "merge_status": "can_be_merged",
            "detailed_merge_status": "mergeable" if merge_request.state == "opened" else "not_open",
            "sha": merge_request.commits[-1].sha if merge_request.commits else None,
            "merge_commit_sha": merge_request.merge_commit_sha,
            "squash_commit_sha": merge_request.squash_commit_sha,
            "discussion_locked": None,
            "should_remove_source_branch": None,
            "force_remove_source_branch": True,
            "reference": f"!{merge_request.iid}",
            "references": {
                "short": f"!{merge_request.iid}",
                "relative": f"!{merge_request.iid}",
                "full": f"{project.path}!{merge_request.iid}",
            },
            "web_url": f"{WEB_URL}/{project.path}/-/merge_requests/{merge_request.iid}",
            "time_stats": {
                "time_estimate": 0,
                "total_time_spent": 0,
                "human_time_estimate": None,
                "human_total_time_spent": None,
            },
            "squash": merge_request.is_squashed,
            "squash_on_merge": merge_request.is_squashed,
            "task_completion_status": {"count": 0, "completed_count": 0},
            "has_conflicts": False,
            "blocking_discussions_resolved": True,
            "approvals_before_merge": None,
        }


SUB_RENDERERS: dict[str, Callable[[Renderer, MergeRequest], list[bytes]]] = {
    "commits": Renderer.render_commits,
    "state_events": Renderer.render_state_events,
    **{
        f"notes:{order_by}:{sort}": partial(Renderer.render_notes, order_by=order_by, is_descending=sort == "desc")
        for order_by in ("created_at", "updated_at")
        for sort in ("asc", "desc")
    },
}
