"""A simulated GitLab: projects with two years of merge requests, behind the REST API that a sync reads.

Here belongs how GitLab behaves as a server, written from its documentation; docs/simulators.md lists rule by rule what
is modelled and what is not. What is true in it stands in `simulated_world.py`. It shares no code with the client, so
that a misreading of the API shows as a failing test.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any
from urllib.parse import urlencode

import msgspec

from connectors.gitlab.simulated_world import (
    EVENT_AT,
    FIRST_PROJECT_ID,
    GHOST_ID,
    HUMANS_FROM_ID,
    RENOVATE_ID,
    TOKEN_USER_ID,
    TOUCH_INTERVAL,
    Commit,
    Event,
    ExpectedMergeRequest,
    MergeMethod,
    MergeRequest,
    Note,
    Person,
    Project,
    StateEvent,
    World,
    expect,
    make_past,
    random_title,
    sha,
)
from connectors.simulator import (
    DEFAULT_NOW,
    Answer,
    RefusalError,
    Request,
    Route,
    Simulator,
    TokenBucket,
    json_answer,
)

__all__ = [
    "DEFAULT_NOW",
    "FIRST_PROJECT_ID",
    "HUMANS_FROM_ID",
    "TOKEN_USER_ID",
    "TOUCH_INTERVAL",
    "ExpectedMergeRequest",
    "GitLabSimulator",
    "MergeRequest",
]

WEB_URL = "https://gitlab.example.test"
"""What stands in links inside payloads; the API's own links name the host that was asked."""

PER_PAGE_DEFAULT, PER_PAGE_MAX = 20, 100
COUNTED_ROWS_MAX = 10_000
"""Over this many rows the totals are left out of the headers."""

EVENTS_KEPT = timedelta(days=3 * 365)


# --- how it looks -----------------------------------------------------------------------------------------------------


def _ms(at: datetime | None) -> str | None:
    """As GitLab renders times: UTC, three digits, the rest cut off."""
    return None if at is None else at.isoformat(timespec="milliseconds")[:-6] + "Z"


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
            return f"{project.path}!{self.create_merge_request(project=project.id, title=random_title(rng))}"
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
            self.update_merge_request(iid, project=project.id, title=random_title(rng))
        return f"{project.path}!{iid}"

    # --- what a complete sync must hold

    def expected(self) -> list[ExpectedMergeRequest]:
        """Every merge request of every visible project, by project and iid."""
        with self.lock:
            return [
                expect(merge_request)
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
        return json_answer({"version": self.version, "revision": sha(self.version)[:11]})

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
            "diff_refs": {"base_sha": sha(merge_request.id, "base"), "head_sha": head, "start_sha": head},
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
