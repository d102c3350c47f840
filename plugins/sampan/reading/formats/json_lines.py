"""JSON Lines: one object per line; keys may come in any order and may be missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any

from sampan.errors import Code, PermanentFailure
from sampan.reading import limits
from sampan.reading.chunk import Chunk, Found, LineChunk, Lines
from sampan.reading.formats.base import Format, refuse_other_format
from sampan.reading.layout import Layout, LayoutGrew, match_headers
from sampan.reading.record import SURROGATE
from sampan.reading.sieve import compiled, line_ends, unfit
from sampan.reading.written import Written, bytes_of

ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
# Where one stands before a colon, `":` does not tell how many keys there are.
BLANKS_BEFORE_COLON = (b" :", b"\t:", b"\r:")
# A value without an escape, by RFC 8259.
SCALAR = rb'(?:"[^"\\\x00-\x1f]*"|null|true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[Ee][+-]?[0-9]+)?)'
# Share of lines that may be written in another way than the others; each of them is taken apart.
MOST_OTHERS = 0.1
# The values of some keys of an object as they are written, None where the object lacks the key.
Values = Callable[[bytes], tuple[Any, ...]]


class JsonLines(Format):
    """A file with one JSON object per line."""

    name = "jsonl"
    is_written_ahead = True
    # Of nearly all lines; None until the first block was seen, or where its first line has none.
    pattern: LinePattern | None = None

    def read_layout(self) -> Layout:
        """The layout of all keys of all lines, because any line may bring another.

        With `from_start`, those of the first block where its lines have the same keys and the contract accepts them.
        """
        if self.from_start:
            keys = list(self._keys(most_blocks=1))
            with suppress(PermanentFailure):
                if self.pattern and keys == self.pattern.keys:
                    return match_headers(self.delivery, keys, first_line=1)
        keys = list(self._keys())
        if not keys:
            # A delivery without a record has no key that could be missing.
            refuse_other_format(self.delivery)
            keys = [column.source_name for column in self.delivery.contract.columns]
        return match_headers(self.delivery, keys, first_line=1)

    def _keys(self, most_blocks: int | None = None) -> dict[str, None]:
        """Keys in order of their first line: all, or more unknown ones than a layout may have."""
        import msgspec

        most = len(self.delivery.contract.columns) + len(self.delivery.contract.aliases) + limits.MAX_UNKNOWN_COLUMNS
        seen: dict[str, None] = {}
        values = _values_of([])
        for first, block in islice(Lines(self.delivery), most_blocks):
            if first == 1:
                self.pattern = LinePattern.of(block, most)
            if self.pattern:
                seen |= dict.fromkeys(key for key in self.pattern.keys if key not in seen)
                block = b"".join(block[start:end] for start, end in self.pattern.unfit(block))
            for line in block.split(b"\n"):
                try:
                    values(line)
                except (msgspec.DecodeError, RecursionError):
                    if new := [key for key in self._keys_of_line(line) if key not in seen]:
                        seen |= dict.fromkeys(new)
                        if len(seen) > most:
                            return seen
                        values = _values_of(list(seen))
        return seen

    def _keys_of_line(self, line: bytes) -> Iterable[str]:
        try:
            # What `records` can read must not fail here, such as a number that Python finds too long.
            item = json.loads(self.delivery.decode(line)[0], parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            return ()
        return item if isinstance(item, dict) else ()

    def chunks(self) -> Iterator[Chunk]:
        """Blocks of lines."""
        lines = Lines(self.delivery)
        for first, data in lines:
            yield JsonChunk(self, lines, first, data)

    @cached_property
    def values(self) -> Values:
        """The values of all keys of the delivery, those of the stored columns first."""
        stored = [key for key in self.layout.headers if key is not None]
        return _values_of([*stored, *(key for key in self.layout.delivered if key not in stored)])


class JsonChunk(LineChunk):
    """Lines of a JSON Lines file."""

    def __init__(self, form: JsonLines, lines: Lines, first: int, data: bytes) -> None:
        super().__init__(form.delivery, lines, first, data)
        self.form = form

    def as_csv(self, nothing: bytes) -> Written:
        """The values of the stored columns as they are written: a JSON text without an escape is quoted as in CSV."""
        import msgspec

        if fast := self._by_pattern():
            return fast
        values, width = self.form.values, len(self.form.layout.stored)
        out, null, data = [], msgspec.Raw(b"null"), self.utf8()
        # Only then may a text have an escape, or a value be a list or an object.
        is_plain = b"\\" not in data and b"[" not in data and data.count(b"{") <= self.length
        is_tight = not any(blank in data for blank in BLANKS_BEFORE_COLON)
        for line in data.split(b"\n")[:-1]:
            try:
                found = values(line)
            except (msgspec.DecodeError, RecursionError):
                out.append(nothing)
                continue
            # More than the keys that were found: one is a duplicate, or a text holds what looks like a key.
            keys = line.count(b'":') if is_tight or not any(blank in line for blank in BLANKS_BEFORE_COLON) else 0
            if keys != len(found) - found.count(None):
                out.append(nothing)
                continue
            fields = [b"" if value is None or value == null else value for value in found[:width]]
            if not is_plain:
                fields = [_unescaped_field(bytes(value)) for value in fields]
                if None in fields:
                    out.append(nothing)
                    continue
            out.append(b",".join(fields) + b"\n")
        return Written(b"".join(out))

    def _by_pattern(self) -> Written | None:
        """As `as_csv`, all lines at once; None where many of them are written in other ways."""
        pattern, data = self.form.pattern, self.utf8()
        if pattern is None:
            return None
        others = list(pattern.unfit(data))
        if len(others) > MOST_OTHERS * self.length:
            return None
        cut = pattern.cut(pattern.filled(others, data))
        keys = [key for key in self.form.layout.headers if key is not None]
        texts, codes = ([keys[place] for place in places] for places in self.form.searched)
        return Written(cut.csv(keys), cut.csv(texts), cut.csv(codes))

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """What is on these lines, numbers with all their digits."""
        layout, cleaner = self.form.layout, self.form.cleaner
        stored, known = {key for key in layout.headers if key is not None}, {*layout.delivered}
        repeated = False

        def parsed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            item = dict(pairs)
            repeated = repeated or len(item) != len(pairs)
            return item

        for place in places:
            number = self.first + place
            text, broken = self.delivery.decode(self.line(place))
            if not text.strip():
                yield Found(place, 1, None)
                continue
            repeated = False
            try:
                item = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=parsed)
                if not isinstance(item, dict):
                    broken = [*broken, Code.RECORD_NOT_AN_OBJECT]
                    yield Found(place, 1, cleaner.unsplit(number, broken, text, _unescaped(text)))
                    continue
                if self.form.from_start and not item.keys() <= known:
                    raise LayoutGrew("a later line has a key that the first lines had not")
                values = [None if key is None else _value_text(item.get(key)) for key in layout.headers]
            except (ValueError, RecursionError):
                broken = [*broken, Code.RECORD_NOT_JSON]
                yield Found(place, 1, cleaner.unsplit(number, broken, text, _unescaped(text)))
                continue
            if repeated:
                broken = [*broken, Code.RECORD_DUPLICATE_KEY]
            nested = [key is not None and isinstance(item.get(key), dict | list) for key in layout.headers]
            # The first values of a repeated key have not been searched for personal data, nor have keys that are not
            # stored, so the line is not shown.
            shown = text if item.keys() <= stored and not repeated else None
            yield Found(place, 1, cleaner.record(number, values, broken, shown, nested=nested))


class LinePattern:
    """How nearly all lines of a file are written: the same keys in the same order, values without an escape.

    `keys`: those keys. Values are cut out of many such lines at once, as they are written.
    """

    def __init__(self, keys: Sequence[str], comma: bytes, colon: bytes) -> None:
        self.keys, self.comma, self.colon = list(keys), comma, colon
        self.names = [json.dumps(key, ensure_ascii=False).encode() for key in keys]
        pairs = [re.escape(name + colon) + SCALAR for name in self.names]
        self._lines = compiled(rb"(?:\{" + re.escape(comma).join(pairs) + rb"\}\n)*")
        # A line in place of one that is written in another way.
        self.empty = b"{" + comma.join(name + colon + b"null" for name in self.names) + b"}\n"

    @staticmethod
    def of(block: bytes, most: int) -> LinePattern | None:
        """The pattern of the first line of a block, if there is one for it: it has at most so many keys."""
        line = block[: block.index(b"\n") + 1]
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if (
            not isinstance(item, dict)
            or not 0 < len(item) <= most
            or any("\\" in json.dumps(key, ensure_ascii=False) for key in item)
            or sum(len(key.encode()) for key in item) > limits.MAX_PATTERN_BYTES
        ):
            return None
        patterns = [LinePattern([*item], comma, colon) for comma, colon in ((b", ", b": "), (b",", b":"))]
        return next((pattern for pattern in patterns if not [*pattern.unfit(line)]), None)

    def unfit(self, lines: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of each line that is written in another way."""
        return unfit(self._lines, lines)

    def filled(self, others: Sequence[tuple[int, int]], lines: bytes) -> bytes:
        """The lines, those at these places replaced by one of nulls."""
        parts, done = [], 0
        for start, end in others:
            parts += [lines[done:start], self.empty]
            done = end
        return b"".join([*parts, lines[done:]]) if parts else lines

    def cut(self, lines: bytes) -> Cut:
        """Where the values are in lines that all fit the pattern."""
        import numpy as np

        data, width = np.frombuffer(lines, np.uint8), len(self.keys)
        colons = np.flatnonzero(data == ord(":"))
        # In no text without an escape a colon follows a quote.
        colons = colons[data[colons - 1] == ord('"')].reshape(-1, width)
        # For each value what is before it, itself, and the comma or bracket behind it; then the rest of the line.
        pieces = np.empty((len(colons), 3 * width + 1), np.int32)
        pieces[:, 0:-1:3] = colons + len(self.colon)
        pieces[:, 1:-4:3] = colons[:, 1:] - [len(name) + len(self.comma) for name in self.names[1:]]
        pieces[:, -3] = line_ends(lines) - 2
        pieces[:, 2::3] = pieces[:, 1::3] + 1
        pieces[:, -1] = pieces[:, -2] + 1
        starts, ends = pieces[:, 0:-1:3], pieces[:, 1::3]
        is_null = data[starts] == ord("n")
        starts[is_null] = ends[is_null]
        return Cut(lines, pieces, self.keys)


