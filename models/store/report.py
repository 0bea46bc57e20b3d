"""The numbers of `plumbline report`, read from tables and summaries; nothing is computed here that they do not define.

What belongs here: choosing, percentiles and counting (metrics 2.0). What does not: how it is printed. Everywhere NULL
stands for no data, never for 0, and n stands beside each number. A thing belongs to the period in which it was
completed, by the days of its project's time zone; days count whole, the last one included.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.store import connections

RUNS_COUNT = 10
CONTRIBUTORS_COUNT = 10
WEEKS_COUNT = 4

Rows = list[dict[str, Any]]


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is about."""

    project_id: int | None
    """None: all projects together."""
    first: date
    last: date
    """Included."""

    @property
    def parameters(self) -> dict[str, Any]:
        """As the statements name them."""
        return {"project": self.project_id, "first": self.first, "last": self.last}

    @property
    def month(self) -> date:
        """The first day of the last month that has ended when the period does."""
        after = self.last + timedelta(days=1)
        return (after.replace(day=1) - timedelta(days=1)).replace(day=1)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All sections, in the order of reading."""

    as_of: datetime
    period: Period
    tables: Rows
    """table, rows."""
    merge_requests: Rows
    """measure, n, p50, p75, p90 (hours); people's only."""
    merge_requests_left_out: dict[str, int]
    """Of those that were merged in the period: `bots`, `estimated` (the source lost the time), `backwards` (a later
    stage lies before an earlier one), and `unreviewed` of people's, which are in the other measures."""
    issues: Rows
    """issue_type (None: all), and of lead and cycle time n, p50, p75, p90 (hours)."""
    open_bugs: dict[str, int] | None
    """On the last day: total and by severity."""
    bug_weeks: Rows
    """first, last, created, closed, reopened, open (at the end), the latest first."""
    runs: Rows
    """The last runs, and all of them together (title None): tests, n (decided), pass_rate, first_attempt_pass_rate,
    flaky_rate."""
    month: date
    contributors: Rows
    """The top ones of that month, and of how many."""
    contributors_count: int
    bots: Rows
    freshness: Rows
    """connection, scope, complete_until, age_seconds, open_rejects, last_error."""


def report(session: Session, period: Period, *, as_of: datetime) -> Report:
    """Read the whole report.

    Transaction: the caller's; nothing is written.

    Args:
        session: inside a transaction.
        period: what it is about.
        as_of: now, for how fresh everything is; aware.
    """
    people, people_count = _contributors(session, period, is_bot=False)
    bots, _ = _contributors(session, period, is_bot=True)
    merge_requests, left_out = _merge_requests(session, period)
    return Report(
        as_of=as_of,
        period=period,
        tables=_tables(session, period),
        merge_requests=merge_requests,
        merge_requests_left_out=left_out,
        issues=_issues(session, period),
        open_bugs=_open_bugs(session, period),
        bug_weeks=_bug_weeks(session, period),
        runs=_runs(session, period),
        month=period.month,
        contributors=people,
        contributors_count=people_count,
        bots=bots,
        freshness=_freshness(session, period, as_of=as_of),
    )


# --- rows by table ----------------------------------------------------------------------------------------------

# In the order in which data flows; a table's rows of one project are those that the condition finds.
TABLES = {
    "jira_table_history": "t.project_id = :project",
    "jira_issue_changes": (
        "EXISTS (SELECT FROM jira_table_history i WHERE i.connection_id = t.connection_id "
        "AND i.issue_id = t.issue_id AND i.project_id = :project)"
    ),
    "bug_budget": "t.project_id = :project",
    "gitlab_mr_lead_times": "t.project_id = :project",
    "gitlab_mr_activities": "t.project_id = :project",
    "gitlab_events": "t.project_id = :project",
    "allure_report": "t.project_id = :project",
    "allure_scenarios": (
        "EXISTS (SELECT FROM allure_report r WHERE r.id = t.allure_report_id AND r.project_id = :project)"
    ),
    "test_cases": "EXISTS (SELECT FROM repositories r WHERE r.id = t.repository_id AND r.project_id = :project)",
    "test_runs": "t.project_id = :project",
    "test_run_results": "EXISTS (SELECT FROM test_runs r WHERE r.id = t.test_run_id AND r.project_id = :project)",
    "jira_lead_times": "t.project_id = :project",
    "bug_analytics_daily": "t.project_id = :project",
    "test_execution_summary": "t.project_id = :project",
    "test_runs_view": "t.project_id = :project",
    "gitlab_mr_contributors": "t.project_id = :project",
    "monthly_contributions": "t.project_id = :project",
}


