"""What a simulated GitLab holds: people, projects, and merge requests with two years of history.

Here belongs what is true in it and what its users do, each at a time that is given, so that the generated past is made
by the same rules as the present. How it looks over HTTP stands in `simulator.py`.
"""

from __future__ import annotations

import hashlib
import random
from bisect import insort
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal

import msgspec

from connectors.simulator import HUMANS, TimeIndex, dice, working_times

TOUCH_INTERVAL = timedelta(minutes=1)
"""A touch (by a note or an approval) is ignored while `updated_at` is younger than this."""

TOKEN_USER_ID, GHOST_ID, RENOVATE_ID = 10, 11, 12
PROJECT_BOTS_FROM_ID, HUMANS_FROM_ID = 1_000, 2_000
FIRST_PROJECT_ID = 101

State = Literal["opened", "closed", "locked", "merged"]
MergeMethod = Literal["merge", "squash", "ff", "rebase"]


# --- the model --------------------------------------------------------------------------------------------------------


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


# --- what happens in it -----------------------------------------------------------------------------------------------


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


class World:
    """People, projects and what happens to merge requests. Every happening takes its time as an argument, so that the
    generated past is made by the same rules as the present.
    """  # noqa: D205

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.people: dict[int, Person] = {}
        self.humans: list[Person] = []
        self.projects: dict[int, Project] = {}
        self._next_ids = {"merge_request": 35_000_001, "note": 208_000_001, "event": 0, "state_event": 91_000_001}
        self._is_past = True

    def project(self, wanted: int | str | None) -> Project:
        """A project by id or path; the first one where nothing is wanted."""
        if wanted is None:
            return next(iter(self.projects.values()))
        if isinstance(wanted, int) or wanted.isdigit():
            return self.projects[int(wanted)]
        return next(project for project in self.projects.values() if project.path == wanted)

    def end_past(self) -> None:
        """Sort what has been generated; from now on every happening keeps the orders itself."""
        homes = list(self.projects.values())
        for project in homes:
            rows = project.by_id.values()
            project.by_updated = TimeIndex((row.updated_at, row.id) for row in rows)
            project.by_created = TimeIndex((row.created_at, row.id) for row in rows)
            for events in project.events.values():
                events.sort(key=EVENT_AT)
        events = sorted((event for project in homes for event in project.events.get("", [])), key=EVENT_AT)
        for number, event in enumerate(events, 5_000_000):
            event.id = number
        self._next_ids["event"] = 5_000_000 + len(events)
        self._is_past = False

    def edit_in_bulk(self, merge_requests: Iterable[MergeRequest], label: str, at: datetime) -> None:
        """Label many at once: they all get the same `updated_at`."""
        for merge_request in merge_requests:
            merge_request.labels = [*merge_request.labels, label]
            self.save(merge_request, at)

    def forget_rendered(self) -> None:
        """Have everything rendered anew, because a name has changed."""
        for project in self.projects.values():
            for merge_request in project.by_id.values():
                merge_request.rendered = {}

    def delete(self, merge_request: MergeRequest) -> None:
        """Delete without a trace."""
        project = merge_request.project
        del project.by_iid[merge_request.iid]
        del project.by_id[merge_request.id]
        project.by_updated.discard(merge_request.updated_at, merge_request.id)
        project.by_created.discard(merge_request.created_at, merge_request.id)

    def _id(self, kind: str) -> int:
        number = self._next_ids[kind]
        self._next_ids[kind] += 1
        return number

    def any_iid(self, project: Project, rng: random.Random) -> int:
        """A merge request's number, any."""
        while True:
            iid = rng.randrange(1, project.next_iid)
            if iid in project.by_iid:
                return iid

    def reviewer(self, merge_request: MergeRequest, wanted: int | None) -> Person:
        """The account wanted, else a human who is not the author."""
        if wanted is not None:
            return self.people[wanted]
        others = [person for person in self.humans if person is not merge_request.author]
        return others[merge_request.iid % len(others)]

    def save(self, merge_request: MergeRequest, at: datetime) -> None:
        """Note a save: `updated_at` always moves."""
        merge_request.rendered = {}
        if not self._is_past:
            index = merge_request.project.by_updated
            index.discard(merge_request.updated_at, merge_request.id)
            index.add(at, merge_request.id)
        merge_request.updated_at = at

    def touch(self, merge_request: MergeRequest, at: datetime) -> None:
        """Note a touch: `updated_at` moves only if it is a minute old."""
        if at - merge_request.updated_at >= TOUCH_INTERVAL:
            self.save(merge_request, at)
        else:
            merge_request.rendered = {}

    def open(self, project: Project, author: Person | None, title: str, description: str, at: datetime) -> MergeRequest:
        """Open a merge request, without commits as yet."""
        iid = project.next_iid
        project.next_iid += 1
        merge_request = MergeRequest(
            id=self._id("merge_request"),
            iid=iid,
            project=project,
            title=title,
            description=description,
            author=author,
            created_at=at,
            updated_at=at,
            source_branch=f"change-{iid}",
            source_project_id=project.id,
            is_draft=title.startswith("Draft: "),
            ready_at=None if title.startswith("Draft: ") else at,
        )
        project.by_iid[iid] = project.by_id[merge_request.id] = merge_request
        if not self._is_past:
            project.by_updated.add(at, merge_request.id)
            project.by_created.add(at, merge_request.id)
        self._record(merge_request, "created", "opened", author or self.people[GHOST_ID], at)
        return merge_request

    def note(
        self,
        merge_request: MergeRequest,
        person: Person,
        body: str,
        at: datetime,
        *,
        is_system: bool = False,
        kind: str | None = None,
    ) -> Note:
        """Write a note: a touch."""
        note = Note(
            id=self._id("note"), body=body, person=person, created_at=at, updated_at=at, is_system=is_system, kind=kind
        )
        merge_request.notes.append(note)
        self.touch(merge_request, at)
        if not is_system:
            self._record(merge_request, "commented", "commented on", person, at, note=note)
        return note

    def system_note(self, merge_request: MergeRequest, person: Person, body: str, at: datetime) -> None:
        """Write a line that GitLab writes."""
        self.note(merge_request, person, body, at, is_system=True)

    def approve(self, merge_request: MergeRequest, person: Person, at: datetime) -> None:
        """Approve, unless this account's approval stands already."""
        if person.id in merge_request.standing:
            return
        approval = Approval(person=person, at=at, action="approved")
        merge_request.approvals.append(approval)
        merge_request.standing[person.id] = approval
        self._review(merge_request, person, "approved", at)
        self.system_note(merge_request, person, "approved this merge request", at)
        self._record(merge_request, "approved", "approved", person, at)

    def unapprove(self, merge_request: MergeRequest, person: Person, at: datetime) -> None:
        """Take an approval back, where it stands."""
        if merge_request.standing.pop(person.id, None) is None:
            return
        merge_request.approvals.append(Approval(person=person, at=at, action="unapproved"))
        self._review(merge_request, person, "unapproved", at)
        self.system_note(merge_request, person, "unapproved this merge request", at)

    def request_changes(self, merge_request: MergeRequest, person: Person, at: datetime) -> None:
        """Ask for changes."""
        self._review(merge_request, person, "requested_changes", at)
        self.system_note(merge_request, person, "requested changes", at)

    def _review(self, merge_request: MergeRequest, person: Person, state: str, at: datetime) -> None:
        merge_request.reviews[person.id] = Review(person=person, state=state, at=at)

    def push(
        self, merge_request: MergeRequest, count: int, at: datetime, *, is_rebase: bool = False, is_first: bool = False
    ) -> None:
        """Push commits, or all of them again as a rebase; standing approvals are reset."""
        author = merge_request.author or self.people[GHOST_ID]
        commits = merge_request.commits
        zone = timezone(timedelta(hours=author.utc_offset_hours))
        local = at.astimezone(zone).replace(microsecond=0)
        before = commits[-1].sha if commits else sha(merge_request.id, "base")
        if is_rebase:
            for position, commit in enumerate(commits):
                commit.sha = sha(commit.sha, "rebased", at)
                commit.parent_sha = commits[position - 1].sha if position else sha(merge_request.id, "base", at)
                commit.committed_at = local
            count = len(commits)
        else:
            for position in range(count):
                parent = commits[-1].sha if commits else before
                moment = local - timedelta(minutes=7 * (count - 1 - position))
                commits.append(
                    Commit(
                        sha=sha(self.seed, merge_request.id, len(commits), parent),
                        parent_sha=parent,
                        title=merge_request.title.removeprefix("Draft: ")[:72],
                        person=author,
                        authored_at=moment,
                        committed_at=moment,
                    )
                )
        self._record_push(merge_request, author, at, count, before, is_new=is_first)
        if is_first:
            return
        self.save(merge_request, at)
        words = "1 commit" if count == 1 else f"{count} commits"
        listed = "".join(f"<li>{commit.sha[:8]} - {commit.title}</li>" for commit in commits[-count:])
        self.system_note(
            merge_request, author, f"added {words}\n\n<ul>{listed}</ul>\n\n[Compare with previous version]", at
        )
        self._reset_approvals(merge_request, author, at)

    def _reset_approvals(self, merge_request: MergeRequest, author: Person, at: datetime) -> None:
        if not merge_request.standing:
            return
        names = [f"@{approval.person.username}" for approval in merge_request.standing.values()]
        for approval in merge_request.standing.values():
            merge_request.approvals.append(Approval(person=approval.person, at=at, action="reset"))
            self._review(merge_request, approval.person, "unreviewed", at)
        merge_request.standing = {}
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        self.system_note(merge_request, author, f"reset approvals from {listed} by pushing to the branch", at)

    def merge(self, merge_request: MergeRequest, person: Person, at: datetime, method: MergeMethod) -> None:
        """Merge; by fast-forward and rebase there is no merge commit."""
        if method == "rebase":
            self.push(merge_request, 0, at - timedelta(seconds=30), is_rebase=True)
        merge_request.state = "merged"
        merge_request.merged_at, merge_request.merged_by = at, person
        merge_request.is_squashed = method == "squash"
        if method == "squash":
            merge_request.squash_commit_sha = sha(merge_request.id, "squash")
        if method in ("merge", "squash"):
            merge_request.merge_commit_sha = sha(merge_request.id, "merge")
        self._state_event(merge_request, "merged", person, at)
        self.save(merge_request, at)
        if merge_request.merge_commit_sha and merge_request.has_metrics:
            self.system_note(merge_request, person, f"mentioned in commit {merge_request.merge_commit_sha}", at)
        self._record(merge_request, "merged", "accepted", person, at)

    def close(self, merge_request: MergeRequest, person: Person, at: datetime) -> None:
        """Close without merging."""
        merge_request.state = "closed"
        merge_request.closed_at, merge_request.closed_by = at, person
        self._state_event(merge_request, "closed", person, at)
        self.save(merge_request, at)
        self._record(merge_request, "closed", "closed", person, at)

    def reopen(self, merge_request: MergeRequest, person: Person, at: datetime) -> None:
        """Open again."""
        merge_request.state = "opened"
        if merge_request.iid % 2:
            # Whether an earlier closing stays visible differs between versions: both occur here.
            merge_request.closed_at = merge_request.closed_by = None
        self._state_event(merge_request, "reopened", person, at)
        self.save(merge_request, at)
        self._record(merge_request, "reopened", "reopened", person, at)

    def _state_event(self, merge_request: MergeRequest, state: str, person: Person, at: datetime) -> None:
        if merge_request.has_state_events:
            event = StateEvent(id=self._id("state_event"), state=state, person=person, at=at)
            merge_request.state_events.append(event)

    def mark_draft(self, merge_request: MergeRequest, at: datetime, *, is_draft: bool) -> None:
        """Begin or end the draft."""
        if merge_request.is_draft == is_draft:
            return
        merge_request.is_draft = is_draft
        bare = merge_request.title.removeprefix("Draft: ")
        merge_request.title = f"Draft: {bare}" if is_draft else bare
        if not is_draft and merge_request.ready_at is None:
            merge_request.ready_at = at
        self.save(merge_request, at)
        word = "draft" if is_draft else "ready"
        author = merge_request.author or self.people[GHOST_ID]
        self.system_note(merge_request, author, f"marked this merge request as **{word}**", at)

    def _record(
        self,
        merge_request: MergeRequest,
        name: str,
        action: str,
        person: Person,
        at: datetime,
        *,
        note: Note | None = None,
    ) -> None:
        target: dict[str, Any] = {
            "target_type": "MergeRequest",
            "target_id": merge_request.id,
            "target_iid": merge_request.iid,
        }
        if note is not None:
            target = {"target_type": note.kind or "Note", "target_id": note.id, "target_iid": note.id, "note": note}
        event = Event(id=self._id("event"), action=action, person=person, at=at, title=merge_request.title, **target)
        self._file_event(merge_request.project, name, event)

    def _record_push(
        self, merge_request: MergeRequest, person: Person, at: datetime, count: int, before: str, *, is_new: bool
    ) -> None:
        push = {
            "commit_count": count,
            "action": "created" if is_new else "pushed",
            "ref_type": "branch",
            "commit_from": None if is_new else before,
            "commit_to": merge_request.commits[-1].sha if merge_request.commits else None,
            "ref": merge_request.source_branch,
            "commit_title": merge_request.title[:70],
            "ref_count": None,
        }
        action = "pushed new" if is_new else "pushed to"
        event = Event(id=self._id("event"), action=action, person=person, at=at, push=push)
        self._file_event(merge_request.project, "pushed", event)

    def _file_event(self, project: Project, name: str, event: Event) -> None:
        for filed_under in ("", name):
            events = project.events.setdefault(filed_under, [])
            if self._is_past or not events or events[-1].at <= event.at:
                events.append(event)
            else:
                insort(events, event, key=EVENT_AT)


