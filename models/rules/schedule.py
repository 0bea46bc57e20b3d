"""Which ticks of a schedule are due. Pure: the clock is an argument.

A tick is an instant; its cron expression is read in the schedule's time zone. A local time that daylight saving skips
runs just after the gap, and one that it repeats runs once, the first time; a cron of every hour (`*` as its hour)
runs every hour all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from models.errors import UsageError

MOST_TICKS = 1_000
"""The most missed ticks that `all` runs; older ones are dropped."""


def check_cron(cron: str, timezone: str) -> None:
    """Raise `UsageError` where an expression or a time zone cannot be read."""
    if not croniter.is_valid(cron):
        raise UsageError(f"{cron!r} is no cron expression; five fields are minute, hour, day, month and weekday.")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"{timezone!r} is no time zone; write one such as Europe/Berlin or UTC.") from None


def next_tick(cron: str, timezone: str, after: datetime) -> datetime:
    """The first tick after an instant.

    Args:
        cron: five fields, or six with seconds last.
        timezone: in which it is read.
        after: aware.

    Returns:
        Aware UTC, later than `after`.
    """
    zone = ZoneInfo(timezone)
    iterator = croniter(cron, after.astimezone(zone))
    is_every_hour = cron.split()[1].startswith("*")
    while True:
        tick = iterator.get_next(datetime).astimezone(UTC)
        is_repeated = tick.astimezone(zone).fold == 1
        if tick > after and (is_every_hour or not is_repeated):
            return tick


def due_ticks(cron: str, timezone: str, *, last: datetime, now: datetime, catch_up: str) -> list[datetime]:
    """The ticks to run now, oldest first.

    Args:
        cron: see `next_tick`.
        timezone: see `next_tick`.
        last: the tick that was run last, or when the schedule was made.
        now: aware.
        catch_up: of the ticks since `last` run `none` that is older than a minute, the `last` one, or `all`.

    Returns:
        None to many ticks; with `all` at most the latest `MOST_TICKS`.
    """
    ticks: list[datetime] = []
    tick = next_tick(cron, timezone, last)
    while tick <= now:
        ticks.append(tick)
        if len(ticks) > MOST_TICKS:
            ticks.pop(0)
        tick = next_tick(cron, timezone, tick)
    if catch_up == "all":
        return ticks
    latest = ticks[-1:]
    if catch_up == "none":
        return [each for each in latest if now - each < timedelta(minutes=1)]
    return latest
