"""Two years of a simulated GitHub: which issues and pull requests there were, and what became of them.

Here belongs the make-up of the generated history, special cases among it. What each step does stands in
`world.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Final

from connectors.github.simulated.world import (
    CHECKS_BOT_ID,
    FIRST_REPOSITORY_ID,
    GHOST_ID,
    HUMANS_FROM_ID,
    RENOVATE_ID,
    TOKEN_USER_ID,
    Person,
    Repository,
    Thing,
    World,
)
from connectors.simulator import HUMANS, dice, working_times

_VERBS = ("Add", "Fix", "Remove", "Rework", "Speed up", "Document", "Test", "Rename", "Validate", "Retry", "Cache")
_THINGS = (
    "the refund webhook", "currency rounding", "session expiry", "the search index", "flaky checkout test",
    "invoice export", "rate limits", "the login page", "address validation", "order history", "the nightly import",
)  # fmt: skip
_FAULTS = ("crashes", "is slow", "shows the wrong total", "forgets its filter", "sends two mails", "times out")
_LABELS = ("backend", "frontend", "tech-debt", "needs docs", "good first issue")
_GRADES = ("severity: critical", "severity: high", "priority: medium", "P2", "P1")
_NAMES = ("payments", "storefront", "warehouse", "identity", "mobile-app", "reporting")

TRAIT_PERIOD = 40
"""Every so many pull requests each of the special cases below comes once; the others are ordinary."""

_TRAITS: Final = {
    1: "renovate", 2: "checks_bot", 3: "old_commit", 5: "long_title", 7: "ghost", 9: "unicode", 11: "no_author",
    13: "draft_ready", 14: "draft", 15: "drafted_later", 17: "reopened", 19: "closed", 21: "dismissed",
    22: "changes_dismissed", 23: "superseded", 25: "changes_requested", 27: "self_comments", 29: "ghost_comment",
    31: "future_commit", 33: "bot_review", 35: "many_commits", 37: "rebased", 39: "opened",
}  # fmt: skip


def random_title(rng: random.Random) -> str:
    """A title that somebody might write."""
    return f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}"


def make_past(world: World, *, pull_requests: int, issues: int, repositories: int, now: datetime) -> None:
    """Fill a world with two years of history, dealt out to the repositories in turn."""
    world.people = {person.id: person for person in _people()}
    world.humans = [person for person in world.people.values() if HUMANS_FROM_ID < person.id < GHOST_ID]
    for position in range(repositories):
        turn, which = divmod(position, len(_NAMES))
        name = f"acme/{_NAMES[which]}{f'-{turn + 1}' if turn else ''}"
        world.repositories[FIRST_REPOSITORY_ID + position] = Repository(
            id=FIRST_REPOSITORY_ID + position, full_name=name
        )
    homes = list(world.repositories.values())
    total = pull_requests + issues
    kinds = [True] * pull_requests + [False] * issues
    dice(world.seed, "kinds").shuffle(kinds)
    counts = {True: 0, False: 0}
    for position, created_at in enumerate(working_times(now, total, dice(world.seed, "created"))):
        life = _PullRequestLife if kinds[position] else _IssueLife
        life(world, homes[position % repositories], counts[kinds[position]], created_at, now).live()
        counts[kinds[position]] += 1
    # A bulk edit: many share one update time.
    at = (now - timedelta(days=200)).replace(microsecond=0)
    for home in homes:
        done = [thing for thing in home.by_id.values() if thing.updated_at < at]
        for thing in done[: len(done) // 12]:
            world.label(thing, "legacy", world.people[TOKEN_USER_ID], at)
    world.end_past()


def _people() -> list[Person]:
    return [
        Person(id=TOKEN_USER_ID, login="sync-service", name="Sync Service"),
        *(
            Person(id=HUMANS_FROM_ID + 1 + position, login=login.replace(".", "-"), name=name)
            for position, (login, name, _) in enumerate(HUMANS)
        ),
        Person(id=GHOST_ID, login="ghost", name="Deleted user"),
        Person(id=RENOVATE_ID, login="renovate[bot]", name="renovate[bot]", type="Bot"),
        Person(id=CHECKS_BOT_ID, login="github-actions[bot]", name="github-actions[bot]", type="Bot"),
    ]


class _Life:
    """The life of one generated thing: what happens when, done in order by the world's rules."""

    def __init__(self, world: World, home: Repository, position: int, created_at: datetime, now: datetime) -> None:
        self.world = world
        self.home = home
        self.trait = _TRAITS.get(position % TRAIT_PERIOD, "")
        self.rng = dice(world.seed, type(self).__name__, position)
        self.created_at = created_at
        self.now = now
        self.ends_at = created_at + timedelta(hours=self.rng.lognormvariate(3.2, 1.3))
        if self.ends_at > now - timedelta(minutes=5):
            # Even what began last is to be seen to its end.
            self.ends_at = created_at + (now - created_at) * 0.8
        self.steps: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self.author = self._author()
        others = [person for person in world.humans if person is not self.author]
        self.reviewers = self.rng.sample(others, 3)

    def at(self, share: float, happen: Callable[[datetime], object]) -> None:
        """Plan something at a share of the life."""
        self.steps.append((self.created_at + (self.ends_at - self.created_at) * share, len(self.steps), happen))

    def live(self) -> None:
        """Plan what happens, then let it happen."""
        self.plan()
        for at, _, happen in sorted(self.steps, key=itemgetter(0, 1)):
            happen(at)

    def plan(self) -> None:
        """Say what happens when."""
        raise NotImplementedError

    def _author(self) -> Person | None:
        special = {"renovate": RENOVATE_ID, "checks_bot": CHECKS_BOT_ID, "ghost": GHOST_ID}.get(self.trait)
        if self.trait == "no_author":
            return None
        # A few people write most of the code.
        return self.world.people[special] if special else self.rng.choice(self.world.humans[: self.rng.choice((6, 24))])

    def title(self) -> str:
        """What it is called."""
        title = random_title(self.rng)
        if self.trait == "long_title":
            return (f"{title} and everything that depends on it, directly or by way of its callers, " * 4)[:256]
        return f"🐛 {title}: “Größe”, 数量, כמות" if self.trait == "unicode" else title

    def plan_comments(self, thing: Thing, most: int) -> None:
        """Talk about it."""
        for _ in range(self.rng.randrange(most)):
            person = thing.author if self.rng.random() < 0.3 else self.rng.choice(self.reviewers)
            self.at(self.rng.uniform(0.05, 0.95), partial(self.world.comment, thing, person))


