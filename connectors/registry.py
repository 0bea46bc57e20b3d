"""Which kinds of connection there are. A new connector is a folder and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.allure import streams as allure
from connectors.base import ConnectorKind
from connectors.github import streams as github
from connectors.gitlab import streams as gitlab
from connectors.jira import streams as jira
from models.errors import UsageError

KINDS: Mapping[str, ConnectorKind] = {each.kind: each for each in (allure.KIND, github.KIND, gitlab.KIND, jira.KIND)}
"""Polled sources. What people and CI jobs hand over themselves is of the kind `upload`, which nobody is asked for."""


def kind(name: str) -> ConnectorKind:
    """The kind of that name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(f"There is no kind of connection {name!r}; choose one of {', '.join(KINDS)}.") from None
