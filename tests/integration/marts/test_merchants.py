"""What shops do, on real dbt and a real database: the marts find what the simulator planted among many small merchants."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.ingest import freshness
from sampan.marts import build
from sampan.settings import settings

from infra.simulator.draws import number
from infra.simulator.partners import gallery, marks, platforms, registers, tid, traffic
from infra.simulator.partners.openings import NEVER, opens
from infra.simulator.population import Population, make
from infra.simulator.shops import shops
from infra.simulator.world import World, monthly
from tests.integration.marts.test_outcomes import send
from tests.integration.published import publish

# A festival in the middle of it, and none after which a shop is watched.
SEED, FIRST, LAST = 11, date(2024, 9, 1), date(2026, 6, 30)
MERCHANTS = 140
SPINE = ("staging", "identity", "intermediate")
FAMILIES = tuple(f"marts__{family}" for family in ("festival", "funding", "marks", "programmes", "trade"))
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _shared_state(sampan: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path_factory.getbasetemp() / "state"))
    settings.cache_clear()


def merchants() -> Population:
    """Small enterprises that sell online and apply for funding; every second one has a second shop, and one a mark."""
    known = make(SEED, 5 * MERCHANTS)
    smes = known.smes.filter(pl.col("brn").str.contains("^[0-9]{8}$"), pl.col("persons_engaged") < 50).head(MERCHANTS)
    assert len(smes) == MERCHANTS
    generator = np.random.default_rng(SEED)
    place = pl.int_range(pl.len())
    smes = smes.with_columns(
        sme_no=place,
        has_shop=pl.lit(True),
        shops=1 + place % 2,
        in_festival=pl.lit(False),
        is_applicant=pl.lit(True),
        orders_a_day=pl.Series(generator.uniform(0.5, 1.0, MERCHANTS)),
        mark_code=pl.when(place % 4 < 2).then(pl.format("QES-{}", place + 10_000)),
        commenced_on=pl.lit(date(2010, 1, 1)),
        size_basis=pl.lit("declared"),
    )
    return Population(SEED, smes, known.individuals.head(0))


@pytest.mark.slow
def test_marts_find_what_was_planted_among_merchants(sampan, models_only):
    world = World(SEED, merchants(), monthly(FIRST, LAST))
    stores = shops(world).with_columns(opens=pl.Series(opens(world)))
    send("business_register", registers.business_register(world))
    send("platform_orders", platforms.platform_orders(world))
    send("platform_traffic", traffic.platform_traffic(world))
    send("quality_marks", marks.quality_marks(world))
    send("design_gallery_sales", gallery.design_gallery_sales(world))
    send("funding_applications", tid.funding_applications(world))
    publish("hkma_exchange_rates", FIRST, [{"end_of_day": FIRST, "cny": "1.1"}])
    publish("hkma_exchange_rates", world.last, [{"end_of_day": world.last, "cny": "1.1"}])
    registered = stores.select("platform", "store_id", "shop_name", "brn").with_columns(
        merchant_no=pl.format("M{}", pl.int_range(100_000, 100_000 + pl.len()))
    )
    # Of a festival that is still to come: who is who.
    publish("festival_participants", world.last, registered.to_dicts())
    judged_at = datetime.combine(world.last + DAY, time(12), HONG_KONG)
    freshness.set_clock(judged_at)
    for step in (*SPINE, *FAMILIES):
        build.run(step)

    _live_streams_sell_more(world)
    _shops_open_with_a_grant(stores, world)
    _suppliers_go_on(stores, world)
    _gallery_rises_in_the_festival()
    _marks_lower_refunds()
    _bonded_sellers_depend_on_a_regime(stores)


def _live_streams_sell_more(world: World) -> None:
    rows = _rows("select * from build.mart_live_streams where period = 'last_12_months' order by audience")
    ((whole,)) = [row for row in rows if row["audience"] == "all"]
    assert whole["platform"] is None
    assert whole["effect_low_ratio"] < platforms.LIVE_UPLIFT < whole["effect_high_ratio"], whole
    assert whole["effect_low_ratio"] > 1
    days = (whole["period_last_day"] - whole["period_first_day"]).days + 1
    open_days = whole["shop_count"] * days
    # A few shops open within the year.
    assert 0.8 * platforms.SESSIONS_A_DAY < whole["session_count"] / open_days < 1.1 * platforms.SESSIONS_A_DAY
    assert sum(row["session_count"] for row in rows) == 2 * whole["session_count"]


def _shops_open_with_a_grant(stores: pl.DataFrame, world: World) -> None:
    rows = _rows(
        "select brn, access.* from build.mart_platform_access as access join build.dim_sme using (sme_id)"
        " where is_followed and sold_on_platform_before is not null"
    )
    opened: dict[tuple[str, str], int] = {}
    for brn, platform, day in stores.select("brn", "platform", "opens").iter_rows():
        opened[brn, platform] = min(day, opened.get((brn, platform), NEVER))
    entered, late = 0, 0
    for row in rows:
        day, granted = opened.get((row["brn"], row["funded_platform"]), NEVER), number(row["granted_on"])
        if day <= granted - 60:
            assert row["sold_on_platform_before"], row
        elif day == NEVER:
            assert (row["first_sale_on"], row["entered_within_180_days"]) == (None, False), row
        elif granted < day <= granted + 120:
            assert row["sold_on_platform_before"] is False, row
            # A shop sells every few days.
            late += row["first_sale_on"] is None or not 0 <= number(row["first_sale_on"]) - day <= 30
            entered += row["entered_within_180_days"]
    assert entered >= 5, "too few to prove anything"
    assert late <= entered / 10


def _suppliers_go_on(stores: pl.DataFrame, world: World) -> None:
    rows = _rows(
        "select brn, suppliers.* from build.mart_design_gallery_suppliers as suppliers"
        " join build.dim_sme using (sme_id) where is_first_supply_certain"
    )
    first_open = dict(stores.group_by("brn").agg(pl.col("opens").min()).iter_rows())
    supplies = gallery.items(world).group_by("supplier_brn").agg(pl.col("on_sale_from").min())
    supplies_from = dict(supplies.iter_rows())
    went_on = before = 0
    for row in rows:
        day, first = first_open[row["brn"]], number(row["first_supplied_on"])
        assert supplies_from[row["brn"]] <= first
        if day <= first - 60:
            assert (row["sold_online_before"], row["opened_shop_within_180_days"]) == (True, None), row
            before += 1
        elif first < day <= min(first + 150, number(world.last) - 30):
            assert (row["sold_online_before"], row["opened_shop_within_180_days"]) == (False, True), row
            went_on += 1
    assert went_on >= 3 <= before


def _gallery_rises_in_the_festival() -> None:
    rows = {
        row["time_window"]: row
        for row in _rows(
            "select * from build.mart_design_gallery_effect where audience = 'all' and event_id = 'HKSF-2025'"
        )
    }
    during, placebo = rows["during"], rows["placebo"]
    # No merchant takes part: what sells more in August sells more everywhere.
    planted = gallery.FESTIVAL_UPLIFT / platforms.FESTIVAL_SPILL
    assert during["estimate_status"] == "estimated"
    assert during["effect_low_ratio"] < planted < during["effect_high_ratio"], during
    assert during["effect_low_ratio"] > 1
    assert placebo["effect_low_ratio"] < 1 < placebo["effect_high_ratio"]
    assert min(during["compared_supplier_count"], during["other_shop_count"]) >= 10


def _marks_lower_refunds() -> None:
    rows = {
        (row["measure"], row["time_window"]): row
        for row in _rows("select * from build.mart_mark_effect where mark_change = 'won' and mark_scope = 'any'")
    }
    won = rows["refund_rate", "after"]
    assert won["estimate_status"] == "estimated", won
    assert won["effect_low_ratio"] < platforms.REFUNDED_UNDER_A_MARK < won["effect_high_ratio"] < 1, won
    for unchanged in (("refund_rate", "placebo"), ("net_sales", "after")):
        assert rows[unchanged]["effect_low_ratio"] < 1 < rows[unchanged]["effect_high_ratio"], rows[unchanged]


def _bonded_sellers_depend_on_a_regime(stores: pl.DataFrame) -> None:
    rows = _rows(
        "select brn, sales.* from build.mart_sales_concentration as sales join build.dim_sme using (sme_id)"
        " where period_kind = 'last_12_months' and paid_order_count >= 50"
    )
    of_owner = stores.group_by("brn").agg(
        pl.col("is_bonded").all().alias("all"), pl.col("is_bonded").any().alias("any")
    )
    kinds = {brn: (every, some) for brn, every, some in of_owner.iter_rows()}
    bonded = [row for row in rows if kinds[row["brn"]][0]]
    others = [row for row in rows if not kinds[row["brn"]][1]]
    assert len(bonded) >= 5
    assert all(
        (row["top_customs_regime"], row["top_regime_share"] > 0.85) == (platforms.BONDED, True) for row in bonded
    )
    assert len(others) >= 20
    assert sum(row["top_regime_share"] < 0.75 for row in others) >= 0.95 * len(others)
    single = [row for row in rows if row["platform_count"] == 1]
    assert single
    assert all((row["top_platform_share"], row["platform_hhi"]) == (1, 1) for row in single)


def _rows(query: str) -> list[dict[str, Any]]:
    with psycopg.connect(settings().dsn("builder"), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(query).fetchall()
