"""Real payloads of other people's Jira through `connectors.jira.parse`; skipped where the samples are not at hand."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connectors.base import ParseContext
from connectors.jira.parse import parse
from models.records import Issue

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "samples" / "jira"
CLOUD_FIELDS = {
    "sprint": "customfield_10020",
    "epic_link": "customfield_10014",
    "epic_name": "customfield_10011",
    "story_points": "customfield_10024",
}
CONTEXT = ParseContext(field_ids=CLOUD_FIELDS)

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the samples are not part of the project and not beside it here"
)


def raw_issues() -> list[Path]:
    return sorted((SAMPLES / "issues").glob("*.json"))


def issue_of(key: str) -> Issue:
    (issue,) = parse("issues", (SAMPLES / "issues" / f"{key}.json").read_bytes(), CONTEXT).issues
    return issue


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


def statuses_changed(issue: Issue) -> list[tuple[str | None, str | None]]:
    return [(change.from_text, change.to_text) for change in issue.changes if change.field == "status"]


def test_there_are_43_issues() -> None:
    assert len(raw_issues()) == 43


@pytest.mark.parametrize("path", raw_issues(), ids=lambda path: path.stem)
def test_every_issue_says_what_its_json_says(path: Path) -> None:
    tree = json.loads(path.read_bytes())
    fields, histories = tree["fields"], tree["changelog"]["histories"]

    (issue,) = parse("issues", path.read_bytes(), CONTEXT).issues

    assert (issue.issue_id, issue.key, issue.project_key) == (tree["id"], path.stem, fields["project"]["key"])
    assert issue.created_at == datetime.fromisoformat(fields["created"])
    assert issue.updated_at == datetime.fromisoformat(fields["updated"])
    assert issue.created_at.tzinfo is UTC
    assert issue.resolved_at == (fields["resolutiondate"] and datetime.fromisoformat(fields["resolutiondate"]))
    assert issue.status == fields["status"]["name"]
    assert issue.status_category == fields["status"]["statusCategory"]["key"]
    assert issue.comments_count == fields["comment"]["total"]
    assert issue.subtasks == tuple(subtask["key"] for subtask in fields["subtasks"])
    assert len(issue.linked_issues) == len(fields["issuelinks"])
    assert (issue.assignee is None) == (fields["assignee"] is None)
    assert len(issue.changes) == sum(len(history["items"]) for history in histories)
    assert {change.change_id for change in issue.changes} == {history["id"] for history in histories}
    assert list(issue.changes) == sorted(
        issue.changes, key=lambda change: (change.changed_at, int(change.change_id), change.item_index)
    )


def test_the_status_changes_of_every_issue_follow_from_one_another_and_end_at_its_status() -> None:
    for path in raw_issues():
        issue = issue_of(path.stem)
        changes = statuses_changed(issue)
        for (_, to), (origin, _) in pairwise(changes):
            assert to == origin, issue.key
        assert not changes or changes[-1][1] == issue.status, issue.key


def test_ee_23_was_resolved_reopened_and_moved_by_a_migration_long_after() -> None:
    issue = issue_of("EE-23")
    changes = [change for change in issue.changes if change.field == "status"]

    assert len(changes) == 9
    assert [change.from_text for change in changes] == [
        "Open",
        "In Development",
        "Resolved",
        "To Do",
        "Open",
        "To Do",
        "Open",
        "Resolved",
        "Closed",
    ]
    assert (changes[1].changed_at - changes[0].changed_at).total_seconds() == pytest.approx(11, abs=1)
    assert issue.resolved_at == datetime(2020, 6, 15, 9, 7, 56, 798000, tzinfo=UTC)
    assert changes[-1].changed_at == datetime(2021, 3, 28, 8, 5, 57, 97000, tzinfo=UTC)
    assert len([change for change in issue.changes if change.field == "resolution"]) == 1
    assert issue.assignee is not None
    assert (issue.sprint_id, issue.sprint, issue.sprint_state) == ("7", "EE Sprint 7", "closed")
    # One history removes a version and adds another: the same field twice.
    twice = [change for change in issue.changes if change.change_id == "11157"]
    assert [(change.item_index, change.field, change.from_text, change.to_text) for change in twice] == [
        (0, "fixVersions", "v2.5.5", None),
        (1, "fixVersions", None, "v2.5.4"),
    ]


@pytest.mark.parametrize("key", ["EE-10", "EE-35", "EE-36", "EE-37"])
def test_a_status_is_what_its_category_says_not_what_its_name_says(key: str) -> None:
    issue = issue_of(key)

    assert (issue.status, issue.status_category) == ("已完成", "new")
    assert issue.resolved_at is not None


def test_epics_may_lie_outside_the_project() -> None:
    assert issue_of("K5-2").epic_key == "K5-1"
    assert (issue_of("K5-3").epic_key, issue_of("K5-3").epic_name) == ("K5-4", "K5 epic")
    assert issue_of("K5-4").epic_key is None
    assert issue_of("EE-29").parent_key == "EE-2"
    assert issue_of("EE-29").epic_key is None


def test_links_have_directions() -> None:
    assert issue_of("DZFNK0168-20").linked_issues == (
        {"type": "Blocks", "direction": "outward", "key": "IP8CUD168-35304"},
        {"type": "Blocks", "direction": "inward", "key": "IP8CUD168-35406"},
    )


def test_people_of_an_old_server_are_known_by_their_keys() -> None:
    issue = issue_of("DZFNK0168-20")

    assert issue.assignee is not None
    assert (issue.assignee.external_id, issue.assignee.username) == ("admin", "admin")
    assert {change.author_id for change in issue.changes} == {"admin"}


@pytest.mark.parametrize("noise", ["RemoteIssueLink", "Workflow"])
def test_names_that_are_no_fields_stay_names(noise: str) -> None:
    fields = {change.field for path in raw_issues() for change in issue_of(path.stem).changes}

    assert noise in fields
    assert "IssueParentAssociation" not in fields


def test_all_histories_of_the_changelog_resource_can_be_read() -> None:
    whole = json.loads((SAMPLES / "issues" / "K5-2.json").read_bytes())
    rows = lines("issue_changelogs.jsonl")
    with (SAMPLES / "issue_changelogs.sources.csv").open(encoding="utf-8", newline="") as table:
        assert len(rows) == len(list(csv.DictReader(table))) == 179
    whole["changelog"] = {"total": len(rows), "histories": rows}

    batch = parse("issues", json.dumps(whole).encode(), CONTEXT)

    changes = batch.issues[0].changes
    histories = {row["id"]: row for row in rows}
    assert len(changes) == sum(len(row["items"]) for row in histories.values())
    # Two authors have an empty id in this data: their names are kept, and no account is made of them.
    nameless = [change for change in changes if change.author_id is None]
    assert all(change.author_name for change in nameless)
    assert "" not in {account.external_id for account in batch.accounts}
    for change in changes:
        item = histories[change.change_id]["items"][change.item_index]
        assert (change.from_text, change.to_text) == (item["fromString"], item["toString"])


def test_all_statuses_can_be_read() -> None:
    rows = lines("statuses.jsonl")

    statuses = [parse("statuses", json.dumps(row).encode(), CONTEXT).statuses[0] for row in rows]

    assert len(statuses) == 53
    assert [(status.status_id, status.name, status.category) for status in statuses] == [
        (row["id"], row["name"], row["statusCategory"]["key"]) for row in rows
    ]
    assert len({status.name for status in statuses}) < len({status.status_id for status in statuses})


def test_all_fields_can_be_read() -> None:
    fields = [parse("fields", json.dumps(row).encode(), ParseContext()).fields[0] for row in lines("fields.jsonl")]

    assert [(field.field_id, field.name, field.is_custom, field.role) for field in fields] == [
        ("customfield_10315", "cu用户单选", True, None),
        ("customfield_10400", "gitBranch", True, None),
    ]
