"""Folders of results as other people's systems, and a real pytest, wrote them: in, and what comes out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.allure.results import ResultsFolder, open_results
from models import records
from models.errors import NotAllureResultsError

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT.parent / "shared" / "samples" / "allure"

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples/allure is not here")


@contextmanager
def opened(path: Path, tmp_path: Path) -> Iterator[ResultsFolder]:
    with open_results(path, work_folder=tmp_path / "work") as results:
        yield results


def read(path: Path, tmp_path: Path) -> tuple[records.TestReport, list[records.TestAttempt]]:
    with opened(path, tmp_path) as results:
        batches = list(results.attempts())
        assert [reject for batch in batches for reject in batch.rejects] == []
        return results.report(name="r"), [attempt for batch in batches for attempt in batch.attempts]


@needs_samples
def test_the_demo_of_allure_2(tmp_path: Path) -> None:
    report, attempts = read(SAMPLES / "allure2-demo", tmp_path)
    assert (report.files_count, report.rejected_count) == (30, 0)
    assert Counter(attempt.status for attempt in attempts) == {
        "passed": 19,
        "failed": 8,
        "broken": 1,
        "skipped": 1,
        "unknown": 1,
    }
    assert (report.build_name, report.build_order, report.executor_type) == ("demo-report-207", 207, "github")
    assert report.build_url == "https://github.com/allure-framework/allure2/actions/runs/207"
    assert len(report.environment) == 8
    assert report.environment["demo.browser"] == "Chromium 136"
    assert sum(attempt.flaky for attempt in attempts) == 0

    references = [shown for attempt in attempts for shown in attempt.attachments]
    assert len(references) == 53
    assert [shown["source"] for shown in references if "size_bytes" not in shown] == ["attachment-html-over-limit.html"]


@needs_samples
def test_the_retries_of_the_demo_are_grouped_as_its_producers_group_them(tmp_path: Path) -> None:
    _, attempts = read(SAMPLES / "allure2-demo", tmp_path)
    ours: dict[str, list[records.TestAttempt]] = {}
    for attempt in attempts:
        ours.setdefault(attempt.test_key, []).append(attempt)
    retried = [group for group in ours.values() if len(group) > 1]
    assert (len(ours), len(retried)) == (21, 9)
    assert all(len(group) == 2 and len({attempt.history_id for attempt in group}) == 1 for group in retried)
    changes = Counter(
        tuple(attempt.status for attempt in sorted(group, key=lambda attempt: not attempt.is_retry))
        for group in retried
    )
    assert changes == {("passed", "passed"): 6, ("failed", "failed"): 2, ("failed", "passed"): 1}
    assert sum(attempt.is_retry for attempt in attempts) == 9


@needs_samples
def test_a_real_run_of_testng(tmp_path: Path) -> None:
    report, attempts = read(SAMPLES / "allure2-real-testng", tmp_path)
    assert (report.files_count, report.rejected_count) == (4, 0)
    assert [(attempt.case_path.rpartition(".")[2], attempt.case_name) for attempt in attempts] == [
        ("ProjectServiceTest", "shouldNotCreate"),
        ("MainTest", "shouldMainTest"),
        ("ProjectServiceTest", "shouldDelete"),
        ("ProjectServiceTest", "shouldCreate"),
    ]
    doubled = "93542b02b4f3b5c69033c3643e0428ed"
    assert [attempt.result_uuid for attempt in attempts].count(doubled) == 1
    assert len({attempt.result_uuid for attempt in attempts}) == 4
    assert {attempt.status for attempt in attempts} == {"passed"}
    assert not any(attempt.is_retry for attempt in attempts)
    assert [len(attempt.steps) for attempt in attempts] == [5, 1, 7, 5]


@needs_samples
def test_a_real_run_of_junit_5(tmp_path: Path) -> None:
    report, attempts = read(SAMPLES / "simple-elf-junit" / "allure-results", tmp_path)
    assert (report.files_count, report.rejected_count) == (9, 0)
    assert (report.build_name, report.executor_type) == ("root project 'allure-example'", "gradle")
    assert {attempt.status for attempt in attempts} == {"passed"}
    assert {attempt.framework for attempt in attempts} == {"junit-platform"}
    assert not any(attempt.is_retry for attempt in attempts)
    assert len({attempt.history_id for attempt in attempts}) == len({attempt.test_key for attempt in attempts}) == 9
    assert Counter(value for attempt in attempts for name, value in attempt.labels if name == "jira") == {
        "AE-1": 5,
        "AE-2": 3,
    }
    assert 0 in {attempt.duration_ms for attempt in attempts}


@needs_samples
@pytest.mark.parametrize("generated", ["report-32", "report-50", "report-51", "report-51/data/test-cases"])
def test_a_generated_report_is_refused(tmp_path: Path, generated: str) -> None:
    path = SAMPLES / "simple-elf-junit" / generated
    with (
        pytest.raises(NotAllureResultsError, match="is a generated report; pass allure-results"),
        opened(path, tmp_path),
    ):
        pass


@needs_samples
def test_the_edge_cases_of_allures_own_tests(tmp_path: Path) -> None:
    # They carry names of their own there, and are given result names when a test uses them; so here.
    folder = tmp_path / "allure-results"
    folder.mkdir()
    containers = {"first-testgroup.json", "second-testgroup.json", "fixtures-sort.json"}
    for path in (SAMPLES / "allure2-edge-a").glob("*.json"):
        name = path.name if path.name in containers else f"{path.stem.removesuffix('-result')}-result.json"
        (folder / name).write_bytes(path.read_bytes())
    report, found = read(folder, tmp_path)
    assert (report.files_count, report.rejected_count) == (10, 0)
    assert {attempt.status for attempt in found} == {"passed"}
    names = [path.name.removesuffix("-result.json") for path in sorted(folder.glob("*-result.json"))]
    attempts = dict(zip(names, found, strict=True))

    assert [name for name, attempt in attempts.items() if attempt.flaky] == ["flaky"]
    assert attempts["flaky"].result_uuid == "flaky"
    assert attempts["duplicated-params"].parameters == {"name": "value, value2", "name2": "value, value2"}
    assert attempts["parameters"].parameters == {
        "param 3": "value 3",
        "param 5": "value 5",
        "param 6": "value 6",
        "param 7": "******",
    }
    assert "onerror" not in repr(attempts["description-html-xss"])
    # Three files have one uuid between them, and two of those name the same test at the same time.
    assert len({attempt.result_uuid for attempt in found}) == 10
    assert attempts["other-testcase"].test_key == attempts["simple-testcase"].test_key
    assert [name for name, attempt in attempts.items() if attempt.is_retry] == ["other-testcase", "simple-testcase"]
    assert attempts["flaky"].started_at is None


@needs_samples
def test_edge_cases_under_their_own_names_are_no_results_but_for_one(tmp_path: Path) -> None:
    report, attempts = read(SAMPLES / "allure2-edge-a", tmp_path)
    assert report.files_count == 1
    assert [attempt.name for attempt in attempts] == ["A result"]


@needs_samples
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_the_demo_from_an_archive_is_the_same_report(tmp_path: Path, kind: str) -> None:
    source = SAMPLES / "allure2-demo"
    archive = tmp_path / f"demo.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in source.rglob("*"):
                zipped.write(path, Path("build") / path.relative_to(source))
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, "build")
    assert read(archive, tmp_path) == read(source, tmp_path)


def run_pytest(arguments: list[str], *, run_number: int = 1) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env={**environment, "RUN_NUMBER": str(run_number), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def example_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The example suite, really run: a first time, and a time when more goes wrong."""
    folders = {}
    for run_number in (1, 12):
        folder = tmp_path_factory.mktemp("run") / "allure-results"
        finished = run_pytest(["examples/tests", f"--alluredir={folder}"], run_number=run_number)
        assert finished.returncode == 1, finished.stdout
        folders[run_number] = folder
    return folders


