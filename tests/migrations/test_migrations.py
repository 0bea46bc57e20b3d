"""Migrations: one line of them, up from nothing, down and up again, and no difference from the models."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from models.store.session import Database, check_drift, current_revision, migrate, newest_revision
from models.tables import METADATA

pytestmark = pytest.mark.also_on_postgresql_15

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("[0-9]*.py"))


# What `alembic check` does not compare: conditions, defaults, checks, what a deletion does, the values of enums, and by
# what a table is partitioned. The partitions themselves follow from their parents and the day.
DEFINITIONS = """
    WITH partitions AS (SELECT oid, relname FROM pg_class WHERE relispartition)
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid NOT IN (SELECT oid FROM partitions)
    UNION ALL SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename NOT IN (SELECT relname FROM partitions)
    UNION ALL SELECT relname, pg_get_partkeydef(oid) FROM pg_class WHERE relkind = 'p'
    UNION ALL SELECT typname, string_agg(enumlabel, ' ' ORDER BY enumsortorder)
    FROM pg_type t JOIN pg_enum e ON enumtypid = t.oid WHERE typnamespace = 'public'::regnamespace GROUP BY typname
    UNION ALL SELECT attrelid::regclass || '.' || attname,
        concat_ws(' ', format_type(atttypid, atttypmod), attidentity, attgenerated, attnotnull,
            pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND attnum > 0 AND NOT attisdropped
"""


def definitions(database: Database) -> dict[str, str]:
    """Name to definition of everything in a database."""
    with database.transaction() as session:
        found = session.execute(text(DEFINITIONS)).all()
    return {name: definition for name, definition in found if not name.startswith("alembic_version")}


def test_models_and_database_are_the_same(database: Database, empty_database_url: str) -> None:
    check_drift(database)
    of_models = Database(empty_database_url)
    METADATA.create_all(of_models.engine)
    expected, found = definitions(of_models), definitions(database)
    of_models.close()
    assert len(found) > len(METADATA.tables)
    assert found == expected


def test_up_from_empty_down_to_empty_and_up_again(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert current_revision(database) is None
    assert migrate(database) == (None, newest_revision())
    assert migrate(database, "base") == (newest_revision(), None)
    with database.transaction() as session:
        left = session.execute(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relname NOT IN ('alembic_version', 'alembic_version_pkc') "
                "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
                "UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'"
            )
        ).scalars()
        assert list(left) == []
    assert migrate(database) == (None, newest_revision())
    check_drift(database)
    database.close()


def test_two_that_migrate_at_once_end_as_one(empty_database_url: str) -> None:
    databases = [Database(empty_database_url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(migrate, databases))
    assert {after for _, after in results} == {newest_revision()}
    assert [before for before, _ in results].count(None) == 1
    for each in databases:
        each.close()


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_migration_says_what_it_is_and_imports_nothing_of_ours(path: Path) -> None:
    assert path.stem.split("_")[1] in ("expand", "contract")
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert imported <= {"__future__", "sqlalchemy", "alembic"}
