"""Publish a gated batch: its intake table becomes a partition of raw.<feed>, in one transaction with its ledger row.

No row is written a second time.
"""

from __future__ import annotations

from datetime import date, datetime

from psycopg import sql

from sampan import failpoints, feed_hooks
from sampan.contracts.model import Contract
from sampan.database import Connection, connect
from sampan.errors import Code, Problem
from sampan.ingest import doubts, ledger
from sampan.ingest.ledger import Batch


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Publish every gated batch of a feed, or those of one date. Returns how many batches, held and rows."""
    rows = 0

    def publish(connection: Connection, contract: Contract, batch: Batch) -> None:
        nonlocal rows
        rows += _publish(connection, contract, batch)

    try:
        return ledger.process_pending(feed, "gated", business_date, publish) | {"rows": rows}
    finally:
        # Also for what was published before a batch failed.
        feed_hooks.clean_up(feed)


def is_needed(feed: str) -> bool:
    """Whether the steps after landing have something to do: a delivery on its way, or a hook that cleans up each time."""
    with connect() as connection:
        query = "select from ops.feed_on_the_way where feed = %s"
        return feed in feed_hooks.HOOKS or connection.execute(query, [feed]).fetchone() is not None


def is_published_since(feed: str, since: datetime) -> bool:
    """Whether a batch was published since a time, also by an attempt that crashed, or counts again because it came back."""
    query = """
        select 1 from ops.batch as b
        where feed = %(feed)s and (
            published_at >= %(since)s
            or state = 'published' and exists (
                select from ops.delivery as d
                where d.batch_id = b.batch_id and d.received_at = b.returned_at and d.seen_at >= %(since)s
            )
        )
        limit 1
    """
    with connect() as connection:
        return connection.execute(query, {"feed": feed, "since": since}).fetchone() is not None


def _publish(connection: Connection, contract: Contract, batch: Batch) -> int:
    rows = (batch.rows_in or 0) - (batch.rows_quarantined or 0) - (batch.rows_duplicate or 0)
    failpoints.hit("publish.before_attach")
    with ledger.transaction(connection):
        if batch.origin == "replay" and not _is_still_open(connection, batch):
            return 0
        _attach(connection, contract, batch)
        failpoints.hit("publish.before_commit")
        if batch.origin == "replay":
            connection.execute(
                """
                update quarantine.record as q
                set state = 'resolved', resolved_by_batch_id = %s, decided_at = clock_timestamp()
                from ops.replay_line as l
                where l.batch_id = %s and q.feed = %s and q.quarantine_id = l.quarantine_id and q.state = 'open'
                """,
                [batch.batch_id, batch.batch_id, batch.feed],
            )
        ledger.write(connection, batch, state="published", rows_published=rows, published_at=ledger.now())
        doubts.raise_all(connection, contract, batch, rows)
        feed_hooks.after_publish(connection, batch.feed)
    failpoints.hit("publish.after_commit")
    return rows


def _is_still_open(connection: Connection, batch: Batch) -> bool:
    """Whether every row of a replay is still open. Holds the replay if some were decided meanwhile."""
    still_open = connection.execute(
        """
        select q.quarantine_id from ops.replay_line as l
        join quarantine.record as q using (feed, quarantine_id)
        where l.batch_id = %s and l.feed = %s and q.state = 'open'
        order by 1
        for update of q
        """,
        [batch.batch_id, batch.feed],
    ).rowcount
    if still_open == batch.rows_in:
        return True
    # Its own quarantined rows are copies: the open rows of the first delivery can be replayed again.
    connection.execute(
        """
        delete from quarantine.record as q
        where feed = %s and batch_id = %s and state = 'open' and not exists (
            select from ops.replay_line as l where l.feed = q.feed and l.quarantine_id = q.quarantine_id
        )
        """,
        [batch.feed, batch.batch_id],
    )
    ledger.write(connection, batch, row_rules_at=None)
    message = f"{still_open} of {batch.rows_in} rows are still open; the others were discarded or published meanwhile"
    ledger.hold(connection, batch, Problem(Code.REPLAY_DECIDED, message, batch.file), rows=batch.rows_in)
    return False


def _attach(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Turn the intake table into a partition of raw.<feed>, with the columns that raw gained since it was created."""
    feed, partition = sql.Identifier(contract.feed), sql.Identifier(batch.table)
    missing = connection.execute(
        """
        select quote_ident(r.attname) || ' ' || format_type(r.atttypid, r.atttypmod) from pg_attribute as r
        where r.attrelid = %s::regclass and r.attnum > 0 and not r.attisdropped and not exists (
            select from pg_attribute as i
            where i.attrelid = %s::regclass and i.attname = r.attname and not i.attisdropped
        )
        """,
        [f'raw."{contract.feed}"', f'intake."{batch.table}"'],
    ).fetchall()
    for (column,) in missing:
        connection.execute(sql.SQL("alter table {} add column {}").format(batch.intake, sql.SQL(column)))
    connection.execute(
        sql.SQL(
            """
            alter table {table} alter column _batch_id drop default, alter column _line drop default;
            drop sequence intake.{lines};
            drop table if exists {rejects};
            alter table {table} set schema raw;
            alter table raw.{feed} attach partition raw.{partition} for values in ({number});
            alter table raw.{partition} drop constraint {check}
            """
        ).format(
            table=batch.intake,
            lines=sql.Identifier(f"{batch.table}__lines"),
            rejects=batch.rejects,
            feed=feed,
            partition=partition,
            number=sql.Literal(batch.batch_id),
            check=sql.Identifier(f"{batch.table}__batch"),
        )
    )
