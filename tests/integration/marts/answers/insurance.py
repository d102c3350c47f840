"""Export credit insurance: how policies are used (12)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from tests.integration.world import Simulated


def as_date(*columns: str) -> list[pl.Expr]:
    """Columns as dates, also when the delivery has them as text."""
    return [pl.col(name).cast(pl.String).str.to_date() for name in columns]


def amount(column: str) -> pl.Expr:
    """A column as a number."""
    return pl.col(column).cast(pl.Float64)


@dataclass
class Year:
    """A year of cover: its first and last day, and the reports about it as (business date, report)."""

    start: date
    last: date
    reports: list[tuple[date, dict[str, Any]]]

    @property
    def newest(self) -> dict[str, Any]:
        """The newest report of the year."""
        return self.reports[-1][1]

    def terms_on(self, day: date) -> dict[str, Any] | None:
        """The report whose terms held on a day; none on a day without cover."""
        if not self.start <= day <= self.last:
            return None
        found = [report for on, report in self.reports if on <= day and not (_ended(report) and on == day)]
        return None if found and _ended(found[-1]) and len(found) > 1 else (found or [self.reports[0][1]])[-1]


def _ended(report: dict[str, Any]) -> bool:
    return bool(report["status"] != "in_force")


def years_of_cover(world: Simulated) -> dict[str, list[Year]]:
    """By policy its years of cover: a report about one that it overlaps corrects it, any other begins another."""
    found: dict[str, list[Year]] = {}
    reports = world.frames["hkecic_policies"].sort("business_date").unique(
        ["policy_no", "business_date"], keep="last", maintain_order=True
    ).with_columns(as_date("cover_start_on", "cover_end_on"))  # fmt: skip
    for report in reports.iter_rows(named=True):
        years, on = found.setdefault(report["policy_no"], []), report["business_date"]
        start, end = report["cover_start_on"], report["cover_end_on"]
        last = min(end, on) if _ended(report) else end
        same = [year for year in years if start <= year.last and end >= year.start]
        if same:
            same[-1].start, same[-1].last = start, last
            same[-1].reports.append((on, report))
        else:
            years.append(Year(start, last, [(on, report)]))
    return found


def question_12(world: Simulated) -> list[tuple[Any, ...]]:
    """By type of policy, of the years of cover that lie in the history and ended a year ago: use, claims, overdue."""
    begun = min(world.delivered["hkecic_shipments"])
    settled = world.last.replace(year=world.last.year - 1)
    shipments = world.frames["hkecic_shipments"].sort("business_date").unique(["policy_no", "shipment_no"], keep="last")
    shipments = shipments.with_columns(*as_date("shipped_on"), amount("invoice_value_hkd").alias("value"))
    by_policy = {key[0]: part.to_dicts() for key, part in shipments.partition_by("policy_no", as_dict=True).items()}
    claims = _claims(world)
    answers: dict[str, dict[str, float]] = {}
    for policy_no, years in years_of_cover(world).items():
        for year in years:
            if year.start < begun or year.last > settled:
                continue
            row = answers.setdefault(year.newest["policy_type"], defaultdict(float))
            days = [year.start + timedelta(days=n) for n in range((year.last - year.start).days + 1)]
            limits = [float(terms["max_liability_hkd"]) for day in days if (terms := year.terms_on(day))]
            row["years"] += 1
            row["limit"] += sum(limits) / len(limits)
            covered = [(s, terms) for s in by_policy.get(policy_no, []) if (terms := year.terms_on(s["shipped_on"]))]
            row["used"] += bool(covered)
            for shipment, terms in covered:
                value = shipment["value"]
                row["value"] += value
                row["premium"] += value * float(terms["premium_rate_pct"]) / 100
                row["online"] += value * (str(shipment["is_ecommerce"]).lower() == "true")
                row["overdue"] += value * (shipment["overdue_reported_on"] is not None)
                row["reports"] += shipment["overdue_reported_on"] is not None
                for claim in claims.get((policy_no, shipment["shipment_no"]), []):
                    row["paid"] += claim["paid"]
                    row["net"] += claim["paid"] - claim["recovered"] * claim["paid"] / claim["claimed"]
                    if claim["status"] in ("lodged", "under_review", "approved"):
                        row["outstanding"] += claim["claimed"] * float(terms["indemnity_pct"]) / 100 - claim["paid"]

    def ratio(row: dict[str, float], over: str, under: str) -> float | None:
        return round(row[over] / row[under], 4) if row["years"] >= 10 else None

    assert sum(row["years"] for row in answers.values()) > 5
    return [
        (
            kind, row["years"], row["used"], row["value"], row["limit"], ratio(row, "value", "limit"), row["paid"],
            row["net"], row["outstanding"], ratio(row, "net", "premium"), row["reports"],
            ratio(row, "overdue", "value"), ratio(row, "online", "value"),
        )
        for kind, row in sorted(answers.items())
    ]  # fmt: skip


def _claims(world: Simulated) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By policy and shipment its claims: newest status, claimed, paid and recovered."""
    statuses = world.frames["hkecic_claims"].unique(
        ["claim_no", "status", "status_on"], keep="last", maintain_order=True
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for part in statuses.sort("status_on", maintain_order=True).partition_by("claim_no"):
        claim: dict[str, Any] = {"paid": 0.0, "recovered": 0.0}
        for row in part.iter_rows(named=True):
            if row["status"] == "paid":
                claim["paid"] += float(row["amount_paid_hkd"])
            if row["status"] == "recovered":
                claim["paid"] = float(row["amount_paid_hkd"])
                claim["recovered"] += float(row["amount_recovered_hkd"])
            claim |= {"status": row["status"], "claimed": float(row["amount_claimed_hkd"])}
        found.setdefault((part["policy_no"][-1], part["shipment_no"][-1]), []).append(claim)
    return found
