"""Sorts CSV lines: those that can go to COPY as they are, and those that must be taken apart.

Patterns over the bytes of many lines find the few that hold something which needs a closer look.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from sampan.contracts import line_pattern
from sampan.contracts.model import Column
from sampan.contracts.values import PSEUDONYM
from sampan.reading import hkid
from sampan.reading.personal_data import Pseudonymiser
from sampan.reading.written import Written, searched

# Delivered, it would pass as a person's number.
PSEUDONYM_BYTES = PSEUDONYM.pattern.removeprefix("(invalid_)?").encode()
ENCODING_MARKS = [mark.encode() for mark in hkid.ENCODING_MARKS]
QUOTED_FIELD = re.compile(rb'"((?:[^"\n]|"")*)"')
FIELD = re.compile(rb"[^,\n]*")
HKID_DIGITS = 6
NEWLINE = 10
# Patterns that a process keeps: some for each feed. Those of CSV and JSON Lines depend on what is delivered, and each takes
# up to some megabytes with what its matches remember.
PATTERNS = 16
# In which people here write: a line of one of them in a delivery of another one holds numbers, too.
ENCODINGS = ("utf-8", "big5hkscs", "gb18030", "cp1252")
# Bytes that belong to no part of a digit, in any notation or script.
NEVER_DIGITS = bytes(set(range(128)) - set(b"0123456789" + hkid.ENCODING_MARKS.encode()))


@cache
def suspect() -> Any:
    """RE2 pattern of what may be personal data. Groups: a possible HKID number, one in a field in quotes, a pseudonym."""
    return compiled(hkid.block_pattern() + b"|(" + PSEUDONYM_BYTES + b")", captures=True)


@cache
def suspect_code() -> Any:
    """RE2 pattern of what may be personal data in a code. Group 1: a possible HKID number; without it, a pseudonym."""
    return compiled(hkid.CODE.encode() + b"|" + PSEUDONYM_BYTES, captures=True)


@cache
def encoded() -> Any:
    """RE2 pattern of a character in another notation, such as %28."""
    return compiled(hkid.ENCODED.encode())


def prepare() -> None:
    """Make the patterns that every delivery needs: of all the characters of Unicode that takes a while."""
    for pattern in (suspect, suspect_code, encoded):
        pattern()


def suspects(values: Sequence[str]) -> Collection[int]:
    """Places of the values that may hold a person's number or a pseudonym, or a character that PostgreSQL cannot hold."""
    quoted = [value.replace('"', '""') for value in values]
    every = range(len(quoted))
    try:
        lines = ('"' + '"\n"'.join(quoted) + '"').encode()
    except UnicodeEncodeError:
        return every
    if lines.count(b"\n") >= max(len(quoted), 1) or b"\0" in lines:
        return every
    if any(mark in lines for mark in ENCODING_MARKS) and encoded().search(lines):
        return every
    found: set[int] = set()
    place = 0
    while place >= 0 and (match := suspect().search(lines, place)):
        # What is found ends within its value, or with the quote behind it.
        place = match.end() - 1
        found.add(lines.count(b"\n", 0, place))
        place = lines.find(b"\n", place)
    return found


def in_another_encoding(data: bytes, text: str, is_sound: bool = False) -> str | None:
    """What bytes say in another encoding, if a number of a person shows in it that their text does not have.

    The brackets of a number, and its letters and digits of full width, are other characters there, or none. `is_sound`: the
    bytes may be their text, so that only UTF-8 counts, which others are not by chance: nearly all bytes are something in the
    others, and a Chinese name behind an item's number began with the check digit `A`.
    """
    for encoding in ENCODINGS[:1] if is_sound else ENCODINGS:
        with suppress(UnicodeDecodeError):
            reading = data.decode(encoding, "strict" if is_sound else "replace")
            # Hardly any may hold one, and to see that takes a fraction of the time.
            if reading != text and suspects([reading]) and hkid.count(reading) > hkid.count(text):
                return reading
    return None


@lru_cache(PATTERNS)
def compiled(pattern: bytes, captures: bool = False) -> Any:
    """An RE2 pattern over bytes."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = not captures
    # Of all the characters that resemble a letter or a digit the automaton is larger than by default.
    options.max_mem = 64 << 20
    # RE2 would write a line of the log for each part of a pattern that is too large.
    options.log_errors = False
    return re2.compile(pattern, options)


def unfit(lines_pattern: Any, lines: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each line that does not fit. The pattern is one of any number of whole lines."""
    place, size = 0, len(lines)
    while place < size:
        place = lines_pattern.match(lines, place).end()
        if place < size:
            end = lines.index(b"\n", place) + 1
            yield place, end
            place = end


def without_unfit(lines_pattern: Any, lines: bytes, by: bytes) -> bytes:
    """The lines, those that do not fit replaced."""
    parts, done = [], 0
    for start, end in unfit(lines_pattern, lines):
        parts += [lines[done:start], by]
        done = end
    return b"".join([*parts, lines[done:]]) if parts else lines


