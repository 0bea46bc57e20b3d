"""Every error survives the way between processes, says something, and has a verdict."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from datetime import UTC, datetime

import pytest

import admin
import connectors
import models
import tasks
import workers
from models.errors import PlumblineError, RateLimitedError, Verdict


def all_errors() -> list[type[PlumblineError]]:
    for package in (models, connectors, workers, tasks, admin):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "__main__" not in module.name:
                importlib.import_module(module.name)
    found: list[type[PlumblineError]] = [PlumblineError]
    for each in found:
        found.extend(each.__subclasses__())
    return found


@pytest.mark.parametrize("error_class", all_errors(), ids=lambda each: each.__name__)
def test_error_survives_pickling_with_its_facts(error_class: type[PlumblineError]) -> None:
    error = error_class("What happened; what to do.", status=404, host="gitlab.example.com")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == "What happened; what to do."
    assert copy.facts == {"status": 404, "host": "gitlab.example.com"}


@pytest.mark.parametrize("error_class", all_errors(), ids=lambda each: each.__name__)
def test_error_has_a_name_a_sentence_and_a_verdict(error_class: type[PlumblineError]) -> None:
    assert error_class.__name__.endswith("Error")
    assert str(error_class()).endswith((".", "`."))
    assert isinstance(error_class.verdict, Verdict)


def test_a_rate_limit_remembers_its_time_between_processes() -> None:
    until = datetime(2026, 3, 1, tzinfo=UTC)
    assert pickle.loads(pickle.dumps(RateLimitedError(retry_at=until))).retry_at == until
    assert RateLimitedError().retry_at is None
