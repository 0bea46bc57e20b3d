"""The Celery application: `celery -A workers.app worker|beat|flower`."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from workers import runtime
from workers.logs import configure_logging

app = Celery("plumbline")
app.config_from_object("celeryconfig")
app.set_default()


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery ships no types
def _configure_logging(**_kwargs: Any) -> None:
    """Our formatter instead of Celery's, for its records and ours."""
    configure_logging(runtime.current().settings)
    # A job says once how it ended (`job_finished`); Celery would say twice more that its message came and went.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
