"""The command `plumbline` as a process of its own, in a HOME and an environment of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from admin.cli.main import main; main()"
)
"""`plumbline` for those whose shell makes them deaf to Ctrl-C, which is inherited: jobs in the background."""


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON document that `--json` printed; fails where there is more or less."""
        return json.loads(self.out)

    @property
    def error_lines(self) -> list[str]:
        return self.err.strip().splitlines()


class Plumbline:
    """Runs `plumbline` with a HOME."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        self.environment = {
            **inherited,
            "PLUMBLINE_HOME": str(home),
            "PYTHONWARNINGS": "error::ResourceWarning",
            **environment,
        }

    def __call__(self, *arguments: str, stdin: str = "", seconds: float = 60, **environment: str) -> Finished:
        """Run a command to its end."""
        ended = subprocess.run(
            [sys.executable, "-m", "admin.cli", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Finished(ended.returncode, ended.stdout, ended.stderr)

    def done(self, *arguments: str, **options: Any) -> Finished:
        """Run a command that must succeed."""
        ended = self(*arguments, **options)
        assert ended.code == 0, f"plumbline {' '.join(arguments)}: {ended}"
        return ended

    def start(self, *arguments: str, log: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, so that a signal to it reaches nobody else."""
        output: Any = subprocess.PIPE if log is None else log.open("w")
        try:
            return subprocess.Popen(
                [sys.executable, "-c", INTERRUPTIBLE, *arguments],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output if log else subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        finally:
            if log is not None:
                output.close()


def interrupted(process: subprocess.Popen[str], *, seconds: float) -> Finished:
    """Press Ctrl-C and wait for the end."""
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Finished(process.returncode, out or "", err or "")
