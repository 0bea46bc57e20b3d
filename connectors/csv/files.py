"""A CSV file as batches of records and of bad rows: what the rest of the system calls.

What belongs here: opening a file of a kind, matching its header, and putting its rows together into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import msgspec

from connectors.csv import cells
from connectors.csv.kinds import KINDS, Column, Kind
from connectors.csv.lines import Row, RowReader, check_encoding
from models.errors import BadRecordError, NotCsvError, UsageError
from models.records import Record


class BadRow(msgspec.Struct, frozen=True):
    """A row that is left out: its line as an editor numbers it, the columns that are wrong, and what is wrong."""

    line: int
    columns: tuple[str, ...]
    error: str


class RecordBatch(msgspec.Struct, frozen=True):
    """Some rows of a file, in their order, and how much of the file is read."""

    records: tuple[Any, ...]
    bad_rows: tuple[BadRow, ...]
    done_ratio: float


@contextmanager
def open_csv(path: Path, kind: str) -> Iterator[CsvFile]:
    """Open a file and read its header.

    Args:
        path: of the file; UTF-8, with or without a byte-order mark.
        kind: a name of `KINDS`.

    Raises:
        UsageError: there is no such file or kind.
        NotCsvError: it is not UTF-8, has no header, or its header lacks a mandatory column.
    """
    if kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r} of CSV file; choose one of {', '.join(KINDS)}.")
    if not path.is_file():
        raise UsageError(f"There is no file {path}." if not path.exists() else f"{path} is no file.")
    try:
        check_encoding(path)
        with path.open("rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            yield CsvFile(RowReader(text, path.name), KINDS[kind], path, raw.tell)
    except PermissionError:
        raise UsageError(f"{path} may not be read by this user.") from None


class CsvFile:
    """An open file whose header is understood."""

    def __init__(self, rows: RowReader, kind: Kind, path: Path, tell: Callable[[], int]) -> None:
        self._rows = rows
        self._kind = kind
        self._tell = tell
        self._size_bytes = path.stat().st_size
        self.columns, self.ignored = match_header(rows.header, kind, path.name)
        """Position to column, and the names of columns that mean nothing to us."""

    @property
    def given(self) -> frozenset[str]:
        """Names of the columns that the file has."""
        return frozenset(column.name for column in self.columns.values())

    def batches(self, rows_count: int, zone: tzinfo) -> Iterator[RecordBatch]:
        """Read the rows.

        Args:
            rows_count: of a batch; empty rows do not count.
            zone: of times that name none.
        """
        records: list[Record] = []
        bad_rows: list[BadRow] = []
        for row in self._rows:
            read = self._read(row, zone)
            if isinstance(read, BadRow):
                bad_rows.append(read)
            else:
                records.append(read)
            if len(records) + len(bad_rows) == rows_count:
                yield self._batch(records, bad_rows)
                records, bad_rows = [], []
        if records or bad_rows:
            yield self._batch(records, bad_rows)

    def _batch(self, records: Sequence[Record], bad_rows: Sequence[BadRow]) -> RecordBatch:
        done_ratio = self._tell() / max(self._size_bytes, 1)
        return RecordBatch(tuple(records), tuple(bad_rows), min(done_ratio, 1.0))

    def _read(self, row: Row, zone: tzinfo) -> Record | BadRow:
        if row.error:
            return BadRow(row.line, (), row.error)
        width = len(self._rows.header.cells)
        if len(row.cells) < width or any(cell.strip() for cell in row.cells[width:]):
            return BadRow(
                row.line,
                (),
                f"has {len(row.cells)} cells, and the header has {width}; a text that holds the delimiter "
                f"{self._rows.delimiter!r} or a line break stands in quotes",
            )
        values: dict[str, Any] = {column.name: column.default for column in self._kind.columns}
        wrong: dict[str, str] = {}
        for position, column in self.columns.items():
            try:
                values[column.name] = _value(column, row.cells[position], zone)
            except BadRecordError as error:
                wrong[column.name] = f"{column.name}: {error.message}"
        try:
            if not wrong:
                return self._kind.record(row.line, values)
        except BadRecordError as error:
            wrong[error.message.partition(":")[0]] = error.message
        return BadRow(row.line, tuple(wrong), "; ".join(wrong.values()))


def _value(column: Column, text: str, zone: tzinfo) -> Any:
    cell = cells.clean(text)
    if cell:
        return column.read(cell, zone)
    if column.is_required:
        raise BadRecordError("is empty")
    return column.default


def match_header(header: Row, kind: Kind, name: str) -> tuple[dict[int, Column], list[str]]:
    """Find the columns of a kind in a header, whatever their order, case and spelling of blanks.

    Returns:
        Position to column, and the names of columns that are ignored.

    Raises:
        NotCsvError: a mandatory column is missing, or one comes twice.
    """
    known = {alias: column for column in kind.columns for alias in (column.name, *column.aliases)}
    found: dict[int, Column] = {}
    ignored: list[str] = []
    for position, cell in enumerate(header.cells):
        spelled = "_".join(cells.clean(cell).lower().replace("-", " ").replace("_", " ").split())
        column = known.get(spelled)
        if column is None:
            ignored += [cell.strip()] if cell.strip() else []
        elif column in found.values():
            raise NotCsvError(f"{name} has the column {column.name} twice (line {header.line}, {cell.strip()!r}).")
        else:
            found[position] = column
    given = {column.name for column in found.values()}
    missing = [column.name for column in kind.columns if column.is_required and column.name not in given]
    if not missing and not any(given.issuperset(key) for key in kind.keys):
        missing = [" or ".join(" and ".join(key) for key in kind.keys)]
    if missing:
        has = ", ".join(cell.strip() for cell in header.cells if cell.strip())
        raise NotCsvError(
            f"{name} lacks the column {', '.join(missing)}; its header in line {header.line} has: {has[:500]}."
        )
    return found, ignored
