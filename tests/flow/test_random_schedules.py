"""Whatever happens during syncs, and in whatever order, the database ends equal to the source.

Each seed is a schedule of its own: records change, vanish, move and are hidden, also between the pages of one listing;
the source fails; webhooks come twice and in any order; the worker's process is killed at any moment; no message ever
reaches a broker. Twelve schedules
are run with the other tests, and `make schedules` runs a thousand.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories.scenes import Scene, scene
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors import registry
from models.store import webhooks
from models.store.session import Database
from models.store.verify import SUBJECTS
from workers.settings import Settings, load_settings
from workers.task import enqueue

SOURCES = ("gitlab", "jira cloud", "github", "jira server")
FAULTS = ("", "", "500:0.05,reset:0.02", "429:0.05", "truncate:0.04,html:0.03", "503:0.1")
OBJECTS = 24
STEPS = 5
KILL_RATIO = 0.3
LONGEST_LIFE_SECONDS = 0.8


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def work(database_url: str, home: Path) -> None:
    """What a worker's process does that will be killed."""
    database = Database(database_url)
    with InProcessWorker(database, load_settings({"PLUMBLINE_HOME": str(home)})) as doomed:
        doomed.run_jobs(is_hurried=True)


class Schedule:
    """One seed's worth of trouble for one scope."""

    def __init__(self, its: Scene, source: str, home: Path, chance: random.Random) -> None:
        self.its = its
        self.source = source
        self.home = home
        self.chance = chance
        self.hidden: list[str] = []
        self.kills = 0

    def run(self) -> None:
        """Let things happen, and then let them come to rest."""
        for _ in range(STEPS):
            self.its.simulator.set_faults(self.chance.choice(FAULTS))
            self.its.simulator.mutate_every(requests=self.chance.choice((0, 2, 5)), updates=self.chance.randint(1, 4))
            self.its.simulator.mutate(self.chance.randint(0, 6))
            self.happen()
            self.hear()
            self.its.simulator.clock.advance(timedelta(seconds=self.chance.choice((1, 70, 3_600, 86_400))))
            self.ask(self.chance.choice(("collect.sync_scope",) * 4 + ("reconcile.scope",)))
        self.its.simulator.set_faults("")
        self.its.simulator.mutate_every(requests=0, updates=0)
        for key in self.hidden:
            self.its.simulator.hide_issue(key, is_hidden=False)
        self.its.simulator.clock.advance(timedelta(minutes=10))
        for task in ("collect.sync_scope", "reconcile.scope", "reconcile.confirm", "reconcile.confirm"):
            self.age()
            arguments = {} if task == "reconcile.confirm" else {"scope_id": self.its.scope_id}
            enqueue(self.its.worker.database, task, trigger="cli", **arguments)
            self.its.worker.run_jobs(is_hurried=True)
            self.its.simulator.clock.advance(timedelta(minutes=10))

    def happen(self) -> None:
        """Something that a list sorted by update time does not show."""
        if self.source == "gitlab":
            if self.chance.random() < 0.5:
                iids = [each.iid for each in self.its.simulator.expected()]
                self.its.simulator.delete_merge_request(self.chance.choice(iids))
        elif self.source.startswith("jira"):
            # Of an issue outside our scopes nobody says that it is gone, and links to it stay (docs/reconciling.md).
            home = f"{next(iter(self.its.simulator.world.projects))}-"
            issue = self.chance.choice([e for e in self.its.simulator.expected() if e.key.startswith(home)]).issue_id
            what = self.chance.choice(("delete", "move", "hide", "nothing"))
            if what == "delete":
                self.its.simulator.delete_issue(issue)
            elif what == "move":
                self.its.simulator.move_issue(issue, self.chance.choice(list(self.its.simulator.world.projects)))
            elif what == "hide":
                self.its.simulator.hide_issue(issue)
                self.hidden.append(issue)

    def hear(self) -> None:
        """Webhooks of some objects, each twice, in any order; nobody says whether anything happened to them."""
        vendor = registry.kind(self.source.split()[0]).webhooks
        if vendor is None or self.source == "github":
            return
        deliveries = [self.delivery(each) for each in self.chance.sample(self.its.simulator.expected(), 2)] * 2
        self.chance.shuffle(deliveries)
        headers = {"x-gitlab-event": "Merge Request Hook"}
        with self.its.worker.database.transaction() as session:
            connection_id = session.execute(text("SELECT connection_id FROM sync_scopes")).scalar_one()
            for number, delivery in enumerate(deliveries):
                hint = vendor.hints(headers, msgspec.json.encode(delivery))
                webhooks.store(
                    session,
                    connection_id,
                    delivery_key=f"{self.chance.random()} {number}",
                    event_type=hint.event_type,
                    headers=headers,
                    payload=hint.payload.decode(),
                )
        enqueue(self.its.worker.database, "receive.deliveries", trigger="webhook", connection_id=connection_id)

    def delivery(self, named: Any) -> dict[str, Any]:
        if self.source == "gitlab":
            return {
                "object_kind": "merge_request",
                "project": {"id": 101, "path_with_namespace": "acme/payments"},
                "object_attributes": {"iid": named.iid, "target_project_id": 101},
            }
        issue = {"id": named.issue_id, "key": named.key, "fields": {}}
        return {"webhookEvent": "jira:issue_updated", "timestamp": 1, "issue": issue}

    def ask(self, task: str) -> None:
        """Run a job to its end, or kill its process on the way and leave what is left to the next one."""
        self.age()
        enqueue(self.its.worker.database, task, trigger="cli", scope_id=self.its.scope_id)
        if self.chance.random() >= KILL_RATIO:
            self.its.worker.run_jobs(is_hurried=True)
            return
        url = self.its.worker.database.url.render_as_string(hide_password=False)
        doomed = multiprocessing.get_context("forkserver").Process(target=work, args=(url, self.home))
        doomed.start()
        doomed.join(self.chance.uniform(0.05, LONGEST_LIFE_SECONDS))
        self.kills += doomed.exitcode is None
        doomed.kill()
        doomed.join()

    def age(self) -> None:
        """An hour passes for what was written and what is in doubt."""
        with self.its.worker.database.transaction() as session:
            session.execute(text("UPDATE doubtful_objects SET doubted_at = doubted_at - interval '1 hour'"))
            for table in {subject.objects.name for subject in SUBJECTS.values() if not subject.is_forgotten_there}:
                session.execute(
                    text(f"UPDATE {table} SET synced_at = synced_at - interval '1 hour' WHERE sync_scope_id = :scope"),
                    {"scope": self.its.scope_id},
                )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("seed", range(metafunc.config.getoption("--schedules")))


def test_the_database_ends_equal_to_the_source(worker: InProcessWorker, home: Path, seed: int) -> None:
    source = SOURCES[seed % len(SOURCES)]
    chance = random.Random(seed)
    options = {"projects": 2} if source.startswith("jira") else {}
    with scene(worker, source, objects=OBJECTS, seed=seed, **options) as its:
        Schedule(its, source, home, chance).run()
        assert its.differences() == {}
