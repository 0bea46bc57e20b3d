"""The supervisor of `plumbline up`: one process each for workers, beat, API and Flower, started and stopped together.

What belongs here: which processes make the stack, how they are kept running, and how they end. What does not: the
embedded servers themselves (workers/embedded.py) and what the processes do.

Of honcho we use the sessions, pipes and prefixed output of its processes, and not its Manager, because that one
signals whole process groups (which kills Celery's children in the middle of their tasks), waits five seconds and only
once a first process has ended, and cannot restart anything. Without the Manager a restart with backoff is a few lines,
so a process that was killed, or that crashes after it ran well, is restarted. One that ends by itself right after its
first start has a wrong setting or a taken port, which no restart mends: all others are stopped and `run` returns 1.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self, TextIO

import msgspec
import psutil
import structlog
from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Popen

from models.errors import ServerUnavailableError, UsageError
from workers.embedded import Endpoints, ensure_servers, revive_servers, stop_servers
from workers.logs import mask_text
from workers.queues import ALL_QUEUES, Queue
from workers.settings import PREFIX, Settings, inherited_environment, prepare_home

FIRM_SECONDS = 3
"""After SIGTERM a process has this long until it gets its firm signal. A worker then has its soft shutdown timeout."""
KILL_SECONDS = 13
"""After SIGTERM a process has this long until it is killed; the servers have what is left of 15 seconds."""
STEADY_SECONDS = 30.0
"""A process that has run for this long was started well."""
RESTART_DELAYS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How long a process waits for each restart in a row; after the last one the stack gives up."""
REVIVAL_SECONDS = 5
"""How often it is looked whether the embedded servers are there."""
STACK_VARIABLE = "STACK_OF_PLUMBLINE"
"""Marks every process of one run, whoever started it: an environment is inherited and no pid is reused with it."""

log = structlog.get_logger(__name__)


