"""Test runs of a project on a day of its time zone: how many, how they ended, how long they took (metrics 2.12)."""

from __future__ import annotations

from models.store.summaries.definition import Summary
from models.tables import METADATA

RUN_OF_MARK = """
    SELECT p.id AS project_id, local_day(r.execution_date, p.timezone) AS date
    FROM marks m
    {joins}
    JOIN projects p ON p.id = r.project_id
    WHERE r.execution_date IS NOT NULL
"""

KEYS_OF_MARKS = {
    "key": """
    SELECT CAST(substring(key FROM '^([0-9]+):') AS bigint) AS project_id,
           CAST(substring(key FROM '^[0-9]+:([0-9]{4}-[0-9]{2}-[0-9]{2})$') AS date) AS date
    FROM marks WHERE key ~ '^[0-9]+:[0-9]{4}-[0-9]{2}-[0-9]{2}$'
""",
    # A day of UTC touches one or two local days.
    "day": """
    SELECT p.id AS project_id, d.date
    FROM (
        SELECT CAST(substring(key FROM '^([0-9]+)@') AS bigint) AS project_id,
               CAST(substring(key FROM '^[0-9]+@([0-9]{4}-[0-9]{2}-[0-9]{2})$') AS date) AS day
        FROM marks
    ) AS m
    JOIN projects p ON p.id = m.project_id
    CROSS JOIN LATERAL (VALUES
        (local_day(m.day::timestamp AT TIME ZONE 'UTC', p.timezone)),
        (local_day((m.day + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 microsecond', p.timezone))) AS d(date)
    WHERE m.day IS NOT NULL
""",
    "number": """
    SELECT p.id AS project_id, k.date
    FROM (SELECT CAST(substring(key FROM '^[0-9]+$') AS bigint) AS id FROM marks) AS m
    JOIN projects p USING (id)
    CROSS JOIN LATERAL (
        SELECT local_day(r.execution_date, p.timezone) AS date FROM test_runs r
        WHERE r.project_id = p.id AND r.execution_date IS NOT NULL
        UNION ALL
        SELECT s.date FROM test_execution_summary s WHERE s.project_id = p.id) AS k
""",
    "run": RUN_OF_MARK.format(
        joins="JOIN test_runs r ON r.id = CAST(substring(m.key FROM '^run:([0-9]+)$') AS bigint)"
    ),
    "report": RUN_OF_MARK.format(
        joins="JOIN test_runs r ON r.allure_report_id = CAST(substring(m.key FROM '^report:([0-9]+)$') AS bigint)"
    ),
    "case": RUN_OF_MARK.format(
        joins="JOIN test_run_results t ON t.test_case_id = CAST(substring(m.key FROM '^case:([0-9]+)$') AS bigint) "
        "JOIN test_runs r ON r.id = t.test_run_id"
    ),
}

ALL_KEYS = """
    SELECT p.id AS project_id, local_day(r.execution_date, p.timezone) AS date
    FROM test_runs r JOIN projects p ON p.id = r.project_id
    WHERE r.execution_date IS NOT NULL AND (CAST(:project_id AS bigint) IS NULL OR p.id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR p.tenant_id = ANY(:tenants))
    UNION
    SELECT p.id, s.date FROM test_execution_summary s JOIN projects p ON p.id = s.project_id
    WHERE (CAST(:project_id AS bigint) IS NULL OR p.id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR p.tenant_id = ANY(:tenants))
"""

