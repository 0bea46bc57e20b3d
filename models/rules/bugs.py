"""Which issues are bugs."""

from __future__ import annotations

DEFAULT_BUG_TYPES = ("bug", "defect")
"""Issue types that are bugs unless the connection's option `bug_types` lists others; compared in lower case."""
