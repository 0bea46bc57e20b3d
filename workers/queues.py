"""The closed set of queues, by cost and urgency. A name that is not here fails when it is used, not in the night."""

from __future__ import annotations

import enum


class Queue(enum.StrEnum):
    """Where a task waits."""

    URGENT = "urgent"
    """Milliseconds to seconds: planning, webhooks, what a person waits for."""
    SYNC = "sync"
    """Minutes: reading from a source. It waits on the network and then parses."""
    COMPUTE = "compute"
    """Seconds to minutes of SQL: summaries and read models."""
    UPKEEP = "upkeep"
    """Whenever there is time: pruning, archiving."""
    BACKFILL = "backfill"
    """Hours to days: windows of history. Last, because nothing else may wait for it."""


ALL_QUEUES = ",".join(Queue)
"""For `celery worker -Q`, which takes from the first that has something."""
BEFORE_BACKFILL = tuple(queue for queue in Queue if queue is not Queue.BACKFILL)
"""What a backfill lets go first."""
