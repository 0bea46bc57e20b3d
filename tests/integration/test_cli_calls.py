"""What each command does to the rows and what it refuses, called in this process over a real database.

Processes, signals and the embedded servers are shown in tests/acceptance/test_cli.py.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from celery import Celery, current_app
from cryptography.fernet import Fernet
from factories.command import Finished
from sqlalchemy import text

from admin.cli import main as cli
from admin.cli import work as cli_work
from admin.cli.simulate import add_demo_sources, demo_processes
from connectors.gitlab.simulator import GitLabSimulator
from models.store import jobs
from models.store.session import Database
from workers import runtime
from workers.settings import Settings

TOKEN = "glpat-thisIsSecret0123456789"


class Shell:
    """Calls commands as `plumbline` would."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: str = "") -> Finished:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        code = cli.run(arguments)
        return Finished(code, *self._capsys.readouterr())

    def done(self, *arguments: str, stdin: str = "") -> Finished:
        """Call a command that must succeed."""
        ended = self(*arguments, stdin=stdin)
        assert ended.code == 0, ended
        return ended

    def refused(self, *arguments: str, code: int = 2) -> str:
        """Call a command that must fail with one sentence, or a wrong call's two lines, and no output."""
        ended = self(*arguments)
        assert (ended.code, ended.out) == (code, ""), ended
        assert ended.err.startswith("Error: ")
        assert len(ended.error_lines) == 1 + ("\nSee `" in ended.err)
        assert TOKEN not in ended.err
        return ended.err


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of the test's own, a broker in memory that nobody listens to, and this process as it was afterwards."""
    for name, value in {
        "PLUMBLINE_HOME": str(tmp_path / "home"),
        "PLUMBLINE_BROKER_URL": "redis://127.0.0.1:1/0",
        "PLUMBLINE_SECRET_KEYS": Fernet.generate_key().decode(),
        "TEST_TOKEN": TOKEN,
        "WRONG_TOKEN": "wrong-token",
    }.items():
        monkeypatch.setenv(name, value)
    runtime_before, app_before = runtime.current(), current_app._get_current_object()
    app = Celery("calls", broker="memory://", set_as_current=False)
    app.set_current()
    app.set_default()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    if not cli.app.registered_groups:
        cli.include(cli.MODULES)
    yield
    app.close()
    app_before.set_current()
    app_before.set_default()
    runtime.use(runtime_before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def shell(
    environment: None,  # noqa: ARG001  # a fixture cannot use `usefixtures`
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """Commands over a migrated database of the test's own."""
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", plain(database))
    return Shell(capsys, monkeypatch)


def plain(database: Database) -> str:
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def rows(database: Database, query: str) -> list[Any]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(query))]


@pytest.fixture(scope="module")
def gitlab() -> Iterator[str]:
    with GitLabSimulator(merge_requests=5, projects=2, token=TOKEN).serve() as server:
        yield server.base_url


@pytest.fixture
def work(shell: Shell, gitlab: str) -> str:
    """A connection that works, with a scope."""
    shell.done("connection", "add", "gitlab", "work", "--url", gitlab, "--token-env", "TEST_TOKEN")
    shell.done("scope", "add", "work", "acme/payments", "--project", "Payments")
    return "work"


# --- connections --------------------------------------------------------------------------------------------------

ADD = ("add", "gitlab", "bad", "--url", "https://example.com")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "gitlab", "bad", "--url", "gitlab.example.com", "--token-env", "TEST_TOKEN"),
        ("add", "gitlab", "bad", "--url", "https://me:pass@example.com", "--token-env", "TEST_TOKEN"),
        ("add", "gitlab", "bad name", "--url", "https://example.com", "--token-env", "TEST_TOKEN"),
        ("add", "svn", "bad", "--url", "https://example.com", "--token-env", "TEST_TOKEN"),
        ("add", "upload", "bad", "--url", "https://example.com"),
        ("add", "gitlab", "bad", "--url", "file:///etc"),
        (*ADD, "--token-env", "NOT_SET"),
        (*ADD, "--token-env", "TEST_TOKEN", "--token-stdin"),
        (*ADD, "--token-stdin"),
        (*ADD, "--token", TOKEN),
        (*ADD, "--user", "me"),
        ADD,
        (*ADD, "--token-env", "TEST_TOKEN", "--option", "x"),
        (*ADD, "--token-env", "TEST_TOKEN", "--option", "token_type=magic"),
        (*ADD, "--token-env", "TEST_TOKEN", "--option", "token_type=magic", "--no-test"),
        ("add", "gitlab", "bad", TOKEN),
        ("test", "nothing"),
        ("pause", "nothing"),
        ("resume", "nothing"),
        ("remove", "nothing"),
        ("change", "nothing", "--token-env", "TEST_TOKEN"),
        ("change", "nothing"),
    ],
)
def test_a_wrong_call_of_connection_is_a_sentence_and_stores_nothing(
    shell: Shell, database: Database, arguments: tuple[str, ...]
) -> None:
    said = shell.refused("connection", *arguments)
    assert "me:pass" not in said
    assert rows(database, "SELECT count(*) FROM connections") == [(0,)]


