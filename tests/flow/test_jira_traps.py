"""Jira's traps that only show over several syncs: zones, a search that runs behind, accounts that are closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from factories.scenes import scene
from fakes.worker import InProcessWorker
from sqlalchemy import text

from models.store.session import Database
from workers.settings import Settings


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_zone_of_the_account_may_change_between_two_syncs(worker: InProcessWorker, zone: str) -> None:
    with scene(worker, "jira cloud", objects=20) as its:
        its.sync()
        its.simulator.clock.advance(timedelta(hours=1))
        its.simulator.edit_issue(its.simulator.expected_issues()[5].issue_id, summary="Changed before")
        its.simulator.zone, its.simulator.time_zone = ZoneInfo(zone), zone
        its.simulator._forget_rendered()
        its.simulator.clock.advance(timedelta(minutes=1))
        its.sync()
        assert its.differences() == {}


def test_a_search_that_runs_a_minute_behind_and_flickers_loses_nothing_for_good(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=30, index_lag_seconds=60, index_flicker=True) as its:
        its.sync()
        for number in range(4):
            for issue in its.simulator.expected_issues()[number::7]:
                its.simulator.edit_issue(issue.issue_id, summary=f"Changed in round {number}")
            its.simulator.clock.advance(timedelta(seconds=20))
            its.sync()
        its.simulator.clock.advance(timedelta(minutes=2))
        its.sync()
        # A window of one issue may have missed it in both of its listings; the night's reconciliation finds it.
        worker.run("reconcile.scope", scope_id=its.scope_id)
        assert its.differences() == {}
        with worker.database.transaction() as session:
            assert (
                session.execute(text("SELECT count(*) FROM jira_table_history WHERE deleted_at IS NOT NULL")).one()[0]
                == 0
            )


def test_a_closed_account_keeps_its_id_and_loses_its_name_where_it_is_seen_again(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=20) as its:
        its.sync()
        some = its.simulator.issue(int(its.simulator.expected_issues()[0].issue_id))
        its.simulator.edit_issue(some.id, assignee=12)
        its.simulator.forget_person(12)
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        account_id = its.simulator.world.people[12].account_id
        with worker.database.transaction() as session:
            found = session.execute(
                text("SELECT assignee, assignee_id FROM jira_table_history WHERE issue_id = :id"), {"id": str(some.id)}
            ).one()
        assert tuple(found) == ("Former user", account_id)
