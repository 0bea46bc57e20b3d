"""Allure reports, and the test runs, cases and results that they become.

A report is loaded in batches, each a transaction, and becomes a run in one last transaction: nobody sees half a run.
All functions take the session first and never commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import TestAttempt, TestReport
from models.store import copy
from models.store.sync import Target
from models.tables import METADATA

SCENARIOS: Table = METADATA.tables["allure_scenarios"]
STEPS: Table = METADATA.tables["allure_steps"]

# fmt: off
SCENARIO_COLUMNS = (
    "allure_report_id", "name", "status", "duration", "history_id", "test_key", "identity_version", "is_retry",
    "result_uuid", "case_path", "case_name", "framework", "parameters", "parameters_hash", "full_name", "suite",
    "feature", "story", "severity", "owner", "labels", "links", "attachments", "flaky", "status_message",
    "status_trace", "started_at",
)
STEP_COLUMNS = ("scenario_id", "path", "parent_path", "position", "name", "status", "duration", "error_message")
# fmt: on

# How an attempt's status reads in test_run_results, and which of several parameter sets of a case decides.
LAST_ATTEMPTS = """
    SELECT s.*,
        CASE s.status WHEN 'passed' THEN 'passed' WHEN 'skipped' THEN 'skipped' WHEN 'unknown' THEN 'blocked'
            ELSE 'failed' END AS result_status,
        CASE s.status WHEN 'failed' THEN 1 WHEN 'broken' THEN 2 WHEN 'unknown' THEN 3 WHEN 'passed' THEN 4
            ELSE 5 END AS badness
    FROM allure_scenarios s WHERE s.allure_report_id = :report AND NOT s.is_retry
