"""load: a landed batch into its intake table, every record with its line.

A clean delivery takes the fast path: whole blocks straight into typed columns. One that does not parse takes the slow path:
all records as text, from which the sound ones are cast and the others are set aside for the gate; none is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import date

import psycopg
from psycopg import sql

from sampan import failpoints
from sampan.contracts import line_pattern
from sampan.contracts import row_rules as rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import get_contract
from sampan.database import column_ddl, connect
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest import ledger
from sampan.ingest.ledger import Batch
from sampan.reading.fast_path import FastPathUnsupported
from sampan.reading.reader import Reader, open_delivery

log = logging.getLogger(__name__)
NEWLINE = ord("\n")
# The table is made in the same transaction, so its rows may come in frozen: no later scan has to mark or rewrite them.
COPY_OPTIONS = sql.SQL("format csv, freeze, force_null ({})")


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Load every landed batch of a feed, or those of one date. Returns how many were loaded and held."""
    return ledger.process_pending(feed, "landed", business_date, _load)


def again(feed: str, business_date: date | None = None, only: Collection[int] | None = None) -> int:
    """Take held batches (or those with numbers) back to where they were landed, to be judged by the contract as it is now.
    Returns how many.

    Their rows in quarantine are judged anew with them. A batch of which a person has decided a row stays as it is.
    """
    taken = 0
    contract = get_contract(feed)
    with connect() as connection:
        for batch in ledger.pending(connection, feed, "held", business_date):
            if only is not None and batch.batch_id not in only:
                continue
            claimed = ledger.claim(connection, batch)
            if claimed is None or _is_decided(connection, claimed):
                continue
            with ledger.transaction(connection):
                connection.execute(
                    "delete from quarantine.record where feed = %s and batch_id = %s", [feed, claimed.batch_id]
                )
                connection.execute(sql.SQL("drop table if exists {}, {}").format(claimed.intake, claimed.rejects))
                ledger.write(
                    connection, claimed, state="landed", contract_version=contract.version, problem=None, held_at=None,
                    loaded_at=None, row_rules_at=None, rows_in=None, rows_quarantined=None, rows_duplicate=None,
                    rows_held=None,
                )  # fmt: skip
            taken += 1
    return taken


def _is_decided(connection: psycopg.Connection, batch: Batch) -> bool:
    row = connection.execute(
        "select count(*) from quarantine.record q where feed = %s and batch_id = %s and (state <> 'open'"
        " or exists (select from ops.replay_line l where l.feed = q.feed and l.quarantine_id = q.quarantine_id))",
        [batch.feed, batch.batch_id],
    ).fetchone()
    return row is not None and row[0] > 0


def _load(connection: psycopg.Connection, contract: Contract, batch: Batch) -> None:
    replay = batch.origin == "replay"
    reader = open_delivery(contract, batch.landing_uri, batch.business_date, batch.file, replay=replay)
    columns = reader.layout.stored
    with ledger.transaction(connection):
        _note_drift(connection, contract, batch, reader)
    try:
        with ledger.transaction(connection):
            failpoints.hit("load.before_copy")
            _create_intake(connection, contract, batch, reader.layout.first_line)
            (rows, fits), rejects = _copy_blocks(connection, batch, reader, columns), 0
            proven = line_pattern.proven_rules_sha256(contract) if fits else None
            _finish(connection, contract, batch, rows, proven)
    except (FastPathUnsupported, psycopg.DataError) as reason:
        log.info("%s batch %s takes the slow path: %s", batch.feed, batch.batch_id, type(reason).__name__)
        with ledger.transaction(connection):
            _create_intake(connection, contract, batch, 1)
            rows, rejects = _copy_records(connection, batch, reader, columns)
            _finish(connection, contract, batch, rows)
    failpoints.hit("load.after_commit")
    log.info("%s batch %s loaded: %s records, %s do not parse", batch.feed, batch.batch_id, rows, rejects)


def _finish(
    connection: psycopg.Connection, contract: Contract, batch: Batch, rows: int, shape: str | None = None
) -> None:
    if not rows and contract.calendar.empty == "hold":
        raise PermanentFailure(Problem(Code.DELIVERY_NO_ROWS, "the delivery holds no record", batch.file))
    ledger.write(connection, batch, state="loaded", rows_in=rows, shape=shape, loaded_at=ledger.now())
    failpoints.hit("load.before_commit")


