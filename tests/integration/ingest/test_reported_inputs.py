"""Deliveries as users of other platforms reported them: each was read as something else than was written, by somebody.

The kind of fault is said by each test. All data is synthetic.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import quarantine

from tests.factory import Row, compress, feeds, rows, stored
from tests.integration.ingest.deliveries import CUSTOMS, body_of, held_for, ingested, lines_of

ORDERS, MARKS, POLICIES, GALLERY = "platform_orders", "quality_marks", "hkecic_policies", "design_gallery_sales"
SHIPMENTS, EPAYMENTS = "hkecic_shipments", "epayment_summaries"
MANY = 60


def spoilt(partner, feed: str, values: dict[str, str], count: int = MANY) -> tuple[list[str], list[Row]]:
    """Rules that the third row of a text delivery breaks when these columns hold these values; and what is published."""
    given = rows(feed, count)
    marks = {name: f"@{place}@" for place, name in enumerate(values)}
    lines = lines_of(feed, [row | marks if place == 2 else row for place, row in enumerate(given)])
    for name, mark in marks.items():
        lines = [line.replace(mark, values[name]) for line in lines]
    batch = ingested(partner, feed, body_of(feed, lines))
    assert batch["state"] == "published", batch["problem"]
    first = 1 + (get_contract(feed).source.format == "csv")
    found = dict(partner.quarantined(feed))
    assert found.keys() <= {2 + first}
    return found.get(2 + first, []), partner.raw(feed)


@pytest.mark.parametrize(
    "text",
    ["2026-07-06 10:00:00 UTC+8", "2026-07-06 10:00:00 GMT+08:00", "Mon Jul 06 09:00:00 CST 2026", "1783300101", "150726",
     "06-JUL-26 09:00:00", "26-07-06 09:00:00", "178782-01-01 09:00:00", "2026-07-06 09:00 IST", "2026-07-06 25:61"],
)  # fmt: skip
@pytest.mark.parametrize(("feed", "column"), [(CUSTOMS, "lodged_at"), (ORDERS, "paid_at")])
def test_a_time_is_quarantined_when_it_means_another_one_elsewhere(feed, column, text, partner):
    """A value with more than one meaning: names of zones, years of two digits, seconds since 1970."""
    broken, _ = spoilt(partner, feed, {column: text})
    assert f"{column}.type" in broken


@pytest.mark.parametrize("text", ["15/07/26", "15-JUL-26", "150726", "26-07-15", "07/15/2026", "2026-196", "J2461237"])
def test_a_date_is_quarantined_when_its_year_has_not_four_digits_or_its_order_is_not_known(text, partner):
    broken, _ = spoilt(partner, CUSTOMS, {"movement_date": text})
    assert broken == ["movement_date.type"]


@pytest.mark.parametrize(
    ("column", "text"), [("packages", "0x1F"), ("quantity", "1_000"), ("packages", "0b11"), ("packages", "0o17")]
)
def test_a_number_is_quarantined_when_it_is_written_as_programmers_do(column, text, partner):
    broken, _ = spoilt(partner, CUSTOMS, {column: text})
    assert f"{column}.type" in broken


def test_decimals_count_only_where_they_are_not_zero(partner):
    """Money of SQL Server and Spark: 2215.0000 has no more than two decimals that count."""
    given = rows(CUSTOMS, MANY)
    lines = lines_of(CUSTOMS, [row | {"value_hkd": "2215.0000"} for row in given])
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    assert (batch["rows_published"], batch["rows_quarantined"]) == (MANY, 0)
    broken, _ = spoilt(partner, ORDERS, {"payment_cny": "922150.001"})
    assert broken == ["payment_cny.scale"]


def test_equal_amounts_are_duplicates_however_they_are_written(partner):
    """100 and 100.00 are one amount: rows are compared as values, not as text."""
    given = rows(CUSTOMS, MANY)
    first = given[3] | {"value_hkd": "100"}
    lines = lines_of(CUSTOMS, [*given[:3], first, *given[4:], first | {"value_hkd": "100.00"}])
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    assert (batch["rows_published"], batch["rows_quarantined"], batch["rows_duplicate"]) == (MANY, 0, 1)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_two_lines_are_quarantined_when_stray_quotes_make_one_record_of_them(partner):
    given = rows(CUSTOMS, MANY)
    given[3] |= {"goods_description": "@1@"}
    given[4] |= {"goods_description": "@2@"}
    lines = [line.replace("@1@", '"Synthetic goods').replace("@2@", 'TV 15"') for line in lines_of(CUSTOMS, given)]
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    assert batch["rows_in"] == MANY
    assert partner.quarantined(CUSTOMS) == [(5, ["record.unclosed_quote"]), (6, ["record.unclosed_quote"])]
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), [*given[:3], *given[5:]])


def test_a_row_is_published_when_an_inch_mark_stands_in_it_alone(partner):
    given = rows(CUSTOMS, MANY)
    given[4] |= {"goods_description": "@2@"}
    lines = [line.replace("@2@", 'TV 15"') for line in lines_of(CUSTOMS, given)]
    assert ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))["rows_published"] == MANY
    given[4] |= {"goods_description": 'TV 15"'}
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), given)


@pytest.mark.parametrize("count", [2, 60, 400])
def test_a_quoted_field_is_read_when_it_has_many_lines(count, partner):
    given = rows(CUSTOMS, MANY)
    given[3] |= {"goods_description": "\n".join(["x"] * count)[:500]}
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, "\n".join(lines_of(CUSTOMS, given)).split("\n")))
    assert (batch["rows_published"], batch["rows_quarantined"]) == (MANY, 0)
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), given)


@pytest.mark.parametrize("end", ["\r\r\n", "\r\n"])
def test_values_are_the_same_when_lines_end_with_more_than_a_line_feed(end, partner):
    given = rows(EPAYMENTS, MANY)
    batch = ingested(partner, EPAYMENTS, body_of(EPAYMENTS, lines_of(EPAYMENTS, given), end))
    assert batch["rows_published"] == MANY
    assert partner.raw(EPAYMENTS) == stored(get_contract(EPAYMENTS), given)


@pytest.mark.parametrize("columns", [0, 1, 3])
def test_empty_columns_and_rows_of_a_spreadsheet_are_ignored_in_csv(columns, partner):
    given = rows(CUSTOMS, MANY)
    width = len(get_contract(CUSTOMS).columns)
    lines = [*lines_of(CUSTOMS, given), *["," * (width - 1)] * 200]
    batch = ingested(partner, CUSTOMS, body_of(CUSTOMS, [line + "," * columns for line in lines]))
    assert (batch["rows_in"], batch["rows_published"], batch["rows_quarantined"]) == (MANY, MANY, 0), batch["problem"]
    assert partner.sampan.rows("select * from ops.drift") == []
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), given)


def test_a_value_under_no_header_is_quarantined(partner):
    given = rows(CUSTOMS, MANY)
    lines = [line + ("," if place != 5 else ",lost") for place, line in enumerate(lines_of(CUSTOMS, given))]
    ingested(partner, CUSTOMS, body_of(CUSTOMS, lines))
    assert partner.quarantined(CUSTOMS) == [(6, ["record.too_many_fields"])]


@pytest.mark.parametrize(
    "line", [lambda text: text.encode(), lambda text: text.encode("gb18030").replace(b"\xb2\xe8", b"\xaa\xa1")],
    ids=["utf-8", "private use"],
)  # fmt: skip
def test_a_line_of_gb18030_is_quarantined_when_its_bytes_are_no_text_that_anybody_wrote(line, partner):
    """Bytes that come out even in another encoding, and characters that no font shows."""
    given = rows(GALLERY, MANY)
    given[4] |= {"item_name": "\u9f99\u4e95\u7eff\u8336"}
    body = [text.encode("gb18030") for text in lines_of(GALLERY, given)]
    body[5] = line(lines_of(GALLERY, given)[5])
    batch = ingested(partner, GALLERY, compress(get_contract(GALLERY), b"\n".join(body) + b"\n"))
    assert batch["rows_published"] == MANY - 1
    assert partner.quarantined(GALLERY) == [(6, ["record.encoding"])]


# --- JSON Lines and Parquet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace('"payment": ', '"payment": 1.00, "payment": '),
        lambda line: line.replace('"payment": ', '"payment"\t: 1.00, "payment": '),
        lambda line: line.replace('"buyer_nick": ', '"buyer_nick": "x", "buyer_nick": '),
        lambda line: line.replace("{", '{"payment":1.00,'),
    ],
    ids=["stored", "odd blanks", "dropped", "first"],
)
def test_an_object_is_quarantined_when_a_key_is_there_twice(change: Callable[[str], str], partner):
    """Which of two values is right is not known."""
    given = rows(ORDERS, MANY)
    lines = [change(line) if place == 4 else line for place, line in enumerate(lines_of(ORDERS, given))]
    batch = ingested(partner, ORDERS, body_of(ORDERS, lines))
    assert batch["rows_published"] == MANY - 1
    assert partner.quarantined(ORDERS) == [(5, ["record.duplicate_key"])]


@pytest.mark.parametrize("value", [{"zh": "\u8336", "n": 1}, ["x"], [], {}])
def test_a_list_or_an_object_is_no_text(value, partner):
    given = rows(ORDERS, MANY)
    lines = lines_of(ORDERS, [row | {"title": "@@"} if place == 2 else row for place, row in enumerate(given)])
    batch = ingested(partner, ORDERS, body_of(ORDERS, [line.replace('"@@"', json.dumps(value)) for line in lines]))
    assert batch["rows_published"] == MANY - 1
    assert partner.quarantined(ORDERS)[-1] == (3, ["title.type"])


def test_a_list_in_a_parquet_column_is_no_text(partner):
    (feed,) = feeds(lambda c: c.source.format == "parquet")
    contract, given = get_contract(feed), rows(feed, 3)
    name = next(c for c in contract.stored if c.type == "text" and not c.primary_key).source_name
    columns = {c.source_name: pa.array([row[c.name] for row in given], pa.string()) for c in contract.columns}
    columns[name], out = pa.array([["x"], ["y"], None]), io.BytesIO()
    pq.write_table(pa.table(columns), out)
    ingested(partner, feed, out.getvalue())
    column = next(c.name for c in contract.stored if c.source_name == name)
    assert [f"{column}.type" in broken for _, broken in partner.quarantined(feed)][:2] == [True, True]


def test_a_time_of_spark_is_shown_as_the_one_that_the_file_holds(partner):
    """A value that a library cannot hold becomes another one: 9999-12-31 in nanoseconds is a day of 1816."""
    contract, given = get_contract(SHIPMENTS), rows(SHIPMENTS, MANY)
    columns = {c.source_name: pa.array([row[c.name] for row in given], pa.string()) for c in contract.columns}
    column, out = contract.column("overdue_reported_on"), io.BytesIO()
    far = pa.array([253402214400 if place == 2 else None for place in range(MANY)], pa.int64())
    columns[column.source_name] = far.cast(pa.timestamp("s"))
    pq.write_table(pa.table(columns), out, use_deprecated_int96_timestamps=True, coerce_timestamps=None)
    ingested(partner, SHIPMENTS, out.getvalue())
    (entry,) = quarantine.entries(SHIPMENTS)
    assert (entry.fields or {})["overdue_reported_on"].startswith("9999-12-31")


# --- workbooks --------------------------------------------------------------------------------------------------------


def workbook(given: list[Row], change: Callable[[Any, int, int], None] | None = None, second: int = 0) -> bytes:
    """A workbook of policies, `second` of them on another sheet.

    `change` is given the first sheet, the row of the third policy and the column of the premium rate, from 0.
    """
    import xlsxwriter

    contract, out = get_contract(POLICIES), io.BytesIO()
    header = contract.source.header_row - 1
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        for number, some in enumerate([given[second:], given[:second]] if second else [given]):
            sheet = book.add_worksheet(f"{contract.source.sheet}{' (2)' if number else ''}")
            sheet.write_row(header, 0, [c.source_name for c in contract.columns])
            for place, row in enumerate(some, header + 1):
                sheet.write_row(place, 0, [row[c.name] for c in contract.columns])
            if change and not number:
                change(sheet, header + 3, [c.name for c in contract.columns].index("premium_rate_pct"))
    return out.getvalue()


THIRD = get_contract(POLICIES).source.header_row + 3


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#DIV/0!", "#VALUE!"])
def test_a_cell_with_an_error_is_quarantined_with_the_error(error, partner):
    """A value that is not known is not null."""
    body = workbook(
        rows(POLICIES, MANY), lambda sheet, row, column: sheet.write_formula(row, column, "=1/0", None, error)
    )
    batch = ingested(partner, POLICIES, body)
    assert batch["rows_published"] == MANY - 1, batch["problem"]
    (entry,) = quarantine.entries(POLICIES)
    assert (entry.line, entry.broken_rules) == (THIRD, ["premium_rate_pct.type"])
    assert (entry.fields or {})["premium_rate_pct"] == error


@pytest.mark.parametrize("value", ["", "<v></v>", "<v/>"])
def test_a_formula_without_a_value_is_quarantined(value, partner):
    """As libraries write one that cannot calculate it."""
    body = workbook(
        rows(POLICIES, MANY), lambda sheet, row, column: sheet.write_formula(row, column, "=0.1+0.2", None, 7)
    )
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(changed, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            new.writestr(item, data.replace(b"</f><v>7</v>", f"</f>{value}".encode()))
    batch = ingested(partner, POLICIES, changed.getvalue())
    assert batch["rows_published"] == MANY - 1, batch["problem"]
    assert partner.quarantined(POLICIES) == [(THIRD, ["premium_rate_pct.type"])]


def test_cells_are_quarantined_when_they_are_merged_with_another_one(partner):
    body = workbook(
        rows(POLICIES, MANY), lambda sheet, row, column: sheet.merge_range(row, column, row + 2, column, "0.5")
    )
    batch = ingested(partner, POLICIES, body)
    assert batch["rows_published"] == MANY - 2, batch["problem"]
    assert partner.quarantined(POLICIES) == [(THIRD + more, ["premium_rate_pct.type"]) for more in (1, 2)]


def test_a_workbook_is_held_when_rows_are_on_a_second_sheet(partner):
    batch = ingested(partner, POLICIES, workbook(rows(POLICIES, MANY), second=10))
    held_for(batch, "delivery.sheet_second")
    assert "10 rows" in batch["problem"]["message"]
