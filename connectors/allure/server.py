"""An allure-docker-service: its projects are scopes, its numbered reports are launches.

Numbers say little: `clean-history` makes them begin again, and old reports are pruned. A launch is known by project,
by the address of its build and by the start of its first test. Reports are asked for from the newest down, and no
further than to one that was generated before the window: two requests and a login where nothing is new. What a report
holds is read test by test, once; where a server keeps only summaries, its own counts are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import requests

from connectors.allure import reports
from connectors.allure.parse import epoch_ms, moment
from connectors.allure.shown import ShownLaunch, fingerprint
from connectors.base import ConnectionSpec, Item, Page, Probe, RateGate, ScopeSpec, Window
from connectors.decoding import decoded
from connectors.http import exchange, fetch_ahead, get_bytes, mount_policy
from connectors.limits import gate_key_of, limits_of, parsed_http_date
from models.errors import AccessDeniedError, BadRecordError, GoneError, SourceRequestError, UsageError

T = TypeVar("T")

FETCHERS_COUNT = 4
LOGIN_SECONDS = 600
"""A login is renewed after this long; the server forgets it after 15 minutes unless told otherwise."""
REPORTS_COUNT = 1_000
"""How many reports of one project are looked at; a server keeps 20 unless told otherwise."""
_PREFIX = "/allure-docker-service"


class _Project(msgspec.Struct):
    id: str
    reports_id: list[str] = []


class _ProjectData(msgspec.Struct):
    project: _Project


class _ProjectAnswer(msgspec.Struct):
    data: _ProjectData


class _VersionData(msgspec.Struct):
    version: str


class _VersionAnswer(msgspec.Struct):
    data: _VersionData


class _Time(msgspec.Struct):
    start: int | float | None = None
    stop: int | float | None = None


class _Summary(msgspec.Struct):
    report_name: str | None = msgspec.field(name="reportName", default=None)
    statistic: dict[str, int] = {}
    time: _Time = msgspec.field(default_factory=_Time)


class _Executor(msgspec.Struct):
    build_name: str | int | None = msgspec.field(name="buildName", default=None)
    build_url: str | None = msgspec.field(name="buildUrl", default=None)


_PROJECT = msgspec.json.Decoder(_ProjectAnswer)
_VERSION = msgspec.json.Decoder(_VersionAnswer)
_SUMMARY = msgspec.json.Decoder(_Summary)
_EXECUTORS = msgspec.json.Decoder(list[_Executor])


class AllureServer:
    """A connection to an allure-docker-service; see `connectors.base.Connector`.

    Args:
        spec: `auth` holds `user` and, as `token`, the password, where the server is secured. Options: `ca_file`.
        gate: the patience that all processes share.
    """

    def __init__(self, spec: ConnectionSpec, gate: RateGate) -> None:
        parts = urlsplit(spec.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{spec.base_url!r} is neither a directory (file:///…) nor a server (https://…).")
        self._url = spec.base_url.rstrip("/") + ("" if parts.path.strip("/") else _PREFIX)
        self._user, self._password = spec.auth.get("user"), spec.auth.get("token")
        if self._password and not self._user:
            raise UsageError(f"The connection {spec.name} has a password and no user; give both.")
        verify = spec.options.get("ca_file") or True
        self._session = requests.Session()
        self._policy = mount_policy(
            self._session,
            base_url=spec.base_url,
            gate=gate,
            gate_key=gate_key_of(spec.base_url, self._password or ""),
            limits=limits_of(spec.options),
            verify=verify,
        )
        self._pool = ThreadPoolExecutor(FETCHERS_COUNT, thread_name_prefix="allure")
        self._login_until = 0.0

    def probe(self) -> Probe:
        """Ask the server who it is, and whether it lets us in."""
        try:
            version = decoded(self._get("/version")[0], _VERSION).data.version
        except (GoneError, BadRecordError) as error:
            raise SourceRequestError(f"There is no allure-docker-service at {self._url}.", **error.facts) from error
        self._get("/projects")
        return Probe(
            product="Allure Docker Service",
            version=version,
            account=self._user or "anybody",
            server_now=self.server_now(),
        )

    def server_now(self) -> datetime:
        """The server's own clock, aware UTC."""
        if not self._policy.has_server_time:
            self._get("/version")
        return self._policy.server_now()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The project's id. Raises `GoneError` where there is none."""
        return self._project(scope).id

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """None: all reports are read in one piece."""
        del scope, stream
        return None

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """None: counting costs as much as reading."""
        del scope, stream, window
        return None

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """The reports that were generated since, the newest first; of one launch the newest."""
        del stream, resume_token
        shown: dict[str, Item] = {}
        failures: list[tuple[str, str, bytes]] = []
        for number in self._numbers(scope):
            try:
                launch = self._shown(scope, number, window.since)
            except BadRecordError as error:
                failures.append((f"{scope.external_key}/report {number}", error.message, b""))
                continue
            except GoneError:
                continue  # it was pruned since the numbers were read
            if launch is None:
                continue
            if window.since is not None and launch.updated_at < window.since:
                break
            shown.setdefault(launch.id, launch.item())
        yield Page(items=tuple(shown.values()), failures=tuple(failures))

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """The launches whose reports the server has now."""
        for page in self.pages(scope, stream, Window()):
            yield tuple(item.external_id for item in page.items)

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Some of them; what was pruned is missing."""
        items = [item for page in self.pages(scope, stream, Window()) for item in page.items]
        return Page(items=tuple(item for item in items if item.external_id in external_ids))

    def bring(self, scope: ScopeSpec, external_id: str, into: Path) -> Path:
        """Read a report test by test, and write its results into a folder.

        Raises:
            GoneError: it was pruned.
            BadRecordError: the server shows its summary only.
        """
        number = self._number_of(scope, external_id)
        report = f"{self._path(scope)}/reports/{number}"
        try:
            tree = decoded(self._get(f"{report}/data/suites.json")[0], reports.SUITES)
        except GoneError:
            raise BadRecordError(f"Of {external_id} the server shows its summary only.") from None
        waiting = list(reports.uids(tree))
        while waiting:
            calls = (partial(self._case, f"{report}/data/test-cases/{quote(uid, safe='')}.json") for uid in waiting)
            waiting = []
            for case in fetch_ahead(self._pool, calls, 2 * FETCHERS_COUNT):
                if case is not None:
                    reports.write_result(case, into)
                    waiting += reports.retried_uids(case) if not case.get("retry") else []
        self._copy_facts(report, into)
        return into

    def close(self) -> None:
        """Close sockets and threads."""
        self._pool.shutdown(cancel_futures=True)
        self._session.close()

    def _shown(self, scope: ScopeSpec, number: str, since: datetime | None) -> ShownLaunch | None:
        """A report as a launch; None where it holds no test."""
        report = f"{self._path(scope)}/reports/{number}"
        body, headers = self._get(f"{report}/widgets/summary.json")
        summary = decoded(body, _SUMMARY)
        started_ms, stopped_ms = epoch_ms(summary.time.start), epoch_ms(summary.time.stop)
        started_at = moment(started_ms)
        generated_at = parsed_http_date(headers.get("Last-Modified", "")) or moment(stopped_ms)
        if started_at is None or generated_at is None or not summary.statistic.get("total"):
            return None
        executor = _Executor()
        if since is None or generated_at >= since:
            executor = self._executor(report)
        link = executor.build_url or ""
        digest = hashlib.sha256(link.encode()).hexdigest()[:12]
        return ShownLaunch(
            id=f"{scope.external_key}/{digest}/{started_ms}",
            name=str(executor.build_name or summary.report_name or scope.external_key),
            fingerprint=fingerprint([(stopped_ms,), *sorted(summary.statistic.items())]),
            build_name=None if executor.build_name is None else str(executor.build_name),
            ci_url=executor.build_url,
            summary=summary.statistic,
            started_at=started_at,
            updated_at=generated_at,
        )

    def _executor(self, report: str) -> _Executor:
        with suppress(GoneError, BadRecordError):
            found = decoded(self._get(f"{report}/widgets/executors.json")[0], _EXECUTORS)
            if found:
                return found[0]
        return _Executor()

    def _copy_facts(self, report: str, into: Path) -> None:
        with suppress(GoneError, msgspec.DecodeError):
            executors = msgspec.json.decode(self._get(f"{report}/widgets/executors.json")[0], type=list[dict[str, Any]])
            if executors:
                (into / "executor.json").write_bytes(msgspec.json.encode(executors[0]))
        with suppress(GoneError):
            reports.write_environment(self._get(f"{report}/widgets/environment.json")[0], into)

    def _case(self, path: str) -> dict[str, Any] | None:
        try:
            return reports.case_of(self._get(path)[0])
        except GoneError:
            return None  # a hidden attempt whose file is not kept

    def _number_of(self, scope: ScopeSpec, external_id: str) -> str:
        for number in self._numbers(scope):
            with suppress(GoneError, BadRecordError):
                launch = self._shown(scope, number, None)
                if launch is not None and launch.id == external_id:
                    return number
        raise GoneError(f"The server no longer has the report of {external_id}; it keeps the latest only.")

    def _numbers(self, scope: ScopeSpec) -> list[str]:
        """The newest first; `latest` is one of them under a second name."""
        numbers = {each for each in self._project(scope).reports_id if each.isdecimal()}
        return sorted(numbers, key=int, reverse=True)[:REPORTS_COUNT]

    def _project(self, scope: ScopeSpec) -> _Project:
        return decoded(self._get(self._path(scope))[0], _PROJECT).data.project

    def _path(self, scope: ScopeSpec) -> str:
        return f"/projects/{quote(scope.external_key, safe='')}"

    def _get(self, path: str) -> tuple[bytes, Any]:
        self._log_in()
        return get_bytes(self._session, f"{self._url}{path}")

    def _log_in(self) -> None:
        if not self._password or time.monotonic() < self._login_until:
            return
        # Set first: whoever comes meanwhile goes with the old cookie, which holds a while yet.
        self._login_until = time.monotonic() + LOGIN_SECONDS
        credentials = {"username": self._user, "password": self._password}
        exchange(lambda: self._session.post(f"{self._url}/login", json=credentials))
        token = self._session.cookies.get("csrf_access_token")
        if not self._session.cookies.get("access_token_cookie"):
            raise AccessDeniedError(f"{urlsplit(self._url).hostname} takes the password and gives no login.")
        if token:
            self._session.headers["X-CSRF-TOKEN"] = token
