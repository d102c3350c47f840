"""Contracts and readers of small deliveries for the tests of reading."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from sampan.contracts.model import Column, Contract, Source
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.reading.fast_path import FastPathUnsupported
from sampan.reading.personal_data import Pseudonymiser
from sampan.reading.reader import Reader
from sampan.reading.record import Record

from tests.factory import DAY

PRIVATE = Pseudonymiser(b"k" * 32, 1)


def column(name: str, kind: str = "string", **more) -> Column:
    return Column(name, more.pop("source_name", name), kind, f"Column {name}.", **more)


def contract_for(source: Source, columns: list[Column], **more) -> Contract:
    return replace(get_contract("customs_declarations"), source=source, columns=tuple(columns), aliases=(), **more)


def csv_contract(columns: list[Column] | None = None, delimiter: str = ",", **more) -> Contract:
    columns = columns or [column("a", required=True), column("b"), column("c")]
    return contract_for(Source("s3", "s3://drop/x", "csv", delimiter=delimiter), columns, **more)


def reader(contract: Contract, body: bytes, stream: type[io.BytesIO] = io.BytesIO) -> Reader:
    return Reader(contract, lambda: stream(body), DAY, "file", PRIVATE)


def fast(contract: Contract, body: bytes, stream: type[io.BytesIO] = io.BytesIO) -> list[bytes]:
    """The blocks of the fast path."""
    return [block.data for block in reader(contract, body, stream).blocks()]


def records(contract: Contract, text: str | bytes) -> list[Record]:
    return list(reader(contract, text.encode() if isinstance(text, str) else text).records())


def refused(contract: Contract, text: str | bytes) -> str:
    with pytest.raises(PermanentFailure) as failure:
        records(contract, text)
    return failure.value.problem.rule


def both_refuse(contract: Contract, body: bytes) -> str:
    """The rule by which a delivery is refused: by the fast path too, unless it leaves the delivery to the slow one."""
    rules = set()
    for path in ("records", "blocks")[: 1 + (contract.source.format == "parquet")]:
        with pytest.raises((PermanentFailure, FastPathUnsupported)) as failure:
            list(getattr(reader(contract, body), path)())
        if path == "records" or isinstance(failure.value, PermanentFailure):
            rules.add(failure.value.problem.rule)
    (rule,) = rules
    return rule
