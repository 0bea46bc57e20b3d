"""The simulated GitLab and Jira, asked over real sockets as a stranger would ask them: each rule that they promise."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from connectors.gitlab.simulator import ExpectedMergeRequest, GitLabSimulator
from connectors.jira.simulated_world import ExpectedIssue
from connectors.jira.simulator import JiraSimulator
from connectors.simulator import DEFAULT_NOW, Simulator, TokenBucket, VirtualClock, parse_faults, working_times
from connectors.simulator import dice as dice_of
from models.errors import UsageError

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "samples"
MERGE_REQUESTS = "/api/v4/projects/101/merge_requests"
TIMEOUT_SECONDS = 20


class Client:
    """A plain client that repeats nothing and hides nothing."""

    def __init__(self, base_url: str, session: requests.Session) -> None:
        self.base_url = base_url
        self._session = session

    def get(self, path: str, **params: Any) -> requests.Response:
        return self._session.get(self.base_url + path, params=params, allow_redirects=False, timeout=TIMEOUT_SECONDS)

    def post(self, path: str, **body: Any) -> requests.Response:
        return self._session.post(self.base_url + path, json=body, timeout=TIMEOUT_SECONDS)

    def json(self, path: str, **params: Any) -> Any:
        response = self.get(path, **params)
        assert response.status_code == 200, response.text
        return response.json()

    def posted(self, path: str, **body: Any) -> Any:
        response = self.post(path, **body)
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def client_of(simulator: Simulator) -> Iterator[Client]:
    with simulator.serve() as server, requests.Session() as session:
        session.trust_env = False
        if isinstance(simulator, GitLabSimulator):
            session.headers["PRIVATE-TOKEN"] = simulator.token
        elif isinstance(simulator, JiraSimulator):
            session.auth = (simulator.user, simulator.token)
        yield Client(server.base_url, session)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def cut(at: datetime) -> datetime:
    """To the millisecond, downwards."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


# --- shared: faults, clock, log, control ------------------------------------------------------------------------------


def test_a_fault_plan_is_read_with_its_amounts_and_options() -> None:
    plan = parse_faults("429:0.02:retry-after=1, 500:0.05,truncate:3x:path=*/notes*:method=GET,401:1:after=100")
    limited, broken, truncated, expired = plan.faults
    assert (limited.kind, limited.status, limited.ratio, limited.retry_after) == ("status", 429, 0.02, "1")
    assert (broken.status, broken.ratio, broken.retry_after) == (500, 0.05, None)
    assert (truncated.kind, truncated.count, truncated.path, truncated.method) == ("truncate", 3, "*/notes*", "GET")
    assert (expired.status, expired.ratio, expired.after) == (401, 1.0, 100)
    assert parse_faults("").faults == ()


@pytest.mark.parametrize(
    "spec",
    [
        "429", "teapot:0.1", "418:0.1", "500:2", "500:-0.1", "500:nan", "500:x", "500:0.1:colour=red",
        "500:0.1:after", "500:0.1:after=soon", "429:1:retry-after=tomorrow", "redirect:1:to=moon",
        "slow:1:seconds=long",
    ],
)  # fmt: skip
def test_a_fault_plan_that_makes_no_sense_is_refused_by_name(spec: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_faults(spec)
    assert spec in raised.value.message


def test_the_clock_stands_until_it_is_advanced_and_is_what_the_date_header_says() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    with client_of(simulator) as client:
        assert client.get("/api/v4/version").headers["Date"] == "Mon, 02 Nov 2026 09:00:00 GMT"
        simulator.clock.advance(timedelta(hours=25, seconds=1))
        assert client.get("/api/v4/version").headers["Date"] == "Tue, 03 Nov 2026 10:00:01 GMT"


def test_a_running_clock_runs_on_from_where_it_was_set() -> None:
    clock = VirtualClock(DEFAULT_NOW, is_running=True)
    first = clock.now()
    assert DEFAULT_NOW <= first < DEFAULT_NOW + timedelta(minutes=1)
    assert clock.advance(timedelta(days=1)) >= first + timedelta(days=1)


@pytest.mark.parametrize(("fault", "status"), [("500:1", 500), ("502:1", 502), ("503:1", 503), ("520:1", 520)])
def test_server_errors_are_pages_in_html(fault: str, status: int) -> None:
    with client_of(GitLabSimulator(merge_requests=0, faults=fault)) as client:
        response = client.get("/api/v4/version")
    assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")


def test_a_rate_limit_fault_carries_its_retry_after_in_seconds_as_a_date_or_not_at_all() -> None:
    with client_of(GitLabSimulator(merge_requests=0)) as client:
        found = {}
        for spec in ("429:1:retry-after=7", "429:1:retry-after=date", "429:1"):
            client.post("/__sim/faults", spec=spec)
            response = client.get("/api/v4/version")
            assert (response.status_code, response.text) == (429, "Retry later\n")
            found[spec] = response.headers.get("Retry-After")
    assert list(found.values()) == ["7", "Mon, 02 Nov 2026 09:00:01 GMT", None]


def test_a_truncated_answer_is_broken_json_of_the_right_type() -> None:
    with client_of(GitLabSimulator(merge_requests=3, faults="truncate:1x")) as client:
        response = client.get(MERGE_REQUESTS)
        assert response.headers["Content-Type"] == "application/json"
        with pytest.raises(json.JSONDecodeError):
            json.loads(response.text)
        assert len(client.json(MERGE_REQUESTS)) == 3


def test_html_comes_with_status_200() -> None:
    with client_of(GitLabSimulator(merge_requests=0, faults="html:1x")) as client:
        response = client.get("/api/v4/version")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")


def test_a_reset_breaks_the_connection_in_the_middle_of_the_body_and_the_next_request_works() -> None:
    simulator = GitLabSimulator(merge_requests=50, faults="reset:1x")
    with client_of(simulator) as client:
        with pytest.raises(requests.RequestException) as raised:
            client.get(MERGE_REQUESTS, per_page=100)
        assert isinstance(raised.value, requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
        assert len(client.json(MERGE_REQUESTS, per_page=100)) == 50
    assert [entry.fault for entry in simulator.requests] == ["reset", None]


def test_slow_answers_are_late_and_latency_is_added_to_each() -> None:
    with client_of(GitLabSimulator(merge_requests=0, latency_ms=30, faults="slow:1x:seconds=0.3")) as client:
        spans = []
        for _ in range(2):
            started_seconds = time.perf_counter()
            client.json("/api/v4/version")
            spans.append(time.perf_counter() - started_seconds)
    assert spans[0] >= 0.33
    assert 0.03 <= spans[1] < spans[0]


def test_lognormal_latency_scatters_around_its_median() -> None:
    simulator = GitLabSimulator(merge_requests=0, latency_ms=80, latency_p99_ms=1_500)
    spans = sorted(simulator._latency_seconds() for _ in range(4_000))
    assert spans[2_000] == pytest.approx(0.08, rel=0.1)
    assert spans[3_960] == pytest.approx(1.5, rel=0.35)


def test_a_redirect_to_another_host_leads_back_here_so_that_a_leaked_token_is_seen() -> None:
    simulator = GitLabSimulator(merge_requests=0, faults="redirect:1x:to=other,redirect:1x:to=same")
    with client_of(simulator) as client:
        away = client.get("/api/v4/version")
        home = client.get("/api/v4/version")
        assert away.status_code == home.status_code == 307
        assert home.headers["Location"] == client.base_url + "/api/v4/version"
        port = client.base_url.rpartition(":")[2]
        assert away.headers["Location"] == f"http://localhost:{port}/api/v4/version"
        requests.get(f"http://127.0.0.1:{port}/api/v4/version", headers={"Host": "localhost"}, timeout=TIMEOUT_SECONDS)
    assert [(entry.host.partition(":")[0], entry.has_credentials) for entry in simulator.requests] == [
        ("127.0.0.1", True),
        ("127.0.0.1", True),
        ("localhost", False),
    ]


def test_faults_strike_only_what_they_match_and_only_after_so_many() -> None:
    spec = "404:1:path=*/approvals,401:1:after=2:path=*/notes"
    with client_of(GitLabSimulator(merge_requests=2, faults=spec)) as client:
        statuses = [
            client.get(f"{MERGE_REQUESTS}/1/{part}").status_code
            for part in ("approvals", "commits", "notes", "notes", "notes", "notes")
        ]
    assert statuses == [404, 200, 200, 200, 401, 401]


def test_the_same_seed_strikes_the_same_requests() -> None:
    def struck(seed: int) -> list[int]:
        with client_of(GitLabSimulator(merge_requests=0, seed=seed, faults="500:0.3")) as client:
            return [client.get("/api/v4/version").status_code for _ in range(60)]

    assert struck(4) == struck(4) != struck(5)
    assert 8 <= struck(4).count(500) <= 30


def test_the_log_knows_every_request_and_no_secret() -> None:
    simulator = GitLabSimulator(merge_requests=1)
    with client_of(simulator) as client:
        client.get(MERGE_REQUESTS, state="all", per_page=5)
    (entry,) = simulator.requests
    assert (entry.method, entry.path, entry.params) == ("GET", MERGE_REQUESTS, {"state": "all", "per_page": "5"})
    assert entry.status == 200
    assert entry.has_credentials
    assert "sim-token" not in repr(entry)
    assert "user-agent" in entry.headers


def test_an_unknown_endpoint_and_an_unknown_parameter_are_refused_and_remembered() -> None:
    simulator = GitLabSimulator(merge_requests=1)
    with client_of(simulator) as client:
        assert client.get("/api/v4/projects/101/pipelinez").status_code == 404
        assert client.post("/api/v4/version").status_code == 405
        assert client.get(MERGE_REQUESTS, updated_since="2024-01-01").status_code == 400
    assert simulator.requests.unknown == ["GET /api/v4/projects/101/pipelinez", "POST /api/v4/version"]
    assert simulator.requests.rejected == [f"GET {MERGE_REQUESTS}?updated_since=2024-01-01"]


def test_a_lenient_server_ignores_unknown_parameters_as_real_ones_do() -> None:
    with client_of(GitLabSimulator(merge_requests=1, is_strict=False)) as client:
        assert len(client.json(MERGE_REQUESTS, updated_since="2024-01-01")) == 1


def test_the_log_counts_how_many_requests_ran_at_once() -> None:
    simulator = GitLabSimulator(merge_requests=0, latency_ms=150)
    with client_of(simulator) as client, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: client.json("/api/v4/version"), range(6)))
    assert simulator.requests.concurrency_high_water == 6
    assert simulator.requests.in_flight == 0


