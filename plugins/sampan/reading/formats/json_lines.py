"""JSON Lines: one object per line; keys may come in any order and may be missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.chunk import Chunk, Found, LineChunk, Lines
from sampan.reading.formats.base import Format, refuse_other_format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import SURROGATE
from sampan.reading.sieve import compiled, unfit
from sampan.reading.written import Written, written

ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
# Where one stands before a colon, `":` does not tell how many keys there are.
BLANKS_BEFORE_COLON = (b" :", b"\t:", b"\r:")
# A value without an escape, by RFC 8259.
SCALAR = rb'(?:"[^"\\\x00-\x1f]*"|null|true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[Ee][+-]?[0-9]+)?)'
# Share of lines that may be written in another way than the others; each of them is taken apart.
MOST_OTHERS = 0.1
# Blocks whose lines that are written in another way are held in memory: of a MiB, up to a tenth of its lines.
MOST_KEPT = 5_000
# The values of some keys of an object as they are written, None where the object lacks the key.
Values = Callable[[bytes], tuple[Any, ...]]


class JsonLines(Format):
    """A file with one JSON object per line."""

    name = "jsonl"
    # Of nearly all lines; None until the first block was seen, or where its first line has none.
    pattern: LinePattern | None = None

    @cached_property
    def others(self) -> dict[int, list[tuple[int, int]]]:
        """By the first line of a block: start and end of its lines that do not fit the pattern, of some thousand blocks."""
        return {}

    def read_layout(self) -> Layout:
        """The layout of all keys of all lines, because any line may bring another."""
        keys = list(self._keys())
        if not keys:
            # A delivery without a record has no key that could be missing.
            refuse_other_format(self.delivery)
            keys = [column.source_name for column in self.delivery.contract.columns]
        return match_headers(self.delivery, keys, first_line=1)

    def _keys(self) -> dict[str, None]:
        """Keys in order of their first line: all, or more unknown ones than a layout may have."""
        import msgspec

        most = len(self.delivery.contract.columns) + len(self.delivery.contract.aliases) + limits.MAX_UNKNOWN_COLUMNS
        seen: dict[str, None] = {}
        values = _values_of([])
        for first, block in Lines(self.delivery):
            if first == 1:
                self.pattern = LinePattern.of(block, most)
            if self.pattern:
                seen |= dict.fromkeys(key for key in self.pattern.keys if key not in seen)
                places = list(self.pattern.unfit(block))
                if len(self.others) < MOST_KEPT and len(places) <= MOST_OTHERS * block.count(b"\n"):
                    self.others[first] = places
                block = b"".join(block[start:end] for start, end in places)
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

        if fast := self._by_pattern(nothing):
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
            # More than the keys that were found: one is there twice, or a text holds what looks like a key.
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

    def _by_pattern(self, nothing: bytes) -> Written | None:
        """As `as_csv`, all lines at once; None where many of them are written in other ways."""
        import pyarrow as pa

        pattern, data = self.form.pattern, self.utf8()
        if pattern is None:
            return None
        others = self.form.others.pop(self.first, None) if data is self.data else None
        if others is None:
            others = list(pattern.unfit(data))
        if len(others) > MOST_OTHERS * self.length:
            return None
        filled = pattern.filled(others, data)
        values = pattern.values(filled, [key for key in self.form.layout.headers if key is not None])
        try:
            return written(values, self.form.searched, in_quotes=True)
        except pa.ArrowException:
            return Written(nothing * self.length)

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """What is on these lines, numbers with all their digits."""
        layout, cleaner = self.form.layout, self.form.cleaner
        stored = {key for key in layout.headers if key is not None}
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
            yield Found(place, 1, cleaner.record(number, values, broken, shown, nested))


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

    def values(self, lines: bytes, keys: Sequence[str]) -> list[Any]:
        """Arrow arrays of the values of these keys, as they are written, nothing for null. Every line fits the pattern."""
        import numpy as np
        import pyarrow as pa

        data, width = np.frombuffer(lines, np.uint8), len(self.keys)
        colons = np.flatnonzero(data == ord(":"))
        # In no text without an escape a colon follows a quote.
        colons = colons[data[colons - 1] == ord('"')].reshape(-1, width)
        ends = np.flatnonzero(data == ord("\n")) - 1
        # Values and what is between them, in turns.
        pieces = np.empty((len(ends), width, 2), np.int32)
        pieces[:, :, 0] = colons + len(self.colon)
        pieces[:, :-1, 1] = colons[:, 1:] - [len(name) + len(self.comma) for name in self.names[1:]]
        pieces[:, -1, 1] = ends
        starts, ends_of_values = pieces[:, :, 0], pieces[:, :, 1]
        is_null = data[starts] == ord("n")
        ends_of_values[is_null] = starts[is_null]
        offsets = np.append(pieces.reshape(-1), np.int32(len(lines)))
        every = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(lines))
        step = 2 * width
        found = []
        for key in keys:
            if key not in self.keys:
                found.append(pa.nulls(len(ends), pa.string()))
                continue
            found.append(every.take(pa.array(np.arange(2 * self.keys.index(key), len(ends) * step, step))))
        return found


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
