"""What can still be read off an object that could not be processed: its text, regardless of its format.

A delivery that is held or refused may hold news that must not be lost. So its bytes are read as text here, without the
contract's format, compressed or not, up to the first byte that cannot be decompressed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from sampan.calendar import today
from sampan.contracts.model import Contract
from sampan.errors import Code
from sampan.object_store import open_unverified
from sampan.reading.delivery import Delivery
from sampan.reading.personal_data import pseudonymiser

# How compressed content begins. The contract's compression does not count here. A file of zstd may begin with a frame that
# is skipped.
MAGIC = {"gzip": rb"\x1f\x8b", "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"}
# Of bzip2, xz, zip (and so workbooks), lz4, compress, 7z, Parquet: as text they say nothing, as if nothing were in them.
ILLEGIBLE = rb"BZh[1-9]|\xfd7zXZ|PK\x03\x04|\x04\x22\x4d\x18|\x1f[\x9d\xa0]|7z\xbc\xaf|PAR1"
# Bytes by which pieces overlap, so that a number is whole in one of them, in any spelling.
OVERLAP = 512


def pieces(contract: Contract, uri: str, lines: Collection[int] | None = None) -> Iterator[tuple[int | None, str]]:
    """Pieces of an object's text: the lines of these numbers with their number, or everything, in overlapping pieces.

    Raises PermanentFailure at content that cannot be read (further), TransientFailure when the object store does not answer.
    """
    opener = open_unverified(uri)
    stream = opener()
    head = stream.read(8)
    stream.close()
    compression = next((name for name, magic in MAGIC.items() if re.match(magic, head)), "none")
    contract = replace(contract, source=replace(contract.source, compression=compression))
    delivery = Delivery(contract, opener, today(), uri.rsplit("/", 1)[-1], pseudonymiser())
    if re.match(ILLEGIBLE, head):
        raise delivery.problem(Code.DELIVERY_CORRUPT, "it is packed in a way that cannot be read as text")
    if lines is not None:
        for number, line in enumerate(delivery.lines(), 1):
            if number in lines:
                yield number, _text(line)
        return
    tail = b""
    for block in delivery.blocks():
        yield None, _text(tail + block)
        tail = (tail + block)[-OVERLAP:]


def _text(data: bytes) -> str:
    """Bytes as text in any encoding whose letters and digits are ASCII's, UTF-16 too."""
    return data.replace(b"\0", b"").decode("utf-8", "replace")
