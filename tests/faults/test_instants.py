"""Processes are killed at instants that no one chose; run again, they leave what an uninterrupted run leaves.

`make faults SEED=...` draws the same instants again. Which instruction one hits depends on the machine: what fails is
named by its number, and `holds_at_any_moment` says what was wrong right after it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import core
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, gate, land, load, publish
from sampan.marts import release
from sampan.settings import settings

from tests.factory import Partner, Row, encode, rows
from tests.faults.invariants import holds_at_any_moment, holds_at_the_end, is_exactly
from tests.integration.marts.test_build import _shared_state, dbt_folder, spine
from tests.integration.marts.test_withdraw import tables
from tests.integration.published import publish as put

__all__ = ["_shared_state", "dbt_folder"]
FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
STEPS = (fetch, land, load, gate, publish)
FIRST_DAY = date(2022, 1, 3)
# Records of a delivery: with 3,000 a run takes long enough for an instant to fall into each step.
RECORDS = 3_000


def seed() -> int:
    """The seed of the run, as `make faults` prints it; the same each time in the quick suite."""
    return int(core.global_force_seed or 0)


def ingest() -> None:
    for step in STEPS:
        step.run(FEED)


def killed_after(seconds: float, work: Callable[[], object]) -> int:
    """Do the work in a process of its own, a copy of this one, and kill that after some time. Returns its exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            # A worker of its own has its own connections, and says nothing.
            settings.cache_clear()
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    for number in range(2, 2 * count + 2, 2):
        days = [FIRST_DAY + timedelta(days=number + n) for n in range(2)]
        sound = delivers(partner, days)
        for _ in range(lives):
            instant = chance.uniform(0, 1.3 * usual)
            code = killed_after(instant, ingest)
            died += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            holds_at_any_moment(sampan)
            if code == 0 or died >= count:
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
    while killed_after(chance.uniform(0, 6), build_and_release) == -signal.SIGKILL:
        died += 1
        # A reader sees the release before, whole, or the new one, whole.
        live = release.list_releases()[0]["release_no"]
        seen = {no for (no,) in sampan.rows("select distinct release_no from marts.mart_exports_monthly", role="bi")}
        assert seen == {live}
        assert sampan.one(total, role="bi") == (1110 if live == first else 11111110)
        if died == 20:
            break
    build_and_release()
    assert sampan.one(total, role="bi") == 11111110
    merged = tables(sampan)
    spine(full_refresh=True)
    assert tables(sampan) == merged
    assert died > 5


def build_and_release() -> int:
    """As `sampan refresh`; the number of the release, 0 when there was nothing to do."""
    return release.refresh()["release_no"]
