"""One delivery: its decompressed bytes, its lines as text, and the problems that are found in it."""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import IO, TypeVar

from sampan.contracts.model import Contract, Source
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.reading import child, limits
from sampan.reading.compression import DECOMPRESS
from sampan.reading.personal_data import Pseudonymiser
from sampan.reading.recognise import instead_of_compression
from sampan.reading.shown import hidden
from sampan.reading.sieve import in_another_encoding

T = TypeVar("T")
log = logging.getLogger(__name__)
IDEOGRAPH = re.compile("[\u3400-\u9fff]")
PRIVATE_USE = re.compile("[\ue000-\uf8ff]")


@dataclass(frozen=True)
class Delivery:
    """One delivery of one contract. `opener` returns a new binary stream of the landed bytes at each call."""

    contract: Contract
    opener: Callable[[], IO[bytes]]
    business_date: date
    file: str
    private: Pseudonymiser

    @property
    def source(self) -> Source:
        """How the contract says that the delivery is written."""
        return self.contract.source

    @cached_property
    def expects_hkid(self) -> bool:
        """Whether a column may hold HKID numbers."""
        return any(column.expects_hkid for column in self.contract.columns)

    def problem(self, code: Code, message: str, line: int | None = None, column: str | None = None) -> PermanentFailure:
        """The failure to raise for what is wrong with this delivery."""
        return PermanentFailure(Problem(code, message, self.file, line, column))

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Inside it, any error of a library that reads the delivery is a PermanentFailure.

        Only the type of the error is shown: its text may quote what the delivery holds.
        """
        try:
            yield
        except SampanError:
            raise
        except TimeoutError:
            raise self.too_slow() from None
        except MemoryError as error:
            most = f"the contract's maxMemoryBytes, {self.source.bounds.max_memory_bytes:,}"
            message = f"reading it takes more memory than {most}" + (f": {error}" if error.args else "")
            raise self.problem(Code.DELIVERY_TOO_LARGE, message) from None
        except child.ChildError as error:
            raise self._unreadable(str(error)) from None
        except Exception as error:  # noqa: BLE001
            _log_place(self.file, error)
            raise self._unreadable(type(error).__name__) from None

    def _unreadable(self, kind: str) -> PermanentFailure:
        written = " and ".join(kind for kind in (self.source.compression, self.source.format) if kind != "none")
        return self.problem(Code.DELIVERY_CORRUPT, f"cannot be read as {written}: {kind}")

    def blocks(self) -> Iterator[bytes]:
        """Decompressed blocks of bounded size. Raises PermanentFailure for a delivery that is cut off, corrupt or a bomb."""
        compression = self.source.compression
        raw = self._from_store(self.opener)
        taken = given = 0
        head = b""
        started = time.thread_time()

        def pieces(size: int) -> Iterator[bytes]:
            nonlocal taken, head
            while piece := self._from_store(lambda: raw.read(size)):
                # Here, because many bytes may expand to none.
                self.refuse_slow(started)
                head = head or piece
                taken += len(piece)
                yield piece

        try:
            for block in DECOMPRESS[compression](pieces):
                given += len(block)
                self.refuse_bomb(given, taken)
                for start in range(0, len(block), limits.LARGEST_BLOCK_BYTES):
                    yield block[start : start + limits.LARGEST_BLOCK_BYTES]
        except EOFError:
            message = f"the {compression} stream ends too early: the file was not delivered whole"
            raise self.problem(Code.DELIVERY_TRUNCATED, message) from None
        except (zlib.error, OSError, ValueError) as error:
            message = instead_of_compression(self.source, head) or f"cannot be read as {compression}: {error}"
            raise self.problem(Code.DELIVERY_CORRUPT, message) from None
        finally:
            raw.close()

    def whole(self) -> bytes:
        """All decompressed bytes, for formats that need the end of a file to read its start."""
        data = b"".join(self.blocks())
        if not data:
            raise self.problem(Code.DELIVERY_EMPTY, "the delivery is empty (0 bytes)")
        return data

    def refuse_bomb(self, given: int, taken: int, unit: str = "bytes") -> None:
        """Raise PermanentFailure when `taken` bytes of the file that expand to `given` or more are too many."""
        most = self.source.bounds.max_bytes
        if given > most or given > max(limits.EXPANSION_FREE_BYTES, limits.MAX_EXPANSION * taken):
            allowed = f"{limits.MAX_EXPANSION} times its size and the contract's maxBytes, {most:,}"
            message = f"expands from {taken:,} bytes to at least {given:,} {unit}; the limits are {allowed}"
            raise self.problem(Code.DELIVERY_TOO_LARGE, message)

    def refuse_slow(self, started: float) -> None:
        """Raise PermanentFailure when this thread has worked for too long since its time (`thread_time`) was `started`."""
        if time.thread_time() - started > self.source.bounds.max_seconds:
            raise self.too_slow()

    def too_slow(self) -> PermanentFailure:
        """The failure to raise when reading takes too long."""
        message = f"reading it takes longer than the contract's maxSeconds, {self.source.bounds.max_seconds:,}"
        return self.problem(Code.DELIVERY_TOO_SLOW, message)

    def lines(self) -> Iterator[bytes]:
        """Physical lines without their line feed, a byte order mark removed; a line that is too long is refused."""
        tail, first = b"", True
        for block in self.blocks():
            if first:
                block, first = block.removeprefix(b"\xef\xbb\xbf"), False
            lines = (tail + block).split(b"\n")
            tail = lines.pop()
            self.check_length(tail)
            yield from lines
        if tail:
            yield tail

    def check_length(self, line: bytes) -> None:
        """Refuse a line, or the start of one, that is longer than a record may be."""
        if len(line) > limits.MAX_RECORD_BYTES:
            raise self.record_too_long("a line")

    def record_too_long(self, what: str) -> PermanentFailure:
        """The failure to raise for a line or a value that is longer than a record may be."""
        message = f"{what} is longer than the {limits.MAX_RECORD_BYTES:,} bytes that a record may have"
        return self.problem(Code.DELIVERY_RECORD_TOO_LONG, message)

    def decode(self, line: bytes) -> tuple[str, list[str]]:
        """Text of a line without its line end, and the rules that its bytes break.

        In an older Chinese encoding a line does not count as text that is sound UTF-8 with ideographs, which in the other
        encoding would be other ones, or that has characters for private use, which no font shows.
        """
        broken: list[str] = []
        try:
            text = line.decode(self.encoding)
            if self.encoding != "utf-8" and not line.isascii() and (_is_utf8(line) or PRIVATE_USE.search(text)):
                broken = [Code.RECORD_ENCODING]
        except UnicodeDecodeError:
            text, broken = line.decode(self.encoding, "backslashreplace"), [Code.RECORD_ENCODING]
        if (broken or self.encoding != "utf-8") and not line.isascii():
            other = in_another_encoding(line, text, is_sound=not broken)
            if other is not None:
                text, broken = other, [Code.RECORD_ENCODING]
        if "\0" in text:
            text, broken = text.replace("\0", "\u2400"), [*broken, Code.RECORD_NUL]
        return text.rstrip("\r"), broken

    def shown_header(self, header: str) -> str:
        """A column header for a table or a message: quoted, short, characters that cannot be printed escaped."""
        # Where the header line is missing, it is a value.
        cleaned = hidden(header, expects_hkid=True)
        quoted = repr if cleaned.isprintable() else ascii
        return quoted(cleaned[: limits.SHOWN_CHARACTERS])

    @cached_property
    def encoding(self) -> str:
        """Python's name of the contract's encoding; a byte order mark is removed elsewhere."""
        return "utf-8" if self.source.encoding == "utf-8-sig" else self.source.encoding

    def _from_store(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except OSError as error:
            raise TransientFailure(f"object store: {self.file}: {type(error).__name__}") from error


def _is_utf8(line: bytes) -> bool:
    try:
        return bool(IDEOGRAPH.search(line.decode()))
    except UnicodeDecodeError:
        return False


def _log_place(file: str, error: Exception) -> None:
    """Log where a library failed."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace:
        log.warning("%s: %s in %s, line %s", file, type(error).__name__, trace.tb_frame.f_code.co_name, trace.tb_lineno)
