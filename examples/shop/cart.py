"""What a customer has chosen."""

from dataclasses import dataclass, field

from shop.pricing import discounted


@dataclass
class Cart:
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Product to (price in cents, quantity)."""
    discount_percent: int = 0

    def add(self, product: str, price_cents: int, quantity: int = 1) -> None:
        if quantity < 1:
            raise ValueError("a quantity is 1 or more")
        already = self.lines.get(product, (price_cents, 0))[1]
        self.lines[product] = (price_cents, already + quantity)

    def remove(self, product: str) -> None:
        self.lines.pop(product, None)

    def total_cents(self) -> int:
        full = sum(price_cents * quantity for price_cents, quantity in self.lines.values())
        return discounted(full, self.discount_percent)
