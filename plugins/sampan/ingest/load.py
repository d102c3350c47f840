"""Load a landed batch into its intake table, every record with its line number.

Blocks of lines are copied straight into typed columns. The few records that only the database can judge are loaded as text:
those that break no rule of a column are cast, the others are kept for the gate, so that no record is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from datetime import date

from psycopg import sql

from sampan import failpoints
from sampan.alerts import raise_alert
from sampan.contracts import line_pattern, row_rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest import ledger
from sampan.ingest.ledger import Batch
from sampan.reading.layout import LayoutGrew
from sampan.reading.reader import Reader
from sampan.reading.record import Record
from sampan.warehouse import pseudonym_keys

log = logging.getLogger(__name__)
# Records set apart that are held in memory: some thousand.
ODD_AT_ONCE = 5_000


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Load every landed batch of a feed, or those of one date. Returns how many were loaded and held."""
    return ledger.process_pending(feed, "landed", business_date, load_batch)


def reset_held(feed: str, business_date: date | None = None, only: Collection[int] | None = None) -> int:
    """Reset held batches (or those with the numbers in `only`) to `landed`, to validate them against the current contract.

    Returns how many. Their quarantined rows are deleted, since the gate will check them again. A batch stays held if a person
    has already decided on one of its rows.
    """
    count = 0
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
            count += 1
    return count


def _is_decided(connection: Connection, batch: Batch) -> bool:
    query = """
        select exists (
            select from quarantine.record as q
            where feed = %s and batch_id = %s and (
                state <> 'open'
                or exists (select from ops.replay_line as l where l.feed = q.feed and l.quarantine_id = q.quarantine_id)
            )
        )
    """
    return bool(scalar(connection, query, [batch.feed, batch.batch_id]))


def load_batch(connection: Connection, contract: Contract, batch: Batch) -> Batch:
    """Load one batch, again if it is loaded already. Returns it as it is then."""
    pseudonym_keys.check(connection)
    try:
        return _load(connection, contract, batch, from_start=True)
    except LayoutGrew:
        return _load(connection, contract, batch, from_start=False)


def _load(connection: Connection, contract: Contract, batch: Batch, *, from_start: bool) -> Batch:
    reader = batch.reader(contract, from_start=from_start)
    columns = reader.layout.stored
    with ledger.transaction(connection):
        _note_drift(connection, contract, batch, reader)
    if contract.drift == "note" and reader.layout.has_unknown:
        with ledger.transaction(connection):
            _note_values(connection, batch, reader)
    with ledger.transaction(connection):
        failpoints.hit("load.before_copy")
        _create_intake(connection, contract, batch, reader.layout.first_line)
        rows, rejects = _copy(connection, contract, batch, reader, columns)
        if not rows and contract.calendar.empty == "hold":
            raise PermanentFailure(Problem(Code.DELIVERY_NO_ROWS, "the delivery contains no records", batch.file))
        proven = line_pattern.proven_rules_sha256(contract)
        ledger.write(
            connection, batch, state="loaded", rows_in=rows, proven_rules_sha256=proven, loaded_at=ledger.now()
        )
        _note_aliases(connection, reader)
        failpoints.hit("load.before_commit")
    failpoints.hit("load.after_commit")
    log.info("%s batch %s loaded: %s records, %s of them rejected", batch.feed, batch.batch_id, rows, rejects)
    return replace(batch, state="loaded", rows_in=rows, proven_rules_sha256=proven)


def _note_aliases(connection: Connection, reader: Reader) -> None:
    """Store which pseudonyms are of a value that has another one under an older key."""
    aliases = reader.aliases
    if aliases:
        connection.execute(
            """
            insert into ops.pseudonym_alias (pseudonym, oldest)
            select new.pseudonym, coalesce(known.oldest, new.oldest)
            from unnest(%s::text[], %s::text[]) as new (pseudonym, oldest)
            left join ops.pseudonym_alias as known on known.pseudonym = new.oldest
            order by new.pseudonym
            on conflict do nothing
            """,
            [list(aliases), list(aliases.values())],
        )


