"""What a writer tells the capture of changes beside its name, and which tables' changes are logged.

The triggers that write change_log stand in migrations: they log every writer, not only us. All functions take the
session first and never commit; what a writer says holds until its transaction ends.
"""

from __future__ import annotations

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError

BACKFILL = ":backfill"
"""Ends the source of changes that bring in what happened long ago; nobody is notified of them."""


def say_backfill(session: Session) -> None:
    """Mark the changes of this transaction as those of a backfill; twice is as good as once."""
    session.execute(
        text(
            "SELECT set_config('plumbline.source', regexp_replace(coalesce(nullif(current_setting('plumbline.source', "
            "true), ''), current_setting('application_name')), :backfill || '$', '') || :backfill, true)"
        ),
        {"backfill": BACKFILL},
    )


def stop_logging(session: Session) -> None:
    """Log no change of this transaction. What happens in it cannot be read from change_log, nor replayed."""
    session.execute(text("SELECT set_config('plumbline.capture', 'off', true)"))


def watched_tables(session: Session) -> list[Row[tuple[str, bool, object, object]]]:
    """Every table with the triggers: table_name, is_on, switched_at and switched_by (None where it was never off)."""
    return list(
        session.execute(
            text(
                """
                SELECT c.relname AS table_name, coalesce(s.is_on, true) AS is_on, s.switched_at, s.switched_by
                FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
                LEFT JOIN capture_switches s ON s.table_name = c.relname
                WHERE p.proname = 'capture_changes' AND t.tgname = 'capture_insert'
                    AND c.relnamespace = current_schema()::regnamespace
                ORDER BY 1
                """
            )
        )
    )


def switch(session: Session, table: str, *, is_on: bool) -> None:
    """Log the changes of a table from now on, or no longer; waits for nobody and stops nobody.

    Raises:
        NotFoundError: its changes are not watched.
    """
    names = [row.table_name for row in watched_tables(session)]
    if table not in names:
        raise NotFoundError(f"The changes of {table!r} are not watched; those of these are: {', '.join(names)}.")
    session.execute(
        text(
            """
            INSERT INTO capture_switches (table_name, is_on) VALUES (:table, :is_on)
            ON CONFLICT (table_name) DO UPDATE
            SET is_on = excluded.is_on, switched_at = now(), switched_by = session_user
            WHERE capture_switches.is_on <> excluded.is_on
            """
        ),
        {"table": table, "is_on": is_on},
    )