class Sieve:
    """Sorts CSV lines of some columns."""

    def __init__(self, columns: Sequence[Column], private: Pseudonymiser) -> None:
        self.columns, self.private = columns, private
        self.suspect = suspect()
        self.suspect_code = suspect_code()
        self.encoded = encoded()
        self.fitting = compiled(line_pattern.fitting_lines(columns))
        self.codes = {*searched(columns).codes}
        self.has_pseudonyms = any(column.personal == "pseudonymise" for column in columns)
        self.wholly_personal = any(column.wholly_personal for column in columns)

    def fits(self, line: bytes) -> bool:
        """Whether COPY can take a line whose personal data is replaced."""
        return bool(self.fitting.fullmatch(line))

    def odd(self, written: Written) -> list[int]:
        """Numbers, from 0 and in order, of the lines that must be taken apart."""
        lines, texts, codes = written
        if self.wholly_personal:
            return [*range(lines.count(b"\n"))]
        unfit_lines = self._unfit(lines)
        if texts is None:
            return sorted(set(_numbers(lines, chain(unfit_lines, self._personal(lines, self.columns)))))
        found = set(_numbers(lines, unfit_lines))
        columns = [self.columns[place] for place in searched(self.columns).texts]
        found.update(_numbers(texts, self._personal(texts, columns)))
        found.update(_numbers(codes or b"", self._suspect_codes(codes or b"")))
        return sorted(found)

    def _personal(self, lines: bytes, columns: Sequence[Column]) -> Iterator[int]:
        return chain(self._suspects(lines, columns), self._encoded(lines))

    def _unfit(self, lines: bytes) -> Iterator[int]:
        return (start for start, _ in unfit(self.fitting, lines))

    def _suspects(self, lines: bytes, columns: Sequence[Column]) -> Iterator[int]:
        """Lines that may hold a person's number, or a pseudonym that is not the platform's own."""
        place, before = 0, _Before(lines)
        while match := self.suspect.search(lines, place):
            _, plain, in_quotes, pseudonym = (match.start(group) for group in range(4))
            if pseudonym >= 0 and self.private.keeps_pseudonyms:
                place = match.end(3)
                continue
            found = max(plain, in_quotes, pseudonym)
            before.move(found)
            if plain >= 0 and not before.has_quote:
                at = min(before.commas, len(columns) - 1)
                if not _may_be_hkid(columns[at], match.group(1)) or (
                    columns is self.columns and at in self.codes and self._is_code(lines, found)
                ):
                    place = found + 1
                    continue
            # A field in quotes is looked at whole: the pattern finds nothing more in it once its first quote is behind.
            if in_quotes >= 0 and (end := self._end_of_harmless_field(lines, match.start())):
                place = end
                continue
            yield before.start
            place = lines.index(b"\n", found)

    def _is_code(self, lines: bytes, place: int) -> bool:
        """Whether the field without quotes at a place, which its contract takes for a code, holds no number of a person."""
        field = lines[max(lines.rfind(mark, 0, place) for mark in (b",", b"\n")) + 1 : place]
        field += FIELD.match(lines, place).group()  # type: ignore[union-attr]
        return not any(True for _ in self._suspect_codes(field + b"\n"))

    def _end_of_harmless_field(self, lines: bytes, place: int) -> int:
        """Where the field in quotes from `place` on ends, if it has no person's number and no pseudonym; else 0."""
        field = None if self.has_pseudonyms else QUOTED_FIELD.match(lines, lines.index(b'"', place))
        if field is None or re.search(PSEUDONYM_BYTES, field.group()):
            return 0
        text = field.group(1).replace(b'""', b'"').decode("utf-8", "surrogateescape")
        return field.end() - 1 if hkid.replace(text, lambda found: "") == text else 0

    def _suspect_codes(self, lines: bytes) -> Iterator[int]:
        """Lines of codes, each as its contract says, with one that is a person's number or a pseudonym."""
        place = 0
        while match := self.suspect_code.search(lines, place):
            place = match.end() - 1
            if match.group(1) is None or hkid.has_right_check_digit(match.group(1).decode()):
                yield lines.rfind(b"\n", 0, match.start() + 1) + 1
                place = lines.index(b"\n", match.start() + 1)

    def _encoded(self, lines: bytes) -> Iterator[int]:
        """Lines that may spell a number with characters in another notation, such as %28."""
        if not any(mark in lines for mark in ENCODING_MARKS):
            return
        place = 0
        while match := self.encoded.search(lines, place):
            found = match.start()
            start, end = lines.rfind(b"\n", 0, found) + 1, lines.index(b"\n", found)
            place = end
            if b'"' not in lines[start:end]:
                comma = lines.find(b",", found, end)
                place = comma if comma >= 0 else end
                field = lines[max(start, lines.rfind(b",", start, found) + 1) : place]
                if len(field.translate(None, NEVER_DIGITS)) < HKID_DIGITS:
                    continue
            yield start
            place = end


class _Before:
    """What is before a place in its line: where that starts, how many commas, and whether there is a quote.

    The place moves on only, so that a line is looked through once, however many places there are in it.
    """

    def __init__(self, lines: bytes) -> None:
        self.lines, self.place = lines, 0
        self.start, self.commas, self.has_quote = 0, 0, False

    def move(self, place: int) -> None:
        """Move on to a place."""
        if (feed := self.lines.rfind(b"\n", self.place, place)) >= 0:
            self.place = self.start = feed + 1
            self.commas, self.has_quote = 0, False
        self.commas += self.lines.count(b",", self.place, place)
        self.has_quote = self.has_quote or self.lines.find(b'"', self.place, place) >= 0
        self.place = place


def line_ends(lines: bytes) -> Any:
    """Where each line ends, its line feed included, as a NumPy array."""
    import numpy as np

    return np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1


def _numbers(lines: bytes, starts: Iterable[int]) -> Iterator[int]:
    """Numbers of the lines that begin at these places, in order."""
    number = place = 0
    for start in sorted(starts):
        number += lines.count(b"\n", place, start)
        place = start
        yield number


def _may_be_hkid(column: Column, found: bytes) -> bool:
    return column.personal == "pseudonymise" or hkid.may_be_one(found.decode("utf-8", "surrogateescape"))
