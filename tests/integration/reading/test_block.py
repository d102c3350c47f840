"""A record has the same verdict and the same values in a block and when it is taken apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, target
from hypothesis import strategies as st
from psycopg import sql
from sampan.contracts import line_pattern
from sampan.contracts import row_rules as rules
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.ingest import load
from sampan.ingest.ledger import Batch
from sampan.reading.block import Block, BlockMaker
from sampan.reading.chunk import Chunk
from sampan.reading.personal_data import pseudonymiser
from sampan.reading.reader import Reader
from sampan.reading.written import Written

from tests.factory import DAY, feeds, hkid, rows

CUSTOMS = get_contract("customs_declarations")
NASTY = [
    "",
    " ",
    "  x ",
    '"',
    '""',
    '"""',
    ",",
    "\t",
    "\r",
    "\\",
    "\\.",
    "\\N",
    "null",
    "NULL",
    "NaN",
    "Infinity",
    "-infinity",
    "0x1F",
    "1_000",
    " 12 ",
    "1e3",
    "+5",
    ".5",
    "5.",
    "00012",
    "1,234.50",
    "９",
    "today",
    "today 10:00",
    "10:00 tomorrow",
    "Yesterday's bread",
    "now",
    "know-how",
    "epoch",
    "2026-07-05",
    "20260705",
    "2026-7-5",
    "J2461227",
    "July 5 2026",
    "2026-07-05T09:00:00Z",
    "2026-07-05 09:00:00+09",
    "2026-186",
    "26-07-05",
    "infinity",
    "allballs",
    'TV 15" screen',
    'TV 15" and 17" screens',
    '15"',
    '"quoted" tail',
    'head "quoted"',
    "'single'",
    hkid("A", "123456"),
    hkid("A", "123456", brackets=False),
    hkid("AB", "987654"),
    hkid("C", "123456", brackets=False),
    "A123456(0)",
    "a1234560",
    "A123456 (3)",
    "A-123456(3)",
    f"of {hkid('K', '555555')}, by hand",
    "AB1234567",
    "Z1234567",
    f"x {hkid('K', '555555', brackets=False)} y",
    "香港K555555（1）",
    "A123456",
    "A12345(6)",
    "A123456/3",
    "A 123 456 (3)",
    "\uff21\uff11\uff12\uff13\uff14\uff15\uff16\uff08\uff13\uff09",
    "\uff21\uff11\uff12\uff13\uff14\uff15\uff16",
    "\u2028",
    "\ufeff",
    "é",
    "𠮷",
    "\x7f",
    "\x1b[0m",
]
FIELD = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.sampled_from('"", \\\r\tA1()3xé香0.-:'), max_size=8),
    st.text(st.characters(codec="utf-8", exclude_characters="\n\x00"), max_size=6),
)

# The column that expects HKID numbers more often than each of the others.
EXPECTS_HKIDS = [place for place, column in enumerate(CUSTOMS.columns) if column.expects_hkid]
PLACE = st.one_of(st.integers(0, len(CUSTOMS.columns) - 1), st.sampled_from(EXPECTS_HKIDS))


@pytest.fixture
def connection(sampan) -> Iterator[psycopg.Connection]:
    with connect() as connection:
        yield connection


def batch_of(feed: str) -> Batch:
    uri = f"s3://landing/{feed}/x"
    return Batch(
        1, feed, DAY, "0" * 64, "delivery", uri, uri, 0, datetime.now().astimezone(), "landed", 1, None, None, None, None,
        None,
    )  # fmt: skip


def both_ways(connection: psycopg.Connection, contract, body: bytes):
    """Rows and rejects as blocks are loaded, and when every record of them is taken apart."""
    found = []
    for way in (BlockMaker.make, everything_apart):
        batch = batch_of(contract.feed)
        reader = Reader(contract, lambda: io.BytesIO(body), DAY, "x", pseudonymiser())
        columns = reader.layout.stored
        names = ", ".join(f'"{column.name}"::text' for column in columns)
        with connection.transaction(force_rollback=True), pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockMaker, "make", way)
            load._create_intake(connection, contract, batch, reader.layout.first_line)
            count, rejects = load._copy(connection, contract, batch, reader, columns)
            rows = connection.execute(f'select _line, {names} from intake."{batch.table}" order by _line').fetchall()
            kept = []
            if rejects:
                table = f'intake."{batch.table}__rejects"'
                query = f"select _line, _broken, _record from {table} where not _is_sound order by _line"
                kept = connection.execute(query).fetchall()
            assert _broken_although_proven(connection, contract, batch) == 0
            assert (count, rejects) == (len(rows) + len(kept), len(kept))
        found.append((rows, kept))
    return found


def everything_apart(maker: BlockMaker, chunk: Chunk, _: Written) -> Block:
    """The block of a chunk with every record set apart."""
    found = list(chunk.records(range(chunk.length)))
    lines = max(chunk.length, sum(found[-1][:2]) if found else 0)
    return Block(maker.nothing * lines, [record for _, _, record in found if record])


