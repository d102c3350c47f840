"""What load does with deliveries that cannot be read as their contract says: a rule with its place, and no good row lost."""

from __future__ import annotations

import gzip
import io
import random
import re
import resource
import zipfile
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from sampan.contracts.registry import get_contract
from sampan.ingest import land, ledger, load
from sampan.reading import limits

from tests import factory
from tests.conftest import ROOT
from tests.factory import DAY, FEEDS, compress, encode, feeds, representative_feeds, rows, stored
from tests.integration.ingest.deliveries import (
    CSV,
    CUSTOMS,
    FILES,
    JSONL,
    TEXT,
    body_of,
    held_for,
    ingested,
    lines_of,
)

CORPUS = ROOT / "tests/faults/corpus"
# Fixed-width files have no headers that could change.
HEADED = feeds(lambda c: c.source.kind == "s3" and c.source.format != "fixed", least=9)


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.source.compression != "none", least=2)))
@pytest.mark.parametrize("left", [0.1, 0.6, 0.99])
def test_load_holds_the_batch_when_a_compressed_delivery_is_truncated(feed, left, partner):
    body = encode(get_contract(feed), rows(feed, 40))
    batch = ingested(partner, feed, body[: int(len(body) * left)])
    held_for(batch, "delivery.truncated")
    assert partner.raw(feed) == []


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.source.compression != "none", least=2)))
def test_load_holds_the_batch_when_a_compressed_delivery_is_corrupt(feed, partner):
    body = bytearray(encode(get_contract(feed), rows(feed, 40)))
    body[len(body) // 2] ^= 0xFF
    batch = ingested(partner, feed, bytes(body))
    assert batch["state"] == "held"
    assert batch["problem"]["rule"] in ("delivery.corrupt", "delivery.truncated", "batch.rejection_budget")
    assert partner.raw(feed) == []


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.source.compression != "none", least=2)))
def test_load_holds_the_batch_when_a_delivery_is_not_compressed_at_all(feed, partner):
    contract = get_contract(feed)
    body = body_of(feed, lines_of(feed, rows(feed, 3)))
    raw = gzip.decompress(body) if contract.source.compression == "gzip" else b'{"a": 1}\n'
    held_for(ingested(partner, feed, raw), "delivery.corrupt")


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.source.format in ("xlsx", "parquet"), least=2)))
@pytest.mark.parametrize("spoil", ["truncated", "other", "html"])
def test_load_holds_the_batch_when_a_workbook_or_parquet_file_is_corrupt(feed, spoil, partner):
    body = encode(get_contract(feed), rows(feed, 20))
    body = {"truncated": body[: len(body) // 2], "other": b"PK\x03\x04" + b"\0" * 400, "html": b"<html>no</html>"}[
        spoil
    ]
    batch = ingested(partner, feed, body)
    held_for(batch, "delivery.corrupt" if spoil == "truncated" else "delivery.other_format")
    assert "Traceback" not in batch["problem"]["message"]


def test_load_holds_the_batch_when_the_sheet_is_missing_in_a_workbook(partner):
    feed = feeds(lambda c: c.source.format == "xlsx")[0]
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        book.add_worksheet("Something else").write(0, 0, "x")
    batch = ingested(partner, feed, out.getvalue())
    held_for(batch, "delivery.sheet_missing")
    assert "Something else" in batch["problem"]["message"]


def test_load_holds_the_batch_when_a_gzip_is_a_bomb(partner):
    line = lines_of(CUSTOMS, rows(CUSTOMS, 1))
    chunk = ((line[1] + "\n") * 5000).encode()
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as file:
        file.write((line[0] + "\n").encode())
        for _ in range(110):
            file.write(chunk)
    assert len(out.getvalue()) * limits.MAX_EXPANSION < 110 * len(chunk)
    held_for(ingested(partner, CUSTOMS, out.getvalue()), "delivery.too_large")


@pytest.mark.parametrize("feed", [CUSTOMS, *feeds(lambda c: c.source.compression == "zstd")])
def test_load_holds_the_batch_when_a_line_has_no_end(feed, partner):
    held_for(ingested(partner, feed, compress(get_contract(feed), b"x" * 30_000_000)), "delivery.record_too_long")


def test_load_holds_the_batch_when_a_parquet_file_is_a_bomb(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 1)
    small = pq.read_table(io.BytesIO(encode(contract, given)))
    columns = {
        name: pa.chunked_array([pa.array([small[name][0].as_py()] * 1000, small[name].type)] * 8000)
        for name in small.column_names
    }
    table = pa.table(columns)
    out = io.BytesIO()
    pq.write_table(table, out)
    held_for(ingested(partner, feed, out.getvalue()), "delivery.too_large")


def test_load_holds_the_batch_when_a_workbook_is_a_bomb(partner):
    feed = feeds(lambda c: c.source.format == "xlsx")[0]
    body = io.BytesIO(encode(get_contract(feed), rows(feed, 2)))
    out = io.BytesIO()
    with zipfile.ZipFile(body) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("sheet1.xml"):
                data = data.replace(b"</worksheet>", b" " * 120_000_000 + b"</worksheet>")
            new.writestr(item.filename, data)
    held_for(ingested(partner, feed, out.getvalue()), "delivery.too_large")


def test_load_holds_the_batch_when_a_workbook_has_one_cell_at_its_far_end(partner):
    feed = feeds(lambda c: c.source.format == "xlsx")[0]
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet(get_contract(feed).source.sheet)
        sheet.write(0, 0, "x")
        sheet.write(1_048_575, 16_383, "y")
    held_for(ingested(partner, feed, out.getvalue()), "delivery.too_large")


@pytest.mark.parametrize("feed", representative_feeds(CSV))
def test_load_holds_the_batch_when_the_whole_file_is_in_another_encoding(feed, partner):
    text = "".join(line + "\n" for line in lines_of(feed, rows(feed, 5)))
    batch = ingested(partner, feed, compress(get_contract(feed), text.encode("utf-16")))
    assert batch["state"] == "held"
    rules = ("delivery.other_format", "delivery.header_unrecognised", "delivery.header_unreadable")
    assert batch["problem"]["rule"] in rules


@pytest.mark.parametrize("feed", representative_feeds(feeds(lambda c: c.source.encoding not in ("utf-8", "utf-8-sig"))))
def test_load_holds_the_batch_when_big5_was_promised_and_utf8_came(feed, partner):
    text = "".join(line + "\n" for line in lines_of(feed, rows(feed, 5)))
    held_for(ingested(partner, feed, text.encode()), "delivery.header_unrecognised", line=1)


@pytest.mark.parametrize("feed", representative_feeds(TEXT))
def test_load_reads_the_same_values_when_lines_end_as_on_windows_and_a_byte_order_mark_leads(feed, partner):
    contract, given = get_contract(feed), rows(feed, 12)
    text = "".join(line + "\r\n" for line in lines_of(feed, given)).removesuffix("\r\n")
    encoding = contract.source.encoding.removesuffix("-sig")
    mark = b"\xef\xbb\xbf" if encoding == "utf-8" else b""
    batch = ingested(partner, feed, compress(contract, mark + text.encode(encoding)))
    assert batch["rows_published"] == 12, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)


