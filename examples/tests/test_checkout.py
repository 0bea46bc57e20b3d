import allure
import pytest
from shop.checkout import GIFT_WRAP_CENTS, check_out, order_total_cents
from shop.pricing import with_tax

pytestmark = [allure.epic("Shop"), allure.feature("Checkout"), allure.label("owner", "mira")]

CARD_NUMBERS = {"visa": "4111 1111 1111 1111", "mastercard": "5555 5555 5555 4444"}


class Gateway:
    """Answers like the payment provider's sandbox: the first request after a pause times out."""

    def __init__(self, is_awake):
        self.is_awake = is_awake

    def charge(self, amount_cents):
        if not self.is_awake:
            raise TimeoutError("the payment sandbox did not answer within 5 s")
        return f"PAY-{amount_cents}"


@allure.story("Payment")
@allure.severity(allure.severity_level.BLOCKER)
@pytest.mark.smoke
def test_empty_cart_cannot_be_paid(cart):
    with pytest.raises(ValueError, match="empty"):
        check_out(cart, "DE", Gateway(is_awake=True))


@allure.story("Payment")
@allure.severity(allure.severity_level.CRITICAL)
@allure.issue("https://tracker.example.org/browse/SHOP-17", name="SHOP-17")
@pytest.mark.flaky(reruns=2)
def test_payment_is_confirmed(cart, request, run_number):
    with allure.step("Fill the cart"):
        cart.add("lamp", 4900)
    with allure.step("Pay"):
        with allure.step("Wake the sandbox"):
            gateway = Gateway(is_awake=run_number % 2 == 0 or request.node.execution_count > 1)
        with allure.step("Charge"):
            order = check_out(cart, "DE", gateway)
            allure.attach(order.payment_reference, name="reference", attachment_type=allure.attachment_type.TEXT)
    assert order.payment_reference == "PAY-5831"


@allure.story("Gift wrap")
@allure.severity(allure.severity_level.NORMAL)
@allure.issue("https://tracker.example.org/browse/SHOP-42", name="SHOP-42")
@allure.testcase("https://cases.example.org/C-108", name="C-108")
def test_order_total_with_gift_wrap(cart):
    cart.add("lamp", 4900)
    with allure.step("Gift wrap is taxed like everything else"):
        total_cents = order_total_cents(cart, "DE", gift_wrap=True)
        assert total_cents == with_tax(4900 + GIFT_WRAP_CENTS, "DE")


@allure.story("Payment")
@pytest.mark.parametrize("card", CARD_NUMBERS)
def test_card_is_accepted(cart, card):
    allure.dynamic.parameter("card number", CARD_NUMBERS[card], mode=allure.parameter_mode.MASKED)
    cart.add("mug", 890)
    with allure.step(f"Pay with {card}"):
        assert check_out(cart, "FR", Gateway(is_awake=True)).amount_cents == 1068
