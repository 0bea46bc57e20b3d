"""The command line as people and scripts meet it: real processes, a HOME of its own, no worker."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from factories.command import Plumbline, interrupted
from factories.stack import wait_until

from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.store.session import Database
from workers.embedded import EmbeddedServers, server_states

TOKEN = "glpat-thisIsSecret0123456789"


@pytest.fixture(scope="module")
def plumbline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plumbline]:
    """The command with a migrated HOME and no worker."""
    command = Plumbline(tmp_path_factory.mktemp("cli") / "home", TEST_TOKEN=TOKEN, WRONG_TOKEN="wrong-token")
    command.done("migrate")
    try:
        yield command
    finally:
        command.done("down")


@pytest.fixture(scope="module")
def gitlab() -> Iterator[str]:
    with GitLabSimulator(merge_requests=5, projects=2, token=TOKEN).serve() as server:
        yield server.base_url


@pytest.fixture(scope="module")
def jira() -> Iterator[str]:
    with JiraSimulator(issues=5, token=TOKEN).serve() as server:
        yield server.base_url


@pytest.fixture(scope="module")
def work(plumbline: Plumbline, gitlab: str) -> str:
    """A connection that works, with a scope."""
    plumbline.done("connection", "add", "gitlab", "work", "--url", gitlab, "--token-env", "TEST_TOKEN")
    plumbline.done("scope", "add", "work", "acme/payments", "--project", "Payments")
    return "work"


def rows(plumbline: Plumbline, query: str) -> list[Any]:
    with psycopg.connect(EmbeddedServers(plumbline.home).database_url) as connection:
        return connection.execute(query).fetchall()


# --- connections --------------------------------------------------------------------------------------------------


def test_a_connection_is_tested_before_it_is_stored_and_tells_who_we_are(plumbline: Plumbline, jira: str) -> None:
    added = plumbline.done(
        "connection", "add", "jira", "site", "--url", jira + "/", "--user", "sim@example.test", "--token-stdin",
        "--option", 'bug_types=["Bug"]', stdin=TOKEN + "\n",
    )  # fmt: skip
    assert "Jira Cloud" in added.out
    assert "Sync Service" in added.out
    listed = next(row for row in plumbline.done("connection", "list", "--json").data if row["name"] == "site")
    assert (listed["kind"], listed["base_url"], listed["status"]) == ("jira", jira, "active")
    assert listed["last_ok_at"] is not None
    assert rows(plumbline, "SELECT options FROM connections WHERE name = 'site'") == [({"bug_types": ["Bug"]},)]
    again = plumbline("connection", "add", "jira", "site", "--url", jira, "--token-env", "TEST_TOKEN")
    assert (again.code, len(again.error_lines)) == (2, 1)
    assert "already" in again.err


def expired_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that was good until yesterday, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now - timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "expired.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@pytest.fixture
def expired(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server whose certificate has expired: its address, and the file that would be trusted."""
    path = expired_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client hangs up, as it should
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}", path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_way_that_a_connection_cannot_work_is_one_sentence_and_stores_nothing(
    plumbline: Plumbline, gitlab: str, jira: str, expired: tuple[str, Path]
) -> None:
    before = rows(plumbline, "SELECT count(*) FROM connections")
    expired_url, authority = expired
    for url, token, said, options in (
        (gitlab, "WRONG_TOKEN", "token", ()),
        (jira, "TEST_TOKEN", "no GitLab", ()),
        ("http://127.0.0.1:1", "TEST_TOKEN", "Nothing listens", ()),
        ("https://gitlab.invalid", "TEST_TOKEN", "gitlab.invalid", ()),
        (gitlab.replace("http:", "https:"), "TEST_TOKEN", "TLS", ()),
        (expired_url, "TEST_TOKEN", "expired", ("--option", f"ca_file={authority}")),
    ):
        ended = plumbline("connection", "add", "gitlab", "bad", "--url", url, "--token-env", token, *options)
        assert (ended.code, len(ended.error_lines), ended.out) == (1, 1, ""), (url, ended)
        assert ended.err.startswith("Error: ")
        assert said in ended.err, (url, ended)
        assert TOKEN not in ended.err
        assert "wrong-token" not in ended.err
    assert rows(plumbline, "SELECT count(*) FROM connections") == before


