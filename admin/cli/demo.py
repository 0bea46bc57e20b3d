"""`plumbline demo`: the whole system once, on simulated sources and really executed tests, checked at the end.

What belongs here: the steps, in the order in which a newcomer would type them, and the clearing up. What does not: what
the commands do. Every step is a process of its own that finds the others through HOME, as a person's would.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from admin.cli import output
from admin.cli.work import counted
from models.errors import PlumblineError, UsageError

if TYPE_CHECKING:
    from models.store.session import Database

app = typer.Typer()

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HOME_NAME = ".plumbline-demo"
MARKER = "demo.json"
"""A file in HOME that says that the folder is a demo's and may be removed, and which processes are in it."""
PROJECT = "Web shop"
TOKEN_VARIABLE = "SIMULATED_TOKEN"  # noqa: S105  # the name of a variable
START_SECONDS = 90.0
SETTLE_SECONDS = 120.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.1
SEEDED = ("--tenant", "Larkspur Logistics", "--engineers", "8", "--years", "1", "--results", "4000")
"""A small company with a year of past, so that two tenants are seen side by side."""
CHANGES_COUNT = 20
LOG_LINES = 12
TESTS_FAILED = 1
"""What pytest exits with where it ran and some tests failed, which some of the examples do on purpose."""


class DemoError(PlumblineError):
    """The demo has failed."""


class Amounts(NamedTuple):
    """How much there is to see."""

    issues: int
    merge_requests: int
    runs: int
    seed: int


@app.command()
def demo(
    issues: Annotated[int, typer.Option("--issues", metavar="N", min=1, help="Issues of the simulated Jira.")] = 2_000,
    merge_requests: Annotated[
        int, typer.Option("--merge-requests", metavar="N", min=1, help="Merge requests of the simulated GitLab.")
    ] = 300,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, max=100, help="How often the example tests are executed.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="The same seed makes the same history.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep HOME; in a terminal, keep everything running until Ctrl-C.")
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="PATH", help=f"Folder of its own; PLUMBLINE_HOME or {HOME_NAME} otherwise."),
    ] = None,
) -> None:
    """Run the whole system once on simulated sources and really executed tests, and check every row.

    It makes a fresh HOME, and stops and removes all that it made. Servers that are configured are not used.

    Example:
        plumbline demo
        plumbline demo --issues 20000 --merge-requests 1000 --keep
    """
    _check_tests_can_run()
    began = time.monotonic()
    folder = _home(home)
    amounts = Amounts(issues, merge_requests, runs, seed)
    with _ended_by_signals(), ExitStack() as undo:
        _claim(folder)
        stage = _Stage(folder, undo)
        has_failed = False
        try:
            proven = _play(stage, amounts)
            if keep and sys.stdin.isatty():
                stage.wait_for_interrupt()
        except Exception as error:
            has_failed = True
            said = error.message if isinstance(error, PlumblineError) else f"{type(error).__name__}: {error}"
            raise DemoError(f"{said}\nLogs are in {folder / 'logs'}; the next demo removes them.") from error
        finally:
            with _uninterrupted():
                undo.close()
                _stop_everything(folder)
                if not keep and not has_failed:
                    shutil.rmtree(folder)
    seconds = time.monotonic() - began
    output.say(f"Proven in {seconds:.0f} s: {proven}")
    if keep:
        output.note(f"HOME is kept; `PLUMBLINE_HOME={folder} plumbline up` goes on with it.")


