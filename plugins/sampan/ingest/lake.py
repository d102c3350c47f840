"""Keep the lake as raw is: a Parquet object for each batch that counts, and nothing of any other.

What has to be there follows from the ledger, so one function writes, heals and removes. `ops.lake_object` names an object
before it exists, and until it is gone.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import IO, TYPE_CHECKING

from psycopg.rows import class_row

from sampan import failpoints, object_store
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.ingest import arrow, ledger
from sampan.object_store import ObjectRefused, s3_errors
from sampan.settings import settings

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
COUNTS = "state = 'published' and deleted_at is null"


@dataclass(frozen=True)
class Entry:
    """A batch that counts, or that may have an object: what the ledger says of it, and what its object was made from.

    `noted_token` is None where no object was ever begun, and `etag` where none is complete.
    """

    batch_id: int
    business_date: date
    token: int
    counts: bool
    rows_published: int | None
    noted_token: int | None
    layout: str | None
    rows: int | None
    content_sha256: str | None
    etag: str | None

    def is_written(self, layout: str) -> bool:
        """Whether an object was completed with the rows and columns that the batch has now."""
        return (self.token, layout) == (self.noted_token, self.layout) and self.etag is not None

    def is_current(self, layout: str, found: str | None) -> bool:
        """Whether that object is the one in the store; `found` is the ETag that the store lists."""
        return self.is_written(layout) and self.etag == found


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Bring the lake of a feed, or of one business date, to what the ledger says. Returns objects written and removed.

    With SAMPAN_LAKE=off nothing is written, and what is not as raw is goes as well. Raises PermanentFailure when the object
    store refuses the bucket and, at the end, when a batch has a value that the lake cannot take.
    """
    contract, is_on = get_contract(feed), settings().lake_is_on
    done, replaced = {"written": 0, "removed": 0}, list[str]()
    unwritten: PermanentFailure | None = None
    with connect() as connection, _refusals():
        if not is_on and all(entry.noted_token is None for entry in entries(connection, feed, business_date)):
            return done
        # Before the ledger is asked: another worker writes only what is published already.
        found = listing(feed, business_date)
        wanted, layout = entries(connection, feed, business_date), layout_of(contract)
        for entry in wanted:
            key = key_of(feed, entry.business_date, entry.batch_id)
            etag = found.pop(key, None)
            if entry.is_current(layout, etag) and entry.counts:
                continue
            # The rows that it had until now are no longer what raw has.
            if etag is not None and (not entry.counts or entry.noted_token not in (None, entry.token)):
                replaced += _pieces(key)
            if entry.counts and is_on:
                try:
                    done["written"] += _write(connection, contract, entry, key)
                except PermanentFailure as error:
                    # The object may have what the batch had before.
                    _delete(key)
                    log.warning("%s: %s", feed, error)
                    unwritten = unwritten or error
            elif entry.noted_token is not None or etag is not None:
                done["removed"] += _remove(connection, entry, key, is_on)
        for key in found:
            log.warning("%s is in the lake and no batch of the ledger has it: it is removed", key)
            replaced += _pieces(key)
            _delete(key)
            done["removed"] += 1
    _forget(replaced)
    if unwritten is not None:
        raise unwritten
    return done


def sync(feeds: Iterable[str]) -> dict[str, int]:
    """`run` for several feeds. One that fails does not stop the others; the first error is raised at the end."""
    done, failed = {"written": 0, "removed": 0}, list[SampanError]()
    for feed in feeds:
        try:
            for what, count in run(feed).items():
                done[what] += count
        except SampanError as error:
            log.warning("%s: %s", feed, error)
            failed.append(error)
    if failed:
        raise failed[0]
    return done


def follow(feed: str) -> None:
    """Bring the lake of a feed to what has just been decided. What fails here is said, and done by the next run."""
    try:
        run(feed)
    except SampanError as error:
        log.warning("the lake of %s is not up to date yet: %s; run `sampan lake sync %s`", feed, error, feed)


# --- what there is ----------------------------------------------------------------------------------------------------


def key_of(feed: str, business_date: date, batch_id: int) -> str:
    """Key of the object of a batch."""
    return f"{_prefix(feed, business_date)}b{batch_id}.parquet"


def uri_if_begun(connection: Connection, batch_id: int) -> str | None:
    """Address of the object of a batch; None when none was ever begun, or it is gone."""
    row = connection.execute(
        "select feed, business_date from ops.lake_object join ops.batch using (batch_id) where batch_id = %s",
        [batch_id],
    ).fetchone()
    return None if row is None else f"s3://{settings().lake_bucket}/{key_of(row[0], row[1], batch_id)}"


def listing(feed: str, business_date: date | None = None) -> dict[str, str]:
    """ETag by key of every object of a feed, or of one of its business dates."""
    with s3_errors():
        pages = settings().s3().get_paginator("list_objects_v2")
        return {
            item["Key"]: item["ETag"]
            for page in pages.paginate(Bucket=settings().lake_bucket, Prefix=_prefix(feed, business_date))
            for item in page.get("Contents", ())
        }


def entries(connection: Connection, feed: str, business_date: date | None = None) -> list[Entry]:
    """Every batch of a feed that counts, or that may have an object, in the order of their numbers."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            f"""
            select
                batch.batch_id,
                business_date,
                batch.token,
                {COUNTS} as counts,
                rows_published,
                object.token as noted_token,
                layout,
                object.rows,
                object.content_sha256,
                etag
            from ops.batch as batch
            left join ops.lake_object as object using (batch_id)
            where feed = %(feed)s and (%(day)s::date is null or business_date = %(day)s)
                and ({COUNTS} or object.batch_id is not null)
            order by batch.batch_id
            """,
            {"feed": feed, "day": business_date},
        ).fetchall()


def layout_of(contract: Contract) -> str:
    """Changes with the names, types and order of the columns of a feed's objects, and with their key."""
    return hashlib.sha256(f"{arrow.schema_of(contract)} {contract.key}".encode()).hexdigest()


