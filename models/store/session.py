"""How the database is reached: one engine a process, explicit short transactions, advisory locks, migrations.

What belongs here: connections and transactions. What does not: any statement about a table.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from models.errors import PlumblineError, ServerUnavailableError, UsageError

STATEMENT_TIMEOUT_SECONDS = 600
LOCK_TIMEOUT_SECONDS = 60
MIGRATION_LOCK = "plumbline:migrate"
MIGRATION_POLL_SECONDS = 0.2
OLDEST_POSTGRESQL = 150000

AS_TENANT = text(
    "SELECT set_config('role', 'plumbline_api', true), set_config('plumbline.tenant_id', :tenant, true), "
    "set_config('plumbline.changed_by', :changed_by, true)"
)

_open_transactions: ContextVar[int] = ContextVar("open_transactions", default=0)


class TransactionOpenError(PlumblineError):
    """A request to the outside or a message to the broker was about to be sent inside a transaction."""


def assert_no_transaction() -> None:
    """Raise where this thread is inside `Database.transaction`: nothing slow may hold rows locked."""
    if _open_transactions.get():
        raise TransactionOpenError


class Database:
    """The database of one process. Made after fork, never shared across it."""

    def __init__(self, url: str, *, application_name: str = "plumbline", source: str = "", pool_size: int = 5) -> None:
        """Connect lazily.

        Args:
            url: `postgresql://…`, as a person writes it.
            application_name: what `pg_stat_activity` shows.
            source: what change_log names as the program that changed a row; the application's name where empty.
            pool_size: connections kept open.
        """
        self.url = make_url(url).set(drivername="postgresql+psycopg")
        self.engine: Engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            connect_args={
                "application_name": application_name,
                "connect_timeout": 10,
                "options": (
                    f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout={LOCK_TIMEOUT_SECONDS}s "
                    f"-c timezone=UTC -c plumbline.source={source}"
                ),
            },
        )

    @contextmanager
    def transaction(self, connection: Connection | None = None) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back on any exception.

        Args:
            connection: the caller's own, for temporary tables that outlive a transaction; None takes one of the pool.

        Raises:
            ServerUnavailableError: the database does not answer; verdict retry.
        """
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            with Session(connection or self.engine) as session, session.begin():
                yield session
        except OperationalError as error:
            if (
                error.connection_invalidated
                or isinstance(error.orig, psycopg.errors.AdminShutdown | None)
                or (isinstance(error.orig, psycopg.OperationalError) and error.orig.sqlstate is None)
            ):
                raise ServerUnavailableError(
                    f"The database at {self.address} does not answer ({_reason(error.orig)})."
                ) from error
            raise
        finally:
            _open_transactions.reset(token)

    @contextmanager
    def tenant_transaction(self, tenant_id: int, *, changed_by: str = "") -> Iterator[Session]:
        """One transaction that sees and writes the rows of one tenant: what the API answers a tenant from.

        Role and tenant end with the transaction, however it ends, so a pooled connection keeps neither. This guards
        against statements that forget the tenant; who may send any statement may also set another one.

        Args:
            tenant_id: whose rows.
            changed_by: who is said to have made the changes, e.g. `user:7`.

        Raises:
            ServerUnavailableError: the database does not answer; verdict retry.
        """
        with self.transaction() as session:
            session.execute(AS_TENANT, {"tenant": str(tenant_id), "changed_by": changed_by})
            yield session

    @contextmanager
    def advisory_lock(self, name: str) -> Iterator[bool]:
        """Hold a session advisory lock on a connection of its own; yields whether it was free.

        The lock dies with the process, so a killed owner never blocks anybody. Does not work through a
        transaction-mode pgbouncer.

        Args:
            name: what is locked, e.g. `window:17`.
        """
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            key = {"key": lock_key(name)}
            is_held = bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar())
            try:
                yield is_held
            finally:
                if is_held and not connection.closed and not connection.invalidated:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    @property
    def address(self) -> str:
        """Where the database is, without a password."""
        return self.url.render_as_string(hide_password=True).replace("+psycopg", "")

    def role_seeing_nothing(self) -> str | None:
        """The login's role where row-level security hides the tenants' rows from it; None where it sees them all.

        Raises:
            ServerUnavailableError: the database does not answer.
        """
        with self.transaction() as session:
            role: str | None = session.execute(
                text(
                    "SELECT rolname FROM pg_roles WHERE rolname = current_user AND NOT rolbypassrls "
                    "AND NOT pg_has_role('plumbline_workers', 'USAGE')"
                )
            ).scalar_one_or_none()
        return role

    def ping(self) -> int:
        """The server's version number, e.g. 180004.

        Raises:
            ServerUnavailableError: it does not answer.
            UsageError: it is older than PostgreSQL 15.
        """
        with self.transaction() as session:
            version = int(session.execute(text("SHOW server_version_num")).scalar_one())
        if version < OLDEST_POSTGRESQL:
            raise UsageError(f"PostgreSQL {version // 10000} is too old; Plumbline needs 15 or later.")
        return version

    def now(self) -> datetime:
        """The server's clock, aware UTC.

        Raises:
            ServerUnavailableError: it does not answer.
        """
        with self.transaction() as session:
            now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _reason(error: BaseException | None) -> str:
    """What libpq says of a connection, without the address before it and the advice after it; never a password."""
    first_line = (str(error).strip() or "no reason given").splitlines()[0]
    return first_line.rpartition("failed: ")[2].removeprefix("FATAL:").strip().rstrip(".")