def _play(stage: _Stage, amounts: Amounts) -> str:
    """All steps; returns what they have proven."""
    stage.say(f"All of this runs in {stage.home}; to type it yourself:")
    for name, value in stage.told.items():
        stage.dim(f"$ export {name}={value}")
    _start(stage, amounts)
    _connect(stage)
    database = stage.database()
    results = [_execute_tests(stage, number) for number in range(1, amounts.runs + 1)]
    requests_before = stage.requests_count()
    began_at = stage.now()
    with stage.step("First sync of everything") as step:
        stage.type("sync", "--wait")
        first = stage.settled(database, since=began_at)
        first_requests = stage.requests_count() - requests_before
        step.tell(f"{first}, {first_requests:,} requests")
    with stage.step("Changes at the sources, and a sync of what changed") as step:
        changed = stage.change_sources(CHANGES_COUNT)
        requests_before, began_at = stage.requests_count(), stage.now()
        stage.type("sync", "--wait")
        second = stage.settled(database, since=began_at)
        requests = stage.requests_count() - requests_before
        step.tell(f"{counted(changed, 'object')} changed: {second}, {requests:,} requests")
    with stage.step("A made-up company beside it, as a tenant of its own"):
        stage.type("seed", *SEEDED, "--seed", str(amounts.seed))
    with stage.step("Summaries and read models up to date"):
        stage.type("jobs", "run", "summarise.all", "--wait")
        stage.settled(database, since=began_at)
    with stage.step("The report"):
        stage.type("report", PROJECT, is_shown=True)
    with stage.step("Every row compared with its source"):
        stage.type("verify", is_shown=True)
    with stage.step("Every summary and read model compared with one computed from nothing"):
        stage.type("summaries", "rebuild", "--check", is_shown=True)
        stage.type("read-models", "rebuild", "--check", is_shown=True)
    return (
        f"{first.read:,} records of Jira and GitLab synced at {first.rows_per_second:,.0f} rows/s and "
        f"{counted(sum(results), 'result')} of {counted(amounts.runs, 'executed test run')} ingested; every row equals "
        f"its source, every summary equals a rebuild, and {changed} changes took {requests:,} requests after "
        f"{first_requests:,}."
    )


def _start(stage: _Stage, amounts: Amounts) -> None:
    """Start everything at once, and wait for one after the other."""
    jira_port, gitlab_port = str(stage.ports["jira"]), str(stage.ports["gitlab"])
    seed = ("--seed", str(amounts.seed))
    with stage.step("A simulated Jira") as step:
        stage.start("jira", "simulate", "jira", "--port", jira_port, "--issues", str(amounts.issues), *seed)
        many = ("--merge-requests", str(amounts.merge_requests))
        stage.start("gitlab", "simulate", "gitlab", "--port", gitlab_port, *many, *seed)
        stage.start("up", "up")
        stage.wait_for(f"{stage.url('jira')}/__sim/clock", "jira")
        step.tell(f"{counted(amounts.issues, 'issue')} with two years of history at {stage.url('jira')}")
    with stage.step("A simulated GitLab") as step:
        stage.wait_for(f"{stage.url('gitlab')}/__sim/clock", "gitlab")
        step.tell(f"{counted(amounts.merge_requests, 'merge request')} at {stage.url('gitlab')}")
    with stage.step("PostgreSQL, broker, workers, beat, API and Flower") as step:
        stage.wait_for(f"{stage.url('api')}/readyz", "up")
        stage.wait_for(f"{stage.url('flower')}/healthcheck", "up")
        step.tell(f"API at {stage.url('api')}, Flower at {stage.url('flower')}")


def _connect(stage: _Stage) -> None:
    token = ("--token-env", TOKEN_VARIABLE)
    with stage.step("Two connections"):
        user = ("--user", "sim@example.test")
        stage.type("connection", "add", "jira", "jira", "--url", stage.url("jira"), *user, *token)
        stage.type("connection", "add", "gitlab", "gitlab", "--url", stage.url("gitlab"), *token)
    with stage.step("What to read from them, and which project it feeds"):
        stage.type("scope", "add", "jira", "PAY", "--project", PROJECT)
        stage.type("scope", "add", "gitlab", "acme/payments", "--project", PROJECT)


