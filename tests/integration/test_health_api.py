"""The API's health routes, served by a real process over a real database and a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from factories.api import PASSWORD, plain, serving
from sqlalchemy import text

from models.store.session import Database
from workers.embedded import EmbeddedServers


def test_ready_tells_what_is_well_and_what_is_not(database: Database, servers: EmbeddedServers) -> None:
    servers.start_broker()
    with serving(servers.home, plain(database)) as url:
        alive = requests.get(url + "/healthz", timeout=10)
        assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
        for name in ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy"):
            assert name in alive.headers

        ready = requests.get(url + "/readyz", timeout=30)
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        checks = ready.json()["checks"]
        assert {name: check["ok"] for name, check in checks.items()} == {
            "database": True,
            "migrations": True,
            "beat": False,
            "broker": True,
            "workers": False,
        }
        assert checks["workers"]["count"] == 0
        assert str(servers.home) not in ready.text

        with database.transaction() as session:
            session.execute(text("UPDATE job_schedules SET next_run_at = now() + interval '1 minute'"))
        assert requests.get(url + "/readyz", timeout=30).json()["checks"]["beat"] == {"ok": True, "late_seconds": 0.0}
        with database.transaction() as session:
            session.execute(text("UPDATE job_schedules SET next_run_at = now() - interval '5 minutes'"))
        beat = requests.get(url + "/readyz", timeout=30).json()["checks"]["beat"]
        assert beat["ok"] is False
        assert 300 <= beat["late_seconds"] < 400
        with database.transaction() as session:
            session.execute(text("UPDATE job_schedules SET is_enabled = false"))
        assert requests.get(url + "/readyz", timeout=30).json()["checks"]["beat"]["ok"] is True


def test_what_is_not_there_is_a_problem_document(database: Database, servers: EmbeddedServers) -> None:
    with serving(servers.home, plain(database)) as url:
        for path in ("/nothing", "/docs", "/openapi.json", "/redoc"):
            answer = requests.get(url + path, timeout=10)
            assert answer.status_code == 404
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json() == {"type": "about:blank", "title": "Not Found", "status": 404}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        posted = requests.post(url + "/healthz", timeout=10)
        assert (posted.status_code, posted.headers["Allow"]) == (405, "GET")
        assert posted.json()["title"] == "Method Not Allowed"


def test_an_old_schema_is_not_ready(empty_database_url: str, servers: EmbeddedServers) -> None:
    with serving(servers.home, empty_database_url) as url:
        ready = requests.get(url + "/readyz", timeout=30)
        assert ready.status_code == 503
        assert ready.json()["checks"]["migrations"]["ok"] is False
        assert ready.json()["checks"]["migrations"]["found"] is None
        assert "beat" not in ready.json()["checks"]


@pytest.mark.parametrize("broker_url", [f"redis://:{PASSWORD}@127.0.0.1:1/0", f"amqp://me:{PASSWORD}@127.0.0.1:1//"])
def test_servers_that_do_not_answer_are_not_ready_and_their_addresses_not_told(tmp_path: Path, broker_url: str) -> None:
    url = f"postgresql://me:{PASSWORD}@127.0.0.1:1/x"
    with serving(tmp_path / "home", url, PLUMBLINE_BROKER_URL=broker_url) as address:
        assert requests.get(address + "/healthz", timeout=10).status_code == 200
        ready = requests.get(address + "/readyz", timeout=60)
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"database": {"ok": False}, "broker": {"ok": False}}
