"""How a span of update time is cut into windows, each a job of its own. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

MOST_WINDOWS = 12
"""Enough for ten workers, few enough that a small project does not pay for empty ones."""
SHORTEST_WINDOW = timedelta(days=30)

MOST_ROWS = 3_000
"""A window that holds more is cut again: minutes of work, so that workers share it and a restart repeats little."""
PIECE_ROWS = 1_500
MOST_PIECES = 24
SHORTEST_PIECE = timedelta(hours=1)

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


def pieces(since: datetime, until: datetime, rows: int) -> list[Span]:
    """Cut a window that holds too many rows into equal spans, newest first.

    Rows may lie unevenly in it; each piece is looked at again when its turn comes.

    Args:
        since: of the window, or where its rows begin.
        until: its end, not included.
        rows: how many it holds, more or less.

    Returns:
        Half-open spans that cover it exactly; one where it is small enough or cannot be cut.
    """
    count = 1
    if rows > MOST_ROWS:
        count = max(1, min(MOST_PIECES, -(-rows // PIECE_ROWS), (until - since) // SHORTEST_PIECE))
    edges: list[datetime | None] = [since, *(since + (until - since) / count * n for n in range(1, count)), until]
    return list(pairwise(edges))[::-1]
