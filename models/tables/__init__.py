"""Names of tables and columns, one module a subject. Importing the package registers them all."""

from models.tables import base, gitlab, jira, jobs, projects, summaries, sync, tenancy, testing

METADATA = base.Base.metadata
"""Every table of the database."""

__all__ = ["METADATA", "base", "gitlab", "jira", "jobs", "projects", "summaries", "sync", "tenancy", "testing"]
