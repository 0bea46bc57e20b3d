"""How commands print: one JSON document, tables, and nothing that steers a terminal."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from admin.cli import output

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_json_is_one_document_with_utc_times_and_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(
        {
            "at": datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))),
            "on": date(2026, 3, 1),
            "for": timedelta(minutes=1.5),
            "hours": Decimal("1.50"),
            "name": "Bücher",
        }
    )
    printed = capsys.readouterr()
    assert printed.err == ""
    assert json.loads(printed.out) == {
        "at": "2026-03-01T12:00:00Z",
        "on": "2026-03-01",
        "for": 90.0,
        "hours": 1.5,
        "name": "Bücher",
    }


def test_a_list_without_rows_is_an_empty_json_list(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([], columns={"a": "a"}, as_json=True, empty="There are none.")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_table_without_rows_is_a_remark_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([], columns={"a": "a"}, as_json=False, empty="There are none.")
    assert capsys.readouterr() == ("", "There are none.\n")


def test_a_table_shows_what_came_from_a_source_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[bold]x[/bold] \x1b[31mred\x1b[0m\x07"
    output.print_rows([{"title": hostile, "n": 5}], columns={"title": "title", "n": "n"}, as_json=False)
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_table_in_a_pipe_does_not_cut_or_fold_words(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 60
    output.print_rows([{"text": long}], columns={"text": "text"}, as_json=False)
    assert long.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (0.5, "0.5"),
        (datetime(2026, 3, 1, 12, 0, 7, 999, tzinfo=UTC), "2026-03-01 12:00:07"),
        ({"a": NOW}, '{"a": "2026-03-01T12:00:00Z"}'),
        ("a\rb", "a�b"),
    ],
)
def test_values_read_as_people_write_them(value: object, shown: str) -> None:
    assert output.readable(value) == shown


@pytest.mark.parametrize(
    ("since", "said"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=3, hours=5), "3 d"),
    ],
)
def test_a_span_is_told_in_one_unit(since: timedelta, said: str) -> None:
    assert output.ago(NOW - since, NOW) == said
