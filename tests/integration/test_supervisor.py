"""`plumbline up` with small real processes: starting, crashing, being killed, being asked to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from models.errors import ServerUnavailableError, UsageError
from workers.embedded import server_states, stop_servers
from workers.settings import load_settings
from workers.supervisor import ProcessSpec, Stack, default_processes, read_state, stop

ROOT = Path(__file__).parents[2]
KEY = "VkKJ2hpIeBFDEnmmLM6fNnPSHlWfdyZ0tSgLjiWVoBk="
CONFIGURED = {
    "PLUMBLINE_DATABASE_URL": "postgresql://u:hunter2@db.example/quality",
    "PLUMBLINE_BROKER_URL": "redis://broker.example/0",
    "PLUMBLINE_SECRET_KEYS": KEY,
    "PLUMBLINE_LOG_FORMAT": "console",
}
"""Servers that nobody connects to in these tests, so that none is started."""

TICKING = "import time\nwhile True: print('tick'); time.sleep(0.1)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('hears nothing')
while True: time.sleep(1)"""

RUN = """
import json, signal, sys
for each in (signal.SIGHUP, signal.SIGINT):  # who runs the tests in a shell's background makes them deaf to these
    signal.signal(each, signal.SIG_DFL if each == signal.SIGHUP else signal.default_int_handler)
from workers.settings import load_settings
from workers.supervisor import ProcessSpec, run
specs = [ProcessSpec(name, (sys.executable, "-c", code), {}, firm) for name, code, firm in json.loads(sys.argv[1])]
def before_start(endpoints):
    print("BEFORE", sorted(endpoints.embedded), flush=True)
sys.exit(run(load_settings(), specs, before_start=before_start, **json.loads(sys.argv[2])))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    yield folder / "home"
    stop(folder / "home")
    for up in Up.started:
        up.process.wait(timeout=20)
    Up.started.clear()
    stop_servers(folder / "home")
    shutil.rmtree(folder)


class Up:
    """A running `up` in a process of its own."""

    started: ClassVar[list[Up]] = []

    def __init__(
        self,
        home: Path,
        specs: dict[str, str],
        *,
        firm: int | None = None,
        env: dict[str, str] = CONFIGURED,
        **how: Any,
    ) -> None:
        self.home = home
        listed = [(name, code, firm) for name, code in specs.items()]
        how.setdefault("stop_servers_at_exit", True)
        self.output_path = home.with_name(f"output-{time.monotonic_ns()}")
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, json.dumps(listed), json.dumps(how)],
                env={**os.environ, "PLUMBLINE_HOME": str(home), "PYTHONPATH": str(ROOT), **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stopping_at = 0.0
        Up.started.append(self)

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def says(self, text: str, count: int = 1) -> None:
        eventually(lambda: self.output.count(text) >= count, lambda: self.output)

    def pid_of(self, name: str) -> int:
        self.says(f"{name} started with pid ")
        state = read_state(self.home)
        assert state is not None
        return state.process_pids[name]

    def send(self, number: int) -> None:
        self.stopping_at = time.monotonic()
        self.process.send_signal(number)

    def ends(self, within_seconds: float = 15) -> int:
        try:
            return self.process.wait(timeout=within_seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end within {within_seconds} s:\n{self.output}")


def eventually(holds: Callable[[], object], tell: Callable[[], str] = str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen in time:\n{tell()}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_all_run_with_prefixed_lines_until_a_signal_stops_them(home: Path, number: int) -> None:
    loud = "import sys, time\nprint('to stderr', file=sys.stderr)\ntime.sleep(99)"
    up = Up(home, {"first": TICKING, "second-one": loud})
    up.says("first      | tick")
    up.says("second-one | to stderr")
    pids = [up.pid_of("first"), up.pid_of("second-one")]
    assert all(is_alive(pid) for pid in pids)
    assert all(os.getsid(pid) == pid for pid in pids), "a Ctrl-C of the terminal must not reach them"
    up.send(number)
    assert up.ends(within_seconds=5) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert read_state(home) is None


def test_what_ignores_sigterm_gets_its_firm_signal_and_then_is_killed_within_15_seconds(home: Path) -> None:
    notes = home.with_name("notes")
    # Ends at SIGUSR1, as a worker hands back its tasks at SIGQUIT, and says when.
    firm = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def end(*_):
    pathlib.Path({str(notes)!r}).write_text('ended')
    raise SystemExit
signal.signal(signal.SIGUSR1, end)
print('hears nothing')
while True: time.sleep(1)"""
    deaf = DEAF.replace("print", "signal.signal(signal.SIGUSR1, signal.SIG_IGN); print")
    up = Up(home, {"firm": firm, "deaf": deaf}, firm=signal.SIGUSR1)
    up.says("| hears nothing", count=2)
    pids = [up.pid_of("firm"), up.pid_of("deaf")]
    up.send(signal.SIGTERM)
    eventually(notes.exists)
    assert 2 < time.monotonic() - up.stopping_at < 8
    assert is_alive(pids[1])
    assert up.ends(within_seconds=15 - (time.monotonic() - up.stopping_at)) == 0
    up.says("Killing what has not stopped: deaf.")
    assert not any(is_alive(pid) for pid in pids)


