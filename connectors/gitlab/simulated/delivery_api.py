"""How pipelines, deployments and files of a simulated GitLab look over HTTP, and what may be asked of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from connectors.gitlab.simulated.artifacts import Artifacts
from connectors.gitlab.simulated.asked import asked_page, choice, page_headers, refuse, time_of
from connectors.gitlab.simulated.delivery import Delivery, Deployment, Environment, Home, Job, Pipeline
from connectors.gitlab.simulated.model import Project, sha
from connectors.gitlab.simulated.rendering import WEB_URL, Renderer, error_json, ms
from connectors.simulator import Answer, RefusalError, Request, Route, json_answer

T = TypeVar("T")

_PAGING = frozenset({"page", "per_page"})
_UPDATED = frozenset({"updated_after", "updated_before", "order_by", "sort", "id"})
OFFSET_ROWS_MAX = 50_000
"""Where keyset paging exists, pages by number end here."""


class DeliveryApi:
    """The endpoints.

    Args:
        delivery: what is true.
        renderer: of people and merge requests.
        asked_project: finds the project that a request names, or refuses.
    """

    def __init__(self, delivery: Delivery, renderer: Renderer, asked_project: Callable[[Request], Project]) -> None:
        self._delivery = delivery
        self._renderer = renderer
        self._asked_project = asked_project
        self.artifacts = Artifacts(delivery, self._with_ci)

    def routes(self) -> Iterable[Route]:
        """The endpoints, with the query parameters that each knows."""
        project = "/api/v4/projects/{id}"
        pipelines, jobs, deployments = (f"{project}/{name}" for name in ("pipelines", "jobs", "deployments"))
        filters = _PAGING | _UPDATED
        return [
            Route("GET", pipelines, self._list_pipelines, filters | {"status", "ref", "scope"}, is_listing=True),
            Route("GET", pipelines + "/{pipeline_id}", self._get_pipeline),
            Route("GET", pipelines + "/{pipeline_id}/jobs", self._list_jobs_of, _PAGING | {"include_retried"}),
            Route("GET", pipelines + "/{pipeline_id}/test_report", self._get_test_report),
            Route("GET", jobs, self._list_jobs, _PAGING | {"pagination", "order_by", "sort", "cursor", "id"}),
            Route("GET", jobs + "/{job_id}", self._get_job),
            *self.artifacts.routes(),
            Route("GET", deployments, self._list_deployments, filters | {"environment", "status"}, is_listing=True),
            Route("GET", deployments + "/{deployment_id}", self._get_deployment),
            Route("GET", deployments + "/{deployment_id}/merge_requests", self._list_deployed, _PAGING),
            Route("GET", project + "/environments", self._list_environments, _PAGING | {"name", "search", "states"}),
            Route("GET", project + "/repository/files/{path}", self._get_file, frozenset({"ref"})),
            Route("GET", project + "/repository/tree", self._list_tree, _PAGING | {"path", "ref", "recursive"}),
        ]

    # --- pipelines and jobs

    def _list_pipelines(self, request: Request) -> Answer:
        _, home = self._with_ci(request)
        order_by = choice(request, "order_by", "id", ("id", "status", "ref", "updated_at", "user_id"))
        rows = _filtered(request, home.pipelines.values(), order_by)
        return self._page(request, rows, self._pipeline_json)

    def _get_pipeline(self, request: Request) -> Answer:
        pipeline = self._asked_pipeline(request)
        # Before it has ended GitLab reckons with the present; that differs from one answer to the next.
        started, finished = pipeline.started_at, pipeline.finished_at
        return json_answer(
            self._pipeline_json(pipeline)
            | {
                "before_sha": "0" * 40,
                "tag": False,
                "yaml_errors": None,
                "user": self._renderer.person_or_none(pipeline.person),
                "started_at": ms(started),
                "finished_at": ms(finished),
                "committed_at": None,
                "duration": int((finished - started).total_seconds()) if finished and started else None,
                "queued_duration": int((started - pipeline.created_at).total_seconds()) if started else None,
                "coverage": pipeline.coverage,
                "archived": False,
            }
        )

    def _list_jobs_of(self, request: Request) -> Answer:
        pipeline = self._asked_pipeline(request)
        jobs = sorted(pipeline.jobs, key=attrgetter("id"))
        if request.last("include_retried") != "true":
            jobs = sorted({job.name: job for job in jobs}.values(), key=attrgetter("id"))
        return self._page(request, jobs[::-1], self._job_json)

    def _list_jobs(self, request: Request) -> Answer:
        project, home = self._with_ci(request)
        jobs = sorted(home.jobs.values(), key=attrgetter("id"), reverse=True)
        if request.last("pagination") != "keyset":
            page, per_page = asked_page(request)
            if page * per_page > OFFSET_ROWS_MAX:
                raise RefusalError(error_json("405 Offset pagination has a maximum allowed offset of 50000"))
            return self._page(request, jobs, self._job_json)
        if request.last("order_by", "id") != "id" or request.last("sort", "desc") != "desc":
            raise RefusalError(error_json("405 Keyset pagination is not yet available for this type of request"))
        _, per_page = asked_page(request)
        cursor = request.last("cursor")
        if cursor is not None:
            jobs = [job for job in jobs if job.id < _from_cursor(cursor)]
        found = jobs[:per_page]
        headers = []
        if len(jobs) > len(found):
            asked = {name: values[-1] for name, values in request.query.items()} | {"cursor": _cursor(found[-1].id)}
            query = urlencode({"id": project.id, **asked})
            headers = [(b"link", f'<{request.base_url}{request.path}?{query}>; rel="next"'.encode())]
        return json_answer([self._job_json(job) for job in found], headers=headers)

    def _get_job(self, request: Request) -> Answer:
        _, home = self._with_ci(request)
        return json_answer(self._job_json(_found(home.jobs, request.captured[1])))

    def _get_test_report(self, request: Request) -> Answer:
        pipeline = self._asked_pipeline(request)
        cases = [
            {
                "status": "failed" if job.status == "failed" else "success",
                "name": f"test_{job.name}_{number}",
                "classname": f"tests.{job.stage}",
                "file": f"tests/test_{job.stage}.py",
                "execution_time": 0.25 * number,
                "system_output": "assert 1 == 2" if job.status == "failed" else None,
                "stack_trace": None,
                "recent_failures": None,
                "attachment_url": None,
            }
            for job in pipeline.jobs
            if job.stage == "test" and job.finished_at is not None
            for number in range(1, 4)
        ]
        failed = sum(case["status"] == "failed" for case in cases)
        counts = {"total_count": len(cases), "success_count": len(cases) - failed, "failed_count": failed}
        counts |= {"skipped_count": 0, "error_count": 0}
        suites = [{"name": "pytest", "total_time": 1.5, **counts, "suite_error": None, "test_cases": cases}]
        return json_answer({"total_time": 1.5, **counts, "test_suites": suites if cases else []})

    def _pipeline_json(self, pipeline: Pipeline) -> dict[str, Any]:
        return {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "project_id": pipeline.project.id,
            "sha": pipeline.sha,
            "ref": pipeline.ref,
            "status": pipeline.status,
            "source": pipeline.source,
            "created_at": ms(pipeline.created_at),
            "updated_at": ms(pipeline.updated_at),
            "web_url": f"{WEB_URL}/{pipeline.project.path}/-/pipelines/{pipeline.id}",
            "name": None,
        }

    def _job_json(self, job: Job) -> dict[str, Any]:
        duration = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
        row = {
            "id": job.id,
            "status": job.status,
            "stage": job.stage,
            "name": job.name,
            "ref": job.pipeline.ref,
            "tag": False,
            "coverage": None,
            "allow_failure": job.is_allowed_to_fail,
            "created_at": ms(job.created_at),
            "started_at": ms(job.started_at),
            "finished_at": ms(job.finished_at),
            "erased_at": None,
            "duration": duration,
            "queued_duration": (job.started_at - job.created_at).total_seconds() if job.started_at else None,
            "user": self._renderer.person_or_none(job.person),
            "pipeline": self._pipeline_json(job.pipeline),
            "web_url": f"{WEB_URL}/{job.pipeline.project.path}/-/jobs/{job.id}",
            "artifacts": self.artifacts.shown(job.id),
            "runner": None,
            "archived": False,
            "tag_list": [],
        }
        # Only what has failed says why.
        return row | ({"failure_reason": job.failure_reason} if job.failure_reason else {})

    # --- deployments and environments

    def _list_deployments(self, request: Request) -> Answer:
        _, home = self._asked_home(request)
        order_by = choice(request, "order_by", "id", ("id", "iid", "created_at", "updated_at", "finished_at", "ref"))
        asks_updated = request.last("updated_after") or request.last("updated_before")
        if asks_updated and order_by != "updated_at":
            raise refuse("updated_at", "filter and order_by must be used together")
        return self._page(request, _filtered(request, home.deployments.values(), order_by), self._deployment_json)

    def _get_deployment(self, request: Request) -> Answer:
        return json_answer(self._deployment_json(self._asked_deployment(request)))

    def _list_deployed(self, request: Request) -> Answer:
        rows = [self._renderer.row(each) for each in self._asked_deployment(request).merge_requests]
        return _cut(request, rows)

    def _list_environments(self, request: Request) -> Answer:
        _, home = self._asked_home(request)
        return self._page(request, list(home.environments.values()), self._environment_json)

    def _deployment_json(self, deployment: Deployment) -> dict[str, Any]:
        return {
            "id": deployment.id,
            "iid": deployment.iid,
            "ref": deployment.ref,
            "sha": deployment.sha,
            "created_at": ms(deployment.created_at),
            "updated_at": ms(deployment.updated_at),
            "status": deployment.status,
            "user": self._renderer.person(deployment.person),
            "environment": {
                "id": deployment.environment.id,
                "name": deployment.environment.name,
                "slug": deployment.environment.name.replace("/", "-"),
                "external_url": deployment.environment.external_url,
            },
            "deployable": self._job_json(deployment.job) if deployment.job else None,
        }

    def _environment_json(self, environment: Environment) -> dict[str, Any]:
        return {
            "id": environment.id,
            "name": environment.name,
            "slug": environment.name.replace("/", "-"),
            "external_url": environment.external_url,
            "state": environment.state,
            "tier": environment.tier,
            "auto_stop_at": None,
        }

    # --- files

    def _get_file(self, request: Request) -> Answer:
        _, home = self._asked_home(request)
        if request.last("ref") is None:
            raise refuse("ref", "is missing")
        path = request.captured[1]
        if path not in home.files:
            raise RefusalError(error_json("404 File Not Found"))
        text, commit_sha = home.files[path]
        return json_answer(
            {
                "file_name": path.rpartition("/")[2],
                "file_path": path,
                "size": len(text.encode()),
                "encoding": "base64",
                "content": base64.b64encode(text.encode()).decode(),
                "content_sha256": sha(text),
                "ref": "HEAD",
                "blob_id": sha("blob", text),
                "commit_id": sha("head", *home.files.values()),
                "last_commit_id": commit_sha,
                "execute_filemode": False,
            }
        )

    def _list_tree(self, request: Request) -> Answer:
        _, home = self._asked_home(request)
        if not home.files:
            raise RefusalError(error_json("404 Tree Not Found"))
        rows = [{"id": sha(path), "name": path, "type": "blob", "path": path, "mode": "100644"} for path in home.files]
        return _cut(request, [msgspec.json.encode(row) for row in rows])

    # --- finding and paging

    def _asked_home(self, request: Request) -> tuple[Project, Home]:
        project = self._asked_project(request)
        return project, self._delivery.home(project)

    def _with_ci(self, request: Request) -> tuple[Project, Home]:
        project, home = self._asked_home(request)
        if not home.has_ci:
            raise RefusalError(error_json("403 Forbidden"))
        return project, home

    def _asked_pipeline(self, request: Request) -> Pipeline:
        _, home = self._with_ci(request)
        return _found(home.pipelines, request.captured[1])

    def _asked_deployment(self, request: Request) -> Deployment:
        _, home = self._asked_home(request)
        return _found(home.deployments, request.captured[1])

    def _page(self, request: Request, rows: Sequence[Any], render: Callable[[Any], dict[str, Any]]) -> Answer:
        page, per_page = asked_page(request)
        found = [render(row) for row in rows[(page - 1) * per_page : page * per_page]]
        more = {"id": request.captured[0]}
        return json_answer(found, headers=page_headers(request, page, per_page, len(rows), more))


def _cut(request: Request, rows: list[bytes]) -> Answer:
    page, per_page = asked_page(request)
    headers = page_headers(request, page, per_page, len(rows), {"id": request.captured[0]})
    return Answer(200, b"[" + b",".join(rows[(page - 1) * per_page : page * per_page]) + b"]", headers)


def _filtered(request: Request, rows: Iterable[Any], order_by: str) -> list[Any]:
    """The rows of a span of update time in the order that is asked for; ties are broken by id."""
    since, until = time_of(request, "updated_after"), time_of(request, "updated_before")
    is_descending = choice(request, "sort", "desc", ("asc", "desc")) == "desc"

    def order(row: Any) -> tuple[str | int | datetime, int]:
        return getattr(row, order_by), row.id

    wanted = [
        row for row in rows if (since is None or row.updated_at >= since) and (until is None or row.updated_at <= until)
    ]
    return sorted(wanted, key=order, reverse=is_descending)


def _found(rows: dict[int, T], wanted: str) -> T:
    row = rows.get(int(wanted)) if wanted.isdigit() else None
    if row is None:
        raise RefusalError(error_json("404 Not found"))
    return row


def _cursor(last_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"id": str(last_id), "_kd": "n"}).encode()).decode()


def _from_cursor(cursor: str) -> int:
    try:
        return int(json.loads(base64.urlsafe_b64decode(cursor))["id"])
    except (ValueError, KeyError, TypeError):
        raise refuse("cursor", "is invalid") from None
