"""Check the documents: every link, path and command that they name exists.

    python docs/check.py

Prints each mistake with its file and line, and exits 1 where there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import typer
from typer.core import TyperGroup

from admin.cli.main import MODULES, app, include

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:admin|tasks|workers|connectors|models|migrations|tests|docs|benchmarks|examples)/[\w./-]*\w)`")
BARE_TEST = re.compile(r"\b(tests/[\w/]+\.py)\b")
TARGET = re.compile(r"`make ([a-z-]+)`|^make ([a-z-]+)", re.MULTILINE)
COMMAND = re.compile(r"plumbline ((?:[a-z][a-z-]*(?=[ \n`]) ?){1,2})")


def documents() -> list[Path]:
    """README and everything below docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]


def mistakes(document: Path, commands: TyperGroup, targets: set[str]) -> list[tuple[int, str]]:
    """Line number and sentence of each thing that a document names and that is not there."""
    text = document.read_text()
    found: list[tuple[int, str]] = []

    def note(position: int, sentence: str) -> None:
        found.append((text.count("\n", 0, position) + 1, sentence))

    for match in LINK.finditer(text):
        if "://" not in match[1] and not (document.parent / match[1]).exists():
            note(match.start(), f"links to {match[1]}, which does not exist")
    for pattern in (PATH, BARE_TEST):
        for match in pattern.finditer(text):
            if not (ROOT / match[1]).exists():
                note(match.start(), f"names {match[1]}, which does not exist")
    for match in TARGET.finditer(text):
        if (match[1] or match[2]) not in targets:
            note(match.start(), f"names the target {match[1] or match[2]}, which the Makefile does not have")
    for match in COMMAND.finditer(text):
        words = match[1].split()
        command = commands.commands.get(words[0])
        if command is None:
            note(match.start(), f"names the command {words[0]}, which plumbline does not have")
        elif isinstance(command, TyperGroup) and len(words) > 1 and words[1] not in command.commands:
            note(match.start(), f"names the command {' '.join(words)}, which plumbline does not have")
    return found


def main() -> int:
    """Check all documents; returns the exit code."""
    include(MODULES)
    commands = typer.main.get_command(app)
    assert isinstance(commands, TyperGroup)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    count = 0
    for document in documents():
        for line, sentence in mistakes(document, commands, targets):
            print(f"{document.relative_to(ROOT)}:{line}: {sentence}")
            count += 1
    print(f"{len(documents())} documents checked, {count} mistakes")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
