"""Export credit insurance as HKECIC reports it: policies, declared shipments with overdue reports, and claims."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, pick, take
from infra.simulator.population import persons, phones
from infra.simulator.world import World, month_after

# Policy type, prefix of its numbers, share of holders, indemnities in per cent, maximum liability in HKD (low, high).
TYPES = (
    ("comprehensive_cover", "CCP", 0.18, (90, 95), (8e6, 2e8)),
    ("small_business", "SBP", 0.46, (60, 70, 80, 90, 95), (1e6, 1e7)),
    ("online_micro_business", "OMB", 0.22, (90, 95), (2e5, 1e6)),
    ("self_underwritten", "SUP", 0.08, (80, 90), (2e6, 2e7)),
    ("services", "SVP", 0.06, (80, 90), (1e6, 1e7)),
)
HISTORY_DAYS = 720
SHIPMENT_DAYS_BEFORE = 300
# Planted: shares of policies that lapse after their first year, are cancelled within one, get other terms within one, and
# began so many days later than was first reported.
LEAVES, CANCELLED, ENDORSED, CORRECTED, CORRECTED_BY = 0.07, 0.08, 0.15, 0.15, 14
MOST_LIABILITY = 2e8
NEVER = 10**7


def policies(world: World) -> pl.DataFrame:
    """One row per policy holder: type, terms and the day of the year on which the policy is renewed."""
    if "policies" in world.kept:
        return world.kept["policies"]
    generator = world.rng("policies")
    holders = world.population.smes.filter("is_insured")
    count = len(holders)
    kind = generator.choice(len(TYPES), count, p=[entry[2] for entry in TYPES])
    indemnity = np.array([generator.choice(entry[3], count) for entry in TYPES])[kind, np.arange(count)]
    low, high = (np.array([entry[4][side] for entry in TYPES])[kind] for side in (0, 1))
    liability = np.round(np.exp(generator.uniform(np.log(low), np.log(high))), -4)
    first = number(world.first) - generator.integers(-25, HISTORY_DAYS, count)
    # Others are insured for the first time later on.
    first = np.where(generator.random(count) < 0.2, number(world.first) + generator.integers(26, 1200, count), first)
    world.kept["policies"] = holders.select(
        "brn", "exports_a_year", "good_1", "good_2", "market_1", "market_2", "has_shop", "name_zh", "name_en"
    ).with_columns(
        joined(take([entry[1] for entry in TYPES], kind), digits(np.arange(count) * 13 % 10**7 + 1, 7)).alias(
            "policy_no"
        ),
        holders["name_en"].fill_null(holders["name_zh"]).alias("policyholder_name"),
        take([entry[0] for entry in TYPES], kind).alias("policy_type"),
        pl.Series(indemnity.astype(np.int64)).alias("indemnity_pct"),
        pl.Series(liability).alias("max_liability_hkd"),
        pl.Series(np.round(generator.uniform(0.2, 1.1, count), 4)).alias("premium_rate_pct"),
        pl.Series(first).alias("first_day"),
        persons(generator, count).alias("contact_name"),
        phones(generator, count).alias("contact_phone"),
        **_fates(generator, first, liability, count),
    )
    return world.kept["policies"]


def _fates(
    generator: np.random.Generator, first: np.ndarray, liability: np.ndarray, count: int
) -> dict[str, pl.Series | np.ndarray]:
    """What becomes of each policy: `ends` (never, lapsed, cancelled) `on` a day, and its changes of terms, with their days.

    A policy lapses when its first year is over, and is cancelled within a year. One that is endorsed has other terms from
    that day on. Of one that is corrected the first report said a fortnight too early when its cover began.
    """
    fate, day = generator.random(count), generator.integers(40, 330, count)
    lapsed, cancelled = fate < LEAVES, (fate >= LEAVES) & (fate < LEAVES + CANCELLED)
    years = generator.integers(0, 3, count)
    endorsed = (fate >= LEAVES + CANCELLED) & (generator.random(count) < ENDORSED)
    corrected = (fate >= LEAVES + CANCELLED) & ~endorsed & (generator.random(count) < CORRECTED)
    factor = generator.choice([0.5, 2.0, 4.0], count, p=[0.2, 0.5, 0.3])
    return {
        "ends": only(
            lapsed, pl.Series(["lapsed"] * count, dtype=pl.String), only(cancelled, pl.Series(["cancelled"] * count))
        ),
        "ends_on": np.select([lapsed, cancelled], [first + 365, first + 365 * years + day], NEVER),
        "endorsed_on": np.where(endorsed, first + 365 * years + day, NEVER),
        "endorsed_rate_pct": np.round(generator.uniform(0.3, 1.4, count), 4),
        "endorsed_liability_hkd": np.round(np.minimum(liability * factor, MOST_LIABILITY), -4),
        "corrected_on": np.where(corrected, first + generator.integers(3, 10, count), NEVER),
    }


def reports(world: World) -> pl.DataFrame:
    """What is reported of each policy on which day `on`: its state and terms from then on. Reports to come are there too."""
    if "policy_reports" in world.kept:
        return world.kept["policy_reports"]
    book = policies(world).with_columns(
        pl.when(pl.col("corrected_on") < NEVER).then(CORRECTED_BY).otherwise(0).alias("moved_by")
    )
    years = max(1, (number(world.last) - int(book["first_day"].min() or 0)) // 365 + 1)
    first, moved = pl.col("first_day"), pl.col("moved_by")
    year = (pl.col("on") - first) // 365
    renewed = book.with_columns(pl.lit(pl.Series([list(range(years))] * len(book))).alias("year")).explode("year")
    renewed = renewed.with_columns((first + 365 * pl.col("year")).alias("on"), pl.lit("in_force").alias("status"))
    # The first report has the wrong day.
    renewed = renewed.with_columns(pl.when(pl.col("year") == 0).then(0).otherwise(moved).alias("moved_by")).drop("year")
    parts = [
        renewed.filter(pl.col("on") < pl.col("ends_on")),
        *(
            book.filter(pl.col(on) < NEVER).with_columns(pl.col(on).alias("on"), status.alias("status"))
            for on, status in (
                ("corrected_on", pl.lit("in_force")), ("endorsed_on", pl.lit("in_force")), ("ends_on", pl.col("ends")),
            )
        ),
    ]  # fmt: skip
    told = pl.concat(parts, how="vertical_relaxed")
    # A policy that lapses does so on the day after the year that is over.
    of_year = pl.when(pl.col("status") == "lapsed").then(0).otherwise(year)
    start = first + 365 * of_year + pl.col("moved_by")
    later = pl.col("on") >= pl.col("endorsed_on")
    world.kept["policy_reports"] = told.with_columns(
        (first + 365 * of_year - 5).cast(pl.Int32).cast(pl.Date).alias("issued_on"),
        start.cast(pl.Int32).cast(pl.Date).alias("cover_start_on"),
        (start + 364).cast(pl.Int32).cast(pl.Date).alias("cover_end_on"),
        pl.when(later).then("endorsed_rate_pct").otherwise("premium_rate_pct").alias("premium_rate_pct"),
        pl.when(later).then("endorsed_liability_hkd").otherwise("max_liability_hkd").alias("max_liability_hkd"),
    ).sort("on", "policy_no")
    return world.kept["policy_reports"]


def hkecic_policies(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """The whole book on the first business date, then policies issued, renewed, changed or ended; or an empty sheet."""
    names = (
        "policy_no", "brn", "policyholder_name", "policy_type", "status", "issued_on", "cover_start_on", "cover_end_on",
        "indemnity_pct", "max_liability_hkd", "premium_rate_pct", "contact_name", "contact_phone",
    )  # fmt: skip
    told = reports(world)
    position = world.period_of(told["on"].to_numpy())
    for index, period in enumerate(world.periods):
        today = told.filter(pl.Series(position == index)).unique("policy_no", keep="last", maintain_order=True)
        yield period.business_date, today.sort("policy_no").select(names)


def shipments(world: World) -> pl.DataFrame:
    """One row per shipment of a month until the last one, the days before the first of the world included; part of them
    are declared, or their payment reported overdue, later on."""
    if "shipments" not in world.kept:
        begin = world.first - timedelta(days=SHIPMENT_DAYS_BEFORE)
        shipped = world.by_month("shipped", begin, lambda month: shipments_of(world, month))
        world.kept["shipments"] = shipped.filter(pl.col("shipped_on") >= begin)
    found: pl.DataFrame = world.kept["shipments"]
    return found


def shipments_of(world: World, month: date) -> pl.DataFrame:
    """The shipments of the month that begins on a day."""
    generator = world.rng("shipments", month)
    book = policies(world)
    begin, end = number(month), number(month_after(month, 1))
    # Policyholders declare about half of their exports.
    exports = np.minimum(book["exports_a_year"].to_numpy(), 600) * world.volume
    owner = np.repeat(np.arange(len(book)), generator.poisson(exports * 0.5 * (end - begin) / 365))
    count = len(owner)
    shipped = begin + generator.integers(0, end - begin, count)
    declared = shipped + generator.integers(0, 31, count)
    kept = (shipped >= book["first_day"].to_numpy()[owner]) & (shipped < book["ends_on"].to_numpy()[owner])
    owner, shipped, declared = owner[kept], shipped[kept], declared[kept]
    count = len(owner)
    good = np.where(generator.random(count) < 0.7, book["good_1"].to_numpy()[owner], book["good_2"].to_numpy()[owner])
    market = np.where(
        generator.random(count) < 0.75, book["market_1"].to_numpy()[owner], book["market_2"].to_numpy()[owner]
    )
    term = generator.choice(3, count, p=[0.08, 0.1, 0.82])
    credit = np.where(term == 0, generator.choice([0, 14, 30], count), generator.choice([30, 45, 60, 90, 120], count))
    due = shipped + credit
    overdue = due + generator.integers(31, 75, count)
    bad = (generator.random(count) < 0.03) & (overdue > declared)
    frame = pl.DataFrame(
        {
            "owner": owner,
            "policy_no": book["policy_no"].gather(pl.Series(owner)),
            "shipped_on": dates(shipped),
            "declared_on": dates(declared),
            "buyer_no": joined("B", digits(generator.integers(0, 10**6, count), 6)),
            "buyer_country": take([entry[1] for entry in words.MARKETS], market),
            "hs_code": take([entry[0][:6] for entry in words.GOODS], good),
            "product": take([entry[1] for entry in words.GOODS], good),
            "payment_term": take(["DP", "DA", "OA"], term),
            "credit_days": credit,
            "due_on": dates(due),
            "invoice_value_hkd": np.round(generator.lognormal(11.3, 1.1, count), 2),
            "is_ecommerce": book["has_shop"].to_numpy()[owner] & (generator.random(count) < 0.5),
            "overdue_on": only(bad, dates(overdue)),
        }
    ).sort("declared_on", "policy_no", "shipped_on", "buyer_no")
    return frame.with_columns(joined("S", month.strftime("%y%m"), digits(np.arange(count) + 1, 5)).alias("shipment_no"))


def hkecic_shipments(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Shipments declared, and again those whose payment was reported overdue, by business date."""
    names = (
        "policy_no", "shipment_no", "declared_on", "shipped_on", "buyer_no", "buyer_country", "hs_code", "product",
        "payment_term", "credit_days", "due_on", "invoice_value_hkd", "is_ecommerce", "overdue_reported_on",
    )  # fmt: skip
    known = shipments(world)
    declared = world.period_of(known["declared_on"].cast(pl.Int32).to_numpy())
    reported = world.period_of(known["overdue_on"].cast(pl.Int32).fill_null(10**7).to_numpy())
    for index, period in enumerate(world.periods):
        frame = known.filter(pl.Series((declared == index) | (reported == index)))
        overdue = pl.when(pl.col("overdue_on") <= period.business_date).then("overdue_on").alias("overdue_reported_on")
        yield period.business_date, frame.with_columns(overdue).select(names)


