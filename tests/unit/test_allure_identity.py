"""Who a test is: keys, cases, frameworks."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.allure.identity import FRAMEWORK_BYTES, IDENTITY_VERSION, KEY_TEXT_BYTES, Identity, identify
from connectors.allure.parse import read_result


def identity_of(**fields: Any) -> Identity:
    return identify(read_result(json.dumps(fields).encode()))


def parameters(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def labels(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def test_the_key_is_the_same_today_and_tomorrow() -> None:
    # Keys are stored in every database. Where this has to change, IDENTITY_VERSION is raised.
    found = identity_of(fullName="tests.test_cart#test_total", parameters=parameters(country="'DE'"))
    parameters_hash = hashlib.sha256(b"""[["country","'DE'"]]""").hexdigest()
    key = f'[1,["full_name","tests.test_cart#test_total"],"{parameters_hash}"]'
    assert found.parameters_hash == parameters_hash
    assert found.test_key == hashlib.sha256(key.encode()).hexdigest()
    assert IDENTITY_VERSION == 1


def test_a_retry_has_the_key_of_its_test_though_all_else_differs() -> None:
    first = identity_of(fullName="a#b", name="b", status="failed", start=1_710_000_000_000, uuid="1", historyId="x")
    second = identity_of(fullName="a#b", name="renamed", status="passed", start=1_710_000_900_000, uuid="2")
    assert first.test_key == second.test_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"fullName": "a#b"}, {"fullName": "a#c"}),
        ({"fullName": "a#b"}, {"testCaseId": "a#b"}),
        ({"testCaseId": "a"}, {"testCaseId": "b"}),
        ({"name": "a"}, {"name": "b"}),
        ({"fullName": "a#b", "parameters": parameters(x="1")}, {"fullName": "a#b", "parameters": parameters(x="2")}),
        ({"fullName": "a#b", "parameters": parameters(x="1")}, {"fullName": "a#b"}),
        (
            {"fullName": "a#b", "parameters": [{"name": "x:1", "value": "2"}]},
            {"fullName": "a#b", "parameters": [{"name": "x", "value": "1:2"}]},
        ),
    ],
)
def test_different_tests_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert identity_of(**one).test_key != identity_of(**other).test_key


def test_the_full_name_decides_before_the_test_case_id_and_that_before_the_name() -> None:
    assert (
        identity_of(fullName="a#b", testCaseId="1", name="x").test_key
        == identity_of(fullName="a#b", testCaseId="2", name="y").test_key
    )
    assert identity_of(testCaseId="1", name="x").test_key == identity_of(testCaseId="1", name="y").test_key


def test_two_classes_with_a_method_of_one_name_are_two_tests() -> None:
    one = identity_of(name="shouldCreate", labels=labels(testClass="ProjectTest"))
    other = identity_of(name="shouldCreate", labels=labels(testClass="IssueTest"))
    assert one.test_key != other.test_key


def test_an_excluded_parameter_does_not_tell_tests_apart() -> None:
    volatile = [{"name": "at", "value": "12:00", "excluded": True}]
    assert identity_of(fullName="a#b", parameters=volatile).test_key == identity_of(fullName="a#b").test_key


def test_hidden_and_masked_parameters_tell_tests_apart() -> None:
    keys = {
        identity_of(fullName="a#b", parameters=[{"name": "x", "value": value, "mode": mode}]).test_key
        for value in ("1", "2")
        for mode in ("hidden", "masked")
    }
    assert len(keys) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), max_size=6), st.randoms())
def test_order_and_repetition_of_parameters_do_not_matter(pairs: list[tuple[str, str]], random: Any) -> None:
    shuffled = [*pairs, *pairs[:2]]
    random.shuffle(shuffled)
    hashes = {
        identity_of(name="t", parameters=[{"name": name, "value": value} for name, value in each]).parameters_hash
        for each in (pairs, shuffled)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("fields", "path", "name"),
    [
        pytest.param({"fullName": "tests.test_cart#test_total"}, "tests.test_cart", "test_total", id="pytest"),
        pytest.param({"fullName": "t.test_cart.TestCart#test_x"}, "t.test_cart.TestCart", "test_x", id="pytest class"),
        pytest.param({"fullName": "cart.spec.js#adds item #5"}, "cart.spec.js", "adds item #5", id="JavaScript"),
        pytest.param({"fullName": "io.q.CartTest.total"}, "io.q.CartTest", "total", id="JUnit"),
        pytest.param(
            {"fullName": "io.q.CartTest.adds two. Twice", "labels": labels(testClass="io.q.CartTest")},
            "io.q.CartTest",
            "adds two. Twice",
            id="Kotlin method with spaces",
        ),
        pytest.param(
            {"fullName": "Cart: adding. Twice", "name": "Twice", "labels": labels(package="features.cart")},
            "features.cart",
            "Twice",
            id="Cucumber with package",
        ),
        pytest.param(
            {"fullName": "Cart: adding", "name": "adding", "labels": labels(parentSuite="Shop", suite="Cart")},
            "Shop > Cart",
            "adding",
            id="suites",
        ),
        pytest.param({"fullName": "Cart: adding twice", "name": "adding"}, "", "Cart: adding twice", id="no labels"),
        pytest.param(
            {"fullName": "tests.test_cart#", "name": "adding"}, "", "tests.test_cart#", id="nothing after the mark"
        ),
        pytest.param({"name": "adding"}, "", "adding", id="name alone"),
        pytest.param({"testCaseId": "C-17"}, "", "C-17", id="id alone"),
    ],
)
def test_the_case_is_named_by_where_it_lives(fields: dict[str, Any], path: str, name: str) -> None:
    found = identity_of(**fields)
    assert (found.case_path, found.case_name) == (path, name)


def test_parameters_do_not_make_another_case() -> None:
    cases = {
        (found.case_path, found.case_name, found.framework)
        for value in "12"
        for found in [identity_of(fullName="m#t", name=f"t[{value}]", parameters=parameters(x=value))]
    }
    assert cases == {("m", "t", "unknown")}


@pytest.mark.parametrize(
    ("given_labels", "framework"),
    [
        (labels(framework="pytest", language="cpython3"), "pytest"),
        (labels(language="java"), "java"),
        ([{"name": "framework"}, *labels(framework="", language="java")], "java"),
        (labels(framework="pytest") + labels(framework="unittest"), "pytest"),
        ([], "unknown"),
    ],
)
def test_the_framework_is_its_label_or_the_language(given_labels: list[dict[str, str]], framework: str) -> None:
    assert identity_of(name="t", labels=given_labels).framework == framework


def test_names_without_end_fit_into_an_index_and_stay_apart() -> None:
    one, other = (
        identity_of(fullName=f"{'é' * 5000}#{'ü' * 5000}{end}", labels=labels(framework="x" * 500)) for end in "ab"
    )
    assert len(one.case_path.encode()) <= KEY_TEXT_BYTES
    assert len(one.case_name.encode()) <= KEY_TEXT_BYTES
    assert len(one.framework.encode()) <= FRAMEWORK_BYTES
    assert one.case_path == other.case_path
    assert one.case_name != other.case_name
