import json

import allure
import pytest
from shop.pricing import TAX_PERCENT, discounted, with_tax

pytestmark = [allure.epic("Shop"), allure.feature("Pricing"), allure.label("owner", "mira")]


@allure.story("Discounts")
@allure.severity(allure.severity_level.CRITICAL)
@pytest.mark.smoke
@pytest.mark.parametrize(("percent", "expected_cents"), [(0, 1999), (10, 1799), (50, 1000), (100, 0)])
def test_discount(percent, expected_cents):
    with allure.step(f"Take {percent} % off 19.99"):
        assert discounted(1999, percent) == expected_cents


@allure.story("Discounts")
@pytest.mark.parametrize("percent", [-1, 101])
def test_discount_out_of_range_is_refused(percent):
    with pytest.raises(ValueError, match="0 to 100"):
        discounted(1999, percent)


@allure.story("Taxes")
@allure.severity(allure.severity_level.NORMAL)
@pytest.mark.parametrize("country", sorted(TAX_PERCENT))
def test_tax_is_added(country):
    with allure.step("Look up the rate"):
        rates = json.dumps(TAX_PERCENT, indent=2)
        allure.attach(rates, name="tax rates", attachment_type=allure.attachment_type.JSON)
    with allure.step("Add it"):
        with allure.step(f"Compute the price in {country}"):
            price_cents = with_tax(10_000, country)
        with allure.step("Compare"):
            assert price_cents == 10_000 + 100 * TAX_PERCENT[country]