def _prefix(feed: str, business_date: date | None) -> str:
    return f"{feed}/" if business_date is None else f"{feed}/business_date={business_date}/"


@contextmanager
def _refusals() -> Iterator[None]:
    """Say what to do when the object store refuses the bucket."""
    try:
        yield
    except ObjectRefused as error:
        raise PermanentFailure(Problem(Code.LAKE_REFUSED, f"bucket {settings().lake_bucket}: {error}")) from error


# --- objects ----------------------------------------------------------------------------------------------------------


def _write(connection: Connection, contract: Contract, entry: Entry, key: str) -> bool:
    """Write the object of a batch. Returns False when the batch was changed meanwhile: then it is not complete."""
    begun = _begin(connection, contract, entry.batch_id)
    if begun is None:
        return False
    failpoints.hit("lake.before_object")
    with tempfile.TemporaryFile() as file:
        rows = write_parquet(file, contract, arrow.tables(connection, contract, entry.batch_id))
        size = file.tell()
        file.seek(0)
        sha = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        with s3_errors():
            answer = settings().s3().put_object(
                Bucket=settings().lake_bucket, Key=key, Body=file, Metadata={"sha256": sha}
            )  # fmt: skip
    failpoints.hit("lake.after_object")
    with ledger.transaction(connection):
        noted = connection.execute(
            f"""
            update ops.lake_object as object
            set rows = %(rows)s, bytes = %(bytes)s, content_sha256 = %(sha)s, etag = %(etag)s,
                written_at = clock_timestamp()
            where batch_id = %(batch)s and token = %(token)s and exists (
                select from ops.batch where batch_id = object.batch_id and token = object.token and {COUNTS}
            )
            """,
            {
                "rows": rows, "bytes": size, "sha": sha, "etag": answer["ETag"], "batch": entry.batch_id, "token": begun,
            },
        ).rowcount  # fmt: skip
        failpoints.hit("lake.before_commit")
    failpoints.hit("lake.after_commit")
    if not noted:
        _take_back(connection, entry.batch_id, key)
    return bool(noted)


def write_parquet(file: IO[bytes], contract: Contract, tables: Iterable[pa.Table]) -> int:
    """Write sorted tables as a Parquet file, each as a row group. Returns how many rows."""
    import pyarrow.parquet as pq

    schema, rows = arrow.schema_of(contract), 0
    sorting = pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in contract.key])
    with pq.ParquetWriter(file, schema, compression="zstd", sorting_columns=sorting) as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _begin(connection: Connection, contract: Contract, batch_id: int) -> int | None:
    """Note that the object of a batch is being written. Returns the batch's token; None when it counts no more."""
    with ledger.transaction(connection):
        row = connection.execute(
            f"select token from ops.batch where batch_id = %s and {COUNTS} for share", [batch_id]
        ).fetchone()
        if row is None:
            return None
        connection.execute(
            """
            insert into ops.lake_object (batch_id, token, layout) values (%s, %s, %s)
            on conflict (batch_id) do update set
                token = excluded.token,
                layout = excluded.layout,
                begun_at = excluded.begun_at,
                rows = null,
                bytes = null,
                content_sha256 = null,
                etag = null,
                written_at = null
            """,
            [batch_id, row[0], layout_of(contract)],
        )
        return int(row[0])


def _take_back(connection: Connection, batch_id: int, key: str) -> None:
    """Undo what was written of a batch that was changed meanwhile: its object may have other rows, or none may be there."""
    pieces = _pieces(key)
    with ledger.transaction(connection):
        connection.execute("select from ops.batch where batch_id = %s for update", [batch_id])
        _delete(key)
        connection.execute(
            """
            update ops.lake_object
            set rows = null, bytes = null, content_sha256 = null, etag = null, written_at = null
            where batch_id = %s
            """,
            [batch_id],
        )
    _forget(pieces)


def _remove(connection: Connection, entry: Entry, key: str, is_on: bool) -> bool:
    """Remove the object of a batch that counts no more. Returns False when it counts again."""
    with ledger.transaction(connection):
        # Locked, so that no one puts the batch back, and its object, before this one is gone.
        query = f"select {COUNTS} from ops.batch where batch_id = %s for update"
        if scalar(connection, query, [entry.batch_id]) and is_on:
            return False
        _delete(key)
        failpoints.hit("lake.after_removal")
        connection.execute("delete from ops.lake_object where batch_id = %s", [entry.batch_id])
    return True


def _delete(key: str) -> None:
    with s3_errors():
        settings().s3().delete_object(Bucket=settings().lake_bucket, Key=key)


def _pieces(key: str) -> list[str]:
    store = object_store.seaweedfs()
    return store.pieces(settings().lake_bucket, key) if store else []


def _forget(pieces: list[str]) -> None:
    """Make SeaweedFS give up content that was removed. Raises TransientFailure when it still serves a piece of it."""
    store = object_store.seaweedfs()
    if store and pieces and (left := store.forget(pieces)):
        raise TransientFailure(
            f"SeaweedFS still serves content that left the lake: {', '.join(left[:10])}; run it again"
        )
