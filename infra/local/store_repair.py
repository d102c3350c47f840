"""Take policies off buckets whose administrator they deny everything: S3 lets no one remove such a policy.

SeaweedFS keeps a policy with the folder of its bucket. Its shell can save the entries of folders and load them again: the
entry of the bucket is loaded without the policy. What is in the bucket is not touched.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# The beginning of an item of an entry's map of extended attributes: its key, as protobuf writes it.
POLICY = b"\x0a\x10s3-bucket-policy"
LENGTH = struct.Struct(">I")
SECONDS = 600


def remove_policies(shell: Sequence[str], environ: Mapping[str, str], folder: Path) -> int:
    """Remove the policies of all buckets. `folder` is private, for files that go with it. Returns how many there were.

    `shell` is the command line of SeaweedFS's shell as the owner of the store. Raises CalledProcessError or TimeoutExpired
    when it fails.
    """
    saved, corrected = folder / "buckets.meta", folder / "corrected.meta"

    def run(command: str) -> None:
        subprocess.run(
            shell, input=f"{command}\n", env=environ, cwd=folder, text=True, capture_output=True, timeout=SECONDS,
            check=True,
        )  # fmt: skip

    try:
        run(f"fs.meta.save -o {saved} /buckets")
        entries = list(without_policies(saved.read_bytes()))
        corrected.write_bytes(b"".join(LENGTH.pack(len(entry)) + entry for entry in entries))
        if entries:
            run(f"fs.meta.load {corrected}")
        return len(entries)
    finally:
        saved.unlink(missing_ok=True)
        corrected.unlink(missing_ok=True)


def without_policies(saved: bytes) -> Iterator[bytes]:
    """Of saved entries (messages of folder and entry, each after its length) those with a policy, without it."""
    at = 0
    while at < len(saved):
        (length,) = LENGTH.unpack_from(saved, at)
        at += LENGTH.size + length
        (folder, _), (written, entry) = _fields(saved[at - length : at])
        kept = b"".join(field for field, content in _fields(entry) if not content.startswith(POLICY))
        if kept != entry:
            yield folder + written[:1] + _varint(len(kept)) + kept


def _fields(message: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The fields of a protobuf message: as it is written, with its tag, and its content if it has a length."""
    at = 0
    while at < len(message):
        begin = at
        tag, at = _read_varint(message, at)
        kind, content = tag & 7, b""
        if kind == 0:
            _, at = _read_varint(message, at)
        elif kind == 2:
            length, at = _read_varint(message, at)
            content, at = message[at : at + length], at + length
        else:
            at += {1: 8, 5: 4}[kind]
        yield message[begin:at], content


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def _varint(number: int) -> bytes:
    written = b""
    while number > 127:
        written += bytes([number & 127 | 128])
        number >>= 7
    return written + bytes([number])
