"""What each writer marks: every place where a number may change, and nothing where none can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from factories.rows import Rows, utc
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from models.store import summaries
from models.store.session import Database
from models.store.summaries import SUMMARIES

NOW = utc("2025-06-05 20:00")
MORNING = utc("2025-06-02 09:00")

Marks = set[tuple[str, str]]


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


def marks(rows: Rows) -> Marks:
    """The marks since the last look, and none left."""
    found = rows.sql("DELETE FROM dirty_keys RETURNING summary, key").all()
    assert len(found) == len(set(found)), "the same mark twice of one statement"
    return {(summary, key) for summary, key in found}


@pytest.fixture
def world(rows: Rows) -> dict[str, int]:
    """A row of each kind, and no mark; the connections, scopes and projects by number."""
    jira, gitlab = rows.connection("jira"), rows.connection("gitlab")
    shop, till = rows.project("Shop"), rows.project("Till")
    scope = rows.scope(jira, shop, "AB")
    rows.scope(jira, till, "CD")
    rows.severity_field(jira)
    issue = rows.issue(scope, MORNING, [(MORNING, "issuekey", "OLD-1", "AB-1")], key="AB-1", issue_id="1")
    rows.add(
        "bug_budget", connection_id=jira, issue_id=issue, jira_key="AB-1", project="AB", summary="", status="To Do",
        issue_type="Bug", labels=[], linked_issues=[], is_open=True, created_date=MORNING, updated_date=MORNING,
    )  # fmt: skip
    report = rows.report(shop)
    rows.attempts(report, "pays", ["passed"])
    plan = rows.add("test_plans", project_id=shop, title="Release 7")
    repository = rows.repository(shop)
    run = rows.run(shop, MORNING, ["passed"], allure_report_id=report, test_plan_id=plan, repository_id=repository)
    rows.activity(gitlab, shop, 1, "alice", "authored", MORNING)
    rows.add(
        "gitlab_mr_lead_times", connection_id=gitlab, sync_scope_id=scope, project_name="shop/web",
        external_project_id="55", external_id="1", mr_id=1, title="", state="opened", draft=False, labels=[],
        mr_created_at=MORNING, source_updated_at=MORNING, synced_at=MORNING,
    )  # fmt: skip
    rows.push(gitlab, shop, "alice", MORNING)
    rows.identity("alice")
    rows.sql("DELETE FROM dirty_keys")
    case = rows.sql("SELECT id FROM test_cases").scalar_one()
    return {
        "jira": jira, "gitlab": gitlab, "shop": shop, "till": till, "scope": scope, "report": report, "plan": plan,
        "repository": repository, "run": run, "case": case,
    }  # fmt: skip


BUGS, LEAD = "bug_analytics_daily", "jira_lead_times"
TESTS, VIEW = "test_execution_summary", "test_runs_view"
MONTHS, CONTRIBUTORS = "monthly_contributions", "gitlab_mr_contributors"

CHANGED = (
    "INSERT INTO jira_issue_changes (tenant_id, connection_id, issue_id, change_id, item_index, field, field_name,"
    " changed_at) SELECT tenant_id, connection_id, '1', '9', 0, '{field}', 'x', now() FROM jira_table_history"
)

CHANGES: list[tuple[str, Callable[[dict[str, int]], Marks]]] = [
    (
        "UPDATE jira_table_history SET status_category = 'done'",
        lambda w: {
            (LEAD, f"{w['jira']}:1"), (BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"),
            (BUGS, str(w["shop"])),
        },
    ),
    (
        "UPDATE jira_table_history SET project = 'CD', issuekey = 'CD-1', project_id = (SELECT max(id) FROM projects)",
        lambda w: {
            (LEAD, f"{w['jira']}:1"), (BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"),
            (BUGS, f"scope:{w['jira']}:CD"), (BUGS, str(w["shop"])), (BUGS, str(w["till"])),
        },
    ),
    (
        "DELETE FROM jira_table_history",
        lambda w: {
            (LEAD, f"{w['jira']}:1"), (BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"),
            (BUGS, str(w["shop"])),
        },
    ),
    (
        "UPDATE jira_issue_changes SET to_text = 'CD-7'",
        lambda w: {
            (BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"), (BUGS, f"scope:{w['jira']}:CD"),
            (BUGS, str(w["shop"])),
        },
    ),
    (
        "DELETE FROM jira_issue_changes",
        lambda w: {(BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"), (BUGS, str(w["shop"]))},
    ),
    (
        CHANGED.format(field="status"),
        lambda w: {
            (LEAD, f"{w['jira']}:1"), (BUGS, f"scope:{w['jira']}:AB"), (BUGS, f"scope:{w['jira']}:OLD"),
            (BUGS, str(w["shop"])),
        },
    ),
    (
        "UPDATE jira_statuses SET category = 'new' WHERE status_id = '2'",
        lambda w: {(LEAD, f"connection:{w['jira']}"), (BUGS, f"connection:{w['jira']}")},
    ),
    ("UPDATE jira_fields SET role = NULL", lambda w: {(BUGS, f"connection:{w['jira']}")}),
    ("DELETE FROM severity_mappings WHERE source_name = 'p0'", lambda _: {(BUGS, "*")}),
    (
        "UPDATE sync_scopes SET project_id = (SELECT max(id) FROM projects)",
        lambda w: {(BUGS, str(w["shop"])), (BUGS, str(w["till"]))},
    ),
    (
        "UPDATE connections SET base_url = base_url || '/x'",
        lambda w: {
            (summary, f"connection:{w[name]}") for summary in (BUGS, MONTHS) for name in ("jira", "gitlab")
        },
    ),
    (
        """UPDATE connections SET options = '{"bug_types": ["x"]}' WHERE kind = 'jira'""",
        lambda w: {(BUGS, f"connection:{w['jira']}"), (MONTHS, f"connection:{w['jira']}")},
    ),
    ("DELETE FROM bug_budget", lambda w: {(LEAD, f"{w['jira']}:1")}),
    ("UPDATE gitlab_mr_lead_times SET project_name = 'shop/app'", lambda w: {(CONTRIBUTORS, f"{w['gitlab']}:55")}),
    (
        "UPDATE gitlab_mr_activities SET occurred_at = '2025-07-01 00:30+00'",
        lambda w: {
            (CONTRIBUTORS, f"{w['gitlab']}:55"), (MONTHS, f"mr:{w['gitlab']}:55:1"),
            (MONTHS, f"{w['shop']}@2025-06-02"), (MONTHS, f"{w['shop']}@2025-07-01"),
        },
    ),
    (
        "UPDATE gitlab_mr_activities SET activity = 'reviewed'",
        lambda w: {
            (CONTRIBUTORS, f"{w['gitlab']}:55"), (MONTHS, f"mr:{w['gitlab']}:55:1"),
            (MONTHS, f"{w['shop']}@2025-06-02"),
        },
    ),
    ("DELETE FROM gitlab_events", lambda w: {(MONTHS, f"{w['shop']}@2025-06-02")}),
    (
        "UPDATE user_identities SET is_bot = true",
        lambda _: {(CONTRIBUTORS, "account:gitlab/alice"), (MONTHS, "account:gitlab/alice")},
    ),
    (
        "UPDATE test_runs SET execution_date = '2025-06-04 23:59+00'",
        lambda w: {(VIEW, str(w["run"])), (TESTS, f"{w['shop']}@2025-06-02"), (TESTS, f"{w['shop']}@2025-06-04")},
    ),
    (
        "UPDATE test_run_results SET is_valid = false",
        lambda w: {(VIEW, str(w["run"])), (TESTS, f"run:{w['run']}")},
    ),
    ("DELETE FROM test_run_results", lambda w: {(VIEW, str(w["run"])), (TESTS, f"run:{w['run']}")}),
    ("UPDATE allure_scenarios SET status = 'broken'", lambda w: {(TESTS, f"report:{w['report']}")}),
    ("UPDATE test_cases SET automated = false", lambda w: {(TESTS, f"case:{w['case']}")}),
    ("UPDATE test_plans SET title = 'x'", lambda w: {(VIEW, f"plan:{w['plan']}")}),
    ("UPDATE repositories SET title = 'x'", lambda w: {(VIEW, f"repository:{w['repository']}")}),
    (
        "UPDATE projects SET timezone = 'Asia/Tokyo' WHERE title = 'Shop'",
        lambda w: {
            (VIEW, f"project:{w['shop']}"), (TESTS, str(w["shop"])), (MONTHS, str(w["shop"])), (BUGS, str(w["shop"])),
        },
    ),
]  # fmt: skip


def test_a_change_marks_each_place_that_it_may_count_in(rows: Rows, world: dict[str, int]) -> None:
    for statement, expected in CHANGES:
        with rows.session.begin_nested() as savepoint:
            rows.sql(statement)
            assert marks(rows) == expected(world), statement
            savepoint.rollback()


IRRELEVANT = [
    "UPDATE jira_table_history SET synced_at = now(), summary = 'x', updated = now(), resolution = 'x'",
    "UPDATE jira_table_history SET status = status, created = created",
    "UPDATE jira_issue_changes SET author = 'x', field_name = 'x'",
    CHANGED.format(field="labels"),
    "UPDATE jira_fields SET name = 'x', sort_order = 7",
    "UPDATE sync_scopes SET last_error = 'x', updated_at = now()",
    """UPDATE connections SET last_ok_at = now(), status = 'paused', options = '{"page_size": 50}'""",
    "UPDATE bug_budget SET summary = 'x', last_synced_at = now()",
    "UPDATE gitlab_mr_lead_times SET title = 'x', synced_at = now()",
    "UPDATE user_identities SET updated_at = now(), bot_reason = 'x'",
    "INSERT INTO user_identities (tenant_id, source, external_id) SELECT id, 'jira', 'x' FROM tenants",
    "UPDATE test_runs SET environment = 'x', updated_at = now()",
    "UPDATE test_run_results SET logs = 'x', execution_time = 7",
    "UPDATE allure_scenarios SET status_message = 'x'",
    "INSERT INTO test_cases (tenant_id, title) SELECT id, 'x' FROM tenants",
    "UPDATE test_cases SET title = 'x'",
    "UPDATE projects SET description = 'x'",
    "UPDATE jira_table_history SET status = 'x' WHERE false",
]


def test_a_change_that_no_number_depends_on_marks_nothing(rows: Rows, world: dict[str, int]) -> None:
    assert world
    for statement in IRRELEVANT:
        with rows.session.begin_nested() as savepoint:
            rows.sql(statement)
            assert marks(rows) == set(), statement
            savepoint.rollback()


def test_one_statement_marks_a_key_once_whatever_number_of_rows_it_changes(rows: Rows, world: dict[str, int]) -> None:
    for _ in range(20):
        rows.issue(world["scope"], MORNING)
    rows.sql("DELETE FROM dirty_keys")
    rows.sql("UPDATE jira_table_history SET priority = 'High'")
    found = marks(rows)
    assert len([key for summary, key in found if summary == BUGS]) == 3
    assert len([key for summary, key in found if summary == LEAD]) == 21


def test_bugs_are_dirty_from_the_earliest_creation_on(rows: Rows, world: dict[str, int]) -> None:
    for days in (5, 3, 9):
        rows.issue(world["scope"], MORNING + timedelta(days=days))
    rows.sql("DELETE FROM dirty_keys")
    rows.sql("UPDATE jira_table_history SET priority = 'High' WHERE created > :at", at=MORNING)
    since = set(rows.sql("SELECT since FROM dirty_keys WHERE summary = :name", name=BUGS).scalars())
    assert since == {MORNING + timedelta(days=3)}
    rows.sql("DELETE FROM dirty_keys")
    rows.sql("UPDATE jira_table_history SET created = created - interval '1 year' WHERE issue_id <> '1'")
    since = set(rows.sql("SELECT min(since) FROM dirty_keys WHERE summary = :name", name=BUGS).scalars())
    assert since == {(MORNING + timedelta(days=3)).replace(year=2024)}


def test_an_issue_and_its_changes_may_go_in_one_statement_or_in_any_order(rows: Rows, world: dict[str, int]) -> None:
    places = {f"scope:{world['jira']}:AB", f"scope:{world['jira']}:OLD", str(world["shop"])}
    statements = ("DELETE FROM jira_table_history", "DELETE FROM jira_issue_changes")
    for order in (statements, statements[::-1], (f"WITH gone AS ({statements[0]}) {statements[1]}",)):
        with rows.session.begin_nested() as savepoint:
            for statement in order:
                rows.sql(statement)
            found = rows.sql("SELECT DISTINCT key FROM dirty_keys WHERE summary = :name", name=BUGS).scalars()
            assert set(found) == places, order
            savepoint.rollback()


def test_truncating_an_input_marks_everything_of_its_summaries(rows: Rows, world: dict[str, int]) -> None:
    assert world
    for name in SUMMARIES:
        summaries.rebuild(rows.session, name, as_of=NOW)
    for tables in ("jira_table_history", "test_runs CASCADE", "gitlab_mr_activities", "gitlab_events"):
        rows.sql(f"TRUNCATE {tables}")
    written = rows.settle(NOW)
    assert all(written.values())
    assert all(rows.table(name, "1") == [] for name in written)


def test_an_upsert_marks_what_it_inserts_and_what_it_updates_and_not_what_it_leaves(
    rows: Rows, world: dict[str, int]
) -> None:
    rows.identity("bob")
    rows.identity("carol")
    rows.sql("DELETE FROM dirty_keys")
    rows.sql(
        """
        INSERT INTO user_identities AS u (tenant_id, source, external_id, username)
        SELECT t.id, 'gitlab', 'gitlab/' || who, who FROM tenants t, unnest(ARRAY['alice', 'bobby', 'dave']) AS who
        UNION ALL SELECT id, 'gitlab', 'gitlab/bob', 'robert' FROM tenants
        ON CONFLICT (tenant_id, source, external_id) DO UPDATE SET username = excluded.username
        WHERE u.username IS DISTINCT FROM excluded.username
        """
    )
    assert world
    found = {key for _, key in marks(rows)}
    assert found == {"account:gitlab/bobby", "account:gitlab/dave", "account:gitlab/bob"}


def test_a_writer_needs_no_right_on_what_it_does_not_know(database: Database) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        project = rows.project()
        run = rows.run(project, MORNING)
        rows.sql("DELETE FROM dirty_keys")
        session.execute(text("CREATE ROLE platform_writer"))
        session.execute(text("GRANT SELECT, UPDATE ON test_runs TO platform_writer"))
        session.execute(text("CREATE POLICY platform_writer ON test_runs TO platform_writer USING (true)"))
    try:
        with database.transaction() as session:
            session.execute(text("SET LOCAL ROLE platform_writer"))
            session.execute(text("CREATE TEMP TABLE dirty_keys (key text) ON COMMIT DROP"))
            session.execute(text("UPDATE test_runs SET title = 'x'"))
        with database.transaction() as session:
            assert (VIEW, str(run)) in marks(Rows(session))
    finally:
        with database.transaction() as session:
            session.execute(text("DROP OWNED BY platform_writer"))
            session.execute(text("DROP ROLE platform_writer"))


def test_a_project_must_have_a_time_zone_that_exists(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught, database.transaction() as session:
        Rows(session).project(timezone="Mars/Olympus")
    assert isinstance(caught.value.orig, psycopg.errors.InvalidParameterValue)


# --- two writers at once ----------------------------------------------------------------------------------------------


def seeded(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        rows = Rows(session)
        project = rows.project()
        run = rows.run(project, MORNING)
        rows.settle(NOW)
        return {"project": project, "run": run, "case": rows.case(), "repository": rows.repository(project)}


def test_a_result_counts_on_the_day_that_another_writer_is_moving_its_run_to(database: Database) -> None:
    ids = seeded(database)
    with database.transaction() as adds, database.transaction() as moves:
        Rows(adds).result(ids["run"], ids["case"], "passed")
        Rows(moves).sql("UPDATE test_runs SET execution_date = :at", at=MORNING + timedelta(days=2))
        moves.commit()
        with database.transaction() as session:
            Rows(session).settle(NOW)
        adds.commit()
    with database.transaction() as session:
        Rows(session).settle(NOW)
        assert Rows(session).table("test_execution_summary", "date::text, passed_runs") == [("2025-06-04", 1)]


def test_a_run_counts_in_the_time_zone_that_another_writer_is_changing(database: Database) -> None:
    ids = seeded(database)
    with database.transaction() as adds, database.transaction() as changes:
        Rows(adds).run(ids["project"], utc("2025-06-02 23:30"))
        Rows(adds).sql("UPDATE test_runs SET execution_date = '2025-06-03 22:30+00' WHERE id = :id", id=ids["run"])
        Rows(changes).sql("UPDATE projects SET timezone = 'Asia/Tokyo'")
        changes.commit()
        with database.transaction() as session:
            Rows(session).settle(NOW)
        adds.commit()
    with database.transaction() as session:
        Rows(session).settle(NOW)
        found = Rows(session).table("test_execution_summary", "date::text, total_runs", "date")
        assert found == [("2025-06-03", 1), ("2025-06-04", 1)]


def test_a_run_is_shown_under_the_title_that_another_writer_is_giving_its_repository(database: Database) -> None:
    ids = seeded(database)
    with database.transaction() as adds, database.transaction() as renames:
        Rows(adds).run(ids["project"], MORNING, repository_id=ids["repository"])
        Rows(renames).sql("UPDATE repositories SET title = 'Store'")
        adds.commit()
        with database.transaction() as session:
            Rows(session).settle(NOW)
        renames.commit()
    with database.transaction() as session:
        Rows(session).settle(NOW)
        found = Rows(session).table("test_runs_view", "repository_title", "id")
        assert found == [(None,), ("Store",)]


def test_a_bug_counts_in_the_project_that_another_writer_is_giving_its_scope(database: Database) -> None:
    with database.transaction() as session:
        rows = Rows(session)
        jira, shop, till = rows.connection(), rows.project("Shop"), rows.project("Till")
        scope = rows.scope(jira, shop, "AB")
        rows.scope(jira, shop, "CD")
        rows.settle(NOW)
    with database.transaction() as adds, database.transaction() as maps:
        rows = Rows(adds)
        issue_id = rows.issue(scope, MORNING, key="CD-1")
        rows.change(jira, issue_id, MORNING + timedelta(days=1), "issuekey", "AB-1", "CD-1", change_id="x")
        Rows(maps).sql("UPDATE sync_scopes SET project_id = :till WHERE external_key = 'CD'", till=till)
        maps.commit()
        with database.transaction() as session:
            Rows(session).settle(NOW)
        adds.commit()
    with database.transaction() as session:
        Rows(session).settle(NOW)
        found = Rows(session).table("bug_analytics_daily", "project, open_bugs", "project, date")
        assert found == [("Shop", 1), ("Shop", 0), ("Shop", 0), ("Shop", 0), ("Till", 1), ("Till", 1), ("Till", 1)]
