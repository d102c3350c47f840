"""`sampan report`: write the pages of a release beside the others in the state folder, and put them into the object store.

A folder has its name only when it is complete. The release is not touched: pages can be made again at any time.
"""

from __future__ import annotations

import mimetypes
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.contracts.store_policy import REPORTER
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts.release import KEEP
from sampan.object_store import s3_errors
from sampan.report import answers, changes, open_data, pages
from sampan.settings import settings

INDEX, START = "index.html", "en/index.html"
TYPES = {
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".svg": "image/svg+xml",
    ".jsonld": "application/ld+json",
    ".yaml": "application/yaml",
}
# Uploads at the same time: a release has some hundred small files.
UPLOADS = 8


def folder() -> Path:
    """The folder of the reports, with one folder per release."""
    return settings().reports


@dataclass(frozen=True)
class Made:
    """What a report came to: its release (0 when there is none), files written (0 when they were there), and start page."""

    release_no: int
    files: int
    seconds: float
    path: Path


def run(release_no: int | None = None, *, again: bool = False) -> Made:
    """Make the pages of a release, the live one by default, unless they are there. Keeps those of five releases locally.

    Raises PermanentFailure when the release is not kept, and, after all other pages are written, when the query of a question
    failed; TransientFailure when the object store cannot be reached.
    """
    begun = time.monotonic()
    number = release_no or answers.live()
    if number is None:
        return Made(0, 0, 0, folder() / INDEX)
    target = folder() / f"release_{number}"
    if (target / changes.KEPT).exists() and not again:
        return Made(number, 0, 0, target / START)
    found = answers.read(number)
    before = changes.kept(folder() / f"release_{found.previous_no}" / changes.KEPT)
    # Pages have cells of few enterprises, and the program that runs this may leave its files open to others.
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder(), prefix=".making-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        files = [*pages.write(fresh, found, before), *open_data.write(fresh, found)]
        # Before the folder has its name: what is there locally is in the store.
        _upload(fresh, files, number)
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
    _index(found.names)
    failed = [f"question {answer.question.number}: {answer.problem}" for answer in found.answers if answer.problem]
    if failed:
        message = f"release {number} is shown, and has pages without an answer: {'; '.join(failed)}"
        raise PermanentFailure(Problem(Code.REPORT_QUERY, message, str(target)))
    return Made(number, len(files), time.monotonic() - begun, target / START)


def _index(names: Any) -> None:
    """Write the page above the releases, and drop the oldest folders."""
    found = {int(path.name[8:]): path for path in folder().iterdir() if re.fullmatch(r"release_[0-9]+", path.name)}
    numbers = sorted(found, reverse=True)
    for number in numbers[KEEP:]:
        shutil.rmtree(found[number])
    pages.write_index(folder(), numbers[:KEEP], names)
    _put(folder() / INDEX, INDEX)


def _upload(place: Path, files: list[Path], release_no: int) -> None:
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(lambda file: _put(file, f"release_{release_no}/{file.relative_to(place).as_posix()}"), files))


def _put(file: Path, key: str) -> None:
    kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    kind += "; charset=utf-8" if kind.startswith("text/") else ""
    with s3_errors():
        settings().s3(REPORTER).put_object(
            Bucket=settings().report_bucket, Key=key, Body=file.read_bytes(), ContentType=kind
        )
