"""Migrations that run beside a working system: what a migration after the first must not do, or must give a reason for.

A reason is a comment `# Safe: …` right above the statement. What a downgrade does is not looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

AUTOCOMMIT = "with op.get_context().autocommit_block():"
VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("[0-9]*.py"))

REMOVALS = ("drop_table", "drop_column", "drop_constraint", "drop_index", "rename_table")
CHECKS = ("create_foreign_key", "create_check_constraint")
PLACE_OF_TABLE = {
    "add_column": 0,
    "alter_column": 0,
    "create_index": 1,
    "create_unique_constraint": 1,
    "create_foreign_key": 1,
    "create_check_constraint": 1,
}

# In SQL, with what mends it. `{table}` is the table where the statement names one.
SQL_RULES = (
    (
        r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)(\S+ )?ON (ONLY )?(?P<table>\w+)",
        "builds an index without CONCURRENTLY",
    ),
    (r"ALTER TABLE (?P<table>\w+) ADD CONSTRAINT (?!.*NOT VALID)", "checks every row under a lock; add it NOT VALID"),
    (r"ALTER TABLE (?P<table>\w+) ALTER (COLUMN )?\w+ (SET DATA )?TYPE", "changes a type, which rewrites the table"),
    (r"ALTER TABLE (?P<table>\w+) ALTER (COLUMN )?\w+ SET NOT NULL", "reads every row under an exclusive lock"),
    (
        r"ALTER TABLE (?P<table>\w+) ADD (COLUMN )?\w+ (?!.*DEFAULT).*NOT NULL",
        "adds a NOT NULL column without a default",
    ),
    (r"UPDATE (?P<table>\w+) SET (?!.*WHERE)", "locks every row; do it in batches, as a job"),
    (r"\b(LOCK TABLE|VACUUM FULL|CLUSTER) (?P<table>\w+)", "keeps readers out"),
)
SQL_REMOVAL = re.compile(r"\b(DROP (TABLE|COLUMN|CONSTRAINT|INDEX|TYPE)|RENAME (COLUMN |CONSTRAINT )?(\w+ )?TO)\b")


def mistakes(source: str, *, is_expand: bool) -> list[str]:
    """What a migration does that could stop or break a working system, one sentence each.

    Args:
        source: the migration's text.
        is_expand: whether the code that runs before it must go on working after it.
    """
    lines = source.splitlines()
    calls = list(operations(ast.parse(source)))
    new_tables = {text_of(call.args[0]) for name, call in calls if name == "create_table"}
    new_tables |= set(re.findall(r"CREATE TABLE (\w+)", " ".join(sql_of(call) for _, call in calls)))
    if "concurrently" in source.lower() and "autocommit_block()" not in source:
        return [
            "CONCURRENTLY works in `with op.get_context().autocommit_block():` only, as the last thing that is done"
        ]
    return [
        f"line {call.lineno}: {sentence}"
        for name, call in calls
        if not has_reason(lines, call.lineno)
        for sentence in (
            *of_operation(name, call, new_tables, is_expand=is_expand),
            *of_sql(sql_of(call) if name == "execute" else "", new_tables, is_expand=is_expand),
        )
    ]


def operations(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every `op.…(…)` outside of `downgrade`."""
    for part in tree.body:
        if isinstance(part, ast.FunctionDef) and part.name == "downgrade":
            continue
        for node in ast.walk(part):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="op"), attr=name)):
                    yield name, node


def of_operation(name: str, call: ast.Call, new_tables: set[str], *, is_expand: bool) -> Iterator[str]:
    if is_expand and name in REMOVALS:
        yield f"{name} in an expand: the code that still runs needs it"
    place = PLACE_OF_TABLE.get(name)
    if place is None or text_of(call.args[place]) in new_tables:
        return
    options = {option.arg: option.value for option in call.keywords}
    if name == "create_index" and not is_true(options.get("postgresql_concurrently")):
        yield "builds an index without CONCURRENTLY on a table that is written to"
    if name in CHECKS and not is_true(options.get("postgresql_not_valid")):
        yield "checks every row under a lock; add it NOT VALID and validate it in the next migration"
    if name == "create_unique_constraint":
        yield "builds an index under an exclusive lock; build it CONCURRENTLY and attach it"
    if name == "alter_column":
        if "new_column_name" in options and is_expand:
            yield "renames in an expand: the code that still runs needs the old name"
        if "type_" in options:
            yield "changes a type, which rewrites the table"
        if "nullable" in options and not is_true(options["nullable"]):
            yield "reads every row under an exclusive lock; check NOT NULL by a constraint that is NOT VALID first"
    if name == "add_column" and isinstance(column := call.args[1], ast.Call):
        of_column = {option.arg: option.value for option in column.keywords}
        if "nullable" in of_column and not is_true(of_column["nullable"]) and "server_default" not in of_column:
            yield "adds a NOT NULL column without a default: it fails where there are rows, and old writers fail after"


def of_sql(sql: str, new_tables: set[str], *, is_expand: bool) -> Iterator[str]:
    for statement in sql.split(";"):
        if is_expand and SQL_REMOVAL.search(statement):
            yield "drops or renames in an expand: the code that still runs needs it"
        for pattern, sentence in SQL_RULES:
            match = re.search(pattern, statement)
            if match and match["table"] not in new_tables:
                yield sentence


def sql_of(call: ast.Call) -> str:
    """The SQL of a call on one line, `x` where it is put together from a name."""
    written = call.args[0] if call.args else None
    if isinstance(written, ast.Call) and written.args:  # sa.text(…)
        written = written.args[0]
    parts = written.values if isinstance(written, ast.JoinedStr) else [written]
    return " ".join("".join(text_of(part) for part in parts if part is not None).split())


