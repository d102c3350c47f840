"""What values look like, for Python and PostgreSQL alike: dates, and the pseudonyms of persons."""

import re

PSEUDONYM = re.compile(r"(invalid_)?p[0-9]+_[0-9a-f]{64}")
DATE_WORDS = r"(?i)(now|today|tomorrow|yesterday|epoch|infinity|allballs)"
# What a date may look like, for Python and PostgreSQL alike: PostgreSQL drops a time and its offset, which may be of the day
# before in Hong Kong. Midnight without an offset is how typed files write a date.
_MONTH = r"(?:[0-9]{1,4}[-/., ]+[A-Za-z]{3,9}|[A-Za-z]{3,9}[-/., ]+[0-9]{1,4})[-/., ]+[0-9]{1,4}"
DAY = rf"[ \t]*(?:[Jj]?[0-9]+(?:[-/.][0-9]+){{0,2}}|{_MONTH})(?:[T ]00:00(?::00(?:[.]0+)?)?)?[ \t]*"