def test_a_name_is_taken_once(shell: Shell, work: str, gitlab: str, database: Database) -> None:
    said = shell.refused("connection", "add", "gitlab", work, "--url", gitlab, "--token-env", "TEST_TOKEN")
    assert "connection change" in said
    assert rows(database, "SELECT count(*) FROM connections") == [(1,)]


def test_a_connection_may_be_stored_untested_and_removed(shell: Shell) -> None:
    shell.done("connection", "add", "gitlab", "later", "--url", "http://127.0.0.1:1", "--token-stdin", "--no-test",
               stdin=TOKEN)  # fmt: skip
    (listed,) = shell.done("connection", "list", "--json").data
    assert (listed["name"], listed["last_ok_at"]) == ("later", None)
    assert "listens" in shell.refused("connection", "test", "later", code=1)
    shell.done("connection", "remove", "later")
    assert shell.done("connection", "list", "--json").data == []


def test_what_a_paused_connection_is_asked_for_is_refused_with_the_remedy(
    shell: Shell, work: str, database: Database
) -> None:
    shell.done("connection", "pause", work)
    for words in (("sync", work), ("sync",), ("sync", "--scope", "acme/payments"), ("replay", work)):
        assert "plumbline connection resume work" in shell.refused(*words)
    assert "plumbline connection resume work" in shell.refused("scope", "add", work, "102")
    assert rows(database, "SELECT count(*) FROM job_runs") == [(0,)]
    assert "paused" in shell.done("connection", "test", work).out
    shell.done("connection", "resume", work)
    shell.done("sync", work)


def test_a_connection_gets_a_new_token_only_when_the_instance_takes_it(
    shell: Shell, work: str, database: Database
) -> None:
    (before,) = rows(database, "SELECT auth FROM connections")
    shell.refused("connection", "change", work, "--token-env", "WRONG_TOKEN", code=1)
    assert rows(database, "SELECT auth FROM connections") == [before]
    with database.transaction() as session:
        session.execute(text("UPDATE connections SET status = 'denied', last_error = 'token expired'"))
    assert "token expired" in shell.refused("sync", work)
    shell.done("connection", "change", work, "--token-env", "TEST_TOKEN")
    assert rows(database, "SELECT status, last_error FROM connections") == [("active", None)]
    assert rows(database, "SELECT auth FROM connections") != [before]


