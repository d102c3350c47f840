"""Damaged deliveries of every feed: a reader returns records, sound or broken, or refuses the delivery, within its bounds.

Hypothesis damages the samples and the kept corpus (`corpus/<format>/`), before and after compression. A run prints its
seed; `make faults SEED=...` repeats it. What fails is printed as a `Damage`; a file that failed once is kept in the
corpus.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure
from sampan.reading import child
from sampan.reading.formats import FORMATS
from sampan.reading.reader import Reader

from tests.factory import DAY
from tests.unit.reading.deliveries import PRIVATE

CORPUS, SAMPLES = Path(__file__).parent / "corpus", Path(__file__).parents[1] / "samples"
# Of any reader, for deliveries of a few kilobytes.
MEMORY_BYTES, SECONDS = 1 << 28, 30
TOKENS = [
    b"\0", b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\\", b"{", b"}", b"[", b"]", b"<", b">", b"\xff", b"\xef\xbb\xbf",
    b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"null", b"NaN", b"1e999", b"9" * 400, b"[" * 2000, b"&lt;", b"&#0;",
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x7f\xff\xff\xff", b"A123456(3)", b"=1+1", b"\x1b[0m", b"PK\x03\x04", b"PAR1",
]  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One change of some bytes. `place` is taken modulo their number; `inside` of what was compressed."""

    kind: str
    place: int
    length: int
    token: bytes
    inside: bool

    def apply(self, body: bytes) -> bytes:
        place = self.place % (len(body) + 1)
        piece = body[place : place + self.length]
        flipped = bytes(byte ^ (1 << self.length % 8) for byte in body[place : place + 1])
        return {
            "flip": body[:place] + flipped + body[place + 1 :],
            "insert": body[:place] + self.token + body[place:],
            "replace": body[:place] + self.token + body[place + len(self.token) :],
            "remove": body[:place] + body[place + self.length :],
            "repeat": body[:place] + piece * 30 + body[place:],
            "cut": body[:place],
            "swap": body[place:] + body[:place],
        }[self.kind]


DAMAGES = st.lists(
    st.builds(
        Damage,
        st.sampled_from(["flip", "insert", "replace", "remove", "repeat", "cut", "swap"]),
        st.integers(0, 1 << 20),
        st.integers(0, 300),
        st.sampled_from(TOKENS) | st.binary(max_size=8),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What reads whole files, imported once: otherwise each process of a check would have to."""
    for module in {module for written in FORMATS.values() for module in written.whole_file_readers}:
        import_module(module)


def in_workbook(body: bytes, damage: Damage) -> bytes:
    """A workbook with one of its members damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        items = old.infolist()
        for place, item in enumerate(items):
            data = old.read(item)
            new.writestr(item.filename, damage.apply(data) if place == damage.length % len(items) else data)
    return out.getvalue()


def damaged(contract: Contract, body: bytes, damages: list[Damage]) -> bytes:
    inside = [damage for damage in damages if damage.inside]
    unpack, pack = {
        "gzip": (gzip.decompress, gzip.compress),
        "zstd": (zstandard.ZstdDecompressor().decompress, zstandard.compress),
        "none": (bytes, bytes),
    }[contract.source.compression]
    body = unpack(body)
    for damage in inside:
        body = in_workbook(body, damage) if contract.source.format == "xlsx" else damage.apply(body)
    body = pack(body)
    for damage in damages:
        body = body if damage.inside else damage.apply(body)
    return body


def check(contract: Contract, body: bytes) -> str:
    """Read a delivery in both ways. Returns the rule by which it was refused, or `read`."""
    bounds = replace(contract.source.bounds, max_memory_bytes=MEMORY_BYTES, max_seconds=SECONDS)
    bounded = replace(contract, source=replace(contract.source, bounds=bounds))
    # In a process of its own, so that memory and time of reading lines are bounded too, and no crash ends the tests.
    (rule,) = child.iterate(lambda: [_check(bounded, body)], 2 * MEMORY_BYTES, SECONDS)
    return rule


def _check(contract: Contract, body: bytes) -> str:
    reader = Reader(contract, lambda: io.BytesIO(body), DAY, "file", PRIVATE)
    try:
        width = len(reader.layout.stored)
        lines = 0
        for record in reader.records():
            assert lines < record.line
            assert len(record.fields) == width
            lines = record.line
            for text in (record.text, *filter(None, record.fields)):
                assert "\0" not in text
                text.encode()
            assert all(rule.startswith("record.") for rule in record.broken)
        blocks = list(reader.blocks())
        assert all(block.data.endswith(b"\n") for block in blocks if block.data)
    except PermanentFailure as failure:
        problem = failure.problem
        assert problem.rule.startswith("delivery.")
        assert str(problem).isprintable()
        return problem.rule
    return "read"


def starts(written: str, compression: str) -> dict[str, list[tuple[Contract, bytes]]]:
    """Deliveries to damage, by feed: its sample, and the corpus of its format."""
    found = {}
    for feed, contract in all_contracts().items():
        if (contract.source.format, contract.source.compression) == (written, compression):
            (sample,) = (SAMPLES / feed).iterdir()
            found[feed] = [(contract, sample.read_bytes())]
    return found


KINDS = sorted({(c.source.format, c.source.compression) for c in all_contracts().values()})
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_every_format_has_a_corpus():
    assert {path.parent.name for path in KEPT} == {written for written, _ in KINDS}


def contract_of(path: Path) -> Contract:
    """The contract for a file of the corpus, whose name begins with a feed's."""
    return get_contract(path.name.split(".")[0])


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_reader_copes_with_each_file_of_the_corpus(path):
    contract = contract_of(path)
    assert contract.source.format == path.parent.name
    assert check(contract, path.read_bytes())


def fuzzed(written: str, compression: str) -> Callable[[], None]:
    chosen = [start for found in starts(written, compression).values() for start in found]
    kept = [(contract_of(path), path.read_bytes()) for path in KEPT if path.parent.name == written]
    chosen += [start for start in kept if start[0].source.compression == compression]

    @given(st.sampled_from(chosen), DAMAGES)
    def test(start: tuple[Contract, bytes], damages: list[Damage]) -> None:
        contract, body = start
        try:
            body = damaged(contract, body, damages)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zstandard.ZstdError):
            return
        check(contract, body)

    return test


@pytest.mark.parametrize(("written", "compression"), KINDS)
def test_a_reader_copes_with_a_few_damaged_deliveries(written, compression):
    few = settings(max_examples=20, derandomize=True, deadline=None, database=None)
    few(fuzzed(written, compression))()


@pytest.mark.slow
@pytest.mark.parametrize(("written", "compression"), KINDS)
def test_a_reader_copes_with_damaged_deliveries(written, compression):
    many = settings(
        max_examples=1000, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    many(fuzzed(written, compression))()
