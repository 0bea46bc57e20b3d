"""Accounts come together by strong keys and by hand only, and come apart again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.robots import robot_reason
from models.rules.people import AccountKeys, Decision, is_personal, people

ALICE_GITLAB = AccountKeys(id=7, email="alice@corp.example")
ALICE_JIRA = AccountKeys(id=8, email="Alice@corp.example")
ALICE_GIT = AccountKeys(id=9)
OTHER_ALICE = AccountKeys(id=10, email="alice.b@corp.example")


def groups(accounts: list[AccountKeys], decisions: list[Decision] | None = None) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for account_id, person in people(accounts, decisions or []).items():
        found.setdefault(person.id, set()).add(account_id)
    return {frozenset(each) for each in found.values()}


def test_the_worked_example_of_four_accounts_is_two_people() -> None:
    accounts = [ALICE_GITLAB, ALICE_JIRA, ALICE_GIT, OTHER_ALICE]
    found = people(accounts, [Decision(account_id=9, other_id=7)])
    assert {account: person.id for account, person in found.items()} == {7: 7, 8: 7, 9: 7, 10: 10}
    assert found[8].reason == "a verified e-mail address"
    assert found[9].reason == "joined by hand"
    assert found[10].reason is None


def test_a_split_account_stands_alone_and_comes_back_when_that_is_taken_back() -> None:
    accounts = [ALICE_GITLAB, ALICE_JIRA]
    assert groups(accounts, [Decision(account_id=8)]) == {frozenset({7}), frozenset({8})}
    assert groups(accounts) == {frozenset({7, 8})}


def test_a_split_account_leaves_the_others_together() -> None:
    accounts = [ALICE_GITLAB, ALICE_JIRA, AccountKeys(id=11, email="alice@corp.example")]
    assert groups(accounts, [Decision(account_id=7)]) == {frozenset({7}), frozenset({8, 11})}


def test_a_hand_joins_what_was_split() -> None:
    decisions = [Decision(account_id=8), Decision(account_id=8, other_id=10)]
    assert groups([ALICE_GITLAB, ALICE_JIRA, OTHER_ALICE], decisions) == {frozenset({7}), frozenset({8, 10})}


def test_keys_reach_over_several_accounts() -> None:
    accounts = [
        AccountKeys(id=1, email="a@corp.example"),
        AccountKeys(id=2, email="a@corp.example", provider_id="ldap/a"),
        AccountKeys(id=3, provider_id="ldap/a", user_id=5),
        AccountKeys(id=4, user_id=5),
        AccountKeys(id=5, user_id=6),
    ]
    assert groups(accounts) == {frozenset({1, 2, 3, 4}), frozenset({5})}


@pytest.mark.parametrize(
    "address",
    [
        "no-reply@corp.example",
        "noreply@corp.example",
        "Team@corp.example",
        "7+a@users.noreply.github.com",
        "root@localhost",
        "nobody",
        "",
        None,
    ],
)
def test_an_address_that_several_share_or_nobody_reads_ties_nothing(address: str | None) -> None:
    assert not is_personal(address)
    assert len(groups([AccountKeys(id=1, email=address), AccountKeys(id=2, email=address)])) == 2


def test_a_robot_is_nobodys_second_account() -> None:
    robot = AccountKeys(id=12, email="alice@corp.example", is_bot=True)
    assert groups([ALICE_GITLAB, robot]) == {frozenset({7}), frozenset({12})}


def test_decisions_about_accounts_that_are_gone_mean_nothing() -> None:
    assert groups([ALICE_GITLAB], [Decision(account_id=7, other_id=99), Decision(account_id=98)]) == {frozenset({7})}


accounts_of_a_tenant = st.lists(
    st.builds(
        AccountKeys,
        id=st.integers(1, 30),
        email=st.sampled_from([None, "a@x.example", "b@x.example", "c@x.example"]),
        provider_id=st.sampled_from([None, None, "ldap/1", "ldap/2"]),
        user_id=st.sampled_from([None, None, 1, 2]),
        is_bot=st.booleans(),
    ),
    max_size=15,
    unique_by=lambda account: account.id,
)
decisions_of_a_tenant = st.lists(
    st.builds(Decision, account_id=st.integers(1, 30), other_id=st.none() | st.integers(1, 30)), max_size=6
)


@given(accounts_of_a_tenant, decisions_of_a_tenant, st.randoms(use_true_random=False))
def test_the_order_of_accounts_and_decisions_does_not_matter(
    accounts: list[AccountKeys], decisions: list[Decision], chance: random.Random
) -> None:
    before = people(accounts, decisions)
    shuffled, reordered = accounts[:], decisions[:]
    chance.shuffle(shuffled)
    chance.shuffle(reordered)
    assert people(shuffled, reordered) == before
    for account_id, person in before.items():
        assert person.id == min(other for other, whose in before.items() if whose.id == person.id)
        assert person.id <= account_id


RULES = [
    {"field": "username", "pattern": "release-keeper", "is_bot": False, "reason": None},
    {"field": "username", "pattern": "release-.*", "is_bot": True, "reason": "release robots"},
    {"field": "email", "pattern": r".*@robots\.example", "is_bot": True, "reason": None},
]


@pytest.mark.parametrize(
    ("username", "email", "is_flagged", "reason"),
    [
        ("release-7", None, False, "release robots"),
        ("Release-7", None, False, "release robots"),
        ("release-keeper", None, True, None),  # the first rule that fits decides, before the source's own flag
        ("ann", "ann@robots.example", False, r"rule '.*@robots\\.example'"),
        ("prerelease-7", None, False, None),  # a pattern is matched whole
        (None, None, False, None),
    ],
)
def test_the_first_rule_that_fits_decides(
    username: str | None, email: str | None, is_flagged: bool, reason: str | None
) -> None:
    assert robot_reason(username, None, is_flagged, {"bot_rules": RULES}, email=email) == reason
