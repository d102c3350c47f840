"""What was paid back of orders, for the answers on sales."""

from __future__ import annotations

import polars as pl

from tests.integration.world import Simulated


def refunds(world: Simulated) -> pl.DataFrame:
    """What was paid back of each order line, in fen: granted requests one after the other, each with its newest amount."""
    states = world.frames["platform_orders"].unique(
        ["platform", "oid", "modified_at"], keep="last", maintain_order=True
    )
    asked = states.filter((pl.col("refund_status") == "SUCCESS").any().over("platform", "oid"))
    asked = asked.sort("platform", "oid", "modified_at").select(
        "platform", "oid", "refund_status", fen("refund_fee_cny")
    )
    granted: dict[tuple[str, str], list[int]] = {}
    before: dict[tuple[str, str], str | None] = {}
    for platform, oid, status, amount in asked.iter_rows():
        line = (platform, oid)
        if status is None:
            granted[line] = []
        elif status == "SUCCESS":
            earlier = granted.setdefault(line, [])
            if before.get(line) == "SUCCESS":
                earlier.pop()
            earlier.append(amount)
        before[line] = status
    rows = [(*line, sum(amounts)) for line, amounts in granted.items()]
    return pl.DataFrame(rows, schema={"platform": pl.String, "oid": pl.String, "granted": pl.Int64}, orient="row")


def fen(column: str) -> pl.Expr:
    """An amount of yuan in text as fen."""
    return (pl.col(column).cast(pl.Float64) * 100).round().cast(pl.Int64)
