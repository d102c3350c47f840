"""Export credit insurance as HKECIC reports it: policies, declared shipments with overdue reports, and claims."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, pick, take
from infra.simulator.population import persons, phones
from infra.simulator.world import World

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
        pl.Series(generator.random(count) < 0.07).alias("leaves"),
        persons(generator, count).alias("contact_name"),
        phones(generator, count).alias("contact_phone"),
    )
    return world.kept["policies"]


def hkecic_policies(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """The whole book on the first business date, then policies issued, renewed or lapsed; or an empty sheet."""
    book = policies(world)
    names = (
        "policy_no", "brn", "policyholder_name", "policy_type", "status", "issued_on", "cover_start_on", "cover_end_on",
        "indemnity_pct", "max_liability_hkd", "premium_rate_pct", "contact_name", "contact_phone",
    )  # fmt: skip
    first = book["first_day"].to_numpy()
    for index, period in enumerate(world.periods):
        today, since = number(period.business_date), number(period.first_day)
        years = np.maximum((today - first) // 365, 0)
        years = np.where(book["leaves"].to_numpy(), 0, years)
        start = first + 365 * years
        lapsed = start + 365 <= today
        begun = first <= today
        moved = begun & ((start >= since) | (lapsed & (start + 365 >= since)))
        frame = book.with_columns(
            only(lapsed, pl.Series(["lapsed"] * len(book), dtype=pl.String), "in_force").alias("status"),
            dates(start - 5).alias("issued_on"),
            dates(start).alias("cover_start_on"),
            dates(start + 364).alias("cover_end_on"),
        )
        yield period.business_date, frame.filter(pl.Series(begun if index == 0 else moved)).select(names)


def shipments(world: World) -> pl.DataFrame:
    """One row per declared shipment of the days before the window and the window itself."""
    if "shipments" in world.kept:
        return world.kept["shipments"]
    generator = world.rng("shipments")
    book = policies(world)
    begin, end = number(world.first) - SHIPMENT_DAYS_BEFORE, number(world.last)
    # Policyholders declare about half of their exports.
    exports = np.minimum(book["exports_a_year"].to_numpy(), 600) * world.volume
    each = generator.poisson(exports * 0.5 * (end - begin) / 365)
    owner = np.repeat(np.arange(len(book)), each)
    count = len(owner)
    shipped = begin + generator.integers(0, end - begin, count)
    declared = shipped + generator.integers(0, 31, count)
    kept = (declared <= end) & (shipped >= book["first_day"].to_numpy()[owner])
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
    bad = (generator.random(count) < 0.03) & (overdue <= end) & (overdue > declared)
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
    world.kept["shipments"] = frame.with_columns(joined("S", digits(np.arange(count) + 1, 9)).alias("shipment_no"))
    return world.kept["shipments"]


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
    """One row per claim and status until the last day of the window."""
    if "claims" in world.kept:
        return world.kept["claims"]
    bad = shipments(world).filter(pl.col("overdue_on").is_not_null())
    book = policies(world)
    generator = world.rng("claims")
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
            "claim_no": joined("CL", digits(pl.Series(lodged).rank("ordinal"), 8)),
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
    world.kept["claims"] = pl.concat(parts).filter(pl.col("status_on") <= world.last).sort("status_on", "claim_no")
    return world.kept["claims"]


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
