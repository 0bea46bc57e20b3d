"""Payloads of merge requests to records: what each field means, and which gaps are bridged. Pure.

What belongs here: typed shapes, the meaning of system notes, and the choice between several places that say the same.
What does not: requests (merge_requests.py), and numbers over several records (models/measures).

The payload is one object that merge_requests.py joins from the answers as received:
`{"merge_request": {…}, "commits": […]|null, "notes": […]|null, "approvals": {…}|null, "state_events": […]|null,
"truncated": bool}`. A null says that the source does not show that part; an empty list, that there is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from connectors.base import ParseContext
from connectors.decoding import Time, decoded
from connectors.gitlab.people import People, User
from models.errors import BadRecordError
from models.records import Account, Batch, Commit, MergeRequest, MergeRequestActivity

_STATES = ("opened", "closed", "locked", "merged")
_STATE_ACTIVITIES = frozenset({"closed", "reopened", "merged"})


class _References(msgspec.Struct, gc=False):
    full: str | None = None


class _Label(msgspec.Struct, gc=False):
    name: str


class _MergeRequest(msgspec.Struct, gc=False):
    id: int
    iid: int
    project_id: int
    state: str
    created_at: Time
    updated_at: Time
    title: str | None = None
    author: User | None = None
    assignees: list[User] | None = None
    reviewers: list[User] | None = None
    draft: bool | None = None
    work_in_progress: bool | None = None
    source_branch: str | None = None
    target_branch: str | None = None
    web_url: str | None = None
    references: _References | None = None
    labels: list[str | _Label] | None = None
    sha: str | None = None
    merge_commit_sha: str | None = None
    squash_commit_sha: str | None = None
    merged_at: Time | None = None
    merge_user: User | None = None
    merged_by: User | None = None
    closed_at: Time | None = None
    closed_by: User | None = None
    user_notes_count: int | None = None
    changes_count: str | int | None = None


class _Commit(msgspec.Struct, gc=False):
    id: str
    author_email: str | None = None
    # Times of commits come from people's machines and may be anything: an unreadable one is no time, not a bad record.
    authored_date: str | None = None
    committed_date: str | None = None
    created_at: str | None = None


class _Note(msgspec.Struct, gc=False):
    id: int
    body: str | None = None
    author: User | None = None
    created_at: Time | None = None
    system: bool | None = None


class _Approval(msgspec.Struct, gc=False):
    user: User | None = None
    approved_at: Time | None = None


class _Approvals(msgspec.Struct, gc=False):
    approved_by: list[_Approval] | None = None


class _StateEvent(msgspec.Struct, gc=False):
    id: int
    state: str | None = None
    user: User | None = None
    created_at: Time | None = None


class _Payload(msgspec.Struct, gc=False):
    merge_request: _MergeRequest
    commits: list[_Commit] | None = None
    notes: list[_Note] | None = None
    approvals: _Approvals | None = None
    state_events: list[_StateEvent] | None = None
    truncated: bool = False


_PAYLOAD = msgspec.json.Decoder(_Payload)

_DRAFT_NOTE = re.compile(
    r"(?P<un>un)?marked (this merge request )?as (a )?\*\*(?P<what>draft|ready|work in progress)\*\*", re.IGNORECASE
)
_WORDS_OF_NOTES = {
    "approved this merge request": "approved",
    "unapproved this merge request": "unapproved",
    "requested changes": "requested changes",
    "reset approvals from": "reset approvals",
}
_REVIEWS = frozenset({"commented", "approved", "requested changes"})
_ACTIVITY_OF_ACT = {
    "commented": "reviewed",
    "requested changes": "reviewed",
    "approved": "approved",
    "unapproved": "unapproved",
}


class _Act(NamedTuple):
    """What a note or an approval shows that somebody did."""

    at: datetime
    what: str
    """commented, approved, unapproved, requested changes, reset approvals, drafted or readied."""
    account: Account | None
    external_id: str
    body: str


def parse_merge_request(payload: bytes, context: ParseContext) -> Batch:
    """Turn the payload of a merge request into its record; see `connectors.gitlab.parse.parse`."""
    source = decoded(payload, _PAYLOAD)
    shown = source.merge_request
    if shown.state not in _STATES:
        raise BadRecordError(
            f"merge_request.state: {shown.state!r} is none of {', '.join(_STATES)}", field="merge_request.state"
        )
    people = People(context.options)
    author = people.account(shown.author)
    acts = _acts(source, people)
    by_others = [act for act in acts if act.account and not act.account.is_bot and act.account != author]
    approvals_by_others = [act for act in by_others if act.what == "approved"]
    commits = None if source.commits is None else [_commit(commit) for commit in source.commits]
    merged_at, is_estimated = _merged_at(source, commits or ())
    is_draft = bool(shown.draft or shown.work_in_progress)
    activities = _activities(source, people, author, acts, None if is_estimated else merged_at)
    merged_by = people.account(shown.merge_user or shown.merged_by) if shown.state == "merged" else None
    for user in (*(shown.assignees or ()), *(shown.reviewers or ())):
        people.account(user)
    record = MergeRequest(
        external_id=str(shown.id),
        external_project_id=str(shown.project_id),
        iid=shown.iid,
        project_path=_project_path(shown),
        title=shown.title or "",
        author=author,
        state=shown.state,
        draft=is_draft,
        source_branch=shown.source_branch,
        target_branch=shown.target_branch,
        web_url=shown.web_url,
        labels=tuple(label if isinstance(label, str) else label.name for label in shown.labels or ()),
        sha=shown.sha,
        merge_commit_sha=shown.merge_commit_sha,
        squash_commit_sha=shown.squash_commit_sha,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        ready_at=_ready_at(shown.created_at, is_draft, acts),
        merged_at=merged_at,
        merged_at_is_estimated=is_estimated,
        closed_at=_closed_at(source),
        merged_by=merged_by or _account_of(activities, "merged", people),
        first_commit_at=min((c.authored_at for c in commits or () if c.authored_at), default=None),
        first_review_at=min((act.at for act in by_others if act.what in _REVIEWS), default=None),
        first_approved_at=min((act.at for act in approvals_by_others), default=None),
        approved_at=_standing_approval_at(source, approvals_by_others, acts),
        commits_count=None if commits is None else len({commit.sha for commit in commits}),
        notes_count=_notes_count(source, people),
        changes_count=_leading_number(shown.changes_count),
        is_truncated=source.truncated,
        activities=activities,
        accounts=people.all(),
    )
    return Batch(merge_requests=(record,), accounts=record.accounts)


def _acts(source: _Payload, people: People) -> list[_Act]:
    """What the notes show, oldest first, and the approvals that no note shows."""
    acts = []
    for note in {note.id: note for note in source.notes or ()}.values():
        what = _what_note_says(note)
        if what and note.created_at:
            acts.append(_Act(note.created_at, what, people.account(note.author), f"note:{note.id}", note.body or ""))
    noted = {act.account for act in acts if act.what == "approved"}
    for approval in _approved_by(source):
        account = people.account(approval.user)
        # Without a time of its own, and without a note, it is not known when: the update time moves and would lie.
        if account and account not in noted and approval.approved_at:
            acts.append(_Act(approval.approved_at, "approved", account, f"approval:{account.external_id}", ""))
    return sorted(acts, key=lambda act: (act.at, act.external_id))


def _what_note_says(note: _Note) -> str | None:
    if not note.system:
        return "commented"
    body = note.body or ""
    toggled = _DRAFT_NOTE.match(body)
    if toggled:
        is_ready = toggled["what"].lower() == "ready" or toggled["un"] is not None
        return "readied" if is_ready else "drafted"
    return next((what for words, what in _WORDS_OF_NOTES.items() if body.startswith(words)), None)


def _approved_by(source: _Payload) -> Iterable[_Approval]:
    return (source.approvals.approved_by if source.approvals else None) or ()


def _ready_at(created_at: datetime, is_draft: bool, acts: list[_Act]) -> datetime | None:
    toggles = [act for act in acts if act.what in {"drafted", "readied"}]
    if toggles:
        # The first toggle tells how it began: one cannot draft a draft.
        return toggles[0].at if toggles[0].what == "readied" else created_at
    return None if is_draft else created_at


def _standing_approval_at(source: _Payload, approvals: list[_Act], acts: list[_Act]) -> datetime | None:
    """The last approval by another person that still stands.

    The source's list of who approves now is the truth where it shows one; else the notes are replayed.
    """
    if source.approvals is not None:
        standing = {str(approval.user.id) for approval in _approved_by(source) if approval.user}
        return max((act.at for act in approvals if act.account and act.account.external_id in standing), default=None)
    approved_at: dict[str, datetime] = {}
    others = {act.account.external_id for act in approvals if act.account}
    for act in acts:
        if act.what == "reset approvals":
            named = set(re.findall(r"@([\w.-]*\w)", act.body))
            approved_at = {
                other: at for other, at in approved_at.items() if _username_of(other, approvals) not in named
            }
        elif act.account and act.account.external_id in others:
            if act.what == "approved":
                approved_at[act.account.external_id] = act.at
            elif act.what == "unapproved":
                approved_at.pop(act.account.external_id, None)
    return max(approved_at.values(), default=None)


def _username_of(account_id: str, acts: list[_Act]) -> str | None:
    return next((act.account.username for act in acts if act.account and act.account.external_id == account_id), None)


def _merged_at(source: _Payload, commits: Iterable[Commit]) -> tuple[datetime | None, bool]:
    """When it was merged, and whether that is an estimate: very old and imported ones have lost the time."""
    shown = source.merge_request
    if shown.state != "merged":
        return None, False
    if shown.merged_at:
        return shown.merged_at, False
    results = {shown.merge_commit_sha, shown.squash_commit_sha} - {None}
    told = (
        max((e.created_at for e in source.state_events or () if e.state == "merged" and e.created_at), default=None)
        or max(
            (n.created_at for n in source.notes or () if n.system and n.body == "merged" and n.created_at), default=None
        )
        or max((c.committed_at for c in commits if c.sha in results and c.committed_at), default=None)
    )
    return told or shown.updated_at, told is None


def _closed_at(source: _Payload) -> datetime | None:
    """When it was closed, if it is: what was reopened or merged may keep the time of an earlier closing."""
    if source.merge_request.state != "closed":
        return None
    events = (event.created_at for event in source.state_events or () if event.state == "closed" and event.created_at)
    return source.merge_request.closed_at or max(events, default=None)


def _activities(
    source: _Payload, people: People, author: Account | None, acts: list[_Act], merged_at: datetime | None
) -> tuple[MergeRequestActivity, ...]:
    """What each account did; the author's own comments and approvals are no review and do not count."""
    shown = source.merge_request
    activities = [_activity(author, "authored", shown.created_at, "authored")]
    activities += [
        _activity(act.account, _ACTIVITY_OF_ACT[act.what], act.at, act.external_id)
        for act in acts
        if act.account and act.account != author and act.what in _ACTIVITY_OF_ACT
    ]
    seen = set()
    for event in {event.id: event for event in source.state_events or ()}.values():
        if event.state in _STATE_ACTIVITIES and event.created_at:
            seen.add(event.state)
            activities.append(
                _activity(people.account(event.user), event.state or "", event.created_at, f"state:{event.id}")
            )
    if merged_at and "merged" not in seen:
        activities.append(_activity(people.account(shown.merge_user or shown.merged_by), "merged", merged_at, "merged"))
    if shown.state == "closed" and shown.closed_at and "closed" not in seen:
        activities.append(_activity(people.account(shown.closed_by), "closed", shown.closed_at, "closed"))
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


