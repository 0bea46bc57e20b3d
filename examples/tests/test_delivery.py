import allure
import pytest

pytestmark = [allure.epic("Shop"), allure.feature("Delivery"), allure.label("owner", "jonas")]


@pytest.fixture
def label_printer():
    raise ConnectionError("no label printer answers on port 9100")


@allure.story("Labels")
@allure.severity(allure.severity_level.NORMAL)
@allure.issue("https://tracker.example.org/browse/SHOP-51", name="SHOP-51")
def test_label_is_printed(label_printer):
    assert label_printer.print("Jane Doe, 1 High Street")


@allure.story("Courier")
def test_courier_quote(run_number):
    quote_cents = None if run_number % 3 == 0 else 499
    assert quote_cents == 499, "the courier's sandbox gave no quote"
