"""CSV: one header line, fields quoted by RFC 4180; a record may span lines inside quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.chunk import Chunk, Found, LineChunk, Lines
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.sieve import compiled, without_unfit
from sampan.reading.written import Written, written

# Of the csv module, for the whole process: a record may span lines.
csv.field_size_limit(2 * limits.MAX_RECORD_BYTES)


class Csv(Format):
    """A CSV file with the contract's delimiter and encoding."""

    name = "csv"

    def read_layout(self) -> Layout:
        """The layout of the header line. Empty headers at its end, as spreadsheets leave them, do not count."""
        line = next(self.delivery.lines(), None)
        if line is None or not line.strip():
            raise self.delivery.problem(Code.DELIVERY_EMPTY, "the delivery is empty: it has no header line")
        text, _ = self.delivery.decode(line)
        try:
            headers = [header.strip() for header in next(csv.reader([text], delimiter=self.source.delimiter), [])]
        except csv.Error as error:
            message = f"the header line cannot be parsed as CSV: {error}"
            raise self.delivery.problem(Code.DELIVERY_HEADER_UNREADABLE, message, 1) from None
        named = len(headers)
        while named and not headers[named - 1]:
            named -= 1
        if len(headers) - named > limits.MAX_UNNAMED_COLUMNS:
            message = (
                f"the header line ends with {len(headers) - named:,} empty headers; the limit is"
                f" {limits.MAX_UNNAMED_COLUMNS:,}"
            )
            raise self.delivery.problem(Code.DELIVERY_TOO_LARGE, message, 1)
        layout = match_headers(self.delivery, headers[:named], first_line=2, header_line=1)
        layout.unnamed = len(headers) - named
        return layout

    def chunks(self) -> Iterator[Chunk]:
        """Blocks of lines below the header."""
        lines = Lines(self.delivery, skip=1)
        for first, data in lines:
            yield CsvChunk(self, lines, first, data)

    @property
    def width(self) -> int:
        """How many fields a record has."""
        return len(self.layout.columns) + self.layout.unnamed

    @property
    def is_ready(self) -> bool:
        """Whether lines of the file have the stored columns and nothing else, apart by commas."""
        return self.source.delimiter == "," and self.width == len(self.layout.stored)

    @cached_property
    def sound_lines(self) -> Any:
        """RE2 pattern of lines of as many fields as there are headers, nothing in those without one."""
        mark = re.escape(self.source.delimiter.encode())
        field = rb'(?:[^"%s\r\n]*|"(?:[^"\r\n]|"")*")' % mark
        fields = [field] * len(self.layout.columns) + [b'(?:"")?'] * self.layout.unnamed
        return compiled(b"(?:" + mark.join(fields) + b"\n)*")


class CsvChunk(LineChunk):
    """Lines of a CSV file."""

    def __init__(self, form: Csv, lines: Lines, first: int, data: bytes) -> None:
        super().__init__(form.delivery, lines, first, data)
        self.form = form

    def as_csv(self, nothing: bytes) -> Written:
        """The lines themselves where nothing in them is left out, else the stored columns of those that are sound."""
        data = self.utf8()
        return Written(data) if self.form.is_ready else self._stored_columns(data)

    def _stored_columns(self, data: bytes) -> Written:
        import pyarrow as pa
        import pyarrow.csv

        form, stored = self.form, self.form.layout.columns
        blank = form.source.delimiter.encode() * (form.width - 1) + b"\n"
        names = [str(place) for place in range(form.width)]
        kept = [name for name, column in zip(names, stored, strict=False) if column is not None]
        table = pyarrow.csv.read_csv(
            pa.BufferReader(without_unfit(form.sound_lines, data, blank)),
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(data) + len(blank) + (1 << 20), column_names=names
            ),
            pyarrow.csv.ParseOptions(delimiter=form.source.delimiter, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=kept),
        )
        return written([column.combine_chunks() for column in table.columns], form.searched)

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """Records that begin at these lines; a line that cannot be split is one of its own."""
        form, cleaner, decode = self.form, self.form.cleaner, self.delivery.decode
        columns, width, delimiter = len(form.layout.columns), form.width, form.source.delimiter
        free = 0
        for place in places:
            if place < free:
                continue
            text, broken = decode(self.line(place))
            if not text.strip(f" \t{delimiter}"):
                yield Found(place, 1, None)
                continue
            behind = map(decode, chain(self.lines_from(place + 1), self.lines.following()))
            values, more, rule = _split(text, behind, width, delimiter)
            free = place + 1 + len(more)
            self.lines.take(max(0, free - self.length))
            if more and values is None:
                for behind_it, (line, flaws) in enumerate([(text, broken), *more]):
                    at = place + behind_it
                    yield Found(at, 1, cleaner.unsplit(self.first + at, [*flaws, Code.RECORD_UNCLOSED_QUOTE], line))
                continue
            broken = list(dict.fromkeys([*broken, *(flaw for _, flaws in more for flaw in flaws)]))
            if rule:
                broken = [*broken, rule]
            if values is not None and (len(values) != width or any(values[columns:])):
                rule = Code.RECORD_TOO_FEW_FIELDS if len(values) < width else Code.RECORD_TOO_MANY_FIELDS
                values, broken = None, [*broken, rule]
            whole = "\n".join([text, *(line for line, _ in more)])
            if values is None:
                yield Found(place, 1 + len(more), cleaner.unsplit(self.first + place, broken, whole))
            else:
                yield Found(place, 1 + len(more), cleaner.record(self.first + place, values[:columns], broken, whole))


def _split(
    text: str, behind: Iterator[tuple[str, list[str]]], width: int, delimiter: str
) -> tuple[list[str] | None, list[tuple[str, list[str]]], Code | None]:
    """Fields of the record that begins with `text`, the further lines that it takes, and the rule that it breaks.

    A record goes on while a quote is open. A line that is a record of its own ends it: the quote was never closed. Without
    fields, the line and each further one break the rule: where one record ends and the next begins cannot be told.
    """
    if '"' not in text:
        return text.split(delimiter), [], None
    if (values := _fields(text, delimiter)) is not None:
        return values, [], None
    taken: list[tuple[str, list[str]]] = []
    quotes, size = text.count('"'), len(text)
    while quotes % 2:
        line, flaws = next(behind, ("", None))
        size += len(line)
        is_too_long = size > limits.MAX_RECORD_BYTES or len(taken) > limits.BLOCK_LINES
        if flaws is None or is_too_long or _fields(line, delimiter, width):
            return None, [], Code.RECORD_UNCLOSED_QUOTE
        taken.append((line, flaws))
        quotes += line.count('"')
    values = _fields("\n".join([text, *(line for line, _ in taken)]), delimiter)
    if values is None:
        return None, [], Code.RECORD_UNCLOSED_QUOTE if taken else Code.RECORD_BAD_QUOTE
    # Two stray quotes on two lines would make one record of both.
    if any("\n" in value and value.count(delimiter) >= max(width - 1, 1) for value in values):
        return None, taken, Code.RECORD_UNCLOSED_QUOTE
    if taken and len(values) != width:
        return None, [], Code.RECORD_UNCLOSED_QUOTE
    return values, taken, None


def _fields(text: str, delimiter: str, width: int | None = None) -> list[str] | None:
    """Fields of a whole record; None where its quotes are not those of one, or where it has another number of fields."""
    if width is not None and (text.count('"') % 2 or text.count(delimiter) < max(width - 1, 1)):
        return None
    try:
        (values,) = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return values if width is None or len(values) == width else None
