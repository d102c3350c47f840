"""The line pattern: one regular expression over CSV lines whose fields keep their contract, matched during COPY.

The fast path scans every byte for quotes anyway. The same pass shows that codes, lengths and required fields are in
order, and the gate need not check these in the database. A delivery that does not fit the pattern may still be sound:
the gate then checks every rule, and only the gate says what broke.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from functools import cache

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import PSEUDONYM

# A byte of a field: a placeholder, as it becomes without quotes around the field, and with them.
ANY, PLAIN, QUOTED = b"\0", rb'[^",\r\n]', rb'[^"\r\n]'
# Patterns that mean the same to RE2 and PostgreSQL, and that cannot match beyond a field.
PORTABLE = re.compile(r"\^((?:[A-Za-z0-9_()|?*+-]|\[[A-Za-z0-9_-]+\]|\{\d+(?:,\d*)?\})+)\$")
# A date in digits, with no other time of day than midnight.
DATE = rb"[0-9]+(?:[-/.][0-9]+){0,2}(?:[T ]00:00(?::00(?:\.0+)?)?)?"
# Size of RE2's program for all fields together, in its instructions: of a larger one RE2's cache overflows and matching
# crawls.
MAX_PROGRAM_SIZE = 20_000


def fitting_lines(columns: Iterable[Column]) -> bytes:
    """RE2 pattern of whole CSV lines in UTF-8, of these columns in order, whose fields keep their contract."""
    return b"(?:" + b",".join(_either(field) for field, _ in _fields(columns)) + rb"\r?\n)*"


def harmless_lines(columns: Sequence[Column]) -> bytes | None:
    """RE2 pattern of whole CSV lines that need no look at their fields; None where no line needs one.

    A column that expects HKID numbers holds what its own pattern accepts, a pseudonym, or neither letter nor bracket; a
    date is written in digits.
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


def fitting_is_harmless(columns: Sequence[Column]) -> bool:
    """Whether every line that matches `fitting_lines` matches `harmless_lines` as well."""
    fields = zip(columns, _fields(columns), strict=True)
    return all("pattern" in proven for column, (_, proven) in fields if column.expects_hkid)


def proven_rules(contract: Contract) -> frozenset[str]:
    """Names of the rules that a row keeps when its line matches `fitting_lines`."""
    fields = zip(contract.stored, _fields(contract.stored), strict=True)
    return frozenset(f"{column.name}.{rule}" for column, (_, proven) in fields for rule in proven)


def proven_rules_sha256(contract: Contract) -> str:
    """SHA-256, in hex, of what the pattern proves: a later version of a contract may be stricter."""
    names = [column.name for column in contract.stored]
    return hashlib.sha256(repr([*zip(names, _fields(contract.stored), strict=True)]).encode()).hexdigest()


def _fields(columns: Iterable[Column]) -> list[tuple[bytes, list[str]]]:
    """For each column its field's pattern and the rules that it proves: the smallest ones up to MAX_PROGRAM_SIZE.

    Columns without rules do not count, and fewer columns leave more room for each. So what is proven of all columns of
    a contract is proven of a delivery that lacks some and adds others.
    """
    contents = [_content(column) for column in columns]
    sizes = [_size(content) if proves else 0 for content, proves in contents]
    largest = max(
        (size for size in sizes if sum(other for other in sizes if other <= size) <= MAX_PROGRAM_SIZE), default=0
    )
    found = []
    for column, (content, proves), size in zip(columns, contents, sizes, strict=True):
        if size > largest:
            content, proves = ANY + b"+", []
        found.append((content, [*proves, "required"]) if column.required else (b"(?:" + content + b")?", proves))
    return found


def _content(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of a column's field, and the rules that it proves."""
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
    """The column's own pattern for RE2, or nothing where RE2 could read it differently or it is too large."""
    portable = PORTABLE.fullmatch(column.options.get("pattern", ""))
    return [portable[1].encode()] if portable and _size(portable[1].encode()) <= MAX_PROGRAM_SIZE else []


def _either(field: bytes) -> bytes:
    """Pattern of a field with or without quotes around it."""
    return b'(?:%s|"%s")' % (field.replace(ANY, PLAIN), field.replace(ANY, QUOTED))


@cache
def _size(content: bytes) -> float:
    """Size of RE2's program for a field in instructions, infinite where RE2 refuses the pattern."""
    import re2

    options = re2.Options()
    options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
    try:
        return float(re2.compile(_either(content), options).programsize)
    except re2.error:
        return math.inf
