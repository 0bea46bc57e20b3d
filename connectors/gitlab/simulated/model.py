"""What a simulated GitLab knows of people, projects and merge requests: shapes only.

What happens to them stands in `world.py`, how they look over HTTP in `rendering.py`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal

import msgspec

from connectors.simulator import TimeIndex

TOKEN_USER_ID, GHOST_ID, RENOVATE_ID = 10, 11, 12
PROJECT_BOTS_FROM_ID, HUMANS_FROM_ID = 1_000, 2_000
FIRST_PROJECT_ID = 101

State = Literal["opened", "closed", "locked", "merged"]
MergeMethod = Literal["merge", "squash", "ff", "rebase"]


class Person(msgspec.Struct, kw_only=True):
    """An account, of a human or of a robot."""

    id: int
    username: str
    name: str
    state: str = "active"
    is_bot: bool = False
    utc_offset_hours: int = 0

    @property
    def email(self) -> str:
        """The address in commits."""
        return f"{self.username}@example.test"


class Commit(msgspec.Struct, kw_only=True):
    """A commit of a merge request; its times carry the author's offset."""

    sha: str
    parent_sha: str
    title: str
    person: Person
    authored_at: datetime
    committed_at: datetime


class Note(msgspec.Struct, kw_only=True):
    """A comment, or a line that GitLab wrote."""

    id: int
    body: str
    person: Person
    created_at: datetime
    updated_at: datetime
    is_system: bool
    kind: str | None


class StateEvent(msgspec.Struct, kw_only=True):
    """One change of state: closed, reopened or merged."""

    id: int
    state: str
    person: Person
    at: datetime


class Approval(msgspec.Struct, kw_only=True):
    """One act of approving or of taking it back."""

    person: Person
    at: datetime
    action: str
    """`approved`, `unapproved` or `reset`."""


class Review(msgspec.Struct, kw_only=True):
    """Where a requested reviewer stands."""

    person: Person
    state: str
    at: datetime


class MergeRequest(msgspec.Struct, kw_only=True, eq=False):
    """A merge request with everything that happened to it."""

    id: int
    iid: int
    project: Project
    title: str
    description: str
    author: Person | None
    created_at: datetime
    updated_at: datetime
    source_branch: str
    state: State = "opened"
    is_draft: bool = False
    source_project_id: int | None = None
    labels: list[str] = []
    merged_at: datetime | None = None
    merged_by: Person | None = None
    closed_at: datetime | None = None
    closed_by: Person | None = None
    has_metrics: bool = True
    """False for imported ones: the times and people of merging and closing are lost."""
    has_state_events: bool = True
    is_squashed: bool = False
    merge_commit_sha: str | None = None
    squash_commit_sha: str | None = None
    changes_count: str = "1"
    commits: list[Commit] = []
    notes: list[Note] = []
    state_events: list[StateEvent] = []
    approvals: list[Approval] = []
    standing: dict[int, Approval] = {}
    reviews: dict[int, Review] = {}
    ready_at: datetime | None = None
    rendered: dict[str, Any] = {}


class Event(msgspec.Struct, kw_only=True):
    """A line of a project's activity feed."""

    id: int
    action: str
    person: Person
    at: datetime
    target_type: str | None = None
    target_id: int | None = None
    target_iid: int | None = None
    title: str | None = None
    push: dict[str, Any] | None = None
    note: Note | None = None


class Project(msgspec.Struct, kw_only=True, eq=False):
    """A project and the orders in which its merge requests are listed."""

    id: int
    name: str
    path: str
    created_at: datetime
    is_hidden: bool = False
    old_paths: set[str] = set()
    by_iid: dict[int, MergeRequest] = {}
    by_id: dict[int, MergeRequest] = {}
    by_updated: TimeIndex = msgspec.field(default_factory=TimeIndex)
    by_created: TimeIndex = msgspec.field(default_factory=TimeIndex)
    events: dict[str, list[Event]] = {}
    """By the name that the API's `action` filter has; all of them under the empty name. In order of time."""
    next_iid: int = 1


class ExpectedMergeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete sync must know of one merge request, from the model itself and not from its JSON."""

    id: int
    iid: int
    project_id: int
    project_path: str
    title: str
    state: str
    draft: bool
    author_id: int | None
    author_username: str | None
    source_project_id: int | None
    created_at: datetime
    """To the microsecond, as the database has it; the API shows milliseconds, cut off."""
    updated_at: datetime
    merged_at: datetime | None
    """When it really was merged, even where the API lost the time."""
    merged_at_shown: datetime | None
    merged_by_id: int | None
    closed_at: datetime | None
    ready_at: datetime | None
    """The first instant it was no draft."""
    sha: str | None
    merge_commit_sha: str | None
    squash_commit_sha: str | None
    commit_shas: tuple[str, ...]
    """Newest first."""
    first_commit_at: datetime | None
    """The earliest authored time, with its offset."""
    human_note_ids: tuple[int, ...]
    system_note_ids: tuple[int, ...]
    first_review_at: datetime | None
    """The first comment, approval or request for changes by a human who is not its author."""
    approvals: tuple[tuple[int, datetime, str], ...]
    """Every approval and its undoing: account id, time, `approved`, `unapproved` or `reset`."""
    standing_approvals: tuple[tuple[int, datetime], ...]
    state_events: tuple[tuple[int, str, datetime], ...]


def sha(*names: object) -> str:
    """What looks like a commit's id, the same for the same names."""
    return hashlib.sha1(":".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


EVENT_AT = attrgetter("at")


def expect(merge_request: MergeRequest) -> ExpectedMergeRequest:
    """What a complete sync must know of a merge request."""
    author = merge_request.author
    people = [note.person for note in merge_request.notes]
    reviews = [
        (note.created_at, person)
        for note, person in zip(merge_request.notes, people, strict=True)
        if not note.is_system or note.body in ("approved this merge request", "requested changes")
    ]
    first_review_at = min(
        (at for at, person in reviews if person is not author and person.id > HUMANS_FROM_ID), default=None
    )
    commits = merge_request.commits
    return ExpectedMergeRequest(
        id=merge_request.id,
        iid=merge_request.iid,
        project_id=merge_request.project.id,
        project_path=merge_request.project.path,
        title=merge_request.title,
        state=merge_request.state,
        draft=merge_request.is_draft,
        author_id=author.id if author else None,
        author_username=author.username if author else None,
        source_project_id=merge_request.source_project_id,
        created_at=merge_request.created_at,
        updated_at=merge_request.updated_at,
        merged_at=merge_request.merged_at,
        merged_at_shown=merge_request.merged_at if merge_request.has_metrics else None,
        merged_by_id=merge_request.merged_by.id if merge_request.merged_by else None,
        closed_at=merge_request.closed_at,
        ready_at=merge_request.ready_at,
        sha=commits[-1].sha if commits else None,
        merge_commit_sha=merge_request.merge_commit_sha,
        squash_commit_sha=merge_request.squash_commit_sha,
        commit_shas=tuple(commit.sha for commit in reversed(commits)),
        first_commit_at=min((commit.authored_at for commit in commits), default=None),
        human_note_ids=tuple(note.id for note in merge_request.notes if not note.is_system),
        system_note_ids=tuple(note.id for note in merge_request.notes if note.is_system),
        first_review_at=first_review_at,
        approvals=tuple((approval.person.id, approval.at, approval.action) for approval in merge_request.approvals),
        standing_approvals=tuple((approval.person.id, approval.at) for approval in merge_request.standing.values()),
        state_events=tuple((event.id, event.state, event.at) for event in merge_request.state_events),
    )
