"""From a change at the source to its row through real processes, and through what happens to them on the way."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from factories.stack import Stack, wait_until
from sqlalchemy import text

from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from models.store import connections
from tasks import hooks

GITLAB_AUTH = {"token": "sim-token"}
JIRA_AUTH = {"token": "sim-token", "user": "sim@example.test"}


def register(stack: Stack, public_url: str) -> None:
    """Webhooks for every connection."""
    with stack.database.transaction() as session:
        rows = [connections.connection(session, each.id) for each in connections.connections(session)]
    for row in rows:
        states = hooks.enable(stack.database, stack.runtime.settings, row, public_url=public_url)
        assert all(state.is_enabled for state in states), states


def scalar(stack: Stack, query: str, **values: Any) -> Any:
    with stack.database.transaction() as session:
        return session.execute(text(query), values).scalar_one_or_none()


def title(stack: Stack, iid: int) -> Any:
    return scalar(stack, "SELECT title FROM gitlab_mr_lead_times WHERE mr_id = :iid", iid=iid)


def summary(stack: Stack, issue_id: int) -> Any:
    return scalar(stack, "SELECT summary FROM jira_table_history WHERE issue_id = :id", id=str(issue_id))


@pytest.mark.slow
def test_changes_arrive_though_webhooks_double_and_overtake_and_the_broker_and_the_worker_are_lost(
    stack: Stack,
) -> None:
    gitlab, jira = GitLabSimulator(merge_requests=6, seed=1), JiraSimulator(issues=6, seed=1)
    with gitlab.serve() as code, jira.serve() as tracker:
        stack.add_scope("gitlab", code.base_url, GITLAB_AUTH, "101", "Shop")
        stack.add_scope("jira", tracker.base_url, JIRA_AUTH, "PAY", "Shop")
        stack.start_beat()
        worker = stack.start_worker()
        stack.run("collect.sync_all")
        register(stack, stack.start_api())
        for simulator in (gitlab, jira):
            simulator.webhooks.sender.trouble.doubled_ratio = 0.5
            simulator.webhooks.sender.trouble.disorder_seconds = 0.3

        # While all is well.
        issue_id = next(iter(jira.world.issues))
        for number in range(5):
            gitlab.update_merge_request(2, title=f"Version {number}")
            jira.edit_issue(issue_id, summary=f"Version {number}")
        wait_until(
            lambda: (title(stack, 2), summary(stack, issue_id)) == ("Version 4", "Version 4"),
            seconds=30,
            what="both changes are in their tables",
        )
        assert gitlab.webhooks.sender.settle()
        assert jira.webhooks.sender.settle()
        assert {each.status for each in gitlab.webhooks.sender.sent} <= {200, 202}
        assert scalar(stack, "SELECT count(*) FROM webhook_deliveries") == 10  # each once, however often it was sent

        # The broker forgets everything while no worker is there.
        stack.kill(worker)
        gitlab.update_merge_request(3, title="Written while nobody worked")
        assert gitlab.webhooks.sender.settle()
        with redis.Redis.from_url(stack.runtime.endpoints.redis_url or "") as broker:
            broker.flushall()
        worker = stack.start_worker()
        wait_until(
            lambda: title(stack, 3) == "Written while nobody worked", seconds=90, what="the lost message is sent again"
        )

        # The worker is killed between taking a delivery and writing its row.
        gitlab.set_faults("slow:1:seconds=3:path=*/notes")
        gitlab.update_merge_request(4, title="Taken and not written")
        wait_until(
            lambda: scalar(
                stack, "SELECT count(*) FROM webhook_deliveries WHERE processed_at IS NULL AND attempts > 0"
            ),
            seconds=30,
            what="the delivery is taken",
        )
        stack.kill(worker)
        assert title(stack, 4) != "Taken and not written"
        gitlab.set_faults("")
        stack.start_worker()
        wait_until(
            lambda: title(stack, 4) == "Taken and not written",
            seconds=120,
            what="the dead worker's delivery is taken up",
        )
    assert scalar(stack, "SELECT count(*) FROM webhook_deliveries WHERE last_error IS NOT NULL") == 0
