"""How a span of update time is cut into windows, each a job of its own. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

MOST_WINDOWS = 12
"""Enough for ten workers, few enough that a small project does not pay for empty ones."""
SHORTEST_WINDOW = timedelta(days=30)

Span = tuple[datetime | None, datetime | None]


def cut(since: datetime | None, until: datetime) -> list[Span]:
    """Cut a span into windows that cover it exactly, newest first.

    The oldest window is open at its beginning: what was updated before `since` and came late is in it.

    Args:
        since: the oldest update, or None where there is nothing.
        until: the end, not included.

    Returns:
        One to `MOST_WINDOWS` half-open spans.
    """
    if since is None or until - since <= SHORTEST_WINDOW:
        return [(None, until)]
    count = min(MOST_WINDOWS, (until - since) // SHORTEST_WINDOW)
    length = (until - since) / count
    edges: list[datetime | None] = [None, *(since + length * number for number in range(1, count)), until]
    return list(pairwise(edges))[::-1]