class _PullRequestLife(_Life):
    def plan(self) -> None:
        world, rng, trait = self.world, self.rng, self.trait
        thing = world.open(self.home, self.author, self.title(), self.created_at, is_pull_request=True)
        if trait in ("draft", "draft_ready"):
            thing.is_draft, thing.ready_at = True, None
        count = 120 if trait == "many_commits" else rng.choice((1, 1, 1, 2, 2, 3, 5, 8))
        world.push(thing, count, self.created_at - timedelta(minutes=rng.randrange(1, 300)), is_first=True)
        if trait == "old_commit":
            thing.commits[0].authored_at -= timedelta(days=1_100)
        if trait == "future_commit":
            for commit in thing.commits:
                commit.authored_at += timedelta(days=400)
        thing.changed_files = rng.randrange(1, 60)
        if rng.random() < 0.4:
            self.at(0.01, lambda at: world.label(thing, rng.choice(_LABELS), self.reviewers[0], at))
        if trait != "renovate":
            self.plan_comments(thing, 5)
        self._plan_reviews(thing)
        self._plan_end(thing)

    def _plan_reviews(self, thing: Thing) -> None:
        world, rng, trait = self.world, self.rng, self.trait
        first, second = self.reviewers[:2]

        def review(share: float, person: Person, state: str, comments: int = 0) -> None:
            self.at(share, lambda at: world.review(thing, person, state, at, line_comments=comments))

        if trait == "self_comments":
            review(0.1, self.author or first, "COMMENTED", 2)
        elif trait == "bot_review":
            review(0.05, world.people[CHECKS_BOT_ID], "COMMENTED", 3)
        elif trait == "ghost_comment":
            self.at(0.1, lambda at: world.comment(thing, None, at))
        elif trait == "rebased":
            self.at(0.5, lambda at: world.push(thing, 0, at, is_rebase=True))
        if rng.random() < 0.5:
            review(rng.uniform(0.2, 0.5), first, "COMMENTED", rng.randrange(4))
        if trait in ("changes_requested", "changes_dismissed"):
            review(0.55, first, "CHANGES_REQUESTED", 1)
        if trait == "changes_dismissed":
            self.at(0.6, lambda at: world.dismiss(thing, thing.reviews[-1], second, at))
        if trait in ("dismissed", "superseded") or (trait not in ("opened", "draft", "closed") and rng.random() < 0.85):
            review(0.85, first, "APPROVED")
        if trait == "dismissed":
            self.at(0.9, lambda at: world.dismiss(thing, thing.reviews[-1], second, at))
        if trait == "superseded":
            review(0.9, first, "CHANGES_REQUESTED")

    def _plan_end(self, thing: Thing) -> None:
        world, trait, merger = self.world, self.trait, self.reviewers[2]
        if trait == "draft_ready":
            self.at(0.15, lambda at: world.mark_draft(thing, at, is_draft=False))
        if trait == "drafted_later":
            self.at(0.1, lambda at: world.mark_draft(thing, at, is_draft=True))
            self.at(0.4, lambda at: world.mark_draft(thing, at, is_draft=False))
        if trait == "reopened":
            self.at(0.4, lambda at: world.close(thing, merger, at))
            self.at(0.5, lambda at: world.reopen(thing, merger, at))
        chance = self.rng.random()
        if trait in ("draft", "opened") or (not trait and chance < 0.05):
            return
        if trait == "closed" or (not trait and chance < 0.12):
            self.at(1, lambda at: world.close(thing, merger, at))
            return
        self.at(1, lambda at: world.merge(thing, merger, at))


class _IssueLife(_Life):
    def plan(self) -> None:
        world, rng = self.world, self.rng
        title = f"{rng.choice(_THINGS).capitalize()} {rng.choice(_FAULTS)}"
        thing = world.open(self.home, self.author, title, self.created_at, is_pull_request=False)
        first, second = self.reviewers[:2]
        if rng.random() < 0.6:
            self.at(0, lambda at: world.label(thing, rng.choice(("bug", "type: bug")), first, at))
            self.at(0.05, lambda at: world.label(thing, rng.choice(_GRADES), first, at))
        elif rng.random() < 0.2:
            self.at(0, lambda at: world.label(thing, "bug", first, at))
            self.at(0.3, lambda at: world.label(thing, "bug", second, at, is_off=True))
        self.plan_comments(thing, 4)
        if rng.random() < 0.15:
            self.at(0.2, lambda at: world.rename(thing, self.title(), second, at))
        chance = rng.random()
        if chance < 0.2:
            return
        if chance < 0.35:
            self.at(0.5, lambda at: world.close(thing, first, at))
            self.at(0.7, lambda at: world.reopen(thing, second, at))
        reason = rng.choice((None, "completed", "not_planned", "duplicate"))
        self.at(1, lambda at: world.close(thing, second, at, reason=reason))
