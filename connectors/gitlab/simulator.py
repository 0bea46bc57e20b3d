"""A simulated GitLab: projects with two years of merge requests, behind the REST API that a sync reads.

Here belongs how GitLab behaves as a server, written from its documentation; docs/simulators.md lists rule by rule what
is modelled and what is not. It shares no code with the client, so that a misreading of the API shows as a failing test.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from connectors.simulator import (
    DEFAULT_NOW,
    HUMANS,
    Answer,
    RefusalError,
    Request,
    Route,
    Simulator,
    TimeIndex,
    TokenBucket,
    dice,
    json_answer,
    working_times,
)

WEB_URL = "https://gitlab.example.test"
"""What stands in links inside payloads; the API's own links name the host that was asked."""

TOUCH_INTERVAL = timedelta(minutes=1)
"""A touch (by a note or an approval) is ignored while `updated_at` is younger than this."""

PER_PAGE_DEFAULT, PER_PAGE_MAX = 20, 100
COUNTED_ROWS_MAX = 10_000
"""Over this many rows the totals are left out of the headers."""

EVENTS_KEPT = timedelta(days=3 * 365)

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


# --- how it looks -----------------------------------------------------------------------------------------------------


def _ms(at: datetime | None) -> str | None:
    """As GitLab renders times: UTC, three digits, the rest cut off."""
    return None if at is None else at.isoformat(timespec="milliseconds")[:-6] + "Z"


