"""What a migration says to the database so that a table keeps to models/tables/isolation.py."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

from models.tables import isolation
from models.tables.isolation import (
    API_ROLE,
    CLOSED,
    DRAWN_FROM,
    UNREADABLE,
    WORKERS_ROLE,
    WRITABLE,
    Child,
    NoTenants,
    Own,
)

TENANT = "(SELECT nullif(current_setting('plumbline.tenant_id', true), '')::bigint)"


def statements(table: Table) -> Iterator[str]:
    """Policies and the API's grants of a table; a migration that makes one has these."""
    name, rule = table.name, isolation.whose(table)
    if not isinstance(rule, NoTenants):
        yield f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"
        yield f"CREATE POLICY workers ON {name} TO {WORKERS_ROLE} USING (true) WITH CHECK (true)"
        yield from tenant_policies(table, rule)
        if isinstance(rule, Own) and rule.defaults_are_shown:
            yield f"CREATE POLICY defaults ON {name} FOR SELECT TO {API_ROLE} USING ({rule.column} IS NULL)"
    yield from grants(table)


def tenant_policies(table: Table, rule: Own | Child) -> Iterator[str]:
    """What a tenant sees and may write. None is restrictive: that would bind the workers who are members of both."""
    name, own = table.name, belongs(table.name, rule)
    named = " AND ".join(names_own(table, column) for column in isolation.references(table))
    check = f"{own} AND ({named})" if named else own
    if name in isolation.CHECKED_AT_INSERT:
        yield f"CREATE POLICY tenant ON {name} FOR SELECT TO {API_ROLE} USING ({own})"
        yield f"CREATE POLICY tenant_updates ON {name} FOR UPDATE TO {API_ROLE} USING ({own})"
        yield f"CREATE POLICY tenant_inserts ON {name} FOR INSERT TO {API_ROLE} WITH CHECK ({check})"
    else:
        differs = f" WITH CHECK ({check})" if check != own else ""
        yield f"CREATE POLICY tenant ON {name} TO {API_ROLE} USING ({own}){differs}"


def belongs(name: str, rule: Own | Child) -> str:
    """What is true of a row of the tenant."""
    if isinstance(rule, Own):
        return f"{rule.column} = {TENANT}"
    return f"EXISTS (SELECT FROM {rule.parent} p WHERE p.{rule.key} = {name}.{rule.column})"


def names_own(table: Table, column: str) -> str:
    """What is true where a column names nothing, or a row of the tenant."""
    target = isolation.references(table)[column]
    rule = isolation.WHOSE.get(target)
    if target == table.name:  # a policy may not read its own table
        condition = f"row_is_visible('{target}', {column})"
    else:
        own = " AND p.tenant_id IS NOT NULL" if isinstance(rule, Own) and rule.defaults_are_shown else ""
        condition = f"EXISTS (SELECT FROM {target} p WHERE p.id = {table.name}.{column}{own})"
    return f"({column} IS NULL OR {condition})" if table.c[column].nullable else condition


def grants(table: Table) -> Iterator[str]:
    """The rights of the API's role."""
    if table.name in CLOSED:
        return
    hidden = UNREADABLE.get(table.name, ())
    shown = [column.name for column in table.c if column.name not in hidden] if hidden else []
    for verb, columns in {"SELECT": shown, **WRITABLE.get(table.name, {})}.items():
        some = f" ({', '.join(columns)})" if columns else ""
        yield f"GRANT {verb}{some} ON {table.name} TO {API_ROLE}"
    if table.name in DRAWN_FROM:
        yield f"GRANT USAGE ON SEQUENCE {DRAWN_FROM[table.name]} TO {API_ROLE}"
