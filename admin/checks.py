"""Looking at the running system: what `/readyz`, `plumbline status` and `plumbline doctor` are answered from.

What belongs here: one function for each part, which says what it found in a sentence and never raises what it looks
for. What does not: how findings are shown. No finding holds a secret: addresses are shown without passwords.
"""

from __future__ import annotations

from typing import Any

import msgspec
from celery import current_app
from kombu.exceptions import OperationalError

import workers.app  # noqa: F401  # declares the application
from models.errors import PlumblineError
from models.store import jobs, partitions, webhooks
from models.store.session import Database, current_revision, newest_revision
from workers.logs import mask_text
from workers.runtime import Runtime

BEAT_LATE_SECONDS = 60.0
"""How late a schedule may be before beat is taken for dead; it looks every second."""
WEBHOOKS_LATE_SECONDS = 600.0
"""How long a delivery may wait: it is tried again for some minutes, and then given up."""
WORKER_ANSWER_SECONDS = 1.0
BROKER_ANSWER_SECONDS = 3.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one part."""

    name: str
    is_ok: bool
    detail: str
    mend: str | None = None
    """What to do, where something is to be done."""
    facts: dict[str, Any] = {}
    """Numbers behind the sentence, for machines."""


def check_database(process: Runtime) -> Finding:
    """Whether the database answers, and is new enough."""
    try:
        version = process.database.ping()
    except PlumblineError as error:
        return Finding(
            name="database",
            is_ok=False,
            detail=error.message,
            mend="Check PLUMBLINE_DATABASE_URL and that PostgreSQL runs there.",
        )
    is_embedded = "postgresql" in process.endpoints.embedded
    return Finding(
        name="database",
        is_ok=True,
        detail=f"PostgreSQL {version // 10_000}.{version % 10_000}"
        + (", embedded" if is_embedded else f" at {process.database.address}"),
        facts={"version": version},
    )


def check_migrations(database: Database) -> Finding:
    """Whether the schema is the one of this version; the database answers."""
    found, needed = current_revision(database), newest_revision()
    facts = {"found": found, "needed": needed}
    if found == needed:
        return Finding(name="migrations", is_ok=True, detail=f"at version {found}", facts=facts)
    return Finding(
        name="migrations",
        is_ok=False,
        detail=f"at version {found}, and this Plumbline needs {needed}" if found else "the database is empty",
        mend="plumbline migrate",
        facts=facts,
    )


def check_tenants(database: Database) -> Finding:
    """Whether this login sees the tenants' rows; the schema fits. Without its role every table would seem empty."""
    role = database.role_seeing_nothing()
    if role is None:
        return Finding(name="tenants", is_ok=True, detail="this login sees the rows of all tenants")
    return Finding(
        name="tenants",
        is_ok=False,
        detail=f"the login {role} sees no tenant's rows",
        mend=f"As an administrator of the database: GRANT plumbline_workers TO {role}",
    )


def check_broker(process: Runtime) -> Finding:
    """Whether the broker answers."""
    url = process.endpoints.broker_url
    where = "the embedded broker" if "broker" in process.endpoints.embedded else mask_text(url)
    times = {"socket_timeout": BROKER_ANSWER_SECONDS, "socket_connect_timeout": BROKER_ANSWER_SECONDS}
    try:
        with current_app.connection_for_write(
            connect_timeout=BROKER_ANSWER_SECONDS, transport_options=times if url.startswith("redis") else {}
        ) as connection:
            connection.channel().close()
    except Exception as error:  # noqa: BLE001  # each transport has errors of its own, and any of them means: it does not answer
        return Finding(
            name="broker",
            is_ok=False,
            detail=f"{where} does not answer ({mask_text(str(error) or type(error).__name__)})",
            mend="Check PLUMBLINE_BROKER_URL and that the broker runs there; nothing is lost meanwhile.",
        )
    return Finding(name="broker", is_ok=True, detail=f"{where} answers")


