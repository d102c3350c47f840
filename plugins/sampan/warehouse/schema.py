"""The warehouse: connections by role, roles and schemas, and the tables that contracts ask for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any

import psycopg
from psycopg import sql

from sampan.calendar import holidays, today
from sampan.contracts import row_rules as rules
from sampan.contracts.model import Column, Contract, load_all
from sampan.errors import PermanentFailure, Problem, TransientFailure
from sampan.settings import HOME, ROLES, settings

SCRIPTS = HOME / "infra" / "postgres"
META = (sql.SQL("_batch_id bigint not null"), sql.SQL("_line bigint not null"))
# No feed reaches further back.
FIRST_YEAR = 2010
# How long `init` waits for a table at a time, how often it tries, and how long others have their turn in between.
LOCK_TIMEOUT, TRIES, PAUSE_SECONDS = "2s", 4, 3.0
# Errors that say "not now" rather than "never": the server is away or restarting, or a lock was not had in time.
TRANSIENT = (
    psycopg.OperationalError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)
# What a server says when it turns a login down. psycopg has no SQLSTATE of a connection that failed, only the text.
REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(?:role|database) \".*\" does not exist"
    r"|permission denied for database|not permitted to log in"
)


@contextmanager
def connect(role: str = "loader", **options: Any) -> Iterator[psycopg.Connection]:
    """A connection of a role, autocommit unless told otherwise.

    A server that is away is a TransientFailure, one that turns the login down a PermanentFailure.
    """
    options = {"autocommit": True, "application_name": f"sampan_{role}"} | options
    try:
        with psycopg.connect(settings().dsn(role), **options) as connection:
            # The contract's times without an offset are Hong Kong's; ISO order keeps 03/04/2026 from being guessed at.
            connection.execute("set timezone to 'Asia/Hong_Kong'")
            connection.execute("set datestyle to 'ISO, YMD'")
            yield connection
    except psycopg.errors.ProgramLimitExceeded:
        raise
    except TRANSIENT as error:
        message = f"warehouse: {' '.join(str(error).split())}"
        if error.sqlstate is not None:
            raise TransientFailure(message) from error
        if not REFUSED.search(message):
            raise TransientFailure(f"{message}; `make status` says whether it runs") from error
        remedy = "look at SAMPAN_WAREHOUSE_DSN"
        if role != "admin":
            remedy += f" and SAMPAN_{role.upper()}_PASSWORD; `sampan init` makes the warehouse ready"
        raise PermanentFailure(Problem("warehouse.refused", f"{message}; {remedy}")) from error


@contextmanager
def alone(connection: psycopg.Connection, key: str, complaint: str, *, shared: bool = False) -> Iterator[None]:
    """The right to do what `key` names, by oneself or beside others who share it, until the block ends.

    Raises TransientFailure with the complaint when another session has the right. A process that dies loses it at once.
    """
    suffix = "_shared" if shared else ""
    taken = connection.execute(f"select pg_try_advisory_lock{suffix}(hashtext(%s))", [key]).fetchone()
    if taken != (True,):
        raise TransientFailure(complaint)
    try:
        yield
    finally:
        # Of a session that is closed the server lets go a moment later, when the next one may have asked already.
        with suppress(psycopg.Error):
            connection.rollback()
            connection.execute(f"select pg_advisory_unlock{suffix}(hashtext(%s))", [key])


def drop_relations(connection: psycopg.Connection, schema: str) -> None:
    """Drop the tables and views of a schema. Never CASCADE: what somebody made on one of them stops its being dropped."""
    # The newest first: a view goes before what it reads.
    relations = connection.execute(
        "select relname, relkind = 'v' from pg_class where relnamespace = to_regnamespace(%s)"
        " and relkind in ('r', 'p', 'v') order by oid desc",
        [schema],
    ).fetchall()
    for name, is_view in relations:
        statement = sql.SQL("drop view {}" if is_view else "drop table {}")
        connection.execute(statement.format(sql.Identifier(schema, name)))


def column_ddl(columns: Iterator[Column] | tuple[Column, ...] | list[Column]) -> sql.Composed:
    """`"name" type` of each column, joined by commas."""
    parts = (sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns)
    return sql.SQL(", ").join(parts)


def init(again: bool = False) -> None:
    """Bring the warehouse to what this version of the platform needs. Safe to run again, and at the same time twice.

    Tables and views are touched only when what they are derived from has changed, or when asked to do it `again`. Raises
    TransientFailure, which names who is in the way, when a table is not had in a few tries.
    """
    for left in reversed(range(TRIES)):
        try:
            with connect("admin", autocommit=False) as admin:
                _bring_up_to_date(admin, again)
            return
        except TransientFailure as error:
            if not isinstance(error.__cause__, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
                raise
            if not left:
                raise TransientFailure(f"the warehouse cannot be changed: {_in_the_way()}") from error
        # Readers who queue behind a table that is waited for have their turn.
        time.sleep(PAUSE_SECONDS)


def _bring_up_to_date(admin: psycopg.Connection, again: bool) -> None:
    admin.execute("select pg_advisory_xact_lock(hashtext('sampan.init'))")
    admin.execute(sql.SQL("set local lock_timeout to {}").format(sql.Literal(LOCK_TIMEOUT)))
    _roles(admin)
    digest = _digest()
    admin.execute("set local role sampan_loader")
    is_applied = _applied(admin) == digest
    admin.execute("reset role")
    if again or not is_applied:
        _schemas(admin)
    admin.execute("set local role sampan_loader")
    if not is_applied:
        admin.execute("delete from ops.applied")
        admin.execute("insert into ops.applied (digest) values (%s)", [digest])
    _calendars(admin)
    admin.execute("reset role")


def _digest() -> str:
    """SHA-256 of all that schemas and tables are derived from: scripts, contracts, and the library that reads them."""
    digest = sha256()
    contracts = [contract.path for contract in load_all().values()]
    for path in [*sorted(SCRIPTS.glob("*.sql")), *contracts, *sorted((HOME / "plugins" / "sampan").rglob("*.py"))]:
        digest.update(f"{path.name} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _applied(admin: psycopg.Connection) -> str | None:
    if admin.execute("select to_regclass('ops.applied')").fetchone() == (None,):
        return None
    row = admin.execute("select digest from ops.applied").fetchone()
    return row[0] if row else None


def _in_the_way() -> str:
    """Sessions that have tables of the platform in use now, and which."""
    with connect("admin") as admin:
        found = admin.execute(
            "select a.pid, a.usename, a.application_name, string_agg(distinct l.relation::regclass::text, ', ')"
            " from pg_locks l join pg_stat_activity a using (pid)"
            " join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace"
            " where l.granted and l.database = (select oid from pg_database where datname = current_database())"
            " and l.pid <> pg_backend_pid() and n.nspname in ('ops', 'raw', 'quarantine') and c.relkind <> 'i'"
            " group by 1, 2, 3 order by 1"
        ).fetchall()
    who = [f"session {pid} of {role} ({program or 'no name'}) has {tables}" for pid, role, program, tables in found]
    return "; ".join(who) or "a session that has ended since had a table"


def _schemas(admin: psycopg.Connection) -> None:
    _apply(admin, "00_schemas.sql", None)
    for script in sorted(SCRIPTS.glob("[1-8]?_*.sql")):
        first = script.read_text().splitlines()[0]
        _apply(admin, script.name, "sampan_builder" if "sampan_builder" in first else "sampan_loader")
    admin.execute("set local role sampan_loader")
    for contract in load_all().values():
        _feed_tables(admin, contract)
    admin.execute("reset role")
    # Reads feeds' tables, which are there now.
    for script in sorted(SCRIPTS.glob("9?_*.sql")):
        _apply(admin, script.name, "sampan_loader")
    _steward_grants(admin)


def _apply(admin: psycopg.Connection, script: str, role: str | None) -> None:
    if role:
        admin.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    admin.execute((SCRIPTS / script).read_text().encode())
    admin.execute("reset role")


def _ensure_role(admin: psycopg.Connection, name: str, password: str | None) -> None:
    if not admin.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        admin.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    if password is not None:
        admin.execute(sql.SQL("alter role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))
    admin.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(name)))


def _roles(admin: psycopg.Connection) -> None:
    for key, name in ROLES.items():
        _ensure_role(admin, name, settings().get(f"SAMPAN_{key.upper()}_PASSWORD"))
    stewards = sorted({f"steward_{contract.partner}" for contract in load_all().values()})
    for steward in stewards:
        _ensure_role(admin, steward, None)
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("revoke all on database {} from public").format(database))
    roles = sql.SQL(", ").join(map(sql.Identifier, [*ROLES.values(), *stewards]))
    admin.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))
    builders = sql.SQL("sampan_builder, sampan_loader")
    admin.execute(sql.SQL("grant create, temporary on database {} to {}").format(database, builders))


def _steward_grants(admin: psycopg.Connection) -> None:
    admin.execute("set local role sampan_loader")
    for contract in load_all().values():
        steward = sql.Identifier(f"steward_{contract.partner}")
        admin.execute(sql.SQL("grant usage on schema quarantine to {}").format(steward))
        tables = sql.SQL(", ").join(
            sql.Identifier("quarantine", name) for name in (contract.feed, f"{contract.feed}__rows")
        )
        admin.execute(sql.SQL("grant select on {} to {}").format(tables, steward))
    admin.execute("reset role")


def _calendars(connection: psycopg.Connection) -> None:
    """The release calendars of the contracts, and the holidays of the years that the platform has to do with."""
    contracts = load_all()
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.feed (feed, partner, title, source_kind, calendar_days, calendar_day, due_at, timezone,"
            " missing, deadline_minutes) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (feed) do update"
            " set partner = excluded.partner, title = excluded.title, source_kind = excluded.source_kind,"
            " calendar_days = excluded.calendar_days, calendar_day = excluded.calendar_day, due_at = excluded.due_at,"
            " timezone = excluded.timezone, missing = excluded.missing, deadline_minutes = excluded.deadline_minutes",
            [
                (c.feed, c.partner, c.title, c.source.kind, c.calendar.days, c.calendar.day, c.calendar.due,
                 c.calendar.timezone, c.calendar.missing, c.calendar.deadline_minutes)
                for c in contracts.values()
            ],
        )  # fmt: skip
        cursor.execute("delete from ops.feed where feed <> all(%s)", [list(contracts)])
        known = [(day, name) for year in range(FIRST_YEAR, today().year + 3) for day, name in holidays(year).items()]
        cursor.execute("delete from ops.holiday")
        cursor.executemany("insert into ops.holiday (day, name) values (%s, %s)", known)


def _feed_tables(connection: psycopg.Connection, contract: Contract) -> None:
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
            raise PermanentFailure(Problem("contract.predicate", message, str(contract.path))) from error


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