def _sha(*names: object) -> str:
    return hashlib.sha1(":".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


def _person_json(person: Person) -> dict[str, Any]:
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


def _project_json(project: Project) -> dict[str, Any]:
    namespace, _, path = project.path.rpartition("/")
    return {
        "id": project.id,
        "description": None,
        "name": project.name,
        "name_with_namespace": f"{namespace} / {project.name}",
        "path": path,
        "path_with_namespace": project.path,
        "created_at": _ms(project.created_at),
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
        "created_at": _ms(event.at),
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


def _error_json(message: str) -> Answer:
    return json_answer({"message": message}, int(message[:3]))


EVENT_AT = attrgetter("at")


def _expect(merge_request: MergeRequest) -> ExpectedMergeRequest:
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


# --- what clients may ask ---------------------------------------------------------------------------------------------

_STATES = ("all", "opened", "closed", "locked", "merged")
_EVENT_ACTIONS = frozenset({"created", "pushed", "commented", "merged", "closed", "reopened", "approved"})


class _Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A merge request listing as it was asked for."""

    state: str
    scope: str
    iids: frozenset[int]
    spans: dict[str, tuple[datetime | None, datetime | None]]
    """First and last instant by field; both ends belong to it."""
    order_by: str
    is_descending: bool

    @property
    def is_plain(self) -> bool:
        """Whether it is a span of one time index."""
        other = {"updated_at": "created_at", "created_at": "updated_at"}.get(self.order_by)
        is_unfiltered = self.state == "all" and self.scope == "all" and not self.iids
        return is_unfiltered and other is not None and self.spans[other] == (None, None)

    def wants(self, merge_request: MergeRequest) -> bool:
        """Whether a merge request belongs to it."""
        author = merge_request.author.id if merge_request.author else None
        return (
            self.state in ("all", merge_request.state)
            and (self.scope == "all" or author == TOKEN_USER_ID)
            and (not self.iids or merge_request.iid in self.iids)
            and all(
                (since is None or getattr(merge_request, field) >= since)
                and (until is None or getattr(merge_request, field) <= until)
                for field, (since, until) in self.spans.items()
            )
        )

    def order_key(self, merge_request: MergeRequest) -> Any:
        """What it is sorted by."""
        if self.order_by == "merged_at":
            return merge_request.merged_at or datetime.min.replace(tzinfo=UTC)
        return getattr(merge_request, self.order_by)


def _refuse(parameter: str, why: str = "does not have a valid value") -> RefusalError:
    return RefusalError(json_answer({"error": f"{parameter} {why}"}, 400))


def _choice(request: Request, name: str, default: str, choices: Iterable[str]) -> str:
    value = request.last(name, default)
    if value is None or value not in choices:
        raise _refuse(name)
    return value


def _time(request: Request, name: str) -> datetime | None:
    value = request.last(name)
    if value is None:
        return None
    try:
        # An unencoded plus sign arrives as a space, and then this is no time, as at the real server.
        at = datetime.fromisoformat(value)
    except ValueError:
        raise _refuse(name, "is invalid") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _day(request: Request, name: str) -> date | None:
    value = request.last(name)
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise _refuse(name, "is invalid") from None


def _listing(request: Request) -> _Listing:
    iids = request.query.get("iids[]", [])
    if not all(iid.isdigit() for iid in iids):
        raise _refuse("iids", "is invalid")
    return _Listing(
        state=_choice(request, "state", "all", _STATES),
        scope=_choice(request, "scope", "all", ("all", "created_by_me", "assigned_to_me")),
        iids=frozenset(map(int, iids)),
        spans={
            "updated_at": (_time(request, "updated_after"), _time(request, "updated_before")),
            "created_at": (_time(request, "created_after"), _time(request, "created_before")),
        },
        order_by=_choice(request, "order_by", "created_at", ("created_at", "updated_at", "title", "merged_at")),
        is_descending=_choice(request, "sort", "desc", ("asc", "desc")) == "desc",
    )


def _paging(request: Request) -> tuple[int, int]:
    values = []
    for name, default in (("page", 1), ("per_page", PER_PAGE_DEFAULT)):
        value = request.last(name, str(default)) or ""
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise _refuse(name, "is invalid")
        values.append(int(value))
    return values[0], min(values[1], PER_PAGE_MAX)


def _page_headers(
    request: Request, page: int, per_page: int, total: int, more: dict[str, str]
) -> list[tuple[bytes, bytes]]:
    """The headers of offset paging; `more` are the path's parameters, which GitLab repeats in its links."""
    pages = max(1, -(-total // per_page))
    following = page + 1 if page < pages else None
    links = {"prev": page - 1 if page > 1 else None, "next": following, "first": 1}
    headers = [
        (b"x-page", b"%d" % page),
        (b"x-per-page", b"%d" % per_page),
        (b"x-next-page", b"%d" % following if following else b""),
        (b"x-prev-page", b"%d" % (page - 1) if page > 1 else b""),
    ]
    if total <= COUNTED_ROWS_MAX:
        links["last"] = pages
        headers += [(b"x-total", b"%d" % total), (b"x-total-pages", b"%d" % pages)]
    asked = [(name, value) for name, values in request.query.items() for value in values if name not in more]
    rest = urlencode([*more.items(), *((name, value) for name, value in asked if name not in ("page", "per_page"))])
    start = f"<{request.base_url}{request.path}?{rest}{'&' if rest else ''}page="
    link = ", ".join(
        f'{start}{number}&per_page={per_page}>; rel="{name}"' for name, number in links.items() if number is not None
    )
    return [*headers, (b"link", link.encode())]


def _moved(request: Request, project: Project) -> Answer:
    """The redirect from a project's old path, to the same thing under its id."""
    prefix = "/api/v4/projects/"
    _, _, rest = request.path.removeprefix(prefix).partition("/")
    path = f"{prefix}{project.id}" + (f"/{rest}" if rest else "")
    query = f"?{request.query_string}" if request.query_string else ""
    return Answer(301, b"", [(b"location", f"{request.base_url}{path}{query}".encode())])


def _swap(key: int, salt: int) -> int:
    """A tie-breaker that differs from page to page; with salt 0 the id itself."""
    return key * 2_654_435_761 * salt % 4_294_967_291 if salt else key


# --- what happens in it -----------------------------------------------------------------------------------------------


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
        before = commits[-1].sha if commits else _sha(merge_request.id, "base")
        if is_rebase:
            for position, commit in enumerate(commits):
                commit.sha = _sha(commit.sha, "rebased", at)
                commit.parent_sha = commits[position - 1].sha if position else _sha(merge_request.id, "base", at)
                commit.committed_at = local
            count = len(commits)
        else:
            for position in range(count):
                parent = commits[-1].sha if commits else before
                moment = local - timedelta(minutes=7 * (count - 1 - position))
                commits.append(
                    Commit(
                        sha=_sha(self.seed, merge_request.id, len(commits), parent),
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
            merge_request.squash_commit_sha = _sha(merge_request.id, "squash")
        if method in ("merge", "squash"):
            merge_request.merge_commit_sha = _sha(merge_request.id, "merge")
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
                username=f"project_{FIRST_PROJECT_ID + number}_bot_{_sha(seed, number)[:8]}",
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


def _title(rng: random.Random) -> str:
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
        title = _title(self.rng)
        if self.trait == "long_title":
            return (f"{title} and everything that depends on it, directly or by way of its callers, " * 4)[:255]
        if self.trait == "unicode":
            return f"🐛 {title}: “Größe”, 数量, כמות, \N{ZERO WIDTH SPACE}rückwärts"
        if self.trait == "renovate":
            return "chore(deps): update dependency lodash to v4.17.21"
        return f"Draft: {title}" if self.trait in ("draft", "draft_ready") else title

    def _description(self) -> str:
        lines = [f"{_title(self.rng)}." for _ in range(self.rng.randrange(1, 9))]
        return f"## What\n\n{' '.join(lines)}\n\n## How to check\n\n- [ ] {self.rng.choice(_COMMENTS)}\n"

    def _begin(self) -> None:
        merge_request, rng = self.merge_request, self.rng
        self.commits_count = rng.choices((1, 2, 3, 4, 5, 6, 7, 8), (30, 20, 14, 11, 9, 7, 5, 4))[0]
        self.first_count = rng.randrange(1, self.commits_count + 1)
        self.world.push(
            merge_request, self.first_count, self.created_at - timedelta(minutes=rng.randrange(1, 600)), is_first=True
        )
        if self.trait in ("old_commit", "future_commit"):
            commit = merge_request.commits[0]
            commit.authored_at += timedelta(days=-1_100 if self.trait == "old_commit" else 400)
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


# --- the server -------------------------------------------------------------------------------------------------------


class GitLabSimulator(Simulator):
    """A GitLab of `projects` projects that share `merge_requests` merge requests between them.

    Args:
        merge_requests: how many in all; the first fifty hold every special case once.
        projects: how many projects, numbered from 101, e.g. `acme/payments`.
        seed: the same seed gives the same world and the same faults.
        now: the server's time at the start.
        is_clock_running: whether the clock runs on by itself; else it stands until advanced.
        latency_ms: added to every answer; the median where `latency_p99_ms` is given (log-normal).
        latency_p99_ms: the 99th percentile of the latency.
        faults: see `connectors.simulator.parse_faults`.
        token: accepted as PRIVATE-TOKEN and as Bearer.
        tie_breaker: False behaves as GitLab 12: rows of equal time change places between pages.
        has_approval_times: False leaves `approved_at` out, as older servers do.
        rate_limit_per_minute: requests a minute before 429; None is without limit.
        has_rate_limit_headers: whether ordinary answers carry RateLimit-* too, as gitlab.com's do.
        is_strict: refuse query parameters that an endpoint does not know.
    """

    changes = frozenset(
        {
            "update_merge_request", "add_note", "approve", "unapprove", "request_changes", "push", "merge", "close",
            "reopen", "mark_ready", "mark_draft", "create_merge_request", "delete_merge_request", "rename_user",
            "rename_project", "hide_project",
        }
    )  # fmt: skip

    def __init__(
        self,
        *,
        merge_requests: int = 50,
        projects: int = 1,
        seed: int = 1,
        now: datetime = DEFAULT_NOW,
        is_clock_running: bool = False,
        latency_ms: float = 0,
        latency_p99_ms: float | None = None,
        faults: str = "",
        token: str = "sim-token",  # noqa: S107 - a made-up token of a made-up server
        tie_breaker: bool = True,
        has_approval_times: bool = True,
        rate_limit_per_minute: int | None = None,
        has_rate_limit_headers: bool = False,
        version: str = "18.5.1",
        is_strict: bool = True,
    ) -> None:
        self.token = token
        self.tie_breaker = tie_breaker
        self.version = version
        self._has_approval_times = has_approval_times
        self._bucket = TokenBucket(rate_limit_per_minute, 60) if rate_limit_per_minute else None
        self._has_rate_limit_headers = has_rate_limit_headers
        self._person_raw: dict[int, msgspec.Raw] = {}
        self.world = World(seed)
        super().__init__(
            seed=seed,
            now=now,
            is_clock_running=is_clock_running,
            latency_ms=latency_ms,
            latency_p99_ms=latency_p99_ms,
            faults=faults,
            is_strict=is_strict,
        )
        make_past(self.world, merge_requests=merge_requests, projects=projects, now=now)

    def routes(self) -> Iterable[Route]:
        """The endpoints, with the query parameters that each knows."""
        paging = frozenset({"page", "per_page"})
        project = "/api/v4/projects/{id}"
        one = project + "/merge_requests/{iid}"
        listing = paging | {
            "scope", "state", "updated_after", "updated_before", "created_after", "created_before", "order_by", "sort",
            "iids[]", "id", "view", "with_merge_status_recheck", "with_labels_details",
        }  # fmt: skip
        inner = paging | {"id", "merge_request_iid", "noteable_id"}
        return [
            Route("GET", "/api/v4/version", self._get_version),
            Route("GET", "/api/v4/user", self._get_user),
            Route("GET", "/api/v4/users/{id}", self._get_user_by_id),
            Route(
                "GET", "/api/v4/projects", self._list_projects, paging | {"membership", "simple", "archived", "search"}
            ),
            Route("GET", project, self._get_project, frozenset({"statistics", "license"})),
            Route("GET", project + "/merge_requests", self._list_merge_requests, listing, is_listing=True),
            Route(
                "GET",
                one,
                self._get_merge_request,
                frozenset({"render_html", "include_diverged_commits_count", "include_rebase_in_progress"}),
            ),
            Route("GET", one + "/commits", self._list_commits, inner),
            Route("GET", one + "/notes", self._list_notes, inner | {"sort", "order_by"}),
            Route("GET", one + "/approvals", self._get_approvals),
            Route("GET", one + "/reviewers", self._list_reviewers),
            Route("GET", one + "/resource_state_events", self._list_state_events, inner | {"eventable_id"}),
            Route(
                "GET",
                project + "/events",
                self._list_events,
                paging | {"id", "action", "before", "after", "sort"},
            ),
            Route("GET", project + "/members/all", self._list_members, paging | {"id", "query", "user_ids[]", "state"}),
        ]

    # --- what a user does. Every method takes its turn under the lock and happens now, by the virtual clock.

    def merge_request(self, iid: int, *, project: int | str | None = None) -> MergeRequest:
        """The merge request of that number, in the first project unless told otherwise.

        Raises:
            KeyError: there is none.
        """
        return self.world.project(project).by_iid[iid]

    def update_merge_request(
        self,
        iid: int,
        *,
        project: int | str | None = None,
        title: str | None = None,
        description: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Edit a merge request: a save, so `updated_at` always moves."""
        with self.lock:
            merge_request, at = self.merge_request(iid, project=project), self.clock.now()
            if title is not None:
                merge_request.title = title
            if description is not None:
                merge_request.description = description
            if labels is not None:
                merge_request.labels = list(labels)
            self.world.save(merge_request, at)

    def add_note(
        self, iid: int, body: str = "One more thought.", *, by: int | None = None, project: int | str | None = None
    ) -> int:
        """Comment: a touch, so `updated_at` moves only if it is a minute old. Returns the note's id."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            return self.world.note(merge_request, self.world.reviewer(merge_request, by), body, self.clock.now()).id

    def edit_note(self, iid: int, note_id: int, body: str, *, project: int | str | None = None) -> None:
        """Change the words of a comment."""
        with self.lock:
            merge_request, at = self.merge_request(iid, project=project), self.clock.now()
            note = next(note for note in merge_request.notes if note.id == note_id)
            note.body, note.updated_at = body, at
            self.world.touch(merge_request, at)

    def delete_note(self, iid: int, note_id: int, *, project: int | str | None = None) -> None:
        """Delete a comment."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            merge_request.notes[:] = [note for note in merge_request.notes if note.id != note_id]
            self.world.touch(merge_request, self.clock.now())

    def approve(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Approve: a system note and a touch."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.approve(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def unapprove(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Take an approval back."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.unapprove(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def request_changes(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Ask for changes as a reviewer."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.request_changes(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def push(self, iid: int, *, commits: int = 1, is_rebase: bool = False, project: int | str | None = None) -> None:
        """Push commits, or force-push the rebased branch; standing approvals are reset."""
        with self.lock:
            self.world.push(self.merge_request(iid, project=project), commits, self.clock.now(), is_rebase=is_rebase)

    def merge(
        self, iid: int, *, by: int | None = None, method: MergeMethod = "merge", project: int | str | None = None
    ) -> None:
        """Merge."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.merge(merge_request, self.world.reviewer(merge_request, by), self.clock.now(), method)

    def close(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Close without merging."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.close(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def reopen(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Open again what was closed."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.reopen(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def mark_ready(self, iid: int, *, project: int | str | None = None) -> None:
        """End the draft."""
        with self.lock:
            self.world.mark_draft(self.merge_request(iid, project=project), self.clock.now(), is_draft=False)

    def mark_draft(self, iid: int, *, project: int | str | None = None) -> None:
        """Make it a draft."""
        with self.lock:
            self.world.mark_draft(self.merge_request(iid, project=project), self.clock.now(), is_draft=True)

    def create_merge_request(
        self, *, title: str = "A new change", by: int | None = None, commits: int = 1, project: int | str | None = None
    ) -> int:
        """Open a merge request and return its iid."""
        with self.lock:
            at, home = self.clock.now(), self.world.project(project)
            author = self.world.people[by] if by else self.world.humans[home.next_iid % len(self.world.humans)]
            merge_request = self.world.open(home, author, title, "", at)
            self.world.push(merge_request, commits, at, is_first=True)
            return merge_request.iid

    def delete_merge_request(self, iid: int, *, project: int | str | None = None) -> None:
        """Delete it as an owner may; nothing tells of it afterwards."""
        with self.lock:
            self.world.delete(self.merge_request(iid, project=project))

    def rename_user(self, user_id: int, *, username: str, name: str | None = None) -> None:
        """Rename an account; no merge request's `updated_at` moves."""
        with self.lock:
            person = self.world.people[user_id]
            person.username, person.name = username, name or person.name
            self._person_raw.pop(user_id, None)
            self.world.forget_rendered()

    def rename_project(self, project: int | str, *, path: str) -> None:
        """Move a project to another path; the old one redirects from now on."""
        with self.lock:
            home = self.world.project(project)
            home.old_paths.add(home.path)
            home.path = path
            self.world.forget_rendered()

    def hide_project(self, project: int | str, *, is_hidden: bool = True) -> None:
        """Take the token's access to a project away (or give it back): it answers 404."""
        with self.lock:
            self.world.project(project).is_hidden = is_hidden

    def mutate_once(self, rng: random.Random) -> str:
        """Change one merge request the way its users do, mostly an open one."""
        project = self.world.projects[rng.choice(list(self.world.projects))]
        if not project.by_iid or rng.random() < 0.04:
            return f"{project.path}!{self.create_merge_request(project=project.id, title=_title(rng))}"
        iid = rng.choice(list(project.by_iid)) if len(project.by_iid) < 200 else self.world.any_iid(project, rng)
        merge_request = project.by_iid[iid]
        if merge_request.state == "opened":
            doings: list[tuple[float, Callable[..., Any]]] = [
                (0.2, self.add_note), (0.15, self.push), (0.15, self.approve), (0.1, self.merge), (0.05, self.close),
            ]  # fmt: skip
        elif merge_request.state == "closed":
            doings = [(0.2, self.add_note), (0.3, self.reopen)]
        else:
            doings = [(0.3, self.add_note)]
        chance = rng.random()
        for share, doing in doings:
            if chance < share:
                doing(iid, project=project.id)
                break
            chance -= share
        else:
            self.update_merge_request(iid, project=project.id, title=_title(rng))
        return f"{project.path}!{iid}"

    # --- what a complete sync must hold

    def expected(self) -> list[ExpectedMergeRequest]:
        """Every merge request of every visible project, by project and iid."""
        with self.lock:
            return [
                _expect(merge_request)
                for project in self.world.projects.values()
                if not project.is_hidden
                for _, merge_request in sorted(project.by_iid.items())
            ]

    expected_merge_requests = expected

    def warm(self) -> None:
        """Render every merge request and its sub-resources once."""
        with self.lock:
            for project in self.world.projects.values():
                for merge_request in project.by_id.values():
                    self._row(merge_request)
                    for kind in _SUB_RENDERERS:
                        self._sub_items(merge_request, kind)
                    self._approvals_body(merge_request)

    # --- endpoints

    def refuse_credentials(self, request: Request) -> Answer | None:
        """401 unless the token came as PRIVATE-TOKEN or as Bearer."""
        given = request.headers.get(b"private-token")
        credentials = request.credentials()
        if given is not None and given.decode("latin-1") == self.token:
            return None
        if credentials == ("bearer", self.token):
            return None
        return self.error(401)

    def error(self, status: int, message: str | None = None) -> Answer:
        """As GitLab words it: `message` with the status before it, or `error` for what Grape refuses."""
        if status == 400:
            return json_answer({"error": message or "Bad request"}, 400)
        words = {401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found", 405: "405 Method Not Allowed"}
        return json_answer({"message": message or words.get(status, str(status))}, status)

    def rate_limited(self, retry_after: str | None) -> Answer:
        """429 in plain text, as GitLab's middleware answers."""
        headers = [(b"retry-after", retry_after.encode())] if retry_after else []
        return Answer(429, b"Retry later\n", headers, b"text/plain")

    def extra_headers(self, request: Request) -> Answer | Sequence[tuple[bytes, bytes]]:
        """The rate limit, where there is one."""
        del request
        if self._bucket is None:
            return ()
        left, wait_seconds = self._bucket.take()
        reset_at = self.clock.now() + timedelta(seconds=60)
        headers = [
            (b"ratelimit-limit", b"%d" % self._bucket.capacity),
            (b"ratelimit-name", b"throttle_authenticated_api"),
            (b"ratelimit-observed", b"%d" % (self._bucket.capacity - left)),
            (b"ratelimit-remaining", b"%d" % left),
            (b"ratelimit-reset", b"%d" % reset_at.timestamp()),
        ]
        if wait_seconds:
            limited = self.rate_limited(str(wait_seconds))
            return limited._replace(headers=[*limited.headers, *headers])
        return headers if self._has_rate_limit_headers else ()

    def _get_version(self, request: Request) -> Answer:
        del request
        return json_answer({"version": self.version, "revision": _sha(self.version)[:11]})

    def _get_user(self, request: Request) -> Answer:
        del request
        person = self.world.people[TOKEN_USER_ID]
        return json_answer(_person_json(person) | {"bot": person.is_bot, "email": person.email, "is_admin": False})

    def _get_user_by_id(self, request: Request) -> Answer:
        wanted = request.captured[0]
        person = self.world.people.get(int(wanted)) if wanted.isdigit() else None
        if person is None:
            return _error_json("404 User Not Found")
        return json_answer(_person_json(person) | {"bot": person.is_bot, "created_at": _ms(self.clock.now())})

    def _list_projects(self, request: Request) -> Answer:
        words = (request.last("search") or "").lower()
        projects = [
            project
            for project in self.world.projects.values()
            if not project.is_hidden and words in project.name.lower()
        ]
        return self._page(request, [msgspec.json.encode(_project_json(project)) for project in projects])

    def _get_project(self, request: Request) -> Answer:
        return json_answer(_project_json(self._asked_project(request)))

    def _list_merge_requests(self, request: Request) -> Answer:
        project = self._asked_project(request)
        query = _listing(request)
        page, per_page = _paging(request)
        if query.is_plain and self.tie_breaker:
            # The usual case: a span of one index, of which a page is a slice.
            index = project.by_updated if query.order_by == "updated_at" else project.by_created
            since, until = query.spans[query.order_by]
            low = 0 if since is None else index.first_from(since)
            high = max(low, len(index) if until is None else index.first_after(until))
            total = high - low
            start, stop = (page - 1) * per_page, min(page * per_page, total)
            if query.is_descending:
                keys = [index.keys[high - 1 - position] for position in range(start, stop)]
            else:
                keys = index.keys[low + start : low + stop] if start < total else []
            found = [project.by_id[key] for _, key in keys]
        else:
            rows = [row for row in project.by_id.values() if query.wants(row)]
            salt = 0 if self.tie_breaker else page
            rows.sort(key=lambda row: (query.order_key(row), _swap(row.id, salt)), reverse=query.is_descending)
            total = len(rows)
            found = rows[(page - 1) * per_page : page * per_page]
        body = b"[" + b",".join([self._row(row) for row in found]) + b"]"
        return Answer(200, body, _page_headers(request, page, per_page, total, {"id": str(project.id)}))

    def _get_merge_request(self, request: Request) -> Answer:
        merge_request = self._asked(request)
        head = merge_request.commits[-1].sha if merge_request.commits else None
        more = {
            "subscribed": False,
            "changes_count": merge_request.changes_count,
            "latest_build_started_at": None,
            "latest_build_finished_at": None,
            "first_deployed_to_production_at": None,
            "pipeline": None,
            "head_pipeline": None,
            "diff_refs": {"base_sha": _sha(merge_request.id, "base"), "head_sha": head, "start_sha": head},
            "merge_error": None,
            "first_contribution": False,
            "user": {"can_merge": True},
        }
        return Answer(200, self._row(merge_request)[:-1] + b"," + msgspec.json.encode(more)[1:])

    def _list_commits(self, request: Request) -> Answer:
        return self._sub_page(request, "commits")

    def _list_notes(self, request: Request) -> Answer:
        order_by = _choice(request, "order_by", "created_at", ("created_at", "updated_at"))
        sort = _choice(request, "sort", "desc", ("asc", "desc"))
        return self._sub_page(request, f"notes:{order_by}:{sort}")

    def _get_approvals(self, request: Request) -> Answer:
        return Answer(200, self._approvals_body(self._asked(request)))

    def _list_reviewers(self, request: Request) -> Answer:
        reviews = self._asked(request).reviews.values()
        return json_answer(
            [
                {"user": self._person(review.person), "state": review.state, "created_at": _ms(review.at)}
                for review in reviews
            ]
        )

    def _list_state_events(self, request: Request) -> Answer:
        return self._sub_page(request, "state_events")

    def _list_events(self, request: Request) -> Answer:
        project = self._asked_project(request)
        action = _choice(request, "action", "", ("", *_EVENT_ACTIONS))
        sort = _choice(request, "sort", "desc", ("asc", "desc"))
        after, before = _day(request, "after"), _day(request, "before")
        events = project.events.get(action, [])
        oldest = self.clock.now() - EVENTS_KEPT
        if after is not None:
            # Both ends are dates, and the named days themselves are left out.
            oldest = max(oldest, datetime.combine(after + timedelta(days=1), datetime.min.time(), UTC))
        low = bisect_left(events, oldest, key=EVENT_AT)
        high = len(events)
        if before is not None:
            high = bisect_left(events, datetime.combine(before, datetime.min.time(), UTC), key=EVENT_AT)
        page, per_page = _paging(request)
        total = max(0, high - low)
        start, stop = (page - 1) * per_page, min(page * per_page, total)
        if sort == "asc":
            found = events[low + start : low + stop] if start < total else []
        else:
            found = [events[high - 1 - position] for position in range(start, stop)]
        rows = [msgspec.json.encode(self._event_json(project, event)) for event in found]
        headers = _page_headers(request, page, per_page, total, {"id": str(project.id)})
        return Answer(200, b"[" + b",".join(rows) + b"]", headers)

    def _list_members(self, request: Request) -> Answer:
        self._asked_project(request)
        members = [
            _person_json(person)
            | {
                "access_level": 40 if person.id % 5 == 0 else 30,
                "created_at": "2023-01-09T08:00:00.000Z",
                "expires_at": None,
                "membership_state": "active",
            }
            for person in self.world.people.values()
            if person.id not in (GHOST_ID, RENOVATE_ID)
        ]
        return self._page(request, [msgspec.json.encode(member) for member in members])

    # --- finding and paging

    def _asked_project(self, request: Request) -> Project:
        wanted = request.captured[0]
        if wanted.isdigit():
            project = self.world.projects.get(int(wanted))
        else:
            project = next((found for found in self.world.projects.values() if found.path == wanted), None)
            moved = next((found for found in self.world.projects.values() if wanted in found.old_paths), None)
            if project is None and moved is not None and not moved.is_hidden:
                raise RefusalError(_moved(request, moved))
        if project is None or project.is_hidden:
            raise RefusalError(_error_json("404 Project Not Found"))
        return project

    def _asked(self, request: Request) -> MergeRequest:
        project, iid = self._asked_project(request), request.captured[1]
        merge_request = project.by_iid.get(int(iid)) if iid.isdigit() else None
        if merge_request is None:
            raise RefusalError(_error_json("404 Not found"))
        return merge_request

    def _page(self, request: Request, items: list[bytes], more: dict[str, str] | None = None) -> Answer:
        page, per_page = _paging(request)
        found = items[(page - 1) * per_page : page * per_page]
        headers = _page_headers(request, page, per_page, len(items), more or {})
        return Answer(200, b"[" + b",".join(found) + b"]", headers)

    def _sub_page(self, request: Request, kind: str) -> Answer:
        merge_request = self._asked(request)
        more = {"id": str(merge_request.project.id), "merge_request_iid": str(merge_request.iid)}
        return self._page(request, self._sub_items(merge_request, kind), more)

    # --- rendering, each thing once until it changes

    def _person(self, person: Person) -> msgspec.Raw:
        raw = self._person_raw.get(person.id)
        if raw is None:
            raw = self._person_raw[person.id] = msgspec.Raw(msgspec.json.encode(_person_json(person)))
        return raw

    def _person_or_none(self, person: Person | None) -> msgspec.Raw | None:
        return None if person is None else self._person(person)

    def _sub_items(self, merge_request: MergeRequest, kind: str) -> list[bytes]:
        items: list[bytes] | None = merge_request.rendered.get(kind)
        if items is None:
            items = merge_request.rendered[kind] = _SUB_RENDERERS[kind](self, merge_request)
        return items

    def render_commits(self, merge_request: MergeRequest) -> list[bytes]:
        """The commits, newest first."""
        project = merge_request.project
        return [msgspec.json.encode(_commit_json(project, commit)) for commit in reversed(merge_request.commits)]

    def render_state_events(self, merge_request: MergeRequest) -> list[bytes]:
        """The state events, oldest first."""
        return [
            msgspec.json.encode(_state_event_json(merge_request, event, self._person(event.person)))
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
            "author": self._person(note.person),
            "created_at": _ms(note.created_at),
            "updated_at": _ms(note.updated_at),
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
            row |= {"resolved": True, "resolved_by": self._person(note.person), "resolved_at": _ms(note.updated_at)}
        return row

    def _approvals_body(self, merge_request: MergeRequest) -> bytes:
        body: bytes | None = merge_request.rendered.get("approvals")
        if body is None:
            approved_by: list[dict[str, Any]] = [
                {"user": self._person(approval.person)}
                | ({"approved_at": _ms(approval.at)} if self._has_approval_times else {})
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

    def _event_json(self, project: Project, event: Event) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": event.id,
            "project_id": project.id,
            "action_name": event.action,
            "target_id": event.target_id,
            "target_iid": event.target_iid,
            "target_type": event.target_type,
            "author_id": event.person.id,
            "target_title": event.title,
            "created_at": _ms(event.at),
            "author": self._person(event.person),
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
                "author": self._person(event.note.person),
                "created_at": _ms(event.note.created_at),
                "system": False,
            }
        return row

    def _row(self, merge_request: MergeRequest) -> bytes:
        row: bytes | None = merge_request.rendered.get("row")
        if row is None:
            row = merge_request.rendered["row"] = msgspec.json.encode(self._row_json(merge_request))
        return row

    def _row_json(self, merge_request: MergeRequest) -> dict[str, Any]:
        project = merge_request.project
        has_metrics = merge_request.has_metrics
        merged_by = self._person_or_none(merge_request.merged_by if has_metrics else None)
        return {
            "id": merge_request.id,
            "iid": merge_request.iid,
            "project_id": project.id,
            "title": merge_request.title,
            "description": merge_request.description,
            "state": merge_request.state,
            "created_at": _ms(merge_request.created_at),
            "updated_at": _ms(merge_request.updated_at),
            "merged_by": merged_by,
            "merge_user": merged_by,
            "merged_at": _ms(merge_request.merged_at) if has_metrics else None,
            "merge_after": None,
            "prepared_at": _ms(merge_request.created_at),
            "closed_by": self._person_or_none(merge_request.closed_by if has_metrics else None),
            "closed_at": _ms(merge_request.closed_at) if has_metrics else None,
            "target_branch": "main",
            "source_branch": merge_request.source_branch,
            "user_notes_count": sum(not note.is_system for note in merge_request.notes),
            "upvotes": 0,
            "downvotes": 0,
            "author": self._person_or_none(merge_request.author),
            "assignees": [self._person(merge_request.author)] if merge_request.author else [],
            "assignee": self._person_or_none(merge_request.author),
            "reviewers": [self._person(review.person) for review in merge_request.reviews.values()],
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


_SUB_RENDERERS: dict[str, Callable[[GitLabSimulator, MergeRequest], list[bytes]]] = {
    "commits": GitLabSimulator.render_commits,
    "state_events": GitLabSimulator.render_state_events,
    **{
        f"notes:{order_by}:{sort}": partial(
            GitLabSimulator.render_notes, order_by=order_by, is_descending=sort == "desc"
        )
        for order_by in ("created_at", "updated_at")
        for sort in ("asc", "desc")
    },
}
