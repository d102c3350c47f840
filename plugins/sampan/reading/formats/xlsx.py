"""XLSX: one sheet of a workbook, measured before it is opened, because a few bytes can claim any number of cells."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from xml.parsers import expat

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.chunk import Chunk, Found
from sampan.reading.delivery import Delivery
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import cell_text, csv_line
from sampan.reading.sieve import compiled, line_ends
from sampan.reading.written import ARROW, Written, use_no_pool, written

CELL_REFERENCE = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")
ROWS_AT_ONCE = 2000
# A text of XML that needs no parser to be told from markup.
_TEXT = rb"(?:[^<>&\x00-\x08\x0b\x0c\x0e-\x1f]|&(?:amp|lt|gt|quot|apos);)*"
_OF_ROW = b"spans|s|customFormat|ht|hidden|customHeight|outlineLevel|collapsed|thickTop|thickBot|x14ac:dyDescent"
_VALUE = rb'<v>%s</v>|<is><t(?: xml:space="preserve")?>%s</t></is>' % (_TEXT, _TEXT)
_CELL = (
    rb'<c r="[A-Z]{1,3}[0-9]{1,7}"(?: s="[0-9]{1,5}")?(?: t="(?:s|n|str|inlineStr|b|d)")?(?:/>|>(?:%s)?</c>)' % _VALUE
)
# Rows as most programs write them: each cell with its place and a value, no formula, no error.
PLAIN_ROWS = rb'(?:<row r="[0-9]{1,7}"(?: (?:%s)="[0-9A-Za-z:.]*")*(?:/>|>(?:%s)*</row>))*' % (_OF_ROW, _CELL)
PLAIN_PLACE = re.compile(rb'<(?:c|row) r="([A-Z]*)([0-9]+)"')
# Share of the headers that another sheet must have to be taken for more of the same data.
SAME_HEADERS = 0.5
# Shown for a number that is not read as what it says: 1e999999 as infinite, one of 17 digits with other ones.
OUT_OF_RANGE, LARGEST = "[number out of range]", 2.0**53
# Row and column of a cell, from 0.
Place = tuple[int, int]


class Xlsx(Format):
    """The contract's sheet of a workbook, or the first. A record's line is the number of its row."""

    name = "xlsx"
    # zipfile decodes names by cp437.
    whole_file_readers = (*ARROW, "python_calamine", "encodings.cp437")

    def read_layout(self) -> Layout:
        """The layout of the header row; empty headers at its end are left out."""
        rows, _ = self._sheet
        first = self.source.header_row
        if len(rows) < first:
            raise self.delivery.problem(Code.DELIVERY_EMPTY, "the sheet is empty: it has no header row")
        return match_headers(self.delivery, _headers(rows[first - 1]), first_line=first + 1, header_line=first)

    def chunks(self) -> Iterator[Chunk]:
        """Rows below the header row."""
        rows, unknown = self._sheet
        for start in range(self.source.header_row, len(rows), ROWS_AT_ONCE):
            yield SheetChunk(self, start, rows[start : start + ROWS_AT_ONCE], unknown)

    @cached_property
    def _sheet(self) -> tuple[list[list[Any]], dict[Place, str]]:
        """Rows of the sheet from the first on, and what is shown for cells whose value is not known."""
        import python_calamine

        use_no_pool()
        marks, archive = _measured(self.delivery, self.delivery.whole())
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(archive))
        names = book.sheet_names
        if not names:
            raise self.delivery.problem(Code.DELIVERY_SHEET_MISSING, "the workbook has no sheet")
        name = self.source.sheet or names[0]
        if name not in names:
            shown = ", ".join(map(self.delivery.shown_header, names))
            message = f"no sheet {name!r} in the workbook; its sheets: {shown}"
            raise self.delivery.problem(Code.DELIVERY_SHEET_MISSING, message)
        rows: list[list[Any]] = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        self._refuse_second_sheet(book, name, rows)
        return rows, marks.unknown(name, rows)

    def _refuse_second_sheet(self, book: Any, name: str, rows: list[list[Any]]) -> None:
        """Raise PermanentFailure for another sheet with the same headers and rows below them, which would be lost."""
        first = self.source.header_row
        wanted = set(_headers(rows[first - 1])) if len(rows) >= first else set()
        for other in book.sheet_names:
            if other == name or not wanted:
                continue
            more = book.get_sheet_by_name(other).to_python(skip_empty_area=False)
            if len(more) <= first or len(wanted & set(_headers(more[first - 1]))) <= SAME_HEADERS * len(wanted):
                continue
            if count := sum(any(cell != "" for cell in row) for row in more[first:]):
                shown = self.delivery.shown_header
                message = (
                    f"sheet {shown(other)} has the headers of sheet {shown(name)} and {count:,} rows, which would not be"
                    " read: put all rows on one sheet"
                )
                raise self.delivery.problem(Code.DELIVERY_SHEET_SECOND, message)


class SheetChunk(Chunk):
    """Rows of a sheet. `start` is the place of the first one in the sheet, from 0."""

    def __init__(self, form: Xlsx, start: int, rows: list[list[Any]], unknown: dict[Place, str]) -> None:
        self.form, self.first, self.length, self.rows = form, start + 1, len(rows), rows
        self.stored = [place for place, column in enumerate(form.layout.columns) if column is not None]
        self.unknown: dict[int, dict[int, str]] = {}
        for (row, column), shown in unknown.items():
            if 0 <= row - start < len(rows) and column in self.stored:
                self.unknown.setdefault(row - start, {})[column] = shown

    def as_csv(self, nothing: bytes) -> Written:
        """The stored columns."""
        import numpy as np
        import pyarrow as pa

        form, width = self.form, len(self.form.layout.columns)
        cells = [*zip(*self.rows, strict=True)]
        apart = {*self.unknown, *(row for column in cells[width:] for row, cell in enumerate(column) if cell != "")}
        columns: list[list[str | None]] = []
        for column in self.stored:
            texts: list[str | None] = (
                [cell if type(cell) is str else _text(cell) for cell in cells[column]] if column < len(cells) else []
            )
            columns.append(texts + [None] * (self.length - len(texts)))
            if OUT_OF_RANGE in texts:
                apart.update(row for row, text in enumerate(texts) if text == OUT_OF_RANGE)
        for texts in columns:
            for row in apart:
                texts[row] = None
        arrays = [pa.array(texts, pa.string()) for texts in columns]
        found = written(arrays, form.searched)
        if np.diff(line_ends(found.lines), prepend=0).max(initial=0) > limits.MAX_RECORD_BYTES:
            raise form.delivery.record_too_long("a row")
        return found

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """These rows; one without a value does not count."""
        width, cleaner = len(self.form.layout.columns), self.form.cleaner
        for place in places:
            values = [_text(cell) for cell in self.rows[place]]
            number, unknown = self.first + place, self.unknown.get(place, {})
            if OUT_OF_RANGE in values:
                floats = (column for column, cell in enumerate(self.rows[place]) if type(cell) is float)
                unknown = {at: OUT_OF_RANGE for at in floats if values[at] == OUT_OF_RANGE} | unknown
            if not any(values) and not unknown:
                yield Found(place, 1, None)
                continue
            if sum(len(value) for value in values if value) > limits.MAX_RECORD_BYTES:
                raise self.form.delivery.record_too_long("a row")
            if any(values[width:]):
                text = csv_line([value or "" for value in values])
                yield Found(place, 1, cleaner.unsplit(number, [Code.RECORD_TOO_MANY_FIELDS], text))
                continue
            fields = [unknown.get(column, value) for column, value in enumerate((values + [None] * width)[:width])]
            wrong = [column in unknown for column in range(width)]
            yield Found(place, 1, cleaner.record(number, fields, [], None, wrong))


def _text(cell: Any) -> str | None:
    if type(cell) is float and not -LARGEST < cell < LARGEST:
        return OUT_OF_RANGE
    return cell_text(cell)


def _headers(row: list[Any]) -> list[str]:
    headers = [str(cell).strip() for cell in row]
    while headers and not headers[-1]:
        headers.pop()
    return headers


@dataclass
class Marks:
    """What the XML of a workbook says that its values do not.

    `sheets`: the id of each sheet by its name; `targets`: the member by that id. By member: `errors` (what each cell shows
    that holds an error), `formulas` (cells with one), `merged` (cells that belong to another one).
    """

    sheets: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    errors: dict[str, dict[Place, str]] = field(default_factory=dict)
    formulas: dict[str, list[Place]] = field(default_factory=dict)
    merged: dict[str, list[Place]] = field(default_factory=dict)

    def unknown(self, sheet: str, rows: list[list[Any]]) -> dict[Place, str]:
        """What is shown for those cells of a sheet whose value is not known."""
        member = self.targets.get(self.sheets.get(sheet, ""), "")
        shown = dict.fromkeys(self.merged.get(member, ()), "[merged with another cell]")
        for row, column in self.formulas.get(member, ()):
            if row < len(rows) and column < len(rows[row]) and rows[row][column] == "":
                shown[row, column] = "[formula without a value]"
        return shown | self.errors.get(member, {})


def _measured(delivery: Delivery, data: bytes) -> tuple[Marks, bytes]:
    """What the XML of a workbook says; and the XML in a new archive, so that only what was measured is read, even if the old
    one hides more.

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
    marks = Marks()
    for name, content in members.items():
        width, height = _look_through(name, content, marks)
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
    return marks, out.getvalue()