def test_the_examples_end_as_their_readme_says(example_runs: dict[int, Path], tmp_path: Path) -> None:
    report, attempts = read(example_runs[1], tmp_path)
    assert Counter(attempt.status for attempt in attempts) == {"passed": 21, "broken": 2, "failed": 1, "skipped": 1}
    assert report.files_count == len(attempts) == 25
    assert report.environment["run.number"] == "1"
    assert report.environment["shop.url"] == "https://shop.example.org"
    assert {attempt.framework for attempt in attempts} == {"pytest"}

    _, attempts = read(example_runs[12], tmp_path)
    assert Counter(attempt.status for attempt in attempts) == {"passed": 17, "broken": 4, "failed": 2, "skipped": 1}


def test_a_test_that_pytest_reran_has_two_attempts(example_runs: dict[int, Path], tmp_path: Path) -> None:
    _, attempts = read(example_runs[1], tmp_path)
    payments = [attempt for attempt in attempts if attempt.case_name == "test_payment_is_confirmed"]
    assert {(attempt.status, attempt.is_retry) for attempt in payments} == {("broken", True), ("passed", False)}
    assert len({attempt.test_key for attempt in payments}) == 1
    assert len({attempt.result_uuid for attempt in payments}) == 2
    assert sum(attempt.is_retry for attempt in attempts) == 1


