"""Archives from outside: what is unpacked, what is refused, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.allure.archives import DEFAULT_LIMITS, ArchiveLimits
from connectors.allure.results import open_results
from models.errors import NotAllureResultsError, UnsafeArchiveError, UsageError

RESULT = b'{"uuid":"u1","name":"t","status":"passed","start":1710000000000,"stop":1710000000005}'
RESULTS = {"1-result.json": RESULT, "1-attachment.txt": b"hello"}
SMALL = ArchiveLimits(
    archive_bytes=1_000_000,
    entries_count=20,
    entry_bytes=100_000,
    total_bytes=200_000,
    ratio=50,
    ratio_free_bytes=50_000,
)

Entries = Iterable[tuple[str, bytes]]


def zip_of(entries: Entries, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)  # doubled names are what some tests are about
        for name, content in entries:
            archive.writestr(_info(name), content, method)
    return buffer.getvalue()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name  # the constructor would change a backslash or a NUL
    info.external_attr = 0o644 << 16
    return info


def tar_of(entries: Entries) -> bytes:
    return tar_of_members((_member(name, len(content)), content) for name, content in entries)


def tar_of_members(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def tar_gz_of(entries: Entries) -> bytes:
    return gzip.compress(tar_of(entries))


MAKERS: dict[str, Callable[[Entries], bytes]] = {"x.zip": zip_of, "x.tar": tar_of, "x.tar.gz": tar_gz_of}
every_kind = pytest.mark.parametrize("kind", MAKERS)


class Inbox:
    """An archive that arrived, and the folder that it is unpacked in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.work_folder = folder / "work"

    def names(self, content: bytes, *, name: str = "x.zip", limits: ArchiveLimits = DEFAULT_LIMITS) -> list[str]:
        """The tests that are read from an archive."""
        path = self._folder / name
        path.write_bytes(content)
        try:
            with open_results(path, work_folder=self.work_folder, limits=limits) as results:
                return [attempt.name for batch in results.attempts() for attempt in batch.attempts]
        finally:
            assert list(self.work_folder.glob("*")) == []


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path)


@every_kind
@pytest.mark.parametrize("prefix", ["", "./", "allure-results/", "builds/17/allure-results/"])
def test_results_are_found_at_any_depth(inbox: Inbox, kind: str, prefix: str) -> None:
    content = MAKERS[kind]([("readme.txt", b"hi"), *((prefix + name, content) for name, content in RESULTS.items())])
    assert inbox.names(content, name=kind) == ["t"]


def test_an_archive_is_known_by_its_bytes_not_by_its_name(inbox: Inbox) -> None:
    for make in MAKERS.values():
        assert inbox.names(make(RESULTS.items()), name="upload.bin") == ["t"]