def _without_plain_rows(content: bytes) -> tuple[bytes, int, int]:
    """An XML document without the cells of plain rows, and how many columns and rows these span."""
    pattern = compiled(PLAIN_ROWS)
    parts: list[bytes] = []
    done = width = height = 0
    place = content.find(b"<row ")
    while place >= 0:
        end = pattern.match(content, place, place + limits.LARGEST_BLOCK_BYTES).end()
        if end > place:
            places = PLAIN_PLACE.findall(content, place, end)
            width = max([width, *map(_column_number, {letters.decode() for letters, _ in places})])
            height = max([height, *map(int, {row for _, row in places})])
            # A row without a number is behind it.
            last = content.rfind(b'<row r="', place, end)
            parts += [content[done:place], content[last : content.index(b'"', last + 8) + 1], b"/>"]
            done = end
        place = content.find(b"<row ", max(end, place + 1))
    return b"".join([*parts, content[done:]]), width, height


def _look_through(member: str, content: bytes, marks: Marks) -> tuple[int, int]:
    """Columns and rows that the cells of an XML document span, as calamine counts. Notes in `marks` what else it says."""
    content, width, height = _without_plain_rows(content)
    row = column = at_row = 0
    kind_of_cell = ""
    parser = expat.ParserCreate()

    def error(text: str) -> None:
        errors = marks.errors.setdefault(member, {})
        errors[at_row - 1, column - 1] = errors.get((at_row - 1, column - 1), "") + text

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal width, height, row, column, at_row, kind_of_cell
        kind = name.rsplit(":", 1)[-1]
        if kind == "v":
            if kind_of_cell == "e":
                parser.CharacterDataHandler = error
        elif kind == "c":
            place = attributes.get("r")
            found = CELL_REFERENCE.fullmatch(place) if place is not None else None
            if place is not None and found is None:
                raise ValueError("not a cell reference")
            column, at_row = (_column_number(found[1]), int(found[2])) if found else (column + 1, row)
            width, height = max(width, column), max(height, at_row)
            kind_of_cell = attributes.get("t", "")
            parser.CharacterDataHandler = None
        elif kind == "row":
            place = attributes.get("r")
            row, column = row + 1 if place is None else int(place), 0
            height = max(height, row)
            parser.CharacterDataHandler = None
        elif kind == "f":
            if kind_of_cell != "str":
                marks.formulas.setdefault(member, []).append((at_row - 1, column - 1))
        elif kind == "mergeCell":
            marks.merged.setdefault(member, []).extend(_others(attributes.get("ref", "")))
        elif kind == "sheet":
            identifiers = [value for key, value in attributes.items() if key.rsplit(":", 1)[-1] == "id"]
            marks.sheets[attributes.get("name", "")] = identifiers[0] if identifiers else ""
        elif kind == "Relationship" and member == "xl/_rels/workbook.xml.rels":
            target = posixpath.normpath(posixpath.join("/xl", attributes.get("Target", "")))
            marks.targets[attributes.get("Id", "")] = target.lstrip("/")

    parser.StartElementHandler = start
    parser.Parse(content, True)
    return width, height


def _others(merged: str) -> Iterator[Place]:
    """The cells of a range but the first, which holds the value of all; of a range that a sheet cannot have, none."""
    corners = [CELL_REFERENCE.fullmatch(corner) for corner in merged.split(":")]
    places = [(int(corner[2]) - 1, _column_number(corner[1]) - 1) for corner in corners if corner]
    if len(places) != 2:
        return
    (top, left), (bottom, right) = places
    if (bottom - top + 1) * (right - left + 1) > limits.MAX_SHEET_CELLS:
        return
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            if (row, column) != (top, left):
                yield row, column


def _column_number(letters: str) -> int:
    """Number of a workbook's column: A is 1, XFD 16,384."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number
