"""Export credit insurance: how policies are used (12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from tests.integration.world import Simulated


def as_date(*columns: str) -> list[pl.Expr]:
    """Columns as dates, also when the delivery has them as text."""
    return [pl.col(name).cast(pl.String).str.to_date() for name in columns]


def amount(column: str) -> pl.Expr:
    """A column as a number."""
    return pl.col(column).cast(pl.Float64)


def years_of_cover(world: Simulated) -> pl.DataFrame:
    """One row per policy and year of cover, as last reported; it ends at the latest where the next one begins."""
    found = world.frames["hkecic_policies"].sort("business_date")
    found = found.unique(["policy_no", "cover_start_on"], keep="last").with_columns(
        as_date("cover_start_on", "cover_end_on")
    )
    found = found.sort("policy_no", "cover_start_on")
    following = pl.col("cover_start_on").shift(-1).over("policy_no") - timedelta(days=1)
    return found.with_columns(pl.min_horizontal("cover_end_on", following).alias("cover_end_on"))


def question_12(world: Simulated) -> list[tuple[Any, ...]]:
    """By type of policy, of the years of cover that lie in the history and ended: declared against limit, claims, overdue."""
    begun = min(world.delivered["hkecic_shipments"])
    covers = years_of_cover(world).filter((pl.col("cover_end_on") < world.last) & (pl.col("cover_start_on") >= begun))
    shipments = world.frames["hkecic_shipments"].sort("business_date").unique(["policy_no", "shipment_no"], keep="last")
    shipments = shipments.with_columns(*as_date("shipped_on"), amount("invoice_value_hkd").alias("value"))
    statuses = world.frames["hkecic_claims"].sort("status_on", "business_date")
    claims = statuses.group_by("claim_no", maintain_order=True).agg(
        pl.col("policy_no", "shipment_no").last(),
        *(
            amount(f"amount_{name}_hkd").drop_nulls().last().fill_null(0).alias(name)
            for name in ("paid", "recovered")
        ),
    )  # fmt: skip
    claims = claims.group_by("policy_no", "shipment_no").agg(pl.col("paid", "recovered").sum())
    declared = covers.join(shipments, on="policy_no").filter(
        pl.col("shipped_on").is_between("cover_start_on", "cover_end_on")
    )
    declared = declared.join(claims, on=["policy_no", "shipment_no"], how="left").with_columns(
        (pl.col("value") * amount("premium_rate_pct") / 100).alias("premium")
    )
    online = pl.col("is_ecommerce").cast(pl.String) == "true"
    overdue = pl.col("overdue_reported_on").cast(pl.String).is_not_null()
    used = declared.select("policy_no", "cover_start_on", "policy_type").unique().group_by("policy_type").len("used")
    sums = declared.group_by("policy_type").agg(
        pl.col("value", "paid", "recovered", "premium").sum(),
        (pl.col("paid") - pl.col("recovered")).filter(pl.col("premium").is_not_null()).sum().alias("lost"),
        pl.col("value").filter(online).sum().alias("online"),
        pl.col("value").filter(overdue).sum().alias("overdue"),
        overdue.sum().alias("reports"),
    )
    types = covers.group_by("policy_type").agg(
        pl.len().alias("years"), amount("max_liability_hkd").sum().alias("limit")
    )
    types = types.join(sums, on="policy_type", how="left").join(used, on="policy_type", how="left").sort("policy_type")
    return [
        (
            row["policy_type"], row["years"], row["used"], row["value"], row["limit"],
            round(row["value"] / row["limit"], 4), row["paid"],
            round(row["lost"] / row["premium"], 4), row["reports"],
            round(row["overdue"] / row["value"], 4), round(row["online"] / row["value"], 4),
        )
        for row in types.iter_rows(named=True)
    ]  # fmt: skip
