"""A delivery as records: decompressed within bounds, decoded, laid out by its contract, free of personal data.

Two ways through the same delivery. `blocks` is the fast one: CSV byte blocks that COPY takes as they are. `records` is the
exact one: every record with its line, its fields as text and the structural rules that it broke. `blocks` raises Unusual
when it meets anything that only the exact way can judge; both ways give a sound record the same fields.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import logging
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import IO, Any
from xml.parsers import expat

from sampan.contracts import line_pattern as shape
from sampan.contracts.model import Column, Contract
from sampan.contracts.values import DATE_WORDS, DAY
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.reading.personal_data import Pseudonymiser, hkid_is_valid

log = logging.getLogger(__name__)
BLOCK = 1 << 18
MAX_RECORD_BYTES = 1 << 20
MAX_RECORD_LINES = 50
# A CSV of business data shrinks 5 to 50 times; a hundred times more is a bomb, not a delivery.
BOMB_BYTES, BOMB_RATIO = 1 << 26, 200
MAX_UNKNOWN = 100
# The reader of workbooks holds the rectangle from the first to the last cell, however few of its cells are filled.
MAX_CELLS, MAX_ROW, MAX_COLUMN = 20_000_000, 1 << 20, 1 << 14
CELL = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")
# What a step of a Parquet file may hold once it is decoded, and its rows: fewer where their size cannot be told beforehand.
PARQUET_BYTES, PARQUET_ROWS, PARQUET_ROWS_UNMEASURED = 1 << 25, 50_000, 500
MAX_NUMBER_BYTES = 64

# An HKID number's letter, digit, check digit, separator and brackets in bytes: in ASCII and in UTF-8 of full width.
_L, _D = rb"(?:[a-z]|(?-i:\xef\xbc[\xa1-\xba]|\xef\xbd[\x81-\x9a]))", rb"(?:[0-9]|(?-i:\xef\xbc[\x90-\x99]))"
_CHECK = rb"(?:[0-9a]|(?-i:\xef\xbc[\x90-\x99\xa1]|\xef\xbd\x81))"
_BETWEEN = rb"(?:[ -]|(?-i:\xc2\xa0|\xe3\x80\x80|\xef\xbc\x8d))?"
_BODY = rb"%s{1,2}%s%s{6}%s" % (_L, _BETWEEN, _D, _BETWEEN)
_BRACKETS = rb"(?:\(|(?-i:\xef\xbc\x88))", rb"(?:\)|(?-i:\xef\xbc\x89))"
# What the fast way must not let pass unseen. In the order of the groups: what may be an HKID number, bare and in brackets;
# NUL; a word that PostgreSQL takes for a date.
SUSPECT = (
    rb"(?i)(?:^|[^a-z0-9])(%s%s)(?:[^a-z0-9]|$)|(%s%s%s%s)" % (_BODY, _CHECK, _BODY, _BRACKETS[0], _CHECK, _BRACKETS[1])
    + rb"|(\x00)|(now|today|tomorrow|yesterday|epoch|infinity|allballs)"
)
# Lines whose quotes stand as RFC 4180 has them: only those mean the same to COPY and to Python.
PLAIN_LINES = rb'(?:(?:[^",\r\n]*|"(?:[^"\n]|"")*")(?:,(?:[^",\r\n]*|"(?:[^"\n]|"")*"))*\r?\n)*'
MAX_DATE = 100
ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
# Halves of characters, which JSON can spell and no encoding can hold.
SURROGATE = re.compile("[\ud800-\udfff]")
csv.field_size_limit(2 * MAX_RECORD_BYTES)


# A physical line: its number, its text, what is wrong with its bytes.
Line = tuple[int, str, list[str]]


class Unusual(Exception):
    """The fast way met something that only the exact way can judge."""


@dataclass
class Layout:
    """How the fields of a delivery map to stored columns. `columns` has None where a field is not stored."""

    columns: list[Column | None]
    first_line: int
    drift: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def stored(self) -> list[Column]:
        """The stored columns, in the order of the delivery."""
        return [column for column in self.columns if column is not None]

    @property
    def added(self) -> list[Column]:
        """Columns that the delivery has and the contract has not."""
        extra = {name for kind, name, _ in self.drift if kind == "added"}
        return [column for column in self.stored if column.name in extra]


@dataclass(frozen=True)
class Record:
    """One record: line at which it begins, stored fields in the layout's order (text or None), broken rules, its text."""

    line: int
    fields: list[str | None]
    broken: list[str]
    text: str


