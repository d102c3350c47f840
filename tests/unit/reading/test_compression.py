"""Compressed deliveries come back whole, or are refused."""

from __future__ import annotations

import gzip
import io
import random
from contextlib import suppress
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from sampan.contracts.model import COMPRESSIONS, Bounds, Contract, Source
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.reading.compression import DECOMPRESS

from tests.unit.reading.deliveries import column, contract_for, reader


class Trickle(io.BytesIO):
    """Returns fewer bytes than asked for, as a network does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 777) if size and size > 0 else size)


def unpacked(contract: Contract, body: bytes, stream: type[io.BytesIO] = io.BytesIO) -> bytes:
    return b"".join(reader(contract, body, stream).delivery.blocks())


def packed(compression: str) -> Contract:
    return contract_for(Source("s3", "s3://drop/x", "csv", compression=compression), [column("a")])


PACK = {"gzip": lambda data: gzip.compress(data, 1), "zstd": zstandard.ZstdCompressor(level=1).compress, "none": bytes}


@given(
    size=st.integers(0, 4 * limits.BLOCK_BYTES + 5),
    grain=st.sampled_from([1, 3, 1000, 100_000]),
    kind=st.sampled_from(sorted(PACK)),
    stream=st.sampled_from([io.BytesIO, Trickle]),
)
def test_bytes_come_back_whole_when_they_were_compressed(size, grain, kind, stream):
    data = (random.Random(size).randbytes(grain) * (size // grain + 1))[:size]
    assert unpacked(packed(kind), PACK[kind](data), stream) == data


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [0, 1, limits.BLOCK_BYTES * 4, limits.BLOCK_BYTES * 4 + 1, 5_000_000])
def test_bytes_come_back_whole_when_they_shrink_a_thousandfold(kind, size):
    assert unpacked(packed(kind), PACK[kind](b"\n" * size)) == b"\n" * size


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_come_back_whole_when_a_file_has_several_members(kind):
    parts = [b"one\n" * 1000, b"", b"two\n" * 1000]
    assert unpacked(packed(kind), b"".join(map(PACK[kind], parts))) == b"".join(parts)


def test_bytes_come_back_whole_when_a_gzip_is_padded_with_zeros():
    assert unpacked(packed("gzip"), gzip.compress(b"one\n") + b"\0" * 1000) == b"one\n"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_are_refused_when_any_of_the_end_is_missing(kind):
    body = PACK[kind](random.Random(1).randbytes(3000))
    for cut in range(1, len(body), 97):
        with pytest.raises(PermanentFailure) as failure:
            unpacked(packed(kind), body[:-cut])
        assert failure.value.problem.rule in ("delivery.truncated", "delivery.corrupt")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_are_refused_or_right_when_a_bit_is_flipped(kind):
    data = random.Random(2).randbytes(2000) * 3
    body, chance = bytearray(PACK[kind](data)), random.Random(3)
    for _ in range(200):
        place, bit = chance.randrange(len(body)), 1 << chance.randrange(8)
        body[place] ^= bit
        # A frame of zstd need not carry a checksum; one of gzip always does.
        with suppress(PermanentFailure):
            assert unpacked(packed(kind), bytes(body)) == data or kind == "zstd"
        body[place] ^= bit


def test_bytes_are_refused_when_they_are_more_than_the_contract_allows():
    contract = replace(packed("none"), source=Source("s3", "x", "csv", bounds=Bounds(1000, 1 << 28, 60)))
    with pytest.raises(PermanentFailure) as failure:
        unpacked(contract, b"a\n" * 600)
    assert failure.value.problem.rule == "delivery.too_large"


def test_every_compression_of_a_contract_can_be_read():
    assert DECOMPRESS.keys() == set(COMPRESSIONS)
