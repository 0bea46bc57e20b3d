"""What the users of a simulated GitLab do: each takes its turn under the lock and happens now, by the virtual clock."""

from __future__ import annotations

import random
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any

from connectors.gitlab.simulated.model import MergeMethod, MergeRequest
from connectors.gitlab.simulated.past import random_title
from connectors.gitlab.simulated.rendering import Renderer
from connectors.gitlab.simulated.world import World
from connectors.simulator import Simulator


class Users(Simulator, ABC):
    """The half of the simulator that changes what is true in it."""

    world: World
    renderer: Renderer

    def merge_request(self, iid: int, *, project: int | str | None = None) -> MergeRequest:
        """The merge request of that number, in the first project unless told otherwise.

        Raises:
            KeyError: there is none.
        """
        return self.world.project(project).by_iid[iid]

    def update_merge_request(
        self,
        iid: int,
        *,
        project: int | str | None = None,
        title: str | None = None,
        description: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Edit a merge request: a save, so `updated_at` always moves."""
        with self.lock:
            merge_request, at = self.merge_request(iid, project=project), self.clock.now()
            if title is not None:
                merge_request.title = title
            if description is not None:
                merge_request.description = description
            if labels is not None:
                merge_request.labels = list(labels)
            self.world.save(merge_request, at)

    def add_note(
        self, iid: int, body: str = "One more thought.", *, by: int | None = None, project: int | str | None = None
    ) -> int:
        """Comment: a touch, so `updated_at` moves only if it is a minute old. Returns the note's id."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            return self.world.note(merge_request, self.world.reviewer(merge_request, by), body, self.clock.now()).id

    def edit_note(self, iid: int, note_id: int, body: str, *, project: int | str | None = None) -> None:
        """Change the words of a comment."""
        with self.lock:
            merge_request, at = self.merge_request(iid, project=project), self.clock.now()
            note = next(note for note in merge_request.notes if note.id == note_id)
            note.body, note.updated_at = body, at
            self.world.touch(merge_request, at)

    def delete_note(self, iid: int, note_id: int, *, project: int | str | None = None) -> None:
        """Delete a comment."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            merge_request.notes[:] = [note for note in merge_request.notes if note.id != note_id]
            self.world.touch(merge_request, self.clock.now())

    def approve(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Approve: a system note and a touch."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.approve(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def unapprove(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Take an approval back."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.unapprove(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def request_changes(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Ask for changes as a reviewer."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.request_changes(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def push(self, iid: int, *, commits: int = 1, is_rebase: bool = False, project: int | str | None = None) -> None:
        """Push commits, or force-push the rebased branch; standing approvals are reset."""
        with self.lock:
            self.world.push(self.merge_request(iid, project=project), commits, self.clock.now(), is_rebase=is_rebase)

    def merge(
        self, iid: int, *, by: int | None = None, method: MergeMethod = "merge", project: int | str | None = None
    ) -> None:
        """Merge."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.merge(merge_request, self.world.reviewer(merge_request, by), self.clock.now(), method)

    def close(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Close without merging."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.close(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def reopen(self, iid: int, *, by: int | None = None, project: int | str | None = None) -> None:
        """Open again what was closed."""
        with self.lock:
            merge_request = self.merge_request(iid, project=project)
            self.world.reopen(merge_request, self.world.reviewer(merge_request, by), self.clock.now())

    def mark_ready(self, iid: int, *, project: int | str | None = None) -> None:
        """End the draft."""
        with self.lock:
            self.world.mark_draft(self.merge_request(iid, project=project), self.clock.now(), is_draft=False)

    def mark_draft(self, iid: int, *, project: int | str | None = None) -> None:
        """Make it a draft."""
        with self.lock:
            self.world.mark_draft(self.merge_request(iid, project=project), self.clock.now(), is_draft=True)

    def create_merge_request(
        self, *, title: str = "A new change", by: int | None = None, commits: int = 1, project: int | str | None = None
    ) -> int:
        """Open a merge request and return its iid."""
        with self.lock:
            at, home = self.clock.now(), self.world.project(project)
            author = self.world.people[by] if by else self.world.humans[home.next_iid % len(self.world.humans)]
            merge_request = self.world.open(home, author, title, "", at)
            self.world.push(merge_request, commits, at, is_first=True)
            return merge_request.iid

    def delete_merge_request(self, iid: int, *, project: int | str | None = None) -> None:
        """Delete it as an owner may; nothing tells of it afterwards."""
        with self.lock:
            self.world.delete(self.merge_request(iid, project=project))

    def rename_user(self, user_id: int, *, username: str, name: str | None = None) -> None:
        """Rename an account; no merge request's `updated_at` moves."""
        with self.lock:
            person = self.world.people[user_id]
            person.username, person.name = username, name or person.name
            self.renderer.forget_person(user_id)
            self.world.forget_rendered()

    def rename_project(self, project: int | str, *, path: str) -> None:
        """Move a project to another path; the old one redirects from now on."""
        with self.lock:
            home = self.world.project(project)
            home.old_paths.add(home.path)
            home.path = path
            self.world.forget_rendered()

    def hide_project(self, project: int | str, *, is_hidden: bool = True) -> None:
        """Take the token's access to a project away (or give it back): it answers 404."""
        with self.lock:
            self.world.project(project).is_hidden = is_hidden

    def mutate_once(self, rng: random.Random) -> str:
        """Change one merge request the way its users do, mostly an open one."""
        project = self.world.projects[rng.choice(list(self.world.projects))]
        if not project.by_iid or rng.random() < 0.04:
            return f"{project.path}!{self.create_merge_request(project=project.id, title=random_title(rng))}"
        iid = rng.choice(list(project.by_iid)) if len(project.by_iid) < 200 else self.world.any_iid(project, rng)
        merge_request = project.by_iid[iid]
        if merge_request.state == "opened":
            doings: list[tuple[float, Callable[..., Any]]] = [
                (0.2, self.add_note), (0.15, self.push), (0.15, self.approve), (0.1, self.merge), (0.05, self.close),
            ]  # fmt: skip
        elif merge_request.state == "closed":
            doings = [(0.2, self.add_note), (0.3, self.reopen)]
        else:
            doings = [(0.3, self.add_note)]
        chance = rng.random()
        for share, doing in doings:
            if chance < share:
                doing(iid, project=project.id)
                break
            chance -= share
        else:
            self.update_merge_request(iid, project=project.id, title=random_title(rng))
        return f"{project.path}!{iid}"
