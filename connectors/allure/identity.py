"""Who a test is: the key that its retries share, and the case that it is an attempt of.

Our own rules, because every producer has others and changes them (allure2 changed its own in 2.45): a producer's
history id is kept as an attribute and never joined on. What belongs here: which fields name a test, and how they are
hashed. What does not: reading files, and what an attempt looks like (parse.py).
"""

from __future__ import annotations

import hashlib
import re

import msgspec
from allure_commons.model2 import Parameter, TestResult

IDENTITY_VERSION = 1
"""Raised when `identify` gives a test another key than it had before; keys of different versions are never compared."""

KEY_TEXT_BYTES = 1000
"""How long a case's path and name may be: together they must fit into one entry of a PostgreSQL index (2,704 bytes)."""

FRAMEWORK_BYTES = 100

_DOTTED_NAME = re.compile(r"[\w$]+(?:\.[\w$]+)+")
_CLASS_LABELS = ("testClass", "class")
_SUITE_LABELS = ("parentSuite", "suite", "subSuite")


class Identity(msgspec.Struct, frozen=True):
    """What makes two attempts attempts of the same test."""

    test_key: str
    parameters_hash: str
    case_path: str
    case_name: str
    framework: str


def identify(result: TestResult) -> Identity:
    """Name a test from the fields that survive a retry and a new run.

    Source: Allure's `fullName`, `testCaseId`, `name`, `parameters` and `labels`.

    Args:
        result: a result as read; it has at least one of the three names.

    Returns:
        The key is taken from the full name, else the test case id, else the name. A bare method name repeats across
        classes, so that last one counts together with the path from the labels.
    """
    labels = _first_labels(result)
    case_path, case_name = _case(result, labels)
    named_by: tuple[str, ...]
    if result.fullName:
        named_by = ("full_name", result.fullName)
    elif result.testCaseId:
        named_by = ("test_case_id", result.testCaseId)
    else:
        named_by = ("name", case_path, case_name)
    parameters_hash = _digest(_identifying_parameters(result.parameters))
    return Identity(
        test_key=_digest([IDENTITY_VERSION, named_by, parameters_hash]),
        parameters_hash=parameters_hash,
        case_path=_bounded(case_path, KEY_TEXT_BYTES),
        case_name=_bounded(case_name, KEY_TEXT_BYTES),
        framework=_bounded(labels.get("framework") or labels.get("language") or "unknown", FRAMEWORK_BYTES),
    )


def _identifying_parameters(parameters: list[Parameter]) -> list[tuple[str, str]]:
    # Hidden and masked values take part, as in every producer: the modes say what may be shown, `excluded` says what
    # tells two tests apart. Only the hash leaves this module.
    return sorted({(parameter.name or "", parameter.value or "") for parameter in parameters if not parameter.excluded})


def _case(result: TestResult, labels: dict[str, str]) -> tuple[str, str]:
    full_name = result.fullName
    if full_name:
        # `module.Class#test` of pytest, `file#suite test` of JavaScript: the first mark, as a title may hold another.
        path, mark, name = full_name.partition("#")
        if mark and name:
            return path, name
        test_class = _first_of(labels, _CLASS_LABELS)
        if test_class and full_name.startswith(f"{test_class}."):
            return test_class, full_name[len(test_class) + 1 :]
        if _DOTTED_NAME.fullmatch(full_name):
            path, _, name = full_name.rpartition(".")
            return path, name
    path = _path_from(labels)
    if full_name and not path:
        return "", full_name
    return path, result.name or full_name or result.testCaseId


def _path_from(labels: dict[str, str]) -> str:
    return (
        _first_of(labels, _CLASS_LABELS)
        or labels.get("package")
        or " > ".join(labels[name] for name in _SUITE_LABELS if name in labels)
    )


def _first_labels(result: TestResult) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in result.labels:
        if label.name and label.value:
            found.setdefault(label.name, label.value)
    return found


def _first_of(labels: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((labels[name] for name in names if name in labels), None)


def _digest(value: object) -> str:
    # JSON keeps ["a:b", "c"] and ["a", "b:c"] apart, which joined text does not.
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def _bounded(text: str, limit_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    # Two long names that differ at their ends stay two.
    mark = "…" + hashlib.sha256(encoded).hexdigest()[:16]
    return encoded[: limit_bytes - len(mark.encode())].decode(errors="ignore") + mark
