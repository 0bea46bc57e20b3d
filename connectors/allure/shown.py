"""What a source shows of a launch before its results are read, as the payload that is staged, and its record.

Neither a watched directory nor a server has JSON of a launch as such, so this is ours. What does not belong here:
results (parse.py), and where launches come from (watched.py, server.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

import msgspec

from connectors.base import Item, ParseContext
from connectors.decoding import Time, decoded
from models.errors import BadRecordError
from models.records import Batch, TestLaunch

LAUNCHES = "launches"
"""The one stream."""


class ShownLaunch(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A launch as a watched directory or a server shows it."""

    id: str
    name: str
    fingerprint: str
    updated_at: Time
    build_name: str | None = None
    ci_url: str | None = None
    summary: dict[str, int] | None = None
    started_at: Time | None = None

    def item(self) -> Item:
        """As it is staged."""
        return Item(self.id, msgspec.json.encode(self))


_SHOWN = msgspec.json.Decoder(ShownLaunch)


def parse(stream: str, payload: bytes, context: ParseContext) -> Batch:
    """Turn what is shown of a launch into its record.

    Raises:
        BadRecordError: it is not what this module writes.
    """
    del context
    if stream != LAUNCHES:
        raise BadRecordError(f"There is no stream {stream!r}.")
    shown = decoded(payload, _SHOWN)
    record = TestLaunch(
        external_id=shown.id,
        launch_key=shown.id,
        name=shown.name,
        fingerprint=shown.fingerprint,
        build_name=shown.build_name,
        ci_url=shown.ci_url,
        summary=shown.summary,
        started_at=shown.started_at,
        updated_at=shown.updated_at,
    )
    return Batch(launches=(record,))


def fingerprint(facts: Iterable[tuple[str | int | datetime | None, ...]]) -> str:
    """A short digest of facts in their order."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update("\0".join(map(str, fact)).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()[:32]
