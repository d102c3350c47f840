"""What HKTDC does for enterprises besides the festivals: its Design Gallery's online stores, and its trade missions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl

from infra.simulator import names
from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, take
from infra.simulator.population import persons
from infra.simulator.world import World, festival_on

STORES = (("taobao", 0.5), ("jd_international", 0.3), ("jd_cross_border", 0.2))
FESTIVAL_UPLIFT = 1.35  # planted: what the festival does to the sales of Design Gallery
HKD_PER_CNY = 1.14
MARKUP = 1.8
# Planted: the share of suppliers that Design Gallery takes on after the first day of the world, and how many days after.
SUPPLIES_LATER, TAKEN_ON = 0.5, (190, 650)
# Days before a mission from which on enterprises register.
REGISTERS_AHEAD = 80
MISSION_WEEKDAY = 3  # the weekday (1 Monday) of the list of participants


def items(world: World) -> pl.DataFrame:
    """One row per item on sale: supplier, number, name, category, brand, price in HKD and units a day in each store."""
    if "gallery_items" in world.kept:
        return world.kept["gallery_items"]
    generator = world.rng("gallery")
    makers = world.population.smes.filter(pl.col("brn").str.contains("^[0-9]{8}$"))
    trades = ((makers["exports_a_year"] > 0) | makers["has_shop"]).to_numpy()
    makers = makers.filter(pl.Series(trades & (generator.random(len(makers)) < 0.25)))
    row = np.repeat(np.arange(len(makers)), 1 + generator.integers(0, 4, len(makers)))
    count = len(row)
    sellable = np.array([place for place, good in enumerate(words.GOODS) if good[4] != "trade"])
    good = sellable[generator.integers(0, len(sellable), count)]
    price = np.array([entry[3] for entry in words.GOODS])[good] * generator.uniform(0.8, 1.4, count) * MARKUP
    world.kept["gallery_items"] = pl.DataFrame(
        {
            "sme_no": makers["sme_no"].gather(pl.Series(row)),
            "supplier_brn": makers["brn"].gather(pl.Series(row)),
            "sku_id": joined("DG", digits(100_000 + np.arange(count), 6)),
            "item_name": joined(
                makers["brand_simplified"].gather(pl.Series(row)), " ", take([g[5] for g in words.GOODS], good)
            ),
            "brand_name": makers["brand_simplified"].gather(pl.Series(row)),
            "category": take([entry[4] for entry in words.GOODS], good),
            "price_hkd": np.round(np.clip(price, 20, 3000), 1),
            "units_a_day": np.clip(generator.lognormal(-1.5, 0.8, count), 0.02, 3.2),
            "on_sale_from": _on_sale_from(world, len(makers))[row],
        }
    )
    return world.kept["gallery_items"]


def _on_sale_from(world: World, makers: int) -> np.ndarray:
    """The day from which on Design Gallery sells for each supplier: from the beginning, or some time after it."""
    generator = world.rng("gallery-suppliers")
    later = generator.random(makers) < SUPPLIES_LATER
    return np.where(later, number(world.first) + generator.integers(*TAKEN_ON, makers), 0)


def design_gallery_sales(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """For each business date the sales of the days since the one before; no row for an item that did not move."""
    for period in world.periods:
        parts = [_sales(world, day) for day in period.days]
        today = pl.concat(parts)
        yield period.business_date, today if len(today) else None


def _sales(world: World, day: date) -> pl.DataFrame:
    known, generator = items(world), world.rng("gallery-sales", day)
    uplift = np.where(known["on_sale_from"] <= number(day), FESTIVAL_UPLIFT if festival_on(day) else 1.0, 0.0)
    parts = []
    for store, share in STORES:
        count = len(known)
        sold = generator.poisson(known["units_a_day"].to_numpy() * share * uplift)
        returned = generator.binomial(generator.poisson(known["units_a_day"].to_numpy() * share * (uplift > 0)), 0.05)
        cents = np.round(known["price_hkd"].to_numpy() * 100 * generator.uniform(0.85, 1.0, count)).astype(np.int64)
        cross = store == "jd_cross_border"
        cents = cents if cross else np.round(cents / HKD_PER_CNY).astype(np.int64)
        sales, refunds = pl.Series(sold * cents / 100), pl.Series(returned * cents / 100)
        nothing = pl.Series([None] * count, dtype=pl.Float64)
        parts.append(
            known.select("sku_id", "item_name", "category", "brand_name", "supplier_brn").with_columns(
                pl.lit(day).alias("sale_date"),
                pl.lit(store).alias("store"),
                pl.Series(sold).alias("units_sold"),
                pl.Series(returned).alias("units_returned"),
                (nothing if cross else sales).alias("sales_cny"),
                (sales if cross else nothing).alias("sales_hkd"),
                (nothing if cross else refunds).alias("returns_cny"),
                (refunds if cross else nothing).alias("returns_hkd"),
            )
        )
    moved = pl.concat(parts).filter((pl.col("units_sold") > 0) | (pl.col("units_returned") > 0))
    return moved.sort("store", "sku_id")


def missions(world: World) -> pl.DataFrame:
    """One row per event and enterprise: an event every three weeks, from half a year before the first day of the world to
    as far ahead as anybody registers."""
    if "missions" in world.kept:
        return world.kept["missions"]
    smes = world.population.smes.filter(pl.col("brn").str.contains("^[0-9]{8}$"))
    wish = np.where(smes["exports_a_year"].to_numpy() > 0, 0.05, 0.004)
    parts = []
    start = world.first - timedelta(days=180)
    for serial in range((world.last + timedelta(days=REGISTERS_AHEAD) - start).days // 21 + 1):
        generator = world.rng("missions", serial)
        opens = start + timedelta(days=21 * serial)
        market = words.MARKETS[serial % len(words.MARKETS)]
        goes = smes.filter(pl.Series(generator.random(len(smes)) < wish))
        count = len(goes)
        answered = generator.random(count) < 0.5
        parts.append(
            goes.select("sme_no", "brn").with_columns(
                pl.lit(f"TM-{opens.year}-{serial + 1:03}").alias("event_id"),
                joined("P", digits(np.arange(count) + 1, 4)).alias("participant_no"),
                pl.lit(f"Hong Kong trade mission to {market[4][0]}").alias("event_name"),
                pl.lit(market[0]).alias("market"),
                pl.lit(opens).alias("starts_on"),
                pl.lit(opens + timedelta(days=3)).alias("ends_on"),
                only(generator.random(count) < 0.85, goes["brn"]).alias("given_brn"),
                names.in_forms(generator, goes).alias("enterprise_name"),
                dates(number(opens) - generator.integers(15, REGISTERS_AHEAD, count)).alias("registered_on"),
                pl.Series(generator.random(count) < 0.08).alias("withdraws"),
                only(answered, pl.Series(generator.poisson(9, count))).alias("answered_meetings"),
                only(answered, pl.Series(np.round(generator.lognormal(11.5, 1.2, count), -2))).alias("answered_orders"),
                persons(generator, count).alias("contact_name"),
                joined("tm", digits(generator.integers(0, 10**8, count), 8), "@missions.invalid").alias(
                    "contact_email"
                ),
            )
        )
    world.kept["missions"] = pl.concat(parts)
    return world.kept["missions"]


def trade_missions(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Every Wednesday, the last one before the world began included, the list of all events as it stands.

    Of a larger delivery of the history only the last list.
    """
    shown = (
        "event_id", "participant_no", "event_name", "market", "starts_on", "ends_on", "brn", "enterprise_name",
        "status", "meetings", "expected_orders_hkd", "contact_name", "contact_email",
    )  # fmt: skip
    known = missions(world)
    for period in world.periods:
        day = period.business_date
        day -= timedelta(days=(day.isoweekday() - MISSION_WEEKDAY) % 7)
        if not world.covers(period, day):
            continue
        went = (pl.col("ends_on") < day) & ~pl.col("withdraws")
        soon = pl.col("starts_on") < day + timedelta(days=21)
        status = pl.when("withdraws").then(pl.lit("withdrawn")).when(went).then(pl.lit("attended"))
        status = status.when(soon).then(pl.lit("confirmed")).otherwise(pl.lit("registered"))
        listed = known.filter(pl.col("registered_on") <= day).with_columns(
            pl.col("given_brn").alias("brn"),
            status.alias("status"),
            pl.when(went).then("answered_meetings").alias("meetings"),
            pl.when(went).then("answered_orders").alias("expected_orders_hkd"),
        )
        if len(listed):
            yield day, listed.select(shown)
