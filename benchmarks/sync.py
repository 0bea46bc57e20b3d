"""A first sync of 20,000 Jira issues and 20,000 merge requests through real workers, beside the limit in the same run.

    python -m benchmarks.sync [--issues N] [--merge-requests N] [--latency-ms 0 20]

Simulators, database, broker and workers run on this machine and share its cores; the limit (benchmarks/limit.py) has
the same simulators, the same database and the same number of processes. Only the ratio means anything elsewhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import requests

from benchmarks.limit import PROCESSES, gitlab_limit, jira_limit
from models.store import connections, jobs
from models.store.session import Database, migrate
from workers import runtime, secrets
from workers.app import app
from workers.embedded import stop_servers
from workers.queues import ALL_QUEUES
from workers.settings import load_settings
from workers.task import enqueue

ROOT = Path(__file__).parents[1]
TOKEN = "sim-token"
JIRA_TABLES = ("jira_table_history", "jira_issue_changes", "bug_budget", "bug_history", "staged_payloads")
GITLAB_TABLES = ("gitlab_mr_lead_times", "gitlab_mr_activities", "gitlab_events", "staged_payloads")

SERVE = """
import sys
from connectors.{vendor}.simulator import {name}
from connectors.simulator import run
simulator = {name}({arguments})
if hasattr(simulator, "warm"):
    simulator.warm()
