"""Patterns of values that Python and PostgreSQL both check: numbers, dates and times, and pseudonyms."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# Of `reading.personal_data.Pseudonymiser`; `invalid_` marks what resembled an HKID number and was none.
# In place of a value that is not kept. A delivered text like it is taken from the delivery too.
WITHHELD = "[withheld]"
PSEUDONYM = re.compile(r"(invalid_)?p[0-9]+_[0-9a-f]{64}")
# What a steward sees in place of one: with the pseudonym itself, a guess at a number could be told right from wrong.
SHOWN_PSEUDONYMS = ((r"invalid_p[0-9]+_[0-9a-f]{64}", "[invalid HKID]"), (r"p[0-9]+_[0-9a-f]{64}", "[pseudonym]"))

# PostgreSQL reads more as a date or a number than means the same to the person who wrote it: words whose day changes
# (`today`), two digits that are a year or a day (`15/07/26`), names of zones that mean another one elsewhere (`CST`) or
# count the other way (`UTC+8`), seconds since 1970 as a year, and the integers of programmers (`0x1F`, `1_000`).
_DAY = (
    r"(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{8}"
    r"|[0-9]{1,2}[-/., ]+[A-Za-z]{3,9}[-/., ]+[0-9]{4}|[A-Za-z]{3,9}[-/., ]+[0-9]{1,2}[-/., ]+[0-9]{4})"
)
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]+)?)?(?: ?[AaPp][Mm])?"
_ZONE = r"(?: ?(?:Z|z|UTC|GMT|HKT|[+-][0-9]{2}(?::?[0-9]{2})?))?"
# Shapes of a value by the type of its column. A date has no other time of day than midnight, without an offset, as typed
# files write one: PostgreSQL would drop another time, and the day may be another one in Hong Kong.
SHAPES = {
    "date": rf"[ \t]*{_DAY}(?:[T ]00:00(?::00(?:[.]0+)?)?)?[ \t]*",
    "timestamptz": rf"[ \t]*(?:{_DAY}(?:[T ]+{_CLOCK}{_ZONE})?|[0-9]{{8}}T[0-9]{{6}}{_ZONE})[ \t]*",
    "bigint": r"[ \t]*[+-]?[0-9]+[ \t]*",
    "numeric": r"[ \t]*(?:[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)(?:[eE][+-]?[0-9]+)?|NaN|[+-]?Infinity)[ \t]*",
}


@cache
def linear(pattern: str) -> Any:
    """A contract's pattern as RE2 has it, over bytes in UTF-8: Python's own takes years for a value with `^([A-Z]+-?)+$`.

    Raises re2.error for what RE2 does not take, as a reference back to a group.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


def accepts(pattern: str, value: str) -> bool:
    """Whether a value has a part that matches a contract's pattern."""
    return linear(pattern).search(value.encode("utf-8", "replace")) is not None
