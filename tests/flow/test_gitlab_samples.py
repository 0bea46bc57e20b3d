"""Real payloads of GitLab instances, through the parser: what people's systems send is understood or named."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.base import ParseContext
from connectors.gitlab.parse import parse
from models.errors import BadRecordError
from models.records import MergeRequest

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples" / "gitlab"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of real payloads is not beside the project")


def lines(name: str) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Each payload as it stands in the file, and where it came from."""
    payloads = (SAMPLES / f"{name}.jsonl").read_bytes().splitlines()
    with (SAMPLES / f"{name}.sources.csv").open(newline="", encoding="utf-8") as sources:
        yield from zip(payloads, csv.DictReader(sources), strict=True)


def parts_by_iid(name: str) -> dict[int, list[bytes]]:
    """The rows of a part by the merge request that they were asked for."""
    parts = defaultdict(list)
    for payload, source in lines(name):
        if source["input"] not in ("", "null"):
            parts[json.loads(source["input"])["Iid"]].append(payload)
    return parts


def joined(row: bytes, commits: list[bytes], notes: list[bytes]) -> bytes:
    """A payload as the connector stages it, of bytes as received."""
    return (
        b'{"merge_request":%b,"commits":[%b],"notes":[%b],"approvals":null,"state_events":null,"truncated":false}'
        % (
            row,
            b",".join(commits),
            b",".join(notes),
        )
    )


def merge_requests() -> list[tuple[dict[str, Any], MergeRequest]]:
    """The rows that have all that GitLab documents, with the record of each."""
    commits, notes = parts_by_iid("mr_commits"), parts_by_iid("mr_notes")
    read = []
    for row, _ in lines("merge_requests"):
        content = json.loads(row)
        if "iid" in content:
            payload = joined(row, commits[content["iid"]], notes[content["iid"]])
            (record,) = parse("merge_requests", payload, ParseContext()).merge_requests
            read.append((content, record))
    return read


def test_every_real_merge_request_is_read_with_its_commits_and_notes() -> None:
    read = merge_requests()
    assert len(read) == 17
    for content, record in read:
        assert record.external_id == str(content["id"])
        assert record.title == content["title"]
        assert record.state == content["state"]
        assert record.labels == tuple(content["labels"])
        assert record.created_at == datetime.fromisoformat(str(content["created_at"]))
        assert (record.merged_at is not None) == (content["state"] == "merged")
        assert record.closed_at is None or content["state"] == "closed"
        assert record.author is not None


def test_a_row_of_an_api_that_is_gone_is_set_aside_with_its_reason() -> None:
    reasons = []
    for row, _ in lines("merge_requests"):
        if "iid" not in json.loads(row):
            with pytest.raises(BadRecordError) as caught:
                parse("merge_requests", joined(row, [], []), ParseContext())
            reasons.append(caught.value.message)
    assert reasons == ["merge_request.iid: missing"] * 2


def test_a_real_review_is_understood() -> None:
    content, record = next((content, record) for content, record in merge_requests() if record.iid == 3)
    notes = [json.loads(note) for note in parts_by_iid("mr_notes")[3]]
    commits = [json.loads(commit) for commit in parts_by_iid("mr_commits")[3]]
    author = record.author.username if record.author else None
    comments = [note for note in notes if not note["system"] and note["author"]["username"] != author]
    # One of the comments was written after the merge.
    assert {note["created_at"] > content["merged_at"] for note in comments} == {False, True}
    assert record.first_review_at == min(datetime.fromisoformat(note["created_at"]) for note in comments)
    assert record.first_commit_at == min(datetime.fromisoformat(commit["authored_date"]) for commit in commits)
    assert record.merged_at == datetime.fromisoformat(content["merged_at"])
    assert not record.merged_at_is_estimated
    assert record.merged_by is not None
    assert record.merged_by.username == content["merge_user"]["username"]
    assert f"{record.project_path}!3" == content["references"]["full"]


def test_real_approval_notes_are_approvals() -> None:
    approvals = [
        (record.iid, done.username)
        for _, record in merge_requests()
        for done in record.activities
        if done.activity == "approved"
    ]
    notes = [
        (json.loads(source["input"])["Iid"], json.loads(payload))
        for payload, source in lines("mr_notes")
        if source["input"] not in ("", "null")
    ]
    assert approvals == [
        (iid, note["author"]["username"]) for iid, note in notes if note["body"] == "approved this merge request"
    ]
    assert approvals


def test_a_merge_request_of_a_deleted_fork_and_a_draft_that_was_closed_are_read() -> None:
    of_deleted_fork = next(
        record for content, record in merge_requests() if content.get("source_project_id", 0) is None
    )
    assert (of_deleted_fork.iid, of_deleted_fork.state) == (17, "closed")
    assert of_deleted_fork.closed_at is not None
    draft = next(record for _, record in merge_requests() if record.draft and record.state == "closed")
    assert draft.ready_at is None


def test_real_events_of_an_api_without_ids_are_set_aside_with_their_reason() -> None:
    for payload, _ in lines("events"):
        with pytest.raises(BadRecordError) as caught:
            parse("events", payload, ParseContext())
        assert caught.value.message == "id: missing"


def test_real_events_are_read_once_they_have_ids() -> None:
    read = []
    for number, (payload, _) in enumerate(lines("events")):
        (event,) = parse("events", b'{"id":%d,' % number + payload[1:], ParseContext()).events
        read.append((event.action, event.target_type, event.author and event.author.username))
    shown = [json.loads(payload) for payload, _ in lines("events")]
    assert read == [(event["action_name"], event["target_type"], event["author"]["username"]) for event in shown]
