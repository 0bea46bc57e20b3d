"""Unpacking an archive from outside so that nothing it holds can hurt: where it writes, and how much.

Zip, tar and tar.gz only. Nothing that a header says is believed: names are checked before a file is made, bytes are
counted while they are read, and nested archives stay files. What does not belong here: what the files mean.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from models.errors import NotAllureResultsError, UnsafeArchiveError

_CHUNK_BYTES = 256 * 1024
_LARGEST_READ_BYTES = 1024 * 1024
"""More than a tar header may be long; who asks for more at once was told to by the archive."""
_ZIP_DIRECTORY_ENTRY = b"PK\x01\x02"
_LARGEST_ZIP_DIRECTORY_ENTRY_BYTES = 512
"""A name and 46 bytes, or some more; 110 as a rule."""
_TAR_BLOCK_BYTES = 512
_LONGEST_NAME_BYTES = 255
_DEEPEST_FOLDER = 32

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)
"""What the standard library raises on bytes that are not what they should be."""


class ArchiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much an archive may be and hold."""

    archive_bytes: int = 2 * 1024**3
    entries_count: int = 500_000
    entry_bytes: int = 1024**3
    total_bytes: int = 8 * 1024**3
    ratio: int = 200
    """How many times its own size an archive may unpack to, once it has unpacked to `ratio_free_bytes`."""
    ratio_free_bytes: int = 10 * 1024**2


DEFAULT_LIMITS = ArchiveLimits()


