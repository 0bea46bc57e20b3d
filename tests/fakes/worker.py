"""A worker inside the test's own process: it claims the rows of job_runs, as a real one does, and needs no broker.

Use it where a test is about what tasks do to the database. Where it is about processes, signals or messages, use
`factories.stack.Stack`, which starts real ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from celery import Celery, current_app
from sqlalchemy import Row, text

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
from models.store.session import Database
from workers import runtime, secrets
from workers.runtime import Runtime
from workers.settings import Settings
from workers.task import enqueue


class InProcessWorker:
    """Runs jobs one after the other, in the order of their ids, by calling their tasks.

    Messages go to a broker in memory that nobody listens to, as if every one of them were lost.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self._app = Celery("in-process", broker="memory://", set_as_current=False)

    def __enter__(self) -> Self:
        self._runtime_before = runtime._current
        self._app_before = current_app._get_current_object()
        process = Runtime(self.settings, role="test")
        process.__dict__.update(database=self.database, gate=None)  # what would start the embedded servers in HOME
        runtime.use(process)
        self._app.set_current()
        self._app.set_default()  # what other threads of the test see
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.close()
        self._app_before.set_current()
        self._app_before.set_default()
        runtime._current = self._runtime_before

    def add_scope(
        self,
        kind: str,
        base_url: str,
        key: str,
        *,
        token: str,
        user: str | None = None,
        project: str = "Shop",
        options: Mapping[str, Any] | None = None,
        scope_options: Mapping[str, Any] | None = None,
    ) -> int:
        """A connection with one scope, as the command line adds them; returns the scope's id."""
        auth = {"token": token} | ({"user": user} if user else {})
        with self.database.transaction() as session:
            tenant_id = connections.default_tenant(session)
            connection_id = connections.add_connection(
                session,
                tenant_id,
                kind=kind,
                name=f"{kind}-{key}",
                base_url=base_url,
                auth=secrets.encrypt(self.settings, auth),
                options=options or {},
            )
            project_id = connections.ensure_project(session, tenant_id, project, timezone="UTC")
            repository_id = None
            if registry.kind(kind).is_forge or registry.kind(kind).bring_results is not None:
                repository_id = connections.ensure_repository(
                    session, tenant_id, project_id, provider=kind, external_id=f"{base_url}/{key}", title=key
                )
            return connections.add_scope(
                session,
                connection_id,
                external_key=key,
                project_id=project_id,
                repository_id=repository_id,
                options=scope_options or {},
            )

    def run(self, task: str, *, deadline_seconds: float = 60, **args: Any) -> Row[Any]:
        """Ask for a job and run it with all that follows from it; fails with the first error.

        Returns:
            The job's family added up, see `models.store.jobs.family`.
        """
        job_id = enqueue(self.database, task, trigger="cli", **args)
        self.run_jobs(deadline_seconds=deadline_seconds)
        with self.database.transaction() as session:
            family = jobs.family(session, job_id)
        assert not family.failed, family.failures
        return family

    def run_jobs(self, *, deadline_seconds: float = 60, is_hurried: bool = False) -> int:
        """Run all unfinished jobs, those that retry when they are due, until none is left; returns how many runs.

        Args:
            deadline_seconds: then it fails.
            is_hurried: run those that wait for a later time at once, as if that time had passed.
        """
        deadline = time.monotonic() + deadline_seconds
        runs = 0
        while True:
            with self.database.transaction() as session:
                job = session.execute(
                    text(
                        f"""
                        SELECT id, task, GREATEST(extract(epoch FROM run_after - clock_timestamp()), 0) AS wait_seconds
                        FROM job_runs WHERE status IN {jobs.UNFINISHED} ORDER BY wait_seconds, id LIMIT 1
                        """
                    )
                ).one_or_none()
            if job is None:
                return runs
            wait_seconds = 0.0 if is_hurried else float(job.wait_seconds)
            assert time.monotonic() + wait_seconds < deadline, f"job {job.id} ({job.task}) is not done"
            if is_hurried and job.wait_seconds:
                with self.database.transaction() as session:
                    session.execute(text("UPDATE job_runs SET run_after = now() WHERE id = :id"), {"id": job.id})
            time.sleep(wait_seconds)
            self._app.tasks[job.task](job_id=job.id)
            runs += 1
