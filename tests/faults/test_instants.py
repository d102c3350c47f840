"""Processes are killed at instants that no one chose; run again, they leave what an uninterrupted run leaves.

`make faults SEED=...` draws the same instants again. Which instruction one hits depends on the machine: what fails is
named by its number, and `holds_at_any_moment` says what was wrong right after it.
"""

from __future__ import annotations

import time
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import core
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, gate, lake, land, load, publish
from sampan.marts import release

from tests.factory import Partner, Row, encode, rows
from tests.faults.invariants import failure_of, holds_at_any_moment, holds_at_the_end, is_exactly
from tests.faults.processes import DONE, KILLED, LATER, killed_after
from tests.integration.marts.test_build import _shared_state, dbt_folder, spine
from tests.integration.marts.test_withdraw import tables
from tests.integration.published import publish as put

__all__ = ["_shared_state", "dbt_folder"]
FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
STEPS = (fetch, land, load, gate, publish, lake)
FIRST_DAY = date(2022, 1, 3)
# Records of a delivery: with 3,000 a run takes long enough for an instant to fall into each step.
RECORDS = 3_000


def seed() -> int:
    """The seed of the run, as `make faults` prints it; the same each time in the quick suite."""
    return int(core.global_force_seed or 0)


def ingest() -> None:
    for step in STEPS:
        step.run(FEED)


def delivers(partner: Partner, days: list[date], records: int = RECORDS) -> list[Row]:
    """Deliveries for some dates, with bad, repeated and odd rows from the second on. Returns the rows that are to count."""
    sound: list[Row] = []
    usual = rows(FEED, RECORDS, FIRST_DAY)[:records]
    for number, day in enumerate(days):
        given = [row | {"declaration_no": f"DX{day:%y%m%d}{n:05}"} for n, row in enumerate(usual)]
        dirty = {2: {"value_hkd": "-1"}, 3: {"hkhs_code": "1"}, 4: {"movement_date": "2026-02-30"}} if number else {}
        written = [row | dirty.get(n, {}) for n, row in enumerate(given)]
        partner.sampan.deliver(FEED, day, "part.csv.gz", encode(CONTRACT, [*written, given[10]]))
        sound += [row for n, row in enumerate(given) if n not in dirty]
    return sound


def kills(partner: Partner, count: int, lives: int = 3) -> int:
    """Kill runs of the ingest `count` times, at most `lives` times before one may end. Returns how many died."""
    chance, sampan, died = Random(seed()), partner.sampan, 0
    first = [FIRST_DAY, FIRST_DAY + timedelta(days=1)]
    sound = delivers(partner, first)
    began = time.monotonic()
    ingest()
    usual = time.monotonic() - began
    is_exactly(sampan, CONTRACT, sound, first)
    # Some lives end before their instant, where the machine is faster than at first.
    for number in range(2, 8 * count + 2, 2):
        days = [FIRST_DAY + timedelta(days=number + n) for n in range(2)]
        sound = delivers(partner, days)
        for _ in range(lives):
            instant = chance.uniform(0, 1.3 * usual)
            code = killed_after(instant, ingest)
            died += code == KILLED
            assert code in (DONE, LATER, KILLED)
            holds_at_any_moment(sampan)
            if code == DONE or died >= count:
                break
        ingest()
        print(f"instant {number // 2}: {instant:.3f} s of about {usual:.1f} s, {died} died")
        is_exactly(sampan, CONTRACT, sound, days)
        holds_at_the_end(sampan)
        if died >= count:
            break
    return died


def test_every_record_counts_once_when_ingest_is_killed_at_a_few_instants(partner):
    assert kills(partner, 5) == 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_record_counts_once_when_ingest_is_killed_at_many_instants(partner):
    assert kills(partner, 180) == 180


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_build_ends_as_an_uninterrupted_one_when_it_is_killed_at_many_instants(sampan, models_only):
    """Each life goes on where the last one died, so that instants fall into all steps, and into release."""
    chance, died = Random(seed()), 0
    for number in range(1, 4):
        put(FEED, f"2026-07-0{number}", [{"declaration_no": f"DDDDDDDD0{number}", "value_hkd": 10**number}])
    first = build_and_release()
    for number in range(4, 8):
        put(FEED, f"2026-07-0{number}", [{"declaration_no": f"DDDDDDDD0{number}", "value_hkd": 10**number}])
    total = "select sum(value_hkd) from marts.mart_exports_monthly"
    assert sampan.one(total, role="bi") == 1110
    code = LATER
    while code != DONE and died < 20:
        code = killed_after(chance.uniform(0, 6), build_and_release)
        assert code in (DONE, LATER, KILLED)
        died += code == KILLED
        # A reader sees the release before, whole, or the new one, whole.
        live = release.list_releases()[0]["release_no"]
        seen = {no for (no,) in sampan.rows("select distinct release_no from marts.mart_exports_monthly", role="bi")}
        assert seen == {live}
        assert sampan.one(total, role="bi") == (1110 if live == first else 11111110)
    # The server may take a moment to notice that the last one is gone.
    deadline = time.monotonic() + 30
    while failure_of(build_and_release):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert sampan.one(total, role="bi") == 11111110
    merged = tables(sampan)
    spine(full_refresh=True)
    assert tables(sampan) == merged
    assert died > 5


def build_and_release() -> int:
    """As `sampan refresh`; the number of the release, 0 when there was nothing to do."""
    return release.refresh()["release_no"]
