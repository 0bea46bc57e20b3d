"""Payloads of GitHub to records: what each field means, and which gaps are bridged.

What belongs here: typed shapes of the payloads, the meaning of reviews, labels and events, and the choice between
several places that say the same. What does not: requests (client.py), and numbers over several records
(models/measures). Pure: the same payload always gives the same records.

Payloads are objects that client.py joins from the answers as received. Of a pull request: `{"repository": {"id",
"full_name", "key"}, "pull_request": {…}, "commits": […]|null, "reviews": […]|null, "timeline": […]|null,
"review_comments": […]|null, "truncated": bool}`; of an issue: `{"repository": …, "issue": {…}, "events": […]|null,
"truncated": bool}`. A null says that the source does not show that part; an empty list, that there is nothing. The key
of a repository is what the scope calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from connectors.base import ParseContext
from connectors.decoding import Time, decoded
from connectors.robots import robot_reason
from models.errors import BadRecordError
from models.records import Account, Batch, Issue, IssueChange, MergeRequest, MergeRequestActivity, Status

MERGE_REQUESTS = "merge_requests"
ISSUES = "issues"
STATUSES = "statuses"


class _User(msgspec.Struct, gc=False):
    id: int | None = None
    login: str | None = None
    name: str | None = None
    email: str | None = None
    type: str | None = None


class _Repository(msgspec.Struct, gc=False):
    id: int
    full_name: str
    key: str


class _Label(msgspec.Struct, gc=False):
    name: str | None = None


class _Branch(msgspec.Struct, gc=False):
    ref: str | None = None
    sha: str | None = None


class _PullRequest(msgspec.Struct, gc=False):
    id: int
    number: int
    state: str
    created_at: Time
    updated_at: Time
    title: str | None = None
    user: _User | None = None
    assignees: list[_User] | None = None
    requested_reviewers: list[_User] | None = None
    draft: bool | None = None
    head: _Branch | None = None
    base: _Branch | None = None
    html_url: str | None = None
    labels: list[_Label] | None = None
    merge_commit_sha: str | None = None
    merged_at: Time | None = None
    merged_by: _User | None = None
    closed_at: Time | None = None
    commits: int | None = None
    comments: int | None = None
    review_comments: int | None = None
    changed_files: int | None = None


class _GitPerson(msgspec.Struct, gc=False):
    # Times of commits come from people's machines and may be anything: an unreadable one is no time, not a bad record.
    date: str | None = None


class _GitCommit(msgspec.Struct, gc=False):
    author: _GitPerson | None = None
    committer: _GitPerson | None = None


class _Commit(msgspec.Struct, gc=False):
    sha: str
    commit: _GitCommit | None = None


class _Review(msgspec.Struct, gc=False):
    id: int
    state: str | None = None
    user: _User | None = None
    submitted_at: Time | None = None


class _Comment(msgspec.Struct, gc=False):
    id: int
    user: _User | None = None
    created_at: Time | None = None


class _Dismissed(msgspec.Struct, gc=False):
    state: str | None = None
    review_id: int | None = None


class _Rename(msgspec.Struct, gc=False, rename={"before": "from", "after": "to"}):
    before: str | None = None
    after: str | None = None


class _Milestone(msgspec.Struct, gc=False):
    title: str | None = None


class _Event(msgspec.Struct, gc=False):
    """An event of an issue or a line of a timeline; commits and grouped comments among these have no id."""

    event: str | None = None
    id: int | None = None
    actor: _User | None = None
    user: _User | None = None
    created_at: Time | None = None
    dismissed_review: _Dismissed | None = None
    label: _Label | None = None
    rename: _Rename | None = None
    assignee: _User | None = None
    milestone: _Milestone | None = None
    state_reason: str | None = None


class _PullRequestPayload(msgspec.Struct, gc=False):
    repository: _Repository
    pull_request: _PullRequest
    commits: list[_Commit] | None = None
    reviews: list[_Review] | None = None
    timeline: list[_Event] | None = None
    review_comments: list[_Comment] | None = None
    truncated: bool = False


class _IssueType(msgspec.Struct, gc=False):
    name: str | None = None


class _Issue(msgspec.Struct, gc=False):
    id: int
    number: int
    state: str
    created_at: Time
    updated_at: Time
    title: str | None = None
    body: str | None = None
    state_reason: str | None = None
    user: _User | None = None
    assignees: list[_User] | None = None
    labels: list[_Label | str] | None = None
    milestone: _Milestone | None = None
    type: _IssueType | None = None
    comments: int | None = None
    closed_at: Time | None = None


class _IssuePayload(msgspec.Struct, gc=False):
    repository: _Repository
    issue: _Issue
    events: list[_Event] | None = None


class _Status(msgspec.Struct, gc=False):
    id: str
    name: str
    category: str


_PULL_REQUEST = msgspec.json.Decoder(_PullRequestPayload)
_ISSUE = msgspec.json.Decoder(_IssuePayload)
_STATUS = msgspec.json.Decoder(_Status)


def parse(stream: str, payload: bytes, context: ParseContext) -> Batch:
    """Turn one staged payload into records.

    Args:
        stream: merge_requests, issues or statuses.
        payload: JSON as staged.
        context: the options `bot_usernames` and `human_usernames` overrule what names and flags say; `bug_labels` names
            the labels that make an issue a bug, in place of `bug`, `defect` and what ends in them (`type: bug`).

    Raises:
        BadRecordError: the payload cannot be understood; the message begins with the field.
    """
    return _PARSERS[stream](payload, context)


class _People:
    """The accounts seen in one payload, each once, in the order of their appearance."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._by_id: dict[int, Account] = {}

    def account(self, user: _User | None) -> Account | None:
        if user is None or user.id is None:
            return None
        known = self._by_id.get(user.id)
        if known is not None:
            return known
        reason = robot_reason(user.login, user.name, user.type == "Bot", self._options)
        account = self._by_id[user.id] = Account(
            external_id=str(user.id),
            username=user.login,
            display_name=user.name,
            email=user.email or None,
            is_bot=reason is not None,
            bot_reason=reason,
        )
        return account

    def all(self) -> tuple[Account, ...]:
        return tuple(self._by_id.values())


