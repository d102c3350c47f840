"""Fill columns that a contract has gained, from the landed deliveries that had them before the contract named them.

Rows, keys and states of a batch stay as they are: only the new columns of its rows get their values, in raw, in
quarantine and in what was replayed from there.
"""

from __future__ import annotations

import logging
from datetime import date

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from sampan.contracts import row_rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import get_contract
from sampan.contracts.values import WITHHELD
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest import lake, ledger, withheld
from sampan.ingest.ledger import Batch
from sampan.reading.reader import Reader, open_delivery

log = logging.getLogger(__name__)


def run(feed: str, first: date | None = None, last: date | None = None) -> dict[str, int]:
    """Fill the new columns of the published batches of a feed, or of those with a business date from `first` to `last`.

    Returns how many batches and rows of raw got values. A batch whose values break a rule of a new column stays as it
    is, and the others are filled; a PermanentFailure is raised at the end.
    """
    contract, done = get_contract(feed), {"batches": 0, "rows": 0}
    refused: list[PermanentFailure] = []
    with connect() as connection:
        for batch in _batches_with_unknown_columns(connection, feed, first, last):
            reader = open_delivery(contract, batch.landing_uri, batch.business_date, batch.file)
            try:
                headers = _headers_named_since(connection, batch, reader)
                if not headers:
                    continue
                rows = _reload(connection, contract, batch, reader, headers)
            except PermanentFailure as error:
                log.warning("%s", error)
                refused.append(error)
                continue
            done["batches"] += 1
            done["rows"] += rows
    lake.follow(feed)
    if refused:
        raise refused[0]
    return done


def _batches_with_unknown_columns(
    connection: Connection, feed: str, first: date | None, last: date | None
) -> list[Batch]:
    with connection.cursor(row_factory=class_row(Batch)) as cursor:
        return cursor.execute(
            f"""
            select {ledger.COLUMNS} from ops.batch
            where feed = %(feed)s and state in ('published', 'withdrawn') and origin = 'delivery' and deleted_at is null
                and business_date between coalesce(%(first)s, date '-infinity') and coalesce(%(last)s, date 'infinity')
                and batch_id in (select batch_id from ops.drift where kind = 'unknown')
            order by batch_id
            """,
            {"feed": feed, "first": first, "last": last},
        ).fetchall()


def _headers_named_since(connection: Connection, batch: Batch, reader: Reader) -> dict[str, Column]:
    """Column by header, as the ledger shows it, of what was unknown when the batch was loaded and is stored now."""
    query = "select detail from ops.drift where batch_id = %s and kind = 'unknown'"
    noted = {detail for (detail,) in connection.execute(query, [batch.batch_id])}
    layout = reader.layout
    shown = [None if header is None else reader.delivery.shown_header(header) for header in layout.headers]
    pairs = zip(shown, layout.columns, strict=True)
    return {header: column for header, column in pairs if header in noted and header is not None and column is not None}


