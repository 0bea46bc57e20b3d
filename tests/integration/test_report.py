"""The report's numbers are the definitions' own worked examples, and what is not there is not 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from admin.cli import main
from admin.cli import report as command
from models import records
from models.store import connections, sync, testing, watermarks
from models.store.report import Period, Report, report
from models.store.session import Database
from workers import runtime
from workers.settings import Settings

AS_OF = datetime(2025, 7, 1, 12, tzinfo=UTC)
MERGED_AT = datetime(2025, 6, 10, 12, tzinfo=UTC)
JUNE = {"first": date(2025, 6, 1), "last": date(2025, 6, 30)}


class World:
    """One project with a GitLab, a Jira and an uploads scope, and rows as a sync would leave them."""

    def __init__(self, session: Session, *, title: str = "Shop", timezone: str = "UTC") -> None:
        self.session = session
        self.tenant_id = connections.default_tenant(session)
        self.project_id = connections.ensure_project(session, self.tenant_id, title, timezone=timezone)
        self.repository_id = connections.ensure_repository(
            session, self.tenant_id, self.project_id, provider="gitlab", external_id=title, title=title
        )
        self.scope_ids = {
            kind: connections.add_scope(
                session,
                connections.add_connection(
                    session,
                    self.tenant_id,
                    kind=kind,
                    name=f"{title} {kind}",
                    base_url=f"https://{kind}.example.com",
                    auth="",
                    options={},
                ),
                external_key=title,
                project_id=self.project_id,
                repository_id=self.repository_id,
                options={},
            )
            for kind in ("gitlab", "jira", "allure")
        }
        self._numbers = iter(range(1, 1_000))

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(values)
        self.session.execute(
            text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in values)})"), values
        )

    def merge_request(self, hours: float | None, *, author_id: str = "7", **changed: Any) -> None:
        number = next(self._numbers)
        target = sync.target(self.session, self.scope_ids["gitlab"])
        merged_at = MERGED_AT if hours is not None else None
        created_at = MERGED_AT - timedelta(hours=hours or 0)
        values: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "connection_id": target.connection_id,
            "sync_scope_id": target.sync_scope_id,
            "project_id": self.project_id,
            "project_name": "acme/shop",
            "external_project_id": str(target.sync_scope_id),
            "external_id": str(number),
            "mr_id": number,
            "title": "A merge request",
            "author_id": author_id,
            "state": "merged" if merged_at else "opened",
            "draft": False,
            "labels": "[]",
            "mr_created_at": created_at,
            "merged_at": merged_at,
            "source_updated_at": MERGED_AT,
            "synced_at": MERGED_AT,
        }
        self.insert("gitlab_mr_lead_times", **(values | changed))

    def account(self, account_id: str, *, is_bot: bool) -> None:
        self.insert(
            "user_identities",
            tenant_id=self.tenant_id,
            source="gitlab",
            external_id=f"gitlab.example.com/{account_id}",
            username=f"account-{account_id}",
            is_bot=is_bot,
        )

    def issue_times(self, issue_type: str, lead_hours: float, cycle_hours: float | None) -> None:
        number = next(self._numbers)
        self.insert(
            "jira_lead_times",
            tenant_id=self.tenant_id,
            connection_id=sync.target(self.session, self.scope_ids["jira"]).connection_id,
            issue_id=str(number),
            project_key="SHOP",
            project_id=self.project_id,
            issue_key=f"{self.project_id}-{number}",
            issue_type=issue_type,
            status="Done",
            issue_created_at=MERGED_AT - timedelta(hours=lead_hours),
            resolved_at=MERGED_AT,
            lead_time_hours=lead_hours,
            cycle_time_hours=cycle_hours,
            time_in_status="{}",
            reopen_count=0,
            definition_version=1,
            last_updated_at=AS_OF,
        )

    def bug_day(self, day: date, **counts: int) -> None:
        columns = (
            "bugs_created",
            "bugs_resolved",
            "bugs_closed",
            "bugs_reopened",
            "open_bugs",
            "critical_bugs",
            "high_priority_bugs",
            "medium_priority_bugs",
            "low_priority_bugs",
        )
        self.insert(
            "bug_analytics_daily",
            tenant_id=self.tenant_id,
            project=f"project {self.project_id}",
            project_id=self.project_id,
            date=day,
            definition_version=1,
            last_updated_at=AS_OF,
            **{name: counts.get(name, 0) for name in columns},
        )

    def contribution(self, username: str, *, month: int = 6, is_bot: bool = False, **counts: int) -> None:
        columns = ("mr_created", "mr_approved", "repo_pushes", "total_events")
        self.insert(
            "monthly_contributions",
            tenant_id=self.tenant_id,
            year=2025,
            month=month,
            month_name="June",
            username=username,
            project_id=self.project_id,
            is_bot=is_bot,
            definition_version=1,
            last_updated_at=AS_OF,
            **{name: counts.get(name, 0) for name in columns},
        )

    def run(self, name: str, attempts: list[records.TestAttempt], *, at: datetime) -> None:
        target = sync.target(self.session, self.scope_ids["allure"])
        facts = records.TestReport(
            name=name,
            content_hash=name,
            build_name=None,
            build_url=None,
            build_order=None,
            executor_type=None,
            commit_sha="0123456789abcdef",
            branch="main",
            environment={},
            started_at=at,
            stopped_at=at + timedelta(minutes=1),
            files_count=len(attempts),
            rejected_count=0,
        )
        report_id, _ = testing.begin_report(self.session, target, facts)
        testing.write_attempts(self.session, report_id, attempts)
        testing.finish_report(self.session, target, report_id, ci_url=None, rejected_count=0, ingested_at=at)

    def report(self, **options: Any) -> Report:
        period = Period(**{"project_id": self.project_id, **JUNE, **options})
        return report(self.session, period, as_of=AS_OF)


def attempt(test: str, status: str, *, is_retry: bool = False) -> records.TestAttempt:
    return records.TestAttempt(
        result_uuid=f"{test}-{is_retry}",
        test_key=test,
        identity_version=1,
        case_path="tests",
        case_name=test,
        framework="pytest",
        name=test,
        full_name=None,
        history_id=None,
        parameters_hash="",
        parameters={},
        status=status,
        is_retry=is_retry,
        flaky=False,
        status_message=None,
        status_trace=None,
        started_at=None,
        duration_ms=1,
        suite=None,
        feature=None,
        story=None,
        severity=None,
        owner=None,
        labels=(),
        links=(),
        attachments=(),
        steps=(),
    )


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with database.transaction() as session:
        yield World(session)


def spread(row: dict[str, Any], prefix: str = "") -> tuple[Any, ...]:
    return tuple(row[prefix + name] for name in ("n", "p50", "p75", "p90"))


def test_percentiles_are_interpolated_linearly_with_n_beside(world: World) -> None:
    for hours in (10, 20, 30, 40):
        world.merge_request(hours)
    first, *_ = world.report().merge_requests
    assert first["measure"] == "created to merged"
    assert spread(first) == pytest.approx((4, 25, 32.5, 37))


def test_stages_of_a_merge_request_are_those_of_the_worked_example(world: World) -> None:
    world.merge_request(
        45,
        first_commit_at=MERGED_AT - timedelta(hours=49),
        first_review_at=MERGED_AT - timedelta(hours=19.5),
    )
    medians = {row["measure"]: row["p50"] for row in world.report().merge_requests}
    assert medians == {
        "created to merged": 45,
        "first commit to merged": 49,
        "time to first review": 25.5,
        "review": 19.5,
    }


def test_nothing_is_no_data_and_not_0(world: World) -> None:
    found = world.report()
    assert all(spread(row) == (0, None, None, None) for row in found.merge_requests)
    assert found.open_bugs is None
    assert [row["created"] for row in found.bug_weeks] == [None] * 4
    assert (found.issues[0]["lead_n"], found.issues[0]["lead_p50"]) == (0, None)
    assert found.runs == []
    assert (found.contributors, found.contributors_count, found.bots) == ([], 0, [])
    assert all(row["complete_until"] is None and row["age_seconds"] is None for row in found.freshness)


def test_bots_are_left_out_and_counted(world: World) -> None:
    world.account("7", is_bot=False)
    world.account("8", is_bot=True)
    world.merge_request(10)
    world.merge_request(1, author_id="8")
    found = world.report()
    assert spread(found.merge_requests[0]) == (1, 10, 10, 10)
    assert found.merge_requests_left_out["bots"] == 1


def test_same_id_at_another_instance_is_another_account(world: World) -> None:
    world.insert(
        "user_identities",
        tenant_id=world.tenant_id,
        source="gitlab",
        external_id="elsewhere.example.com/7",
        is_bot=True,
    )
    world.merge_request(10)
    assert world.report().merge_requests[0]["n"] == 1


def test_times_that_the_source_lost_and_times_that_ran_backwards_are_left_out_and_counted(world: World) -> None:
    world.merge_request(10, first_review_at=MERGED_AT - timedelta(hours=5))
    world.merge_request(5_000, merged_at_is_estimated=True)
    world.merge_request(-3)
    found = world.report()
    assert spread(found.merge_requests[0]) == (1, 10, 10, 10)
    assert found.merge_requests_left_out["estimated"] == 1
    assert found.merge_requests_left_out["backwards"] == 2  # to the merge from the creation, and from the first commit
    assert found.merge_requests_left_out["unreviewed"] == 1


def test_merge_request_belongs_to_the_day_of_its_merge_in_the_projects_time_zone(database: Database) -> None:
    late = datetime(2025, 3, 31, 22, 30, tzinfo=UTC)
    for timezone, month in (("Europe/Berlin", 4), ("UTC", 3)):
        with database.transaction() as session:
            world = World(session, title=timezone, timezone=timezone)
            world.merge_request(10, mr_created_at=late - timedelta(hours=10), merged_at=late)
            first, last = date(2025, month, 1), date(2025, month, 30)
            assert world.report(first=first, last=last).merge_requests[0]["n"] == (month == 4)
            assert world.report(first=first, last=last + timedelta(days=1)).merge_requests[0]["n"] == 1


def test_last_day_is_included(world: World) -> None:
    world.merge_request(10)
    day = MERGED_AT.date()
    assert world.report(first=day, last=day).merge_requests[0]["n"] == 1
    assert world.report(first=day + timedelta(days=1), last=day + timedelta(days=2)).merge_requests[0]["n"] == 0


def test_issue_that_was_never_begun_has_a_lead_time_and_no_cycle_time(world: World) -> None:
    world.issue_times("Bug", 10, 4)
    world.issue_times("Bug", 30, None)
    world.issue_times("Story", 99, 95)
    found = {row["issue_type"]: row for row in world.report().issues}
    assert list(found) == ["Bug", "Story", None]
    assert spread(found["Bug"], "lead_") == (2, 20, 25, 28)
    assert spread(found["Bug"], "cycle_") == (1, 4, 4, 4)
    assert (found[None]["lead_n"], found[None]["cycle_n"]) == (3, 2)
    assert found[None]["lead_p50"] == 30


def test_open_bugs_are_those_of_the_last_day_and_weeks_add_up(world: World) -> None:
    world.bug_day(date(2025, 6, 1), bugs_created=9, open_bugs=9, high_priority_bugs=9)
    world.bug_day(date(2025, 6, 24), bugs_created=2, bugs_closed=1, open_bugs=10, high_priority_bugs=10)
    world.bug_day(
        date(2025, 6, 30),
        bugs_created=1,
        bugs_closed=4,
        bugs_reopened=1,
        open_bugs=8,
        critical_bugs=1,
        low_priority_bugs=7,
    )
    world.bug_day(date(2025, 7, 1), bugs_created=50, open_bugs=58)
    found = world.report()
    assert found.open_bugs == {"total": 8, "critical": 1, "high": 0, "medium": 0, "low": 7}
    latest, before, *_ = found.bug_weeks
    assert latest == {
        "first": date(2025, 6, 24),
        "last": date(2025, 6, 30),
        "created": 3,
        "closed": 5,
        "reopened": 1,
        "open": 8,
    }
    assert (before["created"], before["open"]) == (None, 9)


def test_rates_of_a_run_are_those_of_the_worked_example(world: World) -> None:
    attempts = [attempt(f"passed {number}", "passed") for number in range(85)]
    for number in range(5):
        attempts += [
            attempt(f"flaky {number}", "failed", is_retry=True),
            attempt(f"flaky {number}", "passed"),
        ]
    attempts += [attempt(f"failed {number}", "failed") for number in range(4)]
    attempts += [attempt(f"broken {number}", "broken") for number in range(3)]
    attempts += [attempt(f"skipped {number}", "skipped") for number in range(2)]
    attempts += [attempt("unknown", "unknown")]
    world.run("first", attempts, at=MERGED_AT)
    world.run("second", [attempt("one", "passed")], at=MERGED_AT + timedelta(hours=1))
    second, first, together = world.report().runs
    assert (first["title"], first["tests"], first["n"]) == ("first", 100, 97)
    assert first["pass_rate"] == pytest.approx(0.9278, abs=5e-5)
    assert first["first_attempt_pass_rate"] == pytest.approx(0.8763, abs=5e-5)
    assert first["flaky_rate"] == pytest.approx(0.0515, abs=5e-5)
    assert (second["n"], second["pass_rate"]) == (1, 1)
    assert (together["title"], together["n"]) == (None, 98)
    assert together["pass_rate"] == pytest.approx(91 / 98)


def test_run_in_which_nothing_was_decided_has_no_rate(world: World) -> None:
    world.run("all skipped", [attempt("one", "skipped")], at=MERGED_AT)
    run, _ = world.report().runs
    assert (run["tests"], run["n"], run["pass_rate"]) == (1, 0, None)


def test_contributors_are_of_the_last_whole_month_and_bots_stand_apart(world: World) -> None:
    world.contribution("amara", mr_created=3, mr_approved=1, repo_pushes=2, total_events=12)
    world.contribution("zoe", mr_created=9)
    world.contribution("renovate", is_bot=True, mr_created=40)
    world.contribution("earlier", month=5, mr_created=99)
    found = world.report()
    assert found.month == date(2025, 6, 1)
    assert [row["username"] for row in found.contributors] == ["zoe", "amara"]
    assert found.contributors_count == 2
    assert [row["username"] for row in found.bots] == ["renovate"]
    assert world.report(last=date(2025, 6, 29)).contributors[0]["username"] == "earlier"


def test_freshness_is_the_age_of_what_is_complete(world: World) -> None:
    watermarks.finish_dictionary(
        world.session, world.scope_ids["jira"], "issues", run_started_at=AS_OF - timedelta(minutes=5)
    )
    sync.reject(world.session, world.scope_ids["jira"], "issues", [("1", "cannot be read", b"{}")])
    ages = {row["connection"]: (row["age_seconds"], row["open_rejects"]) for row in world.report().freshness}
    assert ages == {"Shop jira": (300.0, 1), "Shop gitlab": (None, 0), "Shop allure": (None, 0)}


def test_project_shows_its_own_rows_and_all_projects_show_all(database: Database) -> None:
    with database.transaction() as session:
        shop, other = World(session), World(session, title="Other")
        for world, hours in ((shop, 10), (other, 30)):
            world.merge_request(hours)
            world.issue_times("Bug", hours, None)
            world.bug_day(date(2025, 6, 30), open_bugs=3)
            world.contribution("amara", mr_created=1)
            world.run(f"run of {world.project_id}", [attempt("one", "passed")], at=MERGED_AT)
        alone, together = shop.report(), shop.report(project_id=None)
    assert spread(alone.merge_requests[0]) == (1, 10, 10, 10)
    assert spread(together.merge_requests[0]) == (2, 20, 25, 28)
    assert (alone.issues[-1]["lead_n"], together.issues[-1]["lead_n"]) == (1, 2)
    assert (alone.open_bugs or {})["total"] == 3
    assert (together.open_bugs or {})["total"] == 6
    assert (len(alone.runs), len(together.runs)) == (2, 3)
    assert (alone.contributors[0]["mr_created"], together.contributors[0]["mr_created"]) == (1, 2)
    rows = {row["table"]: row["rows"] for row in alone.tables}
    assert {rows[name] for name in ("gitlab_mr_lead_times", "test_runs", "test_run_results", "allure_scenarios")} == {1}
    assert all(row["rows"] in (rows[row["table"]], 2 * rows[row["table"]]) for row in together.tables)


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def plumbline(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    keys = ",".join(key.get_secret_value() for key in settings.secret_keys)
    monkeypatch.setenv("PLUMBLINE_HOME", str(settings.home))
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", database.url.set(drivername="postgresql").render_as_string(False))
    monkeypatch.setenv("PLUMBLINE_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PLUMBLINE_SECRET_KEYS", keys)

    def run(*arguments: str) -> tuple[int, str, str]:
        before = runtime.current()
        try:
            code = main.run(arguments, command.app)
        finally:
            runtime.current().database.close()
            runtime.use(before)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_command_prints_every_section_and_says_where_there_is_no_data(database: Database, plumbline: Any) -> None:
    with database.transaction() as session:
        world = World(session)
        world.merge_request(10)
        world.run("run 1", [attempt("one", "passed"), attempt("two", "failed")], at=MERGED_AT)
    code, out, _ = plumbline("Shop", "--from", "2025-06-01", "--to", "2025-06-30")
    assert code == 0
    headings = (
        "Rows by table",
        "Merge requests of people",
        "Jira issues",
        "Open bugs",
        "Bugs by week",
        "Last test runs",
        "Contributors in June 2025",
        "Freshness",
    )
    positions = [out.index(heading) for heading in headings]
    assert positions == sorted(positions)
    assert "50.0 %" in out
    assert "no data" in out
    assert "never synced" in out


def test_command_gives_one_json_document(database: Database, plumbline: Any) -> None:
    with database.transaction() as session:
        World(session).merge_request(10)
    code, out, _ = plumbline("--from", "2025-06-01", "--to", "2025-06-30", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["period"] == {"project": None, "from": "2025-06-01", "to": "2025-06-30"}
    assert said["merge_requests"][0] == {"measure": "created to merged", "n": 1, "p50": 10, "p75": 10, "p90": 10}
    assert said["open_bugs"] is None


def test_command_refuses_what_it_cannot_mean(plumbline: Any) -> None:
    for arguments in (("Nowhere",), ("--from", "June"), ("--from", "2025-02-01", "--to", "2025-01-01")):
        code, out, err = plumbline(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("Error: ")
