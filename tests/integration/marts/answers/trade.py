"""Trade: who declares what and how, and what is sold on platforms beside it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
from sampan.calendar import holidays

from tests.integration.marts.answers.orders import refunds
from tests.integration.marts.answers.reconciliation import GOLD
from tests.integration.world import Simulated

Rows = list[tuple[Any, ...]]
SIZES = ("micro", "small", "medium", "large", "unknown")
EXPORTS = pl.col("direction") == "export"
PARCELS, LIMIT_HKD = "9610", 4000
SMES = ("micro", "small", "medium")
# Enterprises of unknown size count: more than 98 in 100 are SMEs.
COUNTED = (*SMES, "unknown")
COUNTRIES = {"111": "US", "612": "TW", "617": "KR", "621": "JP", "631": "CN", "633": "VN", "693": "IN", "697": "SG"}


def enterprises(world: Simulated) -> pl.DataFrame:
    """Main business of each number on the register as it stands: section and size class."""
    rows = world.frames["business_register"].unique(["brn", "branch_no"], keep="last", maintain_order=True)
    rows = rows.sort("branch_no").unique("brn", keep="first", maintain_order=True)
    size = pl.col("persons_engaged").cast(pl.Int64)
    made = pl.col("industry_section") == "C"
    label = (
        pl.when(size.is_null()).then(pl.lit("unknown")).when(size < 10).then(pl.lit("micro"))
        .when(size < 50).then(pl.lit("small")).when(made & (size < 100)).then(pl.lit("medium")).otherwise(pl.lit("large"))
    )  # fmt: skip
    return rows.select(pl.col("brn").alias("trader_id"), "industry_section", label.alias("sme_class"))


def lines(world: Simulated) -> pl.DataFrame:
    """The lines of declarations in their highest version, with who declares and when the first version was lodged."""
    rows = world.frames["customs_declarations"].with_columns(
        pl.col("lodged_at").str.slice(0, 10).str.to_date().alias("lodged_on"),
        pl.col("movement_date").str.to_date(),
        pl.col("value_hkd").cast(pl.Float64),
    )
    first = pl.col("lodged_on").filter(pl.col("version") == 1).last().over("declaration_no")
    rows = rows.with_columns(first.alias("first_lodged_on"))
    rows = rows.filter(pl.col("version") == pl.col("version").max().over("declaration_no"))
    rows = rows.join(enterprises(world), on="trader_id", how="left")
    imported, gold = pl.col("form_type").str.starts_with("1"), pl.col("hkhs_code").is_in(GOLD)
    person = pl.col("trader_id").str.starts_with("p")
    return rows.with_columns(
        pl.col("movement_date").dt.truncate("1mo").alias("month"),
        pl.when(imported).then(pl.lit("import")).otherwise(pl.lit("export")).alias("direction"),
        pl.when(imported)
        .then(pl.lit("import"))
        .when(pl.col("origin_country") == "690")
        .then(pl.lit("domestic_export"))
        .otherwise(pl.lit("re_export"))
        .alias("flow"),
        pl.when(person)
        .then(pl.lit("individual"))
        .otherwise(pl.col("sme_class").fill_null("unknown"))
        .alias("sme_class"),
        pl.col("industry_section").fill_null("unknown"),
        pl.col("hkhs_code").str.slice(0, 2).alias("chapter"),
        pl.when(gold).then(0.0).otherwise("value_hkd").alias("value_hkd"),
        pl.when(gold).then("value_hkd").otherwise(0.0).alias("gold"),
        pl.col("movement_date").replace_strict(due_days(world)).alias("due_on"),
        pl.col("counterparty_country").replace_strict(COUNTRIES, default=None).alias("market"),
    )


def due_days(world: Simulated) -> dict[date, date]:
    """By day of movement the last day to declare it: the 14th after it or, if that is a holiday, the next working one."""
    listed = world.frames["hk_public_holidays"].filter(pl.col("language") == "en")
    closed = {day for first, last in listed.select("starts_on", "ends_on").iter_rows() for day in _days(first, last)}
    for year in {2024, 2025, 2026} - {day.year for day in closed}:
        closed |= set(holidays(year))
    due = {}
    for day in _days(min(closed), world.last + timedelta(days=32)):
        last = day + timedelta(days=14)
        while last.isoweekday() == 7 or last in closed:
            last += timedelta(days=1)
        due[day] = last
    return due


def _days(first: date, end: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((end - first).days)]


def _settled_month(world: Simulated) -> date:
    """Last day of the last month whose declarations were all due by the world's last day, 14 days after it."""
    return (world.last - timedelta(days=13)).replace(day=1) - timedelta(days=1)


