"""Synthetic deliveries of any size in every format, for measurements, each with the same rows as CSV for plain COPY."""

from __future__ import annotations

import csv
import io
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract

from tests import factory
from tests.factory import Row, rows

SEED, VARIETY, AT_ONCE = 7, 2_000, 50_000
# No two numbers of some digits have the same product with it in as many digits; products of neighbours are far apart.
STEP = 7_919_317
# One row of a hundred breaks a rule, or is written as few are.
ODD = 0.01
HKID = "A123456(3)"


@dataclass(frozen=True)
class Kind:
    """A kind of delivery: its feed, the share of odd rows, and the file's name."""

    name: str
    feed: str
    odd: float = 0.0

    @property
    def contract(self) -> Contract:
        """Contract of its feed."""
        return get_contract(self.feed)


KINDS = (
    Kind("CSV, gzip, clean", "customs_declarations"),
    Kind("CSV, gzip, 1% odd", "customs_declarations", ODD),
    Kind("JSON Lines, zstd, 1% odd", "platform_orders", ODD),
    Kind("Parquet, 1% odd", "hkecic_shipments", ODD),
    Kind("fixed width, 1% odd", "csd_bulk_hscoit", ODD),
    Kind("XLSX, 1% odd", "hkecic_policies", ODD),
)


def write(kind: Kind, count: int, delivery: Path, plain: Path, first: int = 0) -> None:
    """Write a delivery of `count` rows, and the same rows, none of them odd, as CSV of the stored columns.

    `first` is the number of its first row: rows with other numbers have other keys.
    """
    contract = kind.contract
    with plain.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.name for column in contract.stored])
        for row in many(contract, count, first):
            writer.writerow([row[column.name] for column in contract.stored])
    WRITERS[contract.source.format](contract, odd_ones(kind, many(contract, count, first)), delivery)


def many(contract: Contract, count: int, first: int = 0) -> Iterator[Row]:
    """Sound rows from the number `first` on, no two with the same key: some, repeated under other keys."""
    names = [column.name for column in contract.stored if column.name in contract.key and "pattern" in column.options]
    digits = len(str(first + count))
    some = [row for row in rows(contract.feed, VARIETY) if sum(map(str.isdigit, written(row, names))) >= digits]
    if not some:
        raise ValueError(f"{contract.feed}: no key has the digits for {first + count:,} rows")
    for number, row in zip(range(first, first + count), itertools.cycle(some), strict=False):
        yield row | numbered(row, names, number)


def written(row: Row, names: Sequence[str]) -> str:
    """These columns of a row in one text."""
    return ",".join(row[name] or "" for name in names)


def numbered(row: Row, names: Sequence[str], number: int) -> Row:
    """Columns of a row, each in the form that it had, with the number in their digits.

    Rows with other numbers of at most as many digits have other texts.
    """
    text = written(row, names)
    places = [place for place, char in enumerate(text) if char.isdigit()]
    chars = list(text)
    for place, digit in zip(places, f"{number * STEP % 10 ** len(places):0{len(places)}}", strict=True):
        chars[place] = digit
    return dict(zip(names, "".join(chars).split(","), strict=True))


def odd_ones(kind: Kind, given: Iterable[Row]) -> Iterator[Row]:
    """The rows, some of them odd in turn in every way that a value can be."""
    chance, ways = random.Random(SEED), itertools.cycle(ways_of(kind.contract))
    for row in given:
        yield row | next(ways) if chance.random() < kind.odd else row


