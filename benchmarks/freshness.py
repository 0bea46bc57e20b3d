"""From a change at the source to its row in the analytics table: real API, workers and simulators on this machine.

    python -m benchmarks.freshness [--changes N] [--latency-ms L] [--backfill-objects N]

A change is made over the simulator's control API; the simulator sends its webhook, the API stores and answers it, a
worker refetches the object, and the row is looked for until it says so. The limit is 2 seconds at the 95th percentile.
The floor is measured in the same run: the same object fetched by the same connector and written by the same promote, in
one process without webhook, API, broker or queue. The second figure is taken while first syncs of large projects run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import msgspec
import psycopg
import requests

from benchmarks.sync import ROOT, TOKEN
from connectors.base import OpenGate
from connectors.signatures import hub_signature, standard_key, standard_signature
from models.store import connections, jobs
from models.store.session import Database, migrate
from tasks import hooks
from tasks.steps import load_source, stage_and_promote
from workers import runtime, secrets
from workers.app import app
from workers.embedded import stop_servers
from workers.settings import load_settings
from workers.supervisor import default_processes
from workers.task import enqueue

LIMIT_SECONDS = 2.0
PATIENCE_SECONDS = 60.0

SERVE = """
import sys
from datetime import UTC, datetime
from connectors.{vendor}.simulator import {name}
from connectors.simulator import run
simulator = {name}(now=datetime.now(UTC), is_clock_running=True, {arguments})
print("ready", flush=True)
run(simulator, int(sys.argv[1]))
"""

READ = {
    "gitlab": "SELECT title FROM gitlab_mr_lead_times WHERE connection_id = %s AND mr_id = %s",
    "jira": "SELECT summary FROM jira_table_history WHERE connection_id = %s AND issue_id = %s",
}
STREAM = {"gitlab": "merge_requests", "jira": "issues"}


class Place(msgspec.Struct):
    """A simulated source with a scope of ours, and one with much to read."""

    kind: str
    url: str
    connection_id: int
    scope_id: int
    objects: list[str]
    """What the source calls those that are changed."""

    def external_id(self, name: str) -> str:
        return f"101!{name}" if self.kind == "gitlab" else name

    def rename(self, name: str, title: str) -> None:
        change = (
            {"change": "update_merge_request", "arguments": [int(name)], "options": {"title": title}}
            if self.kind == "gitlab"
            else {"change": "edit_issue", "arguments": [int(name)], "options": {"summary": title}}
        )
        requests.post(f"{self.url}/__sim/mutate", json=change, timeout=30).raise_for_status()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def simulator(vendor: str, name: str, **arguments: Any) -> Iterator[str]:
    """A simulator in a process of its own, its clock running from now."""
    port = free_port()
    code = SERVE.format(vendor=vendor, name=name, arguments=", ".join(f"{k}={v!r}" for k, v in arguments.items()))
    process = subprocess.Popen([sys.executable, "-c", code, str(port)], cwd=ROOT, stdout=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    try:
        assert process.stdout is not None
        process.stdout.readline()
        wait_for(f"{url}/__sim/clock")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def stack(home: Path) -> Iterator[runtime.Runtime]:
    """What `plumbline up` runs, Flower apart: workers, beat and API, each a process with the same arguments."""
    port = free_port()
    environment = {
        "PLUMBLINE_HOME": str(home),
        "PLUMBLINE_LOG_FORMAT": "json",
        "PLUMBLINE_LOG_LEVEL": "warning",
        "PLUMBLINE_API_PORT": str(port),
        "PLUMBLINE_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    process = runtime.Runtime(load_settings(environment), role="benchmark")
    runtime.use(process)
    app.conf.broker_url = process.endpoints.broker_url
    app.loader.import_default_modules()
    migrate(process.database)
    running = []
    try:
        for spec in default_processes(process.settings):
            if spec.name == "flower":
                continue
            with (home / f"{spec.name}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        spec.argv, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
                    )
                )
        wait_for(f"http://127.0.0.1:{port}/healthz")
        deadline = time.monotonic() + 60
        while len(app.control.ping(timeout=1) or []) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process
    finally:
        for each in running:
            each.terminate()
        for each in running:
            try:
                each.wait(20)
            except subprocess.TimeoutExpired:
                each.kill()
        process.close()
        stop_servers(home)


def add_scope(database: Database, settings: Any, kind: str, url: str, key: str, name: str) -> tuple[int, int]:
    """A connection with one scope; returns both ids."""
    auth = {"token": TOKEN, **({"user": "sim@example.test"} if kind == "jira" else {})}
    with database.transaction() as session:
        tenant_id = connections.default_tenant(session)
        connection_id = connections.add_connection(
            session, tenant_id, kind=kind, name=name, base_url=url, auth=secrets.encrypt(settings, auth), options={}
        )
        project_id = connections.ensure_project(session, tenant_id, "Shop", timezone="UTC")
        scope_id = connections.add_scope(
            session, connection_id, external_key=key, project_id=project_id, repository_id=None, options={}
        )
    return connection_id, scope_id


def settled(database: Database, job_id: int) -> None:
    """Wait for a job and all that it asked for."""
    while True:
        with database.transaction() as session:
            family = jobs.family(session, job_id)
        if family.finished == family.total:
            assert not family.failed, family.failures
            return
        time.sleep(0.1)


def open_place(process: runtime.Runtime, kind: str, url: str, key: str, count: int) -> Place:
    """A synced scope with its webhooks registered."""
    database, settings = process.database, process.settings
    connection_id, scope_id = add_scope(database, settings, kind, url, key, f"fresh-{kind}")
    settled(database, enqueue(database, "collect.sync_scope", trigger="cli", scope_id=scope_id))
    with database.transaction() as session:
        row = connections.connection(session, connection_id)
    states = hooks.enable(database, settings, row)
    assert all(state.is_enabled for state in states), states
    if kind == "gitlab":
        objects = [str(number) for number in range(1, count + 1)]
    else:
        objects = [str(10_000 + number) for number in range(1, count + 1)]
    return Place(kind, url, connection_id, scope_id, objects)


def measured(place: Place, database_url: str, changes: int, pause_seconds: float) -> list[float]:
    """Seconds from each change to its row, one after the other."""
    waits = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number in range(changes):
            name = place.objects[number % len(place.objects)]
            title = f"Change {number} of {time.time_ns()}"
            began = time.monotonic()
            place.rename(name, title)
            while True:
                row = connection.execute(READ[place.kind], (place.connection_id, name)).fetchone()
                waited = time.monotonic() - began
                if row is not None and row[0] == title:
                    break
                if waited > PATIENCE_SECONDS:
                    raise SystemExit(f"{place.kind}: a change was not there after {waited:.0f} s")
                time.sleep(0.005)
            waits.append(waited)
            time.sleep(pause_seconds)
    return waits


def floor(process: runtime.Runtime, place: Place, changes: int) -> list[float]:
    """Seconds to fetch an object and to write it with nothing between, by the same connector and the same promote."""
    source = load_source(process.database, process.settings, place.scope_id)
    connector = source.kind.connect(source.connection, OpenGate())
    stream = source.kind.streams[STREAM[place.kind]]
    waits = []
    try:
        for number in range(changes):
            name = place.objects[number % len(place.objects)]
            began = time.monotonic()
            place.rename(name, f"Floor {number} of {time.time_ns()}")
            page = connector.fetch(source.scope, stream.name, (place.external_id(name),))
            with process.database.transaction() as session:
                stage_and_promote(session, source, stream, page, window_id=None)
            waits.append(time.monotonic() - began)
            time.sleep(0.05)
    finally:
        connector.close()
    return waits


def answers(process: runtime.Runtime, place: Place, what: str, count: int) -> list[float]:
    """Milliseconds in which the API answers a signed delivery that is stored."""
    with process.database.transaction() as session:
        row = connections.connection(session, place.connection_id)
    secret = secrets.decrypt(process.settings, row.auth)["webhook_secret"]
    waits = []
    with requests.Session() as session_:
        for number in range(count):
            key = f"{what} {number}"
            if place.kind == "gitlab":
                body = b'{"object_kind":"merge_request","project":{"id":101},"object_attributes":{"iid":1}}'
                at = str(int(time.time()))
                signature = standard_signature(standard_key(secret) or b"", key, at, body)
                headers = {"X-Gitlab-Event": "Merge Request Hook", "webhook-id": key, "webhook-timestamp": at,
                           "webhook-signature": signature}  # fmt: skip
            else:
                body = b'{"webhookEvent":"jira:issue_updated","issue":{"id":"10001","key":"PAY-1"}}'
                headers = {"X-Atlassian-Webhook-Identifier": key, "X-Hub-Signature": hub_signature(body, secret)}
            began = time.monotonic()
            answer = session_.post(
                row.webhooks["url"], data=body, headers={"Content-Type": "application/json", **headers}, timeout=20
            )
            waits.append(time.monotonic() - began)
            assert answer.status_code == 202, answer.text
    return waits


def report(what: str, waits: list[float], floors: list[float]) -> bool:
    """Print one line; returns whether it is within the limit."""
    p50, p95 = quantiles(waits, n=100)[49], quantiles(waits, n=100)[94]
    floor_p50 = quantiles(floors, n=100)[49]
    is_within = p95 <= LIMIT_SECONDS
    print(
        f"{what:28} {len(waits):7} {p50:8.3f} {p95:8.3f} {max(waits):8.3f} {LIMIT_SECONDS:8.1f} "
        f"{'within' if is_within else 'MISSED':>8} {floor_p50:9.3f} {p50 / floor_p50:8.1f}",
        flush=True,
    )
    return is_within


def tell_answers(process: runtime.Runtime, places: list[Place], when: str) -> None:
    """Print how soon the API answers a delivery."""
    for place in places:
        waits = sorted(1_000 * each for each in answers(process, place, f"{place.kind} {when}", 200))
        p50, p95 = waits[100], waits[190]
        print(f"answer to {place.kind}, {when}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {waits[-1]:.1f} ms", flush=True)


def main() -> None:
    """Measure and print a table; exits with 1 where the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--backfill-objects", type=int, default=20_000)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pl-fresh-"))
    good = True
    try:
        with ExitStack() as open_:
            process = open_.enter_context(stack(home))
            url = process.endpoints.database_url
            places = []
            for kind, name, key, size in (
                ("gitlab", "GitLabSimulator", "101", {"merge_requests": 200}),
                ("jira", "JiraSimulator", "PAY", {"issues": 200}),
            ):
                source = open_.enter_context(simulator(kind, name, seed=1, latency_ms=arguments.latency_ms, **size))
                places.append(open_place(process, kind, source, key, 50))
            print(
                "seconds                      changes      p50      p95      max    limit            floor p50    ratio"
            )
            for place in places:
                floors = floor(process, place, arguments.changes // 2)
                good &= report(f"{place.kind}, idle", measured(place, url, arguments.changes, 0.05), floors)
            tell_answers(process, places, "idle")
            big = open_.enter_context(
                simulator(
                    "jira", "JiraSimulator", issues=arguments.backfill_objects, seed=2, latency_ms=arguments.latency_ms
                )
            )
            code = open_.enter_context(
                simulator("gitlab", "GitLabSimulator", merge_requests=arguments.backfill_objects, seed=2,
                          latency_ms=arguments.latency_ms)
            )  # fmt: skip
            backfills = []
            for kind, source, key in (("jira", big, "PAY"), ("gitlab", code, "101")):
                _, scope_id = add_scope(process.database, process.settings, kind, source, key, f"big-{kind}")
                backfills.append(enqueue(process.database, "collect.sync_scope", trigger="cli", scope_id=scope_id))
            time.sleep(5)
            for place in places:
                floors = floor(process, place, arguments.changes // 2)
                waits = measured(place, url, arguments.changes, 0.05)
                with process.database.transaction() as session:
                    families = [jobs.family(session, job_id) for job_id in backfills]
                left = sum(family.total - family.finished for family in families)
                good &= report(f"{place.kind}, {left} backfill jobs left", waits, floors)
            tell_answers(process, places, "during the backfill")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
