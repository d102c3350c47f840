"""Files of corrected rows that stewards upload: read as strictly as a delivery, within bounds of memory and time.

Personal data is not read: a person's number in a file becomes a word, and the file is refused for it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date
from itertools import islice

from sampan.contracts.model import Bounds, Column, Contract, Source
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest.quarantine import ID, RULES
from sampan.reading.reader import REPLAYED, Reader
from sampan.reading.record import Record
from sampan.reading.shown import HIDING, shown

MOST_BYTES, MOST_ROWS = 4_000_000, 5_000
# Of a workbook or a text of at most MOST_BYTES.
BOUNDS = Bounds(max_bytes=40_000_000, max_memory_bytes=1 << 29, max_seconds=20)
ZIP = b"PK\x03\x04"
MOST_SHOWN = 20
Row = dict[str, str | None]


def read(contract: Contract, file: str, body: bytes) -> list[Row]:
    """Rows of an uploaded file, CSV in UTF-8 or XLSX: the id in quarantine and the columns of the contract, as text.

    Raises PermanentFailure that names file, line and column of what is wrong.
    """
    name = _shown_name(file)
    if len(body) > MOST_BYTES:
        raise _refused(Code.DELIVERY_TOO_LARGE, f"the file is larger than {MOST_BYTES:,} bytes", name)
    form = "xlsx" if body.startswith(ZIP) else "csv"
    reader = Reader(_asked(contract, form), lambda: io.BytesIO(body), date.today(), name, HIDING)  # noqa: DTZ011
    names = [column.name for column in reader.layout.stored]
    rows: list[Row] = []
    problems: list[str] = []
    ids: set[str] = set()
    for record in reader.records():
        row = dict(zip(names, record.fields, strict=True))
        key = row.get(ID) or ""
        if record.broken:
            problems.append(f"line {record.line}: {', '.join(record.broken)}")
        elif not (key.isascii() and key.isdigit() and len(key) <= 18):
            problems.append(f"line {record.line}: {ID} is not a number")
        elif key in ids:
            problems.append(f"line {record.line}: duplicate {ID} {key}")
        ids.add(key)
        rows.append({column: value for column, value in row.items() if column != RULES})
        if len(rows) > MOST_ROWS:
            raise _refused(Code.DELIVERY_TOO_LARGE, f"more than {MOST_ROWS:,} rows: send them in parts", name)
    if problems:
        left = len(problems) - MOST_SHOWN
        more = [f"and {left:,} more lines"] if left > 0 else []
        raise _refused(Code.QUARANTINE_UNREADABLE, "; ".join([*problems[:MOST_SHOWN], *more]), name)
    return rows


def read_delivery(contract: Contract, day: date, file: str, body: bytes) -> tuple[list[Record], list[str], bool]:
    """Records of a file as it would be delivered for a day, the names of their fields, and whether these are all of them.

    Raises PermanentFailure where the contract does not accept the file. A person's number becomes a word.
    """
    if len(body) > MOST_BYTES:
        raise _refused(Code.DELIVERY_TOO_LARGE, f"the file is larger than {MOST_BYTES:,} bytes", _shown_name(file))
    asked = replace(contract, source=replace(contract.source, bounds=BOUNDS))
    reader = Reader(asked, lambda: io.BytesIO(body), day, _shown_name(file), HIDING)
    names = [column.name for column in reader.layout.stored]
    records = list(islice(reader.records(), MOST_ROWS + 1))
    return records[:MOST_ROWS], names, len(records) <= MOST_ROWS


def personal_data(column: Column, value: str, before: str | None) -> bool:
    """Whether a corrected value may be personal data, which the desk does not take; `before` is the value as exported."""
    if value == before:
        return False
    return column.wholly_personal or "[HKID]" in value or HIDING.clean(column, value) != value


def _asked(contract: Contract, form: str) -> Contract:
    """The contract of a file of corrected rows."""
    # Values of columns that are wholly personal come back as the tokens that they were exported as.
    columns = [
        replace(c, source_name=c.name, personal="none" if c.wholly_personal else c.personal) for c in contract.stored
    ]
    own = [replace(REPLAYED, personal="none", logical_type="string", required=True), Column(RULES, RULES, "string", "")]
    kept = [replace(column, required=False) for column in columns]
    source = Source("s3", "upload", form, encoding="utf-8-sig", bounds=BOUNDS)
    return replace(contract, columns=(*own, *kept), source=source, drift="fail", aliases=())


def _shown_name(file: str) -> str:
    return shown(file.replace("\\", "/").rsplit("/", 1)[-1])[:100] or "file"


def _refused(code: Code, message: str, file: str) -> PermanentFailure:
    return PermanentFailure(Problem(code, message, file))
