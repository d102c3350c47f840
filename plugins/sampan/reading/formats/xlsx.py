"""XLSX: one sheet of a workbook, measured before it is opened, because a few bytes can claim any number of cells."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.delivery import Delivery
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import Record, cell_text, csv_line

CELL_REFERENCE = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")


class Xlsx(Format):
    """The contract's sheet of a workbook, or the first. A record's line is the number of its row."""

    name = "xlsx"
    # zipfile decodes names by cp437.
    whole_file_readers = ("python_calamine", "encodings.cp437")

    def read_layout(self) -> Layout:
        """The layout of the header row; empty headers at its end are left out."""
        header = next(self._rows(), None)
        if header is None:
            raise self.delivery.problem(Code.DELIVERY_EMPTY, "the sheet is empty: it has no header row")
        number, cells = header
        headers = [str(cell).strip() for cell in cells]
        while headers and not headers[-1]:
            headers.pop()
        return match_headers(self.delivery, headers, first_line=number + 1, header_line=number)

    def records(self) -> Iterator[Record]:
        """Every row below the header that has a cell which is not empty."""
        width, cleaner, rows = len(self.layout.columns), self.cleaner, self._rows()
        next(rows, None)
        for number, row in rows:
            values = [cell_text(cell) for cell in row]
            if not any(values):
                continue
            if sum(len(value) for value in values if value) > limits.MAX_RECORD_BYTES:
                raise self.delivery.record_too_long("a row")
            if any(values[width:]):
                text = csv_line([value or "" for value in values])
                yield cleaner.unsplit(number, [Code.RECORD_TOO_MANY_FIELDS], text)
                continue
            values = (values + [None] * width)[:width]
            yield cleaner.record(number, values, [], None)

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Number and cells of each row, from the header row on."""
        import python_calamine

        archive = _measured(self.delivery, self.delivery.whole())
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(archive))
        sheets = book.sheet_names
        if not sheets:
            raise self.delivery.problem(Code.DELIVERY_SHEET_MISSING, "the workbook has no sheet")
        if self.source.sheet not in (None, *sheets):
            shown = ", ".join(map(self.delivery.shown_header, sheets))
            message = f"no sheet {self.source.sheet!r} in the workbook; its sheets: {shown}"
            raise self.delivery.problem(Code.DELIVERY_SHEET_MISSING, message)
        rows = book.get_sheet_by_name(self.source.sheet or sheets[0]).to_python(skip_empty_area=False)
        for number, row in enumerate(rows, 1):
            if number >= self.source.header_row:
                yield number, row


def _measured(delivery: Delivery, data: bytes) -> bytes:
    """The XML of a workbook in a new archive, so that only what was measured is read, even if the old one hides more.

    Raises PermanentFailure for a workbook that is a decompression bomb or spans too many cells.
    """
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # What is not read, as pictures are, must not make up for what is.
        read = [item for item in archive.infolist() if item.filename.lower().endswith((".xml", ".rels"))]
        packed = min(len(data), sum(item.compress_size for item in read))
        delivery.refuse_bomb(sum(item.file_size for item in read), packed)
        for item in read:
            members[item.filename] = archive.read(item)
    for content in members.values():
        width, height = _extent(content)
        cells = width * height
        if width > limits.MAX_SHEET_COLUMNS or height > limits.MAX_SHEET_ROWS or cells > limits.MAX_SHEET_CELLS:
            message = (
                f"a sheet spans {height:,} rows by {width:,} columns, empty cells included; the limit is"
                f" {limits.MAX_SHEET_CELLS:,} cells"
            )
            raise delivery.problem(Code.DELIVERY_TOO_LARGE, message)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as rewritten:
        for name, content in members.items():
            rewritten.writestr(name, content)
    return out.getvalue()


def _extent(content: bytes) -> tuple[int, int]:
    """Columns and rows that the cells of an XML document span, counted as calamine does."""
    width = height = row = column = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal width, height, row, column
        kind, place = name.rsplit(":", 1)[-1], attributes.get("r")
        if kind == "row":
            row, column = row + 1 if place is None else int(place), 0
        elif kind == "c":
            found = CELL_REFERENCE.fullmatch(place) if place is not None else None
            if place is not None and found is None:
                raise ValueError("not a cell reference")
            column = _column_number(found[1]) if found else column + 1
            height = max(height, int(found[2]) if found else 0)
        width, height = max(width, column), max(height, row)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.Parse(content, True)
    return width, height


def _column_number(letters: str) -> int:
    """Number of a workbook's column: A is 1, XFD 16,384."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number
