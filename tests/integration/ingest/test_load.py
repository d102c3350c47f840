"""Bad input and what it gets: a rule with its place, no good row lost, a ledger that adds up."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import date, timedelta

import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, land, ledger, load
from sampan.reading import reader as reading

from tests import factory
from tests.factory import DAY, FEEDS, adds_up, compress, encode, feeds, one_of_each, rows, stored

CUSTOMS = "customs_declarations"
CSV = feeds(lambda c: c.source.format == "csv", least=3)
JSONL = feeds(lambda c: c.source.format == "jsonl" and c.source.kind == "s3", least=3)
TEXT = CSV + JSONL
FILES = feeds(lambda c: c.source.kind == "s3", least=9)
# Fields of a fixed width have no headings that could change.
HEADED = feeds(lambda c: c.source.kind == "s3" and c.source.format != "fixed", least=9)
GOOD, MANY = 60, 350


def lines_of(feed: str, given: list[factory.Row]) -> list[str]:
    """The delivery's lines, the heading first where there is one."""
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


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.compression != "none", least=2)))
@pytest.mark.parametrize("left", [0.1, 0.6, 0.99])
def test_load_holds_the_batch_when_a_compressed_delivery_is_truncated(feed, left, partner):
    body = encode(get_contract(feed), rows(feed, 40))
    batch = ingested(partner, feed, body[: int(len(body) * left)])
    held_for(batch, "delivery.truncated")
    assert partner.raw(feed) == []


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.compression != "none", least=2)))
def test_load_holds_the_batch_when_a_compressed_delivery_is_corrupt(feed, partner):
    body = bytearray(encode(get_contract(feed), rows(feed, 40)))
    body[len(body) // 2] ^= 0xFF
    batch = ingested(partner, feed, bytes(body))
    assert batch["state"] == "held"
    assert batch["problem"]["rule"] in ("delivery.corrupt", "delivery.truncated", "batch.rejection_budget")
    assert partner.raw(feed) == []


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.compression != "none", least=2)))
def test_load_holds_the_batch_when_a_delivery_is_not_compressed_at_all(feed, partner):
    contract = get_contract(feed)
    body = body_of(feed, lines_of(feed, rows(feed, 3)))
    raw = gzip.decompress(body) if contract.source.compression == "gzip" else b'{"a": 1}\n'
    held_for(ingested(partner, feed, raw), "delivery.corrupt")


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.format in ("xlsx", "parquet"), least=2)))
@pytest.mark.parametrize("spoil", ["truncated", "other", "html"])
def test_load_holds_the_batch_when_a_workbook_or_parquet_file_is_corrupt(feed, spoil, partner):
    body = encode(get_contract(feed), rows(feed, 20))
    body = {"truncated": body[: len(body) // 2], "other": b"PK\x03\x04" + b"\0" * 400, "html": b"<html>no</html>"}[
        spoil
    ]
    batch = ingested(partner, feed, body)
    held_for(batch, "delivery.corrupt")
    assert "Traceback" not in batch["problem"]["message"]


def test_load_holds_the_batch_when_a_workbook_has_not_the_sheet(partner):
    feed = feeds(lambda c: c.source.format == "xlsx")[0]
    import xlsxwriter

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
    assert len(out.getvalue()) * reading.BOMB_RATIO < 110 * len(chunk)
    held_for(ingested(partner, CUSTOMS, out.getvalue()), "delivery.too_large")


@pytest.mark.parametrize("feed", [CUSTOMS, *feeds(lambda c: c.source.compression == "zstd")])
def test_load_holds_the_batch_when_a_line_has_no_end(feed, partner):
    held_for(ingested(partner, feed, compress(get_contract(feed), b"x" * 30_000_000)), "delivery.record_too_long")


def test_load_holds_the_batch_when_a_parquet_file_is_a_bomb(partner):
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet(get_contract(feed).source.sheet)
        sheet.write(0, 0, "x")
        sheet.write(1_048_575, 16_383, "y")
    held_for(ingested(partner, feed, out.getvalue()), "delivery.too_large")


# --- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", one_of_each(CSV))
def test_load_holds_the_batch_when_the_whole_file_is_in_another_encoding(feed, partner):
    text = "".join(line + "\n" for line in lines_of(feed, rows(feed, 5)))
    batch = ingested(partner, feed, compress(get_contract(feed), text.encode("utf-16")))
    assert batch["state"] == "held"
    assert batch["problem"]["rule"] in ("delivery.header_unrecognised", "delivery.header_unreadable")
    assert batch["problem"]["line"] == 1


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.encoding not in ("utf-8", "utf-8-sig"))))
def test_load_holds_the_batch_when_big5_was_promised_and_utf8_came(feed, partner):
    text = "".join(line + "\n" for line in lines_of(feed, rows(feed, 5)))
    held_for(ingested(partner, feed, text.encode()), "delivery.header_unrecognised", line=1)


