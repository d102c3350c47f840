"""A world has a first day and no last one: any part of it, in any order and by any steps, is the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampan.calendar import HONG_KONG, is_business_day

from infra.simulator import deliver
from infra.simulator.deliver import Outcome
from infra.simulator.orders import Order, saved
from infra.simulator.partners import csd, customs, hkecic, hktdc, marks, platforms, registers, tid
from infra.simulator.population import make
from infra.simulator.world import Plan, World, monthly

ORDER = Order(seed=7, smes=80, volume=0.5, start=date(2026, 7, 2), days=8, history_from=date(2026, 1, 1))
PEOPLE = make(ORDER.seed, ORDER.smes)
DATES = [period.business_date for period in ORDER.schedule()]

pytestmark = pytest.mark.xdist_group("worlds")


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), HONG_KONG)


def objects(folder: Path) -> dict[str, bytes]:
    """What lies in the drop prefixes, by key."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("drop/*/*/*/*")}


def delivered(world: World, folder: Path, **options: object) -> tuple[dict[str, bytes], Outcome]:
    outcome = deliver.deliver(folder, world, **options)  # type: ignore[arg-type]
    return objects(folder), outcome


@cache
def whole() -> dict[str, bytes]:
    """All objects of the world."""
    with TemporaryDirectory() as folder:
        found, outcome = delivered(ORDER.world(PEOPLE), Path(folder))
    assert len(found) > 100
    assert len({entry["feed"] for entry in outcome.planted} & set(deliver.FEEDS)) > 15
    return found


# An example takes five seconds.
@settings(max_examples=1)
@given(ends=st.tuples(st.sampled_from(DATES), st.sampled_from(DATES)))
def test_any_part_of_a_world_has_the_bytes_that_it_has_in_the_whole(ends):
    first, last = sorted(ends)
    everything = whole()
    world = ORDER.world(PEOPLE).part(first, last)
    # Nothing that was computed for the whole.
    world.lodged_sums = {}
    begin = world.periods[0].first_day
    with TemporaryDirectory() as folder:
        found, _ = delivered(world, Path(folder))
    wanted = {key: body for key, body in everything.items() if begin <= date.fromisoformat(key.split("/")[3]) <= last}
    changed = sorted(key for key in found if everything.get(key) != found[key])
    assert changed == []
    assert sorted(wanted.keys() - found.keys()) == []


@pytest.mark.slow
def test_a_world_that_goes_on_day_by_day_is_the_one_that_is_delivered_in_one_go(tmp_path):
    steps, one = tmp_path / "steps", tmp_path / "one"
    begun = replace(ORDER, days=4, faults="late=0.2,amended=0.1,repeated=0.1,held=0.1,dirty=0.01")
    begun = replace(begun, until=noon(begun.next_date))
    options = {"faults": deliver.fault.parse(begun.faults)}
    delivered(begun.world(PEOPLE), steps, sent_until=begun.until, **options)
    begun.save(steps / "truth")
    for _ in range(2):
        known = saved(steps / "truth")
        assert known is not None
        deliver.next_day(steps, steps / "truth", noon(replace(known, days=known.days + 1).next_date))
    known = saved(steps / "truth")
    assert known == replace(begun, days=6, until=noon(replace(begun, days=6).next_date))
    delivered(known.world(PEOPLE), one, sent_until=known.until, **options)
    assert objects(steps) == objects(one)

    def planted(folder: Path) -> list[str]:
        lines = (folder / "truth" / "planted.jsonl").read_text().splitlines()
        # APIs answer as of the last day looked at.
        return sorted(line for line in lines if json.loads(line)["events"] != ["api"])

    assert planted(steps) == planted(one)
    for path in sorted((one / "truth" / "published").iterdir()):
        there, again = pl.read_parquet(path), pl.read_parquet(steps / "truth" / "published" / path.name)
        order = ["_business_date", "_sha256", "_line"]
        assert there.sort(order).equals(again.sort(order)), path.name


def test_the_history_comes_in_larger_deliveries_and_what_follows_day_by_day():
    schedule = Plan(date(2026, 8, 3), date(2024, 3, 1), 3).schedule(date(2026, 8, 7))
    assert [str(period.business_date) for period in schedule[:3]] == ["2024-05-31", "2024-08-30", "2024-11-29"]
    assert [period.serial for period in schedule] == [None] * 10 + [0, 1, 2, 3, 4]
    days = [day for period in schedule for day in period.days]
    assert days == [date(2024, 3, 1) + timedelta(days=step) for step in range(len(days))]


# --- what the world has and a simple one lacks ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, make(3, 3000), monthly(date(2024, 7, 1), date(2026, 11, 30)))


def test_declarations_due_on_a_day_off_are_lodged_on_the_next_day(world):
    """Cap. 1 s. 71: a period that ends on a Sunday or general holiday ends on the next day that is neither."""
    assert customs.days_off_before(date(2026, 7, 6)) == 1
    # Good Friday to Easter Monday of 2026, with Ching Ming observed on the Tuesday.
    assert customs.days_off_before(date(2026, 4, 8)) == 5
    assert customs.days_off_before(date(2026, 4, 4)) == 0
    lines = customs.lodged(world, date(2026, 4, 8))
    moved = lines["movement_date"].str.to_date()
    due = set(moved.filter(moved < date(2026, 3, 25)).dt.offset_by("14d")) - {None}
    assert due & {date(2026, 4, day) for day in range(3, 8)}


def test_exporters_stop_and_others_begin(world):
    who = customs.traders(world)
    exports, first, last = who.exports > 0, world.first.toordinal() - 719163, world.last.toordinal() - 719163
    stopped = exports & (who.exports_until > first) & (who.exports_until <= last)
    begun = exports & (who.exports_since > first) & (who.exports_since <= last)
    assert 0.05 < stopped.sum() / exports.sum() < 0.25
    assert 0.01 < begun.sum() / exports.sum() < 0.10


def test_covers_are_corrected_endorsed_and_cancelled(world):
    told = hkecic.reports(world)
    book = hkecic.policies(world)
    cancelled = told.filter(pl.col("status") == "cancelled")
    assert len(cancelled) > 5
    assert (
        told.join(cancelled.select("policy_no", pl.col("on").alias("end")), on="policy_no")
        .filter(pl.col("on") > pl.col("end"))
        .is_empty()
    )
    endorsed = book.filter(pl.col("endorsed_on") < hkecic.NEVER)["policy_no"]
    terms = told.filter(pl.col("policy_no").is_in(endorsed.implode())).group_by("policy_no")
    assert (terms.agg(pl.col("premium_rate_pct").n_unique())["premium_rate_pct"] == 2).sum() > 5
    corrected = book.filter(pl.col("corrected_on") < hkecic.NEVER)["policy_no"]
    first = told.filter(pl.col("policy_no").is_in(corrected.implode())).group_by("policy_no", maintain_order=True)
    starts = first.agg(pl.col("cover_start_on").head(2))["cover_start_on"].to_list()
    assert len(starts) > 5
    assert {(second - begun).days for begun, second in starts} == {hkecic.CORRECTED_BY}


def test_marks_are_borrowed_and_awarded(world):
    listed = hktdc.participants(world)
    borrowed = listed.filter("borrows")
    holders = dict(marks.certificates(world).select("certificate_no", "sme_no").iter_rows())
    assert 3 < borrowed["merchant_no"].n_unique() < 0.15 * listed["merchant_no"].n_unique()
    assert all(holders[code] != sme for code, sme in borrowed.select("mark_code", "sme_no").iter_rows())
    awarded = marks.terms(world).filter((pl.col("term") == 0) & (pl.col("valid_from") > world.first))
    # Of those that have not ended when the world begins.
    assert 0.6 * marks.AWARDED_LATER < len(awarded) / len(marks.certificates(world)) < marks.AWARDED_LATER


def test_refunds_are_asked_for_a_second_time(world):
    states = pl.concat([platforms._life(world, date(2026, 3, day)) for day in range(2, 8)])
    again = states.filter(pl.col("again") & (pl.col("refund_status") == "SUCCESS"))
    twice = again.group_by("oid").agg(pl.len(), pl.col("refund").sum(), pl.col("pay").first())
    assert (twice["len"] == 2).sum() > 5
    assert (twice["refund"] <= twice["pay"]).all()
    assert (states["at"] - states["created_at"] < platforms.CHANGES_WITHIN * 86_400).all()


def test_head_counts_pass_the_bounds_of_size_classes(world):
    versions = pl.concat([frame for _, frame in registers.business_register(world)], how="vertical_relaxed")
    main = versions.filter((pl.col("branch_no") == "000") & pl.col("persons_engaged").is_not_null())
    span = main.group_by("brn").agg(
        pl.col("persons_engaged").min().alias("low"), pl.col("persons_engaged").max().alias("high")
    )
    assert span.filter((pl.col("low") < 10) & (pl.col("high") >= 10)).height > 20
    assert span.filter((pl.col("low") < 50) & (pl.col("high") >= 50)).height > 3


def test_the_mainland_reports_months_later(world):
    assert csd.is_mirrored(world, "202608")
    assert not csd.is_mirrored(world, "202610")


def test_enterprises_of_one_owner_apply_each_for_itself(world):
    groups = world.population.smes.group_by("owner_group_no").agg("brn").filter(pl.col("brn").list.len() > 1)
    assert groups.height > 50
    applied = set(tid.applications(world)["brn"])
    assert any(set(brns) <= applied for brns in groups["brn"])
    assert is_business_day(world.last)


def test_what_is_in_force_is_within_the_cap_when_an_application_was_received_under_it():
    """Of applications received since 14 March 2025: at most HK$800,000 in force with what was approved before."""
    order = replace(ORDER, smes=1500, history_from=date(2024, 3, 1))
    known = tid.applications(order.world(make(order.seed, order.smes)))
    of_fund = known.filter((pl.col("outcome") == "approved") & (pl.col("programme") != "emf"))
    later = of_fund.filter(pl.col("received_on") >= date(2025, 3, 14))
    assert len(later) > 50
    beside = later.join(of_fund, on="brn", suffix="_beside").filter(
        pl.col("decided_on_beside") <= pl.col("decided_on"), pl.col("closed_on_beside") > pl.col("decided_on")
    )
    in_force = beside.group_by("application_no").agg(pl.col("amount_approved_hkd_beside").sum().round(2), pl.len())
    assert in_force["len"].max() > 1
    assert in_force["amount_approved_hkd_beside"].max() <= 800_000
