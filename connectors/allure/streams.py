"""What is collected of Allure, and how it is entered in the registry: a watched directory, or a server, by the address.

What belongs here: the stream and the two modes. What does not: either of them (watched.py, server.py).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors.allure.server import AllureServer
from connectors.allure.shown import LAUNCHES, parse
from connectors.allure.watched import WatchedDirectory
from connectors.base import ConnectionSpec, Connector, ConnectorKind, RateGate, ScopeSpec, Stream

LAUNCH_STREAM = Stream(
    name=LAUNCHES,
    # Longer than a folder may have to be quiet, and than the clocks of file servers differ.
    overlap=timedelta(hours=6),
)


def connect(spec: ConnectionSpec, gate: RateGate) -> Connector:
    """A directory for `file:///…`, a server for `http(s)://…`."""
    return WatchedDirectory(spec) if urlsplit(spec.base_url).scheme == "file" else AllureServer(spec, gate)


def bring_results(connector: Any, scope: ScopeSpec, external_id: str, into: Path) -> Path | None:
    """See `connectors.base.BringResults`."""
    if isinstance(connector, WatchedDirectory):
        return connector.bring(scope, external_id)
    return connector.bring(scope, external_id, into)  # type: ignore[no-any-return]  # an AllureServer


KIND = ConnectorKind(
    kind="allure",
    streams={LAUNCHES: LAUNCH_STREAM},
    connect=connect,
    parse=parse,
    bring_results=bring_results,
)
