"""Personal data on its way in: dropped, or replaced by a keyed pseudonym, before anything reaches the database.

A pseudonym is `p<key version>_` and the HMAC-SHA-256 of the value in hex. An HKID number is recognised by its shape (one or
two letters, six digits, a check digit, brackets or not). In brackets it is replaced wherever it stands; without them its
shape is that of many a part number, so it is replaced where the contract expects one, and elsewhere when its check digit is
right. One whose check digit is wrong becomes `invalid_p...`, which no identifier column accepts, so that it is quarantined
without being shown.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from sampan.contract import Column
from sampan.settings import settings

_BODY = r"[A-Za-z]{1,2}[ -]?[0-9]{6}[ -]?"
# Chinese text has brackets of its own, of full width.
_BRACKETED = rf"{_BODY}[(\uff08][0-9Aa][)\uff09]"
HKID = re.compile(rf"(?<![A-Za-z0-9])(?:{_BRACKETED}|{_BODY}[0-9Aa](?![A-Za-z0-9]))")
IN_TEXT = re.compile(rf"(?<![A-Za-z0-9])(?:{_BRACKETED}|([A-Za-z]{{1,2}}[0-9]{{6}}[0-9Aa])(?![A-Za-z0-9]))")
PSEUDONYM = re.compile(r"(invalid_)?p[0-9]+_[0-9a-f]{64}")
# Companies without a business registration carry these prefixes before digits (Unique Business Identifier).
UBI_PREFIXES = ("C", "F", "LP", "OF")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def hkid_is_valid(text: str) -> bool:
    """Whether text is an HKID number with the right check digit (weights 9 to 2 and 1, a blank counts 36, modulo 11)."""
    if not HKID.fullmatch(text.strip()):
        return False
    *body, check = _plain(text).rjust(9)
    values = [36 if char == " " else ord(char) - 55 for char in body[:2]] + [int(digit) for digit in body[2:]]
    values.append(10 if check == "A" else int(check))
    return sum(value * weight for value, weight in zip(values, (9, 8, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11 == 0


@dataclass(frozen=True)
class Pseudonymiser:
    """Keyed pseudonyms under one key version."""

    key: bytes
    version: int

    def __call__(self, value: str) -> str:
        """The pseudonym of a value."""
        digest = hmac.digest(self.key, value.encode(), "sha256").hex()
        return f"p{self.version}_{digest}"

    def hkid(self, text: str) -> str:
        """The pseudonym of an HKID number, the same however it is written."""
        plain = _plain(text)
        return self(plain) if hkid_is_valid(text) else f"invalid_{self(plain)}"

    def clean(self, column: Column | None, value: str) -> str:
        """A field as it may be stored: by its column's own handling, and with no HKID number wherever it stands."""
        guarded = column is not None and column.personal == "pseudonymise"
        if guarded and not PSEUDONYM.fullmatch(value):
            if column.personal_pattern != "hkid":
                return self(value)
            stripped = value.strip()
            if HKID.fullmatch(stripped) and not _may_be_ubi(column, stripped):
                return self.hkid(stripped)

        def replaced(match: re.Match[str]) -> str:
            if guarded and _may_be_ubi(column, match.group()):
                return match.group()
            bare = match.group(1)
            return bare if bare is not None and not hkid_is_valid(bare) else self.hkid(match.group())

        return IN_TEXT.sub(replaced, value)

    def clean_text(self, text: str) -> str:
        """Text of unknown structure, with everything of an HKID number's shape replaced."""
        return HKID.sub(lambda match: self.hkid(match.group()), text)


def _may_be_ubi(column: Column, value: str) -> bool:
    prefix, pattern = re.match(r"[A-Za-z]*", value), column.options.get("pattern")
    return bool(pattern and prefix and prefix.group() in UBI_PREFIXES and re.search(pattern, value))


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser under the installation's key."""
    config = settings()
    return Pseudonymiser(config.pseudonym_key, config.pseudonym_key_version)
