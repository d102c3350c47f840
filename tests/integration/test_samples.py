"""Every feed has a sample delivery, and no step loses a row of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sampan.contracts.derive import staging_model
from sampan.contracts.registry import all_contracts
from sampan.ingest import fetch
from sampan.marts import build

from tests.conftest import Sampan

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def test_samples_are_one_for_each_feed_when_counted() -> None:
    folders = {path.name for path in SAMPLES.iterdir() if path.is_dir()}
    assert folders == set(all_contracts()), "a feed needs a sample, and a sample a feed"
    for contract in all_contracts().values():
        (file,) = (SAMPLES / contract.feed).iterdir()
        assert file.name.split(".", 1)[1] == contract.source.extension


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
    build.run("staging")
    for contract in all_contracts().values():
        # Every column is read, so that each cast meets every value.
        rows = sampan.rows(f"select * from staging.{staging_model(contract)}", role="builder")
        assert len(rows) == sampan.one(f"select count(*) from raw.{contract.feed}") > 0, contract.feed
