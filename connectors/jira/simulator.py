"""A simulated Jira, Cloud or Data Center: issues with two years of history, behind the REST API that a sync reads.

Here belongs how Jira behaves as a server, written from its documentation; docs/simulators.md lists rule by rule what is
modelled and what is not. What is true in it stands in `simulated_world.py`, its search in `simulated_search.py`. It
shares no code with the client, so that a misreading of the API shows as a failing test.
"""

from __future__ import annotations

import base64
import hashlib
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from connectors.jira.simulated_hooks import SimulatedHooks
from connectors.jira.simulated_parts import SimulatedParts, document, sprint_json, utc_text, version_json
from connectors.jira.simulated_search import Entry, JqlError, Query, Reader, SearchIndex
from connectors.jira.simulated_world import (
    BUG,
    EPIC,
    ISSUE_TYPES,
    PRIORITIES,
    RESOLUTIONS,
    SEVERITIES,
    SUB_TASK,
    Deployment,
    ExpectedIssue,
    History,
    Issue,
    IssueType,
    Item,
    Named,
    Person,
    Project,
    Sprint,
    World,
    expect,
    make_past,
)
from connectors.simulator import (
    DEFAULT_NOW,
    Answer,
    RefusalError,
    Request,
    Route,
    Simulator,
    TokenBucket,
    dice,
    json_answer,
)
from models.errors import UsageError

SITE_URLS: Final[dict[Deployment, str]] = {
    "cloud": "https://sim.atlassian.example.test",
    "server": "https://jira.example.test",
}
"""What stands in links inside payloads."""

ID_ROWS_MAX, ROWS_MAX = 5_000, 100
"""Rows a page of Cloud's search: of ids and keys only, and of anything more."""
TOKEN_LIFE = timedelta(days=7)
BULK_ISSUES_MAX, BULK_CHANGELOG_ISSUES_MAX, BULK_CHANGELOG_FIELDS_MAX = 100, 1_000, 10
BULK_CHANGELOG_ROWS, BULK_CHANGELOG_ROWS_MAX = 1_000, 10_000
HISTORIES_MAX: Final = {"bulkfetch": 40, "search": 100, "issue": 100}
"""Histories that Cloud embeds, newest first, by endpoint; Data Center embeds all, oldest first."""
WRONG_LOGINS_MAX = 5
"""So many wrong passwords in a row, and Data Center asks for a CAPTCHA."""

_CATEGORIES: Final = {
    "new": (2, "To Do", "blue-gray"),
    "indeterminate": (4, "In Progress", "yellow"),
    "done": (3, "Done", "green"),
}
_NOT_NAVIGABLE: Final = frozenset({"comment", "worklog", "attachment"})
_EMPTY_FIELDS: Final = tuple(f"customfield_{number}" for number in range(10_400, 10_440))


