"""Lets `python -m admin.cli` do what `plumbline` does."""

from __future__ import annotations

from admin.cli.main import main

main()