@every_kind
def test_the_folder_and_its_archives_are_one_report(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "allure-results"
    folder.mkdir()
    for name, content in RESULTS.items():
        (folder / name).write_bytes(content)
    archive = tmp_path / kind
    archive.write_bytes(MAKERS[kind](reversed(RESULTS.items())))
    with open_results(folder, work_folder=tmp_path / "work") as results:
        expected = results.report(name="r"), list(results.attempts())
    with open_results(archive, work_folder=tmp_path / "work") as results:
        assert (results.report(name="r"), list(results.attempts())) == expected


def test_the_files_that_macos_adds_are_no_results(inbox: Inbox) -> None:
    junk = [("__MACOSX/allure-results/._1-result.json", b"\0\5\26\7"), ("allure-results/._1-result.json", b"\0\5\26\7")]
    assert inbox.names(zip_of([*junk, ("allure-results/1-result.json", RESULT)])) == ["t"]


@every_kind
def test_a_nested_archive_is_not_unpacked(inbox: Inbox, kind: str) -> None:
    nested = MAKERS[kind]([("2-result.json", RESULT.replace(b'"t"', b'"nested"'))])
    assert inbox.names(MAKERS[kind]([*RESULTS.items(), (f"in-{kind}", nested)]), name=kind) == ["t"]
    with pytest.raises(NotAllureResultsError, match="no file is named"):
        inbox.names(MAKERS[kind]([(f"in-{kind}", nested)]), name=kind)


BAD_NAMES = {
    "/etc/cron.d/x": "absolute",
    "../x-result.json": "leads out",
    "a/../../x": "leads out",
    "a/..": "leads out",
    "C:/x": "drive letter",
    "c:x": "drive letter",
    "..\\x": "backslash",
    "a\\b": "backslash",
    "n" * 256: "too long",
    "a/" * 40 + "x": "too long",
}


@every_kind
@pytest.mark.parametrize("bad_name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(inbox: Inbox, tmp_path: Path, kind: str, bad_name: str) -> None:
    with pytest.raises(UnsafeArchiveError, match=BAD_NAMES[bad_name]):
        inbox.names(MAKERS[kind]([*RESULTS.items(), (bad_name, b"x")]), name=kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kind, "work"])


@pytest.mark.parametrize("no_name", ["", ".", "./."])
def test_an_entry_without_a_name_is_refused(inbox: Inbox, no_name: str) -> None:
    with pytest.raises(UnsafeArchiveError, match="without a name"):
        inbox.names(zip_of([*RESULTS.items(), (no_name, b"x")]))


def test_a_nul_in_a_name_is_refused(inbox: Inbox) -> None:
    with pytest.raises(UnsafeArchiveError, match="NUL"):
        inbox.names(zip_of([("1-result.json\0.txt", RESULT)]))


@every_kind
@pytest.mark.parametrize(
    "entries",
    [
        [("1-result.json", RESULT), ("1-result.json", b"{}")],
        [("1-result.json", RESULT), ("./1-result.json", b"{}")],
        [("1-result.json", RESULT), ("a", b""), ("a/b", b"")],
        [("1-result.json", RESULT), ("a/b", b""), ("a", b"")],
    ],
)
def test_a_name_that_stands_twice_is_refused(inbox: Inbox, kind: str, entries: list[tuple[str, bytes]]) -> None:
    with pytest.raises(UnsafeArchiveError, match="twice"):
        inbox.names(MAKERS[kind](entries), name=kind)


@pytest.mark.parametrize("file_type", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_zip_with_a_link_or_device_is_refused(inbox: Inbox, file_type: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1-result.json", RESULT)
        info = zipfile.ZipInfo("2-result.json")
        info.external_attr = (file_type | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="no plain file"):
        inbox.names(buffer.getvalue())


@pytest.mark.parametrize(
    "member",
    [
        _member("2-result.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        _member("2-result.json", type=tarfile.LNKTYPE, linkname="1-result.json"),
        _member("2-result.json", type=tarfile.FIFOTYPE),
        _member("2-result.json", type=tarfile.CHRTYPE),
        _member("2-result.json", type=tarfile.BLKTYPE),
    ],
    ids=["symbolic link", "hard link", "fifo", "character device", "block device"],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_with_a_link_or_device_is_refused(
    inbox: Inbox, member: tarfile.TarInfo, compress: Callable[[bytes], bytes]
) -> None:
    content = tar_of_members([(_member("1-result.json", len(RESULT)), RESULT), (member, b"")])
    with pytest.raises(UnsafeArchiveError, match="no plain file"):
        inbox.names(compress(content), name="x.tar")


def test_a_sparse_file_is_refused(inbox: Inbox) -> None:
    with pytest.raises(UnsafeArchiveError, match="no plain file"):
        inbox.names(_tar_header(b"1-result.json", b"0", b"S") + bytes(1024), name="x.tar")


def test_an_encrypted_zip_is_refused(inbox: Inbox) -> None:
    content = bytearray(zip_of(RESULTS.items()))
    for signature, flags_offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags_offset] |= 1
    with pytest.raises(UnsafeArchiveError, match="encrypted"):
        inbox.names(bytes(content))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_chooses_its_own_memory_is_refused(inbox: Inbox, method: int) -> None:
    with pytest.raises(UnsafeArchiveError, match="compressed in another way"):
        inbox.names(zip_of(RESULTS.items(), method=method))


@every_kind
def test_more_entries_than_allowed_are_refused(inbox: Inbox, kind: str) -> None:
    entries = [("1-result.json", RESULT), *((f"{index}.txt", b"") for index in range(SMALL.entries_count - 1))]
    assert inbox.names(MAKERS[kind](entries), name=kind, limits=SMALL) == ["t"]
    with pytest.raises(UnsafeArchiveError, match="more than 20 entries"):
        inbox.names(MAKERS[kind]([*entries, ("one-more", b"")]), name=kind, limits=SMALL)


def test_empty_folders_count_as_entries(inbox: Inbox) -> None:
    content = tar_of_members((_member(f"folder-{index}", type=tarfile.DIRTYPE), b"") for index in range(21))
    with pytest.raises(UnsafeArchiveError, match="more than 20 entries"):
        inbox.names(content, name="x.tar", limits=SMALL)


def test_a_zip_directory_is_counted_before_its_entries_are_made(inbox: Inbox) -> None:
    # A million entries of 50 bytes each would be half a gigabyte of objects.
    content = zip_of((f"{index}", b"") for index in range(30_000))
    limits = ArchiveLimits(entries_count=20_000)
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeArchiveError, match="more than 20000 entries"):
            inbox.names(content, limits=limits)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * len(content)


@every_kind
def test_a_small_archive_of_much_is_refused(inbox: Inbox, kind: str) -> None:
    entries = [*RESULTS.items(), ("zeros", bytes(90_000))]
    content = MAKERS[kind](entries)
    if kind == "x.tar":
        assert inbox.names(content, name=kind, limits=SMALL) == ["t"]
    else:
        with pytest.raises(UnsafeArchiveError, match="more than 50 times its size"):
            inbox.names(content, name=kind, limits=SMALL)


@every_kind
def test_too_many_bytes_in_one_entry_are_refused(inbox: Inbox, kind: str) -> None:
    content = MAKERS[kind]([*RESULTS.items(), ("video", _noise(100_001))])
    with pytest.raises(UnsafeArchiveError, match=r"entry of more than 100000 bytes \('video'\)"):
        inbox.names(content, name=kind, limits=SMALL)
    assert inbox.names(MAKERS[kind]([*RESULTS.items(), ("video", _noise(100_000))]), name=kind, limits=SMALL) == ["t"]


@every_kind
def test_too_many_bytes_in_all_are_refused(inbox: Inbox, kind: str) -> None:
    content = MAKERS[kind]([*RESULTS.items(), *((f"video-{index}", _noise(80_000)) for index in range(3))])
    with pytest.raises(UnsafeArchiveError, match="more than 200000 bytes"):
        inbox.names(content, name=kind, limits=SMALL)


def _noise(size: int) -> bytes:
    # Bytes that do not compress, the same each time.
    state, noise = 1, bytearray()
    while len(noise) < size:
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        noise += state.to_bytes(8, "big")[:4]
    return bytes(noise[:size])


def test_a_large_archive_is_refused_unread(inbox: Inbox) -> None:
    with pytest.raises(UnsafeArchiveError, match="larger than 50 bytes"):
        inbox.names(zip_of(RESULTS.items()), limits=ArchiveLimits(archive_bytes=50))


def test_a_header_that_says_less_than_there_is_does_not_get_more_read(inbox: Inbox) -> None:
    content = bytearray(zip_of([("1-result.json", bytes(90_000))]))
    for signature, size_offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = content.index(signature) + size_offset
        content[start : start + 4] = struct.pack("<L", 10)
    with pytest.raises(NotAllureResultsError, match="damaged"):
        inbox.names(bytes(content))


def _tar_header(name: bytes, size_field: bytes, type_flag: bytes) -> bytes:
    header = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size_field.rjust(12, b"0")[:12])
    header += b"00000000000\0" + b" " * 8 + type_flag + bytes(100) + b"ustar\x0000" + bytes(247)
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("type_flag", [b"x", b"g", b"L", b"K"])
def test_a_header_of_gigabytes_is_refused_before_it_is_read(inbox: Inbox, type_flag: bytes) -> None:
    content = gzip.compress(_tar_header(b"x", b"%011o\0" % (4 * 1024**3), type_flag) + bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeArchiveError, match="header of more than"):
            inbox.names(content, name="x.tar.gz")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize("type_flag", [b"0", b"x", b"L", b"5"])
def test_a_negative_size_does_not_go_round_in_circles(inbox: Inbox, type_flag: bytes) -> None:
    minus_512 = b"\xff" * 10 + b"\xfe\x00"
    content = _tar_header(b"1-result.json", minus_512, type_flag) + RESULT.ljust(512, b"\0") + bytes(1024)
    with pytest.raises((UnsafeArchiveError, NotAllureResultsError)):
        inbox.names(content, name="x.tar")


def test_headers_without_end_are_refused(inbox: Inbox) -> None:
    content = (_tar_header(b"x", b"%011o\0" % 4, b"L") + b"name".ljust(512, b"\0")) * 3000
    with pytest.raises(UnsafeArchiveError, match="chains its headers"):
        inbox.names(content, name="x.tar")


@every_kind
def test_an_archive_that_is_cut_short_is_damaged_wherever_it_is_cut(inbox: Inbox, kind: str) -> None:
    whole = MAKERS[kind]([*RESULTS.items(), ("2-result.json", RESULT.replace(b"u1", b"u2"))])
    # The zero blocks that end a tar are many more than are needed.
    end = 3 * 1024 if kind == "x.tar" else len(whole)
    for length in range(520, end, max(1, end // 97)):
        with pytest.raises(NotAllureResultsError):
            inbox.names(whole[:length], name=kind)


def test_a_tar_with_a_broken_header_in_the_middle_is_damaged_not_short(inbox: Inbox) -> None:
    content = bytearray(tar_of([("1-result.json", RESULT), ("2-result.json", RESULT), ("3-result.json", RESULT)]))
    content[1024 + 150] ^= 0xFF
    with pytest.raises(NotAllureResultsError, match="damaged"):
        inbox.names(bytes(content), name="x.tar")


def test_the_checksum_of_a_tar_gz_is_checked(inbox: Inbox) -> None:
    content = bytearray(tar_gz_of(RESULTS.items()))
    content[-8] ^= 0xFF
    with pytest.raises(NotAllureResultsError, match="damaged"):
        inbox.names(bytes(content), name="x.tar.gz")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(MAKERS)), st.data())
def test_whatever_is_done_to_an_archive_ends_in_one_clear_sentence(
    inbox: Inbox, kind: str, data: st.DataObject
) -> None:
    content = bytearray(MAKERS[kind]([*RESULTS.items(), ("2-result.json", RESULT)]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    sentence = "One."
    try:
        assert len(inbox.names(bytes(content), name=kind, limits=SMALL)) <= 2
    except (NotAllureResultsError, UnsafeArchiveError) as error:
        sentence = error.message
    assert sentence.endswith(".")
    assert sentence.isprintable()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600), st.sampled_from([b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b""]))
def test_any_bytes_end_in_one_clear_sentence(inbox: Inbox, content: bytes, start: bytes) -> None:
    with pytest.raises((NotAllureResultsError, UnsafeArchiveError)):
        inbox.names(start + content)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK", zlib.compress(b"x"), b"\x42\x5a\x68bzip2", RESULT])
def test_a_file_that_is_no_archive_is_told_what_to_pass(inbox: Inbox, content: bytes) -> None:
    with pytest.raises(NotAllureResultsError, match=r"x\.html is neither a folder nor a zip, tar or tar\.gz archive"):
        inbox.names(content, name="x.html")


@every_kind
def test_an_archive_without_results_says_so(inbox: Inbox, kind: str) -> None:
    with pytest.raises(NotAllureResultsError, match=f"no Allure results in {kind}: no file is named"):
        inbox.names(MAKERS[kind]([("readme.txt", b"hi")]), name=kind)


@every_kind
def test_an_archive_of_a_generated_report_is_told_apart(inbox: Inbox, kind: str) -> None:
    report = [("report/data/test-cases/1.json", RESULT), ("report/widgets/summary.json", b"{}")]
    with pytest.raises(NotAllureResultsError, match=r"generated report; pass allure-results"):
        inbox.names(MAKERS[kind](report), name=kind)


def test_results_in_two_folders_are_not_mixed(inbox: Inbox) -> None:
    content = zip_of([("shard-1/1-result.json", RESULT), ("shard-2/1-result.json", RESULT)])
    with pytest.raises(NotAllureResultsError, match=r"results in 2 folders .*shard-1, shard-2"):
        inbox.names(content)


def test_a_path_that_does_not_exist_is_a_wrong_call(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"There is no file or folder .*missing\.zip"),
        open_results(tmp_path / "missing.zip", work_folder=tmp_path),
    ):
        pass


@every_kind
def test_nothing_is_left_behind_when_the_reader_fails(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / kind
    archive.write_bytes(MAKERS[kind](RESULTS.items()))
    with contextlib.suppress(ZeroDivisionError), open_results(archive, work_folder=tmp_path / "work"):
        assert len(list((tmp_path / "work").iterdir())) == 1
        raise ZeroDivisionError
    assert list((tmp_path / "work").iterdir()) == []
