"""What festivals did in the simulated world, and that the mart finds it."""

from __future__ import annotations

import pytest

from infra.simulator.partners import marks, platforms, traffic
from infra.simulator.world import FESTIVALS
from tests.integration.marts.answers.programmes import valid_marks
from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")

# With the orders of all festivals together; half of it is about the standard error of a ratio of sales.
TOLERANCE = 0.10


def _kept(days: int) -> float:
    """Planted: sales a day over the first days after a festival, over those before it."""
    steps = [next(factor for last, factor in platforms.RETAINED_UPLIFT if day <= last) for day in range(1, days + 1)]
    return sum(steps) / days


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
    assert found["during"][1] == pytest.approx(traffic.SESSIONS_A_FESTIVAL_DAY, rel=0.2)
    assert found["before"][1] == pytest.approx(traffic.SESSIONS_A_DAY, rel=0.3)


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


def test_claimed_marks_are_valid_when_their_issuer_says_so(world: Simulated):
    claims = dict(
        world.read(
            "select mark_codes, max(valid_claimed_mark_count) from marts.dim_festival_participant"
            " where claimed_mark_count = 1 group by 1"
        )
    )
    valid = set(valid_marks(world)["certificate_no"])
    assert {code: int(code in valid) for code in claims} == claims
    # Some of what is claimed has ended or never existed.
    assert marks.CLAIMED_EXPIRED + marks.CLAIMED_UNKNOWN > 0
    assert 0 < sum(claims.values()) < len(claims)


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