def _checked_state(field: str, state: str) -> None:
    if state not in ("open", "closed"):
        raise BadRecordError(f"{field}: {state!r} is neither open nor closed", field=field)


# --- Pull requests ----------------------------------------------------------------------------------------------------

_ACTIVITY_OF_ACT = {
    "commented": "reviewed",
    "changes_requested": "reviewed",
    "approved": "approved",
    "unapproved": "unapproved",
}
_REVIEWS = frozenset({"commented", "changes_requested", "approved"})
_STATE_EVENTS = frozenset({"closed", "reopened", "merged"})
_MOMENT = timedelta(seconds=2)
"""Merging closes too, within the same second or the next one."""


class _Act(NamedTuple):
    """What somebody did to a pull request as a reviewer."""

    at: datetime
    what: str
    """commented, changes_requested, approved or unapproved."""
    account: Account | None
    external_id: str


def _parse_pull_request(payload: bytes, context: ParseContext) -> Batch:
    source = decoded(payload, _PULL_REQUEST)
    shown = source.pull_request
    _checked_state("pull_request.state", shown.state)
    people = _People(context.options)
    author = people.account(shown.user)
    acts = sorted(_acts(source, people), key=lambda act: (act.at, act.external_id))
    by_others = [act for act in acts if act.account and not act.account.is_bot and act.account != author]
    events = {event.id: event for event in source.timeline or () if event.id and event.created_at}.values()
    is_merged = shown.merged_at is not None
    activities = _activities(source, people, author, acts, events)
    merger = people.account(shown.merged_by) or _account_of(activities, "merged", people)
    for user in (*(shown.assignees or ()), *(shown.requested_reviewers or ())):
        people.account(user)
    head, base = shown.head or _Branch(), shown.base or _Branch()
    commits = None if source.commits is None else {commit.sha: commit for commit in source.commits}
    record = MergeRequest(
        external_id=str(shown.id),
        external_project_id=str(source.repository.id),
        iid=shown.number,
        project_path=source.repository.full_name,
        title=shown.title or "",
        author=author,
        state="merged" if is_merged else "opened" if shown.state == "open" else "closed",
        draft=bool(shown.draft),
        source_branch=head.ref,
        target_branch=base.ref,
        web_url=shown.html_url,
        labels=tuple(label.name for label in shown.labels or () if label.name),
        sha=head.sha,
        # Of what is not merged, it is the trial that tells whether it could be.
        merge_commit_sha=shown.merge_commit_sha if is_merged else None,
        squash_commit_sha=None,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        ready_at=_ready_at(shown, events),
        merged_at=shown.merged_at,
        merged_at_is_estimated=False,
        closed_at=shown.closed_at if shown.state == "closed" and not is_merged else None,
        merged_by=merger if is_merged else None,
        first_commit_at=min((at for commit in (commits or {}).values() if (at := _authored_at(commit))), default=None),
        first_review_at=min((act.at for act in by_others if act.what in _REVIEWS), default=None),
        first_approved_at=min((act.at for act in by_others if act.what == "approved"), default=None),
        approved_at=_standing_approval_at(source, people, author),
        commits_count=shown.commits if shown.commits is not None else len(commits) if commits is not None else None,
        notes_count=_notes_count(source, people),
        changes_count=shown.changed_files,
        is_truncated=source.truncated,
        activities=activities,
        accounts=people.all(),
    )
    return Batch(merge_requests=(record,), accounts=record.accounts)