def ways_of(contract: Contract) -> list[Row]:
    """Values that break each rule of each column, and some that are sound and seldom written so."""
    found: list[Row] = []
    for column in contract.stored:
        if column.primary_key:
            continue
        if column.required:
            found.append({column.name: None})
        if column.type != "text" or column.enum or "pattern" in column.options:
            found.append({column.name: "no such value"})
        elif not column.enum:
            found += [{column.name: f'{HKID} "x"'}, {column.name: "two\nlines, %41"}]
        if column.type == "numeric":
            found += [{column.name: "-1.00001"}, {column.name: "1e2"}]
        if column.type == "date":
            found += [{column.name: "15/07/26"}, {column.name: "31 July 2026"}]
        if "maxLength" in column.options:
            found.append({column.name: "x" * (column.options["maxLength"] + 1)})
    if contract.source.format == "fixed":
        # A field has its length, and a line is one line.
        lengths = {column.name: column.length or 0 for column in contract.columns}
        found = [
            way
            for way in found
            for name, text in way.items()
            if len(text or "") <= lengths[name] and "\n" not in (text or "")
        ]
    return found


# --- formats ----------------------------------------------------------------------------------------------------------


def _lines(contract: Contract, lines: Iterator[str], path: Path) -> None:
    from isal import igzip
    from zstandard import ZstdCompressor

    packers: dict[str, Callable[[io.BufferedWriter], io.BufferedWriter]] = {
        "none": lambda raw: raw,
        "gzip": lambda raw: igzip.IGzipFile(fileobj=raw, mode="wb", compresslevel=1),
        "zstd": lambda raw: ZstdCompressor(level=1).stream_writer(raw, closefd=False),
    }
    with path.open("wb") as raw, packers[contract.source.compression](raw) as out:
        for some in _parts(lines):
            out.write("".join(some).encode(contract.source.encoding))


def _parts(items: Iterable[str]) -> Iterator[list[str]]:
    items = iter(items)
    while part := list(itertools.islice(items, AT_ONCE)):
        yield part


def _csv(contract: Contract, given: Iterator[Row], path: Path) -> None:
    def lines() -> Iterator[str]:
        yield ",".join(column.source_name for column in contract.columns) + "\n"
        out = io.StringIO()
        writer = csv.writer(out, delimiter=contract.source.delimiter, lineterminator="\n")
        for row in given:
            writer.writerow([row[column.name] for column in contract.columns])
            yield out.getvalue()
            out.seek(0)
            out.truncate()

    _lines(contract, lines(), path)


def _jsonl(contract: Contract, given: Iterator[Row], path: Path) -> None:
    names, kinds = [c.source_name for c in contract.columns], [c.type for c in contract.columns]

    def line(row: Row) -> str:
        values = [row[c.name] for c in contract.columns]
        bare = [
            kind if (value or "").replace(".", "").isdigit() else "text"
            for kind, value in zip(kinds, values, strict=True)
        ]
        return factory.json_line(names, bare, values) + "\n"

    _lines(contract, map(line, given), path)


def _fixed(contract: Contract, given: Iterator[Row], path: Path) -> None:
    columns = sorted(contract.columns, key=lambda column: column.start or 0)

    def line(row: Row) -> str:
        text = ""
        for column in columns:
            text = f"{text:{(column.start or 1) - 1}}{row[column.name] or '':{column.length}}"
        return text + "\n"

    _lines(contract, map(line, given), path)


def _parquet(contract: Contract, given: Iterator[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column.source_name, pa.string()) for column in contract.columns])
    with pq.ParquetWriter(path, schema) as writer:
        while part := list(itertools.islice(given, AT_ONCE)):
            columns = [[row[column.name] for row in part] for column in contract.columns]
            writer.write_table(pa.table([pa.array(column, pa.string()) for column in columns], schema=schema))


def _xlsx(contract: Contract, given: Iterator[Row], path: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"constant_memory": True}) as book:
        sheet = book.add_worksheet(contract.source.sheet)
        sheet.write_row(contract.source.header_row - 1, 0, [column.source_name for column in contract.columns])
        for place, row in enumerate(given, contract.source.header_row):
            for number, column in enumerate(contract.columns):
                if row[column.name] is not None:
                    sheet.write_string(place, number, row[column.name])


WRITERS = {"csv": _csv, "jsonl": _jsonl, "fixed": _fixed, "parquet": _parquet, "xlsx": _xlsx}