def _note_drift(connection: Connection, contract: Contract, batch: Batch, reader: Reader) -> None:
    """Record how the columns of the delivery differ from its contract, and tell the owner of those that are new."""
    unknown = [detail for kind, _, detail in reader.layout.drift if kind == "unknown"]
    new = _never_noted(connection, batch.feed, unknown) if contract.drift == "note" else []
    connection.execute("delete from ops.drift where batch_id = %s", [batch.batch_id])
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.drift (batch_id, kind, column_name, detail) values (%s, %s, %s, %s)
            on conflict do nothing
            """,
            [(batch.batch_id, *drift) for drift in reader.layout.drift],
        )
    if new:
        message = (
            f"for {contract.owner} <{contract.contact}>: batch {batch.batch_id} of {batch.business_date} has columns that"
            f" the contract does not name; their values are not stored. Once the contract names them, run `sampan init`"
            f" and `sampan reload {batch.feed}`. Columns: {', '.join(new)}"
        )
        raise_alert(connection, "drift", batch.feed, message)


def _never_noted(connection: Connection, feed: str, headers: list[str]) -> list[str]:
    """Those of the unknown headers that no delivery of the feed had before."""
    if not headers:
        return []
    query = """
        select distinct detail from ops.drift join ops.batch using (batch_id)
        where feed = %s and kind = 'unknown' and detail = any(%s)
    """
    noted = {detail for (detail,) in connection.execute(query, [feed, headers])}
    return [header for header in headers if header not in noted]


def _note_values(connection: Connection, batch: Batch, reader: Reader) -> None:
    """Record type and number of the values in unknown columns of the delivery, and no value."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            update ops.drift set data_type = %s, filled = %s
            where batch_id = %s and kind = 'unknown' and column_name = %s
            """,
            [
                (column.type, column.filled if column.is_counted else None, batch.batch_id, column.name)
                for column in reader.unknown_columns()
            ],
        )


def _create_intake(connection: Connection, contract: Contract, batch: Batch, first_line: int) -> None:
    """Create the batch's table with the columns of raw.<feed>; a sequence numbers the lines as records are inserted."""
    lines = f"{batch.table}__lines"
    connection.execute(
        # Thanks to its check, publish can attach the table as a partition without scanning it.
        sql.SQL(
            """
            drop table if exists {table}, {rejects};
            create table {table} (like raw.{feed}, constraint {check} check (_batch_id = {batch}));
            create sequence intake.{lines} start with {first} cache 1000 owned by {table}._line;
            alter table {table}
                alter column _batch_id set default {batch},
                alter column _line set default nextval({lines_name})
            """
        ).format(
            table=batch.intake,
            rejects=batch.rejects,
            feed=sql.Identifier(contract.feed),
            check=sql.Identifier(f"{batch.table}__batch"),
            batch=sql.Literal(batch.batch_id),
            lines=sql.Identifier(lines),
            lines_name=sql.Literal(f'intake."{lines}"'),
            first=sql.Literal(first_line),
        )
    )


def _copy(
    connection: Connection, contract: Contract, batch: Batch, reader: Reader, columns: list[Column]
) -> tuple[int, int]:
    """Copy all records. Returns how many there are, and how many of them break a rule of a column."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    # The sequence numbers every line. FREEZE is allowed because the table is created in the same transaction; it saves a
    # later rewrite of hint bits.
    statement = sql.SQL("copy {} ({}) from stdin (format csv, freeze, force_null ({})) where {} is not null").format(
        batch.intake, names, names, sql.Identifier(contract.key[0])
    )
    blocks, rows, odd = reader.blocks(), 0, 0
    more = True
    while more:
        apart: list[Record] = []
        with connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for block in blocks:
                    copy.write(block.data)
                    apart += block.odd
                    if len(apart) > ODD_AT_ONCE:
                        break
                else:
                    more = False
            rows += cursor.rowcount
        if apart:
            _copy_odd(connection, columns, apart, is_first=not odd)
            odd += len(apart)
    return rows + odd, _cast_odd(connection, contract, batch, columns) if odd else 0


def _copy_odd(connection: Connection, columns: list[Column], records: list[Record], *, is_first: bool) -> None:
    """Copy records that were set apart, as text, into the temporary table odd_record."""
    if is_first:
        fields = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column.name)) for column in columns)
        connection.execute(
            sql.SQL(
                "create temporary table odd_record (_line bigint, _broken text[], _record text, {}) on commit drop"
            ).format(fields)
        )
    with connection.cursor() as cursor, cursor.copy("copy odd_record from stdin") as copy:
        for record in records:
            copy.write_row([record.line, record.broken, record.text, *record.fields])


def _cast_odd(connection: Connection, contract: Contract, batch: Batch, columns: list[Column]) -> int:
    """Cast records of odd_record into the intake table. All are kept beside it. Returns how many are not cast.

    These have no type that fits, or break a rule that the line pattern proves of all other records.
    """
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    proven = line_pattern.proven_rules(contract)
    broken = row_rules.any_of([c for c in row_rules.checks(contract, columns, batch.business_date) if c.name in proven])
    connection.execute(
        sql.SQL(
            """
            create temporary table odd_typed on commit drop as
            select *, {types} as _types from odd_record;
            create temporary table odd_row on commit drop as
            select *, ({broken}) is not true as _is_sound
            from (
                select _line, {casts} from odd_typed
                where cardinality(_broken) = 0 and cardinality(_types) = 0
                offset 0
            ) as typed;
            insert into {table} (_line, {names})
            select _line, {names} from odd_row where _is_sound;
            -- Of a sound one the gate needs the text when it breaks another rule, and need not read the delivery again.
            create table {rejects} as
            select o.*, coalesce(r._is_sound, false) as _is_sound
            from odd_typed as o
            left join odd_row as r using (_line)
            """
        ).format(
            types=row_rules.all_broken(row_rules.type_checks(columns)),
            broken=broken,
            casts=row_rules.safe_casts(columns, checked=True),
            table=batch.intake,
            names=names,
            rejects=batch.rejects,
        )
    )
    kept: int = scalar(connection, sql.SQL("select count(*) from {} where not _is_sound").format(batch.rejects))
    return kept
