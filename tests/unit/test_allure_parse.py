"""One result file: what is taken from it, and what is forgiven."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from allure_commons import model2
from hypothesis import given
from hypothesis import strategies as st

from connectors.allure.identity import identify
from connectors.allure.parse import (
    MASK,
    MESSAGE_BYTES,
    NAME_BYTES,
    STEP_MESSAGE_BYTES,
    STEPS_COUNT,
    attempt_of,
    clean_text,
    cut,
    epoch_ms,
    is_container,
    read_container,
    read_result,
)
from models import records
from models.errors import BadRecordError

NOON_MS = 1_710_000_000_000


def attempt_from(content: bytes, **options: Any) -> records.TestAttempt:
    result = read_result(content)
    return attempt_of(result, identify(result), **{"result_uuid": "u", "is_retry": False, **options})


def attempt(**fields: Any) -> records.TestAttempt:
    return attempt_from(json.dumps({"name": "t", **fields}).encode())


def nested_steps(depth: int) -> bytes:
    return b'{"name":"t","steps":[' + b'{"name":"s","steps":[' * depth + b"]}" * depth + b"]}"


def test_a_result_is_read_into_the_classes_of_allure() -> None:
    result = read_result(
        json.dumps(
            {
                "name": "t",
                "steps": [{"name": "s", "steps": [{"name": "inner"}], "attachments": [{"source": "a.txt"}]}],
                "labels": [{"name": "suite", "value": "S"}],
                "statusDetails": {"message": "m", "actual": "unknown to the class"},
                "titlePath": ["tests", "test_x.py"],
                "newInAllure4": {"x": 1},
            }
        ).encode()
    )
    assert type(result) is model2.TestResult
    assert type(result.steps[0].steps[0]) is model2.TestStepResult
    assert result.steps[0].attachments == [model2.Attachment(name=None, source="a.txt", type=None)]
    assert result.labels == [model2.Label(name="suite", value="S")]
    assert type(result.statusDetails) is model2.StatusDetails
    assert result.titlePath == ["tests", "test_x.py"]


def test_a_whole_result_becomes_an_attempt() -> None:
    found = attempt(
        uuid="inner",
        historyId="h1",
        fullName="tests.test_pay#test_pay",
        name="test_pay[visa]",
        status="failed",
        statusDetails={"message": "no", "trace": "at line 1", "flaky": True},
        start=NOON_MS,
        stop=NOON_MS + 1500,
        labels=[
            {"name": "suite", "value": "test_pay"},
            {"name": "feature", "value": "Payment"},
            {"name": "feature", "value": "Cards"},
            {"name": "story", "value": "Visa"},
            {"name": "severity", "value": "critical"},
            {"name": "owner", "value": "mira"},
            {"name": "framework", "value": "pytest"},
            {"name": "jira", "value": "AE-1"},
        ],
        links=[{"type": "issue", "name": "AE-1", "url": "https://x/AE-1"}, {"url": "https://x"}],
        parameters=[{"name": "card", "value": "'visa'"}],
    )
    assert (found.result_uuid, found.history_id, found.full_name) == ("u", "h1", "tests.test_pay#test_pay")
    assert (found.case_path, found.case_name, found.framework) == ("tests.test_pay", "test_pay", "pytest")
    assert (found.name, found.status, found.flaky) == ("test_pay[visa]", "failed", True)
    assert (found.status_message, found.status_trace) == ("no", "at line 1")
    assert found.started_at == datetime(2024, 3, 9, 16, 0, tzinfo=UTC)
    assert found.duration_ms == 1500
    assert (found.suite, found.feature, found.story) == ("test_pay", "Payment", "Visa")
    assert (found.severity, found.owner) == ("critical", "mira")
    assert ("feature", "Cards") in found.labels
    assert ("jira", "AE-1") in found.labels
    assert found.links == (
        {"type": "issue", "name": "AE-1", "url": "https://x/AE-1"},
        {"type": "link", "name": "https://x", "url": "https://x"},
    )
    assert found.parameters == {"card": "'visa'"}


def test_what_is_not_said_is_null() -> None:
    found = attempt()
    assert found.status == "unknown"
    assert (found.started_at, found.duration_ms, found.status_message, found.status_trace) == (None, None, None, None)
    assert (found.suite, found.severity, found.owner, found.full_name, found.history_id) == (None,) * 5
    assert (found.labels, found.links, found.steps, found.attachments) == ((), (), (), ())
    assert found.flaky is False


@pytest.mark.parametrize("status", ["passed", "failed", "broken", "skipped", "unknown"])
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_a_status_is_known_in_any_case(status: str, spelling: Any) -> None:
    assert attempt(status=spelling(status)).status == status


@pytest.mark.parametrize("status", ["pending", "", None, 5, ["passed"], {"x": 1}])
def test_any_other_status_is_unknown(status: Any) -> None:
    assert attempt(status=status).status == "unknown"


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (NOON_MS, NOON_MS),
        (NOON_MS // 1000, NOON_MS),
        (1_710_000_000.25, 1_710_000_000_250),
        (str(NOON_MS), NOON_MS),
        (946_684_800_000, 946_684_800_000),
        (946_684_799_999, None),
        (4_102_444_799_999, 4_102_444_799_999),
        (4_102_444_800_000, None),
        (0, None),
        (-NOON_MS, None),
        (NOON_MS * 1000, None),
        (10**400, None),
        (None, None),
        (True, None),
        ("yesterday", None),
        (float("nan"), None),
        (float("inf"), None),
        ("inf", None),
        ([NOON_MS], None),
    ],
)
def test_times_are_milliseconds_of_this_century_or_nothing(value: Any, milliseconds: int | None) -> None:
    assert epoch_ms(value) == milliseconds


@pytest.mark.parametrize(
    ("start", "stop", "duration_ms"),
    [
        (NOON_MS, NOON_MS, 0),
        (NOON_MS, NOON_MS + 7, 7),
        (NOON_MS // 1000, NOON_MS // 1000 + 2, 2000),
        (NOON_MS, None, None),
        (None, NOON_MS, None),
        (NOON_MS, NOON_MS - 1, None),
        (NOON_MS, NOON_MS + 2**31 - 1, 2**31 - 1),
        (NOON_MS, NOON_MS + 2**31, None),
    ],
)
def test_a_duration_is_known_or_null_but_never_negative(start: Any, stop: Any, duration_ms: int | None) -> None:
    assert attempt(start=start, stop=stop).duration_ms == duration_ms


def test_a_start_survives_a_stop_that_is_missing_or_before_it() -> None:
    assert attempt(start=NOON_MS, stop=5).started_at == datetime(2024, 3, 9, 16, 0, tzinfo=UTC)


def test_hidden_values_are_dropped_and_masked_ones_masked() -> None:
    found = attempt(
        parameters=[
            {"name": "shown", "value": "1"},
            {"name": "excluded", "value": "2", "excluded": True},
            {"name": "hidden", "value": "s3cret", "mode": "hidden"},
            {"name": "masked", "value": "s3cret", "mode": "MASKED"},
            {"name": "masked and excluded", "value": "s3cret", "mode": "masked", "excluded": True},
        ]
    )
    assert found.parameters == {"shown": "1", "excluded": "2", "masked": MASK, "masked and excluded": MASK}
    assert "s3cret" not in repr(found)


def test_a_doubled_parameter_shows_each_of_its_values_once() -> None:
    values = [("name", "b"), ("name", "a"), ("name", "b"), ("other", "c")]
    found = attempt(parameters=[{"name": name, "value": value} for name, value in values])
    assert found.parameters == {"name": "a, b", "other": "c"}


def test_parameters_that_are_no_text_are_told_apart_and_shown() -> None:
    values = [1, 1.5, True, None, {"b": 1, "a": [2]}, "text"]
    found = attempt(parameters=[{"name": str(index), "value": value} for index, value in enumerate(values)])
    assert list(found.parameters.values()) == ["1", "1.5", "true", "", '{"a": [2], "b": 1}', "text"]


def test_steps_stand_in_order_with_their_place_in_the_tree() -> None:
    found = attempt(
        steps=[
            {"name": "a", "status": "passed", "steps": [{"name": "a0"}, {"name": "a1", "steps": [{"name": "a10"}]}]},
            {
                "name": "b",
                "status": "broken",
                "statusDetails": {"message": "no"},
                "start": NOON_MS,
                "stop": NOON_MS + 9,
            },
            {},
        ]
    )
    assert [(step.path, step.name) for step in found.steps] == [
        ((0,), "a"),
        ((0, 0), "a0"),
        ((0, 1), "a1"),
        ((0, 1, 0), "a10"),
        ((1,), "b"),
        ((2,), ""),
    ]
    assert (found.steps[4].status, found.steps[4].duration_ms, found.steps[4].error_message) == ("broken", 9, "no")
    assert (found.steps[5].status, found.steps[5].duration_ms, found.steps[5].error_message) == ("unknown", None, None)


def test_steps_may_be_nested_deeply() -> None:
    found = attempt_from(nested_steps(300))
    assert len(found.steps) == 300
    assert found.steps[-1].path == (0,) * 300


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_steps_nested_without_end_are_one_bad_record(depth: int) -> None:
    with pytest.raises(BadRecordError, match="nested too deeply"):
        read_result(nested_steps(depth))


def test_a_parameter_nested_without_end_is_one_bad_record() -> None:
    with pytest.raises(BadRecordError, match="nested too deeply"):
        read_result(b'{"name":"t","parameters":[{"name":"p","value":' + b"[" * 5000 + b"]" * 5000 + b"}]}")


def test_more_steps_than_are_kept_are_counted() -> None:
    found = attempt(steps=[{"name": "s", "steps": [{"name": "inner"}]}] * STEPS_COUNT)
    assert len(found.steps) == STEPS_COUNT + 1
    assert found.steps[-1].name == f"… [cut; {2 * STEPS_COUNT} steps in all]"
    assert found.steps[-1].path not in {step.path for step in found.steps[:-1]}


def test_attachments_of_the_test_and_of_its_steps_are_listed_with_their_sizes() -> None:
    content = {
        "name": "t",
        "attachments": [{"name": "log", "source": "1-attachment.txt", "type": "text/plain"}],
        "steps": [
            {"steps": [{"attachments": [{"name": "picture", "source": "2-attachment.png", "type": "image/png"}]}]},
            {"attachments": [{"source": "gone.txt"}]},
        ],
    }
    sizes = {"1-attachment.txt": 8, "2-attachment.png": 0}
    found = attempt_from(json.dumps(content).encode(), attachment_bytes=sizes.get)
    assert found.attachments == (
        {"name": "log", "type": "text/plain", "source": "1-attachment.txt", "size_bytes": "8"},
        {"name": "picture", "type": "image/png", "source": "2-attachment.png", "size_bytes": "0"},
        {"name": "gone.txt", "type": "", "source": "gone.txt"},
    )


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "/etc/passwd", "a/b.txt", "C:\\x", "", None, "a" * 101, "ä.txt"]
)
def test_an_attachment_that_leads_elsewhere_is_not_looked_up(source: str | None) -> None:
    looked_up: list[str] = []

    def attachment_bytes(name: str) -> int:
        looked_up.append(name)
        return 1

    content = {"name": "t", "attachments": [{"name": "x", "source": source}]}
    found = attempt_from(json.dumps(content).encode(), attachment_bytes=attachment_bytes)
    assert found.attachments == ({"name": "x", "type": ""},)
    assert looked_up == []


@pytest.mark.parametrize("size_bytes", [10 * 1024 * 1024, MESSAGE_BYTES + 1])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_message_without_end_is_cut_with_a_mark(size_bytes: int, letter: str) -> None:
    text = letter * (size_bytes // len(letter.encode()) + 1)
    found = attempt(statusDetails={"message": text, "trace": text}, steps=[{"statusDetails": {"message": text}}])
    for kept, limit_bytes in (
        (found.status_message, MESSAGE_BYTES),
        (found.status_trace, MESSAGE_BYTES),
        (found.steps[0].error_message, STEP_MESSAGE_BYTES),
    ):
        assert kept is not None
        assert limit_bytes - 4 <= len(kept.encode()) <= limit_bytes
        assert kept.startswith(letter * 1000)
        assert kept.endswith(f"… [cut; {len(text.encode())} bytes in all]")


@given(st.text(), st.integers(min_value=60, max_value=100))
def test_cutting_keeps_what_fits_and_never_exceeds_the_limit(text: str, limit_bytes: int) -> None:
    text = clean_text(text)
    kept = cut(text, limit_bytes)
    assert len(kept.encode()) <= limit_bytes
    assert (kept == text) == (len(text.encode()) <= limit_bytes)


def test_names_without_end_are_cut() -> None:
    long = "n" * 10_000
    found = attempt(
        name=long,
        fullName=long,
        historyId=long,
        labels=[{"name": "owner", "value": long}],
        parameters=[{"name": "p", "value": long}],
        steps=[{"name": long}],
        links=[{"url": long}],
        attachments=[{"name": long}],
    )
    texts = [
        found.name,
        found.full_name or "",
        found.history_id or "",
        found.owner or "",
        found.parameters["p"],
        found.steps[0].name,
        found.links[0]["url"],
        found.attachments[0]["name"],
    ]
    assert all(0 < len(text.encode()) <= NAME_BYTES for text in texts)


def test_nuls_and_lone_surrogates_reach_no_field() -> None:
    bad = r"a\u0000b\ud800c"
    content = (
        '{"name":"%s","status":"failed","statusDetails":{"message":"%s"},"parameters":[{"name":"%s","value":"%s"}],'
        '"labels":[{"name":"%s","value":"%s"}],"steps":[{"name":"%s"}],"fullName":"%s","historyId":"%s"}' % ((bad,) * 9)
    )
    found = attempt_from(content.encode())
    assert found.name == found.status_message == found.full_name == "ab\ufffdc"
    assert found.parameters == {"ab\ufffdc": "ab\ufffdc"}
    assert "\0" not in repr(found)
    repr(found).encode()


def test_a_surrogate_pair_is_one_character() -> None:
    assert attempt_from(rb'{"name":"\ud83d\ude00\u0000"}').name == "\U0001f600"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param(b'\xef\xbb\xbf{"name":"t"}', "t", id="byte order mark"),
        pytest.param('{"name":"t"}'.encode("utf-16"), "t", id="UTF-16"),
        pytest.param(b'{"name":"t","start":NaN,"stop":Infinity}', "t", id="NaN"),
        pytest.param(b'{"name":"t","start":1e999}', "t", id="a number too large"),
        pytest.param(b'{"name":"a\tb\nc"}', "a\tb\nc", id="control characters"),
        pytest.param(b'{"name":"a\x00b"}', "ab", id="a raw NUL"),
        pytest.param(b'{"name":"caf\xe9"}', "caf\ufffd", id="ISO-8859-1"),
        pytest.param(b'{"name":"t"}\n\x00\x00\x00', "t", id="NULs after the end, as a power loss leaves"),
        pytest.param(b'{"name":"x","name":"t"}', "t", id="a doubled key"),
    ],
)
def test_json_as_producers_write_it_is_read(content: bytes, name: str) -> None:
    assert attempt_from(content).name == name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\0" * 512, "empty"),
        (b'{"name":"t","status":"pas', "cut short"),
        (b'{"name":"t"', "cut short"),
        (b"<html>", "no valid JSON"),
        (b'{"name":' + b"1" * 5000 + b"}", "no valid JSON"),
        (b"[]", "no JSON object but a list"),
        (b"null", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}", "names no test"),
        (b'{"status":"passed","name":"","fullName":null}', "names no test"),
    ],
)
def test_what_is_no_result_is_one_bad_record_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadRecordError, match=reason):
        read_result(content)


@pytest.mark.parametrize("wrong", [None, 5, "text", {"a": 1}, [1, None, "x", [], {}], [[{}]]])
def test_a_field_of_the_wrong_kind_is_dropped_and_the_rest_kept(wrong: Any) -> None:
    fields = ("statusDetails", "steps", "attachments", "parameters", "labels", "links", "start", "stop", "titlePath")
    found = attempt(status="passed", **dict.fromkeys(fields, wrong))
    assert (found.name, found.status) == ("t", "passed")
    assert (found.status_message, found.started_at, found.labels) == (None, None, ())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "value", "steps", "x"]), inner)
    ),
    max_leaves=8,
)
RESULT_FIELDS = ["uuid", "historyId", "testCaseId", "fullName", "name", "status", "statusDetails", "start", "stop"]
RESULT_FIELDS += ["steps", "attachments", "parameters", "labels", "links", "titlePath", "stage", "description"]


@given(st.dictionaries(st.sampled_from(RESULT_FIELDS), JSON_VALUES))
def test_any_json_is_an_attempt_that_can_be_stored_or_a_bad_record(fields: dict[str, Any]) -> None:
    content = json.dumps(fields).encode()
    try:
        found = attempt_from(content)
    except BadRecordError:
        assert not any(fields.get(field) for field in ("fullName", "testCaseId", "name"))
        return
    text = repr(found)
    text.encode()
    assert "\0" not in text
    assert found.status in {"passed", "failed", "broken", "skipped", "unknown"}
    assert found.duration_ms is None or found.duration_ms >= 0


@given(st.binary(max_size=200))
def test_any_bytes_are_a_result_or_a_bad_record(content: bytes) -> None:
    with contextlib.suppress(BadRecordError):
        read_result(content)


FIXTURE_FAILURE = model2.StatusDetails(message="no database", trace="in db()")


@pytest.mark.parametrize("status", ["skipped", "broken", "failed", None])
def test_a_broken_fixture_speaks_for_a_result_that_says_nothing(status: str | None) -> None:
    content = json.dumps({"name": "t", "status": status}).encode()
    found = attempt_from(content, fixture_failure=FIXTURE_FAILURE)
    assert (found.status_message, found.status_trace) == ("no database", "in db()")


def test_a_broken_fixture_does_not_speak_over_the_result_nor_for_one_that_passed() -> None:
    own = b'{"name":"t","status":"broken","statusDetails":{"message":"mine"}}'
    assert attempt_from(own, fixture_failure=FIXTURE_FAILURE).status_message == "mine"
    passed = b'{"name":"t","status":"passed"}'
    assert attempt_from(passed, fixture_failure=FIXTURE_FAILURE).status_message is None


def test_a_container_is_read_with_its_fixtures() -> None:
    container = read_container(
        json.dumps(
            {
                "uuid": "c",
                "children": ["a", None, "b"],
                "befores": [{"name": "db", "status": "broken", "statusDetails": {"message": "no"}}],
                "afters": [{"name": "db::0", "status": "passed"}],
                "more": 1,
            }
        ).encode()
    )
    assert container.children == ["a", "b"]
    assert (container.befores[0].name, container.befores[0].statusDetails.message) == ("db", "no")
    assert container.afters[0].status == "passed"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"uuid":"c","children":["a"],"befores":[{"name":"db"}]}', True),
        (b'{"children":[],"afters":[]}', True),
        (b'{"children":["a"],"name":"a menu of some API"}', False),
        (b'{"children":{"a":1},"befores":[]}', False),
        (b'{"befores":[]}', False),
        (b'["children", "befores"]', False),
        (b'{"children":["a"],"befores":', False),
    ],
)
def test_a_container_of_any_name_is_known_by_what_it_holds(content: bytes, expected: bool) -> None:
    assert is_container(content) is expected
