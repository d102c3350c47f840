"""XLSX: sheets, and workbooks that lie about themselves."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable

import pytest
from sampan.contracts.model import Source
from sampan.errors import PermanentFailure

from tests.unit.reading.deliveries import both_refuse, column, contract_for, in_blocks, reader

XLSX = contract_for(Source("s3", "x", "xlsx"), [column("a", required=True), column("b", "date")])
SHEET = "xl/worksheets/sheet1.xml"


def workbook(changes: dict[str, Callable[[bytes], bytes]] | None = None, rename: tuple[str, str] = ("", "")) -> bytes:
    """A workbook of two columns and one record, some of its members changed or renamed."""
    import xlsxwriter

    out, changed = io.BytesIO(), io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet("CHAN A123456(3)")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, ["x", "2026-07-06"])
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = (changes or {}).get(item.filename, bytes)(old.read(item))
            new.writestr(rename[1] if item.filename == rename[0] else item.filename, data)
    return changed.getvalue()


def test_a_workbook_is_read_when_its_archive_was_rewritten():
    assert [record.fields for record in reader(XLSX, workbook()).records()] == [["x", "2026-07-06"]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'r="B2"', b'r ="XFD100000"'),
        (b'r="B2"', b"r='XFD100000'"),
        (b'r="B2"', b'r="XFD100000"'),
        (b'r="B2"', b'r="B1048577"'),
        (b'<row r="2"', b'<row r="1048577"'),
        (b'r="B2"', b'r="A99999999999"'),
        (b'r="B2"', b'r="ZZZZZZZZZ9"'),
        (b'r="B2"', b'r="XFE2"'),
        (b'<row r="2"', b'<row r="99999999999"'),
        (b"</sheetData>", b"<row/>" * 1_100_000 + b"<row><c><v>1</v></c></row></sheetData>"),
        (b"</sheetData>", b"<row>" + b"<c/>" * 20_000 + b"<c><v>1</v></c></row></sheetData>"),
    ],
    ids=[
        "blank",
        "quotes",
        "plain",
        "plain row",
        "plain row of rows",
        "row",
        "letters",
        "column",
        "row of rows",
        "rows without reference",
        "cells without reference",
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_workbook_is_refused_before_it_is_opened_when_a_cell_lies_far_away(old, new, elsewhere):
    def far(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    def target(data: bytes) -> bytes:
        return data.replace(b"worksheets/sheet1.xml", b"elsewhere.xml")

    changes = {SHEET: far} | ({"xl/_rels/workbook.xml.rels": target} if elsewhere else {})
    body = workbook(changes, (SHEET, "xl/elsewhere.xml") if elsewhere else ("", ""))
    assert both_refuse(XLSX, body) in ("delivery.too_large", "delivery.corrupt")


def test_a_workbook_shows_no_number_of_a_person_when_its_sheet_is_named_by_one():
    contract = contract_for(Source("s3", "x", "xlsx", sheet="Sales"), [column("a")])
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract, workbook()).layout
    assert failure.value.problem.rule == "delivery.sheet_missing"
    assert "A123456" not in str(failure.value.problem)
    assert "CHAN" in str(failure.value.problem)


def test_a_workbook_is_refused_when_it_has_no_sheet_at_all():
    body = workbook({"xl/workbook.xml": lambda data: re.sub(b"<sheets>.*</sheets>", b"<sheets/>", data)})
    assert both_refuse(XLSX, body) == "delivery.sheet_missing"


def test_a_workbook_is_read_or_refused_when_any_of_its_bytes_is_another():
    body, chance = bytearray(workbook()), random.Random(5)
    refused = 0
    for _ in range(60):
        place, bit = chance.randrange(len(body)), 1 << chance.randrange(8)
        body[place] ^= bit
        try:
            list(reader(XLSX, bytes(body)).records())
        except PermanentFailure:
            refused += 1
        body[place] ^= bit
    assert refused > 10


B2, FORMULA = b'<c r="B2" t="str"><v>2026-07-06</v></c>', "[formula without a value]"
CELL = b'<c r="A2" t="str"><v>x</v></c>' + B2


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (b'<row r="2">' + CELL + b"</row>", [(2, ["x", "2026-07-06"], [])]),
        (b"<row>" + CELL + b"</row>", [(2, ["x", "2026-07-06"], [])]),
        (b'<row r="2"><c r="A2" t="inlineStr"><is><t>x&amp;y</t></is></c></row>', [(2, ["x&y", None], [])]),
        (b'<row r="2"><c r="A2" t="e"><v>#N/A</v></c></row>', [(2, ["#N/A", None], ["a.type"])]),
        (b'<row r="2"><c r="A2" t="str"><v>x</v></c><c r="B2" t="e"><v>#REF!</v></c></row>', [(2, ["x", "#REF!"], [])]),
        (b'<row r="2"><c r="A2"><f>1/0</f></c>' + B2 + b"</row>", [(2, [FORMULA, "2026-07-06"], ["a.type"])]),
        (b'<row r="3"/><row><c t="e"><v>#N/A</v></c></row>', [(4, ["#N/A", None], ["a.type"])]),
        (
            b'<row r="2">' + CELL + b'</row><row><c><f>1/0</f></c><c t="str"><v>z</v></c></row>',
            [(2, ["x", "2026-07-06"], []), (3, [FORMULA, "z"], ["a.type"])],
        ),
        (
            b'<row r="2"><c r="A2"><f>1/0</f></c>' + B2 + b'</row><row r="3"><c r="A3" t="e"><v>#N/A</v></c></row>'
            b'<row r="4"><c r="A4" t="str"><v>y</v></c></row>',
            [
                (2, [FORMULA, "2026-07-06"], ["a.type"]),
                (3, ["#N/A", None], ["a.type"]),
                (4, ["y", None], []),
            ],
        ),
    ],
    ids=[
        "plain", "no number", "entity", "error", "error behind a text", "formula", "row without a number",
        "formula behind plain", "plain behind others",
    ],
)  # fmt: skip
def test_a_workbook_gives_what_its_cells_say_when_some_rows_are_plain_and_others_not(row, found):
    """Kind of fault: rows that are passed over move the places of errors and formulas behind them."""
    body = workbook({SHEET: lambda data: re.sub(rb'<row r="2".*?</row>', row, data)})
    assert [(r.line, r.fields, r.broken) for r in reader(XLSX, body).records()] == found
    assert in_blocks(XLSX, body) == found


@pytest.mark.parametrize("text", [b"&undefined;", b"\x01", b"]]>", b"<", b"\xff"], ids=repr)
def test_a_workbook_is_refused_when_its_xml_is_not_sound(text):
    row = b'<row r="2"><c r="A2" t="str"><v>x' + text + b"</v></c></row>"
    body = workbook({SHEET: lambda data: re.sub(rb'<row r="2".*?</row>', lambda _: row, data)})
    assert both_refuse(XLSX, body) == "delivery.corrupt"


@pytest.mark.parametrize("number", [b"1e999999", b"-1E400", b"NaN", b"123456789012345678", b"-9007199254740993"])
def test_a_number_that_is_read_as_another_one_is_no_value(number):
    """Kind of fault: what cannot be known becomes a value. 1e999999 was `inf`, and of 18 digits the last ones were others."""
    cell = b'<row r="2"><c r="A2"><v>%s</v></c>' % number + B2 + b"</row>"
    body = workbook({SHEET: lambda data: re.sub(rb'<row r="2".*?</row>', cell, data)})
    found = [(2, ["[number out of range]", "2026-07-06"], ["a.type"])]
    assert [(r.line, r.fields, r.broken) for r in reader(XLSX, body).records()] == found
    assert in_blocks(XLSX, body) == found


def test_a_number_is_read_as_it_is_when_it_is_large():
    cell = b'<row r="2"><c r="A2"><v>999999999999999</v></c>' + B2 + b"</row>"
    body = workbook({SHEET: lambda data: re.sub(rb'<row r="2".*?</row>', cell, data)})
    assert [r.fields for r in reader(XLSX, body).records()] == [["999999999999999", "2026-07-06"]]
    assert in_blocks(XLSX, body) == [(2, ["999999999999999", "2026-07-06"], [])]
