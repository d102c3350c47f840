"""`sampan init`: bring a database to what this version of the platform needs."""

from __future__ import annotations

import time
from hashlib import sha256

import psycopg
from psycopg import sql

from sampan.contracts.registry import all_contracts
from sampan.database import connect
from sampan.errors import TransientFailure
from sampan.settings import HOME
from sampan.warehouse.calendars import fill_calendars
from sampan.warehouse.feed_tables import create_feed_tables
from sampan.warehouse.roles import create_roles, grant_stewards

SCRIPTS = HOME / "infra" / "postgres"
# How long `init` waits for a table at a time, how often it tries, and how long others have their turn in between.
LOCK_TIMEOUT, TRIES, PAUSE_SECONDS = "2s", 4, 3.0


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
    create_roles(admin)
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
    fill_calendars(admin)
    admin.execute("reset role")


def _digest() -> str:
    """SHA-256 of all that schemas and tables are derived from: scripts, contracts, and the library that reads them."""
    digest = sha256()
    contracts = [contract.path for contract in all_contracts().values()]
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
    for contract in all_contracts().values():
        create_feed_tables(admin, contract)
    admin.execute("reset role")
    # Reads feeds' tables, which are there now.
    for script in sorted(SCRIPTS.glob("9?_*.sql")):
        _apply(admin, script.name, "sampan_loader")
    grant_stewards(admin)


def _apply(admin: psycopg.Connection, script: str, role: str | None) -> None:
    if role:
        admin.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    admin.execute((SCRIPTS / script).read_text().encode())
    admin.execute("reset role")
