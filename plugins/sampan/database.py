"""Connections to the warehouse by role, single rows and values, locks, and helpers for tables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Params, QueryNoTemplate

from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.settings import settings

# Rows are tuples unless a row factory is given, which psycopg's types cannot know here.
Connection = psycopg.Connection[Any]

# PostgreSQL's bigint ends here.
LARGEST_ID = 2**63 - 1
# What a retry may cure, by SQLSTATE or class (PostgreSQL, appendix A): connections, rollbacks by the server, resources
# that are used up now, locks, interventions, input and output, and a server that became a standby.
TRANSIENT = ("08", "25006", "25P03", "25P04", "40", "53", "55006", "55P03", "57", "58000", "58030", "72")
# Limits that the same work meets again, and a database that is gone.
PERMANENT = ("40002", "53400", "57P04")
# Of these, what the content of a delivery can be the reason of: values that are wrong, limits of the program, of columns
# and of temporary files.
CONTENT = ("22", "53400", "54")
# What a server says when it rejects a login. libpq has no result for a failed connection, so psycopg has no SQLSTATE for it
# (`error.sqlstate` and `error.diag.sqlstate` are None): the text is all there is to tell "never" from "not now".
REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(?:role|database) \".*\" does not exist"
    r"|permission denied for database|not permitted to log in"
)


# A connection of this process that nothing uses, by connection string: the next block takes it. Opening one costs the server
# and the client ten milliseconds, a hundred small statements' worth. Of another process it is never used.
_idle: dict[tuple[int, str], Connection] = {}
# What `discard all` does, except for prepared statements, since psycopg keeps a list of them, and for advisory locks, since
# no role of the platform may take one.
AS_NEW = "close all; reset session authorization; reset all; unlisten *; discard temp; discard sequences"


@contextmanager
def connect(
    role: str = "loader", *, autocommit: bool = True, application_name: str | None = None
) -> Iterator[Connection]:
    """A connection as `role` ("admin", "loader", "builder" or "bi"), in no state of an earlier use.

    Without `autocommit` the block is a transaction. Inside the block a server that is unreachable raises TransientFailure,
    one that rejects the login PermanentFailure. Errors of the server that leave the block quote no value.
    """
    try:
        dsn = settings().dsn(role)
        connection = _opened(dsn, application_name or f"sampan_{role}")
        try:
            connection.autocommit = autocommit
            yield connection
            connection.commit()
        except BaseException:
            with suppress(psycopg.Error):
                connection.rollback()
            connection.close()
            raise
        _keep(dsn, connection)
    except psycopg.Error as error:
        hide_values(error)
        if not is_transient(error):
            raise
        message = f"warehouse: {' '.join(str(error).split())}"
        if error.sqlstate is not None:
            raise TransientFailure(message) from error
        if not REFUSED.search(message):
            raise TransientFailure(f"{message}; run `make status` to see whether the server runs") from error
        remedy = "check SAMPAN_WAREHOUSE_DSN"
        if role != "admin":
            remedy += f" and SAMPAN_{role.upper()}_PASSWORD, then run `sampan init`"
        raise PermanentFailure(Problem(Code.WAREHOUSE_REFUSED, f"{message}; {remedy}")) from error


def _opened(dsn: str, name: str) -> Connection:
    """The idle connection, if the server still knows it, or a new one."""
    while True:
        kept = _idle.pop((os.getpid(), dsn), None)
        connection = kept or psycopg.connect(dsn, autocommit=True)
        try:
            # Times without an offset are Hong Kong's; with ISO order 03/04/2026 is refused instead of guessed.
            settings_of_session = (
                "set timezone to 'Asia/Hong_Kong'; set datestyle to 'ISO, YMD'; set application_name to {}"
            )
            connection.execute(sql.SQL(settings_of_session).format(name))
            return connection
        except psycopg.OperationalError:
            connection.close()
            if kept is None:
                raise


def _keep(dsn: str, connection: Connection) -> None:
    """Let the next block have the connection, as if it were new. What fails here failed after the block's work."""
    try:
        connection.autocommit = True
        connection.execute(AS_NEW)
    except psycopg.Error:
        connection.close()
    if connection.closed or _idle.setdefault((os.getpid(), dsn), connection) is not connection:
        connection.close()


def close_idle() -> None:
    """Close what this process keeps: a database that is copied or dropped may have no sessions."""
    for process, dsn in list(_idle):
        # To close one that a parent opened would end the parent's session.
        if process == os.getpid():
            _idle.pop((process, dsn)).close()


def is_transient(error: psycopg.Error) -> bool:
    """Whether a retry may help, by the SQLSTATE: psycopg calls operational what comes back every time, too.

    What has no SQLSTATE was not said by a server: the connection failed.
    """
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return is_transient_state(error.sqlstate)


def is_transient_state(sqlstate: str) -> bool:
    """Whether a retry may help what ended with this SQLSTATE."""
    return sqlstate.startswith(TRANSIENT) and not sqlstate.startswith(PERMANENT)


def is_about_content(error: psycopg.Error) -> bool:
    """Whether the content of a delivery is the reason: the next delivery may be sound."""
    return isinstance(error, psycopg.DataError) or (error.sqlstate or "").startswith(CONTENT)