class JiraSimulator(Simulator):
    """A Jira of `projects` projects that share `issues` issues between them.

    Args:
        issues: how many in all; the first fifty hold every special case once.
        projects: how many: PAY, SHOP, ORDER (a reserved word of JQL), MOB, …
        seed: the same seed gives the same world and the same faults.
        deployment: `cloud` or `server` (Data Center).
        changes_per_issue: histories an issue has on the average; the work itself makes about ten of them.
        time_zone: of the profile that the token belongs to; JQL times are meant in it and times are shown in it.
        index_lag_seconds: how long the search does not see a change, by the virtual clock.
        index_flicker: whether now and then one issue is missing from one page of a search.
        short_page_ratio: share of Cloud's search pages that are shorter than asked for without being the last.
        now: the server's time at the start.
        is_clock_running: whether the clock runs on by itself; else it stands until advanced.
        latency_ms: added to every answer; the median where `latency_p99_ms` is given (log-normal).
        latency_p99_ms: the 99th percentile of the latency.
        faults: see `connectors.simulator.parse_faults`.
        user: of basic authentication.
        token: its password, and the Bearer token of Data Center.
        old_server: a Data Center of before 9: no field ids in histories, and a missing issue fails a whole query.
        shows_time_zone: False hides `timeZone` from `myself`, as privacy settings may.
        is_changelog_epoch: whether Cloud's bulk changelog gives `created` as milliseconds since 1970; else as text.
        rate_limit_per_second: requests a second before 429; None is without limit.
        rows_max: rows a page of Data Center's search.
        is_strict: refuse parameters that an endpoint does not know.
    """

    changes = frozenset(
        {
            "edit_issue", "transition", "create_issue", "delete_issue", "move_issue", "add_comment", "link_issues",
            "hide_issue", "hide_project", "rename_status", "forget_person", "rename_sprint", "close_sprint",
            "delete_sprint", "rename_version", "delete_version", "rename_priority", "log_work",
        }
    )  # fmt: skip

    def __init__(
        self,
        *,
        issues: int = 50,
        projects: int = 1,
        seed: int = 1,
        deployment: Deployment = "cloud",
        changes_per_issue: float = 12.5,
        time_zone: str = "UTC",
        index_lag_seconds: float = 0,
        index_flicker: bool = False,
        short_page_ratio: float = 0.1,
        now: datetime = DEFAULT_NOW,
        is_clock_running: bool = False,
        latency_ms: float = 0,
        latency_p99_ms: float | None = None,
        faults: str = "",
        user: str = "sim@example.test",
        token: str = "sim-token",  # noqa: S107 - a made-up token of a made-up server
        old_server: bool = False,
        shows_time_zone: bool = True,
        is_changelog_epoch: bool = True,
        rate_limit_per_second: int | None = None,
        rows_max: int = 1_000,
        is_strict: bool = True,
    ) -> None:
        if deployment not in SITE_URLS:
            raise UsageError(f"There is no deployment {deployment!r}; choose cloud or server.")
        try:
            self.zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise UsageError(f"There is no time zone {time_zone!r}.") from None
        self.deployment: Deployment = deployment
        self.time_zone = time_zone
        self.user, self.token = user, token
        self.old_server = old_server
        self.site_url = SITE_URLS[deployment]
        self._index_lag = timedelta(seconds=index_lag_seconds)
        self._index_flicker = index_flicker
        self._short_page_ratio = short_page_ratio
        self._shows_time_zone = shows_time_zone
        self._is_changelog_epoch = is_changelog_epoch
        self._rows_max = rows_max
        self._is_limited = rate_limit_per_second is not None
        self._bucket = TokenBucket(rate_limit_per_second or 1_000, 1)
        self._wrong_logins_count = 0
        self._hidden_count = 0
        self._raw: dict[tuple[str, object], msgspec.Raw] = {}
        self._found: dict[object, list[int]] = {}
        self._ordered: dict[object, list[tuple[Issue, History]]] = {}
        self._changes_count = 0
        self.webhooks = SimulatedHooks(self, seed)
        self.parts = SimulatedParts(self)
        super().__init__(
            seed=seed,
            now=now,
            is_clock_running=is_clock_running,
            latency_ms=latency_ms,
            latency_p99_ms=latency_p99_ms,
            faults=faults,
            is_strict=is_strict,
        )
        self._flicker_rng = dice(seed, "flicker")
        self.world = World(seed, deployment)
        make_past(self.world, issues=issues, projects=projects, now=now, changes_per_issue=changes_per_issue)
        self.index = SearchIndex()
        self.index.load(map(_entry, self.world.issues.values()))
        self._late: deque[tuple[datetime, int, Entry | None]] = deque()
        self.world.on_change = self._index_later
        self._sprint_starts = sorted(
            {sprint.starts_at for project in self.world.projects.values() for sprint in project.sprints}
        )

    def routes(self) -> Iterable[Route]:
        """The endpoints of the deployment, with the query parameters that each knows."""
        return [
            route
            for version in (("2", "3", "latest") if self.deployment == "cloud" else ("2", "latest"))
            for route in (*self._routes_of(f"/rest/api/{version}"), *self.parts.routes_of(f"/rest/api/{version}"))
        ] + [*self.parts.agile_routes(), *self.webhooks.routes()]

    def _routes_of(self, api: str) -> list[Route]:
        paging = frozenset({"startAt", "maxResults"})
        both = [
            Route("GET", api + "/serverInfo", self._get_server_info, frozenset({"doHealthCheck"}), is_open=True),
            Route("GET", api + "/myself", self._get_myself, frozenset({"expand"})),
            Route("GET", api + "/field", self._list_fields),
            Route("GET", api + "/status", self._list_statuses),
            Route("GET", api + "/priority", self._list_priorities),
            Route("GET", api + "/resolution", self._list_resolutions),
            Route("GET", api + "/issuetype", self._list_issue_types),
            Route("GET", api + "/project", self._list_projects, frozenset({"expand", "recent", "includeArchived"})),
            Route("GET", api + "/project/{key}", self._get_project, frozenset({"expand", "properties"})),
            Route("GET", api + "/issue/{id}", self._get_issue, frozenset({"fields", "expand", "fieldsByKeys"})),
        ]
        if self.deployment == "server":
            known = paging | {"jql", "fields", "expand", "validateQuery"}
            return [
                *both,
                Route("GET", api + "/search", self._search_server, known, is_listing=True),
                Route("POST", api + "/search", self._search_server, is_listing=True),
            ]
        known = frozenset(
            {"jql", "fields", "expand", "maxResults", "nextPageToken", "fieldsByKeys", "failFast", "reconcileIssues"}
        )
        return [
            *both,
            *(
                Route(method, api + path, self._gone, paging | known | {"validateQuery"})
                for method in ("GET", "POST")
                for path in ("/search", "/search/id")
            ),
            Route("GET", api + "/search/jql", self._search_cloud, known, is_listing=True),
            Route("POST", api + "/search/jql", self._search_cloud, is_listing=True),
            Route("POST", api + "/search/approximate-count", self._count),
            Route(
                "GET", api + "/project/search", self._search_projects, paging | {"keys", "query", "orderBy", "expand"}
            ),
            Route("POST", api + "/issue/bulkfetch", self._bulk_fetch),
            Route("POST", api + "/changelog/bulkfetch", self._bulk_fetch_changelogs),
            Route("GET", api + "/issue/{id}/changelog", self._get_changelog, paging),
        ]

    # --- what a user does. Every method takes its turn under the lock and happens now, by the virtual clock.

    def issue(self, wanted: int | str) -> Issue:
        """The issue of that id or key.

        Raises:
            KeyError: there is none.
        """
        return self.world.issue(wanted)

    def edit_issue(self, wanted: int | str, *, by: int | None = None, **fields: Any) -> None:
        """Edit fields of an issue: one history, with an item (or several) for each field that changed.

        Args:
            wanted: id or key.
            by: the number of the person; any human where None.
            fields: summary, description, priority, severity, assignee (a person's number or None), labels, components,
                fix_versions (names), story_points, issue_type, due_on (a date or its text), estimate_seconds,
                sprint_ids, parent (id or key, or None), is_flagged.

        Raises:
            KeyError: there is no such issue or value.
            UsageError: there is no such field.
        """
        with self.lock:
            issue = self.world.issue(wanted)
            items: list[Item | None] = []
            for name, value in fields.items():
                item = self._edit(issue, name, value)
                items += item if isinstance(item, list) else [item]
            self.world.record(issue, self._person(issue, by), self.clock.now(), *items)

    def transition(
        self, wanted: int | str, status: str, *, resolution: str | None = None, by: int | None = None
    ) -> None:
        """Move an issue to a status, by name or by our word for it (todo, doing, review, done, reopened, closed)."""
        with self.lock:
            issue = self.world.issue(wanted)
            self.world.transition(
                issue,
                self.world.status(issue, status),
                self.clock.now(),
                by=self._person(issue, by),
                resolution=RESOLUTIONS[resolution] if resolution else None,
            )

    def create_issue(
        self,
        *,
        project: str | None = None,
        issue_type: str = "Bug",
        summary: str = "A new bug",
        by: int | None = None,
        severity: str | None = None,
    ) -> int:
        """File an issue and return its id."""
        with self.lock:
            home = self.world.projects[project] if project else next(iter(self.world.projects.values()))
            return self.world.create(
                home,
                ISSUE_TYPES[issue_type],
                summary,
                self.clock.now(),
                by=self.world.people[by] if by else self.world.humans[0],
                severity=SEVERITIES[severity] if severity else None,
            ).id

    def delete_issue(self, wanted: int | str) -> None:
        """Delete an issue for good."""
        with self.lock:
            issue = self.world.issue(wanted)
            self.world.delete(issue)
            self._hidden_count -= issue.is_hidden
            self._put_later(issue.id, None)

    def move_issue(self, wanted: int | str, project: str, *, by: int | None = None) -> str:
        """Move an issue to another project and return its new key."""
        with self.lock:
            issue = self.world.issue(wanted)
            self.world.move(issue, self.world.projects[project], self.clock.now(), by=self._person(issue, by))
            return issue.key

    def add_comment(self, wanted: int | str, body: str = "One more thought.", *, by: int | None = None) -> None:
        """Comment: `updated` moves without a history. By nobody that is shown where `by` is 0."""
        with self.lock:
            issue = self.world.issue(wanted)
            author = None if by == 0 else self._person(issue, by)
            self.world.comment(issue, author, body, self.clock.now())

    def log_work(self, wanted: int | str, seconds: int = 900, *, by: int | None = None) -> None:
        """Log time on an issue."""
        with self.lock:
            issue = self.world.issue(wanted)
            self.world.log_work(issue, self._person(issue, by), seconds, self.clock.now())

    def rename_sprint(self, sprint_id: int, name: str) -> None:
        """Rename a sprint; no issue's `updated` moves."""
        with self.lock:
            self.parts.sprint(sprint_id).name = name
            self._forget_rendered()

    def close_sprint(self, sprint_id: int) -> None:
        """End a sprint now, before its time; no issue's `updated` moves."""
        with self.lock:
            self.parts.sprint(sprint_id).ends_at = self.clock.now()
            self._forget_rendered()

    def delete_sprint(self, sprint_id: int) -> None:
        """Delete a sprint; its issues go back to the backlog, and their `updated` does not move."""
        with self.lock:
            sprint = self.parts.sprint(sprint_id)
            sprint.is_deleted = True
            for issue in self.world.issues.values():
                issue.sprints = [one for one in issue.sprints if one is not sprint]
            self._forget_rendered()

    def rename_version(self, version_id: str, name: str) -> None:
        """Rename a version; no issue's `updated` moves."""
        with self.lock:
            self.parts.version(version_id)[1].name = name
            self._forget_rendered()

    def delete_version(self, version_id: str) -> None:
        """Delete a version; the issues lose it, and their `updated` does not move."""
        with self.lock:
            project, version = self.parts.version(version_id)
            project.versions.remove(version)
            for issue in self.world.issues.values():
                issue.fix_versions = [one for one in issue.fix_versions if one is not version]
            self._forget_rendered()

    def rename_priority(self, priority_id: str, name: str) -> None:
        """Rename a priority, in this Jira only; no issue's `updated` moves."""
        with self.lock:
            self.parts.priority_names[priority_id] = name
            self._forget_rendered()

    def link_issues(self, blocker: int | str, blocked: int | str, *, by: int | None = None) -> None:
        """Say that one issue blocks another."""
        with self.lock:
            issue = self.world.issue(blocker)
            self.world.link(issue, self.world.issue(blocked), self.clock.now(), by=self._person(issue, by))

    def hide_issue(self, wanted: int | str, *, is_hidden: bool = True) -> None:
        """Let a security level hide an issue from the token, or show it again; nothing else about it changes."""
        with self.lock:
            issue = self.world.issue(wanted)
            self._hidden_count += is_hidden - issue.is_hidden
            issue.is_hidden = is_hidden

    def hide_project(self, key: str, *, is_hidden: bool = True) -> None:
        """Take the token's permission to browse a project away, or give it back."""
        with self.lock:
            project = self.world.projects[key]
            self._hidden_count += is_hidden - project.is_hidden
            project.is_hidden = is_hidden

    def rename_status(self, status_id: str, name: str) -> None:
        """Rename a status; no issue's `updated` moves."""
        with self.lock:
            for project in self.world.projects.values():
                for status in project.statuses.values():
                    if status.id == status_id:
                        status.name = name
            self._forget_rendered()

    def forget_person(self, number: int) -> None:
        """Delete an account under the data protection rules: a placeholder stays; no issue's `updated` moves."""
        with self.lock:
            person = self.world.people[number]
            person.name, person.is_active, person.is_forgotten = "Former user", False, True
            self._forget_rendered()

    def mutate_once(self, rng: random.Random) -> str:
        """Change one issue the way its users do."""
        if not self.world.issues or rng.random() < 0.05:
            return self.world.issues[self.create_issue(project=rng.choice(list(self.world.projects)))].key
        issue = self._any_issue(rng)
        chance = rng.random()
        if chance < 0.3:
            word = rng.choice([word for word, status in issue.project.statuses.items() if status is not issue.status])
            self.transition(issue.id, word)
        elif chance < 0.45:
            self.add_comment(issue.id)
        elif chance < 0.6:
            self.edit_issue(issue.id, priority=rng.choice([name for name in PRIORITIES if name != issue.priority.name]))
        elif chance < 0.7 and issue.type is BUG:
            self.edit_issue(issue.id, severity=rng.choice(list(SEVERITIES)))
        else:
            self.edit_issue(issue.id, summary=f"{issue.summary[:200]} ({rng.randrange(1_000_000)})")
        return issue.key

    def _any_issue(self, rng: random.Random) -> Issue:
        newest = next(reversed(self.world.issues))
        while True:
            issue = self.world.issues.get(rng.randrange(10_001, newest + 1))
            if issue is not None:
                return issue

    def _person(self, issue: Issue, number: int | None) -> Person:
        return self.world.people[number] if number else issue.assignee or self.world.humans[0]

    def _edit(self, issue: Issue, name: str, value: Any) -> Item | list[Item] | None:
        world, project = self.world, issue.project
        edits: dict[str, Callable[[], Item | list[Item] | None]] = {
            "summary": lambda: world.set_summary(issue, value),
            "description": lambda: world.set_description(issue, value),
            "priority": lambda: world.set_priority(issue, PRIORITIES[value]),
            "severity": lambda: world.set_severity(issue, SEVERITIES[value] if value else None),
            "assignee": lambda: world.set_assignee(issue, world.people[value] if value else None),
            "labels": lambda: world.set_labels(issue, value),
            "components": lambda: world.set_components(issue, _named(project.components, value)),
            "fix_versions": lambda: world.set_fix_versions(issue, _named(project.versions, value)),
            "story_points": lambda: world.set_story_points(issue, value),
            "issue_type": lambda: world.set_type(issue, ISSUE_TYPES[value]),
            "due_on": lambda: world.set_due(issue, date.fromisoformat(value) if isinstance(value, str) else value),
            "estimate_seconds": lambda: world.set_estimate(issue, value),
            "sprint_ids": lambda: world.set_sprints(issue, [one for one in project.sprints if one.id in value]),
            "parent": lambda: world.set_parent(issue, world.issue(value) if value else None),
            "is_flagged": lambda: world.set_flag(issue, is_flagged=value),
        }
        if name not in edits:
            raise UsageError(f"There is no field {name!r} to edit; choose one of {', '.join(edits)}.")
        return edits[name]()

    # --- what a complete sync must hold

    def expected(self) -> list[ExpectedIssue]:
        """Every issue that the token may see, by id, with its whole history."""
        with self.lock:
            return [
                expect(issue, self.deployment, has_field_ids=not self.old_server)
                for _, issue in sorted(self.world.issues.items())
                if self._is_visible(issue)
            ]

    expected_issues = expected

    def warm(self, fields: str = "*all") -> None:
        """Render every issue once, and its history: embedded on Data Center, for the bulk changelog on Cloud.

        Args:
            fields: the fields that the benchmark's client will ask for, as in the query parameter.
        """
        with self.lock:
            wanted = self._wanted_fields(fields.split(","), "*all")
            for issue in self.world.issues.values():
                self._fields_body(issue, wanted, "/rest/api/2")
                if self.deployment == "server":
                    self._history_bodies(issue)
                    continue
                for history in issue.histories:
                    self._bulk_history_body(issue, history, frozenset())

    # --- credentials, limits, errors

    def refuse_credentials(self, request: Request) -> Answer | None:
        """401 unless Cloud got user and token, or Data Center the same or the token as Bearer."""
        basic = request.basic_credentials()
        if basic == (self.user, self.token):
            self._wrong_logins_count = 0
            return None
        if self.deployment == "server":
            if request.credentials() == ("bearer", self.token):
                return None
            self._wrong_logins_count += basic is not None
            if self._wrong_logins_count > WRONG_LOGINS_MAX:
                reason = b"CAPTCHA_CHALLENGE; login-url=" + self.site_url.encode() + b"/login.jsp"
                return self.error(403)._replace(headers=[(b"x-authentication-denied-reason", reason)])
        return self.error(401)

    def error(self, status: int, message: str | None = None) -> Answer:
        """As Jira words it."""
        words = {
            401: "Client must be authenticated to access this resource.",
            403: "You do not have the permission to see the specified issue.",
            404: "Issue does not exist or you do not have permission to see it.",
            410: "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.",
        }
        return json_answer({"errorMessages": [message or words.get(status, f"HTTP {status}")], "errors": {}}, status)

    def rate_limited(self, retry_after: str | None) -> Answer:
        """429, on Cloud with the reason of the burst limit."""
        headers = [(b"retry-after", retry_after.encode())] if retry_after else []
        if self.deployment == "cloud":
            reset_at = self.clock.now() + timedelta(minutes=1)
            headers += [
                (b"ratelimit-reason", b"jira-burst-based"),
                (b"x-ratelimit-remaining", b"0"),
                (b"x-ratelimit-reset", f"{reset_at:%Y-%m-%dT%H:%MZ}".encode()),
            ]
        return self.error(429, "Rate limit exceeded.")._replace(headers=headers)

    def extra_headers(self, request: Request) -> Answer | Sequence[tuple[bytes, bytes]]:
        """Data Center's token bucket, which every answer shows."""
        del request
        if self.deployment == "cloud" and not self._is_limited:
            return ()
        left, wait_seconds = self._bucket.take()
        wait_seconds = wait_seconds if self._is_limited else 0
        headers = [
            (b"x-ratelimit-limit", b"%d" % self._bucket.capacity),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-fillrate", b"%d" % self._bucket.capacity),
            (b"x-ratelimit-interval-seconds", b"%d" % self._bucket.refill_seconds),
        ]
        if wait_seconds:
            limited = self.rate_limited(str(wait_seconds))
            return limited._replace(headers=[*limited.headers, *headers])
        if self.deployment == "cloud":
            return ()
        return [*headers, (b"retry-after", b"0")]

    # --- endpoints: who and what there is

    def _get_server_info(self, request: Request) -> Answer:
        is_cloud = self.deployment == "cloud"
        numbers = [1001, 0, 0] if is_cloud else [8, 5, 19] if self.old_server else [9, 12, 4]
        return json_answer(
            {
                "baseUrl": request.base_url,
                "version": "1001.0.0-SNAPSHOT" if is_cloud else ".".join(map(str, numbers)),
                "versionNumbers": numbers,
                "deploymentType": "Cloud" if is_cloud else "Server",
                "buildNumber": 100_241,
                "buildDate": "2026-09-28T00:00:00.000+0000",
                "serverTime": self.shown_time(self.clock.now()),
                "scmInfo": "c0ffee",
                "serverTitle": "Simulated Jira",
            }
        )

    def _get_myself(self, request: Request) -> Answer:
        del request
        person = self.world.people[1]
        myself = self._person_json(person) | {"emailAddress": self.user, "locale": "en_US", "timeZone": self.time_zone}
        if not self._shows_time_zone:
            del myself["timeZone"]
        return json_answer(myself)

    def _list_fields(self, request: Request) -> Answer:
        del request
        return json_answer([*_system_fields(), *self._custom_fields()])

    def _list_statuses(self, request: Request) -> Answer:
        del request
        statuses = {
            status.id: self._status(status)
            for project in self.world.projects.values()
            for status in project.statuses.values()
        }
        return json_answer(list(statuses.values()))

    def _list_priorities(self, request: Request) -> Answer:
        del request
        return json_answer([self._priority(priority) for priority in PRIORITIES.values()])

    def _list_resolutions(self, request: Request) -> Answer:
        del request
        return json_answer([self._resolution(resolution) for resolution in RESOLUTIONS.values()])

    def _list_issue_types(self, request: Request) -> Answer:
        del request
        return json_answer([self._issue_type(kind) for kind in ISSUE_TYPES.values()])

    def _list_projects(self, request: Request) -> Answer:
        del request
        return json_answer([self._project_json(project) for project in self._visible_projects()])

    def _search_projects(self, request: Request) -> Answer:
        keys, words = request.query.get("keys"), (request.last("query") or "").lower()
        projects = [
            self._project_json(project)
            for project in self._visible_projects()
            if (keys is None or project.key in keys) and words in f"{project.key} {project.name}".lower()
        ]
        start, rows = _start(request), _rows(request, 50, 50)
        return json_answer(
            {
                "self": f"{request.base_url}{request.path}",
                "maxResults": rows,
                "startAt": start,
                "total": len(projects),
                "isLast": start + rows >= len(projects),
                "values": projects[start : start + rows],
            }
        )

    def _get_project(self, request: Request) -> Answer:
        wanted = request.captured[0]
        key = self.find_project(wanted)
        if key is None:
            return self.error(404, f"No project could be found with key '{wanted}'.")
        return json_answer(self._project_json(self.world.projects[key]))

    # --- endpoints: search

    def _gone(self, request: Request) -> Answer:
        del request
        return self.error(410)

    def _search_cloud(self, request: Request) -> Answer:
        asked = self._asked(request, _CLOUD_SEARCH)
        jql = _string(asked, "jql")
        query = self._read(jql)
        if not query.is_bounded:
            return self.error(
                400, "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
            )
        names = _strings(asked, "fields")
        wanted = self._wanted_fields(names, "id")
        is_ids_only = wanted is not None and wanted <= {"id", "key"}
        expand = (asked.get("expand") or "").split(",")
        reconcile = [int(value) for value in _strings(asked, "reconcileIssues")]
        rows = _limited(asked.get("maxResults"), 50, ID_ROWS_MAX if is_ids_only else ROWS_MAX)
        signature = _signature(jql, sorted(names), sorted(expand), reconcile)
        start = self._open_token(asked.get("nextPageToken"), signature)
        found = self._find(jql, query, reconcile)
        rows = self._shortened(rows, signature, start, len(found))
        page = self._flickered(found[start : start + rows])
        is_last = start + rows >= len(found)
        bodies = [
            self._short_body(issue_id, wanted or frozenset())
            if is_ids_only
            else self._issue_body(
                self.world.issues[issue_id], wanted, request, "search" if "changelog" in expand else ""
            )
            for issue_id in page
            if is_ids_only or issue_id in self.world.issues
        ]
        tail = b"" if is_last else b',"nextPageToken":"' + self._token(signature, start + rows).encode() + b'"'
        return Answer(
            200, b'{"issues":[' + b",".join(bodies) + b'],"isLast":' + (b"true" if is_last else b"false") + tail + b"}"
        )

    def _search_server(self, request: Request) -> Answer:
        asked = self._asked(request, _SERVER_SEARCH)
        jql = _string(asked, "jql")
        start = _limited(asked.get("startAt"), 0, 1_000_000_000, least=0)
        rows = _limited(asked.get("maxResults"), 50, self._rows_max, least=0)
        wanted = self._wanted_fields(_strings(asked, "fields"), "*navigable")
        has_changelog = "changelog" in _strings(asked, "expand")
        found = self._find(jql, self._read(jql), [])
        bodies = [
            self._issue_body(self.world.issues[issue_id], wanted, request, "search" if has_changelog else "")
            for issue_id in self._flickered(found[start : start + rows])
            if issue_id in self.world.issues
        ]
        head = f'{{"expand":"schema,names","startAt":{start},"maxResults":{rows},"total":{len(found)},"issues":['
        return Answer(200, head.encode() + b",".join(bodies) + b"]}")

    def _count(self, request: Request) -> Answer:
        query_text = _string(self._asked(request, {"jql": (str,)}), "jql")
        query = self._read(query_text)
        if not query.is_bounded:
            return self.error(400, "Unbounded JQL queries are not allowed here.")
        count = len(self._find(query_text, query, []))
        # It is approximate by name, so nobody shall count on it.
        return json_answer({"count": count if count < 1_000 else count // 10 * 10})

    # --- endpoints: issues

    def _get_issue(self, request: Request) -> Answer:
        issue = self.asked_issue(request)
        wanted = self._wanted_fields(_strings({"fields": request.last("fields")}, "fields"), "*all")
        has_changelog = "changelog" in (request.last("expand") or "").split(",")
        return Answer(200, self._issue_body(issue, wanted, request, "issue" if has_changelog else ""))

    def _get_changelog(self, request: Request) -> Answer:
        bodies = self._history_bodies(self.asked_issue(request))
        start, rows = _start(request), _rows(request, 100, 100)
        url = f"{request.base_url}{request.path}"
        head = (
            f'{{"self":"{url}","maxResults":{rows},"startAt":{start},"total":{len(bodies)},'
            f'"isLast":{"true" if start + rows >= len(bodies) else "false"},"values":['
        )
        return Answer(200, head.encode() + b",".join(bodies[start : start + rows]) + b"]}")

    def _bulk_fetch(self, request: Request) -> Answer:
        asked = self._asked(request, _BULK_FETCH)
        issues = self._wanted_issues(asked, BULK_ISSUES_MAX)
        wanted = self._wanted_fields(_strings(asked, "fields"), "*navigable")
        changelog = "bulkfetch" if "changelog" in (asked.get("expand") or []) else ""
        bodies = [self._issue_body(issue, wanted, request, changelog) for issue in issues]
        return Answer(200, b'{"issueErrors":[],"issues":[' + b",".join(bodies) + b"]}")

    def _bulk_fetch_changelogs(self, request: Request) -> Answer:
        asked = self._asked(request, _BULK_CHANGELOG)
        field_ids = frozenset(_strings(asked, "fieldIds"))
        if len(field_ids) > BULK_CHANGELOG_FIELDS_MAX:
            return self.error(400, f"A maximum of {BULK_CHANGELOG_FIELDS_MAX} field IDs can be specified.")
        issues = self._wanted_issues(asked, BULK_CHANGELOG_ISSUES_MAX)
        rows = _limited(asked.get("maxResults"), BULK_CHANGELOG_ROWS, BULK_CHANGELOG_ROWS_MAX)
        signature = _signature("changelog", sorted(map(str, asked["issueIdsOrKeys"])), sorted(field_ids))
        start = self._open_token(asked.get("nextPageToken"), signature)
        ordered = self._interleaved(issues, field_ids, signature)
        page = ordered[start : start + rows]
        grouped: dict[int, list[bytes]] = {}
        for issue, history in page:
            grouped.setdefault(issue.id, []).append(self._bulk_history_body(issue, history, field_ids))
        logs = [
            b'{"issueId":"%d","changeHistories":[' % issue_id + b",".join(bodies) + b"]}"
            for issue_id, bodies in grouped.items()
        ]
        is_last = start + rows >= len(ordered)
        tail = b"" if is_last else b',"nextPageToken":"' + self._token(signature, start + rows).encode() + b'"'
        return Answer(200, b'{"issueChangeLogs":[' + b",".join(logs) + b"]" + tail + b"}")

    # --- finding

    def _visible_projects(self) -> list[Project]:
        return [project for project in self.world.projects.values() if not project.is_hidden]

    def find_project(self, wanted: str) -> str | None:
        """The key of a visible project by its key, id or name."""
        for project in self._visible_projects():
            if wanted.upper() in (project.key, str(project.id), project.name.upper()):
                return project.key
        return None

    def _is_visible(self, issue: Issue) -> bool:
        return not issue.is_hidden and not issue.project.is_hidden

    def _find_issue(self, wanted: str) -> int | None:
        issue = self.world.find(wanted)
        return issue.id if issue is not None and self._is_visible(issue) else None

    def asked_issue(self, request: Request) -> Issue:
        """The issue that a request names; refused where it may not be seen."""
        issue = self.world.find(request.captured[0])
        if issue is None or not self._is_visible(issue):
            raise RefusalError(self.error(404))
        return issue

    def _wanted_issues(self, asked: Mapping[str, Any], most: int) -> list[Issue]:
        wanted = asked.get("issueIdsOrKeys")
        if not wanted or not isinstance(wanted, list) or len(wanted) > most:
            raise RefusalError(self.error(400, f"issueIdsOrKeys has to hold from 1 to {most} ids or keys."))
        # What does not exist or may not be seen is left out without a word.
        found = (self.world.find(str(value)) for value in wanted)
        issues = {issue.id: issue for issue in found if issue is not None and self._is_visible(issue)}
        return [issue for _, issue in sorted(issues.items())]

    def _read(self, jql: str) -> Query:
        reader = Reader(
            zone=self.zone,
            now=self.clock.now(),
            find_project=self.find_project,
            find_issue=self._find_issue,
            is_missing_issue_an_error=self.deployment == "server" and self.old_server,
        )
        try:
            return reader.read(jql)
        except JqlError as error:
            raise RefusalError(self.error(400, error.message)) from None

    def _find(self, jql: str, query: Query, reconcile: list[int]) -> list[int]:
        while self._late and self._late[0][0] <= self.clock.now():
            _, issue_id, entry = self._late.popleft()
            self.index.put(issue_id, entry)
        signature = (jql, self.clock.now(), self.index.version, self._changes_count, self._hidden_count, *reconcile)
        found = self._found.get(signature)
        if found is None:
            overlay = [_entry(self.world.issues[key]) for key in reconcile if key in self.world.issues]
            found = self.index.search(query, overlay)
            if self._hidden_count:
                issues = self.world.issues
                found = [key for key in found if key not in issues or self._is_visible(issues[key])]
            _remember(self._found, signature, found)
        return found

    def _index_later(self, issue: Issue, at: datetime) -> None:
        del at
        self._put_later(issue.id, _entry(issue))

    def _put_later(self, issue_id: int, entry: Entry | None) -> None:
        self._changes_count += 1
        if self._index_lag:
            self._late.append((self.clock.now() + self._index_lag, issue_id, entry))
        else:
            self.index.put(issue_id, entry)

    def _flickered(self, page: list[int]) -> list[int]:
        if not self._index_flicker or not page or self._flicker_rng.random() >= 0.3:
            return page
        missing = self._flicker_rng.choice(page)
        return [issue_id for issue_id in page if issue_id != missing]

    def _shortened(self, rows: int, signature: str, start: int, total: int) -> int:
        rng = dice(self.seed, "short page", signature, start)
        if start + rows >= total or rows < 2 or rng.random() >= self._short_page_ratio:
            return rows
        return rng.randrange(1, rows)

    def _interleaved(
        self, issues: list[Issue], field_ids: frozenset[str], signature: str
    ) -> list[tuple[Issue, History]]:
        """All histories by date and then by issue, so that those of one issue may be spread over several pages."""
        key = (signature, self._changes_count)
        ordered = self._ordered.get(key)
        if ordered is None:
            ordered = [
                (issue, history)
                for issue in issues
                for history in issue.histories
                if not field_ids or any(item.field_id in field_ids for item in history.items)
            ]
            ordered.sort(key=lambda pair: (pair[1].at, pair[0].id, pair[1].id))
            _remember(self._ordered, key, ordered)
        return ordered

    # --- page tokens, which belong to one query and live for a week

    def _token(self, signature: str, start: int) -> str:
        facts = [signature, start, self.clock.now().timestamp()]
        return base64.urlsafe_b64encode(msgspec.json.encode(facts)).decode()

    def _open_token(self, token: str | None, signature: str) -> int:
        if token is None:
            return 0
        try:
            given, start, made_at = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[str, int, float])
        except ValueError:
            raise RefusalError(self.error(400, "The provided next page token is invalid or expired.")) from None
        age = self.clock.now() - datetime.fromtimestamp(made_at, UTC)
        if given != signature or age > TOKEN_LIFE:
            raise RefusalError(self.error(400, "The provided next page token is invalid or expired."))
        return start

    def _asked(self, request: Request, known: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
        """The parameters, from the query string of a GET or the body of a POST."""
        if request.method == "GET":
            return {
                name: values[-1] if name != "fields" else ",".join(values) for name, values in request.query.items()
            }
        try:
            asked = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError:
            raise RefusalError(
                self.error(400, "There was an error parsing JSON. Check that your request body is valid.")
            ) from None
        for name, value in asked.items():
            if name not in known and self.is_strict:
                self.requests.rejected.append(f"{request.method} {request.path} {name}")
                raise RefusalError(self.error(400, f'Unrecognized field "{name}"'))
            if name in known and value is not None and not isinstance(value, known[name]):
                raise RefusalError(self.error(400, f'Invalid request payload: "{name}" has the wrong type.'))
        return asked

    def _wanted_fields(self, names: list[str], default: str) -> frozenset[str]:
        example = next(iter(self.world.issues.values()), None)
        # Only some issues have a parent, so the example may lack it.
        everything = frozenset(self._fields_json(example, is_adf=False)) | {"parent"} if example else frozenset()
        wanted: set[str] = set()
        if not names or all(name.startswith("-") for name in names):
            names = [default, *names]
        for name in names:
            if name == "*all":
                wanted |= everything
            elif name == "*navigable":
                wanted |= everything - _NOT_NAVIGABLE
            elif name.startswith("-"):
                wanted.discard(name[1:])
            else:
                wanted.add(name)
        return frozenset(wanted)

    # --- rendering, each thing once until it changes

    def _short_body(self, issue_id: int, wanted: frozenset[str]) -> bytes:
        if "key" in wanted and issue_id in self.world.issues:
            return b'{"id":"%d","key":"%s"}' % (issue_id, self.world.issues[issue_id].key.encode())
        return b'{"id":"%d"}' % issue_id

    def _issue_body(self, issue: Issue, wanted: frozenset[str], request: Request, changelog: str) -> bytes:
        """One issue; `changelog` names the endpoint whose cap on histories holds, or is empty for none."""
        head = (
            f'{{"expand":"renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations",'
            f'"id":"{issue.id}","self":"{self.site_url}/rest/api/2/issue/{issue.id}","key":"{issue.key}","fields":'
        )
        parts = [head.encode(), self._fields_body(issue, wanted, request.path)]
        if changelog:
            bodies = self._history_bodies(issue)
            total = len(bodies)
            if self.deployment == "cloud":
                bodies = bodies[::-1][: HISTORIES_MAX[changelog]]
            parts.append(
                b',"changelog":{"startAt":0,"maxResults":%d,"total":%d,"histories":[' % (len(bodies), total)
                + b",".join(bodies)
                + b"]}"
            )
        return b"".join([*parts, b"}"])

    def _fields_body(self, issue: Issue, wanted: frozenset[str], path: str) -> bytes:
        is_adf = path.startswith("/rest/api/3/")
        # Sprints begin and end without a change of their issues.
        passed_count = bisect_right(self._sprint_starts, self.clock.now())
        variant = (wanted, is_adf, passed_count)
        cached = issue.rendered.get("fields")
        if cached is None or cached[0] != variant:
            fields = self._fields_json(issue, is_adf=is_adf)
            body = msgspec.json.encode({name: value for name, value in fields.items() if name in wanted})
            cached = issue.rendered["fields"] = (variant, body)
        found: bytes = cached[1]
        return found

    def _history_bodies(self, issue: Issue) -> list[bytes]:
        """The histories, oldest first."""
        bodies: list[bytes] | None = issue.rendered.get("histories")
        if bodies is None:
            histories = sorted(issue.histories, key=lambda history: (history.at, history.id))
            bodies = [msgspec.json.encode(self._history_json(history, history.items)) for history in histories]
            issue.rendered["histories"] = bodies
        return bodies

    def _bulk_history_body(self, issue: Issue, history: History, field_ids: frozenset[str]) -> bytes:
        """A history as the bulk changelog has it; of the wanted fields only, where some are wanted."""
        bodies: dict[int, bytes] = issue.rendered.setdefault("bulk", {})
        body = bodies.get(history.id)
        if body is None or field_ids:
            items = [item for item in history.items if not field_ids or item.field_id in field_ids]
            row = self._history_json(history, items)
            if self._is_changelog_epoch:
                row["created"] = int(history.at.timestamp() * 1000 + 0.5)
            body = msgspec.json.encode(row)
            if not field_ids:
                bodies[history.id] = body
        return body

    def _history_json(self, history: History, items: Iterable[Item]) -> dict[str, Any]:
        row: dict[str, Any] = {"id": str(history.id)}
        if history.author is not None:
            row["author"] = self.person_raw(history.author)
        row["created"] = self.shown_time(history.at)
        row["items"] = [self._item_json(item) for item in items]
        return row

    def _item_json(self, item: Item) -> dict[str, Any]:
        row: dict[str, Any] = {"field": item.field, "fieldtype": "custom" if item.is_custom else "jira"}
        if item.field_id is not None and not self.old_server:
            row["fieldId"] = item.field_id
        return row | {
            "from": item.from_id,
            "fromString": item.from_text,
            "to": item.to_id,
            "toString": item.to_text,
        }

    def shown_time(self, at: datetime | None) -> str | None:
        """As Jira shows times: in the user's zone, with an offset without a colon."""
        if at is None:
            return None
        text = at.astimezone(self.zone).isoformat(timespec="milliseconds")
        return text[:-3] + text[-2:]

    def _remembered(self, kind: str, key: object, make: Any) -> msgspec.Raw:
        raw = self._raw.get((kind, key))
        if raw is None:
            raw = self._raw[kind, key] = msgspec.Raw(msgspec.json.encode(make()))
        return raw

    def _forget_rendered(self) -> None:
        self._raw.clear()
        self.world.forget_rendered()

    def person_raw(self, person: Person) -> msgspec.Raw:
        """An account as payloads show it."""
        return self._remembered("person", person.number, lambda: self._person_json(person))

    def person_or_none(self, person: Person | None) -> msgspec.Raw | None:
        """An account, or null."""
        return None if person is None else self.person_raw(person)

    def _person_json(self, person: Person) -> dict[str, Any]:
        face = hashlib.md5(person.username.encode(), usedforsecurity=False).hexdigest()
        avatars = {f"{size}x{size}": f"https://avatar.example.test/{face}/{size}" for size in (48, 24, 16, 32)}
        url = f"{self.site_url}/rest/api/2/user"
        if self.deployment == "server":
            row = {"self": f"{url}?username={person.username}", "name": person.username, "key": person.key}
            if not person.is_forgotten:
                row["emailAddress"] = person.email
            return row | {
                "avatarUrls": avatars,
                "displayName": person.name,
                "active": person.is_active,
                "timeZone": "Europe/Berlin",
            }
        row = {"self": f"{url}?accountId={person.account_id}", "accountId": person.account_id}
        if person.number % 3 == 0 and not person.is_forgotten:
            # Most people hide their address.
            row["emailAddress"] = person.email
        return row | {
            "avatarUrls": avatars,
            "displayName": person.name,
            "active": person.is_active,
            "timeZone": "Europe/Berlin",
            "accountType": "app" if person.is_app else "atlassian",
        }

    def _status(self, status: Named) -> msgspec.Raw:
        number, name, color = _CATEGORIES[status.category]
        return self._remembered(
            "status",
            status.id,
            lambda: {
                "self": f"{self.site_url}/rest/api/2/status/{status.id}",
                "description": "",
                "iconUrl": f"{self.site_url}/images/icons/statuses/generic.png",
                "name": status.name,
                "id": status.id,
                "statusCategory": {
                    "self": f"{self.site_url}/rest/api/2/statuscategory/{number}",
                    "id": number,
                    "key": status.category,
                    "colorName": color,
                    "name": name,
                },
            },
        )

    def _priority(self, priority: Named) -> msgspec.Raw:
        return self._remembered(
            "priority",
            priority.id,
            lambda: {
                "self": f"{self.site_url}/rest/api/2/priority/{priority.id}",
                "iconUrl": f"{self.site_url}/images/icons/priorities/{priority.name.lower()}.svg",
                "name": self.parts.priority_names.get(priority.id, priority.name),
                "id": priority.id,
            },
        )

    def _resolution(self, resolution: Named) -> msgspec.Raw:
        return self._remembered(
            "resolution",
            resolution.id,
            lambda: {
                "self": f"{self.site_url}/rest/api/2/resolution/{resolution.id}",
                "id": resolution.id,
                "description": "",
                "name": resolution.name,
            },
        )

    def _issue_type(self, kind: IssueType) -> msgspec.Raw:
        row: dict[str, Any] = {
            "self": f"{self.site_url}/rest/api/2/issuetype/{kind.id}",
            "id": kind.id,
            "description": "",
            "iconUrl": f"{self.site_url}/rest/api/2/universal_avatar/view/type/issuetype/avatar/10303?size=medium",
            "name": kind.name,
            "subtask": kind is SUB_TASK,
            "avatarId": 10_303,
        }
        if self.deployment == "cloud":
            row["hierarchyLevel"] = kind.level
        return self._remembered("issue type", kind.id, lambda: row)

    def _project_json(self, project: Project) -> dict[str, Any]:
        row = {
            "self": f"{self.site_url}/rest/api/2/project/{project.id}",
            "id": str(project.id),
            "key": project.key,
            "name": project.name,
            "projectTypeKey": "software",
            "avatarUrls": {
                "48x48": f"{self.site_url}/rest/api/2/universal_avatar/view/type/project/avatar/10400",
                "24x24": f"{self.site_url}/rest/api/2/universal_avatar/view/type/project/avatar/10400?size=small",
            },
        }
        if self.deployment == "cloud":
            return row | {
                "simplified": project.is_team_managed,
                "style": "next-gen" if project.is_team_managed else "classic",
            }
        return row

    def _part_json(self, kind: str, part: Named) -> dict[str, Any]:
        row: dict[str, Any] = {"self": f"{self.site_url}/rest/api/2/{kind}/{part.id}", "id": part.id, "name": part.name}
        return row | version_json(part, self.clock.now()) if kind == "version" else row

    def _glance(self, issue: Issue) -> dict[str, Any]:
        """An issue as it stands inside another."""
        return {
            "id": str(issue.id),
            "key": issue.key,
            "self": f"{self.site_url}/rest/api/2/issue/{issue.id}",
            "fields": {
                "summary": issue.summary,
                "status": self._status(issue.status),
                "priority": self._priority(issue.priority),
                "issuetype": self._issue_type(issue.type),
            },
        }

    def _sprint(self, sprint: Sprint) -> dict[str, Any] | str:
        now = self.clock.now()
        if self.deployment == "cloud":
            return sprint_json(sprint, now) | {"boardId": sprint.board_id}
        state = sprint.state(now)
        completed_at = sprint.ends_at if state == "closed" else None
        facts = {
            "id": sprint.id,
            "rapidViewId": sprint.board_id,
            "state": state.upper(),
            "name": sprint.name,
            "startDate": utc_text(sprint.starts_at),
            "endDate": utc_text(sprint.ends_at),
            "completeDate": utc_text(completed_at) or "<null>",
            "activatedDate": utc_text(sprint.starts_at),
            "sequence": sprint.id,
            "goal": "",
            "autoStartStop": "false",
        }
        listed = ",".join(f"{name}={value}" for name, value in facts.items())
        return f"com.atlassian.greenhopper.service.sprint.Sprint@{sprint.id * 7919:x}[{listed}]"

    def _fields_json(self, issue: Issue, *, is_adf: bool) -> dict[str, Any]:
        ids, is_cloud = self.world.fields, self.deployment == "cloud"
        _, points_field = self.world.points_field(issue.project)
        is_shown_parent = issue.parent is not None and (is_cloud or issue.type is SUB_TASK)
        has_epic_link = not is_cloud and issue.parent is not None and issue.parent.type is EPIC
        description = document(issue.description) if is_adf and issue.description else issue.description
        spent, estimate = issue.spent_seconds, issue.estimate_seconds
        fields: dict[str, Any] = {
            "issuetype": self._issue_type(issue.type),
            "project": self._remembered("project", issue.project.id, lambda: self._project_json(issue.project)),
            "summary": issue.summary,
            "description": description,
            "status": self._status(issue.status),
            "priority": self._priority(issue.priority),
            "resolution": self._resolution(issue.resolution) if issue.resolution else None,
            "resolutiondate": self.shown_time(issue.resolved_at),
            "created": self.shown_time(issue.created_at),
            "updated": self.shown_time(issue.updated_at),
            "duedate": issue.due_on,
            "assignee": self.person_or_none(issue.assignee),
            "reporter": self.person_or_none(issue.reporter),
            "creator": self.person_or_none(issue.creator),
            "labels": issue.labels,
            "components": [self._part_json("component", one) for one in issue.components],
            "fixVersions": [self._part_json("version", one) for one in issue.fix_versions],
            "versions": [],
            "issuelinks": [self._link_json(issue, way, other) for way, other in issue.links],
            "subtasks": [self._glance(one) for one in issue.sub_tasks],
            "comment": self.parts.embedded_comments(issue, is_adf=is_adf),
            "worklog": self.parts.embedded_worklogs(issue, is_adf=is_adf),
            "attachment": [],
            "timeoriginalestimate": estimate,
            "timeestimate": estimate,
            "timespent": spent,
            "aggregatetimespent": spent,
            "timetracking": {"originalEstimateSeconds": estimate, "timeSpentSeconds": spent}
            if estimate or spent
            else {},
            "progress": {"progress": spent or 0, "total": estimate or 0},
            "watches": {"self": f"{self.site_url}/rest/api/2/issue/{issue.id}/watchers", "watchCount": 1},
            "votes": {"self": f"{self.site_url}/rest/api/2/issue/{issue.id}/votes", "votes": 0, "hasVoted": False},
            "environment": None,
            "workratio": -1,
            "lastViewed": None,
            "security": None,
            ids.sprint: [self._sprint(sprint) for sprint in issue.sprints] or None,
            ids.story_points: None,
            ids.story_point_estimate: None,
            ids.rank: f"0|i{issue.id:05x}:",
            ids.severity: self._option(issue.severity),
            ids.flagged: [{"value": "Impediment", "id": "10019"}] if issue.is_flagged else None,
            ids.epic_link: issue.parent.key if has_epic_link and issue.parent else None,
            ids.epic_name: issue.summary if issue.type is EPIC else None,
            ids.acceptance_criteria: None,
        }
        fields[points_field] = issue.story_points
        if is_cloud:
            fields["statuscategorychangedate"] = self.shown_time(issue.category_changed_at)
        if is_shown_parent and issue.parent is not None:
            fields["parent"] = self._glance(issue.parent)
        fields.update(dict.fromkeys(_EMPTY_FIELDS))
        return fields

    def _link_json(self, issue: Issue, way: str, other: Issue) -> dict[str, Any]:
        kind = {"id": "10000", "name": "Blocks", "inward": "is blocked by", "outward": "blocks"}
        return {"id": str(min(issue.id, other.id) * 7), "type": kind, f"{way}Issue": self._glance(other)}

    def _option(self, severity: Named | None) -> dict[str, str] | None:
        if severity is None:
            return None
        url = f"{self.site_url}/rest/api/2/customFieldOption/{severity.id}"
        return {"self": url, "value": severity.name, "id": severity.id}

    def _custom_fields(self) -> list[dict[str, Any]]:
        ids = self.world.fields
        software, plain = "com.pyxis.greenhopper.jira:", "com.atlassian.jira.plugin.system.customfieldtypes:"
        known = [
            (ids.sprint, "Sprint", "array", software + "gh-sprint"),
            (ids.epic_link, "Epic Link", "any", software + "gh-epic-link"),
            (ids.epic_name, "Epic Name", "string", software + "gh-epic-label"),
            (ids.rank, "Rank", "any", software + "gh-lexo-rank"),
            (ids.story_points, "Story Points", "number", plain + "float"),
            (ids.story_point_estimate, "Story point estimate", "number", software + "jsw-story-points"),
            (ids.severity, "Severity", "option", plain + "select"),
            (ids.flagged, "Flagged", "array", plain + "multicheckboxes"),
            (ids.acceptance_criteria, "Acceptance Criteria", "string", plain + "textarea"),
            *((field_id, f"Field {field_id[-2:]}", "string", plain + "textfield") for field_id in _EMPTY_FIELDS),
        ]
        return [_field_json(field_id, name, kind, custom) for field_id, name, kind, custom in known]


# --- what needs no simulator ------------------------------------------------------------------------------------------

_CLOUD_SEARCH: Final[Mapping[str, tuple[type, ...]]] = {
    "jql": (str,),
    "fields": (list,),
    "maxResults": (int,),
    "nextPageToken": (str,),
    "expand": (str,),
    "properties": (list,),
    "fieldsByKeys": (bool,),
    "failFast": (bool,),
    "reconcileIssues": (list,),
}
_SERVER_SEARCH: Final[Mapping[str, tuple[type, ...]]] = {
    "jql": (str,),
    "startAt": (int,),
    "maxResults": (int,),
    "fields": (list,),
    "expand": (list, str),
    "validateQuery": (bool, str),
}
_BULK_FETCH: Final[Mapping[str, tuple[type, ...]]] = {
    "issueIdsOrKeys": (list,),
    "fields": (list,),
    "expand": (list,),
    "properties": (list,),
    "fieldsByKeys": (bool,),
}
_BULK_CHANGELOG: Final[Mapping[str, tuple[type, ...]]] = {
    "issueIdsOrKeys": (list,),
    "fieldIds": (list,),
    "maxResults": (int,),
    "nextPageToken": (str,),
}


def _entry(issue: Issue) -> Entry:
    sprints = frozenset(sprint.id for sprint in issue.sprints)
    return Entry(issue.id, issue.project.key, issue.number, issue.created_at, issue.updated_at, sprints)


def _remember(found: dict[Any, Any], key: object, value: object) -> None:
    """Keep the answers to the last few questions, so that the pages of one listing do not search anew."""
    if len(found) >= 16:
        del found[next(iter(found))]
    found[key] = value


def _signature(*facts: object) -> str:
    return hashlib.sha1(repr(facts).encode(), usedforsecurity=False).hexdigest()


def _named(known: list[Named], names: Iterable[str]) -> list[Named]:
    by_name = {one.name: one for one in known}
    return [by_name[name] for name in names]


def _refuse(message: str) -> RefusalError:
    return RefusalError(json_answer({"errorMessages": [message], "errors": {}}, 400))


def _string(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""


def _strings(asked: Mapping[str, Any], name: str) -> list[str]:
    """A list, or its members parted by commas."""
    value = asked.get(name)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(part) for part in value or []]


def _limited(value: Any, default: int, most: int, *, least: int = 1) -> int:
    try:
        number = default if value is None else int(value)
    except ValueError:
        raise _refuse(f"{value!r} is no number.") from None
    if number < least:
        raise _refuse(f"{number} is too small.")
    return min(number, most)


def _start(request: Request) -> int:
    return _limited(request.last("startAt"), 0, 1_000_000_000, least=0)


def _rows(request: Request, default: int, most: int) -> int:
    return _limited(request.last("maxResults"), default, most)


def _field_json(field_id: str, name: str, kind: str, custom: str | None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": kind}
    if kind == "array":
        schema["items"] = "json" if custom else "string"
    if custom:
        schema |= {"custom": custom, "customId": int(field_id.removeprefix("customfield_"))}
    else:
        schema["system"] = field_id
    return {
        "id": field_id,
        "key": field_id,
        "name": name,
        "custom": custom is not None,
        "orderable": True,
        "navigable": True,
        "searchable": True,
        "clauseNames": [f"cf[{field_id.removeprefix('customfield_')}]", name] if custom else [field_id],
        "schema": schema,
    }


def _system_fields() -> list[dict[str, Any]]:
    names = {
        "summary": ("Summary", "string"), "description": ("Description", "string"),
        "status": ("Status", "status"), "issuetype": ("Issue Type", "issuetype"), "project": ("Project", "project"),
        "priority": ("Priority", "priority"), "resolution": ("Resolution", "resolution"),
        "resolutiondate": ("Resolved", "datetime"),
        "created": ("Created", "datetime"), "updated": ("Updated", "datetime"), "duedate": ("Due date", "date"),
        "assignee": ("Assignee", "user"), "reporter": ("Reporter", "user"), "creator": ("Creator", "user"),
        "labels": ("Labels", "array"), "components": ("Components", "array"), "fixVersions": ("Fix versions", "array"),
        "issuelinks": ("Linked Issues", "array"), "subtasks": ("Sub-tasks", "array"),
        "comment": ("Comment", "comments-page"), "timespent": ("Time Spent", "number"),
        "timeoriginalestimate": ("Original estimate", "number"), "parent": ("Parent", "issuelink"),
    }  # fmt: skip
    return [_field_json(field_id, name, kind, None) for field_id, (name, kind) in names.items()]
