"""A directory that CI jobs put results into: each folder or archive in it is one launch.

What belongs here: which launches there are, whether one is complete, and whether it has changed. What does not: what
is in them (results.py).

A folder is read when it holds the finish marker, or when nothing in it has changed for a while. It has changed when a
file came, went or has another length: result files are named by their uuid and written once, so their times say
nothing, and a folder that was touched or copied is not read again. An archive is written again under its name, and
the same length proves little (tar pads), so its time counts too; what it holds is recognised when it is read.
Symbolic links are not followed: one in the directory is passed over, one within a launch makes it unreadable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from connectors.allure.shown import ShownLaunch, fingerprint
from connectors.base import ConnectionSpec, Item, Page, Probe, ScopeSpec, Window
from connectors.http import utc_now
from models.errors import BadRecordError, GoneError, UsageError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
QUIET_SECONDS = 60
LONGEST_QUIET_SECONDS = 3 * 3600
"""Less than the stream's overlap, or a launch would be complete behind the watermark."""
FILES_COUNT = 500_000
_RESULT_SUFFIX = "-result.json"
_UNFINISHED_SUFFIX = ".tmp"
"""Allure's Python adapters write such files and rename them."""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """When a launch counts as complete."""

    quiet_seconds: int = QUIET_SECONDS
    finish_marker: str | None = None


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A folder or archive as it is now."""

    path: Path
    fingerprint: str
    changed_at: datetime
    """When anything in it last changed; no program can set it back."""
    is_finished: bool
    """It holds the finish marker."""
    is_results: bool
    """It is an archive, or there is a result file in it."""

    def is_complete(self, watch: Watch, now: datetime) -> bool:
        """Whether it may be read."""
        return self.is_finished or now - self.changed_at >= timedelta(seconds=watch.quiet_seconds)


class WatchedDirectory:
    """A connection to a directory of this machine; see `connectors.base.Connector`.

    Args:
        spec: its address is `file:///…`. Options: `quiet_seconds`, `finish_marker`.
        clock: this machine's time, aware UTC.
    """

    def __init__(self, spec: ConnectionSpec, clock: Callable[[], datetime] = utc_now) -> None:
        parts = urlsplit(spec.base_url)
        path = unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
            raise UsageError(f"{spec.base_url!r} is no directory of this machine; write file:///path/of/it.")
        self._root = Path(path)
        self._watch = watch_of(spec)
        self._clock = clock

    def probe(self) -> Probe:
        """Whether the directory can be read."""
        if not self._root.is_dir():
            raise UsageError(f"There is no directory {self._root} on this machine, or it may not be read.")
        return Probe(product="Allure results", version="directory", account=str(self._root), server_now=self._clock())

    def server_now(self) -> datetime:
        """This machine's clock."""
        return self._clock()

    def check_scope(self, scope: ScopeSpec) -> str:
        """The directory's own name.

        Raises:
            GoneError: it is not there, or is not within the connection's directory.
        """
        return self._folder(scope).resolve().name

    def oldest_update(self, scope: ScopeSpec, stream: str) -> datetime | None:
        """None: one look shows all."""
        del scope, stream
        return None

    def count(self, scope: ScopeSpec, stream: str, window: Window) -> int | None:
        """None: counting costs as much as reading."""
        del scope, stream, window
        return None

    def pages(self, scope: ScopeSpec, stream: str, window: Window, resume_token: str | None = None) -> Iterator[Page]:
        """The launches that are complete and have changed since; those that still grow come in a later window."""
        del stream, resume_token
        now = self._clock()
        items: list[Item] = []
        failures: list[tuple[str, str, bytes]] = []
        for name in self._names(scope):
            external_id = f"{scope.external_key}/{name}"
            try:
                launch = self._launch(scope, name)
            except (BadRecordError, GoneError) as error:
                failures.append((external_id, error.message, b""))
                continue
            is_new = window.since is None or launch.changed_at >= window.since
            if is_new and launch.is_results and launch.is_complete(self._watch, now):
                items.append(_shown(external_id, name, launch).item())
        yield Page(items=tuple(items), failures=tuple(failures))

    def listing(self, scope: ScopeSpec, stream: str) -> Iterator[tuple[str, ...]]:
        """The launches that can be read now."""
        for page in self.pages(scope, stream, Window()):
            yield tuple(item.external_id for item in page.items)

    def fetch(self, scope: ScopeSpec, stream: str, external_ids: tuple[str, ...]) -> Page:
        """Some of them; one that still grows is missing."""
        items = [item for page in self.pages(scope, stream, Window()) for item in page.items]
        return Page(items=tuple(item for item in items if item.external_id in external_ids))

    def bring(self, scope: ScopeSpec, external_id: str) -> Path | None:
        """Where the launch lies; None while it is written to.

        Raises:
            GoneError: it is there no longer.
            BadRecordError: a link is in it.
        """
        prefix, _, name = external_id.rpartition("/")
        if prefix != scope.external_key or name not in set(self._names(scope)):
            raise GoneError(f"The launch {external_id} is no longer in {self._root}.")
        launch = self._launch(scope, name)
        return launch.path if launch.is_complete(self._watch, self._clock()) else None

    def close(self) -> None:
        """Nothing is open."""

    def _folder(self, scope: ScopeSpec) -> Path:
        root = self._root.resolve()
        folder = (root / scope.external_key).resolve()
        if not folder.is_relative_to(root) or not folder.is_dir():
            raise GoneError(f"There is no directory {scope.external_key!r} within {self._root}.")
        return folder

    def _names(self, scope: ScopeSpec) -> list[str]:
        """Of what may be a launch, sorted."""
        with os.scandir(self._folder(scope)) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and (
                    entry.is_dir(follow_symlinks=False)
                    or (entry.is_file(follow_symlinks=False) and entry.name.endswith(ARCHIVE_SUFFIXES))
                )
            )

    def _launch(self, scope: ScopeSpec, name: str) -> Launch:
        try:
            return look_at(self._folder(scope) / name, self._watch)
        except OSError as error:
            raise GoneError(f"{scope.external_key}/{name} cannot be read: {error.strerror}.") from error


