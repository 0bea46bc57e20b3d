"""What a simulated Jira has many of: comments and worklogs of an issue, versions of a project, boards and sprints.

Here belongs how they are listed and embedded, written from Jira's documentation. What is true of them stands in
`simulated_world.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from connectors.jira.simulated_world import Board, Comment, Issue, Named, Project, Sprint, Worklog
from connectors.simulator import Answer, RefusalError, Request, Route, json_answer

if TYPE_CHECKING:
    from connectors.jira.simulator import JiraSimulator

EMBEDDED_COMMENTS_MAX, EMBEDDED_WORKLOGS_MAX = 20, 20
COMMENTS_MAX, WORKLOGS_MAX, AGILE_ROWS_MAX = 100, 5_000, 50
AGILE: Final = "/rest/agile/1.0"


class SimulatedParts:
    """The lists of one simulated Jira that hang on an issue, a project or a board."""

    def __init__(self, simulator: JiraSimulator) -> None:
        self.priority_names: dict[str, str] = {}
        """Of those that were renamed, by id."""
        self._simulator = simulator

    def routes_of(self, api: str) -> list[Route]:
        """The endpoints under a version of the platform's API."""
        paging = frozenset({"startAt", "maxResults", "orderBy", "expand"})
        since = frozenset({"startedAfter", "startedBefore"})
        return [
            Route("GET", api + "/issue/{id}/comment", self._list_comments, paging),
            Route("GET", api + "/issue/{id}/worklog", self._list_worklogs, (paging - {"orderBy"}) | since),
            Route("GET", api + "/project/{key}/versions", self._list_versions, frozenset({"expand"})),
            Route("GET", api + "/version/{id}", self._get_version, frozenset({"expand"})),
        ]

    def agile_routes(self) -> list[Route]:
        """The endpoints of boards."""
        paging = frozenset({"startAt", "maxResults"})
        return [
            Route("GET", AGILE + "/board", self._list_boards, paging | {"projectKeyOrId", "type", "name"}),
            Route("GET", AGILE + "/board/{id}", self._get_board),
            Route("GET", AGILE + "/board/{id}/sprint", self._list_sprints, paging | {"state"}),
            Route("GET", AGILE + "/sprint/{id}", self._get_sprint),
        ]

    def sprint(self, sprint_id: int) -> Sprint:
        """The sprint of that id. Raises `KeyError` where there is none."""
        for project in self._simulator.world.projects.values():
            for sprint in project.sprints:
                if sprint.id == sprint_id and not sprint.is_deleted:
                    return sprint
        raise KeyError(sprint_id)

    def version(self, version_id: str) -> tuple[Project, Named]:
        """The version of that id and its project. Raises `KeyError` where there is none."""
        for project in self._simulator.world.projects.values():
            for version in project.versions:
                if version.id == version_id:
                    return project, version
        raise KeyError(version_id)

    # --- of an issue

    def embedded_comments(self, issue: Issue, *, is_adf: bool) -> dict[str, Any]:
        """As a field of the issue."""
        shown = [self._comment(issue, one, is_adf=is_adf) for one in issue.comments[:EMBEDDED_COMMENTS_MAX]]
        url = f"{self._simulator.site_url}/rest/api/2/issue/{issue.id}/comment"
        return {
            "comments": shown, "self": url, "maxResults": len(shown), "total": len(issue.comments), "startAt": 0
        }  # fmt: skip

    def embedded_worklogs(self, issue: Issue, *, is_adf: bool) -> dict[str, Any]:
        """As a field of the issue."""
        shown = [self._worklog(issue, one, is_adf=is_adf) for one in issue.worklogs[:EMBEDDED_WORKLOGS_MAX]]
        return {
            "startAt": 0, "maxResults": EMBEDDED_WORKLOGS_MAX, "total": len(issue.worklogs), "worklogs": shown
        }  # fmt: skip

    def _list_comments(self, request: Request) -> Answer:
        issue, is_adf = self._simulator.asked_issue(request), request.path.startswith("/rest/api/3/")
        rows = [self._comment(issue, one, is_adf=is_adf) for one in issue.comments]
        return json_answer(_page(request, rows, "comments", COMMENTS_MAX))

    def _list_worklogs(self, request: Request) -> Answer:
        issue, is_adf = self._simulator.asked_issue(request), request.path.startswith("/rest/api/3/")
        rows = [self._worklog(issue, one, is_adf=is_adf) for one in issue.worklogs]
        return json_answer(_page(request, rows, "worklogs", WORKLOGS_MAX))

    def _comment(self, issue: Issue, comment: Comment, *, is_adf: bool) -> dict[str, Any]:
        simulator = self._simulator
        author = {} if comment.author is None else {"author": simulator.person_raw(comment.author)}
        return {
            "self": f"{simulator.site_url}/rest/api/2/issue/{issue.id}/comment/{comment.id}",
            "id": str(comment.id),
            **author,
            "body": document(comment.body) if is_adf else comment.body,
            "created": simulator.shown_time(comment.at),
            "updated": simulator.shown_time(comment.at),
            "jsdPublic": True,
        }

    def _worklog(self, issue: Issue, worklog: Worklog, *, is_adf: bool) -> dict[str, Any]:
        simulator = self._simulator
        at = simulator.shown_time(worklog.at)
        return {
            "self": f"{simulator.site_url}/rest/api/2/issue/{issue.id}/worklog/{worklog.id}",
            "author": simulator.person_raw(worklog.author),
            "updateAuthor": simulator.person_raw(worklog.author),
            "comment": document("") if is_adf else "",
            "created": at,
            "updated": at,
            "started": at,
            "timeSpent": f"{worklog.seconds // 60}m",
            "timeSpentSeconds": worklog.seconds,
            "id": str(worklog.id),
            "issueId": str(issue.id),
        }

    # --- of a project

    def _list_versions(self, request: Request) -> Answer:
        wanted = request.captured[0]
        key = self._simulator.find_project(wanted)
        if key is None:
            return self._simulator.error(404, f"No project could be found with key '{wanted}'.")
        project = self._simulator.world.projects[key]
        return json_answer([self._version(project, one) for one in project.versions])

    def _get_version(self, request: Request) -> Answer:
        try:
            return json_answer(self._version(*self.version(request.captured[0])))
        except KeyError:
            return self._simulator.error(404, f"Could not find version for id '{request.captured[0]}'")

    def _version(self, project: Project, version: Named) -> dict[str, Any]:
        url = f"{self._simulator.site_url}/rest/api/2/version/{version.id}"
        row = {"self": url, "id": version.id, "name": version.name}
        return row | version_json(version, self._simulator.clock.now()) | {"projectId": project.id}

    # --- of a board

    def _visible_boards(self) -> list[Board]:
        return [board for board in self._simulator.world.boards if not board.project.is_hidden]

    def _list_boards(self, request: Request) -> Answer:
        wanted = request.last("projectKeyOrId")
        if wanted is not None and self._simulator.find_project(wanted) is None:
            return self._simulator.error(400, f"No project could be found with key or id '{wanted}'.")
        key = wanted and self._simulator.find_project(wanted)
        kind = request.last("type")
        boards = [
            self._board(board)
            for board in self._visible_boards()
            if (key is None or board.project.key == key) and (kind is None or board.kind == kind)
        ]
        return json_answer(_agile_page(request, boards))

    def _get_board(self, request: Request) -> Answer:
        return json_answer(self._board(self._asked_board(request)))

    def _asked_board(self, request: Request) -> Board:
        for board in self._visible_boards():
            if str(board.id) == request.captured[0]:
                return board
        raise RefusalError(self._simulator.error(404, "The requested board does not exist."))

    def _board(self, board: Board) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": board.id,
            "self": f"{self._simulator.site_url}{AGILE}/board/{board.id}",
            "name": board.name,
            "type": board.kind,
        }
        if self._simulator.deployment == "cloud":
            project = board.project
            row["location"] = {"projectId": project.id, "projectKey": project.key, "projectName": project.name}
        return row

    def _list_sprints(self, request: Request) -> Answer:
        board = self._asked_board(request)
        if board.kind == "kanban":
            return self._simulator.error(400, "The board does not support sprints")
        states = (request.last("state") or "closed,active,future").split(",")
        now = self._simulator.clock.now()
        sprints = [
            self._sprint(sprint)
            for state in ("closed", "active", "future")
            for sprint in board.project.sprints
            if not sprint.is_deleted and state in states and sprint.state(now) == state
        ]
        return json_answer(_agile_page(request, sprints))

    def _get_sprint(self, request: Request) -> Answer:
        try:
            return json_answer(self._sprint(self.sprint(int(request.captured[0]))))
        except (KeyError, ValueError):
            return self._simulator.error(404, "Sprint does not exist")

    def _sprint(self, sprint: Sprint) -> dict[str, Any]:
        url = f"{self._simulator.site_url}{AGILE}/sprint/{sprint.id}"
        now = self._simulator.clock.now()
        activated = {"activatedDate": utc_text(sprint.starts_at)} if sprint.state(now) != "future" else {}
        return {"self": url, **sprint_json(sprint, now), **activated, "originBoardId": sprint.board_id}


