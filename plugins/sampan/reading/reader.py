"""The reader of a delivery: its layout, and its records in blocks for COPY or one by one.

`blocks` gives all records as CSV, many at a time, and sets the few apart that only the database can judge. `records` takes
records apart: each with its line, its fields as text and the structural rules that it broke. Both give a sound record the
same fields.
"""

from __future__ import annotations

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from importlib import import_module
from itertools import starmap
from typing import IO, Any, TypeVar

from sampan.contracts.model import Column, Contract, Source
from sampan.errors import PermanentFailure, SettingsFailure
from sampan.object_store import open_verified
from sampan.reading import child, limits
from sampan.reading.block import Block, BlockMaker
from sampan.reading.delivery import Delivery
from sampan.reading.formats import FORMATS
from sampan.reading.formats.base import Format
from sampan.reading.layout import Layout, UnknownColumn
from sampan.reading.personal_data import Pseudonymiser, pseudonymiser
from sampan.reading.record import Record
from sampan.reading.sieve import prepare

T = TypeVar("T")
log = logging.getLogger(__name__)
# Column of a replay: the id of the row in quarantine that each of its rows corrects.
REPLAYED = Column("_quarantine_id", "_quarantine_id", "integer", "Row in quarantine.", personal="drop")


def open_delivery(
    contract: Contract,
    landing_uri: str,
    business_date: date,
    file: str,
    *,
    replay: bool = False,
    from_start: bool = False,
) -> Reader:
    """The reader of a landed delivery. A replay is always CSV with the contract's own column names."""
    private = replace(pseudonymiser(), keeps_pseudonyms=replay)
    if replay:
        columns = (REPLAYED, *(replace(column, source_name=column.name) for column in contract.stored))
        contract = replace(contract, columns=columns, source=Source("s3", landing_uri, "csv"))
    return Reader(contract, open_verified(landing_uri), business_date, file, private, from_start=from_start)


class Reader:
    """Reads one delivery of one contract. `opener` returns a new binary stream of the landed bytes at each call.

    `from_start`: the layout is that of the first lines where these are alike. All but `layout` may then raise LayoutGrew.

    Everything raises PermanentFailure for a delivery that cannot be read or that its contract does not accept, and
    TransientFailure when the object store does not answer.
    """

    def __init__(
        self,
        contract: Contract,
        opener: Callable[[], IO[bytes]],
        business_date: date,
        file: str,
        private: Pseudonymiser,
        *,
        from_start: bool = False,
    ) -> None:
        self.delivery = Delivery(contract, opener, business_date, file, private)
        self._format = FORMATS[contract.source.format](self.delivery)
        self._format.from_start = from_start
        self._ahead: Iterator[Any] | None = None
        # As `Pseudonymiser.aliases`: of the blocks that were read.
        self.aliases: dict[str, str] = {}

    @property
    def layout(self) -> Layout:
        """Fields of the delivery against the contract's columns, by the contract's drift policy."""
        with self.delivery.readable():
            if "layout" not in vars(self._format):
                # Nearly always the blocks are asked for next: one child makes both.
                self._ahead = self._within_bounds(self._layout_and_blocks)
                self._format.layout = next(self._ahead)
            return self._format.layout

    def blocks(self) -> Iterator[Block]:
        """All records in blocks for COPY into the stored columns, one CSV line for each line (or row) of the delivery."""
        with self.delivery.readable():
            ahead, self._ahead = self._ahead, None
            for block in ahead or self._within_bounds(self._blocks):
                self.aliases |= block.aliases
                yield block

    def records(self, lines: Collection[int] | None = None) -> Iterator[Record]:
        """Records in order, sound or not: all, or those that begin at these lines."""
        self._ahead = None
        with self.delivery.readable():
            yield from self._within_bounds(lambda: _records(self._format, None if lines is None else sorted(lines)))

    def unknown_columns(self) -> list[UnknownColumn]:
        """What the values of the columns look like that the contract does not name. Reads the delivery once more.

        No value is kept. After UNKNOWN_COLUMN_SECONDS the rest is not looked at. Raises no failure of the delivery: the
        load, which reads all of it, says what is wrong with it.
        """
        layout = self.layout
        found = [UnknownColumn(column.name) for column in layout.unknown if column is not None]
        probe = type(self._format)(self.delivery, replace(layout, columns=layout.unknown, drift=[]))
        deadline = time.monotonic() + limits.UNKNOWN_COLUMN_SECONDS

        def looked_at() -> Iterable[UnknownColumn]:
            for record in _records(probe, None):
                for column, value in zip(found, record.fields, strict=True):
                    column.look_at(value)
                if time.monotonic() > deadline:
                    return [replace(column, is_counted=False) for column in found]
            return found

        if not found:
            return []
        try:
            with self.delivery.readable():
                return list(self._within_bounds(looked_at))
        except SettingsFailure:
            raise
        except PermanentFailure as failure:
            log.info("the values of unknown columns were not counted: %s", failure.problem.rule)
            return []

    def _layout_and_blocks(self) -> Iterator[Layout | Block]:
        yield self._format.layout
        yield from self._blocks()

    def _blocks(self) -> Iterator[Block]:
        maker, started = BlockMaker(self._format.layout, self.delivery.private), time.thread_time()
        written = ((chunk, chunk.as_csv(maker.nothing)) for chunk in self._format.chunks())
        for block in starmap(maker.make, one_ahead(written) if self._format.is_written_ahead else written):
            # Where another thread reads the lines, it does not see how long they are taken apart here.
            self.delivery.refuse_slow(started)
            yield block

    def _within_bounds(self, items: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Items of the format, from a child process where a library reads a whole file.

        Lines are read in this process, in memory that does not grow with the delivery.
        """
        if not self._format.whole_file_readers:
            yield from items()
            return
        # Here, so that not each child has to.
        for module in self._format.whole_file_readers:
            import_module(module)
        prepare()
        bounds = self.delivery.source.bounds
        yield from child.iterate(lambda: self._quietly(items), bounds.max_memory_bytes, bounds.max_seconds)

    def _quietly(self, items: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Items of the format, without what a library that fails prints: it may quote the delivery."""
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        with self.delivery.readable():
            yield from items()


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made in another thread while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _records(form: Format, lines: list[int] | None) -> Iterator[Record]:
    """Records of a delivery in order: all, or those that begin at these lines, in ascending order."""
    # Even where there is no record.
    _ = form.layout
    for chunk in form.chunks():
        places: Iterable[int] = range(chunk.length)
        if lines is not None:
            start, end = (bisect_left(lines, line) for line in (chunk.first, chunk.first + chunk.length))
            places = [line - chunk.first for line in lines[start:end]]
        yield from (record for _, _, record in chunk.records(places) if record)
        if lines is not None and end == len(lines):
            return