print("ready", flush=True)
run(simulator, int(sys.argv[1]))
"""


class Measured(msgspec.Struct):
    what: str
    objects: int
    seconds: float
    limit_seconds: float
    rows: dict[str, int]
    peak_worker_mb: float
    requests_count: int

    @property
    def ratio(self) -> float:
        return self.limit_seconds / self.seconds


@contextmanager
def simulator(vendor: str, name: str, **arguments: Any) -> Iterator[str]:
    """A simulator in a process of its own, everything rendered before the clock starts."""
    port = _free_port()
    code = SERVE.format(vendor=vendor, name=name, arguments=", ".join(f"{k}={v!r}" for k, v in arguments.items()))
    process = subprocess.Popen([sys.executable, "-c", code, str(port)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"{url}/__sim/requests", timeout=5)
                break
            except requests.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Memory(threading.Thread):
    """The most that any worker process held, sampled."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.peak_bytes = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for each in self.process.children(recursive=True):
                try:
                    self.peak_bytes = max(self.peak_bytes, each.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


def follow(database: Database, job_id: int, *, until_collected: str) -> float:
    """Wait for the collecting jobs of a family; returns the seconds from the first start to the last end."""
    while True:
        with database.transaction() as session:
            row = session.execute(
                jobs.text(
                    "SELECT count(*) FILTER (WHERE finished_at IS NULL) AS unfinished, "
                    "count(*) FILTER (WHERE status IN ('failed', 'lost')) AS failed, max(error) AS error, "
                    "extract(epoch FROM max(finished_at) - min(started_at)) AS seconds "
                    "FROM job_runs WHERE (id = :id OR root_id = :id) AND task LIKE 'collect.%'"
                ),
                {"id": job_id},
            ).one()
            others = jobs.family(session, job_id)
        if row.failed:
            raise SystemExit(f"{until_collected}: {row.error}")
        if not row.unfinished and others.finished == others.total:  # the summaries that follow must not share the clock
            return float(row.seconds)
        time.sleep(0.1)


def add_scope(database: Database, settings: Any, kind: str, url: str, key: str) -> None:
    """A connection with one scope, and nothing of an earlier round."""
    with database.transaction() as session:
        tenant_id = connections.default_tenant(session)
        connection_id = connections.add_connection(
            session, tenant_id, kind=kind, name=f"{kind} {url}", base_url=url,
            auth=secrets.encrypt(settings, {"token": TOKEN}),
            # The limit asks GitLab by REST, and both shall ask the same.
            options={"graphql": "off"} if kind == "gitlab" else {},
        )  # fmt: skip
        project_id = connections.ensure_project(session, tenant_id, "Shop", timezone="UTC")
        connections.add_scope(
            session, connection_id, external_key=key, project_id=project_id, repository_id=None, options={}
        )


def clear(database: Database) -> None:
    """Empty tables, and the limit's gone."""
    with database.transaction() as session:
        session.execute(
            jobs.text("TRUNCATE connections, projects, jira_issue_changes, job_runs, job_keys, dirty_keys CASCADE")
        )
        session.execute(
            jobs.text(
                "DROP TABLE IF EXISTS limit_issues, limit_changes, limit_bugs, limit_bug_history, limit_payloads, "
                "limit_merge_requests, limit_activities"
            )
        )


def rows_of(database: Database, tables: tuple[str, ...]) -> dict[str, int]:
    with database.transaction() as session:
        return {table: session.execute(jobs.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


def measure(kind: str, url: str, key: str, objects: int, rounds: int, worker_pid: int) -> Measured:
    """Rounds of the sync through the workers and the limit after it; the one with the median ratio.

    The first round also warms what has to be warm: plans, caches, the workers' imports. It counts all the same.
    """
    measured = [_measure_once(kind, url, key, objects, worker_pid) for _ in range(rounds)]
    return sorted(measured, key=lambda each: each.ratio)[rounds // 2]


def _measure_once(kind: str, url: str, key: str, objects: int, worker_pid: int) -> Measured:
    process = runtime.current()
    database = process.database
    clear(database)
    add_scope(database, process.settings, kind, url, key)
    before = _requests_count(url)
    memory = Memory(worker_pid)
    memory.start()
    job_id = enqueue(database, "collect.sync_all", trigger="cli", stream=None if kind == "jira" else "merge_requests")
    seconds = follow(database, job_id, until_collected=f"{kind} sync")
    memory.ended.set()
    tables = JIRA_TABLES if kind == "jira" else GITLAB_TABLES
    rows = rows_of(database, tables)
    requests_count = _requests_count(url) - before
    if kind == "jira":
        limit_seconds = jira_limit(url, TOKEN, key, process.endpoints.database_url, issues=objects)
        landed = rows_of(
            database, ("limit_issues", "limit_changes", "limit_bugs", "limit_bug_history", "limit_payloads")
        )
        assert landed["limit_issues"] == landed["limit_payloads"] == rows["jira_table_history"] == objects, (
            landed,
            rows,
        )
        assert landed["limit_changes"] == rows["jira_issue_changes"], (landed, rows)
        assert landed["limit_bugs"] == rows["bug_budget"], (landed, rows)
        assert landed["limit_bug_history"] == rows["bug_history"], (landed, rows)
    else:
        limit_seconds = gitlab_limit(url, TOKEN, key, process.endpoints.database_url, merge_requests=objects)
        landed = rows_of(database, ("limit_merge_requests",))
        assert landed["limit_merge_requests"] == rows["gitlab_mr_lead_times"] == objects, (landed, rows)
    return Measured(
        what=kind, objects=objects, seconds=seconds, limit_seconds=limit_seconds, rows=rows,
        peak_worker_mb=memory.peak_bytes / 1e6, requests_count=requests_count,
    )  # fmt: skip


def _requests_count(url: str) -> int:
    return int(requests.get(f"{url}/__sim/requests", params={"limit": 0}, timeout=60).json().get("count", 0))


@contextmanager
def servers(home: Path) -> Iterator[None]:
    """A migrated database and a broker for this process and its workers."""
    process = runtime.Runtime(load_settings(_environment(home)), role="benchmark")
    runtime.use(process)
    app.conf.broker_url = process.endpoints.broker_url
    app.loader.import_default_modules()
    migrate(process.database)
    try:
        yield
    finally:
        process.database.close()
        stop_servers(home)


def _environment(home: Path) -> dict[str, str]:
    return {"PLUMBLINE_HOME": str(home), "PLUMBLINE_LOG_FORMAT": "json"}


@contextmanager
def workers(home: Path, processes: int = PROCESSES) -> Iterator[int]:
    """A worker with as many processes as the limit has, or another number; yields its pid."""
    with (home / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", ALL_QUEUES, "-c", str(processes)],
            cwd=ROOT, env={**os.environ, **_environment(home)}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while b"ready" not in (home / "worker.log").read_bytes():
                time.sleep(0.1)
            yield worker.pid
        finally:
            worker.terminate()
            worker.wait(30)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issues", type=int, default=20_000)
    parser.add_argument("--merge-requests", type=int, default=20_000)
    parser.add_argument("--latency-ms", type=float, nargs="*", default=[0, 20])
    parser.add_argument("--only", choices=("jira", "gitlab"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pl-bench-"))
    print("source   latency  objects  seconds  per second  limit/s  ratio  worker MB  requests")
    try:
        with servers(home), workers(home) as worker_pid:
            for latency_ms in arguments.latency_ms:
                if arguments.only != "gitlab":
                    with simulator(
                        "jira", "JiraSimulator", issues=arguments.issues, seed=1, deployment="server",
                        latency_ms=latency_ms,
                    ) as url:  # fmt: skip
                        report(
                            measure("jira", url, project_of(url), arguments.issues, arguments.rounds, worker_pid),
                            latency_ms,
                        )
                if arguments.only != "jira":
                    with simulator(
                        "gitlab", "GitLabSimulator", merge_requests=arguments.merge_requests, seed=1,
                        latency_ms=latency_ms,
                    ) as url:  # fmt: skip
                        report(
                            measure("gitlab", url, "101", arguments.merge_requests, arguments.rounds, worker_pid),
                            latency_ms,
                        )
    finally:
        shutil.rmtree(home, ignore_errors=True)


def project_of(url: str) -> str:
    """The key of the simulated Jira's first project."""
    answer = requests.get(f"{url}/rest/api/2/project", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    return str(answer.json()[0]["key"])


def report(measured: Measured, latency_ms: float) -> None:
    """Print one line and the rows that were written."""
    print(
        f"{measured.what:8} {latency_ms:4.0f} ms {measured.objects:8,} {measured.seconds:8.1f}"
        f" {measured.objects / measured.seconds:11,.0f} {measured.objects / measured.limit_seconds:8,.0f}"
        f" {measured.ratio:6.2f} {measured.peak_worker_mb:10.0f} {measured.requests_count:9,}"
    )
    print("         rows: " + ", ".join(f"{count:,} {table}" for table, count in measured.rows.items()), flush=True)


if __name__ == "__main__":
    main()