class ProcessSpec(msgspec.Struct, frozen=True):
    """One process of the stack."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = {}
    """Added to what all of them get: the environment of `up`, and its settings."""
    firm_signal: int | None = None
    """What makes it end soon when SIGTERM only asked it to finish."""


class StackState(msgspec.Struct, kw_only=True):
    """The `up` of a HOME: running, or what is known of the last one."""

    is_running: bool = False
    pid: int
    token: str
    started_at: datetime
    process_pids: dict[str, int] = {}


def default_processes(settings: Settings) -> list[ProcessSpec]:
    """The processes of `plumbline up`. They find the servers as every process does: by asking for them."""
    celery = (sys.executable, "-m", "celery", "-A", "workers.app", "--quiet")  # no banners

    def worker(name: str, queues: str, concurrency: int) -> ProcessSpec:
        options = ("-n", f"{name}@%h", "-Q", queues, "--concurrency", str(concurrency))
        # SIGTERM lets a worker end its tasks; SIGQUIT gives it the soft shutdown timeout, and then it hands them back.
        return ProcessSpec(name, (*celery, "worker", *options), firm_signal=signal.SIGQUIT)

    host, port, flower_port = settings.api_host, str(settings.api_port), str(settings.flower_port)
    uvicorn = (sys.executable, "-m", "uvicorn", "admin.api.app:app", "--host", host, "--port", port)
    return [
        worker("worker", ALL_QUEUES, settings.worker_concurrency),
        # Planning and webhooks must not wait for a sync of minutes, nor planning for a source that answers slowly.
        worker("urgent", Queue.URGENT, 2),
        ProcessSpec("beat", (*celery, "beat")),
        ProcessSpec("api", (*uvicorn, "--timeout-graceful-shutdown", "2")),
        ProcessSpec(
            "flower",
            (*celery, "flower", f"--address={host}", f"--port={flower_port}", "--logging=warning"),
            # In the environment, because everybody on the machine can read a command line.
            {"FLOWER_BASIC_AUTH": settings.flower_basic_auth.get_secret_value()},
        ),
    ]


def run(
    settings: Settings,
    commands: Sequence[ProcessSpec],
    *,
    stop_servers_at_exit: bool,
    before_start: Callable[[Endpoints], None] | None = None,
    output: TextIO | None = None,
    restart_delays_seconds: Sequence[float] = RESTART_DELAYS_SECONDS,
    steady_seconds: float = STEADY_SECONDS,
) -> int:
    """Run the stack in the main thread until SIGINT, SIGTERM or SIGHUP, or until one of its processes cannot be kept.

    Args:
        settings: given to each process by its environment.
        commands: the processes.
        stop_servers_at_exit: whether the embedded servers are stopped, too.
        before_start: called when the servers are there and no process is; for migrations.
        output: where the processes' lines go; stdout where None.
        restart_delays_seconds: see `RESTART_DELAYS_SECONDS`.
        steady_seconds: see `STEADY_SECONDS`.

    Returns:
        0 when it was asked to stop, 1 when a process could not be kept running.

    Raises:
        UsageError: this HOME has an `up` running.
        ServerUnavailableError: an embedded server does not come up.
    """
    stack = Stack(
        settings,
        commands,
        stop_servers_at_exit=stop_servers_at_exit,
        before_start=before_start,
        output=output,
        restart_delays_seconds=restart_delays_seconds,
        steady_seconds=steady_seconds,
    )
    with _signals_to(stack.ask_to_stop), stack:
        while not stack.is_asked_to_stop.wait(0.1):
            failure = stack.check()
            if failure:
                stack.say(f"{failure}. Stopping all.")
                return 1
        stack.say("Stopping; once more kills at once.")
    return 0


def stop(home: Path, *, timeout_seconds: float = 30) -> bool:
    """Stop the `up` that runs on HOME, from another process, and whatever a killed one left behind.

    Returns:
        Whether there was anything to stop.

    Raises:
        ServerUnavailableError: it did not stop in time.
    """
    state = read_state(home)
    if state is None:
        return False
    if state.is_running:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
    try:
        with _lock(home, wait_seconds=timeout_seconds):
            return _stop_leftovers(home) or state.is_running
    except UsageError:
        raise ServerUnavailableError(
            f"`plumbline up` (pid {state.pid}) has not stopped after {timeout_seconds:g} s."
        ) from None


def read_state(home: Path) -> StackState | None:
    """What is known of the `up` of HOME; None where there is none and none was killed."""
    try:
        state = msgspec.json.decode((home / "up.json").read_bytes(), type=StackState)
    except FileNotFoundError:
        return None
    state.is_running = _is_locked(home)
    return state


class Stack:
    """The processes of one run: start them by entering it, call `check` every now and then, stop them by leaving it."""

    def __init__(
        self,
        settings: Settings,
        commands: Sequence[ProcessSpec],
        *,
        stop_servers_at_exit: bool,
        before_start: Callable[[Endpoints], None] | None = None,
        output: TextIO | None = None,
        restart_delays_seconds: Sequence[float] = RESTART_DELAYS_SECONDS,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self.is_asked_to_stop = threading.Event()
        self._is_in_a_hurry = threading.Event()
        self._settings = settings
        self._stop_servers_at_exit = stop_servers_at_exit
        self._before_start = before_start
        self._output = _Output(output or sys.stdout, settings, width=max(len(spec.name) for spec in commands))
        self._delays_seconds = restart_delays_seconds
        self._steady_seconds = steady_seconds
        self._children = [_Child(spec) for spec in commands]
        self._state = StackState(pid=os.getpid(), token=secrets.token_hex(16), started_at=datetime.now(UTC))
        self._revival_at = 0.0
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        home = self._settings.home
        prepare_home(home)
        with ExitStack() as undo:
            undo.enter_context(_lock(home, wait_seconds=1))  # whoever asks `_is_locked` holds it for a moment
            if _stop_leftovers(home):
                self.say("Stopped what a killed `plumbline up` had left running.")
            self._write_state()
            undo.callback((home / "up.json").unlink, missing_ok=True)
            if self._stop_servers_at_exit:
                undo.callback(stop_servers, home)
            endpoints = ensure_servers(self._settings)
            if self._before_start:
                self._before_start(endpoints)
            undo.callback(self._stop_children)
            for child in self._children:
                if self.is_asked_to_stop.is_set():
                    break
                self._start_child(child)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def ask_to_stop(self) -> None:
        """Make `run` stop everything; when asked again, without waiting for anybody."""
        if self.is_asked_to_stop.is_set():
            self._is_in_a_hurry.set()
        self.is_asked_to_stop.set()

    def check(self) -> str | None:
        """Restart what needs it. Returns why the stack cannot go on, or None where it can."""
        if self._output.is_lost:
            return "Nobody reads the output any more"
        now = time.monotonic()
        if now >= self._revival_at:
            self._revival_at = now + REVIVAL_SECONDS
            try:
                revive_servers(self._settings)
            except ServerUnavailableError as error:
                self.say(error.message)
        for child in self._children:
            failure = self._check_child(child, now)
            if failure:
                return failure
        return None

    def say(self, message: str) -> None:
        """Write a line of our own between those of the processes."""
        self._output.say(message)

    def _check_child(self, child: _Child, now: float) -> str | None:
        if child.process is None:
            if now >= child.restart_at:
                self._start_child(child)
            return None
        code = child.process.poll()
        if code is None:
            return None
        child.end()
        ran_seconds = now - child.started_at
        name, how = child.spec.name, f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if ran_seconds >= self._steady_seconds:
            child.restart_count = 0
        elif child.restart_count == 0 and code >= 0:
            return f"{name} stopped with {how} right after its start; its lines above say why"
        if child.restart_count == len(self._delays_seconds):
            return f"{name} stopped with {how} and did not run well after {child.restart_count} restarts"
        delay_seconds = self._delays_seconds[child.restart_count]
        child.restart_count += 1
        child.restart_at = now + delay_seconds
        self.say(f"{name} stopped with {how} after {ran_seconds:.0f} s and is started again in {delay_seconds:g} s.")
        return None

    def _start_child(self, child: _Child) -> None:
        environment = {
            **inherited_environment(),
            **self._settings.as_environment(),
            PREFIX + "LOG_FORMAT": self._output.log_format,
            "PYTHONUNBUFFERED": "1",
            STACK_VARIABLE: self._state.token,
            **child.spec.env,
        }
        child.start(environment, self._output)
        if child.process:
            self._state.process_pids[child.spec.name] = child.process.pid
            self._write_state()
            self.say(f"{child.spec.name} started with pid {child.process.pid}.")

    def _write_state(self) -> None:
        draft = self._settings.home / f"up.json.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(self._state))
        draft.replace(self._settings.home / "up.json")

    def _stop_children(self) -> None:
        """SIGTERM to each process, the firm signal to those that have one, and SIGKILL to all that is left."""
        begin = time.monotonic()
        is_firm = False
        for child in self._children:
            child.send(signal.SIGTERM)
        while any(child.is_running for child in self._children):
            elapsed_seconds = time.monotonic() - begin
            if elapsed_seconds > FIRM_SECONDS and not is_firm:
                is_firm = True
                for child in self._children:
                    child.send(child.spec.firm_signal)
            if elapsed_seconds > KILL_SECONDS or self._is_in_a_hurry.is_set():
                late = [child.spec.name for child in self._children if child.is_running]
                self.say(f"Killing what has not stopped: {', '.join(late)}.")
                break
            time.sleep(0.05)
        _kill_marked(self._state.token)
        for child in self._children:
            child.end()


class _Child:
    """One process of the stack, restarts included."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restart_count = 0
        self.restart_at = 0.0
        self._reader: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, environment: Mapping[str, str], output: _Output) -> None:
        # In a session of its own: a Ctrl-C in our terminal reaches us alone, and we stop it in the right way.
        self.process = Popen(list(self.spec.argv), shell=False, env=dict(environment), stdin=subprocess.DEVNULL)
        self.started_at = time.monotonic()
        self._reader = threading.Thread(
            target=output.copy, args=(self.spec.name, self.process.stdout), name=self.spec.name, daemon=True
        )
        self._reader.start()

    def send(self, number: int | None) -> None:
        """Send a signal to the process alone: Celery's children must not get it."""
        if self.process and number:
            self.process.send_signal(number)

    def end(self) -> None:
        """Clear away what is left of a process that has ended or was killed."""
        if self.process is None or self._reader is None:
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of dead processes
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=1)  # its last lines say why it ended
        self.process = None


