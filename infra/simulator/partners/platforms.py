"""Order lines as the Mainland platforms send them: the state of every line that changed, amounts as text in yuan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import digits, joined, number, only, pick, take
from infra.simulator.partners.hktdc import STAYS, participants
from infra.simulator.partners.marks import marked
from infra.simulator.partners.openings import opens
from infra.simulator.partners.tid import applications
from infra.simulator.population import persons
from infra.simulator.shops import shops
from infra.simulator.world import FESTIVALS, World, festival_on

# Planted: what a festival does to the orders of a shop that takes part, and to any other, while it lasts, and what of it
# stays with those who took part, up to so many days after the last one.
FESTIVAL_UPLIFT, FESTIVAL_SPILL = 1.60, 1.04
RETAINED_UPLIFT = ((30, 1.12), (90, 1.06))
# Planted: what a live stream does to the orders of its day, and how many a day there are, in a festival for those who take
# part. Other days are lower for it, so that live streams change when is sold, not how much.
LIVE_UPLIFT = 1.30
SESSIONS_A_DAY, SESSIONS_A_FESTIVAL_DAY = 0.08, 0.30
# Planted: the share of order lines that are sent back, and what of it is left while the enterprise holds a quality mark.
REFUNDED, REFUNDED_UNDER_A_MARK = 0.065, 0.5
# Planted: the share of the lines of a bonded shop that are sold under its regime.
UNDER_ONE_REGIME, BONDED = 0.95, "1210"
WEEKDAYS = (0.96, 0.95, 0.97, 0.98, 1.02, 1.08, 1.06)
ASKS_AGAIN = 0.25
# Nothing happens to an order line so many days after it was placed.
CHANGES_WITHIN = 25
# Bounds of what consumers pay for an item, in yuan; how fees vary around a price, and the share of a fee that is paid.
LOWEST_PRICE, HIGHEST_PRICE = 25.0, 1800.0
FEES, PAID_OF_FEE = (0.85, 1.15), (0.8, 1.0)
ORDER = (
    "platform",
    "tid",
    "oid",
    "store_id",
    "shop_name",
    "status",
    "refund_status",
    "created",
    "pay_time",
    "modified",
    "title",
    "sku_id",
    "category",
    "customs_regime",
    "num",
    "total_fee",
    "payment",
    "refund_fee",
    "buyer_nick",
    "receiver_name",
    "receiver_mobile",
    "receiver_city",
    "receiver_address",
)


def demand(world: World, day: date) -> np.ndarray:
    """Orders that each shop may expect on a day, the planted effects included."""
    known = shops(world)
    effect = np.ones(len(known))
    for event, first, last in FESTIVALS:
        after = (day - last).days
        if first <= day <= last:
            effect = np.where(takes_part(world, event), FESTIVAL_UPLIFT, FESTIVAL_SPILL)
        elif 0 < after <= RETAINED_UPLIFT[-1][0]:
            stays = next(factor for days, factor in RETAINED_UPLIFT if after <= days)
            effect = np.where(takes_part(world, event), stays, 1.0)
    funded = np.where(_funded_from(world) <= number(day), world.effects.orders_funded, 1.0)
    return known["orders_a_day"].to_numpy() * effect * funded * WEEKDAYS[day.weekday()]


def expected_orders(world: World, day: date) -> np.ndarray:
    """Demand of the shops that are open, as their live streams of the day move it."""
    chance = 1 - np.exp(-_sessions_a_day(world, day))
    factor = np.where(live_sessions(world, day) > 0, LIVE_UPLIFT, 1) / (1 + chance * (LIVE_UPLIFT - 1))
    return demand(world, day) * factor * (opens(world) <= number(day))


def orders_placed(world: World, day: date, generator: np.random.Generator | None = None) -> np.ndarray:
    """Orders placed at each shop on a day: what the generator of the day's orders draws first."""
    return (generator or world.rng("orders", day)).poisson(expected_orders(world, day))


def prices(world: World) -> np.ndarray:
    """What each shop asks for an item, in yuan."""
    asked = np.clip(np.array([entry[3] for entry in words.GOODS], dtype=float) * 1.1, LOWEST_PRICE, HIGHEST_PRICE)
    return asked[shops(world)["good"].to_numpy()]


def live_sessions(world: World, day: date) -> np.ndarray:
    """Live streams of each shop on a day."""
    return world.rng("live-streams", day).poisson(_sessions_a_day(world, day))


def _sessions_a_day(world: World, day: date) -> np.ndarray:
    event = festival_on(day)
    in_festival = takes_part(world, event) if event else np.zeros(len(shops(world)), dtype=bool)
    return np.where(in_festival, SESSIONS_A_FESTIVAL_DAY, SESSIONS_A_DAY)


