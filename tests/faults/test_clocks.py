"""Midnight, holidays, and workers in other time zones: what is due and which dates are past go by Hong Kong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from random import Random

import pytest
from sampan.calendar import HONG_KONG, is_business_day
from sampan.contracts.registry import get_contract
from sampan.ingest import freshness, land

from tests.factory import encode, rows
from tests.faults.invariants import is_exactly
from tests.faults.test_instants import seed

FEED = "customs_declarations"  # due at 07:30 on the next business day
CONTRACT = get_contract(FEED)
# Days around which calendars go wrong: Lunar New Year, Easter and Ching Ming, a holiday on a Sunday, the end of a year, and a
# leap day. Source: general holidays gazetted for 2024 and 2026.
EDGES = [date(2026, 2, 16), date(2026, 4, 2), date(2026, 4, 6), date(2025, 12, 31), date(2024, 2, 28), date(2026, 7, 1)]
ZONES = ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone of the worker."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def at(day: date, of_day: str) -> datetime:
    return datetime.combine(day, clock_time.fromisoformat(of_day), HONG_KONG)


def test_a_delivery_of_today_lands_from_the_first_instant_of_the_day_in_hong_kong(zone, partner):
    day = date(2026, 7, 6)
    given = rows(FEED, 20, day)
    partner.sampan.deliver(FEED, day, "part.csv.gz", encode(CONTRACT, given))
    freshness.set_clock(at(day, "00:00") - timedelta(microseconds=1))
    partner.finds(FEED)
    assert land.run(FEED)["refused"] == 1
    # In UTC and in Los Angeles it is still the day before.
    freshness.set_clock(at(day, "00:00").astimezone(UTC))
    partner.finds(FEED)
    assert land.run(FEED)["landed"] == 1
    assert partner.ingest(FEED)["state"] == "published"
    is_exactly(partner.sampan, CONTRACT, given, [day])
    assert os.environ["TZ"] == zone


def test_a_step_that_runs_across_midnight_finishes_what_it_began(partner, monkeypatch):
    """The clock strikes between fetch and each later step: the delivery keeps its date."""
    day = date(2026, 7, 6)
    given = rows(FEED, 20, day)
    partner.sampan.deliver(FEED, day, "part.csv.gz", encode(CONTRACT, given))
    freshness.set_clock(at(day, "23:59:59.999999"))
    partner.finds(FEED)
    freshness.set_clock(at(day + timedelta(days=1), "00:00"))
    assert partner.ingest(FEED)["business_date"] == day
    is_exactly(partner.sampan, CONTRACT, given, [day])


def next_business_day(day: date) -> date:
    while not is_business_day(day := day + timedelta(days=1)):
        pass
    return day


def moments(chance: Random, day: date) -> list[datetime]:
    """Instants around a day at which something changes, and some at random."""
    turns = [at(day + timedelta(days=n), t) for n in range(-1, 6) for t in ("00:00", "07:30", "08:30", "12:00")]
    odd = [turn + timedelta(microseconds=shift) for turn in turns for shift in (-1, 0, 1)]
    others = [at(day, "00:00") + timedelta(seconds=chance.randrange(6 * 86_400)) for _ in range(4)]
    return sorted(chance.sample(odd, 12) + others)


@pytest.mark.parametrize("day", EDGES, ids=str)
def test_each_business_day_is_owed_once_and_is_late_from_its_instant_on(day, partner):
    """The judge is the calendar of general holidays: no delivery for a holiday, and none due on one."""
    chance, begun = Random(seed()), day - timedelta(days=10)
    while not is_business_day(begun):
        begun += timedelta(days=1)
    freshness.set_clock(at(begun, "23:00"))
    partner.hands_over(FEED, begun, rows(FEED, 5, begun))
    partner.ingest(FEED)
    # Polled long after each due time, so that what is missing is the partner's to say.
    freshness.record_poll(FEED, at=at(day + timedelta(days=30), "12:00"))
    for moment in moments(chance, day):
        found = {row["business_date"]: row for row in freshness.days(FEED, moment)}
        owed = [d for n in range((moment.date() - begun).days + 1) if is_business_day(d := begun + timedelta(days=n))]
        assert list(found) == owed, moment
        for owed_day, row in found.items():
            due = at(next_business_day(owed_day), "07:30")
            assert row["due_at"] == due, (moment, owed_day)
            expected = "arrived" if owed_day == begun else "late_at_partner" if moment >= due else "not_yet_due"
            assert row["state"] == expected, (moment, owed_day)
