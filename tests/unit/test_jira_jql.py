"""What `connectors.jira.jql` asks for: never less than was meant, however the server reads the clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.jira.jql import quoted, updated_between, with_ids

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/St_Johns",
        "Australia/Lord_Howe",  # its clocks go back by half an hour
        "Antarctica/Troll",  # and here by two
        "Pacific/Kiritimati",
        "Asia/Kathmandu",
    )
]
instants = st.integers(min_value=1_420_000_000_000, max_value=1_900_000_000_000).map(
    lambda milliseconds: datetime.fromtimestamp(milliseconds / 1000, UTC)
)


def readings(literal: str, zone: ZoneInfo) -> list[datetime]:
    """The instants that a server may take a literal for."""
    local = datetime.strptime(literal, "%Y/%m/%d %H:%M").replace(tzinfo=zone)
    return [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


def test_times_are_written_in_the_zone_of_the_account_to_the_minute() -> None:
    since, until = datetime(2024, 7, 1, 10, 0, 59, tzinfo=UTC), datetime(2024, 7, 1, 11, 0, 1, tzinfo=UTC)

    assert updated_between("AB", since, until, BERLIN) == (
        'project = "AB" AND updated >= "2024/07/01 12:00" AND updated < "2024/07/01 13:01"'
    )


def test_a_whole_minute_is_its_own_ceiling() -> None:
    until = datetime(2024, 7, 1, 11, tzinfo=UTC)

    assert 'updated < "2024/07/01 11:00"' in updated_between("AB", None, until, ZoneInfo("UTC"))


def test_a_window_without_edges_asks_for_the_whole_project() -> None:
    assert updated_between("AB", None, None, None) == 'project = "AB"'


def test_in_the_doubled_hour_the_left_edge_moves_an_hour_back() -> None:
    first = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # 02:30 the first time
    second = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)  # 02:30 the second time

    assert 'updated >= "2024/10/27 01:30"' in updated_between("AB", first, None, BERLIN)
    # Read as the first 02:30, which it may be, this finds an hour too much; read as the second, exactly enough.
    assert 'updated >= "2024/10/27 02:30"' in updated_between("AB", second, None, BERLIN)


def test_in_the_doubled_hour_the_right_edge_moves_an_hour_on() -> None:
    second = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)

    assert 'updated < "2024/10/27 03:30"' in updated_between("AB", None, second, BERLIN)


@pytest.mark.parametrize("zone", ZONES, ids=str)
@given(since=instants, length=st.timedeltas(min_value=timedelta(), max_value=timedelta(days=3)))
def test_no_reading_of_a_query_leaves_out_a_part_of_the_window(
    zone: ZoneInfo, since: datetime, length: timedelta
) -> None:
    until = since + length

    left, right = re.findall(r'"(\d{4}/.{11})"', updated_between("AB", since, until, zone))

    assert max(readings(left, zone)) <= since
    assert min(readings(right, zone)) >= until
    assert min(readings(left, zone)) > since - timedelta(hours=5)
    assert max(readings(right, zone)) < until + timedelta(hours=5)


@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_a_hidden_zone_is_made_up_for_by_slack(zone: ZoneInfo) -> None:
    since, until = datetime(2024, 7, 1, 10, tzinfo=UTC), datetime(2024, 7, 2, 10, tzinfo=UTC)

    left, right = re.findall(r'"(\d{4}/.{11})"', updated_between("AB", since, until, None))

    assert max(readings(left, zone)) <= since
    assert min(readings(right, zone)) >= until


def test_project_keys_are_quoted_and_cannot_break_out() -> None:
    assert updated_between("AND", None, None, None) == 'project = "AND"'
    assert quoted('a" OR project != "\\') == '"a\\" OR project != \\"\\\\"'


def test_ids_are_numbers() -> None:
    assert with_ids(("10", "9")) == "id in (10, 9) ORDER BY created ASC, key ASC"
    with pytest.raises(ValueError, match="invalid literal"):
        with_ids(("1) OR (1=1",))
