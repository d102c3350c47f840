"""Consents and the use of the Commercial Data Interchange."""

from __future__ import annotations

from typing import Any

import polars as pl

from tests.integration.world import Simulated


def _current(world: Simulated, feed: str, key: list[str]) -> pl.DataFrame:
    """The newest delivery of each key, with the day of its status."""
    frame = world.frames[feed].unique(key, keep="last", maintain_order=True)
    return frame.with_columns(pl.col("status_at").cast(pl.String).str.slice(0, 10).str.to_date().alias("day"))


def _requests(world: Simulated) -> pl.DataFrame:
    """One row per financing request: when it was asked and ended, how, with which data, for how much."""
    statuses = _current(world, "cdi_financing_requests", ["request_no", "status_at"]).sort("request_no", "status_at")
    requests = statuses.group_by("request_no").agg(
        pl.col("day").filter(pl.col("status") == "submitted").min().alias("asked"),
        pl.col("day").min().alias("first_seen"),
        pl.col("day").last().alias("ended"),
        pl.col("status", "data_used", "product", "brn").last(),
        pl.col("amount_requested_hkd").last().cast(pl.Float64),
        pl.col("amount_approved_hkd").last().cast(pl.Float64).fill_null(0),
    )
    return requests.with_columns(pl.coalesce("asked", "first_seen").dt.year().alias("year"))


def question_17(world: Simulated) -> list[tuple[Any, ...]]:
    changes = _current(world, "cdi_consents", ["consent_id", "status_at"])
    requests = _requests(world)
    begun = max(min(world.delivered[feed]) for feed in ("cdi_consents", "cdi_financing_requests")).replace(day=1)
    asked_in = pl.coalesce("asked", "first_seen").dt.truncate("1mo")
    undecided = set(requests.filter(pl.col("status") == "submitted").select(asked_in).to_series())
    active = set(changes["day"].dt.truncate("1mo")) | set(requests.select(asked_in).to_series())
    whole = {month for month in active if begun < month <= world.last.replace(day=1) and month not in undecided}
    found = []
    for year in sorted({month.year for month in whole}):
        if len({month for month in whole if month.year == year}) < 12:
            continue
        counts = dict(changes.filter(pl.col("day").dt.year() == year)["status"].value_counts().iter_rows())
        made = requests.filter(pl.col("year") == year)
        decided = made.filter(pl.col("status").is_in(["approved", "rejected"]))
        days = (decided["ended"] - decided["asked"]).dt.total_days()
        using = made.filter(pl.col("data_used").str.contains("trade_declaration"))
        found.append(
            (
                year,
                *(counts.get(status, 0) for status in ("granted", "renewed", "revoked", "expired")),
                len(made),
                len(made.filter(pl.col("status") == "approved")),
                made["amount_requested_hkd"].sum(),
                made["amount_approved_hkd"].sum(),
                days.count(),
                days.mean() if days.count() >= 10 else None,
                len(using) / len(made) if len(made) >= 10 else None,
            )
        )
    assert sum(row[5] for row in found) > 5
    return found


def question_31(world: Simulated) -> list[tuple[Any, ...]]:
    """By product, with trade declarations or without: requests, repeats, how they were decided, how fast, how much."""
    requests = _requests(world).with_columns(declared=pl.col("data_used").str.contains("trade_declaration"))
    approved = pl.col("status") == "approved"
    first = requests.filter(approved).group_by("brn").agg(pl.col("ended").min().alias("first_approved"))
    requests = requests.join(first, on="brn", how="left")
    found = []
    for key, part in requests.partition_by("product", "declared", as_dict=True).items():
        decided, won = part.filter(pl.col("status").is_in(["approved", "rejected"])), part.filter(approved)
        repeats = part.filter(pl.col("first_approved") < pl.coalesce("asked", "first_seen"))
        days = (decided["ended"] - decided["asked"]).dt.total_days().drop_nulls()
        found.append(
            (
                *key,
                len(part),
                len(repeats),
                len(decided),
                len(won) / len(decided) if len(decided) >= 10 else None,
                days.mean() if len(days) >= 10 else None,
                won["amount_approved_hkd"].sum() / won["amount_requested_hkd"].sum() if len(won) >= 10 else None,
            )
        )
    assert {row[1] for row in found} == {True, False}
    return sorted(found, key=lambda row: row[:2])


def question_18(world: Simulated) -> list[tuple[Any, ...]]:
    changes = _current(world, "cdi_consents", ["consent_id", "status_at"]).sort("status_at")
    revoked = changes.filter(pl.col("status") == "revoked")["consent_id"]
    last = changes.group_by("consent_id", maintain_order=True).last()
    live = last.filter(
        ~pl.col("consent_id").is_in(revoked.implode()) & pl.col("status").is_in(["granted", "renewed"])
    ).with_columns(pl.col("valid_to").cast(pl.String).str.to_date())
    ending = live.with_columns((pl.col("valid_to") - pl.lit(world.last)).dt.total_days().alias("days_left")).filter(
        pl.col("days_left").is_between(0, 30)
    )
    rows = [
        ("consent that ends", *row, 1)
        for row in ending.sort("consent_id").select("consent_id", "brn", "bank_id", "days_left").iter_rows()
    ]
    assert rows
    return [*rows, ("shared rows without a live consent", None, None, None, None, 0)]
