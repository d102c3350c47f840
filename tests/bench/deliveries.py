"""Synthetic deliveries of any size in every format, for measurements, each with the same rows as CSV for plain COPY."""

from __future__ import annotations

import csv
import io
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract

from tests import factory
from tests.factory import Row, rows

SEED, VARIETY, AT_ONCE = 7, 2_000, 50_000
# No two numbers of some digits have the same product with it in as many digits; products of neighbours are far apart.
STEP = 7_919_317
# In place of a digit; no text has it.
MARK = "~"
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


def write(kind: Kind, count: int, delivery: Path, plain: Path | None = None, first: int = 0) -> None:
    """Write a delivery of `count` rows; into `plain` the same rows, none of them odd, as CSV of the stored columns.

    `first` is the number of its first row: rows with other numbers have other keys.
    """
    contract = kind.contract
    if plain:
        names = [column.name for column in contract.stored]
        with plain.open("w", encoding="utf-8") as out:
            out.write(",".join(names) + "\n")
            for part in _parts(lines(replace(kind, odd=0), count, first, lambda row: csv_line(row, names))):
                out.write("".join(part))
    WRITERS[contract.source.format](kind, count, first, delivery)


def bases(contract: Contract, least: int) -> list[Row]:
    """Some sound rows whose keys have at least so many digits."""
    names = numbered_columns(contract)
    some = [row for row in rows(contract.feed, VARIETY) if sum(map(str.isdigit, joined(row, names))) >= least]
    if not some:
        raise ValueError(f"{contract.feed}: no key has {least} digits")
    return some


def lines(kind: Kind, count: int, first: int, line_of: Callable[[Row], str]) -> Iterator[str]:
    """Lines of `count` rows from the number `first` on, no two with the same key, some of them odd: base rows in turn."""
    some = bases(kind.contract, len(str(first + count)))
    # Each digit of the key is a place in the line.
    forms = [line_of(marked(kind.contract, row)).replace("%", "%%").replace(MARK, "%s") for row in some]
    places = [digits_of(kind.contract, row) for row in some]
    odd = odd_numbers(kind, count)
    for number in range(first, first + count):
        at = number % len(some)
        if number - first in odd:
            yield line_of(numbered(kind.contract, some[at], number) | odd[number - first])
        else:
            yield forms[at] % tuple(digits(number, places[at]))


def numbered_columns(contract: Contract) -> list[str]:
    """Columns of the key that have a pattern: their digits make room for a number."""
    return [column.name for column in contract.stored if column.name in contract.key and "pattern" in column.options]


def joined(row: Row, names: Sequence[str]) -> str:
    """These columns of a row in one text."""
    return ",".join(row[name] or "" for name in names)


def digits_of(contract: Contract, row: Row) -> int:
    """How many digits the key of a row has."""
    return sum(map(str.isdigit, joined(row, numbered_columns(contract))))


def digits(number: int, places: int) -> str:
    """So many digits, other ones for each number of at most as many."""
    return f"{number * STEP % 10**places:0{places}}"


def marked(contract: Contract, row: Row) -> Row:
    """The row with MARK in place of each digit of its key."""
    names = numbered_columns(contract)
    return row | {name: re.sub("[0-9]", MARK, row[name] or "") for name in names}


def numbered(contract: Contract, row: Row, number: int) -> Row:
    """The row with a number in the digits of its key, which keeps its form."""
    names = numbered_columns(contract)
    form = joined(marked(contract, row), names).replace(MARK, "%s")
    text = form % tuple(digits(number, digits_of(contract, row)))
    return row | dict(zip(names, text.split(","), strict=True))


def odd_numbers(kind: Kind, count: int) -> dict[int, Row]:
    """Which of `count` rows are odd, and what of each: in turn every way that a value can be."""
    chance, ways = random.Random(SEED), itertools.cycle(ways_of(kind.contract))
    return {number: next(ways) for number in range(count) if kind.odd and chance.random() < kind.odd}


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


