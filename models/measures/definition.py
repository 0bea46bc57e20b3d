"""What a measure is called, what it means, in which unit, since which version, and where its definition comes from.

Each module of this package lists the measures that it computes; `registry` collects them for those who explain a
number. No value is computed here.
"""

from __future__ import annotations

import msgspec


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One domain number."""

    name: str
    """As columns and the API call it."""
    unit: str
    """seconds, hours, days, ratio, percent, points, count, EUR a month, …"""
    definition: str
    """In one or two sentences, for whoever asks what the number means."""
    version: int = 1
    """Raised when the same inputs give another number."""
    source: str = "our own"
    """Who defined it."""
