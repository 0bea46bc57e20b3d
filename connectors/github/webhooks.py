"""GitHub's webhooks: who sent one, and which object it tells of.

Pure: no request and no clock. What belongs here: headers and fields of a delivery. What does not: making hooks at the
source (hooks.py), storing deliveries and reading the objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from connectors.base import Hint
from connectors.decoding import cleaned, decoded
from connectors.github.names import DEPLOYMENTS, ISSUES, JOBS, MERGE_REQUESTS, PIPELINES
from connectors.signatures import is_hub_signature, lowered
from models.errors import BadRecordError

KEPT_HEADERS = frozenset(
    {
        "content-type", "user-agent", "x-github-event", "x-github-delivery", "x-github-hook-id",
        "x-github-hook-installation-target-id", "x-github-hook-installation-target-type",
        "x-github-enterprise-host", "x-github-enterprise-version",
    }
)  # fmt: skip

LONGEST_NAME_CHARACTERS = 200


class _Repository(msgspec.Struct):
    id: int
    full_name: str | None = None


class _Thing(msgspec.Struct):
    """An issue or a pull request; an issue that has a pull request is one."""

    number: int
    pull_request: msgspec.Raw = msgspec.Raw(b"")


class _Numbered(msgspec.Struct):
    id: int


class _InRepository(msgspec.Struct):
    repository: _Repository


class _OfPullRequest(msgspec.Struct):
    pull_request: _Thing


class _OfIssue(msgspec.Struct):
    issue: _Thing


class _OfRun(msgspec.Struct):
    workflow_run: _Numbered


class _OfJob(msgspec.Struct):
    workflow_job: _Numbered


class _OfDeployment(msgspec.Struct):
    deployment: _Numbered


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_IN_REPOSITORY = msgspec.json.Decoder(_InRepository)
_OF_PULL_REQUEST = msgspec.json.Decoder(_OfPullRequest)
_OF_ISSUE = msgspec.json.Decoder(_OfIssue)
_OF_RUN = msgspec.json.Decoder(_OfRun)
_OF_JOB = msgspec.json.Decoder(_OfJob)
_OF_DEPLOYMENT = msgspec.json.Decoder(_OfDeployment)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime) -> bool:
    """Whether one of the secrets signed these bytes.

    GitHub signs no time; that a delivery is stored once under its id is what makes a recorded one worthless.

    Source: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries

    Args:
        headers: in any case; the older signature by SHA-1 is not looked at.
        body: the bytes as they came.
        secrets: that are valid now; two while one replaces the other.
        now: not looked at.
    """
    del now
    given = lowered(headers).get("x-hub-signature-256", "")
    return any(is_hub_signature(given, body, secret) for secret in secrets)


def hints(headers: Mapping[str, str], body: bytes) -> Hint:
    """What a delivery says has changed.

    Args:
        headers: in any case.
        body: whose signature was found to be good.

    Raises:
        BadRecordError: it is no delivery of GitHub's; the message says why.
    """
    known = lowered(headers)
    event_type = known.get("x-github-event", "")
    if not event_type or len(event_type) > LONGEST_NAME_CHARACTERS:
        raise BadRecordError("X-GitHub-Event: missing or too long", field="X-GitHub-Event")
    payload = cleaned(body)
    decoded(payload, _OBJECT)
    hint = Hint(delivery_key=_delivery_key(known, body), event_type=event_type, payload=payload)
    subject = _subject(event_type, payload)
    if subject is None:
        return hint
    stream, external_id = subject
    repository = decoded(payload, _IN_REPOSITORY).repository
    return msgspec.structs.replace(
        hint,
        stream=stream,
        scope_keys=tuple(filter(None, (str(repository.id), repository.full_name))),
        external_ids=(f"{repository.id}{external_id}" if external_id[0] in "!#" else external_id,),
    )


def _subject(event_type: str, payload: bytes) -> tuple[str, str] | None:
    """The stream and the id of what an event is about; None for pings, pushes and the like."""
    if event_type.startswith("pull_request"):
        return MERGE_REQUESTS, f"!{decoded(payload, _OF_PULL_REQUEST).pull_request.number}"
    if event_type in ("issues", "issue_comment"):
        thing = decoded(payload, _OF_ISSUE).issue
        is_pull_request = bytes(thing.pull_request) not in (b"", b"null")
        return (MERGE_REQUESTS, f"!{thing.number}") if is_pull_request else (ISSUES, f"#{thing.number}")
    if event_type == "workflow_run":
        return PIPELINES, str(decoded(payload, _OF_RUN).workflow_run.id)
    if event_type == "workflow_job":
        return JOBS, str(decoded(payload, _OF_JOB).workflow_job.id)
    if event_type in ("deployment", "deployment_status"):
        return DEPLOYMENTS, str(decoded(payload, _OF_DEPLOYMENT).deployment.id)
    return None


def _delivery_key(headers: Mapping[str, str], body: bytes) -> str:
    """The id of a delivery, the same when it is sent again; a proxy may have taken it away."""
    key = headers.get("x-github-delivery")
    if key and len(key) <= LONGEST_NAME_CHARACTERS:
        return key
    event = headers.get("x-github-event", "").encode()
    return "sha256:" + hashlib.sha256(event + b"\0" + body).hexdigest()
