"""The admin API in a process of its own, as `plumbline up` runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from cryptography.fernet import Fernet

from models.store.session import Database

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-word"


@contextmanager
def serving(home: Path, database_url: str, **environment: str) -> Iterator[str]:
    """The API in a process of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "uvicorn", "admin.api.app:app", "--port", str(port)],
        cwd=ROOT,
        env={
            **os.environ,
            "PLUMBLINE_HOME": str(home),
            "PLUMBLINE_DATABASE_URL": database_url,
            "PLUMBLINE_SECRET_KEYS": Fernet.generate_key().decode(),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                requests.get(url + "/healthz", timeout=5)
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                break
        yield url
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert "ResourceWarning" not in said
    assert "Traceback" not in said, said
    assert PASSWORD not in said


def plain(database: Database) -> str:
    """A database's URL as a person writes it."""
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)
