"""The tables of a feed: raw, its quarantine and the view for its steward, derived from the contract."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import psycopg
from psycopg import sql

from sampan.contracts import row_rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.values import SHOWN_PSEUDONYMS
from sampan.database import Connection
from sampan.errors import Code, PermanentFailure, Problem

META = (sql.SQL("_batch_id bigint not null"), sql.SQL("_line bigint not null"))
# Any date will do: the rules are planned, not run, and their text must not change from day to day.
BUSINESS_DATE = date(2026, 1, 1)


def create_feed_tables(connection: Connection, contract: Contract) -> None:
    """Create raw.<feed> (partitioned by batch), quarantine.<feed> and its view, and add columns that the contract gained.

    Columns that earlier versions made of what partners added are dropped with their values.

    Raises PermanentFailure when the types of a row rule do not fit, so that `init` finds it and not the gate at night.
    """
    table, *others = feed_statements(contract)
    connection.execute(table)
    _add_columns(connection, contract)
    _drop_other_key(connection, contract)
    for statement in others:
        connection.execute(statement)
    _drop_added_columns(connection, contract)
    _check_rules(connection, contract)


def column_ddl(columns: Iterable[Column]) -> sql.Composed:
    """`"name" type` of each column, joined by commas."""
    parts = (sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns)
    return sql.SQL(", ").join(parts)


def feed_statements(contract: Contract) -> list[sql.Composed]:
    """The statements that create a feed's tables, comments and view; the first one creates raw.<feed>."""
    feed, raw = sql.Identifier(contract.feed), sql.Identifier("raw", contract.feed)
    view = sql.Identifier("quarantine", f"{contract.feed}__rows")
    return [
        sql.SQL("create table if not exists {} ({}, {}) partition by list (_batch_id)").format(
            raw, column_ddl(contract.stored), sql.SQL(", ").join(META)
        ),
        sql.SQL("create unique index if not exists {} on {} ({}, _batch_id)").format(
            sql.Identifier(f"{contract.feed}_key"), raw, sql.SQL(", ").join(map(sql.Identifier, contract.indexed_key))
        ),
        *_comments(contract, raw),
        sql.SQL("create table if not exists quarantine.{} partition of quarantine.record for values in ({})").format(
            feed, sql.Literal(contract.feed)
        ),
        sql.SQL(
            """
            create or replace view {} with (security_barrier) as
            select
                q.quarantine_id,
                b.business_date,
                regexp_replace(b.source_uri, '^.*/', '') as file,
                q.line,
                q.broken_rules,
                {} as record,
                cast({} as jsonb) as fields,
                q.state,
                q.reason,
                q.quarantined_at
            from quarantine.{} as q
            join ops.batch as b using (batch_id)
            -- Of other feeds a plan must not count what a reader looks for.
            where b.feed = {}
            """
        ).format(
            view,
            hide_pseudonyms("q.record"),
            hide_pseudonyms("cast(q.fields as text)"),
            feed,
            sql.Literal(contract.feed),
        ),
        sql.SQL("comment on view {} is {}").format(
            view,
            sql.Literal("Quarantined rows of this feed, with file and business date, for the steward of its partner."),
        ),
    ]


def hide_pseudonyms(text: str) -> sql.Composable:
    """SQL of a text with a token in place of each pseudonym; quarantined rows are shown only like this."""
    shown: sql.Composable = sql.SQL(text)
    for pattern, token in SHOWN_PSEUDONYMS:
        shown = sql.SQL("regexp_replace({}, {}, {}, 'g')").format(shown, sql.Literal(pattern), sql.Literal(token))
    return shown


def _comments(contract: Contract, raw: sql.Identifier) -> list[sql.Composed]:
    on_table = sql.SQL("comment on table {} is {}").format(raw, sql.Literal(f"{contract.grain} {contract.description}"))
    on_columns = [
        sql.SQL("comment on column {}.{} is {}").format(
            raw,
            sql.Identifier(column.name),
            sql.Literal(column.description + (f" Unit: {column.unit}." if column.unit else "")),
        )
        for column in contract.stored
    ]
    return [on_table, *on_columns]


