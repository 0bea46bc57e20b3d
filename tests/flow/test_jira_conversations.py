"""Comments and worklogs: as many as an issue has, whatever its search embeds, and the first answer to its reporter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from factories.scenes import Scene, scene
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.jira.conversations import BODY_KEPT_CHARACTERS, COMMENTS_KEPT_COUNT
from models.store.session import Database
from workers.settings import Settings

DEPLOYMENTS = ("jira cloud", "jira server")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def issue(its: Scene, key: int | str) -> Any:
    with its.worker.database.transaction() as session:
        return session.execute(
            text(
                "SELECT i.*, b.first_response_at FROM jira_table_history i "
                "LEFT JOIN bug_budget b USING (connection_id, issue_id) WHERE i.issue_id = :id"
            ),
            {"id": str(key)},
        ).one()


def asked(its: Scene, ending: str) -> int:
    return sum(1 for each in its.simulator.requests.entries if each.path.endswith(ending))


@pytest.mark.parametrize("source", DEPLOYMENTS)
def test_all_comments_and_worklogs_are_held_in_order_and_only_of_issues_that_changed(
    worker: InProcessWorker, source: str
) -> None:
    with scene(worker, source, objects=3) as its:
        some = its.simulator.create_issue(summary="Much talk")
        for number in range(150):
            its.simulator.add_comment(some, f"Thought {number}")
            its.simulator.log_work(some, 60 * (number + 1))
            its.simulator.clock.advance(timedelta(seconds=1))
        its.sync()
        held = issue(its, some)
        assert (held.comments_count, held.worklogs_count, held.time_spent) == (150, 150, 60 * 150 * 151 // 2)
        assert [each["body"] for each in held.comment] == [f"Thought {number}" for number in range(150)]
        assert [each["seconds"] for each in held.log_work] == [60 * (number + 1) for number in range(150)]
        assert its.differences() == {}
        its.simulator.clock.advance(timedelta(hours=1))
        its.sync()  # it reads the minutes before the first again, because the index may have run behind
        its.simulator.clock.advance(timedelta(hours=1))
        before = asked(its, "/comment"), asked(its, "/worklog")
        its.simulator.edit_issue(its.simulator.expected_issues()[0].issue_id, summary="Another")
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        assert (asked(its, "/comment"), asked(its, "/worklog")) == before


def test_of_very_many_comments_the_first_are_kept_and_all_are_counted(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=3) as its:
        some = its.simulator.create_issue(summary="Endless talk")
        its.simulator.add_comment(some, "w" * 10_000)
        for number in range(COMMENTS_KEPT_COUNT + 49):
            its.simulator.add_comment(some, f"Thought {number}")
        its.sync()
        held = issue(its, some)
        assert held.comments_count == COMMENTS_KEPT_COUNT + 50
        assert len(held.comment) == COMMENTS_KEPT_COUNT
        assert held.comment[0]["body"] == "w" * BODY_KEPT_CHARACTERS
        assert its.differences() == {}


@pytest.mark.parametrize("source", DEPLOYMENTS)
def test_the_first_response_is_the_first_comment_by_a_person_who_is_not_the_reporter(
    worker: InProcessWorker, source: str
) -> None:
    with scene(worker, source, objects=3) as its:
        human, other, robot = 10, 11, 2
        some = its.simulator.create_issue(summary="Nobody answers", by=human)
        for author in (human, 0, *([robot] if source == "jira cloud" else [])):
            its.simulator.clock.advance(timedelta(minutes=3))
            its.simulator.add_comment(some, "I am here", by=author)
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        held = issue(its, some)
        assert held.comments_count >= 2
        assert held.comment[1]["author_id"] is None
        assert held.time_to_first_response is None
        assert held.first_response_at is None
        answered_at = its.simulator.clock.now()
        its.simulator.add_comment(some, "What do you see?", by=other)
        its.simulator.clock.advance(timedelta(minutes=3))
        its.simulator.add_comment(some, "Hm", by=12)
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        assert issue(its, some).time_to_first_response == answered_at
        assert issue(its, some).first_response_at == answered_at
