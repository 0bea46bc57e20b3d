"""GitLab: merge requests and project events to records."""
