"""Verify finds every kind of difference between the tables and a source, and none after a sync."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from factories.snapshots import count, snapshot
from fakes.worker import InProcessWorker
from sqlalchemy import text

from admin.cli import main, verify
from connectors import registry
from connectors.base import OpenGate
from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.errors import RateLimitedError, UsageError
from models.store.session import Database
from models.store.verify import SUBJECTS, Comparison
from tasks.verify import verify_scope
from workers import runtime
from workers.settings import Settings

MERGE_REQUESTS_COUNT = 20
ISSUES_COUNT = 40


class Synced:
    """A simulated source that was synced, and how it compares."""

    def __init__(self, worker: InProcessWorker, simulator: Any, scope_id: int) -> None:
        self.worker = worker
        self.database = worker.database
        self.simulator = simulator
        self.scope_id = scope_id
        self.waits: list[float] = []

    def sync(self, **options: Any) -> None:
        self.worker.run("collect.sync_scope", scope_id=self.scope_id, **options)

    def compare(self, on_page: Callable[[str], None] = lambda _stream: None, **options: Any) -> dict[str, Comparison]:
        verdicts = verify_scope(
            self.database,
            self.worker.settings,
            self.scope_id,
            gate=OpenGate(),
            sleep=self.waits.append,
            progress=lambda stream, _read, _ratio: on_page(stream),
            **options,
        )
        return {verdict.stream: verdict.comparison for verdict in verdicts}

    def differences(self, **options: Any) -> dict[str, dict[str, int]]:
        """Table to kind to number, of the tables that differ."""
        return {
            table.table: table.counts
            for comparison in self.compare(**options).values()
            for table in comparison.tables
            if table.counts
        }

    def change(self, statement: str) -> None:
        """Change our tables behind everybody's back."""
        with self.database.transaction() as session:
            assert session.execute(text(statement)).rowcount, "the statement changed nothing"


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


@pytest.fixture
def gitlab(worker: InProcessWorker) -> Iterator[Synced]:
    simulator = GitLabSimulator(merge_requests=MERGE_REQUESTS_COUNT, seed=2)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token=simulator.token)
        synced = Synced(worker, simulator, scope_id)
        synced.sync(since="2020-01-01")  # one window, where a first sync cuts two years into many
        yield synced


@pytest.fixture
def jira(worker: InProcessWorker) -> Iterator[Synced]:
    simulator = JiraSimulator(issues=ISSUES_COUNT, seed=2)
    with simulator.serve() as server:
        scope_id = worker.add_scope("jira", server.base_url, "PAY", token=simulator.token, user=simulator.user)
        synced = Synced(worker, simulator, scope_id)
        synced.sync(since="2020-01-01")  # one window, where a first sync cuts two years into many
        yield synced


def test_every_stream_that_is_synced_by_time_can_be_compared() -> None:
    for kind in registry.KINDS.values():
        for stream in kind.streams.values():
            assert not stream.is_incremental or stream.name in SUBJECTS


def test_after_a_sync_of_gitlab_nothing_differs_and_nothing_is_changed(gitlab: Synced) -> None:
    ours = ("job_runs", "sync_windows", "watermarks", "staged_payloads", "sync_rejects", "connections", "sync_scopes")
    before = snapshot(gitlab.database), snapshot(gitlab.database, ours)
    compared = gitlab.compare()
    assert {stream: comparison.counts for stream, comparison in compared.items()} == {
        "merge_requests": {},
        "events": {},
        "pipelines": {},
        "jobs": {},
        "deployments": {},
    }
    merge_requests, activities = compared["merge_requests"].tables
    assert merge_requests.rows_here == merge_requests.rows_there == len(gitlab.simulator.expected()) > 0
    assert activities.rows_here == activities.rows_there == count(gitlab.database, "gitlab_mr_activities") > 0
    (events,) = compared["events"].tables
    assert events.rows_here == events.rows_there == count(gitlab.database, "gitlab_events") > 0
    assert (snapshot(gitlab.database), snapshot(gitlab.database, ours)) == before


