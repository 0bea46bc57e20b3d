"""GitLab: merge requests with their stages, what people did to them, projects' activity, pipelines and deployments."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Computed, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Hours, Id, Tenant, reference


def hours_between(start: str, end: str) -> Computed:
    """Hours from one column to another; NULL where either is missing or the clock ran backwards (metrics 2.0)."""
    return Computed(
        f"CASE WHEN {end} >= {start} THEN round((EXTRACT(epoch FROM ({end} - {start})) / 3600)::numeric, 4) END",
        persisted=True,
    )


class MergeRequest(Base):
    """A merge request and how long its stages took."""

    __tablename__ = "gitlab_mr_lead_times"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "mr_id"),
        Index("ix_gitlab_mr_lead_times_merged", "project_id", "merged_at"),
        {"comment": "Merge requests and how long their stages took."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    project_name: Mapped[str] = mapped_column(comment="GitLab path")
    external_project_id: Mapped[str]
    external_id: Mapped[str] = mapped_column(comment="The global id")
    mr_id: Mapped[int] = mapped_column(comment="The iid")
    title: Mapped[str]
    author: Mapped[str | None]
    author_id: Mapped[str | None]
    state: Mapped[str]
    draft: Mapped[bool]
    source_branch: Mapped[str | None]
    target_branch: Mapped[str | None]
    web_url: Mapped[str | None]
    labels: Mapped[list[Any]]
    sha: Mapped[str | None]
    merge_commit_sha: Mapped[str | None]
    squash_commit_sha: Mapped[str | None]
    mr_created_at: Mapped[datetime]
    first_commit_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    first_review_at: Mapped[datetime | None]
    first_approved_at: Mapped[datetime | None]
    approved_at: Mapped[datetime | None]
    merged_at: Mapped[datetime | None]
    merged_at_is_estimated: Mapped[bool] = mapped_column(server_default=text("false"))
    closed_at: Mapped[datetime | None]
    merged_by: Mapped[str | None]
    lead_time_hours: Mapped[Hours | None] = mapped_column(
        hours_between("mr_created_at", "merged_at"), comment="Created to merged"
    )
    first_commit_to_merge_hours: Mapped[Hours | None] = mapped_column(
        hours_between("LEAST(first_commit_at, mr_created_at)", "merged_at"),
        comment="From the first commit, or the creation where that was earlier, to merged",
    )
    time_to_first_review_hours: Mapped[Hours | None] = mapped_column(hours_between("mr_created_at", "first_review_at"))
    review_hours: Mapped[Hours | None] = mapped_column(
        hours_between("first_review_at", "merged_at"), comment="First review to merged"
    )
    commits_count: Mapped[int | None]
    notes_count: Mapped[int | None]
    changes_count: Mapped[int | None]
    is_truncated: Mapped[bool] = mapped_column(server_default=text("false"))
    source_updated_at: Mapped[datetime]
    synced_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class MergeRequestActivity(Base):
    """One thing that one account did to a merge request."""

    __tablename__ = "gitlab_mr_activities"
    __table_args__ = (
        Index("ix_gitlab_mr_activities_month", "project_id", "occurred_at"),
        {"comment": "What each account did to each merge request; contributor tables are counted from it."},
    )

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    external_project_id: Mapped[str] = mapped_column(primary_key=True)
    mr_id: Mapped[int] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    account_id: Mapped[str | None]
    username: Mapped[str | None]
    activity: Mapped[str] = mapped_column(comment="authored, reviewed, approved, unapproved, merged, closed, reopened")
    occurred_at: Mapped[datetime]


class MergeRequestContributor(Base):
    """What one account did in one GitLab project."""

    __tablename__ = "gitlab_mr_contributors"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "username"),
        {"comment": "Merge requests authored, reviewed, approved and merged, by account and GitLab project."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    project_id: Mapped[int | None] = reference("projects.id")
    external_project_id: Mapped[str]
    project_name: Mapped[str]
    username: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    person_id: Mapped[int | None] = mapped_column(BigInteger, comment="user_identities.person_id of the account")
    name: Mapped[str | None]
    email: Mapped[str | None]
    is_bot: Mapped[bool]
    contributions: Mapped[int] = mapped_column(Computed("authored + reviewed + approved + merged", persisted=True))
    authored: Mapped[int]
    reviewed: Mapped[int]
    approved: Mapped[int]
    merged: Mapped[int]
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class ProjectEvent(Base):
    """One line of a GitLab project's activity feed; GitLab forgets them after three years, we do not."""

    __tablename__ = "gitlab_events"
    __table_args__ = (
        Index("ix_gitlab_events_month", "project_id", "occurred_at"),
        {"comment": "Activity of GitLab projects; kept after GitLab has forgotten it."},
    )

    tenant_id: Mapped[Tenant]
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    external_project_id: Mapped[str]
    author: Mapped[str | None]
    author_id: Mapped[str | None]
    action: Mapped[str]
    target_type: Mapped[str | None]
    target_iid: Mapped[int | None] = mapped_column(BigInteger)
    push_action: Mapped[str | None]
    push_ref_type: Mapped[str | None]
    push_commits: Mapped[int | None]
    occurred_at: Mapped[datetime]


