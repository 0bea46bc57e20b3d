"""What a simulated GitHub holds: people, repositories, issues and pull requests, and what users do to them.

Here belongs what is true in it; every happening takes its time as an argument, so that the generated past
(`past.py`) is made by the same rules as the present. How it looks over HTTP stands in `rendering.py`.
"""

from __future__ import annotations

import hashlib
import random
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors.simulator import TimeIndex

TOKEN_USER_ID, GHOST_ID, RENOVATE_ID, CHECKS_BOT_ID = 10, 10_137, 29_139_614, 41_898_282
HUMANS_FROM_ID = 2_000
FIRST_REPOSITORY_ID = 501_001
COMMITS_SHOWN_COUNT = 250


class Person(msgspec.Struct, kw_only=True):
    """An account, of a human or of a robot."""

    id: int
    login: str
    name: str
    type: str = "User"


class Commit(msgspec.Struct, kw_only=True):
    """A commit of a pull request."""

    sha: str
    person: Person
    authored_at: datetime
    committed_at: datetime


class Comment(msgspec.Struct, kw_only=True):
    """A comment, on the whole or on a line."""

    id: int
    person: Person | None
    at: datetime
    review_id: int | None = None


class Review(msgspec.Struct, kw_only=True):
    """A review that was submitted."""

    id: int
    person: Person
    at: datetime
    state: str
    """COMMENTED, APPROVED, CHANGES_REQUESTED or DISMISSED."""
    submitted_as: str
    dismissed_at: datetime | None = None


class Event(msgspec.Struct, kw_only=True):
    """What GitHub notes of a change, such as closed, labeled or renamed."""

    id: int
    name: str
    person: Person | None
    at: datetime
    more: dict[str, Any] = {}


class Thing(msgspec.Struct, kw_only=True, eq=False):
    """An issue or a pull request: they share their numbers, their comments and their events."""

    id: int
    number: int
    repository: Repository
    is_pull_request: bool
    title: str
    author: Person | None
    created_at: datetime
    updated_at: datetime
    is_open: bool = True
    labels: list[str] = []
    assignee: Person | None = None
    closed_at: datetime | None = None
    state_reason: str | None = None
    comments: list[Comment] = []
    events: list[Event] = []
    # What only pull requests have.
    is_draft: bool = False
    ready_at: datetime | None = None
    merged_at: datetime | None = None
    merged_by: Person | None = None
    merge_commit_sha: str | None = None
    changed_files: int = 1
    commits: list[Commit] = []
    reviews: list[Review] = []
    line_comments: list[Comment] = []
    rendered: dict[str, Any] = {}


class Repository(msgspec.Struct, kw_only=True, eq=False):
    """A repository and the orders in which its issues and pull requests are listed."""

    id: int
    full_name: str
    old_names: set[str] = set()
    is_hidden: bool = False
    by_number: dict[int, Thing] = {}
    by_id: dict[int, Thing] = {}
    by_updated: TimeIndex = msgspec.field(default_factory=TimeIndex)
    by_created: TimeIndex = msgspec.field(default_factory=TimeIndex)
    next_number: int = 1


