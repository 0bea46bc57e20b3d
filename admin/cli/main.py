"""The entry point of `plumbline`: which commands there are, and what an error looks like.

What belongs here: including the commands of the other modules, and turning what they raise into lines and exit codes.
What does not: any command. A module of commands has a Typer `app` with its commands, or with one named group, and a
line in `MODULES`. It imports what is slow inside its functions, because all modules are imported for `--help`.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from admin.cli import output
from models.errors import NotFoundError, PlumblineError, SettingsError, UsageError

MODULES = (
    "servers", "doctor", "demo", "simulate", "seed",
    "connections", "scopes", "sync", "ingest", "replay", "rejects", "reconcile", "verify",
    "summaries", "report", "people",
    "jobs", "schedules", "capture",
)  # fmt: skip
"""Modules of this package whose commands are included, in the order of the help page."""

EXIT_FAILED = 1
EXIT_WRONG_CALL = 2
EXIT_INTERRUPTED = 130
WRONG_CALLS = (UsageError, NotFoundError, SettingsError)

app = typer.Typer(
    name="plumbline",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with `plumbline up`, and see `plumbline COMMAND --help` for examples.",
)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            output.say(f"plumbline {version('plumbline')}")
        except PackageNotFoundError:
            output.say("plumbline (not installed: run from its folder)")
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: bool = typer.Option(False, "--debug", help="Show where an error comes from, and every log line."),
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True, expose_value=False
    ),
) -> None:
    """Keeps one PostgreSQL database of engineering quality true: issues, changes and tests into analytics tables."""


def include(names: Sequence[str]) -> None:
    """Add the commands of modules of this package."""
    for name in names:
        app.add_typer(importlib.import_module(f"admin.cli.{name}").app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 it ran and something failed or differs, 2 wrong call, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    ours = given[: given.index("--")] if "--" in given else given
    if "--debug" in ours:  # anywhere, because it is added to a command that has just failed
        given.remove("--debug")
        output.is_debug.set(True)
    include(MODULES)
    sys.exit(run(given))


def run(arguments: Sequence[str], commands: typer.Typer = app) -> int:
    """Run a command; returns its exit code, with every error printed."""
    try:
        code = typer.main.get_command(commands).main(list(arguments), prog_name="plumbline", standalone_mode=False)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except typer.TyperException as error:
        return _wrong_call(error)
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except PlumblineError as error:
        _print_error(error.message, error)
        return EXIT_WRONG_CALL if isinstance(error, WRONG_CALLS) else EXIT_FAILED
    except Exception as error:  # noqa: BLE001  # the last stop: a person gets a line, and the trace where they ask for it
        first_line = (str(error).strip() or "no message").splitlines()[0]
        _print_error(f"{type(error).__name__}: {first_line} This should not happen; --debug shows where.", error)
        return EXIT_FAILED
    finally:
        used = sys.modules.get("admin.cli.process")  # not imported for commands that need nothing of it
        if used is not None:
            used.close()
    if code == EXIT_INTERRUPTED:
        output.note("Interrupted.")
    return code if isinstance(code, int) else 0


def _wrong_call(error: typer.TyperException) -> int:
    message = error.format_message()
    if message:  # none where a group was called without a command: its help page is printed then
        _print_error(message, error)
        context = getattr(error, "ctx", None)
        if context is not None:
            output.note(f"See `{context.command_path} --help`.")
    return EXIT_WRONG_CALL


def _print_error(message: str, error: BaseException) -> None:
    from workers.logs import mask_text

    if output.is_debug.get():
        output.note(mask_text("".join(traceback.format_exception(error))))
    output.note(f"Error: {mask_text(message)}")
