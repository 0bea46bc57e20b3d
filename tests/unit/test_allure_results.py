"""A folder of results: which attempt is the last, what is set aside, what is one report."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.allure import files
from connectors.allure.fixtures import LARGEST_UNNAMED_CONTAINER_BYTES
from connectors.allure.results import AttemptBatch, open_results
from models import records
from models.errors import NotAllureResultsError, UsageError

NOON_MS = 1_710_000_000_000


def write(folder: Path, name: str, /, **fields: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def write_result(folder: Path, name: str, /, **fields: Any) -> Path:
    return write(folder, f"{name}-result.json", **{"uuid": f"uuid-{name}", "name": "t", "status": "passed", **fields})


def batches(folder: Path, batch_size: int = 1000) -> list[AttemptBatch]:
    with open_results(folder, work_folder=folder.parent / "work") as results:
        return list(results.attempts(batch_size))


def attempts(folder: Path) -> list[records.TestAttempt]:
    return [attempt for batch in batches(folder) for attempt in batch.attempts]


def rejects(folder: Path) -> dict[str, str]:
    return {name: reason for batch in batches(folder) for name, reason, _ in batch.rejects}


def report(folder: Path, **options: Any) -> records.TestReport:
    with open_results(folder, work_folder=folder.parent / "work") as results:
        return results.report(**{"name": "r", **options})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "allure-results"
    path.mkdir()
    return path


def test_a_folder_is_used_in_place(folder: Path) -> None:
    write_result(folder, "1")
    before = sorted(folder.iterdir())
    assert len(attempts(folder)) == 1
    assert sorted(folder.iterdir()) == before
    assert not (folder.parent / "work").exists()


def test_only_the_last_attempt_of_a_test_is_no_retry(folder: Path) -> None:
    write_result(folder, "1", fullName="m#a", start=NOON_MS + 5, status="passed")
    write_result(folder, "2", fullName="m#a", start=NOON_MS, status="failed")
    write_result(folder, "3", fullName="m#a", start=NOON_MS + 9, status="broken")
    write_result(folder, "4", fullName="m#b", start=NOON_MS)
    assert [(found.result_uuid, found.is_retry) for found in attempts(folder)] == [
        ("uuid-1", True),
        ("uuid-2", True),
        ("uuid-3", False),
        ("uuid-4", False),
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {"start": NOON_MS}),
        ({"start": "nonsense", "stop": NOON_MS + 99}, {"start": NOON_MS}),
        ({"start": NOON_MS}, {"start": NOON_MS + 1}),
        ({"start": NOON_MS}, {"start": NOON_MS, "stop": NOON_MS}),
        ({"start": NOON_MS, "stop": NOON_MS + 1}, {"start": NOON_MS, "stop": NOON_MS + 2}),
        ({"start": NOON_MS // 1000}, {"start": NOON_MS + 1}),
        ({"stop": NOON_MS}, {"stop": NOON_MS + 1}),
    ],
)
@pytest.mark.parametrize("later_name_first", [False, True])
def test_the_last_attempt_is_the_last_to_start_then_to_stop(
    folder: Path, earlier: dict[str, Any], later: dict[str, Any], later_name_first: bool
) -> None:
    write_result(folder, "2" if later_name_first else "1", fullName="m#a", status="failed", **earlier)
    write_result(folder, "1" if later_name_first else "2", fullName="m#a", status="passed", **later)
    assert {found.status: found.is_retry for found in attempts(folder)} == {"failed": True, "passed": False}


def test_attempts_of_equal_times_go_by_their_file_names(folder: Path) -> None:
    for name in "2", "1", "3":
        write_result(folder, name, fullName="m#a", start=NOON_MS, stop=NOON_MS)
    assert [found.is_retry for found in attempts(folder)] == [True, True, False]


def test_parameters_make_tests_of_their_own(folder: Path) -> None:
    for name, value in ("1", "x"), ("2", "y"):
        write_result(folder, name, fullName="m#a", parameters=[{"name": "p", "value": value}])
    assert [found.is_retry for found in attempts(folder)] == [False, False]


def test_a_doubled_uuid_is_made_unique_and_a_missing_one_is_the_file_name(folder: Path) -> None:
    write_result(folder, "1", uuid="same", name="a")
    write_result(folder, "2", uuid="same", name="b")
    write_result(folder, "3", uuid=None, name="c")
    write_result(folder, "4", uuid="3", name="d")
    found = {attempt.name: attempt.result_uuid for attempt in attempts(folder)}
    assert found["a"] == "same"
    assert found["b"].startswith("same-")
    assert found["c"] == "3"
    assert found["d"].startswith("3-")


def test_a_copy_of_a_result_is_counted_once_and_said(folder: Path) -> None:
    original = write_result(folder, "1", uuid="same")
    (folder / "copy of 1-result.json").write_bytes(original.read_bytes())
    assert [found.result_uuid for found in attempts(folder)] == ["same"]
    assert rejects(folder) == {"copy of 1-result.json": "It is a copy of 1-result.json, which is counted."}
    assert report(folder).rejected_count == 1


def test_equal_results_without_uuids_are_attempts_of_their_own(folder: Path) -> None:
    for name in "1", "2":
        write_result(folder, name, uuid=None)
    assert [(found.result_uuid, found.is_retry) for found in attempts(folder)] == [("1", True), ("2", False)]


def test_each_unreadable_file_is_one_reject_and_the_rest_is_read(folder: Path) -> None:
    write_result(folder, "1")
    (folder / "2-result.json").write_bytes(b'{"name":"t","sta')
    (folder / "3-result.json").write_bytes(b"")
    (folder / "4-result.json").write_bytes(b"[]")
    (folder / "5-container.json").write_bytes(b'{"children":')
    (folder / "executor.json").write_bytes(b"{")
    (folder / "environment.xml").write_bytes(b"<")
    found = rejects(folder)
    assert sorted(found) == [
        "2-result.json",
        "3-result.json",
        "4-result.json",
        "5-container.json",
        "environment.xml",
        "executor.json",
    ]
    assert all(found.values())
    assert len(attempts(folder)) == 1
    described = report(folder)
    assert (described.files_count, described.rejected_count) == (4, 6)


def test_a_reject_shows_how_the_file_begins(folder: Path) -> None:
    content = b'{"name":"' + b"x" * 200_000
    (folder / "1-result.json").write_bytes(content)
    [batch] = batches(folder)
    assert batch.rejects[0][2] == content[: files.BEGINNING_BYTES]


def test_a_folder_of_nothing_but_bad_results_is_a_report_of_rejects(folder: Path) -> None:
    (folder / "1-result.json").write_bytes(b"")
    assert attempts(folder) == []
    assert (report(folder).files_count, report(folder).rejected_count) == (1, 1)


def test_a_file_that_is_too_large_is_set_aside_unread(folder: Path) -> None:
    path = folder / "1-result.json"
    with path.open("wb") as file:
        file.write(b'{"name":"t"')
        file.truncate(files.LARGEST_FILE_BYTES + 1)
    assert rejects(folder) == {"1-result.json": f"It is larger than {files.LARGEST_FILE_BYTES} bytes."}
    first = report(folder).content_hash
    with path.open("r+b") as file:
        file.seek(files.LARGEST_FILE_BYTES)
        file.write(b"x")
    assert report(folder).content_hash != first


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that even root cannot read")
def test_a_file_that_cannot_be_read_is_one_reject(folder: Path) -> None:
    write_result(folder, "1")
    (folder / "2-result.json").symlink_to("/proc/self/mem")
    write_result(folder, "3")
    assert len(attempts(folder)) == 2
    assert rejects(folder) == {"2-result.json": "It cannot be read: Input/output error."}


def test_what_is_not_written_to_the_end_is_left_alone(folder: Path) -> None:
    write_result(folder, "1")
    (folder / "2-result.json.tmp").write_bytes(b'{"name":')
    (folder / ".3-result.json").write_bytes(b"\0")
    (folder / "4-result.json").mkdir()
    assert (report(folder).files_count, report(folder).rejected_count) == (1, 0)


def test_a_result_that_changes_meanwhile_is_set_aside(folder: Path) -> None:
    write_result(folder, "1", name="a")
    changing, vanishing = write_result(folder, "2", name="b"), write_result(folder, "3", name="c")
    with open_results(folder, work_folder=folder) as results:
        results.report(name="r")
        write_result(folder, "2", name="b", status="failed")
        vanishing.unlink()
        [batch] = results.attempts()
    assert [found.name for found in batch.attempts] == ["a"]
    assert [(name, "changed" in reason) for name, reason, _ in batch.rejects] == [
        (changing.name, True),
        (vanishing.name, True),
    ]


def test_a_json_attachment_that_looks_like_a_result_is_none(folder: Path) -> None:
    write_result(folder, "1")
    write(folder, "answer.json", uuid="u", name="t", status="passed")
    write(folder, "2-attachment.json", uuid="u", name="t", status="passed")
    assert len(attempts(folder)) == 1


def broken_before(message: str = "no database") -> list[dict[str, Any]]:
    return [
        {"name": "ok", "status": "passed"},
        {"name": "db", "status": "broken", "statusDetails": {"message": message}},
    ]


@pytest.mark.parametrize("name", ["1-container.json", "any-name.json"])
def test_a_broken_fixture_speaks_for_its_children(folder: Path, name: str) -> None:
    write_result(folder, "1", name="a", status="broken")
    write_result(folder, "2", name="b", status="broken")
    write(folder, name, uuid="c", children=["uuid-1"], befores=broken_before())
    assert {found.name: found.status_message for found in attempts(folder)} == {"a": "no database", "b": None}


def test_a_broken_fixture_of_a_suite_reaches_the_tests_of_its_containers(folder: Path) -> None:
    write_result(folder, "1", status="skipped")
    write(folder, "3-container.json", uuid="suite", children=["tests"], befores=broken_before())
    write(folder, "1-container.json", uuid="tests", children=["methods"], befores=[])
    write(folder, "2-container.json", uuid="methods", children=["uuid-1"], befores=[])
    assert [found.status_message for found in attempts(folder)] == ["no database"]


def test_containers_that_hold_each_other_do_no_harm(folder: Path) -> None:
    write_result(folder, "1", status="skipped")
    write(folder, "1-container.json", uuid="a", children=["b"], befores=broken_before())
    write(folder, "2-container.json", uuid="b", children=["a", "uuid-1"], befores=[])
    assert [found.status_message for found in attempts(folder)] == ["no database"]


def test_a_broken_fixture_after_the_test_is_not_its_message(folder: Path) -> None:
    write_result(folder, "1", status="broken")
    write(folder, "1-container.json", uuid="c", children=["uuid-1"], afters=broken_before())
    assert [found.status_message for found in attempts(folder)] == [None]


def test_a_large_attachment_is_not_looked_into_for_fixtures(folder: Path) -> None:
    write_result(folder, "1", status="broken")
    write(
        folder,
        "large.json",
        uuid="c",
        children=["uuid-1"],
        befores=broken_before(),
        padding="x" * LARGEST_UNNAMED_CONTAINER_BYTES,
    )
    assert [found.status_message for found in attempts(folder)] == [None]


def test_sizes_of_attachments_are_read_from_the_folder(folder: Path) -> None:
    (folder / "1-attachment.txt").write_bytes(b"hello")
    (folder / "a-folder").mkdir()
    sources = ["1-attachment.txt", "gone.txt", "a-folder"]
    write_result(folder, "1", attachments=[{"name": source, "source": source} for source in sources])
    [found] = attempts(folder)
    assert [shown.get("size_bytes") for shown in found.attachments] == ["5", None, None]


def test_a_report_says_what_its_folder_says(folder: Path) -> None:
    write_result(folder, "1", start=NOON_MS + 10, stop=NOON_MS + 20)
    write_result(folder, "2", start=NOON_MS, stop=NOON_MS + 5)
    write_result(folder, "3", start=5, stop=0)
    write(folder, "executor.json", type="github", buildName="b-1", buildUrl="https://ci/1", buildOrder="7")
    (folder / "environment.xml").write_text(
        "<environment><parameter><key>os</key><value>xml</value></parameter>"
        "<parameter><key>only</key><value>xml</value></parameter></environment>",
        encoding="utf-8",
    )
    (folder / "environment.properties").write_text("os=properties\n", encoding="utf-8")
    found = report(folder, name="Nightly", commit_sha="abc", branch="main")
    assert (found.name, found.commit_sha, found.branch) == ("Nightly", "abc", "main")
    assert (found.build_name, found.build_url, found.build_order) == ("b-1", "https://ci/1", 7)
    assert found.executor_type == "github"
    assert found.environment == {"os": "properties", "only": "xml"}
    assert (found.files_count, found.rejected_count) == (3, 0)
    assert found.started_at is not None
    assert found.stopped_at is not None
    assert (found.stopped_at - found.started_at).total_seconds() == 0.02
    overridden = report(folder, build_name="mine", ci_url="https://mine")
    assert (overridden.build_name, overridden.build_url) == ("mine", "https://mine")


def test_a_report_whose_tests_have_no_times_has_none(folder: Path) -> None:
    write_result(folder, "1")
    found = report(folder)
    assert (found.started_at, found.stopped_at, found.environment, found.build_order) == (None, None, {}, None)


def test_the_content_hash_is_of_names_and_contents_of_the_results_alone(folder: Path) -> None:
    one, two = write_result(folder, "1"), write_result(folder, "2", name="u")
    expected = hashlib.sha256()
    for path in one, two:
        expected.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    assert report(folder).content_hash == expected.hexdigest()
    write(folder, "executor.json", type="github")
    write(folder, "1-container.json", uuid="c")
    (folder / "1-attachment.txt").write_bytes(b"x")
    assert report(folder).content_hash == expected.hexdigest()
    write_result(folder, "2", name="u", status="failed")
    assert report(folder).content_hash != expected.hexdigest()


def test_a_renamed_result_is_another_report(folder: Path) -> None:
    path = write_result(folder, "1")
    first = report(folder).content_hash
    path.rename(folder / "2-result.json")
    assert report(folder).content_hash != first


def test_batches_hold_no_more_than_asked_and_lose_nothing(folder: Path) -> None:
    for index in range(25):
        write_result(folder, f"{index:02}", name=f"t{index}")
    (folder / "99-result.json").write_bytes(b"")
    found = batches(folder, batch_size=10)
    assert [len(batch.attempts) + len(batch.rejects) for batch in found] == [10, 10, 6]
    assert [attempt.name for batch in found for attempt in batch.attempts] == [f"t{index}" for index in range(25)]


def test_large_results_make_shorter_batches(folder: Path) -> None:
    for index in range(5):
        write_result(folder, str(index), description="x" * 6_000_000)
    assert [len(batch.attempts) for batch in batches(folder)] == [3, 2]


def test_attempts_may_be_read_again(folder: Path) -> None:
    for name in "1", "2":
        write_result(folder, name)
    with open_results(folder, work_folder=folder) as results:
        assert list(results.attempts()) == list(results.attempts())


TIMES = st.none() | st.sampled_from([NOON_MS, NOON_MS + 1, NOON_MS + 2, NOON_MS // 1000, 0])
RESULTS = st.fixed_dictionaries(
    {
        "uuid": st.sampled_from([None, "u1", "u2", "u3"]),
        "fullName": st.sampled_from(["m#a", "m#b", None]),
        "name": st.sampled_from(["a", "b"]),
        "status": st.sampled_from(["passed", "failed", "odd"]),
        "start": TIMES,
        "stop": TIMES,
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RESULTS | st.just("not JSON"), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_in_which_files_arrive_changes_nothing(results: list[Any], shuffle: random.Random) -> None:
    named = [(f"{index}-result.json", json.dumps(result)) for index, result in enumerate(results)]
    named.append(("c-container.json", json.dumps({"children": ["u1", "u2"], "befores": broken_before("one")})))
    named.append(("d-container.json", json.dumps({"children": ["u2", "u3"], "befores": broken_before("two")})))
    outcomes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "allure-results"
            folder.mkdir()
            for name, content in named:
                (folder / name).write_text(content, encoding="utf-8")
            outcomes.append((report(folder), batches(folder, batch_size=3)))
        shuffle.shuffle(named)
    assert outcomes[0] == outcomes[1]

    [(described, found)] = outcomes[:1]
    attempts_found = [attempt for batch in found for attempt in batch.attempts]
    rejects_found = [reject for batch in found for reject in batch.rejects]
    assert described.files_count == len(results) == len(attempts_found) + len(rejects_found)
    assert described.rejected_count == len(rejects_found)
    assert len({attempt.result_uuid for attempt in attempts_found}) == len(attempts_found)
    last_attempts = [attempt.test_key for attempt in attempts_found if not attempt.is_retry]
    assert sorted(last_attempts) == sorted({attempt.test_key for attempt in attempts_found})


@pytest.mark.parametrize("given_part", [".", "data", "data/test-cases", "widgets"])
def test_a_generated_report_is_told_apart_wherever_it_is_entered(tmp_path: Path, given_part: str) -> None:
    (tmp_path / "data" / "test-cases").mkdir(parents=True)
    (tmp_path / "widgets").mkdir()
    write(tmp_path / "data" / "test-cases", "3041f0594ec46b0b.json", uid="3041f0594ec46b0b", name="t", status="passed")
    write(tmp_path / "widgets", "summary.json", statistic={})
    with pytest.raises(NotAllureResultsError, match=r"is a generated report; pass allure-results"):
        report(tmp_path / given_part)


def test_a_report_of_allure_3_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "widgets").mkdir()
    write(tmp_path / "widgets", "statistic.json", total=1)
    with pytest.raises(NotAllureResultsError, match="generated report"):
        report(tmp_path)


def test_a_project_with_folders_of_those_names_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "widgets").mkdir()
    with pytest.raises(NotAllureResultsError, match=r"no file is named \*-result\.json"):
        report(tmp_path)


def test_a_pipe_is_a_wrong_call(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        report(tmp_path / "pipe")


def test_a_description_of_the_launch_without_end_is_one_reject(folder: Path) -> None:
    write_result(folder, "1")
    (folder / "environment.properties").write_bytes(b"a=b\n" * 300_000)
    assert rejects(folder) == {"environment.properties": "It is larger than 1048576 bytes."}
    assert report(folder).environment == {}


def test_an_empty_folder_says_what_to_pass(folder: Path) -> None:
    with pytest.raises(NotAllureResultsError, match="usually allure-results"):
        report(folder)
