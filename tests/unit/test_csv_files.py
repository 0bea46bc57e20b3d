"""CSV files as people and spreadsheets write them, well and badly."""

from __future__ import annotations

import csv
import io
import tracemalloc
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.csv import kinds
from connectors.csv.files import BadRow, open_csv
from connectors.csv.lines import ROW_CHARACTERS, sniffed_delimiter
from models.errors import NotCsvError, UsageError
from models.tables import jira, testing

HEADER = "key,summary,status,created\n"
BERLIN = ZoneInfo("Europe/Berlin")


class Read:
    """What a file gave."""

    def __init__(self, path: Path, kind: str, zone: ZoneInfo, batch_size: int = 100) -> None:
        self.records: list[Any] = []
        self.bad: list[BadRow] = []
        with open_csv(path, kind) as file:
            self.ignored = file.ignored
            self.given = file.given
            for batch in file.batches(batch_size, zone):
                self.records += batch.records
                self.bad += batch.bad_rows
                assert 0 < batch.done_ratio <= 1
        self.keys = [getattr(each, "key", None) or each.name for each in self.records]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_text(content: str | bytes, kind: str = "bugs", zone: ZoneInfo = BERLIN) -> Read:
        path = tmp_path / "file.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Read(path, kind, zone)

    return read_text


def test_a_plain_file_becomes_records_with_their_lines(read: Any) -> None:
    result = read(HEADER + "AB-1,Breaks,Open,2026-01-31\nAB-2,Hangs,Done,2026-02-01T10:00:00Z\n")
    assert not result.bad
    assert [(each.line, each.key, each.summary) for each in result.records] == [
        (2, "AB-1", "Breaks"),
        (3, "AB-2", "Hangs"),
    ]
    first = result.records[0]
    assert first.created_at == datetime(2026, 1, 30, 23, tzinfo=UTC)
    assert (first.severity, first.issue_type, first.status_category, first.labels) == ("medium", "Bug", "new", ())
    assert first.updated_at == first.created_at


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiter_mark_and_line_ends_are_found_out(read: Any, delimiter: str, mark: bytes, line_end: str) -> None:
    lines = ['key,summary,status,"created"', 'AB-1,"a;b,c\td",Open,2026-01-31', "", "AB-2,x,Open,never"]
    text = line_end.join(line if delimiter == "," else line.replace(",", delimiter) for line in lines)
    result = read(mark + text.encode())
    assert result.keys == ["AB-1"]
    assert [each.line for each in result.bad] == [4]


def test_a_delimiter_within_quotes_of_the_header_does_not_count() -> None:
    assert sniffed_delimiter('"a,b,c,d";key;status') == ";"
    assert sniffed_delimiter("key") == ","


