"""The few JQL queries that we ask, as text. Pure.

JQL compares times by the minute and reads them in the time zone of the asking user's profile, so what stands in a query
is always a little wider than the window that is meant; the client leaves out what is too much.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

IN_STABLE_ORDER = "ORDER BY created ASC, key ASC"
"""No change of an issue moves it, so that pages by position stay where they are. By `updated` it would jump."""

UNKNOWN_ZONE_SLACK = timedelta(hours=26)
"""More than any zone is away from UTC, for accounts that hide theirs."""

_MINUTE = timedelta(minutes=1)


def quoted(text: str) -> str:
    """A JQL string: keys may be reserved words, and names may hold quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def updated_between(project: str, since: datetime | None, until: datetime | None, zone: tzinfo | None) -> str:
    """All issues of a project that were updated in a span, and some around it.

    Args:
        project: its key.
        since: aware; None reaches back to the beginning.
        until: aware; None leaves the end open.
        zone: of the account that asks, None where it is not known.

    Returns:
        The conditions, without an order.
    """
    conditions = [f"project = {quoted(project)}"]
    if since is not None:
        conditions.append(f"updated >= {_literal_at_or_before(since, zone)}")
    if until is not None:
        conditions.append(f"updated < {_literal_at_or_after(until, zone)}")
    return " AND ".join(conditions)


def with_ids(ids: tuple[str, ...]) -> str:
    """The issues with these numeric ids, wherever they have moved."""
    return f"id in ({', '.join(str(int(one)) for one in ids)}) {IN_STABLE_ORDER}"


def _literal_at_or_before(instant: datetime, zone: tzinfo | None) -> str:
    """A minute that is not after the instant, whichever way the server reads it."""
    if zone is None:
        return _literal((instant - UNKNOWN_ZONE_SLACK).astimezone(UTC))
    local = instant.astimezone(zone).replace(second=0, microsecond=0)
    first, second = _readings(local)
    # In the night when clocks go back an hour comes twice, and the later reading would skip the first of the two.
    if second > instant:
        local = (instant - (second - first)).astimezone(zone)
    return _literal(local)


def _literal_at_or_after(instant: datetime, zone: tzinfo | None) -> str:
    """A minute that is not before the instant, whichever way the server reads it."""
    if zone is None:
        return _literal((instant + UNKNOWN_ZONE_SLACK + _MINUTE).astimezone(UTC))
    whole_minute = instant.replace(second=0, microsecond=0)
    ceiling = whole_minute if whole_minute == instant else whole_minute + _MINUTE
    local = ceiling.astimezone(zone)
    first, second = _readings(local)
    if first < instant:
        local = (ceiling + (second - first)).astimezone(zone)
    return _literal(local)


def _readings(local: datetime) -> tuple[datetime, datetime]:
    """The instants that a wall clock time may mean: two in the doubled hour, in order, else one twice."""
    return local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _literal(local: datetime) -> str:
    return f'"{local:%Y/%m/%d %H:%M}"'