# --- a believable past ------------------------------------------------------------------------------------------------

_VERBS = (
    "Add",
    "Fix",
    "Remove",
    "Rework",
    "Speed up",
    "Document",
    "Test",
    "Rename",
    "Validate",
    "Retry",
    "Cache",
    "Split",
)
_THINGS = (
    "the refund webhook", "currency rounding", "session expiry", "the search index", "flaky checkout test",
    "invoice export", "rate limits", "the login page", "address validation", "order history", "the nightly import",
    "feature flags", "stock reservations", "e-mail templates", "the audit trail", "GraphQL pagination",
)  # fmt: skip
_REASONS = ("for guests", "on slow networks", "when the basket is empty", "in the admin area", "behind the proxy", "")
_COMMENTS = (
    "Could you add a test for the empty case?", "Looks good to me.", "Why not reuse the existing helper here?",
    "nit: naming", "This will lock the table, will it not?", "Done, please have another look.", "👍", "Thanks!",
    "I think that the error message should say which file.", "Can we split this?", "Rebased on main.",
    "Wie verhält sich das bei leeren Listen?", "I do not understand this branch.",
)  # fmt: skip
_LABELS = ("backend", "frontend", "bug", "tech-debt", "security", "priority::1", "priority::2", "needs docs")
_PROJECT_NAMES = ("Payments", "Storefront", "Warehouse", "Identity", "Mobile App", "Reporting", "Search", "Billing")

