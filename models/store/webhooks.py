"""Deliveries of webhooks: stored once, taken, worked off, given up, pruned; and the hooks of a connection.

All functions take the session first and never commit. What a delivery means is the connector's to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

ATTEMPTS_COUNT = 8
"""How often a delivery is tried before it is given up; polling finds what it told of."""
RETRY_SECONDS = 5
"""A delivery that failed is due again so long after it came, doubled with each attempt."""
NOTE_CHARACTERS = 2_000

# A delivery that failed again and again is tried as long after it came; one that waited for a worker is tried at once.
DUE = f"""
    processed_at IS NULL
    AND (attempts = 0 OR received_at <= clock_timestamp() - make_interval(secs => {RETRY_SECONDS} * power(2, attempts)))
"""


def receivers(session: Session, kind: str, name: str) -> list[Row[Any]]:
    """The connections that webhooks under this name may be meant for; a name is unique within a tenant only.

    Returns:
        Id, ciphertext of the secrets and status of each; none where there is no such connection.
    """
    return list(
        session.execute(
            text("SELECT id, auth, status FROM connections WHERE kind = :kind AND name = :name ORDER BY id LIMIT 20"),
            {"kind": kind, "name": name},
        )
    )


def store(
    session: Session,
    connection_id: int,
    *,
    delivery_key: str,
    event_type: str,
    headers: Mapping[str, str],
    payload: str,
) -> bool:
    """Keep a delivery, unless it was kept before.

    Args:
        session: inside a transaction.
        connection_id: whose.
        delivery_key: the sender's id of it.
        event_type: as the sender names it.
        headers: without tokens and signatures.
        payload: JSON.

    Returns:
        Whether it is new.
    """
    stored = session.execute(
        text(
            """
            WITH new AS (
                INSERT INTO webhook_delivery_keys (connection_id, delivery_key, received_at)
                VALUES (:connection, :key, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING received_at)
            INSERT INTO webhook_deliveries (connection_id, delivery_key, event_type, headers, payload, received_at)
            SELECT :connection, :key, :event_type, CAST(:headers AS jsonb), CAST(:payload AS jsonb), received_at
            FROM new RETURNING id
            """
        ),
        {
            "connection": connection_id,
            "key": delivery_key,
            "event_type": event_type,
            "headers": json.dumps(dict(headers)),
            "payload": payload,
        },
    )
    return stored.scalar_one_or_none() is not None


def take(session: Session, connection_id: int, *, limit: int) -> list[Row[Any]]:
    """Take deliveries that are due, oldest first, and count the attempt before it is made.

    Returns:
        Id, received_at, event_type, headers, payload (text) and attempts, this one included.
    """
    rows = session.execute(
        text(
            f"""
            UPDATE webhook_deliveries d SET attempts = d.attempts + 1
            FROM (SELECT id, received_at FROM webhook_deliveries WHERE connection_id = :connection AND {DUE}
                  ORDER BY received_at, id LIMIT :limit FOR UPDATE SKIP LOCKED) AS due
            WHERE d.id = due.id AND d.received_at = due.received_at
            RETURNING d.id, d.received_at, d.event_type, d.headers, CAST(d.payload AS text) AS payload, d.attempts
            """
        ),
        {"connection": connection_id, "limit": limit},
    )
    return sorted(rows, key=lambda row: (row.received_at, row.id))


def finish(session: Session, deliveries: Sequence[Row[Any]], note: str | None = None) -> None:
    """Mark deliveries as worked off, with a note where nothing was written because of them."""
    if deliveries:
        session.execute(
            text(
                """
                UPDATE webhook_deliveries SET processed_at = clock_timestamp(), last_error = :note
                WHERE id = ANY(:ids) AND received_at >= :since
                """
            ),
            {"note": note and note[:NOTE_CHARACTERS], **_named(deliveries)},
        )


def fail(session: Session, deliveries: Sequence[Row[Any]], error: str) -> None:
    """Remember why deliveries could not be worked off; the last attempt gives them up."""
    if deliveries:
        session.execute(
            text(
                """
                UPDATE webhook_deliveries SET last_error = :error,
                    processed_at = CASE WHEN attempts >= :most THEN clock_timestamp() END
                WHERE id = ANY(:ids) AND received_at >= :since
                """
            ),
            {"error": error[:NOTE_CHARACTERS], "most": ATTEMPTS_COUNT, **_named(deliveries)},
        )


def put_back(session: Session, deliveries: Sequence[Row[Any]]) -> None:
    """Take the attempt back that `take` counted: it was not made, because the source asked for patience."""
    if deliveries:
        session.execute(
            text(
                """
                UPDATE webhook_deliveries SET attempts = attempts - 1
                WHERE id = ANY(:ids) AND received_at >= :since AND processed_at IS NULL
                """
            ),
            _named(deliveries),
        )


def _named(deliveries: Sequence[Row[Any]]) -> dict[str, Any]:
    """Their ids, and since when they came, so that older partitions are not looked at."""
    return {"ids": [row.id for row in deliveries], "since": min(row.received_at for row in deliveries)}


def connections_with_due(session: Session) -> list[int]:
    """Ids of the active connections that have deliveries to work off."""
    rows = session.execute(
        text(
            f"""
            SELECT DISTINCT d.connection_id FROM webhook_deliveries d JOIN connections c ON c.id = d.connection_id
            WHERE c.status = 'active' AND {DUE} ORDER BY 1
            """
        )
    )
    return list(rows.scalars())


def has_due(session: Session, connection_id: int) -> bool:
    """Whether a connection has deliveries to work off."""
    return bool(
        session.execute(
            text(f"SELECT EXISTS (SELECT FROM webhook_deliveries WHERE connection_id = :id AND {DUE})"),
            {"id": connection_id},
        ).scalar_one()
    )


def scope_ids(session: Session, connection_id: int) -> dict[str, int]:
    """The active scopes of a connection by every name that a delivery may give them."""
    rows = session.execute(
        text(
            """
            SELECT id, external_key, options ->> 'external_id' AS external_id FROM sync_scopes
            WHERE connection_id = :id AND is_active ORDER BY id DESC
            """
        ),
        {"id": connection_id},
    )
    named: dict[str, int] = {}
    for row in rows:
        named.update({row.external_id: row.id} if row.external_id else {})
        named[row.external_key] = row.id
    return named


def scope_of_object(session: Session, connection_id: int, resource: str, external_ids: Sequence[str]) -> int | None:
    """The active scope that such an object was collected in before, for deliveries that name no scope that we know."""
    return session.execute(
        text(
            """
            SELECT s.id FROM sync_scopes s
            JOIN staged_payloads p ON p.sync_scope_id = s.id AND p.resource = :resource AND p.external_id = ANY(:ids)
            WHERE s.connection_id = :connection AND s.is_active ORDER BY p.fetched_at DESC LIMIT 1
            """
        ),
        {"connection": connection_id, "resource": resource, "ids": list(external_ids)},
    ).scalar_one_or_none()


def set_external_id(session: Session, scope_id: int, external_id: str) -> None:
    """Remember the id of a scope's project, which deliveries name, where it was not known yet."""
    session.execute(
        text(
            """
            UPDATE sync_scopes SET options = options || jsonb_build_object('external_id', CAST(:external_id AS text))
            WHERE id = :id AND external_key <> :external_id AND NOT options ? 'external_id'
            """
        ),
        {"id": scope_id, "external_id": external_id},
    )


def counts(session: Session, connection_id: int) -> Row[Any]:
    """What became of a connection's deliveries of the last week.

    Returns:
        One row: received, waiting, waiting_seconds (of the oldest one, None where none waits), given_up, last_error
        (of the latest that was given up), last_received_at.
    """
    return session.execute(
        text(
            """
            SELECT count(*) AS received, count(*) FILTER (WHERE processed_at IS NULL) AS waiting,
                   CAST(extract(epoch FROM clock_timestamp() - min(received_at) FILTER (WHERE processed_at IS NULL))
                        AS double precision) AS waiting_seconds,
                   count(*) FILTER (WHERE processed_at IS NOT NULL AND attempts >= :most AND last_error IS NOT NULL)
                       AS given_up,
                   (array_agg(last_error ORDER BY received_at DESC) FILTER (
                       WHERE processed_at IS NOT NULL AND attempts >= :most AND last_error IS NOT NULL))[1]
                       AS last_error,
                   max(received_at) AS last_received_at
            FROM webhook_deliveries WHERE connection_id = :id AND received_at > now() - interval '7 days'
            """
        ),
        {"id": connection_id, "most": ATTEMPTS_COUNT},
    ).one()


def prune(session: Session, *, received_before: datetime, limit: int = 5_000) -> int:
    """Delete old deliveries and their keys, a bounded number at a time; returns how many deliveries and keys."""
    deleted = 0
    for table, key in (
        ("webhook_deliveries", "id, received_at"),
        ("webhook_delivery_keys", "connection_id, delivery_key"),
    ):
        result = session.execute(
            text(
                f"""
                DELETE FROM {table} WHERE ({key}) IN (
                    SELECT {key} FROM {table} WHERE received_at < :before ORDER BY received_at LIMIT :limit)
                """
            ),
            {"before": received_before, "limit": limit},
        )
        deleted += int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE has a row count
    return deleted


# --- the hooks of a connection ----------------------------------------------------------------------------------


def set_hooks(session: Session, connection_id: int, hooks: Mapping[str, Any] | None) -> None:
    """Remember where a connection's webhooks go and how they were found; None where it has none any more."""
    session.execute(
        text("UPDATE connections SET webhooks = CAST(:hooks AS jsonb), updated_at = now() WHERE id = :id"),
        {"id": connection_id, "hooks": None if hooks is None else json.dumps(dict(hooks))},
    )


def connections_with_hooks(session: Session) -> list[Row[Any]]:
    """The active connections that have webhooks at their source."""
    return list(
        session.execute(text("SELECT * FROM connections WHERE webhooks IS NOT NULL AND status = 'active' ORDER BY id"))
    )


def set_auth(session: Session, connection_id: int, auth: str) -> None:
    """Replace the ciphertext of a connection's secrets."""
    session.execute(
        text("UPDATE connections SET auth = :auth, updated_at = now() WHERE id = :id"),
        {"id": connection_id, "auth": auth},
    )
