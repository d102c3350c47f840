"""What the Census and Statistics Department publishes about the simulated trade, and what other statistics say of it.

All of it follows from the declarations that the simulated traders lodge, those outside of the window included, so the
platform's sums meet the published ones but for what is planted here: an estimate on top of what is declared, and a
mirror that counts less than Hong Kong does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.partners import customs, hkma
from infra.simulator.partners.hkecic import HISTORY_DAYS, SHIPMENT_DAYS_BEFORE, shipments_of
from infra.simulator.world import World, month_after
from infra.simulator.world import months as months_of_world

MONTHS_KEPT = 16
# Bulk files of so many months before the first day of the world are there when it begins.
BULK_BEFORE = 2
SUMMED_BY = ("month", "flow", "hkhs_code", "origin_country", "counterparty_country")
SUMMED_FROM = (
    "form_type",
    "movement_date",
    "counterparty_country",
    "hkhs_code",
    "origin_country",
    "quantity",
    "value_hkd",
)
# A declaration is lodged at most so many days after the movement.
LATEST_LODGEMENT = 60
# Planted: share of the declared value that the published figures have on top, between these by flow and chapter.
ESTIMATED_ON_TOP = (0.002, 0.012)
# Planted: share of a chapter's published exports to the Mainland that the Mainland reports as imports from Hong Kong.
MIRRORED = (0.35, 0.95)
# Planted: days after the end of a month until the Mainland reports it.
MIRRORED_AFTER = 75
INSURED_ON_TOP, INSURED_GROWTH_A_YEAR = 0.01, 0.08
# By the titles of the chapters of the Harmonized System, of all such chapters, traded here or not.
FOOD_CHAPTERS = (
    "02", "03", "04", "07", "08", "09", "10", "11", "15", "16", "17", "18", "19", "20", "21", "22",
)  # fmt: skip
PRODUCTS = (
    ("ELEC", "Electronic products", ("84", "85")),
    ("CLOTH", "Clothing and textiles", tuple(str(chapter) for chapter in range(50, 64))),
    ("JEWEL", "Jewellery, watches and clocks", ("71", "91")),
    ("TOYS", "Toys and games", ("95",)),
    ("FOOD", "Food and beverages", (*FOOD_CHAPTERS,)),
    ("OTHER", "Other products", ()),
)


def month_of(day: date) -> str:
    """The month of a day as YYYYMM."""
    return day.strftime("%Y%m")


def end_of(month: str) -> date:
    """The last day of a month given as YYYYMM."""
    first = date(int(month[:4]), int(month[4:]), 1)
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def months(world: World) -> list[str]:
    """The months that statistics exist of: MONTHS_KEPT at least, and the years of the first bulk files."""
    first = min(month_after(world.first, -BULK_BEFORE).replace(month=1), month_after(world.last, 1 - MONTHS_KEPT))
    return [month_of(month) for month in months_of_world(first, world.last)]


def trade(world: World) -> pl.DataFrame:
    """Value and quantity by month of movement, flow (1 imports, 2 domestic exports, 3 re-exports), code and countries.

    `declared_hkd` is what first versions of declarations say, `published_hkd` what statistics make of it.
    """
    if "statistics" in world.kept:
        return world.kept["statistics"]
    known = months(world)
    first = date(int(known[0][:4]), int(known[0][4:]), 1)
    days = (end_of(known[-1]) + timedelta(days=LATEST_LODGEMENT) - first).days + 1
    parts = [_lodged_sums(world, first + timedelta(days=step)) for step in range(days)]
    declared = (
        pl.concat(parts).filter(pl.col("month").is_in(known)).group_by(SUMMED_BY).agg(pl.col("value", "quantity").sum())
    )
    table = declared.with_columns(pl.col("value", "quantity") / 100).rename({"value": "declared_hkd"})
    table = table.with_columns(pl.col("quantity").round().cast(pl.Int64))
    table = table.with_columns(pl.col("hkhs_code").str.slice(0, 2).alias("chapter")).join(
        estimates(world), on=["flow", "chapter"], how="left"
    )
    world.kept["statistics"] = table.with_columns(
        (pl.col("declared_hkd") * (1 + pl.col("estimated_share"))).round().cast(pl.Int64).alias("published_hkd"),
        (pl.col("hkhs_code") == words.GOLD).alias("is_gold"),
    ).sort(SUMMED_BY)
    return world.kept["statistics"]


def _lodged_sums(world: World, day: date) -> pl.DataFrame:
    """Sums of the declarations lodged on a day, which a later look at the same world finds in `lodged_sums`."""
    sums = world.lodged_sums
    if day not in sums:
        exports = pl.col("form_type").str.starts_with("2")
        flow = pl.when(~exports).then(pl.lit("1")).when(pl.col("origin_country") == "690").then(pl.lit("2"))
        month = pl.col("movement_date").str.slice(0, 7).str.replace("-", "").alias("month")
        lines = customs.lodged(world, day, SUMMED_FROM).with_columns(month, flow.otherwise(pl.lit("3")).alias("flow"))
        # Hundredths: whole numbers add up to the same in any order.
        hundredths = [
            (pl.col(name) * 100).round().cast(pl.Int64).alias(new)
            for name, new in (("value_hkd", "value"), ("quantity", "quantity"))
        ]
        sums[day] = lines.with_columns(hundredths).group_by(SUMMED_BY).agg(pl.col("value", "quantity").sum())
    return sums[day]


def estimates(world: World) -> pl.DataFrame:
    """Planted: by flow and chapter the share that published figures have on top of what is declared."""
    chapters = sorted({entry[0][:2] for entry in words.GOODS})
    generator = world.rng("estimated")
    return pl.DataFrame(
        {
            "flow": [flow for flow in "123" for _ in chapters],
            "chapter": chapters * 3,
            "estimated_share": generator.uniform(*ESTIMATED_ON_TOP, 3 * len(chapters)).round(5),
        }
    )


def published(world: World) -> pl.DataFrame:
    """Merchandise trade without gold by month, flow (4 being 2 and 3 together), chapter and ISO code of the partner.

    The partner ALL is all of them; value in HK$ thousand, rounded as published.
    """
    if "published" in world.kept:
        return world.kept["published"]
    codes = pl.DataFrame(
        {"counterparty_country": [m[0] for m in words.MARKETS], "partner": [m[1] for m in words.MARKETS]}
    )
    cells = trade(world).filter(~pl.col("is_gold")).join(codes, on="counterparty_country")
    exports = cells.filter(pl.col("flow") != "1").with_columns(pl.lit("4").alias("flow"))
    cells = pl.concat([cells, exports])
    cells = pl.concat([cells, cells.with_columns(pl.lit("ALL").alias("partner"))])
    keys = ("month", "flow", "chapter", "partner")
    sums = cells.group_by(keys).agg(pl.col("published_hkd").sum(), pl.col("declared_hkd").sum().round(2))
    thousands = (pl.col("published_hkd") / 1000).round().cast(pl.Int64).alias("hkd_thousand")
    world.kept["published"] = sums.with_columns(thousands).sort(keys)
    return world.kept["published"]


def totals(world: World) -> pl.DataFrame:
    """Merchandise imports (VAL_IM) and total exports (VAL_TX) by month in HK$ million, whole ones as published."""
    sums = published(world).filter((pl.col("partner") == "ALL") & pl.col("flow").is_in(["1", "4"]))
    sums = sums.group_by("month", "flow").agg((pl.col("published_hkd").sum() / 1e6).round().cast(int).alias("figure"))
    measure = pl.when(pl.col("flow") == "1").then(pl.lit("VAL_IM")).otherwise(pl.lit("VAL_TX"))
    return sums.select("month", measure.alias("sv"), "figure").sort("month", "sv")


def is_mirrored(world: World, month: str) -> bool:
    """Whether the Mainland has reported a month, given as YYYYMM."""
    return end_of(month) + timedelta(days=MIRRORED_AFTER) <= world.last


def mirror(world: World) -> pl.DataFrame:
    """What the Mainland reports as imported from Hong Kong, by month and chapter in US dollars."""
    exports = published(world).filter((pl.col("partner") == "CN") & (pl.col("flow") == "4"))
    chapters = sorted({entry[0][:2] for entry in words.GOODS})
    share = world.rng("mirror").uniform(*MIRRORED, len(chapters)).round(4)
    shares = pl.DataFrame({"chapter": chapters, "mirrored_share": share})
    rates = []
    for month in months(world):
        found = hkma.records(world.seed, date(int(month[:4]), int(month[4:]), 1), end_of(month))
        rates.append({"month": month, "hkd_per_usd": float(np.mean([record["usd"] for record in found]))})
    value = (pl.col("published_hkd") * pl.col("mirrored_share") / pl.col("hkd_per_usd")).round()
    return (
        exports.join(shares, on="chapter").join(pl.DataFrame(rates), on="month").with_columns(value.alias("value_usd"))
    ).select("month", "chapter", "published_hkd", "mirrored_share", "hkd_per_usd", "value_usd")


def insured(world: World) -> pl.DataFrame:
    """Export value insured by financial year (ended 31 March) and product, in HK$ million, once the year was all declared.

    A year that declared shipments cover from end to end is their sum; others are estimated from the first year declared.
    """
    names = {chapter: code for code, _, chapters in PRODUCTS for chapter in chapters}
    month = pl.col("shipped_on").dt.month()
    begin = world.first - timedelta(days=SHIPMENT_DAYS_BEFORE)
    end = begin + timedelta(days=365)
    # Also where the world has not come so far yet, for the estimate not to depend on that.
    known = world.by_month("insured", begin, lambda month: shipments_of(world, month), max(world.last, end))
    known = known.filter(pl.col("shipped_on") >= begin).select(
        "shipped_on",
        pl.col("hs_code").str.slice(0, 2).replace_strict(names, default="OTHER").alias("product_code"),
        (pl.col("shipped_on").dt.year() + pl.when(month > 3).then(1).otherwise(0)).alias("year"),
        pl.col("invoice_value_hkd").alias("value"),
    )
    average, of_average = known.filter(pl.col("shipped_on") < end), end.year + (end.month > 3)
    latest = world.last.year if world.last.month > 4 else world.last.year - 1
    rows = []
    for year in range(latest - HISTORY_DAYS // 100, latest + 1):
        is_covered = begin <= date(year - 1, 4, 1)
        of_year = known.filter(pl.col("year") == year) if is_covered else average
        factor = 1.0 if is_covered else (1 + INSURED_GROWTH_A_YEAR) ** (year - of_average)
        for code, name, _ in PRODUCTS:
            declared = of_year.filter(product_code=code)["value"].sum() / 1e6 * factor
            figure = round(declared * (1 + INSURED_ON_TOP), 1)
            rows.append({"year": str(year), "product_code": code, "product": name, "figure": figure})
    return pl.DataFrame(rows)


# --- bulk files -------------------------------------------------------------------------------------------------------


def bulk_hsccit(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Imports, domestic exports and re-exports by code and country of consignment or destination."""
    flows = (("1", "import"), ("2", "domestic_export"), ("3", "re_export"))
    yield from _bulk(world, flows, ("counterparty_country",))