def test_a_secret_stands_in_no_output_no_command_line_and_no_row(plumbline: Plumbline) -> None:
    with GitLabSimulator(merge_requests=1, token=TOKEN, latency_ms=400).serve() as server:
        arguments = ("connection", "add", "gitlab", "secret", "--url", server.base_url, "--token-env", "TEST_TOKEN")
        process = plumbline.start("--debug", *arguments)
        seen = set()
        while process.poll() is None:
            with suppress(psutil.Error):  # it ends while it is looked at
                family = psutil.Process(process.pid)
                seen |= {" ".join(each.cmdline()) for each in [family, *family.children(recursive=True)]}
            time.sleep(0.05)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert any("connection add" in line for line in seen)
        said = [out, err, *seen]
        for words in (
            ("connection", "list", "--json"),
            ("connection", "test", "secret", "--json"),
            ("doctor", "--json"),
        ):
            ended = plumbline("--debug", *words)
            said += [ended.out, ended.err]
    gone = plumbline("--debug", "connection", "test", "secret")
    assert gone.code == 1
    said += [gone.out, gone.err, str(rows(plumbline, "SELECT * FROM connections"))]
    for path in (plumbline.home / "postgresql" / "log").glob("*.log"):
        said.append(path.read_text())
    assert [text for text in said if TOKEN in text or "thisIsSecret" in text] == []
    plumbline.done("connection", "remove", "secret")


# --- syncs and jobs without a worker --------------------------------------------------------------------------------


def test_following_without_a_worker_says_so_and_ends_with_ctrl_c(
    plumbline: Plumbline, work: str, tmp_path: Path
) -> None:
    log = tmp_path / "follow.log"
    process = plumbline.start("sync", work, "--full", "--wait", log=log)
    wait_until(lambda: "No worker answers" in log.read_text(), seconds=30, what="the command says that nobody works")
    assert interrupted(process, seconds=10).code == 130
    told = log.read_text().strip().splitlines()
    assert told[-1] == "Interrupted."
    assert "Traceback" not in log.read_text()


# --- files --------------------------------------------------------------------------------------------------------