def test_columns_come_in_any_order_case_and_name_and_strange_ones_are_ignored(read: Any) -> None:
    result = read("Issue Key; STATUS ;Colour;Created-Date;Title;;\nAB-1;Open;red;2026-01-31;Breaks;;\n")
    assert result.keys == ["AB-1"]
    assert result.ignored == ["Colour"]
    assert result.given == {"key", "status", "created", "summary"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file.csv is empty"),
        (b"\n\r\n", "file.csv is empty"),
        (b"key,summary,created\n", r"lacks the column status; its header in line 1 has: key, summary, created\."),
        (b"key;key,x\n", "lacks the column"),
        (b"key,issue key,summary,status,created\n", r"has the column key twice \(line 1, 'issue key'\)"),
        ("key,summary\n".encode("utf-16"), r'is UTF-16; save the file as "CSV UTF-8"'),
        ("key,summary\n".encode("utf-16-le"), "is UTF-16 or no text"),
        ("key,summary\n".encode("utf-32"), "is UTF-32"),
        (HEADER.encode() + b"AB-1,ok,Open,2026-01-31\r\nAB-2,sch\xf6n\n", r"line 3 is not UTF-8 \(byte 0xF6\)"),
        (HEADER.encode() + b"AB-1,\xe2\x82", "line 2 is not UTF-8"),
        (b'key,"summary\n', "no header that can be read: a quote is opened and never closed"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(read: Any, content: bytes, message: str) -> None:
    with pytest.raises(NotCsvError, match=message):
        read(content)


def test_the_line_of_a_bad_byte_is_right_behind_the_first_block(read: Any) -> None:
    line = "AB-1," + "x" * 994 + ",Open,2026-01-31\r\n"
    content = HEADER.encode() + line.encode() * 3_000 + b"AB-\xff\n"
    with pytest.raises(NotCsvError, match="line 3002 is not UTF-8"):
        read(content)


def test_a_file_or_kind_that_does_not_exist_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"), open_csv(tmp_path / "none.csv", "bugs"):
        pass
    with pytest.raises(UsageError, match="is no file"), open_csv(tmp_path, "bugs"):
        pass
    with pytest.raises(UsageError, match="choose one of bugs, test-cases"), open_csv(tmp_path, "bug"):
        pass


def test_a_quoted_line_break_counts_as_a_line_of_the_editor(read: Any) -> None:
    result = read(HEADER + 'AB-1,"one\ntwo\r\nthree",Open,2026-01-31\nAB-2,x,Open,soon\n')
    assert result.records[0].summary == "one\ntwo\r\nthree"
    assert [each.line for each in result.bad] == [5]


@pytest.mark.parametrize(
    ("cell", "column", "message"),
    [
        ("31.01.2026", "created", "'31.01.2026' is no time; write a date or time such as 2026-01-31 or"),
        ("01/02/2026", "created", "is no time"),
        ("2026-02-30", "created", "is no time"),
        ("20260131", "created", "is no time"),
        ("2026-01-31T25:00", "created", "is no time"),
        ("0001-01-01T00:00:00+14:00", "created", "is no time"),
        ("", "created", "created: is empty"),
        ("severe", "severity", "'severe' is not allowed; allowed are: critical, high, medium, low"),
        ("started", "status_category", "allowed are: new, indeterminate, done, to do, in progress"),
        ("1.2.2026", "due", "'1.2.2026' is no date; write one such as 2026-01-31"),
        ("2026-01-31T00:00", "due", "is no date"),
        ("x\x00y", "summary", "holds a control character"),
        ("x" * 2_001, "summary", "has 2,001 characters; at most 2,000 are allowed"),
        ("K" * 256, "key", "at most 255"),
    ],
)
def test_a_cell_that_is_wrong_says_what_is_allowed(read: Any, cell: str, column: str, message: str) -> None:
    good = {"key": "AB-1", "summary": "x", "status": "Open", "created": "2026-01-31"}
    columns = {**good, column: cell}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([list(columns), list(columns.values()), [{**good, column: ""}.get(name) for name in columns]])
    result = read(text.getvalue())
    assert (result.bad[0].line, result.bad[0].columns) == (2, (column,))
    assert message in result.bad[0].error
    assert len(result.bad[0].error) < 200


def test_all_that_is_wrong_with_a_row_is_told_at_once(read: Any) -> None:
    result = read("key,summary,status,created,severity\n,x,Open,yesterday,awful\n")
    assert result.bad[0].columns == ("key", "created", "severity")
    assert result.bad[0].error.startswith("key: is empty; created: 'yesterday' is no time; write ")


def test_times_with_a_zone_keep_it_and_others_are_the_projects(read: Any) -> None:
    moments = ["2026-07-01T12:00", "2026-07-01 12:00:00.5+02:00", "2026-07-01T12:00Z", "2026-07-01"]
    result = read(HEADER + "".join(f"AB-{n},x,Open,{moment}\n" for n, moment in enumerate(moments)))
    assert [each.created_at for each in result.records] == [
        datetime(2026, 7, 1, 10, tzinfo=UTC),
        datetime(2026, 7, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        datetime(2026, 7, 1, 12, tzinfo=UTC),
        datetime(2026, 6, 30, 22, tzinfo=UTC),
    ]


def test_hours_that_a_clock_shows_twice_or_never_have_one_meaning(read: Any) -> None:
    result = read(HEADER + "AB-1,x,Open,2026-10-25T02:30\nAB-2,x,Open,2026-03-29T02:30\n")
    assert [each.created_at for each in result.records] == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        ("AB-1,2026-02-01,2026-01-31,", "resolved: lies before created"),
        ("AB-1,2026-02-01,2026-02-02,new", "resolved: is given, and the status_category is 'new'"),
    ],
)
def test_times_of_a_bug_that_contradict_each_other_are_refused(read: Any, cells: str, error: str) -> None:
    header = "summary,status,key,created,resolved,status_category\n"
    assert error in read(header + f"x,Open,{cells}\n").bad[0].error


def test_a_resolved_bug_is_done(read: Any) -> None:
    result = read("key,summary,status,created,resolved\nAB-1,x,Closed,2026-02-01,2026-02-03\n")
    assert result.records[0].status_category == "done"
    assert result.records[0].updated_at == result.records[0].resolved_at


def test_spreadsheet_habits_are_understood(read: Any) -> None:
    result = read(
        "sep=;\r\nkey;summary;status;created;severity;;\r\n"
        '="007";"say ""hi""; now";\xa0Open\xa0;2026-01-31;HIGH;;\r\n'
        ";;;;;;\r\n"
        "AB-2;x;Open;2026-01-31;\r\n"
        "AB-3;x;Open;2026-01-31;;;;\r\n"
    )
    first = result.records[0]
    assert (first.key, first.summary, first.status, first.severity) == ("007", 'say "hi"; now', "Open", "high")
    assert [(each.line, "has 5 cells, and the header has 7" in each.error) for each in result.bad] == [(5, True)]
    assert result.keys == ["007", "AB-3"]


def test_a_stray_quote_costs_its_own_row_only(read: Any) -> None:
    rows = ["AB-1,x,Open,2026-01-31", 'AB-2,"x,Open,2026-01-31', "AB-3,y,Open,2026-01-31", 'AB-4,"a"b,Open,2026-01-31']
    result = read(HEADER + "\n".join([*rows, "AB-5,z,Open,2026-01-31"]))
    assert result.keys == ["AB-1", "AB-3", "AB-5"]
    assert [each.line for each in result.bad] == [3, 5]
    assert "a quote" in result.bad[0].error


def test_a_cell_or_line_that_is_too_long_costs_its_own_row_only(read: Any) -> None:
    long_cell = "AB-1,x,Open,2026-01-31," + "y" * 140_000
    long_line = "AB-2," + "z" * (2 * ROW_CHARACTERS)
    result = read("key,summary,status,created,description\n" + f"{long_cell}\n{long_line}\nAB-3,x,Open,2026-01-31,\n")
    assert [each.line for each in result.bad] == [2, 3]
    assert result.keys == ["AB-3"]


def test_a_quote_that_is_never_closed_in_a_large_file_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    with path.open("w") as file:
        file.write(HEADER + 'AB-0,"never closed,Open,2026-01-31\n')
        file.writelines(f"AB-{n},x,Open,2026-01-31\n" for n in range(1, 60_000))
    tracemalloc.start()
    try:
        with open_csv(path, "bugs") as file:
            counts = [(len(batch.records), len(batch.bad_rows)) for batch in file.batches(1_000, BERLIN)]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(good for good, _ in counts) == 59_999
    assert sum(bad for _, bad in counts) == 1
    assert peak_bytes < 6_000_000


def test_test_cases_are_known_by_a_key_or_by_path_and_name(read: Any) -> None:
    result = read(
        "key,path,name,title,priority,automated,regression,labels,suite\n"
        'C1,,,Log in,high,,no,"smoke, ui;smoke",Login\n'
        ",tests/test_pay.py,test_pays,,3,yes,,,\n"
        ",tests/test_pay.py,,Pays,,,,,\n"
        "C2,,,,,,,,\n"
        "C3,,,x,urgent,,,,\n",
        kind="test-cases",
    )
    first, second = result.records
    assert (first.path, first.name, first.framework, first.title) == ("", "C1", "manual", "Log in")
    assert (first.priority, first.automated, first.regression, first.labels) == (1, False, False, ("smoke", "ui"))
    assert (second.path, second.name, second.title, second.automated) == (
        "tests/test_pay.py", "test_pays", "test_pays", True,
    )  # fmt: skip
    assert [(each.line, each.columns) for each in result.bad] == [(4, ("key",)), (5, ("title",)), (6, ("priority",))]
    with pytest.raises(NotCsvError, match="lacks the column key and title or path and name"):
        read("title,path\nx,y\n", kind="test-cases")


def test_allowed_words_are_those_of_the_tables() -> None:
    assert kinds.SEVERITIES == jira.SEVERITIES
    assert tuple(dict.fromkeys(kinds.STATUS_CATEGORIES.values())) == jira.STATUS_CATEGORIES
    assert kinds.DEFECT_STAGES == testing.DEFECT_STAGES


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(
    lambda text: "x" + text.strip() + "x"
)
moments = st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year > 1)
bugs = st.fixed_dictionaries(
    {
        "key": texts,
        "summary": texts.map(lambda text: text.replace("x", 'x"\n;,\t', 1)),
        "status": texts,
        "created": moments,
        "severity": st.sampled_from(jira.SEVERITIES),
        "due": st.none() | st.dates(date(1990, 1, 1), date(2090, 1, 1)),
        "description": st.none() | texts,
        "labels": st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=3),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(bugs, max_size=8), st.sampled_from([",", ";", "\t"]), st.booleans(), st.randoms())
def test_what_is_written_is_what_is_read_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], delimiter: str, has_mark: bool, random: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    columns = ["key", "summary", "status", "created", "severity", "due", "description", "labels"]
    random.shuffle(columns)
    with path.open("w", encoding="utf-8-sig" if has_mark else "utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        for row in rows:
            values = {**row, "created": row["created"].isoformat(), "labels": ";".join(row["labels"])}
            writer.writerow([values[name] for name in columns])
    result = Read(path, "bugs", BERLIN, batch_size=3)
    assert not result.bad
    assert [
        (
            each.key, each.summary, each.status, each.created_at, each.severity, each.due_on, each.description,
            each.labels,
        )
        for each in result.records
    ] == [
        (
            row["key"], row["summary"].strip(), row["status"], row["created"], row["severity"], row["due"],
            row["description"], tuple(row["labels"]),
        )
        for row in rows
    ]  # fmt: skip