def watch_of(spec: ConnectionSpec) -> Watch:
    """When a launch counts as complete, from the connection's options.

    Raises:
        UsageError: an option makes no sense.
    """
    quiet_seconds = spec.options.get("quiet_seconds", QUIET_SECONDS)
    if not isinstance(quiet_seconds, int) or not 1 <= quiet_seconds <= LONGEST_QUIET_SECONDS:
        raise UsageError(f"quiet_seconds is {quiet_seconds!r}; give whole seconds from 1 to {LONGEST_QUIET_SECONDS}.")
    marker = spec.options.get("finish_marker")
    if marker is not None and (not isinstance(marker, str) or not marker or "/" in marker):
        raise UsageError(f"finish_marker is {marker!r}; give the name of a file.")
    return Watch(quiet_seconds=quiet_seconds, finish_marker=marker)


def look_at(path: Path, watch: Watch) -> Launch:
    """A folder or archive as it is now; no file is opened.

    Raises:
        OSError: it went away meanwhile.
        BadRecordError: a symbolic link is in it, or far too many files.
    """
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        return Launch(
            path=path,
            fingerprint=fingerprint([("archive", status.st_size, status.st_mtime_ns)]),
            changed_at=_moment(status),
            is_finished=False,
            is_results=True,
        )
    files: list[tuple[str, int]] = []
    changed_at = _moment(status)
    is_finished = is_results = False
    for relative_name, entry_status in _walk(path, path):
        changed_at = max(changed_at, _moment(entry_status))
        name = relative_name.rpartition("/")[2]
        if relative_name == watch.finish_marker:
            is_finished = True
        elif stat.S_ISREG(entry_status.st_mode) and not name.endswith(_UNFINISHED_SUFFIX) and name[:1] != ".":
            files.append((relative_name, entry_status.st_size))
            is_results = is_results or name.endswith(_RESULT_SUFFIX)
            if len(files) > FILES_COUNT:
                raise BadRecordError(f"{path.name} holds more than {FILES_COUNT} files; it was not read.")
    return Launch(
        path=path,
        fingerprint=fingerprint([("folder",), *sorted(files)]),
        changed_at=changed_at,
        is_finished=is_finished,
        is_results=is_results,
    )


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                raise BadRecordError(
                    f"{root.name} holds the symbolic link {path.relative_to(root)}; links are not followed, put the "
                    "file itself there."
                )
            yield str(path.relative_to(root)), entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, root)


def _moment(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_ctime, UTC)


def _shown(external_id: str, name: str, launch: Launch) -> ShownLaunch:
    title = next((name.removesuffix(each) for each in ARCHIVE_SUFFIXES if name.endswith(each)), name)
    return ShownLaunch(id=external_id, name=title, fingerprint=launch.fingerprint, updated_at=launch.changed_at)
