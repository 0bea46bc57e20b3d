"""Payloads of GitLab to records, by stream. Pure: the same payload always gives the same records.

What belongs here: which parser reads which stream. What does not: the parsers, which stand with their subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from connectors.base import ParseContext
from connectors.gitlab.activity import parse_event
from connectors.gitlab.merge_request_parse import parse_merge_request
from connectors.gitlab.names import EVENTS, MERGE_REQUESTS
from models.records import Batch


def parse(stream: str, payload: bytes, context: ParseContext) -> Batch:
    """Turn one staged payload into records.

    Args:
        stream: its name.
        payload: JSON as staged.
        context: the options `bot_usernames` and `human_usernames` overrule what names and flags say.

    Raises:
        BadRecordError: the payload cannot be understood; the message begins with the field.
    """
    return _PARSERS[stream](payload, context)


_PARSERS: Mapping[str, Callable[[bytes, ParseContext], Batch]] = {
    MERGE_REQUESTS: parse_merge_request,
    EVENTS: parse_event,
}