class MonthlyContribution(Base):
    """What one account did in one project in one month of the project's time zone."""

    __tablename__ = "monthly_contributions"
    __table_args__ = (
        UniqueConstraint("tenant_id", "year", "month", "username", "project_id", postgresql_nulls_not_distinct=True),
        {"comment": "Merge requests created and approved, pushes and events, by account, project and month."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    year: Mapped[int]
    month: Mapped[int]
    month_name: Mapped[str]
    username: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    person_id: Mapped[int | None] = mapped_column(BigInteger, comment="user_identities.person_id of the account")
    name: Mapped[str | None]
    squad: Mapped[str | None]
    is_bot: Mapped[bool]
    project_id: Mapped[int | None] = reference("projects.id")
    mr_created: Mapped[int]
    mr_approved: Mapped[int]
    repo_pushes: Mapped[int]
    total_events: Mapped[int]
    definition_version: Mapped[int]
    last_updated_at: Mapped[datetime]


class Pipeline(Base):
    """A pipeline and how it ended."""

    __tablename__ = "gitlab_pipelines"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "external_id"),
        Index("ix_gitlab_pipelines_finished", "project_id", "finished_at"),
        Index("ix_gitlab_pipelines_sha", "sha"),
        {"comment": "Pipelines and how they ended."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    external_project_id: Mapped[str]
    external_id: Mapped[str] = mapped_column(comment="The global id")
    iid: Mapped[int | None]
    status: Mapped[str]
    source: Mapped[str | None] = mapped_column(comment="push, schedule, merge_request_event, …")
    ref: Mapped[str | None]
    sha: Mapped[str | None]
    web_url: Mapped[str | None]
    started_by: Mapped[str | None] = mapped_column(comment="Username; who or what set it off")
    started_by_id: Mapped[str | None]
    pipeline_created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_seconds: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    queued_seconds: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    coverage: Mapped[Decimal | None] = mapped_column(comment="Percent")
    source_updated_at: Mapped[datetime]
    synced_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class PipelineJob(Base):
    """One attempt of one job of a pipeline."""

    __tablename__ = "gitlab_jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "external_id"),
        # The attempts of one job are those of one name in one pipeline.
        Index("ix_gitlab_jobs_pipeline", "connection_id", "external_project_id", "external_pipeline_id", "name"),
        Index("ix_gitlab_jobs_finished", "project_id", "finished_at"),
        {"comment": "Jobs of pipelines, every attempt a row."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id", index=False)
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    external_project_id: Mapped[str]
    external_id: Mapped[str] = mapped_column(comment="The global id; a later attempt has a higher one")
    external_pipeline_id: Mapped[str]
    name: Mapped[str]
    stage: Mapped[str | None]
    status: Mapped[str]
    failure_reason: Mapped[str | None]
    is_allowed_to_fail: Mapped[bool]
    ref: Mapped[str | None]
    web_url: Mapped[str | None]
    started_by: Mapped[str | None] = mapped_column(comment="Username")
    started_by_id: Mapped[str | None]
    job_created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_seconds: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    queued_seconds: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    source_updated_at: Mapped[datetime] = mapped_column(comment="The latest of its times; the source tells no other")
    synced_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Environment(Base):
    """Where software is deployed to."""

    __tablename__ = "gitlab_environments"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "external_id"),
        {"comment": "Environments and their tiers."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    external_project_id: Mapped[str]
    external_id: Mapped[str]
    name: Mapped[str]
    tier: Mapped[str | None] = mapped_column(comment="production, staging, testing, development or other")
    state: Mapped[str | None] = mapped_column(comment="available, stopping or stopped")
    external_url: Mapped[str | None]
    synced_at: Mapped[datetime]


class Deployment(Base):
    """A deployment to an environment."""

    __tablename__ = "gitlab_deployments"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "external_project_id", "external_id"),
        Index("ix_gitlab_deployments_finished", "project_id", "finished_at"),
        {"comment": "Deployments to environments; delivery metrics count the successful ones to production."},
    )

    id: Mapped[Id]
    tenant_id: Mapped[int] = reference("tenants.id", index=False)
    connection_id: Mapped[int] = reference("connections.id")
    sync_scope_id: Mapped[int] = reference("sync_scopes.id")
    project_id: Mapped[int | None] = reference("projects.id", index=False)
    repository_id: Mapped[int | None] = reference("repositories.id")
    external_project_id: Mapped[str]
    external_id: Mapped[str] = mapped_column(comment="The global id")
    iid: Mapped[int | None]
    status: Mapped[str]
    environment: Mapped[str]
    environment_tier: Mapped[str | None] = mapped_column(comment="production, staging, …")
    ref: Mapped[str | None]
    sha: Mapped[str | None]
    external_pipeline_id: Mapped[str | None] = mapped_column(comment="Several jobs of one pipeline are one deployment")
    deployed_by: Mapped[str | None]
    deployed_by_id: Mapped[str | None]
    deployment_created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None] = mapped_column(comment="Never taken from the update time")
    source_updated_at: Mapped[datetime]
    synced_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class DeploymentMergeRequest(Base):
    """A merge request that a deployment brought out."""

    __tablename__ = "gitlab_deployment_merge_requests"
    __table_args__ = (
        Index("ix_gitlab_deployment_merge_requests_mr", "connection_id", "external_project_id", "mr_id"),
        {"comment": "Which merge requests each deployment brought out, as GitLab says."},
    )

    tenant_id: Mapped[Tenant]
    deployment_id: Mapped[int] = reference("gitlab_deployments.id", primary_key=True, index=False, ondelete="CASCADE")
    connection_id: Mapped[int] = reference("connections.id", primary_key=True, index=False)
    external_project_id: Mapped[str] = mapped_column(primary_key=True)
    mr_id: Mapped[int] = mapped_column(primary_key=True, comment="The iid")
