import allure
import pytest

pytestmark = [allure.epic("Shop"), allure.feature("Cart"), allure.label("owner", "jonas")]


@allure.story("Adding")
@allure.severity(allure.severity_level.BLOCKER)
@pytest.mark.smoke
def test_adding_twice_adds_up(cart):
    with allure.step("Add a mug, then two more"):
        cart.add("mug", 890)
        cart.add("mug", 890, quantity=2)
    assert cart.total_cents() == 2670


@allure.story("Adding")
def test_quantity_of_zero_is_refused(cart):
    with pytest.raises(ValueError, match="1 or more"):
        cart.add("mug", 890, quantity=0)


@allure.story("Removing")
def test_removing_empties_the_cart(cart):
    cart.add("poster", 1500)
    cart.remove("poster")
    assert cart.total_cents() == 0


@allure.story("Removing")
@allure.severity(allure.severity_level.MINOR)
def test_removing_what_is_not_there_changes_nothing(cart):
    cart.add("poster", 1500)
    cart.remove("mug")
    assert cart.total_cents() == 1500


@allure.story("Sharing")
@allure.severity(allure.severity_level.TRIVIAL)
@pytest.mark.skip(reason="carts cannot be shared before version 2")
def test_cart_is_shared_by_link(cart):
    assert cart.link.startswith("https://")
