"""Summaries and read models: what each is computed from, and how it is kept equal to a rebuild (docs/summaries.md)."""

from __future__ import annotations

from models.store.summaries.definition import Summary
from models.store.summaries.recompute import (
    Counts,
    Difference,
    definition_of,
    differences,
    dirty_summaries,
    mark_outdated,
    rebuild,
    take_and_recompute,
)
from models.store.summaries.registry import SUMMARIES

__all__ = [
    "SUMMARIES",
    "Counts",
    "Difference",
    "Summary",
    "definition_of",
    "differences",
    "dirty_summaries",
    "mark_outdated",
    "rebuild",
    "take_and_recompute",
]
