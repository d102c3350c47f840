"""Records as CSV lines, with what of each has to be searched for personal data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sampan.contracts import line_pattern
from sampan.contracts.model import Column

# Of types without a letter, which every number of a person has.
NO_LETTER = ("bigint", "numeric", "date", "boolean")
NEEDS_QUOTES = b'",\r\n'
# Modules that a child process uses to write records; pyarrow imports pandas with its first array.
ARROW = ("numpy", "pandas", "pyarrow.compute", "re2")


class Searched(NamedTuple):
    """Stored columns that may hold personal data: places of texts, and of codes that the line pattern proves."""

    texts: list[int]
    codes: list[int]


class Written(NamedTuple):
    """CSV lines of the stored columns. `texts` and `codes`: the same lines with these columns alone; None for all of them."""

    lines: bytes
    texts: bytes | None = None
    codes: bytes | None = None


def searched(columns: Sequence[Column]) -> Searched:
    """Which of the stored columns have to be searched in a line that fits the line pattern."""
    found = Searched([], [])
    for place, (column, proven) in enumerate(zip(columns, line_pattern.proven_of_fields(columns), strict=True)):
        if column.personal != "none" or not ("enum" in proven or column.type in NO_LETTER):
            is_code = column.personal == "none" and "pattern" in proven
            (found.codes if is_code else found.texts).append(place)
    return found


def written(values: Sequence[Any], wanted: Searched) -> Written:
    """Arrow arrays, one for each stored column, as CSV; a row with a line feed in a text becomes a line of commas only.

    Raises ArrowException for columns without a text, such as nested ones.
    """
    fields = _without_line_feeds([_field(column) for column in values])
    return Written(
        _joined(fields), _joined([fields[at] for at in wanted.texts]), _joined([fields[at] for at in wanted.codes])
    )


def use_no_pool() -> None:
    """Let Arrow take memory as it needs it: other pools reserve addresses, which the limit of a process counts."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())


def _joined(fields: Sequence[Any]) -> bytes:
    import pyarrow.compute as pc

    if not fields:
        return b""
    *others, last = fields
    options = {"null_handling": "replace", "null_replacement": ""}
    # Its last field ends the line.
    ended = pc.binary_join_element_wise(last, "", "\n", **options)
    return bytes_of(pc.binary_join_element_wise(*others, ended, ",", **options) if others else ended)


def _field(values: Any) -> Any:
    """An Arrow array as texts, in quotes where CSV needs them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = values if pa.types.is_string(values.type) else values.cast(pa.string())
    content = bytes_of(texts)
    if not any(mark in content for mark in NEEDS_QUOTES):
        return texts
    in_quotes = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(texts, f"[{NEEDS_QUOTES.decode()}]"), in_quotes, texts)


def bytes_of(texts: Any) -> bytes:
    """The texts or bytes of an Arrow array, one after the other."""
    import numpy as np

    _, offsets, content = texts.buffers()
    if content is None or not len(texts):
        return b""
    ends = np.frombuffer(offsets, np.int32)
    start, end = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
    return content[start:end].to_pybytes()  # type: ignore[no-any-return]


def _without_line_feeds(fields: list[Any]) -> list[Any]:
    """The fields with nothing in the rows in which one holds a line feed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    broken = [pc.match_substring(field, "\n") for field in fields if b"\n" in bytes_of(field)]
    if not broken:
        return fields
    unfit = pc.fill_null(broken[0], False)
    for more in broken[1:]:
        unfit = pc.or_(unfit, pc.fill_null(more, False))
    return [pc.if_else(unfit, pa.scalar(None, pa.string()), field) for field in fields]