def rule_statements(contract: Contract) -> list[sql.Composed]:
    """A query for each row rule that PostgreSQL can plan only if the rule fits the types of the columns."""
    raw = sql.Identifier("raw", contract.feed)
    return [sql.SQL("explain select from {} where {}").format(raw, check.broken) for check in _checks(contract)]


def _checks(contract: Contract) -> list[row_rules.Check]:
    columns = contract.stored
    return row_rules.checks(contract, columns, BUSINESS_DATE) + row_rules.warning_checks(
        contract, columns, BUSINESS_DATE
    )


def _check_rules(connection: Connection, contract: Contract) -> None:
    for check, statement in zip(_checks(contract), rule_statements(contract), strict=True):
        try:
            connection.execute(statement)
        except psycopg.ProgrammingError as error:
            message = f"{check.name}: {str(error).splitlines()[0]}"
            raise PermanentFailure(Problem(Code.CONTRACT_PREDICATE, message, str(contract.path))) from error


def _add_columns(connection: Connection, contract: Contract) -> None:
    raw = sql.Identifier("raw", contract.feed)
    existing = {
        name
        for (name,) in connection.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", [raw.as_string()]
        )
    }
    for column in contract.stored:
        if column.name not in existing:
            connection.execute(sql.SQL("alter table {} add column {}").format(raw, column_ddl([column])))


def _drop_other_key(connection: Connection, contract: Contract) -> None:
    """Drop an index on another key, or in another order: rows that the contract tells apart now would collide in it."""
    index = sql.Identifier("raw", f"{contract.feed}_key")
    found = connection.execute(
        "select array_agg(attname::text order by attnum) from pg_attribute where attrelid = to_regclass(%s)",
        [index.as_string()],
    ).fetchone()
    if found and found[0] and found[0] != [*contract.indexed_key, "_batch_id"]:
        connection.execute(sql.SQL("drop index {}").format(index))


def _drop_added_columns(connection: Connection, contract: Contract) -> None:
    """Drop the columns `x_...` of earlier versions, which stored what partners added before the contract named it."""
    named = [column.name for column in contract.columns]
    found = connection.execute(
        """
        select c.relnamespace::regnamespace::text, c.relname, array_agg(a.attname::text order by a.attnum)
        from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where a.attname like 'x\\_%%' and a.attname <> all(%(named)s) and (
            c.oid = to_regclass(format('raw.%%I', %(feed)s::text))
            or c.relnamespace = 'intake'::regnamespace and c.relkind = 'r' and c.relname ~ %(intake)s
        )
        group by 1, 2
        """,
        {"named": named, "feed": contract.feed, "intake": f"^{contract.feed}__b[0-9]+(__rejects)?$"},
    ).fetchall()
    for schema, table, columns in found:
        # Dropping a column leaves its values in the table's pages; writing it again does not.
        actions = [sql.SQL("alter column {} type text using null").format(sql.Identifier(name)) for name in columns]
        drops = [sql.SQL("drop column {}").format(sql.Identifier(name)) for name in columns]
        for parts in (actions, drops):
            statement = sql.SQL("alter table {} {}")
            connection.execute(statement.format(sql.Identifier(schema, table), sql.SQL(", ").join(parts)))
    connection.execute(
        """
        update quarantine.record
        set
            fields = fields - array(
                select name from jsonb_object_keys(fields) as name where name like 'x\\_%%' and name <> all(%(named)s)
            ),
            record = '[withheld: it had columns that the contract does not name]'
        where feed = %(feed)s and fields is not null and exists (
            select from jsonb_object_keys(fields) as name where name like 'x\\_%%' and name <> all(%(named)s)
        )
        """,
        {"named": named, "feed": contract.feed},
    )
