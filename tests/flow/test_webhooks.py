"""From stored deliveries to rows: coalesced, doubled, out of order, of what is gone, and of what makes trouble."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from factories.snapshots import SYNCED_TABLES, count, snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import Row, text

from connectors import registry
from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulated_world import EPIC
from connectors.jira.simulator import JiraSimulator
from models.store import webhooks
from models.store.session import Database
from workers.settings import Settings

SOURCES = ("gitlab", "jira cloud", "jira server")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


class Scene:
    """A synced source, and deliveries of what happens in it."""

    def __init__(self, worker: InProcessWorker, kind: str, simulator: Any, scope_id: int) -> None:
        self.worker = worker
        self.kind = kind
        self.simulator = simulator
        self.scope_id = scope_id
        with worker.database.transaction() as session:
            self.connection_id = session.execute(text("SELECT connection_id FROM sync_scopes")).scalar_one()

    def delivery(self, wanted: int | str, **changes: Any) -> dict[str, Any]:
        if self.kind == "gitlab":
            attributes = {"iid": int(wanted), "target_project_id": 101}
            project = {"id": 101, "path_with_namespace": "acme/payments"}
            return {"object_kind": "merge_request", "project": project, "object_attributes": attributes} | changes
        issue = {"id": str(wanted), "key": self.key(wanted), "fields": {}}
        return {"webhookEvent": "jira:issue_updated", "timestamp": 1, "issue": issue} | changes

    def key(self, wanted: int | str) -> str:
        issue = self.simulator.world.issues.get(int(wanted))
        return issue.key if issue else "PAY-1"

    def deliver(self, delivery: dict[str, Any], *, key: str | None = None) -> bool:
        """Store a delivery as the API does once its signature was found to be good."""
        vendor = registry.kind(self.kind).webhooks
        assert vendor is not None
        headers = {"x-gitlab-event": "Merge Request Hook"}
        hint = vendor.hints(headers, msgspec.json.encode(delivery))
        with self.worker.database.transaction() as session:
            return webhooks.store(
                session,
                self.connection_id,
                delivery_key=key or str(uuid.uuid4()),
                event_type=hint.event_type,
                headers=headers,
                payload=hint.payload.decode(),
            )

    def work(self) -> Row[Any]:
        return self.worker.run("receive.deliveries", connection_id=self.connection_id)

    def any_object(self) -> Any:
        if self.kind == "gitlab":
            return self.simulator.merge_request(3)
        return next(iter(self.simulator.world.issues.values()))

    def rename(self, wanted: Any, name: str) -> int:
        """Give an object a new title, a little later; returns what deliveries call it."""
        self.simulator.clock.advance(timedelta(seconds=1))
        if self.kind == "gitlab":
            self.simulator.update_merge_request(wanted.iid, title=name)
            return int(wanted.iid)
        self.simulator.edit_issue(wanted.id, summary=name)
        return int(wanted.id)

    def stored(self, wanted: Any) -> Row[Any]:
        statement = (
            "SELECT title AS name, * FROM gitlab_mr_lead_times WHERE mr_id = :id"
            if self.kind == "gitlab"
            else "SELECT summary AS name, * FROM jira_table_history WHERE issue_id = CAST(:id AS text)"
        )
        wanted_id = wanted.iid if self.kind == "gitlab" else wanted.id
        with self.worker.database.transaction() as session:
            return session.execute(text(statement), {"id": wanted_id}).one()

    def deliveries(self) -> list[Row[Any]]:
        with self.worker.database.transaction() as session:
            return list(session.execute(text("SELECT * FROM webhook_deliveries ORDER BY id")))

    def requests_of(self, during: Any) -> int:
        before = self.simulator.requests.count
        during()
        return int(self.simulator.requests.count - before)


@contextmanager
def scene(worker: InProcessWorker, source: str, *, objects: int = 12, **options: Any) -> Iterator[Scene]:
    kind = source.split(maxsplit=1)[0]
    simulator: Any
    if kind == "gitlab":
        simulator = GitLabSimulator(merge_requests=objects, seed=2, **options)
    else:
        simulator = JiraSimulator(issues=objects, seed=2, deployment=source.split()[1], **options)
    with simulator.serve() as server:
        key = str(next(iter(simulator.world.projects)))
        user = "sim@example.test" if source == "jira cloud" else None
        scope_id = worker.add_scope(kind, server.base_url, key, token="sim-token", user=user)
        worker.run("collect.sync_scope", scope_id=scope_id)
        yield Scene(worker, kind, simulator, scope_id)


@pytest.mark.parametrize("source", SOURCES)
def test_a_delivery_brings_its_object_and_its_summaries_up_to_date(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source) as its:
        wanted = its.any_object()
        its.deliver(its.delivery(its.rename(wanted, "A new name")))
        family = its.work()
        assert its.stored(wanted).name == "A new name"
        assert family.total > 1  # the summaries were asked for
        (delivery,) = its.deliveries()
        assert delivery.processed_at is not None
        assert (delivery.attempts, delivery.last_error) == (1, None)


@pytest.mark.parametrize("source", SOURCES)
def test_a_hundred_deliveries_of_one_object_are_one_refetch(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source) as its:
        wanted = its.any_object()

        def one() -> None:
            its.deliver(its.delivery(its.rename(wanted, "Once")))
            its.work()

        def hundred() -> None:
            for number in range(100):
                its.deliver(its.delivery(its.rename(wanted, f"Name {number}")))
            its.work()

        assert its.requests_of(hundred) == its.requests_of(one) < 12
        assert all(each.processed_at for each in its.deliveries())


@pytest.mark.parametrize("source", SOURCES)
def test_doubled_and_disordered_deliveries_end_as_a_full_sync_does(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source) as its:
        rng = random.Random(5)
        waiting: list[tuple[str, dict[str, Any]]] = []
        for round_ in range(4):
            for _ in range(6):
                if its.kind == "gitlab":
                    number = rng.choice(list(its.simulator.world.projects[101].by_iid))
                    its.simulator.add_note(number)  # a touch within the minute: `updated_at` stays as it is
                else:
                    # Not epics: a child that shows its epic's name is not updated by the epic's renaming.
                    number = rng.choice(
                        [each.id for each in its.simulator.world.issues.values() if each.type is not EPIC]
                    )
                    its.simulator.add_comment(number)
                    its.simulator.edit_issue(number, summary=f"Round {round_} {rng.random()}")
                its.simulator.clock.advance(timedelta(seconds=7))
                waiting.append((str(uuid.uuid4()), its.delivery(number)))
            rng.shuffle(waiting)
            for key, delivery in waiting[: rng.randrange(2, len(waiting))]:
                its.deliver(delivery, key=key)
                its.deliver(delivery, key=key)
            its.work()
        for key, delivery in waiting:
            its.deliver(delivery, key=key)
        its.work()
        by_webhooks = snapshot(worker.database, tuple(name for name in SYNCED_TABLES if name != "gitlab_events"))
        worker.run("collect.sync_scope", scope_id=its.scope_id, full=True)
        assert snapshot(worker.database, tuple(by_webhooks)) == by_webhooks
        assert count(worker.database, "webhook_deliveries") == 24


@pytest.mark.parametrize("source", SOURCES)
def test_a_late_delivery_changes_nothing_that_a_sync_has_written(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source) as its:
        number = its.rename(its.any_object(), "As the sync saw it")
        worker.run("collect.sync_scope", scope_id=its.scope_id)
        before = snapshot(worker.database)
        old = its.delivery(number) | {"user": {"name": "of an hour ago"}}
        its.deliver(old)
        family = its.work()
        assert family.rows_written == 0
        assert snapshot(worker.database) == before


def test_a_note_within_the_minute_is_written_though_the_update_time_stays(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        wanted = its.any_object()
        number = its.rename(wanted, "Fresh")
        its.deliver(its.delivery(number))
        its.work()
        before = its.stored(wanted)
        its.simulator.clock.advance(timedelta(seconds=10))
        its.simulator.add_note(number, "A second thought within the minute.")
        its.simulator.approve(number)
        its.deliver(its.delivery(number))
        its.work()
        after = its.stored(wanted)
        assert after.source_updated_at == before.source_updated_at
        assert after.notes_count == before.notes_count + 1
        assert after.approved_at is not None


def test_an_issue_is_read_from_the_database_and_not_from_the_lagging_index(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", index_lag_seconds=600) as its:
        wanted = its.any_object()
        its.deliver(its.delivery(its.rename(wanted, "Not in the index yet")))
        its.work()
        assert its.stored(wanted).name == "Not in the index yet"
        created = its.simulator.create_issue(summary="Just filed")
        its.deliver(its.delivery(created))
        its.work()
        assert its.stored(its.simulator.issue(created)).name == "Just filed"


@pytest.mark.parametrize("source", SOURCES)
def test_an_object_that_is_gone_is_left_to_reconciliation(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source) as its:
        wanted = its.any_object()
        number = its.rename(wanted, "Last words")
        before = snapshot(worker.database)
        if its.kind == "gitlab":
            its.simulator.delete_merge_request(number)
        else:
            its.simulator.delete_issue(number)
        its.deliver(its.delivery(number))
        its.work()
        (delivery,) = its.deliveries()
        assert delivery.processed_at is not None
        assert "left to reconciliation" in delivery.last_error
        assert snapshot(worker.database) == before
        with worker.database.transaction() as session:  # an hour later
            session.execute(text("UPDATE gitlab_mr_lead_times SET synced_at = synced_at - interval '2 hours'"))
            session.execute(text("UPDATE jira_table_history SET synced_at = synced_at - interval '2 hours'"))
            session.execute(text("UPDATE doubtful_objects SET doubted_at = doubted_at - interval '1 hour'"))
        worker.run("reconcile.confirm")
        assert its.stored(wanted).deleted_at is not None


def test_a_hidden_project_is_left_to_reconciliation_and_said_on_its_scope(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        its.simulator.hide_project(101)
        its.deliver(its.delivery(1))
        its.work()
        (delivery,) = its.deliveries()
        assert delivery.processed_at is not None
        assert "Left to reconciliation" in delivery.last_error
        with worker.database.transaction() as session:
            assert session.execute(text("SELECT last_error FROM sync_scopes")).scalar_one() is not None


def test_an_unknown_project_is_ignored_without_a_request(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        stranger = its.delivery(1, project={"id": 999, "path_with_namespace": "else/where"})
        stranger["object_attributes"] = {"iid": 1}
        its.deliver(stranger)
        assert its.requests_of(its.work) == 0
        (delivery,) = its.deliveries()
        assert delivery.processed_at is not None
        assert "Ignored" in delivery.last_error


def test_an_issue_that_moved_out_of_sight_and_a_comment_without_its_issue_find_their_scope(
    worker: InProcessWorker,
) -> None:
    with scene(worker, "jira server", projects=2) as its:
        wanted = next(each for each in its.simulator.world.issues.values() if each.project.key == "PAY")
        its.simulator.move_issue(wanted.id, "SHOP")  # SHOP is no scope of ours
        its.deliver(its.delivery(wanted.id))
        its.work()
        assert its.stored(wanted).project == "SHOP"
        its.rename(wanted, "With a comment")
        url = f"https://jira.example.test/rest/api/2/issue/{wanted.id}/comment/1"
        its.deliver({"webhookEvent": "comment_created", "comment": {"self": url}})
        its.work()
        assert its.stored(wanted).name == "With a comment"


def test_a_poisonous_delivery_is_given_up_after_its_attempts_and_holds_nobody(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        its.simulator.set_faults("400:1:path=*/merge_requests/5/notes")  # this one object cannot be read
        others = [each for each in its.simulator.world.projects[101].by_iid.values() if each.iid not in (1, 5)][:3]
        its.deliver(its.delivery(5))
        for other in others:
            its.deliver(its.delivery(its.rename(other, "Beside the poison")))
        its.work()
        assert not any(each.processed_at for each in its.deliveries())  # together, for the first time
        for _ in range(webhooks.ATTEMPTS_COUNT):
            make_older(worker.database)
            its.work()
        for other in others:
            assert its.stored(other).name == "Beside the poison"
        poison, *rest = its.deliveries()
        assert poison.processed_at is not None
        assert poison.attempts == webhooks.ATTEMPTS_COUNT
        assert "400" in poison.last_error
        assert {(each.attempts, each.last_error) for each in rest} == {(2, None)}
        with worker.database.transaction() as session:
            seen = webhooks.counts(session, its.connection_id)
        assert (seen.received, seen.waiting, seen.given_up) == (4, 0, 1)
        assert "400" in seen.last_error


def make_older(database: Database) -> None:
    """Let an hour pass for what waits."""
    with database.transaction() as session:
        session.execute(
            text(
                "UPDATE webhook_deliveries SET received_at = received_at - interval '1 hour' WHERE processed_at IS NULL"
            )
        )


def test_a_failed_delivery_waits_for_the_sweep_and_is_then_worked_off(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        wanted = its.any_object()
        its.deliver(its.delivery(its.rename(wanted, "After the trouble")))
        its.simulator.set_faults("503:1")
        its.work()
        (delivery,) = its.deliveries()
        assert (delivery.processed_at, delivery.attempts) == (None, 1)
        its.simulator.set_faults("")
        worker.run("receive.sweep")
        assert its.deliveries()[0].processed_at is None  # not due yet
        make_older(worker.database)
        worker.run("receive.sweep")
        assert its.deliveries()[0].processed_at is not None
        assert its.stored(wanted).name == "After the trouble"


def test_patience_that_the_source_asks_for_costs_no_attempt_and_makes_no_job_wait(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        wanted = its.any_object()
        its.deliver(its.delivery(its.rename(wanted, "After the wait")))
        its.simulator.set_faults("429:1:retry-after=1")
        its.work()
        (delivery,) = its.deliveries()
        assert (delivery.processed_at, delivery.attempts, delivery.last_error) == (None, 0, None)
        its.simulator.set_faults("")
        worker.run("receive.sweep")
        assert its.stored(wanted).name == "After the wait"


def test_a_paused_connection_s_deliveries_wait_for_its_resumption(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        wanted = its.any_object()
        its.deliver(its.delivery(its.rename(wanted, "Later")))
        with worker.database.transaction() as session:
            session.execute(text("UPDATE connections SET status = 'paused'"))
        assert its.requests_of(its.work) == 0
        worker.run("receive.sweep")
        with worker.database.transaction() as session:
            session.execute(text("UPDATE connections SET status = 'active'"))
        worker.run("receive.sweep")
        assert its.stored(wanted).name == "Later"


def test_old_deliveries_and_their_keys_are_pruned(worker: InProcessWorker) -> None:
    with scene(worker, "gitlab") as its:
        its.deliver(its.delivery(1), key="old")
        its.work()
        with worker.database.transaction() as session:
            for table in ("webhook_deliveries", "webhook_delivery_keys"):
                session.execute(text(f"UPDATE {table} SET received_at = now() - interval '8 days'"))
        its.deliver(its.delivery(1), key="new")
        its.work()
        with worker.database.transaction() as session:
            before = datetime.now(UTC) - timedelta(days=7)
            assert webhooks.prune(session, received_before=before) == 2
            assert webhooks.prune(session, received_before=before) == 0
        assert [each.delivery_key for each in its.deliveries()] == ["new"]
        assert its.deliver(its.delivery(1), key="old")
