"""Artifacts of a simulated GitLab's jobs: archives in object storage, which has another host name than GitLab.

GitLab answers with a redirect whose address carries its own permission, and 404 once the artifacts have expired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from connectors.gitlab.simulated.delivery import Delivery
from connectors.gitlab.simulated.rendering import error_json
from connectors.simulator import Answer, RefusalError, Request, Route

_SIGNATURE = "signed-for-a-while"


class Artifacts(msgspec.Struct):
    """What jobs left behind, by their ids."""

    delivery: Delivery
    check: Callable[[Request], object]
    """Refuses a project that is hidden."""
    archives: dict[int, bytes] = {}

    def routes(self) -> Iterable[Route]:
        """The endpoint, and the object storage, which wants no token."""
        yield Route("GET", "/api/v4/projects/{id}/jobs/{job_id}/artifacts", self._get, frozenset({"job_token"}))
        yield Route("GET", "/object-storage/{job_id}", self._stored, frozenset({"signature"}), is_open=True)

    def shown(self, job_id: int) -> list[dict[str, object]]:
        """As a job shows them."""
        archive = self.archives.get(job_id)
        if archive is None:
            return []
        return [
            {"file_type": "archive", "size": len(archive), "filename": "artifacts.zip", "file_format": "zip"},
            {"file_type": "trace", "size": 2_000, "filename": "job.log", "file_format": None},
        ]

    def _get(self, request: Request) -> Answer:
        self.check(request)
        job_id = request.captured[1]
        if int(job_id) not in self.archives:
            raise RefusalError(error_json("404 Not Found"))
        host = request.host.replace("127.0.0.1", "localhost")
        location = f"http://{host}/object-storage/{job_id}?signature={_SIGNATURE}"
        return Answer(302, b"", [(b"location", location.encode())])

    def _stored(self, request: Request) -> Answer:
        archive = self.archives.get(int(request.captured[0]))
        if archive is None or request.last("signature") != _SIGNATURE:
            return Answer(403, b"<Error/>", content_type=b"application/xml")
        return Answer(200, archive, content_type=b"application/octet-stream")