def _commit(commit: _Commit) -> Commit:
    return Commit(
        sha=commit.id,
        author_email=commit.author_email,
        authored_at=_lenient_time(commit.authored_date) or _lenient_time(commit.created_at),
        committed_at=_lenient_time(commit.committed_date) or _lenient_time(commit.created_at),
    )


def _lenient_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _notes_count(source: _Payload, people: People) -> int | None:
    shown_count = source.merge_request.user_notes_count
    if source.notes is None:
        return shown_count
    comments = {note.id: note for note in source.notes if not note.system}.values()
    accounts = [people.account(comment.author) for comment in comments]
    count = sum(1 for account in accounts if account is None or not account.is_bot)
    return max(count, shown_count or 0) if source.truncated else count


def _leading_number(text: str | int | None) -> int | None:
    """`"1000+"` is what the source says beyond a thousand."""
    digits = re.match(r"\d+", str(text))
    return int(digits[0]) if digits else None


def _project_path(shown: _MergeRequest) -> str:
    full = shown.references.full if shown.references else None
    if full and "!" in full:
        return full.rpartition("!")[0]
    in_url = re.match(r"https?://[^/]+/(.+?)(?:/-)?/merge_requests/\d+", shown.web_url or "")
    return in_url[1] if in_url else str(shown.project_id)
