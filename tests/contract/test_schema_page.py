"""The page of the schema says what the models say, and its check notices when it does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

WRITER = Path(__file__).parents[2] / "docs" / "schema.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False, cwd=WRITER.parents[1]
    )


def test_the_page_that_is_kept_is_the_one_that_would_be_written(tmp_path: Path) -> None:
    copy = tmp_path / "schema.py"
    shutil.copy(WRITER, copy)
    assert run(copy, "--write").returncode == 0
    assert (tmp_path / "schema.md").read_text() == WRITER.with_name("schema.md").read_text()


def test_the_check_notices_a_page_that_is_missing_or_differs(tmp_path: Path) -> None:
    copy, page = tmp_path / "schema.py", tmp_path / "schema.md"
    shutil.copy(WRITER, copy)
    missing = run(copy, "--check")
    assert (missing.returncode, "--write" in missing.stdout) == (1, True)
    run(copy, "--write")
    assert run(copy, "--check").returncode == 0
    page.write_text(page.read_text().replace("timestamptz", "timestamp", 1))
    assert run(copy, "--check").returncode == 1


def test_a_wrong_call_is_told_how() -> None:
    wrong = run(WRITER)
    assert (wrong.returncode, "--write" in wrong.stdout) == (2, True)
