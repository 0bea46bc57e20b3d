"""Real worker and beat processes over embedded servers, each under the test's thumb."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil
import pytest
import requests
from celery import Celery

import tasks.collect
import tasks.identify
import tasks.ingest
import tasks.maintain
import tasks.rebuild
import tasks.receive
import tasks.reconcile
import tasks.replay
import tasks.summarise  # noqa: F401  # importing declares the tasks
from connectors import registry
from models.store import connections, jobs
from models.store.session import Database, migrate
from workers import secrets
from workers.embedded import stop_servers
from workers.queues import ALL_QUEUES
from workers.runtime import Runtime
from workers.settings import load_settings
from workers.task import enqueue

ROOT = Path(__file__).parents[2]
CELERY = ("celery", "-A", "workers.app")


def wait_until(is_so: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll until something is so; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain until {what}")
        time.sleep(0.05)


class Stack:
    """What `plumbline up` runs, each process under the test's thumb."""

    def __init__(self, home: Path) -> None:
        self.environment = {"PLUMBLINE_HOME": str(home), "PLUMBLINE_LOG_FORMAT": "json"}
        self.runtime = Runtime(load_settings(self.environment), role="test")
        # An application of its own, because two stacks of one test have two brokers.
        self.app = Celery("test", broker=self.runtime.endpoints.broker_url, set_as_current=False)
        self.home = home
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs: list[IO[bytes]] = []
        migrate(self.database)

    @property
    def database(self) -> Database:
        return self.runtime.database

    def add_scope(self, kind: str, base_url: str, auth: dict[str, str], key: str, project: str) -> int:
        with self.database.transaction() as session:
            tenant_id = connections.default_tenant(session)
            connection_id = connections.add_connection(
                session,
                tenant_id,
                kind=kind,
                name=f"{kind} {key}",
                base_url=base_url,
                auth=secrets.encrypt(self.runtime.settings, auth),
                options={},
            )
            project_id = connections.ensure_project(session, tenant_id, project, timezone="UTC")
            repository_id = connections.ensure_repository(
                session, tenant_id, project_id, provider=kind, external_id=key, title=key
            )
            return connections.add_scope(
                session,
                connection_id,
                external_key=key,
                project_id=project_id,
                repository_id=repository_id if registry.kind(kind).is_forge else None,
                options={},
            )

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"{name}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        self.logs.append(log)
        return process

    def start_worker(self, *, concurrency: int = 2) -> subprocess.Popen[bytes]:
        return self._start("worker", *CELERY, "worker", "-Q", ALL_QUEUES, "-c", str(concurrency))

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self._start("beat", *CELERY, "beat")

    def start_api(self) -> str:
        """The API on a free port; its address, once it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._start("api", "uvicorn", "admin.api.app:app", "--port", str(port))
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return requests.get(url + "/healthz", timeout=5).ok
            except requests.ConnectionError:
                return False

        wait_until(answers, seconds=60, what=f"the API answers; logs are in {self.home}")
        return url

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a process and all its children, at once."""
        victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for victim in victims:
            victim.kill()
        process.wait(10)

    def enqueue(self, task: str, **arguments: object) -> int:
        self.app.set_current()
        return enqueue(self.database, task, trigger="cli", **arguments)

    def family(self, job_id: int) -> jobs.Row:
        with self.database.transaction() as session:
            return jobs.family(session, job_id)

    def wait(self, job_id: int, *, seconds: float = 90) -> jobs.Row:
        """Wait for a job and all it asked for; fail with their errors."""
        wait_until(
            lambda: (now := self.family(job_id)).finished == now.total,
            seconds=seconds,
            what=f"job {job_id} and what it asked for are finished; logs are in {self.home}",
        )
        end = self.family(job_id)
        assert end.failed == 0, end.failures
        return end

    def run(self, task: str, **arguments: object) -> jobs.Row:
        return self.wait(self.enqueue(task, **arguments))

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for log in self.logs:
            log.close()
        self.database.close()
        self.app.close()
        stop_servers(self.home)
