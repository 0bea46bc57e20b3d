"""Prices, discounts and taxes, in cents."""

from decimal import ROUND_HALF_UP, Decimal

TAX_PERCENT = {"DE": 19, "FR": 20, "CH": 8}


def discounted(price_cents: int, percent: int) -> int:
    if not 0 <= percent <= 100:
        raise ValueError(f"a discount is 0 to 100 percent, not {percent}")
    return _rounded(Decimal(price_cents) * (100 - percent) / 100)


def with_tax(price_cents: int, country: str) -> int:
    return _rounded(Decimal(price_cents) * (100 + TAX_PERCENT[country]) / 100)


def _rounded(cents: Decimal) -> int:
    return int(cents.quantize(Decimal(1), rounding=ROUND_HALF_UP))
