"""What happens in a simulated GitLab: what its users do, each at a time that is given.

So the generated past (`past.py`) is made by the same rules as the present. Shapes stand in `model.py`.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from connectors.gitlab.simulated.model import (
    EVENT_AT,
    GHOST_ID,
    Approval,
    Commit,
    Event,
    MergeMethod,
    MergeRequest,
    Note,
    Person,
    Project,
    Review,
    StateEvent,
    sha,
)
from connectors.simulator import TimeIndex

TOUCH_INTERVAL = timedelta(minutes=1)
"""A touch (by a note or an approval) is ignored while `updated_at` is younger than this."""


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
