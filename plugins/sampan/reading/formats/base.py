"""What every format of a delivery offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from sampan.reading.delivery import Delivery
from sampan.reading.fast_path import Block, numbered_blocks
from sampan.reading.layout import Layout
from sampan.reading.record import Record, RecordCleaner


class Format(ABC):
    """One delivery, read in one format: its layout, its records (slow path) and its blocks (fast path)."""

    # What contracts call the format.
    name: ClassVar[str]
    # Modules of the libraries that read a whole file of it, which happens in a child process; none where lines are read.
    whole_file_readers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, delivery: Delivery, layout: Layout | None = None) -> None:
        self.delivery, self.source, self._given = delivery, delivery.source, layout

    @cached_property
    def layout(self) -> Layout:
        """Fields of the delivery against the contract's columns, unless another layout was given."""
        return self._given or self.read_layout()

    @abstractmethod
    def read_layout(self) -> Layout:
        """Read the layout from the delivery. Raises PermanentFailure where the contract does not accept it."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Every record in order, sound or not; none is left out."""

    def blocks(self) -> Iterator[Block]:
        """All records as CSV for COPY. Raises FastPathUnsupported at what only `records` can judge.

        A format that can give the stored columns as CSV without a look at each record overrides this and `numbered`.
        """
        return numbered_blocks(self.records(), self.layout.stored)

    @property
    def numbered(self) -> bool:
        """Whether lines of `blocks` begin with the line number of their record; otherwise they are all lines in order."""
        return True

    @cached_property
    def cleaner(self) -> RecordCleaner:
        """Makes records of what the format reads."""
        return RecordCleaner(self.delivery, self.layout)