def _acts(source: _PullRequestPayload, people: _People) -> Iterator[_Act]:
    """Reviews, comments, and approvals that were taken away."""
    before = {
        event.dismissed_review.review_id: (event.dismissed_review.state or "").lower()
        for event in source.timeline or ()
        if event.dismissed_review
    }
    for review in {review.id: review for review in source.reviews or ()}.values():
        state = (review.state or "").lower()
        what = before.get(review.id, "commented") if state == "dismissed" else state
        if review.submitted_at and what in _REVIEWS:
            yield _Act(review.submitted_at, what, people.account(review.user), f"review:{review.id}")
    reviewers = {review.id: review.user for review in source.reviews or ()}
    for event in source.timeline or ():
        dismissed = event.dismissed_review
        if dismissed and event.created_at and (dismissed.state or "").lower() == "approved":
            account = people.account(reviewers.get(dismissed.review_id or 0))
            yield _Act(event.created_at, "unapproved", account, f"dismissal:{event.id}")
        elif event.event == "commented" and event.id and event.created_at:
            yield _Act(event.created_at, "commented", people.account(event.user or event.actor), f"comment:{event.id}")
    for comment in source.review_comments or ():
        if comment.created_at:
            yield _Act(comment.created_at, "commented", people.account(comment.user), f"review_comment:{comment.id}")


def _ready_at(shown: _PullRequest, events: Iterable[_Event]) -> datetime | None:
    toggles = sorted(
        (event.created_at, event.event == "ready_for_review")
        for event in events
        if event.event in ("ready_for_review", "convert_to_draft") and event.created_at
    )
    if toggles:
        # The first toggle tells how it began: one cannot draft a draft.
        first_at, is_ready = toggles[0]
        return first_at if is_ready else shown.created_at
    return None if shown.draft else shown.created_at


def _standing_approval_at(source: _PullRequestPayload, people: _People, author: Account | None) -> datetime | None:
    """The last approval by another person that still stands: each reviewer's last verdict counts."""
    verdicts: dict[str, tuple[datetime, str]] = {}
    for review in source.reviews or ():
        account, state = people.account(review.user), (review.state or "").lower()
        if account is None or account == author or account.is_bot or not review.submitted_at:
            continue
        if state in ("approved", "changes_requested", "dismissed"):
            verdict = (review.submitted_at, state)
            verdicts[account.external_id] = max(verdict, verdicts.get(account.external_id, verdict))
    return max((at for at, state in verdicts.values() if state == "approved"), default=None)


def _activities(
    source: _PullRequestPayload,
    people: _People,
    author: Account | None,
    acts: list[_Act],
    events: Iterable[_Event],
) -> tuple[MergeRequestActivity, ...]:
    """What each account did; the author's own comments and reviews are no review and do not count."""
    shown = source.pull_request
    activities = [_activity(author, "authored", shown.created_at, "authored")]
    activities += [
        _activity(act.account, _ACTIVITY_OF_ACT[act.what], act.at, act.external_id)
        for act in acts
        if act.account and act.account != author
    ]
    seen = set()
    for event in events:
        if event.event not in _STATE_EVENTS or event.created_at is None:
            continue
        if event.event == "closed" and shown.merged_at and event.created_at >= shown.merged_at - _MOMENT:
            continue  # merging closes, which nobody did by itself
        seen.add(event.event)
        activities.append(_activity(people.account(event.actor), event.event, event.created_at, f"event:{event.id}"))
    if shown.merged_at and "merged" not in seen:
        activities.append(_activity(people.account(shown.merged_by), "merged", shown.merged_at, "merged"))
    if shown.state == "closed" and not shown.merged_at and shown.closed_at and "closed" not in seen:
        activities.append(_activity(None, "closed", shown.closed_at, "closed"))
    return tuple(sorted(activities, key=lambda activity: (activity.occurred_at, activity.external_id)))