def test_a_second_ctrl_c_waits_for_nobody(home: Path) -> None:
    up = Up(home, {"deaf": DEAF})
    up.says("| hears nothing")
    up.send(signal.SIGINT)
    up.says("Stopping; once more kills at once.")
    up.send(signal.SIGINT)
    assert up.ends(within_seconds=4) == 0


def test_a_process_that_ends_right_after_its_start_stops_the_stack_and_is_named(home: Path) -> None:
    up = Up(home, {"steady": TICKING, "broken": "print('port 8600 is taken'); raise SystemExit(3)"})
    assert up.ends() == 1
    assert "broken | port 8600 is taken" in up.output
    assert "broken stopped with exit code 3 right after its start; its lines above say why. Stopping all." in up.output
    assert read_state(home) is None


def test_a_killed_process_is_started_again(home: Path) -> None:
    up = Up(home, {"worker": TICKING, "other": TICKING}, restart_delays_seconds=[0.1])
    before, other = up.pid_of("worker"), up.pid_of("other")
    os.kill(before, signal.SIGKILL)
    up.says("worker started with pid", count=2)
    up.says("worker stopped with SIGKILL")
    assert up.pid_of("worker") != before
    assert up.pid_of("other") == other
    assert is_alive(other)


def test_a_process_that_keeps_crashing_is_given_up_after_its_delays(home: Path) -> None:
    # It runs well the first time, for as long as is needed to count as that, and never again.
    crashing = f"""
import pathlib, sys, time
first = pathlib.Path({str(home.with_name("crashed"))!r})
if not first.exists():
    first.touch()
    time.sleep(0.6)
sys.exit(5)"""
    up = Up(home, {"worker": crashing}, restart_delays_seconds=[0.1, 0.3], steady_seconds=0.5)
    assert up.ends() == 1
    assert up.output.count("worker started with pid") == 3
    assert "is started again in 0.1 s." in up.output
    assert "is started again in 0.3 s." in up.output
    assert "worker stopped with exit code 5 and did not run well after 2 restarts. Stopping all." in up.output


PARENT = """
import os, signal, subprocess, sys, time
child = '''
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("CHILD GOT SIGTERM", flush=True))
print("child is ready", flush=True)
while True: time.sleep(1)
'''
started = subprocess.Popen([sys.executable, "-c", child], start_new_session={own_session})
print("child", started.pid)
def end(*_):
    time.sleep(0.5)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True: time.sleep(1)
"""


@pytest.mark.parametrize("own_session", [False, True])
def test_only_the_process_itself_is_asked_to_stop_and_its_children_do_not_outlive_it(
    home: Path, own_session: bool
) -> None:
    up = Up(home, {"worker": PARENT.replace("{own_session}", str(own_session))})
    up.says("child is ready")
    child = int(up.output.split("| child ")[1].split()[0])
    up.send(signal.SIGTERM)
    assert up.ends() == 0
    assert "CHILD GOT SIGTERM" not in up.output
    eventually(lambda: not is_alive(child))


