"""The `plumbline` command: one module a noun, each with a Typer `app` that `main.py` includes."""
