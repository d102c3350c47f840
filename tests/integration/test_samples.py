"""Every feed has a sample delivery, and no step loses a row of it."""

from __future__ import annotations

import io
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import polars as pl
import pytest
from sampan.contracts.derive import staging_model
from sampan.contracts.registry import all_contracts, get_contract
from sampan.governance import verify
from sampan.ingest import fetch, lake
from sampan.marts import build

from tests.conftest import Sampan

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def test_samples_are_one_for_each_feed_when_counted() -> None:
    folders = {path.name for path in SAMPLES.iterdir() if path.is_dir()}
    assert folders == set(all_contracts()), "a feed needs a sample, and a sample a feed"
    for contract in all_contracts().values():
        (file,) = (SAMPLES / contract.feed).iterdir()
        assert file.name.split(".", 1)[1] == contract.source.extension


# What a type of the warehouse is in a Parquet file, by its readers' names.
IN_LAKE = {
    "text": pl.String, "bigint": pl.Int64, "date": pl.Date, "boolean": pl.Boolean, "numeric": pl.Decimal,
    "timestamp with time zone": pl.Datetime("us", "UTC"),
}  # fmt: skip


def is_the_same_in_the_lake(sampan: Sampan, feed: str) -> None:
    """Every column of raw with its type, every row with its values."""
    (item,) = sampan.s3.list_objects_v2(Bucket="lake", Prefix=f"{feed}/")["Contents"]
    frame = pl.read_parquet(io.BytesIO(sampan.s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read()))
    columns = dict(
        sampan.rows(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'raw' and table_name = %s order by ordinal_position",
            feed,
        )
    )
    assert frame.columns == list(columns)
    for name, kind in columns.items():
        assert frame.schema[name] == IN_LAKE[kind], (feed, name, frame.schema[name])
    names = ", ".join(f'"{name}"' for name in columns)
    in_raw = sampan.rows(f"select {names} from raw.{feed} order by _line")
    found = frame.sort("_line").rows()
    for place, (name, kind) in enumerate(columns.items()):
        scale = frame.schema[name].scale if kind == "numeric" else None
        wanted = [row[place] for row in in_raw]
        if scale is not None and get_contract(feed).column(name).scale is None:
            # Its contract says no scale: the lake keeps as many decimals as a binary fraction has.
            unit = Decimal(1).scaleb(-scale)
            wanted = [None if value is None else value.quantize(unit, ROUND_HALF_UP) for value in wanted]
        assert [row[place] for row in found] == wanted, (feed, name)


def test_every_sample_is_published_whole_and_read_by_its_staging_model(
    sampan: Sampan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_download", lambda *_: None)  # an API's sample is what fetch put into the drop prefix
    for feed in all_contracts():
        (file,) = (SAMPLES / feed).iterdir()
        sampan.deliver(feed, file.name.split(".")[0], f"sample_{file.name}", file.read_bytes())
        sampan.ingest(feed)
        batch = sampan.batch(feed)
        assert batch["state"] == "published", (feed, batch["problem"])
        assert batch["rows_in"] == batch["rows_published"] > 0, sampan.rows(
            "select feed, line, broken_rules, record from quarantine.record"
        )
        assert sampan.one(f"select count(*) from raw.{feed}") == batch["rows_published"]
        lake.run(feed)
        is_the_same_in_the_lake(sampan, feed)
    assert verify.run(all_contracts()) == ({"lake": len(all_contracts()), "landing": len(all_contracts())}, [])
    build.run("staging")
    for contract in all_contracts().values():
        # Every column is read, so that each cast meets every value.
        rows = sampan.rows(f"select * from staging.{staging_model(contract)}", role="builder")
        assert len(rows) == sampan.one(f"select count(*) from raw.{contract.feed}") > 0, contract.feed
