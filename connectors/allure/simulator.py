"""A simulated allure-docker-service: projects with results, reports generated from them, a login, and what is pruned.

Here belongs how the service behaves as a server, written from its documentation, and how allure2 lays out a report.
It shares no code with the client, so that a misreading shows as a failing test. docs/simulators.md lists its rules.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec

from connectors.simulator import (
    DEFAULT_NOW,
    Answer,
    RefusalError,
    Request,
    Route,
    Simulator,
    dice,
    json_answer,
)

PREFIX = "/allure-docker-service"
LOGIN_LASTS = timedelta(minutes=15)
STATUSES = ("failed", "broken", "passed", "skipped", "unknown")
_SUITES = ("checkout", "basket", "search")


class Report(msgspec.Struct):
    """One generated report: its files by their path."""

    files: dict[str, bytes]
    generated_at: datetime


class Project(msgspec.Struct):
    """A project of the service."""

    results: list[dict[str, Any]] = []
    """What was sent and not cleaned; every report is generated from all of it."""
    reports: dict[int, Report] = {}
    last_number: int = 0


class World(msgspec.Struct):
    """All that the service holds."""

    projects: dict[str, Project] = {}


class AllureServerSimulator(Simulator):
    """An allure-docker-service with some projects that tests were run in.

    Args:
        runs: how many reports each project has at the start, a day apart.
        tests: how many tests a run has; of every ten one fails, one is broken, one is skipped and one is retried.
        projects: their ids.
        keep_history: how many reports are kept, `KEEP_HISTORY_LATEST`.
        is_secured: whether it wants a login.
        seed: the same seed gives the same world and the same faults.
        now: the server's time at the start.
        is_clock_running: whether the clock runs on by itself; else it stands until advanced.
        latency_ms: added to every answer; the median where `latency_p99_ms` is given (log-normal).
        latency_p99_ms: the 99th percentile of the latency.
        faults: see `connectors.simulator.parse_faults`.
        user: who may log in.
        token: the password.
        is_strict: refuse query parameters that an endpoint does not know.
    """

    changes = frozenset({"run_tests", "clean_results", "clean_history", "drop_data", "delete_project"})

    def __init__(
        self,
        *,
        runs: int = 3,
        tests: int = 10,
        projects: Sequence[str] = ("shop", "default"),
        keep_history: int = 20,
        is_secured: bool = True,
        seed: int = 1,
        now: datetime = DEFAULT_NOW,
        is_clock_running: bool = False,
        latency_ms: float = 0,
        latency_p99_ms: float | None = None,
        faults: str = "",
        user: str = "viewer",
        token: str = "sim-token",  # noqa: S107 - a made-up password of a made-up server
        is_strict: bool = True,
    ) -> None:
        self.user, self.token = user, token
        self.is_secured = is_secured
        self.keep_history = keep_history
        self.tests = tests
        self.world = World(projects={name: Project(results=[], reports={}) for name in projects})
        self._logins: dict[str, datetime] = {}
        self._uids = dice(seed, "uids")
        super().__init__(
            seed=seed,
            now=now,
            is_clock_running=is_clock_running,
            latency_ms=latency_ms,
            latency_p99_ms=latency_p99_ms,
            faults=faults,
            is_strict=is_strict,
        )
        for name in projects:
            for days in range(runs, 0, -1):
                self.run_tests(name, at=now - timedelta(days=days))

    # --- what happens there

    def run_tests(self, project: str, *, at: datetime | None = None, build: int | None = None) -> int:
        """Run the tests as a CI job does: clean the results, send new ones, generate; returns the report's number.

        Args:
            project: its id.
            at: when the first test begins; now where not given.
            build: number of the CI build; the next one where not given.
        """
        with self.lock:
            its = self.world.projects[project]
            started_at = at or self.clock.now()
            number = build or its.last_number + 1
            its.results = made_results(project, self.tests, started_at, salt=f"{self.seed}/{number}")
            return self.generate(project, at=at, build=number)

    def send_results(self, project: str, results: Sequence[dict[str, Any]]) -> None:
        """Send more results; those that are there stay."""
        with self.lock:
            self.world.projects[project].results += results

    def generate(self, project: str, *, at: datetime | None = None, build: int = 1) -> int:
        """Generate a report of the results that are there, and prune the oldest; returns its number."""
        with self.lock:
            its = self.world.projects[project]
            its.last_number += 1
            executor = {
                "reportName": its.last_number,
                "buildName": f"{project}-{build}",
                "buildUrl": f"https://ci.example.test/{project}/{build}",
                "name": "CI",
                "type": "jenkins",
            }
            generated_at = (at or self.clock.now()) + timedelta(minutes=2)
            its.reports[its.last_number] = Report(report_files(its.results, executor, self._uids), generated_at)
            for number in sorted(its.reports)[: -self.keep_history]:
                del its.reports[number]
            return its.last_number

    def clean_results(self, project: str) -> None:
        """Forget the results; the reports stay."""
        with self.lock:
            self.world.projects[project].results = []

    def clean_history(self, project: str) -> None:
        """Forget the reports; the next one is number 1."""
        with self.lock:
            self.world.projects[project].reports = {}
            self.world.projects[project].last_number = 0

    def drop_data(self, project: str, number: int) -> None:
        """Leave only the widgets of a report, as people do who need the space."""
        with self.lock:
            files = self.world.projects[project].reports[number].files
            for path in [path for path in files if path.startswith("data/")]:
                del files[path]

    def delete_project(self, project: str) -> None:
        """Delete a project with all its reports."""
        with self.lock:
            del self.world.projects[project]

    def mutate_once(self, rng: random.Random) -> str:
        """Run the tests of one project again."""
        name = rng.choice(sorted(self.world.projects))
        return f"report {self.run_tests(name)} of {name}"

    def expected(self) -> list[Any]:
        """The summaries of all reports that are kept."""
        with self.lock:
            return [
                msgspec.json.decode(report.files["widgets/summary.json"])
                for its in self.world.projects.values()
                for report in its.reports.values()
            ]

    def warm(self) -> None:
        """Reports are rendered when they are generated."""

    # --- endpoints

    def routes(self) -> Iterable[Route]:
        """The endpoints, each with the prefix and without."""
        for prefix in (PREFIX, ""):
            report = f"{prefix}/projects/{{id}}/reports/{{number}}"
            yield Route("GET", f"{prefix}/version", self._get_version, is_open=True)
            yield Route("POST", f"{prefix}/login", self._log_in, is_open=True)
            yield Route("GET", f"{prefix}/projects", self._list_projects)
            yield Route("GET", f"{prefix}/projects/{{id}}", self._get_project, is_listing=True)
            yield Route("GET", f"{report}/{{folder}}/{{file}}", self._get_file)
            yield Route("GET", f"{report}/{{folder}}/{{folder}}/{{file}}", self._get_file)

    def refuse_credentials(self, request: Request) -> Answer | None:
        """401 unless the cookie of a login came along that still holds."""
        if not self.is_secured:
            return None
        cookies = dict(
            pair.strip().partition("=")[::2] for pair in request.headers.get(b"cookie", b"").decode().split(";")
        )
        ends_at = self._logins.get(cookies.get("access_token_cookie", ""))
        if ends_at is None:
            return self.error(401, 'Missing cookie "access_token_cookie"')
        return self.error(401, "Token has expired") if ends_at <= self.clock.now() else None

    def error(self, status: int, message: str | None = None) -> Answer:
        """As the service words it."""
        if status == 401:
            return json_answer({"meta_data": {"message": message or "Invalid username/password"}}, 401)
        return json_answer({"meta_data": {"message": message or f"Error {status}"}}, status)

    def rate_limited(self, retry_after: str | None) -> Answer:
        """The service has no limit; what stands before it may."""
        return self.error(429)._replace(headers=[(b"retry-after", retry_after.encode())] if retry_after else [])

    def _get_version(self, request: Request) -> Answer:
        del request
        return _told({"version": "2.27.0"}, "Version successfully obtained")

    def _log_in(self, request: Request) -> Answer:
        given = msgspec.json.decode(request.body or b"{}")
        if (given.get("username"), given.get("password")) != (self.user, self.token):
            return self.error(401)
        secret = hashlib.sha256(f"{self.seed}/{len(self._logins)}".encode()).hexdigest()
        self._logins[secret] = self.clock.now() + LOGIN_LASTS
        cookies = [
            (b"set-cookie", f"access_token_cookie={secret}; HttpOnly; Path=/".encode()),
            (b"set-cookie", f"csrf_access_token={secret[:16]}; Path=/".encode()),
        ]
        data = {"access_token": secret, "expires_in": LOGIN_LASTS.seconds, "roles": ["viewer"], "token_type": "Bearer"}
        return _told(data, "Successfully logged")._replace(headers=cookies)

    def _list_projects(self, request: Request) -> Answer:
        projects = {name: {"uri": f"{request.base_url}{PREFIX}/projects/{name}"} for name in self.world.projects}
        return _told({"projects": projects}, "Projects successfully obtained")

    def _get_project(self, request: Request) -> Answer:
        name, its = request.captured[0], self._project(request)
        numbers = [*(["latest"] if its.reports else []), *map(str, sorted(its.reports, reverse=True))]
        home = f"{request.base_url}{PREFIX}/projects/{name}/reports"
        project = {
            "id": name,
            "reports": [f"{home}/{number}/index.html" for number in numbers],
            "reports_id": numbers,
            "results": [f"{each['uuid']}-result.json" for each in its.results],
        }
        return _told({"project": project}, "Project successfully obtained")

    def _get_file(self, request: Request) -> Answer:
        its = self._project(request)
        _, number, *path = request.captured
        wanted = max(its.reports, default=0) if number == "latest" else int(number) if number.isdecimal() else 0
        report = its.reports.get(wanted)
        content = report.files.get("/".join(path)) if report is not None else None
        if report is None or content is None:
            raise RefusalError(self.error(404, "The requested URL was not found on the server."))
        modified = format_datetime(report.generated_at.replace(microsecond=0), usegmt=True)
        return Answer(200, content, [(b"last-modified", modified.encode())])

    def _project(self, request: Request) -> Project:
        name = request.captured[0]
        if name not in self.world.projects:
            raise RefusalError(self.error(404, f"project_id '{name}' not found"))
        return self.world.projects[name]


def _told(data: Mapping[str, Any], message: str) -> Answer:
    return json_answer({"data": data, "meta_data": {"message": message}})


# --- results, and the report that allure2 generates of them


def made_results(project: str, count: int, started_at: datetime, *, salt: str = "") -> list[dict[str, Any]]:
    """Results as the tests of a run write them: of every ten one fails, one breaks, one is skipped, one is retried."""
    results: list[dict[str, Any]] = []
    start_ms = int(started_at.timestamp() * 1000)
    for position in range(count):
        status = {3: "failed", 5: "broken", 7: "skipped"}.get(position % 10, "passed")
        if position % 10 == 9:
            results.append(_result(project, position, "failed", start_ms + position * 1000, salt + "first"))
        results.append(_result(project, position, status, start_ms + position * 1000 + 500, salt))
    return results


def _result(project: str, position: int, status: str, start_ms: int, salt: str) -> dict[str, Any]:
    suite = _SUITES[position % len(_SUITES)]
    full_name = f"tests.{project}.{suite}#test_{position}"
    result: dict[str, Any] = {
        "uuid": hashlib.sha256(f"{salt}/{full_name}/{start_ms}".encode()).hexdigest()[:32],
        "historyId": hashlib.sha256(full_name.encode()).hexdigest()[:32],
        "testCaseId": hashlib.sha256(f"case {full_name}".encode()).hexdigest()[:32],
        "fullName": full_name,
        "name": f"test_{position}",
        "status": status,
        "start": start_ms,
        "stop": start_ms + 200 + position,
        "labels": [{"name": "suite", "value": suite}, {"name": "framework", "value": "pytest"}],
        "steps": [{"name": "open the page", "status": "passed", "start": start_ms, "stop": start_ms + 100}],
    }
    if status in {"failed", "broken"}:
        result["statusDetails"] = {"message": f"{status} on purpose", "trace": "Traceback: line 1"}
    return result


def report_files(
    results: Sequence[Mapping[str, Any]], executor: Mapping[str, Any], rng: random.Random
) -> dict[str, bytes]:
    """The files of a report by their path, as far as anybody reads them; uids are made anew each time."""
    files: dict[str, Any] = {}
    suites: dict[str, list[dict[str, Any]]] = {}
    latest: list[Mapping[str, Any]] = []
    for attempts in _by_history(results).values():
        earlier = [_case(each, rng, is_hidden=True) for each in attempts[:-1]]
        case = _case(attempts[-1], rng, is_hidden=False)
        case["extra"]["retries"] = [
            {"uid": each["uid"], "status": each["status"], "time": each["time"]} for each in earlier
        ]
        for each in (*earlier, case):
            files[f"data/test-cases/{each['uid']}.json"] = each
        suites.setdefault(attempts[-1]["labels"][0]["value"], []).append(
            {"name": case["name"], "uid": case["uid"], "status": case["status"], "time": case["time"]}
        )
        latest.append(attempts[-1])
    files["data/suites.json"] = {
        "uid": _uid(rng),
        "name": "suites",
        "children": [{"name": name, "uid": _uid(rng), "children": cases} for name, cases in suites.items()],
    }
    files["widgets/summary.json"] = {"reportName": "Allure Report", "testRuns": [], **_summary(latest)}
    files["widgets/executors.json"] = [executor]
    files["widgets/environment.json"] = [{"name": "environment", "values": ["staging"]}]
    return {path: msgspec.json.encode(content) for path, content in files.items()}


def _by_history(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in sorted(results, key=lambda result: int(result["start"])):
        found.setdefault(each["historyId"], []).append(each)
    return found


def _summary(latest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    statistic = {status: sum(each["status"] == status for each in latest) for status in STATUSES}
    time: dict[str, int] = {}
    if latest:
        start, stop = min(each["start"] for each in latest), max(each["stop"] for each in latest)
        time = {"start": start, "stop": stop, "duration": stop - start}
    return {"statistic": {**statistic, "total": len(latest)}, "time": time}


def _case(result: Mapping[str, Any], rng: random.Random, *, is_hidden: bool) -> dict[str, Any]:
    details = result.get("statusDetails", {})
    steps = [
        {"name": step["name"], "status": step["status"], "time": _time(step), "steps": [], "attachments": []}
        for step in result["steps"]
    ]
    return {
        "uid": _uid(rng),
        "name": result["name"],
        "fullName": result["fullName"],
        "historyId": result["historyId"],
        "time": _time(result),
        "status": result["status"],
        "statusMessage": details.get("message"),
        "statusTrace": details.get("trace"),
        "flaky": False,
        "testStage": {"status": result["status"], "steps": steps, "attachments": [], "parameters": []},
        "labels": [*result["labels"], {"name": "resultFormat", "value": "allure2"}],
        "parameters": [],
        "links": [],
        "hidden": is_hidden,
        "retry": is_hidden,
        "extra": {"severity": "normal", "retries": [], "categories": [], "tags": []},
    }


def _time(timed: Mapping[str, Any]) -> dict[str, int]:
    return {"start": timed["start"], "stop": timed["stop"], "duration": timed["stop"] - timed["start"]}


def _uid(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):016x}"
