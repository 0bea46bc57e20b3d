"""What the first pass over a folder of results remembers of each file: which test, when, and whether it can be used.

What belongs here: the decisions that need all results at once (retries, doubled uuids, copies, the content hash), kept
in a few hundred bytes a result. What does not: reading files (files.py) and what they mean (parse.py, identity.py).
"""

from __future__ import annotations

import hashlib
from array import array

import msgspec
from allure_commons.model2 import TestResult

from connectors.allure.files import ResultFiles
from connectors.allure.identity import identify
from connectors.allure.parse import KEY_BYTES, clean_text, cut, epoch_ms, read_result
from models.errors import BadRecordError

_NO_TIME = -1
_SHORT_DIGEST_BYTES = 16


class ResultsSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the first pass. Results go by their position in `names`."""

    names: list[str]
    """The result files in order."""
    reasons: dict[int, str]
    """Why a result cannot be used."""
    content_hash: str
    started_ms: int | None
    stopped_ms: int | None
    retries: bytearray
    """1 where a later attempt of the same test exists."""
    digests: bytearray
    """The beginning of each file's SHA-256."""
    replaced_uuids: dict[int, str]
    """For results whose uuid another result has too."""

    def is_retry(self, position: int) -> bool:
        """Whether it is an attempt of its test, but not the last."""
        return self.retries[position] == 1

    def is_unchanged(self, position: int, digest: bytes) -> bool:
        """Whether the file still holds what it held in the first pass."""
        start = position * _SHORT_DIGEST_BYTES
        return self.digests[start : start + _SHORT_DIGEST_BYTES] == digest[:_SHORT_DIGEST_BYTES]

    def result_uuid(self, position: int, result: TestResult) -> str:
        """An id of the result that no other result of the report has."""
        return self.replaced_uuids.get(position) or _own_uuid(self.names[position], result)


def take_survey(files: ResultFiles) -> ResultsSurvey:
    """Read every result file once."""
    survey = _SurveyInProgress(files.results)
    for name in files.results:
        file = files.load(name)
        result, reason = None, file.problem
        if reason is None:
            try:
                result = read_result(file.content, with_steps=False)
            except BadRecordError as error:
                reason = error.message
        survey.add(file.digest, result, reason)
    return survey.finish()


class _SurveyInProgress:
    """What is needed besides until the last file is seen: `add` for each name in order, then `finish`."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._reasons: dict[int, str] = {}
        self._content_hash = hashlib.sha256()
        self._digests = bytearray()
        self._starts_ms = array("q")
        self._stops_ms = array("q")
        self._retries = bytearray(len(names))
        self._last_attempts: dict[bytes, int] = {}
        self._uuids: set[str] = set()
        self._replaced_uuids: dict[int, str] = {}
        self._contents: dict[bytes, int] = {}

    def add(self, digest: bytes, result: TestResult | None, reason: str | None) -> None:
        position = len(self._starts_ms)
        name = self._names[position]
        self._content_hash.update(name.encode(errors="surrogateescape") + b"\0" + digest)
        self._digests += digest[:_SHORT_DIGEST_BYTES]
        if result is not None and result.uuid:
            original = self._contents.setdefault(digest[:_SHORT_DIGEST_BYTES], position)
            if original != position:
                result, reason = None, f"It is a copy of {clean_text(self._names[original])}, which is counted."
        if result is None:
            self._reasons[position] = reason or ""
            self._starts_ms.append(_NO_TIME)
            self._stops_ms.append(_NO_TIME)
            return
        start_ms, stop_ms = epoch_ms(result.start), epoch_ms(result.stop)
        self._starts_ms.append(_NO_TIME if start_ms is None else start_ms)
        self._stops_ms.append(_NO_TIME if stop_ms is None else stop_ms)
        self._find_place_among_attempts(position, bytes.fromhex(identify(result).test_key)[:_SHORT_DIGEST_BYTES])
        uuid = _own_uuid(name, result)
        if uuid in self._uuids:
            # Which of them keeps its uuid does not depend on the order in which a folder lists its files.
            uuid = f"{uuid}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}"
            self._replaced_uuids[position] = uuid
        self._uuids.add(uuid)

    def finish(self) -> ResultsSurvey:
        return ResultsSurvey(
            names=self._names,
            reasons=self._reasons,
            content_hash=self._content_hash.hexdigest(),
            started_ms=min((time for time in self._starts_ms if time != _NO_TIME), default=None),
            stopped_ms=max((time for time in self._stops_ms if time != _NO_TIME), default=None),
            retries=self._retries,
            digests=self._digests,
            replaced_uuids=self._replaced_uuids,
        )

    def _find_place_among_attempts(self, position: int, test_key: bytes) -> None:
        last = self._last_attempts.setdefault(test_key, position)
        if last == position:
            return
        # A missing start is the oldest, as in allure2; of equal times the later file name is the later attempt.
        if self._times(position) >= self._times(last):
            self._retries[last] = 1
            self._last_attempts[test_key] = position
        else:
            self._retries[position] = 1

    def _times(self, position: int) -> tuple[int, int]:
        return self._starts_ms[position], self._stops_ms[position]


def _own_uuid(name: str, result: TestResult) -> str:
    return cut(result.uuid or clean_text(name.removesuffix("-result.json")), KEY_BYTES)
