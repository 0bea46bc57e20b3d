"""What a repository is called and where it is now, and who owns what in it: from records into tables.

All functions take the session first and never commit. A repository's row is made with its scope (`connections.py`);
here it follows what its host says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from models.records import OwnerFile, Repository
from models.store.copy import Landing, Written
from models.store.sync import Target
from models.tables import METADATA

OWNER_RULES: Table = METADATA.tables["owner_rules"]
OWNER_RULE_COLUMNS = (
    "tenant_id", "repository_id", "position", "pattern", "owners", "section", "is_optional",
    "required_approvals_count", "source_sha",
)  # fmt: skip

UPDATE_REPOSITORY = text(
    """
    UPDATE repositories SET title = :path, description = :description, web_url = :web_url,
        default_branch = :default_branch, is_archived = :is_archived, updated_at = now()
    WHERE id = :repository AND (title, description, web_url, default_branch, is_archived)
        IS DISTINCT FROM (:path, :description, :web_url, :default_branch, CAST(:is_archived AS boolean))
    """
)

# The path that a scope was added under may be given to another project later; the id never is.
PIN_SCOPE = text(
    """
    UPDATE sync_scopes SET options = options || jsonb_build_object('external_id', CAST(:external_id AS text)),
        updated_at = now()
    WHERE id = :scope AND options ->> 'external_id' IS DISTINCT FROM :external_id
    """
)

# A project that is renamed leaves the update times of what is in it as they are, so none of it comes again.
RENAME_MERGE_REQUESTS = text(
    """
    UPDATE gitlab_mr_lead_times SET project_name = :path
    WHERE tenant_id = :tenant AND connection_id = :connection AND external_project_id = :external_id
      AND project_name <> :path
    """
)
MOVE_ADDRESSES = tuple(
    text(
        f"""
        UPDATE {table} SET web_url = :web_url || substr(web_url, length(:old_url) + 1)
        WHERE tenant_id = :tenant AND connection_id = :connection AND external_project_id = :external_id
          AND starts_with(web_url, :old_url || '/')
        """
    )
    for table in ("gitlab_mr_lead_times", "gitlab_pipelines", "gitlab_jobs")
)

_VALUES = ", ".join(f"{{0}}.{name}" for name in OWNER_RULE_COLUMNS)
DELETE_RULES = text(
    f"""
    DELETE FROM owner_rules o WHERE o.repository_id = :repository AND NOT EXISTS (
        SELECT FROM landing_owner_rules l WHERE ({_VALUES.format("l")}) IS NOT DISTINCT FROM ({_VALUES.format("o")}))
    """
)
# Not ON CONFLICT: the constraint is checked at the end of a statement, and such a one cannot be named there.
INSERT_RULES = text(
    f"""
    INSERT INTO owner_rules ({", ".join(OWNER_RULE_COLUMNS)}) SELECT {_VALUES.format("l")} FROM landing_owner_rules l
    WHERE NOT EXISTS (SELECT FROM owner_rules o WHERE o.repository_id = l.repository_id AND o.position = l.position)
    """
)


def write_repositories(session: Session, target: Target, repositories: Sequence[Repository]) -> Written:
    """Bring the row of a scope's repository up to date, and what is stored under its old name.

    Transaction: the caller's.

    Args:
        session: inside a transaction.
        target: the scope; its repository is the one that is meant.
        repositories: none, or the scope's own; of several copies the last counts.
    """
    if not repositories or target.repository_id is None:
        return Written()
    last = repositories[-1]
    facts = {
        "tenant": target.tenant_id,
        "connection": target.connection_id,
        "scope": target.sync_scope_id,
        "repository": target.repository_id,
        "external_id": last.external_id,
        "path": last.path,
        "description": last.description,
        "web_url": last.web_url,
        "default_branch": last.default_branch,
        "is_archived": last.is_archived,
    }
    old_url = session.execute(
        text("SELECT web_url FROM repositories WHERE id = :repository"), facts
    ).scalar_one_or_none()
    session.execute(PIN_SCOPE, facts)
    statements = [UPDATE_REPOSITORY, RENAME_MERGE_REQUESTS]
    if old_url and last.web_url and old_url != last.web_url:
        statements += MOVE_ADDRESSES
    updated = (session.execute(each, {**facts, "old_url": old_url}).rowcount for each in statements)  # type: ignore[attr-defined]  # an UPDATE has a row count
    return Written(updated=sum(updated))


def owner_rule_rows(target: Target, owner_file: OwnerFile) -> Iterator[Sequence[Any]]:
    """One row a line that says who owns something, in the order of `OWNER_RULE_COLUMNS`."""
    for position, rule in enumerate(owner_file.rules):
        yield (
            target.tenant_id, target.repository_id, position, rule.pattern, rule.owners, rule.section,
            rule.is_optional, rule.required_approvals_count, owner_file.source_sha,
        )  # fmt: skip


def write_owner_files(session: Session, target: Target, owner_files: Sequence[OwnerFile]) -> Written:
    """Make the owner rules of a repository those of its file; where nothing differs, nothing is written.

    Transaction: the caller's; readers see the old file or the new one.

    Args:
        session: inside a transaction.
        target: the scope; its repository is the one that is meant.
        owner_files: none, or the repository's own; of several copies the last counts. One without rules removes all.
    """
    if not owner_files or target.repository_id is None:
        return Written()
    Landing(session, OWNER_RULES, OWNER_RULE_COLUMNS).fill(owner_rule_rows(target, owner_files[-1]))
    facts = {"repository": target.repository_id}
    deleted = session.execute(DELETE_RULES, facts).rowcount  # type: ignore[attr-defined]  # a DELETE has a row count
    inserted = session.execute(INSERT_RULES).rowcount  # type: ignore[attr-defined]  # an INSERT has one too
    return Written(inserted=inserted, deleted=deleted)