def text_of(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "x"


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def has_reason(lines: list[str], number: int) -> bool:
    above = number - 2
    while lines[above].lstrip().startswith("#"):
        if re.search(r"# Safe: \w+ \w+", lines[above]):
            return True
        above -= 1
    return False


@pytest.mark.parametrize("path", VERSIONS[1:], ids=lambda path: path.stem)
def test_migration_does_nothing_that_stops_a_working_system(path: Path) -> None:
    assert mistakes(path.read_text(), is_expand="_expand_" in path.stem) == []


def upgrade(*statements: str) -> str:
    return "def upgrade() -> None:\n" + "".join(f"    {statement}\n" for statement in statements)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ('op.add_column("bugs", sa.Column("a", sa.Text(), nullable=False))', "NOT NULL column without a default"),
        ('op.create_index("ix_bugs_a", "bugs", ["a"])', "without CONCURRENTLY"),
        ('op.create_index("ix_bugs_a", table, ["a"])', "without CONCURRENTLY"),
        ('op.create_foreign_key("fk", "bugs", "users", ["a"], ["id"])', "NOT VALID"),
        ('op.create_check_constraint("ck", "bugs", "a > 0")', "NOT VALID"),
        ('op.create_unique_constraint("uq", "bugs", ["a"])', "exclusive lock"),
        ('op.alter_column("bugs", "a", new_column_name="b")', "renames in an expand"),
        ('op.alter_column("bugs", "a", type_=sa.BigInteger())', "changes a type"),
        ('op.alter_column("bugs", "a", nullable=False)', "reads every row"),
        ('op.drop_column("bugs", "a")', "drop_column in an expand"),
        ('op.drop_table("bugs")', "drop_table in an expand"),
        ('op.rename_table("bugs", "defects")', "rename_table in an expand"),
        ('op.execute("CREATE INDEX ix ON bugs (a)")', "without CONCURRENTLY"),
        ('op.execute(f"CREATE UNIQUE INDEX {name} ON bugs (a)")', "without CONCURRENTLY"),
        ('op.execute("ALTER TABLE bugs ADD CONSTRAINT c CHECK (a > 0)")', "NOT VALID"),
        ('op.execute(sa.text("ALTER TABLE bugs ALTER COLUMN a TYPE bigint"))', "changes a type"),
        ('op.execute("ALTER TABLE bugs ALTER a SET NOT NULL")', "reads every row"),
        ('op.execute("ALTER TABLE bugs ADD COLUMN a text NOT NULL")', "NOT NULL column without a default"),
        ('op.execute("ALTER TABLE bugs RENAME COLUMN a TO b")', "renames in an expand"),
        ('op.execute("DROP TYPE severity")', "drops or renames in an expand"),
        ('op.execute("UPDATE bugs SET a = 1")', "locks every row"),
        ('op.execute("LOCK TABLE bugs IN ACCESS EXCLUSIVE MODE")', "keeps readers out"),
    ],
)
def test_the_linter_finds(statement: str, sentence: str) -> None:
    (found,) = mistakes(upgrade(statement), is_expand=True)
    assert found.startswith("line 2: ")
    assert sentence in found


@pytest.mark.parametrize(
    "statements",
    [
        ['op.add_column("bugs", sa.Column("a", sa.Text(), nullable=True))'],
        ['op.add_column("bugs", sa.Column("a", sa.Text(), server_default="", nullable=False))'],
        [AUTOCOMMIT, '    op.create_index("ix_bugs_a", "bugs", ["a"], postgresql_concurrently=True)'],
        ['op.create_table("news", sa.Column("a", sa.Text()))', 'op.create_index("ix_news_a", "news", ["a"])'],
        ['op.execute("CREATE TABLE news (a text)")', 'op.execute("CREATE INDEX ix_news_a ON news (a)")'],
        ['op.create_foreign_key("fk", "bugs", "users", ["a"], ["id"], postgresql_not_valid=True)'],
        ['op.execute("ALTER TABLE bugs ADD CONSTRAINT c CHECK (a > 0) NOT VALID")'],
        ['op.execute("ALTER TABLE bugs VALIDATE CONSTRAINT c")'],
        [AUTOCOMMIT, '    op.execute("CREATE INDEX CONCURRENTLY ix ON bugs (a)")'],
        ['op.execute("UPDATE bugs SET a = 1 WHERE id = 7")'],
        ["# Safe: the table has ten rows.", 'op.create_index("ix_bugs_a", "bugs", ["a"])'],
    ],
)
def test_the_linter_lets_pass(statements: list[str]) -> None:
    assert mistakes(upgrade(*statements), is_expand=True) == []


def test_concurrently_needs_a_block_without_a_transaction() -> None:
    (found,) = mistakes(upgrade('op.execute("CREATE INDEX CONCURRENTLY ix ON bugs (a)")'), is_expand=True)
    assert "autocommit_block" in found


def test_a_comment_is_no_reason_and_a_reason_is_for_one_statement() -> None:
    index = 'op.create_index("ix_bugs_a", "bugs", ["a"])'
    assert len(mistakes(upgrade("# It is wanted.", index), is_expand=True)) == 1
    assert len(mistakes(upgrade("# Safe: the table has ten rows.", index, index), is_expand=True)) == 1


def test_a_contract_and_a_downgrade_may_remove() -> None:
    removal = upgrade('op.drop_column("bugs", "a")', 'op.execute("DROP TABLE bugs")')
    assert len(mistakes(removal, is_expand=True)) == 2
    assert mistakes(removal, is_expand=False) == []
    assert mistakes(removal.replace("upgrade", "downgrade"), is_expand=True) == []
