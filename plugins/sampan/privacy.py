"""Personal data on its way in: dropped, or replaced by a keyed pseudonym, before anything reaches the database.

A pseudonym is `p<key version>_` and the HMAC-SHA-256 of the value in hex. An HKID number is recognised by its shape (one or
two letters, six digits, a check digit, brackets or not); one whose check digit is wrong becomes `invalid_p...`, which no
identifier column accepts, so that it is quarantined without being shown.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from sampan.contract import Column
from sampan.settings import settings

HKID = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{1,2})([0-9]{6})(\()?([0-9Aa])(?(3)\))(?![A-Za-z0-9])")
BRACKETED_HKID = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{1,2}[0-9]{6}\([0-9Aa]\)")
PSEUDONYM = re.compile(r"(invalid_)?p[0-9]+_[0-9a-f]{64}")
# Companies without a business registration carry these prefixes before digits (Unique Business Identifier).
UBI_PREFIXES = ("C", "F", "LP", "OF")


def hkid_is_valid(text: str) -> bool:
    """Whether text is an HKID number with the right check digit (weights 9 to 2 and 1, a blank counts 36, modulo 11)."""
    match = HKID.fullmatch(text.strip())
    if not match:
        return False
    letters, digits, _, check = match.groups()
    values = [36 if char == " " else ord(char) - 55 for char in letters.upper().rjust(2)] + [int(d) for d in digits]
    values.append(10 if check in "Aa" else int(check))
    return sum(value * weight for value, weight in zip(values, (9, 8, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11 == 0


@dataclass(frozen=True)
class Pseudonymiser:
    """Keyed pseudonyms under one key version."""

    key: bytes
    version: int

    def __call__(self, value: str) -> str:
        digest = hmac.digest(self.key, value.encode(), "sha256").hex()
        return f"p{self.version}_{digest}"

    def hkid(self, text: str) -> str:
        """The pseudonym of an HKID number, the same however it is written."""
        plain = re.sub(r"[^A-Z0-9]", "", text.upper())
        return self(plain) if hkid_is_valid(text) else f"invalid_{self(plain)}"

    def clean(self, column: Column | None, value: str) -> str:
        """A field as it may be stored: the column's own handling, and no bracketed HKID number wherever it stands."""
        if column is not None and column.personal == "pseudonymise" and not PSEUDONYM.fullmatch(value):
            if column.personal_pattern != "hkid":
                return self(value)
            stripped = value.strip()
            if HKID.fullmatch(stripped) and not _may_be_ubi(column, stripped):
                return self.hkid(stripped)
        if "(" in value:
            return BRACKETED_HKID.sub(lambda match: self.hkid(match.group()), value)
        return value

    def clean_text(self, text: str) -> str:
        """Text of unknown structure, with everything of an HKID number's shape replaced."""
        return HKID.sub(lambda match: self.hkid(match.group()), text)


def _may_be_ubi(column: Column, value: str) -> bool:
    pattern = column.options.get("pattern")
    prefix = re.match(r"[A-Za-z]*", value)
    return bool(pattern and prefix and prefix.group() in UBI_PREFIXES and re.search(pattern, value))


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser under the installation's key."""
    config = settings()
    return Pseudonymiser(config.pseudonym_key, config.pseudonym_key_version)
