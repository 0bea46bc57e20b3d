"""A pull request of GitHub to a record: reviews, dismissals, drafts, and what merging closes.

What belongs here: the meaning of a pull request and its parts. What does not: what it shares with issues (shapes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from connectors.base import ParseContext
from connectors.decoding import Time, decoded
from connectors.github.shapes import Comment, Event, Label, People, Repository, User, check_state
from models.records import Account, Batch, MergeRequest, MergeRequestActivity


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
    user: User | None = None
    assignees: list[User] | None = None
    requested_reviewers: list[User] | None = None
    draft: bool | None = None
    head: _Branch | None = None
    base: _Branch | None = None
    html_url: str | None = None
    labels: list[Label] | None = None
    merge_commit_sha: str | None = None
    merged_at: Time | None = None
    merged_by: User | None = None
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
    user: User | None = None
    submitted_at: Time | None = None


class _PullRequestPayload(msgspec.Struct, gc=False):
    repository: Repository
    pull_request: _PullRequest
    commits: list[_Commit] | None = None
    reviews: list[_Review] | None = None
    timeline: list[Event] | None = None
    review_comments: list[Comment] | None = None
    truncated: bool = False


_PULL_REQUEST = msgspec.json.Decoder(_PullRequestPayload)


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


def parse_pull_request(payload: bytes, context: ParseContext) -> Batch:
    """One payload to a merge request and its accounts; see `parse`."""
    source = decoded(payload, _PULL_REQUEST)
    shown = source.pull_request
    check_state("pull_request.state", shown.state)
    people = People(context.options)
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


def _acts(source: _PullRequestPayload, people: People) -> Iterator[_Act]:
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


def _ready_at(shown: _PullRequest, events: Iterable[Event]) -> datetime | None:
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


def _standing_approval_at(source: _PullRequestPayload, people: People, author: Account | None) -> datetime | None:
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
    people: People,
    author: Account | None,
    acts: list[_Act],
    events: Iterable[Event],
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


def _account_of(activities: Iterable[MergeRequestActivity], activity: str, people: People) -> Account | None:
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


def _notes_count(source: _PullRequestPayload, people: People) -> int | None:
    """Comments by people, on the whole and on lines; what GitHub counts where it does not show them."""
    shown = source.pull_request
    if source.timeline is None or source.review_comments is None:
        counts = [count for count in (shown.comments, shown.review_comments) if count is not None]
        return sum(counts) if counts else None
    users = {event.id: event.user or event.actor for event in source.timeline if event.event == "commented"}
    users |= {-comment.id: comment.user for comment in source.review_comments}
    accounts = [people.account(user) for user in users.values()]
    return sum(1 for account in accounts if account is None or not account.is_bot)
