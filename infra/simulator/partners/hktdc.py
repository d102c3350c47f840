"""Participants of the shopping festivals as HKTDC lists them: headings and shop names in simplified characters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl

from infra.simulator import names as coined
from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, pick
from infra.simulator.partners import openings
from infra.simulator.partners.marks import certificates
from infra.simulator.population import persons, phones, usccs
from infra.simulator.shops import shops
from infra.simulator.world import World

# Share of merchants whose shops an agency runs, and how many agencies there are.
SERVED_BY_AGENCIES, AGENCIES = 0.3, 6
# Event, days on which its registration opens and closes, share of the merchants of all events that take part in it.
EVENTS = (
    ("HKSF-2024", date(2024, 5, 6), date(2024, 7, 26), 0.35),
    ("HKSF-2025", date(2025, 5, 5), date(2025, 7, 25), 0.45),
    ("HKSF-2026", date(2026, 5, 4), date(2026, 7, 28), 1.0),
)
# Planted: share of merchants that claim the certificate of another enterprise.
BORROWED = 0.05
# The day on which a merchant withdraws that does not.
STAYS = 10**7


def participants(world: World) -> pl.DataFrame:
    """One row per event, merchant and platform; part of the merchants took part in the years before."""
    if "participants" in world.kept:
        return world.kept["participants"]
    generator = world.rng("participants")
    known = shops(world).filter("in_festival").unique(["sme_no", "platform"], keep="first", maintain_order=True)
    smes = world.population.smes.select(
        "sme_no", "name_zh", "name_en", "brand_en", "trade_word_no", "mark_code", "operator_uscc"
    )
    known = known.join(smes, on="sme_no", maintain_order="left")
    count = len(known)
    merchant = known["sme_no"].rank("dense").to_numpy() - 1
    merchants = int(merchant.max()) + 1 if count else 0
    tells_brn, has_operator = generator.random(merchants) < 0.68, generator.random(merchants) < 0.5
    registers = _merchant_names(world, known.unique("sme_no", keep="first", maintain_order=True))
    extra = pick(generator, words.CATEGORIES, count)
    different = extra != known["category"]
    base = known.with_columns(
        joined("M", digits(merchant + 1, 6)).alias("merchant_no"),
        known.join(registers, on="sme_no", maintain_order="left")["merchant_name"],
        only(tells_brn[merchant], known["brn"]).alias("brn"),
        only(has_operator[merchant], _operators(world, known, merchant)).alias("operator_uscc"),
        only(
            different & pl.Series(generator.random(count) < 0.25),
            joined(known["category"], ";", extra),
            known["category"],
        ).alias("categories"),
        persons(generator, merchants, simplified=True).gather(pl.Series(merchant)).alias("contact_name"),
        phones(generator, merchants).gather(pl.Series(merchant)).alias("contact_phone"),
    )
    parts = []
    for event, opens, closes, share in EVENTS:
        generator, span = world.rng("participants", event), number(closes) - number(opens)
        joins = number(opens) + (span * generator.beta(1.6, 2.2, merchants)).astype(int)
        leaves = np.where(generator.random(merchants) < 0.04, joins + 20, STAYS)
        comes = generator.random(merchants) < share
        part = base.with_columns(
            pl.lit(event).alias("event_id"),
            dates(joins[merchant]).alias("joined_on"),
            pl.Series(leaves[merchant]).alias("leaves"),
        )
        parts.append(part.filter(pl.Series(comes[merchant])))
    # Whose shop is not open yet does not register it.
    opened = shops(world).select("platform", "store_id", pl.Series(openings.opens(world)).alias("opens"))
    listed = _borrowing(world, pl.concat(parts)).join(opened, on=["platform", "store_id"], maintain_order="left")
    listed = listed.filter(pl.col("opens") <= pl.col("joined_on").cast(pl.Int32)).drop("opens")
    world.kept["participants"] = listed.sort("event_id", "merchant_no", "platform")
    return world.kept["participants"]


def _borrowing(world: World, listed: pl.DataFrame) -> pl.DataFrame:
    """Participants, a few of whom claim the certificate of another enterprise; `borrows` says who."""
    generator = world.rng("borrowed")
    held = certificates(world).filter(pl.col("exists") & pl.col("is_claimed")).select("sme_no", "certificate_no")
    merchants = listed["merchant_no"].unique().sort()
    chosen = (
        merchants.filter(pl.Series(generator.random(len(merchants)) < BORROWED)) if len(held) else merchants.head(0)
    )
    lent = held[generator.integers(0, max(1, len(held)), len(chosen)).tolist()] if len(held) else held
    table = pl.DataFrame({"merchant_no": chosen, "lent_by": lent["sme_no"], "lent": lent["certificate_no"]})
    listed = listed.join(table, on="merchant_no", how="left", maintain_order="left")
    borrows = (pl.col("lent_by") != pl.col("sme_no")).fill_null(False)
    code = pl.when("borrows").then("lent").otherwise("mark_code").alias("mark_code")
    return listed.with_columns(borrows.alias("borrows")).with_columns(code).drop("lent", "lent_by")


def _operators(world: World, known: pl.DataFrame, merchant: np.ndarray) -> pl.Series:
    """Who runs each shop on the Mainland: a company of the merchant's own, or one that serves many merchants."""
    generator = world.rng("operators")
    merchants = int(merchant.max()) + 1 if len(merchant) else 0
    served = generator.random(merchants) < SERVED_BY_AGENCIES
    agencies = usccs(generator, AGENCIES).gather(pl.Series(generator.integers(0, AGENCIES, merchants)))
    return only(served[merchant], agencies.gather(pl.Series(merchant)), known["operator_uscc"])


def _merchant_names(world: World, merchants: pl.DataFrame) -> pl.DataFrame:
    """The name under which each enterprise registers: as on the register, or as somebody wrote it."""
    generator = world.rng("merchant-names")
    found = []
    for owner in merchants.iter_rows(named=True):
        script = "zh" if owner["name_zh"] else "en"
        as_registered = generator.random() < 0.7
        found.append(owner[f"name_{script}"] if as_registered else coined.written(generator, owner, script)[0])
    return pl.DataFrame({"sme_no": merchants["sme_no"], "merchant_name": pl.Series(found, dtype=pl.String)})


def festival_participants(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """On each business date the whole list as it stands."""
    names = {
        "event_id": "活动编号",
        "merchant_no": "商户编号",
        "merchant_name": "商户名称",
        "brn": "商业登记号码",
        "shop_name": "店铺名称",
        "platform": "平台",
        "store_id": "店铺ID",
        "operator_uscc": "运营方统一社会信用代码",
        "categories": "品类",
        "mark_code": "标志代码",
        "joined_on": "报名日期",
        "status": "状态",
        "contact_name": "联系人",
        "contact_phone": "联系电话",
    }
    known = participants(world)
    for period in world.periods:
        listed = known.filter(pl.col("joined_on") <= period.business_date)
        left = pl.col("leaves") <= number(period.business_date)
        status = pl.when(left).then(pl.lit("withdrawn")).otherwise(pl.lit("joined"))
        if len(listed):
            yield (
                period.business_date,
                listed.with_columns(status.alias("status")).select(pl.col(a).alias(b) for a, b in names.items()),
            )