@pytest.mark.parametrize("feed", one_of_each(TEXT))
def test_gate_quarantines_the_row_when_a_byte_in_it_is_no_character(feed, partner):
    contract, given = get_contract(feed), rows(feed, MANY)
    spoilt = {7: (b"\xff", "record.encoding"), 90: (b"\x00", "record.nul")}
    marked = [dict(row) for row in given]
    for place in spoilt:
        marked[place][contract.key[0]] = f"@{place}@"
    body = "".join(line + "\n" for line in lines_of(feed, marked)).encode(contract.source.encoding)
    for place, (bad, _) in spoilt.items():
        body = body.replace(f"@{place}@".encode(), b"@" + bad + b"@")
    batch = ingested(partner, feed, compress(contract, body))
    assert (batch["state"], batch["rows_published"], batch["rows_quarantined"]) == ("published", MANY - 2, 2)
    first = 1 + (contract.source.format == "csv")
    assert [line for line, _ in partner.quarantined(feed)] == [place + first for place in spoilt]
    for (_, broken), (_, rule) in zip(partner.quarantined(feed), spoilt.values(), strict=True):
        assert rule in broken
    assert partner.raw(feed) == stored(contract, [row for place, row in enumerate(given) if place not in spoilt])


@pytest.mark.parametrize("feed", one_of_each(TEXT))
def test_load_reads_the_same_values_when_lines_end_as_on_windows_and_a_byte_order_mark_leads(feed, partner):
    contract, given = get_contract(feed), rows(feed, 12)
    text = "".join(line + "\r\n" for line in lines_of(feed, given)).removesuffix("\r\n")
    encoding = contract.source.encoding.removesuffix("-sig")
    mark = b"\xef\xbb\xbf" if encoding == "utf-8" else b""
    batch = ingested(partner, feed, compress(contract, mark + text.encode(encoding)))
    assert batch["rows_published"] == 12, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)


@pytest.mark.parametrize("feed", one_of_each(JSONL))
def test_gate_quarantines_the_row_when_json_spells_what_no_encoding_holds(feed, partner):
    contract, given = get_contract(feed), rows(feed, MANY)
    spoilt = {3: (r"\ud83d", "record.encoding"), 4: (r"\u0000", "record.nul"), 5: (r"\udc80", "record.encoding")}
    lines = lines_of(feed, [row | {contract.key[0]: f"@{n}@"} if n in spoilt else row for n, row in enumerate(given)])
    for place, (spelt, _) in spoilt.items():
        lines[place] = lines[place].replace(f"@{place}@", f"@{spelt}@")
    batch = ingested(partner, feed, body_of(feed, lines))
    assert batch["rows_published"] == MANY - 3, batch["problem"]
    found = dict(partner.quarantined(feed))
    assert {line: rule for line, broken in found.items() for rule in broken if rule.startswith("record.")} == {
        place + 1: rule for place, (_, rule) in spoilt.items()
    }


# --- headings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", one_of_each(CSV))
def test_load_holds_the_batch_when_the_heading_line_is_missing(feed, partner):
    batch = ingested(partner, feed, body_of(feed, lines_of(feed, rows(feed, 5))[1:]))
    held_for(batch, "delivery.header_unrecognised", line=1)


@pytest.mark.parametrize("feed", one_of_each(feeds(lambda c: c.source.format not in ("jsonl", "fixed"), least=6)))
def test_load_holds_the_batch_and_names_the_column_when_a_required_one_is_missing(feed, partner):
    contract, given = get_contract(feed), rows(feed, 5)
    column = next(c for c in contract.columns if c.required and not c.primary_key)
    batch = ingested(partner, feed, encode(contract, given, without=[column.name]))
    held_for(batch, "delivery.header_missing_column", column=column.name)
    assert column.source_name in batch["problem"]["message"]


