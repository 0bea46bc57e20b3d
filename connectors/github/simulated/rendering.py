"""How a simulated GitHub's things look as JSON, and what a complete sync must know of them.

Here belongs the shape of payloads, written from GitHub's documentation. Where they are served stands in `simulator.py`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from connectors.github.simulated.world import (
    GHOST_ID,
    HUMANS_FROM_ID,
    Comment,
    Commit,
    Event,
    Person,
    Repository,
    Review,
    Thing,
    sha,
)

WEB_URL = "https://github.example.test"
"""What stands in links inside payloads; the API's own links name the host that was asked."""
API_URL = f"{WEB_URL}/api/v3"


def iso(at: datetime | None) -> str | None:
    """As GitHub renders times: UTC, whole seconds."""
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def person_json(person: Person | None) -> dict[str, Any] | None:
    """An account as it stands inside other things."""
    if person is None:
        return None
    return {
        "login": person.login,
        "id": person.id,
        "node_id": f"U_{person.id}",
        "avatar_url": f"{WEB_URL}/u/{person.id}",
        "url": f"{API_URL}/users/{person.login}",
        "html_url": f"{WEB_URL}/{person.login}",
        "type": person.type,
        "user_view_type": "public",
        "site_admin": False,
    }


def repository_json(repository: Repository) -> dict[str, Any]:
    """A repository."""
    owner, _, name = repository.full_name.partition("/")
    return {
        "id": repository.id,
        "node_id": f"R_{repository.id}",
        "name": name,
        "full_name": repository.full_name,
        "owner": {"login": owner, "id": 7, "type": "Organization"},
        "private": True,
        "html_url": f"{WEB_URL}/{repository.full_name}",
        "description": None,
        "fork": False,
        "url": f"{API_URL}/repos/{repository.full_name}",
        "default_branch": "main",
        "has_issues": True,
        "archived": False,
        "visibility": "private",
    }


def labels_json(thing: Thing) -> list[dict[str, Any]]:
    """The labels of a thing."""
    return [{"id": 1, "node_id": "L", "name": name, "color": "d73a4a", "default": False} for name in thing.labels]


def issue_json(thing: Thing) -> dict[str, Any]:
    """A row of the list of issues; a pull request is one of them."""
    home = f"{API_URL}/repos/{thing.repository.full_name}"
    row: dict[str, Any] = {
        "url": f"{home}/issues/{thing.number}",
        "repository_url": home,
        "id": thing.id,
        "node_id": f"I_{thing.id}",
        "number": thing.number,
        "title": thing.title,
        "user": person_json(thing.author),
        "labels": labels_json(thing),
        "state": "open" if thing.is_open else "closed",
        "locked": False,
        "assignee": person_json(thing.assignee),
        "assignees": [person_json(thing.assignee)] if thing.assignee else [],
        "milestone": None,
        "comments": len(thing.comments),
        "created_at": iso(thing.created_at),
        "updated_at": iso(thing.updated_at),
        "closed_at": iso(thing.closed_at),
        "author_association": "MEMBER",
        "active_lock_reason": None,
        "body": None if thing.number % 7 == 0 else "What happens, and what should.",
        "closed_by": None,
        "timeline_url": f"{home}/issues/{thing.number}/timeline",
        "performed_via_github_app": None,
        "state_reason": thing.state_reason,
    }
    if thing.is_pull_request:
        row["draft"] = thing.is_draft
        row["pull_request"] = {
            "url": f"{home}/pulls/{thing.number}",
            "html_url": f"{WEB_URL}/{thing.repository.full_name}/pull/{thing.number}",
            "merged_at": iso(thing.merged_at),
        }
    else:
        row["type"] = None
    return row


