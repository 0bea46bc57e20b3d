"""The made-up company in the tables: laws of its data, what is computed from it, and how it goes away again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from factories.command import Plumbline
from factories.seeded import AS_OF, PLANS
from sqlalchemy import text

from admin.cli.main import include, run
from admin.cli.seed import _refuse_existing, _remove_all, fill, remove_tenant
from admin.seed.company import Plan
from models.errors import UsageError
from models.store import seed, summaries
from models.store.report import Period, report
from models.store.session import Database
from models.store.summaries import SUMMARIES
from models.tables import METADATA

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = {"engineers": 3, "years": 0.3, "seed": 5, "as_of": AS_OF, "results": 300}

# Each finds the rows that break a law.
LAWS = {
    "an issue has the status of its last change, or its first one": """
        SELECT i.issuekey FROM jira_table_history i LEFT JOIN LATERAL (
            SELECT c.to_text FROM jira_issue_changes c
            WHERE c.connection_id = i.connection_id AND c.issue_id = i.issue_id AND c.field = 'status'
            ORDER BY c.changed_at DESC, length(c.change_id) DESC, c.change_id DESC LIMIT 1) AS c ON true
        WHERE i.status <> COALESCE(c.to_text, 'To Do')
    """,
    "a severity is that of its last change": """
        SELECT i.issuekey FROM jira_table_history i JOIN LATERAL (
            SELECT c.to_text FROM jira_issue_changes c
            WHERE c.connection_id = i.connection_id AND c.issue_id = i.issue_id AND c.field_name = 'Severity'
            ORDER BY c.changed_at DESC LIMIT 1) AS c ON true
        WHERE i.severity_issue <> c.to_text
    """,
    "each change begins with what the one before ended with": """
        SELECT issue_id FROM (SELECT issue_id, from_text, lag(to_text) OVER (
            PARTITION BY connection_id, issue_id, field ORDER BY changed_at, length(change_id), change_id) AS before
            FROM jira_issue_changes) AS c
        WHERE before <> from_text
    """,
    "changes lie between the creation and the update of an issue that exists": """
        SELECT c.issue_id FROM jira_issue_changes c LEFT JOIN jira_table_history i USING (connection_id, issue_id)
        WHERE i.id IS NULL OR i.tenant_id <> c.tenant_id OR c.changed_at NOT BETWEEN i.created AND i.updated
    """,
    "an issue is resolved where it is done, when it last became so": """
        SELECT i.issuekey FROM jira_table_history i
        WHERE (i.resolved IS NOT NULL) <> (i.status_category = 'done')
           OR (i.resolution IS NOT NULL) <> (i.resolved IS NOT NULL)
           OR i.resolved <> (SELECT max(c.changed_at) FROM jira_issue_changes c
                WHERE c.connection_id = i.connection_id AND c.issue_id = i.issue_id AND c.to_text = 'Done')
    """,
    "a bug says what its issue says": """
        SELECT b.jira_key FROM bug_budget b LEFT JOIN jira_table_history i USING (tenant_id, connection_id, issue_id)
        WHERE i.id IS NULL OR (b.jira_key, b.project_id, b.status, b.severity_issue::text, b.created_date,
               b.updated_date, b.is_open, b.assignee_id) IS DISTINCT FROM (i.issuekey, i.project_id, i.status,
               lower(i.severity_issue), i.created, i.updated, i.status_category <> 'done', i.assignee_id)
           OR b.resolved_date IS DISTINCT FROM i.resolved
    """,
    "every issue of type bug is one": """
        SELECT issuekey FROM jira_table_history i LEFT JOIN bug_budget b USING (tenant_id, connection_id, issue_id)
        WHERE (issuetype = 'Bug') <> (b.id IS NOT NULL)
    """,
    "a bug has the history of its issue": """
        SELECT b.id FROM bug_budget b JOIN jira_issue_changes c USING (connection_id, issue_id)
        FULL JOIN bug_history h ON h.bug_budget_id = b.id AND h.change_id = c.change_id AND h.item_index = c.item_index
        WHERE b.id IS NULL OR h.bug_budget_id IS NULL OR h.changed_at <> c.changed_at
    """,
    "a merge request's stages are in their order": """
        SELECT mr_id FROM gitlab_mr_lead_times
        WHERE NOT (first_commit_at <= mr_created_at AND mr_created_at <= ready_at AND ready_at <= first_review_at
              AND first_review_at <= COALESCE(approved_at, first_review_at)
              AND COALESCE(approved_at, first_review_at) <= COALESCE(merged_at, closed_at, source_updated_at))
           OR merged_at > source_updated_at OR (ready_at IS NULL AND merged_at IS NOT NULL)
    """,
    "a merge request's state is what its times say": """
        SELECT mr_id FROM gitlab_mr_lead_times
        WHERE state <> CASE WHEN merged_at IS NOT NULL THEN 'merged' WHEN closed_at IS NOT NULL THEN 'closed'
            ELSE 'opened' END OR (draft AND state <> 'opened') OR (merged_by IS NOT NULL) <> (merged_at IS NOT NULL)
    """,
    "activities say when a merge request was made, approved and merged": """
        SELECT m.mr_id FROM gitlab_mr_lead_times m
        LEFT JOIN gitlab_mr_activities a USING (connection_id, external_project_id, mr_id)
        GROUP BY m.id HAVING (min(a.occurred_at) FILTER (WHERE activity = 'authored'),
                min(a.occurred_at) FILTER (WHERE activity = 'approved'),
                min(a.occurred_at) FILTER (WHERE activity = 'merged'))
            IS DISTINCT FROM (m.mr_created_at, m.approved_at, m.merged_at)
    """,
    "nobody approves what is their own": """
        SELECT m.mr_id FROM gitlab_mr_lead_times m
        JOIN gitlab_mr_activities a USING (connection_id, external_project_id, mr_id)
        WHERE a.activity IN ('approved', 'reviewed') AND a.username = m.author
    """,
    "only what was merged before is deployed": """
        SELECT r.mr_id FROM gitlab_deployment_merge_requests r JOIN gitlab_deployments d ON d.id = r.deployment_id
        LEFT JOIN gitlab_mr_lead_times m ON m.connection_id = r.connection_id
            AND m.external_project_id = r.external_project_id AND m.mr_id = r.mr_id
        WHERE m.merged_at IS NULL OR m.merged_at > d.deployment_created_at OR d.status <> 'success'
    """,
    "a failed deployment to production is followed by one that succeeds, or by the end": """
        SELECT d.id FROM gitlab_deployments d WHERE d.status = 'failed' AND NOT EXISTS (
            SELECT FROM gitlab_deployments n WHERE n.project_id = d.project_id AND n.environment = d.environment
              AND n.status = 'success' AND n.finished_at > d.finished_at)
          AND d.finished_at < CAST(:end AS timestamptz) - interval '3 days'
    """,
    "accounts that do something are known": """
        SELECT a.account_id FROM (SELECT tenant_id, account_id FROM gitlab_mr_activities
            UNION SELECT tenant_id, author_id FROM gitlab_events
            UNION SELECT tenant_id, author_id FROM gitlab_mr_lead_times) AS a
        LEFT JOIN user_identities u
            ON u.tenant_id = a.tenant_id AND u.source = 'gitlab' AND u.external_id = a.account_id
        WHERE u.id IS NULL
    """,
    "a result is of a case of its run's repository, by hand or not as the case is": """
        SELECT t.id FROM test_run_results t JOIN test_runs r ON r.id = t.test_run_id
        JOIN test_cases c ON c.id = t.test_case_id
        WHERE c.repository_id <> r.repository_id OR c.automated <> (t.executed_by IS NULL)
           OR t.executed_at <> r.started_at OR r.completed_at < r.started_at
           OR (t.status IN ('failed', 'blocked')) <> (t.error_message IS NOT NULL)
    """,
    "a result's bug is of its project": """
        SELECT t.id FROM test_run_results t JOIN test_runs r ON r.id = t.test_run_id
        JOIN bug_budget b ON b.id = t.bug_budget_id WHERE b.project_id <> r.project_id OR t.status <> 'failed'
    """,
    "the last attempt of a report is the result of its run": """
        SELECT a.id FROM allure_scenarios a JOIN test_runs r USING (allure_report_id)
        LEFT JOIN test_run_results t ON t.test_run_id = r.id AND t.test_case_id = a.test_case_id
        WHERE NOT a.is_retry AND (t.status::text IS DISTINCT FROM a.status::text OR t.retry_count <> a.attempt - 1)
    """,
    "every report has a run of its project": """
        SELECT a.id FROM allure_report a LEFT JOIN test_runs r ON r.allure_report_id = a.id
        WHERE r.id IS NULL OR r.project_id <> a.project_id
    """,
    "a document has as many versions as it says": """
        SELECT d.id FROM documents d LEFT JOIN document_versions v ON v.document_id = d.id
        GROUP BY d.id HAVING d.version <> count(v.id) OR d.version <> max(v.version_number)
    """,
    "a document has the readers that it says": """
        SELECT d.id FROM documents d LEFT JOIN document_engagements e ON e.document_id = d.id GROUP BY d.id
        HAVING (d.views_count, d.likes_count) <> (count(*) FILTER (WHERE engagement_type = 'view'),
                count(*) FILTER (WHERE engagement_type = 'like'))
    """,
    "whoever decided or edited is of the tenant": """
        SELECT u.user_id FROM (SELECT tenant_id, decision_owner_id AS user_id FROM decision_logs
            UNION SELECT tenant_id, last_edited_by FROM documents
            UNION SELECT p.tenant_id, r.created_by FROM test_runs r JOIN projects p ON p.id = r.project_id) AS u
        LEFT JOIN tenant_users t USING (tenant_id, user_id) WHERE u.user_id IS NOT NULL AND t.user_id IS NULL
    """,
    "rows are of the tenant of their project": """
        SELECT x.project_id FROM (SELECT tenant_id, project_id FROM jira_table_history
            UNION SELECT tenant_id, project_id FROM gitlab_mr_lead_times
            UNION SELECT tenant_id, project_id FROM gitlab_events UNION SELECT tenant_id, project_id FROM documents
            UNION SELECT tenant_id, project_id FROM allure_report
            UNION SELECT c.tenant_id, s.project_id FROM sync_scopes s JOIN connections c ON c.id = s.connection_id
        ) AS x JOIN projects p ON p.id = x.project_id WHERE p.tenant_id <> x.tenant_id
    """,
    "no made-up connection is synced": "SELECT name FROM connections WHERE status <> 'paused'",
    "nobody is told of it": "SELECT id FROM change_log",
}


@pytest.mark.parametrize("law", LAWS)
def test_law_of_the_data(seeded: Database, law: str) -> None:
    with seeded.transaction() as session:
        assert session.execute(text(f"SELECT * FROM ({LAWS[law]}) AS broken LIMIT 3"), {"end": NOW}).all() == []


def test_each_tenant_has_rows_in_every_table_that_is_made(seeded: Database) -> None:
    tables = ("projects", "jira_table_history", "bug_budget", "gitlab_mr_lead_times", "gitlab_pipelines", "documents")
    with seeded.transaction() as session:
        for table in (*tables, "gitlab_deployments", "test_cases", "decision_logs", "user_identities", "owner_rules"):
            counts = session.execute(
                text(
                    f"SELECT t.slug, count(*) FROM {table} x JOIN tenants t ON t.id = x.tenant_id "
                    "GROUP BY t.slug ORDER BY count(*) DESC"
                )
            ).all()
            assert [slug for slug, _ in counts] == ["larkspur-logistics", "pebble-studio"], table


def test_summaries_kept_by_its_marks_equal_a_rebuild(seeded: Database) -> None:
    with seeded.transaction() as session:
        for name in SUMMARIES:
            for _ in range(100):
                if not summaries.take_and_recompute(session, name, as_of=NOW, limit=1_000).keys:
                    break
            assert summaries.differences(session, name, as_of=NOW) == (0, []), name
        open_bugs = session.execute(
            text("SELECT tenant_id, sum(open_bugs) FROM bug_analytics_daily WHERE date = :day GROUP BY 1 ORDER BY 1"),
            {"day": AS_OF},
        ).all()
        expected = session.execute(
            text("SELECT tenant_id, count(*) FILTER (WHERE is_open) FROM bug_budget GROUP BY 1 ORDER BY 1")
        ).all()
        assert [tuple(row) for row in open_bugs] == [tuple(row) for row in expected]
        rates = session.execute(text("SELECT avg(pass_rate), min(pass_rate) FROM test_execution_summary")).one()
        assert 0.85 < rates[0] < 0.995
        assert rates[1] < 0.9
        assert session.execute(text("SELECT count(*) FROM gitlab_mr_contributors WHERE is_bot")).scalar_one() > 0
        assert session.execute(text("SELECT count(*) FROM jira_lead_times WHERE reopen_count > 0")).scalar_one() > 0
        session.rollback()


def test_summaries_computed_from_nothing_do_not_differ(seeded: Database) -> None:
    with seeded.transaction() as session:
        for name in SUMMARIES:
            summaries.rebuild(session, name, as_of=NOW)
            assert summaries.differences(session, name, as_of=NOW) == (0, []), name
        last = AS_OF - timedelta(days=1)
        found = report(session, Period(project_id=None, first=last - timedelta(days=90), last=last), as_of=NOW)
        assert found.open_bugs is not None
        assert 0 < found.open_bugs["total"] < 320 + 60
        lead = next(row for row in found.merge_requests if row["n"])
        assert 0 < lead["p50"] < lead["p75"] < lead["p90"] < 90 * 24
        assert len(found.contributors) == 10
        assert found.bots
        assert len(found.bug_weeks) == 4
        session.rollback()


def counts_of(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        return {
            table: session.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one() for table in METADATA.tables
        }


def test_a_seeded_tenant_goes_away_with_all_that_was_computed_and_nothing_else(database: Database) -> None:
    plans = [Plan.of_size(name, **SMALL) for name in ("One", "Two")]
    fill(database, plans[0], auth="", counts=Counter())
    summarise(database)
    before = counts_of(database)
    tenant_id = fill(database, plans[1], auth="", counts=Counter())
    summarise(database)
    remove_tenant(database, tenant_id, counts=Counter())
    assert counts_of(database) == before
    with database.transaction() as session:
        assert seed.tenant(session, "Two", "two") is None
        found = seed.tenant(session, "One", "one")
        assert found is not None
        assert found.is_complete


def summarise(database: Database) -> None:
    for name in SUMMARIES:
        with database.transaction() as session:
            while summaries.take_and_recompute(session, name, as_of=NOW, limit=10_000).keys:
                pass


def test_other_writers_do_not_get_the_ids_that_were_set_aside(database: Database) -> None:
    with database.transaction() as session:
        first = seed.reserve_ids(session, {"projects": 100, "users": 5})
    with database.transaction() as session:
        project_id = session.execute(
            text("INSERT INTO projects (tenant_id, title) SELECT min(id), 'x' FROM tenants RETURNING id")
        ).scalar_one()
        again = seed.reserve_ids(session, {"projects": 1, "users": 1})
    assert (project_id, again) == (first["projects"] + 100, {"projects": project_id + 1, "users": first["users"] + 5})


def stopping_after(rows: int) -> Callable[[int], None]:
    written = 0

    def advance(count: int) -> None:
        nonlocal written
        written += count
        if written > rows:
            raise KeyboardInterrupt

    return advance


def test_the_command_seeds_refuses_and_removes(database: Database, tmp_path: Any) -> None:
    plumbline = Plumbline(
        tmp_path / "home",
        PLUMBLINE_DATABASE_URL=database.url.set(drivername="postgresql").render_as_string(hide_password=False),
        PLUMBLINE_BROKER_URL="redis://127.0.0.1:1/0",
        PLUMBLINE_SECRET_KEYS=Fernet.generate_key().decode(),
    )
    empty = counts_of(database)
    size = ("--engineers", "3", "--years", "0.3", "--results", "300", "--as-of", str(AS_OF), "--tenant", "Acme")
    with pytest.raises(KeyboardInterrupt):
        fill(database, Plan.of_size("Acme", **SMALL), auth="", counts=Counter(), advance=stopping_after(1_500))
    refused = plumbline("seed", *size)
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "'Acme' is there in part" in refused.err
    assert "plumbline seed --remove --tenant 'Acme'" in refused.err
    assert plumbline.done("seed", "--remove", "--tenant", "Acme", "--json").data["rows"] > 1_000
    assert counts_of(database) == empty
    data = plumbline.done("seed", *size, "--json").data
    assert data["tenants"] == ["acme"]
    assert data["tables"]["test_run_results"] == 300
    assert sum(data["tables"].values()) == data["rows"]
    for name, message in (("acme", "is there already"), ("default", "There is a real tenant 'Default'")):
        with pytest.raises(UsageError, match=message):
            _refuse_existing(database, [Plan.of_size(name, **SMALL)])
    with pytest.raises(UsageError, match="'Default' is a real tenant; only what was seeded is removed"):
        _remove_all(database, [Plan.of_size("Default", **SMALL)], as_json=True)


def test_tenants_need_names_that_differ_in_letters_or_digits(capsys: pytest.CaptureFixture[str]) -> None:
    include(["seed"])
    for names in (("A b", "a-B"), ("!",)):
        assert run(["seed", *(word for name in names for word in ("--tenant", name))]) == 2
        assert "Error: Each --tenant needs a name of its own" in capsys.readouterr().err


def test_the_fixture_is_what_its_plans_say(seeded: Database) -> None:
    with seeded.transaction() as session:
        total = session.execute(text("SELECT count(*) FROM test_run_results")).scalar_one()
        first, last = session.execute(text("SELECT min(created), max(updated) FROM jira_table_history")).one()
    assert total == sum(plan.results for plan in PLANS)
    assert first.date() < AS_OF - timedelta(days=300)
    assert date(2026, 2, 20) < last.date() < AS_OF