@pytest.mark.parametrize(
    "feed", one_of_each(feeds(lambda c: c.source.format == "jsonl" and c.source.kind == "s3", least=3))
)
def test_gate_names_the_column_when_a_required_key_is_missing_in_every_object(feed, partner):
    contract, given = get_contract(feed), rows(feed, 5)
    column = next(c for c in contract.columns if c.required and not c.primary_key)
    batch = ingested(partner, feed, encode(contract, given, without=[column.name]))
    held_for(batch, "batch.rejection_budget")
    assert all(f"{column.name}.required" in broken for _, broken in partner.quarantined(feed))
    assert len(partner.quarantined(feed)) == 5


def optional(contract):
    """A stored column that may be missing without a row rule minding."""
    rules = " ".join(rule.predicate or "" for rule in contract.row_rules)
    return next((c for c in contract.stored if not c.required and c.name not in rules), None)


@pytest.mark.parametrize(
    "feed", one_of_each(feeds(lambda c: c.source.kind == "s3" and optional(c) is not None, least=5))
)
def test_load_fills_with_null_and_notes_it_when_an_optional_column_is_missing(feed, partner):
    contract = get_contract(feed)
    name = optional(contract).name
    given = [row | {name: None} for row in rows(feed, 8)]
    batch = ingested(partner, feed, encode(contract, given, without=[name]))
    assert batch["rows_published"] == 8, batch["problem"]
    assert partner.raw(feed) == stored(contract, given)
    drift = partner.sampan.rows("select kind, column_name from ops.drift")
    assert contract.source.format == "jsonl" or ("missing", name) in drift


@pytest.mark.parametrize("feed", one_of_each(HEADED))
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
def test_load_holds_the_batch_when_the_heading_line_makes_no_sense(header, rule, partner):
    lines = lines_of(CUSTOMS, rows(CUSTOMS, 3))
    held_for(ingested(partner, CUSTOMS, body_of(CUSTOMS, [header, *lines[1:]])), rule)


def test_load_keeps_columns_apart_when_a_workbook_has_an_empty_heading(partner):
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


@pytest.mark.parametrize("feed", one_of_each(HEADED))
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


# --- empty ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", one_of_each(FILES))
def test_load_does_as_the_calendar_says_when_a_delivery_has_no_row(feed, partner):
    contract = get_contract(feed)
    batch = ingested(partner, feed, encode(contract, []))
    if contract.calendar.empty == "accept":
        assert (batch["state"], batch["rows_in"], batch["rows_published"]) == ("published", 0, 0), batch["problem"]
    else:
        held_for(batch, "delivery.no_rows")


@pytest.mark.parametrize("feed", one_of_each(FILES))
def test_load_holds_or_accepts_but_never_fails_when_a_delivery_has_no_byte(feed, partner):
    contract = get_contract(feed)
    batch = ingested(partner, feed, b"")
    without_heading = contract.source.format in ("jsonl", "fixed")
    if without_heading and contract.calendar.empty == "accept":
        assert batch["state"] == "published"
    else:
        held_for(batch, "delivery.no_rows" if without_heading else "delivery.empty")


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", one_of_each(CSV))
def test_gate_quarantines_what_cannot_be_split_and_publishes_all_else_when_some_records_are_broken(feed, partner):
    contract = get_contract(feed)
    given = [
        {name: (text or "").replace(",", " ").replace('"', "") or None for name, text in row.items()}
        for row in rows(feed, 800)
    ]
    lines = lines_of(feed, given)
    spoilt = {
        1: ('"' + lines[1], "record.unclosed_quote"),
        50: (lines[50].rsplit(",", 1)[0], "record.too_few_fields"),
        51: (lines[51] + ",surplus", "record.too_many_fields"),
        52: ("only one field", "record.too_few_fields"),
        200: ('"x"y,' + lines[200].split(",", 1)[1], "record.bad_quote"),
        300: ('"' + lines[300], "record.unclosed_quote"),
        800: ('"' + lines[800], "record.unclosed_quote"),
    }
    for place, (line, _) in spoilt.items():
        lines[place] = line
    batch = ingested(partner, feed, body_of(feed, lines))
    assert (batch["rows_published"], batch["rows_quarantined"]) == (793, 7), batch["problem"]
    assert partner.quarantined(feed) == [(place + 1, [rule]) for place, (_, rule) in spoilt.items()]
    assert partner.raw(feed) == stored(contract, [row for place, row in enumerate(given, 1) if place not in spoilt])


