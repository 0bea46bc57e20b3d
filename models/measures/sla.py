"""The clock of a service level: what it has consumed, when it is due, and the instant at which it was breached. Pure.

The clock runs in business time from its start to its stop, less its pauses. A breach is stamped with the instant at
which the clock crossed its target, whoever looks and whenever; to consume exactly the target is to keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from models.measures.business_time import ALWAYS, Calendar, add_business_seconds, business_seconds
from models.measures.definition import Measure

SOURCE = "metrics 2.6"

MEASURES = (
    Measure(
        name="sla_consumed_seconds",
        unit="seconds",
        source=SOURCE,
        definition="Business time from the start of the clock to its stop, pauses left out.",
    ),
    Measure(
        name="sla_due_at",
        unit="UTC",
        source=SOURCE,
        definition="When the target is reached if nothing else happens; unknown while the clock is paused.",
    ),
    Measure(
        name="sla_breached_at",
        unit="UTC",
        source=SOURCE,
        definition="The instant at which the clock crossed its "
        "target, or at which the target was lowered below what was consumed.",
    ),
    Measure(
        name="sla_compliance",
        unit="ratio",
        source=SOURCE,
        definition="Of the targets due in the period, those that "
        "were met; open overdue ones are missed, paused ones are left out.",
    ),
)

Kind = Literal["pause", "resume", "stop", "reopen", "target"]


class ClockEvent(msgspec.Struct, frozen=True):
    """Something that happens to a clock."""

    at: datetime
    kind: Kind
    target_seconds: int | None = None
    """Of a `target`: what the new severity allows; None: nothing is promised any more."""


class Breach(msgspec.Struct, frozen=True):
    """A target that was not kept."""

    cycle: int
    at: datetime
    reason: Literal["overdue", "severity_raised"]


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Where a clock stands."""

    consumed_seconds: int
    target_seconds: int | None
    due_at: datetime | None
    breaches: tuple[Breach, ...]
    cycle: int
    state: Literal["running", "paused", "stopped"]

    @property
    def breached_at(self) -> datetime | None:
        """Of the present cycle."""
        return next((each.at for each in self.breaches if each.cycle == self.cycle), None)


class _Walk:
    """A clock while its events are gone through."""

    def __init__(self, started_at: datetime, target_seconds: int | None, calendar: Calendar) -> None:
        self.calendar = calendar
        self.target = target_seconds
        self.at = started_at
        self.consumed = 0
        self.consumed_at_due = 0
        self.cycle = 1
        self.is_paused = False
        self.is_stopped = False
        self.running_since = started_at
        self.breaches: list[Breach] = []

    @property
    def is_running(self) -> bool:
        return not self.is_paused and not self.is_stopped

    def go_to(self, at: datetime) -> None:
        """Let the time pass."""
        if at <= self.at:
            return
        if self.is_running:
            spent = business_seconds(self.at, at, self.calendar)
            if self.target is not None and self.consumed + spent > self.target:
                self.breach(
                    add_business_seconds(self.at, max(self.target - self.consumed, 0), self.calendar), "overdue"
                )
            self.consumed += spent
        self.at = at

    def breach(self, at: datetime, reason: Literal["overdue", "severity_raised"]) -> None:
        if all(each.cycle != self.cycle for each in self.breaches):
            self.breaches.append(Breach(self.cycle, at, reason))

    def due_at(self) -> datetime | None:
        if self.target is None or self.is_paused:
            return None
        left = self.target - self.consumed_at_due
        return add_business_seconds(self.running_since, left, self.calendar) if left >= 0 else self.running_since

    def run_on(self) -> None:
        """From here on the due time is counted."""
        self.running_since, self.consumed_at_due = self.at, self.consumed


def sla_clock(
    started_at: datetime,
    target_seconds: int | None,
    events: Iterable[ClockEvent] = (),
    *,
    as_of: datetime,
    calendar: Calendar = ALWAYS,
    on_severity_change: Literal["carry", "restart"] = "carry",
    on_reopen: Literal["resume", "restart", "ignore"] = "resume",
) -> Clock:
    """Run a clock through what happened to it.

    Source: metrics 2.6.

    Args:
        started_at: when it began.
        target_seconds: what is allowed, in business time; None: nothing is promised.
        events: in the order of time; those after `as_of` are left out.
        as_of: when somebody looks.
        calendar: whose hours count.
        on_severity_change: carry what was consumed on to the new target, or begin again.
        on_reopen: go on with the same cycle without the time in between, begin a new one, or leave it stopped.
    """
    walk = _Walk(started_at, target_seconds, calendar)
    for event in events:
        if event.at > as_of:
            break
        walk.go_to(event.at)
        _happen(walk, event, on_severity_change, on_reopen)
    walk.go_to(as_of)
    return Clock(
        consumed_seconds=walk.consumed,
        target_seconds=walk.target,
        due_at=walk.due_at(),
        breaches=tuple(walk.breaches),
        cycle=walk.cycle,
        state="stopped" if walk.is_stopped else "paused" if walk.is_paused else "running",
    )


def _happen(walk: _Walk, event: ClockEvent, on_severity_change: str, on_reopen: str) -> None:
    was_running = walk.is_running
    if event.kind == "pause":
        walk.is_paused = True
    elif event.kind == "resume":
        walk.is_paused = False
    elif event.kind == "stop":
        walk.is_stopped = True
    elif event.kind == "reopen" and walk.is_stopped and on_reopen != "ignore":
        walk.is_stopped = False
        if on_reopen == "restart":
            walk.cycle, walk.consumed = walk.cycle + 1, 0
    elif event.kind == "target":
        walk.target = event.target_seconds
        if on_severity_change == "restart":
            walk.consumed = 0
        if walk.target is not None and walk.consumed > walk.target and not walk.is_stopped:
            walk.breach(walk.at, "severity_raised")
        if walk.is_running:
            walk.run_on()
    if walk.is_running and not was_running:
        walk.run_on()


def compliance(clocks: Sequence[Clock], *, since: datetime, until: datetime) -> float | None:
    """Of the targets that were due in [since, until), the ratio of those that were met.

    Args:
        clocks: looked at `until` or later.
        since: aware.
        until: aware.

    Returns:
        None where none was due. Stopped in time is met; breached or open past its time is missed; paused ones and
        open ones whose breach is still to come are left out.
    """
    met = missed = 0
    for clock in clocks:
        due_at = clock.breached_at or clock.due_at
        if due_at is None or not since <= due_at < until:
            continue
        if clock.breached_at is not None:
            missed += 1
        elif clock.state == "stopped":
            met += 1
    return met / (met + missed) if met + missed else None