class Cut:
    """Lines of a JSON Lines file in pieces: what is before a value, the value, one byte behind it, ...; the line feed."""

    def __init__(self, lines: bytes, pieces: Any, keys: list[str]) -> None:
        import numpy as np
        import pyarrow as pa

        self.keys, (self.count, self.width) = keys, pieces.shape
        offsets = np.concatenate([np.zeros(1, np.int32), pieces.reshape(-1)])
        self.pieces = pa.BinaryArray.from_buffers(
            pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(lines)]
        )

    def csv(self, keys: Sequence[str]) -> bytes:
        """The values of these keys, in the order of the lines, as CSV, as they are written; nothing for null."""
        import numpy as np
        import pyarrow as pa

        present = [3 * self.keys.index(key) + 1 for key in keys if key in self.keys]
        if not present:
            return (b"," * max(len(keys) - 1, 0) + b"\n") * self.count if keys else b""
        wanted = np.array([*[place for value in present for place in (value, value + 1)][:-1], self.width - 1])
        places = (np.arange(self.count) * self.width)[:, None] + wanted
        found = bytes_of(self.pieces.take(pa.array(places.reshape(-1))))
        # Keys that only other lines have come last.
        return found.replace(b"\n", b"," * (len(keys) - len(present)) + b"\n") if len(keys) > len(present) else found


def _values_of(keys: Sequence[str]) -> Values:
    """Reads the values of these keys; msgspec.DecodeError for a line that is not an object, or has another key."""
    import msgspec

    names = [f"key_{place}" for place in range(len(keys))]
    fields = [(name, msgspec.Raw, None) for name in names]
    line = msgspec.defstruct("Line", fields, rename=dict(zip(names, keys, strict=True)), forbid_unknown_fields=True)
    decode, astuple = msgspec.json.Decoder(line).decode, msgspec.structs.astuple
    return lambda text: astuple(decode(text))


def _unescaped_field(value: bytes) -> bytes | None:
    """A JSON value as a field of CSV; None for a list, an object, or a text that one line cannot hold."""
    if value[:1] in (b"{", b"["):
        return None
    if b"\\" not in value:
        return value
    text: str = json.loads(value)
    if "\n" in text or "\r" in text or SURROGATE.search(text):
        return None
    return b'"' + text.replace('"', '""').encode() + b'"'


def _unescaped(text: str) -> str:
    """The text with \\u escapes as characters."""
    unescaped = ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace("\0", "\u2400")
    return SURROGATE.sub("\ufffd", unescaped)


def _value_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)