def test_two_runs_of_a_suite_name_the_same_tests(example_runs: dict[int, Path], tmp_path: Path) -> None:
    reports, keys = [], []
    for folder in example_runs.values():
        report, attempts = read(folder, tmp_path)
        reports.append(report.content_hash)
        keys.append({attempt.test_key for attempt in attempts})
    assert keys[0] == keys[1]
    assert len(keys[0]) == 24
    assert reports[0] != reports[1]


def test_what_allure_pytest_says_of_a_test_arrives(example_runs: dict[int, Path], tmp_path: Path) -> None:
    _, attempts = read(example_runs[1], tmp_path)
    by_name = {attempt.name: attempt for attempt in attempts if not attempt.is_retry}

    failed = by_name["test_order_total_with_gift_wrap"]
    assert (failed.case_path, failed.case_name) == ("tests.test_checkout", "test_order_total_with_gift_wrap")
    assert (failed.feature, failed.story, failed.severity, failed.owner) == ("Checkout", "Gift wrap", "normal", "mira")
    assert {link["name"]: link["type"] for link in failed.links} == {"SHOP-42": "issue", "C-108": "tms"}
    assert failed.status_message is not None
    assert failed.status_message.startswith("AssertionError: assert 6181 == 6248")
    assert [(step.path, step.status) for step in failed.steps] == [((0,), "failed")]

    taxed = by_name["test_tax_is_added[DE]"]
    assert taxed.case_name == "test_tax_is_added"
    assert taxed.parameters == {"country": "'DE'"}
    assert [(step.path, step.name) for step in taxed.steps] == [
        ((0,), "Look up the rate"),
        ((1,), "Add it"),
        ((1, 0), "Compute the price in DE"),
        ((1, 1), "Compare"),
    ]
    [rates] = taxed.attachments
    assert (rates["name"], rates["type"]) == ("tax rates", "application/json")
    assert int(rates["size_bytes"]) > 0

    assert by_name["test_card_is_accepted[visa]"].parameters == {"card": "'visa'", "card number": "******"}
    assert by_name["test_label_is_printed"].status == "broken"
    assert by_name["test_label_is_printed"].status_message == ("ConnectionError: no label printer answers on port 9100")
    assert by_name["test_cart_is_shared_by_link"].status == "skipped"
    assert all(attempt.started_at and attempt.duration_ms is not None for attempt in attempts)


def test_the_fixture_speaks_where_the_results_do_not(example_runs: dict[int, Path], tmp_path: Path) -> None:
    # As adapters for other languages write it: the message stands in the container alone.
    folder = tmp_path / "allure-results"
    folder.mkdir()
    for path in example_runs[12].iterdir():
        content = path.read_bytes()
        if path.name.endswith("-result.json"):
            result = json.loads(content)
            result.pop("statusDetails", None)
            content = json.dumps(result).encode()
        (folder / path.name).write_bytes(content)
    _, attempts = read(folder, tmp_path)
    messages = Counter((attempt.status_message or "").strip() for attempt in attempts if attempt.status == "broken")
    assert messages == {
        "ConnectionError: the warehouse database refuses connections": 3,
        "ConnectionError: no label printer answers on port 9100": 1,
    }
    assert {attempt.status_message for attempt in attempts if attempt.status != "broken"} == {None}


