"""The admin API: `uvicorn admin.api.app:app`.

What belongs here: the application, what it opens and closes, its headers, and how errors look. What does not: any route
(admin/api/routes).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.api.routes import health, webhooks
from models.errors import NotFoundError, PlumblineError, ServerUnavailableError, UsageError
from workers import runtime
from workers.logs import configure_logging
from workers.runtime import Runtime
from workers.settings import load_settings

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Answers are data: a browser that is made to show one shows nothing, loads nothing and tells nobody."""

STATUS_OF_ERROR: tuple[tuple[type[PlumblineError], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ServerUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)

logger = structlog.get_logger("plumbline.api")


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """One runtime for the process; its database connections are opened when first used and closed at the end."""
    settings = load_settings()
    configure_logging(settings)
    process = Runtime(settings, role="api")
    runtime.use(process)
    api.state.process = process
    try:
        yield
    finally:
        process.close()


def problem(status: int, detail: str | None = None, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as RFC 9457 has it.

    Args:
        status: of HTTP.
        detail: what was wrong in this case, for a person; never holds a secret.
        headers: added to the answer.
    """
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail and detail != body["title"]:
        body["detail"] = detail
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


class SecurityHeaders:
    """Middleware that adds the headers as an answer begins, so that answers may stream."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._inner(scope, receive, send_with_headers if scope["type"] == "http" else send)


app = FastAPI(title="Plumbline", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
app.add_middleware(SecurityHeaders)
app.include_router(health.router)
app.include_router(webhooks.router)


@app.exception_handler(HTTPException)
async def _http_error(_request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, error.detail, headers=dict(error.headers or {}))


@app.exception_handler(RequestValidationError)
async def _wrong_request(_request: Request, error: RequestValidationError) -> JSONResponse:
    # Where and what, without the value, which may be a secret in the wrong place.
    mistakes = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, mistakes)


@app.exception_handler(PlumblineError)
async def _known_error(_request: Request, error: PlumblineError) -> JSONResponse:
    for kind, status in STATUS_OF_ERROR:
        if isinstance(error, kind):
            # The address of a server that does not answer is nobody's business.
            return problem(status, None if status is HTTPStatus.SERVICE_UNAVAILABLE else error.message)
    logger.error("request_failed", error=error.message, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR)


@app.exception_handler(Exception)
async def _bug(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette raises it again after this answer, and the server logs it.
    response = problem(HTTPStatus.INTERNAL_SERVER_ERROR)
    response.headers.update(SECURITY_HEADERS)  # this answer does not pass the middleware
    return response
