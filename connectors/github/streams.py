"""What is collected from a GitHub repository, and how GitHub is entered in the registry.

What belongs here: names of streams, their overlaps and parser versions. What does not: requests and payloads. Streams
have our names, so that what they bring is compared like any other forge's: pull requests are merge_requests.
"""

from __future__ import annotations

from datetime import timedelta

from connectors.base import ConnectorKind, Stream, Webhooks
from connectors.github import hooks, webhooks
from connectors.github.client import GitHubConnector
from connectors.github.names import DEPLOYMENTS, ENVIRONMENTS, ISSUES, JOBS, MERGE_REQUESTS, PIPELINES, STATUSES
from connectors.github.parse import parse

STREAMS = (
    Stream(name=STATUSES, overlap=timedelta(), is_incremental=False),
    # GitHub answers from replicas that may lag, and shows whole seconds.
    Stream(name=MERGE_REQUESTS, overlap=timedelta(minutes=10)),
    Stream(name=ISSUES, overlap=timedelta(minutes=10), depends_on=(STATUSES,)),
    Stream(name=PIPELINES, overlap=timedelta(minutes=10)),
    Stream(name=JOBS, overlap=timedelta(minutes=10)),
    Stream(name=ENVIRONMENTS, overlap=timedelta(), is_incremental=False),
    Stream(name=DEPLOYMENTS, overlap=timedelta(minutes=10), depends_on=(ENVIRONMENTS,)),
)

KIND = ConnectorKind(
    kind="github",
    streams={stream.name: stream for stream in STREAMS},
    connect=GitHubConnector,
    parse=parse,
    is_forge=True,
    webhooks=Webhooks(
        verify=webhooks.verify,
        hints=webhooks.hints,
        kept_headers=webhooks.KEPT_HEADERS,
        ensure=hooks.ensure,
        check=hooks.check,
        remove=hooks.remove,
    ),
)