@pytest.mark.parametrize("feed", one_of_each(JSONL))
def test_gate_quarantines_lines_that_are_no_object_and_publishes_all_else_when_some_are_broken(feed, partner):
    contract, given = get_contract(feed), rows(feed, MANY)
    lines = lines_of(feed, given)
    spoilt = {
        0: (lines[0][: len(lines[0]) // 2], "record.not_json"),
        9: ("[1, 2]", "record.not_an_object"),
        10: ("null", "record.not_an_object"),
        20: ("[" * 50_000, "record.not_json"),
        21: ("9" * 5_000, "record.not_an_object"),
        MANY - 1: ('{"a": 1}}', "record.not_json"),
    }
    for place, (line, _) in spoilt.items():
        lines[place] = line
    batch = ingested(partner, feed, body_of(feed, lines))
    assert (batch["rows_published"], batch["rows_quarantined"]) == (MANY - 6, 6), batch["problem"]
    assert partner.quarantined(feed) == [(place + 1, [rule]) for place, (_, rule) in spoilt.items()]
    assert partner.raw(feed) == stored(contract, [row for place, row in enumerate(given) if place not in spoilt])


VALUES = [
    ("hkhs_code", "8517130", "hkhs_code.pattern"),
    ("movement_date", "2026-02-30", "movement_date.type"),
    ("movement_date", "today", "movement_date.type"),
    ("movement_date", "5874897-12-31", "movement_date.maximum"),
    ("lodged_at", "2026-07-06 25:00:00", "lodged_at.type"),
    ("lodged_at", "today 10:00", "lodged_at.type"),
    ("lodged_at", "10:00 yesterday", "lodged_at.type"),
    ("lodged_at", "infinity", "lodged_at.type"),
    ("value_hkd", '"1,234.50"', "value_hkd.type"),
    ("value_hkd", "NaN", "value_hkd.maximum"),
    ("value_hkd", "-Infinity", "value_hkd.minimum"),
    ("value_hkd", "-1", "value_hkd.minimum"),
    ("value_hkd", "1.005", "value_hkd.scale"),
    ("value_hkd", "1e400", "value_hkd.maximum"),
    ("value_hkd", "9" * 200_000, "value_hkd.type"),
    ("line_no", "99999999999999999999", "line_no.type"),
    ("line_no", "1.0", "line_no.type"),
    ("form_type", "3", "form_type.enum"),
    ("form_type", "", "form_type.required"),
    ("goods_description", "x" * 513, "goods_description.max_length"),
    ("goods_description", "x" * 300_000, "goods_description.max_length"),
    ("goods_description", f'"{"x" * 300_000}"', "goods_description.max_length"),
    ("counterparty_country", "690", "counterparty_is_abroad"),
    ("goods_description", '"nul\0"', "record.nul"),
]


def test_gate_quarantines_each_row_with_line_column_and_value_when_values_are_bad(partner):
    from sampan.ingest import quarantine

    given = rows(CUSTOMS, 25 * len(VALUES))
    spoilt = {25 * number + 3: value for number, value in enumerate(VALUES)}
    lines = lines_of(CUSTOMS, [row | {spoilt[n][0]: "@@"} if n in spoilt else row for n, row in enumerate(given)])
    lines = [line.replace("@@", spoilt[n - 1][1]) if n - 1 in spoilt else line for n, line in enumerate(lines)]
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    assert (batch["rows_published"], batch["rows_quarantined"]) == (24 * len(VALUES), len(VALUES)), batch["problem"]
    found = {entry.line: entry for entry in quarantine.entries(CUSTOMS)}
    for place, (name, text, rule) in spoilt.items():
        entry = found[place + 2]
        assert (entry.file, entry.record) == (name_of(CUSTOMS), lines[place + 1].replace("\0", "\u2400")), text[:30]
        details = {broken: (column, value) for column, broken, value in entry.details()}
        assert rule in details, (name, text[:30], entry.broken_rules)
        if rule.startswith(name):
            assert details[rule] == (name, text.strip('"') or None)
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), [r for n, r in enumerate(given) if n not in spoilt])


