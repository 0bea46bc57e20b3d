"""The endpoints of runs, jobs, deployments and environments of a simulated GitHub."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from connectors.github.simulated import delivery as looks
from connectors.github.simulated.delivery import Deployment, Run
from connectors.github.simulated.users import Users
from connectors.github.simulated.world import Repository
from connectors.simulator import Answer, RefusalError, Request, Route

FOUND_MAX = 1_000
"""With a filter, no more than these are found."""


class DeliveryApi(Users, ABC):
    """The half of the simulator that serves Actions and deployments."""

    @abstractmethod
    def asked_repository(self, request: Request) -> tuple[Repository, list[str]]:
        """The repository of a path, and what the path captured after it."""

    @abstractmethod
    def page_of(self, request: Request, items: list[bytes], wrapped_as: str | None = None) -> Answer:
        """A page of a listing, as a list or inside an object that counts."""

    def delivery_routes(self, home: str) -> Iterable[Route]:
        """The endpoints below one path of a repository."""
        paging = frozenset({"page", "per_page"})
        runs = paging | {"created", "status", "branch", "event", "actor", "head_sha", "exclude_pull_requests"}
        return [
            Route("GET", home + "/actions/runs", self._list_runs, runs, is_listing=True),
            Route("GET", home + "/actions/runs/{run}", self._get_run, frozenset({"exclude_pull_requests"})),
            Route("GET", home + "/actions/runs/{run}/jobs", self._list_jobs, paging | {"filter"}),
            Route("GET", home + "/actions/jobs/{job}", self._get_job),
            Route("GET", home + "/deployments", self._list_deployments, paging | {"sha", "ref", "task", "environment"}),
            Route("GET", home + "/deployments/{deployment}", self._get_deployment),
            Route("GET", home + "/deployments/{deployment}/statuses", self._list_statuses, paging),
            Route("GET", home + "/environments", self._list_environments, paging),
        ]

    # --- what happens in it

    def start_run(self, *, branch: str = "main", repository: int | str | None = None) -> int:
        """Start a run now, and return its id."""
        with self.lock:
            home = self.world.repository(repository)
            return self.delivery.start(home, "push", branch, self.world.humans[0], self.clock.now()).id

    def finish_run(self, run_id: int, conclusion: str = "success") -> None:
        """End a run now."""
        with self.lock:
            self.delivery.finish(self.delivery.runs[run_id], conclusion, self.clock.now())

    def run_again(self, run_id: int) -> None:
        """Run it again now."""
        with self.lock:
            self.delivery.run_again(self.delivery.runs[run_id], self.clock.now())

    def deploy(self, environment: str = "production", *, repository: int | str | None = None) -> int:
        """Ask for a deployment now, and return its id."""
        with self.lock:
            home = self.world.repository(repository)
            return self.delivery.deploy(home, environment, self.world.humans[0], None, self.clock.now()).id

    def set_deployment_status(self, deployment_id: int, state: str) -> None:
        """Say now how a deployment stands."""
        with self.lock:
            self.delivery.set_status(self.delivery.deployments[deployment_id], state, self.clock.now())

    # --- endpoints

    def _list_runs(self, request: Request) -> Answer:
        home, _ = self.asked_repository(request)
        runs: Sequence[Run] = self.delivery.runs_of(home)
        created = request.last("created")
        if created is not None:
            first, last = self._span(created)
            runs = [run for run in runs if first <= run.created_at <= last]
        total_count = len(runs)
        if created is not None:
            runs = runs[:FOUND_MAX]
        items = [msgspec.json.encode(looks.run_json(run)) for run in runs]
        return self.page_of(request, items, f'"total_count":{total_count},"workflow_runs"')

    def _span(self, text: str) -> tuple[datetime, datetime]:
        first, dots, last = text.partition("..")
        try:
            times = [datetime.fromisoformat(each) for each in (first, last)]
        except ValueError:
            times = []
        if not dots or len(times) != 2:
            raise RefusalError(self.error(422, "Invalid created"))
        return times[0].replace(tzinfo=UTC), times[1].replace(tzinfo=UTC) + timedelta(microseconds=999_999)

    def _asked_run(self, request: Request) -> Run:
        home, rest = self.asked_repository(request)
        run = self.delivery.runs.get(int(rest[0])) if rest[0].isdigit() else None
        if run is None or run.repository is not home:
            raise RefusalError(self.error(404))
        return run

    def _get_run(self, request: Request) -> Answer:
        return _answer(looks.run_json(self._asked_run(request)))

    def _list_jobs(self, request: Request) -> Answer:
        run = self._asked_run(request)
        is_all = request.last("filter", "latest") == "all"
        jobs = [job for job in run.jobs if is_all or job.attempt == run.attempt]
        items = [msgspec.json.encode(looks.job_json(run, job)) for job in jobs]
        return self.page_of(request, items, f'"total_count":{len(items)},"jobs"')

    def _get_job(self, request: Request) -> Answer:
        home, rest = self.asked_repository(request)
        for run in self.delivery.runs_of(home):
            for job in run.jobs:
                if str(job.id) == rest[0]:
                    return _answer(looks.job_json(run, job))
        return self.error(404)

    def _list_deployments(self, request: Request) -> Answer:
        home, _ = self.asked_repository(request)
        found = [msgspec.json.encode(looks.deployment_json(each)) for each in self.delivery.deployments_of(home)]
        return self.page_of(request, found)

    def _asked_deployment(self, request: Request) -> Deployment:
        home, rest = self.asked_repository(request)
        deployment = self.delivery.deployments.get(int(rest[0])) if rest[0].isdigit() else None
        if deployment is None or deployment.repository is not home:
            raise RefusalError(self.error(404))
        return deployment

    def _get_deployment(self, request: Request) -> Answer:
        return _answer(looks.deployment_json(self._asked_deployment(request)))

    def _list_statuses(self, request: Request) -> Answer:
        statuses = looks.statuses_json(self._asked_deployment(request))
        return self.page_of(request, [msgspec.json.encode(each) for each in statuses])

    def _list_environments(self, request: Request) -> Answer:
        home, _ = self.asked_repository(request)
        names = dict.fromkeys(each.environment for each in self.delivery.deployments_of(home))
        items = [
            msgspec.json.encode({"id": home.id * 10 + looks.ENVIRONMENTS.index(name), "name": name, "node_id": "EN"})
            for name in sorted(names)
        ]
        return self.page_of(request, items, f'"total_count":{len(items)},"environments"')


def _answer(value: dict[str, Any]) -> Answer:
    return Answer(200, msgspec.json.encode(value))
