"""Pipelines, jobs, environments, deployments and owners of a simulated GitLab: what is true, and what happens to it.

Every happening takes its time, so that the generated past is made by the same rules as the present. How it looks over
HTTP stands in `delivery_api.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from connectors.gitlab.simulated.model import MergeRequest, Person, Project, sha
from connectors.gitlab.simulated.world import World
from connectors.simulator import dice

PIPELINES_OF_PAST_COUNT = 24
MANY_JOBS_COUNT = 105
"""More than a page: one pipeline of the past has so many."""

OWNERS = """\
# Everything, unless said otherwise below
*                     @acme/maintainers
docs/                 @zoe.b docs@example.test
\\#generated.txt       @amara
path\\ with\\ spaces/    @priya

[Backend][2] @acme/backend
*.py
/billing/             @kmensah @@developer
!/billing/fixtures/

^[Translations]
locale/*.po           @maria.i
"""


class Job(msgspec.Struct, kw_only=True, eq=False):
    """One attempt of one job."""

    id: int
    name: str
    stage: str
    pipeline: Pipeline
    person: Person | None
    created_at: datetime
    status: str = "created"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    is_allowed_to_fail: bool = False
    failure_reason: str | None = None


class Pipeline(msgspec.Struct, kw_only=True, eq=False):
    """A pipeline with every attempt of its jobs."""

    id: int
    iid: int
    project: Project
    ref: str
    sha: str
    source: str
    person: Person | None
    created_at: datetime
    updated_at: datetime
    status: str = "created"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    coverage: str | None = None
    jobs: list[Job] = []


class Environment(msgspec.Struct, kw_only=True, eq=False):
    """Where software is deployed to."""

    id: int
    name: str
    tier: str
    state: str = "available"
    external_url: str | None = None


class Deployment(msgspec.Struct, kw_only=True, eq=False):
    """A deployment; `job` is None where it was told over the API."""

    id: int
    iid: int
    project: Project
    environment: Environment
    ref: str
    sha: str
    person: Person
    created_at: datetime
    updated_at: datetime
    status: str = "created"
    job: Job | None = None
    merge_requests: list[MergeRequest] = []


class Home(msgspec.Struct, kw_only=True, eq=False):
    """What a project delivers, and how."""

    has_ci: bool = True
    is_archived: bool = False
    default_branch: str | None = "main"
    files: dict[str, tuple[str, str]] = {}
    """Path to text and the commit that last changed it."""
    pipelines: dict[int, Pipeline] = {}
    jobs: dict[int, Job] = {}
    environments: dict[str, Environment] = {}
    deployments: dict[int, Deployment] = {}


class Delivery:
    """What the projects of a world deliver."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.homes: dict[int, Home] = {}
        self._next_id = 700_001

    def home(self, project: Project) -> Home:
        """What a project delivers."""
        return self.homes[project.id]

    def new_id(self) -> int:
        """An id that was never given."""
        self._next_id += 1
        return self._next_id

    def start(
        self, project: Project, ref: str, commit_sha: str, person: Person | None, at: datetime, source: str = "push"
    ) -> Pipeline:
        """Start a pipeline with its first jobs."""
        home = self.home(project)
        pipeline = Pipeline(
            id=self.new_id(), iid=len(home.pipelines) + 1, project=project, ref=ref, sha=commit_sha, source=source,
            person=person, created_at=at, updated_at=at, status="running", started_at=at + timedelta(seconds=4),
        )  # fmt: skip
        home.pipelines[pipeline.id] = pipeline
        for name, stage in (("build", "build"), ("unit", "test"), ("lint", "test")):
            self.add_job(pipeline, name, stage, at)
        return pipeline

    def add_job(self, pipeline: Pipeline, name: str, stage: str, at: datetime) -> Job:
        """Another job, or another attempt of one."""
        job = Job(
            id=self.new_id(), name=name, stage=stage, pipeline=pipeline, person=pipeline.person, created_at=at,
            status="running", started_at=at + timedelta(seconds=5), is_allowed_to_fail=name == "lint",
        )  # fmt: skip
        pipeline.jobs.append(job)
        self.home(pipeline.project).jobs[job.id] = job
        return job

    def end_job(self, job: Job, at: datetime, *, status: str = "success") -> None:
        """End a job; its pipeline hears of it when all have ended."""
        job.status, job.finished_at = status, at
        job.failure_reason = "script_failure" if status == "failed" else None

    def end(self, pipeline: Pipeline, at: datetime, *, failing: Sequence[str] = (), status: str | None = None) -> None:
        """End a pipeline and what runs of it."""
        for job in pipeline.jobs:
            if job.finished_at is None:
                self.end_job(job, at, status=status or ("failed" if job.name in failing else "success"))
        latest = {job.name: job for job in pipeline.jobs}.values()
        has_failed = any(job.status == "failed" and not job.is_allowed_to_fail for job in latest)
        pipeline.status = status or ("failed" if has_failed else "success")
        pipeline.finished_at, pipeline.updated_at = at, at
        pipeline.coverage = f"{60 + pipeline.iid % 39}.50" if pipeline.status == "success" else None

    def retry(self, pipeline: Pipeline, name: str, at: datetime) -> Job:
        """Run a job again: an attempt of its own, and the pipeline runs again."""
        stage = next(job.stage for job in pipeline.jobs if job.name == name)
        pipeline.status, pipeline.finished_at, pipeline.updated_at = "running", None, at
        return self.add_job(pipeline, name, stage, at)

    def drop_pipeline(self, pipeline: Pipeline) -> None:
        """Delete a pipeline with its jobs."""
        home = self.home(pipeline.project)
        del home.pipelines[pipeline.id]
        for job in pipeline.jobs:
            del home.jobs[job.id]

    def deploy(
        self,
        project: Project,
        environment: str,
        at: datetime,
        person: Person,
        merge_requests: Sequence[MergeRequest] = (),
        *,
        is_told: bool = False,
    ) -> Deployment:
        """Begin a deployment; `is_told` ones come over the API and have no job."""
        home = self.home(project)
        target = home.environments[environment]
        job = None
        if not is_told:
            pipeline = self.start(project, "main", sha(project.id, at), person, at)
            job = self.add_job(pipeline, f"deploy {environment}", "deploy", at)
        deployment = Deployment(
            id=self.new_id(), iid=len(home.deployments) + 1, project=project, environment=target, ref="main",
            sha=sha(project.id, at), person=person, created_at=at, updated_at=at, status="running", job=job,
            merge_requests=list(merge_requests),
        )  # fmt: skip
        home.deployments[deployment.id] = deployment
        return deployment

    def end_deployment(self, deployment: Deployment, at: datetime, *, status: str = "success") -> None:
        """End a deployment with its job."""
        deployment.status, deployment.updated_at = status, at
        if deployment.job is not None:
            # GitLab saves the deployment a little after its job: the update time is not when it was out.
            self.end_job(deployment.job, at - timedelta(seconds=3), status=status)
            self.end(deployment.job.pipeline, at)

    def mutate_once(self, project: Project, at: datetime, rng: random.Random) -> None:
        """Let something happen, as it does: pipelines start, end and run again, and what is merged goes out."""
        home = self.home(project)
        running = [each for each in home.pipelines.values() if each.status == "running"]
        open_deployments = [each for each in home.deployments.values() if each.status == "running"]
        chance = rng.random()
        if chance < 0.25 and open_deployments:
            self.end_deployment(open_deployments[0], at, status=rng.choice(("success", "success", "failed")))
        elif chance < 0.6 and running:
            self.end(rng.choice(running), at, failing=rng.choice(((), ("unit",), ("lint",))))
        elif chance < 0.75 and home.pipelines:
            pipeline = rng.choice(list(home.pipelines.values()))
            self.retry(pipeline, "unit", at)
        elif chance < 0.85 and home.environments:
            merged = [each for each in project.by_iid.values() if each.merged_at is not None]
            environment = rng.choice(sorted(home.environments))
            self.deploy(project, environment, at, rng.choice(self.world.humans), merged[-2:])
        else:
            self.start(project, "main", sha(project.id, at), rng.choice(self.world.humans), at)


def make_delivery_past(delivery: Delivery, now: datetime) -> None:
    """A past for every project of a world: some pipelines of its merge requests, and its deployments."""
    for project in delivery.world.projects.values():
        _Past(delivery, project, now).live()


class _Past:
    """The pipelines and deployments of one project."""

    def __init__(self, delivery: Delivery, project: Project, now: datetime) -> None:
        self.delivery = delivery
        self.project = project
        self.now = now
        self.rng = dice(delivery.world.seed, "delivery", project.id)
        self.home = delivery.homes[project.id] = Home(
            files={"docs/CODEOWNERS": (OWNERS, sha(project.id, "owners")), "README.md": ("Hello\n", sha("readme"))}
        )
        for name, tier in (("production", "production"), ("staging", "staging"), ("review/change-1", "development")):
            url = f"https://{name.replace('/', '-')}.example.test"
            self.home.environments[name] = Environment(
                id=delivery.new_id(),
                name=name,
                tier=tier,
                external_url=url,
            )
        self.home.environments["review/change-1"].state = "stopped"

    def live(self) -> None:
        merge_requests = sorted(self.project.by_iid.values(), key=lambda each: each.created_at)
        for number, merge_request in enumerate(merge_requests[-PIPELINES_OF_PAST_COUNT:]):
            self._pipeline(number, merge_request)
        merged = [each for each in merge_requests if each.merged_at is not None]
        merged.sort(key=lambda each: each.merged_at or self.now)
        for number, start in enumerate(range(0, len(merged[-24:]), 3)):
            self._deployment(number, merged[-24:][start : start + 3])

    def _pipeline(self, number: int, merge_request: MergeRequest) -> None:
        """Every one in eight is of another kind."""
        delivery, kind = self.delivery, number % 8
        person = None if kind == 3 else merge_request.author
        at = min(merge_request.created_at + timedelta(minutes=1), self.now - timedelta(hours=5))
        head = merge_request.commits[-1].sha if merge_request.commits else sha(merge_request.id)
        source = "schedule" if kind == 4 else "push"
        pipeline = delivery.start(self.project, merge_request.source_branch, head, person, at, source)
        end_at = at + timedelta(minutes=self.rng.randrange(2, 40), microseconds=self.rng.randrange(1_000_000))
        if kind == 5:  # nobody has taken it yet
            pipeline.status, pipeline.started_at = "pending", None
            for job in pipeline.jobs:
                job.status, job.started_at = "pending", None
            return
        if number == 7:
            for index in range(MANY_JOBS_COUNT):
                delivery.add_job(pipeline, f"shard {index}", "test", at)
        if kind == 6:
            delivery.end(pipeline, end_at, status="canceled")
            return
        delivery.end(pipeline, end_at, failing={1: ("unit",), 2: ("unit",), 4: ("lint",)}.get(kind, ()))
        if kind == 2:  # retried, and then it passes: a flaky test
            delivery.retry(pipeline, "unit", end_at + timedelta(minutes=3))
            delivery.end(pipeline, end_at + timedelta(minutes=9))

    def _deployment(self, number: int, merge_requests: list[MergeRequest]) -> None:
        delivery, person = self.delivery, self.delivery.world.humans[number % 5]
        last_at = max(each.merged_at or self.now for each in merge_requests)
        at = min(last_at + timedelta(minutes=20), self.now - timedelta(hours=3))
        for environment, delay in (("staging", timedelta()), ("production", timedelta(hours=1))):
            deployment = delivery.deploy(
                self.project, environment, at + delay, person, merge_requests, is_told=number % 4 == 3
            )
            status = {2: "failed", 5: "canceled"}.get(number, "success")
            delivery.end_deployment(deployment, at + delay + timedelta(minutes=6, milliseconds=number), status=status)
