"""The fast path: blocks of CSV bytes for COPY, personal data replaced, without a Python object per record.

A block passes as it is when patterns over its bytes show that nothing in it needs a closer look. A line that may hold
personal data is taken apart and cleaned. Anything that only the slow path can judge raises FastPathUnsupported.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sampan.contracts import line_pattern
from sampan.contracts.model import Column
from sampan.contracts.values import DATE_WORDS, DAY, PSEUDONYM
from sampan.reading import hkid, limits
from sampan.reading.personal_data import Pseudonymiser
from sampan.reading.record import Record, csv_line

# Delivered, it would pass as a person's number.
PSEUDONYM_BYTES = PSEUDONYM.pattern.removeprefix("(invalid_)?").encode()
ENCODING_MARKS = [mark.encode() for mark in hkid.ENCODING_MARKS]
HKID_DIGITS = 6
# Bytes that belong to no part of a digit, in any notation or script.
NEVER_DIGITS = bytes(set(range(128)) - set(b"0123456789" + hkid.ENCODING_MARKS.encode()))
# Lines that are quoted as RFC 4180 says: only those mean the same to COPY and to Python.
RFC4180_LINES = rb'(?:(?:[^",\r\n]*|"(?:[^"\n]|"")*")(?:,(?:[^",\r\n]*|"(?:[^"\n]|"")*"))*\r?\n)*'


def _suspect() -> bytes:
    """Pattern of what a block must not hold unseen.

    Groups, in order: a possible HKID number, and one in a field in quotes; NUL or a pseudonym; a word that PostgreSQL
    reads as a date.
    """
    only_slow = rb"|(\x00|%s)" % PSEUDONYM_BYTES
    return hkid.block_pattern() + only_slow + rb"|(?i)" + DATE_WORDS.removeprefix("(?i)").encode()


class FastPathUnsupported(Exception):
    """The delivery holds something that only the slow path can judge."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole CSV lines in UTF-8 of the stored columns, ready for COPY.

    `fits_pattern`: every line of this block and of those before it fits the contract's line pattern.
    """

    data: bytes
    fits_pattern: bool = False


def checked_blocks(blocks: Iterable[bytes], columns: Sequence[Column], private: Pseudonymiser) -> Iterator[Block]:
    """Blocks of whole CSV lines of these columns, with personal data replaced.

    Raises FastPathUnsupported at the first block that only the slow path can judge.
    """
    return _Checker(columns, private).check(blocks)


def numbered_blocks(records: Iterable[Record], columns: Sequence[Column]) -> Iterator[Block]:
    """Blocks of CSV lines `line, fields...` of sound records.

    Raises FastPathUnsupported at the first record that only the slow path can judge.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    dates = [(place, c.type) for place, c in enumerate(columns) if c.type in ("date", "timestamptz")]
    longest, size = limits.MAX_DATE_CHARACTERS, limits.BLOCK_BYTES
    for record in records:
        if record.broken:
            raise FastPathUnsupported
        for place, kind in dates:
            value = record.fields[place]
            if value is not None and (len(value) > longest or _is_ambiguous(value, kind)):
                raise FastPathUnsupported
        writer.writerow([record.line, *record.fields])
        if buffer.tell() > size:
            yield Block(buffer.getvalue().encode("utf-8", "surrogateescape"))
            buffer.seek(0)
            buffer.truncate()
    yield Block(buffer.getvalue().encode("utf-8", "surrogateescape"))