def _activity(account: Account | None, activity: str, occurred_at: datetime, external_id: str) -> MergeRequestActivity:
    return MergeRequestActivity(
        account_id=account.external_id if account else None,
        username=account.username if account else None,
        activity=activity,
        occurred_at=occurred_at,
        external_id=external_id,
    )


def _account_of(activities: Iterable[MergeRequestActivity], activity: str, people: _People) -> Account | None:
    account_ids = {done.account_id for done in activities if done.activity == activity}
    return next((account for account in people.all() if account.external_id in account_ids), None)


def _authored_at(commit: _Commit) -> datetime | None:
    git = commit.commit or _GitCommit()
    return _lenient_time((git.author or _GitPerson()).date) or _lenient_time((git.committer or _GitPerson()).date)


def _lenient_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _notes_count(source: _PullRequestPayload, people: _People) -> int | None:
    """Comments by people, on the whole and on lines; what GitHub counts where it does not show them."""
    shown = source.pull_request
    if source.timeline is None or source.review_comments is None:
        counts = [count for count in (shown.comments, shown.review_comments) if count is not None]
        return sum(counts) if counts else None
    users = {event.id: event.user or event.actor for event in source.timeline if event.event == "commented"}
    users |= {-comment.id: comment.user for comment in source.review_comments}
    accounts = [people.account(user) for user in users.values()]
    return sum(1 for account in accounts if account is None or not account.is_bot)


# --- Issues -----------------------------------------------------------------------------------------------------------

_GRADE = re.compile(r"^(severity|sev|priority|prio)\s*[:/=-]\s*(.+)$", re.IGNORECASE)
_SHORT_GRADE = re.compile(r"^(sev|s|p)-?([0-5])$", re.IGNORECASE)
_STATE_NAMES = {"open": "Open", "closed": "Closed"}


def _parse_issue(payload: bytes, context: ParseContext) -> Batch:
    source = decoded(payload, _ISSUE)
    shown, repository = source.issue, source.repository
    _checked_state("issue.state", shown.state)
    people = _People(context.options)
    labels = tuple(name for label in shown.labels or () if (name := label if isinstance(label, str) else label.name))
    assignees = [people.account(user) for user in shown.assignees or ()]
    reporter = people.account(shown.user)
    bug_labels = _bug_labels(context.options)
    changes = tuple(_changes(source, people, bug_labels))
    native = shown.type.name if shown.type else None
    record = Issue(
        issue_id=f"{repository.id}#{shown.number}",
        key=f"{repository.full_name}#{shown.number}",
        project_key=repository.key,
        issue_type=native or ("Bug" if any(_is_bug_label(name, bug_labels) for name in labels) else "Issue"),
        summary=shown.title or "",
        description=shown.body,
        status_id=shown.state,
        status=_STATE_NAMES[shown.state],
        status_category="done" if shown.state == "closed" else "new",
        status_category_changed_at=max(
            (change.changed_at for change in changes if change.field == "status"), default=shown.created_at
        ),
        priority=_grade(labels, ("priority", "prio", "p")),
        severity=_grade(labels, ("severity", "sev", "s")),
        resolution=(shown.state_reason or "completed") if shown.state == "closed" else None,
        labels=labels,
        components=(),
        fix_versions=(shown.milestone.title,) if shown.milestone and shown.milestone.title else (),
        assignee=next(iter(assignees), None),
        reporter=reporter,
        creator=reporter,
        parent_key=None,
        epic_key=None,
        epic_name=None,
        sprint_id=None,
        sprint=None,
        sprint_state=None,
        sprint_start_at=None,
        sprint_end_at=None,
        sprint_complete_at=None,
        story_points=None,
        original_estimate_seconds=None,
        time_spent_seconds=None,
        subtasks=(),
        linked_issues=(),
        comments_count=shown.comments or 0,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        resolved_at=shown.closed_at if shown.state == "closed" else None,
        due_on=None,
        changes=changes,
    )
    return Batch(issues=(record,), accounts=people.all())


