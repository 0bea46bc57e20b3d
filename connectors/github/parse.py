"""Payloads of GitHub to records, by stream.

What belongs here: which parser reads which stream, and what payloads look like. What does not: requests (client.py),
what fields mean (pull_requests.py, issues.py), and numbers over several records (models/measures). Pure: the same
payload always gives the same records.

Payloads are objects that client.py's readers join from the answers as received; each says its `repository`: `id`,
`full_name`, and the `key` by which the scope calls it. Beside it stand, of a pull request, `pull_request`, `commits`,
`reviews`, `timeline`, `review_comments` and `truncated`; of an issue, `issue`, `events` and `truncated`; of a run,
`run` and `jobs`; of a job, `job`; of a deployment, `deployment` and `statuses`; of an environment, `environment`. A
null says that the source does not show that part; an empty list, that there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from connectors.base import ParseContext
from connectors.decoding import decoded
from connectors.github.deployments import parse_deployment, parse_environment
from connectors.github.issues import parse_issue
from connectors.github.names import DEPLOYMENTS, ENVIRONMENTS, ISSUES, JOBS, MERGE_REQUESTS, PIPELINES, STATUSES
from connectors.github.pull_requests import parse_pull_request
from connectors.github.workflow_runs import parse_job, parse_run
from models.records import Batch, Status


class _Status(msgspec.Struct, gc=False):
    id: str
    name: str
    category: str


_STATUS = msgspec.json.Decoder(_Status)


def parse(stream: str, payload: bytes, context: ParseContext) -> Batch:
    """Turn one staged payload into records.

    Args:
        stream: one of `connectors.github.names`.
        payload: JSON as staged.
        context: the options `bot_usernames` and `human_usernames` overrule what names and flags say; `bug_labels` names
            the labels that make an issue a bug, in place of `bug`, `defect` and what ends in them (`type: bug`).

    Raises:
        BadRecordError: the payload cannot be understood; the message begins with the field.
    """
    return _PARSERS[stream](payload, context)


def _parse_status(payload: bytes, context: ParseContext) -> Batch:
    del context
    shown = decoded(payload, _STATUS)
    return Batch(statuses=(Status(status_id=shown.id, name=shown.name, category=shown.category),))


_PARSERS: Mapping[str, Callable[[bytes, ParseContext], Batch]] = {
    MERGE_REQUESTS: parse_pull_request,
    ISSUES: parse_issue,
    STATUSES: _parse_status,
    PIPELINES: parse_run,
    JOBS: parse_job,
    ENVIRONMENTS: parse_environment,
    DEPLOYMENTS: parse_deployment,
}