def test_gate_stores_every_broken_rule_and_the_line_verbatim_when_a_row_breaks_many(partner):
    given = rows(CUSTOMS, GOOD)
    given[2] |= {"value_hkd": "-1.005", "hkhs_code": "8517130", "movement_date": "2026-02-30", "unit_code": "99"}
    lines = lines_of(CUSTOMS, given)
    ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    ((broken, record),) = partner.sampan.rows("select broken_rules, record from quarantine.record")
    assert {"value_hkd.minimum", "value_hkd.scale", "hkhs_code.pattern", "movement_date.type", "unit_code.enum"} <= set(
        broken
    )
    assert "movement_date.required" not in broken
    assert record == lines[3]


def test_gate_names_the_broken_columns_when_a_row_rule_cannot_be_reckoned(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 40)
    given[5] |= {"shipped_on": "5874897-12-31", "credit_days": "2147483647"}
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {c.source_name: pa.array([row[c.name] for row in given], pa.string()) for c in contract.columns}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    batch = ingested(partner, feed, out.getvalue())
    assert batch["rows_published"] == 39, batch["problem"]
    ((_, broken),) = partner.quarantined(feed)
    assert {"shipped_on.maximum", "credit_days.maximum"} <= set(broken)


@pytest.mark.parametrize("feed", one_of_each(FILES))
def test_gate_names_every_typed_column_when_text_stands_in_it(feed, partner):
    contract, given = get_contract(feed), rows(feed, 3)
    typed = [c for c in contract.stored if c.type != "text"]
    assert typed
    bad = [row | {c.name: "no such value" for c in typed} for row in given]
    if contract.source.format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        arrays = {c.source_name: pa.array([row[c.name] for row in bad], pa.string()) for c in contract.columns}
        pq.write_table(pa.table(arrays), out)
        body = out.getvalue()
    elif contract.source.format == "jsonl":
        body = compress(
            contract,
            "".join(
                json.dumps({c.source_name: row[c.name] for c in contract.columns}, ensure_ascii=False) + "\n"
                for row in bad
            ).encode(),
        )
    else:
        body = encode(contract, bad)
    batch = ingested(partner, feed, body)
    held_for(batch, "batch.rejection_budget")
    assert "3 of 3 rows" in batch["problem"]["message"]
    found = partner.quarantined(feed)
    assert len(found) == 3
    assert all({f"{c.name}.type" for c in typed} <= set(broken) for _, broken in found)


DATED = feeds(lambda c: c.source.kind == "s3" and any(x.type in ("date", "timestamptz") for x in c.stored), least=9)


@pytest.mark.parametrize("feed", one_of_each(DATED))
def test_gate_quarantines_the_row_when_a_date_is_a_word_or_has_a_time_that_would_be_lost(feed, partner):
    contract, given = get_contract(feed), rows(feed, MANY)
    dates = [c for c in contract.stored if c.type in ("date", "timestamptz")]
    spoilt = {
        place: (column, word if column.type == "timestamptz" else text)
        for place, (column, word, text) in enumerate(
            [(dates[0], "now", "today"), (dates[-1], "Tomorrow", "2026-07-31T16:00:00.000Z")], 7
        )
        if contract.source.format != "fixed" or column.length >= len(text)
    }
    assert spoilt or contract.source.format == "fixed"
    for place, (column, text) in spoilt.items():
        given[place][column.name] = text
    if contract.source.format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        arrays = {c.source_name: pa.array([row[c.name] for row in given], pa.string()) for c in contract.columns}
        pq.write_table(pa.table(arrays), out)
        body = out.getvalue()
    else:
        body = encode(contract, given)
    batch = ingested(partner, feed, body)
    assert batch["rows_published"] == MANY - len(spoilt), batch["problem"]
    found = [broken for _, broken in partner.quarantined(feed)]
    for broken, (column, _) in zip(found, spoilt.values(), strict=True):
        assert f"{column.name}.type" in broken
    assert partner.raw(feed) == stored(contract, [row for place, row in enumerate(given) if place not in spoilt])