def pull_request_json(thing: Thing) -> dict[str, Any]:
    """A pull request by itself, which says more than a row of a list."""
    home = repository_json(thing.repository)
    head = thing.commits[-1].sha if thing.commits else sha(thing.id, "base")
    return {
        "url": f"{home['url']}/pulls/{thing.number}",
        "id": thing.id,
        "node_id": f"PR_{thing.id}",
        "html_url": f"{home['html_url']}/pull/{thing.number}",
        "number": thing.number,
        "state": "open" if thing.is_open else "closed",
        "locked": False,
        "title": thing.title,
        "user": person_json(thing.author),
        "body": None,
        "created_at": iso(thing.created_at),
        "updated_at": iso(thing.updated_at),
        "closed_at": iso(thing.closed_at),
        "merged_at": iso(thing.merged_at),
        # While it is open, the commit of a trial merge.
        "merge_commit_sha": thing.merge_commit_sha or sha(thing.id, "trial"),
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": labels_json(thing),
        "milestone": None,
        "draft": thing.is_draft,
        # The head's repository is gone where a fork was deleted.
        "head": {"label": "acme:change", "ref": f"change-{thing.number}", "sha": head, "user": None, "repo": None},
        "base": {"label": "acme:main", "ref": "main", "sha": sha(thing.id, "base"), "repo": home},
        "author_association": "MEMBER",
        "auto_merge": None,
        "active_lock_reason": None,
        "merged": thing.merged_at is not None,
        "mergeable": None,
        "rebaseable": None,
        "mergeable_state": "unknown",
        "merged_by": person_json(thing.merged_by),
        "comments": len(thing.comments),
        "review_comments": len(thing.line_comments),
        "maintainer_can_modify": False,
        "commits": len(thing.commits),
        "additions": 10,
        "deletions": 2,
        "changed_files": thing.changed_files,
    }


def commit_json(thing: Thing, commit: Commit) -> dict[str, Any]:
    """A commit of a pull request; its times are the author's clock's, in UTC."""
    email = f"{commit.person.login}@example.test"
    return {
        "url": f"{API_URL}/repos/{thing.repository.full_name}/commits/{commit.sha}",
        "sha": commit.sha,
        "node_id": f"C_{commit.sha}",
        "commit": {
            "author": {"name": commit.person.name, "email": email, "date": iso(commit.authored_at)},
            "committer": {"name": "GitHub", "email": "noreply@github.test", "date": iso(commit.committed_at)},
            "message": thing.title,
            "comment_count": 0,
        },
        "author": person_json(commit.person) if commit.person.id != GHOST_ID else None,
        "committer": None,
        "parents": [],
    }


def review_json(thing: Thing, review: Review) -> dict[str, Any]:
    """A review."""
    return {
        "id": review.id,
        "node_id": f"PRR_{review.id}",
        "user": person_json(review.person),
        "body": "",
        "state": review.state,
        "html_url": f"{WEB_URL}/{thing.repository.full_name}/pull/{thing.number}#pullrequestreview-{review.id}",
        "author_association": "MEMBER",
        "submitted_at": iso(review.at),
        "commit_id": thing.commits[-1].sha if thing.commits else None,
    }


def line_comment_json(thing: Thing, comment: Comment) -> dict[str, Any]:
    """A comment on a line."""
    return {
        "id": comment.id,
        "pull_request_review_id": comment.review_id,
        "path": "src/app.py",
        "position": None,
        "commit_id": sha(thing.id),
        "user": person_json(comment.person),
        "body": "nit: naming",
        "created_at": iso(comment.at),
        "updated_at": iso(comment.at),
        "author_association": "MEMBER",
    }


def event_json(thing: Thing, event: Event) -> dict[str, Any]:
    """An event of an issue, which is also a line of the timeline."""
    return {
        "id": event.id,
        "node_id": f"E_{event.id}",
        "url": f"{API_URL}/repos/{thing.repository.full_name}/issues/events/{event.id}",
        "actor": person_json(event.person),
        "event": event.name,
        "commit_id": None,
        "commit_url": None,
        "created_at": iso(event.at),
        "performed_via_github_app": None,
        **event.more,
    }


def timeline_json(thing: Thing) -> list[dict[str, Any]]:
    """The timeline: events, comments, commits and reviews, in order; commits have neither id nor actor."""
    lines = [(event.at, event_json(thing, event)) for event in thing.events]
    for comment in thing.comments:
        person = person_json(comment.person)
        more = {"event": "commented", "user": person, "actor": person, "body": "Thanks!", "id": comment.id}
        lines.append((comment.at, more | {"created_at": iso(comment.at), "updated_at": iso(comment.at)}))
    for commit in thing.commits[-250:]:
        git = commit_json(thing, commit)["commit"]
        lines.append((commit.committed_at, {"event": "committed", "sha": commit.sha, **git}))
    for review in thing.reviews:
        shown = review_json(thing, review)
        lines.append((review.at, shown | {"event": "reviewed", "state": review.state.lower()}))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


class ExpectedPullRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete sync must know of one pull request, from the model itself and not from its JSON."""

    id: int
    number: int
    repository_id: int
    repository_name: str
    title: str
    state: str
    draft: bool
    author_id: int | None
    created_at: datetime
    updated_at: datetime
    merged_at: datetime | None
    merged_by_id: int | None
    closed_at: datetime | None
    ready_at: datetime | None
    first_commit_at: datetime | None
    commits: int
    comments: int
    """By people, on the whole and on lines."""
    first_review_at: datetime | None
    """The first comment or review by a human who is not the author."""
    approvals: tuple[tuple[int, datetime, str], ...]
    """Account, time, approved or unapproved."""
    standing_approval_at: datetime | None
    state_events: tuple[tuple[str, datetime], ...]
    """Closed, reopened and merged, in order; the closing that is part of merging left out."""


class ExpectedIssue(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete sync must know of one issue."""

    number: int
    repository_id: int
    repository_name: str
    title: str
    is_open: bool
    is_bug: bool
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    labels: tuple[str, ...]
    states: tuple[tuple[str, datetime], ...]
    """Closed and reopened, in order."""


def expected_pull_request(thing: Thing) -> ExpectedPullRequest:
    """What a complete sync must know of it."""

    def is_reviewer(person: Person | None) -> bool:
        return person is not None and person is not thing.author and HUMANS_FROM_ID < person.id < GHOST_ID

    def is_from_a_human(comment: Comment) -> bool:
        # Somebody unknown is held to be one.
        return comment.person is None or (comment.person.type == "User" and comment.person.id != GHOST_ID)

    reviews = [review for review in thing.reviews if is_reviewer(review.person)]
    said = [comment for comment in (*thing.comments, *thing.line_comments) if is_reviewer(comment.person)]
    approvals = [(review.person.id, review.at, "approved") for review in reviews if review.submitted_as == "APPROVED"]
    approvals += [
        (review.person.id, review.dismissed_at, "unapproved")
        for review in reviews
        if review.submitted_as == "APPROVED" and review.dismissed_at
    ]
    verdicts = {review.person.id: review for review in reviews if review.state != "COMMENTED"}
    standing = [review.at for review in verdicts.values() if review.state == "APPROVED"]
    events = [event for event in thing.events if event.name in ("closed", "reopened", "merged")]
    if thing.merged_at:
        events = [event for event in events if event.name != "closed" or event.at < thing.merged_at]
    return ExpectedPullRequest(
        id=thing.id,
        number=thing.number,
        repository_id=thing.repository.id,
        repository_name=thing.repository.full_name,
        title=thing.title,
        state="merged" if thing.merged_at else "opened" if thing.is_open else "closed",
        draft=thing.is_draft,
        author_id=thing.author.id if thing.author else None,
        created_at=thing.created_at,
        updated_at=thing.updated_at,
        merged_at=thing.merged_at,
        merged_by_id=thing.merged_by.id if thing.merged_by else None,
        closed_at=None if thing.merged_at else thing.closed_at,
        ready_at=thing.ready_at,
        first_commit_at=min((commit.authored_at for commit in thing.commits), default=None),
        commits=len(thing.commits),
        comments=sum(is_from_a_human(each) for each in (*thing.comments, *thing.line_comments)),
        first_review_at=min([*(each.at for each in reviews), *(each.at for each in said)], default=None),
        approvals=tuple(sorted(approvals, key=lambda each: (each[1], each[0]))),
        standing_approval_at=max(standing, default=None),
        state_events=tuple((event.name, event.at) for event in events),
    )


def expected_issue(thing: Thing) -> ExpectedIssue:
    """What a complete sync must know of it."""
    return ExpectedIssue(
        number=thing.number,
        repository_id=thing.repository.id,
        repository_name=thing.repository.full_name,
        title=thing.title,
        is_open=thing.is_open,
        is_bug=any(name in ("bug", "type: bug") for name in thing.labels),
        created_at=thing.created_at,
        updated_at=thing.updated_at,
        closed_at=thing.closed_at,
        labels=tuple(thing.labels),
        states=tuple((event.name, event.at) for event in thing.events if event.name in ("closed", "reopened")),
    )
