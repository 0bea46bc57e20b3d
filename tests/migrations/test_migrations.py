"""Migrations: one line of them, up from nothing, down and up again, and no difference from the models."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from models.store.session import Database, check_drift, current_revision, migrate, newest_revision

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))


def test_models_and_database_are_the_same(database: Database) -> None:
    check_drift(database)


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
