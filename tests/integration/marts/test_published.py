"""Attacks on published tables by who keeps every release: the same cell in two of them, one less the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.errors import PermanentFailure
from sampan.ingest import freshness
from sampan.marts import carry, published
from sampan.settings import settings

from tests.conftest import Sampan
from tests.integration.marts.test_build import full
from tests.integration.published import publish

FEED, CHAPTER, MARKET = "customs_declarations", "61", "631"
# The history has May in part; June is settled on 14 July, July on 14 August.
FIRST = date(2026, 5, 29)
# Values that no other sum of them has.
OF_JUNE = [Decimal(number) for number in (1000, 1100, 1210, 1331, 1464, 1610, 1771, 1948)]
LATE = Decimal("777.77")
# Month, chapter, market: value.
Shown = dict[tuple[Any, ...], Decimal]


def declared(trader: int, moved: str, value: Decimal, chapter: str = CHAPTER) -> dict[str, Any]:
    number = f"{trader:05}{moved.replace('-', '')}"
    return {
        "declaration_no": number[:11], "trader_id": f"{92000000 + trader}", "movement_date": moved, "value_hkd": value,
        "lodged_at": f"{moved} 09:00", "hkhs_code": f"{chapter}091000", "counterparty_country": MARKET,
    }  # fmt: skip


def deliver(days: Iterable[date], of_day: dict[date, list[dict[str, Any]]]) -> None:
    """A delivery of each day, most of them empty, and the clock at noon of the next one."""
    for day in days:
        publish(FEED, day, of_day.get(day, []), received_at=f"{day} 20:00")
    noon = datetime.combine(day + timedelta(days=1), datetime.min.time(), HONG_KONG) + timedelta(hours=12)
    freshness.set_clock(noon)
    freshness.record_poll(FEED, at=noon)


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def shown() -> Shown:
    """What everybody sees of exports and of traders."""
    queries = (
        "select movement_month, flow, hs_chapter, market_csd_code, export_value_hkd from marts.mart_published_exports",
        "select movement_month, industry_section, sme_class, enterprise_count from marts.mart_published_traders",
    )
    with psycopg.connect(settings().dsn("bi")) as connection:
        rows = [row for query in queries for row in connection.execute(f"{query} where not is_suppressed")]
    return {tuple(key): Decimal(value) for *key, value in rows}


def differences(releases: list[Shown]) -> dict[tuple[Any, ...], list[Decimal]]:
    """By how much each cell that two releases show differs in them."""
    found: dict[tuple[Any, ...], list[Decimal]] = defaultdict(list)
    for number, one in enumerate(releases):
        for other in releases[number + 1 :]:
            for key in one.keys() & other.keys():
                if one[key] != other[key]:
                    found[key].append(abs(one[key] - other[key]))
    return found


@pytest.fixture
def released(sampan: Sampan, models_only: None) -> list[Shown]:
    """A release as of 31 July, and one with a declaration of July more and one of June, late."""
    # With cells that are left out: one enterprise alone in a chapter.
    june = {date(2026, 6, 12): [declared(at, "2026-06-12", value) for at, value in enumerate(OF_JUNE)]}
    june[date(2026, 6, 12)].append(declared(30, "2026-06-12", Decimal(55), "62"))
    july = {date(2026, 7, 30): [declared(at, "2026-07-30", value) for at, value in enumerate(OF_JUNE)]}
    deliver(days(FIRST, date(2026, 7, 30)), june | july)
    full()
    first = shown()
    later = {
        date(2026, 7, 31): [declared(20, "2026-07-31", LATE)],
        date(2026, 8, 3): [declared(21, "2026-06-30", LATE)],
    }
    deliver(days(date(2026, 7, 31), date(2026, 8, 3)), later)
    full()
    return [first, shown()]


def test_no_two_releases_tell_what_one_enterprise_declared_in_between(sampan: Sampan, released: list[Shown]):
    """Fault: each release keeps the rules, and the same cell in two of them differs by the value of one enterprise."""
    of_june = [{key for key in cells if key[0] == date(2026, 6, 1)} for cells in released]
    assert of_june[0]
    assert of_june[0] == of_june[1]
    assert differences(released) == {}
    # Nor does a row that is there tell that somebody declared: the only enterprise of its size and industry is known.
    cells = "select count(*) from marts.mart_published_traders group by movement_month"
    of_each_month = {5 * sampan.one("select count(*) from marts.dim_industry", role="bi")}
    assert {count for (count,) in sampan.rows(cells, role="bi")} == of_each_month
    left_out = "select count(*) from marts.mart_published_exports where is_suppressed"
    assert sampan.one(left_out, role="bi") > 0
    assert sampan.one("select count(*) from ops.carried") == 0
    # A release that has the marts of the one before has shown nothing of a build that fixed what was not seen.
    with psycopg.connect(settings().dsn("builder")) as connection:
        known = "select count(*) from ops.published_known"
        assert connection.execute(known).fetchone() != (0,)
        connection.execute(
            "insert into ops.carried (build_no, mart, step, from_release_no, problem)"
            " select release_no, mart, 'marts__published', release_no, '{}'"
            " from ops.release cross join unnest(%s::text[]) as mart",
            [list(carry.marts_of("marts__published"))],
        )
        assert connection.execute(known).fetchone() == (0,)


@pytest.mark.slow
def test_a_month_is_published_when_it_can_grow_no_more_with_all_of_it(sampan: Sampan, released: list[Shown]):
    deliver(days(date(2026, 8, 4), date(2026, 8, 14)), {})
    full()
    last = shown()
    of_july = {
        key: value for key, value in last.items() if key[0] == date(2026, 7, 1) and key[-2:] == (CHAPTER, MARKET)
    }
    assert list(of_july.values()) == [sum(OF_JUNE) + LATE]
    assert differences([*released, last]) == {}


@pytest.mark.slow
def test_a_month_is_published_again_when_a_person_says_why(sampan: Sampan, released: list[Shown]):
    with pytest.raises(PermanentFailure, match="no published table of a release has shown the month 2026-07"):
        published.revise(date(2026, 7, 1), "a declaration was missing", "a person")
    with pytest.raises(PermanentFailure, match="give a reason"):
        published.revise(date(2026, 6, 1), " ", "a person")
    assert sampan.cli("release", "revise", "2026-13", "--reason", "x").returncode == 2
    done = sampan.cli("release", "revise", "2026-06", "--reason", "a declaration was missing")
    assert (done.returncode, "cells will be published again" in done.stdout) == (0, True), done.stderr
    deliver([date(2026, 8, 4)], {})
    full()
    assert LATE in {value for values in differences([released[0], shown()]).values() for value in values}
    # And once only.
    before = shown()
    deliver([date(2026, 8, 5)], {date(2026, 8, 5): [declared(22, "2026-06-30", LATE)]})
    full()
    assert shown() == before
