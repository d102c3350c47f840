"""Small cases worked by hand, from the rows that partners deliver to what a reader finds in the marts.

Each file beside this one has the cases of a family, with the rule, its source and the arithmetic; tests/golden/README.md
says how to write one. Files with the same dates share an installation: their rows come in through the gate and are built
and released once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, freshness
from sampan.marts import build, release
from sampan.settings import read_yaml, settings

from infra.local.s3 import EmbeddedS3
from tests.conftest import Sampan, installed, without_data_tests
from tests.factory import Row, encode, plain, rows
from tests.integration.marts.test_engines import builds_the_same
from tests.integration.published import DEFAULTS

FOLDER = Path(__file__).resolve().parent
KEYS = {"name", "finding", "rule", "source", "arithmetic", "given", "query", "want"}


@dataclass(frozen=True)
class Case:
    """One case: rows by feed, a query, and the rows that it has to return."""

    family: str
    name: str
    given: dict[str, list[dict[str, Any]]] = field(hash=False)
    query: str
    want: list[list[Any]] = field(hash=False)


@dataclass(frozen=True)
class Dates:
    """When deliveries begin and end: every feed of the cases is complete from the first date to the last."""

    first: date
    as_of: date


@cache
def families() -> dict[Dates, list[Case]]:
    """All cases by their dates."""
    found: dict[Dates, list[Case]] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        document = read_yaml(path)
        for case in document["cases"]:
            assert case.keys() | {"finding"} == KEYS, f"{path.name}, {case.get('name')}: keys {case.keys() ^ KEYS}"
            found.setdefault(Dates(document["first"], document["as_of"]), []).append(
                Case(path.stem, case["name"], case["given"], case["query"], case["want"])
            )
    return found


ALL_DATES = [
    pytest.param(dates, id=str(dates.as_of), marks=pytest.mark.xdist_group(f"golden_{dates.as_of}"))
    for dates in families()
]
# DuckDB builds what came until then, and in a second build the rest.
FIRST_PART = date(2026, 4, 1)


@pytest.fixture(scope="module", params=ALL_DATES)
def released(
    server: str,
    template: str,
    object_store: EmbeddedS3,
    secrets_of_session: dict[str, str],
    quick_dbt: None,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[list[Case]]:
    """The cases of the same dates, released in one installation."""
    dates: Dates = request.param
    folder = tmp_path_factory.mktemp("golden")
    with (
        pytest.MonkeyPatch.context() as patch,
        installed(server, template, object_store, secrets_of_session, folder, patch) as sampan,
        without_data_tests(),
    ):
        # An API's answer is delivered as fetch would have put it into the drop prefix.
        patch.setattr(fetch, "_download", lambda *_: None)
        _release(sampan, families()[dates], dates)
        yield families()[dates]


def _release(sampan: Sampan, cases: list[Case], dates: Dates) -> None:
    for day, feed, given in deliveries(cases, dates):
        sampan.deliver(feed, day, f"golden.{get_contract(feed).source.extension}", encode(get_contract(feed), given))
    feeds = sorted({feed for case in cases for feed in case.given})
    sampan.ingest(*feeds)
    rejected = sampan.rows("select feed, line, broken_rules, record from quarantine.record")
    assert not rejected, rejected
    held = sampan.rows("select feed, business_date, problem from ops.batch where state <> 'published'")
    assert not held, held
    judged_at = datetime.combine(dates.as_of + timedelta(days=1), time_of_day(12), HONG_KONG)
    freshness.set_clock(judged_at)
    for feed in feeds:
        freshness.record_poll(feed, at=judged_at)
    build.run()
    release.gate()
    release.run()


def test_marts_show_what_was_worked_out_by_hand(released: list[Case], subtests: pytest.Subtests) -> None:
    for case in released:
        with subtests.test(family=case.family, case=case.name):
            found = [[shown(value) for value in row] for row in read(case.query)]
            assert found == [[shown(value) for value in row] for row in case.want]


@pytest.mark.parametrize("released", ALL_DATES[:1], indirect=True)
def test_duckdb_builds_in_two_parts_the_marts_that_postgresql_built_in_one(
    released: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So little is always mostly new: merge anyway.
    monkeypatch.setattr(build, "FULL_REFRESH_SHARE", 2)
    builds_the_same("duckdb", FIRST_PART, 20, tmp_path)


def deliveries(cases: list[Case], dates: Dates) -> Iterator[tuple[date, str, list[Row]]]:
    """Each delivery with its rows, in order of date.

    A feed delivers on each date on which one of its calendar does: a row of no meaning where no case has one, since most
    partners may not deliver an empty file.
    """
    by_feed: dict[str, dict[date, list[Row]]] = {}
    for case in cases:
        for feed, given in case.given.items():
            for row in (one for written in given for one in repeated(written)):
                day = row.get("delivered", dates.as_of)
                by_feed.setdefault(feed, {}).setdefault(day, []).append(completed(feed, day, row))
    of_calendar: dict[str, set[date]] = {}
    for feed, by_day in by_feed.items():
        of_calendar.setdefault(get_contract(feed).calendar.days, {dates.first, dates.as_of}).update(by_day)
    for feed, by_day in sorted(by_feed.items()):
        for day in sorted(of_calendar[get_contract(feed).calendar.days]):
            if day not in by_day:
                # A made-up rate would price the sales of all cases.
                usual = DEFAULTS[feed] if feed == "hkma_exchange_rates" else {}
                by_day[day] = [rows(feed, 1, day)[0] | usual]
    yield from sorted(
        ((day, feed, given) for feed, by_day in by_feed.items() for day, given in by_day.items()), key=lambda it: it[:2]
    )


def repeated(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row as many times as its `repeat` says, with 01, 02, ... for {n} in its texts; one without it once."""
    for number in range(1, row.get("repeat", 1) + 1):
        yield {
            name: value.replace("{n}", f"{number:02}") if isinstance(value, str) else value
            for name, value in row.items()
            if name != "repeat"
        }


def of_no_meaning(feed: str, day: date) -> Row:
    """A valid row that adds nothing to a sum: its amounts are 0 where they may be."""
    row = dict(rows(feed, 1, day)[0])
    for column in get_contract(feed).columns:
        if column.type == "numeric" and column.options.get("minimum") == 0 and not column.primary_key:
            row[column.name] = row[column.name] and "0"
    return row


def completed(feed: str, day: date, row: dict[str, Any]) -> Row:
    """A row of a case with what is usual for the feed in the columns that the case leaves out."""
    contract = get_contract(feed)
    columns = {column.name for column in contract.columns}
    unknown = row.keys() - columns - {"delivered"}
    assert not unknown, f"{feed} has no column {', '.join(sorted(unknown))}"
    valid = rows(feed, 1, day)[0]
    usual = {column.name: valid[column.name] for column in contract.columns if column.required}
    usual |= DEFAULTS.get(feed, {})
    return {name: plain((usual | row).get(name)) for name in columns}


def read(query: str) -> list[tuple[Any, ...]]:
    """Rows of a query as the role of BI tools."""
    with psycopg.connect(settings().dsn("bi"), autocommit=True) as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")
        return connection.execute(query).fetchall()


def shown(value: Any) -> Any:
    """A value of a mart or a case in one notation: numbers as decimals without trailing zeros, dates as text."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return Decimal(str(value)).normalize()
    return value.isoformat() if hasattr(value, "isoformat") else value