def test_a_lost_key_is_mended_by_a_new_token(shell: Shell, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_SECRET_KEYS", Fernet.generate_key().decode())
    assert "PLUMBLINE_SECRET_KEYS" in shell.refused("connection", "test", work)
    shell.done("connection", "change", work, "--token-env", "TEST_TOKEN")
    shell.done("connection", "test", work)


def test_options_are_laid_over_the_old_ones(shell: Shell, work: str, database: Database) -> None:
    shell.done("connection", "change", work, "--option", "page_size=50", "--option", "token_type=oauth")
    assert rows(database, "SELECT options FROM connections") == [({"page_size": 50, "token_type": "oauth"},)]
    shell.done("connection", "change", work, "--option", "page_size=null")
    assert rows(database, "SELECT options FROM connections") == [({"token_type": "oauth"},)]


def test_a_connection_with_scopes_is_kept(shell: Shell, work: str) -> None:
    assert "plumbline connection pause" in shell.refused("connection", "remove", work)


# --- scopes -------------------------------------------------------------------------------------------------------


def test_a_scope_makes_its_project_and_repository(shell: Shell, work: str, gitlab: str, database: Database) -> None:
    added = shell.done("scope", "add", work, "102", "--json").data
    assert added["title"].startswith("acme/")
    assert added["project"] == added["title"]
    assert added["repository"] == f"{gitlab.removeprefix('http://')}/102"
    assert rows(
        database,
        "SELECT s.external_key, p.title, r.provider, r.external_id FROM sync_scopes s"
        " JOIN projects p ON p.id = s.project_id JOIN repositories r ON r.id = s.repository_id ORDER BY s.id",
    ) == [
        ("acme/payments", "Payments", "gitlab", f"{gitlab.removeprefix('http://')}/acme/payments"),
        ("102", added["project"], "gitlab", added["repository"]),
    ]
    listed = {row["external_key"]: row["project"] for row in shell.done("scope", "list", "--json").data}
    assert listed == {"acme/payments": "Payments", "102": added["project"]}
    shell.refused("scope", "add", work, "102")
    shell.refused("scope", "list", "--connection", "nothing")


def test_a_project_that_does_not_exist_is_a_sentence_and_stores_nothing(
    shell: Shell, work: str, database: Database
) -> None:
    counts = "SELECT (SELECT count(*) FROM projects), (SELECT count(*) FROM sync_scopes)"
    before = rows(database, counts)
    assert "acme/nothing" in shell.refused("scope", "add", work, "acme/nothing", "--project", "New", code=1)
    shell.refused("scope", "add", work, " ")
    shell.refused("scope", "add", "nothing", "acme/payments")
    assert rows(database, counts) == before


def test_a_new_project_gets_the_reporting_time_zone_and_an_unchecked_scope_shows_in_the_test(
    shell: Shell, work: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_REPORTING_TIMEZONE", "Europe/Berlin")
    shell.done("scope", "add", work, "unseen", "--no-check", "--project", "Berlin")
    assert rows(database, "SELECT timezone FROM projects WHERE title = 'Berlin'") == [("Europe/Berlin",)]
    tested = shell("connection", "test", work, "--json")
    assert tested.code == 1
    assert {each["key"]: each["error"] is None for each in tested.data["scopes"]} == {
        "acme/payments": True,
        "unseen": False,
    }


# --- jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("work")
def test_a_job_that_could_do_nothing_is_not_asked_for(shell: Shell, database: Database) -> None:
    for words, said in (
        (("sync", "nothing"), "'nothing'"),
        (("sync", "work", "--scope", "NOPE"), "'NOPE'"),
        (("sync", "work", "--stream", "issues"), "'issues'"),
        (("sync", "work", "--since", "yesterday"), "--since"),
        (("sync", "work", "--since", "2026-01-01", "--full"), "--full"),
        (("replay", "work", "--stream", "x"), "'x'"),
        (("replay", "nothing"), "'nothing'"),
        (("jobs", "show", "99999"), "99999"),
        (("jobs", "cancel", "99999"), "99999"),
        (("jobs", "retry", "99999"), "99999"),
        (("jobs", "list", "--status", "lazy"), "'lazy'"),
        (("jobs", "run", "no.task"), "'no.task'"),
        (("jobs", "run", "rebuild.one"), "'summary'"),
        (("jobs", "run", "maintain.prune", "--arg", "depth=3"), "'depth'"),
        (("summaries", "rebuild", "no_such"), "'no_such'"),
        (("summaries", "rebuild", "test_runs_view"), "'test_runs_view'"),
        (("summaries", "rebuild", "--check", "--project", "Nope"), "'Nope'"),
        (("summaries", "rebuild", "--check", "--from", "2026-02-01", "--to", "2026-01-01"), "--from"),
        (("read-models", "rebuild", "bug_analytics_daily"), "'bug_analytics_daily'"),
    ):
        assert said in shell.refused(*words)
    assert rows(database, "SELECT count(*) FROM job_runs") == [(0,)]


def test_there_is_nothing_to_sync_without_a_scope(shell: Shell) -> None:
    assert "plumbline scope add" in shell.refused("sync")


def test_a_job_without_a_worker_waits_and_the_command_says_so(shell: Shell, work: str) -> None:
    queued = shell.done("sync", work, "--stream", "merge_requests", "--since", "2026-01-31", "--json")
    (job_id,) = queued.data["job_ids"]
    assert "plumbline up" in queued.err
    shown = shell.done("jobs", "show", str(job_id), "--json").data
    assert (shown["status"], shown["trigger"], shown["task"]) == ("queued", "cli", "collect.sync_all")
    assert shown["args"] == {
        "connection": "work",
        "scope": None,
        "stream": "merge_requests",
        "full": False,
        "since": "2026-01-31T00:00:00+00:00",
    }
    assert [row["id"] for row in shell.done("jobs", "list", "--status", "queued", "--json").data] == [job_id]


def test_a_job_is_cancelled_and_asked_for_again(shell: Shell) -> None:
    (job_id,) = shell.done("jobs", "run", "rebuild.one", "--arg", "summary=jira_lead_times", "--json").data["job_ids"]
    assert "queued" in shell.refused("jobs", "retry", str(job_id))
    shell.done("jobs", "cancel", str(job_id))
    assert "cancelled" in shell.refused("jobs", "cancel", str(job_id))
    (again,) = shell.done("jobs", "retry", str(job_id), "--json").data["job_ids"]
    assert again > job_id
    shown = shell.done("jobs", "show", str(again), "--json").data
    assert (shown["task"], shown["args"]) == ("rebuild.one", {"summary": "jira_lead_times"})


def test_a_rebuild_of_all_is_a_job_for_each(shell: Shell) -> None:
    asked = shell.done("summaries", "rebuild", "--from", "2026-01-01", "--json")
    names = [row["name"] for row in shell.done("summaries", "list", "--json").data if row["kind"] == "summary"]
    listed = shell.done("jobs", "list", "--task", "rebuild.one", "--json").data
    assert sorted(row["args"]["summary"] for row in listed) == sorted(names)
    assert sorted(asked.data["job_ids"]) == sorted(row["id"] for row in listed)


class Follower:
    """What `follow` needs of a command's process."""

    def __init__(self, database: Database) -> None:
        self.database = database


@pytest.mark.usefixtures("environment")
def test_a_follower_gives_up_when_no_worker_answers(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    with database.transaction() as session:
        job_id = jobs.insert(session, task="maintain.prune", queue="upkeep", args={}, trigger="cli")
    with pytest.raises(cli_work.NoWorkerError, match="plumbline up"):
        cli_work.follow(Follower(database), [job_id or 0], as_json=False, give_up_seconds=1)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("environment")
def test_a_follower_tells_how_each_failed_and_ends_with_1(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.transaction() as session:
        root = jobs.insert(session, task="collect.sync_all", queue="urgent", args={}, trigger="cli")
        child = jobs.insert(session, task="collect.sync_scope", queue="sync", args={}, trigger="event", parent_id=root)
        lost = jobs.insert(session, task="collect.window", queue="sync", args={}, trigger="event", parent_id=child)
        other = jobs.insert(session, task="collect.window", queue="sync", args={}, trigger="event")
        jobs.report_progress(session, child or 0, progress={}, rows_read=1200, rows_written=7)
        jobs.finish(session, root or 0, "succeeded")
        jobs.finish(session, child or 0, "failed", error="The source hides it.\nand more")
        jobs.finish(session, lost or 0, "lost", error="Its worker died.")
    assert other is not None
    with pytest.raises(typer.Exit) as ended:
        cli_work.follow(Follower(database), [root or 0], as_json=False)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert "3 jobs, 1,200 rows read, 7 written" in printed.out
    assert {"Error: The source hides it.", "Error: Its worker died."} <= set(printed.err.splitlines())
    with pytest.raises(typer.Exit):
        cli_work.follow(Follower(database), [root or 0], as_json=True)
    data = Finished(1, *capsys.readouterr()).data
    assert (data["jobs"], data["failed"], data["job_ids"]) == (3, 2, [root])


# --- what is there --------------------------------------------------------------------------------------------------


def test_schedules_are_listed_with_their_next_ticks(shell: Shell, database: Database) -> None:
    assert "sync everything" in [row["name"] for row in shell.done("schedules", "list", "--json").data]
    ticks = shell.done("schedules", "next", "-n", "3", "--json").data
    assert len(ticks) == 3
    assert [tick["at"] for tick in ticks] == sorted(tick["at"] for tick in ticks)
    with database.transaction() as session:
        session.execute(text("UPDATE job_schedules SET is_enabled = false"))
    assert shell.done("schedules", "next", "--json").data == []


def test_nothing_is_wrong_with_an_empty_database(shell: Shell) -> None:
    assert shell.done("rejects", "list", "--json").data == []
    assert shell.done("summaries", "rebuild", "--check", "--json").data["differences"] == 0
    assert shell.done("read-models", "rebuild", "--check", "--json").data["differences"] == 0
    kinds = {row["name"]: row["kind"] for row in shell.done("summaries", "list", "--json").data}
    assert (kinds["bug_analytics_daily"], kinds["test_runs_view"]) == ("summary", "read model")


def test_a_summary_that_is_not_what_its_inputs_say_is_told_and_ends_with_1(shell: Shell, database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("INSERT INTO projects (tenant_id, title) SELECT id, 'Shop' FROM tenants"))
        session.execute(
            text(
                "INSERT INTO test_execution_summary (project_id, date, definition_version, total_runs, passed_runs,"
                " failed_runs, skipped_runs, blocked_runs, automated_count, manual_count, total_test_cases,"
                " results_count, passed_results, failed_results, last_updated_at)"
                " SELECT id, '2026-03-02', 1, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, now() FROM projects"
            )
        )
    checked = shell("summaries", "rebuild", "test_execution_summary", "--check", "--json")
    assert (checked.code, checked.data["differences"]) == (1, 1)
    shown = shell("summaries", "rebuild", "test_execution_summary", "--check", "--project", "Shop")
    assert shown.code == 1
    assert "2026-03-02" in shown.out
    assert "1 row of test_execution_summary" in shown.out
    shell.done("summaries", "rebuild", "test_execution_summary", "--check", "--from", "2026-03-03")
    shell.done("summaries", "rebuild", "test_execution_summary", "--check", "--to", "2026-03-01")
    assert shell("summaries", "rebuild", "--check", "--from", "2026-03-02", "--to", "2026-03-02").code == 1


def test_accounts_are_joined_split_and_listed(shell: Shell, database: Database) -> None:
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO user_identities (tenant_id, source, external_id, username) SELECT min(id), v.source, "
                "'x/1', 'alice' FROM tenants, (VALUES ('gitlab'), ('git')) AS v(source) GROUP BY v.source"
            )
        )
    assert "are one person's" in shell.done("people", "join", "gitlab:alice", "git:alice").out
    joined = shell.done("people", "list", "--json").data
    assert {each["person_reason"] for each in joined} == {"joined by hand"}
    shell.done("people", "undo", "git:alice")
    shell.done("people", "split", "git:alice")
    assert shell.done("people", "list", "--json").data == []
    assert "Several accounts" in shell.refused("people", "split", "alice")
    assert "already" in shell.refused("people", "join", "git:alice", "git:alice")


def test_rules_about_robots_are_added_and_listed(shell: Shell) -> None:
    shell.done("bots", "add", "release-.*", "--reason", "release robots", "--source", "gitlab")
    (rule,) = shell.done("bots", "list", "--json").data
    assert (rule["pattern"], rule["is_bot"], rule["source"]) == ("release-.*", True, "gitlab")
    assert "no regular expression" in shell.refused("bots", "add", "(")


def test_what_is_set_aside_is_listed(shell: Shell, work: str, database: Database) -> None:
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO sync_rejects (sync_scope_id, resource, external_id, reason, payload)"
                " SELECT id, 'merge_requests', '101!7', 'No title.', '{}' FROM sync_scopes"
            )
        )
    (row,) = shell.done("rejects", "list", "--json").data
    assert (row["connection"], row["external_id"], row["reason"]) == (work, "101!7", "No title.")
    assert "No title." in shell.done("rejects", "list").out


