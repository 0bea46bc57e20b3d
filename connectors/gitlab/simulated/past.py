"""A believable past for a simulated GitLab: two years of merge requests, every special case among them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final

from connectors.gitlab.simulated.model import (
    FIRST_PROJECT_ID,
    GHOST_ID,
    HUMANS_FROM_ID,
    PROJECT_BOTS_FROM_ID,
    RENOVATE_ID,
    TOKEN_USER_ID,
    MergeMethod,
    Person,
    Project,
    sha,
)
from connectors.gitlab.simulated.world import World
from connectors.simulator import HUMANS, dice, working_times

_VERBS = (
    "Add",
    "Fix",
    "Remove",
    "Rework",
    "Speed up",
    "Document",
    "Test",
    "Rename",
    "Validate",
    "Retry",
    "Cache",
    "Split",
)
_THINGS = (
    "the refund webhook", "currency rounding", "session expiry", "the search index", "flaky checkout test",
    "invoice export", "rate limits", "the login page", "address validation", "order history", "the nightly import",
    "feature flags", "stock reservations", "e-mail templates", "the audit trail", "GraphQL pagination",
)  # fmt: skip
_REASONS = ("for guests", "on slow networks", "when the basket is empty", "in the admin area", "behind the proxy", "")
_COMMENTS = (
    "Could you add a test for the empty case?", "Looks good to me.", "Why not reuse the existing helper here?",
    "nit: naming", "This will lock the table, will it not?", "Done, please have another look.", "👍", "Thanks!",
    "I think that the error message should say which file.", "Can we split this?", "Rebased on main.",
    "Wie verhält sich das bei leeren Listen?", "I do not understand this branch.",
)  # fmt: skip
_LABELS = ("backend", "frontend", "bug", "tech-debt", "security", "priority::1", "priority::2", "needs docs")
_PROJECT_NAMES = ("Payments", "Storefront", "Warehouse", "Identity", "Mobile App", "Reporting", "Search", "Billing")

_TRAIT_PERIOD = 50
"""Every so many merge requests each of the special cases below comes once; the others are ordinary."""

_TRAITS: Final = {
    1: "renovate", 2: "project_bot", 3: "old_commit", 5: "long_title", 7: "ghost", 9: "unicode", 11: "fork_gone",
    13: "fork", 15: "squash", 17: "ff", 19: "rebase", 21: "reopened", 23: "no_metrics", 24: "no_metrics_note",
    25: "no_metrics_at_all", 27: "reset", 28: "reset_for_good", 29: "unapproved", 31: "draft_ready", 32: "draft",
    33: "closed", 35: "future_commit", 37: "no_author", 39: "throttled", 41: "changes_requested", 43: "self_approved",
    45: "bot_comments", 47: "locked", 49: "opened",
}  # fmt: skip


def make_past(world: World, *, merge_requests: int, projects: int, now: datetime) -> None:
    """Fill a world with two years of merge requests, dealt out to the projects in turn."""
    world.people = {person.id: person for person in _people(world.seed, projects)}
    world.humans = [person for person in world.people.values() if person.id > HUMANS_FROM_ID]
    for number in range(projects):
        round_number, which = divmod(number, len(_PROJECT_NAMES))
        name = _PROJECT_NAMES[which] + (f" {round_number + 1}" if round_number else "")
        path = f"acme/{name.lower().replace(' ', '-')}"
        project_id = FIRST_PROJECT_ID + number
        created_at = now - timedelta(days=800 + number)
        world.projects[project_id] = Project(id=project_id, name=name, path=path, created_at=created_at)
    homes = list(world.projects.values())
    for position, created_at in enumerate(working_times(now, merge_requests, dice(world.seed, "created"))):
        _Life(world, homes[position % projects], position, created_at, now).live()
    for project in homes:
        at = now - timedelta(days=200)
        done = [row for row in project.by_id.values() if row.updated_at < at]
        world.edit_in_bulk(done[: len(done) // 12], "legacy", at)
    world.end_past()


def _people(seed: int, projects: int) -> list[Person]:
    return [
        Person(id=TOKEN_USER_ID, username="sync-service", name="Sync Service", is_bot=True),
        Person(id=GHOST_ID, username="ghost", name="Ghost User"),
        Person(id=RENOVATE_ID, username="renovate-bot", name="Renovate Bot"),
        *(
            Person(
                id=PROJECT_BOTS_FROM_ID + number,
                username=f"project_{FIRST_PROJECT_ID + number}_bot_{sha(seed, number)[:8]}",
                name="ci-token",
                is_bot=True,
            )
            for number in range(projects)
        ),
        *(
            Person(id=HUMANS_FROM_ID + 1 + n, username=username, name=name, utc_offset_hours=hours)
            for n, (username, name, hours) in enumerate(HUMANS)
        ),
    ]


def random_title(rng: random.Random) -> str:
    """A title that somebody might write."""
    return f"{rng.choice(_VERBS)} {rng.choice(_THINGS)} {rng.choice(_REASONS)}".strip()


class _Life:
    """The life of one generated merge request: what happens when, done in order by the world's rules."""

    def __init__(self, world: World, project: Project, position: int, created_at: datetime, now: datetime) -> None:
        self.world = world
        self.project = project
        self.trait = _TRAITS.get(position % _TRAIT_PERIOD, "")
        self.rng = dice(world.seed, "merge request", position)
        self.created_at = created_at
        self.now = now
        self.ends_at = created_at + timedelta(hours=self.rng.lognormvariate(3.2, 1.3))
        if self.trait and self.ends_at > now - timedelta(minutes=5):
            # A special case is to be seen to its end even if it began last.
            self.ends_at = created_at + (now - created_at) * 0.8
        self.steps: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self.author = self._choose_author()
        others = [person for person in world.humans if person is not self.author]
        self.reviewers = self.rng.sample(others, 3)
        self.merge_request = world.open(project, self.author, self._title(), self._description(), created_at)

    def live(self) -> None:
        """Plan what happens, then let it happen up to now."""
        self._begin()
        if self.trait != "renovate":
            self._plan_talk()
            self._plan_pushes()
            self._plan_approvals()
        self._plan_end()
        for at, _, happen in sorted(self.steps, key=itemgetter(0, 1)):
            if at <= self.now:
                happen(at)
        self._finish()

    def _at(self, share: float, happen: Callable[[datetime], object]) -> None:
        at = self.created_at + (self.ends_at - self.created_at) * share
        self.steps.append((at, len(self.steps), happen))

    def _choose_author(self) -> Person | None:
        people = self.world.people
        if self.trait == "no_author":
            return None
        if self.trait == "project_bot":
            return people[PROJECT_BOTS_FROM_ID + self.project.id - FIRST_PROJECT_ID]
        special = {"ghost": GHOST_ID, "renovate": RENOVATE_ID}.get(self.trait)
        # A few people write most of the code.
        return people[special] if special else self.rng.choice(self.world.humans[: self.rng.choice((6, 12, 24))])

    def _title(self) -> str:
        title = random_title(self.rng)
        if self.trait == "long_title":
            return (f"{title} and everything that depends on it, directly or by way of its callers, " * 4)[:255]
        if self.trait == "unicode":
            return f"🐛 {title}: “Größe”, 数量, כמות, \N{ZERO WIDTH SPACE}rückwärts"
        if self.trait == "renovate":
            return "chore(deps): update dependency lodash to v4.17.21"
        return f"Draft: {title}" if self.trait in ("draft", "draft_ready") else title

    def _description(self) -> str:
        lines = [f"{random_title(self.rng)}." for _ in range(self.rng.randrange(1, 9))]
        return f"## What\n\n{' '.join(lines)}\n\n## How to check\n\n- [ ] {self.rng.choice(_COMMENTS)}\n"

    def _begin(self) -> None:
        merge_request, rng = self.merge_request, self.rng
        self.commits_count = rng.choices((1, 2, 3, 4, 5, 6, 7, 8), (30, 20, 14, 11, 9, 7, 5, 4))[0]
        # With a wrong clock all is pushed at once, or the later commits would hide it.
        self.first_count = (
            self.commits_count if self.trait == "future_commit" else rng.randrange(1, self.commits_count + 1)
        )
        self.world.push(
            merge_request, self.first_count, self.created_at - timedelta(minutes=rng.randrange(1, 600)), is_first=True
        )
        if self.trait == "old_commit":
            merge_request.commits[0].authored_at -= timedelta(days=1_100)
        if self.trait == "future_commit":
            for commit in merge_request.commits:
                commit.authored_at += timedelta(days=400)
        if self.trait in ("fork", "fork_gone"):
            merge_request.source_project_id = 9_000 if self.trait == "fork" else None
        if self.trait.startswith("no_metrics"):
            merge_request.has_metrics = False
            merge_request.has_state_events = self.trait == "no_metrics"
        if rng.random() < 0.5:
            merge_request.labels = rng.sample(_LABELS, rng.randrange(1, 4))
        merge_request.changes_count = str(rng.randrange(1, 60)) if rng.random() < 0.99 else "1000+"

    def _plan_talk(self) -> None:
        world, merge_request, rng = self.world, self.merge_request, self.rng
        author = self.author or world.people[GHOST_ID]
        reviewer = self.reviewers[0]
        self._at(
            0.02, lambda at: world.system_note(merge_request, author, f"requested review from @{reviewer.username}", at)
        )
        if self.trait == "bot_comments":
            bot = world.people[PROJECT_BOTS_FROM_ID + self.project.id - FIRST_PROJECT_ID]
            self._at(0.01, lambda at: world.note(merge_request, bot, "Coverage went down by 0.3 %.", at))
        if self.trait == "changes_requested":
            self._at(0.2, lambda at: world.request_changes(merge_request, reviewer, at))
        for _ in range(min(12, int(rng.expovariate(1 / 3.5)))):
            is_authors = self.trait == "self_approved" or rng.random() < 0.35
            self._plan_comment(author if is_authors else rng.choice(self.reviewers), rng.uniform(0.1, 0.97))

    def _plan_comment(self, person: Person, share: float) -> None:
        body = self.rng.choice(_COMMENTS)
        kind = self.rng.choice((None, None, "DiffNote", "DiscussionNote"))
        self._at(share, lambda at: self.world.note(self.merge_request, person, body, at, kind=kind))

    def _plan_pushes(self) -> None:
        world, merge_request, later = self.world, self.merge_request, self.commits_count - self.first_count
        if later:
            share = self.rng.uniform(0.3, 0.7)
            self._at(share, lambda at: world.push(merge_request, later, at))
        if self.trait in ("reset", "reset_for_good"):
            self._at(0.6, lambda at: world.approve(merge_request, self.reviewers[1], at))
            self._at(0.75, lambda at: world.push(merge_request, 1, at))

    def _plan_approvals(self) -> None:
        world, merge_request, rng = self.world, self.merge_request, self.rng
        first, second = self.reviewers[:2]
        if self.trait == "self_approved":
            author = self.author or world.people[GHOST_ID]
            self._at(0.9, lambda at: world.approve(merge_request, author, at))
        elif self.trait not in ("reset_for_good", "opened", "draft") and rng.random() < (1 if self.trait else 0.85):
            self._at(0.9, lambda at: world.approve(merge_request, first, at))
            if self.trait == "unapproved":
                self._at(0.93, lambda at: world.unapprove(merge_request, first, at))
            if rng.random() < 0.3:
                self._at(0.95, lambda at: world.approve(merge_request, second, at))

    def _plan_end(self) -> None:
        world, merge_request, merger = self.world, self.merge_request, self.reviewers[2]
        if self.trait == "draft_ready":
            self._at(0.3, lambda at: world.mark_draft(merge_request, at, is_draft=False))
        if self.trait == "reopened":
            self._at(0.4, lambda at: world.close(merge_request, merger, at))
            self._at(0.5, lambda at: world.reopen(merge_request, merger, at))
        chance = self.rng.random()
        if self.trait in ("draft", "opened", "locked") or (not self.trait and chance < 0.02):
            return
        if self.trait == "closed" or (not self.trait and chance < 0.1):
            self._at(1, lambda at: world.close(merge_request, merger, at))
            return
        method = self._method()
        self._at(1, lambda at: world.merge(merge_request, merger, at, method))
        if self.trait == "no_metrics_note":
            self._at(1, lambda at: world.system_note(merge_request, merger, "merged", at))
        if self.trait == "throttled":
            thanks = timedelta(seconds=25)
            happen = lambda at: world.note(merge_request, self.reviewers[0], "Thanks, works!", at)  # noqa: E731
            self.steps.append((self.ends_at + thanks, len(self.steps), happen))

    def _method(self) -> MergeMethod:
        methods: dict[str, MergeMethod] = {"squash": "squash", "ff": "ff", "rebase": "rebase"}
        if self.trait:
            return methods.get(self.trait, "merge")
        return self.rng.choices(("merge", "squash", "ff", "rebase"), (70, 20, 6, 4))[0]

    def _finish(self) -> None:
        if self.trait == "locked":
            self.merge_request.state = "locked"