def lock_key(name: str) -> int:
    """A signed 64-bit key for a lock's name, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def driver(session: Session) -> psycopg.Connection[Any]:
    """The psycopg connection under a session, for COPY."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101  # the engine is always made with psycopg
    return connection


def commit_without_waiting(session: Session) -> None:
    """Let this transaction's commit not wait for the disk.

    A crash of the database may then lose the last half second of commits, in order and none by half: a window goes on
    from where the database remembers it. Only for work that can be done again.
    """
    session.execute(text("SET LOCAL synchronous_commit = off"))


def _alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the schema to a revision, under an advisory lock.

    Args:
        database: where.
        revision: `head`, `base`, a revision, or relative (`-1`, `+1`).

    Returns:
        The revisions before and after.

    Raises:
        UsageError: a migration needs something first that a person has to do; it says what.
    """
    with database.engine.connect() as connection:
        _wait_for_migration_lock(connection)
        try:
            before = MigrationContext.configure(connection).get_current_revision()
            connection.rollback()
            config = _alembic_config(connection)
            if _goes_back(before, revision):
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
            after = MigrationContext.configure(connection).get_current_revision()
            connection.rollback()
        except DBAPIError as error:
            connection.rollback()
            if isinstance(error.orig, psycopg.errors.RaiseException):  # raised by the migration, for a person to read
                raise UsageError(error.orig.diag.message_primary) from error
            raise
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": lock_key(MIGRATION_LOCK)})
            connection.commit()
    return before, after


def _wait_for_migration_lock(connection: Connection) -> None:
    """Ask again and again: one statement that waits would hold up an index that another process builds concurrently."""
    while not connection.execute(
        text("SELECT pg_try_advisory_lock(:key)"), {"key": lock_key(MIGRATION_LOCK)}
    ).scalar_one():
        connection.rollback()
        time.sleep(MIGRATION_POLL_SECONDS)
    connection.commit()


def is_downgrade(database: Database, revision: str) -> bool:
    """Whether migrating to a revision would take away what later ones have made."""
    return _goes_back(current_revision(database), revision)


def _goes_back(current: str | None, revision: str) -> bool:
    if revision == "base" or revision.startswith("-"):
        return True
    if current is None or revision in {"head", "heads"} or revision.startswith("+"):
        return False
    script = ScriptDirectory.from_config(_alembic_config())
    older = {each.revision for each in script.walk_revisions("base", current)} - {current}
    target = script.get_revision(revision)
    return target is not None and target.revision in older


def newest_revision() -> str | None:
    """The revision that this version of the code expects."""
    return ScriptDirectory.from_config(_alembic_config()).get_current_head()


def current_revision(database: Database) -> str | None:
    """The revision of the database, or None where it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_drift(database: Database) -> None:
    """Raise alembic's `AutogenerateDiffsDetected` where the models and the database differ."""
    with database.engine.connect() as connection:
        command.check(_alembic_config(connection))
