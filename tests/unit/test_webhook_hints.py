"""What a delivery says has changed, read off real payloads and off everything that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.base import Hint
from connectors.gitlab import webhooks as gitlab
from connectors.jira import webhooks as jira
from models.errors import BadRecordError

MERGE_REQUEST = {
    "object_kind": "merge_request",
    "project": {"id": 101, "path_with_namespace": "acme/shop"},
    "object_attributes": {"id": 9, "iid": 7, "action": "update", "target_project_id": 101},
}
ISSUE = {"webhookEvent": "jira:issue_updated", "issue": {"id": "10040", "key": "PAY-7", "fields": {}}}


def of_gitlab(delivery: Any, **headers: str) -> Hint:
    return gitlab.hints({"X-Gitlab-Event": "Merge Request Hook"} | headers, json.dumps(delivery).encode())


def of_jira(delivery: Any, **headers: str) -> Hint:
    return jira.hints(headers, json.dumps(delivery).encode())


def test_a_merge_request_is_named_as_its_stream_names_it() -> None:
    hint = of_gitlab(MERGE_REQUEST, **{"idempotency-KEY": "k-1"})
    assert (hint.delivery_key, hint.event_type) == ("k-1", "Merge Request Hook")
    assert (hint.stream, hint.scope_keys, hint.external_ids) == ("merge_requests", ("101", "acme/shop"), ("101!7",))


def test_a_note_names_its_merge_request_and_a_note_on_something_else_nothing() -> None:
    note = {"object_kind": "note", "project": {"id": 101}, "object_attributes": {"noteable_type": "MergeRequest"}}
    hint = of_gitlab(note | {"merge_request": {"iid": 7, "target_project_id": 101}})
    assert hint.external_ids == ("101!7",)
    assert of_gitlab(note | {"issue": {"iid": 7}}).stream is None


def test_pipelines_and_deployments_are_named_by_their_numbers() -> None:
    project = {"project": {"id": 101, "path_with_namespace": "acme/shop"}}
    pipeline = of_gitlab({"object_kind": "pipeline", "object_attributes": {"id": 31, "iid": 3}} | project)
    assert (pipeline.stream, pipeline.scope_keys, pipeline.external_ids) == ("pipelines", ("101", "acme/shop"), ("31",))
    deployment = of_gitlab({"object_kind": "deployment", "deployment_id": 15, "status": "success"} | project)
    assert (deployment.stream, deployment.external_ids) == ("deployments", ("15",))
    with pytest.raises(BadRecordError):
        of_gitlab({"object_kind": "pipeline", "object_attributes": {"iid": 3}} | project)


def test_the_signed_id_counts_before_the_idempotency_key_and_the_bytes_where_there_is_none() -> None:
    assert of_gitlab(MERGE_REQUEST, **{"webhook-id": "a", "Idempotency-Key": "b"}).delivery_key == "a"
    first, second = of_gitlab(MERGE_REQUEST), of_gitlab({**MERGE_REQUEST, "user": {"id": 1}})
    assert first.delivery_key == of_gitlab(MERGE_REQUEST).delivery_key != second.delivery_key
    assert of_gitlab(MERGE_REQUEST, **{"Idempotency-Key": "x" * 5_000}).delivery_key.startswith("sha256:")
    assert of_jira(ISSUE, **{"X-Atlassian-Webhook-Identifier": "j-1"}).delivery_key == "j-1"
    assert of_jira(ISSUE).delivery_key.startswith("sha256:")


@pytest.mark.parametrize("kind", ["push", "issue", "build", "something_new", "note"])
def test_other_events_of_gitlab_tell_of_nothing(kind: str) -> None:
    assert of_gitlab({"object_kind": kind, "project": "not looked at"}).stream is None
    assert of_gitlab({"event_name": "user_add_to_team"}).stream is None


@pytest.mark.parametrize("event", ["sprint_closed", "jira:version_released", "board_updated", "something_new"])
def test_other_events_of_jira_tell_of_nothing(event: str) -> None:
    assert of_jira({"webhookEvent": event, "issue": "not looked at"}).stream is None


def test_an_issue_is_named_by_its_number_and_its_project() -> None:
    assert (of_jira(ISSUE).external_ids, of_jira(ISSUE).scope_keys) == (("10040",), ("PAY",))
    fields = {"project": {"key": "NEW"}}
    moved = ISSUE | {"issue": {"id": 10040, "key": "PAY-7", "fields": fields}}
    assert of_jira(moved).scope_keys == ("NEW",)


def test_comments_worklogs_and_links_name_their_issues() -> None:
    comment = {"webhookEvent": "comment_created", "comment": {"self": "https://j/rest/api/2/issue/77/comment/5"}}
    assert (of_jira(comment).external_ids, of_jira(comment).scope_keys) == (("77",), ())
    assert of_jira({"webhookEvent": "worklog_updated", "worklog": {"issueId": "78"}}).external_ids == ("78",)
    link = {"webhookEvent": "issuelink_created", "issueLink": {"sourceIssueId": 1, "destinationIssueId": 2}}
    assert of_jira(link).external_ids == ("1", "2")


BROKEN = [
    b"",
    b"[]",
    b"null",
    b"{",
    b'"text"',
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"object_kind": 5, "webhookEvent": 5}',
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_delivery_is_a_bad_record(body: bytes) -> None:
    with pytest.raises(BadRecordError):
        gitlab.hints({"X-Gitlab-Event": "Push Hook"}, body)
    with pytest.raises(BadRecordError):
        jira.hints({}, body)


@pytest.mark.parametrize(
    "delivery",
    [
        {"object_kind": "merge_request", "project": {"id": 1}},
        {"object_kind": "merge_request", "object_attributes": {"iid": 1}},
        {"object_kind": "merge_request", "project": {"id": 1}, "object_attributes": {}},
        {"object_kind": "merge_request", "project": {"id": 1}, "object_attributes": {"iid": "1; DROP TABLE"}},
        {"object_kind": "merge_request", "project": {"id": "1!2"}, "object_attributes": {"iid": 1}},
    ],
)
def test_a_merge_request_that_cannot_be_named_is_a_bad_record(delivery: Any) -> None:
    with pytest.raises(BadRecordError):
        of_gitlab(delivery)
    with pytest.raises(BadRecordError):
        gitlab.hints({}, json.dumps(MERGE_REQUEST).encode())


@pytest.mark.parametrize(
    "delivery",
    [
        {"webhookEvent": "jira:issue_updated"},
        {"webhookEvent": "jira:issue_updated", "issue": {"id": "../5"}},
        {"webhookEvent": "jira:issue_updated", "issue": {"id": "1" * 30}},
        {"webhookEvent": "comment_created", "comment": {"self": "https://j/x"}},
        {"webhookEvent": ""},
        {"webhookEvent": "x" * 500},
    ],
)
def test_an_issue_that_cannot_be_named_is_a_bad_record(delivery: Any) -> None:
    with pytest.raises(BadRecordError):
        of_jira(delivery)


@pytest.mark.parametrize("hostile", ["a\\u0000b", "\\ud800", "\\\\u0000", "\ufffd"])
def test_what_a_database_cannot_keep_is_taken_out_and_the_rest_stays(hostile: str) -> None:
    body = json.dumps(MERGE_REQUEST)[:-1].encode() + f', "title": "{hostile}"}}'.encode()
    hint = gitlab.hints({"X-Gitlab-Event": "Merge Request Hook"}, body)
    assert hint.external_ids == ("101!7",)
    assert "\x00" not in msgspec.json.decode(hint.payload)["title"]
    issue = json.dumps(ISSUE)[:-1].encode() + f', "title": "{hostile}"}}'.encode()
    assert "\x00" not in msgspec.json.decode(jira.hints({}, issue).payload)["title"]


def test_a_stored_delivery_is_read_as_the_received_one() -> None:
    hint = of_gitlab(MERGE_REQUEST, **{"Idempotency-Key": "k"})
    again = gitlab.hints({"x-gitlab-event": "Merge Request Hook", "idempotency-key": "k"}, hint.payload)
    assert again.external_ids == hint.external_ids


def test_kept_headers_hold_no_secret() -> None:
    for name in gitlab.KEPT_HEADERS | jira.KEPT_HEADERS:
        assert name == name.lower()
        assert not {"token", "signature", "authorization", "cookie"} & set(name.split("-"))


def test_recorded_deliveries_of_gitlab(samples: Path) -> None:
    told = {
        path.stem.removeprefix("goscm__"): gitlab.hints({"X-Gitlab-Event": "Some Hook"}, path.read_bytes())
        for path in sorted((samples / "webhooks/gitlab").glob("*.json"))
    }
    named = {name: hint.external_ids for name, hint in told.items() if hint.stream}
    assert named == {
        "merge_request_comment_create": ("4861503!1",),
        "merge_request_comment_subgroup": ("4861503!1",),
        "merge_request_subgroup": ("4861503!1",),
        "pipeline_hook": ("31",),
        "pipeline_subgroup": ("31",),
        "pull_request_close": ("4861503!1",),
        "pull_request_create": ("4861503!1",),
        "pull_request_merge": ("4861503!1",),
        "pull_request_reopen": ("4861503!1",),
        "pull_request_review_ready": ("44067058!3",),
        "review_comment_create": ("4861503!1",),
    }
    assert told["pull_request_merge"].scope_keys == ("4861503", "gitlab-org/hello-world")


def test_recorded_deliveries_of_jira(samples: Path) -> None:
    for path in sorted((samples / "webhooks/jira").glob("*.json")):
        hint = jira.hints({}, path.read_bytes())
        raw = json.loads(path.read_bytes())
        assert hint.stream == "issues"
        if "issue" in raw:
            assert hint.external_ids == (raw["issue"]["id"],)
            assert hint.scope_keys == (raw["issue"]["key"].rpartition("-")[0],)
        else:
            assert hint.external_ids == ("10013",)
