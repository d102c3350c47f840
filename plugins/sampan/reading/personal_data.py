"""Personal data on its way in: dropped, or replaced by a keyed pseudonym, before anything reaches the database.

A pseudonym is `p<key version>_` and the HMAC-SHA-256 of the value in hex. An HKID number is one or two letters, six
digits and a check digit, with or without brackets, half-width or full-width. With brackets it is replaced in any text,
even right after other letters. Without them it looks like many a part number, so it is replaced where the contract
expects an HKID number, and elsewhere only when its check digit is right. One with a wrong check digit becomes
`invalid_p...`, which no identifier column accepts, so that its row is quarantined without showing it.

People mistype their numbers: without the letter or the check digit, with a slash, with a digit lost. So where the
contract expects an HKID number, every value that the column's pattern does not accept and that holds a digit and a
letter or a bracket becomes `invalid_p...` too. Digits alone stay readable: they are a mistyped business registration
number.
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
# Nearly no text has six digits, and this costs a quarter of what HKID does.
_SIX_DIGITS = re.compile(r"[0-9]{6}")
# A mistyped one: separators anywhere, a digit too few or too many, the check digit left out.
_GAP = r"""(?:[^\w,;|"]|_){0,4}"""
MISTYPED_HKID = re.compile(
    rf"(?<![A-Za-z0-9])(?:[A-Za-z]{{1,2}}(?:{_GAP}[0-9]){{5,8}}(?:{_GAP}[Aa](?![A-Za-z0-9]))?(?!{_GAP}[0-9])(?![A-Za-z0-9])"
    rf"|[0-9]{{6}}[ -]?\([0-9Aa]\))"
)
# Chinese text has full-width letters, digits, brackets and blanks; each corresponds to one ASCII character.
FULL_WIDTH = {0xFF01 + code: 0x21 + code for code in range(94)} | {0x3000: 0x20, 0xA0: 0x20}
# Unique Business Identifiers of companies without a business registration: one of these prefixes, then digits.
UBI_PREFIXES = ("C", "F", "LP", "OF")


def _half_width(text: str) -> str:
    """Text with full-width characters as ASCII ones; no character changes its place."""
    return text if text.isascii() else text.translate(FULL_WIDTH)


def _letters_and_digits(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def hkid_is_valid(text: str) -> bool:
    """Whether text is an HKID number with the right check digit (weights 9 to 1, a blank counts 36, modulo 11)."""
    text = _half_width(text).strip()
    if not HKID.fullmatch(text):
        return False
    compact = _letters_and_digits(text).rjust(9)
    body, check = compact[:-1], compact[-1]
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
        """The pseudonym of an HKID number, the same in every spelling."""
        compact = _letters_and_digits(_half_width(text))
        return self(compact) if hkid_is_valid(text) else f"invalid_{self(compact)}"

    def clean(self, column: Column | None, value: str) -> str:
        """A field as it may be stored: by its column's rule for personal data, and without HKID numbers in its text."""
        if column is None or column.personal != "pseudonymise":
            return _substitute(HKID, self._in_text, value)
        if PSEUDONYM.fullmatch(value):
            return value
        if not column.expects_hkid:
            return self(value)
        normal = unicodedata.normalize("NFKC", value).strip()
        if HKID.fullmatch(normal) and not _may_be_ubi(column, normal):
            return self.hkid(normal)

        def by_column(match: re.Match[str]) -> str:
            return match.group() if _may_be_ubi(column, match.group()) else self._in_text(match)

        cleaned = _substitute(HKID, by_column, value)
        if _accepts(column, normal) or not _may_be_mistyped_hkid(PSEUDONYM.sub("", cleaned)):
            return cleaned
        return self._invalid(normal)

    def clean_text(self, text: str, expects_hkid: bool = False) -> str:
        """Text of unknown structure, with everything replaced that is written like an HKID number.

        `expects_hkid`: some field of the text may hold HKID numbers, so what resembles a mistyped one is replaced too.
        """
        text = _substitute(HKID, lambda match: self.hkid(match.group()), text)
        if not expects_hkid:
            return text
        return _substitute(MISTYPED_HKID, lambda match: self._invalid(match.group()), text)

    def _in_text(self, match: re.Match[str]) -> str:
        bare = match.group(1)
        return bare if bare is not None and not hkid_is_valid(bare) else self.hkid(match.group())

    def _invalid(self, text: str) -> str:
        return f"invalid_{self(_letters_and_digits(text))}"


def _substitute(pattern: re.Pattern[str], by: Callable[[re.Match[str]], str], text: str) -> str:
    """Text with the matches of a pattern replaced, full-width characters included; the rest stays as it is."""
    ascii_text = _half_width(text)
    if pattern is HKID and not _SIX_DIGITS.search(ascii_text):
        return text
    if ascii_text is text:
        return pattern.sub(by, text)
    parts, done = [], 0
    for match in pattern.finditer(ascii_text):
        new = by(match)
        if new != match.group():
            parts += [text[done : match.start()], new]
            done = match.end()
    return "".join([*parts, text[done:]])


def _accepts(column: Column, value: str) -> bool:
    pattern = column.options.get("pattern")
    return bool(pattern and re.search(pattern, value))


def _may_be_mistyped_hkid(text: str) -> bool:
    """Whether text holds a digit and a letter or a bracket, half-width or full-width, anywhere."""
    text = unicodedata.normalize("NFKC", text)
    return bool(re.search(r"[^\W\d_]|[()]", text) and re.search(r"\d", text))


def _may_be_ubi(column: Column, value: str) -> bool:
    prefix = re.match(r"[A-Za-z]*", value)
    return bool(prefix and prefix.group() in UBI_PREFIXES and _accepts(column, value))


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser with the key of this installation."""
    config = settings()
    return Pseudonymiser(config.pseudonym_key, config.pseudonym_key_version)
