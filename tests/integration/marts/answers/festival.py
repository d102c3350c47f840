"""Festivals: performance (13) and uplift (14)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import polars as pl

from infra.simulator.world import FESTIVALS
from tests.integration.world import Simulated

BEFORE, AFTER, SETTLING = 28, (30, 90), 15
CENT = Decimal("0.01")


def order_lines(world: Simulated) -> pl.DataFrame:
    """The last state of every order line: days as dates, amounts in fen, `refund` only where it was paid back."""
    lines = world.frames["platform_orders"].sort("modified_at").unique(["platform", "oid"], keep="last")
    paid_back = pl.when(pl.col("refund_status") == "SUCCESS").then(fen("refund_fee_cny")).otherwise(0)
    return lines.select(
        "platform", "oid", "tid", "store_id", "category",
        day_of("created_at").alias("placed_on"), day_of("paid_at").alias("paid_on"),
        fen("total_fee_cny").alias("fee"), fen("payment_cny").alias("payment"), paid_back.alias("refund"),
    )  # fmt: skip


def fen(column: str) -> pl.Expr:
    """An amount of yuan in text as fen."""
    return (pl.col(column).cast(pl.Float64) * 100).round().cast(pl.Int64)


def day_of(column: str) -> pl.Expr:
    """The date of a time in text."""
    return pl.col(column).cast(pl.String).str.slice(0, 10).str.to_date()


def rates(world: Simulated) -> pl.DataFrame:
    """Renminbi rates by day, in millionths of a Hong Kong dollar per yuan."""
    known = world.frames["hkma_exchange_rates"].filter(pl.col("cny").is_not_null())
    known = known.sort("business_date").unique("end_of_day", keep="last").sort("end_of_day")
    rate = (pl.col("cny").cast(pl.Float64) * 1e6).round().cast(pl.Int64)
    return known.select(pl.col("end_of_day").cast(pl.String).str.to_date().alias("day"), rate.alias("rate"))


def in_hkd(frame: pl.DataFrame, world: Simulated, *columns: str) -> pl.DataFrame:
    """Columns in fen as cents of Hong Kong dollars at the last rate known on the row's `day`, each row rounded."""
    known = frame.sort("day").join_asof(rates(world), on="day")
    return known.with_columns(((pl.col(name) * pl.col("rate") + 500_000) // 1_000_000).alias(name) for name in columns)


def taking_part(world: Simulated) -> pl.DataFrame:
    """Participants of each event that did not withdraw, with the days of the event, and whether it is their first."""
    days = pl.DataFrame(FESTIVALS, schema=["event_id", "first_day", "last_day"], orient="row")
    listed = world.frames["festival_participants"].sort("business_date")
    listed = listed.unique(["event_id", "merchant_no", "platform"], keep="last").filter(pl.col("status") == "joined")
    listed = listed.select("event_id", "merchant_no", "platform", "store_id", "joined_on").join(days, on="event_id")
    first = pl.col("first_day").min().over("merchant_no")
    listed = listed.with_columns((pl.col("first_day") == first).alias("is_new")).sort("joined_on", "merchant_no")
    return listed.unique(["event_id", "platform", "store_id"], keep="last").drop("joined_on")


def question_13(world: Simulated) -> list[tuple[Any, ...]]:
    """By event, platform and category: merchants that took part on the platform, that sold, that are new; sales."""
    part, lines = taking_part(world), order_lines(world)
    keys = ["event_id", "merchant_no", "platform", "category", "day"]
    placed = lines.sort("oid").with_columns(
        pl.col("placed_on").alias("day"), (pl.int_range(pl.len()).over("platform", "tid") == 0).alias("order")
    )
    paid = lines.filter(pl.col("paid_on").is_not_null()).with_columns(pl.col("paid_on").alias("day"))
    nothing = pl.lit(0, dtype=pl.Int64)
    events = pl.concat(
        [
            placed.select("platform", "store_id", "category", "day", pl.col("order").cast(pl.Int64), "fee",
                          nothing.alias("payment"), nothing.alias("net")),
            paid.select("platform", "store_id", "category", "day", nothing.alias("order"), nothing.alias("fee"),
                        "payment", (pl.col("payment") - pl.col("refund")).alias("net")),
        ]
    )  # fmt: skip
    sold = events.join(part, on=["platform", "store_id"]).filter(pl.col("day").is_between("first_day", "last_day"))
    daily = sold.group_by([*keys, "is_new"]).agg(pl.col("order", "fee", "payment", "net").sum())
    daily = in_hkd(daily, world, "fee", "payment", "net")
    took_part = part.group_by("event_id", "platform").agg(pl.col("merchant_no").n_unique().alias("took_part"))
    found = daily.group_by("event_id", "platform", "category").agg(
        pl.col("merchant_no").n_unique().alias("sold"),
        pl.col("merchant_no").filter("is_new").n_unique().alias("new"),
        pl.col("order", "fee", "payment", "net").sum(),
        pl.col("net").filter("is_new").sum().alias("net_new"),
    )
    found = found.join(took_part, on=["event_id", "platform"]).sort("event_id", "platform", "category")
    money = ("fee", "payment", "net", "net_new")
    return [
        tuple(row[name] for name in ("event_id", "platform", "category", "took_part", "sold", "new", "order"))
        + tuple(Decimal(row[name]) / 100 for name in money)
        for row in found.iter_rows(named=True)
    ]


def windows(first: date, last: date) -> dict[str, tuple[date, date]]:
    """First and last day of what an event is compared over."""
    found = {"before": (first - timedelta(days=BEFORE), first - timedelta(days=1)), "during": (first, last)}
    return found | {f"after_{days}": (last + timedelta(days=1), last + timedelta(days=days)) for days in AFTER}


def question_14(world: Simulated) -> list[tuple[Any, ...]]:
    """By event and measure: shops, sales a day in the event and after it over those before, where days are complete."""
    lines, answers = order_lines(world), []
    # The days that the first delivery covers: a Monday's its weekend too.
    known_from = world.delivered["platform_orders"][0]
    known_from -= timedelta(days=2 if known_from.weekday() == 0 else 0)
    for event, first, last in FESTIVALS:
        shops = taking_part(world).filter(pl.col("event_id") == event)
        shops = shops.join(lines, on=["platform", "store_id"], how="semi")
        own = lines.join(shops, on=["platform", "store_id"], how="semi")
        for measure, on, value in (
            ("net", "paid_on", pl.col("payment") - pl.col("refund")),
            ("paid", "paid_on", pl.col("payment")),
            ("placed", "placed_on", pl.col("fee")),
        ):
            daily: dict[str, Decimal | None] = {}
            for window, (begin, end) in windows(first, last).items():
                settled = end + timedelta(days=SETTLING if measure == "net" else 0)
                complete = begin >= known_from and settled <= world.last
                sales = own.filter(pl.col(on).is_between(begin, end)).group_by("platform", "store_id").agg(value.sum())
                days = (end - begin).days + 1
                each = [Decimal(fen) / 100 / days for fen in sales[sales.columns[-1]].to_list()]
                total = sum((sale.quantize(CENT, ROUND_HALF_UP) for sale in each), Decimal(0))
                daily[window] = total if complete else None
            before = daily["before"]
            ratios = [
                None if before is None or after is None else round(after / before, 3)
                for after in (daily["during"], *(daily[f"after_{days}"] for days in AFTER))
            ]
            answers.append((event, measure, len(shops), *ratios, any(value is None for value in daily.values())))
    return answers
