"""Jira Cloud and Data Center: issues with their whole changelog to records."""
