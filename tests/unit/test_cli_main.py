"""The command line as a whole: its help, its exit codes, what it imports, what it never takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from admin.cli import main as cli
from admin.cli import output
from models import errors

ROOT = Path(__file__).parents[2]


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    if not cli.app.registered_groups:
        cli.include(cli.MODULES)

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(words), command
            return
        for name, child in children.items():
            yield from walk((*words, name), child)

    yield from walk((), typer.main.get_command(cli.app))


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(words: str) -> None:
    assert f"Example:\n    plumbline {words}" in COMMANDS[words].help.replace("export ", "")
    assert COMMANDS[words].help.splitlines()[0].endswith(".")


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_and_argument_says_what_it_is(words: str) -> None:
    assert [each.name for each in COMMANDS[words].params if not getattr(each, "help", None)] == []


@pytest.mark.parametrize("words", [words for words in COMMANDS if words.split()[-1] in {"list", "next", "show"}])
def test_every_listing_can_be_json(words: str) -> None:
    assert "--json" in [option for each in COMMANDS[words].params for option in each.opts]


def test_no_command_takes_a_secret_as_an_argument() -> None:
    options = {option for command in COMMANDS.values() for each in command.params for option in each.opts}
    assert {each for each in options if "token" in each or "password" in each or "secret" in each} == {
        "--token-env",
        "--token-stdin",
    }


def test_the_help_page_is_instant_because_it_imports_nothing_slow() -> None:
    script = (
        "import sys; from admin.cli import main; main.include(main.MODULES); "
        "print(*sorted({'celery', 'sqlalchemy', 'psycopg', 'fastapi', 'requests', 'rich.table', 'structlog'}"
        " & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.split() == []


def test_the_help_page_comes_within_half_a_second_of_the_processor() -> None:
    # Processor time, because another test may have the machine meanwhile.
    script = (
        "import resource, subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'admin.cli', '--help'], check=True, stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    fastest = min(
        float(subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(3)
    )
    assert fastest < 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["connecton", "list"], "Did you mean 'connection'"),
        (["connection", "lst"], "Did you mean 'list'"),
        (["sync", "--sinc", "x"], "--since"),
        (["connection", "add", "gitlab"], "Missing"),
        (["jobs", "show", "x"], "ID"),
        (["sync", "a", "b"], "unexpected"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("Error: ")
    assert len(printed.err.splitlines()) == 2
    assert printed.out == ""


def test_a_token_in_a_wrong_place_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["connection", "list", "glpat-abcdefghij0123456789"]) == 2
    assert "glpat" not in capsys.readouterr().err


def raising(error: BaseException) -> int:
    """The exit code of a command that raises."""
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    return cli.run([], app)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.NotFoundError("x"), 2),
        (errors.SettingsError("x"), 2),
        (errors.AccessDeniedError("x"), 1),
        (errors.TransientSourceError("x"), 1),
        (errors.ServerUnavailableError("x"), 1),
        (errors.NotAllureResultsError("x"), 1),
        (typer.Exit(1), 1),
        (typer.Exit(0), 0),
    ],
)
def test_the_exit_code_follows_the_error(error: Exception, code: int) -> None:
    assert raising(error) == code


def test_an_error_is_its_sentence_and_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(errors.TransientSourceError("The host does not answer.")) == 1
    assert capsys.readouterr() == ("", "Error: The host does not answer.\n")


def test_a_bug_is_one_line_that_names_it_and_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyError("colour\nsecond line")) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "KeyError" in err
    assert "--debug" in err


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    token = output.is_debug.set(True)
    try:
        assert raising(KeyError("colour")) == 1
    finally:
        output.is_debug.reset(token)
    assert "Traceback" in capsys.readouterr().err


def test_secrets_in_an_error_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    raising(RuntimeError("cannot reach postgresql://me:hunter2@db/x with token=abcdef"))
    err = capsys.readouterr().err
    assert "hunter2" not in err
    assert "abcdef" not in err


def test_ctrl_c_is_one_line_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


def test_debug_is_taken_anywhere_but_behind_a_double_dash() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "admin.cli", "schedules", "--debug", "nxt"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    ended = subprocess.run(
        [sys.executable, "-m", "admin.cli", "schedules", "--", "--debug"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_every_command_stands_in_the_documentation() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert [words for words in COMMANDS if f"plumbline {words}" not in page] == []
