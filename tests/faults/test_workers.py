"""Workers that work at the same time, wake up late, or are told to begin again: each batch is done once."""

from __future__ import annotations

import os
import signal
import time
from datetime import date, timedelta
from functools import partial
from random import Random

import pytest
from sampan import failpoints
from sampan.contracts.registry import get_contract
from sampan.marts import build, release

from tests.faults.invariants import holds_at_any_moment, holds_at_the_end, is_exactly
from tests.faults.processes import DONE, LATER, begins, ends
from tests.faults.test_instants import FIRST_DAY, STEPS, delivers, ingest, seed
from tests.faults.test_kills import POINTS
from tests.integration.marts.test_build import _shared_state, dbt_folder
from tests.integration.published import publish as put

__all__ = ["_shared_state", "dbt_folder"]
FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
DAYS = [FIRST_DAY + timedelta(days=n) for n in range(2)]


def run_of(day: date) -> None:
    for step in STEPS:
        step.run(FEED, day)


def begins_later(seconds: float) -> None:
    time.sleep(seconds)
    ingest()


def race(partner, rounds: int) -> None:
    chance = Random(seed())
    for number in range(rounds):
        days = [FIRST_DAY + timedelta(days=10 * number + n) for n in range(3)]
        sound = delivers(partner, days)

        # A backfill of one date beside live runs of all.
        works = [partial(begins_later, chance.uniform(0, 0.4)) for _ in range(3)] + [
            partial(run_of, chance.choice(days))
        ]
        codes = ends([begins(work) for work in works])
        assert set(codes) <= {DONE, LATER}, codes
        holds_at_any_moment(partner.sampan)
        ingest()
        is_exactly(partner.sampan, CONTRACT, sound, days)
        holds_at_the_end(partner.sampan)


def test_every_record_counts_once_when_four_workers_take_the_same_batches(partner):
    race(partner, 2)


@pytest.mark.slow
def test_every_record_counts_once_when_four_workers_race_many_times(partner):
    race(partner, 25)


QUICK = ("gate.after_rows_commit", "load.before_commit")


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point in QUICK else pytest.mark.slow) for point in POINTS]
)
def test_a_worker_that_wakes_up_after_its_successor_has_finished_changes_nothing(point, partner):
    """It stops where it stands, as a machine does that is frozen; another one takes over; then it goes on."""
    sound, step = delivers(partner, DAYS), point.split(".")[0]
    for module in STEPS:
        if module.__name__.endswith(step):
            break
        module.run(FEED)

    def stops() -> None:
        hit: list[str] = []

        def stop(name: str) -> None:
            if name == point and not hit:
                hit.append(name)
                os.kill(os.getpid(), signal.SIGSTOP)

        failpoints.hit = stop
        ingest()

    frozen = begins(stops)
    assert os.WIFSTOPPED(os.waitpid(frozen, os.WUNTRACED)[1])
    try:
        # Inside a transaction it holds its batch: the others say so after ten seconds, and nothing breaks.
        codes = ends([begins(ingest) for _ in range(2)])
        assert set(codes) <= {DONE, LATER}, codes
        holds_at_any_moment(partner.sampan)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert ends([frozen])[0] in (DONE, LATER)
    holds_at_any_moment(partner.sampan)
    ingest()
    is_exactly(partner.sampan, CONTRACT, sound, DAYS)
    holds_at_the_end(partner.sampan)


def test_steps_that_are_cleared_and_run_again_change_nothing(partner):
    """As Airflow does after `clear`: any step, in any order, any number of times."""
    sound, chance = delivers(partner, DAYS), Random(seed())
    ingest()
    before = partner.sampan.rows("select * from ops.batch order by batch_id")
    for _ in range(20):
        step = chance.choice(STEPS)
        assert sum(step.run(FEED, chance.choice([None, *DAYS])).values()) == 0
    assert partner.sampan.rows("select * from ops.batch order by batch_id") == before
    is_exactly(partner.sampan, CONTRACT, sound, DAYS)
    holds_at_the_end(partner.sampan)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_two_builds_at_once_one_is_told_to_wait_and_the_release_is_whole(sampan, models_only):
    put(FEED, "2026-07-06", [{"declaration_no": "DDDDDDDD01", "value_hkd": 5}])
    release.refresh()
    put(FEED, "2026-07-07", [{"declaration_no": "DDDDDDDD02", "value_hkd": 600}])
    chance = Random(seed())
    for _ in range(3):
        late = chance.uniform(0, 3)
        codes = ends([begins(release.refresh), begins(lambda: (time.sleep(late), release.refresh(force=True)))])  # noqa: B023
        assert set(codes) <= {DONE, LATER}, codes
    release.refresh(force=True)
    assert sampan.one("select sum(value_hkd) from marts.mart_exports_monthly", role="bi") == 605
    live = release.list_releases()[0]["release_no"]
    assert sampan.rows("select distinct release_no from marts.mart_exports_monthly", role="bi") == [(live,)]
    with build.lock() as connection:
        assert build.current(connection) is None
