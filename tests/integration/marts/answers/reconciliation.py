"""Declarations and insured exports against what is published, and exports against their mirror."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl

from infra.simulator import vocabulary as words
from tests.integration.world import Simulated

Rows = list[tuple[Any, ...]]
GOLD = (
    "71081100", "71081210", "71081290", "71081300", "71082010", "71082090", "71090000", "71123000", "71129100", "71189000",
)  # fmt: skip
BANDS = ((1, "close"), (3, "acceptable"), (10, "wide"))
ISO = {code: iso for code, iso, *_ in words.MARKETS}
# Chapters of the Harmonized System by product of table 645-95008: foods (sections I to IV), textiles (section XI) and so on.
PRODUCTS = {
    "FOOD": (2, 3, 4, 7, 8, 9, 10, 11, 15, 16, 17, 18, 19, 20, 21, 22),
    "CLOTH": range(50, 64),
    "JEWEL": (71, 91),
    "ELEC": (84, 85),
    "TOYS": (95,),
}
PRODUCT_OF = {f"{chapter:02}": code for code, chapters in PRODUCTS.items() for chapter in chapters}


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).cast(pl.Float64)


def _month(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).str.slice(0, 10).str.to_date().dt.truncate("1mo").alias("month")


def _month_end(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _newest(frame: pl.DataFrame, *key: str) -> pl.DataFrame:
    return frame.sort("business_date", maintain_order=True).unique(list(key), keep="last", maintain_order=True)


def declared_lines(world: Simulated) -> pl.DataFrame:
    """The current lines of declarations: month, flow, goods, is_exempt, is_person, hs_chapter, iso, value."""
    lines = world.frames["customs_declarations"]
    lines = lines.filter(pl.col("version") == pl.col("version").max().over("declaration_no"))
    lines = _newest(lines, "declaration_no", "line_no")
    is_import = pl.col("form_type").is_in(["1", "1A", "1B"])
    is_made_here = pl.col("origin_country") == "690"
    kind = pl.when(is_made_here).then(pl.lit("domestic_export")).otherwise(pl.lit("re_export"))
    return lines.select(
        _month("movement_date"),
        pl.when(is_import).then(pl.lit("import")).otherwise(kind).alias("flow"),
        pl.when(pl.col("hkhs_code").is_in(GOLD)).then(pl.lit("gold")).otherwise(pl.lit("merchandise")).alias("goods"),
        pl.col("form_type").is_in(["1B", "2B"]).alias("is_exempt"),
        pl.col("trader_id").str.starts_with("p").alias("is_person"),
        pl.col("hkhs_code").str.slice(0, 2).alias("hs_chapter"),
        pl.col("counterparty_country").replace_strict(ISO, default=pl.col("counterparty_country")).alias("iso"),
        _number("value_hkd").alias("value"),
    )


def figures(world: Simulated) -> pl.DataFrame:
    """The newest published figures that are there: month, source, flow, code, partner, HKD, half a unit of rounding."""
    key = ("source", "frequency", "period", "measure", "flow", "code_class", "code", "origin", "partner")
    frame = _newest(world.frames["csd_trade_statistics"], *key)
    is_swapped = pl.col("figure").str.contains("[A-Za-z]")
    frame = frame.with_columns(
        pl.when(is_swapped).then("unit").otherwise("figure").alias("text"),
        pl.when(is_swapped).then("figure").otherwise("unit").alias("unit_text"),
    ).filter(pl.col("text").is_not_null() & (pl.col("text") != ".."))
    unit = pl.col("unit_text").replace_strict({"HK$ million": 1e6, "HK$'000": 1e3}, return_dtype=pl.Float64)
    flows = {"1": "import", "2": "domestic_export", "3": "re_export", "4": "total_export"}
    return frame.select(
        (pl.col("period").str.slice(0, 4) + "-" + pl.col("period").str.slice(4, 2) + "-01")
        .str.to_date()
        .alias("month"),
        "source",
        pl.col("flow").replace(flows | {"VAL_IM": "import", "VAL_TX": "total_export"}),
        "code",
        "partner",
        (pl.col("text").str.replace_all(",", "").replace("-", "0").cast(pl.Float64) * unit).alias("hkd"),
        (unit / 2).alias("rounding"),
        (pl.col("status") == "p").fill_null(False).alias("marked"),
    )


def _bulk(world: Simulated, feed: str, flows: dict[str, list[str]]) -> pl.DataFrame:
    frame = world.frames[feed].filter(pl.col("record_type") == "1")
    goods = pl.when(pl.col("hs_code").is_in(GOLD)).then(pl.lit("gold")).otherwise(pl.lit("merchandise")).alias("goods")
    parts = []
    for flow, columns in flows.items():
        value = pl.sum_horizontal(_number(f"{column}_value_hkd") for column in columns).alias("hkd")
        sums = frame.select(_month("business_date"), goods, value).group_by("month", "goods").agg(pl.col("hkd").sum())
        # Merchandise is the file's total without that of gold: two rounded figures, or one where there is no gold.
        gold = sums.filter((pl.col("goods") == "gold") & (pl.col("hkd") != 0)).select("month", of_gold=0.5)
        of_all = pl.when(pl.col("goods") == "merchandise").then(0.5).otherwise(0)
        parts.append(
            sums.join(gold, on="month", how="left")
            .select("month", "goods", "hkd", (pl.col("of_gold").fill_null(0) + of_all).alias("rounding"))
            .with_columns(pl.lit(flow).alias("flow"), pl.lit(feed.removeprefix("csd_")).alias("source"))
        )
    return pl.concat(parts)


def question_20(world: Simulated) -> Rows:
    """Month, flow, goods, source: declared, exempt, published, gap, gap in per cent, band; comparable months."""
    lines = declared_lines(world)
    exports = lines.filter(pl.col("flow") != "import").with_columns(pl.lit("total_export").alias("flow"))
    declared = (
        pl.concat([lines, exports])
        .group_by("month", "flow", "goods")
        .agg(pl.col("value").sum().alias("declared"), pl.col("value").filter("is_exempt").sum().alias("exempt"))
    )
    found = figures(world)
    idds = found.filter((pl.col("source") == "trade_idds") & (pl.col("partner") == "ALL"))
    tables = pl.concat([idds, found.filter(pl.col("source") == "web_table")])
    keys = ("month", "source", "flow", "goods")
    tables = tables.with_columns(pl.lit("merchandise").alias("goods")).group_by(keys)
    exported = {"domestic_export": ["domestic_export"], "re_export": ["re_export"]}
    together = {"total_export": ["domestic_export", "re_export"]}
    parts = [
        tables.agg(pl.col("hkd").sum(), pl.col("rounding").sum(), pl.col("marked").any()),
        _bulk(world, "csd_bulk_hsccit", {"import": ["import"], **exported, **together}),
        _bulk(world, "csd_bulk_hscoit", {"import": ["import"]}),
        _bulk(world, "csd_bulk_hscoccit", {"re_export": ["re_export"]}),
    ]
    marked = pl.lit(False).alias("marked")
    parts = [part if "marked" in part.columns else part.with_columns(marked) for part in parts]
    published = pl.concat([part.select(*keys, "hkd", "rounding", "marked") for part in parts])
    # Gold is nil in a month that the files by code have nothing of it in.
    out = published.select("month", "source").unique()
    grid = out.join(published.select("source", "flow", "goods").unique(), on="source")
    flows = pl.DataFrame({"flow": ["import", "domestic_export", "re_export", "total_export"]})
    grid = grid.join(declared.select("month").unique(), on="month", how="semi").join(flows, on="flow", how="semi")
    table = grid.join(published, on=keys, how="left").join(declared, on=["month", "flow", "goods"], how="left")
    first = world.frames["customs_declarations"]["business_date"].min()
    rows = []
    table = table.filter(~pl.col("marked").fill_null(False))
    for row in table.fill_null(0).sort("month", "flow", "goods", "source").iter_rows(named=True):
        if row["month"] < first or _month_end(row["month"]) + timedelta(days=14) > world.last:
            continue
        gap, published_hkd = row["declared"] - row["hkd"], row["hkd"]
        beyond = max(abs(gap) - row["rounding"], 0)
        share = 100 * beyond / published_hkd if published_hkd else (0 if row["declared"] == 0 else 1000)
        band = next((name for limit, name in BANDS if share <= limit), "out_of_band")
        pct = 100 * gap / published_hkd if published_hkd else None
        key = (row["month"], row["flow"], row["goods"], row["source"])
        rows.append((*key, row["declared"], row["exempt"], published_hkd, gap, pct, band))
    return rows


def question_19(world: Simulated) -> Rows:
    """Chapter: months, published exports to the Mainland, its imports from Hong Kong in HKD, gap, gap in per cent."""
    exports = figures(world).filter(
        (pl.col("source") == "trade_idds") & (pl.col("partner") == "CN") & (pl.col("flow") == "total_export")
    )
    exports = exports.group_by("month", pl.col("code").alias("chapter")).agg(pl.col("hkd").sum())
    rates = _newest(world.frames["hkma_exchange_rates"], "end_of_day").with_columns(_number("usd").round(6))
    rates = rates.group_by(_month("end_of_day")).agg(pl.col("usd").mean())
    mirror = _newest(world.frames["comtrade_mirror_imports"], "period", "code").select(
        (pl.col("period").str.slice(0, 4) + "-" + pl.col("period").str.slice(4, 2) + "-01")
        .str.to_date()
        .alias("month"),
        pl.col("code").alias("chapter"),
        _number("value_usd").alias("value_usd"),
    )
    mirror = mirror.join(rates, on="month").with_columns((pl.col("value_usd") * pl.col("usd")).alias("mirror"))
    both = exports.join(mirror, on=["month", "chapter"], how="full", coalesce=True)
    for side in (exports, mirror):
        both = both.join(side.select("month").unique(), on="month", how="semi")
    sums = both.fill_null(0).group_by("chapter").agg(pl.len(), pl.col("hkd").sum(), pl.col("mirror").sum())
    return [
        (chapter, months, hkd, mirrored, mirrored - hkd, 100 * (mirrored - hkd) / hkd)
        for chapter, months, hkd, mirrored in sums.sort("chapter").iter_rows()
    ]


def insured(world: Simulated) -> pl.DataFrame:
    """Declared shipments as they stand: month, iso, product, value."""
    shipments = _newest(world.frames["hkecic_shipments"], "policy_no", "shipment_no")
    return shipments.select(
        _month("shipped_on"),
        pl.col("buyer_country").alias("iso"),
        pl.lit("merchandise").alias("goods"),
        pl.col("hs_code").str.slice(0, 2).replace_strict(PRODUCT_OF, default="OTHER").alias("product"),
        _number("invoice_value_hkd").alias("value"),
    )


def question_11(world: Simulated) -> Rows:
    """Market, product: shipments, insured value, exports, their ratio, gold, over the months that both feeds cover."""
    product = pl.col("hs_chapter").replace_strict(PRODUCT_OF, default="OTHER").alias("product")
    exports = declared_lines(world).filter(pl.col("flow") != "import").with_columns(product)
    parts = [
        insured(world).with_columns(pl.lit(0.0).alias("exports"), pl.lit(1).alias("n")).rename({"value": "insured"}),
        exports.with_columns(pl.lit(0.0).alias("insured"), pl.lit(0).alias("n")).rename({"value": "exports"}),
    ]
    table = pl.concat([part.select("month", "iso", "product", "goods", "insured", "exports", "n") for part in parts])
    first = max(world.frames[feed]["business_date"].min() for feed in ("customs_declarations", "hkecic_shipments"))
    table = table.filter(
        (pl.col("month") >= first) & (pl.col("month").dt.month_end() + timedelta(days=31) <= world.last)
    )
    gold = pl.col("goods") == "gold"
    sums = table.group_by("iso", "product").agg(
        pl.col("n").sum(),
        pl.col("insured").sum(),
        pl.col("exports").filter(~gold).sum(),
        pl.col("exports").filter(gold).sum().alias("gold"),
    )
    assert sums["gold"].sum() > 0
    return [
        (iso, name, n, value, exported, value / exported if exported and n >= 10 else None, gold_value)
        for iso, name, n, value, exported, gold_value in sums.sort("iso", "product").iter_rows()
    ]
