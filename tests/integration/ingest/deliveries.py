"""Deliveries that are written line by line, and what became of them, for the tests of ingest."""

from __future__ import annotations

import io
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract

from tests import factory
from tests.factory import DAY, Row, adds_up, compress, feeds

CUSTOMS = "customs_declarations"
CSV = feeds(lambda c: c.source.format == "csv", least=3)
JSONL = feeds(lambda c: c.source.format == "jsonl" and c.source.kind == "s3", least=3)
TEXT = CSV + JSONL
FILES = feeds(lambda c: c.source.kind == "s3", least=9)
MANY = 350


def lines_of(feed: str, given: list[Row]) -> list[str]:
    """The delivery's lines, the header first where there is one."""
    contract = get_contract(feed)
    body = {"csv": factory._csv, "jsonl": factory._jsonl}[contract.source.format](
        contract,
        [c.source_name for c in contract.columns],
        [c.type for c in contract.columns],
        [[row[c.name] for c in contract.columns] for row in given],
    )
    return body.decode(contract.source.encoding).splitlines()


def body_of(feed: str, lines: list[str], end: str = "\n") -> bytes:
    contract = get_contract(feed)
    return compress(contract, "".join(line + end for line in lines).encode(contract.source.encoding))


def name_of(feed: str) -> str:
    return f"delivery.{get_contract(feed).source.extension}"


def ingested(partner, feed: str, body: bytes, day: date = DAY, name: str | None = None):
    partner.puts(feed, day, name or name_of(feed), body)
    batch = partner.ingest(feed)
    adds_up(partner.sampan)
    return batch


def held_for(batch, rule: str, **place) -> None:
    problem = batch["problem"] or {}
    assert (batch["state"], problem.get("rule")) == ("held", rule), problem
    assert problem["file"] == batch["source_uri"].rsplit("/", 1)[-1]
    assert {key: problem.get(key) for key in place} == place


def parquet_of_text(contract: Contract, given: list[Row]) -> bytes:
    """A Parquet file with the contract's columns, all of text."""
    out = io.BytesIO()
    arrays = {c.source_name: pa.array([row[c.name] for row in given], pa.string()) for c in contract.columns}
    pq.write_table(pa.table(arrays), out)
    return out.getvalue()