def csv_line(row: Row, names: Sequence[str], delimiter: str = ",") -> str:
    """A row as a line of CSV."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerow([row[name] for name in names])
    return out.getvalue()


def _write_lines(contract: Contract, given: Iterable[str], path: Path) -> None:
    from isal import igzip
    from zstandard import ZstdCompressor

    packers: dict[str, Callable[[io.BufferedWriter], io.BufferedWriter]] = {
        "none": lambda raw: raw,
        "gzip": lambda raw: igzip.IGzipFile(fileobj=raw, mode="wb", compresslevel=1),
        "zstd": lambda raw: ZstdCompressor(level=1).stream_writer(raw, closefd=False),
    }
    with path.open("wb") as raw, packers[contract.source.compression](raw) as out:
        for some in _parts(given):
            out.write("".join(some).encode(contract.source.encoding))


def _parts(items: Iterable[str]) -> Iterator[list[str]]:
    items = iter(items)
    while part := list(itertools.islice(items, AT_ONCE)):
        yield part


def _csv(kind: Kind, count: int, first: int, path: Path) -> None:
    contract, names = kind.contract, [column.name for column in kind.contract.columns]
    header = ",".join(column.source_name for column in contract.columns) + "\n"
    given = lines(kind, count, first, lambda row: csv_line(row, names, contract.source.delimiter))
    _write_lines(contract, itertools.chain([header], given), path)


def _jsonl(kind: Kind, count: int, first: int, path: Path) -> None:
    columns = kind.contract.columns

    def line(row: Row) -> str:
        values = [row[column.name] for column in columns]
        # A number that breaks its type is a text.
        bare = [
            column.type if (value or "").replace(".", "").isdigit() else "text"
            for column, value in zip(columns, values, strict=True)
        ]
        return factory.json_line([column.source_name for column in columns], bare, values) + "\n"

    _write_lines(kind.contract, lines(kind, count, first, line), path)


def _fixed(kind: Kind, count: int, first: int, path: Path) -> None:
    columns = sorted(kind.contract.columns, key=lambda column: column.start or 0)

    def line(row: Row) -> str:
        text = ""
        for column in columns:
            text = f"{text:{(column.start or 1) - 1}}{row[column.name] or '':{column.length}}"
        return text + "\n"

    _write_lines(kind.contract, lines(kind, count, first, line), path)


def _parquet(kind: Kind, count: int, first: int, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [column.name for column in kind.contract.columns]
    schema = pa.schema([(column.source_name, pa.string()) for column in kind.contract.columns])
    some, odd = bases(kind.contract, len(str(first + count))), odd_numbers(kind, count)

    def columns(given: Sequence[Row]) -> list[pa.Array]:
        return [pa.array([row[name] for row in given], pa.string()) for name in names]

    whole = pa.table(columns(some), schema=schema)
    keys = numbered_columns(kind.contract)
    forms = [joined(marked(kind.contract, row), keys).replace(MARK, "%s") for row in some]
    places = [digits_of(kind.contract, row) for row in some]
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(first, first + count, AT_ONCE):
            numbers = [n for n in range(start, min(start + AT_ONCE, first + count)) if n - first not in odd]
            at = [number % len(some) for number in numbers]
            part = whole.take(pa.array(at))
            texts = [forms[place] % tuple(digits(n, places[place])) for n, place in zip(numbers, at, strict=True)]
            for name, key in zip(keys, zip(*(text.split(",") for text in texts), strict=True), strict=True):
                part = part.set_column(names.index(name), schema.field(names.index(name)), pa.array(key))
            # The odd ones of a part stand at its end.
            others = [
                numbered(kind.contract, some[n % len(some)], n) | odd[n - first]
                for n in range(start, start + AT_ONCE)
                if n - first in odd
            ]
            writer.write_table(pa.concat_tables([part, pa.table(columns(others), schema=schema)]))


def _xlsx(kind: Kind, count: int, first: int, path: Path) -> None:
    import xlsxwriter

    contract, some, odd = kind.contract, bases(kind.contract, len(str(first + count))), odd_numbers(kind, count)
    with xlsxwriter.Workbook(path, {"constant_memory": True}) as book:
        sheet = book.add_worksheet(contract.source.sheet)
        sheet.write_row(contract.source.header_row - 1, 0, [column.source_name for column in contract.columns])
        for place in range(count):
            row = numbered(contract, some[(first + place) % len(some)], first + place) | odd.get(place, {})
            for number, column in enumerate(contract.columns):
                if row[column.name] is not None:
                    sheet.write_string(contract.source.header_row + place, number, row[column.name])


WRITERS = {"csv": _csv, "jsonl": _jsonl, "fixed": _fixed, "parquet": _parquet, "xlsx": _xlsx}