def test_several_simulators_run_side_by_side_and_free_their_ports() -> None:
    with client_of(GitLabSimulator(merge_requests=1)) as gitlab, client_of(JiraSimulator(issues=1)) as jira:
        assert gitlab.json("/api/v4/version")["version"]
        assert jira.json("/rest/api/2/serverInfo")["deploymentType"] == "Cloud"
        port = int(gitlab.base_url.rpartition(":")[2])
    socket.create_server(("127.0.0.1", port)).close()


def test_another_process_can_drive_a_simulator() -> None:
    simulator = GitLabSimulator(merge_requests=20)
    with client_of(simulator) as client:
        assert client.posted("/__sim/clock", advance_seconds=90)["now"] == "2026-11-02T09:01:30Z"
        assert len(client.posted("/__sim/mutate", updates=3)["changed"]) == 3
        client.posted("/__sim/mutate", change="update_merge_request", arguments=[1], options={"title": "driven"})
        assert client.json(f"{MERGE_REQUESTS}/1")["title"] == "driven"
        assert client.post("/__sim/mutate", change="__init__").status_code == 400
        assert client.post("/__sim/faults", spec="nonsense").status_code == 400
        log = client.json("/__sim/requests")
        assert (log["count"], log["unknown"]) == (1, [])
        assert len(client.json("/__sim/expected")) == len(simulator.expected())
        client.posted("/__sim/mutate", every_requests=1, updates=1, rounds=1)
        titles = [simulator.merge_request(iid).updated_at for iid in range(1, 21)]
        client.json(MERGE_REQUESTS)
        assert [simulator.merge_request(iid).updated_at for iid in range(1, 21)] != titles or len(
            simulator.expected()
        ) > 20
        client.posted("/__sim/requests/clear")
    assert simulator.requests.count == 0


def test_changes_between_pages_come_after_every_so_many_listings_and_are_the_same_each_time() -> None:
    def updated(seed: int) -> list[tuple[int, datetime]]:
        simulator = GitLabSimulator(merge_requests=60, seed=seed)
        simulator.mutate_every(requests=3, updates=5, rounds=2)
        with client_of(simulator) as client:
            for page in range(1, 10):
                before = simulator.clock.now()
                client.json(MERGE_REQUESTS, page=page)
                client.json("/api/v4/version")
                assert (simulator.clock.now() > before) is (page in (3, 6))
        return [(one.iid, one.updated_at) for one in simulator.expected()]

    assert updated(1) == updated(1)
    changed = [at for _, at in updated(1) if at > DEFAULT_NOW]
    assert 4 <= len(changed) <= 10


def test_a_callback_may_change_the_model_before_a_request_is_answered() -> None:
    simulator = GitLabSimulator(merge_requests=3)
    simulator.on_request(lambda entry: simulator.update_merge_request(2, title=f"seen by {entry.number}"))
    with client_of(simulator) as client:
        client.json("/api/v4/version")
        assert client.json(f"{MERGE_REQUESTS}/2")["title"] == "seen by 2"


def test_a_model_may_be_changed_from_many_threads_while_it_is_served() -> None:
    gitlab, jira = GitLabSimulator(merge_requests=60), JiraSimulator(issues=60, short_page_ratio=0)
    with client_of(gitlab) as one, client_of(jira) as other, ThreadPoolExecutor(4) as pool:
        changing = [pool.submit(simulator.mutate, 100) for simulator in (gitlab, jira) for _ in range(2)]
        while not all(change.done() for change in changing):
            assert one.json(MERGE_REQUESTS, order_by="updated_at", per_page=100)
            assert cloud_ids(other, "project = PAY ORDER BY updated ASC")
        assert sum(len(change.result()) for change in changing) == 400
        rows = all_pages(one, MERGE_REQUESTS, order_by="updated_at", sort="asc", per_page=100)
        ids = cloud_ids(other, "project = PAY ORDER BY updated ASC, id ASC")
    truth = sorted(gitlab.expected(), key=lambda expected: (expected.updated_at, expected.id))
    assert [row["iid"] for row in rows] == [expected.iid for expected in truth]
    issues = sorted(jira.expected(), key=lambda expected: (expected.updated_at, int(expected.issue_id)))
    assert ids == [expected.issue_id for expected in issues]


def test_a_token_bucket_empties_and_says_how_long_to_wait() -> None:
    bucket = TokenBucket(2, refill_seconds=1_000)
    assert [bucket.take()[1] for _ in range(3)] == [0, 0, 500]


def test_working_times_ascend_in_working_hours_and_stay_in_the_past() -> None:
    times = working_times(DEFAULT_NOW, 500, dice_of(1, "test"))
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(at.weekday() < 5 and 7 <= at.hour < 18 for at in times)
    assert times[-1] < DEFAULT_NOW
    assert DEFAULT_NOW - times[0] > timedelta(days=725)
    assert working_times(DEFAULT_NOW, 0, dice_of(1, "test")) == []


