"""`plumbline doctor`: is everything well, and if not, what mends it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from admin.cli import output
from models.errors import PlumblineError

if TYPE_CHECKING:
    from admin.checks import Finding
    from workers.runtime import Runtime

app = typer.Typer()

CLOCK_DIFFERENCE_SECONDS = 5.0
"""More than this between this machine's clock and the database's, and jobs run too early or too late."""
LEAST_FREE_BYTES = 1_000_000_000
LEAST_FREE_RATIO = 0.05
STALE_AFTER = timedelta(hours=1)
"""Scopes are synced every five minutes; an hour is a dozen syncs that did not end well."""


@app.command()
def doctor(as_json: output.JsonOption = False) -> None:
    """Look at everything: a line for each part, with what mends it.

    Exits with 1 where anything is wrong.

    Example:
        plumbline doctor
    """
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not as_json:
            output.say(f"{'ok   ' if finding.is_ok else 'WRONG'}  {finding.name}: {finding.detail}")
            if finding.mend:
                output.say(f"       -> {finding.mend}")
    wrong = [finding for finding in findings if not finding.is_ok]
    if as_json:
        output.print_json(
            [
                {"name": each.name, "is_ok": each.is_ok, "detail": each.detail, "mend": each.mend, **each.facts}
                for each in findings
            ]
        )
    else:
        output.say(f"{len(wrong)} of {len(findings)} checks found trouble." if wrong else "All is well.")
    if wrong:
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    from admin import checks
    from admin.cli.process import start
    from models.store.session import Database
    from workers.settings import load_settings

    try:
        process = start()
    except PlumblineError as error:
        yield checks.Finding(
            name="settings", is_ok=False, detail=error.message, mend="Correct them; the rest needs them."
        )
        return
    # Read once more, because `start` changes what commands log.
    names = sorted(load_settings().as_environment())
    yield checks.Finding(name="settings", is_ok=True, detail=f"fit together: {', '.join(names)}")
    yield _disk(process)
    try:
        database: Database = process.database
    except PlumblineError as error:
        yield checks.Finding(name="servers", is_ok=False, detail=error.message, mend="plumbline down; plumbline up")
        return
    broker = checks.check_broker(process)
    yield broker
    if broker.is_ok:
        yield checks.check_workers()
    answer = checks.check_database(process)
    yield answer
    if not answer.is_ok:
        return
    yield _clock(process)
    schema = checks.check_migrations(database)
    yield schema
    if schema.is_ok:
        yield checks.check_tenants(database)
        yield checks.check_beat(database)
        yield checks.check_jobs(database)
        yield checks.check_partitions(database)
        yield from _connections(process)


def _disk(process: Runtime) -> Finding:
    """HOME and the room that is left where it is."""
    from admin import checks
    from workers.settings import prepare_home

    home = process.settings.home
    try:
        prepare_home(home)
    except PlumblineError as error:
        return checks.Finding(name="home", is_ok=False, detail=error.message)
    usage = shutil.disk_usage(home)
    is_ok = usage.free >= LEAST_FREE_BYTES and usage.free >= LEAST_FREE_RATIO * usage.total
    return checks.Finding(
        name="home",
        is_ok=is_ok,
        detail=f"{home}, {usage.free / 1e9:,.1f} GB of {usage.total / 1e9:,.1f} GB free",
        mend=None if is_ok else "Make room, or name a folder on another disk in PLUMBLINE_HOME.",
        facts={"free_bytes": usage.free},
    )


def _clock(process: Runtime) -> Finding:
    from admin import checks

    before = datetime.now(UTC)
    there = process.database.now()
    here = before + (datetime.now(UTC) - before) / 2
    difference_seconds = (there - here).total_seconds()
    is_ok = abs(difference_seconds) <= CLOCK_DIFFERENCE_SECONDS
    return checks.Finding(
        name="clock",
        is_ok=is_ok,
        detail=f"{difference_seconds:+.1f} s from here to the database",
        mend=None if is_ok else "Synchronise the clocks of both machines (NTP).",
        facts={"difference_seconds": round(difference_seconds, 3)},
    )


def _connections(process: Runtime) -> Iterator[Finding]:
    from admin import checks
    from admin.cli.connections import connect, gate_sentence, spec_of
    from models.store import connections, windows

    with process.database.transaction() as session:
        rows = [connections.connection(session, each.name) for each in connections.connections(session)]
        scopes = connections.scopes(session)
        backfilled = {each.sync_scope_id for each in windows.backfills(session)}
    for row in rows:
        if row.kind == "upload":
            continue
        name = f"connection {row.name}"
        now = datetime.now(UTC)
        if row.status == "paused":
            yield checks.Finding(name=name, is_ok=True, detail=f"paused; `plumbline connection resume {row.name}`")
            continue
        try:
            with closing(connect(spec_of(process, row))) as connector:
                probe = connector.probe()
            now = probe.server_now
            is_ok = row.status == "active"
            remarks = f" ({' '.join(probe.remarks)})" if probe.remarks else ""
            gate = gate_sentence(process, row.id)
            remarks += f", {gate}" if gate else ""
            yield checks.Finding(
                name=name,
                is_ok=is_ok,
                detail=f"{probe.product} {probe.version} as {probe.account}{remarks}"
                + ("" if is_ok else f"; but it is {row.status}: {row.last_error}"),
                mend=None if is_ok else f"plumbline connection resume {row.name}",
            )
        except PlumblineError as error:
            yield checks.Finding(
                name=name,
                is_ok=False,
                detail=error.message,
                mend=f"plumbline connection change {row.name} --token-env VAR, where the token is the trouble",
            )
        if row.webhooks:
            yield checks.check_webhooks(process.database, row)
        yield from (
            _freshness(each, now, each.id in backfilled)
            for each in scopes
            if each.connection_id == row.id and each.is_active
        )


def _freshness(scope: Any, now: datetime, is_backfilled: bool) -> Finding:
    """How far a scope is behind the instance's clock."""
    from admin import checks

    name = f"scope {scope.connection} {scope.external_key}"
    sync = f"plumbline sync {scope.connection} --scope {scope.external_key} --wait"
    if scope.last_error:
        return checks.Finding(name=name, is_ok=False, detail=scope.last_error, mend=sync)
    if scope.complete_until is None and is_backfilled:
        return checks.Finding(name=name, is_ok=True, detail="its first sync is under way; see `plumbline scope list`")
    if scope.complete_until is None:
        return checks.Finding(name=name, is_ok=False, detail="it has never been synced whole", mend=sync)
    is_ok = now - scope.complete_until <= STALE_AFTER
    set_aside = f", {scope.open_rejects} records set aside (`plumbline rejects list`)" if scope.open_rejects else ""
    return checks.Finding(
        name=name,
        is_ok=is_ok,
        detail=f"complete until {output.ago(scope.complete_until, now)} ago{set_aside}",
        mend=None if is_ok else sync,
        facts={"complete_until": scope.complete_until, "open_rejects": scope.open_rejects},
    )
