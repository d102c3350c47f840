"""What a line looks like whose fields keep their contract: one pattern, matched while the bytes pass to the warehouse.

The reader has to look at every byte for quotes anyway; the same pass can show that codes, lengths and required fields are in
order, and the gate need not ask the warehouse again. A delivery that does not fit the pattern has done nothing wrong yet: its
rules are then all asked by the gate, which alone says what broke.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from functools import cache

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import PSEUDONYM

# A byte of content, until it is known whether quotes are around it.
ANY, PLAIN, QUOTED = b"\0", rb'[^",\r\n]', rb'[^"\r\n]'
# Patterns that RE2 and PostgreSQL read alike, and that cannot match beyond a field.
PORTABLE = re.compile(r"\^((?:[A-Za-z0-9_()|?*+-]|\[[A-Za-z0-9_-]+\]|\{\d+(?:,\d*)?\})+)\$")
# A date in digits, with no other time of day than midnight.
DATE = rb"[0-9]+(?:[-/.][0-9]+){0,2}(?:[T ]00:00(?::00(?:\.0+)?)?)?"
# How much all fields together may add to RE2's automaton: of a greater one it runs out of memory and crawls.
ROOM = 20_000


def of_lines(columns: Iterable[Column]) -> bytes:
    """Pattern for RE2 over bytes of whole CSV lines, in UTF-8, of these columns in order."""
    return b"(?:" + b",".join(_either(field) for field, _ in _fields(columns)) + rb"\r?\n)*"


def of_harmless_lines(columns: Sequence[Column]) -> bytes | None:
    """Pattern like `of_lines`, of lines that hold nothing that only a look at their fields can judge.

    A column that expects HKID numbers holds what its own pattern accepts, a pseudonym, or neither letter nor bracket; a date
    is one of digits. None where there is no such column.
    """
    if not any(column.expects_hkid or column.type == "date" for column in columns):
        return None
    anything = rb'(?:[^",\r\n]*|"(?:[^"\n]|"")*")'
    fields = []
    for column in columns:
        if column.type == "date":
            fields.append(_either(b"(?:" + DATE + b")?"))
            continue
        if not column.expects_hkid:
            fields.append(anything)
            continue
        known = b"|".join([*_accepted(column), PSEUDONYM.pattern.encode()])
        fields.append(rb'(?:%s|[^A-Za-z()",\r\n\x80-\xff]*|"(?:%s|[^A-Za-z()"\r\n\x80-\xff]*)")' % (known, known))
    return b"(?:" + b",".join(fields) + rb"\r?\n)*"


def proves_harmless(columns: Sequence[Column]) -> bool:
    """Whether every line that fits `of_lines` is a harmless one as well."""
    fields = zip(columns, _fields(columns), strict=True)
    return all("pattern" in proved for column, (_, proved) in fields if column.expects_hkid)


def rules(contract: Contract) -> frozenset[str]:
    """Names of the rules that no row can break whose line fits the pattern."""
    fields = zip(contract.stored, _fields(contract.stored), strict=True)
    return frozenset(f"{column.name}.{rule}" for column, (_, proved) in fields for rule in proved)


def digest(contract: Contract) -> str:
    """What the pattern proves, as SHA-256 in hex: another version of a contract may ask for more."""
    names = [column.name for column in contract.stored]
    return hashlib.sha256(repr([*zip(names, _fields(contract.stored), strict=True)]).encode()).hexdigest()


def _fields(columns: Iterable[Column]) -> list[tuple[bytes, list[str]]]:
    """For each column the pattern of its field and the rules that it proves: small ones, as many as there is room for.

    Columns without rules of their own take no room, and fewer columns leave more: what is proved of all the contract's
    columns is proved of those of a delivery, which may lack some and add others.
    """
    contents = [_content(column) for column in columns]
    sizes = [_size(content) if proves else 0 for content, proves in contents]
    room = max((size for size in sizes if sum(other for other in sizes if other <= size) <= ROOM), default=0)
    found = []
    for column, (content, proves), size in zip(columns, contents, sizes, strict=True):
        if size > room:
            content, proves = ANY + b"+", []
        found.append((content, [*proves, "required"]) if column.required else (b"(?:" + content + b")?", proves))
    return found


def _content(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of what stands in a column's field, and the rules that it proves."""
    longest = column.options.get("maxLength")
    if column.type == "date":
        return DATE, []
    if column.enum and not any(re.search('[",\r\n]', value) for value in column.enum):
        return b"(?:" + b"|".join(re.escape(value.encode()) for value in column.enum) + b")", ["enum"]
    if accepted := _accepted(column):
        return b"(?:" + accepted[0] + b")", ["pattern"]
    # No text has more characters than bytes.
    return (ANY + b"{1,%d}" % longest, ["max_length"]) if longest else (ANY + b"+", [])


def _accepted(column: Column) -> list[bytes]:
    """A column's own pattern as RE2 reads it, if it does."""
    portable = PORTABLE.fullmatch(column.options.get("pattern", ""))
    return [portable[1].encode()] if portable and _size(portable[1].encode()) <= ROOM else []


def _either(field: bytes) -> bytes:
    """Pattern of a field with or without quotes around it."""
    return b'(?:%s|"%s")' % (field.replace(ANY, PLAIN), field.replace(ANY, QUOTED))


@cache
def _size(content: bytes) -> float:
    """Size of the automaton of a field, infinite where RE2 does not make one."""
    import re2

    options = re2.Options()
    options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
    try:
        return float(re2.compile(_either(content), options).programsize)
    except re2.error:
        return math.inf
