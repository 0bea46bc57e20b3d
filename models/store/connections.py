"""Connections, scopes and the projects that they feed.

All functions take the session first and never commit. Secrets pass through as ciphertext; `workers/secrets.py` has the
key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.errors import NotFoundError, UsageError

UPLOADS = "uploads"
"""Name of the connection that stands for test results that are handed to us as files."""
UPLOAD = "upload"
"""Its kind; there is nobody to ask."""


def default_tenant(session: Session) -> int:
    """The tenant that the command line works for."""
    return int(
        session.execute(text("SELECT id FROM tenants ORDER BY (slug = 'default') DESC, id LIMIT 1")).scalar_one()
    )


def add_connection(
    session: Session, tenant_id: int, *, kind: str, name: str, base_url: str, auth: str, options: Mapping[str, Any]
) -> int:
    """Add a connection; returns its id.

    Args:
        session: inside a transaction.
        tenant_id: whose.
        kind: of the registry.
        name: unique within the tenant.
        base_url: of the instance.
        auth: ciphertext.
        options: of its kind.

    Raises:
        UsageError: there is one of that name.
    """
    connection_id = session.execute(
        text(
            """
            INSERT INTO connections (tenant_id, kind, name, base_url, auth, options)
            VALUES (:tenant, :kind, :name, :url, :auth, CAST(:options AS jsonb))
            ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id
            """
        ),
        {
            "tenant": tenant_id,
            "kind": kind,
            "name": name,
            "url": base_url,
            "auth": auth,
            "options": json.dumps(dict(options)),
        },
    ).scalar_one_or_none()
    if connection_id is None:
        raise UsageError(f"There is a connection {name!r} already; remove it first, or choose another name.")
    return int(connection_id)


def connection(session: Session, name_or_id: str | int) -> Row[Any]:
    """One connection with its ciphertext.

    Raises:
        NotFoundError: there is none; the message lists those that there are.
    """
    column = "id" if isinstance(name_or_id, int) else "name"
    row = session.execute(
        text(f"SELECT * FROM connections WHERE {column} = :value ORDER BY id LIMIT 1"),
        {"value": name_or_id},
    ).one_or_none()
    if row is None:
        names = session.execute(text("SELECT name FROM connections ORDER BY name LIMIT 20")).scalars().all()
        known = (
            f"there are: {', '.join(names)}" if names else "there are none yet; see `plumbline connection add --help`"
        )
        raise NotFoundError(f"There is no connection {name_or_id!r}; {known}.")
    return row


def connections(session: Session) -> list[Row[Any]]:
    """All connections, without their secrets, with the number of their scopes."""
    return list(
        session.execute(
            text(
                """
                SELECT c.id, c.name, c.kind, c.base_url, c.status, c.last_ok_at, c.last_error, count(s.id) AS scopes
                FROM connections c LEFT JOIN sync_scopes s ON s.connection_id = c.id
                GROUP BY c.id ORDER BY c.name
                """
            )
        )
    )


def change_connection(
    session: Session,
    connection_id: int,
    *,
    base_url: str,
    auth: str,
    options: Mapping[str, Any],
) -> None:
    """Give a connection another address, other secrets or other options; what was synced through it stays."""
    session.execute(
        text(
            """
            UPDATE connections SET base_url = :url, auth = :auth, options = CAST(:options AS jsonb), updated_at = now()
            WHERE id = :id
            """
        ),
        {"id": connection_id, "url": base_url, "auth": auth, "options": json.dumps(dict(options))},
    )


def set_connection_status(session: Session, connection_id: int, status: str, error: str | None = None) -> None:
    """Pause, resume or deny a connection."""
    session.execute(
        text(
            """
            UPDATE connections SET status = CAST(:status AS connection_status), last_error = :error, updated_at = now()
            WHERE id = :id
            """
        ),
        {"id": connection_id, "status": status, "error": error},
    )


def deny(session: Session, connection_id: int, error: str) -> bool:
    """Stop using a connection whose source refuses it, until a person resumes it.

    Returns:
        Whether it was in use until now: of all who meet the refusal one tells it.
    """
    denied = session.execute(
        text(
            """
            UPDATE connections SET status = 'denied', last_error = :error, updated_at = now()
            WHERE id = :id AND status = 'active' RETURNING 1
            """
        ),
        {"id": connection_id, "error": error},
    ).scalar_one_or_none()
    return denied is not None


def record_trouble(session: Session, connection_id: int, error: str) -> None:
    """Remember why an active connection does not answer; the next success clears it."""
    session.execute(
        text(
            """
            UPDATE connections SET last_error = :error
            WHERE id = :id AND status = 'active' AND last_error IS DISTINCT FROM :error
            """
        ),
        {"id": connection_id, "error": error},
    )


def record_success(session: Session, connection_id: int) -> None:
    """Remember that the source answered; what a paused or denied connection suffers from stays."""
    session.execute(
        text(
            """
            UPDATE connections SET last_ok_at = now(), last_error = CASE WHEN status = 'denied' THEN last_error END
            WHERE id = :id
            """
        ),
        {"id": connection_id},
    )


def remove_connection(session: Session, connection_id: int) -> None:
    """Remove a connection that nothing was synced through.

    Raises:
        UsageError: there are scopes with rows; pausing keeps the data.
    """
    has_scopes = session.execute(
        text("SELECT EXISTS (SELECT FROM sync_scopes WHERE connection_id = :id)"), {"id": connection_id}
    ).scalar_one()
    if has_scopes:
        raise UsageError(
            "The connection has scopes, and removing it would orphan what was synced; "
            "`plumbline connection pause` stops its syncs and keeps the data."
        )
    session.execute(text("DELETE FROM connections WHERE id = :id"), {"id": connection_id})


def ensure_project(session: Session, tenant_id: int, title: str, *, timezone: str) -> int:
    """The project of that title, made when missing; returns its id.

    Args:
        session: inside a transaction.
        tenant_id: whose.
        title: unique within the tenant.
        timezone: reporting time zone of a new project.
    """
    session.execute(
        text(
            """
            INSERT INTO projects (tenant_id, title, timezone) VALUES (:tenant, :title, :timezone)
            ON CONFLICT (tenant_id, title) DO NOTHING
            """
        ),
        {"tenant": tenant_id, "title": title, "timezone": timezone},
    )
    return int(
        session.execute(
            text("SELECT id FROM projects WHERE tenant_id = :tenant AND title = :title"),
            {"tenant": tenant_id, "title": title},
        ).scalar_one()
    )


def project_id(session: Session, title: str) -> int:
    """The id of the project of that title.

    Raises:
        NotFoundError: there is none; the message lists those that there are.
    """
    titles: dict[str, int] = dict(session.execute(text("SELECT title, id FROM projects ORDER BY title")).all())
    if title not in titles:
        known = f"there are: {', '.join(list(titles)[:20])}" if titles else "there are none yet"
        raise NotFoundError(f"There is no project {title!r}; {known}.")
    return titles[title]


def ensure_repository(
    session: Session, tenant_id: int, project_id: int, *, provider: str, external_id: str, title: str
) -> int:
    """The repository of that provider and id, made when missing; returns its id."""
    return int(
        session.execute(
            text(
                """
                INSERT INTO repositories AS r (tenant_id, project_id, provider, external_id, title)
                VALUES (:tenant, :project, :provider, :external_id, :title)
                ON CONFLICT (tenant_id, provider, external_id) DO UPDATE SET provider = r.provider RETURNING id
                """
            ),
            {
                "tenant": tenant_id,
                "project": project_id,
                "provider": provider,
                "external_id": external_id,
                "title": title,
            },
        ).scalar_one()
    )


def ensure_upload_repository(session: Session, tenant_id: int, project_id: int, project: str) -> int:
    """The repository that uploaded test results and test cases of a project belong to, made when missing."""
    return ensure_repository(
        session, tenant_id, project_id, provider="allure", external_id=f"{UPLOADS}/{project}", title=project
    )


def add_scope(
    session: Session,
    connection_id: int,
    *,
    external_key: str,
    project_id: int,
    repository_id: int | None,
    options: Mapping[str, Any],
) -> int:
    """Add a scope; returns its id.

    Raises:
        UsageError: the connection has it already.
    """
    scope_id = session.execute(
        text(
            """
            INSERT INTO sync_scopes (connection_id, external_key, project_id, repository_id, options)
            VALUES (:connection, :key, :project, :repository, CAST(:options AS jsonb))
            ON CONFLICT (connection_id, external_key) DO NOTHING RETURNING id
            """
        ),
        {
            "connection": connection_id,
            "key": external_key,
            "project": project_id,
            "repository": repository_id,
            "options": json.dumps(dict(options)),
        },
    ).scalar_one_or_none()
    if scope_id is None:
        raise UsageError(f"The connection has the scope {external_key!r} already.")
    return int(scope_id)


def ensure_upload_scope(session: Session, tenant_id: int, *, project: str, timezone: str, auth: str) -> int:
    """The scope that uploaded test results of a project belong to, made when missing; returns its id.

    Args:
        session: inside a transaction.
        tenant_id: whose.
        project: title of the project, made when missing.
        timezone: reporting time zone of a new project.
        auth: ciphertext of no secrets, for a new connection.

    Raises:
        UsageError: the name of the connection that stands for uploads is taken by another kind, or it is paused.
    """
    session.execute(
        text(
            """
            INSERT INTO connections (tenant_id, kind, name, base_url, auth)
            VALUES (:tenant, 'upload', :name, 'file:', :auth) ON CONFLICT (tenant_id, name) DO NOTHING
            """
        ),
        {"tenant": tenant_id, "name": UPLOADS, "auth": auth},
    )
    uploads = session.execute(
        text("SELECT id, kind, status FROM connections WHERE tenant_id = :tenant AND name = :name"),
        {"tenant": tenant_id, "name": UPLOADS},
    ).one()
    if uploads.kind != UPLOAD:
        raise UsageError(f"The connection {UPLOADS!r} is of kind {uploads.kind}, and uploads need that name.")
    if uploads.status != "active":
        raise UsageError(f"Uploads are {uploads.status}; `plumbline connection resume {UPLOADS}` lets them in again.")
    project_id = ensure_project(session, tenant_id, project, timezone=timezone)
    repository_id = ensure_upload_repository(session, tenant_id, project_id, project)
    return int(
        session.execute(
            text(
                """
                INSERT INTO sync_scopes AS s (connection_id, external_key, project_id, repository_id)
                VALUES (:connection, :key, :project, :repository)
                ON CONFLICT (connection_id, external_key) DO UPDATE SET external_key = s.external_key RETURNING id
                """
            ),
            {"connection": uploads.id, "key": project, "project": project_id, "repository": repository_id},
        ).scalar_one()
    )


def scope(session: Session, scope_id: int) -> Row[Any]:
    """One scope.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = session.execute(text("SELECT * FROM sync_scopes WHERE id = :id"), {"id": scope_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no scope {scope_id}.")
    return row


def scopes(
    session: Session, *, connection: str | None = None, key: str | None = None, active_only: bool = False
) -> list[Row[Any]]:
    """Scopes with their connection and project, how fresh each is, and whether it was refused within the hour.

    Args:
        session: inside a transaction.
        connection: only of the connection of that name.
        key: only with that external key.
        active_only: leave out inactive scopes and scopes of paused connections.
    """
    return list(
        session.execute(
            text(
                """
                SELECT s.id, s.external_key, s.connection_id, c.name AS connection, c.kind,
                       c.status AS connection_status,
                       p.title AS project, s.project_id, s.repository_id, s.options, s.is_active, s.last_error,
                       s.last_error IS NOT NULL AND s.updated_at > now() - interval '1 hour' AS is_resting,
                       (SELECT min(w.complete_until) FROM watermarks w WHERE w.sync_scope_id = s.id) AS complete_until,
                       (SELECT count(*) FROM sync_rejects r
                        WHERE r.sync_scope_id = s.id AND r.resolved_at IS NULL) AS open_rejects
                FROM sync_scopes s JOIN connections c ON c.id = s.connection_id JOIN projects p ON p.id = s.project_id
                WHERE (CAST(:connection AS text) IS NULL OR c.name = :connection)
                  AND (CAST(:key AS text) IS NULL OR s.external_key = :key)
                  AND (NOT :active_only OR (s.is_active AND c.status = 'active'))
                ORDER BY c.name, s.external_key
                """
            ),
            {"connection": connection, "key": key, "active_only": active_only},
        )
    )


def set_scope_error(session: Session, scope_id: int, error: str | None) -> None:
    """Remember why the source hides a scope from us, or that it no longer does."""
    session.execute(
        text(
            """
            UPDATE sync_scopes SET last_error = :error, updated_at = now()
            WHERE id = :id AND (last_error IS NOT NULL OR CAST(:error AS text) IS NOT NULL)
            """
        ),
        {"id": scope_id, "error": error},
    )