def test_gate_judges_what_parquet_types_hold_when_they_are_not_the_contracts(partner):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 10)
    table = pq.read_table(io.BytesIO(encode(contract, given)))
    for name, kind in {"credit_days": pa.float64(), "invoice_value_hkd": pa.float64(), "shipped_on": pa.timestamp("us"),
                       "hs_code": pa.int64()}.items():  # fmt: skip
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    out = io.BytesIO()
    pq.write_table(table, out)
    ingested(partner, feed, out.getvalue())
    lost = [row for row in given if row["hs_code"].startswith("0")]
    kept = [row for row in given if row not in lost]
    if lost:
        assert all("hs_code.pattern" in broken for _, broken in partner.quarantined(feed))
    else:
        assert partner.raw(feed) == stored(contract, kept)


# --- deliveries -------------------------------------------------------------------------------------------------------


class Renaming:
    """An object store whose keys a partner chose: `safe` is known to it as `hostile`, as S3 itself allows."""

    def __init__(self, client, safe: str, hostile: str) -> None:
        self.client, self.safe, self.hostile = client, safe, hostile

    def __getattr__(self, name):
        return getattr(self.client, name)

    def get_object(self, **arguments):
        key = arguments["Key"].replace(self.hostile, self.safe)
        return self.client.get_object(**arguments | {"Key": key})

    def get_paginator(self, name):
        inner, outer = self.client.get_paginator(name), self

        class Pages:
            def paginate(self, **arguments):
                for page in inner.paginate(**arguments):
                    for item in page.get("Contents", ()):
                        item["Key"] = item["Key"].replace(outer.safe, outer.hostile)
                    yield page

        return Pages()


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "..", "a/../../b.csv.gz", "line\nbreak", "\x1b[2J", "雲 [/red] %2e%2e.gz"]
)
def test_land_addresses_by_content_when_a_name_is_hostile(name, partner, monkeypatch):
    from sampan.settings import Settings

    client = partner.sampan.s3
    monkeypatch.setattr(Settings, "s3", lambda self: Renaming(client, "safe.csv.gz", name))
    given = rows(CUSTOMS, 5)
    batch = ingested(partner, CUSTOMS, encode(get_contract(CUSTOMS), given), name="safe.csv.gz")
    landing = partner.sampan.environment["SAMPAN_LANDING_BUCKET"]
    assert batch["source_uri"].endswith(f"/{DAY}/{name}")
    assert batch["landing_uri"] == f"s3://{landing}/{CUSTOMS}/{DAY}/{batch['content_sha256']}.csv.gz"
    assert batch["rows_published"] == 5


def test_land_makes_one_batch_when_the_same_content_comes_under_two_names(partner):
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    partner.puts(CUSTOMS, DAY, "first.csv.gz", body)
    partner.puts(CUSTOMS, DAY, "second.csv.gz", body)
    partner.ingest(CUSTOMS)
    assert partner.sampan.one("select count(*) from ops.batch") == 1
    assert partner.sampan.one("select count(distinct source_uri) from ops.delivery where batch_id is not null") == 2
    assert len(partner.raw(CUSTOMS)) == 5


def test_land_makes_two_batches_when_two_contents_come_for_one_date(partner):
    for seed in (1, 2):
        partner.puts(CUSTOMS, DAY, f"{seed}.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)))
    partner.ingest(CUSTOMS)
    assert partner.sampan.rows("select state, rows_published from ops.batch") == [("published", 5)] * 2


def test_land_leaves_word_for_the_owner_when_a_content_comes_back_that_another_took_the_place_of(partner):
    bodies = [encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)) for seed in (1, 2)]
    for name, body in (("1", bodies[0]), ("2", bodies[1]), ("2_again", bodies[1])):
        partner.puts(CUSTOMS, DAY, f"{name}.csv.gz", body)
        partner.ingest(CUSTOMS)
    assert partner.sampan.one("select count(*) from ops.alert") == 0
    partner.puts(CUSTOMS, DAY, "1_again.csv.gz", bodies[0])
    partner.ingest(CUSTOMS)
    partner.ingest(CUSTOMS)
    ((kind, feed, message),) = partner.sampan.rows("select kind, feed, message from ops.alert")
    first, second = (number for (number,) in partner.sampan.rows("select batch_id from ops.batch order by batch_id"))
    assert (kind, feed) == ("returned", CUSTOMS)
    assert f"1_again.csv.gz holds what batch {first} of {DAY} held, and batch {second} came in between" in message
    assert get_contract(CUSTOMS).contact in message


