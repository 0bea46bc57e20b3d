"""A watched directory: which launches are complete, which have changed, and what is refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.allure.shown import parse
from connectors.allure.watched import WatchedDirectory
from connectors.base import ConnectionSpec, Page, ParseContext, ScopeSpec, Window
from models.errors import BadRecordError, GoneError, UsageError

RESULT = '{"uuid":"u1","name":"t","status":"passed","start":1710000000000,"stop":1710000000005}'
SCOPE = ScopeSpec(id=1, external_key="nightly")


class Directory:
    """A watched directory, and a clock that is moved by hand; the files' times are the system's."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.folder = root / "nightly"
        self.folder.mkdir(exist_ok=True)
        self.ahead = timedelta()
        spec = ConnectionSpec(id=1, kind="allure", name="ci", base_url=root.as_uri(), options=options)
        self.connector = WatchedDirectory(spec, clock=lambda: datetime.now(UTC) + self.ahead)

    def launch(self, name: str, *files: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for each in files or ("1-result.json",):
            (folder / each).write_text(RESULT)
        return folder

    def page(self, since: datetime | None = None) -> Page:
        [page] = self.connector.pages(SCOPE, "launches", Window(since=since))
        return page

    def shown(self) -> dict[str, str]:
        """Fingerprints by name."""
        records = (
            launch for item in self.page().items for launch in parse("launches", item.payload, ParseContext()).launches
        )
        return {launch.name: launch.fingerprint for launch in records}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_a_folder_that_was_just_written_to_waits_until_it_is_quiet(directory: Directory) -> None:
    directory.launch("run-1")
    assert directory.shown() == {}
    directory.ahead = timedelta(seconds=50)
    assert directory.shown() == {}
    directory.ahead = timedelta(seconds=61)
    assert list(directory.shown()) == ["run-1"]


def test_a_write_to_a_nested_file_makes_the_whole_launch_wait_again(directory: Directory) -> None:
    folder = directory.launch("run-1")
    (folder / "history").mkdir()
    directory.ahead = timedelta(seconds=61)
    assert directory.shown()
    changed_at = datetime.fromtimestamp((folder / "history").stat().st_ctime, UTC)
    (folder / "history" / "history.json").write_text("{}")
    directory.ahead = changed_at + timedelta(seconds=59) - datetime.now(UTC)
    assert directory.shown() == {}


def test_a_finish_marker_ends_the_wait(tmp_path: Path) -> None:
    directory = Directory(tmp_path, finish_marker=".finished")
    folder = directory.launch("run-1")
    assert directory.shown() == {}
    (folder / ".finished").touch()
    assert list(directory.shown()) == ["run-1"]


def test_a_folder_whose_files_times_were_set_back_is_still_new(directory: Directory) -> None:
    folder = directory.launch("run-1")
    os.utime(folder / "1-result.json", (1_000_000_000, 1_000_000_000))
    os.utime(folder, (1_000_000_000, 1_000_000_000))
    assert directory.shown() == {}
    directory.ahead = timedelta(seconds=61)
    assert [item.external_id for item in directory.page(since=datetime.now(UTC) - timedelta(hours=1)).items] == [
        "nightly/run-1"
    ]


def test_touching_copying_and_a_marker_change_no_fingerprint_and_growing_does(tmp_path: Path) -> None:
    directory = Directory(tmp_path, finish_marker="done")
    directory.ahead = timedelta(minutes=5)
    folder = directory.launch("run-1")
    before = directory.shown()
    os.utime(folder / "1-result.json")
    (folder / "done").touch()
    (folder / ".hidden").touch()
    (folder / "2-result.json.tmp").touch()
    assert directory.shown() == before
    (folder / "2-result.json").write_text(RESULT)
    grown = directory.shown()
    assert grown != before
    (folder / "2-result.json").write_text(RESULT + " ")
    assert directory.shown() != grown


def test_an_archive_is_a_launch_and_counts_as_another_when_it_is_written_again(directory: Directory) -> None:
    archive = directory.folder / "nightly.tar.gz"
    archive.write_bytes(b"12345")
    (directory.folder / "upload.zip.part").write_bytes(b"12345")
    (directory.folder / "readme.txt").write_text("no launch")
    directory.ahead = timedelta(seconds=61)
    before = directory.shown()
    assert list(before) == ["nightly"]
    os.utime(archive, ns=(1, 1))
    directory.ahead = timedelta(seconds=130)
    assert directory.shown()["nightly"] != before["nightly"]


def test_a_folder_without_results_is_no_launch(directory: Directory) -> None:
    directory.launch("logs", "output.txt")
    (directory.folder / "empty").mkdir()
    directory.ahead = timedelta(seconds=61)
    assert directory.shown() == {}


def test_what_changed_before_the_window_is_not_shown_again(directory: Directory) -> None:
    directory.launch("run-1")
    directory.ahead = timedelta(days=1)
    assert directory.page(since=datetime.now(UTC) + timedelta(hours=1)).items == ()


def test_links_lead_nowhere(directory: Directory, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "1-result.json").write_text(RESULT)
    directory.launch("good")
    (directory.folder / "linked").symlink_to(outside)
    (directory.folder / "linked.zip").symlink_to(outside / "1-result.json")
    bad = directory.launch("bad")
    (bad / "2-result.json").symlink_to(outside / "1-result.json")
    directory.ahead = timedelta(seconds=61)
    page = directory.page()
    assert [item.external_id for item in page.items] == ["nightly/good"]
    [(external_id, reason, _)] = page.failures
    assert external_id == "nightly/bad"
    assert "symbolic link 2-result.json" in reason
    with pytest.raises(BadRecordError):
        directory.connector.bring(SCOPE, "nightly/bad")
    with pytest.raises(GoneError):
        directory.connector.bring(SCOPE, "nightly/linked")


@pytest.mark.parametrize("key", ["..", "../..", "/etc", "nightly/../..", "out", "none"])
def test_a_scope_lies_within_the_directory(directory: Directory, key: str, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/")
    with pytest.raises(GoneError):
        directory.connector.check_scope(ScopeSpec(id=1, external_key=key))


@pytest.mark.parametrize("name", ["nightly/../run-1", "other/run-1", "nightly/..", "nightly/nothing", "run-1"])
def test_only_what_is_shown_can_be_brought(directory: Directory, name: str) -> None:
    directory.launch("run-1")
    directory.ahead = timedelta(seconds=61)
    assert directory.connector.bring(SCOPE, "nightly/run-1") == directory.folder / "run-1"
    with pytest.raises(GoneError):
        directory.connector.bring(SCOPE, name)


def test_a_launch_that_is_written_to_again_is_not_brought(directory: Directory) -> None:
    directory.launch("run-1")
    assert directory.connector.bring(SCOPE, "nightly/run-1") is None


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("file://server/share", {}),
        ("file:relative", {}),
        ("file:///x", {"quiet_seconds": 0}),
        ("file:///x", {"quiet_seconds": 100_000}),
        ("file:///x", {"quiet_seconds": "soon"}),
        ("file:///x", {"finish_marker": "../done"}),
        ("file:///x", {"finish_marker": ""}),
    ],
)
def test_what_makes_no_sense_is_said_at_once(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        WatchedDirectory(ConnectionSpec(id=1, kind="allure", name="ci", base_url=url, options=options))
