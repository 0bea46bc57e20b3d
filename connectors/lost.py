"""Objects that a source cannot show: one whose every request ends in an error must not hold up all the others.

A window that has failed several times is read forgivingly: an object that the server answers with 500, while it answers
for others, is set aside. A few of them are; more is trouble of the server's, and no object's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from models.errors import TransientSourceError

OPTION = "sets_lost_objects_aside"
"""Laid over a connection's options by the worker, where a window has failed several times."""
MOST_COUNT = 10
"""How many objects of a window may be set aside."""


class LostObjects:
    """Says of each object that cannot be fetched whether it may be left out. Safe to share between threads."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """From the options of a connection."""
        self._left_count = MOST_COUNT if options.get(OPTION) else 0
        self._lock = threading.Lock()

    def reason(self, error: TransientSourceError) -> str:
        """Why the object is left out; raises the error where it may not be."""
        with self._lock:
            if error.facts.get("status") != HTTPStatus.INTERNAL_SERVER_ERROR or not self._left_count:
                raise error
            self._left_count -= 1
        return f"a part of it cannot be fetched, again and again: {error.message}"