def sha(*names: object) -> str:
    """What looks like a commit's id, the same for the same names."""
    return hashlib.sha1(":".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


class World:
    """People, repositories and what happens in them. GitHub keeps whole seconds, and so does all of this."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.people: dict[int, Person] = {}
        self.humans: list[Person] = []
        self.repositories: dict[int, Repository] = {}
        self._next_id = 3_000_000_001
        self._is_past = True

    @property
    def projects(self) -> dict[str, Repository]:
        """The repositories by name, as scopes call them."""
        return {repository.full_name: repository for repository in self.repositories.values()}

    def repository(self, wanted: int | str | None) -> Repository:
        """A repository by id or name; the first one where nothing is wanted."""
        if wanted is None:
            return next(iter(self.repositories.values()))
        return self.repositories[wanted] if isinstance(wanted, int) else self.projects[wanted]

    def end_past(self) -> None:
        """Sort what has been generated; from now on every happening keeps the orders itself."""
        for repository in self.repositories.values():
            things = repository.by_id.values()
            repository.by_updated = TimeIndex((thing.updated_at, thing.id) for thing in things)
            repository.by_created = TimeIndex((thing.created_at, thing.id) for thing in things)
        self._is_past = False

    def forget_rendered(self) -> None:
        """Have everything rendered anew, because a name has changed."""
        for repository in self.repositories.values():
            for thing in repository.by_id.values():
                thing.rendered = {}

    def new_id(self) -> int:
        """An id that nothing has yet."""
        self._next_id += 1
        return self._next_id

    def someone_else(self, thing: Thing, wanted: int | None) -> Person:
        """The account wanted, else a human who is not the author."""
        if wanted is not None:
            return self.people[wanted]
        others = [person for person in self.humans if person is not thing.author]
        return others[thing.number % len(others)]

    def any_thing(self, repository: Repository, rng: random.Random) -> Thing:
        """Any issue or pull request."""
        return repository.by_id[rng.choice(list(repository.by_id))]

    def touch(self, thing: Thing, at: datetime) -> None:
        """Note a change: `updated_at` moves to that second."""
        at = at.replace(microsecond=0)
        thing.rendered = {}
        if not self._is_past:
            thing.repository.by_updated.discard(thing.updated_at, thing.id)
            thing.repository.by_updated.add(at, thing.id)
        thing.updated_at = at

    def open(
        self, repository: Repository, author: Person | None, title: str, at: datetime, *, is_pull_request: bool
    ) -> Thing:
        """Open an issue, or a pull request without commits as yet."""
        at = at.replace(microsecond=0)
        thing = Thing(
            id=self.new_id(),
            number=repository.next_number,
            repository=repository,
            is_pull_request=is_pull_request,
            title=title,
            author=author,
            created_at=at,
            updated_at=at,
            ready_at=at,
        )
        repository.next_number += 1
        repository.by_number[thing.number] = repository.by_id[thing.id] = thing
        if not self._is_past:
            repository.by_updated.add(at, thing.id)
            repository.by_created.add(at, thing.id)
        return thing

    def delete(self, thing: Thing) -> None:
        """Delete an issue without a trace."""
        repository = thing.repository
        del repository.by_number[thing.number]
        del repository.by_id[thing.id]
        repository.by_updated.discard(thing.updated_at, thing.id)
        repository.by_created.discard(thing.created_at, thing.id)

    def note(self, thing: Thing, name: str, person: Person | None, at: datetime, **more: Any) -> None:
        """Note an event."""
        at = at.replace(microsecond=0)
        thing.events.append(Event(id=self.new_id(), name=name, person=person, at=at, more=more))
        self.touch(thing, at)

    def comment(self, thing: Thing, person: Person | None, at: datetime) -> Comment:
        """Comment on the whole."""
        comment = Comment(id=self.new_id(), person=person, at=at.replace(microsecond=0))
        thing.comments.append(comment)
        self.touch(thing, at)
        return comment

    def review(self, thing: Thing, person: Person, state: str, at: datetime, *, line_comments: int = 0) -> Review:
        """Submit a review, with comments on lines."""
        at = at.replace(microsecond=0)
        review = Review(id=self.new_id(), person=person, at=at, state=state, submitted_as=state)
        thing.reviews.append(review)
        for _ in range(line_comments):
            comment = Comment(id=self.new_id(), person=person, at=at, review_id=review.id)
            thing.line_comments.append(comment)
        self.touch(thing, at)
        return review

    def dismiss(self, thing: Thing, review: Review, person: Person, at: datetime) -> None:
        """Take the verdict of a review away."""
        was, review.state = review.state, "DISMISSED"
        review.dismissed_at = at.replace(microsecond=0)
        dismissed = {"state": was.lower(), "review_id": review.id, "dismissal_message": "Out of date."}
        self.note(thing, "review_dismissed", person, at, dismissed_review=dismissed)

    def push(self, thing: Thing, count: int, at: datetime, *, is_rebase: bool = False, is_first: bool = False) -> None:
        """Push commits, or force-push all of them as a rebase."""
        person = thing.author or self.people[GHOST_ID]
        at = at.replace(microsecond=0)
        if is_rebase:
            for commit in thing.commits:
                commit.sha, commit.committed_at = sha(commit.sha, "rebased", at), at
            self.note(thing, "head_ref_force_pushed", person, at)
        for position in range(0 if is_rebase else count):
            moment = at - timedelta(minutes=7 * (count - 1 - position))
            commit_sha = sha(self.seed, thing.id, len(thing.commits))
            thing.commits.append(Commit(sha=commit_sha, person=person, authored_at=moment, committed_at=moment))
        if not is_first:
            self.touch(thing, at)

    def merge(self, thing: Thing, person: Person, at: datetime) -> None:
        """Merge, which closes too."""
        thing.is_open = False
        thing.merged_at = thing.closed_at = at.replace(microsecond=0)
        thing.merged_by, thing.merge_commit_sha = person, sha(thing.id, "merge")
        self.note(thing, "merged", person, at, commit_id=thing.merge_commit_sha)
        self.note(thing, "closed", person, at)

    def close(self, thing: Thing, person: Person, at: datetime, *, reason: str | None = None) -> None:
        """Close without merging."""
        thing.is_open, thing.closed_at = False, at.replace(microsecond=0)
        more: dict[str, Any] = {}
        if not thing.is_pull_request:
            thing.state_reason = reason or "completed"
            # Older events do not say why.
            more = {"state_reason": reason} if reason else {}
        self.note(thing, "closed", person, at, **more)

    def reopen(self, thing: Thing, person: Person, at: datetime) -> None:
        """Open again."""
        thing.is_open, thing.closed_at, thing.state_reason = True, None, None if thing.is_pull_request else "reopened"
        self.note(thing, "reopened", person, at)

    def label(self, thing: Thing, name: str, person: Person, at: datetime, *, is_off: bool = False) -> None:
        """Put a label on, or take it off."""
        if (name in thing.labels) is not is_off:
            return
        thing.labels = [each for each in thing.labels if each != name] if is_off else [*thing.labels, name]
        self.note(thing, "unlabeled" if is_off else "labeled", person, at, label={"name": name, "color": "d73a4a"})

    def rename(self, thing: Thing, title: str, person: Person, at: datetime) -> None:
        """Give another title."""
        before, thing.title = thing.title, title
        self.note(thing, "renamed", person, at, rename={"from": before, "to": title})

    def mark_draft(self, thing: Thing, at: datetime, *, is_draft: bool) -> None:
        """Begin or end the draft."""
        if thing.is_draft == is_draft:
            return
        thing.is_draft = is_draft
        if not is_draft and thing.ready_at is None:
            thing.ready_at = at.replace(microsecond=0)
        self.note(thing, "convert_to_draft" if is_draft else "ready_for_review", thing.author, at)
