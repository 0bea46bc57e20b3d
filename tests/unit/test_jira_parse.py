"""What `connectors.jira.parse` makes of Jira's JSON: whole, odd, damaged and hopeless."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime
from typing import Any

import pytest

from connectors.base import ParseContext
from connectors.jira.parse import parse
from connectors.jira.payloads import mended_json
from models.errors import BadRecordError, UsageError, Verdict
from models.records import Field, Issue, IssueChange, Status

CLOUD_USER = {
    "accountId": "5b10a2844c20165700ede21g",
    "displayName": "Mia Krystof",
    "emailAddress": "mia@example.com",
    "active": True,
    "accountType": "atlassian",
}
SERVER_USER = {"key": "JIRAUSER10100", "name": "fred", "displayName": "Fred F.", "emailAddress": "fred@example.com"}


def fields_of(**changed: Any) -> dict[str, Any]:
    """The fields of an unremarkable bug; a field that is set to `...` is missing."""
    fields = {
        "summary": "Basket forgets items",
        "description": "h2. Steps",
        "issuetype": {"id": "10004", "name": "Bug", "subtask": False},
        "project": {"id": "10000", "key": "SHOP", "name": "Shop"},
        "status": {"id": "3", "name": "In Progress", "statusCategory": {"id": 4, "key": "indeterminate"}},
        "priority": {"id": "2", "name": "High"},
        "resolution": None,
        "resolutiondate": None,
        "labels": ["checkout"],
        "assignee": CLOUD_USER,
        "reporter": CLOUD_USER,
        "creator": CLOUD_USER,
        "created": "2024-01-01T00:00:00.000+0000",
        "updated": "2024-01-03T09:30:00.000+0000",
    }
    return {name: value for name, value in (fields | changed).items() if value is not ...}


def history(number: int, *items: dict[str, Any], **changed: Any) -> dict[str, Any]:
    made = {"id": str(number), "author": CLOUD_USER, "created": f"2024-01-02T10:{number % 60:02}:00.000+0000"}
    return made | changed | {"items": list(items)}


def item(field: str = "status", **changed: Any) -> dict[str, Any]:
    made = {
        "field": field,
        "fieldtype": "jira",
        "from": "1",
        "fromString": "Open",
        "to": "3",
        "toString": "In Progress",
    }
    return made | changed


def payload(*histories: dict[str, Any], **changed: Any) -> dict[str, Any]:
    changelog = {"startAt": 0, "maxResults": len(histories), "total": len(histories), "histories": list(histories)}
    return {"id": "10001", "key": "SHOP-1", "fields": fields_of(**changed), "changelog": changelog}


def encoded(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def issue_of(tree: dict[str, Any], **context: Any) -> Issue:
    (issue,) = parse("issues", encoded(tree), ParseContext(**context)).issues
    return issue


def changes_of(*histories: dict[str, Any], **context: Any) -> tuple[IssueChange, ...]:
    return issue_of(payload(*histories), **context).changes


# --- a whole issue ----------------------------------------------------------------------------------------------------


def test_an_issue_is_read_whole() -> None:
    tree = payload(
        history(7, item(fieldId="status")),
        statuscategorychangedate="2024-01-02T12:00:00.000+0200",
        components=[{"name": "Basket"}, {"name": "API"}],
        fixVersions=[{"name": "1.0"}],
        parent={"key": "SHOP-9", "fields": {"summary": "Checkout", "issuetype": {"name": "Epic", "hierarchyLevel": 1}}},
        subtasks=[{"key": "SHOP-2"}],
        issuelinks=[
            {"type": {"name": "Blocks"}, "outwardIssue": {"key": "SHOP-3"}},
            {"type": {"name": "Duplicate"}, "inwardIssue": {"key": "ABC-4"}},
        ],
        timeoriginalestimate=7200,
        timespent=60,
        comment={"comments": [{"body": "yes"}], "total": 31, "maxResults": 20},
        duedate="2024-02-29",
        customfield_10020=[{"id": 5, "name": "Sprint 5", "state": "active", "startDate": "2024-01-01T08:00:00.000Z"}],
        customfield_10016=5,
        customfield_10300={"id": "1", "value": "S2 - Major"},
    )
    roles = {"sprint": "customfield_10020", "story_points": "customfield_10016", "severity": "customfield_10300"}

    batch = parse("issues", encoded(tree), ParseContext(field_ids=roles))

    (issue,) = batch.issues
    (mia,) = batch.accounts
    assert (mia.external_id, mia.display_name, mia.email, mia.is_bot) == (
        "5b10a2844c20165700ede21g",
        "Mia Krystof",
        "mia@example.com",
        False,
    )
    assert issue == Issue(
        issue_id="10001",
        key="SHOP-1",
        project_key="SHOP",
        issue_type="Bug",
        summary="Basket forgets items",
        description="h2. Steps",
        status_id="3",
        status="In Progress",
        status_category="indeterminate",
        status_category_changed_at=datetime(2024, 1, 2, 10, tzinfo=UTC),
        priority="High",
        severity="S2 - Major",
        resolution=None,
        labels=("checkout",),
        components=("Basket", "API"),
        fix_versions=("1.0",),
        assignee=mia,
        reporter=mia,
        creator=mia,
        parent_key="SHOP-9",
        epic_key="SHOP-9",
        epic_name="Checkout",
        sprint_id="5",
        sprint="Sprint 5",
        sprint_state="active",
        sprint_start_at=datetime(2024, 1, 1, 8, tzinfo=UTC),
        sprint_end_at=None,
        sprint_complete_at=None,
        story_points=5.0,
        original_estimate_seconds=7200,
        time_spent_seconds=60,
        subtasks=("SHOP-2",),
        linked_issues=(
            {"type": "Blocks", "direction": "outward", "key": "SHOP-3"},
            {"type": "Duplicate", "direction": "inward", "key": "ABC-4"},
        ),
        comments_count=31,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        updated_at=datetime(2024, 1, 3, 9, 30, tzinfo=UTC),
        resolved_at=None,
        due_on=date(2024, 2, 29),
        changes=(
            IssueChange(
                change_id="7",
                item_index=0,
                author_id="5b10a2844c20165700ede21g",
                author_name="Mia Krystof",
                field="status",
                field_name="status",
                from_value="1",
                from_text="Open",
                to_value="3",
                to_text="In Progress",
                changed_at=datetime(2024, 1, 2, 10, 7, tzinfo=UTC),
            ),
        ),
    )


def test_times_of_any_offset_become_utc() -> None:
    issue = issue_of(payload(created="2020-06-12T08:33:57.204+0800", resolutiondate="2021-01-01T00:00:00.000+14:00"))

    assert issue.created_at == datetime(2020, 6, 12, 0, 33, 57, 204000, tzinfo=UTC)
    assert issue.created_at.tzinfo is UTC
    assert issue.resolved_at == datetime(2020, 12, 31, 10, tzinfo=UTC)


def test_a_reopened_issue_has_no_resolution_date() -> None:
    assert issue_of(payload(resolution=None, resolutiondate=None)).resolved_at is None


# --- history ----------------------------------------------------------------------------------------------------------


def test_two_items_on_the_same_field_in_one_history_are_both_kept() -> None:
    first = item("Fix Version", fieldId="fixVersions", **{"from": "1", "to": None})
    second = item("Fix Version", fieldId="fixVersions", **{"from": None, "to": "2"})

    changes = changes_of(history(4, first, second))

    assert [(one.item_index, one.field, one.from_value, one.to_value) for one in changes] == [
        (0, "fixVersions", "1", None),
        (1, "fixVersions", None, "2"),
    ]


def test_changes_come_oldest_first_whatever_the_order_received() -> None:
    at = "2024-01-02T10:00:00.000+0000"
    newest_first = (
        history(101, item(), created="2024-01-02T11:00:00.000+0000"),
        history(100, item(), created=at),
        history(99, item(), item(), created=at),
        history(9, item(), created="2024-01-02T10:00:00.001+0000"),
    )

    assert [(one.change_id, one.item_index) for one in changes_of(*newest_first)] == [
        ("99", 0),
        ("99", 1),
        ("100", 0),
        ("9", 0),
        ("101", 0),
    ]


def test_a_history_received_twice_counts_once() -> None:
    assert len(changes_of(history(1, item()), history(1, item()))) == 1


@pytest.mark.parametrize(
    "created",
    ["2017-04-13T08:20:29.000+0000", "2017-04-13T10:20:29.000+0200", 1492071629000, 1492071629, 1492071629.0],
)
def test_history_times_may_be_text_or_numbers(created: object) -> None:
    (change,) = changes_of(history(1, item(), created=created))

    assert change.changed_at == datetime(2017, 4, 13, 8, 20, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("author", "author_id", "author_name"),
    [
        (None, None, None),
        ({}, None, None),
        ({"accountId": "", "displayName": "Former user"}, None, "Former user"),
        ({"accountId": "unknown", "displayName": "Former user"}, None, "Former user"),
        (SERVER_USER, "JIRAUSER10100", "Fred F."),
        ({"name": "fred"}, "fred", None),
        (SERVER_USER | {"accountId": "abc"}, "abc", "Fred F."),
        (CLOUD_USER | {"active": False}, "5b10a2844c20165700ede21g", "Mia Krystof"),
    ],
)
def test_the_author_of_a_change_may_be_known_by_any_of_its_names_or_not_at_all(
    author: Any, author_id: str | None, author_name: str | None
) -> None:
    (change,) = changes_of(history(1, item(), author=author))

    assert (change.author_id, change.author_name) == (author_id, author_name)


def test_a_history_without_an_author_member_is_read() -> None:
    anonymous = history(1, item())
    del anonymous["author"]

    assert changes_of(anonymous)[0].author_id is None


@pytest.mark.parametrize(
    ("display_name", "fieldtype", "expected"),
    [
        ("status", "jira", "status"),
        ("Status", "jira", "status"),
        ("issuetype", "jira", "issuetype"),
        ("Issue Type", "jira", "issuetype"),
        ("project", "jira", "project"),
        ("Key", "jira", "issuekey"),
        ("priority", "jira", "priority"),
        ("resolution", "jira", "resolution"),
        ("assignee", "jira", "assignee"),
        ("Fix Version", "jira", "fixVersions"),
        ("IssueParentAssociation", "jira", "parent"),
        ("Sprint", "custom", "customfield_10020"),
        ("Severity", "custom", "customfield_10300"),
        ("Bug Severity", "custom", "customfield_10300"),
        ("Epic Link", "custom", "Epic Link"),
        ("Priority", "custom", "Priority"),
        ("Status", "custom", "Status"),
        ("Severity justification", "custom", "Severity justification"),
        ("RemoteIssueLink", "jira", "RemoteIssueLink"),
    ],
)
def test_without_field_ids_the_names_of_known_fields_become_ids(
    display_name: str, fieldtype: str, expected: str
) -> None:
    roles = {"sprint": "customfield_10020", "severity": "customfield_10300"}

    (change,) = changes_of(history(1, item(display_name, fieldtype=fieldtype)), field_ids=roles)

    assert (change.field, change.field_name) == (expected, display_name)


def test_a_field_id_in_the_history_goes_before_any_name() -> None:
    (change,) = changes_of(history(1, item("状态", fieldId="status")))

    assert (change.field, change.field_name) == ("status", "状态")


def test_names_of_custom_fields_that_the_caller_knows_become_ids() -> None:
    (change,) = changes_of(
        history(1, item("Impact level", fieldtype="custom")), field_names={"Impact level": "customfield_10400"}
    )

    assert change.field == "customfield_10400"


def test_values_in_histories_that_are_no_text_are_kept_as_json() -> None:
    (change,) = changes_of(history(1, item(**{"from": 3, "to": {"id": 4}, "toString": None})))

    assert (change.from_value, change.to_value, change.to_text) == ("3", '{"id":4}', None)


def test_a_shortened_history_is_refused_rather_than_taken_for_the_whole() -> None:
    tree = payload(history(1, item()))
    tree["changelog"]["total"] = 41

    with pytest.raises(BadRecordError, match="changelog holds 1 of 41 histories"):
        issue_of(tree)


# --- people -----------------------------------------------------------------------------------------------------------


def test_every_account_of_an_issue_is_reported_once() -> None:
    tree = payload(
        history(1, item(), author=SERVER_USER),
        history(2, item(), author=SERVER_USER),
        assignee=CLOUD_USER,
        reporter={"accountId": "bot-1", "displayName": "Automation for Jira", "accountType": "app"},
        creator=None,
    )

    accounts = {account.external_id: account for account in parse("issues", encoded(tree), ParseContext()).accounts}

    assert set(accounts) == {"5b10a2844c20165700ede21g", "JIRAUSER10100", "bot-1"}
    assert accounts["JIRAUSER10100"].username == "fred"
    assert accounts["bot-1"].is_bot
    assert accounts["bot-1"].bot_reason == "flagged by the source"


@pytest.mark.parametrize("user", [None, {}, {"displayName": "Nobody"}, {"accountId": "unknown"}, "fred", 7])
def test_a_person_that_nothing_identifies_is_nobody(user: Any) -> None:
    issue = issue_of(payload(assignee=user))

    assert issue.assignee is None
    assert issue.reporter is not None


def test_missing_user_fields_are_nobody() -> None:
    issue = issue_of(payload(assignee=..., reporter=..., creator=...))

    assert (issue.assignee, issue.reporter, issue.creator) == (None, None, None)


def test_a_blank_email_is_none() -> None:
    issue = issue_of(payload(assignee=CLOUD_USER | {"emailAddress": ""}))

    assert issue.assignee is not None
    assert issue.assignee.email is None


def test_names_of_ten_thousand_characters_are_kept() -> None:
    long = "n" * 10_000
    issue = issue_of(
        payload(summary=long, status={"id": "1", "name": long}, assignee=CLOUD_USER | {"displayName": long})
    )

    assert issue.summary == issue.status == long
    assert issue.assignee is not None
    assert issue.assignee.display_name == long


# --- sprints, epics, custom fields ------------------------------------------------------------------------------------

SPRINT = {"field_ids": {"sprint": "customfield_10020"}}


def test_the_active_sprint_is_the_sprint() -> None:
    sprints = [
        {"id": 3, "name": "Three", "state": "future"},
        {"id": 1, "name": "One", "state": "closed", "completeDate": "2024-01-14T00:00:00.000Z"},
        {"id": 2, "name": "Two", "state": "ACTIVE"},
    ]
    issue = issue_of(payload(customfield_10020=sprints), **SPRINT)

    assert (issue.sprint_id, issue.sprint, issue.sprint_state) == ("2", "Two", "active")


def test_of_closed_sprints_the_last_one_is_the_sprint() -> None:
    sprints = [
        {"id": 9, "name": "Nine", "state": "closed", "completeDate": "2024-01-14T00:00:00.000Z"},
        {"id": 8, "name": "Eight", "state": "closed", "completeDate": "2024-01-28T00:00:00.000Z"},
    ]
    issue = issue_of(payload(customfield_10020=sprints), **SPRINT)

    assert issue.sprint == "Eight"
    assert issue.sprint_complete_at == datetime(2024, 1, 28, tzinfo=UTC)


def test_sprints_of_old_servers_are_text_with_commas_and_brackets_in_their_names() -> None:
    old = (
        "com.atlassian.greenhopper.service.sprint.Sprint@1f39706[id=12,rapidViewId=2,state=CLOSED,"
        "name=Fix [all], at last,startDate=2016-03-01T09:00:00.000+01:00,endDate=2016-03-15T09:00:00.000+01:00,"
        "completeDate=<null>,sequence=12,goal=say name=x]"
    )
    issue = issue_of(payload(customfield_10020=[old]), **SPRINT)

    assert (issue.sprint_id, issue.sprint, issue.sprint_state) == ("12", "Fix [all], at last", "closed")
    assert issue.sprint_start_at == datetime(2016, 3, 1, 8, tzinfo=UTC)
    assert issue.sprint_complete_at is None


@pytest.mark.parametrize("sprints", [None, [], "nonsense", 5, [None], [[]]])
def test_no_sprint_or_an_unintelligible_one_is_none(sprints: Any) -> None:
    issue = issue_of(payload(customfield_10020=sprints), **SPRINT)

    assert (issue.sprint_id, issue.sprint) == (None, None)


def test_a_parent_that_is_no_epic_leaves_the_epic_to_the_epic_link() -> None:
    parent = {"key": "SHOP-5", "fields": {"summary": "Story", "issuetype": {"name": "Story", "hierarchyLevel": 0}}}
    issue = issue_of(
        payload(parent=parent, customfield_10014="SHOP-9", customfield_10011="Checkout"),
        field_ids={"epic_link": "customfield_10014", "epic_name": "customfield_10011"},
    )

    assert (issue.parent_key, issue.epic_key, issue.epic_name) == ("SHOP-5", "SHOP-9", "Checkout")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": "S1"}, "S1"),
        ({"name": "S1"}, "S1"),
        ([{"value": "S1"}, {"value": "S2"}], "S1"),
        ({"value": "Bad", "child": {"value": "Worse"}}, "Bad"),
        ("S1", "S1"),
        (1, "1"),
        (None, None),
        ([], None),
        ("", None),
        ({"odd": 1}, None),
        (True, None),
    ],
)
def test_severity_is_read_from_every_kind_of_field(value: Any, expected: str | None) -> None:
    issue = issue_of(payload(customfield_10300=value), field_ids={"severity": "customfield_10300"})

    assert issue.severity == expected


def test_the_operators_choice_of_fields_goes_before_the_guess() -> None:
    tree = payload(customfield_1={"value": "guessed"}, customfield_2={"value": "chosen"}, customfield_3=8)
    guessed = {"severity": "customfield_1"}
    options = {"severity_field": "customfield_2", "custom_fields": {"story_points": "customfield_3"}}

    issue = issue_of(tree, field_ids=guessed, options=options)

    assert (issue.severity, issue.story_points) == ("chosen", 8.0)


@pytest.mark.parametrize(
    ("classic", "own", "expected"), [(3, None, 3.0), (None, 5, 5.0), (0, 5, 0.0), (None, None, None)]
)
def test_story_points_stand_in_one_of_two_fields(classic: int | None, own: int | None, expected: float | None) -> None:
    issue = issue_of(
        payload(customfield_1=classic, customfield_2=own),
        field_ids={"story_points": "customfield_1", "story_point_estimate": "customfield_2"},
    )

    assert issue.story_points == expected


def test_priority_may_serve_as_severity() -> None:
    issue = issue_of(payload(), options={"severity_field": "priority"})

    assert (issue.priority, issue.severity) == ("High", "High")


def test_a_role_given_to_a_field_that_is_read_anyway_does_no_harm() -> None:
    issue = issue_of(
        payload(), field_ids={"severity": "customfield_1", "epic_name": "customfield_1", "sprint": "labels"}
    )

    assert (issue.severity, issue.sprint, issue.labels) == (None, None, ("checkout",))


# --- odd and damaged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "odd", "member", "expected"),
    [
        ("labels", None, "labels", ()),
        ("labels", ["a", None, 5, "b"], "labels", ("a", "b")),
        ("labels", "checkout", "labels", ()),
        ("components", [{"name": "API"}, "Basket", {"name": None}], "components", ("API",)),
        ("summary", None, "summary", ""),
        ("summary", 5, "summary", ""),
        ("description", None, "description", None),
        ("description", [1], "description", None),
        ("comment", None, "comments_count", 0),
        ("comment", {"comments": []}, "comments_count", 0),
        ("priority", None, "priority", None),
        ("priority", ..., "priority", None),
        ("timespent", "1h", "time_spent_seconds", None),
        ("duedate", "soon", "due_on", None),
        ("parent", {"id": "5"}, "parent_key", None),
        ("issuelinks", [{"type": {"name": "Blocks"}}, {"outwardIssue": {"key": "SHOP-3"}}], "linked_issues", ...),
        ("subtasks", [{"key": "SHOP-2"}, {}], "subtasks", ("SHOP-2",)),
        ("status", {"id": "1", "name": "Open"}, "status_category", None),
        ("status", {"id": "1", "name": "Open", "statusCategory": None}, "status_category", None),
        ("status", {"id": "1", "name": "Open", "statusCategory": {"key": "undefined"}}, "status_category", None),
        ("status", {"id": 1, "name": "Open"}, "status_id", "1"),
    ],
)
def test_an_odd_or_missing_decoration_costs_only_itself(field: str, odd: Any, member: str, expected: Any) -> None:
    issue = issue_of(payload(history(1, item()), **{field: odd}))

    if expected is ...:
        expected = ({"type": "", "direction": "outward", "key": "SHOP-3"},)
    assert getattr(issue, member) == expected
    assert len(issue.changes) == 1


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("created", ..., "fields.created is missing"),
        ("created", None, "fields.created expected `datetime`, got `null`"),
        ("created", "yesterday", "fields.created invalid RFC3339"),
        ("updated", ..., "fields.updated is missing"),
        ("resolutiondate", "yesterday", "fields.resolutiondate invalid RFC3339"),
        ("status", None, "fields.status expected `object`"),
        ("status", {"id": "3"}, "fields.status.name is missing"),
        ("issuetype", ..., "fields.issuetype is missing"),
        ("project", {"id": "1"}, "fields.project.key is missing"),
    ],
)
def test_a_field_that_the_measures_stand_on_cannot_be_missing_or_odd(field: str, value: Any, complaint: str) -> None:
    with pytest.raises(BadRecordError, match=complaint) as refusal:
        issue_of(payload(**{field: value}))
    assert str(refusal.value.facts["field"]).startswith("fields.")
    assert refusal.value.verdict is Verdict.SET_ASIDE
    assert pickle.loads(pickle.dumps(refusal.value)).message == refusal.value.message


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": None}, "id expected"),
        ({"key": 5}, "key expected `str`"),
        ({"fields": None}, "fields expected `object`"),
        ({"changelog": None}, "changelog expected `object`"),
        ({"changelog": {"total": 1}}, "changelog.histories is missing"),
        ({"changelog": {"histories": [{"id": "1", "items": []}]}}, r"changelog.histories\[0\].created is missing"),
        ({"changelog": {"histories": [{"created": 1, "items": []}]}}, r"changelog.histories\[0\].id is missing"),
        ({"changelog": {"histories": [history(1, "x")]}}, r"changelog.histories\[0\].items\[0\] expected `object`"),
        ({"changelog": {"histories": [history(1, created=1e300)]}}, "is no time: 1e[+]300"),
    ],
)
def test_an_issue_without_its_identity_or_history_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRecordError, match=complaint):
        issue_of(payload() | change)


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (b"", "payload is not JSON"),
        (b"{", "payload is not JSON"),
        (b"<html>", "payload is not JSON"),
        (b"[]", "payload is list where an object was expected"),
        (b"null", "payload is NoneType where an object was expected"),
        (b"[" * 100_000, "payload is nested too deeply"),
        (b'{"id":"1","fields":' + b'{"a":' * 100_000, "payload is nested too deeply"),
    ],
)
@pytest.mark.parametrize("stream", ["issues", "fields", "statuses"])
def test_what_is_no_object_is_refused(stream: str, damaged: bytes, complaint: str) -> None:
    with pytest.raises(BadRecordError, match=complaint):
        parse(stream, damaged, ParseContext())


def test_nuls_vanish_and_escaped_backslashes_before_u0000_stay() -> None:
    tree = encoded(payload(summary="a\0b\0\0c", description="\\u0000"))

    (issue,) = parse("issues", tree, ParseContext()).issues

    assert (issue.summary, issue.description) == ("abc", "\\u0000")


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (rb"x\ud800y", "x\ufffdy"),
        (rb"x\udc00y", "x\ufffdy"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"end\ud800", "end\ufffd"),
        (rb"\\ud800", "\\ud800"),
        (b"a\xff\xfeb", "a\ufffd\ufffdb"),
        (b"a\tb\x00c", "a b c"),
    ],
)
def test_half_surrogates_and_bytes_that_are_no_text_are_replaced(damaged: bytes, expected: str) -> None:
    raw = encoded(payload(history(1, item()), summary="DAMAGED")).replace(b"DAMAGED", damaged)

    (issue,) = parse("issues", raw, ParseContext()).issues

    assert issue.summary == expected
    assert len(issue.changes) == 1


def test_mending_leaves_sound_json_as_it_is() -> None:
    sound = '{"a": "\\"\\\\\\n\\u00e9\\ud83d\\ude00 😀"}'.encode()

    assert mended_json(sound) == sound


def test_an_atlassian_document_becomes_its_text() -> None:
    document = {
        "type": "doc",
        "version": 1,
        "content": [
            {"type": "heading", "content": [{"type": "text", "text": "Steps"}]},
            {
                "type": "bulletList",
                "content": [
                    {
                        "type": "listItem",
                        "content": [{"type": "paragraph", "content": [{"type": "text", "text": "one"}]}],
                    },
                    {
                        "type": "listItem",
                        "content": [{"type": "paragraph", "content": [{"type": "text", "text": "two"}]}],
                    },
                ],
            },
            {
                "type": "paragraph",
                "content": [
                    {"type": "text", "text": "ask "},
                    {"type": "mention", "attrs": {"id": "1", "text": "@Mia"}},
                    {"type": "hardBreak"},
                    {"type": "emoji", "attrs": {"shortName": ":)"}},
                    {"type": "inlineCard", "attrs": {"url": "https://example.com"}},
                    {"type": "text", "text": 5},
                ],
            },
            None,
        ],
    }

    assert issue_of(payload(description=document)).description == "Steps\none\ntwo\nask @Mia\n:)https://example.com"


def test_a_payload_with_surplus_members_is_the_same_issue() -> None:
    surplus = payload(history(1, item()), customfield_99999={"deep": [1, 2, {"x": None}]}, watches={"watchCount": 1})

    assert issue_of(surplus | {"expand": "changelog", "self": "x"}) == issue_of(payload(history(1, item())))


# --- dictionaries -----------------------------------------------------------------------------------------------------


def field_of(tree: Any, **options: Any) -> Field:
    (field,) = parse("fields", encoded(tree), ParseContext(options=options)).fields
    return field


def custom(name: str, schema_custom: str, schema_type: str = "any", number: int = 10020) -> dict[str, Any]:
    schema = {"type": schema_type, "custom": schema_custom, "customId": number}
    return {"id": f"customfield_{number}", "name": name, "custom": True, "schema": schema}


@pytest.mark.parametrize(
    ("name", "schema_custom", "schema_type", "role"),
    [
        ("冲刺", "com.pyxis.greenhopper.jira:gh-sprint", "array", "sprint"),
        ("Epic Link", "com.pyxis.greenhopper.jira:gh-epic-link", "any", "epic_link"),
        ("Epic Name", "com.pyxis.greenhopper.jira:gh-epic-label", "string", "epic_name"),
        ("Schätzung", "com.pyxis.greenhopper.jira:jsw-story-points", "number", "story_point_estimate"),
        ("Story Points", "com.atlassian.jira.plugin.system.customfieldtypes:float", "number", "story_points"),
        ("Story Points", "com.atlassian.jira.plugin.system.customfieldtypes:textfield", "string", None),
        ("Sprint", "com.atlassian.jira.plugin.system.customfieldtypes:textfield", "string", None),
        ("Severity", "com.atlassian.jira.plugin.system.customfieldtypes:select", "option", "severity"),
        ("Bug severity level", "com.atlassian.jira.plugin.system.customfieldtypes:select", "option", "severity"),
        ("Severity justification", "com.atlassian.jira.plugin.system.customfieldtypes:textarea", "string", None),
        ("Acceptance Criteria", "x:textarea", "string", "acceptance_criteria"),
        ("Rank", "com.pyxis.greenhopper.jira:gh-lexo-rank", "any", None),
    ],
)
def test_a_fields_role_comes_from_its_type_and_then_from_its_name(
    name: str, schema_custom: str, schema_type: str, role: str | None
) -> None:
    field = field_of(custom(name, schema_custom, schema_type))

    assert field == Field(field_id="customfield_10020", name=name, field_type=schema_custom, is_custom=True, role=role)


def test_the_operators_choice_takes_a_role_from_the_field_that_looks_like_it() -> None:
    looks_like_it = custom("Severity", "x:select", "option", number=1)
    chosen = custom("Impact", "x:select", "option", number=2)

    assert field_of(looks_like_it, severity_field="customfield_2").role is None
    assert field_of(chosen, severity_field="customfield_2").role == "severity"
    assert field_of(chosen, custom_fields={"story_points": "customfield_2"}).role == "story_points"


def test_a_field_of_jiras_own_has_a_plain_type_and_no_role() -> None:
    field = field_of({"id": "priority", "name": "Severity", "custom": False, "schema": {"type": "priority"}})

    assert (field.field_type, field.is_custom, field.role) == ("priority", False, None)


def test_a_field_without_a_schema_is_kept() -> None:
    assert field_of({"id": "issuekey", "name": "Key"}).field_type is None


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ({"key": "done"}, "done"),
        ({"key": "new"}, "new"),
        ({"key": "indeterminate"}, "indeterminate"),
        ({"key": "undefined"}, "new"),
        ({}, "new"),
        (None, "new"),
    ],
)
def test_a_status_has_one_of_three_categories(category: Any, expected: str) -> None:
    tree = {"id": "10068", "name": "已完成", "statusCategory": category}

    assert parse("statuses", encoded(tree), ParseContext()).statuses == (
        Status(status_id="10068", name="已完成", category=expected),
    )


@pytest.mark.parametrize(
    ("stream", "tree", "complaint"),
    [
        ("fields", {"name": "x"}, "id is missing"),
        ("fields", {"id": ["x"]}, "id is .* where text was expected"),
        ("statuses", {"id": "1"}, "name is missing"),
        ("statuses", {"id": "", "name": "x"}, "id is '' where text was expected"),
    ],
)
def test_a_dictionary_entry_without_its_identity_is_refused(stream: str, tree: Any, complaint: str) -> None:
    with pytest.raises(BadRecordError, match=complaint):
        parse(stream, encoded(tree), ParseContext())


def test_an_unknown_stream_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match="worklogs"):
        parse("worklogs", b"{}", ParseContext())