def _tables(session: Session, period: Period) -> Rows:
    counts = " UNION ALL ".join(
        f"SELECT {number} AS number, '{table}' AS name, count(*) AS rows FROM {table} t "
        f"WHERE CAST(:project AS bigint) IS NULL OR {condition}"
        for number, (table, condition) in enumerate(TABLES.items())
    )
    rows = session.execute(text(f"{counts} ORDER BY number"), {"project": period.project_id})
    return [{"table": row.name, "rows": row.rows} for row in rows]


# --- merge requests ---------------------------------------------------------------------------------------------

MERGE_REQUEST_MEASURES = ("created to merged", "first commit to merged", "time to first review", "review")

# An account is known by its instance's host and its id there.
MERGE_REQUESTS = """
    WITH merge_request AS (
        SELECT m.*, p.timezone, COALESCE(u.is_bot, false) AS is_bot
        FROM gitlab_mr_lead_times m
        JOIN projects p ON p.id = m.project_id
        JOIN connections c ON c.id = m.connection_id
        LEFT JOIN user_identities u ON u.tenant_id = m.tenant_id AND u.source = c.kind
            AND u.external_id = substring(c.base_url FROM '://([^/?#]*)') || '/' || m.author_id
        WHERE CAST(:project AS bigint) IS NULL OR m.project_id = :project
    ), measured AS (
        SELECT v.measure, v.hours, m.is_bot, v.is_estimated, v.started_at, v.ended_at, m.first_review_at
        FROM merge_request m
        CROSS JOIN LATERAL (VALUES
            (1, m.lead_time_hours, m.mr_created_at, m.merged_at, m.merged_at_is_estimated),
            (2, m.first_commit_to_merge_hours, LEAST(m.first_commit_at, m.mr_created_at), m.merged_at,
                m.merged_at_is_estimated),
            (3, m.time_to_first_review_hours, m.mr_created_at, m.first_review_at, false),
            (4, m.review_hours, m.first_review_at, m.merged_at, m.merged_at_is_estimated)
        ) AS v(measure, hours, started_at, ended_at, is_estimated)
        WHERE local_day(v.ended_at, m.timezone) BETWEEN :first AND :last
    )
"""

MERGE_REQUEST_TIMES = text(
    f"""
    {MERGE_REQUESTS}
    SELECT measure, count(hours) AS n,
        percentile_cont(ARRAY[0.5, 0.75, 0.9]) WITHIN GROUP (ORDER BY hours) AS percentiles
    FROM measured WHERE NOT is_bot AND NOT is_estimated GROUP BY measure
    """
)

MERGE_REQUESTS_LEFT_OUT = text(
    f"""
    {MERGE_REQUESTS}
    SELECT count(*) FILTER (WHERE measure = 1 AND is_bot) AS bots,
        count(*) FILTER (WHERE measure = 1 AND NOT is_bot AND is_estimated) AS estimated,
        count(*) FILTER (WHERE ended_at < started_at AND NOT is_bot AND NOT is_estimated) AS backwards,
        count(*) FILTER (WHERE measure = 1 AND NOT is_bot AND NOT is_estimated
            AND (first_review_at IS NULL OR first_review_at > ended_at)) AS unreviewed
    FROM measured
    """
)


def _merge_requests(session: Session, period: Period) -> tuple[Rows, dict[str, int]]:
    found = {row.measure: row for row in session.execute(MERGE_REQUEST_TIMES, period.parameters)}
    rows = [
        {"measure": name, **_spread(found[number].n, found[number].percentiles)}
        if number in found
        else {"measure": name, **_spread(0, None)}
        for number, name in enumerate(MERGE_REQUEST_MEASURES, start=1)
    ]
    left_out = session.execute(MERGE_REQUESTS_LEFT_OUT, period.parameters).one()
    return rows, left_out._asdict()