def bulk_hscoit(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Imports by code and country of origin."""
    yield from _bulk(world, (("1", "import"),), ("origin_country",))


def bulk_hscoccit(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Re-exports by code, country of origin and country of destination."""
    yield from _bulk(world, (("3", "re_export"),), ("origin_country", "destination_country"))


def _bulk(
    world: World, flows: tuple[tuple[str, str], ...], countries: tuple[str, ...]
) -> Iterator[tuple[date, pl.DataFrame]]:
    """A file for the last complete months before the first day of the world and for each that ends later."""
    since = world.periods[0].first_day
    since = month_after(since, -BULK_BEFORE) if world.periods[0] == world.schedule[0] else since
    for month in months(world):
        if not since <= end_of(month) <= world.last:
            continue
        known = trade(world).rename(
            {"counterparty_country": "destination_country"} if "destination_country" in countries else {}
        )
        year = known.filter((pl.col("month").str.slice(0, 4) == month[:4]) & (pl.col("month") <= month))
        levels = pl.concat(
            [
                year.with_columns(
                    pl.lit(kind).alias("record_type"), pl.col("hkhs_code").str.slice(0, width).alias("hs_code")
                )
                for kind, width in (("1", 8), ("2", 6), ("3", 4), ("4", 2))
            ]
        )
        level, none = pl.lit("0").alias("record_type"), [pl.lit("000").alias(name) for name in countries]
        all_of = [pl.lit("001").alias(name) for name in countries]
        gold = year.filter("is_gold").with_columns(level, pl.lit("00000000").alias("hs_code"), *none)
        everything = year.with_columns(level, pl.lit("00000001").alias("hs_code"), *all_of)
        rows = pl.concat([levels, gold.select(levels.columns), everything.select(levels.columns)])
        sums = []
        for flow, name in flows:
            mine, now = pl.col("flow") == flow, pl.col("month") == month
            for mask, span in ((mine & now, ""), (mine, "_ytd")):
                sums.append(pl.col("published_hkd").filter(mask).sum().alias(f"{name}_value{span}_hkd"))
                sums.append(pl.col("quantity").filter(mask).sum().alias(f"{name}_quantity{span}"))
        keys = ("record_type", "hs_code", *countries)
        table = rows.group_by(keys).agg(sums)
        some = pl.any_horizontal(pl.col(name) > 0 for name in table.columns if name.endswith("ytd_hkd"))
        yield end_of(month), table.filter(some).sort(keys)


# --- editions of the Hong Kong Harmonized System ----------------------------------------------------------------------

UNITS = {
    "11": ("個", "NO."), "13": ("對", "PR"), "21": ("克", "G"), "22": ("千克", "KG"), "24": ("克拉", "CM"),
    "32": ("升", "L"), "41": ("米", "M"),
}  # fmt: skip


def edition(year: int) -> list[dict[str, str]]:
    """Rows of the official file of a year, with its headings, lost leading zeros and empty last column."""
    known = {code: (english, chinese, unit) for code, english, unit, _, _, chinese in words.GOODS}
    known |= {
        f"{code[:6]}90": (f"{v[0]}, other", f"其他{v[1]}", v[2]) for code, v in list(known.items()) if code[6:] == "00"
    }
    known["33049910"] = ("Preparations for suntan", "防曬製劑", "22")
    before, since = ({change[side] for change in words.HKHS_CHANGES} for side in (0, 1))
    known |= {old: known[new] for old, new, _ in words.HKHS_CHANGES if old not in known}
    gone = before - since if year >= words.HKHS_CHANGED_IN else since - before
    known = {code: value for code, value in known.items() if code not in gone}
    rows = []
    for code, (english, chinese, unit) in sorted(known.items()):
        zh, en = UNITS.get(unit, ("", ""))
        rows.append(
            {
                "港貨協制編號/HKHS Code": str(int(code)),
                "貨品描述": chinese,
                "Goods Description": english,
                "數量單位": zh,
                "Unit of Quantity": en,
                "": "",
            }
        )
    return rows
