"""What festivals did in the simulated world, and that the mart finds it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from infra.simulator.partners import marks, platforms, traffic
from infra.simulator.world import FESTIVALS
from tests.integration.marts.answers.festival import kept_days
from tests.integration.marts.answers.programmes import valid_marks
from tests.integration.marts.answers.who import linked
from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")

# With the orders of all festivals together; half of it is about the standard error of a ratio of sales.
TOLERANCE = 0.10


def _kept(days: int) -> float:
    """Planted: sales a day over the first days after a festival, shopping days left out, over those before it."""
    _, _, last = FESTIVALS[-1]
    kept = [(day - last).days for day in kept_days(last + timedelta(days=1), last + timedelta(days=days))]
    assert 30 <= len(kept) < 90, "Golden Week and Double 11 are left out of the longer window only"
    steps = [next(factor for until, factor in platforms.RETAINED_UPLIFT if day <= until) for day in kept]
    return sum(steps) / len(kept)


@pytest.mark.parametrize("measure", ["placed", "paid", "net"])
def test_festival_uplift_is_what_was_planted_during_and_after(world: Simulated, measure: str):
    columns = ("during", "after_30", "after_90")
    ratios = ", ".join(
        f"sum({name}_daily_cny) / sum(case when {name}_daily_cny is not null then before_daily_cny end)"
        for name in columns
    )
    ((uplift, after_30, after_90, events),) = world.read(
        f"select {ratios}, count(distinct event_id) from marts.mart_festival_uplift"
        " where measure = %s and is_before_complete",
        measure,
    )
    # The 28 days before the first festival are those in which the deliveries begin.
    assert events == len(FESTIVALS) - 1 > 1
    assert float(uplift) == pytest.approx(platforms.FESTIVAL_UPLIFT, rel=TOLERANCE)
    assert float(after_30) == pytest.approx(_kept(30), rel=TOLERANCE)
    assert float(after_90) == pytest.approx(_kept(90), rel=TOLERANCE)
    # Told apart from no effect, and from each other.
    assert float(uplift) > 1.3 > float(after_30) > 1


def test_festival_uplift_has_no_figure_when_its_window_is_not_over(world: Simulated):
    rows = world.read(
        "select event_id, measure, min(is_after_30_complete::int), max(is_after_90_complete::int), count(after_30_cny),"
        " count(after_90_cny), count(retained_90_ratio), count(*) from marts.mart_festival_uplift"
        " where event_id = 'HKSF-2026' group by 1, 2 order by 1, 2"
    )
    # The world ends 90 days after the festival, and refunds follow for 15 more.
    assert [(measure, *rest[:2]) for _, measure, *rest in rows] == [("net", 1, 0), ("paid", 1, 1), ("placed", 1, 1)]
    net, paid, _ = rows
    assert net[4] == net[-1] > 5
    assert net[5] == net[6] == 0
    assert paid[5] == paid[-1]


def test_festival_traffic_has_the_planted_conversion_and_live_streams(world: Simulated):
    found = {
        phase: (float(conversion), float(sessions))
        for phase, conversion, sessions in world.read(
            "select phase, sum(paid_order_count) * 1.0 / sum(visit_count), sum(live_session_count) * 1.0 / count(*)"
            " from marts.mart_festival_traffic group by phase"
        )
    }
    low, high = traffic.CONVERSION
    assert set(found) == {"before", "during"}
    for conversion, _ in found.values():
        assert low < conversion < high
    assert found["during"][1] == pytest.approx(platforms.SESSIONS_A_FESTIVAL_DAY, rel=0.2)
    assert found["before"][1] == pytest.approx(platforms.SESSIONS_A_DAY, rel=0.3)


def test_festival_participants_are_new_when_it_is_their_first_festival(world: Simulated):
    counts = dict(
        world.read(
            "select event_id, count(distinct merchant_no) filter (where not is_new_merchant)"
            " from marts.dim_festival_participant where participant_status = 'joined' group by 1"
        )
    )
    assert counts["HKSF-2024"] == 0 < counts["HKSF-2026"]
    more_than_once = world.read(
        "select merchant_no from marts.dim_festival_participant where is_new_merchant"
        " group by 1 having count(distinct event_id) > 1"
    )
    assert more_than_once == []


def test_claimed_marks_are_valid_when_their_issuer_says_so_of_this_merchant(world: Simulated):
    claims = world.read(
        "select mark_codes, platform, store_id, sme_id, valid_claimed_mark_count, claimed_of_another_count,"
        " claimed_holder_unknown_count from marts.dim_festival_participant where claimed_mark_count = 1"
    )
    certificate = pl.concat_str("scheme", pl.lit(":"), "certificate_no").alias("certificate")
    holders = dict(linked(world, "certificate").iter_rows())
    issued = {row["certificate_no"]: row for row in valid_marks(world).with_columns(certificate).iter_rows(named=True)}
    confirmed = 0
    for code, platform, store, sme, valid, another, unknown in claims:
        row = issued.get(code)
        if row is None:
            assert (valid, unknown) == (0, 0), code
            continue
        holder = holders.get(row["certificate"])
        of_shop = row["scope"] == "shop"
        is_this_shop = (row["platform"], row["store_id"]) == (platform, store)
        is_own = holder == sme is not None and (not of_shop or is_this_shop)
        assert valid == int(is_own or (of_shop and is_this_shop and None in (holder, sme))), code
        assert valid + another + unknown == 1, code
        confirmed += valid
    # Some of what is claimed has ended or never existed.
    assert marks.CLAIMED_EXPIRED + marks.CLAIMED_UNKNOWN > 0
    assert 0 < confirmed < len(claims)


def test_festival_effect_is_what_was_planted_against_shops_that_took_no_part(world: Simulated):
    rows = world.read(
        "select measure, effect_low_ratio, effect_ratio, effect_high_ratio, own_change_ratio, others_change_ratio,"
        " compared_shop_count, other_shop_count from marts.mart_festival_effect"
        " where event_id = 'HKSF-2026' and time_window = 'during' and audience = 'all' and is_quotable order by measure"
    )
    assert [row[0] for row in rows] == ["net", "paid", "placed"]
    planted = platforms.FESTIVAL_UPLIFT / platforms.FESTIVAL_SPILL
    for _, low, effect, high, own, others, shops, other_shops in rows:
        assert low < planted < high
        assert low > 1, "told apart from no effect"
        # 36 shops: about two standard errors.
        assert float(effect) == pytest.approx(planted, rel=0.25)
        # Of the whole change, what others had too does not count.
        assert own > others > 1
        assert min(shops, other_shops) >= 10


def test_festival_effect_has_no_figure_for_too_few_or_days_to_come(world: Simulated):
    rows = world.read(
        "select estimate_status, min(least(compared_shop_count, other_shop_count)), count(effect_ratio), count(*),"
        " bool_or(is_quotable) from marts.mart_festival_effect group by 1"
    )
    found = {status: rest for status, *rest in rows}
    assert set(found) == {"estimated", "too_few", "not_complete"}
    assert found["estimated"][0] >= 10
    assert found["estimated"][1] == found["estimated"][2] > 10
    assert found["too_few"][1] == found["not_complete"][1] == 0
    assert found["not_complete"][3] is False


def test_design_gallery_sales_are_those_that_were_published(world: Simulated):
    sales = world.frames["design_gallery_sales"]
    ((units, returned),) = world.read(
        "select sum(units_sold), sum(units_returned) from marts.mart_design_gallery_sales"
    )
    assert (units, returned) == (sales["units_sold"].sum(), sales["units_returned"].sum())


def test_trade_missions_have_a_row_for_each_participant(world: Simulated):
    listed = world.frames["trade_missions"].select("event_id", "participant_no").unique()
    assert len(listed) > 100, "too few to prove anything"
    assert world.read("select count(*) from marts.mart_trade_missions") == [(len(listed),)]


def test_trade_missions_know_most_participants_when_some_give_no_number(world: Simulated):
    # Planted: 85 of 100 give their registration number. The margin is that of a hundred participants.
    (known,) = world.read("select count(sme_id) * 1.0 / count(*) from marts.mart_trade_missions")[0]
    assert known > 0.8
