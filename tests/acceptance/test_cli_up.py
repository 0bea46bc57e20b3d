"""`plumbline up` and what people do while it runs: real workers, real beat, real API."""

from __future__ import annotations

import json
import socket
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import requests
from factories.command import Plumbline, interrupted
from factories.stack import wait_until

from connectors.gitlab.simulator import GitLabSimulator
from workers.embedded import EmbeddedServers, server_states

pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Up:
    """A running `plumbline up`."""

    def __init__(self, folder: Path) -> None:
        api_port, flower_port = free_ports(2)
        self.log = folder / "up.log"
        self.api = f"http://127.0.0.1:{api_port}"
        self.plumbline = Plumbline(
            folder / "home",
            PLUMBLINE_API_PORT=str(api_port),
            PLUMBLINE_FLOWER_PORT=str(flower_port),
            TEST_TOKEN="sim-token",
        )
        self.process = self.plumbline.start("up", log=self.log)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return requests.get(self.api + "/readyz", timeout=10).status_code == 200
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    try:
        wait_until(running.is_ready, seconds=120, what="the stack is ready")
        yield running
    finally:
        running.plumbline("down")
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture(scope="module")
def work(up: Up) -> Iterator[str]:
    """A connection with a scope."""
    with GitLabSimulator(merge_requests=20).serve() as server:
        up.plumbline.done("connection", "add", "gitlab", "work", "--url", server.base_url, "--token-env", "TEST_TOKEN")
        up.plumbline.done("scope", "add", "work", "acme/payments", "--project", "Shop")
        yield "work"


def test_a_sync_is_followed_to_its_end_and_a_replay_changes_nothing(up: Up, work: str) -> None:
    synced = up.plumbline.done("sync", work, "--full", "--wait", "--json", seconds=170)
    assert synced.data["failed"] == 0
    assert synced.data["rows_read"] > 20
    assert synced.data["jobs"] > 2
    replayed = up.plumbline.done("replay", work, "--wait", "--json", seconds=170)
    assert replayed.data["rows_read"] >= 20
    assert replayed.data["rows_written"] == 0
    (scope,) = up.plumbline.done("scope", "list", "--connection", work, "--json").data
    assert scope["complete_until"] is not None


def test_the_doctor_is_content_while_everything_runs(up: Up, work: str) -> None:
    up.plumbline.done("sync", work, "--wait", seconds=170)
    ended = up.plumbline("doctor", "--json")
    assert [each for each in ended.data if not each["is_ok"]] == []
    assert ended.code == 0
    parts = {row["part"]: row["state"] for row in up.plumbline.done("status", "--json").data}
    for name in ("up", "process worker", "process beat", "process api", "process flower"):
        assert parts[name] == "running"
    assert (parts["beat"], parts["migrations"], parts["embedded postgresql"]) == ("ok", "ok", "answers")


def allure_results(folder: Path) -> Path:
    folder.mkdir()
    for name, status in (("test_pay", "passed"), ("test_refund", "failed")):
        result = {
            "uuid": str(uuid.uuid4()),
            "name": name,
            "fullName": f"tests.checkout#{name}",
            "status": status,
            "start": 1_770_000_000_000,
            "stop": 1_770_000_001_000,
        }
        (folder / f"{result['uuid']}-result.json").write_text(json.dumps(result))
    return folder


def test_results_are_taken_in_once_and_their_summaries_are_equal_to_a_rebuild(up: Up, tmp_path: Path) -> None:
    results = allure_results(tmp_path / "allure-results")
    archive = tmp_path / "results.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in results.iterdir():
            file.write(path, path.name)
    for path in (results, archive):
        ended = up.plumbline.done(
            "ingest", "allure", str(path), "--project", "Uploaded", "--commit", "abc", "--branch", "main", "--json",
            seconds=170,
        )  # fmt: skip
        assert ended.data["failed"] == 0
    with psycopg.connect(EmbeddedServers(up.plumbline.home).database_url) as connection:
        assert connection.execute("SELECT title, commit_sha, branch FROM test_runs").fetchall() == [
            ("allure-results", "abc", "main")
        ]
    up.plumbline.done("sync", "--wait", seconds=170)  # uploads have nothing to sync, and fail nothing
    for words in (("summaries", "rebuild"), ("read-models", "rebuild")):
        assert up.plumbline.done(*words, "--wait", "--json", seconds=170).data["failed"] == 0
        assert up.plumbline.done(*words, "--check", "--json").data["differences"] == 0


def test_a_csv_file_is_taken_in_but_for_its_bad_rows(up: Up, tmp_path: Path) -> None:
    path = tmp_path / "bugs.csv"
    header = "key,summary,status,created,colour\n"
    path.write_text(f"{header}UP-1,Breaks,Open,2026-01-31,red\nUP-2,Hangs,Open,31.01.2026,red\n")
    command = ("ingest", "csv", str(path), "--project", "Uploaded", "--kind")
    ended = up.plumbline(*command, "bugs", seconds=170)
    assert ended.code == 1
    assert "bugs.csv: 2 rows read, 1 taken in, 1 left out" in ended.out
    left_out = next(line.split() for line in ended.out.splitlines() if "31.01.2026" in line)
    assert left_out[:6] == ["3", "created", "created:", "'31.01.2026'", "is", "no"]
    assert "Ignored columns: colour." in ended.error_lines
    path.write_text(f"{header}UP-1,Breaks,Open,2026-01-31,red\n")
    data = up.plumbline.done(*command, "bugs", "--json", seconds=170).data
    assert (data["status"], data["rows_total"], data["rows_imported"], data["errors"]) == ("completed", 1, 1, [])
    for kind, message in (("bug", "choose one of bugs, test-cases"), ("test-cases", "lacks the column key and title")):
        refused = up.plumbline(*command, kind)
        assert (refused.code, refused.out, len(refused.error_lines)) == (2, "", 1)
        assert message in refused.err


def test_a_job_that_fails_ends_the_command_with_1_and_its_sentence(up: Up) -> None:
    ended = up.plumbline("jobs", "run", "collect.sync_scope", "--arg", "scope_id=99999", "--wait", seconds=100)
    assert ended.code == 1
    assert "Error: There is no scope 99999." in ended.error_lines


def test_a_second_up_of_the_same_home_is_refused(up: Up) -> None:
    ended = up.plumbline("up")
    assert (ended.code, len(ended.error_lines)) == (2, 1)
    assert "already runs" in ended.err


def test_ctrl_c_ends_up_within_15_seconds_and_leaves_nothing_running(up: Up) -> None:
    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) > 4
    begin = time.monotonic()
    assert interrupted(up.process, seconds=15).code == 0
    assert time.monotonic() - begin < 15
    assert [each for each in children if each.is_running()] == []
    assert [state.pid for state in server_states(up.plumbline.home)] == [None, None]
    assert "Traceback" not in up.log.read_text()
    assert {row["part"]: row["state"] for row in up.plumbline.done("status", "--json").data}["up"] == "not running"
