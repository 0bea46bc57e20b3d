"""What is collected from a GitLab project, and how GitLab is entered in the registry.

What belongs here: names of streams, their overlaps and parser versions. What does not: requests and payloads.
"""

from __future__ import annotations

from datetime import timedelta

from connectors.base import ConnectorKind, Stream, Webhooks
from connectors.gitlab import artifacts, hooks, names, webhooks
from connectors.gitlab.client import GitLabConnector
from connectors.gitlab.parse import parse

# For clocks, for replicas that lag, and for what is written by background jobs a little after its time.
_LAG = timedelta(minutes=5)

STREAMS = (
    # First, because it says which project is meant: the path of the scope may be given to another one later.
    Stream(name=names.PROJECT, overlap=timedelta(), is_incremental=False),
    Stream(name=names.MEMBERS, overlap=timedelta(), is_incremental=False),
    Stream(
        name=names.MERGE_REQUESTS,
        # GitLab does not touch `updated_at` again within a minute, so a note or an approval that follows another is
        # seen only by reading the merge request again after that minute; the rest is for clocks and lagging replicas.
        overlap=timedelta(minutes=10),
    ),
    Stream(
        name=names.EVENTS,
        # Events never change and are visible at once; some are written by background jobs a little after their time.
        overlap=timedelta(hours=1),
    ),
    Stream(name=names.PIPELINES, overlap=_LAG),
    Stream(name=names.JOBS, overlap=_LAG),
    Stream(name=names.ENVIRONMENTS, overlap=timedelta(), is_incremental=False),
    Stream(name=names.DEPLOYMENTS, overlap=_LAG, depends_on=(names.ENVIRONMENTS,)),
    Stream(name=names.CODE_OWNERS, overlap=timedelta(), is_incremental=False),
)

KIND = ConnectorKind(
    kind="gitlab",
    streams={stream.name: stream for stream in STREAMS},
    connect=GitLabConnector,
    parse=parse,
    is_forge=True,
    bring_results=artifacts.bring_results,
    webhooks=Webhooks(
        verify=webhooks.verify,
        hints=webhooks.hints,
        kept_headers=webhooks.KEPT_HEADERS,
        ensure=hooks.ensure,
        check=hooks.check,
        remove=hooks.remove,
    ),
)
