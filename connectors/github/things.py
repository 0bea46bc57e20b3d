"""Pull requests and issues of a repository, which share one listing, with all their parts: requests.

External ids. A pull request is `<repository id>!<number>`, an issue `<repository id>#<number>`: a number is never given
again, and the numeric id of a repository survives renaming and transfer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from connectors.base import Item, Page
from connectors.github.api import OBJECT, Api, Failure, Repository
from connectors.github.updates import Rows, Step, Updates
from connectors.http import fetch_ahead
from models.errors import GoneError

AHEAD_COUNT = 8
"""How many objects are fetched before the consumer asks for them."""


class _Counts(msgspec.Struct, frozen=True):
    commits: int = 0
    review_comments: int = 0


_COUNTS = msgspec.json.Decoder(_Counts)


class Things:
    """Reads the pull requests, or the issues, of one repository.

    Args:
        api: the instance.
        pool: fetches the parts of several at once.
        repository: whose.
        named: what payloads say of the repository.
        are_pull_requests: which of the two.
    """

    def __init__(
        self, api: Api, pool: Executor, repository: Repository, named: Mapping[str, Any], *, are_pull_requests: bool
    ) -> None:
        self._api = api
        self._pool = pool
        self._repository = repository
        self._named = named
        self._are_pull_requests = are_pull_requests
        self._updates = Updates(api, repository)

    def oldest(self) -> datetime | None:
        """The earliest update time of issues and pull requests alike, or None where there are none."""
        return self._updates.oldest()

    def listing(self) -> Iterator[tuple[str, ...]]:
        """The ids of all."""
        for listed in self._updates.by_creation(None):
            names = tuple(self._external_id(row.number) for row, _ in self._wanted(listed.rows))
            if names:
                yield names

    def fetch(self, external_ids: tuple[str, ...]) -> Page:
        """Some of them."""
        named = (re.fullmatch(r"(\d+)[!#](\d+)", name) for name in external_ids)
        numbers = [int(name[2]) for name in named if name and int(name[1]) == self._repository.id]
        found = fetch_ahead(self._pool, (partial(self._found, number) for number in numbers), AHEAD_COUNT)
        return Page(items=tuple(item for item in found if item is not None))

    def pages(self, since: datetime | None, until: datetime, resume_token: str | None) -> Iterator[Page]:
        """Those that were updated in a span."""

        def calls() -> Iterator[Callable[[], Item | Failure | Step]]:
            for step in self._updates.by_update(since, until, resume_token):
                for row, raw in self._wanted(step.rows):
                    yield partial(self._assembled, row.number, raw)
                yield partial(_same, step)

        first_at = since
        items: list[Item] = []
        failures: list[Failure] = []
        for result in fetch_ahead(self._pool, calls(), AHEAD_COUNT):
            if isinstance(result, Item):
                items.append(result)
                continue
            if isinstance(result, tuple):
                failures.append(result)
                continue
            first_at = first_at or min((row.updated_at for row, _ in result.rows), default=None)
            failures += result.failures
            if items or failures:
                yield Page(
                    items=tuple(items),
                    failures=tuple(failures),
                    resume_token=result.updated_at.isoformat() if result.updated_at else None,
                    progress_ratio=_ratio(first_at, result.updated_at, until),
                )
            items, failures = [], []

    def _assembled(self, number: int, row: msgspec.Raw) -> Item | Failure:
        """Fetch the parts of an object and join them, all as received."""
        try:
            return self._pull_request(number) if self._are_pull_requests else self._issue(number, row)
        except GoneError:
            # One object may be withdrawn between two requests; where all is hidden, this says so.
            self._api.repository(str(self._named["key"]), is_asked_again=True)
            reason = "GitHub lists it and does not show it (404)."
            return self._external_id(number), reason, bytes(row)

    def _found(self, number: int) -> Item | None:
        try:
            if self._are_pull_requests:
                return self._pull_request(number)
            path = f"{self._repository.path}/issues/{number}"
            row, body, _ = self._api.get(self._api.address(path), OBJECT)
        except GoneError:
            return None
        # The number of an issue that has moved to another repository leads to it there.
        is_here = (
            bytes(row.get("repository_url", b"")).lower().endswith(f'/{self._repository.full_name}"'.lower().encode())
        )
        if "pull_request" in row or not is_here:
            return None
        return self._issue(number, msgspec.Raw(body))

    def _issue(self, number: int, row: msgspec.Raw) -> Item:
        events, is_cut = self._api.part(f"{self._repository.path}/issues/{number}/events")
        payload = {"repository": self._named, "issue": row, "events": events, "truncated": is_cut}
        return Item(self._external_id(number), msgspec.json.encode(payload))

    def _pull_request(self, number: int) -> Item:
        path = f"{self._repository.path}/pulls/{number}"
        counts, body, _ = self._api.get(self._api.address(path), _COUNTS)
        commits, is_commits_cut = self._api.part(f"{path}/commits")
        reviews, is_reviews_cut = self._api.part(f"{path}/reviews")
        timeline, is_timeline_cut = self._api.part(f"{self._repository.path}/issues/{number}/timeline")
        comments, is_comments_cut = self._api.part(f"{path}/comments") if counts.review_comments else ([], False)
        is_cut = is_commits_cut or is_reviews_cut or is_timeline_cut or is_comments_cut
        # GitHub lists 250 commits of a pull request, the oldest first, and counts them all.
        are_commits_missing = commits is not None and len(commits) < counts.commits
        payload = {
            "repository": self._named,
            "pull_request": msgspec.Raw(body),
            "commits": commits,
            "reviews": reviews,
            "timeline": timeline,
            "review_comments": comments,
            "truncated": is_cut or are_commits_missing,
        }
        return Item(self._external_id(number), msgspec.json.encode(payload))

    def _external_id(self, number: int) -> str:
        return f"{self._repository.id}{'!' if self._are_pull_requests else '#'}{number}"

    def _wanted(self, rows: Rows) -> Rows:
        return [(row, raw) for row, raw in rows if row.is_pull_request == self._are_pull_requests]


def _same(step: Step) -> Step:
    return step


def _ratio(first_at: datetime | None, at: datetime | None, last_at: datetime) -> float | None:
    """How much of the span is done, 0 to 1."""
    if first_at is None or at is None or first_at == last_at:
        return None
    return min(max((at - first_at) / (last_at - first_at), 0.0), 1.0)