def question_1(world: Simulated) -> Rows:
    month = _settled_month(world).replace(day=1)
    rows = lines(world).filter((pl.col("month") == month) & pl.col("sme_class").is_in(COUNTED))
    who = pl.col("trader_id")
    counted = rows.group_by("industry_section", "sme_class").agg(
        who.n_unique().alias("declarants"),
        who.filter(~EXPORTS).n_unique().alias("importers"),
        who.filter(EXPORTS).n_unique().alias("exporters"),
    )
    assert counted["declarants"].sum() > 50
    return counted.sort("industry_section", "sme_class").rows()


def question_2(world: Simulated) -> Rows:
    month = _settled_month(world).replace(day=1)
    rows = lines(world).filter(EXPORTS & pl.col("sme_class").is_in(COUNTED))
    rows = rows.filter(pl.col("month").is_between(month.replace(month=1), month))
    value, ytd = pl.col("value_hkd"), pl.col("value_hkd").sum()
    cells = rows.group_by("flow", "market", "chapter").agg(
        value.filter(pl.col("month") == month).sum().alias("value"),
        ytd.alias("ytd"),
        pl.when(ytd > 0).then(value.filter(pl.col("sme_class") == "unknown").sum() / ytd).alias("unknown"),
        pl.col("gold").sum(),
        pl.lit(True).alias("whole"),
    )
    assert cells["flow"].n_unique() == 2
    assert cells["gold"].sum() > 0 < cells["unknown"].sum()
    return cells.sort("ytd", "flow", "market", "chapter", descending=[True, False, False, False]).rows()


