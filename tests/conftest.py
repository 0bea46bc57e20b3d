"""Fixtures that all tests share: a real PostgreSQL and a real broker, one of each for a test process."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from factories.databases import database_url
from factories.postgresql import throw_away_cluster
from factories.seeded import PLANS
from psycopg import sql
from sqlalchemy.engine import make_url

from admin.cli.seed import fill
from models.store.session import Database, migrate
from workers import runtime
from workers.embedded import EmbeddedServers
from workers.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT.parent / "shared" / "samples"

POSTGRESQL_15 = os.environ.get("PLUMBLINE_TEST_POSTGRESQL_BIN")
"""Where the programs of PostgreSQL 15 are; None: where Debian puts them, if they are there."""

# No test may depend on what the developer's shell happens to say.
for name in [name for name in os.environ if name.startswith("PLUMBLINE_")]:
    del os.environ[name]

# What reads the settings of this process (celeryconfig does) finds servers that do not exist, and starts none.
runtime.use(
    runtime.Runtime(
        load_settings(
            {
                "PLUMBLINE_HOME": tempfile.gettempdir(),
                "PLUMBLINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
                "PLUMBLINE_BROKER_URL": "redis://127.0.0.1:1/0",
                "PLUMBLINE_SECRET_KEYS": Fernet.generate_key().decode(),
            }
        ),
        role="test",
    )
)


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real payloads by other people's systems, where they are beside the project."""
    if not SAMPLES.is_dir():
        pytest.skip("the folder ../shared/samples with real payloads is not here")
    return SAMPLES


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """The embedded servers of this test process, in a home of their own."""
    home = Path(tempfile.mkdtemp(prefix="pl-test-"))
    running = EmbeddedServers(home)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template_url(servers: EmbeddedServers) -> str:
    """A migrated, empty database that others are cloned from."""
    url = servers.start_postgresql()
    with psycopg.connect(url, autocommit=True) as connection:
        # These databases live for a test: that they survive a power cut is worth no waiting for the disk.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    database = Database(url)
    migrate(database)
    database.close()
    return url


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_15_url() -> Iterator[str]:
    """The same on PostgreSQL 15, the oldest that we promise to run on; `make postgresql-15` installs it."""
    programs = Path(POSTGRESQL_15 or "/usr/lib/postgresql/15/bin")
    if POSTGRESQL_15 is None and not programs.is_dir():
        pytest.skip("PostgreSQL 15 is not installed; `make postgresql-15` does that on Debian")
    with throw_away_cluster(programs) as url:
        database = Database(url)
        assert database.ping() // 10_000 == 15, f"{programs} is another version"
        migrate(database)
        database.close()
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so on both versions of PostgreSQL, where it uses a database at all."""
    if metafunc.definition.get_closest_marker("also_on_postgresql_15") and "server_url" in metafunc.fixturenames:
        metafunc.parametrize("server_url", ["embedded", "postgresql_15"], indirect=True)


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> str:
    """The migrated, empty database of the server that this test is about."""
    url: str = request.getfixturevalue(
        "postgresql_15_url" if getattr(request, "param", None) == "postgresql_15" else "template_url"
    )
    return url


@contextmanager
def clone(template_url: str) -> Iterator[Database]:
    """A migrated database, dropped at the end."""
    name = f"test_{next(_numbers)}"
    template = make_url(template_url).database
    admin_url = database_url(template_url, "postgres")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        # Copying files costs a tenth of writing every block through the log, which is what the default does.
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template or "")
            )
        )
    made = Database(database_url(template_url, name))
    try:
        yield made
    finally:
        made.close()
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(server_url: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with clone(server_url) as made:
        yield made


@pytest.fixture(scope="module")
def shared_database(template_url: str) -> Iterator[Database]:
    """A migrated database of the module's own, for tests that do not disturb each other."""
    with clone(template_url) as made:
        yield made


@pytest.fixture(scope="session")
def seeded(template_url: str) -> Iterator[Database]:
    """Two made-up tenants with a year of past (factories/seeded.py); to read, and to change in transactions undone."""
    with clone(template_url) as made:
        for plan in PLANS:
            fill(made, plan, auth="", counts=Counter())
        yield made


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A database of the test's own without any table."""
    name = f"empty_{next(_numbers)}"
    admin_url = database_url(server_url, "postgres")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield database_url(server_url, name)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A PLUMBLINE_HOME of the test's own."""
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Default settings in a home of the test's own."""
    return load_settings({"PLUMBLINE_HOME": str(home)})


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of what could go on for ever is run."""
    parser.addoption("--schedules", type=int, default=12, help="how many random schedules of trouble are run")