ROWS = """
    WITH run AS MATERIALIZED (
        SELECT w.project_id, w.date, r.id, r.allure_report_id,
            EXTRACT(epoch FROM r.completed_at - r.started_at) AS seconds
        FROM wanted w
        JOIN projects p ON p.id = w.project_id
        JOIN test_runs r ON r.project_id = w.project_id
            AND r.execution_date >= (w.date::timestamp AT TIME ZONE p.timezone)
            AND r.execution_date < ((w.date + 1)::timestamp AT TIME ZONE p.timezone)
    ), result AS MATERIALIZED (
        SELECT run.project_id, run.date, run.id, t.test_case_id, t.status, c.automated
        FROM run JOIN test_run_results t ON t.test_run_id = run.id JOIN test_cases c ON c.id = t.test_case_id
        WHERE t.is_valid
    ), by_run AS (
        SELECT id,
            CASE WHEN bool_or(status = 'failed') THEN 'failed' WHEN bool_or(status = 'blocked') THEN 'blocked'
                 WHEN bool_or(status = 'passed') THEN 'passed' ELSE 'skipped' END AS class
        FROM result GROUP BY id
    ), runs AS (
        SELECT project_id, date,
            count(*) AS total,
            count(*) FILTER (WHERE class = 'passed') AS passed,
            count(*) FILTER (WHERE class = 'failed') AS failed,
            count(*) FILTER (WHERE class = 'skipped') AS skipped,
            count(*) FILTER (WHERE class = 'blocked') AS blocked,
            -- A clock that ran backwards, or for three years, measured nothing.
            avg(seconds) FILTER (WHERE seconds >= 0 AND seconds < 100000000 - 1) AS seconds
        FROM run LEFT JOIN by_run USING (id)
        GROUP BY project_id, date
    ), results AS (
        SELECT project_id, date,
            count(*) AS total,
            count(*) FILTER (WHERE status = 'passed') AS passed,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(DISTINCT test_case_id) AS cases,
            count(DISTINCT test_case_id) FILTER (WHERE automated) AS automated
        FROM result GROUP BY project_id, date
    ), test AS (
        SELECT run.project_id, run.date,
            bool_or(a.attempt = 1 AND a.status = 'passed') AS passed_at_once,
            bool_or(NOT a.is_retry AND a.status = 'passed') AS passed_at_last,
            bool_or(NOT a.is_retry AND a.status IN ('passed', 'failed', 'broken')) AS is_decided,
            bool_or(a.is_retry AND a.status IN ('failed', 'broken')) AS failed_before
        FROM run JOIN allure_scenarios a USING (allure_report_id)
        WHERE a.attempt IS NOT NULL AND NOT EXISTS (
            SELECT FROM test_run_results t
            WHERE t.test_run_id = run.id AND t.test_case_id = a.test_case_id AND NOT t.is_valid)
        GROUP BY run.project_id, run.date, run.id, a.test_key
    ), tests AS (
        SELECT project_id, date,
            count(*)::numeric AS decided,
            count(*) FILTER (WHERE passed_at_once) AS passed_at_once,
            count(*) FILTER (WHERE passed_at_last AND failed_before) AS flaky
        FROM test WHERE is_decided GROUP BY project_id, date
    )
    SELECT r.project_id, r.date, r.total AS total_runs, r.passed AS passed_runs, r.failed AS failed_runs,
        r.skipped AS skipped_runs, r.blocked AS blocked_runs,
        COALESCE(c.automated, 0) AS automated_count, COALESCE(c.cases - c.automated, 0) AS manual_count,
        r.seconds AS avg_execution_time, COALESCE(c.cases, 0) AS total_test_cases,
        COALESCE(c.total, 0) AS results_count, COALESCE(c.passed, 0) AS passed_results,
        COALESCE(c.failed, 0) AS failed_results,
        c.passed / NULLIF(c.passed + c.failed, 0)::numeric AS pass_rate,
        t.passed_at_once / t.decided AS first_attempt_pass_rate,
        t.flaky / t.decided AS flaky_rate
    FROM runs r
    LEFT JOIN results c USING (project_id, date)
    LEFT JOIN tests t USING (project_id, date)
"""

SUMMARY = Summary(
    name="test_execution_summary",
    table=METADATA.tables["test_execution_summary"],
    key=("project_id", "date"),
    identity=("project_id", "date"),
    definition_version=1,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
)
