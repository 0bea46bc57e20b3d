"""Workflow runs and deployments of a simulated GitHub: what is true of them, what happens to them, and how it looks."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors.github.simulated.rendering import API_URL, WEB_URL, iso, person_json, repository_json
from connectors.github.simulated.world import Person, Repository, World, sha

ENVIRONMENTS = ("staging", "production", "qa-eu")
JOB_NAMES = ("build", "test (3.11)", "lint", "publish")


class Job(msgspec.Struct, kw_only=True):
    """One attempt of a job."""

    id: int
    attempt: int
    name: str
    created_at: datetime
    started_at: datetime
    completed_at: datetime | None = None
    conclusion: str | None = None


class Run(msgspec.Struct, kw_only=True, eq=False):
    """A workflow run; running it again makes new attempts of its jobs."""

    id: int
    number: int
    repository: Repository
    event: str
    branch: str
    sha: str
    person: Person
    created_at: datetime
    updated_at: datetime
    started_at: datetime
    attempt: int = 1
    conclusion: str | None = None
    jobs: list[Job] = []


class Deployment(msgspec.Struct, kw_only=True, eq=False):
    """A deployment and its statuses, the oldest first."""

    id: int
    repository: Repository
    environment: str
    sha: str
    person: Person
    run: Run | None
    created_at: datetime
    updated_at: datetime
    statuses: list[tuple[str, datetime]] = []


class Delivery:
    """The runs and deployments of all repositories.

    Args:
        world: whose people and ids.
        touches: whether a status moves the update time of its deployment; GitHub does not say.
    """

    def __init__(self, world: World, *, touches: bool) -> None:
        self.world = world
        self.touches = touches
        self.runs: dict[int, Run] = {}
        self.deployments: dict[int, Deployment] = {}

    def runs_of(self, repository: Repository) -> list[Run]:
        """The newest first."""
        found = [run for run in self.runs.values() if run.repository is repository]
        return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)

    def deployments_of(self, repository: Repository) -> list[Deployment]:
        """The newest first."""
        found = [each for each in self.deployments.values() if each.repository is repository]
        return sorted(found, key=lambda each: (each.created_at, each.id), reverse=True)

    def start(self, repository: Repository, event: str, branch: str, person: Person, at: datetime) -> Run:
        """Start a run: its first job begins after half a minute."""
        at = at.replace(microsecond=0)
        run_id = self.world.new_id()
        run = Run(
            id=run_id,
            number=len(self.runs) + 1,
            repository=repository,
            event=event,
            branch=branch,
            sha=sha(run_id),
            person=person,
            created_at=at,
            updated_at=at,
            started_at=at,
        )
        self.runs[run_id] = run
        self._attempt(run, at)
        return run

    def _attempt(self, run: Run, at: datetime) -> None:
        for position, name in enumerate(JOB_NAMES[: 2 + run.id % 3]):
            begun = at + timedelta(seconds=30 + 10 * position)
            run.jobs.append(
                Job(id=self.world.new_id(), attempt=run.attempt, name=name, created_at=at, started_at=begun)
            )

    def finish(self, run: Run, conclusion: str, at: datetime) -> None:
        """Finish the attempt that is running."""
        at = at.replace(microsecond=0)
        for job in run.jobs:
            if job.completed_at is None:
                job.completed_at = max(at, job.started_at)
                job.conclusion = "success" if conclusion == "failure" and job.name != "build" else conclusion
        run.conclusion, run.updated_at = conclusion, at

    def run_again(self, run: Run, at: datetime) -> None:
        """Run what has ended again: the run is one, and its jobs are more."""
        at = at.replace(microsecond=0)
        run.attempt, run.conclusion, run.started_at, run.updated_at = run.attempt + 1, None, at, at
        self._attempt(run, at)

    def deploy(
        self, repository: Repository, environment: str, person: Person, run: Run | None, at: datetime
    ) -> Deployment:
        """Ask for a deployment."""
        at = at.replace(microsecond=0)
        deployment = Deployment(
            id=self.world.new_id(),
            repository=repository,
            environment=environment,
            sha=run.sha if run else sha(at),
            person=person,
            run=run,
            created_at=at,
            updated_at=at,
        )
        self.deployments[deployment.id] = deployment
        return deployment

    def set_status(self, deployment: Deployment, state: str, at: datetime) -> None:
        """Say how it stands; one that has succeeded makes its predecessors inactive."""
        at = at.replace(microsecond=0)
        deployment.statuses.append((state, at))
        if self.touches:
            deployment.updated_at = at
        if state != "success":
            return
        for other in self.deployments_of(deployment.repository):
            is_before = other is not deployment and other.environment == deployment.environment
            if is_before and other.statuses and other.statuses[-1][0] == "success":
                self.set_status(other, "inactive", at)

    def make_past(self, now: datetime) -> None:
        """What merging has set off: a run, which may fail and be run again, and sometimes deployments."""
        for repository in self.world.repositories.values():
            merged = sorted(
                (thing for thing in repository.by_id.values() if thing.merged_at is not None),
                key=lambda thing: (thing.merged_at or now, thing.id),
            )
            for position, thing in enumerate(merged):
                at = min(thing.merged_at or now, now - timedelta(minutes=30))
                person = thing.merged_by or self.world.humans[0]
                run = self.start(repository, "push", "main", person, at)
                conclusion = {3: "failure", 5: "cancelled", 7: "skipped", 8: "neutral", 11: "timed_out"}
                self.finish(run, conclusion.get(position % 13, "success"), at + timedelta(minutes=4))
                if position % 13 == 3:
                    self.run_again(run, at + timedelta(minutes=10))
                    self.finish(run, "success", at + timedelta(minutes=15))
                if position % 2 == 0:
                    self._roll_out(repository, person, run, at + timedelta(minutes=16), position)

    def _roll_out(self, repository: Repository, person: Person, run: Run, at: datetime, position: int) -> None:
        deployment = self.deploy(repository, ENVIRONMENTS[position // 2 % len(ENVIRONMENTS)], person, run, at)
        if position % 10 == 8:
            return  # nobody said how it went
        self.set_status(deployment, "in_progress", at + timedelta(minutes=1))
        self.set_status(deployment, "failure" if position % 12 == 4 else "success", at + timedelta(minutes=3))

    def mutate_once(self, repository: Repository, rng: random.Random, at: datetime) -> None:
        """Start, end or repeat a run, or deploy."""
        person = rng.choice(self.world.humans)
        runs = self.runs_of(repository)
        running = [run for run in runs if run.conclusion is None]
        lately = [run for run in runs if run.conclusion and at - run.created_at < timedelta(days=29)]
        waiting = [each for each in self.deployments_of(repository) if not each.statuses]
        if running and rng.random() < 0.5:
            self.finish(rng.choice(running), rng.choice(("success", "success", "failure", "cancelled")), at)
        elif lately and rng.random() < 0.4:
            self.run_again(rng.choice(lately), at)
        elif waiting and rng.random() < 0.5 and at - waiting[0].created_at < timedelta(days=1):
            self.set_status(waiting[0], rng.choice(("success", "failure")), at)
        elif runs and rng.random() < 0.3:
            self.deploy(repository, rng.choice(ENVIRONMENTS), person, runs[0], at)
        else:
            self.start(repository, "pull_request", f"change-{len(runs)}", person, at)


def run_json(run: Run) -> dict[str, Any]:
    """A run; the times are those of its last attempt, but for its creation."""
    home = repository_json(run.repository)
    return {
        "id": run.id,
        "name": "CI",
        "node_id": f"WFR_{run.id}",
        "head_branch": run.branch,
        "head_sha": run.sha,
        "path": ".github/workflows/ci.yml",
        "display_title": "A change",
        "run_number": run.number,
        "event": run.event,
        "status": "completed" if run.conclusion else "in_progress",
        "conclusion": run.conclusion,
        "workflow_id": 9_001,
        "html_url": f"{home['html_url']}/actions/runs/{run.id}",
        "pull_requests": [],
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
        "actor": person_json(run.person),
        "run_attempt": run.attempt,
        "run_started_at": iso(run.started_at),
        "triggering_actor": person_json(run.person),
        "jobs_url": f"{home['url']}/actions/runs/{run.id}/jobs",
        "repository": home,
        "head_repository": home,
    }


def job_json(run: Run, job: Job) -> dict[str, Any]:
    """One attempt of a job; one that was skipped has ended before it began, as GitHub shows it at times."""
    is_skipped = job.conclusion == "skipped"
    return {
        "id": job.id,
        "run_id": run.id,
        "workflow_name": "CI",
        "head_branch": run.branch,
        "run_attempt": job.attempt,
        "node_id": f"CR_{job.id}",
        "head_sha": run.sha,
        "html_url": f"{WEB_URL}/{run.repository.full_name}/actions/runs/{run.id}/job/{job.id}",
        "status": "completed" if job.conclusion else "in_progress",
        "conclusion": job.conclusion,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "completed_at": iso(job.created_at if is_skipped else job.completed_at),
        "name": job.name,
        "steps": [],
        "labels": ["ubuntu-latest"],
        "runner_id": None if is_skipped else 3,
    }


def deployment_json(deployment: Deployment) -> dict[str, Any]:
    """A deployment, which does not say how it stands."""
    home = f"{API_URL}/repos/{deployment.repository.full_name}/deployments/{deployment.id}"
    return {
        "url": home,
        "id": deployment.id,
        "node_id": f"DE_{deployment.id}",
        "task": "deploy",
        "original_environment": deployment.environment,
        "environment": deployment.environment,
        "description": None,
        "created_at": iso(deployment.created_at),
        "updated_at": iso(deployment.updated_at),
        "statuses_url": f"{home}/statuses",
        "creator": person_json(deployment.person),
        "sha": deployment.sha,
        "ref": "main",
        "payload": {},
        "transient_environment": False,
        "production_environment": deployment.environment == "production",
        "performed_via_github_app": None,
    }


def statuses_json(deployment: Deployment) -> list[dict[str, Any]]:
    """The statuses, the newest first."""
    run = deployment.run
    url = f"{WEB_URL}/{deployment.repository.full_name}/actions/runs/{run.id}/job/1" if run else ""
    return [
        {
            "id": deployment.id * 10 + number,
            "state": state,
            "creator": person_json(deployment.person),
            "description": "",
            "environment": deployment.environment,
            "target_url": url,
            "log_url": url,
            "created_at": iso(at),
            "updated_at": iso(at),
        }
        for number, (state, at) in reversed(list(enumerate(deployment.statuses)))
    ]
