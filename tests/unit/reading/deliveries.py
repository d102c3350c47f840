"""Contracts and readers of small deliveries for the tests of reading."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from sampan.contracts.model import Column, Contract, Source
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.reading.block import Block
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


def blocks(contract: Contract, body: bytes, stream: type[io.BytesIO] = io.BytesIO) -> list[Block]:
    return list(reader(contract, body, stream).blocks())


Line = tuple[int, list[str | None], list[str]]


def in_blocks(contract: Contract, body: bytes) -> list[Line]:
    """Line, fields and broken rules of every record, read in blocks; a record that a block sets apart has its place too."""
    one = reader(contract, body)
    number, found = one.layout.first_line, []
    for block in one.blocks():
        for line in block.data.decode().split("\n")[:-1]:
            (fields,) = csv.reader([line], strict=True)
            if any(fields):
                found.append((number, [value or None for value in fields], []))
            number += 1
        found += [(record.line, [value or None for value in record.fields], record.broken) for record in block.odd]
    return sorted(found)


def one_by_one(contract: Contract, body: bytes) -> list[Line]:
    """The same, each record taken apart."""
    read = reader(contract, body).records()
    return [(record.line, [value or None for value in record.fields], record.broken) for record in read]


def records(contract: Contract, text: str | bytes) -> list[Record]:
    return list(reader(contract, text.encode() if isinstance(text, str) else text).records())


def refused(contract: Contract, text: str | bytes) -> str:
    with pytest.raises(PermanentFailure) as failure:
        records(contract, text)
    return failure.value.problem.rule


def both_refuse(contract: Contract, body: bytes) -> str:
    """The rule by which a delivery is refused, in blocks and one by one."""
    rules = set()
    for path in ("records", "blocks"):
        with pytest.raises(PermanentFailure) as failure:
            list(getattr(reader(contract, body), path)())
        rules.add(failure.value.problem.rule)
    (rule,) = rules
    return rule