class _Output:
    """The lines of all processes on one stream: prefixed for people, untouched where they are JSON."""

    def __init__(self, stream: TextIO, settings: Settings, width: int) -> None:
        self.log_format = settings.log_format or ("console" if stream.isatty() else "json")
        self.is_lost = False
        self._printer = Printer(stream, width=width, prefix=self.log_format == "console")
        self._colours = get_colours()
        self._colour_of: dict[str, str] = {}
        self._lock = threading.Lock()

    def copy(self, name: str, lines: IO[bytes]) -> None:
        with lines:
            for line in iter(lines.readline, b""):
                self._write(name, mask_text(line.decode(errors="replace")))

    def say(self, message: str) -> None:
        if self.log_format == "console":
            self._write("up", message)
        else:
            log.info("supervisor", message=message)

    def _write(self, name: str, text: str) -> None:
        with self._lock:
            if self.is_lost:
                return  # reading goes on, or the processes would block
            colour = self._colour_of.setdefault(name, next(self._colours))
            # The time of the person who looks at the terminal, as in every line of a terminal.
            now = datetime.now().astimezone()
            try:
                self._printer.write(Message(type="line", data=text, time=now, name=name, colour=colour))
            except OSError:
                self.is_lost = True
                # What is still in the stream's buffer would fail again when it is closed.
                with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), self._printer.output.fileno())


@contextmanager
def _signals_to(ask: Callable[[], None]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        ask()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lock(home: Path, wait_seconds: float) -> Iterator[None]:
    """Be the one `up` of a HOME. The system gives the lock back however we end."""
    with (home / "up.lock").open("a") as file:
        deadline = time.monotonic() + wait_seconds
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise UsageError(f"`plumbline up` already runs on {home}. `plumbline status` shows it.")
            time.sleep(0.02)
        yield


def _is_locked(home: Path) -> bool:
    try:
        with (home / "up.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _marked(token: str) -> list[psutil.Process]:
    """All processes of one run, their children included."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(STACK_VARIABLE) == token
    ]


def _kill_marked(token: str) -> None:
    deadline = time.monotonic() + 2
    while (left := _marked(token)) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _stop_leftovers(home: Path) -> bool:
    """Stop the processes of an `up` that was killed before it could do so. Returns whether there were any."""
    state = read_state(home)
    if state is None:
        return False
    left = _marked(state.token)
    pids = {process.pid for process in left}
    asked = []
    for process in left:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:  # as always, only the process itself and not Celery's children
                process.terminate()
                asked.append(process)
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline and not all(_has_ended(process) for process in asked):
        time.sleep(0.05)
    _kill_marked(state.token)
    (home / "up.json").unlink(missing_ok=True)
    return bool(left)
