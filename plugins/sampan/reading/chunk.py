"""Pieces of a delivery: its records in order, as CSV for COPY all together, or taken apart one by one.

A chunk has places, numbered from 0. A place is a line of a text file, or a row of a workbook or Parquet file. It holds a
record, the continuation of one, or nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from sampan.reading import limits
from sampan.reading.delivery import Delivery
from sampan.reading.record import Record
from sampan.reading.sieve import line_ends
from sampan.reading.written import Written


class Found(NamedTuple):
    """What is at a place: how many places it takes, and its record, or None where there is none."""

    place: int
    taken: int
    record: Record | None


class Chunk(ABC):
    """Some records of a delivery. `first` is the line (or row) of the first place, `length` how many places there are."""

    first: int
    length: int

    @abstractmethod
    def as_csv(self, nothing: bytes) -> Written:
        """One CSV line of the stored columns for each place. `nothing` is the line of a place that cannot be written so."""

    @abstractmethod
    def records(self, places: Iterable[int]) -> Iterator[Found]:
        """What is at these places, in order; places that belong to a record before are left out."""


class Lines:
    """Blocks of whole lines of a delivery in order, without its first `skip` lines, and a look at the lines that follow."""

    def __init__(self, delivery: Delivery, skip: int = 0) -> None:
        self.delivery, self.number, self.skip = delivery, 1, skip
        self._pieces = self._whole_lines()
        self._next = b""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Number of the first line and the lines of each block, the last one with a line feed too."""
        while block := self._next or next(self._pieces, b""):
            block, length, self._next = _cut(block)
            first, self.number = self.number, self.number + length
            yield first, block

    def following(self) -> Iterator[bytes]:
        """The lines behind the last block, without their line feeds."""
        start = 0
        while True:
            end = self._next.find(b"\n", start)
            if end < 0:
                more = next(self._pieces, b"")
                if not more:
                    return
                self._next += more
                continue
            yield self._next[start:end]
            start = end + 1

    def take(self, count: int) -> None:
        """Let the next lines belong to the last block."""
        end = 0
        for _ in range(count):
            end = self._next.index(b"\n", end) + 1
        self._next = self._next[end:]
        self.number += count

    def _whole_lines(self) -> Iterator[bytes]:
        tail, at_start = b"", True
        for block in self.delivery.blocks():
            if at_start:
                block, at_start = block.removeprefix(b"\xef\xbb\xbf"), False
            block = tail + block
            cut = block.rfind(b"\n") + 1
            block, tail = block[:cut], block[cut:]
            self.delivery.check_length(tail)
            if block := self._without_skipped(block):
                yield block
        if tail and (block := self._without_skipped(tail + b"\n")):
            yield block

    def _without_skipped(self, block: bytes) -> bytes:
        while self.skip and block:
            block = block.partition(b"\n")[2]
            self.skip -= 1
            self.number += 1
        return block


def _cut(lines: bytes) -> tuple[bytes, int, bytes]:
    """The first lines, as many as a block may have, how many these are, and the others."""
    length = lines.count(b"\n")
    if length <= limits.BLOCK_LINES:
        return lines, length, b""
    end = int(line_ends(lines)[limits.BLOCK_LINES - 1])
    return lines[:end], limits.BLOCK_LINES, lines[end:]


class LineChunk(Chunk):
    """A block of lines."""

    def __init__(self, delivery: Delivery, lines: Lines, first: int, data: bytes) -> None:
        self.delivery, self.lines, self.first, self.data = delivery, lines, first, data

    @cached_property
    def length(self) -> int:  # type: ignore[override]
        """How many lines there are."""
        return self.data.count(b"\n")

    @cached_property
    def _ends(self) -> Any:
        return line_ends(self.data)

    def line(self, place: int) -> bytes:
        """The line at a place, without its line feed."""
        return self.data[int(self._ends[place - 1]) if place else 0 : int(self._ends[place]) - 1]

    def lines_from(self, place: int) -> Iterator[bytes]:
        """The lines from a place on, without their line feeds."""
        return map(self.line, range(place, self.length))

    def utf8(self) -> bytes:
        """The lines in UTF-8, each ended by a line feed alone. One whose bytes must be looked at is empty."""
        data = self.data
        try:
            if self.delivery.encoding != "utf-8":
                raise UnicodeError
            data.decode()
        except UnicodeError:
            decoded = map(self.delivery.decode, data.split(b"\n")[:-1])
            return b"".join([b"\n" if broken else text.encode() + b"\n" for text, broken in decoded])
        if b"\r" in data:
            data = data.replace(b"\r\r\n", b"\r\n").replace(b"\r\n", b"\n")
        return data
