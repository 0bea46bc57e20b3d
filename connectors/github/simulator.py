"""A simulated GitHub: repositories with two years of issues and pull requests, behind the REST API that a sync reads.

Here belongs how GitHub behaves as a server, written from its documentation; docs/simulators.md lists rule by rule what
is modelled and what is not. What is true in it stands in `simulated/world.py`, how it looks in
`simulated/rendering.py`. It shares no code with the client, so that a misreading of the API shows as a failing test.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from connectors.github.simulated import rendering as looks
from connectors.github.simulated.delivery import Delivery
from connectors.github.simulated.delivery_api import DeliveryApi
from connectors.github.simulated.hooks import SimulatedHooks
from connectors.github.simulated.past import make_past
from connectors.github.simulated.world import (
    COMMITS_SHOWN_COUNT,
    FIRST_REPOSITORY_ID,
    TOKEN_USER_ID,
    Repository,
    Thing,
    World,
)
from connectors.simulator import (
    DEFAULT_NOW,
    Answer,
    RefusalError,
    Request,
    Route,
    TimeIndex,
    TokenBucket,
    json_answer,
)

__all__ = ["DEFAULT_NOW", "FIRST_REPOSITORY_ID", "TOKEN_USER_ID", "GitHubSimulator", "Thing"]

PER_PAGE_DEFAULT, PER_PAGE_MAX = 30, 100
NUMBERED_PAGES_MAX = 100
"""Beyond these, the list of issues is paged by cursor only."""
API_VERSIONS = ("2022-11-28", "2026-03-10")

_PARTS: dict[str, Callable[[Thing], list[dict[str, Any]]]] = {
    "commits": lambda thing: [looks.commit_json(thing, commit) for commit in thing.commits[:COMMITS_SHOWN_COUNT]],
    "reviews": lambda thing: [looks.review_json(thing, review) for review in thing.reviews],
    "comments": lambda thing: [looks.line_comment_json(thing, comment) for comment in thing.line_comments],
    "events": lambda thing: [looks.event_json(thing, event) for event in thing.events],
    "timeline": looks.timeline_json,
}


class GitHubSimulator(DeliveryApi):
    """A GitHub Enterprise Server of some repositories that share issues and pull requests between them.

    Args:
        pull_requests: how many in all; the first forty hold every special case once.
        issues: how many in all.
        repositories: how many, numbered from 501001, e.g. `acme/payments`.
        seed: the same seed gives the same world and the same faults.
        now: the server's time at the start.
        is_clock_running: whether the clock runs on by itself; else it stands until advanced.
        latency_ms: added to every answer; the median where `latency_p99_ms` is given (log-normal).
        latency_p99_ms: the 99th percentile of the latency.
        faults: see `connectors.simulator.parse_faults`.
        token: accepted as Bearer and as token.
        is_since_inclusive: whether `since` names a time that belongs to the answer; GitHub does not say.
        statuses_touch: whether a status moves the update time of its deployment; GitHub does not say.
        rate_limit_per_hour: requests an hour before 403; answers that nothing has changed are not counted.
        is_strict: refuse query parameters that an endpoint does not know.
    """

    changes = frozenset(
        {
            "comment", "review", "dismiss_review", "push", "merge", "close", "reopen", "label", "rename", "mark_ready",
            "mark_draft", "create_pull_request", "create_issue", "delete_issue", "rename_user", "rename_repository",
            "hide_repository", "start_run", "finish_run", "run_again", "deploy", "set_deployment_status",
        }
    )  # fmt: skip

    def __init__(
        self,
        *,
        pull_requests: int = 40,
        issues: int = 20,
        repositories: int = 1,
        seed: int = 1,
        now: datetime = DEFAULT_NOW,
        is_clock_running: bool = False,
        latency_ms: float = 0,
        latency_p99_ms: float | None = None,
        faults: str = "",
        token: str = "sim-token",  # noqa: S107 - a made-up token of a made-up server
        is_since_inclusive: bool = True,
        statuses_touch: bool = True,
        rate_limit_per_hour: int = 5_000,
        is_strict: bool = True,
    ) -> None:
        self.token = token
        self.is_since_inclusive = is_since_inclusive
        self.rate_limit_per_hour = rate_limit_per_hour
        self.counted_count = 0
        """How many requests counted against the limit."""
        self.webhooks = SimulatedHooks(self, seed)
        self._bucket = TokenBucket(rate_limit_per_hour, 3_600)
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
        make_past(self.world, pull_requests=pull_requests, issues=issues, repositories=repositories, now=now)
        self.delivery = Delivery(self.world, touches=statuses_touch)
        self.delivery.make_past(now)

    def routes(self) -> Iterable[Route]:
        """The endpoints, with the query parameters that each knows; a repository has two paths."""
        paging = frozenset({"page", "per_page"})
        issues = paging | {"state", "since", "sort", "direction", "labels", "creator", "after", "before"}
        routes = [
            Route("GET", "/api/v3/meta", self._get_meta),
            Route("GET", "/api/v3/rate_limit", self._get_rate_limit),
            Route("GET", "/api/v3/user", self._get_user),
            *self.webhooks.sender.routes(),
            Route("GET", "/api/v3/user/repos", self._list_repositories, paging | {"visibility", "affiliation"}),
        ]
        for home in ("/api/v3/repos/{owner}/{name}", "/api/v3/repositories/{id}"):
            routes += [
                Route("GET", home, self._get_repository),
                Route("GET", home + "/issues", self._list_issues, issues, is_listing=True),
                Route("GET", home + "/issues/{number}", self._get_issue),
                Route("GET", home + "/pulls/{number}", self._get_pull_request),
            ]
            for part in ("commits", "reviews", "comments"):
                routes.append(Route("GET", f"{home}/pulls/{{number}}/{part}", self._part(part), paging))
            routes += [*self.delivery_routes(home), *self.webhooks.routes(home)]
            for part in ("events", "timeline"):
                routes.append(Route("GET", f"{home}/issues/{{number}}/{part}", self._part(part), paging))
        return routes

    # --- what a complete sync must hold

    def _things(self, *, are_pull_requests: bool) -> list[Thing]:
        return [
            thing
            for home in self.world.repositories.values()
            if not home.is_hidden
            for _, thing in sorted(home.by_number.items())
            if thing.is_pull_request == are_pull_requests
        ]

    def expected(self) -> list[Any]:
        """Every pull request, then every issue."""
        return [*self.expected_pull_requests(), *self.expected_issues()]

    def expected_pull_requests(self) -> list[looks.ExpectedPullRequest]:
        """Every pull request of every visible repository, by repository and number."""
        with self.lock:
            return [looks.expected_pull_request(thing) for thing in self._things(are_pull_requests=True)]

    def expected_issues(self) -> list[looks.ExpectedIssue]:
        """Every issue of every visible repository, by repository and number."""
        with self.lock:
            return [looks.expected_issue(thing) for thing in self._things(are_pull_requests=False)]

    # --- endpoints

    def refuse_credentials(self, request: Request) -> Answer | None:
        """401 unless the token came as Bearer or as token; 400 and 410 for a version that there is not."""
        if request.credentials() not in (("bearer", self.token), ("token", self.token)):
            return self.error(401)
        version = request.headers.get(b"x-github-api-version", API_VERSIONS[0].encode()).decode("latin-1")
        return None if version in API_VERSIONS else self.error(410, f"The version {version} is no longer supported.")

    def error(self, status: int, message: str | None = None) -> Answer:
        """As GitHub words it."""
        words = {401: "Bad credentials", 403: "Resource not accessible by personal access token", 404: "Not Found"}
        body = {
            "message": message or words.get(status, str(status)),
            "documentation_url": "https://docs.github.com/rest",
        }
        return json_answer(body | {"status": str(status)}, status)

    def rate_limited(self, retry_after: str | None) -> Answer:
        """The secondary limit: a 403 that says so in words, and not always when."""
        headers = [(b"retry-after", retry_after.encode())] if retry_after else []
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        return json_answer({"message": message}, 403, headers)

    def _handle(self, request: Request) -> Answer:
        """Answer, with an ETag of the body; what the client has already is not sent and not counted."""
        answer = super()._handle(request)
        if answer.status != 200 or request.path.startswith("/__sim/"):
            return answer
        digest = hashlib.sha256(answer.body + bytes(self._link_of(answer))).hexdigest()
        etag = f'W/"{digest}"'.encode()
        is_known = request.headers.get(b"if-none-match") == etag
        is_free = is_known or request.path.endswith("/rate_limit")
        if is_free:
            left = self.rate_limit_per_hour - self.counted_count
        else:
            self.counted_count += 1
            left, wait_seconds = self._bucket.take()
            if wait_seconds:
                spent = self.error(403, "API rate limit exceeded for user ID 10.")
                return spent._replace(headers=self._limit_headers(0, wait_seconds))
        headers = [*answer.headers, (b"etag", etag), *self._limit_headers(left, 3_600)]
        return answer._replace(status=304, body=b"", headers=headers) if is_known else answer._replace(headers=headers)

    def _link_of(self, answer: Answer) -> bytes:
        return next((value for name, value in answer.headers if name == b"link"), b"")

    def _limit_headers(self, left: int, reset_seconds: int) -> list[tuple[bytes, bytes]]:
        reset_at = self.clock.now() + timedelta(seconds=reset_seconds)
        return [
            (b"x-ratelimit-limit", b"%d" % self.rate_limit_per_hour),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-used", b"%d" % (self.rate_limit_per_hour - left)),
            (b"x-ratelimit-reset", b"%d" % reset_at.timestamp()),
            (b"x-ratelimit-resource", b"core"),
        ]

    def _get_meta(self, request: Request) -> Answer:
        del request
        return json_answer({"verifiable_password_authentication": True, "installed_version": "3.17.2"})

    def _get_rate_limit(self, request: Request) -> Answer:
        del request
        core = {"limit": self.rate_limit_per_hour, "used": self.counted_count}
        return json_answer({"resources": {"core": core}})

    def _get_user(self, request: Request) -> Answer:
        del request
        return json_answer(looks.person_json(self.world.people[TOKEN_USER_ID]))

    def _list_repositories(self, request: Request) -> Answer:
        homes = [home for home in self.world.repositories.values() if not home.is_hidden]
        return self.page_of(request, [msgspec.json.encode(looks.repository_json(home)) for home in homes])

    def _get_repository(self, request: Request) -> Answer:
        return json_answer(looks.repository_json(self.asked_repository(request)[0]))

    def _get_issue(self, request: Request) -> Answer:
        return Answer(200, self._row(self._asked(request)))

    def _get_pull_request(self, request: Request) -> Answer:
        thing = self._asked(request)
        if not thing.is_pull_request:
            raise RefusalError(self.error(404))
        return Answer(200, self._rendered(thing, "pull", lambda: msgspec.json.encode(looks.pull_request_json(thing))))

    def _part(self, part: str) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            thing = self._asked(request)
            if part in ("commits", "reviews", "comments") and not thing.is_pull_request:
                raise RefusalError(self.error(404))
            render = lambda: [msgspec.json.encode(each) for each in _PARTS[part](thing)]  # noqa: E731
            return self.page_of(request, self._rendered(thing, part, render))

        return answer

    def _list_issues(self, request: Request) -> Answer:
        home, _ = self.asked_repository(request)
        state = _choice(self, request, "state", "open", ("open", "closed", "all"))
        index = (
            home.by_updated
            if _choice(self, request, "sort", "created", ("created", "updated")) == "updated"
            else home.by_created
        )
        is_descending = _choice(self, request, "direction", "desc", ("asc", "desc")) == "desc"
        since = self._since(request)
        things = [home.by_id[key] for key in self._keys(home, index, since)]
        things = [each for each in things if state in ("all", "open" if each.is_open else "closed")]
        if is_descending:
            things.reverse()
        if self._paging(request)[0] > NUMBERED_PAGES_MAX and not request.last("after"):
            raise RefusalError(
                self.error(422, "Pagination with the page parameter is not supported for large datasets")
            )
        return self._cursor_page(request, things)

    def _keys(self, home: Repository, index: TimeIndex, since: datetime | None) -> list[int]:
        if since is None:
            return [key for _, key in index.keys]
        first = since if self.is_since_inclusive else since + timedelta(seconds=1)
        if index is home.by_updated:
            return [key for _, key in index.keys[index.first_from(first) :]]
        return [key for _, key in index.keys if home.by_id[key].updated_at >= first]

    def _since(self, request: Request) -> datetime | None:
        text = request.last("since")
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise RefusalError(self.error(422, "Invalid since")) from None
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    # --- finding and paging

    def asked_repository(self, request: Request) -> tuple[Repository, list[str]]:
        """The repository of a path, and what the path captured after it."""
        captured = request.captured
        if request.path.startswith("/api/v3/repositories/"):
            home = self.world.repositories.get(int(captured[0])) if captured[0].isdigit() else None
            rest = captured[1:]
        else:
            name, rest = "/".join(captured[:2]).lower(), captured[2:]
            homes = self.world.repositories.values()
            home = next((each for each in homes if each.full_name.lower() == name), None)
            moved = next((each for each in homes if name in {old.lower() for old in each.old_names}), None)
            if home is None and moved is not None and not moved.is_hidden:
                tail = request.path.split("/", 6)[6:]
                path = "/".join([f"/api/v3/repositories/{moved.id}", *tail])
                query = f"?{request.query_string}" if request.query_string else ""
                location = f"{request.base_url}{path}{query}"
                body = msgspec.json.encode({"message": "Moved Permanently", "url": location})
                raise RefusalError(Answer(301, body, [(b"location", location.encode())]))
        if home is None or home.is_hidden:
            raise RefusalError(self.error(404))
        return home, rest

    def _asked(self, request: Request) -> Thing:
        home, rest = self.asked_repository(request)
        thing = home.by_number.get(int(rest[0])) if rest[0].isdigit() else None
        if thing is None:
            raise RefusalError(self.error(404))
        return thing

    def _paging(self, request: Request) -> tuple[int, int]:
        values = []
        for name, default in (("page", 1), ("per_page", PER_PAGE_DEFAULT)):
            value = request.last(name, str(default)) or ""
            values.append(int(value) if value.isascii() and value.isdigit() and int(value) else default)
        return values[0], min(values[1], PER_PAGE_MAX)

    def page_of(self, request: Request, items: list[bytes], wrapped_as: str | None = None) -> Answer:
        """A page of a listing, as a list or inside an object that counts."""
        page, per_page = self._paging(request)
        found = b"[" + b",".join(items[(page - 1) * per_page : page * per_page]) + b"]"
        headers: Sequence[tuple[bytes, bytes]] = ()
        if page * per_page < len(items):
            headers = [_link(request, {"page": page + 1, "per_page": per_page})]
        return Answer(200, f"{{{wrapped_as}:".encode() + found + b"}" if wrapped_as else found, headers)

    def _cursor_page(self, request: Request, things: list[Thing]) -> Answer:
        """A page of issues: a cursor is a place in the list as it is now, so that changes shift it."""
        page, per_page = self._paging(request)
        start = (page - 1) * per_page
        if cursor := request.last("after"):
            start = int(base64.b64decode(cursor))
        found = things[start : start + per_page]
        headers: Sequence[tuple[bytes, bytes]] = ()
        if start + per_page < len(things):
            after = base64.b64encode(b"%d" % (start + per_page)).decode()
            headers = [_link(request, {"after": after, "per_page": per_page, "page": page + 1})]
        return Answer(200, b"[" + b",".join(map(self._row, found)) + b"]", headers)

    def _row(self, thing: Thing) -> bytes:
        row: bytes = self._rendered(thing, "row", lambda: msgspec.json.encode(looks.issue_json(thing)))
        return row

    def _rendered(self, thing: Thing, name: str, render: Callable[[], Any]) -> Any:
        if name not in thing.rendered:
            thing.rendered[name] = render()
        return thing.rendered[name]


def _choice(simulator: GitHubSimulator, request: Request, name: str, default: str, choices: Iterable[str]) -> str:
    value = request.last(name, default)
    if value is None or value not in choices:
        raise RefusalError(simulator.error(422, f"Invalid {name}"))
    return value


def _link(request: Request, more: dict[str, Any]) -> tuple[bytes, bytes]:
    query = {name: values[-1] for name, values in request.query.items()} | more
    return b"link", f'<{request.base_url}{request.path}?{urlencode(query)}>; rel="next"'.encode()
