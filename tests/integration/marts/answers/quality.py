"""Freshness and quality of the feeds, computed from the contracts' calendars and from what was published."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl
import psycopg
from sampan.calendar import HONG_KONG, is_business_day
from sampan.contracts.registry import all_contracts, get_contract
from sampan.settings import settings

from tests.integration.world import RECEIVED, Simulated

# Feeds whose rows are about an amount in Hong Kong dollars.
AMOUNTS = {
    "cdi_financing_requests", "customs_declarations", "funding_applications", "funding_payments", "hkecic_claims",
    "hkecic_policies", "hkecic_shipments",
}  # fmt: skip
# Twice each period that publishers of open data announce, at least a week: longer without a change is stale.
PERIODS = {"daily": 7, "weekly": 14, "monthly": 62, "quarterly": 184, "annually": 732}
# What each feed that names somebody knows them by: kind of identifier, columns of the identifier.
NAMING = {
    "business_register": ("number", ["brn"]),
    "companies_registry": ("number", ["brn"]),
    "festival_participants": ("shop", ["platform", "store_id"]),
    "funding_applications": ("number", ["brn"]),
    "hkecic_policies": ("number", ["brn"]),
    "platform_orders": ("shop", ["platform", "store_id"]),
    "quality_marks": ("certificate", ["scheme", "certificate_no"]),
    "trade_missions": ("mission", ["event_id", "participant_no"]),
}
REGISTERS = ("business_register", "companies_registry")


def owed_by(feed: str, first: date, until: date) -> dict[date, tuple[date, datetime]]:
    """What a feed owes by its contract, computed day by day: first day to (last day, due)."""
    calendar, api = get_contract(feed).calendar, get_contract(feed).source.kind == "api"

    def is_release_day(day: date) -> bool:
        if calendar.days == "business":
            return is_business_day(day)
        return calendar.day == (day.isoweekday() if calendar.days == "weekly" else day.day)

    def following(day: date) -> date:
        while not is_release_day(day := day + timedelta(days=1)):
            pass
        return day

    found, day = {}, first
    while not is_release_day(day):
        day -= timedelta(days=1 if calendar.days != "business" else -1)
    while day <= until:
        due_on = day if api else following(day)
        while not is_business_day(due_on):
            due_on += timedelta(days=1)
        last = day if calendar.days == "business" else following(day) - timedelta(days=1)
        found[day] = (last, datetime.combine(due_on, time.fromisoformat(calendar.due), HONG_KONG))
        day = following(day)
    return found


def question_23(world: Simulated) -> list[tuple[Any, ...]]:
    """Feed, state, last date, deliveries missing, late rows, quarantine, failed expectations, share of unmatched names."""
    linked = _linked(world)
    registered = {brn for feed in REGISTERS for brn in world.frames[feed]["brn"].drop_nulls()}
    rows = []
    for feed in sorted(all_contracts()):
        frame = world.frames[feed]
        missing, late = _missing_and_late(world, feed, frame)
        unmatched = None
        if feed in NAMING:
            source, columns = NAMING[feed]
            named = set(frame.select(pl.concat_str(columns, separator=":")).to_series().drop_nulls())
            known = registered if source == "number" else {key for kind, key in linked if kind == source}
            unmatched = 100 * len(named - known) / len(named)
        state = "late_at_partner" if missing else "healthy"
        # Nothing in this world breaks a rule.
        unit = "CNY" if feed == "platform_orders" else "HKD" if feed in AMOUNTS else None
        rows.append(
            (feed, state, frame["business_date"].max(), missing, late, 0, 0 if unit else None, unit, 0, unmatched)
        )
    return rows


def _missing_and_late(world: Simulated, feed: str, frame: pl.DataFrame) -> tuple[int, int]:
    """Deliveries owed by now that did not come, and rows of those that came after they were due."""
    contract = get_contract(feed)
    rows_of = dict(frame.group_by("business_date").len().iter_rows())
    came = world.delivered[feed]
    missing = late = 0
    for first, (last, due) in owed_by(feed, min(came), world.judged_at.date()).items():
        within = [day for day in came if first <= day <= last]
        covered = contract.source.kind == "api" and max(came) >= first
        if within:
            received = datetime.combine(min(within) + timedelta(days=1), RECEIVED, HONG_KONG)
            late += rows_of.get(min(within), 0) if received > due else 0
        elif not covered and contract.calendar.missing == "late" and due <= world.judged_at:
            missing += 1
    return missing, late


def _linked(world: Simulated) -> set[tuple[str, str]]:
    """The entities that the linkage knows; how well it does is measured elsewhere."""
    with world.installed(), psycopg.connect(settings().dsn("loader")) as connection:
        query = "select source, source_key from ops.identity_link where state = 'linked'"
        return set(connection.execute(query).fetchall())


def question_34(world: Simulated) -> list[tuple[Any, ...]]:
    """Whether a feed reads the set: sets, withdrawn ones, those with an announced period, and stale ones."""
    listed = world.frames["datagovhk_catalogue"]
    last = listed["business_date"].max()
    newest = listed.sort("business_date", maintain_order=True).unique("name", keep="last", maintain_order=True)
    changed = pl.col("metadata_modified").dt.convert_time_zone("Asia/Hong_Kong").dt.date()
    read = {contract.open_data_set for contract in all_contracts().values()} - {None}
    found = {True: [0, 0, 0, 0], False: [0, 0, 0, 0]}
    for name, frequency, day, listed_on in newest.select(
        "name", "update_frequency", changed.alias("day"), "business_date"
    ).iter_rows():
        counts, longest = found[name in read], PERIODS.get(frequency.lower())
        is_listed = listed_on == last
        counts[0] += 1
        counts[1] += not is_listed
        if is_listed and longest:
            counts[2] += 1
            counts[3] += (last - day).days > longest
    return [(is_read, *found[is_read]) for is_read in (True, False)]