def _reload(
    connection: Connection, contract: Contract, batch: Batch, reader: Reader, headers: dict[str, Column]
) -> int:
    """Fill the columns of one batch, in one transaction. Returns how many rows of raw got values."""
    columns = list(headers.values())
    raw = sql.Identifier("raw", contract.feed)
    with ledger.transaction(connection):
        # Retention locks the same row before it deletes the batch.
        found = connection.execute(
            "select 1 from ops.batch where batch_id = %s and deleted_at is null for update", [batch.batch_id]
        )
        if found.fetchone() is None:
            return 0
        _copy_values(connection, reader, columns)
        _follow_replays(connection, batch)
        in_raw = sql.SQL("join {} as r on r._batch_id = p.batch_id and r._line = p.line").format(raw)
        texts = sql.SQL("select n.* from reload_value as n join reload_place as p using (_line) {}").format(in_raw)
        _refuse_broken(connection, batch, texts, row_rules.type_checks(columns))
        values = [sql.SQL("{0} = cast(n.{0} as {1})").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns]
        rows = connection.execute(
            sql.SQL(
                """
                update {} as r set {}
                from reload_place as p
                join reload_value as n using (_line)
                where r._batch_id = p.batch_id and r._line = p.line
                """
            ).format(raw, sql.SQL(", ").join(values))
        ).rowcount
        typed = sql.SQL("select r.* from reload_place as p {}").format(in_raw)
        _refuse_broken(connection, batch, typed, _new_checks(contract, batch, columns))
        value = sql.SQL("{1}, case when {0} then case when n.{2} is not null then {3} end else n.{2} end")
        names = sql.SQL(", ").join(
            value.format(
                sql.SQL(f"q.{withheld.HAS_WITHHELD}"),
                sql.Literal(c.name),
                sql.Identifier(c.name),
                sql.Literal(WITHHELD),
            )
            for c in columns
        )
        connection.execute(
            sql.SQL(
                """
                update quarantine.record as q set fields = q.fields || jsonb_build_object({})
                from reload_place as p
                join reload_value as n using (_line)
                where q.feed = {} and q.batch_id = p.batch_id and q.line = p.line and q.fields is not null
                """
            ).format(names, sql.Literal(contract.feed))
        )
        # By its token the lake sees that the rows of a batch have changed.
        connection.execute(
            "update ops.batch set token = token + 1 where batch_id in (select batch_id from reload_place)"
        )
        connection.execute(
            "delete from ops.drift where batch_id = %s and kind = 'unknown' and detail = any(%s)",
            [batch.batch_id, list(headers)],
        )
    log.info("%s batch %s: %s rows filled", batch.feed, batch.batch_id, rows)
    return rows


def _copy_values(connection: Connection, reader: Reader, columns: list[Column]) -> None:
    """The values of these columns by line of the delivery, as text, in the temporary table reload_value."""
    stored = [column.name for column in reader.layout.stored]
    places = [stored.index(column.name) for column in columns]
    fields = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column.name)) for column in columns)
    connection.execute(
        sql.SQL("create temporary table reload_value (_line bigint primary key, {}) on commit drop").format(fields)
    )
    with connection.cursor() as cursor, cursor.copy("copy reload_value from stdin") as copy:
        for record in reader.records():
            copy.write_row([record.line, *(record.fields[place] for place in places)])


def _follow_replays(connection: Connection, batch: Batch) -> None:
    """Where each line is now, in the temporary table reload_place: in its batch, and in replays of its batch's rows."""
    connection.execute(
        """
        create temporary table reload_place on commit drop as
        with recursive place as (
            select %(batch)s::bigint as batch_id, _line as line, _line from reload_value
            union all
            select l.batch_id, l.line, place._line
            from place
            join quarantine.record as q on q.feed = %(feed)s and q.batch_id = place.batch_id and q.line = place.line
            join ops.replay_line as l on l.feed = q.feed and l.quarantine_id = q.quarantine_id
        )
        select * from place
        """,
        {"batch": batch.batch_id, "feed": batch.feed},
    )
    connection.execute("analyze reload_value, reload_place")


def _new_checks(contract: Contract, batch: Batch, columns: list[Column]) -> list[row_rules.Check]:
    """The rules that need one of these columns."""
    others = [column for column in contract.stored if column not in columns]
    known = {check.name for check in row_rules.checks(contract, others, batch.business_date)}
    every = row_rules.checks(contract, contract.stored, batch.business_date)
    return [check for check in every if check.name not in known]


def _refuse_broken(connection: Connection, batch: Batch, rows: sql.Composable, checks: list[row_rules.Check]) -> None:
    """Raise PermanentFailure if one of the rows breaks one of the checks."""
    query = sql.SQL("select count(*) from ({}) as checked where {}").format(rows, row_rules.any_of(checks))
    try:
        count = scalar(connection, query)
    except psycopg.DataError as error:
        raise _refusal(batch, f"a rule cannot be evaluated: {type(error).__name__}") from None
    if count:
        raise _refusal(batch, f"{count} rows break one of {', '.join(check.name for check in checks)}")


def _refusal(batch: Batch, message: str) -> PermanentFailure:
    where = f"batch {batch.batch_id} of {batch.business_date}: nothing was changed: "
    return PermanentFailure(Problem(Code.RELOAD_REFUSED, where + message, batch.file))