def claims(world: World) -> pl.DataFrame:
    """One row per claim and status, those to come included, of the shipments until the last month."""
    if "claims" not in world.kept:
        begin = world.first - timedelta(days=SHIPMENT_DAYS_BEFORE)
        claimed = world.by_month("claimed", begin, lambda month: _claims(world, month))
        world.kept["claims"] = claimed.sort("status_on", "claim_no")
    found: pl.DataFrame = world.kept["claims"]
    return found


def _claims(world: World, month: date) -> pl.DataFrame:
    """Claims for shipments of a month."""
    shipped = shipments(world).filter(pl.col("shipped_on").is_between(month, month_after(month, 1), closed="left"))
    bad = shipped.filter(pl.col("overdue_on").is_not_null())
    book = policies(world)
    generator = world.rng("claims", month)
    bad = bad.filter(pl.Series(generator.random(len(bad)) < 0.6))
    count = len(bad)
    holder = book.select("name_zh", "policyholder_name", "indemnity_pct")[bad["owner"]]
    cause = generator.choice(len(words.CLAIM_CAUSES), count, p=[entry[2] for entry in words.CLAIM_CAUSES])
    lodged = bad["overdue_on"].cast(pl.Int32).to_numpy() + generator.integers(5, 30, count)
    reviewed = lodged + generator.integers(3, 15, count)
    decided = np.maximum(reviewed + generator.integers(20, 60, count), bad["due_on"].cast(pl.Int32).to_numpy() + 120)
    paid, recovered = decided + generator.integers(7, 20, count), decided + generator.integers(60, 200, count)
    rejected = generator.random(count) < 0.15
    comes_back = ~rejected & (generator.random(count) < 0.2)
    claimed = np.round(bad["invoice_value_hkd"].to_numpy() * generator.uniform(0.6, 1.0, count), 2)
    indemnity = np.round(claimed * holder["indemnity_pct"].to_numpy() / 100 - 0.01, 2)
    frame = pl.DataFrame(
        {
            "claim_no": joined("CL", month.strftime("%y%m"), digits(np.arange(count) + 1, 4)),
            "lodged_on": dates(lodged),
            "policy_no": bad["policy_no"],
            "shipment_no": bad["shipment_no"],
            "policyholder_name_zh": holder["name_zh"].fill_null(holder["policyholder_name"]),
            "cause": take([entry[0] for entry in words.CLAIM_CAUSES], cause),
            "cause_text_zh": take([entry[1] for entry in words.CLAIM_CAUSES], cause),
            "remarks_zh": pick(generator, words.CLAIM_REMARKS, count),
            "amount_claimed_hkd": claimed,
            "indemnity": indemnity,
            "case_officer": persons(generator, count),
        }
    )
    everyone = np.ones(count, dtype=bool)
    steps = (
        ("lodged", lodged, everyone),
        ("under_review", reviewed, everyone),
        ("rejected", decided, rejected),
        ("approved", decided, ~rejected),
        ("paid", paid, ~rejected),
        ("recovered", recovered, comes_back),
    )
    parts = []
    for status, on, mask in steps:
        has_paid = status in ("paid", "recovered")
        parts.append(
            frame.with_columns(
                pl.lit(status).alias("status"),
                dates(on).alias("status_on"),
                (pl.col("indemnity") if has_paid else pl.lit(None, dtype=pl.Float64)).alias("amount_paid_hkd"),
                (
                    (pl.col("indemnity") * 0.4).round(2) if status == "recovered" else pl.lit(None, dtype=pl.Float64)
                ).alias("amount_recovered_hkd"),
            ).filter(pl.Series(mask))
        )
    return pl.concat(parts)


def hkecic_claims(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """Changes of status by business date, the first with all before it; no delivery where nothing changed."""
    names = (
        "claim_no", "status", "status_on", "lodged_on", "policy_no", "shipment_no", "policyholder_name_zh", "cause",
        "cause_text_zh", "remarks_zh", "amount_claimed_hkd", "amount_paid_hkd", "amount_recovered_hkd", "case_officer",
    )  # fmt: skip
    known = claims(world)
    position = world.period_of(known["status_on"].cast(pl.Int32).to_numpy())
    for index, period in enumerate(world.periods):
        chosen = known.filter(pl.Series(position == index)).select(names)
        yield period.business_date, chosen if len(chosen) else None
