"""Stacks of real processes, in homes of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from factories.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack without running processes; the test starts what it needs."""
    made = Stack(tmp_path / "home")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def second_stack(tmp_path: Path) -> Iterator[Stack]:
    """Another one beside it, to compare with."""
    made = Stack(tmp_path / "other")
    try:
        yield made
    finally:
        made.stop()
