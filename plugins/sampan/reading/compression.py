"""Decompression of a stream, piece by piece, so that memory does not grow with the delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sampan.reading import limits

# Gives the compressed bytes in pieces of at most the size that it is called with.
Pieces = Callable[[int], Iterator[bytes]]


def uncompressed(pieces: Pieces) -> Iterator[bytes]:
    """The bytes as they are."""
    return pieces(limits.BLOCK_BYTES)


def gunzip(pieces: Pieces) -> Iterator[bytes]:
    """Decompressed blocks of one or more gzip members. Raises EOFError when truncated, ValueError when corrupt."""
    from isal import isal_zlib

    decompressor, started = isal_zlib.decompressobj(31), False
    try:
        for piece in pieces(limits.GZIP_INPUT_BYTES):
            while piece:
                if decompressor.eof:
                    if not piece.strip(b"\0"):
                        break
                    decompressor = isal_zlib.decompressobj(31)
                started = True
                block = decompressor.decompress(piece, limits.LARGEST_BLOCK_BYTES)
                if block:
                    yield block
                piece = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
    except isal_zlib.error as error:  # type: ignore[misc]
        raise ValueError(str(error)) from None
    if started and not decompressor.eof:
        raise EOFError


def unzstd(pieces: Pieces) -> Iterator[bytes]:
    """Decompressed blocks of one or more zstd frames. Raises EOFError when truncated, ValueError when corrupt."""
    import zstandard

    def new() -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_BYTES).decompressobj()

    decompressor, started = new(), False
    gathered: list[bytes] = []
    size = 0
    try:
        for piece in pieces(limits.ZSTD_INPUT_BYTES):
            while piece:
                if decompressor.eof:
                    decompressor = new()
                started = True
                block = decompressor.decompress(piece)
                gathered.append(block)
                size += len(block)
                if size >= limits.LARGEST_BLOCK_BYTES:
                    yield b"".join(gathered)
                    gathered, size = [], 0
                piece = decompressor.unused_data if decompressor.eof else b""
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if size:
        yield b"".join(gathered)
    if started and not decompressor.eof:
        raise EOFError


# By the contract's name of the compression.
DECOMPRESS: dict[str, Callable[[Pieces], Iterator[bytes]]] = {"none": uncompressed, "gzip": gunzip, "zstd": unzstd}
