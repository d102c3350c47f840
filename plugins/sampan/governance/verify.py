"""Compare what is kept twice: the lake with raw and with the ledger, and landed deliveries with their SHA-256.

Everything is read to its end, so a look takes as long as the store and the warehouse take to give all of it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from sampan import object_store, progress
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect
from sampan.ingest import arrow, lake
from sampan.object_store import ObjectRefused
from sampan.settings import settings

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are compared at a time.
ROWS = 65_536


@dataclass(frozen=True)
class Difference:
    """Something that is not as the ledger says: `place` is lake, raw or landing."""

    feed: str
    batch_id: int | None
    place: str
    what: str


def run(feeds: Iterable[str]) -> tuple[dict[str, int], list[Difference]]:
    """Look at every object of the lake and of landing. Returns how many of each were read, and what differs.

    Raises TransientFailure when the object store or the warehouse does not answer.
    """
    chosen, read, found = list(feeds), {"lake": 0, "landing": 0}, list[Difference]()
    with connect() as connection:
        for number, feed in enumerate(chosen):
            contract = get_contract(feed)
            progress.report(f"verify {feed}", number, len(chosen))
            for place, look in (("lake", _lake), ("landing", _landing)):
                for difference in look(connection, contract):
                    read[place] += difference is None
                    if difference is not None:
                        found.append(difference)
    return read, found


def _landing(connection: Connection, contract: Contract) -> Iterator[Difference | None]:
    """What is wrong with each landed delivery that is kept; None for a sound one."""
    query = "select batch_id, landing_uri from ops.batch where feed = %s and deleted_at is null order by batch_id"
    for batch_id, uri in connection.execute(query, [contract.feed]).fetchall():
        try:
            object_store.verify(uri)
        except ObjectRefused as error:
            what = "is damaged" if error.code == "ContentChanged" else f"cannot be read ({error.code})"
            yield Difference(contract.feed, batch_id, "landing", f"{uri.rsplit('/', 1)[-1]} {what}")
        else:
            yield None


def _lake(connection: Connection, contract: Contract) -> Iterator[Difference | None]:
    """What is wrong with each object of a feed; None for a sound one."""
    feed, layout = contract.feed, lake.layout_of(contract)
    wanted = lake.entries(connection, feed)
    if not settings().lake_is_on and all(entry.noted_token is None for entry in wanted):
        return
    found = lake.listing(feed)
    for entry in wanted:
        key = lake.key_of(feed, entry.business_date, entry.batch_id)
        is_there = found.pop(key, None) is not None
        if not entry.counts:
            what = "is withdrawn or deleted, and its object is not removed yet" if is_there else None
        elif not entry.is_written(layout):
            what = "is not written yet" if settings().lake_is_on else None
        elif not is_there:
            what = f"{key} is missing"
        else:
            what = _content(connection, contract, entry, key)
        yield Difference(feed, entry.batch_id, "lake", what) if what else None
    for key in found:
        yield Difference(feed, None, "lake", f"{key} is of no batch of the ledger")


def _content(connection: Connection, contract: Contract, entry: lake.Entry, key: str) -> str | None:
    """What is wrong with an object, read whole: its bytes, its columns, or its rows beside those of raw and the ledger."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as file:
        try:
            if _copied(key, file) != entry.content_sha256:
                return f"{key} was changed: its SHA-256 is not the one that the ledger has"
        except ObjectRefused as error:
            return f"{key} cannot be read ({error.code})"
        with pq.ParquetFile(file) as parquet:
            if parquet.schema_arrow != arrow.schema_of(contract):
                return f"{key} has other columns than raw.{contract.feed}"
            groups = (parquet.read_row_group(number) for number in range(parquet.num_row_groups))
            raw = arrow.tables(connection, contract, entry.batch_id)
            rows, of_raw = 0, 0
            ours, theirs = _in_parts(groups), _in_parts(raw)
            while True:
                one, other = next(ours, None), next(theirs, None)
                if one is None and other is None:
                    break
                rows += one.num_rows if one is not None else 0
                of_raw += other.num_rows if other is not None else 0
                if one is not None and other is not None and one.num_rows == other.num_rows and not one.equals(other):
                    return f"{key} differs from raw in {_first(one, other)}"
    if len({rows, of_raw, entry.rows, entry.rows_published}) > 1:
        return (
            f"{key} has {rows:,} rows, and {entry.rows or 0:,} when it was written; raw has {of_raw:,}, the ledger"
            f" {entry.rows_published or 0:,}"
        )
    return None


def _copied(key: str, file: IO[bytes]) -> str:
    """Copy an object of the lake to a file. Returns its SHA-256."""
    digest = hashlib.sha256()
    stream = object_store.open_unverified(f"s3://{settings().lake_bucket}/{key}")()
    try:
        while block := stream.read(1 << 20):
            digest.update(block)
            file.write(block)
    finally:
        stream.close()
    file.seek(0)
    return digest.hexdigest()


def _in_parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables in tables of ROWS rows, and a last one with fewer: two readings can be compared part by part."""
    import pyarrow as pa

    held: pa.Table | None = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= ROWS:
            yield held.slice(0, ROWS)
            held = held.slice(ROWS)
    if held is not None and held.num_rows:
        yield held


def _first(one: pa.Table, other: pa.Table) -> str:
    """Where two tables of as many rows differ first, without the values."""
    for name in ("_line", *one.column_names):
        for place, (ours, theirs) in enumerate(zip(one[name], other[name], strict=True)):
            if not ours.equals(theirs):
                return f"{name} of line {other['_line'][place].as_py()}"
    return "its order"