@pytest.mark.parametrize("feed", representative_feeds(CSV))
def test_load_holds_the_batch_when_the_header_line_is_missing(feed, partner):
    batch = ingested(partner, feed, body_of(feed, lines_of(feed, rows(feed, 5))[1:]))
    held_for(batch, "delivery.header_unrecognised", line=1)


@pytest.mark.parametrize(
    "feed", representative_feeds(feeds(lambda c: c.source.format not in ("jsonl", "fixed"), least=6))
)
def test_load_holds_the_batch_and_names_the_column_when_a_required_one_is_missing(feed, partner):
    contract, given = get_contract(feed), rows(feed, 5)
    column = next(c for c in contract.columns if c.required and not c.primary_key)
    batch = ingested(partner, feed, encode(contract, given, without=[column.name]))
    held_for(batch, "delivery.header_missing_column", column=column.name)
    assert column.source_name in batch["problem"]["message"]


def optional(contract):
    """A stored column that may be missing without a row rule minding."""
    rules = " ".join(rule.predicate or "" for rule in contract.row_rules)
    return next((c for c in contract.stored if not c.required and c.name not in rules), None)


@pytest.mark.parametrize(
    "feed", representative_feeds(feeds(lambda c: c.source.kind == "s3" and optional(c) is not None, least=5))
)
def test_load_fills_with_null_and_notes_it_when_an_optional_column_is_missing(feed, partner):
    contract = get_contract(feed)
    name = optional(contract).name
    given = [row | {name: None} for row in rows(feed, 8)]
    batch = ingested(partner, feed, encode(contract, given, without=[name]))
    assert batch["rows_published"] == 8, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)
    drift = partner.sampan.rows("select kind, column_name from ops.drift")
    assert ("missing", name) in drift


