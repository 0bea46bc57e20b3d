"""`/healthz` and `/readyz`: whether this process is alive, and whether the system it belongs to works.

Both are open to everybody who reaches the port, so what they tell holds no address, no name and no secret.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from admin import checks
from models.errors import PlumblineError
from workers.runtime import Runtime

router = APIRouter(include_in_schema=False)

Findings = dict[str, checks.Finding]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive: answers as long as the process serves requests at all."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """Ready: 200 where database, schema, broker, beat and workers are well, else 503 with what is not."""
    findings = _findings(request.app.state.process)
    is_ready = all(finding.is_ok for finding in findings.values())
    return JSONResponse(
        {
            "status": "ready" if is_ready else "not ready",
            "checks": {name: _told(finding) for name, finding in findings.items()},
        },
        status_code=200 if is_ready else 503,
        headers={"Cache-Control": "no-store"},
    )


def _findings(process: Runtime) -> Findings:
    found: Findings = {}
    try:
        database = process.database
    except PlumblineError:  # an embedded server does not come up
        return {"database": checks.Finding(name="database", is_ok=False, detail="does not answer")}
    found["database"] = checks.check_database(process)
    if found["database"].is_ok:
        found["migrations"] = checks.check_migrations(database)
        if found["migrations"].is_ok:
            found["beat"] = checks.check_beat(database)
    found["broker"] = checks.check_broker(process)
    if found["broker"].is_ok:
        found["workers"] = checks.check_workers()
    return found


def _told(finding: checks.Finding) -> dict[str, Any]:
    """What a stranger may know: whether it works, and numbers."""
    told: dict[str, Any] = {"ok": finding.is_ok}
    if "late_seconds" in finding.facts:
        told["late_seconds"] = finding.facts["late_seconds"]
    if "workers" in finding.facts:
        told["count"] = len(finding.facts["workers"])
    for name in ("found", "needed"):
        if name in finding.facts:
            told[name] = finding.facts[name]
    return told
