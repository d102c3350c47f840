"""Headers that a person takes for the expected one, and what a program tells them apart by."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Letters of other scripts, dashes and digits that look like a Latin letter or a hyphen (Unicode TR 39, the common ones).
LOOK_ALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТХУаеѕіјорсухһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοαρνıɑ‐‑‒–—−01ǀ",
    "ABESIJKMHOPCTXYaesijopcyxhABEZHIKMNOPTYXoapvia------olI",
)
QUOTES = str.maketrans("", "", "\"'`´‘’“”„«»「」『』＂＇")
# Headers that are compared, and the longest of them: an expected one is short.
MOST_COMPARED, LONGEST = 500, 200
# Share of equal characters from which on a header is taken for a misspelt one.
SIMILAR = 0.8


class Alike(NamedTuple):
    """A header that was meant as an expected one, and the words "differs by ..."."""

    header: str
    differs: str


def _without(categories: tuple[str, ...]) -> Callable[[str], str]:
    return lambda text: "".join(c for c in text if not unicodedata.category(c).startswith(categories))


# What may differ though it looks the same, and how it is taken away.
DIFFERENCES: dict[str, Callable[[str], str]] = {
    "a byte order mark": lambda text: text.replace("\ufeff", ""),
    "line breaks": lambda text: re.sub(r"[\r\n\v\f\x85\u2028\u2029]+", " ", text),
    "invisible characters": _without(("Cf", "Cc")),
    "quotes": lambda text: text.translate(QUOTES),
    "the width of characters": lambda text: unicodedata.normalize("NFKC", text),
    "characters that only look alike": lambda text: text.translate(LOOK_ALIKES),
    "capital letters": str.casefold,
    "blanks": lambda text: re.sub(r"[^\S\r\n]+", "", text),
    "punctuation": _without(("P",)),
}


def alike(expected: str, headers: Sequence[str]) -> Alike | None:
    """The header that was meant as the expected one: the same to the eye, or else misspelt; None without one."""
    compared = [header for header in headers[:MOST_COMPARED] if len(header) <= LONGEST]
    for header in compared:
        if _taken_away(header, tuple(DIFFERENCES)) == _taken_away(expected, tuple(DIFFERENCES)):
            return Alike(header, f"differs by {' and '.join(_differences(header, expected))}")
    close = difflib.get_close_matches(expected, compared, 1, SIMILAR)
    return Alike(close[0], "is spelt differently") if close else None


def _differences(header: str, expected: str) -> list[str]:
    """The fewest of DIFFERENCES without which two headers are the same."""
    needed = list(DIFFERENCES)
    for name in reversed(DIFFERENCES):
        fewer = [other for other in needed if other != name]
        if _taken_away(header, fewer) == _taken_away(expected, fewer):
            needed = fewer
    return needed


def _taken_away(text: str, names: Sequence[str]) -> str:
    for name in names:
        text = DIFFERENCES[name](text)
    return text
