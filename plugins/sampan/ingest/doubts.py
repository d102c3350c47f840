"""What is published as it came, though its partner may not have meant it so: the owner of the feed is alerted.

Each doubt is one that the contract cannot settle, so nothing is held (ADR 0040).
"""

from __future__ import annotations

import logging

from psycopg import sql

from sampan.alerts import raise_alert
from sampan.contracts.model import Contract
from sampan.database import Connection, one, scalar
from sampan.ingest.ledger import Batch

log = logging.getLogger(__name__)
# Batches of other dates with as many rows, newest first, whose rows are compared.
MOST_COMPARED = 2
# Rows of a batch that are looked up first.
FIRST_ROWS = 100
# Share of the rows of a replaced delivery without which the newer one is not taken for a correction of it.
LOST_SHARE = 0.5


def raise_all(connection: Connection, contract: Contract, batch: Batch, rows: int) -> None:
    """Alert the owner of what is doubtful about a batch of `rows` rows, in the transaction that publishes it."""
    if batch.origin != "delivery":
        return
    doubts = {
        "empty": _nothing_came(batch),
        "replaced": _took_the_place(connection, contract, batch) if contract.corrections == "replace_period" else None,
        "stale": _same_again(connection, contract, batch, rows) if _changes(contract) else None,
    }
    for kind, doubt in doubts.items():
        if doubt:
            message = f"for {contract.owner} <{contract.contact}>: {doubt}"
            raise_alert(connection, kind, contract.feed, message)
            log.warning("%s: %s", contract.feed, doubt)


def _changes(contract: Contract) -> bool:
    """Whether each delivery has rows of its own. What an API answers may be the same for days, and so may a whole list."""
    return contract.source.kind == "s3" and contract.calendar.unchanged == "alert"


def _nothing_came(batch: Batch) -> str | None:
    """Nothing to tell is a file with a header or an empty line; 0 bytes are what a failed upload leaves."""
    if batch.bytes:
        return None
    return (
        f"{_name(batch.batch_id, batch.file, batch)} it has 0 bytes. It counts as a delivery without rows, which the contract"
        " accepts; if the upload failed, have it delivered again"
    )


def _took_the_place(connection: Connection, contract: Contract, batch: Batch) -> str | None:
    """Of two deliveries of a date the newer counts. A correction has most of the older one's rows; another part has none."""
    found = connection.execute(
        """
        select batch_id, regexp_replace(source_uri, '^.*/', ''), (counts_from, batch_id) < (%s, %s) from ops.batch
        where feed = %s and business_date = %s and state = 'published' and origin = 'delivery' and deleted_at is null
            and batch_id <> %s
        order by counts_from desc, batch_id desc
        limit 1
        """,
        [batch.received_at, batch.batch_id, batch.feed, batch.business_date, batch.batch_id],
    ).fetchone()
    if found is None:
        return None
    other, file, is_older = found
    this = (batch.batch_id, batch.file)
    (older, older_file), (newer, newer_file) = ((other, file), this) if is_older else (this, (other, file))
    query = sql.SQL(
        """
        select count(*), count(*) filter (where not exists (
            select from raw.{feed} as newer where newer._batch_id = {newer} and ({newer_key}) = ({older_key})
        ))
        from raw.{feed} as older
        where older._batch_id = {older}
        """
    ).format(
        feed=sql.Identifier(batch.feed),
        newer=sql.Literal(newer),
        older=sql.Literal(older),
        newer_key=sql.SQL(", ").join(sql.Identifier("newer", name) for name in contract.key),
        older_key=sql.SQL(", ").join(sql.Identifier("older", name) for name in contract.key),
    )
    before, lost = one(connection, query)
    if not before or lost <= LOST_SHARE * before:
        return None
    return (
        f"{_name(newer, newer_file, batch)} it takes the place of batch {older}, {older_file}: {lost:,} of the {before:,}"
        f" rows there ({', '.join(contract.key)}) are not in it, and the newest delivery of a date counts"
        " alone. If they are parts of one delivery, have it delivered as one file"
    )


def _same_again(connection: Connection, contract: Contract, batch: Batch, rows: int) -> str | None:
    """The rows of a date again for another one are an old file that was sent again, perhaps packed again."""
    if not rows:
        return None
    others = connection.execute(
        """
        select batch_id, business_date, content_sha256 = %s from ops.batch
        where feed = %s and business_date <> %s and state = 'published' and origin = 'delivery' and deleted_at is null
            and rows_published = %s
        order by 3 desc, business_date desc, batch_id desc
        limit %s
        """,
        [batch.content_sha256, batch.feed, batch.business_date, rows, MOST_COMPARED],
    ).fetchall()
    for other, day, is_same_file in others:
        if is_same_file or _has_same_rows(connection, contract, batch.batch_id, other):
            return (
                f"{_name(batch.batch_id, batch.file, batch)} it has the same {rows:,} rows as batch {other} of {day}."
                f" If it is the file of {day}, have that of {batch.business_date} delivered"
            )
    return None


def _has_same_rows(connection: Connection, contract: Contract, new: int, old: int) -> bool:
    """Whether two batches with as many rows have the same ones. Nearly always the first few tell that they differ."""
    names = [column.name for column in contract.stored]
    parts = {
        "feed": sql.Identifier(contract.feed),
        "new": sql.Literal(new),
        "old": sql.Literal(old),
        "columns": sql.SQL(", ").join(map(sql.Identifier, names)),
        "first": sql.Literal(FIRST_ROWS),
    } | {
        f"{of}_{what}": sql.SQL(", ").join(sql.Identifier(of, name) for name in some)
        for of in ("n", "o")
        for what, some in (("key", contract.key), ("row", names))
    }
    few = sql.SQL(
        """
        select exists (
            select from (select {columns} from raw.{feed} where _batch_id = {new} limit {first}) as n
            where not exists (
                select from raw.{feed} as o
                where _batch_id = {old} and ({n_key}) = ({o_key}) and ({n_row}) is not distinct from ({o_row})
            )
        )
        """
    ).format(**parts)
    every = sql.SQL(
        """
        select exists (
            select {columns} from raw.{feed} where _batch_id = {new}
            except
            select {columns} from raw.{feed} where _batch_id = {old}
        )
        """
    ).format(**parts)
    return not any(scalar(connection, query) for query in (few, every))


def _name(number: int, file: str, batch: Batch) -> str:
    """A batch at the start of a message. Retention takes the names of files from alerts: each has a colon behind it."""
    return f"batch {number} of {batch.business_date}, {file}:"