@pytest.mark.usefixtures("environment")
def test_an_old_schema_is_a_sentence_and_going_back_needs_consent(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", empty_database_url)
    shell = Shell(capsys, monkeypatch)
    assert "plumbline migrate" in shell.refused("connection", "list", code=1)
    shell.done("migrate", "--to", "0001")
    assert "plumbline migrate" in shell.refused("connection", "list", code=1)
    assert shell.done("migrate", "--json").data["before"] == "0001"
    assert shell.done("connection", "list", "--json").data == []
    for back in ("0001", "-1", "base"):
        assert "--yes" in shell.refused("migrate", f"--to={back}")
    assert shell.done("migrate", "--to", "0001", "--yes", "--json").data["after"] == "0001"
    assert "'nope'" in shell.refused("migrate", "--to", "nope")


@pytest.mark.usefixtures("environment")
def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", "postgresql://me:s3cret-word@127.0.0.1:1/x")
    shell = Shell(capsys, monkeypatch)
    assert "127.0.0.1:1" in shell.refused("connection", "list", code=1)
    ended = shell("doctor", "--json")
    found = {each["name"]: each["is_ok"] for each in ended.data}
    assert (ended.code, found["database"], found["settings"]) == (1, False, True)
    assert "s3cret-word" not in ended.out + ended.err


@pytest.mark.usefixtures("environment")
def test_why_a_database_does_not_answer_is_told(
    template_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", template_url.replace("/plumbline?", "/not_there?"))
    said = Shell(capsys, monkeypatch).refused("connection", "list", code=1)
    assert 'database "not_there" does not exist' in said


# --- the demo's sources ---------------------------------------------------------------------------------------------


def test_the_sources_of_a_demo_are_added_once_and_their_history_stays_the_same(
    database: Database, settings: Settings
) -> None:
    for _ in range(2):
        add_demo_sources(database, settings)
    assert rows(
        database,
        "SELECT c.kind, c.base_url, s.external_key, s.repository_id IS NOT NULL, p.title FROM sync_scopes s"
        " JOIN connections c ON c.id = s.connection_id JOIN projects p ON p.id = s.project_id ORDER BY c.kind",
    ) == [
        ("gitlab", "http://127.0.0.1:8602", "acme/payments", True, "Demo"),
        ("jira", "http://127.0.0.1:8601", "PAY", False, "Demo"),
    ]
    first, again = demo_processes(settings), demo_processes(settings)
    assert first == again
    assert [each.name for each in first] == ["jira", "gitlab"]
    assert "8601" in first[0].argv


def test_webhooks_are_registered_with_each_scope_and_looked_at(shell: Shell, database: Database) -> None:
    simulator = GitLabSimulator(merge_requests=2, projects=2, token=TOKEN)
    with simulator.serve() as server:
        add = ("connection", "add", "gitlab", "hooked", "--url", server.base_url, "--token-env", "TEST_TOKEN")
        assert "PLUMBLINE_PUBLIC_URL" in shell.refused(*add, "--webhooks")
        shell.done(*add, "--webhooks", "--public-url", "https://plumbline.example.test")
        assert simulator.webhooks.hooks == {}
        shell.done("scope", "add", "hooked", "101")
        shell.done("scope", "add", "hooked", "102", "--json")
        assert len(simulator.webhooks.hooks) == 2
        assert "ok     101: registered" in shell.done("connection", "webhooks", "hooked").out
        secret = simulator.webhooks.hooks[9_001].signing_token
        for arguments in (("--rotate",), ("--enable",), ("--check", "--json")):
            assert "whsec_" not in "".join(shell.done("connection", "webhooks", "hooked", *arguments)[1:])
        assert simulator.webhooks.hooks[9_001].signing_token != secret
        shell.done("connection", "change", "hooked", "--token-env", "TEST_TOKEN")  # keeps the webhooks' secret
        shell.done("connection", "webhooks", "hooked", "--enable")
        assert len(rows(database, "SELECT FROM connections WHERE webhooks IS NOT NULL")) == 1
        simulator.webhooks.may_manage = False
        ended = shell("connection", "webhooks", "hooked")
        assert (ended.code, "Maintainer" in ended.out) == (1, True)
        assert "registered" not in next(line for line in shell("doctor").out.splitlines() if "webhooks hooked" in line)
        simulator.webhooks.may_manage = True
        shell.done("connection", "webhooks", "hooked", "--disable")
        assert simulator.webhooks.hooks == {}
        assert "has no webhooks" in shell.refused("connection", "webhooks", "hooked")


def test_capture_is_switched_by_table(shell: Shell) -> None:
    def is_on(table: str) -> bool:
        return next(row["is_on"] for row in shell.done("capture", "list", "--json").data if row["table_name"] == table)

    shell.done("capture", "off", "bug_budget")
    assert (is_on("bug_budget"), is_on("projects")) == (False, True)
    assert "no " in next(line for line in shell.done("capture", "list").out.splitlines() if "bug_budget" in line)
    shell.done("capture", "on", "bug_budget")
    assert is_on("bug_budget")
    assert "job_runs" in shell.refused("capture", "off", "job_runs")
