"""Celery's settings, each with its reason. Values that people choose come from workers.settings."""

from kombu.entity import Queue as BrokerQueue

from workers import runtime
from workers.enqueue import LONGEST_COUNTDOWN_SECONDS
from workers.queues import Queue

LONGEST_HARD_LIMIT_SECONDS = 3_600
"""No task may run longer; a contract test holds every task to it."""

broker_url = runtime.current().endpoints.broker_url

# The tasks; by name, because imports go from tasks to workers only.
imports = (
    "tasks.collect",
    "tasks.identify",
    "tasks.ingest",
    "tasks.maintain",
    "tasks.rebuild",
    "tasks.receive",
    "tasks.reconcile",
    "tasks.replay",
    "tasks.summarise",
)

# A message is acknowledged when its task has ended, so that a killed worker's messages are delivered again.
task_acks_late = True
# Late acknowledgement alone loses the task whose child process was killed.
task_reject_on_worker_lost = True
# An error was judged and written to job_runs; delivering its message again would run it twice.
task_acks_on_failure = True
task_acks_on_timeout = True
# A worker holds no message that it is not working on: what waits can be taken by another.
worker_prefetch_multiplier = 1
# Redis delivers an unacknowledged message again after this long. It must be longer than any task can run, or that task
# runs twice; and than any countdown.
visibility_timeout_seconds = LONGEST_HARD_LIMIT_SECONDS + LONGEST_COUNTDOWN_SECONDS + 300
broker_transport_options = (
    {
        "visibility_timeout": visibility_timeout_seconds,
        # How often, in broker events, it is looked for such messages; the default makes them wait a minute more.
        "unacked_restore_interval": 1,
        # Queues of one priority each: no extra keys to poll.
        "queue_order_strategy": "priority",
        "socket_timeout": 30,
        "socket_connect_timeout": 2,
        # Whoever publishes to a broker that is gone is told at once; the default asks again for six seconds. The row
        # is the truth, and beat sends it again.
        "max_retries": 0,
        "health_check_interval": 30,
    }
    if broker_url.startswith("redis")
    else {"confirm_publish": True}  # RabbitMQ: a message counts as sent when the server has it
)
# Only JSON: a message can never run code by being read.
task_serializer = "json"
accept_content = ["json"]
result_serializer = "json"
# job_runs has the truth; a result backend would be a second one.
task_ignore_result = True
result_backend = None
# The closed set of queues; a typo fails at publishing.
task_create_missing_queues = False
task_default_queue = Queue.URGENT.value
task_queues = [BrokerQueue(queue.value) for queue in Queue]  # type: ignore[no-untyped-call]  # kombu ships no types
# At SIGTERM running tasks get this long to end, and those that do not are delivered again at once.
worker_soft_shutdown_timeout = 8.0
# Also when idle, so that a task that arrives in that moment is not lost from sight.
worker_enable_soft_shutdown_on_idle = True
# The broker may start after us, and may go away for as long as it likes.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# After a lost connection running tasks go on: their rows, not their messages, are the truth.
worker_cancel_long_running_tasks_on_connection_loss = False
# A child that grew over this is replaced after its task; in KiB.
worker_max_memory_per_child = 250_000
worker_concurrency = runtime.current().settings.worker_concurrency
# What Flower needs and no more: task events with their sent time; no results, no tracebacks of secrets.
worker_send_task_events = True
task_send_sent_event = True
# Our logging, not Celery's (workers/app.py).
worker_hijack_root_logger = False
worker_redirect_stdouts = False
timezone = "UTC"
enable_utc = True
# Schedules are rows (workers/beat.py).
beat_scheduler = "workers.beat:RowScheduler"
beat_max_loop_interval = 1
