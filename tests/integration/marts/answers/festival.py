"""Festivals: performance (13) and uplift (14)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from infra.simulator.world import FESTIVALS
from tests.conftest import ROOT
from tests.integration.marts.answers.orders import fen, refunds
from tests.integration.marts.answers.trade import enterprises
from tests.integration.marts.answers.who import linked, shop_key
from tests.integration.world import Simulated

BEFORE, AFTER, SETTLING = 28, (30, 90), 15


def order_lines(world: Simulated) -> pl.DataFrame:
    """The last state of every order line: days as dates, amounts in fen, `refund` what was paid back under all requests."""
    lines = world.frames["platform_orders"].sort("modified_at").unique(["platform", "oid"], keep="last")
    lines = lines.join(refunds(world), on=["platform", "oid"], how="left")
    return lines.select(
        "platform", "oid", "tid", "store_id", "category",
        day_of("created_at").alias("placed_on"), day_of("paid_at").alias("paid_on"),
        fen("total_fee_cny").alias("fee"), fen("payment_cny").alias("payment"),
        pl.min_horizontal(pl.col("granted").fill_null(0), fen("payment_cny")).alias("refund"),
    )  # fmt: skip


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


def festival_days(world: Simulated) -> pl.DataFrame:
    """Sales by event, merchant, shop, category and day of the event, in cents of Hong Kong dollars, and first orders."""
    part, lines = taking_part(world), order_lines(world)
    keys = ["event_id", "merchant_no", "platform", "store_id", "category", "day"]
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
    return in_hkd(daily, world, "fee", "payment", "net")


def question_13(world: Simulated) -> list[tuple[Any, ...]]:
    """By event, platform and category: merchants that took part on the platform, that sold, that are new; sales."""
    part, daily = taking_part(world), festival_days(world)
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


def question_24(world: Simulated) -> list[tuple[Any, ...]]:
    """By event and kind of brand: merchants with sales, repeat merchants, net sales, and their share of the event's."""
    register = world.frames["business_register"].unique(["brn", "branch_no"], keep="last", maintain_order=True)
    began = dict(
        register.sort("branch_no").unique("brn", keep="first").select("brn", day_of("commencement_date")).iter_rows()
    )
    micro = set(enterprises(world).filter(pl.col("sme_class") == "micro")["trader_id"])
    numbers = {sme: number for number, sme in linked(world, "number").iter_rows() if number in began}
    owners, first_days = dict(linked(world, "shop").iter_rows()), {event: first for event, first, _ in FESTIVALS}

    def brand(row: dict[str, Any]) -> str:
        number = numbers.get(owners.get(f"{row['platform']}:{row['store_id']}", ""))
        if number is None:
            return "not known"
        first = first_days[row["event_id"]]
        return "emerging" if number in micro or began[number] > first.replace(year=first.year - 5) else "other"

    sums: dict[str, dict[str, list[Any]]] = {}
    for row in festival_days(world).iter_rows(named=True):
        found = sums.setdefault(row["event_id"], {}).setdefault(brand(row), [set(), set(), 0])
        found[0].add(row["merchant_no"])
        if not row["is_new"]:
            found[1].add(row["merchant_no"])
        found[2] += row["net"]
    return [
        (
            event, kind, len(all_of), len(again), Decimal(net) / 100,
            round(net / sum(of[2] for of in kinds.values()), 4) if len(all_of) >= 10 else None,
        )
        for event, kinds in sorted(sums.items())
        for kind, (all_of, again, net) in sorted(kinds.items())
    ]  # fmt: skip