def test_land_refuses_a_delivery_until_its_date_has_come_when_it_is_for_the_future(partner, monkeypatch):
    day = date.today() + timedelta(days=30)  # noqa: DTZ011
    partner.puts(CUSTOMS, day, "early.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)))
    assert land.run(CUSTOMS) == {"landed": 0, "repeated": 0, "refused": 1}
    ((problem,),) = partner.sampan.rows("select problem from ops.delivery")
    assert problem["rule"] == "delivery.future_date"
    assert problem["file"].endswith(f"/{day}/early.csv.gz")
    assert land.run(CUSTOMS) == {"landed": 0, "repeated": 0, "refused": 0}
    for module in (land, fetch):
        monkeypatch.setattr(module, "today", lambda: day)
    partner.finds(CUSTOMS)
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 0}


@pytest.mark.parametrize("folder", ["06-07-2026", "2026-02-30", "2026-7-6", "latest", "20260706"])
def test_land_refuses_a_delivery_when_its_folder_is_no_date(folder, partner):
    partner.puts(CUSTOMS, folder, "x.csv.gz", b"x")
    assert land.run(CUSTOMS)["refused"] == 1
    ((problem,),) = partner.sampan.rows("select problem from ops.delivery")
    assert problem["rule"] == "delivery.no_business_date"


def test_land_goes_on_with_the_next_when_a_partner_took_a_delivery_back(partner):
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    partner.puts(CUSTOMS, DAY, "gone.csv.gz", b"something else")
    partner.puts(CUSTOMS, DAY + timedelta(days=1), "kept.csv.gz", body)
    sampan = partner.sampan
    sampan.s3.delete_object(Bucket=sampan.environment["SAMPAN_DROP_BUCKET"], Key=sampan.delivered[0])
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 1}
    partner.puts(CUSTOMS, DAY, "gone.csv.gz", b"something else")
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 0}


@pytest.mark.parametrize("feed", one_of_each(FEEDS))
def test_ingest_holds_the_batch_when_a_delivery_is_random_bytes(feed, partner):
    import random

    partner.puts(feed, DAY, "noise.bin", random.Random(feed).randbytes(20_000))
    batch = partner.ingest(feed)
    assert batch["state"] == "held"
    assert batch["problem"]["rule"]
    assert partner.raw(feed) == []


def test_load_publishes_the_next_batch_when_a_parquet_file_holds_what_python_cannot(partner):
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def test_load_lets_the_next_batch_have_its_turn_when_one_meets_an_error_that_nobody_foresaw(partner, monkeypatch):
    first = DAY - timedelta(days=1)
    for day in (first, DAY):
        partner.puts(CUSTOMS, day, "x.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, day)))
    land.run(CUSTOMS)
    work = load._load

    def stumbling(connection, contract, batch):
        if batch.business_date == first:
            raise ZeroDivisionError
        work(connection, contract, batch)

    with monkeypatch.context() as patch:
        patch.setattr(load, "_load", stumbling)
        with pytest.raises(ZeroDivisionError):
            load.run(CUSTOMS)
    states = "select state from ops.batch order by business_date"
    assert partner.sampan.rows(states) == [("landed",), ("loaded",)]
    assert load.run(CUSTOMS) == {"batches": 1, "held": 0}
    assert partner.sampan.rows(states) == [("loaded",)] * 2


def test_load_takes_a_held_batch_up_again_when_the_contract_has_changed(partner, monkeypatch):
    from dataclasses import replace

    contract, given = get_contract(CUSTOMS), rows(CUSTOMS, 20)
    bad = [row | {"unit_code": "99"} for row in given[:5]] + given[5:]
    batch = ingested(partner, CUSTOMS, encode(contract, bad))
    held_for(batch, "batch.rejection_budget")
    columns = tuple(replace(c, enum=(*c.enum, "99")) if c.name == "unit_code" else c for c in contract.columns)
    changed = replace(contract, columns=columns)
    monkeypatch.setattr(load, "get_contract", lambda feed: changed)
    monkeypatch.setattr(ledger, "get_contract", lambda feed: changed)
    assert load.again(CUSTOMS, DAY) == 1
    batch = partner.ingest(CUSTOMS)
    assert (batch["state"], batch["rows_published"], batch["problem"]) == ("published", 20, None)
    assert partner.quarantined(CUSTOMS) == []
    assert partner.raw(CUSTOMS) == stored(contract, bad)