def _note_drift(connection: psycopg.Connection, contract: Contract, batch: Batch, reader: Reader) -> None:
    """Record how the delivery differs from its contract; columns that it adds are added to raw."""
    for kind, name, detail in reader.layout.drift:
        connection.execute(
            "insert into ops.drift (batch_id, kind, column_name, detail) values (%s, %s, %s, %s) on conflict do nothing",
            [batch.batch_id, kind, name, detail],
        )
    for column in reader.layout.added:
        connection.execute(
            sql.SQL("alter table raw.{} add column if not exists {}").format(
                sql.Identifier(contract.feed), column_ddl([column])
            )
        )


def _create_intake(connection: psycopg.Connection, contract: Contract, batch: Batch, first_line: int) -> None:
    """The batch's own table, shaped like raw.<feed>; lines count themselves as the records come in."""
    connection.execute(sql.SQL("drop table if exists {}, {}").format(batch.intake, batch.rejects))
    # The check tells publish that all rows belong to this batch, so that it need not look at them again.
    connection.execute(
        sql.SQL("create table {} (like raw.{}, constraint {} check (_batch_id = {}))").format(
            batch.intake,
            sql.Identifier(contract.feed),
            sql.Identifier(f"{batch.table}__batch"),
            sql.Literal(batch.batch_id),
        )
    )
    lines = sql.SQL("intake.{}").format(sql.Identifier(f"{batch.table}__lines"))
    connection.execute(
        sql.SQL("create sequence {} start with {} cache 1000 owned by {}._line").format(
            lines, sql.Literal(first_line), batch.intake
        )
    )
    connection.execute(
        sql.SQL(
            "alter table {} alter column _batch_id set default {}, alter column _line set default nextval({})"
        ).format(batch.intake, sql.Literal(batch.batch_id), sql.Literal(f'intake."{batch.table}__lines"'))
    )


def _copy(connection: psycopg.Connection, table: sql.Composable, columns: list[str], blocks: Iterator[bytes]) -> int:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("copy {} ({}) from stdin ({})").format(table, names, COPY_OPTIONS.format(names))
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for block in blocks:
                copy.write(block)
        return cursor.rowcount


def _copy_blocks(
    connection: psycopg.Connection, batch: Batch, reader: Reader, columns: list[Column]
) -> tuple[int, bool]:
    """Returns how many records there are, and whether the lines of all of them fit the contract's pattern."""
    import numpy as np

    names, numbered = [column.name for column in columns], reader.numbered
    lines, fits = 0, True

    def counted() -> Iterator[bytes]:
        nonlocal lines, fits
        for block in reader.blocks():
            fits = block.fits_pattern
            if not numbered:
                lines += int(np.count_nonzero(np.frombuffer(block.data, np.uint8) == NEWLINE))
            yield block.data

    rows = _copy(connection, batch.intake, ["_line", *names] if numbered else names, counted())
    if rows != lines and not numbered:
        # A line end inside quotes, or a line that COPY takes for the end: records and lines no longer go in step.
        raise FastPathUnsupported
    return rows, fits


def _copy_records(
    connection: psycopg.Connection, batch: Batch, reader: Reader, columns: list[Column]
) -> tuple[int, int]:
    """Returns how many records there are, and how many of them do not fit the types."""
    names = [column.name for column in columns]
    fields = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in names)
    connection.execute(
        sql.SQL(
            "create temporary table every_record (_line bigint, _broken text[], _record text, {}) on commit drop"
        ).format(fields)
    )
    target = sql.SQL(", ").join(map(sql.Identifier, ["_line", "_broken", "_record", *names]))
    rows = 0
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy every_record ({}) from stdin").format(target)) as copy,
    ):
        for record in reader.records():
            copy.write_row([record.line, record.broken, record.text, *record.fields])
            rows += 1
    unfit = sql.SQL("(_broken <> '{{}}' or {})").format(rules.any_of(rules.type_checks(columns)))
    connection.execute(sql.SQL("create table {} as select * from every_record where {}").format(batch.rejects, unfit))
    casts = sql.SQL(", ").join(
        sql.SQL("cast({} as {})").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns
    )
    connection.execute(
        sql.SQL("insert into {} (_line, {}) select _line, {} from every_record where not {}").format(
            batch.intake, sql.SQL(", ").join(map(sql.Identifier, names)), casts, unfit
        )
    )
    row = connection.execute(sql.SQL("select count(*) from {}").format(batch.rejects)).fetchone()
    return rows, row[0] if row else 0
