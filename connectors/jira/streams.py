"""What Plumbline collects of a Jira project, and the one entry of Jira in the registry of connectors."""

from __future__ import annotations

from datetime import timedelta

from connectors.base import ConnectorKind, Stream, Webhooks
from connectors.jira import hooks, webhooks
from connectors.jira.client import JiraConnector
from connectors.jira.parse import parse

STREAMS = (
    Stream(name="fields", overlap=timedelta(), is_incremental=False),
    Stream(name="statuses", overlap=timedelta(), is_incremental=False),
    Stream(name="priorities", overlap=timedelta(), is_incremental=False),
    Stream(name="versions", overlap=timedelta(), is_incremental=False),
    Stream(name="boards", overlap=timedelta(), is_incremental=False),
    Stream(name="sprints", overlap=timedelta(), is_incremental=False),
    # One that closes is asked for by id at once; this finds those of before, and looks a second time.
    Stream(name="closed_sprints", overlap=timedelta(), is_incremental=False, rests_for=timedelta(days=1)),
    Stream(
        name="issues",
        # Cloud's search index runs behind by up to a minute or more, and JQL knows whole minutes only.
        overlap=timedelta(minutes=6),
        depends_on=("fields", "statuses"),
    ),
)

KIND = ConnectorKind(
    kind="jira",
    streams={stream.name: stream for stream in STREAMS},
    connect=JiraConnector,
    parse=parse,
    webhooks=Webhooks(
        verify=webhooks.verify,
        hints=webhooks.hints,
        kept_headers=webhooks.KEPT_HEADERS,
        ensure=hooks.ensure,
        check=hooks.check,
        remove=hooks.remove,
    ),
)
