"""Patterns of values that Python and PostgreSQL both check: dates, and pseudonyms."""

import re

# Of `reading.personal_data.Pseudonymiser`; `invalid_` marks what resembled an HKID number and was none.
PSEUDONYM = re.compile(r"(invalid_)?p[0-9]+_[0-9a-f]{64}")
# What a steward sees in place of one: with the pseudonym itself, a guess at a number could be told right from wrong.
SHOWN_PSEUDONYMS = ((r"invalid_p[0-9]+_[0-9a-f]{64}", "[invalid HKID]"), (r"p[0-9]+_[0-9a-f]{64}", "[pseudonym]"))
# PostgreSQL's special date inputs: their value depends on the day on which they are read, or is not a day.
DATE_WORDS = r"(?i)(now|today|tomorrow|yesterday|epoch|infinity|allballs)"
# A date without a time of day other than midnight: PostgreSQL drops the time and its offset, and the day may be another
# one in Hong Kong. Midnight without an offset is how typed files write a date.
_MONTH = r"(?:[0-9]{1,4}[-/., ]+[A-Za-z]{3,9}|[A-Za-z]{3,9}[-/., ]+[0-9]{1,4})[-/., ]+[0-9]{1,4}"
DAY = rf"[ \t]*(?:[Jj]?[0-9]+(?:[-/.][0-9]+){{0,2}}|{_MONTH})(?:[T ]00:00(?::00(?:[.]0+)?)?)?[ \t]*"
