"""The names of GitLab's streams."""

from __future__ import annotations

MERGE_REQUESTS = "merge_requests"
EVENTS = "events"
