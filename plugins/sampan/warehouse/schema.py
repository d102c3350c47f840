"""`sampan init`: bring a database to what this version of the platform needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg import sql

from sampan.contracts.registry import all_contracts
from sampan.contracts.validate import check_all
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.settings import HOME, ROLES
from sampan.warehouse.calendars import fill_calendars
from sampan.warehouse.feed_tables import create_feed_tables, feed_statements, rule_statements
from sampan.warehouse.roles import create_roles, steward_grants

SCRIPTS = HOME / "infra" / "postgres"
# How long `init` waits for each table, how often it tries, and how long it pauses in between.
LOCK_TIMEOUT, TRIES, PAUSE_SECONDS = "2s", 4, 3.0


def apply_schema(force: bool = False) -> None:
    """Bring the warehouse to what this version of the platform needs. Safe to run again, and twice at the same time.

    Tables and views are touched only when a statement that defines them has changed, or with `force`. Raises
    TransientFailure, which names the sessions in the way, when a lock is not acquired after a few tries.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            with connect("admin", autocommit=False) as admin:
                _bring_up_to_date(admin, force)
            return
        except TransientFailure as error:
            if not isinstance(error.__cause__, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
                raise
            if not tries_left:
                raise TransientFailure(f"could not lock the warehouse's tables: {_blockers()}") from error
        # Readers that queue behind a lock request of `init` run during the pause.
        time.sleep(PAUSE_SECONDS)


def _bring_up_to_date(admin: Connection, force: bool) -> None:
    admin.execute("select pg_advisory_xact_lock(hashtext('sampan.init'))")
    admin.execute(sql.SQL("set local lock_timeout to {}").format(sql.Literal(LOCK_TIMEOUT)))
    create_roles(admin)
    digest = schema_digest()
    admin.execute("set local role sampan_loader")
    is_applied = _applied_digest(admin) == digest
    admin.execute("reset role")
    if force or not is_applied:
        _refuse_unsound_contracts()
        _apply_all(admin)
    admin.execute("set local role sampan_loader")
    if not is_applied:
        admin.execute("delete from ops.schema_version")
        admin.execute("insert into ops.schema_version (digest) values (%s)", [digest])
    fill_calendars(admin)
    admin.execute("reset role")


def _refuse_unsound_contracts() -> None:
    """Raise PermanentFailure when a contract has errors: what it says becomes SQL of the loader."""
    problems = check_all()
    if problems:
        message = "\n".join(["nothing was changed, contracts have errors:", *map(str, problems)])
        raise PermanentFailure(Problem(Code.CONTRACT_INVALID, message))


def schema_digest() -> str:
    """SHA-256 of the statements that define schemas, tables and grants, without comments and layout."""
    digest = sha256()
    for folder in ("before_feeds", "after_feeds"):
        for script in _scripts(folder):
            digest.update(f"{folder}/{script.name}\n{_normalised(script.read_text())}\n".encode())
    for contract in all_contracts().values():
        for statement in (*feed_statements(contract), *rule_statements(contract), *steward_grants(contract)):
            digest.update(f"{_normalised(statement.as_string())}\n".encode())
    return digest.hexdigest()


def _normalised(script: str) -> str:
    """A script without its comments, and with one space for each run of white space outside quotes."""
    return re.sub(r"""('(?:[^']|'')*'|"[^"]*")|(?:--[^\n]*|\s+)+""", lambda match: match[1] or " ", script)


def _scripts(folder: str) -> Iterator[Path]:
    yield from sorted((SCRIPTS / folder).glob("*.sql"))


def _applied_digest(admin: Connection) -> str | None:
    if scalar(admin, "select to_regclass('ops.schema_version')") is None:
        return None
    row = admin.execute("select digest from ops.schema_version").fetchone()
    return row[0] if row else None


def _blockers() -> str:
    """The sessions that hold locks on the platform's tables, and on which."""
    with connect("admin") as admin:
        found = admin.execute(
            """
            select a.pid, a.usename, a.application_name, string_agg(distinct l.relation::regclass::text, ', ')
            from pg_locks as l
            join pg_stat_activity as a using (pid)
            join pg_class as c on c.oid = l.relation
            join pg_namespace as n on n.oid = c.relnamespace
            where l.granted
                and l.database = (select oid from pg_database where datname = current_database())
                and l.pid <> pg_backend_pid()
                and n.nspname in ('ops', 'raw', 'quarantine')
                and c.relkind <> 'i'
            group by 1, 2, 3
            order by 1
            """
        ).fetchall()
    sessions = [
        f"session {pid} of {role} ({program or 'no name'}) uses {tables}" for pid, role, program, tables in found
    ]
    return "; ".join(sessions) or "the session that held the lock has ended; run `sampan init` again"


def _apply_all(admin: Connection) -> None:
    for script in _scripts("before_feeds"):
        _apply(admin, script)
    admin.execute("set local role sampan_loader")
    for contract in all_contracts().values():
        create_feed_tables(admin, contract)
    admin.execute("reset role")
    for script in _scripts("after_feeds"):
        _apply(admin, script)
    admin.execute("set local role sampan_loader")
    for contract in all_contracts().values():
        for grant in steward_grants(contract):
            admin.execute(grant)
    admin.execute("reset role")


def _apply(admin: Connection, script: Path) -> None:
    """Run a script as the role in its name: `<number>_<subject>.<role>.sql`."""
    role = script.name.split(".")[-2]
    if role != "admin":
        admin.execute(sql.SQL("set local role {}").format(sql.Identifier(ROLES[role])))
    admin.execute(script.read_bytes())
    admin.execute("reset role")