"""

NUMBER_ATTEMPTS = text(
    """
    UPDATE allure_scenarios s SET attempt = n.attempt, retries = n.attempt - 1
    FROM (SELECT id, row_number() OVER (
              PARTITION BY test_key ORDER BY is_retry DESC, started_at NULLS FIRST, result_uuid) AS attempt
          FROM allure_scenarios WHERE allure_report_id = :report) AS n
    WHERE n.id = s.id
    """
)

UPSERT_SUITES = text(
    """
    INSERT INTO suites (repository_id, title)
    SELECT DISTINCT :repository, COALESCE(suite, case_path) FROM allure_scenarios WHERE allure_report_id = :report
    ORDER BY 2 ON CONFLICT (repository_id, parent_id, title) DO NOTHING
    """
)

UPSERT_CASES = text(
    f"""
    INSERT INTO test_cases AS c (tenant_id, repository_id, suite_id, path, name, framework, title, labels, automated,
                                 severity, jira_key)
    SELECT DISTINCT ON (l.case_path, l.case_name, l.framework)
        :tenant, :repository, u.id, l.case_path, l.case_name, l.framework, l.case_name, l.labels, true,
        COALESCE(l.severity, 'Moderate'),
        (SELECT link ->> 'name' FROM jsonb_array_elements(l.links) AS link WHERE link ->> 'type' = 'issue' LIMIT 1)
    FROM ({LAST_ATTEMPTS}) AS l
    JOIN suites u ON u.repository_id = :repository AND u.parent_id IS NULL AND u.title = COALESCE(l.suite, l.case_path)
    ORDER BY l.case_path, l.case_name, l.framework, l.parameters_hash
    ON CONFLICT (repository_id, path, name, framework) WHERE path IS NOT NULL DO UPDATE SET
        suite_id = excluded.suite_id, labels = excluded.labels, automated = true, severity = excluded.severity,
        jira_key = COALESCE(excluded.jira_key, c.jira_key), updated_at = now()
    WHERE (c.suite_id, c.labels, c.automated, c.severity, c.jira_key) IS DISTINCT FROM
        (excluded.suite_id, excluded.labels, true, excluded.severity, COALESCE(excluded.jira_key, c.jira_key))
    """
)

LINK_CASES = text(
    """
    UPDATE allure_scenarios s SET test_case_id = c.id FROM test_cases c
    WHERE s.allure_report_id = :report AND c.repository_id = :repository AND c.path = s.case_path
      AND c.name = s.case_name AND c.framework = s.framework
    """
)

INSERT_RUN = text(
    """
    INSERT INTO test_runs (project_id, repository_id, allure_report_id, title, status, execution_date, started_at,
                           completed_at, environment, build_version, commit_sha, branch, ci_url)
    SELECT r.project_id, r.repository_id, r.id, r.name, 'completed', COALESCE(r.execution_started_at, :ingested_at),
        r.execution_started_at, r.execution_stopped_at, r.environment ->> 'environment', r.build_name, r.commit_sha,
        r.branch, :ci_url
    FROM allure_report r WHERE r.id = :report
    RETURNING id
    """
)

# People may have written to the run; it stays, with what the new report says.
TAKE_OVER_RUN = text(
    """
    UPDATE test_runs t SET allure_report_id = r.id, title = r.name,
        execution_date = COALESCE(r.execution_started_at, t.execution_date), started_at = r.execution_started_at,
        completed_at = r.execution_stopped_at, environment = r.environment ->> 'environment',
        build_version = r.build_name, commit_sha = r.commit_sha, branch = r.branch, ci_url = :ci_url,
        updated_at = now()
    FROM allure_report r WHERE t.allure_report_id = :replaced AND r.id = :report
    RETURNING t.id
    """
)

INSERT_RESULTS = text(
    f"""
    INSERT INTO test_run_results (test_run_id, test_case_id, status, execution_time, error_message, stack_trace,
                                  executed_at, retry_count)
    SELECT DISTINCT ON (l.test_case_id) :run, l.test_case_id, CAST(l.result_status AS result_status),
        sum(l.duration) OVER cases, l.status_message, l.status_trace, min(l.started_at) OVER cases,
        sum(l.retries) OVER cases
    FROM ({LAST_ATTEMPTS}) AS l
    WINDOW cases AS (PARTITION BY l.test_case_id)
    ORDER BY l.test_case_id, l.badness, l.parameters_hash
    """
)

COMPLETE_REPORT = text(
    """
    UPDATE allure_report r SET status = 'completed', updated_at = now(), summary = jsonb_build_object(
        'attempts', t.attempts, 'tests', t.tests, 'passed', t.passed, 'failed', t.failed, 'broken', t.broken,
        'skipped', t.skipped, 'unknown', t.unknown, 'rejected', CAST(:rejected AS integer))
    FROM (SELECT count(*) AS attempts, count(*) FILTER (WHERE NOT is_retry) AS tests,
              count(*) FILTER (WHERE NOT is_retry AND status = 'passed') AS passed,
              count(*) FILTER (WHERE NOT is_retry AND status = 'failed') AS failed,
              count(*) FILTER (WHERE NOT is_retry AND status = 'broken') AS broken,
              count(*) FILTER (WHERE NOT is_retry AND status = 'skipped') AS skipped,
              count(*) FILTER (WHERE NOT is_retry AND status = 'unknown') AS unknown
          FROM allure_scenarios WHERE allure_report_id = :report) AS t
    WHERE r.id = :report
    RETURNING r.summary
    """
)


def begin_report(session: Session, target: Target, report: TestReport) -> tuple[int, bool]:
    """Find or make the row of a report, empty and ready to be loaded.

    Transaction: the caller's. What an interrupted load left is removed.

    Returns:
        Its id, and whether it is complete already: the same folder was ingested before.
    """
    row = session.execute(
        text(
            """
            INSERT INTO allure_report AS r (tenant_id, project_id, repository_id, name, content_hash, status,
                execution_started_at, execution_stopped_at, build_name, commit_sha, branch, environment)
            VALUES (:tenant, :project, :repository, :name, :content_hash, 'processing', :started_at, :stopped_at,
                    :build_name, :commit_sha, :branch, CAST(:environment AS jsonb))
            ON CONFLICT (project_id, content_hash) DO UPDATE SET updated_at = now()
            RETURNING id, status = 'completed' AS is_complete
            """
        ),
        {
            "tenant": target.tenant_id,
            "project": target.project_id,
            "repository": target.repository_id,
            "name": report.name,
            "content_hash": report.content_hash,
            "started_at": report.started_at,
            "stopped_at": report.stopped_at,
            "build_name": report.build_name,
            "commit_sha": report.commit_sha,
            "branch": report.branch,
            "environment": msgspec.json.encode(dict(report.environment)).decode().replace("\\u0000", ""),
        },
    ).one()
    if not row.is_complete:
        _empty(session, row.id)
    return row.id, row.is_complete


def _scenario_rows(report_id: int, attempts: Sequence[TestAttempt]) -> Iterator[Sequence[Any]]:
    for each in attempts:
        yield (
            report_id, each.name, each.status, each.duration_ms, each.history_id, each.test_key, each.identity_version,
            each.is_retry, each.result_uuid, each.case_path, each.case_name, each.framework, each.parameters,
            each.parameters_hash, each.full_name, each.suite, each.feature, each.story, each.severity, each.owner,
            each.labels, each.links, each.attachments, each.flaky, each.status_message, each.status_trace,
            each.started_at,
        )  # fmt: skip


def _step_rows(attempts: Sequence[TestAttempt], scenario_ids: dict[str, int]) -> Iterator[Sequence[Any]]:
    for each in attempts:
        scenario_id = scenario_ids[each.result_uuid]
        for step in each.steps:
            path = ".".join(map(str, step.path))
            parent_path = ".".join(map(str, step.path[:-1])) or None
            yield (
                scenario_id, path, parent_path, step.path[-1], step.name, step.status, step.duration_ms,
                step.error_message,
            )  # fmt: skip


def write_attempts(session: Session, report_id: int, attempts: Sequence[TestAttempt]) -> int:
    """COPY a batch of attempts with their steps into a report that is being loaded.

    Transaction: the caller's.

    Returns:
        Rows written, steps included.
    """
    written = copy.insert(session, SCENARIOS, SCENARIO_COLUMNS, _scenario_rows(report_id, attempts))
    rows = session.execute(
        text(
            "SELECT result_uuid, id FROM allure_scenarios "
            "WHERE allure_report_id = :report AND result_uuid = ANY(:uuids)"
        ),
        {"report": report_id, "uuids": [each.result_uuid for each in attempts]},
    )
    scenario_ids: dict[str, int] = dict(rows.all())
    return written + copy.insert(session, STEPS, STEP_COLUMNS, _step_rows(attempts, scenario_ids))


def finish_report(
    session: Session,
    target: Target,
    report_id: int,
    *,
    ci_url: str | None,
    rejected_count: int,
    ingested_at: datetime,
    replaced_id: int | None = None,
) -> dict[str, Any]:
    """Turn a loaded report into a test run with its cases and results.

    Transaction: the caller's; before it nothing of the run is seen, after it all.

    Args:
        session: inside a transaction.
        target: its project and repository.
        report_id: the report.
        ci_url: where it ran.
        rejected_count: files that could not be read.
        ingested_at: stands in where no result says when it ran.
        replaced_id: an earlier report of the same launch, which this one takes the place of.

    Returns:
        Counts: attempts, tests, passed, failed, broken, skipped, unknown, rejected.
    """
    ids = {"report": report_id, "repository": target.repository_id, "tenant": target.tenant_id}
    session.execute(NUMBER_ATTEMPTS, ids)
    session.execute(UPSERT_SUITES, ids)
    session.execute(UPSERT_CASES, ids)
    session.execute(LINK_CASES, ids)
    run_id = None
    if replaced_id is not None:
        run_id = session.execute(TAKE_OVER_RUN, {**ids, "replaced": replaced_id, "ci_url": ci_url}).scalar_one_or_none()
        session.execute(text("DELETE FROM test_run_results WHERE test_run_id = :run"), {"run": run_id})
    if run_id is None:
        run_id = session.execute(INSERT_RUN, {**ids, "ci_url": ci_url, "ingested_at": ingested_at}).scalar_one()
    session.execute(INSERT_RESULTS, {**ids, "run": run_id})
    summary = session.execute(COMPLETE_REPORT, {**ids, "rejected": rejected_count}).scalar_one()
    if replaced_id is not None:
        _empty(session, replaced_id)
        session.execute(
            text("UPDATE allure_launches SET allure_report_id = :report WHERE allure_report_id = :replaced"),
            {"report": report_id, "replaced": replaced_id},
        )
        session.execute(text("DELETE FROM allure_report WHERE id = :report"), {"report": replaced_id})
    return dict(summary)


def _empty(session: Session, report_id: int) -> None:
    """Take the attempts and steps out of a report."""
    session.execute(
        text(
            "DELETE FROM allure_steps WHERE scenario_id IN "
            "(SELECT id FROM allure_scenarios WHERE allure_report_id = :report)"
        ),
        {"report": report_id},
    )
    session.execute(text("DELETE FROM allure_scenarios WHERE allure_report_id = :report"), {"report": report_id})


def fail_report(session: Session, report_id: int) -> None:
    """Mark a report whose load stopped for good."""
    session.execute(
        text(
            "UPDATE allure_report SET status = 'failed', updated_at = now() "
            "WHERE id = :report AND status <> 'completed'"
        ),
        {"report": report_id},
    )
