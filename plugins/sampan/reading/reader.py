"""The reader of a delivery: its layout, and its records on the fast path or the slow one.

`blocks` is the fast path: CSV bytes for COPY. `records` is the slow path: every record with its line, its fields as
text and the structural rules that it broke. `blocks` raises FastPathUnsupported at what only the slow path can judge;
both give a sound record the same fields.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import IO

from sampan.contracts.model import Column, Contract, Source
from sampan.errors import Code, PermanentFailure, SampanError
from sampan.object_store import open_verified
from sampan.reading.delivery import Delivery
from sampan.reading.fast_path import Block, FastPathUnsupported
from sampan.reading.formats import FORMATS
from sampan.reading.layout import Layout, UnknownColumn
from sampan.reading.personal_data import Pseudonymiser, pseudonymiser
from sampan.reading.record import Record

log = logging.getLogger(__name__)
# Column of a replay: the id of the row in quarantine that each of its rows corrects.
REPLAYED = Column("_quarantine_id", "_quarantine_id", "integer", "Row in quarantine.", personal="drop")


def open_delivery(
    contract: Contract, landing_uri: str, business_date: date, file: str, *, replay: bool = False
) -> Reader:
    """The reader of a landed delivery. A replay is always CSV with the contract's own column names."""
    if replay:
        columns = (REPLAYED, *(replace(column, source_name=column.name) for column in contract.stored))
        contract = replace(contract, columns=columns, source=Source("s3", landing_uri, "csv"))
    return Reader(contract, open_verified(landing_uri), business_date, file, pseudonymiser())


class Reader:
    """Reads one delivery of one contract. `opener` returns a new binary stream of the landed bytes at each call.

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
    ) -> None:
        self.delivery = Delivery(contract, opener, business_date, file, private)
        self._format = FORMATS[contract.source.format](self.delivery)

    @property
    def layout(self) -> Layout:
        """Fields of the delivery against the contract's columns, by the contract's drift policy."""
        with self._readable():
            return self._format.layout

    @property
    def numbered(self) -> bool:
        """Whether lines of `blocks` begin with the line number of their record; otherwise they are all lines in order."""
        with self._readable():
            return self._format.numbered

    def blocks(self) -> Iterator[Block]:
        """All records as CSV for COPY into the layout's stored columns, after the line number where `numbered`.

        Raises FastPathUnsupported at what only `records` can judge.
        """
        with self._readable():
            yield from self._format.blocks()

    def records(self) -> Iterator[Record]:
        """Every record in order, sound or not; none is left out."""
        with self._readable():
            yield from self._format.records()

    def unknown_columns(self) -> list[UnknownColumn]:
        """What the values of the columns look like that the contract does not name. Reads the delivery once more.

        No value is kept.
        """
        layout = self.layout
        found = [UnknownColumn(column.name) for column in layout.unknown if column is not None]
        if found:
            with self._readable():
                probe = type(self._format)(self.delivery, Layout(layout.unknown, layout.first_line))
                for record in probe.records():
                    for column, value in zip(found, record.fields, strict=True):
                        column.look_at(value)
        return found

    def pick(self, lines: set[int]) -> Iterator[Record]:
        """The records that begin at the given lines."""
        left = len(lines)
        for record in self.records():
            if record.line in lines:
                yield record
                left -= 1
                if not left:
                    return

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Inside it, any error of a library that reads the delivery is a PermanentFailure.

        Only the type of the error is shown: its text may quote what the delivery holds.
        """
        try:
            yield
        except (SampanError, FastPathUnsupported):
            raise
        except MemoryError:
            raise self.delivery.problem(Code.DELIVERY_TOO_LARGE, "the delivery does not fit into memory") from None
        except Exception as error:  # noqa: BLE001
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> PermanentFailure:
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        if trace:
            place, kind = trace.tb_frame.f_code.co_name, type(error).__name__
            log.warning("%s: %s in %s, line %s", self.delivery.file, kind, place, trace.tb_lineno)
        source = self.delivery.source
        written = " and ".join(kind for kind in (source.compression, source.format) if kind != "none")
        message = f"cannot be read as {written}: {type(error).__name__}"
        return self.delivery.problem(Code.DELIVERY_CORRUPT, message)
