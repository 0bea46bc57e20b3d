"""Names of tables and columns, one module a subject. Importing the package registers them all."""

from models.tables import (
    access,
    base,
    configuration,
    documents,
    gitlab,
    jira,
    jobs,
    logs,
    notifications,
    privacy,
    projects,
    settings,
    summaries,
    sync,
    tenancy,
    testing,
    workflows,
)

METADATA = base.Base.metadata
"""Every table of the database."""

__all__ = [
    "METADATA",
    "access",
    "base",
    "configuration",
    "documents",
    "gitlab",
    "jira",
    "jobs",
    "logs",
    "notifications",
    "privacy",
    "projects",
    "settings",
    "summaries",
    "sync",
    "tenancy",
    "testing",
    "workflows",
]
