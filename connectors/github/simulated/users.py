"""What the users of a simulated GitHub do: each takes its turn under the lock and happens now, by the virtual clock."""

from __future__ import annotations

import random
from abc import ABC
from collections.abc import Callable
from typing import Any

from connectors.github.simulated.delivery import Delivery
from connectors.github.simulated.past import random_title
from connectors.github.simulated.world import Thing, World
from connectors.simulator import Simulator


class Users(Simulator, ABC):
    """The half of the simulator that changes what is true in it."""

    world: World
    delivery: Delivery

    def thing(self, number: int, *, repository: int | str | None = None) -> Thing:
        """The issue or pull request of that number, in the first repository unless told otherwise."""
        return self.world.repository(repository).by_number[number]

    def comment(self, number: int, *, by: int | None = None, repository: int | str | None = None) -> None:
        """Comment."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.comment(thing, self.world.someone_else(thing, by), self.clock.now())

    def review(
        self, number: int, state: str = "APPROVED", *, by: int | None = None, repository: int | str | None = None
    ) -> None:
        """Submit a review."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.review(thing, self.world.someone_else(thing, by), state, self.clock.now(), line_comments=1)

    def dismiss_review(self, number: int, *, repository: int | str | None = None) -> None:
        """Dismiss the last verdict, where there is one."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            verdicts = [each for each in thing.reviews if each.state in ("APPROVED", "CHANGES_REQUESTED")]
            if verdicts:
                self.world.dismiss(thing, verdicts[-1], self.world.someone_else(thing, None), self.clock.now())

    def push(
        self, number: int, *, commits: int = 1, is_rebase: bool = False, repository: int | str | None = None
    ) -> None:
        """Push commits, or force-push the rebased branch."""
        with self.lock:
            self.world.push(self.thing(number, repository=repository), commits, self.clock.now(), is_rebase=is_rebase)

    def merge(self, number: int, *, by: int | None = None, repository: int | str | None = None) -> None:
        """Merge."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.merge(thing, self.world.someone_else(thing, by), self.clock.now())

    def close(self, number: int, *, by: int | None = None, repository: int | str | None = None) -> None:
        """Close."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.close(thing, self.world.someone_else(thing, by), self.clock.now())

    def reopen(self, number: int, *, by: int | None = None, repository: int | str | None = None) -> None:
        """Open again what was closed."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.reopen(thing, self.world.someone_else(thing, by), self.clock.now())

    def label(self, number: int, name: str, *, is_off: bool = False, repository: int | str | None = None) -> None:
        """Put a label on, or take it off."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            person = self.world.someone_else(thing, None)
            self.world.label(thing, name, person, self.clock.now(), is_off=is_off)

    def rename(self, number: int, title: str, *, repository: int | str | None = None) -> None:
        """Give another title."""
        with self.lock:
            thing = self.thing(number, repository=repository)
            self.world.rename(thing, title, self.world.someone_else(thing, None), self.clock.now())

    def mark_ready(self, number: int, *, repository: int | str | None = None) -> None:
        """End the draft."""
        with self.lock:
            self.world.mark_draft(self.thing(number, repository=repository), self.clock.now(), is_draft=False)

    def mark_draft(self, number: int, *, repository: int | str | None = None) -> None:
        """Make it a draft."""
        with self.lock:
            self.world.mark_draft(self.thing(number, repository=repository), self.clock.now(), is_draft=True)

    def create_pull_request(self, title: str = "A new change", *, repository: int | str | None = None) -> int:
        """Open a pull request of one commit and return its number."""
        with self.lock:
            at, home = self.clock.now(), self.world.repository(repository)
            author = self.world.humans[home.next_number % len(self.world.humans)]
            thing = self.world.open(home, author, title, at, is_pull_request=True)
            self.world.push(thing, 1, at, is_first=True)
            return thing.number

    def create_issue(self, title: str = "It fails", *, repository: int | str | None = None) -> int:
        """Open an issue and return its number."""
        with self.lock:
            home = self.world.repository(repository)
            author = self.world.humans[home.next_number % len(self.world.humans)]
            return self.world.open(home, author, title, self.clock.now(), is_pull_request=False).number

    def delete_issue(self, number: int, *, repository: int | str | None = None) -> None:
        """Delete an issue as an owner may; nothing tells of it afterwards."""
        with self.lock:
            self.world.delete(self.thing(number, repository=repository))

    def rename_user(self, user_id: int, *, login: str) -> None:
        """Rename an account; no `updated_at` moves."""
        with self.lock:
            self.world.people[user_id].login = login
            self.world.forget_rendered()

    def rename_repository(self, repository: int | str, *, name: str) -> None:
        """Rename or transfer a repository; the old name redirects to its id from now on."""
        with self.lock:
            home = self.world.repository(repository)
            home.old_names.add(home.full_name)
            home.full_name = name
            self.world.forget_rendered()

    def hide_repository(self, repository: int | str, *, is_hidden: bool = True) -> None:
        """Take the token's access to a repository away (or give it back): it answers 404."""
        with self.lock:
            self.world.repository(repository).is_hidden = is_hidden

    def mutate_once(self, rng: random.Random) -> str:
        """Change one thing the way its users do, mostly an open one."""
        home = self.world.repositories[rng.choice(list(self.world.repositories))]
        chance = rng.random()
        if chance > 0.85:
            self.delivery.mutate_once(home, rng, self.clock.now())
            return f"{home.full_name} delivers"
        if not home.by_id or chance < 0.04:
            create = self.create_pull_request if rng.random() < 0.6 else self.create_issue
            return f"{home.full_name}#{create(random_title(rng), repository=home.id)}"
        thing = self.world.any_thing(home, rng)
        doings: list[Callable[..., Any]] = [self.comment]
        if not thing.is_open and thing.merged_at is None:
            doings.append(self.reopen)
        elif thing.is_open and thing.is_pull_request:
            doings += [self.review, self.dismiss_review, self.push, self.merge, self.close]
            doings.append(self.mark_ready if thing.is_draft else self.mark_draft)
        elif thing.is_open:
            doings.append(self.close)
        if chance < 0.7:
            rng.choice(doings)(thing.number, repository=home.id)
        elif chance < 0.85:
            self.label(thing.number, "bug", is_off="bug" in thing.labels, repository=home.id)
        else:
            self.rename(thing.number, random_title(rng), repository=home.id)
        return f"{home.full_name}#{thing.number}"