def test_the_blocking_server_stops_when_told_and_prints_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "from connectors.jira.simulator import JiraSimulator\nfrom connectors.simulator import run\n"
        f"run(JiraSimulator(issues=1), {port})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline_seconds = time.monotonic() + 30
        while True:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/rest/api/2/serverInfo", timeout=TIMEOUT_SECONDS)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline_seconds, "it did not start"
                time.sleep(0.05)
        assert answer.json()["deploymentType"] == "Cloud"
    finally:
        os.kill(process.pid, signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    assert (out, errors) == (b"", b"")


# --- GitLab -----------------------------------------------------------------------------------------------------------


def all_pages(client: Client, path: str, **params: Any) -> list[dict[str, Any]]:
    """Pages by x-next-page, as long as there is one."""
    rows: list[dict[str, Any]] = []
    page = "1"
    while page:
        response = client.get(path, page=page, **params)
        assert response.status_code == 200, response.text
        rows += response.json()
        page = response.headers["x-next-page"]
    return rows


def test_gitlab_shows_what_is_true_and_nothing_else() -> None:
    simulator = GitLabSimulator(merge_requests=120)
    simulator.mutate(60)
    with client_of(simulator) as client:
        rows = {row["iid"]: row for row in all_pages(client, MERGE_REQUESTS, scope="all", state="all", per_page=50)}
        assert set(rows) == {expected.iid for expected in simulator.expected()}
        for expected in simulator.expected():
            assert_shows(client, rows[expected.iid], expected)
    assert simulator.requests.unknown == simulator.requests.rejected == []


def assert_shows(client: Client, row: dict[str, Any], expected: ExpectedMergeRequest) -> None:
    assert (row["id"], row["title"], row["state"], row["draft"]) == (
        expected.id,
        expected.title,
        expected.state,
        expected.draft,
    )
    assert (row["author"] or {}).get("id") == expected.author_id
    assert time_of(row["created_at"]) == cut(expected.created_at)
    assert time_of(row["updated_at"]) == cut(expected.updated_at)
    shown_at = expected.merged_at_shown
    assert row["merged_at"] is None if shown_at is None else time_of(row["merged_at"]) == cut(shown_at)
    assert row["sha"] == expected.sha
    one = f"{MERGE_REQUESTS}/{expected.iid}"
    commits = all_pages(client, one + "/commits")
    assert tuple(commit["id"] for commit in commits) == expected.commit_shas
    assert min(time_of(commit["authored_date"]) for commit in commits) == expected.first_commit_at
    notes = all_pages(client, one + "/notes", per_page=7)
    assert {note["id"] for note in notes} == {*expected.human_note_ids, *expected.system_note_ids}
    assert row["user_notes_count"] == sum(not note["system"] for note in notes) == len(expected.human_note_ids)
    approvals = client.json(one + "/approvals")
    assert [(line["user"]["id"], time_of(line["approved_at"])) for line in approvals["approved_by"]] == [
        (person, cut(at)) for person, at in expected.standing_approvals
    ]
    events = client.json(one + "/resource_state_events")
    assert [(event["id"], event["state"]) for event in events] == [
        (key, state) for key, state, _ in expected.state_events
    ]
    detail = client.json(one)
    assert detail | row == detail
    assert isinstance(detail["changes_count"], str)


def test_gitlabs_first_fifty_merge_requests_hold_every_special_case() -> None:
    simulator = GitLabSimulator(merge_requests=50)
    everyone = {one.iid: one for one in simulator.expected()}
    by_state = Counter(one.state for one in everyone.values())
    assert {"opened", "closed", "merged", "locked"} == set(by_state)
    assert by_state["merged"] > 30
    with client_of(simulator) as client:
        rows = {row["iid"]: row for row in client.json(MERGE_REQUESTS, per_page=100)}
    authors = Counter((row["author"] or {}).get("username") for row in rows.values())
    assert authors["ghost"] == authors["renovate-bot"] == authors[None] == 1
    assert any(str(name).startswith("project_101_bot_") for name in authors)
    assert {row["source_project_id"] for row in rows.values()} == {101, 9_000, None}
    lost = [iid for iid, row in rows.items() if row["state"] == "merged" and row["merged_at"] is None]
    assert len(lost) == 3
    assert sum(bool(everyone[iid].state_events) for iid in lost) == 1
    assert {(bool(row["merge_commit_sha"]), bool(row["squash_commit_sha"])) for row in rows.values()} == {
        (True, True),
        (True, False),
        (False, False),
    }
    assert any(one.ready_at and one.ready_at > one.created_at for one in everyone.values())
    assert any(one.draft for one in everyone.values())
    assert any(
        one.first_commit_at and one.first_commit_at > one.created_at + timedelta(days=300) for one in everyone.values()
    )
    assert any(
        one.first_commit_at and one.first_commit_at < one.created_at - timedelta(days=900) for one in everyone.values()
    )
    assert max(len(row["title"]) for row in rows.values()) == 255
    assert any(len([state for _, state, _ in one.state_events]) == 3 for one in everyone.values())
    actions = Counter(action for one in everyone.values() for _, _, action in one.approvals)
    assert actions["reset"] >= 2
    assert actions["unapproved"] == 1


def test_gitlab_updates_are_ordered_and_bulk_edits_share_an_instant() -> None:
    with client_of(GitLabSimulator(merge_requests=300)) as client:
        rows = all_pages(client, MERGE_REQUESTS, order_by="updated_at", sort="asc", per_page=40)
        times = [(row["updated_at"], row["id"]) for row in rows]
        assert times == sorted(times)
        assert max(Counter(at for at, _ in times).values()) >= 5
        back = all_pages(client, MERGE_REQUESTS, order_by="updated_at", sort="desc", per_page=40)
        assert [row["id"] for row in back] == [row["id"] for row in rows][::-1]


def test_gitlab_pages_hold_twenty_by_default_and_a_hundred_at_most() -> None:
    with client_of(GitLabSimulator(merge_requests=130)) as client:
        first = client.get(MERGE_REQUESTS)
        assert len(first.json()) == 20
        assert {name: first.headers[f"x-{name}"] for name in ("page", "per-page", "next-page", "total")} == {
            "page": "1",
            "per-page": "20",
            "next-page": "2",
            "total": "130",
        }
        assert first.headers["x-total-pages"] == "7"
        capped = client.get(MERGE_REQUESTS, per_page=1_000, page=2)
        assert len(capped.json()) == 30
        assert (capped.headers["x-next-page"], capped.headers["x-prev-page"]) == ("", "1")
        assert client.json(MERGE_REQUESTS, page=99) == []
        assert client.get(MERGE_REQUESTS, page=0).status_code == 400
        following = requests.utils.parse_header_links(first.headers["Link"])
        urls = {link["rel"]: link["url"] for link in following}
        assert set(urls) == {"next", "first", "last"}
        assert "page=2" in urls["next"]
        assert client.get(urls["next"].removeprefix(client.base_url)).json() == client.json(MERGE_REQUESTS, page=2)


def test_gitlab_leaves_totals_out_over_ten_thousand_rows() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    for _ in range(10_000):
        simulator.create_merge_request(commits=0)
    with client_of(simulator) as client:
        for has_totals in (True, False):
            headers = client.get(MERGE_REQUESTS, per_page=100).headers
            assert ("x-total" in headers, "x-total-pages" in headers, 'rel="last"' in headers["Link"]) == (
                (has_totals,) * 3
            )
            assert headers["x-next-page"] == "2"
            simulator.create_merge_request()


def test_gitlab_time_filters_include_their_ends() -> None:
    simulator = GitLabSimulator(merge_requests=40)
    at = simulator.merge_request(7).updated_at
    exact = at.isoformat()
    with client_of(simulator) as client:
        inside = client.json(MERGE_REQUESTS, updated_after=exact, updated_before=exact)
        assert 7 in [row["iid"] for row in inside]
        # The answer is cut to milliseconds: as a lower end it still finds the row, as an upper end it does not.
        shown = next(row["updated_at"] for row in inside if row["iid"] == 7)
        assert at.microsecond % 1000
        assert 7 in [row["iid"] for row in client.json(MERGE_REQUESTS, updated_after=shown, per_page=100)]
        assert 7 not in [row["iid"] for row in client.json(MERGE_REQUESTS, updated_before=shown, per_page=100)]
        assert client.get(MERGE_REQUESTS, updated_after="yesterday").status_code == 400
        assert client.get(MERGE_REQUESTS + "?updated_after=2026-01-01T00:00:00+01:00").status_code == 400
        assert client.get(MERGE_REQUESTS, order_by="importance").status_code == 400


@pytest.mark.parametrize("state", ["opened", "closed", "merged", "locked", "all"])
def test_gitlab_filters_by_state_and_number(state: str) -> None:
    simulator = GitLabSimulator(merge_requests=80)
    with client_of(simulator) as client:
        rows = client.json(MERGE_REQUESTS, state=state, per_page=100, order_by="updated_at")
        wanted = [one.iid for one in simulator.expected() if state in ("all", one.state)]
        assert sorted(row["iid"] for row in rows) == wanted
        chosen = client.json(MERGE_REQUESTS, **{"iids[]": [3, 5]})
        assert sorted(row["iid"] for row in chosen) == [3, 5]
        assert client.json(MERGE_REQUESTS, scope="created_by_me") == []


def test_without_a_tie_breaker_rows_of_equal_time_change_places_between_pages() -> None:
    def listed(*, tie_breaker: bool) -> list[int]:
        simulator = GitLabSimulator(merge_requests=60, tie_breaker=tie_breaker)
        for iid in range(1, 61):
            simulator.update_merge_request(iid, labels=["bulk"])
        with client_of(simulator) as client:
            rows = all_pages(client, MERGE_REQUESTS, order_by="updated_at", sort="asc", per_page=20)
        return [row["iid"] for row in rows]

    assert sorted(listed(tie_breaker=True)) == list(range(1, 61))
    assert len(set(listed(tie_breaker=False))) < 60


def test_a_row_updated_between_pages_makes_the_next_page_skip_one() -> None:
    simulator = GitLabSimulator(merge_requests=40)
    with client_of(simulator) as client:
        first = client.json(MERGE_REQUESTS, order_by="updated_at", sort="asc")
        victim = client.json(MERGE_REQUESTS, order_by="updated_at", sort="asc", page=2)[0]
        simulator.update_merge_request(first[0]["iid"], title="moved to the end")
        second = client.json(MERGE_REQUESTS, order_by="updated_at", sort="asc", page=2)
    assert victim["iid"] not in [row["iid"] for row in second]
    assert second[-1]["iid"] == first[0]["iid"]


def test_a_touch_within_a_minute_of_an_update_leaves_no_trace_in_updated_at() -> None:
    simulator = GitLabSimulator(merge_requests=10)
    simulator.update_merge_request(1, title="saved")
    saved_at = simulator.merge_request(1).updated_at
    for wait_seconds, is_moved in ((59, False), (1, True)):
        simulator.clock.advance(timedelta(seconds=wait_seconds))
        simulator.add_note(1)
        assert (simulator.merge_request(1).updated_at > saved_at) is is_moved
    simulator.update_merge_request(1, title="saved again at once")
    assert simulator.merge_request(1).updated_at == simulator.clock.now()


def test_a_push_resets_approvals_in_the_words_of_gitlab() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    iid = simulator.create_merge_request(by=2003)
    simulator.approve(iid, by=2001)
    simulator.approve(iid, by=2002)
    with client_of(simulator) as client:
        one = f"{MERGE_REQUESTS}/{iid}"
        assert [line["user"]["username"] for line in client.json(one + "/approvals")["approved_by"]] == [
            "amara",
            "zoe.b",
        ]
        simulator.push(iid, commits=2)
        assert client.json(one + "/approvals")["approved"] is False
        assert client.json(one + "/approvals")["approved_by"] == []
        bodies = [note["body"] for note in client.json(one + "/notes", sort="asc") if note["system"]]
        assert bodies[:2] == ["approved this merge request"] * 2
        assert bodies[2].startswith("added 2 commits")
        assert bodies[3] == "reset approvals from @amara and @zoe.b by pushing to the branch"
        assert len(client.json(one + "/commits")) == 3


def test_a_rebase_rewrites_every_commit_but_not_when_it_was_written() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    iid = simulator.create_merge_request(commits=3)
    with client_of(simulator) as client:
        before = client.json(f"{MERGE_REQUESTS}/{iid}/commits")
        simulator.clock.advance(timedelta(days=2))
        simulator.push(iid, is_rebase=True)
        after = client.json(f"{MERGE_REQUESTS}/{iid}/commits")
    assert {commit["id"] for commit in before}.isdisjoint(commit["id"] for commit in after)
    assert [commit["authored_date"] for commit in before] == [commit["authored_date"] for commit in after]
    assert all(time_of(commit["committed_date"]) == simulator.clock.now() for commit in after)
    assert after[0]["created_at"] == after[0]["committed_date"]


def test_merging_closing_and_reopening_leave_their_events() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    iid = simulator.create_merge_request()
    for step in (simulator.close, simulator.reopen, simulator.merge):
        simulator.clock.advance(timedelta(hours=1))
        step(iid)
    with client_of(simulator) as client:
        events = client.json(f"{MERGE_REQUESTS}/{iid}/resource_state_events")
        assert [event["state"] for event in events] == ["closed", "reopened", "merged"]
        row = client.json(f"{MERGE_REQUESTS}/{iid}")
        assert (row["state"], row["merged_at"]) == ("merged", "2026-11-02T12:00:00.000Z")
        feed = client.json("/api/v4/projects/101/events", sort="asc")
        assert [event["action_name"] for event in feed] == ["opened", "pushed new", "closed", "reopened", "accepted"]
        simulator.delete_merge_request(iid)
        assert client.get(f"{MERGE_REQUESTS}/{iid}").status_code == 404
        assert client.json(MERGE_REQUESTS) == []


def test_drafts_are_told_of_in_system_notes() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    iid = simulator.create_merge_request(title="Draft: try")
    assert simulator.expected()[0].ready_at is None
    simulator.clock.advance(timedelta(hours=2))
    simulator.mark_ready(iid)
    with client_of(simulator) as client:
        row = client.json(f"{MERGE_REQUESTS}/{iid}")
        assert (row["title"], row["draft"]) == ("try", False)
        notes = client.json(f"{MERGE_REQUESTS}/{iid}/notes")
    assert [note["body"] for note in notes] == ["marked this merge request as **ready**"]
    assert simulator.expected()[0].ready_at == simulator.clock.now()


def test_event_dates_leave_out_the_named_days_and_old_events_are_gone() -> None:
    simulator = GitLabSimulator(merge_requests=200)
    with client_of(simulator) as client:
        path = "/api/v4/projects/101/events"
        pushed = all_pages(client, path, action="pushed", sort="asc", per_page=100)
        assert all(event["push_data"]["commit_count"] >= 0 for event in pushed)
        days = sorted({event["created_at"][:10] for event in pushed})
        some = all_pages(client, path, action="pushed", after=days[2], before=days[5])
        assert {event["created_at"][:10] for event in some} == set(days[3:5])
        everything = all_pages(client, path, sort="asc", per_page=100)
        assert [event["id"] for event in everything] == sorted(event["id"] for event in everything)
        assert len(everything) > len(pushed)
        simulator.clock.advance(timedelta(days=3 * 365 - 400))
        kept = all_pages(client, path, sort="asc", per_page=100)
        assert 0 < len(kept) < len(everything)
        assert client.get(path, after="soon").status_code == 400


def test_a_renamed_project_redirects_and_a_hidden_one_is_not_found() -> None:
    simulator = GitLabSimulator(merge_requests=4, projects=2)
    with client_of(simulator) as client:
        assert client.json("/api/v4/projects/acme%2Fpayments")["id"] == 101
        simulator.rename_project(101, path="corp/money/payments")
        moved = client.get("/api/v4/projects/acme%2Fpayments/merge_requests", state="all")
        assert moved.status_code == 301
        assert moved.headers["Location"] == f"{client.base_url}{MERGE_REQUESTS}?state=all"
        assert client.json("/api/v4/projects/corp%2Fmoney%2Fpayments")["path_with_namespace"] == "corp/money/payments"
        simulator.hide_project(101)
        assert client.get("/api/v4/projects/101").json() == {"message": "404 Project Not Found"}
        assert {one.project_id for one in simulator.expected()} == {102}
        assert client.get("/api/v4/projects/999").status_code == 404


def test_gitlab_takes_its_token_in_two_headers_and_no_other() -> None:
    simulator = GitLabSimulator(merge_requests=0)
    with simulator.serve() as server:
        statuses = [
            requests.get(server.base_url + "/api/v4/user", headers=headers, timeout=TIMEOUT_SECONDS).status_code
            for headers in (
                {"PRIVATE-TOKEN": "sim-token"},
                {"Authorization": "Bearer sim-token"},
                {"PRIVATE-TOKEN": "wrong"},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic c2ltLXRva2Vu"},
                {},
            )
        ]
    assert statuses == [200, 200, 401, 401, 401, 401]


@pytest.mark.parametrize("has_headers", [True, False])
def test_gitlabs_rate_limit_answers_429_in_plain_text(has_headers: bool) -> None:
    simulator = GitLabSimulator(merge_requests=0, rate_limit_per_minute=3, has_rate_limit_headers=has_headers)
    with client_of(simulator) as client:
        answers = [client.get("/api/v4/version") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert ("RateLimit-Remaining" in answers[0].headers) is has_headers
    assert int(answers[3].headers["Retry-After"]) >= 1
    assert answers[3].text == "Retry later\n"


def test_members_are_people_and_a_bot_is_known_by_its_user() -> None:
    with client_of(GitLabSimulator(merge_requests=0)) as client:
        members = all_pages(client, "/api/v4/projects/101/members/all")
        assert len(members) > 20
        assert "ghost" not in {member["username"] for member in members}
        assert client.json("/api/v4/users/1000")["bot"] is True
        assert client.json("/api/v4/users/2001")["bot"] is False
        assert client.get("/api/v4/users/1").status_code == 404


def test_a_person_is_renamed_without_a_trace_in_updated_at() -> None:
    simulator = GitLabSimulator(merge_requests=30)
    with client_of(simulator) as client:
        before = client.json(MERGE_REQUESTS, per_page=100)
        author_id = next(row["author"]["id"] for row in before if row["author"] and row["author"]["id"] > 2_000)
        simulator.rename_user(author_id, username="new-name")
        after = client.json(MERGE_REQUESTS, per_page=100)
    assert [row["updated_at"] for row in before] == [row["updated_at"] for row in after]
    assert {row["author"]["username"] for row in after if row["author"] and row["author"]["id"] == author_id} == {
        "new-name"
    }


def test_older_servers_do_not_say_when_an_approval_was_given() -> None:
    simulator = GitLabSimulator(merge_requests=0, has_approval_times=False)
    iid = simulator.create_merge_request()
    simulator.approve(iid)
    with client_of(simulator) as client:
        (approval,) = client.json(f"{MERGE_REQUESTS}/{iid}/approvals")["approved_by"]
    assert set(approval) == {"user"}


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        ("merge_requests", MERGE_REQUESTS),
        ("mr_notes", MERGE_REQUESTS + "/27/notes"),
        ("mr_commits", MERGE_REQUESTS + "/2/commits"),
    ],
)
def test_gitlab_payloads_hold_every_field_that_real_ones_do(sample: str, path: str) -> None:
    file = SAMPLES / "gitlab" / f"{sample}.jsonl"
    if not file.exists():
        pytest.skip("the folder ../shared/samples is not here")
    with file.open(encoding="utf-8") as lines:
        real = [json.loads(line) for line in lines]
    with client_of(GitLabSimulator(merge_requests=50)) as client:
        ours = client.json(path)
    # What only one origin has, or GitLab has dropped since.
    gone = {"attachment", "allow_collaboration", "allow_maintainer_to_push", "resolved", "resolved_by", "resolved_at"}
    gone |= {
        "position",
        "commit_id",
        "suggestions",
        "stats",
        "status",
        "project_id",
        "last_pipeline",
        "approvals_required",
    }
    common = set.intersection(*(set(row) for row in real)) - gone
    assert common <= set(ours[0])
    for name in common:
        kinds = {type(row[name]) for row in real} | {type(None)}
        assert {type(row[name]) for row in ours} <= kinds | {str, int, bool, list, dict}


