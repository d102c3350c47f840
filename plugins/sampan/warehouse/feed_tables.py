"""The tables of a feed: raw, its quarantine and the view that its steward reads, derived from the contract."""

from __future__ import annotations

import psycopg
from psycopg import sql

from sampan.calendar import today
from sampan.contracts import row_rules as rules
from sampan.contracts.model import Contract
from sampan.database import column_ddl
from sampan.errors import Code, PermanentFailure, Problem

META = (sql.SQL("_batch_id bigint not null"), sql.SQL("_line bigint not null"))


def create_feed_tables(connection: psycopg.Connection, contract: Contract) -> None:
    """raw.<feed> (partitioned by batch), quarantine.<feed> and its view; columns that a contract gained are added."""
    feed = sql.Identifier(contract.feed)
    connection.execute(
        sql.SQL("create table if not exists raw.{} ({}, {}) partition by list (_batch_id)").format(
            feed, column_ddl(contract.stored), sql.SQL(", ").join(META)
        )
    )
    have = {
        row[0]
        for row in connection.execute(
            "select attname from pg_attribute where attrelid = ('raw.' || quote_ident(%s))::regclass and attnum > 0",
            [contract.feed],
        )
    }
    for column in contract.stored:
        if column.name not in have:
            connection.execute(sql.SQL("alter table raw.{} add column {}").format(feed, column_ddl([column])))
    key = sql.SQL(", ").join(sql.Identifier(name) for name in contract.key)
    connection.execute(
        sql.SQL("create unique index if not exists {} on raw.{} ({}, _batch_id)").format(
            sql.Identifier(f"{contract.feed}_key"), feed, key
        )
    )
    _comments(connection, contract)
    _prove_rules(connection, contract)
    connection.execute(
        sql.SQL("create table if not exists quarantine.{} partition of quarantine.record for values in ({})").format(
            feed, sql.Literal(contract.feed)
        )
    )
    view = sql.Identifier("quarantine", f"{contract.feed}__rows")
    connection.execute(
        sql.SQL(
            "create or replace view {} with (security_barrier) as select q.quarantine_id, b.business_date,"
            " regexp_replace(b.source_uri, '^.*/', '') as file, q.line, q.broken_rules, q.record, q.fields, q.state,"
            " q.reason, q.quarantined_at from quarantine.{} q join ops.batch b using (batch_id)"
        ).format(view, feed)
    )
    text = "The rows of this feed in quarantine, with file and business date, for the steward of its partner."
    connection.execute(sql.SQL("comment on view {} is {}").format(view, sql.Literal(text)))


def _prove_rules(connection: psycopg.Connection, contract: Contract) -> None:
    """Have PostgreSQL plan every row rule, so that one whose types do not fit is refused now and not by a gate at night."""
    for name, broken in rules.checks(contract, contract.stored, today()) + rules.advice(
        contract, contract.stored, today()
    ):
        statement = sql.SQL("explain select from raw.{} where {}").format(sql.Identifier(contract.feed), broken)
        try:
            connection.execute(statement)
        except psycopg.ProgrammingError as error:
            message = f"{name}: {str(error).splitlines()[0]}"
            raise PermanentFailure(Problem(Code.CONTRACT_PREDICATE, message, str(contract.path))) from error


def _comments(connection: psycopg.Connection, contract: Contract) -> None:
    table = sql.SQL("raw.{}").format(sql.Identifier(contract.feed))
    text = f"{contract.grain} {contract.description}"
    connection.execute(sql.SQL("comment on table {} is {}").format(table, sql.Literal(text)))
    for column in contract.stored:
        unit = f" Unit: {column.unit}." if column.unit else ""
        connection.execute(
            sql.SQL("comment on column {}.{} is {}").format(
                table, sql.Identifier(column.name), sql.Literal(column.description + unit)
            )
        )