class Reader:
    """Reads one delivery of one contract. `opener` gives a fresh binary stream of the landed bytes each time."""

    def __init__(
        self,
        contract: Contract,
        opener: Callable[[], IO[bytes]],
        business_date: date,
        file: str,
        private: Pseudonymiser,
    ) -> None:
        self.contract, self.opener, self.business_date, self.file, self.private = (
            contract, opener, business_date, file, private,
        )  # fmt: skip
        self.source = contract.source
        self.withhold = any(column.wholly_personal for column in contract.columns)
        self.guarded = any(column.expects_hkid for column in contract.columns)
        self._layout: Layout | None = None
        # Whether every line that `blocks` gave so far has the shape that the contract's columns have.
        self.in_shape = False

    # --- bytes ---

    def _problem(
        self, rule: Code, message: str, line: int | None = None, column: str | None = None
    ) -> PermanentFailure:
        return PermanentFailure(Problem(rule, message, self.file, line, column))

    def _bytes(self) -> Iterator[bytes]:
        """Decompressed blocks. Raises PermanentFailure for a truncated, corrupt or monstrous delivery."""
        raw = self._from_store(self.opener)
        taken = given = 0

        def chunks(size: int) -> Iterator[bytes]:
            nonlocal taken
            while chunk := self._from_store(lambda: raw.read(size)):
                taken += len(chunk)
                yield chunk

        unpack = {"none": _plain, "gzip": _gunzip, "zstd": _unzstd}[self.source.compression]
        try:
            for block in unpack(chunks):
                given += len(block)
                if given > self.source.max_bytes or (given > BOMB_BYTES and given > BOMB_RATIO * taken):
                    raise self._problem(
                        Code.DELIVERY_TOO_LARGE, f"unpacks to more than {given:,} bytes from {taken:,}: refused"
                    )
                yield block
        except EOFError:
            raise self._problem(
                Code.DELIVERY_TRUNCATED, f"the {self.source.compression} stream ends too early"
            ) from None
        except (zlib.error, OSError, ValueError) as error:
            raise self._problem(Code.DELIVERY_CORRUPT, f"not readable as {self.source.compression}: {error}") from None
        finally:
            raw.close()

    def _from_store(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except OSError as error:
            raise TransientFailure(f"object store: {self.file}: {type(error).__name__}") from error

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Inside it, whatever the libraries that read a delivery stumble over is a PermanentFailure.

        Of the error only the type is told: its text may quote what the delivery holds.
        """
        try:
            yield
        except (SampanError, Unusual):
            raise
        except MemoryError:
            raise self._problem(Code.DELIVERY_TOO_LARGE, "does not fit into memory") from None
        except Exception as error:  # noqa: BLE001
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            if trace:
                place = trace.tb_frame.f_code
                log.warning("%s: %s in %s, line %s", self.file, type(error).__name__, place.co_name, trace.tb_lineno)
            kinds = dict.fromkeys([self.source.compression, self.source.format])
            written = " and ".join(kind for kind in kinds if kind != "none")
            raise self._problem(Code.DELIVERY_CORRUPT, f"not readable as {written}: {type(error).__name__}") from None

    def _raw_lines(self) -> Iterator[bytes]:
        """Physical lines without their line end, a byte order mark removed; a monstrous line is refused."""
        tail, first = b"", True
        for block in self._bytes():
            if first:
                block, first = block.removeprefix(b"\xef\xbb\xbf"), False
            lines = (tail + block).split(b"\n")
            tail = lines.pop()
            if len(tail) > MAX_RECORD_BYTES:
                raise self._problem(Code.DELIVERY_RECORD_TOO_LONG, f"a line of more than {MAX_RECORD_BYTES:,} bytes")
            yield from lines
        if tail:
            yield tail

    def _decode(self, line: bytes) -> tuple[str, list[str]]:
        encoding = "utf-8" if self.source.encoding == "utf-8-sig" else self.source.encoding
        broken = []
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            text, broken = line.decode(encoding, "backslashreplace"), [Code.RECORD_ENCODING]
        if "\0" in text:
            text, broken = text.replace("\0", "\u2400"), [*broken, Code.RECORD_NUL]
        return text.removesuffix("\r"), broken

    # --- layout ---

    @property
    def layout(self) -> Layout:
        """Fields of the delivery against the contract's columns, by the contract's drift policy."""
        if self._layout is None:
            with self._readable():
                self._layout = {
                    "csv": self._csv_layout,
                    "jsonl": self._jsonl_layout,
                    "parquet": self._parquet_layout,
                    "xlsx": self._xlsx_layout,
                    "fixed": self._fixed_layout,
                }[self.source.format]()
        return self._layout

    def _match(self, headings: Sequence[str], first_line: int, header_line: int | None = 1) -> Layout:
        contract = self.contract
        known = {column.source_name: column for column in contract.columns}
        for alias in contract.aliases:
            if alias.since <= self.business_date:
                known.setdefault(alias.source_name, contract.column(alias.column))
        if not any(heading in known for heading in headings):
            expected = ", ".join(column.source_name for column in contract.columns[:4])
            raise self._problem(
                Code.DELIVERY_HEADER_UNRECOGNISED, f"no heading of this feed ({expected}, ...) found", header_line
            )
        columns: list[Column | None] = []
        drift: list[tuple[str, str, str]] = []
        for heading in headings:
            column = known.get(heading)
            if headings.count(heading) > 1 or (column is not None and column in columns):
                raise self._problem(
                    Code.DELIVERY_HEADER_REPEATED, f"heading {self._heading(heading)} stands twice", header_line
                )
            if column is None:
                column = self._unknown(heading, header_line, drift)
            elif column.source_name != heading:
                drift.append(("renamed", column.name, heading))
            columns.append(column)
        missing = [column for column in contract.columns if column not in columns]
        for column in missing:
            if column.required:
                message = f"required column {column.source_name!r} is missing"
                raise self._problem(Code.DELIVERY_HEADER_MISSING_COLUMN, message, header_line, column.name)
            drift.append(("missing", column.name, "null in every row"))
        layout = Layout([None if c is None or c.personal == "drop" else c for c in columns], first_line, drift)
        hidden = next((column for column in missing if column.wholly_personal), None)
        if hidden is not None and layout.added:
            message = (
                f"{hidden.source_name!r}, which holds personal data, is missing, and the contract does not know"
                f" {self._heading(layout.added[0].source_name)}: it may be the same under another name, so nothing is stored"
            )
            raise self._problem(Code.DELIVERY_HEADER_PERSONAL_DATA, message, header_line, hidden.name)
        return layout

    def _heading(self, heading: str) -> str:
        """A heading as it may be shown: where the heading line is missing, it is a value of the first record."""
        return _shown(self.private.clean_text(heading, self.guarded))

    def _unknown(self, heading: str, line: int | None, drift: list[tuple[str, str, str]]) -> Column | None:
        if self.contract.drift == "fail":
            message = f"column {self._heading(heading)} is not in the contract, whose drift policy is fail"
            raise self._problem(Code.DELIVERY_HEADER_UNKNOWN_COLUMN, message, line)
        if len(drift) >= MAX_UNKNOWN:
            raise self._problem(
                Code.DELIVERY_HEADER_UNRECOGNISED, f"more than {MAX_UNKNOWN} columns are not in the contract", line
            )
        shown = self.private.clean_text(heading)
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in shown.lower()).strip("_")[:40]
        if not name or any(name in (other, other.removeprefix("x_")) for _, other, _ in drift):
            # A heading without a letter of its own, or two that come to the same name, are told apart by their hash.
            name = f"{name or 'column'}_{hashlib.sha256(heading.encode('utf-8', 'replace')).hexdigest()[:8]}"
        if self.contract.drift == "ignore":
            drift.append(("ignored", name, _shown(shown)))
            return None
        name = name if name.startswith("x_") else f"x_{name}"
        drift.append(("added", name, _shown(shown)))
        return Column(name, heading, "string", f"Added by the partner as {_shown(shown)}; not in the contract.")

    def _csv_layout(self) -> Layout:
        line = next(self._raw_lines(), None)
        if line is None or not line.strip():
            raise self._problem(Code.DELIVERY_EMPTY, "the delivery holds no byte of data")
        text, _ = self._decode(line)
        try:
            headings = [heading.strip() for heading in next(csv.reader([text], delimiter=self.source.delimiter), [])]
        except csv.Error as error:
            raise self._problem(Code.DELIVERY_HEADER_UNREADABLE, f"the heading line is not CSV: {error}", 1) from None
        return self._match(headings, 2)

    def _jsonl_layout(self) -> Layout:
        keys: dict[str, None] = dict.fromkeys(column.source_name for column in self.contract.columns)
        seen: dict[str, None] = {}
        empty = True
        for line in self._raw_lines():
            empty = empty and not line.strip()
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(item, dict):
                seen.update(dict.fromkeys(item))
        if empty:
            return self._match(list(keys), 1, None)
        if seen and not any(key in seen for key in keys):
            return self._match(list(seen), 1, None)
        aliases = {alias.source_name for alias in self.contract.aliases if alias.since <= self.business_date}
        renamed = {alias.column for alias in self.contract.aliases if alias.source_name in seen.keys() & aliases}
        wanted = [column.source_name for column in self.contract.columns if column.name not in renamed]
        return self._match(wanted + [key for key in seen if key not in wanted], 1, None)

    def _parquet_layout(self) -> Layout:
        return self._match(self._parquet()[0].schema_arrow.names, 1, None)

    def _xlsx_layout(self) -> Layout:
        rows = self._xlsx_rows()
        header = next(rows, None)
        if header is None:
            raise self._problem(Code.DELIVERY_EMPTY, "the sheet is empty")
        headings = [str(cell).strip() for cell in header[1]]
        while headings and not headings[-1]:
            headings.pop()
        return self._match(headings, header[0] + 1, header[0])

    def _fixed_layout(self) -> Layout:
        return self._match([column.source_name for column in self.contract.columns], 1, None)

    # --- the fast way ---

    @property
    def fast(self) -> bool:
        """Whether `blocks` may be tried: nothing to drop, and no value that must be replaced in every row."""
        layout = self.layout
        if any(column.wholly_personal for column in layout.stored) or self.source.format not in ("csv", "parquet"):
            return False
        return self.source.format == "parquet" or (None not in layout.columns and self.source.delimiter == ",")

    def blocks(self) -> Iterator[bytes]:
        """CSV blocks of whole lines, UTF-8, no header, for COPY into the layout's stored columns."""
        with self._readable():
            yield from self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        import re2

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        suspect = re2.compile(SUSPECT, options)
        options.never_capture = True
        plain, fit = re2.compile(PLAIN_LINES, options), re2.compile(shape.of_lines(self.layout.stored), options)
        columns = self.layout.stored
        harmless, proved = shape.of_harmless_lines(columns), shape.proves_harmless(columns)
        guard = harmless and re2.compile(harmless, options)
        self.in_shape = True
        for block in self._parquet_blocks() if self.source.format == "parquet" else self._csv_blocks():
            cleaned = self._cleaned(block, suspect)
            self.in_shape = self.in_shape and bool(fit.fullmatch(cleaned))
            # A line in shape is a plain one, unless cleaning made it so.
            if not (self.in_shape and cleaned is block) and b'"' in block and not plain.fullmatch(block):
                raise Unusual
            if guard and not (self.in_shape and proved):
                cleaned = self._looked_at(cleaned, guard)
            yield cleaned

    def _csv_blocks(self) -> Iterator[bytes]:
        transcode = self.source.encoding not in ("utf-8", "utf-8-sig")
        tail, header = b"", True
        for block in self._bytes():
            block = tail + block
            if header:
                _, end, block = block.partition(b"\n")
                if not end:
                    if len(block) > MAX_RECORD_BYTES:
                        raise self._problem(
                            Code.DELIVERY_RECORD_TOO_LONG, f"a line of more than {MAX_RECORD_BYTES:,} bytes"
                        )
                    tail = _
                    continue
                header = False
            cut = block.rfind(b"\n") + 1
            block, tail = block[:cut], block[cut:]
            if len(tail) > MAX_RECORD_BYTES:
                raise self._problem(Code.DELIVERY_RECORD_TOO_LONG, f"a line of more than {MAX_RECORD_BYTES:,} bytes")
            if block:
                yield self._transcode(block) if transcode else block
        if tail and not header:
            yield self._transcode(tail + b"\n") if transcode else tail + b"\n"

    def _transcode(self, block: bytes) -> bytes:
        try:
            return block.decode(self.source.encoding).encode()
        except UnicodeDecodeError:
            raise Unusual from None

    def _cleaned(self, block: bytes, suspect: Any) -> bytes:
        """The block with personal data replaced. Most blocks hold nothing suspect and are given back as they are."""
        columns = self.layout.stored
        parts, done, position = [], 0, 0
        while match := suspect.search(block, position):
            if match.start(3) >= 0:
                raise Unusual
            place = max(match.start(group) for group in (1, 2, 4))
            start = block.rfind(b"\n", 0, place) + 1
            before = block[start:place]
            # In which column it stands costs more to know when a quote comes before.
            column = None if b'"' in before else columns[min(before.count(b","), len(columns) - 1)]
            end = block.find(b"\n", place)
            if match.start(4) >= 0:
                self._refuse_date_words(block[start:end], column)
            elif match.start(2) >= 0 or column is None or _may_be_hkid(column, match.group(1)):
                parts += [block[done:start], self._clean_line(block[start:end])]
                done = position = end
                continue
            position = place + 1
        return b"".join([*parts, block[done:]]) if parts else block

    def _looked_at(self, block: bytes, harmless: Any) -> bytes:
        """The block with misspelt HKID numbers replaced: only its lines that are not known to be harmless are taken apart."""
        if harmless.fullmatch(block):
            return block
        *lines, rest = block.split(b"\n")
        looked_at = [line if harmless.fullmatch(line + b"\n") else self._clean_line(line) for line in lines]
        return b"\n".join([*looked_at, rest and self._clean_line(rest)])

    def _refuse_date_words(self, line: bytes, column: Column | None) -> None:
        """Leave a line to the exact way in which such a word stands for a date: its meaning changes every day."""
        if column is None:
            values, columns = self._split_line(line), self.layout.stored
        else:
            values, columns = [line.decode("utf-8", "surrogateescape")], [column]
        for value, column in zip(values, columns, strict=True):
            if column.type in ("date", "timestamptz") and re.search(DATE_WORDS, value):
                raise Unusual

    def _split_line(self, line: bytes) -> list[str]:
        """Fields of one CSV line of the stored columns."""
        text = line.decode("utf-8", "surrogateescape").removesuffix("\r")
        try:
            (row,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError):
            raise Unusual from None
        if len(row) != len(self.layout.stored):
            raise Unusual
        return row

    def _clean_line(self, line: bytes) -> bytes:
        """One CSV line with every field as it may be stored."""
        try:
            line.decode()
        except UnicodeDecodeError:
            # Replacing a field would hide that its bytes are no characters.
            raise Unusual from None
        row = self._split_line(line)
        for column, value in zip(self.layout.stored, row, strict=True):
            if column.type == "date" and _is_doubtful(value, column.type):
                raise Unusual
        cleaned = [self.private.clean(column, value) for column, value in zip(self.layout.stored, row, strict=True)]
        if cleaned == row:
            return line
        return _csv_line(cleaned).encode("utf-8", "surrogateescape") + (b"\r" if line.endswith(b"\r") else b"")

    def _parquet(self) -> tuple[Any, int, int]:
        """The file, how many of its rows may be read at once, and how many bytes of text it may hold."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = b"".join(self._bytes())
        if not data:
            raise self._problem(Code.DELIVERY_EMPTY, "the delivery holds no byte of data")
        file = pq.ParquetFile(pa.BufferReader(data))
        meta = file.metadata
        chunks = [meta.row_group(n).column(c) for n in range(meta.num_row_groups) for c in range(meta.num_columns)]
        unpacked = max(meta.num_rows * meta.num_columns, sum(chunk.total_uncompressed_size for chunk in chunks))
        most = max(BOMB_BYTES, BOMB_RATIO * len(data))
        if unpacked > most:
            raise self._problem(
                Code.DELIVERY_TOO_LARGE, f"unpacks to {unpacked:,} cells or bytes from {len(data):,} bytes: refused"
            )
        leaves = [file.schema.column(place) for place in range(meta.num_columns)]
        flat = {leaf.path for leaf in leaves if leaf.max_repetition_level == 0}
        unmeasured = {chunk.path_in_schema for chunk in chunks if "DELTA_BYTE_ARRAY" in chunk.encodings}
        flat &= set(file.schema_arrow.names)
        texts = {leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"} & flat - unmeasured
        measured = texts | {
            leaf.path for leaf in leaves if leaf.physical_type != "BYTE_ARRAY" and leaf.length <= MAX_NUMBER_BYTES
        }
        rows = PARQUET_ROWS if set(file.schema_arrow.names) <= measured & flat else PARQUET_ROWS_UNMEASURED
        # As dictionaries, so that a text which stands in the file once and in a million rows is held once.
        return pq.ParquetFile(pa.BufferReader(data), metadata=meta, read_dictionary=sorted(texts)), rows, most

    def _parquet_batches(self) -> Iterator[Any]:
        """Record batches of the stored columns, of bounded size."""
        import numpy as np
        import pyarrow as pa

        renamed = {name: heading for kind, name, heading in self.layout.drift if kind == "renamed"}
        names = [renamed.get(c.name, c.source_name) for c in self.layout.columns if c is not None]
        (file, rows, most), given = self._parquet(), 0
        for batch in file.iter_batches(batch_size=rows, columns=names):
            sizes = np.zeros(batch.num_rows, np.int64)
            for column in batch.columns:
                lengths = _lengths(column)
                if lengths.max(initial=0) > MAX_RECORD_BYTES:
                    raise self._problem(
                        Code.DELIVERY_RECORD_TOO_LONG, f"a value of more than {MAX_RECORD_BYTES:,} bytes"
                    )
                sizes += lengths
            given += int(sizes.sum())
            if given > most:
                raise self._problem(Code.DELIVERY_TOO_LARGE, f"unpacks to more than {most:,} bytes: refused")
            cuts = [0, *(np.flatnonzero(np.diff(sizes.cumsum() // PARQUET_BYTES)) + 1), batch.num_rows]
            for start, end in itertools.pairwise(cuts):
                part = batch.slice(start, end - start)
                columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in part.columns]
                yield pa.RecordBatch.from_arrays(columns, part.schema.names)

    def _parquet_blocks(self) -> Iterator[bytes]:
        import pyarrow as pa
        import pyarrow.csv

        order = [c.name for c in self.layout.stored]
        options = pyarrow.csv.WriteOptions(include_header=False)
        for batch in self._parquet_batches():
            buffer = io.BytesIO()
            try:
                pyarrow.csv.write_csv(batch.rename_columns(order), buffer, options)
            except pa.ArrowException:
                raise Unusual from None
            if buffer.getvalue().count(b"\n") != batch.num_rows:
                raise Unusual
            yield buffer.getvalue()

    # --- the exact way ---

    def records(self) -> Iterator[Record]:
        """Every record in order, sound or not; none is left out."""
        records = {
            "csv": self._csv_records,
            "jsonl": self._jsonl_records,
            "parquet": self._parquet_records,
            "xlsx": self._xlsx_records,
            "fixed": self._fixed_records,
        }[self.source.format]
        with self._readable():
            yield from records()

    def pick(self, lines: set[int]) -> Iterator[Record]:
        """The records that begin at the given lines."""
        left = len(lines)
        for record in self.records():
            if record.line in lines:
                yield record
                left -= 1
                if not left:
                    return

    def _record(self, line: int, values: Sequence[str | None], broken: list[str], text: str | None) -> Record:
        """A record with personal data dropped or replaced. `values` has one entry for each field of the delivery."""
        fields, changed = [], text is None
        for column, value in zip(self.layout.columns, values, strict=True):
            if column is None:
                changed = changed or bool(value)
                continue
            cleaned = None if value is None or value == "" else self.private.clean(column, value)
            if cleaned is not None and "\0" in cleaned:
                cleaned, broken = cleaned.replace("\0", "\u2400"), [*broken, Code.RECORD_NUL]
            if cleaned is not None and SURROGATE.search(cleaned):
                cleaned, broken = SURROGATE.sub("\ufffd", cleaned), [*broken, Code.RECORD_ENCODING]
            changed = changed or (cleaned or "") != (value or "")
            fields.append(cleaned)
        if changed or text is None:
            text = _csv_line([value or "" for value in fields])
        return Record(line, fields, broken, text)

    def _broken(self, line: int, broken: list[str], text: str) -> Record:
        """A record that could not be split into the layout's fields."""
        if self.withhold:
            text = f"[withheld: {len(text)} characters that could not be split and may hold personal data]"
        if self.source.format == "jsonl":
            spelt = ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace("\0", "\u2400")
            spelt = SURROGATE.sub("\ufffd", spelt)
            # What JSON spells by codes is shown as it was written, unless it spells a number of a person.
            if self.private.clean_text(spelt, self.guarded) != spelt:
                text = spelt
        return Record(line, [None] * len(self.layout.stored), broken, self.private.clean_text(text, self.guarded))

    def _csv_records(self) -> Iterator[Record]:
        width, lines = len(self.layout.columns), enumerate(self._raw_lines(), 1)
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
                yield number, *self._decode(line)

        for number, text, broken in following():
            if not text.strip():
                continue
            values, more, rule = self._split(text, following, waiting, width)
            broken = list(dict.fromkeys([*broken, *(also for _, _, flaws in more for also in flaws)]))
            if rule:
                broken = [*broken, rule]
            if values is None or len(values) != width:
                if values is not None:
                    broken = [
                        *broken,
                        Code.RECORD_TOO_FEW_FIELDS if len(values) < width else Code.RECORD_TOO_MANY_FIELDS,
                    ]
                yield self._broken(number, broken, text)
                continue
            yield self._record(number, values, broken, "\n".join([text, *(line for _, line, _ in more)]))

    def _split(
        self, text: str, following: Callable[[], Iterator[Line]], waiting: deque[Line], width: int
    ) -> tuple[list[str] | None, list[Line], str | None]:
        """Fields of the record that begins with `text`, the further lines it took, and the rule that it broke."""
        if '"' not in text:
            return text.split(self.source.delimiter), [], None
        taken: list[Line] = []
        whole, closed = text, True
        while True:
            try:
                # A line without a quote cannot close one: the record is looked at again only after one that has.
                if closed:
                    rows = list(csv.reader(io.StringIO(whole), delimiter=self.source.delimiter, strict=True))
                    if len(rows) == 1 and (not taken or len(rows[0]) == width):
                        return rows[0], taken, None
                    break
            except csv.Error as error:
                if "unexpected end of data" not in str(error):
                    break
            extra = next(following(), None) if len(taken) < MAX_RECORD_LINES else None
            if extra is None:
                break
            taken.append(extra)
            whole += "\n" + extra[1]
            closed = '"' in extra[1]
        # The quote swallowed lines that are records of their own: give them back, only this line is bad.
        waiting.extendleft(reversed(taken))
        return None, [], Code.RECORD_UNCLOSED_QUOTE if taken or text.count('"') % 2 else Code.RECORD_BAD_QUOTE

    def _jsonl_records(self) -> Iterator[Record]:
        renamed = {name: heading for kind, name, heading in self.layout.drift if kind == "renamed"}
        keys = [None if c is None else renamed.get(c.name, c.source_name) for c in self.layout.columns]
        shown = {key for key in keys if key is not None}
        repeated = False

        def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            item = dict(pairs)
            repeated = repeated or len(item) != len(pairs)
            return item

        for number, line in enumerate(self._raw_lines(), 1):
            text, broken = self._decode(line)
            if not text.strip():
                continue
            repeated = False
            try:
                item = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=noted)
                if not isinstance(item, dict):
                    yield self._broken(number, [*broken, Code.RECORD_NOT_AN_OBJECT], text)
                    continue
                values = [None if key is None else _json_text(item.get(key)) for key in keys]
            except (ValueError, RecursionError):
                yield self._broken(number, [*broken, Code.RECORD_NOT_JSON], text)
                continue
            # Of a key that stands twice the last value counts; nobody has looked at the others.
            yield self._record(number, values, broken, text if item.keys() <= shown and not repeated else None)

    def _parquet_records(self) -> Iterator[Record]:
        row = 0
        hidden = [column is None for column in self.layout.columns]
        for batch in self._parquet_batches():
            for values in zip(*map(_arrow_texts, batch.columns), strict=True):
                row += 1
                given = iter(values)
                yield self._record(row, [None if gone else next(given) for gone in hidden], [], None)

    def _xlsx_rows(self) -> Iterator[tuple[int, list[Any]]]:
        import python_calamine

        data = b"".join(self._bytes())
        if not data:
            raise self._problem(Code.DELIVERY_EMPTY, "the delivery holds no byte of data")
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(self._measured(data)))
        names = book.sheet_names
        if not names or self.source.sheet not in (None, *names):
            shown = ", ".join(map(self._heading, names))
            wanted = f"{self.source.sheet!r}; sheets: {shown}" if names else "in it"
            raise self._problem(Code.DELIVERY_SHEET_MISSING, f"no sheet {wanted}")
        rows = book.get_sheet_by_name(self.source.sheet or names[0]).to_python(skip_empty_area=False)
        for number, row in enumerate(rows, 1):
            if number >= self.source.header_row:
                yield number, row

    def _measured(self, data: bytes) -> bytes:
        """The XML of a workbook, packed anew: what was measured is what is read, whatever else the archive may hold or hide.

        A workbook is refused that unpacks out of all proportion, or whose sheets span more cells than can be held.
        """
        kept: dict[str, bytes] = {}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
            if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * len(data):
                raise self._problem(
                    Code.DELIVERY_TOO_LARGE, f"unpacks to {unpacked:,} bytes from {len(data):,}: refused"
                )
            for item in archive.infolist():
                if item.filename.lower().endswith((".xml", ".rels")):
                    kept[item.filename] = archive.read(item)
        for content in kept.values():
            width, height = _extent(content)
            if width > MAX_COLUMN or height > MAX_ROW or width * height > MAX_CELLS:
                raise self._problem(
                    Code.DELIVERY_TOO_LARGE, f"a sheet of {height:,} rows by {width:,} columns: refused"
                )
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as anew:
            for name, content in kept.items():
                anew.writestr(name, content)
        return out.getvalue()

    def _xlsx_records(self) -> Iterator[Record]:
        width, rows = len(self.layout.columns), self._xlsx_rows()
        next(rows, None)
        for number, row in rows:
            values = [_cell_text(cell) for cell in row]
            if not any(values):
                continue
            if any(values[width:]):
                yield self._broken(number, [Code.RECORD_TOO_MANY_FIELDS], _csv_line([value or "" for value in values]))
                continue
            values = (values + [None] * width)[:width]
            yield self._record(number, values, [], None)

    def _fixed_records(self) -> Iterator[Record]:
        spans = [((c.start or 1) - 1, (c.start or 1) - 1 + (c.length or 0)) for c in self.contract.columns]
        width = max(end for _, end in spans)
        for number, line in enumerate(self._raw_lines(), 1):
            text, broken = self._decode(line)
            if not text.strip():
                continue
            if len(text) != width:
                rule = Code.RECORD_TOO_SHORT if len(text) < width else Code.RECORD_TOO_LONG
                yield self._broken(number, [*broken, rule], text)
                continue
            yield self._record(number, [text[start:end].strip() for start, end in spans], broken, text)