def hide_values(error: Exception) -> None:
    """Take from an error's text what may quote a value of a row, which may be personal data.

    Of a server's message the first line is kept, without detail and context; nothing of one that says what is wrong with
    a value, and nothing of another library's.
    """
    if not isinstance(error, psycopg.Error):
        error.args = ("its text is withheld, it may quote a value",)
    elif isinstance(error, psycopg.DataError):
        error.args = (f"{type(error).__name__} ({error.sqlstate}): its text is withheld, it may quote a value",)
    elif error.diag.message_primary:
        error.args = (error.diag.message_primary,)


def one(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> tuple[Any, ...]:
    """The first row of a query that always has one. Raises LookupError when it has none."""
    row = connection.execute(query, params).fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    return tuple(row)


def scalar(connection: Connection, query: QueryNoTemplate, params: Params | None = None) -> Any:
    """The first column of the first row of a query that always has one. Raises LookupError when it has none."""
    return one(connection, query, params)[0]


@contextmanager
def lock(role: str, name: str, complaint: str, *, shared: bool = False, wait: str = "") -> Iterator[None]:
    """Hold the lock `name` of a role ("admin", "loader" or "builder") until the block ends, exclusively or shared.

    A lock is an empty table in the schema <role>_lock, which no other role may use: no reader can take it. A session of
    its own holds it in an open transaction, so a process that dies releases it at once (ADR 0025).

    Raises TransientFailure with the complaint when another session holds it (and does not release it within `wait`, such as
    10min), or when it was lost inside the block.
    """
    table, mode = sql.Identifier(f"{role}_lock", name), sql.SQL("share" if shared else "exclusive")
    with connect(role, autocommit=False, application_name=f"sampan_{role}_lock") as holder:
        holder.execute("set idle_in_transaction_session_timeout to 0")
        holder.commit()
        try:
            # Of two sessions that make it at the same time, the later one finds it made.
            with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable), holder.transaction():
                holder.execute(sql.SQL("create table if not exists {} ()").format(table))
            holder.execute(sql.SQL("set local lock_timeout = {}").format(wait or 0))
            holder.execute(
                sql.SQL("lock table {} in {} mode {}").format(table, mode, sql.SQL("" if wait else "nowait"))
            )
        except psycopg.errors.LockNotAvailable as error:
            raise TransientFailure(complaint) from error
        yield
        # When a session closes, the server releases its locks only a moment later: the next session may ask before that.
        holder.rollback()


@contextmanager
def claimed_session(claim: str | None = None, as_known: int | None = None) -> Iterator[Connection]:
    """A builder's connection, in a transaction, for the work of a build's step beside dbt.

    `claim` is the build's hold on the step (`build_no/step/token`), `as_known` the number of a look-back's build, whose
    ops.open_build it then is. Raises TransientFailure when the claim is not valid.
    """
    with connect("builder", autocommit=False) as connection:
        settings_of_session = "select set_config('sampan.claim', %s, false), set_config('sampan.as_known', %s, false)"
        connection.execute(settings_of_session, [claim or "", str(as_known or "")])
        connection.execute("select ops.assert_step_claimed()")
        yield connection


def replace_rows(
    connection: Connection, table: str, keys: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Put rows into a table of `ops` in place of those with the same keys, which each row gets."""
    target = sql.Identifier("ops", table)
    of_keys = sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in keys
    )
    connection.execute(sql.SQL("delete from {} where {}").format(target, of_keys), keys)
    for row in rows:
        whole = {**keys, **row}
        names, values = sql.SQL(", ").join(map(sql.Identifier, whole)), sql.SQL(", ").join(map(sql.Placeholder, whole))
        connection.execute(sql.SQL("insert into {} ({}) values ({})").format(target, names, values), whole)


def scram_verifier(connection: Connection, role: str, password: str) -> str:
    """The SCRAM verifier of a role's password, made here: a statement with the password would show it to the server's log."""
    return connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()


def drop_relations(connection: Connection, schema: str, names: Sequence[str] | None = None) -> None:
    """Drop the tables and views of a schema, or those with some names. Never CASCADE: an object that others depend on is not
    dropped. Foreign keys to them are."""
    chosen = {"schema": schema, "names": None if names is None else list(names)}
    keys = connection.execute(
        """
        select r.relname, conname from pg_constraint as c
        inner join pg_class as r on r.oid = conrelid
        inner join pg_class as f on f.oid = confrelid
        where
            connamespace = to_regnamespace(%(schema)s) and contype = 'f'
            and (%(names)s::text[] is null or r.relname = any(%(names)s) or f.relname = any(%(names)s))
        """,
        chosen,
    ).fetchall()
    for table, key in keys:
        statement = sql.SQL("alter table {} drop constraint {}")
        connection.execute(statement.format(sql.Identifier(schema, table), sql.Identifier(key)))
    # Newest first: a view is dropped before the tables it reads.
    relations = connection.execute(
        """
        select relname, relkind = 'v' from pg_class
        where
            relnamespace = to_regnamespace(%(schema)s) and relkind in ('r', 'p', 'v')
            and (%(names)s::text[] is null or relname = any(%(names)s))
        order by oid desc
        """,
        chosen,
    ).fetchall()
    for name, is_view in relations:
        statement = sql.SQL("drop view {}" if is_view else "drop table {}")
        connection.execute(statement.format(sql.Identifier(schema, name)))
