"""Deployments with the merge requests that they brought out, and environments: from records into tables.

All functions take the session first and never commit. Older copies never overwrite newer ones, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import Deployment, Environment
from models.store.copy import Landing, Written, upsert
from models.store.sync import Target
from models.tables import METADATA

DEPLOYMENTS: Table = METADATA.tables["gitlab_deployments"]
ENVIRONMENTS: Table = METADATA.tables["gitlab_environments"]

KEY = ("tenant_id", "connection_id", "external_project_id", "external_id")
# fmt: off
DEPLOYMENT_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "external_project_id", "external_id",
    "iid", "status", "environment", "ref", "sha", "external_pipeline_id", "deployed_by", "deployed_by_id",
    "deployment_created_at", "finished_at", "source_updated_at", "synced_at", "deleted_at",
)
"""Without `environment_tier`, which follows from the environments and is set by `SET_TIERS`."""
ENVIRONMENT_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "external_project_id", "external_id", "name", "tier", "state",
    "external_url", "synced_at",
)
# fmt: on

SET_TIERS = text(
    """
    UPDATE gitlab_deployments d SET environment_tier = e.tier
    FROM gitlab_environments e
    WHERE d.connection_id = :connection AND e.connection_id = d.connection_id
      AND e.external_project_id = d.external_project_id AND e.name = d.environment AND e.tier IS NOT NULL
      AND d.sync_scope_id = :scope AND d.environment_tier IS DISTINCT FROM e.tier
    """
)

# What a deployment brought out is said whole, so what is landed replaces what is stored, where it is not older.
IS_NOT_OLDER = """
    d.tenant_id = l.tenant_id AND d.connection_id = l.connection_id
    AND d.external_project_id = l.external_project_id AND d.external_id = l.external_id
    AND (d.source_updated_at, d.synced_at) <= (l.source_updated_at, l.synced_at)
"""
BROUGHT_OUT = "unnest(CAST(:deployments AS text[]), CAST(:iids AS integer[])) AS n (external_id, mr_id)"

DELETE_LINKS = text(
    f"""
    DELETE FROM gitlab_deployment_merge_requests m
    USING gitlab_deployments d, landing_gitlab_deployments l
    WHERE m.deployment_id = d.id AND {IS_NOT_OLDER} AND l.external_id = ANY(:told)
      AND NOT EXISTS (SELECT FROM {BROUGHT_OUT} WHERE n.external_id = l.external_id AND n.mr_id = m.mr_id)
    """
)
INSERT_LINKS = text(
    f"""
    INSERT INTO gitlab_deployment_merge_requests (tenant_id, deployment_id, connection_id, external_project_id, mr_id)
    SELECT DISTINCT d.tenant_id, d.id, d.connection_id, d.external_project_id, n.mr_id
    FROM {BROUGHT_OUT}
    JOIN landing_gitlab_deployments l USING (external_id)
    JOIN gitlab_deployments d ON {IS_NOT_OLDER}
    ORDER BY 2, 5 ON CONFLICT DO NOTHING
    """
)


def deployment_rows(target: Target, deployments: Sequence[Deployment], fetched_at: datetime) -> Iterator[Sequence[Any]]:
    """One row a deployment, in the order of `DEPLOYMENT_COLUMNS`."""
    for each in deployments:
        who = each.deployed_by
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, target.project_id, target.repository_id,
            each.external_project_id, each.external_id, each.iid, each.status, each.environment, each.ref, each.sha,
            each.external_pipeline_id, who.username if who else None,
            target.account_key(who.external_id if who else None), each.created_at, each.finished_at, each.updated_at,
            fetched_at, None,
        )  # fmt: skip


def write_deployments(
    session: Session, target: Target, deployments: Sequence[Deployment], *, fetched_at: datetime
) -> Written:
    """Write deployments and what they brought out; their tiers are taken from the environments that are stored.

    Transaction: the caller's; all of it or nothing.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for; all are of one repository.
        deployments: any number; where `merge_requests` is None, what is stored of them stays.
        fetched_at: when; of two copies with one update time the later fetched wins.

    Returns:
        Rows of deployments, and of their links to merge requests.
    """
    if not deployments:
        return Written()
    landed = Landing(session, DEPLOYMENTS, DEPLOYMENT_COLUMNS)
    landed.fill(deployment_rows(target, deployments, fetched_at))
    written = landed.upsert(KEY, newer=("source_updated_at", "synced_at"))
    told = [each for each in deployments if each.merge_requests is not None]
    links = [(each.external_id, iid) for each in told for iid in each.merge_requests or ()]
    facts = {
        "told": [each.external_id for each in told],
        "deployments": [external_id for external_id, _ in links],
        "iids": [iid for _, iid in links],
    }
    deleted = session.execute(DELETE_LINKS, facts).rowcount  # type: ignore[attr-defined]  # a DELETE has a row count
    inserted = session.execute(INSERT_LINKS, facts).rowcount  # type: ignore[attr-defined]  # an INSERT has one too
    _set_tiers(session, target)
    return written.plus(Written(inserted=inserted, deleted=deleted))


def environment_rows(
    target: Target, environments: Sequence[Environment], fetched_at: datetime
) -> Iterator[Sequence[Any]]:
    """One row an environment, in the order of `ENVIRONMENT_COLUMNS`."""
    for each in environments:
        yield (
            target.tenant_id, target.connection_id, target.sync_scope_id, each.external_project_id, each.external_id,
            each.name, each.tier, each.state, each.external_url, fetched_at,
        )  # fmt: skip


def write_environments(
    session: Session, target: Target, environments: Sequence[Environment], *, fetched_at: datetime
) -> Written:
    """Write environments, and give the deployments to them the tiers that they have now.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: the scope that they were fetched for.
        environments: any number; those that are stored and not among them stay.
        fetched_at: when; the last copy wins.
    """
    if not environments:
        return Written()
    rows = environment_rows(target, environments, fetched_at)
    written = upsert(session, ENVIRONMENTS, ENVIRONMENT_COLUMNS, rows, KEY, newer=("synced_at",), keep=("synced_at",))
    _set_tiers(session, target)
    return written


def _set_tiers(session: Session, target: Target) -> None:
    session.execute(SET_TIERS, {"connection": target.connection_id, "scope": target.sync_scope_id})
