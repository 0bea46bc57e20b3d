"""The names of GitLab's streams."""

from __future__ import annotations

PROJECT = "project"
MEMBERS = "members"
MERGE_REQUESTS = "merge_requests"
EVENTS = "events"
PIPELINES = "pipelines"
JOBS = "jobs"
ENVIRONMENTS = "environments"
DEPLOYMENTS = "deployments"
CODE_OWNERS = "code_owners"