def answering_workers() -> list[str]:
    """Names of the workers that answer within a second; none where the broker does not."""
    try:
        replies = current_app.control.ping(timeout=WORKER_ANSWER_SECONDS) or []
    except (OperationalError, OSError):
        return []
    return sorted(name for reply in replies for name in reply)


def check_workers() -> Finding:
    """Whether workers answer; the broker does."""
    names = answering_workers()
    if not names:
        return Finding(name="workers", is_ok=False, detail="none answers", mend="plumbline up", facts={"workers": []})
    return Finding(name="workers", is_ok=True, detail=", ".join(names), facts={"workers": names})


def check_beat(database: Database) -> Finding:
    """Whether beat sends what is due, told by how late the latest schedule is; the schema fits."""
    with database.transaction() as session:
        enabled = [row for row in jobs.schedules(session) if row.is_enabled]
    if not enabled:
        return Finding(name="beat", is_ok=True, detail="no schedule is enabled", facts={"late_seconds": 0.0})
    unseen = [row.name for row in enabled if row.next_run_at is None]
    late_seconds = max((row.late_seconds for row in enabled if row.late_seconds is not None), default=0.0)
    facts = {"late_seconds": round(late_seconds, 1), "unseen": unseen}
    if unseen:
        detail = "it has not run yet" if len(unseen) == len(enabled) else f"it has not looked at {', '.join(unseen)}"
    elif late_seconds > BEAT_LATE_SECONDS:
        detail = f"it does not run: a schedule is {late_seconds:.0f} s late"
    else:
        return Finding(name="beat", is_ok=True, detail="sends what is due", facts=facts)
    return Finding(name="beat", is_ok=False, detail=detail, mend="plumbline up", facts=facts)


def check_webhooks(database: Database, row: Any) -> Finding:
    """Whether the webhooks of a connection are registered, and whether their deliveries are worked off."""
    with database.transaction() as session:
        counts = webhooks.counts(session, row.id)
    trouble = row.webhooks.get("trouble")
    is_stuck = (counts.waiting_seconds or 0.0) > WEBHOOKS_LATE_SECONDS
    waiting = f", {counts.waiting} waiting for up to {counts.waiting_seconds:.0f} s" if counts.waiting else ""
    given_up = f", {counts.given_up} given up ({counts.last_error})" if counts.given_up else ""
    return Finding(
        name=f"webhooks {row.name}",
        is_ok=not trouble and not is_stuck,
        detail=(trouble or "registered") + f"; {counts.received} came in the last week{waiting}{given_up}",
        mend=f"plumbline connection webhooks {row.name} --enable" if trouble else "plumbline up" if is_stuck else None,
        facts={"received": counts.received, "waiting": counts.waiting, "given_up": counts.given_up},
    )


def check_jobs(database: Database) -> Finding:
    """How many jobs wait and run, and how many have failed of late; the schema fits."""
    with database.transaction() as session:
        counts = jobs.counts(session)
    failed = f", {counts.failed} failed in the last hour" if counts.failed else ""
    return Finding(
        name="jobs",
        is_ok=True,
        detail=f"{counts.waiting} waiting, {counts.running} running{failed}",
        mend="plumbline jobs list --status failed" if counts.failed else None,
        facts={"waiting": counts.waiting, "running": counts.running, "failed": counts.failed},
    )


def check_partitions(database: Database) -> Finding:
    """Whether the months to come are there and no default partition holds rows; the schema fits."""
    now = database.now()
    with database.transaction() as session:
        if not partitions.are_visible(session):
            return Finding(name="partitions", is_ok=True, detail="not looked at, as this login does not own the tables")
        overdue, strays = partitions.overdue(session, now=now), partitions.default_rows(session)
    said = [f"months are missing in {', '.join(overdue)}"] if overdue else []
    said += [f"{count} rows of {table} are in no month" for table, count in strays.items()]
    return Finding(
        name="partitions",
        is_ok=not said,
        detail="; ".join(said) or "the months ahead are there",
        mend="plumbline jobs run maintain.create_partitions --wait" if said else None,
        facts={"overdue": overdue, "default_rows": strays},
    )
