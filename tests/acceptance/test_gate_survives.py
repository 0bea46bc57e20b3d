"""Redis is killed in the middle of a sync: slower, and not wrong. Two workers share what the source bears."""

from __future__ import annotations

from datetime import timedelta

from factories.snapshots import count
from factories.stack import Stack, wait_until

from connectors.gitlab.simulator import GitLabSimulator
from models.store.windows import backfills
from workers.embedded import EmbeddedServers

TOKEN = {"token": "sim-token"}


def test_redis_killed_in_the_middle_of_a_sync_makes_it_slower_and_not_wrong(stack: Stack) -> None:
    simulator = GitLabSimulator(merge_requests=300, seed=3, latency_ms=40)
    since = (simulator.clock.now() - timedelta(days=3_000)).isoformat()
    with simulator.serve() as server:
        scope_id = stack.add_scope("gitlab", server.base_url, TOKEN, "101", "Shop")
        stack.start_beat()
        worker = stack.start_worker()
        # One window that takes seconds, so that Redis is surely killed in the middle of it.
        job_id = stack.enqueue("collect.sync_scope", scope_id=scope_id, stream="merge_requests", since=since)
        wait_until(lambda: stack.family(job_id).rows_read > 30, seconds=90, what="the sync is in the middle")
        servers = EmbeddedServers(stack.home)
        broker = servers._broker_process()
        assert broker is not None
        broker.kill()
        read = stack.family(job_id).rows_read
        wait_until(lambda: stack.family(job_id).rows_read > read, seconds=60, what="the windows under way go on")
        servers.start_broker()
        # Celery ends a worker whose broker died while it held a message; what runs is ended first, and whoever
        # supervises the worker starts another, as `plumbline up` does.
        wait_until(
            lambda: worker.poll() is not None or stack.family(job_id).finished == stack.family(job_id).total,
            seconds=60,
            what="the worker ends, or all is done",
        )
        if worker.poll() is not None:
            stack.start_worker()
        stack.wait(job_id, seconds=150)
    assert count(stack.database, "gitlab_mr_lead_times") == 300
    with stack.database.transaction() as session:
        assert backfills(session) == []