_TRAIT_PERIOD = 50
"""Every so many merge requests each of the special cases below comes once; the others are ordinary."""

_TRAITS: Final = {
    1: "renovate", 2: "project_bot", 3: "old_commit", 5: "long_title", 7: "ghost", 9: "unicode", 11: "fork_gone",
    13: "fork", 15: "squash", 17: "ff", 19: "rebase", 21: "reopened", 23: "no_metrics", 24: "no_metrics_note",
    25: "no_metrics_at_all", 27: "reset", 28: "reset_for_good", 29: "unapproved", 31: "draft_ready", 32: "draft",
    33: "closed", 35: "future_commit", 37: "no_author", 39: "throttled", 41: "changes_requested", 43: "self_approved",
    45: "bot_comments", 47: "locked", 49: "opened",
}  # fmt: skip


def make_past(world: World, *, merge_requests: int, projects: int, now: datetime) -> None:
    """Fill a world with two years of merge requests, dealt out to the projects in turn."""
    world.people = {person.id: person for person in _people(world.seed, projects)}
    world.humans = [person for person in world.people.values() if person.id > HUMANS_FROM_ID]
    for number in range(projects):
        round_number, which = divmod(number, len(_PROJECT_NAMES))
        name = _PROJECT_NAMES[which] + (f" {round_number + 1}" if round_number else "")
        path = f"acme/{name.lower().replace(' ', '-')}"
        project_id = FIRST_PROJECT_ID + number
        created_at = now - timedelta(days=800 + number)
        world.projects[project_id] = Project(id=project_id, name=name, path=path, created_at=created_at)
    homes = list(world.projects.values())
    for position, created_at in enumerate(working_times(now, merge_requests, dice(world.seed, "created"))):
        _Life(world, homes[position % projects], position, created_at, now).live()
    for project in homes:
        at = now - timedelta(days=200)
        done = [row for row in project.by_id.values() if row.updated_at < at]
        world.edit_in_bulk(done[: len(done) // 12], "legacy", at)
    world.end_past()


def _people(seed: int, projects: int) -> list[Person]:
    return [
        Person(id=TOKEN_USER_ID, username="sync-service", name="Sync Service", is_bot=True),
        Person(id=GHOST_ID, username="ghost", name="Ghost User"),
        Person(id=RENOVATE_ID, username="renovate-bot", name="Renovate Bot"),
        *(
            Person(
                id=PROJECT_BOTS_FROM_ID + number,
                username=f"project_{FIRST_PROJECT_ID + number}_bot_{sha(seed, number)[:8]}",
                name="ci-token",
                is_bot=True,
            )
            for number in range(projects)
        ),
        *(
            Person(id=HUMANS_FROM_ID + 1 + n, username=username, name=name, utc_offset_hours=hours)
            for n, (username, name, hours) in enumerate(HUMANS)
        ),
    ]


def random_title(rng: random.Random) -> str:
    """A title that somebody might write."""
    return f"{rng.choice(_VERBS)} {rng.choice(_THINGS)} {rng.choice(_REASONS)}".strip()


class _Life:
    """The life of one generated merge request: what happens when, done in order by the world's rules."""

    def __init__(self, world: World, project: Project, position: int, created_at: datetime, now: datetime) -> None:
        self.world = world
        self.project = project
        self.trait = _TRAITS.get(position % _TRAIT_PERIOD, "")
        self.rng = dice(world.seed, "merge request", position)
        self.created_at = created_at
        self.now = now
        self.ends_at = created_at + timedelta(hours=self.rng.lognormvariate(3.2, 1.3))
        if self.trait and self.ends_at > now - timedelta(minutes=5):
            # A special case is to be seen to its end even if it began last.
            self.ends_at = created_at + (now - created_at) * 0.8
        self.steps: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self.author = self._choose_author()
        others = [person for person in world.humans if person is not self.author]
        self.reviewers = self.rng.sample(others, 3)
        self.merge_request = world.open(project, self.author, self._title(), self._description(), created_at)

    def live(self) -> None:
        """Plan what happens, then let it happen up to now."""
        self._begin()
        if self.trait != "renovate":
            self._plan_talk()
            self._plan_pushes()
            self._plan_approvals()
        self._plan_end()
        for at, _, happen in sorted(self.steps, key=itemgetter(0, 1)):
            if at <= self.now:
                happen(at)
        self._finish()

    def _at(self, share: float, happen: Callable[[datetime], object]) -> None:
        at = self.created_at + (self.ends_at - self.created_at) * share
        self.steps.append((at, len(self.steps), happen))

    def _choose_author(self) -> Person | None:
        people = self.world.people
        if self.trait == "no_author":
            return None
        if self.trait == "project_bot":
            return people[PROJECT_BOTS_FROM_ID + self.project.id - FIRST_PROJECT_ID]
        special = {"ghost": GHOST_ID, "renovate": RENOVATE_ID}.get(self.trait)
        # A few people write most of the code.
        return people[special] if special else self.rng.choice(self.world.humans[: self.rng.choice((6, 12, 24))])

    def _title(self) -> str:
        title = random_title(self.rng)
        if self.trait == "long_title":
            return (f"{title} and everything that depends on it, directly or by way of its callers, " * 4)[:255]
        if self.trait == "unicode":
            return f"🐛 {title}: “Größe”, 数量, כמות, \N{ZERO WIDTH SPACE}rückwärts"
        if self.trait == "renovate":
            return "chore(deps): update dependency lodash to v4.17.21"
        return f"Draft: {title}" if self.trait in ("draft", "draft_ready") else title

    def _description(self) -> str:
        lines = [f"{random_title(self.rng)}." for _ in range(self.rng.randrange(1, 9))]
        return f"## What\n\n{' '.join(lines)}\n\n## How to check\n\n- [ ] {self.rng.choice(_COMMENTS)}\n"

    def _begin(self) -> None:
        merge_request, rng = self.merge_request, self.rng
        self.commits_count = rng.choices((1, 2, 3, 4, 5, 6, 7, 8), (30, 20, 14, 11, 9, 7, 5, 4))[0]
        # With a wrong clock all is pushed at once, or the later commits would hide it.
        self.first_count = (
            self.commits_count if self.trait == "future_commit" else rng.randrange(1, self.commits_count + 1)
        )
        self.world.push(
            merge_request, self.first_count, self.created_at - timedelta(minutes=rng.randrange(1, 600)), is_first=True
        )
        if self.trait == "old_commit":
            merge_request.commits[0].authored_at -= timedelta(days=1_100)
        if self.trait == "future_commit":
            for commit in merge_request.commits:
                commit.authored_at += timedelta(days=400)
        if self.trait in ("fork", "fork_gone"):
            merge_request.source_project_id = 9_000 if self.trait == "fork" else None
        if self.trait.startswith("no_metrics"):
            merge_request.has_metrics = False
            merge_request.has_state_events = self.trait == "no_metrics"
        if rng.random() < 0.5:
            merge_request.labels = rng.sample(_LABELS, rng.randrange(1, 4))
        merge_request.changes_count = str(rng.randrange(1, 60)) if rng.random() < 0.99 else "1000+"

    def _plan_talk(self) -> None:
        world, merge_request, rng = self.world, self.merge_request, self.rng
        author = self.author or world.people[GHOST_ID]
        reviewer = self.reviewers[0]
        self._at(
            0.02, lambda at: world.system_note(merge_request, author, f"requested review from @{reviewer.username}", at)
        )
        if self.trait == "bot_comments":
            bot = world.people[PROJECT_BOTS_FROM_ID + self.project.id - FIRST_PROJECT_ID]
            self._at(0.01, lambda at: world.note(merge_request, bot, "Coverage went down by 0.3 %.", at))
        if self.trait == "changes_requested":
            self._at(0.2, lambda at: world.request_changes(merge_request, reviewer, at))
        for _ in range(min(12, int(rng.expovariate(1 / 3.5)))):
            is_authors = self.trait == "self_approved" or rng.random() < 0.35
            self._plan_comment(author if is_authors else rng.choice(self.reviewers), rng.uniform(0.1, 0.97))

    def _plan_comment(self, person: Person, share: float) -> None:
        body = self.rng.choice(_COMMENTS)
        kind = self.rng.choice((None, None, "DiffNote", "DiscussionNote"))
        self._at(share, lambda at: self.world.note(self.merge_request, person, body, at, kind=kind))

    def _plan_pushes(self) -> None:
        world, merge_request, later = self.world, self.merge_request, self.commits_count - self.first_count
        if later:
            share = self.rng.uniform(0.3, 0.7)
            self._at(share, lambda at: world.push(merge_request, later, at))
        if self.trait in ("reset", "reset_for_good"):
            self._at(0.6, lambda at: world.approve(merge_request, self.reviewers[1], at))
            self._at(0.75, lambda at: world.push(merge_request, 1, at))

    def _plan_approvals(self) -> None:
        world, merge_request, rng = self.world, self.merge_request, self.rng
        first, second = self.reviewers[:2]
        if self.trait == "self_approved":
            author = self.author or world.people[GHOST_ID]
            self._at(0.9, lambda at: world.approve(merge_request, author, at))
        elif self.trait not in ("reset_for_good", "opened", "draft") and rng.random() < (1 if self.trait else 0.85):
            self._at(0.9, lambda at: world.approve(merge_request, first, at))
            if self.trait == "unapproved":
                self._at(0.93, lambda at: world.unapprove(merge_request, first, at))
            if rng.random() < 0.3:
                self._at(0.95, lambda at: world.approve(merge_request, second, at))

    def _plan_end(self) -> None:
        world, merge_request, merger = self.world, self.merge_request, self.reviewers[2]
        if self.trait == "draft_ready":
            self._at(0.3, lambda at: world.mark_draft(merge_request, at, is_draft=False))
        if self.trait == "reopened":
            self._at(0.4, lambda at: world.close(merge_request, merger, at))
            self._at(0.5, lambda at: world.reopen(merge_request, merger, at))
        chance = self.rng.random()
        if self.trait in ("draft", "opened", "locked") or (not self.trait and chance < 0.02):
            return
        if self.trait == "closed" or (not self.trait and chance < 0.1):
            self._at(1, lambda at: world.close(merge_request, merger, at))
            return
        method = self._method()
        self._at(1, lambda at: world.merge(merge_request, merger, at, method))
        if self.trait == "no_metrics_note":
            self._at(1, lambda at: world.system_note(merge_request, merger, "merged", at))
        if self.trait == "throttled":
            thanks = timedelta(seconds=25)
            happen = lambda at: world.note(merge_request, self.reviewers[0], "Thanks, works!", at)  # noqa: E731
            self.steps.append((self.ends_at + thanks, len(self.steps), happen))

    def _method(self) -> MergeMethod:
        methods: dict[str, MergeMethod] = {"squash": "squash", "ff": "ff", "rebase": "rebase"}
        if self.trait:
            return methods.get(self.trait, "merge")
        return self.rng.choices(("merge", "squash", "ff", "rebase"), (70, 20, 6, 4))[0]

    def _finish(self) -> None:
        if self.trait == "locked":
            self.merge_request.state = "locked"
