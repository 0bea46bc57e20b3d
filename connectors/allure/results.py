"""A folder of Allure results, or an archive of one, as a report and its attempts: what the rest of the system calls.

What belongs here: opening, and reading 100,000 results in bounded memory. It takes two passes: which attempt is a retry
is known only when all have been seen, so the first keeps a few bytes of each (survey.py), and the second reads them
again and hands them out. What one file means is in parse.py, launch.py, fixtures.py and identity.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from connectors.allure.archives import DEFAULT_LIMITS, ArchiveLimits, unpack
from connectors.allure.files import BEGINNING_BYTES, ResultFiles, in_folder, somewhere_in
from connectors.allure.fixtures import Fixtures, read_fixtures
from connectors.allure.identity import identify
from connectors.allure.launch import Launch, read_launch
from connectors.allure.parse import attempt_of, clean_text, moment, read_result
from connectors.allure.survey import ResultsSurvey, take_survey
from models.errors import BadRecordError, UsageError
from models.records import TestAttempt, TestReport

BATCH_FILE_BYTES = 16 * 1024 * 1024
"""A batch ends early once its files have so many bytes together."""

Reject = tuple[str, str, bytes]
"""(file name, reason, how the file begins)."""


class AttemptBatch(msgspec.Struct, frozen=True):
    """Some attempts of a report, and the files that had to be set aside on the way."""

    attempts: tuple[TestAttempt, ...]
    rejects: tuple[Reject, ...]


@contextmanager
def open_results(path: Path, *, work_folder: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[ResultsFolder]:
    """Open a folder of results in place, or a zip, tar or tar.gz archive that holds one, at any depth.

    Args:
        path: the folder or archive.
        work_folder: where an archive is unpacked, into a folder of its own that is gone afterwards, whatever happens.
        limits: how much an archive may hold.

    Raises:
        UsageError: the path does not exist, or is a pipe or device.
        NotAllureResultsError: there are no results in it, it is a generated report, or the archive is damaged.
        UnsafeArchiveError: the archive holds what is not safe to unpack.
    """
    if not path.exists():
        raise UsageError(f"There is no file or folder {path}.")
    if not (path.is_dir() or path.is_file()):
        raise UsageError(f"{path} is neither a file nor a folder.")
    if path.is_dir():
        yield ResultsFolder(in_folder(path))
        return
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="allure-", dir=work_folder) as unpacked:
        unpack(path, Path(unpacked), limits)
        yield ResultsFolder(somewhere_in(Path(unpacked), archive_name=path.name))


class ResultsFolder:
    """A folder that holds at least one result file, read when asked."""

    def __init__(self, files: ResultFiles) -> None:
        self._files = files

    def report(
        self,
        *,
        name: str,
        commit_sha: str | None = None,
        branch: str | None = None,
        build_name: str | None = None,
        ci_url: str | None = None,
    ) -> TestReport:
        """Describe the launch. The first call reads every file once.

        Args:
            name: the report's name.
            commit_sha: what was tested; Allure does not say.
            branch: what was tested; Allure does not say.
            build_name: used instead of the one in executor.json.
            ci_url: used instead of the build's URL in executor.json.

        Returns:
            `files_count` counts the result files; `rejected_count` every file of the report that cannot be used.
        """
        executor = self._launch.executor
        return TestReport(
            name=name,
            content_hash=self._survey.content_hash,
            build_name=build_name or executor.build_name,
            build_url=ci_url or executor.build_url,
            build_order=executor.build_order,
            executor_type=executor.executor_type,
            commit_sha=commit_sha,
            branch=branch,
            environment=self._launch.environment,
            started_at=moment(self._survey.started_ms),
            stopped_at=moment(self._survey.stopped_ms),
            files_count=len(self._files.results),
            rejected_count=len(self._survey.reasons) + len(self._launch.rejects) + len(self._fixtures.rejects),
        )

    def attempts(self, batch_size: int = 1000) -> Iterator[AttemptBatch]:
        """Read the attempts in the order of their file names, however the folder lists them.

        Args:
            batch_size: how many attempts and rejects a batch holds at most; large files make it shorter.

        Returns:
            Batches. Every result file is in one of them, as an attempt or as a reject, and so is every other file of
            the report that cannot be used.
        """
        attempts: list[TestAttempt] = []
        rejects: list[Reject] = []
        batch_bytes = 0
        for outcome, file_bytes in self._outcomes():
            if isinstance(outcome, TestAttempt):
                attempts.append(outcome)
            else:
                rejects.append(outcome)
            batch_bytes += file_bytes
            if len(attempts) + len(rejects) >= batch_size or batch_bytes >= BATCH_FILE_BYTES:
                yield AttemptBatch(tuple(attempts), tuple(rejects))
                attempts, rejects, batch_bytes = [], [], 0
        if attempts or rejects:
            yield AttemptBatch(tuple(attempts), tuple(rejects))

    def _outcomes(self) -> Iterator[tuple[TestAttempt | Reject, int]]:
        for name, reason in (*self._launch.rejects, *self._fixtures.rejects):
            beginning = self._files.load(name).content[:BEGINNING_BYTES]
            yield (clean_text(name), reason, beginning), len(beginning)
        for position, name in enumerate(self._files.results):
            file = self._files.load(name)
            try:
                yield self._attempt(position, file.content, file.digest), len(file.content)
            except BadRecordError as error:
                beginning = file.content[:BEGINNING_BYTES]
                yield (clean_text(name), error.message, beginning), len(beginning)

    def _attempt(self, position: int, content: bytes, digest: bytes) -> TestAttempt:
        survey = self._survey
        if position in survey.reasons:
            raise BadRecordError(survey.reasons[position])
        if not survey.is_unchanged(position, digest):
            raise BadRecordError("It changed while the report was read; are the tests still running?")
        result = read_result(content)
        return attempt_of(
            result,
            identify(result),
            result_uuid=survey.result_uuid(position, result),
            is_retry=survey.is_retry(position),
            fixture_failure=self._fixtures.failures.get(result.uuid),
            attachment_bytes=self._files.size_bytes,
        )

    @cached_property
    def _survey(self) -> ResultsSurvey:
        return take_survey(self._files)

    @cached_property
    def _launch(self) -> Launch:
        return read_launch(self._files)

    @cached_property
    def _fixtures(self) -> Fixtures:
        return read_fixtures(self._files)
