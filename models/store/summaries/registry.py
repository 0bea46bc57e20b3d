"""Every summary and read model, by name. A new one needs its module, its line here, and its triggers in a migration."""

from __future__ import annotations

from models.store.summaries import (
    bug_analytics_daily,
    gitlab_mr_contributors,
    jira_lead_times,
    monthly_contributions,
    test_execution_summary,
    test_runs_view,
)
from models.store.summaries.definition import Summary

SUMMARIES: dict[str, Summary] = {
    module.SUMMARY.name: module.SUMMARY
    for module in (
        jira_lead_times,
        bug_analytics_daily,
        test_execution_summary,
        gitlab_mr_contributors,
        monthly_contributions,
        test_runs_view,
    )
}
