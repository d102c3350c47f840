"""Deliveries made to exhaust memory or time are refused within the bounds of their contract (availability)."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import pickle
import random
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
import zstandard
from sampan.contracts.model import Bounds, Contract, Source
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.reading.formats.parquet import Parquet

from tests.unit.reading.deliveries import column, contract_for, in_blocks, one_by_one, reader

MIB = 1 << 20
# Memory in which lines of any content are read: a block of zstd may expand to half of it before it can be counted.
LINES_MIB = 384
# Of the process that reads whole files; the one that asks it takes a record at a time.
WHOLE_MIB = 256


def contract(written: str, compression: str = "none", seconds: float = 60, drift: str = "ignore") -> Contract:
    bounds = Bounds(20_000_000_000, WHOLE_MIB * MIB, seconds)
    columns = [column("a", required=True, start=1, length=4), column("b", start=5, length=4)]
    return contract_for(Source("s3", "x", written, compression=compression, bounds=bounds), columns, drift=drift)


def outcome(contract: Contract, body: bytes) -> str:
    """The rule by which a delivery is refused, or `read`, when its layout is asked and both paths are taken."""
    one = reader(contract, body)
    try:
        _ = one.layout
        for _ in one.blocks():
            pass
        for _ in one.records():
            pass
    except PermanentFailure as failure:
        return failure.problem.rule
    return "read"


def measured(work: Callable[[], str]) -> tuple[str, float]:
    """The result of work and by how many MiB its process, or one that it made, grew at most."""
    reading, writing = os.pipe()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB
    pid = os.fork()
    if not pid:
        # Never collect what other tests of this process made: objects of native libraries may crash in a fork.
        gc.freeze()
        try:
            os.write(writing, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return pickle.loads(said), usage.ru_maxrss / 1024 - before


def test_a_delivery_that_crashes_its_library_is_corrupt_and_not_too_large(monkeypatch):
    """A person who is told that it is too large raises its bounds, in vain."""
    monkeypatch.setattr(Parquet, "read_layout", lambda _: os.kill(os.getpid(), signal.SIGSEGV))
    assert outcome(contract("parquet"), b"PAR1") == "delivery.corrupt"


# --- workbooks --------------------------------------------------------------------------------------------------------


def archive(body: bytes, more: dict[str, bytes] | None = None, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """A workbook with its sheet changed and more members."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            new.writestr(item.filename, change(data) if item.filename.endswith("sheet1.xml") else data)
        for name, data in (more or {}).items():
            new.writestr(name, data)
    return out.getvalue()


