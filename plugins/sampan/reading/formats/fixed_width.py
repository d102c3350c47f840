"""Fixed width: no header, every field at the place and of the length that its contract says, in characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import compress
from typing import Any

from sampan.errors import Code
from sampan.reading.chunk import Chunk, Found, LineChunk, Lines
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.sieve import line_ends
from sampan.reading.written import Written, written

# What `str.strip` removes.
BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))


class FixedWidth(Format):
    """A file of lines of one length."""

    name = "fixed"
    is_written_ahead = True

    def read_layout(self) -> Layout:
        """The contract's columns in their order."""
        headers = [column.source_name for column in self.delivery.contract.columns]
        return match_headers(self.delivery, headers, first_line=1)

    def chunks(self) -> Iterator[Chunk]:
        """Blocks of lines."""
        lines = Lines(self.delivery)
        for first, data in lines:
            yield FixedWidthChunk(self, lines, first, data)

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """Where each field starts and ends."""
        columns = self.delivery.contract.columns
        return [((c.start or 1) - 1, (c.start or 1) - 1 + (c.length or 0)) for c in columns]

    @cached_property
    def width(self) -> int:
        """Characters of a line."""
        return max(end for _, end in self.spans)


class FixedWidthChunk(LineChunk):
    """Lines of a fixed-width file."""

    def __init__(self, form: FixedWidth, lines: Lines, first: int, data: bytes) -> None:
        super().__init__(form.delivery, lines, first, data)
        self.form = form

    def as_csv(self, nothing: bytes) -> Written:
        """The stored fields, blanks around them removed."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        data = self.utf8()
        ends = line_ends(data)
        starts = np.concatenate([[0], ends], dtype=np.int32, casting="unsafe")
        # Each line with its line feed.
        lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(data))
        fits = pc.equal(pc.utf8_length(lines), self.form.width + 1)
        # Arrow cuts out bytes ten times as fast as characters.
        trim = pc.ascii_trim if data.isascii() else pc.utf8_trim

        def field(start: int, end: int) -> Any:
            if data.isascii():
                return pc.binary_slice(lines.view(pa.binary()), start, end).view(pa.string())
            return pc.utf8_slice_codeunits(lines, start, end)

        fields = [
            pc.if_else(fits, trim(field(start, end), BLANKS), pa.scalar(None, pa.string()))
            for start, end in compress(self.form.spans, self.form.layout.columns)
        ]
        return written(fields, self.form.searched)

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """What is on these lines, blanks around its fields removed."""
        spans, width, cleaner = self.form.spans, self.form.width, self.form.cleaner
        for place in places:
            number = self.first + place
            text, broken = self.delivery.decode(self.line(place))
            if not text.strip():
                yield Found(place, 1, None)
            elif len(text) != width:
                rule = Code.RECORD_TOO_SHORT if len(text) < width else Code.RECORD_TOO_LONG
                yield Found(place, 1, cleaner.unsplit(number, [*broken, rule], text))
            else:
                fields = [text[start:end].strip() for start, end in spans]
                # A number of a person that slipped over several fields stands in the line in one piece.
                nested = [True] * len(fields) if cleaner.crosses(text, fields) else ()
                yield Found(place, 1, cleaner.record(number, fields, broken, text, nested=nested))
