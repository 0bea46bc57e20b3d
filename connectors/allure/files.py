"""The files of one folder of results: which there are, what they are by name, and reading one.

What belongs here: the only code that touches the folder. What does not: what the files mean.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from models.errors import BadRecordError, NotAllureResultsError

LARGEST_FILE_BYTES = 32 * 1024 * 1024
"""A larger file is set aside unread; a result has 1 to 20 KB as a rule."""
BEGINNING_BYTES = 64 * 1024
"""What is kept of a file that is set aside."""

_RESULT_SUFFIX = "-result.json"
_CONTAINER_SUFFIX = "-container.json"
_KNOWN_SUFFIXES = (_RESULT_SUFFIX, _CONTAINER_SUFFIX, "-attachment.json", "-globals.json", "-check.json")
_KNOWN_NAMES = {"executor.json", "categories.json", "launch.json"}
_MACOS_FOLDER = "__MACOSX"
_NO_DIGEST = bytes(32)


class LoadedFile(NamedTuple):
    """A file as it is now."""

    content: bytes
    """Only the beginning, where there is a problem."""
    size_bytes: int
    digest: bytes
    """SHA-256 of the whole file, zeros where it cannot be read."""
    problem: str | None
    """Why it cannot be used."""


class ResultFiles:
    """A folder that holds at least one result file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._folder

    @cached_property
    def results(self) -> list[str]:
        """The result files, sorted. Only the name makes one: an attachment may look like a result."""
        return [name for name in self._names if name.endswith(_RESULT_SUFFIX)]

    @cached_property
    def containers(self) -> list[str]:
        """The container files, sorted."""
        return [name for name in self._names if name.endswith(_CONTAINER_SUFFIX)]

    @cached_property
    def other_json(self) -> list[str]:
        """JSON files whose name does not say what they are: mostly attachments."""
        return [
            name
            for name in self._names
            if name.endswith(".json") and not name.endswith(_KNOWN_SUFFIXES) and name not in _KNOWN_NAMES
        ]

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.size_bytes(name) is not None

    def size_bytes(self, name: str) -> int | None:
        """The size of a file, None where there is none of that name. The name is one that leads nowhere else."""
        try:
            status = (self._folder / name).stat()
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def load(self, name: str) -> LoadedFile:
        """Read a file whole, but for one that is too large."""
        try:
            with (self._folder / name).open("rb", buffering=0) as file:
                size_bytes = os.fstat(file.fileno()).st_size
                if size_bytes <= LARGEST_FILE_BYTES:
                    content = file.readall()
                    return LoadedFile(content, len(content), hashlib.sha256(content).digest(), None)
                beginning = file.read(BEGINNING_BYTES)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            return LoadedFile(b"", 0, _NO_DIGEST, f"It cannot be read: {error.strerror}.")
        return LoadedFile(beginning, size_bytes, digest, f"It is larger than {LARGEST_FILE_BYTES} bytes.")

    def content(self, name: str, *, largest_bytes: int = LARGEST_FILE_BYTES) -> bytes:
        """Read a file.

        Raises:
            BadRecordError: it cannot be read, or is too large.
        """
        file = self.load(name)
        if file.problem is not None:
            raise BadRecordError(file.problem)
        if file.size_bytes > largest_bytes:
            raise BadRecordError(f"It is larger than {largest_bytes} bytes.")
        return file.content

    @cached_property
    def _names(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            # Hidden files are what systems and editors leave; macOS puts one beside each file of an archive.
            return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def in_folder(folder: Path) -> ResultFiles:
    """The results that lie directly in a folder.

    Raises:
        NotAllureResultsError: there are none; the message says where a generated report was given for its results.
    """
    files = ResultFiles(folder)
    if not files.results:
        raise _no_results(str(folder), in_report=any(map(_is_report, (folder, *folder.resolve().parents[:2]))))
    return files


def holds_results(folder: Path) -> bool:
    """Whether a result file lies directly in a folder."""
    return bool(ResultFiles(folder).results)


def somewhere_in(folder: Path, *, archive_name: str) -> ResultFiles:
    """The results of an unpacked archive: its root, or the one folder in it that holds some.

    Raises:
        NotAllureResultsError: there are none, or several folders of them.
    """
    found: list[Path] = []
    in_report = False
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != _MACOS_FOLDER and not name.startswith("."))
        if any(name.endswith(_RESULT_SUFFIX) and not name.startswith(".") for name in names):
            found.append(Path(root))
        in_report = in_report or _is_report(Path(root))
    if not found:
        raise _no_results(archive_name, in_report=in_report)
    if len(found) > 1:
        names_found = ", ".join(str(each.relative_to(folder)) for each in found[:3])
        raise NotAllureResultsError(
            f"{archive_name} holds results in {len(found)} folders ({names_found}, …); pass an archive of one of them."
        )
    return ResultFiles(found[0])


def _is_report(folder: Path) -> bool:
    return (folder / "data" / "test-cases").is_dir() or any(
        (folder / "widgets" / name).is_file() for name in ("summary.json", "statistic.json")
    )


def _no_results(name: str, *, in_report: bool) -> NotAllureResultsError:
    if in_report:
        return NotAllureResultsError(
            f"{name} is a generated report; pass allure-results, the folder that the tests wrote."
        )
    return NotAllureResultsError(
        f"There are no Allure results in {name}: no file is named *{_RESULT_SUFFIX}. "
        "Pass the folder that the tests wrote, usually allure-results."
    )