@pytest.mark.parametrize("feed", [feed for feed in JSONL if optional(get_contract(feed))])
def test_load_reads_all_keys_when_a_later_line_brings_the_first_of_one(feed, partner, monkeypatch):
    """Kind of fault: what holds for the start of a delivery is taken to hold for all of it."""
    monkeypatch.setattr(limits, "LARGEST_BLOCK_BYTES", 2_000)
    contract = get_contract(feed)
    late, surplus = optional(contract), ', "surplus": 1}' if contract.drift != "fail" else "}"
    some = rows(feed, 300)
    # The last two contradict each other: the gate reads these again.
    last = next(row for row in some[178:] if row[late.name])
    given = [*(row | {late.name: None} for row in some[:70]), *some[70:178], last, last | {late.name: None}]
    lines = lines_of(feed, given)
    for number, line in enumerate(lines[:70]):
        lines[number] = re.sub(f'"{late.source_name}": null(, )?', "", line).replace(", }", "}")
    lines[179] = lines[179][:-1] + surplus
    assert not any(f'"{late.source_name}":' in line for line in lines[:70])
    assert len("".join(lines[:70])) > 2 * limits.LARGEST_BLOCK_BYTES
    batch = ingested(partner, feed, body_of(feed, lines))
    assert batch["rows_published"] == 178, batch["problem"]
    assert partner.raw(feed) == stored(contract, given[:178])
    assert [line for line, _ in partner.quarantined(feed)] == [179, 180]
    drift = partner.sampan.rows("select kind, column_name from ops.drift")
    assert drift == [("unknown", "surplus")] * (contract.drift != "fail")


@pytest.mark.parametrize("feed", representative_feeds(HEADED))
def test_load_reads_the_same_values_when_columns_are_reordered(feed, partner):
    contract, given = get_contract(feed), rows(feed, 8)
    batch = ingested(partner, feed, encode(contract, given, backwards=True))
    assert batch["rows_published"] == 8, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        ("declaration_no,declaration_no,version", "delivery.header_repeated"),
        ('declaration_no,"version', "delivery.header_missing_column"),
        ("declaration_no\rversion,line_no", "delivery.header_unreadable"),
        (f"declaration_no,{'x' * 400_000}", "delivery.header_missing_column"),
        (",".join(["declaration_no", *(f"c{i}" for i in range(500))]), "delivery.header_unrecognised"),
        ("", "delivery.empty"),
        (";".join(["declaration_no", "version", "line_no"]), "delivery.header_unrecognised"),
    ],
    ids=["repeated", "open-quote", "old-mac", "huge", "five-hundred-columns", "blank", "semicolons"],
)
def test_load_holds_the_batch_when_the_header_line_makes_no_sense(header, rule, partner):
    lines = lines_of(CUSTOMS, rows(CUSTOMS, 3))
    held_for(ingested(partner, CUSTOMS, body_of(CUSTOMS, [header, *lines[1:]])), rule)


def test_load_keeps_columns_apart_when_a_workbook_has_an_empty_header(partner):
    feed = feeds(lambda c: c.source.format == "xlsx")[0]
    contract, given = get_contract(feed), rows(feed, 4)
    headings = [c.source_name for c in contract.columns]
    records = [[row[c.name] for c in contract.columns] for row in given]
    body = factory._xlsx(
        contract,
        [headings[0], "", *headings[1:]],
        ["text", "text", *(c.type for c in contract.columns[1:])],
        [[record[0], "a note", *record[1:]] for record in records],
    )
    batch = ingested(partner, feed, body)
    assert batch["rows_published"] == 4, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)


@pytest.mark.parametrize("feed", representative_feeds(HEADED))
def test_ingest_publishes_nothing_when_the_file_is_of_another_feed(feed, partner):
    contract = get_contract(feed)
    other = next(f for f in HEADED if get_contract(f).partner != contract.partner and f != feed)
    given, columns = rows(other, 10), get_contract(other).columns
    body = {"csv": factory._csv, "jsonl": factory._jsonl, "xlsx": factory._xlsx, "parquet": factory._parquet}[
        contract.source.format
    ](
        contract,
        [c.name for c in columns],
        ["text" for _ in columns],
        [[row[c.name] for c in columns] for row in given],
    )
    batch = ingested(partner, feed, compress(contract, body))
    assert batch["state"] == "held"
    assert batch["problem"]["rule"].startswith(("delivery.header_", "batch.rejection_budget"))
    assert partner.raw(feed) == []


@pytest.mark.parametrize("feed", representative_feeds(FILES))
def test_load_follows_the_calendar_when_a_delivery_has_no_row(feed, partner):
    contract = get_contract(feed)
    batch = ingested(partner, feed, encode(contract, []))
    if contract.calendar.empty == "accept":
        assert (batch["state"], batch["rows_in"], batch["rows_published"]) == ("published", 0, 0), batch["problem"]
    else:
        held_for(batch, "delivery.no_rows")


