"""Outcomes of funding on real dbt and a real database: the interval covers the effect that the simulator planted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

import numpy as np
import polars as pl
import psycopg
import pytest
from sampan.errors import TransientFailure
from sampan.marts import build, outcomes
from sampan.settings import settings

from infra.simulator.partners import customs, platforms, registers, tid
from infra.simulator.population import OPENING, Population, make
from infra.simulator.shops import shops
from infra.simulator.world import Effects, World, monthly
from tests.conftest import Sampan
from tests.integration.published import publish, publish_frame, stored

FIRST, LAST = date(2024, 6, 1), date(2027, 6, 30)
ENTERPRISES = 800
SPINE, FAMILY = ("staging", "identity", "intermediate"), "marts__funding"


@pytest.fixture(autouse=True)
def _shared_state(sampan: Sampan, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path_factory.getbasetemp() / "state"))
    settings.cache_clear()


def small_exporters(seed: int) -> Population:
    """Enterprises of one industry and class that all export and sell online; every second one applies for funding."""
    known = make(seed, 5 * ENTERPRISES)
    smes = known.smes.filter(
        (pl.col("industry_section") == "G")
        & (pl.col("persons_engaged") < 10)
        & pl.col("brn").str.contains("^[0-9]{8}$")
    ).head(ENTERPRISES)
    assert len(smes) == ENTERPRISES
    generator = np.random.default_rng(seed)
    smes = smes.with_columns(
        sme_no=pl.Series(np.arange(ENTERPRISES, dtype=np.int64)),
        exports_a_year=pl.Series(generator.uniform(30, 110, ENTERPRISES)),
        imports_a_year=pl.lit(0.0),
        has_shop=pl.lit(True),
        shops=pl.lit(1),
        in_festival=pl.lit(False),
        orders_a_day=pl.Series(generator.uniform(0.1, 0.3, ENTERPRISES)),
        commenced_on=pl.lit(date(2010, 1, 1)),
        size_basis=pl.lit("declared"),
    )
    smes = smes.with_columns(is_applicant=pl.col("sme_no") % 2 == 0, applies_from=pl.lit(OPENING))
    return Population(seed, smes, known.individuals.head(0))


def send(feed: str, deliveries: Iterator[tuple[date, pl.DataFrame | None]]) -> None:
    """Publish what a simulated partner delivers."""
    for day, frame in deliveries:
        if frame is not None:
            publish_frame(feed, day, stored(feed, frame), datetime.combine(day + timedelta(days=1), time(8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "effects"),
    [
        pytest.param(31, Effects(exports_funded=1.70, orders_funded=1.60), id="a large effect"),
        pytest.param(45, Effects(), id="that of the simulator"),
        pytest.param(45, Effects(1.0, 1.0), id="none"),
    ],
)
def test_the_interval_covers_what_the_simulator_planted(sampan, models_only, seed, effects):
    world = World(seed, small_exporters(seed), monthly(FIRST, LAST), effects=effects)
    send("business_register", registers.business_register(world))
    send("funding_applications", tid.funding_applications(world))
    send("funding_payments", tid.funding_payments(world))
    send("customs_declarations", customs.declarations(world))
    send("platform_orders", platforms.platform_orders(world))
    publish("hkma_exchange_rates", FIRST, [{"end_of_day": FIRST, "cny": "1.1"}])
    stores = shops(world).select("platform", "store_id", "shop_name", "brn")
    registered = stores.with_columns(merchant_no=pl.format("M{}", pl.int_range(100_000, 100_000 + pl.len())))
    publish("festival_participants", FIRST, registered.to_dicts())
    for step in (*SPINE, FAMILY):
        build.run(step)

    found = {(row["measure"], row["programme"], row["window_months"]): row for row in _estimated()}
    assert len(found) == 24
    # Exports are planted from the first project of any programme on, orders from the first E-commerce Easy project on.
    for key, effect in ((("exports", "all", 6), effects.exports_funded), (("exports", "all", 12), effects.exports_funded),
                        (("online_net_sales", "bud_ecommerce_easy", 6), effects.orders_funded)):  # fmt: skip
        row, planted = found[key], (effect - 1) * 100
        assert row["estimate_status"] == "estimated", row
        assert row["effect_low_pct"] <= planted <= row["effect_high_pct"], row
        assert row["matched_funded_count"] >= outcomes.MIN_ENTERPRISES
        assert row["unfunded_count"] > row["matched_funded_count"]
    whole = found["exports", "all", 12]
    # So few funded tell 70% from nothing; 12% may be in one interval with it.
    if effects.exports_funded >= 1.3:
        assert whole["effect_low_pct"] > 0
        assert whole["p_value_adjusted"] < 0.05
    elif effects.exports_funded == 1:
        assert whole["p_value_adjusted"] > 0.05
    assert found["exports", "all", 6]["is_quotable"]
    _costs_follow(whole)
    _windows_are_right(sampan, world)
    _months_average_to_the_effect(found)
    _is_fenced_and_repeatable(sampan)


def _costs_follow(row: dict) -> None:
    """What was sold more is what was sold less what was expected, and the cost is what was paid over it."""
    more = row["matched_funded_count"] * (row["funded_after_hkd"] - row["expected_after_hkd"])
    assert float(row["additional_sales_hkd"]) == pytest.approx(float(more), rel=1e-3, abs=100)
    assert row["additional_sales_low_hkd"] <= row["additional_sales_hkd"] <= row["additional_sales_high_hkd"]
    assert row["paid_hkd"] > 0
    if more > 0:
        assert float(row["paid_per_additional_hkd"]) == pytest.approx(
            float(row["paid_hkd"] / row["additional_sales_hkd"]), abs=1e-4
        )
        assert row["paid_per_additional_low_hkd"] <= row["paid_per_additional_hkd"]
    assert (row["paid_per_additional_high_hkd"] is None) == (row["effect_low_pct"] <= 0)


def _months_average_to_the_effect(found: dict[tuple[str, str, int], dict]) -> None:
    months = _rows("select * from build.mart_funding_outcome_months where measure = 'exports' and programme = 'all'")
    for window in (6, 12):
        after = [row for row in months if row["window_months"] == window and row["event_month"] > 0]
        assert [row["event_month"] for row in sorted(after, key=lambda row: row["event_month"])] == [
            *range(1, window + 1)
        ]
        mean = float(np.mean([float(row["effect_pct"]) for row in after]))
        # Months differ in what is sold in them, so that their plain mean is a little off.
        assert mean == pytest.approx(float(found["exports", "all", window]["effect_pct"]), abs=6)
        assert all(row["band_low_pct"] < row["effect_pct"] < row["band_high_pct"] for row in after)


def _rows(query: str) -> list[dict]:
    with psycopg.connect(settings().dsn("builder"), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(query).fetchall()


def _estimated() -> list[dict]:
    return _rows("select * from build.mart_funding_outcomes")


def _windows_are_right(sampan: Sampan, world: World) -> None:
    """What the panel says of one funded enterprise, from what the simulator applied for and declared."""
    applied, start, brn, *sold = sampan.rows(
        "select applied_month, start_month, number, before_hkd, after_hkd"
        " from intermediate.int_funding__outcome_enterprises join intermediate.int_sme__numbered using (sme_id)"
        " where measure = 'exports' and window_months = 12 and exclusion is null and before_hkd > 0 and after_hkd > 0"
        " order by start_month desc, sme_id limit 1",
        role="builder",
    )[0]
    projects = tid.applications(world).filter((pl.col("brn") == brn) & (pl.col("outcome") == "approved"))
    first = projects["project_start_on"].min()
    assert first.replace(day=1) == start
    assert projects.filter(pl.col("project_start_on") <= first)["received_on"].min().replace(day=1) == applied
    lines = pl.concat(frame for _, frame in customs.declarations(world)).filter(pl.col("trader_id") == brn)
    lines = lines.filter(pl.col("version") == pl.col("version").max().over("declaration_no")).with_columns(
        pl.col("movement_date").str.to_date().dt.month_start().alias("month")
    )
    expected = [
        lines.filter(pl.col("month").is_between(first_month, last_month))["value_hkd"].sum()
        for first_month, last_month in (
            (_months_later(applied, -12), _months_later(applied, -1)),
            (_months_later(start, 1), _months_later(start, 12)),
        )
    ]
    assert [float(value) for value in sold] == pytest.approx(expected, abs=0.05)


def _months_later(month: date, count: int) -> date:
    months = month.year * 12 + month.month - 1 + count
    return date(months // 12, months % 12 + 1, 1)


def _is_fenced_and_repeatable(sampan: Sampan) -> None:
    queries = [
        "select * from ops.funding_outcome order by measure, programme, window_months",
        "select * from ops.funding_outcome_month order by measure, programme, window_months, event_month",
    ]
    kept = [sampan.rows(query) for query in queries]
    assert outcomes.run("1/marts__funding/1")["rows"] == 24
    assert [sampan.rows(query) for query in queries] == kept
    with pytest.raises(TransientFailure, match="claimed by another worker"):
        outcomes.run("1/marts__funding/0")
