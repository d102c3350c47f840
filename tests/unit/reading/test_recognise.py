"""What a delivery is that is not what its contract says.

Kind of fault: a file of another kind is refused with the words of a library that stumbled over it, or row by row.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from sampan.contracts.model import FORMATS, Contract, Source
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.reading.recognise import NAMES, instead_of_compression, instead_of_format, what_it_is

from tests.factory import encode, feeds, rows
from tests.unit.reading.deliveries import csv_contract, reader

CSV = b"a,b\n1,2\n"


def ole(*streams: str) -> bytes:
    """A compound file as Office 97 to 2003 wrote it: a header sector, then a directory of named entries (MS-CFB 2.6)."""
    entries = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams))
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0") + entries


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), out)
    return out.getvalue()


KINDS = {
    "gzip": gzip.compress(CSV, mtime=0),
    "zstd": zstandard.compress(CSV),
    "bzip2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "a workbook or document that is protected by a password: send it without one": ole(
        "EncryptionInfo", "EncryptedPackage"
    ),
    "an old Excel workbook (.xls): save it as .xlsx": ole("Workbook"),
    "an old Excel workbook (.xls) or one with a password: save it as .xlsx without a password": ole(),
    "an Excel workbook (xlsx)": archive("[Content_Types].xml", "xl/workbook.xml"),
    "a binary Excel workbook (.xlsb): save it as .xlsx": archive("xl/workbook.bin"),
    "an OpenDocument file (.ods): save it as .xlsx": archive("mimetype", "content.xml"),
    "a Word document": archive("word/document.xml"),
    "a ZIP archive of 2 files": archive("a.csv", "b.csv"),
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c\0\x04",
    "a PDF document": b"%PDF-1.7\n",
    "a picture": b"\x89PNG\r\n\x1a\n",
    "Parquet": parquet(),
    "an HTML page": b"\n<!DOCTYPE html><html><body>Login</body></html>",
    "XML": b'<?xml version="1.0"?><rows/>',
    "a JSON array": b'\xef\xbb\xbf [\n{"a": 1}\n]',
    "a JSON document of several lines": b'{\n  "a": 1\n}\n',
    "JSON": b'{"a": 1}\n{"a": 2}\n',
    "text in UTF-16": "a,b\n1,2\n".encode("utf-16"),
}


@pytest.mark.parametrize(("name", "content"), KINDS.items(), ids=KINDS)
def test_a_file_is_told_by_its_bytes(name, content):
    assert what_it_is(content) == name


def test_utf_16_is_told_without_a_byte_order_mark():
    assert {what_it_is("a,b\n".encode(f"utf-16-{order}")) for order in ("le", "be")} == {"text in UTF-16"}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", CSV, b"PAR1,PAR2\n1,2\n", b"ORC_ID,BZh9\n", "編號,名稱\n".encode(), "編號\n".encode("gb18030"),
        b'"a",b\n', b"<5,6\n", b"II,MM\n", b"GIF8 number,x\n", b"PKG,PK\n",
    ],
)  # fmt: skip
def test_lines_of_text_are_taken_for_nothing_else(content):
    assert what_it_is(content) is None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", KINDS)
def test_what_is_of_another_format_is_named(name, kind):
    right = {"jsonl": "JSON", "xlsx": "an Excel workbook (xlsx)", "parquet": "Parquet"}.get(kind)
    said = instead_of_format(Source("s3", "s3://drop/x", kind), KINDS[name])
    assert (said is None) == (name == right)
    if name == "text in UTF-16":
        assert said == "it is text in UTF-16; the contract's encoding is utf-8"
    elif said and name not in ("gzip", "zstd", "bzip2", "xz"):
        assert said == f"it is {name}; the contract's format is {NAMES[kind]}"


@pytest.mark.parametrize("feed", feeds(lambda c: c.source.kind == "s3", least=9))
def test_a_sound_delivery_of_any_feed_is_taken_for_nothing_else(feed):
    contract = get_contract(feed)
    unpacked = replace(contract, source=replace(contract.source, compression="none"))
    assert instead_of_format(contract.source, encode(unpacked, rows(feed, 3))) is None
    assert instead_of_compression(contract.source, encode(contract, rows(feed, 3))) is None


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_is_compressed_twice_or_otherwise_is_named(compression):
    source = Source("s3", "s3://drop/x", "csv", compression=compression)
    twice, other = KINDS[compression], KINDS["bzip2"]
    assert instead_of_format(source, twice) == (
        f"it is compressed twice: unpack the {compression} inside, or send it compressed once"
    )
    assert instead_of_compression(source, other) == (
        f"it is compressed with bzip2; the contract's compression is {compression}"
    )
    assert instead_of_compression(source, CSV) == f"it is not compressed; the contract's compression is {compression}"
    assert instead_of_compression(source, KINDS["an HTML page"]) == (
        f"it is an HTML page; the contract's compression is {compression}"
    )
    assert instead_of_compression(source, b"\x00\x01\x02 what") is None


def test_what_is_compressed_though_the_contract_says_none_is_named():
    assert instead_of_format(Source("s3", "s3://drop/x", "csv"), KINDS["gzip"]) == (
        "it is compressed with gzip; the contract has no compression"
    )


def said_of(contract: Contract, body: str | bytes) -> str:
    """The message with which a delivery is refused."""
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract, body.encode() if isinstance(body, str) else body).layout
    return str(failure.value)


@pytest.mark.parametrize("name", ["a PDF document", "an HTML page", "XML", "a JSON array", "JSON"])
def test_csv_of_another_kind_is_refused_by_its_name(name):
    said = said_of(csv_contract(), KINDS[name].lstrip())
    assert f"it is {name}; the contract's format is CSV [delivery.other_format]" in said
