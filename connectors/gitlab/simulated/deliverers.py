"""What the users of a simulated GitLab do about delivery: each takes its turn under the lock and happens now."""

from __future__ import annotations

import random
from abc import ABC
from collections.abc import Sequence

from connectors.gitlab.simulated.delivery import Delivery, Deployment, Environment, Home, Pipeline
from connectors.gitlab.simulated.model import sha
from connectors.gitlab.simulated.users import Users


class Deliverers(Users, ABC):
    """The half of the simulator that changes what is delivered in it."""

    delivery: Delivery

    def home(self, project: int | str | None = None) -> Home:
        """What a project delivers, for looking at."""
        return self.delivery.home(self.world.project(project))

    def start_pipeline(self, *, ref: str = "main", project: int | str | None = None) -> Pipeline:
        """Start a pipeline of the default branch."""
        with self.lock:
            at, home = self.clock.now(), self.world.project(project)
            return self.delivery.start(home, ref, sha(home.id, at), self.world.humans[0], at)

    def end_pipeline(self, pipeline: Pipeline, *, failing: Sequence[str] = (), status: str | None = None) -> None:
        """End a pipeline and its jobs."""
        with self.lock:
            self.delivery.end(pipeline, self.clock.now(), failing=failing, status=status)

    def retry_job(self, pipeline: Pipeline, name: str) -> None:
        """Run a job again."""
        with self.lock:
            self.delivery.retry(pipeline, name, self.clock.now())

    def delete_pipeline(self, pipeline: Pipeline) -> None:
        """Delete a pipeline with its jobs."""
        with self.lock:
            self.delivery.drop_pipeline(pipeline)

    def deploy(
        self, environment: str, *, iids: Sequence[int] = (), is_told: bool = False, project: int | str | None = None
    ) -> Deployment:
        """Begin a deployment that brings some merge requests out."""
        with self.lock:
            home = self.world.project(project)
            brought = [home.by_iid[iid] for iid in iids]
            person = self.world.humans[1]
            return self.delivery.deploy(home, environment, self.clock.now(), person, brought, is_told=is_told)

    def end_deployment(self, deployment: Deployment, *, status: str = "success") -> None:
        """End a deployment."""
        with self.lock:
            self.delivery.end_deployment(deployment, self.clock.now(), status=status)

    def change_environment(self, name: str, *, tier: str, project: int | str | None = None) -> Environment:
        """Give an environment another tier."""
        with self.lock:
            environment = self.home(project).environments[name]
            environment.tier = tier
            return environment

    def commit_file(self, path: str, text: str | None, *, project: int | str | None = None) -> None:
        """Change a file of the default branch, or delete it."""
        with self.lock:
            files = self.home(project).files
            if text is None:
                del files[path]
            else:
                files[path] = (text, sha(path, text, self.clock.now()))

    def switch_ci(self, *, is_on: bool, project: int | str | None = None) -> None:
        """Switch CI/CD of a project off: its pipelines and jobs answer 403."""
        with self.lock:
            self.home(project).has_ci = is_on

    def archive_project(self, *, is_archived: bool = True, project: int | str | None = None) -> None:
        """Make a project read only."""
        with self.lock:
            self.home(project).is_archived = is_archived

    def mutate_delivery(self, updates: int, rng: random.Random) -> None:
        """Let so many things happen to what is delivered."""
        with self.lock:
            for _ in range(updates):
                project = self.world.projects[rng.choice(list(self.world.projects))]
                self.delivery.mutate_once(project, self.clock.now(), rng)
