"""What the gate does with bad rows: every broken rule and the line, no good row lost, a ledger that adds up."""

from __future__ import annotations

import io
import json
import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampan.contracts import line_pattern
from sampan.contracts.registry import get_contract
from sampan.ingest import gate, land, ledger, load, quarantine
from sampan.reading import limits

from tests.factory import DAY, compress, encode, feeds, representative_feeds, rows, stored
from tests.integration.ingest.deliveries import (
    CSV,
    CUSTOMS,
    FILES,
    JSONL,
    MANY,
    TEXT,
    body_of,
    held_for,
    ingested,
    lines_of,
    name_of,
    parquet_of_text,
)


@pytest.mark.parametrize("feed", representative_feeds(TEXT))
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


@pytest.mark.parametrize("feed", representative_feeds(JSONL))
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


@pytest.mark.parametrize(
    "feed", representative_feeds(feeds(lambda c: c.source.format == "jsonl" and c.source.kind == "s3", least=3))
)
def test_the_batch_is_held_and_the_column_named_when_a_required_key_is_missing_in_every_object(feed, partner):
    contract, given = get_contract(feed), rows(feed, 5)
    column = next(c for c in contract.columns if c.required and not c.primary_key)
    batch = ingested(partner, feed, encode(contract, given, without=[column.name]))
    held_for(batch, "delivery.header_missing_column")
    assert batch["problem"]["column"] == column.name
    assert partner.quarantined(feed) == []


@pytest.mark.parametrize("feed", representative_feeds(CSV))
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


@pytest.mark.parametrize("feed", representative_feeds(JSONL))
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
    ("movement_date", "5874897-12-31", "movement_date.type"),
    ("movement_date", "9998-12-31", "movement_date.maximum"),
    ("lodged_at", "2026-07-06 25:00:00", "lodged_at.type"),
    ("lodged_at", "today 10:00", "lodged_at.type"),
    ("lodged_at", "10:00 yesterday", "lodged_at.type"),
    ("lodged_at", "infinity", "lodged_at.type"),
    ("value_hkd", '"1,234.50"', "value_hkd.type"),
    ("value_hkd", "NaN", "value_hkd.finite"),
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
    given = rows(CUSTOMS, 60)
    given[2] |= {"value_hkd": "-1.005", "hkhs_code": "8517130", "movement_date": "2026-02-30", "unit_code": "99"}
    lines = lines_of(CUSTOMS, given)
    ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    ((broken, record),) = partner.sampan.rows("select broken_rules, record from quarantine.record")
    assert {"value_hkd.minimum", "value_hkd.scale", "hkhs_code.pattern", "movement_date.type", "unit_code.enum"} <= set(
        broken
    )
    assert "movement_date.required" not in broken
    assert record == lines[3]


def test_gate_names_the_broken_columns_when_a_row_rule_cannot_be_computed(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 40)
    given[5] |= {"shipped_on": "9998-12-31", "credit_days": "2147483647"}
    batch = ingested(partner, feed, parquet_of_text(contract, given))
    assert batch["rows_published"] == 39, batch["problem"]
    ((_, broken),) = partner.quarantined(feed)
    assert {"shipped_on.maximum", "credit_days.maximum"} <= set(broken)


@pytest.mark.parametrize("feed", representative_feeds(FILES))
def test_gate_names_every_typed_column_when_it_holds_text(feed, partner):
    contract, given = get_contract(feed), rows(feed, 3)
    typed = [c for c in contract.stored if c.type != "text"]
    assert typed
    bad = [row | {c.name: "no such value" for c in typed} for row in given]
    if contract.source.format == "parquet":
        body = parquet_of_text(contract, bad)
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


@pytest.mark.parametrize("feed", representative_feeds(DATED))
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
    body = parquet_of_text(contract, given) if contract.source.format == "parquet" else encode(contract, given)
    batch = ingested(partner, feed, body)
    assert batch["rows_published"] == MANY - len(spoilt), batch["problem"]
    found = [broken for _, broken in partner.quarantined(feed)]
    for broken, (column, _) in zip(found, spoilt.values(), strict=True):
        assert f"{column.name}.type" in broken
    assert partner.raw(feed) == stored(contract, [row for place, row in enumerate(given) if place not in spoilt])


def test_gate_judges_what_parquet_types_hold_when_they_are_not_the_contracts(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract = get_contract(feed)
    given = [row | {"hs_code": f"8{row['hs_code'][1:]}"} for row in rows(feed, MANY)]
    # As a number, a code loses its leading zero.
    given[3] |= {"hs_code": "010121"}
    table = pq.read_table(io.BytesIO(encode(contract, given)))
    for name, kind in {"credit_days": pa.float64(), "invoice_value_hkd": pa.float64(), "shipped_on": pa.timestamp("us"),
                       "hs_code": pa.int64()}.items():  # fmt: skip
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    out = io.BytesIO()
    pq.write_table(table, out)
    ingested(partner, feed, out.getvalue())
    assert partner.quarantined(feed) == [(4, ["hs_code.pattern"])]
    assert partner.raw(feed) == stored(contract, given[:3] + given[4:])


def test_gate_checks_every_rule_when_the_contract_has_become_stricter_since_load(partner, sampan, monkeypatch):
    contract = get_contract(CUSTOMS)
    partner.hands_over(CUSTOMS, DAY, rows(CUSTOMS, 25))
    land.run(CUSTOMS)
    load.run(CUSTOMS)
    assert sampan.batch(CUSTOMS)["proven_rules_sha256"] == line_pattern.proven_rules_sha256(contract)
    form = contract.column("form_type")
    columns = tuple(replace(c, enum=("1",)) if c is form else c for c in contract.columns)
    stricter = replace(contract, columns=columns, budget=1.0)
    monkeypatch.setattr(ledger, "get_contract", lambda feed: stricter)
    gate.run(CUSTOMS)
    broken = sampan.rows("select distinct broken_rules from quarantine.record")
    assert broken == [(["form_type.enum"],)]


def test_the_memory_of_the_gate_does_not_grow_with_the_rows_that_break_a_rule(partner, monkeypatch):
    """One delivery whose rows all break rules takes memory for each of them (H8)."""
    monkeypatch.setattr(gate, "BROKEN_ROWS_AT_ONCE", 500)
    peaks = {}
    for count in (600, 600, 12_000):
        given = rows(CUSTOMS, count, seed=len(peaks) + count)
        # Half of them break a rule of their own, half contradict each other.
        for place, row in enumerate(given):
            row["value_hkd"] = "-1" if place % 2 else str(place)
            if place % 2 == 0:
                row |= {name: given[place - place % 4][name] for name in get_contract(CUSTOMS).key}
        partner.hands_over(CUSTOMS, DAY, given, f"part_{len(peaks)}_{count}")
        for step in (land, load):
            step.run(CUSTOMS)
        tracemalloc.start()
        gate.run(CUSTOMS)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    batch = partner.sampan.batch(CUSTOMS)
    kept = "select count(*), count(distinct line) from quarantine.record where batch_id = %s"
    assert (batch["state"], partner.sampan.rows(kept, batch["batch_id"])) == ("held", [(12_000, 12_000)])
    # Some blocks of lines; 600 rows do not fill one.
    assert peaks[12_000] - peaks[600] < 6 * limits.LARGEST_BLOCK_BYTES