def test_children_of_a_killed_process_are_gone_when_it_is_started_again(home: Path) -> None:
    up = Up(home, {"worker": PARENT.replace("{own_session}", "False")}, restart_delays_seconds=[0.1])
    up.says("child is ready")
    child = int(up.output.split("| child ")[1].split()[0])
    os.kill(up.pid_of("worker"), signal.SIGKILL)
    up.says("worker started with pid", count=2)
    eventually(lambda: not is_alive(child), seconds=5)


def test_a_home_has_one_up(home: Path) -> None:
    up = Up(home, {"first": TICKING})
    up.says("| tick")
    settings = load_settings({**CONFIGURED, "PLUMBLINE_HOME": str(home)})
    spec = ProcessSpec("never", (sys.executable, "-c", "raise SystemExit('started')"))
    with pytest.raises(UsageError, match="already runs"), Stack(settings, [spec], stop_servers_at_exit=True):
        pass
    assert is_alive(up.pid_of("first"))
    up.send(signal.SIGTERM)
    assert up.ends() == 0


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_a_killed_up_left_behind_is_stopped_by_the_next_up_or_down(home: Path, way: str) -> None:
    stubborn = DEAF if way == "down" else "print('hears nothing'); " + TICKING
    killed = Up(home, {"first": stubborn, "parent": PARENT.replace("{own_session}", "True")})
    killed.says("| hears nothing")
    killed.says("child is ready")
    left = [killed.pid_of("first"), killed.pid_of("parent"), int(killed.output.split("| child ")[1].split()[0])]
    killed.process.kill()
    killed.process.wait()
    assert all(is_alive(pid) for pid in left)
    state = read_state(home)
    assert state is not None
    assert not state.is_running
    if way == "down":
        assert stop(home) is True
        assert read_state(home) is None
    else:
        following = Up(home, {"next": TICKING})
        following.says("Stopped what a killed `plumbline up` had left running.")
        following.says("| tick")
        following.send(signal.SIGTERM)
        assert following.ends() == 0
    assert not any(is_alive(pid) for pid in left)


def test_a_pid_that_somebody_else_has_now_is_left_alone(home: Path) -> None:
    killed = Up(home, {"first": TICKING})
    pid = killed.pid_of("first")
    killed.process.kill()
    killed.process.wait()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    other = subprocess.Popen([sys.executable, "-c", TICKING], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        record = home / "up.json"
        record.write_text(record.read_text().replace(str(pid), str(other.pid)))
        assert stop(home) is False
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_down_stops_an_up_and_status_shows_it(home: Path) -> None:
    assert read_state(home) is None
    assert stop(home) is False
    up = Up(home, {"first": TICKING, "second": TICKING})
    up.says("| tick", count=2)
    state = read_state(home)
    assert state is not None
    assert state.is_running
    assert state.pid == up.process.pid
    assert set(state.process_pids) == {"first", "second"}
    assert stop(home) is True
    assert up.ends(within_seconds=5) == 0
    assert not any(is_alive(pid) for pid in state.process_pids.values())
    assert stop(home) is False


def test_down_says_when_an_up_does_not_stop(home: Path) -> None:
    up = Up(home, {"deaf": DEAF})
    up.says("| hears nothing")
    with pytest.raises(ServerUnavailableError, match=f"pid {up.process.pid}"):
        stop(home, timeout_seconds=0.5)
    up.send(signal.SIGTERM)  # the second one
    assert up.ends() == 0


def test_the_embedded_servers_come_first_are_revived_and_go_last(home: Path) -> None:
    code = f"""
import time, psycopg, redis
from workers.embedded import ensure_servers
from workers.settings import load_settings
where = ensure_servers(load_settings())
psycopg.connect(where.database_url).close()
assert redis.Redis.from_url(where.redis_url).ping()
print('reached both')
{TICKING}"""
    up = Up(home, {"worker": code}, env={"PLUMBLINE_LOG_FORMAT": "console"})
    up.says("worker | reached both")
    assert up.output.index("BEFORE ['broker', 'postgresql']") < up.output.index("worker started with pid")
    before = [state.pid for state in server_states(home)]
    for pid in before:
        assert pid
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(state.answers for state in server_states(home)))
    assert not set(before) & {state.pid for state in server_states(home)}
    up.send(signal.SIGTERM)
    assert up.ends() == 0
    assert [state.pid for state in server_states(home)] == [None, None]