# --- Jira -------------------------------------------------------------------------------------------------------------

API = "/rest/api/2"


def cloud_ids(client: Client, jql: str, **body: Any) -> list[str]:
    """All ids of a search on Cloud, by token."""
    ids: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = client.posted(API + "/search/jql", jql=jql, **{"maxResults": 5_000} | body, **token)
        ids += [issue["id"] for issue in page["issues"]]
        assert page["isLast"] is ("nextPageToken" not in page)
        if page["isLast"]:
            return ids
        token = {"nextPageToken": page["nextPageToken"]}


def cloud_changelogs(client: Client, ids: list[str], **body: Any) -> dict[str, list[dict[str, Any]]]:
    histories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    token: dict[str, str] = {}
    while True:
        page = client.posted(API + "/changelog/bulkfetch", issueIdsOrKeys=ids, **body, **token)
        for log in page["issueChangeLogs"]:
            histories[log["issueId"]] += log["changeHistories"]
        if "nextPageToken" not in page:
            return histories
        token = {"nextPageToken": page["nextPageToken"]}


def server_issues(client: Client, jql: str, **params: Any) -> list[dict[str, Any]]:
    """All issues of a search on Data Center, by startAt."""
    issues: list[dict[str, Any]] = []
    while True:
        page = client.json(
            API + "/search",
            jql=jql,
            startAt=len(issues),
            **{"maxResults": 40, "expand": "changelog", "fields": "*all"} | params,
        )
        issues += page["issues"]
        if len(issues) >= page["total"]:
            return issues