class _Checker:
    """Checks blocks of CSV lines of some columns."""

    def __init__(self, columns: Sequence[Column], private: Pseudonymiser) -> None:
        import re2

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        self.columns, self.private = columns, private
        # Of all the characters that resemble a letter or a digit the automaton is larger than by default.
        options.max_mem = 64 << 20
        self.suspect = re2.compile(_suspect(), options)
        options.never_capture = True
        self.encoded = re2.compile(hkid.ENCODED.encode(), options)
        self.rfc4180 = re2.compile(RFC4180_LINES, options)
        self.fitting = re2.compile(line_pattern.fitting_lines(columns), options)
        harmless = line_pattern.harmless_lines(columns)
        self.harmless: Any = re2.compile(harmless, options) if harmless else None
        self.fitting_is_harmless = line_pattern.fitting_is_harmless(columns)

    def check(self, blocks: Iterable[bytes]) -> Iterator[Block]:
        fits = True
        for block in blocks:
            cleaned = self._clean_encoded_lines(self._clean_suspects(block))
            fits = fits and bool(self.fitting.fullmatch(cleaned))
            # A line that fits is quoted by RFC 4180, unless cleaning made it so.
            if not (fits and cleaned is block) and b'"' in block and not self.rfc4180.fullmatch(block):
                raise FastPathUnsupported
            if self.harmless and not (fits and self.fitting_is_harmless):
                cleaned = self._clean_unproven_lines(cleaned)
            yield Block(cleaned, fits)

    def _clean_suspects(self, block: bytes) -> bytes:
        """The block with HKID numbers replaced. Most blocks hold nothing suspect and are returned as they are."""
        columns = self.columns
        parts, done, position = [], 0, 0
        while match := self.suspect.search(block, position):
            if match.start(3) >= 0:
                if match.group(3) == b"\0" or not self.private.keeps_pseudonyms:
                    raise FastPathUnsupported
                position = match.end(3)
                continue
            place = max(match.start(group) for group in (1, 2, 4))
            start = block.rfind(b"\n", 0, place) + 1
            before = block[start:place]
            # Behind a quote, finding the column costs more than looking at the whole line.
            column = None if b'"' in before else columns[min(before.count(b","), len(columns) - 1)]
            end = block.find(b"\n", place)
            if match.start(4) >= 0:
                self._refuse_date_words(block[start:end], column)
            # A field in quotes is looked at whole: the pattern finds nothing more in it once its first quote is behind.
            if column is None or (match.start(1) >= 0 and _may_be_hkid(column, match.group(1))):
                line = block[start:end]
                if not self.private.keeps_pseudonyms and re.search(PSEUDONYM_BYTES, line):
                    raise FastPathUnsupported
                parts += [block[done:start], self._clean_line(line)]
                done = position = end
                continue
            position = place + 1
        return b"".join([*parts, block[done:]]) if parts else block

    def _clean_encoded_lines(self, block: bytes) -> bytes:
        """The block with each line cleaned that may spell a number with characters in another notation, such as %28."""
        if not any(mark in block for mark in ENCODING_MARKS):
            return block
        parts, done, position = [], 0, 0
        while match := self.encoded.search(block, position):
            place = match.start()
            start, end = block.rfind(b"\n", 0, place) + 1, block.find(b"\n", place)
            position = end
            if b'"' not in block[start:end]:
                comma = block.find(b",", place, end)
                position = comma if comma >= 0 else end
                field = block[max(start, block.rfind(b",", start, place) + 1) : position]
                if len(field.translate(None, NEVER_DIGITS)) < HKID_DIGITS:
                    continue
            parts += [block[done:start], self._clean_line(block[start:end])]
            done = position = end
        return b"".join([*parts, block[done:]]) if parts else block

    def _clean_unproven_lines(self, block: bytes) -> bytes:
        """The block with mistyped HKID numbers replaced; only lines not known to be harmless are taken apart."""
        if self.harmless.fullmatch(block):
            return block
        *lines, rest = block.split(b"\n")
        cleaned = [line if self.harmless.fullmatch(line + b"\n") else self._clean_line(line) for line in lines]
        return b"\n".join([*cleaned, rest and self._clean_line(rest)])

    def _refuse_date_words(self, line: bytes, column: Column | None) -> None:
        """Leave a line to the slow path in which such a word is a date: its meaning changes every day."""
        if column is None:
            values, columns = self._split_line(line), self.columns
        else:
            values, columns = [line.decode("utf-8", "surrogateescape")], [column]
        for value, column in zip(values, columns, strict=True):
            if column.type in ("date", "timestamptz") and re.search(DATE_WORDS, value):
                raise FastPathUnsupported

    def _split_line(self, line: bytes) -> list[str]:
        """Fields of one CSV line."""
        text = line.decode("utf-8", "surrogateescape").removesuffix("\r")
        try:
            (row,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError):
            raise FastPathUnsupported from None
        if len(row) != len(self.columns):
            raise FastPathUnsupported
        return row

    def _clean_line(self, line: bytes) -> bytes:
        """One CSV line with every field as it may be stored."""
        try:
            line.decode()
        except UnicodeDecodeError:
            # Replacing a field would hide that its bytes are not UTF-8.
            raise FastPathUnsupported from None
        row = self._split_line(line)
        for column, value in zip(self.columns, row, strict=True):
            if column.type in ("date", "timestamptz") and _is_ambiguous(value, column.type):
                raise FastPathUnsupported
        cleaned = [self.private.clean(column, value) for column, value in zip(self.columns, row, strict=True)]
        if cleaned == row:
            return line
        return csv_line(cleaned).encode("utf-8", "surrogateescape") + (b"\r" if line.endswith(b"\r") else b"")


def _may_be_hkid(column: Column, found: bytes) -> bool:
    return column.personal == "pseudonymise" or hkid.may_be_one(found.decode("utf-8", "surrogateescape"))


@lru_cache(1 << 12)
def _is_ambiguous(value: str, kind: str) -> bool:
    """Whether a date or time is a word that means another day tomorrow, or a date has a time that would be lost."""
    return bool(re.search(DATE_WORDS, value) or (kind == "date" and value and not re.fullmatch(DAY, value)))