def test_the_servers_go_on_where_they_are_meant_to(home: Path) -> None:
    up = Up(home, {"first": TICKING}, env={"PLUMBLINE_LOG_FORMAT": "console"}, stop_servers_at_exit=False)
    up.says("| tick")
    up.send(signal.SIGTERM)
    assert up.ends() == 0
    assert all(state.answers for state in server_states(home))


def test_nothing_is_left_when_what_comes_before_the_start_fails(home: Path) -> None:
    def fail(_endpoints: object) -> None:
        raise ServerUnavailableError("no migration today")

    settings = load_settings({**CONFIGURED, "PLUMBLINE_HOME": str(home)})
    marker = home.with_name("started")
    spec = ProcessSpec("first", (sys.executable, "-c", f"open({str(marker)!r}, 'w')"))
    with (
        pytest.raises(ServerUnavailableError, match="no migration today"),
        Stack(settings, [spec], stop_servers_at_exit=True, before_start=fail),
    ):
        pass
    assert not marker.exists()
    assert read_state(home) is None
    up = Up(home, {"first": TICKING})
    up.says("| tick")


def test_processes_get_the_settings_and_the_format_of_up(home: Path) -> None:
    code = """
import json, os, time
from workers.settings import load_settings
settings = load_settings()
print(settings.home, settings.log_format, len(settings.database_url.get_secret_value()))
time.sleep(99)"""
    up = Up(home, {"first": code})
    up.says(f"first | {home} console {len(CONFIGURED['PLUMBLINE_DATABASE_URL'])}")


def test_json_lines_stay_json_lines(home: Path) -> None:
    code = 'import time\nprint(\'{"event": "tick"}\')\ntime.sleep(99)'
    up = Up(home, {"first": code}, env={**CONFIGURED, "PLUMBLINE_LOG_FORMAT": "json"})
    up.says("tick")
    assert '{"event": "tick"}' in up.output.splitlines()


def test_a_secret_that_a_process_prints_is_masked(home: Path) -> None:
    up = Up(home, {"first": "import time\nprint('broker redis://:hunter2@h/0')\ntime.sleep(99)"})
    up.says("first | broker redis://***@h/0")
    assert "hunter2" not in up.output


def test_up_stops_when_nobody_reads_its_output_any_more(home: Path) -> None:
    reader, writer = os.pipe()
    settings = load_settings({**CONFIGURED, "PLUMBLINE_HOME": str(home)})
    spec = ProcessSpec("first", (sys.executable, "-c", TICKING))
    with os.fdopen(writer, "w") as output, Stack(settings, [spec], stop_servers_at_exit=True, output=output) as stack:
        os.close(reader)
        eventually(lambda: stack.check() == "Nobody reads the output any more")


def test_the_stack_of_a_machine_is_complete_and_no_command_line_shows_a_secret() -> None:
    settings = load_settings({**CONFIGURED, "PLUMBLINE_FLOWER_BASIC_AUTH": "ann:hunter2", "PLUMBLINE_FLOWER_PORT": "7"})
    specs = {spec.name: spec for spec in default_processes(settings)}
    assert list(specs) == ["worker", "urgent", "beat", "api", "flower"]
    assert "hunter2" not in " ".join(word for spec in specs.values() for word in spec.argv)
    assert specs["flower"].env == {"FLOWER_BASIC_AUTH": "ann:hunter2"}
    assert "--port=7" in specs["flower"].argv
    assert specs["worker"].firm_signal == signal.SIGQUIT
    assert specs["beat"].firm_signal is None
    assert specs["worker"].argv[specs["worker"].argv.index("-Q") + 1].split(",") >= ["urgent"]
