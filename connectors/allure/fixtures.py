"""Which tests a broken fixture kept from running, and what it said: the containers around results.

What belongs here: from containers to the failure before each result. What does not: reading one container (parse.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from allure_commons.model2 import Status, StatusDetails, TestResultContainer

from connectors.allure.files import ResultFiles
from connectors.allure.parse import is_container, read_container
from models.errors import BadRecordError

LARGEST_UNNAMED_CONTAINER_BYTES = 1024 * 1024
"""Up to here a JSON file of any other name is looked into for fixtures; larger ones are attachments."""

_DEEPEST_NESTING = 5
"""Of containers in containers: TestNG puts a test's into its suite's."""


class Fixtures(msgspec.Struct, frozen=True):
    """What the containers say."""

    failures: dict[str, StatusDetails]
    """By a result's uuid: how a fixture before it failed."""
    rejects: list[tuple[str, str]]
    """(file name, reason) of containers that cannot be used."""


def read_fixtures(files: ResultFiles) -> Fixtures:
    """Read all containers, once where no fixture failed."""
    failures: dict[str, StatusDetails] = {}
    rejects: list[tuple[str, str]] = []
    for container in _containers(files, rejects):
        failure = _failure_before(container)
        if failure is not None:
            _add(failures, container, failure)
    reached = -1
    for _ in range(_DEEPEST_NESTING):
        if len(failures) in (0, reached):
            break
        reached = len(failures)
        for container in _containers(files, rejects=[]):
            if container.uuid in failures:
                _add(failures, container, failures[container.uuid])
    return Fixtures(failures, rejects)


def _containers(files: ResultFiles, rejects: list[tuple[str, str]]) -> Iterator[TestResultContainer]:
    for name in files.containers:
        try:
            yield read_container(files.content(name))
        except BadRecordError as error:
            rejects.append((name, error.message))
    for name in files.other_json:
        if (files.size_bytes(name) or 0) <= LARGEST_UNNAMED_CONTAINER_BYTES:
            content = files.load(name).content
            if is_container(content):
                yield read_container(content)


def _failure_before(container: TestResultContainer) -> StatusDetails | None:
    for before in container.befores:
        details: StatusDetails | None = before.statusDetails
        if before.status in (Status.FAILED, Status.BROKEN) and details and details.message:
            return details
    return None


def _add(failures: dict[str, StatusDetails], container: TestResultContainer, failure: StatusDetails) -> None:
    for child in container.children:
        failures.setdefault(child, failure)
