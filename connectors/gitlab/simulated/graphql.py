"""The GraphQL of a simulated GitLab: projects, their merge requests, commits, approvers, and what a query costs.

A small part of the language: one query with variables, fields with arguments, no fragments and no aliases. Costs follow
a fixed table: a field costs one, one that reads the repository one more, and a connection's children are multiplied by
one and a hundredth of the rows that it is asked for. What the language's own reader refuses is answered as GitLab does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from connectors.gitlab.simulated.model import MergeRequest, Person, Project
from connectors.gitlab.simulated.world import World
from connectors.simulator import Answer, Request, json_answer

PAGE_MAX = 100
TOKEN = re.compile(r"[A-Za-z_]\w*|\$\w+|\d+|\"[^\"]*\"|[{}():,!\[\]]")
ARGUMENTS = {
    "project": {"fullPath"},
    "mergeRequests": {"iids", "first", "after", "state"},
    "commits": {"first", "after"},
    "approvedBy": {"first", "after"},
}
FIELDS = {
    "Query": {"queryComplexity": "QueryComplexity", "project": "Project", "metadata": "Metadata"},
    "Metadata": {"version": ""},
    "QueryComplexity": {"score": "", "limit": ""},
    "Project": {"id": "", "fullPath": "", "mergeRequests": "MergeRequestConnection"},
    "MergeRequestConnection": {"nodes": "MergeRequest", "pageInfo": "PageInfo"},
    "MergeRequest": {"iid": "", "id": "", "commits": "CommitConnection", "approvedBy": "UserConnection"},
    "CommitConnection": {"nodes": "Commit", "pageInfo": "PageInfo"},
    "UserConnection": {"nodes": "User", "pageInfo": "PageInfo"},
    "PageInfo": {"hasNextPage": "", "endCursor": ""},
    "Commit": {"sha": "", "title": "", "authorEmail": "", "authoredDate": "", "committedDate": ""},
    "User": {"id": "", "username": "", "name": "", "publicEmail": ""},
}
GITALY_FIELDS = frozenset({"commits"})


class Field(msgspec.Struct):
    """A field as it is asked for."""

    name: str
    arguments: dict[str, Any]
    fields: list[Field]


class QueryError(Exception):
    """What is answered in `errors`."""


class GraphQLApi:
    """The endpoint.

    Args:
        world: what is true.
        version: of the server.
    """

    def __init__(self, world: World, version: str) -> None:
        self._world = world
        self._version = version
        self.complexity_limit = 250
        self.unknown_fields: set[str] = set()
        """Fields that this server's version does not have."""
        self.is_there = True
        self.is_blind = False
        """Whether it shows no project."""

    def answer(self, request: Request) -> Answer:
        """Answer a query; everything but a body that is no query is 200."""
        if not self.is_there:
            return json_answer({"message": "404 Not Found"}, 404)
        asked = msgspec.json.decode(request.body, type=dict[str, Any])
        try:
            fields = _parsed(asked["query"], asked.get("variables") or {})
            self._check(fields, "Query")
            score = self._score(fields)
        except QueryError as error:
            return json_answer({"errors": [{"message": str(error)}]})
        return json_answer({"data": {field.name: self._resolve(field, score) for field in fields}})

    def _score(self, fields: list[Field]) -> int:
        score, most = sum(_cost(field) for field in fields), self.complexity_limit
        if score > most:
            raise QueryError(f"Query has complexity of {score}, which exceeds max complexity of {most}")
        return score

    def _check(self, fields: list[Field], type_name: str) -> None:
        known = FIELDS[type_name]
        for field in fields:
            if field.name not in known or field.name in self.unknown_fields:
                raise QueryError(f"Field '{field.name}' doesn't exist on type '{type_name}'")
            unknown = field.arguments.keys() - ARGUMENTS.get(field.name, set())
            if unknown:
                raise QueryError(f"Field '{field.name}' doesn't accept argument '{unknown.pop()}'")
            if bool(known[field.name]) != bool(field.fields):
                raise QueryError(f"Field '{field.name}' has selections where it must not, or none where it must")
            if field.fields:
                self._check(field.fields, known[field.name])

    def _resolve(self, field: Field, score: int) -> Any:
        if field.name == "queryComplexity":
            return _picked(field, {"score": score, "limit": self.complexity_limit})
        if field.name == "metadata":
            return _picked(field, {"version": self._version})
        path, projects = field.arguments.get("fullPath"), self._world.projects.values()
        project = next((each for each in projects if each.path == path and not each.is_hidden), None)
        if project is None or self.is_blind:  # without an error, whether it is hidden or not there
            return None
        return {each.name: self._merge_requests(each, project) for each in field.fields}

    def _merge_requests(self, field: Field, project: Project) -> Any:
        if field.name != "mergeRequests":
            return project.path if field.name == "fullPath" else f"gid://gitlab/Project/{project.id}"
        iids = field.arguments.get("iids")
        wanted = [row for row in project.by_iid.values() if iids is None or str(row.iid) in iids]
        wanted.sort(key=lambda row: row.created_at, reverse=True)
        return _connection(field, wanted, _merge_request)


