"""Asking workers for work and following it to its end, for every command that takes `--wait`.

What belongs here: enqueueing, the progress bar, and how a followed job ends a command. What does not: which job a
command asks for.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

from admin.cli import output
from models.errors import PlumblineError

WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the job until it and all that it asks for are done.")]

LOOK_SECONDS = 0.25
LINE_SECONDS = 5.0
"""How often progress is told where stderr is no terminal."""
PACE_SECONDS = 60.0
UNANSWERED_SECONDS = 3.0
"""How long nothing may move before the workers are asked whether they are there, and how long between askings."""
SILENT_SECONDS = 15.0
"""The same where a job runs, as far as its row says: its worker may be dead."""
GIVE_UP_SECONDS = 60.0
"""How long no worker may answer until a follower gives up; the job stays queued."""


class NoWorkerError(PlumblineError):
    """No worker answers."""


def ask(process: Any, task: str, **args: Any) -> int:
    """Write a job and send it.

    Args:
        process: of the command, see `admin.cli.process.ready`.
        task: its name.
        args: of the task.

    Returns:
        Its id, or that of the one that waits already for the same.
    """
    from workers.app import app
    from workers.task import enqueue

    app.loader.import_default_modules()
    return enqueue(process.database, task, trigger="cli", **args)


def ask_and_end(process: Any, task: str, *, wait: bool, as_json: bool, **args: Any) -> None:
    """Ask for a job, follow it where that is wanted, and print how it went.

    Raises:
        typer.Exit: with 1, where a followed job failed.
    """
    end(process, [ask(process, task, **args)], wait=wait, as_json=as_json)


def end(process: Any, job_ids: Sequence[int], *, wait: bool, as_json: bool) -> None:
    """End a command that has asked for jobs: follow them where that is wanted, and print how it went.

    Raises:
        typer.Exit: with 1, where a followed job failed.
    """
    if wait:
        follow(process, job_ids, as_json=as_json)
        return
    if as_json:
        output.print_json({"job_ids": list(job_ids)})
    else:
        for job_id in job_ids:
            output.say(f"Job {job_id} is queued; `plumbline jobs show {job_id}` says how it goes.")
    if not workers_answer():
        output.note("No worker answers now, so it waits; `plumbline up` starts one.")


def workers_answer() -> bool:
    """Whether any worker answers within a second."""
    from admin.checks import answering_workers

    return bool(answering_workers())


def follow(process: Any, job_ids: Sequence[int], *, as_json: bool, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
    """Follow jobs and all that they ask for, with progress on stderr, and print how they ended.

    Args:
        process: of the command.
        job_ids: at least one.
        as_json: print one JSON document instead of a sentence.
        give_up_seconds: how long no worker may answer.

    Raises:
        typer.Exit: with 1, where any of them failed.
        NoWorkerError: no worker has answered for that long.
    """
    started = time.monotonic()
    family = wait_for(process, job_ids, give_up_seconds=give_up_seconds)
    duration_seconds = time.monotonic() - started
    if as_json:
        output.print_json(
            {
                "job_ids": list(job_ids),
                "jobs": family.total,
                "failed": family.failed,
                "rows_read": family.rows_read,
                "rows_written": family.rows_written,
                "duration_seconds": round(duration_seconds, 3),
                "failures": list(family.failures),
            }
        )
    else:
        output.say(
            f"{_named(job_ids)} ended after {duration_seconds:.1f} s: {counted(family.total, 'job')}, "
            f"{family.rows_read:,} rows read, {family.rows_written:,} written."
        )
    if family.failed:
        tell_failures(family)
        raise typer.Exit(1)


def wait_for(process: Any, job_ids: Sequence[int], *, give_up_seconds: float = GIVE_UP_SECONDS) -> Any:
    """Follow jobs and all that they ask for to their end, with progress on stderr.

    Returns:
        The jobs added up, see `models.store.jobs.family`.

    Raises:
        NoWorkerError: no worker has answered for `give_up_seconds`.
    """
    try:
        return _until_finished(process, job_ids, give_up_seconds)
    except KeyboardInterrupt:
        output.note(f"\n{_named(job_ids)} will go on without us; `plumbline jobs list` shows how.")
        raise


def tell_failures(family: Any) -> None:
    """Print, to stderr, why followed jobs failed."""
    output.note(f"{counted(family.failed, 'job')} did not succeed; see `plumbline jobs list --status failed`.")
    for failure in family.failures:
        output.note(f"Error: {failure.splitlines()[0]}")


def counted(count: int, noun: str) -> str:
    """A number of things, e.g. `1 job`, `1,200 jobs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _named(job_ids: Sequence[int]) -> str:
    return f"Job {job_ids[0]}" if len(job_ids) == 1 else f"Jobs {', '.join(map(str, job_ids))}"


def _until_finished(process: Any, job_ids: Sequence[int], give_up_seconds: float) -> Any:
    from models.store import jobs

    said: set[str] = set()
    watch = _WorkerWatch(_named(job_ids), give_up_seconds)
    with _progress() as display:
        while True:
            with process.database.transaction() as session:
                family = jobs.family(session, *job_ids)
            display.show(family)
            if family.finished == family.total:
                return family
            for error in family.errors:
                if error not in said:
                    said.add(error)
                    display.tell(error.splitlines()[0])
            remark = watch.look(family)
            if remark:
                display.tell(remark)
            time.sleep(LOOK_SECONDS)


class _WorkerWatch:
    """Notices when nobody works, tells it once, and gives up in the end."""

    def __init__(self, jobs: str, give_up_seconds: float) -> None:
        self._jobs = jobs
        self._give_up_seconds = give_up_seconds
        self._seen: tuple[int, int] = (0, 0)
        self._idle_since = self._asked_at = time.monotonic()
        self._has_told = False

    def look(self, family: Any) -> str | None:
        """What there is to say, if anything."""
        now = time.monotonic()
        seen = (family.finished, family.rows_read)
        if seen != self._seen:
            self._seen, self._idle_since, self._has_told = seen, now, False
        patience_seconds = SILENT_SECONDS if family.running else UNANSWERED_SECONDS
        if now - self._idle_since < patience_seconds or now - self._asked_at < UNANSWERED_SECONDS:
            return None
        self._asked_at = now
        if workers_answer():  # busy with others' jobs, or these wait for their time
            self._idle_since, self._has_told = now, False
            return None
        if now - self._idle_since > self._give_up_seconds:
            raise NoWorkerError(
                f"No worker has answered for {self._give_up_seconds:.0f} s. {self._jobs} will run when `plumbline up` "
                "starts one."
            )
        if self._has_told:
            return None
        self._has_told = True
        return "No worker answers; `plumbline up` starts one. Waiting for it."


class _Display(Protocol):
    def show(self, family: Any) -> None: ...

    def tell(self, remark: str) -> None: ...


class _Pace:
    """Rows a second over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, rows_read: int) -> float:
        now = time.monotonic()
        self._seen.append((now, rows_read))
        while now - self._seen[0][0] > PACE_SECONDS:
            self._seen.popleft()
        began, rows_before = self._seen[0]
        return (rows_read - rows_before) / max(now - began, 0.001)


def _parts(family: Any) -> str:
    """What is done of what there is: windows of backfills where there are any, else jobs."""
    if family.windows:
        return f"{family.windows_finished} of {counted(family.windows, 'window')}"
    return f"{family.finished} of {counted(family.total, 'job')}"


class _Lines:
    """Progress as a line every few seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_SECONDS
        self._began = time.monotonic()
        self._pace = _Pace()

    def show(self, family: Any) -> None:
        pace = self._pace.of(family.rows_read)
        if time.monotonic() < self._next:
            return
        self._next += LINE_SECONDS
        done_ratio = float(family.done) / family.total
        elapsed = time.monotonic() - self._began
        left = output.span(elapsed / done_ratio - elapsed if done_ratio > 0 else None)
        output.note(f"{_parts(family)} done, {family.rows_read:,} rows read, {pace:,.0f} rows/s, {left} left")

    def tell(self, remark: str) -> None:
        output.note(remark)


class _Bar:
    """Progress as a bar: windows or jobs, rows, rows a second over the last minute, time left."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, jobs="", rows=0, rate=0)
        self._pace = _Pace()

    def show(self, family: Any) -> None:
        self._progress.update(
            self._task,
            total=family.total,
            completed=float(family.done),
            jobs=_parts(family),
            rows=family.rows_read,
            rate=int(self._pace.of(family.rows_read)),
        )

    def tell(self, remark: str) -> None:
        self._progress.console.print(output.printable(remark), markup=False)


@contextmanager
def _progress() -> Iterator[_Display]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.fields[jobs]}"),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,} rows/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as progress:
        yield _Bar(progress)
