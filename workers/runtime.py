"""What one process has: settings, where the servers are, a database, a gate; each made when first used.

Nothing is shared across a fork: a child that finds its parent's objects leaves them alone and makes its own.
"""

from __future__ import annotations

import os
from functools import cached_property

from models.store.session import Database
from workers.embedded import Endpoints, ensure_servers
from workers.gate import RedisGate
from workers.settings import Settings, load_settings


class Runtime:
    """The things that one process has one of."""

    def __init__(self, settings: Settings, *, role: str = "plumbline") -> None:
        """Make nothing yet.

        Args:
            settings: checked.
            role: what `pg_stat_activity` shows after `plumbline `, and change_log as the source of a change.
        """
        self.settings = settings
        self.role = role
        self.pid = os.getpid()

    @cached_property
    def endpoints(self) -> Endpoints:
        """Where database and broker are; starts the embedded ones where nothing else is configured."""
        return ensure_servers(self.settings)

    @cached_property
    def database(self) -> Database:
        """The database of this process."""
        return Database(self.endpoints.database_url, application_name=f"plumbline {self.role}", source=self.role)

    @cached_property
    def gate(self) -> RedisGate | None:
        """The gate that all workers share, or None where the broker is no Redis: then each asks for itself."""
        url = self.endpoints.redis_url
        return RedisGate(url) if url else None

    def close(self) -> None:
        """Close what was used; it is opened again where it is used again."""
        made = vars(self)
        for name in ("database", "gate"):
            thing = made.pop(name, None)
            if thing is not None:
                thing.close()


_current: Runtime | None = None


def current(role: str = "plumbline") -> Runtime:
    """The runtime of this process."""
    global _current  # noqa: PLW0603  # one a process is the point
    if _current is None or _current.pid != os.getpid():
        _current = Runtime(load_settings() if _current is None else _current.settings, role=role)
    return _current


def use(runtime: Runtime) -> None:
    """Make a runtime this process's own; for commands that got their settings as an argument."""
    global _current  # noqa: PLW0603  # see current
    _current = runtime