def shared_string(length: int, rows: int, columns: int = 1) -> bytes:
    """A workbook in which all cells point to one shared string."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["a", "b"])
        for row in range(1, rows + 1):
            sheet.write_row(row, 0, ["@"] * columns)
    packed = io.BytesIO()
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item).replace(b"<t>@</t>", b"<t>" + b"x" * length + b"</t>"))
    return packed.getvalue()


def test_a_workbook_costs_its_bound_when_1800_cells_point_to_one_string_of_a_megabyte():
    body = shared_string(1_000_000, 1800)
    assert len(body) < 20_000
    rule, grown = measured(lambda: outcome(contract("xlsx"), body))
    assert rule == "delivery.too_large"
    assert grown < WHOLE_MIB + 32


def test_a_workbook_costs_its_bound_when_its_strings_are_as_long_as_excel_allows():
    body = shared_string(32_767, 30_000)
    rule, grown = measured(lambda: outcome(contract("xlsx"), body))
    assert rule == "delivery.too_large"
    assert grown < WHOLE_MIB + 32


def test_a_workbook_is_refused_when_a_row_is_longer_than_a_record_may_be():
    rule, grown = measured(lambda: outcome(contract("xlsx"), shared_string(600_000, 1, columns=2)))
    assert rule == "delivery.record_too_long"
    assert grown < WHOLE_MIB


def test_a_workbook_is_refused_when_pictures_hide_how_far_its_sheets_expand():
    def blown_up(sheet: bytes) -> bytes:
        return sheet.replace(b"</worksheet>", b" " * 100_000_000 + b"</worksheet>")

    picture = {"xl/media/image1.png": random.Random(1).randbytes(2_000_000)}
    body = archive(shared_string(3, 1), picture, blown_up)
    started = time.monotonic()
    rule, grown = measured(lambda: outcome(contract("xlsx"), body))
    assert rule == "delivery.too_large"
    assert grown < 64
    assert time.monotonic() - started < 10


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(table: pa.Table, **options) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def nested(depth: int) -> pa.Array:
    values = pa.array([1])
    for _ in range(depth):
        values = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    return values


def repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [text])


PARQUETS = {
    "dictionary": lambda: parquet(pa.table({"a": repeated("x" * 1_000_000, 1800)})),
    "dictionaries": lambda: parquet(pa.table({name: repeated("x" * 9000, 10_000) for name in "ab"})),
    "long lists": lambda: parquet(pa.table({"a": pa.array([[0] * 10_000_000])})),
    "lists of texts": lambda: parquet(pa.table({"a": pa.array([["x" * 100_000] * 1000])})),
    "nesting": lambda: parquet(pa.table({"a": nested(200)})),
    "page": lambda: parquet(pa.table({"a": ["x" * 100_000_000]}), compression="zstd", use_dictionary=False),
    "prefixes": lambda: parquet(
        pa.table({"a": ["x" * 500_000] * 500}),
        use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}, compression="zstd",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARQUETS)
def test_a_parquet_file_costs_its_bound_when_it_expands(kind):
    body = PARQUETS[kind]()
    assert len(body) < 3_000_000
    rule, grown = measured(lambda: outcome(contract("parquet"), body))
    assert rule.startswith("delivery."), rule
    assert grown < WHOLE_MIB + 32


def test_a_parquet_file_costs_its_bound_when_its_footer_lists_row_groups_without_end():
    out = io.BytesIO()
    with pq.ParquetWriter(out, pa.schema([("a", pa.string())])) as writer:
        for _ in range(4000):
            writer.write_table(pa.table({"a": ["x"]}))
    _, grown = measured(lambda: outcome(contract("parquet"), out.getvalue()))
    assert grown < WHOLE_MIB + 32


# --- lines ------------------------------------------------------------------------------------------------------------


def zstd(piece: bytes, times: int) -> bytes:
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=1).stream_writer(out, closefd=False) as packer:
        for _ in range(times):
            packer.write(piece)
    return out.getvalue()


def distinct_keys(count: int) -> bytes:
    """JSON Lines in which each line brings keys that no other has."""
    lines = (json.dumps({"a": "x"} | {f"k{n * 50 + k}": 1 for k in range(50)}) + "\n" for n in range(count // 50))
    return zstandard.compress("".join(lines).encode(), 3)


BROKEN_JSON = [
    b"[" * 1_000_000,
    b'{"a":' * 200_000 + b"1" + b"}" * 10,
    b'{"a":[' + b"[]," * 330_000 + b"0]}",
    b'{"a":' + b"9" * 1_000_000 + b"}",
    b'{"a":1e' + b"9" * 1_000_000 + b"}",
    b'{"a":"' + b"\\u0041" * 170_000 + b'"}',
]
LINES = {
    "empty lines in zstd": ("jsonl", "zstd", lambda: zstd(b"\n" * MIB, 2000)),
    "short lines in zstd": ("csv", "zstd", lambda: b"".join([zstd(b"a,b\n", 1), zstd(b"x,\n" * MIB, 700)])),
    "short lines in gzip": ("csv", "gzip", lambda: gzip.compress(b"a,b\n" + b"x,\n" * (100 * MIB), 1)),
    "one line in zstd": ("fixed", "zstd", lambda: zstd(b"x" * MIB, 2000)),
    "blanks in gzip": ("jsonl", "gzip", lambda: gzip.compress(b" " * 300_000_000, 1)),
    "distinct keys": ("jsonl", "zstd", lambda: distinct_keys(1_000_000)),
    "keys of a line": ("jsonl", "none", lambda: b"{" + b",".join(b'"%x":0' % n for n in range(100_000)) + b"}\n"),
    "odd JSON": ("jsonl", "none", lambda: b"\n".join([b'{"a":"x"}', *BROKEN_JSON]) + b"\n"),
    "wide header": ("csv", "none", lambda: b",".join(b"%d" % n for n in range(150_000)) + b"\n"),
    "wide lines": ("csv", "none", lambda: b"a,b\n" + (b"," * 1_000_000 + b"\n") * 20),
    "quotes": ("csv", "none", lambda: b"a,b\n" + (b'"' + b"x" * 1_000_000 + b"\n") * 60),
    "windows in zstd": (
        "csv",
        "zstd",
        lambda: (
            zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=30))
            .compressobj()
            .compress(b"a,b\n" * MIB)
        ),
    ),
}


@pytest.mark.parametrize("kind", LINES)
def test_lines_are_read_in_flat_memory_when_they_expand(kind):
    written, compression, make = LINES[kind]
    body = make()
    rule, grown = measured(lambda: outcome(contract(written, compression), body))
    assert rule == "read" if kind in ("odd JSON", "wide lines", "quotes") else rule.startswith("delivery."), rule
    assert grown < LINES_MIB


SHORT = {
    "csv": (b"a,b\n", b"x\n"),
    "jsonl": (b'{"a": 1}\n', b"1\n"),
    "fixed": (b"", b"x\n"),
}


@pytest.mark.parametrize("written", SHORT)
def test_few_records_are_in_memory_at_once_however_short_they_are(written, monkeypatch):
    """Kind of fault: a bound in bytes of what costs by the piece. A megabyte of broken lines took 468 MiB."""
    monkeypatch.setattr(limits, "BLOCK_LINES", 100)
    head, line = SHORT[written]
    blocks = list(reader(contract(written), head + line * 1050).blocks())
    odd = [record.line for block in blocks for record in block.odd]
    start = head.count(b"\n") + 1
    assert odd == [*range(start, start + 1050)]
    assert max(len(block.odd) for block in blocks) == 100
    assert max(block.data.count(b"\n") for block in blocks) == 100


def test_a_record_has_few_lines_however_short_they_are(monkeypatch):
    """Of a quote that is not closed, half a million lines were kept."""
    monkeypatch.setattr(limits, "BLOCK_LINES", 100)
    short = contract("csv")
    # The first record lies over the end of a block.
    within = b"x,y\n" * 60 + b'"' + b"x\n" * 90 + b'",z\n' + b"x,y\n" * 60
    found = one_by_one(short, b"a,b\n" + within)
    assert in_blocks(short, b"a,b\n" + within) == found
    assert [len(broken) for _, _, broken in found] == [0] * 121
    found = one_by_one(short, b'a,b\n"' + b"x\n" * 150 + b'",z\n')
    assert {*found[0][2]} == {"record.unclosed_quote"}
    assert len(found) == 151


@pytest.mark.parametrize("drift", ["ignore", "add_nullable", "fail"])
def test_reading_keys_stops_when_they_are_more_than_a_layout_may_have(drift):
    """Availability: 3.6 million keys were all kept, in 522 MiB, before the delivery was refused."""
    taken = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            taken.append(len(piece))
            return piece

    body = distinct_keys(1_000_000)
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract("jsonl", "zstd", drift=drift), body, Counted).layout
    assert failure.value.problem.rule.startswith("delivery.header_un")
    # What a block of a MiB takes.
    assert 0 < sum(taken) < len(body) / 3


def test_lines_are_refused_when_reading_them_takes_too_long():
    # Each opening quote takes 49 lines, which are given back.
    lines = [b'x,"\n', *[b'""' + b"x" * 20_000 + b"\n"] * 49, b'",z\n'] * 40
    body = b"a,b\n" + b"".join(lines)
    started = time.thread_time()
    assert outcome(contract("csv", seconds=0.1), body) == "delivery.too_slow"
    assert time.thread_time() - started < 20


def test_a_long_line_is_searched_in_time_that_grows_with_it_when_much_in_it_looks_like_a_number():
    """Kind of fault: each find looked back to the start of its line, so eight times the line took 64 times as long."""

    def seconds(repeated: int) -> float:
        started = time.process_time()
        assert len(in_blocks(contract("csv"), b"a,b\nx," + b"A 1 2 3 4 5 6 " * repeated + b"\n")) == 1
        return time.process_time() - started

    # The first one loads what reading takes.
    seconds(1)
    assert seconds(32_000) < 24 * min(seconds(4_000) for _ in range(3))


SLOW = {
    # What fits no pattern is taken apart in another thread than the one that reads.
    "broken lines": ("jsonl", "none", lambda: b'{"a":"x"}\n' + (b'{"a":"' + rb"\u0041\u0031" * 20_000 + b'"\n') * 12),
    # Nothing comes of it until the end of the file.
    "empty frames": ("csv", "zstd", lambda: zstd(b"a,b\n", 1) + zstandard.compress(b"") * 200_000),
}


@pytest.mark.parametrize("kind", SLOW)
def test_lines_are_refused_when_what_takes_long_is_not_what_they_hold(kind):
    """Kind of fault: time that is counted in one thread only; a delivery was read in four times its bound."""
    written, compression, make = SLOW[kind]
    one = reader(contract(written, compression, seconds=0.1), make())
    started = time.process_time()
    with pytest.raises(PermanentFailure) as failure:
        for _ in one.blocks():
            pass
    assert failure.value.problem.rule == "delivery.too_slow"
    assert time.process_time() - started < 2


def test_a_process_keeps_few_patterns_of_keys_that_only_one_delivery_has():
    """Kind of fault: what is kept for the next delivery. Each took 13 MiB, and was one of 256 that were kept."""

    def backlog() -> str:
        for number in range(24):
            keys = {"a": "x"} | {f"{number} {key} {'y' * (140 if number % 2 else 70)}": "1" for key in range(99)}
            assert outcome(contract("jsonl"), (json.dumps(keys) + "\n").encode() * 20) == "read"
        return outcome(contract("jsonl"), b'{"a":"x","' + b"k" * 1_000_000 + b'":1}\n')

    rule, grown = measured(backlog)
    assert rule == "read"
    assert grown < 120


def test_a_header_line_of_commas_is_refused_and_fills_no_log(capfd):
    """Fault: RE2 wrote 54,000 lines about a pattern of a million columns without a name."""
    assert outcome(contract("csv"), b"a,b" + b"," * 1_000_000 + b"\n") == "delivery.too_large"
    assert outcome(contract("csv"), b"a,b" + b"," * limits.MAX_UNNAMED_COLUMNS + b"\nx,y\n") == "read"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("written", ["xlsx", "parquet"])
def test_a_file_is_refused_when_reading_it_takes_too_long(written, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RECORD_BYTES", 1 << 20)
    make = {"xlsx": lambda: shared_string(3, 60_000, 2), "parquet": lambda: parquet(pa.table({"a": ["x"] * 3_000_000}))}
    short = contract(written)
    bounds = replace(short.source.bounds, max_seconds=0.05)
    assert outcome(replace(short, source=replace(short.source, bounds=bounds)), make[written]()) == "delivery.too_slow"
