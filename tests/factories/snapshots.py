"""Tables as sorted rows without what differs from run to run, to compare two databases or two moments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from models.store.session import Database
from models.tables import METADATA

SYNCED_TABLES = (
    "jira_table_history",
    "jira_issue_changes",
    "jira_fields",
    "jira_statuses",
    "jira_priorities",
    "jira_versions",
    "jira_boards",
    "jira_sprints",
    "bug_budget",
    "bug_history",
    "gitlab_mr_lead_times",
    "gitlab_mr_activities",
    "gitlab_events",
    "gitlab_pipelines",
    "gitlab_jobs",
    "gitlab_environments",
    "gitlab_deployments",
    "gitlab_deployment_merge_requests",
    "owner_rules",
    "user_identities",
)
SUMMARY_TABLES = (
    "jira_lead_times",
    "bug_analytics_daily",
    "test_execution_summary",
    "gitlab_mr_contributors",
    "monthly_contributions",
    "test_runs_view",
)
OURS = {
    "id",
    "bug_budget_id",
    "deployment_id",
    "synced_at",
    "last_synced_at",
    "created_at",
    "updated_at",
    "last_updated_at",
}
"""Ids and times of our own: they say when and in which order we wrote, not what is true."""


def snapshot(database: Database, tables: tuple[str, ...] = SYNCED_TABLES) -> dict[str, list[Any]]:
    """Every row of some tables, sorted, without our own ids and times."""
    taken: dict[str, list[Any]] = {}
    with database.transaction() as session:
        for name in tables:
            columns = ", ".join(f'"{column.name}"' for column in METADATA.tables[name].c if column.name not in OURS)
            rows = session.execute(text(f"SELECT row_to_json(r)::text FROM (SELECT {columns} FROM {name}) AS r"))
            taken[name] = sorted(rows.scalars())
    return taken


def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    with database.transaction() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
