"""Every measure by name, for those who explain a number."""

from __future__ import annotations

from models.measures import (
    bug_budget,
    bugs,
    business_time,
    delivery,
    issues,
    merge_requests,
    pass_rates,
    scores,
    sla,
)
from models.measures.definition import Measure

MEASURES: dict[str, tuple[Measure, ...]] = {
    module.__name__.rpartition(".")[2]: module.MEASURES
    for module in (business_time, merge_requests, issues, bugs, sla, bug_budget, scores, delivery, pass_rates)
}
"""By subject. A name may stand under two subjects: a lead time of issues is not one of merge requests."""