def windows(first: date, last: date) -> dict[str, tuple[tuple[date, date], tuple[date, date]]]:
    """First and last day before and after, of what an event is compared over."""
    day = timedelta(days=1)
    before = (first - BEFORE * day, first - day)
    halves = ((before[0], before[0] + (BEFORE // 2 - 1) * day), (before[0] + BEFORE // 2 * day, before[1]))
    found = {"placebo": halves, "during": (before, (first, last))}
    return found | {f"after_{days}": (before, (last + day, last + days * day)) for days in AFTER}


def shopping_days() -> list[tuple[date, date]]:
    """Days on which every shop sells more."""
    with (ROOT / "dbt_project" / "seeds" / "shopping_days.csv").open(encoding="utf-8") as file:
        return [
            (date.fromisoformat(row["first_day"]), date.fromisoformat(row["last_day"])) for row in csv.DictReader(file)
        ]


def kept_days(begin: date, end: date, leave_out: bool = True) -> list[date]:
    """The days from one to the other, shopping days left out."""
    days = [begin + timedelta(days=number) for number in range((end - begin).days + 1)]
    return [day for day in days if not (leave_out and any(first <= day <= last for first, last in shopping_days()))]


def orders_known_from(world: Simulated) -> date:
    """The first of the days that the first delivery of orders covers: a Monday's its weekend too."""
    first = world.delivered["platform_orders"][0]
    return first - timedelta(days=2 if first.weekday() == 0 else 0)


def festival_sides(world: Simulated, event: str, first: date) -> tuple[set[str], set[str]]:
    """Shops that took part in an event, and those whose enterprise did not, with an order before it began."""
    lines = order_lines(world).with_columns(shop_key())
    began = lines.group_by("source_key").agg(pl.min_horizontal("placed_on", "paid_on").min().alias("on"))
    there = set(began.filter(pl.col("on") < first)["source_key"])
    owners = dict(linked(world, "shop").iter_rows())
    part = taking_part(world).filter(pl.col("event_id") == event).with_columns(shop_key())
    taking = set(part["source_key"])
    firms = {owners[shop] for shop in taking if shop in owners}
    return taking & there, {shop for shop in there - taking if owners.get(shop) not in firms}


def question_14(world: Simulated) -> list[tuple[Any, ...]]:
    """By event, measure and complete window: shops, others, how both changed, and the effect with its interval."""
    lines = order_lines(world).with_columns(shop_key())
    owners, known_from = dict(linked(world, "shop").iter_rows()), orders_known_from(world)
    answers = []
    for event, first, last in FESTIVALS:
        taking, others = festival_sides(world, event, first)
        chosen = taking | others
        for measure, on, value in (
            ("net", "paid_on", pl.col("payment") - pl.col("refund")),
            ("paid", "paid_on", pl.col("payment")),
            ("placed", "placed_on", pl.col("fee")),
        ):
            for window, (before, after) in windows(first, last).items():
                settled = after[1] + timedelta(days=SETTLING if measure == "net" else 0)
                if before[0] < known_from or settled > world.last:
                    continue
                days = [kept_days(*before), kept_days(*after, leave_out=window != "during")]
                rows = {}
                for side, kept in enumerate(days):
                    sold = lines.filter(pl.col(on).is_in(kept), pl.col("source_key").is_in(list(chosen)))
                    for shop, category, fens in (
                        sold.group_by("source_key", "category").agg(value.sum().alias("fen")).iter_rows()
                    ):
                        rows.setdefault((shop, category), [0, 0])[side] = fens
                found = against_others(rows, taking, owners, len(days[0]), len(days[1]))
                answers.append((event, measure, window, *found))
    return answers


def of_platform(shop: str, category: str) -> str:
    """What shops of a festival are compared within."""
    return f"{shop.split(':')[0]}:{category}"


def against_others(
    rows: Mapping[tuple[str, str], Sequence[float]],
    taking: set[str],
    owners: dict[str, str],
    before: int,
    after: int,
    within: Callable[[str, str], str] = of_platform,
) -> tuple[Any, ...]:
    """Shops, others, own change, effect, its bounds, share of shops that rose: a logistic regression by Newton's method."""
    sales = [
        (shop, within(shop, category), shop in taking, first, second)
        for (shop, category), (first, second) in sorted(rows.items())
        if first + second > 0
    ]
    alive = {
        stratum
        for stratum in {row[1] for row in sales}
        if all(
            sum(row[of] for row in sales if row[1] == stratum and row[2] is side) > 0
            for side in (True, False)
            for of in (3, 4)
        )
    }
    sales = [row for row in sales if row[1] in alive]
    firms = [owners.get(row[0], row[0]) for row in sales]
    sides = [{firm for firm, row in zip(firms, sales, strict=True) if row[2] is side} for side in (True, False)]
    shops = [{row[0] for row in sales if row[2] is side} for side in (True, False)]
    counts = tuple(map(len, shops))
    numbers = [
        effective(
            [sum(r[3] + r[4] for f, r in zip(firms, sales, strict=True) if f == firm and r[2] is side) for firm in of]
        )
        for side, of in zip((True, False), sides, strict=True)
    ]
    if min(map(len, sides)) < 10 or min(numbers) < 3:
        return (*counts, None, None, None, None, None)
    strata = sorted(alive)
    design = np.array([[*(row[1] == stratum for stratum in strata), row[2]] for row in sales], dtype=float)
    totals = np.array([row[3] + row[4] for row in sales], dtype=float)
    weights, shares = totals / totals.mean(), np.array([row[4] for row in sales]) / totals
    offset, beta = np.log(after / before), np.zeros(design.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-(design @ beta + offset)))
        bread = np.linalg.inv((design * (weights * expected * (1 - expected))[:, None]).T @ design)
        beta += bread @ design.T @ (weights * (shares - expected))
    scores: dict[str, Any] = {}
    for firm, line, residual in zip(firms, design, weights * (shares - expected), strict=True):
        scores[firm] = scores.get(firm, 0) + line * residual
    meat = sum(np.outer(score, score) for score in scores.values())
    groups, count, number = len(scores), len(sales), min(numbers)
    variance = (bread @ meat @ bread)[-1, -1] * groups / (groups - 1) * (count - 1) / (count - design.shape[1])
    from scipy import stats

    error = np.sqrt(variance * number / (number - 1)) * stats.t.ppf(0.975, number - 1)
    own = [sum(row[of] for row in sales if row[2]) for of in (3, 4)]
    each = [[sum(row[of] for row in sales if row[0] == shop) for of in (3, 4)] for shop in shops[0]]
    rose = sum(last * before > first * after for first, last in each) / len(each)
    bounds = [float(np.exp(beta[-1] + step)) for step in (0, -error, error)]
    return (*counts, own[1] / after / (own[0] / before), *bounds, rose)


def effective(sold: Sequence[float]) -> float:
    """Kish's effective number of enterprises, weighted by what they sold."""
    return sum(sold) ** 2 / sum(value**2 for value in sold) if any(sold) else 0
