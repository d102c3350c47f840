"""Personal data on its way in: dropped, or replaced by a keyed pseudonym, before anything reaches the database.

A pseudonym is `p<key version>_` and the HMAC-SHA-256 of the value in hex. `hkid.py` says what an HKID number looks like in
a text. One in brackets with a wrong check digit becomes `invalid_p...`, which no identifier column accepts, so that its
row is quarantined without showing it.

People mistype their numbers: without the letter or the check digit, with a slash, with a digit lost. So where the
contract expects an HKID number, every value that the column's pattern does not accept and that holds a digit and a
letter or a bracket becomes `invalid_p...` too. Digits alone stay readable: they are a mistyped business registration
number.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from dataclasses import dataclass, field

from sampan.contracts.model import Column
from sampan.contracts.values import PSEUDONYM, accepts
from sampan.reading import hkid
from sampan.settings import settings

# As people write it where it is asked for: the only form that such a column takes.
HKID = re.compile(r"[A-Za-z]{1,2}[ -]?[0-9]{6}[ -]?(?:[0-9Aa]|\([0-9Aa]\))")
_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{1,2}[ -]?[0-9]{6}[ -]?[0-9Aa](?![A-Za-z0-9])")
# A mistyped one: separators anywhere, a digit too few or too many, the check digit left out.
_GAP = r"""(?:[^\w,;|"]|_){0,4}"""
MISTYPED_HKID = re.compile(
    rf"(?<![A-Za-z0-9])(?:[A-Za-z]{{1,2}}(?:{_GAP}[0-9]){{5,8}}(?:{_GAP}[Aa](?![A-Za-z0-9]))?(?!{_GAP}[0-9])(?![A-Za-z0-9])"
    rf"|[0-9]{{6}}[ -]?\([0-9Aa]\))"
)
# Unique Business Identifiers of companies without a business registration: one of these prefixes, then digits.
UBI_PREFIXES = ("C", "F", "LP", "OF")


def hkid_is_valid(text: str) -> bool:
    """Whether text is an HKID number with the right check digit, in the form that a column takes."""
    normal = unicodedata.normalize("NFKC", text).strip()
    return bool(HKID.fullmatch(normal)) and hkid.has_right_check_digit(normal)


@dataclass(frozen=True)
class Pseudonymiser:
    """Keyed pseudonyms under one key version.

    `oldest` makes those of the oldest version still held. `aliases` then has, for each pseudonym that was made, the one
    of the same value under that version. `keeps_pseudonyms`: what it reads was cleaned before, so that pseudonyms in it
    are the platform's own.
    """

    key: bytes
    version: int
    oldest: Pseudonymiser | None = None
    keeps_pseudonyms: bool = False
    aliases: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, value: str) -> str:
        """The pseudonym of a value."""
        digest = hmac.digest(self.key, value.encode(), "sha256").hex()
        return f"p{self.version}_{digest}"

    def known(self, value: str) -> str:
        """The pseudonym of a value, with its alias noted: later pseudonyms of a value can be joined with earlier ones."""
        pseudonym = self(value)
        if self.oldest:
            self.aliases[pseudonym] = self.oldest(value)
        return pseudonym

    def hkid(self, text: str) -> str:
        """The pseudonym of an HKID number, the same in every spelling."""
        value = hkid.letters_and_digits(text)
        return self.known(value) if hkid.has_right_check_digit(value) else self._invalid(value)

    def without_pseudonyms(self, value: str) -> str:
        """A field as it was delivered, its pseudonyms made invalid: who could write one would be taken for its person."""
        return value if self.keeps_pseudonyms else PSEUDONYM.sub(lambda found: self._invalid(found.group()), value)

    def clean(self, column: Column | None, value: str) -> str:
        """A field as it may be stored: by its column's rule for personal data, and without HKID numbers in its text."""
        if column is None or column.personal != "pseudonymise":
            if column is not None and _accepts(column, value):
                # A code by the contract: SBP1234567 or TM-1234-567 is not a person's number, A1234563 is.
                return hkid.replace(value, lambda found: self.hkid(found) if HKID.fullmatch(found) else None, frame=0)
            return hkid.replace(value, self.hkid)
        if PSEUDONYM.fullmatch(value):
            return value
        if not column.expects_hkid:
            return self.known(value)
        normal = unicodedata.normalize("NFKC", value).strip()
        if HKID.fullmatch(normal) and not _may_be_ubi(column, normal):
            return self.hkid(normal)
        cleaned = hkid.replace(value, lambda found: None if _may_be_ubi(column, found) else self.hkid(found))
        if _accepts(column, normal):
            return cleaned
        # A number that fills the field in another form is misspelt. It must not pass as the person's own.
        is_misspelt = PSEUDONYM.fullmatch(cleaned.strip()) or _may_be_mistyped_hkid(PSEUDONYM.sub("", cleaned))
        return self._invalid(normal) if is_misspelt else cleaned

    def clean_text(self, text: str, expects_hkid: bool = False) -> str:
        """Text of unknown structure, with every HKID number in it replaced, and each word of that form.

        `expects_hkid`: some field of the text may hold HKID numbers, so what resembles a mistyped one is replaced too.
        """
        text = hkid.replace_all(_WORD, hkid.replace(text, self.hkid), self.hkid)
        return hkid.replace_all(MISTYPED_HKID, text, self._invalid) if expects_hkid else text

    def _invalid(self, text: str) -> str:
        return f"invalid_{self(hkid.letters_and_digits(text))}"


def _accepts(column: Column, value: str) -> bool:
    pattern = column.options.get("pattern")
    return bool(pattern) and accepts(str(pattern), value)


def _may_be_mistyped_hkid(text: str) -> bool:
    """Whether text holds a digit and a letter or a bracket, half-width or full-width, anywhere."""
    text = unicodedata.normalize("NFKC", text)
    return bool(re.search(r"[^\W\d_]|[()]", text) and re.search(r"\d", text))


def _may_be_ubi(column: Column, value: str) -> bool:
    prefix = re.match(r"[A-Za-z]*", value)
    return bool(prefix and prefix.group() in UBI_PREFIXES and _accepts(column, value))


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser with the keys of this installation."""
    config = settings()
    held = config.oldest_pseudonym_key
    return Pseudonymiser(config.pseudonym_key, config.pseudonym_key_version, Pseudonymiser(*held) if held else None)
