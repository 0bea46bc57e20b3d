"""GitHub: pull requests, issues, workflow runs and deployments to records."""
