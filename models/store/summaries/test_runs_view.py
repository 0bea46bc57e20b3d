"""The read model of test runs: one row a run, as the platform lists them."""

from __future__ import annotations

from models.store.summaries.definition import Summary
from models.tables import METADATA

KEYS_OF_MARKS = {
    "number": """
    SELECT CAST(key AS bigint) AS id FROM (SELECT substring(key FROM '^[0-9]+$') AS key FROM marks) AS m
    WHERE key IS NOT NULL
""",
    "project": """
    SELECT r.id
    FROM marks m JOIN test_runs r ON r.project_id = CAST(substring(m.key FROM '^project:([0-9]+)$') AS bigint)
""",
    "repository": """
    SELECT r.id
    FROM marks m JOIN test_runs r ON r.repository_id = CAST(substring(m.key FROM '^repository:([0-9]+)$') AS bigint)
""",
    "plan": """
    SELECT r.id
    FROM marks m JOIN test_runs r ON r.test_plan_id = CAST(substring(m.key FROM '^plan:([0-9]+)$') AS bigint)
""",
}

ALL_KEYS = """
    SELECT r.id FROM test_runs r JOIN projects p ON p.id = r.project_id
    WHERE (CAST(:project_id AS bigint) IS NULL OR p.id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR p.tenant_id = ANY(:tenants))
    UNION
    SELECT v.id FROM test_runs_view v LEFT JOIN projects p ON p.id = v.project_id
    WHERE (CAST(:project_id AS bigint) IS NULL OR v.project_id = :project_id)
      AND (CAST(:tenants AS bigint[]) IS NULL OR p.id IS NULL OR p.tenant_id = ANY(:tenants))
"""

# The results are counted before the wide joins; the other way round costs twice the time.
ROWS = """
    WITH counted AS (
        SELECT t.test_run_id,
            count(*) AS total,
            count(*) FILTER (WHERE t.status = 'passed') AS passed,
            count(*) FILTER (WHERE t.status = 'failed') AS failed,
            count(*) FILTER (WHERE t.status = 'skipped') AS skipped,
            count(*) FILTER (WHERE t.status = 'blocked') AS blocked
        FROM wanted w JOIN test_run_results t ON t.test_run_id = w.id
        WHERE t.is_valid
        GROUP BY t.test_run_id
    )
    SELECT r.id, r.test_plan_id, n.title AS test_plan_title, r.project_id, p.title AS project_title,
        r.repository_id, s.title AS repository_title, r.title,
        COALESCE(c.total, 0) AS total_cases, COALESCE(c.passed, 0) AS passed_cases,
        COALESCE(c.failed, 0) AS failed_cases, COALESCE(c.skipped, 0) AS skipped_cases,
        COALESCE(c.blocked, 0) AS blocked_cases,
        r.execution_date,
        CASE WHEN r.completed_at >= r.started_at THEN EXTRACT(epoch FROM r.completed_at - r.started_at) END
            AS execution_duration,
        r.created_by AS created_by_id, CAST(NULL AS text) AS created_by_name
    FROM wanted w
    JOIN test_runs r ON r.id = w.id
    JOIN projects p ON p.id = r.project_id
    LEFT JOIN counted c ON c.test_run_id = r.id
    LEFT JOIN repositories s ON s.id = r.repository_id
    LEFT JOIN test_plans n ON n.id = r.test_plan_id
"""

SUMMARY = Summary(
    name="test_runs_view",
    table=METADATA.tables["test_runs_view"],
    key=("id",),
    identity=("id",),
    definition_version=1,
    keys_of_marks=KEYS_OF_MARKS,
    all_keys=ALL_KEYS,
    rows=ROWS,
)
