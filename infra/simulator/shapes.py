"""Tables as bytes in the shape that a contract names: format, headings, encoding, compression."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
from sampan.contracts.model import Column, Contract

LABEL = "SYNTHETIC DATA of a simulated partner: no real enterprise or person"
TEXT_FORMATS = ("csv", "jsonl", "fixed")
# Partners that work on Windows end their lines so.
CRLF = ("business_register", "hkecic_claims", "csd_bulk_hsccit", "csd_bulk_hscoit", "csd_bulk_hscoccit")


def headings(contract: Contract, day: date) -> dict[str, str]:
    """Heading that a delivery of a day uses, by heading of the contract: a partner follows its announced renamings."""
    aliases = {alias.column: alias.source_name for alias in contract.aliases if alias.since <= day}
    return {column.source_name: aliases.get(column.name, column.source_name) for column in contract.columns}


def first_line(contract: Contract) -> int:
    """Line of the first record in a delivery."""
    return {"csv": 2, "jsonl": 1, "fixed": 1, "parquet": 1, "xlsx": contract.source.header_row + 1}[
        contract.source.format
    ]


def lines_of(contract: Contract, frame: pl.DataFrame) -> list[bytes]:
    """Each row as one line of a text format, UTF-8, without line end."""
    if not len(frame):
        return []
    if contract.source.format == "fixed":
        return [line_of(contract, row) for row in frame.to_dicts()]
    if contract.source.format == "csv":
        text = frame.write_csv(include_header=False, float_precision=2)
    else:
        text = frame.write_ndjson()
    return text.encode().rstrip(b"\n").split(b"\n")


def parse(contract: Contract, names: Sequence[str], line: bytes) -> dict[str, Any]:
    """A line of a text format as values by heading; an empty CSV field is None."""
    if contract.source.format == "jsonl":
        return dict(json.loads(line))
    if contract.source.format == "fixed":
        spans = ((c.start or 1) - 1 for c in contract.columns)
        fields = (line[begin : begin + (c.length or 0)] for begin, c in zip(spans, contract.columns, strict=True))
        return {name: field.decode().strip() or None for name, field in zip(names, fields, strict=True)}
    (values,) = csv.reader([line.decode()])
    return {name: value or None for name, value in zip(names, values, strict=True)}


def line_of(contract: Contract, row: dict[str, Any]) -> bytes:
    """Values by heading as a line of a text format."""
    if contract.source.format == "jsonl":
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    if contract.source.format == "fixed":
        return b"".join(map(_fixed, contract.columns, row.values()))
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(["" if value is None else value for value in row.values()])
    return buffer.getvalue().encode()


def _fixed(column: Column, value: Any) -> bytes:
    """A field of a fixed-width record: numbers filled with zeros, text with blanks."""
    text, width = "" if value is None else str(value), column.length or 0
    return (text.zfill(width) if text.isdigit() and column.type == "numeric" else text.ljust(width)).encode()


def text_bytes(contract: Contract, names: Sequence[str], lines: list[bytes]) -> bytes:
    """Lines put together, with a header where the format has one, encoded and compressed."""
    end = b"\r\n" if contract.feed in CRLF else b"\n"
    if contract.source.format == "csv":
        lines = [line_of(contract, dict(zip(names, names, strict=True))), *lines]
    # Nothing to tell is an empty line: 0 bytes look like an upload that failed.
    body = b"".join([end.join(lines), end])
    return compressed(contract, encoded(contract, body))


def encoded(contract: Contract, body: bytes) -> bytes:
    """UTF-8 bytes in the contract's encoding; a byte 0xFF, which represents a broken character, stays as it is."""
    encoding = contract.source.encoding
    if encoding == "utf-8":
        return body
    if encoding == "utf-8-sig":
        return b"\xef\xbb\xbf" + body
    return b"\xff".join(part.decode().encode(encoding) for part in body.split(b"\xff"))


def compressed(contract: Contract, body: bytes) -> bytes:
    """Bytes compressed as the contract says, the same each time."""
    if contract.source.compression == "gzip":
        from isal import igzip

        return bytes(igzip.compress(body, 1, mtime=0))
    if contract.source.compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compress(body)
    return body


def typed_bytes(contract: Contract, rows: list[dict[str, Any]], names: Sequence[str], schema: dict[str, Any]) -> bytes:
    """Rows of typed values by heading as XLSX or Parquet."""
    return _xlsx(contract, rows, names) if contract.source.format == "xlsx" else _parquet(contract, rows, names, schema)


def _xlsx(contract: Contract, rows: list[dict[str, Any]], names: Sequence[str]) -> bytes:
    import xlsxwriter

    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd"}) as book:
        book.set_properties({"title": contract.title, "comments": LABEL, "created": datetime(2026, 1, 1, tzinfo=UTC)})
        sheet = book.add_worksheet(contract.source.sheet)
        sheet.write(0, 0, contract.title)
        sheet.write(1, 0, LABEL)
        top = contract.source.header_row - 1
        sheet.write_row(top, 0, list(names))
        for offset, row in enumerate(rows, 1):
            for position, value in enumerate(row.values()):
                if value is not None:
                    sheet.write(top + offset, position, value)
    return buffer.getvalue()


def _parquet(contract: Contract, rows: list[dict[str, Any]], names: Sequence[str], schema: dict[str, Any]) -> bytes:
    import pyarrow.parquet as pq

    frame = pl.DataFrame(rows, schema={name: schema.get(name, pl.String) for name in names}, orient="row")
    money = [pl.col(name).cast(pl.Decimal(18, 2)) for name, kind in frame.schema.items() if kind == pl.Float64]
    table = frame.with_columns(money).to_arrow()
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"synthetic": LABEL}), buffer, compression="zstd")
    return buffer.getvalue()


def file_name(feed: str, day: date, suffix: str = "") -> str:
    """A name such as the partner gives its files."""
    compact = day.strftime("%Y%m%d")
    pattern = {
        "customs_declarations": f"TDEC_{compact}_001{suffix}.csv.gz",
        "business_register": f"br_extract_{compact}{suffix}.csv",
        "funding_applications": f"bud_emf_status_{compact}{suffix}.jsonl",
        "funding_payments": f"disbursement-{compact}{suffix}.jsonl",
        "hkecic_policies": f"Policies {day.strftime('%d %b %Y')}{suffix}.xlsx",
        "hkecic_shipments": f"shipments_{day}{suffix}.parquet",
        "hkecic_claims": f"賠案_{compact}{suffix}.csv",
        "festival_participants": f"香港好物节_参展商户_{compact}{suffix}.csv",
        "csd_bulk_hsccit": f"HSCCIT{suffix}.DAT",
        "csd_bulk_hscoit": f"HSCOIT{suffix}.DAT",
        "csd_bulk_hscoccit": f"HSCOCCIT{suffix}.DAT",
        "design_gallery_sales": f"设计廊销售_{compact}{suffix}.csv",
        "trade_missions": f"Participants as at {day.strftime('%d %b %Y')}{suffix}.xlsx",
        "platform_traffic": f"traffic.{compact}{suffix}.csv.gz",
        "quality_marks": f"marks_{compact}{suffix}.csv",
        "cdi_consents": f"consents_{compact}{suffix}.jsonl",
        "cdi_financing_requests": f"financing-requests_{compact}{suffix}.jsonl",
        "epayment_summaries": f"epayment_{compact}{suffix}.csv",
        "credit_reference_checks": f"cbcr_checks_{compact}{suffix}.jsonl",
        "platform_orders": f"orders.{compact}{suffix}.jsonl.zst",
    }
    return pattern[feed]
