"""A project as it is now, and its members: small, and read whole each time. Requests and meaning."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from connectors.base import Item, Page, ParseContext
from connectors.decoding import decoded
from connectors.gitlab.api import Failures, Whole, decoded_rows
from connectors.gitlab.people import People, User
from models.errors import BadRecordError
from models.records import Batch, Repository


class _Project(msgspec.Struct, gc=False):
    id: int
    path_with_namespace: str
    description: str | None = None
    web_url: str | None = None
    default_branch: str | None = None
    archived: bool | None = None


class _Id(msgspec.Struct, gc=False):
    id: int


_PROJECT = msgspec.json.Decoder(_Project)
_USER = msgspec.json.Decoder(User)
_ID = msgspec.json.Decoder(_Id)


class TheProject(Whole):
    """Reads the project itself."""

    def read(self, project_id: int) -> Iterator[Page]:
        """One object. Asked for by its id, so it is the same project wherever it has moved."""
        yield Page(items=(Item(str(project_id), bytes(self.api.raw(f"/projects/{project_id}"))),))


class Members(Whole):
    """Reads the accounts that may do something in a project, those of its groups included."""

    def read(self, project_id: int) -> Iterator[Page]:
        """All of them."""
        for raws in self.api.whole(f"/projects/{project_id}/members/all"):
            failures: Failures = []
            items = tuple(Item(str(row.id), bytes(raw)) for row, raw in decoded_rows(raws, _ID, failures))
            yield Page(items=items, failures=tuple(failures))


def parse_project(payload: bytes, context: ParseContext) -> Batch:
    """Turn a project into its record; see `connectors.gitlab.parse.parse`."""
    del context
    shown = decoded(payload, _PROJECT)
    record = Repository(
        external_id=str(shown.id),
        path=shown.path_with_namespace,
        description=shown.description or None,
        web_url=shown.web_url,
        default_branch=shown.default_branch,
        is_archived=bool(shown.archived),
    )
    return Batch(repositories=(record,))


def parse_member(payload: bytes, context: ParseContext) -> Batch:
    """Turn a member into an account; see `connectors.gitlab.parse.parse`."""
    account = People(context.options).account(decoded(payload, _USER))
    if account is None:
        raise BadRecordError("id: missing", field="id")
    return Batch(accounts=(account,))