def test_the_examples_are_a_project_of_their_own() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]
    collected = run_pytest(["examples/tests", "--collect-only"])
    assert f"rootdir: {ROOT / 'examples'}" in collected.stdout
    assert "configfile: pytest.ini" in collected.stdout


KILLED_SUITE = """
import os, pathlib, threading
import allure, pytest

@pytest.mark.parametrize("number", range(20))
def test_quick(number):
    with allure.step("count"):
        assert number != 7

def test_that_is_killed(tmp_path):
    with allure.step("begin"):
        pathlib.Path(os.environ["READY_FILE"]).touch()
        threading.Event().wait()

def test_never_reached():
    pass
"""


def test_a_run_that_was_killed_is_read_as_far_as_it_got(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n", encoding="utf-8")
    (suite / "test_killed.py").write_text(KILLED_SUITE, encoding="utf-8")
    folder, ready = tmp_path / "allure-results", tmp_path / "ready"
    running = subprocess.Popen(
        [sys.executable, "-m", "pytest", str(suite), f"--alluredir={folder}"],
        env={**os.environ, "READY_FILE": str(ready)},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()

    # What a producer that writes in place would have left of the test that ran, and what this one leaves.
    (folder / "in-place-result.json").write_bytes(b'{"name": "test_that_is_killed", "start": 17100000')
    (folder / "left-over-result.json.tmp").write_bytes(b'{"name": ')
    with opened(folder, tmp_path) as results:
        batches = list(results.attempts())
        report = results.report(name="killed")
    attempts = [attempt for batch in batches for attempt in batch.attempts]
    assert Counter(attempt.status for attempt in attempts) == {"passed": 19, "failed": 1}
    assert [name for batch in batches for name, _, _ in batch.rejects] == ["in-place-result.json"]
    assert (report.files_count, report.rejected_count) == (21, 1)


MEASURED_READER = """
import resource, sys
from pathlib import Path
from connectors.allure.results import open_results

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before_kib = peak_kib()
with open_results(Path(sys.argv[1]), work_folder=Path(sys.argv[2])) as results:
    report = results.report(name="large")
    attempts_count = retries_count = 0
    for batch in results.attempts():
        attempts_count += len(batch.attempts)
        retries_count += sum(attempt.is_retry for attempt in batch.attempts)
print(report.files_count, attempts_count, retries_count, peak_kib() - before_kib)
"""


def test_memory_does_not_grow_with_the_results(tmp_path: Path) -> None:
    results_count, retries_each = 12_000, 2
    folder = tmp_path / "allure-results"
    folder.mkdir()
    step = {"name": "a step of the test", "status": "passed", "start": 1_710_000_000_000, "stop": 1_710_000_000_100}
    for index in range(results_count):
        result = {
            "uuid": f"{index:032x}",
            "name": "test",
            "fullName": f"tests.module#test_{index // retries_each}",
            "status": "failed",
            "start": 1_710_000_000_000 + index,
            "statusDetails": {"message": f"{index} is wrong " * 20, "trace": f"line {index} of the trace " * 100},
            "labels": [{"name": name, "value": f"{name} {index}"} for name in ("suite", "feature", "story", "owner")],
            "steps": [step] * 10,
        }
        (folder / f"{index:032x}-result.json").write_text(json.dumps(result), encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-c", MEASURED_READER, str(folder), str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    files_count, attempts_count, retries_count, growth_kib = map(int, finished.stdout.split())
    assert files_count == attempts_count == results_count
    assert retries_count == results_count - results_count // retries_each
    # Keeping all attempts takes over 90 MB here; a batch of 1,000 takes 8, and a few hundred bytes a result stay.
    assert growth_kib < 40_000
