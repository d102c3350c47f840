"""What a delivery is that is not what its contract says: told by its first bytes, for the message to its partner.

Libraries for file types tell one binary type from another. They do not tell what partners mix up: JSON Lines and a JSON
array, a workbook with a password and an old one, a file compressed once and twice.
"""

from __future__ import annotations

import io
import re
import zipfile
from contextlib import suppress

from sampan.contracts.model import Source

# Bytes from the start of a delivery that are enough to tell.
HEAD_BYTES = 1 << 16
# OLE 2, the container of Office up to 2003 and of documents with a password (MS-CFB 2.2, MS-OFFCRYPTO 2.3.4).
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
UTF_16 = "text in UTF-16"
# First bytes of a type, and its name.
BINARY = (
    (rb"\x1f\x8b", "gzip"),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd"),
    (rb"BZh[1-9]1AY&SY", "bzip2"),
    (rb"\xfd7zXZ\x00", "xz"),
    (rb"\x04\x22\x4d\x18", "lz4"),
    (rb"\x1f[\x9d\xa0]", "compress"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"PAR1[\x00-\x1f]", "Parquet"),
    (rb"Obj\x01", "Avro"),
    (rb"SQLite format 3\x00", "an SQLite database"),
    (rb"%PDF-", "a PDF document"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\x2a\x00|MM\x00\x2a", "a picture"),
    (rb"-----BEGIN PGP|\x85[\x01-\x04]", "encrypted with PGP"),
    (rb"\xff\xfe|\xfe\xff|[^\x00]\x00[^\x00]\x00|\x00[^\x00]\x00[^\x00]", UTF_16),
)
COMPRESSIONS = ("gzip", "zstd", "bzip2", "xz", "lz4", "compress")


def what_it_is(content: bytes) -> str | None:
    """In words, what a file is by its first HEAD_BYTES; None for lines of text and what is unknown.

    Of a container (ZIP, OLE) all bytes tell more.
    """
    if content.startswith(OLE):
        return _of_ole(content)
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_zip(content)
    for magic, name in BINARY:
        if re.match(magic, content):
            return name
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:512].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<table")) or b"<html" in start:
        return "an HTML page"
    if start.startswith((b"<?xml", b"<soap")):
        return "XML"
    if start.startswith(b"["):
        return "a JSON array"
    if re.match(rb"\{\s*\n", start):
        return "a JSON document of several lines"
    return "JSON" if re.match(rb'\{\s*("|\})', start) else None


def instead_of_format(source: Source, content: bytes) -> str | None:
    """What is said of a delivery's unpacked content when it is plainly of another format; None when it may be right."""
    found = what_it_is(content)
    usual = {"jsonl": ("JSON",), "xlsx": (WORKBOOK,), "parquet": ("Parquet",)}.get(source.format, ())
    if found is None or found in usual:
        return None
    if found == source.compression:
        return f"it is compressed twice: unpack the {found} inside, or send it compressed once"
    if found in COMPRESSIONS:
        if source.compression == "none":
            return f"it is compressed with {found}; the contract has no compression"
        return f"it is compressed with {source.compression} and then with {found}; the contract has {source.compression} only"
    if found == UTF_16:
        return f"it is {found}; the contract's encoding is {source.encoding}"
    return f"it is {found}; the contract's format is {NAMES[source.format]}"


def instead_of_compression(source: Source, packed: bytes) -> str | None:
    """What is said of a delivery's own bytes when they cannot be unpacked as the contract says; None when they begin so."""
    found = what_it_is(packed)
    if found == source.compression or source.compression == "none":
        return None
    if found is None and not _is_text(packed):
        return None
    what = "not compressed" if found is None else f"compressed with {found}" if found in COMPRESSIONS else found
    return f"it is {what}; the contract's compression is {source.compression}"


WORKBOOK = "an Excel workbook (xlsx)"
NAMES = {
    "csv": "CSV",
    "jsonl": "JSON Lines (one object on each line)",
    "fixed": "lines of fixed width",
    "xlsx": "xlsx",
    "parquet": "Parquet",
}


def _of_ole(content: bytes) -> str:
    """Streams of an OLE file are named in its directory, in UTF-16 and never compressed."""
    streams = {name: name.encode("utf-16-le") in content for name in ("EncryptedPackage", "Workbook", "Book")}
    if streams["EncryptedPackage"]:
        return "a workbook or document that is protected by a password: send it without one"
    if streams["Workbook"] or streams["Book"]:
        return "an old Excel workbook (.xls): save it as .xlsx"
    return "an old Excel workbook (.xls) or one with a password: save it as .xlsx without a password"


def _of_zip(content: bytes) -> str:
    names: list[str] = []
    with suppress(zipfile.BadZipFile, OSError, ValueError):
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    # Of a part of the file the directory at its end is not known.
    if any(name.lower().startswith("xl/") for name in names) or (not names and b"xl/" in content):
        binary = any(name.lower() == "xl/workbook.bin" for name in names)
        return "a binary Excel workbook (.xlsb): save it as .xlsx" if binary else WORKBOOK
    if any(name.lower().startswith("word/") for name in names):
        return "a Word document"
    if "mimetype" in names or b"mimetypeapplication/vnd.oasis" in content[:100]:
        return "an OpenDocument file (.ods): save it as .xlsx"
    return f"a ZIP archive of {len(names):,} files" if names else "a ZIP archive"


def _is_text(content: bytes) -> bool:
    """Whether bytes are text in an encoding whose line ends and commas are ASCII's."""
    head = content[:1024]
    return bool(head) and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)