def test_what_is_no_allure_report_is_a_sentence_at_once_and_stores_nothing(
    plumbline: Plumbline, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "results.zip"
    broken.write_bytes(b"PK\x03\x04 and then nothing that a zip has")
    before = rows(plumbline, "SELECT (SELECT count(*) FROM projects), (SELECT count(*) FROM job_runs)")
    for path, code in ((tmp_path / "nowhere", 2), (empty, 1), (broken, 1)):
        ended = plumbline("ingest", "allure", str(path), "--project", "Unseen")
        assert (ended.code, len(ended.error_lines), ended.out) == (code, 1, ""), ended
        assert path.name in ended.err
    assert plumbline("ingest", "allure", str(empty), "--project", " ").code == 2
    assert rows(plumbline, "SELECT (SELECT count(*) FROM projects), (SELECT count(*) FROM job_runs)") == before
    assert rows(plumbline, "SELECT count(*) FROM connections WHERE kind = 'allure'") == [(0,)]
    assert list(plumbline.home.glob("allure-*")) == []


# --- the machine --------------------------------------------------------------------------------------------------


def test_the_doctor_names_what_is_wrong_and_what_mends_it(plumbline: Plumbline) -> None:
    ended = plumbline("doctor", "--json")
    found = {each["name"]: each for each in ended.data}
    assert ended.code == 1
    for name in ("settings", "home", "database", "clock", "migrations", "broker"):
        assert found[name]["is_ok"] is True
    for name in ("workers", "beat"):
        assert found[name]["is_ok"] is False
        assert found[name]["mend"] == "plumbline up"


def test_status_starts_nothing(tmp_path: Path) -> None:
    command = Plumbline(tmp_path / "home")
    assert {row["part"]: row["state"] for row in command.done("status", "--json").data} == {
        "up": "not running",
        "embedded postgresql": "not running",
        "embedded broker": "not running",
    }
    assert command.done("down").out == "Nothing was running.\n"
    assert [state.pid for state in server_states(command.home)] == [None, None]


def test_without_a_broker_a_job_is_written_and_sent_later(database: Database, tmp_path: Path) -> None:
    command = Plumbline(
        tmp_path / "home",
        PLUMBLINE_DATABASE_URL=database.url.set(drivername="postgresql").render_as_string(hide_password=False),
        PLUMBLINE_BROKER_URL="redis://127.0.0.1:1/0",
        PLUMBLINE_SECRET_KEYS=Fernet.generate_key().decode(),
    )
    queued = command.done("jobs", "run", "maintain.prune", "--json", seconds=90)
    assert len(queued.data["job_ids"]) == 1
    assert "plumbline up" in queued.err


def test_wrong_settings_are_lines_that_name_each(tmp_path: Path) -> None:
    ended = Plumbline(tmp_path / "home", PLUMBLINE_API_PORT="zero", PLUMBLINE_DATABSE_URL="x")("connection", "list")
    assert ended.code == 2
    assert "PLUMBLINE_API_PORT" in ended.err
    assert "PLUMBLINE_DATABASE_URL?" in ended.err
    assert "Traceback" not in ended.err


def test_what_should_not_happen_is_one_line(plumbline: Plumbline) -> None:
    with psycopg.connect(EmbeddedServers(plumbline.home).database_url, autocommit=True) as connection:
        connection.execute("UPDATE job_schedules SET cron = 'never' WHERE name = 'prune finished jobs'")
        try:
            ended = plumbline("schedules", "next")
            debugged = plumbline("schedules", "next", "--debug")
        finally:
            connection.execute("UPDATE job_schedules SET cron = '17 3 * * *' WHERE name = 'prune finished jobs'")
    assert (ended.code, len(ended.error_lines), ended.out) == (1, 1, "")
    assert "--debug" in ended.err
    assert "Traceback" in debugged.err


# --- simulated servers ----------------------------------------------------------------------------------------------


def test_a_simulated_server_says_how_to_connect_and_its_lines_work(plumbline: Plumbline, free_port: int) -> None:
    process = plumbline.start("simulate", "jira", "--port", str(free_port), "--issues", "3", "--deployment", "server")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert f"http://127.0.0.1:{free_port}" in lines[0]
    _, variable, token = lines[1].replace("=", " ").split()
    wait_until(lambda: answers(free_port), seconds=10, what="the simulated server listens")
    taken = plumbline("simulate", "gitlab", "--port", str(free_port))
    assert (taken.code, len(taken.error_lines)) == (2, 1)
    plumbline.done(*lines[2].split()[1:], **{variable: token})
    plumbline.done(*lines[3].split()[1:])
    assert "Data Center" in plumbline.done("connection", "test", "simulated-jira").out
    ended = interrupted(process, seconds=10)
    assert (ended.code, ended.error_lines[-1]) == (130, "Interrupted.")
    for wrong in (("jira", "--deployment", "moon"), ("gitlab", "--faults", "nonsense"), ("jira", "--now", "noon")):
        ended = plumbline("simulate", wrong[0], "--port", str(free_port), *wrong[1:])
        assert (ended.code, len(ended.error_lines)) == (2, 1), ended


def answers(port: int) -> bool:
    return any(each.laddr.port == port and each.status == "LISTEN" for each in psutil.net_connections("tcp"))


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_reader_that_leaves_early_gets_no_trace(plumbline: Plumbline) -> None:
    process = plumbline.start("schedules", "next", "-n", "1000")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in {0, 1}
    assert err == ""