def _execute_tests(stage: _Stage, number: int) -> int:
    """Execute the example suite for real and take its results in; returns how many there are."""
    with stage.step(f"Test run {number}") as step:
        results = stage.home / "results" / str(number)
        stage.run_tests(number, results)
        count = len(list(results.glob("*-result.json")))
        if not count:
            raise DemoError(f"Test run {number} left no results in {results}.")
        build = f"demo {number}"
        stage.type(
            *("ingest", "allure", str(results), "--project", PROJECT, "--commit", _git("rev-parse", "HEAD")),
            *("--branch", _git("rev-parse", "--abbrev-ref", "HEAD"), "--build", build),
        )
        step.tell(f"{counted(count, 'result')}, the failing and flaky ones among them")
    return count


class SyncNumbers(NamedTuple):
    """What syncing took."""

    read: int
    written: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows written; 0 where there were none."""
        return self.written / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{counted(self.read, 'record')} read, {counted(self.written, 'row')} written in {self.seconds:.1f} s "
            f"({self.rows_per_second:,.0f} rows/s)"
        )


class _Step:
    """One step; what it tells stands in its line."""

    def __init__(self) -> None:
        self.told = ""

    def tell(self, what: str) -> None:
        self.told = what


class _Stage:
    """Where the demo plays: HOME, ports, and the processes that are in it."""

    def __init__(self, home: Path, undo: ExitStack) -> None:
        self.home = home
        self.ports = dict(zip(("jira", "gitlab", "api", "flower"), _free_ports(4), strict=True))
        self._undo = undo
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._steps_count = 0
        self.told = {
            "PLUMBLINE_HOME": str(home),
            "PLUMBLINE_API_PORT": str(self.ports["api"]),
            "PLUMBLINE_FLOWER_PORT": str(self.ports["flower"]),
            TOKEN_VARIABLE: "sim-token",
        }
        self._generated = {
            "PLUMBLINE_FLOWER_BASIC_AUTH": f"demo:{secrets.token_urlsafe(12)}",
            "PLUMBLINE_LOG_FORMAT": "json",
        }
        (home / "logs").mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: nothing that is configured for the real system, and nothing of a test that runs us."""
        from workers.settings import inherited_environment

        inherited = {name: value for name, value in inherited_environment().items() if not name.startswith("PYTEST_")}
        return {**inherited, **self._generated, **self.told}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def say(self, text: str) -> None:
        output.say(text)
        sys.stdout.flush()

    def dim(self, text: str) -> None:
        from rich.text import Text

        output.console().print(Text(output.printable(text), style="dim"), soft_wrap=True)
        sys.stdout.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[_Step]:
        """One step of the demo: its commands dimmed, and at its end a line with its time."""
        self._steps_count += 1
        began = time.monotonic()
        step = _Step()
        yield step
        seconds = time.monotonic() - began
        told = f": {step.told}" if step.told else ""
        self.say(f"{self._steps_count:>2}. {title}{told} [{seconds:.1f} s]")

    def start(self, name: str, *arguments: str) -> None:
        """Start a command that goes on in the background, with its output in a log."""
        self.dim(f"$ plumbline {_typed(arguments)} &")
        with (self.home / "logs" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "admin.cli", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is ours; each is stopped in its turn
            )
        self._processes[name] = process
        self._undo.callback(_stop, process)
        _remember(self.home, self._processes.values())

    def type(self, *arguments: str, is_shown: bool = False) -> None:
        """Run a command to its end; it must succeed.

        Args:
            arguments: of `plumbline`.
            is_shown: whether its output is what the demo shows; else it is shown only where it fails.
        """
        self.dim(f"$ plumbline {_typed(arguments)}")
        command = [sys.executable, "-m", "admin.cli", *arguments]
        self._run(f"plumbline {_typed(arguments)}", command, self.environment, is_shown=is_shown)

    def run_tests(self, number: int, results: Path) -> None:
        """Execute the example suite; some of its tests fail on purpose."""
        self.dim(f"$ RUN_NUMBER={number} pytest {EXAMPLES / 'tests'} --alluredir={results}")
        command = [sys.executable, "-m", "pytest", str(EXAMPLES / "tests"), "--quiet", f"--alluredir={results}"]
        environment = {**self.environment, "RUN_NUMBER": str(number), "PYTHONDONTWRITEBYTECODE": "1"}
        self._run(f"test run {number}", command, environment, is_shown=False, allowed=(0, TESTS_FAILED))

    def _run(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        is_shown: bool,
        allowed: Sequence[int] = (0,),
    ) -> None:
        log_path = self.home / "logs" / "commands.log"
        with log_path.open("ab") as log:
            log.write(f"$ {name}\n".encode())
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(  # noqa: S603  # our own command, or pytest
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=None if is_shown else log,
                # Progress is drawn where somebody watches.
                stderr=None if is_shown or sys.stderr.isatty() else log,
                start_new_session=True,
            )
        try:
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
        if code not in allowed:
            with log_path.open("rb") as log:
                log.seek(begin)
                said = log.read().decode(errors="replace")
            raise DemoError(f"`{name}` ended with {code}. {_last_lines(said)}".rstrip())

    def wait_for(self, url: str, name: str) -> None:
        """Wait until a process of ours answers with 200."""
        import requests

        deadline = time.monotonic() + START_SECONDS
        answer = "nothing"
        while time.monotonic() < deadline:
            code = self._processes[name].poll()
            if code is not None:
                said = (self.home / "logs" / f"{name}.log").read_text(errors="replace")
                raise DemoError(f"`plumbline {name}` ended with {code}. {_last_lines(said)}")
            with suppress(requests.RequestException):
                response = requests.get(url, timeout=5)
                if response.ok:
                    return
                answer = response.text[:500]
            time.sleep(LOOK_SECONDS)
        raise DemoError(f"{url} did not answer within {START_SECONDS:.0f} s; last it said {answer}.")

    def database(self) -> Database:
        """The demo's database, for looking at its jobs."""
        from workers.runtime import Runtime
        from workers.settings import load_settings

        database = Runtime(load_settings(self.environment), role="demo").database
        self._undo.callback(database.close)
        return database

    def now(self) -> datetime:
        """The time by the clock that jobs are stamped with: everything is on this machine."""
        from datetime import UTC

        return datetime.now(UTC)

    def settled(self, database: Database, *, since: datetime) -> SyncNumbers:
        """Wait until no job is left, beat's among them, and add up what was synced.

        Args:
            database: of the demo.
            since: jobs that were asked for earlier do not count.
        """
        from models.store import jobs

        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            with database.transaction() as session:
                counts = jobs.counts(session)
                rows = jobs.listing(session, limit=10_000)
            if not counts.waiting and not counts.running:
                break
            if time.monotonic() > deadline:
                raise DemoError(f"After {SETTLE_SECONDS:.0f} s {counts.waiting} jobs wait and {counts.running} run.")
            time.sleep(LOOK_SECONDS)
        failed = [row for row in rows if row.status in {"failed", "lost"}]
        if failed:
            raise DemoError(f"Job {failed[0].id} ({failed[0].task}) failed: {failed[0].error}")
        synced = [row for row in rows if row.task.startswith("collect.") and row.created_at >= since]
        return SyncNumbers(
            read=sum(row.rows_read for row in synced),
            written=sum(row.rows_written for row in synced),
            seconds=(max(row.finished_at for row in synced) - min(row.started_at for row in synced)).total_seconds()
            if synced
            else 0.0,
        )

    def requests_count(self) -> int:
        """How many requests the simulated sources were asked so far."""
        return sum(int(self._control("GET", name, "requests")["count"]) for name in ("jira", "gitlab"))

    def change_sources(self, count: int) -> int:
        """Make so many changes at each source, as its users would; returns how many objects they touched."""
        changed: set[str] = set()
        for name in ("jira", "gitlab"):
            self.dim(f"$ curl {self.url(name)}/__sim/mutate --data '{{\"updates\": {count}}}'")
            changed.update(self._control("POST", name, "mutate", {"updates": count})["changed"])
        return len(changed)

    def _control(self, method: str, name: str, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        import requests

        response = requests.request(method, f"{self.url(name)}/__sim/{what}", json=body, timeout=60)
        response.raise_for_status()
        return dict(response.json())

    def wait_for_interrupt(self) -> None:
        """Leave everything running until Ctrl-C."""
        self.say(f"All goes on: API {self.url('api')}, Flower {self.url('flower')}. Ctrl-C stops it.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)


# --- the folder and its processes -------------------------------------------------------------------------------


def _home(given: Path | None) -> Path:
    from workers.settings import load_settings

    if given is not None:
        return given.expanduser().resolve()
    settings = load_settings()
    return settings.home if "home" in settings.model_fields_set else Path.cwd() / HOME_NAME


def _claim(home: Path) -> None:
    """Make HOME afresh. What a killed demo left in it is stopped and removed; anything else is left alone.

    Raises:
        UsageError: the folder is no demo's, or a demo runs in it.
    """
    import json

    import psutil

    from workers.settings import prepare_home

    marker = home / MARKER
    if marker.exists():
        known = json.loads(marker.read_text())
        if _is_alive(known["demo"]):
            raise UsageError(
                f"A demo runs in {home} already (pid {known['demo'][0]}); name another folder with --home."
            )
        for each in known["processes"]:
            if _is_alive(each):
                psutil.Process(each[0]).terminate()
        _stop_everything(home)
        shutil.rmtree(home)
    elif home.exists() and any(home.iterdir()):
        raise UsageError(f"{home} is in use and no demo's, so it is left alone; name another folder with --home.")
    prepare_home(home)
    _remember(home, ())


def _remember(home: Path, processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Write down which processes are in HOME, in case we are killed."""
    import json

    known = {"demo": _identity(os.getpid()), "processes": [_identity(process.pid) for process in processes]}
    draft = home / f"{MARKER}.new"
    draft.write_text(json.dumps(known))
    draft.replace(home / MARKER)


def _identity(pid: int) -> tuple[int, float]:
    import psutil

    try:
        return pid, psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return pid, 0.0


def _is_alive(identity: Sequence[float]) -> bool:
    """Whether a process is there and the same: pids are used again."""
    pid, created = identity
    return created > 0 and abs(_identity(int(pid))[1] - created) < 1


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it where it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _stop_everything(home: Path) -> None:
    """Stop what `plumbline up` may have left, killed or not, and the embedded servers that a late command started."""
    from workers import supervisor
    from workers.embedded import stop_servers

    supervisor.stop(home)
    stop_servers(home)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does, so that all is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Clear up to the end, however often somebody presses Ctrl-C."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- small things -----------------------------------------------------------------------------------------------


def _check_tests_can_run() -> None:
    import importlib.util

    missing = [
        name for name in ("pytest", "allure_pytest", "pytest_rerunfailures") if not importlib.util.find_spec(name)
    ]
    if missing:
        raise UsageError(
            f"The demo executes tests and needs {', '.join(missing)}; `pip install -e '.[dev]'` brings it."
        )
    if not (EXAMPLES / "tests").is_dir():
        raise UsageError(
            f"The demo executes the tests of {EXAMPLES}, which is not there; run it from the project's folder."
        )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, each once."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _git(*arguments: str) -> str:
    """What git says of the project; a stand-in where it is no checkout."""
    from hashlib import sha1

    git = shutil.which("git")
    if git:
        ended = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
        if ended.returncode == 0 and ended.stdout.strip():
            return ended.stdout.strip()
    return "main" if "--abbrev-ref" in arguments else sha1(b"no checkout", usedforsecurity=False).hexdigest()


def _typed(arguments: Sequence[str]) -> str:
    import shlex

    return shlex.join(arguments)


def _last_lines(said: str) -> str:
    lines = said.strip().splitlines()[-LOG_LINES:]
    return "Its last lines:\n" + "\n".join(f"  {line}" for line in lines) if lines else "It said nothing."
