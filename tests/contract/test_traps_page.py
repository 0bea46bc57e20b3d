"""Every trap in docs/traps.md is held by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "traps.md").read_text())
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert sorted(set(named) - written) == []


def test_every_row_of_the_page_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "traps.md").read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if "`test_" not in row and not row.startswith("| trap ")] == []