def _months_back(month: date, count: int) -> date:
    number = month.year * 12 + month.month - 1 - count
    return date(number // 12, number % 12 + 1, 1)


def question_3(world: Simulated) -> Rows:
    end = _settled_month(world).replace(day=1)
    rows = lines(world).filter(EXPORTS & pl.col("month").is_between(_months_back(end, 11), end))
    rows = rows.filter(pl.col("sme_class").is_in(COUNTED) & (pl.col("value_hkd") > 0))
    found = []
    for part in rows.partition_by("trader_id"):
        value = part["value_hkd"].sum()
        markets = part.group_by("counterparty_country", "market").agg(pl.col("value_hkd").sum() / value)
        markets = markets.sort("value_hkd", "counterparty_country", descending=[True, False])
        chapters = part.group_by("chapter").agg(pl.col("value_hkd").sum() / value)["value_hkd"]
        shares = markets["value_hkd"]
        of = dict(zip(markets["market"], shares, strict=True))
        found.append(
            (
                markets["market"][0],
                value,
                (shares**2).sum(),
                (chapters**2).sum(),
                shares[0],
                of.get("CN", 0),
                of.get("US", 0),
                part["sme_class"][0] == "unknown",
            )
        )
    names = ["market", "value", "markets", "chapters", "top", "mainland", "us", "unknown"]
    each = pl.DataFrame(found, schema=names, orient="row")
    weight = pl.col("value") / pl.col("value").sum()
    sums = each.group_by("market").agg(
        pl.len(),
        pl.col("unknown").sum(),
        pl.col("markets", "chapters", "top").mean(),
        (pl.col("mainland", "us") * weight).sum(),
    )
    assert sums["markets"].min() < 1
    rows = sums.sort("len", "market", descending=[True, False]).rows()
    assert any(row[1] >= 10 for row in rows)
    return [row if row[1] >= 10 else (*row[:3], *(None,) * 5) for row in rows]


def question_4(world: Simulated) -> Rows:
    end, begin = _settled_month(world).replace(day=1), world.truth.first
    rows = lines(world).filter(EXPORTS & pl.col("sme_class").is_in(COUNTED))
    found = []
    for part in rows.partition_by("trader_id"):
        months = sorted(part["month"].unique())
        first, last = months[0], months[-1]

        def again(after: int, until: int, months: list[date] = months, first: date = first) -> bool | None:
            low, high = _months_back(first, -after), _months_back(first, -until)
            return any(low <= month <= high for month in months) if high <= end else None

        certain, active = first > _months_back(begin, -12), last > _months_back(end, 12)
        # The first month is month 1: months 2 to 13, 13 to 24, and these and 25 to 36.
        second, third = again(12, 23), again(24, 35)
        unknown = part["sme_class"][0] == "unknown"
        found.append((certain, first.year, unknown, active, again(1, 12), second, third and second))
    names = ["certain", "year", "unknown", "active", "again", "after_12", "after_24"]
    each = pl.DataFrame(found, schema=names, orient="row", schema_overrides={"after_24": pl.Boolean})
    cohorts = each.group_by("certain", "year").agg(
        pl.len(), pl.col("unknown").sum(), pl.col("active").sum(), (~pl.col("active")).sum().alias("lapsed"),
        pl.col("again").count().alias("known_again"), pl.col("again").sum(),
        pl.col("after_12").count().alias("known_12"), pl.col("after_12").sum().alias("kept_12"),
        pl.col("after_24").count().alias("known_24"), pl.col("after_24").sum().alias("kept_24"),
    )  # fmt: skip
    assert 0 < cohorts["kept_12"].sum() <= cohorts["known_12"].sum()
    assert 0 < cohorts["again"].sum() <= cohorts["known_again"].sum()
    return cohorts.sort("certain", "year").rows()


def question_5(world: Simulated) -> Rows:
    rows = lines(world).filter(pl.col("month") <= _settled_month(world))
    # Amending leaves the header alone, so any line tells of its declaration.
    each = rows.unique("declaration_no").with_columns(
        (pl.col("first_lodged_on") > pl.col("due_on")).fill_null(False).alias("late"),
        (pl.col("version") > 1).alias("amended"),
        pl.col("agent_brn").is_not_null().alias("agent"),
    )
    # The month in which the history begins is not whole.
    each = each.filter(pl.col("month") > world.truth.first)
    sums = each.group_by("month", "direction").agg(
        pl.len(), pl.col("late", "amended", "agent").mean(), pl.lit(0).alias("missing")
    )
    assert 0 < sums["late"].mean() < 0.1
    return sums.sort("month", "direction").rows()


# --- orders -----------------------------------------------------------------------------------------------------------


def orders(world: Simulated) -> pl.DataFrame:
    """Order lines as they stand, amounts as numbers, with the days of order and payment and the rate of each."""
    moments = [
        pl.col(name).str.slice(0, 10).str.to_date().alias(f"{name[:-3]}_on") for name in ("created_at", "paid_at")
    ]
    money = [pl.col(name).cast(pl.Float64) for name in ("total_fee_cny", "payment_cny")]
    rows = world.frames["platform_orders"].with_columns(*moments, *money)
    rows = rows.sort("modified_at", maintain_order=True).unique(["platform", "oid"], keep="last", maintain_order=True)
    rates = (
        world.frames["hkma_exchange_rates"].unique("end_of_day", keep="last", maintain_order=True).sort("end_of_day")
    )
    rates = rates.drop_nulls("cny").select("end_of_day", pl.col("cny").cast(pl.Float64).round(6))
    for day, rate in (("created_on", "created_rate"), ("paid_on", "paid_rate")):
        named = rates.rename({"cny": rate})
        known = rows.filter(pl.col(day).is_not_null()).sort(day).join_asof(named, left_on=day, right_on="end_of_day")
        rows = pl.concat([known, rows.filter(pl.col(day).is_null())], how="diagonal").drop("end_of_day")
    return rows


def _whole(world: Simulated, column: str) -> pl.Expr:
    """Whether a day is of a month of orders that may be quoted: whole, 15 days over, and with a rate for each day."""
    published = world.frames["hkma_exchange_rates"].drop_nulls("cny")["end_of_day"].max()
    end = pl.col(column).dt.month_end()
    begun = pl.col(column) > pl.lit(min(world.delivered["platform_orders"])).dt.month_end()
    return begun & (end + timedelta(days=15) <= world.last) & (end <= published)


def question_16(world: Simulated) -> Rows:
    rows = orders(world).join(refunds(world), on=["platform", "oid"], how="left")
    granted = pl.col("granted").fill_null(0) / 100
    rows = rows.with_columns(pl.min_horizontal(granted, "payment_cny").alias("refunded"))
    keys = [pl.col("year"), pl.col("customs_regime")]
    placed = (
        rows.filter(_whole(world, "created_on"))
        .with_columns(pl.col("created_on").dt.year().alias("year"))
        .group_by(keys)
    )
    placed = placed.agg((pl.col("total_fee_cny") * pl.col("created_rate")).sum().alias("placed"))
    first = pl.col("oid") == pl.col("oid").min().over("platform", "tid")
    paid = rows.drop_nulls("paid_on").with_columns(pl.col("paid_on").dt.year().alias("year"), first.alias("first"))
    # An order counts at its first line.
    paid = (
        paid.filter(_whole(world, "paid_on"))
        .group_by(keys)
        .agg(
            pl.col("paid_on").dt.month().n_unique().alias("months"),
            (pl.col("payment_cny") * pl.col("paid_rate")).sum().alias("paid"),
            ((pl.col("payment_cny") - pl.col("refunded")) * pl.col("paid_rate")).sum().alias("net"),
            pl.col("first").sum().alias("orders"),
        )
    )
    both = placed.join(paid, on=["year", "customs_regime"]).sort("year", "customs_regime")
    return both.select("year", "customs_regime", "months", "placed", "paid", "net", "orders").rows()


def question_21(world: Simulated) -> Rows:
    rows = orders(world).drop_nulls("paid_on").filter(pl.col("customs_regime") == PARCELS)
    each = rows.group_by("platform", "tid").agg(
        pl.col("paid_on").first().dt.truncate("1mo").alias("month"), (pl.col("payment_cny") * pl.col("paid_rate")).sum()
    )
    value, below = pl.col("payment_cny"), pl.col("payment_cny") < LIMIT_HKD
    assert 0 < each.filter(~below).height < each.filter(below).height
    sums = (
        each.filter(_whole(world, "month"))
        .group_by("month")
        .agg(
            pl.len().alias("parcels"),
            below.sum().alias("count"),
            value.filter(below).sum().alias("below"),
            (value.filter(below).sum() / value.sum()).alias("share"),
        )
    )
    declared = lines(world).filter(EXPORTS & (pl.col("market") == "CN") & (pl.col("month") <= _settled_month(world)))
    declared = declared.group_by("month")
    declared = declared.agg(pl.col("value_hkd").sum().alias("declared"))
    return sums.join(declared, on="month", how="left").sort("month").rows()


def question_22(world: Simulated) -> Rows:
    rows = orders(world).drop_nulls("paid_on").with_columns(pl.col("paid_on").dt.truncate("1mo").alias("month"))
    monthly = rows.group_by("month", "platform").agg(
        pl.col("payment_cny").sum().alias("cny"), (pl.col("payment_cny") * pl.col("paid_rate")).sum().alias("hkd")
    )
    # The month in which the history begins may not be whole.
    before = monthly.filter(pl.col("month") > world.truth.first.replace(day=1))
    before = before.with_columns(pl.col("month").dt.offset_by("1y")).rename({"cny": "old_cny", "hkd": "old_hkd"})
    both = monthly.join(before, on=["month", "platform"], how="full", coalesce=True)
    rate = pl.col("old_hkd").sum().over("month") / pl.col("old_cny").sum().over("month")
    both = both.with_columns(pl.coalesce(pl.col("old_hkd") / pl.col("old_cny"), rate).alias("rate")).fill_null(0)
    both = both.with_columns((pl.col("cny") * pl.col("rate")).alias("constant"))
    # Orders are refunded for 15 days, and months without a published rate are left out.
    published = pl.lit(world.frames["hkma_exchange_rates"].drop_nulls("cny")["end_of_day"].max())
    last_day = pl.col("month").dt.month_end()
    begun = pl.lit(world.truth.first.replace(day=1)).dt.offset_by("1y")
    both = both.filter(
        (pl.col("month") > begun) & (last_day + timedelta(days=15) <= world.last) & (last_day <= published)
    )
    # The currency's part is small beside the sums: a cent of each row counts.
    both = both.with_columns((pl.col("hkd") - pl.col("constant")).round(2).alias("effect"))
    hkd, old, constant = (pl.col(name).sum() for name in ("hkd", "old_hkd", "constant"))
    sums = both.group_by("month").agg(
        hkd, (100 * (hkd / old - 1)).alias("growth"), (100 * (constant / old - 1)).alias("trade"),
        pl.col("effect").sum().alias("currency"),
    )  # fmt: skip
    assert sums["currency"].abs().max() > 100
    return sums.sort("month").rows()
