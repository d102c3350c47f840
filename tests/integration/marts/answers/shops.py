"""Shops: live streams (25), platforms after a grant (28), Design Gallery (29), marks (32) and dependence (35)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from infra.simulator.world import FESTIVALS
from tests.integration.marts.answers.festival import (
    against_others,
    effective,
    festival_sides,
    kept_days,
    order_lines,
    orders_known_from,
    rates,
    shopping_days,
    taking_part,
    windows,
)
from tests.integration.marts.answers.funding import funded_applications
from tests.integration.marts.answers.programmes import last_12_months
from tests.integration.marts.answers.trade import enterprises
from tests.integration.marts.answers.who import linked, shop_key
from tests.integration.world import Simulated

FOLLOWED = timedelta(days=180)


def sizes(world: Simulated) -> dict[str, str]:
    """Size class of each enterprise that the register shows."""
    known = linked(world, "number").join(enterprises(world), left_on="source_key", right_on="trader_id")
    return dict(known.select("sme_id", "sme_class").iter_rows())


def paid_days(world: Simulated) -> pl.DataFrame:
    """What each shop was paid on a day, in fen: `source_key`, `platform`, `day`, `fen`."""
    lines = order_lines(world).filter(pl.col("paid_on").is_not_null(), pl.col("payment") > 0).with_columns(shop_key())
    return lines.group_by("source_key", "platform", pl.col("paid_on").alias("day")).agg(
        pl.col("payment").sum().alias("fen")
    )


def live_days(world: Simulated) -> pl.DataFrame:
    """One row per period, shop and day that the platform counted, of shops with orders that are not of large enterprises."""
    day = pl.col("stat_date").cast(pl.String).str.to_date()
    counted = world.frames["platform_traffic"].with_columns(day.alias("day"), shop_key())
    counted = counted.unique(["source_key", "day"], keep="last", maintain_order=True)
    owners, classes = dict(linked(world, "shop").iter_rows()), sizes(world)
    shared = order_lines(world).select(shop_key()).unique()["source_key"]
    size = {shop: classes.get(owners.get(shop, ""), "unknown") for shop in shared}
    table = pl.DataFrame(
        {"source_key": list(size), "size": list(size.values()), "firm": [owners.get(shop, shop) for shop in size]}
    ).filter(pl.col("size") != "large")
    counted = counted.join(table, on="source_key").join(
        paid_days(world).drop("platform"), on=["source_key", "day"], how="left"
    )
    counted = counted.with_columns(pl.col("fen").fill_null(0))
    first, last = last_12_months(world)
    parts = [("last_12_months", first, last, counted)]
    for event, begin, end in FESTIVALS:
        shops = taking_part(world).filter(pl.col("event_id") == event).with_columns(shop_key())["source_key"]
        parts.append((event, begin, end, counted.filter(pl.col("source_key").is_in(shops.implode()))))
    return pl.concat(
        rows.filter(pl.col("day").is_between(begin, end)).with_columns(pl.lit(period).alias("period"))
        for period, begin, end, rows in parts
        if begin >= max(orders_known_from(world), min(world.delivered["platform_traffic"]))
    )


def question_25(world: Simulated) -> list[tuple[Any, ...]]:
    """By period and platform: shops, live streams, what was paid in them, and paid on days with one against others."""
    days = live_days(world).sort("day").join_asof(rates(world), on="day")
    rate = pl.col("rate") / 1e6
    days = days.with_columns(
        live=(pl.col("live_payment_cny").cast(pl.Float64) * rate), paid=pl.col("fen") / 100 * rate,
        streams=pl.col("live_sessions") > 0,
    )  # fmt: skip
    answers = []
    for audience in ("all", *sorted(days["platform"].unique())):
        for (period,), rows in days.filter((pl.col("platform") == audience) | (audience == "all")).partition_by(
            "period", as_dict=True
        ).items():  # fmt: skip
            live, paid, minutes = (rows[name].sum() for name in ("live", "paid", "live_minutes"))
            streaming = rows.filter("streams")["source_key"].n_unique()
            enough = streaming >= 10
            unknown = rows.filter(pl.col("size") == "unknown")["source_key"].n_unique()
            answers.append((
                period, audience, rows["source_key"].n_unique(), streaming, unknown, rows["live_sessions"].sum(), minutes,
                live, live / paid if enough else None, live / minutes if enough else None, *_within_shops(rows),
            ))  # fmt: skip
    assert any(row[11] for row in answers)
    return sorted(answers, key=lambda row: row[:2])


def _within_shops(rows: pl.DataFrame) -> tuple[Any, ...]:
    """Shops with days of both kinds, and what they were paid a day with a live stream over their other days, with bounds."""
    sales = {
        number: place
        for place, (first, last) in enumerate(shopping_days())
        for number in range(first.toordinal(), last.toordinal() + 1)
    }
    kinds = rows.with_columns(
        month=pl.col("day").dt.month_start(), weekend=pl.col("day").dt.weekday() > 5,
        sale=pl.Series([sales.get(day.toordinal(), -1) for day in rows["day"]]),
    ).group_by("source_key", "firm", "month", "weekend", "sale").agg(
        pl.col("streams").sum().alias("days"), (~pl.col("streams")).sum().alias("others"),
        pl.col("fen").filter("streams").sum().alias("with"), pl.col("fen").filter(~pl.col("streams")).sum().alias("without"),
    ).filter(pl.col("days") > 0, pl.col("others") > 0, pl.col("with") + pl.col("without") > 0)  # fmt: skip
    shops = kinds["source_key"].n_unique()
    sold = kinds.group_by("firm").agg((pl.col("with") + pl.col("without")).sum().alias("fen"))["fen"].to_list()
    if len(sold) < 10 or effective(sold) < 3:
        return (shops, None, None, None)
    total = (kinds["with"] + kinds["without"]).to_numpy().astype(float)
    share, offset = kinds["with"].to_numpy() / total, np.log(kinds["days"].to_numpy() / kinds["others"].to_numpy())
    weights, beta = total / total.mean(), 0.0
    for _ in range(50):
        expected = 1 / (1 + np.exp(-(beta + offset)))
        information = float((weights * expected * (1 - expected)).sum())
        beta += float((weights * (share - expected)).sum()) / information
    scores = (
        pl.DataFrame({"firm": kinds["firm"], "score": weights * (share - expected)}).group_by("firm").sum()["score"]
    )
    groups, number = len(scores), effective(sold)
    variance = float((scores**2).sum()) / information**2 * groups / (groups - 1)
    reach = np.sqrt(variance * number / (number - 1)) * stats.t.ppf(0.975, number - 1)
    return (shops, *(float(np.exp(beta + step)) for step in (0, -reach, reach)))


def sold_days(world: Simulated) -> dict[str, dict[str, set[date]]]:
    """By enterprise and platform the days on which a linked shop was paid."""
    found: dict[str, dict[str, set[date]]] = {}
    for sme, platform, day in (
        paid_days(world).join(linked(world, "shop"), on="source_key").select("sme_id", "platform", "day").iter_rows()
    ):
        found.setdefault(sme, {}).setdefault(platform, set()).add(day)
    return found


def question_28(world: Simulated) -> list[tuple[Any, ...]]:
    """By platform and in all: grants, who sold there before, who is new there, and when these were first paid there."""
    granted = funded_applications(world).filter(
        pl.col("programme") == "bud_ecommerce_easy", pl.col("outcome") == "approved", pl.col("market") == "CN",
        pl.col("sme_class") != "large", pl.col("decided_on") + FOLLOWED <= world.last,
    )  # fmt: skip
    numbers, sold, classes = dict(linked(world, "number").iter_rows()), sold_days(world), sizes(world)
    delivered = {platform for platforms in sold.values() for platform in platforms}
    groups: dict[str, list[tuple[str, bool, bool | None, int | None]]] = {}
    for brn, platform, day in granted.select("brn", "platform", "decided_on").iter_rows():
        sme = numbers[brn]
        days = sold.get(sme, {}).get(platform, set())
        before: bool | None = any(day - FOLLOWED <= one <= day for one in days)
        if platform not in delivered or (not before and day - FOLLOWED < orders_known_from(world)):
            before = None
        soon = [(one - day).days for one in days if day < one <= day + FOLLOWED] if before is False else []
        row = (classes.get(sme, "unknown"), sme in sold, before, min(soon, default=None))
        for group in ("all", platform):
            groups.setdefault(group, []).append(row)
    answers = []
    for group, rows in sorted(groups.items()):
        new = [days for _, _, before, days in rows if before is False]
        within = [sum(days is not None and days <= limit for days in new) for limit in (30, 90, 180)]
        answers.append((
            group, len(rows), sum(size == "unknown" for size, *_ in rows), sum(not has for _, has, *_ in rows),
            sum(before is True for *_, before, _ in rows), len(new), *within,
            round(within[-1] / len(new), 4) if len(new) >= 10 else None,
        ))  # fmt: skip
    assert any(row[8] for row in answers)
    return answers


def gallery_days(world: Simulated) -> pl.DataFrame:
    """Sales of Design Gallery: `store`, `supplier_brn`, `category`, `day`, `units_sold`, and `yuan` before returns."""
    sales = world.frames["design_gallery_sales"].unique(
        ["store", "sku_id", "sale_date"], keep="last", maintain_order=True
    )
    sales = sales.with_columns(pl.col("sale_date").cast(pl.String).str.to_date().alias("day")).sort("day")
    sales = sales.join_asof(rates(world), on="day", strategy="backward").with_columns(
        pl.coalesce(
            pl.col("sales_cny").cast(pl.Float64), pl.col("sales_hkd").cast(pl.Float64) / (pl.col("rate") / 1e6)
        ).alias("yuan")
    )
    return sales.select("store", "supplier_brn", "category", "day", "units_sold", "yuan")


def question_29(world: Simulated) -> list[tuple[Any, ...]]:
    """What festivals did to Design Gallery, and which shares of its suppliers went on to a shop or a festival."""
    sales, numbers, classes = gallery_days(world), dict(linked(world, "number").iter_rows()), sizes(world)
    answers: list[tuple[Any, ...]] = []
    for event, first, last in FESTIVALS:
        _, others = festival_sides(world, event, first)
        lines = order_lines(world).with_columns(shop_key()).filter(pl.col("source_key").is_in(list(others)))
        for window, (before, after) in windows(first, last).items():
            if before[0] < orders_known_from(world) or after[1] > world.last:
                continue
            days = [kept_days(*before), kept_days(*after, leave_out=window != "during")]
            rows: dict[tuple[str, str], list[float]] = {}
            for side, kept in enumerate(days):
                sold = lines.filter(pl.col("paid_on").is_in(kept)).group_by("source_key", "category").agg(
                    pl.col("payment").sum() / 100
                )  # fmt: skip
                supplied = sales.filter(pl.col("day").is_in(kept)).group_by(
                    pl.concat_str("store", pl.lit("|"), "supplier_brn"), "category"
                ).agg(pl.col("yuan").sum())  # fmt: skip
                for shop, category, yuan in [*sold.iter_rows(), *supplied.iter_rows()]:
                    rows.setdefault((shop, category), [0, 0])[side] = yuan
            suppliers = {shop for shop, _ in rows if "|" in shop}
            owners = dict(linked(world, "shop").iter_rows()) | {shop: numbers[shop.split("|")[1]] for shop in suppliers}
            found = against_others(rows, suppliers, owners, len(days[0]), len(days[1]), lambda _, category: category)
            answers.append(("sales against shops that took no part", event, window, found[0], None, *found[3:6]))
    assert any(row[5] for row in answers)
    opened, joined = went_on(world)
    for what, known in (("share that joined a festival", joined), ("share that opened a shop", opened)):
        share = round(sum(known.values()) / len(known), 4) if len(known) >= 10 else None
        unknown = sum(classes.get(sme, "unknown") == "unknown" for sme in known)
        answers.append((f"{what} within 180 days", None, None, len(known), unknown, share, None, None))
    # Windows stay in the order of time.
    return sorted(answers, key=lambda row: (row[0], row[1] or ""))


def went_on(world: Simulated) -> tuple[dict[str, bool], dict[str, bool]]:
    """Whether each supplier of known beginning opened a shop, and joined a festival, as far as it is known."""
    numbers, classes = dict(linked(world, "number").iter_rows()), sizes(world)
    began: dict[str, date] = {}
    for brn, day in (
        gallery_days(world)
        .filter(pl.col("units_sold") > 0)
        .group_by("supplier_brn")
        .agg(pl.col("day").min())
        .iter_rows()
    ):
        began[numbers[brn]] = min(day, began.get(numbers[brn], day))
    fairs = taking_part(world).with_columns(shop_key()).join(linked(world, "shop"), on="source_key")
    festivals: dict[str, set[date]] = {}
    for sme, day in fairs.select("sme_id", "first_day").iter_rows():
        festivals.setdefault(sme, set()).add(day)
    sold, known_from = sold_days(world), min(world.delivered["design_gallery_sales"])
    opened, joined = {}, {}
    for sme, first in began.items():
        if first - FOLLOWED < max(known_from, orders_known_from(world)) or classes.get(sme) == "large":
            continue
        over = first + FOLLOWED <= world.last
        days = set().union(*sold.get(sme, {}).values())
        if not any(first - FOLLOWED <= day <= first for day in days):
            soon = any(first < day <= first + FOLLOWED for day in days)
            if soon or over:
                opened[sme] = soon
        soon = any(first < day <= first + FOLLOWED for day in festivals.get(sme, ()))
        if soon or over:
            joined[sme] = soon
    return opened, joined


def question_35(world: Simulated) -> list[tuple[Any, ...]]:
    """By platform, and by regime: sellers that were paid most there, and how much of all that is."""
    first, last = last_12_months(world)
    regime = world.frames["platform_orders"].sort("modified_at").unique(["platform", "oid"], keep="last")
    lines = order_lines(world).join(regime.select("platform", "oid", "customs_regime"), on=["platform", "oid"])
    lines = lines.filter(pl.col("paid_on").is_between(first, last), pl.col("payment") > 0).with_columns(shop_key())
    lines, classes = lines.join(linked(world, "shop"), on="source_key"), sizes(world)
    # An order counts once, at its first line of the day.
    counts = lines.group_by("sme_id").agg(pl.struct("platform", "tid", "store_id", "paid_on").n_unique())
    orders = dict(counts.iter_rows())
    groups: dict[tuple[str, str], list[tuple[str, float, float, int, int]]] = {}
    for kind, column in (("platform", "platform"), ("regime", "customs_regime")):
        for (sme,), rows in lines.partition_by("sme_id", as_dict=True).items():
            parts = rows.group_by(column).agg(pl.col("payment").sum()).sort("payment", column, descending=[True, False])
            fens = parts["payment"].to_list()
            total = sum(fens)
            row = (str(sme), fens[0] / total, sum((fen / total) ** 2 for fen in fens), total, orders[sme])
            groups.setdefault((kind, parts[column][0]), []).append(row)
    answers = []
    for key, found in sorted(groups.items()):
        members = [row for row in found if classes.get(row[0]) != "large"]
        shown = [row for row in members if row[4] >= 10]
        means = [sum(row[place] for row in shown) / len(shown) if len(shown) >= 10 else None for place in (1, 2)]
        if members:
            answers.append((
                *key, len(members), sum(classes.get(row[0], "unknown") == "unknown" for row in members), len(shown),
                sum(round(row[1], 6) >= 0.9 for row in shown), *(mean and round(mean, 4) for mean in means),
                sum(row[3] for row in members) / 100,
            ))  # fmt: skip
    assert any(row[5] for row in answers)
    return answers


MARKED = ("any", "shop")


def question_32(world: Simulated) -> list[tuple[Any, ...]]:
    """By change, scope, measure and window: shops that won or lost a mark. So few here that no effect is given."""
    answers = []
    for (change, scope, window), shops in changed_shops(world).items():
        for measure in ("net_sales", "refund_rate"):
            seen, compared = _with_market(world, shops, measure)
            assert len(compared) < 10, "there are enough to be compared here"
            answers.append((change, scope, measure, window, "too_few", len(seen), len(compared), None, None, None))
    return sorted(answers, key=lambda row: row[:4])


def changed_shops(world: Simulated) -> dict[tuple[str, str, str], dict[str, tuple[set[int], set[int]]]]:
    """By change, scope and window the shops that won their first mark or lost their last one, with the months before and
    after that are compared, as months since year 0: only those that the history holds whole."""
    known = _month(world.delivered["platform_orders"][0]) + 1, _settled_month(world)
    found = {}
    for scope in MARKED:
        held: dict[str, list[tuple[date, date | None, bool]]] = {}
        for shop, of_shop, won, lost, is_valid in marked_shops(world):
            if of_shop or scope == "any":
                held.setdefault(shop, []).append((won, lost, is_valid))
        won_in = {shop: _month(min(won for won, _, _ in marks)) for shop, marks in held.items()}
        lost_in = {
            shop: _month(max(lost for _, lost, _ in marks if lost))
            for shop, marks in held.items()
            if not any(valid for *_, valid in marks) and any(lost for _, lost, _ in marks)
        }
        for change, months in (("won", won_in), ("lost", lost_in)):
            for window, before, after in (("placebo", (-6, -4), (-3, -1)), ("after", (-3, -1), (1, 3))):
                found[change, scope, window] = {
                    shop: tuple({*range(month + first, month + last + 1)} for first, last in (before, after))
                    for shop, month in months.items()
                    if month + before[0] >= known[0] and month + after[1] <= known[1]
                }
    return found  # type: ignore[return-value]


def marked_shops(world: Simulated) -> list[tuple[str, bool, date, date | None, bool]]:
    """Every shop under a certificate: whether it is of the shop itself, since when, until when, whether it is valid now."""
    entries = world.frames["quality_marks"].unique(
        ["scheme", "certificate_no", "status_at"], keep="last", maintain_order=True
    )
    day = [
        pl.col(name).cast(pl.String).str.slice(0, 10).str.to_date() for name in ("status_at", "valid_from", "valid_to")
    ]
    entries = entries.with_columns(*day).sort("status_at")
    holders, owners = dict(linked(world, "certificate").iter_rows()), dict(linked(world, "shop").iter_rows())
    found = []
    for rows in entries.partition_by("scheme", "certificate_no"):
        states = rows.to_dicts()
        terms = [row for row in states if row["status"] == "valid"]
        over = [row["status_at"] for row in states if row["status"] != "valid"]
        ends = [row["valid_to"] for row in terms if row["valid_to"]]
        lost = max(over) if over else max(ends) + timedelta(days=1) if ends else None
        begun = [row for row in states if row["status"] != "valid" or row["valid_from"] <= world.last] or states
        newest = begun[-1]
        is_valid = newest["status"] == "valid" and newest["valid_from"] <= world.last <= (
            newest["valid_to"] or world.last
        )
        holder = holders.get(f"{newest['scheme']}:{newest['certificate_no']}")
        won = min(row["valid_from"] for row in terms)
        if newest["scope"] == "shop":
            shop = f"{newest['platform']}:{newest['store_id']}"
            if shop in owners and holder in (None, owners[shop]):
                found.append((shop, True, won, lost, is_valid))
        else:
            found += [(shop, False, won, lost, is_valid) for shop, owner in owners.items() if owner == holder]
    return found


def _with_market(
    world: Simulated, shops: dict[str, tuple[set[int], set[int]]], measure: str
) -> tuple[set[str], set[str]]:
    """Shops with sales in categories in which at least 10 shops without a mark sold too, and those that can be compared."""
    lines = order_lines(world).with_columns(shop_key())
    nothing = pl.lit(0, dtype=pl.Int64)
    placed = lines.select(
        "source_key",
        "category",
        pl.col("placed_on").alias("on"),
        nothing.alias("net"),
        nothing.alias("paid"),
        nothing.alias("back"),
    )
    paid = lines.filter(pl.col("paid_on").is_not_null()).select(
        "source_key", "category", pl.col("paid_on").alias("on"), (pl.col("payment") - pl.col("refund")).alias("net"),
        pl.lit(1, dtype=pl.Int64).alias("paid"), (pl.col("refund") > 0).cast(pl.Int64).alias("back"),
    )  # fmt: skip
    month = (pl.col("on").dt.year() * 12 + pl.col("on").dt.month() - 1).alias("month")
    monthly = (
        pl.concat([placed, paid]).group_by("source_key", "category", month).agg(pl.col("net", "paid", "back").sum())
    )
    marked = {shop for shop, *_ in marked_shops(world)}
    market = monthly.filter(~pl.col("source_key").is_in(list(marked))).group_by("category", "month").agg(
        pl.col("source_key").n_unique().alias("shops"),
        *(pl.col(name).sum().alias(f"m_{name}") for name in ("net", "paid", "back")),
    ).filter(pl.col("shops") >= 10)  # fmt: skip
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for row in (
        monthly.filter(pl.col("source_key").is_in(list(shops)))
        .join(market, on=["category", "month"])
        .iter_rows(named=True)
    ):
        for side, months in enumerate(shops[row["source_key"]]):
            if row["month"] in months:
                pair = rows.setdefault((row["source_key"], row["category"]), [[0, 0], [0, 0]])[side]
                rate = row["m_back"] / row["m_paid"] if row["m_paid"] else 0
                pair[0] += row["net"] if measure == "net_sales" else row["back"]
                pair[1] += row["m_net"] if measure == "net_sales" else row["paid"] * rate
    usable = {
        key: sides for key, sides in rows.items()
        if sum(side[0] for side in sides) > 0 and all(side[0] >= 0 and side[1] > 0 for side in sides)
    }  # fmt: skip
    alive = {
        category for _, category in usable
        if all(sum(sides[place][0] for (_, other), sides in usable.items() if other == category) > 0 for place in (0, 1))
    }  # fmt: skip
    return {shop for shop, _ in rows}, {shop for shop, category in usable if category in alive}


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1


def _settled_month(world: Simulated) -> int:
    """The last month whose orders can change no more, 15 days after it."""
    return _month(world.last - timedelta(days=14)) - 1
