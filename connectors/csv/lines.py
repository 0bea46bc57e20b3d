"""The lines of a CSV file: its encoding, its delimiter, and rows of cells with the line that each begins on.

What belongs here: bytes to rows, in bounded memory however the file is broken. What does not: what a cell means
(cells.py) and which columns there are (kinds.py).
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from models.errors import NotCsvError

ROW_CHARACTERS = 1 << 20
"""More than any row has; what is longer is a quote that was never closed, or no CSV."""
BLOCK_BYTES = 1 << 20
DELIMITERS = (",", ";", "\t")

_SEPARATOR_LINE = re.compile(r"sep=([,;\t])\s*")
_QUOTED = re.compile(r'"[^"]*"?')
_WIDE_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class Row(msgspec.Struct, frozen=True):
    """The cells of a row and the line that it begins on, as an editor numbers it; or why it cannot be read."""

    line: int
    cells: list[str]
    error: str | None = None


def check_encoding(path: Path) -> None:
    """Read a whole file once, and make sure that it is text in UTF-8.

    Raises:
        NotCsvError: it is not; the message names the first bad line.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines_before = 0
    last = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if not last:
                _refuse_wide_encodings(path, block)
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                _refuse(path, lines_before + _line_ends(error.object[: error.start], last), error)
            lines_before += _line_ends(block, last)
            last = block[-1:]
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        _refuse(path, lines_before, error)


def _refuse(path: Path, lines_before: int, error: UnicodeDecodeError) -> None:
    raise NotCsvError(
        f"{path.name}: line {lines_before + 1} is not UTF-8 (byte 0x{error.object[error.start]:02X}); "
        'save the file as "CSV UTF-8" and import it again.'
    ) from None


def _refuse_wide_encodings(path: Path, block: bytes) -> None:
    found = next((name for mark, name in _WIDE_ENCODINGS.items() if block.startswith(mark)), None)
    if found is None and b"\x00" in block.partition(b"\n")[0]:
        found = "UTF-16 or no text"
    if found:
        raise NotCsvError(f'{path.name} is {found}; save the file as "CSV UTF-8" and import it again.')


def _line_ends(block: bytes, last: bytes) -> int:
    """How many lines end in a block: with LF, CR LF or CR, as editors and Python count."""
    pairs = block.count(b"\r\n") + (last == b"\r" and block.startswith(b"\n"))
    return block.count(b"\n") + block.count(b"\r") - pairs


class RowReader:
    """Reads the rows of a text in order. One row that is broken costs that row, and memory stays bounded."""

    def __init__(self, text: TextIO, name: str) -> None:
        """Read the header.

        Args:
            text: opened with `newline=""`, at its beginning.
            name: of the file, for errors.

        Raises:
            NotCsvError: there is no header.
        """
        self._lines = _Lines(text)
        first = self._first_line(name)
        separator = _SEPARATOR_LINE.fullmatch(first)
        if separator:  # how Excel is told the delimiter
            first = self._first_line(name)
        self.delimiter = separator[1] if separator else sniffed_delimiter(first)
        self._lines.begin_row()
        self._lines.give_back(first)
        # The module's own limit for a cell is 128 KiB, which is more than any column takes.
        self._csv = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        header = next(self, None)
        if header is None or header.error:
            raise NotCsvError(f"{name} has no header that can be read: {header.error if header else 'it is empty'}.")
        self.header = header

    def _first_line(self, name: str) -> str:
        for line in self._lines:
            if line.strip():
                return line
            self._lines.begin_row()
        raise NotCsvError(f"{name} is empty: its first line must name the columns.")

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        while True:
            self._lines.begin_row()
            line = self._lines.number + 1
            try:
                cells = next(self._csv)
            except csv.Error as error:
                # What follows a quote that is never closed was swallowed with it, and is read again.
                self._lines.give_back_all_but_one()
                return Row(line, [], _reason(error))
            if any(cell.strip() for cell in cells):  # spreadsheets end with rows of nothing but delimiters
                return Row(line, cells)


def sniffed_delimiter(header: str) -> str:
    """The delimiter that stands most often in a header, outside quotes."""
    bare = _QUOTED.sub("", header)
    return max(DELIMITERS, key=bare.count)


def _reason(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end" in message or "field larger" in message or "row longer" in message:
        return "a quote is opened and never closed, or the row is too long; a quote inside a text is written twice"
    return f"{message}; a quote inside a text is written twice"


class _Lines:
    """Feeds the csv module with lines, counts them, and takes back those that it read in vain."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._returned: deque[str] = deque()
        self._taken: list[str] = []
        self._characters = 0
        self.number = 0
        """Of the line that was given out last."""

    def begin_row(self) -> None:
        self._taken.clear()
        self._characters = 0

    def give_back(self, line: str) -> None:
        self._returned.appendleft(line)
        self.number -= 1

    def give_back_all_but_one(self) -> None:
        for line in reversed(self._taken[1:]):
            self.give_back(line)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self._taken.append(line)
        self._characters += len(line)
        if self._characters > ROW_CHARACTERS:
            raise csv.Error("row longer than anything that a row holds")
        return line

    def _read(self) -> str:
        line = self._text.readline(ROW_CHARACTERS + 1)
        part = line
        while len(part) == ROW_CHARACTERS + 1 and part[-1] not in "\r\n":  # the rest of a line without an end
            part = self._text.readline(ROW_CHARACTERS + 1)
        return line
