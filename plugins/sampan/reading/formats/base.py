"""What every format of a delivery offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from sampan.errors import Code, TransientFailure
from sampan.reading.chunk import Chunk
from sampan.reading.delivery import Delivery
from sampan.reading.layout import Layout
from sampan.reading.recognise import HEAD_BYTES, instead_of_format
from sampan.reading.record import RecordCleaner
from sampan.reading.written import Searched, searched


class Format(ABC):
    """One delivery, read in one format: its layout, and its records in chunks."""

    # What contracts call the format.
    name: ClassVar[str]
    # Modules of the libraries that read a whole file of it, which happens in a child process; none where lines are read.
    whole_file_readers: ClassVar[tuple[str, ...]] = ()
    # Whether the layout may be that of the start of the delivery, until LayoutGrew is raised.
    from_start = False
    # Whether a chunk is written while the one before is taken apart: its libraries work beside Python.
    is_written_ahead: ClassVar[bool] = False

    def __init__(self, delivery: Delivery, layout: Layout | None = None) -> None:
        self.delivery, self.source, self._given = delivery, delivery.source, layout

    @cached_property
    def layout(self) -> Layout:
        """Fields of the delivery against the contract's columns, unless another layout was given."""
        if self._given:
            return self._given
        try:
            return self.read_layout()
        except (MemoryError, TransientFailure):
            raise
        except Exception:
            refuse_other_format(self.delivery)
            raise

    @abstractmethod
    def read_layout(self) -> Layout:
        """Read the layout from the delivery. Raises PermanentFailure where the contract does not accept it."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All records in order, in pieces of bounded size."""

    @cached_property
    def searched(self) -> Searched:
        """Which of the stored columns have to be searched for personal data."""
        return searched(self.layout.stored)

    @cached_property
    def cleaner(self) -> RecordCleaner:
        """Makes records of what the format reads."""
        return RecordCleaner(self.delivery, self.layout)


def refuse_other_format(delivery: Delivery) -> None:
    """Raise PermanentFailure when the content of a delivery is plainly of another format than its contract's."""
    content = b""
    for block in delivery.blocks():
        content += block
        # What a container holds is told at its end, and such formats are read whole anyway.
        if len(content) >= HEAD_BYTES and delivery.source.format not in ("xlsx", "parquet"):
            break
    message = instead_of_format(delivery.source, content)
    if message:
        raise delivery.problem(Code.DELIVERY_OTHER_FORMAT, message)