@pytest.mark.parametrize("deployment", ["cloud", "server"])
def test_after_a_sync_of_jira_nothing_differs(worker: InProcessWorker, deployment: Any) -> None:
    simulator = JiraSimulator(issues=ISSUES_COUNT, seed=3, deployment=deployment)
    with simulator.serve() as server:
        user = simulator.user if deployment == "cloud" else None
        scope_id = worker.add_scope("jira", server.base_url, "PAY", token=simulator.token, user=user)
        jira = Synced(worker, simulator, scope_id)
        jira.sync()
        (comparison,) = jira.compare().values()
    assert comparison.counts == {}
    issues, changes = comparison.tables
    assert issues.rows_here == issues.rows_there == len(simulator.expected()) == ISSUES_COUNT
    assert changes.rows_here == changes.rows_there == count(worker.database, "jira_issue_changes") > ISSUES_COUNT


def test_changed_columns_are_named_with_both_values(gitlab: Synced) -> None:
    gitlab.change("UPDATE gitlab_mr_lead_times SET title = 'ours', commits_count = NULL WHERE mr_id = 3")
    comparison = gitlab.compare()["merge_requests"]
    (table, _) = comparison.tables
    assert table.counts == {"differs": 1}
    assert table.columns == {"title": 1, "commits_count": 1}
    (example,) = comparison.examples
    there = next(each for each in gitlab.simulator.expected() if each.iid == 3)
    assert (example.reference, example.label) == ("101!3", f"{there.project_path}!3")
    assert example.columns == {"title": ("ours", there.title), "commits_count": (None, len(there.commit_shas))}


def test_examples_are_few_and_counts_are_whole(gitlab: Synced) -> None:
    gitlab.change("UPDATE gitlab_mr_lead_times SET title = title || '!'")
    comparison = gitlab.compare(examples=4)["merge_requests"]
    assert comparison.counts == {"differs": MERGE_REQUESTS_COUNT}
    assert len(comparison.examples) == 4


def found(comparisons: dict[str, Comparison]) -> set[tuple[str, str, str]]:
    """Table, kind and object of every difference, where all of them are among the examples."""
    examples = [example for comparison in comparisons.values() for example in comparison.examples]
    assert len(examples) == sum(sum(comparison.counts.values()) for comparison in comparisons.values())
    return {(example.table, example.kind, example.reference) for example in examples}


def test_every_kind_of_wrong_row_in_our_tables_of_gitlab_is_found(gitlab: Synced) -> None:
    with gitlab.database.transaction() as session:
        first, second = session.execute(text("SELECT external_id FROM gitlab_events ORDER BY 1 LIMIT 2")).scalars()
    gitlab.change("DELETE FROM gitlab_mr_lead_times WHERE mr_id = 3")
    gitlab.change("UPDATE gitlab_mr_lead_times SET mr_id = 4000 WHERE mr_id = 4")
    gitlab.change("UPDATE gitlab_mr_lead_times SET deleted_at = now() WHERE mr_id = 5")
    gitlab.change("DELETE FROM gitlab_mr_activities WHERE mr_id = 6 AND activity = 'authored'")
    gitlab.change("UPDATE gitlab_mr_activities SET external_id = 'made up' WHERE mr_id = 7 AND activity = 'authored'")
    gitlab.change("UPDATE gitlab_mr_activities SET username = 'somebody' WHERE mr_id = 8 AND activity = 'authored'")
    gitlab.change(f"DELETE FROM gitlab_events WHERE external_id = '{first}'")
    gitlab.change(f"UPDATE gitlab_events SET action = 'unheard of' WHERE external_id = '{second}'")
    assert found(gitlab.compare()) == {
        ("gitlab_mr_lead_times", "missing_here", "101!3"),
        ("gitlab_mr_lead_times", "missing_here", "101!4"),
        ("gitlab_mr_lead_times", "missing_there", "101!4000"),
        ("gitlab_mr_lead_times", "differs", "101!5"),
        ("gitlab_mr_activities", "missing_here", "101!6"),
        ("gitlab_mr_activities", "missing_here", "101!7"),
        ("gitlab_mr_activities", "missing_there", "101!7"),
        ("gitlab_mr_activities", "differs", "101!8"),
        ("gitlab_events", "missing_here", first),
        ("gitlab_events", "differs", second),
    }


