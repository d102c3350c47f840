"""Personal data on its way in: dropped, or replaced by a keyed pseudonym, before anything reaches the database.

A pseudonym is `p<key version>_` and the HMAC-SHA-256 of the value in hex. An HKID number is recognised by its shape (one or
two letters, six digits, a check digit, brackets or not, characters of full width or not). In brackets it is replaced wherever
it stands, behind other letters, too; without them its shape is that of many a part number, so it is replaced where the
contract expects one, and elsewhere when its check digit is right. One whose check digit is wrong becomes `invalid_p...`,
which no identifier column accepts, so that it is quarantined without being shown.

People write their numbers in more ways than that shape has: without the letter or the check digit, with a slash, with a
digit lost. So where the contract expects an HKID number, every value that the column's pattern does not accept and that holds
a digit and a letter or a bracket becomes `invalid_p...` too. Digits alone stay readable: they are a mistyped business
registration number.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from sampan.contracts.model import Column
from sampan.contracts.values import PSEUDONYM
from sampan.settings import settings

_BODY = r"[A-Za-z]{1,2}[ -]?[0-9]{6}[ -]?"
_BRACKETED = rf"{_BODY}\([0-9Aa]\)"
HKID = re.compile(rf"{_BRACKETED}|((?<![A-Za-z0-9]){_BODY}[0-9Aa](?![A-Za-z0-9]))")
# Nearly every text is without them, which costs a quarter of the whole look.
_DIGITS = re.compile(r"[0-9]{6}")
# What may have been meant as one: signs anywhere between, a digit too few or too many, the check digit left out.
_GAP = r"""(?:[^\w,;|"]|_){0,4}"""
CARELESS = re.compile(
    rf"(?<![A-Za-z0-9])(?:[A-Za-z]{{1,2}}(?:{_GAP}[0-9]){{5,8}}(?:{_GAP}[Aa](?![A-Za-z0-9]))?(?!{_GAP}[0-9])(?![A-Za-z0-9])"
    rf"|[0-9]{{6}}[ -]?\([0-9Aa]\))"
)
# Chinese text has letters, digits, brackets and blanks of its own, of full width; each stands for one of ASCII.
WIDTHS = {0xFF01 + code: 0x21 + code for code in range(94)} | {0x3000: 0x20, 0xA0: 0x20}
# Companies without a business registration carry these prefixes before digits (Unique Business Identifier).
UBI_PREFIXES = ("C", "F", "LP", "OF")


def _narrow(text: str) -> str:
    """Text with characters of full width as those of ASCII, each at its place."""
    return text if text.isascii() else text.translate(WIDTHS)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def hkid_is_valid(text: str) -> bool:
    """Whether text is an HKID number with the right check digit (weights 9 to 2 and 1, a blank counts 36, modulo 11)."""
    text = _narrow(text).strip()
    if not HKID.fullmatch(text):
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
        plain = _plain(_narrow(text))
        return self(plain) if hkid_is_valid(text) else f"invalid_{self(plain)}"

    def clean(self, column: Column | None, value: str) -> str:
        """A field as it may be stored: by its column's own handling, and with no HKID number wherever it stands."""
        if column is None or column.personal != "pseudonymise":
            return _replaced(HKID, self._in_text, value)
        if PSEUDONYM.fullmatch(value):
            return value
        if not column.expects_hkid:
            return self(value)
        normal = unicodedata.normalize("NFKC", value).strip()
        if HKID.fullmatch(normal) and not _may_be_ubi(column, normal):
            return self.hkid(normal)

        def by_column(match: re.Match[str]) -> str:
            return match.group() if _may_be_ubi(column, match.group()) else self._in_text(match)

        cleaned = _replaced(HKID, by_column, value)
        if _accepts(column, normal) or not _may_be_a_number(PSEUDONYM.sub("", cleaned)):
            return cleaned
        return self._invalid(normal)

    def clean_text(self, text: str, guarded: bool = False) -> str:
        """Text of unknown structure, with everything of an HKID number's shape replaced.

        `guarded`: a field of it may be one that expects such numbers, so what only resembles one is replaced, too.
        """
        text = _replaced(HKID, lambda match: self.hkid(match.group()), text)
        if not guarded:
            return text
        return _replaced(CARELESS, lambda match: self._invalid(match.group()), text)

    def _in_text(self, match: re.Match[str]) -> str:
        bare = match.group(1)
        return bare if bare is not None and not hkid_is_valid(bare) else self.hkid(match.group())

    def _invalid(self, text: str) -> str:
        return f"invalid_{self(_plain(text))}"


def _replaced(pattern: re.Pattern[str], by: Callable[[re.Match[str]], str], text: str) -> str:
    """Text with what a pattern finds replaced, whatever the width of its characters; all else stays as it is."""
    narrow = _narrow(text)
    if pattern is HKID and not _DIGITS.search(narrow):
        return text
    if narrow is text:
        return pattern.sub(by, text)
    parts, done = [], 0
    for match in pattern.finditer(narrow):
        new = by(match)
        if new != match.group():
            parts += [text[done : match.start()], new]
            done = match.end()
    return "".join([*parts, text[done:]])


def _accepts(column: Column, value: str) -> bool:
    pattern = column.options.get("pattern")
    return bool(pattern and re.search(pattern, value))


def _may_be_a_number(text: str) -> bool:
    """Whether text holds a digit and a letter or a bracket, in whatever width and with whatever between them."""
    text = unicodedata.normalize("NFKC", text)
    return bool(re.search(r"[^\W\d_]|[()]", text) and re.search(r"\d", text))


def _may_be_ubi(column: Column, value: str) -> bool:
    prefix = re.match(r"[A-Za-z]*", value)
    return bool(prefix and prefix.group() in UBI_PREFIXES and _accepts(column, value))


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser under the installation's key."""
    config = settings()
    return Pseudonymiser(config.pseudonym_key, config.pseudonym_key_version)
