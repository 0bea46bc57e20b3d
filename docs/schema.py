"""Write docs/schema.md from the models: every table with its columns, keys and indexes, and a diagram of each subject.

python docs/schema.py --write     writes the page
python docs/schema.py --check     exits 1 where the page does not say what the models say
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import CheckConstraint, Column, Enum, ForeignKeyConstraint, Index, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.elements import ClauseElement

from models import tables
from models.tables import isolation
from models.tables.base import Base
from models.tables.isolation import Child, NoTenants, Own

PAGE = Path(__file__).with_name("schema.md")
SUBJECTS = [name for name in tables.__all__ if name not in ("METADATA", "base")]
DIALECT = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy gives it no types
HEAD = """# Schema

Every table of the database, by subject. This page is written by `docs/schema.py` from `models/tables`; change it there.
**Bold** columns are the primary key. Times are `timestamptz` in UTC. An enum's values stand at the end.

"""


def sql(expression: ClauseElement | str) -> str:
    """An expression as PostgreSQL writes it, on one line."""
    if isinstance(expression, str):
        return expression
    compiled = expression.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


def cell(text: str | None) -> str:
    """Text that does not end the cell of a table."""
    return (text or "").replace("|", "\\|")


def type_of(column: Column[object]) -> str:
    """The column's type in PostgreSQL's words."""
    if isinstance(column.type, Enum):
        return f"enum {column.type.name}"
    return column.type.compile(dialect=DIALECT).lower().replace("timestamp with time zone", "timestamptz")


def default_of(column: Column[object]) -> str:
    """What a row gets that says nothing of the column."""
    if column.identity is not None:
        return "identity"
    if column.computed is not None:
        return "computed"
    default = getattr(column.server_default, "arg", None)
    return "" if default is None else f"`{sql(default)}`"


def rules(table: Table) -> Iterator[str]:
    """Keys, checks and indexes of a table, one line each."""
    for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
        match constraint:
            case ForeignKeyConstraint():
                (key,) = constraint.elements
                deletion = f", on delete {key.ondelete.lower()}" if key.ondelete else ""
                yield f"{key.parent.name} → {key.target_fullname}{deletion}"
            case UniqueConstraint():
                nulls = constraint.dialect_options["postgresql"]["nulls_not_distinct"]
                names = ", ".join(column.name for column in constraint.columns)
                yield f"unique ({names}){', one NULL equals another' if nulls else ''}"
            case CheckConstraint():
                yield f"check `{sql(constraint.sqltext)}`"
    yield from (index_line(index) for index in sorted(table.indexes, key=lambda each: str(each.name)))


def index_line(index: Index) -> str:
    """An index in words."""
    options = index.dialect_options["postgresql"]
    columns = ", ".join(getattr(part, "name", None) or sql(part) for part in index.expressions)
    kind = "unique" if index.unique else "index"
    using = f" using {options['using']}" if options["using"] else ""
    where = f" where `{sql(options['where'])}`" if options["where"] is not None else ""
    return f"{kind} ({columns}){using}{where}"


def whose_line(table: Table) -> str:
    """Whose its rows are, and who sees them."""
    match isolation.whose(table):
        case Own(column, defaults_are_shown):
            shown = "; every tenant sees rows with NULL" if defaults_are_shown else ""
            whose = f"Rows of tenants, by `{column}`{shown}."
        case Child(column, parent, key):
            whose = f"Rows of tenants, by `{column}` → `{parent}.{key}`."
        case NoTenants(reason):
            whose = f"Rows of no tenant: {reason}."
    return f"{whose} Closed to the API's role." if table.name in isolation.CLOSED else whose


def table_lines(table: Table) -> Iterator[str]:
    """The section of a table."""
    yield f"### {table.name}\n\n{table.comment} {whose_line(table)}\n"
    yield "| column | type | null | default | what it says |\n|---|---|---|---|---|"
    for column in table.columns:
        name = f"**{column.name}**" if column.primary_key else column.name
        null = "yes" if column.nullable else ""
        yield f"| {name} | {type_of(column)} | {null} | {cell(default_of(column))} | {cell(column.comment)} |"
    lines = list(rules(table))
    yield "\n" + "\n".join(f"- {line}" for line in lines) + "\n" if lines else ""


def diagram(members: list[Table]) -> str:
    """How the tables of a subject hang together, and on which tables of others."""
    lines = sorted(
        f"    {key.column.table.name} {'|o' if key.parent.nullable else '||'}--o{{ {table.name} : {key.parent.name}"
        for table in members
        for key in table.foreign_keys
        if key.column.table in members or key.column.table.name not in ("tenants", "users")
    )
    drawn = {word for line in lines for word in line.split()}
    lone = [f"    {table.name}" for table in members if table.name not in drawn]
    return "\n".join(["```mermaid", "erDiagram", *lines, *lone, "```\n"])


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for subject in SUBJECTS:
        module = importlib.import_module(f"models.tables.{subject}")
        mapped = [each.local_table for each in Base.registry.mappers if each.class_.__module__ == module.__name__]
        members = sorted((table for table in mapped if isinstance(table, Table)), key=lambda table: table.name)
        parts += [f"## {subject.capitalize()}\n\n{(module.__doc__ or '').strip()}\n", diagram(members)]
        parts += [line for table in members for line in table_lines(table)]
    enums = {
        each.type.name: each.type.enums
        for table in tables.METADATA.tables.values()
        for each in table.columns
        if isinstance(each.type, Enum)
    }
    parts.append("## Enums\n\n" + "\n".join(f"- {name}: {', '.join(values)}" for name, values in sorted(enums.items())))
    return "\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit code."""
    if arguments == ["--write"]:
        PAGE.write_text(page())
        return 0
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print("docs/schema.md differs from the models; write it with: python docs/schema.py --write")
        return 1
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
