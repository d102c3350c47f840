"""Objects beside the data that are not deliveries: markers of finished jobs, checksums, unfinished uploads, system files.

They are told by their names alone, as the programs that write them name them. What is in none of these lists is a
delivery, so an unknown name is never ignored.
"""

from __future__ import annotations

import hashlib
import re

FOLDER = "a folder"
# A job has finished; often empty, or the list of what it wrote.
SIGNALS = (".done", ".ok", ".ready", ".finished", ".complete", ".success", ".ctl", ".trg", ".trigger", ".flag", ".eof")
SIGNAL_BYTES = 4096
# The upload goes on, or was given up: the whole file has the name without the ending.
UNFINISHED = (
    ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".uploading", ".inprogress",
    ".incomplete", ".swp", ".bak", "~",
)  # fmt: skip
# By what the file ends with, or is called: how the content is summed up; None where nothing here computes it.
CHECKSUMS: dict[str, str | None] = {
    ".md5": "md5", ".md5sum": "md5", "md5sums": "md5", ".sha1": "sha1", ".sha1sum": "sha1", "sha1sums": "sha1",
    ".sha256": "sha256", ".sha256sum": "sha256", "sha256sums": "sha256", ".sha512": "sha512", ".sha512sum": "sha512",
    "sha512sums": "sha512", ".crc": None, ".crc32": None, ".sfv": None,
}  # fmt: skip
SIGNATURES = (".asc", ".sig", ".sign", ".p7s")
SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin")
# Folders of programs that keep their own files beside the data.
FOLDERS = ("_temporary", "_delta_log", "_spark_metadata", "__macosx", "@eadir")
# Bytes of a file of checksums that are read.
CHECKSUM_BYTES = 1 << 16
# `d41d... *name` of GNU, `MD5 (name) = d41d...` of BSD, or the sum alone.
LINE = re.compile(r"(?:\w+ \((?P<bsd>.+)\) = )?(?P<sum>[0-9a-fA-F]{32,128})(?:[ \t]+\*?(?P<gnu>\S.*))?")


def marker(path: str, size: int, extension: str) -> str | None:
    """What an object is, in words, when it is not a delivery; None for a delivery.

    `path` is its key below the feed's prefix, `size` is in bytes, `extension` what deliveries of the feed end with.
    """
    # S3 knows no relative paths: ".." is a name like any other, and not a hidden file.
    *folders, name = ("-" if part in (".", "..") else part for part in path.lower().split("/"))
    if not size and (not name or name.endswith("_$folder$")):
        return FOLDER
    if name in SYSTEM or any(folder in (*FOLDERS, *SYSTEM) or folder.startswith(".") for folder in folders):
        return "a file of a program"
    if name.startswith(("~$", ".~lock.")):
        return "the lock of an open document"
    if name.endswith(tuple(CHECKSUMS)):
        return "a checksum"
    if name.endswith(UNFINISHED):
        return "an unfinished upload or a copy"
    if name.endswith(SIGNATURES):
        return "a signature"
    # Spark, Hive and their like take no name that begins so for data; what ends as a delivery may be one nevertheless.
    if name.startswith(".") or (name.startswith("_") and not name.endswith(f".{extension}")):
        return "a marker of a job"
    if name.endswith(SIGNALS) and size <= SIGNAL_BYTES:
        return "a signal file"
    return None


def checksum_of(path: str) -> str | None:
    """Algorithm of a file of checksums, as hashlib names it; None for any other file."""
    name = path.lower().rsplit("/", 1)[-1]
    return next((algorithm for ending, algorithm in CHECKSUMS.items() if algorithm and name.endswith(ending)), None)


def sums(path: str, text: str) -> dict[str, str]:
    """Sums in lower case by the name of the file that each is of, as a file of checksums says or is called itself."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line.strip())
        if match and len(match["sum"]) == 2 * hashlib.new(checksum_of(path) or "", usedforsecurity=False).digest_size:
            own = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            named = match["bsd"] or match["gnu"] or own
            found[named.strip().rsplit("/", 1)[-1]] = match["sum"].lower()
    return found
