"""Merge requests with what people did to them: pushes, drafts, reviews, approvals, reverts, pipelines, and releases."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from admin.seed import words
from admin.seed.company import Company, Ids, Part, Person, Project
from admin.seed.foundation import gitlab_account, scope_id, sha
from admin.seed.workdays import HOUR_SECONDS, at

CHUNK_MERGE_REQUESTS = 2_000
BOT_RATIO = 0.10
DRAFT_RATIO = 0.18
ABANDONED_RATIO = 0.15
"""Of the drafts."""
UNREVIEWED_RATIO = 0.07
CLOSED_RATIO = 0.07
REVERT_RATIO = 0.02
PIPELINE_FAILURE_RATIO = 0.15
# fmt: off
MERGE_REQUEST_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "project_name",
    "external_project_id", "external_id", "mr_id", "title", "author", "author_id", "state", "draft", "source_branch",
    "target_branch", "web_url", "labels", "sha", "merge_commit_sha", "mr_created_at", "first_commit_at", "ready_at",
    "first_review_at", "first_approved_at", "approved_at", "merged_at", "closed_at", "merged_by", "commits_count",
    "notes_count", "changes_count", "source_updated_at", "synced_at",
)
ACTIVITY_COLUMNS = (
    "tenant_id", "connection_id", "external_project_id", "mr_id", "external_id", "project_id", "account_id",
    "username", "activity", "occurred_at",
)
EVENT_COLUMNS = (
    "tenant_id", "connection_id", "external_id", "project_id", "external_project_id", "author", "author_id", "action",
    "target_type", "target_iid", "push_action", "push_ref_type", "push_commits", "occurred_at",
)
PIPELINE_COLUMNS = (
    "tenant_id", "connection_id", "sync_scope_id", "project_id", "repository_id", "external_project_id", "external_id",
    "iid", "status", "source", "ref", "sha", "pipeline_created_at", "started_at", "finished_at", "duration_seconds",
    "queued_seconds", "source_updated_at", "synced_at",
)
RELEASED_COLUMNS = ("tenant_id", "deployment_id", "connection_id", "external_project_id", "mr_id")
# fmt: on


def merge_requests(company: Company, ids: Ids) -> Iterator[list[Part]]:
    """Merge requests of all projects, a chunk in each transaction."""
    writer = _Rows(company, ids)
    for project, amount in zip(company.projects, company.split(company.plan.merge_requests), strict=True):
        random = company.plan.random(f"merge_requests/{project.key}")
        revert: str | None = None
        for iid, created in enumerate(company.workdays.moments(random, amount, project.zone), 1):
            title = f'Revert "{revert}"' if revert else f"{random.choice(words.WISHES)} {random.choice(words.THINGS)}"
            is_merged = writer.add(random, project, iid, created, title, is_revert=revert is not None)
            revert = title if is_merged and revert is None and random.random() < REVERT_RATIO else None
            if writer.is_full:
                yield writer.parts()
    yield writer.parts()


class _Rows:
    """Collects the rows of a chunk of merge requests."""

    def __init__(self, company: Company, ids: Ids) -> None:
        self._company = company
        self._ids = ids
        self._end = company.workdays.end
        self._synced_at = at(self._end)
        self._activity_ids, self._event_ids, self._pipeline_ids = count(1), count(1), count(1)
        self._clear()

    def _clear(self) -> None:
        self._merge_requests: list[tuple[Any, ...]] = []
        self._activities: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._pipelines: list[tuple[Any, ...]] = []
        self._released: list[tuple[Any, ...]] = []

    @property
    def is_full(self) -> bool:
        return len(self._merge_requests) >= CHUNK_MERGE_REQUESTS

    def parts(self) -> list[Part]:
        """What was collected; the next chunk begins."""
        parts = [
            Part("gitlab_mr_lead_times", MERGE_REQUEST_COLUMNS, self._merge_requests),
            Part("gitlab_mr_activities", ACTIVITY_COLUMNS, self._activities),
            Part("gitlab_events", EVENT_COLUMNS, self._events),
            Part("gitlab_pipelines", PIPELINE_COLUMNS, self._pipelines),
            Part("gitlab_deployment_merge_requests", RELEASED_COLUMNS, self._released),
        ]
        self._clear()
        return parts

    def add(self, random: Random, project: Project, iid: int, created: int, title: str, *, is_revert: bool) -> bool:
        """One merge request with all that belongs to it; returns whether it was merged."""
        company, workdays, end = self._company, self._company.workdays, self._end
        is_bot = not is_revert and random.random() < BOT_RATIO
        author = company.bots[0] if is_bot else random.choices(company.engineers, company.weights)[0]
        reviewer, second = random.choices(company.engineers, company.weights, k=2)
        self._project, self._iid = project, iid
        self._act("authored", author, created)
        first_commit = max(workdays.start, created - int(random.lognormvariate(0, 1.2) * 8 * HOUR_SECONDS))
        commits_count = 1 if is_bot or is_revert else 1 + int(random.lognormvariate(0.6, 0.8))
        self._event(author, "pushed new", created - 30, commits=commits_count)
        self._event(author, "opened", created)
        now = created
        is_draft = not is_bot and random.random() < DRAFT_RATIO
        if is_draft:
            now = workdays.later(random, now, 20, 1.0, author.zone)
        ready = now if now < end and not (is_draft and random.random() < ABANDONED_RATIO) else None
        reviewed = approved = merged = closed = None
        if ready is not None and reviewer is not author and random.random() > UNREVIEWED_RATIO:
            reviewed, approved, commits, now = self._review(random, ready, author, reviewer, 0.5 if is_revert else 5)
            commits_count += commits
        if ready is not None:
            merged, closed = self._finish(random, now, author, second)
        times = [created, ready, reviewed, approved, merged, closed]
        updated = max(moment for moment in times if moment is not None)
        self._append(random, title, author, second, is_draft and ready is None, times, first_commit, updated,
                     commits_count)  # fmt: skip
        self._run_pipelines(random, created, merged)
        if merged is not None:
            self._release(merged)
        return merged is not None

    def _review(
        self, random: Random, ready: int, author: Person, reviewer: Person, hours: float
    ) -> tuple[int | None, int | None, int, int]:
        """When it was reviewed and approved, how many commits came of it, and when that ended."""
        later, end = self._company.workdays.later, self._end
        now = later(random, ready, hours, 1.2, reviewer.zone)
        if now >= end:
            return None, None, 0, now
        reviewed, commits = now, 0
        self._act("reviewed", reviewer, now)
        self._event(reviewer, "commented on", now)
        for _ in range(random.choice((0, 0, 1, 2, 4))):
            now = later(random, now, 3, 0.9, author.zone)
            if now < end:
                self._event(author, "pushed to", now, commits=1)
                commits += 1
        now = later(random, now, 3, 0.9, reviewer.zone)
        if now >= end:
            return reviewed, None, commits, now
        self._act("approved", reviewer, now)
        return reviewed, now, commits, now

    def _finish(self, random: Random, now: int, author: Person, merger: Person) -> tuple[int | None, int | None]:
        """When it was merged or closed, if either."""
        now = self._company.workdays.later(random, now, 2, 1.0, author.zone)
        if now >= self._end:
            return None, None
        if random.random() < CLOSED_RATIO:
            self._act("closed", author, now)
            self._event(author, "closed", now)
            return None, now
        self._act("merged", merger, now)
        self._event(merger, "accepted", now)
        return now, None

    def _append(
        self,
        random: Random,
        title: str,
        author: Person,
        merger: Person,
        is_draft: bool,
        times: list[int | None],
        first_commit: int,
        updated: int,
        commits_count: int,
    ) -> None:
        company, ids, project, iid = self._company, self._ids, self._project, self._iid
        created, ready, reviewed, approved, merged, closed = (None if t is None else at(t) for t in times)
        state = "merged" if merged else "closed" if closed else "opened"
        url = f"https://gitlab.{company.plan.slug}.example/{project.path}/-/merge_requests/{iid}"
        number = project.number * 1_000_000 + iid
        self._merge_requests.append(
            (ids("tenants"), ids("connections", 1), scope_id(company, ids, "gitlab", project),
             ids("projects", project.number), ids("repositories", project.number), project.path,
             str(project.number + 1), str(number), iid, f"Draft: {title}" if is_draft else title, author.username,
             gitlab_account(company, author), state, is_draft, f"{project.key.lower()}-{iid}", "main", url, [],
             sha(f"{project.path}!{iid}"), sha(f"{project.path}!{iid} merged") if merged else None, created,
             at(first_commit), ready, reviewed, approved, approved, merged, closed, merger.username if merged else None,
             commits_count, random.randrange(8), 1 + int(random.lognormvariate(1.5, 1)), at(updated), self._synced_at)
        )  # fmt: skip

    def _act(self, activity: str, person: Person, moment: int) -> None:
        company, ids, project = self._company, self._ids, self._project
        self._activities.append(
            (ids("tenants"), ids("connections", 1), str(project.number + 1), self._iid,
             f"{activity}-{next(self._activity_ids)}", ids("projects", project.number),
             gitlab_account(company, person), person.username, activity, at(moment))
        )  # fmt: skip

    def _event(self, person: Person, action: str, moment: int, *, commits: int | None = None) -> None:
        company, ids, project = self._company, self._ids, self._project
        target = ("MergeRequest", self._iid, None, None, None)
        if commits is not None:
            target_push = "created" if action == "pushed new" else "pushed"
            target = (None, None, target_push, "branch", commits)  # type: ignore[assignment]  # one shape, two fillings
        self._events.append(
            (ids("tenants"), ids("connections", 1), str(next(self._event_ids)), ids("projects", project.number),
             str(project.number + 1), person.username, gitlab_account(company, person), action, *target,
             at(max(moment, company.workdays.start)))
        )  # fmt: skip

    def _run_pipelines(self, random: Random, created: int, merged: int | None) -> None:
        is_failed = random.random() < PIPELINE_FAILURE_RATIO
        begins = [(created, "failed" if is_failed else "success", "merge_request_event")]
        if is_failed:
            begins.append((created + random.randint(1_200, 20_000), "success", "merge_request_event"))
        if merged is not None:
            begins.append((merged, "failed" if random.random() < 0.05 else "success", "push"))
        for begin, status, source in begins:
            duration = int(random.lognormvariate(6.2, 0.4))
            queued = random.randrange(60)
            if begin + queued + duration < self._end:
                self._pipeline(begin, begin + queued, duration, status, source)

    def _pipeline(self, created: int, started: int, duration: int, status: str, source: str) -> None:
        company, ids, project = self._company, self._ids, self._project
        number = next(self._pipeline_ids)
        ref = "main" if source == "push" else f"refs/merge-requests/{self._iid}/head"
        finished = at(started + duration)
        self._pipelines.append(
            (ids("tenants"), ids("connections", 1), scope_id(company, ids, "gitlab", project),
             ids("projects", project.number), ids("repositories", project.number), str(project.number + 1),
             str(number), number, status, source, ref,
             sha(f"{project.path}!{self._iid}{' merged' if source == 'push' else ''}"), at(created), at(started),
             finished, duration, started - created, finished, self._synced_at)
        )  # fmt: skip

    def _release(self, merged: int) -> None:
        """With the first deployment of each environment that succeeded after it was merged."""
        ids, deploys = self._ids, self._project.deploys
        for environment in ("staging", "production"):
            there = [each for each in deploys if each.is_success and each.environment == environment]
            index = bisect_left(there, merged, key=lambda each: each.started_at)
            if index < len(there):
                self._released.append(
                    (ids("tenants"), ids("gitlab_deployments", there[index].number), ids("connections", 1),
                     str(self._project.number + 1), self._iid)
                )  # fmt: skip
