"""Fixed width: no header, every field at the place and of the length that its contract says, in characters."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.errors import Code
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import Record


class FixedWidth(Format):
    """A file of lines of one length."""

    name = "fixed"

    def read_layout(self) -> Layout:
        """The contract's columns in their order."""
        headers = [column.source_name for column in self.delivery.contract.columns]
        return match_headers(self.delivery, headers, first_line=1)

    def records(self) -> Iterator[Record]:
        """Every line that is not blank, blanks around its fields removed."""
        columns, cleaner, decode = self.delivery.contract.columns, self.cleaner, self.delivery.decode
        spans = [((c.start or 1) - 1, (c.start or 1) - 1 + (c.length or 0)) for c in columns]
        width = max(end for _, end in spans)
        for number, line in enumerate(self.delivery.lines(), 1):
            text, broken = decode(line)
            if not text.strip():
                continue
            if len(text) != width:
                rule = Code.RECORD_TOO_SHORT if len(text) < width else Code.RECORD_TOO_LONG
                yield cleaner.unsplit(number, [*broken, rule], text)
                continue
            yield cleaner.record(number, [text[start:end].strip() for start, end in spans], broken, text)
