"""A simulated GitLab: projects with two years of merge requests, behind the REST API that a sync reads.

Here belongs how GitLab behaves as a server, written from its documentation; docs/simulators.md lists rule by rule what
is modelled and what is not. Its parts stand in `simulated/`: what is true in it, what its users do, how it looks. It
shares no code with the client, so that a misreading of the API shows as a failing test.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from connectors.gitlab.simulated.asked import asked_listing, asked_page, choice, day_of, moved, page_headers, swap
from connectors.gitlab.simulated.deliverers import Deliverers
from connectors.gitlab.simulated.delivery import Delivery, make_delivery_past
from connectors.gitlab.simulated.delivery_api import DeliveryApi
from connectors.gitlab.simulated.graphql import GraphQLApi
from connectors.gitlab.simulated.hooks import SimulatedHooks
from connectors.gitlab.simulated.model import (
    EVENT_AT,
    FIRST_PROJECT_ID,
    GHOST_ID,
    HUMANS_FROM_ID,
    RENOVATE_ID,
    TOKEN_USER_ID,
    ExpectedMergeRequest,
    MergeRequest,
    Project,
    expect,
    sha,
)
from connectors.gitlab.simulated.past import make_past
from connectors.gitlab.simulated.rendering import SUB_RENDERERS, Renderer, error_json, ms, person_json, project_json
from connectors.gitlab.simulated.world import TOUCH_INTERVAL, World
from connectors.simulator import DEFAULT_NOW, Answer, RefusalError, Request, Route, TokenBucket, json_answer

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

EVENTS_KEPT = timedelta(days=3 * 365)
_EVENT_ACTIONS = frozenset({"created", "pushed", "commented", "merged", "closed", "reopened", "approved"})


class GitLabSimulator(Deliverers):
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
        self.renderer = Renderer(has_approval_times=has_approval_times)
        self._bucket = TokenBucket(rate_limit_per_minute, 60) if rate_limit_per_minute else None
        self._has_rate_limit_headers = has_rate_limit_headers
        self.world = World(seed)
        self.webhooks = SimulatedHooks(self, seed, self._asked_project, self._page)
        self.delivery = Delivery(self.world)
        self._delivery_api = DeliveryApi(self.delivery, self.renderer, self._asked_project)
        self.artifacts = self._delivery_api.artifacts
        self.graphql = GraphQLApi(self.world, version)
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
        make_delivery_past(self.delivery, now)

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
            Route("GET", "/api/v4/projects", self._list_projects, paging | {"membership", "simple", "search"}),
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
            Route("GET", project + "/events", self._list_events, paging | {"id", "action", "before", "after", "sort"}),
            *self.webhooks.routes(),
            *self._delivery_api.routes(),
            Route("POST", "/api/graphql", self.graphql.answer),
            Route("GET", project + "/members/all", self._list_members, paging | {"id", "query", "user_ids[]", "state"}),
        ]

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
                    self.renderer.row(merge_request)
                    for kind in SUB_RENDERERS:
                        self.renderer.sub_items(merge_request, kind)
                    self.renderer.approvals_body(merge_request)

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
        return json_answer(person_json(person) | {"bot": person.is_bot, "email": person.email, "is_admin": False})

    def _get_user_by_id(self, request: Request) -> Answer:
        wanted = request.captured[0]
        if not wanted.isdigit() or (person := self.world.people.get(int(wanted))) is None:
            return error_json("404 User Not Found")
        return json_answer(person_json(person) | {"bot": person.is_bot, "created_at": ms(self.clock.now())})

    def _list_projects(self, request: Request) -> Answer:
        words = (request.last("search") or "").lower()
        projects = [
            project
            for project in self.world.projects.values()
            if not project.is_hidden and words in project.name.lower()
        ]
        return self._page(request, [msgspec.json.encode(self._project_json(project)) for project in projects])

    def _get_project(self, request: Request) -> Answer:
        return json_answer(self._project_json(self._asked_project(request)))

    def _project_json(self, project: Project) -> dict[str, Any]:
        home = self.delivery.home(project)
        return project_json(project) | {"archived": home.is_archived, "default_branch": home.default_branch}

    def _list_merge_requests(self, request: Request) -> Answer:
        project = self._asked_project(request)
        query = asked_listing(request)
        page, per_page = asked_page(request)
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
            rows.sort(key=lambda row: (query.order_key(row), swap(row.id, salt)), reverse=query.is_descending)
            total = len(rows)
            found = rows[(page - 1) * per_page : page * per_page]
        body = b"[" + b",".join([self.renderer.row(row) for row in found]) + b"]"
        return Answer(200, body, page_headers(request, page, per_page, total, {"id": str(project.id)}))

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
        return Answer(200, self.renderer.row(merge_request)[:-1] + b"," + msgspec.json.encode(more)[1:])

    def _list_commits(self, request: Request) -> Answer:
        return self._sub_page(request, "commits")

    def _list_notes(self, request: Request) -> Answer:
        order_by = choice(request, "order_by", "created_at", ("created_at", "updated_at"))
        sort = choice(request, "sort", "desc", ("asc", "desc"))
        return self._sub_page(request, f"notes:{order_by}:{sort}")

    def _get_approvals(self, request: Request) -> Answer:
        return Answer(200, self.renderer.approvals_body(self._asked(request)))

    def _list_reviewers(self, request: Request) -> Answer:
        reviews = self._asked(request).reviews.values()
        return json_answer(
            [
                {"user": self.renderer.person(review.person), "state": review.state, "created_at": ms(review.at)}
                for review in reviews
            ]
        )

    def _list_state_events(self, request: Request) -> Answer:
        return self._sub_page(request, "state_events")

    def _list_events(self, request: Request) -> Answer:
        project = self._asked_project(request)
        action = choice(request, "action", "", ("", *_EVENT_ACTIONS))
        sort = choice(request, "sort", "desc", ("asc", "desc"))
        after, before = day_of(request, "after"), day_of(request, "before")
        events = project.events.get(action, [])
        oldest = self.clock.now() - EVENTS_KEPT
        if after is not None:
            # Both ends are dates, and the named days themselves are left out.
            oldest = max(oldest, datetime.combine(after + timedelta(days=1), datetime.min.time(), UTC))
        low = bisect_left(events, oldest, key=EVENT_AT)
        high = len(events)
        if before is not None:
            high = bisect_left(events, datetime.combine(before, datetime.min.time(), UTC), key=EVENT_AT)
        page, per_page = asked_page(request)
        total = max(0, high - low)
        start, stop = (page - 1) * per_page, min(page * per_page, total)
        if sort == "asc":
            found = events[low + start : low + stop] if start < total else []
        else:
            found = [events[high - 1 - position] for position in range(start, stop)]
        rows = [msgspec.json.encode(self.renderer.event_json(project, event)) for event in found]
        headers = page_headers(request, page, per_page, total, {"id": str(project.id)})
        return Answer(200, b"[" + b",".join(rows) + b"]", headers)

    def _list_members(self, request: Request) -> Answer:
        self._asked_project(request)
        members = [
            person_json(person)
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
            renamed = next((found for found in self.world.projects.values() if wanted in found.old_paths), None)
            if project is None and renamed is not None and not renamed.is_hidden:
                raise RefusalError(moved(request, renamed))
        if project is None or project.is_hidden:
            raise RefusalError(error_json("404 Project Not Found"))
        return project

    def _asked(self, request: Request) -> MergeRequest:
        project, iid = self._asked_project(request), request.captured[1]
        merge_request = project.by_iid.get(int(iid)) if iid.isdigit() else None
        if merge_request is None:
            raise RefusalError(error_json("404 Not found"))
        return merge_request

    def _page(self, request: Request, items: list[bytes], more: dict[str, str] | None = None) -> Answer:
        page, per_page = asked_page(request)
        found = items[(page - 1) * per_page : page * per_page]
        headers = page_headers(request, page, per_page, len(items), more or {})
        return Answer(200, b"[" + b",".join(found) + b"]", headers)

    def _sub_page(self, request: Request, kind: str) -> Answer:
        merge_request = self._asked(request)
        more = {"id": str(merge_request.project.id), "merge_request_iid": str(merge_request.iid)}
        return self._page(request, self.renderer.sub_items(merge_request, kind), more)