def sprint_json(sprint: Sprint, now: datetime) -> dict[str, Any]:
    """What issues and boards say of a sprint alike."""
    state = sprint.state(now)
    row = {"id": sprint.id, "name": sprint.name, "state": state, "goal": ""}
    row |= {"startDate": utc_text(sprint.starts_at), "endDate": utc_text(sprint.ends_at)}
    return row | ({"completeDate": utc_text(sprint.ends_at)} if state == "closed" else {})


def version_json(version: Named, now: datetime) -> dict[str, Any]:
    """What issues and projects say of a version alike; every month one comes out."""
    number = int(version.id) % 100
    day = (now.replace(day=1) + timedelta(days=30 * (number - 20))).date()
    is_released = number < 20
    return {"archived": number < 2, "released": is_released, "releaseDate": day.replace(day=1).isoformat()}


def utc_text(at: datetime | None) -> str | None:
    """A time as sprints have it."""
    return None if at is None else at.isoformat(timespec="milliseconds")[:-6] + "Z"


def document(text: str) -> dict[str, Any]:
    """Plain text in the document format of version 3."""
    paragraphs = [
        {"type": "paragraph", "content": [{"type": "text", "text": line}] if line else []} for line in text.split("\n")
    ]
    return {"type": "doc", "version": 1, "content": paragraphs}


def _bounds(request: Request, default: int, most: int) -> tuple[int, int]:
    return int(request.last("startAt") or 0), min(int(request.last("maxResults") or default), most)


def _page(request: Request, rows: Sequence[Any], name: str, most: int) -> dict[str, Any]:
    start, count = _bounds(request, most, most)
    return {"startAt": start, "maxResults": count, "total": len(rows), name: rows[start : start + count]}


def _agile_page(request: Request, rows: Sequence[Any]) -> dict[str, Any]:
    start, count = _bounds(request, AGILE_ROWS_MAX, AGILE_ROWS_MAX)
    values = rows[start : start + count]
    return {"maxResults": count, "startAt": start, "isLast": start + count >= len(rows), "values": values}
