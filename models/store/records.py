"""From a batch of records of any kind into its tables: what every promote ends in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy.orm import Session

from models.records import Account, Batch
from models.store.copy import Written
from models.store.deployments import write_deployments, write_environments
from models.store.gitlab import write_events, write_merge_requests
from models.store.identities import write_accounts
from models.store.jira import write_issues
from models.store.jira_dictionaries import (
    write_boards,
    write_fields,
    write_priorities,
    write_sprints,
    write_statuses,
    write_versions,
)
from models.store.launches import write_launches
from models.store.pipelines import write_jobs, write_pipelines
from models.store.repositories import write_owner_files, write_repositories
from models.store.sync import Target


def write(session: Session, target: Target, batch: Batch, *, fetched_at: datetime) -> Written:
    """Write a batch. Twice, or in another order than another batch, it changes nothing.

    Transaction: the caller's; all of it or nothing.

    Args:
        session: inside a transaction.
        target: the scope that it was fetched for.
        batch: records of any kinds.
        fetched_at: when.
    """
    return (
        write_fields(session, target, batch.fields)
        .plus(write_statuses(session, target, batch.statuses))
        .plus(write_priorities(session, target, batch.priorities))
        .plus(write_versions(session, target, batch.versions, fetched_at=fetched_at))
        .plus(write_boards(session, target, batch.boards, fetched_at=fetched_at))
        .plus(write_sprints(session, target, batch.sprints, fetched_at=fetched_at))
        .plus(write_issues(session, target, batch.issues, fetched_at=fetched_at))
        .plus(write_merge_requests(session, target, batch.merge_requests, fetched_at=fetched_at))
        .plus(write_events(session, target, batch.events))
        .plus(write_pipelines(session, target, batch.pipelines, fetched_at=fetched_at))
        .plus(write_jobs(session, target, batch.jobs, fetched_at=fetched_at))
        .plus(write_environments(session, target, batch.environments, fetched_at=fetched_at))
        .plus(write_deployments(session, target, batch.deployments, fetched_at=fetched_at))
        .plus(write_launches(session, target, batch.launches, fetched_at=fetched_at))
        .plus(write_repositories(session, target, batch.repositories))
        .plus(write_owner_files(session, target, batch.owner_files))
        # Last, because every scope of an instance writes to that one table.
        .plus(write_accounts(session, target, _accounts(batch)))
    )


def _accounts(batch: Batch) -> Iterator[Account | None]:
    """Every account that a batch names."""
    yield from batch.accounts
    for issue in batch.issues:
        yield from (issue.assignee, issue.reporter, issue.creator)
    for merge_request in batch.merge_requests:
        yield from merge_request.accounts
    for event in batch.events:
        yield event.author
    for pipeline in batch.pipelines:
        yield pipeline.started_by
    for job in batch.jobs:
        yield job.started_by
    for deployment in batch.deployments:
        yield deployment.deployed_by