def _broken_although_proven(connection: psycopg.Connection, contract, batch: Batch) -> int:
    """Rows that break a rule which the line pattern should prove."""
    proven = line_pattern.proven_rules(contract)
    proved = [check for check in rules.checks(contract, contract.stored, DAY) if check.name in proven]
    assert proved
    query = sql.SQL("select count(*) from {} where {}").format(batch.intake, rules.any_of(proved))
    return connection.execute(query).fetchone()[0]


def contract_without_compression(contract):
    return replace(contract, source=replace(contract.source, compression="none"))


def line_of(values: list[str], raw: list[bool]) -> str:
    """A CSV line in which the fields marked raw are written as they are, quotes and all."""
    fields = []
    for value, bare in zip(values, raw, strict=True):
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow([value, ""])
        fields.append(value if bare else out.getvalue()[:-1])
    return ",".join(fields)


@given(
    changes=st.lists(st.tuples(PLACE, FIELD, st.booleans()), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_record_has_the_same_values_both_ways(changes, end, connection):
    good, other = rows(CUSTOMS.feed, 2)
    values = [good[c.name] or "" for c in CUSTOMS.columns]
    raw = [False] * len(values)
    for place, text, bare in changes:
        values[place], raw[place] = text, bare
    header = ",".join(c.source_name for c in CUSTOMS.columns)
    plain = line_of([other[c.name] or "" for c in CUSTOMS.columns], [False] * len(values))
    text = end.join([header, plain, line_of(values, raw), plain]) + end
    contract = contract_without_compression(CUSTOMS)
    target(float(sum(raw)))
    in_blocks, apart = both_ways(connection, contract, text.encode())
    assert in_blocks == apart


@pytest.mark.parametrize("bare", [False, True], ids=["escaped", "bare"])
def test_a_column_of_every_type_has_the_same_value_both_ways_when_it_is_nasty(bare, connection):
    contract, good = contract_without_compression(CUSTOMS), rows(CUSTOMS.feed, 1)[0]
    header = ",".join(c.source_name for c in contract.columns)
    kinds = {(c.type, c.personal): place for place, c in enumerate(contract.columns)}
    assert len(kinds) >= 6
    free_text = [c.name for c in contract.columns].index("goods_description")
    lines = [header]
    for value in NASTY:
        for place in {*kinds.values(), free_text}:
            values = [good[c.name] or "" for c in contract.columns]
            values[place] = value
            lines.append(line_of(values, [bare and number == place for number in range(len(values))]))
    in_blocks, apart = both_ways(connection, contract, "".join(f"{line}\n" for line in lines).encode())
    assert in_blocks == apart
    assert len(in_blocks[0]) > len(NASTY) * 0.9
    assert len(in_blocks[1]) > len(NASTY)


PARQUET = feeds(lambda c: c.source.format == "parquet")[0]
TYPES = {
    "float32": pa.array([0.1, 1.5, None, 1e20, float("nan")], pa.float32()),
    "float64": pa.array([0.1, 100.0, None, 1e-7, 12345678.9]),
    "float16": pa.array([0.5, 1.0, None, 2.0, 4.0], pa.float16()),
    "decimal": pa.array([Decimal("10.50"), Decimal("0.00"), None, Decimal("-1.00"), Decimal("99.99")]),
    "int8": pa.array([1, 2, None, -3, 4], pa.int8()),
    "uint64": pa.array([2**64 - 1, 2, None, 3, 4], pa.uint64()),
    "boolean": pa.array([True, False, None, True, False]),
    "date64": pa.array([date(2026, 7, 5)] * 5, pa.date64()),
    "timestamp": pa.array([datetime(2026, 7, 5, 9)] * 5, pa.timestamp("ns")),  # noqa: DTZ001
    "timestamp_zone": pa.array([datetime(2026, 7, 5, 9)] * 5, pa.timestamp("us", "Asia/Hong_Kong")),  # noqa: DTZ001
    "dictionary": pa.array(["a", "b", None, "a", 'quo"te']).dictionary_encode(),
    "large_string": pa.array(["a", "", None, " b ", "A123456(3)"], pa.large_string()),
    "binary": pa.array([b"a", b"b", None, b"c", b"d"], pa.binary()),
    "list": pa.array([[1], [2], None, [], [3]]),
    "struct": pa.array([{"a": 1}] * 5),
    "null": pa.nulls(5),
    "newline": pa.array(["a\nb", "c", None, "d", "e"]),
    "nul": pa.array(["a\0b", "c", None, "d", "e"]),
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one", "every"])
def test_parquet_values_have_the_same_text_both_ways_when_their_type_is_not_the_contracts(every, connection):
    """Values of each type in one column, or in a column of every type of the contract."""
    contract, good = get_contract(PARQUET), rows(PARQUET, 5)
    kinds = list({c.type: c for c in contract.columns}.values())
    assert len(kinds) >= 5
    different = []
    for place, (kind, values) in enumerate(TYPES.items()):
        for changed in kinds if every else [kinds[place % len(kinds)]]:
            columns = {
                c.source_name: values if c is changed else pa.array([row[c.name] for row in good], pa.string())
                for c in contract.columns
            }
            out = io.BytesIO()
            pq.write_table(pa.table(columns), out)
            in_blocks, apart = both_ways(connection, contract, out.getvalue())
            if in_blocks != apart:
                different.append((kind, changed.name, in_blocks, apart))
    assert not different
