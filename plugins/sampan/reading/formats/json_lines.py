"""JSON Lines: one object per line; keys may come in any order and may be missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, match_headers
from sampan.reading.record import SURROGATE, Record

ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")


class JsonLines(Format):
    """A file with one JSON object per line."""

    name = "jsonl"

    def read_layout(self) -> Layout:
        """The layout of all keys of all lines, because any line may bring another."""
        # A delivery without a record has no key that could be missing.
        keys = list(self._keys()) or [column.source_name for column in self.delivery.contract.columns]
        return match_headers(self.delivery, keys, first_line=1)

    def _keys(self) -> dict[str, None]:
        """Keys in order of their first line: all, or more unknown ones than a layout may have."""
        most = len(self.delivery.contract.columns) + len(self.delivery.contract.aliases) + limits.MAX_UNKNOWN_COLUMNS
        seen: dict[str, None] = {}
        for line in self.delivery.lines():
            try:
                # What `records` can read must not fail here, such as a number that Python finds too long.
                item = json.loads(self.delivery.decode(line)[0], parse_float=str, parse_int=str, parse_constant=str)
            except (ValueError, RecursionError):
                continue
            if isinstance(item, dict):
                seen.update(dict.fromkeys(item))
            if len(seen) > most:
                break
        return seen

    def records(self) -> Iterator[Record]:
        """Every line that is not blank, numbers with all their digits."""
        keys, cleaner, decode = self.layout.headers, self.cleaner, self.delivery.decode
        stored = {key for key in keys if key is not None}
        repeated = False

        def parsed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            item = dict(pairs)
            repeated = repeated or len(item) != len(pairs)
            return item

        for number, line in enumerate(self.delivery.lines(), 1):
            text, broken = decode(line)
            if not text.strip():
                continue
            repeated = False
            try:
                item = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=parsed)
                if not isinstance(item, dict):
                    yield cleaner.unsplit(number, [*broken, Code.RECORD_NOT_AN_OBJECT], text, _unescaped(text))
                    continue
                values = [None if key is None else _value_text(item.get(key)) for key in keys]
            except (ValueError, RecursionError):
                yield cleaner.unsplit(number, [*broken, Code.RECORD_NOT_JSON], text, _unescaped(text))
                continue
            # Of a repeated key the last value counts. The others have not been searched for personal data, nor have
            # keys that are not stored, so the line is not shown.
            yield cleaner.record(number, values, broken, text if item.keys() <= stored and not repeated else None)


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
