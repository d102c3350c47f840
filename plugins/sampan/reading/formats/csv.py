"""CSV: one header line, fields quoted by RFC 4180; a record may span lines inside quotes."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.fast_path import Block, FastPathUnsupported, checked_blocks
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import Record

# Of the csv module, for the whole process: a record may span lines.
csv.field_size_limit(2 * limits.MAX_RECORD_BYTES)
# A physical line: its number, its text, the rules that its bytes break.
Line = tuple[int, str, list[str]]


class Csv(Format):
    """A CSV file with the contract's delimiter and encoding."""

    name = "csv"

    def read_layout(self) -> Layout:
        """The layout of the header line."""
        line = next(self.delivery.lines(), None)
        if line is None or not line.strip():
            raise self.delivery.problem(Code.DELIVERY_EMPTY, "the delivery is empty: it has no header line")
        text, _ = self.delivery.decode(line)
        try:
            headers = [header.strip() for header in next(csv.reader([text], delimiter=self.source.delimiter), [])]
        except csv.Error as error:
            message = f"the header line cannot be parsed as CSV: {error}"
            raise self.delivery.problem(Code.DELIVERY_HEADER_UNREADABLE, message, 1) from None
        return match_headers(self.delivery, headers, first_line=2, header_line=1)

    @property
    def numbered(self) -> bool:
        """False where the file's own lines can go to COPY: commas, every column stored, none wholly personal."""
        layout = self.layout
        return None in layout.columns or self.source.delimiter != "," or not layout.is_storable_verbatim

    def blocks(self) -> Iterator[Block]:
        """The file's own bytes where these can go to COPY, else its records."""
        if self.numbered:
            return super().blocks()
        return checked_blocks(self._line_blocks(), self.layout.stored, self.delivery.private)

    def _line_blocks(self) -> Iterator[bytes]:
        """Blocks of whole lines in UTF-8, without the header line."""
        delivery = self.delivery
        transcode = self.source.encoding not in ("utf-8", "utf-8-sig")
        tail, in_header = b"", True
        for block in delivery.blocks():
            block = tail + block
            if in_header:
                header, end, block = block.partition(b"\n")
                if not end:
                    delivery.check_length(header)
                    tail = header
                    continue
                in_header = False
            cut = block.rfind(b"\n") + 1
            block, tail = block[:cut], block[cut:]
            delivery.check_length(tail)
            if block:
                yield self._transcode(block) if transcode else block
        if tail and not in_header:
            yield self._transcode(tail + b"\n") if transcode else tail + b"\n"

    def _transcode(self, block: bytes) -> bytes:
        try:
            return block.decode(self.source.encoding).encode()
        except UnicodeDecodeError:
            raise FastPathUnsupported from None

    def records(self) -> Iterator[Record]:
        """Every record; a line that cannot be split is one of its own."""
        width, cleaner, decode = len(self.layout.columns), self.cleaner, self.delivery.decode
        lines = enumerate(self.delivery.lines(), 1)
        next(lines, None)
        waiting: deque[Line] = deque()

        def following() -> Iterator[Line]:
            while True:
                if waiting:
                    yield waiting.popleft()
                    continue
                number, line = next(lines, (0, b""))
                if not number:
                    return
                yield number, *decode(line)

        for number, text, broken in following():
            if not text.strip():
                continue
            values, more, rule = self._split(text, following, waiting, width)
            broken = list(dict.fromkeys([*broken, *(also for _, _, flaws in more for also in flaws)]))
            if rule:
                broken = [*broken, rule]
            if values is not None and len(values) != width:
                rule = Code.RECORD_TOO_FEW_FIELDS if len(values) < width else Code.RECORD_TOO_MANY_FIELDS
                values, broken = None, [*broken, rule]
            if values is None:
                yield cleaner.unsplit(number, broken, text)
            else:
                yield cleaner.record(number, values, broken, "\n".join([text, *(line for _, line, _ in more)]))

    def _split(
        self, text: str, following: Callable[[], Iterator[Line]], waiting: deque[Line], width: int
    ) -> tuple[list[str] | None, list[Line], Code | None]:
        """Fields of the record that begins with `text`, the further lines that it took, and the rule that it broke."""
        if '"' not in text:
            return text.split(self.source.delimiter), [], None
        taken: list[Line] = []
        whole, closed = text, True
        while True:
            try:
                # A line without a quote cannot close one, so the record is parsed again only after a line that has one.
                if closed:
                    rows = list(csv.reader(io.StringIO(whole), delimiter=self.source.delimiter, strict=True))
                    if len(rows) == 1 and (not taken or len(rows[0]) == width):
                        return rows[0], taken, None
                    break
            except csv.Error as error:
                if "unexpected end of data" not in str(error):
                    break
            extra = next(following(), None) if len(taken) < limits.MAX_RECORD_LINES else None
            if extra is None:
                break
            taken.append(extra)
            whole += "\n" + extra[1]
            closed = '"' in extra[1]
        # The unclosed quote took lines that are records of their own: they are given back, and only this line is
        # broken.
        waiting.extendleft(reversed(taken))
        return None, [], Code.RECORD_UNCLOSED_QUOTE if taken or text.count('"') % 2 else Code.RECORD_BAD_QUOTE
