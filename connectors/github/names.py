"""Names of the streams of GitHub: ours, as far as another source has them too."""

MERGE_REQUESTS = "merge_requests"
"""GitHub calls them pull requests."""
ISSUES = "issues"
STATUSES = "statuses"