def _spread(n: int, percentiles: list[float | None] | None) -> dict[str, Any]:
    p50, p75, p90 = percentiles if n and percentiles else (None, None, None)
    return {"n": n, "p50": p50, "p75": p75, "p90": p90}


# --- issues -----------------------------------------------------------------------------------------------------

ISSUE_TIMES = text(
    """
    SELECT l.issue_type, count(l.lead_time_hours) AS lead_n,
        percentile_cont(ARRAY[0.5, 0.75, 0.9]) WITHIN GROUP (ORDER BY l.lead_time_hours) AS lead,
        count(l.cycle_time_hours) AS cycle_n,
        percentile_cont(ARRAY[0.5, 0.75, 0.9]) WITHIN GROUP (ORDER BY l.cycle_time_hours) AS cycle
    FROM jira_lead_times l JOIN projects p ON p.id = l.project_id
    WHERE (CAST(:project AS bigint) IS NULL OR l.project_id = :project)
      AND local_day(l.resolved_at, p.timezone) BETWEEN :first AND :last
    GROUP BY GROUPING SETS ((l.issue_type), ())
    ORDER BY l.issue_type NULLS LAST
    """
)


def _issues(session: Session, period: Period) -> Rows:
    return [
        {
            "issue_type": row.issue_type,
            **{f"lead_{name}": value for name, value in _spread(row.lead_n, row.lead).items()},
            **{f"cycle_{name}": value for name, value in _spread(row.cycle_n, row.cycle).items()},
        }
        for row in session.execute(ISSUE_TIMES, period.parameters)
    ]


# --- bugs -------------------------------------------------------------------------------------------------------

OPEN_BUGS = """
    SELECT sum(open_bugs) AS total, sum(critical_bugs) AS critical, sum(high_priority_bugs) AS high,
        sum(medium_priority_bugs) AS medium, sum(low_priority_bugs) AS low
    FROM (SELECT DISTINCT ON (project_id) * FROM bug_analytics_daily
          WHERE (CAST(:project AS bigint) IS NULL OR project_id = :project) AND date <= {last}
          ORDER BY project_id, date DESC) AS latest
"""

BUG_WEEKS = text(
    f"""
    SELECT week.first, week.last, sum(b.bugs_created) AS created, sum(b.bugs_closed) AS closed,
        sum(b.bugs_reopened) AS reopened, (SELECT total FROM ({OPEN_BUGS.format(last="week.last")}) AS stock) AS open
    FROM (SELECT CAST(:last AS date) - 7 * number - 6 AS first, CAST(:last AS date) - 7 * number AS last
          FROM generate_series(0, :weeks - 1) AS number) AS week
    LEFT JOIN bug_analytics_daily b ON b.date BETWEEN week.first AND week.last
        AND (CAST(:project AS bigint) IS NULL OR b.project_id = :project)
    GROUP BY week.first, week.last ORDER BY week.last DESC
    """
)


def _open_bugs(session: Session, period: Period) -> dict[str, int] | None:
    row = session.execute(text(OPEN_BUGS.format(last=":last")), period.parameters).one()
    return None if row.total is None else {name: int(value) for name, value in row._asdict().items()}


def _bug_weeks(session: Session, period: Period) -> Rows:
    rows = session.execute(BUG_WEEKS, {**period.parameters, "weeks": WEEKS_COUNT})
    return [
        {name: int(value) if name not in {"first", "last"} and value is not None else value for name, value in week}
        for week in (row._asdict().items() for row in rows)
    ]


# --- test runs --------------------------------------------------------------------------------------------------

