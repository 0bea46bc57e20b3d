"""A sync is disturbed in every way that happens, and ends as if nothing had been."""

from __future__ import annotations

import redis
from factories.snapshots import count, snapshot
from factories.stack import Stack, wait_until

from connectors.gitlab.simulator import GitLabSimulator

TOKEN = {"token": "sim-token"}
KEY = "101"


def rows_read(stack: Stack, job_id: int) -> int:
    return stack.family(job_id).rows_read


def test_worker_killed_in_the_middle_and_started_again_ends_as_undisturbed(stack: Stack, second_stack: Stack) -> None:
    with GitLabSimulator(merge_requests=300, seed=3, latency_ms=3).serve() as server:
        for each in (stack, second_stack):
            each.add_scope("gitlab", server.base_url, TOKEN, KEY, "Shop")
        second_stack.start_worker()
        undisturbed = second_stack.enqueue("collect.sync_all")
        stack.start_beat()
        job_id = stack.enqueue("collect.sync_all")
        for threshold in (20, 120):
            worker = stack.start_worker()
            wait_until(lambda at=threshold: rows_read(stack, job_id) > at, seconds=60, what="the sync is in the middle")
            stack.kill(worker)
        assert stack.family(job_id).finished < stack.family(job_id).total
        stack.start_worker()
        stack.wait(job_id)
        second_stack.wait(undisturbed)
    assert count(stack.database, "gitlab_mr_lead_times") == 300
    assert snapshot(stack.database) == snapshot(second_stack.database)


def test_broker_emptied_in_the_middle_loses_nothing(stack: Stack, second_stack: Stack) -> None:
    with GitLabSimulator(merge_requests=200, seed=4, latency_ms=3).serve() as server:
        for each in (stack, second_stack):
            each.add_scope("gitlab", server.base_url, TOKEN, KEY, "Shop")
        second_stack.start_worker()
        undisturbed = second_stack.enqueue("collect.sync_all")
        stack.start_beat()
        stack.start_worker()
        job_id = stack.enqueue("collect.sync_all")
        wait_until(lambda: rows_read(stack, job_id) > 10, seconds=60, what="the sync is in the middle")
        with redis.Redis.from_url(stack.runtime.endpoints.redis_url or "") as broker:
            broker.flushall()
        stack.wait(job_id)
        second_stack.wait(undisturbed)
    assert snapshot(stack.database) == snapshot(second_stack.database)
