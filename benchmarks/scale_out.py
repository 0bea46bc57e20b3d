"""The same backfill with one worker process and with two: how near to half the time do two of them come?

    python -m benchmarks.scale_out [--merge-requests N] [--latency-ms L] [--rounds R]

A first sync of merge requests from a simulated GitLab that takes 20 ms for each answer, so that it is the waiting that
is shared. The limit is 0.5: two who share without loss. Simulator, database, broker and workers run on this machine;
where its cores are busy, the ratio tells of them rather than of the sharing.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.sync import add_scope, clear, follow, rows_of, servers, simulator, workers
from workers import runtime
from workers.task import enqueue

LIMIT = 0.5


def backfill_seconds(home: Path, url: str, merge_requests: int, processes: int) -> float:
    """Sync everything from nothing with so many worker processes; the seconds from the first job to the last."""
    process = runtime.current()
    clear(process.database)
    add_scope(process.database, process.settings, "gitlab", url, "101")
    with workers(home, processes):
        job_id = enqueue(process.database, "collect.sync_all", trigger="cli", stream="merge_requests")
        seconds = follow(process.database, job_id, until_collected=f"backfill with {processes}")
    rows = rows_of(process.database, ("gitlab_mr_lead_times",))["gitlab_mr_lead_times"]
    assert rows == merge_requests, rows
    return seconds


def main() -> None:
    """Measure in turn and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merge-requests", type=int, default=1_500)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    home = Path(tempfile.mkdtemp(prefix="pl-bench-"))
    gitlab = {"merge_requests": arguments.merge_requests, "seed": 1, "latency_ms": arguments.latency_ms}
    try:
        with servers(home), simulator("gitlab", "GitLabSimulator", **gitlab) as url:
            for _ in range(arguments.rounds):
                for processes, measured in seconds.items():
                    measured.append(backfill_seconds(home, url, arguments.merge_requests, processes))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    one, two = median(seconds[1]), median(seconds[2])
    print("merge requests  latency  one worker  two workers  ratio  limit")
    print(
        f"{arguments.merge_requests:14,} {arguments.latency_ms:5.0f} ms {one:9.1f} s {two:10.1f} s"
        f" {two / one:6.2f} {LIMIT:6.2f}"
    )


if __name__ == "__main__":
    main()
