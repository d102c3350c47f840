"""Blocks of CSV for COPY, with the few records set apart that only the database can judge."""

from __future__ import annotations

from dataclasses import dataclass, field

from sampan.reading.chunk import Chunk
from sampan.reading.layout import Layout
from sampan.reading.personal_data import Pseudonymiser
from sampan.reading.record import Record, csv_line
from sampan.reading.sieve import Sieve, line_ends
from sampan.reading.written import Written


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines (or rows) of a delivery in order.

    `data`: for each of them a CSV line in UTF-8 of the stored columns, personal data replaced, that COPY takes; only commas
    where there is no record, or where its record is in `odd`. `odd`: records that break a rule or are written in a way that
    only the database can judge. `aliases`: as `Pseudonymiser.aliases`, those that were made.
    """

    data: bytes
    odd: list[Record] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)


class BlockMaker:
    """Makes blocks of chunks."""

    def __init__(self, layout: Layout, private: Pseudonymiser) -> None:
        self.sieve, self.private = Sieve(layout.stored, private), private
        self.nothing = b"," * (len(layout.stored) - 1) + b"\n"

    def make(self, chunk: Chunk, written: Written) -> Block:
        """The block of a chunk: all lines at once, then those that have to be taken apart."""
        lines = written.lines
        places = self.sieve.odd(written)
        if not places:
            return Block(lines)
        ends = line_ends(lines)
        parts: list[bytes] = []
        odd: list[Record] = []
        done = 0
        for place, taken, record in chunk.records(places):
            start = int(ends[min(place, len(ends)) - 1]) if place else 0
            line = self._sound_line(record) if record else None
            if record and line is None:
                odd.append(record)
            parts += [lines[done:start], line or self.nothing, self.nothing * (taken - 1)]
            done = int(ends[min(place + taken, len(ends)) - 1])
        aliases = dict(self.private.aliases)
        self.private.aliases.clear()
        return Block(b"".join([*parts, lines[done:]]), odd, aliases)

    def _sound_line(self, record: Record) -> bytes | None:
        """A record that was taken apart as a line that COPY takes, if it is one."""
        if record.broken:
            return None
        line = csv_line([value or "" for value in record.fields]).encode("utf-8", "surrogateescape") + b"\n"
        return line if self.sieve.fits(line) else None