def _merge_request(field: Field, row: MergeRequest) -> Any:
    if field.name == "commits":
        return _connection(field, row.commits[::-1], _commit)
    if field.name == "approvedBy":
        return _connection(field, [approval.person for approval in row.standing.values()], _user)
    return str(row.iid) if field.name == "iid" else f"gid://gitlab/MergeRequest/{row.id}"


def _commit(field: Field, commit: Any) -> Any:
    # Times have whole seconds, as everywhere in GitLab's GraphQL.
    return {
        "sha": commit.sha,
        "title": commit.title,
        "authorEmail": commit.person.email,
        "authoredDate": commit.authored_at.isoformat(timespec="seconds"),
        "committedDate": commit.committed_at.isoformat(timespec="seconds"),
    }[field.name]


def _user(field: Field, person: Person) -> Any:
    gid = f"gid://gitlab/User/{person.id}"
    return {"id": gid, "username": person.username, "name": person.name, "publicEmail": None}[field.name]


def _connection(field: Field, rows: list[Any], value: Callable[[Field, Any], Any]) -> dict[str, Any]:
    shown = rows[: min(int(field.arguments.get("first", PAGE_MAX)), PAGE_MAX)]
    answers: dict[str, Any] = {}
    for each in field.fields:
        if each.name == "pageInfo":
            answers["pageInfo"] = _picked(each, {"hasNextPage": len(shown) < len(rows), "endCursor": "e30"})
        else:
            answers["nodes"] = [{inner.name: value(inner, row) for inner in each.fields} for row in shown]
    return answers


def _picked(field: Field, values: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: values[each.name] for each in field.fields}


def _cost(field: Field) -> int:
    children = sum(_cost(each) for each in field.fields)
    if "first" in field.arguments:
        children = round(children * (1 + min(int(field.arguments["first"]), PAGE_MAX) / 100))
    return 1 + (field.name in GITALY_FIELDS) + children


def _parsed(query: str, variables: Mapping[str, Any]) -> list[Field]:
    words = TOKEN.findall(query)
    if not words or words[0] != "query":
        raise QueryError("Parse error: expected a query")
    position = words.index("{")
    return list(_selection(iter(words[position + 1 :]), variables))


def _selection(words: Iterator[str], variables: Mapping[str, Any]) -> Iterator[Field]:
    """The fields up to the closing brace; a name is followed by its arguments, its own fields, or the next name."""
    last: Field | None = None
    for word in words:
        if word == "}":
            break
        if word == "(" and last is not None:
            last.arguments.update(_arguments(words, variables))
        elif word == "{" and last is not None:
            last.fields.extend(_selection(words, variables))
        else:
            if last is not None:
                yield last
            last = Field(word, {}, [])
    if last is not None:
        yield last


def _arguments(words: Iterator[str], variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    name = ""
    for word in words:
        if word == ")":
            return
        if word in {":", ","}:
            continue
        if not name:
            name = word
            continue
        if word.startswith("$"):
            if word[1:] not in variables:
                raise QueryError(f"Variable {word} is used but not given")
            yield name, variables[word[1:]]
        else:
            yield name, int(word) if word.isdigit() else word.strip('"')
        name = ""
