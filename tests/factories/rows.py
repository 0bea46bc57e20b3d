"""Rows as any writer may write them, straight into the input tables; tests name only what matters to them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from models.store import summaries
from models.store.summaries import SUMMARIES
from models.tables import METADATA

STATUSES = {
    "To Do": ("1", "new"),
    "In Progress": ("2", "indeterminate"),
    "In Review": ("3", "indeterminate"),
    "Done": ("4", "done"),
    "Reopened": ("5", "new"),
    "Closed": ("6", "done"),
}
CURRENT_COLUMNS = {
    "status": "status",
    "issuetype": "issuetype",
    "issuekey": "issuekey",
    "priority": "priority",
    "severity": "severity_issue",
    "resolution": "resolution",
}
SEVERITY_FIELD = "customfield_10050"

History = Sequence[tuple[datetime, str, str | None, str | None]]


def utc(moment: str) -> datetime:
    """`2025-06-02 09:00` in UTC."""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


class Rows:
    """Writes rows of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.numbers = itertools.count(1)
        self.tenant_id = int(self.sql("SELECT min(id) FROM tenants").scalar_one())

    def sql(self, statement: str, **parameters: Any) -> Any:
        return self.session.execute(text(statement), parameters)

    def add(self, table: str, **values: Any) -> Any:
        """Insert a row; returns its id, where it has one."""
        target = METADATA.tables[table]
        if "tenant_id" in target.c:
            values.setdefault("tenant_id", self.tenant_id)
        statement = insert(target).values(**values)
        if "id" in target.c:
            return self.session.execute(statement.returning(target.c.id)).scalar_one()
        self.session.execute(statement)
        return None

    # --- projects and connections -------------------------------------------------------------------------------------

    def project(self, title: str = "Shop", timezone: str = "UTC", **values: Any) -> int:
        return self.add("projects", title=title, timezone=timezone, **values)

    def connection(self, kind: str = "jira", name: str = "", **values: Any) -> int:
        name = name or f"{kind}-{next(self.numbers)}"
        defaults = {"base_url": f"https://{name}.example.com", "auth": "", "options": {}}
        connection_id = self.add("connections", kind=kind, name=name, **{**defaults, **values})
        if kind == "jira":
            for status, (status_id, category) in STATUSES.items():
                self.status(connection_id, status_id, status, category)
        return connection_id

    def scope(self, connection_id: int, project_id: int, key: str = "AB", **values: Any) -> int:
        return self.add("sync_scopes", connection_id=connection_id, project_id=project_id, external_key=key, **values)

    def status(self, connection_id: int, status_id: str, name: str, category: str) -> None:
        self.add("jira_statuses", connection_id=connection_id, status_id=status_id, name=name, category=category)

    def severity_field(self, connection_id: int) -> None:
        self.add("jira_fields", connection_id=connection_id, field_id=SEVERITY_FIELD, name="Severity", role="severity")

    # --- Jira ---------------------------------------------------------------------------------------------------------

    def issue(self, scope_id: int, created: datetime, history: History = (), *, key: str = "", **values: Any) -> str:
        """An issue with its changes, and what follows from them for its columns; returns its issue_id."""
        number = next(self.numbers)
        scope = self.sql("SELECT * FROM sync_scopes WHERE id = :id", id=scope_id).one()
        defaults: dict[str, Any] = {
            "issue_id": str(10_000 + number),
            "issuekey": key or f"{scope.external_key}-{number}",
            "issuetype": "Bug",
            "status": "To Do",
            "priority": None,
            "severity_issue": None,
            "resolution": None,
        }
        now = {**defaults, **values}
        for _, field, _, after in history:
            now[CURRENT_COLUMNS[field]] = after
        project_key = now["issuekey"].split("-")[0]
        status_id, category = STATUSES.get(now["status"], (None, None))
        now = {
            "project": project_key,
            "project_id": self.sql(
                "SELECT project_id FROM sync_scopes WHERE connection_id = :connection AND external_key = :key",
                connection=scope.connection_id,
                key=project_key,
            ).scalar(),
            "status_id": status_id,
            "status_category": category,
            **now,
        }
        empty: dict[str, Any] = {
            name: [] for name in ("components", "fix_versions", "subtasks", "labels", "linked_issues")
        }
        self.add(
            "jira_table_history",
            connection_id=scope.connection_id,
            sync_scope_id=scope_id,
            summary="",
            created=created,
            updated=created,
            synced_at=created,
            **empty,
            **now,
        )
        self.changes(scope.connection_id, now["issue_id"], history)
        return str(now["issue_id"])

    def changes(self, connection_id: int, issue_id: str, history: History) -> None:
        """Changes, each a history of its own; those of one time are items of one history."""
        previous: datetime | None = None
        change_id, item_index = "", 0
        for at, field, before, after in history:
            item_index = item_index + 1 if at == previous else 0
            change_id = change_id if at == previous else str(next(self.numbers))
            previous = at
            self.change(connection_id, issue_id, at, field, before, after, change_id=change_id, item_index=item_index)

    def change(
        self,
        connection_id: int,
        issue_id: str,
        at: datetime,
        field: str,
        before: str | None,
        after: str | None,
        **values: Any,
    ) -> None:
        ids: dict[str, Any] = {}
        if field == "status":
            ids = {"from_value": STATUSES[before or "To Do"][0], "to_value": STATUSES[after or "To Do"][0]}
        if field == "resolution":
            ids = {"from_value": before and "7", "to_value": after and "7"}
        defaults = {"change_id": str(next(self.numbers)), "item_index": 0, "from_text": before, "to_text": after}
        self.add(
            "jira_issue_changes",
            connection_id=connection_id,
            issue_id=issue_id,
            field=SEVERITY_FIELD if field == "severity" else field,
            field_name=field,
            changed_at=at,
            **{**defaults, **ids, **values},
        )

    # --- tests --------------------------------------------------------------------------------------------------------

    def repository(self, project_id: int, title: str = "shop") -> int:
        external_id = str(next(self.numbers))
        return self.add("repositories", project_id=project_id, title=title, provider="gitlab", external_id=external_id)

    def case(self, **values: Any) -> int:
        return self.add("test_cases", **{"title": "pays", "labels": [], "automated": True, **values})

    def run(self, project_id: int, execution_date: datetime | None, statuses: Iterable[str] = (), **values: Any) -> int:
        """A run with one result of a new case for each status."""
        defaults = {"title": "nightly", "status": "completed"}
        run_id = self.add("test_runs", project_id=project_id, execution_date=execution_date, **{**defaults, **values})
        for status in statuses:
            self.result(run_id, self.case(), status)
        return run_id

    def result(self, run_id: int, case_id: int, status: str, **values: Any) -> int:
        return self.add("test_run_results", test_run_id=run_id, test_case_id=case_id, status=status, **values)

    def report(self, project_id: int) -> int:
        content_hash = str(next(self.numbers))
        return self.add(
            "allure_report", project_id=project_id, name="", content_hash=content_hash, summary={}, environment={}
        )

    def attempts(self, report_id: int, test_key: str, statuses: Sequence[str], case_id: int | None = None) -> None:
        """The attempts of one test, the first one first."""
        for number, status in enumerate(statuses, 1):
            self.add(
                "allure_scenarios",
                allure_report_id=report_id,
                test_key=test_key,
                status=status,
                attempt=number,
                is_retry=number < len(statuses),
                retries=number - 1,
                result_uuid=f"{test_key}-{number}",
                test_case_id=case_id,
                name=test_key,
                identity_version=1,
                case_path="",
                case_name=test_key,
                framework="pytest",
                parameters={},
                parameters_hash="",
                labels=[],
                links=[],
                attachments=[],
                flaky=False,
            )

    # --- GitLab -------------------------------------------------------------------------------------------------------

    def activity(
        self, connection_id: int, project_id: int | None, mr_id: int, who: str | None, activity: str, at: datetime,
        **values: Any,
    ) -> None:  # fmt: skip
        """Who did what to a merge request; `who` is a username, and `gitlab/who` the account."""
        defaults = {
            "external_project_id": "55",
            "external_id": str(next(self.numbers)),
            "account_id": who and f"gitlab/{who}",
            "username": who,
        }
        self.add(
            "gitlab_mr_activities",
            connection_id=connection_id,
            project_id=project_id,
            mr_id=mr_id,
            activity=activity,
            occurred_at=at,
            **{**defaults, **values},
        )

    def event(self, connection_id: int, project_id: int | None, who: str | None, at: datetime, **values: Any) -> None:
        defaults = {
            "external_project_id": "55",
            "external_id": str(next(self.numbers)),
            "author_id": who and f"gitlab/{who}",
            "author": who,
            "action": "commented on",
        }
        self.add(
            "gitlab_events",
            connection_id=connection_id,
            project_id=project_id,
            occurred_at=at,
            **{**defaults, **values},
        )

    def push(self, connection_id: int, project_id: int, who: str, at: datetime, push_action: str = "pushed") -> None:
        self.event(
            connection_id, project_id, who, at, action="pushed to", push_action=push_action, push_ref_type="branch",
            push_commits=3,
        )  # fmt: skip

    def identity(self, who: str, **values: Any) -> int:
        defaults = {"source": "gitlab", "external_id": f"gitlab/{who}", "username": who}
        return self.add("user_identities", **{**defaults, **values})

    # --- summaries ----------------------------------------------------------------------------------------------------

    def settle(self, as_of: datetime, *, limit: int = 1000, names: Iterable[str] = tuple(SUMMARIES)) -> dict[str, int]:
        """Take marks until none is left; returns the rows written by summary. What is stored is then what is right."""
        written = dict.fromkeys(names, 0)
        for name in written:
            while True:
                counts = summaries.take_and_recompute(self.session, name, as_of=as_of, limit=limit)
                if not counts.keys:
                    break
                written[name] += counts.rows_written
            assert summaries.differences(self.session, name, as_of=as_of) == (0, []), name
        return written

    def table(self, name: str, columns: str, order: str = "1") -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.sql(f"SELECT {columns} FROM {name} ORDER BY {order}")]
