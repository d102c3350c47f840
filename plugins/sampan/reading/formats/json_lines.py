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
from sampan.reading.written import Written

ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")
# Where one stands before a colon, `":` does not tell how many keys there are.
BLANKS_BEFORE_COLON = (b" :", b"\t:", b"\r:")
# The values of some keys of an object as they are written, None where the object lacks the key.
Values = Callable[[bytes], tuple[Any, ...]]


class JsonLines(Format):
    """A file with one JSON object per line."""

    name = "jsonl"

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
        for _, block in Lines(self.delivery):
            for line in block.split(b"\n"):
                try:
                    values(line)
                except (msgspec.DecodeError, RecursionError):
                    if new := [key for key in self._keys_of_line(line) if key not in seen]:
                        seen |= dict.fromkeys(new)
                        values = _values_of(list(seen))
            if len(seen) > most:
                break
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
            if keys != len(found) and keys != len(found) - found.count(None):
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

    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """What is on these lines, numbers with all their digits."""
        layout, cleaner, lines = self.form.layout, self.form.cleaner, self.every_line
        stored = {key for key in layout.headers if key is not None}
        repeated = False

        def parsed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            item = dict(pairs)
            repeated = repeated or len(item) != len(pairs)
            return item

        for place in places:
            number = self.first + place
            text, broken = self.delivery.decode(lines[place])
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
