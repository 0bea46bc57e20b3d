"""One file of Allure results: its bytes to Allure's own model objects, and those to records.

Producers are killed in the middle, write in place, and put anything into a message, so every field is taken for what
it should be and dropped where it is not; only a file that names no test is refused. Pure: no folder, no clock. Which
files there are, and which attempt is the last of its test, is decided in results.py.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from allure_commons.model2 import (
    Attachment,
    Label,
    Link,
    Parameter,
    Status,
    StatusDetails,
    TestAfterResult,
    TestBeforeResult,
    TestResult,
    TestResultContainer,
    TestStepResult,
)
from allure_commons.types import LabelType, ParameterMode

from connectors.allure.identity import IDENTITY_VERSION, Identity
from models.errors import BadRecordError
from models.records import TestAttempt, TestStep

MESSAGE_BYTES = 64 * 1024
"""What is kept of an attempt's message, and of its trace."""
STEP_MESSAGE_BYTES = 4 * 1024
"""What is kept of a step's message; parents repeat the message of the step that failed in them."""
NAME_BYTES = 4 * 1024
"""What is kept of a name, a label, a parameter's value."""
KEY_BYTES = 200
"""What is kept of an id that indexes hold."""
STEPS_COUNT = 10_000
"""How many steps of one attempt are kept."""

MASK = "******"

_TOO_DEEP = "It is nested too deeply to be read."
_STATUSES = {Status.PASSED, Status.FAILED, Status.BROKEN, Status.SKIPPED, Status.UNKNOWN}
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_SAFE_SOURCE = re.compile(r"[a-zA-Z0-9._-]{1,100}")
"""Allure's own rule for the file name of an attachment; no such name leads out of the folder."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2000_MS = 946_684_800_000
_YEAR_2100_MS = 4_102_444_800_000
_LARGEST_SECONDS = 100_000_000_000
_LONGEST_NUMBER = 40
_LARGEST_DURATION_MS = 2**31 - 1
"""Nearly 25 days: no test takes longer, and it is what an integer column holds."""


def read_result(content: bytes, *, with_steps: bool = True) -> TestResult:
    """Read a result file.

    Source: `*-result.json`; fields of `allure_commons.model2.TestResult`, unknown ones ignored.

    Args:
        content: the file as it is.
        with_steps: False leaves the steps out, for who only wants to know which test this is.

    Raises:
        BadRecordError: it is not JSON, not an object, or names no test.
    """
    raw = _decode_object(content)
    try:
        result = TestResult(
            uuid=_text(raw.get("uuid")),
            historyId=_text(raw.get("historyId")),
            testCaseId=_text(raw.get("testCaseId")),
            fullName=_text(raw.get("fullName")),
            titlePath=[title for title in map(_text, _list(raw.get("titlePath"))) if title],
            labels=[_label(item) for item in _objects(raw.get("labels"))],
            links=[_link(item) for item in _objects(raw.get("links"))],
            **_executable_fields(raw),
        )
        if with_steps:
            _read_steps(raw, into=result.steps)
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    if not (result.fullName or result.testCaseId or result.name):
        raise BadRecordError("It names no test: there is no fullName, no testCaseId and no name.")
    return result


def read_container(content: bytes) -> TestResultContainer:
    """Read a container file: the fixtures around some results. The steps of fixtures are left out.

    Source: `*-container.json`; fields of `allure_commons.model2.TestResultContainer`, unknown ones ignored.

    Raises:
        BadRecordError: it is not JSON, or not an object.
    """
    raw = _decode_object(content)
    try:
        return TestResultContainer(
            uuid=_text(raw.get("uuid")),
            name=_text(raw.get("name")),
            children=[child for child in map(_text, _list(raw.get("children"))) if child],
            befores=[TestBeforeResult(**_executable_fields(item)) for item in _objects(raw.get("befores"))],
            afters=[TestAfterResult(**_executable_fields(item)) for item in _objects(raw.get("afters"))],
            start=raw.get("start"),
            stop=raw.get("stop"),
        )
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None


def is_container(content: bytes) -> bool:
    """Whether a JSON file with any name is a container by what it holds; some adapters do not name them so."""
    if b'"children"' not in content:
        return False
    try:
        raw = _decode_object(content)
    except BadRecordError:
        return False
    return isinstance(raw.get("children"), list) and ("befores" in raw or "afters" in raw)


def attempt_of(
    result: TestResult,
    identity: Identity,
    *,
    result_uuid: str,
    is_retry: bool,
    fixture_failure: StatusDetails | None = None,
    attachment_bytes: Callable[[str], int | None] = lambda _: None,
) -> TestAttempt:
    """Turn a result into a record.

    Args:
        result: as `read_result` gives it.
        identity: what `identify` says of it.
        result_uuid: unique in the report; the result's own uuid may be missing or doubled.
        is_retry: whether a later attempt of the same test is in the report.
        fixture_failure: of a broken fixture before it; stands in where the result did not pass and says nothing.
        attachment_bytes: the size of an attachment by its source, None where there is no such file.
    """
    details = result.statusDetails or StatusDetails()
    message, trace = details.message, details.trace
    if fixture_failure is not None and not message and result.status != Status.PASSED:
        message, trace = fixture_failure.message, trace or fixture_failure.trace
    labels = tuple((cut(label.name), cut(label.value or "")) for label in result.labels if label.name)
    by_name: dict[str, str] = {}
    for name, value in labels:
        by_name.setdefault(name, value)
    started_ms, stopped_ms = epoch_ms(result.start), epoch_ms(result.stop)
    return TestAttempt(
        result_uuid=result_uuid,
        test_key=identity.test_key,
        identity_version=IDENTITY_VERSION,
        case_path=identity.case_path,
        case_name=identity.case_name,
        framework=identity.framework,
        name=cut(result.name or identity.case_name),
        full_name=_cut_or_none(result.fullName),
        history_id=_cut_or_none(result.historyId, KEY_BYTES),
        parameters_hash=identity.parameters_hash,
        parameters=_shown_parameters(result.parameters),
        status=result.status,
        is_retry=is_retry,
        flaky=bool(details.flaky),
        status_message=_cut_or_none(message, MESSAGE_BYTES),
        status_trace=_cut_or_none(trace, MESSAGE_BYTES),
        started_at=moment(started_ms),
        duration_ms=_duration_ms(started_ms, stopped_ms),
        suite=by_name.get(LabelType.SUITE) or by_name.get(LabelType.PARENT_SUITE) or by_name.get(LabelType.SUB_SUITE),
        feature=by_name.get(LabelType.FEATURE),
        story=by_name.get(LabelType.STORY),
        severity=by_name.get(LabelType.SEVERITY),
        owner=by_name.get("owner"),
        labels=labels,
        links=tuple(_shown_link(link) for link in result.links),
        attachments=tuple(
            _shown_attachment(attachment, attachment_bytes)
            for _, item in _tree(result)
            for attachment in item.attachments
        ),
        steps=tuple(_steps(result)),
    )


def epoch_ms(value: Any) -> int | None:
    """Milliseconds since 1970, from what a producer wrote into `start` or `stop`.

    Returns:
        None where it is missing, no number, or outside the years 2000 to 2100. A number too small for milliseconds of
        those years is taken for seconds, which some producers write.
    """
    if isinstance(value, str):
        try:
            value = float(value[:_LONGEST_NUMBER])
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    milliseconds = int(value * 1000) if abs(value) < _LARGEST_SECONDS else int(value)
    return milliseconds if _YEAR_2000_MS <= milliseconds < _YEAR_2100_MS else None


def moment(milliseconds: int | None) -> datetime | None:
    """Aware UTC time of milliseconds since 1970; None gives None."""
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def clean_text(text: str) -> str:
    """Drop NULs and replace lone surrogates, which PostgreSQL and UTF-8 refuse."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else _LONE_SURROGATES.sub("\ufffd", text)


