import allure
import pytest

pytestmark = [allure.epic("Shop"), allure.feature("Stock"), allure.label("owner", "jonas")]


@pytest.fixture(scope="module")
def warehouse(run_number):
    if run_number % 4 == 0:
        raise ConnectionError("the warehouse database refuses connections")
    stock = {"mug": 12, "lamp": 0}
    yield stock
    stock.clear()


@allure.story("Availability")
@allure.severity(allure.severity_level.CRITICAL)
@pytest.mark.parametrize(("product", "is_available"), [("mug", True), ("lamp", False)])
def test_availability(warehouse, product, is_available):
    assert (warehouse[product] > 0) is is_available


@allure.story("Reservation")
def test_reservation_lowers_the_stock(warehouse):
    before = warehouse["mug"]
    with allure.step("Reserve one mug"):
        warehouse["mug"] -= 1
    assert warehouse["mug"] == before - 1
