"""`POST /webhooks/{kind}/{connection}`: takes in what GitLab and Jira say has just happened.

A delivery whose signature is good is stored and answered; a worker does the rest. What belongs here: the limits of a
request, and which answer means what. What does not: a vendor's headers and fields (connectors/<vendor>/webhooks.py).
"""

from __future__ import annotations

import asyncio
import secrets as randomness
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from psycopg.errors import DataError as RefusedByPostgresql
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import tasks.receive  # noqa: F401  # declares the task that is asked for
import workers.app  # noqa: F401  # declares the application that messages are sent with
from connectors import registry
from connectors.base import Webhooks
from models.errors import BadRecordError, PlumblineError
from models.store import webhooks
from workers import secrets
from workers.enqueue import publish
from workers.runtime import Runtime
from workers.task import insert

router = APIRouter(include_in_schema=False)

BODY_SECONDS = 10.0
"""How long a sender may take to send its body: as long as GitLab itself waits for our answer."""
NOBODY = "whsec_" + randomness.token_hex(32)
"""The secret of connections that do not exist, so that asking for one takes as long and says as much."""
CLOSE = {"Connection": "close"}

logger = structlog.get_logger("plumbline.webhooks")


@router.post("/webhooks/{kind}/{connection}")
async def receive(kind: str, connection: str, request: Request) -> JSONResponse:
    """Store a delivery: 202. Known, unused or paused: 200. Refused and not stored: 400, 401, 404, 408, 413, 415."""
    vendor = registry.KINDS[kind].webhooks if kind in registry.KINDS else None
    if vendor is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    process: Runtime = request.app.state.process
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Webhooks are application/json.", headers=CLOSE)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Webhooks are not compressed.", headers=CLOSE)
    body = await _body(request, process.settings.webhook_limit_bytes)
    headers = dict(request.headers)
    status, said, job_id = await run_in_threadpool(_take_in, process, kind, vendor, connection, headers, body)
    # After the answer, and in a thread: a broker that does not answer costs the sender nothing.
    wake = BackgroundTask(_wake, process, job_id) if job_id is not None else None
    return JSONResponse({"status": said}, status_code=status, background=wake)


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The body as it comes, as long as it stays within the limit, whatever its length was said to be."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit_bytes):
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers=CLOSE)
    chunks, size_bytes = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers=CLOSE)
                chunks.append(chunk)
    except TimeoutError:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, headers=CLOSE) from None
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, headers=CLOSE) from None  # nobody hears it
    return b"".join(chunks)


def _take_in(
    process: Runtime, kind: str, vendor: Webhooks, name: str, headers: dict[str, str], body: bytes
) -> tuple[HTTPStatus, str, int | None]:
    """Check a delivery and store it; returns the answer, and the job whose message is to be sent.

    Raises:
        HTTPException: it is refused.
        ServerUnavailableError: the database does not answer.
    """
    try:
        with process.database.transaction() as session:
            return _stored(session, process, kind, vendor, name, headers, body)
    except (DataError, RefusedByPostgresql):
        logger.warning("webhook_refused", kind=kind, connection=name, reason="the database cannot keep it")
        raise HTTPException(HTTPStatus.BAD_REQUEST, "payload: it cannot be stored") from None


def _stored(
    session: Session, process: Runtime, kind: str, vendor: Webhooks, name: str, headers: dict[str, str], body: bytes
) -> tuple[HTTPStatus, str, int | None]:
    """Find who it is for, check and store it, in one transaction: each costs an answer milliseconds."""
    receiver = _receiver(session, process, kind, vendor, name, headers, body)
    if receiver is None:
        logger.info("webhook_refused", kind=kind, reason="signature")
        raise HTTPException(HTTPStatus.UNAUTHORIZED)
    try:
        hint = vendor.hints(headers, body)
    except BadRecordError as error:
        logger.warning("webhook_refused", kind=kind, connection=name, reason=error.message)
        raise HTTPException(HTTPStatus.BAD_REQUEST, error.message) from None
    if hint.stream is None:
        return HTTPStatus.OK, "ignored", None  # an error would make GitLab disable the hook
    if receiver.status != "active":
        return HTTPStatus.OK, "paused", None  # the sync that follows its resumption reads all that changed meanwhile
    is_new = webhooks.store(
        session,
        receiver.id,
        delivery_key=hint.delivery_key,
        event_type=hint.event_type,
        headers={name: value for name, value in headers.items() if name in vendor.kept_headers},
        payload=hint.payload.decode(),
    )
    if not is_new:
        return HTTPStatus.OK, "known", None
    job_id = insert(session, "receive.deliveries", {"connection_id": receiver.id}, trigger="webhook")
    return HTTPStatus.ACCEPTED, "stored", job_id


def _wake(process: Runtime, job_id: int) -> None:
    """Tell a worker; whatever goes wrong with that, beat does it again."""
    try:
        publish(process.database, [job_id])
    except PlumblineError as error:
        logger.warning("webhook_unsent", job_id=job_id, error=error.message)


def _receiver(
    session: Session, process: Runtime, kind: str, vendor: Webhooks, name: str, headers: dict[str, str], body: bytes
) -> Any | None:
    """The connection that a delivery is meant for: of those of that name the one whose secret signed it."""
    now = datetime.now(UTC)
    # No name holds a NUL, and PostgreSQL would refuse to look for one.
    candidates = webhooks.receivers(session, kind, name.replace("\x00", "\ufffd"))
    for candidate in candidates:
        known = secrets.webhook_secrets(secrets.decrypt(process.settings, candidate.auth), now)
        if vendor.verify(headers, body, known or [NOBODY], now):
            return candidate
    if not candidates:
        vendor.verify(headers, body, [NOBODY], now)
    return None
