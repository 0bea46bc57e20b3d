"""The results of one launch in one folder, wherever they lie and however many jobs made them.

What belongs here: finding folders of results in what was brought, and joining them. What does not: unpacking
(archives.py) and reading (results.py).
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path

from connectors.allure.archives import DEFAULT_LIMITS, ArchiveLimits, unpack
from connectors.allure.files import holds_results, somewhere_in
from models.errors import NotAllureResultsError


def results_folders(
    brought: Path, *, work_folder: Path, results_path: str | None = None, limits: ArchiveLimits = DEFAULT_LIMITS
) -> list[Path]:
    """The folders with results in a folder or archive, at least one.

    Args:
        brought: the folder or archive.
        work_folder: empty; where an archive is unpacked.
        results_path: a shell pattern of the path within it; None: wherever there are results, in one folder.
        limits: how much an archive may hold.

    Raises:
        NotAllureResultsError: there are none, or the archive is damaged.
        UnsafeArchiveError: the archive holds what is not safe to unpack.
    """
    folder = brought
    if not brought.is_dir():
        unpack(brought, work_folder, limits)
        folder = work_folder
    if results_path is None:
        return [folder] if holds_results(folder) else [somewhere_in(folder, archive_name=brought.name).folder]
    pattern = results_path.strip("/")
    found = [
        Path(root)
        for root, _, _ in os.walk(folder)
        if fnmatch.fnmatchcase(Path(root).relative_to(folder).as_posix(), pattern) and holds_results(Path(root))
    ]
    if not found:
        raise NotAllureResultsError(f"There are no Allure results in {pattern} of {brought.name}.")
    return sorted(found)


def join(folders: list[tuple[str, Path]], into: Path) -> Path:
    """Join folders of results; a single one stays where it is.

    A file that another folder has too stays once where both hold the same. A result is else named after its folder as
    well; of other files the first stays.

    Args:
        folders: each with a name of its own, in the order in which they were made.
        into: empty, on the disk of those folders that are to be joined.

    Returns:
        The folder with all of them.
    """
    if len(folders) == 1:
        return folders[0][1]
    for name, folder in folders:
        for path in sorted(folder.iterdir()):
            if path.is_symlink() or not path.is_file():
                continue
            target = into / path.name
            if target.exists():
                if not path.name.endswith(("-result.json", "-container.json")) or _is_same(path, target):
                    continue
                target = into / f"{name.replace('/', '_')}-{path.name}"
            _link(path, target)
    return into


def _is_same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, target)
