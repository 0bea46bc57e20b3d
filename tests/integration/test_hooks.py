"""Hooks at the sources: made once, mended, renewed and taken away, against the simulated GitLab and Jira."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from fakes.worker import InProcessWorker
from sqlalchemy import Row, text

from connectors.gitlab.simulator import GitLabSimulator
from connectors.jira.simulator import JiraSimulator
from connectors.signatures import standard_key
from models.errors import UsageError
from models.store import connections
from models.store.session import Database
from tasks import hooks
from workers import secrets
from workers.settings import Settings

PUBLIC = "https://plumbline.example.test"


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


class Place:
    """A connection to a simulated source, and its hooks there."""

    def __init__(self, worker: InProcessWorker, simulator: Any, kind: str, base_url: str, keys: list[str]) -> None:
        self.worker = worker
        self.hooks = simulator.webhooks
        self.simulator = simulator
        self.kind = kind
        user = "sim@example.test" if kind == "jira" else None
        worker.add_scope(kind, base_url, keys[0], token="sim-token", user=user)
        self.name = f"{kind}-{keys[0]}"
        with worker.database.transaction() as session:
            row = session.execute(text("SELECT id, project_id, connection_id FROM sync_scopes")).one()
            for key in keys[1:]:
                connections.add_scope(
                    session,
                    row.connection_id,
                    external_key=key,
                    project_id=row.project_id,
                    repository_id=None,
                    options={},
                )

    @property
    def row(self) -> Row[Any]:
        with self.worker.database.transaction() as session:
            return connections.connection(session, self.name)

    def enable(self, **options: Any) -> tuple[Any, ...]:
        return hooks.enable(self.worker.database, self.worker.settings, self.row, public_url=PUBLIC, **options)

    def check(self) -> tuple[Any, ...]:
        return hooks.check(self.worker.database, self.worker.settings, self.row)

    def secrets(self, now: datetime | None = None) -> tuple[str, ...]:
        auth = secrets.decrypt(self.worker.settings, self.row.auth)
        assert auth["token"] == "sim-token"
        return secrets.webhook_secrets(auth, now or datetime.now(UTC))


@pytest.fixture
def gitlab(worker: InProcessWorker) -> Iterator[Place]:
    simulator = GitLabSimulator(merge_requests=6, projects=2, seed=1)
    with simulator.serve() as server:
        yield Place(worker, simulator, "gitlab", server.base_url, ["101", simulator.world.projects[102].path])


@pytest.fixture
def jira(worker: InProcessWorker) -> Iterator[Place]:
    simulator = JiraSimulator(issues=6, projects=2, seed=1)
    with simulator.serve() as server:
        yield Place(worker, simulator, "jira", server.base_url, ["PAY", "SHOP"])


def test_each_project_of_gitlab_gets_one_hook_however_often_it_is_asked(gitlab: Place) -> None:
    for _ in range(3):
        states = gitlab.enable()
        assert [state.is_enabled for state in states] == [True, True]
    made = list(gitlab.hooks.hooks.values())
    assert [(hook.project.id, hook.url) for hook in made] == [
        (101, f"{PUBLIC}/webhooks/gitlab/gitlab-101"),
        (102, f"{PUBLIC}/webhooks/gitlab/gitlab-101"),
    ]
    for hook in made:
        assert hook.signing_token == gitlab.secrets()[0]
        assert len(standard_key(hook.signing_token) or b"") == 32
        assert hook.token == ""  # what signs is never sent along
        assert (hook.merge_requests_events, hook.note_events, hook.push_events) == (True, True, False)
    with gitlab.worker.database.transaction() as session:
        known = session.execute(text("SELECT options ->> 'external_id' FROM sync_scopes ORDER BY id")).scalars().all()
    assert known == [None, "102"]  # a project that is renamed is still known by its id


def test_an_older_gitlab_sends_the_secret_along(gitlab: Place) -> None:
    gitlab.hooks.signs = False
    gitlab.enable()
    assert {(hook.token, hook.signing_token) for hook in gitlab.hooks.hooks.values()} == {(gitlab.secrets()[0], "")}


def test_one_webhook_of_jira_tells_of_all_projects(jira: Place) -> None:
    for _ in range(2):
        assert [state.is_enabled for state in jira.enable()] == [True]
    (hook,) = jira.hooks.hooks.values()
    assert hook.filters == {"issue-related-events-section": 'project in ("PAY", "SHOP")'}
    assert hook.secret == jira.secrets()[0]
    assert {"jira:issue_updated", "comment_created", "issuelink_created"} <= set(hook.events)


@pytest.mark.parametrize("kind", ["gitlab", "jira"])
def test_rotation_keeps_the_old_secret_good_for_a_day(kind: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(kind)
    place.enable()
    (old,) = place.secrets()
    place.enable(is_rotation=True)
    new, before = place.secrets()
    assert (before, new != old) == (old, True)
    assert place.secrets(datetime.now(UTC) + timedelta(hours=25)) == (new,)
    for hook in place.hooks.hooks.values():
        assert (hook.signing_token if kind == "gitlab" else hook.secret) == new


@pytest.mark.parametrize("kind", ["gitlab", "jira"])
def test_what_is_missing_disabled_or_doubled_is_mended_by_the_watch(kind: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(kind)
    place.enable()
    wanted = len(place.hooks.hooks)
    place.worker.run("receive.watch_hooks")
    made = dict(place.hooks.hooks)
    assert all(state.is_enabled for state in place.check())
    assert place.hooks.hooks == made  # well, and left alone

    place.hooks.hooks.clear()
    assert not any(state.is_enabled for state in place.check())
    assert place.row.webhooks["trouble"]
    place.worker.run("receive.watch_hooks")
    assert len(place.hooks.hooks) == wanted
    assert place.row.webhooks["trouble"] == ""

    first = next(iter(place.hooks.hooks.values()))
    if kind == "gitlab":
        first.failures, first.disabled_until = 4, place.simulator.clock.now() + timedelta(minutes=1)
    else:
        first.enabled = False
    place.worker.run("receive.watch_hooks")
    assert len(place.hooks.hooks) == wanted
    assert all(state.is_enabled for state in place.check())


def test_a_request_that_was_sent_twice_leaves_one_hook(gitlab: Place) -> None:
    gitlab.enable()
    first = gitlab.hooks.hooks[9_001]
    gitlab.hooks.hooks[9_900] = type(first)(id=9_900, project=first.project, url=first.url)
    gitlab.enable()
    assert sorted(gitlab.hooks.hooks) == [9_001, 9_002]


@pytest.mark.parametrize(("kind", "words"), [("gitlab", "Maintainer"), ("jira", "Administer Jira")])
def test_a_token_that_may_not_is_told_what_it_needs(kind: str, words: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(kind)
    place.hooks.may_manage = False
    states = place.enable()
    assert not any(state.is_enabled for state in states)
    assert all(words in state.remark for state in states)
    place.worker.run("receive.watch_hooks")
    assert words in place.row.webhooks["trouble"]
    assert place.row.status == "active"  # polling goes on


def test_hooks_are_taken_away_with_their_secret_and_moved_with_the_address(gitlab: Place) -> None:
    gitlab.enable()
    moved = hooks.enable(
        gitlab.worker.database, gitlab.worker.settings, gitlab.row, public_url="https://other.example.test/base/"
    )
    assert all(state.is_enabled for state in moved)
    assert {hook.url for hook in gitlab.hooks.hooks.values()} == {
        "https://other.example.test/base/webhooks/gitlab/gitlab-101"
    }
    hooks.disable(gitlab.worker.database, gitlab.worker.settings, gitlab.row)
    assert gitlab.hooks.hooks == {}
    assert gitlab.secrets() == ()
    assert gitlab.row.webhooks is None
    with pytest.raises(UsageError, match="has no webhooks"):
        gitlab.check()


def test_without_an_address_nothing_is_made(gitlab: Place) -> None:
    with pytest.raises(UsageError, match="PLUMBLINE_PUBLIC_URL"):
        hooks.enable(gitlab.worker.database, gitlab.worker.settings, gitlab.row)
    assert gitlab.hooks.hooks == {}
    assert gitlab.secrets() == ()


def test_gitlab_disables_a_hook_that_fails_and_sends_nothing_again(gitlab: Place) -> None:
    gitlab.enable()
    for hook in gitlab.hooks.hooks.values():
        hook.url = "http://127.0.0.1:1/nobody"
    for number in range(1, 7):
        gitlab.simulator.add_note(1, project=101)
        assert gitlab.hooks.sender.settle()
        assert len(gitlab.hooks.sender.sent) == min(number, 4)
    first = gitlab.hooks.hooks[9_001]
    assert first.status(gitlab.simulator.clock.now()) == "temporarily_disabled"
    for _ in range(50):
        gitlab.simulator.clock.advance(timedelta(hours=25))
        gitlab.simulator.add_note(1, project=101)
        assert gitlab.hooks.sender.settle()
    assert len(gitlab.hooks.sender.sent) == 40
    assert first.status(gitlab.simulator.clock.now()) == "disabled"


def test_jira_sends_again_what_failed_with_the_same_id(jira: Place) -> None:
    jira.enable()
    (hook,) = jira.hooks.hooks.values()
    hook.url = "http://127.0.0.1:1/nobody"
    jira.hooks.retry_seconds = 0.01
    jira.simulator.edit_issue("PAY-1", summary="Changed")
    while len(jira.hooks.sender.sent) < 5:
        assert jira.hooks.sender.settle()
    sent = jira.hooks.sender.sent
    assert len({each.headers["X-Atlassian-Webhook-Identifier"] for each in sent}) == 1
    assert [each.headers.get("X-Atlassian-Webhook-Retry") for each in sent] == [None, "1", "2", "3", "4"]


def test_trouble_on_the_way_is_set_over_the_control_api(jira: Place) -> None:
    with jira.simulator.serve() as server:
        url = f"{server.base_url}/__sim/webhooks"
        assert requests.post(url, json={"doubled_ratio": 1, "disorder_seconds": 0.01}, timeout=5).status_code == 200
        assert requests.post(url, json={"tripled": 1}, timeout=5).status_code == 400
        jira.enable()
        (hook,) = jira.hooks.hooks.values()
        hook.url = f"{server.base_url}/nowhere"
        jira.hooks.retry_seconds = 60
        jira.simulator.add_comment("PAY-1")
        assert jira.hooks.sender.settle()
        told = requests.get(url, timeout=5).json()
    assert len(told["sent"]) == 2
    assert told["sent"][0]["headers"] == told["sent"][1]["headers"]
