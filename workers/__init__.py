"""How work runs: app, settings, task base, retry, locks, queues, beat, logs and embedded servers."""
