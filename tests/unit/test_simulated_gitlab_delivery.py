"""The simulated GitLab's pipelines, jobs, deployments, files and GraphQL, asked as a stranger would ask them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from connectors.gitlab.simulator import GitLabSimulator

PROJECT = "/api/v4/projects/101"
ONE = """
query q($p: ID!) { queryComplexity { score limit } project(fullPath: $p) { mergeRequests(first: 2) { nodes { iid } } } }
"""


class Asker:
    """A plain client, and what it asks."""

    def __init__(self, simulator: GitLabSimulator, base_url: str) -> None:
        self.simulator = simulator
        self.base_url = base_url
        self.session = requests.Session()
        self.session.headers["PRIVATE-TOKEN"] = "sim-token"

    def get(self, path: str, **params: Any) -> requests.Response:
        url = path if path.startswith("http") else self.base_url + path
        return self.session.get(url, params=params, timeout=20)

    def ask(self, query: str, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        answer = self.session.post(f"{self.base_url}/api/graphql", json=body, timeout=20)
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    simulator = GitLabSimulator(merge_requests=40)
    with simulator.serve() as server:
        yield Asker(simulator, server.base_url)


def test_jobs_by_keyset_follow_the_link_to_the_end_and_hold_retried_ones(asker: Asker) -> None:
    ids: list[int] = []
    url, params = f"{PROJECT}/jobs", {"pagination": "keyset", "order_by": "id", "sort": "desc", "per_page": 70}
    while url:
        answer = asker.get(url, **params)
        ids += [row["id"] for row in answer.json()]
        assert "x-total" not in answer.headers
        url, params = answer.links.get("next", {}).get("url", ""), {}
    assert ids == sorted(asker.simulator.home().jobs, reverse=True)


def test_jobs_by_keyset_have_one_order_and_pages_by_number_end(asker: Asker) -> None:
    assert asker.get(f"{PROJECT}/jobs", pagination="keyset", order_by="name").status_code == 405
    assert asker.get(f"{PROJECT}/jobs", page=501, per_page=100).status_code == 405


def test_retried_jobs_of_a_pipeline_are_hidden_unless_they_are_asked_for(asker: Asker) -> None:
    pipeline = next(
        each
        for each in asker.simulator.home().pipelines.values()
        if len({job.name for job in each.jobs}) < len(each.jobs)
    )
    path = f"{PROJECT}/pipelines/{pipeline.id}/jobs"
    shown, every = asker.get(path).json(), asker.get(path, include_retried="true").json()
    assert len(shown) == len({job["name"] for job in shown}) < len(every) == len(pipeline.jobs)


def test_a_row_of_the_listing_of_pipelines_lacks_what_the_detail_has(asker: Asker) -> None:
    (row,) = asker.get(f"{PROJECT}/pipelines", per_page=1).json()
    detail = asker.get(f"{PROJECT}/pipelines/{row['id']}").json()
    assert row.items() <= detail.items()
    assert {"duration", "started_at", "finished_at", "coverage", "user"} <= detail.keys() - row.keys()


def test_deployments_by_update_time_must_be_in_that_order(asker: Asker) -> None:
    since = {"updated_after": "2020-01-01T00:00:00Z"}
    assert asker.get(f"{PROJECT}/deployments", **since).status_code == 400
    rows = asker.get(f"{PROJECT}/deployments", order_by="updated_at", sort="asc", **since).json()
    assert rows == sorted(rows, key=lambda row: row["updated_at"])


def test_a_file_needs_a_ref_and_a_missing_one_is_not_found(asker: Asker) -> None:
    path = f"{PROJECT}/repository/files/docs%2FCODEOWNERS"
    assert asker.get(path).status_code == 400
    assert asker.get(path, ref="HEAD").json()["file_path"] == "docs/CODEOWNERS"
    assert asker.get(f"{PROJECT}/repository/files/CODEOWNERS", ref="HEAD").status_code == 404


def test_ci_that_is_switched_off_is_forbidden() -> None:
    simulator = GitLabSimulator(merge_requests=3)
    simulator.switch_ci(is_on=False)
    with simulator.serve() as server:
        asker = Asker(simulator, server.base_url)
        assert [asker.get(f"{PROJECT}/{name}").status_code for name in ("pipelines", "jobs", "deployments")] == [
            403,
            403,
            200,
        ]


def test_a_query_is_answered_with_its_cost(asker: Asker) -> None:
    data = asker.ask(ONE, p="acme/payments")["data"]
    assert data["queryComplexity"] == {"score": 7, "limit": 250}
    assert len(data["project"]["mergeRequests"]["nodes"]) == 2
    assert asker.ask(ONE, p="acme/nothing")["data"]["project"] is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (ONE.replace("iid", "weather"), "doesn't exist"),
        (ONE.replace("first: 2", "last: 2"), "doesn't accept argument"),
        (ONE.replace("$p)", "$q)"), "not given"),
        ("mutation { x }", "Parse error"),
    ],
)
def test_a_query_that_is_wrong_is_told_so_with_status_200(asker: Asker, query: str, message: str) -> None:
    answer = asker.ask(query, p="acme/payments")
    assert message in answer["errors"][0]["message"]
    assert "data" not in answer


def test_a_query_over_the_limit_is_refused_before_it_is_run() -> None:
    simulator = GitLabSimulator(merge_requests=3)
    simulator.graphql.complexity_limit = 6
    with simulator.serve() as server:
        answer = Asker(simulator, server.base_url).ask(ONE, p="acme/payments")
    assert "exceeds max complexity of 6" in answer["errors"][0]["message"]
