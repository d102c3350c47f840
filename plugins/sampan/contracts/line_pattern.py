"""The line pattern: one regular expression over CSV lines that can go to COPY as they are.

A line that fits it is quoted by RFC 4180, and every field has its type and keeps those rules of its column that a pattern can
tell: the gate need not check these again. A line that does not fit may still be sound; it is taken apart.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from functools import cache

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import PSEUDONYM

# A byte of a field: a placeholder, as it becomes without quotes around the field, and with them.
ANY, PLAIN, QUOTED = b"\0", rb'[^",\r\n\x00]', rb'[^"\r\n\x00]'
# Of a column that expects HKID numbers: neither letter nor bracket, so nothing that resembles one.
HARMLESS = rb"[^A-Za-z()<>\[\]{}\x80-\xff\r\n\x00\",]"
# Patterns that mean the same to RE2 and PostgreSQL, and that cannot match beyond a field.
PORTABLE = re.compile(r"\^((?:[A-Za-z0-9_()|?*+-]|\[[A-Za-z0-9_-]+\]|\{\d+(?:,\d*)?\})+)\$")


def _days(mark: bytes) -> bytes:
    """Pattern of the days of the calendar, year, month and day with a mark between; of leap days those of 1904 to 2096."""
    short, thirty, long = rb"(?:0[1-9]|1[0-2])", rb"(?:0[13-9]|1[0-2])", rb"(?:0[13578]|1[02])"
    leap = rb"(?:19(?:0[48]|[2468][048]|[13579][26])|20(?:[02468][048]|[13579][26]))"
    days = (short + mark + rb"(?:0[1-9]|1[0-9]|2[0-8])", thirty + mark + rb"(?:29|30)", long + mark + b"31")
    return rb"[1-9][0-9]{3}%s(?:%s)|%s%s02%s29" % (mark, b"|".join(days), leap, mark, mark)


DAY = b"(?:%s|%s)" % (_days(b"-"), _days(b""))
DATE = DAY + rb"(?:[T ]00:00(?::00(?:\.0{1,6})?)?)?"
TIMESTAMP = DAY + (
    rb"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-](?:0[0-9]|1[0-3])(?::?[0-5][0-9])?)?)?"
)
# Size of RE2's program for all fields together, in its instructions: of a larger one RE2's cache overflows and matching
# crawls.
MAX_PROGRAM_SIZE = 20_000


def fitting_lines(columns: Iterable[Column]) -> bytes:
    """RE2 pattern of whole CSV lines in UTF-8, of these columns in order, that can go to COPY as they are."""
    return b"(?:" + b",".join(_either(field) for field, _ in _fields(columns)) + rb"\n)*"


def proven_rules(contract: Contract) -> frozenset[str]:
    """Names of the rules that a row keeps when its line matches `fitting_lines`, beside the types of its fields."""
    fields = zip(contract.stored, _fields(contract.stored), strict=True)
    return frozenset(f"{column.name}.{rule}" for column, (_, proven) in fields for rule in proven)


def proven_of_fields(columns: Iterable[Column]) -> list[list[str]]:
    """For each of these columns the rules that a line of all of them proves of its field: `enum`, `pattern`, ..."""
    return [proven for _, proven in _fields(columns)]


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
            content, proves = _unproven(column), []
        found.append((content, [*proves, "required"]) if column.required else (b"(?:" + content + b")?", proves))
    return found


def _content(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of a column's field, and the rules that it proves."""
    longest = column.options.get("maxLength")
    if column.type != "text":
        return _typed(column)
    if column.enum and not any(re.search('[",\r\n]', value) for value in column.enum):
        return b"(?:" + b"|".join(re.escape(value.encode()) for value in column.enum) + b")", ["enum"]
    if accepted := _accepted(column):
        return b"(?:" + accepted[0] + b")", ["pattern"]
    if column.expects_hkid or not longest:
        return _unproven(column), []
    # No text has more characters than bytes.
    return ANY + b"{1,%d}" % longest, ["max_length"]


def _unproven(column: Column) -> bytes:
    """Pattern of a field that COPY takes and that holds nothing which only a closer look can judge."""
    if column.type != "text":
        return _typed(column)[0]
    if column.expects_hkid:
        return b"(?:%s+|%s)" % (HARMLESS, PSEUDONYM.pattern.encode())
    return ANY + b"+"


def _typed(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of a field of another type than text, and the rules that it proves."""
    if column.type in ("numeric", "bigint"):
        signed = column.options.get("minimum") != 0 or "exclusiveMinimum" in column.options
        number, proves = b"-?" if signed else b"", [] if signed else ["minimum"]
        if column.type == "bigint":
            return number + b"[0-9]{1,18}", proves
        proves = [*proves, "finite"]
        if column.scale is None:
            return number + rb"[0-9]{1,30}(?:\.[0-9]{1,30})?", proves
        decimals = rb"[0-9]{1,%d}0{0,20}" % column.scale if column.scale else rb"0{1,20}"
        return number + rb"[0-9]{1,30}(?:\.%s)?" % decimals, [*proves, "scale"]
    return {"date": DATE, "timestamptz": TIMESTAMP, "boolean": b"(?:true|false)"}[column.type], []


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
