"""How migrations run: under an advisory lock, with short lock timeouts, one transaction each.

The database's address comes from `config.attributes["connection"]`, set by `plumbline migrate` and the tests; the
address never stands in a file. The models are imported only to be compared with the database (`alembic check`).
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from models.tables import METADATA

LOCK_TIMEOUT_MS = 4_000
"""A migration that cannot get its lock gives way to the running system and is tried again by the operator."""


def run_migrations(connection: Connection) -> None:
    """Run what the caller asked for on its connection.

    Args:
        connection: open, outside a transaction.
    """
    connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    # Two processes that start at once must not migrate at once; the loser finds nothing left to do.
    connection.execute(text("SET statement_timeout = 0"))
    # What a month's partition is follows from its parent; it is no table that the models could know.
    partitions = set(connection.execute(text("SELECT relname FROM pg_class WHERE relispartition")).scalars())
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        transaction_per_migration=True,
        compare_type=True,
        include_name=lambda name, kind, _parents: kind != "table" or name not in partitions,
        compare_server_default=False,  # PostgreSQL has its own words for defaults; tests compare the catalogues
    )
    with context.begin_transaction():
        context.run_migrations()


run_migrations(context.config.attributes["connection"])