def test_every_kind_of_wrong_row_in_our_tables_of_jira_is_found(jira: Synced) -> None:
    with jira.database.transaction() as session:
        rows = session.execute(text("SELECT issuekey, issue_id FROM jira_table_history"))
        issue_id = {row.issuekey: row.issue_id for row in rows}
    first_change = "(SELECT min(change_id) FROM jira_issue_changes WHERE issue_id = '{0}') AND issue_id = '{0}'"
    for issue in ("PAY-4", "PAY-5", "PAY-6"):
        assert issue in issue_id
    jira.change("UPDATE jira_table_history SET summary = '', story_points = 1234 WHERE issuekey = 'PAY-1'")
    jira.change("DELETE FROM jira_table_history WHERE issuekey = 'PAY-2'")
    jira.change("UPDATE jira_table_history SET issue_id = '999999999', issuekey = 'PAY-999' WHERE issuekey = 'PAY-3'")
    jira.change("DELETE FROM jira_issue_changes WHERE change_id = " + first_change.format(issue_id["PAY-4"]))
    jira.change(
        "UPDATE jira_issue_changes SET change_id = '999999999' WHERE change_id = "
        + first_change.format(issue_id["PAY-5"])
    )
    jira.change(
        "UPDATE jira_issue_changes SET to_text = 'Nowhere' WHERE change_id = " + first_change.format(issue_id["PAY-6"])
    )
    assert found(jira.compare(examples=100)) == {
        ("jira_table_history", "differs", issue_id["PAY-1"]),
        ("jira_table_history", "missing_here", issue_id["PAY-2"]),
        ("jira_table_history", "missing_here", issue_id["PAY-3"]),
        ("jira_table_history", "missing_there", "999999999"),
        ("jira_issue_changes", "missing_here", issue_id["PAY-4"]),
        ("jira_issue_changes", "missing_here", issue_id["PAY-5"]),
        ("jira_issue_changes", "missing_there", issue_id["PAY-5"]),
        ("jira_issue_changes", "differs", issue_id["PAY-6"]),
    }


def test_row_that_we_tombstoned_is_not_missed_at_the_source(gitlab: Synced) -> None:
    gitlab.simulator.delete_merge_request(6)
    assert gitlab.differences(stream="merge_requests") == {"gitlab_mr_lead_times": {"missing_there": 1}}
    gitlab.change("UPDATE gitlab_mr_lead_times SET deleted_at = now() WHERE mr_id = 6")
    assert gitlab.differences(stream="merge_requests") == {}


def test_event_that_the_source_forgot_is_no_difference(gitlab: Synced) -> None:
    gitlab.change(
        "INSERT INTO gitlab_events SELECT tenant_id, connection_id, '1', project_id, external_project_id, author, "
        "author_id, action, target_type, target_iid, push_action, push_ref_type, push_commits, "
        "occurred_at - interval '4 years' FROM gitlab_events LIMIT 1"
    )
    assert gitlab.differences() == {}


def test_rows_of_another_scope_are_left_alone(gitlab: Synced) -> None:
    simulator = GitLabSimulator(merge_requests=5, projects=2, seed=9)
    with simulator.serve() as server:
        other = gitlab.worker.add_scope("gitlab", server.base_url, "102", token=simulator.token, project="Other")
        gitlab.worker.run("collect.sync_scope", scope_id=other)
        gitlab.change("UPDATE gitlab_mr_lead_times SET title = 'ours' WHERE external_project_id = '102'")
        assert gitlab.differences() == {}


def test_what_changed_at_the_source_is_newer_there_until_it_is_synced(gitlab: Synced) -> None:
    gitlab.simulator.clock.advance(timedelta(hours=2))
    gitlab.simulator.update_merge_request(7, title="Changed since")
    gitlab.simulator.create_merge_request(title="Made since")
    differences = gitlab.differences()
    assert differences["gitlab_mr_lead_times"] == {"newer_there": 2}
    assert {kind for counts in differences.values() for kind in counts} == {"newer_there"}
    gitlab.sync()
    assert gitlab.differences() == {}


