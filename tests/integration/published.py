"""Batches put straight into `raw`, without a delivery, for tests of what stands on it. All values are synthetic."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import polars as pl
import psycopg
from psycopg import sql
from sampan.contracts.registry import get_contract
from sampan.reading.personal_data import pseudonymiser
from sampan.settings import settings

DEFAULTS: dict[str, dict[str, Any]] = {
    "business_register": {
        "branch_no": "000", "name_en": "Synthetic Trading Limited", "legal_form": "company", "status": "live",
        "commencement_date": "2010-01-01", "industry_section": "G", "hsic_code": "4649", "size_basis": "unknown",
        "changed_on": "2026-07-01",
    },
    "customs_declarations": {
        "version": 1, "line_no": 1, "form_type": "2", "lodged_at": "2026-07-06 09:00", "movement_date": "2026-07-05",
        "transport_mode": "air", "counterparty_country": "631", "trader_name": "Synthetic Trading Limited",
        "trader_id": "90000001", "hkhs_code": "61091000", "goods_description": "goods", "origin_country": "631",
        "quantity": 1, "unit_code": "11", "value_hkd": 100,
    },
    "festival_participants": {
        "event_id": "HKSF-2026", "platform": "jd", "store_id": "100001", "shop_name": "shop",
        "merchant_name": "merchant", "brn": "90000001", "categories": "household", "joined_on": "2026-06-01",
        "status": "joined",
    },
    "funding_applications": {
        "status": "approved", "programme": "bud_general", "received_on": "2026-01-05", "brn": "90000001",
        "applicant_name": "Synthetic Trading Limited", "market": "CN", "purpose": "branding",
        "amount_applied_hkd": 300000, "amount_approved_hkd": 200000, "project_start_on": "2026-02-01",
        "project_end_on": "2027-01-31",
    },
    "funding_payments": {
        "programme": "bud_general", "brn": "90000001", "instalment": "initial", "amount_hkd": 40000,
        "paid_on": "2026-02-10",
    },
    "hkecic_claims": {
        "status": "lodged", "status_on": "2026-07-06", "lodged_on": "2026-07-06", "policyholder_name_zh": "持有人",
        "cause": "payment_default", "cause_text_zh": "拖欠", "amount_claimed_hkd": 100,
    },
    "hkecic_policies": {
        "brn": "90000001", "policyholder_name": "Synthetic Trading Limited", "policy_type": "small_business",
        "status": "in_force", "issued_on": "2026-01-01", "cover_start_on": "2026-01-01", "cover_end_on": "2026-12-31",
        "indemnity_pct": 90, "max_liability_hkd": 1000000,
    },
    "hkecic_shipments": {
        "policy_no": "SBP0000001", "declared_on": "2026-07-06", "shipped_on": "2026-07-01", "buyer_no": "B000001",
        "buyer_country": "CN", "hs_code": "610910", "product": "goods", "payment_term": "OA", "credit_days": 30,
        "due_on": "2026-07-31", "invoice_value_hkd": 50, "is_ecommerce": False,
    },
    "hkma_exchange_rates": {"cny": "1.1000000000000001", "usd": "7.8"},
    "platform_orders": {
        "platform": "jd", "store_id": "100001", "shop_name": "shop", "status": "WAIT_BUYER_PAY", "title": "item",
        "sku_id": "1", "category": "household", "customs_regime": "9610", "item_count": 1, "total_fee_cny": 100,
        "payment_cny": 90,
    },
    "quality_marks": {
        "scheme": "QMARK-P", "status_at": "2026-07-06 09:00", "status": "valid", "issuer": "FHKI", "scope": "company",
        "holder_name": "Synthetic Trading Limited", "valid_from": "2026-01-01",
    },
}  # fmt: skip


def publish(
    feed: str,
    day: date | str,
    rows: Iterable[Mapping[str, Any]],
    *,
    received_at: datetime | str | None = None,
    replays: int | None = None,
    state: str = "published",
) -> int:
    """Make a batch of these rows, completed by what is usual for the feed; its number."""
    contract = get_contract(feed)
    columns = [column.name for column in contract.stored]
    content = io.StringIO()
    writer = csv.writer(content)
    for row in rows:
        full = DEFAULTS[feed] | dict(row)
        writer.writerow([full.get(name) for name in columns])
    return publish_csv(feed, columns, day, content.getvalue(), received_at, replays, state)


def publish_csv(
    feed: str,
    columns: list[str],
    day: date | str,
    content: str,
    received_at: datetime | str | None,
    replays: int | None = None,
    state: str = "published",
) -> int:
    """Make a batch of CSV records without a heading, in these columns; its number."""
    count = content.count("\n")
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")
        ((batch_id,),) = connection.execute(
            "insert into ops.batch (feed, business_date, content_sha256, origin, replays, source_uri, landing_uri,"
            " bytes, received_at, contract_version, state, rows_in, rows_published, rows_quarantined, rows_duplicate)"
            " values (%(feed)s, %(day)s, %(sha)s, %(origin)s, %(replays)s, 's3://drop/x', 's3://landing/x', %(bytes)s,"
            " coalesce(%(received_at)s, now()), '1', %(state)s, %(count)s, %(count)s, 0, 0) returning batch_id",
            {
                "feed": feed,
                "day": day,
                "sha": hashlib.sha256(f"{feed} {day} {received_at} {replays} {content}".encode()).hexdigest(),
                "origin": "delivery" if replays is None else "replay",
                "replays": replays,
                "bytes": len(content),
                "received_at": received_at,
                "state": state,
                "count": count,
            },
        ).fetchall()
        table, number = sql.Identifier("raw", f"{feed}__b{batch_id}"), sql.Literal(batch_id)
        make = sql.SQL("create table {} partition of raw.{} for values in ({})")
        connection.execute(make.format(table, sql.Identifier(feed), number))
        connection.execute(sql.SQL("alter table {} alter _batch_id set default {}").format(table, number))
        connection.execute(sql.SQL("alter table {} alter _line set default 1").format(table))
        names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
        with connection.cursor().copy(sql.SQL("copy {} ({}) from stdin (format csv)").format(table, names)) as copy:
            copy.write(content)
    return int(batch_id)


def stored(feed: str, frame: pl.DataFrame) -> pl.DataFrame:
    """What a delivery of a simulated partner is once it is read: columns and privacy as the contract says."""
    contract = get_contract(feed)
    names = {column.source_name: column.name for column in contract.columns}
    frame = frame.rename({old: new for old, new in names.items() if old in frame.columns and old != new})
    frame = frame.select(column.name for column in contract.stored)
    clean = pseudonymiser().clean
    for column in contract.stored:
        if column.personal == "pseudonymise":
            values = frame[column.name].drop_nulls().unique()
            hidden = {value: clean(column, value) for value in values}
            frame = frame.with_columns(pl.col(column.name).replace(hidden))
    return frame


def publish_frame(feed: str, day: date, frame: pl.DataFrame, received_at: datetime) -> int:
    """Make a batch of the rows of `stored`; its number."""
    return publish_csv(feed, frame.columns, day, frame.write_csv(include_header=False), received_at)