@pytest.mark.parametrize("feed", representative_feeds(FILES))
def test_load_holds_or_accepts_but_never_fails_when_a_delivery_has_no_byte(feed, partner):
    contract = get_contract(feed)
    batch = ingested(partner, feed, b"")
    without_header = contract.source.format in ("jsonl", "fixed")
    if without_header and contract.calendar.empty == "accept":
        assert batch["state"] == "published"
    else:
        held_for(batch, "delivery.no_rows" if without_header else "delivery.empty")


@pytest.mark.parametrize("feed", representative_feeds(FEEDS))
def test_ingest_holds_the_batch_when_a_delivery_is_random_bytes(feed, partner):
    partner.puts(feed, DAY, "noise.bin", random.Random(feed).randbytes(20_000))
    batch = partner.ingest(feed)
    assert batch["state"] == "held"
    assert batch["problem"]["rule"]
    assert partner.raw(feed) == []


def test_load_publishes_the_next_batch_when_a_parquet_file_holds_what_python_cannot(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 5)
    table, out = pq.read_table(io.BytesIO(encode(contract, given))), io.BytesIO()
    place = next(n for n, c in enumerate(contract.columns) if c.type == "text" and not c.wholly_personal)
    bad = pa.Array.from_buffers(pa.string(), 5, pa.array([b"A123456(3)\xff\xfe"] * 5).buffers())
    pq.write_table(table.set_column(place, contract.columns[place].source_name, bad), out)
    partner.puts(feed, DAY - timedelta(days=1), "odd.parquet", out.getvalue())
    batch = ingested(partner, feed, encode(contract, given))
    assert (batch["state"], batch["rows_published"]) == ("published", 5), batch["problem"]
    ((state, problem),) = partner.sampan.rows("select state, problem from ops.batch where problem is not null")
    assert (state, problem["rule"]) == ("held", "delivery.corrupt")
    assert "A123456" not in str(problem)


def test_load_goes_on_with_the_next_batch_when_one_meets_an_unexpected_error(partner, monkeypatch):
    first = DAY - timedelta(days=1)
    for day in (first, DAY):
        partner.puts(CUSTOMS, day, "x.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, day)))
    land.run(CUSTOMS)
    work = load.load_batch

    def stumbling(connection, contract, batch):
        if batch.business_date == first:
            raise ZeroDivisionError
        work(connection, contract, batch)

    with monkeypatch.context() as patch:
        patch.setattr(load, "load_batch", stumbling)
        with pytest.raises(ZeroDivisionError):
            load.run(CUSTOMS)
    states = "select state from ops.batch order by business_date"
    assert partner.sampan.rows(states) == [("landed",), ("loaded",)]
    assert load.run(CUSTOMS) == {"batches": 1, "held": 0}
    assert partner.sampan.rows(states) == [("loaded",)] * 2


def test_load_loads_a_held_batch_again_when_the_contract_has_changed(partner, monkeypatch):
    contract, given = get_contract(CUSTOMS), rows(CUSTOMS, 20)
    bad = [row | {"unit_code": "99"} for row in given[:5]] + given[5:]
    batch = ingested(partner, CUSTOMS, encode(contract, bad))
    held_for(batch, "batch.rejection_budget")
    columns = tuple(replace(c, enum=(*c.enum, "99")) if c.name == "unit_code" else c for c in contract.columns)
    changed = replace(contract, columns=columns)
    monkeypatch.setattr(load, "get_contract", lambda feed: changed)
    monkeypatch.setattr(ledger, "get_contract", lambda feed: changed)
    assert load.reset_held(CUSTOMS, DAY) == 1
    batch = partner.ingest(CUSTOMS)
    assert (batch["state"], batch["rows_published"], batch["problem"]) == ("published", 20, None)
    assert partner.quarantined(CUSTOMS) == []
    assert partner.raw(CUSTOMS) == stored(contract, bad)


def test_a_bomb_costs_one_batch_and_the_delivery_behind_it_is_published(partner):
    """Availability: 1,800 cells that point to one string of a megabyte, 16 KB in all, took 5.4 GiB of the task."""
    (bomb,) = CORPUS.glob("xlsx/*.one_string.xlsx")
    feed = bomb.name.split(".")[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    of_others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    partner.puts(feed, DAY, "a_bomb.xlsx", bomb.read_bytes())
    partner.puts(feed, DAY, "b_sound.xlsx", encode(get_contract(feed), rows(feed, 20)))
    partner.ingest(feed)
    held, published = partner.sampan.rows(
        "select state, problem ->> 'rule', problem ->> 'file' from ops.batch order by source_uri"
    )
    assert held == ("held", "delivery.too_large", "a_bomb.xlsx")
    assert published == ("published", None, None)
    # The libraries that the steps import take 200 MiB of it.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10
    # The child begins with what this process has, and may take the bound more.
    most = before + (get_contract(feed).source.bounds.max_memory_bytes >> 10) + (512 << 10)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(most, of_others)