def test_what_changed_in_jira_is_newer_there_until_it_is_synced(jira: Synced) -> None:
    jira.simulator.clock.advance(timedelta(hours=2))
    jira.simulator.edit_issue("PAY-3", summary="Changed since")
    assert jira.differences() == {"jira_table_history": {"newer_there": 1}}
    jira.sync()
    assert jira.differences() == {}


def test_update_that_the_sync_missed_is_not_called_newer(gitlab: Synced) -> None:
    gitlab.simulator.clock.advance(timedelta(hours=2))
    gitlab.simulator.update_merge_request(7, title="Changed, and missed")
    gitlab.change("UPDATE watermarks SET complete_until = complete_until + interval '1 day'")
    assert gitlab.differences(stream="merge_requests") == {"gitlab_mr_lead_times": {"differs": 1}}


def test_scope_that_was_never_synced_is_newer_there_as_a_whole(gitlab: Synced) -> None:
    for table in ("gitlab_mr_activities", "gitlab_mr_lead_times", "gitlab_events", "watermarks"):
        gitlab.change(f"DELETE FROM {table}")
    differences = gitlab.differences()
    assert differences["gitlab_mr_lead_times"] == {"newer_there": MERGE_REQUESTS_COUNT}
    assert differences["gitlab_events"].keys() == {"newer_there"}


def test_record_that_cannot_be_read_is_rejected_on_both_sides(gitlab: Synced) -> None:
    gitlab.simulator.clock.advance(timedelta(hours=2))
    gitlab.simulator.update_merge_request(8, title="Readable no more")
    broken = gitlab.simulator.merge_request(8)
    broken.state = "of a kind that we do not know"
    broken.rendered.clear()
    comparison = gitlab.compare()["merge_requests"]
    assert (comparison.counts, comparison.rejected) == ({"unreadable": 1}, 0)
    assert "101!8" in comparison.examples[0].label
    gitlab.sync()
    comparison = gitlab.compare()["merge_requests"]
    assert (comparison.counts, comparison.rejected) == ({}, 1)


def test_record_that_the_database_refuses_is_rejected_on_both_sides(jira: Synced) -> None:
    jira.simulator.clock.advance(timedelta(hours=2))
    jira.simulator.edit_issue("PAY-3", estimate_seconds=10**25)
    jira.simulator.edit_issue("PAY-4", summary="Beside it")
    assert jira.differences() == {"jira_table_history": {"newer_there": 1, "unreadable": 1}}
    jira.sync()
    assert (jira.compare()["issues"].counts, jira.compare()["issues"].rejected) == ({}, 1)


def test_what_is_synced_while_the_source_is_read_is_no_difference(gitlab: Synced) -> None:
    is_first = True

    def change_and_sync(_stream: str) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            gitlab.simulator.clock.advance(timedelta(minutes=5))
            gitlab.simulator.update_merge_request(9, title="Changed while the pages were read")
            gitlab.simulator.create_merge_request(title="Made while the pages were read")
            gitlab.simulator.delete_merge_request(10)
            gitlab.sync()
            gitlab.change("UPDATE gitlab_mr_lead_times SET deleted_at = now() WHERE mr_id = 10")

    assert gitlab.differences(on_page=change_and_sync) == {}
    assert not is_first


def test_source_that_asks_for_patience_is_waited_for(gitlab: Synced) -> None:
    gitlab.simulator.set_faults("429:3x:retry-after=20")
    assert gitlab.differences() == {}
    assert gitlab.waits
    assert all(15 < seconds < 25 for seconds in gitlab.waits)


def test_source_that_asks_for_hours_of_patience_is_not_waited_for(gitlab: Synced) -> None:
    gitlab.simulator.set_faults("429:1:retry-after=7200")
    with pytest.raises(RateLimitedError):
        gitlab.differences()
    assert gitlab.waits == []


def test_source_that_is_never_ready_is_given_up(gitlab: Synced) -> None:
    gitlab.simulator.set_faults("429:1:retry-after=1")
    with pytest.raises(RateLimitedError):
        gitlab.differences()
    assert 5 < len(gitlab.waits) < 20