def unpack(archive: Path, into: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
    """Unpack a zip, tar or tar.gz archive.

    Args:
        archive: a file.
        into: an empty folder. After an error some files may be in it; it is the caller's to remove.
        limits: how much it may hold.

    Raises:
        NotAllureResultsError: the file is no such archive, or is damaged.
        UnsafeArchiveError: it holds what no archive of results has, or more than the limits allow.
    """
    guard = _Guard(archive, into, limits)
    unpack_one_kind = _kind(archive)
    try:
        unpack_one_kind(archive, guard)
    except RecursionError:
        # Tar reads each extension header inside the one before it.
        guard.refuse("chains its headers without end")
    except _DAMAGE as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise NotAllureResultsError(f"The archive {archive.name} is damaged: {reason}.") from error


class _Guard:
    """Says no: to a name that leads elsewhere, and to one byte or entry more than the limits."""

    def __init__(self, archive: Path, into: Path, limits: ArchiveLimits) -> None:
        self._archive_name = archive.name
        self._into = into
        self._folders = {into}
        self._limits = limits
        self._archive_bytes = archive.stat().st_size
        self._entries_count = 0
        self._total_bytes = 0
        if self._archive_bytes > limits.archive_bytes:
            self.refuse(f"is larger than {limits.archive_bytes} bytes")

    def refuse(self, what: str, entry: str | None = None) -> NoReturn:
        of_entry = "" if entry is None else f" ({entry[:120]!a})"
        raise UnsafeArchiveError(f"The archive {self._archive_name} {what}{of_entry}; it was not read.")

    def count_entry(self) -> None:
        self._entries_count += 1
        self.check_entries(self._entries_count)

    def check_entries(self, count: int) -> None:
        if count > self._limits.entries_count:
            self.refuse(f"holds more than {self._limits.entries_count} entries")

    def count_bytes(self, count: int) -> None:
        self._total_bytes += count
        if self._total_bytes > self._limits.total_bytes:
            self.refuse(f"unpacks to more than {self._limits.total_bytes} bytes")
        allowed = max(self._limits.ratio_free_bytes, self._limits.ratio * self._archive_bytes)
        if self._total_bytes > allowed:
            self.refuse(f"unpacks to more than {self._limits.ratio} times its size")

    def write(self, name: str, source: IO[bytes], *, counted: bool) -> None:
        """Write one entry; `counted` where its bytes are counted as they leave the archive's reader."""
        target = self._into.joinpath(*self._safe_parts(name))
        entry_bytes = 0
        try:
            if target.parent not in self._folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(target.parent)
            with target.open("xb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    entry_bytes += len(chunk)
                    if entry_bytes > self._limits.entry_bytes:
                        self.refuse(f"holds an entry of more than {self._limits.entry_bytes} bytes", name)
                    if not counted:
                        self.count_bytes(len(chunk))
                    file.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.refuse("holds a name twice", name)

    def _safe_parts(self, name: str) -> list[str]:
        if "\\" in name:
            self.refuse("holds a name with a backslash", name)
        if "\0" in name:
            self.refuse("holds a name with a NUL", name)
        if name.startswith("/"):
            self.refuse("holds an absolute path", name)
        if name[1:2] == ":" and name[0].isalpha():
            self.refuse("holds a path with a drive letter", name)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.refuse("holds a path that leads out of it", name)
        if not parts:
            self.refuse("holds an entry without a name", name)
        if len(parts) > _DEEPEST_FOLDER or any(
            len(part.encode(errors="surrogateescape")) > _LONGEST_NAME_BYTES for part in parts
        ):
            self.refuse("holds a name that is too long", name)
        return parts


def _kind(archive: Path) -> Callable[[Path, _Guard], None]:
    with archive.open("rb") as file:
        start = file.read(_TAR_BLOCK_BYTES)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unpack_zip
    if start.startswith(b"\x1f\x8b"):
        return _unpack_tar_gz
    if start[257:262] == b"ustar":
        return _unpack_tar
    raise NotAllureResultsError(
        f"{archive.name} is neither a folder nor a zip, tar or tar.gz archive; pass the folder that the tests wrote, "
        "usually allure-results, or an archive of it."
    )


def _unpack_zip(archive: Path, guard: _Guard) -> None:
    with _ZipReader(archive.open("rb", buffering=0), guard) as file, zipfile.ZipFile(file) as zipped:
        for info in zipped.infolist():
            guard.count_entry()
            # `filename` ends at a NUL and has its separators changed; the original name has neither.
            name = info.orig_filename
            if info.flag_bits & 0x1:
                guard.refuse("is encrypted", name)
            file_type = stat.S_IFMT(info.external_attr >> 16)
            if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
                guard.refuse("holds what is no plain file, such as a link", name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The others take as much memory as the archive says.
                guard.refuse("is compressed in another way than zip files of results are", name)
            if not name.endswith("/"):
                with zipped.open(info) as source:
                    guard.write(name, source, counted=False)


class _ZipReader(io.BufferedReader):
    """Checks the directory of a zip while it is bytes, before `zipfile` makes an object of each entry."""

    def __init__(self, file: io.RawIOBase, guard: _Guard) -> None:
        super().__init__(file)
        self._guard = guard

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_READ_BYTES:
            # Only the directory is read at once.
            self._guard.check_entries(size // _LARGEST_ZIP_DIRECTORY_ENTRY_BYTES)
            data = super().read(size)
            self._guard.check_entries(data.count(_ZIP_DIRECTORY_ENTRY))
            return data
        return super().read(size)

    def seek(self, target: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and target < 0:
            raise zipfile.BadZipFile("its directory points before its beginning")
        return super().seek(target, whence)


def _unpack_tar(archive: Path, guard: _Guard) -> None:
    with archive.open("rb") as file:
        _unpack_tar_stream(file, guard)


def _unpack_tar_gz(archive: Path, guard: _Guard) -> None:
    with gzip.open(archive) as file:
        _unpack_tar_stream(file, guard)


def _unpack_tar_stream(file: io.BufferedIOBase | gzip.GzipFile, guard: _Guard) -> None:
    counted = _CountedReader(file, guard)
    with tarfile.open(fileobj=counted, mode="r:") as tar:  # type: ignore[call-overload]  # it reads, seeks and tells
        for member in _members(tar):
            guard.count_entry()
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                guard.refuse("holds what is no plain file, such as a link", member.name)
            source = tar.extractfile(member)
            if source is not None:
                guard.write(member.name, source, counted=True)
        if counted.last_read.strip(b"\0"):
            # tarfile takes a header that it cannot read for the end, and what follows would be lost without a word.
            raise EOFError("it ends within a file, or one of its headers cannot be read")
        # gzip's checksum stands after the last byte.
        while counted.read(_CHUNK_BYTES):
            pass


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members = []  # type: ignore[attr-defined]  # it keeps every member it has seen, and has no other way to forget


class _CountedReader:
    """What tarfile reads from: forwards only, counted, and never much at once.

    A header decides how much tarfile reads in one call and where it goes next. Without this a few bytes make it read
    gigabytes into memory, or go round in circles.
    """

    def __init__(self, file: io.BufferedIOBase | gzip.GzipFile, guard: _Guard) -> None:
        self._file = file
        self._guard = guard
        self._position = 0
        self.last_read = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ_BYTES:
            self._guard.refuse(f"holds a header of more than {_LARGEST_READ_BYTES} bytes")
        data = self._file.read(size)
        self._position += len(data)
        self._guard.count_bytes(len(data))
        self.last_read = data
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._position:
            self._guard.refuse("leads backwards")
        while self._position < position and self.read(min(_CHUNK_BYTES, position - self._position)):
            pass
        return self._position
