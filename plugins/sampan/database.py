"""Connections to the warehouse by role, advisory locks, and what every step does to tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from sampan.contracts.model import Column
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.settings import settings

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
        raise PermanentFailure(Problem(Code.WAREHOUSE_REFUSED, f"{message}; {remedy}")) from error


@contextmanager
def advisory_lock(connection: psycopg.Connection, key: str, complaint: str, *, shared: bool = False) -> Iterator[None]:
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
