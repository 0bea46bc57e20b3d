"""What GitLab's payloads mean: the reference case MR-1 of the merge request measures, and what real payloads lack."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import ParseContext
from connectors.decoding import cleaned
from connectors.gitlab.parse import parse
from connectors.robots import robot_reason
from models.errors import BadRecordError
from models.records import Account, MergeRequest, ProjectEvent

CREATED = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
_IDS = itertools.count(9_000)

AUTHOR = {"id": 1, "username": "ann", "name": "Ann"}
REVIEWER = {"id": 2, "username": "ben", "name": "Ben"}
OTHER = {"id": 3, "username": "cleo", "name": "Cleo"}
ROBOT = {"id": 4, "username": "project_7_bot_f00", "name": "ci"}


def at(hours: float) -> datetime:
    """So many hours after the merge request was created."""
    return CREATED + timedelta(hours=hours)


def text(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def note(
    hours: float, author: dict[str, Any] | None, body: str, *, system: bool = False, **more: Any
) -> dict[str, Any]:
    return {"id": next(_IDS), "body": body, "author": author, "created_at": text(at(hours)), "system": system} | more


def system_note(hours: float, author: dict[str, Any] | None, body: str) -> dict[str, Any]:
    return note(hours, author, body, system=True)


def state_event(hours: float, state: str, user: dict[str, Any] | None = OTHER) -> dict[str, Any]:
    return {"id": next(_IDS), "state": state, "user": user, "created_at": text(at(hours))}


def commit(sha: str, authored: str, committed: str | None = None) -> dict[str, Any]:
    return {
        "id": sha,
        "author_email": "ann@example.org",
        "authored_date": authored,
        "committed_date": committed or authored,
    }


def approvals(*entries: tuple[dict[str, Any], float | None]) -> dict[str, Any]:
    return {
        "approved_by": [
            {"user": user} | ({} if hours is None else {"approved_at": text(at(hours))}) for user, hours in entries
        ]
    }


def payload(
    *,
    commits: list[Any] | None = None,
    notes: list[Any] | None = None,
    approvals: Any = None,
    state_events: list[Any] | None = None,
    truncated: bool = False,
    **fields: Any,
) -> bytes:
    row = {
        "id": 100_200,
        "iid": 12,
        "project_id": 7,
        "title": "Add a door",
        "author": AUTHOR,
        "state": "opened",
        "draft": False,
        "created_at": text(CREATED),
        "updated_at": text(at(45)),
        "source_branch": "door",
        "target_branch": "main",
        "references": {"full": "house/walls!12"},
        "web_url": "https://gitlab.example.org/house/walls/-/merge_requests/12",
        "labels": [],
        "user_notes_count": 0,
    } | fields
    parts = {"commits": commits, "notes": notes, "approvals": approvals, "state_events": state_events}
    return json.dumps({"merge_request": row, **parts, "truncated": truncated}).encode()


def record(body: bytes | None = None, *, options: dict[str, Any] | None = None, **fields: Any) -> MergeRequest:
    batch = parse("merge_requests", payload(**fields) if body is None else body, ParseContext(options=options or {}))
    (result,) = batch.merge_requests
    assert batch.accounts == result.accounts
    return result


# --- the reference case -----------------------------------------------------------------------------------------------

MR_1 = {
    "state": "merged",
    "merged_at": text(at(45)),
    "merge_user": OTHER,
    "commits": [
        commit("c3", "2026-06-03T15:20:00.000+00:00"),
        commit("c2", "2026-06-03T17:00:00.000+02:00"),
        commit("c1", "2026-06-02T10:00:00.000+02:00"),
    ],
    "notes": [
        system_note(21, AUTHOR, "marked this merge request as **ready**"),
        note(21 + 1 / 60, ROBOT, "Coverage is 81 %."),
        note(25.5, REVIEWER, "Why a door?"),
        note(26, AUTHOR, "To get in."),
        system_note(44.5, REVIEWER, "approved this merge request"),
    ],
    "approvals": approvals((REVIEWER, 44.5)),
    "state_events": [state_event(45, "merged")],
}


def test_the_reference_case_has_its_seven_times() -> None:
    result = record(**MR_1)
    assert result.first_commit_at == datetime(2026, 6, 2, 8, 0, tzinfo=UTC)
    assert result.created_at == datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
    assert result.ready_at == datetime(2026, 6, 3, 9, 0, tzinfo=UTC)
    assert result.first_review_at == datetime(2026, 6, 3, 13, 30, tzinfo=UTC)
    assert result.first_approved_at == datetime(2026, 6, 4, 8, 30, tzinfo=UTC)
    assert result.approved_at == datetime(2026, 6, 4, 8, 30, tzinfo=UTC)
    assert result.merged_at == datetime(2026, 6, 4, 9, 0, tzinfo=UTC)
    assert not result.merged_at_is_estimated


def test_the_reference_case_counts_what_people_did() -> None:
    result = record(**MR_1)
    assert (result.commits_count, result.notes_count) == (3, 2)
    assert [(done.username, done.activity, done.occurred_at) for done in result.activities] == [
        ("ann", "authored", at(0)),
        ("project_7_bot_f00", "reviewed", at(21 + 1 / 60)),
        ("ben", "reviewed", at(25.5)),
        ("ben", "approved", at(44.5)),
        ("cleo", "merged", at(45)),
    ]
    assert {account.username: account.is_bot for account in result.accounts} == {
        "ann": False,
        "project_7_bot_f00": True,
        "ben": False,
        "cleo": False,
    }
    assert result.merged_by is not None
    assert result.merged_by.external_id == "3"


def test_every_field_of_a_row_arrives() -> None:
    result = record(
        labels=["bug", {"name": "area::door", "color": "#fff"}],
        sha="aa",
        merge_commit_sha="bb",
        squash_commit_sha="cc",
        changes_count="1000+",
        unheard_of={"x": [1]},
    )
    assert result.external_id == "100200"
    assert (result.external_project_id, result.iid, result.project_path) == ("7", 12, "house/walls")
    assert (result.title, result.state, result.draft) == ("Add a door", "opened", False)
    assert (result.source_branch, result.target_branch) == ("door", "main")
    assert result.labels == ("bug", "area::door")
    assert (result.sha, result.merge_commit_sha, result.squash_commit_sha) == ("aa", "bb", "cc")
    assert result.changes_count == 1000
    assert result.author == Account(external_id="1", username="ann", display_name="Ann")
    assert result.updated_at == at(45)


# --- commits ----------------------------------------------------------------------------------------------------------


def test_the_first_commit_is_the_earliest_authored_wherever_it_stands() -> None:
    rebased = [commit("b", "2026-06-01T10:00:00Z", "2026-06-03T10:00:00Z"), commit("a", "2026-06-02T10:00:00Z")]
    assert record(commits=rebased).first_commit_at == datetime(2026, 6, 1, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize("time", ["", None, "yesterday", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_commit_without_a_readable_time_counts_and_tells_no_time(time: str | None) -> None:
    result = record(commits=[{"id": "a", "authored_date": time, "committed_date": time}])
    assert (result.commits_count, result.first_commit_at) == (1, None)


def test_a_commit_may_be_years_older_than_its_merge_request_or_lie_in_the_future() -> None:
    assert record(commits=[commit("a", "1999-01-01T00:00:00+01:00")]).first_commit_at == datetime(
        1998, 12, 31, 23, 0, tzinfo=UTC
    )
    assert record(commits=[commit("a", "2036-01-01T00:00:00Z")]).first_commit_at == datetime(2036, 1, 1, tzinfo=UTC)


def test_absent_parts_are_unknown_and_empty_parts_are_none() -> None:
    absent, empty = record(user_notes_count=5), record(commits=[], notes=[], state_events=[], approvals=approvals())
    assert (absent.commits_count, absent.notes_count, absent.first_commit_at) == (None, 5, None)
    assert (empty.commits_count, empty.notes_count, empty.first_commit_at) == (0, 0, None)


# --- drafts -----------------------------------------------------------------------------------------------------------

READY = "marked this merge request as **ready**"
DRAFT = "marked this merge request as **draft**"


@pytest.mark.parametrize(
    ("is_draft", "toggles", "expected_hours"),
    [
        (False, [], 0),
        (True, [], None),
        (False, [(3, READY)], 3),
        (True, [(2, DRAFT)], 0),
        (True, [(3, READY), (5, DRAFT)], 3),
        (False, [(2, DRAFT), (5, READY)], 0),
        (False, [(3, READY), (5, DRAFT), (8, READY)], 3),
        (True, [(2, DRAFT + " from 0a4574d5")], 0),
        (False, [(4, "unmarked as a **Work In Progress**")], 4),
        (True, [(4, "marked as a **Work In Progress**")], 0),
        (False, [(4, "unmarked this merge request as a **draft**")], 4),
        (True, [(4, "requested review from @ben")], None),
    ],
)
def test_ready_is_the_first_instant_that_it_was_no_draft(
    is_draft: bool, toggles: list[tuple[float, str]], expected_hours: float | None
) -> None:
    notes = [system_note(hours, AUTHOR, body) for hours, body in reversed(toggles)]
    expected = None if expected_hours is None else at(expected_hours)
    assert record(draft=is_draft, notes=notes).ready_at == expected


def test_a_comment_that_speaks_of_drafts_toggles_nothing() -> None:
    assert record(notes=[note(3, REVIEWER, READY)]).ready_at == CREATED


def test_the_old_name_of_a_draft_is_understood() -> None:
    assert record(draft=None, work_in_progress=True).draft is True


# --- reviews and approvals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        note(1, AUTHOR, "Here it is."),
        note(1, ROBOT, "Coverage is 81 %."),
        note(1, {"id": 11, "username": "ghost", "name": "Ghost User"}, "?"),
        note(1, None, "?"),
        system_note(1, REVIEWER, "assigned to @ben"),
        system_note(1, AUTHOR, "approved this merge request"),
        system_note(1, REVIEWER, "mentioned in commit 0a4574d5"),
        note(1, REVIEWER, "no time", created_at=None),
    ],
)
def test_what_is_no_review_by_another_person_starts_no_review(first: dict[str, Any]) -> None:
    assert record(notes=[first]).first_review_at is None
    assert record(notes=[first, note(9, REVIEWER, "Hm.")]).first_review_at == at(9)


@pytest.mark.parametrize(
    "first",
    [
        note(1, REVIEWER, "Why?"),
        note(1, REVIEWER, "Why?", type="DiffNote"),
        system_note(1, REVIEWER, "approved this merge request"),
        system_note(1, REVIEWER, "requested changes"),
        note(1, REVIEWER, "from an old server", system=None),
    ],
)
def test_a_comment_an_approval_or_a_request_for_changes_is_a_review(first: dict[str, Any]) -> None:
    assert record(notes=[note(9, OTHER, "Hm."), first]).first_review_at == at(1)


def test_the_first_approval_stays_the_first_and_the_last_that_stands_is_the_last() -> None:
    notes = [
        system_note(1, AUTHOR, "approved this merge request"),
        system_note(2, REVIEWER, "approved this merge request"),
        system_note(3, REVIEWER, "unapproved this merge request"),
        system_note(4, OTHER, "approved this merge request"),
        system_note(5, REVIEWER, "approved this merge request"),
        system_note(6, REVIEWER, "unapproved this merge request"),
    ]
    for shown in (approvals((OTHER, 4)), None):
        result = record(notes=notes, approvals=shown)
        assert (result.first_approved_at, result.approved_at) == (at(2), at(4))
    assert [(done.username, done.activity) for done in result.activities] == [
        ("ann", "authored"),
        ("ben", "approved"),
        ("ben", "unapproved"),
        ("cleo", "approved"),
        ("ben", "approved"),
        ("ben", "unapproved"),
    ]


@pytest.mark.parametrize("shown", [approvals((OTHER, 2)), None])
def test_a_push_resets_the_approvals_of_those_whom_the_note_names(shown: dict[str, Any] | None) -> None:
    notes = [
        system_note(1, REVIEWER, "approved this merge request"),
        system_note(2, OTHER, "approved this merge request"),
        system_note(3, AUTHOR, "reset approvals from @ben by pushing to the branch"),
    ]
    result = record(notes=notes, approvals=shown)
    assert (result.first_approved_at, result.approved_at) == (at(1), at(2))
    notes.append(system_note(4, AUTHOR, "reset approvals from @ben, @dora.x and @cleo by pushing to the branch"))
    result = record(notes=notes, approvals=shown and approvals())
    assert (result.first_approved_at, result.approved_at) == (at(1), None)
    notes.append(system_note(5, REVIEWER, "approved this merge request"))
    assert record(notes=notes, approvals=shown and approvals((REVIEWER, 5))).approved_at == at(5)


def test_an_approval_that_no_note_shows_is_taken_from_the_list() -> None:
    result = record(notes=[], approvals=approvals((REVIEWER, 7), (AUTHOR, 3), (ROBOT, 2)))
    assert (result.first_approved_at, result.approved_at, result.first_review_at) == (at(7), at(7), at(7))
    assert [(d.username, d.activity, d.external_id) for d in result.activities if d.activity == "approved"] == [
        ("project_7_bot_f00", "approved", "approval:4"),
        ("ben", "approved", "approval:2"),
    ]


def test_an_approval_without_any_time_is_not_given_one() -> None:
    result = record(notes=None, approvals=approvals((REVIEWER, None)))
    assert (result.first_approved_at, result.approved_at) == (None, None)
    assert "ben" in {account.username for account in result.accounts}
    assert [done.activity for done in result.activities] == ["authored"]


def test_an_approval_is_counted_once_whether_the_note_or_the_list_shows_it() -> None:
    notes = [system_note(1, REVIEWER, "approved this merge request")]
    result = record(notes=notes, approvals=approvals((REVIEWER, 1.0001)))
    assert [done.activity for done in result.activities] == ["authored", "approved"]
    assert result.approved_at == at(1)


def test_notes_that_come_twice_count_once() -> None:
    comment = note(1, REVIEWER, "Why?")
    result = record(notes=[comment, comment], state_events=[state_event(2, "closed")] * 2, state="closed")
    assert result.notes_count == 1
    assert [done.activity for done in result.activities] == ["authored", "reviewed", "closed"]


def test_activities_have_ids_of_their_own() -> None:
    ids = [done.external_id for done in record(**MR_1).activities]
    assert len(ids) == len(set(ids))


# --- merging and closing ----------------------------------------------------------------------------------------------


def merged(**fields: Any) -> MergeRequest:
    return record(state="merged", merged_at=fields.pop("merged_at", None), **fields)


def test_a_lost_time_of_merging_is_looked_for_in_order() -> None:
    event, word = state_event(10, "merged"), system_note(11, OTHER, "merged")
    sources: dict[str, Any] = {
        "state_events": [event],
        "notes": [word],
        "commits": [commit("m", text(at(1)), text(at(12)))],
        "merge_commit_sha": "m",
    }
    assert (merged(**sources).merged_at, merged(**sources).merged_at_is_estimated) == (at(10), False)
    del sources["state_events"]
    assert (merged(**sources).merged_at, merged(**sources).merged_at_is_estimated) == (at(11), False)
    del sources["notes"]
    assert (merged(**sources).merged_at, merged(**sources).merged_at_is_estimated) == (at(12), False)
    sources |= {"squash_commit_sha": sources.pop("merge_commit_sha")}
    assert merged(**sources).merged_at == at(12)
    del sources["commits"]
    assert (merged(**sources).merged_at, merged(**sources).merged_at_is_estimated) == (at(45), True)
    sources["merged_at"] = text(at(9))
    assert (merged(**sources).merged_at, merged(**sources).merged_at_is_estimated) == (at(9), False)


def test_the_head_of_a_branch_tells_no_time_of_merging() -> None:
    result = merged(sha="h", commits=[commit("h", text(at(3)))])
    assert (result.merged_at, result.merged_at_is_estimated) == (at(45), True)


def test_an_estimate_is_nobodys_activity() -> None:
    assert [done.activity for done in merged().activities] == ["authored"]


def test_a_time_of_merging_without_a_state_event_is_still_an_activity() -> None:
    result = merged(merged_at=text(at(9)), merged_by=OTHER)
    assert [(done.activity, done.username, done.external_id) for done in result.activities] == [
        ("authored", "ann", "authored"),
        ("merged", "cleo", "merged"),
    ]
    assert result.merged_by is not None
    assert result.merged_by.username == "cleo"


def test_who_merged_is_taken_from_the_event_where_the_row_has_lost_it() -> None:
    result = merged(state_events=[state_event(10, "merged", OTHER)])
    assert result.merged_by is not None
    assert result.merged_by.username == "cleo"


def test_an_earlier_closing_does_not_stay_on_what_was_reopened_or_merged() -> None:
    events = [state_event(1, "closed"), state_event(2, "reopened")]
    reopened = record(closed_at=text(at(1)), closed_by=OTHER, state_events=events)
    assert reopened.closed_at is None
    assert [done.activity for done in reopened.activities] == ["authored", "closed", "reopened"]
    assert merged(closed_at=text(at(1)), merged_at=text(at(3))).closed_at is None


def test_a_closing_is_known_from_the_row_or_else_from_the_last_event() -> None:
    assert record(state="closed", closed_at=text(at(4)), closed_by=OTHER).closed_at == at(4)
    events = [state_event(1, "closed"), state_event(2, "reopened"), state_event(6, "closed")]
    assert record(state="closed", state_events=events).closed_at == at(6)
    unknown = record(state="closed")
    assert unknown.closed_at is None
    assert [done.activity for done in unknown.activities] == ["authored"]


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "name", "is_flagged", "is_robot"),
    [
        ("ann", "Ann", False, False),
        ("abbot", "Abbot", False, False),
        ("talbot", "Talbot", False, False),
        ("robotham", "R. Ham", False, False),
        ("luci", "Luci", False, False),
        ("renovate-fan", "Fan", False, False),
        ("ghostwriter", "G. Writer", False, False),
        (None, None, False, False),
        ("ann", "Ann", True, True),
        ("project_6_bot", "token", False, True),
        ("project_278964_bot_0a1b2c", "token", False, True),
        ("group_12_bot1", "token", False, True),
        ("service_account_group_9_abc", "sa", False, True),
        ("GitLab-Security-Bot", "Sec", False, True),
        ("support-bot", "Support", False, True),
        ("dependabot[bot]", "Dep", False, True),
        ("robot-deploy", "D", False, True),
        ("deploy-robot", "D", False, True),
        ("acme-ci", "CI", False, True),
        ("renovate", "Renovate", False, True),
        ("renovate-bot", "Renovate", False, True),
        ("ghost", "Ghost User", False, True),
        ("ghost1", "Ghost User", False, True),
    ],
)
def test_robots_are_told_from_people(username: str | None, name: str | None, is_flagged: bool, is_robot: bool) -> None:
    assert (robot_reason(username, name, is_flagged, {}) is not None) is is_robot


@pytest.mark.parametrize("listed", [["ACME-ci", "zed"], "zed, ACME-ci", ("acme-ci",)])
def test_the_lists_of_the_operator_overrule_names_and_flags(listed: Any) -> None:
    assert robot_reason("acme-ci", "A", True, {"human_usernames": listed}) is None
    assert robot_reason("Acme-CI", "A", False, {"bot_usernames": listed}) == "listed as a robot"
    assert robot_reason("acme-ci", "A", False, {"human_usernames": listed, "bot_usernames": listed}) is None


def test_the_decision_about_a_robot_is_kept_with_its_reason() -> None:
    result = record(author={"id": 5, "username": "ann", "bot": True})
    assert result.author == Account(external_id="5", username="ann", is_bot=True, bot_reason="flagged by the source")
    result = record(author=ROBOT, options={"human_usernames": "project_7_bot_f00"})
    assert result.author is not None
    assert not result.author.is_bot


def test_an_author_may_be_missing_and_any_person_reviews_then() -> None:
    for author in (None, {"id": None}, {}):
        result = record(author=author, notes=[note(2, REVIEWER, "?")])
        assert result.author is None
        assert result.first_review_at == at(2)
        assert result.activities[0].account_id is None


def test_every_account_is_there_once_with_its_e_mail_where_it_is_shown() -> None:
    result = record(
        assignees=[AUTHOR, OTHER],
        reviewers=[REVIEWER],
        notes=[note(1, REVIEWER | {"email": "ben@example.org"}, "a"), note(2, REVIEWER, "b")],
    )
    assert [(account.external_id, account.email) for account in result.accounts] == [
        ("1", None),
        ("2", "ben@example.org"),
        ("3", None),
    ]


# --- gaps and damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "house/walls"),
        ({"references": None}, "house/walls"),
        ({"references": None, "web_url": "https://h/a/b/c/merge_requests/12"}, "a/b/c"),
        ({"references": None, "web_url": None}, "7"),
    ],
)
def test_the_path_of_a_project_is_found_where_it_is_shown(fields: dict[str, Any], expected: str) -> None:
    assert record(**fields).project_path == expected


def test_a_merge_request_of_a_deleted_fork_is_read() -> None:
    assert record(source_project_id=None, source_branch=None).source_branch is None


@pytest.mark.parametrize(("text_of_count", "expected"), [("17", 17), ("1000+", 1000), (3, 3), (None, None), ("", None)])
def test_the_count_of_changes_may_be_a_text_or_missing(text_of_count: Any, expected: int | None) -> None:
    assert record(changes_count=text_of_count).changes_count == expected


def test_a_truncated_payload_says_so_and_takes_the_sources_count_of_notes() -> None:
    result = record(notes=[note(1, REVIEWER, "a")], user_notes_count=3_000, truncated=True)
    assert (result.is_truncated, result.notes_count) == (True, 3_000)


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"iid": None}, "merge_request.iid", "Expected `int`, got `null`"),
        ({"iid": "12"}, "merge_request.iid", "Expected `int`, got `str`"),
        ({"created_at": "soon"}, "merge_request.created_at", "Invalid RFC3339"),
        ({"created_at": "2026-01-01T00:00:00"}, "merge_request.created_at", "timezone"),
        ({"state": "floating"}, "merge_request.state", "'floating' is none of opened, closed, locked, merged"),
        ({"notes": [note(1, REVIEWER, "a"), {"id": "x"}]}, "notes[1].id", "Expected `int`, got `str`"),
        ({"state_events": [{}]}, "state_events[0].id", "missing"),
        ({"author": "ann"}, "merge_request.author", "Expected `object"),
    ],
)
def test_what_cannot_be_understood_names_the_field_and_says_why(change: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(BadRecordError) as caught:
        record(**change)
    assert caught.value.message.startswith(f"{field}: ")
    assert why in caught.value.message
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize("missing", ["id", "iid", "project_id", "state", "created_at", "updated_at"])
def test_what_a_merge_request_must_have_is_named_when_it_is_missing(missing: str) -> None:
    content = json.loads(payload())
    del content["merge_request"][missing]
    with pytest.raises(BadRecordError) as caught:
        record(json.dumps(content).encode())
    assert caught.value.message == f"merge_request.{missing}: missing"


@pytest.mark.parametrize(
    "damage", [b"", b"null", b"[]", b'{"merge_request": {"id": 1', b"<html>", b"\xff\xfe", b'{"x":' + b"[" * 99_999]
)
def test_damaged_payloads_are_bad_records_and_nothing_worse(damage: bytes) -> None:
    with pytest.raises(BadRecordError):
        record(damage)


def test_nuls_and_half_characters_do_not_reach_the_record() -> None:
    body = payload(
        title="TITLE", notes=[note(1, REVIEWER, "BODY")], author={"id": 1, "username": "USER", "name": "NAME"}
    )
    body = (
        body.replace(b"TITLE", rb"a\u0000b\ud83d\ude00c").replace(b"USER", rb"x\udc00y").replace(b"NAME", b"z\xffz\x01")
    )
    result = record(body)
    assert result.title == "ab\N{GRINNING FACE}c"
    assert result.author is not None
    assert result.author.username == "x\N{REPLACEMENT CHARACTER}y"
    assert result.author.display_name == "z\N{REPLACEMENT CHARACTER}z"


def test_a_backslash_before_what_looks_like_a_nul_is_left_alone() -> None:
    assert record(payload(title="TITLE").replace(b"TITLE", rb"a\\u0000b\\ud800c")).title == r"a\u0000b\ud800c"


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_cleaning_keeps_all_text_that_a_database_takes(value: str) -> None:
    expected = value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert msgspec.json.decode(cleaned(json.dumps(value).encode())) == expected


# --- project events ---------------------------------------------------------------------------------------------------


def event(**fields: Any) -> ProjectEvent:
    shown = {
        "id": 501,
        "project_id": 7,
        "action_name": "pushed to",
        "created_at": text(CREATED),
        "author": AUTHOR,
        "target_type": None,
        "target_iid": None,
    } | fields
    batch = parse("events", json.dumps(shown).encode(), ParseContext())
    (result,) = batch.events
    assert batch.accounts == ((result.author,) if result.author else ())
    return result


def test_a_push_says_what_was_pushed() -> None:
    data = {"commit_count": 3, "action": "pushed", "ref_type": "branch", "ref": "main", "commit_title": None}
    result = event(push_data=data)
    assert (result.external_id, result.external_project_id, result.action) == ("501", "7", "pushed to")
    assert (result.push_action, result.push_ref_type, result.push_commits) == ("pushed", "branch", 3)
    assert result.occurred_at == CREATED
    assert result.author is not None
    assert result.author.username == "ann"


def test_an_event_on_a_target_has_no_push() -> None:
    result = event(action_name="approved", target_type="MergeRequest", target_iid=12)
    assert (result.action, result.target_type, result.target_iid) == ("approved", "MergeRequest", 12)
    assert (result.push_action, result.push_ref_type, result.push_commits) == (None, None, None)


def test_an_event_without_its_author_object_still_names_the_account() -> None:
    result = event(author=None, author_id=9, author_username="dora")
    assert result.author == Account(external_id="9", username="dora")
    assert event(author=None).author is None


@pytest.mark.parametrize("missing", ["id", "project_id", "action_name", "created_at"])
def test_what_an_event_must_have_is_named_when_it_is_missing(missing: str) -> None:
    shown = {"id": 1, "project_id": 7, "action_name": "opened", "created_at": text(CREATED)}
    del shown[missing]
    with pytest.raises(BadRecordError) as caught:
        parse("events", json.dumps(shown).encode(), ParseContext())
    assert caught.value.message == f"{missing}: missing"
