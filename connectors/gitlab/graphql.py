"""Parts of many merge requests in one request, where an instance's GraphQL can: commits and who approves now.

It is an accelerator and nothing else: whatever it does not say is asked by REST, and the records are the same. Notes
and the history of states stay with REST: GraphQL's times have whole seconds, and it shows no state events. What belongs
here: the query, whether the instance bears it, its answers in REST's shapes. What does not: which merge requests.

Its schema is unversioned and its limits differ, so it is tried before it is used (a query is refused for its complexity
before it is run), and given up for good, as long as this connection is open, at the first answer that is no answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from connectors.decoding import decoded
from connectors.gitlab.api import Api
from models.errors import (
    BadRecordError,
    ForbiddenResourceError,
    GoneError,
    SourceRequestError,
    TransientSourceError,
)

NodeT = TypeVar("NodeT")

BATCH_SIZES = (50, 25, 10)
"""Merge requests in a query: the first size that the instance bears is used."""
INNER_ROWS_COUNT = 100
"""The most that GitLab gives of a connection; what has more is asked by REST."""

QUERY = """
query parts($path: ID!, $iids: [String!], $first: Int!, $inner: Int!) {
  queryComplexity { score limit }
  project(fullPath: $path) {
    mergeRequests(iids: $iids, first: $first) {
      nodes {
        iid
        commits(first: $inner) {
          pageInfo { hasNextPage }
          nodes { sha authorEmail authoredDate committedDate }
        }
        approvedBy(first: $inner) {
          pageInfo { hasNextPage }
          nodes { id username name publicEmail }
        }
      }
    }
  }
}
"""

Number = Annotated[str, msgspec.Meta(pattern=r"^\d+$")]
GlobalId = Annotated[str, msgspec.Meta(pattern=r"^gid://.+/\d+$")]


class _PageInfo(msgspec.Struct, rename="camel", gc=False):
    has_next_page: bool


class _Connection(msgspec.Struct, Generic[NodeT], rename="camel", gc=False):
    page_info: _PageInfo
    nodes: list[NodeT]


class _Commit(msgspec.Struct, rename="camel", gc=False):
    sha: str
    author_email: str | None
    authored_date: str | None
    committed_date: str | None


class _User(msgspec.Struct, rename="camel", gc=False):
    id: GlobalId
    username: str
    name: str
    public_email: str | None


class _MergeRequest(msgspec.Struct, rename="camel", gc=False):
    iid: Number
    commits: _Connection[_Commit] | None
    approved_by: _Connection[_User] | None


class _MergeRequests(msgspec.Struct, gc=False):
    nodes: list[_MergeRequest]


class _Project(msgspec.Struct, rename="camel", gc=False):
    merge_requests: _MergeRequests


class _Complexity(msgspec.Struct, gc=False):
    score: int
    limit: int


class _Data(msgspec.Struct, rename="camel", gc=False):
    query_complexity: _Complexity
    project: _Project | None


class _Error(msgspec.Struct, gc=False):
    message: str = "an error without words"


class _Answer(msgspec.Struct, gc=False):
    data: _Data | None = None
    errors: list[_Error] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class Parts(msgspec.Struct, gc=False):
    """What was said of one merge request, as REST would; None: it has to be asked."""

    commits: list[msgspec.Raw] | None
    approvals: msgspec.Raw | None
    approver_ids: frozenset[int]


class _UnableError(Exception):
    """The instance's GraphQL does not do it; the words are for the operator."""


class GraphQL:
    """The accelerator of one connection.

    Args:
        api: the instance.
        is_wanted: False where the connection's options switch it off.
    """

    def __init__(self, api: Api, *, is_wanted: bool) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._batch_size: int | None = None if is_wanted else 0
        self._paths: dict[int, str] = {}
        self.refusal = ""
        """Why it is not used, where it was wanted."""

    def batch_size(self) -> int:
        """How many merge requests a query may name; 0 where it is not to be used. Asks the instance once."""
        with self._lock:
            if self._batch_size is None:
                self._batch_size = self._probed()
        return self._batch_size

    def parts(self, project_id: int, iids: Sequence[int]) -> dict[int, Parts]:
        """What it says of some merge requests; those that are missing have to be asked by REST.

        Args:
            project_id: whose they are.
            iids: at most `batch_size` of them.
        """
        try:
            data = self._asked(self._path(project_id), iids, len(iids))
        except _UnableError as error:
            self._give_up(str(error))
            return {}
        except TransientSourceError:
            return {}
        if data.project is None:  # renamed since, or hidden; REST finds out
            self._paths.pop(project_id, None)
            return {}
        return {int(each.iid): _parts_of(each) for each in data.project.merge_requests.nodes}

    def _probed(self) -> int:
        for size in BATCH_SIZES:
            try:
                data = self._asked("-/-", ["0"], size)
            except _UnableError as error:
                self.refusal = str(error)
                continue
            except TransientSourceError as error:
                self.refusal = error.message
                return 0
            if data.query_complexity.score <= data.query_complexity.limit:
                self.refusal = ""
                return size
        return 0

    def _path(self, project_id: int) -> str:
        with self._lock:
            if project_id not in self._paths:
                self._paths[project_id] = self._api.project(str(project_id)).path_with_namespace
            return self._paths[project_id]

    def _give_up(self, why: str) -> None:
        with self._lock:
            self._batch_size, self.refusal = 0, why

    def _asked(self, path: str, iids: Sequence[int | str], size: int) -> _Data:
        variables = {"path": path, "iids": [str(iid) for iid in iids], "first": size, "inner": INNER_ROWS_COUNT}
        try:
            body = self._api.post_query({"query": QUERY, "variables": variables})
            answer = decoded(body, _ANSWER)
        except (GoneError, ForbiddenResourceError, SourceRequestError, BadRecordError) as error:
            raise _UnableError(error.message) from error
        if answer.errors or answer.data is None:
            raise _UnableError("; ".join(error.message for error in answer.errors or ()) or "no data")
        return answer.data


def _parts_of(shown: _MergeRequest) -> Parts:
    commits, approved_by = shown.commits, shown.approved_by
    parts = Parts(commits=None, approvals=None, approver_ids=frozenset())
    if commits is not None and not commits.page_info.has_next_page:
        parts.commits = list(_commits(commits.nodes))
    if approved_by is not None and not approved_by.page_info.has_next_page:
        users = [_user(each) for each in approved_by.nodes]
        parts.approvals = _raw({"approved_by": [{"user": user} for user in users]})
        parts.approver_ids = frozenset(user["id"] for user in users)
    return parts


def _commits(nodes: Sequence[_Commit]) -> Iterator[msgspec.Raw]:
    for each in nodes:
        yield _raw(
            {
                "id": each.sha,
                "author_email": each.author_email,
                "authored_date": each.authored_date,
                "committed_date": each.committed_date,
                "created_at": each.committed_date,
            }
        )


def _user(shown: _User) -> dict[str, Any]:
    return {
        "id": int(shown.id.rpartition("/")[2]),
        "username": shown.username,
        "name": shown.name,
        "public_email": shown.public_email,
    }


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