def cut(text: str, limit_bytes: int = NAME_BYTES) -> str:
    """Shorten a text to so many bytes of UTF-8, with a mark at its end that says how long it was."""
    if len(text) * 4 <= limit_bytes:
        return text
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    mark = f"… [cut; {len(encoded)} bytes in all]"
    return encoded[: limit_bytes - len(mark.encode())].decode(errors="ignore") + mark


def decode_json(content: bytes) -> Any:
    """Decode JSON as producers write it: also with NaN, control characters, lone surrogates, broken UTF-8.

    Raises:
        BadRecordError: it is empty, cut short, no JSON at all, or nested too deeply.
    """
    try:
        return msgspec.json.decode(content)
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # the strict decoder is the fast one; what it refuses is rare and is read again below
    text = content.decode(json.detect_encoding(content), errors="replace").strip("\0 \t\r\n")
    if not text:
        raise BadRecordError("It is empty.")
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    except ValueError as error:
        raise BadRecordError(f"It is no valid JSON, or is cut short: {error}.") from None


def _decode_object(content: bytes) -> dict[str, Any]:
    raw = decode_json(content)
    if not isinstance(raw, dict):
        raise BadRecordError(f"It holds no JSON object but a {type(raw).__name__}.")
    return raw


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    # What a number or a nested value means in a text field is for its producer to know; one spelling keeps it apart.
    return clean_text(json.dumps(value, sort_keys=True))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _executable_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """What tests, steps and fixtures have in common, but for their steps."""
    status = _text(raw.get("status"))
    return {
        "name": _text(raw.get("name")),
        "status": status.lower() if status and status.lower() in _STATUSES else Status.UNKNOWN,
        "statusDetails": _status_details(raw.get("statusDetails")),
        "stage": _text(raw.get("stage")),
        "description": _text(raw.get("description")),
        "descriptionHtml": _text(raw.get("descriptionHtml")),
        "attachments": [_attachment(item) for item in _objects(raw.get("attachments"))],
        "parameters": [_parameter(item) for item in _objects(raw.get("parameters"))],
        "start": raw.get("start"),
        "stop": raw.get("stop"),
    }


