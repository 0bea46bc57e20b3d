"""What a command needs of its process: settings, logs to stderr, servers, a database whose schema fits this version.

What belongs here: the ways to get these. What does not: what commands do with them. Commands call one of these inside
their function: `ready()` where they read or write rows, `start()` where they do not.
"""

from __future__ import annotations

from admin.cli import output
from models.errors import PlumblineError
from models.store.session import current_revision, newest_revision
from workers import runtime
from workers.logs import configure_logging
from workers.runtime import Runtime
from workers.settings import load_settings

_started: list[Runtime] = []


class SchemaError(PlumblineError):
    """The database does not have the schema that this version needs."""


def start() -> Runtime:
    """Read the settings and send logs to stderr; a command logs warnings only, unless told otherwise.

    Raises:
        SettingsError: they are wrong.
    """
    settings = load_settings()
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "warning"})
    if output.is_debug.get():
        settings = settings.model_copy(update={"log_level": "debug"})
    configure_logging(settings)
    process = Runtime(settings, role="cli")
    runtime.use(process)
    _started.append(process)
    return process


def close() -> None:
    """Close what the commands of this process have opened."""
    while _started:
        _started.pop().close()


def connected() -> Runtime:
    """Start, and start the embedded servers where none are configured; the database answers, whatever its schema.

    Raises:
        SettingsError: the settings are wrong.
        ServerUnavailableError: a server does not answer.
    """
    process = start()
    process.database.ping()
    return process


def ready() -> Runtime:
    """Start, with a database that has the schema of this version.

    Raises:
        SettingsError: the settings are wrong.
        ServerUnavailableError: a server does not answer.
        SchemaError: the schema is of another version.
    """
    process = connected()
    found, needed = current_revision(process.database), newest_revision()
    if found is None:
        raise SchemaError(f"{where(process)} is empty; run `plumbline migrate`.")
    if found != needed:
        raise SchemaError(
            f"{where(process)} is at version {found} and this Plumbline needs {needed}; run `plumbline migrate`."
        )
    return process


def where(process: Runtime) -> str:
    """The database, in words that begin a sentence."""
    if "postgresql" in process.endpoints.embedded:
        return f"The embedded database in {process.settings.home}"
    return f"The database at {process.database.address}"
