"""A PostgreSQL cluster of a version of its own, made from installed programs and thrown away."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.embedded import _run, _service_account

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the data folder, whatever it is called
    "fsync": "off",  # it lives for a test
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "jit": "off",
}


@contextmanager
def throw_away_cluster(programs: Path) -> Iterator[str]:
    """A running cluster of its own; yields the URL of an empty database in it.

    Args:
        programs: the folder with `initdb` and `pg_ctl`.
    """
    account = _service_account() if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    data = Path(tempfile.mkdtemp(prefix="pl-pg-"))
    if account:
        os.chown(data, account.uid, account.gid)
    log_path = data.with_suffix(".log")

    def run(program: str, *options: str) -> None:
        with log_path.open("ab") as output:
            code = _run([programs / program, "-D", str(data), *options], data, output, account)
        assert code == 0, f"{programs / program} fails: {log_path.read_text()}"

    started = False
    try:
        run("initdb", "--username=plumbline", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        run("pg_ctl", "start", "-w")
        started = True
        run_in_shell = ["--host", str(data), "--username=plumbline", "plumbline"]
        with log_path.open("ab") as output:
            assert _run([programs / "createdb", *run_in_shell], data, output, account) == 0, log_path.read_text()
        yield f"postgresql://plumbline@/plumbline?host={data}"
    finally:
        if started:
            run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(data, ignore_errors=True)
        log_path.unlink(missing_ok=True)