def _status_details(raw: Any) -> StatusDetails | None:
    if not isinstance(raw, dict):
        return None
    return StatusDetails(
        known=raw.get("known") is True,
        flaky=raw.get("flaky") is True,
        message=_text(raw.get("message")),
        trace=_text(raw.get("trace")),
    )


def _parameter(raw: dict[str, Any]) -> Parameter:
    return Parameter(
        name=_text(raw.get("name")),
        value=_text(raw.get("value")),
        excluded=raw.get("excluded") is True,
        mode=(_text(raw.get("mode")) or "").lower() or None,
    )


def _label(raw: dict[str, Any]) -> Label:
    return Label(name=_text(raw.get("name")), value=_text(raw.get("value")))


def _link(raw: dict[str, Any]) -> Link:
    return Link(type=_text(raw.get("type")), url=_text(raw.get("url")), name=_text(raw.get("name")))


def _attachment(raw: dict[str, Any]) -> Attachment:
    return Attachment(name=_text(raw.get("name")), source=_text(raw.get("source")), type=_text(raw.get("type")))


def _read_steps(raw: dict[str, Any], into: list[TestStepResult]) -> None:
    # With a list of what is still to do, not by recursion: how deep steps go is up to the file.
    waiting = [(raw, into)]
    while waiting:
        parent, steps = waiting.pop()
        for item in _objects(parent.get("steps")):
            step = TestStepResult(id=_text(item.get("id")), **_executable_fields(item))
            steps.append(step)
            waiting.append((item, step.steps))


def _tree(result: TestResult) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The result and all its steps, each with its path, parents before their children."""
    waiting: list[tuple[tuple[int, ...], Any]] = [((), result)]
    while waiting:
        path, item = waiting.pop()
        yield path, item
        if item.steps:
            waiting.extend([((*path, position), step) for position, step in enumerate(item.steps)][::-1])


def _steps(result: TestResult) -> Iterator[TestStep]:
    """The first `STEPS_COUNT` steps; where there are more, one says how many."""
    tree = _tree(result)
    next(tree)
    for path, step in itertools.islice(tree, STEPS_COUNT):
        details = step.statusDetails or StatusDetails()
        yield TestStep(
            path=path,
            name=cut(step.name or ""),
            status=step.status,
            duration_ms=_duration_ms(epoch_ms(step.start), epoch_ms(step.stop)),
            error_message=_cut_or_none(details.message, STEP_MESSAGE_BYTES),
        )
    left_out_count = sum(1 for _ in tree)
    if left_out_count:
        yield TestStep(
            path=(len(result.steps),),
            name=f"… [cut; {STEPS_COUNT + left_out_count} steps in all]",
            status=Status.UNKNOWN,
            duration_ms=None,
            error_message=None,
        )


def _shown_attachment(attachment: Attachment, attachment_bytes: Callable[[str], int | None]) -> dict[str, str]:
    source = attachment.source or ""
    shown = {"name": cut(attachment.name or source), "type": cut(attachment.type or "", KEY_BYTES)}
    if _SAFE_SOURCE.fullmatch(source):
        shown["source"] = source
        size_bytes = attachment_bytes(source)
        if size_bytes is not None:
            shown["size_bytes"] = str(size_bytes)
    return shown


def _shown_link(link: Link) -> dict[str, str]:
    shown = {"type": link.type or "link", "name": link.name or link.url or "", "url": link.url or ""}
    return {key: cut(value) for key, value in shown.items()}


def _shown_parameters(parameters: list[Parameter]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for parameter in parameters:
        if parameter.mode == ParameterMode.HIDDEN.value:
            continue
        value = MASK if parameter.mode == ParameterMode.MASKED.value else parameter.value or ""
        of_name = values.setdefault(cut(parameter.name or ""), [])
        if value not in of_name:
            of_name.append(value)
    return {name: cut(", ".join(sorted(of_name))) for name, of_name in values.items()}


def _cut_or_none(text: str | None, limit_bytes: int = NAME_BYTES) -> str | None:
    return cut(text, limit_bytes) if text else None


def _duration_ms(started_ms: int | None, stopped_ms: int | None) -> int | None:
    if started_ms is None or stopped_ms is None:
        return None
    duration_ms = stopped_ms - started_ms
    return duration_ms if 0 <= duration_ms <= _LARGEST_DURATION_MS else None
