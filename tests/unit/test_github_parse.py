"""Payloads of GitHub to records: reviews, drafts, dismissals, labels, nulls, robots and what cannot be understood."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.base import ParseContext
from connectors.github.parse import parse
from models.errors import BadRecordError
from models.records import Issue, MergeRequest

CREATED = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
_IDS = itertools.count(9_000)

REPOSITORY = {"id": 77, "full_name": "acme/pay", "key": "acme/old-pay"}
AUTHOR = {"id": 1, "login": "ann", "type": "User"}
REVIEWER = {"id": 2, "login": "ben", "type": "User"}
OTHER = {"id": 3, "login": "cleo", "type": "User"}
ROBOT = {"id": 4, "login": "renovate[bot]", "type": "Bot"}


def at(hours: float) -> datetime:
    """So many hours after it was created."""
    return CREATED + timedelta(hours=hours)


def text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def review(hours: float, user: Any, state: str, **more: Any) -> dict[str, Any]:
    return {"id": next(_IDS), "user": user, "state": state, "submitted_at": text(at(hours))} | more


def event(hours: float, name: str, actor: Any = OTHER, **more: Any) -> dict[str, Any]:
    return {"id": next(_IDS), "event": name, "actor": actor, "created_at": text(at(hours))} | more


def comment(hours: float, user: Any) -> dict[str, Any]:
    return event(hours, "commented", user, user=user)


def dismissal(hours: float, dismissed: dict[str, Any], was: str) -> dict[str, Any]:
    return event(hours, "review_dismissed", dismissed_review={"state": was, "review_id": dismissed["id"]})


def line_comment(hours: float, user: Any) -> dict[str, Any]:
    return {"id": next(_IDS), "user": user, "created_at": text(at(hours))}


def commit(sha: str, authored: str | None, committed: str | None = None) -> dict[str, Any]:
    return {"sha": sha, "commit": {"author": {"date": authored}, "committer": {"date": committed or authored}}}


def payload(
    *,
    commits: list[Any] | None = None,
    reviews: list[Any] | None = None,
    timeline: list[Any] | None = None,
    review_comments: list[Any] | None = None,
    truncated: bool = False,
    **fields: Any,
) -> bytes:
    shown = {
        "id": 5_000,
        "number": 12,
        "state": "open",
        "title": "Change",
        "user": AUTHOR,
        "created_at": text(CREATED),
        "updated_at": text(at(10)),
        "head": {"ref": "change", "sha": "abc", "repo": None},
        "base": {"ref": "main", "sha": "def"},
        "html_url": "https://github.com/acme/pay/pull/12",
        "labels": [],
        "draft": False,
    } | fields
    return json.dumps(
        {
            "repository": REPOSITORY,
            "pull_request": shown,
            "commits": commits,
            "reviews": reviews,
            "timeline": timeline,
            "review_comments": review_comments,
            "truncated": truncated,
        }
    ).encode()


def pull_request(options: dict[str, Any] | None = None, **parts: Any) -> MergeRequest:
    (record,) = parse("merge_requests", payload(**parts), ParseContext(options=options or {})).merge_requests
    return record


def issue(options: dict[str, Any] | None = None, events: list[Any] | None = None, **fields: Any) -> Issue:
    shown = {
        "id": 6_000,
        "number": 13,
        "state": "open",
        "title": "It fails",
        "user": AUTHOR,
        "labels": [],
        "comments": 2,
        "created_at": text(CREATED),
        "updated_at": text(at(10)),
    } | fields
    source = json.dumps({"repository": REPOSITORY, "issue": shown, "events": events, "truncated": False}).encode()
    (record,) = parse("issues", source, ParseContext(options=options or {})).issues
    return record


def done(record: MergeRequest) -> list[tuple[str, datetime, str | None]]:
    return [(each.activity, each.occurred_at, each.account_id) for each in record.activities]


MERGED = {"state": "closed", "merged_at": text(at(9)), "closed_at": text(at(9)), "merged_by": OTHER}


# --- pull requests ----------------------------------------------------------------------------------------------------


def test_a_pull_request_is_keyed_by_repository_id_and_number_and_named_as_the_repository_is_now() -> None:
    record = pull_request()
    assert (record.external_project_id, record.iid, record.external_id) == ("77", 12, "5000")
    assert record.project_path == "acme/pay"
    assert (record.source_branch, record.target_branch, record.sha) == ("change", "main", "abc")


@pytest.mark.parametrize(
    ("fields", "state"), [({}, "opened"), ({"state": "closed", "closed_at": text(at(3))}, "closed"), (MERGED, "merged")]
)
def test_closed_is_told_apart_from_merged(fields: dict[str, Any], state: str) -> None:
    record = pull_request(**fields)
    assert record.state == state
    assert record.closed_at == (at(3) if state == "closed" else None)
    assert record.merged_at == (at(9) if state == "merged" else None)
    assert record.merged_at_is_estimated is False


def test_the_trial_merge_of_an_open_one_is_no_merge_commit() -> None:
    assert pull_request(merge_commit_sha="trial").merge_commit_sha is None
    assert pull_request(merge_commit_sha="real", **MERGED).merge_commit_sha == "real"


def test_the_closing_that_is_part_of_merging_is_nobody_s_own_deed() -> None:
    timeline = [event(2, "closed"), event(3, "reopened"), event(9, "merged"), event(9, "closed")]
    assert done(pull_request(timeline=timeline, **MERGED)) == [
        ("authored", CREATED, "1"), ("closed", at(2), "3"), ("reopened", at(3), "3"), ("merged", at(9), "3"),
    ]  # fmt: skip


def test_merging_and_closing_are_known_without_a_timeline() -> None:
    assert done(pull_request(timeline=None, **MERGED))[-1] == ("merged", at(9), "3")
    closed = pull_request(timeline=None, state="closed", closed_at=text(at(4)))
    assert done(closed)[-1] == ("closed", at(4), None)


@pytest.mark.parametrize(
    ("is_draft", "timeline", "expected"),
    [
        (False, [], CREATED),
        (True, [], None),
        (False, [(4, "ready_for_review")], at(4)),
        (True, [(4, "convert_to_draft")], CREATED),
        (False, [(4, "convert_to_draft"), (6, "ready_for_review")], CREATED),
        (True, [(4, "ready_for_review"), (6, "convert_to_draft")], at(4)),
        (False, None, CREATED),
    ],
)
def test_ready_is_the_first_instant_that_it_was_no_draft(is_draft: bool, timeline: Any, expected: Any) -> None:
    lines = None if timeline is None else [event(hours, name) for hours, name in reversed(timeline)]
    assert pull_request(draft=is_draft, timeline=lines).ready_at == expected


def test_the_first_review_is_by_a_person_who_is_not_the_author() -> None:
    record = pull_request(
        reviews=[review(1, AUTHOR, "COMMENTED"), review(2, ROBOT, "COMMENTED"), review(5, REVIEWER, "APPROVED")],
        timeline=[comment(0.5, AUTHOR), comment(0.7, ROBOT), comment(4, OTHER)],
        review_comments=[line_comment(4.5, OTHER), line_comment(1, AUTHOR)],
    )
    assert record.first_review_at == at(4)
    assert record.first_approved_at == record.approved_at == at(5)
    assert record.notes_count == 4  # the robot's is none of people
    assert ("reviewed", at(4.5), "3") in done(record)
    assert [each for each in done(record) if each[2] == "1"] == [("authored", CREATED, "1")]


def test_each_reviewer_s_last_verdict_stands() -> None:
    approved, again = review(2, REVIEWER, "APPROVED"), review(6, OTHER, "APPROVED")
    record = pull_request(
        reviews=[approved, again, review(7, OTHER, "CHANGES_REQUESTED"), review(8, REVIEWER, "COMMENTED")]
    )
    assert record.approved_at == at(2)
    assert record.first_approved_at == at(2)


def test_a_dismissed_approval_was_given_and_taken_back() -> None:
    dismissed = review(3, REVIEWER, "DISMISSED")
    record = pull_request(reviews=[dismissed], timeline=[dismissal(5, dismissed, "approved")])
    assert record.approved_at is None
    assert record.first_approved_at == at(3)
    assert [each for each in done(record) if "approved" in each[0]] == [
        ("approved", at(3), "2"), ("unapproved", at(5), "2"),
    ]  # fmt: skip


def test_a_dismissed_request_for_changes_is_a_review_and_no_approval() -> None:
    dismissed = review(3, REVIEWER, "DISMISSED")
    record = pull_request(reviews=[dismissed], timeline=[dismissal(5, dismissed, "changes_requested")])
    assert (record.first_approved_at, record.approved_at) == (None, None)
    assert record.first_review_at == at(3)
    assert ("reviewed", at(3), "2") in done(record)


def test_what_is_still_being_written_does_not_count() -> None:
    pending = review(3, REVIEWER, "PENDING")
    del pending["submitted_at"]
    record = pull_request(reviews=[pending])
    assert record.first_review_at is None
    assert len(record.activities) == 1


def test_an_author_who_approves_approves_nothing() -> None:
    record = pull_request(reviews=[review(3, AUTHOR, "APPROVED")])
    assert (record.approved_at, record.first_approved_at, len(record.activities)) == (None, None, 1)


def test_the_first_commit_is_the_earliest_authored_and_a_broken_clock_is_no_time() -> None:
    commits = [
        commit("a", "2026-06-01T10:00:00Z"), commit("b", "2023-01-01T00:00:00Z", "2026-06-01T11:00:00Z"),
        commit("c", "0000-00-00T00:00:00Z"), {"sha": "d", "commit": None},
    ]  # fmt: skip
    record = pull_request(commits=commits)
    assert record.first_commit_at == datetime(2023, 1, 1, tzinfo=UTC)
    assert record.commits_count == 4


def test_github_counts_more_commits_than_it_lists() -> None:
    source = json.loads(payload(commits=[commit("a", "2026-06-01T10:00:00Z")], truncated=True))
    source["pull_request"]["commits"] = 400
    (record,) = parse("merge_requests", json.dumps(source).encode(), ParseContext()).merge_requests
    assert (record.commits_count, record.is_truncated) == (400, True)


def test_nulls_everywhere_are_gaps_and_no_errors() -> None:
    record = pull_request(
        title=None, user=None, head=None, base=None, html_url=None, labels=None, draft=None, assignees=None,
        reviews=[review(1, None, "APPROVED"), {"id": 1}], timeline=[event(1, "closed", None), {"event": None}, {}],
        review_comments=[{"id": 3}], commits=[],
    )  # fmt: skip
    assert (record.title, record.author, record.source_branch, record.labels) == ("", None, None, ())
    assert record.approved_at is None
    assert record.commits_count == 0


def test_lines_of_the_timeline_that_have_no_id_and_unknown_ones_are_passed_over() -> None:
    timeline = [
        {"event": "committed", "sha": "a", "author": {"date": text(at(1))}},
        {"event": "line-commented", "comments": [{"id": 1}]},
        event(1, "something_new", more={"deep": [1]}),
    ]
    assert len(pull_request(timeline=timeline).activities) == 1


def test_the_same_line_twice_counts_once() -> None:
    closed, said = event(2, "closed"), comment(3, OTHER)
    record = pull_request(timeline=[closed, closed, said], state="closed", closed_at=text(at(2)))
    assert [each[0] for each in done(record)] == ["authored", "closed", "reviewed"]


@pytest.mark.parametrize(
    ("user", "is_bot"),
    [
        (AUTHOR, False),
        (ROBOT, True),
        ({"id": 9, "login": "copilot", "type": "Bot"}, True),
        ({"id": 10_137, "login": "ghost", "type": "User"}, True),
        ({"id": 9, "login": "dependabot[bot]", "type": "User"}, True),
        ({"id": 9, "login": "abbott", "type": "User"}, False),
    ],
)
def test_robots_are_flagged_and_not_dropped(user: dict[str, Any], is_bot: bool) -> None:
    author = pull_request(user=user).author
    assert author is not None
    assert author.is_bot is is_bot
    assert pull_request({"human_usernames": user["login"]}, user=user).author.is_bot is False  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (b"{", "payload"),
        (b"[]", "payload"),
        (
            b'{"repository": {"id": 1, "full_name": "a/b", "key": "a/b"}, "pull_request": {"id": 1}}',
            "pull_request.number",
        ),
        (payload(state="merged"), "pull_request.state"),
        (payload(created_at="yesterday"), "pull_request.created_at"),
        (payload(created_at="2026-06-02T12:00:00"), "pull_request.created_at"),
        (payload(number="twelve"), "pull_request.number"),
    ],
)
def test_what_cannot_be_understood_says_which_field(source: bytes, field: str) -> None:
    with pytest.raises(BadRecordError) as raised:
        parse("merge_requests", source, ParseContext())
    assert raised.value.message.startswith(field)


def test_what_postgresql_cannot_store_is_taken_out() -> None:
    assert pull_request(title="a\x00b").title == "ab"
    assert pull_request(title="a\ud800b").title == "a\ufffdb"


# --- issues -----------------------------------------------------------------------------------------------------------


def test_an_issue_is_named_as_the_repository_is_now_and_belongs_to_what_the_scope_calls_it() -> None:
    record = issue()
    assert (record.issue_id, record.key, record.project_key) == ("77#13", "acme/pay#13", "acme/old-pay")


def test_states_become_statuses_with_their_history() -> None:
    events = [event(5, "reopened"), event(3, "closed"), event(8, "closed", state_reason="not_planned")]
    record = issue(events=events, state="closed", closed_at=text(at(8)), state_reason="not_planned")
    assert (record.status, record.status_id, record.status_category) == ("Closed", "closed", "done")
    assert (record.resolution, record.resolved_at) == ("not_planned", at(8))
    assert record.status_category_changed_at == at(8)
    steps = [(each.from_text, each.to_text, each.changed_at) for each in record.changes if each.field == "status"]
    assert steps == [("Open", "Closed", at(3)), ("Closed", "Open", at(5)), ("Open", "Closed", at(8))]
    resolutions = [(each.from_text, each.to_text) for each in record.changes if each.field == "resolution"]
    assert resolutions == [(None, "completed"), ("completed", None), (None, "not_planned")]


@pytest.mark.parametrize(
    ("labels", "options", "issue_type"),
    [
        (["bug"], {}, "Bug"),
        (["Type: Bug"], {}, "Bug"),
        (["kind/bug"], {}, "Bug"),
        (["debugging"], {}, "Issue"),
        ([], {}, "Issue"),
        (["bug"], {"bug_labels": "fault, regression"}, "Issue"),
        (["Fault"], {"bug_labels": "fault, regression"}, "Bug"),
        (["fault"], {"bug_labels": ["fault"]}, "Bug"),
    ],
)
def test_labels_say_what_is_a_bug(labels: list[str], options: dict[str, Any], issue_type: str) -> None:
    assert issue(options, labels=[{"name": name} for name in labels]).issue_type == issue_type
    assert issue(options, labels=labels).issue_type == issue_type


def test_a_type_of_the_organisation_goes_before_labels() -> None:
    record = issue(
        type={"name": "Feature"}, labels=[{"name": "bug"}], events=[event(1, "labeled", label={"name": "bug"})]
    )
    assert record.issue_type == "Feature"
    assert [each.field for each in record.changes] == ["labels"]


def test_becoming_a_bug_is_a_change_of_type_whichever_label_says_so() -> None:
    events = [
        event(1, "labeled", label={"name": "bug"}), event(2, "labeled", label={"name": "defect"}),
        event(3, "unlabeled", label={"name": "bug"}), event(4, "unlabeled", label={"name": "defect"}),
    ]  # fmt: skip
    types = [
        (each.from_text, each.to_text, each.changed_at)
        for each in issue(events=events).changes
        if each.field == "issuetype"
    ]
    assert types == [("Issue", "Bug", at(1)), ("Bug", "Issue", at(4))]


@pytest.mark.parametrize(
    ("label", "severity", "priority"),
    [
        ("severity: high", "high", None), ("sev/critical", "critical", None), ("SEV-1", "SEV-1", None),
        ("priority: low", None, "low"), ("P1", None, "P1"), ("p-limit", None, None), ("priority", None, None),
    ],
)  # fmt: skip
def test_labels_grade(label: str, severity: str | None, priority: str | None) -> None:
    record = issue(labels=[{"name": label}])
    assert (record.severity, record.priority) == (severity, priority)


def test_other_events_are_changes_of_their_fields() -> None:
    events = [
        event(1, "renamed", rename={"from": "a", "to": "b"}), event(2, "assigned", assignee=REVIEWER),
        event(3, "unassigned", assignee=REVIEWER), event(4, "milestoned", milestone={"title": "1.0"}),
        event(5, "demilestoned", milestone={"title": "1.0"}), event(6, "subscribed"), event(7, "labeled"),
    ]  # fmt: skip
    assert [(each.field, each.from_text, each.to_text, each.author_name) for each in issue(events=events).changes] == [
        ("summary", "a", "b", "cleo"), ("assignee", None, "ben", "cleo"), ("assignee", "ben", None, "cleo"),
        ("fixVersions", None, "1.0", "cleo"), ("fixVersions", "1.0", None, "cleo"),
    ]  # fmt: skip


def test_nulls_in_an_issue_are_gaps() -> None:
    record = issue(
        user=None, title=None, body=None, assignees=None, labels=None, milestone=None, type=None, comments=None,
        events=[event(1, "closed", None), event(2, "labeled", label={"name": None}), {"id": 1}],
    )  # fmt: skip
    assert (record.summary, record.reporter, record.labels, record.comments_count) == ("", None, (), 0)
    assert {each.author_id for each in record.changes} == {None}


def test_an_issue_in_an_unknown_state_is_set_aside() -> None:
    with pytest.raises(BadRecordError, match=r"issue\.state"):
        issue(state="merged")
