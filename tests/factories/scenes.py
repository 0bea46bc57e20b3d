"""A simulated source, a scope of it, and the worker that syncs it: what tests of whole flows begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakes.worker import InProcessWorker

from connectors.allure.simulator import AllureServerSimulator
from connectors.base import OpenGate
from connectors.github.simulator import GitHubSimulator
from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from tasks.verify import verify_scope


class Scene:
    """A source, a scope of it, and the worker that syncs it."""

    def __init__(self, worker: InProcessWorker, simulator: Any, scope_id: int) -> None:
        self.worker = worker
        self.simulator = simulator
        self.scope_id = scope_id

    def sync(self, **args: Any) -> Any:
        before = len(self.simulator.requests)
        family = self.worker.run("collect.sync_scope", scope_id=self.scope_id, **args)
        return family, len(self.simulator.requests) - before

    def differences(self) -> dict[str, dict[str, int]]:
        """By table and kind, how many rows differ from the source; printed with examples."""
        verdicts = verify_scope(
            self.worker.database,
            self.worker.settings,
            self.scope_id,
            gate=OpenGate(),
            sleep=lambda _seconds: None,
            progress=lambda _stream, _read, _ratio: None,
        )
        compared = [verdict.comparison for verdict in verdicts]
        for comparison in compared:
            for example in comparison.examples:
                print(example)  # noqa: T201  # what pytest shows beside a failure
        return {table.table: table.counts for comparison in compared for table in comparison.tables if table.counts}


@contextmanager
def scene(worker: InProcessWorker, source: str, *, objects: int, seed: int = 1, **options: Any) -> Iterator[Scene]:
    simulator: Any
    if source == "gitlab":
        simulator = GitLabSimulator(merge_requests=objects, seed=seed, **options)
    elif source == "github":
        simulator = GitHubSimulator(pull_requests=objects - objects // 3, issues=objects // 3, seed=seed, **options)
    elif source == "allure":
        simulator = AllureServerSimulator(tests=objects, seed=seed, **options)
    else:
        simulator = JiraSimulator(issues=objects, seed=seed, deployment=source.split()[1], **options)
    with simulator.serve() as server:
        kind = source.split(maxsplit=1)[0]
        key = str(next(iter(simulator.world.projects)))
        user = {"jira cloud": "sim@example.test", "allure": "viewer"}.get(source)
        scope_id = worker.add_scope(kind, server.base_url, key, token="sim-token", user=user)
        yield Scene(worker, simulator, scope_id)
