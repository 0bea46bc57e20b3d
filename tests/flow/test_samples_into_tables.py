"""Real payloads by other people's systems, into the tables: what does not fit is set aside, nothing stops."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories.records import scope
from factories.snapshots import count
from fakes.worker import InProcessWorker
from sqlalchemy import text
from sqlalchemy.orm import Session

from connectors import registry
from connectors.base import ConnectionSpec, Item, ParseContext, ScopeSpec
from models.store import connections
from models.store.session import Database
from tasks.steps import Source, promote
from workers.settings import Settings

FETCHED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def source_of(database: Database, kind: str, key: str) -> Source:
    with database.transaction() as session:
        target = scope(session, kind=kind, key=key)
    return Source(
        kind=registry.kind(kind),
        connection=ConnectionSpec(id=target.connection_id, kind=kind, name=kind, base_url=target.base_url),
        scope=ScopeSpec(id=target.sync_scope_id, external_key=key),
        target=target,
        context=ParseContext(),
    )


def rejects(database: Database) -> dict[str, str]:
    with database.transaction() as session:
        rows = session.execute(text("SELECT external_id, reason FROM sync_rejects WHERE resolved_at IS NULL")).all()
    return dict(rows)  # type: ignore[arg-type]  # rows of two


def upload_scope(session: Session) -> int:
    tenant_id = connections.default_tenant(session)
    return connections.ensure_upload_scope(session, tenant_id, project="Shop", timezone="UTC", auth="-")


def payload_lines(path: Path) -> Iterator[tuple[bytes, dict[str, str]]]:
    with path.with_suffix("").with_suffix(".sources.csv").open(newline="", encoding="utf-8") as sources:
        yield from zip(path.read_bytes().splitlines(), csv.DictReader(sources), strict=True)


def test_43_real_issues_with_every_item_of_their_histories(samples: Path, database: Database) -> None:
    files = sorted((samples / "jira" / "issues").glob("*.json"))
    items = [Item(json.loads(file.read_bytes())["id"], file.read_bytes()) for file in files]
    histories = [json.loads(item.payload)["changelog"]["histories"] for item in items]
    source = source_of(database, "jira", "EE")
    for _ in range(2):
        with database.transaction() as session:
            promote(session, source, "issues", items, fetched_at=FETCHED_AT)
        assert count(database, "jira_table_history") == 43
        assert count(database, "jira_issue_changes") == sum(
            len(history["items"]) for issue in histories for history in issue
        )
        assert rejects(database) == {}


def test_two_items_on_one_field_in_one_real_history_both_arrive(samples: Path, database: Database) -> None:
    files = sorted((samples / "jira" / "issues").glob("EE-*.json"))
    source = source_of(database, "jira", "EE")
    items = [Item(json.loads(file.read_bytes())["id"], file.read_bytes()) for file in files]
    with database.transaction() as session:
        promote(session, source, "issues", items, fetched_at=FETCHED_AT)
        doubled = session.execute(
            text(
                "SELECT count(*) FROM (SELECT FROM jira_issue_changes "
                "GROUP BY issue_id, change_id, field HAVING count(*) > 1) AS repeated"
            )
        ).scalar_one()
    assert doubled > 0


def test_real_merge_requests_go_in_and_those_of_a_removed_api_are_set_aside(samples: Path, database: Database) -> None:
    folder = samples / "gitlab"
    parts: dict[str, dict[int, list[bytes]]] = {}
    for name in ("mr_commits", "mr_notes"):
        parts[name] = defaultdict(list)
        for payload, origin in payload_lines(folder / f"{name}.jsonl"):
            if origin["input"] not in ("", "null"):
                parts[name][json.loads(origin["input"])["Iid"]].append(payload)
    items = []
    for number, (row, _) in enumerate(payload_lines(folder / "merge_requests.jsonl")):
        iid = json.loads(row).get("iid", -number)
        joined = (
            b'{"merge_request":%b,"commits":[%b],"notes":[%b],"approvals":null,"state_events":null,"truncated":false}'
        )
        payload = joined % (row, b",".join(parts["mr_commits"][iid]), b",".join(parts["mr_notes"][iid]))
        items.append(Item(f"sample!{number}", payload))
    source = source_of(database, "gitlab", "101")
    with database.transaction() as session:
        promote(session, source, "merge_requests", items, fetched_at=FETCHED_AT)
    set_aside = rejects(database)
    with database.transaction() as session:
        stored = session.execute(text("SELECT count(*) FROM gitlab_mr_lead_times")).scalar_one()
        fork_gone = session.execute(text("SELECT state FROM gitlab_mr_lead_times WHERE mr_id = 17")).scalars().all()
    assert stored == 16  # of 17 that GitLab's documents describe, one stands there twice
    assert len(set_aside) == len(items) - 17
    assert all("iid" in reason for reason in set_aside.values())
    assert "closed" in fork_gone


@pytest.mark.parametrize(
    ("folder", "attempts", "tests", "rejected"),
    [
        ("allure2-demo", 30, 21, 0),
        ("allure2-real-testng", 4, 4, 0),
        ("simple-elf-junit/allure-results", 9, 9, 0),
    ],
)
def test_real_allure_results_become_a_run_with_cases_and_results(
    samples: Path, worker: InProcessWorker, folder: str, attempts: int, tests: int, rejected: int
) -> None:
    database = worker.database
    with database.transaction() as session:
        scope_id = upload_scope(session)
    for _ in range(2):
        worker.run("ingest.allure", path=str(samples / "allure" / folder), scope_id=scope_id, name=folder)
        with database.transaction() as session:
            report = session.execute(text("SELECT status, summary FROM allure_report")).one()
            view = session.execute(text("SELECT * FROM test_runs_view")).one()
        assert report.status == "completed"
        assert report.summary["attempts"] == attempts == count(database, "allure_scenarios")
        assert report.summary["tests"] == tests
        assert report.summary["rejected"] == rejected
        assert view.total_cases == count(database, "test_run_results") <= tests
        assert count(database, "test_cases") == view.total_cases


def test_allures_own_edge_cases_are_no_results_by_their_names_and_say_so(
    samples: Path, worker: InProcessWorker
) -> None:
    with worker.database.transaction() as session:
        scope_id = upload_scope(session)
    worker.run("ingest.allure", path=str(samples / "allure" / "allure2-edge-a"), scope_id=scope_id, name="edge")
    assert count(worker.database, "allure_scenarios") == 1