# A test is one set of parameters of a case (metrics 2.12); what a person ran has no attempts but retries.
RUNS = text(
    """
    WITH run AS MATERIALIZED (
        SELECT r.id, r.title, r.build_version, r.branch, r.commit_sha, r.execution_date, r.allure_report_id
        FROM test_runs r JOIN projects p ON p.id = r.project_id
        WHERE (CAST(:project AS bigint) IS NULL OR r.project_id = :project)
          AND local_day(r.execution_date, p.timezone) BETWEEN :first AND :last
        ORDER BY r.execution_date DESC, r.id DESC LIMIT :runs
    ), test AS (
        SELECT run.id,
            bool_or(NOT a.is_retry AND a.status IN ('passed', 'failed', 'broken')) AS is_decided,
            bool_or(NOT a.is_retry AND a.status = 'passed') AS passed,
            bool_or(a.attempt = 1 AND a.status = 'passed') AS passed_at_once,
            bool_or(a.is_retry AND a.status IN ('failed', 'broken')) AS failed_before
        FROM run JOIN allure_scenarios a USING (allure_report_id)
        WHERE a.attempt IS NOT NULL AND NOT EXISTS (
            SELECT FROM test_run_results t
            WHERE t.test_run_id = run.id AND t.test_case_id = a.test_case_id AND NOT t.is_valid)
        GROUP BY run.id, a.test_key
        UNION ALL
        SELECT run.id, t.status IN ('passed', 'failed'), t.status = 'passed', t.status = 'passed' AND t.retry_count = 0,
            t.retry_count > 0
        FROM run JOIN test_run_results t ON t.test_run_id = run.id
        WHERE run.allure_report_id IS NULL AND t.is_valid
    ), counted AS (
        SELECT id, count(*) AS tests, count(*) FILTER (WHERE is_decided) AS n,
            count(*) FILTER (WHERE is_decided AND passed) AS passed,
            count(*) FILTER (WHERE is_decided AND passed_at_once) AS passed_at_once,
            count(*) FILTER (WHERE is_decided AND passed AND failed_before) AS flaky
        FROM test GROUP BY GROUPING SETS ((id), ())
    )
    SELECT run.id, run.title, run.build_version, run.branch, run.commit_sha, run.execution_date,
        COALESCE(c.tests, 0) AS tests, COALESCE(c.n, 0) AS n,
        c.passed / NULLIF(c.n, 0)::double precision AS pass_rate,
        c.passed_at_once / NULLIF(c.n, 0)::double precision AS first_attempt_pass_rate,
        c.flaky / NULLIF(c.n, 0)::double precision AS flaky_rate
    FROM run FULL JOIN counted c USING (id)
    WHERE run.id IS NOT NULL OR EXISTS (SELECT FROM run)
    ORDER BY run.execution_date DESC NULLS LAST, run.id DESC
    """
)


def _runs(session: Session, period: Period) -> Rows:
    return [row._asdict() for row in session.execute(RUNS, {**period.parameters, "runs": RUNS_COUNT})]


# --- people -----------------------------------------------------------------------------------------------------

CONTRIBUTORS = text(
    """
    SELECT username, max(name) AS name, sum(mr_created) AS mr_created, sum(mr_approved) AS mr_approved,
        sum(repo_pushes) AS repo_pushes, sum(total_events) AS total_events, count(*) OVER () AS total
    FROM monthly_contributions
    WHERE (CAST(:project AS bigint) IS NULL OR project_id = :project)
      AND year = :year AND month = :month AND is_bot = :is_bot
    GROUP BY username
    ORDER BY sum(mr_created) + sum(mr_approved) DESC, sum(repo_pushes) DESC, sum(total_events) DESC, username
    LIMIT :limit
    """
)


def _contributors(session: Session, period: Period, *, is_bot: bool) -> tuple[Rows, int]:
    rows = session.execute(
        CONTRIBUTORS,
        {
            "project": period.project_id,
            "year": period.month.year,
            "month": period.month.month,
            "is_bot": is_bot,
            "limit": CONTRIBUTORS_COUNT,
        },
    ).all()
    columns = ("username", "name", "mr_created", "mr_approved", "repo_pushes", "total_events")
    return [{name: getattr(row, name) for name in columns} for row in rows], rows[0].total if rows else 0


# --- freshness --------------------------------------------------------------------------------------------------


def _freshness(session: Session, period: Period, *, as_of: datetime) -> Rows:
    return [
        {
            "connection": row.connection,
            "scope": row.external_key,
            "kind": row.kind,
            "project": row.project,
            "complete_until": row.complete_until,
            # By the vendor's clock, which may be ahead of ours.
            "age_seconds": row.complete_until and max(0.0, (as_of - row.complete_until).total_seconds()),
            "open_rejects": row.open_rejects,
            "last_error": row.last_error,
        }
        for row in connections.scopes(session)
        if period.project_id in (None, row.project_id)
    ]