def takes_part(world: World, event: str) -> np.ndarray:
    """Whether each shop takes part in a festival to its end."""
    if f"takes_part_{event}" not in world.kept:
        there = participants(world).filter((pl.col("event_id") == event) & (pl.col("leaves") == STAYS))
        there = there.select("platform", "store_id", pl.lit(True).alias("there"))
        found = shops(world).join(there, on=["platform", "store_id"], how="left", maintain_order="left")
        world.kept[f"takes_part_{event}"] = found["there"].fill_null(False).to_numpy()
    return world.kept[f"takes_part_{event}"]


def _funded_from(world: World) -> np.ndarray:
    if "shops_funded_from" not in world.kept:
        first = (
            applications(world)
            .filter(pl.col("project_start_on").is_not_null() & (pl.col("programme") == "bud_ecommerce_easy"))
            .group_by("brn")
            .agg(pl.col("project_start_on").min())
        )
        found = shops(world).select("brn").join(first, on="brn", how="left", maintain_order="left")["project_start_on"]
        world.kept["shops_funded_from"] = found.cast(pl.Int32).fill_null(10**7).to_numpy()
    return world.kept["shops_funded_from"]


def platform_orders(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """For each business date the last state of every order line that changed since the one before."""
    waiting: dict[date, pl.DataFrame] = {}
    for period in world.periods:
        since = max(world.first, period.first_day - timedelta(days=CHANGES_WITHIN))
        waiting = {day: changes for day, changes in waiting.items() if day >= since}
        for step in range((period.business_date - since).days + 1):
            day = since + timedelta(days=step)
            if day not in waiting:
                waiting[day] = _life(world, day)
        begin, end = number(period.first_day) * 86_400, (number(period.business_date) + 1) * 86_400
        within = [
            changes.filter(pl.col("at").is_between(begin, end, closed="left")) for _, changes in sorted(waiting.items())
        ]
        today = pl.concat(within).sort("oid", "at", maintain_order=True).group_by("oid", maintain_order=True).last()
        if len(today):
            yield period.business_date, _shaped(today.sort("at", "oid"))


def _orders(world: World, day: date) -> pl.DataFrame:
    """Order lines placed on a day, with the seconds since 1970 (in UTC+8) at which each thing happens to them."""
    generator = world.rng("orders", day)
    known = shops(world)
    placed = orders_placed(world, day, generator)
    shop = np.repeat(np.arange(len(known)), placed)
    count = len(shop)
    lines = 1 + (generator.random(count) < 0.12)
    shop, order = np.repeat(shop, lines), np.repeat(np.arange(count), lines)
    total = len(shop)
    second_line = np.append(False, order[1:] == order[:-1])[:total]
    tid = number(day) * 10**9 + order * 10 + 10**15
    second = np.repeat(number(day) * 86_400 + generator.integers(0, 86_400 - 1, count), lines)
    paid = np.repeat(generator.random(count) < 0.87, lines)
    paid_at = second + np.repeat(generator.integers(10, 3000, count), lines)
    sent = paid_at + generator.integers(8_000, 150_000, total)
    signed = sent + generator.integers(150_000, 500_000, total)
    finished = signed + generator.integers(200_000, 864_000, total)
    refund_asked = signed + generator.integers(4_000, 200_000, total)
    refund_done = refund_asked + generator.integers(20_000, 300_000, total)
    refunded = paid & (
        generator.random(total)
        < np.where(marked(world, known["sme_no"], day), REFUNDED_UNDER_A_MARK, 1)[shop] * REFUNDED
    )
    refused = refunded & (generator.random(total) < 0.12)
    good = known["good"].to_numpy()[shop]
    price = prices(world)[shop]
    items = 1 + np.minimum(generator.poisson(0.35, total), 8)
    fee = np.round(price * generator.uniform(*FEES, total) * items * 100).astype(np.int64)
    payment = np.round(fee * generator.uniform(*PAID_OF_FEE, total)).astype(np.int64)
    part = np.where(generator.random(total) < 0.8, payment, payment // 2)
    # Planted: part of those who got part of their money back ask once more, for the rest.
    rest = payment - part
    again = refunded & ~refused & (rest > 0) & (generator.random(total) < ASKS_AGAIN)
    again_asked = refund_done + generator.integers(20_000, 200_000, total)
    again_done = again_asked + generator.integers(20_000, 200_000, total)
    again_refused = again & (generator.random(total) < 0.4)
    brand = known["shop_name"].str.slice(0, 3)
    regimes, regime_shares = zip(*words.REGIMES, strict=True)
    regime = pick(generator, regimes, total, regime_shares)
    bonded = known["is_bonded"].to_numpy()[shop] & (world.rng("bonded-lines", day).random(total) < UNDER_ONE_REGIME)
    buyer = persons(generator, total, simplified=True)
    return pl.DataFrame(
        {
            "platform": known["platform"].gather(pl.Series(shop)),
            "tid": digits(tid, 16),
            "oid": digits(tid + second_line, 16),
            "store_id": known["store_id"].gather(pl.Series(shop)),
            "shop_name": known["shop_name"].gather(pl.Series(shop)),
            "title": joined(brand.gather(pl.Series(shop)), " ", take([entry[5] for entry in words.GOODS], good)),
            "sku_id": joined("SKU", digits(good * 100 + generator.integers(0, 9, total), 6)),
            "category": known["category"].gather(pl.Series(shop)),
            "customs_regime": only(bonded, pl.Series([BONDED] * total, dtype=pl.String), regime),
            "num": items,
            "fee": fee,
            "pay": payment,
            "refund": part,
            "created_at": second,
            "paid": paid,
            "paid_at": paid_at,
            "sent_at": sent,
            "signed_at": signed,
            "finished_at": finished,
            "refunded": refunded,
            "refused": refused,
            "refund_asked_at": refund_asked,
            "refund_done_at": refund_done,
            "again": again,
            "again_refused": again_refused,
            "again_asked_at": again_asked,
            "again_done_at": again_done,
            "rest": rest,
            "buyer_nick": joined("tb_买家_", digits(generator.integers(0, 10**8, total), 8)),
            "receiver_name": buyer,
            "receiver_mobile": joined("100", digits(generator.integers(0, 10**8, total), 8)),
            "receiver_city": pick(generator, ["杭州市", "上海市", "深圳市", "成都市", "武汉市"], total),
            "receiver_address": joined("虚构路", digits(generator.integers(1, 9999, total), 4), "号"),
        }
    )  # fmt: skip


def _life(world: World, day: date) -> pl.DataFrame:
    """Every state that the order lines placed on a day take, one row per order line and change, `at` its second."""
    orders = _orders(world, day)
    kept, refunded = pl.col("paid") & ~pl.col("refunded"), pl.col("refunded")
    nothing = pl.lit(None, dtype=pl.String)

    def state(
        when: pl.Expr, at: pl.Expr, status: str, refund: pl.Expr = nothing, amount: str = "refund"
    ) -> pl.DataFrame:
        return orders.filter(when).with_columns(
            at.alias("at"),
            pl.lit(status).alias("status"),
            refund.alias("refund_status"),
            pl.col(amount).alias("refund"),
        )

    again_settled = pl.when("again_refused").then(pl.lit("SELLER_REFUSE_BUYER")).otherwise(pl.lit("SUCCESS"))
    again = pl.col("again")
    settled = pl.when("refused").then(pl.lit("SELLER_REFUSE_BUYER")).otherwise(pl.lit("SUCCESS"))
    return pl.concat(
        [
            state(pl.lit(True), pl.col("created_at"), "WAIT_BUYER_PAY"),
            state(~pl.col("paid"), pl.col("created_at") + 86_400, "TRADE_CLOSED_BY_TAOBAO"),
            state(pl.col("paid"), pl.col("paid_at"), "WAIT_SELLER_SEND_GOODS"),
            state(pl.col("paid"), pl.col("sent_at"), "WAIT_BUYER_CONFIRM_GOODS"),
            state(kept, pl.col("signed_at"), "TRADE_BUYER_SIGNED"),
            state(kept, pl.col("finished_at"), "TRADE_FINISHED"),
            state(refunded, pl.col("refund_asked_at"), "WAIT_BUYER_CONFIRM_GOODS", pl.lit("WAIT_SELLER_AGREE")),
            state(refunded & ~pl.col("refused"), pl.col("refund_done_at"), "TRADE_CLOSED", settled),
            state(refunded & pl.col("refused"), pl.col("refund_done_at"), "TRADE_FINISHED", settled),
            state(again, pl.col("again_asked_at"), "TRADE_CLOSED", pl.lit("WAIT_SELLER_AGREE"), "rest"),
            state(again, pl.col("again_done_at"), "TRADE_CLOSED", again_settled, "rest"),
        ]
    )


def _yuan(cents: pl.Expr) -> pl.Expr:
    return pl.concat_str((cents // 100).cast(pl.String), pl.lit("."), (cents % 100).cast(pl.String).str.zfill(2))


def _shaped(states: pl.DataFrame) -> pl.DataFrame:
    def text(second: pl.Expr) -> pl.Expr:
        return pl.from_epoch(second, time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")

    return states.with_columns(
        text(pl.col("created_at")).alias("created"),
        pl.when(pl.col("paid") & (pl.col("at") >= pl.col("paid_at"))).then(text(pl.col("paid_at"))).alias("pay_time"),
        text(pl.col("at")).alias("modified"),
        _yuan(pl.col("fee")).alias("total_fee"),
        _yuan(pl.col("pay")).alias("payment"),
        pl.when(pl.col("refund_status").is_not_null()).then(_yuan(pl.col("refund"))).alias("refund_fee"),
    ).select(ORDER)
