"""Priorities, versions, boards and sprints of a simulated Jira, and the issues that name them, through the worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from factories.scenes import Scene, scene
from fakes.worker import InProcessWorker
from sqlalchemy import text

from connectors.jira.simulated_world import PRIORITIES, Board
from models.store.session import Database
from workers.settings import Settings

DEPLOYMENTS = ("jira cloud", "jira server")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def rows(worker: InProcessWorker, statement: str, **values: Any) -> list[Any]:
    with worker.database.transaction() as session:
        return list(session.execute(text(statement), values))


def confirm_doubts(its: Scene) -> None:
    """What is in doubt is asked for again, as it is five minutes later."""
    with its.worker.database.transaction() as session:
        session.execute(text("UPDATE doubtful_objects SET doubted_at = now() - interval '1 hour'"))
    its.worker.run("reconcile.confirm_scope", scope_id=its.scope_id)


@pytest.mark.parametrize("source", DEPLOYMENTS)
def test_dictionaries_are_held_whole_and_an_unchanged_source_writes_none(worker: InProcessWorker, source: str) -> None:
    with scene(worker, source, objects=20) as its:
        its.sync()
        project = its.simulator.world.projects["PAY"]
        now = its.simulator.clock.now()
        found = rows(worker, "SELECT sprint_id, name, state, board_id, start_at, end_at, complete_at FROM jira_sprints")
        assert {tuple(row) for row in found} == {
            (str(one.id), one.name, one.state(now), str(one.board_id), one.starts_at, one.ends_at,
             one.ends_at if one.state(now) == "closed" else None)
            for one in project.sprints
        }  # fmt: skip
        assert {row.name for row in rows(worker, "SELECT name FROM jira_versions")} == {
            one.name for one in project.versions
        }
        assert rows(worker, "SELECT count(*) FROM jira_versions WHERE is_released AND release_on IS NOT NULL")[0][0] > 0
        assert {row.name for row in rows(worker, "SELECT name FROM jira_priorities")} == set(PRIORITIES)
        assert {tuple(row) for row in rows(worker, "SELECT name, kind FROM jira_boards")} == {
            ("PAY scrum", "scrum"), ("PAY kanban", "kanban")
        }  # fmt: skip
        its.simulator.clock.advance(timedelta(minutes=10))
        family, _ = its.sync()
        assert family.rows_written == 0


def test_a_sprint_on_two_boards_is_one_sprint(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=5) as its:
        project = its.simulator.world.projects["PAY"]
        its.simulator.world.boards.append(Board(id=901, name="All of us", kind="scrum", project=project))
        its.sync()
        assert rows(worker, "SELECT count(*) FROM jira_sprints")[0][0] == len(project.sprints)


def test_a_board_that_refuses_sprints_whatever_its_type_is_no_error(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=5) as its:
        for board in its.simulator.world.boards:
            board.kind = "kanban" if board.kind == "kanban" else "simple"
        its.sync()
        assert rows(worker, "SELECT count(*) FROM jira_sprints")[0][0] > 0
        assert rows(worker, "SELECT count(*) FROM watermarks WHERE refused_at IS NOT NULL")[0][0] == 0


@pytest.mark.parametrize("source", DEPLOYMENTS)
def test_a_sprint_that_is_renamed_or_closed_changes_its_issues_and_bugs_though_none_was_updated(
    worker: InProcessWorker, source: str
) -> None:
    with scene(worker, source, objects=60) as its:
        its.sync()
        now = its.simulator.clock.now()
        [sprint] = [one for one in its.simulator.world.projects["PAY"].sprints if one.state(now) == "active"]
        some = its.simulator.expected_issues()[3].issue_id
        its.simulator.edit_issue(some, sprint_ids=[sprint.id], issue_type="Bug")
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        its.simulator.rename_sprint(sprint.id, "Another name")
        its.sync()
        assert its.differences() == {}
        found = rows(worker, "SELECT sprint, sprint_state FROM jira_table_history WHERE issue_id = :id", id=some)
        assert found == [("Another name", "active")]
        assert rows(worker, "SELECT sprint FROM bug_budget WHERE issue_id = :id", id=some) == [("Another name",)]
        its.simulator.close_sprint(sprint.id)
        its.sync()
        statement = "SELECT sprint_state, sprint_complete_date IS NULL FROM jira_table_history WHERE issue_id = :id"
        assert rows(worker, statement, id=some) == [("closed", False)]
        assert its.differences() == {}


def test_a_replay_of_old_payloads_does_not_bring_the_old_name_of_a_sprint_back(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        its.sync()
        now = its.simulator.clock.now()
        [sprint] = [one for one in its.simulator.world.projects["PAY"].sprints if one.state(now) == "active"]
        its.simulator.edit_issue(its.simulator.expected_issues()[3].issue_id, sprint_ids=[sprint.id])
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        its.simulator.rename_sprint(sprint.id, "Another name")
        its.sync()
        worker.run("replay.scope", scope_id=its.scope_id, stream="issues")
        names = {
            row.sprint for row in rows(worker, "SELECT sprint FROM jira_table_history WHERE sprint_state = 'active'")
        }
        assert names == {"Another name"}


def test_a_sprint_that_is_deleted_gets_a_tombstone_and_its_issues_leave_it(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        its.sync()
        now = its.simulator.clock.now()
        [sprint] = [one for one in its.simulator.world.projects["PAY"].sprints if one.state(now) == "active"]
        some = its.simulator.expected_issues()[3].issue_id
        its.simulator.edit_issue(some, sprint_ids=[sprint.id])
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        its.simulator.delete_sprint(sprint.id)
        its.sync()
        gone = rows(worker, "SELECT sprint_id FROM jira_sprints WHERE deleted_at IS NOT NULL")
        assert gone == [(str(sprint.id),)]
        confirm_doubts(its)
        assert rows(worker, "SELECT sprint_id FROM jira_table_history WHERE issue_id = :id", id=some) == [(None,)]
        assert its.differences() == {}


@pytest.mark.parametrize("what", ["version", "priority", "status"])
def test_issues_that_name_what_was_renamed_are_read_again(worker: InProcessWorker, what: str) -> None:
    with scene(worker, "jira cloud", objects=60) as its:
        some = its.simulator.expected_issues()[3].issue_id
        project = its.simulator.world.projects["PAY"]
        its.simulator.edit_issue(some, fix_versions=["1.7.0"])
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        if what == "version":
            its.simulator.rename_version(project.versions[7].id, "Seven")
        elif what == "priority":
            its.simulator.rename_priority("2", "Urgent")
        else:
            its.simulator.rename_status(project.statuses["done"].id, "Delivered")
        its.sync()
        assert its.differences() != {}
        confirm_doubts(its)
        assert its.differences() == {}


def test_a_version_that_is_deleted_gets_a_tombstone_and_leaves_its_issues(worker: InProcessWorker) -> None:
    with scene(worker, "jira server", objects=20) as its:
        some = its.simulator.expected_issues()[3].issue_id
        its.simulator.edit_issue(some, fix_versions=["1.7.0"])
        its.simulator.clock.advance(timedelta(minutes=10))
        its.sync()
        its.simulator.delete_version(its.simulator.world.projects["PAY"].versions[7].id)
        its.sync()
        assert rows(worker, "SELECT name FROM jira_versions WHERE deleted_at IS NOT NULL") == [("1.7.0",)]
        confirm_doubts(its)
        assert its.differences() == {}


def test_closed_sprints_are_read_once_and_a_day_later_once_more(worker: InProcessWorker) -> None:
    with scene(worker, "jira cloud", objects=5) as its:
        its.sync()
        name = "A closed one, renamed"
        its.simulator.rename_sprint(its.simulator.world.projects["PAY"].sprints[0].id, name)
        its.simulator.clock.advance(timedelta(hours=2))
        its.sync()
        assert rows(worker, "SELECT 1 FROM jira_sprints WHERE name = :name", name=name) == []
        its.simulator.clock.advance(timedelta(hours=23))
        its.sync()
        assert rows(worker, "SELECT state FROM jira_sprints WHERE name = :name", name=name) == [("closed",)]
