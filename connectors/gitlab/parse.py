"""Payloads of GitLab to records, by stream. Pure: the same payload always gives the same records.

What belongs here: which parser reads which stream. What does not: the parsers, which stand with their subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from connectors.base import ParseContext
from connectors.gitlab import names
from connectors.gitlab.activity import parse_event
from connectors.gitlab.deployments import parse_deployment, parse_environment
from connectors.gitlab.merge_request_parse import parse_merge_request
from connectors.gitlab.owners import parse_owner_file
from connectors.gitlab.pipelines import parse_job, parse_pipeline
from connectors.gitlab.project import parse_member, parse_project
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
    names.PROJECT: parse_project,
    names.MEMBERS: parse_member,
    names.MERGE_REQUESTS: parse_merge_request,
    names.EVENTS: parse_event,
    names.PIPELINES: parse_pipeline,
    names.JOBS: parse_job,
    names.ENVIRONMENTS: parse_environment,
    names.DEPLOYMENTS: parse_deployment,
    names.CODE_OWNERS: parse_owner_file,
}
