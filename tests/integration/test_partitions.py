"""Months of partitioned tables: every row has a place, whatever its time, and a job makes the missing months."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from factories.stack import wait_until
from fakes.worker import InProcessWorker
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from admin.checks import check_partitions
from models.errors import TableBusyError
from models.store import jobs, partitions
from models.store.partitions import first_day, following
from models.store.session import Database
from workers.settings import Settings

pytestmark = pytest.mark.also_on_postgresql_15

ZONES = ("UTC", "Pacific/Kiritimati", "America/Los_Angeles")
INSERT = "INSERT INTO telemetry_events (tenant_id, event_type, occurred_at) SELECT id, :kind, :at FROM tenants"
FORTNIGHT = timedelta(days=14)


def month_after(months: int) -> datetime:
    """The beginning of a month, counted from this one."""
    day = first_day(datetime.now(UTC))
    for _ in range(months):
        day = following(day)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


def write(session: Session, *times: datetime | str) -> None:
    for at in times:
        session.execute(text(INSERT), {"kind": "probe", "at": at})


def places(database: Database) -> dict[str, int]:
    """How many rows each partition of telemetry_events holds that is not empty."""
    with database.transaction() as session:
        found = session.execute(text("SELECT tableoid::regclass::text, count(*) FROM telemetry_events GROUP BY 1"))
        return {name: count for name, count in found}  # noqa: C416  # a row is no tuple of two to the type checker


def place_of(at: datetime) -> str:
    return f"telemetry_events_{at:%Y_%m}"


def ensure(database: Database, *, months: int, limit: int | None = None) -> list[str]:
    now = datetime.now(UTC)
    with database.transaction() as session:
        return partitions.ensure_months(session, now=now, until=month_after(months), limit=limit)


def ensure_patiently(database: Database, *, months: int) -> list[str]:
    """As the job does: one month a transaction, again where a table is busy."""
    made: list[str] = []
    for _ in range(1_000):
        try:
            latest = ensure(database, months=months, limit=1)
        except TableBusyError:
            continue
        if not latest:
            return made
        made += latest
    pytest.fail("it does not end")


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[InProcessWorker]:
    with InProcessWorker(database, settings) as running:
        yield running


def test_every_row_has_its_month_in_utc_whatever_the_session_s_time_zone_is(database: Database) -> None:
    this, following_one = month_after(0), month_after(1)
    blink = timedelta(microseconds=1)
    times = (this - blink, this, following_one - blink, following_one)
    made = {}
    for number, zone in enumerate(ZONES, start=4):  # the months until the third from now are there already
        with database.transaction() as session:
            session.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
            write(session, *times, month_after(number) - blink, month_after(number))
            now = datetime.now(UTC)
            made[zone] = partitions.ensure_months(session, now=now, until=month_after(number))
            assert partitions.ensure_months(session, now=now, until=month_after(number)) == []
            assert partitions.overdue(session, now=now) == []
    for number, zone in enumerate(ZONES, start=4):
        assert made[zone] == [f"{table}_{month_after(number):%Y_%m}" for table in partitions.TABLES]
    assert places(database) == {
        place_of(this - blink): 3,
        place_of(this): 6,
        place_of(following_one): 3,
        place_of(month_after(3)): 1,
        place_of(month_after(4)): 2,
        place_of(month_after(5)): 2,
        place_of(month_after(6)): 1,
    }


def test_rows_without_a_month_are_kept_told_of_and_moved_by_the_job(
    database: Database, worker: InProcessWorker
) -> None:
    assert check_partitions(database).is_ok
    ahead, past = month_after(60) + FORTNIGHT, month_after(0) - timedelta(days=1_000)
    with database.transaction() as session:
        write(session, ahead, ahead, past, month_after(1), "infinity", "20000-01-01 00:00+00")
        rows = session.execute(text("SELECT t::text FROM telemetry_events t ORDER BY id")).all()
    assert places(database) == {"telemetry_events_default": 5, place_of(month_after(1)): 1}
    with database.transaction() as session:
        assert partitions.are_visible(session)
        session.execute(text("SET LOCAL ROLE plumbline_workers"))
        assert not partitions.are_visible(session), "who sees none must not say that there are none"
    found = check_partitions(database)
    assert (found.is_ok, found.facts["default_rows"]) == (False, {"telemetry_events": 5})
    assert found.detail == "5 rows of telemetry_events are in no month"
    assert found.mend == "plumbline jobs run maintain.create_partitions --wait"
    for _ in range(2):
        worker.run("maintain.create_partitions")
        assert places(database) == {
            "telemetry_events_default": 2,  # no month is made for what cannot be true
            place_of(ahead): 2,
            place_of(past): 1,
            place_of(month_after(1)): 1,
        }
    with database.transaction() as session:
        assert session.execute(text("SELECT t::text FROM telemetry_events t ORDER BY id")).all() == rows
        session.execute(text("DELETE FROM telemetry_events WHERE occurred_at > now() + interval '10 years'"))
    assert check_partitions(database).is_ok


def test_a_new_month_is_like_its_siblings(database: Database) -> None:
    made = ensure(database, months=4)
    assert len(made) == len(partitions.TABLES)
    like = text(
        "SELECT count(*), bool_or(relrowsecurity) AS is_closed, "
        "(SELECT string_agg(pg_get_constraintdef(oid), ';' ORDER BY pg_get_constraintdef(oid)) "
        "FROM pg_constraint WHERE conrelid = CAST(:name AS regclass) AND contype <> 'n') "
        "FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE indrelid = CAST(:name AS regclass)"
    )
    with database.transaction() as session:
        for name in made:
            old = name.replace(f"{month_after(4):%Y_%m}", f"{month_after(3):%Y_%m}")
            new, sibling = (session.execute(like, {"name": each}).one() for each in (name, old))
            assert new == sibling
            assert new.is_closed
        queued = jobs.insert(session, task="x", queue="urgent", args={}, trigger="cli")
        session.execute(
            text("UPDATE job_runs SET created_at = :at WHERE id = :id"), {"id": queued, "at": month_after(4)}
        )
        assert queued is not None
        assert jobs.get(session, queued).created_at == month_after(4)
        assert jobs.insert(session, task="x", queue="urgent", args={}, trigger="cli") == queued + 1


def test_many_at_once_make_each_month_once_while_others_write(database: Database) -> None:
    first, last = month_after(4), month_after(7)
    written: list[datetime] = []
    is_over = threading.Event()

    def keep_writing() -> None:
        while not is_over.is_set():
            for number in range(3, 8):
                at = month_after(number) + FORTNIGHT
                with database.transaction() as session:
                    write(session, at)
                written.append(at)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(keep_writing) for _ in range(2)]
        wait_until(lambda: len(written) > 20, seconds=30, what="rows wait in the default partition")
        try:
            made = [
                name for names in pool.map(lambda _: ensure_patiently(database, months=7), range(2)) for name in names
            ]
        finally:
            is_over.set()
        for writer in writers:
            writer.result(30)  # no insert failed
    assert len(made) == len(set(made)) == 4 * len(partitions.TABLES)
    assert {place_of(first), place_of(last)} <= set(made)
    assert places(database) == {place_of(at): written.count(at) for at in written}


def test_a_job_that_is_killed_half_way_leaves_all_as_it_was(database: Database, worker: InProcessWorker) -> None:
    ahead = month_after(9) + FORTNIGHT
    with database.transaction() as session:
        write(session, ahead)
    with database.engine.connect() as connection:
        session = Session(connection)
        made = partitions.ensure_months(session, now=datetime.now(UTC), until=month_after(4))
        assert place_of(ahead) in made
        with database.transaction() as other:
            other.execute(
                text("SELECT pg_terminate_backend(:pid)"),
                {"pid": session.execute(text("SELECT pg_backend_pid()")).scalar_one()},
            )
        with pytest.raises(DBAPIError):
            session.execute(text("COMMIT"))
        connection.invalidate()
    assert places(database) == {"telemetry_events_default": 1}
    worker.run("maintain.create_partitions")
    assert places(database) == {place_of(ahead): 1}


def test_a_busy_table_is_given_way_to_and_tried_again(database: Database, worker: InProcessWorker) -> None:
    with database.transaction() as session:
        write(session, month_after(9))
    with database.transaction() as long_one:
        write(long_one, month_after(1))
        with pytest.raises(TableBusyError):
            ensure(database, months=3)
        with database.transaction() as session:  # and nobody stands in line behind the one who gave way
            session.execute(text("SET LOCAL lock_timeout = '100ms'"))
            write(session, month_after(9))
    worker.run("maintain.create_partitions")
    assert places(database) == {place_of(month_after(9)): 2, place_of(month_after(1)): 1}


def test_a_month_that_is_missing_is_told_of_and_its_old_name_may_be_taken(database: Database) -> None:
    gone = place_of(month_after(1))
    with database.transaction() as session:
        write(session, month_after(1))
        session.execute(text(f"ALTER TABLE telemetry_events DETACH PARTITION {gone}"))
        write(session, month_after(1))
    found = check_partitions(database)
    assert found.detail == "months are missing in telemetry_events; 1 rows of telemetry_events are in no month"
    assert ensure(database, months=3) == [f"{gone}_2"]
    assert places(database) == {f"{gone}_2": 1}
    assert check_partitions(database).is_ok
