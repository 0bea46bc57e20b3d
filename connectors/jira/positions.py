"""Reading a result by position while it changes, so that nothing that is in it all along is missed. Pure of Jira."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import chain

from connectors.http import fetch_ahead
from connectors.jira.api import OVERLAP_ROWS_COUNT, PAGES_AHEAD_COUNT, Rows
from models.errors import TransientSourceError


def joined_pages(
    read: Callable[[int], Rows], pool: Executor, start: int = 0, anchors: tuple[str, ...] = ()
) -> Iterator[tuple[Rows, set[str]]]:
    """Page by position through a result that changes meanwhile, and miss nothing that is in it all along.

    The rows are in an order that no change alters. So if a page holds an issue that was seen, all that stands after it
    joins what was seen without a gap, even where rows have left the result or come into it.

    Args:
        read: fetches the page at a position.
        pool: runs `read` ahead of the consumer.
        start: the position to begin with.
        anchors: issues delivered earlier that stand about there; none needed at position 0.

    Returns:
        Each page, and which of its ids were not seen before.

    Raises:
        TransientSourceError: the result changes faster than it can be read.
    """
    seen = set(anchors)
    at, is_last_pass = start, bool(anchors)
    longest = reads_left = 0
    while True:
        page = first = read(at)
        # A server may give fewer rows than it was asked for, and then goes on like that.
        longest = max(longest, first.end - first.start)
        step = max(1, longest - OVERLAP_ROWS_COUNT)
        reads_left = (reads_left or 20 + 3 * (first.total // step)) - 1
        if _joins(first, seen):
            starts = range(first.end - OVERLAP_ROWS_COUNT, first.total - OVERLAP_ROWS_COUNT, step)
            calls = chain([partial(Rows.itself, first)], (partial(read, start) for start in starts))
            for page in fetch_ahead(pool, calls, PAGES_AHEAD_COUNT):
                reads_left -= page is not first
                if not _joins(page, seen):
                    break
                new = page.external_ids - seen
                seen |= new
                yield page, new
        if not _joins(page, seen):
            at = max(0, page.start - step)
        elif page.end < page.total:
            at = max(0, page.end - OVERLAP_ROWS_COUNT)
        elif is_last_pass or len(seen) >= page.total:
            return
        else:
            # There are more issues than were seen, so some came in behind us: look once more.
            at, is_last_pass = 0, True
        if reads_left <= 0:
            raise TransientSourceError("The result of a search changes faster than it can be read.")


def _joins(page: Rows, seen: set[str]) -> bool:
    """Whether nothing can lie between a page and what was seen."""
    return page.start == 0 or not seen.isdisjoint(page.external_ids)
