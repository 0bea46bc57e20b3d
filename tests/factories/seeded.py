"""The made-up companies that tests read: a large tenant and a small one, each with a year of past before AS_OF."""

from __future__ import annotations

from datetime import date

from admin.seed.company import Plan

AS_OF = date(2026, 3, 1)
PLANS = tuple(
    Plan.of_size(tenant, engineers=engineers, years=1, seed=1, as_of=AS_OF, results=engineers * 500)
    for tenant, engineers in (("Larkspur Logistics", 16), ("Pebble Studio", 3))
)