def test_jira_cloud_shows_what_is_true_and_nothing_else() -> None:
    simulator = JiraSimulator(issues=130, projects=2, time_zone="America/New_York")
    simulator.mutate(60)
    with client_of(simulator) as client:
        ids = cloud_ids(client, 'project in (PAY, "SHOP") ORDER BY updated ASC')
        assert sorted(ids, key=int) == [expected.issue_id for expected in simulator.expected()]
        issues = {}
        for start in range(0, len(ids), 100):
            page = client.posted(API + "/issue/bulkfetch", issueIdsOrKeys=ids[start : start + 100], fields=["*all"])
            assert page["issueErrors"] == []
            assert [int(issue["id"]) for issue in page["issues"]] == sorted(
                int(key) for key in ids[start : start + 100]
            )
            issues |= {issue["id"]: issue for issue in page["issues"]}
        histories = cloud_changelogs(client, ids, maxResults=300)
        for expected in simulator.expected():
            assert_jira_shows(issues[expected.issue_id], histories[expected.issue_id], expected, "cloud")
    assert simulator.requests.unknown == simulator.requests.rejected == []


def test_jira_data_center_shows_what_is_true_and_nothing_else() -> None:
    simulator = JiraSimulator(issues=130, projects=2, deployment="server", time_zone="Asia/Kolkata")
    simulator.mutate(60)
    with client_of(simulator) as client:
        issues = {
            issue["id"]: issue
            for issue in server_issues(client, "project in (PAY, SHOP) ORDER BY created ASC, key ASC")
        }
        assert sorted(issues, key=int) == [expected.issue_id for expected in simulator.expected()]
        for expected in simulator.expected():
            issue = issues[expected.issue_id]
            assert issue["changelog"]["total"] == len(issue["changelog"]["histories"])
            assert_jira_shows(issue, issue["changelog"]["histories"], expected, "server")


def assert_jira_shows(
    issue: dict[str, Any], histories: list[dict[str, Any]], expected: ExpectedIssue, deployment: str
) -> None:
    fields = issue["fields"]
    ids = JIRA_FIELDS[deployment]
    account = "accountId" if deployment == "cloud" else "key"
    assert (issue["key"], fields["project"]["key"], fields["summary"]) == (
        expected.key,
        expected.project_key,
        expected.summary,
    )
    assert (fields["status"]["id"], fields["status"]["statusCategory"]["key"]) == (
        expected.status_id,
        expected.status_category,
    )
    assert (fields["issuetype"]["name"], fields["priority"]["name"]) == (expected.issue_type, expected.priority)
    assert (fields["resolution"] or {}).get("name") == expected.resolution
    assert (fields["resolutiondate"] is None) is (expected.resolution is None)
    assert (fields[ids["severity"]] or {}).get("value") == expected.severity
    assert (fields["assignee"] or {}).get(account) == expected.assignee_id
    assert (fields["reporter"] or {}).get(account) == expected.reporter_id
    assert time_of(fields["created"]) == expected.created_at
    assert time_of(fields["updated"]) == expected.updated_at
    assert fields["comment"]["total"] == expected.comments_count
    assert tuple(fields["labels"]) == expected.labels
    assert [one["key"] for one in fields["subtasks"]] == list(expected.subtasks)
    if deployment == "cloud":
        assert fields.get("parent", {}).get("key") == expected.parent_key
    else:
        assert fields[ids["epic_link"]] == expected.epic_key
    seen = [
        (
            history["id"],
            position,
            history.get("author", {}).get(account),
            item.get("fieldId"),
            item["field"],
            item["from"],
            item["fromString"],
            item["to"],
            item["toString"],
        )
        for history in histories
        for position, item in enumerate(history["items"])
    ]
    assert seen == [
        (
            change.change_id,
            change.item_index,
            change.author_id,
            change.field_id,
            change.field_name,
            change.from_value,
            change.from_text,
            change.to_value,
            change.to_text,
        )
        for change in expected.changes
    ]
    times = [change.changed_at for change in expected.changes if change.item_index == 0]
    assert [jira_time(history["created"]) for history in histories] == times


JIRA_FIELDS = {
    "cloud": {"severity": "customfield_10050", "epic_link": "customfield_10014", "sprint": "customfield_10020"},
    "server": {"severity": "customfield_10204", "epic_link": "customfield_10101", "sprint": "customfield_10105"},
}


