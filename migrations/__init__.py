"""Alembic migrations; they import nothing of ours."""
