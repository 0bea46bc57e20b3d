"""Names of databases of one server."""

from __future__ import annotations

from sqlalchemy.engine import make_url


def database_url(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)