def _bug_labels(options: Mapping[str, Any]) -> frozenset[str] | None:
    names = options.get("bug_labels")
    if not names:
        return None
    listed = names.split(",") if isinstance(names, str) else names
    return frozenset(str(name).strip().lower() for name in listed)


def _is_bug_label(name: str, bug_labels: frozenset[str] | None) -> bool:
    if bug_labels is not None:
        return name.lower() in bug_labels
    return re.split(r"[:/]", name.lower())[-1].strip() in ("bug", "defect")


def _grade(labels: Iterable[str], words: tuple[str, ...]) -> str | None:
    """What labels such as `severity: high` or `P1` say."""
    for label in labels:
        long, short = _GRADE.match(label), _SHORT_GRADE.match(label)
        if long and long[1].lower() in words:
            return long[2].strip()
        if short and short[1].lower() in words:
            return label
    return None


def _changes(source: _IssuePayload, people: _People, bug_labels: frozenset[str] | None) -> Iterator[IssueChange]:
    """One change for each thing that an event says, oldest first."""
    events = {event.id: event for event in source.events or () if event.id and event.created_at}.values()
    bugs: set[str] = set()
    is_typed = source.issue.type is not None
    resolution: str | None = None
    for event in sorted(
        events, key=lambda event: (event.created_at or datetime.max.replace(tzinfo=UTC), event.id or 0)
    ):
        items: list[tuple[str, str | None, str | None]] = []
        label = event.label.name if event.label else None
        if event.event in ("closed", "reopened"):
            reason = (event.state_reason or "completed") if event.event == "closed" else None
            states = ("open", "closed") if event.event == "closed" else ("closed", "open")
            items = [("status", *states), ("resolution", resolution, reason)]
            resolution = reason
        elif event.event in ("labeled", "unlabeled") and label:
            had_bugs = bool(bugs)
            items = [("labels", None, label) if event.event == "labeled" else ("labels", label, None)]
            if _is_bug_label(label, bug_labels) and not is_typed:
                (bugs.add if event.event == "labeled" else bugs.discard)(label)
                if bool(bugs) != had_bugs:
                    items.append(("issuetype", *(("Bug", "Issue") if had_bugs else ("Issue", "Bug"))))
        elif event.event == "renamed" and event.rename:
            items = [("summary", event.rename.before, event.rename.after)]
        elif event.event in ("assigned", "unassigned") and event.assignee:
            name = event.assignee.login
            items = [("assignee", None, name) if event.event == "assigned" else ("assignee", name, None)]
        elif event.event in ("milestoned", "demilestoned") and event.milestone:
            title = event.milestone.title
            items = [("fixVersions", None, title) if event.event == "milestoned" else ("fixVersions", title, None)]
        yield from (_change(event, index, item, people.account(event.actor)) for index, item in enumerate(items))


def _change(event: _Event, index: int, item: tuple[str, str | None, str | None], author: Account | None) -> IssueChange:
    field, before, after = item
    is_status = field == "status"
    return IssueChange(
        change_id=str(event.id),
        item_index=index,
        author_id=author.external_id if author else None,
        author_name=author.username if author else None,
        field=field,
        field_name=field,
        from_value=before if is_status else None,
        from_text=_STATE_NAMES[before] if is_status and before else before,
        to_value=after if is_status else None,
        to_text=_STATE_NAMES[after] if is_status and after else after,
        changed_at=event.created_at or datetime.min.replace(tzinfo=UTC),
    )


# --- Statuses ---------------------------------------------------------------------------------------------------------


def _parse_status(payload: bytes, context: ParseContext) -> Batch:
    del context
    shown = decoded(payload, _STATUS)
    return Batch(statuses=(Status(status_id=shown.id, name=shown.name, category=shown.category),))


_PARSERS: Mapping[str, Callable[[bytes, ParseContext], Batch]] = {
    MERGE_REQUESTS: _parse_pull_request,
    ISSUES: _parse_issue,
    STATUSES: _parse_status,
}