def jira_time(value: str | int) -> datetime:
    """A time of the changelog: text, or milliseconds since 1970."""
    if isinstance(value, int):
        return datetime.fromtimestamp(value // 1000, UTC) + timedelta(milliseconds=value % 1000)
    return time_of(value)


def test_jiras_first_fifty_issues_hold_every_special_case() -> None:
    everyone = JiraSimulator(issues=50).expected()
    assert {one.issue_type for one in everyone} == {"Bug", "Story", "Task", "Sub-task", "Epic"}
    assert {one.status for one in everyone} >= {"Done", "Closed", "Reopened", "To Do"}
    changes = [change for one in everyone for change in one.changes]
    fields = Counter(change.field_name for change in changes)
    assert set(fields) >= {
        "status", "resolution", "assignee", "Sprint", "Story Points", "Severity", "issuetype", "Key", "project",
        "RemoteIssueLink", "Rank", "Link", "Fix Version", "labels", "Flagged", "duedate", "priority", "description",
    }  # fmt: skip
    by_history = Counter(
        (one.issue_id, change.change_id, change.field_name) for one in everyone for change in one.changes
    )
    assert max(by_history.values()) >= 2, "one field twice in one history"
    assert any(change.author_id is None for change in changes)
    histories = [len({change.change_id for change in one.changes}) for one in everyone]
    assert max(histories) > 100
    assert sum(40 < count <= 100 for count in histories) >= 1
    assert min(histories) == 0
    assert max(len(one.summary) for one in everyone) == 255
    assert any(one.reporter_id is None and one.assignee_id is None for one in everyone)
    assert any(one.parent_key and not one.epic_key for one in everyone)
    assert any(one.epic_key for one in everyone)
    assert any(one.description is None for one in everyone)
    assert {("Task", "Bug"), ("Bug", "Task")} <= {
        (change.from_text, change.to_text) for change in changes if change.field_name == "issuetype"
    }
    reopenings = Counter(
        one.issue_id
        for one in everyone
        for change in one.changes
        if change.field_name == "status" and change.to_text == "Reopened"
    )
    assert max(reopenings.values()) >= 2


@pytest.mark.parametrize("deployment", ["cloud", "server"])
def test_the_history_of_every_issue_leads_to_what_it_is_now(deployment: Any) -> None:
    simulator = JiraSimulator(issues=400, projects=2, deployment=deployment)
    simulator.mutate(200)
    for issue in simulator.expected():
        replayed: dict[str, str | None] = {}
        started_at = None
        for change in issue.changes:
            if change.field_name in ("status", "priority", "summary", "Severity", "issuetype", "resolution"):
                assert replayed.get(change.field_name, change.from_text) == change.from_text
                replayed[change.field_name] = change.to_text
            if change.field_name == "status" and change.to_text == "In Progress" and started_at is None:
                started_at = change.changed_at
            assert issue.created_at <= change.changed_at <= issue.updated_at
        now = {"status": issue.status, "priority": issue.priority, "summary": issue.summary, "Severity": issue.severity}
        now |= {"issuetype": issue.issue_type, "resolution": issue.resolution}
        assert {name: now[name] for name in replayed} == replayed
        assert (issue.resolved_at is None) is (issue.resolution is None)
        assert (issue.status_category == "done") is (issue.resolution is not None)
        if issue.resolved_at is not None and started_at is not None and issue.status_category == "done":
            assert issue.created_at <= started_at <= issue.resolved_at


def test_the_average_length_of_histories_is_what_was_asked_for() -> None:
    for wanted in (12.5, 25.0):
        everyone = JiraSimulator(issues=1_000, changes_per_issue=wanted).expected()
        count = sum(len({change.change_id for change in one.changes}) for one in everyone)
        assert count / len(everyone) == pytest.approx(wanted, rel=0.06)


def test_many_issues_share_one_instant_of_update() -> None:
    everyone = JiraSimulator(issues=1_000).expected()
    assert Counter(one.updated_at for one in everyone).most_common(1)[0][1] >= 50


@pytest.mark.parametrize(
    ("jql", "status"),
    [
        ("project = PAY", 200),
        ('project in ("PAY", SHOP) AND updated >= "2025-01-01 00:00" ORDER BY updated ASC, id ASC', 200),
        ("project = pay and created < 2026/01/01 order by created desc", 200),
        ("updated >= -15m", 200),
        ("id in (10001, 10002)", 200),
        ("sprint = 12", 200),
        ('project = "ORDER"', 200),
        ("project = ORDER", 400),
        ("project = NOWHERE", 400),
        ("project = PAY OR project = SHOP", 400),
        ("status = Done", 400),
        ("project != PAY", 400),
        ('updated >= "2025-01-01 00:00:00"', 400),
        ('updated >= "2025-01-01T00:00"', 400),
        ("updated >= startOfDay()", 400),
        ("updated >= 1767225600000", 400),
        ("project = PAY ORDER BY status", 400),
        ("project = PAY ORDER updated", 400),
        ("project = PAY AND", 400),
        ("project =", 400),
        ('project = "PAY', 400),
        ("project in (PAY", 400),
        ("ORDER BY updated ASC", 400),
        ("", 400),
        ("project = PAY ORDER BY id, key, created, updated, id, key, created", 200),
        ("project = PAY ORDER BY id, key, created, updated, id, key, created, updated", 400),
    ],
)
def test_cloud_understands_a_little_jql_and_refuses_the_rest(jql: str, status: int) -> None:
    with client_of(JiraSimulator(issues=4, projects=3)) as client:
        answer = client.get(API + "/search/jql", jql=jql)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert answer.json()["errorMessages"][0]


def test_times_in_jql_are_minutes_in_the_users_own_zone() -> None:
    simulator = JiraSimulator(issues=0, time_zone="Europe/Berlin", now=datetime(2026, 10, 25, 0, 30, 20, tzinfo=UTC))
    issue_id = str(simulator.create_issue())
    with client_of(simulator) as client:
        # 00:30:20 UTC is 02:30:20 in Berlin, for the first time in this night.
        assert cloud_ids(client, 'updated >= "2026-10-25 02:30"') == [issue_id]
        assert cloud_ids(client, 'updated < "2026-10-25 02:30"') == []
        assert cloud_ids(client, 'updated >= "2026-10-25 02:31"') == []
        assert cloud_ids(client, 'updated >= "2026-10-25 00:31"') == [issue_id]
        assert cloud_ids(client, "updated >= -0m") == [issue_id]
        simulator.clock.advance(timedelta(minutes=5))
        assert cloud_ids(client, "updated >= -5m") == [issue_id]
        assert cloud_ids(client, "updated >= -4m") == []
        assert client.json(API + "/myself")["timeZone"] == "Europe/Berlin"
        shown = client.json(f"{API}/issue/{issue_id}")["fields"]["created"]
    assert shown == "2026-10-25T02:30:20.000+0200"


def test_a_search_on_cloud_gives_ids_unless_asked_for_more_and_smaller_pages_then() -> None:
    simulator = JiraSimulator(issues=300, short_page_ratio=0)
    with client_of(simulator) as client:
        page = client.posted(API + "/search/jql", jql="project = PAY")
        assert len(page["issues"]) == 50
        assert set(page["issues"][0]) == {"id"}
        assert len(client.posted(API + "/search/jql", jql="project = PAY", maxResults=9_999)["issues"]) == 300
        rich = client.posted(API + "/search/jql", jql="project = PAY", maxResults=5_000, fields=["summary", "updated"])
        assert len(rich["issues"]) == 100
        assert set(rich["issues"][0]["fields"]) == {"summary", "updated"}
        keyed = client.posted(API + "/search/jql", jql="project = PAY", maxResults=5_000, fields=["id", "key"])
        assert set(keyed["issues"][0]) == {"id", "key"}
        assert "total" not in page


def test_the_old_search_of_cloud_is_gone() -> None:
    with client_of(JiraSimulator(issues=1)) as client:
        assert client.get(API + "/search", jql="project = PAY").status_code == 410
        assert client.post("/rest/api/3/search", jql="project = PAY").status_code == 410


def test_pages_on_cloud_may_be_short_without_being_the_last() -> None:
    simulator = JiraSimulator(issues=120, short_page_ratio=1.0)
    with client_of(simulator) as client:
        page = client.posted(API + "/search/jql", jql="project = PAY ORDER BY id", maxResults=50)
        assert 0 < len(page["issues"]) < 50
        assert page["isLast"] is False
        ids = cloud_ids(client, "project = PAY ORDER BY id", maxResults=50)
    assert ids == [expected.issue_id for expected in simulator.expected()]


def test_a_page_token_belongs_to_one_query_and_lives_for_a_week() -> None:
    simulator = JiraSimulator(issues=120)
    with client_of(simulator) as client:
        page = client.posted(API + "/search/jql", jql="project = PAY", maxResults=20)
        token = page["nextPageToken"]
        assert client.post(API + "/search/jql", jql="project = PAY", nextPageToken=token).status_code == 200
        assert client.post(API + "/search/jql", jql="project = PAY ", nextPageToken=token).status_code == 400
        assert client.post(API + "/search/jql", jql="project = PAY", nextPageToken="x" + token).status_code == 400
        other = client.post(API + "/search/jql", jql="project = PAY", nextPageToken=token, fields=["summary"])
        assert other.status_code == 400
        simulator.clock.advance(timedelta(days=7, seconds=1))
        assert client.post(API + "/search/jql", jql="project = PAY", nextPageToken=token).status_code == 400


def test_the_index_lags_and_named_issues_can_be_reconciled() -> None:
    simulator = JiraSimulator(issues=10, index_lag_seconds=60)
    with client_of(simulator) as client:
        new_id = simulator.create_issue()
        simulator.edit_issue(10_003, summary="changed")
        jql = 'updated >= "2026-11-02 09:00"'
        assert cloud_ids(client, jql) == []
        assert set(cloud_ids(client, jql, reconcileIssues=[new_id, 10_003])) == {str(new_id), "10003"}
        assert client.json(f"{API}/issue/10003")["fields"]["summary"] == "changed"
        simulator.clock.advance(timedelta(seconds=59))
        assert cloud_ids(client, jql) == []
        simulator.clock.advance(timedelta(seconds=1))
        assert set(cloud_ids(client, jql)) == {str(new_id), "10003"}


def test_a_flickering_index_loses_an_issue_for_one_query_only() -> None:
    simulator = JiraSimulator(issues=40, index_flicker=True)
    everyone = {expected.issue_id for expected in simulator.expected()}
    with client_of(simulator) as client:
        pages = [set(cloud_ids(client, "project = PAY")) for _ in range(30)]
    assert all(page <= everyone and len(everyone - page) <= 1 for page in pages)
    assert 1 <= sum(page != everyone for page in pages) < 30
    assert set.union(*pages) == everyone


def test_counts_on_cloud_are_approximate() -> None:
    with client_of(JiraSimulator(issues=1_234)) as client:
        assert client.posted(API + "/search/approximate-count", jql="project = PAY")["count"] == 1_230
        assert client.post(API + "/search/approximate-count", jql="").status_code == 400


def test_bulk_fetch_takes_a_hundred_and_leaves_out_what_it_cannot_show() -> None:
    simulator = JiraSimulator(issues=120, projects=2)
    simulator.hide_issue(10_004)
    key = simulator.issue(10_007).key
    simulator.move_issue(10_007, "SHOP" if key.startswith("PAY") else "PAY")
    with client_of(simulator) as client:
        page = client.posted(
            API + "/issue/bulkfetch", issueIdsOrKeys=["10009", "10004", key, "99999", "NOPE-1"], fields=["summary"]
        )
        assert [issue["id"] for issue in page["issues"]] == ["10007", "10009"]
        assert page["issues"][0]["key"] == simulator.issue(10_007).key != key
        assert page["issueErrors"] == []
        many = [str(10_001 + n) for n in range(101)]
        assert client.post(API + "/issue/bulkfetch", issueIdsOrKeys=many).status_code == 400
        assert client.post(API + "/issue/bulkfetch", issueIdsOrKeys=[]).status_code == 400
        assert client.post(API + "/issue/bulkfetch", issueIdsOrKeys=["10001"], expand="changelog").status_code == 400
        assert client.post(API + "/issue/bulkfetch", issueIdsOrKeys=["10001"], colour="red").status_code == 400
    assert simulator.requests.rejected == [f"POST {API}/issue/bulkfetch colour"]


def test_embedded_histories_are_cut_on_cloud_newest_first_and_whole_on_data_center() -> None:
    def embedded(deployment: Any, path: str) -> Any:
        with client_of(JiraSimulator(issues=50, deployment=deployment)) as client:
            if path == "bulkfetch":
                page = client.posted(API + "/issue/bulkfetch", issueIdsOrKeys=["10021"], expand=["changelog"])
                return page["issues"][0]["changelog"]
            return client.json(f"{API}/issue/10021", expand="changelog")["changelog"]

    whole = embedded("server", "issue")
    assert whole["total"] == len(whole["histories"]) > 100
    times = [time_of(history["created"]) for history in whole["histories"]]
    assert times == sorted(times)
    for path, most in (("bulkfetch", 40), ("issue", 100)):
        part = embedded("cloud", path)
        assert (part["total"], len(part["histories"])) == (whole["total"], most)
        times = [time_of(history["created"]) for history in part["histories"]]
        assert times == sorted(times, reverse=True)


def test_one_issues_changelog_is_paged_oldest_first() -> None:
    simulator = JiraSimulator(issues=50)
    total = len({change.change_id for change in simulator.expected()[20].changes})
    with client_of(simulator) as client:
        first = client.json(f"{API}/issue/10021/changelog", maxResults=500)
        assert (first["total"], len(first["values"]), first["isLast"]) == (total, 100, False)
        rest = client.json(f"{API}/issue/10021/changelog", startAt=100)
        assert (len(rest["values"]), rest["isLast"]) == (total - 100, True)
        assert time_of(first["values"][-1]["created"]) <= time_of(rest["values"][0]["created"])


def test_the_bulk_changelog_goes_by_date_so_an_issue_is_spread_over_pages() -> None:
    simulator = JiraSimulator(issues=60)
    ids = [expected.issue_id for expected in simulator.expected()]
    with client_of(simulator) as client:
        first = client.posted(API + "/changelog/bulkfetch", issueIdsOrKeys=ids, maxResults=200)
        second = client.posted(
            API + "/changelog/bulkfetch", issueIdsOrKeys=ids, maxResults=200, nextPageToken=first["nextPageToken"]
        )
        seen = [{log["issueId"] for log in page["issueChangeLogs"]} for page in (first, second)]
        assert seen[0] & seen[1]
        whole = cloud_changelogs(client, ids, maxResults=97)
        assert {key: len(logs) for key, logs in whole.items()} == {
            one.issue_id: len({change.change_id for change in one.changes})
            for one in simulator.expected()
            if one.changes
        }
        assert all(isinstance(history["created"], int) for logs in whole.values() for history in logs)
        filtered = cloud_changelogs(client, ids, fieldIds=["status"])
        assert {item["fieldId"] for logs in filtered.values() for history in logs for item in history["items"]} == {
            "status"
        }
        too_many = [f"customfield_{n}" for n in range(11)]
        assert client.post(API + "/changelog/bulkfetch", issueIdsOrKeys=ids, fieldIds=too_many).status_code == 400
    with client_of(JiraSimulator(issues=3, is_changelog_epoch=False)) as client:
        logs = cloud_changelogs(client, ["10002"])["10002"]
        assert time_of(logs[0]["created"]) < DEFAULT_NOW


def test_data_center_pages_by_start_and_drifts_when_a_row_leaves() -> None:
    simulator = JiraSimulator(issues=60, deployment="server")
    with client_of(simulator) as client:
        jql = "project = PAY ORDER BY updated ASC"
        first = client.json(API + "/search", jql=jql, maxResults=20)
        assert (first["startAt"], first["maxResults"], first["total"], len(first["issues"])) == (0, 20, 60, 20)
        victim = client.json(API + "/search", jql=jql, maxResults=20, startAt=20)["issues"][0]["id"]
        simulator.edit_issue(first["issues"][0]["id"], summary="moved to the end")
        second = client.json(API + "/search", jql=jql, maxResults=20, startAt=20)
        assert victim not in [issue["id"] for issue in second["issues"]]
        nothing = client.json(API + "/search", jql=jql, maxResults=0)
        assert (nothing["total"], nothing["issues"]) == (60, [])
        posted = client.posted(
            API + "/search", jql=jql, startAt=5, maxResults=2, fields=["summary"], expand=["changelog"]
        )
        assert [set(issue) >= {"changelog"} for issue in posted["issues"]] == [True, True]
        assert client.post(API + "/search/jql", jql=jql).status_code == 404


def test_data_center_caps_its_rows() -> None:
    with client_of(JiraSimulator(issues=60, deployment="server", rows_max=25)) as client:
        page = client.json(API + "/search", jql="project = PAY", maxResults=1_000)
        assert (page["maxResults"], len(page["issues"])) == (25, 25)


def test_data_center_shows_its_token_bucket_on_every_answer() -> None:
    with client_of(JiraSimulator(issues=1, deployment="server", rate_limit_per_second=2)) as client:
        answers = [client.get(API + "/myself") for _ in range(4)]
    assert answers[0].headers["X-RateLimit-Limit"] == "2"
    assert answers[0].headers["Retry-After"] == "0"
    assert 429 in [answer.status_code for answer in answers]
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert limited.headers["Retry-After"] == "1"


def test_cloud_says_which_limit_was_reached() -> None:
    with client_of(JiraSimulator(issues=1, faults="429:1:retry-after=5")) as client:
        answer = client.get(API + "/myself")
    assert (answer.status_code, answer.headers["RateLimit-Reason"]) == (429, "jira-burst-based")
    assert answer.headers["X-RateLimit-Reset"] == "2026-11-02T09:01Z"


def test_sprints_are_objects_on_cloud_and_texts_on_data_center() -> None:
    def sprints(deployment: Any) -> list[Any]:
        simulator = JiraSimulator(issues=200, deployment=deployment)
        field = JIRA_FIELDS[deployment]["sprint"]
        with client_of(simulator) as client:
            if deployment == "server":
                issues = server_issues(client, "project = PAY", maxResults=200)
            else:
                ids = cloud_ids(client, "project = PAY")[:100]
                issues = client.posted(API + "/issue/bulkfetch", issueIdsOrKeys=ids)["issues"]
        return [sprint for issue in issues for sprint in issue["fields"][field] or []]

    objects = sprints("cloud")
    assert {sprint["state"] for sprint in objects} >= {"closed"}
    assert all(isinstance(sprint["id"], int) and sprint["startDate"].endswith("Z") for sprint in objects)
    texts = sprints("server")
    assert all(text.startswith("com.atlassian.greenhopper.service.sprint.Sprint@") for text in texts)
    assert any(", part [2]" in text for text in texts), "a name with a comma and a bracket"


def test_a_sprint_ends_without_a_change_of_its_issues() -> None:
    simulator = JiraSimulator(issues=1)
    issue = simulator.issue(10_001)
    active = next(one for one in issue.project.sprints if one.starts_at <= DEFAULT_NOW < one.ends_at)
    simulator.edit_issue(10_001, sprint_ids=[active.id])
    with client_of(simulator) as client:

        def states() -> list[str]:
            return [one["state"] for one in client.json(f"{API}/issue/10001")["fields"]["customfield_10020"]]

        updated_at = issue.updated_at
        assert states() == ["active"]
        simulator.clock.advance(timedelta(days=15))
        assert states() == ["closed"]
    assert issue.updated_at == updated_at


def test_a_moved_issue_keeps_its_id_and_is_found_by_its_old_key() -> None:
    simulator = JiraSimulator(issues=20, projects=2)
    old_key = simulator.issue(10_001).key
    new_key = simulator.move_issue(10_001, "SHOP")
    assert (old_key, new_key) == ("PAY-1", "SHOP-11")
    with client_of(simulator) as client:
        assert client.json(f"{API}/issue/{old_key}")["key"] == new_key
        assert "10001" not in cloud_ids(client, "project = PAY")
        assert "10001" in cloud_ids(client, "project = SHOP")
        moved = client.json(f"{API}/issue/10001/changelog")["values"][-1]["items"]
    assert {item["field"]: (item["fromString"], item["toString"]) for item in moved} == {
        "project": ("Payments", "Storefront"),
        "Key": ("PAY-1", "SHOP-11"),
        "status": (moved[2]["fromString"], moved[2]["fromString"]),
    }
    assert moved[2]["from"] != moved[2]["to"], "the same name under another id"


def test_what_is_deleted_or_hidden_is_not_found_anywhere() -> None:
    simulator = JiraSimulator(issues=20, projects=2)
    simulator.delete_issue(10_002)
    simulator.hide_issue(10_004)
    with client_of(simulator) as client:
        for wanted in ("10002", "10004"):
            assert client.get(f"{API}/issue/{wanted}").status_code == 404
            assert wanted not in cloud_ids(client, "project in (PAY, SHOP)")
        assert {"10002", "10004"}.isdisjoint(one.issue_id for one in simulator.expected())
        simulator.hide_issue(10_004, is_hidden=False)
        assert "10004" in cloud_ids(client, "project in (PAY, SHOP)")
        simulator.hide_project("PAY")
        assert client.get(API + "/project/PAY").status_code == 404
        assert client.get(API + "/search/jql", jql="project = PAY").status_code == 400
        assert {one.project_key for one in simulator.expected()} == {"SHOP"}


def test_an_old_data_center_has_no_field_ids_and_fails_whole_queries_for_one_missing_issue() -> None:
    with client_of(JiraSimulator(issues=10, deployment="server", old_server=True)) as client:
        assert client.json(API + "/serverInfo")["versionNumbers"][0] < 9
        items = client.json(f"{API}/issue/10002", expand="changelog")["changelog"]["histories"][0]["items"]
        assert all("fieldId" not in item for item in items)
        assert client.get(API + "/search", jql="id in (10002, 99999)").status_code == 400
    with client_of(JiraSimulator(issues=10, deployment="server")) as client:
        assert client.json(API + "/search", jql="id in (10002, 99999)")["total"] == 1


def test_edits_are_written_down_item_by_item() -> None:
    simulator = JiraSimulator(issues=1, changes_per_issue=0)
    simulator.clock.advance(timedelta(minutes=1))
    simulator.edit_issue(
        "PAY-1", summary="new", priority="Highest", labels=["a", "b"], story_points=3, fix_versions=["1.0.0", "1.1.0"],
        due_on="2027-01-31", assignee=12,
    )  # fmt: skip
    simulator.edit_issue("PAY-1", summary="new")
    changes = [change for change in simulator.expected()[0].changes if change.changed_at == simulator.clock.now()]
    assert len({change.change_id for change in changes}) == 1
    assert Counter(change.field_name for change in changes) >= Counter(
        {"summary": 1, "labels": 1, "Story Points": 1, "Fix Version": 2, "duedate": 1, "assignee": 1}
    )
    simulator.add_comment("PAY-1")
    simulator.link_issues("PAY-1", simulator.create_issue())
    with pytest.raises(UsageError, match="colour"):
        simulator.edit_issue("PAY-1", colour="red")
    assert simulator.expected()[0].linked_issues == (("outward", "PAY-2"),)
    assert simulator.expected()[1].linked_issues == (("inward", "PAY-1"),)


def test_resolving_and_reopening_keep_resolution_and_its_time_true() -> None:
    simulator = JiraSimulator(issues=0)
    issue_id = simulator.create_issue()
    simulator.transition(issue_id, "In Progress")
    simulator.clock.advance(timedelta(hours=3))
    simulator.transition(issue_id, "Done", resolution="Won't Fix")
    resolved = simulator.expected()[0]
    assert (resolved.resolution, resolved.resolved_at) == ("Won't Fix", simulator.clock.now())
    simulator.transition(issue_id, "Reopened")
    reopened = simulator.expected()[0]
    assert (reopened.resolution, reopened.resolved_at, reopened.status_category) == (None, None, "new")


def test_renames_and_forgotten_people_move_no_update_time() -> None:
    simulator = JiraSimulator(issues=30)
    before = [one.updated_at for one in simulator.expected()]
    with client_of(simulator) as client:
        issue = next(one for one in simulator.world.issues.values() if one.assignee and one.status.id == "10002")
        assert issue.assignee
        client.json(f"{API}/issue/{issue.id}")
        simulator.rename_status("10002", "Erledigt")
        simulator.forget_person(issue.assignee.number)
        fields = client.json(f"{API}/issue/{issue.id}")["fields"]
        assert "Erledigt" in [status["name"] for status in client.json(API + "/status")]
    assert fields["status"]["name"] == "Erledigt"
    assert (fields["assignee"]["displayName"], fields["assignee"]["active"]) == ("Former user", False)
    assert "emailAddress" not in fields["assignee"]
    assert [one.updated_at for one in simulator.expected()] == before


def test_jira_takes_the_right_credentials_and_throttles_wrong_passwords() -> None:
    def status(simulator: JiraSimulator, **given: Any) -> requests.Response:
        with simulator.serve() as server:
            return requests.get(server.base_url + API + "/myself", timeout=TIMEOUT_SECONDS, **given)

    bearer = {"headers": {"Authorization": "Bearer sim-token"}}
    assert status(JiraSimulator(issues=0), auth=("sim@example.test", "sim-token")).status_code == 200
    assert status(JiraSimulator(issues=0), **bearer).status_code == 401
    assert status(JiraSimulator(issues=0)).status_code == 401
    server = JiraSimulator(issues=0, deployment="server")
    assert status(server, **bearer).status_code == 200
    for _ in range(5):
        assert status(server, auth=("sim@example.test", "wrong")).status_code == 401
    locked = status(server, auth=("sim@example.test", "wrong"))
    assert locked.status_code == 403
    assert locked.headers["X-Authentication-Denied-Reason"].startswith("CAPTCHA_CHALLENGE")
    with JiraSimulator(issues=0).serve() as running:
        anonymous = requests.get(running.base_url + API + "/serverInfo", timeout=TIMEOUT_SECONDS)
    assert anonymous.json()["serverTime"] == "2026-11-02T09:00:00.000+0000"


def test_statuses_of_two_projects_share_names_but_not_ids() -> None:
    with client_of(JiraSimulator(issues=1, projects=2)) as client:
        statuses = client.json(API + "/status")
    names = Counter(status["name"] for status in statuses)
    assert names["Done"] == 2
    assert len({status["id"] for status in statuses}) == len(statuses)


def test_version_three_gives_texts_as_documents() -> None:
    with client_of(JiraSimulator(issues=5)) as client:
        document = client.json("/rest/api/3/issue/10002")["fields"]["description"]
        text = client.json("/rest/api/2/issue/10002")["fields"]["description"]
    assert document["type"] == "doc"
    assert "\n".join(part["content"][0]["text"] for part in document["content"]) == text


def test_fields_are_chosen_by_name_by_star_and_by_exception() -> None:
    with client_of(JiraSimulator(issues=5)) as client:

        def fields(wanted: str) -> set[str]:
            return set(client.json(f"{API}/issue/10002", fields=wanted)["fields"])

        everything = fields("*all")
        assert fields("summary,updated,nonsense") == {"summary", "updated"}
        assert everything - fields("*navigable") == {"comment", "worklog", "attachment"}
        assert everything - fields("*all,-summary") == {"summary"}
        assert everything - fields("-summary") == {"summary"}


@pytest.mark.parametrize("shows", [True, False])
def test_the_time_zone_of_the_profile_may_be_hidden(shows: bool) -> None:
    with client_of(JiraSimulator(issues=0, shows_time_zone=shows)) as client:
        assert ("timeZone" in client.json(API + "/myself")) is shows


def test_projects_are_listed_as_each_deployment_does() -> None:
    with client_of(JiraSimulator(issues=0, projects=3)) as client:
        page = client.json(API + "/project/search", maxResults=2)
        assert ([one["key"] for one in page["values"]], page["total"], page["isLast"]) == (["PAY", "SHOP"], 3, False)
    with client_of(JiraSimulator(issues=0, projects=3, deployment="server")) as client:
        assert [one["key"] for one in client.json(API + "/project")] == ["PAY", "SHOP", "ORDER"]


@pytest.mark.parametrize("options", [{"deployment": "moon"}, {"time_zone": "Mars/Base"}, {"latency_ms": -1}])
def test_a_simulator_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        JiraSimulator(issues=0, **options)


# --- Jira Cloud against its own description ---------------------------------------------------------------------------


class Description:
    """The official description of Jira Cloud's API, as far as checking a payload needs it."""

    def __init__(self, text: str) -> None:
        self._schemas = json.loads(text)["components"]["schemas"]

    def faults(self, name: str, value: Any) -> list[str]:
        return list(self._check(self._schemas[name], value, name))

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
        for part in schema.get("allOf", []):
            yield from self._check(part, value, where)
        if "$ref" in schema:
            yield from self._check(self._schemas[schema["$ref"].rpartition("/")[2]], value, where)
            return
        kinds: dict[str, type | tuple[type, ...]] = {
            "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
        }  # fmt: skip
        kind = schema.get("type")
        if value is None or kind is None:
            return
        if not isinstance(value, kinds[kind]):
            yield f"{where}: {value!r} is no {kind}"
        elif kind == "array":
            for position, item in enumerate(value):
                yield from self._check(schema["items"], item, f"{where}[{position}]")
        elif kind == "object":
            known = schema.get("properties", {})
            for name, item in value.items():
                if name in known:
                    yield from self._check(known[name], item, f"{where}.{name}")
                elif schema.get("additionalProperties") is False:
                    yield f"{where}: {name} is unknown"


@pytest.fixture(scope="module")
def description() -> Description:
    file = SAMPLES / "openapi" / "jira-platform-swagger.v3.json"
    if not file.exists():
        pytest.skip("the folder ../shared/samples is not here")
    return Description(file.read_text(encoding="utf-8"))


def issue_at(fields: str) -> Callable[[Client], Any]:
    return lambda client: client.json("/rest/api/3/issue/10006", expand="changelog")["fields"][fields]


@pytest.mark.parametrize(
    ("schema", "ask"),
    [
        ("IssueBean", lambda client: client.json("/rest/api/3/issue/10006", expand="changelog")),
        ("PageBeanChangelog", lambda client: client.json("/rest/api/3/issue/10021/changelog")),
        ("PageBeanProject", lambda client: client.json("/rest/api/3/project/search")),
        ("ServerInformation", lambda client: client.json("/rest/api/3/serverInfo")),
        ("User", lambda client: client.json("/rest/api/3/myself")),
        ("FieldDetails", lambda client: client.json("/rest/api/3/field")[0]),
        ("FieldDetails", lambda client: client.json("/rest/api/3/field")[-1]),
        ("StatusDetails", lambda client: client.json("/rest/api/3/status")[0]),
        ("Priority", lambda client: client.json("/rest/api/3/priority")[0]),
        ("Resolution", lambda client: client.json("/rest/api/3/resolution")[0]),
        ("IssueTypeDetails", lambda client: client.json("/rest/api/3/issuetype")[0]),
        ("StatusDetails", issue_at("status")),
        ("UserDetails", issue_at("creator")),
        ("PageOfComments", issue_at("comment")),
        ("ErrorCollection", lambda client: client.get("/rest/api/3/issue/1").json()),
    ],
)
def test_cloud_payloads_follow_the_official_description(
    schema: str, ask: Callable[[Client], Any], description: Description
) -> None:
    with client_of(JiraSimulator(issues=50)) as client:
        assert description.faults(schema, ask(client)) == []


def test_histories_hold_what_real_ones_do() -> None:
    file = SAMPLES / "jira" / "issue_changelogs.jsonl"
    if not file.exists():
        pytest.skip("the folder ../shared/samples is not here")
    with file.open(encoding="utf-8") as lines:
        real = [json.loads(line) for line in lines]
    with client_of(JiraSimulator(issues=50)) as client:
        ours = [
            history for key in (10_008, 10_021) for history in client.json(f"{API}/issue/{key}/changelog")["values"]
        ]

    def shapes(histories: list[dict[str, Any]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for history in histories:
            for item in history["items"]:
                found[item["field"]].add(" ".join(sorted(item)) + f" {item['fieldtype']}")
        return found

    common = shapes(real).keys() & shapes(ours).keys()
    assert {"RemoteIssueLink", "status"} <= common
    for field in common:
        assert shapes(ours)[field] <= shapes(real)[field], field


def test_berlin_really_is_where_the_clock_was_turned_back() -> None:
    # The test above about times in JQL rests on this night.
    before, after = (
        datetime(2026, 10, 25, hour, 30, tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")) for hour in (0, 1)
    )
    assert (before.hour, after.hour, before.fold, after.fold) == (2, 2, 0, 1)
