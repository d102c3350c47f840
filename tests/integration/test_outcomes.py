"""Outcomes of funding on real dbt and a real database: the interval covers the effect that the simulator planted."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
from sampan import build, outcomes
from sampan.contract import load
from sampan.errors import TransientFailure
from sampan.settings import settings

from infra.simulator.partners import customs, platforms, registers, tid
from infra.simulator.population import Population, make
from infra.simulator.world import Effects, Period, World
from tests.conftest import Sampan
from tests.integration.published import publish, publish_csv

FIRST, MONTHS = date(2024, 6, 1), 37
ENTERPRISES = 560
FAMILY = ("staging", "identity", "intermediate", "marts__funding")
NONE = Effects(exports_funded=1.0, orders_funded=1.0)


def months() -> list[Period]:
    """One business date a month, its last day, which covers the month."""
    firsts = [date(FIRST.year + (FIRST.month - 1 + step) // 12, (FIRST.month - 1 + step) % 12 + 1, 1)
              for step in range(MONTHS + 1)]  # fmt: skip
    return [Period(after - timedelta(days=1), first) for first, after in zip(firsts[:-1], firsts[1:], strict=True)]


def small_exporters(seed: int) -> Population:
    """Enterprises of one industry that all export and sell online; every second one applies for funding."""
    known = make(seed, 5 * ENTERPRISES)
    smes = known.smes.filter((pl.col("industry_section") == "G") & (pl.col("persons_engaged") < 10))
    smes = smes.filter(pl.col("brn").str.contains("^[0-9]{8}$")).head(ENTERPRISES)
    assert len(smes) == ENTERPRISES
    generator = np.random.default_rng(seed)
    return Population(
        seed,
        smes.with_columns(
            pl.Series("sme_no", np.arange(len(smes), dtype=np.int64)),
            pl.Series("exports_a_year", generator.uniform(30, 110, len(smes))),
            imports_a_year=pl.lit(0.0),
            has_shop=pl.lit(True),
            shops=pl.lit(1),
            in_festival=pl.lit(False),
            orders_a_day=pl.Series(generator.uniform(0.1, 0.3, len(smes))),
            is_applicant=pl.col("sme_no") % 2 == 0,
            commenced_on=pl.lit(date(2010, 1, 1)),
            size_basis=pl.lit("declared"),
        ),
        known.individuals.head(0),
    )


def send(feed: str, deliveries: object) -> None:
    """Publish what a simulated partner delivers, under the contract's names."""
    contract = load(feed)
    names = {column.source_name: column.name for column in contract.stored}
    for day, frame in deliveries:
        if frame is None or not len(frame):
            continue
        known = frame.rename({old: new for old, new in names.items() if old in frame.columns})
        columns = list(names.values())
        content = known.select(columns).write_csv(include_header=False)
        publish_csv(feed, columns, day, content, f"{day + timedelta(days=1)} 08:00")


@pytest.fixture(autouse=True)
def _shared_state(sampan: Sampan, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path_factory.getbasetemp() / "state"))
    settings.cache_clear()


def build_family() -> None:
    for step in FAMILY:
        build.run(step)


COLUMNS = (
    "measure", "programme", "status", "funded_count", "matched_funded_count", "unfunded_count", "effect_pct",
    "effect_low_pct", "effect_high_pct", "placebo_low_pct", "placebo_high_pct", "trends_are_parallel",
)  # fmt: skip


def estimated(sampan: Sampan) -> pl.DataFrame:
    rows = sampan.rows(f"select {', '.join(COLUMNS)} from build.mart_funding_outcomes", role="builder")
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").sort("measure", "programme")


@pytest.mark.parametrize(
    ("seed", "effects"), [(20260706, Effects(1.30, 1.40)), (11, NONE)], ids=["planted effect", "no effect"]
)
def test_the_interval_covers_what_the_simulator_planted(sampan, seed, effects):
    world = World(seed, small_exporters(seed), months(), effects)
    send("business_register", registers.business_register(world))
    send("funding_applications", tid.funding_applications(world))
    send("customs_declarations", customs.declarations(world))
    send("platform_orders", platforms.platform_orders(world))
    publish("hkma_exchange_rates", world.first, [{"end_of_day": world.first, "cny": "1.1"}])
    shops = platforms.shops(world).select("platform", "store_id", "shop_name", "brn")
    participants = shops.with_columns(merchant_no=pl.format("M{}", pl.int_range(100_000, 100_000 + pl.len())))
    publish("festival_participants", world.first, participants.to_dicts())
    build_family()

    found = estimated(sampan)
    print(found)
    assert len(found) == 12
