"""The line pattern: one regular expression over CSV lines that can go to COPY as they are.

A line that fits it is quoted by RFC 4180, and every field has its type and keeps those rules of its column that a pattern can
tell: the gate need not check these again. A line that does not fit may still be sound; it is taken apart.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import PSEUDONYM

# A byte of a field: a placeholder, as it becomes without quotes around the field, and with them.
ANY, PLAIN, QUOTED = b"\0", rb'[^",\r\n\x00]', rb'[^"\r\n\x00]'
# Of a column that expects HKID numbers: neither letter nor bracket, so nothing that resembles one.
HARMLESS = rb"[^A-Za-z()<>\[\]{}\x80-\xff\r\n\x00\",]"
# Patterns that mean the same to RE2 and PostgreSQL, and that cannot match beyond a field.
PORTABLE = re.compile(r"\^((?:[A-Za-z0-9_()|?*+-]|\[[A-Za-z0-9_-]+\]|\{\d+(?:,\d*)?\})+)\$")


# Matches nothing.
NEVER = rb"[^\x00-\xff]"
# Leap years from 1904 to 2096, those of each century but its first.
LEAP_YEARS = [year for year in range(1904, 2097) if year % 4 == 0 and (year % 100 or year % 400 == 0)]


def _days(mark: bytes, years: bytes, leap: bytes) -> bytes:
    """Pattern of the days of the calendar in these years, year, month and day with a mark between."""
    short, thirty, long = rb"(?:0[1-9]|1[0-2])", rb"(?:0[13-9]|1[0-2])", rb"(?:0[13578]|1[02])"
    days = (short + mark + rb"(?:0[1-9]|1[0-9]|2[0-8])", thirty + mark + rb"(?:29|30)", long + mark + b"31")
    return rb"%s%s(?:%s)|%s%s02%s29" % (years, mark, b"|".join(days), leap, mark, mark)


def _day(years: bytes = rb"[1-9][0-9]{3}", leap_years: Sequence[int] = LEAP_YEARS) -> bytes:
    leap = b"(?:%s)" % b"|".join(b"%d" % year for year in leap_years) if leap_years else NEVER
    return b"(?:%s|%s)" % (_days(b"-", years, leap), _days(b"", years, leap))


def _days_between(first: int, last: int) -> bytes:
    """Pattern of the days of the calendar in the years from the first to the last."""
    years = b"|".join(
        b"%d[%d-%d]" % (decade, max(first - 10 * decade, 0), min(last - 10 * decade, 9))
        for decade in range(first // 10, last // 10 + 1)
    )
    return _day(b"(?:%s)" % years, [year for year in LEAP_YEARS if first <= year <= last])


def _up_to(most: int) -> bytes:
    """Pattern of the whole numbers from 1 to `most`, without zeros in front."""
    digits = str(most)
    length = len(digits)
    if set(digits) == {"9"}:
        return b"[1-9][0-9]{0,%d}" % (length - 1)
    parts = [b"[1-9][0-9]{0,%d}" % (length - 2)] if length > 1 else []
    for place, digit in enumerate(map(int, digits)):
        least = 0 if place else 1
        if digit > least:
            parts.append(b"%s[%d-%d][0-9]{%d}" % (digits[:place].encode(), least, digit - 1, length - place - 1))
    return b"|".join([*parts, digits.encode()])


MIDNIGHT = rb"(?:[T ]00:00(?::00(?:\.0{1,6})?)?)?"
DATE = _day() + MIDNIGHT
TIMESTAMP = _day() + (
    rb"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-](?:0[0-9]|1[0-3])(?::?[0-5][0-9])?)?)?"
)
# Size of RE2's program for all fields together, in its instructions: of a larger one RE2's cache overflows and matching
# crawls.
MAX_PROGRAM_SIZE = 20_000
# Raised when load leaves to the gate something else than before: what was loaded then is loaded again.
FORM = 2


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
    """SHA-256, in hex, of what the pattern proves: a later version of a contract may be stricter, or of the platform."""
    names = [column.name for column in contract.stored]
    return hashlib.sha256(repr([FORM, *zip(names, _fields(contract.stored), strict=True)]).encode()).hexdigest()


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
        return _number(column)
    if column.type == "date" and {"minimum", "maximum"} <= column.options.keys():
        least, most = (date.fromisoformat(str(column.options[name])) for name in ("minimum", "maximum"))
        # Of a year that is not wholly within its bounds, days are left to PostgreSQL.
        first, last = (
            least.year + ((least.month, least.day) != (1, 1)),
            most.year - ((most.month, most.day) != (12, 31)),
        )
        if 1000 <= first <= last:
            return _days_between(first, last) + MIDNIGHT, ["minimum", "maximum"]
    return {"date": DATE, "timestamptz": TIMESTAMP, "boolean": b"(?:true|false)"}[column.type], []


def _number(column: Column) -> tuple[bytes, list[str]]:
    """Pattern of a number within the bounds of its column, if these are 0 (or 1) and a whole number, and what it proves."""
    least, most = column.options.get("minimum"), column.options.get("maximum")
    is_whole = column.type == "bigint"
    signed = least not in ((0, 1) if is_whole else (0,)) or "exclusiveMinimum" in column.options
    proves = [] if signed else ["minimum"]
    bound = int(most) if not signed and most is not None and most >= 1 and most == int(most) else None
    if bound:
        proves.append("maximum")
    if is_whole:
        if bound:
            # Of a bigint; with more digits it may not be one.
            number = _up_to(min(bound, 10**18 - 1))
            return b"0*(?:%s)" % (number if least else b"0|" + number), proves
        return (b"-?[0-9]{1,18}", []) if signed or least else (b"[0-9]{1,18}", proves)
    proves.append("finite")
    decimals = rb"[0-9]{1,30}"
    if column.scale is not None:
        decimals = rb"[0-9]{1,%d}0{0,20}" % column.scale if column.scale else rb"0{1,20}"
        proves.append("scale")
    if bound:
        below = rb"0*(?:0|%s)(?:\.%s)?" % (_up_to(bound - 1), decimals)
        return rb"(?:%s|0*%d(?:\.0{1,20})?)" % (below, bound), proves
    return (b"-?" if signed else b"") + rb"[0-9]{1,30}(?:\.%s)?" % decimals, proves


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