# --- small pieces -----------------------------------------------------------------------------------------------------


def _may_be_hkid(column: Column, found: bytes) -> bool:
    return column.personal == "pseudonymise" or hkid_is_valid(found.decode())


def _extent(content: bytes) -> tuple[int, int]:
    """Columns and rows that the cells of an XML document span, as a reader of workbooks counts them."""
    width = height = row = column = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal width, height, row, column
        kind, place = name.rsplit(":", 1)[-1], attributes.get("r")
        if kind == "row":
            row, column = row + 1 if place is None else int(place), 0
        elif kind == "c":
            found = CELL.fullmatch(place) if place is not None else None
            if place is not None and found is None:
                raise ValueError("no place of a cell")
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


def _plain(chunks: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
    return chunks(BLOCK)


def _gunzip(chunks: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
    from isal import isal_zlib

    unpacker, started = isal_zlib.decompressobj(31), False
    try:
        for chunk in chunks(BLOCK // 8):
            while chunk:
                if unpacker.eof:
                    if not chunk.strip(b"\0"):
                        break
                    unpacker = isal_zlib.decompressobj(31)
                started = True
                block = unpacker.decompress(chunk, BLOCK * 4)
                if block:
                    yield block
                chunk = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except isal_zlib.error as error:
        raise ValueError(str(error)) from None
    if started and not unpacker.eof:
        raise EOFError


def _unzstd(chunks: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
    import zstandard

    # Small pieces in: zstd may unpack a piece some thousand times, and nothing bounds what one call gives back.
    unpacker, started = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), False
    try:
        for chunk in chunks(4096):
            while chunk:
                if unpacker.eof:
                    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
                started = True
                block = unpacker.decompress(chunk)
                if block:
                    yield block
                chunk = unpacker.unused_data if unpacker.eof else b""
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if started and not unpacker.eof:
        raise EOFError


def _shown(heading: str) -> str:
    """A heading as it may stand in a message or a table: quoted, short, nothing in it that is not to be printed."""
    return ascii(heading[:60]) if not heading.isprintable() else repr(heading[:60])


def _csv_line(values: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _lengths(values: Any) -> Any:
    """Bytes of each text of a Parquet column as a NumPy array: of a list or a structure on average, of a number none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(values.type):
        return np.full(len(values), values.nbytes // max(len(values), 1))
    texts = values.dictionary if isinstance(values, pa.DictionaryArray) else values
    kinds = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    if not any(is_kind(texts.type) for is_kind in (*kinds, pa.types.is_fixed_size_binary)):
        return np.zeros(len(values), np.int64)
    lengths = pc.binary_length(texts)
    if texts is not values:
        lengths = lengths.take(values.indices)
    return lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _arrow_texts(values: Any) -> list[str | None]:
    """A Parquet column as the texts that the fast way would write."""
    import pyarrow as pa

    try:
        texts: list[str | None] = values.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        texts = [_cell_text(value) for value in values.to_pylist()]
    return texts


def _cell_text(value: Any) -> str | None:
    """A typed cell as the text that PostgreSQL reads back to the same value."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


@lru_cache(1 << 12)
def _is_doubtful(value: str, kind: str) -> bool:
    """Whether a date or a time is a word that means another one every day, or a date has a time that would be lost."""
    return bool(re.search(DATE_WORDS, value) or (kind == "date" and value and not re.fullmatch(DAY, value)))


def csv_blocks(records: Iterator[Record], columns: Sequence[Column]) -> Iterator[bytes]:
    """CSV blocks `line, fields...` of sound records. Raises Unusual at the first that only the exact way can judge."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    dates = [(place, c.type) for place, c in enumerate(columns) if c.type in ("date", "timestamptz")]
    for record in records:
        if record.broken:
            raise Unusual
        for place, kind in dates:
            value = record.fields[place]
            if value is not None and (len(value) > MAX_DATE or _is_doubtful(value, kind)):
                raise Unusual
        writer.writerow([record.line, *record.fields])
        if buffer.tell() > BLOCK:
            yield buffer.getvalue().encode("utf-8", "surrogateescape")
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode("utf-8", "surrogateescape")
