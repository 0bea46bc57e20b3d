"""What clients may ask a simulated GitLab: parameters read as it reads them, and pages cut as it cuts them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from connectors.gitlab.simulated.model import TOKEN_USER_ID, MergeRequest, Project
from connectors.simulator import Answer, RefusalError, Request, json_answer

PER_PAGE_DEFAULT, PER_PAGE_MAX = 20, 100
COUNTED_ROWS_MAX = 10_000
"""Over this many rows the totals are left out of the headers."""

_STATES = ("all", "opened", "closed", "locked", "merged")


class MergeRequestListing(msgspec.Struct, frozen=True, kw_only=True):
    """A merge request listing as it was asked for."""

    state: str
    scope: str
    iids: frozenset[int]
    spans: dict[str, tuple[datetime | None, datetime | None]]
    """First and last instant by field; both ends belong to it."""
    order_by: str
    is_descending: bool

    @property
    def is_plain(self) -> bool:
        """Whether it is a span of one time index."""
        other = {"updated_at": "created_at", "created_at": "updated_at"}.get(self.order_by)
        is_unfiltered = self.state == "all" and self.scope == "all" and not self.iids
        return is_unfiltered and other is not None and self.spans[other] == (None, None)

    def wants(self, merge_request: MergeRequest) -> bool:
        """Whether a merge request belongs to it."""
        author = merge_request.author.id if merge_request.author else None
        return (
            self.state in ("all", merge_request.state)
            and (self.scope == "all" or author == TOKEN_USER_ID)
            and (not self.iids or merge_request.iid in self.iids)
            and all(
                (since is None or getattr(merge_request, field) >= since)
                and (until is None or getattr(merge_request, field) <= until)
                for field, (since, until) in self.spans.items()
            )
        )

    def order_key(self, merge_request: MergeRequest) -> Any:
        """What it is sorted by."""
        if self.order_by == "merged_at":
            return merge_request.merged_at or datetime.min.replace(tzinfo=UTC)
        return getattr(merge_request, self.order_by)


def refuse(parameter: str, why: str = "does not have a valid value") -> RefusalError:
    """Refuse a parameter as Grape does: 400."""
    return RefusalError(json_answer({"error": f"{parameter} {why}"}, 400))


def choice(request: Request, name: str, default: str, choices: Iterable[str]) -> str:
    """A parameter of a closed set."""
    value = request.last(name, default)
    if value is None or value not in choices:
        raise refuse(name)
    return value


def time_of(request: Request, name: str) -> datetime | None:
    """A parameter that is a time; aware."""
    value = request.last(name)
    if value is None:
        return None
    try:
        # An unencoded plus sign arrives as a space, and then this is no time, as at the real server.
        at = datetime.fromisoformat(value)
    except ValueError:
        raise refuse(name, "is invalid") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def day_of(request: Request, name: str) -> date | None:
    """A parameter that is a date."""
    value = request.last(name)
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise refuse(name, "is invalid") from None


def asked_listing(request: Request) -> MergeRequestListing:
    """The merge request listing that is asked for."""
    iids = request.query.get("iids[]", [])
    if not all(iid.isdigit() for iid in iids):
        raise refuse("iids", "is invalid")
    return MergeRequestListing(
        state=choice(request, "state", "all", _STATES),
        scope=choice(request, "scope", "all", ("all", "created_by_me", "assigned_to_me")),
        iids=frozenset(map(int, iids)),
        spans={
            "updated_at": (time_of(request, "updated_after"), time_of(request, "updated_before")),
            "created_at": (time_of(request, "created_after"), time_of(request, "created_before")),
        },
        order_by=choice(request, "order_by", "created_at", ("created_at", "updated_at", "title", "merged_at")),
        is_descending=choice(request, "sort", "desc", ("asc", "desc")) == "desc",
    )


def asked_page(request: Request) -> tuple[int, int]:
    """Which page, and how many rows it holds."""
    values = []
    for name, default in (("page", 1), ("per_page", PER_PAGE_DEFAULT)):
        value = request.last(name, str(default)) or ""
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise refuse(name, "is invalid")
        values.append(int(value))
    return values[0], min(values[1], PER_PAGE_MAX)


def page_headers(
    request: Request, page: int, per_page: int, total: int, more: dict[str, str]
) -> list[tuple[bytes, bytes]]:
    """The headers of offset paging; `more` are the path's parameters, which GitLab repeats in its links."""
    pages = max(1, -(-total // per_page))
    following = page + 1 if page < pages else None
    links = {"prev": page - 1 if page > 1 else None, "next": following, "first": 1}
    headers = [
        (b"x-page", b"%d" % page),
        (b"x-per-page", b"%d" % per_page),
        (b"x-next-page", b"%d" % following if following else b""),
        (b"x-prev-page", b"%d" % (page - 1) if page > 1 else b""),
    ]
    if total <= COUNTED_ROWS_MAX:
        links["last"] = pages
        headers += [(b"x-total", b"%d" % total), (b"x-total-pages", b"%d" % pages)]
    asked = [(name, value) for name, values in request.query.items() for value in values if name not in more]
    rest = urlencode([*more.items(), *((name, value) for name, value in asked if name not in ("page", "per_page"))])
    start = f"<{request.base_url}{request.path}?{rest}{'&' if rest else ''}page="
    link = ", ".join(
        f'{start}{number}&per_page={per_page}>; rel="{name}"' for name, number in links.items() if number is not None
    )
    return [*headers, (b"link", link.encode())]


def moved(request: Request, project: Project) -> Answer:
    """The redirect from a project's old path, to the same thing under its id."""
    prefix = "/api/v4/projects/"
    _, _, rest = request.path.removeprefix(prefix).partition("/")
    path = f"{prefix}{project.id}" + (f"/{rest}" if rest else "")
    query = f"?{request.query_string}" if request.query_string else ""
    return Answer(301, b"", [(b"location", f"{request.base_url}{path}{query}".encode())])


def swap(key: int, salt: int) -> int:
    """A tie-breaker that differs from page to page; with salt 0 the id itself."""
    return key * 2_654_435_761 * salt % 4_294_967_291 if salt else key
