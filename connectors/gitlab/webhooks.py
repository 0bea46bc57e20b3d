"""GitLab's webhooks: who sent one, and which merge request, pipeline or deployment it tells of.

Pure: no request and no clock. What belongs here: headers and fields of a delivery. What does not: making hooks at the
source (hooks.py), storing deliveries and reading what they name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from connectors.base import Hint
from connectors.decoding import cleaned, decoded
from connectors.gitlab.merge_requests import merge_request_id
from connectors.gitlab.names import DEPLOYMENTS, MERGE_REQUESTS, PIPELINES
from connectors.signatures import is_same, is_standard_webhook, lowered
from models.errors import BadRecordError

KEPT_HEADERS = frozenset(
    {
        "content-type", "user-agent", "x-gitlab-instance", "x-gitlab-event", "x-gitlab-event-uuid",
        "x-gitlab-webhook-uuid", "idempotency-key", "webhook-id", "webhook-timestamp",
    }
)  # fmt: skip

LONGEST_NAME_CHARACTERS = 200


class _Project(msgspec.Struct):
    id: int
    path_with_namespace: str | None = None


class _Thing(msgspec.Struct):
    """A merge request, or whatever else an event is about."""

    iid: int | None = None
    target_project_id: int | None = None


class _Kind(msgspec.Struct):
    """What any event says of itself; some say the one, some the other."""

    object_kind: str | None = None
    event_name: str | None = None


class _OfMergeRequest(msgspec.Struct):
    object_attributes: _Thing


class _OfNote(msgspec.Struct):
    merge_request: _Thing | None = None


class _Numbered(msgspec.Struct):
    id: int


class _OfPipeline(msgspec.Struct):
    object_attributes: _Numbered


class _OfDeployment(msgspec.Struct):
    deployment_id: int


class _InProject(msgspec.Struct):
    project: _Project


_KIND = msgspec.json.Decoder(_Kind)
_OF_MERGE_REQUEST = msgspec.json.Decoder(_OfMergeRequest)
_OF_NOTE = msgspec.json.Decoder(_OfNote)
_OF_PIPELINE = msgspec.json.Decoder(_OfPipeline)
_OF_DEPLOYMENT = msgspec.json.Decoder(_OfDeployment)
_IN_PROJECT = msgspec.json.Decoder(_InProject)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime) -> bool:
    """Whether one of the secrets signed these bytes, or came along as the token where nothing is signed.

    A hook that signs (GitLab 19 and later) never sends its token, so what carries a signature is judged by that alone.

    Source: https://docs.gitlab.com/user/project/integrations/webhooks/

    Args:
        headers: in any case.
        body: the bytes as they came.
        secrets: that are valid now; two while one replaces the other.
        now: aware; a signature may be five minutes old.
    """
    known = lowered(headers)
    if "webhook-signature" in known:
        return any(is_standard_webhook(known, body, secret, now) for secret in secrets)
    token = known.get("x-gitlab-token", "")
    return any(bool(secret) and is_same(token, secret) for secret in secrets)


def hints(headers: Mapping[str, str], body: bytes) -> Hint:
    """What a delivery says has changed.

    Args:
        headers: in any case.
        body: whose signature was found to be good.

    Raises:
        BadRecordError: it is no delivery of GitLab's; the message says why.
    """
    known = lowered(headers)
    event_type = known.get("x-gitlab-event", "")
    if not event_type or len(event_type) > LONGEST_NAME_CHARACTERS:
        raise BadRecordError("X-Gitlab-Event: missing or too long", field="X-Gitlab-Event")
    payload = cleaned(body)
    kind = decoded(payload, _KIND)
    if not kind.object_kind and not kind.event_name:
        raise BadRecordError("object_kind: missing", field="object_kind")
    hint = Hint(delivery_key=_delivery_key(known, body), event_type=event_type, payload=payload)
    named = _named(kind.object_kind, payload)
    if named is None:
        return hint
    project = decoded(payload, _IN_PROJECT).project
    stream, number, owner_id = named
    project_id = owner_id or project.id
    return msgspec.structs.replace(
        hint,
        stream=stream,
        scope_keys=tuple(filter(None, (str(project_id), project.path_with_namespace))),
        external_ids=(merge_request_id(project_id, number) if stream == MERGE_REQUESTS else str(number),),
    )


def _named(object_kind: str | None, payload: bytes) -> tuple[str, int, int | None] | None:
    """The stream and number of what an event tells of, and the project that has it, where that may be another.

    None for pushes, jobs, notes on issues: nothing collected changes by them, or a pipeline tells of it as well.
    """
    if object_kind == "pipeline":
        return PIPELINES, decoded(payload, _OF_PIPELINE).object_attributes.id, None
    if object_kind == "deployment":
        return DEPLOYMENTS, decoded(payload, _OF_DEPLOYMENT).deployment_id, None
    subject = _merge_request(object_kind, payload)
    if subject is None:
        return None
    if subject.iid is None:
        raise BadRecordError("iid: missing", field="iid")
    return MERGE_REQUESTS, subject.iid, subject.target_project_id


def _merge_request(object_kind: str | None, payload: bytes) -> _Thing | None:
    if object_kind == "merge_request":
        return decoded(payload, _OF_MERGE_REQUEST).object_attributes
    if object_kind == "note":
        return decoded(payload, _OF_NOTE).merge_request
    return None


def _delivery_key(headers: Mapping[str, str], body: bytes) -> str:
    """The id of a delivery; servers before 17.4 give none, and then the same bytes are the same delivery."""
    key = headers.get("webhook-id") or headers.get("idempotency-key")
    if key and len(key) <= LONGEST_NAME_CHARACTERS:
        return key
    event = headers.get("x-gitlab-event", "").encode()
    return "sha256:" + hashlib.sha256(event + b"\0" + body).hexdigest()
