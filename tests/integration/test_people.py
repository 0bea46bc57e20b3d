"""People in the database: told apart, joined, split and counted as one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from factories.rows import Rows, utc

from models.errors import NotFoundError, UsageError
from models.records import Account
from models.store import people
from models.store.identities import write_accounts
from models.store.session import Database
from models.store.sync import Target

NOW = utc("2025-07-10 00:00")
JUNE = utc("2025-06-10 12:00")


@pytest.fixture
def rows(database: Database) -> Iterator[Rows]:
    with database.transaction() as session:
        yield Rows(session)


def persons(rows: Rows) -> list[set[str]]:
    people.tell_apart(rows.session, rows.tenant_id)
    found: dict[int, set[str]] = {}
    for person, source, username in rows.table("user_identities", "person_id, source, username"):
        found.setdefault(person, set()).add(f"{source}:{username}")
    return sorted(found.values(), key=sorted)


def number(rows: Rows, name: str) -> int:
    return int(people.account(rows.session, name).id)


def target(rows: Rows) -> Target:
    return Target(
        tenant_id=rows.tenant_id, connection_id=1, source="gitlab", base_url="https://gitlab.example.com",
        sync_scope_id=1, external_key="55", project_id=1, repository_id=None,
    )  # fmt: skip


def test_only_an_address_that_its_source_verified_joins(rows: Rows) -> None:
    rows.identity("alice", email="alice@corp.example", email_is_verified=True)
    rows.identity("alice", source="jira", email="ALICE@corp.example", email_is_verified=True)
    rows.identity("alice", source="git", email="alice@corp.example")
    assert persons(rows) == [{"git:alice"}, {"gitlab:alice", "jira:alice"}]
    assert people.tell_apart(rows.session, rows.tenant_id) == 0


def test_joining_splitting_and_taking_back(rows: Rows) -> None:
    rows.identity("alice", email="alice@corp.example", email_is_verified=True)
    rows.identity("alice", source="jira", email="alice@corp.example", email_is_verified=True)
    rows.identity("ali", source="git")
    people.decide(
        rows.session,
        identity_id=number(rows, "git:ali"),
        other_identity_id=number(rows, "gitlab:alice"),
        decided_by="kim",
    )
    assert persons(rows) == [{"git:ali", "gitlab:alice", "jira:alice"}]
    people.decide(rows.session, identity_id=number(rows, "jira:alice"), other_identity_id=None, decided_by="kim")
    people.decide(rows.session, identity_id=number(rows, "jira:alice"), other_identity_id=None, decided_by="lee")
    assert persons(rows) == [{"git:ali", "gitlab:alice"}, {"jira:alice"}]
    assert people.forget(rows.session, number(rows, "jira:alice")) == 1
    assert people.forget(rows.session, number(rows, "gitlab:alice")) == 1
    assert persons(rows) == [{"git:ali"}, {"gitlab:alice", "jira:alice"}]


def test_accounts_of_two_tenants_never_meet(rows: Rows) -> None:
    other = rows.add("tenants", name="Other", slug="other")
    rows.identity("alice", email="alice@corp.example", email_is_verified=True)
    rows.identity("alice", tenant_id=other, email="alice@corp.example", email_is_verified=True)
    for tenant in people.tenants(rows.session):
        people.tell_apart(rows.session, tenant)
    assert len(rows.table("user_identities", "DISTINCT person_id")) == 2
    one, two = (each for (each,) in rows.table("user_identities", "id"))
    with pytest.raises(UsageError, match="different tenants"):
        people.decide(rows.session, identity_id=one, other_identity_id=two, decided_by=None)


def test_a_name_that_nobody_or_several_have_is_refused(rows: Rows) -> None:
    rows.identity("alice")
    rows.identity("alice", source="jira")
    with pytest.raises(NotFoundError, match="no account 'bob'"):
        people.account(rows.session, "bob")
    with pytest.raises(UsageError, match="Several accounts"):
        people.account(rows.session, "alice")
    assert people.account(rows.session, str(number(rows, "jira:alice"))).source == "jira"


def test_a_payload_that_shows_no_address_takes_none_away(rows: Rows) -> None:
    full = Account(
        external_id="7", username="alice", email="a@corp.example", email_is_verified=True, provider_id="ldap/a"
    )
    partial = Account(external_id="7", username="alice.b")
    write_accounts(rows.session, target(rows), [full])
    assert write_accounts(rows.session, target(rows), [partial]).total == 1
    known = rows.table("user_identities", "username, email, email_is_verified, provider_id")
    assert known == [("alice.b", "a@corp.example", True, "ldap/a")]
    assert write_accounts(rows.session, target(rows), [partial]).total == 0
    write_accounts(rows.session, target(rows), [Account(external_id="7", username="alice.b", email="b@corp.example")])
    assert rows.table("user_identities", "email, email_is_verified") == [("b@corp.example", False)]


def test_a_person_is_counted_once_over_accounts_and_never_approves_their_own(rows: Rows) -> None:
    connection, project = rows.connection("gitlab"), rows.project()
    for name in ("alice", "alice.work"):
        rows.identity(name, email="alice@corp.example", email_is_verified=True)
    rows.activity(connection, project, 1, "alice", "authored", JUNE)
    rows.activity(connection, project, 1, "alice.work", "approved", JUNE)
    rows.activity(connection, project, 2, "bob", "authored", JUNE)
    for name in ("alice", "alice.work"):
        rows.activity(connection, project, 2, name, "approved", JUNE)
        rows.activity(connection, project, 2, name, "reviewed", JUNE)

    def approvals() -> dict[str, int]:
        rows.settle(NOW)
        return dict(rows.table("monthly_contributions", "username, mr_approved"))

    assert approvals() == {"alice": 1, "alice.work": 2, "bob": 0}  # two people, as far as anybody knows yet
    people.tell_apart(rows.session, rows.tenant_id)
    assert approvals() == {"alice": 1, "bob": 0}
    contributors = rows.table("gitlab_mr_contributors", "username, authored, approved, person_id IS NOT NULL")
    assert contributors == [("alice", 1, 1, True), ("alice.work", 0, 1, True), ("bob", 1, 0, False)]
    people.decide(rows.session, identity_id=number(rows, "alice.work"), other_identity_id=None, decided_by=None)
    people.tell_apart(rows.session, rows.tenant_id)
    assert approvals() == {"alice": 1, "alice.work": 2, "bob": 0}


def test_rules_have_versions_and_one_that_cannot_be_read_is_left_out(rows: Rows) -> None:
    rule = {"tenant_id": rows.tenant_id, "source": None, "field": "username", "pattern": "release-.*", "position": 2}
    people.add_rule(rows.session, is_bot=True, reason="release robots", **rule)
    people.add_rule(rows.session, is_bot=False, reason=None, **rule)
    people.add_rule(rows.session, is_bot=True, reason=None, **{**rule, "source": "jira", "position": 1})
    rows.add("bot_rules", field="username", pattern="(", valid_from=JUNE)
    assert [each["is_bot"] for each in people.bot_rules(rows.session, rows.tenant_id, "gitlab")] == [False]
    assert [each["is_bot"] for each in people.bot_rules(rows.session, rows.tenant_id, "jira")] == [True, False]
    assert people.bot_rules(rows.session, rows.add("tenants", name="Other", slug="other"), "jira") == []
    with pytest.raises(UsageError, match="no regular expression"):
        people.add_rule(rows.session, is_bot=True, reason=None, **{**rule, "pattern": "("})
    with pytest.raises(UsageError, match="cannot ask for 'password'"):
        people.add_rule(rows.session, is_bot=True, reason=None, **{**rule, "field": "password"})