def test_reading_goes_on_where_it_was_interrupted(worker: InProcessWorker) -> None:
    simulator = GitLabSimulator(merge_requests=130, seed=4)
    with simulator.serve() as server:
        scope_id = worker.add_scope("gitlab", server.base_url, "101", token=simulator.token)
        gitlab = Synced(worker, simulator, scope_id)
        gitlab.sync()
        simulator.requests.clear()
        assert gitlab.differences(stream="merge_requests") == {}
        undisturbed = simulator.requests.count
        simulator.requests.clear()
        simulator.set_faults(f"429:1x:retry-after=1:after={undisturbed * 9 // 10}")
        assert gitlab.differences(stream="merge_requests") == {}
    assert len(gitlab.waits) == 1
    assert simulator.requests.count < undisturbed * 1.5  # the first page of two is not read again


def test_stream_that_does_not_exist_is_a_wrong_call(gitlab: Synced) -> None:
    with pytest.raises(UsageError, match=r"'issues'.*merge_requests, events"):
        gitlab.compare(stream="issues")


# --- the command ------------------------------------------------------------------------------------------------


class Command:
    """`plumbline verify` in this process, on the test's database."""

    def __init__(self, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        keys = ",".join(key.get_secret_value() for key in settings.secret_keys)
        monkeypatch.setenv("PLUMBLINE_HOME", str(settings.home))
        monkeypatch.setenv("PLUMBLINE_DATABASE_URL", database.url.set(drivername="postgresql").render_as_string(False))
        monkeypatch.setenv("PLUMBLINE_BROKER_URL", "redis://127.0.0.1:1/0")
        monkeypatch.setenv("PLUMBLINE_SECRET_KEYS", keys)
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        before = runtime.current()
        self._capsys.readouterr()
        try:
            code = main.run(arguments, verify.app)
        finally:
            runtime.current().database.close()
            runtime.use(before)
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def plumbline(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(database, settings, monkeypatch, capsys)


@pytest.mark.usefixtures("gitlab")
def test_command_says_what_was_compared_and_exits_with_0(plumbline: Command) -> None:
    code, out, _ = plumbline()
    assert code == 0
    assert out.startswith(f"No difference; rows compared: {MERGE_REQUESTS_COUNT} of gitlab_mr_lead_times, ")


def test_command_shows_differences_and_exits_with_1(gitlab: Synced, plumbline: Command) -> None:
    gitlab.change("UPDATE gitlab_mr_lead_times SET title = 'ours' WHERE mr_id = 3")
    gitlab.change("DELETE FROM gitlab_mr_lead_times WHERE mr_id = 4")
    code, out, err = plumbline("gitlab-101", "--scope", "101")
    assert code == 1
    assert "title (1)" in out
    assert "missing here" in out
    assert "2 differences" in out
    assert "--full" in err


def test_command_says_to_sync_first_where_the_source_is_newer(gitlab: Synced, plumbline: Command) -> None:
    gitlab.simulator.clock.advance(timedelta(hours=2))
    gitlab.simulator.update_merge_request(3, title="Changed since")
    code, out, err = plumbline()
    assert code == 1
    assert "newer at the source" in out
    assert "sync first" in err


def test_command_gives_one_json_document(gitlab: Synced, plumbline: Command) -> None:
    gitlab.change("UPDATE gitlab_mr_lead_times SET title = 'ours' WHERE mr_id = 3")
    code, out, _ = plumbline("--stream", "merge_requests", "--json")
    said = json.loads(out)
    assert (code, said["is_equal"]) == (1, False)
    (compared,) = said["compared"]
    assert compared["tables"][0]["columns"] == {"title": 1}
    assert compared["examples"][0]["columns"]["title"]["here"] == "ours"


def test_command_reports_a_source_that_refuses_and_exits_with_1(gitlab: Synced, plumbline: Command) -> None:
    gitlab.simulator.set_faults("401:1")
    code, out, err = plumbline()
    assert code == 1
    assert "was not compared to its end" in err
    assert "No difference" not in out
    with gitlab.database.transaction() as session:
        assert session.execute(text("SELECT status FROM connections")).scalar_one() == "active", "it changed something"


@pytest.mark.usefixtures("gitlab")
def test_command_refuses_to_compare_nothing(plumbline: Command) -> None:
    for arguments in (("nowhere",), ("--scope", "none"), ("--stream", "none")):
        code, out, err = plumbline(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("Error: There is no ")
