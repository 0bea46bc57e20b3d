"""What is promised of every task, checked over the registry."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import celeryconfig
from models.errors import UsageError
from workers.app import app
from workers.enqueue import LONGEST_COUNTDOWN_SECONDS
from workers.queues import Queue
from workers.retry import RetryPolicy
from workers.task import SPECS, spec, task

ROOT = Path(__file__).parents[2]
app.loader.import_default_modules()
NAMES = sorted(SPECS)

SQL_OR_VENDOR = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE) |execute\(|requests\.|if .*kind ==|\bsleep\(")
LONGEST_BODY_LINES = 30


def test_there_are_tasks() -> None:
    assert {
        "collect.sync_all",
        "collect.window",
        "ingest.allure",
        "ingest.csv",
        "replay.scope",
        "summarise.one",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_task_is_named_by_its_module_and_limited_in_time(name: str) -> None:
    declared = SPECS[name]
    registered = app.tasks[name]
    assert 0 < declared.soft_limit_seconds < declared.hard_limit_seconds <= celeryconfig.LONGEST_HARD_LIMIT_SECONDS
    assert registered.soft_time_limit == declared.soft_limit_seconds
    assert registered.time_limit == declared.hard_limit_seconds
    assert declared.queue in Queue
    assert (ROOT / "tasks" / f"{name.partition('.')[0]}.py").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_task_says_why_it_may_be_repeated(name: str) -> None:
    assert "Idempotent:" in (app.tasks[name].__doc__ or "")


def test_a_message_is_not_delivered_again_while_its_task_may_run() -> None:
    longest = max(declared.hard_limit_seconds for declared in SPECS.values())
    timeout = celeryconfig.broker_transport_options["visibility_timeout"]
    assert timeout > longest + LONGEST_COUNTDOWN_SECONDS


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.py")), ids=lambda path: path.stem)
def test_task_modules_hold_no_sql_no_http_and_no_sleep(path: Path) -> None:
    code = "\n".join(line for line in path.read_text().splitlines() if not line.strip().startswith(("#", '"""')))
    assert not SQL_OR_VENDOR.search(code)


@pytest.mark.parametrize("name", NAMES)
def test_task_body_can_be_read_at_one_go(name: str) -> None:
    module = ROOT / "tasks" / f"{name.partition('.')[0]}.py"
    for body in re.findall(r"\n@task\((?:.|\n)*?\n(def (?:.|\n)*?)(?=\n\n\n|\Z)", module.read_text()):
        statements = body.rpartition('"""')[-1].strip().splitlines()
        assert len(statements) <= LONGEST_BODY_LINES, statements[0]


def test_an_unknown_option_of_a_task_raises() -> None:
    with pytest.raises(TypeError):
        task(  # type: ignore[call-arg]
            name="x.y",
            queue=Queue.SYNC,
            soft_limit_seconds=1,
            hard_limit_seconds=2,
            retry=RetryPolicy(),
            retries=3,
        )


def test_an_unknown_task_is_named_in_the_error_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"no task 'colect\.sync_all'.*collect\.sync_all"):
        spec("colect.sync_all")


def test_a_queue_that_does_not_exist_fails_at_publishing() -> None:
    with pytest.raises(Exception, match="nowhere"):
        app.send_task("collect.sync_all", kwargs={"job_id": 0}, queue="nowhere")


def test_every_celery_setting_has_its_reason() -> None:
    source = inspect.getsource(celeryconfig)
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ = ", line):
            before = next(text for text in reversed(lines[:number]) if text.strip())
            explained = before.startswith("#") or '"""' in before or re.match(r"[a-z_]+ = ", before) or before == ")"
            assert explained, f"no reason beside {line!r}"
